"""Every example of the command line that README, a notebook or a help text shows is run."""

import json
import re
import shlex
from pathlib import Path

import pytest

pytest.importorskip("sklearn")  # extras of the package
pytest.importorskip("spacy")

from minigpt.cli.app import COMMANDS
from minigpt.hf.pipeline import GENERATION
from minigpt.training import finetune
from tests.helpers import ROOT
from tests.house import NOTEBOOKS, read
from tests.hub import point_at, running_hub
from tests.test_cli import call

NAMES = [command.__name__.removesuffix("_command").replace("_", "-") for command in COMMANDS]
EXAMPLE = re.compile(rf"^.*\bminigpt (?:run|{'|'.join(NAMES)}|finetune|evaluate)\b.*", re.MULTILINE)


def documented() -> list[str]:
    pages = [path.read_text(encoding="utf-8") for path in ROOT.rglob("*.md")]
    pages += [x.source for path in NOTEBOOKS for x in read(path).cells if x.cell_type == "markdown"]
    fence = re.compile(r"^```(?:(?:sh)?\n(.*?)|\w+\n.*?)^```", re.DOTALL | re.MULTILINE)
    blocks = [block for page in pages for block in fence.findall(page)]
    helps = [call(*words, "-h").stdout for words in ([], *([x] for x in [*NAMES, *TASKS]))]
    found = [x.strip() for page in [*blocks, *helps] for x in EXAMPLE.findall(page)]
    return [x for x in dict.fromkeys(found) if "Usage:" not in x]


TASKS = ["finetune", "evaluate"]
EXAMPLES = documented()
COLA = "".join(f"a\t{n % 2}\t\tThe sea {n}.\n" for n in range(4))
MNLI = "sentence1\tsentence2\tgold_label\n" + "The sea.\tIt is.\tneutral\n" * 3
FILES = {
    "letter.txt": "My dear friend,\n",
    "BOOKS/a.txt": "The old miller went to the sea. " * 600,
    "HELD_OUT/a.txt": "The old miller. " * 200,
    **{
        f"{folder}/{part}.tsv": COLA
        for folder in ("cola", "GLUE/CoLA")
        for part in ("train", "dev")
    },
    **{f"GLUE/MNLI/{part}.tsv": MNLI for part in ("train", "dev_matched", "test_mismatched")},
    "sst2/dev.tsv": "sentence\tlabel\nThe sea\t1\nNo!\t0\n",
    **{f"csv/{part}.csv": "review,stars\ngood,5\nbad,1\n" for part in ("train", "dev")},
}
SMALL = {  # options that make an example quick
    "generate": "--max-new-tokens 8 --device cpu",
    "pretrain": "--n-embd 8 --n-layer 1 --n-head 1 --n-positions 8 --batch-size 2 --steps 1 "
    "--warmup 0 --vocab-size 60 --workers 1 --device cpu --dtype float32",
    "finetune": "--epochs 1 --device cpu",
    "evaluate": "--device cpu",
}


def prepare(command: str, words: list[str]) -> None:
    """Make what an example takes for granted, in the current folder."""
    if command == "verify" or words[:2] == ["convert", "FOLDER"]:
        assert call("convert", "tiny", "FOLDER").exit_code == 0
    if command == "plot":
        assert (
            call("pretrain", "BOOKS", "HELD_OUT", "OUT", *SMALL["pretrain"].split()).exit_code == 0
        )
    if command == "evaluate":
        folder = {"FOLDER": words[1]}.get(words[2], words[2])
        finetune.finetune(words[1], folder, "OUT", epochs=1, device="cpu", progress=False)


def test_the_examples_are_found():
    shown = {re.search(r"minigpt ([\w-]+)", example)[1] for example in EXAMPLES}
    assert shown == {*NAMES, *TASKS} and len(EXAMPLES) > 25
    assert 'minigpt generate "It was late, and" --no-do-sample --max-new-tokens 7' in str(EXAMPLES)


def test_generate_prints_what_readme_shows():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    pairs = re.findall(r"minigpt (generate [^\n]*)\n```\s*```text\n(.*?)```", readme, re.S)
    assert (
        [call(*shlex.split(words, comments=True)).stdout for words, _ in pairs]
        == [x for _, x in pairs]
        != []
    )


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_runs(example, tmp_path, monkeypatch):
    before, _, line = example.partition("minigpt ")
    words = shlex.split(line, comments=True)
    command, text = words[0], None
    (tmp_path / "benchmarks").symlink_to(ROOT / "benchmarks")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(GENERATION, "max_new_tokens", 8)
    for name, content in FILES.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(content, encoding="utf-8")
    if "echo" in before:
        text = shlex.split(before)[1]
    if "<" in words:
        text, words = FILES[words[-1]], words[: words.index("<")]
    with running_hub() as server:
        point_at(server.url, monkeypatch, tmp_path / "cache")
        prepare(command, words)
        task = words[1] if len(words) > 1 and command in ("zero-shot", *TASKS) else ""
        words = [task if task and word == "FOLDER" else word for word in words]
        done = call(*words, *SMALL.get(command, "").split(), text=text)
    # the name promises OpenAI's weights, and the hub of this test has others
    is_other = words[:2] == ["verify", "openai-community/openai-gpt"]
    assert done.exit_code == is_other, done.output
    assert done.stdout
    if "--json" in words:
        assert json.loads(done.stdout.splitlines()[-1])
