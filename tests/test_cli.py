"""The program `minigpt`: what every command answers, and the answers of version 0.1."""

import ast
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from minigpt import (
    AutoTokenizer,
    OpenAIGPTConfig,
    OpenAIGPTForSequenceClassification,
    OpenAIGPTLMHeadModel,
    OpenAIGPTTokenizerFast,
)
from minigpt.cli import verify
from minigpt.cli.app import app
from minigpt.cli.run import Task
from minigpt.hf.pipeline import GENERATION, TASKS
from tests import helpers
from tests.hub import FILES, LARGE, point_at, running_hub

ROOT = Path(__file__).parent.parent
RECORD = json.loads((ROOT / "tests/fixtures/v0.1/command_line.json").read_text())["examples"]
FORMATS = ("safetensors", "bin", "openai")


def call(*words: str, text: str | None = None):
    return CliRunner().invoke(app, words, input=text, prog_name="minigpt")


# -- the answers of version 0.1

NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
GONE = "not checked  official (shapes|files|ids): .*\n"  # checks that said nothing new


def comparable(words: list[str], text: str) -> str:
    """What of an answer does not differ between machines and days."""
    if words[0] == "info":
        return "\n".join(sorted(text.partition("cpu threads")[2].splitlines()[1:]))
    if words[0] == "verify":
        text = re.sub(GONE + r"|\d+ passed, .*\n", "", text)
        return text.replace("needs the check 'official shapes'", "needs the check 'official'")
    return text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder in which the examples run, one after the other."""
    folder = tmp_path_factory.mktemp("examples")
    for name in ("books", "held_out"):
        (folder / name).mkdir()
        (folder / name / "one.txt").write_text("The old miller went to the sea. " * 600)
    return folder


@pytest.mark.parametrize("example", RECORD, ids=lambda one: " ".join(one["words"])[:50])
def test_the_answers_are_those_of_version_0_1(example, folder, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "cache"))
    monkeypatch.chdir(folder)
    words = example["words"]
    if words[0] == "pretrain":
        pytest.importorskip("spacy")  # an extra of the package
    result = call(*(x.replace("FOLDER", str(folder)) for x in words), text=example["input"] or "")
    assert result.exit_code == example["exit"], result.output
    out, old = comparable(words, result.stdout), comparable(words, example["stdout"])
    out = out.replace(str(folder), "FOLDER")
    assert NUMBER.sub("#", out) == NUMBER.sub("#", old)
    close = {"rel": 0.1 if words[0] == "pretrain" else 0, "abs": 2e-3}
    assert list(map(float, NUMBER.findall(out))) == pytest.approx(
        list(map(float, NUMBER.findall(old))), **close
    )
    if words[0] != "pretrain" or example["exit"]:  # which shows its progress there
        assert result.stderr.replace(str(folder), "FOLDER") == example["stderr"]


# -- the program as a whole


def test_nothing_heavy_is_imported_before_a_command_runs():
    for path in (ROOT / "minigpt/cli").glob("*.py"):
        if path.name == "verify.py":  # imported when its command runs
            continue
        tree = ast.parse(path.read_text())
        imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {getattr(node, "module", None) or node.names[0].name for node in imports}
        ours = {name for name in names if name.startswith("minigpt")}
        assert all(name == "minigpt" or name.startswith("minigpt.cli.") for name in ours)
        others = {name.split(".")[0] for name in names - ours}
        assert others <= {*sys.stdlib_module_names, "typer"}


def test_choices_are_those_of_the_library():
    assert set(get_args(Task)) == set(TASKS)


COMMANDS = ["run", "generate", "convert", "download", "info", "verify", "pretrain"]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_helps_itself_with_an_example(name):
    result = call(name, "--help")
    assert result.exit_code == 0 and re.search(rf"Examples?:\n.*minigpt {name} ", result.stdout)


def test_version_and_help():
    result = call("--version")
    assert result.exit_code == 0 and re.fullmatch(r"minigpt \d+\.\d+\.\d+\w*\n", result.stdout)
    result = call()  # nothing at all
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == call("--help").stdout
    assert {"--install-completion", "--show-completion"} <= set(result.stdout.split())


LINES = [
    ("minigpt ver", "verify"),
    ("minigpt --ver", "--version"),
    ("minigpt run --task zero", "zero-shot-classification"),
]


@pytest.mark.parametrize("line, end", LINES)
def test_the_shell_completes_commands_options_and_choices(line, end):
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
    env = os.environ | {"_MINIGPT_COMPLETE": "complete_bash"} | words
    command = [sys.executable, "-m", "minigpt"]
    assert subprocess.run(command, env=env, capture_output=True, text=True).stdout.split() == [end]


WRONG = [
    ["no-such-command"],
    ["run", "--no-such-option"],
    ["run", "Hello", "--labels"],  # without its value
    ["run", "Hello", "--json=1"],
    ["--debug=1", "info"],
    ["generate", "\x01"],  # no tokens
    ["run", "Hello", "--task", "zero-shot-classification"],
    ["run", " "],
    ["generate"],  # the standard input is empty
    ["generate", "Hello", "--max-new-tokens", "0"],
    ["generate", "Hello", "--seed", "99999999999999999999"],
    ["convert", "tiny"],
    ["convert", "tiny", "folder", "--to", "tensorflow"],
    ["verify"],
    ["info", "tiny", "gpt2"],
    *(["pretrain", "A", "B", "C", f"--{x}", "0"] for x in ("steps", "batch-size", "workers")),
    *(["pretrain", "A", "B", "C", f"--{x}", "-1"] for x in ("peak", "warmup")),
]


@pytest.mark.parametrize("words", WRONG, ids=" ".join)
def test_a_wrong_use_is_2(words):
    result = call(*words)
    assert result.exit_code == 2 and result.stdout == ""
    assert re.fullmatch("minigpt: .*; see minigpt.* --help\n", result.stderr)
    assert call("--debug", *words).stderr == result.stderr  # no mistake of ours: no program text


# -- run and generate


def test_the_snippet_of_the_documentation_page(monkeypatch):
    monkeypatch.setitem(GENERATION, "max_new_tokens", 20)
    result = call("run", "--task", "text-generation", "--model", "tiny", "--device", "cpu",
                  text="The future of AI is\n")  # fmt: skip
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("The future of AI is ") and len(result.stdout.split()) > 10


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.filterwarnings("ignore")
def test_json_of_each_task_is_a_value_a_line(task, monkeypatch):
    monkeypatch.setitem(GENERATION, "max_new_tokens", 20)
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


def test_what_is_no_json_is_not_written_as_json(tmp_path):
    model = OpenAIGPTForSequenceClassification(OpenAIGPTConfig(vocab_size=8192, n_embd=12))
    model.score.weight.data.fill_(float("nan"))
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained("tiny").save_pretrained(tmp_path)
    words = "run", "The", "--task", "text-classification", "--model", str(tmp_path)
    result = call(*words, "--json")
    assert (result.exit_code, result.stdout) == (1, "") and "JSON" in result.stderr
    assert call(*words).stdout.startswith("nan ")


def test_generate_shows_each_word_as_it_is_written():
    words = "generate", "The old miller", "--max-new-tokens", "400", "--device", "cpu"
    command = [sys.executable, "-m", "minigpt", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        chunks = [os.read(process.stdout.fileno(), 100) for _ in range(9)]
        still_running = process.poll() is None
        process.kill()
    assert still_running and b"".join(chunks).startswith(b"The old miller ")
    assert all(len(chunk) < 30 for chunk in chunks[1:])


# -- convert, download, info, pretrain


@pytest.mark.parametrize("to", FORMATS)
def test_convert_keeps_every_number(to, tmp_path):
    result = call("convert", "tiny", str(tmp_path), "--to", to)
    assert result.exit_code == 0
    assert result.stdout.split() == sorted(path.name for path in tmp_path.iterdir())
    heads = {"n_head": 4} if to == "openai" else {}
    before = OpenAIGPTLMHeadModel.from_pretrained("tiny", dtype="float32").state_dict()
    after = OpenAIGPTLMHeadModel.from_pretrained(tmp_path, dtype="float32", **heads).state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with running_hub() as server:
        point_at(server.url, monkeypatch, tmp_path / "cache")
        yield server


def test_download_fetches_what_there_is_and_renews_it(hub, tmp_path):
    hub.repositories["me/tiny"] = FILES | {"generation_config.json": b'{"top_k": 3}'}
    result = call("download", "me/tiny")
    assert result.exit_code == 0 and f"{17102240:,} {LARGE}" in result.stdout
    assert Path(result.stdout.splitlines()[-1]).is_relative_to(tmp_path / "cache")
    names = {"config.json", LARGE, "vocab.json", "merges.txt", "generation_config.json"}
    assert set(hub.asked("GET")) == names
    hub.requests.clear()
    model = OpenAIGPTLMHeadModel.from_pretrained("me/tiny")
    assert (model.generation_config.top_k, hub.requests) == (3, [])
    call("download", "me/tiny")
    assert names <= set(hub.asked("HEAD")) and hub.asked("GET") == []


def test_download_of_a_repository_without_a_model(hub):
    result = call("download", "me/bare")
    assert result.exit_code == 1 and "me/bare holds none of model.safetensors" in result.stderr


def test_info_tells_what_a_bug_report_needs():
    facts = dict(line.split(maxsplit=1) for line in call("info").stdout.splitlines())
    assert {"python", "platform", "minigpt", "torch", "cuda", "mps"} <= set(facts)
    assert facts["torch"] == torch.__version__


def test_pretrain_makes_a_checkpoint_that_writes(tmp_path):
    pytest.importorskip("spacy")  # an extra of the package
    for name in ("books", "held_out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.txt").write_text("The old miller went to the sea. " * 600)
    sizes = "--n-embd 16 --n-layer 1 --n-head 2 --vocab-size 60 --steps 2 --batch-size 2 --warmup 1"
    places = [str(tmp_path / name) for name in ("books", "held_out", "out")]
    result = call("pretrain", *places, *sizes.split(), "--workers", "1")
    assert result.exit_code == 0, result.stderr
    assert call("verify", places[-1]).exit_code == 0
    assert call("generate", "The sea", "--model", places[-1], "--device", "cpu").exit_code == 0


# -- verify


def verdicts(place, **options) -> dict[str, tuple[str, str]]:
    return {check: (verdict, why) for check, verdict, why in verify.examine(str(place), **options)}


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
    assert result.exit_code == 0 and len(lines) == len(verify.CHECKS) + 1
    assert "not checked  official: this is not GPT-1 as OpenAI released it" in result.stdout
    assert lines[-1] == "7 passed, 0 failed, 4 not checked"
    change(copy, "transformer.h.3.mlp.c_fc.weight", (7, 7), float("nan"))
    result = call("verify", str(copy))
    assert result.exit_code == 1
    assert "failed       numbers: h.3.mlp.c_fc.weight is NaN or infinite in 1 of" in result.stdout


def test_verify_finds_a_vocabulary_of_another_size(copy):
    tokenizer = OpenAIGPTTokenizerFast.from_pretrained(copy)
    tokenizer.add_tokens(["<new>"])
    tokenizer.save_pretrained(copy)
    why = "the vocabulary has 8193 pieces, the table of tokens 8192 rows"
    assert verdicts(copy)["pieces"] == ("failed", why)


def test_verify_finds_a_config_of_another_model(copy):
    page = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(page | {"n_positions": 256}))
    verdict, why = verdicts(copy)["shapes"]
    assert verdict == "failed" and "positions_embed.weight has shape (512, 256)" in why


def test_weights_without_a_vocabulary_are_no_failure(tmp_path):
    OpenAIGPTLMHeadModel.from_pretrained("tiny").save_pretrained(tmp_path)
    assert verdicts(tmp_path)["vocabulary"] == ("not checked", "there is none, only weights")
    assert call("verify", str(tmp_path)).exit_code == 0
    (tmp_path / "vocab.json").write_text("{}")  # half of one
    assert verdicts(tmp_path)["vocabulary"][0] == "failed"


def test_verify_without_a_network_does_not_check_what_the_cache_lacks(hub, monkeypatch):
    OpenAIGPTConfig.from_pretrained("me/tiny")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    found = verdicts("me/tiny")
    assert found["config"][0] == "passed"
    assert found["arrays"][0] == found["vocabulary"][0] == "not checked"
    assert call("verify", "me/tiny").exit_code == 1  # no weights were seen


def test_verify_finds_a_flipped_bit_in_the_cache(hub):
    call("download", "me/tiny")
    assert verdicts("me/tiny")["checksums"] == ("passed", "4 files are as the hub promised")
    path = next(Path(constants.HF_HUB_CACHE).rglob(LARGE))
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.resolve().write_bytes(data)
    assert verdicts("me/tiny")["numbers"][0] == "passed"  # nothing else can see it
    why = f"{LARGE} has changed since the download; delete it and load it again"
    assert verdicts("me/tiny")["checksums"] == ("failed", why)


@pytest.fixture
def tiny_is_official(copy, monkeypatch) -> Path:
    """Facts about tiny in place of those about GPT-1, so that every check can pass."""
    tokenizer = OpenAIGPTTokenizerFast.from_pretrained(copy)
    tokens = sorted(tokenizer.vocab.items(), key=lambda item: (item[1] == 0, item[1]))
    merges = "\n".join(["#version: 0.2", *map(" ".join, tokenizer.merges), ""])
    texts = json.dumps(dict(tokens)), merges
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    names = ("encoder_bpe_40000.json", "vocab_40000.bpe")
    monkeypatch.setattr(verify, "VOCABULARY", dict(zip(names, digests, strict=True)))
    monkeypatch.setattr(verify, "OpenAIGPTConfig", OfTiny)
    prompt = tokenizer.encode("the president is")
    model = OpenAIGPTLMHeadModel.from_pretrained(copy, dtype="float32")
    ids = model.generate(torch.tensor([prompt]), max_new_tokens=17, do_sample=False)[0].tolist()
    monkeypatch.setattr(verify, "PROMPT", prompt)
    monkeypatch.setattr(verify, "CONTINUATION", ids[len(prompt) :])
    return copy


def OfTiny() -> OpenAIGPTConfig:  # stands for the class
    return OpenAIGPTConfig.from_pretrained("tiny")


OfTiny.from_pretrained = OpenAIGPTConfig.from_pretrained


def test_verify_can_confirm_every_fact(tiny_is_official):
    found = verdicts(tiny_is_official)
    assert [check for check, (verdict, _) in found.items() if verdict != "passed"] == ["checksums"]


@pytest.mark.parametrize("is_named", [False, True])
def test_a_healthy_model_that_is_not_openais_is_no_failure(tiny_is_official, monkeypatch, is_named):
    """Other weights and another vocabulary: wrong only where the name promises OpenAI's."""
    if is_named:
        monkeypatch.setattr(verify, "OFFICIAL_NAME", str(tiny_is_official))
    change(tiny_is_official, "transformer.h.0.ln_1.weight", (slice(None),), 3.0)
    path = tiny_is_official / "merges.txt"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:5], lines[6], lines[5], *lines[7:]]))
    found, expected = verdicts(tiny_is_official), "failed" if is_named else "not OpenAI's"
    verdict, why = found["official continuation"]
    assert verdict == expected and re.fullmatch(r"token \d+ is \d+, published is \d+", why)
    assert found["official vocabulary"][0] == expected
    result = call("verify", str(tiny_is_official))
    assert result.exit_code == is_named
    assert is_named or result.stdout.endswith("8 passed, 0 failed, 1 not checked, 2 not OpenAI's\n")


@pytest.mark.skipif(not helpers.OFFICIAL.is_dir(), reason="MINIGPT_OFFICIAL_DIR names no folder")
def test_verify_knows_openais_vocabulary():
    found = verdicts(helpers.OFFICIAL)
    assert found["official vocabulary"] == ("passed", "the SHA-256 of both files")
