"""Programs of users of transformers do the same with minigpt, whichever is imported first."""

import json
import os
import subprocess
import sys

import pytest

import minigpt
from tests.helpers import ROOT, has_transformers
from tests.parity.programs import PROGRAMS

for name in ("transformers", "accelerate", "peft"):
    pytest.importorskip(name)
ORDERS = [("transformers", "transformers"), ("transformers", "minigpt"), ("minigpt", "minigpt")]
LEAST = {"tokens_that_are_added": "5.18", "a_pipeline_that_writes": "5.20"}  # of transformers


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Run all programs: (imported first, library) -> name -> result."""
    folder = tmp_path_factory.mktemp("programs")
    tiny, found = str(folder / "tiny"), {}
    minigpt.OpenAIGPTLMHeadModel.from_pretrained("tiny").save_pretrained(tiny)
    minigpt.OpenAIGPTTokenizerFast.from_pretrained("tiny").save_pretrained(tiny)
    env = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    for first, library in ORDERS:
        target = folder / f"{first}-{library}.json"
        command = [sys.executable, "-m", "tests.parity.programs", first, library, tiny, target]
        subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True)
        found[first, library] = json.loads(target.read_text(encoding="utf-8"))
    return found


def differs(found, expected, tolerance: float) -> bool:
    if type(found) is type(expected) is float:
        return abs(found - expected) > tolerance * max(1, abs(expected))
    return found != expected


@pytest.mark.parametrize("first", ["minigpt", "transformers"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_does_the_same(results, name, first):
    if not has_transformers(LEAST.get(name, "5")):
        pytest.skip("an older transformers fails here itself")
    expected, found = results["transformers", "transformers"][name], results[first, "minigpt"][name]
    assert isinstance(expected, list) and isinstance(found, list), (expected, found)
    tolerance = 1e-5 if "trainer" in name else 1e-4  # losses; logits
    pairs = zip(found, expected, strict=True)
    assert not [pair for pair in pairs if differs(*pair, tolerance)]
