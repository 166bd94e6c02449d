"""Models from the hub, against a small hub of our own: what is fetched, and what people are told when it is not."""

from __future__ import annotations

import errno
import hashlib
import json
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

hub = pytest.importorskip("huggingface_hub", reason='THE HUB IS NOT TESTED: pip install "harkback[hub]"')

from huggingface_hub import constants, file_download, utils  # noqa: E402

from harkback.encoders import _hub  # noqa: E402
from harkback.encoders._hub import cached, hub_facts, model_folder  # noqa: E402
from harkback.errors import HarkbackError  # noqa: E402

MODEL = "owner/tiny"
FILES = ("config.json", ("checkpoint.pt", "model.safetensors", "model.safetensors.index.json"))
OLD, NEW = "a" * 40, "b" * 40
INDEX = {
    "weight_map": {"x": "model-1-of-2.safetensors", "y": "model-2-of-2.safetensors", "z": "model-1-of-2.safetensors"}
}


class Answers(BaseHTTPRequestHandler):
    server: SmallHub

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        here, path = self.server, unquote(self.path)
        here.asked.append((self.command, path))
        here.agents.add(self.headers["User-Agent"])
        model, _, rest = path.lstrip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        status, headers, body = 200, {"X-Repo-Commit": here.commit}, here.files.get(name, b"")
        if here.refusal and here.refusal[0] in (self.command, "*"):
            status, headers, body = here.refusal[1], here.refusal[2], b""
        elif model != MODEL:
            status, headers = 401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Invalid username or password."}
        elif revision not in ("main", OLD, NEW):
            status, headers = 404, {"X-Error-Code": "RevisionNotFound"}
        elif name not in here.files:
            status, headers = 404, {"X-Error-Code": "EntryNotFound", **headers}
        else:
            headers["ETag"] = f'"{hashlib.sha1(body).hexdigest()}"'
            if name in here.sizes:
                headers["X-Linked-Size"] = str(here.sizes[name])
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *words: Any) -> None:
        pass


class SmallHub(ThreadingHTTPServer):
    """Speaks as much of the hub's language as a download needs, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.files = {"config.json": b"{}", "checkpoint.pt": b"tensors", "README.md": b"words", "big.bin": b"0" * 999}
        self.sizes: dict[str, int] = {}
        self.commit = NEW
        self.refusal: tuple[str, int, dict[str, str]] | None = None  # method, status, headers
        self.asked: list[tuple[str, str]] = []
        self.agents: set[str] = set()

    def fetched(self) -> list[str]:
        return sorted(path.rpartition("/")[2] for method, path in self.asked if method == "GET")


def forget_connections() -> None:
    """The library keeps one session for all requests; it would outlive the hub of its test."""
    close = getattr(utils, "close_session", None) or utils.reset_sessions
    close()


@pytest.fixture
def small_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallHub]:
    server = SmallHub()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    aim(f"http://127.0.0.1:{server.server_port}", tmp_path / "home", monkeypatch)
    yield server
    forget_connections()
    server.shutdown()
    server.server_close()


def aim(endpoint: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HF_ENDPOINT and HF_HOME do, for a library that is imported already."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    for module in (constants, file_download):  # Where it is looked up differs between versions.
        address = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", address, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # Some versions try again by themselves, ever later.
    # Or some versions would first ask for a list of programs that they report the use of.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    forget_connections()


def folder_of(model: str | Path, sibling: str | None = None, files: Any = FILES) -> Path:
    return model_folder(model, files, kind="Tiny", example="owner/example", open_sibling=sibling)


def complaint(model: str | Path = MODEL, sibling: str | None = None) -> str:
    with pytest.raises(HarkbackError) as raised:
        folder_of(model, sibling)
    line = str(raised.value)
    assert "\n" not in line and len(line) < 400
    return line


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# What comes, and what does not


def test_only_the_named_files_come_and_the_second_time_nobody_is_asked(small_hub: SmallHub) -> None:
    folder = folder_of(MODEL)
    assert names(folder) == {"config.json", "checkpoint.pt"} and folder.name == NEW
    assert (folder / "checkpoint.pt").read_bytes() == b"tensors"
    assert small_hub.fetched() == ["checkpoint.pt", "config.json"]
    small_hub.asked.clear()
    assert folder_of(MODEL) == folder_of(f"{MODEL}@{NEW}") == folder_of(Path(MODEL)) == folder
    assert cached(MODEL, FILES) == folder and cached("owner/other", FILES) is None
    assert small_hub.asked == []


def test_the_hub_learns_nothing_of_this_machine(small_hub: SmallHub) -> None:
    folder_of(MODEL)
    assert all(agent.startswith("harkback/") and ";" not in agent for agent in small_hub.agents)


def test_the_first_alternative_that_is_there_is_taken(small_hub: SmallHub) -> None:
    small_hub.files["model.safetensors"] = b"more tensors"
    assert names(folder_of(MODEL)) == {"config.json", "checkpoint.pt"}
    del small_hub.files["checkpoint.pt"]
    small_hub.commit = OLD
    assert names(folder_of(f"{MODEL}@{OLD}")) == {"config.json", "model.safetensors"}


@pytest.mark.parametrize("under", ["", "model/"])
def test_an_index_brings_its_shards(small_hub: SmallHub, under: str) -> None:
    shards = {f"{under}model-{i}-of-2.safetensors": bytes([i]) for i in (1, 2)}
    index = f"{under}model.safetensors.index.json"
    small_hub.files = {"config.json": b"{}", index: json.dumps(INDEX).encode(), **shards}
    files = ("config.json", (f"{under}model.safetensors", index))
    folder = folder_of(MODEL, files=files)
    assert names(folder) == {"config.json", index, *shards}
    small_hub.asked.clear()
    assert folder_of(MODEL, files=files) == folder and small_hub.asked == []
    (folder / f"{under}model-2-of-2.safetensors").unlink()
    assert cached(MODEL, files) is None
    assert folder_of(MODEL, files=files) == folder and set(shards) < names(folder)


@pytest.mark.parametrize("body", ["{}", "[]", '{"weight_map": {"x": "../../config.json"}}', '{"weight_map": {"x": 1}}'])
def test_an_index_that_names_no_plain_files_is_refused(small_hub: SmallHub, body: str) -> None:
    small_hub.files = {"config.json": b"{}", "model.safetensors.index.json": body.encode()}
    assert "names no files of tensors" in complaint()


def test_a_damaged_index_comes_again_once_it_is_deleted_as_told(small_hub: SmallHub) -> None:
    small_hub.files = {"config.json": b"{}", "model.safetensors.index.json": b"{", "one.safetensors": b"1"}
    line = complaint()
    assert "is damaged" in line and "delete it" in line
    small_hub.files["model.safetensors.index.json"] = b'{"weight_map": {"x": "one.safetensors"}}'
    Path(line.partition(": is damaged")[0]).unlink()
    assert "one.safetensors" in names(folder_of(MODEL))


def test_all_files_are_of_one_commit_and_a_cache_cut_short_is_not_taken_for_whole(small_hub: SmallHub) -> None:
    small_hub.commit = OLD
    old = folder_of(MODEL)
    small_hub.commit, small_hub.files["checkpoint.pt"] = NEW, b"newer"
    assert folder_of(MODEL) == old  # What is here is used; nobody looks for news.
    (old / "checkpoint.pt").unlink()
    small_hub.refusal = ("GET", 503, {})
    complaint()
    assert cached(MODEL, FILES) is None
    small_hub.refusal = None
    new = folder_of(MODEL)
    assert new.name == NEW and (new / "checkpoint.pt").read_bytes() == b"newer" and cached(MODEL, FILES) == new


def test_a_folder_is_taken_as_it_is(small_hub: SmallHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owner" / "tiny").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert folder_of(MODEL) == Path(MODEL)
    assert folder_of("~/owner/tiny") == tmp_path / "owner" / "tiny" == folder_of(tmp_path / "owner" / "tiny")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert folder_of(MODEL) == Path(MODEL)
    assert small_hub.asked == []


# What people are told


@pytest.mark.parametrize(
    "text", ["", "./m", "/no/such", "~/no-such", "~nobody-here/m", "a\\b", "C:/m", "one", "a/b/c", "a/b/", "a/b c"]
)
def test_what_looks_like_a_path_is_a_path(small_hub: SmallHub, text: str) -> None:
    line = complaint(text)
    assert "there is no such folder" in line and "owner/example" in line
    assert small_hub.asked == []


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").touch()
    assert f"is a file; give the folder that it is in: {tmp_path}" in complaint(tmp_path / "checkpoint.pt")
    assert "check the path" in complaint("/" + "x" * 300)


def test_without_the_library(small_hub: SmallHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert 'pip install "harkback[hub]"' in complaint() and small_hub.asked == []
    assert cached(MODEL, FILES) is None and "harkback[hub]" in hub_facts()["library"]


GATED = {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to model owner/tiny is restricted."}
PENDING = {**GATED, "X-Error-Message": "Your request to access model owner/tiny is awaiting a review from the authors."}
REJECTED = {**GATED, "X-Error-Message": "Your request to access model owner/tiny has been rejected by the authors."}
FINE = {"X-Error-Message": "Please enable access to public gated repositories in your fine-grained token settings."}
WRONG = {"X-Error-Message": "Invalid credentials in Authorization header"}
EXPIRED = {"X-Error-Message": 'User Access Token "x" is expired'}
PAGE = "https://huggingface.co/owner/tiny"


@pytest.mark.parametrize(
    ("status", "headers", "token", "words"),
    [
        (401, GATED, None, ["is gated", f"open {PAGE}, ask for access there, then `hf auth login`"]),
        (403, GATED, None, ["is gated", f"open {PAGE}, ask for access there, then `hf auth login`"]),
        (403, GATED, "t", ["no access yet", f'open {PAGE} and click "Request access"', "mail of approval"]),
        (403, PENDING, "t", ["not answered yet", "wait for the mail of approval"]),
        (403, REJECTED, "t", ["rejected", f"{PAGE}/discussions"]),
        (403, FINE, "t", ["may not read gated models", "https://huggingface.co/settings/tokens"]),
        (401, WRONG, "t", ["does not accept your token", "`hf auth login` again"]),
        (401, EXPIRED, "t", ["does not accept your token", "`hf auth login` again"]),
        (404, {"X-Error-Code": "RepoNotFound"}, "t", ["no such model on the hub", "spelling", "owner/example"]),
        (429, {"Retry-After": "60"}, None, ["too many requests", "wait", "`hf auth login` allows more"]),
        (429, {}, "t", ["too many requests", "wait some minutes"]),
        (500, {}, None, ["the hub is in trouble (500)", "try later"]),
        (503, {}, None, ["the hub is in trouble (503)", "hf download owner/tiny config.json checkpoint.pt"]),
        (403, {"X-Error-Message": "Access to this resource is disabled."}, "t", ["the hub refuses (403)", "disabled"]),
        (200, {}, None, ["is not the hub", "login or a proxy", "HF_ENDPOINT"]),
    ],
)
def test_refusals(
    small_hub: SmallHub,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    headers: dict[str, str],
    token: str | None,
    words: list[str],
) -> None:
    if token:
        Path(constants.HF_TOKEN_PATH).parent.mkdir()
        Path(constants.HF_TOKEN_PATH).write_text("hf_secret")
    small_hub.refusal = ("*", status, headers)
    line = complaint()
    assert line.startswith("owner/tiny: ") and all(word in line for word in words), line
    assert "hf_secret" not in line and set(small_hub.asked) == {("HEAD", "/owner/tiny/resolve/main/config.json")}


def test_a_wrong_token_in_the_environment(small_hub: SmallHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    small_hub.refusal = ("*", 401, WRONG)
    line = complaint()
    assert "put it in HF_TOKEN" in line and "auth login" not in line and "hf_secret" not in line


def test_the_open_sibling_is_named_where_the_gate_is_shut(small_hub: SmallHub) -> None:
    small_hub.refusal = ("*", 401, GATED)
    assert "or use `--model owner/open`, open to all" in complaint(sibling="`--model owner/open`")
    assert "open to all" not in complaint()
    small_hub.refusal = ("*", 500, {})
    assert "open to all" not in complaint(sibling="`--model owner/open`")


def test_misspelt_another_model_or_another_revision(small_hub: SmallHub) -> None:
    line = complaint("owner/tyni")
    assert "no such folder here, and no such model on the hub" in line and "`hf auth login`" in line
    assert f'owner/tiny@v9: has no revision "v9"; choose one at {PAGE}/tree/main' == complaint(f"{MODEL}@v9")
    del small_hub.files["checkpoint.pt"]
    line = complaint()
    assert "is no Tiny model: it has no checkpoint.pt or model.safetensors" in line and "owner/example" in line
    assert small_hub.fetched() == []


def test_out_of_reach(small_hub: SmallHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = folder_of(MODEL)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    aim(f"http://127.0.0.1:{port}", tmp_path / "home", monkeypatch)
    assert folder_of(MODEL) == folder
    line = complaint("owner/other@v1")
    assert f"cannot be reached at http://127.0.0.1:{port}, or the connection broke ([Errno " in line
    assert "`hf download owner/other config.json checkpoint.pt --revision v1 --local-dir DIR`" in line
    assert "`--model DIR`" in line


def test_offline(small_hub: SmallHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    line = complaint()
    assert "HF_HUB_OFFLINE is set; unset it, or `hf download owner/tiny" in line
    assert small_hub.asked == [] and "offline" in hub_facts()["library"]


def test_a_disk_too_small_is_told_before_anything_comes(small_hub: SmallHub) -> None:
    small_hub.sizes["checkpoint.pt"] = 10**17
    line = complaint()
    assert "needs 100000000.0 GB on the disk of" in line and "are free; free some, or set HF_HUB_CACHE" in line
    assert small_hub.fetched() == []


def test_what_is_already_here_needs_no_room(small_hub: SmallHub, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of(MODEL)
    (folder / "config.json").resolve().unlink()
    monkeypatch.setattr(_hub, "_free", lambda folder: len(b"{}"))
    assert folder_of(MODEL) == folder
    (folder / "checkpoint.pt").resolve().unlink()
    assert "needs 0.0 GB" in complaint()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "x"), ["No space left on device", "free some space", "HF_HUB_CACHE"]),
        (RuntimeError("I/O error: No space left on device (os error 28)"), ["No space left", "free some space"]),
        (PermissionError(errno.EACCES, "x"), ["Permission denied", "set HF_HUB_CACHE to a folder of yours"]),
        (OSError("Consistency check failed"), ["the connection broke (Consistency check failed)", "try again"]),
        (TimeoutError(), ["cannot be reached", "(TimeoutError)", "try again"]),
        (ValueError("first\n\nlast\n"), ["(last)"]),
    ],
)
def test_what_happens_on_the_way(
    small_hub: SmallHub, monkeypatch: pytest.MonkeyPatch, error: Exception, words: list[str]
) -> None:
    def breaks(*args: Any, **options: Any) -> str:
        raise error

    monkeypatch.setattr(hub, "hf_hub_download", breaks)
    line = complaint()
    assert all(word in line for word in words), line


def test_the_hub_fails_in_the_middle(small_hub: SmallHub) -> None:
    small_hub.refusal = ("GET", 503, {})
    assert "the hub is in trouble (503)" in complaint()


def test_a_cache_that_cannot_be_written(small_hub: SmallHub) -> None:
    Path(constants.HF_HUB_CACHE).parent.mkdir()
    Path(constants.HF_HUB_CACHE).touch()
    assert "set HF_HUB_CACHE to a folder of yours" in complaint()


def test_who_stops_a_download_has_stopped_it(small_hub: SmallHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*args: Any, **options: Any) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(hub, "hf_hub_download", stopped)
    with pytest.raises(KeyboardInterrupt):
        folder_of(MODEL)


def test_facts_ask_nobody_and_keep_the_token_to_themselves(
    small_hub: SmallHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "`hf auth login`" in hub_facts()["token"] and "GB free" in hub_facts()["cache"]
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    facts = hub_facts()
    assert facts["token"] == "there, in HF_TOKEN" and "hf_secret" not in str(facts)
    monkeypatch.delenv("HF_TOKEN")
    place = Path(constants.HF_TOKEN_PATH)
    place.parent.mkdir()
    place.write_text("hf_secret")
    assert hub_facts()["token"] == f"there, in {place}" and small_hub.asked == []
