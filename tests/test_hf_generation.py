"""`generate`: settings, padding, limits, hooks, streamers, clear errors.

`tests/parity/test_generation.py` compares with transformers.
"""

import json
from threading import Thread

import numpy as np
import pytest
import torch

from minigpt import (
    GenerationConfig,
    OpenAIGPTLMHeadModel,
    OpenAIGPTTokenizer,
    TextIteratorStreamer,
    TextStreamer,
)
from tests import helpers

STATIC = {"cache_implementation": "static"}


@pytest.fixture(scope="module")
def tiny():
    return OpenAIGPTLMHeadModel.from_pretrained("tiny")


@pytest.fixture(scope="module")
def lively():
    return helpers.lively_pair()[1]


@pytest.fixture(scope="module")
def tokenizer():
    return OpenAIGPTTokenizer.from_pretrained("tiny")


def zeros(B: int, T: int) -> torch.Tensor:
    return torch.zeros(B, T, dtype=torch.long)


WAYS = [
    {},
    {"do_sample": True, "top_k": 1},
    {"num_beams": 3},
    {"use_cache": False},
    STATIC,
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
        lively.generate(zeros(1, 49), **way)


@pytest.mark.parametrize("way", [{}, {"num_beams": 3}, STATIC])
def test_lengths(lively, way):
    ids = zeros(1, 5)
    assert lively.generate(ids, **way).shape == (1, 25)  # 20 new ones, as the reference does
    assert lively.generate(inputs=ids, max_length=9, **way).shape == (1, 9)
    assert torch.equal(lively.generate(ids, max_new_tokens=0, **way), ids)
    with pytest.raises(ValueError, match="max_length=5, but the prompt alone has 5 tokens"):
        lively.generate(ids, max_length=5, **way)


@pytest.mark.parametrize("narrow", [{"top_p": 1e-12}, {"top_k": 1}, {"temperature": 1e-6}])
@pytest.mark.parametrize("cache", [{}, STATIC])
def test_chance_with_one_choice_is_greedy(lively, narrow, cache):
    ids = torch.randint(31, (3, 4))
    drawn = lively.generate(ids, do_sample=True, **narrow, **cache)
    assert torch.equal(drawn, lively.generate(ids))


PADDED = [
    {},
    {"num_beams": 3, "eos_token_id": [3, 5, 8], "pad_token_id": 0},
    {"no_repeat_ngram_size": 2, "repetition_penalty": 1.5},
    {"use_cache": False, "min_new_tokens": 6, "eos_token_id": [3, 5, 8, 13]},
    STATIC,
]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("settings", PADDED)
def test_each_row_of_a_padded_batch_is_what_it_is_alone(lively, side, settings):
    mask = helpers.padded(side, (9, 5, 1), 11)  # two columns of padding alone
    ids = torch.randint(31, mask.shape).masked_fill(mask == 0, 4)  # 4 is a token, too
    together = lively.generate(ids, attention_mask=mask, max_new_tokens=15, **settings)
    assert torch.equal(together[:, :11], ids)
    for row, real, new in zip(ids, mask.bool(), together[:, 11:], strict=True):
        alone = lively.generate(row[real][None], max_new_tokens=15, **settings)[0, real.sum() :]
        assert torch.equal(new[: len(alone)], alone)


IMPOSSIBLE = """temperature=0.0 temperature=-1.0 temperature='hot' top_p=0.0 top_p=1.1 top_k=-1
num_beams=0 num_beams=2.0 num_return_sequences=2 num_return_sequences=0 repetition_penalty=0.0
length_penalty='x' max_new_tokens=-1 max_new_tokens=2.5 max_length='x' max_length=0
min_length=-1 stop_strings='' stop_strings=3 early_stopping='sometimes' eos_token_id='x'
cache_implementation='magic' num_assistant_tokens=0 no_repeat_ngrams=2"""


@pytest.mark.parametrize("setting", IMPOSSIBLE.split())
def test_impossible_settings_are_named(lively, setting):
    name, value = setting.split("=")
    with pytest.raises(ValueError, match=f"{setting}|no setting {name}"):
        lively.generate(zeros(1, 5), **{name: eval(value)})


def test_numbers_of_numpy_and_tensors_of_one_element_are_numbers(lively):
    odd = {"max_new_tokens": np.int64(12), "temperature": np.float32(0.5), "do_sample": True}
    odd |= {"top_k": torch.tensor(1), "eos_token_id": torch.tensor([3, 7])}
    plain = {"max_new_tokens": 12, "temperature": 0.5, "do_sample": True}
    plain |= {"top_k": 1, "eos_token_id": [3, 7], "pad_token_id": 12}
    odd = GenerationConfig(**odd, pad_token_id=torch.tensor([12]))
    assert odd.to_diff_dict() == plain


def test_keywords_of_none_take_settings_back(lively):
    lively.generation_config = GenerationConfig(max_new_tokens=3, eos_token_id=[*range(31)])
    ids, keep_all = zeros(900, 1), {"do_sample": True, "temperature": 1e9, "eos_token_id": None}
    drawn = lively.generate(ids, **keep_all, max_new_tokens=None, max_length=2, top_k=None)
    lively.generation_config = GenerationConfig()
    assert drawn.shape == (900, 2) and len(drawn.unique()) == 31


@pytest.mark.parametrize("empty", [None, zeros(1, 0)])
def test_an_empty_prompt_starts_with_the_start_token_or_says_what_to_pass(lively, empty):
    with pytest.raises(ValueError, match="prompt is empty.*bos_token_id"):
        lively.generate(empty)
    mask = None if empty is None else torch.ones_like(empty)
    started = lively.generate(empty, attention_mask=mask, bos_token_id=7, max_new_tokens=4)
    assert torch.equal(started, lively.generate(torch.tensor([[7]]), max_new_tokens=4))


UNFIT = [
    (
        {"attention_mask": torch.ones(2, 4)},
        r"attention_mask has shape \(2, 4\); pass that of input_ids, \(2, 3\)",
    ),
    ({"input_ids": "hello"}, r"expected ids .* got 'hello'; pass tokenizer\(text"),
    ({"input_ids": zeros(1, 3)[0]}, r"expected ids \(B, T\) .* got tensor\("),
    ({"stop_strings": "the"}, "stop_strings=.*pass tokenizer"),
    ({"num_beams": 3, "num_return_sequences": 4, "do_sample": True}, "4, but num_beams=3"),
]


@pytest.mark.parametrize(("options", "message"), UNFIT)
def test_what_does_not_fit_is_named(lively, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        lively.generate(**{"input_ids": zeros(2, 3)} | options)


def test_criteria_get_ids_and_scores(tiny):
    seen, ids = [], zeros(2, 5)

    def after_three(ids, scores):
        seen.append(len(scores))
        return torch.full((len(ids),), ids.shape[-1] >= 8)

    first = tiny.generate(ids, max_new_tokens=1)[0, -1].item()
    named = {"output_scores": True, "return_dict_in_generate": True, "suppress_tokens": [first]}
    out = tiny.generate(ids, stopping_criteria=[after_three], **named)
    assert out.sequences.shape == (2, 8) and not (out.sequences[:, 5:] == first).any()
    assert seen == [1, 2, 3] and [len(step) for step in out.scores] == [2, 2, 2]


@pytest.mark.parametrize("way", WAYS[:5])
def test_what_is_returned_are_ordinary_tensors(way):
    """They may be changed in place and used in training, also those of a call in inference mode."""
    _, model = helpers.lively_pair()
    with torch.inference_mode():
        model.generate(torch.tensor([[1, 2]]), max_new_tokens=3, **way)
    named = {"return_dict_in_generate": True, "max_new_tokens": 4}
    named |= {} if way == STATIC else {"output_scores": True}
    out = model.generate(torch.tensor([[1, 2]]), **named, **way)
    for tensor in (out.sequences, *(out.scores or ())):
        assert not tensor.is_inference()
        tensor += 0
    model(out.sequences, labels=out.sequences).loss.backward()
    assert model.lm_head.weight.grad.any()


@pytest.mark.parametrize("skip_prompt", [False, True])
@pytest.mark.parametrize("clean", [False, True])
@pytest.mark.parametrize("text", ["the dogs ' house", 'he said , " i do n\'t . " \n and', "'"])
def test_what_a_streamer_shows_is_what_the_tokenizer_decodes(
    tokenizer, capsys, skip_prompt, clean, text
):
    options = {"clean_up_tokenization_spaces": clean}
    ids = [0, *tokenizer.convert_tokens_to_ids([word + "</w>" for word in text.split()])]
    streamer = TextStreamer(tokenizer, skip_prompt, **options)
    streamer.put(torch.tensor([ids[:2]]))
    for token in ids[2:]:
        streamer.put(torch.tensor([token]))
    streamer.end()
    shown = tokenizer.decode(ids[2 if skip_prompt else 0 :], **options)
    assert capsys.readouterr().out == shown + "\n"
    with pytest.raises(ValueError, match="2 texts cannot be streamed"):
        streamer.put(zeros(2, 3))


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


NAN = {"logits_processor": [lambda ids, scores: scores * torch.nan]}


@pytest.mark.parametrize("wrong", [{"nonsense": 1}, {"num_beams": 2}, {"max_length": 1}, NAN])
def test_a_streamer_is_ended_whenever_generate_raises(tiny, tokenizer, wrong):
    streamer = TextIteratorStreamer(tokenizer, timeout=5)
    with pytest.raises(ValueError):
        tiny.generate(**{"input_ids": zeros(1, 3)} | wrong, streamer=streamer)
    assert list(streamer) is not None  # it does end


def test_settings_that_minigpt_does_not_have(tmp_path, lively):
    config = GenerationConfig(magic=0.9, top_k=7, transformers_version="5")
    config.save_pretrained(tmp_path)
    back = GenerationConfig.from_pretrained(tmp_path, max_new_tokens=3)
    assert vars(back) == vars(config) | {"max_new_tokens": 3}
    assert back.to_dict()["num_beams"] is None and json.loads(str(back)[17:])["magic"] == 0.9
    assert back.update(top_k=8, more=1) == {"more": 1} and back.top_k == 8
    with pytest.warns(UserWarning, match="sets magic, which") as caught:
        lively.generate(zeros(1, 2), generation_config=back)
    assert [one.filename for one in caught] == [__file__]


def test_null_in_a_file_sets_nothing_and_nonsense_names_the_file(tmp_path):
    path = tmp_path / "generation_config.json"
    path.write_text('{"num_beams": null, "top_k": 7}')
    assert GenerationConfig.from_pretrained(tmp_path) == GenerationConfig(top_k=7)
    path.write_text('{"num_beams": 0}')
    with pytest.raises(ValueError, match="generation_config.json.*num_beams=0"):
        GenerationConfig.from_pretrained(tmp_path)
