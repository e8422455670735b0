"""The exercises of chapter 02, the tokenizer."""

import re

from ..bpe import apply_merges, build_vocabulary
from ..tokenizer import split_words
from .compare import Check

__all__ = ["decode", "encode", "whitespace", "words_by_hand"]

START, DID, STOP = ["mr.", "smith"], ["did", "n't"], ["stop", "--", '"', "i", "'m", "late"]
END = ["!", "!", '"', "\n", "he", "ran", "."]

words_by_hand = Check(
    lambda: START + DID + STOP + END,
    mistakes={
        "Three line breaks in a row become one word.": START
        + DID
        + STOP
        + END[:3]
        + 2 * END[3:4]
        + END[3:],
        "The line break is a word, too.": START + DID + STOP + END[:3] + END[4:],
        "All words are in lower case.": ["Mr.", "Smith", *DID, *STOP[:3], "I", *STOP[4:]]
        + [*END[:4], "He", *END[5:]],
        "spaCy splits `didn't` into `did` and `n't`.": [*START, "didn't", *STOP, *END],
        "spaCy does not split at the apostrophe: `did` and `n't`.": (
            [*START, "didn", "'t", *STOP, *END]
        ),
        "The full stop of `Mr.` stays with it: an abbreviation.": (
            ["mr", ".", "smith", *DID, *STOP, *END]
        ),
        "spaCy cuts `!!` in two.": [*START, *DID, *STOP, "!!", *END[2:]],
        "spaCy leaves `--` whole.": [*START, *DID, "stop", "-", "-", *STOP[2:], *END],
    },
)


def reduce(text, line=r"\s*\n\s*", rest=r"[^\S\n]+", new=" \n "):
    """Reduce whitespace; the options make the mistakes."""
    return re.sub(rest, " ", re.sub(line, new, text))


whitespace = Check(
    reduce,
    [("one\n\n   two  \t three",), (" a\nb \n",), ("x\t\ty",)],
    {
        "All line breaks are lost.": {"rest": r"\s+"},
        "Line breaks in a row must become one.": {"line": r"[^\S\n]*\n[^\S\n]*"},
        "There is no space around the line break.": {"line": r"\s*\n\s*", "new": "\n"},
        "Tabs are whitespace, too.": {"rest": " +"},
        "This strips the text at its ends.": lambda text: reduce(text).strip(),
        "`split` cuts at line breaks, too, so they are lost.": lambda text: " ".join(text.split()),
    },
)


def join(ids, vocab, space=" ", between="", cut=lambda text: text.removesuffix(" ")):
    """Turn ids into a text; the options make the mistakes."""
    names = {index: token for token, index in vocab.items()}
    return cut(between.join(names[index] for index in ids).replace("</w>", space))


VOCAB = {"<unk>": 0, "gi": 3, "bber</w>": 1, "the</w>": 7, "\n</w>": 5, "!</w>": 2}

decode = Check(
    join,
    [([7, 3, 1, 2], VOCAB), ([7, 0, 5, 5], VOCAB), ([7, 3], VOCAB)],
    {
        "A space stands at the end.": {"cut": str},
        "`strip` also removes the line breaks at the end.": {"cut": str.strip},
        "Only a space is removed at the end; here it is not one.": {"cut": lambda text: text[:-1]},
        "There is no space between words: each </w> becomes one.": {"space": ""},
        "There is a space between all tokens: only </w> becomes one.": {
            "space": "",
            "between": " ",
        },
        "The mark </w> is still there.": {"space": "</w>"},
    },
)


def ids_of(text, vocab, merges, split=split_words, dropped=False, whole=False):
    """Turn a text into ids; the options make the mistakes."""
    ranks, ids = {pair: rank for rank, pair in enumerate(merges)}, []
    for word in split(text):
        found = [vocab.get(token) for token in apply_merges(word, ranks)]
        if whole and None in found:
            found = [None]
        ids += [vocab["<unk>"] if i is None else i for i in found if i is not None or not dropped]
    return ids


MERGES = [("m", "r"), ("mr", ".</w>"), ("i", "l"), ("m", "il"), ("mil", "l</w>")]


def split_lower(text):
    return split_words(text.lower())


encode = Check(
    ids_of,
    [(text, build_vocabulary(list("mr.il"), MERGES), MERGES) for text in ("Mr. Mill", "日 Milan")],
    {
        "Both errors are still there.": {"split": split_lower, "dropped": True},
        "Lower case comes before spaCy, which then does not know `mr.`": {"split": split_lower},
        "Unknown tokens disappear; they must become <unk>.": {"dropped": True},
        "Only the unknown token becomes <unk>, not the whole word.": {"whole": True},
        "The text is split at spaces only: use `split_words`.": {"split": str.split},
    },
)
