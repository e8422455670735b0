from collections.abc import Callable, Iterator

import torch
from torch import Tensor

NextLogits = Callable[[Tensor, object], tuple[Tensor, object]]


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Set all but the k largest of each row of (B, V) to minus infinity."""
    kth = logits.topk(min(k, logits.shape[-1])).values[..., -1:]  # (B, 1)
    return logits.masked_fill(logits < kth, -torch.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the smallest set of tokens whose probabilities sum to at least p; set the rest to minus infinity."""
    ordered, order = logits.sort(descending=True)
    before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)  # probability of all that rank higher
    ordered = ordered.masked_fill(before >= p, -torch.inf)
    return torch.empty_like(logits).scatter(-1, order, ordered)


def choose(logits, do_sample=False, temperature=1.0, top_k=None, top_p=None, generator=None) -> Tensor:
    """Pick one id for each row of (B, V) logits -> (B, 1): the most probable, or with `do_sample` a random draw."""
    if not do_sample:
        return logits.argmax(-1, keepdim=True)
    logits = logits.float() / temperature
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    if top_p is not None:
        logits = keep_top_p(logits, top_p)
    return torch.multinomial(logits.softmax(-1), 1, generator=generator)


@torch.inference_mode()
def stream(
    next_logits: NextLogits, input_ids: Tensor, max_new_tokens: int, eos_token_id: int | None = None, **choice
) -> Iterator[Tensor]:
    """Yield the new ids step by step, each (B, 1); a row that has ended goes on with `eos_token_id`.

    `next_logits(ids, cache)` returns the logits (B, V) after `ids`, and a cache. The cache is handed back with the next
    ids alone; a function that keeps none returns None, and is given the whole text each time. `choice` is passed to `choose`.
    """
    ids = text = input_ids  # (B, T)
    cache, ended = None, torch.zeros_like(input_ids[:, :1], dtype=torch.bool)
    for _ in range(max_new_tokens):
        logits, cache = next_logits(ids, cache)
        new = choose(logits, **choice)
        if eos_token_id is not None:
            new = new.masked_fill(ended, eos_token_id)
            ended = ended | (new == eos_token_id)
        yield new
        if ended.all():
            return
        text = torch.cat([text, new], dim=-1) if cache is None else text
        ids = text if cache is None else new


def generate(next_logits: NextLogits, input_ids: Tensor, max_new_tokens: int, **options) -> Tensor:
    """Continue (B, T) ids by up to `max_new_tokens`: (B, T + n). Options are those of `stream` and `choose`."""
    return torch.cat([input_ids, *stream(next_logits, input_ids, max_new_tokens, **options)], dim=-1)
