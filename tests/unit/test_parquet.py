"""Clips in Parquet: which columns say what, what is read of them, and files that are none."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

pa = pytest.importorskip("pyarrow", reason="PARQUET IS NOT TESTED: no pyarrow here; pip install 'harkback[parquet]'")

from harkback.datasets import open_dataset  # noqa: E402
from harkback.datasets.parquet import Parquet  # noqa: E402
from harkback.errors import HarkbackError  # noqa: E402
from harkback.places import Row  # noqa: E402
from stored import Ranged, parquet, put  # noqa: E402

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
KINDS = {
    "video": pa.binary(), "label": pa.string(), "id": pa.string(), "split": pa.string(), "start": pa.float64(),
    "end": pa.float64(),
}  # fmt: skip
GOOD = {"video": [b"good"], "label": ["fine"]}


def opened(root: Path, rows: dict[str, list[Any]], kinds: dict[str, Any] | None = None, **more: Any) -> Parquet:
    put(str(root), {"x.parquet": parquet(rows, kinds or KINDS, **more)})
    return Parquet(root)


def clips(dataset: Any) -> dict[str, str | None]:
    return {clip.id: clip.label for clips in dataset.splits.values() for clip in clips}


def skipped(dataset: Parquet) -> dict[str, str]:
    assert dataset.splits
    return {skip.id: skip.reason for skip in dataset.skips}


def test_the_bytes_of_a_row_are_the_clip(tmp_path: Path) -> None:
    values = [bytes([i]) * (10 + i) for i in range(5)]
    dataset = opened(tmp_path, {"video": values, "label": ["dog", "cat", "dog", " dog ", "cat"]})
    found = {clip.id: clip for split in dataset.splits.values() for clip in split}
    assert [found[f"x.parquet!{i}"].path.read() for i in range(5)] == values  # type: ignore[union-attr]
    assert [found[f"x.parquet!{i}"].label for i in range(5)] == ["dog", "cat", "dog", "dog", "cat"]
    first = found["x.parquet!0"].path
    assert isinstance(first, Row) and first.name == f"{tmp_path / 'x.parquet'}!0"
    assert first.changed == (tmp_path / "x.parquet").stat().st_mtime_ns
    assert 5 <= first.size <= 200  # Ten bytes, with what Parquet puts around them.


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_a_label_that_is_text(tmp_path: Path, kind: Any) -> None:
    assert clips(opened(tmp_path, GOOD, {**KINDS, "label": kind})) == {"x.parquet!0": "fine"}


@pytest.mark.parametrize("kind", [pa.int64(), pa.int8(), pa.uint16()])
def test_a_number_is_a_name_where_the_schema_has_the_names(tmp_path: Path, kind: Any) -> None:
    rows = {"video": [b"1", b"2", b"3"], "label": [1, 0, 1]}
    kinds = {**KINDS, "label": kind}
    features = {"label": {"names": ["church bell", "dog"], "_type": "ClassLabel"}, "video": {"_type": "Video"}}
    named = opened(tmp_path / "named", rows, kinds, features=features)
    assert list(dict(sorted(clips(named).items())).values()) == ["dog", "church bell", "dog"]
    assert set(clips(opened(tmp_path / "plain", rows, kinds)).values()) == {"0", "1"}
    other = {"label": {"dtype": "int64", "_type": "Value"}}
    assert set(clips(opened(tmp_path / "value", rows, kinds, features=other)).values()) == {"0", "1"}


def test_numbers_without_a_name_are_no_labels(tmp_path: Path) -> None:
    features = {"label": {"names": ["a", "b"], "_type": "ClassLabel"}}
    rows = {"video": [b"1", b"2", b"3", b"4"], "label": [-1, 2, None, 1]}
    dataset = opened(tmp_path, rows, {**KINDS, "label": pa.int64()}, features=features)
    assert clips(dataset) == {"x.parquet!3": "b"}
    assert skipped(dataset) == dict.fromkeys(("x.parquet!0", "x.parquet!1", "x.parquet!2"), "has no label")


def test_a_struct_as_the_datasets_library_writes_it(tmp_path: Path) -> None:
    rows = {"video": [{"bytes": b"film", "path": "a/b.mp4"}, {"bytes": b"wave", "path": None}], "label": ["x", "x"]}
    dataset = opened(tmp_path, rows, {**KINDS, "video": STRUCT})
    places = {clip.path.name.rpartition("/")[2]: clip.path for split in dataset.splits.values() for clip in split}
    assert {name: place.read() for name, place in places.items()} == {
        "x.parquet!0.mp4": b"film",
        "x.parquet!1": b"wave",
    }  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("columns", "read"),
    [
        (("image", "video"), b"video"),
        (("audio", "video"), b"video"),
        (("image", "audio"), b"audio"),
        (("mp4",), b"mp4"),
    ],
)
def test_which_column_of_bytes_it_is(tmp_path: Path, columns: tuple[str, ...], read: bytes) -> None:
    rows = {name: [name.encode()] for name in columns} | {"label": ["x"]}
    (clip,) = opened(tmp_path, rows, {name: pa.large_binary() for name in columns} | KINDS).splits["train"]
    assert clip.path.read() == read  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ({"label": ["x"]}, "has no column of bytes that is called video or clip or audio or media"),
        ({"one": [b""], "two": [b""], "label": ["x"]}, "has no column of bytes that is called"),
        ({"video": [b""]}, "has no column that is called label or class"),
        ({"path": ["a.mp4"], "label": ["x"]}, "has no column of bytes"),
    ],
)
def test_columns_that_are_missing(tmp_path: Path, rows: dict[str, list[Any]], reason: str) -> None:
    kinds = {**KINDS, "one": pa.binary(), "two": pa.binary(), "path": pa.string()}
    with pytest.raises(HarkbackError, match=rf"no clips in it; x\.parquet: {reason}") as caught:
        opened(tmp_path, rows, kinds).splits  # noqa: B018
    assert "\n" not in str(caught.value)
    put(str(tmp_path), {"good.parquet": parquet(GOOD, KINDS)})
    assert skipped(Parquet(tmp_path))["x.parquet"].startswith(reason)


def test_ids_and_windows(tmp_path: Path) -> None:
    rows = {
        "video": [b"1", b"2", b"3", b"4", b"5"],
        "label": ["x"] * 5,
        "id": ["a", "a", "a", None, "b"],
        "start": [None, 1.5, None, None, 2.0],
        "end": [None, 2.0, None, 3.0, None],
    }
    dataset = opened(tmp_path, rows)
    found = {clip.id: (clip.start, clip.end) for split in dataset.splits.values() for clip in split}
    assert found == {"a": (0, None), "a@1.5-2.0": (1.5, 2.0), "x.parquet!3": (0, 3.0), "b@2.0-": (2.0, None)}
    assert skipped(dataset) == {"a": "another clip has this id"}


@pytest.mark.parametrize(
    ("start", "end"),
    [(2.0, 1.0), (2.0, 2.0), (-1.0, None), (float("nan"), None), (0.0, float("inf")), (0.0, float("nan"))],
)
def test_windows_that_make_no_sense(tmp_path: Path, start: float, end: float | None) -> None:
    rows = {"video": [b"1", b"2"], "label": ["x", "x"], "start": [start, None], "end": [end, None]}
    dataset = opened(tmp_path, rows)
    assert clips(dataset) == {"x.parquet!1": "x"}
    assert "its window makes no sense" in skipped(dataset)["x.parquet!0"]


def test_splits_of_rows_and_of_files(tmp_path: Path) -> None:
    files = {
        "data/train-00000-of-00002.parquet": parquet({"video": [b"1"], "label": ["x"]}, KINDS),
        "data/train-00001-of-00002.parquet": parquet({"video": [b"2"], "label": ["x"]}, KINDS),
        "data/validation-00000-of-00001.parquet": parquet({"video": [b"3"], "label": ["x"]}, KINDS),
        "test/0000.parquet": parquet(
            {"video": [b"4", b"5", b"6", b"7"], "label": ["x"] * 4, "split": [None, "train", "Validation ", "other"]},
            KINDS,
        ),
    }
    dataset = Parquet(Path(put(str(tmp_path), files)))
    told = {split: sorted(clip.path.read() for clip in clips) for split, clips in dataset.splits.items()}  # type: ignore[union-attr]
    assert told == {"train": [b"1", b"2", b"5"], "val": [b"3", b"6"], "test": [b"4"]}
    assert skipped(dataset) == {"test/0000.parquet!3": 'there is no split "other"'}


def test_the_small_columns_alone_are_read(ranged: type[Ranged]) -> None:
    rows = {"video": [bytes([i]) * (1 << 20) for i in range(12)], "label": [str(i % 2) for i in range(12)]}
    content = parquet(rows, KINDS, group=3, compression="none")
    ranged.files["b/x.parquet"] = content
    dataset = Parquet("ranged://b")
    assert len(clips(dataset)) == 12 and len(content) > 12 << 20
    assert sum(end - start for start, end in ranged.asked) < 12 * (1 << 16)
    some = dataset.splits["test"][0]
    assert some.path.read() == rows["video"][int(some.id.partition("!")[2])]  # type: ignore[union-attr]


def test_files_that_are_none(tmp_path: Path) -> None:
    good = parquet(GOOD, KINDS)
    put(str(tmp_path), {"a.parquet": good, "b.parquet": b"nothing", "c.parquet": b"", "d.parquet": good[:-9]})
    found = skipped(Parquet(tmp_path))
    assert found.keys() == {"b.parquet", "c.parquet", "d.parquet"}
    assert all("is no Parquet file, or damaged" in reason and "\n" not in reason for reason in found.values())


def test_a_file_without_rows(tmp_path: Path) -> None:
    put(str(tmp_path), {"a.parquet": parquet(GOOD, KINDS)})
    assert clips(opened(tmp_path, {"video": [], "label": []})) == {"a.parquet!0": "fine"}


def test_pyarrow_is_asked_for_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(str(tmp_path), {"a.parquet": parquet(GOOD, KINDS)})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(HarkbackError, match=r'needs pyarrow; pip install "harkback\[parquet\]"'):
        open_dataset(str(tmp_path))


def test_a_folder_of_parquet_is_opened_as_such(tmp_path: Path) -> None:
    put(str(tmp_path), {"data/a.parquet": parquet(GOOD, KINDS), "README.md": b""})
    assert isinstance(open_dataset(str(tmp_path)), Parquet)
    assert clips(open_dataset(f"parquet:{tmp_path}")) == {"data/a.parquet!0": "fine"}
