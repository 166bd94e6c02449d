"""Datasets: labelled clips in splits, and what was left out of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from harkback.clips import Clip, Skip
from harkback.errors import HarkbackError
from harkback.registry import DATASETS


class Dataset(Protocol):
    """Labelled clips by split: "train" to learn from, "test" to be asked, "val" to choose by."""

    @property
    def name(self) -> str: ...
    @property
    def splits(self) -> Mapping[str, tuple[Clip, ...]]: ...
    @property
    def skips(self) -> tuple[Skip, ...]:
        """What looked like a clip and is none, and why."""
        ...


def open_dataset(source: str) -> Dataset:
    """A folder of clips by its path; a registered dataset as ``name:folder``, or ``name`` for the folder ``name``."""
    name, colon, folder = source.partition(":")
    if name in DATASETS.names() and (colon or not Path(source).is_dir()):
        dataset: Dataset = DATASETS.load(name)(Path(folder or name))
        return dataset
    if not Path(source).exists():
        known = ", ".join(DATASETS.names())
        raise HarkbackError(
            "no such folder", where=source, mend=f"give a folder of clips, or one of the datasets: {known}"
        )
    opened: Dataset = DATASETS.load("folder")(Path(source))
    return opened
