"""The exercises of chapter 10, two heads."""

import torch

from ..double_heads import state_at
from .compare import Check, some

__all__ = ["joint_loss", "question_texts", "state_by_index"]


def form(story, question, answers, start=(100,), between=(), delimiter=(101,), extract=(102,)):
    """Write texts in the paper's form; the options make the mistakes."""
    context = [*start, *story, *between, *question, *delimiter]
    return [[*context, *answer, *extract] for answer in answers]


def joint(scores, answers, lm, c=0.5, sign=1, plus=1, reduce=torch.mean, on=(1, None), axis=-1):
    """Equation 5; the options make the mistakes."""
    logs = scores.log_softmax(axis).gather(-1, answers[:, None])
    return -sign * reduce(logs) * (on[0] or c) + plus * lm * (on[1] or c)


question_texts = Check(
    form,
    [([1, 2, 3], [4, 5], [[6], [7, 8]]), ([9], [], [[1], [2], [3]])],
    {
        "The start token is missing.": {"start": ()},
        "The extract token is missing: at its position the head reads.": {"extract": ()},
        "The delimiter stands before the answer.": {"between": (101,), "delimiter": ()},
        "There is one delimiter only, before the answer.": {"between": (101,)},
        "The story comes before the question.": lambda a, b, c: form(b, a, c),
        "There is one text for each answer.": lambda a, b, c: form(a, b, [sum(c, [])]),
    },
)
state_by_index = Check(
    state_at,
    [(some(3, 4, 5), torch.tensor([2, 0, 3]))],
    {
        "states[:, index] takes these positions of every text, (B, B, C).": lambda x, i: x[:, i],
        "This is the last position, whatever index says.": lambda states, index: states[:, -1],
        "states[index] selects texts; index holds positions.": lambda x, i: x[i % len(x), -1],
        "This takes the position of the first text for all texts.": lambda x, i: x[:, i[0]],
    },
)
joint_loss = Check(
    joint,
    [
        (some(3, 2), torch.tensor([0, 1, 1]), torch.tensor(4.0)),
        (some(2, 4), torch.tensor([0, 1]), torch.tensor(2.0), 0.1),
    ],
    {
        "The loss of the tokens is not multiplied by the coefficient.": {"on": (1, 1)},
        "The coefficient belongs to the tokens' loss, not to the choices'.": {"on": (None, 1)},
        "The sign of the choices' part is wrong: a loss is minus the logarithm.": {"sign": -1},
        "The loss of the tokens is added, not subtracted.": {"plus": -1},
        "The coefficient is always 0.5; it is an argument.": {"on": (1, 0.5)},
        "This is the sum; the loss is the mean over the questions.": {"reduce": torch.sum},
        "The softmax runs over the questions; it must run over the answers.": {"axis": 0},
    },
)
