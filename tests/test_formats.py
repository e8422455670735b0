"""Every format of a checkpoint, both ways, against transformers; and faults of files."""

import filecmp
import hashlib
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import minigpt
from minigpt import OpenAIGPTConfig, OpenAIGPTLMHeadModel, OpenAIGPTModel, OpenAIGPTTokenizer
from minigpt.checkpoint import (
    FORMATS,
    OFFICIAL,
    MappedFile,
    check_vocabulary,
    check_weights,
    convert,
    open_array_file,
    open_weights,
    read_weights,
    vocabulary_writers,
    write_release,
)
from minigpt.tokenizer import locked, while_read
from tests import parity

SMALL = {"vocab_size": 11, "n_positions": 8, "n_embd": 8, "n_layer": 2, "n_head": 2}
KINDS = {
    "OpenAIGPTModel": "AutoModel",
    "OpenAIGPTLMHeadModel": "AutoModelForCausalLM",
    "OpenAIGPTDoubleHeadsModel": None,
    "OpenAIGPTForSequenceClassification": "AutoModelForSequenceClassification",
}
WARNS = "ignore:OpenAI's format holds no settings"
TYPES = [torch.float32, torch.float16, torch.bfloat16]


def small_model(folder, kind=OpenAIGPTLMHeadModel, **settings):
    model = kind(OpenAIGPTConfig(**(SMALL | settings)))
    model.save_pretrained(folder)
    return model


def same(first, second) -> bool:
    """Say whether two models, or mappings of weights, hold the same numbers of the same type."""
    a, b = (dict(x.named_parameters()) if hasattr(x, "forward") else x for x in (first, second))
    return a.keys() == b.keys() and all(
        torch.equal(a[n], b[n]) and a[n].dtype == b[n].dtype for n in a
    )


def first_output(model):
    return model(
        torch.arange(10).view(1, 1, 10) % 7
        if "Double" in type(model).__name__
        else torch.arange(10)[None]
    )[0]


# -- the same folder on both sides


@pytest.mark.parametrize("size", ["50GB", "40KB"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_we_save_transformers_loads(tmp_path, kind, size):
    _, ours = parity.random_pair(kind=kind, attn_implementation="eager")
    ours.save_pretrained(tmp_path, max_shard_size=size)
    assert (tmp_path / "model.safetensors").exists() == (size == "50GB")
    for name in filter(None, (kind, KINDS[kind])):
        there, info = getattr(transformers, name).from_pretrained(
            tmp_path, attn_implementation="eager", output_loading_info=True
        )
        assert not any(info.values())
        assert type(there).__name__ == kind and same(there, ours)
        assert torch.allclose(first_output(there.eval()), first_output(ours), atol=1e-6)


@pytest.mark.parametrize("size", ["50GB", "40KB"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_transformers_saves_we_load(tmp_path, kind, size):
    theirs, ours = parity.random_pair(kind=kind, attn_implementation="eager")
    theirs.save_pretrained(tmp_path, max_shard_size=size)
    again, info = getattr(minigpt, kind).from_pretrained(
        tmp_path, attn_implementation="eager", output_loading_info=True
    )
    assert not any(info.values()) and same(again, ours)
    assert torch.allclose(first_output(again), first_output(theirs), atol=1e-6)
    if KINDS[kind]:
        assert same(getattr(minigpt, KINDS[kind]).from_pretrained(tmp_path), ours)


def test_the_tokenizer_travels_with_the_model(tmp_path):
    OpenAIGPTTokenizer.from_pretrained("tiny", "basic").save_pretrained(tmp_path)
    OpenAIGPTLMHeadModel.from_pretrained("tiny").save_pretrained(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    there = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ids = theirs("the king said to the old man that", return_tensors="pt").input_ids
    ours = OpenAIGPTTokenizer.from_pretrained(tmp_path)
    assert ours.encode("the king said to the old man that") == ids[0].tolist()
    again = OpenAIGPTLMHeadModel.from_pretrained(tmp_path)
    assert torch.equal(again(ids).logits.argmax(-1), there(ids).logits.argmax(-1))


# -- number types


@pytest.mark.parametrize("wish", [None, "auto", *TYPES])
@pytest.mark.parametrize("saved", TYPES)
def test_the_number_type_is_that_of_transformers(tmp_path, saved, wish):
    small_model(tmp_path).to(saved).save_pretrained(tmp_path)
    options = {} if wish is None else {"dtype": wish}
    ours = OpenAIGPTLMHeadModel.from_pretrained(tmp_path, **options)
    theirs = transformers.OpenAIGPTLMHeadModel.from_pretrained(tmp_path, **options)
    assert ours.dtype == theirs.dtype == ours.config.dtype
    assert same(ours, theirs)


def test_the_old_name_and_names_of_types(tmp_path):
    small_model(tmp_path)
    load = OpenAIGPTLMHeadModel.from_pretrained
    assert load(tmp_path, torch_dtype="float16").dtype == torch.float16
    assert load(tmp_path, dtype="bfloat16").dtype == torch.bfloat16
    with pytest.raises(ValueError, match="dtype='float7'; choose from auto, float32"):
        load(tmp_path, dtype="float7")


def test_without_a_type_on_the_page_the_weights_tell(tmp_path):
    small_model(tmp_path).half().save_pretrained(tmp_path)
    page = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    del page["dtype"]
    (tmp_path / "config.json").write_text(json.dumps(page), encoding="utf-8")
    assert OpenAIGPTLMHeadModel.from_pretrained(tmp_path).dtype == torch.float16


def test_a_converted_folder_is_loaded_as_its_source(tmp_path):
    convert("tiny", tmp_path)  # float16 in the file, float32 on the page
    assert same(read_weights(tmp_path), read_weights("tiny"))
    model = OpenAIGPTLMHeadModel.from_pretrained(tmp_path)
    assert same(model, OpenAIGPTLMHeadModel.from_pretrained("tiny"))
    model.half().save_pretrained(tmp_path)
    assert OpenAIGPTLMHeadModel.from_pretrained(tmp_path).dtype == torch.float16


def test_a_mapped_file_is_let_go_before_much_of_it_stays():
    opened = []

    def open_file():
        opened.append(1)
        return lambda name: torch.zeros(2**20)  # 4 MiB

    file, at = MappedFile(open_file, coming=dict.fromkeys(range(40), 2**22), budget=2**22), []
    for name in range(40):
        file.fetch(name)
        at.append(len(opened))
    starts = [at.index(n) for n in range(1, at[-1] + 1)]
    assert starts == [0, 15, 25, 31, 35, 38]  # a third of the rest, and one more
    assert at.count(at[-1]) < 4 or file.get is None


def peak_of_converting(shards) -> float:
    """Load shards as float16; return the most memory that took, over the size of the model."""
    code = """
        import sys
        from minigpt import OpenAIGPTModel
        def memory(key):
            lines = open("/proc/self/status").read().splitlines()
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))
        before = memory("VmRSS")
        model = OpenAIGPTModel.from_pretrained(sys.argv[1], dtype="float16")
        print((memory("VmHWM") - before) / (2 * model.num_parameters()))
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(shards)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads Linux's counters")
def test_shards_are_let_go_while_they_are_converted(tmp_path):
    config = OpenAIGPTConfig(n_layer=6)  # 74 million weights
    OpenAIGPTModel(config).save_pretrained(tmp_path, max_shard_size="60MB")
    assert len(list(tmp_path.glob("model-*"))) > 2
    assert peak_of_converting(tmp_path) < 1.6  # with all of them mapped, 3


def test_a_second_table_and_old_masks_are_not_counted_among_what_is_to_come(tmp_path, monkeypatch):
    weights = dict(small_model(tmp_path, OpenAIGPTModel, n_embd=64).named_parameters())
    old = {f"transformer.{name}": x for name, x in weights.items()}
    old["lm_head.weight"] = weights["tokens_embed.weight"].clone()
    old |= {f"transformer.h.{n}.attn.bias": torch.ones(1, 1, 64, 64) for n in range(2)}
    torch.save(old, tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    files, opened = [], []
    fresh = minigpt.checkpoint.load_pickle
    make = MappedFile.__init__
    monkeypatch.setattr(
        MappedFile, "__init__", lambda self, *x: (make(self, *x), files.append(self))[0]
    )
    monkeypatch.setattr(minigpt.checkpoint, "load_pickle", lambda x: opened.append(x) or fresh(x))
    model = OpenAIGPTLMHeadModel.from_pretrained(tmp_path, dtype="float16")
    expected = {n: old[n].half() for n, _ in model.named_parameters()}
    assert same(dict(model.named_parameters()), expected)
    (file,) = files
    assert not file.coming and len(opened) == 2  # one look at names and shapes, one mapping


# -- heads


def test_a_new_head_is_made_and_named_as_in_transformers(tmp_path):
    small_model(tmp_path, OpenAIGPTModel)
    for kind in ("OpenAIGPTForSequenceClassification", "OpenAIGPTDoubleHeadsModel"):
        with pytest.warns(UserWarning, match="not in the checkpoint: new, random"):
            model, info = getattr(minigpt, kind).from_pretrained(tmp_path, output_loading_info=True)
        _, expected = getattr(transformers, kind).from_pretrained(
            tmp_path, output_loading_info=True
        )
        assert info == expected
        assert not any(x.is_meta or x.isnan().any() for x in model.parameters())


def test_names_beside_default_numbers_of_classes_are_taken_as_transformers_writes_them(tmp_path):
    small_model(tmp_path / "base", OpenAIGPTModel)
    names = {"num_labels": 3, "id2label": {0: "NEG", 1: "NEU", 2: "POS"}}
    kind = "OpenAIGPTForSequenceClassification"
    saved = getattr(transformers, kind).from_pretrained(tmp_path / "base", **names)
    saved.save_pretrained(tmp_path)
    assert (
        json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["label2id"]["LABEL_2"]
        == 2
    )
    config = getattr(minigpt, kind).from_pretrained(tmp_path).config
    assert config.id2label == names["id2label"] and config.label2id["POS"] == 2


def test_a_new_head_is_drawn_as_in_a_new_model(tmp_path):
    small_model(tmp_path, OpenAIGPTModel, n_embd=512)
    with pytest.warns(UserWarning):
        model = minigpt.OpenAIGPTForSequenceClassification.from_pretrained(
            tmp_path, num_labels=40, initializer_range=0.1
        )
    assert abs(model.score.weight.std().item() - 0.1) < 0.005


def test_weights_left_over_are_named(tmp_path):
    small_model(tmp_path, minigpt.OpenAIGPTForSequenceClassification)
    with pytest.warns(UserWarning, match=r"score.weight \(1 in all\) not used by OpenAIGPTModel"):
        _, info = OpenAIGPTModel.from_pretrained(tmp_path, output_loading_info=True)
    assert info["unexpected_keys"] == {"score.weight"}


def test_what_is_new_and_what_is_left_over_stand_in_one_message(tmp_path):
    small_model(tmp_path, minigpt.OpenAIGPTDoubleHeadsModel)
    with pytest.warns(UserWarning) as said:
        minigpt.OpenAIGPTForSequenceClassification.from_pretrained(tmp_path)
    assert len(said) == 1
    new, unused = str(said[0].message).split("; ")
    assert new == "score.weight not in the checkpoint: new, random, to be trained"
    assert "multiple_choice_head.summary.bias" in unused
    assert unused.endswith("(2 in all) not used by OpenAIGPTForSequenceClassification")


def test_another_shape_is_an_error_or_made_anew(tmp_path):
    model = small_model(tmp_path)
    load = OpenAIGPTLMHeadModel.from_pretrained
    with pytest.raises(ValueError, match=r"tokens_embed.weight .*\(11, 8\).*\(12, 8\).*mismatched"):
        load(tmp_path, vocab_size=12)
    options = {"vocab_size": 12, "ignore_mismatched_sizes": True, "output_loading_info": True}
    with pytest.warns(UserWarning, match=r"tokens_embed.weight has shape \(11, 8\) .* \(12, 8\)"):
        again, info = load(tmp_path, **options)
    _, expected = transformers.OpenAIGPTLMHeadModel.from_pretrained(tmp_path, **options)
    mismatched = {(n, tuple(a), tuple(b)) for n, a, b in expected["mismatched_keys"]}
    assert info == expected | {"mismatched_keys": mismatched}
    assert again.lm_head.weight is again.transformer.tokens_embed.weight
    assert again.lm_head.weight.shape == (12, 8) and not again.lm_head.weight.is_meta
    weight = "transformer.h.0.attn.c_attn.weight"
    assert torch.equal(again.get_parameter(weight), model.get_parameter(weight))


# -- the page of settings


def test_unknown_lines_of_a_page_survive(tmp_path):
    small_model(tmp_path)
    page = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    page |= {"n_ctx": 8, "task_specific_params": {"a": [1, None]}, "predict_special_tokens": True}
    (tmp_path / "config.json").write_text(json.dumps(page), encoding="utf-8")
    OpenAIGPTConfig.from_pretrained(tmp_path).save_pretrained(tmp_path / "config only")
    OpenAIGPTLMHeadModel.from_pretrained(tmp_path).save_pretrained(tmp_path / "model")
    for folder in ("config only", "model"):
        assert json.loads((tmp_path / folder / "config.json").read_text(encoding="utf-8")) == page


@pytest.mark.parametrize("name", ["output_attentions", "output_hidden_states", "return_dict"])
def test_what_a_page_says_of_outputs_holds_on_both_sides(tmp_path, name):
    small_model(tmp_path / "0", attn_implementation="eager", **{name: name != "return_dict"})
    ids, loaded = torch.arange(5)[None], []
    for library, place, to in ((transformers, "0", "1"), (minigpt, "1", "2"), (minigpt, "2", "3")):
        options = {"attn_implementation": "eager"}
        model = library.OpenAIGPTLMHeadModel.from_pretrained(tmp_path / place, **options).eval()
        model.save_pretrained(tmp_path / to)
        loaded.append(model(ids))
    for out in loaded:
        assert isinstance(out, tuple) == (name == "return_dict")
        assert len(out) == len(loaded[0]) == 1 + (name != "return_dict")
    assert name in json.loads((tmp_path / "3" / "config.json").read_text(encoding="utf-8"))


def test_the_names_of_transformers_are_taken_and_must_agree():
    config = OpenAIGPTConfig(hidden_size=24, num_attention_heads=3, num_hidden_layers=2)
    assert (config.n_embd, config.n_head, config.n_layer) == (24, 3, 2)
    with pytest.raises(ValueError, match="hidden_size=24, but n_embd=12"):
        OpenAIGPTConfig(hidden_size=24, n_embd=12)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"num_labels": 3, "id2label": {0: "a", 1: "b"}}, "num_labels=3, but id2label has 2"),
        ({"id2label": {0: "a", 2: "b"}}, "id2label=.*without a gap"),
        ({"id2label": {"x": "a"}}, "id2label=.*without a gap"),
        ({"id2label": {0: "a", 1: "b"}, "label2id": {"a": 1, "b": 0}}, "label2id=.*id2label="),
        ({"label2id": ["a", "b"]}, r"label2id=\['a', 'b'\]"),
        ({"n_layer": True}, "n_layer=True"),
        ({"resid_pdrop": False}, "resid_pdrop=False"),
        ({"summary_use_proj": 1}, "summary_use_proj=1"),
    ],
)
def test_settings_that_contradict_each_other_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        OpenAIGPTConfig(**settings)


def test_number_and_names_of_classes_go_together():
    names = {0: "a", 1: "b", 2: "c"}
    for given in (
        {"id2label": names},
        {"label2id": {"a": "0", "b": 1, "c": 2}},
        {"num_labels": 3, "id2label": names},
    ):
        config = OpenAIGPTConfig(**given)
        assert (config.num_labels, config.id2label) == (3, names)
        assert config.label2id == {"a": 0, "b": 1, "c": 2}


@pytest.mark.parametrize(
    "page, message",
    [
        ({"n_head": None}, "config.json: n_head=None"),
        ({"n_head": "2"}, "config.json: n_head='2'"),
        ({"n_layer": 2.0}, "config.json: n_layer=2.0"),
        ({"n_embd": True}, "config.json: n_embd=True"),
        ({"id2label": "ab"}, "config.json: id2label='ab'"),
        ({"dtype": 16}, "config.json: dtype=16"),
        ({"n_head": ...}, "config.json: there is no n_head"),
        ({"n_embd": ...}, "config.json: there is no n_embd"),
        ({"vocab_size": ...}, "config.json: there is no vocab_size"),
        ({"hidden_size": 9}, "config.json: hidden_size=9, but n_embd=8"),
        ({"id2label": 7}, "config.json: id2label=7"),
        ({"return_dict": "no"}, "config.json: return_dict='no'"),
        ({"n_layer": math.inf}, "config.json: n_layer=inf"),  # JSON for Python: Infinity
        ({"resid_pdrop": math.inf}, "config.json: resid_pdrop=inf"),
        ({"layer_norm_epsilon": math.inf}, "config.json: layer_norm_epsilon=inf"),
        ({"pad_token_id": math.inf}, "config.json: pad_token_id=inf"),
        ({"label2id": {"a": math.inf}}, "config.json: label2id={'a': inf}"),
        ({"id2label": {"0": ["a"], "1": "b"}}, r"config.json: id2label=\{'0': \['a'\]"),
        ({"pad_token_id": [1]}, r"config.json: pad_token_id=\[1\]"),  # only eos may be several
    ],
)
def test_a_bad_line_of_a_page_is_named_with_its_file(tmp_path, page, message):
    small_model(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text(encoding="utf-8")) | page
    settings = {name: value for name, value in settings.items() if value is not ...}
    (tmp_path / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(ValueError, match=message) as error:
        OpenAIGPTModel.from_pretrained(tmp_path)
    assert str(tmp_path) in str(error.value)
    if message.endswith("no n_head"):
        OpenAIGPTModel.from_pretrained(tmp_path, n_head=4)  # the way out


@pytest.mark.parametrize("kind", ["OpenAIGPTModel", "OpenAIGPTForSequenceClassification"])
def test_untied_tables_do_not_matter_without_a_head_that_scores_tokens(tmp_path, kind):
    config = transformers.OpenAIGPTConfig(**SMALL, tie_word_embeddings=False)
    theirs = getattr(transformers, kind)(config)
    theirs.save_pretrained(tmp_path / "theirs")
    getattr(minigpt, kind).from_pretrained(tmp_path / "theirs").save_pretrained(tmp_path / "ours")
    again = type(theirs).from_pretrained(tmp_path / "ours")
    assert again.config.tie_word_embeddings is False
    assert same(theirs, again)


@pytest.mark.parametrize("kind", ["OpenAIGPTLMHeadModel", "OpenAIGPTDoubleHeadsModel"])
def test_untied_tables_are_refused_by_a_head_that_scores_tokens(tmp_path, kind):
    small_model(tmp_path)
    page = json.loads((tmp_path / "config.json").read_text(encoding="utf-8")) | {
        "tie_word_embeddings": False
    }
    (tmp_path / "config.json").write_text(json.dumps(page), encoding="utf-8")
    with pytest.raises(ValueError, match="tie_word_embeddings=False.*remove the line"):
        getattr(minigpt, kind).from_pretrained(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "\xff", '{"model_type": 7}'])
def test_a_page_that_is_none_is_named(tmp_path, text):
    small_model(tmp_path)
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match="config.json.*(copy it again|pass a GPT-1)"):
        OpenAIGPTModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("text", ["[]", "{", '{"top_p": Infinity}', '{"temperature": "hot"}'])
def test_bad_settings_of_generation_are_named_with_their_file(tmp_path, text):
    small_model(tmp_path)
    (tmp_path / "generation_config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=f"^{tmp_path}/generation_config.json"):
        OpenAIGPTLMHeadModel.from_pretrained(tmp_path)


def test_weights_without_a_page_are_no_checkpoint(tmp_path):
    small_model(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match="holds none of config.json, params_shapes.json"):
        OpenAIGPTModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("wrong", ["OpenAIGPTModel", [7], 7])
def test_a_class_that_is_no_name_is_not_written_on(tmp_path, wrong):
    small_model(tmp_path / "0")
    page = json.loads((tmp_path / "0" / "config.json").read_text(encoding="utf-8")) | {
        "architectures": wrong
    }
    (tmp_path / "0" / "config.json").write_text(json.dumps(page), encoding="utf-8")
    with pytest.raises(ValueError, match="architectures=.*must be a list"):
        convert(tmp_path / "0", tmp_path / "1")
    assert not (tmp_path / "1").exists()


# -- the other formats


@pytest.mark.filterwarnings(WARNS)
@pytest.mark.parametrize("format", FORMATS)
def test_settings_of_the_caller_win_in_every_format(tmp_path, format):
    small_model(tmp_path / "0")
    convert(tmp_path / "0", tmp_path / "1", format)
    model = OpenAIGPTLMHeadModel.from_pretrained(tmp_path / "1", n_head=4, resid_pdrop=0.3)
    assert (model.config.n_head, model.config.resid_pdrop) == (4, 0.3)
    model = OpenAIGPTModel.from_pretrained(tmp_path / "1", n_head=8, device="meta")
    assert model.device.type == "meta"  # a device that every machine has
    with pytest.raises(ValueError, match="n_embd=8 cannot be cut into n_head=3"):
        OpenAIGPTModel.from_pretrained(tmp_path / "1", n_head=3)


@pytest.mark.filterwarnings(WARNS)
@pytest.mark.parametrize("through", ["safetensors", "bin"])
def test_a_release_comes_back_bit_for_bit(tmp_path, through):
    release = parity.GOLDEN / "model"
    convert(release, tmp_path / "there", through, max_shard_size="20KB", n_head=4)
    assert len(list((tmp_path / "there").glob("*.index.json"))) == 1
    written = convert(tmp_path / "there", tmp_path / "back", "openai")
    same_files, *others = filecmp.cmpfiles(release, tmp_path / "back", written, shallow=False)
    assert len(same_files) == 11 and others == [[], []]


@pytest.mark.filterwarnings(WARNS)
@pytest.mark.parametrize("first", ["safetensors", "bin", "openai"])
@pytest.mark.parametrize("second", ["safetensors", "bin", "openai"])
def test_every_format_becomes_every_other(tmp_path, first, second):
    model = small_model(tmp_path / "0", OpenAIGPTLMHeadModel)
    OpenAIGPTTokenizer.from_pretrained("tiny", "basic").save_vocabulary(tmp_path / "0")
    for name in ("vocab.json", "merges.txt"):  # of a model as small as its vocabulary
        (tmp_path / "0" / name).unlink()
    convert(tmp_path / "0", tmp_path / "1", first)
    convert(tmp_path / "1", tmp_path / "2", second, n_head=2)
    assert same(OpenAIGPTLMHeadModel.from_pretrained(tmp_path / "2", n_head=2), model)


def test_the_weights_of_a_head_go_along_but_not_into_a_release(tmp_path):
    model = small_model(tmp_path / "0", minigpt.OpenAIGPTForSequenceClassification)
    convert(tmp_path / "0", tmp_path / "1", "bin")
    kind = minigpt.OpenAIGPTForSequenceClassification
    assert same(kind.from_pretrained(tmp_path / "1"), model)
    assert same(
        transformers.OpenAIGPTForSequenceClassification.from_pretrained(tmp_path / "1"), model
    )
    with pytest.raises(ValueError, match="score.weight has no place"):
        convert(tmp_path / "0", tmp_path / "2", "openai")


@pytest.mark.filterwarnings(WARNS)
def test_the_vocabulary_is_written_under_the_names_of_2018(tmp_path):
    tokenizer = OpenAIGPTTokenizer.from_pretrained("tiny", "basic")
    weights, config = read_weights("tiny"), OpenAIGPTConfig.from_pretrained("tiny")
    write_release(tmp_path / "2018", weights, config, vocabulary_writers(tokenizer))
    again = OpenAIGPTTokenizer.from_pretrained(tmp_path / "2018", "basic")
    assert again.vocab == tokenizer.vocab and again.merges == tokenizer.merges
    names = convert(tmp_path / "2018", tmp_path / "today", n_head=4)
    tokenizer_files = {"vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"}
    assert {"model.safetensors", "config.json"} | tokenizer_files == set(names)


def saved_by_transformers(folder):
    """What transformers 5 writes: the vocabulary inside a tokenizer.json, and nowhere else."""
    OpenAIGPTTokenizer.from_pretrained("tiny", "basic").save_pretrained(folder / "ours")
    theirs = transformers.OpenAIGPTTokenizer.from_pretrained(folder / "ours")
    theirs.save_pretrained(folder / "theirs")
    OpenAIGPTLMHeadModel.from_pretrained("tiny").save_pretrained(folder / "theirs")
    return folder / "theirs"


@pytest.mark.filterwarnings(WARNS)
def test_a_vocabulary_inside_a_tokenizer_json_reaches_the_release(tmp_path):
    convert(saved_by_transformers(tmp_path), tmp_path / "2018", "openai")
    again = OpenAIGPTTokenizer.from_pretrained(tmp_path / "2018", "basic")
    expected = OpenAIGPTTokenizer.from_pretrained("tiny", "basic")
    assert (again.vocab, again.merges) == (expected.vocab, expected.merges)


OLD_PIECES = {"<pad>": 8192, "[CLS]": 8193, "<Q>": 8194}
FLAGS = {"lstrip": True, "rstrip": False, "normalized": False, "single_word": False}


def saved_long_ago(folder, files):
    """What transformers before 4.34 wrote: added pieces and roles in files of their own."""
    folder.mkdir()
    OpenAIGPTTokenizer.from_pretrained("tiny", "basic").save_vocabulary(folder)
    for name, page in files.items():
        (folder / f"{name}.json").write_text(json.dumps(page), encoding="utf-8")


@pytest.mark.parametrize(
    "files",
    [
        {"added_tokens": OLD_PIECES},
        {"special_tokens_map": {"unk_token": "<unk>", "pad_token": "<pad>"}},
        {
            "added_tokens": OLD_PIECES,
            "special_tokens_map": {"pad_token": "<pad>", "cls_token": {"content": "<Q>"} | FLAGS},
        },
        {  # settings of the day before, roles of today
            "added_tokens": OLD_PIECES,
            "tokenizer_config": {"cls_token": "<Q>", "pad_token": "[CLS]"},
            "special_tokens_map": {"pad_token": "<pad>"},
        },
        {"special_tokens_map": {"sep_token": {"content": "<Q>"} | FLAGS}},
    ],
)
def test_a_tokenizer_of_older_transformers_is_read_and_converted(tmp_path, files):
    saved_long_ago(tmp_path / "0", files)
    theirs = transformers.OpenAIGPTTokenizer.from_pretrained(tmp_path / "0")
    OpenAIGPTLMHeadModel.from_pretrained("tiny").save_pretrained(tmp_path / "0")
    convert(tmp_path / "0", tmp_path / "1", "bin")
    text = "the king <pad> said [CLS] to <Q> the old <q> man"
    for folder in ("0", "1"):
        for kind in (OpenAIGPTTokenizer, minigpt.OpenAIGPTTokenizerFast):
            ours = kind.from_pretrained(tmp_path / folder, "basic")
            assert ours.encode(text) == theirs.encode(text)
            assert len(ours) == len(theirs) > 8192
            for role in ("pad_token", "cls_token", "sep_token"):
                assert getattr(ours, role) == getattr(theirs, role)


@pytest.mark.parametrize("name", ["added_tokens", "special_tokens_map"])
@pytest.mark.parametrize("page", [[], {"<pad>": -1, "pad_token": 7}])
def test_a_bad_file_of_older_transformers_is_named(tmp_path, name, page):
    saved_long_ago(tmp_path / "0", {name: page})
    with pytest.raises(ValueError, match=f"{name}.json.*copy it again"):
        OpenAIGPTTokenizer.from_pretrained(tmp_path / "0")


def test_a_tokenizer_replaces_all_files_of_the_one_that_was_there(tmp_path):
    source = saved_by_transformers(tmp_path)
    assert not (source / "vocab.json").exists()
    written = convert("tiny", tmp_path / "new")
    (tmp_path / "new" / "vocab.json").write_text("of another model", encoding="utf-8")
    assert "vocab.json" in written and "vocab.json" not in convert(source, tmp_path / "new")
    assert OpenAIGPTTokenizer.from_pretrained(tmp_path / "new").encode("the king")


@pytest.mark.filterwarnings(WARNS)
@pytest.mark.parametrize("format", FORMATS)
def test_convert_tells_what_it_wrote_and_nothing_else(tmp_path, format):
    (tmp_path / "mine").write_text("mine", encoding="utf-8")
    written = convert("tiny", tmp_path, format)
    assert {path.name for path in tmp_path.iterdir()} - set(written) == {"mine"}


def test_the_settings_of_generation_go_along(tmp_path):
    model = small_model(tmp_path / "0")
    model.generation_config.top_k = 7
    model.save_pretrained(tmp_path / "0")
    assert "generation_config.json" in convert(tmp_path / "0", tmp_path / "1", "bin")
    assert OpenAIGPTLMHeadModel.from_pretrained(tmp_path / "1").generation_config.top_k == 7


@pytest.mark.parametrize("format", ["safetensors", "bin"])
def test_after_convert_transformers_cuts_texts_as_we_do(tmp_path, format):
    convert("tiny", tmp_path, format)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ours = minigpt.AutoTokenizer.from_pretrained(tmp_path)
    source = minigpt.AutoTokenizer.from_pretrained("tiny")
    for text in ("I'm sure she didn't.", "Mr. Smith\n\nand his wife -- said so", "don't; 3.5"):
        assert theirs(text)["input_ids"] == ours(text)["input_ids"] == source(text)["input_ids"]


def test_a_vocabulary_is_not_written_where_another_would_be_read(tmp_path):
    (tmp_path / "vocab.json").write_text("of another model", encoding="utf-8")
    with pytest.raises(FileExistsError, match="vocab.json.*in place of encoder_bpe_40000.json"):
        convert("tiny", tmp_path, "openai")
    assert [path.name for path in tmp_path.iterdir()] == ["vocab.json"]


def test_copies_of_parts_of_a_release_are_passed_over(tmp_path):
    shutil.copytree(parity.GOLDEN / "model", tmp_path / "0")
    for copy in ("params_3 (1).npy", "params_3_old.npy"):
        shutil.copy(tmp_path / "0" / "params_3.npy", tmp_path / "0" / copy)
    assert same(read_weights(tmp_path / "0"), read_weights(parity.GOLDEN / "model"))


def test_a_release_is_not_written_where_it_would_not_be_read(tmp_path):
    model = small_model(tmp_path)
    weights = {n.removeprefix("transformer."): x for n, x in model.named_parameters()}
    with pytest.raises(FileExistsError, match="config.json.*read in place of params_shapes.json"):
        write_release(tmp_path, weights, model.config)
    with pytest.raises(FileExistsError, match="model.safetensors.*in place of pytorch_model.bin"):
        convert(tmp_path, tmp_path, "bin")


@pytest.mark.parametrize("kind, wrong", [(np.int32, "int32"), (np.bool_, "bool")])
def test_whole_numbers_are_no_weights(tmp_path, kind, wrong):
    small_model(tmp_path)
    path = tmp_path / "model.safetensors"
    name = "transformer.h.0.ln_1.bias"
    save_file(load_file(path) | {name: torch.from_numpy(np.ones(8, kind))}, path)
    with pytest.raises(ValueError, match=f"h.0.ln_1.bias holds torch.{wrong}; only floats"):
        OpenAIGPTModel.from_pretrained(tmp_path)
    shutil.copytree(parity.GOLDEN / "model", tmp_path / "release")
    part = tmp_path / "release" / "params_3.npy"
    np.save(part, np.load(part).astype(kind))
    with pytest.raises(ValueError, match=f"params_3.npy holds {wrong}"):
        OpenAIGPTModel.from_pretrained(tmp_path / "release", n_head=4)


def test_a_second_token_table_and_old_buffers_are_no_news(tmp_path, recwarn):
    model = small_model(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    weights["lm_head.weight"] = weights["transformer.tokens_embed.weight"].clone()
    weights["transformer.position_ids"] = torch.arange(8)
    weights["transformer.h.0.attn.bias"] = torch.ones(1, 1, 8, 8, dtype=torch.uint8)
    save_file(weights, path)  # without the note "pt", as older programs did
    assert same(OpenAIGPTLMHeadModel.from_pretrained(tmp_path), model)
    assert not recwarn.list


def test_the_official_facts_agree_with_each_other_and_with_the_files():
    assert sum(map(np.prod, OFFICIAL["shapes"].values())) == OFFICIAL["parameters"]
    assert (
        OFFICIAL["continuation"][:3] == OFFICIAL["prompt"] and len(OFFICIAL["continuation"]) == 20
    )
    if not parity.OFFICIAL.is_dir():
        pytest.skip(parity.NO_OFFICIAL)
    for name, (size, digest) in OFFICIAL["files"].items():
        data = (parity.OFFICIAL / name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (size, digest)
    shapes = json.loads((parity.OFFICIAL / "params_shapes.json").read_text(encoding="utf-8"))
    assert [tuple(shape[-2:]) for shape in shapes] == list(OFFICIAL["shapes"].values())


# -- faults


def test_every_flipped_bit_of_a_header_is_noticed(tmp_path):
    config = small_model(tmp_path, n_layer=1).config
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    bits = 8 * (8 + int.from_bytes(whole[:8], "little"))
    random.seed(0)
    for bit in [*range(64), *random.sample(range(64, bits), 2000)]:
        broken = bytearray(whole)
        broken[bit // 8] ^= 1 << bit % 8
        path.write_bytes(broken)
        with pytest.raises(ValueError):  # of the file, or of a parameter that it now lacks
            check_weights(open_weights(tmp_path), config, only=True)
    path.write_bytes(whole)
    check_weights(open_weights(tmp_path), config, only=True)


@pytest.mark.parametrize("left", [0, 100, 128, 200, -1])
def test_a_part_of_a_release_cut_short_is_named(tmp_path, left):
    shutil.copytree(parity.GOLDEN / "model", tmp_path / "release")
    part = tmp_path / "release" / "params_3.npy"
    part.write_bytes(part.read_bytes()[:left])
    with pytest.raises(ValueError, match="params_3.npy is not a whole array"):
        OpenAIGPTModel.from_pretrained(tmp_path / "release", n_head=4)


@pytest.mark.parametrize("left", [0, 7, 8, 100, -1])
def test_a_file_cut_short_is_named(tmp_path, left):
    small_model(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ValueError, match="model.safetensors is damaged or was not copied whole"):
        OpenAIGPTModel.from_pretrained(tmp_path)


def test_a_vocabulary_of_another_size_is_named(tmp_path):
    small_model(tmp_path)
    OpenAIGPTTokenizer.from_pretrained("tiny", "basic").save_vocabulary(tmp_path)
    with pytest.raises(ValueError, match="vocab.json has 8192 pieces, but .* 11 rows"):
        convert(tmp_path, tmp_path / "bin", "bin")
    check_vocabulary(tmp_path / "vocab.json", 8192, 8192)


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
@pytest.mark.filterwarnings(WARNS)
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_new_files_may_be_read_by_whom_the_user_wants(tmp_path, mask):
    before = os.umask(mask)
    try:
        for size in ("50GB", "1KB"):
            small_model(tmp_path / size).save_pretrained(tmp_path / size, max_shard_size=size)
            convert(tmp_path / size, tmp_path / f"bin {size}", "bin", max_shard_size=size)
        convert("tiny", tmp_path / "2018", "openai")
        OpenAIGPTTokenizer.from_pretrained("tiny", "basic").save_pretrained(tmp_path / "tokenizer")
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 30
    assert {path.stat().st_mode & 0o777 for path in files} == {0o666 & ~mask}


@contextmanager
def no_file_beyond(size: int):
    """Let no file grow beyond `size` bytes, as on a full disk."""
    resource = pytest.importorskip("resource", reason="Windows limits the size of no file")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", ["50GB", "1KB"])
def test_a_full_disk_leaves_what_was_there(tmp_path, size):
    model, other = small_model(tmp_path), OpenAIGPTLMHeadModel(OpenAIGPTConfig(**SMALL))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with no_file_beyond(800):
        with pytest.raises(OSError, match="could not be saved .*make room if the disk is full"):
            other.save_pretrained(tmp_path, max_shard_size=size)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert same(OpenAIGPTLMHeadModel.from_pretrained(tmp_path), model)


@pytest.mark.filterwarnings(WARNS)
@pytest.mark.parametrize("format", [*FORMATS, "tokenizer", "config"])
def test_a_full_disk_leaves_no_half_file(tmp_path, format):
    save = {
        "tokenizer": lambda: OpenAIGPTTokenizer.from_pretrained("tiny").save_pretrained(tmp_path),
        "config": lambda: OpenAIGPTConfig(extra={"x": "x" * 99}).save_pretrained(tmp_path),
    }.get(format, lambda: convert("tiny", tmp_path, format))
    with no_file_beyond(99):
        with pytest.raises(OSError, match=rf"{tmp_path}/\w.* could not be saved .*make room"):
            save()
    assert list(tmp_path.iterdir()) == []
    save()
    assert list(tmp_path.iterdir()) != []


def test_a_full_disk_leaves_the_tokenizer_that_was_there(tmp_path):
    old = OpenAIGPTTokenizer.from_pretrained("tiny", "basic")
    old.save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    letters = {piece: n for n, piece in enumerate(x for x in old.vocab if len(x) < 6)}
    new = OpenAIGPTTokenizer(letters, [], "basic")
    sizes = [path.stat().st_size for path in map(tmp_path.joinpath, new.save_pretrained(tmp_path))]
    old.save_pretrained(tmp_path)
    with no_file_beyond(max(sizes) - 1):  # all files fit but one
        with pytest.raises(OSError, match="could not be saved .*make room"):
            new.save_pretrained(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.filterwarnings(WARNS)
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("mishap", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_mishap_with_the_vocabulary_leaves_no_weights_either(
    tmp_path, monkeypatch, format, mishap
):
    def fail(*_, **__):
        raise mishap

    monkeypatch.setattr("shutil.copyfile", fail)
    monkeypatch.setattr("minigpt.tokenizer.write_vocabulary", fail)
    with pytest.raises(type(mishap)):
        convert("tiny", tmp_path, format)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert len(convert("tiny", tmp_path, format)) >= 4


def test_a_folder_in_the_place_of_a_file_leaves_all_files_as_they_were(tmp_path):
    (tmp_path / "config.json").mkdir()
    with pytest.raises(IsADirectoryError, match="config.json could not be saved .a folder has"):
        convert("tiny", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


SAVERS = [OpenAIGPTConfig, OpenAIGPTLMHeadModel, OpenAIGPTTokenizer]


@pytest.mark.parametrize("kind", SAVERS)
def test_a_file_in_the_place_of_a_folder_is_named(tmp_path, kind):
    file, thing = tmp_path / "file", kind.from_pretrained("tiny")
    file.write_text("mine", encoding="utf-8")
    with pytest.raises(NotADirectoryError, match=f"^{file} is a file; pass a folder"):
        thing.save_pretrained(file)
    with pytest.raises(NotADirectoryError, match=f"^{file}/x could not be saved .Not a dir.*pass"):
        thing.save_pretrained(file / "x")
    with pytest.raises(NotADirectoryError, match=f"^{file} is a file; pass a folder"):
        convert("tiny", file)
    assert file.read_text(encoding="utf-8") == "mine" and list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("kind", SAVERS)
def test_no_model_is_saved_or_read_under_a_name_that_means_another(tmp_path, monkeypatch, kind):
    thing = kind.from_pretrained("tiny")
    monkeypatch.chdir(tmp_path)
    for name in ("", "tiny"):
        with pytest.raises(ValueError, match=f"'{name}' is no name to save under"):
            thing.save_pretrained(name)
    thing.save_pretrained(".")
    with pytest.raises(FileNotFoundError, match="no checkpoint ''.*check the spelling"):
        kind.from_pretrained("")


@pytest.mark.parametrize("name", [None, 3, b"tiny", ["tiny"]])
@pytest.mark.parametrize("kind", SAVERS)
def test_what_is_no_name_is_named(kind, name):
    for act in (kind.from_pretrained, kind.from_pretrained("tiny").save_pretrained):
        with pytest.raises(TypeError, match=re.escape(f"{name!r} is no name of a checkpoint")):
            act(name)


@pytest.mark.parametrize("size", ["5XB", "", None, [5], 0, -1, "0MB", "-5MB", "infMB", "1e400MB"])
def test_a_size_of_shards_that_is_none_is_named(tmp_path, size):
    with pytest.raises(ValueError, match=r"max_shard_size=.* is no size; pass"):
        small_model(tmp_path).save_pretrained(tmp_path, max_shard_size=size)


def test_a_size_of_shards_may_be_a_number_in_a_string(tmp_path):
    for size in (2000, "2000"):
        small_model(tmp_path / repr(size)).save_pretrained(tmp_path / repr(size), size)
    names = [sorted(path.name for path in folder.iterdir()) for folder in tmp_path.iterdir()]
    assert names[0] == names[1] and len(names[0]) > 3


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_weights_that_may_not_be_read_are_not_called_missing(name):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = Path(folder, name)
        path.write_bytes(b"secret")
        path.chmod(0)
        user = os.geteuid()
        if user == 0:  # who may read all
            os.seteuid(65534)
        try:
            with pytest.raises(PermissionError, match=name):
                open_array_file(path)
        finally:
            os.seteuid(user)


@pytest.mark.parametrize("kind", [*SAVERS, "AutoConfig", "AutoModel", "AutoTokenizer"])
def test_one_set_of_keywords_loads_and_saves_config_model_and_tokenizer(tmp_path, kind):
    name = kind if isinstance(kind, str) else kind.__name__
    OpenAIGPTLMHeadModel.from_pretrained("tiny").save_pretrained(tmp_path)
    OpenAIGPTTokenizer.from_pretrained("tiny", "basic").save_pretrained(tmp_path)
    load = {"dtype": "float16", "attn_implementation": "eager", "revision": "main"}
    load |= {"output_loading_info": False, "ignore_mismatched_sizes": False, "cache_dir": None}
    for library, own in ((minigpt, {"device": "cpu"}), (transformers, {})):
        kind = getattr(library, name)
        thing = kind.from_pretrained(pretrained_model_name_or_path=tmp_path, **load, **own)
        thing.save_pretrained(save_directory=tmp_path / "again", max_shard_size="5MB")
        kind.from_pretrained(tmp_path / "again")
    with pytest.raises(TypeError, match="devise"):
        getattr(minigpt, name).from_pretrained(tmp_path, devise="cpu")


def test_an_option_of_transformers_that_is_not_taken_is_named(tmp_path):
    with pytest.raises(TypeError, match="no option config, load_in_8bit; pass fields of the"):
        OpenAIGPTModel.from_pretrained("tiny", config=OpenAIGPTConfig(), load_in_8bit=True)


def test_a_folder_that_may_not_be_written_is_left_alone(tmp_path, monkeypatch):
    model = small_model(tmp_path)

    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")  # for root, permissions do not count

    monkeypatch.setattr("tempfile._os.mkdir", refuse)
    with pytest.raises(OSError, match=f"^{tmp_path} could not be saved .Read-only .*pass another"):
        model.half().save_pretrained(tmp_path)
    monkeypatch.undo()
    names = ["config.json", "generation_config.json", "model.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert OpenAIGPTLMHeadModel.from_pretrained(tmp_path).dtype == torch.float32


SAVE_AGAIN_AND_AGAIN = """
    import os, sys, time, minigpt
    layers, folder, start, delay = int(sys.argv[1]), sys.argv[2], *map(float, sys.argv[3:])
    rename = os.replace
    os.replace = lambda *paths: (time.sleep(delay), rename(*paths))  # a slow disk
    config = minigpt.OpenAIGPTConfig(
        vocab_size=11, n_positions=8, n_embd=8, n_layer=layers, n_head=2)
    model = minigpt.OpenAIGPTLMHeadModel(config)
    model.generation_config.top_k = layers
    for x in model.parameters():
        x.data.fill_(layers)
    time.sleep(max(0, start - time.time()))
    while time.time() < start + 2:
        model.save_pretrained(folder, max_shard_size=1000)
"""


def test_two_processes_saving_at_once_leave_one_whole_model(tmp_path):
    code, start = textwrap.dedent(SAVE_AGAIN_AND_AGAIN), str(time.time() + 8)
    runs = [
        subprocess.Popen([sys.executable, "-c", code, layers, str(tmp_path), start, delay])
        for layers, delay in (("2", "0.05"), ("3", "0.001"))  # the slow one is overtaken
    ]
    assert [run.wait(timeout=120) for run in runs] == [0, 0]
    model = OpenAIGPTLMHeadModel.from_pretrained(tmp_path)  # all of it of the same save
    assert {x.unique().item() for x in model.parameters()} == {float(model.config.n_layer)}
    assert model.generation_config.top_k == model.config.n_layer
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text(encoding="utf-8"))
    assert {path.name for path in tmp_path.glob("model-*")} == set(index["weight_map"].values())


@pytest.mark.parametrize("kind", [OpenAIGPTLMHeadModel, OpenAIGPTTokenizer])
def test_a_reader_waits_while_files_are_exchanged(tmp_path, kind):
    kind.from_pretrained("tiny").save_pretrained(tmp_path)
    loaded = []
    load = threading.Thread(target=lambda: loaded.append(kind.from_pretrained(tmp_path)))
    with locked(tmp_path):
        load.start()
        load.join(timeout=1)
        assert load.is_alive() and not loaded
    load.join(timeout=60)
    assert type(loaded[0]) is kind
    with while_read(tmp_path), while_read(tmp_path), while_read("no folder"):  # readers do not
        pass


def test_one_file_and_shards_replace_each_other(tmp_path):
    for size in ("1KB", "50GB", "2KB"):
        model = small_model(tmp_path / "sizes")
        model.save_pretrained(tmp_path / "sizes", max_shard_size=size)
        assert same(OpenAIGPTLMHeadModel.from_pretrained(tmp_path / "sizes"), model)
        assert same(transformers.OpenAIGPTLMHeadModel.from_pretrained(tmp_path / "sizes"), model)


def test_a_model_may_be_saved_over_the_file_it_was_read_from(tmp_path):
    model = small_model(tmp_path)
    again = OpenAIGPTLMHeadModel.from_pretrained(tmp_path)
    again.transformer.h[0].ln_1.bias.data.add_(1)
    again.save_pretrained(tmp_path)
    assert same(OpenAIGPTLMHeadModel.from_pretrained(tmp_path), again) and not same(again, model)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_links_and_letters_of_all_kinds_in_a_path(tmp_path):
    folder = tmp_path / "Gewichte für 重み «1»"
    model = small_model(folder)
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    (tmp_path / "cache").mkdir()
    for path in folder.iterdir():  # as the hub's cache does
        (tmp_path / "cache" / path.name).symlink_to(path)
    for place in (folder, tmp_path / "link", str(tmp_path / "cache")):
        assert same(OpenAIGPTLMHeadModel.from_pretrained(place), model)
    model.save_pretrained(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    tokenizer = OpenAIGPTTokenizer.from_pretrained("tiny", "basic")
    tokenizer.save_pretrained(tmp_path / "link")
    assert OpenAIGPTTokenizer.from_pretrained(folder, "basic") == tokenizer


def test_shards_carry_the_note_that_older_programs_ask_for(tmp_path):
    small_model(tmp_path).save_pretrained(tmp_path, max_shard_size="1KB")
    for path in tmp_path.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            assert file.metadata() == {"format": "pt"}
