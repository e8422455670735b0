"""`generate`: settings, padding, limits, hooks, streamers, clear errors.

`tests/parity/test_generation.py` compares with transformers.
"""

from threading import Thread

import numpy as np
import pytest
import torch

from minigpt import (
    GenerationConfig,
    OpenAIGPTConfig,
    OpenAIGPTLMHeadModel,
    OpenAIGPTTokenizer,
    TextIteratorStreamer,
    TextStreamer,
)
from minigpt.hf.generation import can_occur
from tests import helpers


@pytest.fixture(scope="module")
def tiny():
    return OpenAIGPTLMHeadModel.from_pretrained("tiny")


@pytest.fixture(scope="module")
def lively():
    return helpers.lively_pair()[1]


@pytest.fixture(scope="module")
def tokenizer():
    return OpenAIGPTTokenizer.from_pretrained("tiny")


METHODS = [
    {},
    {"do_sample": True, "top_k": 20, "num_return_sequences": 2},
    {"do_sample": True, "top_p": 0.8},
    {"num_beams": 3, "num_return_sequences": 2},
    {"num_beams": 3, "do_sample": True},
]


@pytest.mark.parametrize("settings", METHODS)
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_with_cache_equals_without(settings, implementation):
    _, ours = helpers.lively_pair(n_positions=16, attn_implementation=implementation)
    results = [
        ours.generate(
            torch.tensor([[1, 2, 3, 4], [9, 8, 7, 6]]),
            max_new_tokens=12,
            use_cache=use,
            generator=torch.Generator().manual_seed(0),
            **settings,
        )
        for use in (True, False)
    ]
    assert results[0].shape[-1] == 16 and torch.equal(*results)


WAYS = [
    {},
    {"do_sample": True, "top_k": 1},
    {"num_beams": 3},
    {"use_cache": False},
    {"cache_implementation": "static"},
    {"assistant_model": "itself"},
]


@pytest.mark.parametrize("T", [45, 48])
@pytest.mark.parametrize("way", WAYS)
def test_no_way_passes_the_last_position(lively, way, T):
    ids = torch.randint(31, (1, T), generator=torch.Generator().manual_seed(0))
    way = {"assistant_model": lively} if "assistant_model" in way else way
    expected = lively.generate(ids, max_new_tokens=48 - T, num_beams=way.get("num_beams", 1))
    with pytest.warns(UserWarning, match=f"position, 48, after {48 - T} new tokens of 10") as found:
        assert torch.equal(lively.generate(ids, max_new_tokens=10, **way), expected)
    assert [one.filename for one in found] == [__file__]  # one, and it points here
    with pytest.raises(ValueError, match="49 tokens, but this checkpoint has 48 positions"):
        lively.generate(torch.zeros(1, 49, dtype=torch.long), **way)


def test_lengths(lively):
    ids = torch.zeros(1, 5, dtype=torch.long)
    assert lively.generate(ids).shape == (1, 25)  # 20 new ones, as the reference does
    assert lively.generate(inputs=ids, max_length=9).shape == (1, 9)
    assert lively.generate(ids, max_new_tokens=9).shape == (1, 14)
    for way in ({}, {"num_beams": 3}, {"cache_implementation": "static"}):
        assert torch.equal(lively.generate(ids, max_new_tokens=0, **way), ids)
        with pytest.raises(ValueError, match="max_length=5, but the prompt alone has 5 tokens"):
            lively.generate(ids, max_length=5, **way)


@pytest.mark.parametrize("narrow", [{"top_p": 1e-12}, {"top_k": 1}, {"temperature": 1e-6}])
def test_chance_with_one_choice_is_greedy(lively, narrow):
    ids = torch.randint(31, (3, 4))
    for cache in ({}, {"cache_implementation": "static"}):
        drawn = lively.generate(ids, do_sample=True, **narrow, **cache)
        assert torch.equal(drawn, lively.generate(ids))


def test_more_tokens_than_there_are_may_be_kept_and_all_be_alike(tiny):
    wide = {"do_sample": True, "top_k": 10**6, "temperature": 1e30, "max_new_tokens": 1}
    drawn = tiny.generate(torch.zeros(2000, 1, dtype=torch.long), **wide)[:, 1]
    assert len(drawn.unique()) > 1700  # 2,000 fair draws of 8,192: 1,774 on average
    with pytest.raises(ValueError, match="step 0, row 0: .*a temperature too close to 0"):
        tiny.generate(torch.zeros(1, 1, dtype=torch.long), do_sample=True, temperature=1e-45)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_beams": 3, "eos_token_id": [3, 5, 8], "pad_token_id": 0},
        {"no_repeat_ngram_size": 2, "repetition_penalty": 1.5},
        {"use_cache": False, "min_new_tokens": 6, "eos_token_id": [3, 5, 8, 13]},
        {"cache_implementation": "static"},
    ],
)
def test_each_row_of_a_padded_batch_is_what_it_is_alone(lively, side, settings):
    mask = helpers.padded(side, (9, 5, 1), 11)  # two columns of padding alone
    ids = torch.randint(31, mask.shape).masked_fill(mask == 0, 4)  # 4 is a token, too
    together = lively.generate(ids, mask, max_new_tokens=15, **settings)
    assert torch.equal(together[:, :11], ids)
    for row, real, new in zip(ids, mask.bool(), together[:, 11:], strict=True):
        alone = lively.generate(row[real][None], max_new_tokens=15, **settings)[0, real.sum() :]
        assert torch.equal(new[: len(alone)], alone)


IMPOSSIBLE = """temperature=0.0 temperature=-1.0 temperature='hot' top_p=0.0 top_p=1.1 top_k=-1
num_beams=0 num_beams=2.0 num_return_sequences=2 num_return_sequences=0 repetition_penalty=0.0
length_penalty='x' max_new_tokens=-1 max_new_tokens=2.5 max_length='x' max_length=0
min_length=-1 stop_strings='' stop_strings=3 early_stopping='sometimes' eos_token_id='x'
cache_implementation='magic'"""


@pytest.mark.parametrize("setting", IMPOSSIBLE.split())
def test_impossible_settings_are_named(lively, setting):
    name, value = setting.split("=")
    with pytest.raises(ValueError, match=setting):
        lively.generate(torch.zeros(1, 5, dtype=torch.long), **{name: eval(value)})


def test_numbers_of_numpy_and_tensors_of_one_element_are_numbers(lively):
    ids, one = torch.tensor([[1, 2, 3]]), torch.tensor([12])
    odd = {"max_new_tokens": np.int64(12), "temperature": np.float32(0.5), "do_sample": True}
    odd |= {"top_k": torch.tensor(1), "eos_token_id": torch.tensor([3, 7]), "pad_token_id": one}
    plain = {"max_new_tokens": 12, "eos_token_id": [3, 7], "pad_token_id": 12}
    assert torch.equal(lively.generate(ids, **odd), lively.generate(ids, **plain))
    assert GenerationConfig(**odd).to_diff_dict() == plain | {
        "temperature": 0.5,
        "do_sample": True,
        "top_k": 1,
    }


def test_more_texts_than_beams_are_refused_also_when_drawn():
    with pytest.raises(ValueError, match="num_return_sequences=4, but num_beams=3"):
        GenerationConfig(do_sample=True, num_beams=3, num_return_sequences=4)


@pytest.mark.parametrize("empty", [None, torch.zeros(1, 0, dtype=torch.long)])
def test_an_empty_prompt_starts_with_the_start_token_or_says_what_to_pass(lively, empty):
    with pytest.raises(ValueError, match="prompt is empty.*bos_token_id"):
        lively.generate(empty)
    started = lively.generate(torch.tensor([[7]]), max_new_tokens=4)
    mask = None if empty is None else torch.ones_like(empty)
    assert torch.equal(lively.generate(empty, mask, bos_token_id=7, max_new_tokens=4), started)


def test_inputs_that_do_not_fit_are_named(lively):
    ids = torch.zeros(2, 3, dtype=torch.long)
    with pytest.raises(ValueError, match=r"attention_mask \(2, 4\) for input_ids \(2, 3\)"):
        lively.generate(ids, torch.ones(2, 4))
    with pytest.raises(ValueError, match="row 1 of attention_mask"):
        lively.generate(ids, torch.tensor([[1, 1, 1], [0, 0, 0]]))
    with pytest.raises(ValueError, match=r"shape \(3,\); pass \(B, T\)"):
        lively.generate(ids[0])


def test_hooks_get_ids_and_scores_as_in_transformers(tiny):
    from transformers import (
        LogitsProcessorList,
        StoppingCriteriaList,
        SuppressTokensLogitsProcessor,
    )

    seen = []

    def after_three(ids, scores):
        seen.append(scores)
        return torch.full((len(ids),), ids.shape[-1] >= 8)

    ids = torch.ones(2, 5, dtype=torch.long)
    first = tiny.generate(ids, max_new_tokens=1)[0, -1].item()
    hooks = {
        "logits_processor": LogitsProcessorList([SuppressTokensLogitsProcessor([first])]),
        "stopping_criteria": StoppingCriteriaList([after_three]),
    }
    named = {"pad_token_id": 0, "output_scores": True, "return_dict_in_generate": True}
    out = tiny.generate(ids, **hooks, **named)
    assert out.sequences.shape == (2, 8) and not (out.sequences[:, 5:] == first).any()
    assert len(seen[-1]) == len(out.scores) == 3 and out.scores[0].shape == (2, 8192)
    same = tiny.generate(ids, suppress_tokens=[first], max_new_tokens=3)
    assert torch.equal(same, out.sequences)
    plain = tiny.generate(ids, logits_processor=None, stopping_criteria=None)
    assert torch.equal(plain, tiny.generate(ids))


@pytest.mark.parametrize("way", WAYS[:5])
def test_what_is_returned_are_ordinary_tensors(way):
    """They may be changed in place and used in training, also those of a call in inference mode."""
    _, model = helpers.lively_pair()
    with torch.inference_mode():
        model.generate(torch.tensor([[1, 2]]), max_new_tokens=3, **way)
    named = {"return_dict_in_generate": True, "max_new_tokens": 4}
    named |= {} if "cache_implementation" in way else {"output_scores": True}
    out = model.generate(torch.tensor([[1, 2]]), **named, **way)
    for tensor in (out.sequences, *(out.scores or ())):
        assert not tensor.is_inference()
        tensor += 0
    model(out.sequences, labels=out.sequences).loss.backward()
    assert model.lm_head.weight.grad.any()


class Recorder(TextStreamer):
    """Keeps what `on_finalized_text` gets."""

    pieces = ()

    def on_finalized_text(self, text, stream_end=False):
        self.pieces += (text,)


@pytest.mark.parametrize("skip_prompt", [False, True])
@pytest.mark.parametrize("clean", [False, True])
def test_what_a_streamer_shows_is_what_the_tokenizer_decodes(tokenizer, skip_prompt, clean):
    options = {"clean_up_tokenization_spaces": clean}
    for text in ("the dogs ' house", 'he said , " i do n\'t know . " \n and', "'", "a ' ' b"):
        ids = torch.tensor(
            [[0, *tokenizer.convert_tokens_to_ids([t + "</w>" for t in text.split()])]]
        )
        streamer = Recorder(tokenizer, skip_prompt, **options)
        streamer.put(ids[:, :2])
        for token in ids[0, 2:]:
            streamer.put(token[None])
        streamer.end()
        shown = tokenizer.decode(ids[0, 2 if skip_prompt else 0 :], **options)
        assert "".join(streamer.pieces) == shown


def test_words_come_out_of_another_thread(tiny, tokenizer):
    ids = tokenizer("The old man looked at", return_tensors="pt").input_ids
    streamer = TextIteratorStreamer(tokenizer, timeout=60)
    options = {"max_new_tokens": 9, "streamer": streamer}
    thread = Thread(target=tiny.generate, args=[ids], kwargs=options)
    thread.start()
    words = list(streamer)
    thread.join()
    text = tokenizer.decode(tiny.generate(ids, max_new_tokens=9)[0])
    assert "".join(words) == text and len([word for word in words if word]) > 5


WRONG = [
    {"temperature": 0.0},
    {"nonsense": 1},
    {"num_beams": 2},
    {"input_ids": torch.ones(2, 3, dtype=torch.long)},
    {"input_ids": torch.ones(1, 999, dtype=torch.long)},
    {"max_length": 1},
    {"logits_processor": [lambda ids, scores: scores * torch.nan]},
]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_streamer_is_ended_whenever_generate_raises(tiny, tokenizer, wrong):
    streamer = TextIteratorStreamer(tokenizer, timeout=5)
    with pytest.raises(ValueError):
        tiny.generate(
            **{"input_ids": torch.ones(1, 3, dtype=torch.long)} | wrong, streamer=streamer
        )
    assert list(streamer) is not None  # it does end


def test_stop_strings_that_never_occur_are_refused(tiny, tokenizer):
    ids = torch.tensor([[194, 553]])
    for strings in ("STOP", "The", "thing.", ["A", "q'Z"]):
        with pytest.raises(ValueError, match="never occur.*lower case"):
            tiny.generate(ids, stop_strings=strings, tokenizer=tokenizer)
    with pytest.raises(ValueError, match="stop_strings=.*pass tokenizer"):
        tiny.generate(ids, stop_strings="the")
    with pytest.raises(ValueError, match="2 texts.*pad_token_id"):
        tiny.generate(ids.repeat(2, 1), stop_strings="the", tokenizer=tokenizer)
    tokens = {"ab", "c", "d", "n't", "."}
    assert all(can_occur(x, tokens) for x in ("abcd .", "b", "dd ab", "n't", "\n"))
    assert not any(can_occur(x, tokens) for x in ("A", "ab.", "c x", "d't"))


def test_settings_that_minigpt_does_not_have(tmp_path, lively):
    ids = torch.tensor([[1, 2]])
    with pytest.raises(ValueError, match="no setting no_repeat_ngrams"):
        lively.generate(ids, no_repeat_ngrams=2)
    config = GenerationConfig(typical_p=0.9, top_k=7, transformers_version="5")
    config.save_pretrained(tmp_path)
    back = GenerationConfig.from_pretrained(tmp_path, max_new_tokens=3)
    assert vars(back) == vars(config) | {"max_new_tokens": 3} and back.to_dict()["num_beams"] == 1
    with pytest.warns(UserWarning, match="sets typical_p, which") as caught:
        lively.generate(ids, generation_config=back)
    assert caught[0].filename == __file__


def test_null_in_a_file_sets_nothing_and_nonsense_names_the_file(tmp_path):
    path = tmp_path / "generation_config.json"
    path.write_text('{"num_beams": null, "top_k": 7}')
    assert GenerationConfig.from_pretrained(tmp_path) == GenerationConfig(top_k=7)
    path.write_text('{"num_beams": 0}')
    with pytest.raises(ValueError, match="generation_config.json.*num_beams=0"):
        GenerationConfig.from_pretrained(tmp_path)


def test_the_generation_config_travels_with_the_checkpoint(tmp_path):
    import transformers

    theirs, ours = helpers.random_pair(eos_token_id=3, pad_token_id=5)
    assert (ours.generation_config.eos_token_id, ours.generation_config.pad) == (3, 5)
    ours.generation_config.num_beams = 3
    ours.generation_config.eos_token_id = [3, 4]
    ours.save_pretrained(tmp_path / "ours")
    back = OpenAIGPTLMHeadModel.from_pretrained(tmp_path / "ours")
    assert back.generation_config == ours.generation_config
    there = transformers.OpenAIGPTLMHeadModel.from_pretrained(tmp_path / "ours")
    there.save_pretrained(tmp_path / "theirs")
    again = OpenAIGPTLMHeadModel.from_pretrained(tmp_path / "theirs")
    assert again.generation_config == ours.generation_config
    ids = torch.randint(211, (2, 5))
    expected = there.generate(ids, max_new_tokens=9, attention_mask=torch.ones_like(ids))
    assert torch.equal(back.generate(ids, max_new_tokens=9), expected)


def test_the_embedded_checkpoint_writes_words(tiny, tokenizer):
    inputs = tokenizer("The future of AI is", return_tensors="pt")
    text = tokenizer.decode(tiny.generate(**inputs, max_new_tokens=60)[0])
    common = set('the a of and to in is was i he it that not man , . "'.split())
    words = text.split()
    assert sum(word in common for word in words) > len(words) / 3


def test_generation_leaves_the_model_as_it_was():
    sizes = {"vocab_size": 11, "n_positions": 8, "n_embd": 8, "n_layer": 1, "n_head": 2}
    model = OpenAIGPTLMHeadModel(OpenAIGPTConfig(**sizes))
    before = [parameter.clone() for parameter in model.parameters()]
    model.generate(torch.tensor([[1]]), max_new_tokens=3, do_sample=True)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
