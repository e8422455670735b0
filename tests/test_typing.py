"""What an editor knows: README's program has no type error, and calls have the right types."""

import inspect
import os
import re
import subprocess
import sys

import pytest

import minigpt
from minigpt.training import pretrain
from tests.helpers import ROOT

PROGRAM = """
from typing import assert_type
from torch import Tensor
import minigpt as m

assert_type(m.OpenAIGPTLMHeadModel.from_pretrained("tiny"), m.OpenAIGPTLMHeadModel)
assert_type(m.OpenAIGPTTokenizerFast.from_pretrained("tiny"), m.OpenAIGPTTokenizerFast)
assert_type(m.OpenAIGPTConfig.from_pretrained("tiny"), m.OpenAIGPTConfig)
assert_type(m.GenerationConfig.from_pretrained("tiny"), m.GenerationConfig)
assert_type(m.AutoModel.from_pretrained("tiny"), m.OpenAIGPTModel)
assert_type(m.AutoModelForCausalLM.from_pretrained("tiny"), m.OpenAIGPTLMHeadModel)
body, info = m.OpenAIGPTModel.from_pretrained("tiny", output_loading_info=True)
assert_type(body, m.OpenAIGPTModel)
config, unused = m.OpenAIGPTConfig.from_pretrained("tiny", return_unused_kwargs=True)
assert_type(config, m.OpenAIGPTConfig)
assert_type(outputs, Tensor)
found = m.AutoModelForCausalLM.from_pretrained("tiny").generate(
    inputs.input_ids, return_dict_in_generate=True, output_scores=True
)
print(found.sequences.shape, found.scores, tokenizer.pad_token_id, inputs.to("cpu"))
print(m.pipeline("text-generation", model="tiny")("It was")[0]["generated_text"])
"""
WRONG = ["model.generat(1)", "tokenizer.pad_tokn", "m.OpenAIGPTModl"]


def test_mypy_finds_no_error_in_readme_and_the_types_of_calls(tmp_path):
    pytest.importorskip("mypy")
    text = (ROOT / "README.md").read_text("utf-8")
    readme = "".join(re.findall(r"```python\n(.*?)```", text, re.S))
    (tmp_path / "program.py").write_text(readme + PROGRAM, encoding="utf-8")
    lines = [PROGRAM, *WRONG]
    (tmp_path / "wrong.py").write_text("\n".join([readme, *lines]), encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent"]
    how = {"capture_output": True, "text": True, "cwd": tmp_path}
    how["env"] = os.environ | {"MYPYPATH": str(ROOT)}  # an editable package is not found else
    told = [subprocess.run([*command, name], **how).stdout for name in ("program.py", "wrong.py")]
    assert told[0].startswith("Success")
    assert f"Found {len(WRONG)} errors" in told[1]


FUNCTIONS = [
    minigpt.OpenAIGPTLMHeadModel.generate,
    minigpt.OpenAIGPTLMHeadModel.from_pretrained,
    minigpt.OpenAIGPTModel.forward,
    minigpt.OpenAIGPTLMHeadModel.forward,
    minigpt.OpenAIGPTDoubleHeadsModel.forward,
    minigpt.OpenAIGPTForSequenceClassification.forward,
    minigpt.OpenAIGPTTokenizerFast.from_pretrained,
    minigpt.OpenAIGPTTokenizerFast.__call__,
    minigpt.pipeline,
    pretrain,
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda x: x.__qualname__)
def test_the_docstring_explains_each_argument_and_has_an_example(function):
    told = inspect.getdoc(function)
    names = [name for name in inspect.signature(function).parameters if name not in ("self", "_")]
    assert [name for name in names if not re.search(rf"^    \*{{0,2}}{name}: \S", told, re.M)] == []
    assert ">>> " in told
