"""`OpenAIGPTConfig`: the settings of a model, as the reference's `config.json` holds them."""

from dataclasses import dataclass, fields
from pathlib import Path

import torch

from ..config import GPTConfig
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
SIZES = ("n_positions", "n_embd", "n_layer", "n_head", "vocab_size")
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
DTYPE_NAMES = {str(dtype).removeprefix("torch."): dtype for dtype in DTYPES} | {"auto": None}
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
    "dtype": (None, *DTYPES),
}
SWITCHES = (
    "summary_use_proj",
    "summary_proj_to_labels",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "tie_word_embeddings",
)
RANGES = {  # name -> least, most; a size beyond that is an error in a file
    **dict.fromkeys(("vocab_size", "n_positions"), (1, 10**9)),
    **dict.fromkeys(("n_embd", "n_head"), (1, 10**6)),
    "n_layer": (1, 10**4),
    **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), (0, 10**9)),
    **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), (0.0, 1.0)),
    "summary_first_dropout": (0.0, 1.0),
    **dict.fromkeys(("layer_norm_epsilon", "initializer_range"), (0.0, 1e9)),
}
ALIASES = {
    "max_position_embeddings": "n_positions",
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "torch_dtype": "dtype",
}
LABELS = ("num_labels", "id2label", "label2id")  # three views of one thing
MAX_LABELS = 10**6
MODEL_OPTIONS = ("device", "device_map", "output_loading_info", "ignore_mismatched_sizes")


def default_names(count: int) -> dict[int, str]:
    return {index: f"LABEL_{index}" for index in range(count)}


def name_labels(num_labels=None, id2label=None, label2id=None) -> dict[int, str]:
    """Return the names of the classes, 0, 1, 2, ..., from any of the three ways to tell them.

    Default names give way to others, as transformers saves them. Raises ValueError if the ways
    contradict each other.
    """
    try:
        first = {int(index): name for index, name in (id2label or {}).items()}
        other = {int(index): name for name, index in (label2id or {}).items()}
        told = [x for x in (first, other) if x and x != default_names(len(x))]
        names = told[0] if told else default_names(len(first or other))
        set(names.values())  # a list cannot be a name
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        given = f"id2label={id2label!r:.80}, label2id={label2id!r:.80}"
        raise ValueError(f"{given}; expected number -> name and name -> number") from error
    if num_labels is not None and not (type(num_labels) is int and 0 < num_labels <= MAX_LABELS):
        raise ValueError(f"num_labels={num_labels!r:.80}; expected a whole number, at least 1")
    names = names or default_names(num_labels or 2)
    if sorted(names) != list(range(len(names))):
        raise ValueError(f"id2label={names!r:.80}; number the classes 0, 1, 2, ... without a gap")
    if len(told) == 2 and told[0] != told[1]:
        raise ValueError(f"label2id={label2id!r:.80}, but id2label={id2label!r:.80}; pass one")
    if num_labels not in (None, len(names)) and told:
        raise ValueError(f"num_labels={num_labels}, but id2label has {len(names)} names; pass one")
    return dict(sorted(names.items())) if told else default_names(num_labels or len(names))


HIDDEN = {  # settings that are saved only if they have another value
    "dtype": None,
    "architectures": None,
    "id2label": default_names(2),
    "output_attentions": False,
    "output_hidden_states": False,
    "return_dict": True,
    "tie_word_embeddings": True,
}


@dataclass(init=False, eq=False, repr=False)
class OpenAIGPTConfig(GPTConfig):
    """The sizes and settings of a GPT-1, under the names that `config.json` of the reference uses.

    Any further setting is kept as an attribute and saved, also one that is set later. `ALIASES` may
    be read and set. `num_labels`, `id2label` and `label2id` always agree. Raises ValueError, naming
    field and value, where no model could be built.
    """

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
    dtype: torch.dtype | None = None  # of the weights; its name is taken, too
    architectures: list[str] | None = None  # the class that was saved
    tie_word_embeddings: bool = True  # False is refused by models with a head that scores tokens
    model_type: str = MODEL_TYPE
    id2label: dict[int, str] | None = None  # names of the classes; None: LABEL_0, LABEL_1

    def __init__(self, *values, **settings):
        usual = {one.name: one.default for one in fields(self)[:-1]}  # all but the labels
        settings = dict(zip(usual, values, strict=False)) | settings
        for alias in ALIASES.keys() & settings.keys():
            if (value := settings[alias]) != settings.get(name := ALIASES[alias], value):
                both = f"{alias}={value!r:.80}, but {name}={settings[name]!r:.80}"
                raise ValueError(f"{both}; they are one setting")
        labels = {name: to_number(settings.pop(name)) for name in LABELS if name in settings}
        for name, value in (usual | settings).items():
            setattr(self, name, value)
        self.id2label = name_labels(**labels) if labels else dict(HIDDEN["id2label"])
        self.validate()

    def __setattr__(self, name: str, value) -> None:
        name = ALIASES.get(name, name)
        if hasattr(value, "item"):
            value = to_number(value)
        if name == "num_labels" and value == self.num_labels:
            return  # the names stay
        if name == "dtype" and isinstance(value, str):
            value = DTYPE_NAMES.get(value.removeprefix("torch."), value)
        if name in ("num_labels", "label2id"):
            name, value = "id2label", name_labels(**{name: value})
        super().__setattr__(name, value)

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
        """Raise ValueError, naming it, for a setting that no model can be built from."""
        if self.model_type != MODEL_TYPE:
            raise ValueError(
                f"model_type={self.model_type!r:.80}, but minigpt builds only {MODEL_TYPE!r}; pass "
                "a GPT-1 checkpoint"
            )
        for name, known in (CHOICES | dict.fromkeys(SWITCHES, (True, False))).items():
            if (value := getattr(self, name)) not in known or type(value) not in map(type, known):
                raise ValueError(f"{name}={value!r:.80}; choose from {', '.join(map(str, known))}")
        for name, (least, most) in RANGES.items():
            value, types = getattr(self, name), {int, type(least)}
            optional = value is None and name.endswith("_id")
            several = value if name == "eos_token_id" and isinstance(value, list) else [value]
            if not optional and not all(type(x) in types and least <= x <= most for x in several):
                kind = "whole number" if type(least) is int else "number"
                raise ValueError(f"{name}={value!r:.80}; expected a {kind} from {least} to {most}")
        if self.n_embd % self.n_head:
            raise ValueError(
                f"n_embd={self.n_embd} cannot be cut into n_head={self.n_head} heads of equal "
                "width; pass an n_head that divides it"
            )
        named = self.architectures
        if named is not None and not (isinstance(named, list) and {*map(type, named)} <= {str}):
            raise ValueError(f"architectures={named!r:.80}; expected a list of names of classes")

    def update(self, settings: dict) -> None:
        for name, value in settings.items():
            setattr(self, name, value)

    @classmethod
    def from_dict(cls, config_dict: dict, **changes) -> "OpenAIGPTConfig":
        """Make a config of what `config.json` holds, and of settings that replace some of it."""
        changes = {ALIASES.get(name, name): value for name, value in changes.items()}
        if changes.get("dtype") in (None, "auto"):
            changes.pop("dtype", None)
        labels = {name: to_number(changes.pop(name)) for name in LABELS if name in changes}
        kept = {n: x for n, x in config_dict.items() if ALIASES.get(n, n) not in changes}
        config = cls(**kept | changes)
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
        is_page = path.name == "config.json"
        settings = read_json(path) if is_page else release_sizes(path)
        changes = {name: x for name, x in options.items() if name not in MODEL_OPTIONS}
        known = {*(one.name for one in fields(cls)), *ALIASES, *LABELS, *settings}
        if strange := sorted(changes.keys() - known):
            raise TypeError(
                f"from_pretrained has no option {', '.join(strange)}; pass fields of the config "
                "one by one, such as n_head=4, and what the help lists"
            )
        with naming(path):
            told = {ALIASES.get(name, name) for name in [*settings, *changes]}
            if is_page and (lost := [name for name in SIZES if name not in told]):
                way = f"add it to the file, or pass {lost[0]}=..."
                raise ValueError(f"there is no {lost[0]}; {way}")
            return cls.from_dict(settings, **changes)

    def save_pretrained(self, save_directory: str | Path, **_) -> None:
        """Write `config.json`, as transformers reads it; options of models change nothing."""
        self.validate()
        save_files(save_directory, {"config.json": json_writer(self.to_dict())})

    def to_dict(self) -> dict:
        """Return what `config.json` holds."""
        settings = {name: x for name, x in vars(self).items() if name != "attn_implementation"}
        if self.afn == "gelu_new":
            settings["afn"] = "gelu"
        if self.dtype is not None:
            settings["dtype"] = str(self.dtype).removeprefix("torch.")
        if self.id2label != default_names(2):
            settings["label2id"] = self.label2id
        return {"model_type": MODEL_TYPE} | {
            name: x
            for name, x in settings.items()
            if name not in HIDDEN or repr(x) != repr(HIDDEN[name])
        }

    def to_diff_dict(self) -> dict:
        """Return what `config.json` holds, without the settings of a new config."""
        usual = type(self)().to_dict() | {"model_type": None}
        return {n: x for n, x in self.to_dict().items() if n not in usual or x != usual[n]}

    def to_json_string(self, use_diff: bool = False) -> str:
        return json_text(self.to_diff_dict() if use_diff else self.to_dict())
