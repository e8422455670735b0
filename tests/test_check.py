"""The exercises: solutions pass, stubs do not, and each known mistake is named."""

import contextlib
import io
import math
import re
from importlib import import_module

import pytest
import torch
import torch.nn.functional as F

from minigpt import check
from minigpt.check.compare import Check
from tests import house

CHECKS = {name: x for name, x in vars(check).items() if isinstance(x, Check)}
SOLUTION = re.compile(r"<summary>Solution</summary>.*?```python\n(.*?)```.*?</details>", re.DOTALL)
CORE = list(filter(None, (house.module_of(house.read(path)) for path in house.COURSE)))


def exercises() -> dict[str, tuple[str, str]]:
    """All exercises of the course: "04: title" -> (solution, the cell below it)."""
    found = {}
    for path in house.COURSE:
        cells = house.read(path).cells
        for cell, below in zip(cells, cells[1:], strict=False):
            if match := re.match(r"### (Exercise .*)", cell.source):
                solution = SOLUTION.search(cell.source)
                found[f"{path.stem[:2]}: {match[1]}"] = (solution and solution[1], below.source)
    return found


EXERCISES = exercises()


def run(*sources: str) -> str:
    """Run sources after another, as a reader would with all chapters imported; what they print."""
    space = {"torch": torch, "math": math, "F": F, "check": check}
    for name in CORE:
        space |= vars(import_module(f"minigpt.{name}"))
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        for source in sources:
            exec(source, space)
    return printed.getvalue()


@pytest.mark.parametrize("title", EXERCISES)
def test_a_solution_passes_and_a_stub_does_not(title):
    solution, cell = EXERCISES[title]
    assert run(cell).splitlines() == ["not done yet"] * cell.count("check.")
    calls = [line for line in cell.splitlines() if line.startswith("check.")]
    assert run(cell, solution, *calls).splitlines()[len(calls) :] == ["right"] * len(calls)


@pytest.mark.parametrize("name", CHECKS)
def test_known_mistakes_are_named(name):
    one = CHECKS[name]
    assert one.judge(one.right) == "right"
    assert one.judge(lambda *_: None) == "not done yet"
    assert len(one.mistakes) >= 3
    for done in one.mistakes:
        verdict = one.judge(one.mistake(done))
        assert verdict.startswith("wrong: ") and verdict.endswith(done)


def test_every_check_belongs_to_an_exercise():
    called = re.findall(r"^check\.(\w+)\(", "\n".join(cell for _, cell in EXERCISES.values()), re.M)
    assert sorted(called) == sorted(CHECKS)
