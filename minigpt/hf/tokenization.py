"""The two tokenizers, with the interface of transformers.
`OpenAIGPTTokenizer` prepares a text in Python, exactly as OpenAI's code did, and
`OpenAIGPTTokenizerFast` with rules in Rust. Everything else they share.
"""

from functools import cache
from importlib.util import find_spec

import tokenizers
from tokenizers import AddedToken, normalizers, pre_tokenizers

from minigpt.fast import warn_caller

from ..tokenizer import Tokenizer, split_chunk, split_chunks
from .tokenizer_base import TokenizerBase
from .tokenizer_files import check
from .tokenizer_rules import original_normalizer

LONG_CHUNK = 500  # characters; spaCy's time grows with the square of a chunk's length


class OriginalNormalizer:
    """OpenAI's pipeline as a normalizer of the library: words with a space between them."""

    rules = staticmethod(cache(original_normalizer))

    def normalize(self, text: tokenizers.NormalizedString) -> None:
        words = []
        for chunk in split_chunks(text.normalized):
            is_long = len(chunk) > LONG_CHUNK
            words += [self.rules().normalize_str(chunk)] if is_long else split_chunk(chunk)
        text.clear()
        text.append(" ".join(words))


class OpenAIGPTTokenizer(TokenizerBase):
    """GPT-1's tokenizer, with texts prepared in Python, exactly as OpenAI's code did it.

    `text_pipeline`: "original" (the default where ftfy and spaCy are installed) or "basic". A word
    of more than `LONG_CHUNK` characters is split by the fast tokenizer's rules.
    Source: `TextEncoder` of OpenAI's `text_utils.py`.
    """

    is_fast = False
    core = None  # the tokenizer of chapter 02; made when needed

    @staticmethod
    def choose_pipeline(wanted: str | None) -> str:
        """Return the pipeline asked for; by default "original" where its libraries are installed.

        Where they are not, warns and returns "basic", or raises ImportError if it was asked for.
        """
        missing = [name for name in ("ftfy", "spacy") if not find_spec(name)]
        if missing and wanted is None:
            warn_caller(
                "ftfy and spacy are not installed, so texts go through the basic pipeline: line "
                "breaks, curly quotes and accents are lost, and i'm is split in three, unlike the "
                "text that GPT-1 was trained on. pip install 'minigpt-notebooks[original]', or use "
                "OpenAIGPTTokenizerFast, which has its own rules"
            )
            return "basic"
        if missing and wanted == "original":
            raise ImportError(
                f"text_pipeline='original' needs {' and '.join(missing)}: "
                "pip install 'minigpt-notebooks[original]', or pass text_pipeline='basic'"
            )
        return check("text_pipeline", wanted or "original")

    def prepare(self) -> tuple[normalizers.Normalizer, pre_tokenizers.PreTokenizer]:
        normalizer, pre_tokenizer = super().prepare()
        if self.text_pipeline == "original":
            normalizer = normalizers.Normalizer.custom(OriginalNormalizer())
        return normalizer, pre_tokenizer

    def quick_ids(self, texts: list[str]) -> list[list[int]]:
        """Encode by the tokenizer of chapter 02, in half the time, what needs nothing else."""
        added = self.added_tokens_decoder.values()
        if self.text_pipeline == "basic" or any(token.normalized for token in added):
            return super().quick_ids(texts)
        self.core, found = self.core or Tokenizer(self.vocab, self.merges, self.unk_token), []
        for text in texts:
            is_long = len(text) > LONG_CHUNK and max(map(len, text.split()), default=0) > LONG_CHUNK
            if is_long or any(token.content in text for token in added):
                found += super().quick_ids([text])
            else:
                found.append(self.core.encode(text))
        return found

    def set_role(self, name: str, token: str | int | AddedToken | None) -> None:
        super().set_role(name, token)
        self.core = None  # it may be a new unk_token


class OpenAIGPTTokenizerFast(TokenizerBase):
    """GPT-1's tokenizer, with texts prepared by rules in Rust; it encodes in parallel.

    `text_pipeline`: "original" (the default, needs neither ftfy nor spaCy) or "basic".
    """
