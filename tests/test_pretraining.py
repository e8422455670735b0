"""The taught loop: windows, schedule, optimiser, training and perplexity of the core's network."""

import math

import pytest
import torch
from torch import nn

from minigpt.config import GPTConfig
from minigpt.lm_head import LanguageModel
from minigpt.pretraining import Recipe, learning_rate, make_optimizer, perplexity, train, windows

SIZES = {"vocab_size": 7, "n_positions": 6, "n_embd": 16, "n_layer": 1, "n_head": 2}
NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
TEXT = torch.arange(700, dtype=torch.int32) % 7  # a text that can be known by heart


def new_model() -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(GPTConfig(**SIZES, **NO_DROPOUT)).eval()


def test_windows_are_rows_of_the_text_and_the_last_start_is_possible():
    rows = windows(torch.arange(10), 500, 4, torch.Generator().manual_seed(0))
    assert rows.shape == (500, 4) and rows.dtype == torch.int64
    assert (rows - rows[:, :1] == torch.arange(4)).all()
    assert set(rows[:, 0].tolist()) == set(range(7))
    with pytest.raises(ValueError, match="the text has 3 tokens, a window 4; pass more text"):
        windows(torch.arange(3), 1, 4, torch.Generator())


def test_the_rate_rises_and_falls_as_the_paper_says():
    rates = [learning_rate(step, Recipe(steps=100, peak=2.0, warmup=20)) for step in range(100)]
    assert rates[0] == 2.0 / 20 and max(rates) == rates[19] == rates[20] == 2.0
    assert (
        rates[60] == pytest.approx(1.0) and rates == sorted(rates[:20]) + sorted(rates[20:])[::-1]
    )
    assert rates[99] == pytest.approx(1 + math.cos(math.pi * 79 / 80))


def test_decay_is_decoupled_and_for_matrices_alone():
    layer = nn.Linear(1, 1)
    nn.init.constant_(layer.weight, 2.0), nn.init.constant_(layer.bias, 2.0)
    optimizer = make_optimizer(layer, weight_decay=0.1)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    layer(torch.tensor([[5.0]])).sum().backward()
    optimizer.step()  # the first step of Adam is as long as the rate, whatever the gradient
    assert layer.weight.item() == pytest.approx(2.0 - 0.1 * 0.1 * 2.0 - 0.1)
    assert layer.bias.item() == pytest.approx(2.0 - 0.1)


def test_training_learns_and_repeats_itself():
    recipe = Recipe(steps=60, batch_size=16, peak=1e-2, warmup=5)
    runs = []
    for _ in range(2):
        model = new_model()
        before = perplexity(model, TEXT)
        runs.append([loss.item() for loss in train(model, TEXT, recipe)])
    assert runs[0] == runs[1] and len(runs[0]) == 60 and not model.training
    assert before > 5 > 2 > perplexity(model, TEXT) > 1


def test_another_way_to_compute_the_loss_is_used():
    model, seen = new_model(), []

    def loss_of(batch):
        seen.append(batch.shape)
        return model(batch, batch)[1]

    list(train(model, TEXT, Recipe(steps=2, batch_size=3, warmup=1), loss_of))
    perplexity(model, TEXT[:13], loss_of)  # two whole windows; the token behind them is left out
    assert seen == [(3, 6), (3, 6), (2, 6)]


def test_perplexity_is_the_mean_over_all_windows_whatever_the_batch():
    model = new_model()
    whole = model(TEXT[:696].long().view(-1, 6), TEXT[:696].long().view(-1, 6))[1]
    for size in (5, 200):
        found = perplexity(model, TEXT, batch_size=size)
        assert found == pytest.approx(math.exp(whole.item()), rel=1e-5)
