"""How exact, how large and how fast is each attention: `python -m benchmarks.attention [RESULTS]`.

* exactness: the largest error of the result, and of the three gradients together, relative to the
  largest number of the same attention in float64 on the same rounded inputs; beside it what the
  type allows
* memory: the peak of forward and backward besides the inputs, and how it grows: the exponent n in
  "memory is a constant times T to the power of n" (1: like the text, 2: like the table), fitted
* time: the median of forward and backward

Writes RESULTS (default: results/attention.json) and a picture beside it. On a GPU, memory is what
PyTorch's allocator says, time what the GPU's own clock says. On a CPU the sizes are smaller, memory
is what the profiler adds up, and time is the wall clock's.
"""

import argparse
import json
import math
import os
import platform
import statistics
import time
import warnings
from datetime import date
from functools import partial
from pathlib import Path

import torch

from minigpt.attention import ATTENTION, make_mask

RESULTS = Path(__file__).parent / "results" / "attention.json"
GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"
H, D = 12, 64  # those of GPT-1
LENGTHS = [1, 17, 512] if GPU else [1, 17, 128]
ROUNDS = 20 if GPU else 5
# Results are rounded to the type's steps, and so are the scores: allow a few steps.
TOLERANCE = {torch.float32: 1e-5} | {
    dtype: 4 * torch.finfo(dtype).eps for dtype in (torch.float16, torch.bfloat16)
}
if GPU:
    SWEEPS = {
        "batch 1": (1, [512, 1024, 2048, 4096, 8192]),
        "batch 32": (32, [64, 128, 256, 512]),
    }
else:
    SWEEPS = {"batch 1": (1, [128, 256, 512, 1024]), "batch 4": (4, [64, 128, 256])}
DTYPE = torch.bfloat16 if GPU else torch.float32  # of memory and time


def first_line(error: Exception) -> str:
    return f"not possible: {type(error).__name__}: {str(error).splitlines()[0]}"


def random_inputs(B: int, T: int, dtype: torch.dtype, seed: int = 0) -> list[torch.Tensor]:
    """Queries, keys, values and the gradient that comes back: four times (B, H, T, D)."""
    generator = torch.Generator(DEVICE).manual_seed(seed)
    x = torch.randn(4, B, H, T, D, generator=generator, device=DEVICE, dtype=torch.float32)
    return list(x.to(dtype).unbind())


def forward_backward(attend, inputs: list[torch.Tensor], mask) -> list[torch.Tensor]:
    """Return the result and the gradients of queries, keys and values."""
    *leaves, back = inputs
    leaves = [x.detach().requires_grad_() for x in leaves]
    out, _ = attend(*leaves, mask)
    out.backward(back)
    return [out.detach(), *(x.grad for x in leaves)]


# -- exactness


def padding_of(kind: str, B: int, T: int) -> torch.Tensor | None:
    """(B, T): row b has b * T / 8 tokens of padding on its side, so the first row has none."""
    if kind == "none":
        return None
    place, pad = torch.arange(T, device=DEVICE), torch.arange(B, device=DEVICE)[:, None] * T // 8
    return place >= pad if kind == "left" else place < T - pad


def relative_error(ours: list[torch.Tensor], exact: list[torch.Tensor]) -> float:
    ours, exact = torch.stack(ours).double(), torch.stack(exact)
    return ((ours - exact).abs().max() / exact.abs().max()).item()


def errors(name: str, dtype: torch.dtype, T: int, kind: str) -> dict:
    """Largest relative error of one implementation, forward and gradients."""
    padding = padding_of(kind, 4, T)
    inputs = random_inputs(4, T, dtype)
    if padding is not None:  # padding is in no loss: no gradient comes back from it
        inputs[-1] = inputs[-1] * padding[:, None, :, None]
    mask = make_mask(T, T, padding) if kind == "left" else None  # on the right, none is needed
    found = forward_backward(ATTENTION[name], inputs, mask)
    exact = forward_backward(ATTENTION["eager"], [x.double() for x in inputs], mask)
    if padding is not None:  # and its answers mean nothing
        found[0], exact[0] = (x * padding[:, None, :, None] for x in (found[0], exact[0]))
    return {
        "forward": relative_error(found[:1], exact[:1]),
        "gradients": relative_error(found[1:], exact[1:]),  # NaN stays NaN
    }


def exactness() -> list[dict]:
    rows = []
    for name in ATTENTION:
        for dtype, tolerance in TOLERANCE.items():
            for T in LENGTHS:
                for kind in ("none", "right", "left"):
                    row = {"implementation": name, "type": str(dtype)[6:], "T": T, "padding": kind}
                    try:
                        found = errors(name, dtype, T, kind)
                    except (ValueError, RuntimeError) as error:
                        rows.append(row | {"error": first_line(error)})
                        continue
                    within = all(value <= tolerance for value in found.values())  # NaN is not
                    found = {key: float(f"{value:.2g}") for key, value in found.items()}
                    rows.append(row | found | {"tolerance": tolerance, "within": within})
    return rows


# -- memory and time


def peak_mib(work) -> float:
    """Memory that `work` holds at most besides what was there before, in MiB."""
    if GPU:
        work()  # the first call may set up workspaces that stay
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as record:
        work()
    events = record.profiler.kineto_results.events()
    changes = [event.nbytes() for event in events if event.name() == "[memory]"]
    return int(torch.tensor(changes).cumsum(0).max()) / 2**20


def milliseconds(work) -> float:
    """Median time of `work`, after three calls to warm up."""
    for _ in range(3):
        work()
    times = []
    for _ in range(ROUNDS):
        if GPU:
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            work()
            end.record()
            torch.cuda.synchronize()
            times.append(begin.elapsed_time(end))
        else:
            started = time.perf_counter()
            work()
            times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


def exponent(sizes: list[int], values: list[float]) -> float:
    """Fit n in: value = constant * size ** n, by least squares of the logarithms."""
    x, y = ([math.log(number) for number in numbers] for numbers in (sizes, values))
    return statistics.linear_regression(x, y).slope


def sweep(name: str, B: int, lengths: list[int]) -> dict:
    """Peak memory and median time of forward and backward for each T, and their growth."""
    result = {"T": [], "MiB": [], "ms": []}
    for T in lengths:
        inputs = random_inputs(B, T, DTYPE)
        work = partial(forward_backward, ATTENTION[name], inputs, None)
        try:
            memory, median = peak_mib(work), milliseconds(work)
        except (ValueError, RuntimeError) as error:
            result[f"T = {T}"] = first_line(error)
            continue
        for key, value in {"T": T, "MiB": round(memory, 2), "ms": round(median, 3)}.items():
            result[key].append(value)
    if len(result["T"]) > 1:
        result["memory grows with T to the power of"] = round(
            exponent(result["T"], result["MiB"]), 2
        )
    return result


# -- the table and the picture


def print_exactness(rows: list[dict]) -> None:
    for row in rows:
        start = f"{row['implementation']:18}{row['type']:9} T {row['T']:4} {row['padding']:6}"
        if "error" in row:
            print(start, row["error"])
        else:
            numbers = f"forward {row['forward']:.1e}  gradients {row['gradients']:.1e}"
            verdict = "within" if row["within"] else "OUTSIDE"
            print(start, numbers, f" {verdict} {row['tolerance']:.1e}")


def print_growth(growth: dict) -> None:
    for size, table in growth.items():
        for name, row in table.items():
            print(f"{size}, {name}", *(f"{key}: {value}" for key, value in row.items()), sep="\n  ")


def draw(growth: dict, path: Path) -> None:
    """Memory and time against T, a row of pictures for each batch size."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(len(growth), 2, figsize=(8, 3 * len(growth)), layout="constrained")
    for row, (size, table) in zip(grid, growth.items(), strict=True):
        for axes, quantity in zip(row, ("MiB", "ms"), strict=True):
            for name, values in table.items():
                axes.plot(values["T"], values[quantity], marker="o", label=name)
            lengths = sorted({T for values in table.values() for T in values["T"]})
            axes.set(xscale="log", yscale="log", xlabel="T, positions", ylabel=quantity)
            axes.set(title=f"{size}, forward and backward", xticks=lengths, xticklabels=lengths)
            axes.minorticks_off()
            axes.legend()
    figure.savefig(path, dpi=80)


def main(results: str) -> None:
    torch.backends.cuda.matmul.allow_tf32 = False  # float32 is to be float32
    os.environ["KINETO_LOG_LEVEL"] = "6"  # the profiler does not announce itself
    warnings.simplefilter("ignore")  # PyTorch says in warnings why a kernel cannot run
    path, default = Path(results), results == str(RESULTS)
    rows = exactness()
    print_exactness(rows)
    growth = {
        size: {name: sweep(name, B, lengths) for name in ATTENTION}
        for size, (B, lengths) in SWEEPS.items()
    }
    print_growth(growth)
    command = "python -m benchmarks.attention" + ("" if default else f" {path.name}")
    result = {
        "command": command,
        "date": date.today().isoformat(),
        "machine": torch.cuda.get_device_name() if GPU else f"CPU, {platform.machine()}",
        "cores": os.cpu_count(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
        "exactness: largest relative error against float64, B=4 H=12 D=64": rows,
        f"memory and time of forward and backward, {str(DTYPE)[6:]}, H=12 D=64": growth,
    }
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    draw(growth, path.with_suffix(".png"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("results", nargs="?", default=str(RESULTS), help="a .json file to write")
    main(**vars(parser.parse_args()))
