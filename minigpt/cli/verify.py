"""What can be found out about a checkpoint: the checks of `minigpt verify`."""

import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from types import SimpleNamespace

import torch
from huggingface_hub.utils.sha import git_hash

from minigpt import OpenAIGPTConfig, OpenAIGPTLMHeadModel, OpenAIGPTModel, OpenAIGPTTokenizerFast
from minigpt.cli.common import one_line
from minigpt.hf.configuration import CONFIG_FILES
from minigpt.hf.files import find_file, split_hub_options
from minigpt.hf.formats import WEIGHT_FILES, open_weights
from minigpt.hf.hub import OFFICIAL_NAME, OLD_NAMES
from minigpt.hf.loading import MERGES_NAMES, TOKENIZER_FILES, VOCAB_NAMES

VOCABULARY = {  # of OpenAI's release: file -> SHA-256
    "encoder_bpe_40000.json": "fdf49b19e7de236852091da09b84a7a3cd5e7b0e79916376cf45f6b8127b8078",
    "vocab_40000.bpe": "0ea9b51ae695073cd871e0358f7016311d671a7ff3963e367d5236522f294725",
}
PROMPT = [481, 4735, 544]  # "the president is"
CONTINUATION = [  # what OpenAI's weights say most probably follows; from the tests of transformers
    *(246, 963, 870, 762, 239, 244, 40477, 244, 249, 719, 881, 487, 544, 240, 244, 603, 481),
]


class Verdict(Exception):
    """What a check says if it has not passed: "failed", "not checked" or "not OpenAI's"; why."""


CHECKS: dict[str, tuple[Callable[[SimpleNamespace], str], tuple[str, ...]]] = {}


def check(name: str, *needs: str) -> Callable:
    """Enter a function into `CHECKS`, with the checks that have to pass before.

    It puts what it finds into `found`. It returns why it passed, or raises a `Verdict` or any other
    error: then it failed.
    """
    return lambda function: CHECKS.setdefault(name, (function, needs))[0]


@check("checkpoint")
def find_checkpoint(found: SimpleNamespace) -> str:
    names = *CONFIG_FILES, *WEIGHT_FILES, *VOCAB_NAMES, *MERGES_NAMES
    try:
        path = find_file(found.checkpoint, *names, **found.hub)
    except OSError as error:
        raise Verdict("not checked", one_line(error)) from error
    found.folder = path.parent
    return f"{path.name} is there"


@check("config", "checkpoint")
def read_config(found: SimpleNamespace) -> str:
    found.config = config = OpenAIGPTConfig.from_pretrained(found.checkpoint, **found.options)
    return f"{config.n_layer} blocks of {config.n_embd} channels, {config.n_head} heads"


@check("arrays", "checkpoint")
def read_arrays(found: SimpleNamespace) -> str:
    found.arrays = open_weights(found.checkpoint, **found.hub)
    path = find_file(found.checkpoint, *WEIGHT_FILES, **found.hub)
    return f"{len(found.arrays)} arrays, by {path.name}"


@check("vocabulary", "checkpoint")
def read_vocabulary(found: SimpleNamespace) -> str:
    try:
        find_file(found.checkpoint, *{*TOKENIZER_FILES, *VOCAB_NAMES, *MERGES_NAMES}, **found.hub)
    except FileNotFoundError as error:
        raise Verdict("not checked", "there is none, only weights") from error
    found.tokenizer = OpenAIGPTTokenizerFast.from_pretrained(found.checkpoint, **found.hub)
    return f"{len(found.tokenizer)} pieces, {len(found.tokenizer.merges)} merges"


@check("checksums", "checkpoint")
def compare_checksums(found: SimpleNamespace) -> str:
    """The hub's cache keeps a file under its checksum, git's or SHA-256, and a link to it."""
    files = {path: path.resolve() for path in sorted(found.folder.iterdir())}
    known = {path: blob for path, blob in files.items() if blob.parent.name == "blobs"}
    if not known:
        raise Verdict("not checked", "only files in the hub's cache have known checksums")
    for path, blob in known.items():
        data = blob.read_bytes()
        if blob.name not in (git_hash(data), sha256(data).hexdigest()):
            raise ValueError(
                f"{path.name} has changed since the download; delete it and load it again"
            )
    return f"{len(known)} of {len(files)} files are as the hub promised"


@check("shapes", "config", "arrays")
def compare_shapes(found: SimpleNamespace) -> str:
    with torch.device("meta"):
        expected = dict(OpenAIGPTModel(found.config).named_parameters())
    for name, parameter in expected.items():
        has = tuple(found.arrays[name].mapped.shape) if name in found.arrays else "none"
        if has != (shape := tuple(parameter.shape)):
            raise ValueError(f"{name} has shape {has}, the config makes it {shape}")
    more = len(found.arrays) - len(expected)
    return "as the config says" + f", and {more} arrays of a head" * (more > 0)


@check("numbers", "arrays")
def look_for_nan(found: SimpleNamespace) -> str:
    for name, array in found.arrays.items():
        values = array.read()
        if bad := int((~values.isfinite()).sum()):
            raise ValueError(f"{name} is NaN or infinite in {bad} of {values.numel():,} places")
    return "all finite"


@check("pieces", "shapes", "vocabulary")
def count_tokens(found: SimpleNamespace) -> str:
    rows, tokens = found.config.vocab_size, len(found.tokenizer)
    if rows != tokens:
        raise ValueError(f"the vocabulary has {tokens} pieces, the table of tokens {rows} rows")
    return f"{tokens}, as many as the table of tokens has rows"


@check("official", "config")
def compare_sizes(found: SimpleNamespace) -> str:
    sizes = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head")
    official = OpenAIGPTConfig()
    if all(getattr(found.config, name) == getattr(official, name) for name in sizes):
        return "by its sizes"
    why = "this is not GPT-1 as OpenAI released it, whose facts do not apply"
    raise Verdict("not checked" if found.otherwise == "not OpenAI's" else "failed", why)


@check("official vocabulary", "official", "vocabulary")
def compare_vocabulary(found: SimpleNamespace) -> str:
    """Write the two files as OpenAI wrote them, and compare their checksums."""
    tokens = sorted(found.tokenizer.vocab.items(), key=lambda item: (item[1] == 0, item[1]))
    merges = "\n".join(["#version: 0.2", *map(" ".join, found.tokenizer.merges), ""])
    texts = json.dumps(dict(tokens)).encode(), merges.encode()
    for text, (name, expected) in zip(texts, VOCABULARY.items(), strict=True):
        if (digest := sha256(text).hexdigest()) != expected:
            raise Verdict(
                found.otherwise, f"{name}: SHA-256 {digest[:12]}..., OpenAI's is {expected[:12]}..."
            )
    return "the SHA-256 of both files"


@check("official continuation", "official", "shapes", "numbers")
def compare_continuation(found: SimpleNamespace) -> str:
    options = found.options | {"dtype": "float32"}
    model = OpenAIGPTLMHeadModel.from_pretrained(found.checkpoint, **options)
    length, prompt = len(CONTINUATION), torch.tensor([PROMPT])
    ids = model.generate(prompt, max_new_tokens=length, do_sample=False)[0, len(PROMPT) :].tolist()
    for i, (token, expected) in enumerate(zip(ids, CONTINUATION, strict=True), len(PROMPT)):
        if token != expected:
            raise Verdict(found.otherwise, f"token {i} is {token}, published is {expected}")
    return f"{length} tokens, as published"


def examine(checkpoint: str, **options) -> Iterator[tuple[str, str, str]]:
    """Yield each of `CHECKS`, its verdict on a checkpoint and why; `options` of `from_pretrained`.

    What is not as OpenAI's is a failure only where the name promises that it is.
    """
    found, passed = SimpleNamespace(checkpoint=checkpoint, options=options), set()
    found.hub, _ = split_hub_options(options)
    is_named = OLD_NAMES.get(checkpoint, checkpoint) == OFFICIAL_NAME
    found.otherwise = "failed" if is_named else "not OpenAI's"
    for name, (function, needs) in CHECKS.items():
        try:
            if lacking := [other for other in needs if other not in passed]:
                raise Verdict("not checked", f"needs the check {lacking[0]!r}")
            yield name, "passed", function(found)
            passed.add(name)
        except Verdict as verdict:
            yield name, *verdict.args
        except Exception as error:  # whatever is wrong with a checkpoint is what we are here for
            unreachable = any(isinstance(x, ConnectionError) for x in (error, error.__cause__))
            yield name, "not checked" if unreachable else "failed", one_line(error)
