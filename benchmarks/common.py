"""What several benchmarks share: where a figure was measured, and the file that keeps it."""

import json
import os
import platform
import time
from pathlib import Path

import torch

RESULTS = Path(os.environ.get("RESULTS", Path(__file__).parent / "results"))


def machine() -> dict:
    """Processor, GPU, versions and date, for the head of a result."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "machine": gpu or f"{len(os.sched_getaffinity(0))} CPU cores, {platform.machine()}",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "date": time.strftime("%Y-%m-%d"),
    }


def write_result(name: str, result: dict) -> None:
    """Write NAME.json into results/, or into the folder that the variable RESULTS names."""
    text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(text, encoding="utf-8")
    print(text, flush=True)
