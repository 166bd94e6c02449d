"""The reports of benches that lie beside the model's app."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from harkback.app.words import BenchWord
from harkback.errors import HarkbackError, one_line
from harkback.files import read_json

PAGE, NUMBERS = "report.html", "report.json"


def benches(runs: Path) -> list[BenchWord]:
    """The newest first. runs: the folder whose folders are benches; there need be none."""
    pages = sorted(runs.glob(f"*/{PAGE}"), key=lambda page: -page.stat().st_mtime)
    return [_bench(page) for page in pages]


def report(runs: Path, name: str) -> Path | None:
    """The page of the bench of that name, one of `benches`; a name is never made a path."""
    return next((page for page in runs.glob(f"*/{PAGE}") if one_line(page.parent.name) == name), None)


def _bench(page: Path) -> BenchWord:
    name = one_line(page.parent.name)
    title, learners = name, []
    try:
        facts = read_json(page.with_name(NUMBERS))
        title, learners = str(facts["dataset"]), [str(row["learner"]) for row in facts["rows"]]
    except (HarkbackError, KeyError, TypeError):  # The page can be looked at all the same.
        pass
    try:
        when = datetime.fromtimestamp(page.stat().st_mtime).astimezone().strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError):  # Some clock was wrong by thousands of years.
        when = "?"
    return BenchWord(name=name, title=title, learners=learners, when=when)
