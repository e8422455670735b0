"""Models from and into checkpoints of every format, and what version 0.1 saved."""

import filecmp
import json
import os
import re
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from minigpt.hf.configuration import OpenAIGPTConfig
from minigpt.hf.loading import FORMATS, convert
from minigpt.hf.models import (
    OpenAIGPTDoubleHeadsModel,
    OpenAIGPTForSequenceClassification,
    OpenAIGPTLMHeadModel,
    OpenAIGPTModel,
)
from minigpt.hf.tokenization import OpenAIGPTTokenizer, OpenAIGPTTokenizerFast
from tests.checkpoints import RELEASE, same, small_model

FIXTURES = Path(__file__).parent / "fixtures" / "v0.1"
EXPECTED = json.loads((FIXTURES / "expected.json").read_text())


# -- what version 0.1 saved


def assert_as_in_v01(found: torch.Tensor, name: str, key: str = "logits") -> None:
    torch.testing.assert_close(found, torch.tensor(EXPECTED[name][key]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["safetensors", "shards", "bin", "release"])
def test_models_of_version_01_load(name):
    options = {"n_head": 2} if name == "release" else {}
    model = OpenAIGPTLMHeadModel.from_pretrained(FIXTURES / name, **options)
    assert_as_in_v01(model(torch.tensor(EXPECTED["ids"])).logits[0, -2:], name)
    assert model.lm_head.weight is model.transformer.tokens_embed.weight and not model.training
    if name == "safetensors":
        found = model.generation_config
        assert (found.top_k, found.max_new_tokens, found.eos_token_id) == (7, 6, 5)


def test_heads_of_version_01_load():
    ids = torch.tensor(EXPECTED["ids"])
    model = OpenAIGPTForSequenceClassification.from_pretrained(FIXTURES / "classifier")
    assert model.dtype == torch.float16
    assert list(model.config.id2label.values()) == EXPECTED["classifier"]["id2label"]
    assert_as_in_v01(model.float()(ids).logits, "classifier")
    double = OpenAIGPTDoubleHeadsModel.from_pretrained(FIXTURES / "double_heads")
    out = double(ids[None], mc_token_ids=torch.tensor([[11]]))
    assert_as_in_v01(out.logits[0, 0, -2:], "double_heads")
    assert_as_in_v01(out.mc_logits, "double_heads", "mc_logits")


@pytest.mark.parametrize("pipeline", ["basic", "original"])
@pytest.mark.parametrize("kind", [OpenAIGPTTokenizer, OpenAIGPTTokenizerFast])
def test_tokenizers_of_version_01_load(kind, pipeline):
    name = f"tokenizer_{pipeline}"
    expected, tokenizer = EXPECTED[name], kind.from_pretrained(FIXTURES / name)
    ids = [tokenizer.encode(text) for text in EXPECTED["texts"]]
    assert ids == expected["ids"]
    found = "<q>" if pipeline == "basic" else "< q >"  # today as transformers: what is searched for
    decoded = [text.replace("<Q>", found) for text in expected["decoded"]]
    assert [tokenizer.decode(row) for row in ids] == decoded
    assert len(tokenizer) == expected["length"]
    assert tokenizer.pad_token_id == expected["pad_token_id"]
    assert tokenizer(EXPECTED["texts"], padding=True)["input_ids"] == expected["padded"]


# -- saving and loading


def test_a_saved_model_comes_back_exactly_and_without_random_numbers(tmp_path):
    model = small_model(tmp_path, author="me")
    state = torch.get_rng_state()
    again = OpenAIGPTLMHeadModel.from_pretrained(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert again.config == model.config and same(again, model)
    assert same(OpenAIGPTModel.from_pretrained(tmp_path), model.transformer)
    again.transformer.h[0].ln_1.bias.data.add_(1)
    again.save_pretrained(tmp_path)  # over the file from which it was read
    assert same(OpenAIGPTLMHeadModel.from_pretrained(tmp_path), again) and not same(again, model)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}  # which older programs ask for


def test_one_file_and_shards_replace_each_other(tmp_path):
    for size in ("1KB", "50GB", 2000):
        model = small_model(tmp_path)
        model.save_pretrained(tmp_path, max_shard_size=size)
        assert same(OpenAIGPTLMHeadModel.from_pretrained(tmp_path), model)
        assert (tmp_path / "model.safetensors").exists() == (size == "50GB")
    with pytest.raises(ValueError, match="Unit 'XB' not supported"):
        model.save_pretrained(tmp_path, max_shard_size="5XB")


def test_dtypes_are_chosen_by_the_caller_the_config_or_the_weights(tmp_path):
    model, load = small_model(tmp_path).half(), OpenAIGPTLMHeadModel.from_pretrained
    model.save_pretrained(tmp_path)
    assert load(tmp_path).dtype == load(tmp_path, dtype="auto").config.dtype == torch.float16
    assert load(tmp_path, torch_dtype="bfloat16").dtype == torch.bfloat16
    page = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(page | {"dtype": None}))
    assert load(tmp_path).dtype == torch.float16


def test_a_config_and_weights_may_be_given(tmp_path):
    model = small_model(tmp_path)
    config = OpenAIGPTConfig.from_pretrained(tmp_path)
    again = OpenAIGPTLMHeadModel.from_pretrained(tmp_path, config=config, attn_pdrop=0.3)
    assert same(again, model) and (again.config.attn_pdrop, config.attn_pdrop) == (0.3, 0.1)
    weights = {name: x + 1 for name, x in model.state_dict().items()}
    again = OpenAIGPTLMHeadModel.from_pretrained(None, config=config, state_dict=weights)
    assert torch.equal(again.get_parameter("lm_head.weight"), weights["lm_head.weight"])
    assert again.lm_head.weight.data_ptr() != weights["lm_head.weight"].data_ptr()
    model.save_pretrained(tmp_path, state_dict=weights)
    assert same(OpenAIGPTLMHeadModel.from_pretrained(tmp_path), again)
    for options in ({"config": config}, {}):
        with pytest.raises(TypeError, match="argument 'load_in_8bit'"):
            OpenAIGPTModel.from_pretrained(tmp_path, load_in_8bit=True, **options)


def test_options_that_change_nothing_and_devices(tmp_path):
    small_model(tmp_path)
    options = {"low_cpu_mem_usage": True, "cache_dir": None, "device_map": {"": "cpu"}}
    options |= {"adapter_kwargs": {}, "_commit_hash": None}  # which their auto classes pass on
    model = OpenAIGPTLMHeadModel.from_pretrained(pretrained_model_name_or_path=tmp_path, **options)
    model.save_pretrained(save_directory=tmp_path, safe_serialization=True, push_to_hub=False)
    model.save_pretrained(tmp_path / "none", is_main_process=False)
    assert not (tmp_path / "none").exists()
    for device, kind in {"meta": "meta", -1: "cpu"}.items():
        assert OpenAIGPTModel.from_pretrained(tmp_path, device=device).device.type == kind
    with pytest.raises(ValueError, match="device='nowhere' is not available.*pass 'auto'"):
        OpenAIGPTModel.from_pretrained(tmp_path, device="nowhere")


# -- heads


def test_a_new_head_is_made_as_in_a_new_model_and_announced_in_one_message(tmp_path):
    small_model(tmp_path, OpenAIGPTDoubleHeadsModel, n_embd=512)
    with pytest.warns(UserWarning) as said:
        model = OpenAIGPTForSequenceClassification.from_pretrained(
            tmp_path, num_labels=40, initializer_range=0.1
        )
    assert abs(model.score.weight.std().item() - 0.1) < 0.005
    new, unused = str(said[0].message).split("; ")
    assert len(said) == 1 and new.endswith("to be trained: score.weight")
    assert new.startswith("OpenAIGPTForSequenceClassification") and unused.startswith(
        "2 of its tensors are not used: "
    )
    assert said[0].filename == __file__  # the line of the caller


def test_another_shape_is_an_error_or_made_anew(tmp_path):
    model, load = small_model(tmp_path), OpenAIGPTLMHeadModel.from_pretrained
    with pytest.raises(ValueError, match=r"tokens_embed.weight.*\(11, 8\).*\(12, 8\).*mismatched"):
        load(tmp_path, vocab_size=12)
    with pytest.warns(UserWarning, match="to be trained: transformer.tokens_embed.weight"):
        again = load(tmp_path, vocab_size=12, ignore_mismatched_sizes=True)
    assert again.lm_head.weight is again.transformer.tokens_embed.weight
    assert again.lm_head.weight.shape == (12, 8) and not again.lm_head.weight.is_meta
    assert same(again.transformer.h, model.transformer.h)
    with pytest.raises(ValueError, match="lacks h.2.ln_1.weight; is n_layer=3 right"):
        load(tmp_path, n_layer=3)


def test_a_head_for_other_labels_is_made_anew(tmp_path):
    small_model(tmp_path, OpenAIGPTForSequenceClassification, num_labels=3)
    load, options = OpenAIGPTForSequenceClassification.from_pretrained, {"num_labels": 5}
    with pytest.raises(ValueError, match=r"score.weight has shape \(3, 8\)"):
        load(tmp_path, **options)
    with pytest.warns(UserWarning, match="to be trained: score.weight"):
        model = load(tmp_path, **options, ignore_mismatched_sizes=True)
    assert model.score.weight.shape == (5, 8) and model(torch.tensor([[1]])).logits.isfinite().all()


# -- files of others


def rewrite(path: Path, change) -> None:
    weights = load_file(path)
    weights = change(weights) or weights
    save_file(weights, path)


def test_masks_a_second_embedding_and_further_tensors_are_no_trouble(tmp_path):
    model, path = small_model(tmp_path), tmp_path / "model.safetensors"

    def add(weights):
        weights["lm_head.weight"] = weights["transformer.tokens_embed.weight"].clone()
        weights["transformer.position_ids"] = torch.arange(8)
        weights["transformer.h.0.attn.bias"] = torch.ones(1, 1, 8, 8, dtype=torch.uint8)

    rewrite(path, add)  # without the metadata "pt", as older programs did
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(OpenAIGPTLMHeadModel.from_pretrained(tmp_path), model)
    rewrite(path, lambda weights: weights.update(counter=torch.tensor([3.0])))
    with pytest.warns(UserWarning, match="1 of its tensors are not used: counter"):
        assert same(OpenAIGPTLMHeadModel.from_pretrained(tmp_path), model)


def test_a_missing_parameter_is_made_anew_unless_it_has_another_name(tmp_path):
    model, path = small_model(tmp_path), tmp_path / "model.safetensors"
    name, load = "transformer.h.1.ln_1.weight", OpenAIGPTLMHeadModel.from_pretrained
    rewrite(path, lambda weights: {n: x for n, x in weights.items() if n != name})
    with pytest.warns(UserWarning, match=f"to be trained: {name}"):
        again, info = load(tmp_path, output_loading_info=True)
    assert info["missing_keys"] == {name} and same(again, model)  # new ones are 1, too
    rewrite(path, lambda weights: weights | {"h.1.ln_1.weighs": torch.ones(8)})
    with pytest.raises(ValueError, match=f"lacks {name}, but has h.1.ln_1.weighs"):
        load(tmp_path)


def test_other_metadata_and_orders_in_a_header_are_no_damage(tmp_path):
    model, path = small_model(tmp_path), tmp_path / "model.safetensors"
    raw = path.read_bytes()
    n = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:n])
    header = {"__metadata__": {"format": "mlx", "by": "me"}} | dict(sorted(header.items()))
    for blanks in range(4):  # three of these are not aligned
        text = (json.dumps(header, indent=3) + " " * blanks).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + raw[n:])
        again = OpenAIGPTLMHeadModel.from_pretrained(tmp_path)
        assert same(again, model) and all(x.data_ptr() % 4 == 0 for x in again.parameters())


def test_a_head_alone_is_the_embedding_and_another_head_is_refused(tmp_path):
    model, path = small_model(tmp_path), tmp_path / "model.safetensors"
    table, name = load_file(path)["transformer.tokens_embed.weight"], "lm_head.weight"

    def rename(weights):
        weights[name] = weights.pop("transformer.tokens_embed.weight")

    rewrite(path, rename)
    assert same(OpenAIGPTLMHeadModel.from_pretrained(tmp_path), model)
    rewrite(path, lambda weights: weights.update({"tokens_embed.weight": table + 1}))
    with pytest.raises(
        ValueError, match="^" + re.escape(str(path)) + ": lm_head.weight differs from tokens"
    ):
        OpenAIGPTLMHeadModel.from_pretrained(tmp_path)


def test_untied_embeddings_are_refused_by_a_head_that_scores_tokens(tmp_path):
    small_model(tmp_path, tie_word_embeddings=False)
    OpenAIGPTModel.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="tie_word_embeddings=False.*pass tie_word"):
        OpenAIGPTLMHeadModel.from_pretrained(tmp_path)
    OpenAIGPTLMHeadModel.from_pretrained(tmp_path, tie_word_embeddings=True)


# -- the other formats


@pytest.mark.parametrize("to", FORMATS)
def test_every_format_is_read_again(tmp_path, to):
    model = small_model(tmp_path / "0")
    convert(tmp_path / "0", tmp_path / "1", to, "2KB")
    again = OpenAIGPTLMHeadModel.from_pretrained(tmp_path / "1", n_head=2, resid_pdrop=0.3)
    assert same(again, model) and again.config.resid_pdrop == 0.3


def test_a_release_comes_back_bit_for_bit(tmp_path):
    convert(RELEASE, tmp_path / "there", max_shard_size="20KB", n_head=4)
    assert len(list((tmp_path / "there").glob("*.index.json"))) == 1
    written = convert(tmp_path / "there", tmp_path / "back", "openai")
    same_files, *others = filecmp.cmpfiles(RELEASE, tmp_path / "back", written, shallow=False)
    assert len(same_files) == 11 and others == [[], ["config.json", "generation_config.json"]]


@pytest.mark.parametrize("prefix, is_zip", [("transformer.", True), ("", True), ("", False)])
def test_a_bin_of_today_or_of_old_is_read(tmp_path, prefix, is_zip):
    model = small_model(tmp_path)
    bias = model.transformer.h[0].mlp.c_fc.bias
    bias.data = torch.ones(1).expand(bias.shape)  # a view becomes whole
    weights = dict(model.named_parameters()) if is_zip else model.state_dict()
    weights = {n.replace("transformer.", prefix): x for n, x in weights.items()}
    weights |= {f"{prefix}h.{n}.attn.bias": torch.ones(1, 1, 8, 8) for n in range(2)}
    (tmp_path / "model.safetensors").unlink()
    path = tmp_path / "pytorch_model.bin"
    torch.save(weights, path, _use_new_zipfile_serialization=is_zip)
    again = OpenAIGPTLMHeadModel.from_pretrained(tmp_path)
    assert same(again, model) and again.transformer.h[0].mlp.c_fc.bias.is_contiguous()
    assert all(type(x) is torch.nn.Parameter for x in again.parameters())
    assert same(OpenAIGPTLMHeadModel.from_pretrained(tmp_path, dtype="float16"), model.half())


def test_a_converted_folder_is_loaded_as_its_source(tmp_path):
    tokenizer = {"vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"}
    old = convert("tiny", tmp_path / "2018", "openai")
    assert {"encoder_bpe_40000.json", "vocab_40000.bpe", "config.json"} <= {*old}
    written = convert(tmp_path / "2018", tmp_path / "today")
    assert {"model.safetensors", "config.json"} | tokenizer <= {*written}
    assert {*written} == {*os.listdir(tmp_path / "today")}
    places = "tiny", tmp_path / "today"
    assert same(*map(OpenAIGPTLMHeadModel.from_pretrained, places))
    first, second = map(OpenAIGPTTokenizer.from_pretrained, places)
    assert (first.vocab, first.merges) == (second.vocab, second.merges)
    with pytest.raises(FileExistsError, match="today is not empty; pass a new folder"):
        convert("tiny", tmp_path / "today", "bin")  # the old files would be read


@pytest.mark.parametrize("to", FORMATS)
def test_convert_by_force_leaves_one_checkpoint_and_other_files(to, tmp_path):
    for old in FORMATS:
        convert("tiny", tmp_path / old, old, "6MB")
        (tmp_path / old / "notes.txt").touch()
        written = convert("tiny", tmp_path / old, to, force=True)
        assert sorted(os.listdir(tmp_path / old)) == sorted([*written, "notes.txt"])


def test_heads_and_settings_of_generation_go_along_but_heads_not_into_a_release(tmp_path):
    small_model(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"top_k": 7}')
    convert(tmp_path, tmp_path / "bin", "bin")
    assert OpenAIGPTLMHeadModel.from_pretrained(tmp_path / "bin").generation_config.top_k == 7
    for kind in (OpenAIGPTModel, OpenAIGPTDoubleHeadsModel, OpenAIGPTForSequenceClassification):
        model = small_model(tmp_path, kind)
        convert(tmp_path, tmp_path / kind.__name__)
        assert same(kind.from_pretrained(tmp_path / kind.__name__), model)
    with pytest.raises(ValueError, match="score.weight has no place"):
        convert(tmp_path, tmp_path / "openai", "openai")


# -- memory


PEAK = """
    import sys, torch
    from minigpt.hf.models import OpenAIGPTModel
    def memory(key):
        lines = open("/proc/self/status").read().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))
    OpenAIGPTModel.from_pretrained("tiny")
    before = memory("VmRSS")
    model = OpenAIGPTModel.from_pretrained(sys.argv[1], dtype=sys.argv[2])
    [x.detach().sum() for x in model.parameters()]
    print((memory("VmHWM") - before) / (model.num_parameters() * model.dtype.itemsize))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads Linux's counters")
@pytest.mark.parametrize("size, dtype", [("50GB", "float32"), ("60MB", "float16")])
def test_loading_takes_little_more_memory_than_the_model(tmp_path, size, dtype):
    model = OpenAIGPTModel(OpenAIGPTConfig(n_layer=8, vocab_size=5000))  # 61 million weights
    model.save_pretrained(tmp_path, max_shard_size=size)
    command = [sys.executable, "-c", textwrap.dedent(PEAK), str(tmp_path), dtype]
    assert float(subprocess.run(command, check=True, capture_output=True).stdout) < 1.15
