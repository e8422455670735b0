"""Ids on disk: which they are, when they are made again, and what a damaged file leads to."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from minigpt import OpenAIGPTTokenizer, OpenAIGPTTokenizerFast
from minigpt.bpe import NEWLINE, build_vocabulary, learn_merges, order_characters
from minigpt.training import corpus, shards
from minigpt.training.checkpoints import check_seal
from minigpt.training.shards import prepare_shards

BOOKS = {
    "a.txt": "The miller sees the fish.\r\n\r\n  The fish & the < miller!\n\n" * 3,
    "b.txt": "\nThe end\n of the fish",
    "c.txt": "the &amp; of the miller",
}
WORDS = Counter("the miller sees fish end of . ! & <".split())


def make_tokenizer(kind=OpenAIGPTTokenizerFast, pipeline="original", merges=9):
    characters, merges = order_characters(WORDS), learn_merges(WORDS, merges)
    return kind(build_vocabulary(characters, merges), merges, pipeline)


@pytest.fixture
def books(tmp_path):
    return put(tmp_path / "books", BOOKS)


def put(folder, texts: dict):
    folder.mkdir()
    for name, text in texts.items():
        (folder / name).write_bytes(text.encode())
    return folder


def rows(*texts):
    return [{"text": text} for text in texts]


# -- which ids


@pytest.mark.parametrize("piece", [1, 30, 2**18])
@pytest.mark.parametrize(
    "kind, pipeline",
    [
        (OpenAIGPTTokenizerFast, "original"),
        (OpenAIGPTTokenizer, "original"),
        (OpenAIGPTTokenizerFast, "basic"),
    ],
)
def test_ids_are_those_of_whole_documents(kind, pipeline, piece, books, tmp_path, monkeypatch):
    """However they are cut: each document's ids, and a line break."""
    monkeypatch.setattr(corpus, "PIECE", piece)
    tokenizer = make_tokenizer(kind, pipeline)
    whole = [[*tokenizer.encode(text.strip()), tokenizer.vocab[NEWLINE]] for text in BOOKS.values()]
    assert (tokenizer.vocab[NEWLINE] in whole[0][:-1]) == (pipeline == "original")
    found = prepare_shards(books, tokenizer, tmp_path / "data")
    assert found[:].tolist() == sum(whole, [])
    assert len(found) == len(sum(whole, [])) and found[:].dtype == np.int64


@pytest.mark.parametrize("piece", [1, 2**18])
def test_an_entity_is_decoded_wherever_its_document_was_cut(piece, tmp_path, monkeypatch):
    """In one call, ftfy would leave those behind a "<" as they are."""
    monkeypatch.setattr(corpus, "PIECE", piece)
    put(tmp_path / "books", {"a.txt": "the < miller\n\nof &amp; the"})
    tokenizer = make_tokenizer(OpenAIGPTTokenizer)
    found = prepare_shards(tmp_path / "books", tokenizer, tmp_path / "data")
    assert tokenizer.decode(found[:]) == "the < miller \n of & the \n"


def test_words_and_unknown_tokens_are_counted(tmp_path):
    tokenizer = make_tokenizer()
    found = prepare_shards(rows("the fish.\n the MÜLLER", "the fish"), tokenizer, tmp_path)
    assert (found.words, found.unknown) == (6, 1)  # ü


@pytest.mark.parametrize("kind", [OpenAIGPTTokenizerFast, OpenAIGPTTokenizer])
def test_ids_are_the_same_for_any_number_of_processes(kind, books, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(corpus, "PIECE", 20)
    one, two = (prepare_shards(books, make_tokenizer(kind), tmp_path / str(n), n) for n in (1, 2))
    assert (one[:] == two[:]).all() and (one.words, one.unknown) == (two.words, two.unknown)
    assert capfd.readouterr().err == ""  # no warning of a library, no bar


@pytest.mark.parametrize("extra, dtype", [(0, "uint16"), (1, "uint32")])
def test_a_large_vocabulary_needs_larger_numbers(extra, dtype, tmp_path):
    letters = [chr(0x4E00 + n) for n in range((2**16 - 2) // 2)]
    vocab = build_vocabulary(letters, []) | ({"more": 2**16} if extra else {})
    tokenizer = OpenAIGPTTokenizerFast(vocab, [], "original")
    found = prepare_shards(rows(letters[-1]), tokenizer, tmp_path)
    assert len(tokenizer) == 2**16 + extra and found.parts[0].dtype == dtype
    assert found[:].tolist() == [2**16 - 2, 2**16 - 1]


# -- looking them up


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_windows_may_cross_shards(size, books, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD", size)
    tokenizer = make_tokenizer()
    found = prepare_shards(books, tokenizer, tmp_path / "data")
    assert len(found.parts) == -(-len(found) // size)
    assert len(list((tmp_path / "data").rglob("shard-*.bin"))) == len(found.parts)
    whole = np.concatenate(found.parts).astype(np.int64)
    positions = torch.tensor([[0], [5], [len(found) - 9]]) + torch.arange(9)
    for index in (positions, positions.numpy(), slice(3, 60, 2), slice(None), np.zeros(0, int)):
        assert np.array_equal(found[index], whole[index])
    assert found[4] == whole[4]


@pytest.mark.parametrize("position", [-1, 10**6])
def test_a_position_outside_the_text_is_refused(position, books, tmp_path):
    found = prepare_shards(books, make_tokenizer(), tmp_path / "data")
    with pytest.raises(IndexError, match=f"{position}.* but the text has {len(found)} tokens"):
        found[np.array([0, position])]
    with pytest.raises(IndexError):
        found[len(found)]


# -- once made, they stay


@pytest.fixture
def made(monkeypatch):
    """A list with an entry for each time that shards are written."""
    calls, write = [], shards.write_shards
    monkeypatch.setattr(shards, "write_shards", lambda *a: calls.append("made") or write(*a))
    return calls


def test_a_second_run_finds_them(books, tmp_path, made):
    first = prepare_shards(books, make_tokenizer(), tmp_path / "data")
    again = prepare_shards(str(books), make_tokenizer(), str(tmp_path / "data"))
    moved = prepare_shards(books.rename(tmp_path / "moved"), make_tokenizer(), tmp_path / "data")
    as_rows = prepare_shards(rows(*BOOKS.values()), make_tokenizer(), tmp_path / "data")
    assert made == ["made"]
    for other in (again, moved, as_rows):
        assert (other[:] == first[:]).all()
        assert (other.words, other.unknown) == (first.words, first.unknown)


@pytest.mark.parametrize(
    "change",
    [
        {"a.txt": BOOKS["a.txt"].replace("sees", "eats")},
        {"a.txt": BOOKS["a.txt"] + BOOKS["b.txt"], "b.txt": ""},  # only where documents end
        {"d.txt": "the fish"},
    ],
)
def test_a_changed_corpus_is_tokenized_anew(change, books, tmp_path, made):
    prepare_shards(books, make_tokenizer(), tmp_path / "data")
    changed = put(tmp_path / "changed", BOOKS | change)
    prepare_shards(changed, make_tokenizer(), tmp_path / "data")
    assert made == ["made"] * 2


@pytest.mark.parametrize(
    "other",
    [
        lambda: make_tokenizer(merges=8),
        lambda: make_tokenizer(pipeline="basic"),
        lambda: OpenAIGPTTokenizer(make_tokenizer().vocab, make_tokenizer().merges, "original"),
        lambda: OpenAIGPTTokenizerFast(
            make_tokenizer().vocab, make_tokenizer().merges, "original", pad_token="<pad>"
        ),
    ],
)
def test_another_tokenizer_has_shards_of_its_own(other, books, tmp_path, made):
    first = prepare_shards(books, make_tokenizer(), tmp_path / "data")[:]
    prepare_shards(books, other(), tmp_path / "data")
    assert (prepare_shards(books, make_tokenizer(), tmp_path / "data")[:] == first).all()
    assert made == ["made"] * 2 and len(os.listdir(tmp_path / "data")) == 2


# -- what goes wrong


def test_a_run_that_ends_early_leaves_nothing(books, tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "PIECE", 20)
    encode, calls = shards.encode_piece, []

    def interrupted(*arguments):
        calls.append("piece")
        if len(calls) > 3:
            (waiting,) = (tmp_path / "data").iterdir()
            assert list(waiting.rglob("shard-00000.bin")) and waiting.name.startswith(".saving-")
            raise KeyboardInterrupt
        return encode(*arguments)

    monkeypatch.setattr(shards, "encode_piece", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare_shards(books, make_tokenizer(), tmp_path / "data")
    assert len(calls) == 4 and os.listdir(tmp_path / "data") == []


def cut(path):
    os.truncate(path, path.stat().st_size - 3)


def flip(path):
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


@pytest.mark.parametrize(
    "name, damage",
    [
        ("shard-00001.bin", cut),
        ("shard-00001.bin", lambda path: path.write_bytes(path.read_bytes() + b"0")),
        ("shard-00001.bin", flip),
        ("shard-00000.bin", os.remove),
        ("index.json", cut),
        ("index.json", lambda path: path.write_text("[]")),
        ("index.json", os.remove),
    ],
)
def test_damaged_shards_are_noticed_and_made_again(
    name, damage, books, tmp_path, monkeypatch, made
):
    monkeypatch.setattr(shards, "SHARD", 20)
    before = prepare_shards(books, make_tokenizer(), tmp_path / "data")[:]
    (folder,) = (tmp_path / "data").iterdir()
    damage(folder / name)
    with pytest.raises((ValueError, FileNotFoundError), match=name):
        check_seal(folder)
    assert (prepare_shards(books, make_tokenizer(), tmp_path / "data")[:] == before).all()
    assert made == ["made"] * 2
    prepare_shards(books, make_tokenizer(), tmp_path / "data")
    assert made == ["made"] * 2 and os.listdir(tmp_path / "data") == [folder.name]


def test_shards_as_a_source_are_whole_and_have_the_same_vocabulary(books, tmp_path):
    folder = prepare_shards(books, make_tokenizer(), tmp_path / "data").folder
    for same in (make_tokenizer(pipeline="basic"), make_tokenizer(OpenAIGPTTokenizer)):
        assert prepare_shards(folder, same, "unused").folder == folder
    with pytest.raises(ValueError, match=f"{folder} has ids of another vocabulary; pass"):
        prepare_shards(folder, make_tokenizer(merges=8), "unused")
    flip(folder / "shard-00000.bin")
    with pytest.raises(ValueError, match="shard-00000.bin has changed since it was written"):
        prepare_shards(folder, make_tokenizer(), "unused")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk, as Linux has it")
def test_a_full_disk_is_named(books, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_NAME", "../../../full-{}")
    (tmp_path / "full-0").symlink_to("/dev/full")
    with pytest.raises(OSError, match="full-0 could not be saved .*No space left.*; make room"):
        prepare_shards(books, make_tokenizer(), tmp_path / "data")


def test_a_text_of_unknown_tokens_is_refused(tmp_path):
    greek = put(tmp_path / "greek", {"a.txt": "μῆνιν ἄειδε the fish θεὰ Πηληϊάδεω Ἀχιλῆος"})
    with pytest.raises(ValueError, match=r"88% of the tokens of .*greek would be <unk>"):
        prepare_shards(greek, make_tokenizer(), tmp_path / "data")
    assert os.listdir(tmp_path / "data") == []
    with pytest.raises(ValueError, match="this list holds no text"):
        prepare_shards(rows("", " \n"), make_tokenizer(), tmp_path / "data")
