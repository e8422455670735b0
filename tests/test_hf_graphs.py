"""Compiled, exported and traced models equal the eager one; changed modules act in all."""

import pytest
import torch
from packaging.version import Version
from torch import nn
from torch.export import Dim

from minigpt.block import Conv1D
from minigpt.hf.configuration import OpenAIGPTConfig
from minigpt.hf.models import (
    OpenAIGPTDoubleHeadsModel,
    OpenAIGPTForSequenceClassification,
    OpenAIGPTLMHeadModel,
    OpenAIGPTModel,
)

SMALL = {"vocab_size": 31, "n_positions": 300, "n_embd": 16, "n_layer": 2, "n_head": 2}
RESULT = {  # what is compared
    OpenAIGPTModel: "last_hidden_state",
    OpenAIGPTLMHeadModel: "logits",
    OpenAIGPTDoubleHeadsModel: "mc_logits",
    OpenAIGPTForSequenceClassification: "logits",
}


class Plain(nn.Module):
    """A model as a function of tensors: ids and, if there is one, a mask."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.name, self.model = RESULT[kind], kind(OpenAIGPTConfig(**SMALL, pad_token_id=30)).eval()

    def forward(self, *inputs):
        return self.model(*inputs)[self.name]


def some_inputs(kind, B: int, T: int, masked: bool, first: int = 2):
    """Random ids (B, T) or (B, choices, T) and a mask with `first` tokens of padding in one row."""
    shape = (B, 3, T) if kind is OpenAIGPTDoubleHeadsModel else (B, T)
    mask = torch.ones(shape, dtype=torch.long)
    mask[0, ..., :first] = 0
    return (torch.randint(30, shape), mask)[: 1 + masked]


def assert_same(found, model, inputs):
    torch.testing.assert_close(found, model(*inputs), rtol=0, atol=1e-5)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("kind", RESULT)
def test_an_exported_model_takes_other_batches_and_lengths(kind, masked):
    if kind is OpenAIGPTDoubleHeadsModel and Version(torch.__version__) < Version("2.13"):
        pytest.skip("the export of an older PyTorch cannot prove min(T, 3 T) == T for a length T")
    model, inputs = Plain(kind), some_inputs(kind, 2, 9, masked)
    axes = {0: Dim("batch", min=2, max=64), inputs[0].dim() - 1: Dim("length", min=2, max=300)}
    exported = torch.export.export(model, inputs, dynamic_shapes=((axes,) * len(inputs),)).module()
    for B, T in [(2, 9), (3, 280)]:
        inputs = some_inputs(kind, B, T, masked)
        assert_same(exported(*inputs), model, inputs)


@pytest.mark.parametrize("kind", RESULT)
def test_a_traced_model_takes_another_mask(kind):
    model = Plain(kind)
    traced = torch.jit.trace(model, some_inputs(kind, 2, 9, True))
    for first in (2, 5):
        inputs = some_inputs(kind, 2, 9, True, first)
        assert_same(traced(*inputs), model, inputs)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("kind", RESULT)
def test_a_compiled_model_is_one_graph(kind, masked):
    model = Plain(kind)
    torch.compiler.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=True)
    for B, T in [(2, 9), (3, 12)]:
        inputs = some_inputs(kind, B, T, masked)
        assert_same(compiled(*inputs), model, inputs)


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
    model.gradient_checkpointing_enable()


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


def make(change=None):
    torch.manual_seed(0)
    model = OpenAIGPTLMHeadModel(OpenAIGPTConfig(**SMALL, initializer_range=0.5)).eval()
    if change is not None:
        change(model)
    return model


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("run", [run_plain, run_static, run_compiled])
@pytest.mark.filterwarnings("ignore:.*static")
def test_a_changed_module_acts(run, change):
    ids, model = torch.tensor([[5, 6, 7]]), make(change)
    found, logits = run(model, ids), model(ids).logits
    torch.testing.assert_close(found, logits if found.dim() == 3 else logits[:, -1])
    acts = change is not gradient_checkpointing
    assert torch.equal(logits, make()(ids).logits) != acts


def test_dynamic_quantization_acts_on_the_head():
    model, ids = make(), torch.tensor([[5, 6, 7]])
    small = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    assert type(small.lm_head) is not nn.Linear
    assert not torch.equal(small(ids).logits, model(ids).logits)


def test_hidden_states_are_in_the_graph():
    model, ids = make(), torch.tensor([[5, 6, 7]])
    out = model(ids, labels=ids, output_hidden_states=True)
    for state in out.hidden_states:
        state.retain_grad()
    out.loss.backward()
    assert all(state.grad is not None and state.grad.any() for state in out.hidden_states)
