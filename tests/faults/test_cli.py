"""The command line where something goes wrong: damaged input, full disks, signals, lost pipes."""

import os
import pickle
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from huggingface_hub import constants

import minigpt
from minigpt import OpenAIGPTLMHeadModel, OpenAIGPTTokenizerFast
from minigpt.cli import checkpoints, run
from minigpt.cli.verify import CHECKS, examine
from tests.hub import LARGE, point_at, running_hub
from tests.test_cli import call

PYTHON = f"{sys.executable} -m minigpt"
# where tests run in the background, a shell has Ctrl-C ignored
heed_ctrl_c = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)


def shell(line: str) -> subprocess.CompletedProcess:
    line = line.replace("minigpt", PYTHON)
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120)


# -- wrong names, devices, texts


@pytest.mark.parametrize("device", ["xla", "abacus", "²"])
def test_a_device_that_is_not_there_is_named_in_a_short_line(device):
    result = call("run", "Hello", "--device", device)
    assert result.exit_code == 1 and len(result.stderr) < 300
    assert re.fullmatch(f"minigpt: device='{device}' is not there .*pass 'auto'.*\n", result.stderr)


@pytest.mark.parametrize("words", [["info"], ["run", "Hello", "--model"], ["download"]])
def test_an_empty_name_is_not_the_folder_where_one_stands(words, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    result = call(*words, "")
    assert result.exit_code == 1 and "no checkpoint ''" in result.stderr


NOWHERE = ["run Hello --model ./x", "generate Hello --model ./x", "convert ./x folder"]


@pytest.mark.parametrize("line", [*NOWHERE, "download ./x", "info ./x"])
def test_a_checkpoint_that_is_nowhere_is_one_line_and_leaves_nothing(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call(*line.split())
    assert result.exit_code == 1 and result.stdout == ""
    assert re.fullmatch(r"minigpt: no checkpoint '\./x'.*\n", result.stderr)
    assert not list(tmp_path.iterdir())


def test_debug_shows_where():
    loud = shell("minigpt --debug info ./nowhere")
    assert "Traceback" in loud.stderr and (loud.returncode, loud.stdout) == (1, "")


def test_a_bug_is_named_as_one(monkeypatch):
    monkeypatch.setattr(checkpoints, "machine_facts", lambda: {}["oops"])
    result = call("info")
    assert result.exit_code == 1
    assert result.stderr == "minigpt: KeyError: 'oops' (minigpt --debug COMMAND shows where)\n"


def test_empty_labels_are_named():
    words = "run", "Hello", "--task", "zero-shot-classification", "--device", "cpu", "--labels"
    result = call(*words, "")
    assert result.exit_code == 1 and "candidate_labels is empty" in result.stderr


LATIN = [
    "printf 'The\\ncaf\\351' | minigpt run --task feature-extraction --json > /dev/null",
    "minigpt generate $(printf 'caf\\351') --max-new-tokens 1",
]


@pytest.mark.parametrize("line", LATIN)
@pytest.mark.parametrize("mode", [("PYTHONIOENCODING", "utf-8:strict"), ("PYTHONUTF8", "1")])
def test_a_text_in_another_encoding_is_told_the_way_out(line, mode, monkeypatch):
    monkeypatch.setenv(*mode)  # as where LANG=en_US.UTF-8; as where LANG=C.UTF-8
    done = shell(line)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch("minigpt: 'utf-8' codec .* to UTF-8, .* PYTHONUTF8=1\n", done.stderr)


# -- pipes and disks


def test_a_closed_input_is_no_text_and_a_closed_output_no_trouble():
    done = shell("minigpt run <&-")
    assert done.returncode == 2 and "pass it as an argument, or pipe it in" in done.stderr
    done = shell("minigpt --version >&-; minigpt info >&-")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_an_output_without_room_is_a_failure():
    for words in ("info", "--version"):
        done = shell(f"minigpt {words} > /dev/full")
        assert done.returncode == 1
        assert re.fullmatch("minigpt: .*No space left on device\n", done.stderr)
    assert shell("minigpt run --no-such-option 2> /dev/full").returncode == 2


def test_a_reader_that_leaves_is_no_trouble():
    line = "yes 'The sea' | head -300 | minigpt run --task feature-extraction --device cpu"
    done = shell(f"{line} | head -1 | cut -c -10")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("to", ["safetensors", "openai"])
def test_convert_on_a_full_disk_leaves_no_file(to, tmp_path):
    done = shell(f"ulimit -f 100; minigpt convert tiny {tmp_path}/new --to {to}")  # KiB a file
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch("(minigpt: warning: .*\n)?minigpt: .*\n", done.stderr)
    assert list((tmp_path / "new").iterdir()) == []


# -- Ctrl-C


@pytest.mark.parametrize("command", ["run", "generate"])
def test_ctrl_c_ends_without_a_word(command, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "piped", interrupt)
    result = call(command)
    assert (result.exit_code, result.output) == (130, "")


def test_ctrl_c_while_the_program_leaves_is_silent():
    code = (
        "import atexit, os, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT)); sys.argv = ['', 'info'];"
        "from minigpt.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGINT and done.stderr == ""
    assert "minigpt" in done.stdout


SWALLOWED = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
except BaseException:  # as some code that torch runs on its way in
    print("swallowed", flush=True)
"""


@pytest.mark.parametrize("module", ["typer", "torch"])
def test_ctrl_c_ends_the_program_while_it_loads(tmp_path, module):
    (tmp_path / f"{module}.py").write_text(SWALLOWED)
    path = os.pathsep.join([str(tmp_path), str(Path(minigpt.__file__).parent.parent)])
    command = [sys.executable, "-m", "minigpt", "generate", "The miller"]
    env = os.environ | {"PYTHONPATH": path}
    how = {"cwd": tmp_path, "capture_output": True, "text": True, "preexec_fn": heed_ctrl_c}
    done = subprocess.run(command, env=env, **how)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize(
    "function, words",
    [
        ("cli.checkpoints.CONVERT", "convert tiny OUT"),
        ("training.pretrain.pretrain", "pretrain A B OUT"),
        ("hf.auto.AutoTokenizer.from_pretrained", "run Hello"),  # the others may have to download
        ("hf.auto.AutoTokenizer.from_pretrained", "generate Hello"),
        ("cli.checkpoints.model_facts", "info me/tiny"),
        ("cli.verify.examine", "verify me/tiny"),
    ],
)
def test_a_command_that_writes_tidies_up_after_ctrl_c(monkeypatch, function, words):
    seen, before = [], signal.signal(signal.SIGINT, signal.SIG_DFL)  # as __main__ sets it

    def look(*_, **__):
        seen.append(signal.getsignal(signal.SIGINT))
        raise ValueError

    monkeypatch.setattr(f"minigpt.{function}".replace("cli.checkpoints.CONVERT", CONVERT), look)
    try:
        call(*words.split())
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.default_int_handler]


CONVERT = "hf.loading.convert"

INTERRUPTED = """
import signal, sys, time
import minigpt.hf.formats as formats
from minigpt.cli.app import app

def slow(*arguments, **options):
    save_file(*arguments, **options)
    print("saving", flush=True)
    time.sleep(60)

save_file, formats.save_file = formats.save_file, slow
signal.signal(signal.SIGINT, signal.default_int_handler)
app(["convert", "tiny", sys.argv[1]])
"""


def test_ctrl_c_during_a_save_leaves_nothing_behind(tmp_path):
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "new")]
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipe) as process:
        assert process.stdout.readline() == "saving\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "")
    assert list((tmp_path / "new").iterdir()) == []


def test_ctrl_c_during_a_download_leaves_no_half_of_a_file(tmp_path):
    with running_hub() as server:
        server.stall = LARGE
        env = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path)}
        command = [sys.executable, "-m", "minigpt", "generate", "Hello", "--model", "me/tiny"]
        pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        how = {"env": os.environ | env, "preexec_fn": heed_ctrl_c}
        with subprocess.Popen(command, **how, **pipe) as process:
            assert server.stalled.wait(60)
            while not any(path.stat().st_size for path in tmp_path.rglob("*.incomplete")):
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            output = process.communicate(timeout=30)
    assert (process.returncode, *output) == (130, "", "")
    assert not list(tmp_path.rglob("*.incomplete"))


# -- verify and damaged checkpoints


@pytest.mark.parametrize("damage", ["truncated", "header", "pickle", "gone"])
def test_verify_finds_weights_that_cannot_be_read(tmp_path, damage):
    OpenAIGPTLMHeadModel.from_pretrained("tiny").save_pretrained(tmp_path)
    OpenAIGPTTokenizerFast.from_pretrained("tiny").save_pretrained(tmp_path)
    path = tmp_path / LARGE
    data = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(data[:-1])
    if damage == "header":
        path.write_bytes(data[:20] + bytes([data[20] ^ 4]) + data[21:])
    if damage in ("pickle", "gone"):
        path.unlink()
    if damage == "pickle":
        (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": print}, protocol=2))
    found = {check: rest for check, *rest in examine(str(tmp_path))}
    assert found["arrays"][0] == "failed" and str(tmp_path) in found["arrays"][1]
    assert found["numbers"] == ["not checked", "needs the check 'arrays'"]


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with running_hub() as server:
        point_at(server.url, monkeypatch, tmp_path / "cache")
        yield server


@pytest.mark.parametrize("name", ["./nowhere", "me/no-such-model", "me/busy", "me/private"])
def test_verify_of_nothing_fails_nothing_and_is_no_success(name, hub):
    result = call("verify", name)
    assert result.exit_code == 1
    assert result.stdout.startswith(f"not checked  checkpoint: no checkpoint '{name}'")
    assert result.stdout.endswith(f"\n0 passed, 0 failed, {len(CHECKS)} not checked\n")
