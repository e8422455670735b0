"""The static cache: the texts are those of the cache that grows, in every way and thread."""

import pickle
import random
import warnings
from copy import deepcopy
from threading import Thread

import pytest
import torch
from torch import nn

from minigpt import FastGenerator, OpenAIGPTConfig, OpenAIGPTLMHeadModel
from minigpt.fast.static_cache import (
    CHECK,
    StaticCache,
    has_fast_step,
    kernel_step,
    multiply,
    multiply_embedding,
    split_step,
)
from minigpt.generation import keep_top_k
from tests import helpers

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
STATIC = {"cache_implementation": "static"}
SIZES = {"vocab_size": 50, "n_positions": 64, "n_embd": 64, "n_head": 4, "n_layer": 2}


@pytest.fixture
def model():
    return helpers.lively_pair()[1]


def random_model(**sizes) -> OpenAIGPTLMHeadModel:
    torch.manual_seed(0)
    model = OpenAIGPTLMHeadModel(OpenAIGPTConfig(**SIZES | sizes)).to(DEVICE).eval()
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.2)
    return model


def random_ids(B: int, T: int) -> torch.Tensor:
    return torch.randint(50, (B, T), device=DEVICE)


def is_the_same(model, B: int = 2, T: int = 6) -> bool:
    ids = torch.randint(31, (B, T), generator=torch.Generator().manual_seed(0))
    return torch.equal(model.generate(ids, **STATIC), model.generate(ids))


def disturb(model) -> None:
    torch.manual_seed(1)
    for weight in model.parameters():
        weight.data.add_(torch.randn_like(weight) * 0.1)


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_all_settings_that_it_takes(model, seed, changed):
    if changed:  # a hook that does nothing: the cache grows
        model.transformer.h[0].register_forward_hook(lambda *inputs: None)
    dice = random.Random(seed)
    B, T = dice.randint(1, 3), dice.randint(1, 12)
    ids = torch.randint(31, (B, T), generator=torch.Generator().manual_seed(seed))
    lengths = tuple(dice.randint(1, T) for _ in range(B))
    masks = [None, *(helpers.padded(side, lengths, T) for side in ("left", "right"))]
    mask = dice.choice(masks)
    settings = {
        "max_new_tokens": dice.choice([1, 2, 20, 33, 36]),
        "eos_token_id": dice.choice([None, 3, [3, 7], [3, 7, 11, 2]]),
        "pad_token_id": dice.choice([None, 5, 0]),
    }
    if dice.random() < 0.3:
        settings |= {"do_sample": True, "top_k": 1, "num_return_sequences": 2}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = model.generate(ids, attention_mask=mask, **STATIC, **settings)
    assert torch.equal(found, model.generate(ids, attention_mask=mask, **settings))
    assert [one.filename for one in caught] == [__file__] * changed
    assert not changed or "the cache grows" in str(caught[0].message)


class Doubled(nn.LayerNorm):
    def forward(self, x):
        return 2 * super().forward(x)


class Head(nn.Module):
    """Scores tokens, and has no weight under the usual name, as a quantized head."""

    def __init__(self):
        super().__init__()
        self.layer, self.out_features = nn.Linear(32, 31).double(), 31

    def forward(self, x):
        return self.layer(x)


def exchange_class(model):
    model.transformer.h[0].ln_1 = Doubled(32).double()


def exchange_head(model):
    model.lm_head = Head()


def exchange_forward(model):
    block = model.transformer.h[0]
    block.forward = lambda x, *rest: (2 * type(block).forward(block, x, *rest)[0], None)


def parametrize(model):
    mlp = model.transformer.h[0].mlp
    nn.utils.parametrizations.weight_norm(mlp.c_proj)
    mlp.c_proj.parametrizations.weight.original0.data.mul_(2)


@pytest.mark.filterwarnings("ignore:the cache grows")
@pytest.mark.parametrize("change", [exchange_class, exchange_head, exchange_forward, parametrize])
def test_what_is_changed_in_a_model_acts(model, change):
    """As hooks, adapters and a head with a bias do: see `test_hf_graphs`."""
    assert has_fast_step(model) and is_the_same(model)  # the generator is kept
    ids = torch.tensor([[1, 2, 3]])
    before = model.generate(ids)
    change(model)
    assert not has_fast_step(model) and is_the_same(model)
    assert not torch.equal(model.generate(ids, **STATIC), before)


@pytest.mark.parametrize("sizes", [{"afn": "relu"}, {"afn": "swish", "n_embd": 36, "n_head": 3}])
def test_other_networks_and_training_mode(sizes):
    model = helpers.lively_pair(**sizes)[1]
    assert is_the_same(model) and not has_fast_step(model.train())


@pytest.mark.parametrize("length", [4, None])
def test_threads_get_what_each_gets_alone(length):
    model = random_model().cpu()
    prompts = [torch.randint(50, (1, length or 3 + i)) for i in range(6)]
    alone, found = [model.generate(ids, max_new_tokens=30) for ids in prompts], {}

    def work(i):
        found[i] = model.generate(prompts[i], max_new_tokens=30, **STATIC)

    threads = [Thread(target=work, args=[i]) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[i], alone[i]) for i in range(6))


def test_weights_that_change_in_place_or_are_replaced(model):
    assert is_the_same(model)
    kept = vars(model)["static_generator"]
    assert is_the_same(model) and vars(model)["static_generator"] is kept
    disturb(model)
    assert is_the_same(model)
    layer = model.transformer.h[0].mlp.c_fc
    layer.weight = nn.Parameter(-layer.weight.data)
    assert is_the_same(model)
    assert is_the_same(model.float()) and is_the_same(model.double())
    sizes = [(5, 3), (1, 9), (2, 6)]
    assert all(is_the_same(model, *size) for size in sizes)


@pytest.mark.parametrize("copy", [deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_generates_by_itself(model, copy):
    assert is_the_same(model)
    other = copy(model)
    disturb(other)
    assert is_the_same(other) and is_the_same(model) and is_the_same(other)


def test_in_inference_mode_and_after_it(model):
    with torch.inference_mode():
        assert is_the_same(model)
    assert is_the_same(model)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("padding", [None, torch.tensor([0, 3])])
def test_the_models_own_forward_pass_takes_it(model, implementation, padding):
    model.config.attn_implementation = implementation
    ids, cache = torch.randint(31, (2, 9)), StaticCache(model.config, 2, 16, torch.float64)
    cache.reset(padding)
    rows = [model.next_logits(part, cache)[0] for part in ids.split([5, 3, 1], dim=1)]
    for n, row in zip((5, 8, 9), rows, strict=True):
        places = torch.arange(n) - (torch.zeros(2) if padding is None else padding)[:, None]
        inputs = {"attention_mask": places >= 0, "position_ids": places.clamp(min=0).long()}
        expected, _ = model.next_logits(ids[:, :n], **inputs)
        assert torch.allclose(row, expected)


SETTINGS = [
    {"num_beams": 4},
    {"repetition_penalty": 1.5},
    {"stopping_criteria": [lambda ids, scores: ids[:, -1] == 3]},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_what_a_repeated_step_cannot_do_the_growing_cache_does(model, settings):
    ids = torch.tensor([[1, 2], [3, 4]])
    with pytest.warns(UserWarning, match="the cache grows") as found:
        assert torch.equal(
            model.generate(ids, **STATIC, **settings), model.generate(ids, **settings)
        )
    assert [one.filename for one in found] == [__file__]


def test_a_kept_generator_tells_filters_of_the_same_number_apart(model):
    ids, drawn = torch.tensor([[1, 2]]).repeat(30, 1), {}
    for name in ("min_p", "epsilon_cutoff", "eta_cutoff"):
        for way in ({}, STATIC):
            torch.manual_seed(0)
            settings = {"do_sample": True, "top_k": None, "max_new_tokens": 4, name: 0.05}
            drawn.setdefault(name, []).append(model.generate(ids, **settings, **way))
        assert torch.equal(*drawn[name])
    assert not torch.equal(drawn["min_p"][0], drawn["epsilon_cutoff"][0])


def test_what_is_broken_names_step_and_row(model):
    model.transformer.positions_embed.weight.data[4] = torch.nan  # three tokens, then two new ones
    ids, mask = torch.tensor([[1, 2, 3], [0, 1, 2]]), torch.tensor([[1, 1, 1], [0, 1, 1]])
    for way in ({}, STATIC):
        with pytest.raises(ValueError, match="step 2, row 0: the largest score is"):
            model.generate(ids, attention_mask=mask, **way)
    cold = {"do_sample": True, "temperature": 1e-45}
    with pytest.raises(ValueError, match="step 0, row 0: .*temperature too close to 0"):
        model.generate(torch.tensor([[1]]), **cold, **STATIC)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("K", "N"), [(768, 96), (42, 10), (7, 1), (16, 4097), (16, 9001)])
def test_split_products_are_those_of_float32_rounded_once(dtype, K, N):
    x, weight = torch.randn(2, K).to(dtype), torch.randn(K, N).to(dtype)
    expected = (x.float() @ weight.float()).to(dtype).float()
    for found in (multiply(x, weight), multiply_embedding(x, weight.T.contiguous())):
        assert found.shape == (2, N) and found.dtype == dtype
        torch.testing.assert_close(found.float(), expected, rtol=0.01, atol=1e-4)


# -- FastGenerator itself, on a GPU with the kernels


@torch.no_grad()
@pytest.mark.parametrize("sizes", [{}, {"n_embd": 48, "n_head": 3}], ids=["even", "odd"])
@pytest.mark.parametrize("B", [1, 3])
def test_both_steps_equal_the_model(B, sizes):
    pytest.importorskip("triton")
    model = random_model(**sizes)
    ids, padding = random_ids(B, 40), torch.tensor([4, 0, 9], device=DEVICE)[:B]
    for by_kernels in (False, True):
        cache = StaticCache(model.config, B, 64, device=DEVICE)
        cache.reset(padding)
        model.next_logits(ids[:, :20], cache)
        if by_kernels:
            found = kernel_step(model.transformer, cache, ids)
        else:
            found = split_step(model.transformer, cache, ids[:, 20])
        for row, front in enumerate(padding.tolist()):
            alone = model.transformer(ids[row : row + 1, front:21]).last_hidden_state[0, -1]
            assert torch.allclose(found[row], alone, atol=1e-4)


@pytest.mark.parametrize("new", [1, 2, CHECK, CHECK + 1, 50])
def test_the_same_texts_as_the_loop(new):
    model, ids = random_model(), random_ids(2, 7)
    fast, expected = FastGenerator(model, 2), model.generate(ids, max_new_tokens=new)
    for _ in range(2):  # nothing is left of the first text
        assert torch.equal(fast(ids, new), expected)
    end = expected[0, 7 + new // 3].item()
    expected = model.generate(ids, max_new_tokens=new, eos_token_id=end)
    assert torch.equal(FastGenerator(model, 2, end=[end])(ids, new), expected)


def test_sampling_draws_from_the_processed_scores():
    model, B = random_model(), 4000
    ids = random_ids(1, 5).expand(B, -1)
    keep = [lambda ids, logits: keep_top_k(logits / 0.8, 5)]
    drawn = FastGenerator(model, B, 8, do_sample=True, processors=keep)(ids, 1)[:, -1]
    expected = B * keep_top_k(model(ids[:1]).logits[0, -1:] / 0.8, 5).softmax(-1)[0]
    counts, kept = drawn.bincount(minlength=50), expected > 0
    assert counts[~kept].sum() == 0
    chi_square = ((counts - expected)[kept].square() / expected[kept]).sum()
    assert chi_square < 23.5  # 4 degrees of freedom, one chance in 10,000


@pytest.mark.parametrize(("B", "T", "new"), [(1, 7, 3), (2, 0, 3), (2, 7, 0), (2, 60, 5)])
def test_what_does_not_fit_is_refused(B, T, new):
    with pytest.raises(ValueError, match=rf"prompts \({B}, {T}\) and max_new_tokens={new}"):
        FastGenerator(random_model(), 2)(random_ids(B, T), new)


def test_a_generator_refuses_a_model_that_was_changed():
    fast = FastGenerator(random_model())
    fast.model.lm_head.register_forward_hook(lambda *inputs: None)
    with pytest.raises(ValueError, match="no fast step, see has_fast_step; call model.generate"):
        fast(random_ids(1, 5), 3)
