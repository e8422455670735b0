"""The core's double heads: one position of a text, choices, and the losses of both heads."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt.config import GPTConfig
from minigpt.double_heads import DoubleHeads, SequenceSummary, choice_loss, state_at
from minigpt.lm_head import next_token_loss
from tests.helpers import largest_difference

SIZES = {"vocab_size": 60, "n_positions": 16, "n_embd": 32, "n_layer": 2, "n_head": 4}


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_state_at_picks_what_a_loop_picks(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 3), min_size=0, max_size=3)))
    length = data.draw(st.integers(1, 5))
    states, index = torch.randn(*shape, length, 4), torch.randint(length, shape)
    found = state_at(states, index)
    for text in np.ndindex(*shape):
        assert torch.equal(found[text], states[text][index[text]])
    assert torch.equal(state_at(states), states[..., -1, :])


def test_ignored_questions_do_not_count():
    scores = torch.randn(3, 2)
    part = choice_loss(scores[:2], torch.tensor([1, 0]))
    assert torch.equal(choice_loss(scores, torch.tensor([1, 0, -100])), part)


def test_a_new_head_starts_near_zero():
    summary = SequenceSummary(400, std=0.1).summary
    assert abs(summary.weight.std().item() - 0.1) < 0.02 and summary.bias.eq(0).all()


def test_both_heads_and_both_losses():
    model = DoubleHeads(GPTConfig(**SIZES)).eval()
    ids, index = torch.randint(60, (3, 2, 9)), torch.randint(9, (3, 2))
    logits, scores, loss, mc_loss = model(ids, index, ids, torch.tensor([0, 1, 1]))
    assert logits.shape == (3, 2, 9, 60) and scores.shape == (3, 2)
    assert torch.equal(loss, next_token_loss(logits, ids))
    assert torch.equal(mc_loss, choice_loss(scores, torch.tensor([0, 1, 1])))
    assert model(ids)[2:] == (None, None)
    for question in range(3):  # each text is judged alone, up to its own position
        for choice in range(2):
            text = ids[None, None, question, choice, : index[question, choice] + 1]
            alone = model(text)[1][0, 0]
            assert largest_difference(alone, scores[question, choice]) < 1e-5
