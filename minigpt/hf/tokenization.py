"""The two tokenizers, with the interface of transformers.
`OpenAIGPTTokenizer` prepares a text in Python, exactly as OpenAI's code did;
`OpenAIGPTTokenizerFast` does it with rules in Rust. They share everything else.
"""

from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tokenizers import NormalizedString
from tokenizers.normalizers import Normalizer

from minigpt.fast import warn_caller

from ..tokenizer import Tokenizer, split_chunk, split_chunks
from .files import MODEL_TYPE, split_hub_options, wrong_kind
from .tokenizer_base import TokenizerBase
from .tokenizer_files import read_page
from .tokenizer_rules import original_normalizer, split_at_spaces

WAY = "pip install 'minigpt-notebooks[original]', or use OpenAIGPTTokenizerFast"
LONG_CHUNK = 500  # characters; spaCy's time grows with the square of a chunk's length
rules = cache(original_normalizer)


def has_long_chunk(text: str) -> bool:
    return len(text) > LONG_CHUNK < max(map(len, text.split()), default=0)


def normalize_text(text: NormalizedString) -> None:
    """Turn a text into words with a space between them, as OpenAI's code did."""
    words = []
    for chunk in split_chunks(text.normalized):
        is_long = len(chunk) > LONG_CHUNK
        words += [rules().normalize_str(chunk)] if is_long else split_chunk(chunk)
    text.clear()
    text.append(" ".join(words))


def lacks_extra() -> bool:
    return not (find_spec("ftfy") and find_spec("spacy"))


def python_normalizer() -> Normalizer:
    """Return the normalizer of OpenAI's pipeline. Raises ImportError without its libraries."""
    if lacks_extra():
        raise ImportError(f"text_pipeline='original' needs ftfy and spacy: {WAY}")
    return Normalizer.custom(SimpleNamespace(normalize=normalize_text))


class OpenAIGPTTokenizer(TokenizerBase):
    """GPT-1's tokenizer, with texts prepared in Python, exactly as OpenAI's code did it.

    `text_pipeline`: "original" (the default where ftfy and spaCy are installed) or "basic". A word
    of more than `LONG_CHUNK` characters is split by the fast tokenizer's rules.
    Source: `TextEncoder` of OpenAI's `text_utils.py`.
    """

    is_fast = False
    steps = TokenizerBase.steps | {"original": (python_normalizer, split_at_spaces)}
    core = cached_property(lambda self: Tokenizer(self.vocab, self.merges, self.unk_token))

    @property
    def usual_pipeline(self) -> str:
        """The default: "original" if its libraries are installed; else "basic", with a warning."""
        if not lacks_extra():
            return "original"
        warn_caller(
            "ftfy and spacy are not installed, so texts go through the basic pipeline: line "
            "breaks, curly quotes and accents are lost, and i'm is split in three, unlike the "
            f"text that GPT-1 was trained on. {WAY}, which has its own rules"
        )
        return "basic"

    def ids_of(self, texts: list[str]) -> list[list[int]]:
        """Use the tokenizer of chapter 02 where it is enough: half the time."""
        added = self.added_tokens_decoder.values()
        by_library = self.text_pipeline == "basic" or any(token.normalized for token in added)
        marks = [token.content for token in added]
        if by_library or any(has_long_chunk(x) or any(mark in x for mark in marks) for x in texts):
            return super().ids_of(texts)
        return [self.core.encode(text) for text in texts]


class OpenAIGPTTokenizerFast(TokenizerBase):
    """GPT-1's tokenizer, with texts prepared by rules in Rust; it encodes in parallel.

    `text_pipeline`: "original" (the default, needs neither ftfy nor spaCy) or "basic".
    """


class AutoTokenizer:
    """The fast tokenizer of a checkpoint or, with `use_fast=False`, the other one."""

    @staticmethod
    def from_pretrained(
        pretrained_model_name_or_path: str | Path, use_fast: bool = True, **options: Any
    ) -> TokenizerBase:
        """Load `"tiny"`, a folder or a name on the hub; options and errors: those of the class.

        No `config.json` is needed. Raises ValueError for that of another kind of model.
        """
        name, (hub, _) = pretrained_model_name_or_path, split_hub_options(options)
        kind = read_page(name, "config.json", hub).get("model_type", MODEL_TYPE)
        if kind != MODEL_TYPE:
            raise ValueError(f"{name}: {wrong_kind(kind)}")
        chosen = OpenAIGPTTokenizerFast if use_fast else OpenAIGPTTokenizer
        return chosen.from_pretrained(name, **options)
