"""The sizes of GPT-1."""

from dataclasses import dataclass


@dataclass
class GPTConfig:
    """The sizes of a GPT-1 and the settings of its layers; the defaults are the paper's.

    Source: Radford et al. 2018, section 4.1.
    """

    vocab_size: int = 40478  # V: tokens in the vocabulary
    n_positions: int = 512  # the longest text, in tokens
    n_embd: int = 768  # C: channels
    n_layer: int = 12  # blocks
    n_head: int = 12  # H: heads, each of D = C / H channels
    afn: str = "gelu"  # activation function of the MLP; "gelu" means its tanh approximation
    resid_pdrop: float = 0.1  # dropout on what attention and MLP add
    embd_pdrop: float = 0.1  # dropout after the embeddings
    attn_pdrop: float = 0.1  # dropout on the attention weights
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02  # standard deviation of new weights
    attn_implementation: str = "sdpa"  # which function computes attention: see `ATTENTION`


def count_parameters(config: GPTConfig) -> dict[str, int]:
    """Count the parameters of a GPT-1, by the part that they belong to."""
    C = config.n_embd
    return {
        "tokens": config.vocab_size * C,
        "positions": config.n_positions * C,
        "attention": config.n_layer * (C * 3 * C + 3 * C + C * C + C),  # weights and biases
        "MLP": config.n_layer * (C * 4 * C + 4 * C + 4 * C * C + C),
        "layer norms": config.n_layer * 2 * (C + C),  # two in each block: gain and bias
    }
