"""The layer that GPT-1 stacks twelve times: attention and a small network, each added to its input."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.attention import ATTENTION, merge_heads, split_heads
from minigpt.config import GPTConfig


class Conv1D(nn.Module):
    """A linear layer, y = x W + b, with W stored as (in, out), as in OpenAI's checkpoint.

    New weights are drawn from the normal distribution with standard deviation `std`, the bias
    starts at zero. Source: `conv1d` of OpenAI's train.py. transformers stores the same, but its
    arguments come in the other order: `Conv1D(n_out, n_in)`.
    """

    def __init__(self, n_in: int, n_out: int, std: float = 0.02):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_in, n_out))
        self.bias = nn.Parameter(torch.zeros(n_out))
        nn.init.normal_(self.weight, std=std)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.T, self.bias)  # (..., in) -> (..., out)


def gelu(x: Tensor) -> Tensor:
    """GELU in its tanh form, which GPT-1 has under the plain name.

    Source: Hendrycks and Gimpel 2016; `gelu` of OpenAI's train.py.
    """
    return F.gelu(x, approximate="tanh")


ACTIVATIONS = {"gelu": gelu, "gelu_new": gelu, "relu": F.relu, "silu": F.silu, "swish": F.silu}


class Attention(nn.Module):
    """Multi-head self-attention with its two projections: (B, T, C) -> (B, T, C).

    Source: Radford et al. 2018, section 4.1; `attn` of OpenAI's train.py.
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self.c_attn = Conv1D(config.n_embd, 3 * config.n_embd, config.initializer_range)
        self.c_proj = Conv1D(config.n_embd, config.n_embd, config.initializer_range)
        self.attn_dropout = config.attn_pdrop
        self.resid_dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, x: Tensor, mask: Tensor | None = None, cache=None, need_weights=False):
        """Return the new (B, T, C) and, if `need_weights`, the attention weights (B, H, T, S)."""
        # (B, T, C) -> (B, T, 3 C) -> three (B, H, T, D)
        q, k, v = (split_heads(part, self.config.n_head) for part in self.c_attn(x).chunk(3, dim=-1))
        if cache is not None:
            k, v = cache.update(k, v)  # (B, H, T, D) -> (B, H, S, D): the past in front
        attend = ATTENTION["eager" if need_weights else self.config.attn_implementation]
        out, weights = attend(q, k, v, mask, self.attn_dropout if self.training else 0.0)
        out = self.resid_dropout(self.c_proj(merge_heads(out)))  # (B, H, T, D) -> (B, T, C)
        return out, weights


class MLP(nn.Module):
    """Two layers with an activation function between, for each position alone.

    (B, T, C) -> (B, T, C); in between, a vector has 4 C channels. Source: `mlp` of OpenAI's
    train.py.
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.c_fc = Conv1D(config.n_embd, 4 * config.n_embd, config.initializer_range)
        self.c_proj = Conv1D(4 * config.n_embd, config.n_embd, config.initializer_range)
        self.act = ACTIVATIONS[config.afn]
        self.dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.c_proj(self.act(self.c_fc(x))))


class Block(nn.Module):
    """One layer of GPT-1: attention, then MLP, each added to its input and then normalised.

    Source: Radford et al. 2018, section 4.1; `block` of OpenAI's train.py.
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.attn = Attention(config)
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = MLP(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)

    def forward(self, x: Tensor, mask: Tensor | None = None, cache=None, need_weights=False):
        """Return the new (B, T, C) and the attention weights (or None); see `Attention`."""
        a, weights = self.attn(x, mask, cache, need_weights)
        x = self.ln_1(x + a)
        return self.ln_2(x + self.mlp(x)), weights
