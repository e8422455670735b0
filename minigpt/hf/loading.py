"""Models from and into checkpoints: loading, saving, converting."""

import shutil
import sys
import warnings
from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from .configuration import CONFIG_FILES, DTYPES, OpenAIGPTConfig, as_dtype
from .files import find_file, json_writer, read_json, save_files, split_hub_options, unchanged
from .formats import (
    PATTERNS,
    WEIGHT_FILES,
    Stored,
    open_weights,
    own_names,
    parameter_names,
    release_writers,
    weight_writers,
)

PACKAGE = str(Path(__file__).parents[1])
GENERATION_FILE = "generation_config.json"
VOCAB_NAMES = ("vocab.json", "encoder_bpe_40000.json")  # of today, and of OpenAI's release
MERGES_NAMES = ("merges.txt", "vocab_40000.bpe")
TOKENIZER_FILES = (
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "merges.txt",
    "vocab.json",
    "tokenizer.json",
)
FORMATS = (*PATTERNS, "openai")


def warn(message: str) -> None:
    """Warn at the line that called minigpt from outside."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_code.co_filename.startswith(PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level - 1)


# -- devices


def best_device() -> str:
    """Name the fastest device of this machine: cuda, mps (Apple) or cpu."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def find_device(device: int | str | torch.device = "auto") -> torch.device:
    """Return a device: a number is that GPU's, -1 the CPU; "auto" takes `best_device`.

    Raises ValueError, naming it, if this machine does not have it.
    """
    name = best_device() if device == "auto" else device
    if isinstance(device, int):
        name = "cpu" if device < 0 else f"{best_device().replace('cpu', 'cuda')}:{device}"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, ImportError, TypeError) as error:
        reason = str(error).split("\n")[0].split(". ")[0]  # the first sentence says enough
        raise ValueError(
            f"device={device!r} is not there ({reason}); pass 'auto', which is "
            f"{best_device()!r} here, or -1 for the CPU"
        ) from error


# -- loading


def compare(model: nn.Module, weights: Mapping[str, Stored], ignore_mismatched_sizes: bool) -> dict:
    """Compare the parameters of a model with weights, and return what transformers' info has.

    Raises ValueError, naming a parameter, if the network below the heads lacks one, if one has
    another shape, or if one does not hold floats.
    """
    own = {name.removeprefix("transformer."): name for name, _ in model.named_parameters()}
    shapes = {name: tuple(model.get_parameter(own[name]).shape) for name in own}
    both = own.keys() & weights.keys()
    pairs = {(own[name], tuple(weights[name].mapped.shape), shapes[name]) for name in both}
    mismatched = {pair for pair in pairs if pair[1] != pair[2]}
    missing = own.keys() - weights.keys()
    if lost := missing & set(parameter_names(model.config.n_layer)):
        raise ValueError(
            f"the checkpoint lacks {len(lost)} of {len(own)} parameters, {min(lost)} among them; "
            "is n_layer right, and is it a checkpoint of this kind of model?"
        )
    if mismatched and not ignore_mismatched_sizes:
        name, found, expected = min(mismatched)
        raise ValueError(
            f"{name} has shape {found} in the checkpoint, the config makes it {expected}; correct "
            "the config, or pass ignore_mismatched_sizes=True to train it anew"
        )
    if odd := sorted(name for name in both if weights[name].mapped.dtype not in DTYPES):
        found = weights[odd[0]].mapped.dtype
        raise ValueError(f"{odd[0]} holds {found}; only floats of 16, 32 and 64 bits are weights")
    return {
        "missing_keys": {own[name] for name in missing},
        "unexpected_keys": set(weights.keys() - own.keys()),
        "mismatched_keys": mismatched,
        "error_msgs": [],
    }


def new_values(name: str, shape: torch.Size, std: float, dtype, device) -> Tensor:
    """Make a parameter that a checkpoint lacks, as a new model would have it."""
    values = torch.empty(shape, dtype=dtype, device=device)
    if name.endswith("bias"):
        return values.zero_()
    return values.fill_(1) if ".ln_" in name else values.normal_(std=std)


def build(cls: type, config: OpenAIGPTConfig, weights: Mapping[str, Stored], ignore: bool, device):
    """Build a model without values, and put weights in their place; return it and the info."""
    if f"h.{config.n_layer - 1}.ln_1.weight" not in weights:  # nothing of any size is built in vain
        raise ValueError(
            f"the checkpoint lacks the last of n_layer={config.n_layer} blocks; is n_layer right, "
            "and is it a checkpoint of this kind of model?"
        )
    with torch.device("meta"):
        model = cls(config)
    info = compare(model, weights, ignore)
    new = info["missing_keys"] | {name for name, *_ in info["mismatched_keys"]}
    state = {}
    for name, x in sorted(model.named_parameters(), key=lambda item: -item[1].numel()):
        if name in new:
            std = config.initializer_range
            state[name] = new_values(name, x.shape, std, config.dtype, device)
        else:
            state[name] = weights[name.removeprefix("transformer.")].read(config.dtype, device)
    model.load_state_dict(state, strict=False, assign=True)
    model.tie_weights()
    return model.eval(), info


def announce(kind: str, info: dict[str, set]) -> None:
    """Warn, in one message, of weights that a checkpoint lacks or has in vain."""
    new, unused = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    parts = [
        f"{name} has shape {found} in the checkpoint and {expected} here: new, random, to be "
        "trained"
        for name, found, expected in sorted(info["mismatched_keys"])
    ]
    if new:
        parts.append(f"{', '.join(new)} not in the checkpoint: new, random, to be trained")
    if unused:
        parts.append(f"{', '.join(unused[:3])} ({len(unused)} in all) not used by {kind}")
    if parts:
        warn("; ".join(parts))


def load_config(name, config: OpenAIGPTConfig | None, changes: dict) -> OpenAIGPTConfig:
    """Return a config of its own for a model: that of the checkpoint or a copy of the given one."""
    if config is None:
        return OpenAIGPTConfig.from_pretrained(name, **changes)
    config = deepcopy(config)
    _, changes = split_hub_options(changes)
    if strange := sorted(name for name in changes if not hasattr(config, name)):
        raise TypeError(f"from_pretrained has no option {', '.join(strange)}")
    config.update(changes)
    config.validate()
    return config


def load_model(
    cls: type,
    name: str | Path | None,  # None with `config` and `state_dict`
    *,
    config: OpenAIGPTConfig | None = None,  # in place of `config.json`
    state_dict: Mapping[str, Tensor] | None = None,  # in place of the files of weights
    device: torch.device | str | int | None = None,  # see `find_device`; None: the CPU
    device_map: torch.device | str | int | dict | None = None,  # the same, by transformers' name
    output_loading_info: bool = False,  # also return what is missing, unexpected, mismatched
    ignore_mismatched_sizes: bool = False,  # make parameters of another shape anew
    **options,
):
    """Load `"tiny"`, a folder (transformers' or OpenAI's format) or a name on the hub.

    `options` are settings of the config, such as `n_head=4` or `attn_implementation="eager"`;
    `dtype`, a dtype, its name or "auto", the default: as the checkpoint says; and `HUB_OPTIONS`.
    What came from the hub once is taken from the cache: see `download_file`. Returns the model in
    eval mode; warns of a head that the checkpoint does not have. Raises ValueError for weights and
    settings that do not fit, and OSError, naming what is missing.
    """
    if None not in (device, device_map):
        raise TypeError(f"device={device!r} and device_map={device_map!r}; pass one of them")
    device = device_map.get("") if isinstance(device_map, dict) else device if device_map is None else device_map
    device = None if device is None else find_device(device)
    hub, changes = split_hub_options(options)
    if None not in (config, state_dict):
        model, info = ...
    with unchanged(find_file(name, *CONFIG_FILES, **hub)):
        config = load_config(name, config, options)
        weights = open_weights(name, **hub) if state_dict is None else from_state(state_dict)
        config.dtype = config.dtype or next(iter(weights.values())).mapped.dtype
        model, info = build(cls, config, weights, ignore_mismatched_sizes, device)
        if hasattr(model, "generation_config"):
            model.generation_config = ...
    announce(cls.__name__, info)
    return (model, info) if output_loading_info else model
