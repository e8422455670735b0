"""The four public models: the core's networks with the reference's options around them."""

import math
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from minigpt.attention import ATTENTION
from minigpt.block import Block
from minigpt.classification import Classifier, classification_loss, last_real, problem_of
from minigpt.double_heads import (
    DoubleHeads,
    SequenceSummary,
    choice_loss,
    mean_over_texts,
    state_at,
)
from minigpt.fast.flash_attention import flash_attention
from minigpt.fast.static_cache import is_stock
from minigpt.hf.configuration import CHOICES, OpenAIGPTConfig
from minigpt.hf.generation import GenerationConfig, GenerationMixin
from minigpt.hf.outputs import (
    BaseModelOutput,
    CausalLMOutput,
    ModelOutput,
    OpenAIGPTDoubleHeadsModelOutput,
    SequenceClassifierOutput,
)
from minigpt.lm_head import LanguageModel, next_token_loss, shift_labels
from minigpt.model import GPT, KeyValueCache, NoCache

ATTENTION["flash_attention_2"] = flash_attention


def may_look(x: Tensor) -> bool:
    """Say whether values may be checked: where that costs no wait for a GPU, and nothing traces."""
    tracing = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return x.device.type == "cpu" and not tracing


def check_attention(name: str) -> None:
    """Raise ValueError, naming all, for an implementation of attention that is not known."""
    if name not in ATTENTION:
        raise ValueError(f"attn_implementation={name!r}; choose from {', '.join(ATTENTION)}")


class OpenAIGPTPreTrainedModel(nn.Module):
    """What all GPT-1 models share: a config, checkpoints, an embedding that may grow."""

    config_class, base_model_prefix, main_input_name = OpenAIGPTConfig, "transformer", "input_ids"

    def __init__(self, config: OpenAIGPTConfig, attn_implementation: str | None = None):
        nn.Module.__init__(self)  # the network is built by the classes below
        if attn_implementation is not None:
            config = replace(config, attn_implementation=attn_implementation)
        self.config = config

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options):
        """Load `"tiny"`, a folder (transformers' or OpenAI's format) or a name on the hub.

        Options and errors: see `load_model`.
        """
        from minigpt.hf.loading import load_model

        return load_model(cls, pretrained_model_name_or_path, **options)

    def save_pretrained(self, save_directory: str | Path, **options) -> None:
        """Write `config.json` and the weights into a folder; options and errors: `save_model`."""
        from minigpt.hf.loading import save_model

        save_model(self, save_directory, **options)

    base_model = property(lambda self: getattr(self, "transformer", self))  # without a head
    device = property(lambda self: self.base_model.tokens_embed.weight.device)
    dtype = property(lambda self: self.base_model.tokens_embed.weight.dtype)

    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    def set_attn_implementation(self, attn_implementation: str) -> None:
        """Compute attention in another way from now on; the same as to set it in the config.

        Raises ValueError, naming all, for one that is not known.
        """
        check_attention(attn_implementation)
        self.config.attn_implementation = attn_implementation

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs=None) -> None:
        """In training, keep only the input of each block, and compute the rest a second time."""
        self.base_model.gradient_checkpointing = True

    def gradient_checkpointing_disable(self) -> None:
        self.base_model.gradient_checkpointing = False

    def get_input_embeddings(self) -> nn.Embedding:
        return self.base_model.tokens_embed

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Exchange the token embedding, (V, C), also where a head uses it."""
        self.base_model.tokens_embed = value
        self.config.vocab_size = len(value.weight)
        self.tie_weights()

    def get_output_embeddings(self) -> nn.Linear | None:
        return getattr(self, "lm_head", None)

    def tie_weights(self) -> None:
        """Let the head that scores tokens, where there is one, use the token embedding."""
        if (head := self.get_output_embeddings()) is not None:
            head.weight = self.base_model.tokens_embed.weight  # the same tensor, not a copy
            head.out_features = len(head.weight)

    def resize_token_embeddings(self, new_num_tokens: int | None = None) -> nn.Embedding:
        """Cut the embedding to `new_num_tokens` rows, or add rows from N(0, initializer_range).

        Returns the embedding; None changes nothing. Raises ValueError for less than one row.
        """
        old = self.get_input_embeddings()
        rows = len(old.weight) if new_num_tokens is None else int(new_num_tokens)
        if rows < 1:
            raise ValueError(f"new_num_tokens={rows}; pass 1 or more, such as len(tokenizer)")
        if rows != len(old.weight):  # of the same dtype, on the same device
            weight = old.weight.data.new_empty(rows, self.config.n_embd)
            weight.normal_(std=self.config.initializer_range)
            weight[: len(old.weight)] = old.weight.data[:rows]
            new = nn.Embedding(*weight.shape, old.padding_idx, _weight=weight)
            self.set_input_embeddings(new.requires_grad_(old.weight.requires_grad))
        return self.get_input_embeddings()

    def chosen(self, name: str, value: bool | None) -> bool:
        """Return what a call asks for or, if it does not say (None), what the config does."""
        return getattr(self.config, name) if value is None else value

    def answer(self, output: ModelOutput, return_dict: bool | None) -> ModelOutput | tuple:
        return output if self.chosen("return_dict", return_dict) else output.to_tuple()


def check_range(name: str, values: Tensor, stop: int, ignored: int = 0) -> None:
    """Raise ValueError unless `values` are whole numbers from 0 to `stop` - 1, or `ignored`.

    On a GPU nobody looks at the values, see `may_look`: there, a wrong one is CUDA's own error.
    """
    if values.is_floating_point() or values.dtype == torch.bool:
        raise ValueError(f"{name} is {values.dtype}; pass whole numbers, torch.long")
    if may_look(values):
        wrong = values[((values < 0) | (values >= stop)) & (values != ignored)]
        if len(wrong):
            way = f"it must lie between 0 and {stop - 1}"
            raise ValueError(f"{name} has {int(wrong[0])} in it; {way}")


def check_rows(name: str, values: Tensor, shape: torch.Size, stop: int, ignored: int = 0) -> None:
    """Raise ValueError unless `values` have this shape and pass `check_range`."""
    if tuple(values.shape) != tuple(shape):
        raise ValueError(f"{name} has shape {tuple(values.shape)}; pass {tuple(shape)}")
    check_range(name, values, stop, ignored)


def check_answers(name: str, answers: Tensor, count: int, stop: int) -> None:
    """Raise ValueError unless `answers`, in any shape, are `count` that pass `check_range`."""
    if answers.numel() != count:
        raise ValueError(f"{name} has shape {tuple(answers.shape)}; pass ({count},)")
    check_range(name, answers, stop, ignored=-100)


def check_labels(labels: Tensor, hidden: Tensor, V: int) -> None:
    """Raise ValueError for labels of the next token that do not fit hidden states (.., T, C)."""
    check_rows("labels", labels, hidden.shape[:-1], V, ignored=-100)
    if labels.shape[-1] < 2:
        raise ValueError("labels hold 1 token a text; the loss of the next needs 2 or more")


def check_inputs(model: "OpenAIGPTModel", x: Tensor, past: int, **rows: Tensor | None) -> None:
    """Raise ValueError for vectors x (.., T, C) that cannot be read, or rows that do not fit them.

    `rows` are (T,), (1, T), (.., T) or, with the axes in front made one, (B, T); those of
    `attention_mask` have entries for the past, too.
    """
    *texts, T, C = x.shape
    limit, width = model.config.n_positions, model.tokens_embed.embedding_dim
    check_attention(model.config.attn_implementation)
    if C != width or not x.is_floating_point():
        given = f"{tuple(x.shape)} of {x.dtype}"
        raise ValueError(f"inputs_embeds {given}; pass floats, {width} channels a token")
    if past + T > limit:
        way = "pass truncation=True or max_length to the tokenizer, or shorten the text"
        raise ValueError(f"{past + T} tokens, but this checkpoint has {limit} positions; {way}")
    for name, row in rows.items():
        S = past + T if name == "attention_mask" else T
        shapes = (*texts, S), (math.prod(texts), S), (1, S), (S,)
        if row is not None and tuple(row.shape) not in shapes:
            way = f"pass {(*texts, S)}, an entry for each token"
            raise ValueError(f"{name} {tuple(row.shape)} for texts of {S} tokens; {way}")
    if (positions := rows["position_ids"]) is not None:
        check_range("position_ids", positions, limit)
    mask = rows["attention_mask"]
    if mask is not None and may_look(mask) and not ((mask == 0) | (mask == 1)).all():
        raise ValueError("attention_mask has other values than 1, a real token, and 0, padding")


def flat(rows: Tensor) -> Tensor:
    """Make one of the axes in front: (.., T) -> (B, T)."""
    return rows.reshape(-1, rows.shape[-1])


def spread(rows: Tensor | None, shape: torch.Size) -> Tensor | None:
    """Give rows the axes of texts (.., T): (B, T) -> (.., T), (1, T) -> (T,); keep any others."""
    if rows is None or rows.dim() != 2:
        return rows
    return rows[0] if rows.shape[0] == 1 else rows.reshape(shape)


def open_cache(model: "OpenAIGPTModel", past_key_values, use_cache: bool, B: int) -> NoCache:
    """Return the cache to go on from: the one given, a new one if `use_cache`, or `NoCache`.

    Raises ValueError for a cache of another model or of other texts, and for any if gradient
    checkpointing would make it grow twice.
    """
    n_layer = len(model.h)
    if past_key_values is None and not use_cache:
        return NoCache(n_layer)
    if model.gradient_checkpointing and model.training:
        way = "pass use_cache=False or call gradient_checkpointing_disable()"
        raise ValueError(
            f"gradient checkpointing runs blocks twice, a cache must not grow twice; {way}"
        )
    if past_key_values is None:
        return KeyValueCache(n_layer)
    if not isinstance(past_key_values, NoCache):
        given, way = type(past_key_values).__name__, "pass what a call with use_cache=True returned"
        raise ValueError(f"past_key_values is a {given}, not a KeyValueCache; {way}")
    layers, H = past_key_values.layers, model.config.n_head
    makes = n_layer, B, H, model.tokens_embed.embedding_dim // H
    keys = layers[0].keys if layers else None  # (B, H, S, D)
    had = (len(layers), *(makes[1:] if keys is None else (*keys.shape[:2], keys.shape[3])))
    if had != makes:
        kind = "{} layers, {} texts, {} heads of {} channels"
        found, wanted = kind.format(*had), kind.format(*makes)
        way = "pass the cache that this model made of the same texts, or none"
        raise ValueError(f"past_key_values hold {found}, but this call makes {wanted}; {way}")
    return past_key_values


class Watch:
    """Keeps hidden states and attention weights, as far as they are wanted: for `GPT.forward`."""

    def __init__(self, want_states: bool, want_weights: bool):
        self.states, self.weights = [] if want_states else None, [] if want_weights else None

    def __call__(self, x: Tensor, weights: Tensor | None = None) -> None:
        if self.states is not None:
            self.states.append(x)
        if self.weights is not None and weights is not None:
            self.weights.append(weights)


class OpenAIGPTModel(OpenAIGPTPreTrainedModel, GPT):
    """GPT-1 up to its last block: token ids (B, T) in, hidden states (B, T, C) out.

    Further axes in front, such as the choices of `OpenAIGPTDoubleHeadsModel`, are allowed: (.., T).
    """

    gradient_checkpointing = False

    def __init__(self, config: OpenAIGPTConfig, attn_implementation: str | None = None):
        super().__init__(config, attn_implementation)
        GPT.__init__(self, self.config)

    def embed(self, input_ids: Tensor | None, inputs_embeds: Tensor | None = None) -> Tensor:
        """Return the vectors of tokens, (.., T) -> (.., T, C), or those that are given."""
        if (input_ids is None) == (inputs_embeds is None):
            given = "neither was" if input_ids is None else "both were"
            raise ValueError(f"pass either input_ids or inputs_embeds; {given} given")
        shape = inputs_embeds.shape[:-1] if input_ids is None else input_ids.shape
        if math.prod(shape) == 0 or not shape:
            raise ValueError(
                f"input of shape {tuple(shape)} holds no token; pass one or more a text"
            )
        if input_ids is None:
            return inputs_embeds
        check_range("input_ids", input_ids, self.tokens_embed.num_embeddings)
        return self.tokens_embed(input_ids)

    def run(self, block: Block, x: Tensor, *inputs):
        """Call a block on (.., T, C); with gradient checkpointing so that it is computed twice."""
        shape, x = x.shape, x.reshape(-1, *x.shape[-2:])  # (.., T, C) -> (B, T, C)
        if self.gradient_checkpointing and self.training:
            x, weights = checkpoint(block, x, *inputs, use_reentrant=False)
        else:
            x, weights = block(x, *inputs)
        return x.reshape(shape), weights

    def forward(
        self,
        input_ids: Tensor | None = None,  # (.., T)
        attention_mask: Tensor | None = None,  # (.., S): 1 real, 0 padding; those in the cache too
        token_type_ids: Tensor | None = None,  # (.., T): further rows of the embedding to add
        position_ids: Tensor | None = None,  # (T,) or (.., T); default: count on from the cache
        inputs_embeds: Tensor | None = None,  # (.., T, C), in place of input_ids
        output_attentions: bool | None = None,  # None, here and below: as the config says
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,  # False: a tuple
        past_key_values: KeyValueCache | None = None,  # continue from here; it grows in place
        use_cache: bool = False,  # return a cache, to continue from later
    ) -> BaseModelOutput | tuple:
        """Raises ValueError for texts longer than `n_positions` or without a token, an unknown id,
        both or neither of `input_ids` and `inputs_embeds`, and inputs that do not fit each other.

        An attention mask is honoured where it is given. A causal model never attends to padding on
        the right: leave the mask out there. The results at padding have no meaning.
        """
        x = self.embed(input_ids, inputs_embeds)  # (.., T, C)
        cache = open_cache(self, past_key_values, use_cache, math.prod(x.shape[:-2]))
        rows = {"token_type_ids": token_type_ids, "position_ids": position_ids}
        check_inputs(self, x, len(cache), attention_mask=attention_mask, **rows)
        mask = attention_mask  # (.., S) -> (B, 1, T, S)
        mask = mask if mask is None else cache.mask(x.shape[-2], flat(mask.to(x.device)))
        types, positions = (spread(row, x.shape[:-1]) for row in rows.values())
        want_weights = self.chosen("output_attentions", output_attentions)
        want_states = self.chosen("output_hidden_states", output_hidden_states)
        watch = Watch(want_states, want_weights)
        x = x if types is None else x + self.embed(types)
        x = GPT.forward(self, x, positions, mask, cache, watch, want_weights)
        output = BaseModelOutput(
            x,
            cache if use_cache or past_key_values is not None else None,
            tuple(watch.states) if want_states else None,
            tuple(watch.weights) if want_weights else None,
        )
        return self.answer(output, return_dict)


def pays_to_pad(head: nn.Linear, hidden: Tensor, labels: Tensor | None) -> bool:
    """Say whether logits are faster with the vocabulary padded to a multiple of 64.

    They are for many positions at once, on a GPU with labels, too. Only a plain layer without hooks
    may be replaced by a padded product.
    """
    if not is_stock(head, nn.Linear) or torch.compiler.is_exporting() or torch.jit.is_tracing():
        return False
    quick = hidden.is_cuda or (labels is None and not torch.compiler.is_compiling())
    return quick and hidden[..., 0].numel() >= 256 and head.out_features % 64 != 0


def score_tokens(
    head: nn.Linear, hidden: Tensor, labels: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Return logits, (.., T, C) -> (.., T, V), and with labels (.., T) their loss.

    Raises ValueError for labels that do not fit.
    """
    V = head.out_features
    if labels is not None:
        check_labels(labels, hidden, V)
    if not pays_to_pad(head, hidden, labels):
        logits = head(hidden)
    else:
        padded = F.linear(hidden, F.pad(head.weight, (0, 0, 0, -V % 64)))  # (.., T, W)
        logits = padded[..., :V]
        if labels is not None and find_spec("triton"):
            from minigpt.fast.fused_loss import fused_loss

            return logits, fused_loss(padded, shift_labels(labels), V)
    return logits, None if labels is None else next_token_loss(logits, labels)


class OpenAIGPTLMHeadModel(GenerationMixin, OpenAIGPTPreTrainedModel, LanguageModel):
    """GPT-1 as a language model: it scores the next token, (B, T) -> (B, T, V), and generates."""

    def __init__(self, config: OpenAIGPTConfig, attn_implementation: str | None = None):
        super().__init__(config, attn_implementation)
        LanguageModel.__init__(self, self.config, OpenAIGPTModel(self.config))
        self.generation_config = GenerationConfig.from_model_config(self.config)

    def forward(
        self,
        input_ids: Tensor | None = None,  # the first five: see `OpenAIGPTModel`
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,  # (B, T): also compute the loss; -100 does not count
        *,
        return_dict: bool | None = None,  # False: a tuple
        logits_to_keep: int | Tensor = 0,  # score only the last so many positions, or only these
        **options,  # output_attentions, output_hidden_states, past_key_values, use_cache
    ) -> CausalLMOutput | tuple:
        """Raises ValueError as `OpenAIGPTModel` does, and for labels that do not fit."""
        inputs = input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds
        body = self.transformer(*inputs, return_dict=True, **options)
        kept = logits_to_keep
        if getattr(kept, "ndim", 0) == 0:  # a number, of numpy too; 0 becomes slice(0, None), all
            kept = slice(-int(kept), None)
        logits, loss = score_tokens(self.lm_head, body.last_hidden_state[..., kept, :], labels)
        rest = body.past_key_values, body.hidden_states, body.attentions
        return self.answer(CausalLMOutput(loss, logits, *rest), return_dict)


class Summary(SequenceSummary):
    """`SequenceSummary` with the reference's options: which state, which layer, which activation.

    Only "cls_index" can avoid padding: "last" and "mean" know nothing of it.
    """

    def __init__(self, config: OpenAIGPTConfig):
        n_out = config.num_labels if config.summary_proj_to_labels else config.n_embd
        dropout, std = config.summary_first_dropout, config.initializer_range
        super().__init__(config.n_embd, n_out, dropout, std)
        if not config.summary_use_proj:
            self.summary = nn.Identity()
        self.kind = config.summary_type
        if self.kind not in ("cls_index", "last", "first", "mean"):
            way = "choose from cls_index, last, first, mean"
            raise NotImplementedError(f"summary_type={self.kind!r} was never built; {way}")
        self.activation = nn.Tanh() if config.summary_activation == "tanh" else nn.Identity()

    def forward(self, states: Tensor, index: Tensor | None = None, one_mask: bool = False):
        """`index` is (..), for "cls_index". `one_mask`: all choices lose the same channels."""
        if self.kind in ("mean", "first"):  # (.., T, C) -> (.., C)
            x = states.mean(-2) if self.kind == "mean" else states[..., 0, :]
        elif self.kind == "last" or index is None:
            x = state_at(states)
        else:
            check_rows("mc_token_ids", index, states.shape[:-2], states.shape[-2])
            x = state_at(states, index)
        # (.., C): all channels of x by themselves, or (.., 1, C): those of all choices alike
        x = x * self.dropout(torch.ones_like(x[..., :1, :])) if one_mask else self.dropout(x)
        return self.activation(self.summary(x))  # (.., C) -> (.., n_out)


class OpenAIGPTDoubleHeadsModel(OpenAIGPTPreTrainedModel, DoubleHeads):
    """GPT-1 for questions with several answers: ids (B, choices, T) in, (B, choices) scores out.

    Beside them the logits of the next token, as in `OpenAIGPTLMHeadModel`.
    """

    def __init__(self, config: OpenAIGPTConfig, attn_implementation: str | None = None):
        super().__init__(replace(config, num_labels=1, id2label=None), attn_implementation)
        DoubleHeads.__init__(self, self.config, OpenAIGPTModel(self.config))
        self.multiple_choice_head = Summary(self.config)

    def forward(
        self,
        input_ids: Tensor | None = None,  # (B, choices, T); the first five: see `OpenAIGPTModel`
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        mc_token_ids: Tensor | None = None,  # (B, choices): where to read; default: the last token
        labels: Tensor | None = None,  # (B, choices, T): also compute `loss`; -100 does not count
        mc_labels: Tensor | None = None,  # (B,): the right answer; also compute `mc_loss`
        *,
        return_dict: bool | None = None,  # False: a tuple
        openai_losses: bool = False,  # True: as OpenAI's code counts, not as transformers does
        **options,  # output_attentions, output_hidden_states, past_key_values, use_cache
    ) -> OpenAIGPTDoubleHeadsModelOutput | tuple:
        """With `openai_losses`, the logits also score the position rows, (B, choices, T, V + n);
        `loss` is the mean over texts; and in training the choices share one dropout mask.

        Raises ValueError as `OpenAIGPTModel` does, and for labels or positions that do not fit.
        """
        inputs = input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds
        body = self.transformer(*inputs, return_dict=True, **options)
        states = body.last_hidden_state
        logits, loss = self.score_tokens(states, labels, openai_losses)
        one_mask = {"one_mask": True} if openai_losses else {}  # for a head put in its place
        scores = self.multiple_choice_head(states, mc_token_ids, **one_mask).squeeze(-1)
        mc_loss = None if mc_labels is None else self.compare(scores, mc_labels, states.shape[:-2])
        rest = body.past_key_values, body.hidden_states, body.attentions
        output = OpenAIGPTDoubleHeadsModelOutput(loss, mc_loss, logits, scores, *rest)
        return self.answer(output, return_dict)

    def score_tokens(self, states: Tensor, labels: Tensor | None, openai_losses: bool):
        """Return logits and loss as `score_tokens` does, or as OpenAI's code does."""
        if not openai_losses:
            return score_tokens(self.lm_head, states, labels)
        positions = F.linear(states, self.transformer.positions_embed.weight)
        logits = torch.cat([self.lm_head(states), positions], -1)  # (.., V), (.., n) -> (.., V + n)
        if labels is not None:
            check_labels(labels, states, self.lm_head.out_features)
        return logits, None if labels is None else mean_over_texts(logits, labels)

    def compare(self, scores: Tensor, labels: Tensor, texts: torch.Size) -> Tensor:
        """Return the loss of the choices; ValueError for labels or scores that do not fit."""
        if scores.shape != texts:
            way = "set summary_use_proj and summary_proj_to_labels to compare answers"
            raise ValueError(f"the summary has {scores.shape[-1]} scores for an answer; {way}")
        check_answers("mc_labels", labels, math.prod(texts[:-1]), texts[-1])
        return choice_loss(scores, labels)


def end_of_texts(
    texts: torch.Size, input_ids: Tensor | None, attention_mask: Tensor | None, pad: int | None
) -> Tensor | None:
    """Return the position of the last token of each text, (..); None: the last position.

    Raises ValueError for several texts if nothing tells where each ends.
    """
    if input_ids is not None and pad is not None:
        return last_real(input_ids != pad)
    if input_ids is None and attention_mask is not None:
        return last_real(flat(attention_mask) != 0).expand(math.prod(texts)).reshape(texts)
    if math.prod(texts) == 1 or (input_ids is None and pad is not None):
        return None
    trouble = "no pad token to tell where each ends"
    way = "set model.config.pad_token_id = tokenizer.pad_token_id"
    if input_ids is None:
        trouble, way = "inputs_embeds do not tell where each ends", "pass attention_mask"
    raise ValueError(f"{math.prod(texts)} texts, but {trouble}; {way}")


def check_classes(labels: Tensor, logits: Tensor, problem: str) -> None:
    """Raise ValueError for labels that do not fit logits (.., L) and the problem."""
    *texts, L = logits.shape
    if problem not in CHOICES["problem_type"]:  # set after the config was made
        known = ", ".join(CHOICES["problem_type"][1:])  # without None
        raise ValueError(f"problem_type={problem!r}; choose from {known}")
    if problem == "single_label_classification":
        return check_answers("labels", labels, math.prod(texts), L)
    fits = labels.numel() == logits.numel() if L == 1 else labels.shape == logits.shape
    if not fits:
        given = f"labels {tuple(labels.shape)} for {problem} with {L} outputs"
        raise ValueError(f"{given}; pass {(*texts, L)}, or whole numbers for one class of several")
    several = problem == "multi_label_classification" and may_look(labels)
    if several and ((labels < 0) | (labels > 1)).any():
        way = "set problem_type='regression' for quantities"
        raise ValueError(f"{problem} wants labels from 0 (no) to 1 (yes), not others; {way}")


class OpenAIGPTForSequenceClassification(OpenAIGPTPreTrainedModel, Classifier):
    """GPT-1 that sorts texts: ids (B, T) in, a score for each of the L classes (B, L) out."""

    def __init__(self, config: OpenAIGPTConfig, attn_implementation: str | None = None):
        super().__init__(config, attn_implementation)
        Classifier.__init__(self, self.config, config.num_labels, OpenAIGPTModel(self.config))
        self.num_labels = config.num_labels

    def forward(
        self,
        input_ids: Tensor | None = None,  # the first five: see `OpenAIGPTModel`
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,  # (B,) or (B, L), see `classification_loss`
        *,
        return_dict: bool | None = None,  # False: a tuple
        **options,  # output_attentions, output_hidden_states, past_key_values, use_cache
    ) -> SequenceClassifierOutput | tuple:
        """Raises ValueError as `OpenAIGPTModel` does, for labels that do not fit, and for several
        texts if nothing tells where each ends.
        """
        inputs = input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds
        body = self.transformer(*inputs, return_dict=True, **options)
        states = body.last_hidden_state
        T = states.shape[-2]
        mask = None if attention_mask is None else attention_mask[..., -T:]  # without the cache
        ends = end_of_texts(states.shape[:-2], input_ids, mask, self.config.pad_token_id)
        logits = self.score(state_at(states, ends))  # (.., T, C) -> (.., C) -> (.., L)
        loss = None
        if labels is not None:
            problem = self.config.problem_type or problem_of(labels, logits.shape[-1])
            check_classes(labels, logits, problem)
            loss = classification_loss(logits, labels, problem)
        rest = body.past_key_values, body.hidden_states, body.attentions
        return self.answer(SequenceClassifierOutput(loss, logits, *rest), return_dict)
