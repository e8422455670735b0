"""The tokenizers by themselves: options, tokens that are added, copies, what a call returns."""

import copy
import pickle
import warnings
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, processors

from minigpt import OpenAIGPTTokenizer, OpenAIGPTTokenizerFast
from minigpt.hf import tokenization

BOTH, PIPELINES = (OpenAIGPTTokenizer, OpenAIGPTTokenizerFast), ("original", "basic")
every_kind = pytest.mark.parametrize("kind", BOTH)
every_pipeline = pytest.mark.parametrize("pipeline", PIPELINES)
TEXT = "Mr. Zeppelin isn't<pad>\nhere, i'm <unk> ZEPPELIN x-ray."


def load(kind=OpenAIGPTTokenizer, pipeline="original", **options):
    return kind.from_pretrained("tiny", text_pipeline=pipeline, **options)


def parts(tokenizer):
    """All that makes a tokenizer, but its name."""
    make, _ = tokenizer.__reduce__()
    return make.func, make.args, make.keywords | {"name_or_path": ""}


def add_tokens(tokenizer):
    tokenizer.add_special_tokens({"pad_token": "<pad>", "cls_token": "<cls>"})
    tokenizer.add_tokens(["Zeppelin", "x-ray"])


@cache
def ready(kind, pipeline="original"):
    """One with special tokens and added ones; a test may not change it."""
    tokenizer = load(kind, pipeline)
    add_tokens(tokenizer)
    return tokenizer


# -- text to ids and back


@every_kind
@every_pipeline
def test_no_text_breaks_a_tokenizer(kind, pipeline):
    tokenizer = ready(kind, pipeline)

    @given(st.text())
    @example("\0")
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


@pytest.mark.parametrize("text", ["<unk> mill", "a<pad>b", "Mr. Zeppelin's", "x-ray", "I'd"])
def test_slow_gives_the_same_ids_with_and_without_the_library(text):
    """Ids alone come from the course's tokenizer, the rest from the library."""
    for slow in (ready(OpenAIGPTTokenizer), load(pad_token="<unk>")):
        assert slow(text, return_special_tokens_mask=True).input_ids == slow.encode(text)


def test_offsets_show_the_words():
    text = "“I can't,” said Mr. Smith—softly."
    found = ready(OpenAIGPTTokenizerFast)(text, return_offsets_mapping=True)
    shown = [text[begin:end] for begin, end in found.offset_mapping]
    assert "".join(shown) == text.replace(" ", "") and shown[1:4] == ["I", "ca", "n't"]
    with pytest.raises(NotImplementedError, match="OpenAIGPTTokenizerFast"):
        load()("a", return_offsets_mapping=True)


@pytest.mark.parametrize("wrong", ["194", 194.5, None, ["a"], [[1.5]]])
def test_what_is_no_id_is_refused(wrong):
    with pytest.raises(TypeError, match="is not an id; pass integers"):
        load().decode(wrong)


# -- what a call returns


@every_kind
def test_a_batch_is_a_dictionary_that_moves_and_tells_of_its_tokens(kind):
    texts = ["the old miller", "don't"]
    batch = ready(kind)(texts, padding=True, return_tensors="pt")
    assert batch.data is batch and {**batch}.keys() == {"input_ids", "attention_mask"}
    assert batch.tokens(1) == ["do</w>", "n't</w>", "<pad>"] == batch[1].tokens
    assert batch.word_ids(1) == [0, 1, None]
    assert pickle.loads(pickle.dumps(batch)).input_ids.tolist() == batch["input_ids"].tolist()
    batch["names"] = ["x"]
    assert batch.to("meta") is batch and batch.input_ids.device.type == "meta"
    assert batch.names == ["x"]
    with pytest.raises(AttributeError, match="no entry 'labels'; there are: input_ids"):
        _ = batch.labels


def test_a_post_processor_acts():
    tokenizer = load(OpenAIGPTTokenizerFast)
    tokenizer.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>"})
    tokens, pair = [("<s>", 8192), ("</s>", 8193)], "<s> $A $B:1 </s>:1"
    template = processors.TemplateProcessing("<s> $A </s>", pair=pair, special_tokens=tokens)
    tokenizer.backend_tokenizer.post_processor = template
    for one in (tokenizer, pickle.loads(pickle.dumps(tokenizer))):
        assert one.encode("the old") == [8192, 194, 553, 8193]
    assert tokenizer("the old", add_special_tokens=False).input_ids == [194, 553]
    assert tokenizer("the old man", truncation=True, max_length=3).input_ids == [8192, 194, 8193]
    assert tokenizer("the", "old", return_token_type_ids=True).token_type_ids == [0, 0, 1, 1]
    assert tokenizer.num_special_tokens_to_add() == 2


BAD_CALLS = [
    ({"text": 5}, "cannot encode 5"),
    ({"text": ["a", None]}, "cannot encode None; pass a string"),
    ({"text": ["a"], "is_split_into_words": True, "text_pair": ["b", 3]}, "cannot encode"),
    ({"text": "a\ud800"}, r"cannot encode \['a.ud800'\]"),
    ({"text": ["a", "b"], "text_pair": ["c"]}, "2 texts, but 1 second"),
    ({"text": "a", "padding": "nope"}, "padding='nope'.*longest"),
    ({"text": "a", "padding": "max_length", "padding_side": 1}, "padding_side=1; .* right, left"),
    ({"text": "a", "truncation": "nope"}, "truncation='nope'.*only_first"),
    ({"text": "a", "return_tensors": "tf"}, "return_tensors='tf'"),
    ({"text": ["a", "a b"], "return_tensors": "pt"}, "input_ids.*padding=True"),
    ({"text": ["a", "a b"], "padding": True}, "needs a pad token.* tokenizer.pad_token = "),
    *(({"text": "a", "max_length": x}, rf"max_length={x!r}; pass a") for x in (0, 1.5, True, "9")),
    ({"text": ["a b", "a b"], "max_length": 1, "stride": 1}, "stride=1, but fewer"),
    ({"text": ("a b", "c"), "truncation": "only_second", "max_length": 2}, "only_second', max_le"),
]


@pytest.mark.parametrize("call, message", BAD_CALLS)
def test_a_bad_call_is_refused_in_words(call, message):
    tokenizer = load(OpenAIGPTTokenizerFast, "basic")
    if "padding_side" in call:
        tokenizer.pad_token = "<unk>"
    if isinstance(call["text"], tuple):
        call = call | {"text": [call["text"]]}
    with pytest.raises((TypeError, ValueError), match=message):
        tokenizer(**call, return_overflowing_tokens="stride" in call)


@pytest.mark.parametrize("number", [np.int64(2), torch.tensor(2), torch.tensor([2])])
def test_numbers_of_numpy_and_torch_are_taken(number):
    assert load(model_max_length=number)("the old man", truncation=True).input_ids == [194, 553]
    assert load()("the old man", max_length=number).input_ids == [194, 553]


def test_a_tokenizer_without_a_greatest_length_pads_and_truncates_nothing():
    tokenizer = load(OpenAIGPTTokenizerFast, model_max_length=10**30, pad_token="<unk>")
    for mask in (True, False):
        call = {"padding": "max_length", "truncation": True, "return_special_tokens_mask": mask}
        assert tokenizer("the old", **call).input_ids == [194, 553]


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
    tokenizer.pad_token_id, tokenizer.cls_token_id = None, 194
    roles = tokenizer.pad_token, tokenizer.pad_token_id, tokenizer.cls_token
    assert roles == (None, None, "the</w>")
    assert tokenizer.add_special_tokens({"unk_token": "<unk>"}) == 0
    assert load(kind, unk_token="the</w>").encode("日") == [194]
    tokenizer.add_tokens("Foo")
    tokenizer.pad_token = "Foo"  # does not change how it is found
    assert tokenizer("foo FOO").input_ids == [8193, 8193]
    assert tokenizer.decode([553, 8193], skip_special_tokens=True) == "old"


@every_kind
@pytest.mark.parametrize(
    "change, message",
    [
        (lambda x: x.add_special_tokens({"unk_token": "[U]"}), "unk_token is '<unk>'"),
        (lambda x: x.add_special_tokens({"a_token": "<s>"}), "no role 'a_token'; .* bos_token"),
        (lambda x: x.add_tokens("\u200b"), "cannot be added"),
        (lambda x: x.add_tokens(""), "cannot be added"),
        (lambda x: x.add_tokens(AddedToken("\t", lstrip=True)), "cannot be added"),
        (lambda x: x.add_tokens(5), "5 is not a token; pass a string"),
    ],
)
def test_a_token_that_cannot_be_used_is_refused(kind, change, message):
    tokenizer = load(kind, "basic")
    with pytest.raises((TypeError, ValueError), match=message):
        change(tokenizer)
    assert len(tokenizer) == 8192 and tokenizer.sep_token is None


@every_kind
@every_pipeline
@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_is_equal_and_shares_nothing(kind, pipeline, how):
    tokenizer = ready(kind, pipeline)
    other = how(tokenizer)
    assert parts(other) == parts(tokenizer) and other.encode(TEXT) == tokenizer.encode(TEXT)
    other.add_tokens("mill")
    other.sep_token = "mill"
    assert other.encode("mill") == [len(tokenizer)] != tokenizer.encode("mill")
    assert tokenizer.sep_token is None and len(other) == len(tokenizer) + 1


def test_a_tokenizer_is_made_of_files_too(tmp_path):
    paths = load().save_vocabulary(tmp_path, filename_prefix="my")
    assert [path.rsplit("/")[-1] for path in paths] == ["my-vocab.json", "my-merges.txt"]
    named = OpenAIGPTTokenizer(vocab_file=paths[0], merges_file=paths[1])
    for made in (OpenAIGPTTokenizer(*paths, text_pipeline="original"), named):
        assert parts(made) == parts(load()) and made.name_or_path == ""
    assert load().name_or_path == "tiny"
    with pytest.raises(ValueError, match="text_pipeline='fast'; choose one of original, basic"):
        OpenAIGPTTokenizer({"<unk>": 0}, [], text_pipeline="fast")


@pytest.mark.filterwarnings("error")
def test_a_tokenizer_of_the_library_keeps_its_template_and_takes_a_pipeline(tmp_path):
    basic = load(OpenAIGPTTokenizerFast, "basic", pad_token="<pad>")
    template = processors.TemplateProcessing("$A <pad>", special_tokens=[("<pad>", 8192)])
    basic.backend_tokenizer.post_processor = template
    basic.save_pretrained(tmp_path)
    whole = {"tokenizer_file": tmp_path / "tokenizer.json"}
    for source in (whole, {"tokenizer_object": basic.backend_tokenizer}):
        made = OpenAIGPTTokenizerFast(**source, text_pipeline="original")
        assert (made.text_pipeline, made.encode("the old")) == ("original", [194, 553, 8192])
        assert OpenAIGPTTokenizerFast(**source).text_pipeline == "basic"


@every_kind
@every_pipeline
def test_a_saved_folder_loads_whatever_file_is_missing(kind, pipeline, tmp_path):
    tokenizer = ready(kind, pipeline)
    files = ["merges.txt", "tokenizer.json", "tokenizer_config.json", "vocab.json"]
    paths = tokenizer.save_pretrained(tmp_path, max_shard_size="1GB")
    assert sorted(paths) == [str(tmp_path / name) for name in files]
    assert sorted(path.name for path in tmp_path.iterdir()) == files
    assert parts(kind.from_pretrained(tmp_path)) == parts(tokenizer)
    for name in files:
        (tmp_path / name).rename(tmp_path / "away")
        again = kind.from_pretrained(tmp_path, pipeline)
        assert again.encode(TEXT) == tokenizer.encode(TEXT)
        assert name == "tokenizer_config.json" or parts(again) == parts(tokenizer)
        (tmp_path / "away").rename(tmp_path / name)


# -- warnings, at the caller's line


def test_an_option_without_effect_gets_a_warning():
    for call in (
        lambda: ready(OpenAIGPTTokenizerFast)("a", nonsense=1),
        lambda: OpenAIGPTTokenizerFast.from_pretrained("tiny", nonsense=1),
        lambda: OpenAIGPTTokenizer({"<unk>": 0}, [], "basic", nonsense=1),
    ):
        with pytest.warns(UserWarning, match="without effect .* nonsense") as caught:
            call()
        assert [warning.filename for warning in caught] == [__file__]


def test_without_the_extra_there_is_one_warning(monkeypatch):
    monkeypatch.setattr(tokenization, "find_spec", lambda name: None)
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
