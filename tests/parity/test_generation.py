"""Generation against transformers' own `generate`, on the same random weights."""

import random
from collections import Counter
from functools import partial

import pytest
import torch
from torch.utils._pytree import tree_leaves

from minigpt import GenerationConfig, OpenAIGPTLMHeadModel, OpenAIGPTTokenizer
from tests import helpers

V = 31  # few tokens, so that an end token, a repeated n-gram and full beams come often


@pytest.fixture(scope="module")
def pair():
    return helpers.lively_pair()


def random_settings(seed: int) -> dict:
    """Settings of every kind, drawn anew for each seed; the odd ones search with beams."""
    dice = random.Random(seed)
    settings = {
        "max_new_tokens": dice.randint(5, 25),
        "eos_token_id": dice.choice([None, 3, [3, 7], [3, 7, 11, 12], list(range(6, 14))]),
        "repetition_penalty": dice.choice([1.0, 1.0, 1.3, 0.8]),
        "no_repeat_ngram_size": dice.choice([0, 0, 1, 2, 3]),
        "min_new_tokens": dice.choice([None, None, 4]),
        "min_length": dice.choice([None, None, 9]),
        "bad_words_ids": dice.choice([None, None, [[4], [9, 2], [3]]]),
        "sequence_bias": dice.choice([None, None, [[[8], 3.0], [[1, 6], -2.0]]]),
        "suppress_tokens": dice.choice([None, None, [2, 20]]),
        "forced_eos_token_id": dice.choice([None, None, 13]),
        "renormalize_logits": dice.choice([None, None, True]),
    }
    names = "forced_bos_token_id", "begin_suppress_tokens", "remove_invalid_values"
    settings[names[seed % 3]] = (15, [*range(12)], True)[seed % 3]
    if seed % 2:
        K = dice.choice([2, 3, 5])
        settings["eos_token_id"] = dice.choice([[3, 7], list(range(6, 14)), list(range(6, 22))])
        settings |= {
            "num_beams": K,
            "num_return_sequences": dice.choice([1, K]),
            "length_penalty": dice.choice([-1.0, 0.0, 0.6, 1.0, 2.0]),
            "early_stopping": dice.choice([True, False, "never"]),
        }
    return {"do_sample": False, "pad_token_id": 5} | settings


def random_prompts(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(V, (1 + seed % 3, 1 + seed % 6), generator=generator)


def ask(model, ids, **settings):
    return model.generate(ids, attention_mask=torch.ones_like(ids), **settings)  # 5 is a token


@pytest.mark.parametrize("seed", range(80))
def test_ids_and_scores_equal_transformers_with_and_without_cache(pair, seed):
    theirs, ours = pair
    ids, settings = random_prompts(seed), random_settings(seed)
    named = {"output_scores": True, "output_logits": True, "return_dict_in_generate": True}
    expected = ask(theirs, ids, **settings, **named)
    out = ask(ours, ids, **settings, **named)
    assert list(out.keys()) == list(expected.keys())
    assert torch.equal(out.sequences, expected.sequences)
    assert torch.equal(ask(ours, ids, use_cache=False, **settings), expected.sequences)
    steps = list(zip(out.scores + out.logits, expected.scores + expected.logits, strict=True))
    if "num_beams" in settings:  # later steps hold dead beams, in another order
        steps = steps[:1]
        assert torch.allclose(out.sequences_scores, expected.sequences_scores, rtol=1e-5)
        assert torch.equal(out.beam_indices, expected.beam_indices)
    for a, b in steps:
        assert torch.equal(a.isinf(), b.isinf())
        assert helpers.largest_difference(a.nan_to_num(neginf=0), b.nan_to_num(neginf=0)) < 1e-5


def test_the_settings_above_are_a_test(pair):
    """Each of them changes some text, and many texts end early."""
    changed, early = Counter(), 0
    for seed in range(80):
        ids, settings = random_prompts(seed), random_settings(seed)
        text = ask(pair[1], ids, **settings)
        early += text.shape[-1] < ids.shape[-1] + settings["max_new_tokens"]
        kept = {"max_new_tokens", "do_sample", "pad_token_id", "num_beams", "num_return_sequences"}
        kept |= {"remove_invalid_values"}  # there is none
        for name in settings.keys() - kept:
            without = {key: value for key, value in settings.items() if key != name}
            changed[name] += not torch.equal(text, ask(pair[1], ids, **without))
    assert min(changed.values()) >= 3 and early >= 20, (changed, early)


MORE = [  # alone: theirs gives nan where other settings forbid an end token
    {"eos_token_id": [3, 7], "exponential_decay_length_penalty": (2, 1.3)},
    {"prefix_allowed_tokens_fn": lambda prompt, ids: [prompt, 9, (int(ids[-1]) + 5) % V]},
    {"token_type_ids": torch.tensor([[1, 2, 9, 9, 4], [3, 3, 3, 3, 3]])},
    {"output_hidden_states": True, "output_attentions": True},
]


@pytest.mark.parametrize("method", [{}, {"num_beams": 3}])
@pytest.mark.parametrize("settings", MORE)
def test_further_settings_and_results_equal_transformers(pair, settings, method):
    ids, named = torch.tensor([[4, 8, 15, 16, 23], [0, 1, 2, 3, 4]]), {"max_new_tokens": 9}
    named |= {"output_scores": True, "return_dict_in_generate": True, "do_sample": False}
    out, expected = (ask(one, ids, **settings, **method, **named) for one in reversed(pair))
    assert torch.equal(out.sequences, expected.sequences)
    if "output_attentions" in settings:
        for name in ("hidden_states", "attentions"):
            both = tree_leaves((out[name], expected[name]))
            for a, b in zip(both[: len(both) // 2], both[len(both) // 2 :], strict=True):
                assert helpers.largest_difference(a, b) < 1e-9
    for one in ({}, {"normalize_logits": True}):
        given = [(x.sequences, x.scores, x.get("beam_indices")) for x in (out, expected)]
        found = [m.compute_transition_scores(*x, **one) for m, x in zip(pair, given, strict=True)]
        assert helpers.largest_difference(*found) < 1e-5


@pytest.mark.parametrize("K", [2, 5])
@pytest.mark.parametrize("length_penalty", [0.0, 5.0])
def test_beams_that_fall_silent_give_what_has_ended(pair, K, length_penalty):
    """A processor forbids every token from some length on; some texts have ended by then."""

    def silence(ids, scores):
        return scores if ids.shape[-1] < 9 else torch.full_like(scores, -torch.inf)

    theirs, ours = pair
    ids, settings = random_prompts(2), {"num_beams": K, "length_penalty": length_penalty}
    settings |= {"max_new_tokens": 30, "early_stopping": "never", "eos_token_id": [*range(12)]}
    settings |= {"pad_token_id": 5, "do_sample": False, "logits_processor": [silence]}
    assert torch.equal(ask(ours, ids, **settings), ask(theirs, ids, **settings))
    with pytest.raises(ValueError, match="in only 0 ways; look for processors that forbid"):
        ask(ours, ids, **settings | {"eos_token_id": None})


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize(
    "said", [{}, {"num_beams": 1}, {"num_beams": 2}, {"no_repeat_ngram_size": 0}]
)
def test_a_config_is_laid_over_that_of_the_checkpoint(tmp_path, beams, said):
    """What it says, a default included, counts; for the rest, what the checkpoint says."""
    import transformers

    ours, ids = helpers.lively_pair(eos_token_id=3, pad_token_id=5)[1], random_prompts(2)
    assert (ours.generation_config.eos_token_id, ours.generation_config.pad_token_id) == (3, 5)
    changes = {"eos_token_id": [3, 7], "num_beams": beams, "no_repeat_ngram_size": 2}
    vars(ours.generation_config).update(changes)
    ours.save_pretrained(tmp_path / "ours")
    theirs = transformers.OpenAIGPTLMHeadModel.from_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    again = OpenAIGPTLMHeadModel.from_pretrained(tmp_path / "theirs")
    assert again.generation_config == ours.generation_config
    said = said | {"max_new_tokens": 20}
    expected = ask(theirs, ids, generation_config=transformers.GenerationConfig(**said))
    found = ask(again, ids, generation_config=GenerationConfig(**said))
    assert torch.equal(found, expected)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Functions that continue a text up to a string: with transformers, and with ours."""
    import transformers

    folder = tmp_path_factory.mktemp("tiny")
    ours = [x.from_pretrained("tiny") for x in (OpenAIGPTLMHeadModel, OpenAIGPTTokenizer)]
    for one in ours:
        one.save_pretrained(folder)
    theirs = transformers.OpenAIGPTLMHeadModel.from_pretrained(folder)
    pairs = (theirs, transformers.AutoTokenizer.from_pretrained(folder)), ours
    options = {**ours[1]("The old man looked at the sea", return_tensors="pt"), "do_sample": False}
    return [
        partial(model.generate, max_new_tokens=30, tokenizer=x, **options) for model, x in pairs
    ]


STRINGS = [" sea ,", "ea", [". \n", "wate"], "\n", ',  "', "s", "of the", ["zz", '"'], "n't"]


@pytest.mark.parametrize("strings", STRINGS)
def test_stop_strings_end_a_text_where_transformers_does(stopped, strings):
    theirs, ours = stopped
    assert torch.equal(theirs(stop_strings=strings), ours(stop_strings=strings))


@pytest.mark.parametrize("strings", ["STOP", "The", "thing.", ["A", "q'Z"]])
def test_stop_strings_that_never_occur_are_refused_there_and_here(stopped, strings):
    messages = "Stop string preprocessing", "never occur.*lower case"
    for ask, message in zip(stopped, messages, strict=True):
        with pytest.raises(ValueError, match=message):
            ask(stop_strings=strings)


@pytest.mark.parametrize("method", [{}, {"num_beams": 3}])
def test_processors_and_criteria_of_transformers_do_what_they_do_there(pair, method):
    import transformers as t

    bend = [
        t.MinPLogitsWarper(0.3),
        t.SequenceBiasLogitsProcessor({(5,): 3.0}),
        t.NoBadWordsLogitsProcessor([[1, 2], [7]]),
        t.ForcedEOSTokenLogitsProcessor(11, 5),
        t.ExponentialDecayLengthPenalty((3, 1.2), 5, 4),
    ]
    hooks = [{"logits_processor": t.LogitsProcessorList([one])} for one in bend]
    hooks += [{"stopping_criteria": t.StoppingCriteriaList([t.MaxLengthCriteria(9)])}]
    settings = {"max_new_tokens": 11, "pad_token_id": 5, "do_sample": False} | method
    (theirs, ours), ids = pair, random_prompts(1)
    for hook in hooks:
        expected = ask(theirs, ids, **settings, **hook)
        assert torch.equal(ask(ours, ids, **settings, **hook), expected), hook


SAMPLING = [
    {},
    {"top_k": 0, "num_return_sequences": 3},
    {"temperature": 0.6, "top_k": 7, "renormalize_logits": True},
    {"temperature": 1.7, "top_p": 0.8, "top_k": None},
    {"top_k": 20, "top_p": 0.6, "repetition_penalty": 1.4},
    {"no_repeat_ngram_size": 1, "min_new_tokens": 1, "eos_token_id": [2, 9], "pad_token_id": 0},
    {"min_p": 0.2, "top_k": 0},
    {"typical_p": 0.4},
    {"typical_p": 0.9, "top_k": 0, "num_beams": 3},
    {"epsilon_cutoff": 0.04, "eta_cutoff": 0.1},
    {"num_beams": 3, "num_return_sequences": 2, "top_k": 4},
    {"num_beams": 2, "min_p": 0.2, "eta_cutoff": 0.3, "eos_token_id": [2, 9]},
]


@pytest.mark.parametrize("settings", SAMPLING)
def test_the_same_seed_draws_the_same_texts(pair, settings):
    drawn, ids = [], torch.tensor([[4, 8, 15, 16, 23], [0, 1, 2, 3, 4]]).repeat(40, 1)
    for model in pair:
        torch.manual_seed(3)
        drawn.append(ask(model, ids, max_new_tokens=9, do_sample=True, **settings))
    assert torch.equal(*drawn) and len(drawn[0].unique(dim=0)) > 10
