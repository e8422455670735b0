"""The exercises of chapter 03, the config."""

import math

import torch

from ..config import GPTConfig
from .compare import Check, some
from .materials import TINY

__all__ = ["analogy", "attention_parameters", "blocks_that_fit", "similarity"]

attention_parameters = Check(
    lambda: 4 * 256**2 + 4 * 256,
    mistakes={
        "The biases are missing.": 4 * 256**2,
        "This is the attention of all 8 blocks.": 8 * (4 * 256**2 + 4 * 256),
        "This is only c_attn: c_proj is missing.": 3 * 256**2 + 3 * 256,
        "This is the whole block, with its MLP and layer norms.": 12 * 256**2 + 13 * 256,
    },
)


def blocks(config, size, width, embeddings=1, biases=13, up=0, full=math.floor, bytewise=False):
    """Return how many blocks fit into `size` bytes; the options make the mistakes."""
    C = config.n_embd
    free = size // (1 if bytewise else width)
    free -= embeddings * (config.vocab_size + config.n_positions) * C
    return float(full(free / (12 * C * C + biases * C)) + up)


blocks_that_fit = Check(
    blocks,
    [(TINY, 17_092_608, 2), (GPTConfig(), 10**9, 4), (TINY, 478_312_446, 2)],
    {
        "The embeddings need room, too.": {"embeddings": 0},
        "A block has biases and layer norms, too: 12 C² + 13 C parameters.": {"biases": 0},
        "This is one block too many: the last one does not fit.": {"up": 1},
        "Round down: a part of a block is of no use.": {"full": float},
        "Each parameter takes `width` bytes, not one.": {"bytewise": True},
    },
)


def cosine(x, Y, of_x=True, of_Y=True, power=1, dim=1):
    """Return cosine similarities; the options make the mistakes."""
    length = (x.norm() if of_x else 1) * (Y.norm(dim=dim) if of_Y else 1)
    return Y @ x / length**power


similarity = Check(
    cosine,
    [(some(4), some(5, 4)), (3 * some(8), some(3, 8))],
    {
        "This is the dot product: divide by both lengths.": {"of_x": False, "of_Y": False},
        "The length of x is missing.": {"of_x": False},
        "The lengths of the rows are missing.": {"of_Y": False},
        "`Y.norm()` is the length of the whole matrix; take each row's (dim=1).": {"dim": None},
        "The lengths are squared: `norm` has the square root inside already.": {"power": 2},
    },
)


def nearest(rows, a, b, c, excluded=True, signs=(1, -1, 1), largest=True):
    """Return the row closest to rows[a] - rows[b] + rows[c]; the options make the mistakes."""
    likeness = rows @ sum(sign * rows[n] for sign, n in zip(signs, (a, b, c), strict=True))
    if excluded:
        likeness[[a, b, c]] = -torch.inf if largest else torch.inf
    return float(likeness.argmax() if largest else likeness.argmin())  # int or tensor will do


SPHERE = some(40, 6) / some(40, 6).norm(dim=1, keepdim=True)

analogy = Check(
    nearest,
    [(SPHERE, n, n + 1, n + 2) for n in range(8)],
    {
        "One of the three words themselves was found: leave them out.": {"excluded": False},
        "The signs are wrong: it is a - b + c.": {"signs": (1, 1, -1)},
        "The signs are wrong: b is subtracted, a and c are added.": {"signs": (-1, 1, 1)},
        "This is the least similar row: take the largest similarity.": {"largest": False},
    },
)
