"""What all commands share: one-line errors, exit codes, Ctrl-C, the options' types."""

import json
import os
import re
import signal
import sys
import warnings
from contextlib import suppress
from importlib import import_module
from typing import Annotated, Literal

import typer
from typer import Argument, Option
from typer.core import TyperCommand, TyperGroup


def one_line(error: Exception) -> str:
    """Describe an error in one line, with a hint where to read more."""
    message = " ".join(str(error).split())
    if isinstance(error, UnicodeError):
        message += "; convert the text to UTF-8, as iconv does; if it is UTF-8, set PYTHONUTF8=1"
    if isinstance(error, OSError | ValueError | ImportError) and message:
        return message
    return f"{type(error).__name__}: {message} (minigpt --debug COMMAND shows where)"


def was_given(ctx, name: str) -> bool:
    """Say whether a parameter stands on the command line."""
    return getattr(ctx.get_parameter_source(name), "name", "") == "COMMANDLINE"


def in_shell_words(line: str, ctx) -> tuple[str, bool]:
    """Write a message of the library for a shell; say also whether an option given is at fault.

    `num_beams=2` becomes `--num-beams 2` if it was given, `num_beams` alone `--num-beams`. What
    only Python can do, such as `x=1`, is the last way out that a message names, and is left out.
    """
    is_wrong = False
    for option in ctx.command.params if ctx else ():
        name, flag = option.name, option.opts[0]
        if was_given(ctx, name):
            value = re.escape(str(ctx.params[name]))
            line, count = re.subn(rf"\b{name}=('?{value}'?)(?![\w.])", rf"{flag} \1", line)
            is_wrong |= count > 0
        if "_" in name and flag.startswith("--"):
            line = re.sub(rf"(?<!['\w]){name}\b(?!=)", flag, line)
    return re.sub(r",? or [^;]*\b\w+=[^;]*", "", line), is_wrong


def explain(error: Exception) -> tuple[str, int]:
    """Return the line that describes an error, and the exit code."""
    if hasattr(error, "exit_code"):  # typer's own error, such as an unknown option
        path = getattr(getattr(error, "ctx", None), "command_path", "minigpt")
        line = error.format_message().strip().removesuffix(".")
        return f"{line}; see {path} --help", error.exit_code
    ctx = getattr(error, "ctx", None)  # see `Command`
    line, is_wrong = in_shell_words(one_line(error), ctx)
    return (f"{line}; see {ctx.command_path} --help", 2) if is_wrong else (line, 1)


def tell(line: str) -> None:
    """Write one line to stderr; if that fails, go on."""
    with suppress(OSError):
        typer.echo(f"minigpt: {' '.join(line.split())}", err=True)


class Commands(TyperGroup):
    """The commands of the program; errors become one line and an exit code here.

    0: success; 1: failure; 2: wrong arguments; 130: stopped by Ctrl-C; 143: by SIGTERM. With
    --json, the standard output gets an object with the error, too.
    """

    debug = False  # until the options are read

    def main(self, args=None, **settings):
        self.as_json = "--json" in (args or sys.argv)
        try:
            raise SystemExit(super().main(args, **settings, standalone_mode=False))
        except Exception as error:
            if self.debug and not hasattr(error, "exit_code"):
                raise
            line, code = explain(error)
            tell(line)
            self.tell_as_json(error, line)
            raise SystemExit(code) from error

    def tell_as_json(self, error: BaseException, line: str) -> None:
        """With --json, write the error to stdout, and what a run has done until then."""
        if self.as_json and is_first():
            with suppress(OSError):
                typer.echo(json.dumps({**getattr(error, "result", {}), "error": line}))

    def parse_args(self, ctx, args):
        return super().parse_args(ctx, args or ["--help"])

    def invoke(self, ctx):
        self.debug = ctx.params["debug"]
        try:
            super().invoke(ctx)
            print(end="", flush=True)  # report an error of the last output, too
        except KeyboardInterrupt as stop:
            if str(stop):  # a run that has saved itself says how to go on
                tell(str(stop))
            self.tell_as_json(stop, str(stop) or "stopped by Ctrl-C")
            raise typer.Exit(getattr(stop, "exit_code", 130)) from None


class Command(TyperCommand):
    """A command. While it works, Ctrl-C is an exception, so that half-written files are removed."""

    def invoke(self, ctx):
        if sys.stderr is None:  # closed, but bars are drawn there
            sys.stderr = open(os.devnull, "w", encoding="utf-8")
        import_module("torch")  # imported first, so that Ctrl-C cannot interrupt the import
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # if ignored, it stays so
            signal.signal(signal.SIGINT, signal.default_int_handler)

        def warn(message, *_, **__) -> None:
            tell(f"warning: {in_shell_words(str(message), ctx)[0]}")

        with warnings.catch_warnings():
            warnings.showwarning = warn
            try:
                return super().invoke(ctx)
            except Exception as error:
                error.ctx = ctx
                raise


MODEL = '"tiny", a folder, or a name on the hub.'
Model = Annotated[str, Option(help=MODEL)]
Checkpoint = Annotated[str, Argument(metavar="MODEL", help=MODEL)]
Device = Annotated[str, Option(help="auto, cpu, cuda, mps, or the number of a GPU.")]
Dtypes = Literal["auto", "float32", "float16", "bfloat16"]
Dtype = Annotated[Dtypes, Option(help="Of the weights; auto: as in config.json.")]
Revision = Annotated[str | None, Option(help="Branch, tag or commit on the hub.")]
Heads = Annotated[int | None, Option("--n-head", help="Heads, if no config.json says.")]


Force = Annotated[bool, Option("--force", help="Replace what is there.")]
Json = Annotated[bool, Option("--json", help="One JSON object; of a failure, its error.")]


def is_first() -> bool:
    """Say whether this is the first of the processes that torchrun started, or the only one."""
    return int(os.environ.get("RANK", 0)) == 0


def given(**options) -> dict:
    """Return the options that are not None."""
    return {name: value for name, value in options.items() if value is not None}
