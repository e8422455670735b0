"""The paper's data sets, read from the files that their owners distribute, and their metrics."""

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minigpt.hf.files import naming, read_json, save_files

from .corpus import name_of, read_text
from .logs import need

DataSet = str | Path | Mapping[str, Iterable[Mapping]]  # a folder, or the rows of each split
SPLITS = {"train": "train", "dev": "dev", "test": "test"}


class Example(NamedTuple):
    """Texts in the order of the input transformation, and a label, or None if it is not public.

    The label is the index of the class or of the right answer, or a score.
    """

    texts: tuple[str, ...]
    label: int | float | None


class Task(NamedTuple):
    """How a data set is transformed, read and scored."""

    kind: str  # the input transformation: a function of `minigpt.tasks`
    columns: tuple[str, ...]
    label: str  # the column of the label
    labels: tuple[str, ...] = ("0", "1")  # what stands there, for each class; (): a score
    metrics: tuple[str, ...] = ("accuracy",)  # the paper's first
    files: tuple[str, ...] = ("{}.tsv",)  # one of them is there; {}: the owners' name of the split
    splits: Mapping[str, str] = SPLITS
    headers: Mapping[str, Sequence[str]] = {}  # of files without one, where tabs divide fields
    hub: Mapping[str, str] = {}  # names of columns on the Hugging Face hub -> the owners'
    has_short_rows: bool = False  # which are left out
    arrange: Callable = lambda *values: values  # the columns' values -> texts
    choose: Callable = lambda examples, split: examples


def choose_stories(examples: list[Example], split: str) -> list[Example]:
    """Divide Story Cloze's validation file into 1,497 and 374 stories.

    Source: `rocstories` in OpenAI's datasets.py.
    """
    if split == "test":
        return examples
    if len(examples) <= 374:
        raise ValueError(f"found {len(examples)} stories, expected 1871")
    from sklearn.model_selection import train_test_split

    train, dev = train_test_split(examples, test_size=374, random_state=3535999445)
    return train if split == "train" else dev


def list_answers(article: str, question: str, options: list[str]) -> tuple[str, ...]:
    """Put RACE's options behind the question. Raises ValueError if there are not four."""
    if not isinstance(options, list) or len(options) != 4:
        raise ValueError(f"options is {options!r:.80}, expected a list of four")
    return article, question, *options


PAIR, CLAIM = ("sentence1", "sentence2"), ("premise", "hypothesis")
STORY = tuple(f"InputSentence{n}" for n in (1, 2, 3, 4))
ENDINGS = ("RandomFifthSentenceQuiz1", "RandomFifthSentenceQuiz2")
YES_NO, ENTAILS = ("entailment", "not_entailment"), ("entails", "neutral")
NLI, F1 = ("entailment", "neutral", "contradiction"), ("f1", "accuracy")
MULTI = ("{}.tsv", "multinli_1.0_{}.jsonl")  # as in GLUE, or from the authors
STS, JUDGMENTS = ("{}.tsv", "sts-{}.csv"), ("{}.tsv", "in_domain_{}.tsv")  # likewise
MATCHED = {"train": "train", "dev": "dev_matched", "test": "test_matched"}
MATCHED |= {name: name for name in ("dev_mismatched", "test_mismatched")}
LEVELS = SPLITS | {f"{x}_{level}": f"{x}/{level}" for x in SPLITS for level in ("middle", "high")}
SCITAIL = ("tsv_format/scitail_1.0_{}.tsv", "scitail_1.0_{}.tsv")
STATED = dict.fromkeys([f"scitail_1.0_{x}.tsv" for x in SPLITS], (*CLAIM, "label"))
SCORED = dict.fromkeys(
    [f"sts-{x}.csv" for x in SPLITS],
    ("genre", "filename", "year", "old_index", "score", *PAIR, "source1", "source2"),
)
JUDGED = dict.fromkeys(
    [name.format(x) for name in JUDGMENTS for x in ("train", "dev")],
    ("source", "label", "star", "sentence"),
)
HUB_NLI = {"premise": "sentence1", "hypothesis": "sentence2", "label": "gold_label"}
PAPER_TASKS = {
    "snli": Task("entailment", PAIR, "gold_label", NLI, files=("snli_1.0_{}.jsonl",), hub=HUB_NLI),
    "mnli": Task("entailment", PAIR, "gold_label", NLI, files=MULTI, splits=MATCHED, hub=HUB_NLI),
    "qnli": Task("entailment", ("question", "sentence"), "label", YES_NO),
    "scitail": Task("entailment", CLAIM, "label", ENTAILS, files=SCITAIL, headers=STATED),
    "rte": Task("entailment", PAIR, "label", YES_NO),
    "race": Task(
        *("multiple_choice", ("article", "question", "options"), "answer", ("A", "B", "C", "D")),
        files=("{}/",),
        splits=LEVELS,
        arrange=list_answers,
    ),
    "storycloze": Task(
        *("multiple_choice", STORY + ENDINGS, "AnswerRightEnding", ("1", "2")),
        files=("cloze_test_{0}__spring2016 - cloze_test_ALL_{0}.csv",),
        splits={"train": "val", "dev": "val", "test": "test"},
        arrange=lambda *values: (" ".join(values[:4]), "", *values[4:]),  # there is no question
        choose=choose_stories,
    ),
    "mrpc": Task(
        *("similarity", ("#1 String", "#2 String"), "Quality"),
        metrics=F1,
        files=("{}.tsv", "msr_paraphrase_{}.txt"),  # GLUE's dev is a part of their train
        hub={"sentence1": "#1 String", "sentence2": "#2 String", "label": "Quality"},
    ),
    "qqp": Task(
        *("similarity", ("question1", "question2"), "is_duplicate"),
        metrics=F1,
        hub={"label": "is_duplicate"},
        has_short_rows=True,
    ),
    "stsb": Task(
        *("similarity", PAIR, "score", (), ("pearson",)),
        files=STS,
        headers=SCORED,
        hub={"label": "score"},
    ),
    "sst2": Task("classification", ("sentence",), "label"),
    "cola": Task(
        *("classification", ("sentence",), "label", ("0", "1"), ("matthews",)),
        files=JUDGMENTS,
        headers=JUDGED,
    ),
}


def find_task(
    name: str, source: DataSet, columns=("text",), label: str = "label", labels=()
) -> Task:
    """Return the task of that name. "csv" has one column or two, and these labels or `train`'s.

    Raises ImportError without scikit-learn, ValueError for an unknown name.
    """
    need("sklearn", "the score of a task")
    if name in PAPER_TASKS:
        return PAPER_TASKS[name]
    if name != "csv":
        raise ValueError(f"no task {name!r}; expected one of {', '.join(PAPER_TASKS)}, csv")
    kind = "classification" if len(columns) == 1 else "entailment"
    task = Task(kind, tuple(columns), label, (), files=("{}.csv", "{}.jsonl"))
    labels = labels or set(each(task, source, "train", lambda row: class_of(row, label)))
    if len(labels) < 2:
        raise ValueError(f"{label!r} is always {min(labels)!r} in the train part; pass two classes")
    return task._replace(labels=tuple(sorted(labels)))


def load_task(task: Task, source: DataSet, split: str = "train") -> list[Example]:
    """Read the examples of a split; those without an agreed label ("-") are left out.

    `source` is a folder with the owners' files, or the rows of each split, as in a `DatasetDict`,
    with the columns and labels of the owners or of the Hugging Face hub. A test part may have no
    labels at all.
    Raises FileNotFoundError, naming the files that are expected, and ValueError, naming file and
    line, for other contents.
    """
    read = partial(read_example, task, has_label=not split.startswith("test"))
    if not (examples := list(each(task, source, split, read))):
        raise ValueError(f"no examples with a label for {split!r} in {name_of(source)}")
    if isinstance(source, Mapping):
        return [x for x in examples if x.label is not None] or examples
    with naming(source):
        return task.choose(examples, split)


def each(task: Task, source: DataSet, split: str, read: Callable) -> Iterator:
    """Yield what `read` makes of each row, unless that is None. Raises ValueError for no rows."""
    place = None
    for place, row in rows_of(task, source, split):
        with naming(place):
            found = read(row)
        if found is not None:
            yield found
    if place is None:
        raise ValueError(f"no rows for {split!r} in {name_of(source)}")


def rows_of(task: Task, source: DataSet, split: str) -> Iterator[tuple[str, Mapping]]:
    """Yield where each row stands, and the row."""
    if isinstance(source, Mapping):
        return read_rows(task, source, split)
    if not isinstance(source, str | Path):
        way = "a folder, or the rows of each split: {'train': ..., 'dev': ...}"
        raise ValueError(f"got a {type(source).__name__}, expected {way}")
    paths = [Path(source, name) for name in file_names(task, split)]
    for path in paths:
        if path.exists():
            header = task.headers.get(path.name)
            read = READERS.get(path.name) or READERS[path.suffix]
            return (TSV if header else read)(path, header)
    raise FileNotFoundError(f"no {' or '.join(map(str, paths))}; put the owners' files there")


def file_names(task: Task, split: str) -> list[str]:
    """Return the owners' names of the file of a split, one of which is to be there."""
    if split not in task.splits:
        raise ValueError(f"split={split!r}; choose from {', '.join(task.splits)}")
    return [name.format(task.splits[split]) for name in task.files]


def read_example(task: Task, row: Mapping, has_label: bool) -> Example | None:
    """Turn a row into an example. Raises ValueError, saying what was expected."""
    if task.has_short_rows and None in row.values():
        return None
    texts = task.arrange(*values_of(row, task.columns))
    if others := [x for x in texts if not isinstance(x, str | int)]:
        raise ValueError(f"expected a text, got {others[0]!r:.80}")
    texts = tuple(map(str, texts))
    if not has_label and row.get(task.label) is None:
        return Example(texts, None)
    label = str(*values_of(row, [task.label]))
    if not task.labels:
        try:
            score = float(label)
        except ValueError:
            score = math.nan
        if not math.isfinite(score):
            raise ValueError(f"the score is {label!r}, expected a number")
        return Example(texts, None if score == -1 and not has_label else score)
    if label in task.labels:
        return Example(texts, task.labels.index(label))
    if label == "-":
        return None
    raise ValueError(f"the label is {label!r}, expected {' or '.join(task.labels):.200}")


def class_of(row: Mapping, column: str) -> str:
    """Return the class that a row names. Raises ValueError if it names none."""
    [label] = values_of(row, [column])
    if label == "" or not isinstance(label, str | int):
        raise ValueError(f"the label is {label!r:.80}, expected the name or number of a class")
    return str(label)


def values_of(row: Mapping, columns: Sequence[str]) -> list:
    """Return the values of some columns. Raises ValueError if one is missing or one too many."""
    values = [row.get(name) for name in columns]
    if None in values or None in row:
        found = [name or "more" for name, value in row.items() if value is not None]
        raise ValueError(f"expected {', '.join(columns)}; found {', '.join(found)}")
    return values


def read_rows(task: Task, source: Mapping, split: str) -> Iterator[tuple[str, Mapping]]:
    """Yield where each row stands, and the row with the owners' columns and labels.

    On the Hugging Face hub, a label is the number of a class with a name; -1 is none.
    """
    names = [split, task.splits.get(split, split)]
    names = dict.fromkeys([*names, *(x.replace("dev", "validation") for x in names)])
    name = next((x for x in names if x in source), None)
    if name is None:
        raise ValueError(f"no split {' or '.join(map(repr, names))}; found {', '.join(source)}")
    features = getattr(source[name], "features", None) or {}
    features = {task.hub.get(column, column): feature for column, feature in features.items()}
    classes = getattr(features.get(task.label), "names", None)
    for number, row in enumerate(source[name]):
        if not isinstance(row, Mapping):
            raise ValueError(f"{name}, row {number}: expected columns with values, got {row!r:.80}")
        row = {task.hub.get(column, column): value for column, value in row.items()}
        if classes:
            label = row.pop(task.label)
            if label not in (None, -1):
                known = classes[label] in (task.labels or classes)
                row[task.label] = classes[label] if known else label
            elif not split.startswith("test"):
                continue
        yield f"{name}, row {number}", row


def read_fields(path: Path, header: Sequence[str] | None, **dialect) -> Iterator:
    csv.field_size_limit(2**31 - 1)  # by default, 131,072 characters
    lines = (line for _, line, _ in read_text(path))
    rows = csv.DictReader(lines, header, strict=True, **dialect)
    try:
        for row in rows:
            yield f"{path}, line {rows.line_num}", row
    except csv.Error as error:
        raise ValueError(f"{path}, line {rows.reader.line_num}: {error}") from error


def read_objects(path: Path, _) -> Iterator:
    for number, line, _ in read_text(path):
        if line.strip():
            with naming(place := f"{path}, line {number}"):
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(f"expected a JSON object, got {row!r:.80}")
            yield place, row


def read_passages(folder: Path, _) -> Iterator:
    """Yield each question of RACE: a file holds a passage with its questions."""
    for path in sorted(folder.rglob("*.txt")):
        passage = read_json(path)
        with naming(path):
            columns = values_of(passage, ["questions", "options", "answers"])
            questions = list(zip(*columns, strict=True))
        for number, (question, options, answer) in enumerate(questions, 1):
            row = {"question": question, "options": options, "answer": answer}
            yield f"{path}, question {number}", passage | row


def read_schemas(path: Path, _) -> Iterator:
    """Yield each Winograd schema: lines of sentence, pronoun, candidates, answer, and a blank."""
    lines = ((number, line.strip()) for number, line, _ in read_text(path))
    for is_blank, group in groupby(lines, lambda line: not line[1]):
        if is_blank:
            continue
        numbers, record = zip(*group, strict=True)
        with naming(place := f"{path}, line {numbers[0]}"):
            try:
                sentence, _, candidates, answer = record
                beginning, rest = sentence.split("[MASK]")
                first, second = map(str.strip, candidates.split(","))
                row = {"beginning": beginning, "first": first, "second": second, "rest": rest}
                row["answer"] = [first, second].index(answer)
            except ValueError as error:
                way = "four lines: a sentence with [MASK], [MASK], two candidates, one of them"
                raise ValueError(f"expected {way}") from error
        yield place, row


TSV = partial(read_fields, delimiter="\t", quoting=csv.QUOTE_NONE)
READERS = {".tsv": TSV, ".csv": read_fields, ".jsonl": read_objects}
READERS |= {".txt": TSV, "wsc273.txt": read_schemas, "": read_passages}


def metrics(task: Task, predictions: Sequence, labels: Sequence) -> dict[str, float]:
    """Score predictions, which are what labels are, by the metrics of the task.

    Pearson's correlation has no value if all predictions are the same or there is one, and is 0.
    """
    from scipy.stats import pearsonr
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    known = {"accuracy": accuracy_score, "f1": f1_score, "matthews": matthews_corrcoef}
    known["pearson"] = lambda *both: len(labels) > 1 and np.nan_to_num(pearsonr(*both).statistic)
    return {name: float(known[name](labels, predictions)) for name in task.metrics}


def write_predictions(path: str | Path, task: Task, predictions: Sequence) -> None:
    """Write predictions, which are what labels are, in the form of a GLUE submission.

    They are numbered from 0; examples without an agreed label ("-") are not among them.
    """
    names = [task.labels[x] if task.labels else f"{x:.3f}" for x in predictions]
    lines = ["index\tprediction", *(f"{index}\t{name}" for index, name in enumerate(names)), ""]
    data, path = "\n".join(lines).encode(), Path(path)
    save_files(path.parent, {path.name: lambda new: new.write_bytes(data)})
