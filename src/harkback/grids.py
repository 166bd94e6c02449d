"""The page's heat maps: tables of cells, or one picture where there would be too many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harkback import figures, metrics
from harkback.formats import percent
from harkback.metrics import Array
from harkback.results import Results, Told

LEGIBLE = 30  #: rows up to which a heat map shows its numbers and names


@dataclass(frozen=True, slots=True)
class Cell:
    """A place in a heat map: what it says, and its colour's step; None: nothing was measured."""

    text: str
    step: int | None


@dataclass(frozen=True, slots=True)
class Grid:
    """A heat map: a table of cells, or one picture where there would be too many."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: list[list[Cell]]
    picture: str  #: a data: URI; "": the cells are shown
    caption: str
    often: tuple[str, ...] = ()  #: what stands out, in words


def matrix(results: Results) -> Grid:
    """a_{t,i} in percent, mean over runs."""
    shares = np.mean(results.matrices(), axis=0)
    names = tuple(str(t + 1) for t in range(len(shares)))
    texts = [["" if np.isnan(share) else f"{100 * share:.0f}" for share in line] for line in shares]
    return _grid(names, names, shares, texts, "rows: after session; columns: classes of session")


def confusion(results: Results) -> Grid:
    """Counts of the last session of the first run; colours by share of the row."""
    names = tuple(results.facts[0][-1]["classes"])
    counts = metrics.confusion(results.answers[0][-1], len(names))
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    wrong = counts * (1 - np.eye(len(names), dtype=np.int64))
    order = np.argsort(-wrong, axis=None, kind="stable")[:5]
    often = [(divmod(int(i), len(names)), int(wrong.flat[i])) for i in order]
    seed, order_number = results.runs[0].seed, results.runs[0].order
    return _grid(
        names,
        names,
        shares,
        [[str(number) if number else "" for number in line] for line in counts],
        f"rows: the true class; columns: what was said; classes in the order in which they came; "
        f"seed {seed}, order {order_number}",
        tuple(f"{names[t]} → {names[s]} ({n} of {counts[t].sum()})" for (t, s), n in often if n),
    )


def _grid(
    rows: tuple[str, ...],
    columns: tuple[str, ...],
    shares: Array,
    texts: Sequence[Sequence[str]],
    caption: str,
    often: tuple[str, ...] = (),
) -> Grid:
    if len(rows) > LEGIBLE:
        return Grid(rows, columns, [], figures.plain_map(shares), caption, often)
    cells = [
        [Cell(text, figures.step(share)) for text, share in zip(line, of, strict=True)]
        for line, of in zip(texts, shares, strict=True)
    ]
    return Grid(rows, columns, cells, "", caption, often)


def classes(told: Told, shown: Sequence[Results]) -> list[tuple[str, int, list[Cell]]]:
    """(class, its test clips, each shown learner's accuracy on it after the last session)"""
    labels = [clip["label"] for clip in told.facts["test_clips"]]
    by_learner = [results.per_class() for results in shown]
    return [
        (
            name,
            labels.count(name),
            [Cell(percent(shares[name]), figures.step(shares[name])) for shares in by_learner],
        )
        for name in sorted(set(labels))
        if all(name in shares for shares in by_learner)
    ]
