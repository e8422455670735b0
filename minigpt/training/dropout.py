"""Dropout on a CPU, with cheaper random numbers than PyTorch's.

Only training here uses it: models themselves drop the values that those of transformers drop.
"""

from contextlib import ContextDecorator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


def short_dropout(x: Tensor, p: float) -> Tensor:
    """Set each value to zero with probability p, rounded to 16 bits; divide the rest by 1 - p.

    The same as `F.dropout`, with a quarter of a random number for each value.
    """
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    bits = words.view(torch.int16)[: x.numel()].view(x.shape)  # four of each word
    dropped = round(p * 2**16)  # of the 2**16 values of such bits
    factors = (bits >= dropped - 2**15) / (1 - dropped / 2**16)  # 0 or about 1 / (1 - p)
    return x * factors.to(x.dtype)


def causal_attention(q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
    """Attend to oneself and the past; `dropout` of the weights; all are (B, H, T, D)."""
    (*_, T, D), rows = q.shape, [x.flatten(0, 1) for x in (q, k, v)]  # each (B H, T, D)
    future = torch.full((T, T), -torch.inf, dtype=q.dtype).triu(1)
    weights = torch.baddbmm(future, rows[0], rows[1].mT, alpha=D**-0.5).softmax(-1)
    out = short_dropout(weights, dropout) @ rows[2]  # (B H, T, T) @ (B H, T, D)
    return out.unflatten(0, q.shape[:2])


class ShortDropout(ContextDecorator, TorchFunctionMode):
    """Within it, dropout is that of this file, also that of attention weights.

    `ShortDropout()(function)` runs the function within it.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is F.dropout and kwargs["training"] and 0 < kwargs["p"] < 0.999:
            return short_dropout(*args, kwargs["p"])
        if function is F.scaled_dot_product_attention and kwargs["is_causal"]:
            if 0 < kwargs["dropout_p"] < 0.999:
                return causal_attention(*args, kwargs["dropout_p"])
        return function(*args, **kwargs)
