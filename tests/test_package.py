"""What stands around the notebooks: imports, the commands of README, the lists of dependencies."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import minigpt
from benchmarks import demo
from tests import helpers
from tests.house import COURSE, NOTEBOOKS, ROOT, lines_of, module_of, public_names, read

README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
HEAVY = ("spacy", "ftfy", "matplotlib", "transformers", "IPython", "nbdev", "fastcore", "triton")


def loaded(code: str, names: tuple[str, ...]) -> list[str]:
    """Run some Python in a new process; say which of `names` it has imported."""
    code += f"; import sys, json; print(json.dumps([m for m in {names} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_importing_minigpt_imports_no_torch_and_no_module_of_ours():
    names = (
        "torch",
        "numpy",
        "tokenizers",
        "typer",
        *(f"minigpt.{x}" for x in minigpt.HOME.values()),
    )
    assert loaded("import minigpt; dir(minigpt); minigpt.__version__", (*HEAVY, *names)) == []


def test_all_public_names_together_import_nothing_heavy():
    assert loaded("from minigpt import *", (*HEAVY, "torch")) == ["torch"]


@pytest.fixture
def fresh():
    """Forget minigpt, as in a new process; PyTorch stays, for the sake of time."""

    def forget() -> dict:
        ours = [name for name in sys.modules if name.split(".")[0] == "minigpt"]
        return {name: sys.modules.pop(name) for name in ours}

    kept = forget()
    yield
    forget()
    sys.modules.update(kept)


@pytest.mark.parametrize("code", ["", "import minigpt.hf.pipeline", "from minigpt import *"])
def test_pipeline_is_the_function_in_whatever_order_one_imports(code, fresh):
    exec(f"{code}\nfrom minigpt import pipeline", names := {})
    assert names["pipeline"] is sys.modules["minigpt.hf.pipeline"].pipeline


def test_each_public_name_comes_from_the_module_that_defines_it():
    for name, module in minigpt.HOME.items():
        path = ROOT / "minigpt" / f"{module.replace('.', '/')}.py"
        assert name in public_names(path.read_text(encoding="utf-8"))
        assert getattr(minigpt, name) is getattr(sys.modules[f"minigpt.{module}"], name)


def test_a_star_imports_the_public_names_and_dir_lists_them():
    exec("from minigpt import *", names := {})
    assert names.keys() - {"__builtins__"} == set(minigpt.__all__)
    assert set(minigpt.__all__) <= set(dir(minigpt))


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'minigpt' has no attribute 'gpt2'"):
        minigpt.gpt2  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'gpt2'"):
        exec("from minigpt import gpt2")


def test_editors_are_told_the_same_names():
    tree = ast.parse((ROOT / "minigpt" / "__init__.pyi").read_text(encoding="utf-8"))
    told = {
        alias.asname: node.module.removeprefix("minigpt.")
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert told == minigpt.HOME


def test_exported_modules_have_a_docstring():
    for path in NOTEBOOKS:
        if module := module_of(read(path)):
            path = ROOT / "minigpt" / f"{module.replace('.', '/')}.py"
            source = path.read_text(encoding="utf-8")
            assert source.startswith('"""'), module


def test_the_demo_continues_the_sentence():
    text, speed = demo.continue_text(demo.PROMPT, tokens=20)
    assert text.startswith("the future of ai is") and len(text.split()) > 10 and speed > 0


def test_the_demo_proves_three_references():
    openai, transformers, tokenizer = demo.proof()
    for line in (openai, transformers):
        assert float(re.search(r"difference (\S+)", line)[1]) < 1e-4
    assert ("40 of 40" if helpers.OFFICIAL.is_dir() else "not checked") in tokenizer


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
    targets = set(
        re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert {line.split()[1] for line in lines if line.startswith("make ")} <= targets


def test_every_python_command_in_readme_and_makefile_exists():
    text = "\n".join(shell_lines(README)) + (ROOT / "Makefile").read_text(encoding="utf-8")
    modules = set(re.findall(r"python -m (minigpt|(?:benchmarks|tests)\.\w+)", text))
    assert {"benchmarks.demo", "tests.run_notebooks"} <= modules
    for module in modules:
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module


def blocks(kind: str, following: str = "") -> list:
    """The code blocks of a kind in README; with `following`, pairs with the next block below."""
    below = rf"\s*```{following}\n(.*?)```" if following else ""
    return re.findall(rf"```{kind}\n(.*?)```{below}", README, re.DOTALL)


def test_readmes_program_prints_what_stands_below_it(capsys):
    ((program, printed),) = blocks("python", "text")
    exec(compile(program, "README.md", "exec"), {})
    assert capsys.readouterr().out == printed


def test_readme_lists_every_notebook():
    for path in NOTEBOOKS:
        assert path.relative_to(ROOT).as_posix() in README


@pytest.mark.parametrize("path", COURSE, ids=lambda path: path.stem)
def test_readme_tells_the_minutes_of_a_chapter(path):
    """200 words and 10 lines of code a minute."""
    cells = read(path).cells
    words = sum(len(cell.source.split()) for cell in cells if cell.cell_type == "markdown")
    lines = lines_of(cell.source for cell in cells if cell.cell_type == "code")
    (told,) = re.findall(rf"{path.name}\) \| (\d+) \|", README)
    assert abs(int(told) - words / 200 - lines / 10) <= 2


def test_the_commands_help_themselves():
    done = subprocess.run(
        [sys.executable, "-m", "minigpt", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0 and "pretrain" in done.stdout


def test_the_conda_environment_installs_this_project_as_locked_and_nothing_else():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, pip, packages = environment["dependencies"]
    assert python.startswith(f"python{PROJECT['requires-python']},") and pip == "pip"
    constraint, project = packages["pip"]
    assert constraint == "--constraint requirements.lock"
    found = re.fullmatch(r"--editable \.\[([\w,]+)\]", project)
    assert set(found[1].split(",")) == set(EXTRAS)


def pins(name: str) -> list[str]:
    """The versions of a package in the lock: one, or one for each group of platforms."""
    found = [Requirement(line) for line in LOCK if not line.startswith("#")]
    return [
        str(pin.specifier).removeprefix("==")
        for pin in found
        if canonicalize_name(pin.name) == canonicalize_name(name)
    ]


@pytest.mark.parametrize("line", [*PROJECT["dependencies"], *sum(EXTRAS.values(), [])])
def test_the_lock_pins_what_pyproject_asks_for(line):
    wanted = Requirement(line)
    assert pins(wanted.name) and all(pin in wanted.specifier for pin in pins(wanted.name))


def test_the_lock_names_no_machine_and_no_index():
    assert not re.search(r"https?:|--|\s[/@]", "\n".join(LOCK[2:]))


def test_readme_names_the_locked_version_of_pytorch():
    assert re.findall(r"`torch==([\d.]+)`", README) == pins("torch")


@pytest.mark.parametrize(
    "name", ["torch", "numpy", "transformers", "nbval", "nbdev", "spacy", "ftfy"]
)
def test_the_outputs_are_compared_with_the_locked_versions(name):
    assert version(name).split("+")[0] in pins(name)


def test_no_message_recommends_a_strangers_package():
    """On the public index, `minigpt` is somebody else's; ours is `minigpt-notebooks`."""
    folders = ("benchmarks", "minigpt", "notebooks", "tests", ".github")
    paths = [*ROOT.glob("*"), *(path for name in folders for path in (ROOT / name).rglob("*"))]
    kinds = {".cff", ".ipynb", ".lock", ".md", ".py", ".pyi", ".toml", ".yml"}
    stranger = re.compile(r"\bminigpt\[|\binstall (-\S+ )*['\"]?minigpt(?![\w-])")
    texts = {path: path.read_text(encoding="utf-8") for path in paths if path.suffix in kinds}
    assert len(texts) > 60 and not [path for path, text in texts.items() if stranger.search(text)]


def test_changelog_and_citation_know_the_version():
    assert f"## {minigpt.__version__}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == minigpt.__version__


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
