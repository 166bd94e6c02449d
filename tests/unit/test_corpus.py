"""What trials have found (`trials.fuzz_guided`, `trials.fuzz`) is read again: an answer, or one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # The trials are no part of the package.

from trials.fuzz_records import everything, restore, targets, tried

CORPUS = Path(__file__).parents[1] / "corpus"


@pytest.mark.parametrize(
    "names", [("csv", "tar", "shards", "pickle"), ("store", "store-list"), ("bench.json", "session.json")]
)
def test_what_once_reached_something_new_is_read_or_refused_in_one_line(names: tuple[str, ...], tmp_path: Path) -> None:
    found, count = targets(tmp_path / "records", names), 0
    files = everything(tmp_path / "records")
    for name in names:
        for path in sorted((CORPUS / name).iterdir()):
            assert tried(found[name], path.read_bytes()) is None, f"{name}/{path.name}"
            restore(tmp_path / "records", files)
            count += 1
    assert count >= 5 * len(names)


def test_a_reader_that_fails_otherwise_is_noticed(tmp_path: Path) -> None:
    """The trial itself can fail."""
    from dataclasses import replace

    target = targets(tmp_path / "records", {"csv"})["csv"]

    def breaks() -> None:
        raise KeyError("x")

    assert tried(replace(target, read=breaks), b"") is not None
    assert tried(replace(target, read=lambda: 1, kept=True, truth=2), b"") == "another answer, and nothing was said"
    assert tried(replace(target, read=lambda: 1, kept=True, truth=1), b"") is None


def test_the_corpus_is_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < 200_000
