"""The Python snippets of the reference's documentation page for OpenAI GPT, word for word.

`transformers` is `minigpt` in them, and the model's name "tiny". As they stand, two want a GPU;
where there is none, float16 and device 0 are replaced. Since version 5 of transformers the page
names no dtype, and `device_map`: both are tested.
"""

import pytest
import torch

PIPELINE = """
import torch
from minigpt import pipeline

generator = pipeline(task="text-generation", model="tiny", dtype=torch.float16, device=0)
output = generator("The future of AI is", max_length=50, do_sample=True)
print(output[0]["generated_text"])
"""

AUTO = """
import torch
from minigpt import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("tiny")
model = AutoModelForCausalLM.from_pretrained("tiny", dtype=torch.float16)

inputs = tokenizer("The future of AI is", return_tensors="pt")
outputs = model.generate(**inputs, max_length=50)
print(tokenizer.decode(outputs[0], skip_special_tokens=True))
"""

NEW_AUTO = AUTO.replace("dtype=torch.float16", 'device_map="auto"')
NEW_AUTO = NEW_AUTO.replace('return_tensors="pt")', 'return_tensors="pt").to(model.device)')
SNIPPETS = {
    "pipeline": PIPELINE,
    "new pipeline": PIPELINE.replace("dtype=torch.float16, ", ""),
    "auto": AUTO,
    "new auto": NEW_AUTO,
}


@pytest.mark.parametrize("name", SNIPPETS)
def test_the_page_continues_the_prompt(name, capsys):
    snippet = SNIPPETS[name]
    if "pipeline" in name and not torch.cuda.is_available():
        snippet = snippet.replace("device=0", 'device="cpu"').replace("float16", "float32")
    exec(compile(snippet, "documentation page", "exec"), {})
    text = capsys.readouterr().out
    assert text.lower().startswith("the future of ai is") and len(text.split()) > 10
