"""A folder of clips: ``root/<class>/*``, ``root/{train,val,test}/<class>/*``, or a ``clips.csv``."""

from __future__ import annotations

import csv
import hashlib
import io
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from harkback.clips import Clip, Skip
from harkback.errors import HarkbackError

SPLITS = ("train", "val", "test")
TEST_SHARE = 4  # One clip in four is kept for testing where the folder has no splits of its own.
LAYOUTS = "put clips into root/<class>/, root/train/<class>/ and root/test/<class>/, or list them in root/clips.csv"


class Folder:
    """Every file that is not hidden counts: what turns out not to be media is reported, not passed over.

    Without splits of its own, a quarter of each class (at least one clip, if it has two) is kept for testing, chosen
    by a hash of the clip's name: the same clips on every machine, and adding clips moves few others.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.skips: tuple[Skip, ...] = ()
        if not root.exists():
            raise HarkbackError("no such folder", where=root, mend="check the path")
        if not root.is_dir():
            raise HarkbackError("is not a folder", where=root, mend=LAYOUTS)

    @property
    def name(self) -> str:
        return self.root.resolve().name

    @cached_property
    def _found(self) -> list[tuple[str | None, Clip]]:
        """Every clip, and its split where the folder names one."""
        skips: list[Skip] = []
        try:
            found = list(self._listed(skips) if (self.root / "clips.csv").exists() else self._walked(skips))
        except OSError as error:
            raise HarkbackError(
                error.strerror or str(error), where=error.filename or self.root, mend="check its permissions"
            ) from error
        if not found:
            raise HarkbackError("there are no clips in it", where=self.root, mend=LAYOUTS)
        self.skips = tuple(skips)
        return found

    @property
    def lessons(self) -> tuple[Clip, ...]:
        """What a model is taught: clips of train, and those of no split."""
        return tuple(clip for split, clip in self._found if split in (None, "train"))

    @cached_property
    def splits(self) -> dict[str, tuple[Clip, ...]]:
        by_split: dict[str, list[Clip]] = defaultdict(list)
        loose: list[Clip] = []
        for split, clip in self._found:
            (by_split[split] if split else loose).append(clip)
        for split, clip in _dealt(loose):
            by_split[split].append(clip)
        return {split: tuple(by_split[split]) for split in SPLITS if split in by_split}

    def _walked(self, skips: list[Skip]) -> Iterator[tuple[str | None, Clip]]:
        # A class may be called "train": it is a split only if it holds folders.
        named = [split for split in SPLITS if any(path.is_dir() for path in _visible(self.root / split))]
        tops: list[tuple[Path, str | None]] = [(self.root / split, split) for split in named]
        if named:
            beside = [entry for entry in _visible(self.root) if entry.name not in named]
            skips += [Skip(self._id(entry), entry, f"lies beside {'/, '.join(named)}/") for entry in beside]
        for top, split in tops or [(self.root, None)]:
            for entry in _visible(top):
                if not entry.is_dir():
                    skips.append(Skip(self._id(entry), entry, "lies outside the class folders"))
                    continue
                files = [path for path in sorted(entry.rglob("*")) if path.is_file() and not _hidden(path, entry)]
                if not files:
                    skips.append(Skip(self._id(entry), entry, "the class folder is empty"))
                for path in files:
                    yield split, Clip(self._id(path), path, class_name(entry.name))

    def _listed(self, skips: list[Skip]) -> Iterator[tuple[str | None, Clip]]:
        table = self.root / "clips.csv"
        try:
            text = table.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise HarkbackError("is not UTF-8 text", where=table, mend="save it as CSV in UTF-8") from error
        lines = csv.DictReader(io.StringIO(text, newline=""))
        missing = [name for name in ("path", "label") if name not in (lines.fieldnames or ())]
        if missing:
            raise HarkbackError(
                f"has no column {' and no column '.join(missing)}",
                where=table,
                mend="its first line must be path,label or path,label,split,start,end",
            )
        inside = self.root.resolve()
        known: set[str] = set()
        for row in lines:
            where = f"{table}, line {lines.line_num}"
            path = self.root / (row["path"] or "").strip()
            if "\0" in str(path):
                raise HarkbackError("the path holds a NUL", where=where, mend="save the table as plain text")
            if not path.resolve().is_relative_to(inside):
                raise HarkbackError(
                    f"the path {row['path']} leaves the folder", where=where, mend="keep clips inside it"
                )
            label, split = class_name(row["label"] or ""), (row.get("split") or "").strip() or None
            if not label or not (row["path"] or "").strip():
                raise HarkbackError("path or label is empty", where=where, mend="fill it in or delete the line")
            if split is not None and split not in SPLITS:
                raise HarkbackError(f'there is no split "{split}"', where=where, mend="use train, val or test")
            start, end = _seconds(row.get("start"), where) or 0.0, _seconds(row.get("end"), where)
            if start < 0 or (end is not None and end <= start):
                raise HarkbackError(
                    "the window ends before it starts", where=where, mend="give start < end, in seconds"
                )
            window = "" if start == 0 and end is None else f"@{start!r}-{'' if end is None else repr(end)}"
            clip = Clip(self._id(path) + window, path, label, start, end)
            if clip.id in known:
                skips.append(Skip(clip.id, path, f"stands in clips.csv more than once (line {lines.line_num})"))
            elif path.is_file():
                yield split, clip
            else:
                skips.append(Skip(clip.id, path, "is listed in clips.csv but not there"))
            known.add(clip.id)

    def _id(self, path: Path) -> str:
        # A name that is no valid text must still fit into JSON.
        return path.relative_to(self.root).as_posix().encode("utf-8", "backslashreplace").decode()


def class_name(name: str) -> str:
    # One class must not become two because one file system spells é as two characters.
    return unicodedata.normalize("NFC", name.strip().encode("utf-8", "backslashreplace").decode())


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []


def _hidden(path: Path, top: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(top).parts)


def _seconds(text: str | None, where: str) -> float | None:
    if text is None or not text.strip():
        return None
    try:
        value = float(text)
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError
    except ValueError:
        raise HarkbackError(f'"{text}" is not a number of seconds', where=where, mend="write it like 12.5") from None
    return value


def _dealt(clips: list[Clip]) -> Iterator[tuple[str, Clip]]:
    by_class: dict[str | None, list[Clip]] = defaultdict(list)
    for clip in clips:
        by_class[clip.label].append(clip)
    for members in by_class.values():
        ranked = sorted(members, key=lambda clip: hashlib.sha256(clip.id.encode()).digest())
        held_back = max(1, len(ranked) // TEST_SHARE) if len(ranked) > 1 else 0
        chosen = {clip.id for clip in ranked[:held_back]}
        for clip in members:
            yield ("test" if clip.id in chosen else "train"), clip
