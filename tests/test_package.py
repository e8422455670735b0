"""What stands around the notebooks: imports, the commands of README, the lists of dependencies."""

import json
import re
import subprocess
import sys
from importlib.metadata import requires, version
from pathlib import Path

import pytest
import yaml

import minigpt
from benchmarks import demo
from tests import parity
from tests.house import NOTEBOOKS, ROOT, module_of, read

README = (ROOT / "README.md").read_text(encoding="utf-8")
LOCK = dict(
    line.split("==")
    for line in (ROOT / "requirements.lock").read_text().splitlines()
    if "==" in line
)
HEAVY = (
    "spacy",
    "ftfy",
    "matplotlib",
    "transformers",
    "IPython",
    "nbdev",
    "fastcore",
)


def test_importing_minigpt_imports_nothing_heavy():
    code = f"import sys, json, minigpt; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_public_names_are_there():
    assert all(hasattr(minigpt, name) for name in minigpt.__all__)


def test_exported_modules_have_a_docstring():
    for path in NOTEBOOKS:
        if module := module_of(read(path)):
            source = (ROOT / "minigpt" / f"{module}.py").read_text()
            assert source.startswith('"""'), module


def test_the_demo_continues_the_sentence():
    text, speed = demo.continue_text(demo.PROMPT, tokens=20)
    assert text.startswith("the future of ai is") and len(text.split()) > 10 and speed > 0


def test_the_demo_proves_three_references():
    openai, transformers, tokenizer = demo.proof()
    for line in (openai, transformers):
        assert float(re.search(r"difference (\S+)", line)[1]) < 1e-4
    assert ("40 of 40" if parity.OFFICIAL.is_dir() else "not checked") in tokenizer


def shell_lines(markdown: str) -> list[str]:
    blocks = re.findall(r"```(?:sh|bash)\n(.*?)```", markdown, re.DOTALL)
    return [
        line.split("#")[0].strip()
        for block in blocks
        for line in block.splitlines()
        if line.split("#")[0].strip()
    ]


def test_readme_shows_the_commands():
    lines = shell_lines(README)
    assert {"make demo", "make test", "make lab"} <= set(lines)
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {line.split()[1] for line in lines if line.startswith("make ")} <= targets


def test_every_python_command_in_readme_and_makefile_exists():
    text = "\n".join(shell_lines(README)) + (ROOT / "Makefile").read_text()
    modules = set(re.findall(r"python -m ((?:benchmarks|tests|minigpt)[\w.]*)", text))
    assert {"benchmarks.demo", "tests.run_notebooks"} <= modules
    for module in modules:
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module


def python_blocks(markdown: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", markdown, re.DOTALL)


@pytest.mark.parametrize("code", python_blocks(README))
def test_readme_python_runs(code):
    exec(compile(code, "README.md", "exec"), {})


def test_readme_lists_every_notebook():
    for path in NOTEBOOKS:
        assert f"notebooks/{path.name}" in README


def test_readme_has_python_to_run():
    assert python_blocks(README)


def test_the_commands_help_themselves():
    done = subprocess.run(
        [sys.executable, "-m", "minigpt", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0 and "pretrain" in done.stdout


def extras() -> set[str]:
    text = (ROOT / "pyproject.toml").read_text()
    section = text.split("[project.optional-dependencies]")[1].split("[project.scripts]")[0]
    return set(re.findall(r"^(\w+) = \[", section, re.MULTILINE))


def test_the_conda_environment_installs_this_project_and_nothing_else():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, packages = environment["dependencies"]
    needed = re.search(r'requires-python = "(.*)"', (ROOT / "pyproject.toml").read_text())[1]
    assert (python, pip) == (f"python{needed}", "pip")
    (only,) = packages["pip"]
    found = re.fullmatch(r"--editable \.\[([\w,]+)\]", only)
    assert set(found[1].split(",")) == extras()


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_lock_pins_every_dependency():
    locked = {normal(name) for name in LOCK}
    wanted = {normal(re.match(r"[\w.-]+", line)[0]) for line in requires("minigpt")}
    assert wanted <= locked, f"not in requirements.lock: {sorted(wanted - locked)}"
    assert LOCK["torch"] == "2.13.0"


@pytest.mark.parametrize(
    "name", ["torch", "numpy", "transformers", "nbval", "nbdev", "spacy", "ftfy"]
)
def test_the_outputs_are_compared_with_the_locked_versions(name):
    assert version(name).split("+")[0] == LOCK[name]


def test_no_file_of_the_vocabulary_or_the_books_is_here():
    names = {
        path.name
        for path in ROOT.rglob("*")
        if ".venv" not in path.parts and ".git" not in path.parts
    }
    assert not names & {"encoder_bpe_40000.json", "vocab_40000.bpe", "books.tsv", "wsc273.txt"}


def test_the_embedded_checkpoint_stays_small():
    folder = Path(minigpt.__file__).parent / "assets" / "tiny"
    assert {"config.json", "model.safetensors", "vocab.json", "merges.txt", "README.md"} <= {
        path.name for path in folder.iterdir()
    }
    assert sum(path.stat().st_size for path in folder.iterdir()) < 20e6
