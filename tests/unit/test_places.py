"""Places: bytes by range and by row, what fails says why, and a file that is there for a moment."""

from __future__ import annotations

import errno
import os
import pickle
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import fsspec
import pytest

from harkback.clips import Clip
from harkback.places import Member, Place, Remote, Row, at_hand, failure, version
from stored import Broken, Ranged, packed, parquet, put


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, empty."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_remote_file_is_read_whole(tmp_path: Path) -> None:
    put("memory://places/one", {"a b.mp4": b"0123456789"})
    assert Remote("memory://places/one/a b.mp4", 10, 1).read() == b"0123456789"
    (tmp_path / "c.mp4").write_bytes(b"xyz")
    assert Remote(f"file://{tmp_path}/c.mp4", 3, 1).read() == b"xyz"


def test_a_member_costs_one_request_for_its_bytes_alone(broken: type[Broken]) -> None:
    put("broken://b", {"x.tar": bytes(range(256))})
    assert Member("broken://b/x.tar", "a.mp4", 17, 5, 1).read() == bytes(range(17, 22))
    assert broken.asked == [("/b/x.tar", 17, 22)]
    assert Member("broken://b/x.tar", "empty.mp4", 17, 0, 1).read() == b""
    assert len(broken.asked) == 1


def test_no_more_is_asked_for_than_the_member_has(ranged: type[Ranged]) -> None:
    ranged.files["b/x.tar"] = bytes(range(256)) * 100_000
    assert Member("ranged://b/x.tar", "a.mp4", 1017, 5, 1).read() == bytes(range(249, 254))
    assert ranged.asked == [(1017, 1022)]
    assert Remote("ranged://b/x.tar", 1, 1).read() == ranged.files["b/x.tar"]


def test_a_storage_that_hands_over_whole_files_only(broken: type[Broken], monkeypatch: pytest.MonkeyPatch) -> None:
    put("broken://b", {"x.tar": b"0123456789"})
    monkeypatch.setattr(Broken, "cat_file", lambda *args, **kwargs: b"0123456789")
    with pytest.raises(OSError, match="hands over whole files only"):
        Member("broken://b/x.tar", "a.mp4", 2, 4, 1).read()


def test_a_member_that_ends_behind_its_tar() -> None:
    put("memory://places/cut", {"x.tar": b"0123456789"})
    with pytest.raises(OSError, match="after 2 of 4 bytes"):
        Member("memory://places/cut/x.tar", "a.mp4", 8, 4, 1).read()


def test_a_place_is_a_value_that_travels() -> None:
    places: list[Place] = [
        Remote("memory://a/b.mp4", 1, 2),
        Member("memory://a/b.tar", "c.mp4", 5, 6, 7),
        Row("memory://a/b.parquet", "3.mp4", 0, 3, "video", 5, 6),
    ]
    for place in places:
        assert pickle.loads(pickle.dumps(place)) == place  # noqa: S301
        assert len({place, pickle.loads(pickle.dumps(place))}) == 1  # noqa: S301
        assert Clip("x", place) == Clip("x", place) and str(place) == place.name
    assert [place.name for place in places] == [
        "memory://a/b.mp4",
        "memory://a/b.tar!c.mp4",
        "memory://a/b.parquet!3.mp4",
    ]


# ---- at hand --------------------------------------------------------------------------------------------------------


def test_a_file_of_this_machine_is_at_hand_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"film")
    with at_hand(path) as found:
        assert found is path
    assert path.read_bytes() == b"film"


def test_a_place_is_at_hand_for_the_length_of_the_block(temporary: Path) -> None:
    put("memory://places/two", {"a.mp4": b"film"})
    with at_hand(Remote("memory://places/two/a.mp4", 4, 1)) as path:
        assert path.read_bytes() == b"film" and path.suffix == ".mp4" and path.parent == temporary
    assert list(temporary.iterdir()) == []


def test_nothing_is_left_after_a_failure(temporary: Path) -> None:
    put("memory://places/two", {"a.mp4": b"film"})
    with pytest.raises(RuntimeError, match="decoder"), at_hand(Remote("memory://places/two/a.mp4", 4, 1)) as path:
        assert path.exists()
        raise RuntimeError("decoder")
    assert list(temporary.iterdir()) == []
    with pytest.raises(FileNotFoundError), at_hand(Remote("memory://places/two/none.mp4", 4, 1)):
        raise AssertionError
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    ["../../outside.mp4", "/etc/cron.d/evil.mp4", "a/../../b.mp4", "x.mp4/..", "x.mp4\n", "a.$(touch x)",
     "a.mp4/../../x", "C:\\x.mp4", "nul\0.mp4", "." + "m" * 400, "a.m\0p4", "..", ""],
)  # fmt: skip
def test_a_hostile_name_stays_in_the_temporary_folder(temporary: Path, tmp_path: Path, name: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    put("memory://places/three", {"x.tar": b"0123456789"})
    with at_hand(Member("memory://places/three/x.tar", name, 2, 3, 1)) as path:
        assert path.read_bytes() == b"234"
        assert path.resolve().parent == temporary.resolve()
        assert path.suffix in ("", ".mp4")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_is_said_and_leaves_nothing(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put("memory://places/two", {"a.mp4": b"film"})
    real = os.fdopen

    def full(number: int, mode: str) -> object:
        real(number, mode).close()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fdopen", full)
    with pytest.raises(OSError, match="No space"), at_hand(Remote("memory://places/two/a.mp4", 4, 1)):
        raise AssertionError
    assert list(temporary.iterdir()) == []


# ---- what fails -----------------------------------------------------------------------------------------------------


class Odd(Exception):
    """As many storages have their own."""


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (FileNotFoundError("bucket/a.mp4"), FileNotFoundError, "No such file or directory"),
        (PermissionError("Access Denied"), PermissionError, "Permission denied"),
        (TimeoutError(), TimeoutError, "timed out"),
        (OSError(errno.ECONNRESET, "Connection reset by peer"), OSError, "^Connection reset by peer$"),
        (OSError("the bucket says no"), OSError, "the bucket says no"),
        (Odd("rate limit"), OSError, "^Odd: rate limit$"),
        (ValueError("bad"), OSError, "^ValueError: bad$"),
        (KeyError("x"), OSError, "KeyError"),
        (Odd("two\nlines"), OSError, r"two\\nlines"),
        (Odd(), OSError, "Odd"),
    ],
)
def test_every_failure_is_one_of_the_operating_system(
    broken: type[Broken], error: Exception, kind: type[OSError], said: str
) -> None:
    put("broken://b", {"a.mp4": b"film"})
    broken.error = error
    with pytest.raises(kind) as caught:
        Remote("broken://b/a.mp4", 4, 1).read()
    assert caught.value.strerror is not None
    caught.match(said.strip("^$"))
    if said.startswith("^"):
        assert caught.value.strerror == said.strip("^$")
    assert caught.value.filename == "broken://b/a.mp4"
    assert "\n" not in caught.value.strerror


def test_a_signed_address_is_not_repeated() -> None:
    told = failure(Odd("403 for url https://cdn.example/x/y.mp4?X-Signature=topsecret&b=1 , sorry"), "hf://x").strerror
    assert "topsecret" not in told and "https://cdn.example/x/y.mp4?..." in told and "sorry" in told


def test_a_storage_whose_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="nonsense:// is no protocol"):
        Remote("nonsense://b/a.mp4", 4, 1).read()

    def none(protocol: str) -> None:
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr(fsspec, "url_to_fs", lambda url: none(url))
    monkeypatch.setattr(fsspec, "get_filesystem_class", none)
    with pytest.raises(OSError, match="pip install gcsfs"):
        Remote("gs://b/a.mp4", 4, 1).read()


# ---- has it changed? ------------------------------------------------------------------------------------------------


def test_a_tag_tells_versions_apart_and_a_time_where_there_is_none() -> None:
    assert version({"ETag": '"a"', "LastModified": 5}) == version({"ETag": '"a"', "LastModified": 6})
    assert version({"ETag": '"a"'}) != version({"ETag": '"b"'})
    assert version({"mtime": 1_700_000_000.25}) == 1_700_000_000_250_000_000
    when = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert version({"LastModified": when}) == 1_700_000_000_000_000_000
    assert version({"updated": "2023-11-14T22:13:20Z"}) == version({"updated": "2023-11-14T22:13:20Z"})
    assert version({"updated": "2023-11-14T22:13:20Z"}) != version({"updated": "2023-11-14T22:13:21Z"})
    assert version({"size": 5}) != version({"size": 5})  # Nothing is known: look again.
    assert version({"mtime": float("nan")}) != version({"mtime": float("nan")})
    for facts in (
        {"mtime": 1e300},
        {"ETag": "x" * 99},
        {"etag": "\udcff"},
        {"generation": 2**70},
        {"size": 1},
        {"mtime": 1e9},
    ):
        assert -(2**63) <= version(facts) < 2**63


# ---- rows of Parquet ------------------------------------------------------------------------------------------------


def test_rows_come_from_their_group_and_the_group_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pa = pytest.importorskip("pyarrow", reason="NOT TESTED: rows of Parquet; pip install 'harkback[parquet]'")
    import pyarrow.parquet as pq

    values = [bytes([i]) * (i + 1) for i in range(7)]
    path = tmp_path / "a.parquet"
    path.write_bytes(
        parquet({"clip": values, "other": list("abcdefg")}, {"clip": pa.binary(), "other": pa.string()}, group=3)
    )
    read = []
    real = pq.ParquetFile.read_row_group

    def counted(self: pq.ParquetFile, group: int, columns: list[str]) -> object:
        read.append((group, columns))
        return real(self, group, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    for i, value in enumerate(values):
        assert Row(str(path), f"{i}", i // 3, i % 3, "clip", 1, 77).read() == value
    assert read == [(0, ["clip"]), (1, ["clip"]), (2, ["clip"])]


def test_threads_that_want_one_group_read_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pa = pytest.importorskip("pyarrow", reason="NOT TESTED: rows of Parquet; pip install 'harkback[parquet]'")
    import pyarrow.parquet as pq

    values = [bytes([i]) for i in range(16)]
    path = tmp_path / "b.parquet"
    path.write_bytes(parquet({"clip": values}, {"clip": pa.binary()}, group=8))
    read = []
    real = pq.ParquetFile.read_row_group

    def slow(self: pq.ParquetFile, group: int, columns: list[str]) -> object:
        read.append(group)
        time.sleep(0.05)
        return real(self, group, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", slow)
    rows = [Row(str(path), f"{i}", i // 8, i % 8, "clip", 1, 78) for i in range(16)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(Row.read, rows)) == values
    assert sorted(read) == [0, 1]


def test_of_a_struct_the_bytes_are_the_clip(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="NOT TESTED: rows of Parquet; pip install 'harkback[parquet]'")
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": b"film", "path": "a.mp4"}, {"bytes": None, "path": "b.mp4"}, None]
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet({"video": rows}, {"video": kind}))
    assert Row(str(path), "0.mp4", 0, 0, "video.bytes", 4, 1).read() == b"film"
    for row in (Row(str(path), "1.mp4", 0, 1, "video.bytes", 4, 1), Row(str(path), "2", 1, 0, "video.bytes", 4, 1)):
        with pytest.raises(OSError, match=r"video.bytes is empty in this row"):
            row.read()


def test_parquet_that_is_none(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="NOT TESTED: rows of Parquet; pip install 'harkback[parquet]'")
    path = tmp_path / "a.parquet"
    path.write_bytes(packed([("a", b"b")]))
    with pytest.raises(OSError, match="magic bytes"):
        Row(str(path), "0", 0, 0, "video", 4, 1).read()
    with pytest.raises(FileNotFoundError):
        Row(str(tmp_path / "none"), "0", 0, 0, "video", 4, 1).read()
