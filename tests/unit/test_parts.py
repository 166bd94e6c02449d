"""Parts of a store: written by anyone, taken in by one, whole after a kill at any moment."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fakes import Fake, random_features
from harkback import parts as module
from harkback.errors import HarkbackError
from harkback.features import Features
from harkback.parts import Parts
from harkback.store import FeatureStore

SPEC = Fake().spec


def rows(keys: str, seed: int) -> Features:
    some = random_features(len(keys), seed, SPEC.shape)
    return Features(tuple(keys), some.audio, some.visual, some.heard, some.seen)


def files(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.glob("0*")}


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore.open(tmp_path / "store", SPEC)


def test_a_part_becomes_the_shard_that_one_process_would_have_written(store: FeatureStore, tmp_path: Path) -> None:
    other = FeatureStore.open(tmp_path / "other", SPEC)
    for seed, (keys, failures) in enumerate((("abc", {"x": "it is torn"}), ("", {"y": "it is torn"}), ("d", {}))):
        Parts(store.root).write(f"part{seed}", rows(keys, seed), failures, {"z": "for now"})
        assert Parts(store.root).take_in(f"part{seed}", store) == {"z": "for now"}
        other.add(rows(keys, seed), failures)
    assert len(files(store.root)) == 5  # Of the shard without rows there is but a list.
    assert files(store.root) == files(other.root)
    assert torch.equal(store.rows(["b"], ["b"])[torch.tensor([0])].audio[0], rows("abc", 0).audio[1])
    Parts(store.root).clear()
    assert not Parts(store.root).folder.exists()


def test_a_part_of_failures_that_pass_leaves_no_shard(store: FeatureStore) -> None:
    Parts(store.root).write("part", rows("", 0), {}, {"z": "for now"})
    assert Parts(store.root).there(["part"]) == {"part"}
    Parts(store.root).take_in("part", store)
    assert not files(store.root)


def test_only_what_is_whole_is_there(store: FeatureStore) -> None:
    parts = Parts(store.root)
    assert parts.there(["one"]) == set()
    for name in ("one", "two", "three"):
        parts.write(name, rows("ab", 1), {}, {})
    (parts.folder / "one.json").unlink()  # Killed before the list.
    (parts.folder / "two.safetensors").unlink()  # The store was killed after it had moved the arrays, before its list.
    assert parts.there(["one", "two", "three", "four"]) == {"three"}


@pytest.mark.parametrize("step", ["replace", "add", "unlink"])
def test_killed_while_a_part_is_taken_in(
    step: str, store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Afterwards the part is whole, or the shard, or the block is done again; and the store is the same."""

    class Killed(BaseException):
        pass

    def dies(*_: object, **__: object) -> None:
        raise Killed

    parts = Parts(store.root)
    parts.write("part", rows("ab", 1), {}, {})
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr({"replace": Path, "add": type(store.places), "unlink": Path}[step], step, dies)
        parts.take_in("part", store)
    again = FeatureStore.open(store.root, SPEC)
    if "a" not in again.places:
        if not parts.there(["part"]):
            parts.write("part", rows("ab", 1), {}, {})
        parts.take_in("part", again)
    other = FeatureStore.open(tmp_path / "other", SPEC)
    other.add(rows("ab", 1), {})
    assert files(store.root) == files(other.root)


def test_a_folder_that_is_no_store_is_not_begun(tmp_path: Path) -> None:
    """A machine that does not see the shared folder would else write where nobody looks."""
    with pytest.raises(HarkbackError, match="not seen by this machine"):
        Parts(tmp_path / "nowhere").write("part", rows("a", 1), {}, {})
    assert not (tmp_path / "nowhere").exists()


def test_a_machine_with_another_version_is_refused(store: FeatureStore) -> None:
    with pytest.raises(HarkbackError, match="same version"):
        Parts(store.root, "0.0.1").write("part", rows("a", 1), {}, {})
    assert not Parts(store.root).folder.exists()


def test_a_part_that_a_slow_network_shows_late(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Parts(store.root)
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            parts.write("part", rows("a", 1), {}, {})

    monkeypatch.setattr(module, "sleep", sleep)
    parts.take_in("part", store)
    assert len(slept) == 3 and "a" in store.places


def test_a_part_that_never_comes_is_said(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "sleep", lambda _: None)
    with pytest.raises(HarkbackError, match=r"part\.json"):
        Parts(store.root).take_in("part", store)
