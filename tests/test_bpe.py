"""Learning and applying merges: plain and fast way agree; the vocabulary and its two files."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigpt
from minigpt import bpe
from tests.helpers import NO_OFFICIAL, OFFICIAL

TINY = Path(minigpt.__file__).parent / "assets" / "tiny"


def count_pairs(words, word_counts):
    pairs = Counter()
    for word, symbols in words.items():
        for pair in pairwise(symbols):
            pairs[pair] += word_counts[word]
    return pairs


def learn_by_recounting(word_counts, num_merges):
    """The second version of the notebook, which stops when no pair is left."""
    words, merges = {word: bpe.split_characters(word) for word in word_counts}, []
    while len(merges) < num_merges and +(pairs := count_pairs(words, word_counts)):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        words = {word: bpe.merge_pair(symbols, best) for word, symbols in words.items()}
        merges.append(best)
    return merges


# few characters and long words: pairs overlap ("aaa"), meet again, and tie
WORDS = st.text("ab", max_size=12) | st.text("abcé</w>", max_size=6)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(WORDS, st.integers(0, 5), max_size=12), st.integers(0, 60))
def test_the_heap_agrees_with_counting_afresh(word_counts, num_merges):
    expected = learn_by_recounting(word_counts, num_merges)
    assert bpe.learn_merges(word_counts, num_merges) == expected


@pytest.mark.parametrize(
    "symbols, expected",
    [("aaa", ("aa", "a")), ("aaaa", ("aa", "aa")), ("baab", ("b", "aa", "b")), ("a", ("a",))],
)
def test_pairs_are_merged_from_left_to_right(symbols, expected):
    assert bpe.merge_pair(tuple(symbols), ("a", "a")) == expected


SYMBOLS = st.text("ab", min_size=1, max_size=3)
MERGES = st.lists(st.tuples(SYMBOLS, SYMBOLS | SYMBOLS.map(lambda x: x + "</w>")), unique=True)


@settings(max_examples=300, deadline=None)
@given(st.text("ab", max_size=80), MERGES)  # in any order, also in none that can be learned
def test_words_are_split_by_the_definition(word, merges):
    """Merge the pair of lowest rank, everywhere, until there is none."""
    ranks, symbols = {pair: rank for rank, pair in enumerate(merges)}, bpe.split_characters(word)
    while known := [pair for pair in pairwise(symbols) if pair in ranks]:
        symbols = bpe.merge_pair(symbols, min(known, key=ranks.get))
    assert bpe.apply_merges(word, ranks) == symbols


def test_the_progress_bar_is_off_unless_asked_for(capsys):
    bpe.learn_merges({"the": 2}, 2)
    assert capsys.readouterr() == ("", "")
    bpe.learn_merges({"the": 2}, 2, progress=True)
    assert "learn merges: 100%" in capsys.readouterr().err


def test_the_vocabulary_has_the_official_order():
    found = bpe.build_vocabulary(["t", "h"], [("t", "h</w>")])
    assert list(found) == ["<unk>", "t", "h", "t</w>", "h</w>", "th</w>", "\n</w>"]
    assert bpe.order_characters(Counter({"the": 3, "hat": 1, "\n": 9})) == ["t", "h", "e", "a"]
    assert bpe.drop_rare_characters({"mill": 3, "moulin": 1}, min_count=2) == {"mill": 3}


@pytest.mark.parametrize("folder", [TINY, OFFICIAL], ids=["tiny", "official"])
def test_known_files_are_numbered_as_we_number(folder):
    names = ("vocab.json", "merges.txt")
    if folder == OFFICIAL:
        names = ("encoder_bpe_40000.json", "vocab_40000.bpe")
        if not folder.is_dir():
            pytest.skip(NO_OFFICIAL)
    numbers, merges = bpe.read_vocabulary(folder / names[0]), bpe.read_merges(folder / names[1])
    count = (len(numbers) - len(merges) - 2) // 2
    characters = sorted(numbers, key=numbers.get)[1 : 1 + count]
    assert bpe.build_vocabulary(characters, merges) == numbers


def test_the_files_have_the_official_format_to_the_byte(tmp_path):
    merges = [("t", "h"), ("é", "</w>"), ("\u2028", "\x85"), ("a", "\r"), ("#version:", "0.2")]
    bpe.write_merges(tmp_path / "merges.txt", iter(merges))
    expected = "#version: 0.2\nt h\né </w>\n\u2028 \x85\na \r\n#version: 0.2\n"
    assert (tmp_path / "merges.txt").read_bytes() == expected.encode()
    assert bpe.read_merges(tmp_path / "merges.txt") == merges
    vocabulary = {"<unk>": 0, "é": 1, "\n</w>": 2}
    bpe.write_vocabulary(tmp_path / "vocab.json", vocabulary)
    assert (tmp_path / "vocab.json").read_bytes() == '{"<unk>": 0, "é": 1, "\\n</w>": 2}'.encode()
    assert bpe.read_vocabulary(tmp_path / "vocab.json") == vocabulary
