"""The input and output of a tokenizer call: texts and pairs; ids, masks, tensors."""

from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from tokenizers import Encoding

Span = namedtuple("Span", "start end")


def lookup(name: str) -> Callable:
    """Make a method that asks the library's `Encoding` of a text, by default the first."""

    def find(self, batch_or_index: int, index: int | None = None, sequence_index: int = 0):
        batch, index = (0, batch_or_index) if index is None else (batch_or_index, index)
        which = () if name.startswith("token") else (sequence_index,)
        found = getattr(self[batch], name)(index, *which)
        return Span(*found) if isinstance(found, tuple) else found

    find.__doc__ = f"`{name}(index)`, or with the number of the text in front; None: nothing there."
    return find


class BatchEncoding(dict[str, Any]):
    """What a tokenizer returns: a dictionary whose entries are attributes too.

    `batch[0]` is the library's `Encoding` of the first text: tokens, offsets, words.
    """

    make: Callable[[], list[Encoding]] | None = None  # None: only ids are known
    data = property(lambda self: self)
    is_fast = property(lambda self: self.make is not None)
    n_sequences = property(lambda self: self[0].n_sequences)

    def __init__(self, data=(), *, tensor_type=None, prepend_batch_axis=False):
        super().__init__(data)
        if tensor_type:
            self.convert_to_tensors(tensor_type, prepend_batch_axis)

    @cached_property
    def encodings(self) -> list[Encoding]:
        """The library's encodings, made when they are first asked for."""
        if self.make is None:
            raise ValueError("no tokens here, only ids; use what calling the tokenizer returned")
        return self.make()

    def __reduce__(self):
        return BatchEncoding, (dict(self),)

    def __getitem__(self, key: str | int | slice) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.encodings[key]

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(f"no entry {name!r}; there are: {', '.join(self)}")
        return self[name]

    def to(self, device, **options) -> "BatchEncoding":
        """Move all tensors to a device; lists stay as they are. Returns this same object."""
        self.update({name: x.to(device, **options) for name, x in self.items() if hasattr(x, "to")})
        return self

    def convert_to_tensors(
        self, tensor_type: str | None = None, prepend_batch_axis: bool = False
    ) -> "BatchEncoding":
        """Turn the lists into arrays (B, T) of torch ("pt") or numpy ("np"); None: leave them.

        `prepend_batch_axis`: (T,) -> (1, T). Returns this same object. Raises ValueError for rows
        of different lengths.
        """
        for name, values in self.items() if tensor_type else ():
            try:
                x = np.array([values] if prepend_batch_axis else values)
                x = x.astype(np.float32 if x.size and x.dtype.kind == "f" else np.int64)
            except (ValueError, TypeError, OverflowError) as error:
                what = f"{name}: rows of different lengths, or no numbers,"
                raise ValueError(f"{what} cannot become a tensor; pass padding=True") from error
            if tensor_type == "pt":
                import torch  # imported here: a tokenizer can be used without torch

                x = torch.from_numpy(x)
            self[name] = x
        return self

    def tokens(self, batch_index: int = 0) -> list[str]:
        return self[batch_index].tokens

    def word_ids(self, batch_index: int = 0) -> list[int | None]:
        """The number of each token's word; None for padding and special tokens."""
        return self[batch_index].word_ids

    def sequence_ids(self, batch_index: int = 0) -> list[int | None]:
        """For each token: 0 for the first text, 1 for the second, None for neither."""
        return self[batch_index].sequence_ids

    char_to_token, char_to_word = lookup("char_to_token"), lookup("char_to_word")
    token_to_chars, token_to_word = lookup("token_to_chars"), lookup("token_to_word")
    token_to_sequence = lookup("token_to_sequence")
    word_to_tokens, word_to_chars = lookup("word_to_tokens"), lookup("word_to_chars")


def to_texts(text, pair, is_split: bool) -> tuple[list, list | None, bool]:
    """Return the texts, the second texts (or None), and whether a single text was passed.

    Raises TypeError, naming the value, unless it is text; ValueError for lists of two lengths.
    """
    is_list, kind = isinstance(text, list | tuple), list | tuple if is_split else str  # of a text
    single = isinstance(text, str) or is_split and is_list and all(isinstance(x, str) for x in text)
    if single:
        text, pair = [text], None if pair is None else [pair]
    elif pair is None and is_list and text:
        two = (isinstance(x, list | tuple) and len(x) == 2 for x in text)
        if all(two) and all(isinstance(one, kind) for both in text for one in both):
            text, pair = zip(*text, strict=True)
    for one in (*text, *(pair or ())) if isinstance(text, list | tuple) else (text,):
        if not isinstance(one, kind):
            raise TypeError(f"cannot encode {one!r:.80}; pass a string or a list of strings")
    if pair is not None and len(text) != len(pair):
        raise ValueError(f"{len(text)} texts, but {len(pair)} second texts; pass one for each")
    return text, pair, single


def to_ids(ids):
    """Turn an id, or any nesting of lists, arrays and tensors of ids, into plain ints and lists."""
    ids = ids.tolist() if hasattr(ids, "tolist") else ids
    if isinstance(ids, Iterable) and not isinstance(ids, str | bytes):
        return [x if type(x) is int else to_ids(x) for x in ids]
    if not isinstance(ids, int):
        raise TypeError(f"{ids!r} is not an id; pass integers, or lists, arrays or tensors of them")
    return ids


def to_columns(encoded) -> tuple[dict[str, list], bool, str | None]:
    """Turn a batch, or a list of encodings, into columns of lists.

    Also returns whether it was one encoding, and the kind of its ids: "pt", "np" or None (lists).
    Raises ValueError if there are no ids.
    """
    if not isinstance(encoded, Mapping):
        encoded = {name: [one[name] for one in encoded] for name in next(iter(encoded), {})}
    if "input_ids" not in encoded:
        raise ValueError(f"no input_ids to pad; there are: {', '.join(encoded)}")
    ids = encoded["input_ids"]
    first = ids[0] if isinstance(ids, list | tuple) and ids else ids
    kind = "pt" if hasattr(first, "numpy") else "np" if isinstance(first, np.ndarray) else None
    columns = {
        name: [x.tolist() if hasattr(x, "tolist") else x for x in values]
        for name, values in encoded.items()
    }
    single = not columns["input_ids"] or not isinstance(columns["input_ids"][0], list)
    return {n: [x] if single else x for n, x in columns.items()}, single, kind
