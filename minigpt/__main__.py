"""The command line: `python -m minigpt --help`."""

import signal


def end_at_once() -> None:
    """Let Ctrl-C end the program from now on, at once and without a word."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def main() -> None:
    """Run the program; only while a command works is Ctrl-C an exception."""
    end_at_once()
    from minigpt.cli.app import app

    try:
        app(prog_name="minigpt")
    finally:
        end_at_once()


if __name__ == "__main__":
    main()
