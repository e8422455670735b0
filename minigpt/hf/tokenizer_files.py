"""Read what the files of a checkpoint say about its tokenizer: vocabulary, merges, settings.

Everything is checked here, once; an error names the file, the value and the way out.
"""

import re
from collections.abc import Mapping
from operator import index as to_int
from pathlib import Path

from tokenizers import AddedToken

from ..bpe import VERSION, Pair
from .files import find_file, naming, read_json, to_number

VOCAB_NAMES = ("vocab.json", "encoder_bpe_40000.json")
MERGES_NAMES = ("merges.txt", "vocab_40000.bpe")
ROLES = tuple(f"{name}_token" for name in "bos eos unk sep pad cls mask".split())
EXTRA = ("extra_special_tokens", "additional_special_tokens")
SETTINGS = ("model_max_length", "padding_side", "truncation_side")
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
PIPELINES = ("original", "basic")


def choose(name: str, value, choices: tuple[str, ...]) -> str:
    """Return `value`. Raises ValueError, naming it and the choices, if it is none of them."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}={value!r}; choose one of {', '.join(choices)}")
    return value


def check_setting(name: str, value):
    """Return a side or a length. Raises ValueError, naming it, for another value."""
    if name.endswith("side"):
        return choose(name, value, ("right", "left"))
    value = to_number(value)
    if not hasattr(value, "__index__") or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}={value!r}; pass a whole number of tokens, 1 at least")
    return to_int(value)


def read_vocabulary(path: Path) -> dict[str, int]:
    """Read a vocabulary, token to id. Raises ValueError, naming the file, for wrong ids."""
    return check_vocabulary(read_json(path), path)


def check_vocabulary(vocab: dict, path: Path) -> dict[str, int]:
    tokens = {}
    for token, index in vocab.items():
        if type(index) is not int or not 0 <= index < len(vocab) or index in tokens:
            reason = f", as {tokens[index]!r}" if isinstance(index, int) and index in tokens else ""
            raise ValueError(
                f"{path}: {token!r} has the id {index!r:.40}{reason}; each of the {len(vocab)} "
                f"tokens needs its own, from 0 to {len(vocab) - 1}"
            )
        tokens[index] = token
    return vocab


def check_unknown(token: str, vocab: dict[str, int]) -> str:
    """Return the token for unknown characters. Raises ValueError if the vocabulary lacks it."""
    if token not in vocab:
        raise ValueError(f"the vocabulary lacks {token!r}; name its unk_token")
    return token


def read_merges(path: Path) -> list[Pair]:
    """Read merges. Raises ValueError, naming the file and the line, for what is no merge."""
    with naming(path):
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
    if lines[0].endswith("\r"):  # written on Windows
        lines = [line.removesuffix("\r") for line in lines]
    if not lines[0].startswith(VERSION.split()[0]):
        raise ValueError(
            f"{path}, line 1: expected {VERSION!r}, got {lines[0]!r:.40}; pass merges.txt"
        )
    merges = [tuple(line.split(" ")) for line in lines[1:]]
    for number, pair in enumerate(merges[:-1], start=2):
        if len(pair) != 2 or not all(pair):
            line = " ".join(pair)
            raise ValueError(
                f"{path}, line {number}: expected two tokens and a space, got {line!r:.80}"
            )
    if merges[-1:] != [("",)]:
        raise ValueError(f"{path}: ends in the middle of line {len(lines)}; copy it again")
    return merges[:-1]


def read_whole(path: Path) -> tuple[dict[str, int], list[Pair], dict]:
    """Read vocabulary, merges and settings from a `tokenizer.json`, as transformers 5 writes it."""
    whole = read_json(path)
    with naming(path):
        model = whole["model"]
        if (model.get("type"), model.get("end_of_word_suffix")) != ("BPE", "</w>"):
            raise ValueError("holds another kind of tokenizer; pass that of a GPT-1")
        merges = [tuple(x.split(" ") if isinstance(x, str) else x) for x in model["merges"]]
        check_vocabulary(dict(model["vocab"].items()), path)
        is_basic = (whole.get("normalizer") or {}).get("type") == "BertNormalizer"
    return model["vocab"], merges, {"text_pipeline": "basic"} if is_basic else {}


def as_page(token: AddedToken) -> dict:
    """Return an added token as files have it."""
    return {name: getattr(token, name) for name in ("content", *FLAGS)}


def to_token(value: str | dict | AddedToken, special: bool = False) -> AddedToken:
    """Make an added token of its text, or of a dictionary with its flags as files have it."""
    if isinstance(value, AddedToken):
        value = as_page(value)
    value = {"content": value} if isinstance(value, str) else value
    content = value.get("content") if isinstance(value, Mapping) else None
    if not isinstance(content, str) or re.search("[\ud800-\udfff]", content):
        raise TypeError(
            f"{value!r:.80} is no token; pass a string without surrogates, or an AddedToken"
        )
    flags = {name: value[name] for name in FLAGS if name in value}
    return AddedToken(content, **flags | ({"special": True} if special else {}))


def parse_settings(page: dict) -> dict:
    """Check what a settings file says and make tokens of it: called once for each file."""
    found = {name: check_setting(name, page[name]) for name in SETTINGS if name in page}
    found |= {name: to_token(page[name], special=True) for name in ROLES if page.get(name)}
    extra = next((page[name] for name in EXTRA if page.get(name)), ())
    if isinstance(extra, str):
        raise TypeError(f"extra_special_tokens is {extra!r}, not a list")
    extra = extra.values() if isinstance(extra, dict) else extra
    found["extra_special_tokens"] = [to_token(token, special=True) for token in extra]
    if "added_tokens_decoder" in page:
        added = page["added_tokens_decoder"].items()
        found["added_tokens_decoder"] = {int(index): to_token(token) for index, token in added}
    if "text_pipeline" in page:
        found["text_pipeline"] = choose("text_pipeline", page["text_pipeline"], PIPELINES)
    return found


def read_settings(checkpoint: str | Path, name: str, hub: dict, convert=lambda page: page) -> dict:
    """Read one optional file of settings; nothing where there is no such file."""
    try:
        path = find_file(checkpoint, name, **hub)
    except FileNotFoundError:
        return {}
    page = read_json(path)
    with naming(path):
        return parse_settings(convert(page)) | {"path": path}


def added_of(whole: dict) -> dict:
    """The added tokens of a `tokenizer.json`, as `tokenizer_config.json` would have them."""
    return {"added_tokens_decoder": {x["id"]: x for x in whole.get("added_tokens") or ()}}


def read_all_settings(checkpoint: str | Path, hub: dict) -> dict:
    """Read settings from whatever files there are, also those of older transformers."""
    config = read_settings(checkpoint, "tokenizer_config.json", hub)
    if "added_tokens_decoder" in config:
        return config
    roles = read_settings(checkpoint, "special_tokens_map.json", hub)
    special = {
        x.content for page in (config, roles) for x in page.values() if type(x) is AddedToken
    }
    special |= {x.content for page in (config, roles) for x in page.get("extra_special_tokens", ())}

    def as_added(ids: dict) -> dict:
        tokens = {n: {"content": token, "special": token in special} for token, n in ids.items()}
        return {"added_tokens_decoder": tokens}

    added = read_settings(checkpoint, "added_tokens.json", hub, as_added)
    whole = read_settings(checkpoint, "tokenizer.json", hub, added_of)
    tokens = added.get("added_tokens_decoder", {}) | whole.get("added_tokens_decoder", {})
    extra = config.get("extra_special_tokens", []) + roles.get("extra_special_tokens", [])
    return {
        **config,
        **roles,
        "added_tokens_decoder": tokens,
        "extra_special_tokens": extra,
        "path": (added or whole or roles or config).get("path"),
    }


def read_checkpoint(checkpoint: str | Path, **hub) -> tuple[dict[str, int], list[Pair], dict]:
    """Read vocabulary, merges and settings from whatever files there are.

    The settings say where they are from: `path`, and `merges_path` for the merges.

    Raises FileNotFoundError where there are none, ValueError for a damaged one, naming it.
    """
    vocab_path = find_file(checkpoint, *VOCAB_NAMES, "tokenizer.json", **hub)
    path = find_file(checkpoint, *MERGES_NAMES, "tokenizer.json", **hub)
    if "tokenizer.json" in (vocab_path.name, path.name):
        path = find_file(checkpoint, "tokenizer.json", **hub)
        vocab, merges, settings = read_whole(path)
    else:
        vocab, merges, settings = read_vocabulary(vocab_path), read_merges(path), {}
    return vocab, merges, settings | read_all_settings(checkpoint, hub) | {"merges_path": path}
