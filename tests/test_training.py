"""Pre-training from folders of books: what is left on disk, and what is wrong with a folder."""

import json
import signal

import pytest

from minigpt import OpenAIGPTConfig
from minigpt.pretraining import Recipe
from minigpt.training.data import for_each_book, prepare
from minigpt.training.pretrain import pretrain

pytest.importorskip("spacy")  # an extra of the package

CONFIG = OpenAIGPTConfig(vocab_size=60, n_positions=16, n_embd=16, n_layer=1, n_head=2)
SETTINGS = {"measure_every": 3, "device": "cpu", "progress": False}


@pytest.fixture
def library(tmp_path):
    for name in ("books", "held_out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text("the fish sees the old miller . " * 60)
    return tmp_path


def run(library, books="books", steps=3, **recipe):
    recipe = Recipe(steps=steps, batch_size=4, **{"warmup": 3} | recipe)
    places = [library / name for name in (books, "held_out", "out")]
    return pretrain(*places, CONFIG, recipe, **SETTINGS)


def test_the_best_model_is_kept_and_not_the_last(library):
    """With an absurd learning rate the model only gets worse after the first measurement."""
    result = run(library, steps=15, warmup=6, peak=5.0)
    log = json.loads((library / "out" / "log.json").read_text())
    assert list(log["perplexity"]) == ["3", "6", "9", "12", "15"] and len(log["losses"]) == 15
    assert (log["steps"], log["batch_size"], log["peak"], log["warmup"]) == (15, 4, 5.0, 6)
    best = min(log["perplexity"].values())
    assert best < 0.9 * log["perplexity"]["15"]
    assert result == pytest.approx(best, rel=0.02)  # float16 on disk


def test_books_are_not_read_again(library):
    """The second run finds vocabulary and ids, so the books may be gone."""
    assert run(library) == run(library, books="gone")


def test_a_vocabulary_that_is_learned_anew_makes_the_ids_anew(library):
    places = [library / name for name in ("books", "held_out", "out")]
    (library / "books" / "a.txt").write_text("the fish sees the old miller . " * 600)
    before = prepare(*places, vocab_size=60)
    (library / "out" / "merges.txt").unlink()
    after = prepare(*places, vocab_size=30)
    assert len(after[1]) > len(before[1])  # fewer merges, more tokens
    with pytest.raises(ValueError, match=r"vocab_size=10, but \d+ letters need \d+ at least"):
        prepare(*places[:2], library / "new", vocab_size=10)


def test_what_is_no_folder_and_no_text_is_named(library):
    (library / "books" / "b.txt").write_bytes("the miller\nat the café".encode("latin-1"))
    with pytest.raises(ValueError, match="b.txt, line 2: the byte 0xe9 is not UTF-8"):
        run(library)
    (library / "file").write_text("something else")
    with pytest.raises(FileExistsError, match="file"):
        prepare(library, library, library / "file")


def reaction_to_ctrl_c(path):
    return signal.getsignal(signal.SIGINT)


def test_ctrl_c_is_left_to_the_process_that_started_the_readers(library):
    answers = for_each_book(reaction_to_ctrl_c, library, workers=2)
    assert list(answers) == [signal.SIG_IGN] * 2
