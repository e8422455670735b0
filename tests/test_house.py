"""Every house rule on every notebook, and a proof for each rule that it bites."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("nbformat")

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tests import house, run_notebooks, sabotage


def sources(package: Path) -> dict[str, str]:
    """All modules of a package: "hf.models" -> its source."""
    paths = [path for path in package.rglob("*.py") if path.name != "_modidx.py"]
    return {
        ".".join(path.relative_to(package).with_suffix("").parts): path.read_text(encoding="utf-8")
        for path in sorted(paths)
    }


MODULES = sources(house.ROOT / "minigpt")


@pytest.mark.parametrize("path", house.NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.parametrize("rule", house.NOTEBOOK_RULES, ids=lambda rule: rule.__name__)
def test_every_notebook_keeps_every_rule(rule, path):
    assert rule(house.read(path), path.stem) == []


def test_all_notebooks_are_there():
    course = "tour bpe tokenizer config attention block model lm_head generation pretraining"
    course = [*course.split(), "double_heads", "classification", "tasks", "finetuning", "zero_shot"]
    assert [path.stem for path in house.COURSE] == [f"{n:02}_{x}" for n, x in enumerate(course)]
    further = "beam_search dropout flash_attention fused_loss kernels official_weights speculative"
    further = [*further.split(), "static_cache", "tokenizer_rules"]
    assert [path.stem for path in house.FURTHER] == further


def test_imports_go_to_the_left():
    inside = {
        name: source for name, source in MODULES.items() if name not in ("__init__", "__main__")
    }
    assert house.imports_leftwards(inside) == []


def test_chapters_export_what_earlier_ones_allow():
    chapters = {path.stem: house.read(path) for path in house.COURSE}
    assert house.exports_from_earlier(chapters) == []


def test_every_public_name_is_defined_once():
    """But for the checks, as an exercise asks for what the library has, and for a layer whose
    arguments come in another order in transformers.
    """
    inside = {name: source for name, source in MODULES.items() if not name.startswith("check.")}
    assert house.defined_once(inside) == ["Conv1D is defined in block and again in hf.models"]


def test_the_lines_to_sabotage_are_there():
    for module, line, _, tests in sabotage.CHANGES:
        assert line in MODULES[module]
        assert all((house.ROOT / "tests" / name).is_file() for name in tests.split())


# -- the package is what the notebooks export


def export(folder: Path) -> dict[str, str]:
    """Copy notebooks and package into `folder`, export there, and return the package's sources."""
    shutil.copytree(house.ROOT / "notebooks", folder / "notebooks")
    shutil.copytree(
        house.ROOT / "minigpt",
        folder / "minigpt",
        ignore=shutil.ignore_patterns("__pycache__", "assets"),
    )
    shutil.copy(house.ROOT / "pyproject.toml", folder)
    return export_in_place(folder)


def export_in_place(folder: Path) -> dict[str, str]:
    command = Path(sys.executable).with_name("nbdev-export")
    subprocess.run([command], cwd=folder, check=True, capture_output=True)
    return sources(folder / "minigpt")


def test_the_package_is_what_the_notebooks_export(tmp_path):
    assert export(tmp_path) == MODULES


def test_a_module_edited_by_hand_is_noticed(tmp_path):
    export(tmp_path)
    edited = tmp_path / "minigpt" / "bpe.py"
    edited.write_text(MODULES["bpe"].replace("def merge_pair", "def merge_two"), encoding="utf-8")
    assert edited.read_text(encoding="utf-8") != MODULES["bpe"]
    assert (
        export_in_place(tmp_path)["bpe"] == MODULES["bpe"]
    )  # the notebook wins: a difference in git


# -- each rule bites


def good_cells() -> list:
    return [
        new_markdown_cell("# 01 Title\n\n> A summary."),
        new_code_cell("#| default_exp title", execution_count=1),
        new_code_cell("1 + 1", execution_count=2, outputs=[result("2")]),
    ]


def result(text: str, **data) -> nbformat.NotebookNode:
    return new_output("execute_result", {"text/plain": text, **data})


def complaints(rule, cells) -> list[str]:
    return rule(new_notebook(cells=cells), "01_title")


def test_a_good_notebook_gets_no_complaint():
    assert [
        rule(new_notebook(cells=good_cells()), "01_title") for rule in house.NOTEBOOK_RULES
    ] == [[] for _ in house.NOTEBOOK_RULES]


def with_cell(source: str = "x", outputs: list | None = None, count: int | None = 2) -> list:
    cells = good_cells()
    cells[2] = new_code_cell(source, execution_count=count, outputs=outputs or [])
    return cells


OFFENDERS = {
    "a title with another number": (house.has_a_title, [new_markdown_cell("# 02 Title\n\n> A.")]),
    "no summary": (house.has_a_title, [new_markdown_cell("# 01 Title")]),
    "an unrun cell": (house.has_run, with_cell(count=None)),
    "cells run out of order": (house.has_run, with_cell(count=7)),
    "no code": (house.has_run, [new_markdown_cell("# 01 Title\n\n> A.")]),
    "an error": (house.has_clean_outputs, with_cell(outputs=[new_output("error", ename="E")])),
    "something on stderr": (
        house.has_clean_outputs,
        with_cell(outputs=[new_output("stream", name="stderr", text="hm")]),
    ),
    "a warning": (
        house.has_clean_outputs,
        with_cell(outputs=[new_output("stream", name="stdout", text="UserWarning: hm")]),
    ),
    "a path": (house.has_clean_outputs, with_cell(outputs=[result("'/home/me/minigpt/x.py'")])),
    "nothing to compare": (
        house.compares_something,
        [*good_cells()[:2], new_code_cell("1", execution_count=1)],
    ),
    "only ignored outputs": (
        house.compares_something,
        [new_code_cell("# NBVAL_IGNORE_OUTPUT\n# why\n1", outputs=[result("1")])],
    ),
    "ignored without a reason": (
        house.ignores_with_a_reason,
        with_cell("# NBVAL_IGNORE_OUTPUT\nx = 1"),
    ),
    "a reason where nbval does not look": (
        house.ignores_with_a_reason,
        with_cell("# NBVAL_IGNORE_OUTPUT: a reason\nx = 1"),
    ),
    "another marker": (house.ignores_with_a_reason, with_cell("#PYTEST_VALIDATE_IGNORE_OUTPUT\nx")),
    "a path of one step": (house.has_clean_outputs, with_cell(outputs=[result("'/tmp/x.npy'")])),
    "an address": (house.has_clean_outputs, with_cell(outputs=[result("<A at 0x7f3a2b1c>")])),
    "a class and more": (
        house.has_short_cells,
        with_cell("class A:\n    x = 1\n" + "\n".join(["x = 1"] * 40)),
    ),
    "more words than can be read": (
        house.keeps_within_bounds,
        [*good_cells(), new_markdown_cell("word " * 3001)],
    ),
    "more code cells": (house.keeps_within_bounds, [new_code_cell("x = 1")] * 61),
    "mostly exported": (house.keeps_within_bounds, with_cell("#| export\n" + "x = 1\n" * 9)),
    "three ignored outputs": (
        house.keeps_within_bounds,
        [new_code_cell(f"{house.IGNORED}\n# why")] * 3,
    ),
    "41 lines and no class": (house.has_short_cells, with_cell("\n".join(["x = 1"] * 41))),
    "long cells throughout": (
        house.has_short_cells,
        [new_code_cell("\n".join(["x = 1"] * 7)) for _ in range(3)],
    ),
    "an image without alt text": (
        house.describes_pictures,
        [*good_cells(), new_markdown_cell("![](images/x.png)")],
    ),
    "an img tag without alt text": (
        house.describes_pictures,
        [*good_cells(), new_markdown_cell('<img src="x.png" alt="">')],
    ),
    "a figure without words": (
        house.describes_pictures,
        with_cell(outputs=[result("<Figure>", **{"image/png": "iVBORw0KGgo="})]),
    ),
}


@pytest.mark.parametrize("offence", OFFENDERS)
def test_the_rule_bites(offence):
    rule, cells = OFFENDERS[offence]
    assert complaints(rule, cells)


def test_every_rule_has_an_offender():
    assert {rule for rule, _ in OFFENDERS.values()} == set(house.NOTEBOOK_RULES)


def notebook_of(module: str, source: str) -> nbformat.NotebookNode:
    return new_notebook(cells=[new_code_cell(f"#| default_exp {module}"), new_code_cell(source)])


@pytest.mark.parametrize(
    "source",
    ["from minigpt.lm_head import x", "import minigpt.lm_head", "from minigpt import lm_head"],
)
def test_an_import_of_a_later_chapter_is_noticed(source):
    late = notebook_of("lm_head", "x = 1")
    early = notebook_of("early", f"#| export\n{source}")
    assert house.exports_from_earlier({"01_early": early, "02_lm_head": late})
    early.cells[1].source = source  # not exported: anything goes
    assert not house.exports_from_earlier({"01_early": early, "07_lm_head": late})


@pytest.mark.parametrize(
    "module, source",
    [
        ("bpe", "from minigpt.hf.models import x"),
        ("fast.kernels", "def f():\n    from minigpt.hf import models"),
        ("fast.kernels", "from ..hf.models import x"),
        ("hf.models", "import minigpt.cli.app"),
    ],
)
def test_an_import_to_the_right_is_noticed(module, source):
    assert house.imports_leftwards({module: source})
    assert not house.imports_leftwards({"cli.run": source})


def test_a_tag_that_hides_outputs_is_noticed():
    cells = with_cell("x = 1")
    cells[2].metadata["tags"] = ["nbval-ignore-output"]
    assert complaints(house.ignores_with_a_reason, cells)


def test_every_spelling_of_the_export_directive_is_understood():
    assert house.module_of(new_notebook(cells=[new_code_cell("#|default_exp x")])) == "x"


def test_a_module_of_another_name_is_noticed():
    assert house.exports_from_earlier({"01_early": notebook_of("other", "x = 1")})


def test_a_name_defined_twice_is_noticed():
    assert house.defined_once({"a": "def f(): pass", "b": "f = 1"})
    assert house.defined_once({"a": "class A: pass\nclass A: pass"})
    assert house.defined_once({"a": "x: int = 1", "b": "y, x = 1, 2"})


# -- running: what the driver must notice


def write_notebook(folder: Path, name: str, *cells) -> Path:
    path = folder / f"{name}.ipynb"
    notebook = new_notebook(cells=[new_code_cell(f"#| default_exp {name[3:]}"), *cells])
    for count, cell in enumerate(notebook.cells, 1):
        cell.execution_count = count
        for output in cell.outputs:
            output.execution_count = count
    nbformat.write(notebook, path)
    return path


def test_the_driver_minds_time_and_memory():
    fine = run_notebooks.Run("01_new", 3, 3, 1, seconds=59, gib=1.9, log="")
    assert fine.ok
    assert not replace(fine, seconds=61).ok
    assert not replace(fine, gib=2.1).ok


def test_the_driver_sees_the_memory_of_the_kernel(tmp_path):
    source = "import time\nx = bytearray(2_400 * 2**20)\ntime.sleep(0.5)  # to be seen\nlen(x)"
    hungry = new_code_cell(source, outputs=[result("2516582400")])
    path = write_notebook(tmp_path, "01_new", hungry)
    run = run_notebooks.run_notebook(path)
    assert run.passed == run.cells and run.gib > 2.3 and not run.ok


def test_the_driver_accepts_what_is_true(tmp_path):
    path = write_notebook(tmp_path, "01_new", new_code_cell("1 + 1", outputs=[result("2")]))
    run = run_notebooks.run_notebook(path)
    assert run.ok and (run.cells, run.passed, run.compared) == (2, 2, 1)


@pytest.mark.parametrize(
    "cell",
    [
        new_code_cell("1 + 1", outputs=[result("3")]),  # a stored output that is no longer true
        new_code_cell("1 / 0", outputs=[result("0")]),  # an error
        new_code_cell("x = 1"),  # nothing compared
    ],
    ids=["another output", "error", "nothing compared"],
)
def test_the_driver_notices(tmp_path, cell):
    assert not run_notebooks.run_notebook(write_notebook(tmp_path, "05_block", cell)).ok
