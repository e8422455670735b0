"""The command line: `python -m minigpt --help`; see notebook 16."""

from minigpt.command_line import app

if __name__ == "__main__":
    app()
