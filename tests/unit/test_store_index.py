"""The index of a store: with it, without it, and whatever happened to it, the store holds what its lists say."""

from __future__ import annotations

import json
import os
import shutil
import threading
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from fakes import Fake
from harkback import catalogue, store
from harkback.catalogue import FILE, Source
from harkback.clips import Clip
from harkback.errors import HarkbackError
from harkback.features import Features
from harkback.store import FeatureStore

SPEC = Fake().spec
SHARDS = 6


@pytest.fixture(autouse=True)
def an_index_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made when more than two shards are not in it."""
    monkeypatch.setattr(catalogue, "LOOSE", 2)


def row_of(key: str) -> Features:
    """A row that is its key's alone."""
    some, shape = torch.Generator().manual_seed(int.from_bytes(sha256(key.encode()).digest()[:6])), SPEC.shape
    there = torch.ones(1, dtype=torch.bool)
    audio, visual = (torch.randn(1, *part, generator=some).half() for part in (shape[:2], shape[2:]))
    return Features((key,), audio, visual, there, there.clone())


def list_shard(root: Path, name: str, keys: object = (), **facts: object) -> None:
    """A shard's list, written by hand; the tokens are not there."""
    told = {"keys": keys, "failures": {}, "sources": {}} | facts
    (root / f"{name}.json").write_text(json.dumps(told))


def fill(root: Path, shards: int = SHARDS, first: int = 0) -> None:
    """Shards of one clip each, and a failure."""
    filled = FeatureStore.open(root, SPEC)
    for i in range(first, first + shards):
        filled.add(row_of(f"key {i}"), {f"bad {i}": f"reason {i}"})


def check(root: Path, count: int = SHARDS) -> FeatureStore:
    """It holds what `fill` put in."""
    found = FeatureStore.open(root, SPEC)
    keys = [f"key {i}" for i in range(count)]
    assert len(found.places) == count
    assert sorted(found.places) == sorted(keys)
    assert all(key in found.places for key in keys)
    assert found.failures == {f"bad {i}": f"reason {i}" for i in range(count)}
    assert "bad 0" not in found.places
    assert 5 not in found.places
    with pytest.raises(KeyError, match="unknown"):
        found.rows(["key 0", "unknown"], ["a", "b"])
    part = found.rows(keys[::-1], keys[::-1])[torch.arange(count)]
    for row, key in enumerate(reversed(keys)):
        assert torch.equal(part.visual[row], row_of(key).visual[0])
    return found


def test_a_store_with_few_shards_has_none(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    check(tmp_path, 2)
    assert not (tmp_path / FILE).exists()


def test_it_is_made_when_there_are_many_and_then_no_list_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)
    assert not (tmp_path / FILE).exists()
    check(tmp_path)
    before = (tmp_path / FILE).read_bytes()
    reads: list[str] = []
    whole = catalogue.read_json
    monkeypatch.setattr(catalogue, "read_json", lambda path, *m: (reads.append(path.stem[:6]), whole(path, *m))[1])
    found = FeatureStore.open(tmp_path, SPEC)
    assert "key 3" in found.places
    assert reads == []
    fill(tmp_path, 2, SHARDS)  # Two more, which it may lack.
    assert reads == []
    FeatureStore.open(tmp_path, SPEC)
    assert reads == ["000006", "000007"]
    assert (tmp_path / FILE).read_bytes() == before
    check(tmp_path, SHARDS + 2)
    fill(tmp_path, 1, SHARDS + 2)
    reads.clear()
    FeatureStore.open(tmp_path, SPEC)
    assert reads == ["000006", "000007", "000008"]  # What is in it already is not read again.
    reads.clear()
    FeatureStore.open(tmp_path, SPEC)
    assert reads == []
    check(tmp_path, SHARDS + 3)


def test_files_are_known_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clips").mkdir()
    clips = []
    for i, name in enumerate(["plain.wav", "café.wav", "caf\udce9.wav", "new\nline.wav"]):
        path = tmp_path / "clips" / name
        path.write_bytes(name.encode(errors="surrogateescape"))
        os.utime(path, ns=(i, 10**18 + i))
        clips.append(Clip(str(i), path))
    keys: list[str] = []
    filled = FeatureStore.open(tmp_path / "store", SPEC)
    for clip in clips:
        keys.append(filled.key(clip))
        filled.add(row_of(keys[-1]), {})
    assert keys == [sha256(clip.path.read_bytes()).hexdigest() for clip in clips]
    FeatureStore.open(tmp_path / "store", SPEC)
    monkeypatch.setattr(catalogue, "read_json", lambda path, *_: pytest.fail(f"{path} is read"))
    monkeypatch.setattr(store, "digest", lambda path: pytest.fail(f"{path} is read"))
    found = FeatureStore.open(tmp_path / "store", SPEC)
    assert [found.key(clip) for clip in clips] == keys
    for clip, key in zip(clips, keys, strict=True):
        stat = clip.path.stat()
        assert found.places.source(str(clip.path)) == (stat.st_size, stat.st_mtime_ns, key)
    assert found.places.source("/somewhere/else.wav") is None


def test_what_was_said_last_holds(tmp_path: Path) -> None:
    """Of shards in the index among themselves, and of one that it lacks against it."""
    FeatureStore.open(tmp_path, SPEC)
    old, new, newest = (Source(size, 7, sha256(bytes(size)).hexdigest()) for size in (1, 2, 3))
    for i, source in enumerate((old, old, new)):
        list_shard(tmp_path, f"00000{i}-x", ["mine", f"other {i}"], sources={"/a.wav": source})
    for times in range(2):
        found = FeatureStore.open(tmp_path, SPEC).places
        assert found.find(["other 1", "mine", "other 0"]).tolist() == [[1, 1], [2, 0], [0, 1]], times
        assert found.source("/a.wav") == new
        assert len(found) == 4
    list_shard(tmp_path, "000003-x", ["more", "mine"], sources={"/a.wav": newest})
    found = FeatureStore.open(tmp_path, SPEC).places
    assert found.find(["mine", "other 1", "more"]).tolist() == [[3, 1], [1, 1], [3, 0]]
    assert found.source("/a.wav") == newest
    assert len(found) == len(set(found)) == 5


def test_many_keys_are_where_the_lists_say(tmp_path: Path) -> None:
    FeatureStore.open(tmp_path, SPEC)
    expected = {}
    for shard in range(20):
        keys = [sha256(f"{shard} {i}".encode()).hexdigest() + "@0.0-1.5" * (i % 2) for i in range(50)]
        list_shard(tmp_path, f"{shard:06d}-x", keys)
        expected.update({key: [shard, row] for row, key in enumerate(keys)})
    for _ in range(2):
        found = FeatureStore.open(tmp_path, SPEC).places
        assert dict(zip(expected, found.find(list(expected)).tolist(), strict=True)) == expected
        assert set(found) == expected.keys()
        absent = [key[:-1] for key in expected] + ["", "x" * 64]
        assert not any(key in found for key in absent)
    assert FeatureStore.open(tmp_path, SPEC).rows([], []).places.shape == (0, 2)


# ---- stale and damaged ----------------------------------------------------------------------------------------------


def test_a_damaged_index_is_made_anew(tmp_path: Path) -> None:
    fill(tmp_path)
    check(tmp_path)
    path = tmp_path / FILE
    good = path.read_bytes()
    damages = [b"", b"x", good[:-1], good[: len(good) // 2], good + b"x", b"\0" * len(good)]
    for at in range(0, len(good), 41):  # A byte here and there, in the header and in each array.
        damages.append(good[:at] + bytes([good[at] ^ 0x11]) + good[at + 1 :])
    for damage in damages:
        path.write_bytes(damage)
        check(tmp_path)
    assert path.read_bytes() == good


def test_an_index_of_something_else(tmp_path: Path) -> None:
    fill(tmp_path)
    check(tmp_path)
    good = (tmp_path / FILE).read_bytes()
    fill(tmp_path / "other", 3, 20)
    FeatureStore.open(tmp_path / "other", SPEC)
    shutil.copy(tmp_path / "other" / FILE, tmp_path / FILE)
    check(tmp_path)
    assert (tmp_path / FILE).read_bytes() == good
    file = next(tmp_path.glob("000000*.safetensors"))
    shutil.copy(file, tmp_path / FILE)
    check(tmp_path)
    assert (tmp_path / FILE).read_bytes() == good


def test_an_index_of_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path)
    check(tmp_path)
    before = (tmp_path / FILE).read_bytes()
    monkeypatch.setattr(catalogue, "VERSION", catalogue.VERSION + 1)
    check(tmp_path)
    assert (tmp_path / FILE).read_bytes() != before


def test_shards_that_are_gone_or_others(tmp_path: Path) -> None:
    fill(tmp_path)
    check(tmp_path)
    last = next(tmp_path.glob(f"{SHARDS - 1:06d}*.json"))
    text = last.read_text()
    last.unlink()
    check(tmp_path, SHARDS - 1)
    last.write_text(text)
    check(tmp_path)
    changed = text.replace(f"key {SHARDS - 1}", "key ?")  # As long as before.
    last.write_text(changed)
    os.utime(last, ns=(1, 1))
    found = FeatureStore.open(tmp_path, SPEC)
    assert "key ?" in found.places
    assert f"key {SHARDS - 1}" not in found.places


def test_a_list_that_is_damaged_later_is_told(tmp_path: Path) -> None:
    fill(tmp_path)
    check(tmp_path)
    next(tmp_path.glob("000002*.json")).write_text("{")
    with pytest.raises(HarkbackError, match=r"000002.*\.json: is damaged.*; delete"):
        FeatureStore.open(tmp_path, SPEC)


@pytest.mark.parametrize("count", [1, SHARDS])
@pytest.mark.parametrize(
    "facts",
    [
        {"keys": [1]},
        {"keys": [None]},
        {"failures": {"a": 5}},
        {"failures": ["a"]},
        {"sources": {"/a": [1, 2]}},
        {"sources": {"/a": [1, 2, "ab"]}},
        {"sources": {"/a": [1, 2, "x" * 64]}},
        {"sources": {"/a": [1, 2, 3]}},
        {"sources": {"/a": [2**70, 2, "0" * 64]}},
        {"sources": {"/a": ["1", 2, "0" * 64]}},
        {"sources": {"/a": 5}},
    ],
)
def test_a_list_with_something_else_in_it(tmp_path: Path, count: int, facts: dict[str, object]) -> None:
    """With an index to be made, and without."""
    FeatureStore.open(tmp_path, SPEC)
    for i in range(count):
        list_shard(tmp_path, f"{i:06d}-x", **({"keys": [str(i)]} | (facts if i == count - 1 else {})))
    with pytest.raises(HarkbackError, match=rf"{count - 1:06d}-x\.json: is damaged.*; delete"):
        FeatureStore.open(tmp_path, SPEC)


def test_a_name_that_is_no_shards(tmp_path: Path) -> None:
    FeatureStore.open(tmp_path, SPEC)
    list_shard(tmp_path, "2nd-x", ["a"])
    with pytest.raises(HarkbackError, match=r"2nd-x\.json: is damaged"):
        FeatureStore.open(tmp_path, SPEC)


def test_an_index_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / FILE).mkdir()
    check(tmp_path)
    assert (tmp_path / FILE).is_dir()
    assert not list(tmp_path.glob(".*.part"))


# ---- several at a time ----------------------------------------------------------------------------------------------


def test_shards_written_by_one_that_opened_before_there_was_an_index(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    slow = FeatureStore.open(tmp_path, SPEC)
    fill(tmp_path, 3, 2)
    check(tmp_path, 5)  # Makes the index.
    slow.add(row_of("key 5"), {"bad 5": "reason 5"})  # Under a number that is taken.
    check(tmp_path, 6)
    fill(tmp_path, 3, 6)
    check(tmp_path, 9)


def test_what_is_open_stays_right_while_the_index_is_replaced(tmp_path: Path) -> None:
    fill(tmp_path)
    check(tmp_path)
    found = FeatureStore.open(tmp_path, SPEC)
    rows = found.rows(["key 1"], ["a"])
    fill(tmp_path, 3, SHARDS)
    (next(tmp_path.glob("000000*.json"))).touch()
    FeatureStore.open(tmp_path, SPEC)
    assert torch.equal(rows[torch.tensor([0])].audio, row_of("key 1").audio)
    assert torch.equal(found.rows(["key 4"], ["a"])[torch.tensor([0])].audio, row_of("key 4").audio)


def test_many_that_open_it_at_once(tmp_path: Path) -> None:
    fill(tmp_path)
    failures: list[BaseException] = []

    def open_often() -> None:
        try:
            for _ in range(5):
                (tmp_path / FILE).unlink(missing_ok=True)
                check(tmp_path)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=open_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
