"""A second head that chooses between answers, beside the one that predicts tokens."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.config import GPTConfig
from minigpt.lm_head import LanguageModel, next_token_loss
from minigpt.model import GPT


def state_at(states: Tensor, index: Tensor | None = None) -> Tensor:
    """Take the state of one position of each text, by default the last: (.., T, C) -> (.., C).

    `index` is (..): one position for each text.
    """
    if index is None:
        return states[..., -1, :]
    index = index.long()[..., None, None].expand(*index.shape, 1, states.shape[-1])
    return states.gather(-2, index).squeeze(-2)  # (.., T, C) -> (.., 1, C) -> (.., C)


class SequenceSummary(nn.Module):
    """Turn the state of one position into `n_out` scores: (.., T, C) -> (.., n_out).

    Source: `clf` of OpenAI's train.py, which calls the position the classify token.
    """

    def __init__(self, n_embd: int, n_out: int = 1, dropout: float = 0.1, std: float = 0.02):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.summary = nn.Linear(n_embd, n_out)
        nn.init.normal_(self.summary.weight, std=std)
        nn.init.zeros_(self.summary.bias)

    def forward(self, states: Tensor, index: Tensor | None = None) -> Tensor:
        """`index` is (..), one position for each text; default: the last."""
        return self.summary(self.dropout(state_at(states, index)))


def choice_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy, in nats, of choosing the right answers.

    `scores` is (.., choices), `labels` (..): the index of the right answer; -100 does not count.
    Source: Radford et al. 2018, equations 3 and 4.
    """
    rows = scores.float().flatten(0, -2)  # (.., choices) -> (questions, choices)
    return F.cross_entropy(rows, labels.long().flatten())


def mean_over_texts(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean of the texts' own `next_token_loss`: (.., T, V) and (.., T) -> ().

    `next_token_loss` of a batch is the mean over tokens, in which long texts count more. Source:
    `lm_losses` in `model` of OpenAI's train.py.
    """
    texts = zip(logits.flatten(0, -3), labels.flatten(0, -2), strict=True)
    return torch.stack([next_token_loss(*text) for text in texts]).mean()


class DoubleHeads(LanguageModel):
    """GPT-1 for questions with several answers: ids (B, choices, T) in, (B, choices) scores out.

    Beside them the logits of the next token, as in `LanguageModel`. Source: Radford et al. 2018,
    sections 3.2 and 3.3; `model` of OpenAI's train.py.
    """

    def __init__(self, config: GPTConfig, transformer: GPT | None = None):
        super().__init__(config, transformer)
        self.multiple_choice_head = SequenceSummary(config.n_embd, std=config.initializer_range)

    def forward(
        self,
        ids: Tensor,  # (B, choices, T)
        index: Tensor | None = None,  # (B, choices): the position of each classify token
        labels: Tensor | None = None,  # (B, choices, T)
        mc_labels: Tensor | None = None,  # (B,): the right answers
    ):
        """Return logits (B, choices, T, V), scores (B, choices), and both losses (or None)."""
        states = self.transformer(ids.flatten(0, 1)).unflatten(0, ids.shape[:2])
        logits = self.lm_head(states)  # (B, choices, T, C) -> (B, choices, T, V)
        scores = self.multiple_choice_head(states, index)[..., 0]
        loss = None if labels is None else next_token_loss(logits, labels)
        mc_loss = None if mc_labels is None else choice_loss(scores, mc_labels)
        return logits, scores, loss, mc_loss
