"""Why did 16-bit training break? `python -m benchmarks.rounding BOOK.txt [CHECKPOINT ...]`.

Takes a checkpoint (default: the embedded one) and four windows of a book, and compares the gradient
of the loss in float32 with the gradient under 16-bit autocast, block by block, for the weights that
make queries and keys: ||g16 - g32|| / ||g32||. Then again with parts of the attention kept in
float32. Prints a table for each checkpoint and writes results/rounding.json. A checkpoint of a
broken run is kept in the history: `git show 0c893a5:minigpt/assets/tiny/model.safetensors`.
"""

import json
import platform
import sys
from pathlib import Path
from unittest.mock import patch

import torch

from minigpt import OpenAIGPTLMHeadModel, OpenAIGPTTokenizer, block

RESULTS = Path(__file__).parent / "results" / "rounding.json"
WINDOWS, LENGTH = 4, 512
SDPA, FORWARD = block.ATTENTION["sdpa"], block.Attention.forward


def exact_product(q, k, v, mask=None, dropout=0.0):
    with torch.autocast("cpu", enabled=False):
        return SDPA(q.float(), k.float(), v.float(), mask, dropout)


def exact_layer(self, x, *inputs, **options):
    with torch.autocast("cpu", enabled=False):
        return FORWARD(self, x.float(), *inputs, **options)


def gradients(model, ids, bits16: bool) -> list[torch.Tensor]:
    """The gradient for queries and keys in each block: n_layer of (C, 2C)."""
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bits16):
        model(ids, labels=ids).loss.backward()
    weights = [layer.attn.c_attn.weight for layer in model.transformer.h]
    return [weight.grad[:, : 2 * len(weight)].clone() for weight in weights]


def errors(found: list, exact: list) -> list[float]:
    pairs = zip(found, exact, strict=True)
    return [float(f"{(a - b).norm() / b.norm():.2g}") for a, b in pairs]


def measure(checkpoint: str, book: str) -> dict[str, list[float]]:
    """The relative errors of the gradient: what is rounded -> one number a block."""
    tokenizer = OpenAIGPTTokenizer.from_pretrained("tiny")
    model = OpenAIGPTLMHeadModel.from_pretrained(checkpoint)
    ids = torch.tensor(tokenizer.encode(Path(book).read_text(encoding="utf-8")))
    ids = ids[: WINDOWS * LENGTH].view(WINDOWS, LENGTH)  # (N,) -> (B, T)
    exact = gradients(model, ids, bits16=False)
    table = {"all in bfloat16": errors(gradients(model, ids, bits16=True), exact)}
    with patch.dict(block.ATTENTION, sdpa=exact_product):
        table["q k v product in float32"] = errors(gradients(model, ids, bits16=True), exact)
    with patch.object(block.Attention, "forward", exact_layer):
        table["attention layer in float32"] = errors(gradients(model, ids, bits16=True), exact)
    return table


def main(book: str, *checkpoints: str) -> None:
    tables = {}
    for checkpoint in checkpoints or ("tiny",):
        tables[Path(checkpoint).name] = table = measure(checkpoint, book)
        print(checkpoint)
        for name, row in table.items():
            print(f"{name:28}", *(f"{value:8.2g}" for value in row))
    result = {
        "command": f"python -m benchmarks.rounding BOOK.txt {' '.join(tables)}",
        "machine": f"CPU, {torch.get_num_threads()} threads, {platform.machine()}",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "relative error of the gradient, per block": tables,
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
