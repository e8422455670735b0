"""Do the tests notice a mistake? `python -m tests.sabotage` changes core lines, one at a time.

Each change is made in a copy of the project; then the tests of that module, which pass
without it, must turn red. Prints a line a change; the exit code is 1 if one was not noticed.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.house import ROOT

CHANGES = [  # module, a line of it, what becomes of that line, the tests to run
    ("bpe", "i += 2 if found else 1", "i += 1", "test_bpe.py"),
    ("tokenizer", "word.text.lower()", "word.text", "parity/test_tokenizers.py test_tokenizer.py"),
    ("config", "4 * C * C", "3 * C * C", "test_config.py"),
    ("attention", "math.sqrt(q.shape[-1])", "q.shape[-1]", "test_attention.py"),
    ("attention", "tril(S - T)", "tril()", "test_attention.py"),
    ("block", 'approximate="tanh"', 'approximate="none"', "test_block.py"),
    ("block", "self.ln_1(x + a)", "self.ln_1(a)", "parity/test_models.py"),
    ("model", "x + self.positions_embed(positions)", "x", "test_model.py"),
    ("model", "[self.keys, keys]", "[keys, self.keys]", "test_model.py"),
    ("lm_head", "labels[..., 1:]", "labels[..., :-1]", "parity/test_models.py"),
    ("generation", "before >= p", "before > 1 - p", "test_generation.py"),
    ("double_heads", "states.gather(-2, index)", "states[..., -1:, :]", "test_double_heads.py"),
    ("classification", "(positions * is_real)", "is_real.int()", "test_classification.py"),
    ("tasks", "max(parts, key=len)", "parts[0]", "test_tasks.py"),
    ("finetuning", "* (1 - done)", "", "test_finetuning.py"),
    ("pretraining", "1 + math.cos", "1 - math.cos", "test_pretraining.py"),
    ("zero_shot", "positions >= begins", "positions > begins", "test_zero_shot.py"),
]


def run(folder: Path, tests: str) -> int:
    """Run tests in a copy of the project; return the exit status, 1 if one fails."""
    paths = [f"tests/{name}" for name in tests.split()]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *paths]
    env = os.environ | {"PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True).returncode


def main() -> int:
    missed = 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "copy")
        ignored = shutil.ignore_patterns(".*", "__pycache__", "runs", "build", "*.egg-info")
        shutil.copytree(ROOT, folder, ignore=ignored)
        assert run(folder, " ".join({name for *_, tests in CHANGES for name in tests.split()})) == 0
        for module, line, other, tests in CHANGES:
            path = folder / "minigpt" / f"{module}.py"
            source = path.read_text(encoding="utf-8")
            assert line in source, f"{module}.py has no {line!r}"
            path.write_text(source.replace(line, other, 1), encoding="utf-8")
            noticed = run(folder, tests) == 1
            path.write_text(source, encoding="utf-8")
            missed += not noticed
            said = "noticed" if noticed else "NOT NOTICED"
            print(f"{said:12} {module}.py: {line}  ->  {other}  ({tests})", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
