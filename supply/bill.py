"""A bill of materials in CycloneDX's JSON (1.6): what is installed from requirements.lock, and what needs it."""

from __future__ import annotations

from importlib.metadata import Distribution
from typing import Any

from supply.locked import LOCKS, Locked, installed, licence, needs, reached, read

OURS = "harkback"


def bill() -> dict[str, Any]:
    """Of the environment that this Python belongs to, which must have been made from the lock.

    A package's scope is "required" for what ``pip install harkback`` brings, "optional" for what an extra does, and
    "excluded" for tools of development.
    """
    here = installed()
    ours = here[OURS]
    core = reached(OURS, here)
    extras = reached(OURS, here, [name for name in ours.metadata.get_all("Provides-Extra") or [] if name != "ray"])
    locked = {each.name: each for each in read(LOCKS["requirements.lock"])}
    known = {OURS, *locked} & here.keys()
    scopes = {name: "required" if name in core else "optional" if name in extras else "excluded" for name in locked}
    about: dict[str, Any] = {"bom-ref": OURS, "type": "application", "name": OURS, "version": ours.version}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": about | {"purl": f"pkg:pypi/{OURS}@{ours.version}"} | _licences(ours)},
        "components": [_component(each, scopes[name], here.get(name)) for name, each in sorted(locked.items())],
        "dependencies": [
            {"ref": name, "dependsOn": sorted({each for each, _ in needs(here[name])} & known)}
            for name in sorted(known)
        ],
    }


def _component(locked: Locked, scope: str, package: Distribution | None) -> dict[str, Any]:
    """A file's hash is an external reference's, as there are several files of each."""
    return {
        "bom-ref": locked.name,
        "type": "library",
        "name": locked.name,
        "version": locked.version,
        "scope": scope,
        "purl": f"pkg:pypi/{locked.name}@{locked.version}",
        "externalReferences": [
            {
                "type": "distribution",
                "url": f"pkg:pypi/{locked.name}@{locked.version}",
                "hashes": [{"alg": "SHA-256", "content": each} for each in locked.hashes],
            }
        ],
        **({} if package is None else _licences(package)),
    }


def _licences(package: Distribution) -> dict[str, Any]:
    told = licence(package)
    if package.metadata.get("License-Expression"):
        return {"licenses": [{"expression": told}]}
    return {"licenses": [{"license": {"name": told}}]} if told else {}
