"""What is installed here, and what can run."""

from __future__ import annotations

import os
import platform
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

import av
import torch
from packaging.requirements import Requirement

from harkback import __version__
from harkback.encoders._device import available
from harkback.encoders._hub import cached, hub_facts
from harkback.errors import HarkbackError
from harkback.registry import DATASETS, ENCODERS, LEARNERS


def examine() -> dict[str, Any]:
    """Facts as JSON can hold them. Nobody is asked over a network."""
    core, extras = _packages()
    return {
        "harkback": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "devices": _devices(),
        "ffmpeg": ", ".join(f"{name} {'.'.join(map(str, number))}" for name, number in av.library_versions.items()),
        "packages": core,
        "extras": extras,
        "hub": hub_facts(),
        "encoders": {name: _encoder(name) for name in ENCODERS.names()},
        "learners": LEARNERS.names(),
        "datasets": DATASETS.names(),
    }


def told(facts: dict[str, Any]) -> str:
    """The same for a person."""
    lines = [f"{name:<10} {facts[name]}" for name in ("harkback", "python", "system", "ffmpeg")]
    lines.append(f"{'devices':<10} {', '.join(facts['devices'])}")
    lines.append(f"{'packages':<10} " + ", ".join(f"{name} {number}" for name, number in facts["packages"].items()))
    for section, title in (("encoders", "encoder"), ("extras", "extra"), ("hub", "hub")):
        lines += [f"{title:<10} {name}: {state}" for name, state in facts[section].items()]
    return "\n".join([*lines, *(f"{title:<10} {', '.join(facts[title])}" for title in ("learners", "datasets"))])


def _devices() -> list[str]:
    found = [f"cpu ({torch.get_num_threads()} threads{_room('cpu')})"]
    found += [f"{torch.cuda.get_device_name(i)}{_room(f'cuda:{i}')}" for i in range(torch.cuda.device_count())]
    return [*found, "mps"] if torch.backends.mps.is_available() else found


def _room(device: str) -> str:
    free = None
    with suppress(RuntimeError):  # A GPU may be there and yet be taken, or broken.
        free = available(torch.device(device))
    return "" if free is None else f", {free / 1e9:.1f} GB of memory free"


def _packages() -> tuple[dict[str, str], dict[str, str]]:
    """Versions of the core's packages, and what each extra is short of."""
    core: dict[str, str] = {}
    lacking: dict[str, list[str]] = {}
    for text in requires("harkback") or []:
        need = Requirement(text)
        extra = str(need.marker).partition("extra == ")[2].strip("\"'") if need.marker else ""
        number = _version(need.name) or "missing"
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


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _encoder(name: str) -> str:
    """Whether it can run here; if not, why, and what to type."""
    try:
        kind = ENCODERS.load(name)
        missing = [package for package in getattr(kind, "REQUIRES", ()) if _version(package) is None]
        if missing:
            extra = getattr(kind, "EXTRA", None)
            what = f'"harkback[{extra}]"' if extra else " ".join(missing)
            return f"cannot run here: lacks {', '.join(missing)}; pip install {what}"
        if hasattr(kind, "from_pretrained"):
            return _with_model(kind)
        spec = kind().spec
    except (HarkbackError, ImportError) as error:
        return f"cannot run here: {error}"
    return f"ready, revision {spec.revision}, licence {spec.licence}, {spec.shape}"


def _with_model(kind: Any) -> str:
    """What to give an encoder whose weights are somewhere else, and which of them are here already."""
    models, gated = getattr(kind, "MODELS", ()), " (gated)" if getattr(kind, "GATED", False) else ""
    files = getattr(sys.modules[kind.__module__], "FILES", ("config.json",))
    here = [model for model in models if _is_here(model, files)]
    give = f"--model {models[0]}{gated} or a folder" if models else "--model FOLDER"
    others = f"; there are also {', '.join(models[1:])}" if models[1:] else ""
    return f"ready; give it {give}{others}; downloaded: {', '.join(here) or 'none'}"


def _is_here(model: str, files: Any) -> bool:
    with suppress(HarkbackError):  # Damaged: whoever uses it is told so.
        return cached(model, files) is not None
    return False
