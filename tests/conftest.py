"""What passes once passes again: every test starts from the same random numbers.

`pytest --hypothesis-profile=default` lets hypothesis look for examples it has not tried yet.
"""

import os
import random
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from hypothesis import settings

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports triton

workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
torch.set_num_threads(max(1, torch.get_num_threads() // workers))

settings.register_profile("the same examples every time", derandomize=True)
settings.load_profile("the same examples every time")


@pytest.fixture(autouse=True)
def the_same_numbers():
    for start in (random.seed, np.random.seed, torch.manual_seed):
        start(0)
    torch.set_float32_matmul_precision("highest")  # pre-training on a GPU lowers it


# -- on a machine without the extra `original`, such as the GPU machine


def skipped_without_original():
    """Skip a test that asks for OpenAI's own text pipeline where ftfy or spaCy is missing."""
    try:
        return (yield)
    except ImportError as error:
        if all(map(find_spec, ("ftfy", "spacy"))):
            raise
        pytest.skip(f"the extra original is not installed: {error}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    return (yield from skipped_without_original())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    return (yield from skipped_without_original())
