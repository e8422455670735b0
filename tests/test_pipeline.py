"""Auto classes and pipelines: the answers of transformers, batches that change nothing, errors."""

import json
import sys
import types
import warnings

import pytest
import torch
import transformers

import minigpt
from minigpt import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    pipeline,
)
from minigpt.model import best_device, find_device
from tests import parity

MODULE = sys.modules["minigpt.pipeline"]  # the name minigpt.pipeline is the function
TEXTS = ["I am here", "The old house by the sea was empty, and nobody knew why.", "you"]
NLI = {0: "contradiction", 1: "neutral", 2: "entailment"}
KINDS = {  # folder -> class, settings
    "lm": ("OpenAIGPTLMHeadModel", {}),
    "base": ("OpenAIGPTModel", {}),
    "nli": ("OpenAIGPTForSequenceClassification", {"id2label": NLI}),
    "one": ("OpenAIGPTForSequenceClassification", {"num_labels": 1}),
    "plain": ("OpenAIGPTForSequenceClassification", {}),
}
PROBLEMS = [("several", 3, "multi_label_classification"), ("quantity", 1, "regression")]
for name, labels, problem in PROBLEMS:
    KINDS[name] = (KINDS["one"][0], {"num_labels": labels, "problem_type": problem})


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Random models and the tokenizer of "tiny", in folders that both libraries open."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained("tiny", pad_token="<pad>")
    sizes = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    root = tmp_path_factory.mktemp("models")
    for name, (kind, settings) in KINDS.items():
        theirs, _ = parity.random_pair(kind=kind, **sizes, **settings)
        names = theirs.config.id2label
        theirs.config.label2id = {label: index for index, label in names.items()}
        theirs.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    return root


def both(task, folder, **options):
    options = {"model": str(folder), "device": "cpu", "dtype": torch.float32, **options}
    return transformers.pipeline(task, **options), pipeline(task, **options)


def assert_same(ours, theirs):
    """The same keys, nesting and words; numbers to 1e-5."""
    assert type(ours) is type(theirs)
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        ours, theirs = list(ours.values()), [theirs[name] for name in ours]
    if isinstance(ours, list):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    elif isinstance(ours, float):
        assert ours == pytest.approx(theirs, abs=1e-5)
    else:
        assert ours == theirs


def test_the_comparison_can_fail():
    for other in ({"a": [0.5]}, {"b": [0.6]}, {"b": [0.5, 0.5]}, {"b": 0.5}):
        with pytest.raises(AssertionError):
            assert_same({"b": [0.5]}, other)


# -- Auto classes


def test_auto_classes_build_what_those_of_transformers_build(folders):
    for name in ("AutoConfig", "AutoModel", "AutoModelForCausalLM"):
        ours, theirs = getattr(minigpt, name), getattr(transformers, name)
        found = [one.from_pretrained(folders / "lm") for one in (ours, theirs)]
        assert type(found[0]).__name__ == type(found[1]).__name__
    model = minigpt.AutoModelForSequenceClassification.from_pretrained(folders / "nli")
    assert type(model) is minigpt.OpenAIGPTForSequenceClassification
    assert model.config.id2label == NLI


def test_keywords_are_passed_on(folders):
    model = AutoModelForCausalLM.from_pretrained(
        folders / "lm", dtype=torch.bfloat16, attn_implementation="eager"
    )
    assert (model.dtype, model.config.attn_implementation) == (torch.bfloat16, "eager")
    assert AutoTokenizer.from_pretrained("tiny", pad_token="<p>").pad_token == "<p>"


def test_the_release_of_2018_is_a_gpt_1():
    folder = parity.GOLDEN / "model"
    assert AutoConfig.from_pretrained(folder, n_head=4).n_head == 4
    assert type(AutoModel.from_pretrained(folder, n_head=4)) is minigpt.OpenAIGPTModel


def test_a_tokenizer_is_fast_unless_told_otherwise(tmp_path):
    fast = AutoTokenizer.from_pretrained("tiny")
    fast.save_pretrained(tmp_path)  # and needs no config.json
    slow = AutoTokenizer.from_pretrained(tmp_path, use_fast=False, text_pipeline="basic")
    assert (fast.is_fast, slow.is_fast) == (True, False)


def test_a_model_from_a_config_has_new_weights():
    config = minigpt.OpenAIGPTConfig(vocab_size=50, n_embd=12, n_layer=1)
    models = [AutoModelForCausalLM.from_config(config, attn_implementation="eager") for _ in "ab"]
    assert not torch.equal(models[0].lm_head.weight, models[1].lm_head.weight)
    assert models[0].config.attn_implementation == "eager"
    for other, name in (({"n_layer": 1}, "dict"), (transformers.OpenAIGPTConfig(), "transformers")):
        with pytest.raises(TypeError, match=rf"'{name}.* is no .*'minigpt\..*OpenAIGPTConfig'"):
            AutoModel.from_config(other)


AUTO = [AutoConfig, AutoTokenizer, AutoModel, AutoModelForCausalLM]


@pytest.mark.parametrize("kind", [*AUTO, minigpt.AutoModelForSequenceClassification])
def test_another_kind_of_model_is_refused(kind, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}), encoding="utf-8")
    with pytest.raises(ValueError, match="'gpt2' model, but minigpt builds only 'openai-gpt'"):
        kind.from_pretrained(tmp_path)


# -- the answers of transformers


@pytest.mark.parametrize("folder", ["nli", "one", "plain", "several", "quantity"])
def test_classification_equals_transformers(folders, folder):
    theirs, ours = both("text-classification", folders / folder)
    for way in ({}, {"top_k": None}, {"top_k": 1}, {"function_to_apply": "none"}):
        for inputs in (TEXTS[0], TEXTS, TEXTS[:1], {"text": TEXTS[0], "text_pair": TEXTS[1]}):
            assert_same(ours(inputs, **way), theirs(inputs, **way))
    for name in ("softmax", "sigmoid"):
        assert_same(*[one(TEXTS, function_to_apply=name, top_k=2) for one in (ours, theirs)])
    assert_same(ours(TEXTS, batch_size=3), theirs(TEXTS))


def test_options_of_the_pipeline_are_those_of_every_call(folders):
    theirs, ours = both("sentiment-analysis", folders / "nli", top_k=2)
    assert_same(ours(TEXTS[0]), theirs(TEXTS[0]))
    assert_same(ours(TEXTS[0], top_k=1), theirs(TEXTS[0], top_k=1))


LABELS = ["good, bad", ["good", "bad", "good", "ugly"], "good"]


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("multi_label", [False, True])
def test_zero_shot_equals_transformers(folders, labels, multi_label):
    theirs, ours = both("zero-shot-classification", folders / "nli")
    way = {"multi_label": multi_label, "hypothesis_template": "It is about {} things."}
    for inputs in (TEXTS[0], TEXTS, TEXTS[:1]):
        assert_same(ours(inputs, labels, **way), theirs(inputs, labels, **way))
    batched = ours(TEXTS, candidate_labels=labels, batch_size=4, **way)
    assert_same(batched, theirs(TEXTS, candidate_labels=labels, **way))


def test_zero_shot_without_a_class_called_entailment_warns(folders):
    with pytest.warns(UserWarning, match="'entailment' among .'LABEL_0', 'LABEL_1'."):
        theirs, ours = both("zero-shot-classification", folders / "plain")
    assert_same(ours(TEXTS, "good, bad"), theirs(TEXTS, "good, bad"))


def test_features_equal_transformers(folders):
    theirs, ours = both("feature-extraction", folders / "base")
    for inputs in (TEXTS[0], TEXTS):
        assert_same(ours(inputs), theirs(inputs))
    found, expected = (one(TEXTS[0], return_tensors=True) for one in (ours, theirs))
    assert found.shape == expected.shape and torch.is_tensor(found)


WRITE = {"max_new_tokens": 8, "do_sample": False}


def test_greedy_texts_equal_transformers(folders):
    theirs, ours = both("text-generation", folders / "lm")
    for inputs in (TEXTS[0], TEXTS, TEXTS[:1]):
        for length in (WRITE, {"max_length": 30, "do_sample": False}):
            way = {"return_full_text": False, **length}
            assert_same(ours(inputs, **way), theirs(inputs, **way))
    (full,), (new,) = ours(TEXTS[0], **WRITE), ours(TEXTS[0], return_full_text=False, **WRITE)
    assert full["generated_text"] == f"{TEXTS[0]} {new['generated_text']}"  # theirs lacks the space


def test_several_texts_for_each_prompt(folders):
    theirs, ours = both("text-generation", folders / "lm")
    way = {"num_return_sequences": 2, "num_beams": 3, "return_full_text": False, **WRITE}
    assert_same(ours(TEXTS, **way), theirs(TEXTS, **way))
    assert ours(TEXTS, batch_size=3, **way) == ours(TEXTS, **way)


def test_a_stop_string_ends_each_row_by_itself():
    ours = pipeline("text-generation", model="tiny", device="cpu", dtype=torch.float32)
    way = {"max_new_tokens": 24, "do_sample": False}
    alone = [ours(text, stop_strings=[" ,"], **way) for text in TEXTS]
    assert all(text["generated_text"].endswith(" ,") for (text,) in alone)
    assert len({len(text["generated_text"].split()) for (text,) in alone}) > 1
    assert ours(TEXTS, batch_size=3, stop_sequence=" ,", **way) == alone
    with pytest.raises(ValueError, match="stop_sequence and stop_strings .* pass one"):
        ours(TEXTS, stop_sequence=" ,", stop_strings=["the"])


def test_a_row_ends_early_also_where_the_padding_token_is_new_to_the_model():
    tokenizer = AutoTokenizer.from_pretrained("tiny", pad_token="<pad>")
    way = {"max_new_tokens": 20, "do_sample": False, "eos_token_id": tokenizer(".").input_ids}
    ours = pipeline("text-generation", model="tiny", tokenizer=tokenizer, device="cpu", **way)
    assert ours(TEXTS, batch_size=3) == [ours(text) for text in TEXTS]


def test_none_is_not_said(folders):
    theirs, ours = both("text-generation", folders / "lm")
    for one in (theirs, ours):
        for name in ("return_full_text", "generation_config", "clean_up_tokenization_spaces"):
            assert one(TEXTS[0], **WRITE, **{name: None}) == one(TEXTS[0], **WRITE)


def test_it_samples_unless_told_otherwise():
    ours = pipeline("text-generation", model="tiny", device="cpu", max_new_tokens=12)
    torch.manual_seed(0)
    assert len({ours("It was")[0]["generated_text"] for _ in range(4)}) > 1
    greedy = GenerationConfig(do_sample=False)
    texts = {ours("It was", generation_config=greedy)[0]["generated_text"] for _ in range(4)}
    assert len(texts) == 1
    ours.model.generation_config.top_k = 1  # what the checkpoint says counts
    assert {ours("It was")[0]["generated_text"] for _ in range(4)} == texts


# -- batches, streams, devices


LENGTHS = [{"max_new_tokens": 12}, {"max_length": 26}, {"max_new_tokens": 40}]


@pytest.mark.parametrize("way", LENGTHS)
def test_prompts_in_a_batch_go_on_as_alone(folders, way):
    ours = pipeline("text-generation", model=folders / "lm", device="cpu", do_sample=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 40 more than the model has positions for: it stops
        assert ours(TEXTS, batch_size=3, **way) == [ours(text, **way) for text in TEXTS]


@pytest.mark.parametrize(
    ("task", "kind", "options"),
    [
        ("text-generation", "lm", {"max_new_tokens": 1}),
        ("text-classification", "plain", {}),
        ("feature-extraction", "base", {}),
        ("zero-shot-classification", "nli", {"candidate_labels": ["a"]}),
    ],
)
def test_every_task_pads_on_the_right(folders, monkeypatch, task, kind, options):
    made, collate = [], MODULE.collate
    monkeypatch.setattr(MODULE, "collate", lambda *given: made.append(collate(*given)) or made[-1])
    pipeline(task, model=str(folders / kind), batch_size=3, device="cpu")(TEXTS, **options)
    masks = [batch.attention_mask for batch in made]
    assert any((mask == 0).any() for mask in masks)
    assert all((mask[:, 1:] <= mask[:, :-1]).all() for mask in masks)


def test_a_model_without_padding_token_reads_batches_too():
    model = minigpt.AutoModelForSequenceClassification.from_config(
        minigpt.OpenAIGPTConfig(vocab_size=8192, n_embd=24, n_layer=2, n_head=2)
    )
    ours = pipeline("text-classification", model=model, tokenizer="tiny")
    alone = [ours(text)[0] for text in TEXTS]
    assert_same(ours(TEXTS, batch_size=3), alone)


def test_features_in_a_batch_have_no_padding(folders):
    ours = pipeline("feature-extraction", model=folders / "base", device="cpu")
    assert_same(ours(TEXTS, batch_size=3), ours(TEXTS))


def test_a_generator_is_answered_one_by_one(folders):
    ours = pipeline("text-classification", model=folders / "nli", device="cpu")

    def endless():
        while True:
            yield from TEXTS

    answers = ours(endless(), batch_size=2)
    assert isinstance(answers, types.GeneratorType)
    assert_same([next(answers) for _ in TEXTS], ours(TEXTS))


def test_a_dataset_is_answered_one_by_one(folders):
    class Lines(torch.utils.data.Dataset):  # has numbers, but is no Iterable
        def __getitem__(self, place):
            return TEXTS[place % len(TEXTS)]

        def __len__(self):
            return len(TEXTS)

    theirs, ours = both("text-classification", folders / "nli")
    answers = ours(Lines(), batch_size=2)
    assert isinstance(answers, types.GeneratorType)
    assert_same(list(answers), list(theirs(Lines())))


def test_a_long_list_shows_a_bar(folders, monkeypatch):
    bars = []

    def record(answers, **about):
        bars.append((about["total"], about["disable"]))
        return answers

    monkeypatch.setattr(MODULE, "tqdm", record)
    ours = pipeline("text-classification", model=folders / "nli", device="cpu")
    ours(TEXTS), ours(TEXTS * 7), ours(iter(TEXTS)), ours(TEXTS[0])
    assert bars == [(3, True), (21, False)]


def test_the_fastest_device_there_is(monkeypatch):
    cpu = torch.device("cpu")
    assert [find_device(x) for x in (-1, "cpu", cpu)] == [cpu] * 3
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert find_device("auto") == find_device() == cpu
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert best_device() == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert best_device() == "cuda"


@pytest.mark.parametrize("kind", [minigpt.OpenAIGPTModel, AutoModel, AutoModelForCausalLM])
def test_a_device_that_is_not_there_is_the_same_error_wherever_one_loads(kind):
    assert kind.from_pretrained("tiny", device="auto").device.type == best_device()
    for device in (99, "cuda:99", "moon", 1.5):
        with pytest.raises(ValueError, match=f"device={device!r} is not there .*pass") as one:
            kind.from_pretrained("tiny", device=device)
        with pytest.raises(ValueError) as other:
            pipeline("text-generation", model="tiny", device=device)
        with pytest.raises(ValueError) as third:
            AutoModel.from_pretrained("tiny", device_map=device)
        assert str(one.value) == str(other.value) == str(third.value)
    with pytest.raises(TypeError, match="device=-1 and device_map='cpu'; pass one"):
        AutoModel.from_pretrained("tiny", device=-1, device_map="cpu")


def test_a_loaded_model_stays_as_it_is_unless_told_otherwise(folders):
    model = AutoModelForCausalLM.from_pretrained(folders / "lm", dtype=torch.bfloat16).train()
    ours = pipeline("text-generation", model=model, tokenizer=folders / "lm")
    assert (ours.model, ours.dtype, model.training) == (model, torch.bfloat16, False)
    assert pipeline("text-generation", model=model, tokenizer=ours.tokenizer, dtype=torch.float32)
    assert model.dtype == torch.float32


@pytest.mark.parametrize("dtype", ["auto", "float16", torch.float16])
def test_a_number_type_may_be_a_name_for_a_loaded_model_too(dtype):
    model = minigpt.OpenAIGPTLMHeadModel.from_pretrained("tiny")
    ours = pipeline("text-generation", model=model, tokenizer="tiny", dtype=dtype)
    assert ours.dtype == (torch.float32 if dtype == "auto" else torch.float16)
    for one in (model, "tiny"):
        with pytest.raises(ValueError, match="^dtype='float8'; choose from auto"):
            pipeline("text-generation", model=one, tokenizer="tiny", dtype="float8")


def test_the_number_type_and_device_may_stand_among_the_model_kwargs():
    said = {"dtype": torch.bfloat16, "device": "cpu"}
    assert pipeline("text-generation", model="tiny", model_kwargs=said).dtype == torch.bfloat16
    with pytest.raises(TypeError, match="multiple values for keyword argument 'dtype'"):
        pipeline("text-generation", model="tiny", dtype=torch.float32, model_kwargs=said)


@pytest.mark.parametrize("name", ["max_new_token", "torch_dtype", "device_map", "output_scores"])
def test_an_option_that_writing_has_not_is_refused_when_the_pipeline_is_made(name):
    words = f"no option {name}; choose from return_full_text, .*; generate takes .*max_new_tokens"
    with pytest.raises(TypeError, match=words):
        pipeline("text-generation", model="tiny", **{name: 1})
    ours = pipeline("text-generation", model="tiny", stop_sequence=" ,", generator=None)
    with pytest.raises(TypeError, match=f"no option {name}"):
        ours("It was", **{name: 1})


def test_a_checkpoint_that_asks_for_more_than_ids_still_writes_texts(tmp_path):
    model = minigpt.OpenAIGPTLMHeadModel.from_pretrained("tiny")
    model.generation_config.return_dict_in_generate = True
    ours = pipeline("text-generation", model=model, tokenizer="tiny", **WRITE)
    assert ours("It was")[0]["generated_text"].startswith("It was ")


@pytest.mark.parametrize("kind", [*AUTO, minigpt.AutoModelForSequenceClassification])
def test_auto_classes_make_no_objects(kind):
    with pytest.raises(TypeError, match=rf"call {kind.__name__}.from_pretrained"):
        kind()


@pytest.mark.parametrize("task", ["text-generation", "text-classification", "feature-extraction"])
def test_float16_runs_on_a_cpu(folders, task):
    folder = folders / {"text-generation": "lm", "feature-extraction": "base"}.get(task, "nli")
    way = {"max_new_tokens": 4} if task == "text-generation" else {}
    ours = pipeline(task, model=folder, device="cpu", dtype=torch.float16, **way)
    assert ours.dtype == torch.float16 and len(ours(TEXTS, batch_size=3)) == 3


# -- errors


ERRORS = [
    ({"task": "translation"}, ValueError, "task='translation'; choose from text-generation, "),
    ({"task": None}, ValueError, "task=None; choose from"),
    ({"model": None}, ValueError, "no model for text-generation"),
    ({"device": 99}, ValueError, "device=99 is not there"),
    ({"device": "moon"}, ValueError, "device='moon' is not there"),
    ({"task": "feature-extraction", "topk": 3}, TypeError, "no option topk; choose from"),
]


@pytest.mark.parametrize("options, kind, words", ERRORS)
def test_errors_of_the_pipeline(options, kind, words):
    with pytest.raises(kind, match=words):
        pipeline(**{"task": "text-generation", "model": "tiny"} | options)


def test_a_model_object_of_another_class_is_refused():
    model = AutoModel.from_pretrained("tiny")
    for wrong in (None, 3, {"a": 1}):
        with pytest.raises(ValueError, match=f"which tokenizer. {wrong} is none; pass"):
            pipeline("feature-extraction", model=model, tokenizer=wrong)
    config = transformers.OpenAIGPTConfig(n_embd=12, n_layer=1, vocab_size=9)
    for other in (model, transformers.OpenAIGPTLMHeadModel(config)):
        words = f"needs .*'minigpt\\.lm_head\\.OpenAIGPTLMHeadModel'>, not {type(other)}; pass"
        with pytest.raises(TypeError, match=words):
            pipeline("text-generation", model=other, tokenizer="tiny")


def test_a_checkpoint_without_a_head_is_named():
    with pytest.warns(UserWarning, match="score.weight not in the checkpoint"):
        pipeline("text-classification", model="tiny", device="cpu")


WRONG = [
    ("", ValueError, "'' is empty"),
    (" \t", ValueError, "is empty"),
    ([], ValueError, "the list is empty"),
    (7, TypeError, "7 is no text"),
    (None, TypeError, "None is no text"),
    (["good", 7], TypeError, "text 1: 7 is no text"),
    (["good", "good", ""], ValueError, "text 2: '' is empty"),
    (["good", "word " * 60], ValueError, r"text 1: the text has 6\d tokens, this model 48 "),
    ({"role": "user"}, TypeError, "is no"),
    (b"you", TypeError, "b'you' is no text"),
]


@pytest.mark.parametrize("inputs, kind, words", WRONG)
@pytest.mark.parametrize("task", MODULE.TASKS)
def test_errors_of_a_call(folders, task, inputs, kind, words):
    folder = {"text-generation": "lm", "feature-extraction": "base"}.get(task, "nli")
    labels = {"candidate_labels": "a, b"} if task.startswith("zero") else {}
    ours = pipeline(task, model=folders / folder, device="cpu", **labels)
    if task.startswith("zero"):
        labels["truncation"] = False  # its default cuts
    with pytest.raises(kind, match=words):
        ours(inputs, **labels)


def test_a_long_text_is_cut_on_request(folders):
    ours = pipeline("text-classification", model=folders / "nli", device="cpu")
    words = ["word"] * 48
    assert_same(*[ours(" ".join(x), truncation=True) for x in (words, words * 3)])


def test_zero_shot_cuts_the_text_and_not_the_label(folders):
    ours = pipeline("zero-shot-classification", model=folders / "nli", device="cpu")
    found = ours("word " * 60, "good, ugly and bad")
    assert found["scores"][0] != pytest.approx(found["scores"][1])
    for labels, kind in (([], ValueError), (None, TypeError), ([1], TypeError)):
        with pytest.raises(kind, match="candidate_labels"):
            ours("good", labels)
    for template in ("no place", "about {label}", "{} and {}", "{", None):
        with pytest.raises(ValueError, match=r"hypothesis_template=.*; put {} where the label"):
            ours("good", "a", hypothesis_template=template)


def test_settings_that_make_no_sense(folders):
    ours = pipeline("text-classification", model=folders / "nli", device="cpu")
    wrong = [{"top_k": k} for k in (0, -1, 1.5, [1, 2], "all")]
    for one in (*wrong, {"function_to_apply": "tanh"}, {"batch_size": 0}):
        with pytest.raises(ValueError, match="{}=".format(*one)):
            ours(TEXTS, **one)
