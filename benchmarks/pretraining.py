"""What pre-training costs and reaches: `python -m benchmarks.pretraining QUESTION --help`.

`tokenize`: seconds to count words, to learn vocabularies and to encode, on all cores. `speed`:
tokens a second at full size, everything included, and the share of the measured matrix peak. `cpu`:
the same at a small size beside transformers' Trainer, in turns. `trials`: models of at most 20 MB,
each trained on as many tokens. `tiny`: the best of them, trained for as long as there is
time. All but `cpu` share a folder OUT. Each writes results/pretraining-QUESTION.json.
"""

import csv
import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from threading import Event, Thread
from typing import Annotated

import torch
import typer

from benchmarks.common import RESULTS, machine, write_result
from minigpt import OpenAIGPTConfig, OpenAIGPTLMHeadModel, OpenAIGPTTokenizer
from minigpt.bpe import build_vocabulary
from minigpt.pretraining import perplexity, window_starts, windows
from minigpt.training.corpus import learn_vocabulary
from minigpt.training.logs import matrix_peak
from minigpt.training.pretrain import Diverged, PretrainingRecipe, Stopped, pretrain
from minigpt.training.shards import prepare_shards

app = typer.Typer(
    add_completion=False, help=__doc__, rich_markup_mode=None, pretty_exceptions_enable=False
)
DATA = "data"  # in OUT: shards, which all runs there share
FULL = 40478  # GPT-1's vocabulary


def report(name: str, **result) -> None:
    command = f"python -m benchmarks.pretraining {name} ..."
    write_result(f"pretraining-{name}", {"command": command, **machine(), **result})


def vocabulary(out: Path, size: int) -> Path:
    return out / f"vocabulary-{size}"


def table(path: Path) -> list[dict[str, float]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: float(x) for name, x in row.items()} for row in csv.DictReader(file)]


# -- texts to ids


@app.command()
def tokenize(books: Path, out: Path, sizes: str = f"4096 8192 12288 {FULL}") -> None:
    """Learn vocabularies of several sizes from BOOKS, and encode BOOKS with each."""
    workers, seconds, sizes = os.cpu_count(), {}, sorted(map(int, sizes.split()))
    begin = time.perf_counter()

    def lap(what: str) -> None:
        nonlocal begin
        seconds[what], begin = round(time.perf_counter() - begin, 1), time.perf_counter()
        print(what, seconds[what], flush=True)

    largest = learn_vocabulary(books, sizes[-1], workers)
    lap("count words, learn merges")
    characters, lengths = [token for token in largest.vocab if len(token) == 1], {}
    for size in sizes:  # the merges of a smaller vocabulary are the first ones of a larger one
        merges = largest.merges[: size - 2 * len(characters) - 2]
        tokenizer = OpenAIGPTTokenizer(build_vocabulary(characters, merges), merges, "original")
        tokenizer.save_pretrained(vocabulary(out, size))
        lengths[len(tokenizer)] = len(prepare_shards(books, tokenizer, out / DATA, workers))
        lap(f"encode with {len(tokenizer)} tokens")
    size = sum(path.stat().st_size for path in Path(books).rglob("*.txt"))
    facts = {"workers": workers, "megabytes": round(size / 1e6, 1), "seconds": seconds}
    report("tokenize", **facts, **{"tokens of the books": lengths})


# -- speed on a GPU


def work(config) -> int:
    """Operations for a token of a training step: six for each weight, and attention's own."""
    C, T, L = config.n_embd, config.n_positions, config.n_layer
    return 6 * (config.vocab_size * C + 12 * L * C * C) + 12 * L * C * T


@app.command()
def speed(
    books: Path,
    held_out: Path,
    out: Path,
    changes: Annotated[str, typer.Option(help="Of the recipe, as JSON.")] = "{}",
    size: Annotated[int, typer.Option(help="Of the vocabulary.")] = FULL,
) -> None:
    """Train at full size; what comes before the end of the first step (compilation) is apart."""
    recipe = PretrainingRecipe(**{"steps": 500, "dtype": "bfloat16"} | json.loads(changes))
    recipe = replace(recipe, save_every=recipe.steps, measure_every=recipe.steps)
    name = f"speed-{recipe.batch_size}-{recipe.accumulate}"
    begin = time.perf_counter()
    how = {"tokenizer": vocabulary(out, size), "data": out / DATA, "progress": False}
    result = pretrain(books, held_out, out / name, recipe, **how)
    whole = time.perf_counter() - begin
    tokens = recipe.batch_size * recipe.n_positions
    rows = table(out / name / "log.csv")[1:]
    seconds = sum(tokens / row["tokens_per_second"] for row in rows)
    config = OpenAIGPTConfig.from_pretrained(out / name)
    rates = {"steps' own": len(rows) * tokens / seconds, "of the run": result["tokens_per_second"]}
    facts = {
        "recipe": asdict(recipe),
        "tokens per second": {what: round(rate) for what, rate in rates.items()},
        "seconds of the steps but the first": round(seconds, 2),
        "seconds with compilation, measuring, saving": round(whole, 1),
        "loss": [rows[0]["loss"], rows[-1]["loss"]],
        "result": result | {"checkpoint": name},
    }
    if torch.cuda.is_available():
        peak = matrix_peak(torch.device("cuda"), getattr(torch, recipe.dtype))
        facts["matrix peak, TFLOP/s"] = round(peak / 1e12)
        facts["share of the peak"] = round(rates["of the run"] * work(config) / peak, 3)
        facts["peak GiB"] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
    report(name, **facts)


# -- beside transformers' Trainer

SMALL = PretrainingRecipe(  # the shape that `tiny` had first
    steps=25,
    batch_size=4,
    peak=1e-3,
    warmup=10,
    vocab_size=8192,
    n_embd=256,
    n_layer=8,
    n_head=4,
)
WARM = 5  # steps that are not timed


def ours(books: Path, out: Path, tokenizer: str, recipe: PretrainingRecipe) -> float:
    """Seconds of a run's steps behind the first ones."""
    held_out, folder = out / "held-out", out / f"ours-{time.time_ns()}"
    held_out.mkdir(parents=True, exist_ok=True)
    some = next(Path(books).rglob("*.txt")).read_text(encoding="utf-8")[:20_000]
    (held_out / "some.txt").write_text(some, encoding="utf-8")
    how = {"tokenizer": tokenizer, "data": out / DATA, "device": "cpu", "progress": False}
    pretrain(books, held_out, folder, recipe, **how)
    rows = table(folder / "log.csv")[WARM:]
    shutil.rmtree(folder)
    tokens = recipe.batch_size * recipe.n_positions
    return sum(tokens / row["tokens_per_second"] for row in rows)


def theirs(books: Path, out: Path, tokenizer: str, recipe: PretrainingRecipe) -> float:
    """The same with transformers: its model, its Trainer, the same windows in the same order."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    loaded = OpenAIGPTTokenizer.from_pretrained(tokenizer)
    shards, T = prepare_shards(books, loaded, out / DATA), recipe.n_positions
    starts = [window_starts(len(shards), T, recipe, step) for step in range(recipe.steps)]
    rows = windows(shards, torch.cat(starts), T)
    torch.manual_seed(recipe.seed)
    config = recipe.config(len(loaded)).to_diff_dict() | {
        "bos_token_id": None,
        "eos_token_id": None,
    }
    model = transformers.OpenAIGPTLMHeadModel(transformers.OpenAIGPTConfig(**config))
    times = []

    class Clock(transformers.TrainerCallback):
        def on_step_end(self, *_, **__):
            times.append(time.perf_counter())

    arguments = transformers.TrainingArguments(
        output_dir=str(out / "theirs"),
        max_steps=recipe.steps,
        per_device_train_batch_size=recipe.batch_size,
        learning_rate=recipe.peak,
        warmup_steps=recipe.warmup,
        lr_scheduler_type="cosine",
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_norm,
        train_sampling_strategy="sequential",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    dataset = [{"input_ids": row, "labels": row} for row in rows]
    transformers.Trainer(model, arguments, train_dataset=dataset, callbacks=[Clock()]).train()
    return times[-1] - times[WARM - 1]


@app.command(hidden=True)
def once(which: str, books: Path, out: Path, tokenizer: str, changes: str) -> None:
    """One run of `cpu`, in a process of its own."""
    torch.set_num_threads(2)
    recipe = replace(SMALL, **json.loads(changes))
    print({"ours": ours, "theirs": theirs}[which](books, out, tokenizer, recipe))


@app.command()
def cpu(
    books: Path,
    out: Path,
    tokenizer: str = "tiny",
    changes: Annotated[str, typer.Option(help="Of the recipe, as JSON.")] = "{}",
    rounds: int = 3,
) -> None:
    """Train a small model on two cores with `pretrain` and with transformers' Trainer, in turns."""
    import transformers

    recipe, spent = replace(SMALL, **json.loads(changes)), {"ours": [], "theirs": []}
    prepare_shards(books, OpenAIGPTTokenizer.from_pretrained(tokenizer), out / DATA, 2)
    for _ in range(rounds):
        for which, seconds in spent.items():
            arguments = [which, books, out, tokenizer, changes]
            command = [sys.executable, "-m", "benchmarks.pretraining", "once", *arguments]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            seconds.append(float(done.stdout.split()[-1]))
            print(which, seconds[-1], flush=True)
    tokens = (recipe.steps - WARM) * recipe.batch_size * recipe.n_positions
    rates = {name: [round(tokens / s) for s in seconds] for name, seconds in spent.items()}
    middle = {name: statistics.median(values) for name, values in rates.items()}
    report(
        "cpu" if recipe.pdrop else "cpu-without-dropout",
        **{"transformers": transformers.__version__, "recipe": asdict(recipe)},
        **{"tokens per second": rates, "median": middle},
        **{"times transformers' speed": round(middle["ours"] / middle["theirs"], 2)},
    )


# -- the embedded checkpoint

LARGEST = 20_000_000  # bytes of FILES
FILES = "config.json", "model.safetensors", "vocab.json", "merges.txt"
COLLAPSE = 0.3  # nats of held-out loss above the best
BASE = {"peak": 1e-3, "batch_size": 128, "warmup": 500, "pdrop": 0.0}
SHAPES = (  # vocab_size, n_embd, n_layer, n_head
    (8192, 256, 8, 4),  # what `tiny` was
    (4096, 320, 6, 5),
    (8192, 320, 5, 5),
    (4096, 256, 11, 4),
    (12288, 256, 8, 4),
)
CHANGES = ({"peak": 2e-3}, {"batch_size": 64}, {"batch_size": 256}, {"peak": 5e-4})


def train_small(
    folders: tuple[Path, Path, Path], fields: dict, name: str, steps: int, parts: int
) -> tuple[dict, PretrainingRecipe]:
    """Train for some steps; return result and recipe. `parts`: how often is measured on the way."""
    books, held_out, out = folders
    how = {"tokenizer": vocabulary(out, fields["vocab_size"]), "data": out / DATA}
    kind = {"dtype": "float16" if torch.cuda.is_available() else "float32"}
    every = math.ceil(steps / parts)
    when = {"save_every": every, "measure_every": every, "keep": 1}
    recipe = PretrainingRecipe(**kind | fields | when, steps=steps)
    recipe = replace(recipe, warmup=min(recipe.warmup, steps // 4))
    return pretrain(books, held_out, out / name, recipe, **how, progress=False), recipe


def size_of(fields: dict, out: Path) -> int:
    """Bytes of the checkpoint in float16, and of its tokenizer."""
    V, C, L, T = *(fields[name] for name in ("vocab_size", "n_embd", "n_layer")), 512
    numbers = V * C + T * C + L * (12 * C * C + 13 * C)
    return 2 * numbers + sum((vocabulary(out, V) / x).stat().st_size for x in FILES[2:])


@app.command()
def trials(
    books: Path,
    held_out: Path,
    out: Path,
    tokens: Annotated[int, typer.Option(help="That each reads.")] = 10**8,
    extra: Annotated[str, typer.Option(help="Of all recipes, as JSON.")] = "{}",
) -> None:
    """Train the SHAPES, then CHANGES of the best one, each on as many tokens."""
    rows = []

    def attempt(fields: dict) -> None:
        begin, steps = time.perf_counter(), tokens // (512 * fields["batch_size"])
        row = {"fields": fields, "bytes": size_of(fields, out), "steps": steps}
        if row["bytes"] > LARGEST:
            print("left out", row, flush=True)
            return
        try:
            name = f"trial-{len(rows)}"
            result, _ = train_small((books, held_out, out), fields, name, steps, 1)
            names = "loss", "perplexity", "perplexity_per_word", "tokens_per_second"
            row |= {name: result[name] for name in names}
        except Exception as error:  # a trial that fails must not end the others
            row["error"] = f"{type(error).__name__}: {error!s:.300}"
        torch.compiler.reset()
        rows.append(row | {"seconds": round(time.perf_counter() - begin, 1)})
        print(rows[-1], flush=True)
        report("trials", **{"tokens, each": tokens, "trials": rows})

    common = BASE | json.loads(extra)
    for shape in SHAPES:
        names = "vocab_size", "n_embd", "n_layer", "n_head"
        attempt(dict(zip(names, shape, strict=True)) | common)
    best = best_of(rows)
    for change in CHANGES:
        attempt(best | change)


def best_of(rows: list[dict]) -> dict:
    done = [row for row in rows if "error" not in row]
    return min(done, key=lambda row: row["perplexity_per_word"])["fields"]


class Watch(Thread):
    """Stops this process's run when its held-out loss has risen far above the best one."""

    def __init__(self, path: Path):
        super().__init__(daemon=True)
        self.path, self.done, self.collapsed = path, Event(), False

    def run(self) -> None:
        while not self.done.wait(3):
            losses = (
                [row["held_out_loss"] for row in table(self.path)] if self.path.exists() else []
            )
            if losses and losses[-1] > min(losses) + COLLAPSE:
                self.collapsed = True
                os.kill(os.getpid(), signal.SIGTERM)
                return


@app.command()
def tiny(
    books: Path,
    held_out: Path,
    out: Path,
    seconds: float,
    changes: Annotated[str, typer.Option(help="Of the best trial's recipe, as JSON.")] = "{}",
) -> None:
    """Train the best of the trials for SECONDS; write it in float16 to OUT/tiny-float16.

    If the run collapses, another one with half the rate gets the time that is left.
    """
    begin, number = time.perf_counter(), 0
    folders = books, held_out, out

    def left() -> float:  # a twentieth is for measuring
        return 0.95 * (seconds - (time.perf_counter() - begin)) - 15

    rows = json.loads((RESULTS / "pretraining-trials.json").read_text(encoding="utf-8"))["trials"]
    fields = best_of(rows) | json.loads(changes)
    while True:
        folder = out / f"tiny-{number}"
        watch = Watch(folder / "measured.csv")
        watch.start()
        try:
            probe, recipe = train_small(folders, fields, f"{folder.name}-probe", 40, 1)
            size = recipe.batch_size * recipe.n_positions
            steps = int(left() * probe["tokens_per_second"] / size)
            train_small(folders, fields, folder.name, steps, 12)
        except (Stopped, Diverged) as error:
            print(f"{error}", fields, flush=True)
            watch.collapsed |= isinstance(error, Diverged)
        watch.done.set()
        if not watch.collapsed or left() < seconds / 4:
            break
        number, fields = number + 1, fields | {"peak": fields["peak"] / 2}
        torch.compiler.reset()
    spent = time.perf_counter() - begin
    runs = [out / f"tiny-{i}" for i in range(number + 1)]
    best = min(runs, key=lambda run: min(x["held_out_loss"] for x in table(run / "measured.csv")))
    finish_tiny(held_out, out, best, round(spent))


def finish_tiny(held_out: Path, out: Path, run: Path, seconds: int) -> None:
    """Write the best model of a run in float16, measure what was written, tell how it was made."""
    OpenAIGPTLMHeadModel.from_pretrained(run, dtype=torch.float16).save_pretrained(
        out / "tiny-float16"
    )
    tokenizer = OpenAIGPTTokenizer.from_pretrained(run, text_pipeline="original")
    tokenizer.save_pretrained(out / "tiny-float16")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = OpenAIGPTLMHeadModel.from_pretrained(
        out / "tiny-float16", dtype=torch.float32, device=device
    )
    text = prepare_shards(held_out, tokenizer, out / DATA)
    value = perplexity(
        model, torch.from_numpy(text[:]), lambda batch: model(batch, labels=batch).loss
    )
    losses = [row["loss"] for row in table(run / "log.csv")]
    measured = table(run / "measured.csv")
    report(
        "tiny",
        config=model.config.to_dict(),
        **json.loads((run / "recipe.json").read_text(encoding="utf-8")),
        seconds=seconds,
        bytes=sum((out / "tiny-float16" / x).stat().st_size for x in FILES),
        tokens_held_out=len(text),
        words_held_out=text.words,
        perplexity=round(value, 2),
        perplexity_per_word=round(value ** (len(text) / text.words), 2),
        perplexity_while_training={int(row["step"]): row["perplexity"] for row in measured},
        loss_every_50_steps=[
            round(statistics.mean(losses[a:b]), 3)
            for a, b in pairwise(range(0, len(losses) + 1, 50))
        ],
    )


if __name__ == "__main__":
    app()
