"""The static cache, the fast step and its kernels (without a GPU in Triton's interpreter)."""

import os
from functools import partial

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before the kernels are made
pytest.importorskip("triton")

from minigpt import OpenAIGPTConfig, OpenAIGPTLMHeadModel
from minigpt.old.fast_generation import CHECK, FastGenerator, fast_step, plain_step, read_prompt
from minigpt.old.generation import keep_top_k

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ODD = {"n_embd": 48, "n_head": 3}  # no powers of two
SIZES = {"vocab_size": 50, "n_positions": 64, "n_embd": 64, "n_head": 4, "n_layer": 2}


def random_model(**sizes) -> OpenAIGPTLMHeadModel:
    torch.manual_seed(0)
    model = OpenAIGPTLMHeadModel(OpenAIGPTConfig(**SIZES | sizes)).to(DEVICE).eval()
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.2)
    return model


def random_ids(B: int, T: int) -> torch.Tensor:
    return torch.randint(50, (B, T), device=DEVICE)


@torch.no_grad()
@pytest.mark.parametrize("sizes", [{}, ODD], ids=["even", "odd"])
@pytest.mark.parametrize("B", [1, 3])
def test_both_steps_equal_the_model(B, sizes):
    model = random_model(**sizes)
    ids, padding = random_ids(B, 40), torch.tensor([4, 0, 9], device=DEVICE)[:B]
    write = FastGenerator(model, B)
    for step in (partial(plain_step, n=20), fast_step):
        read_prompt(model, write.cache, ids[:, :20], padding)
        write.cache.tokens[:, 20] = ids[:, 20]
        write.cache.slot.fill_(20)
        found = step(model.transformer, write.cache)
        for row, front in enumerate(padding.tolist()):
            alone = model.transformer(ids[row : row + 1, front:21]).last_hidden_state[0, -1]
            assert torch.allclose(found[row], alone, atol=1e-4)


@pytest.mark.parametrize("new", [1, 2, CHECK, CHECK + 1, 50])
def test_the_same_texts_as_the_loop(new):
    model, ids = random_model(), random_ids(2, 7)
    expected = model.generate(ids, max_new_tokens=new)
    write = FastGenerator(model, 2)
    assert torch.equal(write(ids, new), expected)
    assert torch.equal(write(ids, new), expected)  # nothing is left of the first text


def test_texts_end_at_their_end_tokens():
    model, ids = random_model(), random_ids(2, 7)
    free = model.generate(ids, max_new_tokens=50)
    end = free[0, 15].item()
    expected = model.generate(ids, max_new_tokens=50, eos_token_id=end)
    assert torch.equal(FastGenerator(model, 2, end=[end])(ids, 50), expected)


def test_sampling_draws_from_the_processed_scores():
    model, B = random_model(), 4000
    ids = random_ids(1, 5).expand(B, -1)
    keep = [lambda ids, logits: keep_top_k(logits / 0.8, 5)]
    drawn = FastGenerator(model, B, 8, do_sample=True, processors=keep)(ids, 1)[:, -1]
    expected = B * keep_top_k(model(ids[:1]).logits[0, -1:] / 0.8, 5).softmax(-1)[0]
    counts = drawn.bincount(minlength=50)
    kept = expected > 0
    assert counts[~kept].sum() == 0
    chi_square = ((counts - expected)[kept].square() / expected[kept]).sum()
    assert chi_square < 23.5  # 4 degrees of freedom, one chance in 10,000


def test_nan_names_the_row_and_the_place():
    model, ids = random_model(), random_ids(2, 7)
    model.transformer.positions_embed.weight.data[9] = torch.nan
    with pytest.raises(ValueError, match="step 3, row 0: the largest score is not finite"):
        FastGenerator(model, 2)(ids, 20)


@pytest.mark.parametrize(("B", "T", "new"), [(1, 7, 3), (2, 0, 3), (2, 7, 0), (2, 60, 5)])
def test_what_does_not_fit_is_refused(B, T, new):
    with pytest.raises(ValueError, match=rf"prompts \({B}, {T}\) and max_new_tokens={new}"):
        FastGenerator(random_model(), 2)(random_ids(B, T), new)
