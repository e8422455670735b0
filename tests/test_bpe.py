"""Learning and applying merges, and the two files: rungs agree, bad files are named."""

import json
import os
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt import bpe
from tests import parity

official = pytest.mark.skipif(not parity.OFFICIAL.is_dir(), reason=parity.NO_OFFICIAL)
TINY = Path(bpe.__file__).parent / "assets" / "tiny"


def vocabularies():
    yield pytest.param(TINY / "vocab.json", TINY / "merges.txt", id="tiny")
    names = ("encoder_bpe_40000.json", "vocab_40000.bpe")
    yield pytest.param(*(parity.OFFICIAL / name for name in names), id="official", marks=official)


# -- learning


def learn_by_recounting(word_counts, num_merges):
    """The second rung of the notebook, which stops when no pair is left."""
    words, merges = {word: bpe.split_letters(word) for word in word_counts}, []
    while len(merges) < num_merges:
        pairs = Counter()
        for word, symbols in words.items():
            for pair in pairwise(symbols):
                pairs[pair] += word_counts[word]
        if not +pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        words = {word: bpe.merge_pair(symbols, best) for word, symbols in words.items()}
        merges.append(best)
    return merges


# few letters and long words: pairs overlap ("aaa"), meet again, and tie
words = st.text("ab", max_size=12) | st.text("abcé</w>", max_size=6)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(words, st.integers(0, 5), max_size=12), st.integers(0, 60))
def test_the_heap_agrees_with_counting_afresh(word_counts, num_merges):
    expected = learn_by_recounting(word_counts, num_merges)
    assert bpe.learn_merges(word_counts, num_merges) == expected


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(words, st.integers(1, 5), max_size=12), st.integers(0, 60))
def test_the_counts_of_a_row_stay_true(word_counts, num_merges):
    row = bpe.WordRow(word_counts)
    spelled = {word: bpe.split_letters(word) for word in word_counts}
    for merge in learn_by_recounting(word_counts, num_merges):
        bpe.glue(row, merge)
        spelled = {word: bpe.merge_pair(symbols, merge) for word, symbols in spelled.items()}
        pairs = Counter()
        for word, symbols in spelled.items():
            for pair in pairwise(symbols):
                pairs[pair] += word_counts[word]
        assert {pair: count for pair, count in row.pair_counts.items() if count} == pairs


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(words, st.integers(1, 5), min_size=1, max_size=12))
def test_merges_learned_to_the_end_spell_every_word_in_one_piece(word_counts):
    ranks = {pair: rank for rank, pair in enumerate(bpe.learn_merges(word_counts, 1000))}
    for word in filter(None, word_counts):
        assert bpe.apply_merges(word, ranks) == (word + "</w>",)


def test_merges_are_prefixes_of_longer_lists():
    counts = {"lower": 4, "lowest": 3, "newer": 2, "aaaa": 5, "low": 7, "owl": 1}
    assert bpe.learn_merges(counts, 30)[:5] == bpe.learn_merges(counts, 5)
    assert bpe.learn_merges(counts, 0) == bpe.learn_merges({}, 5) == []


@pytest.mark.parametrize(
    "symbols, expected",
    [("aaa", ("aa", "a")), ("aaaa", ("aa", "aa")), ("baab", ("b", "aa", "b")), ("a", ("a",))],
)
def test_glued_from_left_to_right(symbols, expected):
    assert bpe.merge_pair(tuple(symbols), ("a", "a")) == expected


def test_ties_go_in_alphabetical_order():
    assert bpe.learn_merges({"zy": 1, "ab": 1, "mn": 1}, 3) == [
        ("a", "b</w>"),
        ("m", "n</w>"),
        ("z", "y</w>"),
    ]


def test_the_order_of_the_words_does_not_matter():
    counts = {"lower": 4, "lowest": 3, "newer": 2, "aaaa": 5, "low": 7, "owl": 1}
    assert bpe.learn_merges(dict(reversed(counts.items())), 30) == bpe.learn_merges(counts, 30)


def test_the_progress_bar_is_off_unless_asked_for(capsys):
    bpe.learn_merges({"the": 2}, 2)
    assert capsys.readouterr() == ("", "")
    bpe.learn_merges({"the": 2}, 2, progress=True)
    assert "learn merges: 100%" in capsys.readouterr().err


# -- spelling


def spelled_plainly(word, ranks):
    """The definition: glue the pair of lowest rank, everywhere, until there is none."""
    symbols = bpe.split_letters(word)
    while known := [pair for pair in pairwise(symbols) if pair in ranks]:
        symbols = bpe.merge_pair(symbols, min(known, key=ranks.get))
    return symbols


SYMBOLS = st.text("ab", min_size=1, max_size=3)
RANKS = st.lists(st.tuples(SYMBOLS, SYMBOLS | SYMBOLS.map(lambda x: x + "</w>")), unique=True)


@settings(max_examples=500, deadline=None)
@given(st.text("ab", max_size=80), RANKS)  # ranks in any order, also in none that can be learned
def test_words_of_any_length_are_spelled_by_the_definition(word, merges):
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    expected = spelled_plainly(word, ranks)
    assert bpe.apply_merges(word, ranks) == bpe.spell_long_word(word, ranks) == expected


def test_a_very_long_word_does_not_take_quadratic_time(monkeypatch):
    calls = []
    monkeypatch.setattr(bpe, "merge_pair", lambda *_: calls.append(1))
    pieces = bpe.apply_merges("ab" * 10000, {("a", "b"): 0, ("ab", "ab"): 1})
    assert (pieces[0], len(pieces), calls) == ("abab", 5002, [])


# -- the numbers


def test_vocabulary_in_the_official_order():
    letters, merges = ["t", "h"], [("t", "h</w>")]
    expected = ["<unk>", "t", "h", "t</w>", "h</w>", "th</w>", "\n</w>"]
    assert list(bpe.build_vocabulary(letters, merges)) == expected


@pytest.mark.parametrize("vocabulary, merges", list(vocabularies()))
def test_the_files_we_know_load_and_are_numbered_as_we_number(vocabulary, merges):
    numbers, pairs = bpe.read_vocabulary(vocabulary), bpe.read_merges(merges)
    bpe.check_merges(pairs, numbers, merges)
    count = (len(numbers) - len(pairs) - 2) // 2
    letters = sorted(numbers, key=numbers.get)[1 : 1 + count]
    assert bpe.build_vocabulary(letters, pairs) == numbers


# -- writing


def disk_full(*_):
    raise OSError(28, "No space left on device")


def fill_half(path, data):
    with open(path, "wb") as file:
        file.write(data[: len(data) // 2])
    disk_full()


WRITERS = [
    pytest.param(lambda path: bpe.write_whole(path, b"new"), id="write_whole"),
    pytest.param(lambda path: bpe.write_merges(path, [("a", "b")]), id="write_merges"),
    pytest.param(lambda path: bpe.write_vocabulary(path, {"<unk>": 0}), id="write_vocabulary"),
]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    "owner, name, failing", [(Path, "write_bytes", fill_half), (os, "replace", disk_full)]
)
def test_a_full_disk_leaves_the_old_file_alone(tmp_path, monkeypatch, write, owner, name, failing):
    path = tmp_path / "file"
    path.write_text("old", encoding="utf-8")
    monkeypatch.setattr(owner, name, failing)
    with pytest.raises(OSError, match="No space"):
        write(path)
    assert [(file.name, file.read_text(encoding="utf-8")) for file in tmp_path.iterdir()] == [
        ("file", "old")
    ]


@pytest.mark.parametrize("write", WRITERS)
def test_a_file_is_replaced_and_nothing_lies_beside_it(tmp_path, write):
    path = tmp_path / "file"
    path.write_text("old", encoding="utf-8")
    write(str(path))
    assert list(tmp_path.iterdir()) == [path] and path.read_text(encoding="utf-8") != "old"


def test_the_official_format_to_the_byte(tmp_path):
    bpe.write_merges(tmp_path / "merges.txt", iter([("t", "h"), ("é", "</w>")]))
    assert (tmp_path / "merges.txt").read_bytes() == "#version: 0.2\nt h\né </w>\n".encode()
    bpe.write_vocabulary(tmp_path / "vocab.json", {"<unk>": 0, "é": 1})
    assert (tmp_path / "vocab.json").read_bytes() == '{"<unk>": 0, "é": 1}'.encode()


pieces = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=" \n"), min_size=1)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(pieces, pieces), unique=True))
def test_any_merges_come_back_as_they_were(tmp_path_factory, merges):
    path = tmp_path_factory.mktemp("merges") / "merges.txt"
    bpe.write_merges(path, merges)
    assert bpe.read_merges(path) == merges


def test_odd_pieces_come_back_as_they_were(tmp_path):
    merges = [("\u2028", "a"), ("\x85", "b</w>"), ("#version:", "0.2"), ("a", "\r"), ("\x0c", "c")]
    bpe.write_merges(tmp_path / "merges.txt", merges)
    assert bpe.read_merges(tmp_path / "merges.txt") == merges
    vocabulary = {"<unk>": 0, "\u2028": 1, "\x85": 2, '"': 3, "\n</w>": 4}
    bpe.write_vocabulary(tmp_path / "vocab.json", vocabulary)
    assert bpe.read_vocabulary(tmp_path / "vocab.json") == vocabulary


@pytest.mark.parametrize("pair", [("a b", "c"), ("a", "\n"), ("", "a")])
def test_a_merge_that_could_not_be_read_back_is_not_written(tmp_path, pair):
    with pytest.raises(ValueError, match=rf"merges\.txt: {re.escape(repr(pair))} cannot"):
        bpe.write_merges(tmp_path / "merges.txt", [pair])
    assert not list(tmp_path.iterdir())


def test_a_file_from_windows_is_read(tmp_path):
    (tmp_path / "merges.txt").write_bytes(b"#version: 0.2\r\nt h\r\na n\r\n")
    assert bpe.read_merges(tmp_path / "merges.txt") == [("t", "h"), ("a", "n")]


# -- bad files: each error names the file, and the line or the piece

BAD_MERGES = {
    "another version": (b"#version: 0.3\nt h\n", r", line 1: '#version: 0.3' is not"),
    "no version": (b"t h\na n\n", r", line 1: 't h' is not '#version: 0.2'; pass a merges file"),
    "empty": (b"", r", line 1: '' is not '#version: 0.2'"),
    "cut short": (b"#version: 0.2\nt h\na n", r", line 3: ends in the middle of a line, 'a n'"),
    "one piece": (b"#version: 0.2\nt h\nthe</w>\n", r", line 3: 'the</w>' is not a merge"),
    "three pieces": (b"#version: 0.2\nt h\na b c\n", r", line 3: 'a b c' is not a merge"),
    "an empty line": (b"#version: 0.2\nt h\n\na b\n", r", line 3: '' is not a merge"),
    "two spaces": (b"#version: 0.2\nt h\na  b\n", r", line 3: 'a  b' is not a merge"),
    "a merge twice": (b"#version: 0.2\nt h\na b\nt h\n", r", line 4: 't h' stands in line 2"),
    "Latin-1": (b"#version: 0.2\nt h\ncaf \xe9\n", r", line 3: the byte 0xe9 is not UTF-8"),
}


@pytest.mark.parametrize("data, message", BAD_MERGES.values(), ids=BAD_MERGES)
def test_bad_merges_are_named(tmp_path, data, message):
    path = tmp_path / "merges.txt"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=re.escape(str(path)) + message):
        bpe.read_merges(path)


BAD_VOCABULARIES = {
    "cut short": (
        b'{"<unk>": 0,\n "t": 1,\n "h',
        r", line 3, column 2: not valid JSON \(Unterminated",
    ),
    "empty": (b"", r", line 1, column 1: not valid JSON"),
    "a list": (b'["<unk>", "t"]', r": holds a list; expected an object"),
    "a fraction": (b'{"<unk>": 0, "t": 1.0}', r": 't' has 1.0, which is no whole number"),
    "a text": (b'{"<unk>": 0, "t": "1"}', r": 't' has '1', which is no whole number"),
    "true": (b'{"<unk>": 0, "t": true}', r": 't' has True, which is no whole number"),
    "a list for a number": (b'{"<unk>": 0, "t": [1]}', r": 't' has \[1\], which is no whole"),
    "a piece twice": (b'{"<unk>": 0, "t": 1, "t": 2}', r": the key 't' is there twice; remove"),
    "a number twice": (b'{"<unk>": 0, "t": 1, "h": 1}', r": 't' and 'h' both have the number 1"),
    "a hole": (b'{"<unk>": 0, "t": 1, "h": 3}', r": 3 pieces, but none has the number 2"),
    "below zero": (b'{"<unk>": -1, "t": 0}', r": 2 pieces, but none has the number 1"),
    "no <unk>": (b'{"t": 0, "h": 1}', r": no piece '<unk>'"),
    "no piece at all": (b"{}", r": no piece '<unk>'"),
    "Latin-1": (b'{"<unk>": 0,\n"\xe9": 1}', r", line 2: the byte 0xe9 is not UTF-8"),
}


@pytest.mark.parametrize("data, message", BAD_VOCABULARIES.values(), ids=BAD_VOCABULARIES)
def test_bad_vocabularies_are_named(tmp_path, data, message):
    path = tmp_path / "vocab.json"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=re.escape(str(path)) + message):
        bpe.read_vocabulary(path)


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_vocabulary_cut_anywhere_is_refused(tmp_path, cut):
    whole = json.dumps({"<unk>": 0, "t": 1, "h": 2, "th</w>": 3})
    assert cut < len(whole)
    (tmp_path / "vocab.json").write_text(whole[:cut], encoding="utf-8")
    with pytest.raises(ValueError, match=r"vocab\.json, line 1, column \d+: not valid JSON"):
        bpe.read_vocabulary(tmp_path / "vocab.json")


@pytest.mark.parametrize("piece", ["t", "h", "th"])
def test_a_merge_with_an_unknown_piece_is_named_with_its_line(tmp_path, piece):
    path = tmp_path / "merges.txt"
    path.write_text("#version: 0.2\na b\nt h\n", encoding="utf-8")
    vocabulary = dict.fromkeys({"a", "b", "ab", "t", "h", "th"} - {piece}, 0)
    message = rf"merges\.txt, line 3: the merge 't h' needs the piece '{piece}'"
    with pytest.raises(ValueError, match=message):
        bpe.check_merges(bpe.read_merges(path), vocabulary, path)


def test_a_merge_of_a_json_file_has_a_number_and_no_line():
    with pytest.raises(ValueError, match=r"tokenizer\.json, merge 2: the merge 't h'"):
        bpe.check_merges([("a", "b"), ("t", "h")], {"a": 0, "b": 1, "ab": 2}, "tokenizer.json")


def test_a_byte_order_mark_is_left_out_and_lines_are_counted_behind_it(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"\xef\xbb\xbf#version: 0.2\nt h\n")
    assert bpe.read_merges(path) == [("t", "h")]
    path.write_bytes(b'\xef\xbb\xbf{"<unk>": 0,\n"\xe9": 1}')
    with pytest.raises(ValueError, match="line 2: the byte 0xe9"):
        bpe.read_vocabulary(path)


@pytest.mark.parametrize("read", [bpe.read_merges, bpe.read_vocabulary])
def test_a_missing_file_is_named(tmp_path, read):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read(tmp_path / "nowhere")
