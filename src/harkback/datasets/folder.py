"""A folder of clips: ``root/<class>/*``, ``root/{train,val,test}/<class>/*``, or a ``clips.csv``; here or at a URL."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator
from pathlib import Path

from harkback.clips import Clip, Skip
from harkback.datasets._found import SPLITS, Found, Placed, class_name, plain
from harkback.datasets._table import listed
from harkback.datasets._tree import Tree, tree_of
from harkback.errors import HarkbackError
from harkback.places import Place

TABLE = "clips.csv"
LAYOUTS = "put clips into root/<class>/, root/train/<class>/ and root/test/<class>/, or list them in root/clips.csv"


class Folder(Found):
    """Every file that is not hidden counts: what turns out not to be media is reported, not passed over."""

    LAYOUT = LAYOUTS

    def _look(self, skips: list[Skip]) -> Iterable[Placed]:
        there = _Disk(self.root) if isinstance(self.root, Path) else _Away(self._listing or tree_of(self.root))
        table = there.table()
        if table is not None:
            yield from listed(f"{self.root}/{TABLE}", table, there.seek, skips)
            return
        clips, strays = arranged(there.names(skips))
        skips += [Skip(plain(name), there.place(name), reason) for name, reason in strays]
        for split, label, name in clips:
            yield split, Clip(plain(name), there.place(name), label)


def arranged(names: Iterable[str]) -> tuple[list[tuple[str | None, str, str]], list[tuple[str, str]]]:
    """(split, class, name) of every clip, and (name, reason) of what is none.

    names: all that is visible, relative to the root; those of folders end with ``/``.
    """
    root = _entries(names)
    # A class may be called "train": it is a split only if it holds folders.
    named = [split for split in SPLITS if any(name.endswith("/") for name in _entries(root.get(f"{split}/", ())))]
    tops: list[tuple[str, str | None]] = [(f"{split}/", split) for split in named]
    strays: list[tuple[str, str]] = []
    if named:
        beside = [name.rstrip("/") for name in root if name not in dict(tops)]
        strays += [(name, f"lies beside {'/, '.join(named)}/") for name in beside]
    clips: list[tuple[str | None, str, str]] = []
    for top, split in tops or [("", None)]:
        for entry, inside in (_entries(root[top]) if top else root).items():
            if not entry.endswith("/"):
                strays.append((top + entry, "lies outside the class folders"))
                continue
            files = sorted((name for name in inside if not name.endswith("/")), key=lambda name: name.split("/"))
            if not files:
                strays.append((top + entry[:-1], "the class folder is empty"))
            clips += [(split, class_name(entry[:-1]), top + entry + name) for name in files]
    return clips, strays


def _entries(names: Iterable[str]) -> dict[str, list[str]]:
    """What lies directly in a folder: a file -> nothing; a folder, with its slash -> the names in it."""
    entries: dict[str, list[str]] = {}
    for name in names:
        head, slash, rest = name.partition("/")
        inside = entries.setdefault(head + slash, [])
        if rest:
            inside.append(rest)
    return dict(sorted(entries.items(), key=lambda entry: entry[0].rstrip("/")))


class _Disk:
    """A folder of this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def table(self) -> bytes | None:
        path = self.root / TABLE
        return path.read_bytes() if path.exists() else None

    def place(self, name: str) -> Path:
        return self.root / name

    def seek(self, path: str, where: str) -> tuple[str, Path | Place, bool]:
        found = self.root / path
        if not found.resolve().is_relative_to(self.root.resolve()):
            raise HarkbackError(f"the path {path} leaves the folder", where=where, mend="keep clips inside it")
        return plain(found.relative_to(self.root).as_posix()), found, found.is_file()

    def names(self, skips: list[Skip], inner: str = "") -> Iterator[str]:
        """Links to folders are followed where a class or a split is one, and no deeper: they may lead round."""
        follow = not inner or (inner.count("/") == 1 and inner[:-1] in SPLITS)
        with os.scandir(self.root / inner) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
        for entry in visible:
            name = inner + entry.name
            if entry.is_dir(follow_symlinks=follow):
                yield f"{name}/"
                yield from self.names(skips, f"{name}/")
            elif entry.is_file():
                yield name
            elif not entry.is_dir():
                skips.append(Skip(plain(name), self.root / name, "is no file, or a link that leads nowhere"))


class _Away:
    """The same behind a URL, as far as a listing tells."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree

    def table(self) -> bytes | None:
        return self.tree.place(TABLE).read() if TABLE in self.tree.files else None

    def place(self, name: str) -> Place:
        return self.tree.place(name)

    def seek(self, path: str, where: str) -> tuple[str, Path | Place, bool]:
        # Inside alone, as on a disk: a table from elsewhere must not send its reader to any address it likes.
        name = posixpath.normpath(path)
        if "://" in path or name.startswith(("/", "../")) or name == "..":
            raise HarkbackError(f"the path {path} leaves the folder", where=where, mend="keep clips inside it")
        return plain(name), self.tree.place(name), name in self.tree.files

    def names(self, skips: list[Skip]) -> Iterator[str]:
        for name in (*self.tree.files, *self.tree.folders):
            if "::" in name:
                skips.append(Skip(plain(name), self.tree.place(name), "fsspec cannot open a name with :: in it"))
            else:
                yield name
