"""Settings of `generate` that become functions: processors of scores, and criteria to stop."""

from collections.abc import Callable, Iterable
from functools import partial
from math import inf
from time import monotonic

import torch
from torch import Tensor

from minigpt import generation as core
from minigpt.generation import forbid_early_end, penalize_repetition
from minigpt.generation import forbid_repeated_ngrams as forbid_ngrams


def as_list(value) -> list:
    """Return a list: empty for None, the items of a list or tuple, or the single value."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


class LogitsProcessor:
    """A base class for people's processors: called with ids (B, T) and scores (B, V) -> scores."""


class StoppingCriteria:
    """A base class for people's criteria: called with ids (B, T) and scores -> done? (B,)."""


class LogitsProcessorList(list):
    """Processors that act one after the other."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return core.process(self, input_ids, scores)


class StoppingCriteriaList(list):
    """Criteria, each of which ends a text."""


# -- the value x of a setting, a request r, ids (B, T) and logits (B, V) -> logits (B, V)


def bias_sequences(x, r, ids: Tensor, logits: Tensor) -> Tensor:
    """Add a bias to the last token of each pair (tokens, bias) of x that has begun."""
    logits, bias = logits.clone(), torch.zeros_like(logits)
    for (*begun, last), value in x.items() if isinstance(x, dict) else x:
        if len(begun) < ids.shape[-1]:
            end = ids[:, ids.shape[-1] - len(begun) :]
            fits = (end == torch.tensor(begun, device=ids.device)).all(-1)  # (B,)
            bias[:, last] += torch.where(fits, value, 0.0)
    return logits + bias


def forbid_words(x: list[list[int]], r, ids: Tensor, logits: Tensor) -> Tensor:
    """Forbid the last token of each of the words x that has begun, but no end token alone."""
    words = [word for word in x if [*word] not in [[token] for token in r.eos]]
    return bias_sequences([(word, -inf) for word in words], r, ids, logits)


def allow_only(x: Callable, r, ids: Tensor, logits: Tensor) -> Tensor:
    """Keep the tokens that x(prompt, ids) lists, for the number of the prompt, ids (T,)."""
    mask, beams = torch.full_like(logits, -inf), len(ids) // len(r.ids)
    for row, text in enumerate(ids):
        mask[row, x(row // beams, text)] = 0
    return logits + mask


def force(tokens: int | list[int], length: int, ids: Tensor, logits: Tensor) -> Tensor:
    """Allow only `tokens` after texts of `length` tokens."""
    if ids.shape[-1] != length:
        return logits
    forced = torch.full_like(logits, -inf)
    forced[:, tokens] = 0
    return forced


def favour_end(x: tuple[int, float], r, ids: Tensor, logits: Tensor) -> Tensor:
    """Raise the scores of the end tokens, exponentially from x[0] new tokens on."""
    if (n := ids.shape[-1] - r.T - x[0]) > 0:
        logits, ends = logits.clone(), logits[:, r.eos]
        logits[:, r.eos] = ends + ends.abs().nan_to_num(posinf=0) * (x[1] ** n - 1)
    return logits


def entropy(probabilities: Tensor) -> Tensor:
    """Return the entropy of each row in nats: (B, V) -> (B, 1)."""
    return torch.special.entr(probabilities).sum(-1, keepdim=True)


def keep_typical(x: float, r, ids: Tensor, logits: Tensor) -> Tensor:
    """Keep the tokens whose surprise is closest to the entropy. Source: Meister et al. 2023."""
    distances = (-logits.log_softmax(-1) - entropy(logits.softmax(-1))).abs()
    distances, order = distances.sort()
    held = logits.gather(-1, order).softmax(-1).cumsum(-1)
    last = (held < x).sum(-1, keepdim=True).clamp(max=held.shape[-1] - 1)
    far = distances > distances.gather(-1, last)
    far[:, : r.least] = False
    return logits.masked_fill(far.scatter(-1, order, far), -inf)


def keep_likely(x: float, r, ids: Tensor, logits: Tensor, limit: Callable) -> Tensor:
    """Keep the best tokens, and those that are not less probable than a limit, made of x and all.

    Sources: Nguyen et al. 2024 (min_p); Hewitt, Manning and Liang 2022 (epsilon, eta).
    """
    found, best = logits.softmax(-1), core.keep_top_k(logits, r.least)
    return torch.where(found < limit(x, found), best, logits)


# -- the value x of a setting, a request r and ids (B, T) -> is it done? (B,)


def is_late(x: float, r, ids: Tensor) -> Tensor:
    """Say that all texts are done x seconds after the start."""
    return torch.full((len(ids),), monotonic() > r.start + x, device=ids.device)


def can_occur(string: str, vocabulary: str) -> bool:
    """Say whether each word of a string is part of a token, or can be written with several."""
    return all(
        word in vocabulary or (word.isalnum() and set(vocabulary).issuperset(word))
        for word in string.split()
    )


def check_stop_strings(strings: list[str], tokenizer) -> None:
    """Raise ValueError without a tokenizer, or if its vocabulary can write none of `strings`."""
    if tokenizer is None:
        raise ValueError(f"stop_strings={strings} need a tokenizer; pass tokenizer=")
    vocabulary = " ".join(getattr(tokenizer, "get_vocab", dict)()).replace("</w>", "")
    if vocabulary and not any(can_occur(string, vocabulary) for string in strings):
        way = "it is lower case, with a space before punctuation; write them so"
        raise ValueError(f"stop_strings={strings} never occur in a decoded text; {way}")


# Names of settings and their functions; None and `OFF` have none. Processors act in this order,
# which is that of transformers, then those of the caller, then filters.
PROCESSORS = {
    "sequence_bias": bias_sequences,
    "repetition_penalty": lambda x, r, ids, logits: penalize_repetition(r.real(ids), logits, x),
    "no_repeat_ngram_size": lambda x, r, ids, logits: forbid_ngrams(r.real(ids), logits, x),
    "bad_words_ids": forbid_words,
    "min_length": lambda x, r, ids, logits: forbid_early_end(ids, logits, r.eos, x),
    "prefix_allowed_tokens_fn": allow_only,
    "forced_bos_token_id": lambda x, r, ids, logits: force(x, 1, ids, logits),
    "forced_eos_token_id": lambda x, r, ids, logits: force(x, r.end - 1, ids, logits),
    "remove_invalid_values": lambda x, r, ids, logits: logits.nan_to_num(),
    "exponential_decay_length_penalty": favour_end,
    "suppress_tokens": lambda x, r, ids, logits: forbid_early_end(ids, logits, x, inf),
    "begin_suppress_tokens": lambda x, r, ids, logits: forbid_early_end(ids, logits, x, r.T + 1),
}
FILTERS = {  # for sampling; they need only the logits
    "temperature": lambda x, r, ids, logits: logits / x,
    "top_k": lambda x, r, ids, logits: core.keep_top_k(logits, max(x, r.least)),
    "top_p": lambda x, r, ids, logits: core.keep_top_p(logits, x, r.least),
    "min_p": partial(keep_likely, limit=lambda x, p: x * p.amax(-1, keepdim=True)),
    "typical_p": keep_typical,
    "epsilon_cutoff": partial(keep_likely, limit=lambda x, p: x),
    "eta_cutoff": partial(keep_likely, limit=lambda x, p: (x**0.5 / entropy(p).exp()).clamp(max=x)),
}
LAST = {"renormalize_logits": lambda x, r, ids, logits: logits.log_softmax(-1)}
CRITERIA = {
    "max_time": is_late,
    "stop_strings": lambda x, r, ids: core.ends_with_string(ids, as_list(x), r.tokenizer.decode),
    "eos_token_id": lambda x, r, ids: core.ends_with_token(ids, r.eos),
}
OFF = dict.fromkeys(("temperature", "top_p", "typical_p", "repetition_penalty"), 1)
OFF |= dict.fromkeys(("top_k", "epsilon_cutoff", "eta_cutoff", "no_repeat_ngram_size"), 0)
OFF |= dict.fromkeys(("remove_invalid_values", "renormalize_logits"), False)
OFF |= {"num_beam_groups": 1, "diversity_penalty": 0, "guidance_scale": 1}  # which have no other


def bind(r, processors: Iterable[Callable], criteria: Iterable[Callable]) -> tuple:
    """Bind functions to the settings of a request, around those that were passed.

    Returns processors, criteria, and whether they are only filters and end tokens. Raises
    ValueError for `stop_strings` that cannot be used.
    """
    if r.config.stop_strings is not None:
        check_stop_strings(as_list(r.config.stop_strings), r.tokenizer)
    always, filters, last, ends = (
        [
            partial(function, x, r)
            for name, function in table.items()
            if (x := getattr(r.config, name, None)) is not None and x != OFF.get(name)
        ]
        for table in (PROCESSORS, FILTERS if r.config.do_sample else {}, LAST, CRITERIA)
    )
    keep = [partial(r.keep, "scores")] if r.config.output_scores else []
    processors = [*always, *processors, *filters, *last, *keep]
    criteria = ends + [partial(r.is_done, one) for one in criteria]
    return processors, criteria, processors == filters and len(criteria) == len(r.eos[:1])
