"""The exercises of chapter 01, byte-pair encoding."""

from collections import Counter
from itertools import pairwise

from ..bpe import learn_merges
from .compare import Check

__all__ = ["best_pair", "merge_in_word", "split_word", "three_words"]

FOUR_WORDS = {"low": 5, "lower": 2, "newest": 6, "widest": 3}
LOW, LOWER, LOWEST = ["low</w>"], ["lo", "we", "r</w>"], ["lowest</w>"]

three_words = Check(
    lambda: [LOW, LOWER, LOWEST],
    mistakes={
        "In `lower`, `w e` comes before `lo w` in the list: the order of the list decides.": [
            *(LOW, ["low", "er</w>"], LOWEST)
        ],
        "`low est</w>` is in the list, too.": [LOW, LOWER, ["low", "est</w>"]],
        "The mark </w> is missing at the end of the words.": [
            *(["low"], ["lo", "we", "r"], ["lowest"])
        ],
        "`low</w>` ends a word: at its beginning stands `low`, without the mark.": [
            *(LOW, ["low</w>", "er</w>"], ["low</w>", "est</w>"])
        ],
        "In `lowest`, `e s` comes before `w e` in the list.": [
            *(LOW, LOWER, ["lo", "we", "s", "t</w>"])
        ],
    },
)


def most_frequent(word_counts, weighted=True, mark="</w>", ties=1, sign=1):
    """Return the most frequent pair; the options make the mistakes."""
    pairs = Counter()
    for word, n in word_counts.items():
        for pair in pairwise((*word[:-1], word[-1] + mark)):
            pairs[pair] += n if weighted else 1
    return min(sorted(pairs)[::ties] if ties else pairs, key=lambda pair: -sign * pairs[pair])


best_pair = Check(
    most_frequent,
    [(FOUR_WORDS,), ({"bab": 3, "ab": 2, "cb": 9, "db": 9},), ({"wheel": 4, "ant": 4},)],
    {
        "Each word is counted once; it occurs word_counts[word] times.": {"weighted": False},
        "The last character has no mark: `t` and `t</w>` are different symbols.": {"mark": ""},
        "At a tie, this takes the last pair in alphabetical order.": {"ties": -1},
        "At a tie, this takes the pair that was counted first.": {"ties": 0},
        "This is the rarest pair.": {"sign": -1},
    },
)


def merge(symbols, pair, overlap=False, most=99, step=1, last=0):
    """Merge a pair in a word; the options make the mistakes."""
    rest, merged = list(symbols)[::step], []
    while len(rest) > last:
        found = tuple(rest[:2][::step]) == tuple(pair) and most > 0
        merged.append(pair[0] + pair[1] if found else rest[0])
        most -= found
        rest = rest[1 + (found and not overlap) :]
    return tuple(merged[::step])


merge_in_word = Check(
    merge,
    [
        (("n", "e", "w", "e", "s", "t</w>"), ("e", "s")),
        (("a", "a", "a", "b", "a", "a"), ("a", "a")),
        (("ha", "b", "a", "b", "c</w>"), ("a", "b")),
        (("x",), ("x", "y")),
    ],
    {
        "The second symbol of the pair is still there after the merge.": {"overlap": True},
        "Only the first occurrence is merged.": {"most": 1},
        "This merges from right to left.": {"step": -1},
        "The last symbol is lost where it is not merged.": {"last": 1},
        "Symbols are merged by their characters: in `ha b` there is no pair `a b`.": (
            lambda symbols, pair: tuple(
                " ".join(symbols).replace(" ".join(pair), "".join(pair)).split(" ")
            )
        ),
    },
)


def tokens_of(word, merges, attached=True, order=min):
    """Split a word with a list of merges; the options make the mistakes."""
    symbols = (*word[:-1], word[-1] + "</w>") if attached else (*word, "</w>")
    while known := [pair for pair in pairwise(symbols) if pair in merges]:
        symbols = merge(symbols, order(known, key=merges.index))
    return symbols


def leftmost(pairs, key):
    return pairs[0]


HAND = learn_merges(FOUR_WORDS, 7)
LIST = "l o, e s, es t</w>, w e, lo w</w>, lo w, e r</w>, low est</w>"  # that of exercise 1
PAIRS = [tuple(pair.split()) for pair in LIST.split(", ")]

split_word = Check(
    tokens_of,
    [("lowest", HAND), ("low", HAND), ("lower", PAIRS), ("lowest", PAIRS), ("a", HAND)],
    {
        "Both errors are still there.": {"attached": False, "order": leftmost},
        "The mark is a symbol of its own here; it belongs to the last character.": {
            "attached": False
        },
        "The leftmost known pair is merged first; it must be the one that was learned first.": {
            "order": leftmost
        },
        "The pair that was learned last is merged first.": {"order": max},
    },
)
