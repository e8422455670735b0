"""Attention and block against the code of others: transformers, OpenAI's golden arrays."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import OpenAIGPTConfig as TheirConfig
from transformers.models.openai import modeling_openai as theirs

from minigpt.attention import ATTENTION, eager_attention, make_mask
from minigpt.block import ACTIVATIONS, Block, gelu
from minigpt.config import GPTConfig
from minigpt.fast.flash_attention import flash_attention
from tests.helpers import GOLDEN, gradient_difference, largest_difference, openai_model, padded

ATTEND = ATTENTION | {"flash_attention_2": flash_attention}
implementations = pytest.mark.parametrize("implementation", ["eager", "sdpa"])


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 4, 24, 8), (3, 5, 100, 16), (1, 12, 512, 64)])
def test_attention_equals_transformers(shape):
    H, T, D = shape[1:]
    q, k, v = torch.randn(3, *shape)
    config = TheirConfig(n_embd=H * D, n_head=H, n_positions=T)
    peer = theirs.Attention(H * D, T, config, scale=True).eval()
    expected, weights = peer._attn(q, k.transpose(-2, -1), v, output_attentions=True)
    for attend in ATTEND.values():
        assert largest_difference(attend(q, k, v)[0], expected) < 1e-5
    assert largest_difference(eager_attention(q, k, v)[1], weights) < 1e-6


@pytest.mark.parametrize("name", theirs.ACT_FNS)
def test_activations_equal_transformers(name):
    x = torch.linspace(-6, 6, 1000)
    assert largest_difference(ACTIVATIONS[name](x), theirs.ACT_FNS[name](x)) < 1e-6


@implementations
@pytest.mark.parametrize("side", [None, "left", "right"])
def test_the_block_equals_transformers(side, implementation):
    peer = theirs.Block(24, TheirConfig(n_embd=32, n_head=4), scale=True).eval()
    ours = Block(GPTConfig(n_embd=32, n_head=4, attn_implementation=implementation)).eval()
    for parameter in peer.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    ours.load_state_dict(peer.state_dict())
    x = torch.randn(2, 24, 32)
    real = torch.ones(2, 24) if side is None else padded(side, (24, 9), 24)
    mask = None if side is None else make_mask(24, 24, real)
    out, weights = ours(x, mask, need_weights=True)
    added = (1 - real[:, None, None].float()) * -1e9  # (B, S) -> (B, 1, 1, S)
    expected, peer_weights = peer(x, added, output_attentions=True)
    real = real.bool()
    assert largest_difference(ours(x, mask)[0][real], expected[real]) < 1e-5
    assert largest_difference(out[real], expected[real]) < 1e-5
    rows = (w.transpose(1, 2)[real] for w in (weights, peer_weights))  # (B, H, T, S) -> (.., H, S)
    assert largest_difference(*rows) < 1e-5
    (ours(x, mask)[0][real].square().sum() + expected[real].square().sum()).backward()
    assert gradient_difference(ours, peer) < 1e-4


def openai_blocks(implementation="sdpa"):
    """The golden arrays, and core blocks with the weights that they were computed with."""
    golden = np.load(GOLDEN / "golden.npz")
    blocks = []
    for block in openai_model(golden).transformer.h:
        config = GPTConfig(n_embd=32, n_head=4, attn_implementation=implementation)
        blocks.append(Block(config).eval())
        blocks[-1].load_state_dict(block.state_dict())
    return golden, blocks


@torch.no_grad()
def run(golden, blocks):
    """How far the chain of blocks is from OpenAI's hidden states, block by block."""
    x, found = torch.from_numpy(golden["embedding"]), []
    for n, block in enumerate(blocks):
        x = block(x)[0]
        found.append(largest_difference(x, golden[f"hidden_{n}"]))
    return found


@implementations
def test_the_blocks_equal_openai(implementation):
    assert max(run(*openai_blocks(implementation))) < 1e-5


@pytest.mark.parametrize("act, holds", [(gelu, True), (F.gelu, False), (F.relu, False)])
def test_the_comparison_notices_another_activation(act, holds):
    golden, blocks = openai_blocks()
    for block in blocks:
        block.mlp.act = act
    assert (max(run(golden, blocks)) < 1e-5) == holds
