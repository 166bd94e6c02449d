"""The locks, and what the packages in them say of themselves where they are installed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKS = {path.name: path for path in sorted(ROOT.glob("requirements*.lock"))}
CLASSIFIER = "License :: OSI Approved :: "


class Locked(NamedTuple):
    """A package as a lock has it."""

    requirement: Requirement
    hashes: tuple[str, ...]  #: SHA-256 of each file that may be installed

    @property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> str:
        (pin,) = self.requirement.specifier
        return pin.version


def read(lock: Path) -> list[Locked]:
    text = re.sub(r"\s*#.*", "", lock.read_text()).replace("\\\n", " ")
    lines = [line.split() for line in text.splitlines() if line.strip()]
    found = []
    for words in lines:
        hashes = tuple(word.removeprefix("--hash=sha256:") for word in words if word.startswith("--hash="))
        found.append(Locked(Requirement(" ".join(word for word in words if not word.startswith("--hash="))), hashes))
    return found


def installed(places: Iterable[str] | None = None) -> dict[str, Distribution]:
    """By canonical name. places: folders of packages; None: those of this Python."""
    found = distributions() if places is None else distributions(path=list(places))
    return {canonicalize_name(each.metadata["Name"]): each for each in found}


def licence(package: Distribution) -> str:
    """In SPDX's words where the package uses them; "" if it says nothing."""
    facts = package.metadata
    if facts.get("License-Expression"):
        return facts["License-Expression"]
    told = facts.get("License") or ""  # Some write all of its text here.
    if told and "\n" not in told and len(told) < 80 and told != "UNKNOWN":
        return told
    classes = [each for each in facts.get_all("Classifier") or [] if each.startswith("License ::")]
    return " AND ".join(each.rpartition(" :: ")[2] for each in classes)


def needs(package: Distribution, extras: Iterable[str] = ()) -> Iterator[tuple[str, frozenset[str]]]:
    """Names that it requires on this system, each with the extras that it asks of it."""
    for wanted in _requirements(package):
        if wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield canonicalize_name(wanted.name), frozenset(wanted.extras)


@cache
def _requirements(package: Distribution) -> list[Requirement]:
    return [Requirement(line) for line in package.requires or []]


def reached(start: str, here: dict[str, Distribution], extras: Iterable[str] = ()) -> set[str]:
    """All that a package brings, itself among it."""
    seen: set[tuple[str, frozenset[str]]] = set()
    todo = [(start, frozenset(extras))]
    while todo:
        name, asked = todo.pop()
        if (name, asked) in seen or name not in here:
            continue
        seen.add((name, asked))
        todo += needs(here[name], asked)
    return {name for name, _ in seen}
