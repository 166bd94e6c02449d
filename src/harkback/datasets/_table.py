"""The lines of a ``clips.csv``."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from harkback.clips import Clip, Skip
from harkback.datasets._found import SPLITS, Placed, class_name, window
from harkback.errors import HarkbackError
from harkback.places import Place

#: A path as it is written, and where that stands -> its id, where it lies, and whether there is a file.
Seek = Callable[[str, str], tuple[str, Path | Place, bool]]


def listed(table: str, content: bytes, seek: Seek, skips: list[Skip]) -> Iterator[Placed]:
    """table: what it is called in messages. A line that makes no sense is an error: the table was written by hand."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise HarkbackError("is not UTF-8 text", where=table, mend="save it as CSV in UTF-8") from error
    lines = csv.DictReader(io.StringIO(text, newline=""))
    try:
        titles = lines.fieldnames or ()
    except csv.Error as error:
        raise _no_csv(error, table, 1) from error
    missing = [name for name in ("path", "label") if name not in titles]
    if missing:
        raise HarkbackError(
            f"has no column {' and no column '.join(missing)}",
            where=table,
            mend="its first line must be path,label or path,label,split,start,end",
        )
    known: set[str] = set()
    for row in _rows(lines, table):
        where = f"{table}, line {lines.line_num}"
        # An unquoted "cat, big" would be the class "cat".
        if any(cell.strip() for cell in row.get(None) or ()):
            raise HarkbackError("has more cells than the first line", where=where, mend="put quotes around commas")
        path = (row["path"] or "").strip()
        if "\0" in path:
            raise HarkbackError("the path holds a NUL", where=where, mend="save the table as plain text")
        name, place, there = seek(path, where)
        label, split = class_name(row["label"] or ""), (row.get("split") or "").strip() or None
        if not label or not path:
            raise HarkbackError("path or label is empty", where=where, mend="fill it in or delete the line")
        if split is not None and split not in SPLITS:
            raise HarkbackError(f'there is no split "{split}"', where=where, mend="use train, val or test")
        start, end = _seconds(row.get("start"), where) or 0.0, _seconds(row.get("end"), where)
        if start < 0:
            raise HarkbackError("the window starts before the file", where=where, mend="give 0 or more seconds")
        if end is not None and end <= start:
            raise HarkbackError("the window ends before it starts", where=where, mend="give start < end, in seconds")
        clip = Clip(name + window(start, end), place, label, start, end)
        if clip.id in known:
            skips.append(Skip(clip.id, place, f"stands in clips.csv more than once (line {lines.line_num})"))
        elif there:
            yield split, clip
        else:
            skips.append(Skip(clip.id, place, "is listed in clips.csv but not there"))
        known.add(clip.id)


def _rows(lines: csv.DictReader[str], table: str) -> Iterator[dict[str | None, Any]]:
    """By column; under None are cells beyond the last."""
    begun = 1
    try:
        for row in lines:
            yield cast(dict[str | None, Any], row)
            begun = lines.line_num + 1
    except csv.Error as error:
        raise _no_csv(error, table, begun) from error


def _no_csv(error: csv.Error, table: str, line: int) -> HarkbackError:
    mend = "close the quote that is opened there, or save the table anew"
    return HarkbackError(f"is no CSV: {error}", where=f"{table}, line {line}", mend=mend)


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
