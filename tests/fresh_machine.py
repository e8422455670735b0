"""Is the README true on a new machine? `python -m tests.fresh_machine` (`make proof`).

Clones what is committed into an empty folder and runs `make demo` there; then resolves, for every
Python and platform promised, all extras at the locked versions, from files that install without a
compiler. Local sources of packages are switched off: all comes from the public index, several GB.
The resolving proves that the files exist and fit together; only this machine's Python runs them.
Needs git, make and a Python of 3.11 or later, and nothing installed.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = (
    "x86_64-manylinux_2_28",
    "aarch64-manylinux_2_28",
    "aarch64-apple-darwin",
    "x86_64-pc-windows-msvc",
)
LOCAL = re.compile(r"(PIP|UV)_.*(CONFIG|CONSTRAINT|FIND_LINKS|INDEX)|PYTHONPATH|VIRTUAL_ENV")


def environment() -> dict[str, str]:
    """This process's environment, without what would name other sources of packages."""
    kept = {name: value for name, value in os.environ.items() if not LOCAL.match(name)}
    return kept | {
        "PIP_CONFIG_FILE": os.devnull,
        "UV_NO_CONFIG": "1",
        "MACOSX_DEPLOYMENT_TARGET": "14.0",  # the oldest macOS that PyTorch's files are made for
    }


def resolve(folder: Path, python: str, platform: str) -> int:
    """Count the packages that one platform installs; all must be pinned by the lock."""
    uv = folder / ".venv" / ("Scripts" if os.name == "nt" else "bin") / "uv"
    command = [uv, "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--all-extras"]
    command += ["--constraint", "requirements.lock", "--only-binary", ":all:"]
    command += ["--python-version", python, "--python-platform", platform, "pyproject.toml"]
    done = subprocess.run(
        command, cwd=folder, env=environment(), check=True, stdout=subprocess.PIPE, text=True
    )
    lock = (folder / "requirements.lock").read_text(encoding="utf-8")
    pins = {line.split(" ;")[0] for line in lock.splitlines()}
    found = set(done.stdout.split("\n")) - {""}
    assert found <= pins, f"not in requirements.lock: {sorted(found - pins)}"
    return len(found)


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "minigpt")
        subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
        begin = time.perf_counter()
        make = ["make", "demo", f"PYTHON={sys.executable}"]
        subprocess.run(make, cwd=folder, env=environment(), check=True)
        seconds = time.perf_counter() - begin
        files = [path for path in (folder / ".venv").rglob("*") if not path.is_symlink()]
        size = sum(path.stat().st_size for path in files) / 1e9
        print(f"\nmake demo, from nothing: {seconds:.0f} s, {size:.1f} GB", flush=True)
        for python in PYTHONS:
            for platform in PLATFORMS:
                count = resolve(folder, python, platform)
                print(f"Python {python}, {platform:23} {count} packages", flush=True)


if __name__ == "__main__":
    main()
