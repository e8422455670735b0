"""The token embedding, used a second time: from hidden states to scores for the next token."""

import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.config import GPTConfig
from minigpt.model import GPT


def shift_labels(labels: Tensor) -> Tensor:
    """Move labels (.., T) one position to the left, to where they are predicted; the last is -100."""
    return F.pad(labels[..., 1:].long(), (0, 1), value=-100)  # cheaper than to move the logits


def next_token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy, in nats, of predicting each label from the position before it.

    `logits` is (.., T, V), `labels` (.., T), usually the input ids: they are shifted here. Labels
    of -100 do not count. Source: Radford et al. 2018, equation 1.
    """
    labels = shift_labels(labels)
    return F.cross_entropy(logits.float().flatten(0, -2), labels.flatten(), ignore_index=-100)


class LanguageModel(nn.Module):
    """GPT-1 with its first head: ids (B, T) in, logits of the next token (B, T, V) out.

    The head is the token embedding used a second time ("tied"). Source: Radford et al. 2018,
    section 3.1; `model` of OpenAI's train.py.
    """

    def __init__(self, config: GPTConfig, transformer: GPT | None = None):
        super().__init__()
        self.config = config
        self.transformer = GPT(config) if transformer is None else transformer
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.lm_head.weight = self.transformer.tokens_embed.weight  # the same tensor, not a copy

    def forward(self, ids: Tensor, labels: Tensor | None = None, cache=None):
        """Return the logits (B, T, V) and, with `labels` (B, T), their `next_token_loss`."""
        logits = self.lm_head(self.transformer(ids, cache=cache))  # (B, T, C) -> (B, T, V)
        return logits, None if labels is None else next_token_loss(logits, labels)
