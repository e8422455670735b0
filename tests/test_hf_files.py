"""Finding, reading and saving the files of a checkpoint."""

import os
import re
import time

import pytest

from minigpt.hf.configuration import OpenAIGPTConfig
from minigpt.hf.files import find_file, naming, read_json, save_files
from tests.checkpoints import small_model


def text_writer(text: str):
    return lambda path: path.write_text(text)


def test_the_first_of_several_names_is_found(tmp_path):
    (tmp_path / "b").write_text("")
    assert find_file(tmp_path, "a", "b") == find_file(str(tmp_path), "b", "a") == tmp_path / "b"
    assert find_file("tiny", "config.json").is_file()
    with pytest.raises(
        FileNotFoundError, match=re.escape(str(tmp_path)) + " holds none of c, d; pass"
    ):
        find_file(tmp_path, "c", "d")


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"a": ' + "9" * 5000 + "}", "[" * 10**5])
def test_a_file_that_is_no_json_object_is_named(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="^" + re.escape(str(path))):
        read_json(path)


@pytest.mark.parametrize("kind", [KeyError, TypeError, OverflowError, ValueError, RuntimeError])
def test_wrong_contents_are_named_with_their_file(kind):
    with pytest.raises(ValueError, match="^file.json.*x"), naming("file.json"):
        raise kind("x")


def test_files_are_saved_together_and_stale_ones_removed(tmp_path):
    (tmp_path / "new" / ".saving-killed").mkdir(parents=True)
    (tmp_path / "new" / ".saving-at-work").mkdir()
    os.utime(tmp_path / "new" / ".saving-killed", (time.time() - 10**6,) * 2)
    assert save_files(tmp_path / "new", dict.fromkeys("ba", text_writer("1"))) == ["a", "b"]
    save_files(tmp_path / "new", {"a": text_writer("3")}, stale="b|c")
    assert sorted(os.listdir(tmp_path / "new")) == [".saving-at-work", "a"]


@pytest.mark.parametrize("theirs", ["other", None])
def test_a_save_that_another_process_interferes_with_is_repeated(tmp_path, monkeypatch, theirs):
    replace, others = os.replace, iter([True, False, False])

    def interfere(source, target):
        replace(source, target)
        if target.name == "a" and next(others):
            target.unlink()
            if theirs:
                target.write_text(theirs)

    monkeypatch.setattr(os, "replace", interfere)
    save_files(tmp_path, {"a": text_writer("mine"), "last": text_writer("mine")})
    assert {(tmp_path / name).read_text() for name in ("a", "last")} == {"mine"}


def test_places_where_nothing_can_be_saved_are_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    for place, error, message in (
        (tmp_path / "file", FileExistsError, "exists.*file"),
        (tmp_path / "file" / "x", NotADirectoryError, "file/x"),
        ("", ValueError, "'' is not a name to save under"),
        ("tiny", ValueError, "'tiny' is not a name to save under"),
        (None, TypeError, "NoneType"),
    ):
        with pytest.raises(error, match=message):
            save_files(place, {"a": text_writer("1")})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="no checkpoint ''.*check the spelling"):
        OpenAIGPTConfig.from_pretrained("")


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_new_files_have_the_permissions_that_the_user_wants(tmp_path, mask):
    before = os.umask(mask)
    try:
        small_model(tmp_path)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o666 & ~mask}
