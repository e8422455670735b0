"""Stub until worker D's lands."""
from minigpt.old.generation import GenerationConfig as Old


class GenerationConfig(Old):
    @classmethod
    def from_model_config(cls, config):
        names = "bos_token_id", "eos_token_id", "pad_token_id"
        return cls(**{name: getattr(config, name) for name in names})


    @classmethod
    def from_pretrained(cls, name, **hub):
        from minigpt.hf.files import find_file, read_json, naming
        path = find_file(name, "generation_config.json", **hub)
        with naming(path):
            found = read_json(path)
            return cls(**{k: v for k, v in found.items() if v is not None and hasattr(cls, k)})

    def to_diff_dict(self):
        return {n: x for n, x in vars(self).items() if x != getattr(type(self), n)}


class GenerationMixin:
    pass
