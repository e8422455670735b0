"""The program `minigpt`: every command, every exit code, pipes, Ctrl-C; what verify finds."""

import ast
import hashlib
import json
import os
import pickle
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import get_args

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from minigpt import (
    AutoTokenizer,
    OpenAIGPTForSequenceClassification,
    OpenAIGPTLMHeadModel,
    OpenAIGPTTokenizerFast,
    checkpoint,
    command_line,
)
from minigpt.checkpoint import FORMATS, OFFICIAL, OpenAIGPTConfig, parameter_shapes, read_weights
from minigpt.command_line import CHECKS, Task, app, as_openai_wrote, examine
from minigpt.pipeline import TASKS, WRITING
from tests import parity
from tests.hub import FILES, LARGE, point_at, running_hub

PYTHON = f"{sys.executable} -m minigpt"


def call(*words: str, text: str | None = None):
    return CliRunner().invoke(app, words, input=text, prog_name="minigpt")


def shell(line: str) -> subprocess.CompletedProcess:
    if os.name == "nt":
        pytest.skip("the line is written for a POSIX shell")
    line = line.replace("minigpt", PYTHON)
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120)


# where tests run in the background, a shell has Ctrl-C ignored
heed_ctrl_c = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)


# -- the program as a whole


def test_nothing_heavy_is_imported_before_a_command_runs():
    tree = ast.parse(Path(command_line.__file__).read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {getattr(node, "module", None) or node.names[0].name for node in imports}
    assert {name.split(".")[0] for name in names} <= {*sys.stdlib_module_names, "typer"}


def test_choices_are_those_of_the_library():
    assert set(get_args(Task)) == set(TASKS)
    assert "|".join(FORMATS) in call("convert", "--help").stdout


@pytest.mark.parametrize(
    "name", ["run", "generate", "convert", "download", "info", "verify", "pretrain"]
)
def test_every_command_helps_itself_with_an_example(name):
    result = call(name, "--help")
    assert result.exit_code == 0 and re.search(rf"Examples?:\n.*minigpt {name} ", result.stdout)


def test_version():
    result = call("--version")
    assert result.exit_code == 0 and re.fullmatch(r"minigpt \d+\.\d+\.\d+\n", result.stdout)


def completion(instruction: str, line: str = "") -> str:
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
    env = os.environ | {"_MINIGPT_COMPLETE": instruction} | words
    code = "from minigpt.command_line import app; app(prog_name='minigpt')"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    return done.stdout


def test_python_m_is_completed_as_the_program():
    done = shell("_MINIGPT_COMPLETE=source_bash minigpt")
    assert done.stdout.rstrip().endswith("-F _minigpt_completion minigpt")
    assert shell("minigpt --help").stdout.startswith("Usage: minigpt ")


@pytest.mark.parametrize(
    "line, end",
    [
        ("minigpt ver", "verify"),
        ("minigpt --ver", "--version"),
        ("minigpt run --ta", "--task"),
        ("minigpt run --task zero", "zero-shot-classification"),
        ("minigpt convert --to safe", "safetensors"),
    ],
)
def test_the_shell_completes_commands_options_and_choices(line, end):
    assert completion("complete_bash", line).split() == [end]


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script_for_completion(name):
    assert "_MINIGPT_COMPLETE=complete_" + name in completion(f"source_{name}")


def test_the_program_offers_to_install_its_completion():
    assert {"--install-completion", "--show-completion"} <= set(call("--help").stdout.split())


@pytest.mark.parametrize(
    "words",
    [
        ["no-such-command"],
        ["run", "--no-such-option"],
        ["run", "Hello", "--labels"],  # without its value
        ["run", "Hello", "--json=1"],
        ["--debug=1", "info"],
        ["generate", "\x01"],  # no tokens
        ["run", "Hello", "--task", "translation"],
        ["run", "Hello", "--labels", "sea, land"],
        ["run", "Hello", "--task", "zero-shot-classification"],
        ["run", " "],
        ["run"],  # the standard input is empty
        ["generate"],
        ["generate", "Hello", "--max-new-tokens", "0"],
        ["generate", "Hello", "--seed", "99999999999999999999"],
        ["convert", "tiny"],
        ["convert", "tiny", "folder", "--to", "tensorflow"],
        ["download", "tiny"],
        ["verify"],
        ["info", "tiny", "gpt2"],
        *(["pretrain", "A", "B", "C", f"--{x}", "0"] for x in ("steps", "batch-size", "workers")),
        *(["pretrain", "A", "B", "C", f"--{x}", "-1"] for x in ("peak", "warmup")),
    ],
)
def test_a_wrong_use_is_2(words):
    result = call(*words)
    assert result.exit_code == 2 and result.stdout == ""
    assert re.fullmatch("minigpt: .*; see minigpt.* --help\n", result.stderr)
    assert call("--debug", *words).stderr == result.stderr  # no mistake of ours: no program text


def test_nothing_at_all_shows_the_help():
    result = call()
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == call("--help").stdout


@pytest.mark.parametrize("device", ["xla", "hpu", "abacus"])
def test_a_device_that_is_not_there_is_named_in_a_short_line(device):
    result = call("run", "Hello", "--device", device)
    assert result.exit_code == 1 and len(result.stderr) < 300
    assert re.fullmatch(f"minigpt: device='{device}' is not there .*pass 'auto'.*\n", result.stderr)


def test_nothing_is_lost_where_stderr_cannot_be_written():
    full = "2> /dev/full"
    assert shell(f"minigpt run --no-such-option {full}").returncode == 2
    done = shell(f"minigpt run Hello --task text-classification --device cpu {full}")
    assert done.returncode == 0 and "LABEL_" in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_while_the_program_leaves_is_silent():
    code = (
        "import atexit, os, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT)); sys.argv = ['', 'info'];"
        "from minigpt.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGINT and done.stderr == ""
    assert "minigpt" in done.stdout


def test_empty_labels_are_named():
    words = "run", "Hello", "--task", "zero-shot-classification", "--device", "cpu", "--labels"
    result = call(*words, "")
    assert result.exit_code == 1 and "candidate_labels is empty" in result.stderr


@pytest.mark.parametrize("task", ["text-generation", "zero-shot-classification"])
def test_labels_go_with_the_task_that_needs_them(task):
    labels = [] if task == "zero-shot-classification" else ["--labels", "sea, land"]
    result = call("run", "Hello", "--task", task, *labels)
    assert f"--labels: zero-shot-classification needs it, and no other task; this is {task}" in (
        " ".join(result.stderr.split())
    )


@pytest.mark.parametrize("words", [["info"], ["run", "Hello", "--model"], ["download"]])
def test_an_empty_name_is_not_the_folder_where_one_stands(words, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    result = call(*words, "")
    assert result.exit_code == 1 and "no checkpoint ''" in result.stderr


@pytest.mark.parametrize(
    "words, wrong",
    [
        (["run", "Hello", "--model", "./nowhere"], "no checkpoint './nowhere'.*spelling"),
        (["run", "Hello", "--device", "99"], "device=99 is not there"),
        (["run", "Hello", "--device", "²"], "device='²' is not there"),
        (["generate", "Hello", "--model", "./nowhere"], "no checkpoint"),
        (["generate", "Hello " * 600], "tokens, but this checkpoint has 512 positions"),
        (["convert", "./nowhere", "folder"], "no checkpoint"),
        (["download", "./nowhere"], "no checkpoint"),
        (["info", "./nowhere"], "no checkpoint"),
    ],
)
def test_a_failure_is_1_and_one_line(words, wrong, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call(*words)
    assert result.exit_code == 1 and result.stdout == ""
    assert re.fullmatch(rf"minigpt: .*{wrong}.*\n", result.stderr)
    assert not list(tmp_path.iterdir())


def test_debug_shows_where():
    quiet, loud = (shell(f"minigpt {x} info ./nowhere") for x in ("", "--debug"))
    assert quiet.stderr.count("\n") == 1 and "Traceback" in loud.stderr
    assert quiet.returncode == loud.returncode == 1 and quiet.stdout == loud.stdout == ""


def test_a_bug_is_named_as_one(monkeypatch):
    monkeypatch.setattr(command_line, "machine_facts", lambda: {}["oops"])
    result = call("info")
    assert result.exit_code == 1
    assert result.stderr == "minigpt: KeyError: 'oops' (minigpt --debug COMMAND shows where)\n"


@pytest.mark.parametrize("command", ["run", "generate"])
def test_ctrl_c_ends_without_a_word(command, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "piped", interrupt)
    result = call(command)
    assert (result.exit_code, result.output) == (130, "")


SWALLOWED = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
except BaseException:  # as some code that torch runs on its way in
    print("swallowed", flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("module", ["typer", "torch"])
def test_ctrl_c_ends_the_program_while_it_loads(tmp_path, module):
    (tmp_path / f"{module}.py").write_text(SWALLOWED, encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), str(Path(command_line.__file__).parent.parent)])
    command = [sys.executable, "-m", "minigpt", "generate", "The miller"]
    env = os.environ | {"PYTHONPATH": path}
    how = {"cwd": tmp_path, "capture_output": True, "text": True, "preexec_fn": heed_ctrl_c}
    done = subprocess.run(command, env=env, **how)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize(
    "function, words",
    [
        ("checkpoint.convert", "convert tiny OUT"),
        ("pretraining.pretrain", "pretrain A B OUT"),
        ("tokenizer.read_tokenizer", "run Hello"),  # the others may have to download
        ("tokenizer.read_tokenizer", "generate Hello"),
        ("tokenizer.ask_hub", "download me/tiny"),
        ("command_line.model_facts", "info me/tiny"),
        ("command_line.examine", "verify me/tiny"),
    ],
)
def test_a_command_that_writes_tidies_up_after_ctrl_c(monkeypatch, function, words):
    seen, before = [], signal.signal(signal.SIGINT, signal.SIG_DFL)  # as __main__ sets it

    def look(*_, **__):
        seen.append(signal.getsignal(signal.SIGINT))
        raise ValueError

    monkeypatch.setattr(f"minigpt.{function}", look)
    try:
        call(*words.split())
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.default_int_handler]


@pytest.mark.parametrize(
    "line",
    [
        "printf 'caf\\351' | minigpt run --task feature-extraction",
        "printf 'The\\ncaf\\351' | minigpt run --task feature-extraction --json > /dev/null",
        "minigpt generate $(printf 'caf\\351') --max-new-tokens 1",
    ],
)
def test_a_text_in_another_encoding_is_told_the_way_out(line, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8:strict")  # as where LANG=en_US.UTF-8
    done = shell(line)
    assert done.returncode == 1 and done.stdout == ""
    assert re.fullmatch("minigpt: 'utf-8' codec .* to UTF-8, .* PYTHONUTF8=1\n", done.stderr)
    monkeypatch.delenv("PYTHONIOENCODING")
    monkeypatch.setenv("PYTHONUTF8", "1")  # as where LANG=C.UTF-8: Python lets it through
    again = shell(line)
    assert again.returncode == 1 and again.stdout == ""
    assert re.fullmatch("minigpt: 'utf-8' codec .* to UTF-8, .* PYTHONUTF8=1\n", again.stderr)


def test_a_text_in_utf_8_is_read_in_the_end(monkeypatch):
    line = "printf 'caf\\303\\251' | minigpt run --task feature-extraction > /dev/null"
    monkeypatch.setenv("PYTHONIOENCODING", "ascii:strict")
    assert shell(line).returncode == 1
    monkeypatch.delenv("PYTHONIOENCODING")
    monkeypatch.setenv("PYTHONUTF8", "1")
    assert shell(line).returncode == 0


def test_what_is_no_json_is_not_written_as_json(tmp_path):
    model = OpenAIGPTForSequenceClassification(OpenAIGPTConfig(vocab_size=8192, n_embd=12))
    model.score.weight.data.fill_(float("nan"))
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained("tiny").save_pretrained(tmp_path)
    words = "run", "The", "--task", "text-classification", "--model", str(tmp_path)
    result = call(*words, "--json")
    assert (result.exit_code, result.stdout) == (1, "") and "JSON" in result.stderr
    assert call(*words).stdout.startswith("nan ")


def test_convert_writes_shards_too(tmp_path):
    result = call("convert", "tiny", str(tmp_path), "--max-shard-size", "6MB")
    assert result.exit_code == 0 and result.stdout.count("-of-") > 2
    words = "--to", "openai", "--max-shard-size", "6MB"
    assert call("convert", "tiny", str(tmp_path / "2018"), *words).exit_code == 2
    assert not (tmp_path / "2018").exists()


def test_weights_without_a_vocabulary_are_no_failure(tmp_path):
    OpenAIGPTLMHeadModel.from_pretrained("tiny").save_pretrained(tmp_path)
    found = verdicts(tmp_path)
    assert found["vocabulary"] == ("not checked", "there is none, only weights")
    assert call("verify", str(tmp_path)).exit_code == 0
    (tmp_path / "vocab.json").write_text("{}", encoding="utf-8")  # half of one
    assert verdicts(tmp_path)["vocabulary"][0] == "failed"


def test_a_closed_input_is_no_text():
    done = shell("minigpt run <&-")
    assert done.returncode == 2 and "pass it as an argument, or pipe it in" in done.stderr


def test_a_closed_output_is_no_trouble():
    done = shell("minigpt --version >&-; minigpt info >&-")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize("words", ["info", "--version", "--help"])
def test_an_output_without_room_is_a_failure(words):
    done = shell(f"minigpt {words} > /dev/full")
    assert done.returncode == 1
    assert re.fullmatch("minigpt: .*No space left on device\n", done.stderr)


# -- run and generate


GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="--device 0 wants a GPU; none here")


@pytest.mark.parametrize("device", [pytest.param("0", marks=GPU), "cpu"])
def test_the_snippet_of_the_documentation_page(device):
    line = 'echo -e "The future of AI is" | minigpt run --task text-generation --model tiny'
    done = shell(f"{line} --device {device}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("The future of AI is ") and len(done.stdout.split()) > 10


def test_run_takes_an_argument_in_place_of_the_input():
    words = "run", "--task", "feature-extraction", "--device", "cpu", "--json"
    assert call(*words, "The sea").stdout == call(*words, text="The sea\n").stdout != ""


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.filterwarnings("ignore")
def test_json_of_each_task_is_a_value_a_line(task, monkeypatch):
    monkeypatch.setitem(WRITING, "max_new_tokens", 20)
    options = ["--labels", "sea, land"] if task == "zero-shot-classification" else []
    words = ["run", "--task", task, "--device", "cpu", "--dtype", "float32", *options]
    text = "The miller\n\nThe sea\n"
    answers = [json.loads(line) for line in call(*words, "--json", text=text).stdout.splitlines()]
    assert len(answers) == 2
    if task == "text-generation":
        assert answers[1][0]["generated_text"].startswith("The sea ")
    if task == "feature-extraction":
        assert torch.tensor(answers[0]).shape == (1, 2, 256)
    if "classification" in task:
        assert call(*words, text=text).stdout.count("\n") == 2 * len(options or "x")


def test_warnings_are_a_line_and_leave_the_output_alone():
    result = call("run", "Hello", "--task", "text-classification", "--device", "cpu", "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)
    assert re.fullmatch(r"(minigpt: warning: .*\n)+", result.stderr)


@pytest.mark.parametrize("reader", ["head -1", "true"])
def test_a_reader_that_leaves_is_no_trouble(reader):
    line = "yes 'The sea' | head -300 | minigpt run --task feature-extraction --device cpu"
    done = shell(f"{line} | {reader} | cut -c -10")
    assert (done.returncode, done.stderr) == (0, "")


def test_generate_takes_a_text_from_either_side():
    words = ["generate", "--no-do-sample", "--max-new-tokens", "5", "--device", "cpu"]
    result = call(*words, "The old miller")
    assert re.fullmatch(r"The old miller \S.*\n", result.stdout)
    assert call(*words, text="The old miller\n").stdout == result.stdout


def test_generate_shows_each_word_as_it_is_written():
    words = "generate", "The old miller", "--max-new-tokens", "400", "--device", "cpu"
    with subprocess.Popen([*PYTHON.split(), *words], stdout=subprocess.PIPE) as process:
        pieces = [os.read(process.stdout.fileno(), 100) for _ in range(9)]
        still_running = process.poll() is None
        process.kill()
    assert still_running and b"".join(pieces).startswith(b"The old miller ")
    assert all(len(piece) < 30 for piece in pieces[1:])


def test_the_same_seed_writes_the_same():
    words = ["generate", "The old miller", "--max-new-tokens", "8", "--device", "cpu", "--seed"]
    one, again, other = (call(*words, seed).stdout for seed in ("1", "1", "2"))
    assert one == again != other


# -- convert, download, info


@pytest.mark.parametrize("to", FORMATS)
def test_convert_keeps_every_number(to, tmp_path):
    result = call("convert", "tiny", str(tmp_path / to), "--to", to)
    assert result.exit_code == 0
    written = sorted(path.name for path in (tmp_path / to).iterdir())
    assert result.stdout.split() == written
    before, after = read_weights("tiny"), read_weights(tmp_path / to)
    assert all(torch.equal(before[name].float(), after[name].float()) for name in before)


INTERRUPTED = """
import signal, sys, time
from minigpt import checkpoint
from minigpt.command_line import app

def slow(*arguments, **options):
    save_file(*arguments, **options)
    print("saving", flush=True)
    time.sleep(60)

save_file, checkpoint.save_file = checkpoint.save_file, slow
signal.signal(signal.SIGINT, signal.default_int_handler)
app(["convert", "tiny", sys.argv[1]])
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_during_a_save_leaves_nothing_behind(tmp_path):
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "new")]
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipe) as process:
        assert process.stdout.readline() == "saving\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "")
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("to", FORMATS)
def test_convert_on_a_full_disk_leaves_no_file(to, tmp_path):
    done = shell(f"ulimit -f 100; minigpt convert tiny {tmp_path}/new --to {to}")  # KiB a file
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch("(minigpt: warning: .*\n)?minigpt: .*\n", done.stderr)
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("to", FORMATS)
def test_convert_to_a_read_only_disk_changes_nothing(to, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")  # for root, permissions do not count

    (tmp_path / "mine").write_text("mine", encoding="utf-8")
    monkeypatch.setattr("tempfile._os.mkdir", refuse)
    result = call("convert", "tiny", str(tmp_path), "--to", to)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"minigpt: {tmp_path} could not be saved (Read-only file system)" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_release_of_another_size_is_converted_first(tmp_path):
    release, folder = str(tmp_path / "2018"), str(tmp_path / "new")
    call("convert", "tiny", release, "--to", "openai")
    words = "run", "The sea", "--task", "feature-extraction", "--device", "cpu", "--json"
    result = call(*words, "--model", release)
    assert result.exit_code == 1 and re.fullmatch("minigpt: .*n_head.*\n", result.stderr)
    assert call("convert", release, folder, "--n-head", "4").exit_code == 0
    found, expected = (json.loads(call(*words, "--model", x).stdout) for x in (folder, "tiny"))
    assert torch.allclose(torch.tensor(found), torch.tensor(expected), atol=1e-6)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with running_hub() as server:
        point_at(server.url, monkeypatch, tmp_path / "cache")
        yield server


def test_download_fetches_what_there_is_and_renews_it(hub, tmp_path):
    result = call("download", "me/tiny")
    assert result.exit_code == 0 and f"{17102240:,} {LARGE}" in result.stdout
    assert Path(result.stdout.splitlines()[-1]).is_relative_to(tmp_path / "cache")
    names = {"config.json", LARGE, "vocab.json", "merges.txt"}
    assert set(hub.asked("GET")) == names
    hub.requests.clear()
    assert call("run", "Hello", "--task", "feature-extraction", "--model", "me/tiny").exit_code == 0
    assert hub.requests == []
    call("download", "me/tiny")
    assert names <= set(hub.asked("HEAD")) and hub.asked("GET") == []


def test_after_a_download_nothing_is_asked_for_and_nothing_missing(hub):
    hub.repositories["me/tiny"] = FILES | {"generation_config.json": b'{"top_k": 3}'}
    call("download", "me/tiny")
    hub.requests.clear()
    model = OpenAIGPTLMHeadModel.from_pretrained("me/tiny")
    assert (model.generation_config.top_k, hub.requests) == (3, [])


def test_download_of_a_repository_without_a_model(hub):
    result = call("download", "me/bare")
    assert result.exit_code == 1 and "me/bare holds none of model.safetensors" in result.stderr


def test_download_shows_its_progress(tmp_path):
    with running_hub() as server:
        env = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path), "TQDM_POSITION": "-1"}
        command = [sys.executable, "-m", "minigpt", "download", "me/tiny"]
        done = subprocess.run(command, env=os.environ | env, capture_output=True, text=True)
    assert done.returncode == 0 and f"{LARGE}: 100%" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("words", ["download me/tiny", "generate Hello --model me/tiny"])
def test_ctrl_c_during_a_download_leaves_no_half_of_a_file(tmp_path, words):
    with running_hub() as server:
        server.stall = LARGE
        env = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path)}
        command = [sys.executable, "-m", "minigpt", *words.split()]
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


def test_info_tells_what_a_bug_report_needs():
    facts = dict(line.split(maxsplit=1) for line in call("info").stdout.splitlines())
    assert {"python", "platform", "minigpt", "torch", "cuda", "mps"} <= set(facts)
    assert facts["torch"] == torch.__version__
    text = call("info", "tiny").stdout
    assert re.search(r"n_layer +8\n", text) and re.search(r"parameters +8,546,304 of float16", text)
    result = call("info", "--n-head", "4")
    assert result.exit_code == 2 and "MODEL: --n-head and --revision need one" in result.stderr


def test_pretrain_makes_a_checkpoint_that_writes(tmp_path):
    pytest.importorskip("spacy")  # an extra of the package
    for name in ("books", "held_out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.txt").write_text(
            "The old miller went to the sea. " * 600, encoding="utf-8"
        )
    sizes = "--n-embd 16 --n-layer 1 --n-head 2 --vocab-size 60 --steps 2 --batch-size 2 --warmup 1"
    places = [str(tmp_path / name) for name in ("books", "held_out", "out")]
    result = call("pretrain", *places, *sizes.split(), "--workers", "1")
    assert result.exit_code == 0, result.stderr
    assert re.fullmatch(r".*out: perplexity \d+\.\d\d on .*held_out\n", result.stdout)
    assert call("verify", places[-1]).exit_code == 0
    assert call("generate", "The sea", "--model", places[-1], "--device", "cpu").exit_code == 0


# -- verify


def verdicts(place, **options) -> dict[str, tuple[str, str]]:
    return {check: (verdict, why) for check, verdict, why in examine(str(place), **options)}


@pytest.fixture
def copy(tmp_path) -> Path:
    OpenAIGPTLMHeadModel.from_pretrained("tiny").save_pretrained(tmp_path)
    OpenAIGPTTokenizerFast.from_pretrained("tiny").save_pretrained(tmp_path)
    return tmp_path


def change(folder: Path, name: str, place: tuple, value: float) -> None:
    path = folder / LARGE
    weights = load_file(path)
    weights[name][place] = value
    save_file(weights, path, metadata={"format": "pt"})


def test_verify_tells_all_and_how_it_ended(copy):
    result = call("verify", str(copy))
    lines = result.stdout.splitlines()
    assert result.exit_code == 0 and len(lines) == len(CHECKS) + 1
    assert "not checked  official: this is not GPT-1 as OpenAI released it" in result.stdout
    assert lines[-1] == "7 passed, 0 failed, 7 not checked"
    change(copy, "transformer.h.3.mlp.c_fc.weight", (7, 7), float("nan"))
    result = call("verify", str(copy))
    assert result.exit_code == 1
    assert "failed       numbers: h.3.mlp.c_fc.weight is NaN or infinite in 1 of" in result.stdout


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_verify_finds_a_number_that_is_none(copy, value):
    change(copy, "transformer.tokens_embed.weight", (5, 5), value)
    assert verdicts(copy)["numbers"] == (
        *("failed", "tokens_embed.weight is NaN or infinite in 1 of 2,097,152 places"),
    )


def test_verify_finds_a_vocabulary_of_another_size(copy):
    tokenizer = OpenAIGPTTokenizerFast.from_pretrained(copy)
    tokenizer.add_tokens(["<new>"])
    tokenizer.save_pretrained(copy)
    assert (
        verdicts(copy)["pieces"][1]
        == "the vocabulary has 8193 pieces, the table of tokens 8192 rows"
    )


def test_verify_finds_a_config_of_another_model(copy):
    page = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    (copy / "config.json").write_text(json.dumps(page | {"n_positions": 256}), encoding="utf-8")
    verdict, why = verdicts(copy)["shapes"]
    assert verdict == "failed" and "positions_embed.weight has shape (512, 256)" in why


@pytest.mark.parametrize("damage", ["truncated", "header", "pickle", "gone"])
def test_verify_finds_weights_that_cannot_be_read(copy, damage):
    path = copy / LARGE
    data = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(data[:-1])
    if damage == "header":
        path.write_bytes(data[:20] + bytes([data[20] ^ 4]) + data[21:])
    if damage in ("pickle", "gone"):
        path.unlink()
    if damage == "pickle":
        (copy / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": print}, protocol=2))
    found = verdicts(copy)
    assert found["arrays"][0] == "failed" and str(copy) in found["arrays"][1]
    assert found["numbers"] == ("not checked", "needs the check 'arrays'")


@pytest.mark.parametrize("name", ["./nowhere", "me/no-such-model", "me/busy", "me/private"])
def test_verify_of_nothing_fails_nothing_and_is_no_success(name, hub):
    result = call("verify", name)
    assert result.exit_code == 1
    assert result.stdout.startswith(f"not checked  checkpoint: no checkpoint '{name}'")
    assert result.stdout.endswith(f"\n0 passed, 0 failed, {len(CHECKS)} not checked\n")


def test_verify_without_a_network_does_not_check_what_the_cache_lacks(hub, monkeypatch):
    OpenAIGPTConfig.from_pretrained("me/tiny")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    found = verdicts("me/tiny")
    assert found["config"][0] == "passed"
    assert found["arrays"][0] == found["vocabulary"][0] == "not checked"
    assert "HF_HUB_OFFLINE" in found["arrays"][1]
    assert call("verify", "me/tiny").exit_code == 1  # no weights were seen


def test_verify_finds_a_flipped_bit_in_the_cache(hub):
    call("download", "me/tiny")
    assert verdicts("me/tiny")["checksums"] == ("passed", "4 of 4 files are as the hub promised")
    path = next(Path(constants.HF_HUB_CACHE).rglob(LARGE))
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.resolve().write_bytes(data)
    assert verdicts("me/tiny")["numbers"][0] == "passed"  # nothing else can see it
    assert verdicts("me/tiny")["checksums"] == (
        *("failed", f"{LARGE} has changed since the download; delete it and load it again"),
    )


@pytest.fixture
def tiny_is_official(copy, monkeypatch) -> Path:
    """Facts about tiny in place of those about GPT-1, so that every check can pass."""
    model = OpenAIGPTLMHeadModel.from_pretrained(copy, dtype="float32")
    tokenizer = OpenAIGPTTokenizerFast.from_pretrained(copy)
    pages = as_openai_wrote(tokenizer.vocab, tokenizer.merges)
    digests = {x: (len(page), hashlib.sha256(page).hexdigest()) for x, page in pages.items()}
    prompt = tokenizer.encode("the president is")
    written = model.generate(torch.tensor([prompt]), max_length=20, do_sample=False)[0].tolist()
    facts = {"shapes": parameter_shapes(model.config), "files": OFFICIAL["files"] | digests}
    facts |= {"prompt": prompt, "continuation": written}
    monkeypatch.setattr(checkpoint, "OFFICIAL", OFFICIAL | facts)
    return copy


def test_verify_can_confirm_every_fact(tiny_is_official):
    found = verdicts(tiny_is_official)
    unknown = {"checksums"}
    assert {check for check, (verdict, _) in found.items() if verdict != "passed"} == unknown
    (tiny_is_official / "vocab.json").unlink()  # tokenizer.json has it, too
    verdict, why = verdicts(tiny_is_official)["official files"]
    assert verdict == "not checked" and why.startswith("there is no vocab.json")


def test_verify_finds_other_weights_by_what_they_write(tiny_is_official):
    change(tiny_is_official, "transformer.h.0.ln_1.weight", (slice(None),), 3.0)
    verdict, why = verdicts(tiny_is_official)["official continuation"]
    assert verdict == "failed" and re.fullmatch(r"token \d+ is \d+, published is \d+", why)


def test_verify_finds_another_vocabulary(tiny_is_official):
    path = tiny_is_official / "merges.txt"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([*lines[:5], lines[6], lines[5], *lines[7:]]), encoding="utf-8")
    found = verdicts(tiny_is_official)
    assert found["official vocabulary"][0] == "failed"
    assert found["official ids"] == ("not checked", "needs the check 'official vocabulary'")


@pytest.mark.parametrize("fault", [None, "params_3.npy"])
def test_verify_counts_the_parts_of_a_release(tiny_is_official, tmp_path, fault):
    call("convert", str(tiny_is_official), str(tmp_path / "2018"), "--to", "openai")
    if fault:
        (tmp_path / "2018" / fault).unlink()
    found = verdicts(tmp_path / "2018", n_head=4)
    assert found["official continuation"][0] == ("not checked" if fault else "passed")
    assert found["arrays"][0] == ("failed" if fault else "passed")


def test_verify_knows_the_page_of_a_release_by_its_checksum(tiny_is_official, tmp_path):
    call("convert", str(tiny_is_official), str(tmp_path / "2018"), "--to", "openai")
    path = tmp_path / "2018" / "params_shapes.json"
    page = path.read_bytes()
    digest = hashlib.sha256(page).hexdigest()
    checkpoint.OFFICIAL["files"][path.name] = (len(page), digest)
    assert verdicts(path.parent, n_head=4)["official files"][0] == "passed"
    path.write_bytes(page.replace(b", ", b" ,"))
    assert verdicts(path.parent, n_head=4)["official files"][0] == "not checked"


@pytest.mark.skipif(not parity.OFFICIAL.is_dir(), reason="MINIGPT_OFFICIAL_DIR names no folder")
def test_verify_knows_openais_vocabulary():
    found = verdicts(parity.OFFICIAL)
    assert found["official vocabulary"] == ("passed", "the SHA-256 of both files")
    assert found["official ids"][0] == "passed"


def test_the_official_facts_are_for_the_official_sizes():
    assert OFFICIAL["shapes"] == parameter_shapes(OpenAIGPTConfig())
