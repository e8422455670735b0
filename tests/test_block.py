"""The block and its parts against their formulas; `parity/test_attention.py` has transformers'."""

import math

import pytest
import torch
import torch.nn.functional as F

from minigpt.block import Block, Conv1D, gelu
from minigpt.config import GPTConfig

PARTS = ["attn.c_attn", "attn.c_proj", "ln_1", "mlp.c_fc", "mlp.c_proj", "ln_2"]


def make(**settings):
    """A block whose biases and gains, too, are away from their starting values."""
    block = Block(GPTConfig(n_embd=32, n_head=4, **settings)).eval()
    for parameter in block.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    return block


def test_conv1d_is_x_times_w_plus_b():
    layer, x = Conv1D(200, 300), torch.randn(2, 3, 200)
    assert layer.weight.shape == (200, 300)
    layer.bias.data.normal_()
    torch.testing.assert_close(layer(x), x @ layer.weight + layer.bias, rtol=0, atol=1e-4)


def test_new_weights_follow_the_config():
    block = Block(GPTConfig(n_embd=128, n_head=4, initializer_range=0.3))
    names = {f"{part}.{kind}" for part in PARTS for kind in ("weight", "bias")}
    assert set(block.state_dict()) == names  # those of OpenAI's checkpoint
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


def test_dropout_acts_in_training_on_what_is_added_only():
    block, x = make(resid_pdrop=1.0), torch.randn(2, 5, 32)
    assert torch.equal(block.train()(x)[0], block.ln_2(block.ln_1(x)))
    assert not torch.equal(block.eval()(x)[0], block.ln_2(block.ln_1(x)))


@pytest.mark.parametrize("which", ["attn_pdrop", "resid_pdrop"])
def test_each_dropout_follows_its_rate(which):
    rates, x = {"attn_pdrop": 0.0, "resid_pdrop": 0.0}, torch.randn(1, 6, 32)
    silent, block = make(**rates), make(**rates | {which: 0.3})
    assert torch.equal(silent.train()(x)[0], silent.eval()(x)[0])
    assert not torch.equal(block.train()(x)[0], block.eval()(x)[0])
