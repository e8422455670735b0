"""Dropout in training on a CPU: nothing is dropped in another way (see test_fast_dropout, too)."""

import pytest
import torch
from torch.profiler import profile

from minigpt import OpenAIGPTConfig, OpenAIGPTLMHeadModel
from minigpt.attention import eager_attention
from minigpt.training.dropout import ShortDropout, causal_attention, short_dropout

CONFIG = OpenAIGPTConfig(vocab_size=50, n_positions=16, n_embd=16, n_layer=2, n_head=2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_follow_the_mask(dtype):
    x = torch.ones(8, 101, dtype=dtype, requires_grad=True)
    y = short_dropout(x, 0.3)
    y.sum().backward()
    assert y.dtype == dtype and torch.equal(x.grad, y) and 0 < (y > 0).sum() < 808


def test_attention_weights_are_those_of_the_course_or_zero():
    q, k = torch.randn(2, 4, 3, 64, 8)
    values = torch.eye(64).expand(4, 3, 64, 64)  # the result: the weights themselves
    _, expected = eager_attention(q, k, q)
    found = causal_attention(q, k, values, 0.25)
    kept = found != 0
    assert not (kept & (expected == 0)).any()
    torch.testing.assert_close(found[kept], expected[kept] / 0.75)
    assert kept.sum() / (expected > 0).sum() == pytest.approx(0.75, abs=0.01)


def operations(model, ids) -> set[str]:
    with profile() as found:
        model(ids, labels=ids).loss.backward()
    return {event.key for event in found.key_averages()}


def test_a_model_in_training_draws_no_other_random_numbers():
    model, ids = OpenAIGPTLMHeadModel(CONFIG).train(), torch.randint(50, (3, 9))
    assert "aten::bernoulli_" in operations(model, ids)
    expected = model.eval()(ids).logits
    model.forward = ShortDropout()(model.forward)
    torch.testing.assert_close(model(ids).logits, expected)  # nothing is dropped
    assert "aten::random_" not in operations(model, ids)
    found = operations(model.train(), ids)
    assert "aten::random_" in found and "aten::bernoulli_" not in found
