"""The exercises of chapter 04, attention."""

import math

import torch

from ..attention import causal_mask
from .compare import Check, some

__all__ = ["attention", "attention_by_hand", "layer", "window_mask"]


def mix_by_hand(divisor=2.0, power=math.exp):
    """Return the result of exercise 1, its two scores made with options."""
    first, second = power(2 * math.log(3) / divisor), power(0.0)
    return round(8 * first / (first + second), 6), round(4 * second / (first + second), 6)


attention_by_hand = Check(
    mix_by_hand,
    mistakes={
        "The scores are not divided by the square root of D.": {"divisor": 1.0},
        "The scores are divided by D itself, not by its square root.": {"divisor": 4.0},
        "The scores are used as attention weights, without the softmax.": {"power": lambda s: s},
        "The values are mixed half and half, whatever the scores are.": {"power": lambda s: 1},
    },
)


def attend(q, k, v, power=0.5, axis=-1, seen=causal_mask, late=False):
    """Causal attention of (.., T, D); the options make the mistakes."""
    mask = seen(q.shape[-2], k.shape[-2])
    scores = q @ k.mT / q.shape[-1] ** power
    if late:
        return scores.softmax(axis) * mask @ v
    return scores.masked_fill(~mask, -torch.inf).softmax(axis) @ v


attention = Check(
    attend,
    [tuple(some(3, 1, 2, 4, 8)), (some(2, 8), *some(2, 5, 8))],
    {
        "The scores are not divided by the square root of D.": {"power": 0},
        "The scores are divided by D itself, not by its square root.": {"power": 1},
        "The softmax runs over the queries; it must run over the keys.": {"axis": -2},
        "The mask comes after the softmax, so the attention weights no longer sum to 1.": {
            "late": True
        },
        "There is no causal mask.": {"seen": lambda T, S: torch.ones(T, S).bool()},
        "The mask is the wrong way round: it hides the past.": {
            "seen": lambda *n: ~causal_mask(*n)
        },
        "The mask starts at the upper left: with fewer queries than keys it hides the past.": {
            "seen": lambda T, S: torch.ones(T, S).bool().tril()
        },
    },
)


def near(T, S, W, shift=None, more=0, ahead=0):
    """Say which keys stand at most W - 1 positions back; the options make the mistakes."""
    lowest = S - T if shift is None else shift
    return torch.ones(T, S).bool().tril(lowest + ahead).triu(lowest - W + 1 - more)


window_mask = Check(
    near,
    [(4, 4, 2), (2, 5, 3)],
    {
        "There are W tokens before it; with itself, the window has one token too many.": {
            "more": 1
        },
        "The token itself is not allowed.": {"ahead": -1},
        "The next token is allowed: nobody may attend to a later one.": {"ahead": 1},
        "The window starts at the upper left: the queries are the last T of S positions.": {
            "shift": 0
        },
        "There is no window: all of the past is allowed.": {"more": 9},
    },
)


def whole_layer(x, c_attn, c_proj, n_head, moved=True, size="D", mixed=True):
    """Apply projections, heads, attention and output matrix; the options make the mistakes."""
    B, T, C = x.shape
    parts = (x @ c_attn).chunk(3, dim=-1)
    if moved:
        parts = [part.unflatten(-1, (n_head, -1)).transpose(1, 2) for part in parts]
    else:
        parts = [part.reshape(B, n_head, T, -1) for part in parts]
    q, k, v = parts
    out = attend(q if size == "D" else q / n_head**0.5, k, v).transpose(1, 2).reshape(B, T, C)
    return out @ c_proj if mixed else out


layer = Check(
    whole_layer,
    [(some(2, 3, 8), some(8, 24), some(8, 8), 2)],
    {
        "Both errors are still there.": {"moved": False, "size": "C"},
        "`reshape` moves no axis: use `split_heads`.": {"moved": False},
        "A query of one head has D channels: divide by the square root of D, not of C.": {
            "size": "C"
        },
        "The output matrix c_proj is missing.": {"mixed": False},
    },
)
