"""Zero-shot: cases computed by hand with a model of pairs of tokens, and both kinds of models."""

from math import log

import pytest
import torch
from torch import nn

from minigpt import OpenAIGPTLMHeadModel
from minigpt.check.materials import SMALL, TINY, golden_results, golden_weights, tiny_network
from minigpt.config import GPTConfig
from minigpt.lm_head import LanguageModel
from minigpt.zero_shot import (
    acceptable,
    best_threshold,
    choose,
    log_probabilities,
    logit_lens,
    matthews,
    mean_log_probability,
    plot_attention,
    sentiment,
    winograd,
)


class Pairs(nn.Module):
    """Predicts from the last token alone: P(1 | 0) = 1/2, P(2 | 0) = 1/4 and so on."""

    config = GPTConfig(vocab_size=4, n_positions=6)
    table = torch.tensor([[1, 4, 2, 1], [2, 1, 1, 4], [1, 1, 2, 4], [4, 2, 1, 1]]) / 8

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(self.table.log() + 3)  # a softmax takes no notice of the 3

    def forward(self, ids):
        return self.logits[ids], None


MODEL = Pairs().eval()
BOTH = [
    LanguageModel(TINY, tiny_network()).eval(),
    OpenAIGPTLMHeadModel.from_pretrained("tiny").eval(),
]


def test_each_token_has_its_log_probability():
    found = log_probabilities(MODEL, torch.tensor([[0, 1, 3, 0], [0, 2, 2, 3]]))
    expected = torch.tensor([[1 / 2, 1 / 2, 1 / 2], [1 / 4, 1 / 4, 1 / 2]]).log()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("batch_size", [1, 2, 99])
def test_only_tokens_behind_the_given_ones_are_scored(batch_size):
    pairs = [([0], [1, 3]), ([], [0, 2, 3]), ([3, 0, 2], [2]), ((1, 2), (3, 0, 1, 0))]
    found = mean_log_probability(MODEL, pairs, batch_size)
    sums = [log(1 / 4), log(1 / 8), log(1 / 4), log(1 / 2 * 1 / 2 * 1 / 2 * 1 / 4)]
    torch.testing.assert_close(found, torch.tensor(sums) / torch.tensor([2, 2, 1, 4]))


def test_a_long_context_loses_its_beginning():
    long, short = mean_log_probability(MODEL, [([1] * 9 + [0], [1, 3]), ([0], [1, 3])])
    assert long == short
    whole = mean_log_probability(MODEL, [([2], [0, 1, 3, 0, 1, 3, 0])])  # 6 of 8 tokens fit
    assert whole.item() == pytest.approx(log(1 / 2))


def test_an_empty_text_is_never_chosen():
    scores = mean_log_probability(MODEL, [([], [1]), ([0], []), ([0], [1])])
    assert scores.tolist()[:2] == [-torch.inf] * 2 and scores[2].isfinite()
    assert choose(MODEL, [[0]], [[[], [3]]]).tolist() == [1]


def test_the_threshold_separates_the_training_part():
    scores, labels = torch.tensor([-4.0, -1.0, -5.0, -2.0]), torch.tensor([0, 1, 0, 1])
    threshold = best_threshold(scores, labels)
    assert -4 <= threshold < -2 and matthews(scores > threshold, labels) == pytest.approx(1)
    sentences = [[0, 1, 3], [0, 3, 2]]  # means log 1/2, log 1/8
    assert acceptable(MODEL, [], sentences, log(1 / 4)).tolist() == [True, False]
    assert acceptable(MODEL, [0], [[1, 3], [2, 3]], log(0.4)).tolist() == [True, False]


def test_matthews_by_hand():
    predictions = torch.tensor([1, 1, 1, 0, 0, 1])  # 3 true and 1 false positive, 2 true negatives
    assert matthews(predictions, torch.tensor([1, 1, 1, 0, 0, 0])) == pytest.approx(6 / 72**0.5)
    assert matthews(torch.ones(3), torch.tensor([1, 1, 0])) == 0


def test_a_word_of_two_tokens_has_the_product_of_their_probabilities():
    """Behind 0, [2, 3] has 1/4 * 1/2, less than [2] has, though the mean would be more."""
    assert sentiment(MODEL, [[3], []], [0], [[2, 3], [2]]).tolist() == [1, 1]
    assert sentiment(MODEL, [[0], [1]], [], [[1], [3]]).tolist() == [0, 1]


def test_the_answer_with_the_highest_mean_is_chosen():
    """Behind 0: [3] has 1/8, [1, 1] the mean of log 1/2 and log 1/8, so log 1/4."""
    answers = [[[3], [1, 1], [2, 1]], [[0], [1], [3, 3]]]
    assert choose(MODEL, [[2, 0], [3]], answers).tolist() == [1, 0]


def test_the_rest_decides_what_a_pronoun_stands_for():
    """The rest [3] is more probable behind 1, whatever comes before it; the rest [0] behind 3."""
    referents = [[[0, 2, 0], [1]], [[1], [2, 3]]]
    assert winograd(MODEL, [[0], []], referents, [[3], [0]]).tolist() == [1, 1]
    assert winograd(MODEL, [[1]], [[[], [0]]], [[3]]).tolist() == [0]  # behind the beginning itself


def test_openai_code_found_the_same():
    golden = golden_results()
    model = LanguageModel(SMALL).eval()
    model.transformer.load_state_dict(golden_weights())
    rows = model.transformer.tokens_embed.weight, model.transformer.positions_embed.weight
    model.lm_head.weight = nn.Parameter(torch.cat(rows))
    X, lengths = golden["X"][..., 0].long().flatten(0, 1), golden["M"].flatten(0, 1).sum(-1).int()
    pairs = [([], row[:length].tolist()) for row, length in zip(X, lengths, strict=True)]
    found = mean_log_probability(model, pairs, batch_size=4)
    torch.testing.assert_close(-found, golden["lm_losses"], rtol=1e-4, atol=1e-4)
    states = torch.stack([golden[name] for name in ("embedding", "hidden_0", "hidden_1")])
    torch.testing.assert_close(logit_lens(model, X)[:3], states @ torch.cat(rows).T)


@pytest.mark.parametrize("model", BOTH, ids=["core", "public"])
def test_models_of_both_kinds(model):
    ids = torch.arange(40, 60).view(2, 10)
    logits = BOTH[0](ids)[0]
    expected = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    torch.testing.assert_close(log_probabilities(model, ids), expected)
    pairs = [(row[:4].tolist(), row[4:].tolist()) for row in ids]
    torch.testing.assert_close(mean_log_probability(model, pairs), expected[:, 3:].mean(-1))
    lens = logit_lens(model, ids)
    assert lens.shape == (9, 2, 10, 8192)
    torch.testing.assert_close(lens[-1], logits)
    embedding = model.transformer.tokens_embed.weight, model.transformer.positions_embed.weight[:10]
    torch.testing.assert_close(lens[0], (embedding[0][ids] + embedding[1]) @ embedding[0].T)


def test_attention_is_drawn_for_each_head():
    weights = torch.tensor([[[1, 0], [0.25, 0.75]], [[1, 0], [0.5, 0.5]], [[1, 0], [0.0, 1.0]]])
    panels = plot_attention(weights, ["the", "king"]).axes
    assert [axes.get_title() for axes in panels] == ["head 0", "head 1", "head 2"]
    lines = [(*line.get_ydata(), line.get_linewidth()) for line in panels[0].lines]
    assert lines == [(0, 0, 4), (1, 0, 1), (1, 1, 3)]
