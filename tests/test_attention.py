"""Attention: every implementation against a plain reference in float64; masks, zeros, heads."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt.attention import ATTENTION, make_mask, merge_heads, split_heads

PADDINGS = {
    "none": [1, 1, 1, 1, 1, 1, 1],
    "right": [1, 1, 1, 1, 0, 0, 0],
    "left": [0, 0, 0, 1, 1, 1, 1],
    "both": [0, 1, 1, 1, 1, 1, 0],
    "holes": [1, 0, 1, 1, 0, 1, 1],
    "empty": [0, 0, 0, 0, 0, 0, 0],
}
PAIRS = [["none", "right"], ["left", "holes"], ["both", "empty"]]
implementations = pytest.mark.parametrize("name", ["eager", "sdpa"])
pairs = pytest.mark.parametrize("kinds", PAIRS)


def reference(q, k, v, mask):
    """Attention in float64, score by score; a query that may attend to nothing gets zeros."""
    out = torch.zeros(q.shape, dtype=torch.float64)
    mask = mask.expand(len(q), 1, *mask.shape[-2:])
    scores = q.double() @ k.double().mT / q.shape[-1] ** 0.5
    for b, h, t in torch.cartesian_prod(*map(torch.arange, q.shape[:3])).tolist():
        seen = mask[b, 0, t].nonzero().flatten().tolist()
        powers = [math.exp(scores[b, h, t, s]) for s in seen]
        for s, power in zip(seen, powers, strict=True):
            out[b, h, t] += power / sum(powers) * v[b, h, s].double()
    return out


def random_inputs(B=2, H=3, T=7, S=7, D=8, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(B, H, n, D, generator=generator).to(dtype) for n in (T, S, S))


def real_queries(padding, T):
    """(B, S) -> (B, 1, T, 1): which of the last T positions are real tokens."""
    return torch.as_tensor(padding)[:, None, -T:, None].bool()


@settings(max_examples=60, deadline=None)
@given(
    B=st.integers(1, 3),
    H=st.integers(1, 3),
    S=st.integers(1, 9),
    D=st.integers(1, 9),
    scale=st.sampled_from([0.01, 1.0, 10.0]),
    data=st.data(),
)
def test_any_shape_any_padding(B, H, S, D, scale, data):
    T = data.draw(st.integers(1, S))
    bits = st.lists(st.integers(0, 1), min_size=S, max_size=S)
    padding = torch.tensor(data.draw(st.lists(bits, min_size=B, max_size=B)))
    is_whole = data.draw(st.booleans())  # then, no mask means causal
    padding = torch.ones_like(padding) if is_whole else padding
    q, k, v = random_inputs(B, H, T, S, D, seed=data.draw(st.integers(0, 99)))
    q, real, mask = q * scale, real_queries(padding, T), make_mask(T, S, padding)
    expected = reference(q, k, v, mask).float() * real
    for attend in ATTENTION.values():
        out = attend(q, k, v, None if is_whole else mask)[0]
        assert out.isfinite().all()
        torch.testing.assert_close(out * real, expected, rtol=1e-4, atol=1e-5)


@pairs
@pytest.mark.parametrize("T", [1, 3, 7])
def test_gradients_equal_those_of_eager(kinds, T):
    padding = torch.tensor([PADDINGS[kind] for kind in kinds])
    factors = random_inputs(T=T, seed=1)[0] * real_queries(padding, T)
    grads = {}
    for name in ("eager", "sdpa"):
        inputs = [x.requires_grad_() for x in random_inputs(T=T)]
        (ATTENTION[name](*inputs, make_mask(T, 7, padding))[0] * factors).sum().backward()
        grads[name] = [x.grad for x in inputs]
    assert T == 1 or any(grad.any() for grad in grads["eager"])
    torch.testing.assert_close(grads["sdpa"], grads["eager"], rtol=0, atol=1e-5)


@implementations
@pytest.mark.parametrize("dtype, tolerance", [(torch.float16, 4e-3), (torch.bfloat16, 3e-2)])
def test_sixteen_bits(name, dtype, tolerance):
    padding = torch.tensor([PADDINGS["left"], PADDINGS["holes"]])
    q, k, v = random_inputs(dtype=dtype)
    mask, real = make_mask(7, 7, padding), real_queries(padding, 7)
    out, _ = ATTENTION[name](q, k, v, mask)
    assert out.dtype == dtype
    expected = reference(q, k, v, mask).to(dtype)
    torch.testing.assert_close(out * real, expected * real, rtol=0, atol=tolerance)


@implementations
def test_a_query_without_keys_gets_zeros(name):
    padding = torch.tensor([PADDINGS["left"], PADDINGS["empty"]])
    inputs = [x.requires_grad_() for x in random_inputs()]
    out, _ = ATTENTION[name](*inputs, make_mask(7, 7, padding))
    assert (out[0, :, :3] == 0).all() and (out[1] == 0).all()
    assert (out[0, :, 3:] != 0).all()
    out.sum().backward()
    assert all(x.grad.isfinite().all() for x in inputs)


@implementations
@pytest.mark.parametrize("T", [1, 3])
def test_one_mask_serves_all_texts_and_slots_may_be_empty(name, T):
    """The mask of a static cache: 5 of 7 slots are filled, the T newest of them ask."""
    q, k, v = random_inputs(T=T)
    mask = torch.arange(7) <= torch.arange(5 - T, 5)[:, None]  # (T, S)
    out, _ = ATTENTION[name](q, k, v, mask[None, None])
    expected, _ = ATTENTION[name](q, k[:, :, :5], v[:, :, :5])
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-6)


@implementations
def test_dropout_removes_weights_and_keeps_the_mean(name):
    q, k, v = torch.zeros(1, 1, 64, 4), torch.zeros(1, 1, 64, 4), torch.ones(1, 1, 64, 4)
    rows = torch.cat([ATTENTION[name](q, k, v, dropout=0.25)[0][0, 0, 32:, 0] for _ in range(40)])
    assert abs(rows.mean() - 1) < 0.02 and 0.02 < rows.std() < 0.2


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
@pytest.mark.parametrize("T", [1, 3, 7])
def test_a_mask_joins_causality_and_padding(dtype, T):
    padding = torch.tensor(list(PADDINGS.values()))
    mask = make_mask(T, 7, padding.to(dtype))
    assert mask.shape == (len(padding), 1, T, 7) and mask.dtype == torch.bool
    for b, t, s in torch.cartesian_prod(*map(torch.arange, (len(padding), T, 7))).tolist():
        assert mask[b, 0, t, s] == (s <= 7 - T + t and bool(padding[b, s]))


def test_heads_are_cut_and_joined():
    x = torch.arange(24).reshape(1, 2, 12)
    heads = split_heads(x, 3)
    assert heads[0, 1].tolist() == [[4, 5, 6, 7], [16, 17, 18, 19]]
    assert torch.equal(merge_heads(heads), x)
