"""A session, and a model, in words for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scipy.stats import binomtest

from harkback.formats import count
from harkback.teaching import Taught
from harkback.unknown import Examined

SHOWN = 40  #: classes that are listed one by one, at most


def session(name: str, taught: Taught) -> str:
    """What a session did to a model, and what it cost."""
    record = taught.record
    clips = sum(map(len, record["clips"].values()))
    known = len(taught.counts)
    lines = [f"{name}: {count(clips, 'clip')} of {count(len(record['clips']), 'class', 'classes')}, {known} known now"]
    lines += _cost(record)
    lines += _classes({each: taught.counts[each] for each in record["clips"]}, record["exam"])
    if not taught.written:
        lines.append("nothing was written: this was --dry-run")
    return "\n".join(lines)


def _cost(record: Mapping[str, Any]) -> list[str]:
    found = []
    cost = record.get("before")
    if cost and cost["asked"]:
        right, after, asked = cost["right"], cost["right_after"], cost["asked"]
        found.append(f"cost: of {asked} retained clips of old classes, {right} were told rightly before, {after} after")
    elif cost is not None:
        found.append("cost: unknown, as no clip of an old class is retained; a larger --memory would tell")
    strangers = record.get("strangers")
    if strangers:
        told, asked = strangers["told"], strangers["asked"]
        found.append(
            f"unknowns: before it learnt them, it called {told} of {asked} clips of the new classes unknown "
            f"(AUROC {strangers['auroc']:.2f})"
        )
    return found


def _classes(counts: Mapping[str, int], exam: Mapping[str, Sequence[int]]) -> list[str]:
    """How sure each class is: clips, and how many of those retained are told rightly, each as if not learnt."""
    width = max((len(name) for name in counts), default=0)
    lines = []
    for name, clips in list(counts.items())[:SHOWN]:
        if name in exam:
            right, asked = exam[name]
            low, high = binomtest(right, asked).proportion_ci(method="wilson")
            sure = f"{right} of {asked} told rightly ({100 * low:.0f} to {100 * high:.0f} %)"
        else:
            sure = "not examined: too few clips, or none retained"
        lines.append(f"  {name:<{width}}  {count(clips, 'clip')}, {sure}")
    if len(counts) > SHOWN:
        lines.append(f"  and {len(counts) - SHOWN} more")
    return lines


def portrait_of(facts: Mapping[str, Any], exam: Examined) -> str:
    """What a model knows, how sure that is, and how it came to know it. facts: its model.json; exam: its last one."""
    learner, encoder = facts["learner"], facts["encoder"]
    counts: dict[str, int] = dict.fromkeys(facts["classes"], 0)
    marks: dict[str, Sequence[int]] = {}
    for record in facts["sessions"]:
        marks = record.get("exam", marks)
        for name, keys in record.get("clips", {}).items():
            counts[name] += len(keys)
    lines = [
        f"{facts['name']}: {count(len(counts), 'class', 'classes')}, {count(sum(counts.values()), 'clip')}, "
        f"learner {learner['name']}, encoder {encoder['name']} revision {encoder['revision']} ({encoder['licence']})",
        *_classes(counts, marks),
    ]
    for number, record in enumerate(facts["sessions"], 1):
        lines.append(f"{number}. {record['time'][:16].replace('T', ' ')} UTC  {did(record)}")
        lines += [f"   {line}" for line in _cost(record)]
    lines += _exam(facts["false_alarm"], exam)
    lines.append(f"versions to step back to: up to {facts['history']}; written by harkback {facts['harkback']}")
    return "\n".join(lines)


def _exam(allowed: float, exam: Examined) -> list[str]:
    if not exam.asked:
        return ["exam: none, as no clip is retained; nothing is called unknown"]
    found = [
        f"exam: {100 * exam.accuracy:.1f} % of {count(exam.asked, 'clip')} told rightly, each as if it had not been "
        f"learnt; its confidence is off by {100 * exam.ece:.1f} points"
    ]
    if exam.false_alarm is None:
        return [*found, f"unknowns: too few clips to call {100 * allowed:g} % of known clips unknown and no more"]
    reached = f"{100 * exam.false_alarm:.1f} % of those clips are"
    return [*found, f"unknowns: {100 * allowed:g} % of known clips may be called unknown; {reached}"]


def did(record: Mapping[str, Any]) -> str:
    """What one change was. record: of the sessions of model.json."""
    if record["did"] == "forget":
        return "something was forgotten"
    clips = sum(map(len, record["clips"].values()))
    new = f", new: {', '.join(record['new'])}" if record["new"] else ""
    return f"taught {count(clips, 'clip')} of {count(len(record['clips']), 'class', 'classes')}{new}"
