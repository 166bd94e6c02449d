"""What the app holds in memory: one model, however often it changed and whatever was asked of those before."""

from __future__ import annotations

import gc
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from weakref import WeakSet

import pytest

import misdeeds
from app_client import SOON, Server, form, parts, served
from fakes import tone
from harkback.app import asking
from harkback.app.programs import LINES
from harkback.learners.ncm import NCM
from harkback.teaching import Making, teach
from patience import until


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of two classes, and with clips of a third."""
    root = tmp_path_factory.mktemp("memory")
    for name, pitch in {"low": 200, "high": 1500, "middle": 600}.items():
        for i in range(4):
            tone(root / name / f"{i}.wav", pitch + 5 * i)
    teach(root / "model", root, classes=("low", "high"), making=Making(learner="ncm", memory=8), pictures=False)
    return root


@pytest.fixture
def uncollected() -> Iterator[None]:
    """In a large program the collector looks at old objects once in many minutes."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def answer(server: Server, base: Path) -> None:
    assert server.client.predict(base / "middle" / "0.wav").status == 200


def answer_in_lines(server: Server, base: Path) -> None:
    said = server.client.send("/predict", parts(base / "middle" / "0.wav"), accept=LINES)
    assert said.lines[-1] == {"done": True}


def refuse(server: Server, base: Path) -> None:
    assert server.client.predict(b"no film", "clip.mp4").status == 422


def refuse_what_ends_early(server: Server, base: Path) -> None:
    assert server.client.predict((base / "middle" / "0.wav").read_bytes()[:60], "clip.wav").status == 422


def refuse_in_lines(server: Server, base: Path) -> None:
    assert server.client.send("/predict", parts(b"no film", "clip.mp4"), accept=LINES).status == 422


def break_in_the_middle(server: Server, base: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asking, "read", misdeeds.begins_and_aborts)
        said = server.client.send("/predict", parts(base / "middle" / "0.wav"), accept=LINES)
        assert "error" in said.lines[-1]
        assert server.client.predict(base / "middle" / "0.wav").status == 422


def read_no_window(server: Server, base: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asking, "read", misdeeds.reads_no_window)
        said = server.client.predict(base / "middle" / "0.wav", "a.wav")
    assert said.status == 422 and said.error == "a.wav: is damaged; convert it"


def go_away(server: Server, base: Path) -> None:
    body, kind = form(parts(tone(server.temporary / "long.wav", 500, seconds=60), window=0.1))
    head = f"POST /predict HTTP/1.1\r\nhost: localhost\r\naccept: {LINES}\r\ncontent-type: {kind}\r\n"
    with socket.create_connection(("127.0.0.1", server.client.port)) as line:
        line.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        said = b""
        while b'"windows"' not in said:
            said += line.recv(1 << 16)
    assert server.swept()


def weigh(server: Server, base: Path) -> None:
    word = server.client.taught("middle", sorted((base / "middle").iterdir()), dry_run="true")
    assert word["state"] == "asking"
    assert server.client.ask("DELETE", f"/lessons/{word['id']}").status == 200


def fail_to_change(server: Server, base: Path) -> None:
    assert server.client.post("/forget", {"name": "nobody"}).status == 409
    assert server.client.post("/undo", {}).status == 409


def look(server: Server, base: Path) -> None:
    for path in ("/", "/model", "/knows"):
        assert server.client.get(path).status == 200


WAYS = (
    answer, answer_in_lines, refuse, refuse_what_ends_early, refuse_in_lines, break_in_the_middle, read_no_window,
    go_away, weigh, fail_to_change, look,
)  # fmt: skip


def learners() -> WeakSet[NCM]:
    return WeakSet(each for each in gc.get_objects() if type(each) is NCM)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_model_that_has_changed_is_not_kept(
    base: Path, tmp_path: Path, uncollected: None, way: Callable[[Server, Path], None]
) -> None:
    model = Path(shutil.copytree(base / "model", tmp_path / "rover"))
    others = learners()  # Of other tests.
    with served(model, tmp_path / "temporary", pictures=False) as server:
        before = learners() - others
        assert before
        way(server, base)
        taught = server.client.taught("middle", sorted((base / "middle").iterdir()), force="true")
        assert taught["state"] == "done" and server.client.get("/model").json["version"] == 2
        assert until(lambda: not before, SOON)
