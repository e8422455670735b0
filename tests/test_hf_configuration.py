"""The settings of a model: aliases, labels, unknown keys, impossible values."""

import copy
import json
import math
import pickle
import time

import numpy as np
import pytest
import torch

from minigpt.attention import ATTENTION
from minigpt.block import ACTIVATIONS
from minigpt.hf.configuration import CHOICES, OpenAIGPTConfig

SMALL = {"vocab_size": 11, "n_positions": 8, "n_embd": 8, "n_layer": 2, "n_head": 2}


def test_the_choices_are_those_that_are_built():
    assert set(CHOICES["afn"]) == set(ACTIVATIONS)
    assert set(CHOICES["attn_implementation"]) - {"flash_attention_2"} <= set(ATTENTION)


@pytest.mark.parametrize(
    "field, value",
    [
        ("n_embd", 10),
        ("n_layer", 0),
        ("n_layer", True),
        ("n_layer", 10**9),
        ("n_embd", 10**30),
        ("num_labels", 10**9),
        ("num_labels", 0),
        ("vocab_size", -1),
        ("resid_pdrop", 1.5),
        ("resid_pdrop", False),
        ("embd_pdrop", "0.1"),
        ("layer_norm_epsilon", -1),
        ("layer_norm_epsilon", math.nan),
        ("initializer_range", None),
        ("attn_pdrop", -0.1),
        ("afn", "gelo"),
        ("attn_implementation", "magic"),
        ("summary_use_proj", 1),
        ("dtype", "float7"),
        ("dtype", 16),
        ("pad_token_id", [1]),
        ("architectures", 7),
        ("model_type", "gpt2"),
    ],
)
def test_an_impossible_setting_names_field_and_value_at_once(field, value):
    start = time.perf_counter()
    with pytest.raises(ValueError, match=f"{field}=.?{str(value)[:3].replace('[', '.')}"):
        OpenAIGPTConfig(**{field: value})
    assert time.perf_counter() - start < 1


def test_numbers_of_numpy_and_tensors_of_one_element_are_numbers():
    config = OpenAIGPTConfig(
        vocab_size=np.int64(11),
        n_positions=torch.tensor(8),
        n_embd=np.array([8]),
        n_layer=torch.tensor([2]),
        n_head=np.int8(2),
        attn_pdrop=np.float32(0.5),
        num_labels=np.int64(3),
    )
    assert config == OpenAIGPTConfig(**SMALL, attn_pdrop=0.5, num_labels=3)
    config.n_layer = np.int32(3)
    assert json.loads(config.to_json_string())["n_layer"] == 3


def test_aliases_are_read_and_set_and_must_agree():
    config = OpenAIGPTConfig(hidden_size=24, num_attention_heads=3, num_hidden_layers=2)
    assert (config.n_embd, config.n_head, config.n_layer) == (24, 3, 2)
    config.hidden_size, config.torch_dtype = 48, "float16"
    assert (config.n_embd, config.hidden_size) == (48, 48)
    assert config.dtype == config.torch_dtype == torch.float16
    assert "hidden_size" not in config.to_dict()
    with pytest.raises(ValueError, match="hidden_size=24, but n_embd=12"):
        OpenAIGPTConfig(hidden_size=24, n_embd=12)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"num_labels": 3, "id2label": {0: "a", 1: "b"}}, "num_labels=3, but id2label has 2"),
        ({"id2label": {0: "a", 2: "b"}}, "id2label=.*without a gap"),
        ({"id2label": {"x": "a"}}, "id2label="),
        ({"id2label": {0: ["a"], 1: "b"}}, "id2label="),
        ({"id2label": {0: "a", 1: "b"}, "label2id": {"a": 1, "b": 0}}, "label2id=.*id2label="),
        ({"label2id": ["a", "b"]}, r"label2id=\['a', 'b'\]"),
        ({"label2id": {"a": math.inf}}, "label2id="),
    ],
)
def test_labels_that_contradict_each_other_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        OpenAIGPTConfig(**settings)


def test_number_and_names_of_classes_agree_also_when_set_later(tmp_path):
    names = {0: "a", 1: "b", 2: "c"}
    for given in (
        {"id2label": names},
        {"label2id": {"a": "0", "b": 1, "c": 2}},
        {"num_labels": 3, "id2label": names},
        {"id2label": names, "label2id": {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}},
    ):
        config = OpenAIGPTConfig(**given)
        assert (config.num_labels, config.id2label) == (3, names)
        assert config.label2id == {"a": 0, "b": 1, "c": 2}
    config.num_labels = 3  # the names stay
    assert config.id2label == names
    config.num_labels = 5
    assert len(config.id2label) == len(config.label2id) == 5
    config.save_pretrained(tmp_path)
    assert OpenAIGPTConfig.from_pretrained(tmp_path).num_labels == 5
    config.label2id = {"x": 1, "y": 0}
    assert (config.num_labels, config.id2label) == (2, {0: "y", 1: "x"})


def test_options_replace_labels_of_the_file(tmp_path):
    OpenAIGPTConfig(**SMALL, id2label={0: "a", 1: "b"}).save_pretrained(tmp_path)
    load = OpenAIGPTConfig.from_pretrained
    assert load(tmp_path, num_labels=2).id2label == {0: "a", 1: "b"}
    assert load(tmp_path, num_labels=3).id2label[2] == "LABEL_2"
    assert load(tmp_path, id2label={0: "c"}).num_labels == 1


def test_settings_that_are_unknown_or_set_later_are_saved(tmp_path):
    config = OpenAIGPTConfig(**SMALL, n_ctx=8, task_specific_params={"a": [1, None]})
    config.author, config.seed, config.afn = "me", np.int64(3), "gelu_new"
    config.save_pretrained(tmp_path)
    page = json.loads((tmp_path / "config.json").read_text())
    assert (page["n_ctx"], page["author"], page["seed"], page["afn"]) == (8, "me", 3, "gelu")
    assert "attn_implementation" not in page
    again = OpenAIGPTConfig.from_pretrained(tmp_path)
    assert again.author == "me" and again.task_specific_params == {"a": [1, None]}
    again.save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text()) == page


def test_a_config_is_not_saved_with_a_value_that_could_not_be_loaded(tmp_path):
    config = OpenAIGPTConfig(**SMALL)
    config.n_head = 3
    with pytest.raises(ValueError, match="n_head=3"):
        config.save_pretrained(tmp_path)


def test_a_config_is_copied_pickled_compared_and_shown():
    config = OpenAIGPTConfig(**SMALL, author="me", id2label={0: "a", 1: "b", 2: "c"})
    assert copy.deepcopy(config) == pickle.loads(pickle.dumps(config)) == config
    assert config != OpenAIGPTConfig(**SMALL)
    assert config.to_diff_dict().keys() == {"model_type", *SMALL, "author", "id2label", "label2id"}
    assert '"author": "me"' in repr(config)
    assert OpenAIGPTConfig.from_dict(json.loads(config.to_json_string())) == config
    config.update({"n_layer": 5, "hidden_size": 16})
    assert (config.n_layer, config.n_embd) == (5, 16)
    with pytest.raises(AttributeError, match="no setting 'n_layers'"):
        config.n_layers  # noqa: B018


@pytest.mark.parametrize(
    "page, message",
    [
        ({"n_head": None}, "config.json: n_head=None"),
        ({"n_head": "2"}, "config.json: n_head='2'"),
        ({"n_layer": 2.0}, "config.json: n_layer=2.0"),
        ({"id2label": "ab"}, "config.json: id2label='ab'"),
        ({"n_head": ...}, "config.json: there is no n_head"),
        ({"vocab_size": ...}, "config.json: there is no vocab_size"),
        ({"hidden_size": 9}, "config.json: hidden_size=9, but n_embd=8"),
        ({"return_dict": "no"}, "config.json: return_dict='no'"),
        ({"n_layer": math.inf}, "config.json: n_layer=inf"),  # JSON for Python: Infinity
        ({"model_type": 7}, "config.json: model_type=7"),
    ],
)
def test_a_bad_line_is_named_with_its_file(tmp_path, page, message):
    OpenAIGPTConfig(**SMALL).save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text()) | page
    settings = {name: value for name, value in settings.items() if value is not ...}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=message) as error:
        OpenAIGPTConfig.from_pretrained(tmp_path)
    assert str(tmp_path) in str(error.value)
    if message.endswith("no n_head"):
        OpenAIGPTConfig.from_pretrained(tmp_path, n_head=4)  # the way out


def test_options_of_models_are_taken_and_others_named():
    options = {"device": "cpu", "low_cpu_mem_usage": True, "torch_dtype": "auto"}
    assert OpenAIGPTConfig.from_pretrained("tiny", **options).dtype == torch.float32
    with pytest.raises(TypeError, match="no option devise"):
        OpenAIGPTConfig.from_pretrained("tiny", devise="cpu")
