"""The commands `finetune`, a task's files in, a model out, and `evaluate`, which scores it."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option

from .common import MODEL, Command, Device, Force, Json, was_given
from .pretrain import Out, Resume, run_and_tell
from .zero_shot import Folder

PaperTask = Literal["snli", "mnli", "qnli", "scitail", "rte", "race", "storycloze", "mrpc", "qqp"]
AnyTask = Literal[PaperTask, "stsb", "sst2", "cola", "csv"]
TaskName = Annotated[AnyTask, Argument(metavar="TASK", help="One of those listed below.")]
Number = Annotated[int, Option(min=1)]
Column = Annotated[str, Option(help="Of the task csv.")]
PREDICTIONS = "Write them as for a GLUE submission; rows labelled - have none."
Second = Annotated[str | None, Option(help="Of csv, where an example is two texts.")]


class TaskCommand(Command):
    """A command whose help lists the tasks and the files of each."""

    def invoke(self, ctx):
        for name in ("text_column", "second_column", "label_column"):
            if ctx.params["task"] != "csv" and was_given(ctx, name):
                why, hint = "only the task csv has columns to choose", f"--{name.replace('_', '-')}"
                raise typer.BadParameter(why, ctx, param_hint=hint)
        return super().invoke(ctx)

    def format_epilog(self, ctx, formatter):
        from minigpt.training.datasets import PAPER_TASKS, Task

        def files(task: Task) -> str:
            forms = ([form.format(x) for x in task.splits.values()] for form in task.files)
            return "; or ".join(", ".join(dict.fromkeys(names)) for names in forms)

        tasks = PAPER_TASKS | {"csv": Task("", (), "", files=("{}.csv", "{}.jsonl"))}
        with formatter.section("Tasks, and their files in FOLDER under their owners' names"):
            formatter.write_dl([(name, files(task)) for name, task in tasks.items()])


def finetune_command(
    task: TaskName,
    folder: Folder,
    out: Out,
    model: Annotated[str, Option(help=MODEL)] = "tiny",
    epochs: Number = 3,
    batch_size: Number = 32,
    rate: Annotated[float, Option(min=0, help="Highest learning rate.")] = 6.25e-5,
    lm_coef: Annotated[float, Option(min=0, help="How much the loss of tokens counts.")] = 0.5,
    seed: Annotated[int, Option(min=0, max=2**31 - 1, help="Of all random numbers.")] = 0,
    limit: Annotated[int | None, Option(min=1, help="Train with so many examples.")] = None,
    device: Device = "auto",
    text_column: Column = "text",
    second_column: Second = None,
    label_column: Column = "label",
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Teach a pre-trained model a task, and keep the best of all epochs.

    \b
    Examples:
      minigpt finetune cola GLUE/CoLA OUT --model tiny
      minigpt finetune csv FOLDER OUT --text-column review --label-column stars --json
    """
    options = locals()
    from minigpt.training.finetune import finetune

    run_and_tell(finetune, scores, **options)


def evaluate_command(
    task: TaskName,
    folder: Folder,
    model: Annotated[str, Argument(metavar="MODEL", help="Folder that finetune wrote.")],
    split: Annotated[str, Option(help="train, dev, test, or another one of the task.")] = "dev",
    predictions: Annotated[Path | None, Option(help=PREDICTIONS)] = None,
    device: Device = "auto",
    text_column: Column = "text",
    second_column: Second = None,
    label_column: Column = "label",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Score a model that was fine-tuned for a task.

    \b
    Examples:
      minigpt evaluate cola GLUE/CoLA OUT
      minigpt evaluate mnli GLUE/MNLI OUT --split test_mismatched --predictions MNLI-mm.tsv
    """
    options = locals()
    from minigpt.training.finetune import evaluate

    if not options.pop("force") and predictions and predictions.is_file():
        way = f"{predictions} exists; pass another file, or --force to replace it"
        raise typer.BadParameter(way, param_hint="--predictions")
    run_and_tell(evaluate, scores, **options)


def scores(result: dict) -> str:
    """Return the scores of a result as a line."""
    names = [name for name in ("accuracy", "f1", "matthews", "pearson") if name in result]
    told = "".join(f"{name} {result[name]:.4f}, " for name in names)
    return f"{result['task']}: {told}{result['examples']} examples, {result['seconds']} s"
