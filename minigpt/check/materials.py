"""What several chapters load: the checkpoint "tiny", and results of OpenAI's own code."""

import json
import math
from dataclasses import replace
from importlib.resources import files

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from ..config import GPTConfig
from ..model import GPT

ASSETS = files("minigpt") / "assets"
TINY = GPTConfig(vocab_size=8192, n_embd=256, n_layer=8, n_head=4)
SMALL = GPTConfig(vocab_size=100, n_positions=24, n_embd=32, n_layer=3, n_head=4)


def tiny_weights() -> dict[str, Tensor]:
    """Load the weights of the checkpoint "tiny", float32, under the names of `GPT`."""
    found = load_file(ASSETS / "tiny" / "model.safetensors")
    return {name.removeprefix("transformer."): x.float() for name, x in found.items()}


def tiny_network(new_tokens: int = 0) -> GPT:
    """Build the network of "tiny", with random rows (the same at each call) for new tokens."""
    torch.manual_seed(0)
    weights, new = tiny_weights(), 0.02 * torch.randn(new_tokens, TINY.n_embd)
    network = GPT(replace(TINY, vocab_size=TINY.vocab_size + new_tokens))
    rows = torch.cat([weights["tokens_embed.weight"], new])  # (V, C), (new, C) -> (V + new, C)
    network.load_state_dict(weights | {"tokens_embed.weight": rows})
    return network.eval()


def golden_results() -> dict[str, Tensor]:
    """Load what OpenAI's own code computed for a small random model: embedding, layers, losses.

    Source: OpenAI's `finetune-transformer-lm`, run on a CPU; sizes: `SMALL`.
    """
    arrays = np.load(ASSETS / "golden" / "golden.npz")
    return {name: torch.from_numpy(arrays[name]) for name in arrays}


def golden_weights() -> dict[str, Tensor]:
    """Load the weights of that small model, under the names of `GPT`.

    Their format is that of OpenAI's release: ten files, which together are one row of numbers.
    The last three rows of the token embedding are the special tokens start, delimiter, extract.
    """
    folder = ASSETS / "golden" / "model"
    row = torch.from_numpy(np.concatenate([np.load(folder / f"params_{n}.npy") for n in range(10)]))
    shapes = json.loads((folder / "params_shapes.json").read_text(encoding="utf-8"))
    names = ["positions_embed.weight", "tokens_embed.weight"]
    for layer in range(SMALL.n_layer):
        for part in ("attn.c_attn", "attn.c_proj", "ln_1", "mlp.c_fc", "mlp.c_proj", "ln_2"):
            names += [f"h.{layer}.{part}.weight", f"h.{layer}.{part}.bias"]
    parts = zip(names, row.split([math.prod(x) for x in shapes]), shapes, strict=True)
    weights = {name: part.view(shape[-2:]) for name, part, shape in parts}
    rows = weights["tokens_embed.weight"], golden_results()["special"]
    return weights | {"tokens_embed.weight": torch.cat(rows)}  # (97, C), (3, C) -> (100, C)
