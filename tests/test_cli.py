"""The program `minigpt`: what every command answers, and the answers of version 0.1."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import pytest
import torch
from huggingface_hub import constants
from packaging.version import Version
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import minigpt
from minigpt import AutoTokenizer, OpenAIGPTConfig, OpenAIGPTLMHeadModel
from minigpt.cli import verify
from minigpt.cli.app import app
from minigpt.cli.run import PipelineTask
from minigpt.hf.pipeline import GENERATION
from tests import helpers
from tests.hub import FILES, LARGE, point_at, running_hub

PAGE = helpers.ROOT / "tests/fixtures/v0.1/command_line.json"
RECORD = json.loads(PAGE.read_text(encoding="utf-8"))["examples"]


def call(*words: str, text: str | None = None):
    return CliRunner().invoke(app, words, input=text, prog_name="minigpt")


# -- the answers of version 0.1

NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
GONE = "not checked  official (shapes|files): .*\n"  # checks that said nothing new


def comparable(words: list[str], text: str) -> str:
    """What of an answer does not differ between machines and days."""
    if words[0] == "info":
        return "\n".join(sorted(text.partition("cpu threads")[2].splitlines()[1:]))
    if words[0] == "verify":
        text = re.sub(GONE + r"|\d+ passed, .*\n", "", text)
        return text.replace("needs the check 'official shapes'", "needs the check 'official'")
    return text.replace("generation_config.json\n", "")  # version 0.1 wrote none without settings


def cannot_run(words: list[str]) -> bool:
    """Say whether an example needs what this machine lacks, or says something else here."""
    needs_spacy = words[0] == "pretrain" or words[:2] == ["verify", "FOLDER/out"]
    other_device = words[-1] == "99" and torch.cuda.is_available()
    other_typer = "translation" in words and Version(version("typer")) < Version("0.29")
    return needs_spacy and not find_spec("spacy") or other_device or other_typer


def test_the_answers_are_those_of_version_0_1(tmp_path, monkeypatch):
    """The examples run in one folder, one after the other: some read what others wrote."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for name in ("books", "held_out"):
        (tmp_path / name).mkdir()
        text = "The old miller went to the sea. " * 600
        (tmp_path / name / "one.txt").write_text(text, encoding="utf-8")
    for example in RECORD:
        if not cannot_run(words := example["words"]):
            here = [word.replace("FOLDER", str(tmp_path)) for word in words]
            compare(example, call(*here, text=example["input"] or ""), str(tmp_path))


def compare(example: dict, result, folder: str) -> None:
    """Compare what an example says with what version 0.1 said: numbers nearly, words exactly."""
    words = example["words"]
    assert (words, result.exit_code) == (words, example["exit"]), result.output
    out, old = comparable(words, result.stdout), comparable(words, example["stdout"])
    assert (words, NUMBER.sub("#", out.replace(folder, "FOLDER"))) == (words, NUMBER.sub("#", old))
    found, expected = (list(map(float, NUMBER.findall(text))) for text in (out, old))
    assert found == pytest.approx(expected, rel=0.1 if words[0] == "pretrain" else 0, abs=2e-3)
    if words[0] != "pretrain" or example["exit"]:  # which shows its progress there
        assert (words, result.stderr.replace(folder, "FOLDER")) == (words, example["stderr"])


# -- the program as a whole

COMMANDS = "run generate convert download info verify pretrain plot finetune evaluate zero-shot"


def test_version_and_help():
    result = call("--version")
    assert result.exit_code == 0 and re.fullmatch(r"minigpt \d+\.\d+\.\d+\w*\n", result.stdout)
    result = call()  # nothing at all
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == call("--help").stdout
    for name in COMMANDS.split():
        assert re.search(rf"Examples?:\n.*minigpt {name} ", call(name, "--help").stdout)
        assert call(name, "-h").stdout == call(name, "--help").stdout


@pytest.mark.parametrize("words", [["run", "--help"], ["run", "--no-such-option"]])
def test_help_needs_no_torch(words):
    code = "import sys; from minigpt.__main__ import main; main()"
    command = [sys.executable, "-X", "importtime", "-c", code, *words]
    told = subprocess.run(command, capture_output=True, text=True).stderr
    assert " minigpt.cli.run\n" in told and " torch\n" not in told


def test_the_shell_completes():
    words = {"COMP_WORDS": "minigpt run --task zero", "COMP_CWORD": "3"}
    env = os.environ | {"_MINIGPT_COMPLETE": "complete_bash"} | words
    done = subprocess.run([sys.executable, "-m", "minigpt"], env=env, capture_output=True)
    assert done.stdout.split() == [b"zero-shot-classification"]


WRONG = [
    "no-such-command",
    "generate",  # the standard input is empty
    "generate Hello --seed 99999999999999999999",
    "pretrain BOOKS HELD_OUT OUT --seed 99999999999999999999",
    "finetune glue FOLDER OUT",
    "evaluate glue FOLDER MODEL",
]


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_use_is_2_and_no_mistake_of_ours(line):
    result = call("--debug", *line.split())
    assert result.exit_code == 2 and result.stdout == ""
    assert re.fullmatch("minigpt: .*; see minigpt.* --help\n", result.stderr)


# -- run and generate


@pytest.mark.parametrize("task", get_args(PipelineTask))
def test_each_task_answers_a_line_in_text_and_json(task, monkeypatch):
    monkeypatch.setitem(GENERATION, "max_new_tokens", 8)
    options = ["--labels", "sea, land"] if task == "zero-shot-classification" else []
    words = ["run", "--task", task, "--device", "cpu", "--dtype", "float32", *options]
    text = "The miller\n\nThe sea\n"
    result = call(*words, "--json", text=text)
    assert len([json.loads(line) for line in result.stdout.splitlines()]) == 2
    # the head of a classifier is new, and a warning is a line that leaves the output alone
    warned = re.fullmatch(r"(minigpt: warning: .*\n)+", result.stderr)
    assert bool(warned) == ("classification" in task)
    if task != "feature-extraction":  # a token a line
        assert call(*words, text=text).stdout.count("\n") == 2 * len(options or "x")


def test_what_is_no_json_is_not_written_as_json(monkeypatch):
    answer = {"label": "good", "score": float("nan")}
    monkeypatch.setattr(minigpt, "pipeline", lambda *_, **__: lambda texts: [answer])
    words = "run", "The", "--task", "text-classification"
    result = call(*words, "--json")
    assert result.exit_code == 1 and "JSON" in json.loads(result.stdout)["error"]
    assert call(*words).stdout == "nan good\n"


def test_generate_shows_each_word_as_it_is_written():
    words = "generate", "The old miller", "--max-new-tokens", "400", "--device", "cpu"
    command = [sys.executable, "-m", "minigpt", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        chunks = [os.read(process.stdout.fileno(), 100) for _ in range(9)]
        still_running = process.poll() is None
        process.kill()
    assert still_running and b"".join(chunks).startswith(b"The old miller")
    assert all(len(chunk) < 30 for chunk in chunks[1:])


GREEDY = "--temperature 0 --max-new-tokens 30 --device cpu"
OPTIONS = [  # words after "The old miller", and what is said; both commands say the same
    (GREEDY, "The old miller's daughter, and the old miller's daughter, .*"),
    (f"{GREEDY} --stop daughter", "The old miller's daughter"),
    (f"{GREEDY} --stop daughter --stop old", "The old miller's daughter"),
    ("--num-beams 2 --max-new-tokens 3 --device cpu", "The old miller's .*"),
    ("--top-k 9 --top-p 0.9 --temperature 0.5 --max-new-tokens 9 --seed 1 --device cpu", ".*"),
]


@pytest.mark.parametrize("options, said", OPTIONS)
def test_both_commands_take_the_same_settings(options, said):
    first, second = (
        call(name, "The old miller", *options.split()).stdout for name in ("run", "generate")
    )
    assert first == second and re.fullmatch(f"{said}\n", first, re.DOTALL)


def test_json_of_info_and_verify(tmp_path):
    facts = json.loads(call("info", "tiny", "--json").stdout)
    assert (facts["parameters"], facts["n_head"], facts["dtypes"]) == (8546304, 4, "float16")
    told = json.loads(call("verify", "tiny", "--json").stdout)
    assert (
        told["good"]
        and {"check": "numbers", "verdict": "passed", "why": "all finite"} in (told["checks"])
    )
    result = call("verify", str(tmp_path), "--json")
    assert result.exit_code == 1 and not json.loads(result.stdout)["good"]


def test_nothing_is_overwritten_without_force_and_a_release_runs(tmp_path):
    words = "convert", "tiny", str(tmp_path), "--to"
    assert call(*words, "openai").exit_code == 0
    assert call("verify", str(tmp_path)).exit_code == 0
    assert call("run", "The", "--model", str(tmp_path), *GREEDY.split()).exit_code == 0
    refused = call(*words, "bin")
    assert refused.exit_code == 2 and "or --force to replace" in refused.stderr
    assert call(*words, "bin", "--force").exit_code == 0
    assert not list(tmp_path.glob("params_*"))


# -- download and verify


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with running_hub() as server:
        point_at(server.url, monkeypatch, tmp_path / "cache")
        yield server


def verdicts(place) -> dict[str, tuple[str, str]]:
    return {check: (verdict, why) for check, verdict, why in verify.examine(str(place))}


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
    result = call("download", "me/bare")
    assert result.exit_code == 1 and "me/bare holds none of model.safetensors" in result.stderr
    # a bit that flips in the cache
    assert verdicts("me/tiny")["checksums"] == ("passed", "5 files are as the hub promised")
    path = next(Path(constants.HF_HUB_CACHE).rglob(LARGE)).resolve()
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)
    why = f"{LARGE} has changed since the download; download it again"
    assert verdicts("me/tiny")["checksums"] == ("failed", why)


def test_verify_without_a_network_does_not_check_what_the_cache_lacks(hub, monkeypatch):
    OpenAIGPTConfig.from_pretrained("me/tiny")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    found = verdicts("me/tiny")
    assert found["config"][0] == "passed"
    assert found["arrays"][0] == found["vocabulary"][0] == "not checked"
    assert call("verify", "me/tiny").exit_code == 1  # no weights were seen


@pytest.mark.parametrize("name", ["me/no-such-model", "me/busy", "me/private"])
def test_verify_of_nothing_fails_nothing_and_is_no_success(name, hub):
    result = call("verify", name)
    assert result.exit_code == 1
    assert result.stdout.startswith(f"not checked  checkpoint: no checkpoint '{name}'")
    assert result.stdout.endswith(f"\n0 passed, 0 failed, {len(verify.CHECKS)} not checked\n")


@pytest.fixture
def copy(tmp_path) -> Path:
    OpenAIGPTLMHeadModel.from_pretrained("tiny").save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained("tiny").save_pretrained(tmp_path)
    return tmp_path


def spoil_weight(folder: Path) -> None:
    weights = load_file(folder / LARGE)
    weights["transformer.h.3.mlp.c_fc.weight"][7, 7] = float("nan")
    save_file(weights, folder / LARGE, metadata={"format": "pt"})


def lose_merges(folder: Path) -> None:
    for name in ("merges.txt", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def add_token(folder: Path) -> None:
    AutoTokenizer.from_pretrained(folder, pad_token="<new>").save_pretrained(folder)


def halve_positions(folder: Path) -> None:
    page = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(page | {"n_positions": 256}))


DAMAGE = [  # what is done to a copy of tiny, the check that fails, why
    (spoil_weight, "numbers", "h.3.mlp.c_fc.weight is NaN or infinite in 1 of"),
    (
        add_token,
        "vocabulary size",
        "the vocabulary has 8193 tokens, the embedding matrix 8192 rows",
    ),
    (halve_positions, "shapes", "positions_embed.weight has shape (512, 256)"),
    (lose_merges, "vocabulary", "merges.txt"),
    (lambda folder: (folder / LARGE).write_bytes(b"cut"), "arrays", LARGE),
]


@pytest.mark.parametrize("damage, check, why", DAMAGE, ids=[row[1] for row in DAMAGE])
def test_verify_finds_damage(copy, damage, check, why):
    damage(copy)
    result = call("verify", str(copy))
    assert result.exit_code == 1
    assert re.search(rf"failed +{check}: .*{re.escape(why)}", result.stdout), result.stdout


def test_weights_without_a_vocabulary_are_no_failure(tmp_path):
    OpenAIGPTLMHeadModel.from_pretrained("tiny").save_pretrained(tmp_path)
    result = call("verify", str(tmp_path))
    assert result.exit_code == 0
    assert "not checked  vocabulary: there are only weights, no vocabulary\n" in result.stdout


@pytest.mark.parametrize("is_named", [False, True])
def test_a_healthy_model_that_is_not_openais_is_no_failure(copy, monkeypatch, is_named):
    """Other weights and another vocabulary: wrong only where the name promises OpenAI's."""
    if is_named:
        monkeypatch.setattr(verify, "OFFICIAL_NAME", str(copy))
    assert verdicts(copy)["official"][0] == ("failed" if is_named else "not checked")
    monkeypatch.setattr(verify, "USUAL", OpenAIGPTConfig.from_pretrained("tiny"))
    found, expected = verdicts(copy), "failed" if is_named else "not OpenAI's"
    assert found["official continuation"][0] == found["official vocabulary"][0] == expected
    result = call("verify", str(copy))
    assert result.exit_code == is_named
    assert is_named or result.stdout.endswith("8 passed, 0 failed, 2 not checked, 2 not OpenAI's\n")
    ids = json.loads(re.search(r"\[.*?\]", found["official continuation"][1])[0])
    monkeypatch.setattr(verify, "CONTINUATION", ids)  # as if this were published
    assert verdicts(copy)["official continuation"] == ("passed", "17 tokens, as published")


@pytest.mark.skipif(not helpers.OFFICIAL.is_dir(), reason="MINIGPT_OFFICIAL_DIR names no folder")
def test_verify_knows_openais_vocabulary(tmp_path):
    found = verdicts(helpers.OFFICIAL)
    assert found["official vocabulary"] == ("passed", "both files have the SHA-256 of OpenAI's")
    assert found["official ids"] == ("passed", "the published text gets the published ids")
    OpenAIGPTConfig().save_pretrained(tmp_path)
    basic = AutoTokenizer.from_pretrained(helpers.OFFICIAL, text_pipeline="basic")
    basic.save_pretrained(tmp_path)  # loses the published line break
    assert verdicts(tmp_path)["official ids"][0] == "not OpenAI's"
