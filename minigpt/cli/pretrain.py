"""The command `pretrain`: books in, a checkpoint out."""

from pathlib import Path
from typing import Annotated

import typer

Count = Annotated[int, typer.Option(min=1)]
Books = Annotated[Path, typer.Argument(metavar="BOOKS", help="Folder of .txt files, one a book.")]
HeldOut = Annotated[Path, typer.Argument(metavar="HELD_OUT", help="The same, for the perplexity.")]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="What it has is not made again.")]


def pretrain_command(
    books: Books,
    held_out: HeldOut,
    out: Out,
    n_embd: int = 256,
    n_layer: int = 8,
    n_head: int = 4,
    vocab_size: int = 8192,
    pdrop: Annotated[float, typer.Option(help="All three dropout rates.")] = 0.0,
    steps: Count = 5600,
    batch_size: Count = 256,
    peak: Annotated[float, typer.Option(min=0, help="Highest learning rate.")] = 1e-3,
    warmup: Annotated[int, typer.Option(min=0, help="Steps until the rate is highest.")] = 1000,
    workers: Annotated[int, typer.Option(min=1, help="Processes that read the books.")] = 2,
) -> None:
    """Make a checkpoint from books: vocabulary, training, perplexity.

    BOOKS and HELD_OUT are folders of .txt files, one book each; OUT is for the checkpoint.

    \b
    Example:
      minigpt pretrain BOOKS HELD_OUT OUT
    """
    from minigpt import OpenAIGPTConfig
    from minigpt.training.pretrain import Recipe, pretrain

    sizes = {"vocab_size": vocab_size, "n_embd": n_embd, "n_layer": n_layer, "n_head": n_head}
    rates = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), pdrop)
    config = OpenAIGPTConfig(**sizes, **rates)
    recipe = Recipe(steps=steps, batch_size=batch_size, peak=peak, warmup=warmup)
    result = pretrain(books, held_out, out, config, recipe, workers=workers)
    typer.echo(f"{out}: perplexity {result:.2f} on {held_out}")
