"""The command `zero-shot`: tasks without training for them."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option

from minigpt.cli.common import Checkpoint, Device, Json

ZeroShotTask = Literal["cola", "sst2", "race", "storycloze", "winograd"]
Folder = Annotated[Path, Argument(metavar="FOLDER", help="Of the files listed here.")]


def zero_shot_command(
    task: Annotated[ZeroShotTask, Argument(metavar="TASK")],
    folder: Folder,
    model: Checkpoint,
    split: Annotated[str, Option(help="The part to score.")] = "dev",
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Score a language model on a task without training it: the paper's heuristics.

    TASK is cola, sst2, race, storycloze or winograd.

    \b
    FOLDER holds the files under their owners' names:
      cola         train.tsv (for the threshold), dev.tsv
      sst2         dev.tsv
      race         dev/middle/*.txt, dev/high/*.txt
      storycloze   cloze_test_val__spring2016 - cloze_test_ALL_val.csv
      winograd     wsc273.txt

    \b
    Example:
      minigpt zero-shot sst2 FOLDER tiny --json
    """
    from minigpt import pipeline
    from minigpt.training.zero_shot import zero_shot

    pipe = pipeline("text-generation", model, device=device)
    found = zero_shot(task, folder, pipe.model, pipe.tokenizer, split)
    lines = [f"{name}: {value:.4g}" for name, value in found.items()]
    typer.echo(json.dumps(found, allow_nan=False) if as_json else "\n".join(lines))
