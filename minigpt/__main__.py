"""The command line: `python -m minigpt --help`; see notebook 16."""

import signal


def main() -> None:
    """Run the program; until a command writes, Ctrl-C ends it at once and without a word."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from minigpt.command_line import app

    app(prog_name="minigpt")


if __name__ == "__main__":
    main()
