"""The tokenizers by themselves: options, tokens that are added, copies, what a call returns."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, processors

from minigpt import OpenAIGPTTokenizer, OpenAIGPTTokenizerFast
from minigpt.hf import tokenization

BOTH = (OpenAIGPTTokenizer, OpenAIGPTTokenizerFast)
PIPELINES = ("original", "basic")
every_kind = pytest.mark.parametrize("kind", BOTH)
every_pipeline = pytest.mark.parametrize("pipeline", PIPELINES)


def load(kind=OpenAIGPTTokenizer, pipeline="original", **options):
    return kind.from_pretrained("tiny", text_pipeline=pipeline, **options)


def parts(tokenizer):
    """All that makes a tokenizer, but its name."""
    make, (kind, _, *rest) = tokenizer.__reduce__()
    return kind, *rest


def add_tokens(tokenizer):
    tokenizer.add_special_tokens({"pad_token": "<pad>", "cls_token": "<cls>"})
    tokenizer.add_tokens(["Zeppelin", "x-ray"])


@pytest.fixture(scope="module")
def four():
    """Each class in each pipeline, with special tokens and added ones."""
    made = {(kind, name): load(kind, name) for kind in BOTH for name in PIPELINES}
    for tokenizer in made.values():
        add_tokens(tokenizer)
    return made


# -- text to ids


@every_kind
@every_pipeline
def test_no_text_breaks_a_tokenizer(four, kind, pipeline):
    tokenizer = four[kind, pipeline]

    @given(st.text(st.characters()))  # lone surrogates and NUL included
    @example("\0\ud800a\udfff")
    @example("")
    @settings(max_examples=100, deadline=None)
    def check(text):
        ids = tokenizer(text).input_ids
        assert all(0 <= index < len(tokenizer) for index in ids)
        assert tokenizer.encode(text) == tokenizer([text]).input_ids[0] == ids
        assert isinstance(tokenizer.decode(ids), str)

    check()


@every_kind
@every_pipeline
@pytest.mark.parametrize("unit", ["a", "'", "-", "don't", "é", "Ã©", "&amp;", "a.", "<", "\u0301"])
def test_a_very_long_word_takes_no_time_to_speak_of(kind, pipeline, unit):
    text = unit * (100_000 // len(unit))  # quadratic time would be minutes
    assert isinstance(load(kind, pipeline).encode(text), list)


@pytest.mark.parametrize(
    "text", ["<unk> mill", "a<pad>b", "Mr. Zeppelin's", "ZEPPELIN x-ray", "I'd"]
)
def test_slow_gives_the_same_ids_with_and_without_the_library(four, text):
    """Ids alone come from the course's tokenizer, the rest from the library."""
    slow = four[OpenAIGPTTokenizer, "original"]
    assert slow(text, return_special_tokens_mask=True).input_ids == slow.encode(text)
    plain = load()
    assert plain(text, return_special_tokens_mask=True).input_ids == plain.encode(text)


def test_offsets_show_the_words(four):
    text = "“I can't,” said Mr. Smith—softly."
    found = four[OpenAIGPTTokenizerFast, "original"](text, return_offsets_mapping=True)
    shown = [text[begin:end] for begin, end in found.offset_mapping]
    assert "".join(shown) == text.replace(" ", "") and shown[1:4] == ["I", "ca", "n't"]
    with pytest.raises(NotImplementedError, match="OpenAIGPTTokenizerFast"):
        load()("a", return_offsets_mapping=True)


@pytest.mark.parametrize("wrong", ["194", 194.5, None, ["a"], [[1.5]]])
def test_what_is_no_id_is_refused(wrong):
    with pytest.raises(TypeError, match="is no id; pass whole numbers"):
        load().decode(wrong)
    with pytest.raises(ValueError, match="id 9999, but this tokenizer has ids 0 to 8191"):
        load().decode([1, 9999])


# -- what a call returns


def test_a_batch_is_a_dictionary_that_moves_and_tells_of_its_tokens(four):
    for kind in BOTH:
        tokenizer = four[kind, "original"]
        batch = tokenizer(["the old miller", "don't"], padding=True, return_tensors="pt")
        assert batch.data is batch and {**batch}.keys() == {"input_ids", "attention_mask"}
        assert batch.tokens(1) == ["do</w>", "n't</w>", "<pad>"] == batch[1].tokens
        assert batch.word_ids(0) == [0, 1, 2] and batch.word_ids(1) == [0, 1, None]
        assert torch.equal(batch[:1]["input_ids"], batch.input_ids[:1])
        assert pickle.loads(pickle.dumps(batch)).input_ids.tolist() == batch.input_ids.tolist()
        batch["names"] = ["x"]
        assert batch.to("meta") is batch and batch.input_ids.device.type == "meta"
        assert batch.names == ["x"]
        with pytest.raises(AttributeError, match="no entry 'labels'; there are: input_ids"):
            _ = batch.labels


def test_a_post_processor_acts():
    tokenizer = load(OpenAIGPTTokenizerFast)
    tokenizer.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>"})
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A $B:1 </s>:1",
        special_tokens=[("<s>", 8192), ("</s>", 8193)],
    )
    assert tokenizer.encode("the old") == tokenizer("the old").input_ids == [8192, 194, 553, 8193]
    assert tokenizer("the old", add_special_tokens=False).input_ids == [194, 553]
    assert tokenizer("the old man", truncation=True, max_length=3).input_ids == [8192, 194, 8193]
    pair = tokenizer("the", "old", return_token_type_ids=True)
    assert pair.token_type_ids == [0, 0, 1, 1] and tokenizer.num_special_tokens_to_add() == 2
    assert pickle.loads(pickle.dumps(tokenizer)).encode("the old") == tokenizer.encode("the old")


@pytest.mark.parametrize(
    "call, error, message",
    [
        ({"text": 5}, TypeError, "cannot encode 5"),
        ({"text": ["a", None]}, TypeError, "cannot encode None; pass a string"),
        ({"text": "a", "text_pair": 3}, TypeError, "cannot encode 3"),
        (
            {"text": ["a"], "is_split_into_words": True, "text_pair": ["b", 3]},
            TypeError,
            "cannot encode 3",
        ),
        ({"text": ["a", "b"], "text_pair": ["c"]}, ValueError, "2 texts, but 1 second"),
        ({"text": "a", "padding": "nope"}, ValueError, "padding='nope'.*longest"),
        ({"text": "a", "truncation": "nope"}, ValueError, "truncation='nope'.*only_first"),
        ({"text": "a", "return_tensors": "tf"}, ValueError, "return_tensors='tf'"),
        ({"text": ["a", "a b"], "return_tensors": "pt"}, ValueError, "input_ids.*padding=True"),
        ({"text": ["a", "a b"], "padding": True}, ValueError, "tokenizer.pad_token = "),
        ({"text": "a", "max_length": 0}, ValueError, "max_length=0; pass a whole number"),
        ({"text": "a b", "max_length": 1, "stride": 1}, ValueError, "stride=1, but 1 tokens"),
        (
            {"text": "a b", "text_pair": "c", "truncation": "only_second", "max_length": 2},
            ValueError,
            "only_second', max_length=2: .* too short",
        ),
    ],
)
@every_kind
def test_a_bad_call_is_refused_in_words(kind, call, error, message):
    if "stride" in call:
        call = call | {"return_overflowing_tokens": True}
    with pytest.raises(error, match=message):
        load(kind, "basic")(**call)


@every_kind
def test_what_nobody_knows_gets_a_warning_at_the_callers_line(kind):
    pytest.importorskip("spacy")  # without it, there is a warning more
    for call in (
        lambda: load(kind)("a", text_target="b"),
        lambda: load(kind, nonsense=1),
        lambda: kind({"<unk>": 0}, [], "basic", nonsense=1),
    ):
        with pytest.warns(UserWarning, match="unknown options .* (nonsense|text_target)") as caught:
            call()
        assert [warning.filename for warning in caught] == [__file__]


# -- tokens, roles, settings


@every_kind
@every_pipeline
def test_an_added_token_is_never_split_and_a_second_time_is_not_new(kind, pipeline):
    tokenizer = load(kind, pipeline, additional_special_tokens=["<q: 'a'>", "[S]"])
    assert tokenizer.additional_special_tokens == ["<q: 'a'>", "[S]"]
    assert tokenizer.add_tokens(["New York", "<x>"]) == 2
    assert tokenizer.tokenize("so<q: 'a'>the[S]") == ["so</w>", "<q: 'a'>", "the</w>", "[S]"]
    assert tokenizer.decode([194, 8192, 194], skip_special_tokens=True) == "the the"
    assert tokenizer.encode("NEW\tyork")[0] == tokenizer.convert_tokens_to_ids("New York")
    assert tokenizer.add_tokens(AddedToken("[S]", special=True)) == 0
    assert tokenizer.add_tokens([f"<t{number}>" for number in range(300)]) == 300
    assert tokenizer("a<t299>b").input_ids[1] == len(tokenizer) - 1


@every_kind
def test_roles_can_be_given_to_tokens_that_exist(kind):
    tokenizer = load(kind, pad_token="<unk>", eos_token="<end>")
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, len(tokenizer)) == (0, 8192, 8193)
    with pytest.raises(ValueError, match=r"sep_token='<nope>'.*add_special_tokens"):
        tokenizer.sep_token = "<nope>"
    with pytest.raises(ValueError, match="no role 'start_token'; choose from bos_token"):
        tokenizer.add_special_tokens({"start_token": "<s>"})
    with pytest.raises(ValueError, match="id 9999, but"):
        tokenizer.sep_token_id = 9999
    tokenizer.pad_token_id, tokenizer.cls_token_id = None, 194
    assert (tokenizer.pad_token, tokenizer.pad_token_id, tokenizer.cls_token) == (
        None,
        None,
        "the</w>",
    )
    tokenizer.unk_token = "the</w>"
    assert tokenizer.encode("日") == [194] == load(kind, unk_token="the</w>").encode("日")


@every_kind
def test_a_role_does_not_change_how_a_token_is_found(kind, tmp_path):
    tokenizer = load(kind, "basic")
    tokenizer.add_tokens("Foo")
    tokenizer.pad_token = "Foo"
    tokenizer.save_pretrained(tmp_path)
    again = kind.from_pretrained(tmp_path)
    assert parts(again) == parts(tokenizer)
    assert again("foo FOO").input_ids == tokenizer("foo FOO").input_ids == [8192, 8192]
    assert tokenizer.decode([194, 8192], skip_special_tokens=True) == "the"


@every_kind
def test_a_token_that_no_text_can_hold_is_refused(kind):
    tokenizer = load(kind, "basic")
    for token in ("\u200b", "", AddedToken("\t", lstrip=True)):
        with pytest.raises(ValueError, match="cannot be added"):
            tokenizer.add_tokens(token)
    for token in (5, "a\ud800"):
        with pytest.raises(TypeError, match="is no token; pass a string"):
            tokenizer.add_tokens(token)
    assert len(tokenizer) == 8192


@every_kind
@every_pipeline
@pytest.mark.parametrize(
    "make_copy", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_a_copy_is_equal_and_shares_nothing(four, kind, pipeline, make_copy):
    tokenizer, text = four[kind, pipeline], "Mr. Zeppelin isn't<pad>\nhere, i'm <unk> x-ray."
    other = make_copy(tokenizer)
    assert parts(other) == parts(tokenizer) and other.encode(text) == tokenizer.encode(text)
    other.add_tokens("mill")
    other.sep_token = "mill"
    assert other.encode("mill") == [len(tokenizer)] != tokenizer.encode("mill")
    assert tokenizer.sep_token is None and len(other) == len(tokenizer) + 1


def test_a_tokenizer_is_made_of_files_too(tmp_path):
    paths = load().save_vocabulary(tmp_path, filename_prefix="my")
    assert [path.rsplit("/")[-1] for path in paths] == ["my-vocab.json", "my-merges.txt"]
    for made in (
        OpenAIGPTTokenizer(*paths, text_pipeline="original"),
        OpenAIGPTTokenizer(vocab_file=paths[0], merges_file=paths[1], do_lower_case=True),
    ):
        assert parts(made) == parts(load()) and made.do_lower_case and made.name_or_path == ""
    assert load().name_or_path == "tiny"
    with pytest.raises(ValueError, match="text_pipeline='fast'; choose one of original, basic"):
        OpenAIGPTTokenizer({"<unk>": 0}, [], text_pipeline="fast")
    with pytest.raises(ValueError, match="the vocabulary lacks '<unk>'"):
        OpenAIGPTTokenizer({"a": 0}, [], "basic")
    with pytest.raises(ValueError, match="out of vocabulary; take vocabulary and merges from one"):
        OpenAIGPTTokenizer({"<unk>": 0}, [("a", "b")], "basic")


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "9"])
def test_lengths_and_sides_of_the_wrong_kind_are_named(four, value):
    tokenizer = copy.copy(four[OpenAIGPTTokenizer, "basic"])
    with pytest.raises(ValueError, match=rf"max_length={value!r}; pass a whole number"):
        tokenizer.pad({"input_ids": [1]}, max_length=value)
    with pytest.raises(
        ValueError, match=rf"padding_side={value or 'x'!r}; choose one of right, left"
    ):
        tokenizer("a", padding="max_length", padding_side=value or "x")
    for name in ("model_max_length", "padding_side", "truncation_side"):
        with pytest.raises(ValueError, match=rf"{name}={value!r}; "):
            load(**{name: value})


@pytest.mark.parametrize("number", [np.int64(2), torch.tensor(2), torch.tensor([2])])
def test_numbers_of_numpy_and_torch_are_taken(number):
    assert load(model_max_length=number)("the old man", truncation=True).input_ids == [194, 553]
    assert load()("the old man", max_length=number).input_ids == [194, 553]


# -- the extra that may be missing


@pytest.fixture
def without_extra(monkeypatch):
    monkeypatch.setattr(tokenization, "find_spec", lambda name: None)


def test_without_the_extra_there_is_one_warning_at_the_callers_line(without_extra):
    with pytest.raises(ImportError, match=r"needs ftfy and spacy: pip install '.*\[original\]'"):
        OpenAIGPTTokenizer({"<unk>": 0}, [], text_pipeline="original")
    for make in (
        lambda: OpenAIGPTTokenizer.from_pretrained("tiny"),
        lambda: OpenAIGPTTokenizer({"<unk>": 0}, []),
    ):
        with pytest.warns(UserWarning, match=r"pip install '.*\[original\]'") as caught:
            tokenizer = make()
        assert [warning.filename for warning in caught] == [__file__]
        assert tokenizer.text_pipeline == "basic"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fast = OpenAIGPTTokenizerFast.from_pretrained("tiny")
    assert fast.tokenize("I don't.\n") == ["i</w>", "do</w>", "n't</w>", ".</w>"]


@every_kind
@every_pipeline
def test_a_saved_folder_loads_whatever_file_is_missing(four, kind, pipeline, tmp_path):
    tokenizer, text = four[kind, pipeline], "Mr. Zeppelin isn't<pad>\nhere, i'm <unk> x-ray."
    files = ["merges.txt", "tokenizer.json", "tokenizer_config.json", "vocab.json"]
    assert sorted(tokenizer.save_pretrained(tmp_path, max_shard_size="1GB")) == files
    assert sorted(path.name for path in tmp_path.iterdir()) == files
    assert parts(kind.from_pretrained(tmp_path)) == parts(tokenizer)
    for name in files:
        (tmp_path / name).rename(tmp_path / "away")
        again = kind.from_pretrained(tmp_path, pipeline)
        assert again.encode(text) == tokenizer.encode(text)
        assert name == "tokenizer_config.json" or parts(again) == parts(tokenizer)
        (tmp_path / "away").rename(tmp_path / name)
