"""The four public models: the core's networks with the reference's options around them."""

import math
from copy import copy
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Self, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .. import block as core
from ..attention import ATTENTION, make_mask, sdpa_attention
from ..classification import Classifier, classification_loss, last_real, problem_of
from ..double_heads import DoubleHeads, SequenceSummary, choice_loss, state_at
from ..fast.dropout import Dropout
from ..fast.static_cache import is_stock
from ..lm_head import LanguageModel, next_token_loss, shift_labels
from ..model import GPT, KeyValueCache
from . import outputs
from .configuration import PROBLEMS, OpenAIGPTConfig
from .generation import GenerationConfig, GenerationMixin
from .hub import push_to_hub
from .interop import counterpart
from .loading import load_model, save_model

ATTENTION["flash_attention_2"] = sdpa_attention  # PyTorch runs its flash kernel where it can

ROWS = "token_type_ids", "position_ids", "attention_mask"  # inputs with a number for each token
DRAWN = nn.Linear, nn.Embedding, nn.modules.conv._ConvNd, core.Conv1D  # layers with a matrix


@counterpart("transformers.pytorch_utils", "Conv1D")
class Conv1D(core.Conv1D):
    """The linear layer of chapter 05 with the reference's arguments: `nf` channels out, `nx` in."""

    forward = core.Conv1D.forward
    nx, nf = (property(lambda self, axis=axis: self.weight.shape[axis]) for axis in (0, 1))

    def __init__(self, nf: int, nx: int):
        core.Conv1D.__init__(self, nx, nf)

    def __repr__(self) -> str:
        return f"Conv1D(nf={self.nf}, nx={self.nx})"


@counterpart("transformers.modeling_utils", "PreTrainedModel")
class OpenAIGPTPreTrainedModel(nn.Module):
    """What all GPT-1 models share: config, loading, saving, resizing the token embedding.

    Your own head: a subclass whose constructor calls `super().__init__(config)`, makes an
    `OpenAIGPTModel(config)` named `transformer` and its layers, and ends with `self.post_init()`.
    """

    config_class, base_model_prefix, main_input_name = OpenAIGPTConfig, "transformer", "input_ids"
    supports_gradient_checkpointing = True
    push_to_hub = push_to_hub

    def __init__(self, config: OpenAIGPTConfig, *_, **__):
        nn.Module.__init__(self)  # the core's constructors do it again
        self.config = config

    @overload
    @classmethod
    def from_pretrained(
        cls, name: str | Path | None, *, output_loading_info: Literal[True], **options: Any
    ) -> tuple[Self, dict]: ...
    @overload
    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path | None, **options: Any
    ) -> Self: ...
    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **options):
        """Load `"tiny"`, a folder (transformers' or OpenAI's format) or a name on the hub.

        `options` are settings of the config, such as `n_head=4` or `attn_implementation="eager"`;
        `dtype`, a dtype, its name or "auto" (the default: as in the checkpoint); and `HUB_OPTIONS`.
        What was downloaded once is taken from the cache: see `download_file`. Returns the model in
        eval mode; warns of a head that the checkpoint does not have. Raises ValueError for weights
        and settings that do not fit, and OSError, naming the file, if one is missing.

        Args:
            pretrained_model_name_or_path: "tiny", a folder or a name on the hub.
            config: In place of `config.json`.
            state_dict: In place of the files of weights.
            generation_config: In place of `generation_config.json`.
            device: See `find_device`; None: the CPU.
            device_map: Transformers' name of `device`.
            output_loading_info: Also return what is missing, unexpected, mismatched.
            ignore_mismatched_sizes: Parameters of another shape become new ones.
            **options: Settings of the config to replace, `dtype`, and `HUB_OPTIONS` such as
                revision.

        Example:
            >>> OpenAIGPTLMHeadModel.from_pretrained("tiny", dtype="bfloat16", device="cuda")
        """
        return load_model(cls, pretrained_model_name_or_path, **options)

    @classmethod
    def from_config(cls, config: OpenAIGPTConfig, **changes: Any) -> Self:
        """Make a model with new weights; `changes`: settings, such as `dtype`, for it alone."""
        config = cls.config_class.from_dict(config, **changes)
        return cls(config).to(config.dtype)

    def save_pretrained(self, save_directory: str | Path, **options) -> None:
        """Write `config.json` and the weights into a folder; options and errors: `save_model`."""
        save_model(self, save_directory, **options)

    base_model = property(lambda self: getattr(self, "transformer", self))  # without a head
    device = property(lambda self: next(self.parameters()).device)
    dtype = property(lambda self: next(self.parameters()).dtype)
    name_or_path = ""  # where it was loaded from

    can_generate = classmethod(lambda cls: issubclass(cls, GenerationMixin))

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Count the parameters: all, those that learn, or those outside `nn.Embedding` layers."""
        layers = self.modules() if exclude_embeddings else ()
        left_out = {layer.weight for layer in layers if isinstance(layer, nn.Embedding)}
        counted = (x for x in self.parameters() if x.requires_grad or not only_trainable)
        return sum(x.numel() for x in counted if x not in left_out)

    def get_memory_footprint(self, return_buffers: bool = True) -> int:
        """Count the bytes of all parameters and buffers."""
        counted = *self.parameters(), *(self.buffers() if return_buffers else ())
        return sum(x.nbytes for x in counted)

    # -- first values

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Give one layer its first values: matrices with std `initializer_range`, biases 0."""
        std, is_norm = self.config.initializer_range, "Norm" in type(module).__name__
        if is_norm or isinstance(module, DRAWN):
            for name, x in module.named_parameters(recurse=False):
                is_matrix = name == "weight" and not is_norm
                x.normal_(std=std) if is_matrix else x.fill_(name == "weight")

    def init_weights(self) -> None:
        """Give the layers of a head their first values, and tie an LM head; see `_init_weights`."""
        bodies = (module for module in self.modules() if isinstance(module, OpenAIGPTModel))
        done = {x for body in bodies for x in body.parameters()}
        for module in self.modules():
            if {*module.parameters(recurse=False)} - done:
                self._init_weights(module)
        self.tie_weights()

    post_init = init_weights

    # -- attention and memory

    def set_attn_implementation(self, attn_implementation: str) -> None:
        """Choose how attention is computed, also in the config."""
        self.config.attn_implementation = attn_implementation
        self.config.validate()

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs=None, **_) -> None:
        """In training, store only each block's input; the backward pass recomputes the rest."""
        self.base_model.gradient_checkpointing = True

    def gradient_checkpointing_disable(self) -> None:
        self.base_model.gradient_checkpointing = False

    is_gradient_checkpointing = property(lambda self: self.base_model.gradient_checkpointing)

    def enable_input_require_grads(self) -> None:
        """Let gradients reach the embedding's output, where its own parameters do not learn."""
        hook = self.get_input_embeddings().register_forward_hook(lambda _, x, y: y.requires_grad_())
        self._require_grads_hook = hook

    def disable_input_require_grads(self) -> None:
        self._require_grads_hook.remove()

    # -- the token embedding

    def get_input_embeddings(self) -> nn.Embedding:
        return self.base_model.tokens_embed

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the token embedding, (V, C), also in the head that is tied to it."""
        self.base_model.tokens_embed = value
        self.config.vocab_size = len(value.weight)
        self.tie_weights()

    def get_output_embeddings(self) -> nn.Linear | None:
        return getattr(self, "lm_head", None)

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Replace the LM head; `tie_weights` would tie it to the token embedding again."""
        self.lm_head = new_embeddings

    def tie_weights(self, **_) -> None:
        """Tie the LM head, if there is one, to the token embedding."""
        if (head := self.get_output_embeddings()) is not None:
            head.weight = self.base_model.tokens_embed.weight  # the same tensor, not a copy
            head.out_features = len(head.weight)

    def resize_token_embeddings(
        self,
        new_num_tokens: int | None = None,
        pad_to_multiple_of: int | None = None,
        mean_resizing: bool = True,
    ) -> nn.Embedding:
        """Cut the embedding to `new_num_tokens` rows, or add new ones; None changes nothing.

        New rows are the mean of the old ones, or random with standard deviation
        `initializer_range` if `mean_resizing` is False. Returns the embedding.
        """
        old = self.get_input_embeddings().weight
        rows = int(new_num_tokens or len(old))
        rows += -rows % (pad_to_multiple_of or 1)
        if rows != len(old):  # of the same dtype, on the same device
            new = old.data.new_empty(rows, old.shape[1]).normal_(std=self.config.initializer_range)
            if mean_resizing:
                new[:] = old.data.float().mean(0)
            new[: len(old)] = old.data[:rows]
            frozen = not old.requires_grad
            self.set_input_embeddings(nn.Embedding.from_pretrained(new, freeze=frozen))
        return self.get_input_embeddings()


def check_inputs(
    config: OpenAIGPTConfig, ids: Tensor | None, embeds: Tensor | None, cache, rows: tuple
) -> torch.Size:
    """Return the shape of texts, (.., T). Raises ValueError for inputs that do not fit together.

    `rows` are those of `ROWS`: one for each text, (.., T) or (B, T), or one for all, (T,) or
    (1, T); an attention mask has entries for the positions in the cache, too.
    """
    if (ids is None) == (embeds is None):
        raise ValueError("pass either input_ids or inputs_embeds, and not both")
    shape = ids.shape if embeds is None else embeds.shape[:-1]
    if not shape or 0 in shape:
        raise ValueError(f"input of shape {tuple(shape)} has no tokens; pass one or more a text")
    (*texts, T), B = shape, math.prod(shape[:-1])
    S = T if cache is None else len(cache) + T
    if S > (limit := config.n_positions):
        way = "shorten the text, or pass truncation=True to the tokenizer"
        raise ValueError(f"{S} tokens, but this checkpoint has {limit} positions; {way}")
    for name, row in zip(ROWS, rows, strict=True):
        n = S if name == "attention_mask" else T
        if row is not None and tuple(row.shape) not in ((*texts, n), (B, n), (1, n), (n,)):
            way = f"pass {(*texts, n)}, an entry for each token"
            raise ValueError(f"{name} {tuple(row.shape)} for texts of {n} tokens; {way}")
    return shape


def as_batch(rows: Tensor) -> Tensor:
    """Join the axes in front into one: (.., T) -> (B, T)."""
    return rows.reshape(-1, rows.shape[-1])


class OpenAIGPTModel(OpenAIGPTPreTrainedModel, GPT):
    """GPT-1 up to its last block: token ids (B, T) in, hidden states (B, T, C) out.

    Further axes in front, such as the choices of `OpenAIGPTDoubleHeadsModel`, are allowed: (.., T).
    """

    gradient_checkpointing = False

    def __init__(self, config: OpenAIGPTConfig):
        GPT.__init__(self, config)
        for layer in self.modules():
            if type(layer) is nn.Dropout and layer.p > 0:
                layer.__class__ = Dropout  # the same result, cheaper under torch.compile
            if type(layer) is core.Conv1D:
                layer.__class__ = Conv1D

    def clearer(self, error: IndexError, *rows: Tensor | None) -> Exception:
        """Return a ValueError that names the unknown id in `rows`, three of them, or `error`."""
        tables = (self.tokens_embed, self.tokens_embed, self.positions_embed)
        for name, ids, table in zip(("input_ids", *ROWS[:2]), rows, tables, strict=True):
            stop = table.num_embeddings
            if ids is not None and len(wrong := ids[(ids < 0) | (ids >= stop)]):
                way = f"each must be from 0 to {stop - 1}"
                return ValueError(f"{name} holds {int(wrong[0])}; {way}")
        return error

    def make_mask(self, attention_mask: Tensor, T: int, cache: KeyValueCache | None) -> Tensor:
        """Join causality and padding: (.., S) -> (B, 1, T, S). ValueError for other values."""
        padding = as_batch(attention_mask.to(self.device))
        is_traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
        can_look = padding.device.type == "cpu" and not is_traced  # without waiting for a GPU
        if can_look and not ((padding == 0) | (padding == 1)).all():
            raise ValueError("attention_mask may hold only 1 (a real token) and 0 (padding)")
        return make_mask(T, T, padding) if cache is None else cache.mask(T, padding)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        past_key_values: KeyValueCache | None = None,
        use_cache: bool = False,
        **_,
    ) -> outputs.BaseModelOutput | tuple:
        """Compute the hidden states: (.., T) -> (.., T, C).

        Raises ValueError for texts longer than `n_positions` or without a token, an unknown id,
        both or neither of `input_ids` and `inputs_embeds`, and inputs that do not fit each other.

        An attention mask is honoured where it is given. A causal model never attends to padding on
        the right: leave the mask out there. The results at padding have no meaning.

        Args:
            input_ids: Ids of the tokens, (.., T).
            attention_mask: (.., S): 1 real, 0 padding; those in the cache, too.
            token_type_ids: (.., T): further rows of the embedding to add.
            position_ids: (T,) or (.., T); default: count on from the cache.
            inputs_embeds: (.., T, C), in place of input_ids.
            output_attentions: Also return the attention weights; None: as the config says.
            output_hidden_states: Also return all hidden states; None: as the config says.
            return_dict: False: return a tuple.
            past_key_values: A cache to continue from; it grows in place.
            use_cache: Return a cache, to continue from later.

        Example:
            >>> inputs = tokenizer("The old man", return_tensors="pt")
            >>> model(**inputs, output_hidden_states=True).last_hidden_state.shape
        """
        config, states, weights = self.config, output_hidden_states, output_attentions
        states = config.output_hidden_states if states is None else states
        weights = config.output_attentions if weights is None else weights
        rows, cache = (token_type_ids, position_ids, attention_mask), past_key_values
        *texts, T = check_inputs(config, input_ids, inputs_embeds, cache, rows)
        mask = None if attention_mask is None else self.make_mask(attention_mask, T, cache)
        cache = KeyValueCache(len(self.h)) if cache is None and use_cache else cache
        position_ids = None if position_ids is None else as_batch(position_ids)
        blocks, seen = None, []  # seen: hidden states and attention weights, block by block
        if self.gradient_checkpointing and self.training and cache is None:  # else it grows twice
            blocks = [partial(checkpoint, block, use_reentrant=False) for block in self.h]
        watch = (lambda *pair: seen.append(pair)) if states or weights else None
        try:
            x = self.tokens_embed(input_ids) if inputs_embeds is None else inputs_embeds
            x = x.reshape(-1, *x.shape[-2:])  # (.., T, C) -> (B, T, C)
            if token_type_ids is not None:
                x = x + self.tokens_embed(as_batch(token_type_ids))
            x = GPT.forward(self, x, position_ids, mask, cache, watch, weights, blocks)
        except IndexError as error:  # it names neither the argument nor the number
            raise self.clearer(error, input_ids, token_type_ids, position_ids) from error
        x = x.reshape(*texts, *x.shape[1:])  # (B, T, C) -> (.., T, C)
        states = (*(state for state, _ in seen[:-1]), x) if states else None
        weights = tuple(pair[1] for pair in seen[1:]) if weights else None
        output = outputs.BaseModelOutput(x, cache, states, weights)
        named = config.return_dict if return_dict is None else return_dict
        return output if named else output.to_tuple()


def score_tokens(
    head: nn.Linear, hidden: Tensor, labels: Tensor | None, num_items_in_batch=None
) -> tuple[Tensor, Tensor | None]:
    """Return logits, (.., T, C) -> (.., T, V), and with labels (.., T) their mean loss.

    With `num_items_in_batch`, their sum is divided by it: the share of one part of a batch.
    With many positions, a vocabulary padded to a multiple of 64 is faster; only a plain layer
    without hooks may be replaced like this. Raises ValueError for labels of another shape.
    """
    if labels is not None and labels.shape != hidden.shape[:-1]:
        shapes = f"labels {tuple(labels.shape)} for logits of {tuple(hidden.shape[:-1])}"
        raise ValueError(f"{shapes} tokens; pass one for each")
    many = not torch.compiler.is_exporting() and hidden[..., 0].numel() >= 256
    faster = hidden.is_cuda or (labels is None and not torch.compiler.is_compiling())
    if not (many and faster and is_stock(head, nn.Linear) and head.out_features % 64):
        logits = head(hidden)
    else:
        V = head.out_features
        padded = F.linear(hidden, F.pad(head.weight, (0, 0, 0, -V % 64)))  # (.., T, W)
        logits = padded[..., :V]
        if labels is not None and find_spec("triton"):
            from ..fast.fused_loss import fused_loss

            labels, n = shift_labels(labels), num_items_in_batch
            part = 1 if n is None else (labels != -100).sum() / n
            return logits, fused_loss(padded, labels, V) * part
    if labels is None or num_items_in_batch is None:
        return logits, None if labels is None else next_token_loss(logits, labels)
    rows = logits.float().flatten(0, -2), shift_labels(labels).flatten()
    return logits, F.cross_entropy(*rows, reduction="sum") / num_items_in_batch


class OpenAIGPTLMHeadModel(GenerationMixin, OpenAIGPTPreTrainedModel, LanguageModel):
    """GPT-1 as a language model: it scores the next token, (B, T) -> (B, T, V), and generates."""

    _tied_weights_keys = {"lm_head.weight": "transformer.tokens_embed.weight"}

    def __init__(self, config: OpenAIGPTConfig):
        LanguageModel.__init__(self, config, OpenAIGPTModel(config))
        self.generation_config = GenerationConfig.from_model_config(config)

    def prepare_inputs_for_generation(self, input_ids: Tensor, **options) -> dict:
        return {"input_ids": input_ids} | options

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **options,
    ) -> outputs.CausalLMOutput | tuple:
        """Score the next token at each position: (B, T) -> (B, T, V).

        Raises ValueError as `OpenAIGPTModel` does, and for labels that do not fit.

        Args:
            input_ids: Ids of the tokens, (.., T).
            attention_mask: (.., S): 1 real, 0 padding; those in the cache, too.
            token_type_ids: (.., T): further rows of the embedding to add.
            position_ids: (T,) or (.., T); default: count on from the cache.
            inputs_embeds: (.., T, C), in place of input_ids.
            labels: (B, T): also compute the loss; -100 does not count.
            output_attentions: Also return the attention weights; None: as the config says.
            output_hidden_states: Also return all hidden states; None: as the config says.
            return_dict: False: return a tuple.
            logits_to_keep: Score only the last n positions, or those of a tensor.
            **options: past_key_values, use_cache: see `OpenAIGPTModel`.

        Example:
            >>> inputs = tokenizer("The old man", return_tensors="pt")
            >>> out = model(**inputs, labels=inputs["input_ids"])
            >>> out.loss, out.logits.shape
        """
        inputs = input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds
        flags = output_attentions, output_hidden_states, True
        body = self.transformer(*inputs, *flags, **options)
        kept = logits_to_keep  # 0 becomes slice(0, None): all of them
        if not isinstance(kept, Tensor) or kept.dim() == 0:
            kept = slice(-int(kept), None)
        states = body.last_hidden_state[..., kept, :]
        logits, loss = score_tokens(self.lm_head, states, labels, options.get("num_items_in_batch"))
        rest = body.past_key_values, body.hidden_states, body.attentions
        output = outputs.CausalLMOutput(loss, logits, *rest)
        named = self.config.return_dict if return_dict is None else return_dict
        return output if named else output.to_tuple()


SUMMARIES = {  # summary_type -> which vector (.., C) of states (.., T, C) and index (..) or None
    "cls_index": state_at,
    "last": lambda states, index: state_at(states),
    "first": lambda states, index: states[..., 0, :],
    "mean": lambda states, index: states.mean(-2),
}


class Summary(SequenceSummary):
    """`SequenceSummary` with the reference's options: which state, which layer, which activation.

    Only "cls_index" can skip padding: "last" and "mean" do not know where it is.
    """

    def __init__(self, config: OpenAIGPTConfig):
        width, std = config.n_embd, config.initializer_range
        n_out = config.num_labels if config.summary_proj_to_labels else width
        super().__init__(width, n_out, config.summary_first_dropout, std)
        if not config.summary_use_proj:
            self.summary = nn.Identity()
        self.kind = config.summary_type
        self.activation = nn.Tanh() if config.summary_activation == "tanh" else nn.Identity()

    def forward(self, states: Tensor, index: Tensor | None = None) -> Tensor:
        """`index` is (..), for "cls_index"."""
        x = SUMMARIES[self.kind](states, index)
        return self.activation(self.summary(self.dropout(x)))  # (.., C) -> (.., n_out)


class OpenAIGPTDoubleHeadsModel(OpenAIGPTPreTrainedModel, DoubleHeads):
    """GPT-1 for questions with several answers: ids (B, choices, T) in, (B, choices) scores out.

    Beside them the logits of the next token, as in `OpenAIGPTLMHeadModel`.
    """

    _tied_weights_keys = {"lm_head.weight": "transformer.tokens_embed.weight"}

    def __init__(self, config: OpenAIGPTConfig):
        config = copy(config)
        config.num_labels = 1  # as in the reference; the caller's config does not change
        DoubleHeads.__init__(self, config, OpenAIGPTModel(config))
        self.multiple_choice_head = Summary(config)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        mc_token_ids: Tensor | None = None,
        labels: Tensor | None = None,
        mc_labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **options,
    ) -> outputs.OpenAIGPTDoubleHeadsModelOutput | tuple:
        """Score each choice, and its next tokens.

        Raises ValueError as `OpenAIGPTModel` does, and for labels or positions that do not fit.

        Args:
            input_ids: Ids of the tokens, (B, choices, T).
            attention_mask: (.., S): 1 real, 0 padding; those in the cache, too.
            token_type_ids: (.., T): further rows of the embedding to add.
            position_ids: (T,) or (.., T); default: count on from the cache.
            inputs_embeds: (.., T, C), in place of input_ids.
            mc_token_ids: (B, choices): where to read; default: the last token.
            labels: (B, choices, T): also compute `loss`; -100 does not count.
            mc_labels: (B,): the right answer; also compute `mc_loss`.
            output_attentions: Also return the attention weights; None: as the config says.
            output_hidden_states: Also return all hidden states; None: as the config says.
            return_dict: False: return a tuple.
            **options: past_key_values, use_cache: see `OpenAIGPTModel`.

        Example:
            >>> ids = torch.tensor([[[5, 6, 7], [5, 6, 8]]])  # one question, two answers
            >>> model(ids, mc_labels=torch.tensor([0])).mc_loss
        """
        inputs = input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds
        flags = output_attentions, output_hidden_states, True
        body = self.transformer(*inputs, *flags, **options)
        states = body.last_hidden_state
        logits, loss = score_tokens(self.lm_head, states, labels)
        scores = self.multiple_choice_head(states, mc_token_ids).squeeze(-1)
        mc_loss = None if mc_labels is None else choice_loss(scores, mc_labels)
        rest = body.past_key_values, body.hidden_states, body.attentions
        output = outputs.OpenAIGPTDoubleHeadsModelOutput(loss, mc_loss, logits, scores, *rest)
        named = self.config.return_dict if return_dict is None else return_dict
        return output if named else output.to_tuple()


def end_of_texts(
    texts: torch.Size, input_ids: Tensor | None, attention_mask: Tensor | None, pad: int | None
) -> Tensor | None:
    """Return the position of the last token of each text, (..); None: the last position.

    The pad token says it, otherwise the mask. Raises ValueError for several texts without both.
    """
    if input_ids is not None and pad is not None:
        return last_real(input_ids != pad)
    if attention_mask is not None:
        return last_real(as_batch(attention_mask) != 0).expand(texts.numel()).reshape(texts)
    if texts.numel() > 1 and pad is None:
        way = "set model.config.pad_token_id = tokenizer.pad_token_id or pass attention_mask"
        raise ValueError(f"{texts.numel()} texts, but nothing says where each of them ends; {way}")
    return None


class OpenAIGPTForSequenceClassification(OpenAIGPTPreTrainedModel, Classifier):
    """GPT-1 that sorts texts: ids (B, T) in, a score for each of the L classes (B, L) out."""

    def __init__(self, config: OpenAIGPTConfig):
        Classifier.__init__(self, config, config.num_labels, OpenAIGPTModel(config))
        self.num_labels = config.num_labels

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **options,
    ) -> outputs.SequenceClassifierOutput | tuple:
        """Score each class: (B, T) -> (B, L).

        Raises ValueError as `OpenAIGPTModel` does, for labels that do not fit, and for several
        texts if nothing says where each of them ends.

        Args:
            input_ids: Ids of the tokens, (.., T).
            attention_mask: (.., S): 1 real, 0 padding; those in the cache, too.
            token_type_ids: (.., T): further rows of the embedding to add.
            position_ids: (T,) or (.., T); default: count on from the cache.
            inputs_embeds: (.., T, C), in place of input_ids.
            labels: (B,) or (B, L), see `classification_loss`.
            output_attentions: Also return the attention weights; None: as the config says.
            output_hidden_states: Also return all hidden states; None: as the config says.
            return_dict: False: return a tuple.
            **options: past_key_values, use_cache: see `OpenAIGPTModel`.

        Example:
            >>> inputs = tokenizer("A good film", return_tensors="pt")
            >>> model(**inputs, labels=torch.tensor([1])).logits.argmax(-1)
        """
        inputs = input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds
        flags = output_attentions, output_hidden_states, True
        body = self.transformer(*inputs, *flags, **options)
        states = body.last_hidden_state
        T = states.shape[-2]
        mask = None if attention_mask is None else attention_mask[..., -T:]  # without the cache
        ends = end_of_texts(states.shape[:-2], input_ids, mask, self.config.pad_token_id)
        logits = self.score(state_at(states, ends))  # (.., T, C) -> (.., C) -> (.., L)
        loss = None
        if labels is not None:
            problem = self.config.problem_type or problem_of(labels, logits.shape[-1])
            fits = labels.shape in (logits.shape, logits.squeeze(-1).shape)
            if problem not in PROBLEMS or not (fits or problem.startswith("single")):
                given = f"labels {tuple(labels.shape)} for problem_type={problem!r}"
                way = f"pass {tuple(logits.shape)}, or whole numbers for one class of several"
                raise ValueError(f"{given}; choose from {', '.join(PROBLEMS)}, and {way}")
            loss = classification_loss(logits, labels, problem)
        rest = body.past_key_values, body.hidden_states, body.attentions
        output = outputs.SequenceClassifierOutput(loss, logits, *rest)
        named = self.config.return_dict if return_dict is None else return_dict
        return output if named else output.to_tuple()


# A checkpoint of another kind of model is refused, so only these classes can be meant.
AutoModel = OpenAIGPTModel
AutoModelForCausalLM = OpenAIGPTLMHeadModel
AutoModelForSequenceClassification = OpenAIGPTForSequenceClassification
