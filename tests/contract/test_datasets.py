"""What holds for every dataset: splits of labelled clips with stable, unique ids."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from avcil_release import some_of, write_release
from fakes import tone
from harkback.clips import Clip, Skip
from harkback.datasets import Benchmark, Dataset, Encoded, open_dataset
from harkback.errors import HarkbackError
from harkback.places import at_hand
from harkback.registry import DATASETS
from stored import put, sounds, tables, tars


def speak(root: Path) -> None:
    for split, count in (("train", 3), ("val", 1), ("test", 2)):
        for label in ("dog", "chat à poil"):
            for i in range(count):
                tone(root / split / label / f"{i}.wav", 300 + 17 * i)


def videos(name: str) -> Callable[[Path], None]:
    """Files that are called as a benchmark's; nothing is in them."""

    def put(root: Path) -> None:
        root.mkdir()
        for clip in some_of(name, 2, 2):
            (root / f"{clip}.mp4").touch()

    return put


def shards(root: Path) -> None:
    put(str(root), tars(sounds(root.with_name("plain"))))


def columns(root: Path) -> None:
    pytest.importorskip("pyarrow", reason="NOT CHECKED: dataset parquet, no pyarrow here")
    put(str(root), tables(sounds(root.with_name("plain"))))


#: A dataset that finds its clips has a row here: what puts a few into a folder.
FILES: dict[str, Callable[[Path], Any]] = {
    "folder": speak,
    "webdataset": shards,
    "parquet": columns,
    **{name: videos(name) for name in ("ave", "kinetics-sounds", "vggsound100", "vggsound100-disjoint")},
    "avcil-features": lambda root: write_release(root, "ave", 2, classes=2),
    "avcil-features-disjoint": lambda root: write_release(root, "vggsound100", 2, classes=2),
}
#: What one is made with, beside the folder.
KEYWORDS: dict[str, dict[str, Any]] = {
    "demo": {"classes": 2, "train": 2, "test": 1},
    "avcil-features": {"read_pickle": True},
    "avcil-features-disjoint": {"read_pickle": True},
    "decoys": {"classes": 4, "train": 3, "val": 1, "test": 2, "frames": 2, "patches": 8, "dim": 32},
}


def opened(name: str, root: Path) -> Dataset:
    """The dataset of that name over a few clips."""
    kind = DATASETS.load(name)
    if name in FILES and not root.exists():
        FILES[name](root)
    try:
        found: Dataset = kind(root, **KEYWORDS.get(name, {}))
    except HarkbackError as error:
        pytest.skip(f"NOT CHECKED: dataset {name} needs files that are not here: {error}")
    return found


@pytest.fixture(params=DATASETS.names(), scope="module")
def name(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture(scope="module")
def root(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp(name) / "clips"


@pytest.fixture(scope="module")
def dataset(name: str, root: Path) -> Dataset:
    return opened(name, root)


def test_splits_are_named_train_val_and_test(dataset: Dataset) -> None:
    assert set(dataset.splits) <= {"train", "val", "test"}
    assert {"train", "test"} <= set(dataset.splits)
    assert all(isinstance(clips, tuple) and clips for clips in dataset.splits.values())
    assert isinstance(dataset.name, str)
    assert dataset.name


def test_every_clip_is_labelled_by_a_name_and_lies_where_it_says(dataset: Dataset) -> None:
    for clips in dataset.splits.values():
        for clip in clips:
            assert isinstance(clip, Clip)
            assert isinstance(clip.label, str)
            assert clip.label.strip()
            assert isinstance(clip.id, str)
            with at_hand(clip.path) as path:
                assert path.is_file()
            assert clip.start >= 0
            assert clip.end is None or clip.end > clip.start


def test_ids_are_unique_across_the_splits(dataset: Dataset) -> None:
    ids = [clip.id for clips in dataset.splits.values() for clip in clips]
    assert len(set(ids)) == len(ids)


def test_no_file_is_in_two_splits(dataset: Dataset) -> None:
    # Features of many clips may lie in one file: there, an id is a place.
    inside = isinstance(dataset, Encoded)
    clips = [clip for clips in dataset.splits.values() for clip in clips]
    windows = [(clip.path, clip.start, clip.end, clip.id if inside else None) for clip in clips]
    assert len(set(windows)) == len(windows)


def test_what_is_asked_can_be_learnt(dataset: Dataset) -> None:
    taught = {clip.label for clip in dataset.splits["train"]}
    assert {clip.label for clip in dataset.splits["test"]} <= taught
    assert len(taught) >= 2


def test_skips_are_reasons(dataset: Dataset) -> None:
    assert isinstance(dataset.skips, tuple)
    assert all(isinstance(skip, Skip) and skip.reason for skip in dataset.skips)


def test_opening_it_again_gives_the_same_clips_in_the_same_order(dataset: Dataset, name: str, root: Path) -> None:
    again = opened(name, root)
    assert again.splits == dataset.splits
    assert again.name == dataset.name


def test_ids_do_not_depend_on_where_the_folder_lies(name: str, root: Path, dataset: Dataset) -> None:
    assert not any(str(root) in clip.id for clips in dataset.splits.values() for clip in clips)


def test_a_protocol_orders_the_classes_there_are(dataset: Dataset) -> None:
    if not isinstance(dataset, Benchmark):
        pytest.skip("it has no protocol of its own")
    protocol = dataset.protocol
    assert protocol.name and protocol.memory >= 0
    assert len(set(protocol.order)) == len(protocol.order) == sum(protocol.sessions) and min(protocol.sessions) >= 1
    assert {clip.label for clips in dataset.splits.values() for clip in clips} <= set(protocol.order)


def test_what_comes_as_features_is_converted_once(dataset: Dataset, tmp_path: Path) -> None:
    if not isinstance(dataset, Encoded):
        pytest.skip("it comes as media")
    clips = [clip for split in dataset.splits.values() for clip in split]
    first, again = (dataset.convert(clips, tmp_path / "store") for _ in range(2))
    assert first.encoded == len(clips) and again.encoded == 0
    assert list(first.clips) == clips and first.features.ids == tuple(clip.id for clip in clips)
    assert (again.clips, again.keys, again.skips) == (first.clips, first.keys, first.skips)
    assert first.features.shape == dataset.spec.shape and len(set(first.keys)) == len(clips)
    one, other = (found.features[torch.arange(len(clips))] for found in (first, again))
    assert torch.equal(one.audio, other.audio) and torch.equal(one.visual, other.visual)
    assert one.audio.dtype == torch.half and one.audio.isfinite().all() and one.visual.isfinite().all()


def test_trust_in_pickles_is_asked_for_by_those_that_have_some(name: str, root: Path, dataset: Dataset) -> None:
    if getattr(DATASETS.load(name), "PICKLED", False):
        assert open_dataset(f"{name}:{root}", read_pickle=True).splits == dataset.splits
        with pytest.raises(HarkbackError, match="--read-pickle"):
            open_dataset(f"{name}:{root}")
    else:
        with pytest.raises(HarkbackError, match="leave --read-pickle out"):
            open_dataset(f"{name}:{root}", read_pickle=True)


def test_a_dataset_is_opened_by_its_name_or_its_folder(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    for label in ("a", "b"):
        for i in range(2):
            tone(root / label / f"{i}.wav", 300 + i)
    assert open_dataset(str(root)).splits == open_dataset(f"folder:{root}").splits
    with pytest.raises(HarkbackError, match=r"no such folder.*demo, folder"):
        open_dataset(str(tmp_path / "none"))
    with pytest.raises(HarkbackError, match="no such folder"):
        open_dataset("nonsense:thing")
