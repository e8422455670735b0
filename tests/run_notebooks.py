"""Run every notebook and compare every stored output: `python -m tests.run_notebooks [NAME ...]`.

Each notebook runs in a fresh kernel and must stay under 60 s and 2 GiB. Prints a line a notebook
and, last, how many stored outputs were compared. The one on OpenAI's weights runs only when it is
named (`make official`).
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil

from tests.house import NOTEBOOKS, ROOT, code_cells, compared_cells, read

SECONDS, GIB = 60, 2  # what one notebook may take
OFFICIAL = "official_weights"


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
    notebook = read(path)
    with tempfile.TemporaryDirectory() as folder:
        env = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
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


def can_run(path: Path, is_named: bool) -> bool:
    """Say whether a notebook can run here; kernels need a GPU or Triton's interpreter."""
    if path.stem == OFFICIAL and not is_named:
        print(f"{path.stem:20} not run: it needs OpenAI's weights, from a network: make official")
        return False
    needs_triton = any("TRITON_INTERPRET" in cell.source for cell in code_cells(read(path)))
    if needs_triton and not find_spec("triton"):
        print(f"{path.stem:20} not run: there is no triton for this system")
        return False
    return True


def main(names: list[str]) -> int:
    paths = [path for path in NOTEBOOKS if not names or path.stem in names]
    paths = [path for path in paths if can_run(path, path.stem in names)]
    runs = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # a notebook for each core, on one thread
        for run in pool.map(run_notebook, paths):
            runs.append(run)
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
