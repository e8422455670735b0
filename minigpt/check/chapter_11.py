"""The exercises of chapter 11, classification."""

from math import exp, log

import torch

from ..classification import last_real
from .compare import Check, some

__all__ = ["last_position", "mean_state", "three_losses"]

PADDED = torch.tensor([[5, 6, 7, 0, 0], [5, 6, 7, 8, 9], [0, 0, 4, 3, 2], [0, 9, 0, 0, 0]])
SINGLE, HALF = log(1 + exp(-1)), log(2)


def last_of(ids, pad, more=0):
    return last_real(ids != pad) + more


def mean_over(states, is_real, count="own", masked=True):
    """Average states; the options make the mistakes."""
    real = is_real.float()[..., None]  # (B, T, 1)
    counts = {"own": real.sum(-2), "all": states.shape[-2], "batch": real.sum() / len(states)}
    return (states * real if masked else states).sum(-2) / counts[count]


last_position = Check(
    last_of,
    [(PADDED, 0), (PADDED[:2], 9)],
    {
        "This is the number of tokens, not a position.": lambda ids, pad: (ids != pad).sum(-1),
        "The last column is not always a real token.": lambda ids, pad: 0 * ids[:, 0] + 4,
        "This looks for the first padding, which may be in front of the text.": (
            lambda ids, pad: (ids == pad).int().argmax(-1) - 1
        ),
        "This is one position too far: the last position of T tokens is T - 1.": {"more": 1},
        "This counts from the end of the text.": lambda ids, pad: 4 - last_of(ids, pad),
        "This is wrong for padding on the left.": lambda ids, pad: (ids != pad).sum(-1) - 1,
    },
)
three_losses = Check(
    lambda: [SINGLE, (SINGLE + HALF) / 2, 4.0],
    mistakes={
        "Several at once: the mean over the classes, not the sum.": [SINGLE, SINGLE + HALF, 4.0],
        "Several at once: the second class counts, too, with its answer no.": [SINGLE, SINGLE, 4.0],
        "Regression: the error is squared.": [SINGLE, (SINGLE + HALF) / 2, 2.0],
        "One class of several: the loss is minus the logarithm of the probability.": [
            *(exp(-SINGLE), (SINGLE + HALF) / 2, 4.0)
        ],
    },
)
mean_state = Check(
    mean_over,
    [(some(4, 5, 3), PADDED != 0)],
    {
        "Padding is left out of the sum, but still counted in the division.": {"count": "all"},
        "The states at padding are part of the sum.": {"masked": False},
        "This is the mean of all positions, with padding.": {"masked": False, "count": "all"},
        "Each text is divided by its own number of tokens, not by the mean.": {"count": "batch"},
        "This is one mean for the whole batch.": lambda x, is_real: x[is_real].mean(0),
    },
)
