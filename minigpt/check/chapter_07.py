"""The exercises of chapter 07, the language model head."""

import re
from functools import partial
from itertools import product
from math import log

import torch
import torch.nn.functional as F
from torch import nn

from ..block import Block
from ..config import GPTConfig
from ..model import GPT
from .compare import Check, some

__all__ = ["answer_labels", "own_gpt", "perplexity_by_hand", "token_loss"]

PROBABILITIES = 1 / 2, 1 / 8, 1 / 4, 1 / 4
IDS = torch.tensor([[3, 1, 4, 1, 5], [2, 6, 5, 3, 0]])

perplexity_by_hand = Check(
    lambda: 4.0,
    mistakes={
        "This is the loss; the perplexity is e to the power of it.": log(4),
        "This is the loss in bits; the perplexity is 2 to the power of it.": 2.0,
        "Take the mean of the logarithms: four predictions, so the fourth root.": 256.0,
        "There are four predictions: no position predicts the first token.": 256 ** (1 / 5),
        "This is 1 / the mean probability; take the mean of logarithms.": 4 / sum(PROBABILITIES),
        "Perplexity is 1 divided by a probability, so at least 1.": 1 / 4,
    },
)


def mean_loss(logits, ids, first=1, sign=1, reduce=torch.mean, logs=F.log_softmax, dim=-1):
    """Return the loss of predicting ids; the options make the mistakes."""
    steps = logits.shape[1] - abs(first)
    rows = logs(logits[:, max(-first, 0) :][:, :steps], dim=dim)
    return -sign * reduce(rows.gather(-1, ids[:, max(first, 0) :][:, :steps, None]))


token_loss = Check(
    mean_loss,
    [(some(2, 5, 7), IDS)],
    {
        "The labels are not shifted: position t predicts token t + 1.": {"first": 0},
        "The labels are shifted the wrong way: t predicts t + 1, not t - 1.": {"first": -1},
        "The sign is wrong: a loss is minus the logarithm.": {"sign": -1},
        "This is the sum; the loss is the mean over all predictions.": {"reduce": torch.sum},
        "A text has T - 1 predictions, not T.": {"reduce": lambda x: x.sum() / IDS.numel()},
        "The scores are used without the softmax.": {"logs": lambda x, dim: x},
        "The logarithm is missing.": {"logs": F.softmax},
        "The softmax runs over the positions; it must run over the vocabulary.": {"dim": 1},
    },
)


def mark_answers(ids, lengths, more=0, value=-100, answers=True, shifted=False, n=None):
    """Return ids with -100 for the questions; the options make the mistakes."""
    asked = torch.arange(ids.shape[1]).expand_as(ids) < lengths[:n, None] + more
    labels = ids.masked_fill(asked if answers else ~asked, value)
    return F.pad(labels[:, 1:], (0, 1), value=-100) if shifted else labels


answer_labels = Check(
    mark_answers,
    [(IDS, torch.tensor([2, 3])), (IDS, torch.tensor([4, 0]))],
    {
        "The answers are left out, not the questions.": {"answers": False},
        "The labels are shifted here, and once more in next_token_loss.": {"shifted": True},
        "The first token of the answer is left out; it is predicted, too.": {"more": 1},
        "The last token of the question counts.": {"more": -1},
        "0 is the id of a token; -100 means that a label does not count.": {"value": 0},
        "The questions have different lengths.": {"n": 1},
    },
)


def pre_norm(block, x, *_):
    x = x + block.attn(block.ln_1(x))[0]
    return x + block.mlp(block.ln_2(x)), None


def no_addition(block, x, *_):
    return block.ln_2(block.mlp(block.ln_1(block.attn(x)[0]))), None


def exchanged(name):
    return re.sub("ln_.", lambda norm: "ln_2" if norm[0] == "ln_1" else "ln_1", name)


@torch.no_grad()
def network(ids, weights, layers, heads, block=Block.forward, moved=1, head=1, name=str, **parts):
    """Return logits from a checkpoint's parameters; the options make the mistakes."""
    rows, places = weights["tokens_embed.weight"], weights["positions_embed.weight"]
    config = GPTConfig(vocab_size=len(rows), n_positions=len(places), n_embd=rows.shape[1])
    config.n_layer, config.n_head = layers, heads
    model = GPT(config).eval()
    weights = weights | {"positions_embed.weight": moved * places}
    model.load_state_dict({key: weights[name(key)] for key in weights})
    for (path, part), layer in product(parts.items(), model.h):
        owner, _, last = path.rpartition(".")
        setattr(layer.get_submodule(owner), last, part)  # another part in the place of its own
    x = model(ids, blocks=[partial(block, layer) for layer in model.h])
    return x @ rows.T if head else x


def small_checkpoint(seed, n_layer, n_head):
    """Return ids and large random parameters, so that each mistake can be seen."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = GPTConfig(vocab_size=7, n_positions=6, n_embd=8, n_layer=n_layer, n_head=n_head)
        weights = {name: torch.randn_like(x) for name, x in GPT(config).state_dict().items()}
    return IDS, weights, n_layer, n_head


own_gpt = Check(
    network,
    [small_checkpoint(0, 2, 2), small_checkpoint(1, 1, 4)],
    {
        "These are the hidden states: line 3 of the paper, the head, is missing.": {"head": False},
        "These are probabilities, not logits.": lambda *case: network(*case).softmax(-1),
        "Every position predicts, not only the last one.": lambda *case: network(*case)[:, -1],
        "The position embedding is missing.": {"moved": 0},
        "The layer norms stand after the additions in GPT-1, not before.": {"block": pre_norm},
        "The layer norms are missing.": {"ln_1": nn.Identity(), "ln_2": nn.Identity()},
        "ln_1 and ln_2 are exchanged: ln_1 comes after attention.": {"name": exchanged},
        "c_proj of the attention is missing.": {"attn.c_proj": nn.Identity()},
        "The residual connections are missing: add what went in.": {"block": no_addition},
        "This is GELU with erf; GPT-1 has the tanh form.": {"mlp.act": F.gelu},
        "All blocks use the parameters of block 0.": {"name": partial(re.sub, r"^h\.\d+", "h.0")},
        "The heads are not separated.": lambda ids, weights, n, _: network(ids, weights, n, 1),
    },
)
