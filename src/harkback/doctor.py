"""What is installed here, and what can run."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

import av
import torch
from packaging.requirements import Requirement

from harkback import __version__
from harkback.errors import HarkbackError
from harkback.registry import DATASETS, ENCODERS, LEARNERS


def examine() -> dict[str, Any]:
    """Facts as JSON can hold them."""
    core, extras = _packages()
    return {
        "harkback": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "devices": _devices(),
        "ffmpeg": ", ".join(f"{name} {'.'.join(map(str, number))}" for name, number in av.library_versions.items()),
        "packages": core,
        "extras": extras,
        "encoders": {name: _encoder(name) for name in ENCODERS.names()},
        "learners": LEARNERS.names(),
        "datasets": DATASETS.names(),
    }


def told(facts: dict[str, Any]) -> str:
    """The same for a person."""
    lines = [f"{name:<10} {facts[name]}" for name in ("harkback", "python", "system", "ffmpeg")]
    lines.append(f"{'devices':<10} {', '.join(facts['devices'])}")
    lines.append(f"{'packages':<10} " + ", ".join(f"{name} {number}" for name, number in facts["packages"].items()))
    for title in ("encoders", "extras"):
        lines += [f"{title[:-1]:<10} {name}: {state}" for name, state in facts[title].items()]
    return "\n".join([*lines, *(f"{title:<10} {', '.join(facts[title])}" for title in ("learners", "datasets"))])


def _devices() -> list[str]:
    found = [f"cpu ({torch.get_num_threads()} threads)"]
    found += [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return [*found, "mps"] if torch.backends.mps.is_available() else found


def _packages() -> tuple[dict[str, str], dict[str, str]]:
    """Versions of the core's packages, and what each extra is short of."""
    core: dict[str, str] = {}
    lacking: dict[str, list[str]] = {}
    for text in requires("harkback") or []:
        need = Requirement(text)
        extra = str(need.marker).partition("extra == ")[2].strip("\"'") if need.marker else ""
        try:
            number = version(need.name)
        except PackageNotFoundError:
            number = "missing"
        if extra:
            lacking.setdefault(extra, [])
            if number == "missing":
                lacking[extra].append(need.name)
        else:
            core[need.name] = number
    extras = {
        extra: f'lacks {", ".join(names)}; pip install "harkback[{extra}]"' if names else "installed"
        for extra, names in lacking.items()
    }
    return core, extras


def _encoder(name: str) -> str:
    try:
        spec = ENCODERS.load(name)().spec
    except (HarkbackError, ImportError) as error:
        return f"cannot run here: {error}"
    return f"ready, revision {spec.revision}, licence {spec.licence}, {spec.shape}"
