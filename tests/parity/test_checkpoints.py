"""One folder on both sides: minigpt and transformers read what the other has saved."""

import pytest
import torch
import transformers

import minigpt
from minigpt.hf.configuration import OpenAIGPTConfig
from minigpt.hf.loading import convert
from tests import helpers
from tests.checkpoints import SMALL, same, small_model

KINDS = {
    "OpenAIGPTModel": "AutoModel",
    "OpenAIGPTLMHeadModel": "AutoModelForCausalLM",
    "OpenAIGPTDoubleHeadsModel": None,
    "OpenAIGPTForSequenceClassification": "AutoModelForSequenceClassification",
}
KINDS_OF_AUTO = ["AutoConfig", "AutoModel", "AutoTokenizer"]


def first_output(model):
    double = "Double" in type(model).__name__
    return model(torch.arange(10).view(1, 1, 10) % 7 if double else torch.arange(10)[None])[0]


@pytest.mark.parametrize("size", ["50GB", "40KB"])
@pytest.mark.parametrize("kind", KINDS)
def test_models_travel_both_ways(tmp_path, kind, size):
    eager = {"attn_implementation": "eager"}
    theirs, ours = helpers.random_pair(kind=kind, **eager)
    for saved, library in ((ours, transformers), (theirs, minigpt)):
        folder = tmp_path / library.__name__
        saved.save_pretrained(folder, max_shard_size=size)
        assert (folder / "model.safetensors").exists() == (size == "50GB")
        for name in filter(None, (kind, KINDS[kind])):
            there, info = getattr(library, name).from_pretrained(
                folder, output_loading_info=True, **eager
            )
            assert not any(info.values())
            assert type(there).__name__ == kind and same(there, saved)
            assert torch.allclose(first_output(there.eval()), first_output(saved), atol=1e-6)


@pytest.mark.parametrize("wish", [None, "auto", torch.bfloat16])
@pytest.mark.parametrize("saved", [torch.float32, torch.float16])
def test_the_dtype_is_that_of_transformers(tmp_path, saved, wish):
    small_model(tmp_path).to(saved).save_pretrained(tmp_path)
    options = {} if wish is None else {"dtype": wish}
    ours = minigpt.OpenAIGPTLMHeadModel.from_pretrained(tmp_path, **options)
    theirs = transformers.OpenAIGPTLMHeadModel.from_pretrained(tmp_path, **options)
    assert ours.dtype == theirs.dtype == ours.config.dtype and same(ours, theirs)


def test_what_is_missing_unexpected_or_mismatched_is_told_as_by_transformers(tmp_path):
    small_model(tmp_path, minigpt.OpenAIGPTDoubleHeadsModel)
    for kind, options in (
        ("OpenAIGPTForSequenceClassification", {}),
        ("OpenAIGPTModel", {}),
        ("OpenAIGPTLMHeadModel", {"vocab_size": 12, "ignore_mismatched_sizes": True}),
    ):
        infos = []
        for library in (minigpt, transformers):
            load = getattr(library, kind).from_pretrained
            with pytest.warns(UserWarning) if library is minigpt else torch.no_grad():
                model, info = load(tmp_path, output_loading_info=True, **options)
            assert not any(x.is_meta or x.isnan().any() for x in model.parameters())
            mismatched = {(n, tuple(a), tuple(b)) for n, a, b in info["mismatched_keys"]}
            infos.append(info | {"mismatched_keys": mismatched})
        assert infos[0] == infos[1]


@pytest.mark.parametrize("name", ["output_attentions", "output_hidden_states", "return_dict"])
def test_what_a_config_says_of_outputs_holds_on_both_sides(tmp_path, name):
    small_model(tmp_path / "0", attn_implementation="eager", **{name: name != "return_dict"})
    ids, lengths = torch.arange(5)[None], []
    for library, place, to in ((transformers, "0", "1"), (minigpt, "1", "2"), (minigpt, "2", "3")):
        options = {"attn_implementation": "eager"}
        model = library.OpenAIGPTLMHeadModel.from_pretrained(tmp_path / place, **options).eval()
        model.save_pretrained(tmp_path / to)
        lengths.append(len(model(ids)))
    assert lengths == [1 + (name != "return_dict")] * 3


def test_configs_travel_both_ways(tmp_path):
    theirs = transformers.OpenAIGPTConfig(**SMALL, num_labels=3, n_ctx=8, dtype="float16")
    theirs.id2label = {0: "a", 1: "b", 2: "c"}  # label2id stays LABEL_0, ... there
    theirs.save_pretrained(tmp_path)
    ours = OpenAIGPTConfig.from_pretrained(tmp_path)
    assert (ours.id2label, ours.n_ctx, ours.dtype) == (theirs.id2label, 8, torch.float16)
    ours.num_labels = 5
    ours.save_pretrained(tmp_path)
    again = transformers.OpenAIGPTConfig.from_pretrained(tmp_path)
    assert (again.num_labels, again.n_ctx, again.dtype) == (5, 8, torch.float16)
    transformers.OpenAIGPTModel(transformers.OpenAIGPTConfig(**ours.to_dict()))  # it takes all
    page = theirs.to_dict()
    for alias in ("hidden_size", "num_hidden_layers", "num_attention_heads"):
        assert getattr(ours, alias) == getattr(theirs, alias)
    known = set(OpenAIGPTConfig.__dataclass_fields__) - {"attn_implementation"}
    assert known <= page.keys() and all(
        getattr(OpenAIGPTConfig(), name) == getattr(transformers.OpenAIGPTConfig(), name)
        for name in known
    )


def test_untied_embeddings_do_not_matter_without_a_head_that_scores_tokens(tmp_path):
    config = transformers.OpenAIGPTConfig(**SMALL, tie_word_embeddings=False)
    theirs = transformers.OpenAIGPTModel(config)
    theirs.save_pretrained(tmp_path / "theirs")
    minigpt.OpenAIGPTModel.from_pretrained(tmp_path / "theirs").save_pretrained(tmp_path / "ours")
    again = type(theirs).from_pretrained(tmp_path / "ours")
    assert again.config.tie_word_embeddings is False and same(theirs, again)


@pytest.mark.parametrize("to", ["safetensors", "bin"])
def test_what_convert_writes_transformers_loads(tmp_path, to):
    convert("tiny", tmp_path, to, max_shard_size="8MB")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert same(theirs, minigpt.AutoModelForCausalLM.from_pretrained("tiny"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ours = minigpt.AutoTokenizer.from_pretrained("tiny")
    for text in ("I'm sure she didn't.", "Mr. Smith\n\nand his wife -- said so", "don't; 3.5"):
        assert tokenizer(text)["input_ids"] == ours(text)["input_ids"]


@pytest.mark.parametrize("kind", ["Config", "LMHeadModel", "Tokenizer", *KINDS_OF_AUTO])
def test_one_set_of_keywords_loads_and_saves_config_model_and_tokenizer(tmp_path, kind):
    name = kind if kind.startswith("Auto") else f"OpenAIGPT{kind}"
    minigpt.OpenAIGPTLMHeadModel.from_pretrained("tiny").save_pretrained(tmp_path)
    minigpt.OpenAIGPTTokenizer.from_pretrained("tiny", "basic").save_pretrained(tmp_path)
    load = {"dtype": "float16", "attn_implementation": "eager", "revision": "main"}
    load |= {"output_loading_info": False, "ignore_mismatched_sizes": False, "cache_dir": None}
    for library, own in ((minigpt, {"device": "cpu"}), (transformers, {})):
        kind = getattr(library, name)
        thing = kind.from_pretrained(pretrained_model_name_or_path=tmp_path, **load, **own)
        thing.save_pretrained(save_directory=tmp_path / "again", max_shard_size="5MB")
        kind.from_pretrained(tmp_path / "again")
