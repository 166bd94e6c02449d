"""The report's numbers, as JSON and Markdown: pure functions of the prediction log. `harkback.page` makes the page."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harkback import metrics
from harkback.files import whole, write_json
from harkback.results import Results, Told, average, read, row

#: The packages of the extra "report".
EXTRA = ("jinja2", "markupsafe", "matplotlib", "PIL")

#: (name, what it means, whose it is), in the order of the tables' columns.
DEFINITIONS = (
    (
        "Mean accuracy",
        "average incremental accuracy: the mean over all sessions, the first included, of the share of test clips of "
        "all classes seen so far that are right",
        "",
    ),
    ("Final accuracy", "the share of all test clips that are right after the last session", ""),
    (
        "Forgetting",
        "average forgetting: how far the accuracy on the classes of each former session lies below its best in any "
        "earlier session, averaged over former sessions and then over all sessions but the first; negative where old "
        "classes got better",
        "AV-CIL, arXiv 2308.11073",
    ),
    (
        "Final forgetting",
        "the same after the last session alone",
        "Chaudhry et al., ECCV 2018, with the best among earlier sessions",
    ),
    (
        "Backward transfer",
        "how the accuracy on the classes of each former session changed from the session in which they came to the "
        "last; negative where they were forgotten",
        "Lopez-Paz & Ranzato, NeurIPS 2017",
    ),
    ("Time", "what learning took, all sessions together, mean over runs; encoding and asking are not in it", ""),
    (
        "Kept",
        "bytes of all that is carried from session to session after the last one: weights, memory, counters; for a "
        "learner that wants every clip again also those clips' features in half precision; mean over runs",
        "",
    ),
    (
        "±",
        "half the 95 % confidence interval of the mean over runs (Student's t), which are taken as independent; runs "
        "differ in seed, class order or both",
        "",
    ),
)


def summary(out: Path) -> dict[str, Any]:
    """The numbers as JSON holds them: accuracies 0..1, means over runs; None where there is nothing to measure."""
    return _summary(read(out))


def _summary(told: Told) -> dict[str, Any]:
    facts = told.facts
    return {
        "dataset": facts["dataset"],
        "encoder": facts["encoder"]["name"],
        "sessions": facts["sessions"],
        "memory": facts["memory"],
        "asked": facts["asked"],
        "training_clips": facts["training_clips"],
        "test_clips": len(facts["test_clips"]),
        "rows": [row(results) for results in told.learners],
        "skipped": [{"id": skip["id"], "reason": skip["reason"]} for skip in facts["skips"]],
        "unfinished": [
            {"learner": run.learner, "seed": run.seed, "order": run.order, "sessions": done}
            for run, done in told.unfinished
        ],
    }


def verdict(told: Told) -> str:
    """The result in plain words."""
    ranked = told.incremental
    ceilings = [r for r in told.learners if r.runs and r.cumulative]
    if not ranked:
        known = "; ".join(f"{r.learner} reached {_accuracy(r)} mean accuracy" for r in ceilings)
        return f"No incremental learner has a finished run{'; ' + known if known else ''}."
    best = ranked[0]
    first = f"Of {len(ranked)} incremental learners {best.learner} knew most: it" if ranked[1:] else best.learner
    text = f"{first} reached {_accuracy(best)} mean accuracy over {count(len(best.runs), 'run')}."
    if ranked[1:]:
        lead, half = _paired(best, ranked[1])
        if percent(lead) == "0.0":
            text += f" {ranked[1].learner} did as well."
        elif math.isnan(half):
            text += f" It is {points(lead)} ahead of {ranked[1].learner}; there are too few runs to rule out chance."
        elif lead > half:
            text += f" It is {points(lead)} ± {100 * half:.1f} ahead of {ranked[1].learner}, run against run."
        else:
            text += f" Its lead over {ranked[1].learner}, {points(lead)} ± {100 * half:.1f}, may be chance."
    for ceiling in ceilings:
        gap = average(ceiling.over_runs(metrics.mean_accuracy)) - average(best.over_runs(metrics.mean_accuracy))
        text += (
            f" {ceiling.learner}, which is handed every former clip again, reached {_accuracy(ceiling)}: "
            f"{points(abs(gap))} {'more' if gap >= 0 else 'less'}."
        )
    losses = [(average([metrics.average_forgetting(m) for m in r.matrices()]), r.learner) for r in ranked]
    if ranked[1:] and len(told.facts["sessions"]) > 1 and max(losses)[0] > 0:
        text += f" {max(losses)[1]} forgot most: {points(max(losses)[0])} on average."
    return text


def _accuracy(results: Results) -> str:
    values = results.over_runs(metrics.mean_accuracy)
    return percent(average(values), metrics.half_width(values)) + " %"


def _paired(one: Results, other: Results) -> tuple[float, float]:
    """How much more accurate, and half its interval, over the runs that share seed and order; without any: no pairs."""
    values = [
        {(run.seed, run.order): metrics.mean_accuracy(log) for run, log in zip(r.runs, r.answers, strict=True)}
        for r in (one, other)
    ]
    lead = average(list(values[0].values())) - average(list(values[1].values()))
    differences = [values[0][pair] - values[1][pair] for pair in values[0] if pair in values[1]]
    return (average(differences), metrics.half_width(differences)) if len(differences) > 1 else (lead, math.nan)


def markdown(out: Path) -> str:
    """The table and what must be known to read it."""
    return _markdown(read(out))


def _markdown(told: Told) -> str:
    heads = ["Learner", *(", ".join(filter(None, (name, UNITS.get(name)))) for name, _, _ in DEFINITIONS[:-1])]
    lines = [f"# {_plain(told.facts['dataset'])}, encoded by {_plain(told.facts['encoder']['name'])}", ""]
    lines += [_plain(verdict(told)), "", f"| {' | '.join(heads)} |", f"|{' --- |' + ' ---: |' * (len(heads) - 1)}"]
    lines += [f"| {' | '.join([_plain(r.learner), *cells(row(r))])} |" for r in told.learners]
    lines += ["", f"* {_plain(asked(told))}"]
    lines += [f"* {_plain(text)}" for text in (*unfinished(told), *ceilings(told))]
    groups = grouped(told.facts["skips"])
    left = count(len(told.facts["skips"]), "clip was", "clips were")
    lines += [f"* {left} left out{':' if groups else '.'}"]
    lines += [f"  * {len(skips)}: {_plain(reason)}" for reason, skips in groups]
    lines += ["", *(f"* **{n}**: {text}{f' ({whose})' if whose else ''}." for n, text, whose in DEFINITIONS), ""]
    return "\n".join(lines)


#: What stands behind a column's name.
UNITS = {
    "Mean accuracy": "%",
    "Final accuracy": "%",
    "Forgetting": "points",
    "Final forgetting": "points",
    "Backward transfer": "points",
}


def cells(numbers: dict[str, Any]) -> list[str]:
    """A row's numbers for people, in the order of `DEFINITIONS`; a dash where there is nothing to measure."""
    return [
        percent(numbers["mean_accuracy"], numbers["ci95"]),
        percent(numbers["final_accuracy"], numbers["final_ci95"]),
        percent(numbers["average_forgetting"]),
        percent(numbers["final_forgetting"]),
        percent(numbers["backward_transfer"]),
        "–" if numbers["seconds"] is None else duration(numbers["seconds"]),
        "–" if numbers["memory_bytes"] is None else size(numbers["memory_bytes"]),
    ]


def asked(told: Told) -> str:
    """What was learnt from, what was asked, how often."""
    facts, sizes = told.facts, told.facts["sessions"]
    alike = f"{count(len(sizes), 'session')} of {count(sizes[0], 'class', 'classes')}"
    cut = alike if len(set(sizes)) == 1 else f"{len(sizes)} sessions of {', '.join(map(str, sizes))} classes"
    pairs = list(dict.fromkeys((entry["seed"], entry["order"]) for entry in facts["runs"]))
    runs = ", ".join(str(s) if s == o else f"{s} on order {o}" for s, o in pairs)
    return (
        f"Learnt from {count(facts['training_clips'], 'clip')} in {cut}; asked of "
        f'{count(len(facts["test_clips"]), "clip")} of split "{facts["asked"]}"; a memory of '
        f"{count(facts['memory'], 'exemplar')} in all; {'seed' if len(pairs) == 1 else 'seeds'} {runs}."
    )


def unfinished(told: Told) -> list[str]:
    """One sentence for each run that was stopped half way."""
    total = count(len(told.facts["sessions"]), "session")
    return [
        f"Unfinished, and left out of all numbers: {run.learner}, seed {run.seed}, order {run.order} "
        f"({done} of {total}). Run the bench again: it goes on there."
        for run, done in told.unfinished
    ]


def ceilings(told: Told) -> list[str]:
    """One sentence on learners that no method can be compared with."""
    names = [results.learner for results in told.learners if results.cumulative]
    if not names:
        return []
    return [
        f"A ceiling, not a method, because it is handed every former clip again in each session: {', '.join(names)}."
    ]


def grouped(skips: Sequence[dict[str, str]]) -> list[tuple[str, list[dict[str, str]]]]:
    """Skipped clips by reason, the most frequent first. Reasons that differ in the names they quote are one."""
    groups: dict[str, list[dict[str, str]]] = {}
    for skip in skips:
        words = re.sub(r'"[^"]*"', '"…"', skip["reason"]).split()
        groups.setdefault(" ".join(words[:5]), []).append(skip)
    named = []
    for start, group in groups.items():
        reasons = {skip["reason"] for skip in group}
        named.append((reasons.pop() if len(reasons) == 1 else f"{start} …", group))
    return sorted(named, key=lambda pair: -len(pair[1]))


def write_report(out: Path) -> list[Path]:
    """Write report.json, report.md and, if the extra "report" is installed, report.html; return what was written."""
    told = read(out)
    write_json(out / "report.json", _summary(told))
    _write(out / "report.md", _markdown(told))
    try:
        from harkback.page import render
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRA:
            raise
        return [out / "report.json", out / "report.md"]
    _write(out / "report.html", render(told))
    return [out / "report.json", out / "report.md", out / "report.html"]


def _write(path: Path, text: str) -> None:
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def percent(share: float | None, half: float | None = None) -> str:
    """0.5 -> "50.0"; with half an interval "50.0 ± 1.2"."""
    if share is None or math.isnan(share):
        return "–"
    text = f"{100 * share:.1f}".replace("-", "−")
    return text if half is None or math.isnan(half) else f"{text} ± {100 * half:.1f}"


def points(share: float) -> str:
    return f"{percent(share)} {'point' if percent(share) == '1.0' else 'points'}"


def duration(seconds: float) -> str:
    """0.34 -> "0.34 s", 83 -> "1 min 23 s", 8000 -> "2 h 13 min"."""
    if seconds < 9.95:
        return f"{seconds:.2g} s" if seconds >= 0.001 else f"{1e6 * seconds:.0f} µs"
    whole_seconds = round(seconds)
    if whole_seconds < 60:
        return f"{whole_seconds} s"
    minutes = round(seconds / 60)
    return (
        f"{whole_seconds // 60} min {whole_seconds % 60} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
    )


def size(number: float) -> str:
    """1_500_000 -> "1.5 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5:
            return f"{number:.0f} B" if unit == "B" else f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"


def count(number: int, one: str, many: str = "") -> str:
    """2, "clip" -> "2 clips"."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def _plain(text: str) -> str:
    """Text that Markdown shows as it stands, on one line."""
    return re.sub(r"([\\`*_\[\]<|$~&])", r"\\\1", re.sub(r"[\x00-\x1f\x7f\u2028\u2029]+", " ", text))
