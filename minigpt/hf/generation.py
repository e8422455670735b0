"""`generate`: one settings object, checked once, around the pure functions of chapter 08."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from time import monotonic
from typing import Any, Literal, overload

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from minigpt import generation as core
from minigpt.fast import warn_caller
from minigpt.fast.speculative import Reader, Speculation, rounds
from minigpt.fast.static_cache import generate_static, has_fast_step
from minigpt.generation import Processor
from minigpt.hf.beams import Finished, beam_search, best_texts
from minigpt.hf.generation_config import DEFAULTS, GenerationConfig, settings_of
from minigpt.hf.outputs import GenerateBeamDecoderOnlyOutput, GenerateDecoderOnlyOutput
from minigpt.hf.processors import OFF, as_list, bind

PLAIN_CACHE = (
    "the cache grows: the static one takes only filters of sampling and eos_token_id, and needs "
    "minigpt's own modules without hooks, in eval mode, and on a GPU Triton and GELU"
)
WITHOUT_EFFECT = frozenset(  # settings of transformers that do not change what is generated here
    "assistant_confidence_threshold assistant_lookbehind cache_config compile_config "
    "decoder_start_token_id disable_compile encoder_no_repeat_ngram_size "
    "encoder_repetition_penalty is_assistant low_memory max_cache_len max_matching_ngram_size "
    "num_assistant_tokens_schedule prefill_chunk_size prompt_lookup_num_tokens synced_gpus "
    "target_lookbehind token_healing transformers_version trust_remote_code".split()
)
STATES = "hidden_states", "attentions"


def set_seed(seed: int) -> None:
    """Seed the random numbers of Python, numpy and PyTorch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def merge(model_config, call_config, settings: dict) -> GenerationConfig:
    """Merge settings: those of a call replace its config's, and both replace the model's.

    As in transformers, None in the keywords of a call restores a default, and top_k=None keeps all.
    Raises ValueError for unknown keywords; warns of unknown settings of a config.
    """
    known = GenerationConfig.__dataclass_fields__.keys() | WITHOUT_EFFECT
    given = [name for name, x in settings.items() if x is not None and x != OFF.get(name)]
    if unknown := ", ".join(name for name in given if name not in known):
        raise ValueError(f"generate has no setting {unknown}; see GenerationConfig for all names")
    if "top_k" in settings:
        settings = settings | {"top_k": settings["top_k"] or 0}
    said = settings_of(model_config) | settings_of(call_config)
    if strange := ", ".join(sorted(said.keys() - known)):
        warn_caller(f"generation_config sets {strange}, which has no effect in minigpt")
    return GenerationConfig(**DEFAULTS | said | settings)


def room_for(T: int, max_length: int | None) -> int:
    """Return how many tokens to add to a prompt of T: 20 by default, as in transformers.

    Raises ValueError if `max_length` leaves no room.
    """
    if max_length is not None and max_length <= T:
        trouble = f"max_length={max_length}, but the prompt alone has {T} tokens"
        raise ValueError(f"{trouble}; pass a larger max_length, or max_new_tokens")
    return 20 if max_length is None else max_length - T


def start_token(ids: Tensor | None, bos_token_id: int | None, device) -> Tensor:
    """Return the start token, (B, 1), in place of prompts without a token, None or (B, 0).

    Raises ValueError, saying what to pass, if there is none.
    """
    if bos_token_id is None:
        trouble = "the prompt is empty, and this checkpoint has no start token"
        raise ValueError(f"{trouble}; pass input_ids with one token or more, or bos_token_id")
    return torch.full((len(ids) if ids is not None else 1, 1), bos_token_id, device=device)


def pad_left(rows: list, attention_mask: Tensor) -> tuple[list, Tensor | None]:
    """Move padding to the left: rows (B, T) -> (B, T'), and how much each text has, (B,).

    T' is the length of the longest text. Without padding, the amount is None. Raises ValueError for
    a mask of another shape.
    """
    if attention_mask.shape != rows[0].shape:
        given, wanted = tuple(attention_mask.shape), tuple(rows[0].shape)
        raise ValueError(f"attention_mask has shape {given}; pass that of input_ids, {wanted}")
    real = attention_mask.bool()
    lengths = real.sum(-1)  # (B,)
    longest, order = int(lengths.max()), real.byte().argsort(dim=-1, stable=True)
    rows = [None if x is None else x.gather(-1, order)[:, -longest:] for x in rows]
    return rows, longest - lengths if (lengths < longest).any() else None


def shown(steps: Iterable[Tensor], ids: Tensor, streamer) -> Iterator[Tensor]:
    """Show a prompt (1, T) and each new token to a streamer as they pass."""
    streamer.put(ids.cpu())
    for new in steps:
        streamer.put(new[:, 0].cpu())
        yield new


class Request:
    """One call of `generate`, prepared: prompts, settings, and the functions made of them."""

    def __init__(self, model, config, ids, mask, types, processors, criteria, tokenizer, generator):
        """Arguments and errors: see `generate`."""
        self.model, self.config, self.eos = model, config, as_list(config.eos_token_id)
        self.pad = [*as_list(config.pad_token_id), *self.eos, 0][0]  # follows a text that is done
        self.tokenizer, self.generator, self.start = tokenizer, generator, monotonic()
        if ids is None or (isinstance(ids, Tensor) and not ids.numel()):
            ids, mask = start_token(ids, config.bos_token_id, model.device), None
        if not isinstance(ids, Tensor) or ids.ndim != 2:
            way = 'pass tokenizer(text, return_tensors="pt")["input_ids"]'
            raise TypeError(f"expected ids (B, T) as a tensor, got {ids!r:.60}; {way}")
        if config.max_new_tokens is None:
            config.max_new_tokens = room_for(ids.shape[-1], config.max_length)
        self.prompts = ids.repeat_interleave(config.num_return_sequences, dim=0)  # (B n, T)
        rows, padding = [ids, types], None
        if mask is None and config.pad_token_id is not None and self.pad not in self.eos:
            mask = ids != self.pad  # as in transformers
        if mask is not None:
            rows, padding = pad_left(rows, mask)
        self.T, limit = rows[0].shape[-1], model.config.n_positions
        if self.T > limit:
            way = "shorten the text, or pass truncation=True to the tokenizer"
            raise ValueError(f"{self.T} tokens, but this checkpoint has {limit} positions; {way}")
        self.end = self.T + config.max_new_tokens
        self.new = min(self.end, limit) - self.T  # the positions that are left
        n = config.num_return_sequences if config.num_beams == 1 else 1  # beams share a prompt
        rows = [None if x is None else x.repeat_interleave(n, dim=0) for x in (*rows, padding)]
        self.ids, self.types, self.padding = rows  # (B n, T), (B n, T), (B n,)
        if config.min_new_tokens is not None:
            config.min_length = self.T + config.min_new_tokens
        self.seen = {}  # what is returned beside the ids, filled step by step
        names = ("logits", *STATES) if config.return_dict_in_generate else ()
        self.kept = [name for name in names if getattr(config, f"output_{name}")]
        self.states = [name for name in self.kept if name in STATES]
        # filters keep at least this many tokens: for beams, one more than there are end tokens
        self.least = 1 if config.num_beams == 1 else 1 + max(1, len(self.eos))
        self.processors, self.criteria, self.is_plain = bind(self, processors, criteria)

    def keep(self, name: str, ids: Tensor, x):
        """Keep the results x of one step, to be returned with the others of this name."""
        self.seen[name] = (*self.seen.get(name, ()), x)
        return x

    def is_done(self, criterion: Callable, ids: Tensor) -> Tensor:
        """Ask a caller's criterion, which may answer for all texts at once: -> (B,)."""
        answer = criterion(ids, self.seen.get("scores"))
        return torch.as_tensor(answer, device=ids.device).expand(len(ids))

    def next_logits(self, ids: Tensor, cache) -> tuple[Tensor, object]:
        """Return the logits (B, V) after `ids` (B, T), and the cache; keep what is asked for.

        A text may have several rows, one for each beam. New tokens have the type of the last one.
        """
        options, types, (B, T) = {}, self.types, ids.shape
        S = T if cache is None else len(cache) + T
        if self.padding is not None:
            positions = self.positions(B, S)
            options["attention_mask"] = (positions >= 0).long()
            options["position_ids"] = positions.clamp(min=0)[:, S - T :]
        if types is not None:
            index = torch.arange(S - T, S, device=ids.device).clamp(max=types.shape[-1] - 1)
            options["token_type_ids"] = types.repeat_interleave(B // len(types), dim=0)[:, index]
        # without a cache, each step has the states of the whole text, as in transformers
        options |= {f"output_{name}": True for name in self.states}
        options |= {"past_key_values": cache, "logits_to_keep": 1, "return_dict": True}
        out = self.model(ids, use_cache=self.config.use_cache and not self.states, **options)
        copies = len(self.ids) * self.config.num_beams // len(out.logits)
        for name in self.kept:  # of beams, one for each
            x = out.logits[:, -1].float() if name == "logits" else out[name]
            x = x if copies < 2 else tree_map(lambda y: y.repeat_interleave(copies, dim=0), x)
            self.keep(name, ids, x)
        self.seen["past_key_values"] = out.past_key_values
        return out.logits[:, -1], out.past_key_values

    def positions(self, B: int, S: int) -> Tensor:
        """Return the positions (B, S) in padded texts: each counts from 0, padding is below."""
        padding = self.padding.repeat_interleave(B // len(self.padding))  # (B,)
        return torch.arange(S, device=padding.device) - padding[:, None]

    def real(self, ids: Tensor) -> Tensor:
        """Return ids (B, T) with -1 at padding, which is no token."""
        return ids if self.padding is None else ids.masked_fill(self.positions(*ids.shape) < 0, -1)

    def beams(self) -> GenerateBeamDecoderOnlyOutput:
        """Search with beams; return the new ids alone."""
        config = self.config
        rules = config.num_beams, config.length_penalty, config.early_stopping
        finished = [Finished(*rules) for _ in self.ids]
        plan = self.new, finished, self.processors, self.criteria, len(self.eos)
        choice = {"do_sample": config.do_sample, "generator": self.generator}
        beam_search(self.next_logits, self.ids, *plan, **choice)
        ids, sums, indices = best_texts(finished, config.num_return_sequences, self.pad)
        seen = self.seen | {"sequences_scores": sums if config.output_scores else None}
        return GenerateBeamDecoderOnlyOutput(ids[:, self.T :], beam_indices=indices, **seen)

    def static(self) -> Tensor:
        """Return the new ids (B n, new), with a static cache."""
        config = self.config
        # functions and settings; what `min_p` and others have in common is told by keywords
        key = [(one.func, one.args[0], one.keywords) for one in self.processors]
        choice = {"do_sample": config.do_sample, "processors": self.processors}
        choice |= {"end": self.eos, "pad": self.pad}
        return generate_static(self.model, self.ids, self.new, self.padding, key, **choice)

    def drafted(self, assistant_model: "GenerationMixin") -> Iterator[Tensor]:
        """Yield new ids (1, 1): `assistant_model` drafts them, and the model checks them.

        Raises ValueError for another vocabulary and several texts.
        """
        config, pair = self.config, (self.model, assistant_model)
        V, found = (one.config.vocab_size for one in pair)
        if found != V:
            way = "pass one that was made with the same tokenizer"
            raise ValueError(f"assistant_model has {found} tokens, the model has {V}; {way}")
        if config.num_beams > 1 or config.output_scores or len(self.prompts) > 1:
            way = "pass one prompt, and no num_beams, num_return_sequences or output_scores"
            raise ValueError(f"assistant_model drafts for one text; {way}")
        readers = (Reader(one.last_logits, one.config.n_layer) for one in pair)
        plan = self.ids, self.new, config.num_assistant_tokens, self.processors, self.criteria
        for one in rounds(*readers, *plan, config.do_sample, self.generator):
            self.keep("rounds", self.ids, one)
            yield from one.new.split(1, dim=-1)

    def run(self, streamer, assistant_model: "GenerationMixin | None"):
        """Return the output of `generate`, with the new ids alone, and show them to a streamer."""
        config = self.config
        wanted = config.cache_implementation == "static"
        plain = self.is_plain and config.num_beams == 1 and not self.kept
        plain = plain and self.types is streamer is self.generator is None
        static = wanted and plain and has_fast_step(self.model)
        if wanted and not static:
            warn_caller(PLAIN_CACHE)
        if assistant_model is not None:
            steps = self.drafted(assistant_model)
        elif static and self.new:
            steps = [self.static()]
        elif config.num_beams > 1 and self.new:
            if streamer is not None:
                raise ValueError("a streamer cannot show beams; pass num_beams=1")
            return self.beams()
        else:  # one loop for greedy and sampled texts
            draw = partial(core.sample, generator=self.generator)
            choose = draw if config.do_sample else core.greedy
            plan = self.new, choose, self.processors, self.criteria, self.pad
            steps = core.stream(self.next_logits, self.ids, *plan)
        if streamer is not None:
            steps = shown(steps, self.ids, streamer)
        ids = torch.cat([self.ids[:, :0], *steps], dim=-1)
        return GenerateDecoderOnlyOutput(ids, **self.seen)


class GenerationMixin:
    """The methods of a language model that generate texts with the functions of chapter 08."""

    def next_logits(self, ids: Tensor, cache=None, **options) -> tuple[Tensor, object]:
        """Return the logits (B, V) after `ids` (B, T), and the cache, as `stream` needs them."""
        options |= {"past_key_values": cache, "use_cache": True, "return_dict": True}
        out = self(ids, logits_to_keep=1, **options)
        return out.logits[:, -1], out.past_key_values

    def last_logits(self, ids: Tensor, cache, n: int) -> Tensor:
        """Return the logits (n, V) after each of the last n ids; ids (1, T) follow the cache."""
        out = self(ids, past_key_values=cache, logits_to_keep=n, return_dict=True)
        return out.logits[0]  # (1, n, V) -> (n, V)

    @overload
    def generate(
        self, *inputs: Any, return_dict_in_generate: Literal[False] = ..., **options: Any
    ) -> Tensor: ...
    @overload
    def generate(
        self, *inputs: Any, return_dict_in_generate: Literal[True], **options: Any
    ) -> GenerateDecoderOnlyOutput | GenerateBeamDecoderOnlyOutput: ...
    def generate(
        self,
        inputs: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        logits_processor: Sequence[Processor] | None = None,
        stopping_criteria: Sequence[Callable] | None = None,
        prefix_allowed_tokens_fn: Callable | None = None,
        synced_gpus: bool | None = None,
        assistant_model: "GenerationMixin | None" = None,
        streamer=None,
        *,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        tokenizer=None,
        generator: torch.Generator | None = None,
        **settings,
    ) -> Tensor | GenerateDecoderOnlyOutput | GenerateBeamDecoderOnlyOutput:
        """Continue texts: (B, T) -> (B n, T + new), n = `num_return_sequences`.

        Stops, with a warning, at the model's last position. With `assistant_model`, whose drafts it
        checks, it generates the same in fewer calls. Raises TypeError for a text, ValueError for a
        prompt that is empty or too long, and for settings that are not valid. Always calls the
        streamer's `end`.

        Args:
            inputs: Ids of the prompts, (B, T).
            generation_config: Replaces settings of the model's.
            logits_processor: Each (ids, scores) -> scores.
            stopping_criteria: Each (ids, scores) -> done? (B,).
            prefix_allowed_tokens_fn: (number of prompt, ids) -> list of ids.
            synced_gpus: No effect; accepted as in transformers.
            assistant_model: A smaller model with the same vocabulary, which drafts.
            streamer: A `TextStreamer`, or an object with `put` and `end`.
            input_ids: Another name of inputs.
            attention_mask: (B, T): 0 for padding, on either side.
            token_type_ids: (B, T): further rows of the embedding to add.
            tokenizer: Decodes ids for `stop_strings`.
            generator: Where random numbers come from.
            **settings: Fields of `GenerationConfig`: max_new_tokens, do_sample, temperature,
                top_k, top_p, num_beams, repetition_penalty, stop_strings and so on.

        Example:
            >>> inputs = tokenizer("The old man", return_tensors="pt")
            >>> tokenizer.decode(model.generate(**inputs, max_new_tokens=20, do_sample=True)[0])
        """
        try:
            config = merge(self.generation_config, generation_config, settings)
            config.prefix_allowed_tokens_fn = prefix_allowed_tokens_fn
            ids = input_ids if inputs is None else inputs
            hooks = logits_processor or (), stopping_criteria or (), tokenizer, generator
            request = Request(self, config, ids, attention_mask, token_type_ids, *hooks)
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

    def compute_transition_scores(
        self, sequences: Tensor, scores: Sequence[Tensor], beam_indices=None, normalize_logits=False
    ) -> Tensor:
        """Return the score of each new token (B n, new), from what `generate` returned.

        `normalize_logits`: log-probabilities of scores that are none yet. After an end: 0.
        """
        table = torch.stack([*scores], dim=1)  # (B K, new, V)
        table = table.log_softmax(-1) if normalize_logits else table
        rows = torch.arange(len(table), device=table.device)[:, None].expand(table.shape[:2])
        rows = rows if beam_indices is None else beam_indices
        rows = rows[:, : (rows >= 0).sum(-1).max()]
        steps = torch.arange(rows.shape[-1], device=rows.device)
        found = table[rows.clamp(min=0), steps, sequences[:, sequences.shape[-1] - len(steps) :]]
        return found.masked_fill(rows < 0, 0)


def speculate(
    model, assistant_model, input_ids: Tensor, num_assistant_tokens=4, generator=None, **settings
) -> Speculation:
    """Continue one text, (1, T), as `model` alone would, with drafts of `assistant_model`.

    Like `generate(assistant_model=...)`, but it also returns how many drafted tokens were accepted.
    `settings` are those of `generate`.
    """
    settings |= {"assistant_model": assistant_model, "num_assistant_tokens": num_assistant_tokens}
    settings |= {"generator": generator, "return_dict_in_generate": True}
    out = model.generate(input_ids, **settings)
    return Speculation(out.sequences, list(out.rounds or ()))
