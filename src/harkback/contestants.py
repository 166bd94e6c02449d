"""Names on the command line -> what takes part in a bench: learners, their variants, one modality, suites."""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harkback.errors import HarkbackError
from harkback.files import fingerprint
from harkback.learners.base import Learner
from harkback.modality import MODALITIES, Modality
from harkback.registry import LEARNERS

#: The table of AV-CIL's paper (arXiv 2308.11073), all on its own network.
AVCIL = ("finetune-avcil", "lwf", "icarl", "icarl-fc", "ssil", "afc-nme", "afc", "avcil", "joint-avcil")


@dataclass(frozen=True, slots=True)
class Contestant:
    """A learner as it takes part: under a name of its own, with its settings, hearing or seeing or both."""

    name: str  #: l3, icarl-fc, ridge@audio
    method: str  #: the learner's name in the registry
    settings: Any
    modality: Modality

    @property
    def kind(self) -> type[Learner[Any]]:
        kind: type[Learner[Any]] = LEARNERS.load(self.method)
        return kind

    @property
    def training(self) -> str:
        """Equal for contestants that learn alike and only answer otherwise: one training serves them all."""
        learnt = self.settings
        if hasattr(learnt, "answer"):
            learnt = replace(learnt, answer=self.kind.Settings().answer)
        return fingerprint(self.method, repr(learnt), self.modality)


def entered(
    names: Sequence[str], modalities: Sequence[Modality] = ("both",), settings: Mapping[str, Any] | None = None
) -> tuple[Contestant, ...]:
    """The contestants of these names, each in each modality.

    names: of learners, or of a learner's variant, ``icarl-fc``; ``@audio`` or ``@visual`` behind a name is that
    modality alone. settings: of learners, by name, where not the defaults; variants are made from them.
    """
    found: dict[str, Contestant] = {}
    for name in names:
        plain, at, own = name.partition("@")
        if at and own not in MODALITIES:
            raise HarkbackError(
                f'there is no modality "{own}"', where=name, mend=f"choose from {', '.join(MODALITIES)}"
            )
        method, overrides = _resolved(plain)
        chosen = (settings or {}).get(method) or LEARNERS.load(method).Settings()
        for modality in MODALITIES:
            if modality in ([own] if at else modalities):
                title = plain if modality == "both" else f"{plain}@{modality}"
                found[title] = Contestant(title, method, changed(chosen, overrides), modality)
    return tuple(found.values())


def suite(name: str) -> tuple[str, ...]:
    """The names of a suite: "all", "avcil", or a learner's "NAME-ablation"."""
    known = LEARNERS.names()
    if name == "all":
        return tuple(each for learner in known for each in (learner, *_other_answers(learner)))
    if name == "avcil":
        return AVCIL
    learner = name.removesuffix("-ablation")
    if learner != name and learner in known:
        ablations: Mapping[str, Any] = getattr(LEARNERS.load(learner), "ABLATIONS", {})
        if ablations:
            return (f"{learner}@visual", f"{learner}@audio", *(f"{learner}-{part}" for part in ablations), learner)
    raise HarkbackError(f'there is no suite "{name}"', where="--suite", mend="choose from all, avcil, l3-ablation")


def changed(settings: Any, overrides: Mapping[str, Any]) -> Any:
    """Settings with some fields changed, by dotted name: ``{"network.guide": "none"}``."""
    for path, value in overrides.items():
        first, _, rest = path.partition(".")
        if not is_dataclass(settings) or first not in {field.name for field in fields(settings)}:
            raise ValueError(f"{type(settings).__name__} has no field {path}")
        settings = replace(settings, **{first: changed(getattr(settings, first), {rest: value}) if rest else value})  # type: ignore[type-var]
    return settings


def code_of(kind: type[Any]) -> str:
    """A digest of the code that decides a learner's results: its module, and all of ours that it is built on.

    A run made by other code is another run: results of two versions are never mixed.
    """
    own = Path(inspect.getfile(kind)).read_bytes()
    seen, todo = {"": own}, list(_imported(own))
    while todo:
        name = todo.pop()
        spec = None if name in seen else find_spec(name)
        if spec is not None and spec.origin is not None:
            seen[name] = Path(spec.origin).read_bytes()
            todo += _imported(seen[name])
    return hashlib.sha256(b"".join(seen[name] for name in sorted(seen))).hexdigest()[:16]


def _imported(source: bytes) -> Iterable[str]:
    """The rooms of harkback that a module imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("harkback."):
            yield node.module


def _resolved(name: str) -> tuple[str, Mapping[str, Any]]:
    """(learner, what the variant changes of its settings)"""
    known = LEARNERS.names()
    if name in known:
        return name, {}
    for learner in sorted(known, key=len, reverse=True):
        if name.startswith(f"{learner}-"):
            found = _named(learner).get(name.removeprefix(f"{learner}-"))
            if found is not None:
                return learner, found
    variants = [f"{learner}-{variant}" for learner in known if name.startswith(learner) for variant in _named(learner)]
    raise HarkbackError(f'there is no learner "{name}"', mend=f"choose from {', '.join([*known, *variants])}")


def _named(learner: str) -> dict[str, Mapping[str, Any]]:
    kind = LEARNERS.load(learner)
    return {**getattr(kind, "VARIANTS", {}), **getattr(kind, "ABLATIONS", {})}


def _other_answers(learner: str) -> list[str]:
    variants = getattr(LEARNERS.load(learner), "VARIANTS", {})
    return [f"{learner}-{name}" for name, change in variants.items() if change.keys() == {"answer"}]
