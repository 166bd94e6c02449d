"""What holds for every dataset: splits of labelled clips with stable, unique ids."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes import tone
from harkback.clips import Clip, Skip
from harkback.datasets import Dataset, open_dataset
from harkback.errors import HarkbackError
from harkback.registry import DATASETS


def opened(name: str, root: Path) -> Dataset:
    """The dataset of that name over a few clips."""
    kind = DATASETS.load(name)
    if name == "demo":
        drawn: Dataset = kind(root, classes=2, train=2, test=1)
        return drawn
    if name == "folder" and not root.exists():
        for split, count in (("train", 3), ("val", 1), ("test", 2)):
            for label in ("dog", "chat à poil"):
                for i in range(count):
                    tone(root / split / label / f"{i}.wav", 300 + 17 * i)
    try:
        found: Dataset = kind(root)
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
            assert isinstance(clip.path, Path)
            assert clip.path.is_file()
            assert clip.start >= 0
            assert clip.end is None or clip.end > clip.start


def test_ids_are_unique_across_the_splits(dataset: Dataset) -> None:
    ids = [clip.id for clips in dataset.splits.values() for clip in clips]
    assert len(set(ids)) == len(ids)


def test_no_file_is_in_two_splits(dataset: Dataset) -> None:
    windows = [(clip.path, clip.start, clip.end) for clips in dataset.splits.values() for clip in clips]
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
