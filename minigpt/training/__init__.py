"""The machinery around the taught training loop: data, resume, several processes, logs."""

from .pretrain import PretrainingRecipe, pretrain

__all__ = ["PretrainingRecipe", "pretrain"]
