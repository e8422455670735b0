"""The network without options: caches, masks, and what passes by; the first head."""

import pytest
import torch

from minigpt.attention import make_mask
from minigpt.config import GPTConfig
from minigpt.lm_head import LanguageModel, next_token_loss, shift_labels
from minigpt.model import GPT, KeyValueCache

SMALL = GPTConfig(vocab_size=31, n_positions=16, n_embd=16, n_layer=2, n_head=2)


def make(kind=GPT, config=SMALL):
    torch.manual_seed(0)
    return kind(config).eval().requires_grad_(False)


def some_ids(*shape):
    return torch.randint(SMALL.vocab_size, shape)


@pytest.mark.parametrize("parts", [[1] * 9, [4, 5], [9]])
def test_a_cache_changes_nothing(parts):
    model, ids, cache = make(), some_ids(2, 9), KeyValueCache(2)
    states = [model(part, cache=cache) for part in ids.split(parts, dim=1)]
    torch.testing.assert_close(torch.cat(states, dim=1), model(ids))
    assert len(cache) == 9


def test_a_cut_cache_forgets():
    model, ids, cache = make(), some_ids(2, 9), KeyValueCache(2)
    cache.crop(3)  # nothing there yet
    model(torch.cat([ids[:, :4], some_ids(2, 5)], dim=1), cache=cache)
    cache.crop(4)
    torch.testing.assert_close(model(ids[:, 4:], cache=cache), model(ids)[:, 4:])


def test_a_reordered_cache_continues_other_texts():
    model, ids, cache = make(), some_ids(2, 9), KeyValueCache(2)
    model(ids[:, :4], cache=cache)
    rows = torch.tensor([1, 0, 1])
    cache.reorder(rows)
    torch.testing.assert_close(model(ids[rows, 4:], cache=cache), model(ids[rows])[:, 4:])


def test_padding_on_the_left_needs_mask_and_positions():
    model, ids = make(), some_ids(1, 5)
    padded = torch.cat([some_ids(1, 3), ids], dim=1)
    mask = make_mask(8, 8, torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1]]))
    positions = torch.tensor([[0, 0, 0, 0, 1, 2, 3, 4]])
    torch.testing.assert_close(model(padded, positions, mask)[:, 3:], model(ids))
    assert not torch.allclose(model(padded, None, mask)[:, 3:], model(ids), atol=1e-3)


def test_attention_weights_pass_by_on_request():
    model, seen = make(), []
    x = model(some_ids(2, 5), watch=lambda x, weights: seen.append(weights), need_weights=True)
    assert x.shape == (2, 5, 16) and seen[0] is None
    assert [tuple(weights.shape) for weights in seen[1:]] == [(2, 2, 5, 5)] * 2


# -- the first head


def test_the_head_is_the_embedding():
    model = make(LanguageModel)
    assert model.lm_head.weight is model.transformer.tokens_embed.weight


def test_the_loss_is_the_mean_surprise():
    model, ids = make(LanguageModel), some_ids(1, 6)
    logits, loss = model(ids, labels=ids)
    log_probabilities = logits.log_softmax(-1)
    surprise = [-log_probabilities[0, t, ids[0, t + 1]] for t in range(5)]
    torch.testing.assert_close(loss, torch.stack(surprise).mean())


def test_ignored_labels_do_not_count():
    logits, labels = torch.randn(1, 4, 7), torch.tensor([[3, -100, 5, -100]])
    expected = -logits[0, 1].log_softmax(-1)[5]
    torch.testing.assert_close(next_token_loss(logits, labels), expected)
    assert shift_labels(labels).tolist() == [[-100, 5, -100, -100]]
