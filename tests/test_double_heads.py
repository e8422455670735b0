"""The double heads against OpenAI's code and transformers; options, errors, folders."""

import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt import OpenAIGPTConfig, OpenAIGPTDoubleHeadsModel, OpenAIGPTLMHeadModel
from minigpt.old.attention import make_mask
from minigpt.old.double_heads import (
    SUMMARIES,
    OpenAIGPTDoubleHeadsModelOutput,
    SequenceSummary,
    choice_loss,
    loss_per_text,
    places_read,
    states_at,
)
from minigpt.old.lm_head import next_token_loss
from tests import helpers
from tests.helpers import GOLDEN, largest_difference

transformers.utils.logging.set_verbosity_error()
SIZES = {"vocab_size": 60, "n_positions": 16, "n_embd": 32, "n_layer": 2, "n_head": 4}
B, CHOICES, T = 3, 2, 9


def quiet(call, *args, **options):
    """Load a model whose head is new, without the warning that says so."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="multiple_choice_head")
        return call(*args, **options)


def random_pair(attn_implementation="eager", **overrides):
    """A model of transformers with random weights, and ours with the same."""
    kind = {"kind": "OpenAIGPTDoubleHeadsModel", "attn_implementation": attn_implementation}
    return helpers.random_pair(**kind, **(SIZES | overrides))


def questions(seed=0):
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(SIZES["vocab_size"], (B, CHOICES, T), generator=draw)
    return {
        "input_ids": ids,
        "mc_token_ids": torch.randint(T, (B, CHOICES), generator=draw),
        "labels": ids.masked_fill(torch.rand(ids.shape, generator=draw) < 0.2, -100),
        "mc_labels": torch.randint(CHOICES, (B,), generator=draw),
    }


# -- OpenAI's code

ARRAYS = np.load(GOLDEN / "golden.npz")


def golden(name):
    return torch.from_numpy(ARRAYS[name])


def golden_model(**overrides):
    load = OpenAIGPTDoubleHeadsModel.from_pretrained
    model = quiet(load, GOLDEN / "model", n_head=4, **overrides)
    model.resize_token_embeddings(100).weight.data[97:] = golden("special")
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
    tables = [own[f"transformer.{name}_embed.weight"] for name in ("tokens", "positions")]
    found["we"] = torch.cat(tables)
    assert {f"grad/{name}" for name in found} == {n for n in ARRAYS if n.startswith("grad/")}
    errors = []
    for name, gradient in found.items():
        theirs = golden(f"grad/{name}").reshape(gradient.shape)
        scale = theirs.abs().max().item() if name != "clf/b" else 1.0  # that one is zero
        errors.append(largest_difference(gradient, theirs) / scale)
    return max(errors)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_everything_equals_openai(implementation):
    model, task = golden_model(attn_implementation=implementation), golden_task()
    out = model(**task, openai_losses=True, output_hidden_states=True)
    names = ["embedding", "hidden_0", "hidden_1", "hidden_2"]
    for name, states in zip(names, out.hidden_states, strict=True):
        assert largest_difference(states.flatten(0, 1), golden(name)) < 1e-5, name
    assert largest_difference(out.logits.flatten(0, 1), golden("lm_logits")) < 1e-5
    assert largest_difference(out.mc_logits, golden("clf_logits")) < 1e-5
    lm_losses = loss_per_text(out.logits, task["labels"])
    assert largest_difference(lm_losses.flatten(), golden("lm_losses")) < 1e-5
    clf_losses = F.cross_entropy(out.mc_logits, task["mc_labels"], reduction="none")
    assert largest_difference(clf_losses, golden("clf_losses")) < 1e-5
    loss = out.mc_loss + 0.5 * out.loss
    assert largest_difference(loss, golden("loss")) < 1e-5
    loss.backward()
    assert gradient_error(model) < 1e-4


def wrong_gelu(model):
    for block in model.transformer.h:
        block.mlp.act = F.gelu


def nothing(model):
    pass


@pytest.mark.parametrize(
    "spoil, openai_losses, lm_coef",
    [(wrong_gelu, True, 0.5), (nothing, False, 0.5), (nothing, True, 1)],
)
def test_the_gradient_comparison_can_fail(spoil, openai_losses, lm_coef):
    model = golden_model()
    spoil(model)
    out = model(**golden_task(), openai_losses=openai_losses)
    (out.mc_loss + lm_coef * out.loss).backward()
    assert gradient_error(model) > 1e-3


def test_choices_share_a_dropout_mask_only_in_openai_s_way():
    config = OpenAIGPTConfig(**SIZES, summary_first_dropout=0.5, num_labels=1)
    summary = SequenceSummary(config).train()
    same = torch.ones(4, 3, 5, 32)
    assert torch.equal(*summary(same, one_mask=True)[:, :2].unbind(1))
    rows = summary(same, one_mask=True)[:, 0, 0]
    assert len(rows.unique()) > 1  # each question has its own mask
    assert not torch.equal(*summary(same)[:, :2].unbind(1))
    summary.eval()
    assert torch.equal(summary(same, one_mask=True), summary(same))


def test_the_mask_keeps_the_mean():
    config = OpenAIGPTConfig(**SIZES, summary_first_dropout=0.25, summary_use_proj=False)
    torch.manual_seed(0)
    x = SequenceSummary(config).train()(torch.ones(500, 2, 1, 32))
    assert x.unique().tolist() == pytest.approx([0, 4 / 3])
    assert abs(x.mean().item() - 1) < 0.02


# -- transformers


def run_theirs(theirs, task):
    """transformers takes `inputs_embeds` without choices only: then the texts go in one column."""
    if "input_ids" in task:
        return theirs(**task, output_hidden_states=True)
    columns = {
        name: x.flatten(0, 1)
        for name, x in task.items()
        if name not in ("mc_labels", "position_ids")
    }
    positions = {name: task[name] for name in ("position_ids",) if name in task}
    out = theirs(**columns, **positions, output_hidden_states=True)
    out.mc_loss = F.cross_entropy(out.mc_logits.view(B, CHOICES), task["mc_labels"])
    return out


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("places", [True, False])
@pytest.mark.parametrize("extra", ["none", "types", "positions", "embeds", "all"])
def test_values_and_gradients_equal_transformers(implementation, places, extra):
    theirs, ours = random_pair(implementation)
    task = questions()
    if not places:
        del task["mc_token_ids"]
    if extra in ("types", "all"):
        task["token_type_ids"] = torch.randint(SIZES["vocab_size"], (B, CHOICES, T))
    if extra in ("positions", "all"):
        task["position_ids"] = torch.randint(SIZES["n_positions"], (T,))[None]
    if extra in ("embeds", "all"):
        task["inputs_embeds"] = torch.randn(*task.pop("input_ids").shape, SIZES["n_embd"])
    a = ours(**task, output_hidden_states=True)
    b = run_theirs(theirs, task)
    for name in ("loss", "mc_loss", "logits", "mc_logits"):
        assert largest_difference(a[name], b[name].view(a[name].shape)) < 1e-5, name
    for x, y in zip(a.hidden_states, b.hidden_states, strict=True):
        assert largest_difference(x, y.view(x.shape)) < 1e-5
    for out in (a, b):
        (out.loss + out.mc_loss).backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        if gradients[name] is None:
            assert parameter.grad is None
            continue
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-6)


def test_attentions_equal_transformers():
    theirs, ours = random_pair()
    theirs.set_attn_implementation("eager")
    ids = questions()["input_ids"]
    a, b = (one(ids, output_attentions=True).attentions for one in (ours, theirs))
    for x, y in zip(a, b, strict=True):
        assert largest_difference(x, y) < 1e-5


@pytest.mark.parametrize("side", ["right", "left"])
def test_masks_equal_transformers(side):
    """transformers takes no mask with an axis for choices; it gets the texts in one column."""
    theirs, ours = random_pair("sdpa")
    ids = questions()["input_ids"]
    mask = torch.ones_like(ids)
    mask[0, 1, 6:] = mask[2, 0, 4:] = 0
    if side == "left":
        mask = mask.flip(-1)
    places = torch.full((B, CHOICES), T - 1) if side == "left" else mask.sum(-1) - 1
    a = ours(ids, mask, mc_token_ids=places)
    flat = [x.flatten(0, 1) for x in (ids, mask, places)]
    b = theirs(flat[0], attention_mask=flat[1], mc_token_ids=flat[2])
    assert largest_difference(a.mc_logits.flatten(), b.mc_logits) < 1e-5
    real = mask.bool()
    assert largest_difference(a.logits[real], b.logits[real.flatten(0, 1)]) < 1e-5


def padded_on_the_right():
    """Six texts in one column, their mask, and labels that count everywhere, at padding too."""
    ids = questions()["input_ids"].flatten(0, 1)
    return ids, helpers.padded("right", (T, 4, 1, 8, 6, 2), T), ids


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", ["cls_index", "last", "first", "mean"])
@pytest.mark.parametrize("place", ["left out", "at padding"])
def test_what_is_read_at_padding_equals_transformers(kind, place, implementation):
    theirs, ours = random_pair(implementation, summary_type=kind)
    ids, mask, labels = padded_on_the_right()
    places = None if place == "left out" else torch.full((len(ids),), T - 2)
    found, expected = [
        one(ids, attention_mask=mask, mc_token_ids=places, labels=labels) for one in (ours, theirs)
    ]
    for name in ("loss", "mc_logits"):
        assert largest_difference(found[name], expected[name]) < 1e-5
    (found.loss + found.mc_logits.sum() + expected.loss + expected.mc_logits.sum()).backward()
    assert helpers.gradient_difference(ours, theirs) < 1e-4


def masks_made(monkeypatch, model, *inputs, **options):
    """The mask that each call of the network makes; None: the fast, causal way."""
    made = []

    def note(*arguments):
        made.append(make_mask(*arguments))
        return made[-1]

    monkeypatch.setattr("minigpt.old.model.make_mask", note)
    model(*inputs, **options)
    return made


def test_who_reads_real_words_only_pays_for_no_mask(monkeypatch):
    _, ours = random_pair("sdpa")
    ids, mask, labels = padded_on_the_right()
    places = {"mc_token_ids": mask.sum(-1) - 1}
    for options in ({}, {"labels": labels.masked_fill(mask == 0, -100)}):
        assert masks_made(monkeypatch, ours, ids, mask, **places, **options) == [None]
    for options in ({"mc_token_ids": None}, places | {"labels": labels}):
        (made,) = masks_made(monkeypatch, ours, ids, mask, **options)
        assert made.shape == (6, 1, T, T)


def test_who_wants_all_states_at_padding_gets_those_of_transformers():
    theirs, ours = random_pair("sdpa")
    ids, mask, _ = padded_on_the_right()
    options = {"mc_token_ids": mask.sum(-1) - 1, "output_hidden_states": True}
    found = ours(ids, mask, read=torch.ones_like(ids).bool(), **options)
    expected = theirs(ids, attention_mask=mask, **options)
    for x, y in zip(found.hidden_states, expected.hidden_states, strict=True):
        assert largest_difference(x, y) < 1e-5


@pytest.mark.parametrize("kind", ["cls_index", "last", "first", "mean"])
@pytest.mark.parametrize("projection", ["none", "to labels", "to width"])
@pytest.mark.parametrize("activation", [None, "tanh"])
def test_every_summary_equals_transformers(kind, projection, activation):
    options = {"summary_type": kind, "summary_activation": activation}
    options["summary_use_proj"] = projection != "none"
    options["summary_proj_to_labels"] = projection == "to labels"
    theirs, ours = random_pair(**options)
    task = questions()
    flat = task["input_ids"].flatten(0, 1), task["mc_token_ids"].flatten()
    expected = theirs(flat[0], mc_token_ids=flat[1]).mc_logits  # no choices: see the notebook
    found = ours(task["input_ids"], mc_token_ids=task["mc_token_ids"]).mc_logits
    assert largest_difference(found.flatten(0, 1), expected) < 1e-5
    assert largest_difference(ours(flat[0], mc_token_ids=flat[1]).mc_logits, expected) < 1e-5
    assert found.shape == ((B, CHOICES) if projection == "to labels" else (B, CHOICES, 32))


def test_dropout_equals_transformers_in_training():
    rates = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "summary_first_dropout": 0.4}
    theirs, ours = random_pair(**rates)
    found = []
    for one in (ours.train(), theirs.train()):
        torch.manual_seed(1)
        found.append(one(questions()["input_ids"]).mc_logits)
    assert largest_difference(*found) < 1e-5
    assert largest_difference(found[0], ours.eval()(questions()["input_ids"]).mc_logits) > 1e-3


def test_a_folder_of_either_side_loads_in_the_other(tmp_path):
    theirs, ours = random_pair("sdpa")
    task = questions()
    ours.save_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no weight is missing, none is left over
        again = OpenAIGPTDoubleHeadsModel.from_pretrained(tmp_path / "theirs")
    there = transformers.OpenAIGPTDoubleHeadsModel.from_pretrained(tmp_path / "ours").eval()
    for one, other in ((again, ours), (there, theirs)):
        assert one.state_dict().keys() == other.state_dict().keys()
        for name, weight in other.state_dict().items():
            assert torch.equal(one.state_dict()[name], weight)
    # the last bit of a product may depend on where in memory a matrix begins, so: into fresh memory
    for one in (again, ours, there, theirs):
        for x in one.parameters():
            x.data = x.data.clone()
    for name in ("logits", "mc_logits"):
        assert torch.equal(again(**task)[name], ours(**task)[name])
        assert torch.equal(there(**task)[name], theirs(**task)[name])
    assert again.lm_head.weight is again.transformer.tokens_embed.weight
    assert again.config.num_labels == 1 and there.config.num_labels == 1


# -- the class by itself


def test_fields_and_tuple_stand_in_the_order_of_transformers():
    theirs, ours = random_pair()
    names = list(OpenAIGPTDoubleHeadsModelOutput.__dataclass_fields__)
    their_names = list(theirs(**questions(), output_hidden_states=True).keys())
    assert [name for name in names if name in their_names] == their_names
    whole, parts = ours(**questions()), ours(**questions(), return_dict=False)
    assert isinstance(parts, tuple) and len(parts) == 4
    expected = theirs(**questions(), return_dict=False)
    assert all(largest_difference(x, y) < 1e-5 for x, y in zip(parts, expected, strict=True))
    assert torch.equal(whole.mc_loss, parts[1])
    loss, _mc_loss, logits, mc_logits = whole
    assert loss.shape == () and logits.dim() == 4 and mc_logits.shape == (B, CHOICES)


def test_arguments_in_the_order_of_transformers():
    theirs, ours = random_pair()
    task = questions()
    inputs = task["input_ids"], None, task["input_ids"].flip(-1), torch.arange(T)[None], None
    inputs += task["mc_token_ids"], task["labels"], task["mc_labels"]
    for a, b in zip(ours(*inputs).to_tuple(), theirs(*inputs).to_tuple(), strict=True):
        assert largest_difference(a, b) < 1e-5


def test_the_caller_s_config_stays_as_it_was():
    config = OpenAIGPTConfig(**SIZES, id2label={0: "a", 1: "b", 2: "c"})
    before = replace(config)
    model = OpenAIGPTDoubleHeadsModel(config)
    model.resize_token_embeddings(70)
    assert config == before and config.num_labels == 3
    assert model.config.num_labels == 1 and model.config.vocab_size == 70
    assert model.multiple_choice_head.summary.out_features == 1


def test_new_heads_start_as_the_config_says():
    torch.manual_seed(0)
    config = OpenAIGPTConfig(**(SIZES | {"n_embd": 400}), initializer_range=0.1, num_labels=1)
    summary = SequenceSummary(config).summary
    assert abs(summary.weight.std().item() - 0.1) < 0.02 and summary.bias.eq(0).all()


def test_a_missing_head_is_named_once():
    with pytest.warns(UserWarning) as caught:
        OpenAIGPTDoubleHeadsModel.from_pretrained(GOLDEN / "model", n_head=4)
    (only,) = caught
    for part in ("weight", "bias"):
        assert f"multiple_choice_head.summary.{part}" in str(only.message)


def test_its_checkpoint_serves_the_language_model(tmp_path):
    _, ours = random_pair()
    ours.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="not used by OpenAIGPTLMHeadModel"):
        alone = OpenAIGPTLMHeadModel.from_pretrained(tmp_path)
    ids = questions()["input_ids"]
    assert largest_difference(alone(ids).logits, ours(ids).logits) < 1e-6


def test_the_head_follows_a_grown_table():
    _, ours = random_pair()
    ids = questions()["input_ids"]
    before = ours(ids)
    ours.resize_token_embeddings(64)
    after = ours(ids)
    assert after.logits.shape[-1] == 64
    assert largest_difference(after.logits[..., :60], before.logits) < 1e-6
    assert torch.equal(after.mc_logits, before.mc_logits)


def test_the_cache_continues_a_question():
    _, ours = random_pair()
    ids = questions()["input_ids"]
    whole = ours(ids)
    first = ours(ids[..., :5], use_cache=True)
    rest = ours(ids[..., 5:], past_key_values=first.past_key_values)
    assert largest_difference(rest.mc_logits, whole.mc_logits) < 1e-5
    assert largest_difference(rest.logits, whole.logits[..., 5:, :]) < 1e-5


@pytest.mark.parametrize("choices", [1, 2, 3, 5])
def test_any_count_of_choices_and_their_order(choices):
    _, ours = random_pair()
    ids = torch.randint(60, (2, choices, T))
    order = torch.randperm(choices)
    found = ours(ids).mc_logits
    assert found.shape == (2, choices)
    assert largest_difference(ours(ids[:, order]).mc_logits, found[:, order]) < 1e-5


def test_places_read_are_those_of_the_summary_and_before_labels():
    labels = torch.tensor([[[7, 7, -100, 7], [-100] * 4]])  # (1, 2, 4)
    shape, index = labels.shape, torch.tensor([[1, 3]])
    found = {kind: places_read(shape, read, index, None, None) for kind, read in SUMMARIES.items()}
    assert found["mean"].all() and found["cls_index"].nonzero()[:, 2].tolist() == [1, 3]
    assert found["first"].sum() == found["last"].sum() == 2
    assert found["first"][..., 0].all() and found["last"][..., -1].all()
    both = places_read(shape, SUMMARIES["cls_index"], index, labels, None)
    assert both.tolist() == [[[True, True, True, False], [False, False, False, True]]]


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_states_at_picks_what_a_loop_picks(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 3), min_size=0, max_size=3)))
    length = data.draw(st.integers(1, 5))
    states = torch.randn(*shape, length, 4)
    index = torch.randint(length, shape)
    found = states_at(states, index)
    for place in np.ndindex(*shape):
        assert torch.equal(found[place], states[place][index[place]])
    assert torch.equal(states_at(states), states[..., -1, :])


def test_loss_per_text_is_the_loss_of_each_text():
    logits, labels = torch.randn(2, 3, 6, 10), torch.randint(10, (2, 3, 6))
    labels[0, 0, 3:] = -100
    found = loss_per_text(logits, labels)
    assert found.shape == (2, 3)
    for place in np.ndindex(2, 3):
        expected = next_token_loss(logits[place], labels[place])
        assert largest_difference(found[place], expected) < 1e-6


def test_ignored_questions_do_not_count():
    scores = torch.randn(3, 2, 1)
    part = choice_loss(scores[:2], torch.tensor([1, 0]))
    assert torch.equal(choice_loss(scores, torch.tensor([1, 0, -100])), part)


MASK = torch.ones(B, CHOICES, T)
ERRORS = {
    "place too high": ({"mc_token_ids": torch.full((B, CHOICES), T)}, "mc_token_ids has 9 in it"),
    "place below 0": ({"mc_token_ids": torch.full((B, CHOICES), -1)}, "mc_token_ids has -1 in it"),
    "one place a question": (
        {"mc_token_ids": torch.zeros(B).long()},
        "mc_token_ids (3,) for (3, 2)",
    ),
    "places of one question": ({"mc_token_ids": torch.zeros(1, 2).long()}, "mc_token_ids (1, 2)"),
    "half a place": ({"mc_token_ids": torch.zeros(B, CHOICES)}, "mc_token_ids are torch.float32"),
    "half an answer": ({"mc_labels": torch.zeros(B)}, "mc_labels are torch.float32"),
    "no such answer": ({"mc_labels": torch.tensor([0, 1, 2])}, "mc_labels has 2 in it"),
    "answer below 0": ({"mc_labels": torch.tensor([0, 1, -1])}, "mc_labels has -1 in it"),
    "too few answers": ({"mc_labels": torch.tensor([0, 1])}, "2 mc_labels for scores of (3, 2)"),
    "labels of a text": (
        {"labels": torch.zeros(B, T).long()},
        "labels (3, 9) for logits of (3, 2, 9)",
    ),
    "nothing": ({"input_ids": None}, "neither was given"),
}


@pytest.mark.parametrize("options", [{}, {"openai_losses": True}, {"attention_mask": MASK}])
@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_the_thing(case, options):
    change, message = ERRORS[case]
    _, ours = random_pair()
    with pytest.raises(ValueError, match=re.escape(message)):
        ours(**(questions() | change), **options)


def test_answers_cannot_be_compared_without_a_number_each():
    _, ours = random_pair(summary_proj_to_labels=False)
    with pytest.raises(ValueError, match="32 numbers for an answer"):
        ours(**questions())


def test_attn_names_the_alternatives():
    with pytest.raises(NotImplementedError, match="cls_index, last, first, mean"):
        OpenAIGPTDoubleHeadsModel(OpenAIGPTConfig(**SIZES, summary_type="attn"))


def test_half_precision():
    _, ours = random_pair("sdpa")
    out = ours.bfloat16()(**questions())
    assert out.loss.dtype == out.mc_loss.dtype == torch.float32
    assert out.mc_logits.dtype == torch.bfloat16 and out.mc_logits.isfinite().all()
