"""Generation against transformers' own `generate`, on the same random weights."""

import random

import pytest
import torch

from tests import parity

V = 31  # few tokens, so that an end token, a repeated n-gram and a full beam come often
SETTINGS = {
    "greedy": {},
    "beams": {"num_beams": (2, 3, 5), "length_penalty": (-1.0, 0.0, 0.6, 1.0, 2.0)},
}


@pytest.fixture(scope="module")
def pair():
    theirs, ours = parity.random_pair(vocab_size=V, n_embd=32, n_layer=2, initializer_range=0.3)
    return theirs, ours


def random_settings(seed: int) -> dict:
    """A method and its settings, another one for each seed."""
    dice = random.Random(seed)
    settings = {
        "max_new_tokens": dice.randint(5, 25),
        "eos_token_id": dice.choice([None, 3, [3, 7], [3, 7, 11, 12]]),
        "repetition_penalty": dice.choice([1.0, 1.3, 0.8]),
        "no_repeat_ngram_size": dice.choice([0, 1, 2, 3]),
        "min_new_tokens": dice.choice([None, 4]),
    }
    if seed % 2:
        K = dice.choice([2, 3, 5])
        settings |= {
            "num_beams": K,
            "num_return_sequences": dice.choice([1, K]),
            "length_penalty": dice.choice([-1.0, 0.0, 0.6, 1.0, 2.0]),
            "early_stopping": dice.choice([True, False, "never"]),
        }
    return {"do_sample": False, "pad_token_id": 5} | settings


@pytest.mark.parametrize("seed", range(80))
def test_ids_equal_transformers(pair, seed):
    theirs, ours = pair
    torch.manual_seed(seed)
    ids = torch.randint(V, (1 + seed % 3, 1 + seed % 6))
    settings = random_settings(seed)
    expected = theirs.generate(ids, attention_mask=torch.ones_like(ids), **settings)
    assert torch.equal(ours.generate(ids, **settings), expected)
    assert torch.equal(ours.generate(ids, use_cache=False, **settings), expected)
