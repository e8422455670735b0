"""The exercises of chapter 13, fine-tuning."""

from ..finetuning import FineTuning, falling_rate
from .compare import Check, some

__all__ = ["padding_count", "rates_by_hand", "row_scores", "transferred"]


def rates(steps=(1, 10, 55, 100), warmup=0.1, rate=1.0):
    recipe = FineTuning(steps=100, rate=rate, warmup=warmup)
    return [falling_rate(step - 1, recipe) for step in steps]


def scored(vectors, weight, chooses, both=False, mean=False, axis=1):
    """Score rows; the options make the mistakes."""
    found = vectors @ weight.T  # (B, K, C), (L, C) -> (B, K, L)
    if chooses or both:
        return found[..., 0]
    return found.mean(axis) if mean else found.sum(axis)


def padding(lengths, size, arrange=sorted, longest=max, drop=False):
    """Count padding in batches; the options make the mistakes."""
    lengths, end = arrange(lengths), len(lengths) // size * size if drop else len(lengths)
    batches = [lengths[i : i + size] for i in range(0, end, size)]
    return sum(longest(batch) * len(batch) - sum(batch) for batch in batches)


def block_of(name):
    return int(name.split(".")[1]) if name.startswith("h.") else -1


def kept(names, n, least=-1, by_prefix=False):
    """The names of the first n blocks and what is before them; the options make the mistakes."""
    if by_prefix:
        first = tuple(f"h.{k}" for k in range(n))
        return [name for name in names if name.startswith(first) or block_of(name) < 0]
    return [name for name in names if least <= block_of(name) < n]


NAMES = ["tokens_embed.weight", "positions_embed.weight"]
NAMES += [f"h.{n}.{part}" for n in range(12) for part in ("attn.c_attn.weight", "ln_1.bias")]

rates_by_hand = Check(
    rates,
    mistakes={
        "In OpenAI's code the factor 1 - x holds during the warm-up, too.": ([0.1, 1.0, 0.45, 0.0]),
        "Count the steps from 1: at the first of 100, x is 0.01.": [0.0, 0.9 * 0.91, 0.46, 0.01],
        "The line falls to 0 at x = 1, not from the end of the warm-up.": [0.1, 1.0, 0.5, 0.0],
        "The warm-up is missing.": [0.99, 0.9, 0.45, 0.0],
    },
)
row_scores = Check(
    scored,
    [(some(2, 3, 4), some(5, 4), False), (some(2, 3, 4), some(1, 4), True)],
    {
        "The rows are added, not averaged.": {"mean": True},
        "This adds the classes; the rows are added.": {"axis": -1},
        "Scores of rows are only kept apart if the model chooses.": {"both": True},
        "If the model chooses, each row keeps its own score.": lambda v, w, c: scored(v, w, False),
    },
)
padding_count = Check(
    padding,
    [([3, 9, 4, 8, 5], 2), ([3, 9, 4, 8, 5], 3), ([7, 1, 7, 1, 7, 1, 2], 3), ([4, 4], 5)],
    {
        "The examples were not sorted by length.": {"arrange": list},
        "A batch is as long as its longest row, not as the longest of all.": (
            lambda lengths, size: max(lengths) * len(lengths) - sum(lengths)
        ),
        "The last batch is shorter, but it counts.": {"drop": True},
        "This counts all positions; padding is what is left without the tokens.": (
            lambda lengths, size: padding(lengths, size) + sum(lengths)
        ),
    },
)
transferred = Check(
    kept,
    [(NAMES, 2), (NAMES, 0), (NAMES, 12)],
    {
        "The prefix h.1 also fits h.10 and h.11; compare numbers.": {"by_prefix": True},
        "The embeddings are transferred, too.": {"least": 0},
        "With n = 2, these are blocks 0 and 1.": lambda names, n: kept(names, n + 1),
        "Both embeddings are transferred, tokens and positions.": lambda names, n: [
            name for name in kept(names, n) if not name.startswith("positions")
        ],
        "These are the names that stay random.": lambda names, n: [
            name for name in names if name not in kept(names, n)
        ],
    },
)
