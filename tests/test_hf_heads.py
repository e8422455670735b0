"""The public double heads and classifier: options, errors, caches, hooks, half precision."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from minigpt import (
    OpenAIGPTConfig,
    OpenAIGPTDoubleHeadsModel,
    OpenAIGPTForSequenceClassification,
    OpenAIGPTLMHeadModel,
)
from tests.helpers import largest_difference, padded

SIZES = {"vocab_size": 60, "n_positions": 16, "n_embd": 32, "n_layer": 2, "n_head": 4}
B, CHOICES, T, PAD = 3, 2, 9, 5
PROBLEMS = ("regression", "single_label_classification", "multi_label_classification")


def double_heads(**overrides):
    return OpenAIGPTDoubleHeadsModel(OpenAIGPTConfig(**SIZES | overrides)).eval()


def classifier(num_labels=3, pad_token_id=PAD, **overrides):
    fields = {"num_labels": num_labels, "pad_token_id": pad_token_id} | overrides
    return OpenAIGPTForSequenceClassification(OpenAIGPTConfig(**SIZES, **fields)).eval()


def questions():
    ids = torch.randint(60, (B, CHOICES, T))
    return {
        "input_ids": ids,
        "mc_token_ids": torch.randint(T, (B, CHOICES)),
        "labels": ids.masked_fill(torch.rand(ids.shape) < 0.2, -100),
        "mc_labels": torch.randint(CHOICES, (B,)),
    }


def some_texts(side="right"):
    """Ids (4, T), padded on one side with PAD, and their mask; PAD stands in no text."""
    mask = padded(side, (T, 6, 1, 3), T)
    return torch.randint(PAD + 1, 60, (4, T)).masked_fill(mask == 0, PAD), mask


def positions_of(mask):
    return (mask.cumsum(-1) - 1).clamp(min=0)


# -- double heads


@pytest.mark.parametrize("choices", [1, 2, 5])
def test_any_number_of_choices_in_any_order(choices):
    model, ids, order = double_heads(), torch.randint(60, (2, choices, T)), torch.randperm(choices)
    found = model(ids).mc_logits
    assert found.shape == (2, choices)
    assert largest_difference(model(ids[:, order]).mc_logits, found[:, order]) < 1e-5


def test_a_single_question_needs_no_batch():
    model, task = double_heads(), questions()
    alone = model(task["input_ids"][0], mc_labels=torch.tensor(1))
    batch = model(task["input_ids"][:1], mc_labels=torch.tensor([[1]]))
    assert largest_difference(alone.mc_loss, batch.mc_loss) < 1e-6


def test_the_caller_s_config_stays_as_it_was():
    config = OpenAIGPTConfig(**SIZES, id2label={0: "a", 1: "b", 2: "c"})
    before = replace(config)
    model = OpenAIGPTDoubleHeadsModel(config)
    model.resize_token_embeddings(70)
    assert config == before and config.num_labels == 3
    assert model.config.num_labels == 1 and model.config.vocab_size == 70
    assert model.multiple_choice_head.summary.out_features == 1


def test_the_head_follows_a_grown_embedding():
    model, ids = double_heads(), questions()["input_ids"]
    before = model(ids)
    model.resize_token_embeddings(64)
    after = model(ids)
    assert after.logits.shape[-1] == 64
    assert largest_difference(after.logits[..., :60], before.logits) < 1e-6
    assert torch.equal(after.mc_logits, before.mc_logits)


def test_the_cache_continues_a_question():
    model, ids = double_heads(), questions()["input_ids"]
    whole, first = model(ids), model(ids[..., :5], use_cache=True)
    rest = model(ids[..., 5:], past_key_values=first.past_key_values)
    assert largest_difference(rest.mc_logits, whole.mc_logits) < 1e-5
    assert largest_difference(rest.logits, whole.logits[..., 5:, :]) < 1e-5


def test_choices_share_a_dropout_mask_only_in_openai_s_way():
    summary = double_heads(summary_first_dropout=0.5).multiple_choice_head.train()
    same = torch.ones(4, 3, 5, 32)
    shared = summary(same, one_mask=True)
    assert torch.equal(*shared[:, :2].unbind(1))
    assert len(shared[:, 0, 0].unique()) > 1  # each question has a mask of its own
    assert not torch.equal(*summary(same)[:, :2].unbind(1))
    summary.eval()
    assert torch.equal(summary(same, one_mask=True), summary(same))


def test_the_shared_dropout_mask_keeps_the_mean():
    model = double_heads(summary_first_dropout=0.25, summary_use_proj=False)
    x = model.multiple_choice_head.train()(torch.ones(500, 2, 1, 32), one_mask=True)
    assert x.unique().tolist() == pytest.approx([0, 4 / 3])
    assert abs(x.mean().item() - 1) < 0.02


HEADS = [(OpenAIGPTLMHeadModel, {}), (OpenAIGPTDoubleHeadsModel, {})]
HEADS.append((OpenAIGPTDoubleHeadsModel, {"openai_losses": True}))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.quantize_per")
@pytest.mark.parametrize("kind, options", HEADS)
def test_hooks_biases_and_quantized_heads_act(kind, options):
    model, task = kind(OpenAIGPTConfig(**SIZES)).eval(), questions()["input_ids"]
    head = model.lm_head
    before = model(task, **options).logits[..., :60]
    hook = head.register_forward_hook(lambda module, inputs, out: out + 1)
    assert largest_difference(model(task, **options).logits[..., :60], before + 1) < 1e-6
    hook.remove()
    model.lm_head = nn.Linear(32, 60)
    model.lm_head.weight = head.weight
    bias = model.lm_head.bias
    assert largest_difference(model(task, **options).logits[..., :60], before + bias) < 1e-6
    model.lm_head = head
    small = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    error = largest_difference(small(task, **options).logits[..., :60], before)
    assert 0 < error < 0.1


def test_another_head_for_choices():
    class Mean(nn.Module):
        def forward(self, states, index=None):
            return states.mean((-2, -1))[..., None]

    model, task = double_heads(), questions()
    model.multiple_choice_head = Mean()
    out = model(**task, output_hidden_states=True)
    assert torch.equal(out.mc_logits, out.hidden_states[-1].mean((-2, -1)))


@pytest.mark.parametrize("head", ["loss", "mc_loss"])
def test_gradients_reach_every_hidden_state(head):
    out = double_heads()(**questions(), output_hidden_states=True)
    gradients = torch.autograd.grad(out[head], out.hidden_states)
    assert len(gradients) == 3 and all(gradient.abs().sum() > 0 for gradient in gradients)


MASK = torch.ones(B, CHOICES, T)
DOUBLE_ERRORS = {
    "position too high": ({"mc_token_ids": torch.full((B, CHOICES), T)}, "mc_token_ids has 9"),
    "position below 0": ({"mc_token_ids": torch.full((B, CHOICES), -1)}, "mc_token_ids has -1"),
    "one a question": ({"mc_token_ids": torch.zeros(B).long()}, "mc_token_ids has shape (3,)"),
    "of one question": ({"mc_token_ids": torch.zeros(1, 2).long()}, "mc_token_ids has shape (1,"),
    "half a position": ({"mc_token_ids": torch.zeros(B, 2)}, "mc_token_ids is torch.float32"),
    "half an answer": ({"mc_labels": torch.zeros(B)}, "mc_labels is torch.float32"),
    "no such answer": ({"mc_labels": torch.tensor([0, 1, 2])}, "mc_labels has 2 in it"),
    "answer below 0": ({"mc_labels": torch.tensor([0, 1, -1])}, "mc_labels has -1 in it"),
    "too few answers": ({"mc_labels": torch.tensor([0, 1])}, "mc_labels has shape (2,); pass (3,)"),
    "labels of a text": ({"labels": torch.zeros(B, T).long()}, "labels has shape (3, 9)"),
    "labels in a row": ({"labels": torch.zeros(B, 2 * T).long()}, "labels has shape (3, 18)"),
    "label too high": ({"labels": torch.full((B, 2, T), 60)}, "labels has 60 in it"),
    "nothing": ({"input_ids": None}, "neither was given"),
}


@pytest.mark.parametrize("options", [{}, {"openai_losses": True}, {"attention_mask": MASK}])
@pytest.mark.parametrize("case", DOUBLE_ERRORS)
def test_errors_of_the_double_heads_name_the_thing(case, options):
    change, message = DOUBLE_ERRORS[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        double_heads()(**(questions() | change), **options)


@pytest.mark.parametrize("options", [{}, {"openai_losses": True}])
def test_one_token_predicts_nothing(options):
    ids = torch.randint(60, (B, CHOICES, 1))
    with pytest.raises(ValueError, match="labels hold 1 token a text"):
        double_heads()(ids, labels=ids, **options)


def test_answers_cannot_be_compared_without_a_score_each():
    with pytest.raises(ValueError, match="32 scores for an answer; set summary_use_proj"):
        double_heads(summary_proj_to_labels=False)(**questions())


def test_attn_names_the_alternatives():
    with pytest.raises(NotImplementedError, match="cls_index, last, first, mean"):
        double_heads(summary_type="attn")


def test_double_heads_in_half_precision():
    out = double_heads().bfloat16()(**questions())
    assert out.loss.dtype == out.mc_loss.dtype == torch.float32
    assert out.mc_logits.dtype == torch.bfloat16 and out.mc_logits.isfinite().all()


# -- classifier


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_changes_no_score(implementation, side):
    model, (ids, mask) = classifier(attn_implementation=implementation), some_texts(side)
    batch = model(ids, mask, position_ids=positions_of(mask)).logits
    for row, real, scores in zip(ids, mask.bool(), batch, strict=True):
        assert largest_difference(model(row[real][None]).logits[0], scores) < 1e-5


@pytest.mark.parametrize("pad_token_id", [PAD, None])
@pytest.mark.parametrize("side", ["right", "left"])
def test_vectors_with_a_mask_score_as_ids_do(side, pad_token_id):
    model, (ids, mask) = classifier(), some_texts(side)
    expected = model(ids, mask).logits
    model.config.pad_token_id = pad_token_id
    vectors = model.get_input_embeddings()(ids)
    found = model(inputs_embeds=vectors, attention_mask=mask).logits
    assert largest_difference(found, expected) < 1e-5


def test_a_mask_of_one_row_speaks_of_all_vectors():
    model, vectors = classifier(), torch.randn(3, 4, 32)
    found = model(inputs_embeds=vectors, attention_mask=torch.tensor([[1, 1, 0, 0]])).logits
    assert largest_difference(found, model(inputs_embeds=vectors[:, :2]).logits) < 1e-5


def test_the_mask_may_cover_a_cache():
    model, vectors = classifier(), torch.randn(2, 6, 32)
    mask = torch.tensor([[1] * 6, [1] * 5 + [0]])
    whole = model(inputs_embeds=vectors, attention_mask=mask).logits
    first = model(inputs_embeds=vectors[:, :3], attention_mask=mask[:, :3], use_cache=True)
    cache = {"past_key_values": first.past_key_values}
    rest = model(inputs_embeds=vectors[:, 3:], attention_mask=mask, **cache).logits
    assert largest_difference(rest, whole) < 1e-5


def test_each_call_looks_at_its_own_labels():
    model, (ids, _) = classifier(), some_texts()
    for labels in (torch.zeros(4, 3), torch.zeros(4, dtype=torch.long), torch.ones(4, 3).bool()):
        assert model(ids, labels=labels).loss.isfinite() and model.config.problem_type is None


SINGLE, MULTI = PROBLEMS[1:]
LABEL_ERRORS = {
    "too few": (3, None, torch.zeros(3).long(), "labels has shape (3,); pass (4,)"),
    "whole numbers for each": (3, None, torch.zeros(4, 3).long(), "labels has shape (4, 3)"),
    "floats": (3, None, torch.zeros(4), "labels (4,) for multi_label_classification"),
    "transposed": (3, None, torch.zeros(3, 4), "labels (3, 4) for multi_label_classification"),
    "class too high": (3, None, torch.tensor([0, 1, 2, 3]), "labels has 3 in it"),
    "class below 0": (3, None, torch.tensor([0, 1, 2, -1]), "labels has -1 in it"),
    "half a class": (3, SINGLE, torch.zeros(4), "pass whole numbers"),
    "above yes": (3, MULTI, torch.full((4, 3), 2.0), "from 0 (no) to 1 (yes)"),
    "below no": (3, MULTI, torch.full((4, 3), -0.5), "from 0 (no) to 1 (yes)"),
    "quantities unnamed": (3, None, torch.full((4, 3), 4.5), "from 0 (no) to 1 (yes)"),
    "one quantity of three": (3, "regression", torch.zeros(4), "labels (4,) for regression"),
    "quantities transposed": (3, "regression", torch.zeros(3, 4), "labels (3, 4) for regression"),
    "too many quantities": (1, None, torch.zeros(4, 2), "labels (4, 2) for regression"),
}


@pytest.mark.parametrize("case", LABEL_ERRORS)
def test_wrong_labels_are_named(case):
    num_labels, problem, labels, message = LABEL_ERRORS[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        classifier(num_labels, problem_type=problem)(some_texts()[0], labels=labels)


def test_an_unknown_problem_is_named():
    model, (ids, _) = classifier(), some_texts()
    model.config.problem_type = "regresion"
    with pytest.raises(ValueError, match="problem_type='regresion'; choose from regression, sin"):
        model(ids, labels=torch.rand(4, 3))


def test_several_texts_without_a_pad_token():
    model, (ids, mask) = classifier(pad_token_id=None), some_texts()
    with pytest.raises(ValueError, match="4 texts, but no pad token") as caught:
        model(ids, mask)
    assert "model.config.pad_token_id = tokenizer.pad_token_id" in str(caught.value)
    with pytest.raises(ValueError, match="4 texts, but inputs_embeds .* pass attention_mask"):
        model(inputs_embeds=torch.randn(4, T, 32))
    assert model(inputs_embeds=torch.randn(1, T, 32)).logits.shape == (1, 3)


@pytest.mark.parametrize("mask", [torch.ones(2, T), torch.ones(4, 1, T), torch.tensor(1)])
def test_a_mask_that_does_not_fit_vectors_is_named(mask):
    message = re.escape(f"attention_mask {tuple(mask.shape)} for texts")
    with pytest.raises(ValueError, match=message):
        classifier()(inputs_embeds=torch.randn(4, T, 32), attention_mask=mask)


def test_neither_ids_nor_vectors():
    with pytest.raises(ValueError, match="neither was given"):
        classifier()()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.quantize_per")
def test_hooks_biases_and_quantized_layers_act_on_classes():
    model, (ids, mask) = classifier(), some_texts()
    before, score = model(ids, mask).logits, model.score
    hook = score.register_forward_hook(lambda module, inputs, out: out + 1)
    assert largest_difference(model(ids, mask).logits, before + 1) < 1e-6
    hook.remove()
    model.score = nn.Linear(32, 3)
    model.score.weight = score.weight
    assert largest_difference(model(ids, mask).logits, before + model.score.bias) < 1e-6
    model.score = score
    small = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    assert 0 < largest_difference(small(ids, mask).logits, before) < 0.1


def test_hidden_states_of_the_classifier_are_in_the_graph():
    out = classifier()(some_texts()[0], labels=torch.arange(4) % 3, output_hidden_states=True)
    gradients = torch.autograd.grad(out.loss, out.hidden_states)
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_numbers_of_numpy_and_of_one_element_serve():
    model, (ids, _) = OpenAIGPTLMHeadModel(OpenAIGPTConfig(**SIZES)).eval(), some_texts()
    whole = model(ids).logits
    for number in (2, np.int64(2), torch.tensor(2)):
        assert torch.equal(model(ids, logits_to_keep=number).logits, whole[:, -2:])
    positions = torch.tensor([2])  # an axis: these positions
    assert torch.equal(model(ids, logits_to_keep=positions).logits, whole[:, [2]])


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_classifier_in_half_precision(problem):
    labels = torch.zeros(4).long() if problem == SINGLE else torch.rand(4, 3)
    out = classifier(problem_type=problem).bfloat16()(some_texts()[0], labels=labels)
    assert out.loss.dtype == torch.float32 and out.loss.isfinite()
    assert out.logits.dtype == torch.bfloat16
