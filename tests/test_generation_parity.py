"""Generation against transformers' own `generate`, on the same random weights."""

import random
from collections import Counter

import pytest
import torch

from tests import parity

V = 31  # few tokens, so that an end token, a repeated n-gram and full beams come often


@pytest.fixture(scope="module")
def pair():
    return parity.random_pair(vocab_size=V, n_embd=32, n_layer=2, initializer_range=0.3)


def random_settings(seed: int) -> dict:
    """Settings of every kind, drawn anew for each seed; the odd ones search with beams."""
    dice = random.Random(seed)
    settings = {
        "max_new_tokens": dice.randint(5, 25),
        "eos_token_id": dice.choice([None, 3, [3, 7], [3, 7, 11, 12], list(range(6, 14))]),
        "repetition_penalty": dice.choice([1.0, 1.0, 1.3, 0.8]),
        "no_repeat_ngram_size": dice.choice([0, 0, 1, 2, 3]),
        "min_new_tokens": dice.choice([None, None, 4]),
    }
    if seed % 2:
        K = dice.choice([2, 3, 5])
        settings["eos_token_id"] = dice.choice([[3, 7], list(range(6, 14)), list(range(6, 22))])
        settings |= {
            "num_beams": K,
            "num_return_sequences": dice.choice([1, K]),
            "length_penalty": dice.choice([-1.0, 0.0, 0.6, 1.0, 2.0]),
            "early_stopping": dice.choice([True, False, "never"]),
        }
    return {"do_sample": False, "pad_token_id": 5} | settings


def random_prompts(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(V, (1 + seed % 3, 1 + seed % 6), generator=generator)


def ask_theirs(theirs, ids, **settings):
    return theirs.generate(ids, attention_mask=torch.ones_like(ids), **settings)  # 5 is a token


@pytest.mark.parametrize("seed", range(80))
def test_ids_equal_transformers_with_and_without_cache(pair, seed):
    theirs, ours = pair
    ids, settings = random_prompts(seed), random_settings(seed)
    expected = ask_theirs(theirs, ids, **settings)
    assert torch.equal(ours.generate(ids, **settings), expected)
    assert torch.equal(ours.generate(ids, use_cache=False, **settings), expected)


def test_the_settings_above_are_a_test(pair):
    """Each of them changes some text, and many texts end early."""
    changed, early = Counter(), 0
    for seed in range(80):
        ids, settings = random_prompts(seed), random_settings(seed)
        text = pair[1].generate(ids, **settings)
        early += text.shape[-1] < ids.shape[-1] + settings["max_new_tokens"]
        kept = {"max_new_tokens", "do_sample", "pad_token_id", "num_beams", "num_return_sequences"}
        for name in settings.keys() - kept:
            without = {key: value for key, value in settings.items() if key != name}
            changed[name] += not torch.equal(text, pair[1].generate(ids, **without))
    assert min(changed.values()) >= 3 and early >= 20, (changed, early)


@pytest.mark.parametrize("seed", range(12))
def test_scores_equal_transformers(pair, seed):
    theirs, ours = pair
    ids, settings = random_prompts(seed), random_settings(seed)
    settings |= {"output_scores": True, "return_dict_in_generate": True}
    out, expected = ours.generate(ids, **settings), ask_theirs(theirs, ids, **settings)
    assert len(out.scores) == len(expected.scores)
    steps = list(zip(out.scores, expected.scores, strict=True))
    if "num_beams" in settings:  # later steps hold dead beams, in another order
        steps = steps[:1]
        assert torch.allclose(out.sequences_scores, expected.sequences_scores, rtol=1e-5)
    for a, b in steps:
        assert torch.equal(a.isinf(), b.isinf())
        assert parity.largest_difference(a.nan_to_num(neginf=0), b.nan_to_num(neginf=0)) < 1e-5


SAMPLING = [
    {},
    {"top_k": 0},
    {"temperature": 0.6, "top_k": 7},
    {"temperature": 1.7, "top_p": 0.8, "top_k": None},
    {"top_k": 20, "top_p": 0.6, "repetition_penalty": 1.4},
    {"no_repeat_ngram_size": 1, "min_new_tokens": 1, "eos_token_id": [2, 9], "pad_token_id": 0},
]


def chi_square(drawn: torch.Tensor, p: torch.Tensor) -> float:
    """How far counts (V,) are from what probabilities (V,) let expect, in standard deviations."""
    assert drawn[p == 0].sum() == 0  # what is impossible never comes
    expected, drawn = (p * drawn.sum())[p > 0], drawn[p > 0]
    statistic = ((drawn - expected) ** 2 / expected).sum().item()
    freedom = len(expected) - 1
    return (statistic - freedom) / max(1, 2 * freedom) ** 0.5


@pytest.mark.parametrize("settings", SAMPLING)
def test_samples_come_as_often_as_transformers_own_distribution_says(pair, settings):
    theirs, ours = pair
    ids = torch.tensor([[4, 8, 15, 16, 23]])
    wanted = {"max_new_tokens": 1, "do_sample": True} | settings
    named = {"output_scores": True, "return_dict_in_generate": True}
    p, mine = (
        ask(**wanted, **named).scores[0].softmax(-1)[0]
        for ask in (lambda **x: ask_theirs(theirs, ids, **x), lambda **x: ours.generate(ids, **x))
    )
    assert parity.largest_difference(mine, p) < 1e-6
    generator = torch.Generator().manual_seed(0)
    drawn = ours.generate(ids, num_return_sequences=20_000, generator=generator, **wanted)[:, -1]
    assert chi_square(drawn.bincount(minlength=V).double(), p.double()) < 4


def test_the_chi_square_test_can_fail():
    p = torch.full((V,), 1 / V, dtype=torch.double)
    counts = (p * 20_000).round()
    counts[:5] += 150
    assert chi_square(counts, p) > 4


def test_drawn_beams_are_as_often_as_those_of_transformers(pair):
    """Two beams, two tokens, drawn many times from both: the same texts, about as often."""
    theirs, ours = pair
    ids = torch.tensor([[4, 8, 15]]).expand(3000, -1)
    settings = {"max_new_tokens": 2, "do_sample": True, "num_beams": 2, "top_k": 4}
    torch.manual_seed(0)
    counts = [
        Counter(map(tuple, ask(ids, **settings)[:, 3:].tolist()))
        for ask in (ours.generate, lambda ids, **x: ask_theirs(theirs, ids, **x))
    ]
    for text in counts[0] | counts[1]:
        a, b = counts[0][text], counts[1][text]
        assert abs(a - b) < 5 * (a + b + 1) ** 0.5, (text, a, b)


def test_ids_equal_transformers_at_full_size():
    sizes = {"vocab_size": 40478, "n_positions": 512, "n_embd": 768, "n_layer": 12, "n_head": 12}
    theirs, ours = parity.random_pair(**sizes)
    ids = torch.randint(40478, (2, 7))
    for method in ({"no_repeat_ngram_size": 2}, {"num_beams": 3, "no_repeat_ngram_size": 2}):
        settings = {"max_new_tokens": 5, "do_sample": False, **method}
        assert torch.equal(ours.generate(ids, **settings), ask_theirs(theirs, ids, **settings))
