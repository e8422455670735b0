"""Pre-training that survives: recipe and data checked first, then steps, measurements, checkpoints.

One code path for one process and for those that torchrun started.
"""

import math
import os
import shutil
import time
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import get_type_hints

import torch
from torch import Tensor

from minigpt import AutoTokenizer, OpenAIGPTConfig
from minigpt.hf.files import json_writer, naming, save_files
from minigpt.hf.loading import save_model
from minigpt.hf.tokenization import lacks_extra
from minigpt.pretraining import Recipe, learning_rate, window_starts

from .checkpoints import Checkpoints
from .corpus import Source, learn_vocabulary, name_of, text_files
from .logs import MEASURED, STEPS, TABLES, Logs, matrix_peak, need, plot
from .loop import DATA, RECIPE, Diverged, Run, Stopped, find_run
from .processes import JOB, Processes, set_whole_state, torchrun_job, whole_state
from .shards import Shards, is_prepared, prepare_shards
from .trainer import Trainer

__all__ = ["Diverged", "PretrainingRecipe", "Stopped", "pretrain"]
PRECISIONS = ("float32", "bfloat16", "float16")
PASSES = 100  # over the text, if no number of steps is given; as in the paper
COUNTS = ("steps", "batch_size", "accumulate", "save_every", "measure_every", "keep")  # from 1 on


@dataclass
class PretrainingRecipe(Recipe):
    """How a GPT is pre-trained; the defaults are GPT-1's. Source: the paper, section 4.1.

    Raises ValueError, naming field and value, for what makes no sense.
    """

    steps: int | None = None  # None: `PASSES` over the text
    vocab_size: int = 40478  # V, if a vocabulary is learned
    n_positions: int = 512  # T
    n_embd: int = 768  # C
    n_layer: int = 12
    n_head: int = 12
    pdrop: float = 0.1  # all three dropout rates
    accumulate: int = 1  # parts of a batch that a process computes one after the other
    dtype: str = "float32"  # of matrix products, one of `PRECISIONS`; parameters are float32
    compile: bool | None = None  # None: on a GPU
    save_every: int = 1000  # steps
    measure_every: int = 1000  # steps
    keep: int = 3  # last checkpoints; the best is kept, too

    def __post_init__(self):
        for name, kind in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if not isinstance(value, kind | int if kind is float else kind):
                raise ValueError(f"{name}={value!r}; pass {getattr(kind, '__name__', kind)}")
            if isinstance(value, int | float) and not (name in COUNTS) <= value < 2**63:
                raise ValueError(f"{name}={value!r}; pass {int(name in COUNTS)} to 2**63 - 1")
        if self.dtype not in PRECISIONS:
            raise ValueError(f"dtype={self.dtype!r}; choose from {', '.join(PRECISIONS)}")

    @classmethod
    def from_toml(cls, path: str | Path, **changes) -> "PretrainingRecipe":
        """Read a recipe: keys are the fields' names. Raises ValueError for another key."""
        with naming(path):
            found = tomllib.loads(Path(path).read_text(encoding="utf-8"))
            known = [field.name for field in fields(cls)]
            if unknown := found.keys() - set(known):
                way = f"choose from {', '.join(map(repr, known))}"
                raise ValueError(f"no recipe has {min(unknown)!r}; {way}")
            recipe = cls(**found)
        return replace(recipe, **changes)

    def config(self, vocab_size: int) -> OpenAIGPTConfig:
        """Return the config of the model, with as many tokens as were learned."""
        names = ("n_positions", "n_embd", "n_layer", "n_head")
        sizes = {name: getattr(self, name) for name in names}
        rates = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), float(self.pdrop))
        return OpenAIGPTConfig(vocab_size=vocab_size, **sizes, **rates)


class Pretraining(Run):
    """One process's view of a pre-training: its texts, its logs, its checkpoints."""

    remedy = "pass a lower --peak or a longer --warmup, and another folder"
    kept = ("loss",)

    def __init__(self, out: Path, trainer: Trainer, texts: list[Shards], tokenizer, tensorboard):
        recipe, self.processes = trainer.recipe, trainer.processes
        names = [text.folder.name for text in texts]  # they tell the tokenizer, too
        every = recipe.measure_every, recipe.save_every
        super().__init__(out, recipe, trainer.device, names, every)
        self.trainer, self.tokenizer, self.world = trainer, tokenizer, self.processes.world
        self.books, self.held_out = texts
        self.most = 2 * math.log(trainer.config.vocab_size)  # twice the loss of guessing
        self.checkpoints = Checkpoints(out / "checkpoints")
        self.loss, self.begin, self.speed = None, None, None
        self.resume()
        known = -1 if self.saved is None else self.step
        self.logs = Logs(out, known, tensorboard) if self.processes.is_first else None
        is_gpu, dtype = self.device.type == "cuda", getattr(torch, recipe.dtype)
        self.peak = is_gpu and matrix_peak(self.device, dtype)

    def resume(self) -> None:
        """Go on from the newest sound checkpoint, if there is one."""
        weights, state = (self.processes.is_first and self.checkpoints.load()) or ({}, {})
        moments = state.pop("optimizer", {})
        if told := self.processes.share(state):
            self.go_on(told)
            model, optimizer = self.trainer.model, self.trainer.optimizer
            set_whole_state(model, optimizer, weights, moments if self.step else None)
            self.trainer.scaler.load_state_dict(told["scaler"])

    def steps(self) -> Iterator[tuple[Tensor, Tensor]]:
        if not self.best:
            self.save(self.measure(), must=False)
        while self.step < self.recipe.steps:
            if not self.pending:
                self.since = time.perf_counter()
            yield self.trainer.step(self.books, self.step)

    def look(self) -> bool:
        """Log the losses since the last look; say whether any process was stopped."""
        losses, lengths = map(torch.stack, zip(*self.pending, strict=True))
        flag = torch.full_like(losses[:1], len(self.caught))
        *losses, flag = self.processes.total(torch.cat([losses, flag])).tolist()
        now, tokens = time.perf_counter(), self.recipe.batch_size * self.trainer.length
        speed = len(losses) * tokens / (now - self.since)
        self.begin = self.begin or (self.step, now)
        if self.step > self.begin[0]:  # the first step, which compiles, does not count
            self.speed = (self.step - self.begin[0]) * tokens / (now - self.begin[1])
        first = self.step - len(losses) + 1
        for step, (loss, length) in enumerate(zip(losses, lengths.tolist(), strict=True), first):
            self.loss = loss / self.world
            rate = learning_rate(step - 1, self.recipe)
            if self.logs:
                self.logs.add(STEPS, (step, self.loss, rate, length, round(speed)))
            self.check(self.loss, step, self.most)
        facts = {"loss": f"{self.loss:.3f}", "tokens/s": f"{speed:,.0f}"}
        if self.peak:
            share = speed * self.trainer.work() / (self.peak * self.world)
            facts["of the peak"] = f"{share:.0%}"
        self.bar.set_postfix(facts)
        return flag > 0

    def measure(self) -> dict | None:
        """Measure the held-out text and write a sample; return the row if it is the best one."""
        length, count = self.trainer.length, len(self.held_out)
        loss = self.trainer.measure(self.held_out, torch.arange(0, count - length + 1, length))
        self.check(loss, self.step, math.inf)
        per_word = loss * count / self.held_out.words
        values = self.step, loss, *(math.exp(min(x, 700)) for x in (loss, per_word))
        row = dict(zip(TABLES[MEASURED], values, strict=True))
        sample = self.trainer.sample(self.held_out)
        if self.logs:
            self.logs.add(MEASURED, values)
            self.logs.sample(self.step, self.tokenizer.decode(sample))
        return row if not self.best or loss < self.best["held_out_loss"] else None

    def write(self, better: dict | None) -> None:
        """Write a checkpoint and, if it is the best so far, the model in OUT.

        Raises `Diverged` if the last update has broken the model.
        """
        trainer = self.trainer
        starts = window_starts(len(self.books), trainer.length, self.recipe, self.step)
        self.check(trainer.measure(self.books, starts), self.step, self.most)
        weights, moments = whole_state(trainer.model, trainer.optimizer)
        try:
            if self.logs:
                if better:
                    save_model(trainer.empty, self.out, state_dict=weights)
                    self.best = better
                state = {"optimizer": moments, "scaler": trainer.scaler.state_dict()}
                self.checkpoints.save(self.step, trainer.empty, weights, state | self.state())
                self.checkpoints.prune(self.recipe.keep, self.best and self.best["step"])
        finally:
            self.best = self.processes.share(self.best)

    def result(self) -> dict:
        """Return what `--json` shows: the last loss, and the facts of the best model, in OUT."""
        loss = self.loss if math.isfinite(self.loss or 0) else None
        facts = {"steps": self.step, "loss": loss, **(self.best or {})}
        facts.pop("step", None)  # of the best model
        speed = self.speed and round(self.speed)
        return facts | {"tokens_per_second": speed, "checkpoint": str(self.out)}


def prepare(
    sources: list[Source], out: Path, recipe: PretrainingRecipe, tokenizer, data, resume, **how
) -> tuple:
    """Refuse what can be refused, and return recipe, tokenizer, the two texts as `Shards`.

    For the first process alone. What it has made in `out` is removed if it refuses.
    """
    recipe.config(2)  # raises ValueError for sizes that do not fit
    found, is_new = find_run(out, recipe, resume), not out.exists()
    for source in sources:
        if isinstance(source, str | Path) and not is_prepared(source):
            text_files(source)
            if Path(source).resolve() in out.resolve().parents:
                raise ValueError(f"{out} is in {source} and would be read; pass another folder")
    if found:
        recipe, tokenizer = found, out if tokenizer is None else tokenizer
    elif tokenizer is None:
        tokenizer = learn_vocabulary(sources[0], recipe.vocab_size, **how)
    if isinstance(tokenizer, str | Path):
        tokenizer = AutoTokenizer.from_pretrained(tokenizer, use_fast=lacks_extra())
    try:
        place = data or out / DATA
        texts = [prepare_shards(source, tokenizer, place, **how) for source in sources]
        for source, text in zip(sources, texts, strict=True):
            with naming(name_of(source)):
                window_starts(len(text), recipe.n_positions, recipe, 0)  # long enough?
    except Exception:
        if is_new:
            shutil.rmtree(out, ignore_errors=True)
        raise
    passes = PASSES * len(texts[0]) / (recipe.batch_size * recipe.n_positions)
    recipe = replace(recipe, steps=recipe.steps or math.ceil(passes))
    if not found:
        writers = tokenizer.writers()
        if job := torchrun_job():
            writers[JOB] = lambda path: path.write_text(job, encoding="utf-8")
        save_files(out, writers | {RECIPE: json_writer(asdict(recipe))})
    return recipe, tokenizer, texts


def pretrain(
    books: Source,
    held_out: Source,
    out: str | Path,
    recipe: PretrainingRecipe,
    *,
    tokenizer=None,
    data: str | Path | None = None,
    resume: bool = False,
    fsdp: bool = False,
    device: int | str | torch.device = "auto",
    workers: int | None = None,
    tensorboard: bool = False,
    progress: bool = True,
) -> dict:
    """Pre-train a GPT on a text, and return what `minigpt pretrain --json` shows.

    In a process that torchrun started, the others do the same with their share of each batch.
    Raises ValueError, OSError or ImportError before the first step for what cannot be trained;
    `Diverged`; and `Stopped` if SIGINT or SIGTERM stopped it. Sets the precision of float32
    products on a GPU to TF32 for the whole process.

    Args:
        books: A folder of texts or of shards, or rows of a data set with a "text".
        held_out: The same, to measure with.
        out: Folder for the best model and everything on the way.
        recipe: Sizes of the model, steps, rates, how often to measure and to save.
        tokenizer: A checkpoint or an object, in place of a vocabulary learned from `books`.
        data: Folder of shards, which runs may share; None: in `out`.
        resume: Go on with the run in `out`.
        fsdp: Several processes: each keeps a part of the parameters.
        device: The GPU if there is one.
        workers: Processes that read texts; None: as many as cores.
        tensorboard: Also log for TensorBoard.
        progress: Show bars.

    Example:
        >>> recipe = PretrainingRecipe(n_embd=64, n_layer=2, n_head=2, steps=100)
        >>> pretrain("BOOKS", "HELD_OUT", "OUT", recipe)["perplexity"]
    """
    processes, out, sources = Processes(device), Path(out), [books, held_out]
    resume |= (out / JOB).is_file() and (out / JOB).read_text("utf-8") == torchrun_job()
    how, plan = {"workers": workers or os.cpu_count(), "progress": progress}, None
    with processes.together():
        if processes.is_first:
            check_machine(recipe, processes, tensorboard)
            recipe, tokenizer, texts = prepare(sources, out, recipe, tokenizer, data, resume, **how)
            plan = recipe, len(tokenizer), [text.folder for text in texts]
        recipe, vocab_size, folders = processes.share(plan)
        trainer = Trainer(recipe.config(vocab_size), recipe, processes, fsdp)
        texts = [Shards(folder) for folder in folders]
        run = Pretraining(out, trainer, texts, tokenizer, tensorboard)
        result = run.run(progress and processes.is_first)
    if processes.is_first and find_spec("matplotlib"):
        plot(out)
    return result


def check_machine(recipe: PretrainingRecipe, processes: Processes, tensorboard: bool) -> None:
    """Raise ValueError or ImportError for what these processes cannot do."""
    parts, kind = processes.world * recipe.accumulate, processes.device.type
    if recipe.batch_size % parts:
        what = f"batch_size={recipe.batch_size} cannot be cut into {parts} equal parts"
        way = f"{processes.world} processes times accumulate={recipe.accumulate}"
        raise ValueError(f"{what}, {way}")
    if recipe.dtype == "float16" and kind == "cpu":
        raise ValueError("dtype='float16' needs a GPU; pass float32 or bfloat16")
    if recipe.dtype == "bfloat16" and kind == "cuda" and not torch.cuda.is_bf16_supported(False):
        raise ValueError("dtype='bfloat16', which this GPU does not have; pass float32 or float16")
    if tensorboard:
        need("tensorboard", "--tensorboard")
