"""Small checkpoints, and their comparison, for the tests of files."""

import torch

from minigpt.hf.configuration import OpenAIGPTConfig
from minigpt.hf.formats import open_weights
from minigpt.hf.models import OpenAIGPTLMHeadModel
from tests.helpers import GOLDEN

SMALL = {"vocab_size": 11, "n_positions": 8, "n_embd": 8, "n_layer": 2, "n_head": 2}
RELEASE = GOLDEN / "model"


def small_model(folder, kind=OpenAIGPTLMHeadModel, **settings):
    model = kind(OpenAIGPTConfig(**(SMALL | settings)))
    model.save_pretrained(folder)
    return model


def same(first, second) -> bool:
    """Say whether two models, or mappings of weights, hold the same values of the same dtype."""
    a, b = (dict(x.named_parameters()) if hasattr(x, "forward") else x for x in (first, second))
    return a.keys() == b.keys() and all(
        torch.equal(a[n], b[n]) and a[n].dtype == b[n].dtype for n in a
    )


def read(checkpoint) -> dict[str, torch.Tensor]:
    return {name: x.read() for name, x in open_weights(checkpoint).items()}
