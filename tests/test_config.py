"""The core's config: the sizes, and where the parameters are."""

from minigpt.config import GPTConfig, count_parameters
from minigpt.lm_head import LanguageModel


def test_the_default_is_gpt1():
    assert sum(count_parameters(GPTConfig()).values()) == 116_534_784


def test_the_counts_are_those_of_the_network():
    config = GPTConfig(vocab_size=11, n_positions=8, n_embd=6, n_layer=3, n_head=2)
    found = sum(parameter.numel() for parameter in LanguageModel(config).parameters())
    assert sum(count_parameters(config).values()) == found
