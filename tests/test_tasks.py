"""The core's input transformations: special tokens, truncation, both orders, batches."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt.check.materials import SMALL, golden_results, golden_weights
from minigpt.model import GPT
from minigpt.tasks import (
    TRANSFORMATIONS,
    Specials,
    classification,
    collate,
    entailment,
    multiple_choice,
    shorten,
    similarity,
)

S = Specials(start=97, delimiter=98, extract=99)  # those of OpenAI's small model
texts = st.lists(st.integers(0, 96), max_size=12)


def test_each_transformation_by_hand():
    assert classification([1, 2], S, 9) == [[97, 1, 2, 99]]
    assert entailment([1, 2], [3], S, 9) == [[97, 1, 2, 98, 3, 99]]
    assert similarity([1, 2], [3], S, 9) == [[97, 1, 2, 98, 3, 99], [97, 3, 98, 1, 2, 99]]
    found = multiple_choice([1, 2], [3], [4], [5, 6], s=S, limit=9)
    assert found == [[97, 1, 2, 3, 98, 4, 99], [97, 1, 2, 3, 98, 5, 6, 99]]


@pytest.mark.parametrize(
    "lengths, room, left",
    [
        ((5, 3), 9, (5, 3)),  # it fits
        ((5, 3), 7, (4, 3)),  # the longer first
        ((5, 3), 5, (2, 3)),  # then both in turn
        ((5, 3), 0, (0, 0)),
        ((9, 2, 1), 6, (3, 2, 1)),  # a question and an answer survive a long passage
        ((0, 4), 2, (0, 2)),  # an empty text
    ],
)
def test_the_longest_part_is_cut_first_and_from_its_end(lengths, room, left):
    parts = [list(range(length)) for length in lengths]
    assert shorten(parts, room) == [list(range(length)) for length in left]
    assert [len(part) for part in parts] == list(lengths)  # what was passed stays


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(list(TRANSFORMATIONS)), st.lists(texts, min_size=5, max_size=5), st.data())
def test_no_row_is_too_long_and_none_loses_a_special_token(kind, parts, data):
    count = {"classification": 1, "multiple_choice": 5}.get(kind, 2)
    specials = [97, 99] if kind == "classification" else [97, 98, 99]
    limit = data.draw(st.integers(3, 40))
    rows = TRANSFORMATIONS[kind](*parts[:count], s=S, limit=limit)
    assert len(rows) == {"similarity": 2, "multiple_choice": 3}.get(kind, 1)
    whole = TRANSFORMATIONS[kind](*parts[:count], s=S, limit=999)
    for row, uncut in zip(rows, whole, strict=True):
        assert [x for x in row if x >= 97] == specials and row[0] == 97 and row[-1] == 99
        assert len(row) == min(limit, len(uncut))


def test_rows_and_positions_are_those_of_openai():
    """Each golden row is taken apart at its special tokens, put together again, and collated."""
    X, M = golden_results()["X"][..., 0].long(), golden_results()["M"]
    examples = []
    for choices in X.tolist():
        rows = []
        for row in choices:
            middle, end = row.index(98), row.index(99)
            rows += multiple_choice(row[1:middle], [], row[middle + 1 : end], s=S, limit=24)
        examples.append(rows)
    ids, ends = collate(examples)
    assert torch.equal(ids, X) and torch.equal(ends, M.long().sum(-1) - 1)


def test_a_row_in_a_batch_is_what_it_is_alone():
    model = GPT(SMALL).eval()
    model.load_state_dict(golden_weights())
    examples = [similarity([1, 2, 3], [4], S, 24), similarity([5], [], S, 24)]
    ids, ends = collate(examples, pad=7)
    assert ids.shape == (2, 2, 7) and ids.dtype == ends.dtype == torch.long
    with torch.no_grad():
        states = model(ids.flatten(0, 1)).unflatten(0, (2, 2))
        for b, rows in enumerate(examples):
            for k, row in enumerate(rows):
                alone = model(torch.tensor([row]))[0, -1]
                assert (states[b, k, ends[b, k]] - alone).abs().max() < 1e-5
