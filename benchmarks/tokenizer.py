"""How fast texts become ids: `python -m benchmarks.tokenizer BOOKS HELD_OUT [MEGABYTES]`.

Two folders of .txt files, cut into paragraphs. On the first MEGABYTES (default 10) of BOOKS it
measures, as medians: the fast tokenizer in both pipelines against that of transformers (which
knows only the basic one), one paragraph a call and all as one batch, in interleaved rounds; and the
slow tokenizer, with and without its memory of spelled words, against ftfy and spaCy alone, each in
a process of its own that has seen nothing (all of them remember words, so the speed grows with the
text). On HELD_OUT it counts the paragraphs on which fast and slow agree. Prints a table and writes
results/tokenizer.json.
"""

import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import ftfy
import spacy
import tokenizers
import transformers

from minigpt import OpenAIGPTTokenizer, OpenAIGPTTokenizerFast
from minigpt.bpe import apply_merges
from minigpt.tokenizer import load_libraries, split_chunk, split_words, standardize

RESULTS = Path(__file__).parent / "results" / "tokenizer.json"
TINY = Path(__file__).parents[1] / "minigpt" / "assets" / "tiny"
ROUNDS = 3


def paragraphs(folder: str, megabytes: float) -> list[str]:
    texts, size = [], 0
    for path in sorted(Path(folder).rglob("*.txt")):
        if size >= megabytes * 1e6:
            break
        texts += [part for part in path.read_text(encoding="utf-8").split("\n\n") if part.strip()]
        size += path.stat().st_size
    return texts


def libraries_alone(texts: list[str]) -> Callable:
    """ftfy on the texts and spaCy on what it gets from us: the floor under our pipeline."""
    english = spacy.blank("en").tokenizer
    pairs = [(text, standardize(ftfy.fix_text(text))) for text in texts]

    def job():
        for text, standard in pairs:
            ftfy.fix_text(text)
            english(standard)

    return job


def fresh_slow(texts: list[str], keep_words: bool = True) -> Callable:
    """The slow tokenizer with a spaCy that has seen nothing; without memory: spelled each time."""
    load_libraries.cache_clear()
    split_chunk.cache_clear()
    tokenizer = OpenAIGPTTokenizer.from_pretrained("tiny", "original")
    vocab, ranks = tokenizer.vocab, {pair: rank for rank, pair in enumerate(tokenizer.merges)}
    if keep_words:
        return each(tokenizer.encode, texts)
    return each(
        lambda text: [
            vocab.get(x, 0) for word in split_words(text) for x in apply_merges(word, ranks)
        ],
        texts,
    )


def medians(jobs: dict[str, Callable], rounds: int = ROUNDS) -> dict[str, float]:
    """Seconds for each job; one round runs them all, so that a busy moment hits them alike."""
    samples = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            begin = time.perf_counter()
            job()
            samples[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in samples.items()}


def each(encode: Callable, texts: list[str]) -> Callable:
    def job():
        for text in texts:
            encode(text)

    return job


SLOW = {
    "ftfy and spaCy alone": libraries_alone,
    "slow, original": fresh_slow,
    "slow, original, words not kept": lambda texts: fresh_slow(texts, keep_words=False),
}


def slow_seconds(name: str, texts: list[str]) -> float:
    """Run a slow job in a fresh process."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(time_once, (name, texts))


def time_once(name: str, texts: list[str]) -> float:
    job = SLOW[name](texts)  # made before the clock starts
    return medians({name: job}, rounds=1)[name]


def main(folder: str, held_out: str, megabytes: str = "10") -> None:
    texts = paragraphs(folder, float(megabytes))
    size = sum(len(text.encode()) for text in texts) / 1e6
    fast = {
        "fast, original": OpenAIGPTTokenizerFast.from_pretrained("tiny", "original"),
        "fast, basic": OpenAIGPTTokenizerFast.from_pretrained("tiny", "basic"),
        "transformers": transformers.OpenAIGPTTokenizer.from_pretrained(TINY),
    }
    print(f"{len(texts)} paragraphs, {size:.1f} MB")

    jobs = {f"{name}, one by one": each(tok, texts) for name, tok in fast.items()}
    jobs |= {f"{name}, batch": lambda tok=tok: tok(texts) for name, tok in fast.items()}
    table = {name: size / seconds for name, seconds in medians(jobs).items()}
    seconds = {name: [] for name in SLOW}
    for _ in range(ROUNDS):
        for name in SLOW:
            seconds[name].append(slow_seconds(name, texts))
    table |= {name: size / statistics.median(values) for name, values in seconds.items()}
    ratios = {
        f"{name} {how} over transformers": table[f"{name}, {how}"] / table[f"transformers, {how}"]
        for name in ("fast, original", "fast, basic")
        for how in ("one by one", "batch")
    }
    ratios["slow, original over ftfy and spaCy alone"] = (
        table["slow, original"] / table["ftfy and spaCy alone"]
    )
    unseen = paragraphs(held_out, math.inf)
    slow = OpenAIGPTTokenizer.from_pretrained("tiny", "original")
    same = sum(
        slow.encode(text) == found
        for text, found in zip(unseen, fast["fast, original"](unseen).input_ids, strict=True)
    )
    for name, value in table.items():
        print(f"{name:34} {value:7.2f} MB/s")
    for name, value in ratios.items():
        print(f"{name:50} {value:5.2f}")
    print(f"fast and slow agree on {same} of {len(unseen)} paragraphs")
    packages = {
        "tokenizers": tokenizers,
        "transformers": transformers,
        "ftfy": ftfy,
        "spacy": spacy,
    }
    result = {
        "command": "python -m benchmarks.tokenizer BOOKS HELD_OUT " + megabytes,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": {"python": platform.python_version()}
        | {name: module.__version__ for name, module in packages.items()},
        "MB/s": {name: round(value, 2) for name, value in table.items()},
        "ratios": {name: round(value, 2) for name, value in ratios.items()},
        "paragraphs": len(unseen),
        "paragraphs on which fast and slow agree": same,
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
