"""The program `minigpt`: its commands and its general options."""

from typing import Annotated

import typer

import minigpt
from minigpt.cli.checkpoints import convert_command, download_command, info_command, verify_command
from minigpt.cli.common import Command, Commands
from minigpt.cli.finetune import TaskCommand, evaluate_command, finetune_command
from minigpt.cli.pretrain import plot_command, pretrain_command
from minigpt.cli.run import generate_command, run_command
from minigpt.cli.zero_shot import zero_shot_command

HELP = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(
    cls=Commands, rich_markup_mode=None, pretty_exceptions_enable=False, context_settings=HELP
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


COMMANDS = [run_command, generate_command, convert_command, download_command, info_command]
COMMANDS += [verify_command, pretrain_command, plot_command, zero_shot_command]
for command in COMMANDS:
    app.command(command.__name__.removesuffix("_command").replace("_", "-"), cls=Command)(command)
for command in (finetune_command, evaluate_command):
    app.command(command.__name__.removesuffix("_command"), cls=TaskCommand)(command)
