"""The exercises of chapter 06, the model."""

import torch

from ..attention import sdpa_attention
from ..model import GPT, KeyValueCache
from .compare import Check, some
from .materials import SMALL

__all__ = ["cache_size", "cached_step", "embedding", "greedy_writer", "padded_positions"]


def embed(ids, tokens, positions, first=0, by_id=False, times=1):
    """Line 1 of the paper; the options make the mistakes."""
    here = positions[ids] if by_id else positions[first : first + ids.shape[1]]
    return tokens[ids] + here * times


embedding = Check(
    embed,
    [(torch.tensor([[3, 1, 4], [0, 0, 2]]), some(9, 4), some(12, 4) + 1)],
    {
        "The position embedding is missing.": {"times": 0},
        "Positions count from 0, not from 1.": {"first": 1},
        "The row of a position depends on where the token stands, not on its id.": {"by_id": True},
    },
)

cache_size = Check(
    lambda: 2 * 8 * 10 * 256,
    mistakes={
        "The values are kept, too, not only the keys.": 8 * 10 * 256,
        "Each of the 8 layers has keys and values of its own.": 2 * 10 * 256,
        "Do not multiply by 4: the heads share the channels. Count numbers, not bytes.": 163_840,
        "This is one head; the 4 heads together have 256 channels.": 2 * 8 * 10 * 64,
    },
)


def attend_step(q, k, v, old_keys, old_values, front=False, scale=1.0, late=False):
    """Attend from one new position to the old ones and itself; the options make the mistakes."""
    pairs = (old_keys, k), (old_values, v)
    keys, values = (torch.cat(pair[::-1] if front else pair, dim=2) for pair in pairs)
    seen = (old_keys, old_values) if late else (keys, values)
    return sdpa_attention(q * scale, *seen)[0], keys, values


cached_step = Check(
    attend_step,
    [(*some(3, 2, 4, 1, 8), *some(2, 2, 4, 5, 8))],
    {
        "The new position must come after the old ones.": {"front": True},
        "The scores are not divided by the square root of D.": {"scale": 8**0.5},
        "Append first, then attend: the new position also attends to itself.": {"late": True},
    },
    ("the result of attention", "the tensor of keys", "the tensor of values"),
)


def count_positions(padding, axis=1, start=1, lowest=0, real=0, keep=1):
    """Number the real tokens of each text from 0; the options make the mistakes."""
    counted = (padding.clamp(min=real).cumsum(axis) - start).clamp(min=lowest)
    return counted * padding.clamp(min=keep)


padded_positions = Check(
    count_positions,
    [(torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [1, 1, 1, 0, 0]]),)],
    {
        "Positions count from 0: the first real token has position 0.": {"start": 0},
        "Padding before the text gets position 0, not -1.": {"lowest": -1},
        "Count along each text (axis 1), not down the batch.": {"axis": 0},
        "The padding is counted as well.": {"real": 1},
        "Padding after the text repeats the last position.": {"keep": 0},
    },
)


class Counting(GPT):
    """A small GPT that refuses to see more than 10 positions, the tokens of the exercise."""

    seen = 0

    def forward(self, x, positions=None, mask=None, cache=None, **options):
        self.seen += x.shape[1]
        held = 0 if cache is None else len(cache)
        if self.seen > 10:
            raise RuntimeError(f"{self.seen} positions went in, {held} of them are in the cache")
        return super().forward(x, positions, mask, cache, **options)


def write(model, ids, n, at=-1, fresh=0, whole=0, flat=0, best=torch.argmax, start=0):
    """Write greedily with a cache; the options make the mistakes."""
    new, cache = ids, KeyValueCache(model.config.n_layer)
    for _ in range(n):
        cache = KeyValueCache(model.config.n_layer) if fresh else cache
        logits = model(ids if whole else new, cache=cache)[:, at] @ model.tokens_embed.weight.T
        new = best(logits, -1) if flat else best(logits, -1).view(len(ids), -1)
        ids = torch.cat([ids, new], 1)
    return ids[:, start:]


def small_model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Counting(SMALL).eval().requires_grad_(False)
        for parameter in model.parameters():
            parameter.mul_(10 if parameter.ndim == 2 else 1)  # so that it writes various tokens
        return model


greedy_writer = Check(
    write,
    [(small_model(), torch.tensor([[5, 17, 42, 8], [1, 0, 99, 3]]), 6)],
    {
        "Each token must go in only once: use the cache.": {"fresh": 1, "whole": 1},
        "The cache already holds the old tokens: give the model only the new one.": {"whole": 1},
        "The new token goes in alone: then it needs the cache of the earlier calls.": {"fresh": 1},
        "Take the scores of the last position, not of the first.": {"at": 0},
        "Take the scores of the last position, not of all.": {"at": slice(None)},
        "Keep the axis of the positions: the new tokens are (B, 1), not (B,).": {"flat": 1},
        "Take the token with the highest score, not the lowest.": {"best": torch.argmin},
        "Return the prompt, too, not only the new tokens.": {"start": 4},
    },
)
