"""The report as one HTML page that needs nothing else: no network, no script, no font."""

from __future__ import annotations

import json
from pathlib import Path

from harkback import curves, figures, forest, formats, grids, heat, tables, wording
from harkback.report import Found, find
from harkback.results import Results
from harkback.templating import template

MANY = 6  #: learners beyond which the heat maps of those whom the curves do not name are folded away


def html(out: Path, reference: str | None = None) -> str:
    """The page of the bench whose log lies in ``out``; reference: as `harkback.report.find` takes it."""
    return render(find(out, reference))


def render(found: Found) -> str:
    """The same, of a log that was read already."""
    told, compared = found.told, found.compared
    shown = [results for results in told.learners if results.runs]
    looks = curves.styled(told, compared.reference)
    bright = [look.results.learner for look in looks if look.bright]
    galleries = heat.galleries([run for r in shown for run in r.runs], told.facts["test_clips"])
    first = [r.learner for r in (*told.incremental, *shown)]
    named = bright if len(shown) > MANY else [results.learner for results in shown]
    maps = [(results.learner, grids.matrix(results), grids.confusion(results)) for results in shown]
    columns = tables.main_columns(found.rows, found.reference)
    return template("report.html").render(
        told=told,
        facts=told.facts,
        reference=found.reference,
        verdict=wording.verdict(told, compared),
        asked=wording.asked(told),
        notes=wording.notes(told),
        columns=columns,
        table=list(zip(found.rows, tables.marked(found.rows, columns), strict=True)),
        metrics_columns=tables.NAMED,
        metrics_table=list(zip(found.rows, tables.marked(found.rows, tables.NAMED), strict=True)),
        forest=forest.forest(told, compared),
        differences=wording.differences(told, compared),
        provisos=wording.provisos(told, compared),
        shown=shown,
        single=all(len(results.runs) == 1 for results in shown),
        curve=curves.accuracy(told, looks) if shown else None,
        crowd=len(shown) - len(bright),
        alone=curves.alone(told, looks) if len(shown) > len(bright) else None,
        maps=[of for of in maps if of[0] in named],
        more_maps=[of for of in maps if of[0] not in named],
        classes=grids.classes(told, shown),
        galleries=galleries,
        open_confusion=first[:1] if len(shown) <= MANY else [],
        open_gallery=[name for name in first if name in {gallery.learner for gallery in galleries}][:1],
        spent=[_spent(results) for results in shown],
        costs=curves.costs(told, looks) if shown else None,
        losses=curves.losses(told),
        skips=wording.grouped(told.facts["skips"]),
        definitions=tables.DEFINITIONS,
        command=wording.command(told, compared),
        settings=json.dumps(
            {k: v for k, v in told.facts.items() if k not in ("test_clips", "skips")}, indent=1, ensure_ascii=False
        ),
        steps=figures.steps(),
        gradient=heat.key(),
        shades=f"linear-gradient(to right, {', '.join(colour for colour, _ in figures.steps())})",
        percent=formats.percent,
        count=formats.count,
    )


def _spent(results: Results) -> tuple[str, list[str]]:
    """(learner, time in all, of a session, of the slowest, kept after the first session, after the last)"""
    seconds, kept = results.costs("seconds").mean(0), results.costs("memory_bytes").mean(0)
    times = [formats.duration(float(number)) for number in (seconds.sum(), seconds.mean(), seconds.max())]
    return results.learner, [*times, formats.size(kept[0]), formats.size(kept[-1])]
