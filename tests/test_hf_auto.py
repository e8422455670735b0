"""The Auto classes: the right class for a checkpoint, and a clear error for another model's."""

import json

import pytest
import torch

import minigpt
from minigpt import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer
from tests import helpers

AUTO = [AutoConfig, AutoTokenizer, AutoModel, AutoModelForCausalLM]
AUTO += [minigpt.AutoModelForSequenceClassification]


def test_keywords_are_passed_on():
    options = {"dtype": torch.bfloat16, "attn_implementation": "eager"}
    model = AutoModelForCausalLM.from_pretrained("tiny", **options)
    assert (model.dtype, model.config.attn_implementation) == (torch.bfloat16, "eager")
    folder = helpers.GOLDEN / "model"  # the release of 2018 is a GPT-1, too
    assert type(AutoModel.from_pretrained(folder, n_head=4)) is minigpt.OpenAIGPTModel


def test_a_tokenizer_is_fast_unless_told_otherwise(tmp_path):
    fast = AutoTokenizer.from_pretrained("tiny", pad_token="<p>")
    fast.save_pretrained(tmp_path)  # and needs no config.json
    slow = AutoTokenizer.from_pretrained(tmp_path, use_fast=False, text_pipeline="basic")
    assert (fast.is_fast, slow.is_fast, slow.pad_token) == (True, False, "<p>")


def test_a_model_from_a_config_has_new_weights():
    config = minigpt.OpenAIGPTConfig(vocab_size=50, n_embd=12, n_layer=1)
    models = [AutoModelForCausalLM.from_config(config, attn_implementation="eager") for _ in "ab"]
    assert not torch.equal(models[0].lm_head.weight, models[1].lm_head.weight)
    assert models[0].config.attn_implementation == "eager"


@pytest.mark.parametrize("kind", AUTO)
def test_another_kind_of_model_is_refused(kind, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(ValueError, match="'gpt2' model, but minigpt builds only 'openai-gpt'"):
        kind.from_pretrained(tmp_path)
