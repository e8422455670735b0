"""The class that fits a checkpoint: `AutoModel.from_pretrained(name)` and its relatives."""

from contextlib import suppress
from pathlib import Path

from minigpt.hf.configuration import CONFIG_FILES, MODEL_TYPE, OpenAIGPTConfig
from minigpt.hf.files import find_file, read_json, split_hub_options
from minigpt.hf.models import (
    OpenAIGPTForSequenceClassification,
    OpenAIGPTLMHeadModel,
    OpenAIGPTModel,
)
from minigpt.hf.tokenization import OpenAIGPTTokenizer, OpenAIGPTTokenizerFast


def check_model_type(checkpoint: str | Path, names: tuple[str, ...], options: dict) -> None:
    """Raise ValueError if the first file of `names` in a checkpoint tells of another model.

    `options` may hold those for the hub. Errors of `find_file`, if no such file is there.
    """
    hub, _ = split_hub_options(options)
    path = find_file(checkpoint, *names, **hub)
    is_release = path.name == "params_shapes.json"
    found = MODEL_TYPE if is_release else read_json(path).get("model_type", MODEL_TYPE)
    if found != MODEL_TYPE:
        raise ValueError(
            f"{checkpoint} holds a {found!r} model, but minigpt builds only {MODEL_TYPE!r}, GPT-1; "
            "pass such a checkpoint, or load this one with transformers"
        )


class AutoClass:
    """Loads `target` from a checkpoint, once that is known to hold a GPT-1."""

    target: type

    def __init__(self, *_, **__):
        name = type(self).__name__
        raise TypeError(f"{name} makes no objects of its own; call {name}.from_pretrained(...)")

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options):
        """Load `"tiny"`, a folder or a name on the hub; options and errors: those of the class.

        Raises ValueError for a model of another kind.
        """
        check_model_type(pretrained_model_name_or_path, CONFIG_FILES, options)
        return cls.target.from_pretrained(pretrained_model_name_or_path, **options)


class AutoConfig(AutoClass):
    """Loads a config: see `OpenAIGPTConfig.from_pretrained`."""

    target = OpenAIGPTConfig


class AutoModel(AutoClass):
    """Loads a network without a head: ids (B, T) in, hidden states (B, T, C) out."""

    target = OpenAIGPTModel

    @classmethod
    def from_config(cls, config: OpenAIGPTConfig, **options):
        """Make a model with new weights; `options` are those of its class.

        Raises TypeError for anything but an `OpenAIGPTConfig`.
        """
        if not isinstance(config, OpenAIGPTConfig):
            raise TypeError(
                f"expected an {OpenAIGPTConfig}, got {type(config)}; "
                "make one, or read one with AutoConfig.from_pretrained"
            )
        return cls.target(config, **options)


class AutoModelForCausalLM(AutoModel):
    """Loads a network that predicts the next token, and generates."""

    target = OpenAIGPTLMHeadModel


class AutoModelForSequenceClassification(AutoModel):
    """Loads a network that sorts texts into classes."""

    target = OpenAIGPTForSequenceClassification


class AutoTokenizer(AutoClass):
    """Loads a tokenizer: see `from_pretrained`."""

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, use_fast: bool = True, **options
    ):
        """Return an `OpenAIGPTTokenizerFast` or, with `use_fast=False`, an `OpenAIGPTTokenizer`.

        A `config.json` need not be there. Options and errors: those of the class.
        """
        with suppress(FileNotFoundError):
            check_model_type(pretrained_model_name_or_path, ("config.json",), options)
        target = OpenAIGPTTokenizerFast if use_fast else OpenAIGPTTokenizer
        return target.from_pretrained(pretrained_model_name_or_path, **options)
