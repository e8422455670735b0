"""The 5-gram model that `tiny` is compared with: against one written with dictionaries."""

from collections import Counter

import numpy as np
import pytest

from benchmarks.ngram import discounts, probabilities

V = 12


def plain(books: list[int], history: tuple, token: int, highest: bool = True) -> float:
    """Modified Kneser-Ney straight from its definition; `history`: at most n - 1 tokens."""
    n = len(history) + 1
    grams = [tuple(books[i : i + n]) for i in range(len(books) - n + 1)]
    if not highest:  # how many different tokens stand before it
        longer = {tuple(books[i : i + n + 1]) for i in range(len(books) - n)}
        grams = [gram[1:] for gram in longer]
    counts = Counter(grams)
    lower = plain(books, history[1:], token, highest=False) if history else 1 / V
    after = {gram: count for gram, count in counts.items() if gram[:-1] == history}
    if not after:
        return lower
    takes = discounts(np.array(list(counts.values())))
    taken = {gram: takes[min(count, 3)] for gram, count in after.items()}
    own = (*history, token)
    kept = after.get(own, 0) - taken.get(own, 0)
    return (kept + sum(taken.values()) * lower) / sum(after.values())


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_equals_the_version_with_dictionaries(order):
    numbers = np.random.default_rng(order)
    books, text = numbers.zipf(1.6, 400) % (V - 1), numbers.zipf(1.6, 60) % V  # V - 1 is new
    found = probabilities(books, text, V, order)
    histories = [tuple(text[max(0, i - order + 1) : i].tolist()) for i in range(len(text))]
    expected = [
        plain(books.tolist(), history, int(token), highest=len(history) == order - 1)
        for history, token in zip(histories, text, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_probabilities_add_up_to_one():
    books = np.random.default_rng(0).zipf(1.6, 300) % V
    ends = [np.array([1, 0, 2, token]) for token in range(V)]
    assert sum(probabilities(books, end, V, 4)[-1] for end in ends) == pytest.approx(1)
