"""Clips behind URLs: class folders, a table, and the same features wherever the same clips lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
import torch

from fakes import Fake
from harkback.clips import Clip
from harkback.datasets import Dataset, open_dataset
from harkback.datasets.folder import Folder
from harkback.datasets.webdataset import WebDataset
from harkback.errors import HarkbackError
from harkback.extract import Extraction, extract
from harkback.places import Remote
from harkback.store import FeatureStore
from stored import Broken, packed, put, sounds, tables, tars


def everything(dataset: Dataset) -> list[Clip]:
    return [clip for clips in dataset.splits.values() for clip in clips]


def shape(dataset: Dataset) -> dict[str, list[tuple[str, str | None, float, float | None]]]:
    """All that a dataset says, but where its clips lie."""
    return {
        split: [(clip.id, clip.label, clip.start, clip.end) for clip in clips]
        for split, clips in dataset.splits.items()
    }


def skipped(dataset: Dataset) -> dict[str, str]:
    assert dataset.splits
    return {skip.id: skip.reason for skip in dataset.skips}


# ---- a URL is read as the same folder would be ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        [f"{label}/{i}.mp4" for label in ("dog", "cat") for i in range(8)],
        ["train/dog/a.mp4", "train/cat/a.mp4", "val/dog/b.mp4", "test/dog/c.mp4", "test/cat/deep/d.mp4"],
        ["train/dog/a.mp4", "train/notes.txt", "test/dog/b.mp4", "cat/c.mp4", "top.txt", "test/stray.mp4"],
        ["train/a.mp4", "train/b.mp4", "tram/a.mp4", "test/a.mp4"],
        ["dog/a.mp4", "dog/._a.mp4", ".git/x.mp4", "dog/.thumbs/a.png", "readme.txt", "鐘 の音/50%.mp4", "it's/a b"],
        ["dog/b.mp4", "dog/a/z.mp4", "dog/a b.mp4", "dog/a.mp4", "dog.x/a.mp4", "dog x/a.mp4"],
    ],
)  # fmt: skip
def test_a_url_of_class_folders_is_what_the_folder_is(tmp_path: Path, names: list[str]) -> None:
    files = dict.fromkeys(names, b"film")
    put(str(tmp_path / "clips"), files)
    here = open_dataset(str(tmp_path / "clips"))
    for url in (f"file://{tmp_path}/clips", put(f"memory://{tmp_path.name}/clips", files), f"file://{tmp_path}/clips/"):
        there = open_dataset(url)
        assert isinstance(there, Folder)
        assert shape(there) == shape(here)
        assert skipped(there) == skipped(here)
        assert there.name == here.name == "clips"
        assert there.lessons == Folder(url).lessons and len(there.lessons) == len(Folder(tmp_path / "clips").lessons)


@pytest.mark.parametrize(
    "table",
    [
        "path,label\na.mp4,dog\nx/b.mp4,cat\nnone.mp4,dog\na.mp4,dog\n",
        "path,label,split,start,end\na.mp4,dog,train,,\nx/b.mp4,cat,test,1.5,2.25\na.mp4,dog,val,3,\n",
        "\ufeffpath,label\n ./a.mp4 , dog \nx/b.mp4,cat\n",
    ],
)
def test_a_table_behind_a_url(tmp_path: Path, table: str) -> None:
    files = {"a.mp4": b"film", "x/b.mp4": b"film", "clips.csv": table.encode()}
    put(str(tmp_path / "clips"), files)
    here, there = open_dataset(str(tmp_path / "clips")), open_dataset(put(f"memory://{tmp_path.name}/clips", files))
    assert shape(there) == shape(here) and skipped(there) == skipped(here)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("path,label\n../a.mp4,dog\n", "line 2.*leaves the folder"),
        ("path,label\nx/../../a.mp4,dog\n", "leaves the folder"),
        ("path,label\n/a.mp4,dog\n", "leaves the folder"),
        ("path,label\nhttp://169.254.169.254/latest,dog\n", "leaves the folder"),
        ("path,label\nfile:///etc/passwd,dog\n", "leaves the folder"),
        ("path\na.mp4\n", "no column label"),
        ("path,label\n", "no clips in it"),
    ],
)
def test_a_wrong_table_behind_a_url(tmp_path: Path, table: str, said: str) -> None:
    url = put(f"memory://{tmp_path.name}/clips", {"a.mp4": b"film", "clips.csv": table.encode()})
    with pytest.raises(HarkbackError, match=said) as caught:
        open_dataset(url).splits  # noqa: B018
    assert "\n" not in str(caught.value)


def test_a_folder_marker_is_an_empty_class(broken: type[Broken]) -> None:
    put("broken://b", {"dog/a.mp4": b"1"})
    broken.store["/b/cat/"] = broken.store["/b/dog/a.mp4"]  # as some tools leave them in a bucket
    dataset = open_dataset("broken://b")
    assert skipped(dataset) == {"cat": "the class folder is empty"}


def test_names_that_fsspec_takes_for_something_else(broken: type[Broken]) -> None:
    put("broken://b", {"dog/a.mp4": b"1"})
    broken.store["/b/dog/x::y.mp4"] = broken.store["/b/dog/a.mp4"]
    dataset = open_dataset("broken://b")
    assert [clip.id for clip in everything(dataset)] == ["dog/a.mp4"]
    assert skipped(dataset) == {"dog/x::y.mp4": "fsspec cannot open a name with :: in it"}


@pytest.mark.parametrize(
    "files", [{"dog/a.mp4": b"film", "cat/b.mp4": b"film"}, {"train-0.tar": packed([("d/a.mp4", b"f")])}]
)
def test_it_is_listed_once(broken: type[Broken], files: dict[str, bytes]) -> None:
    put("broken://b/clips", files)
    dataset = open_dataset("broken://b/clips")
    assert everything(dataset) and dataset.skips == ()
    assert broken.listed == 1
    assert broken.asked == []  # No clip is read.


def test_what_the_tars_at_a_url_are_called(broken: type[Broken]) -> None:
    put(
        "broken://b/clips",
        {"train/a.tar": packed([("dog/1.mp4", b"film")]), "test/b.tar": packed([("dog/2.mp4", b"film")])},
    )
    dataset = open_dataset("broken://b/clips")
    assert isinstance(dataset, WebDataset)
    (clip,) = dataset.splits["train"]
    assert (clip.id, clip.label) == ("train/a.tar!dog/1.mp4", "dog")
    assert not isinstance(clip.path, Path) and clip.path.name == "broken://b/clips/train/a.tar!dog/1.mp4"
    assert open_dataset("webdataset:broken://b/clips").splits == dataset.splits


# ---- addresses that are none ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("memory://nothing/there", "no clips|cannot be listed"),
        ("nonsense://bucket/x", "nonsense:// is no protocol that fsspec knows"),
        ("ave:memory://b/x", "must lie in a folder of this machine"),
        ("memory://one/file/a.mp4", "is not a folder"),
    ],
)
def test_an_address_that_is_none_is_answered_in_one_line(url: str, said: str) -> None:
    put("memory://one/file", {"a.mp4": b"film"})
    with pytest.raises(HarkbackError, match=said) as caught:
        open_dataset(url).splits  # noqa: B018
    assert "\n" not in str(caught.value)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(protocol: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "url_to_fs", lambda url: none(url))
    monkeypatch.setattr(fsspec, "get_filesystem_class", none)
    with pytest.raises(HarkbackError, match=r"s3://b/x: s3:// needs a package that is not here; pip install s3fs"):
        open_dataset("s3://b/x")


def test_a_listing_that_is_refused(broken: type[Broken], monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: object, **kwargs: object) -> None:
        raise PermissionError("Access Denied: https://x/y?X-Signature=topsecret")

    monkeypatch.setattr(Broken, "find", refused)
    with pytest.raises(HarkbackError, match="cannot be listed: Permission denied; check the address") as caught:
        open_dataset("broken://b")
    assert "topsecret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["ftp://me:topsecret@host/clips", "s3://key:topsecret@bucket/x", "https://host/clips?signature=topsecret"]
)
def test_secrets_have_no_place_in_an_address(url: str) -> None:
    with pytest.raises(HarkbackError, match="holds a password or a signature") as caught:
        open_dataset(url)
    assert "topsecret" not in str(caught.value)


# ---- the same features wherever the clips lie -----------------------------------------------------------------------


def extracted(dataset: Dataset, store: Path, encoder: Fake | None = None, workers: int = 0) -> Extraction:
    return extract(everything(dataset), encoder or Fake(), store, workers=workers)


def rows(done: Extraction) -> dict[str, tuple[bytes, bytes, bool]]:
    """What a clip's content became, by its key."""
    found = done.features[torch.arange(len(done.clips))]
    return {
        key: (found.audio[i].numpy().tobytes(), found.visual[i].numpy().tobytes(), bool(found.heard[i]))
        for i, key in enumerate(done.keys)
    }


def by_split(done: Extraction, dataset: Dataset) -> dict[str, set[tuple[str, str | None]]]:
    """The keys and labels of every split."""
    keys = {clip: key for clip, key in zip(done.clips, done.keys, strict=True)}  # noqa: C416
    return {split: {(keys[clip], clip.label) for clip in clips} for split, clips in dataset.splits.items()}


LAYOUTS: dict[str, Callable[[dict[str, bytes]], dict[str, bytes]]] = {
    "files": lambda clips: clips, "tars": tars, "parquet": tables,
}  # fmt: skip


@pytest.mark.parametrize("where", ["here", "file", "memory"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_clips_give_the_same_features(tmp_path: Path, layout: str, where: str) -> None:
    if layout == "parquet":
        pytest.importorskip("pyarrow", reason="PARQUET IS NOT TESTED: no pyarrow here; pip install 'harkback[parquet]'")
    clips = sounds(tmp_path / "plain")
    plain = Folder(tmp_path / "plain")
    wanted = extracted(plain, tmp_path / "store-plain")
    address = {"here": str(tmp_path / "x"), "file": f"file://{tmp_path}/x", "memory": f"memory://{tmp_path.name}/x"}
    dataset = open_dataset(put(address[where], LAYOUTS[layout](clips)))
    found = extracted(dataset, tmp_path / "store", workers=1 if where != "memory" and layout != "files" else 0)
    assert found.skips == dataset.skips == () and found.encoded == len(clips)
    assert rows(found) == rows(wanted)
    assert len(rows(found)) == len(clips) and all(heard for _, _, heard in rows(found).values())
    assert by_split(found, dataset) == by_split(wanted, plain)
    # In the plain folder's store nothing is left to encode; and what was seen is not read again.
    assert extracted(dataset, tmp_path / "store-plain").encoded == 0


def test_what_was_seen_is_not_read_again_and_what_changed_is(tmp_path: Path, broken: type[Broken]) -> None:
    put("broken://b", tars(sounds(tmp_path / "plain")))
    first = extracted(open_dataset("broken://b"), tmp_path / "store")
    assert len(broken.asked) == 2 * len(first.clips)  # Once for its content, once to be decoded.
    broken.asked.clear()
    again = extracted(open_dataset("broken://b"), tmp_path / "store")
    assert broken.asked == [] and again.encoded == 0 and again.keys == first.keys
    content = bytearray(broken.store["/b/train-0.tar"].getvalue())
    at = first.clips[0].path
    assert not isinstance(at, Path)
    content[at.offset + 60] ^= 64  # type: ignore[attr-defined]
    put("broken://b", {"train-0.tar": bytes(content)})
    third = extracted(open_dataset("broken://b"), tmp_path / "store")
    assert third.encoded == 1 and third.keys[0] != first.keys[0] and third.keys[1:] == first.keys[1:]


def test_a_clip_that_cannot_be_read_is_left_out_with_its_reason_and_tried_again(
    tmp_path: Path, broken: type[Broken], monkeypatch: pytest.MonkeyPatch
) -> None:
    put("broken://b", sounds(tmp_path / "plain"))
    dataset = open_dataset("broken://b")
    broken.error = RuntimeError("rate limit")
    done = extracted(dataset, tmp_path / "store")
    assert done.clips == () and {skip.reason for skip in done.skips} == {"RuntimeError: rate limit"}
    assert {skip.id for skip in done.skips} == {clip.id for clip in everything(dataset)}
    broken.error = None
    # The storage goes away after the contents were looked at: that is no fault of the clips.
    for clip in everything(dataset):
        FeatureStore.open(tmp_path / "store", Fake().spec).key(clip)
    monkeypatch.setattr("harkback.extract._keys", _then_broken(broken))
    gone = extracted(dataset, tmp_path / "store")
    assert gone.clips == () and {skip.reason for skip in gone.skips} == {"Permission denied"}
    broken.error = None
    monkeypatch.undo()
    back = extracted(dataset, tmp_path / "store")
    assert back.skips == () and len(back.clips) == len(everything(dataset))


def _then_broken(broken: type[Broken]) -> Callable[..., object]:
    from harkback.extract import _keys

    def keys(*args: object) -> object:
        found = _keys(*args)  # type: ignore[arg-type]
        broken.error = PermissionError("expired")
        return found

    return keys


def test_what_is_no_film_is_a_lasting_failure_wherever_it_lies(tmp_path: Path) -> None:
    url = put(
        f"memory://{tmp_path.name}/x", {"dog/a.mp4": b"no film at all", "dog/b.mp4": b"", "cat/c.mp4": b"nor this"}
    )
    done = extracted(open_dataset(url), tmp_path / "store")
    assert done.clips == () and len(done.skips) == 3
    assert len(FeatureStore.open(tmp_path / "store", Fake().spec).failures) == 3
    assert not any("harkback-" in skip.reason for skip in done.skips)  # The temporary file is nobody's business.


def test_two_places_of_one_name_and_state_are_one(tmp_path: Path) -> None:
    put(f"memory://{tmp_path.name}/x", {"a.wav": b"one"})
    store = FeatureStore.open(tmp_path / "store", Fake().spec)
    url = f"memory://{tmp_path.name}/x/a.wav"
    first = store.key(Clip("a", Remote(url, 3, 1)))
    put(f"memory://{tmp_path.name}/x", {"a.wav": b"two"})
    assert store.key(Clip("a", Remote(url, 3, 1))) == first  # As a file whose size and time are as they were.
    assert store.key(Clip("a", Remote(url, 3, 2))) != first
    assert store.key(Clip("a", Remote(url, 3, 2), start=1.0)).startswith(store.key(Clip("a", Remote(url, 3, 2))))
