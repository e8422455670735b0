"""Pre-training: exact resume, what is measured, kept and shown, and what is refused before it."""

import csv
import json
import math
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

import minigpt.training.pretrain  # noqa: F401
from minigpt import OpenAIGPTLMHeadModel, OpenAIGPTTokenizer
from minigpt.pretraining import perplexity
from minigpt.training import PretrainingRecipe, pretrain
from minigpt.training.corpus import learn_vocabulary
from minigpt.training.processes import Processes
from minigpt.training.shards import prepare_shards
from tests.test_cli import call

pytest.importorskip("spacy")  # an extra of the package

module = sys.modules["minigpt.training.pretrain"]  # that name of the package is the function
SIZES = {"vocab_size": 60, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2}
RECIPE = PretrainingRecipe(
    steps=9, batch_size=8, peak=1e-2, warmup=3, save_every=4, measure_every=3, **SIZES
)
QUIET = {"device": "cpu", "progress": False, "workers": 1}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("library")
    for name, text in (("books", "the fish sees the old miller . "), ("held_out", "a fish . ")):
        (folder / name).mkdir()
        (folder / name / "a.txt").write_text(text * 200)
    learn_vocabulary(folder / "books", 60).save_pretrained(folder / "tokenizer")
    return folder


def start(library, out, recipe=RECIPE, **options):
    shared = {"tokenizer": library / "tokenizer", "data": library / "data"}
    return pretrain(
        library / "books", library / "held_out", out, recipe, **QUIET | shared | options
    )


def column(out, name="loss", table="log.csv") -> list[str]:
    with (out / table).open() as file:
        return [row[name] for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def whole(library, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "out"
    return out, start(library, out)


# -- a run


def test_a_run_tells_what_it_did(whole, library):
    out, result = whole
    keys = "steps loss held_out_loss perplexity perplexity_per_word tokens_per_second checkpoint"
    assert (
        list(result) == keys.split() and result["steps"] == 9 and result["checkpoint"] == str(out)
    )
    header = (out / "log.csv").read_text().splitlines()[0]
    assert header == "step,loss,rate,grad_norm,tokens_per_second"
    assert column(out, "step") == [str(n) for n in range(1, 10)]
    assert column(out)[-1] == str(result["loss"]) and result["loss"] < float(column(out)[0])
    assert column(out, "rate")[2] == "0.01" and result["tokens_per_second"] > 0
    assert column(out, "step", "measured.csv") == ["0", "3", "6", "9"]
    samples = (out / "samples.txt").read_text().splitlines()
    assert [line.split(":")[0] for line in samples] == ["0", "3", "6", "9"]
    assert json.loads((out / "recipe.json").read_text()) == vars(RECIPE)
    assert (out / "curves.png").stat().st_size > 5000


def test_the_best_model_loads_and_has_the_perplexity_that_is_told(whole, library):
    out, result = whole
    model, tokenizer = (x.from_pretrained(out) for x in (OpenAIGPTLMHeadModel, OpenAIGPTTokenizer))
    assert model.dtype == torch.float32 and len(tokenizer) == model.config.vocab_size
    held_out = prepare_shards(library / "held_out", tokenizer, library / "data")
    ids = torch.from_numpy(held_out[:])
    found = perplexity(model, ids, lambda batch: model(batch, labels=batch).loss)
    assert result["perplexity"] == pytest.approx(found, rel=1e-5)
    per_word = math.log(found) * len(held_out) / held_out.words
    assert math.log(result["perplexity_per_word"]) == pytest.approx(per_word, rel=1e-5)


def test_transformers_loads_the_best_model(whole):
    transformers = pytest.importorskip("transformers")
    ours = OpenAIGPTLMHeadModel.from_pretrained(whole[0])
    theirs = transformers.AutoModelForCausalLM.from_pretrained(whole[0])
    ids = torch.arange(16)[None]
    assert (ours(ids).logits - theirs(ids).logits).abs().max() < 1e-5


def test_last_and_best_checkpoints_are_kept_and_out_has_the_best(library, tmp_path):
    """The longer it learns these books, the less it knows of the other text."""
    recipe = replace(RECIPE, steps=14, peak=0.1, warmup=10, keep=1, save_every=7, pdrop=0.0)
    result = start(library, tmp_path / "out", recipe)
    losses = [float(x) for x in column(tmp_path / "out", "held_out_loss", "measured.csv")]
    best = losses.index(min(losses))
    assert result["held_out_loss"] == min(losses) < losses[-1] and 0 < best < len(losses) - 1
    kept = sorted(path.name for path in (tmp_path / "out" / "checkpoints").iterdir())
    assert kept == [f"step-{3 * best:08}", "step-00000014"]


@pytest.mark.parametrize("change", [{"accumulate": 4}, {"dtype": "bfloat16"}])
def test_other_ways_to_compute_give_nearly_the_same(change, library, tmp_path):
    losses = []
    for name, recipe in (
        ("a", replace(RECIPE, pdrop=0.0)),
        ("b", replace(RECIPE, pdrop=0.0, **change)),
    ):
        start(library, tmp_path / name, recipe)
        losses.append([float(x) for x in column(tmp_path / name)])
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(
        losses[1], rel=0, abs=1e-5 if "accumulate" in change else 0.03
    )


def test_a_data_set_is_a_source_and_learns_its_vocabulary(tmp_path):
    rows = [{"text": "the fish sees the old miller ."}] * 40
    recipe = replace(RECIPE, steps=None, batch_size=50)
    result = pretrain(rows, rows, tmp_path / "out", recipe, **QUIET)
    assert result["steps"] == math.ceil(100 * 40 * 8 / (50 * 16))  # a line break behind each


def test_shards_of_another_machine_are_a_source(whole, library, tmp_path):
    tokenizer = OpenAIGPTTokenizer.from_pretrained(library / "tokenizer")
    names = ("books", "held_out")
    ready = [prepare_shards(library / x, tokenizer, library / "data").folder for x in names]
    options = {"tokenizer": library / "tokenizer", "data": tmp_path}
    result = pretrain(*ready, tmp_path / "out", RECIPE, **QUIET | options)
    assert result["loss"] == whole[1]["loss"] and not list(tmp_path.glob("*/shard*"))


# -- stopped and resumed: tests/faults/test_training.py does it to real processes


class Killed(BaseException):
    """As SIGKILL, nothing handles it."""


@pytest.mark.parametrize("step", [0, 2, 4, 5, 8])
def test_a_killed_run_goes_on_bit_for_bit(step, whole, library, tmp_path, monkeypatch):
    def dying(self, ids, n):
        if n == step:
            raise Killed
        return live(self, ids, n)

    live, out = module.Trainer.step, tmp_path / "out"
    monkeypatch.setattr(module.Trainer, "step", dying)
    with pytest.raises(Killed):
        start(library, out)
    (out / "log.csv").open("a").write(f"{step + 1},3.1")  # half a line
    monkeypatch.undo()
    result = start(library, out, resume=True)
    assert column(out) == column(whole[0]) and column(out, "step") == column(whole[0], "step")
    for name in ("measured.csv", "samples.txt", "model.safetensors"):
        assert (out / name).read_bytes() == (whole[0] / name).read_bytes()
    assert {**result, **whole[1]} | {"tokens_per_second": 0, "checkpoint": ""} == {
        **whole[1],
        **result,
    } | {"tokens_per_second": 0, "checkpoint": ""}


def test_a_run_killed_before_its_first_checkpoint_has_no_row_twice(
    whole, library, tmp_path, monkeypatch
):
    def dying(*_):
        raise Killed

    out = tmp_path / "out"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(module.Checkpoints, "save", dying)
        start(library, out)
    start(library, out, resume=True)
    for name in ("measured.csv", "samples.txt"):
        assert (out / name).read_bytes() == (whole[0] / name).read_bytes()


def test_a_finished_run_that_is_resumed_says_the_same(whole, library):
    again = start(library, whole[0], resume=True)
    assert again == whole[1] | {"tokens_per_second": None}


def test_what_changes_no_result_may_change_on_resume(whole, library, tmp_path):
    out = shutil.copytree(whole[0], tmp_path / "out")
    recipe = replace(RECIPE, keep=1, save_every=2, measure_every=9, accumulate=2)
    assert start(library, out, recipe, resume=True)["loss"] == whole[1]["loss"]


def job(number: int, attempt: int) -> str:
    return f"/tmp/torchelastic_x/none_{number}/attempt_{attempt}/0/error.json"


def test_torchrun_goes_on_with_the_run_that_it_began(whole, library, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", job(1, 0))
    first = start(library, tmp_path / "out")
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", job(1, 1))
    assert start(library, tmp_path / "out") == first | {"tokens_per_second": None}
    for attempt in (0, 1):  # refused, and still refused when torchrun starts it again
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", job(2, attempt))
        for out in (whole[0], tmp_path / "out"):
            with pytest.raises(FileExistsError, match="holds a run; go on with --resume"):
                start(library, out)


# -- gradients of several processes


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("always", [False, True])
def test_gradients_are_synchronised_once_a_step(parts, always, tmp_path, monkeypatch):
    """PyTorch calls a hook wherever it would average gradients over the processes."""
    calls, trainer_module = [], sys.modules["minigpt.training.trainer"]
    dist = torch.distributed
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        processes = Processes("cpu")
        monkeypatch.setattr(processes, "wrap", lambda model, _: DistributedDataParallel(model))
        if always:
            monkeypatch.setattr(trainer_module, "synchronise_gradients", lambda *_: None)
        recipe = replace(RECIPE, accumulate=parts)
        trainer = trainer_module.Trainer(recipe.config(60), recipe, processes, False)

        def hook(_, bucket):
            calls.append(bucket.index())
            done = torch.futures.Future()
            done.set_result(bucket.buffer())
            return done

        trainer.model.register_comm_hook(None, hook)
        trainer.step(np.arange(100) % 60, 0)
    finally:
        dist.destroy_process_group()
    assert calls.count(0) == (parts if always else 1)


# -- refused before the first step, and before OUT is made

REFUSED = [  # changes of the recipe, of the options, and what is said
    ({"batch_size": 10, "accumulate": 4}, {}, "batch_size=10 cannot be cut into 4 equal parts"),
    ({"dtype": "float16"}, {}, "dtype='float16' needs a GPU"),
    ({"n_head": 3}, {}, "n_head=3"),
    ({"vocab_size": 5}, {"tokenizer": None, "installed": ("ftfy", "spacy")}, "vocab_size=5"),
    ({}, {"tokenizer": None}, r"learning a vocabulary needs ftfy: .*notebooks\[original\]"),
    ({"n_positions": 9000}, {}, r"books: the text has \d+ tokens, a window 9000"),
    ({}, {"held_out": "short"}, r"short: the text has \d tokens, a window 16"),
    ({}, {"books": "short"}, r"short: the text has \d tokens, a window 16"),
    ({}, {"books": "gone"}, "gone"),
    ({}, {"books": "foreign", "held_out": "alien"}, "100% .*foreign would be <unk>"),
    ({}, {"held_out": "gone"}, "gone"),
    ({}, {"held_out": "foreign"}, "100% of the tokens of .*foreign would be <unk>"),
    ({}, {"tensorboard": True}, r"--tensorboard needs tensorboard: pip install"),
    ({}, {"device": "xla"}, "device='xla'"),
]


@pytest.mark.parametrize("changes, options, words", REFUSED)
def test_what_cannot_be_trained_is_refused(changes, options, words, library, tmp_path, monkeypatch):
    for name, text in (("short", "the fish"), *((x, "море " * 99) for x in ("foreign", "alien"))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(text, encoding="utf-8")
    names = ("books", "held_out")
    installed = options.pop("installed", ())
    monkeypatch.setattr("minigpt.training.logs.find_spec", installed.__contains__)
    places = {x: tmp_path / options.pop(x) if x in options else library / x for x in names}
    options = {"tokenizer": library / "tokenizer"} | options
    with pytest.raises((ValueError, OSError, ImportError), match=words):
        pretrain(*places.values(), tmp_path / "out", replace(RECIPE, **changes), **QUIET | options)
    assert not (tmp_path / "out").exists()


WRONG = [
    ({"steps": 0}, r"steps=0; pass 1 to 2\*\*63"),
    ({"peak": float("nan")}, "peak=nan; pass 0 to"),
    ({"seed": 2**63}, "seed=9223372036854775808; pass 0 to"),
    ({"dtype": "half"}, "dtype='half'; choose from float32, bfloat16, float16"),
    ({"warmup": "3"}, "warmup='3'; pass int"),
]


@pytest.mark.parametrize("changes, words", WRONG)
def test_a_recipe_names_the_field_that_is_wrong(changes, words):
    with pytest.raises(ValueError, match=words):
        replace(RECIPE, **changes)


def test_an_out_of_another_run_is_refused(whole, library, tmp_path):
    before = (whole[0] / "log.csv").read_bytes()
    with pytest.raises(FileExistsError, match="holds a run; go on with --resume, or pass another"):
        start(library, whole[0])
    with pytest.raises(ValueError, match="peak=0.1, but .*out began with 0.01; pass that"):
        start(library, whole[0], replace(RECIPE, peak=0.1), resume=True)
    for texts in (["books", "books"], ["held_out", "held_out"]):
        with pytest.raises(ValueError, match="began with other data, .* pass the same texts"):
            pretrain(*[library / x for x in texts], whole[0], RECIPE, resume=True, **QUIET)
    with pytest.raises(ValueError, match="began with other data, .* pass the same texts"):
        start(library, whole[0], resume=True, tokenizer="tiny")
    assert (whole[0] / "log.csv").read_bytes() == before
    with pytest.raises(ValueError, match="out is in .*books and would be read; pass another"):
        start(library, library / "books" / "out")
    OpenAIGPTLMHeadModel.from_pretrained("tiny").save_pretrained(tmp_path / "model")
    with pytest.raises(FileExistsError, match="model is not empty; pass a new folder"):
        start(library, tmp_path / "model", resume=True)


# -- the command


def words(library, out, *more) -> list[str]:
    sizes = [f"--{name.replace('_', '-')}={value}" for name, value in SIZES.items()]
    steps = "--steps 4 --batch-size 4 --warmup 1 --peak 0.01 --workers 1 --device cpu".split()
    shared = ["--tokenizer", str(library / "tokenizer"), "--data", str(library / "data")]
    places = [str(library / "books"), str(library / "held_out"), str(out)]
    return ["pretrain", *places, *sizes, *steps, *shared, *more]


def test_options_go_over_the_file_and_the_file_over_the_usual(library, tmp_path):
    (tmp_path / "recipe.toml").write_text("seed = 7\nkeep = 2\nmax_norm = 0.5\n")
    config = ["--config", str(tmp_path / "recipe.toml"), "--keep", "1"]
    done = call(*words(library, tmp_path / "out", "--json", *config))
    assert done.exit_code == 0 and json.loads(done.stdout.splitlines()[-1])["steps"] == 4
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())
    found = [recipe[name] for name in ("seed", "keep", "max_norm", "pdrop", "steps")]
    assert found == [7, 1, 0.5, 0.1, 4]
    places = words(library, tmp_path / "out")[:4]
    resumed = call(*places, "--resume", "--device", "cpu")  # the recipe is that of the run
    assert resumed.exit_code == 0 and "perplexity" in resumed.stdout
    plotted = call("plot", str(tmp_path / "out"))
    assert plotted.stdout == f"{tmp_path / 'out' / 'curves.png'}\n"


TOML = [
    ("peek = 1", "recipe.toml: no recipe has 'peek'; choose from 'steps', 'batch_size'"),
    ("a b", ""),
    ("steps = 0", "recipe.toml: steps=0; pass 1"),
    ("seed = 99999999999999999999", "recipe.toml: seed=99999999999999999999; pass 0"),
]


@pytest.mark.parametrize("text, said", TOML)
def test_a_wrong_file_is_named(text, said, library, tmp_path):
    (tmp_path / "recipe.toml").write_text(text)
    done = call(*words(library, tmp_path / "out", "--config", str(tmp_path / "recipe.toml")))
    assert done.exit_code == 1 and "recipe.toml: " in done.stderr and said in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_run_that_diverges_fails_and_keeps_the_last_good_checkpoint(library, tmp_path):
    done = call(*words(library, tmp_path / "out", "--json", "--peak", "1e9", "--save-every", "1"))
    assert done.exit_code == 1 and "diverged: loss " in done.stderr and "--peak" in done.stderr
    result = json.loads(done.stdout, parse_constant=pytest.fail)
    assert done.stderr.endswith(f"minigpt: {result['error']}\n")
    assert result["steps"] == 1 and result["perplexity"] < 60
    assert [path.name for path in (tmp_path / "out" / "checkpoints").iterdir()] == ["step-00000000"]


def test_plot_names_a_folder_without_a_run(tmp_path):
    done = call("plot", str(tmp_path))
    assert (done.exit_code, done.stdout) == (1, "") and "holds no log.csv" in done.stderr
