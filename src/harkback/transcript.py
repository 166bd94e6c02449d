"""Answers for people and for programs: a table, JSON, CSV, subtitles."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Sequence
from typing import Any

from harkback.answers import Answer
from harkback.errors import one_line
from harkback.formats import DASH, percent

COLUMNS = ("file", "start", "end", "label", "confidence", "likeliest", "unknown", "heard", "seen")


def table(answers: Sequence[Answer]) -> str:
    """Aligned columns; times only where a file has several answers. No line break at the end; "" for no answers."""
    if not answers:
        return ""
    timed = len({answer.file for answer in answers}) < len(answers)
    rows = [("file", *(["time"] if timed else []), "answer", "confidence", "")]
    for answer in answers:
        time = [f"{clock(answer.start)}–{clock(answer.end)}"] if timed else []
        rows.append((one_line(answer.file), *time, one_line(answer.name), _share(answer), remark(answer)))
    widths = [max(_width(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = []
    for row in rows:
        gaps = [" " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)]
        cells = [cell + gap for cell, gap in zip(row, gaps, strict=True)]
        cells[-2] = gaps[-2] + row[-2]  # Numbers end below each other.
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def as_json(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """What JSON can hold: seconds to the millisecond, confidences 0..1; the label of what is unknown is None."""
    return [
        {
            "file": _text(answer.file),
            "start": round(answer.start, 3),
            "end": round(answer.end, 3),
            "label": answer.label,
            "unknown": answer.label is None,
            "likeliest": answer.likeliest,
            "confidence": round(answer.confidence, 6),
            "ranking": [{"label": name, "confidence": round(share, 6)} for name, share in answer.ranking],
            "heard": answer.heard,
            "seen": answer.seen,
        }
        for answer in answers
    ]


def as_csv(answers: Sequence[Answer]) -> str:
    """A line each, below one that names the columns; the label of what is unknown is empty."""
    out = io.StringIO(newline="")
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(COLUMNS)
    for facts in as_json(answers):
        lines.writerow([_cell(facts[name]) for name in COLUMNS])
    return out.getvalue()


def as_vtt(answers: Sequence[Answer]) -> str:
    """WebVTT subtitles of one file (https://www.w3.org/TR/webvtt1/). `ValueError` for answers about several."""
    if len({answer.file for answer in answers}) > 1:
        raise ValueError("subtitles are of one file")
    cues = ["WEBVTT\n"]
    for answer in answers:
        start = round(1000 * answer.start)
        end = max(start + 1, round(1000 * answer.end))  # A cue must last.
        said = one_line(answer.name) + ("" if answer.label is None else f" {_share(answer)}")
        text = f"{said} ({answer.missing})" if answer.missing else said
        for letter, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):  # "-->" goes with its last letter.
            text = text.replace(letter, name)
        cues.append(f"{_stamp(start)} --> {_stamp(end)}\n{text}\n")
    return "\n".join(cues)


def remark(answer: Answer) -> str:
    """What must be known besides: the likeliest class of what is unknown, and what was missing."""
    doubtful = answer.label is None and answer.ranking
    likeliest = f"likeliest {one_line(answer.likeliest)} {percent(answer.confidence)} %" if doubtful else ""
    return ", ".join(filter(None, (likeliest, answer.missing)))


def clock(seconds: float) -> str:
    """75.04 -> "1:15.0", 3675 -> "1:01:15.0"."""
    minutes, tenths = divmod(round(10 * seconds), 600)
    hours, minutes = divmod(minutes, 60)
    return f"{f'{hours}:{minutes:02}' if hours else minutes}:{tenths / 10:04.1f}"


def _share(answer: Answer) -> str:
    return DASH if answer.label is None else f"{percent(answer.confidence)} %"


def _stamp(milliseconds: int) -> str:
    seconds, thousandths = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{thousandths:03}"


def _text(name: str) -> str:
    # A file name that is no valid text must still fit into UTF-8.
    return name.encode("utf-8", "backslashreplace").decode()


def _cell(fact: Any) -> Any:
    return str(fact).lower() if isinstance(fact, bool) else fact  # None is an empty cell.


def _width(text: str) -> int:
    """Columns that a terminal gives it: two for wide letters and most pictographs, none for marks upon a letter."""
    return sum(
        0 if unicodedata.category(letter) in ("Mn", "Me") else 1 + (unicodedata.east_asian_width(letter) in ("W", "F"))
        for letter in text
    )
