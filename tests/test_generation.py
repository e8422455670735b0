"""Generation: cache against no cache, padding, limits, hooks, streamers, clear errors.

And that it needs no network. `test_generation_parity.py` compares with transformers.
"""

from dataclasses import replace
from threading import Thread

import pytest
import torch

from minigpt import OpenAIGPTConfig, OpenAIGPTLMHeadModel, OpenAIGPTTokenizer
from minigpt.generation import (
    GenerationConfig,
    TextIteratorStreamer,
    TextStreamer,
    generate,
    make_criteria,
)
from tests import parity
from tests.test_generation_parity import lively_pair


@pytest.fixture(scope="module")
def tiny():
    return OpenAIGPTLMHeadModel.from_pretrained("tiny")


def count_up(ids, cache):
    """A model of ten ids that always expects the next higher one."""
    return torch.nn.functional.one_hot((ids[:, -1] + 1) % 10, 10).float(), None


def continued(next_logits, ids, **settings):
    return generate(next_logits, torch.tensor(ids), GenerationConfig(**settings)).sequences.tolist()


def test_any_function_will_do():
    for settings in ({}, {"num_beams": 3}):
        assert continued(count_up, [[1, 2], [7, 8]], max_new_tokens=3, **settings) == [
            [1, 2, 3, 4, 5],
            [7, 8, 9, 0, 1],
        ]


def test_a_row_that_has_ended_goes_on_with_the_filler():
    six = {"max_new_tokens": 6, "eos_token_id": 3}
    rows = [[1, 2, 3, 3, 3, 3, 3], [5, 6, 7, 8, 9, 0, 1]]
    assert continued(count_up, [[1], [5]], **six) == rows
    rows[0][3:] = [9] * 4
    assert continued(count_up, [[1], [5]], **six, pad_token_id=9) == rows
    assert continued(count_up, [[1]], **six) == [[1, 2, 3]]


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
    _, ours = lively_pair(n_positions=16, attn_implementation=implementation)
    ids = torch.randint(31, (3, 4))
    results = [
        ours.generate(
            ids,
            max_new_tokens=30,
            window="slide",  # past position 16
            use_cache=use,
            generator=torch.Generator().manual_seed(0),
            **settings,
        )
        for use in (True, False)
    ]
    assert results[0].shape[-1] == 34 and torch.equal(*results)


def test_generation_stops_at_the_last_position_with_one_message(tiny):
    ids = torch.zeros(1, 510, dtype=torch.long)
    with pytest.warns(UserWarning, match="position, 512, after 2 new tokens of 10") as caught:
        assert tiny.generate(ids, max_new_tokens=10).shape == (1, 512)
    assert len(caught) == 1


def test_a_window_reads_the_last_half_anew(tiny):
    ids = torch.randint(8192, (1, 510), generator=torch.Generator().manual_seed(0))
    long = tiny.generate(ids, max_new_tokens=5, window="slide")
    alone = tiny.generate(long[:, 513 - 256 : 513], max_new_tokens=2)  # the 513th did not fit
    assert torch.equal(long[:, -2:], alone[:, -2:])


WAYS = [
    {},
    {"do_sample": True, "top_k": 1},
    {"num_beams": 3},
    {"use_cache": False},
    {"cache_implementation": "static"},
    {"assistant_model": "itself"},
]


@pytest.mark.filterwarnings("ignore:stopped at the last position")
@pytest.mark.parametrize("T", [45, 47, 48])
@pytest.mark.parametrize("way", WAYS)
def test_no_way_to_write_passes_the_last_position(way, T):
    _, ours = lively_pair()
    ids = torch.randint(31, (1, T), generator=torch.Generator().manual_seed(0))
    way = {"assistant_model": ours} if "assistant_model" in way else way
    beams = {"num_beams": way["num_beams"]} if "num_beams" in way else {}
    expected = ours.generate(ids, max_new_tokens=48 - T, **beams)
    assert torch.equal(ours.generate(ids, max_new_tokens=10, **way), expected)
    with pytest.raises(ValueError, match="49 tokens, but this checkpoint has 48 positions"):
        ours.generate(torch.zeros(1, 49, dtype=torch.long), **way)


def test_a_window_takes_a_prompt_with_padding_that_is_all_alone():
    _, ours = lively_pair()
    ids = torch.randint(31, (1, 9))
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1, 1]])
    long = {"max_new_tokens": 60, "window": "slide"}
    assert torch.equal(
        ours.generate(ids, mask, **long)[:, 9:], ours.generate(ids[:, 2:], **long)[:, 7:]
    )


def test_no_new_tokens_are_none_and_no_room_is_an_error(tiny):
    ids = torch.ones(2, 5, dtype=torch.long)
    for way in ({}, {"num_beams": 3}, {"cache_implementation": "static"}):
        assert torch.equal(tiny.generate(ids, max_new_tokens=0, **way), ids)
        with pytest.raises(ValueError, match="max_length=5, but the prompt alone has 5 tokens"):
            tiny.generate(ids, max_length=5, **way)


@pytest.mark.parametrize("narrow", [{"top_p": 1e-12}, {"top_k": 1}, {"temperature": 1e-6}])
def test_chance_with_one_choice_is_greedy(narrow):
    _, ours = lively_pair()
    ids = torch.randint(31, (3, 4))
    for cache in ({}, {"cache_implementation": "static"}):
        drawn = ours.generate(ids, do_sample=True, **narrow, **cache)
        assert torch.equal(drawn, ours.generate(ids))


def test_more_tokens_than_there_are_may_be_kept_and_all_be_alike(tiny):
    wide = {"do_sample": True, "top_k": 10**6, "temperature": 1e30, "max_new_tokens": 1}
    drawn = tiny.generate(torch.zeros(2000, 1, dtype=torch.long), **wide)[:, 1]
    assert len(drawn.unique()) > 1700  # 2,000 fair draws of 8,192: 1,774 on average
    with pytest.raises(ValueError, match="step 0, row 0: .*a temperature too close to 0"):
        tiny.generate(torch.zeros(1, 1, dtype=torch.long), do_sample=True, temperature=1e-45)


def test_what_a_tokenizer_gives_can_be_handed_on(tiny):
    tokenizer = OpenAIGPTTokenizer.from_pretrained("tiny")
    inputs = tokenizer("The old man", return_tensors="pt")
    assert torch.equal(tiny.generate(**inputs), tiny.generate(inputs.input_ids))


def test_lengths(tiny):
    ids = torch.zeros(1, 5, dtype=torch.long)
    assert tiny.generate(ids).shape == (1, 25)  # 20 new ones, as the reference does
    assert tiny.generate(ids, max_length=9).shape == (1, 9)
    assert tiny.generate(ids, max_new_tokens=9).shape == (1, 14)


def test_too_long_a_prompt_is_one_clear_error(tiny):
    with pytest.raises(ValueError, match="513 tokens.*512 positions"):
        tiny.generate(torch.zeros(1, 513, dtype=torch.long))
    with pytest.raises(ValueError, match="600 tokens.*512 positions"):
        tiny(torch.zeros(1, 600, dtype=torch.long))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_beams": 3, "eos_token_id": [3, 5, 8], "pad_token_id": 0},
        {"no_repeat_ngram_size": 2, "repetition_penalty": 1.5},
        {"use_cache": False, "min_new_tokens": 6, "eos_token_id": [3, 5, 8, 13]},
    ],
)
def test_each_row_of_a_padded_batch_is_what_it_is_alone(side, settings):
    _, ours = lively_pair()
    mask = parity.padded(side, (9, 5, 1), 11)  # two columns of padding alone
    ids = torch.randint(31, mask.shape).masked_fill(mask == 0, 4)  # 4 is a token, too
    together = ours.generate(ids, mask, max_new_tokens=15, **settings)
    assert torch.equal(together[:, :11], ids)
    for row, real, new in zip(ids, mask.bool(), together[:, 11:], strict=True):
        alone = ours.generate(row[real][None], max_new_tokens=15, **settings)[0, real.sum() :]
        assert torch.equal(new[: len(alone)], alone)


@pytest.mark.parametrize(
    "setting",
    [
        {"temperature": 0.0},
        {"temperature": -1.0},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_k": -1},
        {"num_beams": 0},
        {"num_return_sequences": 2},
        {"num_return_sequences": 0},
        {"repetition_penalty": 0.0},
        {"max_new_tokens": -1},
        {"max_length": "x"},
        {"max_length": 0, "max_new_tokens": 3},
        {"max_new_tokens": 2.5},
        {"num_beams": 2.0},
        {"stop_strings": ""},
        {"stop_strings": 3},
        {"early_stopping": "sometimes"},
        {"window": "glide"},
        {"cache_implementation": "magic"},
    ],
)
def test_impossible_settings_are_named(tiny, setting):
    name, value = next(iter(setting.items()))
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        tiny.generate(torch.zeros(1, 5, dtype=torch.long), **setting)


def test_no_processors_and_criteria_may_be_none(tiny):
    ids = torch.zeros(1, 5, dtype=torch.long)
    none = tiny.generate(ids, logits_processor=None, stopping_criteria=None)
    assert torch.equal(none, tiny.generate(ids))


def test_more_texts_than_beams_are_refused_also_when_drawn():
    with pytest.raises(ValueError, match="num_return_sequences=4, but num_beams=3"):
        GenerationConfig(do_sample=True, num_beams=3, num_return_sequences=4)


@pytest.mark.parametrize("empty", [None, torch.zeros(1, 0, dtype=torch.long)])
def test_an_empty_prompt_starts_with_the_start_token_or_says_what_to_pass(tiny, empty):
    with pytest.raises(ValueError, match="prompt is empty.*bos_token_id"):
        tiny.generate(empty)
    started = tiny.generate(torch.tensor([[7]]), max_new_tokens=4)
    assert torch.equal(tiny.generate(empty, bos_token_id=7, max_new_tokens=4), started)
    if empty is not None:  # as a tokenizer hands it over
        mask = {"attention_mask": torch.ones_like(empty)}
        assert torch.equal(tiny.generate(empty, bos_token_id=7, max_new_tokens=4, **mask), started)


def test_a_mask_that_does_not_fit_is_named(tiny):
    ids = torch.zeros(2, 3, dtype=torch.long)
    with pytest.raises(ValueError, match=r"attention_mask \(2, 4\) for input_ids \(2, 3\)"):
        tiny.generate(ids, torch.ones(2, 4))
    with pytest.raises(ValueError, match="row 1 of attention_mask"):
        tiny.generate(ids, torch.tensor([[1, 1, 1], [0, 0, 0]]))
    with pytest.raises(ValueError, match="slide.*padded"):
        tiny.generate(ids, torch.tensor([[1, 1, 1], [0, 1, 1]]), window="slide")


@pytest.mark.parametrize("method", [{}, {"do_sample": True}, {"num_beams": 2}])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_broken_score_is_an_error_that_names_step_and_row(method, value):
    def breaks(ids, cache):
        logits = torch.randn(len(ids), 50)
        logits[ids[:, 0] == 2, 3] = value if ids.shape[-1] == 3 else 0.0
        return logits, None

    config = GenerationConfig(max_new_tokens=5, **method)
    with pytest.raises(ValueError, match="step 2, row 1: .*(nan|inf)"):
        generate(breaks, torch.tensor([[1], [2]]), config)


def test_a_row_that_has_ended_is_not_asked():
    def breaks_at_the_end(ids, cache):
        return count_up(ids, cache)[0].masked_fill(
            (ids == 3).any(-1, keepdim=True), torch.nan
        ), None

    config = {"max_new_tokens": 4, "eos_token_id": 3}
    assert continued(breaks_at_the_end, [[2], [5]], **config)[1] == [5, 6, 7, 8, 9]


def test_rows_that_may_end_need_a_filler():
    class Letters:
        def decode(self, ids):
            return "".join("abcdefghij"[i] for i in ids)

    config = GenerationConfig(max_new_tokens=6, stop_strings=["de", "zz"])
    with pytest.raises(ValueError, match="stop_strings=.*tokenizer"):
        make_criteria(config)
    criteria = make_criteria(config, Letters())
    with pytest.raises(ValueError, match="pad_token_id"):
        generate(count_up, torch.tensor([[1], [5]]), config, criteria=criteria)
    config = replace(config, pad_token_id=0)
    rows = generate(count_up, torch.tensor([[1], [5]]), config, criteria=criteria).sequences
    assert rows.tolist() == [[1, 2, 3, 4, 0, 0, 0], [5, 6, 7, 8, 9, 0, 1]]


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
    out = tiny.generate(
        ids, **hooks, pad_token_id=0, output_scores=True, return_dict_in_generate=True
    )
    assert out.sequences.shape == (2, 8) and not (out.sequences[:, 5:] == first).any()
    assert len(seen[-1]) == len(out.scores) == 3 and out.scores[0].shape == (2, 8192)


class Recorder(TextStreamer):
    """Keeps what `on_finalized_text` gets."""

    told = pieces = ()

    def on_finalized_text(self, text, stream_end=False):
        self.pieces += (text,)


def test_streamers_tell_the_text_word_by_word(tiny):
    import transformers

    tokenizer = OpenAIGPTTokenizer.from_pretrained("tiny")
    ids = tokenizer('"I do not know," said', return_tensors="pt").input_ids
    ours, queue = Recorder(tokenizer, skip_prompt=True), TextIteratorStreamer(tokenizer)
    theirs = transformers.TextIteratorStreamer(tokenizer)
    for streamer in (ours, queue, theirs):
        text = tiny.generate(ids, max_new_tokens=30, streamer=streamer)[0]
    assert "".join(ours.pieces) == tokenizer.decode(text[ids.shape[-1] :])
    assert "".join(queue) == "".join(theirs) == tokenizer.decode(text)
    assert len([piece for piece in ours.pieces if piece]) > 10


@pytest.mark.parametrize("skip_prompt", [False, True])
def test_words_come_out_of_another_thread(tiny, skip_prompt):
    tokenizer = OpenAIGPTTokenizer.from_pretrained("tiny")
    ids = tokenizer("The old man looked at", return_tensors="pt").input_ids
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=skip_prompt, timeout=60)
    options = {"max_new_tokens": 9, "streamer": streamer}
    thread = Thread(target=tiny.generate, args=[ids], kwargs=options)
    thread.start()
    words = list(streamer)
    thread.join()
    text = tiny.generate(ids, max_new_tokens=9)[0, ids.shape[-1] if skip_prompt else 0 :]
    assert "".join(words) == tokenizer.decode(text) and len(words) > 5


def test_a_streamer_is_told_of_the_end_even_after_an_error():
    def broken(ids, cache):
        return torch.full((1, 5), torch.nan), None

    queue = TextIteratorStreamer(OpenAIGPTTokenizer.from_pretrained("tiny"), timeout=1)
    with pytest.raises(ValueError, match="step 0"):
        generate(broken, torch.tensor([[1]]), GenerationConfig(), streamer=queue)
    assert len(list(queue)) > 0  # and it does end


def test_beams_and_batches_are_not_streamed(tiny):
    streamer = TextStreamer(OpenAIGPTTokenizer.from_pretrained("tiny"))
    with pytest.raises(ValueError, match="num_beams=1"):
        tiny.generate(torch.tensor([[1]]), num_beams=2, streamer=streamer)
    with pytest.raises(ValueError, match="2 texts"):
        tiny.generate(torch.tensor([[1], [2]]), streamer=streamer)


def test_the_generation_config_travels_with_the_checkpoint(tmp_path):
    import transformers

    theirs, ours = parity.random_pair(eos_token_id=3, pad_token_id=5)
    assert (ours.generation_config.eos_token_id, ours.generation_config.pad) == (3, 5)
    ours.generation_config = replace(
        ours.generation_config, num_beams=3, length_penalty=0.5, eos_token_id=[3, 4]
    )
    ours.save_pretrained(tmp_path / "ours")
    back = OpenAIGPTLMHeadModel.from_pretrained(tmp_path / "ours")
    assert back.generation_config == ours.generation_config
    there = transformers.OpenAIGPTLMHeadModel.from_pretrained(tmp_path / "ours")
    there.save_pretrained(tmp_path / "theirs")
    again = OpenAIGPTLMHeadModel.from_pretrained(tmp_path / "theirs")
    assert again.generation_config == ours.generation_config
    ids = torch.randint(211, (2, 5))
    assert torch.equal(
        back.generate(ids, max_new_tokens=9),
        there.generate(ids, max_new_tokens=9, attention_mask=torch.ones_like(ids)),
    )


def test_a_setting_that_is_null_is_not_said_and_one_without_meaning_is_refused(tmp_path):
    _, ours = parity.random_pair()
    ours.save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text(
        '{"num_beams": null, "top_k": 7}', encoding="utf-8"
    )
    found = OpenAIGPTLMHeadModel.from_pretrained(tmp_path).generation_config
    assert found == GenerationConfig(top_k=7)
    (tmp_path / "generation_config.json").write_text('{"num_beams": 0}', encoding="utf-8")
    with pytest.raises(ValueError, match="num_beams=0"):
        OpenAIGPTLMHeadModel.from_pretrained(tmp_path)


def test_a_name_that_is_no_setting_is_an_error(tiny):
    with pytest.raises(TypeError, match="no setting has the name no_repeat_ngrams"):
        tiny.generate(torch.tensor([[1]]), no_repeat_ngrams=2)


def test_a_setting_that_minigpt_does_not_have_is_warned_of(tmp_path):
    _, ours = parity.random_pair()
    ours.save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text(
        '{"typical_p": 0.9, "top_k": 7}', encoding="utf-8"
    )
    with pytest.warns(UserWarning, match="typical_p"):
        assert OpenAIGPTLMHeadModel.from_pretrained(tmp_path).generation_config.top_k == 7


def test_the_embedded_checkpoint_writes_words():
    tokenizer, model = (
        cls.from_pretrained("tiny") for cls in (OpenAIGPTTokenizer, OpenAIGPTLMHeadModel)
    )
    ids = tokenizer("The future of AI is", return_tensors="pt").input_ids
    text = tokenizer.decode(model.generate(ids, max_new_tokens=60)[0])
    common = set('the a of and to in is was i he it that not man , . "'.split())
    words = text.split()
    assert sum(word in common for word in words) > len(words) / 3


def test_sense_surprises_less_than_nonsense():
    tokenizer, model = (
        cls.from_pretrained("tiny") for cls in (OpenAIGPTTokenizer, OpenAIGPTLMHeadModel)
    )
    ids = tokenizer(
        "He went out of the room and shut the door behind him.", return_tensors="pt"
    ).input_ids
    shuffled = ids[:, torch.randperm(ids.shape[1], generator=torch.Generator().manual_seed(0))]
    assert model(ids, labels=ids).loss + 1 < model(shuffled, labels=shuffled).loss


def test_generation_leaves_the_model_as_it_was():
    model = OpenAIGPTLMHeadModel(
        OpenAIGPTConfig(vocab_size=11, n_positions=8, n_embd=8, n_layer=1, n_head=2)
    )
    before = [parameter.clone() for parameter in model.parameters()]
    model.generate(torch.tensor([[1]]), max_new_tokens=3, do_sample=True)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
