"""`generate`: one settings object, checked once, around the pure functions of chapter 08."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from math import inf

import torch
from torch import Tensor

from minigpt import generation as core
from minigpt.fast import warn_caller
from minigpt.fast.speculative import Reader, Speculation, rounds
from minigpt.fast.static_cache import generate_static
from minigpt.generation import Criterion, Processor, forbid_early_end
from minigpt.hf.beams import Finished, beam_search, best_texts
from minigpt.hf.generation_config import GenerationConfig, as_list
from minigpt.hf.outputs import GenerateBeamDecoderOnlyOutput, GenerateDecoderOnlyOutput

# Settings that become functions: a request r makes one from the value x of its config, if x has an
# effect. Processors act in this order, which is that of transformers, and filters after them.
PROCESSORS = {
    "repetition_penalty": lambda x, r: x != 1 and r.hide_padding(core.penalize_repetition, x),
    "no_repeat_ngram_size": lambda x, r: x and r.hide_padding(core.forbid_repeated_ngrams, x),
    "min_length": lambda x, r: x and partial(forbid_early_end, eos=r.config.eos, length=x),
    "suppress_tokens": lambda x, r: x is not None and partial(forbid_early_end, eos=x, length=inf),
}
FILTERS = {  # for sampling; they need only the logits
    "temperature": lambda x, r: x != 1 and (lambda ids, logits: logits / x),
    "top_k": lambda x, r: x and (lambda ids, logits: core.keep_top_k(logits, max(x, r.least))),
    "top_p": lambda x, r: x != 1 and (lambda ids, logits: core.keep_top_p(logits, x, r.least)),
}
CRITERIA = {
    "eos_token_id": lambda x, r: x is not None and partial(core.ends_with_token, eos=as_list(x)),
    "stop_strings": lambda x, r: x and stop_at(as_list(x), r.tokenizer),
}
PLAIN_CACHE = "the cache grows: the static one takes only temperature, top_k, top_p, eos_token_id"


def merge(model_config, call_config, settings: dict) -> GenerationConfig:
    """Merge settings: those of a call replace its config's, and both replace the model's.

    As in transformers, None in the keywords of a call restores a default, and top_k=None keeps all.
    Raises ValueError for unknown keywords.
    """
    known = GenerationConfig.__dataclass_fields__.keys()
    if unknown := ", ".join(sorted(settings.keys() - known)):
        raise ValueError(f"generate has no setting {unknown}; see GenerationConfig for all names")
    if "top_k" in settings:
        settings = settings | {"top_k": settings["top_k"] or 0}
    said = {name: x for name, x in vars(call_config or GenerationConfig()).items() if x is not None}
    config = GenerationConfig(**vars(model_config) | said | settings)
    strange = {name for name in vars(config).keys() - known if name[0] != "_"}
    if strange := ", ".join(sorted(strange - {"transformers_version"})):
        warn_caller(f"generation_config sets {strange}, which has no effect in minigpt")
    return config


def room_for(T: int, max_length: int | None) -> int:
    """Return how many tokens to add to a prompt of T: 20 by default, as in transformers.

    Raises ValueError if `max_length` leaves no room.
    """
    if max_length is not None and max_length <= T:
        trouble = f"max_length={max_length}, but the prompt alone has {T} tokens"
        raise ValueError(f"{trouble}; pass a larger max_length, or max_new_tokens")
    return 20 if max_length is None else max_length - T


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


def start_token(ids: Tensor | None, bos_token_id: int | None, device) -> Tensor:
    """Return the start token, (B, 1), in place of prompts without a token, None or (B, 0).

    Raises ValueError, saying what to pass, if there is none.
    """
    if bos_token_id is None:
        trouble = "the prompt is empty, and this checkpoint has no start token"
        raise ValueError(f"{trouble}; pass input_ids with one token or more, or bos_token_id")
    return torch.full((len(ids) if ids is not None else 1, 1), bos_token_id, device=device)


def pad_left(ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor | None]:
    """Move padding to the left: ids (B, T) -> (B, T'), and how much each row has, (B,).

    T' is the length of the longest row. Without padding, the amount is None. Raises ValueError for
    a mask of another shape, and for a row that has only padding.
    """
    if attention_mask.shape != ids.shape:
        given, wanted = tuple(attention_mask.shape), tuple(ids.shape)
        raise ValueError(f"attention_mask has shape {given}; pass that of input_ids, {wanted}")
    real = attention_mask.bool()
    lengths = real.sum(-1)  # (B,)
    if not lengths.all():
        row = int(lengths.argmin())
        raise ValueError(f"row {row} of attention_mask is all 0: the prompt is empty; leave it out")
    longest = int(lengths.max())
    ids = ids.gather(-1, real.byte().argsort(dim=-1, stable=True))[:, -longest:]
    return ids, longest - lengths if (lengths < longest).any() else None


def shown(steps: Iterable[Tensor], ids: Tensor, streamer) -> Iterator[Tensor]:
    """Show a prompt (1, T) and each new token to a streamer as they pass."""
    streamer.put(ids.cpu())
    for new in steps:
        streamer.put(new[:, 0].cpu())
        yield new


class Request:
    """One call of `generate`, prepared: prompts, settings, and the functions made of them."""

    def __init__(self, model, ids, mask, config, processors, criteria, tokenizer, generator):
        """Arguments and errors: see `generate`."""
        self.model, self.config = model, config
        self.tokenizer, self.generator = tokenizer, generator
        if ids is None or not ids.numel():
            ids, mask = start_token(ids, config.bos_token_id, model.device), None
        if ids.ndim != 2:
            raise ValueError(f"input_ids has shape {tuple(ids.shape)}; pass (B, T)")
        if config.max_new_tokens is None:
            config.max_new_tokens = room_for(ids.shape[-1], config.max_length)
        self.prompts = ids.repeat_interleave(config.num_return_sequences, dim=0)  # (B n, T)
        self.ids, self.padding = (ids, None) if mask is None else pad_left(ids, mask)
        T, limit = self.ids.shape[-1], model.config.n_positions
        if T > limit:
            way = f"pass truncation=True or max_length={limit} to the tokenizer"
            raise ValueError(f"{T} tokens, but this checkpoint has {limit} positions; {way}")
        self.new = min(config.max_new_tokens, limit - T)  # the positions that are left
        if config.min_new_tokens is not None:
            config.min_length = T + config.min_new_tokens
        # filters keep at least this many tokens: for beams, one more than there are end tokens
        self.least = 1 if config.num_beams == 1 else 1 + max(1, len(config.eos))
        self.seen = {}  # what is returned beside the ids, filled step by step
        always, filters, ends = (
            [made for name, make in table.items() if (made := make(getattr(config, name), self))]
            for table in (PROCESSORS, FILTERS if config.do_sample else {}, CRITERIA)
        )
        keep = [self.keep("scores")] if config.output_scores else []
        self.processors = [*always, *processors, *filters, *keep]
        scores = self.seen.get("scores")
        self.criteria = ends + [lambda ids, one=one: one(ids, scores) for one in criteria]
        self.pad = config.pad if self.criteria else 0  # without criteria, nothing is padded
        plain = self.processors == filters and config.num_beams == 1  # and no hooks
        self.is_plain = plain and not criteria and config.stop_strings is None

    def keep(self, name: str) -> Processor:
        """Make a processor that stores the logits in `seen` and does not change them."""
        steps = self.seen.setdefault(name, [])
        return lambda ids, logits: steps.append(logits) or logits

    def hide_padding(self, function: Callable, x) -> Processor:
        """Make a processor from a function of ids (-1 at padding), logits and x."""

        def hidden(ids: Tensor, logits: Tensor) -> Tensor:
            front = self.padding.repeat_interleave(len(ids) // len(self.padding))[:, None]
            index = torch.arange(ids.shape[-1], device=ids.device)  # (T,), and front is (B K, 1)
            return function(ids.masked_fill(index < front, -1), logits, x)

        return (lambda *given: function(*given, x)) if self.padding is None else hidden

    def beams(self, next_logits: core.NextLogits) -> GenerateBeamDecoderOnlyOutput:
        """Search with beams; return the new ids alone."""
        config, T = self.config, self.ids.shape[-1]
        rules = config.num_beams, config.length_penalty, config.early_stopping
        finished = [Finished(*rules) for _ in self.ids]
        plan = self.new, finished, self.processors, self.criteria, len(config.eos)
        choice = {"do_sample": config.do_sample, "generator": self.generator}
        beam_search(next_logits, self.ids, *plan, **choice)
        ids, sums, indices = best_texts(finished, config.num_return_sequences, self.pad)
        if scores := self.seen.get("scores"):
            scores[0] = scores[0].repeat_interleave(config.num_beams, dim=0)  # (B, V) -> (B K, V)
        seen = {name: tuple(steps) for name, steps in self.seen.items()}
        return GenerateBeamDecoderOnlyOutput(ids[:, T:], sums, beam_indices=indices, **seen)

    def static(self, rows: Tensor) -> Tensor:
        """Return the new ids (B n, new) after `rows` (B n, T), with a static cache."""
        config, padding = self.config, self.padding
        if padding is not None:
            padding = padding.repeat_interleave(config.num_return_sequences)
        key = config.temperature, config.top_k, config.top_p
        choice = {"do_sample": config.do_sample, "processors": self.processors}
        choice |= {"end": config.eos, "pad": self.pad}
        return generate_static(self.model, rows, self.new, padding, key, **choice)

    def drafted(self, assistant_model: "GenerationMixin") -> Iterator[Tensor]:
        """Yield new ids (1, 1): `assistant_model` drafts them, and the model checks them.

        Raises ValueError for what is no such model, another vocabulary and several texts.
        """
        config, pair = self.config, (self.model, assistant_model)
        if not isinstance(assistant_model, GenerationMixin):
            raise ValueError(f"assistant_model={assistant_model!r:.40}; pass a language model")
        V, found = (one.config.vocab_size for one in pair)
        if found != V:
            way = "pass one that was made with the same tokenizer"
            raise ValueError(f"assistant_model has {found} tokens, the model has {V}; {way}")
        n, rows = config.num_return_sequences, len(self.ids)
        asked = {"num_beams": config.num_beams > 1, "output_scores": config.output_scores}
        asked |= {"num_return_sequences": n > 1, f"{rows} texts": rows > 1}
        if names := ", ".join(name for name, is_asked in asked.items() if is_asked):
            raise ValueError(f"assistant_model cannot be used with {names}; leave out one")
        readers = (Reader(one.last_logits, one.config.n_layer) for one in pair)
        plan = self.ids, self.new, config.num_assistant_tokens, self.processors, self.criteria
        for one in rounds(*readers, *plan, config.do_sample, self.generator):
            self.seen.setdefault("rounds", []).append(one)
            yield from one.new.split(1, dim=-1)

    def run(self, streamer, assistant_model: "GenerationMixin | None"):
        """Return the output of `generate`, with the new ids alone, and show them to a streamer."""
        config, options = self.config, {"use_cache": self.config.use_cache, "padding": self.padding}
        next_logits = partial(self.model.next_logits, **options)
        rows = self.ids.repeat_interleave(config.num_return_sequences, dim=0)  # (B n, T)
        plain = self.is_plain and streamer is self.generator is None
        if (static := config.cache_implementation == "static") and not plain:
            warn_caller(PLAIN_CACHE)
        if assistant_model is not None:
            steps = self.drafted(assistant_model)
        elif static and plain and self.new:
            steps = [self.static(rows)]
        elif config.num_beams > 1 and self.new:
            if streamer is not None:
                raise ValueError("a streamer cannot show beams; pass num_beams=1")
            return self.beams(next_logits)
        else:  # one loop for greedy and sampled texts
            draw = partial(core.sample, generator=self.generator)
            choose = draw if config.do_sample else core.greedy
            plan = self.new, choose, self.processors, self.criteria, self.pad
            steps = core.stream(next_logits, rows, *plan)
        if streamer is not None:
            steps = shown(steps, self.ids, streamer)
        ids = torch.cat([rows[:, :0], *steps], dim=-1)
        seen = {name: tuple(steps) for name, steps in self.seen.items()}
        return GenerateDecoderOnlyOutput(ids, **seen)


class GenerationMixin:
    """The methods of a language model that generate texts with the functions of chapter 08."""

    def next_logits(
        self, ids: Tensor, cache=None, use_cache: bool = True, padding: Tensor | None = None
    ) -> tuple[Tensor, object]:
        """Return the logits (B, V) after `ids` (B, T), and the cache, as `stream` needs them.

        `padding` is the number of padding tokens before each text; a text may have several rows,
        one for each beam.
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
        """Return the logits (n, V) after each of the last n ids; ids (1, T) follow the cache."""
        out = self(ids, past_key_values=cache, logits_to_keep=n, return_dict=True)
        return out.logits[0]  # (1, n, V) -> (n, V)

    def generate(
        self,
        input_ids: Tensor | None = None,  # (B, T)
        attention_mask: Tensor | None = None,  # (B, T): 0 for padding, on either side
        generation_config: GenerationConfig | None = None,  # replaces settings of the model's
        *,
        inputs: Tensor | None = None,  # another name of input_ids
        logits_processor: Sequence[Processor] | None = None,  # each (ids, scores) -> scores
        stopping_criteria: Sequence[Callable] | None = None,  # each (ids, scores) -> done? (B,)
        streamer=None,  # a `TextStreamer`, or an object with `put` and `end`
        tokenizer=None,  # decodes ids for `stop_strings`
        generator: torch.Generator | None = None,  # of random numbers
        assistant_model: "GenerationMixin | None" = None,  # a smaller model that drafts
        **settings,  # fields of `GenerationConfig` to replace
    ) -> Tensor | GenerateDecoderOnlyOutput | GenerateBeamDecoderOnlyOutput:
        """Continue texts: (B, T) -> (B n, T + new), n = `num_return_sequences`.

        Stops, with a warning, at the model's last position. With `assistant_model`, whose drafts it
        checks, it generates the same in fewer calls. Raises ValueError for a prompt that is empty
        or too long, and for settings that are not valid. Always calls the streamer's `end`.
        """
        try:
            config = merge(self.generation_config, generation_config, settings)
            given = input_ids if inputs is None else inputs, attention_mask, config
            hooks = logits_processor or (), stopping_criteria or ()
            request = Request(self, *given, *hooks, tokenizer, generator)
            out = request.run(streamer, assistant_model)
        finally:
            if streamer is not None:
                streamer.end()
        if (new := out.sequences.shape[-1]) == request.new < config.max_new_tokens:
            warn_caller(
                f"stopped at the last position, {self.config.n_positions}, after {new} new tokens "
                f"of {config.max_new_tokens}; shorten the prompt or pass a smaller max_new_tokens"
            )
        out.sequences = torch.cat([request.prompts, out.sequences], dim=-1)
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

    Like `generate(assistant_model=...)`, but it also returns how many drafted tokens were accepted.
    `settings` are those of `generate`.
    """
    settings |= {"num_assistant_tokens": num_assistant_tokens, "return_dict_in_generate": True}
    helper = {"assistant_model": assistant_model, "generator": generator}
    out = model.generate(input_ids, **helper, **settings)
    return Speculation(out.sequences, list(out.rounds or ()))
