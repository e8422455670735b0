"""This checkout against another one: `python -m benchmarks.versions OTHER [JOB ...]`.

Each job runs in a fresh process in either checkout, in turns, five times; the table has the medians
and their ratio, above 1 where this checkout is faster. Jobs whose name starts with "gpu" need one.
The model has the size of GPT-1 and random weights.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

import minigpt

HERE = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
RUNS = int(os.environ.get("RUNS", 5))

START = """
import sys, time, warnings
import torch
warnings.simplefilter("ignore")
from minigpt import *

def model(device="cpu", dtype=None, **sizes):
    torch.manual_seed(0)
    return OpenAIGPTLMHeadModel(OpenAIGPTConfig(**sizes)).to(device=device, dtype=dtype).eval()

def report(run, times=3):
    run()  # the first call pays for set-up
    if torch.cuda.is_available(): torch.cuda.synchronize()
    spent = []
    for _ in range(times):
        begin = time.perf_counter()
        run()
        if torch.cuda.is_available(): torch.cuda.synchronize()
        spent.append(time.perf_counter() - begin)
    print(sorted(spent)[len(spent) // 2])

def trainer(device, B, T, compiled):
    net = model(device).train()
    forward = torch.compile(net) if compiled else net
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=device == "cuda")
    ids = torch.randint(40478, (B, T), device=device)
    def step():
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = forward(ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return step

TEXT = "The old man looked at the sea, and didn't say a word. Nobody knew why. " * 20
"""

JOBS = {
    "load": "report(lambda: OpenAIGPTLMHeadModel.from_pretrained(sys.argv[1]))",
    "load as bfloat16": (
        "report(lambda: OpenAIGPTLMHeadModel.from_pretrained(sys.argv[1], dtype='bfloat16'))"
    ),
    "fast tokenizer, 200 texts": (
        "t = OpenAIGPTTokenizerFast.from_pretrained('tiny'); report(lambda: t([TEXT] * 200), 9)"
    ),
    "fast tokenizer, one by one": (
        "t = OpenAIGPTTokenizerFast.from_pretrained('tiny')\n"
        "report(lambda: [t(TEXT[:200]) for _ in range(300)], 9)"
    ),
    "fast tokenizer, 200 pairs, padded": (
        "t = OpenAIGPTTokenizerFast.from_pretrained('tiny'); t.pad_token = t.unk_token\n"
        "two = [TEXT, TEXT[:300]] * 100; report(lambda: t(two, two, padding=True), 9)"
    ),
    "decode, 200 texts": (
        "t = OpenAIGPTTokenizerFast.from_pretrained('tiny'); ids = t([TEXT] * 200).input_ids\n"
        "report(lambda: t.batch_decode(ids, skip_special_tokens=True), 9)"
    ),
    "tokenizer, 100 texts": (
        "t = OpenAIGPTTokenizer.from_pretrained('tiny', text_pipeline='original')\n"
        "report(lambda: t([TEXT] * 100), 9)"
    ),
    "forward, 1 x 512": (
        "net, ids = model(), torch.randint(40478, (1, 512))\n"
        "with torch.no_grad(): report(lambda: net(ids))"
    ),
    "forward, 4 x 128, padded": (
        "net, ids = model(), torch.randint(40478, (4, 128))\n"
        "mask = torch.ones_like(ids); mask[1, :30] = 0\n"
        "with torch.no_grad(): report(lambda: net(ids, attention_mask=mask))"
    ),
    "decode 60 tokens": (
        "net, ids = model(), torch.randint(40478, (1, 8))\n"
        "report(lambda: net.generate(ids, max_new_tokens=60))"
    ),
    "decode 60 tokens, static": (
        "net, ids = model(), torch.randint(40478, (1, 8))\n"
        "report(lambda: net.generate(ids, max_new_tokens=60, cache_implementation='static'))"
    ),
    "decode 30 tokens, 4 beams": (
        "net, ids = model(), torch.randint(40478, (1, 8))\n"
        "report(lambda: net.generate(ids, max_new_tokens=30, num_beams=4))"
    ),
    "train, 2 x 128": "report(trainer('cpu', 2, 128, False))",
    "gpu: train, 32 x 512, compiled": "report(trainer('cuda', 32, 512, True), 20)",
    "gpu: train, 32 x 512, eager": "report(trainer('cuda', 32, 512, False), 20)",
    "gpu: decode 200 tokens, static, bfloat16": (
        "net, ids = model('cuda', torch.bfloat16), torch.randint(40478, (1, 8), device='cuda')\n"
        "report(lambda: net.generate(ids, max_new_tokens=200, cache_implementation='static'), 5)"
    ),
    "gpu: decode 200 tokens, 64 texts, static, bfloat16": (
        "net, ids = model('cuda', torch.bfloat16), torch.randint(40478, (64, 8), device='cuda')\n"
        "report(lambda: net.generate(ids, max_new_tokens=200, cache_implementation='static'), 5)"
    ),
    "gpu: decode 200 tokens, bfloat16": (
        "net, ids = model('cuda', torch.bfloat16), torch.randint(40478, (1, 8), device='cuda')\n"
        "report(lambda: net.generate(ids, max_new_tokens=200), 3)"
    ),
}


def seconds(checkout: Path, job: str, folder: str) -> float:
    command = [sys.executable, "-c", START + JOBS[job], folder]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"{job} in {checkout}:\n{run.stderr[-2000:]}")
    return float(run.stdout.split()[-1])


def main(other: str, wanted: list[str]) -> None:
    jobs = wanted or [job for job in JOBS if torch.cuda.is_available() or job[:3] != "gpu"]
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        minigpt.OpenAIGPTLMHeadModel(minigpt.OpenAIGPTConfig()).save_pretrained(folder)
        for job in jobs:
            spent = {"old": [], "new": []}
            for _ in range(RUNS):
                spent["old"].append(seconds(Path(other), job, folder))
                spent["new"].append(seconds(HERE, job, folder))
            middle = {name: statistics.median(times) for name, times in spent.items()}
            rows[job] = spent | {"old over new": round(middle["old"] / middle["new"], 3)}
            print(
                f"{job:50} old {middle['old']:8.4f} s, new {middle['new']:8.4f} s, "
                f"old over new {rows[job]['old over new']:.2f}",
                flush=True,
            )
    path = RESULTS / f"versions-{'cuda' if torch.cuda.is_available() else 'cpu'}.json"
    command = "python -m benchmarks.versions OTHER " + " ".join(map(repr, wanted))
    path.write_text(json.dumps({"command": command, "rows": rows} | machine(), indent=1), "utf-8")


def machine() -> dict:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    facts = {"processor": platform.machine(), "threads": torch.get_num_threads(), "gpu": gpu}
    return facts | {"python": platform.python_version(), "torch": torch.__version__}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
