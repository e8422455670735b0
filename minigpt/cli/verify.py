"""The checks of `minigpt verify`. The parameters of each name what it needs: arguments of `examine`
or results of earlier checks. It returns its result and why it passed; otherwise it raises a
`Verdict`, or any other error if it failed."""

import json
from collections.abc import Iterator
from hashlib import sha256
from inspect import signature

import torch
from huggingface_hub.utils.sha import git_hash

from minigpt import OpenAIGPTConfig, OpenAIGPTLMHeadModel, OpenAIGPTModel, OpenAIGPTTokenizerFast
from minigpt.cli.common import one_line
from minigpt.hf.configuration import CONFIG_FILES, SIZES
from minigpt.hf.files import find_file, split_hub_options
from minigpt.hf.formats import WEIGHT_FILES, open_weights
from minigpt.hf.hub import OFFICIAL_NAME, OLD_NAMES
from minigpt.hf.tokenizer_files import MERGES_NAMES, TOKENIZER_FILES, VOCAB_NAMES

VOCABULARY = {  # the files of OpenAI's release -> their SHA-256
    "encoder_bpe_40000.json": "fdf49b19e7de236852091da09b84a7a3cd5e7b0e79916376cf45f6b8127b8078",
    "vocab_40000.bpe": "0ea9b51ae695073cd871e0358f7016311d671a7ff3963e367d5236522f294725",
}
USUAL = OpenAIGPTConfig()
PROMPT = [481, 4735, 544]  # "the president is"
CONTINUATION = [  # what OpenAI's weights say most probably follows; from the tests of transformers
    *(246, 963, 870, 762, 239, 244, 40477, 244, 249, 719, 881, 487, 544, 240, 244, 603, 481),
]


class Verdict(Exception):
    """Raised by a check that did not pass: "not checked" or "not OpenAI's", and the reason."""


def checkpoint(name, hub):
    path = find_file(name, *CONFIG_FILES, *WEIGHT_FILES, *VOCAB_NAMES, *MERGES_NAMES, **hub)
    return path.parent, f"{path.name} is there"


def config(name, options, checkpoint):
    found = OpenAIGPTConfig.from_pretrained(name, **options)
    return found, f"{found.n_layer} blocks of {found.n_embd} channels, {found.n_head} heads"


def arrays(name, hub, checkpoint):
    found, path = open_weights(name, **hub), find_file(name, *WEIGHT_FILES, **hub)
    return found, f"{len(found)} arrays, by {path.name}"


def vocabulary(name, hub, checkpoint):
    try:
        find_file(name, *TOKENIZER_FILES, **hub)
    except FileNotFoundError as error:
        raise Verdict("not checked", "there are only weights, no vocabulary") from error
    found = OpenAIGPTTokenizerFast.from_pretrained(name, **hub)
    return found, f"{len(found)} tokens, {len(found.merges)} merges"


def checksums(checkpoint):
    """Compare files with their checksums: the hub's cache stores each file under its own."""
    files = [x for x in sorted(checkpoint.iterdir()) if x.resolve().parent.name == "blobs"]
    if not files:
        raise Verdict("not checked", "only files in the hub's cache have known checksums")
    for path in files:
        data = path.read_bytes()
        if path.resolve().name not in (git_hash(data), sha256(data).hexdigest()):
            raise ValueError(f"{path.name} has changed since the download; download it again")
    return files, f"{len(files)} files are as the hub promised"


def shapes(name, options, config, arrays):
    return OpenAIGPTModel.from_pretrained(name, **options), "as the config says"


def numbers(arrays):
    for name, array in arrays.items():
        values = array.read()
        if bad := int((~values.isfinite()).sum()):
            raise ValueError(f"{name} is NaN or infinite in {bad} of {values.numel():,} values")
    return None, "all finite"


def vocabulary_size(shapes, vocabulary, config):
    rows, tokens = config.vocab_size, len(vocabulary)
    if rows != tokens:
        raise ValueError(f"the vocabulary has {tokens} tokens, the embedding matrix {rows} rows")
    return tokens, f"{tokens}, as many as the embedding matrix has rows"


def official(config):
    if any(getattr(config, size) != getattr(USUAL, size) for size in SIZES):
        why = "the sizes are not those of OpenAI's GPT-1, so these checks do not apply"
        raise Verdict("not checked", why)
    return None, "by its sizes"


def official_vocabulary(official, vocabulary):
    """Compare the checksums of the two files, written as OpenAI wrote them."""
    tokens = sorted(vocabulary.vocab.items(), key=lambda item: (item[1] == 0, item[1]))
    merges = "\n".join(["#version: 0.2", *map(" ".join, vocabulary.merges), ""])
    texts = dict(zip(VOCABULARY, (json.dumps(dict(tokens)), merges), strict=True))
    for file, known in VOCABULARY.items():
        if sha256(texts[file].encode()).hexdigest() != known:
            raise Verdict("not OpenAI's", f"{file} has another SHA-256")
    return None, "both files have the SHA-256 of OpenAI's"


def official_ids(official_vocabulary, vocabulary):
    text = vocabulary.decode(PROMPT + CONTINUATION, clean_up_tokenization_spaces=True)
    if (ids := vocabulary.encode(text)) != PROMPT + CONTINUATION:
        raise Verdict("not OpenAI's", f"the published text gets the ids {ids}")
    return ids, "the published text gets the published ids"


def official_continuation(name, options, official, shapes, numbers):
    model = OpenAIGPTLMHeadModel.from_pretrained(name, **options | {"dtype": "float32"})
    plan = {"max_new_tokens": len(CONTINUATION), "do_sample": False}
    ids = model.generate(torch.tensor([PROMPT]), **plan)[0, len(PROMPT) :].tolist()
    if ids != CONTINUATION:
        raise Verdict("not OpenAI's", f"the tokens are {ids}, OpenAI's are {CONTINUATION}")
    return ids, f"{len(ids)} tokens, as published"


CHECKS = [checkpoint, config, arrays, vocabulary, checksums, shapes, numbers]
CHECKS += [vocabulary_size, official, official_vocabulary, official_ids, official_continuation]


def examine(name: str, **options) -> Iterator[tuple[str, str, str]]:
    """Yield each of `CHECKS`, its verdict on a checkpoint and why; `options` of `from_pretrained`.

    A difference from OpenAI's files is a failure only if the name promises OpenAI's checkpoint.
    """
    known = {"name": name, "options": options, "hub": split_hub_options(options)[0]}
    is_promised = OLD_NAMES.get(name, name) == OFFICIAL_NAME
    for check in CHECKS:
        needs, title = signature(check).parameters, check.__name__.replace("_", " ")
        if lacking := [other.replace("_", " ") for other in needs if other not in known]:
            yield title, "not checked", f"needs the check {lacking[0]!r}"
            continue
        try:
            known[check.__name__], why = check(*(known[need] for need in needs))
            yield title, "passed", why
        except Verdict as found:
            verdict, why = found.args
            is_wrong = is_promised and title.startswith("official")
            yield title, "failed" if is_wrong else verdict, why
        except Exception as error:  # any error of a checkpoint is a result of the check
            absent = check is checkpoint and isinstance(error, OSError)
            absent |= any(isinstance(x, ConnectionError) for x in (error, error.__cause__))
            yield title, "not checked" if absent else "failed", one_line(error)
