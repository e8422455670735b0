"""The functions of chapter 08: the loop, what bends the scores, what ends a text, what is shown."""

from functools import partial

import pytest
import torch

from minigpt.generation import (
    ends_with_token,
    forbid_early_end,
    forbid_repeated_ngrams,
    greedy,
    keep_top_k,
    keep_top_p,
    penalize_repetition,
    sample,
    stream,
)


def count_up(ids, cache):
    """A model of ten ids that always expects the next higher one."""
    return torch.nn.functional.one_hot((ids[:, -1] + 1) % 10, 10).float(), None


def continued(ids, n, *plan, next_logits=count_up, **options) -> list:
    ids = torch.tensor(ids)
    return torch.cat([ids, *stream(next_logits, ids, n, *plan, **options)], dim=-1).tolist()


def test_a_row_that_is_done_goes_on_with_the_pad_token():
    assert continued([[1, 2], [7, 8]], 3) == [[1, 2, 3, 4, 5], [7, 8, 9, 0, 1]]
    assert continued([[1]], 0) == [[1]]
    three = {"criteria": [partial(ends_with_token, eos=[3])], "pad_token_id": 9}
    assert continued([[1], [5]], 6, **three) == [[1, 2, 3, 9, 9, 9, 9], [5, 6, 7, 8, 9, 0, 1]]
    assert continued([[1]], 6, **three) == [[1, 2, 3]]


def test_a_cache_gets_the_new_ids_alone():
    seen = []

    def remembers(ids, cache):
        seen.append(ids.shape[-1])
        return count_up(ids, None)[0], cache or "something"

    assert continued([[1, 2, 3]], 3, next_logits=remembers) == [[1, 2, 3, 4, 5, 6]]
    assert seen == [3, 1, 1]


@pytest.mark.parametrize("choose", [greedy, sample])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_broken_score_is_an_error_that_names_step_and_row(choose, value):
    def breaks(ids, cache):
        logits = torch.randn(len(ids), 50)
        logits[ids[:, 0] == 2, 3] = value if ids.shape[-1] == 3 else 0.0
        return logits, None

    with pytest.raises(ValueError, match="step 2, row 1: .*(nan|inf)"):
        continued([[1], [2]], 5, choose, next_logits=breaks)


def test_a_row_that_is_done_is_not_asked():
    def breaks_at_the_end(ids, cache):
        ended = (ids == 3).any(-1, keepdim=True)
        return count_up(ids, None)[0].masked_fill(ended, torch.nan), None

    three = {"criteria": [partial(ends_with_token, eos=[3])], "next_logits": breaks_at_the_end}
    assert continued([[2], [5]], 4, **three)[1] == [5, 6, 7, 8, 9]


def test_what_bends_the_scores():
    logits = torch.tensor([[4.0, 3.0, 3.0, -1.0]])
    kept = [keep_top_k(logits, k).isfinite().sum().item() for k in (1, 2, 3, 9)]
    assert kept == [1, 3, 3, 4]  # ties stay
    assert [keep_top_p(logits, p).isfinite().sum().item() for p in (1e-9, 0.6, 1)] == [1, 2, 4]
    assert keep_top_p(logits, 1e-9, least=2).isfinite().sum() == 2
    ids = torch.tensor([[0, 3, -1]])  # -1: no token
    assert penalize_repetition(ids, logits, 2.0).tolist() == [[2.0, 3.0, 3.0, -2.0]]
    ids = torch.tensor([[1, 2, 1]])
    assert forbid_repeated_ngrams(ids, logits, 2).isinf().tolist() == [[False, False, True, False]]
    assert forbid_repeated_ngrams(ids, logits, 4) is logits
    assert forbid_early_end(ids, logits, [0, 3], 4).isinf().tolist() == [[True, False, False, True]]
    assert forbid_early_end(ids, logits, [0, 3], 3) is logits
