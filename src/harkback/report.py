"""The report's numbers as JSON, Markdown and LaTeX: pure functions of the log. `harkback.page` makes the page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harkback import wording
from harkback.compare import Compared, compare
from harkback.files import whole, write_json
from harkback.formats import count
from harkback.results import Told, read, row
from harkback.tables import DEFINITIONS, NAMED, Row, latex_table, main_columns, markdown_table, plain

#: The packages of the extra "report".
EXTRA = ("jinja2", "markupsafe", "matplotlib", "PIL")


@dataclass(frozen=True, slots=True)
class Found:
    """A bench's log and all that the report says of it."""

    told: Told
    compared: Compared
    rows: tuple[Row, ...]  #: a learner's numbers each, in the order of the bench

    @property
    def reference(self) -> str | None:
        return self.compared.reference.learner if self.compared.reference else None


def find(out: Path, reference: str | None = None) -> Found:
    """Read the log in ``out``. reference: the learner that all others are compared with; None: the bench's own."""
    told = read(out)
    compared = compare(told, reference)
    rows = []
    for results in told.learners:
        comparison = compared.by_learner[results.learner]
        rows.append({**row(results), "comparison": comparison.facts() if comparison else None})
    return Found(told, compared, tuple(rows))


def summary(out: Path, reference: str | None = None) -> dict[str, Any]:
    """The numbers as JSON holds them: accuracies 0..1, means over runs; None where there is nothing to measure."""
    return _summary(find(out, reference))


def _summary(found: Found) -> dict[str, Any]:
    facts = found.told.facts
    return {
        "dataset": facts["dataset"],
        "encoder": facts["encoder"]["name"],
        "sessions": facts["sessions"],
        "memory": facts["memory"],
        "asked": facts["asked"],
        "protocol": facts.get("protocol"),
        "validation": facts.get("validation"),
        "reference": found.reference,
        "reference_named_by": found.compared.named_by,
        "training_clips": facts["training_clips"],
        "test_clips": len(facts["test_clips"]),
        "rows": list(found.rows),
        "skipped": [{"id": skip["id"], "reason": skip["reason"]} for skip in facts["skips"]],
        "unfinished": [
            {"learner": run.learner, "seed": run.seed, "order": run.order, "sessions": done, "failed": failed}
            for run, done, failed in found.told.unfinished
        ],
    }


def markdown(out: Path, reference: str | None = None) -> str:
    """The tables and what must be known to read them."""
    return _markdown(find(out, reference))


def _markdown(found: Found) -> str:
    told, compared = found.told, found.compared
    lines = [f"# {plain(told.facts['dataset'])}, encoded by {plain(told.facts['encoder']['name'])}", ""]
    lines += [plain(wording.verdict(told, compared)), ""]
    lines += markdown_table(found.rows, main_columns(found.rows, found.reference))
    lines += ["", f"* {plain(wording.asked(told))}"]
    lines += [f"* {plain(text)}" for text in wording.notes(told)]
    skips = told.facts["skips"]
    groups = wording.grouped(skips)
    lines += [f"* {count(len(skips), 'clip was', 'clips were')} left out{':' if groups else '.'}"]
    lines += [f"  * {len(group)}: {plain(reason)}" for reason, group in groups]
    lines += ["", "All metrics by name:", "", *markdown_table(found.rows, NAMED), ""]
    said = [*wording.differences(told, compared), *wording.provisos(told, compared)]
    lines += ["Differences:", "", *(f"* {plain(text)}" for text in said), ""] if said else []
    lines += [*(f"* **{n}**: {text}{f' ({whose})' if whose else ''}." for n, text, whose in DEFINITIONS), ""]
    return "\n".join(lines)


def latex(out: Path, reference: str | None = None) -> str:
    """The first table, for a paper."""
    return _latex(find(out, reference))


def _latex(found: Found) -> str:
    told, facts = found.told, found.told.facts
    text = f"{facts['dataset']}, encoded by {facts['encoder']['name']}. {wording.asked(told)}"
    text += "".join(f" {line}" for line in wording.plus_minus(told))
    if any(row["comparison"] for row in found.rows):
        text += (
            f" Against {found.reference}: difference of final accuracy on the same clips and runs, with its 95 % "
            "interval; *: p < 0.05 after Holm's correction."
        )
    text += " Bold: the best of the incremental learners." + "".join(f" {line}" for line in wording.ceilings(told))
    return latex_table(found.rows, main_columns(found.rows, found.reference), text)


def write_report(out: Path, reference: str | None = None) -> list[Path]:
    """Write report.json, .md, .tex and, if the extra "report" is installed, .html; return what was written."""
    found = find(out, reference)
    write_json(out / "report.json", _summary(found))
    _write(out / "report.md", _markdown(found))
    _write(out / "report.tex", _latex(found))
    written = [out / f"report.{kind}" for kind in ("json", "md", "tex")]
    try:
        from harkback.page import render
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRA:
            raise
        return written
    _write(out / "report.html", render(found))
    return [*written, out / "report.html"]


def _write(path: Path, text: str) -> None:
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
