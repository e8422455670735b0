"""The settings of `generate`: one object, checked once."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any, Self

from minigpt.hf import files
from minigpt.hf.processors import as_list

GENERATION_FILE = "generation_config.json"
DEFAULTS = {"top_k": 50, "num_beams": 1, "num_return_sequences": 1, "length_penalty": 1.0}
DEFAULTS |= {"early_stopping": False, "use_cache": True, "num_assistant_tokens": 4}


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
    **dict.fromkeys(("top_p", "typical_p"), above(0, 1, "pass more than 0, and 1 to keep all")),
    "repetition_penalty": above(0, inf, "pass a finite number above 0; 1 changes nothing"),
    "length_penalty": above(-inf, inf, "pass a finite number"),
    **dict.fromkeys(FROM_ZERO, at_least(0)),
    **dict.fromkeys(FROM_ONE, at_least(1)),
    **dict.fromkeys(TOKENS, (lambda x: all(isinstance(i, int) for i in as_list(x)), "pass ids")),
    "stop_strings": (lambda x: all(s and isinstance(s, str) for s in as_list(x)), "pass strings"),
    "early_stopping": ((True, False, "never").__contains__, 'pass True, False or "never"'),
    "cache_implementation": (("dynamic", "static").__contains__, 'pass "dynamic" or "static"'),
}


def settings_of(config) -> dict:
    """Return what a config of ours or of transformers sets."""
    given = {} if config is None else vars(config)
    return {name: x for name, x in given.items() if x is not None and name[0] != "_"}


@dataclass(init=False, repr=False)
class GenerationConfig:
    """How to generate. Names and meaning are those of transformers; None sets nothing.

    `vars` of it holds only what was set. Further names become attributes and are saved. Raises
    ValueError, naming the setting, for a value that is not valid.

    >>> model.generate(**inputs, generation_config=GenerationConfig(max_new_tokens=30, top_k=5))
    """

    # how long
    max_length: int | None = None  # tokens in all, prompt included; default: 20 new ones
    max_new_tokens: int | None = None  # or: tokens to add; wins over max_length
    min_length: int | None = None  # in tokens, prompt included; before it, no end token
    min_new_tokens: int | None = None  # or: tokens to add; wins over min_length
    max_time: float | None = None  # in seconds
    # how to choose
    do_sample: bool | None = None  # sample; otherwise take the most probable
    temperature: float | None = None  # this and the next six: only for sampling
    top_k: int | None = None  # default: 50; 0: keep all
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    epsilon_cutoff: float | None = None
    eta_cutoff: float | None = None
    repetition_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    sequence_bias: dict[tuple[int, ...], float] | list | None = None  # tokens -> what is added
    bad_words_ids: list[list[int]] | None = None  # tokens that are never chosen one after another
    suppress_tokens: list[int] | None = None  # tokens that are never chosen
    begin_suppress_tokens: list[int] | None = None  # or not as the first new one
    forced_bos_token_id: int | None = None  # the second token of a text
    forced_eos_token_id: int | list[int] | None = None  # the last one, at max_length
    exponential_decay_length_penalty: tuple[int, float] | None = None  # from when on, how much
    remove_invalid_values: bool | None = None  # replace nan and inf among the scores
    renormalize_logits: bool | None = None  # turn the scores into log-probabilities at the end
    # beams, and how many texts
    num_beams: int | None = None  # default: 1
    length_penalty: float | None = None  # default: 1.0; this and the next: only for beams
    early_stopping: bool | str | None = None  # or True, or "never"
    num_return_sequences: int | None = None  # texts for each prompt; default: 1
    # where a text begins and ends
    bos_token_id: int | None = None  # beginning of sequence: what an empty prompt starts with
    eos_token_id: int | list[int] | None = None  # end of sequence
    pad_token_id: int | None = None  # after a text that is done; default: an end token or 0
    stop_strings: str | list[str] | None = None
    # how to compute, and what to return
    use_cache: bool | None = None  # default: True
    cache_implementation: str | None = None  # "static": see `minigpt.fast.static_cache`
    num_assistant_tokens: int | None = None  # how many an `assistant_model` drafts; default: 4
    return_dict_in_generate: bool | None = None  # return named results, not only ids
    output_scores: bool | None = None  # and the scores of each step among them, as processed
    output_logits: bool | None = None  # and the scores as the model returned them
    output_hidden_states: bool | None = None  # this and the next: without a cache
    output_attentions: bool | None = None

    def __init__(self, **settings):
        given = {name: x for name, x in settings.items() if x is not None}
        odd = {name: files.to_number(x) for name, x in given.items() if hasattr(x, "tolist")}
        self.__dict__ = given | odd
        for name in given.keys() & SETTING_RULES.keys():
            (is_good, way), value = SETTING_RULES[name], vars(self)[name]
            if not is_good(value):
                raise ValueError(f"{name}={value!r}; {way}")
        n, num_beams = self.num_return_sequences or 1, self.num_beams or 1
        if n > num_beams and not (self.do_sample and num_beams == 1):
            way = "pass num_beams of at least as many, or do_sample=True and num_beams=1"
            raise ValueError(f"num_return_sequences={n}, but num_beams={num_beams}; {way}")

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string()}"

    def update(self, **settings) -> dict:
        """Set those of the settings that have a name of this class; return the others."""
        known = {name: x for name, x in settings.items() if hasattr(self, name)}
        self.__init__(**vars(self) | known)
        return {name: x for name, x in settings.items() if name not in known}

    def to_dict(self) -> dict:
        return dict.fromkeys(self.__dataclass_fields__) | vars(self)

    def to_diff_dict(self) -> dict:
        """Return what was set, which is saved."""
        return dict(vars(self))

    def to_json_string(self, use_diff: bool = True, **_) -> str:
        return files.json_text(self.to_diff_dict() if use_diff else self.to_dict())

    def save_pretrained(self, save_directory, config_file_name: str = GENERATION_FILE, **_) -> None:
        """Write the settings into a file of a folder."""
        files.save_files(save_directory, {config_file_name: files.json_writer(self.to_diff_dict())})

    @classmethod
    def from_dict(cls, config_dict: dict, return_unused_kwargs: bool = False, **settings):
        config = cls(**config_dict | settings)
        return (config, {}) if return_unused_kwargs else config  # a config takes all names

    @classmethod
    def from_model_config(cls, model_config) -> "GenerationConfig":
        """Return the special tokens of a model's config."""
        names = "bos_token_id", "eos_token_id", "pad_token_id"
        return cls(**{name: getattr(model_config, name, None) for name in names})

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name, config_file_name: str = GENERATION_FILE, **options: Any
    ) -> Self:
        """Read a checkpoint's `generation_config.json`; `options` are settings and hub options.

        Raises FileNotFoundError if it has none, and ValueError, naming the file, for a setting that
        is not valid.
        """
        hub, settings = files.split_hub_options(options)
        path = files.find_file(pretrained_model_name, config_file_name, **hub)
        with files.naming(path):
            return cls.from_dict(files.read_json(path), **settings)
