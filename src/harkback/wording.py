"""A bench's result in plain words: what was asked, what came out, which differences are real, how to repeat it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Any, Literal

from harkback import metrics
from harkback.compare import SURE, Compared, Comparison
from harkback.contestants import as_flags
from harkback.formats import chance, count, listed, percent, points, signed
from harkback.registry import ENCODERS
from harkback.results import Results, Told, average

FEW = 4  #: independent runs up to which a reader is told that they are few

#: What a learner's choice of its best epoch may look at.
VALIDATIONS = {
    "none": "none",
    "current": "best epoch on validation clips of the session's own classes",
    "all-seen": "best epoch on validation clips of all classes seen (AV-CIL's policy: it looks at old classes beyond "
    "the memory)",
}


def verdict(told: Told, compared: Compared) -> str:
    """The result in a paragraph."""
    ranked = told.incremental
    tops = [r for r in told.learners if r.runs and r.cumulative]
    if not ranked:
        known = "; ".join(f"{r.learner} reached {_accuracy(r)} mean accuracy" for r in tops)
        return f"No incremental learner has a finished run{'; ' + known if known else ''}."
    best = ranked[0]
    first = f"Of {len(ranked)} incremental learners {best.learner} knew most: it" if ranked[1:] else best.learner
    text = f"{first} reached {_accuracy(best)} mean accuracy over {count(len(best.runs), 'run')}."
    reference = compared.reference
    rival = ranked[1] if ranked[1:] and reference is best else best
    if reference is not None and rival is not reference:
        text += f" {_against(rival, compared)}"
    for top in tops:
        gap = average(top.over_runs(metrics.mean_accuracy)) - average(best.over_runs(metrics.mean_accuracy))
        text += (
            f" {top.learner}, which is handed every former clip again, reached {_accuracy(top)}: "
            f"{points(abs(gap))} {'more' if gap >= 0 else 'less'}."
        )
    losses = [(average([metrics.average_forgetting(m) for m in r.matrices()]), r.learner) for r in ranked]
    if ranked[1:] and len(told.facts["sessions"]) > 1 and max(losses)[0] > 0:
        text += f" {max(losses)[1]} forgot most: {points(max(losses)[0])} on average."
    return text


def _accuracy(results: Results) -> str:
    return f"{percent(average(results.over_runs(metrics.mean_accuracy)), results.half_width(metrics.mean_accuracy))} %"


def _against(results: Results, compared: Compared) -> str:
    """One sentence on mean accuracy, against the reference."""
    comparison = compared.by_learner[results.learner]
    name = compared.reference.learner if compared.reference else ""
    if comparison is None:
        return f"{results.learner} has no run in common with {name}, so the two cannot be compared."
    return _sentence(results.learner, comparison, "mean", compared.number)


def _sentence(learner: str, comparison: Comparison, what: Literal["final", "mean"], number: int) -> str:
    """number: of comparisons that were made."""
    of, reference = (comparison.final if what == "final" else comparison.mean), comparison.reference
    side = f"{points(abs(of.value))} {'above' if of.value > 0 else 'below'} {reference}"
    side = f"level with {reference}" if percent(of.value) == "0.0" else side
    p = chance(of.p_holm) + (" after Holm" if number > 1 else "")
    among = f", as one of {number} comparisons" if of.p < SURE else ""
    real = "is real for this one run" if comparison.runs == 1 else "is real"
    sure = real if of.real else f"may be chance{among}"
    interval = f"95 % interval {percent(of.low)} to {percent(of.high)}"
    return f"{learner} is {side} in {what} accuracy ({interval}, {p}): this {sure}."


def difference(numbers: dict[str, Any] | None) -> str:
    """The JSON's comparison in a cell: "−1.2 (−3.1 to 0.8)"; a star where it is real."""
    if numbers is None:
        return "–"
    low, high = numbers["ci"]
    star = " *" if numbers["real"] else ""
    return f"{signed(numbers['difference_final'])} ({percent(low)} to {percent(high)}){star}"


def differences(told: Told, compared: Compared) -> list[str]:
    """A line for each learner: its final and its mean accuracy against the reference, and whether that is real."""
    if compared.reference is None:
        return []
    lines = []
    for results in told.learners:
        comparison = compared.by_learner[results.learner]
        if comparison is None:
            continue
        name = f"{results.learner} (a ceiling)" if results.cumulative else results.learner
        lines.append(
            f"{_sentence(name, comparison, 'final', compared.number)} "
            f"{_sentence('It', comparison, 'mean', compared.number)}"
        )
    return lines


def provisos(told: Told, compared: Compared) -> list[str]:
    """What must be known to trust the differences."""
    if compared.reference is None or not any(r is not compared.reference and r.runs for r in told.learners):
        return []
    name, total = compared.reference.learner, len(compared.reference.runs)
    if not total:
        return [f"The reference, {name}, has no finished run, so nothing is compared with it."]
    how = {
        "bench": f"The reference, {name}, was named when the bench was started.",
        "report": f"The reference, {name}, was named for this report.",
        "nobody": f"The reference, {name}, was taken after the results were seen, because its mean accuracy is the "
        "highest. Such a choice flatters it: what lies below it seems more certain than it is. Better name one in "
        "advance, with bench --reference.",
    }
    lines = [how[compared.named_by]]
    some = {n: c for n, c in compared.by_learner.items() if c is not None}
    if any(comparison.runs == 1 for comparison in some.values()):
        lines.append(
            "With a single run, intervals and tests (McNemar's exact test on the final answers) speak of the choice of "
            "test clips alone: another seed or class order may say otherwise."
        )
    several = [comparison.units for comparison in some.values() if comparison.runs > 1]
    one_order = len(set(compared.reference.orders)) == 1
    if several and one_order:
        lines.append("All runs had one class order, so nothing here speaks of other orders.")
    if several and min(several) <= FEW:
        what = count(min(several), "run" if one_order else "class order")
        lines.append(
            f"Only {what} stand behind an interval, so only large differences can be told from chance. Of runs to be "
            "added, seeds with a class order of their own tell most."
        )
    lines += [f"{n} shares {c.runs} of {count(total, 'run')} with {name}." for n, c in some.items() if c.runs < total]
    apart = [r.learner for r in told.learners if r.runs and r is not compared.reference and r.learner not in some]
    if apart:
        lines.append(
            f"Not compared, for want of a run with the seed, class order and clips of one of {name}: {listed(apart)}."
        )
    return lines


def asked(told: Told) -> str:
    """What was learnt from, what was asked, how often, by whose rules."""
    facts, sizes = told.facts, told.facts["sessions"]
    alike = f"{count(len(sizes), 'session')} of {count(sizes[0], 'class', 'classes')}"
    cut = alike if len(set(sizes)) == 1 else f"{len(sizes)} sessions of {', '.join(map(str, sizes))} classes"
    return (
        f"Learnt from {count(facts['training_clips'], 'clip')} in {cut}; asked of "
        f'{count(len(facts["test_clips"]), "clip")} of split "{facts["asked"]}"; a memory of '
        f"{count(facts['memory'], 'exemplar')} in all; {_runs(told)}.{_rules(facts)}"
    )


def plus_minus(told: Told) -> list[str]:
    """One sentence on what is behind ±; none where every learner has a single run."""
    done = max((results for results in told.learners), key=lambda results: len(results.runs), default=None)
    if done is None or len(done.runs) < 2:
        return []
    runs, orders = len(done.runs), len(set(done.orders))
    over = f"{runs} runs, each with a class order of its own" if orders == runs else f"{orders} class orders"
    over = f"{runs} runs on one class order" if orders == 1 else over
    return [f"±: half the 95 % interval of the mean over {over} (Student's t)."]


def _runs(told: Told) -> str:
    pairs = list(dict.fromkeys((entry["seed"], entry["order"]) for entry in told.facts["runs"]))
    seeds, orders = (list(dict.fromkeys(part)) for part in zip(*pairs, strict=True)) if pairs else ([], [])
    if all(seed == order for seed, order in pairs):
        runs = ", ".join(map(str, seeds))
    elif len(pairs) == len(seeds) * len(orders):
        named = [_order(order, "") for order in orders]
        runs = f"{', '.join(map(str, seeds))} on class {'order' if len(orders) == 1 else 'orders'} {', '.join(named)}"
    else:
        runs = ", ".join(f"{seed} on {_order(order, 'order ')}" for seed, order in pairs)
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {runs}"


def _order(order: int | str, before: str) -> str:
    return f"{order} (the protocol's own)" if isinstance(order, str) else f"{before}{order}"


def _rules(facts: dict[str, Any]) -> str:
    """By which published protocol, and what was looked at to choose the best epoch."""
    text = ""
    if protocol := facts.get("protocol"):
        changed = protocol.get("changed") or []
        text += f" Protocol {protocol['name']}, {'but ' + '; '.join(changed) if changed else 'unchanged'}."
    if validation := facts.get("validation"):
        text += f" Validation: {VALIDATIONS.get(validation, validation)}."
    return text


def unfinished(told: Told) -> list[str]:
    """One sentence for each run that was stopped half way, or failed."""
    total = count(len(told.facts["sessions"]), "session")
    return [
        f"{'Failed' if failed else 'Unfinished'}, and left out of all numbers: {run.learner}, seed {run.seed}, order "
        f"{run.order} ({done} of {total}){f': {failed}' if failed else ''}. Run the bench again: it goes on there."
        for run, done, failed in told.unfinished
    ]


def ceilings(told: Told) -> list[str]:
    """One sentence on learners that no method can be compared with."""
    names = [results.learner for results in told.learners if results.cumulative]
    if not names:
        return []
    return [
        f"A ceiling, not a method, because it is handed every former clip again in each session: {', '.join(names)}."
    ]


def notes(told: Told) -> list[str]:
    """What must be known to read the tables."""
    return [*plus_minus(told), *unfinished(told), *ceilings(told)]


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


def command(told: Told, compared: Compared) -> str:
    """What to type to measure the same again, given the clips. Contestants go by the names they have in the tables.

    The model and the settings of an encoder are not in it.
    """
    facts: dict[str, Any] = told.facts
    sizes = facts["sessions"]
    pairs = [(entry["seed"], entry["order"]) for entry in facts["runs"]]
    words = ["harkback", "bench", "CLIPS", "--learners", ",".join(r.learner for r in told.learners)]
    words += ["--sessions", ",".join(map(str, sizes)) if len(sizes) > 1 else "1", "--memory", str(facts["memory"])]
    words += ["--seeds", _numbers([seed for seed, _ in pairs])]
    if facts.get("protocol") or any(seed != order for seed, order in pairs):  # A protocol's own order would be used.
        words += ["--orders", _numbers([order for _, order in pairs])]
    words += ["--split", facts["asked"]]
    if facts.get("validation"):
        words += ["--validation", facts["validation"]]
    if compared.reference is not None and compared.named_by != "nobody":
        words += ["--reference", compared.reference.learner]
    if facts["encoder"]["name"] in ENCODERS.names():  # A dataset may come as features that no encoder here can make.
        words += ["--encoder", facts["encoder"]["name"]]
    words += as_flags(facts.get("settings", {}))
    return shlex.join(words)


def _numbers(numbers: Sequence[int | str]) -> str:
    """As the command line reads it: 3 for 0, 1, 2; else all of them, one alone twice, so that it is no count."""
    once = list(dict.fromkeys(numbers))
    if once == list(range(len(once))):
        return str(len(once))
    return ",".join(map(str, once * 2 if len(once) == 1 and isinstance(once[0], int) else once))
