"""Pre-training on 1, 2, 4 and 8 GPUs of one host: `python -m benchmarks.scaling`.

For each number of GPUs there are, torchrun starts the training step of `minigpt pretrain` (full
size, bfloat16, compiled, 32 x 512 tokens a GPU), with DDP and with FSDP2. It measures tokens a
second, efficiency against one GPU, the share of the measured matrix peak and the memory of each
GPU. A profile of the first GPU says how long communication lasts, and how much of it no computing
hides. The ids are random: reading texts is measured by benchmarks/pretraining.py. `--dry` tries
all of it with one and two processes on the CPU, with gloo and a tiny model, and writes
results/scaling-dry.json, else results/scaling.json; it takes about a minute for each line on GPUs.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch.profiler import ProfilerActivity, profile

from benchmarks.common import machine, write_result
from minigpt.training.logs import matrix_peak
from minigpt.training.pretrain import PretrainingRecipe
from minigpt.training.processes import Processes
from minigpt.training.trainer import Trainer

COUNTS = (1, 2, 4, 8)
WARM, ROUNDS, STEPS, PROFILED = 6, 3, 20, 5  # steps: not timed; then rounds of so many
FULL = {"vocab_size": 40478, "dtype": "bfloat16"}
SMALL = {"vocab_size": 500, "n_positions": 64, "n_embd": 64, "n_layer": 2, "n_head": 2}
KERNELS = ("kernel", "gpu_memcpy", "gpu_memset"), "nccl"  # kinds in a trace, name of communication
OPERATIONS = ("cpu_op", "user_annotation"), "gloo"
SEEN = {True: ProfilerActivity.CUDA, False: ProfilerActivity.CPU}


# -- one process of a run


def covered(spans: list[tuple[float, float]]) -> float:
    """Return how long at least one of the spans, (start, end), lasts."""
    total, last = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, last))
        last = max(last, end)
    return total


def split_time(trace: list[dict], kinds: tuple[str, ...], mark: str) -> dict[str, float]:
    """Say how long a device computed, communicated and waited: milliseconds a step.

    "exposed": the part of the communication during which nothing was computed.
    """
    found = [x for x in trace if x.get("cat") in kinds and "dur" in x]
    spans = [(x["ts"], x["ts"] + x["dur"], mark in x["name"].lower()) for x in found]
    everything, computing, talking = (
        covered([(a, b) for a, b, talks in spans if talks in wanted])
        for wanted in ((True, False), (False,), (True,))
    )
    whole = max((b for _, b, _ in spans), default=0) - min((a for a, _, _ in spans), default=0)
    parts = {"computing": computing, "communication": talking, "exposed": everything - computing}
    parts["idle"] = whole - everything
    return {name: round(x / 1000 / PROFILED, 3) for name, x in parts.items()}


def worker(fsdp: bool = False, dry: bool = False) -> None:
    """Train in one of the processes; the first one prints what was measured, as JSON."""
    processes = Processes("cpu" if dry else "cuda")
    rank, world, is_gpu = processes.rank, processes.world, not dry
    recipe = PretrainingRecipe(steps=10**6, batch_size=32 * world, **SMALL if dry else FULL)
    ids = torch.randint(recipe.vocab_size, (2**20,), generator=torch.Generator().manual_seed(0))
    trainer, step, seconds = (
        Trainer(recipe.config(recipe.vocab_size), recipe, processes, fsdp),
        0,
        [],
    )

    def steps(count: int) -> float:
        nonlocal step
        begin = time.perf_counter()
        for _ in range(count):
            loss, _ = trainer.step(ids, step)
            step += 1
        loss.item()  # waits for the device
        processes.total(torch.zeros(1, device=trainer.device)).item()  # and for the others
        return time.perf_counter() - begin

    with processes.together():
        first = steps(WARM)
        seconds = [steps(STEPS) / STEPS for _ in range(ROUNDS)]
        memory = torch.zeros(world, device=trainer.device, dtype=torch.float64)
        memory[rank] = torch.cuda.max_memory_allocated() / 2**30 if is_gpu else 0
        memory = processes.total(memory).tolist()
        with profile(activities=[SEEN[is_gpu]]) as watched:
            steps(PROFILED)
        if rank == 0:
            with tempfile.TemporaryDirectory() as folder:
                watched.export_chrome_trace(f"{folder}/trace.json")
                trace = json.loads(Path(folder, "trace.json").read_bytes())["traceEvents"]
            parts = split_time(trace, *KERNELS if is_gpu else OPERATIONS)
            kind = getattr(torch, recipe.dtype)
            peak = matrix_peak(trainer.device, kind, 8192 if is_gpu else 512)
            rates = [recipe.batch_size * recipe.n_positions / x for x in seconds]
            share = statistics.median(rates) * trainer.work() / (peak * world)
            facts = {"batch a GPU": [32, recipe.n_positions]}
            facts |= {"tokens/s": [round(x) for x in rates], "matrix peak, TFLOP/s": peak / 1e12}
            facts |= {"share of the peak": round(share, 3), "milliseconds a step": parts}
            facts |= {"peak GiB": [round(x, 2) for x in memory], "seconds before": round(first, 1)}
            print(json.dumps(facts))


# -- all runs


def run(gpus: int, fsdp: bool, dry: bool) -> dict:
    """Start the processes of one run; return what was measured, or the error."""
    flags = [name for name, wanted in (("--fsdp", fsdp), ("--dry", dry)) if wanted]
    start = ["torch.distributed.run", "--standalone", f"--nproc-per-node={gpus}", "-m"]
    command = [sys.executable, "-m", *start, "benchmarks.scaling", *flags]
    row = {"gpus": gpus, "how": "FSDP2" if fsdp else "DDP" if gpus > 1 else "one process"}
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return row | {"error": done.stderr[:3000]}
    return row | json.loads(done.stdout.splitlines()[-1])


def measure(
    gpus: Annotated[str, typer.Option(help="Numbers of GPUs; default: 1 2 4 8, if there.")] = "",
    dry: Annotated[bool, typer.Option(help="Two processes on the CPU, a tiny model.")] = False,
) -> None:
    """Run every number of GPUs, with DDP and with FSDP2, one after the other."""
    most = 2 if dry else torch.cuda.device_count()
    counts = [int(n) for n in gpus.split()] or [n for n in COUNTS if n <= most]
    begin, rows, facts = time.perf_counter(), [], machine()
    facts["versions"]["nccl"] = None if dry else ".".join(map(str, torch.cuda.nccl.version()))
    for count in counts:
        for fsdp in (False, True)[: 1 if count == 1 else 2]:
            row = run(count, fsdp, dry)
            if "error" not in row and rows and "error" not in rows[0]:
                rate, one = (statistics.median(x["tokens/s"]) for x in (row, rows[0]))
                row["efficiency"] = round(rate / one * rows[0]["gpus"] / count, 3)
                pair = (x["milliseconds a step"].items() for x in (row, rows[0]))
                gap = {name: round(a - b, 3) for (name, a), (_, b) in zip(*pair, strict=True)}
                row["milliseconds more than the first run"] = gap
            rows.append(row)
            what = {"command": "python -m benchmarks.scaling", **facts}
            what["seconds of all runs"] = round(time.perf_counter() - begin)
            write_result("scaling-dry" if dry else "scaling", what | {"runs": rows})


if __name__ == "__main__":
    typer.run(worker if "RANK" in os.environ else measure)  # torchrun sets it
