"""The paper's zero-shot tasks on the files of their owners: scores without any training."""

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from minigpt import zero_shot as core
from minigpt.tasks import Ids

from .datasets import PAPER_TASKS, DataSet, Task, load_task, metrics
from .logs import need

Rows = list[list[Ids]]  # the texts of each example
WINOGRAD = Task(
    *("winograd", ("beginning", "first", "second", "rest"), "answer"),
    files=("wsc273.txt",),
    splits={"dev": "dev"},
)


def judge(model, encode: Callable, rows: Rows, load: Callable) -> Tensor:
    """CoLA; the threshold is chosen on the training part."""
    training, stop = load("train"), encode(".")
    pairs = [(stop, encode(*x.texts)) for x in training]
    labels = torch.tensor([x.label for x in training])
    threshold = core.best_threshold(core.mean_log_probability(model, pairs), labels)
    return core.acceptable(model, stop, [row[0] for row in rows], threshold).int()


def feel(model, encode: Callable, rows: Rows, _) -> Tensor:
    """SST-2."""
    words = [encode("negative"), encode("positive")]
    return core.sentiment(model, [row[0] for row in rows], encode("very"), words)


def answer(model, _, rows: Rows, __) -> Tensor:
    """RACE and Story Cloze; the texts are a passage, a question and the answers."""
    return core.choose(model, [row[0] + row[1] for row in rows], [row[2:] for row in rows])


def resolve(model, _, rows: Rows, __) -> Tensor:
    """Winograd schemas."""
    starts, referents, rests = zip(*((row[0], row[1:3], row[3]) for row in rows), strict=True)
    return core.winograd(model, starts, referents, rests)


HEURISTICS: dict[str, tuple[Task, Callable]] = {  # name -> the data, what predicts the labels
    "cola": (PAPER_TASKS["cola"], judge),
    "sst2": (PAPER_TASKS["sst2"], feel),
    "race": (PAPER_TASKS["race"], answer),
    "storycloze": (PAPER_TASKS["storycloze"], answer),
    "winograd": (WINOGRAD, resolve),
}


def zero_shot(name: str, source: DataSet, model, tokenizer, split: str = "dev") -> dict:
    """Score a language model on a task of `HEURISTICS`: the metrics, `examples` and `seconds`.

    Raises what `load_task` does, ImportError without scikit-learn, and ValueError for an unknown
    name or a split whose labels are not public.
    """
    need("sklearn", "the score of a task")
    if name not in HEURISTICS:
        raise ValueError(f"no task {name!r}; expected one of {', '.join(HEURISTICS)}")
    task, predict = HEURISTICS[name]
    start, examples = time.perf_counter(), load_task(task, source, split)
    labels = [x.label for x in examples]
    if None in labels:
        raise ValueError(f"split={split!r}, whose labels are not public; choose 'dev'")
    encode = partial(tokenizer.encode, add_special_tokens=False)
    rows = [[*map(encode, x.texts)] for x in examples]
    predictions = predict(model, encode, rows, partial(load_task, task, source))
    found = metrics(task, predictions.tolist(), labels)
    return found | {"examples": len(examples), "seconds": round(time.perf_counter() - start, 1)}
