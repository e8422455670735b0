"""Checkpoints: written whole or not at all; the newest sound one is read, old ones removed."""

import hashlib
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from minigpt import OpenAIGPTLMHeadModel
from minigpt.hf.files import json_writer, read_json, save_files, unfinished_folder
from minigpt.hf.loading import save_model

STATE, SUMS = "training.pt", "sha256.json"


def digests(folder: Path) -> dict[str, str]:
    """Compute the SHA-256 of each file of a folder."""
    found = {}
    for path in folder.iterdir():
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def seal(folder: Path) -> None:
    """Write the digests of a folder's files beside them."""
    save_files(folder, {SUMS: json_writer(digests(folder))})


def check_seal(folder: Path) -> None:
    """Raise ValueError or FileNotFoundError, naming it, for a file that is not as it was sealed."""
    found = digests(folder)
    for name, digest in read_json(folder / SUMS).items():
        if found.get(name) != digest:
            raise ValueError(f"{folder / name} has changed since it was written")


class Checkpoints:
    """The folders `step-00001000` below `folder`: each a model, and in `training.pt` the rest."""

    def __init__(self, folder: Path):
        self.folder = folder

    def steps(self) -> list[int]:
        """Return the steps of which there is a checkpoint, the last one first."""
        found = [path.name[5:] for path in self.folder.glob("step-*")]
        return sorted((int(name) for name in found if name.isdecimal()), reverse=True)

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:08}"

    def save(self, step: int, model, weights: Mapping[str, Tensor], state: dict) -> None:
        """Write the checkpoint of a step under another name, then rename it.

        `model` tells config and class alone. Raises OSError where there is no room.
        """
        with unfinished_folder(self.folder) as new:
            save_model(model, new, state_dict=weights, more={STATE: lambda p: torch.save(state, p)})
            seal(new)
            if (final := self.path(step)).exists():  # damaged, or the run would have gone on there
                shutil.rmtree(final)
            os.replace(new, final)

    def prune(self, keep: int, best: int | None) -> None:
        """Remove all but the last `keep` checkpoints and the one of step `best`."""
        for step in self.steps()[keep:]:
            if step != best:
                shutil.rmtree(self.path(step), ignore_errors=True)

    def load(self) -> tuple[dict, dict] | None:
        """Return weights and state of the newest sound checkpoint; None where none was written.

        Warns of damaged ones. Raises ValueError if all are.
        """
        damaged = ""
        for step in self.steps():
            path = self.path(step)
            try:
                check_seal(path)
                state = torch.load(path / STATE, map_location="cpu", weights_only=True)
                weights = OpenAIGPTLMHeadModel.from_pretrained(path).state_dict()
            except Exception as error:  # damaged files can raise any
                damaged += f"the checkpoint {path} is damaged ({error!s:.200}); "
                continue
            if damaged:
                warnings.warn(f"{damaged}going on from step {step}", stacklevel=2)
            return weights, state
        if damaged:
            raise ValueError(f"{damaged}nothing sound to go on from; pass a new folder")
        return None
