from dataclasses import dataclass

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.checkpoint import OpenAIGPTConfig
from minigpt.generation import generate
from minigpt.model import KeyValueCache, ModelOutput, OpenAIGPTModel, OpenAIGPTPreTrainedModel


@dataclass
class CausalLMOutput(ModelOutput):
    """What `OpenAIGPTLMHeadModel` returns."""

    loss: Tensor | None = None  # (), with labels: mean cross-entropy in nats per token
    logits: Tensor | None = None  # (B, T, V)
    past_key_values: KeyValueCache | None = None  # with use_cache
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


def next_token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy, in nats, of predicting each label from the position before it; labels of -100 do not count.

    `logits` is (B, T, V), `labels` (B, T), usually the input ids: they are shifted here. Source: paper, equation 1.
    """
    logits, labels = logits[:, :-1].float(), labels[:, 1:]  # position t predicts token t + 1
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)


class OpenAIGPTLMHeadModel(OpenAIGPTPreTrainedModel):
    """GPT-1 as a language model: ids (B, T) in, scores for the next token (B, T, V) out.

    The head is the token table itself, used a second time ("tied"). Source: `lm_logits` in OpenAI's train.py.
    """

    def __init__(self, config: OpenAIGPTConfig):
        super().__init__(config)
        self.transformer = OpenAIGPTModel(config)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.lm_head.weight = self.transformer.tokens_embed.weight

    def forward(self, input_ids: Tensor, labels: Tensor | None = None, logits_to_keep: int = 0, **inputs) -> CausalLMOutput:
        """`logits_to_keep=1` computes the scores of the last position only. Further `inputs` as for `OpenAIGPTModel`."""
        out = self.transformer(input_ids, **inputs)
        logits = self.lm_head(out.last_hidden_state[:, -logits_to_keep:])  # (B, T, C) -> (B, T, V); -0: keeps all
        loss = None if labels is None else next_token_loss(logits, labels)
        return CausalLMOutput(loss, logits, out.past_key_values, out.hidden_states, out.attentions)

    def next_logits(self, ids: Tensor, cache: KeyValueCache | None, use_cache: bool = True) -> tuple[Tensor, KeyValueCache]:
        """The function that generation asks for: the scores (B, V) after `ids`, and the cache."""
        out = self(ids, past_key_values=cache, use_cache=use_cache, logits_to_keep=1)
        return out.logits[:, -1], out.past_key_values

    def generate(
        self,
        input_ids: Tensor,  # (B, T)
        attention_mask: Tensor | None = None,  # (B, T); only ones: all prompts have the same length
        max_length: int | None = None,  # tokens in all, prompt included; default 20, as in the reference
        max_new_tokens: int | None = None,  # or: tokens to add
        use_cache: bool = True,
        **options,  # do_sample, temperature, top_k, top_p, eos_token_id, generator
    ) -> Tensor:
        """Continue a text: (B, T) -> (B, T + n). Stops at the last position the model has, whatever was asked for.

        Raises ValueError if the prompt alone is too long, or if prompts are padded to a common length.
        """
        if attention_mask is not None and not attention_mask.all():
            raise ValueError("attention_mask has zeros: prompts of different lengths; pass them one by one")
        T, limit = input_ids.shape[-1], self.config.n_positions
        self.transformer.check_length(T)
        end = T + max_new_tokens if max_new_tokens is not None else max_length or 20
        return generate(partial(self.next_logits, use_cache=use_cache), input_ids, min(end, limit) - T, **options)
