"""The taught loop: windows, schedule, optimizer, training and perplexity of the core's network."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from minigpt.check.materials import ASSETS
from minigpt.config import GPTConfig
from minigpt.lm_head import LanguageModel
from minigpt.pretraining import (
    Recipe,
    learning_rate,
    make_optimizer,
    perplexity,
    train,
    update,
    window_starts,
    windows,
)

SIZES = {"vocab_size": 7, "n_positions": 6, "n_embd": 16, "n_layer": 1, "n_head": 2}
NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
TEXT = torch.arange(700, dtype=torch.int32) % 7  # a text that can be known by heart


def new_model() -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(GPTConfig(**SIZES, **NO_DROPOUT)).eval()


def test_the_recipe_is_the_papers():
    found = vars(Recipe(steps=1))
    paper = {"batch_size": 64, "peak": 2.5e-4, "warmup": 2000, "weight_decay": 0.01}
    assert found == {"steps": 1, **paper, "max_norm": 1.0, "seed": 0}


@pytest.mark.parametrize("ids", [torch.arange(10, dtype=torch.int32), np.arange(10, dtype="u2")])
def test_windows_are_rows_of_the_text_and_the_last_start_is_possible(ids):
    starts = window_starts(10, 4, Recipe(steps=1, batch_size=500), step=0)
    assert set(starts.tolist()) == set(range(7))
    rows = windows(ids, starts, 4)
    assert rows.shape == (500, 4) and rows.dtype == torch.int64
    assert (rows == starts[:, None] + torch.arange(4)).all()


def test_a_text_shorter_than_a_window_is_refused():
    with pytest.raises(ValueError, match="the text has 3 tokens, a window 4; pass more text"):
        window_starts(3, 4, Recipe(steps=1), step=0)


def test_windows_follow_from_seed_and_step_alone():
    def starts(seed, step):
        return window_starts(10_000, 4, Recipe(steps=1, seed=seed), step).tolist()

    torch.manual_seed(1)
    first = starts(0, 5)
    torch.manual_seed(2)
    assert starts(0, 5) == first
    assert len({tuple(starts(seed, step)) for seed in range(3) for step in range(3)}) == 9


def test_the_rate_rises_and_falls_as_the_paper_says():
    rates = [learning_rate(step, Recipe(steps=100, peak=2.0, warmup=20)) for step in range(100)]
    assert rates[0] == 2.0 / 20 and max(rates) == rates[19] == rates[20] == 2.0
    assert rates[60] == pytest.approx(1.0)
    assert rates == sorted(rates[:20]) + sorted(rates[20:])[::-1]
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


@pytest.mark.parametrize(("gradient", "kept"), [((3.0, 4.0), (0.6, 0.8)), ((0.3, 0.4), (0.3, 0.4))])
def test_an_update_sets_the_rate_clips_steps_and_forgets(gradient, kept):
    w = nn.Parameter(torch.zeros(2))
    w.grad, seen = torch.tensor(gradient), []
    optimizer = make_optimizer(nn.ParameterList([w]))

    def take_step():
        seen.append((optimizer.param_groups[1]["lr"], w.grad.tolist()))

    model, recipe = nn.ParameterList([w]), Recipe(steps=10, peak=0.5, warmup=5)
    length = update(model, optimizer, recipe, 1, take_step)
    assert length.item() == pytest.approx(math.hypot(*gradient))
    ((rate, clipped),) = seen
    assert rate == pytest.approx(0.2) and clipped == pytest.approx(kept, rel=1e-5)
    assert w.grad is None and w.tolist() == [0, 0]


def test_training_learns_and_repeats_itself():
    recipe = Recipe(steps=60, batch_size=16, peak=1e-2, warmup=5)
    runs = []
    for _ in range(2):
        model = new_model()
        before = perplexity(model, TEXT)
        runs.append([loss.item() for loss in train(model, TEXT, recipe)])
    assert runs[0] == runs[1] and len(runs[0]) == 60 and not model.training
    assert before > 5 > 2 > perplexity(model, TEXT) > 1


def test_perplexity_is_the_mean_over_all_windows_whatever_the_batch():
    model = new_model()
    whole = model(TEXT[:696].long().view(-1, 6), TEXT[:696].long().view(-1, 6))[1]
    for size in (5, 200):
        found = perplexity(model, TEXT, batch_size=size)
        assert found == pytest.approx(math.exp(whole.item()), rel=1e-5)


def test_perplexity_leaves_out_the_rest_and_takes_another_loss():
    seen = []

    def loss_of(batch):
        seen.append(batch.shape)
        return torch.tensor(math.log(3))

    assert perplexity(new_model(), TEXT[:13], loss_of) == pytest.approx(3)
    assert seen == [(2, 6)]


def test_what_the_chapter_tells_of_earlier_runs_is_small_and_whole():
    path = ASSETS / "pretraining.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    assert len(path.read_bytes()) < 30_000
    for run in record["three runs on 593 novels"].values():
        assert len(run["loss_every_100_steps"]) == run["steps"] // 100


def test_the_plays_are_plain_text():
    books = sorted((ASSETS / "plays" / "books").glob("*.txt"))
    held_out = sorted((ASSETS / "plays" / "held_out").glob("*.txt"))
    assert [path.stem for path in held_out] == ["macbeth"] and len(books) == 6
    for path in books + held_out:
        text = path.read_bytes().decode("ascii")
        assert "\r" not in text and not set("*_#\\") & set(text)
