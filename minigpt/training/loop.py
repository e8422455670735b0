"""The loop of both trainings: steps, losses read now and then, intervals, signals, the folder."""

import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import current_thread, main_thread

import torch
from tqdm import tqdm

from minigpt.hf.files import read_json

RECIPE, DATA = "recipe.json", "data"
READ_EVERY = 20  # steps on a GPU from one look at the losses, which waits for it, to the next
FREE = ("accumulate", "compile", "save_every", "measure_every", "keep")  # a resumed run may change


class Diverged(ValueError):
    """The loss is not a number, infinite or far too high. `result`: what was done until then."""

    def __init__(self, loss: float, step: int, way: str, result: dict):
        super().__init__(f"diverged: loss {loss:.4g} at step {step}; {way}")
        self.result = result


class Stopped(KeyboardInterrupt):
    """A signal has stopped the run, which is saved. `exit_code`: as in a shell."""

    def __init__(self, number: int, step: int, way: str, result: dict):
        super().__init__(f"stopped by {signal.Signals(number).name} after step {step}; {way}")
        self.exit_code, self.result = 128 + number, result


class Run:
    """A training that survives. A subclass says what it trains, measures and writes.

    `steps` yields what each step returns, which waits in `pending`; `look` reads it, calls `check`
    and says whether to stop; `measure` returns a row if the model is the best so far; `write` saves
    the model of such a row, and the state; `result` is what --json shows. `kept` names what else
    the state has, `remedy` what helps a run that diverges.
    """

    world = 1  # processes

    def __init__(self, out: Path, recipe, device: torch.device, data: list, every: tuple[int, int]):
        """`data`: has to be the same on resume; `every`: steps between measurements, and saves."""
        self.out, self.recipe, self.device, self.data, self.every = out, recipe, device, data, every
        self.step, self.best, self.saved, self.pending = 0, None, None, []

    def state(self) -> dict:
        return {name: getattr(self, name) for name in ("step", "best", "data", *self.kept)}

    def go_on(self, state: dict) -> None:
        """Take over what was saved. Raises ValueError if that run began with other data."""
        if (old := state["data"]) != self.data:
            way = "pass the same texts and the same tokenizer, or a new folder"
            raise ValueError(f"{self.out} began with other data, {old}, not {self.data}; {way}")
        vars(self).update({name: state[name] for name in self.state()}, saved=state["step"])

    def run(self, progress: bool) -> dict:
        """Make all steps that are left; return the result. Raises `Diverged` and `Stopped`."""
        shown = {"desc": "train", "unit": " steps", "disable": not progress}
        bar = tqdm(total=self.recipe.steps, initial=self.step, **shown)
        with signals() as self.caught, bar as self.bar:
            for found in self.steps():
                self.pending.append(found)
                self.step += 1
                is_last = self.step == self.recipe.steps
                measuring, saving = (is_last or self.step % n == 0 for n in self.every)
                if measuring or saving or self.must_look():
                    self.bar.update(len(self.pending))
                    stopping, self.pending = self.look(), []
                    better = self.measure() if measuring else None
                    if better or saving or stopping:
                        self.save(better, is_last or stopping)
                    if stopping:
                        number = self.caught[0] if self.caught else signal.SIGTERM  # another's
                        raise Stopped(number, self.step, self.whereabouts(), self.result())
        return self.result()

    def must_look(self) -> bool:
        """Say whether to read the losses now, for which a GPU must have finished."""
        often = self.device.type == "cpu" or self.step % READ_EVERY == 1
        return often or bool(self.caught) and self.world == 1

    def check(self, loss: float, step: int, most: float) -> None:
        """Raise `Diverged` for a loss that is not below `most`."""
        if not loss < most:
            raise Diverged(loss, step, f"{self.remedy}; {self.whereabouts('')}", self.result())

    def save(self, better: dict | None, must: bool) -> None:
        """Write what is the best so far, and the state.

        Raises OSError if it `must` be written and cannot be; otherwise that is a warning, and what
        was written before remains.
        """
        try:
            self.write(better)
            self.saved = self.step
        except OSError as error:
            if must:
                raise OSError(f"{error}; {self.whereabouts()}") from error
            warnings.warn(f"{error}; going on; {self.whereabouts()}", stacklevel=2)

    def whereabouts(self, then: str = ", --resume goes on from it") -> str:
        """Say from where the run can go on, and how."""
        if self.saved is None:
            return f"{self.out} has no checkpoint yet"
        return f"the checkpoint of step {self.saved} is in {self.out}{then}"


@contextmanager
def signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list, so that the step can be finished first."""
    caught, old = [], {}
    for number in (signal.SIGINT, signal.SIGTERM) if current_thread() is main_thread() else ():
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            old[number] = signal.signal(number, lambda number, _: caught.append(number))
    try:
        yield caught
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def find_run(out: Path, recipe, resume: bool):
    """Return the recipe of the run that `out` holds, None if there is none.

    Raises FileExistsError for a run or model that must not be changed, ValueError, naming the
    field, for a run with another recipe.
    """
    if not (out / RECIPE).is_file():
        found = {path.name for path in out.glob("[!.]*")}  # texts were read, and it was stopped
        if out.exists() and not (out.is_dir() and found <= {DATA}):
            raise FileExistsError(f"{out} is not empty; pass a new folder")
        return None
    if not resume:
        raise FileExistsError(f"{out} holds a run; go on with --resume, or pass another folder")
    saved = read_json(out / RECIPE)
    recipe = replace(recipe, steps=recipe.steps or saved["steps"])
    for name, old in saved.items():
        if name not in FREE and getattr(recipe, name, None) != old:
            given = f"{name}={getattr(recipe, name, None)!r}"
            raise ValueError(f"{given}, but {out} began with {old!r}; pass that, or a new folder")
    return recipe
