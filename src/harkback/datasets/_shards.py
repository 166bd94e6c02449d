"""Clips by the thousand in few large files: what tars and Parquet have in common."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import TypeVar

from tqdm import tqdm

from harkback.clips import Skip
from harkback.datasets._found import plain
from harkback.datasets._tree import ASIDE, TARS, Tree

T = TypeVar("T")
AT_ONCE = 16  #: files that are looked into side by side: it is waiting, not work
#: Words for the splits, as the Hugging Face hub has them.
WORDS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test"}


def chosen(tree: Tree, endings: Sequence[str], skips: list[Skip]) -> list[str]:
    """The files with these endings, in order; others are left out, by name if one might miss them."""
    names = []
    for name in sorted(tree.files):
        if "::" in name:
            skips.append(Skip(plain(name), tree.place(name), "fsspec cannot open a name with :: in it"))
        elif name.lower().endswith(tuple(endings)):
            names.append(name)
        elif PurePosixPath(name).suffix.lower() not in ASIDE:
            kind = "tar" if endings is TARS else "Parquet file"
            skips.append(Skip(plain(name), tree.place(name), f"lies among the shards and is no {kind}"))
    return names


def split_of(name: str) -> str | None:
    """``train/a.tar``, ``data/train-00000-of-00002.parquet``, ``train.tar``: the split that a shard's name tells."""
    *folders, file = name.lower().split("/")
    word = re.match(r"[a-z]+", file)
    for told in (*folders, word[0] if word else ""):
        if told in WORDS:
            return WORDS[told]
    return None


def each(work: Callable[[str], T], names: Sequence[str]) -> Iterator[tuple[str, T]]:
    """``work`` of every file, side by side, in order; with a bar if it lasts more than a second."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = pool.map(work, names)
        yield from tqdm(
            zip(names, done, strict=True),
            total=len(names),
            desc="looking into files",
            unit="file",
            leave=False,
            delay=1,
        )
