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


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(folder: Path) -> None:
    """Write the SHA-256 of each file of a folder beside them."""
    save_files(folder, {SUMS: json_writer({path.name: digest(path) for path in folder.iterdir()})})


def check_seal(folder: Path) -> None:
    """Raise ValueError or FileNotFoundError, naming it, for a file that is not as it was sealed."""
    for name, promised in read_json(folder / SUMS).items():
        if digest(folder / name) != promised:
            raise ValueError(f"{folder / name} has changed since it was written")


class Checkpoints:
    """The folders `step-00001000` below `folder`: each a model, and in `training.pt` the rest."""

    def __init__(self, folder: Path):
        self.folder = folder

    def paths(self) -> list[Path]:
        """List the checkpoints, the last one first."""
        return sorted(self.folder.glob("step-" + 8 * "[0-9]"), reverse=True)

    def save(self, step: int, model, weights: Mapping[str, Tensor], state: dict) -> None:
        """Write the checkpoint of a step under another name, then rename it.

        `model` tells config and class alone. Raises OSError where there is no room.
        """
        with unfinished_folder(self.folder) as new:
            save_model(model, new, state_dict=weights, more={STATE: lambda p: torch.save(state, p)})
            seal(new)
            final = self.folder / f"step-{step:08}"
            if final.exists():  # damaged, or the run would have gone on there
                shutil.rmtree(final)
            os.replace(new, final)

    def prune(self, keep: int, best: int | None) -> None:
        """Remove all but the last `keep` checkpoints and the one of step `best`."""
        for path in self.paths()[keep:]:
            if int(path.name[5:]) != best:
                shutil.rmtree(path, ignore_errors=True)

    def load(self) -> tuple[dict, dict] | None:
        """Return weights and state of the newest sound checkpoint; None where none was written.

        Warns of damaged ones. Raises ValueError if all are.
        """
        damaged = ""
        for path in self.paths():
            try:
                check_seal(path)
                state = torch.load(path / STATE, map_location="cpu", weights_only=True)
                weights = OpenAIGPTLMHeadModel.from_pretrained(path).state_dict()
            except Exception as error:  # damaged files can raise any
                damaged += f"the checkpoint {path} is damaged ({error!s:.200}); "
                continue
            if damaged:
                warnings.warn(f"{damaged}going on from {path.name}", stacklevel=2)
            return weights, state
        if damaged:
            raise ValueError(f"{damaged}nothing sound to go on from; pass a new folder")
        return None
