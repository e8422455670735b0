"""Pipelines: the answers of transformers, with random models of all kinds."""

import pytest
import torch
import transformers

from minigpt import AutoTokenizer, pipeline
from tests import helpers
from tests.test_hf_pipeline import NLI, TEXTS, assert_same

CLASSIFIER = "OpenAIGPTForSequenceClassification"
KINDS = {  # folder -> class, settings
    "lm": ("OpenAIGPTLMHeadModel", {}),
    "base": ("OpenAIGPTModel", {}),
    "nli": (CLASSIFIER, {"id2label": NLI}),
    "one": (CLASSIFIER, {"num_labels": 1}),
    "plain": (CLASSIFIER, {}),
    "several": (CLASSIFIER, {"num_labels": 3, "problem_type": "multi_label_classification"}),
    "quantity": (CLASSIFIER, {"num_labels": 1, "problem_type": "regression"}),
}

NEEDS_NEWER = pytest.mark.skipif(
    not helpers.has_transformers("5.20"), reason="an older transformers fails here itself"
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Random models and the tokenizer of "tiny", in folders that both libraries open."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained("tiny", pad_token="<pad>")
    sizes = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    root = tmp_path_factory.mktemp("models")
    for name, (kind, settings) in KINDS.items():
        theirs, _ = helpers.random_pair(kind=kind, **sizes, **settings)
        names = theirs.config.id2label
        theirs.config.label2id = {label: index for index, label in names.items()}
        theirs.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    return root


def both(task, folder, **options):
    options = {"model": str(folder), "device": "cpu", "dtype": torch.float32, **options}
    return transformers.pipeline(task, **options), pipeline(task, **options)


@pytest.mark.parametrize("folder", ["nli", "one", "plain", "several", "quantity"])
def test_classification_equals_transformers(folders, folder):
    theirs, ours = both("sentiment-analysis", folders / folder)
    for way in ({}, {"top_k": None}, {"top_k": 1}, {"function_to_apply": "none"}):
        for inputs in (TEXTS[0], TEXTS, {"text": TEXTS[0], "text_pair": TEXTS[1]}):
            assert_same(ours(inputs, **way), theirs(inputs, **way))
    for name in ("softmax", "sigmoid"):
        assert_same(*[one(TEXTS, function_to_apply=name, top_k=2) for one in (ours, theirs)])


def test_a_dataset_is_answered_as_there(folders):
    class Lines(torch.utils.data.Dataset):  # has numbers, but is no Iterable
        def __getitem__(self, index):
            return TEXTS[index]

        def __len__(self):
            return len(TEXTS)

    theirs, ours = both("text-classification", folders / "nli", top_k=2)
    assert_same(ours(TEXTS[0], top_k=1), theirs(TEXTS[0], top_k=1))
    assert_same(list(ours(Lines(), batch_size=2)), list(theirs(Lines())))


@pytest.mark.parametrize("labels", ["good, bad", ["good", "bad", "good", "ugly"], "good"])
@pytest.mark.parametrize("multi_label", [False, True])
def test_zero_shot_equals_transformers(folders, labels, multi_label):
    theirs, ours = both("zero-shot-classification", folders / "nli")
    way = {"multi_label": multi_label, "hypothesis_template": "It is about {} things."}
    assert_same(ours(TEXTS[0], labels, **way), theirs(TEXTS[0], labels, **way))
    batched = ours(TEXTS, candidate_labels=labels, batch_size=4, **way)
    assert_same(batched, theirs(TEXTS, candidate_labels=labels, **way))


def test_zero_shot_without_a_class_called_entailment_warns(folders):
    theirs, ours = both("zero-shot-classification", folders / "plain")
    with pytest.warns(UserWarning, match="'entailment' among .'LABEL_0', 'LABEL_1'."):
        answers = ours(TEXTS, "good, bad")
    assert_same(answers, theirs(TEXTS, "good, bad"))


def test_features_equal_transformers(folders):
    theirs, ours = both("feature-extraction", folders / "base")
    for inputs in (TEXTS[0], TEXTS):
        assert_same(ours(inputs), theirs(inputs))
    found, expected = (one(TEXTS[0], return_tensors=True) for one in (ours, theirs))
    assert found.shape == expected.shape and torch.is_tensor(found)


GREEDY = {"max_new_tokens": 8, "do_sample": False}
WAYS = [
    {},
    {"return_full_text": False},
    {"max_length": 30},
    {"return_tensors": True},
    {"return_text": True, "skip_special_tokens": False},
    {"prefix": "you know . "},
    {"prefix": "you know . ", "return_full_text": False, "handle_long_generation": "hole"},
    {"tokenizer_encode_kwargs": {"truncation": True, "max_length": 2}, "add_special_tokens": False},
]


@NEEDS_NEWER
def test_greedy_texts_equal_transformers(folders):
    theirs, ours = both("text-generation", folders / "lm")
    for inputs in (TEXTS[0], TEXTS):
        for way in WAYS:
            way = {"do_sample": False, **way} | ({} if "max_length" in way else GREEDY)
            assert_same(ours(inputs, **way), theirs(inputs, **way))
    for one in (theirs, ours):  # None says nothing
        for name in ("return_full_text", "generation_config", "clean_up_tokenization_spaces"):
            assert one(TEXTS[0], **GREEDY, **{name: None}) == one(TEXTS[0], **GREEDY)


def test_several_texts_for_each_prompt(folders):
    theirs, ours = both("text-generation", folders / "lm")
    way = {"num_return_sequences": 2, "num_beams": 3, "return_full_text": False, **GREEDY}
    assert_same(ours(TEXTS, **way), theirs(TEXTS, **way))
    assert ours(TEXTS, batch_size=3, **way) == ours(TEXTS, **way)
