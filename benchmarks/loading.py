"""Loading a full-size checkpoint: `python -m benchmarks.loading` writes results/loading.json.

Writes GPT-1 with random weights (116.5 million) into a temporary folder, in each format that both
sides read, and loads it with minigpt and with transformers, in fresh processes, in turns. Of each:
seconds for `from_pretrained`; seconds until every weight has also been read once, since both sides
leave weights in the file until they are used; and the most memory that the process ever had
(VmHWM), less what it had before, over the size of the loaded model. Needs Linux.
"""

import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import minigpt
from minigpt.hf.loading import convert

RESULTS = Path(__file__).parent / "results" / "loading.json"
ROUNDS = 5
ONE_LOAD = """
import gc, json, sys, time, torch
package, folder, dtype = sys.argv[1:]
if package == "minigpt":
    from minigpt import OpenAIGPTLMHeadModel
else:
    import transformers
    transformers.utils.logging.disable_progress_bar()
    from transformers import OpenAIGPTLMHeadModel
def memory(key):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))
gc.collect()  # which may fall into either's load, and takes longer than that
before, start = memory("VmRSS"), time.perf_counter()
model = OpenAIGPTLMHeadModel.from_pretrained(folder, dtype=getattr(torch, dtype))
loaded = time.perf_counter()
for parameter in model.parameters():
    parameter.detach().sum()
read = time.perf_counter()
size = sum(x.numel() * x.element_size() for x in model.parameters())
assert model.dtype == getattr(torch, dtype) and size > 200e6
print(json.dumps([loaded - start, read - start, (memory("VmHWM") - before) / size]))
"""
COLUMNS = ("load_s", "load_and_read_s", "peak_over_model")
KINDS = {  # format -> arguments of `convert`, number types that are saved
    "safetensors": ({}, ("float32", "float16")),
    "safetensors in shards": ({"max_shard_size": "200MB"}, ("float32",)),
    "bin": ({"to": "bin"}, ("float32",)),
    "bin in shards": ({"to": "bin", "max_shard_size": "200MB"}, ("float32",)),
    "safetensors of old": ({}, ("float32",)),  # see `add_leftovers`
    "bin of old": ({"to": "bin"}, ("float32",)),
    "legacy bin": ({"to": "bin"}, ("float32",)),  # no zip archive
}


def one_load(package: str, folder: Path, dtype: str) -> list[float]:
    command = [sys.executable, "-c", ONE_LOAD, package, str(folder), dtype]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def measure(folder: Path, dtype: str) -> dict[str, dict[str, float]]:
    """Load in turns; of seconds the least, since a busy machine only adds, of memory the most."""
    packages = ("minigpt", "transformers")
    samples = [
        {package: one_load(package, folder, dtype) for package in packages} for _ in range(ROUNDS)
    ]
    result = {}
    for package in packages:
        load, read, peak = zip(*(sample[package] for sample in samples), strict=True)
        values = min(load), min(read), max(peak)
        result[package] = {name: round(x, 3) for name, x in zip(COLUMNS, values, strict=True)}
        result[package]["all_load_s"] = [round(x, 3) for x in load]
    return result


def add_leftovers(folder: Path) -> None:
    """Add what older programs saved besides: the causal masks, and the token table once more."""
    weights = {name: x.clone() for name, x in read_all(folder).items()}
    weights |= {f"transformer.h.{n}.attn.bias": torch.ones(1, 1, 512, 512) for n in range(12)}
    weights["lm_head.weight"] = weights["transformer.tokens_embed.weight"].clone()
    if (path := folder / "pytorch_model.bin").exists():
        torch.save(weights, path, _use_new_zipfile_serialization="legacy" not in folder.name)
    else:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def read_all(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / "pytorch_model.bin"
    return torch.load(path) if path.exists() else load_file(folder / "model.safetensors")


def checkpoints(place: Path) -> Iterator[tuple[str, Path, str]]:
    """Write checkpoints of all kinds; yield a name, the folder and the number type to load."""
    torch.manual_seed(0)
    model = minigpt.OpenAIGPTLMHeadModel(minigpt.OpenAIGPTConfig())
    for kind, (options, types) in KINDS.items():
        for saved in types:
            plain, folder = place / saved, place / f"{kind} {saved}"
            if not plain.exists():
                model.to(getattr(torch, saved)).save_pretrained(plain)
            convert(plain, folder, **options)
            if " of old" in kind or "legacy" in kind:
                add_leftovers(folder)
            for dtype in ("float32", "float16", "bfloat16"):
                yield f"{kind}, {saved} -> {dtype}", folder, dtype


def processor() -> str:
    facts = Path("/proc/cpuinfo")  # Linux only
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.exists() else []
    named = [line.split(": ")[1] for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def main() -> None:
    import transformers

    rows = {}
    print(f"{'':42} {'':13} {'load':>8} {'and read':>9} {'peak / model':>13}")
    with tempfile.TemporaryDirectory() as place:
        for name, folder, dtype in checkpoints(Path(place)):
            rows[name] = row = measure(folder, dtype)
            for package, x in row.items():
                load, read, peak = (x[column] for column in COLUMNS)
                print(
                    f"{name:42} {package:13} {load:6.3f} s {read:7.3f} s {peak:13.2f}", flush=True
                )
    result = {
        "command": "python -m benchmarks.loading",
        "machine": f"{torch.get_num_threads()} threads, {processor()}",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "rounds": ROUNDS,
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
