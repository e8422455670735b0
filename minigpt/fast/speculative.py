"""A small model drafts, a large one checks the draft in one call, and the text is the large one's all the same."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from minigpt.generation import Criterion, Processor, check_finite, greedy, is_done, process, sample
from minigpt.model import KeyValueCache

Scores = Callable[[Tensor, int], Tensor]  # ids (1, T), n -> logits (n, V) after each of the last n


def accept_greedy(draft: Tensor, logits: Tensor, step: int = 0) -> Tensor:
    """Return the draft, (K,), as far as a greedy large model agrees, and its own next token.

    `logits` (K + 1, V) are its scores before each drafted token and after the last. Returns (n,), n
    from 1 to K + 1. Raises ValueError for scores from which nothing can be chosen; it names the
    step, and `step` says how many new tokens there were before.
    """
    best = logits.max(-1)  # values and ids, each (K + 1,)
    same = (best.indices[:-1] == draft) & best.values[:-1].isfinite()
    accepted = int(same.cumprod(0).sum())  # up to the first that differs
    check_finite(best.values[accepted : accepted + 1], step + accepted)
    return best.indices[: accepted + 1]


def rejection_sample(
    draft: Tensor,
    draft_logits: Tensor,
    logits: Tensor,
    step: int = 0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return as much of the draft (K,) as chance accepts, and one more: draws of the large model.

    `draft_logits` (K, V) are the scores that the draft was drawn from, `logits` (K + 1, V) those of
    the large model. Returns (n,), n from 1 to K + 1. Errors as for `accept_greedy`. Source:
    Leviathan et al. 2023, algorithm 1; Chen et al. 2023, algorithm 2.
    """
    p, q = logits.softmax(-1), draft_logits.softmax(-1)  # (K + 1, V), (K, V)
    chance = (p[:-1] / q).gather(-1, draft[:, None])[:, 0]  # (K, V) -> (K,)
    is_accepted = torch.rand(len(draft), generator=generator, device=p.device) < chance
    accepted = int(is_accepted.cumprod(0).sum())  # up to the first that is rejected
    check_finite(logits[accepted : accepted + 1].amax(-1), step + accepted)
    rest = p[accepted]
    if accepted < len(draft):
        rest = (rest - q[accepted]).clamp(min=0)
    rest = rest if rest.any() else p[accepted]  # p and q are equal, and only rounding rejected
    return torch.cat([draft[:accepted], torch.multinomial(rest, 1, generator=generator)])


def make_draft(
    read: Scores,
    text: Tensor,
    K: int,
    choose: Callable[[Tensor], Tensor] = greedy,
    processors: Sequence[Processor] = (),
    step: int = 0,
) -> tuple[Tensor, Tensor]:
    """Let the small model append K tokens, (1, T + K); return its scores for them, (K, V), too."""
    rows = []
    for k in range(K):
        rows.append(process(processors, text, read(text, 1).float()))  # (1, V)
        check_finite(rows[-1].amax(-1), step + k)
        text = torch.cat([text, choose(rows[-1])], dim=-1)
    return text, torch.cat(rows)


def score_draft(read: Scores, text: Tensor, K: int, processors: Sequence[Processor] = ()) -> Tensor:
    """Let the large model score a text (1, T + K) before each of its last K tokens and behind it.

    Returns (K + 1, V).
    """
    T, logits = text.shape[-1] - K, read(text, K + 1).float()
    rows = [process(processors, text[:, : T + k], logits[k : k + 1]) for k in range(K + 1)]
    return torch.cat(rows)


def until_done(text: Tensor, new: Tensor, criteria: Sequence[Criterion]) -> tuple[Tensor, bool]:
    """Cut new ids, (1, n), behind the first with which `text` (1, T) is done; also say if it is."""
    for n in range(1, new.shape[-1] + 1):
        if is_done(criteria, torch.cat([text, new[:, :n]], dim=-1)).all():
            return new[:, :n], True
    return new, False


class Round(NamedTuple):
    """What one call of the large model brings."""

    new: Tensor  # (1, n): the accepted tokens and one more, unless the text is done before
    drafted: int  # tokens of the draft
    accepted: int  # how many of them were accepted


@torch.no_grad()
def rounds(
    read: Scores,  # the large model
    read_draft: Scores,  # the small one
    ids: Tensor,  # (1, T)
    max_new_tokens: int,
    K: int = 4,
    processors: Sequence[Processor] = (),
    criteria: Sequence[Criterion] = (),
    do_sample: bool = False,
    generator: torch.Generator | None = None,
) -> Iterator[Round]:
    """Continue a text as the large model does, round by round.

    Raises ValueError for scores from which nothing can be chosen.
    """
    text, done, choose = ids, False, partial(sample, generator=generator) if do_sample else greedy
    while not done and (left := ids.shape[-1] + max_new_tokens - text.shape[-1]):
        T, step = text.shape[-1], max_new_tokens - left  # new tokens so far
        plan = text, min(K, left), choose, processors, step
        longer, draft_logits = make_draft(read_draft, *plan)
        draft, logits = longer[0, T:], score_draft(read, longer, len(draft_logits), processors)
        if do_sample:
            new = rejection_sample(draft, draft_logits, logits, step, generator)
        else:
            new = accept_greedy(draft, logits, step)
        accepted = len(new) - 1
        new, done = until_done(text, new[None, :left], criteria)
        yield Round(new, len(draft), accepted)
        text = torch.cat([text, new], dim=-1)


class Reader:
    """A model that remembers one text, and forgets what was rejected: a function `Scores`."""

    def __init__(self, last_logits: Callable[[Tensor, KeyValueCache, int], Tensor], n_layer: int):
        self.last_logits, self.cache = last_logits, KeyValueCache(n_layer)

    def __call__(self, ids: Tensor, n: int) -> Tensor:
        """Return the scores after each of the last n of ids (1, T): -> (n, V).

        What comes before them must be as in the call before, as far as that went.
        """
        self.cache.crop(ids.shape[-1] - n)
        return self.last_logits(ids[:, len(self.cache) :], self.cache, n)


@dataclass
class Speculation:
    """A text, and how it came about."""

    sequences: Tensor  # (1, T + new)
    rounds: list[Round]  # one for each call of the large model

    @property
    def acceptance(self) -> float:
        """The share of drafted tokens that were accepted, of those compared; nan if none were."""
        accepted = sum(one.accepted for one in self.rounds)
        compared = sum(min(one.accepted + 1, one.drafted) for one in self.rounds)
        return accepted / compared if compared else math.nan

    @property
    def tokens_per_call(self) -> float:
        """New tokens for each call of the large model; without drafts 1, without calls nan."""
        new = sum(one.new.shape[-1] for one in self.rounds)
        return new / len(self.rounds) if self.rounds else math.nan
