"""Generation against transformers' own `generate`, on the same random weights."""

import random
from collections import Counter

import pytest
import torch

from minigpt import (
    GenerationConfig,
    OpenAIGPTLMHeadModel,
    OpenAIGPTTokenizer,
    TextIteratorStreamer,
)
from minigpt.generation import process
from minigpt.hf.generation import make_processors
from tests import helpers

V = 31  # few tokens, so that an end token, a repeated n-gram and full beams come often


@pytest.fixture(scope="module")
def pair():
    return helpers.lively_pair()


def test_the_texts_below_differ(pair):
    """They hold many tokens, and none ends as another does."""
    ids = torch.randint(V, (8, 4), generator=torch.Generator().manual_seed(0))
    texts = pair[1].generate(ids, max_new_tokens=30)[:, 4:].tolist()
    assert min(len(set(text)) for text in texts) >= 4
    assert len({tuple(text[-5:]) for text in texts}) == 8


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
    }
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


def ask_theirs(theirs, ids, **settings):
    return theirs.generate(ids, attention_mask=torch.ones_like(ids), **settings)  # 5 is a token


@pytest.mark.parametrize("seed", range(80))
def test_ids_equal_transformers_with_and_without_cache(pair, seed):
    theirs, ours = pair
    ids, settings = random_prompts(seed), random_settings(seed)
    expected = ask_theirs(theirs, ids, **settings)
    assert torch.equal(ours.generate(ids, **settings), expected)
    assert torch.equal(ours.generate(ids, use_cache=False, **settings), expected)


def test_the_settings_above_are_a_test(pair):
    """Each of them changes some text, and many texts end early."""
    changed, early = Counter(), 0
    for seed in range(80):
        ids, settings = random_prompts(seed), random_settings(seed)
        text = pair[1].generate(ids, **settings)
        early += text.shape[-1] < ids.shape[-1] + settings["max_new_tokens"]
        kept = {"max_new_tokens", "do_sample", "pad_token_id", "num_beams", "num_return_sequences"}
        for name in settings.keys() - kept:
            without = {key: value for key, value in settings.items() if key != name}
            changed[name] += not torch.equal(text, pair[1].generate(ids, **without))
    assert min(changed.values()) >= 3 and early >= 20, (changed, early)


@pytest.mark.parametrize("seed", range(12))
def test_scores_equal_transformers(pair, seed):
    theirs, ours = pair
    ids, settings = random_prompts(seed), random_settings(seed)
    settings |= {"output_scores": True, "return_dict_in_generate": True}
    out, expected = ours.generate(ids, **settings), ask_theirs(theirs, ids, **settings)
    assert len(out.scores) == len(expected.scores)
    steps = list(zip(out.scores, expected.scores, strict=True))
    if "num_beams" in settings:  # later steps hold dead beams, in another order
        steps = steps[:1]
        assert torch.allclose(out.sequences_scores, expected.sequences_scores, rtol=1e-5)
        assert torch.equal(out.beam_indices, expected.beam_indices)
    for a, b in steps:
        assert torch.equal(a.isinf(), b.isinf())
        assert helpers.largest_difference(a.nan_to_num(neginf=0), b.nan_to_num(neginf=0)) < 1e-5


def test_a_filler_of_0_is_0(pair):
    """Beams that have ended get the end token from transformers if the filler is 0."""
    theirs, ours = pair
    ids = random_prompts(5)
    settings = {"num_beams": 4, "num_return_sequences": 4, "eos_token_id": [30, 3, 7]}
    settings |= {"pad_token_id": 0, "max_new_tokens": 20, "do_sample": False}
    text = ours.generate(ids, **settings)[:, ids.shape[-1] :]
    other = ask_theirs(theirs, ids, **settings)[:, ids.shape[-1] :]
    filled = torch.isin(text, torch.tensor(settings["eos_token_id"])).cumsum(-1).roll(1, -1) > 0
    filled[:, 0] = False
    assert filled.any() and not text[filled].any()
    assert torch.equal(text.masked_fill(filled, 30), other)


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
    assert torch.equal(ours.generate(ids, **settings), ask_theirs(theirs, ids, **settings))
    with pytest.raises(ValueError, match="step 6, row 0: .*processors that forbid every token"):
        ours.generate(ids, **settings | {"eos_token_id": None})


@pytest.mark.parametrize("seed", range(20))
def test_a_sheet_of_settings_is_laid_over_that_of_the_model(seed):
    """What a GenerationConfig says, a default included, counts; for the rest, the model's does."""
    import transformers

    dice, kinds = random.Random(seed), (GenerationConfig, transformers.GenerationConfig)
    makers = {"eos_token_id": [3, 7], "pad_token_id": 5, "num_beams": dice.choice([1, 3])}
    said = {"max_new_tokens": 20, **dice.choice([{}, {"num_beams": 1}, {"num_beams": 2}])}
    said |= dice.choice([{}, {"no_repeat_ngram_size": 0}])
    makers |= dice.choice([{}, {"no_repeat_ngram_size": 2}])
    models = helpers.lively_pair()
    for model, kind in zip(models, reversed(kinds), strict=True):
        model.generation_config = kind(**makers)
    ids = random_prompts(seed)
    expected = ask_theirs(models[0], ids, generation_config=kinds[1](**said))
    assert torch.equal(models[1].generate(ids, generation_config=kinds[0](**said)), expected)


@pytest.fixture(scope="module")
def tiny_pair(tmp_path_factory):
    """The embedded checkpoint here and there, each with its tokenizer."""
    import transformers

    folder = tmp_path_factory.mktemp("tiny")
    ours = [x.from_pretrained("tiny") for x in (OpenAIGPTLMHeadModel, OpenAIGPTTokenizer)]
    for one in ours:
        one.save_pretrained(folder)
    theirs = transformers.OpenAIGPTLMHeadModel.from_pretrained(folder)
    return (theirs, transformers.AutoTokenizer.from_pretrained(folder)), ours


@pytest.mark.parametrize(
    "strings", [" sea ,", "ea", [". \n", "wate"], "\n", ',  "', "s", "of the", ["zz", '"']]
)
def test_stop_strings_end_a_text_where_transformers_does(tiny_pair, strings):
    theirs, ours = tiny_pair
    ids = ours[1]("The old man looked at the sea", return_tensors="pt").input_ids
    texts = [
        ask(ids, stop_strings=strings, tokenizer=tokenizer, max_new_tokens=30)
        for ask, tokenizer in (
            (lambda ids, **x: ask_theirs(theirs[0], ids, do_sample=False, **x), theirs[1]),
            (ours[0].generate, ours[1]),
        )
    ]
    assert torch.equal(*texts)


def test_stop_strings_that_never_occur_are_refused_there_too(tiny_pair):
    theirs, _ = tiny_pair
    for strings in ("STOP", "The", "thing.", ["A", "q'Z"]):
        with pytest.raises(ValueError, match="Stop string preprocessing"):
            ask_theirs(theirs[0], torch.tensor([[5]]), stop_strings=strings, tokenizer=theirs[1])


def test_a_streamer_shows_the_text_that_theirs_shows(tiny_pair):
    import transformers

    (_, their_tokenizer), (model, tokenizer) = tiny_pair
    ids = tokenizer('"I do not know," said', return_tensors="pt").input_ids
    ours = TextIteratorStreamer(tokenizer)
    theirs = transformers.TextIteratorStreamer(their_tokenizer)
    for streamer in (ours, theirs):
        text = model.generate(ids, max_new_tokens=30, streamer=streamer)[0]
    assert "".join(ours) == "".join(theirs) == tokenizer.decode(text)


PROCESSORS = [
    {"do_sample": True, "temperature": 0.7, "top_k": 0},
    {"do_sample": True, "top_k": 1},
    {"do_sample": True, "temperature": 0.7, "top_k": 50, "top_p": 0.9},
    {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "min_new_tokens": 9},
]


@pytest.mark.parametrize("settings", PROCESSORS)
def test_processors_change_scores_as_theirs_do(settings):
    import transformers as t

    theirs = {
        "repetition_penalty": t.RepetitionPenaltyLogitsProcessor,
        "no_repeat_ngram_size": t.NoRepeatNGramLogitsProcessor,
        "min_new_tokens": lambda n: t.MinNewTokensLengthLogitsProcessor(25, n, [4, 7]),
        "temperature": t.TemperatureLogitsWarper,
        "top_k": t.TopKLogitsWarper,
        "top_p": t.TopPLogitsWarper,
    }
    theirs = [make(settings[name]) for name, make in theirs.items() if settings.get(name)]
    ours = make_processors(GenerationConfig(eos_token_id=[4, 7], **settings), T=25)
    ids, logits = torch.randint(50, (200, 30)), 3 * torch.randn(200, 1000)
    assert torch.equal(process(ours, ids, logits), process(theirs, ids, logits))


@pytest.mark.parametrize("method", [{}, {"num_beams": 3}])
def test_processors_and_criteria_of_transformers_do_what_they_do_there(pair, method):
    import transformers as t

    theirs, ours = pair
    end = [t.StoppingCriteriaList([one]) for one in (t.MaxLengthCriteria(9), t.MaxTimeCriteria(99))]
    bend = [
        t.LogitsProcessorList([one])
        for one in (
            t.MinPLogitsWarper(0.3),
            t.SequenceBiasLogitsProcessor({(5,): 3.0}),
            t.NoBadWordsLogitsProcessor([[1, 2], [7]]),
            t.ForcedEOSTokenLogitsProcessor(11, 5),
            t.ExponentialDecayLengthPenalty((3, 1.2), 5, 4),
        )
    ]
    hooks = [{"stopping_criteria": one} for one in end] + [
        {"logits_processor": one} for one in bend
    ]
    settings, ids = {"max_new_tokens": 11, "pad_token_id": 5, "do_sample": False}, random_prompts(1)
    for hook in hooks:
        found, expected = (
            ours.generate(ids, **settings, **method, **hook),
            ask_theirs(theirs, ids, **settings, **method, **hook),
        )
        assert torch.equal(found, expected), hook


SAMPLING = [
    {},
    {"top_k": 0},
    {"temperature": 0.6, "top_k": 7},
    {"temperature": 1.7, "top_p": 0.8, "top_k": None},
    {"top_k": 20, "top_p": 0.6, "repetition_penalty": 1.4},
    {"no_repeat_ngram_size": 1, "min_new_tokens": 1, "eos_token_id": [2, 9], "pad_token_id": 0},
]


def chi_square(drawn: torch.Tensor, p: torch.Tensor) -> float:
    """How far counts (V,) are from what probabilities (V,) let expect, in standard deviations."""
    assert drawn[p == 0].sum() == 0  # what is impossible never comes
    expected, drawn = (p * drawn.sum())[p > 0], drawn[p > 0]
    statistic = ((drawn - expected) ** 2 / expected).sum().item()
    freedom = len(expected) - 1
    return (statistic - freedom) / max(1, 2 * freedom) ** 0.5


@pytest.mark.parametrize("settings", SAMPLING)
def test_samples_come_as_often_as_transformers_own_distribution_says(pair, settings):
    theirs, ours = pair
    ids = torch.tensor([[4, 8, 15, 16, 23]])
    wanted = {"max_new_tokens": 1, "do_sample": True} | settings
    named = {"output_scores": True, "return_dict_in_generate": True}
    p, mine = (
        ask(**wanted, **named).scores[0].softmax(-1)[0]
        for ask in (lambda **x: ask_theirs(theirs, ids, **x), lambda **x: ours.generate(ids, **x))
    )
    assert helpers.largest_difference(mine, p) < 1e-6
    generator = torch.Generator().manual_seed(0)
    drawn = ours.generate(ids, num_return_sequences=20_000, generator=generator, **wanted)[:, -1]
    assert chi_square(drawn.bincount(minlength=V).double(), p.double()) < 4


def test_the_chi_square_test_can_fail():
    p = torch.full((V,), 1 / V, dtype=torch.double)
    counts = (p * 20_000).round()
    counts[:5] += 150
    assert chi_square(counts, p) > 4


def test_drawn_beams_are_as_often_as_those_of_transformers(pair):
    """Two beams, two tokens, drawn many times from both: the same texts, about as often."""
    theirs, ours = pair
    ids = torch.tensor([[4, 8, 15]]).expand(3000, -1)
    settings = {"max_new_tokens": 2, "do_sample": True, "num_beams": 2, "top_k": 4}
    torch.manual_seed(0)
    counts = [
        Counter(map(tuple, ask(ids, **settings)[:, 3:].tolist()))
        for ask in (ours.generate, lambda ids, **x: ask_theirs(theirs, ids, **x))
    ]
    for text in counts[0] | counts[1]:
        a, b = counts[0][text], counts[1][text]
        assert abs(a - b) < 5 * (a + b + 1) ** 0.5, (text, a, b)


def test_full_size_equals_transformers_with_and_without_cache():
    sizes = {"vocab_size": 40478, "n_positions": 512, "n_embd": 768, "n_layer": 12, "n_head": 12}
    theirs, ours = helpers.random_pair(**sizes)
    ids = torch.randint(40478, (2, 7))
    for method in ({"no_repeat_ngram_size": 2}, {"num_beams": 3, "no_repeat_ngram_size": 2}):
        settings = {"max_new_tokens": 5, "do_sample": False, **method}
        expected = ask_theirs(theirs, ids, **settings)
        assert torch.equal(ours.generate(ids, **settings), expected)
        assert torch.equal(ours.generate(ids, use_cache=False, **settings), expected)
    named = {"output_scores": True, "return_dict_in_generate": True, "max_new_tokens": 1}
    drawn = {"do_sample": True, "top_k": 30, "top_p": 0.9, "temperature": 0.7, **named}
    a, b = ours.generate(ids, **drawn).scores[0], ask_theirs(theirs, ids, **drawn).scores[0]
    assert helpers.largest_difference(a.softmax(-1), b.softmax(-1)) < 1e-6
