"""What counting words comes to: a 5-gram model of the same text: `python -m benchmarks.ngram`.

Arguments: BOOKS HELD_OUT [MODEL [SHARDS]]. Both texts become ids of MODEL's tokenizer (default:
tiny), as in `minigpt pretrain`; SHARDS is a folder that may hold them already. The model is
interpolated modified Kneser-Ney (Chen and Goodman 1998), counted in BOOKS; it is measured as
perplexity per token and per word of HELD_OUT. Writes results/ngram.json.
"""

import math
import os
import sys
import time

import numpy as np

from benchmarks.common import machine, write_result

ORDER = 5


def number_ngrams(shorter: np.ndarray, ids: np.ndarray, V: int) -> tuple[np.ndarray, np.ndarray]:
    """Number the n-grams of a text: from the number of the (n - 1)-gram that begins at each place.

    Returns the distinct ones, sorted, each as (number of its first n - 1 tokens) * V + last token,
    and for each place the index of its own among them.
    """
    count = len(shorter) - 1
    keys = shorter[:count].astype(np.int64) * V + ids[len(ids) - count :]
    distinct, numbers = np.unique(keys, return_inverse=True)
    return distinct, numbers.astype(np.int32)


def discounts(counts: np.ndarray) -> np.ndarray:
    """What modified Kneser-Ney takes from a count of 0, 1, 2, and 3 or more."""
    n = [max(1, np.count_nonzero(counts == k)) for k in range(5)]  # n[0] is not used
    y = n[1] / (n[1] + 2 * n[2])
    found = [k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3)]
    return np.array([0.0, *np.clip(found, 0, (1, 2, 3))])


def interpolate(lower, counts, distinct, V, contexts, context, ngram) -> np.ndarray:
    """Probabilities of a text's tokens by n-grams, from those by shorter ones, `lower` (N,).

    `context` and `ngram` (N,) are numbers of what stands there, -1 if the books do not have it.
    """
    taken = discounts(counts)[np.minimum(counts, 3)]
    histories = distinct // V
    total, free = (
        np.bincount(histories, weights=values, minlength=contexts) for values in (counts, taken)
    )
    known = (context >= 0) & (total[context] > 0)
    kept = np.where(ngram >= 0, counts[ngram] - taken[ngram], 0.0)
    shares = (kept + free[context] * lower) / np.maximum(total[context], 1)
    return np.where(known, shares, lower)


def find(distinct: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """The index of each key among the sorted distinct ones, or -1."""
    at = np.minimum(np.searchsorted(distinct, keys), len(distinct) - 1)
    return np.where(distinct[at] == keys, at, -1)


def probabilities(books: np.ndarray, text: np.ndarray, V: int, order: int = ORDER) -> np.ndarray:
    """The probability of each token of `text` (N,) after the `order - 1` before it: (N,).

    A shorter n-gram counts once for each token that stands before it in the books, not each time
    (Kneser and Ney 1995).
    """
    found = np.full(len(text), 1 / V)  # what is left for tokens that never occur
    numbers, distinct, contexts = books.astype(np.int32), np.arange(V), 1
    context, ngram = np.zeros(len(text), np.int64), text.astype(np.int64)
    for n in range(1, order + 1):
        if n < order:
            longer, next_numbers = number_ngrams(numbers, books, V)
            endings = np.empty(len(longer), np.int32)
            endings[next_numbers] = numbers[1:]  # all but the first token
            counts = np.bincount(endings, minlength=len(distinct))
        else:
            counts = np.bincount(numbers, minlength=len(distinct))
        found = interpolate(found, counts, distinct, V, contexts, context, ngram)
        if n < order:
            contexts, distinct, numbers = len(distinct), longer, next_numbers
            context = np.concatenate([[-1], ngram[:-1]])  # the n tokens before
            keys = np.where(context >= 0, context * V + text, -1)
            ngram = find(distinct, keys)
    return found


def main(books: str, held_out: str, model: str = "tiny", shards: str = "runs/data") -> None:
    from minigpt import OpenAIGPTTokenizer
    from minigpt.training.shards import prepare_shards

    tokenizer = OpenAIGPTTokenizer.from_pretrained(model, text_pipeline="original")
    train, text = (
        prepare_shards(folder, tokenizer, shards, os.cpu_count(), progress=True)
        for folder in (books, held_out)
    )
    begin = time.perf_counter()
    ids = train[:].astype(np.int32)
    nats = -np.log(probabilities(ids, text[:], len(tokenizer))).mean()
    result = {
        "command": "python -m benchmarks.ngram BOOKS HELD_OUT ...",
        **machine(),
        "order": ORDER,
        "vocabulary": len(tokenizer),
        "tokens of the books": len(ids),
        "tokens held out": len(text),
        "words held out": text.words,
        "perplexity per token": round(math.exp(nats), 2),
        "perplexity per word": round(math.exp(nats * len(text) / text.words), 1),
        "seconds": round(time.perf_counter() - begin, 1),
    }
    write_result("ngram", result)


if __name__ == "__main__":
    main(*sys.argv[1:])
