"""Files of weights: safetensors, PyTorch's `.bin`, both also in shards, and OpenAI's release.

Weights are a dictionary: name of a parameter, as `GPT` has it -> `Stored` tensor.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .files import Writer, find_file, json_writer, naming, read_json

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "params_shapes.json",
)
PATTERNS = {"safetensors": "model{suffix}.safetensors", "bin": "pytorch_model{suffix}.bin"}
MASKS = (".attn.bias", ".attn.masked_bias", "position_ids")  # constants that older programs saved
SMALL = 2**18  # bytes of a tensor that may stay in memory beside its conversion
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
    fresh: Callable[[], Tensor]  # from a mapping of its own: what was read is let go with it

    def read(self, dtype: torch.dtype | None = None, device=None) -> Tensor:
        """Return the tensor, converted or copied only where that is needed."""
        x = self.mapped
        is_good = x.is_contiguous() and x.data_ptr() % x.itemsize == 0  # as kernels expect it
        if is_good and dtype in (None, x.dtype) and device in (None, x.device):
            return x
        source = self.fresh() if x.nbytes > SMALL else x
        return source.to(device, dtype, copy=not is_good).contiguous()


def in_memory(weights: Mapping[str, Tensor]) -> dict[str, Stored]:
    return {name: Stored(x, lambda x=x: x) for name, x in weights.items()}


# -- reading


def open_safetensors(path: Path) -> dict[str, Stored]:
    """Open a `.safetensors` file. Raises ValueError, naming it, if it is damaged."""
    path.open("rb").close()  # the library would report a file without permission as missing
    try:
        with safe_open(path, "pt") as file:
            return {
                name: Stored(
                    file.get_tensor(name), lambda name=name: safe_open(path, "pt").get_tensor(name)
                )
                for name in file.keys()
            }
    except (SafetensorError, AttributeError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"{path} is damaged or was not copied whole ({error}); copy or download it again"
        ) from error


def is_plain(x) -> bool:
    """Say whether something is a tensor with all its values: not sparse, not on "meta"."""
    return torch.is_tensor(x) and (x.layout, x.device.type) == (torch.strided, "cpu")


def open_bin(path: Path) -> dict[str, Stored]:
    """Open a file of `torch.save`, also in the legacy format; no code in it is ever run.

    Raises ValueError, naming it, if it is damaged or holds more than named tensors.
    """
    with path.open("rb") as file:
        is_zip = file.read(4) == b"PK\3\4"  # the legacy format is none, and cannot be mapped
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # a damaged pickle can raise any
        raise ValueError(
            f"{path} is damaged, or it holds more than tensors, which is never loaded because it "
            "can run code; copy it again from a trusted source"
        ) from error
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and is_plain(x) for name, x in dict.items(found)
    ):
        raise ValueError(f"{path} holds no named tensors; pass the weights of a model")
    return in_memory({name: x.detach() for name, x in dict.items(found)})


READERS = {".safetensors": open_safetensors, ".bin": open_bin}


def read_index(path: Path) -> dict[str, str]:
    """Read which tensor lies in which shard. Raises ValueError if a shard is in another folder."""
    places = read_json(path).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(x, str) for x in places.values()):
        raise ValueError(f"{path} has no weight_map, tensor -> file; copy it again")
    for shard in places.values():
        if Path(shard).name != shard or shard in ("", ".", "..") or "\\" in shard:
            raise ValueError(
                f"{path} names the file {shard!r:.80}, which is not in its own folder; copy the "
                "checkpoint again, from a trusted source"
            )
    return places


def open_shards(path: Path, checkpoint: str | Path, **hub) -> dict[str, Stored]:
    """Open all tensors that an index lists. Raises ValueError if a shard lacks one."""
    places, shards = read_index(path), {}
    for shard in sorted(set(places.values())):
        path_of_shard = find_file(checkpoint, shard, **hub)
        shards[shard] = READERS.get(path_of_shard.suffix, open_safetensors)(path_of_shard)
    if lost := [name for name, shard in places.items() if name not in shards[shard]]:
        raise ValueError(
            f"{path} promises {lost[0]} in {places[lost[0]]}, which lacks it; copy the checkpoint "
            "again"
        )
    return {name: shards[shard][name] for name, shard in places.items()}


def read_shapes(path: Path) -> list[list[int]]:
    """Read `params_shapes.json`. Raises ValueError, naming it, if these are no GPT-1's shapes."""
    shapes = read_json(path, list)
    with naming(path):
        blocks, rest = divmod(len(shapes) - 2, len(BLOCK_PARAMETERS))
        sizes = {type(size) for shape in shapes for size in shape}
        if blocks > 0 and not rest and sizes == {int} and min(map(min, shapes)) > 0:
            (_, _), (_, _) = shapes[:2]  # two embedding matrices
            return shapes
        raise ValueError("expected the shapes of two embedding matrices and of whole blocks")


def release_sizes(path: Path) -> dict[str, int]:
    """Read what the shapes of a release tell: all sizes but the number of heads."""
    shapes = read_shapes(path)
    (n_positions, n_embd), (vocab_size, _) = shapes[:2]
    n_layer = (len(shapes) - 2) // len(BLOCK_PARAMETERS)
    sizes = {"n_positions": n_positions, "vocab_size": vocab_size, "n_embd": n_embd}
    return sizes | {"n_layer": n_layer}


def read_part(path: Path) -> np.ndarray:
    """Map one `.npy` file into memory. Raises ValueError if it is cut short or holds no floats."""
    try:
        part = np.load(path, mmap_mode="r", allow_pickle=False)
        if part.dtype.kind != "f" or part.ndim != 1:
            raise TypeError(f"{part.dtype} {part.shape}; expected one row of floats")
    except Exception as error:  # a damaged header can raise any
        raise ValueError(
            f"{path} is not a whole array of floats ({error}); Python objects are never loaded, "
            "because they can run code; copy it again from a trusted source"
        ) from error
    return part


def open_release(path: Path, checkpoint: str | Path, **hub) -> dict[str, Stored]:
    """Read OpenAI's 2018 format: `params_shapes.json`, all numbers in `params_0.npy`, ...

    Source: the making of `init_params` in OpenAI's `train.py`.
    """
    shapes, parts = read_shapes(path), []
    missing = sum(map(math.prod, shapes))
    while missing > 0:
        parts.append(read_part(find_file(checkpoint, f"params_{len(parts)}.npy", **hub)))
        missing -= len(parts[-1])
    if missing < 0:
        raise ValueError(
            f"{path} promises {-missing} numbers less than the {len(parts)} files params_N.npy "
            "hold; copy them all again"
        )
    row = torch.from_numpy(np.concatenate(parts, dtype=np.float32))
    names = parameter_names((len(shapes) - 2) // len(BLOCK_PARAMETERS))
    pieces = zip(names, row.split([math.prod(shape) for shape in shapes]), shapes, strict=True)
    # a matrix is stored as (1, in, out): a convolution of width 1, hence the name Conv1D
    return in_memory({name: piece.view(shape[-2:]).clone() for name, piece, shape in pieces})


def open_weights(checkpoint: str | Path, **hub) -> dict[str, Stored]:
    """Open the weights of a checkpoint, in any of `WEIGHT_FILES`; errors name the file."""
    path = find_file(checkpoint, *WEIGHT_FILES, **hub)
    if path.name == "params_shapes.json":
        return open_release(path, checkpoint, **hub)
    if path.suffix == ".json":
        found = open_shards(path, checkpoint, **hub)
    else:
        found = READERS[path.suffix](path)
    with naming(path):
        return own_names(found)


def own_names(weights: Mapping[str, Stored]) -> dict[str, Stored]:
    """Return weights under the names of `GPT`, without masks and without a tied head.

    Raises ValueError if there are none, or if the head is not the embedding matrix.
    """
    found = {
        name.removeprefix("transformer."): x
        for name, x in weights.items()
        if not name.endswith(MASKS)
    }
    head = found.pop("lm_head.weight", None)
    embedding = found.setdefault("tokens_embed.weight", head) if head else None
    if head and not torch.equal(embedding.fresh(), head.fresh()):
        raise ValueError(
            "lm_head.weight differs from tokens_embed.weight; in GPT-1 they are one, and minigpt "
            "builds nothing else"
        )
    if not found:
        raise ValueError("there are no weights inside; copy the checkpoint again")
    return found


# -- writing


def write_tensors(weights: dict[str, Tensor], path: Path) -> None:
    """Write one file of tensors. Raises OSError if there is no room for it."""
    weights = {name: x.detach().cpu().contiguous() for name, x in weights.items()}
    path.touch()
    mode = path.stat().st_mode  # as the user has it for new files; `save_file` makes it 0600
    try:
        if path.suffix == ".bin":
            torch.save(weights, path)
        else:
            save_file(weights, path, metadata={"format": "pt"})
    except (SafetensorError, RuntimeError) as error:  # what both libraries make of an OSError
        raise OSError(str(error).split("\n")[0]) from error
    path.chmod(mode)


def weight_writers(weights: dict[str, Tensor], max_shard_size: int | str, to: str) -> dict:
    """Plan the files of weights: name -> writer, the index last; `to` is one of `PATTERNS`.

    Raises ValueError for a `max_shard_size` that is no size.
    """
    from huggingface_hub import split_torch_state_dict_into_shards

    text = str(max_shard_size)
    size = int(text) if text.isdecimal() else text
    try:
        if not re.fullmatch(r"[0-9.]*[1-9][0-9.]*( ?[A-Za-z]+)?", text):
            raise ValueError("not above 0")
        plan = split_torch_state_dict_into_shards(
            weights, filename_pattern=PATTERNS[to], max_shard_size=size
        )
    except ValueError as error:
        reason = "pass a number of bytes, or a number and TB, GB, MB or KB in one string"
        raise ValueError(f"max_shard_size={max_shard_size!r} is no size; {reason}") from error
    writers = {
        shard: partial(write_tensors, {name: weights[name] for name in names})
        for shard, names in plan.filename_to_tensors.items()
    }
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        writers[PATTERNS[to].format(suffix="") + ".index.json"] = json_writer(index)
    return writers


def release_writers(weights: Mapping[str, Stored], n_layer: int) -> dict[str, Writer]:
    """Plan the files of OpenAI's 2018 format, float32: name -> writer.

    Raises ValueError for weights that are not exactly those of `GPT`.
    """
    names = parameter_names(n_layer)
    if surplus := sorted(weights.keys() - set(names)):
        raise ValueError(f"{surplus[0]} has no place in OpenAI's format, which knows no heads")
    tensors = [weights[name].read(torch.float32) for name in names]
    row = np.concatenate([x.numpy().ravel() for x in tensors])
    shapes = [
        [1, *x.shape] if name.startswith("h.") and x.dim() == 2 else list(x.shape)
        for name, x in zip(names, tensors, strict=True)
    ]
    writers = {
        f"params_{n}.npy": partial(np.save, arr=part)
        for n, part in enumerate(np.array_split(row, 10))
    }
    return writers | {
        "params_shapes.json": lambda path: path.write_bytes(json.dumps(shapes).encode())
    }
