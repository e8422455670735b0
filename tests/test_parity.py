"""The model against what nobody here wrote: OpenAI's own code (golden arrays), transformers."""

import random

import pytest
import torch
import torch.nn.functional as F

from minigpt import OpenAIGPTLMHeadModel
from minigpt.model import KeyValueCache
from tests import helpers

IMPLEMENTATIONS = ["eager", "sdpa", "flash_attention_2"]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_every_layer_equals_openai(implementation):
    differences = helpers.openai_differences(attn_implementation=implementation)
    assert set(differences) == {"embedding", "hidden_0", "hidden_1", "hidden_2", "lm_logits"}
    assert max(differences.values()) < 1e-4
    assert differences["embedding"] == 0


def test_the_openai_comparison_can_fail():
    # another activation function: the same weights, used differently
    assert helpers.openai_differences(afn="relu")["lm_logits"] > 1e-3


KINDS = ["OpenAIGPTModel", "OpenAIGPTLMHeadModel"]
WISHES = ["", "mask right", "mask left", "types", "positions", "embeds"]
WISHES += ["mask left positions types", "mask right embeds types"]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("wishes", WISHES)
@pytest.mark.parametrize("kind", KINDS)
def test_everything_equals_transformers(kind, wishes, implementation):
    differences = helpers.transformers_differences(
        wishes, kind=kind, attn_implementation=implementation
    )
    names = {f"hidden_{i}" for i in range(4)} | {f"attention_{i}" for i in range(3)}
    names |= {"logits", "loss"} if kind == "OpenAIGPTLMHeadModel" else set()
    assert set(differences) == names | {"gradients"}
    assert differences.pop("gradients") < 1e-4
    assert max(differences.values()) < 1e-5


FULL = {"vocab_size": 40478, "n_positions": 512, "n_embd": 768, "n_layer": 12, "n_head": 12}


@pytest.mark.parametrize("wishes", ["", "mask left positions", "mask right embeds types"])
def test_everything_equals_transformers_at_full_size(wishes):
    differences = helpers.transformers_differences(wishes, B=2, T=64, **FULL)
    assert differences.pop("gradients") < 1e-4
    assert max(differences.values()) < 1e-4


EVERYTHING = {"output_hidden_states": True, "output_attentions": True}


def largest_of(ours, theirs, shape) -> float:
    """The largest difference of two lists of arrays, each brought into this shape."""
    pairs = zip(ours, theirs, strict=True)
    return max(helpers.largest_difference(a.reshape(shape), b.reshape(shape)) for a, b in pairs)


def test_double_heads_equal_transformers_at_full_size():
    theirs, ours = helpers.random_pair(
        kind="OpenAIGPTDoubleHeadsModel", **FULL, attn_implementation="eager"
    )
    ids = torch.randint(40478, (1, 2, 40))
    task = {"mc_token_ids": torch.tensor([[39, 20]]), "labels": ids, "mc_labels": torch.tensor([1])}
    out, expected = ours(ids, **task, **EVERYTHING), theirs(ids, **task, **EVERYTHING)
    for name in ("loss", "mc_loss", "logits", "mc_logits"):
        assert helpers.largest_difference(out[name], expected[name]) < 1e-4
    # transformers folds the choices into the batch
    assert largest_of(out.hidden_states, expected.hidden_states, (1, 2, 40, 768)) < 1e-4
    assert largest_of(out.attentions, expected.attentions, (2, 12, 40, 40)) < 1e-4
    (out.loss + out.mc_loss + expected.loss + expected.mc_loss).backward()
    for model in (ours, theirs):  # a bias that all choices share has no gradient, only rounding
        model.multiple_choice_head.summary.bias.grad = None
    assert helpers.gradient_difference(ours, theirs) < 1e-4


def test_classification_equals_transformers_at_full_size():
    theirs, ours = helpers.random_pair(
        kind="OpenAIGPTForSequenceClassification",
        **FULL,
        num_labels=3,
        pad_token_id=0,
        attn_implementation="eager",
    )
    ids = torch.randint(1, 40478, (2, 40))
    ids[1, 25:] = 0
    inputs = {"attention_mask": (ids != 0).long(), "labels": torch.tensor([2, 0])}
    out, expected = ours(ids, **inputs, **EVERYTHING), theirs(ids, **inputs, **EVERYTHING)
    for name in ("loss", "logits"):
        assert helpers.largest_difference(out[name], expected[name]) < 1e-4
    real = (ids != 0)[..., None]  # what stands at padding means nothing
    states = [[x * real for x in y.hidden_states] for y in (out, expected)]
    assert largest_of(*states, (2, 40, 768)) < 1e-4
    patterns = [[x * real[:, None] for x in y.attentions] for y in (out, expected)]
    assert largest_of(*patterns, (2, 12, 40, 40)) < 1e-4
    (out.loss + expected.loss).backward()
    assert helpers.gradient_difference(ours, theirs) < 1e-4


ALL_KINDS = [*KINDS, "OpenAIGPTDoubleHeadsModel", "OpenAIGPTForSequenceClassification"]
QUIET = pytest.mark.filterwarnings("ignore:output_attentions=True")
TINY = {"vocab_size": 60, "n_positions": 16, "n_embd": 32, "n_layer": 2}


def some_labels(draw, kind: str, config, texts: tuple[int, ...], T: int) -> dict:
    """Labels as `kind` takes them, for texts (..) of T tokens; some tokens do not count."""
    if kind == "OpenAIGPTForSequenceClassification":
        single = config.num_labels > 1 and draw.random() < 0.5
        shape = texts if single else (*texts, config.num_labels)
        labels = torch.randint(2, shape) if single else torch.rand(shape)
        return {"labels": labels}
    labels = torch.randint(60, (*texts, T))
    labels[torch.rand(labels.shape) < 0.3] = -100
    labels[..., 1] = 7
    mc = {"mc_labels": torch.randint(texts[1], texts[:1])} if len(texts) > 1 else {}
    return {} if kind == "OpenAIGPTModel" else {"labels": labels} | mc


def some_arguments(draw, kind: str, model) -> dict:
    """A random choice of everything that `forward` takes, padding on the right among it."""
    config, T = model.config, draw.choice([2, 5, 16])
    texts = draw.choice([(1,), (3,), (2, 3)] if "Double" in kind else [(1,), (3,)])
    inputs = {"input_ids": torch.randint(6, 60, (*texts, T))}
    if len(texts) == 1 and draw.random() < 0.3 and "Class" not in kind:
        inputs = {"inputs_embeds": torch.randn(*texts, T, 32)}
    if len(texts) == 1 and draw.random() < 0.6:  # transformers knows no mask for choices
        inputs["attention_mask"] = helpers.padded("right", (T, (T + 1) // 2, 1)[: texts[0]], T)
    if draw.random() < 0.3:
        inputs["token_type_ids"] = torch.randint(60, (*texts, T))
    if draw.random() < 0.3:
        inputs["position_ids"] = torch.randint(16, (1, T))
    if "Double" in kind and draw.random() < 0.5:
        inputs["mc_token_ids"] = torch.randint(T, texts)
    if draw.random() < 0.5:
        inputs |= some_labels(draw, kind, config, texts, T)
    elif kind == "OpenAIGPTLMHeadModel" and "attention_mask" not in inputs:
        inputs["logits_to_keep"] = draw.choice([0, 1, torch.tensor([0, T - 1])])
    flags = ("output_attentions", "output_hidden_states", "return_dict")
    return inputs | {name: draw.choice([None, True, False]) for name in flags}


def some_config(draw, kind: str) -> dict:
    config = TINY | {"n_head": draw.choice([1, 4, 8]), "afn": draw.choice(["gelu", "relu", "silu"])}
    config["layer_norm_epsilon"] = draw.choice([1e-5, 1e-2])
    config["return_dict"] = draw.choice([True, False])
    if "Double" in kind:
        config["summary_activation"] = draw.choice([None, "tanh"])
    if "Class" in kind:
        config |= {"num_labels": draw.choice([1, 3]), "pad_token_id": draw.choice([0, 5])}
    return config


def what_counts(x: torch.Tensor, mask: torch.Tensor | None, T: int) -> torch.Tensor:
    """Of what holds a value for each token, only those at real ones; choices without their axis."""
    x = x.flatten(0, 1) if x.dim() == 4 and x.shape[-2:] == (T, 32) else x
    if mask is None or x.shape[:2] != mask.shape and x.shape[-2:] != (T, T):
        return x
    return (x.transpose(1, 2) if x.dim() == 4 else x)[mask.bool()]


@QUIET
@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("seed", range(25))
def test_any_arguments_and_any_config_equal_transformers(kind, seed):
    draw = random.Random(seed)
    theirs, ours = helpers.random_pair(
        seed, kind, attn_implementation=draw.choice(["eager", "sdpa"]), **some_config(draw, kind)
    )
    inputs = some_arguments(draw, kind, ours)
    mask, T = inputs.get("attention_mask"), next(iter(inputs.values())).shape
    T = T[-2] if "inputs_embeds" in inputs else T[-1]
    if kind == "OpenAIGPTLMHeadModel" and mask is not None and "labels" in inputs:
        inputs["labels"][mask == 0] = -100  # notebook 09 settles what a loss reads at padding
    found, expected = ours(**inputs), theirs(**inputs)
    assert isinstance(found, tuple) == isinstance(expected, tuple)
    assert isinstance(found, tuple) or found.keys() == list(expected.keys())
    assert len(found) == len(expected)
    for a, b in zip(tuple_of(found), tuple_of(expected), strict=True):
        for x, y in zip(*(x if isinstance(x, tuple) else (x,) for x in (a, b)), strict=True):
            pair = what_counts(x, mask, T), what_counts(y, mask, T)
            assert helpers.largest_difference(*pair) < 1e-5


def tuple_of(output) -> tuple:
    return output if isinstance(output, tuple) else output.to_tuple()


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_training_with_dropout_equals_transformers(kind, implementation):
    """All dropouts at 0.1; they roll the same dice in the same order."""
    heads = {"num_labels": 3, "pad_token_id": 0} if "Class" in kind else {}
    theirs, ours = helpers.random_pair(
        kind=kind, attn_implementation=implementation, **TINY, n_head=4, **heads
    )
    ids, results = torch.randint(1, 60, (2, 9)), []
    for model in (ours.train(), theirs.train()):
        torch.manual_seed(1)
        results.append(model(ids)[0])
        results[-1].square().mean().backward()
    assert helpers.largest_difference(*results) < 1e-5
    assert helpers.gradient_difference(ours, theirs) < 1e-4
    assert helpers.largest_difference(results[0], ours.eval()(ids)[0]) > 1e-3


@pytest.mark.parametrize("rows", [40, 75])
@pytest.mark.parametrize("kind", ["OpenAIGPTLMHeadModel", "OpenAIGPTDoubleHeadsModel"])
def test_a_resized_model_equals_transformers(kind, rows):
    theirs, ours = helpers.random_pair(kind=kind, **TINY, n_head=4)
    tables = [model.resize_token_embeddings(rows).weight for model in (ours, theirs)]
    assert torch.equal(tables[0][:60], tables[1][:60])
    tables[0].data.copy_(tables[1].data)  # new rows are random
    ids = torch.randint(rows, (2, 9))
    found, expected = (model(ids, labels=ids) for model in (ours, theirs))
    assert helpers.largest_difference(found.logits, expected.logits) < 1e-5
    (found.loss + expected.loss).backward()
    assert helpers.gradient_difference(ours, theirs) < 1e-4


@QUIET
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_attentions_with_a_cache_and_padding_are_those_of_transformers(implementation, side):
    theirs, ours = helpers.random_pair(attn_implementation=implementation, **TINY, n_head=4)
    ids, mask = torch.randint(60, (2, 9)), helpers.padded(side, (9, 6), 9)
    places = (mask.cumsum(-1) - 1).clamp(min=0)
    cache, patterns = KeyValueCache(2), []
    for start, end in ((0, 4), (4, 5), (5, 9)):
        new = {"position_ids": places[:, start:end], "past_key_values": cache}
        out = ours(ids[:, start:end], mask[:, :end], output_attentions=True, **new)
        patterns.append([F.pad(x, (0, 9 - end)) for x in out.attentions])
    expected = theirs(ids, attention_mask=mask, position_ids=places, output_attentions=True)
    for layer, pattern in enumerate(expected.attentions):
        found = torch.cat([piece[layer] for piece in patterns], dim=2)
        pair = [x.transpose(1, 2)[mask.bool()] for x in (found, pattern)]
        assert helpers.largest_difference(*pair) < 1e-5


def test_labels_behind_padding_count_as_in_transformers():
    ours, theirs = helpers.random_pair()
    ids = torch.randint(30, (3, 12))
    mask = helpers.padded("right", (12, 7, 3), 12)
    loss, expected = (model(ids, attention_mask=mask, labels=ids).loss for model in (ours, theirs))
    assert abs(loss - expected) < 1e-5


def test_the_transformers_comparison_can_fail():
    theirs, ours = helpers.random_pair()
    ours.transformer.h[1].ln_1.eps = 1e-2
    ids = torch.randint(211, (2, 20))
    out, expected = ours(ids, labels=ids), theirs(ids, labels=ids)
    assert helpers.largest_difference(out.logits, expected.logits) > 1e-4
    (out.loss + expected.loss).backward()
    assert helpers.gradient_difference(ours, theirs) > 1e-4


@pytest.mark.parametrize("seed", range(5))
def test_greedy_ids_equal_transformers(seed):
    theirs, ours = helpers.random_pair(seed=seed)
    ids = torch.randint(ours.config.vocab_size, (2, 5))
    options = {"max_new_tokens": 40, "do_sample": False, "pad_token_id": 0}
    expected = theirs.generate(ids, attention_mask=torch.ones_like(ids), **options)  # 0 is a token
    assert torch.equal(ours.generate(ids, max_new_tokens=40), expected)


@pytest.mark.parametrize("afn", ["gelu", "relu", "silu", "swish"])
def test_activations_equal_transformers(afn):
    assert max(helpers.transformers_differences(afn=afn).values()) < 1e-4


def test_a_folder_of_either_side_loads_in_the_other(tmp_path):
    import transformers

    theirs, ours = helpers.random_pair()
    ids = torch.randint(ours.config.vocab_size, (2, 20))
    expected = ours(ids).logits
    ours.save_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert torch.allclose(loaded.eval()(ids).logits, expected, atol=1e-5)
    again = OpenAIGPTLMHeadModel.from_pretrained(tmp_path / "theirs")
    assert torch.equal(again(ids).logits, expected)
