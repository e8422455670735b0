"""Zero-shot on files: small ones of numbers, which a model of pairs of tokens scores by hand."""

import json
import re
from types import SimpleNamespace

import pytest

pytest.importorskip("sklearn")  # an extra of the package

from typer.testing import CliRunner

from minigpt.cli.app import app
from minigpt.training.zero_shot import HEURISTICS, zero_shot
from tests.test_zero_shot import MODEL

WORDS = {"very": 0, "positive": 1, "negative": 2, ".": 3}


def encode(text: str, add_special_tokens: bool = True) -> list[int]:
    """As a fine-tuned model's: special tokens around each text unless one says no."""
    ids = [int(WORDS.get(x, x)) for x in text.split()]
    return [0, *ids, 0] if add_special_tokens else ids


TOKENIZER = SimpleNamespace(encode=encode)
STORIES = "InputStoryid,InputSentence1,InputSentence2,InputSentence3,InputSentence4"
STORIES += ",RandomFifthSentenceQuiz1,RandomFifthSentenceQuiz2,AnswerRightEnding\n"
PASSAGE = {
    "article": "2 2",
    "questions": ["0"],
    "options": [["3", "1", "2", "0"]],
    "answers": ["B"],
}
CASES = {  # task -> files, what is expected
    "cola": (
        {
            "train.tsv": "x\t1\t\t0 1 3\nx\t0\t*\t3 3 0\nx\t1\t\t0 1\nx\t0\t*\t1 2\n",
            "dev.tsv": "x\t1\t\t0 1 3 0\nx\t0\t*\t2 1\n",
        },
        {"matthews": 1.0, "examples": 2},
    ),
    "sst2": (  # "positive" is more probable behind "very"
        {"dev.tsv": "sentence\tlabel\n3 3\t1\n1\t0\n2\t0\n0\t0\n"},
        {"accuracy": 0.25, "examples": 4},
    ),
    "race": ({"dev/high/1.txt": json.dumps(PASSAGE)}, {"accuracy": 1.0, "examples": 1}),
    "storycloze": (
        {
            "cloze_test_val__spring2016 - cloze_test_ALL_val.csv": STORIES
            + "a,2,2,2,0,3,1,2\n" * 1871
        },
        {"accuracy": 1.0, "examples": 374},
    ),
    "winograd": (  # the rest, 3, is more probable behind 1 than behind 0
        {"wsc273.txt": "2 [MASK]  3 \n[MASK]\n2 0 ,1 \n1 \n\n\n2 [MASK] 3\n[MASK]\n 0 , 1\n0\n\n"},
        {"accuracy": 0.5, "examples": 2},
    ),
}


def write(folder, files: dict[str, str]):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize("task", CASES)
def test_scores_by_hand(task, tmp_path):
    files, expected = CASES[task]
    write(tmp_path, files)
    found = zero_shot(task, tmp_path, MODEL, TOKENIZER)
    assert found.pop("seconds") >= 0 and found == pytest.approx(expected)


def test_every_task_has_a_case():
    assert CASES.keys() == HEURISTICS.keys()


@pytest.mark.parametrize(
    "record",
    [
        "2 3\n[MASK]\n0,1\n0",
        "2 [MASK] 3\n[MASK]\n0\n0",
        "2 [MASK] 3\n[MASK]\n0,1\n2",
        "2 [MASK] 3\n",
    ],
    ids=["no slot", "one candidate", "another answer", "one line"],
)
def test_a_wrong_schema_is_named(record, tmp_path):
    write(tmp_path, {"wsc273.txt": f"2 [MASK] 3\n[MASK]\n0,1\n0\n\n{record}\n"})
    place = f"{tmp_path / 'wsc273.txt'}, line 6: expected four lines: a sentence with [MASK]"
    with pytest.raises(ValueError, match=re.escape(place)):
        zero_shot("winograd", tmp_path, MODEL, TOKENIZER)


def test_an_unknown_task_is_named():
    with pytest.raises(ValueError, match="no task 'mnli'; expected one of cola, sst2, race"):
        zero_shot("mnli", {}, MODEL, TOKENIZER)


def test_without_labels_there_is_no_score(tmp_path):
    write(tmp_path, {"test.tsv": "index\tsentence\n0\t1 2\n"})
    with pytest.raises(ValueError, match="split='test', whose labels are not public; choose 'dev'"):
        zero_shot("sst2", tmp_path, MODEL, TOKENIZER, "test")


def test_the_last_line_is_one_object(tmp_path):
    schema = "The cup fell and [MASK] broke.\n[MASK]\nthe cup, the floor\nthe cup\n"
    write(tmp_path, {"wsc273.txt": schema})
    words = ["zero-shot", "winograd", str(tmp_path), "tiny"]
    found = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout.splitlines()[-1])
    assert list(found) == ["accuracy", "examples", "seconds"] and found["examples"] == 1
    assert "\nexamples: 1\n" in CliRunner().invoke(app, words).stdout
