"""Compiled, exported and traced models equal the eager one; changed modules act in all."""

import pytest
import torch
from packaging.version import Version
from torch import nn
from torch.export import Dim

from minigpt.block import Conv1D
from minigpt.hf.configuration import OpenAIGPTConfig
from tests.test_hf_models import CLASSIFIER, DOUBLE, KINDS, LM, PAD, SMALL, kinds, make_inputs

SIZES = SMALL | {"n_positions": 300, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
masked = pytest.mark.parametrize("masked", [True, False])


def make(kind=LM, **settings):
    torch.manual_seed(0)
    heads = {"num_labels": 3, "pad_token_id": PAD} if kind is CLASSIFIER else {}
    return kind(OpenAIGPTConfig(**SIZES | heads | settings)).eval()


class Plain(nn.Module):
    """A model as a function of tensors: ids and, if there is one, a mask."""

    def __init__(self, kind):
        super().__init__()
        self.model, self.name = make(kind), "mc_logits" if kind is DOUBLE else 0

    def forward(self, *inputs):
        return self.model(*inputs)[self.name]


def some_inputs(kind, B: int, T: int, masked: bool, first: int = 2):
    """Random ids (B, T) or (B, choices, T) and a mask with `first` tokens of padding in one row."""
    shape = (B, 3, T) if kind is DOUBLE else (B, T)
    mask = torch.ones(shape, dtype=torch.long)
    mask[0, ..., :first] = 0
    return (torch.randint(PAD, shape), mask)[: 1 + masked]


def assert_same(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@masked
@kinds
def test_an_exported_model_takes_other_batches_and_lengths(kind, masked):
    if kind is DOUBLE and Version(torch.__version__) < Version("2.13"):
        pytest.skip("the export of an older PyTorch cannot prove min(T, 3 T) == T for a length T")
    model, inputs = Plain(kind), some_inputs(kind, 2, 9, masked)
    axes = {0: Dim("batch", min=2, max=64), inputs[0].dim() - 1: Dim("length", min=2, max=300)}
    exported = torch.export.export(model, inputs, dynamic_shapes=((axes,) * len(inputs),)).module()
    for B, T in [(2, 9), (3, 280)]:
        inputs = some_inputs(kind, B, T, masked)
        assert_same(exported(*inputs), model(*inputs))


@kinds
def test_a_traced_model_takes_another_mask(kind):
    model = Plain(kind)
    traced = torch.jit.trace(model, some_inputs(kind, 2, 9, True))
    for first in (2, 5):
        inputs = some_inputs(kind, 2, 9, True, first)
        assert_same(traced(*inputs), model(*inputs))


@pytest.mark.parametrize("kind", KINDS)
def test_a_compiled_model_is_one_graph(kind):
    model = make(kind)
    torch.compiler.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=True)
    inputs = make_inputs(kind)
    calls = [inputs, {n: x for n, x in inputs.items() if n != "attention_mask"}]
    ids, mask = some_inputs(kind, 3, 12, True)
    calls.append({"input_ids": ids, "attention_mask": mask})
    for inputs in calls:
        found, expected = compiled(**inputs), model(**inputs)
        assert list(found) == list(expected)
        for name, x in expected.items():
            real = inputs.get("attention_mask", torch.ones(1)).bool()
            per_token = x.dim() > 2 and x.shape[:-1] == real.shape  # without meaning at padding
            assert_same(*(y[real] if per_token else y for y in (found[name], x)))


def test_a_cache_compiles_in_one_graph():
    model, ids, cache, found = make(), torch.randint(PAD, (2, 9)), None, []
    torch.compiler.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    for part in ids.split([4, 1, 1, 3], dim=1):
        out = compiled(part, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        found.append(out[0])
    assert_same(torch.cat(found, dim=1), model(ids)[0])


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@kinds
def test_nothing_reads_values(kind, implementation):
    """On "meta" there are none, so that reading one is an error; on a GPU it would be a wait."""
    model = make(kind, attn_implementation=implementation).to("meta")
    assert model(**make_inputs(kind, "meta"), use_cache=True)[0].is_meta


@kinds
def test_gradients_reach_every_hidden_state(kind):
    out = make(kind)(**make_inputs(kind), output_hidden_states=True)
    losses = [out[name] for name in ("loss", "mc_loss") if name in out] or [out[0].square().sum()]
    for loss in losses:
        states = torch.autograd.grad(loss, out.hidden_states, retain_graph=True)
        assert len(states) == 3 and all(state.any() for state in states)


# -- changed modules act, whichever path computes


class Adapter(nn.Module):
    """A layer with a low-rank update beside it, as LoRA has it."""

    def __init__(self, layer: Conv1D):
        super().__init__()
        self.layer, (n_in, n_out) = layer, layer.weight.shape
        self.down, self.up = nn.Linear(n_in, 2, bias=False), nn.Linear(2, n_out, bias=False)

    def forward(self, x):
        return self.layer(x) + self.up(self.down(x))


def hook_on_a_block(model):
    model.transformer.h[0].register_forward_hook(lambda module, inputs, out: (out[0] + 0.3, out[1]))


def hook_on_the_head(model):
    model.lm_head.register_forward_hook(lambda module, inputs, out: out.flip(-1))


def adapter(model):
    for block in model.transformer.h:
        block.attn.c_attn = Adapter(block.attn.c_attn)


def head_with_a_bias(model):
    model.lm_head = nn.Linear(SMALL["n_embd"], SMALL["vocab_size"])


def gradient_checkpointing(model):
    model.train().gradient_checkpointing_enable()


CHANGES = [hook_on_a_block, hook_on_the_head, adapter, head_with_a_bias, gradient_checkpointing]


def run_plain(model, ids):
    return model(ids).logits


def run_compiled(model, ids):
    torch.compiler.reset()
    return torch.compile(model, backend="aot_eager")(ids).logits


def run_static(model, ids):
    options = {"max_new_tokens": 4, "output_scores": True, "return_dict_in_generate": True}
    text = model.generate(ids, cache_implementation="static", max_new_tokens=4)
    expected = model.generate(ids, **options)
    assert torch.equal(text, expected.sequences)
    return expected.scores[0]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("run", [run_plain, run_static, run_compiled])
@pytest.mark.filterwarnings("ignore:.*static")
def test_a_changed_module_acts(run, change):
    ids, model = torch.tensor([[5, 6, 7]]), make(initializer_range=0.5)
    before = model(ids).logits
    change(model)
    found, logits = run(model, ids), model(ids).logits
    torch.testing.assert_close(found, logits if found.dim() == 3 else logits[:, -1])
    assert torch.equal(logits, before) == (change is gradient_checkpointing)


HEADS = [(LM, "lm_head"), (DOUBLE, "lm_head"), (CLASSIFIER, "score")]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.quantize_per")
@pytest.mark.parametrize("kind, name", HEADS)
def test_hooks_biases_and_quantized_heads_act(kind, name):
    model, ids = make(kind), make_inputs(kind)["input_ids"]
    head = getattr(model, name)

    def logits(model):
        return model(ids).logits

    before = logits(model)
    hook = head.register_forward_hook(lambda module, inputs, out: out + 1)
    assert_same(logits(model), before + 1)
    hook.remove()
    setattr(model, name, nn.Linear(SMALL["n_embd"], head.out_features))
    other = getattr(model, name)
    other.weight = head.weight
    assert_same(logits(model), before + other.bias)
    setattr(model, name, head)
    small = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    assert 0 < (logits(small) - before).abs().max() < 0.1


def test_another_head_for_choices():
    class Mean(nn.Module):
        def forward(self, states, index=None):
            return states.mean((-2, -1))[..., None]

    model = make(DOUBLE)
    model.multiple_choice_head = Mean()
    out = model(**make_inputs(DOUBLE), output_hidden_states=True)
    assert torch.equal(out.mc_logits, out.hidden_states[-1].mean((-2, -1)))
