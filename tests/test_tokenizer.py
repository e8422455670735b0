"""The tokenizer of the course: OpenAI's golden words, its plain rules, and back."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt.tokenizer import Tokenizer, split_words, standardize
from tests.helpers import GOLDEN
from tests.test_bpe import TINY

CASES = json.loads((GOLDEN / "tokenizer_original.json").read_text(encoding="utf-8"))["cases"]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.load(TINY)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["text"][:20])
def test_words_are_those_of_openais_code(case):
    assert split_words(case["text"]) == "".join(case["tokens"]).split("</w>")[:-1]


def test_decode_gives_the_words_back(tokenizer):
    ids = tokenizer.encode("“I don't know,” said Mr. Smith.\nWhy?")
    assert tokenizer.decode(ids) == '" i do n\'t know , " said mr. smith . \n why ?'
    assert tokenizer.decode([*ids, tokenizer.vocab["\n</w>"]]).endswith("why ? \n")
    assert tokenizer.encode("日 mill")[0] == tokenizer.vocab["<unk>"]


@given(st.text("abcdefghijklmnopqrstuvwxyz \n,;!?"))
@settings(max_examples=100, deadline=None)
def test_decode_undoes_encode_but_for_spaces(tokenizer, text):
    """In text of lower-case letters and marks that stand alone nothing but spaces is lost."""
    back = tokenizer.decode(tokenizer.encode(text))
    squeezed = re.sub("\n+", "\n", text.replace(" ", "").strip("\n"))
    assert back.replace(" ", "") == squeezed
    assert tokenizer.encode(text) == tokenizer.encode(text)  # what is kept changes nothing


@given(st.text("a \n\t\x1c\u2028-", max_size=12))
@settings(max_examples=300, deadline=None)
def test_standardize_is_what_its_plain_rules_say(text):
    apart = re.sub(r"-+", lambda found: f" {found[0]} ", text)
    plain = re.sub(r"[^\S\n]+", " ", re.sub(r"\s*\n\s*", " \n ", apart)).strip()
    assert standardize(text) == plain
