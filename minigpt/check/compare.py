"""`Check`: compare an answer with the right one and name the mistake, if it is a known one."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor


def equal(mine, right) -> bool:
    """Say whether two answers agree: tensors and floats to 4 digits, all else exactly."""
    if isinstance(right, Tensor | float):
        if not isinstance(mine, Tensor | float | int):
            return False
        mine, right = torch.as_tensor(mine).double(), torch.as_tensor(right).double()
        return mine.shape == right.shape and torch.allclose(mine, right, 1e-4, 1e-4, equal_nan=True)
    if isinstance(right, list | tuple):
        same_length = isinstance(mine, list | tuple) and len(mine) == len(right)
        return same_length and all(map(equal, mine, right))
    if isinstance(right, Exception):
        return repr(mine) == repr(right)
    same_kind = type(mine) is type(right) or {type(mine), type(right)} == {int, float}
    return same_kind and mine == right


def shown(x) -> str:
    """Return an answer as short text; of a tensor, only the shape."""
    if isinstance(x, Tensor) and x.dim():
        return f"a tensor of shape {tuple(x.shape)}"
    return f"{float(x):.4g}" if isinstance(x, Tensor | float) else f"{x!r:.80}"


def compared(name: str, x, right) -> str:
    """Say how a result differs; of a tensor or a list, at the first index that does."""
    if isinstance(x, list) and isinstance(right, list) and len(x) == len(right):
        index = next(i for i in range(len(x)) if not equal(x[i], right[i]))
        name, x, right = f"{name} at [{index}]", x[index], right[index]
    if isinstance(x, Tensor) and isinstance(right, Tensor) and x.shape == right.shape != ():
        wrong = ~torch.isclose(x.double(), right.double(), 1e-4, 1e-4, equal_nan=True)
        index = tuple(wrong.nonzero()[0].tolist())
        name, x, right = f"{name} at {list(index)}", x[index], right[index]
    return f"{name} is {shown(x)}, expected {shown(right)}"


@dataclass
class Check:
    """One exercise. Call it with your answer, a function or a value: it prints one line."""

    right: Callable  # the function that is asked for; without arguments for an exercise by hand
    cases: list[tuple] = field(default_factory=lambda: [()])  # the arguments to try
    mistakes: Mapping[str, Callable | dict] = field(default_factory=dict)  # what was done -> what
    # does it: a function, a value, or options of `right`
    results: tuple[str, ...] = ("the result",)  # a name for each thing that is returned

    def __call__(self, answer) -> None:
        print(self.judge(as_function(answer)))

    def judge(self, mine: Callable) -> str:
        """Say that a function is right, or which result differs and what mistake explains it."""
        for case in self.cases:
            found, expected = outcome(mine, case), outcome(self.right, case)
            if found is None or found is ...:
                return "not done yet"
            if not equal(found, expected):
                return f"wrong: {self.difference(found, expected)}{self.explain(mine)}"
        return "right"

    def difference(self, found, expected) -> str:
        """Name the first result that differs; an exercise by hand does not give away the answer."""
        if isinstance(found, Exception):
            return f"{type(found).__name__}: {found}"
        if self.cases == [()]:
            return f"{self.results[0]} is {shown(found)}"
        if len(self.results) == 1:
            return compared(self.results[0], found, expected)
        if not isinstance(found, tuple) or len(found) != len(expected):
            return f"expected {len(expected)} results: {', '.join(self.results)}"
        pairs = zip(self.results, found, expected, strict=True)
        return next(compared(*triple) for triple in pairs if not equal(*triple[1:]))

    def explain(self, mine: Callable) -> str:
        """Name the known mistake that gives the same results in all cases, if there is one."""
        for done in self.mistakes:
            wrong = self.mistake(done)
            if all(equal(outcome(mine, case), outcome(wrong, case)) for case in self.cases):
                return f". {done}"
        return ""

    def mistake(self, done: str) -> Callable:
        """Return the function that makes a known mistake."""
        wrong = self.mistakes[done]
        return partial(self.right, **wrong) if isinstance(wrong, dict) else as_function(wrong)


def as_function(answer) -> Callable:
    return answer if callable(answer) else lambda *_: answer


def outcome(function: Callable, case: tuple):
    """Return the result of a function for one case, or the error that stops it."""
    try:
        return function(*deepcopy(case))
    except Exception as error:  # a reader's function may raise any
        return error


def some(*shape: int) -> Tensor:
    """Return random numbers, the same at each call."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))
