"""The exercises of chapter 04, attention."""

import math

import torch

from ..attention import merge_heads, split_heads
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


def near(T, S, W=99, upper=1, lower=1, more=0, ahead=0):
    """Say which keys stand at most W - 1 positions back; the options make the mistakes."""
    shift, ones = S - T, torch.ones(T, S).bool()
    return ones.tril(upper * shift + ahead).triu(lower * shift - W + 1 - more)


def all_axes(k):
    return k.permute(*reversed(range(k.dim())))


def attend(q, k, v, power=0.5, axis=-1, late=False, turn=torch.adjoint, flip=False, **mask):
    """Causal attention of (.., T, D); the options make the mistakes."""
    mask = near(q.shape[-2], k.shape[-2], **mask) ^ flip
    scores = q @ turn(k) / q.shape[-1] ** power
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
        "The mask comes after the softmax: the attention weights do not sum to 1.": {"late": True},
        "`.T` turns all axes; `transpose(-2, -1)` only the last two.": {"turn": all_axes},
        "There is no causal mask.": {"ahead": 9},
        "The mask is the wrong way round: it hides the past.": {"flip": True},
        "The mask counts from the upper left; the queries are the last T positions.": {"upper": 0},
    },
)
window_mask = Check(
    near,
    [(4, 4, 2), (2, 5, 3)],
    {
        "There are W tokens before it; with itself, that is one token too many.": {"more": 1},
        "The token itself is not allowed.": {"ahead": -1},
        "The next token is allowed: nobody may attend to a later one.": {"ahead": 1},
        "The window counts from the upper left: S - T is missing.": {"upper": 0, "lower": 0},
        "The far end of the window counts from the upper left: S - T is missing.": {"lower": 0},
        "There is no window: all of the past is allowed.": {"more": 9},
    },
)


def whole_layer(x, c_attn, c_proj, n_head, moved=True, size="D", mixed=True):
    """Apply projections, heads, attention and output matrix; the options make the mistakes."""
    B, T, C = x.shape
    parts = (x @ c_attn).chunk(3, dim=-1)
    wrong = [part.reshape(B, n_head, T, -1) for part in parts]
    q, k, v = [split_heads(part, n_head) for part in parts] if moved else wrong
    out = merge_heads(attend(q if size == "D" else q / n_head**0.5, k, v))
    return out @ c_proj if mixed else out


layer = Check(
    whole_layer,
    [(some(2, 3, 8), some(8, 24), some(8, 8), 2)],
    {
        "Both errors are still there.": {"moved": False, "size": "C"},
        "`reshape` moves no axis: use `split_heads`.": {"moved": False},
        "The query of a head has D channels: divide by the square root of D, not of C.": {
            "size": "C"
        },
        "The output matrix c_proj is missing.": {"mixed": False},
    },
)
