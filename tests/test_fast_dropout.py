"""Dropout: cheaper random numbers under torch.compile, and `nn.Dropout` in every other way."""

import pytest
import torch
from torch import nn

from minigpt import OpenAIGPTConfig, OpenAIGPTLMHeadModel
from minigpt.fast.dropout import Dropout, hash_dropout
from minigpt.fast.static_cache import has_fast_step
from minigpt.training.dropout import short_dropout

SIZES = {"vocab_size": 50, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2}


def new_model(**rates) -> OpenAIGPTLMHeadModel:
    torch.manual_seed(0)
    return OpenAIGPTLMHeadModel(OpenAIGPTConfig(**SIZES, **rates))


def seeded(function, *inputs):
    torch.manual_seed(1)
    return function(*inputs)


@pytest.mark.parametrize("p", [0.1, 0.5])
@pytest.mark.parametrize("drop", [hash_dropout, short_dropout])
def test_zeros_are_spread_evenly_and_the_mean_stays(drop, p):
    a, b = (drop(torch.ones(1001, 999), p) for _ in range(2))
    zero = a == 0
    assert zero.float().mean().item() == pytest.approx(p, abs=0.003)
    assert a.mean().item() == pytest.approx(1, abs=0.003)
    pairs = {"row": zero[1:] & zero[:-1], "column": zero[:, 1:] & zero[:, :-1]}
    pairs["four columns"] = zero[:, 4:] & zero[:, :-4]
    pairs["call"] = zero & (b == 0)
    for name, both in pairs.items():
        assert both.float().mean().item() == pytest.approx(p * p, abs=0.003), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_hash_acts_under_compile_and_gradients_follow_its_mask(dtype):
    x = torch.ones(8, 100, dtype=dtype, requires_grad=True)
    compiled = torch.compile(Dropout(0.3), backend="aot_eager", fullgraph=True)
    y = seeded(compiled, x)
    y.sum().backward()
    assert y.dtype == dtype and torch.equal(y, seeded(hash_dropout, x, 0.3))
    assert torch.equal(x.grad, y)


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("training", [True, False])
def test_without_compile_it_is_the_one_of_pytorch(p, training):
    layers, x = (Dropout(p).train(training), nn.Dropout(p).train(training)), torch.randn(8, 100)
    assert torch.equal(*(seeded(layer, x) for layer in layers))
    if not (training and 0 < p < 1):
        compiled = torch.compile(layers[0], backend="aot_eager", fullgraph=True)
        assert torch.equal(compiled(x), layers[1](x))


def test_models_have_it_where_something_is_dropped():
    found = [type(layer) for layer in new_model().modules() if isinstance(layer, nn.Dropout)]
    assert found == [Dropout] * 5  # of the embedding, and two in each block
    found = {type(x) for x in new_model(embd_pdrop=0, resid_pdrop=0).modules()}
    assert nn.Dropout in found and Dropout not in found
    assert has_fast_step(new_model().eval())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_compiled_training_step_drops_by_the_hash(checkpointing, monkeypatch):
    model, ids = new_model(attn_pdrop=0), torch.randint(50, (2, 9))
    if checkpointing:  # the blocks are computed twice, with the same masks
        model.gradient_checkpointing_enable()
    compiled = torch.compile(model, backend="aot_eager")
    seeded(compiled, ids, None, None, None, None, ids).loss.backward()
    found = [weight.grad.clone() for weight in model.parameters()]
    model.zero_grad()
    model.gradient_checkpointing_disable()
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    seeded(model, ids, None, None, None, None, ids).loss.backward()
    for mine, weight in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(mine, weight.grad)


def test_a_model_in_training_is_exported():
    model, ids = new_model(), torch.randint(50, (2, 9))
    exported = torch.export.export(model, (ids,), {"return_dict": False}).module()
    first, second = (exported(ids, return_dict=False)[0] for _ in range(2))
    assert first.shape == (2, 9, 50) and not torch.equal(first, second)
