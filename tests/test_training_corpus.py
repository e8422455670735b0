"""Reading folders of books and data sets: which text comes out, and what is refused by name."""

import gzip
import json
import lzma
import multiprocessing
import os
import signal
import sys
import time
import tracemalloc
from collections import Counter

import psutil
import pytest

from minigpt.tokenizer import split_words
from minigpt.training import corpus
from minigpt.training.corpus import documents, for_each_piece, learn_vocabulary, text_files

STORY = "The miller sleeps.\r\n\r\nThe fish — eat!\n" * 3 + "The end"
PACK = {".gz": gzip.compress, ".xz": lzma.compress}


def put(path, text: str | bytes):
    """Write a file, in the way that its name promises."""
    data = text.encode() if isinstance(text, str) else text
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(PACK.get(path.suffix, bytes)(data))
    return path


def as_jsonl(*texts: str) -> str:
    return "\n\n".join(json.dumps({"title": "A story", "text": text}) for text in texts)


def read(source) -> list[str]:
    """Return the whole documents of a corpus."""
    found = [""]
    for part in documents(source):
        found[-1] += part.text
        found += [""] * part.ends
    assert found.pop() == ""
    return found


# -- reading


@pytest.mark.parametrize("piece", [1, 10, 2**18])
@pytest.mark.parametrize("name", "a.txt a.TXT a.gz a.xz a.txt.gz a.txt.xz".split())
def test_a_text_file_comes_out_as_it_stands(name, piece, tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "PIECE", piece)
    path = put(tmp_path / name, STORY)
    assert read(tmp_path) == read(path) == read(str(path)) == [STORY]
    parts = [part.text for part in documents(path)]
    assert all(text.endswith("\n") for text in parts[:-2])  # cut where lines end
    assert piece > 10 or len(parts) >= 7


@pytest.mark.parametrize("name", "a.jsonl a.jsonl.gz a.jsonl.xz".split())
def test_each_line_of_jsonl_is_a_document(name, tmp_path):
    put(tmp_path / name, as_jsonl("one", STORY, "three", "half a pair \ud83d"))
    assert read(tmp_path) == ["one", STORY, "three", "half a pair \ufffd"]


def test_all_files_below_a_folder_are_read_in_order(tmp_path):
    put(tmp_path / "b.txt", "b")
    put(tmp_path / "a" / "z.jsonl", as_jsonl("a", "z"))
    put(tmp_path / "c.xz", b"\xef\xbb\xbfc")  # a byte order mark is no text
    put(tmp_path / "README.md", "no book")
    assert read(tmp_path) == ["a", "z", "b", "c"]


def test_rows_of_a_data_set_are_documents():
    datasets = pytest.importorskip("datasets")
    rows = [{"text": "one", "n": 1}, {"text": "two", "n": 2}]
    assert read(datasets.Dataset.from_list(rows)) == ["one", "two"]
    assert read(datasets.Dataset.from_list(rows).to_iterable_dataset()) == ["one", "two"]
    assert read(row for row in rows) == ["one", "two"]


@pytest.mark.parametrize("name, line", [("a.gz", "x" * 99 + "\n"), ("a.txt", "one long line é ")])
def test_a_large_file_is_never_in_memory(name, line, tmp_path):
    path, length = put(tmp_path / name, line * (2 * 10**7 // len(line))), 0
    tracemalloc.start()
    for part in documents(path):
        length += len(part.text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert length > 19 * 10**6 and peak < length / 3


# -- refusals


@pytest.mark.parametrize(
    "name, data, message",
    [
        ("a.md", b"text", r"no \.txt, \.jsonl, \.gz, \.xz file here or below"),
        ("a.tar.gz", b"text", r"no .* file here or below \(unpack archives\)"),
        ("a.txt", b"one\ntwo\ncaf\xe9 au lait\n", r"a\.txt, line 3: .* byte 0xe9 .* to UTF-8"),
        ("a.txt", b"one\ncaf\xc3", r"a\.txt, line 2: .* unexpected end of data"),
        ("a.xz", b"one\n\n\ncaf\xe9 au lait", r"a\.xz, line 4: .* byte 0xe9"),
        ("a.jsonl", b'{"text": "one"}\n{"text": "caf\xe9"}', r"a\.jsonl, line 2: .* byte 0xe9"),
        ("a.jsonl", b'{"text": "one"}\n\n{"text": two}', r"a\.jsonl, line 3: Expecting value"),
        (
            "a.jsonl",
            b'{"text": "one"}\n{"txt": ""}',
            r"a\.jsonl, line 2: expected .* under \"text\"",
        ),
        ("a.jsonl", b'{"text": 3}', r"a\.jsonl, line 1: expected .* got \{'text': 3\}"),
        ("a.txt", b" \n\n", r"holds no text"),
        ("a.jsonl", b"", r"holds no text"),
    ],
)
@pytest.mark.parametrize("piece", [1, 2**18])
def test_what_cannot_be_read_is_named(name, data, message, piece, tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "PIECE", piece)
    put(tmp_path / name, data)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        list(corpus.read_pieces(tmp_path))


@pytest.mark.parametrize("name", ["a.gz", "a.jsonl.xz"])
@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: b"no archive"])
def test_a_damaged_archive_is_named(name, damage, tmp_path):
    path = put(tmp_path / name, as_jsonl("one", "two"))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=rf"{name}, line \d is damaged .* copy it again"):
        list(documents(tmp_path))


def test_a_missing_folder_and_a_row_without_text_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        text_files(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="this list, row 2: expected .* got {'content': 'two'}"):
        list(documents([{"text": "one"}, {"content": "two"}]))


# -- several processes


def first_text(piece):
    if piece[0].text == "refuse":
        raise ValueError("refused")
    if piece[0].text == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return piece[0].text, os.getpid()


def rows(*texts):
    return [{"text": text} for text in texts]


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order_and_little_is_read_ahead(workers, monkeypatch):
    monkeypatch.setattr(corpus, "PIECE", 1)
    taken = []
    source = ({"text": str(taken.append(n) or n)} for n in range(100))
    results = for_each_piece(first_text, source, workers, "", False)
    assert next(results)[0] == "0" and len(taken) < 10
    texts, processes = zip(*results, strict=True)
    assert list(texts[:99]) == [str(n) for n in range(1, 100)]
    assert (os.getpid() in processes) == (workers == 1)


def test_errors_and_deaths_of_processes_are_told(monkeypatch):
    monkeypatch.setattr(corpus, "PIECE", 1)
    with pytest.raises(ValueError, match="refused"):
        list(for_each_piece(first_text, rows("a", "refuse", "b"), 2, "", False))
    with pytest.raises(ChildProcessError, match="one of 2 processes was killed.*fewer workers"):
        list(for_each_piece(first_text, rows("a", "die", "b"), 2, "", False))


def test_the_bar_counts_bytes_on_disk(tmp_path, capfd):
    size = put(tmp_path / "a.txt.gz", os.urandom(1500).hex() * 2).stat().st_size
    list(for_each_piece(first_text, tmp_path, 1, "read", True))
    assert "read: 100%" in (shown := capfd.readouterr().err) and f"{size / 1000:.2f}k/" in shown
    list(for_each_piece(first_text, rows("a", "b"), 1, "read", True))
    assert "2.00 rows" in capfd.readouterr().err


def at_work(pipe):
    """Work for a minute, with little to do for the processes."""
    source = (time.sleep(0.05) or row for row in rows(*["a" * 2**18] * 1200))
    try:
        for _ in for_each_piece(first_text, source, 2, "", False):
            pipe.send("at work")
    except KeyboardInterrupt:
        sys.exit(130)


@pytest.mark.parametrize("sent, code", [("SIGINT", 130), ("SIGTERM", -15), ("SIGKILL", -9)])
def test_no_process_outlives_the_one_that_started_it(sent, code, capfd):
    ours, theirs = multiprocessing.Pipe()
    parent = multiprocessing.get_context("fork").Process(target=at_work, args=(theirs,))
    parent.start()
    assert ours.recv() == "at work"
    children = psutil.Process(parent.pid).children()
    for process in [parent, *children] if sent == "SIGINT" else [parent]:  # Ctrl-C is for all
        os.kill(process.pid, signal.Signals[sent])
    parent.join(30)
    assert parent.exitcode == code and len(children) == 2
    assert psutil.wait_procs(children, 30)[1] == [] and capfd.readouterr().err == ""


# -- a vocabulary


def test_words_are_counted_as_the_tokenizer_splits_them(monkeypatch):
    long = "x" * 600  # spaCy would take its time
    text = STORY.replace("\r", "") + "\nI'm the Miller’s café; don’t &amp; won't\n" * 3
    counted = sum(map(corpus.count_words, corpus.read_pieces(rows(text, long))), Counter())
    expected = Counter(split_words(text))
    del expected["\n"]
    assert counted == expected


def test_a_small_corpus_keeps_all_its_characters(tmp_path):
    """With a minimum count of 100, most of such a text was unknown."""
    put(tmp_path / "a.txt", STORY)
    tokenizer = learn_vocabulary(tmp_path, 100)
    assert tokenizer.unk_token_id not in tokenizer.encode(STORY)
    assert len(tokenizer) <= 100 and tokenizer.text_pipeline == "original"


@pytest.mark.parametrize("share, kept", [(10**5, "abz"), (1000, "abz"), (400, "ab"), (5, "a")])
def test_rare_characters_are_left_out_of_a_large_corpus(share, kept, monkeypatch):
    """a 9,880 times, b 100 times, z 20 times; 100 times is always enough."""
    monkeypatch.setattr(corpus, "SHARE", share)
    text = "aaaa " * 2470 + "b " * (100 if share > 5 else 99) + "z " * 20
    tokenizer = learn_vocabulary(rows(text), 50)
    assert [x for x in "abz" if x in tokenizer.vocab] == list(kept)


def test_the_vocabulary_is_the_same_for_any_number_of_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "PIECE", 20)
    put(tmp_path / "a.txt", STORY * 3)
    one, two = (learn_vocabulary(tmp_path, 60, workers) for workers in (1, 2))
    assert one.vocab == two.vocab and one.merges == two.merges and len(one.merges) > 10


def test_a_vocabulary_too_small_for_the_characters_is_refused(tmp_path):
    put(tmp_path / "a.txt", STORY)
    with pytest.raises(ValueError, match="vocab_size=10, but 16 characters need 34"):
        learn_vocabulary(tmp_path, 10)
