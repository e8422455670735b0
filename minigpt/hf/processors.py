"""Settings of `generate` that become functions: processors of scores, and criteria to stop."""

from collections.abc import Callable
from functools import partial
from math import inf, sqrt
from time import monotonic

import torch
from torch import Tensor

from minigpt import generation as core
from minigpt.generation import Criterion, forbid_early_end


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


# -- processors: ids (B, T) and logits (B, V) -> logits (B, V)


def bias_sequences(ids: Tensor, logits: Tensor, pairs) -> Tensor:
    """Add a bias to the last token of each of the `pairs` (tokens, bias) that has begun."""
    logits, bias = logits.clone(), torch.zeros_like(logits)
    for (*begun, last), value in pairs:
        if len(begun) < ids.shape[-1]:
            end = ids[:, ids.shape[-1] - len(begun) :]
            fits = (end == torch.tensor(begun, device=ids.device)).all(-1)  # (B,)
            bias[:, last] += torch.where(fits, value, 0.0)
    return logits + bias


def allow_only(ids: Tensor, logits: Tensor, allowed: Callable, prompts: int) -> Tensor:
    """Keep the tokens that `allowed(prompt, ids)` lists, for the number of the prompt, ids (T,)."""
    mask, beams = torch.full_like(logits, -inf), len(ids) // prompts
    for row, text in enumerate(ids):
        mask[row, allowed(row // beams, text)] = 0
    return logits + mask


def force(ids: Tensor, logits: Tensor, tokens: list[int], length: int) -> Tensor:
    """Allow only `tokens` after texts of `length` tokens."""
    if ids.shape[-1] != length:
        return logits
    forced = torch.full_like(logits, -inf)
    forced[:, tokens] = 0
    return forced


def favour_end(ids: Tensor, logits: Tensor, eos: list[int], start: int, factor: float) -> Tensor:
    """Raise the scores of the end tokens, exponentially from `start` tokens on."""
    if (n := ids.shape[-1] - start) > 0:
        logits, ends = logits.clone(), logits[:, eos]
        logits[:, eos] = ends + ends.abs().nan_to_num(posinf=0) * (factor**n - 1)
    return logits


def drop(logits: Tensor, unlikely: Tensor, least: int) -> Tensor:
    """Set the `unlikely` tokens to minus infinity, but none of the `least` best."""
    best = logits.topk(min(least, logits.shape[-1])).values[:, -1:]
    return logits.masked_fill(unlikely & (logits < best), -inf)


def keep_min_p(ids: Tensor, logits: Tensor, p: float, least: int) -> Tensor:
    """Drop tokens with less than p times the largest probability. Source: Nguyen et al. 2024."""
    found = logits.softmax(-1)
    return drop(logits, found < p * found.amax(-1, keepdim=True), least)


def keep_typical(ids: Tensor, logits: Tensor, mass: float, least: int) -> Tensor:
    """Keep the tokens whose surprise is closest to the entropy. Source: Meister et al. 2023."""
    surprise = -logits.log_softmax(-1)
    entropy = (surprise.neg().exp() * surprise).nansum(-1, keepdim=True)
    distances, order = (surprise - entropy).abs().sort()
    held = logits.gather(-1, order).softmax(-1).cumsum(-1)
    last = (held < mass).sum(-1, keepdim=True).clamp(max=held.shape[-1] - 1)
    far = distances > distances.gather(-1, last)
    far[:, :least] = False
    return logits.masked_fill(far.scatter(-1, order, far), -inf)


def keep_epsilon(ids: Tensor, logits: Tensor, epsilon: float, least: int) -> Tensor:
    """Drop tokens with a probability below epsilon. Source: Hewitt, Manning and Liang 2022."""
    return drop(logits, logits.softmax(-1) < epsilon, least)


def keep_eta(ids: Tensor, logits: Tensor, epsilon: float, least: int) -> Tensor:
    """The same, with a smaller limit where the entropy is large."""
    entropy = torch.distributions.Categorical(logits=logits).entropy()[:, None]
    limit = (sqrt(epsilon) * (-entropy).exp()).clamp(max=epsilon)
    return drop(logits, logits.softmax(-1) < limit, least)


# -- criteria: ids (B, T) -> is it done? (B,)


def is_late(ids: Tensor, end: float) -> Tensor:
    """Say that all texts are done after a point of time, of `monotonic`."""
    return torch.full((len(ids),), monotonic() > end, device=ids.device)


def can_occur(string: str, vocabulary: str) -> bool:
    """Say whether each word of a string is part of a token, or can be written with several."""
    return all(
        word in vocabulary or (word.isalnum() and set(vocabulary).issuperset(word))
        for word in string.split()
    )


def stop_at(strings: list[str], tokenizer) -> Criterion:
    """Make the criterion for `stop_strings`.

    Raises ValueError without a tokenizer, or if its vocabulary can write none of them.
    """
    if tokenizer is None:
        raise ValueError(f"stop_strings={strings} need a tokenizer; pass tokenizer=")
    vocabulary = " ".join(getattr(tokenizer, "get_vocab", dict)()).replace("</w>", "")
    if vocabulary and not any(can_occur(string, vocabulary) for string in strings):
        way = "it is lower case, with a space before punctuation; write them so"
        raise ValueError(f"stop_strings={strings} never occur in a decoded text; {way}")
    return partial(core.ends_with_string, strings=strings, decode=tokenizer.decode)


# The value x of a setting and a request r -> a function; None and `OFF` make none. Processors act
# in this order, which is that of transformers, then those of the caller, then filters.
PROCESSORS = {
    "sequence_bias": lambda x, r: partial(
        bias_sequences, pairs=x.items() if isinstance(x, dict) else x
    ),
    "repetition_penalty": lambda x, r: r.hide_padding(core.penalize_repetition, x),
    "no_repeat_ngram_size": lambda x, r: r.hide_padding(core.forbid_repeated_ngrams, x),
    "bad_words_ids": lambda x, r: partial(
        bias_sequences, pairs=[(word, -inf) for word in x if [*word] not in [[i] for i in r.eos]]
    ),
    "min_length": lambda x, r: partial(forbid_early_end, eos=r.eos, length=x),
    "prefix_allowed_tokens_fn": lambda x, r: partial(allow_only, allowed=x, prompts=r.rows),
    "forced_bos_token_id": lambda x, r: partial(force, tokens=as_list(x), length=1),
    "forced_eos_token_id": lambda x, r: partial(
        force, tokens=as_list(x), length=r.T + r.config.max_new_tokens - 1
    ),
    "remove_invalid_values": lambda x, r: lambda ids, logits: logits.nan_to_num(),
    "exponential_decay_length_penalty": lambda x, r: partial(
        favour_end, eos=r.eos, start=r.T + x[0], factor=x[1]
    ),
    "suppress_tokens": lambda x, r: partial(forbid_early_end, eos=x, length=inf),
    "begin_suppress_tokens": lambda x, r: partial(forbid_early_end, eos=x, length=r.T + 1),
}
FILTERS = {  # for sampling; they need only the logits
    "temperature": lambda x, r: lambda ids, logits: logits / x,
    "top_k": lambda x, r: lambda ids, logits: core.keep_top_k(logits, max(x, r.least)),
    "top_p": lambda x, r: lambda ids, logits: core.keep_top_p(logits, x, r.least),
    "min_p": lambda x, r: partial(keep_min_p, p=x, least=r.least),
    "typical_p": lambda x, r: partial(keep_typical, mass=x, least=r.least),
    "epsilon_cutoff": lambda x, r: partial(keep_epsilon, epsilon=x, least=r.least),
    "eta_cutoff": lambda x, r: partial(keep_eta, epsilon=x, least=r.least),
}
LAST = {"renormalize_logits": lambda x, r: lambda ids, logits: logits.log_softmax(-1)}
CRITERIA = {
    "max_time": lambda x, r: partial(is_late, end=monotonic() + x),
    "stop_strings": lambda x, r: stop_at(as_list(x), r.tokenizer),
    "eos_token_id": lambda x, r: partial(core.ends_with_token, eos=r.eos),
}
OFF = dict.fromkeys(("temperature", "top_p", "typical_p", "repetition_penalty"), 1)
OFF |= dict.fromkeys(("top_k", "epsilon_cutoff", "eta_cutoff", "no_repeat_ngram_size"), 0)
OFF |= dict.fromkeys(("remove_invalid_values", "renormalize_logits"), False)
OFF |= {"num_beam_groups": 1, "diversity_penalty": 0, "guidance_scale": 1}  # which have no other
