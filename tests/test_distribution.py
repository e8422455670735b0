"""What is published: source distribution and wheel are built, installed and used elsewhere."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.house import NOTEBOOKS, ROOT
from tests.run_notebooks import OFFICIAL

README = (ROOT / "README.md").read_text(encoding="utf-8")
ALONE = os.environ.get("MINIGPT_ALONE", "03_config")  # a pattern; "*" takes many minutes
IGNORED = shutil.ignore_patterns(".*", "__pycache__", "build", "*.egg-info", "runs")
IMPORT_ALL = """
import importlib, pathlib, pkgutil, sys, minigpt
assert pathlib.Path(minigpt.__file__).is_relative_to(sys.prefix), minigpt.__file__
for module in pkgutil.walk_packages(minigpt.__path__, "minigpt."):
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        if error.name != "triton":  # there is none for macOS and Windows
            raise
"""


def run(*command, cwd: Path) -> str:
    """Run a command, which must succeed; return what it printed."""
    env = os.environ | {"PYTHONDONTWRITEBYTECODE": ""}  # where it is set, building warns of it
    env.pop("PYTHONPATH", None)  # only what is installed
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a copy of the sources, `dist` with what was built of them, and `log`."""
    place = tmp_path_factory.mktemp("distribution")
    shutil.copytree(ROOT, place / "sources", ignore=IGNORED)
    shutil.copytree(place / "sources", place / "built")
    options = "--no-isolation", "--outdir", "dist", "built"
    log = run(sys.executable, "-m", "build", *options, cwd=place)
    (place / "log").write_text(log, encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def scripts(place) -> Path:
    """Where the programs of an environment lie that holds the wheel; it borrows other packages."""
    run(sys.executable, "-m", "venv", "--without-pip", "environment", cwd=place)
    base = {"base": str(place / "environment")}
    scripts = Path(sysconfig.get_path("scripts", "venv", base))
    (wheel,) = place.glob("dist/*.whl")
    pip = sys.executable, "-m", "pip", "--python", scripts / "python"
    run(*pip, "install", "--no-index", "--no-deps", wheel, cwd=place)
    borrowed = Path(sysconfig.get_path("purelib", "venv", base), "borrowed.pth")
    borrowed.write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return scripts


def test_nothing_warns_while_they_are_built(place):
    assert "warning" not in (place / "log").read_text(encoding="utf-8").lower()


def test_the_source_distribution_holds_all_sources(place):
    (path,) = place.glob("dist/*.tar.gz")
    with tarfile.open(path) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    files = [path for path in (place / "sources").rglob("*") if path.is_file()]
    assert {path.relative_to(place / "sources").as_posix() for path in files} <= held


def test_the_wheel_holds_the_package_and_nothing_else(place):
    (path,) = place.glob("dist/*.whl")
    held = zipfile.ZipFile(path).namelist()
    assert {"minigpt/py.typed", "minigpt/__init__.pyi", "minigpt/assets/tiny/vocab.json"} <= {*held}
    assert {name.split("/")[0].split("-")[0] for name in held} == {"minigpt", "minigpt_notebooks"}


def test_every_module_of_the_wheel_can_be_imported(place, scripts):
    run(scripts / "python", "-c", IMPORT_ALL, cwd=place)


def test_what_the_readme_shows_runs_from_the_wheel(place, scripts):
    ((program, printed),) = re.findall(
        r"```python\n(.*?)```\s*```text\n(.*?)```", README, re.DOTALL
    )
    assert run(scripts / "python", "-c", program, cwd=place) == printed
    generate = r"^\.venv/bin/minigpt (generate .*)\n```\s*```text\n(.*)"
    ((line, printed),) = re.findall(generate, README, re.MULTILINE)
    text = run(scripts / "minigpt", *shlex.split(line), "--device", "cpu", cwd=place)
    assert text.strip() == printed.strip()


OPENED = [path for path in NOTEBOOKS if path.match(f"{ALONE}.ipynb") and path.stem != OFFICIAL]


@pytest.mark.parametrize("path", OPENED, ids=lambda path: path.stem)
def test_a_notebook_opened_alone_gives_its_stored_outputs(scripts, path, tmp_path):
    """In an empty folder outside the repository, without the folder `images`, from the wheel."""
    shutil.copy(path, tmp_path)
    options = "--nbval", "--nbval-current-env", "-p", "no:cacheprovider", "-c", os.devnull
    run(scripts / "python", "-m", "pytest", *options, f"--rootdir={tmp_path}", cwd=tmp_path)
