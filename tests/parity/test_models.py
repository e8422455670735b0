"""The four models against transformers, equal weights, and against OpenAI's golden arrays.

Outputs at padding have no meaning and are not compared.
"""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from minigpt import OpenAIGPTDoubleHeadsModel, OpenAIGPTForSequenceClassification, OpenAIGPTModel
from minigpt.classification import problem_of
from minigpt.double_heads import mean_over_texts
from minigpt.hf.configuration import PROBLEMS
from minigpt.model import KeyValueCache
from tests import helpers
from tests.helpers import GOLDEN, gradient_difference, largest_difference

MODEL, LM = "OpenAIGPTModel", "OpenAIGPTLMHeadModel"
DOUBLE, CLASSIFIER = "OpenAIGPTDoubleHeadsModel", "OpenAIGPTForSequenceClassification"
KINDS = [MODEL, LM, DOUBLE, CLASSIFIER]
REGRESSION, SINGLE, MULTI = PROBLEMS
TINY = {"vocab_size": 60, "n_positions": 16, "n_embd": 32, "n_layer": 2, "n_head": 4}
FULL = {"vocab_size": 40478, "n_positions": 512, "n_embd": 768, "n_layer": 12, "n_head": 12}
PAD, T = 5, 9


def make_pair(kind, **settings):
    """A model of transformers with random weights, and ours with the same."""
    heads = {"num_labels": 3, "pad_token_id": PAD} if kind == CLASSIFIER else {}
    return helpers.random_pair(kind=kind, **TINY | heads | settings)


def make_inputs(kind, wishes=""):
    """Random arguments of `forward` as `wishes` names them, with labels; and what is real, (n, T).

    transformers takes vectors and masks of choices in one column only, (B choices, T).
    """
    texts = (3, 2) if kind == DOUBLE and "embeds" not in wishes else (3,)
    n = math.prod(texts)
    ids, index = torch.randint(PAD + 1, 60, (*texts, T)), torch.randint(T, texts)
    inputs, real = {"input_ids": ids}, torch.ones(n, T, dtype=torch.long)
    if "mask" in wishes:
        real = helpers.padded("left" if "left" in wishes else "right", (T, 4, 3, 8, 1, 2)[:n], T)
        inputs = {"input_ids": ids.masked_fill(real.view(ids.shape) == 0, PAD)}
        inputs["attention_mask"], index = real, real.cumsum(-1).argmax(-1).view(texts)
    if "embeds" in wishes:
        inputs["inputs_embeds"] = torch.randn(n, T, 32)
        del inputs["input_ids"]
    if "types" in wishes:
        inputs["token_type_ids"] = torch.randint(60, (n, T) if "column" in wishes else ids.shape)
    if "positions" in wishes:
        inputs["position_ids"] = torch.randint(16, (n, T) if "column" in wishes else (1, T))
    if kind in (LM, DOUBLE):  # nobody can guess the first word: on the left, it follows padding
        ignored = (real == 0) | (real.cumsum(-1) == 1) | (torch.rand(n, T) < 0.1)
        inputs["labels"] = ids.masked_fill(ignored.view(ids.shape), -100)
    if kind == DOUBLE:
        inputs["mc_token_ids"] = None if "last" in wishes else index
        inputs["mc_labels"] = torch.randint(texts[-1], texts[:-1] or (1,))
    if kind == CLASSIFIER:
        inputs["labels"] = torch.randint(3, texts)
    return inputs, real.bool()


def tensors_of(output, real=None):
    """All tensors of an output; of those with a row for each token, only those of `real` ones."""
    output, found = output if isinstance(output, tuple) else output.to_tuple(), []
    for x in (x for part in output for x in (part if isinstance(part, tuple) else (part,))):
        if real is not None and x.shape[-2:] == (T, T):
            x = x.transpose(1, 2)[real]  # (B, H, T, T) -> (B, T, H, T) -> (tokens, H, T)
        elif real is not None and x.dim() > 2:
            x = x.reshape(*real.shape, -1)[real]  # (.., T, C) -> (B, T, C) -> (tokens, C)
        found.append(x)
    return found


def compare(theirs, ours, inputs, real):
    """The largest difference of values, and that of gradients through our own attention."""
    pairs, losses = [], []
    for name in ("output_attentions", "output_hidden_states"):  # the first is always eager
        outs = [model(**inputs, **{name: True}) for model in (ours, theirs)]
        assert list(outs[0].keys()) == list(outs[1].keys())
        pairs += zip(*(tensors_of(out, real) for out in outs), strict=True)
    for out in outs:
        values = [out[name] for name in ("loss", "mc_loss") if name in out]
        losses += values or [tensors_of(out, real)[0].square().mean()]
    sum(losses).backward()
    return max(largest_difference(*pair) for pair in pairs), gradient_difference(ours, theirs)


# -- transformers

WISHES = ["", "mask right", "mask left", "types", "positions", "embeds"]
WISHES += ["mask left positions types", "mask left embeds", "types positions column last"]


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("wishes", WISHES)
@pytest.mark.parametrize("kind", KINDS)
def test_everything_equals_transformers(kind, wishes, implementation):
    pair = make_pair(kind, attn_implementation=implementation)
    values, gradients = compare(*pair, *make_inputs(kind, wishes))
    assert values < 1e-5 and gradients < 1e-4


@pytest.mark.parametrize("kind", KINDS[1:])
def test_everything_equals_transformers_at_full_size(kind):
    wishes = "mask left positions" if kind == LM else "mask right types"
    values, gradients = compare(*make_pair(kind, **FULL), *make_inputs(kind, wishes))
    assert values < 1e-4 and gradients < 1e-4


def test_the_comparison_can_fail():
    theirs, ours = make_pair(LM)
    ours.transformer.h[1].ln_1.eps = 1e-2
    values, gradients = compare(theirs, ours, *make_inputs(LM))
    assert values > 1e-4 and gradients > 1e-4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(12))
def test_any_flags_and_any_config_equal_transformers(kind, seed):
    draw = random.Random(seed)
    config = {"n_head": draw.choice([1, 8]), "afn": draw.choice(["gelu", "relu", "silu", "swish"])}
    config["layer_norm_epsilon"] = draw.choice([1e-5, 1e-2])
    names = ("output_attentions", "output_hidden_states", "return_dict")
    config |= {name: draw.choice([True, False]) for name in names}
    inputs, _ = make_inputs(kind, draw.choice(["", "types", "positions"]))
    if kind == LM and draw.random() < 0.5:
        inputs |= {"labels": None, "logits_to_keep": draw.choice([1, torch.tensor([0, 8])])}
    flags = {name: draw.choice([None, True, False]) for name in names}
    found, expected = (model(**inputs, **flags) for model in reversed(make_pair(kind, **config)))
    assert isinstance(found, tuple) == isinstance(expected, tuple)
    assert isinstance(found, tuple) or list(found.keys()) == list(expected.keys())
    for pair in zip(tensors_of(found), tensors_of(expected), strict=True):
        assert largest_difference(*pair) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_arguments_and_fields_stand_in_the_same_order(kind):
    theirs, ours = make_pair(kind)
    inputs, real = make_inputs(kind, "types positions")
    inputs |= {"attention_mask": real.long(), "inputs_embeds": None}
    order = ["input_ids", "attention_mask", "token_type_ids", "position_ids", "inputs_embeds"]
    order += {MODEL: [], DOUBLE: ["mc_token_ids", "labels", "mc_labels"]}.get(kind, ["labels"])
    found, expected = (model(*map(inputs.get, order)) for model in (ours, theirs))
    fields = type(found).__dataclass_fields__
    assert [name for name in fields if name in expected] == [*found.keys()] == [*expected.keys()]
    assert max(map(largest_difference, *map(tensors_of, (found, expected)))) < 1e-5


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", KINDS)
def test_training_with_dropout_equals_transformers(kind, implementation):
    """All dropouts at 0.1; they roll the same dice in the same order."""
    theirs, ours = make_pair(kind, attn_implementation=implementation)
    inputs, _ = make_inputs(kind)
    outs = []
    for model in (ours.train(), theirs.train()):
        torch.manual_seed(1)
        outs.append(model(**inputs))
        (outs[-1][0].square().mean() + outs[-1].get("mc_loss", 0)).backward()
    assert max(map(largest_difference, *map(tensors_of, outs))) < 1e-5
    assert gradient_difference(ours, theirs) < 1e-4
    assert largest_difference(outs[0][0], ours.eval()(**inputs)[0]) > 1e-3


@pytest.mark.parametrize("rows", [40, 75])
@pytest.mark.parametrize("kind", [LM, DOUBLE])
def test_a_resized_model_equals_transformers(kind, rows):
    pair = make_pair(kind)
    tables = [model.resize_token_embeddings(rows).weight for model in pair]
    assert torch.equal(tables[0][:60], tables[1][:60])
    tables[1].data.copy_(tables[0].data)  # new rows are random
    ids = torch.randint(rows, (2, T))
    values, gradients = compare(*pair, {"input_ids": ids, "labels": ids}, None)
    assert values < 1e-5 and gradients < 1e-4


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_attentions_with_a_cache_and_padding_are_those_of_transformers(implementation, side):
    theirs, ours = make_pair(LM, attn_implementation=implementation)
    ids, mask = torch.randint(60, (2, T)), helpers.padded(side, (T, 6), T)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cache, weights = KeyValueCache(2), []
    for start, end in ((0, 4), (4, 5), (5, T)):
        new = {"position_ids": positions[:, start:end], "past_key_values": cache}
        out = ours(ids[:, start:end], mask[:, :end], output_attentions=True, **new)
        weights.append([F.pad(x, (0, T - end)) for x in out.attentions])
    expected = theirs(ids, attention_mask=mask, position_ids=positions, output_attentions=True)
    found = tuple(torch.cat(parts, dim=2) for parts in zip(*weights, strict=True))
    pairs = (tensors_of((x,), mask.bool()) for x in (found, expected.attentions))
    assert max(map(largest_difference, *pairs)) < 1e-5


@pytest.mark.parametrize("kind", ["cls_index", "last", "first", "mean"])
@pytest.mark.parametrize("projection", ["none", "to labels", "to width"])
@pytest.mark.parametrize("activation", [None, "tanh"])
def test_every_summary(kind, projection, activation):
    """With "last", "first" and "mean", transformers counts along the second axis, the choices'.

    So it gets the texts in one column. Positions do not matter then.
    """
    settings = {"summary_type": kind, "summary_activation": activation}
    settings["summary_use_proj"] = projection != "none"
    settings["summary_proj_to_labels"] = projection == "to labels"
    theirs, ours = make_pair(DOUBLE, **settings)
    ids, index = torch.randint(60, (3, 2, T)), torch.randint(T, (3, 2))
    index = index if kind == "cls_index" else torch.full((3, 2), 99)
    expected = theirs(ids.flatten(0, 1), mc_token_ids=index.flatten()).mc_logits
    found = ours(ids, mc_token_ids=index).mc_logits
    assert found.shape == ((3, 2) if projection == "to labels" else (3, 2, 32))
    assert largest_difference(found.flatten(0, 1), expected) < 1e-5


LOSSES = [(problem, L, named) for problem in PROBLEMS for L in (1, 3) for named in (True, False)]
LOSSES.remove((REGRESSION, 3, False))  # such labels mean yes or no
LOSSES.remove((MULTI, 1, False))  # and these a quantity
if not helpers.has_transformers("5.20"):
    LOSSES.remove((SINGLE, 1, False))  # an older one fails here itself


@pytest.mark.parametrize("problem, L, named", LOSSES)
def test_classifier_losses_and_gradients(problem, L, named):
    pair, (inputs, real) = make_pair(CLASSIFIER, num_labels=L), make_inputs(CLASSIFIER)
    shape = (3,) if L == 1 and problem == REGRESSION else (3, L)
    inputs["labels"] = torch.randint(L, (3,)) if problem == SINGLE else torch.rand(shape)
    if named:
        for model in pair:
            model.config.problem_type = problem
    values, gradients = compare(*pair, inputs, real)
    assert values < 1e-5 and gradients < 1e-4


@pytest.mark.parametrize("num_labels", [1, 2, 5])
@pytest.mark.parametrize("dtype", [torch.long, torch.int, torch.float, torch.double, torch.bool])
def test_the_problem_is_deduced(num_labels, dtype):
    theirs, _ = make_pair(CLASSIFIER, num_labels=num_labels)
    labels = torch.zeros(1, dtype=dtype)
    try:  # the guess is written down before the loss is computed
        theirs(torch.tensor([[7, 8]]), labels=labels)
    except (ValueError, RuntimeError):
        pass
    assert problem_of(labels, num_labels) == theirs.config.problem_type


@pytest.mark.parametrize(
    "pad, ids, mask",
    [
        (None, torch.arange(T)[None], None),  # one text needs no pad token
        (PAD, torch.full((2, T), PAD), None),  # nothing but padding
        (PAD, torch.tensor([[7, 8, PAD]]), torch.ones(1, 3)),  # the id decides, not the mask
    ],
)
def test_where_a_text_ends(pad, ids, mask):
    pair = make_pair(CLASSIFIER, pad_token_id=pad)
    assert largest_difference(*(model(ids, attention_mask=mask).logits for model in pair)) < 1e-5


# -- OpenAI's code


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_every_layer_equals_openai(implementation):
    differences = helpers.openai_differences(attn_implementation=implementation)
    assert set(differences) == {"embedding", "hidden_0", "hidden_1", "hidden_2", "lm_logits"}
    assert max(differences.values()) < 1e-5


def test_the_comparison_of_layers_can_fail():
    assert helpers.openai_differences(afn="relu")["hidden_0"] > 1e-3


ARRAYS = np.load(GOLDEN / "golden.npz")
PARTS = {"attn/c_attn": "attn.c_attn", "attn/c_proj": "attn.c_proj", "ln_1": "ln_1"}
PARTS |= {"mlp/c_fc": "mlp.c_fc", "mlp/c_proj": "mlp.c_proj", "ln_2": "ln_2"}


def golden(name):
    return torch.from_numpy(ARRAYS[name])


def golden_model(kind, **settings):
    """A model with OpenAI's golden weights in its body, and rows for the special tokens."""
    body = OpenAIGPTModel.from_pretrained(GOLDEN / "model", n_head=4)
    model = kind(replace(body.config, **settings)).eval()
    model.transformer.load_state_dict(body.state_dict())
    model.resize_token_embeddings(100).weight.data[97:] = golden("special")
    return model


def golden_double_heads(**settings):
    model = golden_model(OpenAIGPTDoubleHeadsModel, **settings)
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


def gradient_error(model):
    """The largest relative error over all gradients of OpenAI's code."""
    own = {name: p.grad for name, p in model.named_parameters()}
    head = "multiple_choice_head.summary"
    found = {"clf/w": own[f"{head}.weight"].T, "clf/b": own[f"{head}.bias"]}
    embeddings = [own[f"transformer.{name}_embed.weight"] for name in ("tokens", "positions")]
    found["we"] = torch.cat(embeddings)
    for layer in range(3):
        for theirs, ours in PARTS.items():
            for short, long in (("g" if "ln" in ours else "w", "weight"), ("b", "bias")):
                found[f"h{layer}/{theirs}/{short}"] = own[f"transformer.h.{layer}.{ours}.{long}"]
    assert {f"grad/{name}" for name in found} == {n for n in ARRAYS if n.startswith("grad/")}
    errors = []
    for name, gradient in found.items():
        theirs = golden(f"grad/{name}").reshape(gradient.shape)
        scale = theirs.abs().max().item() if name != "clf/b" else 1.0  # that one is zero
        errors.append(largest_difference(gradient, theirs) / scale)
    return max(errors)


def openai_losses(model, task):
    """OpenAI's code also scores the position rows, and its loss is the mean over texts."""
    out = model(**task, output_hidden_states=True)
    positions = F.linear(out.hidden_states[-1], model.transformer.positions_embed.weight)
    logits = torch.cat([out.logits, positions], -1)
    return out, mean_over_texts(logits, task["labels"]), logits


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_double_heads_equal_openai(implementation):
    model, task = golden_double_heads(attn_implementation=implementation), golden_task()
    out, lm_loss, logits = openai_losses(model, task)
    found = {"lm_logits": logits.flatten(0, 1), "clf_logits": out.mc_logits}
    found["clf_losses"] = F.cross_entropy(out.mc_logits, task["mc_labels"], reduction="none")
    loss = found["loss"] = out.mc_loss + 0.5 * lm_loss
    assert largest_difference(lm_loss, golden("lm_losses").mean()) < 1e-5
    for name, x in found.items():
        assert largest_difference(x, golden(name)) < 1e-5, name
    loss.backward()
    assert gradient_error(model) < 1e-4


def wrong_gelu(model):
    for block in model.transformer.h:
        block.mlp.act = F.gelu


@pytest.mark.parametrize(
    "spoil, is_faithful, lm_coef",
    [(wrong_gelu, True, 0.5), (lambda model: None, False, 0.5), (lambda model: None, True, 1)],
)
def test_the_gradient_comparison_can_fail(spoil, is_faithful, lm_coef):
    model = golden_double_heads()
    spoil(model)
    out, lm_loss, _ = openai_losses(model, golden_task())
    (out.mc_loss + lm_coef * (lm_loss if is_faithful else out.loss)).backward()
    assert gradient_error(model) > 1e-3


def test_the_classifier_equals_openai():
    """With one output, it is OpenAI's head for choices, up to the bias."""
    settings = {"num_labels": 1, "pad_token_id": 0, "id2label": None}
    model = golden_model(OpenAIGPTForSequenceClassification, **settings)
    model.score.weight.data.copy_(golden("clf_w").T)
    scores = model(golden("X")[..., 0].long().flatten(0, 1)).logits + golden("clf_b")
    assert largest_difference(scores.view(3, 2), golden("clf_logits")) < 1e-5
