"""A head that sorts texts into classes: it reads the state of the last token."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.config import GPTConfig
from minigpt.double_heads import state_at
from minigpt.model import GPT


def last_real(is_real: Tensor) -> Tensor:
    """Return the position of the last real token of each text: (.., T) -> (..), 0 if none is."""
    positions = torch.arange(is_real.shape[-1], device=is_real.device)
    return (positions * is_real).argmax(-1)


def problem_of(labels: Tensor, num_labels: int) -> str:
    """Tell the kind of problem by its labels, with the rule of transformers."""
    if num_labels == 1:
        return "regression"
    whole = labels.dtype in (torch.long, torch.int)
    return f"{'single' if whole else 'multi'}_label_classification"


def classification_loss(logits: Tensor, labels: Tensor, problem: str | None = None) -> Tensor:
    """The mean loss of logits (B, L) for the `problem`, by default what the labels tell.

    Labels are (B,), the numbers of classes (-100 does not count), for a single label; (B, L), from
    0 to 1, for several; (B, L) for regression, or (B,) if L = 1.
    """
    logits, L = logits.float(), logits.shape[-1]
    problem = problem or problem_of(labels, L)
    if problem == "single_label_classification":
        return F.cross_entropy(logits.reshape(-1, L), labels.long().flatten())
    if problem == "regression":
        return F.mse_loss(logits, labels.float().reshape(logits.shape))
    return F.binary_cross_entropy_with_logits(logits, labels.float())


class Classifier(nn.Module):
    """GPT-1 that sorts texts: ids (B, T) in, a score for each of `num_labels` classes (B, L) out.

    Source: Radford et al. 2018, section 3.2.
    """

    def __init__(self, config: GPTConfig, num_labels: int = 2, transformer: GPT | None = None):
        super().__init__()
        self.config = config
        self.transformer = GPT(config) if transformer is None else transformer
        self.score = nn.Linear(config.n_embd, num_labels, bias=False)
        nn.init.normal_(self.score.weight, std=config.initializer_range)

    def forward(self, ids: Tensor, ends: Tensor | None = None, labels: Tensor | None = None):
        """Return logits (B, L) and the loss (or None).

        `ends` (B,) are the positions of the last tokens; default: the last position.
        """
        logits = self.score(state_at(self.transformer(ids), ends))  # (B, T, C) -> (B, C) -> (B, L)
        return logits, None if labels is None else classification_loss(logits, labels)
