"""Reading and writing checkpoints, and the errors: each names the thing and the way out."""

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from minigpt import OpenAIGPTConfig, OpenAIGPTLMHeadModel, OpenAIGPTModel, OpenAIGPTTokenizer
from minigpt.attention import ATTENTION
from minigpt.block import ACTIVATIONS
from minigpt.checkpoint import CHOICES, parameter_names, read_release, read_weights
from tests import parity

SMALL = {"vocab_size": 11, "n_positions": 8, "n_embd": 8, "n_layer": 2, "n_head": 2}


def test_a_saved_model_comes_back_exactly(tmp_path):
    model = OpenAIGPTLMHeadModel(OpenAIGPTConfig(**SMALL))
    model.save_pretrained(tmp_path)
    again = OpenAIGPTLMHeadModel.from_pretrained(tmp_path)
    assert again.config == model.config
    assert all(
        torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True)
    )
    assert again.lm_head.weight is again.transformer.tokens_embed.weight


def test_the_base_model_reads_what_the_head_wrote(tmp_path):
    model = OpenAIGPTLMHeadModel(OpenAIGPTConfig(**SMALL)).eval()
    model.save_pretrained(tmp_path)
    base = OpenAIGPTModel.from_pretrained(tmp_path)
    ids = torch.arange(5)[None]
    assert torch.equal(base(ids).last_hidden_state, model.transformer(ids).last_hidden_state)


def test_openais_release_is_read_with_a_table_of_names():
    weights = read_release(parity.GOLDEN / "model")
    assert list(weights) == parameter_names(3)
    assert weights["tokens_embed.weight"].shape == (97, 32)
    assert weights["h.2.mlp.c_proj.weight"].shape == (128, 32)


def test_the_official_size():
    with torch.device("meta"):
        assert OpenAIGPTLMHeadModel(OpenAIGPTConfig()).num_parameters() == 116_534_784


def test_tiny_is_small_and_complete():
    model = OpenAIGPTLMHeadModel.from_pretrained("tiny")
    assert len(OpenAIGPTTokenizer.from_pretrained("tiny")) == model.config.vocab_size
    assert not any(parameter.isnan().any() for parameter in model.parameters())
    assert all(weight.dtype == torch.float16 for weight in read_weights("tiny").values())


def test_an_unknown_name_is_one_clear_error(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        FileNotFoundError, match="no checkpoint 'no-such-model'.*check the spelling"
    ):
        OpenAIGPTLMHeadModel.from_pretrained("no-such-model")
    with pytest.raises(FileNotFoundError, match="no checkpoint 'a/b/c'"):
        OpenAIGPTTokenizer.from_pretrained("a/b/c")


def test_a_folder_without_weights_is_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "openai-gpt", **SMALL}))
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path)) + ".*model.safetensors"):
        OpenAIGPTLMHeadModel.from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="vocab.json"):
        OpenAIGPTTokenizer.from_pretrained(tmp_path)


def test_another_model_type_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(ValueError, match="gpt2.*openai-gpt"):
        OpenAIGPTConfig.from_pretrained(tmp_path)


def test_a_release_with_a_part_misnumbered_is_refused(tmp_path):
    shutil.copytree(parity.GOLDEN / "model", tmp_path / "model")
    (tmp_path / "model" / "params_4.npy").rename(tmp_path / "model" / "params_44.npy")
    with pytest.raises(ValueError, match="without a gap"):
        OpenAIGPTModel.from_pretrained(tmp_path / "model", n_head=4)


def test_a_head_of_its_own_is_refused_and_a_tied_one_is_the_table(tmp_path):
    model = OpenAIGPTLMHeadModel(OpenAIGPTConfig(**SMALL))
    model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    table = weights.pop("transformer.tokens_embed.weight")
    save_file(weights | {"lm_head.weight": table}, path)  # how transformers' double heads are saved
    again = OpenAIGPTLMHeadModel.from_pretrained(tmp_path)
    assert torch.equal(again.transformer.tokens_embed.weight, table)
    both = {"transformer.tokens_embed.weight": table, "lm_head.weight": table + 1}
    save_file(weights | both, path)
    with pytest.raises(ValueError, match="lm_head.weight differs"):
        OpenAIGPTLMHeadModel.from_pretrained(tmp_path)


def test_a_parameter_of_another_shape_is_named(tmp_path):
    OpenAIGPTLMHeadModel(OpenAIGPTConfig(**SMALL)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"tokens_embed\.weight.*\(11, 8\).*\(12, 8\)"):
        OpenAIGPTLMHeadModel.from_pretrained(tmp_path, vocab_size=12)
    with pytest.raises(ValueError, match="lacks 12 of 38 parameters"):
        OpenAIGPTLMHeadModel.from_pretrained(tmp_path, n_layer=3)


def test_a_release_with_a_part_missing_is_refused(tmp_path):
    shutil.copytree(parity.GOLDEN / "model", tmp_path / "model")
    (tmp_path / "model" / "params_4.npy").unlink()
    with pytest.raises(ValueError, match="params_"):
        OpenAIGPTModel.from_pretrained(tmp_path / "model", n_head=4)


def test_the_choices_are_those_that_are_built():
    assert set(CHOICES["afn"]) == set(ACTIVATIONS)
    assert set(CHOICES["attn_implementation"]) == set(ATTENTION)


@pytest.mark.parametrize(
    "field, value",
    [
        ("n_embd", 10),
        ("n_layer", 0),
        ("vocab_size", -1),
        ("resid_pdrop", 1.5),
        ("embd_pdrop", "0.1"),
        ("layer_norm_epsilon", -1),
        ("initializer_range", None),
        ("attn_pdrop", -0.1),
        ("afn", "gelo"),
        ("attn_implementation", "magic"),
    ],
)
def test_an_impossible_config_names_field_and_value(field, value):
    with pytest.raises(ValueError, match=f"{field}='?{value}"):
        OpenAIGPTConfig(**{field: value})
