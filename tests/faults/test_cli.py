"""The command line where something goes wrong: damaged input, full disks, signals, lost pipes."""

import json
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
from minigpt.cli import checkpoints
from tests.test_cli import call

pytestmark = pytest.mark.skipif(os.name != "posix", reason="bash, its pipes and its signals")
PYTHON = f"{sys.executable} -m minigpt"
# where tests run in the background, a shell has Ctrl-C ignored
heed_ctrl_c = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}


def shell(line: str) -> subprocess.CompletedProcess:
    line = line.replace("minigpt", PYTHON)
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120)


LINES = [  # words, the exit code, what the one line on stderr says
    ("run Hello --device xla", 2, "--device 'xla' is not available; pass 'auto'.*see .*run --help"),
    ("run Hello --device ²", 2, "--device '²' is not available; pass 'auto'.*"),
    ("zero-shot cola x tiny --device 99", 2, "--device 99 is not available; .*"),
    ("pretrain . . x --device xla", 2, "--device 'xla' is not available; .*"),
    ("generate Hello --model ./x", 1, r"no checkpoint '\./x'.*"),
    ("evaluate cola . ./x --force", 1, r"no checkpoint '\./x'.*"),
    ("convert ./x folder", 1, r"no checkpoint '\./x'.*"),
    ("download ", 1, "no checkpoint ''.*"),  # an empty name is not the folder where one stands
    ("info ", 1, "no checkpoint ''.*"),
    ("run Hello --top-p 0", 2, "--top-p 0.0; pass .*"),
    ("run Hello --task feature-extraction --top-k 3", 2, "--top-k 3; only for text-generation.*"),
    ("zero-shot winograd x tiny --split test", 2, "--split 'test'; choose from dev; see .*"),
    ("evaluate rte x x --second-column y", 2, ".* --second-column: only the task csv.*"),
    ("pretrain . . x --config x.toml", 2, ".*--config.*x.toml.*"),
    ("pretrain . . x --batch-size 3 --accumulate 2", 2, "--batch-size 3 .* --accumulate 2; see.*"),
    (f"run {'a ' * 600}", 1, "6.. tokens, .* 512 positions; shorten the text"),
]


@pytest.mark.parametrize("line, code, words", LINES)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_wrong_call_is_one_line_and_leaves_nothing(
    line, code, words, as_json, tmp_path, monkeypatch
):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    if as_json and line.split()[0] in ("generate", "convert", "download"):
        pytest.skip("it has no --json")
    line = line.split(" ", 1) if line.startswith("run a") else line.split(" ")
    result = call(*line, *["--json"] * as_json)
    assert result.exit_code == code and len(result.stderr) < 300
    assert re.fullmatch(f"minigpt: {words}\n", result.stderr)
    error = result.stderr.removeprefix("minigpt: ").strip()
    assert result.stdout == (json.dumps({"error": error}) + "\n" if as_json else "")
    assert not list(tmp_path.iterdir())


def test_a_bug_is_named_as_one_and_debug_shows_where(monkeypatch):
    monkeypatch.setattr(checkpoints, "machine_facts", lambda: {}["oops"])
    result = call("info")
    assert result.exit_code == 1
    assert result.stderr == "minigpt: KeyError: 'oops' (minigpt --debug COMMAND shows where)\n"
    assert isinstance(call("--debug", "info").exception, KeyError)


# -- encodings, pipes and disks

ROOM = pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no /dev/full here")
FEATURES = "minigpt run --task feature-extraction --device cpu"
SHELL = [  # a line, its exit code, what it says on stderr
    (f"printf 'The\\ncaf\\351' | {FEATURES} --json >&-", 1, ".* to UTF-8, .* PYTHONUTF8=1\n"),
    ("minigpt generate $(printf 'caf\\351')", 1, ".* to UTF-8, .* PYTHONUTF8=1\n"),
    ("minigpt run <&-", 2, ".*pass it as an argument, or pipe it in.*\n"),
    ("minigpt info >&-", 0, ""),  # a closed output is no trouble
    (f"yes 'The sea' | head -300 | {FEATURES} | head -1 | wc -l", 0, ""),  # the reader leaves
    pytest.param("minigpt info > /dev/full", 1, ".*No space left on device\n", marks=ROOM),
    pytest.param("minigpt run --no-such-option 2> /dev/full", 2, "", marks=ROOM),
]


@pytest.mark.parametrize("line, code, words", SHELL)
def test_what_a_shell_can_do_to_input_and_output(line, code, words, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8:strict")  # as where LANG=en_US.UTF-8
    done = shell(line)
    assert done.returncode == code
    assert re.fullmatch(words and f"minigpt: {words}", done.stderr)


def test_convert_on_a_full_disk_leaves_no_file(tmp_path):
    done = shell(f"ulimit -f 100; minigpt convert tiny {tmp_path}/new")  # KiB a file
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch("minigpt: .*\n", done.stderr)
    assert list((tmp_path / "new").iterdir()) == []


# -- Ctrl-C


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
import sys, time
import minigpt.hf.formats as formats
from minigpt.__main__ import main

def slow(*arguments, **options):
    save_file(*arguments, **options)
    print("saving", flush=True)
    time.sleep(60)

save_file, formats.save_file = formats.save_file, slow
sys.argv = ["", "convert", "tiny", sys.argv[1]]
main()
"""


def test_ctrl_c_during_a_save_leaves_nothing_behind(tmp_path):
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "new")]
    with subprocess.Popen(command, preexec_fn=heed_ctrl_c, **PIPES) as process:
        assert process.stdout.readline() == "saving\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "")
    assert list((tmp_path / "new").iterdir()) == []


def test_a_closed_stderr_does_not_stop_a_run(tmp_path):
    pytest.importorskip("spacy")  # an extra of the package
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "a.txt").write_text("the cat sat on the mat and went home\n" * 40)
    sizes = "--n-embd 8 --n-layer 1 --n-head 1 --n-positions 8 --batch-size 2 --steps 1"
    place = "books books out --device cpu --workers 1 --vocab-size 99"
    done = shell(f"cd {tmp_path}; minigpt pretrain {place} {sizes} 2>&-")
    assert done.returncode == 0 and "perplexity" in done.stdout
