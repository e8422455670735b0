"""Reading and writing checkpoints, and the errors: each names the thing and the way out."""

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from minigpt import OpenAIGPTConfig, OpenAIGPTLMHeadModel, OpenAIGPTModel, OpenAIGPTTokenizer
from minigpt.attention import ATTENTION
from minigpt.block import ACTIVATIONS
from minigpt.checkpoint import (
    CHOICES,
    is_aligned,
    load_pickle,
    map_old_pickle,
    open_pickle,
    parameter_names,
    read_release,
    read_weights,
)
from tests import parity

SMALL = {"vocab_size": 11, "n_positions": 8, "n_embd": 8, "n_layer": 2, "n_head": 2}


def test_a_saved_model_comes_back_exactly(tmp_path):
    model = OpenAIGPTLMHeadModel(OpenAIGPTConfig(**SMALL))
    model.save_pretrained(tmp_path)
    again = OpenAIGPTLMHeadModel.from_pretrained(tmp_path)
    assert again.config == model.config
    assert all(
        torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True)
    )
    assert again.lm_head.weight is again.transformer.tokens_embed.weight


def test_the_base_model_reads_what_the_head_wrote(tmp_path):
    model = OpenAIGPTLMHeadModel(OpenAIGPTConfig(**SMALL)).eval()
    model.save_pretrained(tmp_path)
    base = OpenAIGPTModel.from_pretrained(tmp_path)
    ids = torch.arange(5)[None]
    assert torch.equal(base(ids).last_hidden_state, model.transformer(ids).last_hidden_state)


def test_openais_release_is_read_with_a_table_of_names():
    weights = read_release(parity.GOLDEN / "model")
    assert list(weights) == parameter_names(3)
    assert weights["tokens_embed.weight"].shape == (97, 32)
    assert weights["h.2.mlp.c_proj.weight"].shape == (128, 32)


def test_the_official_size():
    with torch.device("meta"):
        assert OpenAIGPTLMHeadModel(OpenAIGPTConfig()).num_parameters() == 116_534_784


def test_tiny_is_small_and_complete():
    model = OpenAIGPTLMHeadModel.from_pretrained("tiny")
    assert len(OpenAIGPTTokenizer.from_pretrained("tiny")) == model.config.vocab_size
    assert not any(parameter.isnan().any() for parameter in model.parameters())
    assert all(weight.dtype == torch.float16 for weight in read_weights("tiny").values())


def test_an_unknown_name_is_one_clear_error(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        FileNotFoundError, match="no checkpoint 'no-such-model'.*check the spelling"
    ):
        OpenAIGPTLMHeadModel.from_pretrained("no-such-model")
    with pytest.raises(FileNotFoundError, match="no checkpoint 'a/b/c'"):
        OpenAIGPTTokenizer.from_pretrained("a/b/c")


def test_a_folder_without_weights_is_named(tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "openai-gpt", **SMALL}), encoding="utf-8"
    )
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path)) + ".*model.safetensors"):
        OpenAIGPTLMHeadModel.from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="vocab.json"):
        OpenAIGPTTokenizer.from_pretrained(tmp_path)


def test_another_model_type_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}), encoding="utf-8")
    with pytest.raises(ValueError, match="gpt2.*openai-gpt"):
        OpenAIGPTConfig.from_pretrained(tmp_path)


def test_a_release_with_a_part_misnumbered_is_refused(tmp_path):
    shutil.copytree(parity.GOLDEN / "model", tmp_path / "model")
    (tmp_path / "model" / "params_4.npy").rename(tmp_path / "model" / "params_44.npy")
    with pytest.raises(ValueError, match="without a gap"):
        OpenAIGPTModel.from_pretrained(tmp_path / "model", n_head=4)


def test_a_head_of_its_own_is_refused_and_a_tied_one_is_the_table(tmp_path):
    model = OpenAIGPTLMHeadModel(OpenAIGPTConfig(**SMALL))
    model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    table = weights.pop("transformer.tokens_embed.weight")
    save_file(weights | {"lm_head.weight": table}, path)  # how transformers' double heads are saved
    again = OpenAIGPTLMHeadModel.from_pretrained(tmp_path)
    assert torch.equal(again.transformer.tokens_embed.weight, table)
    both = {"transformer.tokens_embed.weight": table, "lm_head.weight": table + 1}
    save_file(weights | both, path)
    with pytest.raises(ValueError, match="lm_head.weight differs"):
        OpenAIGPTLMHeadModel.from_pretrained(tmp_path)


def test_a_parameter_of_another_shape_is_named(tmp_path):
    OpenAIGPTLMHeadModel(OpenAIGPTConfig(**SMALL)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"tokens_embed\.weight.*\(11, 8\).*\(12, 8\)"):
        OpenAIGPTLMHeadModel.from_pretrained(tmp_path, vocab_size=12)
    with pytest.raises(ValueError, match="lacks 12 of 38 parameters"):
        OpenAIGPTLMHeadModel.from_pretrained(tmp_path, n_layer=3)


def test_a_release_with_a_part_missing_is_refused(tmp_path):
    shutil.copytree(parity.GOLDEN / "model", tmp_path / "model")
    (tmp_path / "model" / "params_4.npy").unlink()
    with pytest.raises(ValueError, match="params_"):
        OpenAIGPTModel.from_pretrained(tmp_path / "model", n_head=4)


def test_the_choices_are_those_that_are_built():
    assert set(CHOICES["afn"]) == set(ACTIVATIONS)
    assert set(CHOICES["attn_implementation"]) == set(ATTENTION)


@pytest.mark.parametrize(
    "field, value",
    [
        ("n_embd", 10),
        ("n_layer", 0),
        ("vocab_size", -1),
        ("resid_pdrop", 1.5),
        ("embd_pdrop", "0.1"),
        ("layer_norm_epsilon", -1),
        ("initializer_range", None),
        ("attn_pdrop", -0.1),
        ("afn", "gelo"),
        ("attn_implementation", "magic"),
    ],
)
def test_an_impossible_config_names_field_and_value(field, value):
    with pytest.raises(ValueError, match=f"{field}='?{value}"):
        OpenAIGPTConfig(**{field: value})


# -- the formats of others


def theirs_in(folder, **options):
    theirs, ours = parity.random_pair()
    theirs.save_pretrained(folder, **options)
    return dict(ours.named_parameters())


def same_weights(model, expected) -> bool:
    return all(torch.equal(x, expected[name]) for name, x in model.named_parameters())


def test_shards_written_by_transformers_are_read(tmp_path):
    expected = theirs_in(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert not (tmp_path / "model.safetensors").exists()
    assert same_weights(OpenAIGPTLMHeadModel.from_pretrained(tmp_path), expected)


def make_old(folder, weights, zipped: bool = True) -> None:
    """A folder as it was before safetensors: a pickle, with masks among the weights.

    `zipped`: in a zip file, as PyTorch writes it since 2020.
    """
    masks = {f"transformer.h.{n}.attn.bias": torch.ones(1, 1, 48, 48) for n in range(3)}
    (folder / "model.safetensors").unlink()
    path = folder / "pytorch_model.bin"
    torch.save(weights | masks, path, _use_new_zipfile_serialization=zipped)


@pytest.mark.parametrize("prefix", ["transformer.", ""])
@pytest.mark.parametrize("with_head", [True, False])
@pytest.mark.parametrize("zipped", [True, False])
def test_pytorch_model_bin_is_read(tmp_path, prefix, with_head, zipped):
    expected = theirs_in(tmp_path)
    weights = {n.replace("transformer.", prefix): x.data for n, x in expected.items()}
    if with_head:
        weights["lm_head.weight"] = weights[f"{prefix}tokens_embed.weight"]
    make_old(tmp_path, weights, zipped)
    assert same_weights(OpenAIGPTLMHeadModel.from_pretrained(tmp_path), expected)
    half = {name: x.half() for name, x in expected.items()}
    assert same_weights(OpenAIGPTLMHeadModel.from_pretrained(tmp_path, dtype="float16"), half)


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_wants_to_run_does_not(tmp_path, zipped):
    theirs_in(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    trap, path = Trap(str(tmp_path / "sprung")), tmp_path / "pytorch_model.bin"
    torch.save({"h.0.ln_1.bias": trap}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match="pytorch_model.bin is damaged, or .* never loaded"):
        OpenAIGPTModel.from_pretrained(tmp_path)
    assert not (tmp_path / "sprung").exists()
    torch.load(path, weights_only=False)  # it is a trap: whoever trusts it springs it
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize("size", [0, 10, 5000])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_cut_short_is_named(tmp_path, size, zipped):
    make_old(tmp_path, theirs_in(tmp_path), zipped)
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match="pytorch_model.bin is damaged"):
        OpenAIGPTModel.from_pretrained(tmp_path)


def test_a_pickle_cut_short_anywhere_is_named(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    weights = {f"h.{n}.ln_1.bias": torch.ones(3) for n in range(9)}
    torch.save(weights, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="pytorch_model.bin is damaged"):
            load_pickle(path)


def arrays_of_all_kinds() -> dict[str, torch.Tensor]:
    """Of several widths, empty, cut out of another one, the same twice, a parameter."""
    table = torch.randn(40, 8)
    plain = {"h.0": torch.arange(5.0), "h.1": torch.ones(3).half(), "h.2": torch.empty(0)}
    views = {"h.3": table, "h.4": table, "h.5": table[3:7].T}
    mask = torch.ones(3, 3, dtype=torch.uint8).tril()
    many = {f"n.{n}": torch.full((n + 1,), n / 8, dtype=torch.bfloat16) for n in range(30)}
    return plain | views | {"h.6": mask, "h.7": torch.nn.Parameter(torch.ones(2))} | many


def test_a_pickle_of_before_2020_is_mapped_and_equals_what_pytorch_reads(tmp_path):
    path, arrays = tmp_path / "pytorch_model.bin", arrays_of_all_kinds()
    torch.save(arrays, path, _use_new_zipfile_serialization=False)
    mapped, read = map_old_pickle(path), torch.load(path, weights_only=True)
    assert list(mapped) == list(read) == list(arrays)
    for name, array in read.items():
        assert mapped[name].dtype == array.dtype and mapped[name].stride() == array.stride()
        assert torch.equal(mapped[name], array)
    raw, first = path.read_bytes(), mapped["h.0"]
    for array in (mapped["h.3"], mapped["h.6"], mapped["n.29"]):  # as far apart as in the file
        inside = raw.index(bytes(array.untyped_storage())) - raw.index(
            bytes(first.untyped_storage())
        )
        assert array.data_ptr() - first.data_ptr() == inside


def test_a_pickle_of_before_2020_from_a_gpu_is_loaded(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    torch.save({"h.0": torch.arange(5.0)}, path, _use_new_zipfile_serialization=False)
    place, gpu = b"X\x03\0\0\0cpu", b"X\x06\0\0\0cuda:0"
    assert path.read_bytes().count(place) == 1
    path.write_bytes(path.read_bytes().replace(place, gpu))
    assert load_pickle(path)["h.0"].tolist() == [0, 1, 2, 3, 4]


def test_arrays_that_are_not_aligned_are_copied(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    for name in ("h.0", "h.00", "h.000", "h.0000"):  # one of these begins at a multiple of 4
        torch.save({name: torch.ones(9)}, path, _use_new_zipfile_serialization=False)
        stored = open_pickle(path)[name]
        in_place = stored.mapped is not None
        assert in_place == is_aligned(map_old_pickle(path)[name])
        assert is_aligned(stored.to()) and torch.equal(stored.to(), torch.ones(9))
        assert stored.to(dtype=torch.float16).tolist() == [1.0] * 9


def test_an_array_larger_than_its_storage_is_refused(tmp_path):
    path, size = tmp_path / "pytorch_model.bin", b"K\x03\x85"  # the shape (3,) in a pickle
    for array in (torch.ones(3), torch.empty(0)[None, :0].expand(3, 0)):
        torch.save({"h.0": array}, path, _use_new_zipfile_serialization=False)
        raw = path.read_bytes().replace(b"K\x03K\x00\x86", b"K\x03K\x07\x86")
        raw = raw.replace(size, b"K\x07\x85", 1)
        assert raw != path.read_bytes()
        path.write_bytes(raw)
        with pytest.raises(ValueError, match="pytorch_model.bin is damaged"):
            load_pickle(path)


def test_an_array_called_like_a_storage_gets_its_own_numbers(tmp_path):
    path, first, second = tmp_path / "pytorch_model.bin", torch.zeros(4), torch.ones(4)
    for other in (first, second):
        named = {str(other.untyped_storage()._cdata): first, "x": second}
        torch.save(named, path, _use_new_zipfile_serialization=False)
        found, expected = load_pickle(path), torch.load(path, weights_only=True)
        assert all(torch.equal(found[name], x) for name, x in expected.items())


@pytest.mark.parametrize("zipped", [True, False])
def test_parameters_in_a_pickle_are_plain_arrays(tmp_path, zipped):
    path = tmp_path / "pytorch_model.bin"
    for name in ("h.0", "h.00", "h.000", "h.0000"):
        weights = {name: torch.nn.Parameter(torch.ones(3))}
        torch.save(weights, path, _use_new_zipfile_serialization=zipped)
        stored = open_pickle(path)[name]
        assert not any(stored.to(dtype=x).requires_grad for x in (None, torch.float16))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("array", [torch.eye(3).to_sparse(), torch.ones(3, device="meta")])
def test_arrays_without_all_their_numbers_are_refused(tmp_path, array, zipped):
    path = tmp_path / "pytorch_model.bin"
    torch.save({"h.0": array}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match="pytorch_model.bin holds no named arrays"):
        load_pickle(path)


def test_numbers_that_look_like_the_end_of_a_zip_archive_are_numbers(tmp_path):
    path, raw = tmp_path / "pytorch_model.bin", b"PK\5\6" + bytes(50)
    array = torch.frombuffer(bytearray(raw), dtype=torch.float16).clone()
    torch.save({"h.0": array}, path, _use_new_zipfile_serialization=False)
    assert torch.equal(load_pickle(path)["h.0"], array)


def test_a_pickle_that_is_gone_is_named(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    with pytest.raises(FileNotFoundError, match="pytorch_model.bin"):
        load_pickle(path)


def test_a_wrong_length_in_a_pickle_of_before_2020_is_named(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    torch.save({"h.0": torch.arange(5.0)}, path, _use_new_zipfile_serialization=False)
    raw = path.read_bytes()
    place = raw.index(torch.arange(5.0).numpy().tobytes()) - 8
    assert raw[place : place + 8] == (5).to_bytes(8, "little")
    path.write_bytes(raw[:place] + (7).to_bytes(8, "little") + raw[place + 8 :])
    with pytest.raises(ValueError, match="pytorch_model.bin is damaged"):
        load_pickle(path)


def test_a_pickle_of_something_else_is_named(tmp_path):
    theirs_in(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    for weights in ([torch.ones(2)], {0: torch.ones(2)}, {"x": {"y": torch.ones(2)}}):
        torch.save(weights, tmp_path / "pytorch_model.bin")
        with pytest.raises(ValueError, match="pytorch_model.bin holds no named arrays"):
            OpenAIGPTModel.from_pretrained(tmp_path)


def test_a_file_without_weights_is_named(tmp_path):
    theirs_in(tmp_path)
    page = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(page | {"dtype": None}), encoding="utf-8")
    save_file({}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="model.safetensors holds no weights"):
        OpenAIGPTModel.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "index, wrong",
    [
        ("[]", "has no weight_map"),
        ('{"weight_map": {"h.0.ln_1.bias": 7}}', "has no weight_map"),
        ('{"weight_map": {"h.0.ln_1.bias": "../model.safetensors"}}', "not in its own folder"),
        ('{"weight_map": {"h.0.ln_1.bias": "/etc/passwd"}}', "not in its own folder"),
        ('{"weight_map": {"h.0.ln_1.bias": ".."}}', "not in its own folder"),
        ('{"weight_map": {"h.0.ln_9.bias": "one.safetensors"}}', "promises h.0.ln_9.bias"),
        ('{"weight_map": {"h.0.ln_1.bias": "two.safetensors"}}', "holds none of two.safetensors"),
        ('{"weight_map": ', "not valid JSON"),
    ],
)
def test_a_bad_index_is_named(tmp_path, index, wrong):
    theirs_in(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "one.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(index, encoding="utf-8")
    with pytest.raises((ValueError, FileNotFoundError), match=wrong):
        OpenAIGPTModel.from_pretrained(tmp_path)
