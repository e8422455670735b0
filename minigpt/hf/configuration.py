"""`OpenAIGPTConfig`: the settings of a model, as the reference's `config.json` holds them."""

from copy import deepcopy
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, Self, overload

import torch

from ..config import GPTConfig
from . import files
from .files import MODEL_TYPE, wrong_kind
from .formats import release_sizes
from .hub import push_to_hub
from .interop import counterpart

CONFIG_FILES = ("config.json", "params_shapes.json")  # today's name, and that of OpenAI's release
SIZES = ("n_positions", "n_embd", "n_layer", "n_head", "vocab_size")
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
ALIASES = {
    "max_position_embeddings": "n_positions",
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "torch_dtype": "dtype",
    "use_return_dict": "return_dict",
    "name_or_path": "_name_or_path",
    "_attn_implementation": "attn_implementation",
}
LABELS = ("num_labels", "label2id", "id2label")  # all are made from `id2label`
QUIET = (  # saved if not the default
    *("dtype", "architectures", "tie_word_embeddings"),
    *("output_attentions", "output_hidden_states", "return_dict", "is_encoder_decoder"),
    *("id2label", "label2id"),
)
PROBLEMS = ("regression", "single_label_classification", "multi_label_classification")
DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop", "summary_first_dropout")
NUMBERS = {  # smallest and largest value
    **dict.fromkeys(SIZES, (1, 10**9)),
    **dict.fromkeys(DROPOUTS, (0.0, 1.0)),
    **dict.fromkeys(("layer_norm_epsilon", "initializer_range"), (0.0, 1e9)),
}
ALLOWED = {
    "afn": ("gelu", "relu", "silu", "swish"),
    "attn_implementation": ("eager", "sdpa", "flash_attention_2"),
    "summary_type": ("cls_index", "last", "first", "mean"),
    "summary_activation": (None, "tanh"),
    "problem_type": (None, *PROBLEMS),
    "dtype": (None, *DTYPES),
}


def name_labels(num_labels=None, id2label=None, label2id=None) -> dict[int, str]:
    """Return the names of the classes 0, 1, 2, ... from any of the three arguments.

    `id2label` is taken before `label2id`. Raises ValueError if the numbers have a gap.
    """
    try:
        names = id2label or {index: name for name, index in (label2id or {}).items()}
        count = len(names) or 2 if num_labels is None else num_labels
        names = names or {index: f"LABEL_{index}" for index in range(min(count, 10**5))}
        names = dict(sorted((int(index), name) for index, name in names.items()))
        if 0 < count == len(names) and [*names] == [*range(count)]:
            return names
    except (AttributeError, TypeError, ValueError, OverflowError):
        pass
    given = f"id2label={id2label!r:.80}, label2id={label2id!r:.80}, num_labels={num_labels!r:.80}"
    raise ValueError(f"{given}; number the names 0, 1, 2, ... without a gap")


@counterpart("transformers.configuration_utils", "PreTrainedConfig")
@dataclass(init=False, eq=False, repr=False)
class OpenAIGPTConfig(GPTConfig):
    """The sizes and settings of a GPT-1, under the names that `config.json` of the reference uses.

    Any further setting becomes an attribute and is saved, also if it is set later. `ALIASES` can be
    read and set. `num_labels`, `id2label` and `label2id` always agree. Raises ValueError, naming
    field and value, if no model can be built from them.
    """

    summary_type: str = "cls_index"  # which vector stands for a text: `SequenceSummary`
    summary_use_proj: bool = True
    summary_activation: str | None = None
    summary_proj_to_labels: bool = True
    summary_first_dropout: float = 0.1
    problem_type: str | None = None  # of a classifier; None: from the labels
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    output_attentions: bool = False  # the default of each call
    output_hidden_states: bool = False
    return_dict: bool = True
    dtype: torch.dtype | None = None  # of the weights; a name such as "float16" is accepted, too
    architectures: list[str] | None = None  # the class that was saved
    tie_word_embeddings: bool = True  # models with an LM head refuse False
    is_encoder_decoder: bool = False
    _name_or_path: str = ""  # where it was loaded from; never saved
    id2label: dict[int, str] | None = None  # names of the classes; None: LABEL_0, LABEL_1

    model_type = MODEL_TYPE
    push_to_hub = push_to_hub

    def __init__(self, **settings):
        labels = {name: settings.pop(name) for name in LABELS if name in settings}
        kind = settings.pop("model_type", MODEL_TYPE)
        if kind not in (MODEL_TYPE, self.model_type):
            raise wrong_kind(kind)
        vars(self)["id2label"] = name_labels(**labels) if labels else {0: "LABEL_0", 1: "LABEL_1"}
        usual = {one.name: one.default for one in fields(self) if one.name != "id2label"}
        for name, value in (usual | settings).items():
            setattr(self, name, value)
        self.validate()

    def __setattr__(self, name: str, value) -> None:
        if hasattr(value, "tolist"):
            value = files.to_number(value)
        if name == "num_labels" and value == self.num_labels:
            return  # the names stay
        if name in LABELS:
            name, value = "id2label", name_labels(**{name: value})
        if name == "dtype" and isinstance(value, str):
            value = getattr(torch, value.removeprefix("torch."), value)
        super().__setattr__(name, value)

    @property
    def num_labels(self) -> int:
        return len(self.id2label)

    @property
    def label2id(self) -> dict[str, int]:
        return {name: index for index, name in self.id2label.items()}

    def __eq__(self, other) -> bool:
        return type(self) is type(other) and self.to_dict() == other.to_dict()

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string()}"

    def validate(self) -> None:
        """Raise ValueError, naming it, for a setting that no model can be built from."""
        for name, (least, most) in NUMBERS.items():
            value, kind = getattr(self, name), type(least)
            if type(value) not in (int, kind) or not least <= value <= most:
                way = f"pass an {kind.__name__} from {least} to {most}"
                raise ValueError(f"{name}={value!r:.80}; {way}")
        for name, values in ALLOWED.items():
            if (value := getattr(self, name)) not in values:
                raise ValueError(f"{name}={value!r:.80}; choose from {values}")
        if self.n_embd % self.n_head:
            sizes = f"n_embd={self.n_embd} cannot be cut into n_head={self.n_head} heads"
            raise ValueError(f"{sizes} of equal width; pass an n_head that divides it")

    def update(self, settings: dict) -> None:
        for name, value in settings.items():
            setattr(self, name, value)

    @classmethod
    def from_dict(
        cls, config_dict: dict, return_unused_kwargs: bool = False, **changes
    ) -> "OpenAIGPTConfig | tuple[OpenAIGPTConfig, dict]":
        """Make a config from the contents of `config.json`, and settings that replace some of it.

        In place of the contents, another config will do. Unknown changes are ignored; with
        `return_unused_kwargs` they are returned, too.
        """
        if not isinstance(config_dict, dict):
            attention = {"attn_implementation": config_dict._attn_implementation or "sdpa"}
            config_dict = config_dict.to_dict() | attention
        changes = {ALIASES.get(n, n): x for n, x in changes.items()}
        known = {*(one.name for one in fields(cls)), *LABELS, *config_dict}
        unused = {name: changes.pop(name) for name in changes.keys() - known}
        if changes.get("dtype") in (None, "auto"):
            changes.pop("dtype", None)
        labels = {name: changes.pop(name) for name in LABELS if name in changes}
        kept = {n: x for n, x in config_dict.items() if ALIASES.get(n, n) not in changes}
        config = cls(**kept | changes)
        for name, value in labels.items():
            setattr(config, name, value)
        return (config, unused) if return_unused_kwargs else config

    @overload
    @classmethod
    def from_pretrained(
        cls, name: str | Path, *, return_unused_kwargs: Literal[True], **options: Any
    ) -> tuple[Self, dict]: ...
    @overload
    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self: ...
    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **options):
        """Read the config of `"tiny"`, a folder or a name on the hub.

        `options` are `HUB_OPTIONS`, settings to replace, such as `n_head=4`, and those of
        `from_dict`. Raises ValueError, naming file, key and value, for a wrong setting.
        """
        hub, changes = files.split_hub_options(options)
        path = files.find_file(pretrained_model_name_or_path, *CONFIG_FILES, **hub)
        settings = files.read_json(path) if path.name == "config.json" else release_sizes(path)
        settings["_name_or_path"] = str(pretrained_model_name_or_path)
        with files.naming(path):
            return cls.from_dict(settings, **changes)

    @classmethod
    def for_model(cls, model_type: str, **settings) -> "OpenAIGPTConfig":
        """Make a new config; `model_type` is always "openai-gpt"."""
        return cls(model_type=model_type, **settings)

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path: str | Path, **options) -> tuple:
        """Return all settings of a checkpoint, and the options that are none."""
        name = pretrained_model_name_or_path
        config, unused = cls.from_pretrained(name, return_unused_kwargs=True, **options)
        return config.to_dict(), unused

    @classmethod
    def from_json_file(cls, json_file: str | Path) -> "OpenAIGPTConfig":
        return cls(**files.read_json(Path(json_file)))

    def save_pretrained(self, save_directory: str | Path, **_) -> None:
        """Write `config.json`, as transformers reads it; options of models change nothing."""
        self.validate()
        files.save_files(save_directory, {"config.json": files.json_writer(self.to_diff_dict())})

    def to_dict(self) -> dict:
        """Return all settings that belong to a checkpoint."""
        told = {"model_type": type(self).model_type} | deepcopy(vars(self))
        told["label2id"] = self.label2id
        told["dtype"] = self.dtype and str(self.dtype).removeprefix("torch.")
        del told["_name_or_path"], told["attn_implementation"]  # not of the checkpoint
        return told

    def to_diff_dict(self) -> dict:
        """Return what `config.json` holds: all settings, those of `QUIET` only if changed."""
        usual = type(self)().to_dict()
        return {n: x for n, x in self.to_dict().items() if n not in QUIET or x != usual[n]}

    def to_json_string(self, use_diff: bool = True) -> str:
        return files.json_text(self.to_diff_dict() if use_diff else self.to_dict())

    def to_json_file(self, json_file_path: str | Path, use_diff: bool = True) -> None:
        files.json_writer(self.to_diff_dict() if use_diff else self.to_dict())(Path(json_file_path))


for alias, name in ALIASES.items():
    own = property(attrgetter(name), lambda self, value, name=name: setattr(self, name, value))
    setattr(OpenAIGPTConfig, alias, own)
AutoConfig = OpenAIGPTConfig  # there is no other kind of model
