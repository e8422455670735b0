"""The commands `run` and `generate`: a text in, an answer out."""

import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import Annotated, Literal

import typer

from minigpt.cli.common import Device, Dtype, Model, given


def texts_from(argument: str | None, whole: bool = False) -> Iterator[str]:
    """Return the argument or, without one, the non-empty lines of the standard input.

    `whole`: all lines as one text. Raises BadParameter if there is no text, and UnicodeError if its
    bytes are not UTF-8 (Python may have accepted them).
    """
    lines = iter([argument])
    if argument is None:
        if sys.stdin is None or sys.stdin.isatty():  # a shell can close it: minigpt run <&-
            raise typer.BadParameter("pass it as an argument, or pipe it in", param_hint="TEXT")
        lines = iter([sys.stdin.read()]) if whole else (line.rstrip("\r\n") for line in sys.stdin)
    lines = (line.encode().decode() for line in lines if line.strip())
    if (first := next(lines, None)) is None:
        raise typer.BadParameter("it is empty; pass at least one word", param_hint="TEXT")
    return chain([first], lines)


def to_device(name: str) -> int | str:
    """Turn a number such as `"0"` into an int, as `pipeline` expects it; keep other names."""
    return int(name) if name.removeprefix("-").isdecimal() else name


ROW = "{:.4f} {}".format
SHOWN: dict[str, Callable] = {  # task -> function from an answer to a text
    "text-generation": lambda x: "\n".join(text["generated_text"] for text in x),
    "text-classification": lambda x: ROW(x["score"], x["label"]),
    "feature-extraction": lambda x: "\n".join(" ".join(map("{:.4f}".format, t)) for t in x[0]),
    "zero-shot-classification": lambda x: "\n".join(map(ROW, x["scores"], x["labels"])),
}
PipelineTask = Literal[tuple(SHOWN)]
Text = Annotated[str | None, typer.Argument(metavar="TEXT", help="Default: the standard input.")]


def run_command(
    text: Text = None,
    task: PipelineTask = "text-generation",
    model: Model = "tiny",
    device: Device = "auto",
    dtype: Dtype = "auto",
    labels: Annotated[str | None, typer.Option(help='For zero-shot: "sea, land".')] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON value a line.")] = False,
) -> None:
    """Run a task on a text or on each line: continue it, classify it, or compute its vectors.

    \b
    Examples:
      echo "The future of AI is" | minigpt run --task text-generation --model tiny
      minigpt run "The miller" --task feature-extraction --json
    """
    if (labels is not None) != (task == "zero-shot-classification"):
        why = f"only zero-shot-classification takes labels, and it needs them; the task is {task}"
        raise typer.BadParameter(why, param_hint="--labels")
    texts = texts_from(text)
    from minigpt import pipeline

    options = {"dtype": dtype, "device": to_device(device), **given(candidate_labels=labels)}
    show = partial(json.dumps, ensure_ascii=False, allow_nan=False) if as_json else SHOWN[task]
    for answer in pipeline(task, model, **options)(texts):  # one answer at a time
        typer.echo(show(answer))


def generate_command(
    text: Text = None,
    model: Model = "tiny",
    device: Device = "auto",
    dtype: Dtype = "auto",
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens to generate.")] = 50,
    do_sample: Annotated[bool, typer.Option(help="Sample, or take the most probable.")] = True,
    top_k: Annotated[int, typer.Option(min=0, help="Sample from the k best; 0: from all.")] = 40,
    seed: Annotated[int | None, typer.Option(min=0, max=2**63 - 1, help="To repeat it.")] = None,
) -> None:
    """Continue a text, and show each word as soon as it is generated.

    \b
    Examples:
      minigpt generate "The miller" --max-new-tokens 20 --seed 1
      minigpt generate --no-do-sample < letter.txt
    """
    (text,) = texts_from(text, whole=True)
    import torch

    from minigpt import TextStreamer, pipeline

    pipe = pipeline("text-generation", model, dtype=dtype, device=to_device(device))
    inputs = pipe.tokenizer(text, return_tensors="pt").to(pipe.device)
    T, limit = inputs.input_ids.shape[-1], pipe.model.config.n_positions
    if T > limit:  # before the prompt is shown
        raise ValueError(f"{T} tokens, but this checkpoint has {limit} positions; shorten the text")
    generator = None if seed is None else torch.Generator(pipe.device).manual_seed(seed)
    typer.echo(f"{text.rstrip()} ", nl=False)
    options = {"max_new_tokens": max_new_tokens, "do_sample": do_sample, "top_k": top_k}
    streamer = TextStreamer(pipe.tokenizer, skip_prompt=True, skip_special_tokens=True)
    pipe.model.generate(**inputs, streamer=streamer, generator=generator, **options)
