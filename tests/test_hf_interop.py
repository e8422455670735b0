"""Our classes become those of transformers: when, for which objects, and what stays as it was."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

from minigpt.hf import interop

MADE_BEFORE = """
import copy, pickle, sys
import minigpt, torch
model = minigpt.OpenAIGPTLMHeadModel.from_pretrained("tiny")
tokenizer = minigpt.OpenAIGPTTokenizerFast.from_pretrained("tiny")
ids = torch.tensor([[5, 6, 7]])
things = [model, model.transformer.h[0].mlp.c_fc, model.config, tokenizer, model(ids)]
dumped, kinds, logits = pickle.dumps(things), list(map(type, things)), things[-1].logits
assert not any(name.split(".")[0] == "transformers" for name in sys.modules)

import transformers
from transformers.pytorch_utils import Conv1D
theirs = [transformers.PreTrainedModel, Conv1D, transformers.PreTrainedConfig]
theirs += [transformers.PreTrainedTokenizerBase, transformers.utils.ModelOutput]
for some in (things, copy.deepcopy(things[:-1]), pickle.loads(dumped)):
    some = pickle.loads(pickle.dumps(some))
    assert all(map(isinstance, some, theirs)) and list(map(type, some)) == kinds[:len(some)]
    assert torch.equal(some[0](ids).logits, logits) and some[3]("a dog") == tokenizer("a dog")
for name in ("forward", "generate", "save_pretrained", "from_pretrained", "tie_weights"):
    assert getattr(model, name).__module__.startswith("minigpt."), name
assert "minigpt" in type(model).num_parameters.__module__ and not model.training
"""


@pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed")
def test_objects_made_before_the_import_are_joined_too():
    subprocess.run([sys.executable, "-c", MADE_BEFORE], check=True)


def test_any_module_can_be_the_counterpart(tmp_path, monkeypatch):
    (tmp_path / "later.py").write_text("class Theirs:\n    mine = 0\n    more = 1\n")
    monkeypatch.syspath_prepend(tmp_path)

    @interop.counterpart("later", "Theirs")
    class Ours(interop.Joinable):
        mine = 2

    made = Ours()
    try:
        import later
    finally:
        del interop.COUNTERPARTS["later"]
    assert isinstance(made, later.Theirs) and (made.mine, made.more) == (2, 1)

    @interop.counterpart("later", "Theirs")  # a module that is there already
    class Late(interop.Joinable):
        pass

    del interop.COUNTERPARTS["later"]
    assert issubclass(Late, later.Theirs) and Late.__name__ == "Late"
