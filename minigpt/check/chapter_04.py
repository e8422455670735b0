"""The exercises of chapter 04, attention."""

import torch

from ..attention import causal_mask
from .compare import Check, some

__all__ = ["attention"]


def attend(q, k, v, power=0.5, axis=-1, seen=causal_mask, late=False):
    """Causal attention of (.., T, D); the options make the mistakes."""
    mask = seen(q.shape[-2], k.shape[-2])
    scores = q @ k.mT / q.shape[-1] ** power
    if late:
        return scores.softmax(axis) * mask @ v
    return scores.masked_fill(~mask, -torch.inf).softmax(axis).nan_to_num() @ v


attention = Check(
    attend,
    [tuple(some(3, 1, 2, 4, 8)), (some(2, 8), *some(2, 5, 8))],
    {
        "The scores are not divided by the square root of D.": {"power": 0},
        "The scores are divided by D itself, not by its square root.": {"power": 1},
        "The softmax runs over the queries; it must run over the keys.": {"axis": -2},
        "The mask comes after the softmax, so the weights no longer sum to 1.": {"late": True},
        "There is no causal mask.": {"seen": lambda T, S: torch.ones(T, S).bool()},
        "The mask starts at the upper left: with fewer queries than keys it hides the past.": {
            "seen": lambda T, S: torch.ones(T, S).bool().tril()
        },
    },
)
