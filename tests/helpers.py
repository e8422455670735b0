"""How far minigpt is from the references: tests bound these numbers, `make demo` prints them."""

import json
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from packaging.version import Version

import minigpt
from minigpt import OpenAIGPTConfig, OpenAIGPTLMHeadModel, OpenAIGPTTokenizer

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "minigpt" / "assets" / "golden"
NAMED = os.environ.get("MINIGPT_OFFICIAL_DIR")
OFFICIAL = Path(NAMED) if NAMED else ROOT.parent / "shared" / "openai-gpt"
if NAMED and not OFFICIAL.is_dir():
    raise FileNotFoundError(f"MINIGPT_OFFICIAL_DIR={NAMED} is no folder; mend it or unset it")
NO_OFFICIAL = "not checked: no official vocabulary (MINIGPT_OFFICIAL_DIR names no folder)"


def has_transformers(least: str) -> bool:
    """Say whether transformers is installed, in this version or a later one."""
    try:
        return Version(version("transformers")) >= Version(least)
    except PackageNotFoundError:
        return False


def largest_difference(ours: torch.Tensor, theirs) -> float:
    theirs = torch.as_tensor(theirs)
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    difference = (ours - theirs).abs().max().item()
    return float("inf") if difference != difference else difference  # NaN never passes


def openai_model(golden, **overrides) -> OpenAIGPTLMHeadModel:
    """The golden weights, from the release format, with rows for the special tokens appended."""
    hparams = json.loads((GOLDEN / "hparams.json").read_text(encoding="utf-8"))
    model = OpenAIGPTLMHeadModel.from_pretrained(
        GOLDEN / "model", n_head=hparams["n_head"], **overrides
    )
    rows = torch.cat([model.transformer.tokens_embed.weight.data, torch.tensor(golden["special"])])
    model.transformer.tokens_embed.weight = model.lm_head.weight = torch.nn.Parameter(rows)
    return model


@torch.no_grad()
def openai_differences(**overrides) -> dict[str, float]:
    """Largest absolute difference from OpenAI's own code: embedding, hidden states, logits."""
    golden = np.load(GOLDEN / "golden.npz")
    model = openai_model(golden, **overrides)
    rows = len(
        model.transformer.tokens_embed.weight
    )  # token and special rows; behind them lie the position rows
    places = (
        torch.tensor(golden["X"]).long().flatten(0, 1)
    )  # (examples, choices, T, 2) -> (B, T, 2)
    out = model(places[..., 0], position_ids=places[..., 1] - rows, output_hidden_states=True)
    names = ["embedding", *(f"hidden_{layer}" for layer in range(model.config.n_layer))]
    pairs = dict(zip(names, out.hidden_states, strict=True))
    differences = {name: largest_difference(ours, golden[name]) for name, ours in pairs.items()}
    return differences | {
        "lm_logits": largest_difference(out.logits, golden["lm_logits"][..., :rows])
    }


def random_pair(seed: int = 0, kind: str = "OpenAIGPTLMHeadModel", **sizes):
    """A GPT-1 of transformers with random weights, and ours with the same, both in eval mode."""
    import transformers

    transformers.utils.logging.set_verbosity_error()

    sizes = {"vocab_size": 211, "n_positions": 48, "n_embd": 64, "n_layer": 3, "n_head": 4} | sizes
    runtime = {name: sizes.pop(name) for name in ("attn_implementation",) if name in sizes}
    torch.manual_seed(seed)
    theirs = getattr(transformers, kind)(transformers.OpenAIGPTConfig(**sizes)).eval()
    for parameter in theirs.parameters():  # every bias and gain away from its starting value
        parameter.data.add_(torch.randn_like(parameter) * 0.05)
    ours = getattr(minigpt, kind)(OpenAIGPTConfig(**sizes, **runtime)).eval()
    ours.load_state_dict(
        {name: value for name, value in theirs.state_dict().items() if name in ours.state_dict()}
    )
    return theirs, ours


def padded(side: str, lengths: tuple[int, ...], T: int) -> torch.Tensor:
    """An attention mask (B, T) for texts of these lengths, with the padding on one side."""
    places = torch.arange(T).expand(len(lengths), T)
    lengths = torch.tensor(lengths)[:, None]
    return (places < lengths if side == "right" else places >= T - lengths).long()


def transformers_differences() -> dict[str, float]:
    """Largest absolute difference from transformers, same random weights and inputs.

    Of hidden states, attention weights, logits and loss, and relative ones of the gradients.
    """
    theirs, ours = random_pair()
    ids, flags = torch.randint(211, (3, 40)), ("output_hidden_states", "output_attentions")
    out, expected = (m(ids, labels=ids, **dict.fromkeys(flags, True)) for m in (ours, theirs))
    (out.loss + expected.loss).backward()
    found = {"gradients": gradient_difference(ours, theirs)}
    for name, x in out.items():
        pair = (x, expected[name]) if isinstance(x, tuple) else ((x,), (expected[name],))
        found[name] = max(map(largest_difference, *pair))
    return found


def gradient_difference(ours, theirs) -> float:
    """Largest difference of two models' gradients, relative to the largest of each parameter.

    One that is zero up to rounding everywhere is compared with the others' size.
    """
    expected = {name: x.grad for name, x in theirs.named_parameters() if x.grad is not None}
    found = {name: x.grad for name, x in ours.named_parameters() if x.grad is not None}
    assert found and found.keys() == expected.keys(), found.keys() ^ expected.keys()
    sizes = {name: grad.abs().max().item() for name, grad in expected.items()}
    least = max(sizes.values()) / 1000 or 1
    return max(
        largest_difference(grad, expected[name]) / max(sizes[name], least)
        for name, grad in found.items()
    )


def tokenizer_agreement(pipeline: str = "original", kind=OpenAIGPTTokenizer) -> tuple[int, int]:
    """On how many of the golden strings our ids are those of the reference: (agreeing, in all)."""
    cases = json.loads((GOLDEN / f"tokenizer_{pipeline}.json").read_text(encoding="utf-8"))["cases"]
    tokenizer = kind.from_pretrained(OFFICIAL, text_pipeline=pipeline)
    return sum(tokenizer.encode(case["text"]) == case["ids"] for case in cases), len(cases)


def lively_pair(**sizes):
    """A random pair that does not repeat one token for ever: blocks and positions weigh more.

    In float64, so that no other machine's rounding decides between two tokens.
    """
    small = {"vocab_size": 31, "n_embd": 32, "n_layer": 2, "initializer_range": 0.3}
    pair = random_pair(**small | sizes)
    for model in pair:
        model.transformer.positions_embed.weight.data.mul_(3)
        for weight in model.transformer.h.parameters():
            weight.data.mul_(8 if weight.ndim == 2 else 1)
    return [model.double() for model in pair]
