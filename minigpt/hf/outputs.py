"""What the models return: named results, with the reference's names."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from torch import Tensor

from minigpt.model import KeyValueCache


class ModelOutput(Mapping):
    """Named results: a mapping of names and, by index and slice, a tuple; None is left out."""

    def keys(self) -> list[str]:
        return [field.name for field in fields(self) if getattr(self, field.name) is not None]

    def to_tuple(self) -> tuple:
        return tuple(getattr(self, name) for name in self.keys())

    def __getitem__(self, key: str | int | slice):
        if not isinstance(key, str):
            return self.to_tuple()[key]
        if key not in self.keys():
            raise KeyError(f"{key!r} was not computed; there are: {', '.join(self.keys())}")
        return getattr(self, key)

    def __setitem__(self, key: str, value) -> None:
        setattr(self, key, value)

    def __iter__(self):
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())


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


@dataclass
class SequenceClassifierOutput(ModelOutput):
    """What `OpenAIGPTForSequenceClassification` returns."""

    loss: Tensor | None = None  # (), with labels
    logits: Tensor | None = None  # (B, L)
    past_key_values: KeyValueCache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class GenerateDecoderOnlyOutput(ModelOutput):
    """What `generate` returns with `return_dict_in_generate`; n is `num_return_sequences`."""

    sequences: Tensor | None = None  # (B n, T + new), the prompt first
    scores: tuple[Tensor, ...] | None = None  # with output_scores: (B n, V) for each step
    logits: tuple[Tensor, ...] | None = None  # with output_logits: the same before processors
    attentions: tuple[tuple[Tensor, ...], ...] | None = None  # of each step
    hidden_states: tuple[tuple[Tensor, ...], ...] | None = None
    past_key_values: KeyValueCache | None = None
    rounds: tuple | None = None  # with assistant_model: drafted and accepted tokens


@dataclass
class GenerateBeamDecoderOnlyOutput(ModelOutput):
    """The same for K beams."""

    sequences: Tensor | None = None  # (B n, T + new)
    sequences_scores: Tensor | None = None  # (B n,), with output_scores
    scores: tuple[Tensor, ...] | None = None  # (B K, V) for each step: log-probabilities
    logits: tuple[Tensor, ...] | None = None
    beam_indices: Tensor | None = None  # (B n, new): rows of (B K); -1 after the end
    attentions: tuple[tuple[Tensor, ...], ...] | None = None
    hidden_states: tuple[tuple[Tensor, ...], ...] | None = None
    past_key_values: KeyValueCache | None = None
