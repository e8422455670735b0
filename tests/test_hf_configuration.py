"""The settings of a model: aliases, labels, unknown keys, impossible values."""

import copy
import json
import math
import pickle
import re
import time

import numpy as np
import pytest
import torch

from minigpt.attention import ATTENTION
from minigpt.block import ACTIVATIONS
from minigpt.hf.configuration import ALLOWED, QUIET, OpenAIGPTConfig
from minigpt.hf.models import OpenAIGPTModel
from tests.checkpoints import SMALL

NAMES = {0: "a", 1: "b", 2: "c"}


def test_the_choices_are_those_that_are_built():
    assert set(ACTIVATIONS) - set(ALLOWED["afn"]) <= {"gelu_new"}  # which the reference has not
    assert ATTENTION.keys() >= set(ALLOWED["attn_implementation"])


@pytest.mark.parametrize(
    "field, value",
    [
        *(("n_embd", 9), ("n_embd", 10**30), ("n_layer", 0), ("n_layer", True), ("n_layer", 2.0)),
        *(("n_layer", math.inf), ("n_head", None), ("n_head", "2"), ("vocab_size", -1)),
        *(("resid_pdrop", 1.5), ("resid_pdrop", False), ("embd_pdrop", "0.1")),
        *(("layer_norm_epsilon", -1), ("layer_norm_epsilon", math.nan), ("afn", "gelo")),
        *(("attn_implementation", "magic"), ("dtype", "float7"), ("dtype", 16)),
        *(("num_labels", 10**9), ("num_labels", 0)),
        *(("id2label", "ab"), ("id2label", {"x": "a"}), ("id2label", {0: "a", 2: "b"})),
        *(("label2id", ["a", "b"]), ("label2id", {"a": math.inf})),
    ],
)
def test_an_impossible_setting_names_file_field_and_value_at_once(tmp_path, field, value):
    start = time.perf_counter()
    said = f"{field}=.?{str(value)[:3].replace('[', '.')}"
    with pytest.raises(ValueError, match=said):
        OpenAIGPTConfig(**{field: value})
    path = tmp_path / "config.json"
    path.write_text(json.dumps(SMALL | {field: value}))
    with pytest.raises(ValueError, match="^" + re.escape(str(path)) + f": .*({said}|id2label=)"):
        OpenAIGPTConfig.from_pretrained(tmp_path)
    assert time.perf_counter() - start < 1


def test_numbers_of_numpy_and_tensors_of_one_element_are_numbers():
    sizes = {"vocab_size": np.int64(11), "n_positions": torch.tensor(8), "n_embd": np.array([8])}
    others = {"hidden_size": np.int8(8), "attn_pdrop": np.float32(0.5), "num_labels": np.int64(3)}
    sizes |= {"n_layer": torch.tensor([2]), "n_head": np.int16(2), "eos_token_id": np.arange(2)}
    plain = {"attn_pdrop": 0.5, "num_labels": 3, "eos_token_id": [0, 1]}
    config = OpenAIGPTConfig(**sizes, **others)
    assert config == OpenAIGPTConfig(**SMALL, **plain)
    assert OpenAIGPTConfig.from_dict(json.loads(config.to_json_string())) == config
    config.n_layer, config.num_labels = np.int32(3), torch.tensor([4])
    assert json.loads(config.to_json_string())["n_layer"] == 3 and config.num_labels == 4


def test_aliases_are_read_and_set():
    config = OpenAIGPTConfig(hidden_size=24, num_attention_heads=3, num_hidden_layers=2)
    assert (config.n_embd, config.n_head, config.n_layer) == (24, 3, 2)
    config.hidden_size, config.torch_dtype = 48, "float16"
    assert (config.n_embd, config.hidden_size) == (48, 48)
    assert config.dtype == config.torch_dtype == torch.float16
    assert "hidden_size" not in config.to_dict()


@pytest.mark.parametrize(
    "given",
    [
        {"num_labels": 3, "id2label": NAMES},
        {"label2id": {"a": "0", "b": 1, "c": np.int64(2)}},
        {"id2label": NAMES, "label2id": {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}},
    ],
)
def test_number_and_names_of_classes_agree_also_when_set_later(tmp_path, given):
    config = OpenAIGPTConfig(**SMALL, **given)
    config.num_labels = 3  # the names stay
    assert (config.num_labels, config.id2label) == (3, NAMES)
    assert config.label2id == {"a": 0, "b": 1, "c": 2}
    config.save_pretrained(tmp_path)
    load = OpenAIGPTConfig.from_pretrained
    assert load(tmp_path).id2label == load(tmp_path, num_labels=3).id2label == NAMES
    assert load(tmp_path, num_labels=2).id2label[1] == "LABEL_1"
    assert load(tmp_path, id2label={0: "c"}).num_labels == 1
    config.num_labels = 5
    config.save_pretrained(tmp_path)
    assert load(tmp_path).num_labels == len(config.label2id) == 5
    config.label2id = {"x": 1, "y": 0}
    assert (config.num_labels, config.id2label) == (2, {0: "y", 1: "x"})
    config.id2label = {"1": "b", "0": "a"}
    assert config.label2id == {"a": 0, "b": 1}
    with pytest.raises(ValueError, match="id2label=.*num_labels=3"):
        OpenAIGPTConfig(num_labels=3, id2label={0: "a", 1: "b"})


def test_settings_that_are_unknown_or_set_later_are_saved(tmp_path):
    config = OpenAIGPTConfig(**SMALL, n_ctx=8, task_specific_params={"a": [1, None]})
    config.author, config.seed = "me", np.int64(3)
    config.save_pretrained(tmp_path)
    page = json.loads((tmp_path / "config.json").read_text())
    assert (page["n_ctx"], page["author"], page["seed"]) == (8, "me", 3)
    assert "attn_implementation" not in page
    again = OpenAIGPTConfig.from_pretrained(tmp_path)
    assert again == config and again.task_specific_params == {"a": [1, None]}
    again.n_head = 3
    with pytest.raises(ValueError, match="n_head=3"):  # it could not be loaded
        again.save_pretrained(tmp_path)


def test_a_config_is_copied_pickled_compared_and_shown():
    config = OpenAIGPTConfig(**SMALL, author="me", id2label=NAMES)
    assert copy.deepcopy(config) == pickle.loads(pickle.dumps(config)) == config
    assert config != OpenAIGPTConfig(**SMALL)
    told, changed = config.to_dict(), config.to_diff_dict()
    assert told.items() >= changed.items() and told["label2id"] == {"a": 0, "b": 1, "c": 2}
    assert told.keys() - changed.keys() == {*QUIET} - {"id2label", "label2id"}
    assert '"author": "me"' in repr(config)
    config.update({"n_layer": 5, "hidden_size": 16})
    assert (config.n_layer, config.n_embd) == (5, 16)
    with pytest.raises(AttributeError, match="no attribute 'n_layers'"):
        config.n_layers  # noqa: B018


def test_options_of_models_are_taken_and_unknown_ones_are_left_to_them():
    options = {"device": "cpu", "low_cpu_mem_usage": True, "torch_dtype": "auto"}
    assert OpenAIGPTConfig.from_pretrained("tiny", **options).dtype == torch.float32
    settings, unused = OpenAIGPTConfig.get_config_dict("tiny", devise="cpu", n_head=2)
    assert (settings["n_head"], unused) == (2, {"devise": "cpu"})
    with pytest.raises(TypeError, match="devise"):
        OpenAIGPTModel.from_pretrained("tiny", devise="cpu")
