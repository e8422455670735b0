"""Let every word attend to the words before it, and take from each as much as it needs."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor


def causal_mask(T: int, S: int, device: torch.device | None = None) -> Tensor:
    """Say to which keys each query may attend: (T, S), True for itself and the past.

    The T queries are the *last* T of the S positions, so T < S with a cache.
    Source: `mask_attn_weights` of OpenAI's train.py.
    """
    return torch.ones(T, S, dtype=torch.bool, device=device).tril(S - T)


def make_mask(T: int, S: int, padding: Tensor) -> Tensor:
    """Join causality and padding, (B, S) with 1 for a real token and 0 for padding.

    Returns the mask (B, 1, T, S) of the last T of S positions: True where a query may attend.
    """
    # (T, S) & (B, 1, 1, S) -> (B, 1, T, S)
    return causal_mask(T, S, padding.device) & padding.bool()[:, None, None, :]


def split_heads(x: Tensor, n_head: int) -> Tensor:
    """Cut the channels into heads: (B, T, C) -> (B, H, T, D)."""
    return rearrange(x, "B T (H D) -> B H T D", H=n_head)


def merge_heads(x: Tensor) -> Tensor:
    """Lay the heads side by side again: (B, H, T, D) -> (B, T, C)."""
    return rearrange(x, "B H T D -> B T (H D)")


def eager_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, dropout: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention, every step written out.

    `q` is (B, H, T, D), `k` and `v` are (B, H, S, D). `mask` is True where a query may attend;
    None means causal. Returns (B, H, T, D) and the attention weights (B, H, T, S); a query that
    may attend to nothing gets zeros. Source: Vaswani et al. 2017, equation 1; `_attn` of OpenAI's
    train.py.
    """
    if mask is None:
        mask = causal_mask(q.shape[-2], k.shape[-2], q.device)
    # (B, H, T, D) @ (B, H, D, S) -> (B, H, T, S)
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(-1) * mask  # times mask: no keys, no weights
    weights = F.dropout(weights, dropout)
    return weights @ v, weights  # (B, H, T, S) @ (B, H, S, D) -> (B, H, T, D)


def sdpa_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, dropout: float = 0.0
) -> tuple[Tensor, None]:
    """Compute the same in one call of PyTorch, which chooses among its kernels.

    Most of them do not write the (T, S) matrix to memory; on a CPU with dropout it still is.
    Arguments as for `eager_attention`. Returns (B, H, T, D), and None in place of the weights.
    """
    T, S = q.shape[-2], k.shape[-2]
    if mask is None and T not in (1, S):
        mask = causal_mask(T, S, q.device)  # PyTorch's own triangle starts at the upper left
    newest = T == 1  # a single newest query may attend to everything
    causal = mask is None and not newest
    out = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal
    )
    return out, None


ATTENTION = {"eager": eager_attention, "sdpa": sdpa_attention}
