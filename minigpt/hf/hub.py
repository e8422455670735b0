"""Files from the hub: `huggingface_hub` downloads them, and its errors become one paragraph."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import huggingface_hub as hub  # it imports its parts when they are needed

OFFICIAL_NAME = "openai-community/openai-gpt"
OLD_NAMES = dict.fromkeys(("openai-gpt", "openai-community/gpt"), OFFICIAL_NAME)
LOG_IN = "log in with hf auth login, or pass a token= that may read it"
HIDDEN = "it is not a folder, and on the hub it is private or missing; check the spelling, or "
NO_NAME = "it is neither a folder nor a valid name on the hub; check the spelling"
OFFLINE = "it is not in the cache, and HF_HUB_OFFLINE is set; check the spelling or unset it"
ADVICE = {  # library error or HTTP status -> our error and what to do; the first match wins
    "GatedRepoError": (PermissionError, f"accept the terms on its page, then {LOG_IN}"),
    "RevisionNotFoundError": (FileNotFoundError, "{}; pass a branch, a tag or a whole commit id"),
    "RepositoryNotFoundError": (FileNotFoundError, HIDDEN + LOG_IN),
    "HFValidationError": (FileNotFoundError, NO_NAME),
    "OfflineModeIsEnabled": (FileNotFoundError, OFFLINE),
    401: (PermissionError, f"{{}}; {LOG_IN}"),
    403: (PermissionError, f"{{}}; {LOG_IN}"),
    404: (FileNotFoundError, "{}; check the spelling"),
    "HTTPError": (ConnectionError, "{}; check the spelling and the network, or try again later"),
    "Exception": (OSError, "{}; try again, and check the disk"),
}


@contextmanager
def explaining(checkpoint: str, revision: str | None, name: str) -> Iterator[None]:
    """Turn an error of `huggingface_hub` into a paragraph: what is missing, why, what to do."""
    try:
        yield
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        keys = {status, *(kind.__name__ for kind in type(error).__mro__)}
        kind, advice = next(ADVICE[key] for key in ADVICE if key in keys)
        what = f"no checkpoint {checkpoint!r}, revision {revision or 'main'}, file {name}"
        reason = f"{type(error).__name__}: {error}".split("\n")[0].rstrip(".:")
        raise kind(f"{what}: {advice.format(reason)}") from error


def ask_hub(checkpoint: str, names: Iterable[str], revision=None, **place) -> Path | None:
    """Download the first of `names` that a repository holds; None if it holds none of them.

    `place`: cache_dir, token, force_download. Raises FileNotFoundError, PermissionError or
    ConnectionError as `ADVICE` says.
    """
    from huggingface_hub.errors import RemoteEntryNotFoundError

    repository = OLD_NAMES.get(checkpoint, checkpoint)
    for name in names:
        with explaining(checkpoint, revision, name), suppress(RemoteEntryNotFoundError):
            with suppress(RemoteEntryNotFoundError):  # the next call stores that it is missing
                url = hub.hf_hub_url(repository, name, revision=revision)
                hub.get_hf_file_metadata(url, token=place.get("token"))  # at once, not in 23 s
            return Path(hub.hf_hub_download(repository, name, revision=revision, **place))
    return None


def download_file(
    checkpoint: str, *names: str, revision: str | None = None, local_files_only=False, **options
) -> Path:
    """Return the path, in the hub's cache, of the first of `names` that a repository holds.

    `options`: cache_dir, token, force_download. The hub is asked only for files that the cache does
    not know, in the commit that the cache holds, and never with `local_files_only`. So a newer
    `main` is used only on request: with `force_download`, by `minigpt download`, or with its commit
    as `revision`. Raises FileNotFoundError if there is none of them, and the errors of `ask_hub`.
    """
    repository, unknown, path = OLD_NAMES.get(checkpoint, checkpoint), names, None
    commit, place = revision, {"cache_dir": options.get("cache_dir"), "revision": revision}
    if local_files_only or not options.get("force_download"):
        with explaining(checkpoint, revision, names[0]), suppress(FileNotFoundError):
            known = {name: hub.try_to_load_from_cache(repository, name, **place) for name in names}
            commit = Path(hub.snapshot_download(repository, local_files_only=True, **place)).name
        path = next((path for path in known.values() if isinstance(path, str)), None)
        unknown = [name for name in names if known[name] is None]  # else there is no such file
    if path is None and not local_files_only:
        path = ask_hub(checkpoint, unknown, commit, **options)
    if path is None:
        where = "the cache lacks" if local_files_only else "it holds none of"
        raise FileNotFoundError(
            f"no checkpoint {checkpoint!r}, revision {revision or 'main'}: {where} "
            f"{', '.join(names)}; pass another, or load it once with force_download=True"
        )
    return Path(path)


def push_to_hub(
    self, repo_id: str, *, commit_message: str | None = None, private: bool | None = None,
    token: str | bool | None = None, revision: str | None = None, create_pr: bool = False, **options
):  # fmt: skip
    """Save this object into a repository of the hub, which is created if it is missing.

    A method of models, configs and tokenizers; `options` are those of their `save_pretrained`.
    Returns the hub's description of the commit.
    """
    with TemporaryDirectory() as folder:
        self.save_pretrained(folder, **options)
        api = hub.HfApi(token=token)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        message = commit_message or f"Upload {type(self).__name__}"
        where = {"revision": revision, "create_pr": create_pr, "commit_message": message}
        return api.upload_folder(repo_id=repo_id, folder_path=folder, **where)
