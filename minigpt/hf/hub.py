"""Files from the hub: `huggingface_hub` downloads them, and its errors become one paragraph."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

OFFICIAL_NAME = "openai-community/openai-gpt"
OLD_NAMES = dict.fromkeys(("openai-gpt", "openai-community/gpt"), OFFICIAL_NAME)
LOG_IN = "pass a token= that may read it, or log in with hf auth login"
HIDDEN = (
    f"it is no folder here, and the hub hides it or knows none; check the spelling, or {LOG_IN}"
)
NO_SUCH_NAME = "it is neither a folder here nor a name that the hub could know; check the spelling"
OFFLINE = "the cache lacks it, and HF_HUB_OFFLINE forbids to ask; check the spelling or unset it"
ADVICE = {  # an error of the library or a code of HTTP -> our error, and what to do
    "GatedRepoError": (PermissionError, f"accept the terms on its page, then {LOG_IN}"),
    "RevisionNotFoundError": (FileNotFoundError, "{}; pass a branch, a tag or a whole commit id"),
    "RepositoryNotFoundError": (FileNotFoundError, HIDDEN),
    "HFValidationError": (FileNotFoundError, NO_SUCH_NAME),
    "OfflineModeIsEnabled": (FileNotFoundError, OFFLINE),
    401: (PermissionError, f"{{}}; {LOG_IN}"),
    403: (PermissionError, f"{{}}; {LOG_IN}"),
    404: (FileNotFoundError, "{}; check the spelling"),
    "HTTPError": (ConnectionError, "{}; check the spelling and the network, or try again later"),
    "OSError": (OSError, "{}; try again, and check the disk"),
}


def explain(error: Exception, what: str) -> OSError:
    """Make one paragraph of an error of `huggingface_hub`: what is not there, why, what to do."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    family = [kind.__name__ for kind in type(error).__mro__]
    keys = [*family[: family.index("HTTPError")], status, "HTTPError"] if status else family
    kind, advice = next(ADVICE[key] for key in keys if key in ADVICE)
    reason = f"{family[0]}: {error}".split("\n")[0].rstrip(".:")
    return kind(f"no checkpoint {what}: {advice.format(reason)}")


def ask_hub(checkpoint: str, names: Iterable[str], revision=None, **place) -> Path | None:
    """Download the first of `names` that a repository holds; None if it holds none of them.

    `place`: cache_dir, token, force_download. Raises FileNotFoundError, PermissionError or
    ConnectionError as `ADVICE` says.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import HFValidationError, HTTPError, RemoteEntryNotFoundError

    repository = OLD_NAMES.get(checkpoint, checkpoint)
    for name in names:
        try:
            with suppress(RemoteEntryNotFoundError):  # the next call remembers the lack
                url = hf_hub_url(repository, name, revision=revision)
                get_hf_file_metadata(url, token=place.get("token"))  # fails at once, not in 23 s
            return Path(hf_hub_download(repository, name, revision=revision, **place))
        except RemoteEntryNotFoundError:
            continue
        except (HFValidationError, HTTPError, OSError) as error:
            what = f"{checkpoint!r}, revision {revision or 'main'}, file {name}"
            raise explain(error, what) from error
    return None


def commit_in_cache(repository: str, **place) -> str | None:
    """Return the commit that the cache has of a revision; None if it has no file of it."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    with suppress(LocalEntryNotFoundError):
        return Path(snapshot_download(repository, local_files_only=True, **place)).name
    return None


def download_file(
    checkpoint: str, *names: str, revision: str | None = None, local_files_only=False, **options
) -> Path:
    """Return the path, in the hub's cache, of the first of `names` that a repository holds.

    `options`: cache_dir, token, force_download. The hub is asked only for what the cache knows
    nothing of, in the commit that the cache has begun, and never with `local_files_only`. So a
    newer `main` is not noticed until it is asked for: with `force_download`, by `minigpt download`,
    or with its commit as `revision`. Raises FileNotFoundError if there is none of them, and the
    errors of `ask_hub`.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    place = {"cache_dir": options.get("cache_dir"), "revision": revision}
    repository, path, unknown = OLD_NAMES.get(checkpoint, checkpoint), None, names
    what = f"{checkpoint!r}, revision {revision or 'main'}"
    if local_files_only or not options.get("force_download"):
        try:
            found = {name: try_to_load_from_cache(repository, name, **place) for name in names}
        except HFValidationError as error:
            raise explain(error, f"{what}, file {names[0]}") from error
        path = next((Path(x) for x in found.values() if isinstance(x, str)), None)
        unknown = [name for name in names if found[name] is None]
        if path is None and unknown and not local_files_only:
            revision = commit_in_cache(repository, **place) or revision
    if path is None and not local_files_only:
        path = ask_hub(checkpoint, unknown, revision, **options)
    if path is None:
        where = "the cache lacks" if local_files_only else "it holds none of"
        raise FileNotFoundError(
            f"no checkpoint {what}: {where} {', '.join(names)}; pass another, or load it once "
            "with force_download=True"
        )
    return path
