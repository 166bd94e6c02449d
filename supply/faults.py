"""Known faults of locked packages by PyPI's page of each project, which knows those of its newest version alone.

`make audit` asks by version, and is better; not every mirror of PyPI has what it asks for.
"""

from __future__ import annotations

import json
from urllib.request import urlopen

from supply.locked import LOCKS, read

PATIENCE = 60.0  #: seconds that an answer may take


def faults() -> tuple[dict[str, list[str]], list[str], list[str]]:
    """Faults by package; packages that are locked at their newest version and have none; those at another version."""
    found: dict[str, list[str]] = {}
    sound, others = [], []
    locked = {(each.name, each.version) for path in LOCKS.values() for each in read(path)}
    for name, version in sorted(locked):
        with urlopen(f"https://pypi.org/pypi/{name}/json", timeout=PATIENCE) as answer:
            told = json.load(answer)
        about = f"{name} {version}"
        if told["info"]["version"] != version:
            others.append(about)
        elif told["vulnerabilities"]:
            found[about] = [fault["id"] for fault in told["vulnerabilities"]]
        else:
            sound.append(about)
    return found, sound, others
