"""The program `minigpt`: its commands and the options before them."""

from typing import Annotated

import typer

import minigpt
from minigpt.cli.checkpoints import convert_command, download_command, info_command, verify_command
from minigpt.cli.common import Commands
from minigpt.cli.pretrain import pretrain_command
from minigpt.cli.run import generate_command, run_command

app = typer.Typer(
    name="minigpt", cls=Commands, rich_markup_mode=None, pretty_exceptions_enable=False
)


def tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"minigpt {minigpt.__version__}")
        raise typer.Exit()


@app.callback()
def before_all(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=tell_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """GPT-1 rebuilt in notebooks.

    MODEL is "tiny", a folder, or a name on the hub.

    \b
    Examples:
      echo "The future of AI is" | minigpt run
      minigpt generate "The miller" --max-new-tokens 50
      minigpt convert openai-community/openai-gpt FOLDER --to safetensors
      minigpt verify FOLDER
    """


app.command("run")(run_command)
app.command("generate")(generate_command)
app.command("convert")(convert_command)
app.command("download")(download_command)
app.command("info")(info_command)
app.command("verify")(verify_command)
app.command("pretrain")(pretrain_command)
