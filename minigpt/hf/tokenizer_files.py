"""Read the tokenizer files of a checkpoint: vocabulary, merges, settings.
An error names the file, the value and the solution.
"""

import json
import re
from contextlib import suppress
from operator import index
from pathlib import Path

from tokenizers import AddedToken, Tokenizer
from tokenizers.normalizers import BertNormalizer

from ..bpe import VERSION, Pair
from .files import find_file, naming, read_json, version

VOCAB_NAMES = ("vocab.json", "encoder_bpe_40000.json")  # today's name, and that of OpenAI's release
MERGES_NAMES = ("merges.txt", "vocab_40000.bpe")
TOKENIZER_JSON, OLD = "tokenizer.json", ("added_tokens.json", "special_tokens_map.json")
TOKENIZER_FILES = (*OLD, "tokenizer_config.json", TOKENIZER_JSON, *VOCAB_NAMES, *MERGES_NAMES)
ROLES = tuple(f"{name}_token" for name in "bos eos unk sep pad cls mask".split())
EXTRA = ("extra_special_tokens", "additional_special_tokens")
SETTINGS = ("model_max_length", "padding_side", "truncation_side", "clean_up_tokenization_spaces")
KNOWN = {"vocab", "merges", "text_pipeline", "post_processor", "added_tokens_decoder"}
KNOWN |= {*ROLES, *EXTRA, *SETTINGS}  # what a file may set
EMPTY = {"type": "BPE", "vocab": {}, "merges": []}  # a model of the library
FIELDS = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
CHOICES = {
    "text_pipeline": ("original", "basic"),
    "clean_up_tokenization_spaces": (True, False),
    "padding_side": ("right", "left"),
    "truncation_side": ("right", "left"),
    "padding": (True, False, None, "longest", "max_length", "do_not_pad"),
    "truncation": (True, False, "longest_first", "only_first", "only_second", "do_not_truncate"),
    "return_tensors": (None, "pt", "np"),
}


def check(name: str, value):
    """Return a choice or a number of tokens. Raises ValueError, naming it, if it is wrong."""
    if name in CHOICES:
        if value not in CHOICES[name]:
            choices = ", ".join(map(str, CHOICES[name]))
            raise ValueError(f"{name}={value!r}; choose one of {choices}")
        return value
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
        raise ValueError(f"{name}={value!r}; pass a whole number of tokens, at least 1")
    return index(value)  # of numpy and torch, too


def to_token(value: str | dict | AddedToken, special: bool = False) -> AddedToken:
    """Make an added token from its text, or from a dictionary with its flags, as in files."""
    if isinstance(value, dict):
        value = AddedToken(**{name: value[name] for name in FIELDS if name in value})
    if not isinstance(value, str | AddedToken):
        raise TypeError(f"{value!r:.80} is not a token; pass a string or an AddedToken")
    token = value if isinstance(value, AddedToken) else AddedToken(value)
    token.special |= special
    return token


def read_checked_merges(path: Path) -> list[Pair]:
    """Read merges. Raises ValueError, naming the file and the line, if one is not a merge."""
    with naming(path):
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    found = re.match(r"#version.*\n(?:[^ \n]+ [^ \n]+\n)*", text)
    end = found.end() if found else 0
    if not found or end < len(text):
        line, wrong = text[:end].count("\n") + 1, text[end:].partition("\n")[0]
        raise ValueError(
            f"{path}, line {line}: expected {VERSION!r}, then two tokens with a space between "
            f"them on each line, got {wrong!r:.80}; copy it again"
        )
    return [tuple(line.split(" ")) for line in text.split("\n")[1:-1]]


def read_page(checkpoint: str | Path, name: str, hub: dict) -> dict:
    """Read an optional JSON file; {} if it is missing."""
    with suppress(FileNotFoundError):
        return read_json(find_file(checkpoint, name, **hub))
    return {}


def read_whole(source: str | Path | Tokenizer) -> dict:
    """Read all settings from a `tokenizer.json`, or from a tokenizer of the library."""
    is_file = isinstance(source, str | Path)
    with naming(source if is_file else "tokenizer_object"):
        page = read_json(Path(source)) if is_file else json.loads(source.to_str())
        model, added = page["model"], page["added_tokens"]
        if (model.get("type"), model.get("end_of_word_suffix")) != ("BPE", "</w>"):
            raise ValueError("it holds another kind of tokenizer; pass one of a GPT-1")
        rest = Tokenizer.from_str(json.dumps(page | {"model": EMPTY, "added_tokens": []}))
        return {
            "vocab": dict(model["vocab"].items()),
            "merges": [tuple(x.split(" ") if isinstance(x, str) else x) for x in model["merges"]],
            "text_pipeline": "basic" if isinstance(rest.normalizer, BertNormalizer) else None,
            "post_processor": rest.post_processor,
            "added_tokens_decoder": {token["id"]: token for token in added},
        }


def read_checkpoint(checkpoint: str | Path, **hub) -> tuple[dict, str]:
    """Read the settings of a tokenizer from the files that exist, and name these files.

    Settings may also come from files of older transformers. Raises FileNotFoundError if there are
    none, ValueError for a damaged one, naming it.
    """
    path = find_file(checkpoint, *VOCAB_NAMES, TOKENIZER_JSON, **hub)
    other = find_file(checkpoint, *MERGES_NAMES, TOKENIZER_JSON, **hub)
    saved = version(path.stat())
    settings, found = read_page(checkpoint, "tokenizer_config.json", hub), {}
    is_old = "added_tokens_decoder" not in settings
    with suppress(FileNotFoundError):  # added tokens may need its post-processor
        if is_old or settings["added_tokens_decoder"] or TOKENIZER_JSON in (path.name, other.name):
            found = read_whole(find_file(checkpoint, TOKENIZER_JSON, **hub))
    if TOKENIZER_JSON not in (path.name, other.name):
        found |= {"vocab": read_json(path), "merges": read_checked_merges(other)}
        found["text_pipeline"] = None
    added, roles = (read_page(checkpoint, name, hub) if is_old else {} for name in OLD)
    names = [*dict.fromkeys((path.name, other.name)), "tokenizer_config.json", *OLD * is_old]
    source = f"{path.parent} ({', '.join(names)})"
    if is_old:
        with naming(source):
            added = {i: token for token, i in added.items()} | found.get("added_tokens_decoder", {})
            settings |= roles | ({"added_tokens_decoder": added} if added else {})
    if not (path.exists() and version(path.stat()) == saved):  # saving removes and writes it last
        raise OSError(f"{path} was saved again while it was read; load it again")
    return {name: x for name, x in (found | settings).items() if name in KNOWN}, source
