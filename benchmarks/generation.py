"""How fast text is generated, beside transformers: `python -m benchmarks.generation [RESULTS]`.

Full size (116.5 million weights), random weights, greedy, prompts of 8 tokens, 500 new tokens.
minigpt's growing cache and its static one (on a GPU: the Triton kernels and one recorded graph a
step), transformers' GPT, which has no cache, and its GPT-2 of the same size, which has one. On a
CPU one text in float32 and bfloat16, on a GPU 1 and 64 texts in bfloat16. The floor is the time to
read all weights and, of the keys and values, those that are there, once a token, at the rate that
this machine reads at (CPU) or copies at (GPU). Writes generation-cpu.json or generation-cuda.json.
"""

import json
import platform
import statistics
import sys
import time
from pathlib import Path

import torch
import transformers

import minigpt
from minigpt.fast.static_cache import FastGenerator, kernel_step

GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"
RESULTS = Path(__file__).parent / "results"
PROMPT, NEW = 8, 500
WEIGHTS = 116_534_784 - 512 * 768  # a token reads one row of the table of positions, not all


def wait() -> float:
    if GPU:
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds(run, repeats: int = 3, warm_up: int = 1) -> float:
    """The median time of some runs, after others that do not count."""
    times = []
    for _ in range(warm_up + repeats):
        begin = wait()
        run()
        times.append(wait() - begin)
    return statistics.median(times[warm_up:])


def read_rate() -> float:
    """Bytes a second: read by the CPU, or read and written by the GPU."""
    x = torch.ones(2**28 if GPU else 2**27, device=DEVICE)
    if not GPU:
        return x.nbytes / seconds(lambda: x.sum(), 9)
    y = torch.empty_like(x)
    return 2 * x.nbytes / seconds(lambda: y.copy_(x), 9)


def floor(rate: float, B: int, size: int) -> float:
    """The least time for a step, with the cache half full."""
    places = PROMPT + NEW / 2
    return size * (WEIGHTS + B * places * 2 * 12 * 768) / rate


def build(source, kind: str, dtype: torch.dtype, **options):
    torch.manual_seed(0)
    config = getattr(source, f"{kind}Config")(**options)
    return getattr(source, f"{kind}LMHeadModel")(config).to(DEVICE, dtype).eval()


def row(tokens: int, time: float, least: float | None = None) -> dict:
    found = {"tokens/s": round(tokens / time, 1), "seconds": round(time, 3)}
    if least is not None:  # of the floor's steps
        found["share of the floor"] = round(least * NEW / time, 3)
    return found


def by_transformers(kind: str, ids: torch.Tensor, dtype, repeats: int, **options) -> dict:
    model = build(transformers, kind, dtype, **options)
    ask = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "pad_token_id": 0}
    ask["attention_mask"] = torch.ones_like(ids)
    return row(len(ids) * NEW, seconds(lambda: model.generate(ids, **ask), repeats, GPU))


def error_of_step(dtype: torch.dtype, B: int) -> dict:
    """How far the logits of 200 fast steps are from float32, and how far those of the model."""
    exact = build(minigpt, "OpenAIGPT", torch.float32)
    model = build(minigpt, "OpenAIGPT", dtype)
    text = torch.randint(40478, (B, PROMPT + 200), device=DEVICE)
    cache = FastGenerator(model, B).cache
    cache.reset()
    model.next_logits(text[:, :PROMPT], cache)
    rows = []
    for index in range(PROMPT, text.shape[1]):
        cache.slot.fill_(index)
        rows.append(kernel_step(model.transformer, cache, text) @ model.lm_head.weight.T)
    expected, plain = exact(text).logits[:, PROMPT:], model(text).logits[:, PROMPT:]

    def relative(logits):
        return round(((logits.float() - expected).norm() / expected.norm()).item(), 4)

    return {"fast step": relative(torch.stack(rows, 1)), "forward": relative(plain)}


def measure(B: int, dtype: torch.dtype, rate: float) -> dict:
    ids = torch.randint(40478, (B, PROMPT), device=DEVICE)
    model, least = build(minigpt, "OpenAIGPT", dtype), floor(rate, B, dtype.itemsize)
    begin = wait()
    fast = FastGenerator(model, B)
    recorded = wait() - begin
    few = 1 if not GPU else 3
    rows = {"minigpt, static cache": row(B * NEW, seconds(lambda: fast(ids, NEW), few), least)}
    rows["minigpt, static cache"] |= {
        "building and recording, seconds": round(recorded, 2),
        "first token, milliseconds": round(1000 * seconds(lambda: fast(ids, 1), 9), 2),
    }
    if GPU:
        used = torch.cuda.memory_allocated()
        for _ in range(10_000 // NEW):
            fast(ids, NEW)
        grown = torch.cuda.memory_allocated() - used
        rows["minigpt, static cache"]["bytes more after 10,000 tokens"] = grown
        rows["minigpt, static cache"]["relative error"] = error_of_step(dtype, min(B, 4))
    plain = seconds(lambda: model.generate(ids, max_new_tokens=NEW), few, GPU)
    rows["minigpt, growing cache"] = row(B * NEW, plain, least)
    print(rows, flush=True)
    if GPU or dtype == torch.float32:  # bfloat16 on a CPU: 64 tokens take 12 seconds
        gpt2 = {"vocab_size": 40478, "n_positions": 512, "n_ctx": 512}
        rows["transformers GPT-2"] = by_transformers("GPT2", ids, dtype, few, **gpt2)
        rows["transformers GPT"] = by_transformers("OpenAIGPT", ids, dtype, 1)
        ours = rows["minigpt, static cache"]["tokens/s"]
        for found in rows.values():
            found["ours is times as fast"] = round(ours / found["tokens/s"], 2)
    return rows


@torch.inference_mode()
def main() -> None:
    transformers.utils.logging.set_verbosity_error()
    rate = read_rate()
    half = torch.bfloat16
    cases = [(1, half), (64, half)] if GPU else [(1, torch.float32), (1, half)]
    threads = f"{torch.get_num_threads()} threads of a CPU"
    result = {
        "command": "python -m benchmarks.generation",
        "machine": f"{torch.cuda.get_device_name() if GPU else threads}, {platform.machine()}",
        "versions": {m.__name__: m.__version__ for m in (torch, transformers, minigpt)},
        "date": time.strftime("%Y-%m-%d"),
        "GB/s": round(rate / 1e9),
        "prompt, new tokens": [PROMPT, NEW],
    }
    for B, dtype in cases:
        name = f"{B} text{'s' * (B > 1)}, {str(dtype).removeprefix('torch.')}"
        result[name] = measure(B, dtype, rate)
        result[name]["floor, tokens/s"] = round(B / floor(rate, B, dtype.itemsize))
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS
    text = json.dumps(result, indent=1) + "\n"
    (folder / f"generation-{DEVICE}.json").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
