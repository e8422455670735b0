"""cache_implementation="static" on a CPU: the texts are those of the cache that grows."""

import pickle
import random
from copy import deepcopy

import pytest
import torch

from minigpt import OpenAIGPTLMHeadModel
from minigpt.old.fast_generation import multiply, multiply_table
from tests import helpers
from tests.test_generation_parity import lively_pair


@pytest.fixture
def model():
    return lively_pair()[1]


def is_the_same(model, B: int = 2, T: int = 6) -> bool:
    ids = torch.randint(31, (B, T), generator=torch.Generator().manual_seed(0))
    static = model.generate(ids, cache_implementation="static")
    return torch.equal(static, model.generate(ids))


def disturb(model) -> None:
    torch.manual_seed(1)
    for weight in model.parameters():
        weight.data.add_(torch.randn_like(weight) * 0.1)


@pytest.mark.parametrize("seed", range(40))
def test_all_settings_that_it_takes(model, seed):
    dice = random.Random(seed)
    B, T = dice.randint(1, 3), dice.randint(1, 12)
    ids = torch.randint(31, (B, T), generator=torch.Generator().manual_seed(seed))
    lengths = tuple(dice.randint(1, T) for _ in range(B))
    mask = dice.choice(
        [None, helpers.padded("left", lengths, T), helpers.padded("right", lengths, T)]
    )
    settings = {
        "max_new_tokens": dice.choice([1, 2, 20, 33, 36]),
        "eos_token_id": dice.choice([None, 3, [3, 7], [3, 7, 11, 2]]),
        "pad_token_id": dice.choice([None, 5, 0]),
    }
    if dice.random() < 0.3:
        settings |= {"do_sample": True, "top_k": 1, "num_return_sequences": 2}
    expected = model.generate(ids, mask, **settings)
    ours = model.generate(ids, mask, cache_implementation="static", **settings)
    assert torch.equal(ours, expected)
    named = {"return_dict_in_generate": True, "cache_implementation": "static"}
    assert torch.equal(model.generate(ids, mask, **settings, **named).sequences, expected)


def test_weights_that_change_in_place_or_are_replaced(model):
    assert is_the_same(model)
    before = model.generate(torch.tensor([[1, 2]]), cache_implementation="static")
    disturb(model)
    assert is_the_same(model)
    assert not torch.equal(model.generate(torch.tensor([[1, 2]])), before)
    layer = model.transformer.h[0].mlp.c_fc
    layer.weight = torch.nn.Parameter(-layer.weight.data)
    assert is_the_same(model)


def test_another_type_and_back(model):
    assert is_the_same(model) and is_the_same(model.float()) and is_the_same(model.double())


@pytest.mark.parametrize("copy", [deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_writes_by_itself(model, copy):
    assert is_the_same(model)
    other = copy(model)
    disturb(other)
    assert is_the_same(other) and is_the_same(model) and is_the_same(other)


def test_two_models_and_other_numbers_of_texts(model):
    other = OpenAIGPTLMHeadModel(model.config).eval()
    sizes = [(2, 6), (5, 3), (1, 9), (2, 6)]
    assert all(is_the_same(one, *size) for size in sizes for one in (model, other))


@pytest.mark.parametrize(
    "sizes", [{"afn": "relu"}, {"afn": "swish", "n_embd": 36, "n_head": 3}, {"vocab_size": 40}]
)
def test_other_networks(sizes):
    assert is_the_same(lively_pair(**sizes)[1])


def test_what_is_broken_names_step_and_row(model):
    model.transformer.tokens_embed.weight.data[9] = torch.nan  # the scores of token 9, always
    with pytest.raises(ValueError, match="step 0, row 0: the largest score is not finite"):
        model.generate(torch.tensor([[1], [2]]), cache_implementation="static")
    _, model = lively_pair()
    model.transformer.positions_embed.weight.data[4] = torch.nan  # three tokens, then two new ones
    ids, mask = torch.tensor([[1, 2, 3], [0, 1, 2]]), torch.tensor([[1, 1, 1], [0, 1, 1]])
    for cache in ("dynamic", "static"):
        with pytest.raises(ValueError, match="step 2, row 0: the largest score is"):
            model.generate(ids, mask, cache_implementation=cache)


def test_a_temperature_that_leaves_no_number_is_an_error(model):
    cold = {"do_sample": True, "temperature": 1e-45, "cache_implementation": "static"}
    with pytest.raises(ValueError, match="step 0, row 0: .*temperature too close to 0"):
        model.generate(torch.tensor([[1]]), **cold)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("B", "K", "N"), [(1, 768, 96), (3, 42, 10), (2, 7, 5)])
def test_products_in_pieces_are_those_of_float32_rounded_once(dtype, B, K, N):
    x, weight = torch.randn(B, K).to(dtype), torch.randn(K, N).to(dtype)
    found, expected = multiply(x, weight), x.float() @ weight.float()
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected.to(dtype).float(), rtol=0.01, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("V", [1, 97, 4096, 4097, 9001])
def test_the_table_in_parts_leaves_out_no_token(dtype, V):
    x, table = torch.randn(2, 16).to(dtype), torch.randn(V, 16).to(dtype)
    found, expected = multiply_table(x, table), x.float() @ table.float().T
    assert found.shape == (2, V) and found.dtype == dtype
    torch.testing.assert_close(found.float(), expected.to(dtype).float(), rtol=0.01, atol=1e-4)
