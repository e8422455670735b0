"""Loading, saving and converting the checkpoints of models."""

import re
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from minigpt.fast import warn_caller

from . import formats
from .configuration import CONFIG_FILES, OpenAIGPTConfig
from .files import find_file, json_writer, naming, save_files, split_hub_options, version
from .formats import Stored
from .generation_config import GENERATION_FILE
from .tokenization import OpenAIGPTTokenizerFast
from .tokenizer_files import MERGES_NAMES, TOKENIZER_FILES, VOCAB_NAMES

FORMATS = (*formats.PATTERNS, "openai")
SAVED = rf"model(-\d{{5}}-of-\d{{5}})?\.safetensors(\.index\.json)?|{GENERATION_FILE}"
WEIGHTS = r"(pytorch_)?model\b.*\.(safetensors|bin)(\.index\.json)?|params_\d\.npy"
CHECKPOINT = "|".join([WEIGHTS, *CONFIG_FILES, *TOKENIZER_FILES, GENERATION_FILE])
NETWORK = re.compile(r"(transformer\.)?(tokens_embed|positions_embed|h)\.")  # below the heads
KINDS = "OpenAIGPTModel", "OpenAIGPTDoubleHeadsModel", "OpenAIGPTForSequenceClassification"


# -- devices


def find_device(device: int | str | torch.device | dict = "auto") -> torch.device:
    """Return a device: a number, or its text, is a GPU, -1 the CPU, "auto" the fastest device.

    It may be in a `device_map`, {"": device}. Raises ValueError, naming it, if this machine does
    not have it.
    """
    device = device.get("", "auto") if isinstance(device, dict) else device
    best = torch.accelerator.current_accelerator(check_available=True)
    name = best or "cpu" if device == "auto" else device
    if str(device).removeprefix("-").isdecimal():
        device = int(device)
        name = f"{best or 'cuda'}:{device}" if device >= 0 else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, ImportError, TypeError) as error:
        way = f"pass 'auto', which is {str(best or 'cpu')!r} here, or -1 for the CPU"
        raise ValueError(f"device={device!r} is not available; {way}") from error


# -- loading


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and saved buffers of a model; tied ones only under their first name."""
    names: dict[Tensor, str] = {}
    for name, x in model.state_dict(keep_vars=True).items():
        names.setdefault(x, name)
    return {name: x for x, name in names.items()}


def first_values(model: nn.Module, name: str) -> Tensor:
    """Make a parameter that a checkpoint lacks, with the values of a new model."""
    layer, _, name = name.rpartition(".")
    layer = deepcopy(model.get_submodule(layer)).to_empty(device="cpu")
    model._init_weights(layer)
    return layer.get_parameter(name).data


class WithoutValues(TorchFunctionMode):
    """Inside, nothing is drawn on "meta", where there are no values: the first would take 1 s."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        is_drawn = function is nn.init.normal_ and kwargs["tensor"].is_meta
        return kwargs["tensor"] if is_drawn else function(*args, **(kwargs or {}))


def fill(model: nn.Module, weights: Mapping[str, Stored], device, may_differ: bool) -> dict:
    """Insert weights into a model; return what transformers' info has.

    What the weights lack is made anew, with a warning. Raises ValueError, naming a parameter, if
    one has another name there or holds no floats, or has another shape, unless those `may_differ`
    and are made anew, too. The largest are read first: a page of a file is in memory until its
    tensor is converted.
    """
    own, made, shapes = tensors_of(model), {}, set()
    short = {name.removeprefix("transformer."): name for name in own}
    stored = {name: weights[x] for x, name in short.items() if x in weights}
    missing, unused = own.keys() - stored.keys(), weights.keys() - short.keys()
    if hasattr(model, "lm_head") and not model.config.tie_word_embeddings:
        way = "pass tie_word_embeddings=True if they are tied"
        raise ValueError(f"tie_word_embeddings=False, but GPT-1 ties its LM head; {way}")
    if unused and (lost := [name for name in missing if NETWORK.match(name)]):
        lacks = f"the checkpoint lacks {min(lost)}, but has {min(unused)}"
        raise ValueError(f"{lacks}; is it a GPT-1? If so, copy it again")
    for name in stored:
        x, empty = stored[name].mapped, own[name]
        if x.is_floating_point() != empty.is_floating_point():
            raise ValueError(f"{name} holds no floats; copy the checkpoint again")
        if x.shape != empty.shape:
            shapes.add((name, tuple(x.shape), tuple(empty.shape)))
    if shapes and not may_differ:
        name, found, expected = min(shapes)
        way = "correct the config, or pass ignore_mismatched_sizes=True to make it new"
        raise ValueError(
            f"{name} has shape {found} in the checkpoint, but {expected} by the config; {way}"
        )
    new = missing | {name for name, *_ in shapes}
    for name, empty in sorted(own.items(), key=lambda pair: -pair[1].numel()):
        dtype = model.config.dtype if empty.is_floating_point() else None
        if name not in new:
            values = stored[name].read(dtype, device)
        else:
            values = first_values(model, name) if empty.is_meta else empty.detach()
            values = values.to(device, dtype)
        made[empty] = nn.Parameter(values) if isinstance(empty, nn.Parameter) else values
    tied = model.state_dict(keep_vars=True)  # tied parameters stay tied
    model.load_state_dict({name: made[empty] for name, empty in tied.items()}, assign=True)
    if new or unused:
        more, less = ", ".join(sorted(new)) or "nothing", ", ".join(sorted(unused)[:3]) or "none"
        told = f"not in the checkpoint, so random, to be trained: {more}"
        told += f"; {len(unused)} of its tensors are not used: {less}"
        warn_caller(f"{type(model).__name__}: {told}")
    info = {"missing_keys": missing, "unexpected_keys": {*unused}, "mismatched_keys": shapes}
    return info | {"error_msgs": []}


def load_model(
    cls: type,
    name: str | Path | None,
    *,
    config: OpenAIGPTConfig | str | Path | None = None,
    state_dict: Mapping[str, Tensor] | None = None,
    generation_config=None,
    device: torch.device | str | int | None = None,
    output_loading_info: bool = False,
    ignore_mismatched_sizes: bool = False,
    **options,
):
    """Load a model; arguments and errors: see `OpenAIGPTPreTrainedModel.from_pretrained`."""
    device = options.pop("device_map", None) if device is None else device
    device = None if device is None else find_device(device)
    kind, (hub, changes) = cls.config_class, split_hub_options(options)
    page = None if config is not None else find_file(name, *CONFIG_FILES, **hub)
    saved = page and version(page.stat())
    if isinstance(config, str | Path | None):
        # with a config, a subfolder is that of the weights
        load, source, changes = kind.from_pretrained, config or name, changes if config else options
    else:
        load, source = kind.from_dict, config
    config, arguments = load(source, return_unused_kwargs=True, **changes)
    weights = formats.open_weights(name, state_dict, **hub)
    block, way = f"h.{config.n_layer - 1}.", f"is n_layer={config.n_layer} right?"
    last = [x for n, x in weights.items() if n.startswith(block) and x.mapped.is_floating_point()]
    if not last:  # a model that is too deep would take long to build
        raise ValueError(f"{page or name}: the checkpoint lacks {block}ln_1.weight; {way}")
    config.dtype = config.dtype or last[0].mapped.dtype
    has_values = not cls.__module__.startswith("minigpt.")  # those that a user's class makes
    with torch.device("cpu" if has_values else "meta"), WithoutValues():
        model = cls(config, **arguments)
    with naming(page or name):
        info = fill(model.eval(), weights, device, ignore_mismatched_sizes)
    model.name_or_path = str(name or "")
    if hasattr(model, "generation_config") and (generation_config or name is not None):
        with suppress(FileNotFoundError):  # many checkpoints have none
            kind = type(model.generation_config)
            model.generation_config = generation_config or kind.from_pretrained(name, **hub)
    # saving removes this file first and writes it last
    if page and not (page.exists() and version(page.stat()) == saved):
        raise OSError(f"{page} was saved again while its checkpoint was read; load it again")
    return (model, info) if output_loading_info else model


# -- saving


def save_model(
    model: nn.Module,
    save_directory: str | Path,
    max_shard_size: int | str = "50GB",
    *,
    state_dict: Mapping[str, Tensor] | None = None,  # in place of the model's own weights
    is_main_process: bool = True,  # False: another process saves
    to: str = "safetensors",  # one of `FORMATS`
    more: Mapping | None = None,  # further files: name -> writer
    stale: str = SAVED,  # pattern of older files, which are removed
    **_,  # options of transformers that change nothing here
) -> list[str]:
    """Write `config.json`, `generation_config.json` and the weights, as transformers reads them.

    Returns the names of the files. Raises OSError if they cannot be written.
    """
    if not is_main_process:
        return []
    weights, config = dict(state_dict or tensors_of(model)), model.config
    writers = dict(more or {})
    if state_dict:
        weights.pop("lm_head.weight", None)  # the same as the embedding
    config.dtype, config.architectures = model.dtype, [type(model).__name__]
    config.validate()
    if hasattr(model, "generation_config"):
        writers[GENERATION_FILE] = json_writer(model.generation_config.to_diff_dict())
    if to == "openai":
        weights = {name.removeprefix("transformer."): x.detach() for name, x in weights.items()}
        writers |= formats.release_writers(weights, config.n_layer)
    else:
        writers |= formats.weight_writers(weights, max_shard_size, to)
    writers["config.json"] = json_writer(config.to_diff_dict())  # last: see `save_files`
    return save_files(save_directory, writers, stale)


# -- converting


def tokenizer_writers(source: str | Path, to: str, **hub) -> dict:
    """Plan the files of a checkpoint's tokenizer, if it has one."""
    try:
        writers = OpenAIGPTTokenizerFast.from_pretrained(source, **hub).writers()
    except FileNotFoundError:
        return {}  # a checkpoint may have only weights
    if to == "openai":  # its two files are the same under other names
        return {old: writers[today] for today, old in (VOCAB_NAMES, MERGES_NAMES)}
    return writers


def convert(
    source: str | Path,
    target: str | Path,
    to: str = "safetensors",
    max_shard_size: int | str = "50GB",
    force: bool = False,  # replace the checkpoint that `target` holds
    **options,
) -> list[str]:
    """Write the checkpoint `source` into the new folder `target` as another of `FORMATS`.

    `options`: those of `load_model`, such as `n_head=4`. Returns the names of what was written.
    Raises ValueError, naming the parameter, for weights that do not fit, and FileExistsError if
    `target` has files, which could be read instead.
    """
    from . import models

    if to not in FORMATS:
        raise ValueError(f"to={to!r}; choose from {', '.join(FORMATS)}")
    if not force and Path(target).is_dir() and any(Path(target).iterdir()):
        raise FileExistsError(f"{target} is not empty; pass a new folder, or force=True")
    names = str(OpenAIGPTConfig.from_pretrained(source, **options).architectures)
    kind = next((kind for kind in KINDS if kind in names), "OpenAIGPTLMHeadModel")
    model = load_model(getattr(models, kind), source, **options)
    hub, _ = split_hub_options(options)
    more, stored = tokenizer_writers(source, to, **hub), formats.open_weights(source, **hub)
    # the values keep the dtype that they have in the file
    names = dict(model.named_parameters())
    weights = {name: stored[name.removeprefix("transformer.")].read() for name in names}
    files = {"to": to, "more": more, "stale": CHECKPOINT}
    return save_model(model, target, max_shard_size, state_dict=weights, **files)
