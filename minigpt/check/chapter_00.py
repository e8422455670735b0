"""The exercises of chapter 00, the tour."""

from math import log

from .compare import Check

__all__ = ["continue_text", "loss_by_hand", "shapes"]

IDS, VECTORS, PREDICTIONS = (3, 20), (3, 20, 256), (3, 20, 8192)
PROBABILITIES = 0.5, 0.25, 0.5, 0.125


def write(next_token, prompt, n, seen=None, kept=0):
    """Append n tokens; the options make the mistakes."""
    ids = list(prompt)
    for _ in range(n):
        ids.append(next_token(list(prompt) if seen == "prompt" else ids[-1:] if seen else ids))
    return ids[len(prompt) * kept :]


shapes = Check(
    lambda: [IDS, VECTORS, PREDICTIONS],
    mistakes={
        "There is one vector for each position, not one for a text.": [IDS, (3, 256), PREDICTIONS],
        "Every position predicts the token after it, not only the last one.": [
            *(IDS, VECTORS, (3, 8192))
        ],
        "A prediction has a number for each token of the vocabulary.": [IDS, VECTORS, (3, 20, 256)],
        "An id is one number; the vector comes later.": [(3, 20, 8192), VECTORS, PREDICTIONS],
    },
)
continue_text = Check(
    write,
    [(lambda ids: sum(ids) % 7 + 10 * len(ids), [3, 5], 4), (lambda ids: ids[0] + 1, [8], 0)],
    {
        "next_token sees only the last token; it needs the whole text.": {"seen": "last"},
        "next_token sees the prompt again and again, without the new tokens.": {"seen": "prompt"},
        "Only the new tokens are returned; the prompt belongs in front.": {"kept": 1},
        "One token too many is appended.": lambda next_token, prompt, n: write(
            next_token, prompt, n + 1
        ),
    },
)
loss_by_hand = Check(
    lambda: -sum(map(log, PROBABILITIES)) / 4,
    mistakes={
        "This is the sum; the loss is the mean over the tokens.": -sum(map(log, PROBABILITIES)),
        "There are four predictions, not five.": -sum(map(log, PROBABILITIES)) / 5,
        "The sign is wrong: a loss is minus the logarithm.": sum(map(log, PROBABILITIES)) / 4,
        "This is the logarithm of the mean; the mean of the logarithms is asked for.": (
            -log(sum(PROBABILITIES) / 4)
        ),
        "These are logarithms with base 2; natural logarithms are asked for.": 1.75,
    },
)
