import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from minigpt.tokenizer import find_file

MODEL_TYPE = "openai-gpt"
RUNTIME_FIELDS = {"attn_implementation"}  # choices of a run, not facts about the checkpoint: never saved


@dataclass
class OpenAIGPTConfig:
    """The sizes and settings of a GPT-1, under the names that `config.json` of the reference uses.

    Raises ValueError, naming field and value, where no model could be built.
    """

    vocab_size: int = 40478  # V: pieces in the vocabulary
    n_positions: int = 512  # the longest text, in tokens
    n_embd: int = 768  # C: channels
    n_layer: int = 12  # blocks
    n_head: int = 12  # H: heads, each of D = C / H channels
    afn: str = "gelu"  # activation function of the MLP; "gelu" means its tanh approximation
    resid_pdrop: float = 0.1  # dropout where a branch joins the main path
    embd_pdrop: float = 0.1  # dropout after the embeddings
    attn_pdrop: float = 0.1  # dropout on the attention weights
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02  # standard deviation of new weights
    attn_implementation: str = "sdpa"  # notebook 04's switch

    def __post_init__(self):
        for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}; it must be at least 1")
        for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}; a dropout rate lies between 0 and 1")
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd={self.n_embd} cannot be cut into n_head={self.n_head} heads of equal width")

    @classmethod
    def from_pretrained(cls, checkpoint: str | Path, **overrides) -> "OpenAIGPTConfig":
        """Read the config of a checkpoint; `overrides` replace fields, such as `n_head=4`."""
        return cls(**(read_config(checkpoint) | overrides))

    def to_dict(self) -> dict:
        """Return what `config.json` holds."""
        own = {name: value for name, value in asdict(self).items() if name not in RUNTIME_FIELDS}
        return {"model_type": MODEL_TYPE, **own}


BLOCK_PARAMETERS = [
    f"{layer}.{kind}"
    for layer in ("attn.c_attn", "attn.c_proj", "ln_1", "mlp.c_fc", "mlp.c_proj", "ln_2")
    for kind in ("weight", "bias")
]


def parameter_names(n_layer: int) -> list[str]:
    """List the parameters of a GPT-1 in the order of OpenAI's release: positions, tokens, then block after block."""
    blocks = [f"h.{layer}.{name}" for layer in range(n_layer) for name in BLOCK_PARAMETERS]
    return ["positions_embed.weight", "tokens_embed.weight", *blocks]


def read_release(folder: str | Path) -> dict[str, Tensor]:
    """Read OpenAI's 2018 format: `params_shapes.json` and one long array cut into `params_0.npy`, `params_1.npy`, ...

    Returns parameter name -> float32 tensor. Source: `load_openai_pretrained_model`, as in OpenAI's train.py.
    """
    shapes = json.loads(Path(folder, "params_shapes.json").read_text())
    parts = sorted(Path(folder).glob("params_*.npy"), key=lambda path: int(path.stem.split("_")[1]))
    sizes = [int(np.prod(shape)) for shape in shapes]
    numbers = np.concatenate([np.load(part, allow_pickle=False) for part in parts])
    if len(numbers) != sum(sizes):
        raise ValueError(
            f"{folder}: params_shapes.json promises {sum(sizes)} numbers, its {len(parts)} parts hold {len(numbers)}; "
            "a part is missing or cut short"
        )
    arrays = np.split(numbers, np.cumsum(sizes)[:-1])
    names = parameter_names((len(shapes) - 2) // len(BLOCK_PARAMETERS))
    # a matrix is stored as (1, in, out): a convolution of width 1, hence the name Conv1D
    return {name: torch.from_numpy(array.reshape(shape[-2:])) for name, array, shape in zip(names, arrays, shapes, strict=True)}


def release_config(folder: str | Path) -> dict:
    """Read what the shapes tell of a release: all sizes but the number of heads, which leaves no trace in them."""
    shapes = json.loads(Path(folder, "params_shapes.json").read_text())
    (n_positions, n_embd), (vocab_size, _) = shapes[:2]
    n_layer = (len(shapes) - 2) // len(BLOCK_PARAMETERS)
    return {"n_positions": n_positions, "vocab_size": vocab_size, "n_embd": n_embd, "n_layer": n_layer}


CONFIG_FILES = ("config.json", "params_shapes.json")
WEIGHT_FILES = ("model.safetensors", "params_shapes.json")


def read_config(checkpoint: str | Path) -> dict:
    """Read the fields of `OpenAIGPTConfig` that a checkpoint gives, from either format."""
    path = find_file(checkpoint, *CONFIG_FILES)
    if path.name == "params_shapes.json":
        return release_config(path.parent)
    settings = json.loads(path.read_text(encoding="utf-8"))
    if settings.get("model_type", MODEL_TYPE) != MODEL_TYPE:
        raise ValueError(f"{path} is for a {settings['model_type']!r} model; minigpt builds {MODEL_TYPE!r} alone")
    known = {field.name for field in fields(OpenAIGPTConfig)} - RUNTIME_FIELDS
    return {name: value for name, value in settings.items() if name in known}


def read_weights(checkpoint: str | Path) -> dict[str, Tensor]:
    """Read the weights of a checkpoint, from either format, under their bare names: `h.0.attn.c_attn.weight`."""
    path = find_file(checkpoint, *WEIGHT_FILES)
    weights = read_release(path.parent) if path.name == "params_shapes.json" else load_file(path)
    return {bare_name(name): array for name, array in weights.items()}


def bare_name(name: str) -> str:
    """Drop the prefix that models with a head put before the names of the network below it."""
    return name.removeprefix("transformer.")


def write_checkpoint(folder: str | Path, config: OpenAIGPTConfig, weights: dict[str, Tensor], architecture: str) -> None:
    """Write `config.json` and `model.safetensors` into `folder` (made if need be), as transformers reads them.

    `architecture` is the name of the class to load them with.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    dtype = str(next(iter(weights.values())).dtype).removeprefix("torch.")
    settings = {"architectures": [architecture], **config.to_dict(), "dtype": dtype}
    Path(folder, "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    arrays = {name: array.detach().cpu().contiguous() for name, array in weights.items()}
    save_file(arrays, Path(folder, "model.safetensors"), metadata={"format": "pt"})
