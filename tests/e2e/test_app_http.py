"""The app over HTTP: it answers as `predict` does to the last digit, teaches as `teach` does, and leaves nothing."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
import torch
from filelock import FileLock
from numpy.typing import NDArray

import harkback
import misdeeds
from app_client import SOON, Client, Server, again, everything, form, parts, served, workers
from fakes import tone
from films import film, gray
from harkback import decoding, stills
from harkback.app import asking, lessons, programs
from harkback.app.people import REPORT_POLICY
from harkback.app.programs import LINES
from harkback.app.uploads import LOCK, PREFIX, Scratch
from harkback.cli import main
from harkback.encoders.signal import Signal
from harkback.explain import shares
from harkback.files import write_json
from harkback.learners.hark import Hark
from harkback.media import read
from harkback.model import Model
from harkback.teaching import Making, teach
from harkback.workers import cores
from patience import until

FIRST, SECOND = ("church bell", "siren"), ("cowbell", "whistle")
HARK = Making(learner="hark", settings={"hark": Hark.Settings(features=20)}, memory=40)
RIDGE = Making(learner="ridge", memory=12)


@pytest.fixture(scope="module")
def taught_of(drawn: Path) -> Path:
    """The drawn clips as a plain folder, that nobody spoils."""
    root = drawn.with_name("for the app")
    if not root.exists():
        shutil.copytree(drawn, root)
        (root / "demo.json").unlink()
    return root


@pytest.fixture(scope="module")
def base(taught_of: Path, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two classes, that nobody changes."""
    path = tmp_path_factory.mktemp("base") / "rover"
    teach(path, taught_of, classes=FIRST, store=store, making=RIDGE)
    return path


@pytest.fixture
def rover(base: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(base, tmp_path / "rover"))


@pytest.fixture(scope="module")
def looking(taught_of: Path, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that says where it looks, of enough clips to call some unknown."""
    path = tmp_path_factory.mktemp("looking") / "seer"
    teach(path, taught_of, store=store, making=HARK)
    more = [again(file, path.parent / "more" / file.parent.name, k) for file in films_of(taught_of) for k in range(1)]
    assert len(more) == 16
    teach(path, path.parent / "more", store=store, force=True)
    return path


@pytest.fixture(scope="module")
def asked(looking: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """It is served to tests that only ask."""
    with served(looking, tmp_path_factory.mktemp("asked")) as server:
        yield server
        assert server.said == []


def films_of(root: Path, split: str = "train", label: str = "*") -> list[Path]:
    return sorted((root / split).glob(f"{label}/*.mp4"))


def plain(facts: Any) -> Any:
    """model.json without what no two runs share."""
    if isinstance(facts, dict):
        return {name: plain(value) for name, value in facts.items() if name not in ("time", "seconds", "checksum")}
    return [plain(value) for value in facts] if isinstance(facts, list) else facts


@pytest.fixture
def all_cores() -> Iterator[None]:
    """As the command line has it, and lessons; sums of floats depend on how many threads add them up."""
    before = torch.get_num_threads()
    torch.set_num_threads(cores())
    yield
    torch.set_num_threads(before)


def learnt(folder: Path) -> tuple[Any, dict[str, bytes]]:
    """All that a model is: its facts without times, and the bytes of all other files but its card and versions."""
    files = everything(folder)
    facts = plain(json.loads(files.pop("model.json")))
    return facts, {n: c for n, c in files.items() if not n.startswith("history/") and n != "README.md"}


# ---- asking ---------------------------------------------------------------------------------------------------------


def test_health_and_model_say_what_the_folder_holds(asked: Server, looking: Path) -> None:
    health, facts = asked.client.get("/health").json, Model(looking).facts
    version = facts["version"]
    assert health == {
        "status": "ok", "harkback": harkback.__version__, "model": "seer", "version": version, "waiting": 0,
    }  # fmt: skip
    model = asked.client.get("/model").json
    assert (model["name"], model["version"], model["learner"], model["encoder"]) == ("seer", 2, "hark", "signal")
    assert model["looks"] and model["says_unknown"] and model["undoable"] and model["sessions"] == 2
    assert [known["name"] for known in model["classes"]] == facts["classes"]
    exam = facts["sessions"][-1]["exam"]
    for known in model["classes"]:
        keys = [key for record in facts["sessions"] for key in record["clips"][known["name"]]]
        assert known["clips"] == len(keys) == 8
        assert [known["right"], known["asked"]] == exam[known["name"]]
        assert len(known["examples"]) == 3
        assert {each.removeprefix("/examples/") for each in known["examples"]} <= set(keys)


def check_answer(said: Any, expected: Any) -> None:
    assert (said["start"], said["end"]) == (round(expected.start, 3), round(expected.end, 3))
    assert (said["label"], said["unknown"]) == (expected.label, expected.label is None)
    assert said["likeliest"] == expected.likeliest
    assert said["confidence"] == round(expected.confidence, 6)
    assert [(each["label"], each["confidence"]) for each in said["ranking"]] == [
        (name, round(share, 6)) for name, share in expected.ranking
    ]
    assert (said["heard"], said["seen"]) == (expected.heard, expected.seen)


@pytest.mark.parametrize(
    ("window", "false_alarm"), [(None, None), (0.5, 0.3), pytest.param(0, 0.01, marks=pytest.mark.slow)]
)
def test_answers_are_those_of_predict_to_the_last_digit(
    asked: Server, looking: Path, taught_of: Path, window: float | None, false_alarm: float | None
) -> None:
    model, unknown = Model(looking), []
    fields = {k: v for k, v in {"window": window, "false_alarm": false_alarm}.items() if v is not None}
    for file in [*films_of(taught_of, "test")[:3:2], *films_of(taught_of, "train")[:1]]:
        expected = model.predict(file, window=window, false_alarm=false_alarm, merge=False)
        said = asked.client.predict(file, **fields)
        assert said.status == 200, said
        assert said.json["file"] == file.name and said.json["seconds"] == 2.0
        for one, other in zip(said.json["answers"], expected, strict=True):
            check_answer(one, other)
            unknown.append(one["unknown"])
    assert any(unknown) if false_alarm == 0.3 else not all(unknown)  # Else the rate makes no difference.


def test_shares_and_heat_are_those_of_the_learner(asked: Server, looking: Path, taught_of: Path) -> None:
    file, learner = films_of(taught_of, "test", "siren")[0], Model(looking).learner
    (said,) = asked.client.predict(file).json["answers"]
    spec = Signal().spec
    features = Signal().encode([read(file, frames=spec.frames, sample_rate=spec.sample_rate, picture=Signal().picture)])
    (part,) = shares(learner, features, [said["likeliest"]])
    assert (said["sound"], said["picture"]) == (round(part.sound, 4), round(part.picture, 4))
    assert abs(said["sound"]) + abs(said["picture"]) == pytest.approx(1, abs=1e-3)
    assert isinstance(learner, Hark)
    heat = learner.heat(features)[0].double().numpy()
    levels = np.rint(255 * np.sqrt(heat / heat.max())).astype(np.uint8)  # its second power is the heat
    shape = (said["heat"]["frames"], said["heat"]["rows"], said["heat"]["columns"])
    assert shape == (heat.shape[0], *[round(heat.shape[1] ** 0.5)] * 2) and said["note"] == ""
    assert said["heat"]["power"] == 2
    assert base64.b64decode(said["heat"]["data"]) == levels.tobytes()
    assert levels.max() == 255 and levels.min() < 250


def test_lines_say_the_same_as_one_answer(asked: Server, taught_of: Path) -> None:
    file = films_of(taught_of, "test", "whistle")[0]
    whole = asked.client.predict(file, window=0.5)
    lines = asked.client.send("/predict", parts(file, window=0.5), accept=LINES)
    head, *answers, last = lines.lines
    assert whole.headers["content-type"] == "application/json" and lines.headers["content-type"] == LINES
    assert head == {"file": file.name, "seconds": 2.0, "windows": 4} and last == {"done": True}
    assert [line["answer"] for line in answers] == whole.json["answers"] and len(answers) == 4


def decoded(uri: str) -> NDArray[np.uint8]:
    kind, _, data = uri.partition(",")
    assert kind == "data:image/jpeg;base64"
    with av.open(io.BytesIO(base64.b64decode(data))) as image:
        return next(image.decode(video=0)).to_ndarray(format="rgb24")


def test_frames_are_those_of_the_windows(asked: Server, taught_of: Path) -> None:
    file = films_of(taught_of, "test", "siren")[1]
    for answer in asked.client.predict(file, window=1, frames="true").json["answers"]:
        expected = stills.frames(file, (answer["start"], answer["end"]), Signal().spec.frames)
        assert expected is not None and len(answer["pictures"]) == len(expected)
        for uri, frame in zip(answer["pictures"], expected.numpy(), strict=True):
            picture = decoded(uri)
            assert picture.shape == frame.shape and max(picture.shape) == stills.SIDE
            assert np.abs(picture.astype(int) - frame.astype(int)).mean() < 6  # JPEG
    assert asked.client.predict(file).json["answers"][0]["pictures"] is None


def test_pictures_that_would_fill_the_memory_come_as_lines_alone(
    asked: Server, taught_of: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = films_of(taught_of, "test", "siren")[0]
    (one,) = asked.client.predict(file, window=0, frames="true").json["answers"]
    size = sum(map(len, one["pictures"]))
    monkeypatch.setattr(programs, "PICTURES", size)
    assert asked.client.predict(file, window=0, frames="true").status == 200
    monkeypatch.setattr(programs, "PICTURES", size - 1)
    said = asked.client.predict(file, window=0, frames="true")
    assert said.status == 413 and "application/x-ndjson" in said.error
    assert asked.client.predict(file, window=0).status == 200
    assert asked.swept(), asked.left()


def test_sound_alone(asked: Server, looking: Path, tmp_path: Path) -> None:
    file = tone(tmp_path / "tone.wav", 900, seconds=1.0)
    (said,) = asked.client.predict(file, frames="true").json["answers"]
    check_answer(said, *Model(looking).predict(file))
    assert said["heard"] and not said["seen"] and said["heat"] is None and said["pictures"] is None
    assert abs(said["sound"]) == 1 and said["picture"] == 0


def test_a_picture_alone(asked: Server, looking: Path, tmp_path: Path, taught_of: Path) -> None:
    frame = stills.frames(films_of(taught_of, "test", "siren")[0], (0.0, 2.0), 1)
    assert frame is not None
    (tmp_path / "still.jpg").write_bytes(stills.jpeg(frame[0]))
    said = asked.client.predict(tmp_path / "still.jpg").json
    assert said["seconds"] == pytest.approx(0.04)
    check_answer(said["answers"][0], *Model(looking).predict(tmp_path / "still.jpg"))
    assert said["answers"][0]["seen"] and not said["answers"][0]["heard"]
    assert said["answers"][0]["note"] == "it looked everywhere alike"  # There is no sound to guide it.
    assert said["answers"][0]["sound"] == 0 and abs(said["answers"][0]["picture"]) == 1


def test_a_silent_film(asked: Server, looking: Path, tmp_path: Path) -> None:
    file = film(tmp_path / "silent.mp4", [gray(8 * k) for k in range(25)])
    (said,) = asked.client.predict(file).json["answers"]
    check_answer(said, *Model(looking).predict(file))
    assert said["seen"] and not said["heard"] and said["sound"] == 0


def test_a_learner_that_does_not_look_says_so(rover: Path, tmp_path: Path, taught_of: Path) -> None:
    with served(rover, tmp_path / "temporary") as server:
        assert not server.client.get("/model").json["looks"]
        (said,) = server.client.predict(films_of(taught_of, "test")[0]).json["answers"]
        assert said["heat"] is None and said["note"] == "this learner does not say where it looks"


def test_what_cannot_be_read_is_told_by_the_status_in_either_form(asked: Server, tmp_path: Path) -> None:
    for accept in ("*/*", LINES):
        said = asked.client.send("/predict", parts(b"these are words", "film.mp4"), accept=accept)
        assert said.status == 422 and said.error.startswith("film.mp4: is no media file")
    assert asked.client.predict(b"", "film.mp4").error == "film.mp4: is empty; send a media file"
    assert "windows cannot last" in asked.client.predict(tone(tmp_path / "a.wav", 500, seconds=1), window=0.01).error
    for field, value in (("window", -1), ("window", "nan"), ("window", "inf"), ("false_alarm", 0), ("false_alarm", 1),
                         ("false_alarm", "nan"), ("frames", "perhaps")):  # fmt: skip
        said = asked.client.predict(b"x", **{field: value})
        assert said.status == 422 and said.error.startswith(f"{field}: "), said


def test_a_failure_in_the_middle_is_the_last_line(asked: Server, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(asking, "read", misdeeds.begins_and_aborts)
    lines = asked.client.send("/predict", parts(tone(tmp_path / "a.wav", 500)), accept=LINES).lines
    assert lines[0]["windows"] == 1
    assert lines[1:] == [{"error": "crashed the decoder; convert the file to another format"}]


def test_after_every_request_nothing_is_left(asked: Server, taught_of: Path) -> None:
    file = films_of(taught_of, "test")[0]
    asked.client.predict(file)
    asked.client.send("/predict", parts(file, window=0.5), accept=LINES)
    asked.client.predict(b"no film")
    asked.client.predict(b"")
    asked.client.predict(file, window=-1)
    asked.client.teach("unknown", [file])
    asked.client.send("/teach", [("label", None, b"bell"), ("files", "a.mp4", b"")])
    assert asked.swept(), asked.left()


def test_a_client_that_goes_away_ends_the_work_and_takes_its_file_along(asked: Server, tmp_path: Path) -> None:
    file = film(tmp_path / "long.mp4", [gray(k % 255) for k in range(390)], [1000 * k for k in range(390)])
    for _ in range(3):
        body, kind = form(parts(file, window=0.1, frames="true"))
        head = f"POST /predict HTTP/1.1\r\nhost: localhost\r\naccept: {LINES}\r\ncontent-type: {kind}\r\n"
        with socket.create_connection(("127.0.0.1", asked.client.port)) as line:
            line.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            said = b""
            while said.count(b'{"answer"') < 2:
                said += line.recv(1 << 16)
            assert b'"windows": 3890}' in said  # It would go on for minutes.
            assert len(workers()) == 1 and asked.left()
        assert asked.swept(), (asked.left(), workers())
    # Its turn is another's.
    with ThreadPoolExecutor(3) as pool:
        short = tone(tmp_path / "a.wav", 500)
        assert [r.status for r in pool.map(asked.client.predict, [short] * 3)] == [200] * 3


# ---- for people -----------------------------------------------------------------------------------------------------


def test_the_description_has_every_operation_and_each_has_its_words(asked: Server) -> None:
    found = asked.client.get("/openapi.json").json
    operations = {f"{method} {path}" for path, of in found["paths"].items() for method in of}
    assert operations == {
        "get /knows", "get /examples/{key}", "get /benches", "get /benches/{name}", "get /health", "get /model",
        "post /predict", "post /teach", "get /lessons/{lesson}", "post /lessons/{lesson}/commit",
        "delete /lessons/{lesson}", "post /undo", "post /forget",
    }  # fmt: skip
    assert all(of[method]["description"] for of in found["paths"].values() for method in of)
    docs = asked.client.get("/docs")
    assert docs.status == 200 and all(path in docs.body.decode() for path in found["paths"])


@pytest.mark.slow
def test_what_it_knows_is_the_portrait_and_follows_the_model(rover: Path, tmp_path: Path, store: Path) -> None:
    with served(rover, tmp_path / "temporary") as server:
        first = server.client.get("/knows").body.decode()
        assert first == Model(rover).sections() and all(name in first for name in FIRST)
        Model(rover).forget("siren")
        second = server.client.get("/knows").body.decode()
        assert second == Model(rover).sections() and "siren" not in second


def test_examples_are_pictures_of_taught_clips_and_of_nothing_else(
    rover: Path, tmp_path: Path, taught_of: Path
) -> None:
    facts = Model(rover).facts["sessions"][0]["clips"]
    with served(rover, tmp_path / "temporary") as server:
        known = {each["name"]: each["examples"] for each in server.client.get("/model").json["classes"]}
        assert [len(found) for found in known.values()] == [3, 3]
        picture = server.client.get(known["siren"][0])
        assert picture.status == 200 and picture.headers["content-type"] == "image/jpeg"
        shown = decoded("data:image/jpeg;base64," + base64.b64encode(picture.body).decode()).astype(int)
        index = facts["siren"].index(known["siren"][0].removeprefix("/examples/"))
        expected = stills.frames(films_of(taught_of, "train", "siren")[index], (0.95, 1.05), 1)
        assert expected is not None and np.abs(shown - expected[0].numpy().astype(int)).mean() < 6
        # Files that lie there but belong to no clip that it was taught; a clip of which there is no picture.
        folder = rover / ".examples"
        for name in ("0" * 64, "passwords"):
            shutil.copy(next(folder.glob("*.jpg")), folder / f"{name}.jpg")
            assert server.client.get(f"/examples/{name}").status == 404
        (without,) = set(facts["siren"]) - {each.removeprefix("/examples/") for each in known["siren"]}
        assert server.client.get(f"/examples/{without}").error == "there is no such picture"
        assert server.client.post("/forget", {"name": "siren"}).status == 200
        assert [server.client.get(each).status for each in known["siren"]] == [404] * 3
        assert [server.client.get(each).status for each in known["church bell"]] == [200] * 3
        assert not any((folder / f"{key}.jpg").exists() for key in facts["siren"])


def test_benches_are_listed_and_their_reports_run_nothing(base: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    with served(base, tmp_path / "temporary", runs=runs) as server:
        assert server.client.get("/benches").json == []
        for name, page in (("old one", "<h1>old</h1>"), ("new", "<script>alert(1)</script>")):
            (runs / name).mkdir(parents=True)
            (runs / name / "report.html").write_text(page)
        write_json(runs / "new" / "report.json", {"dataset": "digits", "rows": [{"learner": "hark"}]})
        (runs / "old one" / "report.json").write_text("{")
        long_ago = time.time() - 5000
        os.utime(runs / "old one" / "report.html", (long_ago, long_ago))
        (runs / "unfinished").mkdir()
        (runs / "secret.html").write_text("secret")
        first, second = server.client.get("/benches").json
        assert (first["name"], first["title"], first["learners"]) == ("new", "digits", ["hark"])
        assert (second["name"], second["title"], second["learners"]) == ("old one", "old one", [])
        report = server.client.get("/benches/new")
        assert report.body == b"<script>alert(1)</script>"
        assert report.headers["content-type"].startswith("text/html")
        policy = report.headers["content-security-policy"]
        assert policy == REPORT_POLICY and "sandbox;" in policy and "allow-scripts" not in policy
        assert "script-src" not in policy and "default-src 'none'" in policy
        assert server.client.get("/benches/old%20one").body == b"<h1>old</h1>"
        for name in ("unfinished", "secret.html", "..", "%2e%2e", "nowhere"):
            assert server.client.get(f"/benches/{name}").status == 404


# ---- teaching -------------------------------------------------------------------------------------------------------


def test_a_lesson_is_what_the_command_makes_of_the_same_clips(
    rover: Path, tmp_path: Path, taught_of: Path, all_cores: None
) -> None:
    other = Path(shutil.copytree(rover, tmp_path / "by command" / "rover"))
    files = films_of(taught_of, "train", "cowbell")
    with served(rover, tmp_path / "temporary") as server:
        begun = server.client.teach("cowbell", files)
        assert begun.status == 202 and begun.headers["location"] == f"/lessons/{begun.json['id']}"
        lesson = server.client.lesson(begun.json["id"])
        assert (lesson["state"], lesson["error"], lesson["read"]) == ("done", None, 4)
        assert [(clip["name"], clip["state"]) for clip in lesson["clips"]] == [(file.name, "read") for file in files]
        assert server.client.get("/model").json["version"] == lesson["outcome"]["version"] == 2
        assert server.swept()
    main(["teach", str(other), str(taught_of), "--classes", "cowbell", "--workers", "0"])
    assert learnt(rover) == learnt(other)
    outcome, record = lesson["outcome"], Model(other).facts["sessions"][-1]
    assert (outcome["clips"], outcome["new"], outcome["known"]) == (4, True, 3)
    assert outcome["cost"] == (record["before"] if record["before"]["asked"] else None)


def test_what_it_would_cost_is_told_before_anything_is_changed(
    looking: Path, tmp_path: Path, taught_of: Path, store: Path
) -> None:
    model = Path(shutil.copytree(looking, tmp_path / "seer"))
    files = films_of(taught_of, "test", "siren")
    expected = teach(looking, siblings(files, tmp_path / "same", "tram"), dry_run=True).record
    with served(model, tmp_path / "temporary") as server:
        before = everything(model)
        lesson = server.client.taught("tram", files, dry_run="true")
        assert lesson["state"] == "asking" and everything(model) == before
        outcome = lesson["outcome"]
        assert outcome["version"] is None and outcome["new"] and outcome["known"] == 5
        assert outcome["cost"] == expected["before"] and outcome["cost"]["asked"] == 32
        assert outcome["strangers"] == expected["strangers"] and outcome["strangers"]["asked"] == 2
        assert outcome["exam"] == expected["exam"]["tram"]
        assert server.client.post(f"/lessons/{lesson['id']}/commit", {}).status == 202
        done = server.client.lesson(lesson["id"])
        assert done["state"] == "done" and done["outcome"] == {**outcome, "version": 3}
        assert plain(Model(model).facts["sessions"][-1]) == plain(expected)
        late = server.client.post(f"/lessons/{lesson['id']}/commit", {})
        assert late.status == 409 and late.error == "this lesson is done, so there is nothing to decide"


def siblings(files: list[Path], root: Path, label: str) -> Path:
    (root / label).mkdir(parents=True)
    for file in files:
        shutil.copy(file, root / label)
    return root


@pytest.mark.slow
def test_what_costs_too_much_is_refused_until_it_is_forced(looking: Path, tmp_path: Path, taught_of: Path) -> None:
    model = Path(shutil.copytree(looking, tmp_path / "seer"))
    twins = [again(f, tmp_path / "twins", n) for f in films_of(taught_of, "train", "[sw]*") for n in (7, 8)]
    with served(model, tmp_path / "temporary") as server:
        before = everything(model)
        lesson = server.client.taught("alarm", twins, dry_run="true")
        cost = lesson["outcome"]["cost"]
        assert cost["right"] - cost["right_after"] > max(1, 0.2 * cost["asked"])  # Else the twins are no burden.
        assert lesson["outcome"]["too_dear"]
        refused = server.client.post(f"/lessons/{lesson['id']}/commit", {"force": False})
        assert refused.status == 409 and "force it, or leave it" in refused.error
        assert server.client.get(f"/lessons/{lesson['id']}").json["state"] == "asking"
        failed = server.client.taught("alarm", twins)
        assert failed["state"] == "failed" and "forbids that, so nothing was changed" in failed["error"]
        assert everything(model) == before
        assert server.client.post(f"/lessons/{lesson['id']}/commit", {"force": True}).status == 202
        assert server.client.lesson(lesson["id"])["state"] == "done"
        assert Model(model).classes[-1] == "alarm"


def test_a_lesson_that_is_left_is_gone_and_changes_nothing(rover: Path, tmp_path: Path, taught_of: Path) -> None:
    with served(rover, tmp_path / "temporary") as server:
        before = everything(rover)
        lesson = server.client.taught("cowbell", films_of(taught_of, "train", "cowbell")[:2], dry_run="true")
        assert len([name for name in server.left() if name.endswith(".mp4")]) == 2
        assert server.client.ask("DELETE", f"/lessons/{lesson['id']}").json["state"] == "discarded"
        assert server.swept() and everything(rover) == before
        assert server.client.ask("DELETE", f"/lessons/{lesson['id']}").json["state"] == "discarded"
        assert server.client.post(f"/lessons/{lesson['id']}/commit", {}).status == 409
        assert server.client.get("/lessons/nosuchlesson").error.startswith("there is no such lesson")
        assert server.client.ask("DELETE", "/lessons/nosuchlesson").status == 404


def test_a_lesson_that_is_left_while_it_is_read_stays_left(rover: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(decoding, "_said", misdeeds.dawdles)
    files = [tone(tmp_path / "tones" / f"{k}.wav", 300 + 40 * k) for k in range(12)]
    with served(rover, tmp_path / "temporary") as server:
        begun = server.client.teach("hum", files).json
        server.client.lesson(begun["id"], "reading")
        assert server.client.ask("DELETE", f"/lessons/{begun['id']}").json["state"] == "discarded"
        assert server.swept()
        found = server.client.get(f"/lessons/{begun['id']}").json
        assert (found["state"], found["error"]) == ("discarded", None)
        assert Model(rover).classes == FIRST


@pytest.mark.slow
def test_a_model_that_changed_meanwhile_is_reckoned_anew(
    rover: Path, tmp_path: Path, taught_of: Path, store: Path
) -> None:
    with served(rover, tmp_path / "temporary") as server:
        lesson = server.client.taught("cowbell", films_of(taught_of, "train", "cowbell"), dry_run="true")
        assert lesson["outcome"]["known"] == 3
        main(["teach", str(rover), str(taught_of), "--classes", "whistle", "--store", str(store)])
        between = everything(rover)
        stale = server.client.post(f"/lessons/{lesson['id']}/commit", {})
        assert stale.status == 409
        assert stale.error == "the model has changed meanwhile; what it costs is reckoned anew"
        anew = server.client.lesson(lesson["id"], "asking", "failed")
        assert anew["outcome"]["known"] == 4 and everything(rover) == between
        assert server.client.post(f"/lessons/{lesson['id']}/commit", {"force": True}).status == 202
        assert server.client.lesson(lesson["id"])["state"] == "done"
        assert Model(rover).classes == (*FIRST, "whistle", "cowbell")


def test_a_model_that_the_command_line_changes_is_noticed_at_once(
    rover: Path, tmp_path: Path, taught_of: Path, store: Path
) -> None:
    file = films_of(taught_of, "test", "whistle")[0]
    with served(rover, tmp_path / "temporary") as server:
        assert server.client.predict(file).json["answers"][0]["likeliest"] in FIRST
        main(["teach", str(rover), str(taught_of), "--classes", ",".join(SECOND), "--store", str(store), "--force"])
        assert server.client.get("/health").json["version"] == 2
        (said,) = server.client.predict(file).json["answers"]
        check_answer(said, *Model(rover).predict(file))
        assert {each["label"] for each in said["ranking"]} & set(SECOND)
        shutil.rmtree(rover)
        assert server.client.get("/model").json["version"] == 0
        assert server.client.predict(file).status == 409


def test_undo_and_forget_and_whoever_looked_at_another_version(
    rover: Path, tmp_path: Path, taught_of: Path, store: Path
) -> None:
    with served(rover, tmp_path / "temporary") as server:
        first = learnt(rover), (rover / "model.json").read_bytes()
        assert server.client.post("/undo", {}).error == (
            "rover: keeps no version before this one; delete the folder to give the model up"
        )
        teach(rover, taught_of, classes=SECOND, store=store, force=True)
        for path, words in (("/undo", {}), ("/forget", {"name": "siren"})):
            late = server.client.post(path, {**words, "version": 1})
            assert late.status == 409 and late.error == "the model has changed meanwhile; look at it first"
        facts = server.client.post("/undo", {"version": 2})
        assert facts.status == 200 and facts.json == server.client.get("/model").json
        assert facts.json["version"] == 1 and not facts.json["undoable"]
        assert (learnt(rover), (rover / "model.json").read_bytes()) == first
        assert "knows no class" in server.client.post("/forget", {"name": "whistle"}).error
        facts = server.client.post("/forget", {"name": "siren", "version": 1})
        assert [known["name"] for known in facts.json["classes"]] == ["church bell"]
        assert Model(rover).classes == ("church bell",)
        assert b"siren" not in b"".join(everything(rover).values())
        assert server.client.post("/forget", {"name": "church bell"}).status == 409  # The last one.


@pytest.mark.slow
def test_the_first_lesson_makes_the_model(tmp_path: Path, taught_of: Path, all_cores: None) -> None:
    path, files = tmp_path / "new one", films_of(taught_of, "train", "siren")
    path.mkdir()
    with served(path, tmp_path / "temporary") as server:
        nothing = server.client.get("/model").json
        assert (nothing["name"], nothing["version"], nothing["classes"]) == ("new one", 0, [])
        assert nothing["learner"] is None and server.client.get("/health").json["version"] == 0
        refused = server.client.predict(files[0])
        assert refused.status == 409 and refused.error.startswith("the model knows no class yet")
        assert server.client.get("/knows").body == b""
        assert server.client.post("/undo", {}).error.startswith("new one: is no model")
        assert server.client.post("/forget", {"name": "siren"}).status == 409
        assert list(path.iterdir()) == []
        lesson = server.client.taught("siren", files)
        assert lesson["state"] == "done" and lesson["outcome"]["version"] == 1
        assert server.client.predict(files[0]).json["answers"][0]["likeliest"] == "siren"
    other = tmp_path / "by command" / "new one"
    main(["teach", str(other), str(taught_of), "--classes", "siren", "--workers", "0"])
    assert learnt(path) == learnt(other)


@pytest.mark.slow
def test_two_who_teach_at_once_are_both_learnt_one_after_the_other(
    rover: Path, tmp_path: Path, taught_of: Path
) -> None:
    with served(rover, tmp_path / "temporary") as server, ThreadPoolExecutor(2) as pool:
        begun = list(
            pool.map(
                lambda name: server.client.teach(name, films_of(taught_of, "train", name)[:2], force="true").json,
                SECOND,
            )
        )
        waiting = server.client.get("/health").json["waiting"]
        ends = [server.client.lesson(each["id"]) for each in begun]
        assert [end["state"] for end in ends] == ["done", "done"], ends
        assert sorted(end["outcome"]["version"] for end in ends) == [2, 3] and waiting in (1, 2)
        assert set(Model(rover).classes) == {*FIRST, *SECOND}
        assert server.client.get("/health").json["waiting"] == 0 and server.swept()


def test_lessons_wait_in_line_and_the_line_has_an_end(
    rover: Path, tmp_path: Path, taught_of: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(decoding, "_said", misdeeds.sleeps)
    monkeypatch.setattr(lessons, "WAITING", 3)
    with served(rover, tmp_path / "temporary") as server:
        file = tone(tmp_path / "a.wav", 700)
        begun = [server.client.teach("hum", [file]).json["id"] for _ in range(3)]
        until(lambda: len(workers()) == 1)
        before = [server.client.get(f"/lessons/{name}").json["before_it"] for name in begun]
        assert before == [0, 1, 2] and server.client.get("/health").json["waiting"] == 3
        full = server.client.teach("hum", [file])
        assert full.status == 503 and full.error.startswith("3 lessons wait already")
        server.client.ask("DELETE", f"/lessons/{begun[1]}")
        assert server.client.get(f"/lessons/{begun[2]}").json["before_it"] == 1
        server.client.ask("DELETE", f"/lessons/{begun[2]}")
        for worker in workers():
            worker.kill()
        assert "crashed the decoder" in server.client.lesson(begun[0])["error"]
        assert server.swept()


def test_the_same_clips_twice_are_nothing_new_and_what_is_left_out_is_named(
    rover: Path, tmp_path: Path, taught_of: Path
) -> None:
    files = films_of(taught_of, "train", "siren")
    broken = tmp_path / "broken film.mp4"
    broken.write_bytes(b"no film")
    with served(rover, tmp_path / "temporary") as server:
        failed = server.client.taught("siren", files)
        assert failed["state"] == "failed" and "nothing new to learn in its 4 clips" in failed["error"]
        assert failed["error"].startswith("the lesson: ") and files[0].name in failed["error"]
        new = [again(file, tmp_path / "new") for file in films_of(taught_of, "test", "siren")]
        lesson = server.client.taught("siren", [*files[:1], broken, *new])
        assert lesson["state"] == "done" and lesson["outcome"]["clips"] == 2 and not lesson["outcome"]["new"]
        said = {clip["name"]: (clip["state"], clip["reason"]) for clip in lesson["clips"]}
        assert said[files[0].name] == ("left out", "the same content was learnt before")
        assert said[broken.name][0] == "left out" and "no media file" in said[broken.name][1]
        assert [said[file.name] for file in new] == [("read", None)] * 2
        none = server.client.taught("siren", [broken])
        assert none["state"] == "failed" and none["error"].startswith("none of its clips can be read; the first: ")
        assert server.swept()


def test_lessons_that_nobody_decides_are_left(rover: Path, tmp_path: Path, taught_of: Path, monkeypatch: Any) -> None:
    with served(rover, tmp_path / "temporary") as server:
        lesson = server.client.taught("cowbell", films_of(taught_of, "train", "cowbell")[:2], dry_run="true")
        assert server.client.get(f"/lessons/{lesson['id']}").json["state"] == "asking" and server.left()
        monkeypatch.setattr(lessons, "UNDECIDED", 0.0)
        server.client.get("/health")  # Whoever asks for anything, the lesson is left.
        assert server.swept()
        found = server.client.get(f"/lessons/{lesson['id']}").json
        assert found["state"] == "discarded" and found["error"].startswith("nobody decided")
        assert server.client.post(f"/lessons/{lesson['id']}/commit", {}).status == 409
        assert Model(rover).classes == FIRST


def test_only_so_many_ended_lessons_are_remembered(rover: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(lessons, "KEPT", 2)
    with served(rover, tmp_path / "temporary") as server:
        file = tmp_path / "a.mp4"
        file.write_bytes(b"no film")
        ids = [server.client.taught("hum", [file])["id"] for _ in range(4)]
        assert [server.client.get(f"/lessons/{name}").status for name in ids] == [404, 200, 200, 200]


# ---- beginning and end ----------------------------------------------------------------------------------------------


def test_what_a_killed_server_left_is_swept_and_what_a_living_one_has_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "temporary"
    dead, alive, other = root / f"{PREFIX}dead", root / f"{PREFIX}alive", root / "another-thing"
    for folder in (dead, alive, other):
        (folder / "tmpclip").mkdir(parents=True)
        (folder / "tmpclip" / "0000.mp4").write_bytes(b"somebody's film")
        (folder / LOCK).touch()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / LOCK).touch()
    (elsewhere / "thesis.txt").write_text("years of work")
    (root / f"{PREFIX}link").symlink_to(elsewhere)
    with FileLock(alive / LOCK):
        monkeypatch.setattr(tempfile, "tempdir", str(root))
        scratch = Scratch()
        assert not dead.exists() and (alive / "tmpclip" / "0000.mp4").exists() and other.exists()
        assert (elsewhere / "thesis.txt").read_text() == "years of work"
        assert scratch.folder.stat().st_mode & 0o777 == 0o700
        scratch.close()
        assert not scratch.folder.exists()


@pytest.mark.slow
def test_a_server_that_is_killed_takes_its_processes_along_and_the_next_sweeps_up(rover: Path, tmp_path: Path) -> None:
    root, file = tmp_path / "temporary", tone(tmp_path / "a.wav", 700, seconds=300)
    root.mkdir()
    words = ["app", str(rover), "--port", "0", "--no-browser"]
    argv = [sys.executable, "-c", f"from harkback.cli import main; main({words!r})"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(root)}) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert line.startswith("open http://127.0.0.1:"), line
            client = Client(int(line.rstrip().rstrip("/").rpartition(":")[2]))
            assert client.get("/health").json["version"] == 1
            mine = psutil.Process(process.pid)

            def ask() -> None:
                with suppress(OSError, HTTPException):  # It is killed meanwhile.
                    client.predict(file, window=0.1)

            asking = threading.Thread(target=ask, daemon=True)
            asking.start()
            assert until(lambda: list(root.glob(f"{PREFIX}*/*/*.wav")) and len(mine.children(recursive=True)) >= 3)
            family = mine.children(recursive=True)
        finally:
            process.kill()
        asking.join(SOON)
        assert not psutil.wait_procs(family, timeout=SOON)[1]
    assert list(root.glob(f"{PREFIX}*/*/*.wav"))
    with served(rover, root) as server:
        assert server.left() == []  # There is one scratch folder, and it is empty.


@pytest.mark.slow
@pytest.mark.parametrize(("order", "times"), [(signal.SIGINT, 1), (signal.SIGINT, 2), (signal.SIGTERM, 1)])
def test_a_server_that_is_stopped_in_the_middle_of_it_all_leaves_nothing(
    rover: Path, tmp_path: Path, taught_of: Path, order: signal.Signals, times: int
) -> None:
    root, before = tmp_path / "temporary", everything(rover)
    root.mkdir()
    words = ["app", str(rover), "--port", "0", "--no-browser"]
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # See `commands.heed_ctrl_c`.
    argv = [sys.executable, "-c", f"{heed}; from harkback.cli import main; main({words!r})"]
    environment = {**os.environ, "TMPDIR": str(root)}
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr is not None
            client = Client(int(process.stderr.readline().rstrip().rstrip("/").rpartition(":")[2]))
            waiting = client.taught("cowbell", films_of(taught_of, "train", "cowbell")[:2], dry_run="true")
            assert waiting["state"] == "asking"
            assert client.teach("whistle", films_of(taught_of, "train", "whistle"), dry_run="true").status == 202
            family = psutil.Process(process.pid).children(recursive=True)
            for _ in range(times):  # Not everybody has the patience.
                process.send_signal(order)
                time.sleep(0.1)
            _, said = process.communicate(timeout=SOON)
            assert process.returncode == (0 if order == signal.SIGINT else -order), said
            assert not psutil.wait_procs(family, timeout=SOON)[1]
        finally:
            process.kill()
    assert "Traceback" not in said and "Warning" not in said, said
    assert not list(root.glob(f"{PREFIX}*")) and everything(rover) == before
