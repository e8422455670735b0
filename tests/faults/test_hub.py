"""The hub, end to end, against a small server on this machine that speaks its protocol."""

import re
import time

import pytest

import minigpt
from minigpt import AutoConfig, OpenAIGPTLMHeadModel
from minigpt.hf.files import HUB_OPTIONS, find_file
from minigpt.hf.formats import open_weights
from minigpt.hf.hub import OFFICIAL_NAME
from minigpt.hf.loading import convert
from tests.checkpoints import RELEASE, read, same
from tests.hub import COMMIT, FILES, LARGE, point_at, running_hub


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with running_hub() as server:
        point_at(server.url, monkeypatch, tmp_path)
        yield server


def test_a_second_load_asks_nothing(hub):
    for count in (1, 0):
        minigpt.AutoTokenizer.from_pretrained("me/tiny", text_pipeline="basic")
        OpenAIGPTLMHeadModel.from_pretrained("me/tiny")
        for name in ("vocab.json", "merges.txt", "config.json", LARGE):
            assert hub.asked("GET").count(name) == count
        assert bool(hub.requests) == bool(count)
        hub.requests.clear()


@pytest.mark.parametrize("name", ["openai-gpt", "openai-community/gpt", OFFICIAL_NAME])
def test_old_names_lead_to_the_official_repository(hub, name):
    assert find_file(name, "config.json").read_bytes() == FILES["config.json"]
    assert f"/{OFFICIAL_NAME}/resolve/main/config.json" in [path for _, path, _ in hub.requests]


def test_the_second_set_of_names_is_tried_and_the_lack_remembered(hub):
    assert find_file("me/tiny", "encoder_bpe_40000.json", "vocab.json").name == "vocab.json"
    assert hub.asked("HEAD")[0] == "encoder_bpe_40000.json"
    hub.requests.clear()
    find_file("me/tiny", "encoder_bpe_40000.json", "vocab.json")
    assert hub.requests == []


def test_a_newer_main_is_loaded_on_request_only(hub):
    AutoConfig.from_pretrained("me/tiny")
    old = FILES["config.json"]
    hub.push("me/tiny", config_json=b"new", model_safetensors=b"of another model")
    model = OpenAIGPTLMHeadModel.from_pretrained("me/tiny")  # all files come from one commit
    assert model.config.n_layer == 8 and hub.asked("GET").count(LARGE) == 1
    newer = find_file("me/tiny", "config.json", revision=hub.main)
    assert newer.read_bytes() == b"new"
    assert find_file("me/tiny", "config.json").read_bytes() == old
    find_file("me/tiny", "config.json", force_download=True)
    assert find_file("me/tiny", "config.json").read_bytes() == b"new"


def test_shards_come_from_the_hub_too(hub, tmp_path):
    convert("tiny", tmp_path / "shards", "bin", max_shard_size="6MB")
    files = {path.name: path.read_bytes() for path in (tmp_path / "shards").iterdir()}
    assert sum("-of-" in name for name in files) > 2
    hub.repositories["me/shards"] = files
    assert same(read("me/shards"), read(tmp_path / "shards"))


def test_a_release_comes_from_the_hub_too(hub):
    files = {path.name: path.read_bytes() for path in RELEASE.iterdir()}
    hub.repositories["me/2018"] = files
    assert same(read("me/2018"), read(RELEASE))
    assert not any("params_10" in path for path in hub.asked("GET") + hub.asked("HEAD"))
    model = OpenAIGPTLMHeadModel.from_pretrained("me/2018", n_head=4, local_files_only=True)
    assert model.config.n_layer == 3
    hub.repositories["me/part"] = {name: x for name, x in files.items() if name != "params_4.npy"}
    with pytest.raises(FileNotFoundError, match="params_4.npy"):
        open_weights("me/part")


def test_an_interrupted_download_goes_on_where_it_stopped(hub):
    hub.cut = 12_000_000  # the library keeps what it has of whole chunks, of 10 MiB each
    assert find_file("me/tiny", LARGE).read_bytes() == FILES[LARGE]
    ranges = [place for kind, path, place in hub.requests if kind == "GET" and LARGE in path]
    assert ranges == [None, f"bytes={10 * 2**20}-"]


def error_of(kind: type, *arguments, **options) -> str:
    """Return the message of the error: one paragraph."""
    with pytest.raises(kind) as caught:
        find_file(*arguments, **options)
    assert type(caught.value) is kind and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "kind, name, revision, message",
    [
        (FileNotFoundError, "me/typo", None, "not a folder.*check the spelling.*token="),
        (FileNotFoundError, "me/mirror", None, "404.*check the spelling"),
        (FileNotFoundError, "me/tiny", "v9", "revision v9, .*RevisionNotFound.*pass a branch"),
        (PermissionError, "me/gated", None, "accept the terms.*token="),
        (PermissionError, "me/private", None, "401.*pass a token="),
        (ConnectionError, "me/busy", None, "503.*try again later"),
        (FileNotFoundError, "a/b/c", None, "check the spelling"),
    ],
)
def test_what_the_hub_refuses_is_said_in_one_paragraph(hub, kind, name, revision, message):
    said = error_of(kind, name, "config.json", revision=revision)
    assert re.search(f"'{name}'.*{message}", said)


@pytest.mark.parametrize("name", ["me/gated", "me/private"])
def test_a_token_opens_what_is_closed(hub, name):
    error_of(PermissionError, name, "config.json", token="wrong")
    assert find_file(name, "config.json", token="good").is_file()


def test_a_file_that_a_repository_or_the_cache_lacks(hub, tmp_path):
    names = "config.json", "params_shapes.json"
    message = error_of(FileNotFoundError, "me/bare", *names)
    assert re.search("'me/bare'.*holds none of config.json, params_shapes.json; pass", message)
    hub.requests.clear()
    message = error_of(FileNotFoundError, "me/tiny", "config.json", local_files_only=True)
    assert re.search("'me/tiny'.*the cache lacks config.json", message)
    assert hub.requests == []
    find_file("me/tiny", "config.json", cache_dir=tmp_path / "other")
    hub.requests.clear()
    place = {"cache_dir": tmp_path / "other", "local_files_only": True}
    path = find_file("me/tiny", *names[::-1], **place)
    assert path.is_relative_to(tmp_path / "other") and hub.requests == []


def load_pipeline(name, **hub):
    return minigpt.pipeline("text-generation", model=name, device="cpu", model_kwargs=hub)


LOADERS = [minigpt.AutoConfig, minigpt.AutoModelForCausalLM, minigpt.AutoTokenizer]
LOADERS = [kind.from_pretrained for kind in LOADERS] + [load_pipeline]


@pytest.mark.parametrize("load", LOADERS)
def test_whatever_loads_takes_all_options(hub, tmp_path, load):
    options = {"revision": COMMIT, "cache_dir": tmp_path / "other", "token": "good"}
    load("me/private", **options)
    hub.requests.clear()
    load("me/private", **options, local_files_only=True)
    assert {*options, "local_files_only", "force_download", "subfolder"} == set(HUB_OPTIONS)
    assert hub.requests == [] and not list(tmp_path.glob("models--*"))
    with pytest.raises(FileNotFoundError, match="RevisionNotFound"):
        load("me/private", **options | {"revision": "v9"})


def test_without_a_network_a_typing_error_is_said_at_once(monkeypatch, tmp_path):
    point_at("http://127.0.0.1:9", monkeypatch, tmp_path)  # nobody listens there
    begin = time.perf_counter()
    message = error_of(ConnectionError, "me/typo", "config.json")
    assert time.perf_counter() - begin < 5  # huggingface_hub by itself tries for 23 s
    assert re.search("'me/typo'.*ConnectError.*check the spelling and the network", message)


def test_offline_mode_takes_the_cache_and_says_what_it_lacks(hub, monkeypatch):
    find_file("me/tiny", "config.json")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert find_file("me/tiny", "config.json").is_file()
    assert "HF_HUB_OFFLINE" in error_of(FileNotFoundError, "me/tiny", "vocab.json")
