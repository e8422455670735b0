"""The Python snippets of the reference's documentation page for OpenAI GPT, word for word.

`transformers` is `minigpt` in them, and the model's name a parameter. As they stand they want a
GPU; where there is none, float16 and device 0 are replaced, and the test's name says so. Since
version 5 of transformers the page names no number type, and `device_map`: both are tested.
"""

import pytest
import torch

PIPELINE = """
import torch
from minigpt import pipeline

generator = pipeline(task="text-generation", model="MODEL", dtype=torch.float16, device=0)
output = generator("The future of AI is", max_length=50, do_sample=True)
print(output[0]["generated_text"])
"""

AUTO = """
from minigpt import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("MODEL")
model = AutoModelForCausalLM.from_pretrained("MODEL", dtype=torch.float16)

inputs = tokenizer("The future of AI is", return_tensors="pt")
outputs = model.generate(**inputs, max_length=50)
print(tokenizer.decode(outputs[0], skip_special_tokens=True))
"""

NEW_PIPELINE = """
from minigpt import pipeline

generator = pipeline(task="text-generation", model="MODEL", device=0)
output = generator("The future of AI is", max_length=50, do_sample=True)
print(output[0]["generated_text"])
"""

NEW_AUTO = """
from minigpt import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("MODEL")
model = AutoModelForCausalLM.from_pretrained("MODEL", device_map="auto")

inputs = tokenizer("The future of AI is", return_tensors="pt").to(model.device)
outputs = model.generate(**inputs, max_length=50)
print(tokenizer.decode(outputs[0], skip_special_tokens=True))
"""

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="device=0 wants a GPU; none here")
ON_CPU = {"device=0": 'device="cpu"'}
HALF = {"torch.float16": "torch.float32"}
WAYS = [
    pytest.param(PIPELINE, {}, id="word-for-word", marks=GPU),
    pytest.param(PIPELINE, ON_CPU | HALF, id="float32-on-the-CPU-in-place-of-float16-on-device-0"),
    pytest.param(NEW_PIPELINE, {}, id="new-word-for-word", marks=GPU),
    pytest.param(NEW_PIPELINE, ON_CPU, id="new-on-the-CPU-in-place-of-device-0"),
]


def printed(snippet: str, capsys, replace: dict[str, str], model: str = "tiny") -> str:
    for old, new in ({"MODEL": model} | replace).items():
        assert old in snippet
        snippet = snippet.replace(old, new)
    exec(compile(snippet, "documentation page", "exec"), {"torch": torch})
    return capsys.readouterr().out


@pytest.mark.parametrize(("snippet", "replace"), WAYS)
def test_the_pipeline_continues_the_prompt(snippet, replace, capsys):
    text = printed(snippet, capsys, replace)
    assert text.startswith("The future of AI is ") and len(text.split()) > 10


@pytest.mark.parametrize("snippet", [AUTO, NEW_AUTO], ids=["float16", "device_map"])
def test_auto_classes_continue_the_prompt_word_for_word(snippet, capsys):  # they name no GPU
    text = printed(snippet, capsys, {})
    assert text.startswith("the future of ai is ") and len(text.split()) > 10
