"""The exercises of chapter 05, the block."""

import torch.nn.functional as F

from ..block import gelu
from .compare import Check, some

__all__ = ["layer_norm_by_hand", "mlp", "planted_error"]

layer_norm_by_hand = Check(
    lambda: [-1.0, 1.0, -1.0, 1.0],
    mistakes={
        "This is divided by the variance; divide by its square root.": [-0.5, 0.5, -0.5, 0.5],
        "The variance divides by the number of channels, 4, not by 3.": [
            sign * 0.75**0.5 for sign in (-1, 1, -1, 1)
        ],
        "Divide by the standard deviation, too.": [-2.0, 2.0, -2.0, 2.0],
        "Subtract the mean first.": [1.0, 3.0, 1.0, 3.0],
    },
)


def feed_forward(x, W1, b1, W2, b2, act=gelu, last=lambda x: x, b_1=1, b_2=1, keep=0):
    """The MLP of GPT-1; the options make the mistakes."""
    return last(act(x @ W1 + b_1 * b1) @ W2 + b_2 * b2) + keep * x


mlp = Check(
    feed_forward,
    [(some(2, 3, 8), some(8, 32), some(32), some(32, 8), some(8))],
    {
        "There is no activation function between the layers.": {"act": lambda x: x},
        "This is GELU with erf (PyTorch's default); GPT-1 has the tanh form.": {"act": F.gelu},
        "This is ReLU, not GELU.": {"act": F.relu},
        "There is no activation function after the second layer.": {"last": gelu},
        "The biases are missing.": {"b_1": 0, "b_2": 0},
        "The bias b1 is missing.": {"b_1": 0},
        "The bias b2 is missing.": {"b_2": 0},
        "Do not add x here: the block does that.": {"keep": 1},
    },
)

planted_error = Check(
    lambda: 4,
    mistakes={
        "Line 1 is right: with post-norm, attention gets x as it is.": 1,
        "Line 2 is right: the first layer norm stands after the first addition.": 2,
        "Line 3 is right: the MLP works on the result of the first half.": 3,
        "Write the number without quotation marks.": "4",
    },
)
