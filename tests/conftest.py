"""What passes once passes again: every test starts from the same random numbers.

`pytest --hypothesis-profile=default` lets hypothesis look for examples it has not tried yet.
"""

import os
import random

import numpy as np
import pytest
import torch
from hypothesis import settings

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports triton

settings.register_profile("the same examples every time", derandomize=True)
settings.load_profile("the same examples every time")


@pytest.fixture(autouse=True)
def the_same_random_numbers():
    for start in (random.seed, np.random.seed, torch.manual_seed):
        start(0)
