"""The settings of `generate`: one object, checked once."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isfinite

from minigpt.hf import files

CONFIG_NAME = "generation_config.json"


def as_list(value) -> list:
    """Return a list: empty for None, the items of a list or tuple, or the single value."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def at_least(n: int) -> tuple[Callable, str]:
    """Make a rule for a whole number: a test of the value, and what to pass instead."""
    return lambda x: type(x) is int and x >= n, f"pass a whole number, {n} or more"


def above(low: float, most: float, way: str) -> tuple[Callable, str]:
    """Make a rule for a finite number above `low` and at most `most`."""
    return lambda x: isinstance(x, int | float) and isfinite(x) and low < x <= most, way


FROM_ZERO = "top_k no_repeat_ngram_size min_length min_new_tokens max_new_tokens".split()
FROM_ONE = "max_length num_beams num_return_sequences num_assistant_tokens".split()
TOKENS = "bos_token_id eos_token_id pad_token_id suppress_tokens".split()
SETTING_RULES = {
    "temperature": above(0, inf, "pass a finite number above 0, or do_sample=False alone"),
    "top_p": above(0, 1, "pass more than 0 and at most 1, which keeps all"),
    "repetition_penalty": above(0, inf, "pass a finite number above 0; 1 changes nothing"),
    "length_penalty": above(-inf, inf, "pass a finite number"),
    **dict.fromkeys(FROM_ZERO, at_least(0)),
    **dict.fromkeys(FROM_ONE, at_least(1)),
    **dict.fromkeys(TOKENS, (lambda x: all(isinstance(i, int) for i in as_list(x)), "pass ids")),
    "stop_strings": (lambda x: all(s and isinstance(s, str) for s in as_list(x)), "pass strings"),
    "early_stopping": ((True, False, "never").__contains__, 'pass True, False or "never"'),
    "cache_implementation": (("dynamic", "static").__contains__, 'pass "dynamic" or "static"'),
}


@dataclass(init=False)
class GenerationConfig:
    """How to generate. Names, meaning and defaults are those of transformers.

    `vars` of it holds only what was set; None sets nothing. Unknown names are kept and saved, and
    `generate` warns of them. Raises ValueError, naming the setting, for a value that is not valid.
    """

    # how long
    max_length: int | None = None  # tokens in all, prompt included; default: 20 new ones
    max_new_tokens: int | None = None  # or: tokens to add; wins over max_length
    min_length: int | None = None  # in tokens, prompt included; before it, no end token
    min_new_tokens: int | None = None  # or: tokens to add; wins over min_length
    # how to choose
    do_sample: bool = False  # sample; otherwise take the most probable
    temperature: float = 1.0  # this and the next two: only for sampling
    top_k: int = 50  # 0: keep all
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    suppress_tokens: list[int] | None = None  # tokens that are never chosen
    # beams, and how many texts
    num_beams: int = 1
    length_penalty: float = 1.0  # this and the next: only for beams
    early_stopping: bool | str = False  # or True, or "never"
    num_return_sequences: int = 1  # texts for each prompt
    # where a text begins and ends
    bos_token_id: int | None = None  # beginning of sequence: what an empty prompt starts with
    eos_token_id: int | list[int] | None = None  # end of sequence
    pad_token_id: int | None = None  # after a text that is done; default: an end token or 0
    stop_strings: str | list[str] | None = None
    # how to compute, and what to return
    use_cache: bool = True
    cache_implementation: str | None = None  # "static": see `minigpt.fast.static_cache`
    num_assistant_tokens: int = 4  # how many tokens an `assistant_model` drafts at a time
    return_dict_in_generate: bool = False  # return named results, not only ids
    output_scores: bool = False  # and the scores of each step among them

    def __init__(self, **settings):
        given = {name: x for name, x in settings.items() if x is not None}
        odd = {name: files.to_number(x) for name, x in given.items() if hasattr(x, "tolist")}
        vars(self).update(given | odd)
        for name in given.keys() & SETTING_RULES.keys():
            (is_good, way), value = SETTING_RULES[name], vars(self)[name]
            if not is_good(value):
                raise ValueError(f"{name}={value!r}; {way}")
        n, num_beams = self.num_return_sequences, self.num_beams
        if n > num_beams and not (self.do_sample and num_beams == 1):
            way = "pass num_beams of at least as many, or do_sample=True and num_beams=1"
            raise ValueError(f"num_return_sequences={n}, but num_beams={num_beams}; {way}")

    @property
    def eos(self) -> list[int]:
        """The end tokens, as a list."""
        return as_list(self.eos_token_id)

    @property
    def pad(self) -> int:
        """The token that follows a text that is done."""
        return [*as_list(self.pad_token_id), *self.eos, 0][0]

    def to_dict(self) -> dict:
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | vars(self)

    def to_diff_dict(self) -> dict:
        """Return the settings that are not the default, which are saved."""
        return {name: x for name, x in vars(self).items() if x != vars(type(self)).get(name)}

    def save_pretrained(self, save_directory) -> None:
        """Write `generation_config.json` into a folder."""
        files.save_files(save_directory, {CONFIG_NAME: files.json_writer(self.to_diff_dict())})

    @classmethod
    def from_dict(cls, config_dict: dict, **settings) -> "GenerationConfig":
        return cls(**config_dict | settings)

    @classmethod
    def from_model_config(cls, model_config) -> "GenerationConfig":
        """Return the special tokens of a model's config."""
        names = "bos_token_id", "eos_token_id", "pad_token_id"
        return cls(**{name: getattr(model_config, name, None) for name in names})

    @classmethod
    def from_pretrained(cls, pretrained_model_name, **options) -> "GenerationConfig":
        """Read a checkpoint's `generation_config.json`; `options` are settings and hub options.

        Raises FileNotFoundError if it has none, and ValueError, naming the file, for a setting that
        is not valid.
        """
        hub, settings = files.split_hub_options(options)
        path = files.find_file(pretrained_model_name, CONFIG_NAME, **hub)
        with files.naming(path):
            return cls.from_dict(files.read_json(path), **settings)
