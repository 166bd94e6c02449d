"""A hub of our own on 127.0.0.1: repositories that can be made, committed to, squashed and read."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants, file_download, utils

TOKEN = "hf_right"


@dataclass
class Repository:
    private: bool
    commits: list[dict[str, bytes]] = field(default_factory=lambda: [{".gitattributes": b"*.safetensors lfs"}])
    messages: list[str] = field(default_factory=lambda: ["initial commit"])

    def name_of(self, number: int) -> str:
        """A commit's name; it depends on all before it."""
        past = [sorted((name, len(body), hash(body)) for name, body in files.items()) for files in self.commits]
        return hashlib.sha1(repr((past[: number + 1], self.messages[: number + 1])).encode()).hexdigest()

    def number_of(self, revision: str) -> int | None:
        names = [self.name_of(number) for number in range(len(self.commits))]
        if revision == "main":
            return len(names) - 1
        return names.index(revision) if revision in names else None

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1]


class StandInHub(ThreadingHTTPServer):
    """Speaks as much of the hub's language as models need."""

    daemon_threads = True

    def __init__(self, blobs: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.blobs = blobs  #: folder of the large files
        self.repositories: dict[str, Repository] = {}
        self.asked: list[str] = []  #: "POST /path"
        self.agents: set[str] = set()
        self.refusals: dict[str, tuple[int, dict[str, str]]] = {}  #: part of "POST /path" -> status and headers
        self.cut: str = ""  #: the file whose download breaks off

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def count(self, request: str) -> int:
        return sum(request in each for each in self.asked)


class _Answers(BaseHTTPRequestHandler):
    server: StandInHub

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def do_PUT(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        request = f"{self.command} {path}"
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.asked.append(request)
        if not path.startswith("/blobs/"):  # There the library goes without any of our headers.
            self.server.agents.add(self.headers["User-Agent"])
        token = (self.headers["Authorization"] or "").removeprefix("Bearer ")
        refusal = next((each for part, each in self.server.refusals.items() if part in request), None)
        if refusal is not None:
            return self.refuse(*refusal)
        if token and token != TOKEN:
            return self.refuse(401, {"X-Error-Message": "Invalid credentials in Authorization header"})
        if path.startswith("/blobs/"):  # Where the batch told to put a large file; such places ask for no token.
            (self.server.blobs / path.removeprefix("/blobs/")).write_bytes(body)
            return self.say(b"")
        if self.command in ("POST", "PUT") and not token:
            return self.refuse(401, {"X-Error-Message": "Invalid username or password."})
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if path == "/api/validate-yaml":
            return self.tell({"errors": [], "warnings": []})
        return self.of_repository(path, body, bool(token))

    def create(self, wish: dict[str, Any]) -> None:
        name = f"{wish['organization']}/{wish['name']}"
        here = self.server.repositories
        there = name in here
        if not there:
            here[name] = Repository(wish.get("private") or wish.get("visibility") == "private")
        self.tell({"url": f"{self.server.address}/{name}"}, 409 if there else 200)

    def of_repository(self, path: str, body: bytes, known: bool) -> None:
        parts = path.removeprefix("/api/models").strip("/").split("/")
        name, rest = f"{parts[0]}/{parts[1].removesuffix('.git')}", parts[2:]
        repository = self.server.repositories.get(name)
        if repository is None or (repository.private and not known):
            return self.refuse(404 if known else 401, {"X-Error-Code": "RepoNotFound"})
        if not path.startswith("/api/"):
            return self.large(body) if rest[0] == "info" else self.resolve(repository, rest[1], "/".join(rest[2:]))
        if not rest or rest[0] == "revision":
            return self.info(name, repository, rest[1] if rest else "main")
        if rest[0] == "preupload":
            return self.preupload(repository, json.loads(body))
        if rest[0] == "commit":
            return self.commit(name, repository, [json.loads(line) for line in body.splitlines()])
        assert rest[0] == "super-squash", path
        repository.commits, repository.messages = repository.commits[-1:], [json.loads(body)["message"]]
        return self.say(b"")

    def info(self, name: str, repository: Repository, revision: str) -> None:
        number = repository.number_of(revision)
        if number is None:
            return self.refuse(404, {"X-Error-Code": "RevisionNotFound"})
        siblings = [{"rfilename": each} for each in sorted(repository.commits[number])]
        return self.tell({"id": name, "sha": repository.name_of(number), "siblings": siblings})

    def preupload(self, repository: Repository, wish: dict[str, Any]) -> None:
        files = []
        for each in wish["files"]:
            large = each["path"].endswith(".safetensors")
            held = repository.files.get(each["path"])
            oid = None if held is None else _oid(held, large)
            mode = "lfs" if large else "regular"
            files.append({"path": each["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self.tell({"files": files})

    def large(self, body: bytes) -> None:
        """The batch: which large files are here already, and where the others are to be put."""
        objects = []
        for each in json.loads(body)["objects"]:
            there = (self.server.blobs / each["oid"]).exists()
            upload = {"upload": {"href": f"{self.server.address}/blobs/{each['oid']}"}}
            objects.append({**each, **({} if there else {"actions": upload})})
        self.tell({"transfer": "basic", "objects": objects})

    def commit(self, name: str, repository: Repository, lines: list[dict[str, Any]]) -> None:
        head, *changes = lines
        newest = repository.name_of(len(repository.commits) - 1)
        if head["value"].get("parentCommit", newest) != newest:
            return self.refuse(412, {"X-Error-Message": "A commit has happened since. Please refresh and try again."})
        files = dict(repository.files)
        for change in changes:
            value = change["value"]
            if change["key"] == "deletedFile":
                del files[value["path"]]
            elif change["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            else:
                assert change["key"] == "lfsFile"
                files[value["path"]] = (self.server.blobs / value["oid"]).read_bytes()
        repository.commits.append(files)
        repository.messages.append(head["value"]["summary"])
        made = repository.name_of(len(repository.commits) - 1)
        return self.tell({"commitUrl": f"{self.server.address}/{name}/commit/{made}", "commitOid": made})

    def resolve(self, repository: Repository, revision: str, name: str) -> None:
        number = repository.number_of(revision)
        if number is None or name not in repository.commits[number]:
            return self.refuse(404, {"X-Error-Code": "EntryNotFound"})
        body = repository.commits[number][name]
        headers = {"X-Repo-Commit": repository.name_of(number), "ETag": f'"{hashlib.sha1(body).hexdigest()}"'}
        return self.say(body, headers, cut=name == self.server.cut)

    def tell(self, facts: dict[str, Any], status: int = 200) -> None:
        self.say(json.dumps(facts).encode(), {"Content-Type": "application/json"}, status)

    def refuse(self, status: int, headers: dict[str, str]) -> None:
        words = {"error": headers.get("X-Error-Message", "")}
        self.say(json.dumps(words).encode(), {**headers, "Content-Type": "application/json"}, status)

    def say(self, body: bytes, headers: dict[str, str] | None = None, status: int = 200, cut: bool = False) -> None:
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD" and not cut:
            self.wfile.write(body)
        self.close_connection = self.close_connection or cut

    def log_message(self, *words: Any) -> None:
        pass


def _oid(body: bytes, large: bool) -> str:
    """A file's name by its content, as git names it, or its large-file store."""
    return hashlib.sha256(body).hexdigest() if large else hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


def forget_connections() -> None:
    """The library keeps one session for all requests; it would outlive the hub of its test."""
    close = getattr(utils, "close_session", None) or utils.reset_sessions
    close()


@contextmanager
def stand_in_hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInHub]:
    """The hub, and the library aimed at it: what HF_ENDPOINT, HF_HOME and HF_TOKEN do, for one imported already."""
    home.mkdir()
    server = StandInHub(home)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    for module in (constants, file_download):  # Where it is looked up differs between versions.
        address = server.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", address, raising=False)
    for name, value in {
        "ENDPOINT": server.address,
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": False,
        "HF_HUB_DISABLE_TELEMETRY": True,
        "HF_HUB_DISABLE_XET": True,  # Its own server, which is no part of ours; what is asked of us is the same.
        "HF_HUB_DISABLE_PROGRESS_BARS": True,
    }.items():
        monkeypatch.setattr(constants, name, value, raising=False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # Some versions try again by themselves, ever later.
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    forget_connections()
    yield server
    forget_connections()
    server.shutdown()
    server.server_close()
