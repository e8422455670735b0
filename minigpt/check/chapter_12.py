"""The exercises of chapter 12, tasks."""

import torch

from ..tasks import Specials, shorten, similarity
from .compare import Check

__all__ = ["f1_by_hand", "lengths_left", "row_labels", "rows_by_hand"]

PADDED = torch.tensor([[[7, 0, 3, 9, 0, 0], [7, 1, 9, 0, 0, 0]]])
ENDS = torch.tensor([[3, 2]])


def left(n, m, room, cut=shorten):
    return tuple(map(len, cut([[1] * n, [2] * m], room)))


def halves(parts, room):
    """Cut each part to half of the room, even if the other is short."""
    return [part[: room // 2] for part in parts] if sum(map(len, parts)) > room else parts


def labelled(ids, ends, more=0, value=-100):
    """Hide what is behind the ends; the options make the mistakes."""
    return ids.masked_fill(torch.arange(ids.shape[-1]) > ends[..., None] + more, value)


rows_by_hand = Check(
    lambda: similarity([1, 2], [3], Specials(7, 8, 9), 9),
    mistakes={
        "Similarity needs two rows, one for each order.": [[7, 1, 2, 8, 3, 9]],
        "The given order comes first.": [[7, 3, 8, 1, 2, 9], [7, 1, 2, 8, 3, 9]],
        "The delimiter between the texts is missing.": [[7, 1, 2, 3, 9], [7, 3, 1, 2, 9]],
        "The extract token is missing: there the head reads.": [[7, 1, 2, 8, 3], [7, 3, 8, 1, 2]],
        "Only the texts change places, not their tokens.": [[7, 1, 2, 8, 3, 9], [7, 3, 8, 2, 1, 9]],
    },
)
lengths_left = Check(
    left,
    [(9, 4, 10), (9, 4, 7), (4, 9, 10), (4, 9, 7), (3, 3, 5), (2, 3, 9), (5, 0, 3), (1, 1, 1)],
    {
        "Texts that fit together are not cut.": lambda n, m, room: left(n + room, m + room, room),
        "A text may have more than half of the room if the other is short.": {"cut": halves},
        "This always cuts the first text; the longer one is cut.": (
            lambda n, m, room: (min(n, max(room - m, 0)), min(m, room))
        ),
        "Where both are equally long, the first is cut.": lambda n, m, room: left(m, n, room)[::-1],
        "Both are cut in proportion here; the longer one is cut first.": lambda n, m, room: (
            (n, m) if n + m <= room else (room * n // (n + m), room - room * n // (n + m))
        ),
    },
)
f1_by_hand = Check(
    lambda: [0.7, 2 / 3, 8 / 11],
    mistakes={
        "Accuracy: true positives and true negatives are both right.": [0.3, 2 / 3, 8 / 11],
        "F1 is not the precision.": [0.7, 0.75, 2 / 3],
        "F1 is not the recall.": [0.7, 0.6, 0.8],
        "Exchanging the names changes F1.": [0.7, 2 / 3, 2 / 3],
        "After the exchange, the true negatives are the true positives.": [0.7, 2 / 3, 0.8],
    },
)
row_labels = Check(
    labelled,
    [(PADDED, ENDS)],
    {
        "The extract token itself is a label, too.": {"more": -1},
        "This hides one position too few.": {"more": 1},
        "What does not count has the label -100.": {"value": 0},
        "A token of the text may have the same id as the padding; use the ends.": (
            lambda ids, ends: ids.masked_fill(ids == 0, -100)
        ),
        "The loss shifts the labels by itself.": (
            lambda ids, ends: labelled(ids, ends).roll(-1, -1)
        ),
    },
)
