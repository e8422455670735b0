"""`OpenAIGPTConfig`: the settings of a model, as the reference's `config.json` holds them."""

import math
from dataclasses import dataclass, fields
from functools import partial
from operator import attrgetter
from pathlib import Path

import torch

from ..config import GPTConfig, count_parameters
from .files import (
    find_file,
    json_text,
    json_writer,
    naming,
    read_json,
    save_files,
    split_hub_options,
    to_number,
)
from .formats import release_sizes

MODEL_TYPE = "openai-gpt"
CONFIG_FILES = ("config.json", "params_shapes.json")  # of today, and of OpenAI's release
CHOICES = {
    "afn": ("gelu", "gelu_new", "relu", "silu", "swish"),
    "attn_implementation": ("eager", "sdpa", "flash_attention_2"),
    "summary_type": ("cls_index", "last", "first", "mean", "attn"),
    "summary_activation": (None, "tanh"),
    "problem_type": (
        None,
        "regression",
        "single_label_classification",
        "multi_label_classification",
    ),
}
SIZES = ("n_positions", "n_embd", "n_layer", "n_head", "vocab_size")
RATES = ("resid_pdrop", "embd_pdrop", "attn_pdrop", "summary_first_dropout")
TOKEN_IDS = ("pad_token_id", "bos_token_id", "eos_token_id")
OUTPUTS = {"output_attentions": False, "output_hidden_states": False, "return_dict": True}
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
ALIASES = {
    "max_position_embeddings": "n_positions",
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "torch_dtype": "dtype",
}
LABELS = ("num_labels", "id2label", "label2id")  # three views of one thing
MODEL_OPTIONS = ("device", "device_map", "output_loading_info", "ignore_mismatched_sizes")
MAX_LAYERS, MAX_LABELS, MAX_PARAMETERS = 10**4, 10**6, 10**13  # more is an error in a file


def as_dtype(value) -> torch.dtype | None:
    """Return `torch.float16` for itself or "float16"; None for None and "auto".

    Raises ValueError for anything but `DTYPES`.
    """
    dtype = getattr(torch, value, value) if isinstance(value, str) else value
    if value in (None, "auto") or dtype in DTYPES:
        return None if value == "auto" else dtype
    known = ", ".join(str(one).removeprefix("torch.") for one in DTYPES)
    raise ValueError(f"dtype={value!r}; choose from auto, {known}")


def default_names(count: int) -> dict[int, str]:
    return {index: f"LABEL_{index}" for index in range(count)}


def is_integer(value, least: int = 0, most: float = 10**12) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_number(value, most: float = math.inf) -> bool:
    is_float = isinstance(value, float) and math.isfinite(value)
    return (is_integer(value) or is_float) and 0 <= value <= most


def is_token_id(name: str, value) -> bool:
    ids = value if name == "eos_token_id" and isinstance(value, list) else [value]
    return all(index is None or is_integer(index) for index in ids)


def is_names(value) -> bool:
    return value is None or isinstance(value, list) and all(isinstance(x, str) for x in value)


def check_values(values: dict) -> None:
    """Raise ValueError, naming field and value, for a setting that no model can be built from."""
    rules = [
        (SIZES, partial(is_integer, least=1), "expected a whole number, at least 1"),
        (RATES, partial(is_number, most=1), "expected a dropout rate, between 0 and 1"),
        (
            ("layer_norm_epsilon", "initializer_range"),
            is_number,
            "expected a number, at least 0",
        ),
        (
            ("summary_use_proj", "summary_proj_to_labels", *OUTPUTS),
            lambda value: isinstance(value, bool),
            "expected True or False",
        ),
    ]
    rules += [
        ([name], known.__contains__, f"choose from {', '.join(map(str, known))}")
        for name, known in CHOICES.items()
    ]
    rules += [
        ([name], partial(is_token_id, name), "expected an id, a whole number, at least 0")
        for name in TOKEN_IDS
    ]
    rules += [(["architectures"], is_names, "expected a list of names of classes")]
    for names, is_good, rule in rules:
        for name in names:
            if not is_good(values[name]):
                raise ValueError(f"{name}={values[name]!r:.80}; {rule}")


def check_sizes(config: GPTConfig) -> None:
    """Raise ValueError for sizes that do not fit together, or that no machine can hold."""
    if config.n_embd % config.n_head:
        raise ValueError(
            f"n_embd={config.n_embd} cannot be cut into n_head={config.n_head} heads of equal "
            "width; pass an n_head that divides it"
        )
    count = sum(count_parameters(config).values())
    if config.n_layer > MAX_LAYERS or count > MAX_PARAMETERS:
        sizes = ", ".join(f"{name}={getattr(config, name):.3g}" for name in SIZES)
        raise ValueError(f"{sizes} make {count:.3g} parameters; correct the sizes")


def translate(settings: dict) -> dict:
    """Return settings without `ALIASES`. Raises ValueError if two names have two values."""
    translated = {name: value for name, value in settings.items() if name not in ALIASES}
    for alias in settings.keys() & ALIASES.keys():
        value, name = settings[alias], ALIASES[alias]
        if translated.setdefault(name, value) != value:
            raise ValueError(
                f"{alias}={value!r}, but {name}={translated[name]!r}; they are one setting"
            )
    return translated


def name_labels(num_labels=None, id2label=None, label2id=None) -> dict[int, str]:
    """Return the names of the classes, 0, 1, 2, ..., from any of the three ways to tell them.

    Default names give way to others, as transformers saves them. Raises ValueError if the ways
    contradict each other.
    """
    try:
        names = {int(index): name for index, name in (id2label or {}).items()}
        other = {int(index): name for name, index in (label2id or {}).items()}
        set(names.values())  # a list cannot be a name
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        given = f"id2label={id2label!r:.80}, label2id={label2id!r:.80}"
        raise ValueError(f"{given}; expected a dict: number -> name, name -> number") from error
    if num_labels is not None and not (is_integer(num_labels, 1) and num_labels <= MAX_LABELS):
        raise ValueError(f"num_labels={num_labels!r:.80}; expected a whole number, at least 1")
    told = [x for x in (names, other) if x and x != default_names(len(x))]
    found = told[0] if told else default_names(num_labels or len(names) or len(other) or 2)
    if sorted(found) != list(range(len(found))):
        raise ValueError(f"id2label={id2label!r:.80}; number the classes 0, 1, 2, ... without a gap")
    if len(told) == 2 and told[0] != told[1]:
        raise ValueError(f"label2id={label2id!r:.80}, but id2label={id2label!r:.80}; pass one")
    if num_labels not in (None, len(found)):
        raise ValueError(f"num_labels={num_labels}, but id2label has {len(found)} names; pass one")
    return dict(sorted(found.items()))


def read_settings(path: Path, changes: dict) -> dict:
    """Read one of `CONFIG_FILES`. Raises ValueError if it is of another kind of model.

    And if it lacks a size that `changes` lack, too: no default is right for a file.
    """
    if path.name == "params_shapes.json":
        return release_sizes(path)
    settings = read_json(path)
    kind = settings.get("model_type", MODEL_TYPE)
    if kind != MODEL_TYPE:
        raise ValueError(
            f"it is for a {kind!r:.80} model, but minigpt builds only {MODEL_TYPE!r}; pass a GPT-1 "
            "checkpoint"
        )
    if lost := [name for name in SIZES if name not in translate(settings) | translate(changes)]:
        raise ValueError(f"there is no {lost[0]}; add it to the file, or pass {lost[0]}=...")
    return settings


@dataclass(init=False, eq=False, repr=False)
class OpenAIGPTConfig(GPTConfig):
    """The sizes and settings of a GPT-1, under the names that `config.json` of the reference uses.

    Any further setting is kept as an attribute and saved, also one that is set later. `ALIASES` may
    be read and set. `num_labels`, `id2label` and `label2id` always agree. Raises ValueError, naming
    field and value, where no model could be built.
    """

    model_type = MODEL_TYPE

    summary_type: str = "cls_index"  # which vector stands for a text: `SequenceSummary`
    summary_use_proj: bool = True
    summary_activation: str | None = None
    summary_proj_to_labels: bool = True
    summary_first_dropout: float = 0.1
    problem_type: str | None = None  # of a classifier; None: the labels tell
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    output_attentions: bool = False  # what a call returns if it does not say so itself
    output_hidden_states: bool = False
    return_dict: bool = True
    dtype: torch.dtype | None = None  # of the weights
    architectures: list[str] | None = None  # the class that was saved
    id2label: dict[int, str] | None = None  # names of the classes; None: LABEL_0, LABEL_1

    def __init__(self, *values, **settings):
        usual = {one.name: one.default for one in fields(self)}
        settings = translate(dict(zip(usual, values, strict=False)) | settings)
        labels = {name: settings.pop(name) for name in LABELS if name in settings}
        for name, value in (usual | settings | {"id2label": name_labels(**labels)}).items():
            setattr(self, name, value)
        self.validate()

    def __setattr__(self, name: str, value) -> None:
        name, value = ALIASES.get(name, name), to_number(value)
        if name == "num_labels" and value == self.num_labels:
            return  # the names stay
        if name in LABELS:
            name, value = "id2label", name_labels(**{name: value})
        super().__setattr__(name, as_dtype(value) if name == "dtype" else value)

    def __getattr__(self, name: str):  # asked only for what is no attribute
        if name in ALIASES:
            return getattr(self, ALIASES[name])
        raise AttributeError(f"{type(self).__name__} has no setting {name!r}")

    @property
    def num_labels(self) -> int:
        return len(self.id2label)

    @property
    def label2id(self) -> dict[str, int]:
        return {name: index for index, name in self.id2label.items()}

    def __eq__(self, other) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string(use_diff=True)}"

    def validate(self) -> None:
        """Raise ValueError for settings that no model can be built from."""
        check_values(vars(self))
        check_sizes(self)

    def update(self, settings: dict) -> None:
        for name, value in settings.items():
            setattr(self, name, value)

    @classmethod
    def from_dict(cls, config_dict: dict, **changes) -> "OpenAIGPTConfig":
        """Make a config of what `config.json` holds, and of settings that replace some of it."""
        settings = {name: x for name, x in config_dict.items() if name != "model_type"}
        changes = {name: x for name, x in changes.items() if name not in ("dtype", "torch_dtype") or as_dtype(x)}
        labels = {name: to_number(changes.pop(name)) for name in LABELS if name in changes}
        config = cls(**translate(settings) | translate(changes))
        if labels and labels != {"num_labels": config.num_labels}:
            config.id2label = name_labels(**labels)
        return config

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options):
        """Read the config of `"tiny"`, a folder or a name on the hub.

        `options` are `HUB_OPTIONS`, settings to replace, such as `n_head=4`, and `MODEL_OPTIONS`,
        which change nothing here. Raises ValueError, naming file, key and value, for a setting that
        is missing or wrong, TypeError for an option that is no setting.
        """
        hub, options = split_hub_options(options)
        path = find_file(pretrained_model_name_or_path, *CONFIG_FILES, **hub)
        changes = {name: x for name, x in options.items() if name not in MODEL_OPTIONS}
        with naming(path):
            settings = read_settings(path, changes)
            known = {*(one.name for one in fields(cls)), *ALIASES, *LABELS, *settings}
        if strange := sorted(changes.keys() - known):
            raise TypeError(
                f"from_pretrained has no option {', '.join(strange)}; pass fields of the config "
                "one by one, such as n_head=4, and what the help lists"
            )
        with naming(path):
            return cls.from_dict(settings, **changes)

    def save_pretrained(self, save_directory: str | Path, **_) -> None:
        """Write `config.json`, as transformers reads it; options of models change nothing."""
        self.validate()
        save_files(save_directory, {"config.json": json_writer(self.to_dict())})

    def to_dict(self) -> dict:
        """Return what `config.json` holds."""
        settings = vars(self) | {"afn": "gelu" if self.afn == "gelu_new" else self.afn}
        usual = {"dtype": None, "architectures": None, "id2label": default_names(2), **OUTPUTS}
        for name in [name for name, x in usual.items() if settings[name] == x] + ["attn_implementation"]:
            del settings[name]
        if "dtype" in settings:
            settings["dtype"] = str(self.dtype).removeprefix("torch.")
        if "id2label" in settings:
            settings["label2id"] = self.label2id
        return {"model_type": MODEL_TYPE} | settings

    def to_diff_dict(self) -> dict:
        """Return what `config.json` holds, without the settings of a new config."""
        usual = type(self)().to_dict() | {"model_type": None}
        return {name: x for name, x in self.to_dict().items() if name not in usual or x != usual[name]}

    def to_json_string(self, use_diff: bool = False) -> str:
        return json_text(self.to_diff_dict() if use_diff else self.to_dict())
