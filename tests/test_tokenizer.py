"""Merges and tokenizer: golden strings, round trips, bad files, what is missing."""

import json
import re
import warnings

import pytest

from minigpt import OpenAIGPTTokenizer, bpe
from minigpt import tokenizer as module
from tests import parity

official = pytest.mark.skipif(not parity.OFFICIAL.is_dir(), reason=parity.NO_OFFICIAL)


@pytest.fixture(scope="module")
def tiny():
    return OpenAIGPTTokenizer.from_pretrained("tiny", text_pipeline="original")


@official
def test_every_golden_string_gives_openais_ids():
    assert parity.tokenizer_agreement("original") == (40, 40)


@official
def test_basic_gives_transformers_ids_but_for_special_pieces():
    # the one string that writes "<unk>" itself: special pieces are not read as such yet
    assert parity.tokenizer_agreement("basic") == (39, 40)


@official
def test_the_official_vocabulary_is_numbered_as_we_number():
    official = OpenAIGPTTokenizer.from_pretrained(parity.OFFICIAL)
    letters = [piece for piece, index in official.vocab.items() if 1 <= index <= 238]
    letters.sort(key=official.vocab.get)
    assert bpe.build_vocabulary(letters, official.merges) == official.vocab


def golden_words(name):
    cases = json.loads((parity.GOLDEN / f"tokenizer_{name}.json").read_text())["cases"]
    return [(case["text"], "".join(case["tokens"]).split("</w>")[:-1]) for case in cases]


@pytest.mark.parametrize("text, words", golden_words("original"))
def test_the_original_pipeline_splits_as_openai_does(text, words):
    assert module.original_pipeline()(text) == words


def test_learning_agrees_with_counting_afresh():
    counts = {"lower": 4, "lowest": 3, "newer": 2, "aaaa": 5, "low": 7, "owl": 1}
    words = {word: bpe.split_letters(word) for word in counts}
    for expected in bpe.learn_merges(counts, 30):
        pairs = {}
        for word, symbols in words.items():
            for pair in zip(symbols, symbols[1:], strict=False):
                pairs[pair] = pairs.get(pair, 0) + counts[word]
        assert expected == min(pairs, key=lambda pair: (-pairs[pair], pair))
        words = {word: bpe.merge_pair(symbols, expected) for word, symbols in words.items()}
    assert all(len(symbols) == 1 for symbols in words.values())


def test_a_round_trip_through_disk(tiny, tmp_path):
    tiny.save_pretrained(tmp_path)
    again = OpenAIGPTTokenizer.from_pretrained(tmp_path)
    assert (again.vocab, again.merges) == (tiny.vocab, tiny.merges)


def test_decode_gives_the_words_back(tiny):
    text = "“I don't know,” said Mr. Smith.\nWhy?"
    expected = '" i do n\'t know , " said mr. smith . \n why ?'
    assert tiny.decode(tiny.encode(text)) == expected


def test_decode_keeps_a_line_break_at_the_end(tiny):
    ids = [*tiny.encode("the end ."), tiny.vocab["\n</w>"]]
    assert tiny.decode(ids) == "the end . \n"


@pytest.mark.parametrize(
    "text", ["a\x0cb", "ΟΔΟΣ", "a\u2028b", "x\U0002b820y", "e\u0301 ﬁ \u200b."]
)
def test_the_basic_pipeline_splits_as_transformers_does(text):
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    normal = BertNormalizer(lowercase=True).normalize_str(text)
    expected = [word for word, _ in BertPreTokenizer().pre_tokenize_str(normal)]
    assert module.basic_pipeline()(text) == expected


def test_a_merges_file_cut_short_is_refused(tmp_path):
    (tmp_path / "merges.txt").write_text("#version: 0.2\nt h\na n")
    with pytest.raises(ValueError, match="middle of a line, 'a n'"):
        bpe.read_merges(tmp_path / "merges.txt")


def test_tensors(tiny):
    batch = tiny(["the old man", "the new man"], return_tensors="pt")
    assert batch.input_ids.shape == batch["attention_mask"].shape == (2, 3)
    assert tiny("the old man")["input_ids"] == batch.input_ids[0].tolist()
    with pytest.raises(ValueError, match="3 to 4 tokens"):
        tiny(["the old man", "the very old man"], return_tensors="pt")
    with pytest.raises(ValueError, match="return_tensors='tf'"):
        tiny("a", return_tensors="tf")


@pytest.mark.parametrize("line", ["the</w>", "a b c", "", "a  b"])
def test_a_bad_merge_is_named_with_its_line(tmp_path, line):
    path = tmp_path / "merges.txt"
    path.write_text(f"#version: 0.2\nt h\n{line}\na b\n")
    with pytest.raises(ValueError, match=rf"merges\.txt, line 3: {re.escape(repr(line))}"):
        bpe.read_merges(path)


def test_exotic_line_separators_may_be_pieces(tmp_path):
    merges = [("\u2028", "a"), ("\x85", "b</w>"), ("\x0c", "c")]
    bpe.write_merges(tmp_path / "merges.txt", merges)
    assert bpe.read_merges(tmp_path / "merges.txt") == merges


def test_a_missing_extra_is_named_with_the_way_out(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    module.original_pipeline.cache_clear()
    tokenizer = OpenAIGPTTokenizer({"<unk>": 0}, [], text_pipeline="original")
    with pytest.raises(
        ImportError, match=r"needs ftfy and spacy: pip install 'minigpt\[original\]'"
    ):
        tokenizer.encode("a")


def test_without_the_extra_there_is_one_warning_and_the_basic_pipeline(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.warns(UserWarning, match=r"pip install 'minigpt\[original\]'") as caught:
        tokenizer = OpenAIGPTTokenizer.from_pretrained("tiny")
    assert len(caught) == 1 and tokenizer.text_pipeline == "basic"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tokenizer.encode("it's late")


def test_an_unknown_pipeline_is_refused():
    with pytest.raises(ValueError, match="text_pipeline='fast'.*original, basic"):
        OpenAIGPTTokenizer({}, [], text_pipeline="fast")
