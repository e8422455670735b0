"""How far minigpt is from the references: tests bound these numbers, `make demo` prints them."""

import json
import os
from pathlib import Path

import numpy as np
import torch

from minigpt import OpenAIGPTConfig, OpenAIGPTLMHeadModel, OpenAIGPTTokenizer

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
NAMED = os.environ.get("MINIGPT_OFFICIAL_DIR")
OFFICIAL = Path(NAMED) if NAMED else ROOT.parent / "shared" / "openai-gpt"
if NAMED and not OFFICIAL.is_dir():
    raise FileNotFoundError(f"MINIGPT_OFFICIAL_DIR={NAMED} is no folder; mend it or unset it")
NO_OFFICIAL = "not checked: no official vocabulary (MINIGPT_OFFICIAL_DIR names no folder)"


def largest_difference(ours: torch.Tensor, theirs) -> float:
    theirs = torch.as_tensor(theirs)
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    difference = (ours - theirs).abs().max().item()
    return float("inf") if difference != difference else difference  # NaN never passes


def openai_model(golden, **overrides) -> OpenAIGPTLMHeadModel:
    """The golden weights, from the release format, with rows for the special tokens appended."""
    hparams = json.loads((GOLDEN / "hparams.json").read_text())
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


def random_pair(seed: int = 0, **sizes):
    """A GPT-1 of transformers with random weights, and ours with the same, both in eval mode."""
    import transformers

    transformers.utils.logging.set_verbosity_error()

    sizes = {"vocab_size": 211, "n_positions": 48, "n_embd": 64, "n_layer": 3, "n_head": 4} | sizes
    runtime = {name: sizes.pop(name) for name in ("attn_implementation",) if name in sizes}
    torch.manual_seed(seed)
    theirs = transformers.OpenAIGPTLMHeadModel(transformers.OpenAIGPTConfig(**sizes)).eval()
    for parameter in theirs.parameters():  # every bias and gain away from its starting value
        parameter.data.add_(torch.randn_like(parameter) * 0.05)
    ours = OpenAIGPTLMHeadModel(OpenAIGPTConfig(**sizes, **runtime)).eval()
    ours.load_state_dict(
        {name: value for name, value in theirs.state_dict().items() if name in ours.state_dict()}
    )
    return theirs, ours


@torch.no_grad()
def transformers_differences(**sizes) -> dict[str, float]:
    """Largest absolute difference from transformers, same random weights: layers, logits, loss."""
    theirs, ours = random_pair(**sizes)
    ids = torch.randint(ours.config.vocab_size, (3, 40))
    out_theirs = theirs(ids, labels=ids, output_hidden_states=True)
    out = ours(ids, labels=ids, output_hidden_states=True)
    layers = zip(out.hidden_states, out_theirs.hidden_states, strict=True)
    differences = {f"hidden_{i}": largest_difference(a, b) for i, (a, b) in enumerate(layers)}
    differences["logits"] = largest_difference(out.logits, out_theirs.logits)
    return differences | {"loss": largest_difference(out.loss, out_theirs.loss)}


def tokenizer_agreement(pipeline: str = "original", kind=OpenAIGPTTokenizer) -> tuple[int, int]:
    """On how many of the golden strings our ids are those of the reference: (agreeing, in all)."""
    cases = json.loads((GOLDEN / f"tokenizer_{pipeline}.json").read_text(encoding="utf-8"))["cases"]
    tokenizer = kind.from_pretrained(OFFICIAL, text_pipeline=pipeline)
    return sum(tokenizer.encode(case["text"]) == case["ids"] for case in cases), len(cases)
