"""The paper's run, small: `python -m benchmarks.paper QUESTION --help`.

`pretrain`: GPT-1's shape on a folder of books, with checkpoints on the way. `tasks`: that model
fine-tuned for five tasks, beside controls: random parameters, no auxiliary loss, only the first
blocks, less pre-training, other rates; and the scores without training of each checkpoint.
`bag`: a bag of words on the same tasks. `tell`: medians and spread of all of it.
Each writes results/paper-QUESTION.json; the data are the files of GLUE and of the Winograd schemas.
"""

import csv
import json
import multiprocessing
import statistics
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

import torch
import typer

from benchmarks.common import RESULTS, machine, write_result
from minigpt import OpenAIGPTLMHeadModel, OpenAIGPTModel, OpenAIGPTTokenizerFast
from minigpt.training.datasets import PAPER_TASKS, load_task, metrics
from minigpt.training.finetune import TaskRecipe, TaskRun, speed_up, summary
from minigpt.training.logs import matrix_peak
from minigpt.training.pretrain import PretrainingRecipe
from minigpt.training.pretrain import pretrain as train
from minigpt.training.zero_shot import zero_shot

app = typer.Typer(
    add_completion=False, help=__doc__, rich_markup_mode=None, pretty_exceptions_enable=False
)
GLUE = {"cola": "CoLA", "sst2": "SST-2", "mrpc": "MRPC", "stsb": "STS-B", "rte": "RTE"}
ZERO_SHOT = {"winograd": "winograd", "cola": "glue/CoLA", "sst2": "glue/SST-2"}
LAYERS = {"task": "sst2", "limit": 8000}  # of which figure 2 (left) is made
NOTHING, ALL = -1, 12  # blocks that are taken from the pre-trained model; 0: the embeddings alone
SEEDS = 3
DOUBTFUL = "mrpc", "rte", "stsb"  # the small ones: why does pre-training help here or not?


def report(name: str, **result) -> None:
    command = f"python -m benchmarks.paper {name} ..."
    write_result(f"paper-{name}", {"command": command, **machine(), **result})


def table(path: Path) -> list[dict[str, float]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: float(x) for name, x in row.items()} for row in csv.DictReader(file)]


@app.command()
def pretrain(
    books: Path, held_out: Path, out: Path, tokenizer: Path, steps: int, changes: str = "{}"
) -> None:
    """Train for STEPS; CHANGES of the paper's recipe are JSON. Every checkpoint is kept."""
    every = max(1, steps // 11)
    fields = {"save_every": every, "measure_every": every, "keep": 20} | json.loads(changes)
    recipe, begin = PretrainingRecipe(steps=steps, **fields), time.perf_counter()
    result = train(books, held_out, out, recipe, tokenizer=tokenizer, progress=False)
    seconds, losses = time.perf_counter() - begin, [row["loss"] for row in table(out / "log.csv")]
    for folder in out.glob("checkpoints/step-*"):
        OpenAIGPTTokenizerFast.from_pretrained(out).save_pretrained(folder)
    model = OpenAIGPTLMHeadModel.from_pretrained(out)
    C, T, L = model.config.n_embd, recipe.n_positions, model.config.n_layer
    work = 6 * model.num_parameters() + 12 * L * C * T  # operations for a token
    facts = {
        "recipe": asdict(recipe),
        "seconds": round(seconds),
        "parameters": model.num_parameters(),
    }
    facts |= {"tokens": steps * recipe.batch_size * T, "result": result | {"checkpoint": out.name}}
    if torch.cuda.is_available():
        peak = matrix_peak(torch.device("cuda"), getattr(torch, recipe.dtype))
        facts["matrix peak, TFLOP/s"] = round(peak / 1e12)
        facts["share of the peak"] = round(result["tokens_per_second"] * work / peak, 3)
    means = [statistics.mean(losses[i : i + 100]) for i in range(0, len(losses), 100)]
    facts |= {"held out": table(out / "measured.csv"), "loss of 100 steps": means}
    report("pretrain", **facts, samples=(out / "samples.txt").read_text(encoding="utf-8"))


# -- jobs: a fine-tuning, or the zero-shot scores of a checkpoint


def checkpoint(model: Path, step: int) -> Path:
    return model / "checkpoints" / f"step-{step:08}"


def forget(network: OpenAIGPTModel, blocks: int, seed: int) -> None:
    """Make parameters random but those of the embeddings and of the first `blocks`."""
    torch.manual_seed(seed)
    fresh = OpenAIGPTModel(network.config).state_dict()
    for name, parameter in network.named_parameters():
        number = int(name.split(".")[1]) if name.startswith("h.") else -1
        if number >= blocks:
            parameter.data.copy_(fresh[name])


def fine_tuned(data: Path, model: Path, job: dict) -> dict:
    """Fine-tune as `minigpt finetune` does, but keep the scores alone: one row an epoch."""
    fields = {name: x for name, x in job.items() if name not in ("kind", "blocks", "step")}
    model = checkpoint(model, job["step"]) if "step" in job else model
    recipe = TaskRecipe(model=str(model), **fields)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = TaskRun(Path("/nowhere"), recipe, data / "glue" / GLUE[recipe.task], device)
    run.write = lambda *_: None
    forget(run.network.transformer, job["blocks"], recipe.seed)
    speed_up(run.network, recipe.steps, "bfloat16" if device.type == "cuda" else None, False)
    run.run(progress=False)
    return {"epochs": run.epochs}


def untrained(data: Path, model: Path, job: dict) -> dict:
    """Score one of the checkpoints on all tasks of `ZERO_SHOT`."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = OpenAIGPTLMHeadModel.from_pretrained(checkpoint(model, job["step"]), device=device)
    tokenizer = OpenAIGPTTokenizerFast.from_pretrained(model)
    return {x: zero_shot(x, data / ZERO_SHOT[x], network, tokenizer) for x in ZERO_SHOT}


def perform(data: Path, model: Path, job: dict) -> dict:
    torch.set_num_threads(1)
    if count := torch.cuda.device_count():
        number = int(multiprocessing.current_process().name.rpartition("-")[2])
        torch.cuda.set_device(number % count)
    torch.set_float32_matmul_precision("high")
    begin = time.perf_counter()
    found = (untrained if job["kind"] == "zero-shot" else fine_tuned)(data, model, job)
    return job | found | {"seconds": round(time.perf_counter() - begin, 1)}


def jobs(model: Path) -> list[dict]:
    """List what is measured, the most important first."""
    seeds, found = range(SEEDS), []

    def add(kind: str, seed: int, blocks: int, **changes) -> None:
        found.append({"kind": kind, "blocks": blocks, "seed": seed} | changes)

    for blocks, kind in ((ALL, "pre-trained"), (NOTHING, "random")):
        for task in sorted(GLUE, key=lambda task: task != "sst2"):  # the longest first
            for seed in seeds:
                add(kind, seed, blocks, task=task)
    for task in sorted(GLUE, key=lambda task: task != "sst2"):
        for seed in seeds:
            add("no auxiliary loss", seed, ALL, task=task, lm_coef=0.0)
    steps = sorted(int(path.name[5:]) for path in model.glob("checkpoints/step-*"))
    found += [{"kind": "zero-shot", "step": step} for step in steps]
    for seed in seeds:
        for blocks in range(NOTHING, ALL + 1):
            add("layers", seed, blocks, **LAYERS)
    for task in DOUBTFUL:
        for seed in seeds:
            for blocks, kind in ((ALL, "pre-trained"), (NOTHING, "random")):
                add(f"{kind}, 10 epochs", seed, blocks, task=task, epochs=10)
            for rate in (2e-5, 1.5e-4):
                add(f"rate {rate}", seed, ALL, task=task, rate=rate)
            for step in (steps[0], steps[len(steps) // 2]):
                add(f"{step} updates", seed, ALL, task=task, step=step)
    return found


@app.command()
def tasks(data: Path, model: Path, processes: int = 10, changes: str = "{}") -> None:
    """Perform all jobs, several at a time; DATA holds glue and winograd, MODEL is `pretrain`'s OUT.

    Each result is a line of results/paper-tasks.jsonl at once; a second call does the others.
    """
    path, common = RESULTS / "paper-tasks.jsonl", json.loads(changes)
    done = [json.loads(line) for line in path.open(encoding="utf-8")] if path.exists() else []
    left = [job if job["kind"] == "zero-shot" else job | common for job in jobs(model)]
    left = [job for job in left if not any(job.items() <= row.items() for row in done)]
    report("tasks", jobs=len(left), processes=processes, changes=common)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, spawn) as pool, path.open("a", encoding="utf-8") as file:
        for future in as_completed([pool.submit(perform, data, model, job) for job in left]):
            try:
                print(json.dumps(future.result()), file=file, flush=True)
            except Exception as error:  # one that fails must not end the others
                print(f"FAILED: {type(error).__name__}: {error!s:.300}", flush=True)
    print(len(left), "jobs", flush=True)


# -- the other baseline


@app.command()
def bag(data: Path) -> None:
    """Logistic regression on counted words: of the first text, of the second, of both."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression, Ridge

    found = {}
    for name, folder in GLUE.items():
        task, parts = PAPER_TASKS[name], {}
        for split in ("train", "dev"):
            examples = load_task(task, data / "glue" / folder, split)
            texts = list(zip(*(example.texts for example in examples), strict=True))
            if split == "train":
                words = CountVectorizer(token_pattern=r"\S+", binary=True)
                words.fit([text for column in texts for text in column])
            counts = [words.transform(column) for column in texts]
            shared = [counts[0].minimum(counts[1])] if len(counts) == 2 else []
            parts[split] = hstack(counts + shared).tocsr(), [x.label for x in examples]
        learner = LogisticRegression(max_iter=2000) if task.labels else Ridge(alpha=10.0)
        learner.fit(*parts["train"])
        answers = learner.predict(parts["dev"][0]).tolist()
        found[name] = metrics(task, answers, parts["dev"][1])
        print(name, found[name], flush=True)
    report("bag", scores=found)


# -- all of it, short

PAPER = {"cola": 45.4, "sst2": 91.3, "mrpc": 82.3, "stsb": 82.0, "rte": 56.0}  # test sets
ASSET = Path(__file__).parents[1] / "minigpt/assets/paper.json"


def spread(task: str, results: list[dict]) -> list[float]:
    """Return median, lowest and highest of a task's first score, in percent."""
    found = summary(results)[PAPER_TASKS[task].metrics[0]]
    return [round(100 * x, 1) for x in found.values()]


def short(run: dict, bag: dict, rows: list[dict]) -> dict:
    """Choose what notebooks and README show. Fine-tuned scores are those after the last epoch."""
    names = "machine", "versions", "date", "parameters", "tokens", "seconds", "share of the peak"
    found = {name: run[name] for name in names}
    found["tokens per second"] = run["result"]["tokens_per_second"]
    names = "step", "perplexity", "perplexity_per_word"
    found["held out"] = [[round(row[name], 1) for name in names] for row in run["held out"]]
    metric, scores = {name: PAPER_TASKS[name].metrics[0] for name in GLUE}, defaultdict(list)
    for row in rows:
        if row["kind"] != "zero-shot":
            key = row["task"], row["kind"], row["blocks"] if row["kind"] == "layers" else ""
            scores[key].append(row["epochs"][-1])
    found["tasks"] = {
        task: {"metric": metric[task], "paper": PAPER[task]}
        | {"bag of words": round(100 * bag["scores"][task][metric[task]], 1)}
        | {
            kind: spread(task, x)
            for (of, kind, _), x in scores.items()
            if of == task and kind != "layers"
        }
        for task in GLUE
    }
    layers = {n: scores[LAYERS["task"], "layers", n] for n in range(NOTHING, ALL + 1)}
    if min(map(len, layers.values())) == SEEDS:
        found["layers"] = {n: spread(LAYERS["task"], x) for n, x in layers.items()}
    points = [row for row in rows if row["kind"] == "zero-shot"]
    found["zero-shot"] = {
        task: sorted([row["step"], round(100 * row[task][name], 1)] for row in points)
        for task, name in (metric | {"winograd": "accuracy"}).items()
        if task in ZERO_SHOT
    }
    return found


def draw(found: dict) -> None:
    """Draw the paper's figure 2: transfer of blocks, and scores while the model learns."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
    middle, low, high = zip(*found["layers"].values(), strict=True)
    left.vlines(range(NOTHING, ALL + 1), low, high, "C0", linewidth=3, alpha=0.4)
    left.plot(range(NOTHING, ALL + 1), middle, "o-")
    left.set_xticks(range(NOTHING, ALL + 1), ["none", "\nemb.", *range(1, ALL + 1)])
    left.set(title="SST-2, fine-tuned (8,000 examples)", xlabel="last block that is pre-trained")
    names = {"cola": "CoLA (Matthews)", "sst2": "SST-2", "winograd": "Winograd"}
    for (task, name), style in zip(names.items(), ("o-", "s--", "^:"), strict=True):
        right.plot(*zip(*found["zero-shot"][task], strict=True), style, label=name)
    right.set(title="Zero-shot", xlabel="updates of pre-training", ylim=(-10, 100))
    right.legend()
    for axes in (left, right):
        axes.set_ylabel("percent")
    figure.savefig(RESULTS / "paper.png", dpi=90)


@app.command()
def tell() -> None:
    """Write medians and spread of the seeds for the notebooks, print them, draw figure 2."""
    run, bag = (
        json.loads((RESULTS / f"paper-{name}.json").read_text(encoding="utf-8"))
        for name in ("pretrain", "bag")
    )
    with (RESULTS / "paper-tasks.jsonl").open(encoding="utf-8") as file:
        found = short(run, bag, [json.loads(line) for line in file])
    ASSET.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    draw(found)
    for name, task in found["tasks"].items():
        print(name, task.pop("metric"))
        for kind, told in task.items():
            print(kind, "{} ({} to {})".format(*told) if isinstance(told, list) else told, sep="|")


if __name__ == "__main__":
    app()
