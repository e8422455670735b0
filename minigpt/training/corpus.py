"""Folders of books and data sets: read piece by piece, in several processes, for a vocabulary."""

import codecs
import gzip
import json
import lzma
import os
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, process
from io import BufferedIOBase
from multiprocessing import parent_process
from pathlib import Path
from threading import Thread
from typing import NamedTuple

from tqdm import tqdm

from minigpt import OpenAIGPTTokenizer
from minigpt.bpe import build_vocabulary, drop_rare_characters, learn_merges, order_characters
from minigpt.hf.files import naming
from minigpt.hf.tokenization import LONG_CHUNK
from minigpt.tokenizer import load_libraries, split_chunk, split_chunks

from .logs import need

PIECE = 2**18  # characters, at least: what a process gets at a time
LONGEST = 2**20  # bytes: a longer line of a text file may be cut
OPENERS = {".gz": gzip.open, ".xz": lzma.open}
SUFFIXES = (".txt", ".jsonl", *OPENERS)
ENOUGH, SHARE = 100, 100_000  # a character must occur 100 times, or once in 100,000 characters

Source = str | Path | Iterable[dict]  # a folder, a file, or a data set: rows with a "text"


class Part(NamedTuple):
    """A document, or a part of it that ends where a line ends."""

    text: str
    ends: bool  # the document ends here
    size: int  # what was read for it: bytes of a file, rows of a data set


def name_of(source: Source) -> str:
    return str(source) if isinstance(source, str | Path) else f"this {type(source).__name__}"


def text_files(source: str | Path) -> list[Path]:
    """List the text files below a folder, sorted, or the one that is named.

    Raises FileNotFoundError if there is none.
    """
    found = [Path(source)] if Path(source).is_file() else sorted(Path(source).rglob("*"))
    texts = [x for x in found if x.suffix.lower() in SUFFIXES and ".tar" not in x.suffixes]
    if not texts:
        kinds = ", ".join(SUFFIXES)
        raise FileNotFoundError(f"{source}: no {kinds} file here or below (unpack archives)")
    return texts


def text_of(row: dict | str, place: str) -> str:
    """Return the text of a row, or of its JSON. Raises ValueError, naming its place, for others."""
    with naming(place):
        row = json.loads(row) if isinstance(row, str) else row
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise ValueError(f'expected an object with a string under "text", got {row!r:.80}')
        # JSON may hold halves of UTF-16 pairs, which UTF-8 cannot encode
        return row["text"].encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def read_text(path: Path, read: Callable = BufferedIOBase.readline) -> Iterator[tuple]:
    """Decode as UTF-8 what `read` takes from a file, perhaps compressed, again and again.

    Yields the number of its first line, the text, and the bytes that were read; "" at the end.
    Raises ValueError, naming file and line, for a damaged file.
    """
    decoder, line, done, data = codecs.getincrementaldecoder("utf-8-sig")(), 1, 0, None
    with path.open("rb") as raw:
        file = OPENERS.get(path.suffix.lower(), lambda file: file)(raw)
        while data != b"":
            with naming(f"{path}, line {line}"):
                data = read(file)
            try:
                text = decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                line += error.object.count(b"\n", 0, error.start)
                raise ValueError(f"{path}, line {line}: {error}; convert it to UTF-8") from error
            yield line, text, raw.tell() - done
            done = raw.tell()
            line += data.count(b"\n")


def read_some_lines(file: BufferedIOBase) -> bytes:
    return file.read(PIECE) + file.readline(LONGEST)


def read_file(path: Path) -> Iterator[Part]:
    """Read a text file part by part, or a .jsonl file with a document a line."""
    if ".jsonl" not in path.name.lower():
        return (Part(text, not text, size) for _, text, size in read_text(path, read_some_lines))
    lines = (found for found in read_text(path) if found[1].strip())
    return (Part(text_of(text, f"{path}, line {n}"), True, size) for n, text, size in lines)


def documents(source: Source) -> Iterator[Part]:
    """Read all documents in order, those of text files in parts.

    Raises FileNotFoundError where there are none, ValueError, naming the place, for damaged ones.
    """
    if isinstance(source, str | Path):
        for path in text_files(source):
            yield from read_file(path)
    else:
        for number, row in enumerate(source, 1):
            yield Part(text_of(row, f"{name_of(source)}, row {number}"), True, 1)


def read_pieces(source: Source) -> Iterator[list[Part]]:
    """Group documents into pieces worth a process's time. Raises ValueError if all are blank."""
    piece, length, has_text = [], 0, False
    for part in documents(source):
        piece.append(part)
        length += len(part.text)
        has_text = has_text or not (part.text or " ").isspace()
        if length >= PIECE:
            yield piece
            piece, length = [], 0
    if not has_text:
        raise ValueError(f"{name_of(source)} holds no text; pass one that does")
    if piece:
        yield piece


# -- several processes


def start_worker(function: Callable) -> None:
    """Remember what a process has to do; leave Ctrl-C to its parent, and end when that ends."""
    start_worker.function = function
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are parallel
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=lambda: (parent_process().join(), os._exit(1)), daemon=True).start()


def work(item):
    return start_worker.function(item)


def in_order(function: Callable, items: Iterable, workers: int) -> Iterator[tuple]:
    """Apply `function` to items in several processes; yield (item, result) in order.

    Few items are read ahead. Raises ChildProcessError if a process was killed.
    """
    if workers == 1:
        yield from ((item, function(item)) for item in items)
        return
    waiting = deque()
    try:
        with ProcessPoolExecutor(workers, None, start_worker, (function,)) as pool:
            for item in items:
                waiting.append((item, pool.submit(work, item)))
                if len(waiting) > 2 * workers:
                    item, future = waiting.popleft()
                    yield item, future.result()
            yield from ((item, future.result()) for item, future in waiting)
    except process.BrokenProcessPool as error:
        what = f"one of {workers} processes was killed, perhaps for lack of memory"
        raise ChildProcessError(f"{what}; use fewer workers") from error


def for_each_piece(
    function: Callable, source: Source, workers: int, what: str, progress: bool
) -> Iterator:
    """Apply `function` to each piece of a corpus, behind a bar; yield the results in order."""
    total, unit = getattr(source, "num_rows", None), " rows"
    if isinstance(source, str | Path):
        total, unit = sum(path.stat().st_size for path in text_files(source)), "B"
    with tqdm(desc=what, total=total, unit=unit, unit_scale=True, disable=not progress) as bar:
        for piece, result in in_order(function, read_pieces(source), workers):
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


def learn_vocabulary(
    source: Source, vocab_size: int, workers: int = 1, progress: bool = False
) -> OpenAIGPTTokenizer:
    """Learn a vocabulary of at most `vocab_size` tokens from the words of a corpus.

    Rare characters are left out: see `ENOUGH`. Raises ImportError without ftfy and spaCy,
    ValueError if the characters alone need more room than there is, and the errors of `documents`.
    """
    for package in ("ftfy", "spacy"):
        need(package, "learning a vocabulary", "original")
    load_libraries()  # once, for all processes
    counts = Counter()
    for found in for_each_piece(count_words, source, workers, "count words", progress):
        counts.update(found)
    total = sum(len(word) * count for word, count in counts.items())
    words = drop_rare_characters(counts, min(ENOUGH, total // SHARE))
    characters = order_characters(words)
    least = 2 * len(characters) + 2  # each inside a word and at its end; two special tokens
    if vocab_size < least:
        raise ValueError(f"vocab_size={vocab_size}, but {len(characters)} characters need {least}")
    merges = learn_merges(words, vocab_size - least, progress)
    return OpenAIGPTTokenizer(build_vocabulary(characters, merges), merges, "original")
