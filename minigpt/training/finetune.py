"""Fine-tuning that survives: the files of a task in, the best model and its scores out."""

import math
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from minigpt.finetuning import FineTuning, fine_tune
from minigpt.hf.files import json_writer, naming, read_json, save_files
from minigpt.hf.loading import find_device
from minigpt.pretraining import make_optimizer

from .checkpoints import STATE
from .datasets import PAPER_TASKS, DataSet, find_task, load_task, metrics, write_predictions
from .dropout import ShortDropout
from .graphs import MOST, graphed
from .loop import READ_EVERY, RECIPE, Run, find_run
from .task_model import Items, Network, bucketed, open_finetuned, open_pretrained, predict

RESULT = "result.json"
ABSURD = 3  # times the loss of guessing: a run with such losses is lost


@dataclass
class TaskRecipe(FineTuning):
    """How a model learns a task; the defaults are the paper's. Source: section 4.1."""

    steps: int | None = None  # those of the epochs
    task: str = "csv"  # or a name of `PAPER_TASKS`
    model: str = "tiny"  # what was pre-trained: folder or name on the hub
    epochs: int = 3
    batch_size: int = 32
    seed: int = 0
    limit: int | None = None  # train with so many examples, which the seed chooses
    text_column: str = "text"  # of "csv"
    second_column: str | None = None  # for two texts, of which the second may follow
    label_column: str = "label"


class TaskRun(Run):
    """A fine-tuning: its batches, the scores after each epoch, and what is saved."""

    remedy = "pass a lower --rate, and another folder"
    kept = ("epochs", "losses")

    def __init__(self, out: Path, recipe: TaskRecipe, folder: DataSet, device: torch.device):
        self.began = time.perf_counter()
        columns = [*filter(None, (recipe.text_column, recipe.second_column))]
        self.task = task = find_task(recipe.task, folder, columns, recipe.label_column)
        train, dev = (load_task(task, folder, split) for split in ("train", "dev"))
        if recipe.limit and recipe.limit < len(train):
            train = random.Random(recipe.seed).sample(train, recipe.limit)
        self.network, tokenizer = open_pretrained(task, recipe.model, recipe.seed)
        config, self.tokenizer = self.network.to(device).config, tokenizer
        self.train, self.dev = (Items(task, x, tokenizer, config.n_positions) for x in (train, dev))
        self.per_epoch = math.ceil(len(train) / recipe.batch_size)
        recipe.steps = recipe.epochs * self.per_epoch
        every = self.per_epoch, self.per_epoch
        super().__init__(out, recipe, device, [len(train), len(dev)], every)
        self.optimizer = make_optimizer(self.network, recipe.weight_decay)
        worst = max(map(abs, self.train.labels))
        guessing = math.log(len(task.labels)) if task.labels else worst * worst
        self.most = ABSURD * (guessing + max(recipe.lm_coef, 1) * math.log(config.vocab_size))
        self.epochs, self.losses = [], []
        if (path := out / STATE).is_file():
            with naming(path):
                state = torch.load(path, map_location="cpu", weights_only=True)
                self.go_on(state)
                self.network.load_state_dict(state["network"])
                self.optimizer.load_state_dict(state["optimizer"])

    def write(self, better: dict | None) -> None:
        if better:
            self.network.save(self.out, self.recipe.task, self.tokenizer)
            self.best = better
        parts = {name: getattr(self, name).state_dict() for name in ("network", "optimizer")}
        save_files(self.out, {STATE: partial(torch.save, self.state() | parts)})

    def batches(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield the batches from this step on. All random numbers follow from seed and step."""
        recipe = self.recipe
        for epoch in range(self.step // self.per_epoch, recipe.epochs):
            batches = bucketed(self.train.lengths, recipe.batch_size, (recipe.seed, epoch))
            for chosen in batches[self.step % self.per_epoch :]:
                torch.manual_seed(2**32 * recipe.seed + self.step)
                yield tuple(self.train.batch(chosen, self.device))

    def steps(self) -> Iterator[Tensor]:
        rest = fine_tune(self.network, self.batches(), self.recipe, self.optimizer, self.step)
        return (loss.clone() for loss in rest)  # a CUDA graph overwrites its results

    def look(self) -> bool:
        """Read the losses since the last look; say whether to stop."""
        self.losses += torch.stack(self.pending).tolist()
        recent = statistics.fmean(self.losses[-READ_EVERY:])
        self.bar.set_postfix(loss=f"{recent:.3f}")
        self.check(recent, self.step, self.most)
        return bool(self.caught)

    def measure(self) -> dict | None:
        """Score the epoch that ends; return the row if it is the best one."""
        found = predict(self.task, self.network, self.dev, not self.bar.disable)
        self.network.train()
        row = {"epoch": len(self.epochs) + 1, "loss": statistics.fmean(self.losses)}
        row |= metrics(self.task, found, self.dev.labels)
        self.epochs, self.losses, first = [*self.epochs, row], [], self.task.metrics[0]
        return row if not self.best or row[first] > self.best[first] else None

    def result(self) -> dict:
        """Return what `--json` shows: the scores of the best model, in OUT, and of all epochs."""
        best = {name: self.best[name] for name in self.task.metrics} if self.best else {}
        seconds = round(time.perf_counter() - self.began, 2)
        result = {"task": self.recipe.task, **best, "examples": len(self.dev.labels)}
        result |= {"seconds": seconds, "train_examples": len(self.train.labels)}
        return result | {"epochs": self.epochs, "model": str(self.out)}


def speed_up(network: Network, dtype: str | None, most: int = 0) -> None:
    """Let training compute products in `dtype`, and use what makes steps of this device short.

    `most`: the tokens of the largest batch.
    """
    is_gpu = network.device.type == "cuda"
    dtype = dtype or ("bfloat16" if is_gpu and torch.cuda.is_bf16_supported(False) else "float32")
    how = {"enabled": dtype != "float32", "cache_enabled": False}  # which graphs cannot have
    cast = torch.autocast(network.device.type, getattr(torch, dtype), **how)
    network.forward = cast(network.forward)
    if network.device.type == "cpu":
        network.forward = ShortDropout()(network.forward)
    elif is_gpu and most <= MOST:
        network.forward = graphed(network, network.forward)


def finetune(
    task: str,
    folder: DataSet,  # with the owners' files; or the rows of each split, as in a `DatasetDict`
    out: str | Path,  # folder for the best model
    model: str | Path = "tiny",
    *,
    device: int | str | torch.device = "auto",  # the GPU if there is one
    resume: bool = False,  # go on with the run in `out`
    dtype: str | None = None,  # "float32", or "bfloat16", by default on a GPU that has it
    progress: bool = True,
    **settings,  # of `TaskRecipe`: epochs=3, batch_size=32, rate=6.25e-5, seed=0, ...
) -> dict:
    """Fine-tune a model for a task as the paper does, and keep the best of all epochs in `out`.

    Returns its scores on dev, how many `examples` these are, `seconds`, and the scores of all
    `epochs`. Raises ValueError, OSError or ImportError before the first step for what cannot be
    trained; `Diverged`; and `Stopped` if SIGINT or SIGTERM stopped it.
    """
    out, recipe = Path(out), TaskRecipe(task=task, model=str(model), **settings)
    if not (find_run(out, recipe, resume) and (out / RESULT).is_file()):
        run = TaskRun(out, recipe, folder, find_device(device))
        save_files(out, {RECIPE: json_writer(asdict(recipe))})
        speed_up(run.network, dtype, run.train.largest(recipe.batch_size))
        save_files(out, {RESULT: json_writer(run.run(progress))})
    (out / STATE).unlink(missing_ok=True)
    return read_json(out / RESULT)


def evaluate(
    task: str,
    folder: DataSet,  # as for `finetune`
    model: str | Path,  # that was fine-tuned for it
    split: str = "dev",
    predictions: str | Path | None = None,  # a file for them: see `write_predictions`
    *,
    text_column: str = "text",
    second_column: str | None = None,
    label_column: str = "label",
    device: int | str | torch.device = "auto",
    progress: bool = True,
) -> dict:
    """Return the scores of a model on a split, without them if its labels are not public.

    Also how many `examples` these are, and `seconds`. Raises ValueError for a model of another
    task, and the errors of `load_task`.
    """
    path = Path(predictions or RESULT)
    if predictions and (path.exists() and not path.is_file() or not path.parent.is_dir()):
        raise FileNotFoundError(f"{predictions} is no file in a folder that exists; pass one")
    began, columns = time.perf_counter(), [*filter(None, (text_column, second_column))]
    found, network, tokenizer = open_finetuned(task, folder, model, columns, label_column)
    network.to(find_device(device))
    examples = load_task(found, folder, split)
    items = Items(found, examples, tokenizer, network.config.n_positions)
    answers = predict(found, network, items, progress)
    if predictions:
        write_predictions(predictions, found, answers)
    scores = {} if None in items.labels else metrics(found, answers, items.labels)
    seconds = round(time.perf_counter() - began, 2)
    return {"task": task, "split": split, **scores, "examples": len(examples), "seconds": seconds}


def summary(results: Sequence[dict]) -> dict[str, dict[str, float]]:
    """Return median, lowest and highest of each score, of runs that differ in their seed."""
    names = {name for task in PAPER_TASKS.values() for name in task.metrics} & results[0].keys()
    columns = {name: [result[name] for result in results] for name in sorted(names)}
    spread = {"median": statistics.median, "lowest": min, "highest": max}
    return {name: {x: f(column) for x, f in spread.items()} for name, column in columns.items()}
