"""Bad luck of the machine: a full disk, no permission, no handles, no memory. One line each, nothing lost, and then on.

Each command runs in a process of its own, forked from this one, so that what it lacks this one does not.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch

from fakes import tone
from harkback.cli import main
from harkback.encoders import Opening
from harkback.learners.ncm import NCM
from harkback.model import Model
from harkback.store import FeatureStore
from harkback.vault import Vault
from mishaps import a_disk, apart, as_nobody, few_handles, fill, read_only, small_files

# From Python 3.12 on: nothing of the other threads is asked for in a forked process.
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
MADE = ("--learner", "ncm", "--memory", "6", "--workers", "0")
BENCH = ("--learners", "ncm,ridge", "--sessions", "2", "--seeds", "1", "--memory", "4", "--workers", "0", "--json")
MARKS = ("time", "seconds", "seconds_per_session")


def words(command: str, place: Path, material: Path) -> list[str | Path]:
    """A command that writes to ``place``, which holds a model of two lessons."""
    model = place / "model"
    return {
        "extract": ["extract", material / "third", "--store", place / "store", "--workers", "0"],
        "bench": ["bench", material / "bench", "--store", material / "features", "--out", place / "out", *BENCH],
        "teach": ["teach", model, material / "third", "--workers", "0"],
        "undo": ["undo", model],
        "forget": ["forget", model, "low"],
        "export": ["export", model, place / "model.onnx"],
    }[command]


SLOW = pytest.param("bench", marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips, and a model of two lessons; whatever the commands load late is loaded."""
    root = tmp_path_factory.mktemp("material")
    root.chmod(0o755)
    for session, names in (("first", ("low", "deep")), ("second", ("high",)), ("third", ("shrill",))):
        for number, name in enumerate(names):
            for i in range(4):
                pitch = 100 * len(session) + 400 * number + 700 * (session == "third") + 9 * i
                tone(root / session / name / f"{i}.wav", pitch)
    for split, count in (("train", 3), ("test", 2)):
        for number in range(4):
            for i in range(count):
                tone(root / "bench" / split / f"class {number}" / f"{i}.wav", 300 + 500 * number + 13 * i + len(split))
    main(["teach", str(root / "model"), str(root / "first"), *MADE])
    main(["teach", str(root / "model"), str(root / "second"), "--workers", "0"])
    for command in ("extract", "teach", "undo", "forget"):
        main([str(word) for word in words(command, put(root, root / f"warm {command}"), root)])
    return root


def put(material: Path, place: Path) -> Path:
    """The old state."""
    place.mkdir(exist_ok=True)
    shutil.copytree(material / "model", place / "model")
    return place


def plain(facts: Any) -> Any:
    if isinstance(facts, dict):
        return {name: plain(value) for name, value in facts.items() if name not in MARKS}
    return [plain(value) for value in facts] if isinstance(facts, list) else facts


def held(place: Path) -> dict[str, Any]:
    """All that a user has there, by name: features, finished sessions, and the model; all of it is opened."""
    found: dict[str, Any] = {}
    for path in (place / "out").glob("runs/*/session-*"):
        content = plain(json.loads(path.read_text())) if path.suffix == ".json" else path.read_bytes()
        found[str(path.relative_to(place))] = content
    if (place / "store" / "store.json").exists():  # Clip by clip: in which shards they lie may be another matter.
        store = FeatureStore.open(place / "store", Opening("signal").open().spec)
        for key in store.places:
            row = store.rows([key], [key])[torch.arange(1)]
            found[key] = [row.audio.numpy().tobytes(), row.visual.numpy().tobytes(), row.heard.item()]
    model = Model(place / "model")
    found["model"] = plain(model.facts)
    with Vault(place / "model").changing(print):
        found["before"] = [plain(version.facts) for version in Vault(place / "model").versions()]
    return found


@pytest.fixture(scope="module")
def straight(material: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """What a command comes to that meets no bad luck."""
    root, known = tmp_path_factory.mktemp("straight"), dict[str, dict[str, Any]]()

    def of(command: str) -> dict[str, Any]:
        if command not in known:
            place = put(material, root / command)
            main([str(word) for word in words(command, place, material)])
            known[command] = held(place)
        return known[command]

    return of


def nothing_lost(now: dict[str, Any], old: dict[str, Any], new: dict[str, Any]) -> bool:
    """The model is the old one or the new one; of shards and sessions there are those that were finished."""
    models = [(each["model"], each["before"]) for each in (old, new)]
    rest = [name for name in now if name not in ("model", "before")]
    return (now["model"], now["before"]) in models and all(now[name] == new.get(name) for name in rest)


def unlucky(
    command: str, place: Path, material: Path, new: dict[str, Any], lacks: list[Callable[[], object]], says: str
) -> int:
    """How often the command failed under these conditions; if it went through under one, the others are not tried."""
    old, failed = held(place), 0
    for under in lacks:
        said = apart(*words(command, place, material), under=under)
        if said.status == 0:
            break
        failed += 1
        assert said.line and says in said.err  # Where no clip can be had, it is said of each.
        assert nothing_lost(held(place), old, new)
    return failed


# ---- disks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["extract", "teach", "forget", SLOW])
def test_a_full_disk(command: str, material: Path, straight: Any, tmp_path: Path) -> None:
    """However much there is still room for."""
    with a_disk(tmp_path / "disk") as disk:
        place, failed = put(material, disk), 0
        old = held(place)
        for free in (0, 16 << 10, 256 << 10):
            filler = fill(disk, free)
            said = apart(*words(command, place, material))
            filler.unlink()
            if said.status == 0:
                break
            failed += 1
            assert "No space left on device; free some space" in said.line
            assert nothing_lost(held(place), old, straight(command))
        assert failed > 1
        if said.status:
            assert apart(*words(command, place, material)).status == 0
        assert held(place) == straight(command)


def test_to_step_back_needs_no_room(material: Path, straight: Any, tmp_path: Path) -> None:
    with a_disk(tmp_path / "disk") as disk:
        place = put(material, disk)
        filler = fill(disk, 0)
        assert apart(*words("undo", place, material)).status == 0
        filler.unlink()
        assert held(place) == straight("undo")


@pytest.mark.parametrize("command", ["extract", "teach", "forget", SLOW])
def test_no_file_may_grow(command: str, material: Path, straight: Any, tmp_path: Path) -> None:
    """As on a full disk, without one."""
    place = put(material, tmp_path / "place")
    assert unlucky(command, place, material, straight(command), [small_files(1000)], "File too large; allow") == 1
    assert apart(*words(command, place, material)).status == 0
    assert held(place) == straight(command)


def test_a_disk_that_is_read_only(material: Path, tmp_path: Path) -> None:
    with a_disk(tmp_path / "disk") as disk:
        place = put(material, disk)
        assert apart(*words("extract", place, material)).status == 0
        old = held(place)
        read_only(disk)
        for command in ("teach", "undo", "forget"):
            line = apart(*words(command, place, material)).line
            assert "Read-only file system; choose a folder that can be written to" in line and str(place) in line
        clip = material / "second" / "high" / "0.wav"
        for asking in (["inspect", place / "model"], ["predict", place / "model", clip]):
            assert apart(*asking).status == 0
        assert apart(*words("extract", place, material)).status == 0  # All is there.
        other = ["extract", material / "first", "--store", place / "store", "--workers", "0"]
        assert "Read-only file system" in apart(*other).line
        assert Model(place / "model").classes == tuple(old["model"]["classes"])


# ---- permissions ----------------------------------------------------------------------------------------------------


@pytest.fixture
def open_place(material: Path) -> Iterator[Path]:
    """A folder that everybody can reach, with clips and the model, all owned by whoever runs the tests."""
    if os.geteuid():
        pytest.skip("NO PERMISSION IS TAKEN AWAY: it takes root to become somebody else")
    with TemporaryDirectory(prefix="bad-luck-") as folder:
        root = Path(folder)
        root.chmod(0o755)
        put(material, root)
        shutil.copytree(material / "third", root / "clips")
        yield root


def test_a_clip_that_may_not_be_read_is_tried_again(open_place: Path) -> None:
    denied = sorted((open_place / "clips").rglob("*.wav"))[1]
    argv = ["extract", open_place / "clips", "--store", open_place / "mine" / "store", "--workers", "0", "--json"]
    (open_place / "mine").mkdir(mode=0o777)
    (open_place / "mine").chmod(0o777)
    denied.chmod(0)
    said = apart(*argv, under=as_nobody)
    assert said.status == 0 and json.loads(said.out)["clips"] == 3
    assert "Permission denied" in said.err and denied.name in said.err
    denied.chmod(0o644)
    said = apart(*argv, under=as_nobody)
    assert (json.loads(said.out)["clips"], json.loads(said.out)["encoded"]) == (4, 1)


def test_a_store_or_a_model_that_may_not_be_written(open_place: Path) -> None:
    before, model = held(open_place), open_place / "model"
    (open_place / "store").mkdir()
    for argv in (
        ["extract", open_place / "clips", "--store", open_place / "store", "--workers", "0"],
        ["teach", model, open_place / "clips", "--workers", "0"],
        ["undo", model],
        ["forget", model, "low"],
    ):
        line = apart(*argv, under=as_nobody).line
        assert "Permission denied" in line and "permissions" in line and str(open_place) in line
    assert held(open_place) == before
    assert apart("inspect", model, under=as_nobody).status == 0


def test_a_model_that_may_not_be_read(open_place: Path) -> None:
    model = open_place / "model"
    (model / "memory.safetensors").chmod(0)
    line = apart("inspect", model, under=as_nobody).line
    assert "memory.safetensors: Permission denied" in line


# ---- what a process may have ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["extract", "teach", "undo", "forget", SLOW])
def test_too_few_file_handles(command: str, material: Path, straight: Any, tmp_path: Path) -> None:
    place = put(material, tmp_path / "place")
    lacks = [few_handles(more) for more in (0, 1, 2, 4, 8)]
    assert unlucky(command, place, material, straight(command), lacks, "allow more open files (ulimit -n)") > 0
    if held(place) != straight(command):
        assert apart(*words(command, place, material)).status == 0
    assert held(place) == straight(command)


def wants_a_petabyte(*_: object) -> None:
    torch.empty(2**50, dtype=torch.uint8)


def out_of_memory(*_: object) -> None:
    raise MemoryError


@pytest.mark.parametrize("wants", [wants_a_petabyte, out_of_memory])
@pytest.mark.parametrize("command", ["teach", "forget", SLOW])
def test_too_little_memory(
    command: str, wants: Callable[..., None], material: Path, straight: Any, tmp_path: Path
) -> None:
    def under() -> None:
        NCM._learn = NCM.subtract = wants  # type: ignore[method-assign, assignment]

    place = put(material, tmp_path / "place")
    assert unlucky(command, place, material, straight(command), [under], "memory does not suffice; end other") == 1
    assert apart(*words(command, place, material)).status == 0
    assert held(place) == straight(command)
