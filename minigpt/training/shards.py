"""A corpus as token ids on disk: memory-mapped shards, made once for a corpus and a tokenizer."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from minigpt.bpe import NEWLINE
from minigpt.hf.files import json_text, naming, read_json, unfinished_folder
from minigpt.hf.tokenizer_base import TokenizerBase

from .corpus import Part, Source, documents, for_each_piece, name_of, text_files

SHARD = 2**28  # tokens of all shards but the last
INDEX, NAME = "index.json", "shard-{:05}.bin"


class Shards:
    """One long text of ids, (N,), that stays on disk.

    `words`: its whitespace-separated words; `unknown`: how many ids are that of the unknown token.
    The name of its `folder` tells the text and its tokenizer.
    """

    def __init__(self, folder: str | Path):
        """Open what `prepare_shards` wrote. Raises ValueError, naming it, for a damaged file."""
        self.folder = folder = Path(folder)
        index = read_json(folder / INDEX)
        with naming(folder / INDEX):
            self.words, self.unknown, self.shard = map(index.get, ("words", "unknown", "shard"))
            lengths, dtype = index["lengths"], np.dtype(index["dtype"])
        self.length, self.parts = sum(lengths), []
        for number, length in enumerate(lengths):
            path = folder / NAME.format(number)
            if (size := path.stat().st_size) != length * dtype.itemsize:
                due = f"{length * dtype.itemsize} bytes are due"
                raise ValueError(f"{path} has {size} bytes, {due}; remove the folder")
            self.parts.append(np.asarray(np.memmap(path, dtype, "r")))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, positions) -> np.ndarray:
        """Look up the ids at positions of any shape, or those of a slice: int64.

        Raises IndexError for a position that does not exist.
        """
        if isinstance(positions, slice):
            positions = np.arange(*positions.indices(len(self)))
        positions = np.asarray(positions)
        if not positions.size:
            return np.zeros(positions.shape, np.int64)
        low, high = positions.min(), positions.max()
        if low < 0 or high >= len(self):
            raise IndexError(f"positions {low} to {high}, but the text has {len(self)} tokens")
        if low // self.shard == high // self.shard:
            return self.parts[low // self.shard][positions % self.shard].astype(np.int64)
        ids, numbers = np.empty(positions.shape, np.int64), positions // self.shard
        for number in range(low // self.shard, high // self.shard + 1):
            here = numbers == number
            ids[here] = self.parts[number][positions[here] - number * self.shard]
        return ids


def encode_piece(tokenizer: TokenizerBase, piece: list[Part]) -> tuple[np.ndarray, int, int]:
    """Encode a piece of a corpus; return its ids (N,), its words, its unknown tokens.

    The line-break token stands behind each document. In the original pipeline it stands behind each
    line that is not blank, so that it does not matter where a document was cut.
    """
    newline = tokenizer.convert_tokens_to_ids(NEWLINE)
    has_lines, ids = tokenizer.text_pipeline == "original", []
    for part in piece:
        for line in tokenizer.quick_ids(part.text.split("\n")):
            ids += line
            if line and has_lines:
                ids.append(newline)
        if part.ends and not has_lines:
            ids.append(newline)
    dtype = np.uint16 if len(tokenizer) <= 2**16 else np.uint32
    ids = np.array(ids, dtype)
    unknown = np.count_nonzero(ids == tokenizer.unk_token_id)
    return ids, sum(len(part.text.split()) for part in piece), unknown


def write_shards(folder: Path, arrays: Iterable[np.ndarray]) -> list[int]:
    """Write arrays, one behind the other, into files of `SHARD` ids; return the files' lengths."""
    lengths = [0]
    for ids in arrays:
        while len(ids):
            if lengths[-1] == SHARD:
                lengths.append(0)
            now, ids = np.split(ids, [SHARD - lengths[-1]])
            with (folder / NAME.format(len(lengths) - 1)).open("ab") as file:
                file.write(now.tobytes())
            lengths[-1] += len(now)
    return lengths


def fingerprint(source: Source, tokenizer: TokenizerBase) -> str:
    """Return a hash of all that ids depend on: the corpus and the tokenizer."""
    added = sorted(tokenizer.added_tokens_encoder.items())
    what = type(tokenizer).__name__, tokenizer.text_pipeline, tokenizer.unk_token, added
    whole = hashlib.sha256(json.dumps([what, tokenizer.vocab, tokenizer.merges]).encode())
    if isinstance(source, str | Path):
        for path in text_files(source):
            with path.open("rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())
            whole.update(str(path.relative_to(source)).encode())
    else:
        for part in documents(source):
            whole.update(hashlib.sha256(part.text.encode()).digest())
    return whole.hexdigest()[:16]


def prepare_shards(
    source: Source,
    tokenizer: TokenizerBase,
    folder: str | Path,
    workers: int = 1,
    progress: bool = False,
) -> Shards:
    """Open the ids of a corpus in `folder`; make them if they are missing or damaged.

    They are in a folder of their own, named after a hash of corpus and tokenizer. Raises ValueError
    if most of the text would be unknown tokens, and the errors of `documents`.
    """
    place = Path(folder) / fingerprint(source, tokenizer)
    try:
        return Shards(place)
    except (FileNotFoundError, ValueError):
        make_shards(source, tokenizer, place, workers, progress)
    return Shards(place)


def make_shards(
    source: Source, tokenizer: TokenizerBase, place: Path, workers: int, progress: bool
) -> None:
    """Tokenize a corpus into a folder that is there only when it is whole."""
    tokenizer.quick_ids([""])  # loads what it needs once, for all processes
    encode = partial(encode_piece, tokenizer)
    results = for_each_piece(encode, source, workers, f"tokenize {name_of(source)}", progress)
    totals, dtype = np.zeros(2, np.int64), None

    def arrays() -> Iterator[np.ndarray]:
        nonlocal totals, dtype
        for ids, *counts in results:
            totals, dtype = totals + counts, ids.dtype
            yield ids

    with unfinished_folder(place.parent) as waiting:
        lengths = write_shards(waiting, arrays())
        words, unknown = totals.tolist()
        if unknown > sum(lengths) / 2:
            share = f"{unknown / sum(lengths):.0%} of the tokens of {name_of(source)} are unknown"
            raise ValueError(f"{share}; pass a tokenizer that was learned from such a text")
        index = {"words": words, "unknown": unknown, "shard": SHARD}
        index |= {"lengths": lengths, "dtype": dtype.name}
        (waiting / INDEX).write_text(json_text(index), encoding="utf-8")
        shutil.rmtree(place, ignore_errors=True)  # a damaged one
        os.replace(waiting, place)
