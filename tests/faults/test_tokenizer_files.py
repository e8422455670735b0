"""Damaged files of a tokenizer: one error that names the file, the value and the way out."""

import json
import re

import pytest

from minigpt import OpenAIGPTTokenizer, OpenAIGPTTokenizerFast
from minigpt.hf import tokenizer_files
from minigpt.hf.tokenizer_files import read_checked_merges

BAD_MERGES = {
    "no version": (b"t h\na n\n", r", line 1: expected '#version: 0.2'.*, got 't h'"),
    "empty": (b"", r", line 1: expected .*, got ''"),
    "cut short": (b"#version: 0.2\nt h\na n", r", line 3: expected .*, got 'a n'; copy it again"),
    "one token": (b"#version: 0.2\nt h\nthe</w>\n", r", line 3: expected .*, got 'the</w>'"),
    "three tokens": (b"#version: 0.2\nt h\na b c\n", r", line 3: expected .*, got 'a b c'"),
    "an empty line": (b"#version: 0.2\nt h\n\na b\n", r", line 3: expected .*, got ''"),
    "two spaces": (b"#version: 0.2\nt h\na  b\n", r", line 3: expected .*, got 'a  b'"),
    "Latin-1": (b"#version: 0.2\nt h\ncaf \xe9\n", r": 'utf-8' codec can't decode byte 0xe9"),
}


@pytest.mark.parametrize("data, message", BAD_MERGES.values(), ids=BAD_MERGES)
def test_bad_merges_are_named(tmp_path, data, message):
    path = tmp_path / "merges.txt"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=re.escape(str(path)) + message):
        read_checked_merges(path)


def test_merges_of_windows_or_of_other_programs_are_read(tmp_path):
    path = tmp_path / "merges.txt"
    path.write_bytes("\ufeff#version: 0.2 - by x\r\nt h\r\n\u2028 \x85\r\n".encode())
    assert read_checked_merges(path) == [("t", "h"), ("\u2028", "\x85")]


def model(**values):
    return lambda page: page["model"].update(values)


CONFIG, WHOLE, FAR = "tokenizer_config.json", "tokenizer.json", {"9000": {"content": "<far>"}}
DAMAGE = [
    ("tokenizer_config.json", {"text_pipeline": -1}, "text_pipeline=-1; choose one"),
    *(("vocab.json", {"zzz": x}, "none has the id 8192") for x in (5, -1, "8192", 8193)),
    ("vocab.json", {"zzz": 8192.0}, "Vocab"),
    ("vocab.json", lambda page: page.pop("the</w>"), r"vocab\.json.*none has the id 194"),
    (CONFIG, {"added_tokens_decoder": FAR}, "<far>.* has the id 9000"),
    *((CONFIG, {"added_tokens_decoder": x}, "") for x in ([], None, {"x": {}}, {"9": "a"})),
    (CONFIG, {"added_tokens_decoder": {"8192": {"content": 5}}}, "'int' object"),
    (CONFIG, {"added_tokens_decoder": {"8192": {"content": "<x>", "lstrip": 3}}}, "'int' object"),
    (CONFIG, {"extra_special_tokens": {"content": 1}}, "int"),
    (CONFIG, {"pad_token": 5}, "5 is not a token"),
    (CONFIG, {"unk_token": "<u>"}, "the vocabulary lacks '<u>'"),
    (CONFIG, {"padding_side": 1}, "padding_side=1; choose one of right, left"),
    (CONFIG, {"model_max_length": 0}, "model_max_length=0; pass a whole number"),
    (WHOLE, lambda page: page["model"]["vocab"].pop("<unk>"), "lacks '<unk>'"),
    (WHOLE, model(end_of_word_suffix=None), "another kind of tokenizer"),
    (WHOLE, lambda page: page["model"]["merges"].__setitem__(0, ["<z>", "e</w>"]), "'?<z>"),
    *((WHOLE, model(**x), "") for x in ({"merges": None}, {"merges": [1]}, {"vocab": []})),
]


@pytest.mark.parametrize("kind", [OpenAIGPTTokenizer, OpenAIGPTTokenizerFast])
@pytest.mark.parametrize("name, change, message", DAMAGE)
def test_a_damaged_file_is_named(tmp_path, kind, name, change, message):
    OpenAIGPTTokenizer.from_pretrained("tiny", "basic").save_pretrained(tmp_path)
    page = json.loads((tmp_path / name).read_text(encoding="utf-8"))
    page.update(change) if isinstance(change, dict) else change(page)
    (tmp_path / name).write_text(json.dumps(page), encoding="utf-8")
    if name == WHOLE:
        (tmp_path / "vocab.json").unlink()
    with pytest.raises(ValueError, match=name) as caught:
        kind.from_pretrained(tmp_path)
    assert re.search(message, str(caught.value))


def test_a_merge_of_an_unknown_token_is_named(tmp_path):
    OpenAIGPTTokenizer.from_pretrained("tiny", "basic").save_pretrained(tmp_path)
    with (tmp_path / "merges.txt").open("a", encoding="utf-8") as file:
        file.write("zz qq</w>\n")
    with pytest.raises(ValueError, match=r"merges\.txt.*`qq</w>` out of vocabulary.*copy it again"):
        OpenAIGPTTokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["added_tokens", "special_tokens_map"])
@pytest.mark.parametrize("page", [[], {"<pad>": -1, "pad_token": 7}])
def test_a_bad_file_of_older_transformers_is_named(tmp_path, name, page):
    OpenAIGPTTokenizer.from_pretrained("tiny", "basic").save_vocabulary(tmp_path)
    (tmp_path / f"{name}.json").write_text(json.dumps(page))
    with pytest.raises(ValueError, match=f"{name}.json"):
        OpenAIGPTTokenizer.from_pretrained(tmp_path)


def test_a_byte_order_mark_does_no_harm(tmp_path):
    tokenizer = OpenAIGPTTokenizer.from_pretrained("tiny", "basic")
    tokenizer.save_pretrained(tmp_path)
    for path in tmp_path.iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    again = OpenAIGPTTokenizer.from_pretrained(tmp_path)
    assert again.describe() == tokenizer.describe() and again.merges == tokenizer.merges


def test_a_folder_that_is_saved_again_while_it_is_read_is_not_mixed(tmp_path, monkeypatch):
    tokenizer = OpenAIGPTTokenizer.from_pretrained("tiny", "basic")
    tokenizer.save_pretrained(tmp_path)

    def interfere(path):
        tokenizer.save_pretrained(tmp_path)
        return read_checked_merges(path)

    monkeypatch.setattr(tokenizer_files, "read_checked_merges", interfere)
    with pytest.raises(OSError, match=r"vocab\.json was saved again .*; load it again"):
        OpenAIGPTTokenizer.from_pretrained(tmp_path)
