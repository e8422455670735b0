"""The command line where something goes wrong: damaged input, full disks, signals, lost pipes."""

import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from huggingface_hub import constants

import minigpt
from minigpt.cli import checkpoints, run
from minigpt.cli.verify import CHECKS
from tests.hub import LARGE, point_at, running_hub
from tests.test_cli import call

pytestmark = pytest.mark.skipif(os.name != "posix", reason="bash, its pipes and its signals")
PYTHON = f"{sys.executable} -m minigpt"
# where tests run in the background, a shell has Ctrl-C ignored
heed_ctrl_c = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}


def shell(line: str) -> subprocess.CompletedProcess:
    line = line.replace("minigpt", PYTHON)
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120)


# -- wrong names, devices, texts

LINES = [  # words, what the one line on stderr says
    ("run Hello --device xla", "device='xla' is not there .*pass 'auto'.*"),
    ("run Hello --device ²", "device='²' is not there .*pass 'auto'.*"),
    ("run Hello --model ./x", r"no checkpoint '\./x'.*"),
    ("generate Hello --model ./x", r"no checkpoint '\./x'.*"),
    ("convert ./x folder", r"no checkpoint '\./x'.*"),
    ("download ./x", r"no checkpoint '\./x'.*"),
    ("info ./x", r"no checkpoint '\./x'.*"),
    ("download ", "no checkpoint ''.*"),  # an empty name is not the folder where one stands
    ("info ", "no checkpoint ''.*"),
]


@pytest.mark.parametrize("line, words", LINES)
def test_a_wrong_name_is_one_line_and_leaves_nothing(line, words, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    result = call(*line.split(" "))
    assert (result.exit_code, result.stdout) == (1, "") and len(result.stderr) < 300
    assert re.fullmatch(f"minigpt: {words}\n", result.stderr)
    assert not list(tmp_path.iterdir())


def test_a_bug_is_named_as_one_and_debug_shows_where(monkeypatch):
    monkeypatch.setattr(checkpoints, "machine_facts", lambda: {}["oops"])
    result = call("info")
    assert result.exit_code == 1
    assert result.stderr == "minigpt: KeyError: 'oops' (minigpt --debug COMMAND shows where)\n"
    assert isinstance(call("--debug", "info").exception, KeyError)


LATIN = [
    "printf 'The\\ncaf\\351' | minigpt run --task feature-extraction --json > /dev/null",
    "minigpt generate $(printf 'caf\\351') --max-new-tokens 1",
]


@pytest.mark.parametrize("line", LATIN)
def test_a_text_in_another_encoding_is_told_the_way_out(line, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8:strict")  # as where LANG=en_US.UTF-8
    done = shell(line)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch("minigpt: 'utf-8' codec .* to UTF-8, .* PYTHONUTF8=1\n", done.stderr)


# -- pipes and disks


def test_a_closed_input_is_no_text_and_a_closed_output_no_trouble():
    done = shell("minigpt run <&-")
    assert done.returncode == 2 and "pass it as an argument, or pipe it in" in done.stderr
    done = shell("minigpt info >&-")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_an_output_without_room_is_a_failure():
    done = shell("minigpt info > /dev/full")
    assert done.returncode == 1
    assert re.fullmatch("minigpt: .*No space left on device\n", done.stderr)
    assert shell("minigpt run --no-such-option 2> /dev/full").returncode == 2


def test_a_reader_that_leaves_is_no_trouble():
    line = "yes 'The sea' | head -300 | minigpt run --task feature-extraction --device cpu"
    done = shell(f"{line} | head -1 | cut -c -10")
    assert (done.returncode, done.stderr) == (0, "")


def test_convert_on_a_full_disk_leaves_no_file(tmp_path):
    done = shell(f"ulimit -f 100; minigpt convert tiny {tmp_path}/new")  # KiB a file
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch("minigpt: .*\n", done.stderr)
    assert list((tmp_path / "new").iterdir()) == []


# -- Ctrl-C


def test_ctrl_c_ends_without_a_word(monkeypatch):
    def interrupt(*_, **__):
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler  # so it can tidy up
        raise KeyboardInterrupt

    before = heed_ctrl_c()  # as __main__ sets it
    monkeypatch.setattr(run, "texts_from", interrupt)
    try:
        result = call("generate")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (result.exit_code, result.output) == (130, "")


def test_ctrl_c_while_the_program_leaves_is_silent():
    code = (
        "import atexit, os, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT)); sys.argv = ['', 'info'];"
        "from minigpt.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], **PIPES)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "") and "minigpt" in done.stdout


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
    command, env = f"{PYTHON} generate Hello".split(), os.environ | {"PYTHONPATH": path}
    how = {"cwd": tmp_path, "preexec_fn": heed_ctrl_c, **PIPES}
    done = subprocess.run(command, env=env, **how)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


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
    with subprocess.Popen(command, **PIPES) as process:
        assert process.stdout.readline() == "saving\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "")
    assert list((tmp_path / "new").iterdir()) == []


def test_ctrl_c_during_a_download_leaves_no_half_of_a_file(tmp_path):
    with running_hub() as server:
        server.stall = LARGE
        env = os.environ | {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path)}
        command = f"{PYTHON} generate Hello --model me/tiny".split()
        with subprocess.Popen(command, env=env, preexec_fn=heed_ctrl_c, **PIPES) as process:
            assert server.stalled.wait(60)
            while not any(path.stat().st_size for path in tmp_path.rglob("*.incomplete")):
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            output = process.communicate(timeout=30)
    assert (process.returncode, *output) == (130, "", "")
    assert not list(tmp_path.rglob("*.incomplete"))


# -- verify


@pytest.mark.parametrize("name", ["me/no-such-model", "me/busy", "me/private"])
def test_verify_of_nothing_fails_nothing_and_is_no_success(name, monkeypatch, tmp_path):
    with running_hub() as server:
        point_at(server.url, monkeypatch, tmp_path / "cache")
        result = call("verify", name)
    assert result.exit_code == 1
    assert result.stdout.startswith(f"not checked  checkpoint: no checkpoint '{name}'")
    assert result.stdout.endswith(f"\n0 passed, 0 failed, {len(CHECKS)} not checked\n")
