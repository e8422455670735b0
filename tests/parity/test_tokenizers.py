"""The tokenizers against OpenAI's golden strings, transformers, and each other."""

import copy
import json

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from packaging.version import Version
from tokenizers import AddedToken, normalizers

from minigpt import OpenAIGPTTokenizer, OpenAIGPTTokenizerFast
from tests.helpers import GOLDEN, NO_OFFICIAL, OFFICIAL, tokenizer_agreement
from tests.test_bpe import TINY
from tests.test_hf_tokenization import (
    BOTH,
    add_tokens,
    every_kind,
    every_pipeline,
    load,
    parts,
    ready,
)

official = pytest.mark.skipif(not OFFICIAL.is_dir(), reason=NO_OFFICIAL)
SLOW, FAST = OpenAIGPTTokenizer, OpenAIGPTTokenizerFast


@pytest.fixture(scope="module")
def theirs():
    tokenizer = transformers.OpenAIGPTTokenizer.from_pretrained(TINY)
    add_tokens(tokenizer)
    return tokenizer


# -- ids


@official
@pytest.mark.parametrize("kind, pipeline", [(SLOW, "original"), (SLOW, "basic"), (FAST, "basic")])
def test_every_golden_string_gives_the_ids_of_the_reference(kind, pipeline):
    assert tokenizer_agreement(pipeline, kind) == (40, 40)


@official
def test_fast_misses_openais_ids_only_where_its_notebook_says():
    cases = json.loads((GOLDEN / "tokenizer_original.json").read_text(encoding="utf-8"))["cases"]
    fast, slow = (kind.from_pretrained(OFFICIAL, "original") for kind in (FAST, SLOW))
    missed = [case["text"] for case in cases if fast.encode(case["text"]) != case["ids"]]
    assert [text.split()[0] for text in missed] == ["schÃ¶n", "ﬁne", "ＦＵＬＬ", "İstanbul"]
    for case in cases:  # through the library, too
        assert slow(case["text"], return_special_tokens_mask=True).input_ids == case["ids"]


@given(st.text(st.characters(exclude_categories=["Cs"])))  # unassigned characters included
@example("<unk> a<pad>b ZEPPELIN x-ray")
@example("a\x0cb ΟΔΟΣ a\u2028b x\U0002b820y e\u0301 ﬁ \u200b. \u0378 \U000e0fff \U0001f6dd")
@settings(max_examples=300, deadline=None)
def test_basic_slow_fast_and_transformers_agree_on_any_text(theirs, text):
    slow, fast = (ready(kind, "basic")(text).input_ids for kind in BOTH)
    assert slow == fast == theirs(text).input_ids


WORDS = """the old Man I he'll it's don't can't cannot Mr. Mrs. Smith's dogs' a.m. 10 1,234.56
U.S. St. we've You're they'd o'clock John's "Well," said ‘So’ “No!” end. Why? yes; (perhaps) mid-day
— … !!! ... No. his' him. A. B. Co. mass. Mass. isn't ain't 'tis 'Tis: £5 $10 20% and/or * _it_ café
naïve Ph.D. 7:30pm 10pm. zeppelin Zeppelin's “x-ray, x-rays <pad> -- a---b
a/b // ~~a a||b a..b .... -./ --~""".split()
GAPS = st.sampled_from([" ", "\n", "\n\n", "  "])


@given(st.lists(st.sampled_from(WORDS) | GAPS), GAPS)
@settings(max_examples=300, deadline=None)
def test_original_slow_and_fast_agree_on_text_like_that_of_books(words, gap):
    text = gap.join(words)
    assert ready(SLOW)(text).input_ids == ready(FAST)(text).input_ids


CHARACTERS = "ab eE.é'日\n\tA_½‿\u200b\u0301<>\x1c\xa0"
VOCAB = {"<unk>": 0, "a</w>": 1, "b</w>": 2, "e": 3, "ea</w>": 4, "a": 5}
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
ADDED = st.builds(
    AddedToken, st.text(CHARACTERS, min_size=1, max_size=4), **dict.fromkeys(FLAGS, st.booleans())
)


def normalized(token):
    """Of two tokens that are equal then, the library takes one by chance."""
    return normalizers.BertNormalizer().normalize_str(token.content)


@given(st.lists(ADDED, min_size=1, max_size=4, unique_by=normalized), st.data())
@settings(max_examples=150, deadline=None)
def test_added_tokens_mean_the_same_to_slow_fast_and_transformers(tokens, data):
    ours = [kind(VOCAB, [("e", "a</w>")], "basic") for kind in BOTH]
    theirs, kept = transformers.OpenAIGPTTokenizer(vocab=VOCAB, merges=[("e", "a</w>")]), [" "]
    for token in tokens:
        try:
            assert ours[0].add_tokens(token) == ours[1].add_tokens(token)
        except ValueError:  # nothing of it is left in a text, or it cuts words
            continue
        theirs.add_tokens([token])
        kept += [token.content, token.content.upper()]
    words = st.lists(st.sampled_from(CHARACTERS) | st.sampled_from(kept), max_size=12)
    for text in data.draw(st.lists(words.map("".join), min_size=1, max_size=5)):
        assert [one.encode(text) for one in ours] == [theirs(text).input_ids] * 2
    for one in ours:
        assert repr(one.added_tokens_decoder) == repr(theirs.added_tokens_decoder)


# -- the interface

PAIRS = [("the old man of the sea", "a dog"), ("a", "a dog in the house by the sea"), ("", "b")]
WORD, LONG = "the old man", "the old man of the sea and a dog in the house"
TWO = ["the old", "a"]
CALLS = [
    dict(text=WORD, text_pair="a dog"),
    dict(text=PAIRS),
    dict(text=WORD.split(), is_split_into_words=True),
    dict(text=[["the", "old"], ["man"]], is_split_into_words=True),
    dict(text=[(["the"], ["man"]), (["a", "b"], ["c"])], is_split_into_words=True),
    dict(text=WORD, return_special_tokens_mask=True, return_token_type_ids=True),
    dict(text=WORD, return_attention_mask=False),
    dict(text=WORD, return_length=True, verbose=False),
    dict(text=TWO, padding=True),
    dict(text=TWO, padding="max_length", max_length=5, pad_to_multiple_of=4),
    dict(text=TWO, padding=True, padding_side="left", return_length=True),
    dict(text=PAIRS, padding=True, return_token_type_ids=True),
    dict(text=PAIRS, padding="longest", return_special_tokens_mask=True),
    dict(text=PAIRS, padding=True, return_offsets_mapping=True),
    dict(text=WORD, max_length=2),
    dict(text=WORD, truncation=True, max_length=2, padding="max_length"),
    *(dict(text=PAIRS, truncation=True, max_length=n) for n in range(1, 10)),
    dict(text=PAIRS[:1], truncation="only_first", max_length=5),
    dict(text=PAIRS[1:2], truncation="only_second", max_length=5),
]
OVERFLOWS = [
    dict(text=LONG, truncation=True, max_length=5),
    dict(text=[LONG, "a"], truncation=True, max_length=5, stride=2, padding="max_length"),
    dict(text="a dog", text_pair=LONG, truncation="only_second", max_length=6, stride=1),
]
CALLS += [call | {"return_overflowing_tokens": True} for call in OVERFLOWS]


OLD = Version(tokenizers.__version__) < Version("0.23.3")


@pytest.mark.skipif(OLD, reason="older tokenizers truncate otherwise in transformers, too")
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("call", CALLS)
@every_kind
def test_a_call_gives_what_transformers_gives(theirs, kind, call, side):
    ours = copy.copy(ready(kind, "basic"))
    ours.truncation_side = theirs.truncation_side = side
    found, expected = ours(**call), theirs(**call)
    theirs.truncation_side = "right"
    assert dict(found) == dict(expected)
    for row in range(len(expected.encodings)):
        for name in ("tokens", "word_ids", "sequence_ids"):
            assert getattr(found, name)(row) == getattr(expected, name)(row)
        assert found[row].offsets == expected[row].offsets
        assert found.char_to_token(row, 2) == expected.char_to_token(row, 2)


ATTRIBUTES = """vocab_size pad_token pad_token_id eos_token eos_token_id all_special_tokens
all_special_ids special_tokens_map added_tokens_encoder""".split()


@every_kind
def test_tokens_ids_and_attributes_are_those_of_transformers(theirs, kind):
    ours, text = ready(kind, "basic"), "the <pad> X-Ray's <unk> x-ray isn't <UNK>"
    ids, tokens = theirs(text).input_ids, ["the</w>", "<pad>", "?!"]
    for name, *arguments in (
        ("tokenize", text),
        ("tokenize", "the old", "man"),
        ("decode", ids),
        ("decode", torch.tensor(ids), True),  # skip special tokens
        ("decode", np.array(ids)),
        ("convert_ids_to_tokens", ids),
        ("convert_ids_to_tokens", ids, True),
        ("batch_decode", [ids, ids[:2]]),
        ("convert_tokens_to_ids", tokens),
        ("convert_tokens_to_string", tokens),
        ("get_special_tokens_mask", ids, None, True),
        ("num_special_tokens_to_add", True),
        ("get_vocab",),
        ("get_added_vocab",),
        ("__len__",),
        ("clean_up_tokenization", "the dogs ' house, it 's , is n't it ?"),
        ("clean_up_tokenization", "a . b ! ' c ' we 've we 're i 'm"),
    ):
        assert getattr(ours, name)(*arguments) == getattr(theirs, name)(*arguments)
    for name in ATTRIBUTES:
        assert getattr(ours, name) == getattr(theirs, name)


@pytest.mark.parametrize("make", [torch.tensor, np.array, list])
@pytest.mark.parametrize("tensors", ["pt", "np", None])
def test_pad_gives_what_transformers_gives(theirs, make, tensors):
    for encoded in (
        [{"input_ids": make([1, 2])}, {"input_ids": make([1])}],
        {"input_ids": [[1, 2], [3]]},
        {"input_ids": [[1, 2], [3, 4]], "attention_mask": [[1, 1], [0, 1]], "labels": [0.5, 2.5]},
        *([{"input_ids": make([1, 2])}] if make is torch.tensor else []),  # theirs fails on numpy
    ):
        call = {"padding": "max_length", "max_length": 3, "return_tensors": tensors}
        found, expected = (x.pad(encoded, **call) for x in (ready(SLOW, "basic"), theirs))
        assert found.keys() == expected.keys()
        for name in found:
            assert type(found[name]) is type(expected[name])
            assert np.array(found[name]).tolist() == np.array(expected[name]).tolist()
    with pytest.raises(ValueError, match="no input_ids to pad; there are: labels"):
        ready(SLOW, "basic").pad([{"labels": [1]}])


@pytest.mark.parametrize("masked", [True, False])
def test_the_collators_of_transformers_take_our_tokenizer(masked):
    found = []
    for tokenizer in (load(FAST, "basic"), transformers.OpenAIGPTTokenizer.from_pretrained(TINY)):
        tokenizer.add_special_tokens({"pad_token": "<pad>", "mask_token": "<mask>"})
        chance = {"mlm_probability": 1.0} if masked else {}
        collate = transformers.DataCollatorForLanguageModeling(tokenizer, mlm=masked, **chance)
        torch.manual_seed(0)
        batch = collate([tokenizer("the"), tokenizer("the old man")])
        found.append({name: values.tolist() for name, values in batch.items()})
    assert found[0] == found[1]


# -- folders of either side


@every_kind
@every_pipeline
def test_transformers_reads_what_we_write(kind, pipeline, tmp_path):
    tokenizer = copy.copy(ready(kind, pipeline))
    tokenizer.add_tokens([AddedToken("mill", single_word=True), AddedToken("<s>", rstrip=True)])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<q>"], "eos_token": "the</w>"})
    tokenizer.truncation_side = "left"
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "openai-gpt"}')
    theirs, again = (x.from_pretrained(tmp_path) for x in (transformers.AutoTokenizer, kind))
    for text in ("Mr. Zeppelin isn't<pad>\nhere, i'm an x-ray.", "mill mills <s>  the<q>the</w>"):
        assert theirs(text).input_ids == tokenizer(text).input_ids == again(text).input_ids
    assert (theirs.pad_token, len(theirs)) == ("<pad>", len(tokenizer))
    assert theirs.truncation_side == again.truncation_side == "left"
    assert parts(again) == parts(tokenizer)
    assert set(theirs.all_special_tokens) == set(tokenizer.all_special_tokens)


@every_kind
def test_we_read_what_transformers_writes(theirs, kind, tmp_path):
    theirs.save_pretrained(tmp_path)
    assert not (tmp_path / "vocab.json").exists()
    ours = kind.from_pretrained(tmp_path)
    text = "Mr. Zeppelin isn't<pad>\nhere, i'm <unk>."
    assert ours.text_pipeline == "basic" and ours(text).input_ids == theirs(text).input_ids
    assert kind.from_pretrained(tmp_path, text_pipeline="original").text_pipeline == "original"


OLD = {"<pad>": 8192, "[CLS]": 8193, "<Q>": 8194}
TOKEN = {"content": "<Q>", "lstrip": True, "rstrip": False, "normalized": False}
OLD_FILES = [  # added_tokens, special_tokens_map, tokenizer_config
    (OLD, {}, {}),
    ({}, {"unk_token": "<unk>", "pad_token": "<pad>"}, {}),
    (OLD, {"pad_token": "<pad>", "cls_token": TOKEN}, {}),
    (OLD, {"pad_token": "<pad>"}, {"cls_token": "<Q>", "pad_token": "[CLS]"}),
    ({}, {"sep_token": TOKEN | {"single_word": False}}, {}),
]


@every_kind
@pytest.mark.parametrize("pages", OLD_FILES)
def test_a_tokenizer_of_older_transformers_is_read(kind, pages, tmp_path):
    load().save_vocabulary(tmp_path)
    names = ("added_tokens", "special_tokens_map", "tokenizer_config")
    for name, page in zip(names, pages, strict=True):
        if page:
            (tmp_path / f"{name}.json").write_text(json.dumps(page))
    theirs = transformers.OpenAIGPTTokenizer.from_pretrained(tmp_path)
    ours, text = kind.from_pretrained(tmp_path, "basic"), "king <pad> said [CLS] to <Q> the <q> man"
    assert ours.encode(text) == theirs.encode(text) and len(ours) == len(theirs) > 8192
    for role in ("pad_token", "cls_token", "sep_token"):
        assert getattr(ours, role) == getattr(theirs, role)
