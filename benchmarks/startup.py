"""How long one waits: `python -m benchmarks.startup` prints a table, writes results/startup.json.

Measured in fresh processes, as the median of several: importing minigpt against importing torch and
against transformers' GPT, and 200 greedy tokens from the embedded checkpoint after loading.
"""

import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results" / "startup.json"
IMPORTS = {
    "import torch": "import torch",
    "import minigpt": "import minigpt",
    "transformers' GPT": "from transformers import OpenAIGPTLMHeadModel, OpenAIGPTTokenizer",
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


def wall(code: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - begin


def printed(code: str) -> float:
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout)


def main() -> None:
    rounds = 7
    empty = statistics.median(wall("pass") for _ in range(rounds))
    # one round measures every import, so that a busy moment hits them alike
    samples = [{name: wall(code) - empty for name, code in IMPORTS.items()} for _ in range(rounds)]
    seconds = {name: statistics.median(sample[name] for sample in samples) for name in IMPORTS}
    greedy = statistics.median(printed(GREEDY) for _ in range(5))
    processor = platform.processor() or platform.machine()
    result = {
        "command": "python -m benchmarks.startup",
        "machine": f"{torch.get_num_threads()} threads, {processor}",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "minigpt over torch": round(seconds["import minigpt"] / seconds["import torch"], 2),
        "200 greedy tokens, seconds": round(greedy, 2),
    }
    for name, value in result["seconds"].items():
        print(f"{name:28} {value:6.2f} s")
    print(f"{'minigpt over torch':28} {result['minigpt over torch']:6.2f}")
    print(f"{'200 greedy tokens':28} {greedy:6.2f} s")
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
