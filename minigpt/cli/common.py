"""What all commands share: one-line errors, exit codes, Ctrl-C, the options' types."""

import signal
import warnings
from contextlib import suppress
from importlib import import_module
from typing import Annotated, Literal

import typer
from typer.core import TyperCommand, TyperGroup


def one_line(error: Exception) -> str:
    """Say in one line what an error is; a wrong use or a probable bug also says how to see more."""
    if hasattr(error, "exit_code"):  # an error of typer's, such as an option that does not exist
        path = getattr(getattr(error, "ctx", None), "command_path", "minigpt")
        return f"{error.format_message().strip().removesuffix('.')}; see {path} --help"
    message = " ".join(str(error).split())
    if isinstance(error, UnicodeError):
        message += "; convert the text to UTF-8, as iconv does; if it is, set PYTHONUTF8=1"
    if isinstance(error, OSError | ValueError | ImportError) and message:
        return message
    return f"{type(error).__name__}: {message} (minigpt --debug COMMAND shows where)"


def tell(line: str) -> None:
    """Write something as a line on stderr; if that cannot be written, go on."""
    with suppress(OSError):
        typer.echo(f"minigpt: {' '.join(line.split())}", err=True)


class Commands(TyperGroup):
    """The commands of the program; errors become one line and an exit code here.

    0: all went well; 1: it failed; 2: it was called in a wrong way; 130: it was stopped by Ctrl-C;
    143: by SIGTERM.
    """

    debug = False  # until the options are read

    def main(self, *arguments, **settings):
        try:
            raise SystemExit(super().main(*arguments, **settings, standalone_mode=False))
        except Exception as error:
            if self.debug and not hasattr(error, "exit_code"):
                raise
            tell(one_line(error))
            raise SystemExit(getattr(error, "exit_code", 1)) from error

    def parse_args(self, ctx, args):
        return super().parse_args(ctx, args or ["--help"])

    def invoke(self, ctx):
        self.debug = ctx.params["debug"]
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: tell(f"warning: {message}")
            try:
                super().invoke(ctx)
                print(end="", flush=True)  # an error of the last words is told here, too
            except KeyboardInterrupt as stop:
                if str(stop):  # a run that has saved itself says how to go on
                    tell(str(stop))
                raise typer.Exit(getattr(stop, "exit_code", 130)) from None


class Command(TyperCommand):
    """A command. While it works, Ctrl-C is an exception, so that half-written files are removed."""

    def invoke(self, ctx):
        import_module("torch")  # nothing of it is used here; the import must be over
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # if it is ignored, leave it so
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return super().invoke(ctx)


MODEL = '"tiny", a folder, or a name on the hub.'
Model = Annotated[str, typer.Option(help=MODEL)]
Checkpoint = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, mps, or the number of a GPU.")]
Dtypes = Literal["auto", "float32", "float16", "bfloat16"]
Dtype = Annotated[Dtypes, typer.Option(help="Of the weights; auto: as config.json says.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")]
Heads = Annotated[int | None, typer.Option("--n-head", help="Where no config.json tells it.")]


def given(**options) -> dict:
    """Return those options that were given."""
    return {name: value for name, value in options.items() if value is not None}
