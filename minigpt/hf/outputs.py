"""What the models return: named results, with the reference's names."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

from torch import Tensor
from torch.utils._pytree import register_pytree_node

from ..model import KeyValueCache
from .interop import counterpart


@counterpart("transformers.utils.generic", "ModelOutput")
class ModelOutput(OrderedDict):
    """Named results: a dictionary of those that were computed; by index and slice, a tuple.

    Its entries are attributes, too; those that were not computed are None. As in the reference, it
    can also be made of a dictionary or of pairs, and PyTorch looks inside (`torch.export`).
    """

    def __init_subclass__(cls):
        register_pytree_node(
            cls,
            lambda output: (list(output.values()), list(output)),
            lambda values, names: cls(dict(zip(names, values, strict=True))),
            serialized_type_name=f"{cls.__module__}.{cls.__name__}",
        )

    def __post_init__(self):
        first = fields(self)[0].name
        if isinstance(value := getattr(self, first), Mapping | Iterator):
            OrderedDict.__delitem__(self, first)
            for name, x in {first: None, **dict(value)}.items():
                setattr(self, name, x)

    def to_tuple(self) -> tuple:
        return tuple(self.values())

    def __getitem__(self, key: str | int | slice):
        is_name = isinstance(key, str)
        return OrderedDict.__getitem__(self, key) if is_name else self.to_tuple()[key]

    def __setitem__(self, key: str, value) -> None:
        OrderedDict.__setitem__(self, key, value)
        object.__setattr__(self, key, value)

    def __setattr__(self, name: str, value) -> None:
        object.__setattr__(self, name, value)
        if value is not None:
            OrderedDict.__setitem__(self, name, value)


@dataclass
class BaseModelOutput(ModelOutput):
    """What `OpenAIGPTModel` returns."""

    last_hidden_state: Tensor | None = None  # (B, T, C)
    past_key_values: KeyValueCache | None = None  # with use_cache
    hidden_states: tuple[Tensor, ...] | None = None  # n_layer + 1 of (B, T, C), the embedding first
    attentions: tuple[Tensor, ...] | None = None  # n_layer of (B, H, T, S)


@dataclass
class CausalLMOutput(ModelOutput):
    """What `OpenAIGPTLMHeadModel` returns."""

    loss: Tensor | None = None  # (), with labels: mean cross-entropy in nats per token
    logits: Tensor | None = None  # (B, T, V)
    past_key_values: KeyValueCache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class OpenAIGPTDoubleHeadsModelOutput(ModelOutput):
    """What `OpenAIGPTDoubleHeadsModel` returns."""

    loss: Tensor | None = None  # (), with labels: of the tokens, in nats per token
    mc_loss: Tensor | None = None  # (), with mc_labels: of the choices, in nats per question
    logits: Tensor | None = None  # (B, choices, T, V)
    mc_logits: Tensor | None = None  # (B, choices)
    past_key_values: KeyValueCache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class SequenceClassifierOutput(CausalLMOutput):
    """What `OpenAIGPTForSequenceClassification` returns: the same, with logits (B, L)."""


@dataclass
class GenerateDecoderOnlyOutput(ModelOutput):
    """What `generate` returns with `return_dict_in_generate`.

    n is `num_return_sequences`, K the number of beams.
    """

    sequences: Tensor = None  # (B n, T + new), the prompt first
    sequences_scores: Tensor | None = None  # of beams, with output_scores: (B n,)
    scores: tuple[Tensor, ...] | None = None  # with output_scores: (B n, V) for each step
    logits: tuple[Tensor, ...] | None = None  # with output_logits: the same before processors
    beam_indices: Tensor | None = None  # of beams: (B n, new), rows of (B K); -1 after the end
    attentions: tuple[tuple[Tensor, ...], ...] | None = None  # of each step
    hidden_states: tuple[tuple[Tensor, ...], ...] | None = None
    past_key_values: KeyValueCache | None = None
    rounds: tuple | None = None  # with assistant_model: drafted and accepted tokens


class GenerateBeamDecoderOnlyOutput(GenerateDecoderOnlyOutput):
    """The same for K beams; scores (B K, V) are log-probabilities."""
