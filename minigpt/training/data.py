"""Folders of books to a vocabulary and two long texts of ids, in several processes."""

import codecs
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from minigpt import OpenAIGPTTokenizer
from minigpt.bpe import (
    NEWLINE,
    build_vocabulary,
    drop_rare_characters,
    learn_merges,
    order_characters,
)
from minigpt.hf.files import make_folder
from minigpt.tokenizer import split_words


def for_each_book(
    function: Callable, folder: str | Path, workers: int = 1, progress: bool = False
) -> Iterator:
    """Apply `function` to the path of every .txt file below `folder`; yield the results in order.

    `workers` is the number of processes. Raises FileNotFoundError if there is no such file.
    """
    paths = sorted(Path(folder).rglob("*.txt"))
    if not paths:
        raise FileNotFoundError(
            f"no .txt file below {folder}; pass a folder with a text file a book"
        )
    bar = partial(tqdm, total=len(paths), desc=f"read {folder}", unit="book", disable=not progress)
    if workers == 1:
        yield from bar(map(function, paths))
    else:
        ignoring = (signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for this process, which ends them
        with Pool(workers, signal.signal, ignoring) as pool:
            yield from bar(pool.imap(function, paths))


def read_book(path: Path) -> str:
    """Read a UTF-8 file as it stands, line ends and all, but for a byte order mark at its start.

    Raises ValueError, naming the file and the line, for bytes that are not UTF-8.
    """
    data = path.read_bytes().removeprefix(codecs.BOM_UTF8)  # some editors put it there
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line}: the byte {data[error.start]:#x} is not UTF-8; copy it again"
        ) from error


def count_words(path: Path) -> Counter:
    """Count the words of one book, as the original text pipeline splits them."""
    return Counter(split_words(read_book(path)))


def learn_vocabulary(
    word_counts: Counter, vocab_size: int, min_count: int = 100
) -> OpenAIGPTTokenizer:
    """Learn a vocabulary of at most `vocab_size` tokens.

    Characters rarer than `min_count` become `<unk>`. Raises ValueError if the characters alone need
    more room than there is.
    """
    words = drop_rare_characters(word_counts, min_count)
    characters = order_characters(words)
    least = 2 * len(characters) + 2  # each inside a word and at its end; two special tokens
    if vocab_size < least:
        raise ValueError(
            f"vocab_size={vocab_size}, but {len(characters)} letters need {least} at least"
        )
    merges = learn_merges(words, vocab_size - least)
    return OpenAIGPTTokenizer(build_vocabulary(characters, merges), merges, "original")


def encode_book(tokenizer: OpenAIGPTTokenizer, path: Path) -> np.ndarray:
    """Encode one book, with a line break at its end: (tokens,) uint16."""
    ids = tokenizer.encode(read_book(path))
    return np.array([*ids, tokenizer.vocab[NEWLINE]], dtype=np.uint16)


def prepare(
    books: Path,
    held_out: Path,
    out: Path,
    vocab_size: int = 8192,
    workers: int = 1,
    progress: bool = False,
) -> tuple[OpenAIGPTTokenizer, Tensor, Tensor]:
    """Turn two folders of books into a tokenizer and two long texts, each (N,) int32.

    Returns the text to train with and the one held out. All is kept in `out`: the tokenizer's
    files, `train.npy`, `val.npy`; what is there is not made again. Raises OSError where there can
    be no such folder.
    """
    OpenAIGPTTokenizer.choose_pipeline("original")  # raises ImportError early
    make_folder(out)
    if not (out / "merges.txt").is_file():
        for stale in ("train.npy", "val.npy"):  # ids of another vocabulary
            (out / stale).unlink(missing_ok=True)
        counts = sum(for_each_book(count_words, books, workers, progress), Counter())
        learn_vocabulary(counts, vocab_size).save_pretrained(out)
    tokenizer = OpenAIGPTTokenizer.from_pretrained(out, "original")
    texts = []
    for name, folder in (("train.npy", books), ("val.npy", held_out)):
        if not (out / name).is_file():
            encode = partial(encode_book, tokenizer)
            ids = np.concatenate(list(for_each_book(encode, folder, workers, progress)))
            np.save(out / "unfinished.npy", ids)
            (out / "unfinished.npy").replace(out / name)  # a killed run leaves no half text
        texts.append(torch.from_numpy(np.load(out / name)).int())
    return tokenizer, *texts
