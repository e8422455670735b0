"""Damaged and hostile files of a checkpoint, and saves that are cut off or overtaken."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from minigpt.hf.configuration import OpenAIGPTConfig
from minigpt.hf.formats import open_file, open_weights
from minigpt.hf.loading import convert
from minigpt.hf.models import OpenAIGPTLMHeadModel, OpenAIGPTModel
from tests.checkpoints import RELEASE, SMALL, same, small_model

# -- damaged files


@pytest.mark.parametrize(
    "to, name",
    [
        *(("safetensors", "model.safetensors"), ("openai", "params_3.npy")),
        *(("bin", "pytorch_model.bin"), ("legacy", "pytorch_model.bin")),
    ],
)
def test_a_file_cut_short_is_named(tmp_path, to, name):
    model = small_model(tmp_path / "0")
    if to == "legacy":
        path = tmp_path / "0" / name
        torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False)
        (tmp_path / "0" / "model.safetensors").unlink()
    else:
        convert(tmp_path / "0", tmp_path / "1", to)
        path = tmp_path / "1" / name
    open_weights(path.parent)
    whole = path.read_bytes()
    for size in {0, 7, 8, 100, 128, 200, *range(0, len(whole), 997), len(whole) - 1}:
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=name):
            open_weights(path.parent)


def test_a_flipped_bit_of_a_header_is_noticed_or_harmless(tmp_path):
    model = small_model(tmp_path, n_layer=1)
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    bits = 8 * (8 + int.from_bytes(whole[:8], "little"))
    random.seed(0)
    for bit in [*range(64), *random.sample(range(64, bits), 150)]:
        broken = bytearray(whole)
        broken[bit // 8] ^= 1 << bit % 8
        path.write_bytes(broken)
        try:
            again = OpenAIGPTLMHeadModel.from_pretrained(tmp_path)
        except ValueError:
            continue
        assert same(again, model)  # only metadata may have changed


@pytest.mark.parametrize("weights", [{}, {"h.0.ln_1.bias": torch.ones(8, dtype=torch.int32)}])
def test_a_file_without_weights_is_named(tmp_path, weights):
    model = small_model(tmp_path, OpenAIGPTModel)
    save_file(weights and model.state_dict() | weights, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="lacks h.1.ln_1.weight|h.0.ln_1.bias holds no floats"):
        OpenAIGPTModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_weights_that_may_not_be_read_are_not_called_missing(tmp_path, name):
    (tmp_path / name).mkdir()  # the tests may run as root, who may read all
    with pytest.raises((OSError, ValueError), match=name):
        open_file(tmp_path / name)


@pytest.mark.parametrize(
    "index, wrong",
    [
        ("[]", "index.json: expected a JSON dict"),
        ('{"weight_map": ', "index.json: Expecting value: line 1"),
        ('{"weight_map": {"h.0.ln_1.bias": 7}}', "7 is not a file in the same folder"),
        (
            '{"weight_map": {"h.0.ln_1.bias": "../model.safetensors"}}',
            "is not a file in the same folder",
        ),
        ('{"weight_map": {"h.0.ln_1.bias": "/etc/passwd"}}', "is not a file in the same folder"),
        ('{"weight_map": {"h.0.ln_1.bias": ".."}}', "holds none of .."),
        ('{"weight_map": {"h.0.ln_9.bias": "one.safetensors"}}', "index.json .*h.0.ln_9.bias"),
        ('{"weight_map": {"h.0.ln_1.bias": "two.safetensors"}}', "holds none of two.safetensors"),
    ],
)
def test_a_bad_index_is_named(tmp_path, index, wrong):
    small_model(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "one.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises((ValueError, FileNotFoundError), match=wrong):
        OpenAIGPTModel.from_pretrained(tmp_path)


# -- pickles


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_wants_to_run_does_not(tmp_path, zipped):
    OpenAIGPTConfig(**SMALL).save_pretrained(tmp_path)
    trap, path = Trap(str(tmp_path / "sprung")), tmp_path / "pytorch_model.bin"
    torch.save({"h.0.ln_1.bias": trap}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match="pytorch_model.bin: is damaged, or .* not loaded"):
        OpenAIGPTModel.from_pretrained(tmp_path)
    assert not (tmp_path / "sprung").exists()
    torch.load(path, weights_only=False)  # it is a trap: those who trust it spring it
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "contents",
    [
        [torch.ones(2)],
        {0: torch.ones(2)},
        {"x": {"y": torch.ones(2)}},
        {"h.0": torch.eye(3).to_sparse()},
        {"h.0": torch.ones(3, device="meta")},
    ],
)
def test_a_pickle_of_something_else_is_named(tmp_path, contents):
    path = tmp_path / "pytorch_model.bin"
    torch.save(contents, path)
    with pytest.raises(ValueError, match="pytorch_model.bin is damaged or has unexpected"):
        open_file(path)


# -- OpenAI's release


def test_parts_of_a_release_that_do_not_fit_are_named(tmp_path):
    shutil.copytree(RELEASE, tmp_path / "0")
    part = tmp_path / "0" / "params_3.npy"
    whole = np.load(part)
    for wrong in (whole.astype(np.int32), whole[None], np.array([Trap("x")], dtype=object)):
        np.save(part, wrong)
        with pytest.raises(ValueError, match="params_3.npy"):
            open_weights(tmp_path / "0")
    np.save(part, np.concatenate([whole, whole]))
    with pytest.raises(ValueError, match="params_shapes.json"):
        open_weights(tmp_path / "0")
    part.rename(tmp_path / "0" / "params_44.npy")
    with pytest.raises(FileNotFoundError, match="none of params_3.npy"):
        OpenAIGPTModel.from_pretrained(tmp_path / "0", n_head=4)


@pytest.mark.parametrize("text", ["[]", "[7, 8]", '[["a"]]', "{", "[[0, 3], [4, 5]]"])
def test_shapes_of_a_release_that_are_none_are_named(tmp_path, text):
    (tmp_path / "params_shapes.json").write_text(text)
    with pytest.raises(ValueError, match="params_shapes.json"):
        OpenAIGPTModel.from_pretrained(tmp_path, n_head=4)


# -- other files


def test_bad_settings_of_generation_are_named_with_their_file(tmp_path):
    small_model(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"top_p": Infinity}')
    with pytest.raises(ValueError, match="^" + re.escape(str(tmp_path / "generation_config.json"))):
        OpenAIGPTLMHeadModel.from_pretrained(tmp_path)


# -- saves that fail


@pytest.mark.parametrize("size", ["50GB", "1KB"])
def test_a_full_disk_leaves_what_was_there(tmp_path, size):
    resource = pytest.importorskip("resource", reason="only POSIX can limit the size of a file")
    small_model(tmp_path)
    other = OpenAIGPTLMHeadModel(OpenAIGPTConfig(**SMALL))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (800, hard))  # no file may grow beyond
    try:
        with pytest.raises(OSError, match="could not be saved .*make room"):
            other.save_pretrained(tmp_path, max_shard_size=size)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_ctrl_c_while_files_are_written_leaves_none(tmp_path, monkeypatch):
    monkeypatch.setattr("minigpt.hf.formats.write_tensors", lambda *_: signal.raise_signal(2))
    with pytest.raises(KeyboardInterrupt):
        convert("tiny", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change", range(0, 36, 4))
def test_a_save_cut_off_anywhere_leaves_the_old_model_the_new_one_or_none(
    tmp_path, monkeypatch, change
):
    small_model(tmp_path, n_head=2).save_pretrained(tmp_path, max_shard_size="2KB")
    model, left = (
        OpenAIGPTLMHeadModel(OpenAIGPTConfig(**SMALL | {"n_head": 4})),
        list(range(change)),
    )
    [x.data.fill_(7) for x in model.parameters()]

    def until_it_dies(function, *arguments, **options):
        left.pop()  # then nothing is changed, as little as after SIGKILL
        return function(*arguments, **options)

    for name in ("replace", "unlink"):
        monkeypatch.setattr(os, name, partial(until_it_dies, getattr(os, name)))
    with suppress(IndexError):
        model.save_pretrained(tmp_path, max_shard_size="2KB")
    try:
        found = OpenAIGPTLMHeadModel.from_pretrained(tmp_path)
    except FileNotFoundError as error:
        assert change and "config.json" in str(error)
    else:
        values = {bool((x == 7).all()) for x in found.parameters()}
        assert values == {found.config.n_head == 4}


SAVE_AGAIN_AND_AGAIN = """
    import os, sys, time
    from minigpt.hf.configuration import OpenAIGPTConfig
    from minigpt.hf.models import OpenAIGPTLMHeadModel
    layers, folder, start = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    config = OpenAIGPTConfig(vocab_size=11, n_positions=8, n_embd=8, n_layer=layers, n_head=2)
    model = OpenAIGPTLMHeadModel(config)
    model.generation_config.top_k = layers
    for x in model.parameters():
        x.data.fill_(layers)
    time.sleep(max(0, start - time.time()))
    for _ in range(20):
        model.save_pretrained(folder, max_shard_size=1000)
"""


def save_again_and_again(folder, *layers):
    code, start = textwrap.dedent(SAVE_AGAIN_AND_AGAIN), str(time.time() + 5)
    return [
        subprocess.Popen([sys.executable, "-c", code, str(n), str(folder), start]) for n in layers
    ]


def is_whole(model):
    return {x.unique().item() for x in model.parameters()} == {float(model.config.n_layer)}


def test_two_processes_that_save_at_once_leave_one_whole_model(tmp_path):
    runs = save_again_and_again(tmp_path, 2, 3)
    assert [run.wait() for run in runs] == [0, 0]
    model = OpenAIGPTLMHeadModel.from_pretrained(tmp_path)
    assert is_whole(model)
    assert model.generation_config.top_k == model.config.n_layer
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert {path.name for path in tmp_path.glob("model-*")} == set(index["weight_map"].values())


def test_what_is_read_while_a_process_saves_is_whole_or_refused(tmp_path):
    (run,) = save_again_and_again(tmp_path, 3)
    while run.poll() is None:
        try:
            assert is_whole(OpenAIGPTLMHeadModel.from_pretrained(tmp_path))
        except (OSError, ValueError):
            continue  # between two saves
    assert run.returncode == 0
