"""What is wrong with a model, its clips or a command is one line, exit status 2, and the model is as it was."""

from __future__ import annotations

import errno
import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import save_file

from commands import failure, heed_ctrl_c, result
from fakes import tone
from harkback import files
from harkback.cli import main
from harkback.learners.base import Learner
from harkback.learners.ncm import NCM
from harkback.model import Model
from harkback.teaching import teach
from harkback.vault import Vault

MADE = ("--learner", "ncm", "--memory", "20", "--workers", "0")
PITCHES = {"low": 200, "deep": 90, "high": 1500, "shrill": 2600}
EMOJI = "🐱‍👤 ça va? 鳥"


def sounds(root: Path, *classes: str, count: int = 5, shift: float = 0) -> Path:
    for name in classes:
        for i in range(count):
            tone(root / name / f"{i}.wav", PITCHES.get(name, 700) * (1 + i / 50) + shift)
    return root


def listed(root: Path, *labels: str) -> Path:
    """A folder with a clips.csv: two clips of each label."""
    lines = ["path,label"]
    for number, label in enumerate(labels):
        for i in range(2):
            tone(root / f"{number}-{i}.wav", 333 + 300 * number + 10 * i)
            quoted = label.replace('"', '""')
            lines.append(f'{number}-{i}.wav,"{quoted}"')
    (root / "clips.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips, and a model of two sessions."""
    root = tmp_path_factory.mktemp("material")
    sounds(root / "first", "low", "deep")
    sounds(root / "second", "high")
    sounds(root / "third", "shrill")
    main(["teach", str(root / "model"), str(root / "first"), *MADE])
    main(["teach", str(root / "model"), str(root / "second"), "--workers", "0"])
    return root


@pytest.fixture
def rover(material: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(material / "model", tmp_path / "rover"))


@pytest.fixture
def third(material: Path) -> Path:
    """Clips of a class that the model does not know."""
    return material / "third"


def everything(folder: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: content for name, content in found.items() if name != ".lock"}


def shown(folder: Path) -> dict[str, bytes]:
    """What is the model; not what was encoded for a session that is yet to be learnt."""
    return {name: content for name, content in everything(folder).items() if not name.startswith(".")}


def signed(path: Path, **changed: Any) -> None:
    """Other facts, as one would write them who knows how they are signed."""
    facts = {**json.loads(path.read_text()), **changed}
    facts.pop("checksum")
    files.write_json(path, {**facts, "checksum": files.fingerprint(facts)})


# ---- folders that are no model, or none any more --------------------------------------------------------------------


def commands_on(model: Path, clips: Path) -> list[list[str | Path]]:
    sound = next(clips.rglob("*.wav"))
    return [
        ["teach", model, clips, "--workers", "0"],
        ["predict", model, sound],
        ["inspect", model],
        ["forget", model, "low"],
    ]


def flip(path: Path) -> None:
    spoilt = bytearray(path.read_bytes())
    spoilt[len(spoilt) // 2] ^= 1
    path.write_bytes(spoilt)


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.path, "boom")


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
@pytest.mark.parametrize("damage", [flip, Path.unlink], ids=["flipped", "missing"])
def test_a_damaged_model_is_told_by_every_command_and_undo_mends_it(
    rover: Path, third: Path, name: str, damage: Callable[[Path], object], capsys: Any
) -> None:
    damage(rover / name)
    before = everything(rover)
    for argv in commands_on(rover, third):
        line = failure(capsys, *argv)
        assert line.startswith(f"harkback: {rover / name}: is ")
        assert "undo the last session, or take the folder from a backup" in line
        assert everything(rover) == before
    main(["undo", str(rover)])
    assert Model(rover).classes == ("deep", "low")


def test_damage_in_what_is_retained_is_told_by_those_who_need_it(rover: Path, third: Path, capsys: Any) -> None:
    flip(rover / "memory.safetensors")
    teaching, predicting, _, forgetting = commands_on(rover, third)
    for argv in (teaching, forgetting, ["inspect", rover, "--page", rover.parent / "page.html"]):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main(list(map(str, argv)))
        assert stop.value.code == 2
        assert f"{rover / 'memory.safetensors'}: is damaged" in capsys.readouterr().err
    main(list(map(str, predicting)))  # It asks what answers, which is whole.


def test_damage_in_a_version_before_does_not_keep_a_class_from_being_forgotten_for_ever(
    rover: Path, capsys: Any
) -> None:
    spoilt = rover / "history" / "0001"
    flip(spoilt / "memory.safetensors")
    line = failure(capsys, "forget", rover, "low")
    assert f"delete {spoilt}" in line
    shutil.rmtree(spoilt)
    main(["forget", str(rover), "low"])
    assert Model(rover).classes == ("deep", "high")


def test_a_model_of_a_newer_format_is_not_touched(rover: Path, third: Path, capsys: Any) -> None:
    signed(rover / "model.json", format=99)
    before = everything(rover)
    for argv in commands_on(rover, third):
        line = failure(capsys, *argv)
        assert "is a model of format 99" in line and "update harkback" in line
        assert everything(rover) == before


def test_a_model_that_asks_for_more_memory_than_there_is(
    rover: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a stranger's may, with settings that make no sense and a checksum that fits."""

    def restore(*_: object) -> None:
        torch.empty(2**50, dtype=torch.uint8)

    monkeypatch.setattr(Learner, "restore", restore)
    line = failure(capsys, "inspect", rover)
    assert f"{rover / 'model.json'}: does not fit in memory with the settings that it has; end" in line


def test_a_pickle_under_the_name_of_the_model_is_never_unpickled(rover: Path, third: Path, capsys: Any) -> None:
    crater = rover.parent / "crater"
    (rover / "model.safetensors").write_bytes(pickle.dumps(Bomb(crater)))
    known = json.loads((rover / "model.json").read_text())["files"]
    signed(rover / "model.json", files={**known, "model.safetensors": files.digest(rover / "model.safetensors")})
    for argv in commands_on(rover, third):
        assert f"{rover / 'model.safetensors'}: is damaged" in failure(capsys, *argv)
    assert not crater.exists()


def test_what_is_no_model_is_told_and_left_alone(material: Path, third: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    (tmp_path / "empty").mkdir()
    sound = next(third.rglob("*.wav"))
    for path in (tmp_path / "photos", tmp_path / "photos" / "cat.jpg", material / "first"):
        for argv in [*commands_on(path, third), ["undo", path], ["teach", path, third, "--dry-run", "--workers", "0"]]:
            assert failure(capsys, *argv).startswith(f"harkback: {path}: is no model; ")
    for path, what in ((tmp_path / "empty", "is no model"), (tmp_path / "none", "no such model")):
        for argv in (["predict", path, sound], ["inspect", path], ["forget", path, "low"]):
            assert failure(capsys, *argv).startswith(f"harkback: {path}: {what}; check the path, or make it")
    assert failure(capsys, "undo", tmp_path / "none").startswith(f"harkback: {tmp_path / 'none'}: is no model")
    assert everything(tmp_path) == {"photos/cat.jpg": b"cat"}
    assert not (tmp_path / "none").exists()


# ---- clips that cannot be taught ------------------------------------------------------------------------------------


def nothing(root: Path) -> None:
    root.mkdir()


def loose_files(root: Path) -> None:
    tone(root / "a.wav", 300)
    tone(root / "b.wav", 500)


def a_file(root: Path) -> None:
    tone(root, 300)


def absent(root: Path) -> None:
    pass


def broken(root: Path) -> None:
    (root / "low").mkdir(parents=True)
    for name, content in (("a.wav", b""), ("b.mp4", b"words"), ("c.txt", b"more words")):
        (root / "low" / name).write_bytes(content)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (nothing, ["there are no clips in it", "root/<class>/"]),
        (loose_files, ["there are no clips in it", "root/<class>/"]),
        (a_file, ["is not a folder", "root/<class>/"]),
        (absent, ["no such folder"]),
        (broken, ["there is nothing new to learn in its 3 clips; the first, low/a.wav: "]),
    ],
)
def test_clips_that_are_none(
    make: Callable[[Path], None], words: list[str], rover: Path, tmp_path: Path, capsys: Any
) -> None:
    make(tmp_path / "clips")
    before = shown(rover)
    for model in (rover, tmp_path / "new"):
        line = failure(capsys, "teach", model, tmp_path / "clips", *MADE)
        assert line.startswith(f"harkback: {tmp_path / 'clips'}: ") and all(word in line for word in words), line
    assert shown(rover) == before
    assert not Vault(tmp_path / "new").exists


def test_a_model_that_could_not_be_made_can_be_made_then(tmp_path: Path, material: Path, capsys: Any) -> None:
    broken(tmp_path / "clips")
    failure(capsys, "teach", tmp_path / "new", tmp_path / "clips", *MADE)
    assert result(capsys, "teach", tmp_path / "new", material / "first", *MADE)["counts"] == {"deep": 5, "low": 5}


def test_broken_clips_among_others_are_named_and_left_out(rover: Path, tmp_path: Path, capsys: Any) -> None:
    broken(tmp_path / "clips")
    sounds(tmp_path / "clips", "shrill")
    found = result(capsys, "teach", rover, tmp_path / "clips", "--workers", "0")
    assert found["counts"] == {"deep": 5, "low": 5, "high": 5, "shrill": 5}
    assert [skip["id"] for skip in found["skips"]] == ["low/a.wav", "low/b.mp4", "low/c.txt"]
    assert found["record"]["skipped"] == 3


def test_the_same_clips_twice_are_nothing_new(rover: Path, material: Path, capsys: Any) -> None:
    before = shown(rover)
    line = failure(capsys, "teach", rover, material / "second", "--workers", "0")
    assert "nothing new to learn in its 5 clips; the first, high/0.wav: the same content was learnt before" in line
    assert ', as "' not in line
    assert shown(rover) == before


def test_the_same_clip_under_another_label_is_told_with_the_first(rover: Path, tmp_path: Path, capsys: Any) -> None:
    sounds(tmp_path / "clips", "low", count=1)
    (tmp_path / "clips" / "low").rename(tmp_path / "clips" / "humming")
    line = failure(capsys, "teach", rover, tmp_path / "clips", "--workers", "0")
    assert 'humming/0.wav: the same content was learnt before, as "low"' in line
    sounds(tmp_path / "clips", "shrill", "treble", count=1)
    shutil.copy(tmp_path / "clips" / "shrill" / "0.wav", tmp_path / "clips" / "treble" / "1.wav")
    found = result(capsys, "teach", rover, tmp_path / "clips", "--workers", "0")
    assert {skip["id"]: skip["reason"] for skip in found["skips"]} == {
        "humming/0.wav": 'the same content was learnt before, as "low"',
        "treble/1.wav": 'the same content is there twice, as "shrill"',
    }
    assert found["counts"]["shrill"] == found["counts"]["treble"] == 1
    assert "humming" not in found["counts"]


# ---- names of classes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["cat/dog"], ['"cat/dog"', "a slash divides folders"]),
        (["../up"], ['"../up"', "a slash"]),
        (["cat\\dog"], ["a slash divides folders"]),
        (["x" * 300], ["has 300 characters, and 120 are the most"]),
        (["🐱" * 100], ["bytes"]),  # No disk takes 400 bytes for a name.
        (["unknown"], ['"unknown"', "what a model says of clips of no class"]),
        (["Unknown "], ['"Unknown"', "what a model says of clips of no class"]),
        (["bell\x07"], ['"bell\\x07"', "control characters"]),
        (["a\nb"], ['"a\\nb"', "control characters"]),
        (["a\u2028b"], ["control characters"]),
        ([".."], ["nothing is left of it"]),
        (["Cat", "cat"], ['"Cat" and "cat"', "many disks take for one"]),
        (["straße", "STRASSE"], ["many disks take for one"]),
        (["LOW"], ['"low" and "LOW"', "many disks take for one"]),  # The model knows "low".
    ],
    ids=lambda value: repr(value)[:20],
)
def test_names_that_a_class_cannot_have(
    labels: list[str], words: list[str], rover: Path, tmp_path: Path, capsys: Any
) -> None:
    listed(tmp_path / "clips", "good", *labels)
    before = everything(rover)
    line = failure(capsys, "teach", rover, tmp_path / "clips", "--workers", "0")
    assert all(word in line for word in words), line
    assert len(line) < 300
    assert everything(rover) == before  # Told before anything is encoded.


def test_a_name_of_many_alphabets_goes_all_the_way(rover: Path, tmp_path: Path, capsys: Any) -> None:
    clips = listed(tmp_path / "clips", EMOJI, "another")
    assert result(capsys, "teach", rover, clips, "--workers", "0")["counts"][EMOJI] == 2
    main(["predict", str(rover), str(clips / "0-0.wav"), "--json"])
    (answer,) = json.loads(capsys.readouterr().out)
    assert answer["likeliest"] == EMOJI
    main(["predict", str(rover), str(clips / "0-0.wav"), "--vtt", str(tmp_path / "vtt")])
    assert EMOJI in capsys.readouterr().out
    assert EMOJI in (tmp_path / "vtt" / "0-0.vtt").read_text(encoding="utf-8")
    main(["inspect", str(rover), "--page", str(tmp_path / "page.html")])
    assert EMOJI in capsys.readouterr().out
    assert EMOJI in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert EMOJI in (rover / "README.md").read_text(encoding="utf-8")
    main(["forget", str(rover), EMOJI])
    assert EMOJI not in capsys.readouterr().out
    assert Model(rover).classes == ("deep", "low", "high", "another")
    held = b"".join(everything(rover).values())
    assert EMOJI.encode() not in held and json.dumps(EMOJI)[1:-1].encode() not in held


@pytest.mark.slow
def test_a_name_of_many_alphabets_is_exported(rover: Path, tmp_path: Path, capsys: Any) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    result(capsys, "teach", rover, listed(tmp_path / "clips", EMOJI), "--workers", "0")
    main(["export", str(rover), str(tmp_path / "rover.onnx")])
    (entry,) = onnx.load(tmp_path / "rover.onnx").metadata_props
    assert json.loads(entry.value)["classes"] == ["deep", "low", "high", EMOJI]


# ---- flags ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--learner", "ridge"], ["--learner", "made with ncm, not ridge"]),
        (["--learner", "joint"], ["--learner", "made with ncm, not joint"]),
        (["--learner", "ncmm"], ["ncm"]),
        (["--memory", "7"], ["--memory", "made with 20, not 7"]),
        (["--memory", "-1"], ["--memory", "negative"]),
        (["--seed", "7"], ["--seed", "made with 0, not 7"]),
        (["--encoder", "pe-av"], ["--encoder", "made with signal, not pe-av"]),
        (["--encoder", "ear"], ["--encoder", "ear"]),
        (["--model", "nowhere"], ["--model"]),
        (["--false-alarm", "0"], ["--false-alarm", "above 0 and below 1"]),
        (["--false-alarm", "1"], ["--false-alarm", "above 0 and below 1"]),
        (["--false-alarm", "2"], ["--false-alarm", "above 0 and below 1"]),
        (["--false-alarm", "nan"], ["--false-alarm", "above 0 and below 1"]),
        (["--history", "-1"], ["--history", "negative"]),
        (["--max-drop", "nan"], ["--max-drop"]),
        (["--max-drop", "-0.1"], ["--max-drop"]),
        (["--workers", "-1"], ["--workers", "negative"]),
        (["--classes", "whale"], ['"whale"', "shrill"]),
        (["--classes", " ,"], ["--classes", "is empty"]),
    ],
    ids=" ".join,
)
def test_flags_that_cannot_be(more: list[str], words: list[str], rover: Path, third: Path, capsys: Any) -> None:
    before = everything(rover)
    line = failure(capsys, "teach", rover, third, "--workers", "0", *more)
    assert all(word in line for word in words) and "defect" not in line, line
    assert everything(rover) == before


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--learner", "joint"], ["joint", "every clip it ever learnt", "hark"]),
        (["--false-alarm", "0"], ["--false-alarm"]),
        (["--false-alarm", "nan"], ["--false-alarm"]),
        (["--seed", "-1"], ["--seed", "negative"]),
        (["--seed", "99999999999999999999"], ["--seed"]),
        (["--encoder", "pe-av"], ["--model", "give a folder"]),
    ],
    ids=" ".join,
)
def test_flags_that_cannot_be_of_a_new_model(
    more: list[str], words: list[str], third: Path, tmp_path: Path, capsys: Any
) -> None:
    line = failure(capsys, "teach", tmp_path / "new", third, "--workers", "0", *more)
    assert all(word in line for word in words) and "defect" not in line, line
    assert not Vault(tmp_path / "new").exists


@pytest.mark.parametrize("rate", ["0", "1", "nan"])
def test_rates_that_cannot_be_asked_for(rate: str, rover: Path, third: Path, capsys: Any) -> None:
    sound = next(third.rglob("*.wav"))
    assert "--false-alarm" in failure(capsys, "predict", rover, sound, "--false-alarm", rate)


def test_the_store_of_another_encoder_is_refused(rover: Path, third: Path, tmp_path: Path, capsys: Any) -> None:
    store = tmp_path / "features"
    main(["extract", str(third), "--store", str(store), "--workers", "0"])
    facts = json.loads((store / "store.json").read_text())
    facts["key"], facts["encoder"]["name"] = "0" * 16, "sam-audio"
    (store / "store.json").write_text(json.dumps(facts))
    capsys.readouterr()
    before, features = everything(rover), everything(store)
    for model in (rover, tmp_path / "new"):
        line = failure(capsys, "teach", model, third, "--store", store, *MADE)
        assert "sam-audio" in line and "signal" in line and "--store" in line
    assert everything(rover) == before and everything(store) == features
    assert not Vault(tmp_path / "new").exists


def test_what_was_encoded_for_another_encoder_is_not_in_the_way(third: Path, tmp_path: Path, capsys: Any) -> None:
    """A model was begun with one encoder, that was stopped, and it is made with another."""
    store = tmp_path / "new" / ".features"
    main(["extract", str(third), "--store", str(store), "--workers", "0"])
    facts = json.loads((store / "store.json").read_text())
    facts["key"], facts["encoder"]["name"] = "0" * 16, "sam-audio"
    (store / "store.json").write_text(json.dumps(facts))
    capsys.readouterr()
    assert result(capsys, "teach", tmp_path / "new", third, *MADE)["counts"] == {"shrill": 5}


# ---- refused sessions, rehearsals -----------------------------------------------------------------------------------


def test_a_session_that_costs_too_much_changes_nothing_and_can_be_forced(tmp_path: Path, capsys: Any) -> None:
    clips = sounds(tmp_path / "clips", "low", "high", count=10)
    model, settings = tmp_path / "rover", ["--finetune.train.epochs", "4", "--workers", "0"]
    result(capsys, "teach", model, clips, "--learner", "finetune", "--memory", "20", *settings)
    sounds(tmp_path / "more", "shrill", count=10)  # Learnt alone, without exemplars, it is all that is known then.
    before = shown(model)
    argv = ["teach", model, tmp_path / "more", "--workers", "0"]
    line = failure(capsys, *argv)
    assert "--max-drop 0.2 forbids that, so nothing was changed" in line and "--force" in line
    assert shown(model) == before
    cost = result(capsys, *argv, "--dry-run")["record"]["before"]
    assert cost["asked"] == 4 and cost["right"] - cost["right_after"] > 1
    assert f"of 4 clips of the old classes, {cost['right']} were told rightly" in line
    assert shown(model) == before
    assert result(capsys, *argv, "--force")["record"]["before"] == cost
    assert Model(model).classes == ("high", "low", "shrill")
    main(["undo", str(model)])
    assert shown(model) == before


def test_a_larger_share_may_be_allowed(tmp_path: Path, capsys: Any) -> None:
    clips = sounds(tmp_path / "clips", "low", "high", count=10)
    model, settings = tmp_path / "rover", ["--finetune.train.epochs", "4", "--workers", "0"]
    result(capsys, "teach", model, clips, "--learner", "finetune", "--memory", "20", *settings)
    sounds(tmp_path / "more", "shrill", count=10)
    argv = ["teach", model, tmp_path / "more", "--workers", "0", "--max-drop"]
    assert "--max-drop 0 forbids" in failure(capsys, *argv, "0")
    assert result(capsys, *argv, "1")["counts"]["shrill"] == 10


def test_a_rehearsal_changes_nothing(rover: Path, third: Path, tmp_path: Path, capsys: Any) -> None:
    before, stamps = everything(rover), {path: path.stat().st_mtime_ns for path in rover.rglob("*")}
    found = result(capsys, "teach", rover, third, "--workers", "0", "--dry-run")
    assert found["written"] is False and found["counts"]["shrill"] == 5
    assert everything(rover) == before
    assert {path: path.stat().st_mtime_ns for path in rover.rglob("*")} == stamps
    found = result(capsys, "teach", tmp_path / "new" / "deep", third, *MADE, "--dry-run")
    assert found["written"] is False and found["counts"] == {"shrill": 5}
    assert not (tmp_path / "new").exists()


# ---- disks and keys -------------------------------------------------------------------------------------------------


def at_call(number: int, failure: BaseException) -> Callable[..., None]:
    """`save_file` that fails at one of its calls."""
    calls = 0

    def save(arrays: Any, path: Any, *more: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == number:
            Path(path).write_bytes(b"half of it")
            raise failure
        save_file(arrays, path, *more)

    return save


FULL = SafetensorError('I/O error: Os { code: 28, kind: StorageFull, message: "No space left on device" }')


@pytest.mark.parametrize("number", [1, 2, 3, 4])  # What was encoded; what answers; what is retained; the ledger.
def test_a_disk_that_is_full_leaves_the_model_as_it_was(
    number: int, rover: Path, third: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = shown(rover)
    monkeypatch.setattr(files, "save_file", at_call(number, FULL))
    line = failure(capsys, "teach", rover, third, "--workers", "0")
    assert "No space left on device; free some space and start again" in line
    assert shown(rover) == before
    assert not any((rover / name).exists() for name in (".next", ".now"))
    monkeypatch.setattr(files, "save_file", save_file)
    assert result(capsys, "teach", rover, third, "--workers", "0")["counts"]["shrill"] == 5


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_a_disk_that_is_full_while_forgetting_leaves_the_model_as_it_was(
    number: int, rover: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(rover)
    monkeypatch.setattr(files, "save_file", at_call(number, FULL))
    assert "No space left on device" in failure(capsys, "forget", rover, "low")
    assert everything(rover) == before


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_ctrl_c_while_writing_leaves_the_model_as_it_was(
    number: int, rover: Path, third: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = shown(rover)
    monkeypatch.setattr(files, "save_file", at_call(number, KeyboardInterrupt()))
    assert "stopped; what was finished is kept" in failure(capsys, "teach", rover, third, "--workers", "0")
    assert shown(rover) == before
    assert result(capsys, "teach", rover, third, "--workers", "0")["counts"]["shrill"] == 5


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_only_be_read_answers_and_is_not_taught(rover: Path, third: Path, capsys: Any) -> None:
    for path in (rover, *rover.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        teaching, predicting, inspecting, forgetting = commands_on(rover, third)
        for argv in (predicting, inspecting):
            main(list(map(str, argv)))
        for argv in (teaching, forgetting, ["undo", rover]):
            capsys.readouterr()
            assert "permissions" in failure(capsys, *argv)
    finally:
        for path in (rover, *rover.rglob("*")):
            path.chmod(0o755)


def command(*argv: str | Path) -> list[str]:
    return [sys.executable, "-c", "from harkback.cli import main; main()", *(str(word) for word in argv)]


def run(argv: Sequence[str], **more: Any) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(argv, capture_output=True, text=True, env=env, timeout=120, **more)


@pytest.mark.slow
def test_a_disk_that_really_takes_no_more(rover: Path, third: Path) -> None:
    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))

    before, argv = shown(rover), command("teach", rover, third, "--workers", "0")
    done = run(argv, preexec_fn=small_files)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert os.strerror(errno.EFBIG) in done.stderr.strip().splitlines()[-1]
    assert shown(rover) == before
    assert run(argv).returncode == 0


@pytest.mark.slow
def test_ctrl_c_as_it_is_pressed(rover: Path, tmp_path: Path) -> None:
    sounds(tmp_path / "many", "shrill", count=300)
    before, argv = shown(rover), command("teach", rover, tmp_path / "many", "--workers", "1")
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, preexec_fn=heed_ctrl_c)
    assert process.stderr is not None
    said = b""
    while b"| 1" not in said and process.poll() is None:  # Some clips are encoded.
        said += os.read(process.stderr.fileno(), 4096)
    process.send_signal(signal.SIGINT)
    out, rest = process.communicate(timeout=60)
    assert process.returncode == 2 and out == b"" and b"Traceback" not in said + rest
    assert rest.strip().splitlines()[-1].split(b"\r")[-1].startswith(b"harkback: stopped; what was finished is kept")
    assert shown(rover) == before
    assert run(argv).returncode == 0


# ---- several at once ------------------------------------------------------------------------------------------------


def test_two_who_teach_at_once_do_so_one_after_another(rover: Path, material: Path, tmp_path: Path) -> None:
    """In threads, which the lock keeps apart as it does processes."""
    sounds(tmp_path / "fourth", "whirr")
    said: list[str] = []
    learning, goes_on = threading.Event(), threading.Event()
    learn, failed = NCM._learn, []

    def slowly(*args: Any) -> None:
        learning.set()
        assert goes_on.wait(30)
        learn(*args)

    def teaching(clips: Path) -> None:
        try:
            teach(rover, clips, force=True, tell=lambda line: (said.append(line), goes_on.set()))
        except BaseException as error:
            failed.append(error)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NCM, "_learn", slowly)
        first = threading.Thread(target=teaching, args=[material / "third"])
        first.start()
        assert learning.wait(30)
        answer = Model(rover).predict(next((material / "second").rglob("*.wav")))[0]
        assert answer.likeliest == "high"  # Who asks meanwhile is answered by the model as it was.
        assert Model(rover).classes == ("deep", "low", "high")
        second = threading.Thread(target=teaching, args=[tmp_path / "fourth"])
        second.start()
        first.join(30)
        second.join(30)
    assert failed == []
    assert said == [f"{rover}: another process changes this model; waiting for it"]
    assert Model(rover).classes == ("deep", "low", "high", "shrill", "whirr")
    assert [record["new"] for record in Model(rover).facts["sessions"][-2:]] == [["shrill"], ["whirr"]]


def test_who_has_waited_too_long_is_told(
    rover: Path, third: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Vault.changing.__wrapped__, "__defaults__", (0.1,))
    before = everything(rover)
    with FileLock(rover / ".lock"):
        for argv in (["teach", rover, third], ["forget", rover, "low"], ["undo", rover]):
            line = failure(capsys, *argv)
            assert "another process has been changing this model for 0.1 s; try again when it has finished" in line
    assert everything(rover) == before


@pytest.mark.slow
def test_two_processes_that_teach_at_once_both_succeed(rover: Path, material: Path, tmp_path: Path) -> None:
    sounds(tmp_path / "fourth", "whirr")
    words = [command("teach", rover, clips, "--force", "--json") for clips in (material / "third", tmp_path / "fourth")]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with FileLock(rover / ".lock"):
        both = [subprocess.Popen(argv, env=env, **pipes) for argv in words]
        for process in both:
            assert process.stderr is not None
            assert "another process changes this model; waiting for it" in process.stderr.readline()
    for process in both:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert json.loads(out)["written"] is True
    assert set(Model(rover).classes) == {"deep", "low", "high", "shrill", "whirr"}
    assert Model(rover).facts["version"] == 4
