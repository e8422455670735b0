"""The block and its parts against their formulas: projections, GELU, dropout, residuals, cache."""

import math

import pytest
import torch
import torch.nn.functional as F

from minigpt.attention import ATTENTION, make_mask
from minigpt.block import ACTIVATIONS, MLP, Attention, Block, Conv1D, gelu
from minigpt.config import GPTConfig
from minigpt.model import KeyValueCache

SIZES = {"vocab_size": 30, "n_positions": 16, "n_embd": 32, "n_layer": 1, "n_head": 4}
PARTS = ["attn.c_attn", "attn.c_proj", "ln_1", "mlp.c_fc", "mlp.c_proj", "ln_2"]


def make(kind=Block, **overrides):
    """A layer whose biases and gains, too, are away from their starting values."""
    layer = kind(GPTConfig(**SIZES | overrides)).eval()
    for parameter in layer.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    return layer


def test_conv1d_is_x_times_w_plus_b():
    layer = Conv1D(200, 300, std=0.5)
    assert layer.weight.shape == (200, 300) and not layer.bias.any()
    assert layer.weight.std().item() == pytest.approx(0.5, rel=0.02)
    layer.bias.data.normal_()
    x = torch.randn(2, 3, 200)
    torch.testing.assert_close(layer(x), x @ layer.weight + layer.bias, rtol=0, atol=1e-3)


def test_new_weights_follow_the_config():
    block = Block(GPTConfig(n_embd=128, n_head=4, initializer_range=0.3))
    for name, parameter in block.named_parameters():
        if "ln_" in name or "bias" in name:
            assert torch.equal(parameter, torch.full_like(parameter, "weight" in name))
        else:
            assert parameter.std().item() == pytest.approx(0.3, rel=0.02), name


def test_gelu_is_the_tanh_formula():
    x = torch.linspace(-6, 6, 500)
    expected = [
        v / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))) for v in x.tolist()
    ]
    torch.testing.assert_close(gelu(x), torch.tensor(expected), rtol=0, atol=1e-6)
    assert not torch.allclose(gelu(x), F.gelu(x), atol=1e-4)


@pytest.mark.parametrize("afn", ACTIVATIONS)
def test_the_mlp_widens_and_narrows(afn):
    mlp, x = make(MLP, afn=afn), torch.randn(2, 5, 32)
    assert mlp.c_fc(x).shape == (2, 5, 128)
    expected = mlp.c_proj(ACTIVATIONS[afn](mlp.c_fc(x)))
    assert torch.equal(mlp(x), expected)


def test_the_block_adds_and_then_normalises():
    block, x = make(layer_norm_epsilon=0.5), torch.randn(2, 5, 32)
    assert block.ln_1.eps == block.ln_2.eps == 0.5
    middle = block.ln_1(x + block.attn(x)[0])
    assert torch.equal(block(x)[0], block.ln_2(middle + block.mlp(middle)))
    names = {f"{part}.{kind}" for part in PARTS for kind in ("weight", "bias")}
    assert set(block.state_dict()) == names  # those of OpenAI's checkpoint


@pytest.mark.parametrize("n_head", [1, 4, 32])
def test_each_head_attends_for_itself(n_head):
    attention, x = make(Attention, n_head=n_head), torch.randn(2, 5, 32)
    D, heads = 32 // n_head, []
    q, k, v = attention.c_attn(x).split(32, dim=-1)
    for h in range(n_head):
        part = slice(h * D, (h + 1) * D)
        scores = q[..., part] @ k[..., part].mT / math.sqrt(D)  # (B, T, T)
        scores = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
        heads.append(scores.softmax(-1) @ v[..., part])
    expected = attention.c_proj(torch.cat(heads, -1))
    torch.testing.assert_close(attention(x)[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_a_cache_gives_the_same_as_the_whole_text(implementation):
    block, x = make(attn_implementation=implementation), torch.randn(2, 9, 32)
    layer, found = KeyValueCache(1).layers[0], []
    for chunk in x.split([4, 1, 1, 3], dim=1):
        found.append(block(chunk, cache=layer)[0])
    torch.testing.assert_close(torch.cat(found, dim=1), block(x)[0], rtol=0, atol=1e-5)
    assert layer.keys.shape == (2, 4, 9, 8)


@pytest.mark.parametrize("mask", [None, make_mask(5, 5, torch.tensor([[0, 0, 1, 1, 1]]))])
def test_weights_are_returned_where_they_are_wanted(mask):
    block, x = make(), torch.randn(2, 5, 32)
    out, weights = block(x, mask, need_weights=True)
    assert weights.shape == (2, 4, 5, 5) and not weights.triu(1).any()
    plain, none = block(x, mask)
    assert none is None
    torch.testing.assert_close(out, plain, rtol=0, atol=1e-5)


def test_the_implementation_may_change_after_a_block_is_built(monkeypatch):
    block, x, used = make(), torch.randn(1, 3, 32), []
    for name, attend in list(ATTENTION.items()):
        monkeypatch.setitem(ATTENTION, name, lambda *x, n=name, f=attend: used.append(n) or f(*x))
    block(x)
    block.attn.config.attn_implementation = "eager"
    block(x)
    assert used == ["sdpa", "eager"]


def test_dropout_acts_in_training_on_what_is_added_only():
    block, x = make(resid_pdrop=1.0), torch.randn(2, 5, 32)
    assert torch.equal(block.train()(x)[0], block.ln_2(block.ln_1(x)))
    assert not torch.equal(block.eval()(x)[0], block.ln_2(block.ln_1(x)))


@pytest.mark.parametrize("which", ["attn_pdrop", "resid_pdrop"])
def test_each_dropout_follows_its_rate(which):
    rates = {"attn_pdrop": 0.0, "resid_pdrop": 0.0}
    x = torch.randn(1, 6, 32)
    block = make(**rates | {which: 0.3})
    expected = block(x)[0]
    assert not torch.equal(block.train()(x)[0], expected)
    silent = make(**rates).train()
    assert torch.equal(silent(x)[0], silent.eval()(x)[0])
