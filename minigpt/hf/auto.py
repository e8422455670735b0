"""`AutoModel.from_pretrained(name)` and the other auto classes: the class for a checkpoint."""

from pathlib import Path
from typing import Any, Generic, TypeVar

from minigpt.hf import models
from minigpt.hf.configuration import MODEL_TYPE, OpenAIGPTConfig
from minigpt.hf.files import split_hub_options
from minigpt.hf.tokenization import OpenAIGPTTokenizer, OpenAIGPTTokenizerFast
from minigpt.hf.tokenizer_base import TokenizerBase
from minigpt.hf.tokenizer_files import read_page

Target = TypeVar("Target")


class AutoClass(Generic[Target]):
    """Loads `target` from a checkpoint; refuses a checkpoint of another model than GPT-1."""

    target: type[Target]

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, use_fast: bool = True, **options: Any
    ) -> Target:
        """Load `"tiny"`, a folder or a name on the hub; options and errors: those of the class.

        A tokenizer is an `OpenAIGPTTokenizer` with `use_fast=False`, and needs no `config.json`.
        Raises ValueError for a model of another kind.
        """
        name, (hub, _) = pretrained_model_name_or_path, split_hub_options(options)
        kind = read_page(name, "config.json", hub).get("model_type", MODEL_TYPE)
        if kind != MODEL_TYPE:
            way = f"minigpt builds only {MODEL_TYPE!r}, GPT-1; load it with transformers"
            raise ValueError(f"{name} holds a {kind!r} model, but {way}")
        is_slow = cls.target is OpenAIGPTTokenizerFast and not use_fast
        return (OpenAIGPTTokenizer if is_slow else cls.target).from_pretrained(name, **options)

    @classmethod
    def from_config(cls, config: OpenAIGPTConfig, **changes: Any) -> Target:
        """Make a model with new weights; `changes`: settings, such as `dtype`, for it alone."""
        config = OpenAIGPTConfig.from_dict(config, **changes)
        return cls.target(config).to(config.dtype)


class AutoConfig(AutoClass[OpenAIGPTConfig]):
    """The config of a checkpoint."""

    target = OpenAIGPTConfig

    @staticmethod
    def for_model(model_type: str, **settings) -> OpenAIGPTConfig:
        """Make a new config; `model_type` is always "openai-gpt"."""
        return OpenAIGPTConfig(**settings)


class AutoTokenizer(AutoClass[TokenizerBase]):
    """The fast tokenizer of a checkpoint or, with `use_fast=False`, the other one."""

    target = OpenAIGPTTokenizerFast


class AutoModel(AutoClass[models.OpenAIGPTModel]):
    """The model without a head."""

    target = models.OpenAIGPTModel


class AutoModelForCausalLM(AutoClass[models.OpenAIGPTLMHeadModel]):
    """The language model."""

    target = models.OpenAIGPTLMHeadModel


class AutoModelForSequenceClassification(AutoClass[models.OpenAIGPTForSequenceClassification]):
    """The classifier."""

    target = models.OpenAIGPTForSequenceClassification
