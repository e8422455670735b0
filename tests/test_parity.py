"""The model against what nobody here wrote: OpenAI's own code (golden arrays), transformers."""

import pytest
import torch

from minigpt import OpenAIGPTLMHeadModel
from tests import parity

IMPLEMENTATIONS = ["eager", "sdpa", "flash_attention_2"]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_every_layer_equals_openai(implementation):
    differences = parity.openai_differences(attn_implementation=implementation)
    assert set(differences) == {"embedding", "hidden_0", "hidden_1", "hidden_2", "lm_logits"}
    assert max(differences.values()) < 1e-4
    assert differences["embedding"] == 0


def test_the_openai_comparison_can_fail():
    # another activation function: the same weights, used differently
    assert parity.openai_differences(afn="relu")["lm_logits"] > 1e-3


KINDS = ["OpenAIGPTModel", "OpenAIGPTLMHeadModel"]
WISHES = ["", "mask right", "mask left", "types", "positions", "embeds"]
WISHES += ["mask left positions types", "mask right embeds types"]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("wishes", WISHES)
@pytest.mark.parametrize("kind", KINDS)
def test_everything_equals_transformers(kind, wishes, implementation):
    differences = parity.transformers_differences(
        wishes, kind=kind, attn_implementation=implementation
    )
    names = {f"hidden_{i}" for i in range(4)} | {f"attention_{i}" for i in range(3)}
    names |= {"logits", "loss"} if kind == "OpenAIGPTLMHeadModel" else set()
    assert set(differences) == names | {"gradients"}
    assert differences.pop("gradients") < 1e-4
    assert max(differences.values()) < 1e-5


FULL = {"vocab_size": 40478, "n_positions": 512, "n_embd": 768, "n_layer": 12, "n_head": 12}


@pytest.mark.parametrize("wishes", ["", "mask left positions"])
def test_everything_equals_transformers_at_full_size(wishes):
    differences = parity.transformers_differences(wishes, B=2, T=64, **FULL)
    assert differences.pop("gradients") < 1e-4
    assert max(differences.values()) < 1e-4


EVERYTHING = {"output_hidden_states": True, "output_attentions": True}


def largest_of(ours, theirs, shape) -> float:
    """The largest difference of two lists of arrays, each brought into this shape."""
    pairs = zip(ours, theirs, strict=True)
    return max(parity.largest_difference(a.reshape(shape), b.reshape(shape)) for a, b in pairs)


def test_double_heads_equal_transformers_at_full_size():
    theirs, ours = parity.random_pair(
        kind="OpenAIGPTDoubleHeadsModel", **FULL, attn_implementation="eager"
    )
    ids = torch.randint(40478, (1, 2, 40))
    task = {"mc_token_ids": torch.tensor([[39, 20]]), "labels": ids, "mc_labels": torch.tensor([1])}
    out, expected = ours(ids, **task, **EVERYTHING), theirs(ids, **task, **EVERYTHING)
    for name in ("loss", "mc_loss", "logits", "mc_logits"):
        assert parity.largest_difference(out[name], expected[name]) < 1e-4
    # transformers folds the choices into the batch
    assert largest_of(out.hidden_states, expected.hidden_states, (1, 2, 40, 768)) < 1e-4
    assert largest_of(out.attentions, expected.attentions, (2, 12, 40, 40)) < 1e-4
    (out.loss + out.mc_loss + expected.loss + expected.mc_loss).backward()
    assert parity.gradient_difference(ours, theirs) < 1e-4


def test_classification_equals_transformers_at_full_size():
    theirs, ours = parity.random_pair(
        kind="OpenAIGPTForSequenceClassification",
        **FULL,
        num_labels=3,
        pad_token_id=0,
        attn_implementation="eager",
    )
    ids = torch.randint(1, 40478, (2, 40))
    ids[1, 25:] = 0
    inputs = {"attention_mask": (ids != 0).long(), "labels": torch.tensor([2, 0])}
    out, expected = ours(ids, **inputs, **EVERYTHING), theirs(ids, **inputs, **EVERYTHING)
    for name in ("loss", "logits"):
        assert parity.largest_difference(out[name], expected[name]) < 1e-4
    real = (ids != 0)[..., None]  # what stands at padding means nothing
    states = [[x * real for x in y.hidden_states] for y in (out, expected)]
    assert largest_of(*states, (2, 40, 768)) < 1e-4
    patterns = [[x * real[:, None] for x in y.attentions] for y in (out, expected)]
    assert largest_of(*patterns, (2, 12, 40, 40)) < 1e-4
    (out.loss + expected.loss).backward()
    assert parity.gradient_difference(ours, theirs) < 1e-4


def test_the_transformers_comparison_can_fail():
    theirs, ours = parity.random_pair()
    ours.transformer.h[1].ln_1.eps = 1e-2
    ids = torch.randint(211, (2, 20))
    out, expected = ours(ids, labels=ids), theirs(ids, labels=ids)
    assert parity.largest_difference(out.logits, expected.logits) > 1e-4
    (out.loss + expected.loss).backward()
    assert parity.gradient_difference(ours, theirs) > 1e-4


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
