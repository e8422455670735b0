"""Stub until worker D's lands."""

from torch import nn


def is_stock(module: nn.Module, kind: type) -> bool:
    hooks = "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"
    plain = type(module) is kind and "forward" not in vars(module)
    return plain and not any(getattr(module, name) for name in hooks)
