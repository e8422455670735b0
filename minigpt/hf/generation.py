"""`generate`: one settings object, checked once, around the pure functions of chapter 08."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf

import torch
from torch import Tensor

from minigpt import generation as core
from minigpt.fast.speculative import Reader, Round, Speculation, rounds
from minigpt.fast.static_cache import generate_static
from minigpt.generation import Criterion, Processor
from minigpt.hf.beams import Finished, beam_search, best_texts
from minigpt.hf.generation_config import GenerationConfig, as_list, at_least
from minigpt.hf.outputs import GenerateBeamDecoderOnlyOutput, GenerateDecoderOnlyOutput

STOPPED = (
    "stopped at the last position, {}, after {} new tokens of {}; shorten the prompt or pass a "
    "smaller max_new_tokens"
)
UNKNOWN_SETTING = "generation_config sets {}, which minigpt does not have; it changes nothing"


def merge(model_config, call_config, settings: dict) -> GenerationConfig:
    """Lay the settings of a call over its config, and both over the model's.

    In the keywords of a call top_k=None keeps all, as in transformers; any other None sets nothing.
    Raises ValueError for keywords that are not known.
    """
    known = GenerationConfig.__dataclass_fields__.keys()
    if unknown := ", ".join(sorted(settings.keys() - known)):
        raise ValueError(f"generate has no setting {unknown}; see GenerationConfig for all names")
    if "top_k" in settings:
        settings = settings | {"top_k": 0 if settings["top_k"] is None else settings["top_k"]}
    merged = dict(vars(model_config))
    for layer in (vars(call_config) if call_config else {}, settings):
        merged |= {name: value for name, value in layer.items() if value is not None}
    notes = {name for name in merged if name[0] == "_"} | {"transformers_version"}
    if strange := [name for name in merged.keys() - known - notes if merged[name] is not None]:
        warnings.warn(UNKNOWN_SETTING.format(", ".join(sorted(strange))), stacklevel=3)
    return GenerationConfig(**merged)


def room_for(T: int, max_length: int | None) -> int:
    """Say how many tokens to add to a prompt of T: 20 if nothing is set, as in transformers.

    Raises ValueError if `max_length` leaves room for none.
    """
    if max_length is not None and max_length <= T:
        trouble = f"max_length={max_length}, but the prompt alone has {T} tokens"
        raise ValueError(f"{trouble}; pass a larger max_length, or max_new_tokens")
    return 20 if max_length is None else max_length - T


def hide_padding(processor: Callable, padding: Tensor | None) -> Processor:
    """Show a processor -1 in place of the `padding` (B,) tokens in front of each row."""
    if padding is None:
        return processor

    def with_hidden(ids: Tensor, logits: Tensor) -> Tensor:
        front = padding.repeat_interleave(len(ids) // len(padding))[:, None]  # (B,) -> (B K, 1)
        positions = torch.arange(ids.shape[-1], device=ids.device)
        return processor(ids.masked_fill(positions < front, -1), logits)

    return with_hidden


def make_filters(config: GenerationConfig) -> list[Processor]:
    """List temperature, top-k and top-p, as far as set, for drawing.

    Beams need one token more than there are end tokens, so that some can go on.
    """
    least, found = 1 if config.num_beams == 1 else max(2, 1 + len(config.eos)), []
    if config.temperature != 1:
        found.append(lambda ids, logits: logits / config.temperature)
    if config.top_k:
        found.append(lambda ids, logits: core.keep_top_k(logits, max(config.top_k, least)))
    if config.top_p != 1:
        found.append(lambda ids, logits: core.keep_top_p(logits, config.top_p, least))
    return found


def make_processors(
    config: GenerationConfig, T: int, padding: Tensor | None = None, extra: Sequence[Processor] = ()
) -> list[Processor]:
    """List the processors for what is set, in transformers' order, with `extra` among them.

    `T` is the length of the prompts, `padding` (B,) how many tokens of it, in front, are padding.
    """
    found = []
    if config.repetition_penalty != 1:
        penalize = partial(core.penalize_repetition, penalty=config.repetition_penalty)
        found.append(hide_padding(penalize, padding))
    if config.no_repeat_ngram_size:
        forbid = partial(core.forbid_repeated_ngrams, n=config.no_repeat_ngram_size)
        found.append(hide_padding(forbid, padding))
    length = T + config.min_new_tokens if config.min_new_tokens else config.min_length or 0
    if length > T and config.eos:
        found.append(partial(core.forbid_early_end, eos=config.eos, length=length))
    if config.suppress_tokens:
        always = partial(core.forbid_early_end, eos=as_list(config.suppress_tokens), length=inf)
        found.append(always)
    return [*found, *extra, *(make_filters(config) if config.do_sample else [])]


def can_occur(string: str, tokens: set[str]) -> bool:
    """Say whether each word of a string is part of a token, or letters that several can spell."""
    characters = set().union(*tokens)
    return all(
        any(word in token for token in tokens) or (word.isalnum() and characters.issuperset(word))
        for word in string.split()
    )


def make_criteria(
    config: GenerationConfig, tokenizer=None, extra: Sequence[Callable] = (), scores=None
) -> list[Criterion]:
    """List the criteria for what is set, then `extra`, which are called with ids and all `scores`.

    Raises ValueError for `stop_strings` without a tokenizer, or that its vocabulary never makes.
    """
    found = []
    if config.eos_token_id is not None:
        found.append(partial(core.ends_with_token, eos=config.eos))
    if config.stop_strings is not None:
        strings = as_list(config.stop_strings)
        if tokenizer is None:
            raise ValueError(f"stop_strings={strings}, but nothing decodes ids; pass tokenizer=")
        tokens = {token.removesuffix("</w>") for token in getattr(tokenizer, "get_vocab", dict)()}
        if tokens and not any(can_occur(string, tokens) for string in strings):
            way = "its text is lower case, with a space in front of punctuation; pass such strings"
            raise ValueError(f"stop_strings={strings} never occur in what GPT-1 decodes; {way}")
        found.append(partial(core.ends_with_string, strings=strings, decode=tokenizer.decode))
    return [*found, *(lambda ids, one=one: one(ids, scores) for one in extra)]


def start_token(input_ids: Tensor | None, bos_token_id: int | None, device) -> Tensor:
    """Return the start token, (B, 1), in place of prompts without a token, None or (B, 0).

    Raises ValueError, saying what to pass, if there is none.
    """
    if bos_token_id is None:
        raise ValueError(
            "the prompt is empty, and this checkpoint has no start token; pass input_ids with one "
            "token or more, or bos_token_id"
        )
    rows = 1 if input_ids is None else max(1, len(input_ids))
    return torch.full((rows, 1), bos_token_id, device=device)


def pad_left(ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor | None]:
    """Move padding to the front: ids (B, T) -> (B, T'), and how much of it each row has, (B,).

    T' is the length of the longest row. Without padding, None in place of its amount. Raises
    ValueError for a mask of another shape, and for a row that is nothing but padding.
    """
    if attention_mask.shape != ids.shape:
        given, wanted = tuple(attention_mask.shape), tuple(ids.shape)
        raise ValueError(f"attention_mask {given} for input_ids {wanted}; give each token an entry")
    real = attention_mask.bool()
    lengths = real.sum(-1)  # (B,)
    if not lengths.all():
        row = int((lengths == 0).nonzero()[0, 0])
        raise ValueError(f"row {row} of attention_mask has no 1, an empty prompt; leave it out")
    longest = int(lengths.max())
    ids = ids.gather(-1, real.byte().argsort(dim=-1, stable=True))[:, -longest:]
    return ids, longest - lengths if (lengths < longest).any() else None


def too_long(T: int, n_positions: int) -> ValueError:
    """Return the error for T tokens, more than the model has positions for."""
    way = f"pass truncation=True or max_length={n_positions} to the tokenizer"
    return ValueError(f"{T} tokens, but this checkpoint has {n_positions} positions; {way}")


def check_pair(model, assistant_model, ids: Tensor, new: int, K: int) -> None:
    """Raise ValueError, with the way out, if the pair cannot add `new` tokens, K at a time."""
    if not isinstance(assistant_model, GenerationMixin):
        raise ValueError(f"assistant_model={assistant_model!r:.40}; pass a model that generates")
    V, found = model.config.vocab_size, assistant_model.config.vocab_size
    if found != V:
        way = "pass one that was made with the same tokenizer"
        raise ValueError(f"assistant_model has {found} tokens, the model has {V}; {way}")
    if (there := assistant_model.device) != (here := model.device):
        raise ValueError(f"assistant_model is on {there}, the model on {here}; move one with to()")
    if len(ids) > 1:
        raise ValueError(f"{len(ids)} texts with an assistant_model; pass them one by one")
    if not at_least(1)[0](K):
        raise ValueError(f"num_assistant_tokens={K!r}; pass a whole number, 1 or more")
    limit = min(either.config.n_positions for either in (model, assistant_model))
    if ids.shape[-1] + new > limit:
        raise too_long(ids.shape[-1] + new, limit)


@dataclass
class Request:
    """One call of `generate`, prepared: prompts, settings, and what follows from them."""

    model: "GenerationMixin"
    next_logits: core.NextLogits
    config: GenerationConfig
    ids: Tensor  # (B, T), padding in front
    padding: Tensor | None  # (B,): how much of it
    new: int  # tokens to add; there are positions for all of them
    pad: int  # what follows a text that is done
    processors: Sequence[Processor]
    criteria: Sequence[Criterion]
    scores: list[Tensor] | None  # output_scores: filled by the last processor, (B n, V) a step
    generator: torch.Generator | None = None

    def refuse(self, kind: str, **others: bool) -> None:
        """Raise ValueError, naming them, for settings that do not go with this kind of loop."""
        config = self.config
        asked = {
            "num_beams": config.num_beams > 1,
            "output_scores": config.output_scores,
            "use_cache=False": not config.use_cache,
            **others,
        }
        if names := [name for name, is_asked in asked.items() if is_asked]:
            raise ValueError(f"{kind} goes without {', '.join(names)}; leave out one or the other")

    def beams(self, streamer) -> GenerateBeamDecoderOnlyOutput:
        """Search with beams."""
        if streamer is not None:
            raise ValueError("a streamer cannot show beams; pass num_beams=1")
        config, T, scores = self.config, self.ids.shape[-1], self.scores
        rules = config.num_beams, config.length_penalty, config.early_stopping
        finished = [Finished(*rules) for _ in self.ids]
        plan = self.new, finished, self.processors, self.criteria, len(config.eos)
        choice = {"do_sample": config.do_sample, "generator": self.generator}
        beam_search(self.next_logits, self.ids, *plan, **choice)
        ids, sums, indices = best_texts(finished, config.num_return_sequences, self.pad)
        if scores is None:
            return GenerateBeamDecoderOnlyOutput(ids[:, T:])
        first = [step.repeat_interleave(config.num_beams, 0) for step in scores[:1]]  # (B K, V)
        return GenerateBeamDecoderOnlyOutput(ids[:, T:], sums, (*first, *scores[1:]), indices)

    def static(self, streamer) -> Tensor:
        """Return new ids (B n, new) of a static cache."""
        config = self.config
        filters = make_filters(config) if config.do_sample else []
        others = {
            "streamer": streamer is not None,
            "generator": self.generator is not None,
            "processors but temperature, top_k, top_p": len(self.processors) > len(filters),
            "criteria but eos_token_id": len(self.criteria) > bool(config.eos),
        }
        self.refuse('cache_implementation="static" repeats one step, and that', **others)
        n, padding = config.num_return_sequences, self.padding
        ids = self.ids.repeat_interleave(n, dim=0)  # (B, T) -> (B n, T)
        padding = None if padding is None else padding.repeat_interleave(n)
        key = config.temperature, config.top_k, config.top_p
        choice = {"do_sample": config.do_sample, "processors": filters}
        choice |= {"end": config.eos, "pad": self.pad}
        if not self.new:
            return ids[:, :0]
        return generate_static(self.model, ids, self.new, padding, key, **choice)

    def rounds(self, assistant_model: "GenerationMixin", K: int) -> Iterator[Round]:
        """Yield what each call of the model brings, with K drafts of `assistant_model` a time."""
        static = self.config.cache_implementation == "static"
        others = {"num_return_sequences": self.config.num_return_sequences > 1}
        self.refuse("an assistant_model", cache_implementation=static, **others)
        pair = self.model, assistant_model
        check_pair(*pair, self.ids, self.new, K)
        readers = (Reader(one.last_logits, one.config.n_layer) for one in pair)
        plan = self.ids, self.new, K, self.processors, self.criteria
        return rounds(*readers, *plan, self.config.do_sample, self.generator)

    def run(self, streamer=None, assistant_model: "GenerationMixin | None" = None, K: int = 4):
        """Return the output of `generate`, with the new ids alone, and show them to a streamer."""
        config, scores = self.config, self.scores
        rows = self.ids.repeat_interleave(config.num_return_sequences, dim=0)  # (B n, T)
        if assistant_model is not None:
            rounds = self.rounds(assistant_model, K)
            steps = (new for one in rounds for new in one.new.split(1, dim=-1))
        elif config.cache_implementation == "static":
            steps = [self.static(streamer)]
        elif config.num_beams > 1 and self.new:
            return self.beams(streamer)
        else:  # the one loop for greedy and drawn texts
            draw = partial(core.sample, generator=self.generator)
            choose = draw if config.do_sample else core.greedy
            plan = self.new, choose, self.processors, self.criteria, self.pad
            steps = core.stream(self.next_logits, rows, *plan)
        found = [rows[:, :0]]
        if streamer is not None:
            streamer.put(self.ids.cpu())
        for new in steps:
            found.append(new)
            if streamer is not None:
                streamer.put(new[:, 0].cpu())
        scores = None if scores is None else tuple(scores)
        return GenerateDecoderOnlyOutput(torch.cat(found, dim=-1), scores)


class GenerationMixin:
    """What a model that scores the next token can do with chapter 08: generate."""

    def next_logits(
        self, ids: Tensor, cache=None, use_cache: bool = True, padding: Tensor | None = None
    ) -> tuple[Tensor, object]:
        """Return the logits (B, V) after `ids` (B, T), and the cache: what `stream` asks for.

        `padding` says how many tokens in front of each text are padding; a text may have several
        rows, one for each beam.
        """
        options = {"past_key_values": cache, "use_cache": use_cache}
        if padding is not None:
            padding = padding.repeat_interleave(len(ids) // len(padding))[:, None]  # (B, 1)
            past = 0 if cache is None else len(cache)
            positions = torch.arange(past + ids.shape[-1], device=ids.device) - padding  # (B, S)
            options["attention_mask"] = (positions >= 0).long()
            options["position_ids"] = positions.clamp(min=0)[:, past:]  # each text counts from 0
        out = self(ids, logits_to_keep=1, return_dict=True, **options)
        return out.logits[:, -1], out.past_key_values

    def last_logits(self, ids: Tensor, cache, n: int) -> Tensor:
        """Return the logits (n, V) after each of the last n of ids (1, T) behind the cache."""
        out = self(ids, past_key_values=cache, logits_to_keep=n, return_dict=True)
        return out.logits[0]  # (1, n, V) -> (n, V)

    def prepare(
        self, ids: Tensor, mask: Tensor | None, config: GenerationConfig, tokenizer, **given
    ) -> tuple["Request", int]:
        """Return the request, and how many new tokens are wanted; for the arguments see `generate`.

        The request adds no more than there are positions for. Raises ValueError for prompts that
        are too long, and for texts of different lengths without a pad token.
        """
        if ids.ndim != 2:
            raise ValueError(f"input_ids has shape {tuple(ids.shape)}; pass (B, T)")
        wanted, limit = config.max_new_tokens, self.config.n_positions
        wanted = room_for(ids.shape[-1], config.max_length) if wanted is None else wanted
        ids, padding = (ids, None) if mask is None else pad_left(ids, mask)
        T, scores = ids.shape[-1], [] if config.output_scores else None
        if T > limit:
            raise too_long(T, limit)
        processors = make_processors(config, T, padding, given["logits_processor"] or ())
        if scores is not None:  # the last one changes nothing and keeps what it sees
            processors.append(lambda ids, logits: scores.append(logits) or logits)
        criteria = make_criteria(config, tokenizer, given["stopping_criteria"] or (), scores)
        rows = len(ids) * config.num_return_sequences
        pad = config.pad if criteria else 0  # without an end, nothing is padded
        if rows > 1 and pad is None:
            raise ValueError(
                f"{rows} texts may be done at different steps, and there is nothing to pad the "
                "shorter ones with; pass pad_token_id (or eos_token_id, which then serves)"
            )
        plan = ids, padding, min(wanted, limit - T), pad or 0, processors, criteria, scores
        reader = partial(self.next_logits, use_cache=config.use_cache, padding=padding)
        return Request(self, reader, config, *plan, given["generator"]), wanted

    def generate(
        self,
        input_ids: Tensor | None = None,  # (B, T)
        attention_mask: Tensor | None = None,  # (B, T): 0 for padding, on either side
        generation_config: GenerationConfig | None = None,  # laid over that of the model
        *,
        inputs: Tensor | None = None,  # another name of input_ids
        logits_processor: Sequence[Processor] | None = None,  # each (ids, scores) -> scores
        stopping_criteria: Sequence[Callable] | None = None,  # each (ids, scores) -> done? (B,)
        streamer=None,  # a `TextStreamer`, or whatever has `put` and `end`
        tokenizer=None,  # makes text of ids for `stop_strings`
        generator: torch.Generator | None = None,  # of random numbers
        assistant_model: "GenerationMixin | None" = None,  # a smaller model that drafts
        num_assistant_tokens: int = 4,  # how many tokens at a time
        **settings,  # fields of `GenerationConfig`, laid over it
    ) -> Tensor | GenerateDecoderOnlyOutput | GenerateBeamDecoderOnlyOutput:
        """Continue texts: (B, T) -> (B n, T + new), n = `num_return_sequences`.

        Stops, with a warning, at the model's last position. With `assistant_model`, whose drafts it
        checks, it generates the same in fewer calls. Raises ValueError for a prompt that is empty
        or too long, and for settings that make no sense. Whatever happens, a streamer is ended.
        """
        try:
            config = merge(self.generation_config, generation_config, settings)
            prompts, mask = input_ids if inputs is None else inputs, attention_mask
            if prompts is None or not prompts.numel():
                prompts, mask = start_token(prompts, config.bos_token_id, self.device), None
            given = {"logits_processor": logits_processor, "stopping_criteria": stopping_criteria}
            given |= {"tokenizer": tokenizer, "generator": generator}
            request, wanted = self.prepare(prompts, mask, config, **given)
            out = request.run(streamer, assistant_model, num_assistant_tokens)
        finally:
            if streamer is not None:
                streamer.end()
        if (new := out.sequences.shape[-1]) == request.new < wanted:
            warnings.warn(STOPPED.format(self.config.n_positions, new, wanted), stacklevel=2)
        prompts = prompts.repeat_interleave(config.num_return_sequences, dim=0)
        out.sequences = torch.cat([prompts, out.sequences], dim=-1)
        return out if config.return_dict_in_generate else out.sequences


def speculate(
    model: GenerationMixin,
    assistant_model: GenerationMixin,
    input_ids: Tensor,
    num_assistant_tokens: int = 4,
    generator: torch.Generator | None = None,
    **settings,
) -> Speculation:
    """Continue one text, (1, T), as `model` alone would, with drafts of `assistant_model`.

    Like `generate(assistant_model=...)`, but it also tells what became of the drafts. `settings`
    are fields of `GenerationConfig`. Raises ValueError as `generate` does.
    """
    config = merge(model.generation_config, None, settings)
    given = {"logits_processor": (), "stopping_criteria": (), "generator": generator}
    request, wanted = model.prepare(input_ids, None, config, None, **given)
    found = list(replace(request, new=wanted).rounds(assistant_model, num_assistant_tokens))
    return Speculation(torch.cat([input_ids, *(one.new for one in found)], dim=-1), found)
