"""Stub until worker D's lands."""
from minigpt.old.generation import GenerationConfig as Old


class GenerationConfig(Old):
    @classmethod
    def from_model_config(cls, config):
        names = "bos_token_id", "eos_token_id", "pad_token_id"
        return cls(**{name: getattr(config, name) for name in names})


class GenerationMixin:
    pass
