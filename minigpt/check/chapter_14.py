"""The exercises of chapter 14, zero-shot."""

from math import exp, log

import torch

from .compare import Check, some

__all__ = ["best_gain", "next_ranks", "relative_score", "two_means"]

A, B = (1 / 2, 1 / 8, 1 / 4), (1 / 8, 1 / 8)


def of_both(score):
    return lambda: (score(A), score(B))


def mean(probabilities):
    return sum(map(log, probabilities)) / len(probabilities)


two_means = Check(
    of_both(mean),
    mistakes={
        "These are the sums; `choose` compares means.": of_both(lambda p: sum(map(log, p))),
        "This is the loss; a log-probability is below 0.": of_both(lambda p: -mean(p)),
        "This is in bits; nats need natural logarithms.": of_both(lambda p: mean(p) / log(2)),
        "First the logarithms, then their mean.": of_both(lambda p: log(sum(p) / len(p))),
        "These are probabilities; take their logarithms.": of_both(lambda p: exp(mean(p))),
        "A comes first.": lambda: (mean(B), mean(A)),
    },
)


def gain(scores, before, sign=-1, old=1, new=1, axis=-1):
    """Choose an answer by its gain; the options make the mistakes."""
    return (new * scores + sign * old * before).argmax(axis)


best_gain = Check(
    gain,
    [(-some(4, 4).exp(), -some(2, 4, 4)[1].exp())],
    {
        "This looks at the scores with the story only.": {"old": 0},
        "This looks at the scores without the story only.": {"new": 0, "old": -1},
        "This adds the two; a gain is a difference.": {"sign": 1},
        "This is the answer that loses most by the story.": {
            "old": -1,
            "new": -1,
        },
        "Divide probabilities, but subtract their logarithms.": lambda x, y: (x / y).argmax(-1),
        "The choice is among the answers, the last axis.": {"axis": 0},
    },
)


def ranks(logits, ids, first=1, count=torch.gt, more=0):
    """Return the rank of each next token; the options make the mistakes."""
    steps = len(ids) - 1
    rows, labels = logits[:, max(-first, 0) :][:, :steps], ids[max(first, 0) :][:steps]
    right = rows.gather(-1, labels.expand(len(logits), -1)[..., None])
    return count(rows, right).sum(-1) + more


next_ranks = Check(
    ranks,
    [(some(3, 5, 7), torch.tensor([3, 1, 4, 1, 5]))],
    {
        "This ranks the token that is here; position t predicts token t + 1.": {"first": 0},
        "This is shifted the wrong way: t predicts t + 1, not t - 1.": {"first": -1},
        "This counts tokens with a lower logit.": {"count": torch.lt},
        "The best rank is 0: the token itself does not count.": {"more": 1},
        "The rank is that of one token, not the sum of the larger logits.": {
            "count": lambda rows, right: rows * (rows > right)
        },
    },
)
relative_score = Check(
    lambda score, guessing, best: (score - guessing) / (best - guessing),
    [(0.6, 0.5, 0.9), (0.6, 0.25, 0.75), (0.4, 0.5, 0.8)],
    {
        "This is the share of the best score: guessing does not become 0.": lambda s, g, b: s / b,
        "The best does not become 1: divide by the way from guessing to the best.": (
            lambda s, g, b: (s - g) / b
        ),
        "This is what is still missing to the best.": lambda s, g, b: (b - s) / (b - g),
        "This is not divided by the way from guessing to the best.": lambda s, g, b: s - g,
        "Guessing is always taken as 0.5.": lambda s, g, b: (s - 0.5) / (b - 0.5),
    },
)
