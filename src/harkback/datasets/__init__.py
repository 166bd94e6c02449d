"""Datasets: labelled clips in splits, and what was left out of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from harkback.clips import Clip, Skip
from harkback.datasets._tree import shards_in, tree_of
from harkback.datasets._walk import files_in
from harkback.errors import HarkbackError
from harkback.registry import DATASETS

if TYPE_CHECKING:
    from harkback.encoders import EncoderSpec
    from harkback.extract import Extraction


class Dataset(Protocol):
    """Labelled clips by split: "train" to learn from, "test" to be asked, "val" to choose by."""

    @property
    def name(self) -> str:
        """Under which its results are kept."""
        ...

    @property
    def splits(self) -> Mapping[str, tuple[Clip, ...]]:
        """Clips by split: "train", "test" and, where there is one, "val"."""
        ...

    @property
    def skips(self) -> tuple[Skip, ...]:
        """What looked like a clip and is none, and why."""
        ...


@dataclass(frozen=True, slots=True)
class BenchProtocol:
    """How a benchmark is run unless told otherwise."""

    name: str  #: of the protocol, such as "avcil-2023"
    order: tuple[str, ...]  #: class names in the order they come, whether or not clips of all of them are at hand
    sessions: tuple[int, ...]  #: session sizes in classes; they add up to the number of names
    memory: int  #: exemplars in all


@runtime_checkable
class Benchmark(Protocol):
    """A dataset with a protocol of its own."""

    @property
    def protocol(self) -> BenchProtocol:
        """How its results are published."""
        ...


@runtime_checkable
class Encoded(Protocol):
    """A dataset that comes as features, not as media. Its clips have ids and labels, and nothing to look at."""

    @property
    def spec(self) -> EncoderSpec:
        """What made the features, as the identity of a store."""
        ...

    def convert(self, clips: Sequence[Clip], root: Path) -> Extraction:
        """Fill our store at ``root`` with what it lacks; stopped at any moment, it goes on from there."""
        ...


def open_dataset(source: str, *, read_pickle: bool = False) -> Dataset:
    """Clips by the path or URL of their folder; a registered dataset as ``name:folder``, or ``name`` for ``name:name``.

    A folder of tars or of Parquet is read as such. read_pickle: the user trusts the pickled files of a dataset that has
    some (a class with ``PICKLED = True``).
    """
    name, colon, folder = source.partition(":")
    if name in DATASETS.names() and (colon or not Path(source).is_dir()):
        return _made(DATASETS.load(name), _root(folder or name), read_pickle, source)
    root = _root(source)
    if isinstance(root, Path) and not root.exists():
        known = ", ".join(DATASETS.names())
        raise HarkbackError(
            "no such folder", where=source, mend=f"give a folder of clips, or one of the datasets: {known}"
        )
    if isinstance(root, Path):
        kind = shards_in(files_in(root)) if root.is_dir() else None
        return _made(DATASETS.load(kind or "folder"), root, read_pickle, source)
    tree = tree_of(root)
    return _made(DATASETS.load(shards_in(tree.files) or "folder"), root, read_pickle, source, tree=tree)


def _root(source: str) -> Path | str:
    return source if "://" in source else Path(source)


def _made(kind: type[Any], root: Path | str, read_pickle: bool, source: str, **more: Any) -> Dataset:
    if isinstance(root, str) and not getattr(kind, "REMOTE", False):
        raise HarkbackError("its files must lie in a folder of this machine", where=source, mend="fetch them first")
    if getattr(kind, "PICKLED", False):
        trusted: Dataset = kind(root, read_pickle=read_pickle)
        return trusted
    if read_pickle:
        raise HarkbackError("holds no pickled files", where=source, mend="leave --read-pickle out")
    dataset: Dataset = kind(root, **more)
    return dataset
