"""The tokenizers: golden strings, slow, fast and transformers compared, interface, bad files."""

import copy
import json
import pickle
import random
import re
import unicodedata
import warnings

import numpy as np
import pytest
import torch
import transformers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, normalizers

from minigpt import OpenAIGPTTokenizer, OpenAIGPTTokenizerFast
from minigpt import tokenizer as module
from tests import parity

official = pytest.mark.skipif(not parity.OFFICIAL.is_dir(), reason=parity.NO_OFFICIAL)
TINY = parity.ROOT / "minigpt" / "assets" / "tiny"
BOTH = (OpenAIGPTTokenizer, OpenAIGPTTokenizerFast)
FILES = ["merges.txt", "tokenizer.json", "tokenizer_config.json", "vocab.json"]


def load(kind=OpenAIGPTTokenizer, pipeline="original", **changes):
    return kind.from_pretrained("tiny", text_pipeline=pipeline, **changes)


@pytest.fixture(scope="module")
def tiny():
    return load()


@pytest.fixture(scope="module")
def four():
    """Each class in each pipeline, with a pad token and an added one."""
    made = {(kind, name): load(kind, name) for kind in BOTH for name in module.TEXT_PIPELINES}
    for tokenizer in made.values():
        add_pieces(tokenizer)
    return made


def add_pieces(tokenizer):
    tokenizer.add_special_tokens({"pad_token": "<pad>", "cls_token": "<cls>"})
    tokenizer.add_tokens(["Zeppelin", "x-ray"])


@pytest.fixture(scope="module")
def theirs():
    tokenizer = transformers.OpenAIGPTTokenizer.from_pretrained(TINY)
    add_pieces(tokenizer)
    return tokenizer


# --- references


@official
@pytest.mark.parametrize("pipeline", ["original", "basic"])
def test_every_golden_string_gives_the_ids_of_the_reference(pipeline):
    assert parity.tokenizer_agreement(pipeline) == (40, 40)


@official
def test_fast_gives_transformers_ids_on_every_golden_string():
    assert parity.tokenizer_agreement("basic", OpenAIGPTTokenizerFast) == (40, 40)


@official
def test_fast_misses_openais_ids_only_where_its_notebook_says():
    cases = json.loads((parity.GOLDEN / "tokenizer_original.json").read_text(encoding="utf-8"))[
        "cases"
    ]
    fast = OpenAIGPTTokenizerFast.from_pretrained(parity.OFFICIAL)
    missed = [case["text"] for case in cases if fast.encode(case["text"]) != case["ids"]]
    assert [text.split()[0] for text in missed] == ["schÃ¶n", "ﬁne", "ＦＵＬＬ", "İstanbul"]


def golden_words(name):
    cases = json.loads((parity.GOLDEN / f"tokenizer_{name}.json").read_text(encoding="utf-8"))[
        "cases"
    ]
    return [(case["text"], "".join(case["tokens"]).split("</w>")[:-1]) for case in cases]


@pytest.mark.parametrize("text, words", golden_words("original"))
def test_the_original_pipeline_splits_as_openai_does(text, words):
    assert module.original_pipeline()(text) == words


@pytest.mark.parametrize(
    "text", ["a\x0cb", "ΟΔΟΣ", "a\u2028b", "x\U0002b820y", "e\u0301 ﬁ \u200b."]
)
def test_the_basic_pipeline_splits_as_transformers_does(text):
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    normal = BertNormalizer(lowercase=True).normalize_str(text)
    expected = [word for word, _ in BertPreTokenizer().pre_tokenize_str(normal)]
    assert module.basic_pipeline()(text) == expected


ANY_TEXT = st.text(st.characters())  # lone surrogates and NUL included


def is_settled(letter: str) -> bool:
    """Python and the Rust library have tables of different years; these letters are in both."""
    return unicodedata.ucd_3_2_0.category(letter) == unicodedata.category(letter)


KNOWN = st.text(st.characters(exclude_categories=["Cn", "Cs"]).filter(is_settled))


@given(KNOWN)
@example("<unk> a<pad>b ZEPPELIN x-ray")
@settings(max_examples=300, deadline=None)
def test_basic_slow_fast_and_transformers_agree_on_any_text(four, theirs, text):
    slow, fast = (four[kind, "basic"](text).input_ids for kind in BOTH)
    assert slow == fast == theirs(text).input_ids


WORDS = """the old Man I he'll it's don't can't cannot Mr. Mrs. Smith's dogs' a.m. 10 1,234.56
U.S. St. we've You're they'd o'clock John's "Well," said ‘So’ “No!” end. Why? yes; (perhaps) mid-day
— … !!! ... No. his' him. A. B. Co. mass. Mass. isn't ain't 'tis 'Tis: £5 $10 20% and/or * _it_ café
naïve""".split()
BOOKISH = st.lists(st.sampled_from(WORDS)).flatmap(
    lambda words: st.lists(
        st.sampled_from([" ", "\n", "\n\n", "  "]), min_size=len(words), max_size=len(words)
    ).map(lambda gaps: "".join(x for pair in zip(words, gaps, strict=True) for x in pair))
)


@given(BOOKISH)
@settings(max_examples=200, deadline=None)
def test_original_slow_and_fast_agree_on_text_like_that_of_books(four, text):
    assert four[BOTH[0], "original"](text).input_ids == four[BOTH[1], "original"](text).input_ids


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("pipeline", ["original", "basic"])
def test_no_text_breaks_a_tokenizer(four, kind, pipeline):
    tokenizer = four[kind, pipeline]

    @given(ANY_TEXT)
    @example("\0\ud800a\udfff")
    @settings(max_examples=150, deadline=None)
    def check(text):
        ids = tokenizer(text).input_ids
        assert all(0 <= index < len(tokenizer) for index in ids)
        assert tokenizer(text).input_ids == ids  # the memory of words changes nothing
        assert isinstance(tokenizer.decode(ids), str)

    check()


@given(KNOWN)
@settings(max_examples=100, deadline=None)
def test_offsets_are_places_in_the_text_in_order(four, text):
    for pipeline in module.TEXT_PIPELINES:
        found = four[BOTH[1], pipeline](text, return_offsets_mapping=True)
        begins = [begin for begin, _ in found.offset_mapping]
        assert begins == sorted(begins)  # one letter may be several pieces: equal begins
        assert all(0 <= begin <= end <= len(text) for begin, end in found.offset_mapping)


def test_offsets_show_the_words(four):
    text = "“I can't,” said Mr. Smith—softly."
    found = four[BOTH[1], "original"](text, return_offsets_mapping=True)
    shown = [text[begin:end] for begin, end in found.offset_mapping]
    assert "".join(shown) == text.replace(" ", "")
    assert shown[1:4] == ["I", "ca", "n't"]


# --- the interface, against transformers

PAIRS = [("the old man of the sea", "a dog"), ("a", "a dog in the house by the sea"), ("", "b")]
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
    {"text": PAIRS, "padding": True, "return_token_type_ids": True},
    {"text": PAIRS, "padding": "longest", "return_special_tokens_mask": True},
    {"text": "the old man", "max_length": 2},
    {"text": "the old man", "truncation": True, "max_length": 2, "padding": "max_length"},
    *({"text": PAIRS, "truncation": True, "max_length": n} for n in range(1, 10)),
    {"text": PAIRS[:1], "truncation": "only_first", "max_length": 5},
    {"text": PAIRS[1:2], "truncation": "only_second", "max_length": 5},
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", BOTH)
def test_a_call_gives_what_transformers_gives(four, theirs, kind, call):
    assert dict(four[kind, "basic"](**call)) == dict(theirs(**call))


@pytest.mark.parametrize("kind", BOTH)
def test_pieces_and_ids_go_as_in_transformers(four, theirs, kind):
    ours, text = four[kind, "basic"], "the <pad> X-Ray's <unk> x-ray isn't <UNK>"
    assert ours.tokenize(text) == theirs.tokenize(text)
    ids = theirs(text).input_ids
    for skip in (True, False):
        assert ours.decode(ids, skip_special_tokens=skip) == theirs.decode(
            ids, skip_special_tokens=skip
        )
        tokens = theirs.convert_ids_to_tokens(ids, skip_special_tokens=skip)
        assert ours.convert_ids_to_tokens(ids, skip_special_tokens=skip) == tokens
    assert ours.batch_decode([ids, ids[:2]]) == theirs.batch_decode([ids, ids[:2]])
    assert ours.decode(torch.tensor(ids)) == ours.decode(np.array(ids)) == theirs.decode(ids)
    assert ours.convert_tokens_to_ids(["the</w>", "?!"]) == [194, 0]
    assert ours.get_vocab() == theirs.get_vocab() and len(ours) == len(theirs)
    assert ours.get_added_vocab() == theirs.get_added_vocab()
    assert ours.all_special_tokens == theirs.all_special_tokens
    assert ours.all_special_ids == theirs.all_special_ids
    assert ours.special_tokens_map == theirs.special_tokens_map
    assert (ours.vocab_size, ours.pad_token, ours.pad_token_id) == (8192, "<pad>", 8192)
    assert (ours.eos_token, ours.eos_token_id) == (None, None)


@pytest.mark.parametrize("tensors", ["pt", "np"])
def test_pad_and_tensors_are_those_of_transformers(four, theirs, tensors):
    for encoded in ({"input_ids": [[1, 2], [3]]}, [{"input_ids": [1, 2]}, {"input_ids": [3]}]):
        ours = four[BOTH[0], "basic"].pad(encoded, return_tensors=tensors)
        expected = theirs.pad(encoded, return_tensors=tensors)
        assert ours.keys() == expected.keys()
        for name in ours:
            assert type(ours[name]) is type(expected[name])
            assert ours[name].tolist() == expected[name].tolist()
    assert four[BOTH[0], "basic"]("the old", return_tensors=tensors).input_ids.shape == (1, 2)


def test_padding_to_the_left_is_a_choice(four):
    tokenizer = pickle.loads(pickle.dumps(four[BOTH[0], "basic"]))
    tokenizer.padding_side = "left"
    batch = tokenizer(["the old", "a"], padding=True)
    assert batch.input_ids[1] == [tokenizer.pad_token_id, 101] and batch.attention_mask[1] == [0, 1]


@pytest.mark.parametrize("kind", BOTH)
def test_an_added_piece_is_never_split_and_a_second_time_is_not_new(kind):
    for pipeline in module.TEXT_PIPELINES:
        tokenizer = load(kind, pipeline)
        count = tokenizer.add_special_tokens({"additional_special_tokens": ["<q: 'a'>", "[S]"]})
        assert count == 2 and tokenizer.add_tokens("[S]") == 0
        assert tokenizer.tokenize("so<q: 'a'>the[S]") == ["so</w>", "<q: 'a'>", "the</w>", "[S]"]
        assert tokenizer.decode([194, 8192, 194], skip_special_tokens=True) == "the the"


def test_roles_can_be_given_to_pieces_that_exist(tiny):
    tokenizer = load(pad_token="<unk>", eos_token="<end>")
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, len(tokenizer)) == (0, 8192, 8193)
    with pytest.raises(ValueError, match=r"sep_token='<nope>'.*add_special_tokens"):
        tokenizer.sep_token = "<nope>"
    tokenizer.pad_token = None
    assert tokenizer.pad_token_id is None


# --- disk


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("pipeline", ["original", "basic"])
def test_a_round_trip_through_pickle_and_disk(four, kind, pipeline, tmp_path):
    tokenizer, text = four[kind, pipeline], "Mr. Zeppelin isn't<pad>\nhere, i'm <unk> x-ray."
    assert pickle.loads(pickle.dumps(tokenizer)) == tokenizer
    assert sorted(tokenizer.save_pretrained(tmp_path)) == FILES
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    again = kind.from_pretrained(tmp_path)
    assert again == tokenizer and again(text).input_ids == tokenizer(text).input_ids
    (tmp_path / "vocab.json").unlink(), (tmp_path / "merges.txt").unlink()
    assert kind.from_pretrained(tmp_path) == tokenizer  # tokenizer.json holds all


def test_tokenizers_of_other_classes_pipelines_or_pieces_are_not_equal(four, tiny):
    assert len(set(four.values())) == 4 and load() == tiny
    assert load(pad_token="<unk>") != tiny and load(model_max_length=9) != tiny


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("pipeline", ["original", "basic"])
def test_transformers_reads_what_we_write(four, kind, pipeline, tmp_path):
    tokenizer, text = four[kind, pipeline], "Mr. Zeppelin isn't<pad>\nhere, i'm an x-ray."
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "openai-gpt"}', encoding="utf-8")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs(text).input_ids == tokenizer(text).input_ids
    assert (theirs.pad_token, len(theirs)) == ("<pad>", len(tokenizer))


@pytest.mark.parametrize("kind", BOTH)
def test_we_read_what_transformers_writes(theirs, kind, tmp_path):
    theirs.save_pretrained(tmp_path)
    assert not (tmp_path / "vocab.json").exists()
    ours = kind.from_pretrained(tmp_path)
    text = "Mr. Zeppelin isn't<pad>\nhere, i'm <unk>."
    assert ours.text_pipeline == "basic" and ours(text).input_ids == theirs(text).input_ids
    assert kind.from_pretrained(tmp_path, text_pipeline="original").text_pipeline == "original"


def damage(path, change):
    whole = json.loads(path.read_text(encoding="utf-8"))
    change(whole)
    path.write_text(json.dumps(whole), encoding="utf-8")


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("vocab.json", lambda v: v.update({"new": 5}), r"vocab\.json.*both have the number 5"),
        ("vocab.json", lambda v: v.pop("the</w>"), r"none has the number 194"),
        (
            "tokenizer_config.json",
            lambda c: c["added_tokens_decoder"].update({"9000": {"content": "<far>"}}),
            "'<far>' has the id 9000, which leaves a hole",
        ),
        ("tokenizer.json", lambda t: t["model"]["vocab"].pop("<unk>"), r"tokenizer\.json"),
        ("tokenizer.json", lambda t: t["model"].update(type="Unigram"), "another kind"),
    ],
)
@pytest.mark.parametrize("kind", BOTH)
def test_a_damaged_file_is_named(tiny, tmp_path, kind, name, change, message):
    tiny.save_pretrained(tmp_path)
    damage(tmp_path / name, change)
    if name == "tokenizer.json":
        (tmp_path / "vocab.json").unlink()
    with pytest.raises(ValueError, match=message):
        kind.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "tokenizer_config.json"])
def test_a_file_cut_short_is_named(tiny, tmp_path, name):
    tiny.save_pretrained(tmp_path)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-9])
    with pytest.raises(ValueError, match=name):
        OpenAIGPTTokenizer.from_pretrained(tmp_path)


def test_a_merge_of_an_unknown_piece_is_named_with_its_line(tiny, tmp_path):
    tiny.save_pretrained(tmp_path)
    with (tmp_path / "merges.txt").open("a", encoding="utf-8") as file:
        file.write("zz qq</w>\n")
    with pytest.raises(ValueError, match=r"merges\.txt, line \d+: .*'qq</w>'"):
        OpenAIGPTTokenizer.from_pretrained(tmp_path)


# --- errors


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    "call, error, message",
    [
        ({"text": 5}, TypeError, "cannot encode 5"),
        ({"text": ["a", None]}, TypeError, "text 1 is None"),
        ({"text": ["a"], "is_split_into_words": True, "text_pair": ["b", 3]}, TypeError, "text 0"),
        ({"text": ["a", "b"], "text_pair": ["c"]}, ValueError, "2 texts, but 1 second"),
        ({"text": "a", "padding": "nope"}, ValueError, "padding='nope'.*longest"),
        ({"text": "a", "truncation": "nope"}, ValueError, "truncation='nope'.*only_first"),
        ({"text": "a", "return_tensors": "tf"}, ValueError, "return_tensors='tf'"),
        ({"text": ["a", "a b"], "return_tensors": "pt"}, ValueError, "1 to 2 tokens.*padding=True"),
        ({"text": ["a", "a b"], "padding": True}, ValueError, "tokenizer.pad_token = "),
        (
            {"text": "a b", "text_pair": "c", "truncation": "only_second", "max_length": 2},
            ValueError,
            "cannot shorten 2 and 1 tokens to 2",
        ),
    ],
)
def test_a_bad_call_is_refused_in_words(kind, call, error, message):
    with pytest.raises(error, match=message):
        load(kind, "basic")(**call)


def test_what_cannot_be_done_says_so(tiny):
    with pytest.raises(NotImplementedError, match="OpenAIGPTTokenizerFast"):
        tiny("a", return_offsets_mapping=True)
    with pytest.raises(ValueError, match="id 9999, but this tokenizer has ids 0 to 8191"):
        tiny.decode([9999])
    with pytest.raises(ValueError, match="no role 'start_token'; choose from bos_token"):
        tiny.add_special_tokens({"start_token": "<s>"})
    with pytest.raises(ValueError, match="the vocabulary lacks '<unk>'"):
        OpenAIGPTTokenizer({"a": 0}, [], "basic")


def test_decode_gives_the_words_back(tiny):
    text = "“I don't know,” said Mr. Smith.\nWhy?"
    expected = '" i do n\'t know , " said mr. smith . \n why ?'
    assert tiny.decode(tiny.encode(text)) == expected
    cleaned = tiny.decode(tiny.encode(text), clean_up_tokenization_spaces=True)
    assert cleaned == '" i don\'t know, " said mr. smith. \n why?'


@given(st.text("abcdefghijklmnopqrstuvwxyz \n,;!?"))
@settings(max_examples=100, deadline=None)
def test_decode_undoes_encode_but_for_spaces(four, text):
    """In text of small letters and signs that stand alone nothing but spaces is lost."""
    for kind in BOTH:
        tokenizer = four[kind, "original"]
        back = tokenizer.decode(tokenizer.encode(text))
        squeezed = "".join(text.split(" ")).strip("\n")
        while "\n\n" in squeezed:
            squeezed = squeezed.replace("\n\n", "\n")
        assert "".join(back.split(" ")) == squeezed


def test_decode_keeps_a_line_break_at_the_end(tiny):
    ids = [*tiny.encode("the end ."), tiny.vocab["\n</w>"]]
    assert tiny.decode(ids) == "the end . \n"


# --- the missing extra


@pytest.fixture
def without_extra(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    module.original_pipeline.cache_clear()


def test_a_missing_extra_is_named_with_the_way_out(without_extra):
    message = r"needs ftfy and spacy: pip install '\.\[original\]'"
    with pytest.raises(ImportError, match=message):
        OpenAIGPTTokenizer({"<unk>": 0}, [], text_pipeline="original")


def test_without_the_extra_there_is_one_warning_and_the_basic_pipeline(without_extra):
    with pytest.warns(UserWarning, match=r"pip install '\.\[original\]'") as caught:
        tokenizer = OpenAIGPTTokenizer.from_pretrained("tiny")
    assert len(caught) == 1 and tokenizer.text_pipeline == "basic"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tokenizer.encode("it's late")


def test_the_fast_tokenizer_needs_no_extra(without_extra):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokenizer = OpenAIGPTTokenizerFast.from_pretrained("tiny")
    assert tokenizer.text_pipeline == "original"
    assert tokenizer.tokenize("I don't.\n") == ["i</w>", "do</w>", "n't</w>", ".</w>"]


@pytest.mark.parametrize("kind", BOTH)
def test_an_unknown_pipeline_is_refused(kind):
    with pytest.raises(ValueError, match="text_pipeline='fast'.*original, basic"):
        kind({}, [], text_pipeline="fast")


def test_random_texts_of_awkward_signs(four, theirs):
    rng, signs = random.Random(1), "aeioutsAE 's.,\n\t“”…éß日本½©\u200d\u0301İ<>unk😀"
    texts = ["".join(rng.choices(signs, k=rng.randint(0, 30))) for _ in range(3000)]
    slow, fast = (four[kind, "basic"](texts).input_ids for kind in BOTH)
    assert slow == fast == theirs(texts).input_ids


# --- found by an attacking reader


@pytest.mark.parametrize("kind", BOTH)
def test_added_pieces_whose_letters_fold_in_odd_ways(kind):
    tokenizer = load(kind, "basic")
    tokenizer.add_tokens(["k", "s", "ısta", "İ"])
    ids = tokenizer("k \u212a K ſ s ISTA ista İ i̇ i I ı").input_ids
    assert all(isinstance(index, int) for index in ids)


@pytest.mark.parametrize("kind", BOTH)
def test_the_unknown_piece_cannot_be_changed(kind):
    tokenizer = load(kind)
    with pytest.raises(ValueError, match="unk_token is '<unk>' for good"):
        tokenizer.unk_token = "a"
    tokenizer.unk_token = "<unk>"


@pytest.mark.parametrize("kind", BOTH)
def test_a_role_does_not_change_how_a_piece_is_found(kind, tmp_path):
    tokenizer = load(kind, "basic")
    tokenizer.add_tokens("Foo")
    tokenizer.pad_token = "Foo"
    tokenizer.save_pretrained(tmp_path)
    again = kind.from_pretrained(tmp_path)
    assert again == tokenizer
    assert again("foo FOO").input_ids == tokenizer("foo FOO").input_ids == [8192, 8192]


def test_thousands_of_added_pieces(tiny):
    tokenizer = load(pipeline="basic")
    assert tokenizer.add_tokens([f"<t{number}>" for number in range(3000)]) == 3000
    assert tokenizer("a<t2999>b<T7>").input_ids[1::2] == [8192 + 2999, 8192 + 7]


def test_decode_takes_what_a_call_returns_and_refuses_the_rest(tiny):
    assert tiny.decode(tiny("the old")) == "the old"
    assert tiny.batch_decode([194, 553]) == ["the", "old"] and tiny.batch_decode([]) == []
    for wrong in ("194", 194.5, None, ["a"]):
        with pytest.raises(TypeError, match="is no id; pass whole numbers"):
            tiny.decode(wrong)


def test_pad_takes_one_encoding(four, theirs):
    ours = four[BOTH[1], "basic"]
    call = {"encoded_inputs": {"input_ids": [1, 2]}, "padding": "max_length", "max_length": 4}
    assert dict(ours.pad(**call)) == dict(theirs.pad(**call))
    with pytest.raises(ValueError, match="no input_ids to pad; there are: labels"):
        ours.pad([{"labels": [1]}])


@pytest.mark.parametrize("masked", [True, False])
def test_the_collators_of_transformers_take_our_tokenizer(masked):
    found = []
    for load_one in (load, transformers.OpenAIGPTTokenizer.from_pretrained):
        tokenizer = load(BOTH[1], "basic") if load_one is load else load_one(TINY)
        tokenizer.add_special_tokens({"pad_token": "<pad>", "mask_token": "<mask>"})
        chance = {"mlm_probability": 1.0} if masked else {}
        collate = transformers.DataCollatorForLanguageModeling(tokenizer, mlm=masked, **chance)
        torch.manual_seed(0)
        batch = collate([tokenizer("the"), tokenizer("the old man")])
        found.append({name: values.tolist() for name, values in batch.items()})
    assert found[0] == found[1]


@pytest.mark.parametrize("change", [[], None, {"x": {}}, {"9": "a"}, {"8192": {"content": 5}}])
def test_settings_of_the_wrong_kind_are_named(tiny, tmp_path, change):
    tiny.save_pretrained(tmp_path)
    damage(tmp_path / "tokenizer_config.json", lambda c: c.update(added_tokens_decoder=change))
    with pytest.raises(ValueError, match="tokenizer_config.json( is not as such a file|: 'a' has)"):
        OpenAIGPTTokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize("change", [{"extra_special_tokens": "ab"}, {"pad_token": 5}])
def test_pieces_of_the_wrong_kind_are_named(tiny, tmp_path, change):
    tiny.save_pretrained(tmp_path)
    damage(tmp_path / "tokenizer_config.json", lambda c: c.update(change))
    with pytest.raises(ValueError, match="tokenizer_config.json is not as such a file"):
        OpenAIGPTTokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize("change", [{"merges": None}, {"merges": [1]}, {"vocab": []}])
def test_a_tokenizer_json_of_the_wrong_kind_is_named(tiny, tmp_path, change):
    tiny.save_pretrained(tmp_path)
    (tmp_path / "vocab.json").unlink()
    damage(tmp_path / "tokenizer.json", lambda t: t["model"].update(change))
    with pytest.raises(ValueError, match=r"tokenizer\.json"):
        OpenAIGPTTokenizer.from_pretrained(tmp_path)


def test_unknown_changes_are_refused():
    with pytest.raises(TypeError, match="no setting foo"):
        load(foo=1)


@pytest.mark.parametrize("text", ["He took his Ph.D. in May.", "at 7:30pm he", "It was 10pm."])
def test_rules_for_figures_and_degrees(four, text):
    assert four[BOTH[0], "original"](text).input_ids == four[BOTH[1], "original"](text).input_ids


# --- added pieces: one meaning for slow, fast and transformers

LETTERS = "ab eE.é'日\n\tA_½‿\u200b\u0301<>\x1c\xa0"
WORDS_AND_PIECES = {"vocab": {"<unk>": 0, "a</w>": 1, "b</w>": 2, "e": 3, "ea</w>": 4, "a": 5}}
PIECE = st.builds(
    AddedToken,
    st.text(LETTERS, min_size=1, max_size=4),
    **{name: st.booleans() for name in module.FLAGS},
)


def tried(tokenizer, piece):
    try:
        return tokenizer.add_tokens(piece)
    except ValueError as error:
        return str(error)


@given(st.lists(PIECE, min_size=1, max_size=4), st.data())
@example([AddedToken("cafe")], None)
@settings(max_examples=300, deadline=None)
def test_added_pieces_mean_the_same_to_slow_fast_and_transformers(pieces, data):
    vocab = WORDS_AND_PIECES["vocab"]
    slow, fast = (kind(vocab, [("e", "a</w>")], "basic") for kind in BOTH)
    theirs = transformers.OpenAIGPTTokenizer(vocab=vocab, merges=[("e", "a</w>")])
    kept = []
    for piece in pieces:
        found = tried(slow, piece)
        assert found == tried(fast, piece)
        if not isinstance(found, str):
            theirs.add_tokens([piece])
            kept += [piece.content, piece.content.upper()]
    parts = st.one_of(st.sampled_from(LETTERS), st.sampled_from([*kept, " "]))
    texts = (
        ["a café CAFE\u0301 x"]
        if data is None
        else data.draw(st.lists(st.lists(parts, max_size=12).map("".join), min_size=1, max_size=5))
    )
    expected = [theirs(text).input_ids for text in texts]
    assert [slow.encode(text) for text in texts] == expected
    assert [fast.encode(text) for text in texts] == expected
    for ours in (slow, fast):
        assert {index: repr(x) for index, x in ours.added_tokens_decoder.items()} == {
            index: repr(x) for index, x in theirs.added_tokens_decoder.items()
        }


NAMES = ["Smith", "New York", "sea-side", "mill", "café", "u.s.", "the", "Ox"]


@given(st.lists(st.sampled_from(NAMES), unique=True, min_size=1), BOOKISH, st.data())
@settings(max_examples=200, deadline=None)
def test_plain_pieces_are_found_alike_in_the_original_pipeline(four, names, text, data):
    flags = data.draw(st.fixed_dictionaries({x: st.booleans() for x in module.FLAGS[:3]}))
    for name in data.draw(st.lists(st.sampled_from([*NAMES, "NEW  YORK", "mills", "CAFÉ,"]))):
        text += data.draw(st.sampled_from([" ", "\n", "", "“"])) + name
    ids = []
    for kind in BOTH:
        tokenizer = kind(four[kind, "original"].vocab, [], "original")
        tokenizer.add_tokens([AddedToken(name, **flags) for name in names])
        ids.append(tokenizer.encode(text))
    assert ids[0] == ids[1]


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("pipeline", ["original", "basic"])
def test_a_plain_piece_is_found_in_the_normal_form(kind, pipeline):
    tokenizer = load(kind, pipeline)
    tokenizer.add_tokens(["New York", AddedToken("Foo", normalized=False)])
    assert tokenizer.encode("NEW\tyork")[0] == 8192 and 8193 not in tokenizer.encode("foo")
    assert tokenizer.encode("a Foo")[-1] == 8193


@pytest.mark.parametrize("kind", BOTH)
def test_pieces_that_cannot_be_found_are_refused(kind):
    tokenizer = load(kind, "basic")
    tokenizer.add_tokens("<foo>")
    for piece, message in {
        "<FOO>": "'<FOO>' is looked for in the normal form, and looks like '<foo>' there",
        "\u200b": "nothing is left of it there",
        "": "'' cannot be added; pass whole letters",
        "a\ud800": "cannot be added; pass whole letters",
        AddedToken("\t", lstrip=True): "would swallow itself",
    }.items():
        with pytest.raises(ValueError, match=message):
            tokenizer.add_tokens(piece)
    with pytest.raises(TypeError, match="5 cannot be added"):
        tokenizer.add_tokens(5)
    assert len(tokenizer) == 8193 and tokenizer.add_tokens(AddedToken("<FOO>", special=True)) == 1


@pytest.mark.parametrize("kind", BOTH)
def test_a_second_time_changes_the_flags_and_frees_the_form(kind):
    tokenizer = load(kind, "basic")
    tokenizer.add_tokens("Foo")
    assert tokenizer.encode("foo") == [8192]
    assert tokenizer.add_special_tokens({"eos_token": "Foo"}) == 0
    assert 8192 not in tokenizer.encode("foo") and tokenizer.encode("Foo") == [8192]
    assert tokenizer.add_tokens("FOO") == 1 and tokenizer.encode("foo Foo") == [8193, 8192]


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("pipeline", ["original", "basic"])
def test_flags_survive_the_disk_and_transformers_reads_them(kind, pipeline, tmp_path):
    tokenizer = load(kind, pipeline)
    tokenizer.add_tokens([AddedToken("mill", single_word=True), AddedToken("<s>", rstrip=True)])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<q>"], "pad_token": "the</w>"})
    tokenizer.truncation_side = "left"
    text = "mill mills <s>  the<q>the</w>"
    tokenizer.save_pretrained(tmp_path)
    again, theirs = (x.from_pretrained(tmp_path) for x in (kind, transformers.AutoTokenizer))
    assert again == tokenizer and again.truncation_side == "left"
    assert again.encode(text) == tokenizer.encode(text) == theirs(text).input_ids
    assert tokenizer.encode(text).count(8192) == 1 and tokenizer.encode(text)[-1] == 194
    assert theirs.all_special_tokens == ["<unk>", "the</w>", "<q>"]
    assert set(theirs.all_special_tokens) == set(tokenizer.all_special_tokens)
    for name in ("tokenizer_config.json", "vocab.json"):  # each file alone will do
        tokenizer.save_pretrained(tmp_path)
        (tmp_path / name).unlink()
        assert kind.from_pretrained(tmp_path, pipeline).encode(text) == tokenizer.encode(text)


@pytest.mark.parametrize("kind", BOTH)
def test_a_role_makes_a_piece_of_the_vocabulary_special_at_once_and_after_loading(kind, tmp_path):
    by_hand, by_load = load(kind, "basic"), load(kind, "basic", pad_token="the</w>")
    by_hand.pad_token = "the</w>"
    by_hand.save_pretrained(tmp_path)
    theirs = transformers.OpenAIGPTTokenizer.from_pretrained(TINY, pad_token="the</w>")
    for ours in (by_hand, by_load, kind.from_pretrained(tmp_path)):
        assert ours == by_hand and ours("the the</w> a").input_ids == [194, 194, 101]
    assert theirs("the the</w> a").input_ids == [194, 194, 101]
    assert by_hand.decode([194, 101], skip_special_tokens=True) == "a"


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("make_copy", [copy.copy, copy.deepcopy])
def test_a_copy_shares_nothing(kind, make_copy):
    tokenizer = load(kind, "basic")
    other = make_copy(tokenizer)
    assert other == tokenizer
    other.add_tokens("mill"), other.cast("pad_token", "<unk>")
    assert tokenizer.encode("mill") != [8192] == other.encode("mill")
    assert len(tokenizer) == 8192 and tokenizer.pad_token is None


# --- more of the interface of transformers


@pytest.mark.parametrize("kind", BOTH)
def test_more_arguments_give_what_transformers_gives(four, theirs, kind):
    ours, both = copy.copy(four[kind, "basic"]), (["the old man", "a"], "the old man")
    for side in ("left", "right"):
        ours.truncation_side = theirs.truncation_side = side
        for call in (
            {"text": both[0], "padding": True, "padding_side": "left", "return_length": True},
            {"text": both[1], "return_length": True, "verbose": False},
            {"text": both[1], "truncation": True, "max_length": 2},
            {"text": both[1], "text_pair": "a dog", "truncation": True, "max_length": 3},
        ):
            assert dict(ours(**call)) == dict(theirs(**call))
    assert ours.tokenize("the old", "man", truncation=True, max_length=2) == ["the</w>", "man</w>"]
    assert ours.tokenize("the old", pair="man") == theirs.tokenize("the old", pair="man")
    assert ours.num_special_tokens_to_add(pair=True) == theirs.num_special_tokens_to_add(pair=True)
    assert ours.added_tokens_encoder == theirs.added_tokens_encoder


def test_ids_can_be_set(tmp_path):
    tokenizer = load()
    tokenizer.pad_token_id, tokenizer.eos_token_id = 0, 194
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<unk>", "the</w>")
    tokenizer.pad_token_id = None
    assert tokenizer.pad_token is None
    with pytest.raises(ValueError, match="id 9999, but"):
        tokenizer.sep_token_id = 9999
    assert (tokenizer.name_or_path, OpenAIGPTTokenizer({"<unk>": 0}, []).name_or_path) == (
        "tiny",
        "",
    )
    paths = tokenizer.save_vocabulary(tmp_path, filename_prefix="my")
    assert [path.rsplit("/")[-1] for path in paths] == ["my-vocab.json", "my-merges.txt"]
    assert module.read_merges(paths[1]) == tokenizer.merges


def test_a_batch_moves_its_tensors_and_keeps_the_rest(tiny):
    batch = tiny(["the old"], return_tensors="pt")
    batch["names"] = ["x"]
    assert batch.data is batch and batch.to("meta") is batch
    assert batch.input_ids.device.type == "meta" and batch.names == ["x"]


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "9"])
def test_lengths_and_sides_of_the_wrong_kind_are_named(four, tmp_path, value):
    tokenizer = copy.copy(four[BOTH[0], "basic"])
    for call in (tokenizer, lambda text, **options: tokenizer.pad({"input_ids": [1]}, **options)):
        with pytest.raises(ValueError, match=rf"max_length={value!r}; pass a whole number"):
            call("a", max_length=value)
        with pytest.raises(ValueError, match=rf"padding_side={value or 'x'!r}; pass 'right'"):
            call("a", padding="max_length", padding_side=value or "x")
    tokenizer.truncation_side = value
    with pytest.raises(ValueError, match=rf"truncation_side={value!r}; pass 'right' or 'left'"):
        tokenizer("a")
    for name in ("model_max_length", "padding_side", "truncation_side", "text_pipeline"):
        tokenizer = copy.copy(four[BOTH[0], "basic"])
        tokenizer.save_pretrained(tmp_path)
        damage(tmp_path / "tokenizer_config.json", lambda c, name=name: c.update({name: value}))
        with pytest.raises(ValueError, match=rf"tokenizer_config.json: {name}={value!r}; "):
            OpenAIGPTTokenizer.from_pretrained(tmp_path)
        if name != "text_pipeline":
            with pytest.raises(ValueError, match=rf"^{name}={value!r}; "):
                OpenAIGPTTokenizer.from_pretrained("tiny", **{name: value})


@pytest.mark.parametrize("missing", ["stride", "return_overflowing_tokens", "text_target"])
def test_what_is_not_there_is_named(tiny, missing):
    with pytest.raises(TypeError, match=missing):
        tiny("a", **{missing: 1})
    with pytest.raises(AttributeError, match="word_ids"):
        tiny("a").word_ids()


@pytest.mark.parametrize("make", [torch.tensor, np.array])
def test_pad_gives_back_the_kind_that_came_in(four, theirs, make):
    ours = four[BOTH[0], "basic"]
    for encoded in (
        [{"input_ids": make([1, 2])}, {"input_ids": make([1])}],
        {"input_ids": make([[1, 2], [3, 4]]), "labels": make([0.5, 2.5])},
        *([{"input_ids": make([1, 2])}] if make is torch.tensor else []),  # theirs fails on numpy
    ):
        found, expected = (
            x.pad(encoded, padding="max_length", max_length=3) for x in (ours, theirs)
        )
        assert found.keys() == expected.keys()
        for name in found:
            assert type(found[name]) is type(expected[name])
            assert found[name].tolist() == expected[name].tolist()


@pytest.mark.parametrize("tensors", ["pt", None])
def test_a_ragged_column_is_named(four, tensors):
    encoded = {"input_ids": [[1, 2], [3]], "labels": [[1, 2], [3]]}
    with pytest.raises(ValueError, match="labels: texts of 1 to 2 tokens make no rectangle"):
        four[BOTH[0], "basic"].pad(encoded, return_tensors=tensors)


# --- more of files


@pytest.mark.parametrize("kind", BOTH)
def test_settings_may_lie_in_either_file(four, kind, tmp_path):
    tokenizer, text = four[kind, "basic"], "a<pad>zeppelin"
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "merges.txt").unlink()
    assert kind.from_pretrained(tmp_path) == tokenizer
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    assert kind.from_pretrained(tmp_path, "basic").encode(text) == tokenizer.encode(text)
    settings = {"extra_special_tokens": ["<x>"], "pad_token": {"content": "<p>", "lstrip": True}}
    (tmp_path / "tokenizer.json").unlink()
    for name in ("extra_special_tokens", "additional_special_tokens"):
        settings = {name: ["<x>"], "pad_token": {"content": "<p>", "lstrip": True}}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
        again = kind.from_pretrained(tmp_path)
        assert again.all_special_tokens == ["<unk>", "<p>", "<x>"]
        assert again.added_tokens_decoder[8192].lstrip and again.pad_token == "<p>"


@pytest.mark.parametrize(
    "name, old, new, message",
    [
        (
            "vocab.json",
            '"the</w>": 194',
            '"the</w>": 194, "the</w>": 5',
            "the key 'the</w>' is there",
        ),
        ("tokenizer_config.json", '"unk_token": "<unk>"', '"unk_token": "<u>"', "lacks '<u>'"),
        ("tokenizer_config.json", '"single_word": false', '"single_word": 3', "not as such a file"),
        ("tokenizer.json", "", "", r"merge 1: the merge '<zz> e</w>' needs the piece '<zz>'"),
    ],
)
def test_a_bad_entry_is_named_with_its_file(four, tmp_path, name, old, new, message):
    four[BOTH[0], "basic"].save_pretrained(tmp_path)
    if name == "tokenizer.json":
        (tmp_path / "vocab.json").unlink()
        damage(tmp_path / name, lambda t: t["model"]["merges"].__setitem__(0, ["<zz>", "e</w>"]))
    else:
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert old in text
        (tmp_path / name).write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / name)) + ".*" + message):
        OpenAIGPTTokenizer.from_pretrained(tmp_path)


def test_mistakes_of_the_caller_are_not_blamed_on_a_file(four, tmp_path):
    four[BOTH[0], "basic"].save_pretrained(tmp_path)
    for changes, message in {
        "padding_side": "^padding_side='<q>'; pass 'right'",
        "unk_token": "^the vocabulary lacks '<q>'",
        "text_pipeline": "^text_pipeline='<q>'; choose",
    }.items():
        with pytest.raises(ValueError, match=message):
            OpenAIGPTTokenizer.from_pretrained(tmp_path, **{changes: "<q>"})


def test_a_byte_order_mark_does_no_harm(tiny, tmp_path):
    tiny.save_pretrained(tmp_path)
    for path in tmp_path.iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert OpenAIGPTTokenizer.from_pretrained(tmp_path) == tiny


# --- long runs: the look-behinds that make them quick change no result


@given(st.text("a \n\t\x1c\u2028-", max_size=12))
@settings(max_examples=300, deadline=None)
def test_standardize_is_what_its_plain_rules_say(text):
    apart = re.sub(r"-+", lambda found: f" {found[0]} ", text)
    plain = re.sub(r"[^\S\n]+", " ", re.sub(r"\s*\n\s*", " \n ", apart)).strip()
    assert module.standardize(text) == plain


@given(st.text("-~/|. a", max_size=12))
@settings(max_examples=300, deadline=None)
def test_runs_of_signs_are_cut_as_their_plain_rule_says(text):
    plain = r"-++\K(?=\S)|~++\K(?=\S)|/++\K(?=\S)|\|++\K(?=\S)|\.\.++\K(?=\S)"
    found, expected = (
        normalizers.Replace(Regex(rule), "_").normalize_str(text)
        for rule in (module.AFTER["run of signs"], plain)
    )
    assert found == expected
