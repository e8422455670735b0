"""A corpus as token ids on disk: memory-mapped shards, made once for a corpus and a tokenizer."""

import hashlib
import json
import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np

from minigpt.bpe import NEWLINE
from minigpt.hf.files import json_writer, read_json, save_files, unfinished_folder, writing
from minigpt.hf.tokenizer_base import TokenizerBase

from .checkpoints import check_seal, seal
from .corpus import Part, Source, for_each_piece, name_of

SHARD = 2**28  # tokens; the last shard may have fewer
INDEX_NAME, SHARD_NAME = "index.json", "shard-{:05}.bin"
ONLY_IDS = {"add_special_tokens": False, "return_attention_mask": False}


class Shards:
    """One long text of ids, (N,), that stays on disk.

    `words`: its whitespace-separated words; `unknown`: how many ids are that of the unknown token.
    The name of its `folder` tells the text and its tokenizer.
    """

    def __init__(self, folder: str | Path):
        """Open what `prepare_shards` made and has checked."""
        self.folder, index = Path(folder), read_json(Path(folder) / INDEX_NAME)
        self.words, self.unknown = index["words"], index["unknown"]
        self.vocabulary, paths = index["vocabulary"], sorted(self.folder.glob("shard-*.bin"))
        self.parts = [np.asarray(np.memmap(path, index["dtype"], "r")) for path in paths]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, positions) -> np.ndarray:
        """Return the ids at positions, an array of any shape or a slice: int64, the same shape.

        Raises IndexError for a position that does not exist.
        """
        if isinstance(positions, slice):
            positions = np.arange(*positions.indices(len(self)))
        positions = np.asarray(positions)
        low, high = positions.min(initial=0), positions.max(initial=0)
        if low < 0 or high >= len(self):
            raise IndexError(f"positions {low} to {high}, but the text has {len(self)} tokens")
        ids, shard = np.empty(positions.shape, np.int64), len(self.parts[0])
        for number in range(high // shard + 1):
            here = positions // shard == number
            ids[here] = self.parts[number][positions[here] - number * shard]
        return ids


def encode_piece(tokenizer: TokenizerBase, piece: list[Part]) -> tuple[np.ndarray, int, int]:
    """Encode a piece of a corpus; return its ids, (N,), its words, its unknown tokens.

    A line-break token stands at the end of each document. In the original pipeline it stands at the
    end of each line that is not blank, so it does not matter where a document was cut.
    """
    newline, ids = tokenizer.convert_tokens_to_ids(NEWLINE), []
    keeps_lines = tokenizer.text_pipeline == "original"
    for part in piece:
        for line in tokenizer(part.text.split("\n"), **ONLY_IDS)["input_ids"]:
            ids += [*line, newline] if line and keeps_lines else line
        if part.ends and not keeps_lines:
            ids.append(newline)
    ids = np.array(ids, np.uint16 if len(tokenizer) <= 2**16 else np.uint32)
    words = sum(len(part.text.split()) for part in piece)
    return ids, words, np.count_nonzero(ids == tokenizer.unk_token_id)


def write_shards(folder: Path, encoded: Iterable[tuple[np.ndarray, int, int]]) -> dict:
    """Write what `encode_piece` returned into files of `SHARD` ids each; return the index."""
    index = {"tokens": 0, "words": 0, "unknown": 0}
    for ids, words, unknown in encoded:
        index["words"] += words
        index["unknown"] += unknown
        index["dtype"] = ids.dtype.name
        while len(ids):
            number, used = divmod(index["tokens"], SHARD)
            now, ids = np.split(ids, [SHARD - used])
            path = folder / SHARD_NAME.format(number)
            with writing(path), path.open("ab") as file:
                file.write(now.tobytes())
            index["tokens"] += len(now)
    return index


def vocabulary_of(tokenizer: TokenizerBase) -> str:
    """Return a hash of what each id means."""
    return hashlib.sha256(json.dumps(sorted(tokenizer.vocab.items())).encode()).hexdigest()[:16]


def fingerprint(source: Source, tokenizer: TokenizerBase, progress: bool) -> str:
    """Return a hash of all that ids depend on: text and tokenizer."""
    added = sorted(tokenizer.added_tokens_encoder.items())
    kind = type(tokenizer).__name__, tokenizer.text_pipeline, tokenizer.unk_token, added
    whole = hashlib.sha256(json.dumps([kind, tokenizer.vocab, tokenizer.merges]).encode())
    for piece in for_each_piece(list, source, 1, f"look through {name_of(source)}", progress):
        for part in piece:
            whole.update(part.text.encode() + b"\0" * part.ends)
    return whole.hexdigest()[:16]


def is_prepared(source: Source) -> bool:
    """Say whether a source is a folder of shards."""
    return isinstance(source, str | Path) and (Path(source) / INDEX_NAME).is_file()


def prepare_shards(
    source: Source, tokenizer: TokenizerBase, folder: str | Path, workers: int = 1, progress=False
) -> Shards:
    """Open the ids of a corpus in `folder`, or make them if they are missing or damaged.

    They have a folder of their own, named after a hash of text and tokenizer, which is there only
    when all is written. Such a folder is a source, too. Raises ValueError if most tokens would be
    unknown, and the errors of `documents`.
    """
    if is_prepared(source):  # perhaps on another machine
        check_seal(Path(source))
        if (found := Shards(source)).vocabulary != vocabulary_of(tokenizer):
            raise ValueError(f"{source} has ids of another vocabulary; pass the tokenizer of these")
        return found
    place = Path(folder) / fingerprint(source, tokenizer, progress)
    try:
        check_seal(place)
        return Shards(place)
    except (FileNotFoundError, ValueError):
        tokenizer("")  # loads what it needs once, for all processes
    encode, what = partial(encode_piece, tokenizer), f"tokenize {name_of(source)}"
    with unfinished_folder(folder) as waiting:
        index = write_shards(waiting, for_each_piece(encode, source, workers, what, progress))
        if (unknown := index["unknown"] / index["tokens"]) > 0.5:
            share = f"{unknown:.0%} of the tokens of {name_of(source)} would be"
            raise ValueError(f"{share} {tokenizer.unk_token}; pass a tokenizer for such texts")
        index["vocabulary"] = vocabulary_of(tokenizer)
        save_files(waiting, {INDEX_NAME: json_writer(index)})
        seal(waiting)
        shutil.rmtree(place, ignore_errors=True)  # a damaged one
        waiting.replace(place)
    return Shards(place)
