"""Pre-training where something goes wrong: signals, dead processes, full disks, damaged files."""

# fixtures are imported, and are arguments
# ruff: noqa: F401, F811

import json
import os
import shutil
import signal
import subprocess
import sys
import warnings
from dataclasses import replace

import pytest
import torch

from minigpt import OpenAIGPTLMHeadModel
from minigpt.training import checkpoints
from tests.faults.test_cli import heed_ctrl_c
from tests.test_training import RECIPE, column, library, start, whole

pytest.importorskip("spacy")  # an extra of the package
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")

DRIVER = """  # `minigpt`; in its first life, process RANK sends itself a signal at STEP
import os, signal, sys
import minigpt.training
from minigpt.__main__ import main

step, number, rank = map(int, sys.argv[1:4])
trainer = sys.modules["minigpt.training.pretrain"].Trainer
live, life = trainer.step, os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")

def dying(self, ids, n):
    if (n, self.processes.rank, life) == (step, rank, "0"):
        os.kill(os.getpid(), number)
    return live(self, ids, n)

trainer.step = dying
sys.argv[1:4] = []
main()
"""


def command(folder, out, recipe=RECIPE, *more) -> list[str]:
    places = [str(folder / name) for name in ("books", "held_out")] + [str(out)]
    shared = ["--tokenizer", str(folder / "tokenizer"), "--data", str(folder / "data")]
    toml = folder / "recipe.toml"
    toml.write_text(
        "".join(f"{x} = {json.dumps(y)}\n" for x, y in vars(recipe).items() if y is not None)
    )
    return ["pretrain", *places, *shared, "--config", str(toml), "--device", "cpu", *more]


def run(program: list[str], tmp_path, number: int, step: int, rank: int, words: list[str]):
    (tmp_path / "driver.py").write_text(DRIVER)
    words = [*program, str(tmp_path / "driver.py"), *map(str, (step, int(number), rank)), *words]
    threads = str(torch.get_num_threads())  # as here: sums of parts round differently
    env = os.environ | {"OMP_NUM_THREADS": threads, "PYTHONPATH": os.pathsep.join(sys.path)}
    how = {"capture_output": True, "text": True, "timeout": 300, "preexec_fn": heed_ctrl_c}
    return subprocess.run(words, env=env, **how)


ENDS = [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)]


@pytest.mark.parametrize("number, code", ENDS, ids=["KILL", "TERM", "INT"])
def test_a_run_that_a_signal_ends_goes_on_bit_for_bit(number, code, library, whole, tmp_path):
    out = tmp_path / "out"
    done = run([sys.executable], tmp_path, number, 5, 0, command(library, out, RECIPE, "--json"))
    assert done.returncode == code
    if number != signal.SIGKILL:
        said = (
            f"minigpt: stopped by {number.name} after step 6; the checkpoint of step 6 is in {out}"
        )
        assert f"{said}, --resume goes on from it" in done.stderr
        result = json.loads(done.stdout.splitlines()[-1])
        assert result.keys() == {*whole[1], "error"} and result["error"].startswith(said[9:])
        assert result["steps"] == 6 and str(result["loss"]) == column(whole[0])[5]
        assert (out / "checkpoints" / "step-00000006").is_dir() and len(column(out)) == 6
    start(library, out, resume=True)
    assert column(out) == column(whole[0])


# -- several processes

SEVERAL = replace(RECIPE, pdrop=0.0)
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]


@pytest.fixture(scope="module")
def alone(library, tmp_path_factory):
    out = tmp_path_factory.mktemp("alone") / "out"
    start(library, out, SEVERAL)
    return out


def compare(out, alone) -> None:
    for name in ("loss", "grad_norm"):
        found, expected = ([float(x) for x in column(place, name)] for place in (out, alone))
        assert found == pytest.approx(expected, rel=0, abs=1e-5)


def test_two_processes_do_what_one_does_and_one_goes_on_for_them(library, alone, tmp_path):
    out, recipe = tmp_path / "out", replace(SEVERAL, accumulate=2)
    done = run(TORCHRUN, tmp_path, signal.SIGKILL, 6, 1, command(library, out, recipe))
    assert done.returncode == 1 and "Signal 9 (SIGKILL) received" in done.stderr
    assert not list(out.rglob(".saving-*/config.json"))
    assert done.stderr.count("| 0/9 [00:00<?") == 1  # one of them shows a bar
    start(library, out, SEVERAL, resume=True)
    compare(out, alone)


def test_sharded_processes_do_it_too_and_torchrun_starts_them_again(library, alone, tmp_path):
    words = command(library, tmp_path / "out", SEVERAL, "--fsdp", "--json")
    program = [*TORCHRUN, "--max-restarts=1"]
    done = run(program, tmp_path, signal.SIGKILL, 6, 1, words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["steps"] == 9
    compare(tmp_path / "out", alone)
    OpenAIGPTLMHeadModel.from_pretrained(tmp_path / "out")


MANY_ENDS = """
import os, torch
from minigpt.training.processes import Processes

def begin_and_end(number):
    os.environ["TORCHELASTIC_RESTART_COUNT"] = str(number)  # addresses of its own
    processes = Processes("cpu")
    with processes.together():
        model = processes.wrap(torch.nn.Linear(50, 50), shard=False)
        model(torch.ones(2, 50)).sum().backward()

for number in range(20):
    begin_and_end(number)
"""


def test_processes_do_not_hang_when_they_end(tmp_path):
    (tmp_path / "ends.py").write_text(MANY_ENDS, encoding="utf-8")
    subprocess.run([*TORCHRUN, tmp_path / "ends.py"], check=True, timeout=90)


# -- disks


def flip(path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "a bit of the weights": lambda path: flip(path / "model.safetensors"),
    "a bit of the optimizer": lambda path: flip(path / "training.pt"),
    "half a file": lambda path: os.truncate(path / "training.pt", 1000),
    "a lost file": lambda path: (path / "model.safetensors").unlink(),
    "a lost list": lambda path: (path / "sha256.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(damage, library, whole, tmp_path):
    out = tmp_path / "out"
    start(library, out)
    DAMAGE[damage](out / "checkpoints" / "step-00000009")
    with pytest.warns(UserWarning, match="step-00000009 is damaged .*on from step-00000008"):
        start(library, out, resume=True)
    assert column(out) == column(whole[0])
    with warnings.catch_warnings(action="error"):  # it has been written anew
        assert checkpoints.Checkpoints(out / "checkpoints").load()[1]["step"] == 9


def test_a_run_whose_checkpoints_are_all_damaged_is_refused(library, whole, tmp_path):
    out = shutil.copytree(whole[0], tmp_path / "out")
    for path in (out / "checkpoints").iterdir():
        flip(path / "training.pt")
    before = (out / "log.csv").read_bytes()
    with pytest.raises(ValueError, match="step-00000009 is damaged .*nothing sound .* new folder"):
        start(library, out, resume=True)
    assert (out / "log.csv").read_bytes() == before


def test_other_folders_among_the_checkpoints_are_left_alone(library, whole, tmp_path):
    out = shutil.copytree(whole[0], tmp_path / "out")
    for name in ("step-00000xyz", "step-", "step-00000009.old"):
        (out / "checkpoints" / name).mkdir()
    assert start(library, out, resume=True)["steps"] == 9
    assert (out / "checkpoints" / "step-00000xyz").is_dir()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a full disk, as Linux has it")
def test_a_log_that_cannot_be_cut_is_named(library, whole, tmp_path):
    out = shutil.copytree(whole[0], tmp_path / "out")
    (out / "log.unfinished").symlink_to("/dev/full")
    with pytest.raises(OSError, match="log.csv could not be saved .*No space left.*--resume"):
        start(library, out, resume=True)
    assert (out / "log.csv").read_bytes() == (whole[0] / "log.csv").read_bytes()


def test_a_disk_that_is_full_for_a_while_is_a_warning(library, whole, tmp_path, monkeypatch):
    out, save = tmp_path / "out", checkpoints.save_model

    def failing(model, folder, **options):
        if (out / "checkpoints" / "step-00000003").exists() and len(column(out)) < 8:
            raise OSError(28, "No space left on device")
        return save(model, folder, **options)

    monkeypatch.setattr(checkpoints, "save_model", failing)
    with pytest.warns(UserWarning, match="No space left on device.*; going on; .* step 3 is in"):
        start(library, out)
    assert column(out) == column(whole[0])
    names = sorted(path.name for path in (out / "checkpoints").iterdir())
    assert names == ["step-00000003", "step-00000008", "step-00000009"]


def test_a_disk_may_be_full_before_the_first_step(library, tmp_path, monkeypatch):
    module, calls = sys.modules["minigpt.training.pretrain"], iter(range(10))
    save = module.save_model

    def failing(*args, **options):
        if next(calls) == 0:
            raise OSError(28, "No space left on device")
        return save(*args, **options)

    monkeypatch.setattr(module, "save_model", failing)
    recipe = replace(RECIPE, save_every=2, measure_every=100)
    with pytest.warns(UserWarning, match="No space left on device.*; going on; .* no checkpoint"):
        assert start(library, tmp_path / "out", recipe)["steps"] == RECIPE.steps


def test_a_disk_that_stays_full_fails_the_run_which_can_go_on(
    library, whole, tmp_path, monkeypatch
):
    def full(state, path):
        path.write_bytes(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file")

    out = tmp_path / "out"
    monkeypatch.setattr(checkpoints.torch, "save", full)
    with pytest.raises(OSError, match="could not be saved .* has no checkpoint yet"):
        with pytest.warns(UserWarning, match="going on"):
            start(library, out)
    assert list((out / "checkpoints").iterdir()) == []
    monkeypatch.undo()
    start(library, out, resume=True)
    assert column(out) == column(whole[0])


def test_a_log_that_cannot_be_written_is_named(library, tmp_path, monkeypatch):
    out = tmp_path / "out"
    save = checkpoints.save_model
    monkeypatch.setattr(
        checkpoints,
        "save_model",
        lambda *x, **y: (save(*x, **y), (out / "log.csv").unlink(), (out / "log.csv").mkdir()),
    )
    with pytest.raises(OSError, match="log.csv could not be saved .* go on with --resume"):
        start(library, out)
