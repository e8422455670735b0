"""Checkpoints: written whole or not at all; the newest sound one is read, old ones removed."""

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from minigpt import OpenAIGPTLMHeadModel
from minigpt.hf.files import read_json, unfinished_folder
from minigpt.hf.loading import save_model

STATE, SUMS = "training.pt", "sha256.json"


def digests(folder: Path) -> dict[str, str]:
    """Compute the SHA-256 of each file of a folder."""
    found = {}
    for path in folder.iterdir():
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


class Checkpoints:
    """The folders `step-00001000` below `folder`: each a model, and in `training.pt` the rest."""

    def __init__(self, folder: Path):
        self.folder = folder

    def steps(self) -> list[int]:
        """Return the steps of which there is a checkpoint, the last one first."""
        return sorted(
            (int(path.name[5:]) for path in self.folder.glob("step-????????")), reverse=True
        )

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:08}"

    def save(self, step: int, model, weights: Mapping[str, Tensor], state: dict) -> None:
        """Write the checkpoint of a step under another name, then rename it.

        `model` tells config and class alone. Raises OSError where there is no room.
        """
        with unfinished_folder(self.folder) as new:
            save_model(model, new, state_dict=weights, more={STATE: lambda p: torch.save(state, p)})
            (new / SUMS).write_text(json.dumps(digests(new)), encoding="utf-8")
            if (final := self.path(step)).exists():  # damaged, or the run would have gone on there
                shutil.rmtree(final)
            os.replace(new, final)

    def prune(self, keep: int, best: int | None) -> None:
        """Remove all but the last `keep` checkpoints and the one of step `best`."""
        for step in self.steps()[keep:]:
            if step != best:
                shutil.rmtree(self.path(step), ignore_errors=True)

    def load(self) -> tuple[dict, dict] | None:
        """Return weights and state of the newest sound checkpoint; None where there is none.

        Warns of each damaged one.
        """
        for step in self.steps():
            path = self.path(step)
            try:
                found = digests(path)
                if (promised := read_json(path / SUMS)) != {x: found.get(x) for x in promised}:
                    raise ValueError("a file has changed since it was written")
                state = torch.load(path / STATE, map_location="cpu", weights_only=True)
                return OpenAIGPTLMHeadModel.from_pretrained(path).state_dict(), state
            except Exception as error:  # damaged files can raise any
                what = f"the checkpoint {path} is damaged ({error!s:.200})"
                warnings.warn(f"{what}; trying the one before", stacklevel=2)
        return None
