"""What a fine-tuning step costs: `python -m benchmarks.finetuning`.

A batch of 32 rows of 64 tokens: minigpt as `minigpt finetune` runs it, with and without the
auxiliary loss, beside transformers' two classes, in turns. On a GPU: GPT-1's sizes, bfloat16;
transformers as it comes (TF32), and with autocast to bfloat16; then the same with batches of many
lengths, as length-bucketed texts have. On a CPU: `tiny`'s sizes, two threads. Writes
results/finetuning-cpu.json or results/finetuning-cuda.json.
"""

import math
import statistics
import time
from contextlib import nullcontext
from functools import partial
from itertools import cycle

import torch
import transformers

from benchmarks.common import machine, write_result
from minigpt import OpenAIGPTConfig, OpenAIGPTModel
from minigpt.finetuning import FineTuning, fine_tune
from minigpt.training.datasets import PAPER_TASKS
from minigpt.training.finetune import speed_up
from minigpt.training.task_model import Network

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
DOUBLE, CLASSIFIER = "OpenAIGPTDoubleHeadsModel", "OpenAIGPTForSequenceClassification"
B, T = 32, 64
TINY = {"vocab_size": 8195, "n_embd": 256, "n_layer": 8, "n_head": 4}
SIZES = {"vocab_size": 40481} if GPU else TINY
ROUNDS = 40 if GPU else 7
MANY = [64, 20, 37, 12, 51, 28, 43, 9, 24, 60, 16, 32]  # lengths of a stream of batches


def batch(length: int) -> tuple[torch.Tensor, ...]:
    """Make random ids (B, 1, T), the ends of the rows (B, 1), and answers (B,)."""
    ids = torch.randint(8000, (B, 1, length), device=DEVICE)
    ends = torch.full((B, 1), length - 1, device=DEVICE)
    return ids, ends, torch.randint(2, (B,), device=DEVICE)


def ours(lengths: list[int], lm_coef: float):
    """Return a function that makes a step of `minigpt finetune`."""
    network = Network(PAPER_TASKS["cola"], OpenAIGPTModel(OpenAIGPTConfig(**SIZES))).to(DEVICE)
    speed_up(network, None)
    batches, recipe = cycle([batch(T) for T in lengths]), FineTuning(steps=10**4, lm_coef=lm_coef)
    return partial(next, fine_tune(network, batches, recipe))


def theirs(lengths: list[int], kind: str, is_cast: bool):
    """Return a function that makes a step with a class of transformers and PyTorch's AdamW."""
    chooses = "Double" in kind
    config = transformers.OpenAIGPTConfig(**SIZES, num_labels=1 if chooses else 2)
    config.pad_token_id = 8100
    model = getattr(transformers, kind)(config).to(DEVICE).train()
    optimizer, rows = torch.optim.AdamW(model.parameters(), lr=6.25e-5), []
    for ids, ends, answers in map(batch, lengths):
        if chooses:  # two answers a question: as many rows
            ids, ends = ids.view(-1, 2, ids.shape[-1]), ends.view(-1, 2)
            row = {"mc_token_ids": ends, "labels": ids, "mc_labels": answers[::2]}
        else:
            ids, row = ids[:, 0], {"labels": answers}
        rows.append({"input_ids": ids, **row})
    inputs = cycle(rows)

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16) if is_cast else nullcontext():
            found = model(**next(inputs))
            loss = found.mc_loss + 0.5 * found.loss if chooses else found.loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def timed(step) -> float:
    begin = time.perf_counter()
    step()
    if GPU:
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - begin)


def compare(lengths: list[int]) -> dict[str, dict[str, float]]:
    """Time steps of all in turns: milliseconds, and how many times minigpt's these are."""
    steps = {"minigpt": ours(lengths, 0.5), "minigpt, no auxiliary loss": ours(lengths, 0.0)}
    for kind in (DOUBLE, CLASSIFIER):
        for is_cast in (False, True) if GPU else (False,):
            name = f"transformers {kind}" + ", bfloat16" * is_cast
            steps[name] = theirs(lengths, kind, is_cast)
    rounds = math.ceil(ROUNDS / len(lengths))
    times = {name: [] for name in steps}
    for step in steps.values():  # warms up, records CUDA graphs
        for _ in range((4 if GPU else 1) * len(lengths)):
            timed(step)
    for _ in range(rounds * len(lengths)):
        for name, step in steps.items():
            times[name].append(timed(step))
    middle = statistics.fmean if len(lengths) > 1 else statistics.median
    middle = {name: round(middle(found), 2) for name, found in times.items()}
    like = {name: "minigpt" + ", no auxiliary loss" * (CLASSIFIER in name) for name in middle}
    ratios = {name: round(middle[name] / middle[like[name]], 2) for name in list(middle)[2:]}
    return {"milliseconds": middle, "times minigpt's, with the same losses": ratios}


def main() -> None:
    torch.set_num_threads(16 if GPU else 2)
    torch.set_float32_matmul_precision("high")  # TF32, for transformers
    facts = {"transformers": transformers.__version__, "sizes": SIZES, "batch": [B, T]}
    facts |= compare([T])
    if GPU:
        facts["batches of many lengths, mean"] = {"lengths": MANY, **compare(MANY)}
    command = "python -m benchmarks.finetuning"
    name = f"finetuning-{DEVICE.type}"
    write_result(name, {"command": command, **machine(), **facts})


if __name__ == "__main__":
    main()
