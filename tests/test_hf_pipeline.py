"""Pipelines: batches that change nothing, streams, devices, options, errors."""

import types
import warnings

import pytest
import torch

import minigpt
from minigpt import AutoModel, AutoModelForCausalLM, AutoTokenizer, GenerationConfig, pipeline
from minigpt.hf import pipeline as module

TEXTS = ["I am here", "The old house by the sea was empty, and nobody knew why.", "you"]
NLI = {0: "contradiction", 1: "neutral", 2: "entailment"}
KINDS = {  # folder -> class, settings
    "lm": (minigpt.OpenAIGPTLMHeadModel, {}),
    "base": (minigpt.OpenAIGPTModel, {}),
    "nli": (minigpt.OpenAIGPTForSequenceClassification, {"id2label": NLI}),
}
FOLDER = {"text-generation": "lm", "feature-extraction": "base"}  # of the others: nli


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Random models with 48 positions and the tokenizer of "tiny"."""
    root, torch_state = tmp_path_factory.mktemp("models"), torch.get_rng_state()
    tokenizer = AutoTokenizer.from_pretrained("tiny", pad_token="<pad>")
    sizes = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    sizes |= {"n_positions": 48, "n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2}
    torch.manual_seed(0)
    for name, (kind, settings) in KINDS.items():
        kind(minigpt.OpenAIGPTConfig(**sizes, **settings)).save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    torch.set_rng_state(torch_state)
    return root


def near(ours, other):
    """Compare answers with numbers to 1e-5."""
    if isinstance(ours, float):
        return ours == pytest.approx(other, abs=1e-5)
    if isinstance(ours, dict):
        return ours.keys() == other.keys() and near(list(ours.values()), list(other.values()))
    if isinstance(ours, list):
        return len(ours) == len(other) and all(map(near, ours, other))
    return ours == other


# -- batches and streams


@pytest.mark.parametrize("task", module.TASKS)
def test_a_batch_changes_nothing(folders, task):
    ours = pipeline(task, model=folders / FOLDER.get(task, "nli"), device="cpu")
    way = {"max_new_tokens": 3, "do_sample": False} if task == "text-generation" else {}
    way |= {"candidate_labels": ["a", "b"]} if task.startswith("zero") else {}
    assert near(ours(TEXTS, batch_size=3, **way), [ours([text], **way)[0] for text in TEXTS])


LENGTHS = [{"max_new_tokens": 12}, {"max_length": 26}, {"max_new_tokens": 40}]


@pytest.mark.parametrize("way", LENGTHS)
def test_prompts_in_a_batch_go_on_as_alone(folders, way):
    ours = pipeline("text-generation", model=folders / "lm", device="cpu", do_sample=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 40 more than the model has positions for: it stops
        assert ours(TEXTS, batch_size=3, **way) == [ours(text, **way) for text in TEXTS]


def test_a_model_without_padding_token_reads_batches_too():
    model = minigpt.AutoModelForSequenceClassification.from_config(
        minigpt.OpenAIGPTConfig(vocab_size=8192, n_embd=24, n_layer=2, n_head=2)
    )
    ours = pipeline("text-classification", model=model, tokenizer="tiny")
    assert near(ours(TEXTS, batch_size=3), [ours(text)[0] for text in TEXTS])


def test_hooks_on_the_head_of_a_classifier_act(folders):
    ours = pipeline("text-classification", model=folders / "nli", device="cpu")
    ours.model.score.register_forward_hook(lambda *_: torch.tensor([[0.0, 50.0, 0.0]]))
    assert ours("you") == [{"label": "neutral", "score": 1.0}]


def test_a_generator_is_answered_one_by_one(folders):
    ours = pipeline("text-classification", model=folders / "nli", device="cpu")

    def endless():
        while True:
            yield from TEXTS

    answers = ours(endless(), batch_size=2)
    assert isinstance(answers, types.GeneratorType)
    assert near([next(answers) for _ in TEXTS], ours(TEXTS))


def test_a_long_list_shows_a_bar(folders, monkeypatch):
    bars = []

    def record(answers, **about):
        bars.append((about["total"], about["disable"]))
        return answers

    monkeypatch.setattr(module, "tqdm", record)
    ours = pipeline("text-classification", model=folders / "nli", device="cpu")
    ours(TEXTS), ours(TEXTS * 7), ours(iter(TEXTS)), ours(TEXTS[0])
    assert bars == [(3, True), (21, False)]


# -- generation


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


def test_it_samples_unless_told_otherwise():
    ours = pipeline("text-generation", model="tiny", device="cpu", max_new_tokens=12)
    torch.manual_seed(0)
    assert len({ours("It was")[0]["generated_text"] for _ in range(4)}) > 1
    greedy = GenerationConfig(do_sample=False)
    texts = {ours("It was", generation_config=greedy)[0]["generated_text"] for _ in range(4)}
    assert len(texts) == 1
    ours.model.generation_config.top_k = 1  # what the checkpoint says counts
    assert {ours("It was")[0]["generated_text"] for _ in range(4)} == texts


def test_a_checkpoint_that_asks_for_more_than_ids_still_writes_texts():
    model = minigpt.OpenAIGPTLMHeadModel.from_pretrained("tiny")
    model.generation_config.return_dict_in_generate = True
    ours = pipeline("text-generation", model=model, tokenizer="tiny", max_new_tokens=3)
    assert ours("It was")[0]["generated_text"].startswith("It was ")
    clean = ours("Hello", clean_up_tokenization_spaces=True, return_full_text=False)
    assert " ," not in clean[0]["generated_text"]


# -- devices and dtypes


def test_a_loaded_model_stays_as_it_is_unless_told_otherwise(folders):
    model = AutoModelForCausalLM.from_pretrained(folders / "lm", dtype=torch.bfloat16).train()
    ours = pipeline("text-generation", model=model, tokenizer=folders / "lm")
    assert (ours.model, ours.dtype, model.training) == (model, torch.bfloat16, False)
    pipeline("text-generation", model=model, tokenizer=ours.tokenizer, dtype=torch.float32)
    assert model.dtype == torch.float32
    for wrong in ({"device": 99}, {"device_map": "moon"}):
        with pytest.raises(ValueError, match="is not there"):
            pipeline("text-generation", model=model, tokenizer=ours.tokenizer, **wrong)


@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
@pytest.mark.parametrize("dtype", ["auto", "float16", torch.float16])
def test_a_dtype_may_be_a_name_for_a_loaded_model_too(dtype, name):
    model = minigpt.OpenAIGPTLMHeadModel.from_pretrained("tiny", dtype=torch.float32)
    ours = pipeline("text-generation", model=model, tokenizer="tiny", **{name: dtype})
    assert ours.dtype == (torch.float32 if dtype == "auto" else torch.float16)
    for one in (model, "tiny"):
        with pytest.raises(ValueError, match="dtype='float8'; choose from"):
            pipeline("text-generation", model=one, tokenizer="tiny", dtype="float8")


def test_dtype_and_device_may_stand_among_the_model_kwargs():
    said = {"dtype": torch.bfloat16, "device": "cpu"}
    assert pipeline("text-generation", model="tiny", model_kwargs=said).dtype == torch.bfloat16
    with pytest.raises(TypeError, match="multiple values for keyword argument 'dtype'"):
        pipeline("text-generation", model="tiny", dtype=torch.float32, model_kwargs=said)
    ours = pipeline("text-generation", model="tiny", device_map="cpu", revision="main")
    assert ours.device.type == "cpu"


@pytest.mark.parametrize("task", ["text-generation", "text-classification", "feature-extraction"])
def test_float16_runs_on_a_cpu(folders, task):
    way = {"max_new_tokens": 4} if task == "text-generation" else {}
    folder = folders / FOLDER.get(task, "nli")
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
    ({"max_new_token": 3}, TypeError, "no option max_new_token; choose from .*max_new_tokens"),
    ({"output_scores": True}, TypeError, "no option output_scores; choose from"),
]


@pytest.mark.parametrize("options, kind, words", ERRORS)
def test_errors_of_the_pipeline(options, kind, words):
    with pytest.raises(kind, match=words):
        pipeline(**{"task": "text-generation", "model": "tiny"} | options)


def test_an_option_of_a_call_is_checked_as_well():
    ours = pipeline("text-generation", model="tiny", stop_sequence=" ,", generator=None)
    with pytest.raises(TypeError, match="no option max_new_token"):
        ours("It was", max_new_token=1)


def test_a_model_object_of_another_class_is_refused():
    model = AutoModel.from_pretrained("tiny")
    for wrong in (None, 3, {"a": 1}):
        with pytest.raises(ValueError, match=f"which tokenizer. {wrong} is none; pass"):
            pipeline("feature-extraction", model=model, tokenizer=wrong)
    words = f"needs .*OpenAIGPTLMHeadModel'>, not {type(model)}; pass"
    with pytest.raises(TypeError, match=words):
        pipeline("text-generation", model=model, tokenizer="tiny")


def test_a_checkpoint_without_a_head_is_named():
    with pytest.warns(UserWarning, match="score.weight not in the checkpoint"):
        pipeline("text-classification", model="tiny", device="cpu")


WRONG = [
    ("", ValueError, "'' is empty"),
    (" \t", ValueError, "is empty"),
    ([], ValueError, "the list is empty"),
    (None, TypeError, "expected a string or a list of strings, got None"),
    (["good", 7], TypeError, "text 1: expected a string or a list of strings, got 7"),
    (["good", "good", ""], ValueError, "text 2: '' is empty"),
    (["good", "word " * 60], ValueError, r"text 1: the text has 6\d tokens, this model 48 "),
    ({"role": "user"}, TypeError, "expected"),
    (b"you", TypeError, "expected a string or a list of strings, got b'you'"),
]


@pytest.mark.parametrize("inputs, kind, words", WRONG)
@pytest.mark.parametrize("task", module.TASKS)
def test_errors_of_a_call(folders, task, inputs, kind, words):
    labels = {"candidate_labels": "a, b"} if task.startswith("zero") else {}
    ours = pipeline(task, model=folders / FOLDER.get(task, "nli"), device="cpu", **labels)
    if task.startswith("zero"):
        labels["truncation"] = False  # its default cuts
    with pytest.raises(kind, match=words):
        ours(inputs, **labels)


def test_a_long_text_is_cut_on_request(folders):
    ours = pipeline("text-classification", model=folders / "nli", device="cpu")
    words = ["word"] * 48
    assert near(*[ours(" ".join(x), truncation=True) for x in (words, words * 3)])


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
