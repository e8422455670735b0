"""Speculative decoding: the text is that of the large model, whoever drafts."""

from copy import deepcopy
from unittest.mock import Mock

import pytest
import torch
import transformers
from transformers.generation.utils import _speculative_sampling

from minigpt import speculate
from minigpt.fast.speculative import rejection_sample, rounds
from tests import helpers

V = 31
NEEDS_NEWER = pytest.mark.skipif(
    not helpers.has_transformers("5.20"), reason="an older transformers fails here itself"
)


@pytest.fixture(scope="module")
def pair():
    return helpers.lively_pair()


@pytest.fixture(scope="module")
def draft(pair):
    """The large model with its weights disturbed: right now and then."""
    model = deepcopy(pair[1])
    torch.manual_seed(0)
    for weight in model.parameters():
        weight.data.add_(torch.randn_like(weight) * 0.1)
    return model


def some_ids(seed: int, T: int = 5) -> torch.Tensor:
    return torch.randint(V, (1, T), generator=torch.Generator().manual_seed(seed))


# -- greedy


SETTINGS = [
    {},
    {"eos_token_id": [3, 7, 11, 12]},
    {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
    {"min_new_tokens": 4, "eos_token_id": list(range(6, 14))},
]


class Letters:
    def decode(self, ids, **options):
        return "".join("abcdefghijklmnopqrstuvwxyz .,;!"[i] for i in ids)


HOOKS = [
    {"stop_strings": "h", "tokenizer": Letters()},
    {"stop_strings": ["ab", " ."], "tokenizer": Letters(), "do_sample": True, "top_k": 1},
    {"stopping_criteria": [transformers.MaxLengthCriteria(15)]},
    {"logits_processor": [transformers.MinLengthLogitsProcessor(12, 3)], "eos_token_id": [3, 7]},
    {"logits_processor": [transformers.SequenceBiasLogitsProcessor({(5,): 3.0})]},
    {"attention_mask": torch.tensor([[0, 1, 1, 1, 1]]), "return_dict_in_generate": True},
]


@pytest.mark.parametrize("hook", [*SETTINGS, *HOOKS])
def test_generate_with_an_assistant_writes_the_same(pair, draft, hook):
    for seed in range(4):
        ids, options = some_ids(seed), {"max_new_tokens": 25, **hook}
        texts = [
            pair[1].generate(ids, **options, **helper)
            for helper in ({}, {"assistant_model": draft, "num_assistant_tokens": 1 + 2 * seed})
        ]
        if "return_dict_in_generate" in hook:
            texts = [text.sequences for text in texts]
        assert torch.equal(*texts), seed


def test_drafts_are_accepted_and_rejected(pair, draft):
    """Otherwise the test above would prove little."""
    found = [speculate(pair[1], draft, some_ids(i), 3, max_new_tokens=25) for i in range(5)]
    assert {0, 1, 3} <= {one.accepted for text in found for one in text.rounds}
    found = speculate(pair[1], pair[1], some_ids(0), 4, max_new_tokens=20)  # its own draft
    assert found.acceptance == 1 and found.tokens_per_call == 5 and len(found.rounds) == 4


@pytest.mark.parametrize("new", [0, 1, 2, 43])
def test_as_many_tokens_as_asked_for_up_to_the_last_position(pair, draft, new):
    found = speculate(pair[1], draft, some_ids(0), 4, max_new_tokens=new)
    assert found.sequences.shape == (1, 5 + new)
    assert (found.acceptance >= 0) == (found.tokens_per_call >= 1) == (new > 0)  # of none: nan


class Remembering(transformers.OpenAIGPTLMHeadModel):
    """Their GPT-1 with the one thing that their assisted loop needs: a cache. It holds the ids."""

    def forward(self, input_ids, past_key_values, **options):
        row = input_ids[:, None, :, None].double()  # (1, T) -> (1, 1, T, 1), as if keys
        ids = past_key_values.update(row, row, 0)[0][:, 0, :, 0].long()  # all so far
        out = super().forward(ids)
        out.logits = out.logits[:, -input_ids.shape[-1] :]
        out["past_key_values"] = past_key_values
        return out

    def prepare_inputs_for_generation(self, input_ids, past_key_values=None, **options):
        new = input_ids[:, past_key_values.get_seq_length() :]
        return {"input_ids": new, "past_key_values": past_key_values}


@NEEDS_NEWER
def test_the_ids_of_transformers_assisted_generation(pair, draft):
    large, small = (Remembering(pair[0].config).double().eval() for _ in range(2))
    large.load_state_dict(pair[0].state_dict())
    small.load_state_dict(draft.state_dict(), strict=False)
    small.generation_config.num_assistant_tokens = 3
    for seed in range(5):
        ids = some_ids(seed)
        theirs = large.generate(ids, assistant_model=small, max_new_tokens=25, do_sample=False)
        ours = speculate(pair[1], draft, ids, 3, max_new_tokens=25)
        assert torch.equal(ours.sequences, theirs)


# -- drawn


def frequencies_are_fair(draws: list, expected: torch.Tensor) -> bool:
    """Chi-square: would fair draws be as far off in at least one of 1,000 trials?"""
    counts = torch.tensor(draws).bincount(minlength=len(expected))
    wanted = len(draws) * expected
    distance = ((counts - wanted).square() / wanted).sum()
    return bool(torch.special.gammaincc(torch.tensor((len(expected) - 1) / 2), distance / 2) > 1e-3)


@NEEDS_NEWER
def test_the_rule_is_that_of_transformers():
    lengths = set()
    for seed in range(100):
        torch.manual_seed(seed)
        scores, guesses = torch.randn(5, 6), torch.randn(4, 6)
        drafted = torch.multinomial(guesses.softmax(-1), 1)[:, 0]
        torch.manual_seed(seed)
        ours = rejection_sample(drafted, guesses, scores)
        torch.manual_seed(seed)
        theirs, _ = _speculative_sampling(drafted[None], guesses[None], 4, scores[None])
        assert torch.equal(ours, theirs[0])
        lengths.add(len(ours))
    assert lengths == {1, 2, 3, 4, 5}


@torch.no_grad()
def test_drawn_texts_have_the_probability_that_the_model_gives_them():
    """Three drawn tokens out of three: 27 texts."""
    _, large = helpers.random_pair(
        vocab_size=3, n_embd=16, n_layer=1, n_head=2, initializer_range=0.15
    )
    _, small = helpers.random_pair(1, vocab_size=3, n_embd=16, n_layer=1, n_head=2)
    settings = {"do_sample": True, "temperature": 4.0, "max_new_tokens": 3}
    ids, generator = torch.tensor([[0, 1]]), torch.Generator().manual_seed(0)
    texts = [speculate(large, small, ids, 2, generator, **settings) for _ in range(1500)]
    draws = [int(text.sequences[0, 2:] @ torch.tensor([9, 3, 1])) for text in texts]
    all_texts = torch.cartesian_prod(*[torch.arange(3)] * 3)  # (27, 3)
    logits = large(torch.cat([ids.expand(27, -1), all_texts], dim=-1)).logits[:, 1:-1]
    chances = (logits / 4).softmax(-1).gather(-1, all_texts[..., None])[..., 0].prod(-1)
    assert frequencies_are_fair(draws, chances)
    assert not frequencies_are_fair(draws, chances.roll(1))


def test_the_same_seed_gives_the_same_text(pair, draft):
    options = {"do_sample": True, "temperature": 3.0}

    def drawn(seed):
        generator = torch.Generator().manual_seed(seed)
        found = speculate(pair[1], draft, some_ids(0), 4, generator, **options)
        return found.sequences.tolist()

    assert drawn(1) == drawn(1) != drawn(2)


# -- what generate hands over, and what is refused


def test_a_streamer_gets_the_tokens_one_by_one(pair, draft):
    streamer = Mock()
    options = {"max_new_tokens": 12, "streamer": streamer, "assistant_model": draft}
    text = pair[1].generate(some_ids(0), **options)
    prompt, *new = (call.args[0].flatten().tolist() for call in streamer.put.call_args_list)
    assert prompt + [token for (token,) in new] == text[0].tolist()
    streamer.end.assert_called_once()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_beams": 2}, "drafts for one text"),
        ({"output_scores": True}, "drafts for one text"),
        ({"do_sample": True, "num_return_sequences": 2}, "drafts for one text"),
        ({"num_assistant_tokens": 0}, "num_assistant_tokens=0"),
        ({"input_ids": torch.zeros(2, 5, dtype=torch.long)}, "drafts for one text"),
    ],
)
def test_what_cannot_be_done_is_refused(pair, draft, settings, message):
    with pytest.raises(ValueError, match=message):
        speculate(pair[1], draft, **{"input_ids": some_ids(0)} | settings)


def test_an_assistant_that_does_not_fit_is_refused(pair):
    _, other = helpers.random_pair(vocab_size=30)
    with pytest.raises(ValueError, match="assistant_model has 30 tokens, the model has 31"):
        speculate(pair[1], other, some_ids(0))
    _, short = helpers.random_pair(vocab_size=V, n_positions=24)
    with pytest.raises(ValueError, match="25 tokens, but this checkpoint has 24 positions"):
        speculate(pair[1], short, some_ids(0), max_new_tokens=30)


@pytest.mark.parametrize("do_sample", [False, True])
@pytest.mark.parametrize("broken", ["large", "small"])
def test_scores_that_are_no_numbers_name_the_step(do_sample, broken):
    def fine(ids, n):
        return torch.zeros(n, 5)

    def breaks(ids, n):  # after five tokens
        places = torch.arange(ids.shape[-1] - n + 1, ids.shape[-1] + 1)
        return torch.zeros(n, 5).masked_fill(places[:, None] >= 5, torch.nan)

    models = (breaks, fine) if broken == "large" else (fine, breaks)
    with pytest.raises(ValueError, match="step 3, row 0: the largest score is nan"):
        list(rounds(*models, torch.tensor([[0, 0]]), 9, do_sample=do_sample))


def test_generate_stops_at_the_last_position(pair, draft):
    ids, runs = some_ids(0), []
    listening = draft.register_forward_pre_hook(lambda *_: runs.append(1))
    with pytest.warns(UserWarning, match="stopped at the last position"):
        found = pair[1].generate(ids, assistant_model=draft, max_new_tokens=99)
    listening.remove()
    assert runs and torch.equal(found, pair[1].generate(ids, max_new_tokens=43))
