"""Models from and into checkpoints: loading, saving, converting."""

import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..fast.static_cache import warn_caller
from .configuration import CONFIG_FILES, DTYPES, OpenAIGPTConfig
from .files import Writer, find_file, json_writer, save_files, split_hub_options
from .formats import (
    PATTERNS,
    WEIGHT_FILES,
    Stored,
    in_memory,
    open_weights,
    own_names,
    release_writers,
    weight_writers,
)

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
NETWORK = ("tokens_embed.", "positions_embed.", "h.")  # how the names below the heads begin


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


def choose_device(device, device_map) -> torch.device | None:
    """Return the device of two options with one meaning; raises TypeError if both are given."""
    if None not in (device, device_map):
        raise TypeError(f"device={device!r} and device_map={device_map!r}; pass one of them")
    if isinstance(device_map, dict):
        device_map = device_map.get("", "auto")  # the whole model on one device
    given = device if device_map is None else device_map
    return None if given is None else find_device(given)


# -- loading


def compare(
    model: nn.Module, weights: Mapping[str, Stored], ignore_mismatched_sizes: bool = False
) -> dict[str, set]:
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
    if lost := [name for name in missing if name.startswith(NETWORK)]:
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


class WithoutValues(TorchFunctionMode):
    """Inside, nothing is drawn at random, which is slow even on "meta"."""

    fillers = (nn.init.normal_, nn.init.kaiming_uniform_, nn.init.uniform_)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in self.fillers:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **(kwargs or {}))


def build(
    cls: type,
    config: OpenAIGPTConfig,
    weights: Mapping[str, Stored],
    ignore_mismatched_sizes: bool = False,
    **kind,  # dtype and device
) -> tuple[nn.Module, dict]:
    """Build a model without values, and put weights in their place; return it and the info.

    The largest weights are read first: a page of a file is in memory until its tensor is converted.
    """
    if f"h.{config.n_layer - 1}.ln_1.weight" not in weights:  # before too deep a model is built
        raise ValueError(
            f"the checkpoint lacks the last of n_layer={config.n_layer} blocks; is n_layer right, "
            "and is it a checkpoint of this kind of model?"
        )
    with torch.device("meta"), WithoutValues():
        model = cls(config)
    if not config.tie_word_embeddings and hasattr(model, "lm_head"):
        raise ValueError(
            "tie_word_embeddings=False, but in GPT-1 the head that scores tokens is the embedding "
            "matrix; remove the line from config.json if that is so here"
        )
    info = compare(model, weights, ignore_mismatched_sizes)
    new = info["missing_keys"] | {name for name, *_ in info["mismatched_keys"]}
    own = dict(model.named_parameters())
    made = {}  # id of a parameter without values -> the one in its place
    for name in sorted(own, key=lambda name: -own[name].numel()):
        if name in new:
            values = new_values(name, own[name].shape, config.initializer_range, **kind)
        else:
            values = weights[name.removeprefix("transformer.")].read(**kind)
        made[id(own[name])] = nn.Parameter(values)
    tied = model.named_parameters(remove_duplicate=False)  # what was one parameter stays one
    model.load_state_dict({name: made[id(x)] for name, x in tied}, assign=True)
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
        warn_caller("; ".join(parts))


def changed(config: OpenAIGPTConfig, options: dict) -> OpenAIGPTConfig:
    """Return a copy of a config with other settings. Raises TypeError for one that it has not."""
    config, (_, changes) = deepcopy(config), split_hub_options(options)
    if strange := sorted(name for name in changes if not hasattr(config, name)):
        raise TypeError(f"from_pretrained has no option {', '.join(strange)}; see its help")
    config.update(changes)
    config.validate()
    return config


def load_model(
    cls: type,
    name: str | Path | None,  # None only with `config` and `state_dict`
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
    if (device, device_map) != (None, None):
        device = choose_device(device, device_map)
    hub, _ = split_hub_options(options)
    needs_files = config is None or state_dict is None
    if config is None:
        page = find_file(name, *CONFIG_FILES, **hub)
        saved = page.stat().st_mtime_ns
        config = OpenAIGPTConfig.from_pretrained(name, **options)
    else:
        page, config = None, changed(config, options)
    if state_dict is None:
        weights = open_weights(name, **hub)
    else:
        weights = own_names(in_memory({n: x.detach().clone() for n, x in state_dict.items()}))
    config.dtype = config.dtype or next(iter(weights.values())).mapped.dtype
    kind = {"dtype": config.dtype, "device": device}
    try:
        model, info = build(cls, config, weights, ignore_mismatched_sizes, **kind)
    except ValueError as error:
        raise ValueError(f"{page or name}: {error}") from error
    if needs_files and hasattr(model, "generation_config"):
        with suppress(FileNotFoundError):  # many checkpoints have none
            settings = type(model.generation_config)
            model.generation_config = settings.from_pretrained(name, **hub)
    if page and page.stat().st_mtime_ns != saved:  # saving removes it first, writes it last
        raise OSError(f"{page} was saved anew while its checkpoint was read; load it again")
    if any(info.values()):
        announce(cls.__name__, info)
    return (model, info) if output_loading_info else model


# -- saving


def save_checkpoint(
    folder: str | Path,
    config: OpenAIGPTConfig,
    weights: dict[str, Tensor],
    further: Mapping[str, Writer],
    max_shard_size: int | str = "50GB",
    to: str = "safetensors",
) -> list[str]:
    """Write weights, `config.json` and `further` files as transformers reads them.

    `to` is one of `PATTERNS`. Returns the names of the files. Raises FileExistsError where others
    would be read, OSError where they cannot be written.
    """
    config.validate()
    writers = dict(further) | weight_writers(weights, max_shard_size, to)
    if to == "bin":
        refuse_hidden(folder, "pytorch_model.bin", WEIGHT_FILES)
    stem = PATTERNS[to].format(suffix=r"(-\d{5}-of-\d{5})?").replace(".", r"\.")
    stale = [stem + r"(\.index\.json)?"]
    if not set(TOKENIZER_FILES).isdisjoint(further):  # two tokenizers would be read as one
        stale += map(re.escape, TOKENIZER_FILES)
    writers["config.json"] = json_writer(config.to_dict())  # last: see `save_files`
    return save_files(folder, writers, stale="|".join(stale))


def save_model(
    model: nn.Module,
    save_directory: str | Path,
    max_shard_size: int | str = "50GB",
    *,
    state_dict: Mapping[str, Tensor] | None = None,  # in place of the model's own weights
    is_main_process: bool = True,  # False: another process saves
    **_,  # options of transformers that change nothing here
) -> None:
    """Write `config.json`, `generation_config.json` and the weights, as transformers reads them."""
    if not is_main_process:
        return
    weights, further = dict(state_dict or model.named_parameters()), {}
    if state_dict:
        weights.pop("lm_head.weight", None)  # the embedding once more
    model.config.dtype, model.config.architectures = model.dtype, [type(model).__name__]
    if hasattr(model, "generation_config"):
        further[GENERATION_FILE] = json_writer(model.generation_config.to_diff_dict())
    save_checkpoint(save_directory, model.config, weights, further, max_shard_size)


def refuse_hidden(folder: str | Path, name: str, known: tuple[str, ...]) -> None:
    """Raise FileExistsError if `folder` has a file that is read in place of `name`."""
    for other in known[: known.index(name)]:
        if Path(folder, other).exists():
            raise FileExistsError(
                f"{folder} has a {other}, which would be read in place of {name}; pass an empty "
                "folder"
            )


# -- converting


def tokenizer_writers(source: str | Path, to: str, rows: int, **hub) -> dict[str, Writer]:
    """Plan the files of a checkpoint's tokenizer, if it has one.

    Raises ValueError if it has more tokens than the embedding matrix has rows.
    """
    from ..bpe import write_merges, write_vocabulary
    from .tokenization import OpenAIGPTTokenizerFast

    try:
        tokenizer = OpenAIGPTTokenizerFast.from_pretrained(source, **hub)
    except FileNotFoundError:
        return {}  # weights alone are a checkpoint, too
    if len(tokenizer.vocab) > rows:
        raise ValueError(
            f"the vocabulary of {source} has {len(tokenizer.vocab)} tokens, but the embedding "
            f"matrix has {rows} rows; it is the vocabulary of another model"
        )
    if to == "openai":
        return {
            VOCAB_NAMES[1]: partial(write_vocabulary, vocabulary=tokenizer.vocab),
            MERGES_NAMES[1]: partial(write_merges, merges=tokenizer.merges),
        }
    return tokenizer.writers()


def convert_to_release(target, config: OpenAIGPTConfig, weights, tokenizer) -> list[str]:
    """Write OpenAI's 2018 format; warns of settings that it cannot hold."""
    writers = tokenizer | release_writers(weights, config.n_layer)
    for known in (CONFIG_FILES, WEIGHT_FILES, VOCAB_NAMES, MERGES_NAMES):
        if known[-1] in writers:
            refuse_hidden(target, known[-1], known)
    names, usual = save_files(target, writers), OpenAIGPTConfig()
    lost = ", ".join(
        f"{name}={getattr(config, name)!r}"
        for name in ("n_head", "afn", "layer_norm_epsilon")
        if getattr(config, name) != getattr(usual, name)
    )
    if lost:
        warn_caller(f"OpenAI's format holds no settings; load it with {lost}")
    return names


def convert(
    source: str | Path,
    target: str | Path,
    to: str = "safetensors",
    max_shard_size: int | str = "50GB",
    **options,
) -> list[str]:
    """Write the checkpoint `source` into the folder `target` as another of `FORMATS`.

    `options`: `HUB_OPTIONS` and settings that the source lacks, such as `n_head=4`. Returns the
    names of what was written. Raises ValueError, naming the parameter, for weights that do not fit
    the config, and what the writers raise.
    """
    from .models import OpenAIGPTModel

    if to not in FORMATS:
        raise ValueError(f"to={to!r}; choose from {', '.join(FORMATS)}")
    hub, _ = split_hub_options(options)
    config = OpenAIGPTConfig.from_pretrained(source, **options)
    weights = open_weights(source, **hub)
    build(OpenAIGPTModel, config, weights)  # raises ValueError for those that do not fit
    tokenizer = tokenizer_writers(source, to, config.vocab_size, **hub)
    if to == "openai":
        return convert_to_release(target, config, weights, tokenizer)
    config.architectures = config.architectures or ["OpenAIGPTLMHeadModel"]
    config.dtype = config.dtype or next(iter(weights.values())).mapped.dtype
    prefix = "" if config.architectures[0] == "OpenAIGPTModel" else "transformer."
    named = {
        prefix + name if name.startswith(NETWORK) else name: x.read() for name, x in weights.items()
    }
    with suppress(FileNotFoundError):
        path = find_file(source, GENERATION_FILE, **hub)
        tokenizer[GENERATION_FILE] = partial(shutil.copyfile, path)
    return save_checkpoint(target, config, named, tokenizer, max_shard_size, to)
