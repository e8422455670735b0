"""Fine-tuning from files: the runs, what they save, how they end, and the commands."""

import json
import math
import re
import signal
from pathlib import Path
from typing import get_args

import pytest
import torch

pytest.importorskip("sklearn")  # an extra of the package

from typer.testing import CliRunner

from minigpt import (
    AutoTokenizer,
    OpenAIGPTConfig,
    OpenAIGPTForSequenceClassification,
    OpenAIGPTLMHeadModel,
    OpenAIGPTModel,
)
from minigpt.cli.app import app
from minigpt.cli.finetune import AnyTask
from minigpt.finetuning import FineTuning, fine_tune
from minigpt.tasks import SPECIAL
from minigpt.training import finetune as module
from minigpt.training.datasets import PAPER_TASKS, load_task
from minigpt.training.finetune import evaluate, finetune, summary
from minigpt.training.pretrain import Diverged, Stopped
from minigpt.training.task_model import Items, Network, bucketed, open_finetuned
from tests.helpers import ROOT
from tests.test_training_shards import make_tokenizer

QUIET = {"device": "cpu", "progress": False}
WORDS = "the miller sees the fish of the end".split()


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A small language model with a tokenizer, in a folder."""
    folder, tokenizer = tmp_path_factory.mktemp("pretrained"), make_tokenizer()
    sizes = {"n_positions": 64, "n_embd": 16, "n_layer": 2, "n_head": 2}
    torch.manual_seed(0)
    OpenAIGPTLMHeadModel(OpenAIGPTConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(
        folder
    )
    tokenizer.save_pretrained(folder)
    return folder


def text(n: int, seed: int) -> str:
    return " ".join(WORDS[(i * seed + seed // 3) % len(WORDS)] for i in range(1 + n % 9))


def rows(name: str, count: int) -> list[dict]:
    """Rows of a data set; the label depends on the first text."""
    task, found = PAPER_TASKS[name], []
    for n in range(count):
        row = {column: text(n, n + k) for k, column in enumerate(task.columns)}
        row |= {"options": [text(n, n + k) for k in range(4)]} if name == "race" else {}
        label = n % 5 if not task.labels else task.labels[n % len(task.labels)]
        found.append(row | {task.label: str(label)})
    return found


def data(name: str, train: int = 20, dev: int = 11) -> dict:
    return {"train": rows(name, train), "dev": rows(name, dev), "test": rows(name, 5)}


def run(name, out, pretrained, **options):
    options = {"epochs": 2, "batch_size": 8, "rate": 1e-3} | QUIET | options
    return finetune(name, options.pop("source", data(name)), out, pretrained, **options)


KINDS = ["cola", "rte", "mrpc", "stsb", "storycloze", "race"]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, pretrained):
    """A folder and the result for one task of each kind; each is made when it is asked for."""
    found = {}

    def make(name: str):
        if name not in found:
            out = tmp_path_factory.mktemp(name) / "out"
            source = data(name, 400, 400) if name == "storycloze" else data(name)
            found[name] = out, run(name, out, pretrained, source=source), source
        return found[name]

    return make


# -- runs of all kinds


@pytest.mark.parametrize("name", KINDS)
def test_the_folder_has_the_scores_of_the_run(name, tuned):
    out, result, source = tuned(name)
    again = evaluate(name, source, out, **QUIET)
    for metric in PAPER_TASKS[name].metrics:
        assert again[metric] == pytest.approx(result[metric], abs=1e-6)
        assert result[metric] == max(x[metric] for x in result["epochs"]) or metric == "accuracy"
    assert again["examples"] == result["examples"] and result["seconds"] > 0
    assert {path.name for path in out.iterdir()} >= {"README.md", "result.json", "recipe.json"}
    assert not (out / "training.pt").exists()
    assert json.loads((out / "result.json").read_text()) == result


def test_the_special_tokens_get_new_rows(tuned, pretrained):
    out, *_ = tuned("cola")
    model, old = OpenAIGPTForSequenceClassification.from_pretrained(out), make_tokenizer()
    tokenizer = AutoTokenizer.from_pretrained(out)
    V = len(old)
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL)) == [V, V + 1, V + 2]
    before = OpenAIGPTLMHeadModel.from_pretrained(pretrained).transformer.tokens_embed.weight
    after = model.transformer.tokens_embed.weight
    assert len(after) == V + 3
    assert 0 < (after[:V] - before).abs().max() < 0.01 < after[V:].abs().max()  # 6 steps of 1e-3


@pytest.mark.parametrize("name", ["cola", "rte"])
@pytest.mark.parametrize("library", ["minigpt", "transformers"])
def test_pipelines_answer_as_evaluate_does(name, library, tuned, tmp_path):
    out, *_ = tuned(name)
    source, make = data(name, dev=40), pytest.importorskip(library).pipeline
    evaluate(name, source, out, predictions=tmp_path / "p.tsv", **QUIET)
    pipe, task = make("text-classification", str(out), device="cpu"), PAPER_TASKS[name]
    answers = []
    for row in source["dev"]:
        texts = [row[column] for column in task.columns]
        [answer] = pipe([dict(zip(("text", "text_pair"), texts, strict=False))])
        answers.append(answer)
    lines = (tmp_path / "p.tsv").read_text().splitlines()[1:]
    assert [answer["label"] for answer in answers] == [line.split("\t")[1] for line in lines]
    known, network, tokenizer = open_finetuned(name, source, out, (), "")
    items = Items(known, load_task(known, source, "dev"), tokenizer, 64)
    for n, answer in enumerate(answers):
        scores, _ = network.eval()(*[*items.batch([n], torch.device("cpu"))][:2])
        assert answer["score"] == pytest.approx(scores.softmax(-1).max().item(), abs=1e-5)


def test_the_answer_to_a_pair_does_not_depend_on_its_order(tuned):
    out, _, source = tuned("mrpc")
    task, network, tokenizer = open_finetuned("mrpc", source, out, (), "")
    examples = load_task(task, source, "dev")
    turned = [x._replace(texts=x.texts[::-1]) for x in examples]
    found = [
        network.eval()(*[*Items(task, x, tokenizer, 64).batch(range(9), torch.device("cpu"))][:2])
        for x in (examples, turned)
    ]
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-5, rtol=1e-4)


def test_texts_that_are_too_long_are_cut(pretrained, tmp_path):
    source = data("rte")
    source["dev"][0]["sentence1"] = "the fish " * 100
    assert run("rte", tmp_path / "out", pretrained, source=source)["examples"] == 11


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=needs_gpu)]


@pytest.mark.parametrize("device", DEVICES)
def test_a_model_learns(device, pretrained, tmp_path):
    """Which of two words a text holds."""
    made = [
        {"sentence": f"the {x} of the end", "label": y} for x, y in (("fish", 0), ("miller", 1))
    ]
    source = {"train": made * 32, "dev": made}
    options = {"source": source, "epochs": 8, "rate": 1e-2, "device": device}
    result = run("sst2", tmp_path / "out", pretrained, **options)
    assert result["accuracy"] == 1.0
    assert result["epochs"][-1]["loss"] < result["epochs"][0]["loss"] / 2


@needs_gpu
def test_cuda_graphs_change_no_loss():
    found = []
    for speed in (lambda _: None, lambda network: module.speed_up(network, "float32")):
        sizes = {"vocab_size": 50, "n_positions": 40, "n_embd": 16, "n_layer": 2, "n_head": 2}
        rates = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
        torch.manual_seed(0)
        network = Network(PAPER_TASKS["cola"], OpenAIGPTModel(OpenAIGPTConfig(**sizes, **rates)))
        network.dropout.p = 0.0
        speed(network.cuda())
        lengths = [9, 32, 40, 33, 9, 12]
        batches = [
            (torch.randint(50, (4, 1, T)), torch.full((4, 1), T - 1), torch.tensor([0, 1, 1, 0]))
            for T in lengths
        ]
        batches = ([x.cuda() for x in batch] for batch in batches)
        losses = fine_tune(network, batches, FineTuning(steps=len(lengths), rate=1e-3))
        found.append([float(loss) for loss in losses])
    assert found[0] == pytest.approx(found[1], abs=1e-4)
    assert len(set(found[0])) == len(found[0])


@needs_gpu
def test_recording_a_cuda_graph_takes_no_random_numbers():
    sizes = {"vocab_size": 50, "n_positions": 40, "n_embd": 16, "n_layer": 2, "n_head": 2}
    network = Network(PAPER_TASKS["cola"], OpenAIGPTModel(OpenAIGPTConfig(**sizes))).cuda()
    module.speed_up(network, "float32")
    ids, ends = torch.randint(50, (4, 1, 9)), torch.full((4, 1), 8)
    batch, losses = [x.cuda() for x in (ids, ends, torch.tensor([0, 1, 1, 0]))], []
    for seed in (0, 0, 1):  # the first is recorded, as in a run that goes on
        torch.manual_seed(seed)
        losses.append(float(network(*batch, 0.5, False)[1]))
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert losses[0] != pytest.approx(losses[2], abs=1e-5)


def test_predictions_without_labels(tuned, tmp_path):
    out, *_ = tuned("rte")
    source = {"test": [{"sentence1": "the fish", "sentence2": text(n, 2)} for n in range(3)]}
    result = evaluate("rte", source, out, "test", tmp_path / "RTE.tsv", **QUIET)
    assert result.keys() == {"task", "split", "examples", "seconds"} and result["examples"] == 3
    form = r"index\tprediction\n(\d\t(not_)?entailment\n){3}"
    assert re.fullmatch(form, (tmp_path / "RTE.tsv").read_text())


# -- seeds, batches, arithmetic


@pytest.mark.parametrize("place", ["", "missing/p.tsv", "/dev/null"])
def test_predictions_need_a_folder_before_anything_is_computed(place, tmp_path):
    with pytest.raises(FileNotFoundError, match=" is no file in a folder that exists"):
        evaluate("rte", "nowhere", "no-such/model", predictions=tmp_path / place, **QUIET)


def test_a_seed_repeats_a_run_and_another_does_not(pretrained, tmp_path):
    results = [
        run("cola", tmp_path / f"{n}", pretrained, seed=seed) for n, seed in enumerate((1, 1, 2))
    ]
    losses = [[row["loss"] for row in result["epochs"]] for result in results]
    assert losses[0] == losses[1] != losses[2]


def test_median_and_spread():
    results = [{"f1": x, "accuracy": 0.5, "seconds": 9} for x in (0.2, 0.8, 0.3)]
    f1 = {"median": 0.3, "lowest": 0.2, "highest": 0.8}
    assert summary(results) == {"accuracy": dict.fromkeys(f1, 0.5), "f1": f1}


def test_readmes_program_tells_the_spread(tmp_path, monkeypatch, capsys):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n([^`]* summary[^`]*)```", readme)
    (tmp_path / "GLUE/CoLA").mkdir(parents=True)
    for part in ("train", "dev"):
        (tmp_path / f"GLUE/CoLA/{part}.tsv").write_text("a\t1\t\tThe sea.\na\t0\t*\tSea the.\n")
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "README.md", "exec"), {})
    assert re.fullmatch(r"\{'matthews': \{'median': .*\}\}\n", capsys.readouterr().out)


def test_batches_hold_examples_of_similar_length():
    lengths = [n * 7919 % 101 for n in range(1003)]
    batches = bucketed(lengths, 8, (3, 0))
    assert sorted(sum(batches, [])) == list(range(1003))
    assert [len(x) for x in batches].count(8) == 125 and len(batches) == 126
    padding = sum(max(lengths[i] for i in x) * len(x) for x in batches) / sum(lengths)
    assert padding < 1.1
    assert bucketed(lengths, 8, (3, 0)) == batches != bucketed(lengths, 8, (3, 1))
    longest = [max(lengths[i] for i in x) for x in batches]
    assert longest != sorted(longest)  # the batches themselves are mixed


@pytest.mark.parametrize("change", [{"faithful": True}, {"lm_coef": 0.0}, {"dtype": "bfloat16"}])
def test_other_arithmetic(change, tuned, pretrained, tmp_path):
    first = run("rte", tmp_path / "out", pretrained, **change)["epochs"][0]["loss"]
    usual = tuned("rte")[1]["epochs"][0]["loss"]
    assert math.isfinite(first) and first != usual


def test_a_limit_trains_with_fewer_and_measures_with_all(pretrained, tmp_path):
    result = run("cola", tmp_path / "out", pretrained, limit=5)
    assert (result["train_examples"], result["examples"]) == (5, 11)


# -- how a run ends


def test_the_best_epoch_is_kept(pretrained, tmp_path, monkeypatch):
    told, seen = iter([0.2, 0.9, 0.9]), []
    monkeypatch.setattr(module, "metrics", lambda *_: {"matthews": next(told)})
    usual = module.predict

    def watched(task, network, *rest):
        seen.append(network.score.weight.clone())
        return usual(task, network, *rest)

    monkeypatch.setattr(module, "predict", watched)
    result = run("cola", tmp_path / "out", pretrained, epochs=3)
    kept = OpenAIGPTForSequenceClassification.from_pretrained(tmp_path / "out").score.weight
    assert result["matthews"] == 0.9 and torch.equal(kept, seen[1])


def stop_after(step: int, monkeypatch, number=signal.SIGTERM):
    """Let a signal arrive while that step is computed."""
    usual, count = module.Items.batch, iter(range(1, 10**9))

    def batch(self, chosen, device):
        if next(count) == step:
            signal.raise_signal(number)
        return usual(self, chosen, device)

    monkeypatch.setattr(module.Items, "batch", batch)


@pytest.mark.parametrize("step", [2, 3])  # in the first epoch of three steps, and at its end
def test_a_run_goes_on_after_a_signal_as_if_nothing_had_been(
    step, tuned, pretrained, tmp_path, monkeypatch
):
    out, (_, whole, _) = tmp_path / "out", tuned("cola")
    with monkeypatch.context() as patch:
        stop_after(step, patch)
        with pytest.raises(Stopped, match=f"SIGTERM after step {step}; .*--resume") as stop:
            run("cola", out, pretrained)
    assert stop.value.exit_code == 143
    with pytest.raises(FileExistsError, match="--resume"):
        run("cola", out, pretrained)
    with pytest.raises(ValueError, match="rate=0.5, but .* began with 0.001"):
        run("cola", out, pretrained, rate=0.5, resume=True)
    with pytest.raises(ValueError, match=r"other data, \[20, 11\], not \[20, 12\]; pass the same"):
        run("cola", out, pretrained, source=data("cola", dev=12), resume=True)
    result = run("cola", out, pretrained, resume=True)
    assert result["epochs"] == whole["epochs"]
    (out / "training.pt").touch()  # left if it was killed after the last word
    assert run("cola", out, pretrained, resume=True) == result  # it is finished
    assert not (out / "training.pt").exists()


def test_a_stopped_command_says_in_json_what_it_has_done(
    reviews, pretrained, tmp_path, monkeypatch
):
    words = ["finetune", "csv", reviews, tmp_path / "out", "--model", pretrained, "--json"]
    columns = ["--text-column", "review", "--label-column", "stars", "--device", "cpu"]
    stop_after(2, monkeypatch)
    told = call(*words, *columns, "--batch-size", 12)
    result = json.loads(told.stdout.splitlines()[-1])
    assert told.exit_code == 143 and told.stderr.endswith(f"minigpt: {result['error']}\n")
    assert len(result["epochs"]) == 2 and result["accuracy"] == result["epochs"][0]["accuracy"]

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "find_run", interrupted)
    told = call(*words, *columns)
    assert told.exit_code == 130 and json.loads(told.stdout) == {"error": "stopped by Ctrl-C"}


def test_a_damaged_state_is_named(tuned, pretrained, tmp_path, monkeypatch):
    out = tmp_path / "out"
    stop_after(2, monkeypatch)
    with pytest.raises(Stopped):
        run("cola", out, pretrained)
    (out / "training.pt").write_bytes(b"no state")
    with pytest.raises(ValueError, match="training.pt"):
        run("cola", out, pretrained, resume=True)


@pytest.mark.parametrize("name, rate", [("cola", 1e4), ("stsb", 1e4)])
def test_divergence_stops(name, rate, pretrained, tmp_path):
    with pytest.raises(Diverged, match="diverged: loss .* at step .*; pass a lower --rate"):
        run(name, tmp_path / "out", pretrained, rate=rate, epochs=5)


def test_a_model_that_the_last_step_of_an_epoch_breaks_is_not_saved(pretrained, tmp_path):
    with pytest.raises(ValueError, match="no finite scores; train it with a lower rate"):
        run("cola", tmp_path / "out", pretrained, rate=1e38, batch_size=20)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["recipe.json"]


# -- what is refused, before anything is made


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"model": "no-such/model/anywhere"}, OSError, "no-such/model"),
        (
            {"source": {"train": rows("cola", 3)}},
            ValueError,
            "no split 'dev' or 'validation'; found train",
        ),
        ({"device": "cuda:99"}, ValueError, "cuda:99"),
    ],
)
def test_refusals(change, error, message, pretrained, tmp_path):
    model = change.pop("model", pretrained)
    with pytest.raises(error, match=message):
        run("cola", tmp_path / "out", model, **change)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_a_model_is_refused(pretrained):
    with pytest.raises(FileExistsError, match="not empty"):
        run("cola", pretrained, pretrained)


def test_a_folder_with_other_files_is_refused(pretrained, tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FileExistsError, match="is not empty; pass a new folder"):
        run("cola", tmp_path, pretrained)


@pytest.mark.parametrize("name", ["race", "rte", "sst2"])  # the last has the same form as cola
def test_a_model_of_another_task_is_refused(name, tuned, pretrained):
    out, *_ = tuned("cola")
    with pytest.raises(ValueError, match=f"was fine-tuned for cola, not for {name}; pass cola"):
        evaluate(name, data(name), out, **QUIET)
    with pytest.raises(ValueError, match=f"was not fine-tuned for {name}.*finetune {name}"):
        evaluate(name, data(name), pretrained, **QUIET)


# -- the commands


def call(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result


@pytest.fixture
def reviews(tmp_path) -> Path:
    """A folder for the task csv: two columns, three labels, one split in another format."""
    folder = tmp_path / "reviews"
    folder.mkdir()
    rows = [(text(n, 3), text(n, 5), "abc"[n % 3]) for n in range(12)]
    lines = ["review,more,stars", *(",".join(row) for row in rows)]
    (folder / "train.csv").write_text("\n".join(lines))
    objects = [json.dumps(dict(zip(("review", "more", "stars"), row, strict=True))) for row in rows]
    (folder / "dev.jsonl").write_text("\n".join(objects))
    return folder


@pytest.mark.parametrize("second", [[], ["--second-column", "more"]])
def test_ones_own_data(second, reviews, pretrained, tmp_path):
    columns = ["--text-column", "review", "--label-column", "stars", *second, "--device", "cpu"]
    out = tmp_path / "out"
    words = ["finetune", "csv", reviews, out, "--model", pretrained, *columns, "--epochs", 1]
    told = call(*words, "--limit", 9, "--batch-size", 4, "--rate", 1e-3, "--seed", 3, "--json")
    assert told.exit_code == 0, told.output
    result = json.loads(told.stdout.splitlines()[-1])
    assert result.keys() >= {"accuracy", "examples", "seconds"} and result["examples"] == 12
    recipe = json.loads((out / "recipe.json").read_text())
    assert (recipe["seed"], recipe["batch_size"], recipe["limit"]) == (3, 4, 9)
    (reviews / "train.csv").unlink()  # the model knows the labels
    words = "evaluate", "csv", reviews, out, *columns
    scored = call(*words, "--json", "--predictions", tmp_path / "p")
    refused = call(*words, "--predictions", tmp_path / "p")
    assert refused.exit_code == 2 and "p exists; pass another file, or --force" in refused.stderr
    assert call(*words, "--predictions", tmp_path / "p", "--force").exit_code == 0
    assert json.loads(scored.stdout.splitlines()[-1])["accuracy"] == result["accuracy"]
    assert (tmp_path / "p").read_text().count("\n") == 13
    other = ["--second-column", "more"] if not second else ["--second-column", ""]
    refused = call(*words, *other)
    way = "leave --second-column out" if not second else "pass its --second-column"
    assert refused.exit_code == 1 and refused.stderr.endswith(way + "\n")
    line = call(*words).stdout
    assert re.fullmatch(rf"csv: accuracy {result['accuracy']:.4f}, 12 examples, [\d.]+ s\n", line)


def test_divergence_is_exit_code_1_with_valid_json(reviews, pretrained, tmp_path):
    columns = ["--text-column", "review", "--label-column", "stars", "--device", "cpu"]
    words = ["finetune", "csv", reviews, tmp_path / "out", "--model", pretrained, *columns]
    told = call(*words, "--rate", 1e5, "--epochs", 20, "--json")
    assert told.exit_code == 1 and "diverged" in told.stderr
    assert "diverged" in json.loads(told.stdout)["error"]


def test_one_class_is_nothing_to_learn(reviews, tmp_path):
    words = ["--text-column", "review", "--label-column", "all"]
    (reviews / "train.csv").write_text("review,all\na,b\nc,b\n")
    told = call("finetune", "csv", reviews, tmp_path / "out", *words)
    assert told.exit_code == 1 and "'all' is always 'b'" in told.stderr


def test_the_command_line_has_all_tasks():
    assert {*get_args(AnyTask)} == {*PAPER_TASKS, "csv"}


@pytest.mark.parametrize("command", ["finetune", "evaluate"])
def test_help_tells_the_files_of_each_task(command):
    told = " ".join(call(command, "--help").stdout.split())
    for name in [*PAPER_TASKS, "csv"]:
        assert re.search(rf" {name} \S", told)
    for file in (
        "snli_1.0_train.jsonl",
        "dev_matched.tsv",
        "test/high/",
        "test.csv; or train.jsonl",
    ):
        assert file in told


@pytest.mark.parametrize(
    "words, said",
    [
        (["cola", "nowhere"], "no nowhere.*train.tsv"),
        (["csv", "nowhere"], "no nowhere.*train.csv"),
        (["rte", "x", "--second-column", "y"], "--second-column: only the task csv has columns"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(words, said, tmp_path):
    told = call("finetune", *words, tmp_path / "out")
    assert (
        told.exit_code == 1 + (len(words) > 2)
        and re.search(said, told.stderr)
        and told.stderr.count("\n") == 1
    )
    assert not (tmp_path / "out").exists()
