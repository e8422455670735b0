"""The model and its language model head: what may be passed, what comes back, what is refused."""

import inspect
import re
import warnings
from functools import partial

import pytest
import torch

from minigpt.attention import ATTENTION
from minigpt.hf.configuration import OpenAIGPTConfig
from minigpt.hf.models import (
    OpenAIGPTDoubleHeadsModel,
    OpenAIGPTForSequenceClassification,
    OpenAIGPTLMHeadModel,
    OpenAIGPTModel,
)
from minigpt.hf.outputs import ModelOutput
from minigpt.model import KeyValueCache

SMALL = {"vocab_size": 31, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2}
KINDS = [OpenAIGPTModel, OpenAIGPTLMHeadModel]
ALL_KINDS = [*KINDS, OpenAIGPTDoubleHeadsModel, OpenAIGPTForSequenceClassification]
NAME = "attn_implementation"


def make(kind=OpenAIGPTLMHeadModel, seed=0, **settings):
    torch.manual_seed(seed)
    return kind(OpenAIGPTConfig(**SMALL | settings)).eval()


def some_ids(*shape):
    return torch.randint(SMALL["vocab_size"], shape)


# -- inputs


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_arguments_stand_in_transformers_order(kind):
    import transformers

    def names(model):
        return list(inspect.signature(model.forward).parameters)[1:7]

    assert names(kind)[:5] == names(getattr(transformers, kind.__name__))[:5]
    model, mask = make(kind), torch.tensor([[1, 1, 1, 0]])
    ids = some_ids(1, 4)
    assert torch.equal(model(ids, mask)[0], model(input_ids=ids, attention_mask=mask)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_may_stand_in_for_ids(kind):
    model, ids = make(kind), some_ids(2, 5)
    vectors = model.get_input_embeddings()(ids)
    assert torch.equal(model(inputs_embeds=vectors)[0], model(ids)[0])


@pytest.mark.parametrize("given, wrong", [({}, "neither was given"), (2, "both were given")])
def test_either_ids_or_vectors(given, wrong):
    given = given or {}
    if given == 2:
        given = {"input_ids": some_ids(1, 3), "inputs_embeds": torch.zeros(1, 3, 16)}
    with pytest.raises(ValueError, match=f"input_ids or inputs_embeds; {wrong}"):
        make()(**given)


@pytest.mark.parametrize("kind", KINDS)
def test_axes_in_front_are_texts(kind):
    model, ids = make(kind), some_ids(2, 3, 5)
    mask = torch.ones(2, 3, 5).long()
    mask[0, 1, 3:] = 0
    types = some_ids(2, 3, 5)
    out = model(ids, mask, types, output_hidden_states=True)
    flat = model(*(x.flatten(0, 1) for x in (ids, mask, types)))
    assert torch.equal(out[0].flatten(0, 1), flat[0])
    shapes = [tuple(x.shape) for x in out.hidden_states]
    assert shapes == [(6, 5, 16), (6, 5, 16), (2, 3, 5, 16)]  # as in transformers
    assert torch.equal(model(ids[0, 0])[0], model(ids[0, :1])[0][0])  # and one text without axes


def test_a_mask_for_another_number_of_texts_is_refused():
    with pytest.raises(ValueError, match=re.escape("attention_mask (2, 5) for texts of 5 tokens")):
        make()(some_ids(3, 5), attention_mask=torch.ones(2, 5))


@pytest.mark.parametrize(
    "inputs, wrong",
    [
        ({"input_ids": torch.tensor([[31]])}, "input_ids has 31 in it; .*0 and 30"),
        ({"input_ids": torch.tensor([[-1]])}, "input_ids has -1"),
        ({"input_ids": torch.zeros(1, 17).long()}, "17 tokens, .*16 positions"),
        ({"inputs_embeds": torch.zeros(1, 17, 16)}, "17 tokens, .*16 positions"),
        ({"input_ids": some_ids(1, 3), "position_ids": torch.tensor([[0, 1, 16]])}, "ids has 16"),
        ({"input_ids": some_ids(1, 2), "token_type_ids": torch.tensor([[0, 99]])}, "ids has 99"),
    ],
)
def test_what_the_tables_do_not_have_is_named(inputs, wrong):
    with pytest.raises(ValueError, match=wrong):
        make()(**inputs)


@pytest.mark.parametrize(
    "inputs, wrong",
    [
        ({"input_ids": torch.zeros(2, 0).long()}, "input of shape (2, 0) holds no token"),
        ({"input_ids": torch.tensor(3)}, "input of shape () holds no token"),
        ({"inputs_embeds": torch.zeros(2, 0, 16)}, "input of shape (2, 0) holds no token"),
        ({"inputs_embeds": torch.zeros(16)}, "input of shape () holds no token"),
        ({"inputs_embeds": torch.zeros(2, 3, 8)}, "inputs_embeds (2, 3, 8) of torch.float32"),
        ({"inputs_embeds": torch.zeros(2, 3, 16).long()}, "pass floats, 16 channels a token"),
        ({"input_ids": torch.zeros(2, 3)}, "input_ids is torch.float32; pass whole numbers"),
        ({"input_ids": torch.zeros(2, 3).bool()}, "input_ids is torch.bool"),
        ({"position_ids": torch.zeros(3)}, "position_ids is torch.float32"),
        ({"token_type_ids": torch.zeros(2, 3)}, "input_ids is torch.float32"),
        ({"position_ids": torch.tensor(0)}, "position_ids () for texts of 3 tokens"),
        ({"position_ids": torch.zeros(2, 4).long()}, "position_ids (2, 4) for texts of 3 tokens"),
        ({"token_type_ids": torch.zeros(4).long()}, "token_type_ids (4,) for texts of 3 tokens"),
        ({"attention_mask": torch.tensor(1)}, "attention_mask () for texts of 3 tokens"),
        ({"attention_mask": torch.ones(2, 4)}, "attention_mask (2, 4) for texts of 3 tokens"),
        ({"attention_mask": torch.ones(2, 2)}, "attention_mask (2, 2) for texts of 3 tokens"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_what_does_not_fit_is_named(kind, inputs, wrong):
    ids = {} if "inputs_embeds" in inputs else {"input_ids": some_ids(2, 3)}
    with pytest.raises(ValueError, match=re.escape(wrong)):
        make(kind)(**ids | inputs)


def test_labels_need_as_many_logits():
    ids = some_ids(2, 6)
    with pytest.raises(ValueError, match=re.escape("labels has shape (2, 6); pass (2, 1)")):
        make()(ids, labels=ids, logits_to_keep=1)


def test_logits_to_keep_is_a_number_or_places():
    model, ids = make(), some_ids(2, 6)
    logits = model(ids).logits
    assert torch.allclose(model(ids, logits_to_keep=2).logits, logits[:, -2:], atol=1e-6)
    places = torch.tensor([0, 3])
    assert torch.allclose(model(ids, logits_to_keep=places).logits, logits[:, places], atol=1e-6)


@pytest.mark.parametrize(
    "mask, wrong",
    [
        (torch.ones(1, 1, 5, 5).tril(), "attention_mask (1, 1, 5, 5) for texts of 5 tokens"),
        (torch.full((5, 5), 0.5), "attention_mask has other values than 1"),
        (torch.tensor([[0.0, 0, 0, -1e9, -1e9]]), "attention_mask has other values than 1"),
    ],
)
def test_a_mask_of_another_kind_is_refused(mask, wrong):
    with pytest.raises(ValueError, match=re.escape(wrong)):
        make()(some_ids(5, 5), attention_mask=mask)


@pytest.mark.parametrize("name", ["position_ids", "token_type_ids"])
def test_rows_for_other_texts_are_refused(name):
    for ids, rows in [
        (some_ids(1, 5), (3, 5)),
        (some_ids(3, 1), (5,)),
        (some_ids(2, 2, 5), (2, 5)),
    ]:
        with pytest.raises(ValueError, match=re.escape(f"{name} {rows} for texts of")):
            make()(ids, **{name: torch.zeros(rows).long()})


def test_a_text_without_a_real_token_does_not_depend_on_its_neighbours():
    model, ids = make(), some_ids(3, 6)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0]])
    alone = model(ids[1:2], attention_mask=mask[1:2]).logits
    assert torch.allclose(model(ids, attention_mask=mask).logits[1:2], alone, atol=1e-6)
    mask[2] = torch.tensor([0, 0, 1, 1, 1, 1])
    assert torch.allclose(model(ids, attention_mask=mask).logits[1:2], alone, atol=1e-6)


@pytest.mark.parametrize("label", [31, -1, 1000])
def test_a_label_that_is_no_token_is_named(label):
    ids = some_ids(1, 4)
    with pytest.raises(ValueError, match=f"labels has {label} in it; it must lie between 0 and 30"):
        make()(ids, labels=torch.tensor([[1, 2, label, -100]]))


def test_labels_are_whole_numbers_of_any_width():
    ids, model = some_ids(1, 4), make()
    losses = [model(ids, labels=ids.to(kind)).loss for kind in (torch.int64, torch.int32)]
    assert torch.equal(*losses)
    with pytest.raises(ValueError, match="labels is torch.float32; pass whole numbers"):
        model(ids, labels=ids.float())


def test_a_frozen_table_stays_frozen():
    model = make()
    model.get_input_embeddings().weight.requires_grad_(False)
    assert not model.resize_token_embeddings(40).weight.requires_grad


def test_a_save_that_fails_leaves_the_old_checkpoint(tmp_path):
    model = make()
    model.save_pretrained(tmp_path)
    model.resize_token_embeddings(40)
    model.config.eos_token_id = object()
    with pytest.raises(ValueError, match="eos_token_id"):
        model.save_pretrained(tmp_path)
    assert OpenAIGPTLMHeadModel.from_pretrained(tmp_path).config.vocab_size == 31


# -- outputs


def test_an_output_is_a_tuple_and_a_dictionary():
    out = make()(some_ids(1, 4), output_hidden_states=True)
    assert isinstance(out, ModelOutput)
    assert out.keys() == ["logits", "hidden_states"] and len(out) == 2
    assert "logits" in out and "loss" not in out
    logits, states = out[:2]
    assert logits is out.logits is out["logits"] is out[0] and out[1:] == (states,)
    assert dict(out)["logits"] is logits and dict(out.items()).keys() == {**out}.keys()
    with pytest.raises(KeyError, match="'loss' was not computed; there are: logits, hidden_states"):
        out["loss"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_tuple_on_request(kind):
    ids = some_ids(1, 4)
    flags = {"output_hidden_states": True, "use_cache": True}
    model = make(kind)
    named, plain = model(ids, **flags), model(ids, return_dict=False, **flags)
    assert type(plain) is tuple and len(plain) == 3
    assert torch.equal(plain[0], named[0])
    by_config = make(kind, return_dict=False)
    assert type(by_config(ids)) is tuple
    assert not isinstance(by_config(ids, return_dict=True), tuple)


def test_the_config_says_what_a_call_does_not():
    ids = some_ids(1, 4)
    model = make(output_hidden_states=True, output_attentions=True, attn_implementation="eager")
    assert model(ids).keys() == ["logits", "hidden_states", "attentions"]
    assert model(ids, output_hidden_states=False).keys() == ["logits", "attentions"]


def test_attention_weights_do_not_depend_on_the_implementation():
    ids = some_ids(2, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        patterns = make()(ids, output_attentions=True).attentions
        eager = make(attn_implementation="eager")(ids, output_attentions=True).attentions
    assert len(patterns) == 2 and all(map(torch.equal, patterns, eager))


def test_the_constructor_overrules_the_config():
    config = OpenAIGPTConfig(**SMALL)
    for kind in KINDS:
        model = kind(config, attn_implementation="eager")
        assert model.config.attn_implementation == "eager"
        assert {block.attn.config.attn_implementation for block in model.base_model.h} == {"eager"}
    assert config.attn_implementation == "sdpa"  # the caller's is left alone


# -- the token table


def test_new_rows_are_new_and_old_rows_are_kept():
    model = make(vocab_size=500, n_embd=64)
    old = model.lm_head.weight.data.clone()
    table = model.resize_token_embeddings(2000)
    assert torch.equal(table.weight[:500], old)
    assert abs(table.weight[500:].std() - 0.02) < 1e-3
    assert model.lm_head.weight is model.transformer.tokens_embed.weight is table.weight
    assert model.config.vocab_size == model.lm_head.out_features == 2000
    assert model(torch.tensor([[1999]])).logits.shape == (1, 1, 2000)


def test_a_resized_model_is_saved_and_trained_as_such(tmp_path):
    model = make()
    model.resize_token_embeddings(35)
    model(torch.tensor([[33, 34]]), labels=torch.tensor([[33, 34]])).loss.backward()
    assert model.lm_head.weight.grad[33].any()
    model.save_pretrained(tmp_path)
    again = OpenAIGPTLMHeadModel.from_pretrained(tmp_path)
    assert torch.equal(again.lm_head.weight, model.lm_head.weight)


def test_a_table_may_shrink_or_stay_but_not_vanish():
    model = make().to(torch.bfloat16)
    assert model.resize_token_embeddings() is model.get_input_embeddings()
    old = model.lm_head.weight.data.clone()
    assert torch.equal(model.resize_token_embeddings(7).weight, old[:7])
    assert model.dtype == torch.bfloat16
    with pytest.raises(ValueError, match="new_num_tokens=0"):
        model.resize_token_embeddings(0)


def test_an_exchanged_table_reaches_the_head():
    model, table = make(), torch.nn.Embedding(9, 16)
    model.set_input_embeddings(table)
    assert model.get_output_embeddings().weight is table.weight
    assert make(OpenAIGPTModel).get_output_embeddings() is None


# -- a cache, and gradient checkpointing


def test_the_cache_changes_nothing():
    model, ids = make(), some_ids(2, 9)
    cache = KeyValueCache(2)
    logits = [model(piece, past_key_values=cache).logits for piece in ids.split([1, 3, 5], dim=1)]
    assert torch.allclose(torch.cat(logits, dim=1), model(ids).logits, atol=1e-5)
    with pytest.raises(ValueError, match="18 tokens"):
        model(some_ids(2, 9), past_key_values=cache)


def test_a_cut_cache_goes_on_as_if_the_rest_had_never_been_read():
    model, ids, other = make(), some_ids(2, 9), some_ids(2, 9)
    cache = KeyValueCache(2)
    cache.crop(3)  # nothing there yet
    model(ids, past_key_values=cache)
    cache.crop(12)  # nothing behind it
    assert len(cache) == 9
    cache.crop(4)
    text = torch.cat([ids[:, :4], other[:, 4:]], dim=1)
    logits = model(text[:, 4:], past_key_values=cache).logits
    assert torch.allclose(logits, model(text).logits[:, 4:], atol=1e-5)


HAD = "past_key_values hold 2 layers, 2 texts, 2 heads of 8 channels, but this call makes"


@pytest.mark.parametrize(
    "settings, texts, wrong",
    [
        ({}, 3, f"{HAD} 2 layers, 3 texts, 2 heads"),
        ({}, 1, f"{HAD} 2 layers, 1 texts"),
        ({"n_head": 4}, 2, f"{HAD} 2 layers, 2 texts, 4 heads of 4 channels"),
        ({"n_embd": 32}, 2, f"{HAD} 2 layers, 2 texts, 2 heads of 16 channels"),
        ({"n_layer": 3}, 2, f"{HAD} 3 layers"),
    ],
)
def test_a_cache_of_others_is_refused_and_stays_as_it_was(settings, texts, wrong):
    cache = make()(some_ids(2, 4), use_cache=True).past_key_values
    for mask in (None, torch.ones(texts, 6).long()):
        with pytest.raises(ValueError, match=re.escape(wrong)):
            make(**settings)(some_ids(texts, 2), mask, past_key_values=cache)
    assert {layer.keys.shape[2] for layer in cache.layers} == {4}


@pytest.mark.parametrize("cache", [(), [(1, 2)], object()])
def test_what_is_no_cache_is_refused(cache):
    with pytest.raises(ValueError, match=f"is a {type(cache).__name__}, not a KeyValueCache"):
        make()(some_ids(2, 2), past_key_values=cache)


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
    model, ids = make().train(), some_ids(2, 9)
    plain, runs = gradients(model, ids), []
    model.transformer.h[0].register_forward_pre_hook(lambda *_: runs.append(1))
    model.gradient_checkpointing_enable()
    for a, b in zip(plain, gradients(model, ids), strict=True):
        torch.testing.assert_close(a, b)
    assert len(runs) == 2  # forward, and once more in the backward pass
    with pytest.raises(ValueError, match="cache would grow twice"):
        model(ids, use_cache=True)
    model.eval()(ids, use_cache=True)  # no gradients, no second run
    model.train().gradient_checkpointing_disable()
    gradients(model, ids)
    assert len(runs) == 4  # one for eval, one for this


# -- compiled, and on a device where nobody looks


def labels_of(kind, ids):
    if kind is OpenAIGPTForSequenceClassification:
        return {"labels": torch.tensor([0, 1], device=ids.device)}
    if kind is OpenAIGPTDoubleHeadsModel:
        mc = {"mc_labels": torch.tensor([0], device=ids.device)}
        return mc | {"labels": ids[None], "mc_token_ids": torch.tensor([[5, 3]], device=ids.device)}
    return {} if kind is OpenAIGPTModel else {"labels": ids}


def everything(kind, device="cpu"):
    """All arguments but a cache, for two texts (or two choices) of six tokens."""
    ids = some_ids(2, 6).to(device)
    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1] * 6], device=device)
    places = torch.arange(6, device=device)
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": ids.flip(-1)}
    if kind is OpenAIGPTDoubleHeadsModel:
        inputs = {name: x[None] for name, x in inputs.items()}
    return inputs | {"position_ids": places} | labels_of(kind, ids)


@pytest.mark.parametrize("implementation", ["sdpa", "flash_attention_2"])
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_it_compiles_in_one_piece(kind, implementation):
    model = make(kind, attn_implementation=implementation, pad_token_id=30)
    torch.compiler.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    inputs = everything(kind)
    for given in (inputs, {k: x for k, x in inputs.items() if k != "attention_mask"}):
        pairs = zip(compiled(**given).values(), model(**given).values(), strict=True)
        for found, expected in pairs:
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cache_compiles_in_one_piece(kind):
    model, ids = make(kind), some_ids(2, 9)
    torch.compiler.reset()
    compiled, cache, found = torch.compile(model, backend="eager", fullgraph=True), None, []
    for piece in ids.split([4, 1, 1, 3], dim=1):
        out = compiled(piece, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        found.append(out[0])
    assert torch.allclose(torch.cat(found, dim=1), model(ids)[0], atol=1e-5)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_nothing_reads_values(kind, implementation):
    """On "meta" there are none, so that reading one is an error; on a GPU it would be a wait."""
    model = make(kind, attn_implementation=implementation, pad_token_id=30).to("meta")
    assert model(**everything(kind, "meta"), use_cache=True)[0].is_meta


# -- config


def used(model, monkeypatch):
    """Which implementations of attention a call runs."""
    names = []
    for name, attend in list(ATTENTION.items()):
        monkeypatch.setitem(ATTENTION, name, lambda *x, n=name, f=attend: names.append(n) or f(*x))
    model(some_ids(1, 4))
    return set(names)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_attention_may_change_after_a_model_is_built(kind, monkeypatch):
    model = make(kind)
    assert used(model, monkeypatch) == {"sdpa"}
    model.set_attn_implementation("eager")
    assert used(model, monkeypatch) == {"eager"} and model.config.attn_implementation == "eager"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no word of a detour
        model(some_ids(1, 4), output_attentions=True)
    model.config.attn_implementation = "flash_attention_2"
    assert used(model, monkeypatch) == {"flash_attention_2"}
    for change in (model.set_attn_implementation, partial(setattr, model.config, NAME)):
        with pytest.raises(ValueError, match="attn_implementation='fast'; choose from eager"):
            change("fast")
            model(some_ids(1, 4))


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_what_is_a_wish_for_each_call_is_read_anew(kind):
    model, ids = make(kind, attn_implementation="eager"), some_ids(1, 4)
    few = len(model(ids))
    model.config.output_hidden_states = model.config.output_attentions = True
    assert len(model(ids)) == few + 2
    model.config.return_dict = False
    assert type(model(ids)) is tuple
    model.config.n_positions = 3
    with pytest.raises(ValueError, match="4 tokens, but this checkpoint has 3 positions"):
        model(ids)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_what_made_the_model_changes_nothing_afterwards(kind):
    model, ids = make(kind).train(), some_ids(1, 4)
    torch.manual_seed(0)
    before = model(ids)[0]
    changes = {"n_head": 4, "n_layer": 1, "n_embd": 8, "vocab_size": 5, "num_labels": 7}
    changes |= {"afn": "relu", "layer_norm_epsilon": 1.0, "summary_type": "mean"}
    changes |= {"resid_pdrop": 0.9, "embd_pdrop": 0.9, "attn_pdrop": 0.9}
    changes |= {"summary_first_dropout": 0.9, "summary_use_proj": False}
    for name, value in changes.items():
        setattr(model.config, name, value)
    torch.manual_seed(0)
    assert torch.equal(model(ids)[0], before)
