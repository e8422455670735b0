"""Folders of books and data sets: read piece by piece, in several processes, for a vocabulary."""

import codecs
import gzip
import json
import lzma
import os
import signal
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import parent_process
from pathlib import Path
from threading import Thread
from typing import NamedTuple

from tqdm import tqdm

from minigpt import OpenAIGPTTokenizer
from minigpt.bpe import build_vocabulary, drop_rare_characters, learn_merges, order_characters
from minigpt.hf.batch_encoding import clean
from minigpt.hf.tokenization import LONG_CHUNK
from minigpt.tokenizer import load_libraries, split_chunk, split_chunks

PIECE = 2**18  # characters, at least: what a process gets at a time
LONGEST = 2**20  # bytes: a longer line is cut
OPENERS = {".gz": gzip.open, ".xz": lzma.open}
SUFFIXES = (".txt", ".jsonl", *OPENERS)
BROKEN = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)
MIN_COUNT = 100  # characters that occur so often are always part of the vocabulary
RARE = 1 / 1000  # of the text: what all characters outside the vocabulary make up at most

Source = str | Path | Iterable[dict]  # a folder, a file, or a data set: rows with a "text"


class Part(NamedTuple):
    """A document, or a part of it that ends where a line ends."""

    text: str
    ends: bool  # the document ends here
    size: int  # what was read for it: bytes of a file, rows of a data set


def name_of(source: Source) -> str:
    return str(source) if isinstance(source, str | Path) else f"this {type(source).__name__}"


def text_files(source: str | Path) -> list[Path]:
    """List the files below a folder, sorted, or the one file that is named.

    Raises FileNotFoundError if there is none, ValueError for an archive.
    """
    folder = Path(source)
    found = [x for x in folder.rglob("*") if x.suffix.lower() in SUFFIXES and x.is_file()]
    paths = [folder] if folder.is_file() else sorted(found)
    if not paths:
        what = (
            f"no {', '.join(SUFFIXES)} file below {folder}" if folder.is_dir() else f"no {folder}"
        )
        raise FileNotFoundError(f"{what}; pass a folder of text files, or one such file")
    if archives := [path for path in paths if ".tar" in path.suffixes]:
        raise ValueError(f"{archives[0]} is an archive; unpack it")
    return paths


def text_of(row: dict, place: str) -> str:
    """Return the text of a row. Raises ValueError, naming its place, if it has none."""
    try:
        return clean(row["text"])
    except (KeyError, TypeError) as error:
        wanted = 'an object with a string under "text"'
        raise ValueError(f"{place}: expected {wanted}, got {row!r:.80}") from error


def read_file(path: Path) -> Iterator[Part]:
    """Read a text file piece by piece, or a .jsonl file with a document a line; UTF-8.

    Raises ValueError, naming file and line, for a damaged file.
    """
    is_jsonl = ".jsonl" in path.suffixes
    decoder, line, done, data = codecs.getincrementaldecoder("utf-8-sig")(), 1, 0, None
    with path.open("rb") as raw:
        file = OPENERS.get(path.suffix.lower(), lambda file: file)(raw)
        try:
            while data != b"":
                data = file.readline() if is_jsonl else file.read(PIECE) + file.readline(LONGEST)
                text = decoder.decode(data, final=not data)
                size, done = raw.tell() - done, raw.tell()
                if not is_jsonl:
                    yield Part(text, not data, size)
                elif text.strip():
                    yield Part(text_of(json.loads(text), f"{path}, line {line}"), True, size)
                line += data.count(b"\n")
        except UnicodeDecodeError as error:
            line += error.object.count(b"\n", 0, error.start)
            byte = f"the byte {error.object[error.start]:#x} is not UTF-8"
            raise ValueError(f"{path}, line {line}: {byte}; convert the file to UTF-8") from error
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {line}: no JSON ({error}); mend the line") from error
        except BROKEN as error:
            raise ValueError(f"{path}, from line {line} on: {error}; copy it again") from error


def documents(source: Source) -> Iterator[Part]:
    """Read all documents, long ones in parts, and nothing twice.

    Raises FileNotFoundError or ValueError, naming file and line, for what cannot be read.
    """
    if isinstance(source, str | Path):
        for path in text_files(source):
            yield from read_file(path)
    else:
        for number, row in enumerate(source, 1):
            yield Part(text_of(row, f"{name_of(source)}, row {number}"), True, 1)


def pieces(source: Source) -> Iterator[list[Part]]:
    """Group documents into pieces worth a process's time. Raises ValueError if all are blank."""
    piece, length, has_text = [], 0, False
    for part in documents(source):
        piece.append(part)
        length += len(part.text)
        has_text = has_text or bool(part.text.strip())
        if length >= PIECE:
            yield piece
            piece, length = [], 0
    if not has_text:
        raise ValueError(f"{name_of(source)} holds no text; pass one that does")
    yield piece


# -- several processes


def start_worker(function: Callable) -> None:
    """Remember what to do; leave Ctrl-C to the parent process, and end with it."""
    start_worker.function = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end = lambda: (parent_process().join(), os._exit(1))  # noqa: E731
    Thread(target=end, daemon=True).start()


def work(piece: list[Part]):
    return start_worker.function(piece)


def in_order(function: Callable, items: Iterable, workers: int) -> Iterator:
    """Apply `function` to the items in several processes; yield (item, result) in order.

    Few items are read ahead. Raises ChildProcessError if a process is killed.
    """
    if workers == 1:
        yield from ((item, function(item)) for item in items)
        return
    pool = ProcessPoolExecutor(workers, initializer=start_worker, initargs=(function,))
    waiting = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) > 2 * workers:
                item, future = waiting.popleft()
                yield item, future.result()
        for item, future in waiting:
            yield item, future.result()
    except BrokenProcessPool as error:
        what = f"one of {workers} processes was killed, perhaps for lack of memory"
        raise ChildProcessError(f"{what}; use fewer workers") from error
    finally:
        pool.shutdown(cancel_futures=True)


def for_each_piece(
    function: Callable, source: Source, workers: int, what: str, progress: bool
) -> Iterator:
    """Apply `function` to all pieces of a corpus, behind a bar; yield the results in order."""
    if isinstance(source, str | Path):
        total, unit = sum(path.stat().st_size for path in text_files(source)), "B"
    else:
        total, unit = len(source) if hasattr(source, "__len__") else None, " rows"
    with tqdm(desc=what, total=total, unit=unit, unit_scale=True, disable=not progress) as bar:
        for piece, result in in_order(function, pieces(source), workers):
            yield result
            bar.update(sum(part.size for part in piece))


# -- a vocabulary


def count_words(piece: list[Part]) -> Counter:
    """Count the words, as the original text pipeline splits them."""
    lines = (line for part in piece for line in part.text.split("\n"))
    chunks, words = Counter(chunk for line in lines for chunk in split_chunks(line)), Counter()
    for chunk, count in chunks.items():
        for word in split_chunk(chunk) if len(chunk) <= LONG_CHUNK else ():
            words[word] += count
    return words


def least_count(word_counts: Counter) -> int:
    """Choose how often a character must occur to be in the vocabulary: `MIN_COUNT` times.

    Less often in a small text: see `RARE`.
    """
    counts = Counter()
    for word, count in word_counts.items():
        for character in word:
            counts[character] += count
    total, left_out = counts.total(), 0
    for count in sorted(counts.values()):
        left_out += count
        if left_out > RARE * total:
            return min(count, MIN_COUNT)
    return 1


def learn_vocabulary(
    source: Source, vocab_size: int, workers: int = 1, progress: bool = False
) -> OpenAIGPTTokenizer:
    """Learn a vocabulary of at most `vocab_size` tokens from the words of a corpus.

    Raises ImportError without ftfy and spaCy, ValueError if the characters alone need more room
    than there is, and the errors of `documents`.
    """
    OpenAIGPTTokenizer.choose_pipeline("original")  # raises ImportError early
    load_libraries()  # once, for all processes
    counts = Counter()
    for found in for_each_piece(count_words, source, workers, "count words", progress):
        counts.update(found)
    words = drop_rare_characters(counts, least_count(counts))
    characters = order_characters(words)
    least = 2 * len(characters) + 2  # each inside a word and at its end; two special tokens
    if vocab_size < least:
        what = f"vocab_size={vocab_size}, but the {len(characters)} characters of {name_of(source)}"
        raise ValueError(f"{what} need {least} at least")
    merges = learn_merges(words, vocab_size - least, progress)
    return OpenAIGPTTokenizer(build_vocabulary(characters, merges), merges, "original")
