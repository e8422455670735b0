"""The command line: `python -m minigpt --help`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """GPT-1 rebuilt in notebooks."""


@app.command("pretrain")
def pretrain_command(
    books: Annotated[Path, typer.Argument(help="folder of .txt files, one book each")],
    held_out: Annotated[Path, typer.Argument(help="the same, to measure the perplexity with")],
    out: Annotated[
        Path,
        typer.Argument(help="folder for the checkpoint; what is there already is not made again"),
    ],
    n_embd: int = 256,
    n_layer: int = 8,
    n_head: int = 4,
    vocab_size: int = 8192,
    pdrop: Annotated[float, typer.Option(help="all three dropout rates")] = 0.0,
    steps: int = 5600,
    batch_size: int = 256,
    peak: Annotated[float, typer.Option(help="highest learning rate")] = 1e-3,
    warmup: Annotated[int, typer.Option(help="steps until the learning rate is highest")] = 1000,
    workers: Annotated[int, typer.Option(help="processes that read the books")] = 2,
) -> None:
    """Make a checkpoint from a folder of books: vocabulary, training, perplexity. The defaults made minigpt's "tiny"."""
    from minigpt.checkpoint import OpenAIGPTConfig
    from minigpt.pretraining import pretrain

    rates = {"resid_pdrop": pdrop, "embd_pdrop": pdrop, "attn_pdrop": pdrop}
    config = OpenAIGPTConfig(
        vocab_size=vocab_size, n_embd=n_embd, n_layer=n_layer, n_head=n_head, **rates
    )
    result = pretrain(
        books, held_out, out, config, steps, batch_size, peak, warmup, workers=workers
    )
    typer.echo(f"{out}: perplexity {result:.2f} on {held_out}")


if __name__ == "__main__":
    app()
