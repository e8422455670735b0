"""Files from the hub: `huggingface_hub` downloads them, and its errors become one paragraph."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

OFFICIAL_NAME = "openai-community/openai-gpt"
OLD_NAMES = dict.fromkeys(("openai-gpt", "openai-community/gpt"), OFFICIAL_NAME)
HUB_ERRORS = {  # the library's error: ours, and what to do; {} is what the library says
    "HFValidationError": (
        FileNotFoundError,
        "it is neither a folder here nor a name that the hub could know; check the spelling",
    ),
    "OfflineModeIsEnabled": (
        FileNotFoundError,
        "the cache lacks it, and HF_HUB_OFFLINE forbids to ask; check the spelling or unset it",
    ),
    "RepositoryNotFoundError": (
        FileNotFoundError,
        "it is no folder here, and the hub knows none or hides it: check the spelling; if it is "
        "private, pass token= or log in with hf auth login",
    ),
    "GatedRepoError": (
        PermissionError,
        "its owner wants to know who reads it: accept the terms on its page, then pass token= or "
        "log in with hf auth login",
    ),
    "RevisionNotFoundError": (
        FileNotFoundError,
        "there is no such revision; pass as revision= a branch, a tag or a whole commit id",
    ),
    "refused": (  # HTTP's codes 401 and 403
        PermissionError,
        "the hub refuses it to you ({}); check the spelling, then pass a token= that may read it, "
        "or log in with hf auth login",
    ),
    "absent": (FileNotFoundError, "there is no such thing ({}); check the spelling"),  # code 404
    "HfHubHTTPError": (ConnectionError, "the hub is in trouble ({}); try again later"),
    "HTTPError": (
        ConnectionError,
        "the hub cannot be reached ({}); check the spelling and the network",
    ),
    "OSError": (
        OSError,
        "it did not arrive whole or could not be kept ({}); try again, and check the disk",
    ),
}
STATUS = {401: "refused", 403: "refused", 404: "absent"}


@contextmanager
def explained(checkpoint: str, revision: str | None, name: str) -> Iterator[None]:
    """Turn what `huggingface_hub` raises over a file into one of `HUB_ERRORS`.

    RemoteEntryNotFoundError passes: it only says that a repository lacks a file.
    """
    from huggingface_hub.errors import HFValidationError, HTTPError, RemoteEntryNotFoundError

    try:
        yield
    except RemoteEntryNotFoundError:
        raise
    except (HFValidationError, HTTPError, OSError) as error:
        family = [kind.__name__ for kind in type(error).__mro__]
        key = next(kind for kind in family if kind in HUB_ERRORS)
        if key == "HfHubHTTPError":
            key = STATUS.get(error.response.status_code, key)
        ours, advice = HUB_ERRORS[key]
        details = f"{family[0]}: {str(error).strip().splitlines()[0].rstrip('.:')}"
        what = f"no checkpoint {checkpoint!r}, revision {revision or 'main'}, file {name}"
        raise ours(f"{what}: {advice.format(details)}") from error


def check_download(repository: str, path: Path, etag: str) -> None:
    """Raise ValueError, and remove the file, if it has not the checksum that the hub promised.

    The hub's ETag is a SHA-256 of 64 digits or git's SHA-1 of 40; otherwise nothing is checked.
    """
    from huggingface_hub.utils.sha import git_hash, sha_fileobj

    if len(etag) not in (40, 64):
        return
    with path.open("rb") as file:
        found = git_hash(file.read()) if len(etag) == 40 else sha_fileobj(file).hex()
    if found != etag:
        for one in (path.resolve(), path):  # the cache keeps a link to the file
            one.unlink(missing_ok=True)
        raise ValueError(
            f"{path.name} of {repository!r} arrived damaged: its checksum is {found[:12]}..., the "
            f"hub promised {etag[:12]}...; it was removed from the cache, so try again"
        )


def fetch(repository: str, name: str, token=None, **place) -> Path:
    """Download one file into the hub's cache, compare it with its checksum, return its path.

    Raises the errors of `huggingface_hub`, and those of `check_download`.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import RemoteEntryNotFoundError

    url, etag = hf_hub_url(repository, name, revision=place.get("revision")), None
    with suppress(RemoteEntryNotFoundError):  # the next call raises it, too, and remembers the lack
        etag = get_hf_file_metadata(url, token=token).etag
    path = Path(hf_hub_download(repository, name, token=token, **place))
    check_download(repository, path, etag or "")
    return path


def ask_hub(checkpoint: str, names: Iterable[str], **place) -> Path | None:
    """Download the first of `names` that a repository holds; None if it holds none of them.

    `place`: revision, cache_dir, token, force_download. Raises FileNotFoundError, PermissionError
    or ConnectionError as `HUB_ERRORS` says, ValueError if a file arrived damaged.
    """
    from huggingface_hub.errors import RemoteEntryNotFoundError

    for name in names:
        with suppress(RemoteEntryNotFoundError), explained(checkpoint, place.get("revision"), name):
            return fetch(OLD_NAMES.get(checkpoint, checkpoint), name, **place)
    return None


def look_in_cache(checkpoint: str, names, revision, cache_dir) -> tuple[Path | None, list[str]]:
    """Return the path of the first of `names` that the cache has, and those it knows nothing of."""
    from huggingface_hub import try_to_load_from_cache

    repository = OLD_NAMES.get(checkpoint, checkpoint)
    with explained(checkpoint, revision, names[0]):
        found = [try_to_load_from_cache(repository, name, cache_dir, revision) for name in names]
    path = next((Path(x) for x in found if isinstance(x, str)), None)
    return path, [name for name, x in zip(names, found, strict=True) if x is None]


def commit_in_cache(checkpoint: str, revision: str | None, cache_dir) -> str | None:
    """Return the commit that the cache has of a revision; None if it has no file of it."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    place = {"revision": revision, "cache_dir": cache_dir, "local_files_only": True}
    with suppress(LocalEntryNotFoundError):
        return Path(snapshot_download(OLD_NAMES.get(checkpoint, checkpoint), **place)).name
    return None


def download_file(
    checkpoint: str,
    *names: str,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    token: str | bool | None = None,
    force_download: bool = False,
) -> Path:
    """Return the path, in the hub's cache, of the first of `names` that a repository holds.

    The hub is asked only for what the cache knows nothing of, in the commit that the cache has
    begun, and never with `local_files_only`. So a newer `main` is not noticed until it is asked
    for: with `force_download`, by `minigpt download`, or with its commit as `revision`. Raises
    FileNotFoundError if there is none of them, and the errors of `ask_hub`.
    """
    place = {"cache_dir": cache_dir, "token": token, "force_download": force_download}
    if force_download and not local_files_only:
        path, unknown = ask_hub(checkpoint, names, revision=revision, **place), []
    else:
        path, unknown = look_in_cache(checkpoint, names, revision, cache_dir)
        if path is None and not local_files_only:
            commit = commit_in_cache(checkpoint, revision, cache_dir) if unknown else None
            path = ask_hub(checkpoint, unknown, revision=commit or revision, **place)
    if path is not None:
        return path
    if local_files_only and unknown:
        reason = "the cache, where local_files_only looks, lacks {}; load it once without"
    else:
        reason = "it holds none of {}; pass another, or if that is news, pass force_download=True"
    what = f"no checkpoint {checkpoint!r}, revision {revision or 'main'}"
    raise FileNotFoundError(f"{what}: {reason.format(', '.join(names))}")
