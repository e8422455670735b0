"""Pre-training from folders of books: what is left on disk."""

import json
import signal

import pytest

from minigpt import OpenAIGPTConfig
from minigpt.pretraining import for_each_book, pretrain

CONFIG = OpenAIGPTConfig(vocab_size=60, n_positions=16, n_embd=16, n_layer=1, n_head=2)
RECIPE = {"batch_size": 4, "warmup": 3, "measure_every": 3, "device": "cpu", "progress": False}


@pytest.fixture
def library(tmp_path):
    for name in ("books", "held_out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(
            "the fish sees the old miller . " * 60, encoding="utf-8"
        )
    return tmp_path


def test_the_best_model_is_kept_and_not_the_last(library):
    """With an absurd learning rate the model only gets worse after the first measurement."""
    out = library / "out"
    recipe = RECIPE | {"warmup": 6, "peak": 5.0}
    result = pretrain(library / "books", library / "held_out", out, CONFIG, steps=15, **recipe)
    log = json.loads((out / "log.json").read_text(encoding="utf-8"))
    assert list(log["perplexity"]) == ["3", "6", "9", "12", "15"] and len(log["losses"]) == 15
    best = min(log["perplexity"].values())
    assert best < 0.9 * log["perplexity"]["15"]
    assert result == pytest.approx(best, rel=0.02)  # float16 on disk


def test_books_are_not_read_again(library):
    """The second run finds vocabulary and ids, so the books may be gone."""
    out = library / "out"
    first = pretrain(library / "books", library / "held_out", out, CONFIG, steps=3, **RECIPE)
    second = pretrain(library / "gone", library / "gone", out, CONFIG, steps=3, **RECIPE)
    assert first == second


def test_a_file_in_place_of_the_folder_is_named(library):
    (library / "out").write_text("something else", encoding="utf-8")
    with pytest.raises(NotADirectoryError, match="out is a file; pass a folder"):
        pretrain(
            library / "books", library / "held_out", library / "out", CONFIG, steps=3, **RECIPE
        )


def test_a_book_in_another_encoding_is_named(library):
    (library / "books" / "b.txt").write_bytes("the miller\nat the café".encode("latin-1"))
    with pytest.raises(ValueError, match="b.txt, line 2: the byte 0xe9 is not UTF-8"):
        pretrain(library / "books", library / "held_out", library / "out", CONFIG, 3, **RECIPE)


def reaction_to_ctrl_c(path):
    return signal.getsignal(signal.SIGINT)


def test_ctrl_c_is_left_to_the_process_that_started_the_readers(library):
    answers = for_each_book(reaction_to_ctrl_c, library, workers=2)
    assert list(answers) == [signal.SIG_IGN] * 2
