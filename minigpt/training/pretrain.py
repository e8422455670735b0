"""A pre-training run from folders of books to the best checkpoint and a log."""

from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path

import torch
from tqdm import tqdm

from minigpt import OpenAIGPTConfig, OpenAIGPTLMHeadModel
from minigpt.hf.files import json_writer, save_files
from minigpt.pretraining import Recipe, perplexity, train
from minigpt.training.data import prepare

LOGGED = ("steps", "batch_size", "peak", "warmup")  # what `log.json` tells of the recipe


def pretrain(
    books: Path,  # folder of .txt files, one book each
    held_out: Path,  # the same, to measure with
    out: Path,  # folder for the checkpoint and everything on the way
    config: OpenAIGPTConfig,
    recipe: Recipe,
    measure_every: int = 1000,  # steps from one measurement to the next
    workers: int = 1,
    device: str | None = None,  # default: the GPU if there is one
    progress: bool = True,
) -> float:
    """Books in; the best checkpoint (float16) and `log.json` out. Returns its held-out perplexity.

    `config.vocab_size` is the size to learn; the model gets that of the vocabulary found in `out`.
    Sets the precision of float32 products on a GPU to TF32 for the whole process.
    """
    tokenizer, train_ids, val_ids = prepare(
        books, held_out, out, config.vocab_size, workers, progress
    )
    torch.set_float32_matmul_precision("high")
    torch.manual_seed(0)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = OpenAIGPTLMHeadModel(replace(config, vocab_size=len(tokenizer))).to(device)
    compiled = torch.compile(model) if device.startswith("cuda") else model
    losses, measured = [], {}  # step -> perplexity
    steps = train(model, train_ids, recipe, lambda batch: compiled(batch, labels=batch).loss)
    bar = tqdm(steps, "train", recipe.steps, unit="step", disable=not progress)
    for step, loss in enumerate(bar, 1):
        losses.append(loss)
        if step % 100 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}")
        if step % measure_every == 0 or step == recipe.steps:
            measured[step] = perplexity_of(model, val_ids)
            if measured[step] == min(measured.values()):
                deepcopy(model).half().save_pretrained(out)
            write_log(out, model.config, recipe, measured, losses)
    best = OpenAIGPTLMHeadModel.from_pretrained(out, dtype=torch.float32, device=device)
    return perplexity_of(best, val_ids)


def perplexity_of(model: OpenAIGPTLMHeadModel, ids: torch.Tensor) -> float:
    """Measure a model of the public class: see `perplexity`."""
    return perplexity(model, ids, lambda batch: model(batch, labels=batch).loss)


def write_log(out: Path, config, recipe: Recipe, measured: dict, losses: list) -> None:
    """Write `log.json`: config, recipe, perplexities and the loss of each step."""
    told = {name: value for name, value in asdict(recipe).items() if name in LOGGED}
    log = {"config": config.to_dict(), **told, "perplexity": measured}
    log["losses"] = [round(loss, 4) for loss in torch.stack(losses).tolist()]
    save_files(out, {"log.json": json_writer(log)})
