"""Files of weights: safetensors, PyTorch's `.bin`, shards of both, and OpenAI's release.
Weights are a dictionary: name of a parameter, as `GPT` has it -> `Stored` tensor.
"""

import json
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import NamedTuple
from zipfile import is_zipfile

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from .files import Writer, find_file, json_writer, naming, read_json

PATTERNS = {"safetensors": "model{suffix}.safetensors", "bin": "pytorch_model{suffix}.bin"}
SINGLE = {to: pattern.format(suffix="") for to, pattern in PATTERNS.items()}  # not in shards
INDEX, RELEASE = ".index.json", "params_shapes.json"
WEIGHT_FILES = (*(name + more for name in SINGLE.values() for more in ("", INDEX)), RELEASE)
MASKS = (".attn.bias", ".attn.masked_bias", "position_ids")  # constants that older versions saved
PARTS = 10  # files of numbers in OpenAI's release
SMALL_BYTES = 2**18  # a tensor up to this size may stay in memory beside its conversion
BLOCK_PARAMETERS = [
    f"{layer}.{kind}"
    for layer in ("attn.c_attn", "attn.c_proj", "ln_1", "mlp.c_fc", "mlp.c_proj", "ln_2")
    for kind in ("weight", "bias")
]


def parameter_names(n_layer: int) -> list[str]:
    """List a GPT-1's parameters in the order of OpenAI's release: embeddings, then blocks."""
    blocks = [f"h.{layer}.{name}" for layer in range(n_layer) for name in BLOCK_PARAMETERS]
    return ["positions_embed.weight", "tokens_embed.weight", *blocks]


class Stored(NamedTuple):
    """A tensor in a file, mapped into memory: it takes none until it is read."""

    mapped: Tensor
    fresh: Callable[[], Tensor]  # maps the file anew: its memory is freed with the tensor

    def read(self, dtype: torch.dtype | None = None, device=None) -> Tensor:
        """Return the tensor, converted or copied only where that is needed."""
        x = self.mapped
        is_good = x.is_contiguous() and x.data_ptr() % x.itemsize == 0  # as kernels expect it
        if is_good and dtype in (None, x.dtype) and device in (None, x.device):
            return x
        source = self.fresh() if x.nbytes > SMALL_BYTES else x
        return source.to(device, dtype, copy=not is_good).contiguous()


def in_memory(weights: Mapping[str, Tensor]) -> dict[str, Stored]:
    return {name: Stored(x, x.detach) for name, x in weights.items()}


# -- reading


def load_bin(path: Path) -> dict[str, Tensor]:
    is_zip = is_zipfile(path)  # the legacy format is none, and cannot be mapped
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except UnpicklingError as error:
        reason = "is damaged, or holds more than tensors; it is not loaded, as it could run code"
        raise ValueError(reason) from error
    for name, x in found.items():
        if (type(name), x.layout, x.device.type) != (str, torch.strided, "cpu"):
            raise TypeError(f"{name} is not a dense tensor on the CPU")
    return {name: x.detach() for name, x in found.items()}


def open_file(path: Path) -> dict[str, Stored]:
    """Open a `.safetensors` or `.bin` file; no code in it is ever run.

    Raises ValueError, naming it, if it is damaged or holds more than named tensors.
    """
    with naming(path):
        if path.suffix == ".bin":
            return in_memory(load_bin(path))
        with safe_open(path, "pt") as file:
            return {
                x: Stored(file.get_tensor(x), lambda x=x: safe_open(path, "pt").get_tensor(x))
                for x in file.keys()
            }


def open_shards(path: Path, checkpoint: str | Path, **hub) -> dict[str, Stored]:
    """Open all tensors that an index lists. Raises ValueError if a shard lacks one."""
    with naming(path):
        places = dict(read_json(path)["weight_map"])
        if odd := [x for x in places.values() if not isinstance(x, str) or Path(x).name != x]:
            raise ValueError(f"{odd[0]!r:.80} is not a file in the same folder; copy it again")
    paths = {shard: find_file(checkpoint, shard, **hub) for shard in sorted({*places.values()})}
    shards = {shard: open_file(path_of_shard) for shard, path_of_shard in paths.items()}
    with naming(path):
        return {name: shards[shard][name] for name, shard in places.items()}


def release_sizes(path: Path) -> dict[str, int]:
    """Read the sizes from `params_shapes.json`, which does not say n_head: 12, as in GPT-1."""
    with naming(path):
        (n_positions, n_embd), (vocab_size, _), *blocks = read_json(path, list)
        sizes = {"n_positions": n_positions, "vocab_size": vocab_size, "n_embd": n_embd}
        return sizes | {"n_layer": len(blocks) // len(BLOCK_PARAMETERS), "n_head": 12}


def read_part(path: Path) -> np.ndarray:
    """Map one `.npy` file into memory. Raises ValueError if it is cut off or holds no floats."""
    with naming(path):
        part = np.load(path, mmap_mode="r", allow_pickle=False)
        if part.dtype.kind != "f" or part.ndim != 1:
            raise TypeError(f"{part.dtype} {part.shape}; expected one row of floats")
        return part


def open_release(path: Path, checkpoint: str | Path, **hub) -> dict[str, Stored]:
    """Read OpenAI's 2018 format: `params_shapes.json`, all numbers in `params_0.npy`, ...

    Source: `init_params` in OpenAI's `train.py`.
    """
    parts = [find_file(checkpoint, f"params_{n}.npy", **hub) for n in range(PARTS)]
    row = torch.from_numpy(np.concatenate([read_part(x) for x in parts], dtype=np.float32))
    with naming(path):
        shapes = read_json(path, list)
        names = parameter_names((len(shapes) - 2) // len(BLOCK_PARAMETERS))
        pieces = zip(names, row.split([math.prod(x) for x in shapes]), shapes, strict=True)
        # a matrix is stored as (1, in, out): a convolution of width 1, hence the name Conv1D
        return in_memory({name: piece.view(shape[-2:]).clone() for name, piece, shape in pieces})


def open_weights(
    checkpoint: str | Path, state_dict: Mapping[str, Tensor] | None = None, **hub
) -> dict[str, Stored]:
    """Open the weights of a checkpoint, in any of `WEIGHT_FILES`, under the names of `GPT`.

    Masks and a tied head are left out. A `state_dict` takes the place of the files; it is copied.
    Raises ValueError, naming the file, if the head is not the embedding matrix.
    """
    if state_dict is not None:
        path, found = "state_dict", in_memory({name: x.clone() for name, x in state_dict.items()})
    elif (path := find_file(checkpoint, *WEIGHT_FILES, **hub)).name == RELEASE:
        found = open_release(path, checkpoint, **hub)
    else:
        is_index = path.suffix == ".json"
        found = open_shards(path, checkpoint, **hub) if is_index else open_file(path)
    with naming(path):
        kept = [name for name in found if not name.endswith(MASKS)]
        own = {name.removeprefix("transformer."): found[name] for name in kept}
        if head := own.pop("lm_head.weight", None):
            embedding = own.setdefault("tokens_embed.weight", head)
            if not torch.equal(embedding.fresh(), head.fresh()):
                raise ValueError("lm_head.weight differs from tokens_embed.weight; GPT-1 ties them")
    return own


# -- writing


def write_tensors(weights: dict[str, Tensor], path: Path) -> None:
    """Write one file of tensors."""
    weights = {name: x.detach().cpu().contiguous() for name, x in weights.items()}
    if path.suffix == ".bin":
        return torch.save(weights, path)
    path.touch()
    mode = path.stat().st_mode  # the user's mode for new files; `save_file` sets 0600
    save_file(weights, path, metadata={"format": "pt"})
    path.chmod(mode)


def weight_writers(weights: dict[str, Tensor], max_shard_size: int | str, to: str) -> dict:
    """Plan the files of weights: name -> writer, the index last; `to` is one of `PATTERNS`."""
    from huggingface_hub import split_torch_state_dict_into_shards as split

    plan = split(weights, filename_pattern=PATTERNS[to], max_shard_size=max_shard_size)
    writers = {
        shard: partial(write_tensors, {name: weights[name] for name in names})
        for shard, names in plan.filename_to_tensors.items()
    }
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        writers[SINGLE[to] + INDEX] = json_writer(index)
    return writers


def release_writers(weights: Mapping[str, Tensor], n_layer: int) -> dict[str, Writer]:
    """Plan the files of OpenAI's 2018 format, float32: name -> writer.

    Raises ValueError for weights that are not exactly those of `GPT`.
    """
    names = parameter_names(n_layer)
    if surplus := sorted(weights.keys() - set(names)):
        raise ValueError(f"{surplus[0]} has no place in OpenAI's format, which holds no heads")
    row = torch.cat([weights[name].float().flatten() for name in names]).numpy()
    shapes = [list(weights[name].shape) for name in names]
    shapes[2:] = [[1, *shape] if len(shape) == 2 else shape for shape in shapes[2:]]
    parts = enumerate(np.array_split(row, PARTS))
    writers = {f"params_{n}.npy": partial(np.save, arr=part) for n, part in parts}
    return writers | {RELEASE: lambda path: path.write_text(json.dumps(shapes))}
