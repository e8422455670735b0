"""Flash attention: which kernel runs, and what happens where none can (results: test_attention)."""

import warnings

import pytest
import torch

from minigpt.attention import make_mask, sdpa_attention
from minigpt.fast import flash_attention as module
from minigpt.fast.flash_attention import flash_attention
from minigpt.hf.configuration import OpenAIGPTConfig
from minigpt.hf.models import OpenAIGPTModel
from tests.test_attention import PADDINGS, random_inputs


def kernels(attend, *inputs):
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as record:
        attend(*inputs)
    return {event.key for event in record.key_averages() if "attention" in event.key}


@pytest.mark.parametrize("kind", [None, "left"])
@pytest.mark.parametrize("T", [1, 3, 7])
def test_the_flash_kernel_runs(kind, T):
    mask = None if kind is None else make_mask(T, 7, torch.tensor([PADDINGS[kind]] * 2))
    found = kernels(flash_attention, *random_inputs(T=T), mask)
    assert "aten::_scaled_dot_product_flash_attention_for_cpu" in found
    assert not any("math" in name for name in found)


def test_no_other_kernel_runs():
    q, k, v = random_inputs()
    assert any("math" in name for name in kernels(sdpa_attention, q, k, v, None, 0.1))
    wanted = r"float32 on cpu, 8 channels.*dropout 0.1.*bfloat16.*sdpa"
    with pytest.raises(ValueError, match=wanted):
        flash_attention(q, k, v, None, 0.1)
    with pytest.raises(ValueError, match="on meta"):
        flash_attention(*(x.to("meta") for x in (q, k, v)))


def test_pytorch_may_choose_no_other_kernel(monkeypatch):
    allowed = []

    def look(q, *inputs, **options):
        names = ("flash", "math", "mem_efficient", "cudnn")
        allowed.append([getattr(torch.backends.cuda, f"{name}_sdp_enabled")() for name in names])
        return q

    monkeypatch.setattr(module.F, "scaled_dot_product_attention", look)
    flash_attention(*random_inputs())
    assert allowed == [[True, False, False, False]]


@pytest.mark.parametrize("message", ["No available kernel. Aborting.", "CUDA out of memory"])
def test_only_a_refusal_becomes_a_value_error(monkeypatch, message):
    def fail(*inputs):
        raise RuntimeError(message)

    monkeypatch.setattr(module, "flash_kernel", fail)
    with pytest.raises(ValueError if "kernel" in message else RuntimeError) as caught:
        flash_attention(*random_inputs())
    assert message in (str(caught.value), str(caught.value.__cause__))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="not checked: needs a GPU")
def test_float32_on_a_gpu_is_an_error():
    inputs = [x.cuda() for x in random_inputs()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch gives its reasons as warnings
        with pytest.raises(ValueError, match="float32 on cuda.*bfloat16"):
            flash_attention(*inputs)


def test_a_model_takes_it_by_name():
    config = OpenAIGPTConfig(vocab_size=30, n_positions=9, n_embd=16, n_layer=2, n_head=2)
    model = OpenAIGPTModel(config).eval()
    model.set_attn_implementation("flash_attention_2")
    ids = torch.randint(30, (2, 7))
    mask = torch.tensor([PADDINGS["left"], PADDINGS["holes"]])
    found = kernels(lambda: model(ids))
    assert "aten::_scaled_dot_product_flash_attention_for_cpu" in found
    states = model(ids, attention_mask=mask)[0]
    model.set_attn_implementation("eager")
    expected = model(ids, attention_mask=mask)[0]
    torch.testing.assert_close(states[mask == 1], expected[mask == 1], rtol=0, atol=1e-5)
    model.set_attn_implementation("flash_attention_2")
    with pytest.raises(ValueError, match="no flash kernel .* dropout 0.1"):
        model.train()(ids)
