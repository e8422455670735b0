import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor


def split_heads(x: Tensor, n_head: int) -> Tensor:
    """Cut the channels into heads: (B, T, C) -> (B, H, T, D)."""
    return rearrange(x, "B T (H D) -> B H T D", H=n_head)


def merge_heads(x: Tensor) -> Tensor:
    """Lay the heads side by side again: (B, H, T, D) -> (B, T, C)."""
    return rearrange(x, "B H T D -> B T (H D)")


def causal_mask(T: int, S: int, device: torch.device | None = None) -> Tensor:
    """Say which keys each query may read: a (T, S) table, True for itself and the past.

    The T queries are the *last* T of the S positions, so T < S with a cache. Source: `mask_attn_weights` of OpenAI's train.py.
    """
    return torch.ones(T, S, dtype=torch.bool, device=device).tril(S - T)


def make_mask(T: int, S: int, padding: Tensor | None = None, device=None) -> Tensor | None:
    """Return the mask for T queries and S keys, or None where plain causality is all there is to say.

    `padding` is (B, S), 1 for a real token, 0 for padding. A mask is (B or 1, 1, T, S), True where reading is allowed.
    """
    if padding is None or bool(padding.all()):
        return None if T in (1, S) else causal_mask(T, S, device)[None, None]
    return causal_mask(T, S, padding.device) & padding[:, None, None, :].bool()


def eager_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, dropout: float = 0.0):
    """Scaled dot-product attention, every step written out. Returns (B, H, T, D) and the weights (B, H, T, S)."""
    if mask is None:
        mask = causal_mask(q.shape[-2], k.shape[-2], q.device)
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (B, H, T, D) @ (B, H, D, S) -> (B, H, T, S)
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(-1) * mask  # times mask: a query that may read nothing gets zeros
    weights = F.dropout(weights, dropout)
    return weights @ v, weights  # (B, H, T, S) @ (B, H, S, D) -> (B, H, T, D)


def sdpa_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, dropout: float = 0.0):
    """The same in one call of PyTorch, which never writes the (T, S) table to memory. Returns (B, H, T, D) and None."""
    causal = mask is None and q.shape[-2] > 1  # a single newest query may read everything
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal), None


ATTENTION = {"eager": eager_attention, "sdpa": sdpa_attention}
