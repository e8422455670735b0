"""Run every notebook and compare every stored output: `python -m tests.run_notebooks [NAME ...]`.

Each notebook runs in a fresh kernel that sees only the modules exported by earlier notebooks (one
that exports nothing sees the whole package), and must stay under 60 s and 2 GiB. Prints a line a
notebook and, last, how many stored outputs were compared.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil

from tests.house import NOTEBOOKS, ROOT, code_cells, compared_cells, module_of, read

PACKAGE = ROOT / "minigpt"
SECONDS, GIB = 60, 2  # what one notebook may take

# An editable install answers for every module of the package; the staged kernels must not ask it.
FORGET_THE_INSTALLED_ONE = """
import sys
def installed(finder):
    return getattr(finder, "__module__", "").startswith("__editable__")
sys.meta_path[:] = [finder for finder in sys.meta_path if not installed(finder)]
"""


@dataclass
class Run:
    name: str
    cells: int  # code cells in the notebook
    passed: int  # of them, as nbval counted
    compared: int  # cells whose stored output was compared
    seconds: float
    gib: float  # of its largest process, the kernel
    log: str

    @property
    def ok(self) -> bool:
        whole = self.cells == self.passed and self.compared > 0
        return whole and self.seconds < SECONDS and self.gib < GIB


def earlier_modules(path: Path) -> list[str] | None:
    """The modules a notebook may see, or None for all of them."""
    if module_of(read(path)) is None:
        return None
    return [
        module
        for other in NOTEBOOKS
        if other.name < path.name and (module := module_of(read(other)))
    ]


def stage(folder: Path, modules: list[str]) -> None:
    """Build a package minigpt in `folder` that holds only `modules` and the assets."""
    (folder / "minigpt").mkdir()
    (folder / "minigpt" / "__init__.py").write_text(
        '"""Only the modules of earlier notebooks."""\n', encoding="utf-8"
    )
    (folder / "sitecustomize.py").write_text(FORGET_THE_INSTALLED_ONE, encoding="utf-8")
    shutil.copytree(PACKAGE / "assets", folder / "minigpt" / "assets")
    for module in modules:
        shutil.copy(PACKAGE / f"{module}.py", folder / "minigpt")


def largest_memory(process: psutil.Popen) -> int:
    """Wait for a process; return the most bytes that it, or one it started, was seen to hold."""
    most = 0
    while process.poll() is None:
        with suppress(psutil.NoSuchProcess):  # one has just ended
            family = [process, *process.children(recursive=True)]
            most = max(most, *(each.memory_info().rss for each in family))
        time.sleep(0.1)
    return most


def run_notebook(path: Path) -> Run:
    notebook, modules = read(path), earlier_modules(path)
    with tempfile.TemporaryDirectory() as folder:
        env = dict(os.environ)
        if modules is not None:
            stage(Path(folder), modules)
            env["PYTHONPATH"] = folder
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)]
        command += ["--nbval", "--nbval-current-env", "--nbval-cell-timeout=120"]
        command += [f"--rootdir={path.parent}", "-c", os.devnull]
        log_file = Path(folder) / "log"
        begin = time.perf_counter()
        with log_file.open("w", encoding="utf-8") as log:
            process = psutil.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
            used = largest_memory(process)
        seconds, log = time.perf_counter() - begin, log_file.read_text("utf-8", errors="replace")
    found = re.search(r"(\d+) passed", log)
    passed = int(found[1]) if found and process.returncode == 0 else 0
    gib = used / 2**30
    return Run(
        path.stem, len(code_cells(notebook)), passed, compared_cells(notebook), seconds, gib, log
    )


def needs_triton(path: Path) -> bool:
    """Whether a notebook runs kernels, on a GPU or in Triton's interpreter."""
    return any("TRITON_INTERPRET" in cell.source for cell in code_cells(read(path)))


def main(names: list[str]) -> int:
    runs = []
    for path in NOTEBOOKS:
        if names and path.stem not in names:
            continue
        if needs_triton(path) and not find_spec("triton"):
            print(f"{path.stem:20} not run: there is no triton for this system")
            continue
        runs.append(run := run_notebook(path))
        verdict = "ok" if run.ok else "FAILED"
        counts = f"{run.cells:3} cells run, {run.compared:3} outputs compared"
        print(
            f"{run.name:20} {verdict:6} {counts}, {run.seconds:3.0f} s, {run.gib:.1f} GiB",
            flush=True,
        )
        if not run.ok:
            print(run.log)
    cells, compared = sum(run.passed for run in runs), sum(run.compared for run in runs)
    print(f"{len(runs)} notebooks, {cells} cells run, {compared} stored outputs compared")
    return 0 if runs and all(run.ok for run in runs) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
