"""The store: what was put in comes out bit for bit, and what is damaged, half written or another's is not used."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fakes import Fake
from harkback import shelf
from harkback.clips import Clip
from harkback.encoders import EncoderSpec
from harkback.errors import HarkbackError
from harkback.features import Arrays, Features, TokenShape, join, none_of, room_for
from harkback.files import HERE
from harkback.store import FeatureStore

SPEC = Fake().spec


def rows_of(keys: list[str], seed: int = 0, spec: EncoderSpec = SPEC) -> Features:
    some, shape = torch.Generator().manual_seed(seed), spec.shape
    count = len(keys)
    return Features(
        tuple(keys),
        torch.randn(count, *shape[:2], generator=some).half(),
        torch.randn(count, *shape[2:], generator=some).half(),
        torch.rand(count, generator=some) < 0.8,
        torch.rand(count, generator=some) < 0.8,
    )


def same(one: Features, other: Features) -> bool:
    return all(
        getattr(one, name).dtype == getattr(other, name).dtype
        and getattr(one, name).numpy().tobytes() == getattr(other, name).numpy().tobytes()
        for name in ("audio", "visual", "heard", "seen")
    )


def file_of(root: Path, shard: int, kind: str = "safetensors") -> Path:
    """The one file of a shard, whatever the rest of its name."""
    (path,) = root.glob(f"{shard:06d}*.{kind}")
    return path


def two_shards(root: Path) -> FeatureStore:
    store = FeatureStore.open(root, SPEC)
    store.add(rows_of(["a", "b", "c"], 1), {"bad": "it is empty"})
    store.add(rows_of(["d", "e"], 2), {})
    return store


@pytest.mark.parametrize("reopened", [False, True])
def test_rows_come_back_bit_for_bit_in_any_order(tmp_path: Path, reopened: bool) -> None:
    store = two_shards(tmp_path / "store")
    if reopened:
        store = FeatureStore.open(tmp_path / "store", SPEC)
    found = store.rows(["e", "a", "c", "a", "d"], ["five", "one", "three", "one again", "four"])
    assert len(found) == 5
    assert found.shape == SPEC.shape
    part = found[torch.tensor([2, 4, 0, 3, 1])]  # Back and forth, within a shard and between them.
    assert part.ids == ("three", "four", "five", "one again", "one")
    first, second = rows_of(["a", "b", "c"], 1), rows_of(["d", "e"], 2)
    expected = [
        first[torch.tensor([2])],
        second[torch.tensor([0])],
        second[torch.tensor([1])],
        first[torch.tensor([0])],
        first[torch.tensor([0])],
    ]
    for i, row in enumerate(expected):
        assert same(part[torch.tensor([i])], row)
    assert len(found[torch.zeros(0, dtype=torch.long)]) == 0


def test_failures_are_remembered(tmp_path: Path) -> None:
    two_shards(tmp_path / "store")
    store = FeatureStore.open(tmp_path / "store", SPEC)
    assert store.failures == {"bad": "it is empty"}
    store.add(none_of(SPEC.shape), {"worse": "it is no film"})
    assert FeatureStore.open(tmp_path / "store", SPEC).failures == {"bad": "it is empty", "worse": "it is no film"}


def test_nothing_to_add_writes_nothing(tmp_path: Path) -> None:
    store = two_shards(tmp_path / "store")
    before = sorted(path.name for path in (tmp_path / "store").iterdir())
    store.add(none_of(SPEC.shape), {})
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == before


def test_arrays_without_their_json_are_written_over(tmp_path: Path) -> None:
    """What a process leaves that was killed between the two files, or in the middle of one."""
    root = tmp_path / "store"
    two_shards(root)
    file_of(root, 1, "json").unlink()
    (root / f".000002.safetensors.{HERE}-999999999.part").write_bytes(b"half")
    store = FeatureStore.open(root, SPEC)
    assert set(store.places) == {"a", "b", "c"}
    store.add(rows_of(["x"], 5), {})
    again = FeatureStore.open(root, SPEC)
    assert not list(root.glob(".*.part"))
    assert set(again.places) == {"a", "b", "c", "x"}
    assert same(again.rows(["x"], ["x"])[torch.tensor([0])], rows_of(["x"], 5))
    assert same(again.rows(["c"], ["c"])[torch.tensor([0])], rows_of(["a", "b", "c"], 1)[torch.tensor([2])])


def test_another_encoder_is_told_whose_store_it_is(tmp_path: Path) -> None:
    two_shards(tmp_path)
    for other in (replace(SPEC, name="louder"), replace(SPEC, revision="2"), replace(SPEC, sample_rate=9000)):
        with pytest.raises(HarkbackError) as caught:
            FeatureStore.open(tmp_path, other)
        message = str(caught.value)
        assert "fake" in message
        assert other.name in message
        assert str(tmp_path) in message
    assert set(FeatureStore.open(tmp_path, replace(SPEC, computed_with={"torch": "9.9"})).places) == set("abcde")


def test_a_folder_that_is_something_else(tmp_path: Path) -> None:
    (tmp_path / "holiday.mp4").write_bytes(b"film")
    with pytest.raises(HarkbackError, match="is not a feature store"):
        FeatureStore.open(tmp_path, SPEC)
    with pytest.raises(HarkbackError, match="is not a feature store"):
        FeatureStore.open(tmp_path / "holiday.mp4", SPEC)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.mp4"]
    assert (tmp_path / "holiday.mp4").read_bytes() == b"film"


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ("", "is damaged"),
        ("{", "is damaged"),
        ("[]", "not one of ours"),
        ("{}", "not one of ours"),
        ('{"format": 2, "key": "x", "encoder": {}}', "format 2"),
        ('{"format": 1, "key": "x", "encoder": {}}', "not one of ours"),
    ],
)
def test_a_store_json_that_is_not_ours(tmp_path: Path, about: str, message: str) -> None:
    two_shards(tmp_path)
    (tmp_path / "store.json").write_text(about)
    with pytest.raises(HarkbackError, match=message):
        FeatureStore.open(tmp_path, SPEC)


@pytest.mark.parametrize("damage", ["", "{", '{"keys": ["a", "b"'])
def test_a_damaged_list_of_a_shard(tmp_path: Path, damage: str) -> None:
    two_shards(tmp_path)
    file_of(tmp_path, 0, "json").write_text(damage)
    with pytest.raises(HarkbackError, match=r"000000.*\.json.*is damaged"):
        FeatureStore.open(tmp_path, SPEC)


@pytest.mark.parametrize("damage", ["{}", "[]", '{"keys": 5, "failures": {}, "sources": {}}'])
def test_a_list_of_a_shard_that_is_something_else(tmp_path: Path, damage: str) -> None:
    two_shards(tmp_path)
    file_of(tmp_path, 0, "json").write_text(damage)
    with pytest.raises(HarkbackError):
        FeatureStore.open(tmp_path, SPEC)


def test_a_damaged_shard_is_not_used(tmp_path: Path) -> None:
    two_shards(tmp_path)
    path = file_of(tmp_path, 0)
    good = path.read_bytes()
    for damage in (b"", good[:-5], b"x" * len(good)):
        path.write_bytes(damage)
        store = FeatureStore.open(tmp_path, SPEC)
        with pytest.raises(HarkbackError, match=r"000000.*\.safetensors"):
            store.rows(["a"], ["a"])[torch.tensor([0])]
        assert store.rows(["d"], ["d"])[torch.tensor([0])].ids == ("d",)  # The other shard is whole.
    path.unlink()
    with pytest.raises(HarkbackError, match=r"000000.*\.safetensors"):
        FeatureStore.open(tmp_path, SPEC).rows(["a"], ["a"])[torch.tensor([0])]


def test_a_shard_of_other_features_is_not_used(tmp_path: Path) -> None:
    two_shards(tmp_path / "ours")
    wide = replace(SPEC, shape=TokenShape(2, 4, 2, 2, 3))
    other = FeatureStore.open(tmp_path / "wide", wide)
    other.add(rows_of(["a", "b", "c"], 1, wide), {})
    file_of(tmp_path / "wide", 0).replace(file_of(tmp_path / "ours", 0))
    with pytest.raises(HarkbackError, match="not these features"):
        FeatureStore.open(tmp_path / "ours", SPEC).rows(["a"], ["a"])[torch.tensor([0])]


def test_a_shard_shorter_than_its_list_is_not_used(tmp_path: Path) -> None:
    two_shards(tmp_path)
    file_of(tmp_path, 1).replace(file_of(tmp_path, 0))
    store = FeatureStore.open(tmp_path, SPEC)
    with pytest.raises(HarkbackError, match="shorter than its list"):
        store.rows(["a", "c"], ["a", "c"])[torch.tensor([0, 1])]


def test_two_that_fill_one_store_mix_nothing(tmp_path: Path) -> None:
    """Each begins from the same state; the rows of both are there afterwards, each under its own key."""
    one, other = FeatureStore.open(tmp_path, SPEC), FeatureStore.open(tmp_path, SPEC)
    one.add(rows_of(["a", "b"], 1), {})
    other.add(rows_of(["c", "d"], 2), {})
    other.add(rows_of(["e"], 3), {})
    one.add(rows_of(["f"], 4), {})
    store = FeatureStore.open(tmp_path, SPEC)
    assert set(store.places) == set("abcdef")
    for keys, seed in (("ab", 1), ("cd", 2), ("e", 3), ("f", 4)):
        for i, key in enumerate(keys):
            expected = rows_of(list(keys), seed)[torch.tensor([i])]
            assert same(store.rows([key], [key])[torch.tensor([0])], expected)


def test_what_a_living_process_or_another_machine_is_writing_is_left_alone(tmp_path: Path) -> None:
    two_shards(tmp_path)
    name = ".000009-x.safetensors.{}-{}.part"
    owners = ((HERE, os.getpid()), ("0" * 8, 999_999_999), (HERE, 999_999_999))
    living, far, dead = (tmp_path / name.format(*owner) for owner in owners)
    for path in (living, far, dead):
        path.write_bytes(b"half")
    FeatureStore.open(tmp_path, SPEC)
    assert living.exists()
    assert far.exists()  # Of another machine, on a disk that both see: nobody here knows whether it lives.
    assert not dead.exists()


# ---- keys -----------------------------------------------------------------------------------------------------------


def test_a_key_is_content_and_window_not_name(tmp_path: Path) -> None:
    store = FeatureStore.open(tmp_path / "store", SPEC)
    for name, content in (("a.wav", b"one"), ("b.wav", b"one"), ("c.wav", b"other")):
        (tmp_path / name).write_bytes(content)
    clip = Clip("a", tmp_path / "a.wav", "x")
    assert store.key(clip) == store.key(Clip("b", tmp_path / "b.wav", "y"))
    assert store.key(clip) != store.key(replace(clip, path=tmp_path / "c.wav"))
    windows = [(0.0, None), (0.0, 1.0), (0.0, 1.5), (0.5, None), (0.5, 1.0), (1 / 3, 1.0), (0.3333333333, 1.0)]
    assert len({store.key(replace(clip, start=start, end=end)) for start, end in windows}) == len(windows)
    with pytest.raises(OSError):
        store.key(Clip("none", tmp_path / "none.wav"))


def test_a_file_is_read_again_only_when_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harkback import store as module

    reads: list[str] = []
    digest = module.digest
    monkeypatch.setattr(module, "digest", lambda path: (reads.append(path.name), digest(path))[1])
    path = tmp_path / "a.wav"
    path.write_bytes(b"one")
    os.utime(path, ns=(10**18, 10**18))
    clip = Clip("a", path)
    store = FeatureStore.open(tmp_path / "store", SPEC)
    first = store.key(clip)
    assert store.key(clip) == first
    assert store.key(replace(clip, end=1.0)) == first + "@0.0-1.0"
    assert reads == ["a.wav"]
    store.add(rows_of([first]), {})
    store = FeatureStore.open(tmp_path / "store", SPEC)
    assert store.key(clip) == first
    assert reads == ["a.wav"]  # It is remembered in the store.
    path.write_bytes(b"two")  # As long as before, and changed since.
    assert store.key(clip) != first
    assert reads == ["a.wav"] * 2
    os.utime(path, ns=(10**18 + 1, 10**18 + 1))
    store.key(clip)
    assert reads == ["a.wav"] * 3


# ---- reading --------------------------------------------------------------------------------------------------------


def open_files(root: Path) -> list[str]:
    """Names of the files under a folder that this process holds open or mapped."""
    found = [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    found += [line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()]
    return sorted(Path(name).name for name in found if name.startswith(str(root)))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="Linux only")
def test_only_the_shards_that_are_asked_for_are_opened(tmp_path: Path) -> None:
    two_shards(tmp_path)
    store = FeatureStore.open(tmp_path, SPEC)
    rows = store.rows(["a", "d"], ["a", "d"])
    assert open_files(tmp_path) == []
    rows[torch.tensor([1])]
    assert open_files(tmp_path) == [file_of(tmp_path, 1).name]
    del rows, store
    assert open_files(tmp_path) == []


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="Linux only")
def test_few_files_are_open_however_many_shards_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "FILES", 3)
    store = FeatureStore.open(tmp_path, SPEC)
    for i, key in enumerate("abcdefgh"):
        store.add(rows_of([key], i), {})
    rows = store.rows(list("abcdefgh"), list("abcdefgh"))
    for batch in (torch.arange(8), torch.tensor([3, 0, 7, 3])):
        part = rows[batch]
        for i, row in enumerate(batch.tolist()):
            assert same(part[torch.tensor([i])], rows_of(["x"], row))
        assert len(open_files(tmp_path)) == 3


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux only")
def test_reading_all_of_a_large_store_does_not_take_its_size(tmp_path: Path) -> None:
    big = replace(SPEC, shape=TokenShape(32, 512, 8, 64, 256))  # 0.3 MB a row
    store = FeatureStore.open(tmp_path, big)
    for shard in range(10):
        store.add(rows_of([f"{shard}-{i}" for i in range(64)], shard, big), {})
    store = FeatureStore.open(tmp_path, big)
    keys = [f"{shard}-{i}" for shard in range(10) for i in range(64)]
    rows = store.rows(keys, keys)

    def resident() -> int:
        """MB, with what is backed by a file."""
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20

    rows[torch.tensor([0])]
    before = resident()
    for row in range(len(keys)):
        rows[torch.tensor([row])]
    assert sum(path.stat().st_size for path in tmp_path.glob("*.safetensors")) >> 20 > 150
    assert resident() - before < 40


KEYS = tuple("abcde")  #: of `two_shards`


def all_rows() -> Features:
    return join([rows_of(["a", "b", "c"], 1), rows_of(["d", "e"], 2)])


@pytest.mark.parametrize("threads", [False, True])
@pytest.mark.parametrize("reader", ["preadv", "a few bytes", "seek"])
def test_rows_are_read_to_where_they_are_wanted(
    tmp_path: Path, reader: str, threads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = shelf._read_at
    few = lambda number, rooms, begin: whole(number, [rooms[0][:7]], begin)  # noqa: E731
    monkeypatch.setattr(shelf, "_read_at", {"a few bytes": few, "seek": shelf._seek_and_read}.get(reader, whole))
    monkeypatch.setattr(shelf, "SHARE", 1 if threads else 10**9)
    two_shards(tmp_path)
    rows = FeatureStore.open(tmp_path, SPEC).rows(KEYS, KEYS)
    for wanted, at in (([0, 1, 2, 3, 4], [0, 1, 2, 3, 4]), ([4, 1, 2, 1], [5, 0, 2, 6]), ([], [])):
        room = room_for(SPEC.shape, 7, torch.float16)
        for array in room:
            array.fill_(1)
        expected = Arrays(*(array.clone() for array in room))
        for row, place in zip(wanted, at, strict=True):
            for name in Arrays._fields:
                getattr(expected, name)[place] = getattr(all_rows(), name)[row]
        rows.fill(torch.tensor(wanted, dtype=torch.long), room, torch.tensor(at, dtype=torch.long))
        for array, other in zip(room, expected, strict=True):
            assert torch.equal(array, other)


def test_room_of_another_type_or_in_pieces(tmp_path: Path) -> None:
    """A row of the room is a row of every second column; as many rows as take several turns."""
    two_shards(tmp_path)
    rows = FeatureStore.open(tmp_path, SPEC).rows(KEYS, KEYS)
    wanted = torch.arange(30) % 5
    for dtype in (torch.float16, torch.float32, torch.float64):
        wide = room_for(SPEC.shape, 60, dtype)
        room = Arrays(*(array[::2] for array in wide))
        rows.fill(wanted, room, torch.arange(30))
        for name in Arrays._fields:
            assert torch.equal(getattr(room, name), getattr(all_rows(), name)[wanted].to(getattr(room, name).dtype))


def test_what_is_not_wanted_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two_shards(tmp_path)
    rows = FeatureStore.open(tmp_path, SPEC).rows(KEYS, KEYS)
    rows[torch.arange(5)]  # The headers are read by now.
    bytes_read = []
    whole = shelf._read_at
    monkeypatch.setattr(shelf, "_read_at", lambda *asked: (bytes_read.append(whole(*asked)), bytes_read[-1])[1])
    room = room_for(SPEC.shape, 5, torch.float16)
    rows.fill(torch.arange(5), room._replace(visual=room.visual[:, :0]), torch.arange(5))
    assert torch.equal(room.audio, all_rows().audio)
    assert torch.equal(room.seen, all_rows().seen)
    assert sum(bytes_read) == all_rows().audio.nbytes


def test_rows_that_stand_together_are_read_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "VIEWS", 20)
    store = FeatureStore.open(tmp_path, SPEC)
    keys = [f"{i}" for i in range(50)]
    store.add(rows_of(keys), {})
    rows = store.rows(keys, keys)
    rows[torch.arange(50)]
    reads = []
    whole = shelf._read_at
    monkeypatch.setattr(shelf, "_read_at", lambda *asked: (reads.append(len(asked[1])), whole(*asked))[1])
    assert same(rows[torch.arange(50)], rows_of(keys))
    assert sorted(reads) == [10, 10, 20, 20, 20, 20]  # Of sound and of picture; 20 at most.


def test_in_another_process_the_files_are_opened_anew(tmp_path: Path) -> None:
    two_shards(tmp_path)
    rows = FeatureStore.open(tmp_path, SPEC).rows(["e", "b"], ["one", "other"])
    rows[torch.tensor([0])]
    copy = pickle.loads(pickle.dumps(rows))  # noqa: S301 (our own)
    assert copy.ids == ("one", "other")
    assert same(copy[torch.tensor([0, 1])], all_rows()[torch.tensor([4, 1])])


def test_a_shard_that_is_cut_short_while_it_is_read(tmp_path: Path) -> None:
    """Not garbage, and not the death of the process, which a memory map would mean."""
    two_shards(tmp_path)
    rows = FeatureStore.open(tmp_path, SPEC).rows(KEYS, KEYS)
    rows[torch.arange(5)]
    os.truncate(file_of(tmp_path, 0), 300)
    with pytest.raises(HarkbackError, match=r"000000.*ends too soon; delete"):
        rows[torch.tensor([2])]


def shard_with(path: Path, **changes: torch.Tensor) -> None:
    """A whole safetensors file, of which something is not as it was."""
    first = rows_of(["a", "b", "c"], 1)
    arrays = {name: getattr(first, name) for name in Arrays._fields} | changes
    save_file({name: array for name, array in arrays.items() if len(array)}, path)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("audio", rows_of(["a", "b", "c"]).audio.float(), "not these features"),
        ("heard", torch.ones(3, dtype=torch.uint8), "not these features"),
        ("visual", rows_of(["a", "b"]).visual, "is damaged"),  # Of fewer clips than the others.
        ("seen", torch.zeros(0), "is damaged"),  # None at all.
    ],
)
def test_a_shard_with_other_arrays_is_not_used(tmp_path: Path, name: str, array: torch.Tensor, message: str) -> None:
    two_shards(tmp_path)
    shard_with(file_of(tmp_path, 0), **{name: array})
    with pytest.raises(HarkbackError, match=rf"000000.*{message}.*; delete"):
        FeatureStore.open(tmp_path, SPEC).rows(["a"], ["a"])[torch.tensor([0])]


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b"7",
        b"{",
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"audio": 5}',
        b'{"audio": {"dtype": "F16", "shape": [], "data_offsets": [0, 0]}}',
    ],
)
def test_a_header_that_is_something_else(tmp_path: Path, header: bytes) -> None:
    two_shards(tmp_path)
    path = file_of(tmp_path, 0)
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"0" * 5000)
    with pytest.raises(HarkbackError, match=r"000000.*\.safetensors: is damaged.*; delete"):
        FeatureStore.open(tmp_path, SPEC).rows(["a"], ["a"])[torch.tensor([0])]


@pytest.mark.parametrize("offsets", [[0, 36], [-36, 0], [10**9, 10**9 + 36], [0, "36"], [0], None])
def test_a_header_that_points_elsewhere(tmp_path: Path, offsets: object) -> None:
    two_shards(tmp_path)
    path = file_of(tmp_path, 0)
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    facts = json.loads(content[8:end])
    facts["visual"]["data_offsets"] = offsets
    header = json.dumps(facts).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[end:])
    with pytest.raises(HarkbackError, match=r"000000.*\.safetensors: is damaged.*; delete"):
        FeatureStore.open(tmp_path, SPEC).rows(["a"], ["a"])[torch.tensor([0])]


def test_a_long_header(tmp_path: Path) -> None:
    two_shards(tmp_path)
    first = rows_of(["a", "b", "c"], 1)
    arrays = {name: getattr(first, name) for name in Arrays._fields}
    save_file(arrays, file_of(tmp_path, 0), metadata={"note": "x" * 3 * shelf.HEAD})
    assert same(FeatureStore.open(tmp_path, SPEC).rows(KEYS, KEYS)[torch.arange(5)], all_rows())


def test_what_is_read_can_be_written_to_without_changing_the_store(tmp_path: Path) -> None:
    two_shards(tmp_path)
    store = FeatureStore.open(tmp_path, SPEC)
    before = file_of(tmp_path, 0).read_bytes()
    part = store.rows(["a"], ["a"])[torch.tensor([0])]
    part.audio.fill_(9)
    assert same(store.rows(["a"], ["a"])[torch.tensor([0])], rows_of(["a", "b", "c"], 1)[torch.tensor([0])])
    assert file_of(tmp_path, 0).read_bytes() == before


def test_the_store_says_what_made_it(tmp_path: Path) -> None:
    two_shards(tmp_path)
    facts = json.loads((tmp_path / "store.json").read_text())
    assert facts["key"] == SPEC.key
    assert facts["encoder"] == SPEC.facts()
    assert {"name", "revision", "licence", "preprocessing", "computed_with"} <= facts["encoder"].keys()
