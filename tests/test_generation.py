"""Generation: cache against no cache, limits, clear errors; and that it needs no network."""

import pytest
import torch

from minigpt import OpenAIGPTConfig, OpenAIGPTLMHeadModel, OpenAIGPTTokenizer
from minigpt.generation import choose, generate, keep_top_k, keep_top_p
from tests import parity


@pytest.fixture(scope="module")
def tiny():
    return OpenAIGPTLMHeadModel.from_pretrained("tiny")


def count_up(ids, cache):
    """A model of ten ids that always expects the next higher one."""
    return torch.nn.functional.one_hot((ids[:, -1] + 1) % 10, 10).float(), None


def test_any_function_will_do():
    assert generate(count_up, torch.tensor([[1, 2], [7, 8]]), 3).tolist() == [
        [1, 2, 3, 4, 5],
        [7, 8, 9, 0, 1],
    ]


def test_a_row_that_has_ended_goes_on_with_the_end_token():
    out = generate(count_up, torch.tensor([[1], [5]]), 6, eos_token_id=3)
    assert out.tolist() == [[1, 2, 3, 3, 3, 3, 3], [5, 6, 7, 8, 9, 0, 1]]
    assert generate(count_up, torch.tensor([[1]]), 6, eos_token_id=3).tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    "options", [{}, {"do_sample": True, "top_k": 20}, {"do_sample": True, "top_p": 0.8}]
)
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_with_cache_equals_without(options, implementation):
    _, ours = parity.random_pair(attn_implementation=implementation)
    ids = torch.randint(ours.config.vocab_size, (3, 4))
    results = [
        ours.generate(
            ids,
            max_new_tokens=40,
            use_cache=use,
            generator=torch.Generator().manual_seed(0),
            **options,
        )
        for use in (True, False)
    ]
    assert torch.equal(*results)


def test_filters_equal_transformers():
    from transformers import TopKLogitsWarper, TopPLogitsWarper

    torch.manual_seed(0)
    logits = torch.randn(20, 50) * 3
    for k in (1, 5, 50):
        assert torch.equal(keep_top_k(logits, k), TopKLogitsWarper(k)(None, logits))
    for p in (0.1, 0.5, 0.9, 1.0):
        assert torch.equal(keep_top_p(logits, p), TopPLogitsWarper(p)(None, logits))


def test_generation_stops_at_the_last_position(tiny):
    ids = torch.zeros(1, 510, dtype=torch.long)
    assert tiny.generate(ids, max_new_tokens=10).shape == (1, 512)


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


def test_prompts_of_different_lengths_are_refused_not_garbled(tiny):
    mask = torch.tensor([[1, 1], [1, 0]])
    with pytest.raises(ValueError, match="attention_mask"):
        tiny.generate(torch.zeros(2, 2, dtype=torch.long), attention_mask=mask)


@pytest.mark.parametrize(
    "choice",
    [{"temperature": 0.0}, {"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.1}, {"top_k": 0}],
)
def test_impossible_settings_are_named(choice):
    (name, value) = next(iter(choice.items()))
    with pytest.raises(ValueError, match=f"{name}={value}"):
        choose(torch.zeros(1, 5), do_sample=True, **choice)


@pytest.mark.parametrize("do_sample", [True, False])
def test_nan_is_an_error_and_not_an_id(do_sample):
    def broken(ids, cache):
        return torch.full((len(ids), 5), torch.nan), None

    with pytest.raises(ValueError, match="(?i)nan"):
        generate(broken, torch.tensor([[1]]), 3, do_sample=do_sample)


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
