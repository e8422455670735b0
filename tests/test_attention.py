"""Attention: the three implementations against each other and a reference; masks, zeros, errors."""

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt.old import attention
from minigpt.old.attention import ATTENTION, causal_mask, make_mask, merge_heads, split_heads

PADDINGS = {
    "none": [1, 1, 1, 1, 1, 1, 1],
    "right": [1, 1, 1, 1, 0, 0, 0],
    "left": [0, 0, 0, 1, 1, 1, 1],
    "both": [0, 1, 1, 1, 1, 1, 0],
    "holes": [1, 0, 1, 1, 0, 1, 1],
    "empty": [0, 0, 0, 0, 0, 0, 0],
}
EAGER = ATTENTION["eager"]
implementations = pytest.mark.parametrize("name", ATTENTION)
others = pytest.mark.parametrize("name", [name for name in ATTENTION if name != "eager"])


def reference(q, k, v, padding):
    """Attention in float64, score by score; a query that may read nothing gets zeros."""
    B, H, T, D = q.shape
    S = k.shape[2]
    out = torch.zeros(B, H, T, D, dtype=torch.float64)
    for b, h, t in torch.cartesian_prod(*map(torch.arange, (B, H, T))).tolist():
        seen = [s for s in range(S - T + t + 1) if padding[b][s]]
        scores = [(q[b, h, t].double() @ k[b, h, s].double()).item() / D**0.5 for s in seen]
        powers = [math.exp(score - max(scores)) for score in scores]
        for s, power in zip(seen, powers, strict=True):
            out[b, h, t] += power / sum(powers) * v[b, h, s].double()
    return out


def random_inputs(B=2, H=3, T=7, S=7, D=8, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(B, H, length, D, generator=generator).to(dtype) for length in (T, S, S)
    )


def real_queries(padding, T):
    """(B, S) -> (B, 1, T, 1): which of the last T positions are real tokens."""
    return torch.as_tensor(padding)[:, None, -T:, None].bool()


# -- agreement


@implementations
@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1), (1, 2, 5, 5, 8), (3, 4, 33, 33, 16)])
def test_every_implementation_is_causal_attention(name, shape):
    B, *_, T, S, _ = shape
    q, k, v = random_inputs(*shape)
    out, _ = ATTENTION[name](q, k, v)
    torch.testing.assert_close(out, reference(q, k, v, [[1] * S] * B).float(), rtol=0, atol=1e-5)


@implementations
@pytest.mark.parametrize("T", [1, 2, 4, 7])
@pytest.mark.parametrize("D", [1, 5, 8, 64])
@pytest.mark.parametrize("kinds", [["none", "right"], ["left", "holes"], ["both", "empty"]])
def test_padding_and_fewer_queries(name, T, D, kinds):
    padding = torch.tensor([PADDINGS[kind] for kind in kinds])
    q, k, v = random_inputs(T=T, D=D)
    out, _ = ATTENTION[name](q, k, v, make_mask(T, 7, padding))
    expected = reference(q, k, v, padding.tolist()).float()
    real = real_queries(padding, T)
    torch.testing.assert_close(out * real, expected * real, rtol=0, atol=1e-5)
    assert out.isfinite().all()


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
    q, k, v = random_inputs(B, H, T, S, D, seed=data.draw(st.integers(0, 99)))
    q, real = q * scale, real_queries(padding, T)
    expected = reference(q, k, v, padding.tolist()).float() * real
    for attend in ATTENTION.values():
        out = attend(q, k, v, make_mask(T, S, padding))[0] * real
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)


@others
@pytest.mark.parametrize("kinds", [["none", "right"], ["left", "holes"], ["both", "empty"]])
@pytest.mark.parametrize("T", [1, 3, 7])
def test_gradients_equal_those_of_eager(name, kinds, T):
    padding = torch.tensor([PADDINGS[kind] for kind in kinds])
    weight = random_inputs(T=T, seed=1)[0] * real_queries(padding, T)
    grads = {}
    for which in ("eager", name):
        inputs = [x.requires_grad_() for x in random_inputs(T=T)]
        (ATTENTION[which](*inputs, make_mask(T, 7, padding))[0] * weight).sum().backward()
        grads[which] = [x.grad for x in inputs]
    for ours, expected in zip(grads[name], grads["eager"], strict=True):
        assert expected.abs().sum() > 0 or T == 1
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


@implementations
@pytest.mark.parametrize("dtype, tolerance", [(torch.float16, 4e-3), (torch.bfloat16, 3e-2)])
def test_sixteen_bits(name, dtype, tolerance):
    padding = torch.tensor([PADDINGS["left"], PADDINGS["holes"]])
    q, k, v = random_inputs(dtype=dtype)
    out, _ = ATTENTION[name](q, k, v, make_mask(7, 7, padding))
    assert out.dtype == dtype
    real = real_queries(padding, 7)
    expected = reference(q, k, v, padding.tolist()).to(dtype) * real
    torch.testing.assert_close(out * real, expected, rtol=0, atol=tolerance)


@implementations
@pytest.mark.parametrize("kind", [None, "right", "left"])
def test_it_compiles_in_one_piece_for_every_length(name, kind):
    def attend(q, k, v, padding):
        return ATTENTION[name](q, k, v, make_mask(q.shape[2], k.shape[2], padding))[0]

    torch.compiler.reset()
    compiled = torch.compile(attend, backend="eager", fullgraph=True)
    for T, S in ((7, 7), (3, 7), (1, 7)):
        padding = None if kind is None else torch.tensor([PADDINGS[kind]] * 2)
        real = real_queries(torch.ones(2, S) if padding is None else padding, T)
        inputs = random_inputs(T=T, S=S)
        found, expected = compiled(*inputs, padding), attend(*inputs, padding)
        torch.testing.assert_close(found * real, expected * real, rtol=0, atol=1e-5)


@implementations
def test_nobody_looks_ahead(name):
    q, k, v = random_inputs()
    before, _ = ATTENTION[name](q, k, v)
    k[:, :, 4], v[:, :, 4] = 100.0, -100.0
    after, _ = ATTENTION[name](q, k, v)
    torch.testing.assert_close(after[:, :, :4], before[:, :, :4], rtol=0, atol=1e-6)
    assert not torch.allclose(after[:, :, 4:], before[:, :, 4:], atol=1.0)


def test_only_eager_returns_weights():
    q, k, v = random_inputs()
    results = {name: attend(q, k, v)[1] for name, attend in ATTENTION.items()}
    weights = results.pop("eager")
    assert results == {"sdpa": None, "flash_attention_2": None}
    assert torch.equal(weights.triu(1), torch.zeros_like(weights))
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 7))


def test_heads_are_cut_and_joined():
    x = torch.arange(24).reshape(1, 2, 12)
    heads = split_heads(x, 3)
    assert heads[0, 1].tolist() == [[4, 5, 6, 7], [16, 17, 18, 19]]
    assert torch.equal(merge_heads(heads), x)


# -- masks


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
@pytest.mark.parametrize("kinds", [["none"], ["right"], ["none", "right"]])
def test_padding_on_the_right_needs_no_table(dtype, kinds):
    padding = torch.tensor([PADDINGS[kind] for kind in kinds]).to(dtype)
    for T in (1, 3, 7):
        assert make_mask(T, 7, padding) is None
    assert make_mask(7, 7) is None


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
@pytest.mark.parametrize("kind", ["left", "both", "holes", "empty"])
@pytest.mark.parametrize("T", [1, 3, 7])
def test_other_padding_needs_a_table(dtype, kind, T):
    padding = torch.tensor([PADDINGS["none"], PADDINGS[kind]]).to(dtype)
    mask = make_mask(T, 7, padding, "cpu")
    assert mask.shape == (2, 1, T, 7) and mask.dtype == torch.bool
    for b, t, s in torch.cartesian_prod(*map(torch.arange, (2, T, 7))).tolist():
        assert mask[b, 0, t, s] == (s <= 7 - T + t and bool(padding[b, s]))


def test_who_reads_at_padding_gets_a_table():
    padding = torch.tensor([PADDINGS["none"], PADDINGS["right"]])  # the second has 4 real tokens
    read = torch.zeros(2, 3, dtype=torch.bool)  # of the last three positions
    read[0] = True
    assert make_mask(3, 7, padding, read=read) is None  # these are real
    read[1, 2] = True
    assert make_mask(3, 7, padding, read=read)[1, 0, 2].tolist() == [True] * 4 + [False] * 3
    assert make_mask(3, 7, None, read=read) is None


@pytest.mark.parametrize("value", [0.5, 2, -1e9, float("nan")])
def test_a_mask_of_other_numbers_is_refused(value):
    padding = torch.ones(2, 7)
    padding[1, 6] = value
    with pytest.raises(ValueError, match="attention_mask has other values than 1"):
        make_mask(7, 7, padding)


def test_an_unknown_implementation_is_named():
    assert all(attention.find_attention(name) is one for name, one in ATTENTION.items())
    with pytest.raises(ValueError, match="'flash'; choose from eager, sdpa, flash_attention_2"):
        attention.find_attention("flash")


def test_a_mask_of_the_wrong_length():
    with pytest.raises(ValueError, match="covers 3 positions, but there are 5 keys"):
        make_mask(2, 5, torch.ones(2, 3))


@implementations
def test_a_query_without_keys_gets_zeros(name):
    padding = torch.tensor([PADDINGS["left"], PADDINGS["empty"]])
    mask = causal_mask(7, 7) & padding[:, None, None].bool()
    inputs = [x.requires_grad_() for x in random_inputs()]
    out, _ = ATTENTION[name](*inputs, mask)
    assert (out[0, :, :3] == 0).all() and (out[1] == 0).all()
    assert (out[0, :, 3:] != 0).all()
    out.sum().backward()
    assert all(x.grad.isfinite().all() for x in inputs)


@implementations
def test_real_tokens_do_not_notice_padding(name):
    q, k, v = random_inputs(B=1)
    alone, _ = ATTENTION[name](q[:, :, 2:5], k[:, :, 2:5], v[:, :, 2:5])
    padding = torch.tensor([[0, 0, 1, 1, 1, 0, 0]])
    for x in (q, k, v):  # if anybody reads padding, it shows
        x[:, :, :2], x[:, :, 5:] = 50.0, -50.0
    out, _ = ATTENTION[name](q, k, v, make_mask(7, 7, padding))
    torch.testing.assert_close(out[:, :, 2:5], alone, rtol=0, atol=1e-6)


@implementations
def test_one_mask_serves_all_texts(name):
    q, k, v = random_inputs()
    mask = make_mask(7, 7, torch.tensor([PADDINGS["left"]]))
    each = torch.cat(
        [ATTENTION[name](q[b : b + 1], k[b : b + 1], v[b : b + 1], mask)[0] for b in (0, 1)]
    )
    torch.testing.assert_close(ATTENTION[name](q, k, v, mask)[0], each, rtol=0, atol=1e-6)


def test_flash_refuses_a_mask_that_it_cannot_follow():
    q, k, v = random_inputs()
    looks_ahead = torch.ones(1, 1, 7, 7, dtype=torch.bool)
    window = causal_mask(7, 7) & causal_mask(7, 7).T.roll(-2, 0)
    for mask in (looks_ahead, window[None, None], torch.eye(7, dtype=torch.bool)[None, None]):
        with pytest.raises(ValueError, match='attn_implementation="sdpa"'):
            ATTENTION["flash_attention_2"](q, k, v, mask)


# -- which kernel runs, and what if none can


def kernels(attend, *inputs):
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as record:
        attend(*inputs)
    return {event.key for event in record.key_averages() if "attention" in event.key}


@pytest.mark.parametrize("kind", ["none", "left"])
@pytest.mark.parametrize("T", [1, 3, 7])
def test_flash_runs_the_flash_kernel(kind, T):
    mask = make_mask(T, 7, torch.tensor([PADDINGS[kind]] * 2))
    found = kernels(ATTENTION["flash_attention_2"], *random_inputs(T=T), mask)
    assert "aten::_scaled_dot_product_flash_attention_for_cpu" in found
    assert not any("math" in name for name in found)


def test_flash_never_takes_another_kernel():
    q, k, v = random_inputs()
    assert any("math" in name for name in kernels(ATTENTION["sdpa"], q, k, v, None, 0.1))
    with pytest.raises(
        ValueError, match=r"float32 on cpu, 8 channels.*dropout 0.1.*bfloat16.*sdpa"
    ):
        ATTENTION["flash_attention_2"](q, k, v, None, 0.1)
    with pytest.raises(ValueError, match="on meta"):
        ATTENTION["flash_attention_2"](*(x.to("meta") for x in (q, k, v)))


def test_flash_forbids_the_other_kernels(monkeypatch):
    allowed = []

    def look(q, *inputs, **options):
        names = ("flash", "math", "mem_efficient", "cudnn")
        allowed.append([getattr(torch.backends.cuda, f"{name}_sdp_enabled")() for name in names])
        return q

    before = torch.backends.cuda.math_sdp_enabled()
    monkeypatch.setattr(attention.F, "scaled_dot_product_attention", look)
    ATTENTION["flash_attention_2"](*random_inputs())
    assert allowed == [[True, False, False, False]]
    assert torch.backends.cuda.math_sdp_enabled() == before  # and allows them again


@pytest.mark.parametrize(
    "message",
    [
        "No available kernel. Aborting execution.",
        "FlashAttention only support fp16 and bf16 data type",
        "FlashAttention forward only supports head dimension at most 256",
    ],
)
def test_a_kernel_that_refuses(monkeypatch, message):
    def refuse(*inputs):
        raise RuntimeError(message)

    monkeypatch.setattr(attention, "flash_kernel", refuse)
    with pytest.raises(ValueError, match=r"float32 on cpu.*float16.*bfloat16.*sdpa") as caught:
        ATTENTION["flash_attention_2"](*random_inputs())
    assert str(caught.value.__cause__) == message


def test_other_errors_keep_their_name(monkeypatch):
    def run_out(*inputs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(attention, "flash_kernel", run_out)
    with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
        ATTENTION["flash_attention_2"](*random_inputs())


class OnGpu(torch.Tensor):
    """A tensor that says it is on a GPU."""

    is_cuda = True


@pytest.mark.parametrize("T", [1, 3, 7])
def test_the_package_is_used_if_it_is_there(monkeypatch, T):
    calls = []

    def flash_attn_func(q, k, v, dropout_p, causal):
        calls.append((tuple(q.shape), tuple(k.shape), dropout_p, causal))
        plain = (x.as_subclass(torch.Tensor).transpose(1, 2) for x in (q, k, v))
        return EAGER(*plain)[0].transpose(1, 2)  # its triangle, too, ends at the lower right

    monkeypatch.setattr(attention, "flash_attn_func", flash_attn_func)
    q, k, v = random_inputs(T=T)
    ATTENTION["flash_attention_2"](q, k, v)
    assert not calls  # on a CPU it cannot run
    out, _ = ATTENTION["flash_attention_2"](*(x.as_subclass(OnGpu) for x in (q, k, v)), None, 0.1)
    queries = 1 if T == 1 else 7
    assert calls == [((2, queries, 3, 8), (2, 7, 3, 8), 0.1, True)]
    torch.testing.assert_close(out.as_subclass(torch.Tensor), EAGER(q, k, v)[0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="not checked: needs a GPU")
def test_float32_on_a_gpu_is_an_error():
    inputs = [x.cuda() for x in random_inputs()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch tells its reasons as warnings
        with pytest.raises(ValueError, match="float32 on cuda.*bfloat16"):
            ATTENTION["flash_attention_2"](*inputs)
