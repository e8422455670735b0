"""The classifier against transformers and OpenAI's code: scores, losses, padding, errors."""

import re
import warnings

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt import OpenAIGPTConfig, OpenAIGPTForSequenceClassification
from minigpt.old.classification import (
    SequenceClassifierOutput,
    classification_loss,
    end_of_texts,
    last_real,
    problem_of,
)
from tests import helpers
from tests.helpers import GOLDEN, largest_difference

SIZES = {"vocab_size": 60, "n_positions": 16, "n_embd": 32, "n_layer": 2, "n_head": 4}
B, T, PAD = 4, 9, 5
PROBLEMS = ("regression", "single_label_classification", "multi_label_classification")


def random_pair(attn_implementation="eager", num_labels=3, pad_token_id=PAD, **overrides):
    """A model of transformers with random weights, and ours with the same."""
    kind = {"kind": "OpenAIGPTForSequenceClassification"}
    kind |= {"attn_implementation": attn_implementation, "num_labels": num_labels}
    return helpers.random_pair(**kind, pad_token_id=pad_token_id, **(SIZES | overrides))


def some_texts(side="right", seed=0):
    """Ids (B, T), padded on one side with PAD, and their mask; PAD stands in no text."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(PAD + 1, SIZES["vocab_size"], (B, T), generator=draw)
    mask = helpers.padded(side, (T, 6, 1, 3), T)
    return ids.masked_fill(mask == 0, PAD), mask


def labels_for(problem, num_labels):
    if problem == "single_label_classification":
        return torch.randint(num_labels, (B,))
    if problem == "multi_label_classification":
        return torch.randint(2, (B, num_labels)).float()
    return torch.randn(B) if num_labels == 1 else torch.randn(B, num_labels)


def places_of(mask):
    return (mask.cumsum(-1) - 1).clamp(min=0)


# -- transformers


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("positions", [True, False])
def test_scores_and_states_equal_transformers(implementation, side, masked, positions):
    theirs, ours = random_pair(implementation)
    ids, mask = some_texts(side)
    inputs = {"input_ids": ids, "token_type_ids": ids.flip(-1)}
    if masked:
        inputs["attention_mask"] = mask
    if positions:
        inputs["position_ids"] = places_of(mask)
    a, b = (one(**inputs, output_hidden_states=True) for one in (ours, theirs))
    assert a.logits.shape == (B, 3)
    assert largest_difference(a.logits, b.logits) < 1e-5
    for x, y in zip(a.hidden_states, b.hidden_states, strict=True):
        assert largest_difference(x[mask.bool()], y[mask.bool()]) < 1e-5


def test_attentions_equal_transformers():
    theirs, ours = random_pair()
    theirs.set_attn_implementation("eager")
    ids, _ = some_texts()
    a, b = (one(ids, output_attentions=True).attentions for one in (ours, theirs))
    for x, y in zip(a, b, strict=True):
        assert largest_difference(x, y) < 1e-5


DEDUCED = [(problem, L, named) for problem in PROBLEMS for L in (1, 3) for named in (True, False)]
DEDUCED.remove(("regression", 3, False))  # such labels mean yes or no; see ERRORS
DEDUCED.remove(("multi_label_classification", 1, False))  # and these a quantity


@pytest.mark.parametrize("problem, num_labels, named", DEDUCED)
def test_losses_and_gradients_equal_transformers(problem, num_labels, named):
    theirs, ours = random_pair("sdpa", num_labels)
    ids, mask = some_texts()
    labels = labels_for(problem, num_labels)
    if named:
        theirs.config.problem_type = ours.config.problem_type = problem
    a, b = (one(ids, mask, labels=labels) for one in (ours, theirs))
    assert largest_difference(a.loss, b.loss) < 1e-5
    for out in (a, b):
        out.loss.backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("num_labels", [1, 2, 5])
@pytest.mark.parametrize("dtype", [torch.long, torch.int, torch.float, torch.double, torch.bool])
def test_the_problem_is_deduced_as_in_transformers(num_labels, dtype):
    theirs, _ = random_pair(num_labels=num_labels)
    labels = torch.zeros(1, dtype=dtype)
    try:  # the guess is written down before the loss is computed
        theirs(torch.tensor([[7, 8]]), labels=labels)
    except (ValueError, RuntimeError):
        pass
    assert problem_of(labels, num_labels) == theirs.config.problem_type


def test_one_text_needs_no_padding_token():
    theirs, ours = random_pair(pad_token_id=None)
    ids = torch.randint(60, (1, T))
    assert largest_difference(ours(ids).logits, theirs(ids).logits) < 1e-5


def test_a_row_of_padding_is_read_at_its_first_place_as_in_transformers():
    theirs, ours = random_pair()
    ids = torch.full((2, T), PAD)
    assert largest_difference(ours(ids).logits, theirs(ids).logits) < 1e-5


def test_the_padding_token_s_id_decides_whatever_the_mask_says():
    theirs, ours = random_pair()
    ids = torch.tensor([[7, 8, PAD]])
    all_real = torch.ones_like(ids)
    found = ours(ids, all_real).logits
    assert largest_difference(found, theirs(ids, attention_mask=all_real).logits) < 1e-5
    assert largest_difference(found, ours(ids[:, :2]).logits) < 1e-5


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("pad_token_id, texts", [(PAD, B), (None, 1)])
def test_what_is_read_at_padding_equals_transformers(pad_token_id, texts, implementation):
    """The ids hold no padding token, so the last place is read, whatever the mask says."""
    theirs, ours = random_pair(implementation, pad_token_id=pad_token_id)
    ids, mask = torch.randint(PAD + 1, 60, (texts, T)), helpers.padded("right", (6, T, 1, 3), T)
    inputs = {"input_ids": ids, "attention_mask": mask[:texts], "labels": torch.tensor([2] * texts)}
    found, expected = ours(**inputs), theirs(**inputs)
    assert largest_difference(found.logits, expected.logits) < 1e-5
    assert largest_difference(found.loss, expected.loss) < 1e-5


def test_vectors_without_a_mask_are_all_real_as_in_transformers():
    theirs, ours = random_pair()
    vectors = torch.randn(B, T, 32)
    found, expected = [one(inputs_embeds=vectors).logits for one in (ours, theirs)]
    assert largest_difference(found, expected) < 1e-5


@pytest.mark.parametrize("mask", [torch.ones(2, T), torch.ones(B, 1, T), torch.tensor(1)])
def test_a_mask_that_does_not_fit_vectors_is_named(mask):
    with pytest.raises(
        ValueError, match=re.escape(f"attention_mask {tuple(mask.shape)} for texts")
    ):
        random_pair()[1](inputs_embeds=torch.randn(B, T, 32), attention_mask=mask)


def test_a_folder_of_either_side_loads_in_the_other(tmp_path):
    theirs, ours = random_pair("sdpa", id2label={0: "bad", 1: "fair", 2: "good"})
    ids, _ = some_texts()
    ours.save_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no weight is missing, none is left over
        again = OpenAIGPTForSequenceClassification.from_pretrained(tmp_path / "theirs")
    kind = transformers.AutoModelForSequenceClassification
    there = kind.from_pretrained(tmp_path / "ours").eval()
    assert torch.equal(again(ids).logits, ours(ids).logits)
    assert torch.equal(there(ids).logits, theirs(ids).logits)
    for one in (again, there):
        assert one.config.id2label == {0: "bad", 1: "fair", 2: "good"}
        assert one.config.pad_token_id == PAD


def test_fields_and_tuple_stand_in_the_order_of_transformers():
    theirs, ours = random_pair()
    ids, mask = some_texts()
    labels = labels_for("single_label_classification", 3)
    options = {"labels": labels, "output_hidden_states": True}
    names = list(SequenceClassifierOutput.__dataclass_fields__)
    their_names = list(theirs(ids, **options).keys())
    assert [name for name in names if name in their_names] == their_names
    inputs = ids, mask, ids.flip(-1), places_of(mask), None, labels
    pairs = zip(ours(*inputs).to_tuple(), theirs(*inputs).to_tuple(), strict=True)
    assert all(largest_difference(x, y) < 1e-5 for x, y in pairs)
    parts = ours(ids, labels=labels, return_dict=False)
    assert isinstance(parts, tuple) and len(parts) == 2


# -- OpenAI's code


def golden_errors(**overrides):
    arrays = np.load(GOLDEN / "golden.npz")
    golden = {name: torch.from_numpy(arrays[name]) for name in arrays if "/" not in name}
    fields = {"n_head": 4, "num_labels": 1, "pad_token_id": 0} | overrides
    with pytest.warns(UserWarning, match="score.weight not in the checkpoint"):
        model = OpenAIGPTForSequenceClassification.from_pretrained(GOLDEN / "model", **fields)
    model.resize_token_embeddings(100).weight.data[97:] = golden["special"]
    model.score.weight.data.copy_(golden["clf_w"].T)
    ids = golden["X"][..., 0].long().flatten(0, 1)  # (3, 2, T, 2) -> (6, T)
    out = model(ids, output_hidden_states=True)
    names = ["embedding", "hidden_0", "hidden_1", "hidden_2"]
    pairs = zip(names, out.hidden_states, strict=True)
    errors = {name: largest_difference(x, golden[name]) for name, x in pairs}
    found = (out.logits + golden["clf_b"]).view(3, 2)
    return errors | {"score": largest_difference(found, golden["clf_logits"])}


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_layers_and_scores_equal_openai(implementation):
    assert max(golden_errors(attn_implementation=implementation).values()) < 1e-5


def test_the_openai_comparison_can_fail():
    assert golden_errors(pad_token_id=98)["score"] > 1e-2
    assert golden_errors(afn="relu")["hidden_0"] > 1e-3


# -- the class by itself


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=4))
def test_last_real_is_what_a_loop_finds(rows):
    expected = [max((t for t, real in enumerate(row) if real), default=0) for row in rows]
    assert last_real(torch.tensor(rows)).tolist() == expected


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_changes_no_score(implementation, side):
    _, ours = random_pair(implementation)
    ids, mask = some_texts(side)
    batch = ours(ids, mask, position_ids=places_of(mask)).logits
    for row, real, scores in zip(ids, mask.bool(), batch, strict=True):
        assert largest_difference(ours(row[real][None]).logits[0], scores) < 1e-5


@pytest.mark.parametrize("pad_token_id", [PAD, None])
@pytest.mark.parametrize("side", ["right", "left"])
def test_vectors_with_a_mask_score_as_ids_do(side, pad_token_id):
    _, ours = random_pair()
    ids, mask = some_texts(side)
    expected = ours(ids, mask).logits
    ours.config.pad_token_id = pad_token_id
    vectors = ours.get_input_embeddings()(ids)
    found = ours(inputs_embeds=vectors, attention_mask=mask).logits
    assert largest_difference(found, expected) < 1e-5


def test_a_mask_of_one_row_speaks_of_all_vectors():
    found = end_of_texts(torch.Size([3, 4]), None, torch.tensor([[1, 1, 0, 0]]), None)
    assert found.tolist() == [1, 1, 1]


def test_the_mask_may_cover_a_cache():
    _, ours = random_pair("sdpa")
    vectors, mask = torch.randn(2, 6, 32), torch.tensor([[1] * 6, [1] * 5 + [0]])
    whole = ours(inputs_embeds=vectors, attention_mask=mask).logits
    first = ours(inputs_embeds=vectors[:, :3], attention_mask=mask[:, :3], use_cache=True)
    cache = {"past_key_values": first.past_key_values}
    rest = ours(inputs_embeds=vectors[:, 3:], attention_mask=mask, **cache).logits
    assert largest_difference(rest, whole) < 1e-5


def test_nothing_is_written_into_the_config():
    _, ours = random_pair()
    ids, _ = some_texts()
    for problem in PROBLEMS[1:]:
        ours(ids, labels=labels_for(problem, 3))
        assert ours.config.problem_type is None


@pytest.mark.parametrize(
    "named, labels", [(None, torch.zeros(B, 1)), ("regression", torch.zeros(B))]
)
def test_a_single_output_takes_either_shape(named, labels):
    """Numbers (B,) against scores (B, 1) are compared one by one, not all with all."""
    logits = torch.randn(B, 1)
    expected = logits.square().mean()
    assert largest_difference(classification_loss(logits, labels, named), expected) < 1e-6


def test_ignored_texts_do_not_count():
    logits = torch.randn(3, 4)
    found = classification_loss(logits, torch.tensor([2, -100, 0]))
    expected = classification_loss(logits[[0, 2]], torch.tensor([2, 0]))
    assert largest_difference(found, expected) < 1e-6


def test_whole_numbers_serve_as_quantities():
    assert classification_loss(torch.tensor([[2.0]]), torch.tensor([4])).item() == 4


SINGLE, MULTI = PROBLEMS[1:]
ERRORS = {
    "too few": (3, None, torch.zeros(B - 1).long(), "labels (3,) for single_label_classification"),
    "whole numbers for each": (3, None, torch.zeros(B, 3).long(), "labels (4, 3) for single"),
    "floats": (3, None, torch.zeros(B), "labels (4,) for multi_label_classification"),
    "transposed": (3, None, torch.zeros(3, B), "labels (3, 4) for multi_label_classification"),
    "class too high": (3, None, torch.tensor([0, 1, 2, 3]), "labels has 3 in it"),
    "class below 0": (3, None, torch.tensor([0, 1, 2, -1]), "labels has -1 in it"),
    "half a class": (3, SINGLE, torch.zeros(B), "wants whole numbers"),
    "above yes": (3, MULTI, torch.full((B, 3), 2.0), "from 0 (no) to 1 (yes)"),
    "below no": (3, MULTI, torch.full((B, 3), -0.5), "from 0 (no) to 1 (yes)"),
    "quantities unnamed": (3, None, torch.full((B, 3), 4.5), "from 0 (no) to 1 (yes)"),
    "one quantity of three": (3, "regression", torch.zeros(B), "labels (4,) for regression"),
    "too many quantities": (1, None, torch.zeros(B, 2), "labels (4, 2) for regression"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_wrong_labels_are_named(case):
    num_labels, problem, labels, message = ERRORS[case]
    _, ours = random_pair(num_labels=num_labels, problem_type=problem)
    with pytest.raises(ValueError, match=re.escape(message)):
        ours(some_texts()[0], labels=labels)


def test_several_texts_without_a_padding_token():
    theirs, ours = random_pair(pad_token_id=None)
    ids, mask = some_texts()
    with pytest.raises(ValueError, match="4 texts, but no padding token") as caught:
        ours(ids, mask)
    assert "model.config.pad_token_id = tokenizer.pad_token_id" in str(caught.value)
    with pytest.raises(ValueError, match="no padding token"):
        theirs(ids)


def test_several_texts_as_vectors_without_a_mask_or_a_padding_token():
    _, ours = random_pair(pad_token_id=None)
    with pytest.raises(ValueError, match="4 texts, but inputs_embeds .* pass attention_mask"):
        ours(inputs_embeds=torch.randn(B, T, 32))
    assert ours(inputs_embeds=torch.randn(1, T, 32)).logits.shape == (1, 3)


def test_neither_ids_nor_vectors():
    with pytest.raises(ValueError, match="neither was given"):
        random_pair()[1]()


def test_the_new_head_starts_as_the_config_says():
    torch.manual_seed(0)
    sizes = SIZES | {"n_embd": 400, "num_labels": 10}
    model = OpenAIGPTForSequenceClassification(OpenAIGPTConfig(**sizes, initializer_range=0.1))
    assert abs(model.score.weight.std().item() - 0.1) < 0.01 and model.score.bias is None


@pytest.mark.parametrize("problem", PROBLEMS)
def test_half_precision(problem):
    _, ours = random_pair("sdpa", problem_type=problem)
    out = ours.bfloat16()(some_texts()[0], labels=labels_for(problem, 3))
    assert out.loss.dtype == torch.float32 and out.loss.isfinite()
    assert out.logits.dtype == torch.bfloat16
