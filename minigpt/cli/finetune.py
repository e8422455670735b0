"""The commands `finetune`, a task's files in, a model out, and `evaluate`, which scores it."""

import json
from pathlib import Path
from typing import Annotated

import typer

from .common import MODEL, Command, Device
from .run import to_device

Name = Annotated[str, typer.Argument(metavar="TASK", help="A name of the list below.")]
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The files of the task.")]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the run and its best model.")]
Tuned = Annotated[str, typer.Argument(metavar="MODEL", help="Folder that finetune wrote.")]
Pretrained = Annotated[str, typer.Option(help=MODEL)]
Count = Annotated[int, typer.Option(min=1)]
Limit = Annotated[int | None, typer.Option(min=1, help="Train with so many examples.")]
Rate = Annotated[float, typer.Option(min=0, help="Highest learning rate.")]
Lambda = Annotated[float, typer.Option(min=0, help="How much the loss of tokens counts.")]
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1, help="One run a seed.")]
Text = Annotated[str, typer.Option(help="Of the task csv.")]
Second = Annotated[str | None, typer.Option(help="Of csv, if an example is two texts.")]
Label = Annotated[str, typer.Option(help="Of the task csv.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in OUT.")]
Split = Annotated[str, typer.Option(help="train, dev, test, ...: see the files below.")]
Answers = Annotated[Path | None, typer.Option(help="Write them as for a GLUE submission.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")]


class TaskCommand(Command):
    """A command whose help lists the tasks and the files of each."""

    def format_epilog(self, ctx, formatter):
        from minigpt.training.datasets import PAPER_TASKS, Task, file_names

        tasks = PAPER_TASKS | {"csv": Task("", (), "", files=("{}.csv", "{}.jsonl"))}
        told = {
            name: dict.fromkeys(" or ".join(file_names(task, split)) for split in task.splits)
            for name, task in tasks.items()
        }
        with formatter.section("Tasks, and their files in FOLDER under their owners' names"):
            formatter.write_dl([(name, ", ".join(files)) for name, files in told.items()])


def finetune_command(
    task: Name,
    folder: Folder,
    out: Out,
    model: Pretrained = "tiny",
    epochs: Count = 3,
    batch_size: Count = 32,
    rate: Rate = 6.25e-5,
    lm_coef: Lambda = 0.5,
    seed: Seed = 0,
    limit: Limit = None,
    device: Device = "auto",
    text_column: Text = "text",
    second_column: Second = None,
    label_column: Label = "label",
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Teach a pre-trained model a task, and keep the best of all epochs.

    \b
    Examples:
      minigpt finetune cola GLUE/CoLA OUT --model tiny
      minigpt finetune csv FOLDER OUT --text-column review --label-column stars --json
    """
    from minigpt.training.finetune import finetune
    from minigpt.training.pretrain import Diverged

    settings = {"epochs": epochs, "batch_size": batch_size, "rate": rate, "lm_coef": lm_coef}
    settings |= {"seed": seed, "limit": limit, "text_column": text_column}
    settings |= {"second_column": second_column, "label_column": label_column, "resume": resume}
    try:
        result = finetune(task, folder, out, model, device=to_device(device), **settings)
    except Diverged as error:
        if as_json:
            typer.echo(json.dumps(error.result, allow_nan=False))
        raise
    tell_scores(result, as_json)


def evaluate_command(
    task: Name,
    folder: Folder,
    model: Tuned,
    split: Split = "dev",
    predictions: Answers = None,
    device: Device = "auto",
    text_column: Text = "text",
    second_column: Second = None,
    label_column: Label = "label",
    as_json: Json = False,
) -> None:
    """Score a model that was fine-tuned for a task.

    \b
    Examples:
      minigpt evaluate cola GLUE/CoLA OUT
      minigpt evaluate mnli GLUE/MNLI OUT --split test_mismatched --predictions MNLI-mm.tsv
    """
    from minigpt.training.finetune import evaluate

    columns = {"text_column": text_column, "second_column": second_column}
    columns |= {"label_column": label_column, "device": to_device(device)}
    tell_scores(evaluate(task, folder, model, split, predictions, **columns), as_json)


def tell_scores(result: dict, as_json: bool) -> None:
    """Print a result as JSON, or its scores as a line."""
    if as_json:
        return typer.echo(json.dumps(result, allow_nan=False))
    names = [name for name in ("accuracy", "f1", "matthews", "pearson") if name in result]
    scores = "".join(f"{name} {result[name]:.4f}, " for name in names)
    typer.echo(f"{result['task']}: {scores}{result['examples']} examples, {result['seconds']} s")
