"""The loss in two kernels (without a GPU in Triton's interpreter)."""

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("triton")

from minigpt import OpenAIGPTConfig, OpenAIGPTLMHeadModel
from minigpt.fast.fused_loss import fused_loss
from minigpt.lm_head import next_token_loss

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("V", [3, 64, 100, 2048, 2100, 9000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loss_and_gradient_are_those_of_pytorch(V, dtype):
    torch.manual_seed(0)
    logits = F.pad(3 * torch.randn(2, 3, V, device=DEVICE), (0, -V % 64))  # whole tiles
    logits, labels = logits.to(dtype).requires_grad_(), torch.randint(V, (2, 3), device=DEVICE)
    labels[0, 1] = -100
    loss = fused_loss(logits, labels, V)
    expected = F.cross_entropy(logits[..., :V].float().flatten(0, 1), labels.flatten())
    found, wanted = (torch.autograd.grad(3 * x, logits)[0] for x in (loss, expected))
    torch.testing.assert_close(loss, expected)
    rtol = 1e-2 if dtype == torch.bfloat16 else 1e-4
    torch.testing.assert_close(found, wanted, rtol=rtol, atol=1e-5)
    assert not found[..., V:].any()  # rows of zeros that are no tokens


def test_nothing_that_counts_is_nan_and_has_no_gradient():
    logits = torch.randn(2, 64, device=DEVICE, requires_grad=True)
    labels = torch.full((2,), -100, device=DEVICE)
    loss = fused_loss(logits, labels, 60)
    loss.backward()
    assert loss.isnan() and not logits.grad.any()  # as PyTorch's


@pytest.mark.filterwarnings("ignore:invalid value encountered")  # the interpreter's, at inf - inf
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_broken_logit_breaks_the_loss(value):
    logits = torch.randn(2, 64, device=DEVICE)
    logits[1, 5] = value
    assert not fused_loss(logits, torch.tensor([1, 2], device=DEVICE), 60).isfinite()


@pytest.mark.skipif(DEVICE == "cuda", reason="on a GPU such an error ends the whole process")
@pytest.mark.parametrize("label", [60, 63, 64, -1])
def test_a_label_that_is_no_token_is_an_error(label):
    with pytest.raises(RuntimeError, match="out of bounds"):
        fused_loss(torch.randn(2, 64), torch.tensor([1, label]), 60)


@pytest.mark.skipif(DEVICE == "cpu", reason="models take the kernels on a GPU only")
def test_models_take_it_on_a_gpu_and_logits_still_have_gradients():
    torch.manual_seed(0)
    model = OpenAIGPTLMHeadModel(OpenAIGPTConfig(vocab_size=50, n_embd=32, n_head=2, n_layer=2))
    ids = torch.randint(50, (2, 9))
    results = []
    for place in ("cpu", "cuda"):
        model.zero_grad()
        model.to(place).eval()
        out = model(ids.to(place), labels=ids.to(place))
        (out.loss + out.logits.square().mean()).backward()
        results.append([out.loss.cpu(), *(p.grad.cpu().clone() for p in model.parameters())])
    assert next_token_loss(out.logits, ids.cuda()).item() == pytest.approx(results[0][0].item())
    for mine, other in zip(*results, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-4)
