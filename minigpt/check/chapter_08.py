"""The exercises of chapter 08, generation."""

from math import exp, log

import torch

from ..generation import greedy
from .compare import Check, some

__all__ = ["greedy_batch", "min_p", "temperature_by_hand", "top_p"]

ROW = torch.tensor([0.05, 0.3, 0.1, 0.16, 0.04, 0.35]).log()
EIGHTHS = torch.tensor([1, 4, 2, 1]).log()  # probabilities without rounding


def two_tokens(temperature=2.0):
    """Return the two probabilities; the options make the mistakes."""
    powers = exp(log(9) / temperature), 1.0
    return tuple(round(power / sum(powers), 6) for power in powers)


temperature_by_hand = Check(
    two_tokens,
    mistakes={
        "These are the probabilities at temperature 1.": {"temperature": 1.0},
        "Divide the logits by the temperature; here they are multiplied.": {"temperature": 0.5},
        "Divide the logits by the temperature, not the probabilities.": (0.45, 0.05),
        "These are the logits divided by their sum; take e to the power of each first.": (1.0, 0.0),
        "The first token has the larger logit.": (0.25, 0.75),
    },
)


def keep_until(logits, p, least=1, late=False, order=True, removed=-torch.inf, more=0.0):
    """Keep the best tokens up to probability p; the options make the mistakes."""
    ordered, ids = logits.softmax(-1).sort(descending=True)
    total = ordered.cumsum(-1) - (0 if late else ordered)
    count = max(least, int((total <= p if late else total < p + more).sum()))
    if not order:
        return logits[ids].masked_fill(torch.arange(len(logits)) >= count, removed)
    return logits.masked_fill(~torch.isin(torch.arange(len(logits)), ids[:count]), removed)


top_p = Check(
    keep_until,
    [(ROW, 0.7), (some(9), 0.5), (ROW, 0.2), (some(9), 0.95), (EIGHTHS, 0.5)],
    {
        "The token that reaches p is missing: it is kept, too.": {"least": 0, "late": True},
        "The token that reaches p is missing, unless it is the only one.": {"late": True},
        "Exactly p is enough: the next token is not needed then.": {"more": 1e-6},
        "These are the tokens whose own probability is at least p.": lambda logits, p: torch.where(
            logits.softmax(-1) >= p, logits, -torch.inf
        ),
        "The logits are sorted; each token must keep its own position.": {"order": False},
        "A removed token gets minus infinity; a logit of 0 has a probability.": {"removed": 0.0},
        "The tokens are kept from the worst upwards.": lambda logits, p: torch.where(
            keep_until(-logits, p).isfinite(), logits, -torch.inf
        ),
        "These are probabilities; return the logits of the tokens that stay.": (
            lambda logits, p: logits.softmax(-1) + keep_until(logits, p) - logits
        ),
    },
)


def keep_near_best(logits, m, best="row", of="probability", removed=-torch.inf, more=1.0):
    """Keep the tokens near the best one; the options make the mistakes."""
    if of == "logit":
        return logits.masked_fill(logits < m * logits.amax(-1, keepdim=True), removed)
    logs = logits.log_softmax(-1)
    largest = {"row": logs.amax(-1, keepdim=True), "batch": logs.max(), "none": 0}
    return logits.masked_fill(logs < log(m * more) + largest[best], removed)


min_p = Check(
    keep_near_best,
    [(some(3, 6), 1.0), (3 * some(3, 6), 0.1), (some(2, 5) * torch.tensor([[1.0], [4.0]]), 0.5)],
    {
        "The limit is m times the best probability, not m itself.": {"best": "none"},
        "Each row of the batch has a best token of its own.": {"best": "batch"},
        "A token with exactly the probability of the limit stays.": {"more": 1.0001},
        "Compare probabilities, not logits.": {"of": "logit"},
        "A removed token gets minus infinity; a logit of 0 has a probability.": {"removed": 0.0},
        "The good tokens are removed, and the bad ones stay.": lambda logits, m: torch.where(
            keep_near_best(logits, m).isfinite(), -torch.inf, logits
        ),
    },
)


def write_batch(next_logits, ids, n, end, whole=False, fill=True, stop=torch.all, kept=0):
    """Write greedily to the end; the options make the mistakes."""
    text, new, cache = ids, ids, None
    done = torch.zeros(len(ids), 1).bool()
    for _ in range(n):
        logits, cache = next_logits(text if whole else new, cache)
        new = greedy(logits).masked_fill(done & fill, end)
        text, done = torch.cat([text, new], dim=1), done | (new == end)
        if stop(done):
            break
    return text[:, kept * ids.shape[1] :]


def fading(ids, cache=None):
    """A model with a cache: the sum of all rows that it has read, older ones fading."""
    cache = torch.zeros(len(ids), 6) if cache is None else cache
    for column in ids.unbind(1):
        cache = some(6, 6)[column] - 0.8 * cache
    return cache, cache


greedy_batch = Check(
    write_batch,
    [
        (fading, torch.tensor([[0, 1], [2, 3], [4, 5]]), 12, 4),
        (fading, torch.tensor([[0, 1], [2, 3], [4, 5]]), 2, 4),
    ],
    {
        "The whole text goes in, although the cache has it: only the new ids are to be read.": {
            "whole": True
        },
        "A text that is done goes on; it must continue with `end`.": {"fill": False},
        "It stops when the first text is done; all must be done.": {"stop": torch.any},
        "It goes on to n although all texts are done.": {"stop": lambda done: False},
        "Only the new ids are returned; the prompts belong in front.": {"kept": 1},
        "Nothing is kept between the calls: pass the cache on.": lambda f, *rest: write_batch(
            lambda ids, cache: f(ids), *rest
        ),
    },
)
