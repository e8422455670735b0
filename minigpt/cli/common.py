"""What all commands share: one-line errors, exit codes, Ctrl-C, the options' types."""

import os
import signal
import sys
import warnings
from contextlib import suppress
from importlib import import_module
from typing import Annotated, Literal

import typer
from typer.core import TyperCommand, TyperGroup


def one_line(error: Exception) -> str:
    """Describe an error in one line, with a hint where to read more."""
    if hasattr(error, "exit_code"):  # typer's own error, such as an unknown option
        path = getattr(getattr(error, "ctx", None), "command_path", "minigpt")
        return f"{error.format_message().strip().removesuffix('.')}; see {path} --help"
    message = " ".join(str(error).split())
    if isinstance(error, UnicodeError):
        message += "; convert the text to UTF-8, as iconv does; if it is UTF-8, set PYTHONUTF8=1"
    if isinstance(error, OSError | ValueError | ImportError) and message:
        return message
    return f"{type(error).__name__}: {message} (minigpt --debug COMMAND shows where)"


def tell(line: str) -> None:
    """Write one line to stderr; if that fails, go on."""
    with suppress(OSError):
        typer.echo(f"minigpt: {' '.join(line.split())}", err=True)


class Commands(TyperGroup):
    """The commands of the program; errors become one line and an exit code here.

    0: success; 1: failure; 2: wrong arguments; 130: stopped by Ctrl-C; 143: by SIGTERM.
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
                print(end="", flush=True)  # report an error of the last output, too
            except KeyboardInterrupt as stop:
                if str(stop):  # a run that has saved itself says how to go on
                    tell(str(stop))
                raise typer.Exit(getattr(stop, "exit_code", 130)) from None


class Command(TyperCommand):
    """A command. While it works, Ctrl-C is an exception, so that half-written files are removed."""

    def invoke(self, ctx):
        if sys.stderr is None:  # closed, but bars are drawn there
            sys.stderr = open(os.devnull, "w", encoding="utf-8")
        import_module("torch")  # imported first, so that Ctrl-C cannot interrupt the import
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # if ignored, it stays so
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return super().invoke(ctx)


MODEL = '"tiny", a folder, or a name on the hub.'
Model = Annotated[str, typer.Option(help=MODEL)]
Checkpoint = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, mps, or the number of a GPU.")]
Dtypes = Literal["auto", "float32", "float16", "bfloat16"]
Dtype = Annotated[Dtypes, typer.Option(help="Of the weights; auto: as in config.json.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")]
Heads = Annotated[int | None, typer.Option("--n-head", help="Heads, if no config.json says.")]


def given(**options) -> dict:
    """Return the options that are not None."""
    return {name: value for name, value in options.items() if value is not None}
