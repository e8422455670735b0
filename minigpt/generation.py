"""From scores for the next token to a text: ask, choose, append, again."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

# ids (B, T), what the model remembers or None -> logits (B, V), what it remembers now or None
NextLogits = Callable[[Tensor, object], tuple[Tensor, object]]
Processor = Callable[[Tensor, Tensor], Tensor]  # ids (B, T), logits (B, V) -> logits (B, V)
Criterion = Callable[[Tensor], Tensor]  # ids (B, T) -> is it done? (B,)


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Set all but the k largest of each row of (B, V) to minus infinity.

    Ties with the k-th stay. Source: Fan, Lewis and Dauphin 2018.
    """
    kth = logits.topk(min(k, logits.shape[-1])).values[..., -1:]  # (B, V) -> (B, 1)
    return logits.masked_fill(logits < kth, -torch.inf)


def keep_top_p(logits: Tensor, p: float, least: int = 1) -> Tensor:
    """Keep the fewest tokens of each row of (B, V) that together have probability p or more.

    The others are set to minus infinity, but never one of the `least` best: beam search must have
    more than one to go on with. Of equals at the limit the lower ids are kept. Source: Holtzman et
    al. 2020 ("nucleus").
    """
    if p >= 1:
        return logits  # keeps all; below, rounding could drop the last ones
    ordered, order = logits.sort(descending=True, stable=True)
    probabilities = ordered.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities  # held by all that rank higher
    before[..., :least] = 0
    ordered = ordered.masked_fill(before >= p, -torch.inf)
    return torch.empty_like(logits).scatter(-1, order, ordered)  # back into the old order


def mark(ids: Tensor, V: int) -> Tensor:
    """Say which tokens occur: ids (B, T) -> (B, V), True for those; an id of -1 is none."""
    table = torch.zeros(len(ids), V + 1, dtype=torch.bool, device=ids.device)
    return table.scatter(-1, ids.masked_fill(ids < 0, V), True)[:, :V]  # column V: no token


def penalize_repetition(ids: Tensor, logits: Tensor, penalty: float) -> Tensor:
    """Lower the scores (B, V) of all tokens that occur in `ids` (B, T), if `penalty` is above 1.

    Positive ones are divided by it, negative ones multiplied. Source: Keskar et al. 2019, section
    4.1; what to do with negative scores is as in transformers.
    """
    lower = torch.where(logits < 0, logits * penalty, logits / penalty)
    return torch.where(mark(ids, logits.shape[-1]), lower, logits)


def forbid_repeated_ngrams(ids: Tensor, logits: Tensor, n: int) -> Tensor:
    """Set to minus infinity what would make the last n tokens of a row occur in it twice.

    `ids` is (B, T), `logits` (B, V). Source: Paulus, Xiong and Socher 2017, section 2.5.
    """
    T = ids.shape[-1]
    if T < n:
        return logits
    windows = ids.unfold(-1, n, 1)  # (B, T) -> (B, T - n + 1, n): all n-grams so far
    end = ids[:, None, T - n + 1 :]  # the last n - 1 tokens; none for n = 1
    begun = (windows[..., :-1] == end).all(-1)  # (B, T - n + 1)
    lasts = windows[..., -1].masked_fill(~begun, -1)  # -1: forbids nothing
    return logits.masked_fill(mark(lasts, logits.shape[-1]), -torch.inf)


def process(processors: Iterable[Processor], ids: Tensor, logits: Tensor) -> Tensor:
    """Let each processor change the logits (B, V) after `ids` (B, T), one after the other."""
    for processor in processors:
        logits = processor(ids, logits)
    return logits


def check_finite(best: Tensor, step: int) -> None:
    """Raise ValueError, naming step and row, unless each row's greatest score, (B,), is finite."""
    if not best.isfinite().all():
        row = int((~best.isfinite()).nonzero()[0, 0])
        raise ValueError(
            f"step {step}, row {row}: the largest score is {best[row].item()}, so nothing can be "
            "chosen; look for nan or inf in the weights, for a temperature too close to 0, or "
            "for processors that forbid every token"
        )


def greedy(logits: Tensor) -> Tensor:
    """Pick the most probable token of each row: (B, V) -> (B, 1)."""
    return logits.argmax(-1, keepdim=True)


def sample(logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw a token for each row, each with its probability: (B, V) -> (B, 1)."""
    return torch.multinomial(logits.softmax(-1), 1, generator=generator)


def is_done(criteria: Iterable[Criterion], ids: Tensor) -> Tensor:
    """Say which rows of (B, T) are done by any of the criteria -> (B,)."""
    done = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    for criterion in criteria:
        done = done | criterion(ids)
    return done


def ends_with_token(ids: Tensor, eos: list[int]) -> Tensor:
    """Say which rows of (B, T) have one of the tokens `eos` at the end -> (B,)."""
    return torch.isin(ids[:, -1], torch.tensor(eos, device=ids.device))


def ends_with_string(ids: Tensor, strings: list[str], decode: Callable) -> Tensor:
    """Say in which rows of (B, T) the last token completes one of `strings` -> (B,).

    It may hold more than the end of it. `decode` makes a text of a list of ids.
    """
    done = []
    for row in ids[:, -max(map(len, strings)) - 1 :].tolist():  # a token is a character or more
        text, before = decode(row), decode(row[:-1])
        # the first positions at which a string would reach beyond `before`
        starts = [max(0, len(before) - len(string) + 1) for string in strings]
        found = zip(strings, starts, strict=True)
        done.append(any(string in text[start:] for string, start in found))
    return torch.tensor(done, device=ids.device)


def forbid_early_end(ids: Tensor, logits: Tensor, eos: list[int], length: int) -> Tensor:
    """Set the end tokens of (B, V) to minus infinity as long as `ids` (B, T) has T < `length`."""
    if ids.shape[-1] >= length:
        return logits
    tokens = torch.arange(logits.shape[-1], device=logits.device)
    return logits.masked_fill(torch.isin(tokens, torch.tensor(eos).to(tokens)), -torch.inf)


@torch.no_grad()
def stream(
    next_logits: NextLogits,
    ids: Tensor,
    max_new_tokens: int,
    choose: Callable[[Tensor], Tensor] = greedy,  # logits (B, V) -> ids (B, 1)
    processors: Sequence[Processor] = (),
    criteria: Sequence[Criterion] = (),
    pad_token_id: int = 0,
) -> Iterator[Tensor]:
    """Yield the new ids, one (B, 1) a step; a row that is done goes on with `pad_token_id`.

    `next_logits(ids, cache)` returns the logits (B, V) after `ids` (B, T), and a cache. The cache
    is handed back with the new ids alone; a function that keeps none returns None and gets the
    whole text each time. Raises ValueError, see `check_finite`, where nothing can be chosen.
    """
    text, cache = ids, None
    done = torch.zeros_like(ids[:, :1], dtype=torch.bool)  # (B, 1)
    for step in range(max_new_tokens):
        logits, cache = next_logits(ids, cache)
        logits = process(processors, text, logits.float())
        logits = logits.masked_fill(done, 0)  # a row that is done may have no token left
        check_finite(logits.amax(-1), step)
        new = choose(logits).masked_fill(done, pad_token_id)
        yield new
        text = torch.cat([text, new], dim=-1)
        if criteria:
            done = done | is_done(criteria, text)[:, None]
            if done.all():
                return
        ids = text if cache is None else new


def whole_words(text: str) -> str:
    """Return the part of a text, up to its last word, that further tokens cannot change."""
    return text[: max(text.rfind(" "), text.rfind("\n"), 0)]


def stream_text(steps: Iterable[Tensor], decode: Callable[[list[int]], str]) -> Iterator[str]:
    """Turn new ids, (1, 1) each, into text, as soon as a word is complete."""
    ids, shown = [], 0
    for new in steps:
        ids += new.flatten().tolist()
        ready = whole_words(decode(ids))
        yield ready[shown:]
        shown = max(shown, len(ready))
    yield decode(ids)[shown:]
