"""Models to the hub and back, against a stand-in of our own."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

hub_library = pytest.importorskip("huggingface_hub", reason='THE HUB IS NOT TESTED: pip install "harkback[hub]"')

from huggingface_hub import HfApi, constants  # noqa: E402

from harkback.errors import HarkbackError  # noqa: E402
from harkback.hub import pull, push  # noqa: E402
from stand_in_hub import StandInHub, forget_connections, stand_in_hub  # noqa: E402

#: The library's own, of its HTTP client, where it puts a large file.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "anna/rover"
FILES = ("README.md", "model.json", "model.safetensors", "memory.safetensors", "ledger/0001.safetensors")
PAGE = "https://huggingface.co"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInHub]:
    with stand_in_hub(tmp_path / "home", monkeypatch) as server:
        yield server


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model's folder, with what is nobody's business beside its files."""
    folder = tmp_path / "rover"
    for number, name in enumerate((*FILES, ".lock", "history/0001/model.json", "notes.txt", "model.pkl")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bytes([number, 0, 255]) * (number + 1) + name.encode())
    (folder / "README.md").write_text("---\nlibrary_name: harkback\n---\n# rover\n")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def sent(folder: Path, files: Sequence[str] = FILES, **options: Any) -> str:
    return push(folder, REPO, files=files, message="Taught with Harkback", **options)


def complaint(job: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(HarkbackError) as raised:
        job(*arguments, **options)
    line = str(raised.value)
    assert "\n" not in line and "hf_right" not in line and len(line) < 400
    return line


# ---- there and back -------------------------------------------------------------------------------------------------


def test_what_is_pulled_is_what_was_pushed_byte_for_byte(hub: StandInHub, model: Path, tmp_path: Path) -> None:
    address = sent(model)
    assert address == f"{hub.address}/{REPO}"
    pull(REPO, tmp_path / "there" / "again")
    assert contents(tmp_path / "there" / "again") == {name: (model / name).read_bytes() for name in FILES}
    assert [each.name for each in (tmp_path / "there").iterdir()] == ["again"]
    assert hub.repositories[REPO].private and hub.repositories[REPO].messages[1:] == ["Taught with Harkback"]
    assert all(agent.startswith("harkback/") and ";" not in agent for agent in hub.agents)


def test_an_empty_folder_is_filled(hub: StandInHub, model: Path, tmp_path: Path) -> None:
    sent(model)
    (tmp_path / "new").mkdir()
    pull(REPO, tmp_path / "new")
    assert set(contents(tmp_path / "new")) == set(FILES)


def test_a_second_push_is_one_commit_that_sends_what_changed_and_removes_what_is_gone(
    hub: StandInHub, model: Path, tmp_path: Path
) -> None:
    sent(model)
    (model / "ledger/0002.safetensors").write_bytes(b"another session")
    (model / "model.json").write_bytes(b"{}")
    hub.asked.clear()
    kept = ["README.md", "model.json", "model.safetensors", "memory.safetensors", "ledger/0002.safetensors"]
    sent(model, kept)
    repository = hub.repositories[REPO]
    assert len(repository.commits) == 3 and hub.count("POST /api/models/anna/rover/commit") == 1
    assert set(repository.files) == {".gitattributes", *kept}
    assert hub.count("PUT /blobs/") == 1
    pull(REPO, tmp_path / "new")
    assert contents(tmp_path / "new") == {name: (model / name).read_bytes() for name in kept}
    assert "ledger/0001.safetensors" in repository.commits[1]  # What was deleted is in the history.


def test_a_history_to_be_forgotten_is_squashed(hub: StandInHub, model: Path, tmp_path: Path) -> None:
    sent(model)
    kept = [name for name in FILES if not name.startswith("ledger")]
    sent(model, kept, forget_history=True)
    (only,) = hub.repositories[REPO].commits
    assert set(only) == {".gitattributes", *kept}
    pull(REPO, tmp_path / "new")
    assert set(contents(tmp_path / "new")) == set(kept)


def test_pushing_the_same_again_makes_no_commit(hub: StandInHub, model: Path) -> None:
    assert sent(model) == sent(model)
    assert len(hub.repositories[REPO].commits) == 2


def test_a_public_repository_stays_public(hub: StandInHub, model: Path) -> None:
    HfApi(endpoint=hub.address).create_repo(REPO, private=False)
    sent(model)
    assert not hub.repositories[REPO].private


def test_an_older_revision_can_be_had(hub: StandInHub, model: Path, tmp_path: Path) -> None:
    sent(model)
    former = hub.repositories[REPO].name_of(1)
    sent(model, FILES[:4])
    pull(REPO, tmp_path / "old", revision=former)
    assert set(contents(tmp_path / "old")) == set(FILES)


def test_nothing_comes_that_is_no_part_of_a_model(hub: StandInHub, model: Path, tmp_path: Path) -> None:
    sent(model)
    strange = [
        "model.pkl",
        "pytorch_model.bin",
        "model.safetensors.pkl",
        "deep/er/x.safetensors",
        "../x.safetensors",
        ".safetensors",
        "handler.py",
        "ledger/.x.safetensors",
    ]
    hub.repositories[REPO].commits[-1].update(dict.fromkeys(strange, b"do not touch"))
    hub.asked.clear()
    pull(REPO, tmp_path / "new")
    assert set(contents(tmp_path / "new")) == set(FILES)
    fetched = {each.partition("/resolve/")[2].partition("/")[2] for each in hub.asked if "/resolve/" in each}
    assert fetched == set(FILES)


# ---- what is refused before anything is sent ------------------------------------------------------------------------


@pytest.mark.parametrize("name", [".lock", "history/0001/model.json", "notes.txt", "model.pkl", "/model.json", "../x"])
def test_what_is_no_file_of_a_model_is_not_pushed(hub: StandInHub, model: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no file of a model"):
        sent(model, [*FILES, name])
    assert hub.asked == []


def test_a_missing_file(hub: StandInHub, model: Path) -> None:
    line = complaint(sent, model, [*FILES, "ledger/0009.safetensors"])
    assert line.startswith(f"{model}/ledger/0009.safetensors: is missing") and hub.asked == []


@pytest.mark.parametrize(
    "name", ["", "rover", "a/b/c", "anna/rover@main", "https://huggingface.co/anna/rover", "a b/c"]
)
def test_a_name_that_is_none(hub: StandInHub, model: Path, tmp_path: Path, name: str) -> None:
    for line in (
        complaint(push, model, name, files=FILES, message="x"),
        complaint(pull, name, tmp_path / "new"),
    ):
        assert "is no name on the hub; give owner/name" in line
    assert hub.asked == [] and not (tmp_path / "new").exists()


def test_without_the_library(hub: StandInHub, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert 'pip install "harkback[hub]"' in complaint(sent, model)
    assert 'pip install "harkback[hub]"' in complaint(pull, REPO, tmp_path / "new")


def test_offline(hub: StandInHub, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in complaint(sent, model)
    assert "HF_HUB_OFFLINE is set" in complaint(pull, REPO, tmp_path / "new")
    assert hub.asked == []


def test_what_is_no_model_is_not_replaced(hub: StandInHub, model: Path) -> None:
    HfApi(endpoint=hub.address).create_repo(REPO)
    hub.repositories[REPO].commits[-1].update({"README.md": b"", "weights.bin": b"precious"})
    line = complaint(sent, model)
    assert "holds 2 files and is no Harkback model" in line and "new repository" in line
    assert "weights.bin" in hub.repositories[REPO].files and len(hub.repositories[REPO].commits) == 1
    del hub.repositories[REPO].commits[-1]["weights.bin"]
    sent(model)  # A repository that somebody made on the hub's page has a card at most.


# ---- what goes wrong while pushing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "status", "headers", "words"),
    [
        ("/api/repos/create", 403, {"X-Error-Message": "You don't have the rights"}, ["may not write", "the rights"]),
        ("/commit/", 403, {"X-Error-Message": "Forbidden"}, ["may not write there", f"{PAGE}/settings/tokens"]),
        ("/commit/", 412, {}, ["somebody else pushed", "push again"]),
        ("/commit/", 400, {"X-Error-Message": "too many files"}, ["refuses (400)", "too many files", f"{PAGE}/{REPO}"]),
        ("PUT /blobs/", 500, {}, ["in trouble (500)", "push again later"]),
        ("/preupload/", 429, {}, ["too many requests (429)", "wait"]),
        ("GET /api/models", 503, {}, ["in trouble (503)"]),
    ],
)
def test_refusals_of_a_push(
    hub: StandInHub, model: Path, request_: str, status: int, headers: dict[str, str], words: list[str]
) -> None:
    sent(model)
    before = len(hub.repositories[REPO].commits)
    (model / "model.safetensors").write_bytes(b"changed")
    hub.refusals[request_] = status, headers
    if request_ == "/api/repos/create":  # Else the library finds that the repository is there, and goes on.
        hub.refusals["GET /api/models"] = 404, {"X-Error-Code": "RepoNotFound"}
    line = complaint(sent, model)
    assert line.startswith(f"{REPO}: ") and all(word in line for word in words), line
    assert len(hub.repositories[REPO].commits) == before


def test_a_push_in_the_meantime_is_not_overwritten(
    hub: StandInHub, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent(model)
    plain = HfApi.create_commit

    def later(self: HfApi, *arguments: Any, **options: Any) -> Any:
        hub.repositories[REPO].commits.append({**hub.repositories[REPO].files, "model.json": b"theirs"})
        hub.repositories[REPO].messages.append("theirs")
        return plain(self, *arguments, **options)

    monkeypatch.setattr(HfApi, "create_commit", later)
    (model / "model.json").write_bytes(b"ours")
    assert "somebody else pushed" in complaint(sent, model)
    assert hub.repositories[REPO].files["model.json"] == b"theirs"


def test_tokens(hub: StandInHub, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent(model)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    for line in (complaint(sent, model), complaint(pull, REPO, tmp_path / "new")):
        assert "does not accept your token" in line and "hf_wrong" not in line
    monkeypatch.delenv("HF_TOKEN")
    assert "nobody is logged in here; `hf auth login`" in complaint(sent, model)
    line = complaint(pull, REPO, tmp_path / "new")  # Private: to the world it is not there.
    assert "no such model on the hub" in line and "`hf auth login`" in line
    assert not (tmp_path / "new").exists()


def test_a_squash_that_fails_says_that_the_push_did_not(hub: StandInHub, model: Path) -> None:
    sent(model)
    hub.refusals["super-squash"] = 403, {"X-Error-Message": "not allowed"}
    line = complaint(sent, model, FILES[:4], forget_history=True)
    assert "was pushed, but its older revisions are still there" in line and "not allowed" in line
    assert set(hub.repositories[REPO].files) == {".gitattributes", *FILES[:4]}


def test_out_of_reach(hub: StandInHub, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    for line in (complaint(sent, model), complaint(pull, REPO, tmp_path / "new")):
        assert f"cannot be reached at http://127.0.0.1:{port}" in line and "check the connection" in line
    assert not (tmp_path / "new").exists()


# ---- what goes wrong while pulling ----------------------------------------------------------------------------------


def test_what_is_there_is_not_replaced(hub: StandInHub, model: Path, tmp_path: Path) -> None:
    sent(model)
    hub.asked.clear()
    before = contents(model)
    assert "is there already; give a folder that is new or empty" in complaint(pull, REPO, model)
    assert "is there already" in complaint(pull, REPO, model / "notes.txt")
    assert contents(model) == before and hub.asked == []


def test_a_download_that_breaks_off_leaves_nothing(hub: StandInHub, model: Path, tmp_path: Path) -> None:
    sent(model)
    hub.cut = "model.safetensors"
    line = complaint(pull, REPO, tmp_path / "new")
    assert "check the connection" in line
    assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".new*"))
    hub.cut = ""
    pull(REPO, tmp_path / "new")
    assert set(contents(tmp_path / "new")) == set(FILES)


def test_who_stops_a_download_finds_nothing(
    hub: StandInHub, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent(model)
    plain, done = HfApi.hf_hub_download, []

    def stopped(self: HfApi, *arguments: Any, **options: Any) -> Any:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(plain(self, *arguments, **options))

    monkeypatch.setattr(HfApi, "hf_hub_download", stopped)
    (tmp_path / "new").mkdir()
    with pytest.raises(KeyboardInterrupt):
        pull(REPO, tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == [] and not list(tmp_path.glob(".new*"))


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (
            403,
            {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted."},
            ["is gated", f"{PAGE}/{REPO}"],
        ),
        (404, {"X-Error-Code": "RepoNotFound"}, ["no such model on the hub", "anna/rover"]),
        (503, {}, ["in trouble (503)", f"`hf download {REPO} --local-dir DIR`"]),
        (429, {}, ["too many requests"]),
    ],
)
def test_refusals_of_a_pull(
    hub: StandInHub, model: Path, tmp_path: Path, status: int, headers: dict[str, str], words: list[str]
) -> None:
    hub.refusals["GET /api/models"] = status, headers
    line = complaint(pull, REPO, tmp_path / "new")
    assert line.startswith(f"{REPO}: ") and all(word in line for word in words), line
    assert "no such folder here" not in line and "--model" not in line
    assert not (tmp_path / "new").exists()


def test_another_revision_and_what_is_no_model(hub: StandInHub, model: Path, tmp_path: Path) -> None:
    sent(model)
    assert f'{REPO}@v9: has no revision "v9"' in complaint(pull, REPO, tmp_path / "new", revision="v9")
    del hub.repositories[REPO].commits[-1]["model.json"]
    hub.asked.clear()
    assert "is no Harkback model: it has no model.json" in complaint(pull, REPO, tmp_path / "new")
    assert hub.count("/resolve/") == 0 and not (tmp_path / "new").exists()


def test_a_disk_that_is_full_or_closed(
    hub: StandInHub, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent(model)

    def full(*arguments: Any, **options: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(HfApi, "hf_hub_download", full)
    assert f"{tmp_path}/new: No space left on device; free some space" == complaint(pull, REPO, tmp_path / "new")
    (tmp_path / "file").touch()
    line = complaint(pull, REPO, tmp_path / "file" / "new")
    assert line.startswith(f"{tmp_path}/file/new: ") and "choose another folder" in line


def test_a_file_that_goes_while_it_is_pushed(hub: StandInHub, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*arguments: Any, **options: Any) -> Any:
        return (model / "gone").read_bytes()

    monkeypatch.setattr(HfApi, "create_commit", gone)
    assert complaint(sent, model) == f"{model}/gone: No such file or directory; check the folder"


def test_the_stand_in_is_left_alone_afterwards() -> None:
    """No connection of one test may reach the hub of another."""
    forget_connections()
    assert not constants.ENDPOINT.startswith("http://127.0.0.1:")
