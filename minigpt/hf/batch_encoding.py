"""What calling a tokenizer takes and returns: texts and pairs; ids, masks, tensors."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from tokenizers import Encoding

from .tokenizer_files import choose
from .vocabulary import replace_surrogates

PADDINGS = ("longest", "max_length", "do_not_pad")
TRUNCATIONS = ("longest_first", "only_first", "only_second", "do_not_truncate")

Row = dict[str, list]  # one text: lists with an entry for each token
PADS = {
    "attention_mask": 0,
    "token_type_ids": 0,
    "special_tokens_mask": 1,
    "offset_mapping": (0, 0),
}


class BatchEncoding(dict):
    """What a tokenizer returns: a dictionary whose entries are attributes too.

    `batch[0]` is the library's `Encoding` of the first text: tokens, offsets, words.
    """

    def __init__(self, data=(), encodings: Callable[[], list[Encoding]] | None = None):
        super().__init__(data)
        self._encodings = encodings

    data = property(lambda self: self)

    @property
    def encodings(self) -> list[Encoding]:
        """The library's encodings, made when they are first asked for."""
        if self._encodings is None:
            raise ValueError("no tokens here, only ids; use what calling the tokenizer returned")
        if callable(self._encodings):
            self._encodings = self._encodings()
        return self._encodings

    def __getitem__(self, key):
        if isinstance(key, int):
            return self.encodings[key]
        if isinstance(key, slice):
            return {name: values[key] for name, values in self.items()}
        return super().__getitem__(key)

    def __getattr__(self, name: str):
        if name in self:
            return self[name]
        raise AttributeError(f"no entry {name!r}; there are: {', '.join(self)}")

    def __reduce__(self):
        return BatchEncoding, (dict(self),)

    def to(self, device, **options) -> "BatchEncoding":
        """Move all tensors to a device; lists stay as they are. Returns this same object."""
        self.update({name: x.to(device, **options) for name, x in self.items() if hasattr(x, "to")})
        return self

    def tokens(self, batch_index: int = 0) -> list[str]:
        return self[batch_index].tokens

    def word_ids(self, batch_index: int = 0) -> list[int | None]:
        """The number of each token's word; None for padding and special tokens."""
        return self[batch_index].word_ids

    def sequence_ids(self, batch_index: int = 0) -> list[int | None]:
        """For each token: 0 for the first text, 1 for the second, None for neither."""
        return self[batch_index].sequence_ids

    def char_to_token(self, batch_or_char_index: int, char_index=None, sequence_index=0):
        """The position of the token that holds a character of a text; None if there is none."""
        place = (
            (0, batch_or_char_index) if char_index is None else (batch_or_char_index, char_index)
        )
        return self[place[0]].char_to_token(place[1], sequence_index)


def to_array(name: str, values: list) -> np.ndarray:
    """Make an array: int64, or float32 of fractions. Raises ValueError for ragged rows."""
    try:
        array = np.array(values)
        return array.astype(np.float32 if array.size and array.dtype.kind == "f" else np.int64)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(
            f"{name}: rows of different lengths, or not of numbers, make no tensor; pass "
            "padding=True, or return_tensors=None"
        ) from error


def to_columns(rows: list[Row], kind: str | None) -> dict:
    """Put rows side by side: lists, or arrays (B, T) of torch ("pt") or numpy ("np")."""
    names = rows[0] if rows else ("input_ids", "attention_mask")
    columns = {name: [row[name] for row in rows] for name in names}
    if kind is None:
        return columns
    if kind not in ("pt", "np"):
        raise ValueError(f"return_tensors={kind!r}; choose 'pt', 'np' or None")
    arrays = {name: to_array(name, values) for name, values in columns.items()}
    if kind == "np":
        return arrays
    import torch  # only here: a tokenizer is useful without it

    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def to_rows(encoded, with_mask: bool) -> tuple[list[Row], bool]:
    """Turn a batch (columns) or a list of encodings into rows; say whether it was one encoding.

    Raises ValueError where there are no ids.
    """
    single = False
    if isinstance(encoded, Mapping):
        ids = encoded.get("input_ids", ())
        single = (
            not len(ids) or not hasattr(ids[0], "__len__") or not getattr(ids[0], "shape", (1,))
        )
        rows = zip(*encoded.values(), strict=True) if not single else ()
        encoded = [encoded] if single else [dict(zip(encoded, row, strict=True)) for row in rows]
    rows = [{k: x.tolist() if hasattr(x, "tolist") else x for k, x in e.items()} for e in encoded]
    for row in rows:
        if "input_ids" not in row:
            raise ValueError(f"no input_ids to pad; there are: {', '.join(row)}")
        if with_mask:
            row.setdefault("attention_mask", [1] * len(row["input_ids"]))
    return rows, single


def pad_row(row: Row, length: int, pad_id: int, side: str) -> Row:
    """Pad every column that we know to `length`; a longer row stays as it is."""
    missing, padded = length - len(row["input_ids"]), dict(row)
    for name, value in (PADS | {"input_ids": pad_id}).items():
        if name in row:
            pads = [value] * missing
            padded[name] = [*row[name], *pads] if side == "right" else [*pads, *row[name]]
    return padded


def kind_of(encoded) -> str | None:
    """Say what the ids of a batch, or of the first encoding, are: "pt", "np" or None, lists."""
    first = encoded if isinstance(encoded, Mapping) else next(iter(encoded), {})
    ids = first.get("input_ids")
    return "pt" if hasattr(ids, "numpy") else "np" if isinstance(ids, np.ndarray) else None


# -- what a caller passes


class Request(NamedTuple):
    """What a call asks for: texts, second texts, and how to encode them."""

    texts: list
    pairs: list | None
    is_split: bool  # texts are lists of words
    special: bool  # add the special tokens of a post-processor
    limit: int  # tokens
    truncation: str  # one of TRUNCATIONS
    stride: int


def is_text(value, is_split: bool) -> bool:
    """Say whether `value` is one text: a string, or, if `is_split`, a list of words."""
    if is_split:
        return isinstance(value, list | tuple) and all(isinstance(word, str) for word in value)
    return isinstance(value, str)


def is_pair(value, is_split: bool) -> bool:
    is_two = isinstance(value, list | tuple) and len(value) == 2 and not is_text(value, is_split)
    return is_two and all(is_text(text, is_split) for text in value)


def to_texts(texts, pairs, is_split: bool) -> tuple[list, list | None]:
    """Turn what callers pass into a list of texts and a list of second texts (or None).

    Raises TypeError, naming the value, for what is no text, ValueError for lists of two lengths.
    """
    if is_text(texts, is_split):
        texts, pairs = [texts], None if pairs is None else [pairs]
    for value in (texts, () if pairs is None else pairs):
        if not isinstance(value, list | tuple):
            raise TypeError(f"cannot encode {value!r:.80}; pass a string or a list of strings")
    if pairs is None and texts and all(is_pair(value, is_split) for value in texts):
        texts, pairs = zip(*texts, strict=True)
    if pairs is not None and len(texts) != len(pairs):
        raise ValueError(f"{len(texts)} texts, but {len(pairs)} second texts; pass one for each")
    for value in (*texts, *(pairs or ())):
        if not is_text(value, is_split):
            wanted = "a list of words" if is_split else "a string"
            raise TypeError(f"cannot encode {value!r:.80}; pass {wanted} for each text")
    clean = replace_surrogates
    rows = [
        [[*map(clean, x)] if is_split else clean(x) for x in row] for row in (texts, pairs or ())
    ]
    return rows[0], None if pairs is None else rows[1]


def pick(name: str, value, choices: tuple[str, ...]) -> str:
    """Return the choice meant: True is the first, False and None the last, else one by name."""
    return choose(name, choices[0] if value is True else value or choices[-1], choices)


def lengths_to_keep(first: int, second: int, limit: int, strategy: str) -> tuple[int, int]:
    """Say how many tokens of two texts to keep, `limit` in all.

    Raises ValueError if the text that should be shortened alone would have nothing left.
    """
    surplus = first + second - limit
    if surplus <= 0 or strategy == "do_not_truncate":
        return first, second
    if strategy == "longest_first":
        shorter = min(first, second, limit // 2)
        return (limit - shorter, shorter) if first > second else (shorter, limit - shorter)
    keep = (first - surplus, second) if strategy == "only_first" else (first, second - surplus)
    if keep[strategy == "only_second"] < 1:
        raise ValueError(
            f"truncation={strategy!r} cannot shorten {first} and {second} tokens to {limit}; "
            "choose 'longest_first' or a larger max_length"
        )
    return keep
