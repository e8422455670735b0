"""The files of a checkpoint: finding, reading and saving them.
A checkpoint is `"tiny"` (inside this package), a folder, or a name on the hub.
"""

import json
import os
import random
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.resources import files
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors import SafetensorError

from .hub import download_file

MODEL_TYPE = "openai-gpt"
TINY = files("minigpt") / "assets" / "tiny"
HUB_OPTIONS = ("revision", "cache_dir", "local_files_only", "token", "force_download", "subfolder")
IGNORED_OPTIONS = (  # options of transformers, or of models, that have no effect here
    *("device", "device_map", "output_loading_info", "ignore_mismatched_sizes"),
    *("low_cpu_mem_usage", "proxies", "resume_download", "safe_serialization"),
    *("trust_remote_code", "use_fast", "use_safetensors", "weights_only"),
    *("max_memory", "offload_folder", "offload_state_dict", "offload_buffers", "mirror"),
    *("code_revision", "framework", "num_workers", "tp_plan", "use_kernels", "_fast_init"),
    *("variant", "use_auth_token", "adapter_kwargs", "_commit_hash", "_from_auto"),
)
MAX_TRIES = 20  # while other processes save into the same folder
ABANDONED = 3600  # seconds: unfinished files this old belong to a process that was killed
version = attrgetter("st_ino", "st_mtime_ns")  # one alone can be the same after a quick save

Writer = Callable[[Path], object]  # writes one file to a path


def find_file(checkpoint: str | Path, *names: str, subfolder: str = "", **hub) -> Path:
    """Return the path of the first of `names` that a checkpoint holds.

    `hub` may hold further `HUB_OPTIONS`. Raises FileNotFoundError, naming what was looked for and
    where, if there is none, and the errors of `download_file`.
    """
    folder = Path(str(TINY) if checkpoint == "tiny" else checkpoint)
    names = [f"{subfolder}/{name}" if subfolder else name for name in names]
    if checkpoint == "" or not folder.is_dir():  # Path("") would be the current folder
        return download_file(str(checkpoint), *names, **hub)
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f"the folder {checkpoint} holds none of {', '.join(names)}; pass a folder that "
        "save_pretrained wrote, an OpenAI release folder, or 'tiny'"
    )


def split_hub_options(options: Mapping) -> tuple[dict, dict]:
    """Split options into `HUB_OPTIONS` and all others, without `IGNORED_OPTIONS`."""
    hub = {name: options[name] for name in HUB_OPTIONS if name in options}
    return hub, {n: x for n, x in options.items() if n not in HUB_OPTIONS + IGNORED_OPTIONS}


def wrong_kind(model_type: str) -> ValueError:
    """Make the error for a `config.json` of another kind of model."""
    way = f"minigpt builds only {MODEL_TYPE!r}, GPT-1; load it with transformers"
    return ValueError(f"it is of a {model_type!r} model, but {way}")


@contextmanager
def naming(path: str | Path | None) -> Iterator[None]:
    """Turn any error from the contents of a file into a ValueError that names the file."""
    try:
        yield
    except ImportError:
        raise  # the file is not the cause
    except Exception as error:  # damaged pickles and headers can raise any
        if str(path) in str(error) and isinstance(error, OSError | ValueError):
            raise  # its text names the file already
        if isinstance(error, ValueError):  # its text says what to do
            raise ValueError(f"{path}: {error}") from error
        reason = f"unexpected contents ({type(error).__name__}: {error}".split("\n")[0]
        raise ValueError(f"{path} is damaged or has {reason}); copy it again") from error


@contextmanager
def writing(
    path: Path, way: str = "make room if the disk is full, or pass another folder"
) -> Iterator[None]:
    """Turn an error while a file is written into an OSError that names it and says what to do."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        raise OSError(f"{path} could not be saved ({error!s:.200}); {way}") from error


def read_json(path: Path, kind: type = dict):
    """Read a JSON file. Raises ValueError, naming it, if it is damaged or not of type `kind`."""
    with naming(path):
        found = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(found, kind):
            raise ValueError(f"expected a JSON {kind.__name__}, got {found!r:.40}")
        return found


def to_number(value):
    """Return a numpy array or a tensor as a Python number, or as a list of numbers."""
    value = value.tolist()
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def json_text(settings: dict) -> str:
    """Return settings as JSON; arrays become lists, other objects their text."""
    text = json.dumps(settings, indent=2, default=lambda x: getattr(x, "tolist", x.__str__)())
    return text + "\n"


def json_writer(settings: dict) -> Writer:
    """Return a writer of a JSON file."""
    return lambda path: path.write_text(json_text(settings))


@contextmanager
def unfinished_folder(folder: str | Path) -> Iterator[Path]:
    """Make a folder inside `folder` to write in, and remove it at the end, unless it was renamed.

    Those that a killed process left an hour ago or earlier are removed, too. Raises ValueError for
    `"tiny"` and an empty name, which would never be read.
    """
    if str(folder) in ("", "tiny"):
        raise ValueError(f"{str(folder)!r} is not a name to save under; choose another")
    Path(folder).mkdir(parents=True, exist_ok=True)
    for path in Path(folder).glob(".saving-*"):
        with suppress(FileNotFoundError):  # another process is saving, and done by now
            if time.time() - path.stat().st_mtime > ABANDONED:
                shutil.rmtree(path, ignore_errors=True)
    with TemporaryDirectory(prefix=".saving-", dir=folder) as waiting:
        folder = Path(waiting, "new")  # with the usual rights, unlike the one around it
        folder.mkdir()
        yield folder


def exchange(waiting: Path, folder: Path, names: list[str], stale: str) -> bool:
    """Put the files of one folder into another, in order; False if another process interfered."""
    *others, last = names
    mine = {name: version((waiting / name).stat()) for name in names}
    for name in reversed(names):
        (folder / name).unlink(missing_ok=True)
    for name in others:
        os.replace(waiting / name, folder / name)
    for path in folder.iterdir():  # now, since another process may have placed some just before
        if path.name not in mine and re.fullmatch(stale, path.name):
            path.unlink(missing_ok=True)
    with suppress(FileNotFoundError):  # another process has removed it
        if all(version((folder / name).stat()) == mine[name] for name in others):
            os.replace(waiting / last, folder / last)
            return all(version((folder / name).stat()) == mine[name] for name in names)
    return False


def save_files(folder: str | Path, writers: Mapping[str, Writer], stale: str = "") -> list[str]:
    """Write several files: a folder always holds all old ones, all new ones or no loadable set.

    `writers`: name -> function that writes to a path. All are first written under other names. Then
    the old ones are removed in reverse order, and the new ones take their names in order: the last
    one should be the file without which nothing is loaded. Files whose names match the pattern
    `stale`, and are not written anew, are removed. If another process saves into the folder at the
    same time, the later one writes its files once more. Returns the names. Raises OSError, naming
    the file, the reason and what to do.
    """
    for attempt in range(MAX_TRIES):
        with unfinished_folder(folder) as waiting:
            for name, write in writers.items():
                with writing(Path(folder, name)):
                    write(waiting / name)
            if exchange(waiting, Path(folder), list(writers), stale):
                return sorted(writers)
        time.sleep(random.random() * 0.02 * (attempt + 1))
    raise OSError(f"{folder}: other processes keep saving into it; pass another folder")
