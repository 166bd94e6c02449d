"""The results as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.comparison import TARGETS, figures
from harkback.formats import DASH, duration

#: What each part measures, in the order of the report.
TITLES = {
    "rates": "What the machine does at best",
    "step": "One training step",
    "avcil": "AV-CIL's step, ours and the plain one",
    "store": "The store",
    "closed-forms": "Learners in closed form",
    "hark": "`hark`, clip by clip",
    "protocol": "A protocol of the size of AVE-CI",
    "scaling": "What a session's time grows with: CPU seconds",
    "gpu": "On a GPU",
    "commands": "Commands, in processes of their own",
    "models": "Holding a model",
    "app": "The app, over HTTP",
}
PICTURE = "scaling.svg"


def report(results: Mapping[str, Any], picture: bool = False) -> str:
    """All that was measured. picture: that of scaling lies beside the report."""
    parts = [name for name in TITLES if name in results]
    blocks = ["# Speed, memory and scaling", machine_line(results["machine"])]
    if reached := targets(results):
        blocks += ["## Targets", reached]
    for name in parts:
        about = results["parts"][name]
        taken = f"`python -m benchmarks {name}`: {about['date']}, it took {duration(about['seconds'])}."
        blocks += [f"## {TITLES[name]}", taken]
        blocks += tables(results[name])
        if name == "scaling" and picture:
            blocks.append(f"![CPU seconds of a session against clips, patches, classes known, sessions]({PICTURE})")
    return "\n\n".join(blocks) + "\n"


def machine_line(machine: Mapping[str, Any]) -> str:
    first = f"{machine['processor']}, {machine['cores']} cores, {machine['instructions']}, {machine['memory_gb']} GB"
    gpu = f"; {machine['gpu']}" if "gpu" in machine else "; no GPU"
    return f"{first}{gpu}; {machine['system']}, Python {machine['python']}, torch {machine['torch']}."


def targets(results: Mapping[str, Any]) -> str:
    """A row for each target whose part was measured; "" if there is none."""
    found, rows = dict(figures(results)), []
    for target in TARGETS:
        if target.path[0] not in results:
            continue
        measured = found.get(target.path)
        told = "not measured" if measured is None else "yes" if target.reached(measured) else "**no**"
        rows.append([target.what, f"{target.bound} {number(target.value)} {target.unit}", number(measured), told])
    return _table(["what", "target", "measured", "reached"], rows) if rows else ""


def tables(found: Mapping[str, Any], depth: int = 3) -> list[str]:
    """Nested figures as tables, with headings where they are too deep for one."""
    alone = [[words(name), number(value)] for name, value in found.items() if not isinstance(value, Mapping)]
    flat = {name: value for name, value in found.items() if isinstance(value, Mapping) and not _deep(value)}
    blocks = [_table(["figure", "value"], alone)] if alone else []
    if flat:
        blocks.append(_crossed(flat))
    for name, value in found.items():
        if isinstance(value, Mapping) and _deep(value):
            blocks += [f"{'#' * depth} {words(name)}", *tables(value, depth + 1)]
    return blocks


def number(value: Any) -> str:
    """Three digits; those before the point all, up to ten million."""
    if value is None:
        return DASH
    if not isinstance(value, int | float):
        return str(value)
    whole = abs(value) >= 1000 or float(value).is_integer()
    return f"{value:,.0f}" if whole and abs(value) < 1e7 else f"{value:.3g}"


def words(name: str) -> str:
    return name.replace("_", " ")


def _deep(found: Mapping[str, Any]) -> bool:
    return any(isinstance(value, Mapping) for value in found.values())


def _crossed(found: Mapping[str, Mapping[str, Any]]) -> str:
    """A table of things and their figures; the longer list goes down the page."""
    names = list(dict.fromkeys(name for of in found.values() for name in of))
    if len(names) < len(found):
        rows = [[words(thing), *(number(of.get(name)) for name in names)] for thing, of in found.items()]
        return _table(["", *map(words, names)], rows)
    rows = [[words(name), *(number(of.get(name)) for of in found.values())] for name in names]
    return _table(["", *map(words, found)], rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
