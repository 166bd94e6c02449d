"""A model as a person meets it: taught by commands it is the bench's, and every step can be asked, undone and read."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import harkback
from commands import failure, result
from fakes import random_features
from harkback.cli import main
from harkback.datasets import open_dataset
from harkback.encoders import open_encoder
from harkback.encoders.signal import Signal
from harkback.extract import extract
from harkback.model import Model
from harkback.stream import shuffled
from stand_in_hub import stand_in_hub
from tiny_models import sam_audio_folder

DIGITS = Path(__file__).parents[3] / "shared" / "data" / "spoken-digits"
FIRST, SECOND = "church bell,siren", "cowbell,whistle"


def run(*argv: str | Path | int) -> None:
    main([str(word) for word in argv])


@pytest.fixture
def rover(clips: Path, store: Path, tmp_path: Path, capsys: Any) -> Path:
    """A model of two classes."""
    path = tmp_path / "rover"
    run("teach", path, clips, "--classes", FIRST, "--store", store, "--learner", "ridge", "--memory", 12)
    capsys.readouterr()
    return path


def everything(folder: Path) -> dict[str, bytes]:
    """The files that are the model, its versions and the pictures for people aside."""
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return {
        name: content for name, content in found.items() if not name.startswith((".lock", "history/", ".examples/"))
    }


# ---- taught by commands, measured as by the bench -------------------------------------------------------------------


def as_in_the_bench(data: Path, store: Path, out: Path, learner: str, seed: int, sessions: int, *more: str) -> None:
    """Teach session by session what the bench teaches, and compare the scores of all test clips after each."""
    frame = ["--store", store, "--memory", "12", *more]
    asked_of = ["--learners", learner, "--seeds", f"{seed},{seed}", "--sessions", sessions, "--workers", "0"]
    run("bench", data, *asked_of, "--out", out / "b", *frame)
    dataset = open_dataset(str(data))
    asked = extract(dataset.splits["test"], Signal(), store, workers=0)
    (folder,) = (out / "b" / "runs").iterdir()
    order = shuffled(sorted({str(clip.label) for clip in asked.clips}), seed)
    size = len(order) // sessions
    for t in range(sessions):
        names = order[t * size : (t + 1) * size]
        run("teach", out / "rover", data, "--classes", ",".join(names), "--seed", seed, "--learner", learner, *frame,
            "--force")  # fmt: skip
        model = Model(out / "rover")
        said = load_file(folder / f"session-{t:02d}.safetensors")
        rows = said["rows"]
        mine = model.learner.scores(asked.features[rows])
        known = json.loads((folder / f"session-{t:02d}.json").read_text())["classes"]
        assert list(model.classes) == known
        assert torch.equal(mine, said["scores"])  # So every accuracy is the same, to the last clip.


def test_taught_by_commands_is_taught_by_the_bench(clips: Path, store: Path, tmp_path: Path, capsys: Any) -> None:
    as_in_the_bench(clips, store, tmp_path, "hark", 1, 2, "--hark.features", "20")


@pytest.mark.slow
def test_so_is_a_learner_that_is_trained(clips: Path, store: Path, tmp_path: Path, capsys: Any) -> None:
    as_in_the_bench(clips, store, tmp_path, "l3", 1, 2, "--l3.train.epochs", "3")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_spoken_digits_taught_two_at_a_time_are_as_in_the_bench(
    seed: int, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capsys: Any
) -> None:
    if not DIGITS.exists():
        pytest.skip(f"needs the clips of {DIGITS}")
    as_in_the_bench(DIGITS, tmp_path_factory.getbasetemp() / "digits", tmp_path, "hark", seed, 5)


# ---- teach ----------------------------------------------------------------------------------------------------------


def test_teach_says_what_it_did_and_what_it_cost(clips: Path, store: Path, rover: Path, capsys: Any) -> None:
    taught = result(capsys, "teach", rover, clips, "--classes", SECOND, "--store", store)
    assert taught["written"] is True
    assert taught["counts"] == {"church bell": 4, "siren": 4, "cowbell": 4, "whistle": 4}
    record = taught["record"]
    assert record["new"] == ["cowbell", "whistle"]
    assert [len(keys) for keys in record["clips"].values()] == [4, 4]
    assert record == json.loads((rover / "model.json").read_text())["sessions"][-1]


def test_dry_run_shows_the_same_and_writes_nothing(clips: Path, store: Path, rover: Path, capsys: Any) -> None:
    before = everything(rover)
    argv = ["teach", rover, clips, "--classes", SECOND, "--store", store]
    dry = result(capsys, *argv, "--dry-run")
    assert dry["written"] is False and everything(rover) == before
    wet = result(capsys, *argv)
    for each in (dry, wet):
        del each["written"], each["record"]["time"], each["record"]["seconds"]
    assert dry == wet


def test_new_clips_of_known_classes_are_welcome_and_old_ones_are_noticed(
    clips: Path, store: Path, rover: Path, tmp_path: Path, capsys: Any
) -> None:
    shutil.copytree(clips / "test" / "siren", tmp_path / "more" / "siren")
    shutil.copy(clips / "train" / "siren" / "siren_000.mp4", tmp_path / "more" / "siren" / "again.mp4")
    taught = result(capsys, "teach", rover, tmp_path / "more", "--store", store)
    assert taught["counts"] == {"church bell": 4, "siren": 6}
    assert [skip["id"] for skip in taught["skips"]] == ["siren/again.mp4"]
    assert "learnt before" in taught["skips"][0]["reason"]
    assert "nothing new to learn" in failure(capsys, "teach", rover, tmp_path / "more", "--store", store)


def test_without_a_store_nothing_of_the_clips_is_left_but_what_is_retained(clips: Path, tmp_path: Path) -> None:
    lesson = [clips / "train", "--classes", "siren", "--learner", "ncm", "--workers", "0"]
    run("teach", tmp_path / "rover", *lesson, "--no-pictures")
    names = {path.name for path in (tmp_path / "rover").iterdir()} - {".lock"}
    assert names == {"README.md", "ledger", "memory.safetensors", "model.json", "model.safetensors"}
    run("teach", tmp_path / "seen", *lesson)
    assert {path.name for path in (tmp_path / "seen").iterdir()} - {".lock"} == {*names, ".examples"}


# ---- predict --------------------------------------------------------------------------------------------------------


def test_predict_in_every_form(clips: Path, rover: Path, tmp_path: Path, capsys: Any) -> None:
    films = [clips / "test" / "siren" / f"siren_00{i}.mp4" for i in range(2)]
    main(["predict", str(rover), *map(str, films), "--json"])
    answers = json.loads(capsys.readouterr().out)
    assert [answer["file"] for answer in answers] == [str(film) for film in films]
    for answer in answers:
        assert answer["likeliest"] in ("church bell", "siren") and 0 <= answer["confidence"] <= 1
        assert answer["heard"] and answer["seen"]
    main(["predict", str(rover), *map(str, films), "--csv"])
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [line["likeliest"] for line in lines] == [answer["likeliest"] for answer in answers]
    run("predict", rover, *films, "--vtt", tmp_path / "vtt", "--explain", tmp_path / "why", "--window", "0.5")
    capsys.readouterr()
    assert (tmp_path / "vtt" / "siren_001.vtt").read_text().startswith("WEBVTT\n\n00:00:00.000 --> ")
    assert len(list((tmp_path / "why").glob("*.png"))) >= 2
    assert [a.likeliest for a in harkback.load(rover).predict(films[0])] == [answers[0]["likeliest"]]


def test_a_file_that_cannot_be_read_does_not_cost_the_others(
    clips: Path, rover: Path, tmp_path: Path, capsys: Any
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no film")
    good = clips / "test" / "siren" / "siren_000.mp4"
    with pytest.raises(SystemExit) as stop:
        run("predict", rover, broken, good, "--json")
    said = capsys.readouterr()
    assert stop.value.code == 2 and "broken.mp4" in said.err and "Traceback" not in said.err
    assert [answer["file"] for answer in json.loads(said.out)] == [str(good)]


def test_few_clips_promise_nothing_and_say_so(clips: Path, rover: Path, capsys: Any) -> None:
    run("predict", rover, clips / "test" / "whistle" / "whistle_000.mp4")
    assert "too few clips" in capsys.readouterr().err


def test_where_an_encoder_lies_is_known_here_and_told_nobody(clips: Path, tmp_path: Path, capsys: Any) -> None:
    sam_audio_folder(tmp_path / "weights")
    path, film = tmp_path / "rover", clips / "test" / "siren" / "siren_000.mp4"
    run("teach", path, clips, "--classes", "siren", "--encoder", "sam-audio", "--model", tmp_path / "weights",
        "--learner", "ncm", "--workers", "0")  # fmt: skip
    run("predict", path, film)
    assert "siren" in capsys.readouterr().out
    shown = b"".join(file.read_bytes() for file in path.rglob("*") if file.is_file() and file.name[0] != ".")
    assert str(tmp_path).encode() not in shown
    (tmp_path / "weights").rename(tmp_path / "elsewhere")
    assert "weights" in failure(capsys, "predict", path, film)
    run("predict", path, film, "--model", tmp_path / "elsewhere")
    capsys.readouterr()
    sam_audio_folder(tmp_path / "others", seed=5)
    line = failure(capsys, "predict", path, film, "--model", tmp_path / "others")
    assert "the model was taught on features of sam-audio revision" in line


# ---- undo, forget, inspect ------------------------------------------------------------------------------------------


def test_undo_restores_the_bytes(clips: Path, store: Path, rover: Path, capsys: Any) -> None:
    before = everything(rover)
    run("teach", rover, clips, "--classes", SECOND, "--store", store)
    between = everything(rover)
    run("teach", rover, clips / "test", "--store", store)
    assert len({json.dumps(sorted(map(hash, state.values()))) for state in (before, between, everything(rover))}) == 3
    run("undo", rover)
    assert everything(rover) == between
    run("undo", rover)
    assert everything(rover) == before
    assert "keeps no version" in failure_after_output(capsys, "undo", rover)


def failure_after_output(capsys: Any, *argv: str | Path) -> str:
    capsys.readouterr()
    return failure(capsys, *argv)


@pytest.mark.parametrize("learner", ["ridge", pytest.param("icarl", marks=pytest.mark.slow)])
def test_a_forgotten_class_is_in_no_byte_of_any_version(
    learner: str, clips: Path, store: Path, tmp_path: Path, capsys: Any
) -> None:
    path, frame = tmp_path / "rover", ["--store", store, "--force"]
    more = ["--learner", learner, "--memory", "40", *(["--icarl.train.epochs", "2"] if learner == "icarl" else [])]
    run("teach", path, clips, "--classes", "siren,cowbell", *frame, *more)
    run("teach", path, clips, "--classes", "whistle", *frame)
    run("teach", path, clips / "test", "--classes", "siren,church bell", *frame)
    sessions = json.loads((path / "model.json").read_text())["sessions"]
    keys = [key for record in sessions for key in record["clips"].get("siren", [])]
    assert len(keys) == 6
    held = b"".join(file.read_bytes() for file in path.rglob("*") if file.is_file())
    assert b"siren" in held and all(key.encode() in held for key in keys)
    run("forget", path, "siren")
    assert "exactly" in (said := capsys.readouterr().out) or "refitted" in said
    for file in path.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        assert b"siren" not in content and not any(key.encode() in content for key in keys), file
    assert Model(path).classes == ("cowbell", "whistle", "church bell")
    run("undo", path)
    assert Model(path).classes == ("cowbell", "whistle")
    run("undo", path)
    assert Model(path).classes == ("cowbell",)
    assert [record["did"] for record in Model(path).facts["sessions"]] == ["teach", "forget"]


def test_history_is_bounded(clips: Path, store: Path, tmp_path: Path) -> None:
    path = tmp_path / "rover"
    for name in ("siren", "cowbell", "whistle", "church bell"):
        run("teach", path, clips, "--classes", name, "--store", store, "--learner", "ncm", "--history", 2, "--force")
    assert sorted(kept.name for kept in (path / "history").iterdir()) == ["0002", "0003"]


def test_inspect_tells_what_the_facts_say(rover: Path, tmp_path: Path, capsys: Any) -> None:
    run("inspect", rover)
    told = capsys.readouterr().out
    assert re.search(r"rover: 2 classes, 8 clips, learner ridge, encoder signal", told)
    assert "exam: none" in told  # Of four clips no fifth could be kept apart.
    assert result(capsys, "inspect", rover) == Model(rover).facts
    run("inspect", rover, "--page", tmp_path / "rover.html")
    assert "church bell" in (tmp_path / "rover.html").read_text()


def test_what_is_fixed_cannot_be_changed_later(clips: Path, store: Path, rover: Path, capsys: Any) -> None:
    before = everything(rover)
    for flag, value in (("--learner", "hark"), ("--memory", "13"), ("--seed", "1"), ("--encoder", "pe-av")):
        line = failure(capsys, "teach", rover, clips, "--classes", SECOND, "--store", store, flag, value)
        assert "made with" in line or "needs a model" in line, line
    line = failure(capsys, "teach", rover, clips, "--store", store, "--ridge.penalty", "0.5")
    assert "fixed when the model was made" in line
    line = failure(capsys, "teach", rover, clips, "--store", store, "--hark.features", "5")
    assert "no part in hark" in line
    assert everything(rover) == before


# ---- passing on -----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # The hub library's own, of its HTTP client.
def test_what_is_pushed_can_be_pulled_asked_and_made_to_forget(
    clips: Path, rover: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    film = clips / "test" / "siren" / "siren_000.mp4"
    with stand_in_hub(tmp_path / "home", monkeypatch):
        run("push", rover, "anna/rover")
        assert "anna/rover" in capsys.readouterr().out
        run("pull", "anna/rover", tmp_path / "again")
    assert {n: c for n, c in everything(tmp_path / "again").items() if n[0] != "."} == everything(rover)
    assert [a.confidence for a in Model(tmp_path / "again").predict(film)] == [
        a.confidence for a in Model(rover).predict(film)
    ]
    run("forget", tmp_path / "again", "siren")
    assert Model(tmp_path / "again").classes == ("church bell",)


def test_the_exported_file_scores_as_the_model(rover: Path, tmp_path: Path, capsys: Any) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    run("export", rover, tmp_path / "rover.onnx")
    said = capsys.readouterr().out
    assert float(re.findall(r"by (\S+) at most", said)[0]) <= 1e-5
    model = Model(rover)
    asked = random_features(5, 3, open_encoder("signal").spec.shape)
    session = onnxruntime.InferenceSession(tmp_path / "rover.onnx")
    parts = {"audio": asked.audio.float(), "visual": asked.visual.float(), "heard": asked.heard, "seen": asked.seen}
    found = session.run(["scores"], {name: part.numpy() for name, part in parts.items()})[0]
    torch.testing.assert_close(torch.from_numpy(found), model.learner.scores(asked), rtol=1e-5, atol=1e-5)
    about = json.loads(session.get_modelmeta().custom_metadata_map["harkback"])
    assert about["classes"] == ["church bell", "siren"]
