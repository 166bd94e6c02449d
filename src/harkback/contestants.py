"""Names on the command line -> what takes part in a bench: learners, their variants, one modality, suites."""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
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
        method, variant, ablation = _resolved(plain)
        default = LEARNERS.load(method).Settings()
        chosen = (settings or {}).get(method) or default
        # What the user sets goes before what a variant does; what an ablation takes away stays away.
        chosen = changed(changed(changed(default, variant), _differences(chosen, default)), ablation)
        for modality in MODALITIES:
            if modality in ([own] if at else modalities):
                title = plain if modality == "both" else f"{plain}@{modality}"
                found[title] = Contestant(title, method, chosen, modality)
    return tuple(found.values())


def as_flags(settings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What to type so that contestants of these names have these settings, as ``bench.json`` has them (`asdict`).

    Of a learner that is not installed, and of a setting that there is no longer, nothing is said.
    """
    found: dict[str, list[str]] = {}
    for name, its in settings.items():
        try:
            (usual,) = entered([name])
        except HarkbackError:
            continue
        told, plain = _dotted(its), _dotted(asdict(usual.settings))
        for path, value in told.items():
            if path in plain and value != plain[path]:
                above, _, last = f"{usual.method}.{path}".replace("_", "-").rpartition(".")
                flag = f"--{above}.{'no-' if value is False else ''}{last}"
                found[f"{above}.{last}"] = [flag] if isinstance(value, bool) else [flag, str(value)]
    return [word for words in found.values() for word in words]


def _dotted(facts: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in facts.items():
        inner = _dotted(value) if isinstance(value, Mapping) else {"": value}
        found |= {f"{name}.{path}".rstrip("."): each for path, each in inner.items()}
    return found


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
    suites = ["all", "avcil", *(f"{each}-ablation" for each in known if getattr(LEARNERS.load(each), "ABLATIONS", {}))]
    raise HarkbackError(f'there is no suite "{name}"', where="--suite", mend=f"choose from {', '.join(suites)}")


def changed(settings: Any, overrides: Mapping[str, Any]) -> Any:
    """Settings with some fields changed, by dotted name: ``{"network.guide": "none"}``."""
    for path, value in overrides.items():
        first, _, rest = path.partition(".")
        if not is_dataclass(settings) or first not in {field.name for field in fields(settings)}:
            raise ValueError(f"{type(settings).__name__} has no field {path}")
        settings = replace(settings, **{first: changed(getattr(settings, first), {rest: value}) if rest else value})  # type: ignore[type-var]
    return settings


def _differences(settings: Any, default: Any) -> dict[str, Any]:
    """Where settings are not the default, by dotted name."""
    found: dict[str, Any] = {}
    for field in fields(settings):
        mine, its = getattr(settings, field.name), getattr(default, field.name)
        if is_dataclass(mine):
            found |= {f"{field.name}.{path}": value for path, value in _differences(mine, its).items()}
        elif mine != its:
            found[field.name] = mine
    return found


def code_of(kind: type[Any]) -> str:
    """A digest of the code that decides a learner's results: its module, and what that imports of ours and of its own.

    A run made by other code is another run: results of two versions are never mixed.
    """
    packages = {"harkback", kind.__module__.partition(".")[0]}
    own = Path(inspect.getfile(kind)).read_bytes()
    seen, todo = {"": own}, list(_imported(own, kind.__module__))
    while todo:
        name = todo.pop()
        path = _source_of(name) if name not in seen and name.partition(".")[0] in packages else None
        if path is not None:
            seen[name] = path.read_bytes()
            todo += _imported(seen[name], name)
    return hashlib.sha256(b"".join(seen[name] for name in sorted(seen))).hexdigest()[:16]


def _imported(source: bytes, module: str) -> Iterator[str]:
    """What a module imports: modules, and names that may be modules."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _source_of(name: str) -> Path | None:
    """The file of a module; None if there is none of that name, or it is no Python."""
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec is not None and spec.origin and spec.origin.endswith(".py") else None


def _resolved(name: str) -> tuple[str, Mapping[str, Any], Mapping[str, Any]]:
    """(learner, what the variant sets, what the ablation takes away)"""
    known = LEARNERS.names()
    if name in known:
        return name, {}, {}
    for learner in sorted(known, key=len, reverse=True):
        if name.startswith(f"{learner}-"):
            part, kind = name.removeprefix(f"{learner}-"), LEARNERS.load(learner)
            if part in (variants := getattr(kind, "VARIANTS", {})):
                return learner, variants[part], {}
            if part in (ablations := getattr(kind, "ABLATIONS", {})):
                return learner, {}, ablations[part]
    near = [f"{learner}-{part}" for learner in known if name.startswith(learner) for part in _parts(learner)]
    raise HarkbackError(f'there is no learner "{name}"', mend=f"choose from {', '.join([*known, *near])}")


def _parts(learner: str) -> list[str]:
    kind = LEARNERS.load(learner)
    return [*getattr(kind, "VARIANTS", {}), *getattr(kind, "ABLATIONS", {})]


def _other_answers(learner: str) -> list[str]:
    variants = getattr(LEARNERS.load(learner), "VARIANTS", {})
    return [f"{learner}-{name}" for name, change in variants.items() if change.keys() == {"answer"}]
