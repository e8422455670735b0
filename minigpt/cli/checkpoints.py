"""The commands for checkpoints: `convert`, `download`, `info` and `verify`."""

import json
import platform
from collections import Counter
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option

import minigpt
from minigpt.cli.common import MODEL, Checkpoint, Force, Heads, Json, Revision, given


def convert_command(
    source: Checkpoint,
    target: Annotated[str, Argument(metavar="TARGET", help="Folder to write.")],
    to: Literal["safetensors", "bin", "openai"] = "safetensors",
    max_shard_size: Annotated[str | None, Option(help="Largest file, such as 500MB.")] = None,
    n_head: Heads = None,
    revision: Revision = None,
    force: Force = False,
) -> None:
    """Write a checkpoint in another format: all files, or none.

    openai: the 13 files of OpenAI's 2018 release, ten of them for the weights, and the settings in
    config.json and generation_config.json.

    \b
    Examples:
      minigpt convert tiny FOLDER --to openai
      minigpt convert FOLDER OTHER --to safetensors --n-head 4
    """
    from minigpt.hf.loading import convert

    if to == "openai" and max_shard_size is not None:
        raise typer.BadParameter("OpenAI's format has ten parts", param_hint="--max-shard-size")
    options = given(max_shard_size=max_shard_size, n_head=n_head, revision=revision)
    if not force and Path(target).is_dir() and any(Path(target).iterdir()):
        why = f"{target} is not empty; pass a new folder, or --force to replace its checkpoint"
        raise typer.BadParameter(why, param_hint="TARGET")
    for name in convert(source, target, to, force=force, **options):
        typer.echo(name)


def download_command(
    name: Annotated[str, Argument(metavar="NAME", help="Name on the hub.")],
    revision: Revision = None,
    cache_dir: Annotated[Path | None, Option(help="Default: the hub's cache.")] = None,
) -> None:
    """Download a checkpoint from the hub into the cache, or update it there.

    \b
    Example:
      minigpt download openai-community/openai-gpt
    """
    if name == "tiny" or (name and Path(name).is_dir()):
        raise typer.BadParameter(f"{name} is here already", param_hint="NAME")
    from minigpt.hf.configuration import CONFIG_FILES
    from minigpt.hf.formats import WEIGHT_FILES, open_weights
    from minigpt.hf.generation_config import GENERATION_FILE
    from minigpt.hf.hub import ask_hub
    from minigpt.hf.tokenizer_files import TOKENIZER_FILES

    place = {"revision": revision, "cache_dir": cache_dir}
    for file in (*CONFIG_FILES, GENERATION_FILE, *TOKENIZER_FILES):
        ask_hub(name, [file], **place)  # None if there is no such file
    if (weights := ask_hub(name, WEIGHT_FILES, **place)) is None:
        raise FileNotFoundError(f"{name} holds none of {', '.join(WEIGHT_FILES)}")
    open_weights(name, **place)  # downloads the shards and parts that this file names
    for path in sorted(weights.parent.iterdir()):
        typer.echo(f"{path.stat().st_size:>13,} {path.name}")
    typer.echo(weights.parent)


PACKAGES = "numpy tokenizers safetensors huggingface_hub typer transformers ftfy spacy".split()


def machine_facts() -> dict[str, str]:
    """Collect versions and devices: name -> value."""
    import torch

    facts = {"python": platform.python_version(), "platform": platform.platform()}
    facts |= {"minigpt": minigpt.__version__, "torch": torch.__version__}  # 2.13+cpu, +cu130
    facts |= {name: version(name) if find_spec(name) else "not installed" for name in PACKAGES}
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    facts["cuda"] = ", ".join(gpus) or "none"
    facts["mps"] = "yes" if torch.backends.mps.is_available() else "none"
    return facts | {"cpu threads": str(torch.get_num_threads())}


def model_facts(checkpoint: str, **options) -> dict:
    """Collect config and sizes of a checkpoint, without loading the weights."""
    from minigpt import OpenAIGPTConfig
    from minigpt.hf.files import split_hub_options
    from minigpt.hf.formats import open_weights

    facts = OpenAIGPTConfig.from_pretrained(checkpoint, **options).to_diff_dict()
    stored = open_weights(checkpoint, **split_hub_options(options)[0])
    arrays = [array.mapped for array in stored.values()]
    types = ", ".join(sorted({str(x.dtype).removeprefix("torch.") for x in arrays}))
    facts |= {"parameters": sum(x.numel() for x in arrays), "dtypes": types}
    return facts | {"bytes": sum(x.nbytes for x in arrays)}


def info_command(
    model: Annotated[str | None, Argument(metavar="MODEL", help=MODEL)] = None,
    n_head: Heads = None,
    revision: Revision = None,
    as_json: Json = False,
) -> None:
    """Show versions and devices and, for a MODEL, its config and sizes.

    \b
    Examples:
      minigpt info tiny
      minigpt info tiny --json
    """
    options = given(n_head=n_head, revision=revision)
    if options and model is None:
        raise typer.BadParameter("--n-head and --revision need a model", param_hint="MODEL")
    facts = machine_facts() | ({} if model is None else model_facts(model, **options))
    if as_json:
        typer.echo(json.dumps(facts))
        return
    if model:
        facts["parameters"] = f"{facts['parameters']:,} of {facts.pop('dtypes')}"
        facts["size of the weights"] = f"{facts.pop('bytes') / 1e6:,.1f} MB"
    for name, value in facts.items():
        typer.echo(f"{name:22} {value}")


def verify_command(
    checkpoint: Checkpoint,
    n_head: Heads = None,
    revision: Revision = None,
    as_json: Json = False,
) -> None:
    """Check a checkpoint: its files, shapes, numbers and vocabulary.

    A checkpoint of GPT-1's sizes is also compared with OpenAI's release. The exit code is 1 if a
    check failed, or if no weights could be read.

    \b
    Examples:
      minigpt verify openai-community/openai-gpt
      minigpt verify FOLDER --json
    """
    from minigpt.cli.verify import examine

    counts, found = Counter(passed=0, failed=0, **{"not checked": 0}), {}
    for check, verdict, why in examine(checkpoint, **given(n_head=n_head, revision=revision)):
        if not as_json:
            typer.echo(f"{verdict:12} {check}: {why}")
        counts[verdict] += 1
        found[check] = {"check": check, "verdict": verdict, "why": why}
    is_good = not counts["failed"] and found["arrays"]["verdict"] == "passed"
    if as_json:
        typer.echo(json.dumps({"good": is_good, "checks": list(found.values())}))
    else:
        typer.echo(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    raise typer.Exit(int(not is_good))
