"""The commands `run` and `generate`: a text in, an answer out."""

import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from types import SimpleNamespace
from typing import Annotated, Literal

import typer
from typer import Argument, Option

from minigpt.cli.common import Device, Dtype, Model


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


ROW = "{:.4f} {}".format
SHOWN: dict[str, Callable] = {  # task -> function from an answer to a text
    "text-generation": lambda x: x[0]["generated_text"],
    "text-classification": lambda x: ROW(x["score"], x["label"]),
    "feature-extraction": lambda x: "\n".join(" ".join(map("{:.4f}".format, t)) for t in x[0]),
    "zero-shot-classification": lambda x: "\n".join(map(ROW, x["scores"], x["labels"])),
}
PipelineTask = Literal[tuple(SHOWN)]
Labels = Annotated[str | None, Option("--labels", help='For zero-shot: "sea, land".')]
Lines = Annotated[bool, Option("--json", help="A JSON value a line; of a failure, its error.")]
Text = Annotated[str | None, Argument(metavar="TEXT", help="Default: the standard input.")]
Tokens = Annotated[int | None, Option(min=1, help="Tokens to generate.")]
Sample = Annotated[bool | None, Option(help="Sample, or take the most probable.")]
Heat = Annotated[float | None, Option(min=0, help="Below 1: safer; 0: do not sample.")]
TopK = Annotated[int | None, Option(min=0, help="Sample from the k best; 0: from all.")]
TopP = Annotated[float | None, Option(max=1, help="Sample from the best, with this sum.")]
BeamCount = Annotated[int | None, Option(min=1, help="Search with so many beams.")]
Stop = Annotated[list[str] | None, Option("--stop", help="End after it; may be repeated.")]
Seed = Annotated[int | None, Option(min=0, max=2**63 - 1, help="Of all random numbers.")]
SAMPLING = "max_new_tokens do_sample temperature top_k top_p num_beams stop_strings".split()


def sampling_of(options: dict) -> dict:
    """Return the settings of `generate` that the options ask for, and seed the random numbers."""
    import torch

    if options["seed"] is not None:
        torch.manual_seed(options["seed"])
    settings = {name: x for name in SAMPLING if (x := options[name]) not in (None, (), [])}
    if settings.get("temperature") == 0:
        del settings["temperature"]
        settings["do_sample"] = False
    elif settings.get("num_beams", 1) > 1:
        settings.setdefault("do_sample", False)
    return settings


def run_command(
    text: Text = None,
    task: PipelineTask = "text-generation",
    model: Model = "tiny",
    device: Device = "auto",
    dtype: Dtype = "auto",
    candidate_labels: Labels = None,
    max_new_tokens: Tokens = None,
    do_sample: Sample = None,
    temperature: Heat = None,
    top_k: TopK = None,
    top_p: TopP = None,
    num_beams: BeamCount = None,
    stop_strings: Stop = None,
    seed: Seed = None,
    as_json: Lines = False,
) -> None:
    """Run a task on a text or on each line: continue it, classify it, or compute its vectors.

    The options from --max-new-tokens to --seed are for text-generation. Without them, it samples at
    most 256 tokens, at temperature 0.7.

    \b
    Examples:
      echo "The future of AI is" | minigpt run --task text-generation --model tiny
      minigpt run "The miller" --max-new-tokens 20 --temperature 0.9 --seed 1
      minigpt run "The miller" --task feature-extraction --json
    """
    if (candidate_labels is not None) != (task == "zero-shot-classification"):
        why = f"only zero-shot-classification takes labels, and it needs them; the task is {task}"
        raise typer.BadParameter(why, param_hint="--labels")
    texts, options = texts_from(text), sampling_of(locals())
    if task == "text-generation":
        options["clean_up_tokenization_spaces"] = not as_json
    elif options:
        raise ValueError(f"{min(options)}={options[min(options)]}; only for text-generation")
    if candidate_labels is not None:
        options["candidate_labels"] = candidate_labels
    from minigpt import pipeline

    pipe = pipeline(task, model, dtype=dtype, device=device, **options)
    show = partial(json.dumps, ensure_ascii=False, allow_nan=False) if as_json else SHOWN[task]
    for answer in pipe(texts):  # one answer at a time
        typer.echo(show(answer))


def generate_command(
    text: Text = None,
    model: Model = "tiny",
    device: Device = "auto",
    dtype: Dtype = "auto",
    max_new_tokens: Tokens = 50,
    do_sample: Sample = None,
    temperature: Heat = None,
    top_k: TopK = 40,
    top_p: TopP = None,
    num_beams: BeamCount = None,
    stop_strings: Stop = None,
    seed: Seed = None,
) -> None:
    """Continue a text, and show each word as soon as it is generated.

    \b
    Examples:
      minigpt generate "The miller" --max-new-tokens 20 --seed 1
      minigpt generate --temperature 0 < letter.txt
      minigpt generate "The miller" --num-beams 4 --stop "."
    """
    (text,) = texts_from(text, whole=True)
    from minigpt import GenerationConfig, TextStreamer, pipeline
    from minigpt.hf.tokenizer_base import clean_up

    settings = {"do_sample": True} | sampling_of(locals())
    config, has_beams = GenerationConfig(**settings), settings.get("num_beams", 1) > 1
    pipe = pipeline("text-generation", model, dtype=dtype, device=device)
    inputs = pipe.tokenizer(text, return_tensors="pt").to(pipe.device)
    T, limit = inputs.input_ids.shape[-1], pipe.model.config.n_positions
    if T > limit:  # before the prompt is shown
        raise ValueError(f"{T} tokens, but this checkpoint has {limit} positions; shorten the text")

    def decode(ids) -> str:
        return clean_up(f" {pipe.tokenizer.decode(ids, skip_special_tokens=True)}")

    streamer = TextStreamer(SimpleNamespace(decode=decode), skip_prompt=True)
    typer.echo(text.rstrip(), nl=False)
    options = {"tokenizer": pipe.tokenizer, "streamer": None if has_beams else streamer}
    ids = pipe.model.generate(**inputs, generation_config=config, **options)
    if has_beams:  # which are known only at the end
        typer.echo(decode(ids[0, T:]))
