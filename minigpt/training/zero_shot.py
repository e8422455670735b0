"""The paper's zero-shot tasks on the files of their owners: scores without any training."""

import time
from collections.abc import Callable

import torch

from minigpt import zero_shot as core
from minigpt.training.datasets import (
    PAPER_TASKS,
    DataSet,
    Example,
    Task,
    check_scores,
    load_task,
    metrics,
)

WINOGRAD = Task(
    *("winograd", ("beginning", "first", "second", "rest"), "answer"),
    files=("wsc273.txt",),
    splits={"dev": "dev"},
)


def judge(model, encode: Callable, examples: list[Example], load: Callable):
    """CoLA; the threshold is chosen on the training part."""
    training, stop = load("train"), encode(".")
    pairs = [(stop, encode(*x.texts)) for x in training]
    labels = torch.tensor([x.label for x in training])
    threshold = core.best_threshold(core.mean_log_probability(model, pairs), labels)
    return core.acceptable(model, stop, [encode(*x.texts) for x in examples], threshold).int()


def feel(model, encode: Callable, examples: list[Example], _):
    """SST-2."""
    words = [encode("negative"), encode("positive")]
    return core.sentiment(model, [encode(*x.texts) for x in examples], encode("very"), words)


def answer(model, encode: Callable, examples: list[Example], _):
    """RACE and Story Cloze; the texts are a passage, a question and the answers."""
    rows = [[*map(encode, x.texts)] for x in examples]
    return core.choose(model, [x[0] + x[1] for x in rows], [x[2:] for x in rows])


def resolve(model, encode: Callable, examples: list[Example], _):
    """Winograd schemas."""
    rows = [[*map(encode, x.texts)] for x in examples]
    starts, referents, rests = zip(*((x[0], x[1:3], x[3]) for x in rows), strict=True)
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

    Raises what `load_task` does, ImportError without scikit-learn, and ValueError for a split whose
    labels are not public.
    """
    check_scores()
    task, predict = HEURISTICS[name]
    start, examples = time.perf_counter(), load_task(task, source, split)
    labels = [x.label for x in examples]
    if None in labels:
        raise ValueError(f"the labels of {split!r} are not public; choose the split 'dev'")
    encode = tokenizer.encode
    predictions = predict(model, encode, examples, lambda part: load_task(task, source, part))
    found = metrics(task, predictions.tolist(), labels)
    return found | {"examples": len(examples), "seconds": round(time.perf_counter() - start, 1)}
