"""What a run tells: tables of losses, samples, learning curves, TensorBoard."""

import os
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from minigpt.hf.files import writing

STEPS, MEASURED, SAMPLES, CURVES = "log.csv", "measured.csv", "samples.txt", "curves.png"
ROOM = "make room, and go on with --resume"
TABLES = {
    STEPS: ("step", "loss", "rate", "grad_norm", "tokens_per_second"),
    MEASURED: ("step", "held_out_loss", "perplexity", "perplexity_per_word"),
}


def need(package: str, what: str, extra: str = "train") -> None:
    """Raise ImportError if a package of an extra is missing."""
    if not find_spec(package):
        raise ImportError(f"{what} needs {package}: pip install 'minigpt-notebooks[{extra}]'")


class Logs:
    """The files of a run that grow; lines of later steps than `step` are cut off."""

    def __init__(self, out: Path, step: int, tensorboard: bool = False):
        self.out, self.board = out, None
        for name in (STEPS, MEASURED, SAMPLES):
            self.cut(out / name, step)
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(out / "tensorboard", purge_step=step + 1)

    def cut(self, path: Path, step: int) -> None:
        """Leave the header, and the whole lines up to that step."""
        lines = path.read_text("utf-8").splitlines(True) if path.exists() else []
        numbered = [(re.match(r"\d+(?=[,:].*\n)", line), line) for line in lines]
        kept = [line for number, line in numbered if number and int(number[0]) <= step]
        header = [",".join(TABLES[path.name]) + "\n"] if path.name in TABLES else []
        waiting = path.with_suffix(".unfinished")
        with writing(path, ROOM):
            waiting.write_text("".join([*header, *kept]), encoding="utf-8")
            os.replace(waiting, path)

    def write(self, name: str, line: str) -> None:
        with writing(self.out / name, ROOM), (self.out / name).open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def add(self, name: str, values: tuple) -> None:
        """Write a row, which begins with the step."""
        self.write(name, ",".join(map(str, values)))
        for tag, value in zip(TABLES[name][1:], values[1:], strict=True) if self.board else ():
            self.board.add_scalar(tag, value, values[0])

    def sample(self, step: int, text: str) -> None:
        """Write a text that the model made, on one line."""
        self.write(SAMPLES, f"{step}: {' '.join(text.split())}")
        if self.board:
            self.board.add_text("sample", text, step)
            self.board.flush()


def matrix_peak(device: torch.device, dtype: torch.dtype, n: int = 8192) -> float:
    """Measure how fast a GPU multiplies large matrices, in FLOP/s."""
    from torch.utils.benchmark import Timer  # it prints about a missing GPU

    x = torch.randn(n, n, device=device, dtype=dtype)
    return 2 * n**3 / Timer("x @ x", globals={"x": x}).blocked_autorange().median


def plot(out: str | Path) -> Path:
    """Draw the losses of a run, of training and held out, as `curves.png`; return its path.

    Raises ImportError without matplotlib, FileNotFoundError for a folder without a run.
    """
    need("matplotlib", CURVES)
    from matplotlib.figure import Figure

    out = Path(out)
    if not (out / STEPS).is_file():
        raise FileNotFoundError(f"{out} holds no {STEPS}; pass the folder OUT of a run")
    tables = (out / STEPS, out / MEASURED)
    steps, measured = (np.genfromtxt(x, delimiter=",", names=True) for x in tables)
    axes = (figure := Figure(figsize=(8, 5), layout="constrained")).subplots()
    axes.plot(steps["step"], steps["loss"], linewidth=0.5, label="train")
    axes.plot(measured["step"], measured["held_out_loss"], "o-", markersize=3, label="held out")
    axes.set(xlabel="step", ylabel="loss, nats per token", title=out.resolve().name)
    axes.legend()
    figure.savefig(out / CURVES, dpi=120)
    return out / CURVES
