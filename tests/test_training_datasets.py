"""The paper's data sets: small files of invented sentences, in the forms of their owners."""

import json

import pytest

pytest.importorskip("sklearn")  # an extra of the package

from minigpt.tasks import TRANSFORMATIONS
from minigpt.training.datasets import (
    PAPER_TASKS,
    Example,
    file_names,
    find_task,
    load_task,
    metrics,
    write_predictions,
)


def lines(*rows, separator="\t") -> str:
    """A file's text from rows with spaces or with fields."""
    rows = [row.split("|") if isinstance(row, str) else row for row in rows]
    return "".join(separator.join(row) + "\n" for row in rows)


def objects(*rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def pair(label, one="A cat sleeps.", other="An animal rests.", **more) -> dict:
    return {"gold_label": label, "sentence1": one, "sentence2": other, "pairID": "7", **more}


GLUE_MNLI = "index|promptID|pairID|genre|sentence1_binary_parse|sentence2_binary_parse"
GLUE_MNLI += "|sentence1_parse|sentence2_parse|sentence1|sentence2"
STORY = "InputStoryid,InputSentence1,InputSentence2,InputSentence3,InputSentence4"
STORY += ",RandomFifthSentenceQuiz1,RandomFifthSentenceQuiz2,AnswerRightEnding\n"
PASSAGE = {
    "id": "high1.txt",
    "article": "Ann keeps bees.\nShe sells honey.",
    "questions": ["What does Ann sell?", "Ann keeps _ ."],
    "options": [["Milk", "Honey", "Bread", "Wool"], ["cats", "dogs", "bees", "fish"]],
    "answers": ["B", "C"],
}
ARTICLE = PASSAGE["article"]
CASES = {  # name of the case -> task, split, files, the examples
    "snli": (
        *("snli", "train"),
        {"snli_1.0_train.jsonl": objects(pair("neutral"), pair("-"), pair("entailment", other=""))},
        [(("A cat sleeps.", "An animal rests."), 1), (("A cat sleeps.", ""), 0)],
    ),
    "mnli as in GLUE": (
        *("mnli", "dev"),
        {
            "dev_matched.tsv": lines(
                GLUE_MNLI + "|label1|label2|gold_label",
                '0|1|1a|letters|(|(|(|(|She said "no|He heard "no".|neutral|-|contradiction',
            )
        },
        [(('She said "no', 'He heard "no".'), 2)],
    ),
    "mnli from the authors": (
        *("mnli", "dev_mismatched"),
        {"multinli_1.0_dev_mismatched.jsonl": objects(pair("-"), pair("contradiction"))},
        [(("A cat sleeps.", "An animal rests."), 2)],
    ),
    "mnli without labels": (
        *("mnli", "test_mismatched"),
        {"test_mismatched.tsv": lines(GLUE_MNLI, "0|1|1a|letters|(|(|(|(|It rains.|It is dry.")},
        [(("It rains.", "It is dry."), None)],
    ),
    "qnli": (
        *("qnli", "dev"),
        {"dev.tsv": lines("index|question|sentence|label", "0|Who?|Ann did.|not_entailment")},
        [(("Who?", "Ann did."), 1)],
    ),
    "scitail": (
        *("scitail", "test"),
        {
            "tsv_format/scitail_1.0_test.tsv": lines(
                'Ice is "solid water.|Ice is water.|entails', "Ice melts.|Ice is hot.|neutral"
            )
        },
        [(('Ice is "solid water.', "Ice is water."), 0), (("Ice melts.", "Ice is hot."), 1)],
    ),
    "rte": (
        *("rte", "train"),
        {"train.tsv": lines("index|sentence1|sentence2|label", "0|Ann ran.|Ann moved.|entailment")},
        [(("Ann ran.", "Ann moved."), 0)],
    ),
    "race": (
        *("race", "dev"),
        {
            "dev/high/1.txt": json.dumps(PASSAGE),
            "dev/middle/2.txt": json.dumps(PASSAGE | {"answers": ["A", "D"]}),
            "train/high/3.txt": "not read",
        },
        [
            ((ARTICLE, question, *options), answer)
            for answers in ((1, 2), (0, 3))
            for question, options, answer in zip(
                PASSAGE["questions"], PASSAGE["options"], answers, strict=True
            )
        ],
    ),
    "race, one level": (
        *("race", "test_high"),
        {"test/high/1.txt": json.dumps(PASSAGE), "test/middle/2.txt": "not read"},
        [
            ((ARTICLE, PASSAGE["questions"][0], *PASSAGE["options"][0]), 1),
            ((ARTICLE, PASSAGE["questions"][1], *PASSAGE["options"][1]), 2),
        ],
    ),
    "storycloze": (
        *("storycloze", "test"),
        {
            "cloze_test_test__spring2016 - cloze_test_ALL_test.csv": STORY
            + 'x1,Tom fell.,"It hurt, badly.",He cried.,"Ann said ""oh"".",She helped.,She ran.,2\n'
        },
        [
            (
                (
                    'Tom fell. It hurt, badly. He cried. Ann said "oh".',
                    "",
                    "She helped.",
                    "She ran.",
                ),
                1,
            )
        ],
    ),
    "mrpc": (
        *("mrpc", "train"),
        {
            "train.tsv": "\ufeff"
            + lines(
                "Quality|#1 ID|#2 ID|#1 String|#2 String", '1|7|8|" We won , he said .|He won .'
            )
        },
        [(('" We won , he said .', "He won ."), 1)],
    ),
    "mrpc from the authors": (
        *("mrpc", "test"),
        {
            "msr_paraphrase_test.txt": "\ufeff"
            + lines("Quality|#1 ID|#2 ID|#1 String|#2 String", '0|7|8|He said "no.|He won.')
        },
        [(('He said "no.', "He won."), 0)],
    ),
    "qqp": (
        *("qqp", "train"),
        {
            "train.tsv": lines(
                "id|qid1|qid2|question1|question2|is_duplicate",
                "1|2|3|How old?|What age?|1",
                "4|5|6|A question with a",  # broken by a line end, as in the real file
                "line end?|Why?|0",
                "7|8|9|Who?|Where?|0",
            )
        },
        [(("How old?", "What age?"), 1), (("Who?", "Where?"), 0)],
    ),
    "qqp without labels": (
        *("qqp", "test"),
        {"test.tsv": lines("id|question1|question2", "0|Who?|Where?")},
        [(("Who?", "Where?"), None)],
    ),
    "stsb": (
        *("stsb", "dev"),
        {
            "dev.tsv": lines(
                "index|genre|filename|year|old_index|source1|source2|sentence1|sentence2|score",
                "0|news|x|2015|1|none|none|A dog runs.|A dog is running.|4.750",
            )
        },
        [(("A dog runs.", "A dog is running."), 4.75)],
    ),
    "stsb from the authors": (
        *("stsb", "dev"),
        {
            "sts-dev.csv": lines(
                'main-news|headlines|2016|12|4.750|He said "no|No, he said.',
                "main-forums|deft|2014|7|0.000|A, b|c|http://one|http://two",
            )
        },
        [(('He said "no', "No, he said."), 4.75), (("A, b", "c"), 0.0)],
    ),
    "sst2": (
        *("sst2", "train"),
        {"train.tsv": lines("sentence|label", 'a dull , " long film |0', "|1", "'s fun |1")},
        [(('a dull , " long film ',), 0), (("",), 1), (("'s fun ",), 1)],
    ),
    "cola": (
        *("cola", "train"),
        {"train.tsv": lines('xy01|1||"Ann", Tom says.', "xy01|0|*|Ann apples the ate.")},
        [(('"Ann", Tom says.',), 1), (("Ann apples the ate.",), 0)],
    ),
    "cola from the authors": (
        *("cola", "dev"),
        {"in_domain_dev.tsv": lines('xy01|1||"Ann", Tom says.', "xy01|0|*|Ann the ate.")},
        [(('"Ann", Tom says.',), 1), (("Ann the ate.",), 0)],
    ),
    "cola without labels": (
        *("cola", "test"),
        {"test.tsv": lines("index|sentence", "0|Ann eats.")},
        [(("Ann eats.",), None)],
    ),
}


@pytest.fixture
def put(tmp_path):
    """Write files into a folder."""

    def write(files: dict[str, str]):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text, encoding="utf-8", newline="")
        return tmp_path

    return write


@pytest.mark.parametrize("case", CASES)
def test_the_owners_files_are_read(case, put):
    name, split, files, expected = CASES[case]
    assert load_task(find_task(name, None), put(files), split) == expected


def test_every_task_is_tried_and_can_be_transformed():
    assert {name for name, *_ in CASES.values()} == set(PAPER_TASKS)
    assert {task.kind for task in PAPER_TASKS.values()} == set(TRANSFORMATIONS)


def test_story_cloze_is_divided_as_in_openais_code(put):
    """The held-out stories: numpy.random.RandomState(3535999445).permutation(1871)[:374]."""
    rows = "".join(f"x,Story {n}.,b,c,d,e,f,{1 + n % 2}\n" for n in range(1871))
    folder = put({"cloze_test_val__spring2016 - cloze_test_ALL_val.csv": STORY + rows})
    train, dev = (load_task(PAPER_TASKS["storycloze"], folder, split) for split in ("train", "dev"))
    assert (len(train), len(dev)) == (1497, 374)
    assert len({example.texts for example in train + dev}) == 1871
    first = [example.texts[0].split(".")[0] for example in dev[:3]]
    assert first == ["Story 1058", "Story 198", "Story 1174"]
    names = STORY.strip().split(",")
    parts = {
        "dev": [dict(zip(names, row.split(","), strict=True)) for row in rows.splitlines()[:5]]
    }
    assert len(load_task(PAPER_TASKS["storycloze"], parts, "dev")) == 5  # divided already


# -- rows in the form of the Hugging Face hub

NLI_NAMES = ["entailment", "neutral", "contradiction"]
HUB = {  # task -> the texts of a row, the names of the classes
    "snli": ({"premise": "a", "hypothesis": "b"}, NLI_NAMES),
    "mnli": ({"premise": "a", "hypothesis": "b"}, NLI_NAMES),
    "qnli": ({"question": "a", "sentence": "b"}, ["entailment", "not_entailment"]),
    "rte": ({"sentence1": "a", "sentence2": "b"}, ["entailment", "not_entailment"]),
    "mrpc": ({"sentence1": "a", "sentence2": "b"}, ["not_equivalent", "equivalent"]),
    "qqp": ({"question1": "a", "question2": "b"}, ["not_duplicate", "duplicate"]),
    "stsb": ({"sentence1": "a", "sentence2": "b"}, None),
    "sst2": ({"sentence": "a"}, ["negative", "positive"]),
    "cola": ({"sentence": "a"}, ["unacceptable", "acceptable"]),
}


def on_hub(texts: dict, names: list[str] | None, **labels: list):
    """A `DatasetDict`; each row has these texts, and one of the labels of its part."""
    datasets = pytest.importorskip("datasets")
    label = datasets.ClassLabel(names=names) if names else datasets.Value("float32")
    features = dict.fromkeys(texts, datasets.Value("string"))
    features = datasets.Features(features | {"label": label, "idx": datasets.Value("int32")})
    rows = {x: [texts | {"label": y, "idx": 0} for y in labels[x]] for x in labels}
    return datasets.DatasetDict(
        {x: datasets.Dataset.from_list(y, features=features) for x, y in rows.items()}
    )


@pytest.mark.parametrize("name", HUB)
def test_rows_of_the_hub_are_read(name):
    texts, task = HUB[name][0], PAPER_TASKS[name]
    suffix = "_matched" if name == "mnli" else ""
    parts = {"train": [0, 1], f"validation{suffix}": [1], f"test{suffix}": [-1, -1]}
    source, texts = on_hub(*HUB[name], **parts), tuple(texts.values())
    assert load_task(task, source) == [(texts, 0), (texts, 1)]
    assert load_task(task, source, "dev") == [(texts, 1)]
    assert load_task(task, source, "test") == [(texts, None)] * 2  # not public


def test_rows_of_the_hub_without_an_agreed_label_are_left_out():
    source = on_hub(*HUB["snli"], **dict.fromkeys(("train", "validation", "test"), [-1, 2, 0]))
    for split in ("train", "dev", "test"):
        assert [x.label for x in load_task(PAPER_TASKS["snli"], source, split)] == [2, 0]
    task = find_task("csv", source, ("premise", "hypothesis"))
    assert task.labels == ("contradiction", "entailment")  # names of the classes, as they are there
    assert [x.label for x in load_task(task, source)] == [0, 1]


def test_the_names_of_classes_count_not_their_order():
    source = on_hub(HUB["rte"][0], ["not_entailment", "entailment"], train=[0, 1])
    assert [x.label for x in load_task(PAPER_TASKS["rte"], source)] == [1, 0]


def test_a_question_of_the_hub_has_its_options_in_a_list():
    row = {"article": "a", "question": "q", "options": list("wxyz"), "answer": "C"}
    assert load_task(PAPER_TASKS["race"], {"train": [row]}) == [(("a", "q", *"wxyz"), 2)]


@pytest.mark.parametrize(
    "source, message",
    [
        ([{"text": "a", "label": 1}], "got a list, expected a folder, or the rows of each split"),
        ({"train": {"text": ["a"]}}, "train, row 0: expected columns with values, got 'text'"),
        ({"dev": []}, "no split 'train'; found dev"),
        ({"train": []}, "no rows for 'train' in this dict"),
        ({"train": [{"text": "a", "label": ""}]}, "row 0: the label is '', expected the name"),
        ({"train": [{"text": "a", "label": [1, 2]}]}, r"row 0: the label is \[1, 2\], expected"),
    ],
)
def test_other_rows_are_refused(source, message):
    with pytest.raises(ValueError, match=message):
        find_task("csv", source)


def test_a_text_is_text():
    row = {"text": ["a", "b"], "label": 1}
    task = find_task("csv", {"train": [row, {"text": "a", "label": 0}]})
    with pytest.raises(ValueError, match=r"train, row 0: expected a text, got \['a', 'b'\]"):
        load_task(task, {"train": [row]})


# -- one's own data


@pytest.mark.parametrize("kind", ["csv", "jsonl", "datasets"])
def test_own_data_have_their_own_columns_and_labels(kind, put):
    rows = {
        "train": [{"a": 'one, "two"', "b": "x\ny", "c": "+"}, {"a": "three", "b": "", "c": "-"}],
        "validation": [{"a": "four", "b": "z", "c": "-"}],
    }
    if kind == "datasets":
        datasets = pytest.importorskip("datasets")
        found = {split: datasets.Dataset.from_list(part) for split, part in rows.items()}
        source = datasets.DatasetDict(found)
    elif kind == "jsonl":
        source = put({"train.jsonl": objects(*rows["train"]) + "\n"})
        put({"dev.jsonl": objects(*rows["validation"])})
    else:
        source = put({"train.csv": 'a,b,c\r\n"one, ""two""","x\ny",+\r\nthree,,-\r\n'})
        put({"dev.csv": "a,b,c\nfour,z,-"})
    task = find_task("csv", source, ("a", "b"), "c")
    assert (task.kind, task.labels, task.metrics) == ("entailment", ("+", "-"), ("accuracy",))
    assert load_task(task, source) == [(('one, "two"', "x\ny"), 0), (("three", ""), 1)]
    assert load_task(task, source, "dev") == [(("four", "z"), 1)]
    assert load_task(find_task("csv", source, ["a"], "c"), source, "dev") == [(("four",), 1)]


def test_a_text_may_be_long(put):
    source = put({"train.csv": f"text,label\n{'a' * 200_000},0\nb,1\n"})
    assert len(load_task(find_task("csv", source), source)[0].texts[0]) == 200_000


@pytest.mark.parametrize(
    "rows, message",
    [
        ("a,x\nb,\n", "line 3: the label is '', expected the name or number of a class"),
        ('"a,x\nb,y\n"c",x\n', "line 4: ',' expected after"),  # the first text does not end
        ("a,x\rb,y\n", "line 2: new-line character"),
    ],
)
def test_a_wrong_table_of_ones_own_is_named(rows, message, put):
    source = put({"train.csv": f"text,label\n{rows}"})
    with pytest.raises(ValueError, match=f"train.csv, {message}"):
        find_task("csv", source)


def test_whole_numbers_are_labels_and_texts():
    rows = [{"text": 5, "label": 1}, {"text": "a", "label": 0}]
    task = find_task("csv", {"train": rows})
    assert load_task(task, {"train": rows}) == [(("5",), 1), (("a",), 0)]
    assert load_task(task, {"test": [{"text": "b"}]}, "test") == [Example(("b",), None)]


# -- what is wrong with a file


HEADER = "sentence\tlabel\n"
WRONG = {  # what -> task, split, files, the error and what it says
    "no file": ("mnli", "dev", {}, FileNotFoundError, "dev_matched.tsv or .*dev_matched.jsonl"),
    "no folder of that level": ("race", "dev_high", {}, FileNotFoundError, "dev.high"),
    "no split": (
        "rte",
        "dev_high",
        {},
        ValueError,
        "split='dev_high'; choose from train, dev, test",
    ),
    "no rows": ("sst2", "dev", {"dev.tsv": HEADER}, ValueError, "no rows for 'dev' in "),
    "nothing": ("sst2", "dev", {"dev.tsv": ""}, ValueError, "no rows for 'dev' in "),
    "no passages": ("race", "dev", {"dev/x.json": ""}, ValueError, "no rows for 'dev' in "),
    "another data set's file": (
        *("rte", "dev", {"dev.tsv": HEADER + "fun\t1\n"}, ValueError),
        "dev.tsv, line 2: expected sentence1, sentence2; found sentence, label",
    ),
    "a short row": (
        *("sst2", "dev", {"dev.tsv": HEADER + "fun\t1\nsad\n"}, ValueError),
        "dev.tsv, line 3: expected label; found sentence",
    ),
    "a long row": (
        *("sst2", "dev", {"dev.tsv": HEADER + "fun\t1\n\tsad\t0\n"}, ValueError),
        "dev.tsv, line 3: expected sentence; found sentence, label, more",
    ),
    "another label": (
        *("sst2", "dev", {"dev.tsv": HEADER + "fun\t2\n"}, ValueError),
        "dev.tsv, line 2: the label is '2', expected 0 or 1",
    ),
    "no number": (
        *("stsb", "dev", {"dev.tsv": "sentence1\tsentence2\tscore\na\tb\thigh\n"}, ValueError),
        "dev.tsv, line 2: the score is 'high', expected a number",
    ),
    "a score that is not a number": (
        *("stsb", "dev", {"dev.tsv": "sentence1\tsentence2\tscore\na\tb\tnan\n"}, ValueError),
        "dev.tsv, line 2: the score is 'nan', expected a number",
    ),
    "no agreed label": (
        *("snli", "dev", {"snli_1.0_dev.jsonl": objects(pair("-"))}, ValueError),
        "no examples with a label for 'dev' in ",
    ),
    "no label outside the test part": (
        *("cola", "dev", {"dev.tsv": "a\n"}, ValueError),
        "dev.tsv, line 1: expected sentence; found source",
    ),
    "no JSON": (
        *("snli", "dev", {"snli_1.0_dev.jsonl": objects(pair("neutral")) + "{"}, ValueError),
        "dev.jsonl, line 2: ",
    ),
    "no object": (
        *("snli", "dev", {"snli_1.0_dev.jsonl": "[]\n"}, ValueError),
        r"dev.jsonl, line 1: expected a JSON object, got \[\]",
    ),
    "few stories": (
        *("storycloze", "dev"),
        {"cloze_test_val__spring2016 - cloze_test_ALL_val.csv": STORY + "x,a,b,c,d,e,f,1\n"},
        *(ValueError, "found 1 stories, expected 1871"),
    ),
    "a passage without questions": (
        *("race", "dev", {"dev/high/1.txt": json.dumps({"article": "a"})}, ValueError),
        "1.txt: expected questions, options, answers; found article",
    ),
    "three options": (
        *("race", "dev"),
        {"dev/high/1.txt": json.dumps(PASSAGE | {"options": [["a"] * 4, ["a"] * 3]})},
        *(ValueError, r"1.txt, question 2: options is \['a', 'a', 'a'\], expected a list of four"),
    ),
    "options in a string": (
        *("race", "dev"),
        {"dev/high/1.txt": json.dumps(PASSAGE | {"options": ["abcd", ["a"] * 4]})},
        *(ValueError, "1.txt, question 1: options is 'abcd', expected a list of four"),
    ),
    "an answer too few": (
        *("race", "dev", {"dev/high/1.txt": json.dumps(PASSAGE | {"answers": ["A"]})}, ValueError),
        "1.txt: ",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_file_is_named(what, put):
    name, split, files, error, message = WRONG[what]
    with pytest.raises(error, match=message):
        load_task(PAPER_TASKS[name], put(files), split)


def test_bytes_that_are_not_utf_8_are_named_with_their_line(tmp_path):
    (tmp_path / "dev.tsv").write_bytes(HEADER.encode() + b"fun\t1\ncaf\xe9\t0\n")
    with pytest.raises(ValueError, match="dev.tsv, line 3: .*0xe9.*; convert it to UTF-8"):
        load_task(PAPER_TASKS["sst2"], tmp_path, "dev")


def test_an_unknown_task_and_an_unknown_column_are_named(put):
    with pytest.raises(ValueError, match="'wnli'; expected one of snli, .*cola, csv"):
        find_task("wnli", None)
    with pytest.raises(ValueError, match="train.csv, line 2: expected label; found text, class"):
        find_task("csv", put({"train.csv": "text,class\na,b\n"}))


def test_a_missing_extra_is_named_before_anything_is_read(monkeypatch):
    monkeypatch.setattr("minigpt.training.logs.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"minigpt-notebooks\[train\]"):
        find_task("rte", None)


def test_the_names_of_the_files():
    assert file_names(PAPER_TASKS["mnli"], "train") == ["train.tsv", "multinli_1.0_train.jsonl"]
    assert file_names(PAPER_TASKS["race"], "dev_middle") == ["dev/middle/"]


# -- scores


@pytest.mark.parametrize(
    "name, predictions, labels, expected",
    [  # by hand
        ("sst2", [1, 1, 0, 1], [1, 0, 0, 1], {"accuracy": 0.75}),
        ("mrpc", [1, 1, 0, 0], [1, 0, 0, 1], {"f1": 0.5, "accuracy": 0.5}),
        ("mrpc", [0, 0], [1, 0], {"f1": 0.0, "accuracy": 0.5}),
        ("cola", [1, 1, 0, 1], [1, 0, 0, 1], {"matthews": 4**0.5 / (3 * 2 * 2) ** 0.5}),
        ("cola", [1, 1, 1, 1], [1, 0, 0, 1], {"matthews": 0.0}),
        ("stsb", [1.0, 2.0, 3.0], [0.0, 2.0, 1.0], {"pearson": 0.5}),
        ("stsb", [1.0], [1.0], {"pearson": 0.0}),
        ("race", [3, 0], [3, 1], {"accuracy": 0.5}),
    ],
)
def test_scores(name, predictions, labels, expected):
    assert metrics(PAPER_TASKS[name], predictions, labels) == pytest.approx(expected)
    assert list(metrics(PAPER_TASKS[name], predictions, labels)) == list(expected)


@pytest.mark.filterwarnings("ignore:An input array is constant")
def test_equal_predictions_have_a_score():
    assert metrics(PAPER_TASKS["stsb"], [2.0, 2.0, 2.0], [1.0, 2.0, 3.0]) == {"pearson": 0.0}


@pytest.mark.parametrize(
    "name, predictions, expected",
    [
        ("rte", [1, 0], "index\tprediction\n0\tnot_entailment\n1\tentailment\n"),
        ("stsb", [4.75, 1 / 3], "index\tprediction\n0\t4.750\n1\t0.333\n"),
    ],
)
def test_predictions_are_written_as_glue_wants_them(name, predictions, expected, tmp_path):
    write_predictions(tmp_path / "RTE.tsv", PAPER_TASKS[name], predictions)
    assert (tmp_path / "RTE.tsv").read_bytes() == expected.encode()
