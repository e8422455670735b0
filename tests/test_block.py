"""Dropout under torch.compile: fair, different each time, repeatable, with the right gradient."""

import math

import pytest
import torch

from minigpt.old.block import Dropout, hash_dropout, stir

N = 2**20
LAGS = [1, 2, 3, 64, 512, 768, 768 * 512, 768 * 511]  # neighbours, rows, texts of the model
WHERE = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]


@pytest.fixture(autouse=True)
def compile_anew():
    torch.compiler.reset()


def fallen(seed: int) -> torch.Tensor:
    """Where numbers fell, 0.9 there and -0.1 elsewhere."""
    torch.manual_seed(seed)
    return (hash_dropout(torch.ones(N), 0.1) == 0).float() - 0.1


def deviations(a: torch.Tensor, b: torch.Tensor) -> float:
    """How far two such tensors agree beyond chance, in standard deviations."""
    return (a * b).mean().item() / 0.09 * math.sqrt(len(a))


@pytest.mark.parametrize("seed", range(5))
def test_one_in_ten_falls_and_no_lag_is_favoured(seed):
    a, b = fallen(seed), fallen(seed + 100)
    assert abs(a.mean().item()) / 0.3 * math.sqrt(N) < 4
    assert abs(deviations(a, b)) < 4  # two draws of the same tensor
    for lag in LAGS:
        assert abs(deviations(a[lag:], a[:-lag])) < 4.5, lag
    # all periods at once: the largest of half a million exponentials is near log(N / 2), 13.2
    power = torch.fft.rfft(a).abs() ** 2 / N / 0.09
    assert power[1:].max() < 22


def test_the_tests_above_see_a_hash_that_is_too_simple(monkeypatch):
    def once(n, first, second):
        n = (n ^ first) * 0x7FEB352D + second
        return n ^ (n >> 16 & 0xFFFF)

    monkeypatch.setattr("minigpt.old.block.stir", once)
    with pytest.raises(AssertionError):
        test_one_in_ten_falls_and_no_lag_is_favoured(0)


@pytest.mark.parametrize("p", [1e-12, 0.01, 0.5, 0.99, 1 - 1e-12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_dropout_scales_what_stays_and_its_gradient(p, dtype):
    drop = torch.compile(Dropout(p), backend="aot_eager", fullgraph=True)
    x = torch.full((300, 70), 2.0, dtype=dtype, requires_grad=True)
    out = drop(x)
    out.sum().backward()
    scale = torch.ones((), dtype=dtype) / (1 - p)
    assert torch.equal(out, torch.where(out == 0, 0, 2 * scale))
    assert torch.equal(x.grad, torch.where(out == 0, 0, scale))
    assert out.dtype == dtype
    assert abs((out == 0).float().mean().item() - p) < 5 * math.sqrt(p * (1 - p) / x.numel())


@pytest.mark.parametrize("dynamic", [None, True])
def test_compiled_dropout_follows_a_change_of_p(dynamic):
    """The compiler makes a symbol of p; what Python computes from it stays as it was first."""
    module, x = Dropout(0.1), torch.ones(100_000)
    drop = torch.compile(module, dynamic=dynamic, fullgraph=True)
    for module.p in (0.1, 0.2, 0.5, 0.9):
        out = drop(x)
        assert abs((out == 0).float().mean().item() - module.p) < 0.01
        assert out.max().item() == pytest.approx(1 / (1 - module.p))


def test_compiled_dropout_differs_from_call_to_call_and_follows_the_seed():
    drop = torch.compile(Dropout(0.3), backend="aot_eager", fullgraph=True)
    torch.manual_seed(3)
    first, second = drop(torch.ones(2000)), drop(torch.ones(2000))
    torch.manual_seed(3)
    assert torch.equal(drop(torch.ones(2000)), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(("p", "training"), [(0.0, True), (1.0, True), (0.3, False)])
def test_nothing_or_everything_falls(p, training):
    drop, x = Dropout(p).train(training), torch.randn(50, requires_grad=True)
    out = torch.compile(drop, backend="aot_eager", fullgraph=True)(x)
    out.sum().backward()
    stays = 0.0 if p == 1 else 1.0
    assert torch.equal(out, x * stays) and torch.equal(x.grad, torch.full((50,), stays))


def test_outside_of_compile_it_is_pytorchs_own():
    torch.manual_seed(0)
    found = Dropout(0.3)(torch.ones(100))
    torch.manual_seed(0)
    assert torch.equal(found, torch.nn.functional.dropout(torch.ones(100), 0.3))


@pytest.mark.parametrize("device", WHERE)
def test_the_compiler_stirs_bit_for_bit_as_pytorch_does(device):
    """Real code of the compiler: overflow, shifts and signs of int32 are those of PyTorch."""
    n = torch.arange(-5000, 5000, dtype=torch.int32)
    seeds = torch.tensor([2**31 - 1, 987654321], dtype=torch.int32)
    found = torch.compile(stir, fullgraph=True)(n.to(device), *seeds.to(device))
    assert torch.equal(found.cpu(), stir(n, *seeds))
