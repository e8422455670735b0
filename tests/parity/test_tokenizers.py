"""The tokenizers against OpenAI's golden strings, transformers, and each other."""

import copy
import json

import numpy as np
import pytest
import torch
import transformers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, normalizers

from minigpt import OpenAIGPTTokenizer, OpenAIGPTTokenizerFast
from minigpt.hf import tokenizer_rules
from minigpt.hf.tokenizer_files import FLAGS
from tests.helpers import GOLDEN, NO_OFFICIAL, OFFICIAL, tokenizer_agreement
from tests.test_bpe import TINY
from tests.test_hf_tokenization import (
    BOTH,
    PIPELINES,
    add_tokens,
    every_kind,
    every_pipeline,
    load,
    parts,
)

official = pytest.mark.skipif(not OFFICIAL.is_dir(), reason=NO_OFFICIAL)


@pytest.fixture(scope="module")
def four():
    made = {(kind, name): load(kind, name) for kind in BOTH for name in PIPELINES}
    for tokenizer in made.values():
        add_tokens(tokenizer)
    return made


@pytest.fixture(scope="module")
def theirs():
    tokenizer = transformers.OpenAIGPTTokenizer.from_pretrained(TINY)
    add_tokens(tokenizer)
    return tokenizer


# -- golden strings


@official
@pytest.mark.parametrize(
    "kind, pipeline", [(BOTH[0], "original"), (BOTH[0], "basic"), (BOTH[1], "basic")]
)
def test_every_golden_string_gives_the_ids_of_the_reference(kind, pipeline):
    assert tokenizer_agreement(pipeline, kind) == (40, 40)


@official
def test_fast_misses_openais_ids_only_where_its_notebook_says():
    cases = json.loads((GOLDEN / "tokenizer_original.json").read_text(encoding="utf-8"))["cases"]
    fast = OpenAIGPTTokenizerFast.from_pretrained(OFFICIAL)
    missed = [case["text"] for case in cases if fast.encode(case["text"]) != case["ids"]]
    assert [text.split()[0] for text in missed] == ["schÃ¶n", "ﬁne", "ＦＵＬＬ", "İstanbul"]
    slow = OpenAIGPTTokenizer.from_pretrained(OFFICIAL, "original")  # through the library, too
    for case in cases:
        assert slow(case["text"], return_special_tokens_mask=True).input_ids == case["ids"]


# -- ids on any text


@given(st.text(st.characters(exclude_categories=["Cs"])))  # unassigned characters included
@example("<unk> a<pad>b ZEPPELIN x-ray")
@example("a\x0cb ΟΔΟΣ a\u2028b x\U0002b820y e\u0301 ﬁ \u200b. \u0378 \U000e0fff \U0001f6dd")
@settings(max_examples=300, deadline=None)
def test_basic_slow_fast_and_transformers_agree_on_any_text(four, theirs, text):
    slow, fast = (four[kind, "basic"](text).input_ids for kind in BOTH)
    assert slow == fast == theirs(text).input_ids


def test_basic_agrees_on_every_character(four, theirs):
    texts = [
        "".join(f"a{chr(x)}b " for x in range(start, start + 64)) for start in range(0, 0xD800, 64)
    ]
    texts += [f"a{chr(x)}b" for x in range(0xE000, 0x110000, 301)]
    expected = theirs(texts).input_ids
    assert four[BOTH[0], "basic"](texts).input_ids == expected


WORDS = """the old Man I he'll it's don't can't cannot Mr. Mrs. Smith's dogs' a.m. 10 1,234.56
U.S. St. we've You're they'd o'clock John's "Well," said ‘So’ “No!” end. Why? yes; (perhaps) mid-day
— … !!! ... No. his' him. A. B. Co. mass. Mass. isn't ain't 'tis 'Tis: £5 $10 20% and/or * _it_ café
naïve Ph.D. 7:30pm 10pm.""".split()
BOOKISH = st.lists(st.sampled_from(WORDS)).flatmap(
    lambda words: st.lists(
        st.sampled_from([" ", "\n", "\n\n", "  "]), min_size=len(words), max_size=len(words)
    ).map(lambda gaps: "".join(x for pair in zip(words, gaps, strict=True) for x in pair))
)


@given(BOOKISH)
@settings(max_examples=200, deadline=None)
def test_original_slow_and_fast_agree_on_text_like_that_of_books(four, text):
    assert four[BOTH[0], "original"](text).input_ids == four[BOTH[1], "original"](text).input_ids


@given(st.text("-~/|. a", max_size=12))
@settings(max_examples=300, deadline=None)
def test_runs_of_marks_are_cut_as_their_plain_rule_says(text):
    plain = r"-++\K(?=\S)|~++\K(?=\S)|/++\K(?=\S)|\|++\K(?=\S)|\.\.++\K(?=\S)"
    found, expected = (
        normalizers.Replace(Regex(rule), "_").normalize_str(text)
        for rule in (tokenizer_rules.AFTER["run of signs"], plain)
    )
    assert found == expected


CHARACTERS = "ab eE.é'日\n\tA_½‿\u200b\u0301<>\x1c\xa0"
VOCAB = {"<unk>": 0, "a</w>": 1, "b</w>": 2, "e": 3, "ea</w>": 4, "a": 5}
ADDED = st.builds(
    AddedToken,
    st.text(CHARACTERS, min_size=1, max_size=4),
    **{name: st.booleans() for name in FLAGS},
)


@given(st.lists(ADDED, min_size=1, max_size=4), st.data())
@settings(max_examples=150, deadline=None)
def test_added_tokens_mean_the_same_to_slow_fast_and_transformers(tokens, data):
    ours = [kind(VOCAB, [("e", "a</w>")], "basic") for kind in BOTH]
    theirs, kept = transformers.OpenAIGPTTokenizer(vocab=VOCAB, merges=[("e", "a</w>")]), []
    for token in tokens:
        try:
            assert ours[0].add_tokens(token) == ours[1].add_tokens(token)
        except ValueError:  # nothing of it is left in a text
            continue
        theirs.add_tokens([token])
        kept += [token.content, token.content.upper()]
    parts = st.one_of(st.sampled_from(CHARACTERS), st.sampled_from([*kept, " "]))
    for text in data.draw(
        st.lists(st.lists(parts, max_size=12).map("".join), min_size=1, max_size=5)
    ):
        assert [one.encode(text) for one in ours] == [theirs(text).input_ids] * 2
    for one in ours:
        assert repr(one.added_tokens_decoder) == repr(theirs.added_tokens_decoder)


NAMES = ["Smith", "New York", "sea-side", "mill", "café", "u.s.", "the", "Ox"]


@given(st.lists(st.sampled_from(NAMES), unique=True, min_size=1), BOOKISH, st.data())
@settings(max_examples=100, deadline=None)
def test_plain_tokens_are_found_alike_in_the_original_pipeline(four, names, text, data):
    flags = data.draw(st.fixed_dictionaries({x: st.booleans() for x in FLAGS[:3]}))
    for name in data.draw(st.lists(st.sampled_from([*NAMES, "NEW  YORK", "mills", "CAFÉ,"]))):
        text += data.draw(st.sampled_from([" ", "\n", "", "“"])) + name
    ids = []
    for kind in BOTH:
        tokenizer = kind(four[kind, "original"].vocab, [], "original")
        tokenizer.add_tokens([AddedToken(name, **flags) for name in names])
        ids.append(tokenizer.encode(text))
    assert ids[0] == ids[1]


# -- the interface

PAIRS = [("the old man of the sea", "a dog"), ("a", "a dog in the house by the sea"), ("", "b")]
CUT = {"text": PAIRS, "truncation": True}
OVER = {"return_overflowing_tokens": True, "truncation": True}
LONG = "the old man of the sea and a dog in the house"
CALLS = [
    {"text": "the old man", "text_pair": "a dog"},
    {"text": PAIRS},
    {"text": ["the", "old", "man"], "is_split_into_words": True},
    {"text": [["the", "old"], ["man"]], "is_split_into_words": True},
    {"text": [(["the"], ["man"]), (["a", "b"], ["c"])], "is_split_into_words": True},
    {"text": "the old man", "return_special_tokens_mask": True, "return_token_type_ids": True},
    {"text": "the old man", "return_attention_mask": False},
    {"text": ["the old", "a"], "padding": True},
    {"text": ["the old", "a"], "padding": "max_length", "max_length": 5, "pad_to_multiple_of": 4},
    {"text": ["the old", "a"], "padding": True, "padding_side": "left", "return_length": True},
    {"text": "the old man", "return_length": True, "verbose": False},
    {"text": PAIRS, "padding": True, "return_token_type_ids": True},
    {"text": PAIRS, "padding": "longest", "return_special_tokens_mask": True},
    {"text": PAIRS, "padding": True, "return_offsets_mapping": True},
    {"text": "the old man", "max_length": 2},
    {"text": "the old man", "truncation": True, "max_length": 2, "padding": "max_length"},
    *(CUT | {"max_length": n} for n in range(1, 10)),
    {"text": PAIRS[:1], "truncation": "only_first", "max_length": 5},
    {"text": PAIRS[1:2], "truncation": "only_second", "max_length": 5},
    OVER | {"text": LONG, "max_length": 5},
    OVER | {"text": [LONG, "a"], "max_length": 5, "stride": 2, "padding": "max_length"},
    OVER
    | {
        "text": "a dog",
        "text_pair": LONG,
        "truncation": "only_second",
        "max_length": 6,
        "stride": 1,
    },
]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("call", CALLS)
@every_kind
def test_a_call_gives_what_transformers_gives(four, theirs, kind, call, side):
    ours = copy.copy(four[kind, "basic"])
    ours.truncation_side = theirs.truncation_side = side
    found, expected = ours(**call), theirs(**call)
    theirs.truncation_side = "right"
    assert dict(found) == dict(expected)
    for row in range(len(expected.encodings)):
        for name in ("tokens", "word_ids", "sequence_ids"):
            assert getattr(found, name)(row) == getattr(expected, name)(row)
        assert found[row].offsets == expected[row].offsets
        assert found.char_to_token(row, 2) == expected.char_to_token(row, 2)


@every_kind
def test_tokens_and_ids_go_as_in_transformers(four, theirs, kind):
    ours, text = four[kind, "basic"], "the <pad> X-Ray's <unk> x-ray isn't <UNK>"
    assert ours.tokenize(text) == theirs.tokenize(text)
    assert ours.tokenize("the old", pair="man") == theirs.tokenize("the old", pair="man")
    ids = theirs(text).input_ids
    for skip in (True, False):
        expected = theirs.decode(ids, skip_special_tokens=skip)
        assert ours.decode(ids, skip_special_tokens=skip) == expected
        tokens = theirs.convert_ids_to_tokens(ids, skip_special_tokens=skip)
        assert ours.convert_ids_to_tokens(ids, skip_special_tokens=skip) == tokens
    assert ours.batch_decode([ids, ids[:2]]) == theirs.batch_decode([ids, ids[:2]])
    assert ours.decode(torch.tensor(ids)) == ours.decode(np.array(ids)) == theirs.decode(ids)
    tokens = ["the</w>", "<pad>", "?!"]
    assert ours.convert_tokens_to_ids(tokens) == theirs.convert_tokens_to_ids(tokens)
    assert ours.convert_tokens_to_string(tokens) == theirs.convert_tokens_to_string(tokens)


def test_attributes_are_those_of_transformers(four, theirs):
    ours = four[BOTH[0], "basic"]
    assert ours.get_vocab() == theirs.get_vocab() and len(ours) == len(theirs)
    assert ours.get_added_vocab() == theirs.get_added_vocab()
    for (
        name
    ) in "all_special_tokens all_special_ids special_tokens_map added_tokens_encoder".split():
        assert getattr(ours, name) == getattr(theirs, name)
    for name in ("vocab_size", "pad_token", "pad_token_id", "eos_token", "eos_token_id", "is_fast"):
        assert name == "is_fast" or getattr(ours, name) == getattr(theirs, name)
    assert ours.num_special_tokens_to_add(pair=True) == theirs.num_special_tokens_to_add(pair=True)


CLEANED = ["the dogs ' house", "it 's , is n't it ?", "a . b ! ' c ' we 've we 're i 'm"]


@pytest.mark.parametrize("text", CLEANED)
def test_clean_up_is_that_of_transformers(theirs, text):
    assert load().clean_up_tokenization(text) == theirs.clean_up_tokenization(text)


@pytest.mark.parametrize("make", [torch.tensor, np.array, list])
@pytest.mark.parametrize("tensors", ["pt", "np", None])
def test_pad_gives_what_transformers_gives(four, theirs, make, tensors):
    for encoded in (
        [{"input_ids": make([1, 2])}, {"input_ids": make([1])}],
        {"input_ids": [[1, 2], [3]]},
        {"input_ids": [[1, 2], [3, 4]], "attention_mask": [[1, 1], [0, 1]], "labels": [0.5, 2.5]},
        *([{"input_ids": make([1, 2])}] if make is torch.tensor else []),  # theirs fails on numpy
    ):
        call = {"padding": "max_length", "max_length": 3, "return_tensors": tensors}
        found, expected = (x.pad(encoded, **call) for x in (four[BOTH[0], "basic"], theirs))
        assert found.keys() == expected.keys()
        for name in found:
            assert type(found[name]) is type(expected[name])
            assert np.array(found[name]).tolist() == np.array(expected[name]).tolist()
    with pytest.raises(ValueError, match="no input_ids to pad; there are: labels"):
        four[BOTH[0], "basic"].pad([{"labels": [1]}])


@pytest.mark.parametrize("masked", [True, False])
def test_the_collators_of_transformers_take_our_tokenizer(masked):
    found = []
    for tokenizer in (
        load(BOTH[1], "basic"),
        transformers.OpenAIGPTTokenizer.from_pretrained(TINY),
    ):
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
    tokenizer = load(kind, pipeline)
    add_tokens(tokenizer)
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
TOKEN = {"lstrip": True, "rstrip": False, "normalized": False, "single_word": False}


@every_kind
@pytest.mark.parametrize(
    "files",
    [
        {"added_tokens": OLD},
        {"special_tokens_map": {"unk_token": "<unk>", "pad_token": "<pad>"}},
        {
            "added_tokens": OLD,
            "special_tokens_map": {"pad_token": "<pad>", "cls_token": {"content": "<Q>"} | TOKEN},
        },
        {
            "added_tokens": OLD,
            "tokenizer_config": {"cls_token": "<Q>", "pad_token": "[CLS]"},
            "special_tokens_map": {"pad_token": "<pad>"},
        },
        {"special_tokens_map": {"sep_token": {"content": "<Q>"} | TOKEN}},
    ],
)
def test_a_tokenizer_of_older_transformers_is_read(kind, files, tmp_path):
    load().save_vocabulary(tmp_path)
    for name, page in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(page))
    theirs = transformers.OpenAIGPTTokenizer.from_pretrained(tmp_path)
    ours, text = kind.from_pretrained(tmp_path, "basic"), "king <pad> said [CLS] to <Q> the <q> man"
    assert ours.encode(text) == theirs.encode(text) and len(ours) == len(theirs) > 8192
    for role in ("pad_token", "cls_token", "sep_token"):
        assert getattr(ours, role) == getattr(theirs, role)
