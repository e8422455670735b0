"""Attention, activations and block against those of transformers."""

import pytest
import torch
from transformers import OpenAIGPTConfig as TheirConfig
from transformers.models.openai import modeling_openai as theirs

from minigpt.attention import ATTENTION, eager_attention, make_mask
from minigpt.block import ACTIVATIONS, Block
from minigpt.config import GPTConfig
from tests.helpers import gradient_difference, largest_difference, padded


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 4, 24, 8), (3, 5, 100, 16), (1, 12, 512, 64)])
def test_attention_equals_transformers(shape):
    H, T, D = shape[1:]
    q, k, v = torch.randn(3, *shape)
    config = TheirConfig(n_embd=H * D, n_head=H, n_positions=T)
    peer = theirs.Attention(H * D, T, config, scale=True).eval()
    expected, weights = peer._attn(q, k.transpose(-2, -1), v, output_attentions=True)
    for attend in ATTENTION.values():
        assert largest_difference(attend(q, k, v)[0], expected) < 1e-5
    assert largest_difference(eager_attention(q, k, v)[1], weights) < 1e-6


@pytest.mark.parametrize("name", theirs.ACT_FNS)
def test_activations_equal_transformers(name):
    x = torch.linspace(-6, 6, 1000)
    assert largest_difference(ACTIVATIONS[name](x), theirs.ACT_FNS[name](x)) < 1e-6


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_block_equals_transformers(side, implementation):
    peer = theirs.Block(24, TheirConfig(n_embd=32, n_head=4), scale=True).eval()
    ours = Block(GPTConfig(n_embd=32, n_head=4, attn_implementation=implementation)).eval()
    for parameter in peer.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    ours.load_state_dict(peer.state_dict())
    x, padding = torch.randn(2, 24, 32), padded(side, (24, 9), 24)
    found, _ = ours(x, make_mask(24, 24, padding))
    added = (1 - padding[:, None, None].float()) * -1e9  # (B, S) -> (B, 1, 1, S)
    real, (expected, *_) = padding.bool(), peer(x, added)
    assert largest_difference(found[real], expected[real]) < 1e-5
    (found[real].square().sum() + expected[real].square().sum()).backward()
    assert gradient_difference(ours, peer) < 1e-4
