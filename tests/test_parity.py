"""The model against what nobody here wrote: OpenAI's own code (golden arrays), transformers."""

import pytest
import torch

from minigpt import OpenAIGPTLMHeadModel
from tests import parity

IMPLEMENTATIONS = ["eager", "sdpa"]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_every_layer_equals_openai(implementation):
    differences = parity.openai_differences(attn_implementation=implementation)
    assert set(differences) == {"embedding", "hidden_0", "hidden_1", "hidden_2", "lm_logits"}
    assert max(differences.values()) < 1e-4
    assert differences["embedding"] == 0


def test_the_openai_comparison_can_fail():
    # another activation function: the same weights, used differently
    assert parity.openai_differences(afn="relu")["lm_logits"] > 1e-3


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("seed", range(3))
def test_every_layer_equals_transformers(implementation, seed):
    differences = parity.transformers_differences(seed=seed, attn_implementation=implementation)
    assert set(differences) == {f"hidden_{i}" for i in range(4)} | {"logits", "loss"}
    assert max(differences.values()) < 1e-4


@pytest.mark.parametrize("seed", range(5))
def test_greedy_ids_equal_transformers(seed):
    theirs, ours = parity.random_pair(seed=seed)
    ids = torch.randint(ours.config.vocab_size, (2, 5))
    options = {"max_new_tokens": 40, "do_sample": False, "pad_token_id": 0}
    expected = theirs.generate(ids, attention_mask=torch.ones_like(ids), **options)  # 0 is a token
    assert torch.equal(ours.generate(ids, max_new_tokens=40), expected)


@pytest.mark.parametrize("afn", ["gelu", "relu", "silu"])
def test_activations_equal_transformers(afn):
    assert max(parity.transformers_differences(afn=afn).values()) < 1e-4


def test_gradients_equal_transformers():
    theirs, ours = parity.random_pair()
    ids = torch.randint(ours.config.vocab_size, (2, 20))
    for model in (theirs, ours):
        model(ids, labels=ids).loss.backward()
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=1e-4, atol=1e-6)


def test_a_folder_of_either_side_loads_in_the_other(tmp_path):
    import transformers

    theirs, ours = parity.random_pair()
    ids = torch.randint(ours.config.vocab_size, (2, 20))
    expected = ours(ids).logits
    ours.save_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert torch.allclose(loaded.eval()(ids).logits, expected, atol=1e-5)
    again = OpenAIGPTLMHeadModel.from_pretrained(tmp_path / "theirs")
    assert torch.equal(again(ids).logits, expected)
