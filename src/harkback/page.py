"""The report as one HTML page that needs nothing else: no network, no script, no font."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from harkback import figures, heat, metrics, report
from harkback.metrics import Array
from harkback.results import Results, Told, read, row

LEGIBLE = 30  #: rows up to which a heat map shows its numbers and names

#: Which end of each column of the table is the better one, in the order of `report.DEFINITIONS`.
BETTER = (max, max, min, min, max, min, min)
KEYS = (
    "mean_accuracy",
    "final_accuracy",
    "average_forgetting",
    "final_forgetting",
    "backward_transfer",
    "seconds",
    "memory_bytes",
)


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


def html(out: Path) -> str:
    """The page of the bench whose log lies in ``out``."""
    return render(read(out))


def render(told: Told) -> str:
    """The same, of a log that was read already."""
    environment = Environment(
        loader=PackageLoader("harkback", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = [results for results in told.learners if results.runs]
    galleries = heat.galleries([run for r in shown for run in r.runs], told.facts["test_clips"])
    first = [r.learner for r in (*told.incremental, *shown)]
    return environment.get_template("report.html").render(
        told=told,
        facts=told.facts,
        verdict=report.verdict(told),
        asked=report.asked(told),
        notes=[*report.unfinished(told), *report.ceilings(told)],
        heads=[(name, report.UNITS.get(name, "")) for name, _, _ in report.DEFINITIONS[:-1]],
        table=_table(told),
        shown=shown,
        single=all(len(results.runs) == 1 for results in shown),
        curve=figures.accuracy(told) if shown else None,
        matrices=[(results.learner, _matrix(results)) for results in shown],
        confusions=[(results.learner, _confusion(results)) for results in shown],
        classes=_classes(told, shown),
        galleries=galleries,
        open_confusion=first[:1],
        open_gallery=[name for name in first if name in {gallery.learner for gallery in galleries}][:1],
        spent=[_spent(results) for results in shown],
        costs=figures.costs(told) if shown else None,
        skips=report.grouped(told.facts["skips"]),
        definitions=report.DEFINITIONS,
        command=_command(told),
        settings=json.dumps(
            {k: v for k, v in told.facts.items() if k not in ("test_clips", "skips")}, indent=1, ensure_ascii=False
        ),
        steps=figures.steps(),
        gradient=heat.key(),
        shades=f"linear-gradient(to right, {', '.join(colour for colour, _ in figures.steps())})",
        percent=report.percent,
        count=report.count,
    )


def _table(told: Told) -> list[tuple[Results, list[tuple[str, bool]]]]:
    """Learners and the texts of their row; true: the best of the methods, or as good on paper."""
    numbers = {results.learner: row(results) for results in told.learners}
    rivals = [(numbers[results.learner], report.cells(numbers[results.learner])) for results in told.incremental]
    best: list[str] = []
    for k, (key, better) in enumerate(zip(KEYS, BETTER, strict=True)):
        measured = [(rival[key], _bare(texts[k])) for rival, texts in rivals if rival[key] is not None]
        best.append(better(measured)[1] if len(measured) > 1 else "")
    return [
        (
            results,
            [
                (text, not results.cumulative and text != "–" and _bare(text) == best[k])
                for k, text in enumerate(report.cells(numbers[results.learner]))
            ],
        )
        for results in told.learners
    ]


def _bare(text: str) -> str:
    return text.partition(" ±")[0]


def _matrix(results: Results) -> Grid:
    """a_{t,i} in percent, mean over runs."""
    shares = np.mean(results.matrices(), axis=0)
    names = tuple(str(t + 1) for t in range(len(shares)))
    texts = [["" if np.isnan(share) else f"{100 * share:.0f}" for share in line] for line in shares]
    return _grid(names, names, shares, texts, "rows: after session; columns: classes of session")


def _confusion(results: Results) -> Grid:
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


def _classes(told: Told, shown: Sequence[Results]) -> list[tuple[str, int, list[Cell]]]:
    """(class, its test clips, each shown learner's accuracy on it after the last session)"""
    labels = [clip["label"] for clip in told.facts["test_clips"]]
    by_learner = [results.per_class() for results in shown]
    return [
        (
            name,
            labels.count(name),
            [Cell(report.percent(shares[name]), figures.step(shares[name])) for shares in by_learner],
        )
        for name in sorted(set(labels))
        if all(name in shares for shares in by_learner)
    ]


def _spent(results: Results) -> tuple[str, list[str]]:
    """(learner, time in all, of a session, of the slowest, kept after the first session, after the last)"""
    seconds, kept = results.costs("seconds").mean(0), results.costs("memory_bytes").mean(0)
    times = [report.duration(float(number)) for number in (seconds.sum(), seconds.mean(), seconds.max())]
    return results.learner, [*times, report.size(kept[0]), report.size(kept[-1])]


def _command(told: Told) -> str:
    """What to type to measure the same again, given the clips."""
    facts: dict[str, Any] = told.facts
    sizes = facts["sessions"]
    pairs = [(entry["seed"], entry["order"]) for entry in facts["runs"]]
    words = ["harkback", "bench", "CLIPS", "--learners", ",".join(r.learner for r in told.learners)]
    words += ["--sessions", ",".join(map(str, sizes)) if len(sizes) > 1 else "1", "--memory", str(facts["memory"])]
    words += ["--seeds", _listed([seed for seed, _ in pairs])]
    if any(seed != order for seed, order in pairs):
        words += ["--orders", _listed([order for _, order in pairs])]
    return shlex.join([*words, "--split", facts["asked"], "--encoder", facts["encoder"]["name"]])


def _listed(numbers: Sequence[int]) -> str:
    """As the command line reads it: 3 for 0, 1, 2; else all of them, one alone twice, so that it is no count."""
    once = list(dict.fromkeys(numbers))
    if once == list(range(len(once))):
        return str(len(once))
    return ",".join(map(str, once * 2 if len(once) == 1 else once))
