"""Beam search: follow the K best texts at once. `notebooks/further/beam_search.ipynb` explains."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from minigpt.generation import Criterion, NextLogits, Processor, check_finite, is_done, process


class Finished:
    """The best `size` finished texts of one prompt, the best first: (score, ids, parents) each.

    The score is the sum of log-probabilities divided by (new tokens) ** `length_penalty`; `parents`
    (new,) are the beams that the new tokens extended. The rules are those of transformers.
    """

    def __init__(self, size: int, length_penalty: float, early_stopping: bool | str):
        self.size, self.length_penalty, self.early_stopping = size, length_penalty, early_stopping
        self.texts, self.closed = [], False

    def add(self, scores: Tensor, ids: Tensor, parents: Tensor) -> None:
        """Take texts that have just ended, sums (n,) and ids (n, T); keep the best of all."""
        for score, row, parent in zip(scores.tolist(), ids, parents, strict=True):
            self.texts.append((score / len(parent) ** self.length_penalty, row, parent))
        self.texts.sort(key=lambda text: text[0], reverse=True)  # of equals the older first
        del self.texts[self.size :]

    def close_if_won(self, running: float, length: int, max_new_tokens: int) -> None:
        """Close for good if no running text, the best of them with the sum `running`, can win."""
        if self.early_stopping == "never" and self.length_penalty > 0:
            length = max_new_tokens
        hope = running / length**self.length_penalty
        full = len(self.texts) == self.size
        won = full and (self.early_stopping is True or hope <= self.texts[-1][0])
        self.closed = self.closed or won or running == -torch.inf  # or no text is left


def pick_rows(rows: Tensor, indices: Tensor) -> Tensor:
    """Pick rows of (B, K, T) by their `indices` (B, n) -> (B, n, T)."""
    return rows.take_along_dim(indices[..., None], dim=1)


class Beams:
    """The running texts: K for each of B prompts, the best first."""

    def __init__(self, input_ids: Tensor, K: int = 1):
        self.ids = input_ids[:, None].expand(-1, K, -1)  # (B, T) -> (B, K, T)
        self.parents = self.ids[..., :0]  # (B, K, new): the row of (B K) that each token extends
        self.scores = torch.zeros(self.ids.shape[:2], device=input_ids.device)  # (B, K)
        self.scores[:, 1:] = -1e9  # copies of the first, which do not count; as in transformers

    def texts(self) -> Tensor:
        """Return all texts as one batch, (B K, T)."""
        return self.ids.flatten(0, 1)

    def grow(self, logits: Tensor, n: int, do_sample: bool = False, generator=None) -> None:
        """Replace the K beams by their `n` best extensions by a token, or draw as many.

        `logits` (B K, V) are the log-probabilities of one more token.
        """
        (B, K), V = self.scores.shape, logits.shape[-1]
        sums = (self.scores[..., None] + logits.view(B, K, V)).flatten(1)  # (B, K V)
        n = min(n, K * V)
        if do_sample:
            chosen = torch.multinomial(sums.softmax(-1), n, generator=generator)  # (B, n)
        else:
            chosen = sums.topk(n).indices
        self.scores, origins, new = sums.gather(-1, chosen), chosen // V, chosen % V
        rows = origins + K * torch.arange(B, device=origins.device)[:, None]  # of (B K)
        self.ids = torch.cat([pick_rows(self.ids, origins), new[..., None]], dim=-1)
        self.parents = torch.cat([pick_rows(self.parents, origins), rows[..., None]], dim=-1)

    def prune(self, done: Tensor, K: int) -> None:
        """Keep the best K that are not `done` (B, n)."""
        running = self.scores.masked_fill(done, -torch.inf)
        self.scores, best = running.topk(min(K, running.shape[-1]))
        self.ids, self.parents = pick_rows(self.ids, best), pick_rows(self.parents, best)

    def collect(self, done: Tensor, finished: list[Finished]) -> None:
        """Hand over the texts that are `done` (B, n), if they are among the best `size`."""
        possible = done & (self.scores > -torch.inf)
        for b, one in enumerate(finished):
            rows = possible[b, : one.size].nonzero()[:, 0]
            if not one.closed:
                one.add(self.scores[b, rows], self.ids[b, rows], self.parents[b, rows])


@torch.no_grad()
def beam_search(
    next_logits: NextLogits,
    input_ids: Tensor,
    max_new_tokens: int,
    finished: list[Finished],
    processors: Sequence[Processor] = (),
    criteria: Sequence[Criterion] = (),
    ways_to_end: int = 1,
    **choice,
) -> list[Finished]:
    """Fill `finished`, one for each prompt (B, T), with texts of up to `max_new_tokens` more.

    `next_logits` as for `stream`; a cache must have `reorder(rows)`. `ways_to_end` is the number of
    end tokens; `choice` goes to `Beams.grow`. Errors: those of `stream`.
    """
    num_beams = finished[0].size
    beams = Beams(input_ids, num_beams)
    ids, cache = input_ids, None  # each prompt once, as its beams are the same in the first step
    for length in range(1, max_new_tokens + 1):
        logits, cache = next_logits(ids, cache)  # (B K, T) -> (B K, V)
        copies = len(beams.texts()) // len(ids)
        logits = logits.float().log_softmax(-1).repeat_interleave(copies, dim=0)
        logits = process(processors, beams.texts(), logits)
        beams.grow(logits, max(2, 1 + ways_to_end) * num_beams, **choice)
        best = beams.scores.amax(-1)  # -inf: no beam goes on
        check_finite(best.masked_fill(best == -torch.inf, 0), step=length - 1)
        done = is_done(criteria, beams.texts()).view_as(beams.scores)  # (B n,) -> (B, n)
        done = done | (length == max_new_tokens)  # or cut off
        beams.collect(done, finished)
        beams.prune(done, num_beams)
        for one, best in zip(finished, beams.scores[:, 0].tolist(), strict=True):
            one.close_if_won(best, length, max_new_tokens)
        if all(one.closed for one in finished):
            break
        if cache is not None:  # each beam from its parent
            cache.reorder(beams.parents[..., -1].flatten() // copies)
        ids = beams.texts() if cache is None else beams.texts()[:, -1:]
    return finished


def best_texts(
    finished: list[Finished], n: int, pad_token_id: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the `n` best texts of each prompt, padded, their scores, and the rows they came from.

    ids (B n, T + new), scores (B n,), beam indices (B n, new): rows of (B K), -1 after the end.
    Raises ValueError if there are fewer.
    """
    texts = [text for one in finished for text in one.texts[:n]]
    if len(texts) < n * len(finished):
        found = f"{len(finished)} prompts can be continued in only {len(texts)} ways"
        way = "look for processors that forbid every token, or ask for fewer"
        raise ValueError(f"num_return_sequences={n}, but {found}; {way}")
    scores, ids, parents = zip(*texts, strict=True)
    return (
        pad_sequence(ids, batch_first=True, padding_value=pad_token_id),
        torch.tensor(scores, device=ids[0].device),
        pad_sequence(parents, batch_first=True, padding_value=-1),
    )
