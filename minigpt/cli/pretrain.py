"""The commands `pretrain`, texts in, a checkpoint out, and `plot`, which draws its losses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option

from .common import Device, Json, given, is_first
from .run import Seed

Out = Annotated[Path, Argument(metavar="OUT", help="Folder of the run and its best model.")]
Count = Annotated[int | None, Option(min=1)]
Batch = Annotated[int | None, Option(min=1, help="Windows a step, of all processes.")]
Parts = Annotated[int | None, Option(min=1, help="Of a batch, one after the other.")]
Products = Literal["float32", "bfloat16", "float16"]
Every = Annotated[int | None, Option(min=1, help="So many steps.")]
Toml = Option(exists=True, dir_okay=False, help="A recipe: TOML, keys as these options.")
Resume = Annotated[bool, Option("--resume", help="Go on with the run in OUT.")]


def pretrain_command(
    books: Annotated[Path, Argument(metavar="BOOKS", help="Folder of .txt, .jsonl, .gz or .xz.")],
    held_out: Annotated[Path, Argument(metavar="HELD_OUT", help="The same, to measure with.")],
    out: Out,
    n_positions: Annotated[int | None, Option(min=2, help="Tokens of a window.")] = None,
    n_embd: Count = None,
    n_layer: Count = None,
    n_head: Count = None,
    vocab_size: Count = None,
    pdrop: Annotated[float | None, Option(min=0, max=1, help="All three dropout rates.")] = None,
    steps: Annotated[int | None, Option(min=1, help="Default: 100 passes over the text.")] = None,
    batch_size: Batch = None,
    accumulate: Parts = None,
    peak: Annotated[float | None, Option(min=0, help="Highest learning rate.")] = None,
    warmup: Annotated[int | None, Option(min=0, help="Steps until the rate is highest.")] = None,
    seed: Seed = None,
    dtype: Annotated[Products | None, Option(help="Of matrix products.")] = None,
    compile: Annotated[bool | None, Option(help="Default: on a GPU.")] = None,
    save_every: Every = None,
    measure_every: Every = None,
    keep: Annotated[int | None, Option(min=1, help="Last checkpoints; also the best.")] = None,
    config: Annotated[Path | None, Toml] = None,
    resume: Resume = False,
    tokenizer: Annotated[str | None, Option(help="A checkpoint's; default: learn one.")] = None,
    data: Annotated[Path | None, Option(help="Folder of token ids; default: in OUT.")] = None,
    workers: Annotated[int | None, Option(min=1, help="Processes that read texts.")] = None,
    device: Device = "auto",
    fsdp: Annotated[bool, Option("--fsdp", help="Shard the model over processes.")] = False,
    tensorboard: Annotated[bool, Option("--tensorboard", help="Log for TensorBoard, too.")] = False,
    as_json: Json = False,
) -> None:
    """Make a checkpoint from texts: vocabulary, training, perplexity of other texts.

    Options of the recipe that are not given are those of --config, with --resume those of the run,
    or else GPT-1's. torchrun starts it on several GPUs.

    \b
    Examples:
      minigpt pretrain BOOKS HELD_OUT OUT
      torchrun --nproc-per-node 8 -m minigpt pretrain BOOKS HELD_OUT OUT --dtype bfloat16
    """
    options = locals()
    line = f"{out}: perplexity {{perplexity:.2f}} on {held_out}".format_map
    run_and_tell(run_pretraining, line, **options)


def run_pretraining(books, held_out, out, config, **options) -> dict:
    """Find the recipe that options describe, and follow it."""
    from minigpt.hf.files import read_json
    from minigpt.training.pretrain import PretrainingRecipe, pretrain

    names = PretrainingRecipe.__dataclass_fields__.keys() & options.keys()
    changes = given(**{name: options.pop(name) for name in names})
    saved = out / "recipe.json"
    if config:
        recipe = PretrainingRecipe.from_toml(config, **changes)
    else:
        told = read_json(saved) if options["resume"] and saved.is_file() else {}
        recipe = PretrainingRecipe(**told | changes)
    return pretrain(books, held_out, out, recipe, **options)


def run_and_tell(run: Callable, line: Callable, as_json: bool, **options) -> None:
    """Print what `run` returns, as JSON or a line."""
    result = run(**options)
    if is_first():
        typer.echo(json.dumps(result, allow_nan=False) if as_json else line(result))


def plot_command(out: Out) -> None:
    """Draw the losses of a run, of training and held out, as OUT/curves.png.

    \b
    Example:
      minigpt plot OUT
    """
    from minigpt.training.logs import plot

    typer.echo(plot(out))
