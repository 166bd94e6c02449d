"""docs/licences.md: the table in it, made from what the packages say; what is not installed stays as it stands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from supply.locked import LOCKS, ROOT, installed, licence, read

PAGE = ROOT / "docs" / "licences.md"
HEAD = "| package | licence | in |\n| --- | --- | --- |\n"
#: Shipped by NVIDIA under its own terms; the page says so of all together.
APART = ("requirements-cuda.lock", "requirements-cpu.lock")


def table(page: Path = PAGE) -> dict[str, tuple[str, str]]:
    """What the page says: licence and locks of each package."""
    rows = re.findall(r"^\| ([a-z0-9][a-z0-9-]*) \| ([^|]+) \| ([^|]+) \|$", page.read_text(), re.MULTILINE)
    return {name: (told, where) for name, told, where in rows if name != "package"}


def locks() -> dict[str, list[str]]:
    """For each package the locks that have it, in short."""
    found: dict[str, list[str]] = {}
    for name, path in LOCKS.items():
        if name not in APART:
            for each in read(path):
                short = name.removeprefix("requirements").removesuffix(".lock").strip("-")
                found.setdefault(each.name, []).append(short or "main")
    return found


def write(places: Sequence[str]) -> list[str]:
    """places: folders of installed packages. Returns names of which no licence is known."""
    here, before = installed(places), table()
    rows = {}
    for name, where in sorted(locks().items()):
        told = licence(here[name]) if name in here else ""
        rows[name] = (told or before.get(name, ("", ""))[0] or "?", ", ".join(where))
    lines = "".join(f"| {name} | {told} | {where} |\n" for name, (told, where) in rows.items())
    start = PAGE.read_text().partition(HEAD)[0]
    PAGE.write_text(start + HEAD + lines)
    return [name for name, (told, _) in rows.items() if told == "?"]
