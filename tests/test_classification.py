"""The core's classifier: where a text ends, and three kinds of labels."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt.classification import Classifier, classification_loss, last_real, problem_of
from minigpt.config import GPTConfig
from tests.helpers import largest_difference

SIZES = {"vocab_size": 60, "n_positions": 16, "n_embd": 32, "n_layer": 2, "n_head": 4}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=4))
def test_last_real_is_what_a_loop_finds(rows):
    expected = [max((t for t, real in enumerate(row) if real), default=0) for row in rows]
    assert last_real(torch.tensor(rows)).tolist() == expected


@pytest.mark.parametrize(
    "problem, labels", [(None, torch.zeros(4, 1)), ("regression", torch.zeros(4))]
)
def test_a_single_output_takes_either_shape(problem, labels):
    """Numbers (B,) against logits (B, 1) are compared one by one, not all with all."""
    logits = torch.randn(4, 1)
    found = classification_loss(logits, labels, problem)
    assert largest_difference(found, logits.square().mean()) < 1e-6


def test_ignored_texts_do_not_count():
    logits = torch.randn(3, 4)
    found = classification_loss(logits, torch.tensor([2, -100, 0]))
    expected = classification_loss(logits[[0, 2]], torch.tensor([2, 0]))
    assert largest_difference(found, expected) < 1e-6


def test_whole_numbers_serve_as_quantities():
    assert problem_of(torch.tensor([4]), 1) == "regression"
    assert classification_loss(torch.tensor([[2.0]]), torch.tensor([4])).item() == 4


def test_scores_are_read_at_the_ends():
    model = Classifier(GPTConfig(**SIZES), num_labels=3).eval()
    ids, ends, labels = torch.randint(60, (4, 9)), torch.tensor([8, 5, 0, 2]), torch.arange(4) % 3
    logits, loss = model(ids, ends, labels)
    assert logits.shape == (4, 3) and loss == classification_loss(logits, labels)
    for row, end, scores in zip(ids, ends, logits, strict=True):
        alone, no_loss = model(row[None, : end + 1])
        assert largest_difference(alone[0], scores) < 1e-5 and no_loss is None


def test_a_new_head_starts_as_the_config_says():
    config = GPTConfig(**SIZES | {"n_embd": 400}, initializer_range=0.1)
    score = Classifier(config, num_labels=10).score
    assert abs(score.weight.std().item() - 0.1) < 0.01 and score.bias is None
