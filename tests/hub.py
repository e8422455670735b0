"""A small hub on this machine: a server that speaks the protocol of the real one."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.utils.sha import git_hash

import minigpt
from minigpt.hf.hub import OFFICIAL_NAME

TINY = Path(minigpt.__file__).parent / "assets" / "tiny"
FILES = {path.name: path.read_bytes() for path in TINY.iterdir()}
LARGE = "model.safetensors"  # the one whose ETag is a SHA-256
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Repositories in a dictionary; `requests` holds what was asked, as (method, path, range)."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repositories = {"me/tiny": FILES, OFFICIAL_NAME: FILES, "me/bare": {"README.md": b"-"}}
        self.main, self.commits = COMMIT, {COMMIT: self.repositories}
        self.requests, self.cut = [], None  # after so many bytes the next body is cut

    def push(self, repository: str, **files: bytes) -> None:
        """Change files of a repository (`_` for `.` in their names): `main` is a new commit."""
        new = {name.replace("_", "."): data for name, data in files.items()}
        self.main = COMMIT[::-1]
        self.commits[self.main] = {repository: self.repositories[repository] | new}

    def asked(self, method: str) -> list[str]:
        asked = [path for kind, path, _ in self.requests if kind == method and "/resolve/" in path]
        return [path.rsplit("/", 1)[1] for path in asked]


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def refuse(self, status: int, code: str = "") -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        if code == "EntryNotFound":
            self.send_header("X-Repo-Commit", self.commit)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def find(self) -> bytes | None:
        """Return the file that is asked for; if there is none, answer so."""
        if "/resolve/" not in self.path:  # the library asks for other things, too
            return self.refuse(404)
        repository, rest = self.path[1:].split("/resolve/")
        revision, name = rest.split("/", 1)
        token = self.headers.get("Authorization")
        if repository == "me/busy":
            return self.refuse(503)
        if repository == "me/private" and token == "Bearer wrong":
            return self.refuse(403)
        if repository == "me/gated" and token != "Bearer good":
            return self.refuse(401, "GatedRepo")
        self.commit = self.server.main if revision == "main" else revision
        repositories = self.server.commits.get(self.commit, self.server.repositories)
        files = FILES if token == "Bearer good" else repositories.get(repository)
        if files is None:  # whether it is unknown or private, the hub does not say
            answers = {"me/private": (401,), "me/mirror": (404,)}
            return self.refuse(*answers.get(repository, (404, "RepoNotFound")))
        if self.commit not in self.server.commits:
            return self.refuse(404, "RevisionNotFound")
        return files[name] if name in files else self.refuse(404, "EntryNotFound")

    def answer(self) -> None:
        self.server.requests.append((self.command, self.path, self.headers.get("Range")))
        if (body := self.find()) is None:
            return
        name = self.path.rsplit("/", 1)[1]
        etag = hashlib.sha256(body).hexdigest() if name == LARGE else git_hash(body)
        start = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        rest = body[int(start[1]) :] if start else body
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", self.commit)
        self.send_header("Content-Length", str(len(rest)))
        if start:
            place = f"{start[1]}-{len(body) - 1}/{len(body)}"
            self.send_header("Content-Range", f"bytes {place}")
        self.end_headers()
        if self.command == "GET":
            cut, self.server.cut = self.server.cut, None
            self.wfile.write(rest[:cut])
            self.close_connection = cut is not None

    do_GET = do_HEAD = answer


@contextmanager
def running_hub() -> Iterator[Hub]:
    server = Hub()
    threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def point_at(url: str, monkeypatch, cache: Path) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "no-token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
