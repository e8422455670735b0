"""Double heads and classifier against transformers, equal weights, and OpenAI's golden arrays.

Outputs at padding have no meaning and are not compared.
"""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from minigpt import (
    OpenAIGPTDoubleHeadsModel,
    OpenAIGPTForSequenceClassification,
    OpenAIGPTLMHeadModel,
    OpenAIGPTModel,
)
from tests import helpers
from tests.helpers import GOLDEN, largest_difference, padded

SIZES = {"vocab_size": 60, "n_positions": 16, "n_embd": 32, "n_layer": 2, "n_head": 4}
B, CHOICES, T, PAD = 3, 2, 9, 5
PROBLEMS = ("regression", "single_label_classification", "multi_label_classification")


def double_heads(attn_implementation="sdpa", **overrides):
    """A model of transformers with random weights, and ours with the same."""
    options = {"attn_implementation": attn_implementation} | SIZES | overrides
    return helpers.random_pair(kind="OpenAIGPTDoubleHeadsModel", **options)


def classifiers(attn_implementation="sdpa", num_labels=3, pad_token_id=PAD, **overrides):
    options = {"num_labels": num_labels, "pad_token_id": pad_token_id} | SIZES | overrides
    options["attn_implementation"] = attn_implementation
    return helpers.random_pair(kind="OpenAIGPTForSequenceClassification", **options)


def differences(ours, theirs, *names):
    return {name: largest_difference(ours[name], theirs[name]) for name in names}


def same_layers(ours, theirs, what="hidden_states"):
    """Our states have the axis of the choices; of theirs, the last one only."""
    pairs = zip(ours[what], theirs[what], strict=True)
    return all(largest_difference(x, y.view(x.shape)) < 1e-5 for x, y in pairs)


def assert_same_gradients(ours, theirs):
    """Close, not relatively so: the gradient of the choices' bias is zero up to rounding."""
    expected = {name: x.grad for name, x in theirs.named_parameters() if x.grad is not None}
    found = {name: x.grad for name, x in ours.named_parameters() if x.grad is not None}
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


# -- double heads and transformers


def questions():
    ids = torch.randint(60, (B, CHOICES, T))
    return {
        "input_ids": ids,
        "mc_token_ids": torch.randint(T, (B, CHOICES)),
        "labels": ids.masked_fill(torch.rand(ids.shape) < 0.2, -100),
        "mc_labels": torch.randint(CHOICES, (B,)),
    }


EXTRA = {
    "nothing": {},
    "types": {"token_type_ids": torch.arange(B * CHOICES * T).view(B, CHOICES, T) % 60},
    "types in a column": {"token_type_ids": torch.arange(B * CHOICES * T).view(-1, T) % 60},
    "positions": {"position_ids": torch.arange(T).flip(0)[None]},
    "positions in a column": {"position_ids": torch.arange(B * CHOICES * T).view(-1, T) % 16},
    "last positions": {"mc_token_ids": None},
}


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("extra", EXTRA)
def test_double_heads_values_and_gradients(implementation, extra):
    theirs, ours = double_heads(implementation)
    task = questions() | EXTRA[extra]
    a, b = (one(**task, output_hidden_states=True) for one in (ours, theirs))
    found = differences(a, b, "loss", "mc_loss", "logits", "mc_logits")
    assert max(found.values()) < 1e-5 and same_layers(a, b)
    for out in (a, b):
        (out.loss + out.mc_loss).backward()
    assert_same_gradients(ours, theirs)


def test_double_heads_take_vectors():
    """transformers takes them without an axis of choices only: the texts go in one column."""
    theirs, ours = double_heads()
    task = questions()
    vectors, index = torch.randn(B, CHOICES, T, 32), task["mc_token_ids"]
    found = ours(inputs_embeds=vectors, mc_token_ids=index).mc_logits
    expected = theirs(inputs_embeds=vectors.flatten(0, 1), mc_token_ids=index.flatten()).mc_logits
    assert largest_difference(found.flatten(), expected) < 1e-5


@pytest.mark.parametrize("side", ["right", "left"])
def test_double_heads_masks(side):
    """transformers takes masks of (B choices, T); ours may also have the axis of the choices."""
    theirs, ours = double_heads()
    task, mask = questions(), padded(side, (T, 4, 1, 8, 6, 2), T)
    ends = mask.sum(-1) - 1 if side == "right" else torch.full((6,), T - 1)
    task["mc_token_ids"] = ends.view(B, CHOICES)
    real = mask.view(B, CHOICES, T)  # a label behind padding is predicted from padding
    starts = real.cumsum(-1) == 1
    task["labels"] = task["input_ids"].masked_fill((real == 0) | starts, -100)
    a, b = ours(attention_mask=real, **task), theirs(attention_mask=mask, **task)
    assert max(differences(a, b, "loss", "mc_loss", "mc_logits").values()) < 1e-5
    assert largest_difference(a.logits[real.bool()], b.logits[real.bool()]) < 1e-5
    column = ours(attention_mask=mask, **task)
    assert torch.equal(column.mc_logits, a.mc_logits)
    (a.loss + a.mc_loss + b.loss + b.mc_loss).backward()
    assert_same_gradients(ours, theirs)


@pytest.mark.parametrize("models, shape", [(double_heads, (B, CHOICES, T)), (classifiers, (B, T))])
def test_attentions(models, shape):
    theirs, ours = models()
    theirs.set_attn_implementation("eager")
    ids = torch.randint(PAD + 1, 60, shape)
    a, b = (one(ids, output_attentions=True) for one in (ours, theirs))
    assert same_layers(a, b, "attentions")


@pytest.mark.parametrize("kind", ["cls_index", "last", "first", "mean"])
@pytest.mark.parametrize("projection", ["none", "to labels", "to width"])
@pytest.mark.parametrize("activation", [None, "tanh"])
def test_every_summary(kind, projection, activation):
    """With "last", "first" and "mean", transformers counts along the second axis, the choices'.

    So it gets the texts in one column.
    """
    options = {"summary_type": kind, "summary_activation": activation}
    options["summary_use_proj"] = projection != "none"
    options["summary_proj_to_labels"] = projection == "to labels"
    theirs, ours = double_heads(**options)
    ids, index = torch.randint(60, (B, CHOICES, T)), torch.randint(T, (B, CHOICES))
    column = ids.flatten(0, 1), index.flatten()
    expected = theirs(column[0], mc_token_ids=column[1]).mc_logits
    found = ours(ids, mc_token_ids=index).mc_logits
    assert largest_difference(found.flatten(0, 1), expected) < 1e-5
    assert largest_difference(ours(column[0], mc_token_ids=column[1]).mc_logits, expected) < 1e-5
    assert found.shape == ((B, CHOICES) if projection == "to labels" else (B, CHOICES, 32))


@pytest.mark.parametrize("kind", ["last", "first", "mean"])
def test_positions_for_another_summary_do_not_matter(kind):
    theirs, ours = double_heads(summary_type=kind)
    ids, nonsense = torch.randint(60, (B, T)), torch.full((7,), 99)
    found, expected = (one(ids, mc_token_ids=nonsense).mc_logits for one in (ours, theirs))
    assert largest_difference(found, expected) < 1e-5


def test_dropout_in_training():
    rates = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "summary_first_dropout": 0.4}
    pair, found = double_heads(**rates), []
    ids = torch.randint(60, (B, CHOICES, T))
    for one in pair:
        torch.manual_seed(1)
        found.append(one.train()(ids).mc_logits)
    assert largest_difference(*found) < 1e-5
    assert largest_difference(found[0], pair[1].eval()(ids).mc_logits) > 1e-3


# -- classifier and transformers


def some_texts(side="right"):
    mask = padded(side, (T, 6, 1, 3), T)
    return torch.randint(PAD + 1, 60, (4, T)).masked_fill(mask == 0, PAD), mask


def labels_for(problem, num_labels):
    if problem == "single_label_classification":
        return torch.randint(num_labels, (4,))
    if problem == "multi_label_classification":
        return torch.randint(2, (4, num_labels)).float()
    return torch.randn(4) if num_labels == 1 else torch.randn(4, num_labels)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("wishes", ["", "mask", "positions", "mask positions"])
def test_classifier_values(implementation, side, wishes):
    theirs, ours = classifiers(implementation)
    ids, mask = some_texts(side)
    inputs = {"input_ids": ids, "token_type_ids": ids.flip(-1)}
    if "mask" in wishes:
        inputs["attention_mask"] = mask
    if "positions" in wishes:
        inputs["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
    a, b = (one(**inputs, output_hidden_states=True) for one in (ours, theirs))
    assert a.logits.shape == (4, 3) and largest_difference(a.logits, b.logits) < 1e-5
    for x, y in zip(a.hidden_states, b.hidden_states, strict=True):
        assert largest_difference(x[mask.bool()], y[mask.bool()]) < 1e-5


LOSSES = [(problem, L, named) for problem in PROBLEMS for L in (1, 3) for named in (True, False)]
LOSSES.remove(("regression", 3, False))  # such labels mean yes or no
LOSSES.remove(("multi_label_classification", 1, False))  # and these a quantity
if not helpers.has_transformers("5.20"):
    LOSSES.remove(("single_label_classification", 1, False))  # an older one fails here itself


@pytest.mark.parametrize("problem, num_labels, named", LOSSES)
def test_classifier_losses_and_gradients(problem, num_labels, named):
    theirs, ours = classifiers(num_labels=num_labels)
    ids, mask = some_texts()
    labels = labels_for(problem, num_labels)
    if named:
        theirs.config.problem_type = ours.config.problem_type = problem
    a, b = (one(ids, mask, labels=labels) for one in (ours, theirs))
    assert largest_difference(a.loss, b.loss) < 1e-5
    (a.loss + b.loss).backward()
    assert_same_gradients(ours, theirs)


@pytest.mark.parametrize("num_labels", [1, 2, 5])
@pytest.mark.parametrize("dtype", [torch.long, torch.int, torch.float, torch.double, torch.bool])
def test_the_problem_is_deduced(num_labels, dtype):
    from minigpt.classification import problem_of

    theirs, _ = classifiers(num_labels=num_labels)
    labels = torch.zeros(1, dtype=dtype)
    try:  # the guess is written down before the loss is computed
        theirs(torch.tensor([[7, 8]]), labels=labels)
    except (ValueError, RuntimeError):
        pass
    assert problem_of(labels, num_labels) == theirs.config.problem_type


CASES = {  # pad token, ids, mask
    "one text without a pad token": (None, torch.arange(T)[None], None),
    "a row of padding": (PAD, torch.full((2, T), PAD), None),
    "the id decides, not the mask": (PAD, torch.tensor([[7, 8, PAD]]), torch.ones(1, 3)),
}


@pytest.mark.parametrize("case", CASES)
def test_where_a_text_ends(case):
    pad, ids, mask = CASES[case]
    found, expected = (
        one(ids, attention_mask=mask).logits for one in classifiers(pad_token_id=pad)
    )
    assert largest_difference(found, expected) < 1e-5


def test_vectors_without_a_mask_are_all_real():
    vectors = torch.randn(4, T, 32)
    found, expected = (one(inputs_embeds=vectors).logits for one in classifiers())
    assert largest_difference(found, expected) < 1e-5


# -- what both return


@pytest.mark.parametrize("models", [double_heads, classifiers])
def test_fields_tuples_and_arguments_in_order(models):
    theirs, ours = models()
    if models is double_heads:
        task = questions()
        inputs = task["input_ids"], None, task["input_ids"].flip(-1), torch.arange(T)[None], None
        inputs += task["mc_token_ids"], task["labels"], task["mc_labels"]
    else:
        ids, mask = some_texts()
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        inputs = ids, mask, ids.flip(-1), positions, None, torch.tensor([0, 2, 1, 2])
    a, b = ours(*inputs), theirs(*inputs)
    names = [name for name in type(a).__dataclass_fields__ if name in b]
    assert names == list(a.keys()) == list(b.keys())
    tuples = a.to_tuple(), b.to_tuple(), ours(*inputs, return_dict=False)
    for x, y, z in zip(*tuples, strict=True):
        assert torch.equal(x, z) and largest_difference(x, y) < 1e-5
    assert isinstance(tuples[2], tuple)


# -- OpenAI's code

ARRAYS = np.load(GOLDEN / "golden.npz")
LAYERS = ["embedding", "hidden_0", "hidden_1", "hidden_2"]


def golden(name):
    return torch.from_numpy(ARRAYS[name])


def golden_model(kind, **overrides):
    """A model with OpenAI's golden weights in its body, and rows for the special tokens."""
    body = OpenAIGPTModel.from_pretrained(GOLDEN / "model", n_head=4)
    model = kind(replace(body.config, **overrides)).eval()
    model.transformer.load_state_dict(body.state_dict())
    model.resize_token_embeddings(100).weight.data[97:] = golden("special")
    return model


def golden_double_heads(**overrides):
    model = golden_model(OpenAIGPTDoubleHeadsModel, **overrides)
    model.multiple_choice_head.summary.weight.data.copy_(golden("clf_w").T)
    model.multiple_choice_head.summary.bias.data.copy_(golden("clf_b"))
    return model


def golden_task():
    ids = golden("X")[..., 0].long()
    return {
        "input_ids": ids,
        "mc_token_ids": (ids == 99).long().argmax(-1),
        "labels": ids.masked_fill(golden("M") == 0, -100),
        "mc_labels": golden("Y").long(),
    }


def golden_names(layer_count=3):
    """OpenAI's variable -> our parameter."""
    parts = {"attn/c_attn": "attn.c_attn", "attn/c_proj": "attn.c_proj", "ln_1": "ln_1"}
    parts |= {"mlp/c_fc": "mlp.c_fc", "mlp/c_proj": "mlp.c_proj", "ln_2": "ln_2"}
    names = {"clf/w": "multiple_choice_head.summary.weight"}
    names["clf/b"] = "multiple_choice_head.summary.bias"
    for layer in range(layer_count):
        for theirs, ours in parts.items():
            for short, long in (("g" if "ln" in ours else "w", "weight"), ("b", "bias")):
                names[f"h{layer}/{theirs}/{short}"] = f"transformer.h.{layer}.{ours}.{long}"
    return names


def gradient_error(model):
    """The largest relative error over all gradients of OpenAI's code."""
    own = {name: p.grad for name, p in model.named_parameters()}
    found = {theirs: own[ours] for theirs, ours in golden_names().items()}
    found["clf/w"] = found["clf/w"].T
    embeddings = [own[f"transformer.{name}_embed.weight"] for name in ("tokens", "positions")]
    found["we"] = torch.cat(embeddings)
    assert {f"grad/{name}" for name in found} == {n for n in ARRAYS if n.startswith("grad/")}
    errors = []
    for name, gradient in found.items():
        theirs = golden(f"grad/{name}").reshape(gradient.shape)
        scale = theirs.abs().max().item() if name != "clf/b" else 1.0  # that one is zero
        errors.append(largest_difference(gradient, theirs) / scale)
    return max(errors)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_double_heads_equal_openai(implementation):
    model = golden_double_heads(attn_implementation=implementation)
    task = golden_task()
    out = model(**task, openai_losses=True, output_hidden_states=True)
    found = {name: x.view(6, 24, 32) for name, x in zip(LAYERS, out.hidden_states, strict=True)}
    found |= {"lm_logits": out.logits.flatten(0, 1), "clf_logits": out.mc_logits}
    found["clf_losses"] = F.cross_entropy(out.mc_logits, task["mc_labels"], reduction="none")
    loss = found["loss"] = out.mc_loss + 0.5 * out.loss
    assert largest_difference(out.loss, golden("lm_losses").mean()) < 1e-5
    for name, x in found.items():
        assert largest_difference(x, golden(name)) < 1e-5, name
    loss.backward()
    assert gradient_error(model) < 1e-4


def wrong_gelu(model):
    for block in model.transformer.h:
        block.mlp.act = F.gelu


@pytest.mark.parametrize(
    "spoil, openai_losses, lm_coef",
    [(wrong_gelu, True, 0.5), (lambda model: None, False, 0.5), (lambda model: None, True, 1)],
)
def test_the_gradient_comparison_can_fail(spoil, openai_losses, lm_coef):
    model = golden_double_heads()
    spoil(model)
    out = model(**golden_task(), openai_losses=openai_losses)
    (out.mc_loss + lm_coef * out.loss).backward()
    assert gradient_error(model) > 1e-3


def classifier_errors(**overrides):
    """A classifier with one output is OpenAI's head for choices, up to the bias."""
    fields = {"num_labels": 1, "pad_token_id": 0, "id2label": None} | overrides
    model = golden_model(OpenAIGPTForSequenceClassification, **fields)
    model.score.weight.data.copy_(golden("clf_w").T)
    ids = golden("X")[..., 0].long().flatten(0, 1)  # (3, 2, T, 2) -> (6, T)
    out = model(ids, output_hidden_states=True)
    pairs = zip(LAYERS, out.hidden_states, strict=True)
    errors = {name: largest_difference(x, golden(name)) for name, x in pairs}
    found = (out.logits + golden("clf_b")).view(3, 2)
    return errors | {"score": largest_difference(found, golden("clf_logits"))}


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_the_classifier_equals_openai(implementation):
    assert max(classifier_errors(attn_implementation=implementation).values()) < 1e-5


# -- folders


@pytest.mark.parametrize("models", [double_heads, classifiers])
def test_a_folder_of_either_side_loads_in_the_other(models, tmp_path):
    theirs, ours = models()
    ids = torch.randint(PAD + 1, 60, (B, CHOICES, T) if models is double_heads else (B, T))
    ours.save_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no weight is missing, none is left over
        again = type(ours).from_pretrained(tmp_path / "theirs")
    there = type(theirs).from_pretrained(tmp_path / "ours").eval()
    for one, other in ((again, ours), (there, theirs)):
        torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0)
        assert largest_difference(one(ids).logits, other(ids).logits) < 1e-6
        for name in ("num_labels", "id2label", "pad_token_id"):
            assert getattr(one.config, name) == getattr(other.config, name)


def test_missing_and_unused_heads_are_named_once(tmp_path):
    with pytest.warns(UserWarning) as caught:
        model = OpenAIGPTDoubleHeadsModel.from_pretrained(GOLDEN / "model", n_head=4)
    assert len(caught) == 1 and "multiple_choice_head.summary.weight" in str(caught[0].message)
    model.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="not used by OpenAIGPTLMHeadModel"):
        alone = OpenAIGPTLMHeadModel.from_pretrained(tmp_path)
    ids = torch.randint(60, (B, T))
    assert largest_difference(alone(ids).logits, model(ids).logits) < 1e-6
