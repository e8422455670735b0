"""What a fine-tuning step costs: `python -m benchmarks.finetuning`.

A batch of 32 rows of 64 tokens: minigpt as `minigpt finetune` runs it for 2,000 steps or more,
with and without the auxiliary loss, beside transformers' two classes, in turns. On a GPU: GPT-1's
sizes, bfloat16, compiled; transformers as it comes (TF32) and with autocast to bfloat16. On a CPU:
`tiny`'s sizes, two threads. Writes results/finetuning-cpu.json or results/finetuning-cuda.json.
"""

import statistics
import time
from contextlib import nullcontext
from functools import partial
from itertools import chain, repeat

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
B, T = 32, 64
TINY = {"vocab_size": 8195, "n_embd": 256, "n_layer": 8, "n_head": 4}
SIZES = {"vocab_size": 40481} if GPU else TINY
WARM, ROUNDS = (20, 40) if GPU else (1, 7)
LENGTHS = [64, 48, 56, 33, 64, 40] * GPU  # of the first batches: one compiled program for all


def batch(length: int = T) -> tuple[torch.Tensor, ...]:
    """Make random ids (B, 1, T), the ends of the rows (B, 1), and answers (B,)."""
    ids = torch.randint(8000, (B, 1, length), device=DEVICE)
    ends = torch.full((B, 1), length - 1, device=DEVICE)
    return ids, ends, torch.randint(2, (B,), device=DEVICE)


def ours(lm_coef: float):
    """Return a function that makes a step of `minigpt finetune`."""
    network = Network(PAPER_TASKS["cola"], OpenAIGPTModel(OpenAIGPTConfig(**SIZES))).to(DEVICE)
    speed_up(network, 10**6, None, None)
    same = batch()
    batches = chain(map(batch, LENGTHS), repeat(same))
    return partial(next, fine_tune(network, batches, FineTuning(steps=10**4, lm_coef=lm_coef)))


def theirs(kind: str, is_cast: bool):
    """Return a function that makes a step with a class of transformers and PyTorch's AdamW."""
    chooses = "Double" in kind
    config = transformers.OpenAIGPTConfig(**SIZES, num_labels=1 if chooses else 2)
    config.pad_token_id = 8100
    model = getattr(transformers, kind)(config).to(DEVICE).train()
    optimizer, (ids, ends, answers) = torch.optim.AdamW(model.parameters(), lr=6.25e-5), batch()
    if chooses:  # two answers a question: as many rows
        ids, ends, answers = ids.view(-1, 2, T), ends.view(-1, 2), answers[::2]
        inputs = {"input_ids": ids, "mc_token_ids": ends, "labels": ids, "mc_labels": answers}
    else:
        inputs = {"input_ids": ids[:, 0], "labels": answers}

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16) if is_cast else nullcontext():
            found = model(**inputs)
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


def main() -> None:
    torch.set_num_threads(16 if GPU else 2)
    torch.set_float32_matmul_precision("high")  # TF32, for transformers
    double, classifier = "OpenAIGPTDoubleHeadsModel", "OpenAIGPTForSequenceClassification"
    steps = {"minigpt": ours(0.5), "minigpt, no auxiliary loss": ours(0.0)}
    for kind in (double, classifier):
        for is_cast in (False, True) if GPU else (False,):
            name = f"transformers {kind}" + ", bfloat16" * is_cast
            steps[name] = theirs(kind, is_cast)
    for step in steps.values():
        for _ in range(WARM):
            timed(step)
    times = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            times[name].append(timed(step))
    middle = {name: round(statistics.median(found), 2) for name, found in times.items()}
    like = {name: "minigpt" + ", no auxiliary loss" * (classifier in name) for name in middle}
    ratios = {name: round(middle[name] / middle[like[name]], 2) for name in list(middle)[2:]}
    facts = {"transformers": transformers.__version__, "sizes": SIZES, "batch": [B, T]}
    facts |= {"milliseconds": middle, "times minigpt's, with the same losses": ratios}
    command = "python -m benchmarks.finetuning"
    name = f"finetuning-{DEVICE.type}"
    write_result(name, {"command": command, **machine(), **facts})


if __name__ == "__main__":
    main()
