"""How long one waits: `python -m benchmarks.startup` prints a table, writes results/startup.json.

Measured in fresh processes, as the median of several: imports against importing torch and against
transformers' GPT, the help of the program against that of transformers' own, and 200 greedy tokens
from the embedded checkpoint after loading.
"""

import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.loading import processor

RESULTS = Path(__file__).parent / "results" / "startup.json"
PYTHON = [sys.executable, "-c"]
NAMES = "OpenAIGPTLMHeadModel, OpenAIGPTTokenizer"
THEIRS = "import sys; from transformers.cli.transformers import main; sys.argv[1:] = ['--help']"
COMMANDS = {  # what is timed, less the start of Python itself
    "import torch": [*PYTHON, "import torch"],
    "import minigpt": [*PYTHON, "import minigpt"],
    "minigpt's GPT": [*PYTHON, f"from minigpt import {NAMES}"],
    "transformers' GPT": [*PYTHON, f"from transformers import {NAMES}"],
    "minigpt --help": [sys.executable, "-m", "minigpt", "--help"],
    "minigpt --version": [sys.executable, "-m", "minigpt", "--version"],
    "transformers --help": [*PYTHON, f"{THEIRS}; main()"],
}
GREEDY = """
import time, torch, minigpt
model = minigpt.OpenAIGPTLMHeadModel.from_pretrained("tiny")
ids = torch.tensor([[194, 2288, 202, 2412, 244]])
begin = time.perf_counter()
out = model.generate(ids, max_new_tokens=200)
assert out.shape == (1, 205)
print(time.perf_counter() - begin)
"""


def wall(command: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def printed(code: str) -> float:
    done = subprocess.run([*PYTHON, code], check=True, capture_output=True, text=True)
    return float(done.stdout)


def main() -> None:
    rounds = 7
    empty = statistics.median(wall([*PYTHON, "pass"]) for _ in range(rounds))
    # one round measures every command, so that a busy moment hits them alike
    samples = [
        {name: wall(command) - empty for name, command in COMMANDS.items()} for _ in range(rounds)
    ]
    seconds = {name: statistics.median(sample[name] for sample in samples) for name in COMMANDS}
    greedy = statistics.median(printed(GREEDY) for _ in range(5))
    result = {
        "command": "python -m benchmarks.startup",
        "machine": f"{torch.get_num_threads()} threads, {processor()}",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "the start of Python itself, seconds": round(empty, 3),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "minigpt's GPT over torch": round(seconds["minigpt's GPT"] / seconds["import torch"], 2),
        "200 greedy tokens, seconds": round(greedy, 2),
    }
    for name, value in result["seconds"].items():
        print(f"{name:28} {value:6.3f} s")
    for name in ("minigpt's GPT over torch", "200 greedy tokens, seconds"):
        print(f"{name:28} {result[name]:6.2f}")
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
