"""The two tokenizers, with the interface of transformers.
`OpenAIGPTTokenizer` prepares a text in Python, exactly as OpenAI's code did;
`OpenAIGPTTokenizerFast` does it with rules in Rust. They share everything else.
"""

from collections import namedtuple
from functools import cache, cached_property
from importlib.util import find_spec
from types import SimpleNamespace

from tokenizers import NormalizedString
from tokenizers.normalizers import Normalizer

from minigpt.fast import warn_caller

from ..tokenizer import Tokenizer, split_chunk, split_chunks
from .tokenizer_base import TokenizerBase
from .tokenizer_rules import original_normalizer, split_at_spaces

WAY = "pip install 'minigpt-notebooks[original]', or use OpenAIGPTTokenizerFast"
LONG_CHUNK = 500  # characters; spaCy's time grows with the square of a chunk's length
rules = cache(original_normalizer)
OnlyIds = namedtuple("OnlyIds", "ids")  # an encoding without the rest


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

    def is_plain(self, texts: list[str]) -> bool:
        """Say whether the tokenizer of chapter 02 is enough for these texts."""
        added = self.added_tokens_decoder.values()
        marks = [token.content for token in added]
        return not any(token.normalized for token in added) and not any(
            has_long_chunk(text) or any(mark in text for mark in marks) for text in texts
        )

    def align(self, texts, pairs, is_split, special, truncation, limit, stride, quick=False):
        """For ids only, use the tokenizer of chapter 02 where it is enough: half the time."""
        special = special and self.backend_tokenizer.post_processor
        by_library = not quick or is_split or special or self.text_pipeline == "basic"
        by_library = by_library or (pairs and truncation)
        if by_library or not self.is_plain([*texts, *(pairs or ())]):
            return super().align(texts, pairs, is_split, special, truncation, limit, stride, quick)
        if pairs:
            both = zip(texts, pairs, strict=True)
            return [OnlyIds([*self.core.encode(x), *self.core.encode(y)]) for x, y in both]
        kept = slice(limit if truncation else None)
        if truncation and self.truncation_side == "left":
            kept = slice(-limit, None)
        return [OnlyIds(self.core.encode(text)[kept]) for text in texts]


class OpenAIGPTTokenizerFast(TokenizerBase):
    """GPT-1's tokenizer, with texts prepared by rules in Rust; it encodes in parallel.

    `text_pipeline`: "original" (the default, needs neither ftfy nor spaCy) or "basic".
    """
