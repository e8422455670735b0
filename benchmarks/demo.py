"""The main job in one command: `python -m benchmarks.demo`.

Loads the embedded checkpoint, continues a sentence, and prints the text, the tokens per second, and
three lines of parity: which references were compared, and the largest difference.
"""

import platform
import time
from importlib.util import find_spec

import torch

from minigpt import OpenAIGPTLMHeadModel, OpenAIGPTTokenizer, __version__
from tests import helpers

PROMPT = "The future of AI is"


def continue_text(prompt: str, tokens: int = 120) -> tuple[str, float]:
    """Return a sampled continuation of `prompt`, and how many tokens a second came out."""
    tokenizer = OpenAIGPTTokenizer.from_pretrained("tiny")
    model = OpenAIGPTLMHeadModel.from_pretrained("tiny")
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    model.generate(ids, max_new_tokens=2)  # the first call pays for one-time set-up
    generator = torch.Generator().manual_seed(0)
    begin = time.perf_counter()
    out = model.generate(
        ids, max_new_tokens=tokens, do_sample=True, top_k=40, temperature=0.8, generator=generator
    )
    seconds = time.perf_counter() - begin
    return tokenizer.decode(out[0], clean_up_tokenization_spaces=True), tokens / seconds


def proof() -> list[str]:
    """Three lines: OpenAI's code, transformers, OpenAI's tokenizer."""
    openai = max(helpers.openai_differences().values())
    lines = [
        f"OpenAI's own code    largest difference {openai:.1e} (golden arrays: every layer, logits)"
    ]
    if find_spec("transformers"):
        theirs = max(helpers.transformers_differences().values())
        compared = "same weights: layers, attention, logits, loss, gradients"
        lines.append(f"transformers         largest difference {theirs:.1e} ({compared})")
    else:
        lines.append("transformers         not checked: not installed (pip install transformers)")
    if helpers.OFFICIAL.is_dir():
        same, of = helpers.tokenizer_agreement()
        lines.append(f"OpenAI's tokenizer   {same} of {of} golden strings give the same ids")
    else:
        lines.append(f"OpenAI's tokenizer   {helpers.NO_OFFICIAL}")
    return lines


def main() -> None:
    text, speed = continue_text(PROMPT)
    print(f"\n{text}\n")
    machine = f"{torch.get_num_threads()} threads, {platform.machine()}"
    versions = f"torch {torch.__version__}, minigpt {__version__}"
    print(f"{speed:.0f} tokens per second (batch 1, {machine}, {versions})\n")
    print("Parity, float32 on the CPU")
    print("\n".join(f"  {line}" for line in proof()))


if __name__ == "__main__":
    main()
