import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from minigpt.attention import ATTENTION, merge_heads
from minigpt.checkpoint import OpenAIGPTConfig


class Conv1D(nn.Module):
    """A linear layer whose weight is stored as (in, out), the way OpenAI's checkpoint has it: y = x W + b.

    Source: `conv1d` of OpenAI's train.py; `Conv1D` of transformers, which takes its two sizes in the other order.
    """

    def __init__(self, n_in: int, n_out: int, std: float = 0.02):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_in, n_out).normal_(std=std))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.T, self.bias)  # (..., in) -> (..., out)


def gelu(x: Tensor) -> Tensor:
    """GELU in its tanh approximation, which GPT-1 uses under the plain name. Source: `gelu` of OpenAI's train.py."""
    return F.gelu(x, approximate="tanh")


ACTIVATIONS = {"gelu": gelu, "gelu_new": gelu, "relu": F.relu, "silu": F.silu, "swish": F.silu}


class Attention(nn.Module):
    """Multi-head self-attention with its two projections: (B, T, C) -> (B, T, C)."""

    def __init__(self, config: OpenAIGPTConfig):
        super().__init__()
        self.n_head, self.dropout = config.n_head, config.attn_pdrop
        self.implementation = config.attn_implementation
        self.c_attn = Conv1D(config.n_embd, 3 * config.n_embd, config.initializer_range)
        self.c_proj = Conv1D(config.n_embd, config.n_embd, config.initializer_range)
        self.resid_dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, x: Tensor, mask: Tensor | None = None, cache=None, output_attentions: bool = False):
        """Return (B, T, C) and the attention weights (B, H, T, S), or None unless `output_attentions`."""
        q, k, v = rearrange(self.c_attn(x), "B T (three H D) -> three B H T D", three=3, H=self.n_head)
        if cache is not None:
            k, v = cache.update(k, v)  # (B, H, T, D) -> (B, H, S, D): the past in front
        attend = ATTENTION["eager" if output_attentions else self.implementation]
        out, weights = attend(q, k, v, mask, self.dropout if self.training else 0.0)
        return self.resid_dropout(self.c_proj(merge_heads(out))), weights


class MLP(nn.Module):
    """Two layers with a GELU between, applied to each position alone: (B, T, C) -> (B, T, 4C) -> (B, T, C)."""

    def __init__(self, config: OpenAIGPTConfig):
        super().__init__()
        self.c_fc = Conv1D(config.n_embd, 4 * config.n_embd, config.initializer_range)
        self.c_proj = Conv1D(4 * config.n_embd, config.n_embd, config.initializer_range)
        self.act = ACTIVATIONS[config.afn]
        self.dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.c_proj(self.act(self.c_fc(x))))


class Block(nn.Module):
    """One layer of GPT-1: attention, then MLP, each added to its input and normalised *after* the addition."""

    def __init__(self, config: OpenAIGPTConfig):
        super().__init__()
        self.attn = Attention(config)
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = MLP(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)

    def forward(self, x: Tensor, mask: Tensor | None = None, cache=None, output_attentions: bool = False):
        """Return the new hidden state (B, T, C) and the attention weights (or None); see `Attention`."""
        a, weights = self.attn(x, mask, cache, output_attentions)
        x = self.ln_1(x + a)
        return self.ln_2(x + self.mlp(x)), weights
