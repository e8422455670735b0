"""Pipelines: batches that change nothing, streams, devices, options, errors."""

from functools import partial
from itertools import cycle, islice

import pytest
import torch
from torch.utils import _pytree as tree

from minigpt import AutoModel, AutoTokenizer, GenerationConfig, OpenAIGPTConfig, pipeline
from minigpt.hf.pipeline import TASKS

TEXTS = ["I am here", "The old house by the sea was empty, and nobody knew why.", "you"]
NLI = {0: "contradiction", 1: "neutral", 2: "entailment"}
OPTIONS = {  # task -> options that make its answers comparable
    "text-generation": {"max_new_tokens": 12, "do_sample": False},
    "zero-shot-classification": {"candidate_labels": ["a", "b"]},
}


def make(task, **options):
    """A pipeline of a random model with 48 positions and the tokenizer of "tiny"."""
    torch.manual_seed(0)
    sizes = {"n_positions": 48, "n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2}
    config = OpenAIGPTConfig(vocab_size=8192, **sizes, id2label=NLI)
    options = {"tokenizer": "tiny", **OPTIONS.get(task, {}), **options}
    return pipeline(task, model=TASKS[task][0].from_config(config), **options)


tiny = partial(pipeline, "text-generation", model="tiny", device="cpu")


def assert_same(ours, theirs):
    """The same keys, nesting and words; numbers to 1e-5."""
    (leaves, shape), (others, other_shape) = tree.tree_flatten(ours), tree.tree_flatten(theirs)
    assert shape == other_shape and leaves == pytest.approx(others, abs=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_a_batch_changes_nothing(task):
    ours = make(task)
    alone = [ours([text])[0] for text in TEXTS]
    assert_same(ours(TEXTS, batch_size=3), alone)
    answers = ours(cycle(TEXTS), batch_size=2)  # endless
    assert_same(list(islice(answers, 3)), alone)
    assert ours([]) == []
    half = make(task, dtype="float16")  # on a CPU, too
    assert half.dtype == torch.float16 and len(half(TEXTS, batch_size=3)) == 3


def test_hooks_on_the_head_of_a_classifier_act():
    ours = make("text-classification")
    ours.model.score.register_forward_hook(lambda *_: torch.tensor([[0.0, 50.0, 0.0]]))
    assert ours("you") == [{"label": "neutral", "score": 1.0}]


# -- generation


def test_each_row_ends_by_itself():
    ours = tiny(dtype=torch.float32, max_new_tokens=24, do_sample=False)
    alone = [ours(text, stop_strings=[" ,"]) for text in TEXTS]
    assert all(text["generated_text"].endswith(",") for (text,) in alone)
    assert len({len(text["generated_text"].split()) for (text,) in alone}) > 1
    held = ours("the old man " * 60, max_new_tokens=510, handle_long_generation="hole")
    assert held[0]["generated_text"].startswith("the old man " * 60)
    assert ours(TEXTS, batch_size=3, stop_strings=" ,") == alone
    # also where an end token is a word, and the padding token is new to the model
    tokenizer = AutoTokenizer.from_pretrained("tiny", pad_token="<pad>")
    ours = tiny(tokenizer=tokenizer, do_sample=False, eos_token_id=tokenizer(".").input_ids)
    way = {"max_new_tokens": 20, "batch_size": 3}
    assert ours(TEXTS, **way) == [ours(text, max_new_tokens=20) for text in TEXTS]


def test_it_samples_unless_told_otherwise():
    ours = tiny(max_new_tokens=12)
    assert len({ours("It was")[0]["generated_text"] for _ in range(4)}) > 1
    greedy = GenerationConfig(do_sample=False)
    texts = {ours("It was", generation_config=greedy)[0]["generated_text"] for _ in range(4)}
    assert len(texts) == 1
    ours.model.generation_config.top_k = 1  # what the checkpoint says counts
    ours.model.generation_config.return_dict_in_generate = True  # unless it is no text
    assert {ours("It was")[0]["generated_text"] for _ in range(4)} == texts
    clean = ours("Hello", clean_up_tokenization_spaces=True, return_full_text=False)
    assert " ," not in clean[0]["generated_text"]


# -- devices and dtypes


def test_a_loaded_model_stays_as_it_is_unless_told_otherwise():
    ours = make("text-generation")
    model = ours.model.train().to(torch.bfloat16)
    again = partial(pipeline, "text-generation", model=model, tokenizer=ours.tokenizer)
    assert (again().model, again().dtype, model.training) == (model, torch.bfloat16, False)
    assert again(torch_dtype="float16").dtype == again(dtype="auto").dtype == torch.float16
    with pytest.raises(ValueError, match="is not available"):
        again(device_map="moon")


def test_dtype_and_device_may_stand_among_the_model_kwargs():
    said = {"dtype": torch.bfloat16, "device_map": "cpu"}
    ours = pipeline("text-generation", model="tiny", model_kwargs=said, revision="main")
    assert (ours.dtype, ours.device.type) == (torch.bfloat16, "cpu")


# -- errors

ERRORS = [
    ({"task": "translation"}, ValueError, "task='translation'; choose from text-generation, "),
    ({"model": None}, ValueError, "model=None, tokenizer=None; pass model='tiny'"),
    ({"model": AutoModel.from_pretrained("tiny")}, ValueError, "with a model object, tokenizer="),
    ({"device": "moon"}, ValueError, "device='moon' is not available"),
    ({"dtype": "float8"}, ValueError, "dtype='float8'; choose from"),
    ({"task": "feature-extraction", "topk": 3}, TypeError, "unexpected keyword argument 'topk'"),
    ({"max_new_token": 3}, ValueError, "no setting max_new_token"),
]


@pytest.mark.parametrize("options, kind, words", ERRORS)
def test_errors_of_the_pipeline(options, kind, words):
    with pytest.raises(kind, match=words):
        pipeline(**{"task": "text-generation", "model": "tiny"} | options)("you")


WRONG = [
    ("", ValueError, "is empty"),
    (None, (TypeError, ValueError), "None"),
    (["good", 7], TypeError, "7"),
    (["good", "word " * 60], ValueError, "6. tokens, but this checkpoint has 48 positions"),
    ({"role": "user"}, TypeError, "text|cannot encode"),
]


@pytest.mark.parametrize("task", TASKS)
def test_errors_of_a_call(task):
    ours = make(task, truncation=False)
    for inputs, kind, words in WRONG:
        with pytest.raises(kind, match=words):
            ours(inputs)


def test_a_long_text_is_cut_on_request():
    ours = make("text-classification", truncation=True)
    assert_same(ours("word " * 48), ours("word " * 99))
    found = make("zero-shot-classification")("word " * 60, "good, ugly and bad")
    assert found["scores"][0] != pytest.approx(found["scores"][1])  # the labels are not cut


@pytest.mark.parametrize("wrong", [{"candidate_labels": " ,"}, {"hypothesis_template": "it"}])
def test_zero_shot_needs_labels_and_a_place_for_them(wrong):
    with pytest.raises(ValueError, match="{}=".format(*wrong)):
        make("zero-shot-classification")("good", **wrong)
