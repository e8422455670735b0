"""Tokens and ids, added tokens and special tokens, kept by the library `tokenizers`."""

import sys
import warnings
from collections.abc import Iterable, Mapping

import tokenizers
from tokenizers import AddedToken

from .tokenizer_files import EXTRA, ROLES, to_token

WITHOUT_EFFECT = (  # options that scripts pass to tokenizers too
    "attn_implementation clean_up_tokenization_spaces device device_map do_lower_case dtype errors "
    "ignore_mismatched_sizes output_loading_info torch_dtype verbose"
).split()


def warn(message: str) -> None:
    """Warn with the line of the first caller outside this package."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back and frame.f_globals["__name__"].startswith(f"{__name__.split('.')[0]}."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def warn_unknown(names: Iterable[str]) -> None:
    if unknown := sorted(set(names) - set(WITHOUT_EFFECT)):
        warn(f"unknown options of a tokenizer are ignored: {', '.join(unknown)}")


def replace_surrogates(text: str) -> str:
    """Join or replace halves of UTF-16 pairs: a Python string may hold them, UTF-8 may not."""
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def to_ids(ids):
    """Turn an id, or any nesting of lists, arrays and tensors of ids, into plain ints and lists."""
    ids = ids["input_ids"] if isinstance(ids, Mapping) else ids
    ids = ids.tolist() if hasattr(ids, "tolist") else ids
    if isinstance(ids, Iterable) and not isinstance(ids, str | bytes):
        return [x if type(x) is int else to_ids(x) for x in ids]
    if not isinstance(ids, int):
        raise TypeError(f"{ids!r} is no id; pass whole numbers, or lists, arrays, tensors of them")
    return ids


def clean_up(text: str) -> str:
    """Remove the spaces before punctuation and contractions, as transformers does."""
    for ending in (".", "?", "!", ","):
        text = text.replace(f" {ending}", ending)
    text = text.replace(" ' ", "'")
    for ending in ("n't", "'m", "'s", "'ve", "'re"):
        text = text.replace(f" {ending}", ending)
    return text


def role(name: str) -> property:
    return property(
        lambda self: self.roles.get(name), lambda self, token: self.set_role(name, token)
    )


def role_id(name: str) -> property:
    def give(self, index: int | None) -> None:
        self.set_role(name, None if index is None else self.convert_ids_to_tokens(index))

    return property(lambda self: self.convert_tokens_to_ids(self.roles.get(name)), give)


class Vocabulary:
    """Tokens and ids. A tokenizer is one of these.

    `vocab` maps the tokens of the checkpoint to ids, `roles` names like `"pad_token"` to tokens;
    `backend_tokenizer` is the library's tokenizer, which knows the added tokens too.
    """

    vocab: dict[str, int]
    roles: dict[str, str]
    backend_tokenizer: tokenizers.Tokenizer

    def __len__(self) -> int:
        return self.backend_tokenizer.get_vocab_size(with_added_tokens=True)

    vocab_size = property(lambda self: len(self.vocab))  # without what was added
    added_tokens_decoder = property(lambda self: self.backend_tokenizer.get_added_tokens_decoder())
    special_tokens_map = property(lambda self: dict(self.roles))
    all_special_ids = property(lambda self: self.convert_tokens_to_ids(self.all_special_tokens))

    @property
    def added_tokens_encoder(self) -> dict[str, int]:
        return {token.content: index for index, token in sorted(self.added_tokens_decoder.items())}

    @property
    def all_special_tokens(self) -> list[str]:
        special = {x.content for x in self.added_tokens_decoder.values() if x.special}
        return sorted(special | set(self.roles.values()), key=self.convert_tokens_to_ids)

    @property
    def extra_special_tokens(self) -> list[str]:
        """Special tokens without a role."""
        return [x for x in self.all_special_tokens if x not in self.roles.values()]

    additional_special_tokens = extra_special_tokens

    def get_vocab(self) -> dict[str, int]:
        return self.vocab | self.added_tokens_encoder

    def get_added_vocab(self) -> dict[str, int]:
        return self.added_tokens_encoder

    def set_role(self, name: str, token: str | AddedToken | None) -> None:
        """Give a role to a token, which is found in texts from now on; None: to none.

        Raises ValueError for a token without an id.
        """
        if token is None:
            self.roles.pop(name, None)
            return
        token = token.content if isinstance(token, AddedToken) else str(token)
        if self.backend_tokenizer.token_to_id(replace_surrogates(token)) is None:
            add = f"tokenizer.add_special_tokens({{{name!r}: {token!r}}})"
            raise ValueError(f"{name}={token!r} is not in the vocabulary; add it: {add}")
        if name == "unk_token":
            self.backend_tokenizer.model.unk_token = token
        elif token != self.unk_token:  # one that was added keeps how it is found
            known = self.added_tokens_decoder.get(self.convert_tokens_to_ids(token), token)
            self.add_tokens([known], special_tokens=True)
        self.roles[name] = token

    def add_tokens(self, new_tokens, special_tokens: bool = False) -> int:
        """Add tokens, strings or AddedTokens, that are never split; returns how many are new.

        The model's embedding needs a row for each: `len(tokenizer)` rows. Raises ValueError for a
        token that no text can hold.
        """
        new_tokens = new_tokens if isinstance(new_tokens, list | tuple) else [new_tokens]
        tokens = [to_token(token, special_tokens) for token in new_tokens]
        normalize = self.backend_tokenizer.normalizer.normalize_str
        for token in tokens:
            text = token.content
            if not (normalize(text) if token.normalized else text):
                raise ValueError(f"{text!r} cannot be added: nothing is left of it in a text")
            if token.lstrip and text.isspace():  # the library would crash on some texts
                raise ValueError(f"{text!r} cannot be added with lstrip=True: it is whitespace")
        before = len(self.added_tokens_decoder)
        self.backend_tokenizer.add_tokens(tokens)
        return len(self.added_tokens_decoder) - before

    def add_special_tokens(self, special_tokens_dict: dict, **options) -> int:
        """Add tokens with a role, `{"pad_token": "<pad>"}`, or without, in a list under
        `"additional_special_tokens"`; returns how many are new. Raises ValueError for other keys.
        """
        count = 0
        for name, tokens in special_tokens_dict.items():
            if name not in (*ROLES, *EXTRA):
                raise ValueError(f"no role {name!r}; choose from {', '.join(ROLES + EXTRA)}")
            count += self.add_tokens(tokens, special_tokens=True)
            if name in ROLES:
                self.set_role(name, tokens)
        return count

    def convert_tokens_to_ids(self, tokens: str | list[str] | None) -> int | list[int] | None:
        """Look up tokens; one outside the vocabulary gets the id of `unk_token`."""
        if tokens is None:
            return None
        if isinstance(tokens, str):
            index = self.backend_tokenizer.token_to_id(replace_surrogates(tokens))
            return self.unk_token_id if index is None else index
        return [self.convert_tokens_to_ids(token) for token in tokens]

    def convert_ids_to_tokens(self, ids, skip_special_tokens: bool = False) -> str | list[str]:
        """Look up ids. Raises ValueError, naming it, for an id that does not exist."""
        ids = to_ids(ids)
        if isinstance(ids, int):
            return self.convert_ids_to_tokens([ids])[0]
        return [self.backend_tokenizer.id_to_token(x) for x in self.known(ids, skip_special_tokens)]

    def known(self, ids: list[int], skip_special_tokens: bool = False) -> list[int]:
        """Return ids, without those of special tokens if asked. Raises ValueError for others."""
        size = len(self)
        if ids and not 0 <= min(ids) <= max(ids) < size:
            wrong = next(x for x in ids if not 0 <= x < size)
            raise ValueError(f"id {wrong}, but this tokenizer has ids 0 to {size - 1}")
        skipped = set(self.all_special_ids) if skip_special_tokens else ()
        return [x for x in ids if x not in skipped] if skipped else ids


for name in ROLES:
    setattr(Vocabulary, name, role(name))
    setattr(Vocabulary, f"{name}_id", role_id(name))
