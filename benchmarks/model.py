"""What a forward pass and a training step cost, beside transformers: `python -m benchmarks.model`.

Full size, each with random weights of its own. On a CPU: 4 texts of 512 tokens, forward, and
forward + backward with loss (no dropout), float32. On a GPU: a training step (forward, backward,
AdamW) of 32 texts of 512 tokens, dropout on, eager and compiled, in mixed precision and in
bfloat16 (not with the argument `mixed`), and its share of the measured matrix peak. Writes
results/model-cpu.json or results/model-cuda.json.
"""

import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import transformers

import minigpt

RESULTS = Path(__file__).parent / "results"
LIBRARIES = {"minigpt": minigpt, "transformers": transformers}
DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop")


def build(library: str, device: str, dtype: torch.dtype, dropout: float):
    """The language model at full size, random weights, in train mode."""
    transformers.utils.logging.set_verbosity_error()
    torch.manual_seed(0)
    source = LIBRARIES[library]
    config = source.OpenAIGPTConfig(**dict.fromkeys(DROPOUTS, dropout))
    return source.OpenAIGPTLMHeadModel(config).to(device, dtype).train()


def some_ids(B: int, device: str) -> torch.Tensor:
    return torch.randint(40478, (B, 512), generator=torch.Generator().manual_seed(1)).to(device)


# -- CPU


@torch.no_grad()
def forward(model, ids):
    model(ids)


def forward_backward(model, ids):
    model.zero_grad()
    model(ids, labels=ids).loss.backward()


WORK = {"forward": forward, "forward + backward": forward_backward}


def measure_here(library: str, work: str, repeats: int = 4) -> dict:
    """The times of some calls after one to warm up, and the peak of this process."""
    model, ids = build(library, "cpu", torch.float32, 0.0), some_ids(4, "cpu")
    seconds = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        WORK[work](model, ids)
        seconds.append(time.perf_counter() - begin)
    # ru_maxrss would count the parent, too
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = int(status.split("VmHWM:")[1].split()[0]) / 2**20
    return {"seconds": seconds[1:], "peak GiB": peak}


def measure_apart(library: str, work: str) -> dict:
    command = [sys.executable, "-m", "benchmarks.model", "--here", library, work]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def products_alone(T: int = 2048, repeats: int = 4) -> dict[str, float]:
    """Seconds for the products with weight matrices and nothing else, attention's own left out.

    No float32 code on this machine is faster than its library's products, so transformers' time
    over this one is the most that could be gained on it.
    """
    shapes = [(768, 2304), (768, 768), (768, 3072), (3072, 768)] * 12 + [(768, 40478)]
    layers = [(torch.randn(T, i), torch.randn(i, o), torch.randn(T, o)) for i, o in shapes]

    def once(run) -> float:
        begin = time.perf_counter()
        for x, weight, grad in layers:
            run(x, weight, grad)
        return time.perf_counter() - begin

    forward = [once(lambda x, w, g: x @ w) for _ in range(repeats + 1)][1:]
    backward = [once(lambda x, w, g: (g @ w.T, x.T @ g)) for _ in range(repeats + 1)][1:]
    ahead = statistics.median(forward)
    return {"forward": ahead, "forward + backward": ahead + statistics.median(backward)}


def on_cpu(rounds: int = 3) -> dict:
    """Each library in a process of its own, in turns, so that neither finds the other's memory."""
    rows, floor = {}, products_alone()
    for work in WORK:
        turns = [
            {library: measure_apart(library, work) for library in LIBRARIES} for _ in range(rounds)
        ]
        seconds = {
            library: [s for turn in turns for s in turn[library]["seconds"]]
            for library in LIBRARIES
        }
        middle = {library: statistics.median(times) for library, times in seconds.items()}
        rows[work] = {
            "seconds": {library: round(value, 2) for library, value in middle.items()},
            "all": {library: [round(s, 2) for s in times] for library, times in seconds.items()},
            "times transformers' speed": round(middle["transformers"] / middle["minigpt"], 2),
            "products with weights alone, seconds": round(floor[work], 2),
            "most that could be gained": round(middle["transformers"] / floor[work], 2),
            "peak GiB": {
                library: round(max(turn[library]["peak GiB"] for turn in turns), 2)
                for library in LIBRARIES
            },
        }
    return {"4 x 512, float32": rows}


# -- GPU


def cuda_seconds(run, blocks: int = 7, calls: int = 5) -> float:
    """The median time of a call in blocks of several, as training runs them, after warming up."""
    for _ in range(3):
        run()
    times = []
    for _ in range(blocks):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        for _ in range(calls):
            run()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) / 1000 / calls)
    return statistics.median(times)


def matrix_peak() -> float:
    """The operations per second of a large bfloat16 product, the ceiling that we compare with."""
    a, b = torch.randn(2, 8192, 8192, device="cuda", dtype=torch.bfloat16)
    return 2 * 8192**3 / cuda_seconds(lambda: a @ b)


def measure_step(library: str, compiled: bool, mixed: bool, ids: torch.Tensor) -> dict:
    """A step with float32 weights under autocast (`mixed`), or with everything in bfloat16."""
    torch.compiler.reset()
    model = build(library, "cuda", torch.float32 if mixed else torch.bfloat16, 0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def loss_of(ids):
        return model(ids, labels=ids).loss

    loss_of = torch.compile(loss_of) if compiled else loss_of

    def step():
        with torch.autocast("cuda", torch.bfloat16, enabled=mixed):
            loss = loss_of(ids)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    torch.cuda.reset_peak_memory_stats()
    begin = time.perf_counter()
    first = step().item()
    started = time.perf_counter() - begin
    return {
        "milliseconds": round(1000 * cuda_seconds(step), 2),
        "peak GiB": round(torch.cuda.max_memory_allocated() / 2**30, 2),
        "first step, seconds": round(started, 1),
        "first loss": round(first, 3),
    }


def measure_all(mixed: bool, ids: torch.Tensor) -> dict:
    rows = {}
    for library in ("transformers", "minigpt"):
        for compiled in (False, True):
            name = f"{library}, {'compiled' if compiled else 'eager'}"
            rows[name] = measure_step(library, compiled, mixed, ids)
            print(name, rows[name], flush=True)
            torch.cuda.empty_cache()
    ours = rows["minigpt, compiled"]["milliseconds"]
    for row in rows.values():
        row["times ours, compiled"] = round(row["milliseconds"] / ours, 2)
    return rows


def on_cuda(B: int = 32) -> dict:
    ids, peak = some_ids(B, "cuda"), matrix_peak()
    # two operations for each weight and token forward, four backward; and q @ k, weights @ v
    C, T, n_layer, weights = 768, 512, 12, 116_534_784 - 512 * 768
    operations = B * T * (6 * weights + 6 * n_layer * 2 * T * C)
    floor = 1000 * operations / peak
    rows = {"mixed precision: float32 weights, bfloat16 products": measure_all(True, ids)}
    if "mixed" not in sys.argv:
        rows["all bfloat16"] = measure_all(False, ids)
    best = {name: row["minigpt, compiled"]["milliseconds"] for name, row in rows.items()}
    return {
        "matrix peak, TFLOP/s": round(peak / 1e12),
        "floor of a step, milliseconds": round(floor, 1),
        "share of the peak": {name: round(floor / value, 2) for name, value in best.items()},
        f"training step, {B} x 512, dropout 0.1": rows,
    }


def main() -> None:
    cuda = torch.cuda.is_available()
    name = torch.cuda.get_device_name() if cuda else f"{torch.get_num_threads()} threads of a CPU"
    versions = {m.__name__: m.__version__ for m in (torch, transformers, minigpt)}
    result = {
        "command": "python -m benchmarks.model" + " RESULTS mixed" * ("mixed" in sys.argv),
        "machine": f"{name}, {platform.machine()}",
        "versions": {"python": platform.python_version(), **versions},
        "date": time.strftime("%Y-%m-%d"),
        **(on_cuda() if cuda else on_cpu()),
    }
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS
    text = json.dumps(result, indent=1) + "\n"
    (folder / f"model-{'cuda' if cuda else 'cpu'}.json").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--here"]:
        print(json.dumps(measure_here(*sys.argv[2:])))
    else:
        main()
