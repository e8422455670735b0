"""The public models: what may be passed, what comes back, what is refused."""

import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils import _pytree as pytree

from minigpt.attention import ATTENTION
from minigpt.hf.configuration import ALLOWED, PROBLEMS, OpenAIGPTConfig
from minigpt.hf.models import (
    SUMMARIES,
    OpenAIGPTDoubleHeadsModel,
    OpenAIGPTForSequenceClassification,
    OpenAIGPTLMHeadModel,
    OpenAIGPTModel,
)
from minigpt.model import KeyValueCache
from tests.helpers import largest_difference, padded

SMALL = {"vocab_size": 31, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2}
MODEL, LM = OpenAIGPTModel, OpenAIGPTLMHeadModel
DOUBLE, CLASSIFIER = OpenAIGPTDoubleHeadsModel, OpenAIGPTForSequenceClassification
KINDS = [MODEL, LM, DOUBLE, CLASSIFIER]
kinds = pytest.mark.parametrize("kind", KINDS)
REGRESSION, SINGLE, MULTI = PROBLEMS
PAD = 30


def make(kind=LM, **settings):
    torch.manual_seed(0)
    heads = {"num_labels": 3, "pad_token_id": PAD} if kind is CLASSIFIER else {}
    return kind(OpenAIGPTConfig(**SMALL | heads | settings)).eval()


def some_ids(*shape):
    return torch.randint(PAD, shape)


def make_inputs(kind, device="cpu"):
    """All arguments but a cache, for two texts or two choices of six tokens."""
    ids = some_ids(2, 6)
    inputs = {"input_ids": ids, "token_type_ids": ids.flip(-1), "labels": ids}
    inputs["attention_mask"] = torch.tensor([[0, 0, 1, 1, 1, 1], [1] * 6])
    inputs = {name: x[None] if kind is DOUBLE else x for name, x in inputs.items()}
    if kind is DOUBLE:
        inputs |= {"mc_labels": torch.tensor([0]), "mc_token_ids": torch.tensor([[5, 3]])}
    inputs |= {"labels": torch.tensor([0, 2])} if kind is CLASSIFIER else {}
    inputs |= {"position_ids": torch.arange(6)}
    return {n: x.to(device) for n, x in inputs.items() if n != "labels" or kind is not MODEL}


# -- inputs


def test_axes_in_front_are_texts():
    model, ids, mask = make(MODEL), some_ids(2, 3, 5), torch.ones(2, 3, 5).long()
    mask[0, 1, 3:] = 0
    out = model(ids, mask, ids.flip(-1), output_hidden_states=True)
    flat = model(*(x.flatten(0, 1) for x in (ids, mask, ids.flip(-1))))
    assert torch.equal(out[0].flatten(0, 1), flat[0])
    shapes = [tuple(x.shape) for x in out.hidden_states]
    assert shapes == [(6, 5, 16), (6, 5, 16), (2, 3, 5, 16)]  # as in transformers
    assert torch.equal(model(ids[0, 0])[0], model(ids[0, :1])[0][0])  # and one text without axes
    vectors = model.get_input_embeddings()(ids)
    assert torch.equal(model(inputs_embeds=vectors)[0], model(ids)[0])


def test_a_text_without_a_real_token_does_not_depend_on_its_neighbours():
    model, ids = make(), some_ids(3, 6)
    for side in ("left", "right"):
        mask = padded(side, (6, 0, 3), 6)
        alone = model(ids[1:2], attention_mask=mask[1:2]).logits
        assert largest_difference(model(ids, attention_mask=mask).logits[1:2], alone) < 1e-6


def test_labels_are_whole_numbers_of_any_width():
    ids, model = some_ids(1, 4), make()
    assert torch.equal(*(model(ids, labels=ids.to(kind)).loss for kind in (torch.int, torch.long)))


def test_logits_to_keep_is_a_number_or_positions():
    model, ids = make(), some_ids(2, 6)
    logits = model(ids).logits
    for kept in (2, np.int64(2), torch.tensor(2), torch.tensor([4, 5])):
        assert torch.equal(model(ids, logits_to_keep=kept).logits, logits[:, 4:])


IDS, WIDE = torch.arange(6).view(2, 3), torch.zeros(2, 3, 16)
WRONG_INPUTS = [
    ({"input_ids": None}, "pass either input_ids or inputs_embeds, and not both"),
    ({"inputs_embeds": WIDE}, "pass either input_ids or inputs_embeds, and not both"),
    ({"input_ids": torch.tensor([[31]])}, "input_ids holds 31; each must be from 0 to 30"),
    ({"input_ids": torch.tensor([[-1]])}, "input_ids holds -1"),
    ({"input_ids": torch.zeros(1, 17).long()}, "17 tokens, but this checkpoint has 16 positions"),
    ({"input_ids": torch.zeros(2, 0).long()}, "input of shape (2, 0) has no tokens"),
    ({"input_ids": torch.tensor(3)}, "input of shape () has no tokens"),
    ({"input_ids": None, "inputs_embeds": torch.zeros(1, 17, 16)}, "17 tokens"),
    ({"token_type_ids": torch.full((2, 3), 99)}, "token_type_ids holds 99"),
    ({"token_type_ids": torch.zeros(4).long()}, "token_type_ids (4,) for texts of 3 tokens"),
    ({"position_ids": torch.tensor([[0, 1, 16]])}, "position_ids holds 16"),
    ({"position_ids": torch.tensor(0)}, "position_ids () for texts of 3 tokens"),
    ({"position_ids": torch.zeros(3, 3).long()}, "position_ids (3, 3) for texts of 3 tokens"),
    ({"attention_mask": torch.ones(3, 3)}, "attention_mask (3, 3) for texts of 3 tokens"),
    ({"attention_mask": torch.ones(2, 4)}, "attention_mask (2, 4) for texts of 3 tokens"),
    ({"attention_mask": torch.ones(2, 1, 3, 3)}, "attention_mask (2, 1, 3, 3) for texts"),
    ({"attention_mask": torch.full((2, 3), 0.5)}, "attention_mask may hold only 1"),
    ({"attention_mask": torch.tensor([[0.0, 0, -1e9]])}, "attention_mask may hold only 1"),
]
WRONG_LABELS = [  # PyTorch itself says what is out of bounds
    (LM, {}, {"labels": torch.full((2, 6), 31)}, "Target 31 is out of bounds"),
    (LM, {}, {"logits_to_keep": 1}, "labels (2, 6) for logits of (2, 1) tokens"),
    (DOUBLE, {}, {"mc_token_ids": torch.tensor([[6, 0]])}, "index 6 is out of bounds"),
    (DOUBLE, {}, {"mc_labels": torch.tensor([-1])}, "Target -1 is out of bounds"),
    (DOUBLE, {}, {"labels": IDS.view(1, 6)}, "labels (1, 6) for logits of (1, 2, 6) tokens"),
    (CLASSIFIER, {}, {"labels": torch.tensor([0, 3])}, "Target 3 is out of bounds"),
    (CLASSIFIER, {}, {"labels": torch.zeros(2)}, f"labels (2,) for problem_type={MULTI!r}"),
    (CLASSIFIER, {}, {"labels": torch.zeros(3, 2)}, "or whole numbers for one class of several"),
    (
        CLASSIFIER,
        {"problem_type": REGRESSION},
        {"labels": torch.zeros(2)},
        "labels (2,) for problem",
    ),
    (
        CLASSIFIER,
        {"num_labels": 1},
        {"labels": torch.zeros(2, 2)},
        "labels (2, 2) for problem_type",
    ),
]


@pytest.mark.parametrize("inputs, wrong", WRONG_INPUTS)
def test_what_does_not_fit_is_named(inputs, wrong):
    with pytest.raises(ValueError, match=re.escape(wrong)):
        make()(**{"input_ids": IDS} | inputs)


@pytest.mark.parametrize("ids, rows", [((1, 5), (3, 5)), ((3, 1), (5,)), ((2, 2, 5), (2, 5))])
def test_rows_for_other_texts_are_refused(ids, rows):
    for name in ("position_ids", "token_type_ids", "attention_mask"):
        with pytest.raises(ValueError, match=re.escape(f"{name} {rows} for texts of")):
            make()(some_ids(*ids), **{name: torch.zeros(rows).long()})


@pytest.mark.parametrize("kind, settings, inputs, wrong", WRONG_LABELS)
def test_labels_that_do_not_fit_are_named(kind, settings, inputs, wrong):
    with pytest.raises((ValueError, IndexError, RuntimeError), match=re.escape(wrong)):
        make(kind, **settings)(**make_inputs(kind) | inputs)


# -- outputs


def test_an_output_is_a_tuple_and_a_dictionary():
    out = make()(some_ids(1, 4), output_hidden_states=True)
    assert list(out) == list(out.keys()) == ["logits", "hidden_states"] and len(out) == 2
    assert "logits" in out and "loss" not in out and out.get("loss") is None
    logits, states = out[:2]
    assert logits is out.logits is out["logits"] is out[0] and out.to_tuple() == (logits, states)
    assert dict(out)["logits"] is logits and dict(out.items()).keys() == {**out}.keys()
    with pytest.raises(KeyError, match="'loss'"):
        out["loss"]
    out["loss"] = 1
    out.logits = 2
    assert (out.loss, out["logits"], out[0], out[-1]) == (1, 2, 2, 1)
    again = pickle.loads(pickle.dumps(out))
    assert type(again) is type(out) and {*again} == {*out} and again.attentions is None
    for made in (type(out)(dict(out)), type(out)(iter(out.items())), type(out)(**out)):
        assert {*made} == {*out} and made.logits == 2 and made.past_key_values is None
    leaves, spec = pytree.tree_flatten(out)
    assert pytree.tree_unflatten([x for x in leaves], spec).keys() == out.keys()


@kinds
def test_results_in_half_precision_have_losses_in_float32(kind):
    out = make(kind).bfloat16()(**make_inputs(kind))
    for name, x in out.items():
        assert (
            x.dtype == (torch.float32 if "loss" in name else torch.bfloat16) and x.isfinite().all()
        )


# -- the config


def used(model, monkeypatch):
    """Which implementations of attention a call runs."""
    names = []
    for name, attend in list(ATTENTION.items()):
        monkeypatch.setitem(ATTENTION, name, lambda *x, n=name, f=attend: names.append(n) or f(*x))
    model(some_ids(1, 4))
    return set(names)


@kinds
def test_attention_may_change_after_a_model_is_built(kind, monkeypatch):
    model = make(kind)
    assert used(model, monkeypatch) == {"sdpa"}
    model.set_attn_implementation("eager")
    assert used(model, monkeypatch) == {"eager"}
    model.config.attn_implementation = "flash_attention_2"
    assert used(model, monkeypatch) == {"flash_attention_2"}
    with pytest.raises(ValueError, match="attn_implementation='fast'; choose from"):
        model.set_attn_implementation("fast")


def test_flash_attention_is_a_name_of_sdpa():
    ids, found = some_ids(2, 7), {}
    for name in ("sdpa", "flash_attention_2"):
        model = make(attn_implementation=name)
        logits = model(ids, attention_mask=padded("left", (7, 4), 7)).logits
        torch.manual_seed(1)
        loss = model.train()(ids, labels=ids).loss  # with dropout, too
        found[name] = logits, loss
    assert all(torch.equal(*pair) for pair in zip(*found.values(), strict=True))


@kinds
def test_what_is_a_wish_for_each_call_is_read_anew(kind):
    model, ids = make(kind), some_ids(1, 4)
    few = len(model(ids))
    model.config.output_hidden_states = model.config.output_attentions = True
    assert len(model(ids)) == few + 2
    model.config.return_dict = False
    assert type(model(ids)) is tuple
    model.config.n_positions = 3
    with pytest.raises(ValueError, match="4 tokens, but this checkpoint has 3 positions"):
        model(ids)


@kinds
def test_what_made_the_model_changes_nothing_afterwards(kind):
    model, ids = make(kind).train(), some_ids(1, 4)
    torch.manual_seed(0)
    before = model(ids)[0]
    changes = {"n_head": 4, "n_layer": 1, "n_embd": 8, "vocab_size": 5, "num_labels": 7}
    changes |= {"afn": "relu", "layer_norm_epsilon": 1.0, "summary_type": "mean"}
    changes |= dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.9)
    model.config.update(changes | {"summary_first_dropout": 0.9, "summary_use_proj": False})
    torch.manual_seed(0)
    assert torch.equal(model(ids)[0], before)


# -- the token embedding


def test_new_rows_are_new_and_old_rows_are_kept():
    model = make(vocab_size=500, n_embd=64).bfloat16()
    old = model.lm_head.weight.data.clone()
    assert model.resize_token_embeddings() is model.get_input_embeddings()
    table = model.resize_token_embeddings(501, pad_to_multiple_of=8)
    torch.testing.assert_close(table.weight[500:], old.mean(0).expand(4, -1))
    table = model.resize_token_embeddings(500)
    table = model.resize_token_embeddings(2000, mean_resizing=False)
    assert torch.equal(table.weight[:500], old) and abs(table.weight[500:].std() - 0.02) < 1e-3
    assert model.get_output_embeddings().weight is model.transformer.tokens_embed.weight
    assert model.config.vocab_size == model.lm_head.out_features == 2000
    assert model(torch.tensor([[1999]])).logits.shape == (1, 1, 2000)
    assert (
        torch.equal(model.resize_token_embeddings(7).weight, old[:7]) and model.dtype == old.dtype
    )
    table.weight.requires_grad_(False)
    model.set_input_embeddings(table)
    assert not model.resize_token_embeddings(40).weight.requires_grad


def test_a_resized_model_is_saved_as_such(tmp_path):
    model = make()
    model.resize_token_embeddings(35)
    model.save_pretrained(tmp_path)
    model.config.n_head = 5
    with pytest.raises(ValueError, match="n_head=5"):
        model.save_pretrained(tmp_path)  # the old files stay
    again = LM.from_pretrained(tmp_path)
    assert torch.equal(again.lm_head.weight, model.lm_head.weight)


def test_the_callers_config_stays_as_it_was():
    config = OpenAIGPTConfig(**SMALL, id2label={0: "a", 1: "b", 2: "c"})
    before, model = replace(config), DOUBLE(config)
    model.resize_token_embeddings(70)
    assert config == before and config.num_labels == 3
    assert model.config.num_labels == 1 and model.config.vocab_size == 70


# -- a cache, and gradient checkpointing


@kinds
def test_a_cache_changes_nothing(kind):
    model, inputs, cache = make(kind, pad_token_id=None), make_inputs(kind), KeyValueCache(2)
    ids, mask, end = inputs["input_ids"], inputs["attention_mask"].flip(-1), 0
    for part in ids.split([1, 2, 3], dim=-1):
        end += part.shape[-1]
        out = model(part, mask[..., :end], past_key_values=cache)
    whole = model(ids, mask, logits_to_keep=3) if kind is LM else model(ids, mask)
    name = "mc_logits" if kind is DOUBLE else 0
    found, expected = out[name], whole[name][..., -3:, :] if kind is MODEL else whole[name]
    assert largest_difference(found, expected) < 1e-5
    with pytest.raises(ValueError, match="17 tokens"):
        model(some_ids(*ids.shape[:-1], 11), past_key_values=cache)


def test_a_cache_goes_on_under_autocast():
    model, ids = make(), some_ids(2, 6)
    with torch.autocast("cpu", torch.bfloat16):
        cache = model(ids[:, :4], use_cache=True).past_key_values
        rest, whole = model(ids[:, 4:], past_key_values=cache).logits, model(ids).logits[:, 4:]
    assert torch.allclose(rest, whole, atol=1e-2)


def gradients(model, ids, **options):
    torch.manual_seed(1)  # the same dropout
    model.zero_grad()
    model(ids, labels=ids, **options).loss.backward()
    return [parameter.grad for parameter in model.parameters()]


def test_gradient_checkpointing_gives_the_same_gradients():
    model, ids, runs = make().train(), some_ids(2, 9), []
    plain = gradients(model, ids)
    model.transformer.h[0].register_forward_pre_hook(lambda *_: runs.append(1))
    model.gradient_checkpointing_enable()
    torch.testing.assert_close(gradients(model, ids), plain)
    assert len(runs) == 2  # forward, and once more in the backward pass
    torch.testing.assert_close(gradients(model, ids, use_cache=True), plain)
    model.eval()(ids)
    model.train().gradient_checkpointing_disable()
    gradients(model, ids)
    assert len(runs) == 5  # once each


# -- double heads


def test_a_single_question_needs_no_batch():
    model, ids = make(DOUBLE), some_ids(1, 3, 6)
    alone = model(ids[0], mc_labels=torch.tensor(1))
    batch = model(ids, mc_labels=torch.tensor([[1]]))
    assert largest_difference(alone.mc_loss, batch.mc_loss) < 1e-6


def test_the_summaries_are_those_of_the_config():
    assert tuple(SUMMARIES) == ALLOWED["summary_type"]
    with pytest.raises(ValueError, match="'attn'; choose from .*cls_index"):
        make(DOUBLE, summary_type="attn")


# -- classifier


@pytest.mark.parametrize("pad_token_id", [PAD, None])
@pytest.mark.parametrize("side", ["right", "left"])
def test_a_mask_tells_where_texts_end_as_the_pad_token_does(side, pad_token_id):
    model, mask = make(CLASSIFIER), padded(side, (9, 6, 1, 3), 9)
    ids = some_ids(4, 9).masked_fill(mask == 0, PAD)
    expected, vectors = model(ids, mask).logits, model.get_input_embeddings()(ids)
    model.config.pad_token_id = pad_token_id
    for inputs in ({"input_ids": ids}, {"inputs_embeds": vectors}):
        assert largest_difference(model(**inputs, attention_mask=mask).logits, expected) < 1e-5
    one_row = model(inputs_embeds=vectors, attention_mask=mask[1:2]).logits
    assert largest_difference(one_row[1], expected[1]) < 1e-5


def test_several_texts_need_something_that_tells_where_each_ends():
    model, vectors = make(CLASSIFIER, pad_token_id=None), torch.randn(4, 9, 16)
    for inputs in ({"input_ids": some_ids(4, 9)}, {"inputs_embeds": vectors}):
        with pytest.raises(ValueError, match="4 texts, but nothing says .* = tokenizer.pad_token"):
            model(**inputs)
    assert model(inputs_embeds=vectors[:1]).logits.shape == (1, 3)


def test_each_call_looks_at_its_own_labels():
    model, ids = make(CLASSIFIER), some_ids(4, 9)
    for labels in (torch.zeros(4, 3), torch.zeros(4, dtype=torch.long), torch.ones(4, 3).bool()):
        assert model(ids, labels=labels).loss.isfinite() and model.config.problem_type is None
    vars(model.config)["problem_type"] = "regresion"  # where transformers is, it refuses `=`
    with pytest.raises(ValueError, match="problem_type='regresion'; choose from regression, sin"):
        model(ids, labels=torch.rand(4, 3))
