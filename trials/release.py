"""A release tried as a stranger gets it: equal bytes from two builds, what is in them, an environment with core alone.

``python -m trials.release`` builds the commit that is checked out, in clones of it; with ``--install`` it installs the
wheel without any extra (some minutes, a package index), imports every module there and runs ``harkback demo``.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]

#: Run where only the core is installed. A module that needs an extra may say so on import, as the package it lacks.
EVERY_MODULE = """
import importlib, pkgutil, harkback
lacking, found = {}, 0
for module in pkgutil.walk_packages(harkback.__path__, "harkback.", onerror=lambda name: None):
    if module.name == "harkback.__main__":
        continue
    try:
        importlib.import_module(module.name)
        found += 1
    except ModuleNotFoundError as error:
        assert not error.name.startswith("harkback"), error
        lacking.setdefault(error.name.partition(".")[0], []).append(module.name)
print(found, "modules are imported")
for package, modules in sorted(lacking.items()):
    print(f"lacks {package}:", *modules)
"""


def run(*argv: str | Path, cwd: Path, **told: str) -> str:
    done = subprocess.run(
        [str(word) for word in argv], cwd=cwd, env=os.environ | told, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{argv}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def build(source: Path, *targets: str) -> dict[str, bytes]:
    """Wheel and source of a folder, by name."""
    when = run("git", "log", "-1", "--format=%ct", cwd=ROOT).strip()
    out = source / "dist"
    run(sys.executable, "-m", "hatchling", "build", *targets, "-d", out, cwd=source, SOURCE_DATE_EPOCH=when)
    return {path.name: path.read_bytes() for path in out.iterdir()}


def clone(folder: Path) -> Path:
    run("git", "clone", "--quiet", ROOT, folder, cwd=ROOT)
    return folder


def same_bytes(root: Path) -> dict[str, bytes]:
    first = build(clone(root / "a"))
    time.sleep(2.5)  # A zip's times have steps of two seconds.
    second = clone(root / "another" / "place")
    for path in second.rglob("*.py"):  # What a copy may change of files.
        path.touch()
        path.chmod(0o600)
    again = build(second)
    assert first == again, "two builds of one commit differ"
    (name,) = (name for name in first if name.endswith(".tar.gz"))
    with tarfile.open(root / "a" / "dist" / name) as source:
        source.extractall(root / "unpacked", filter="data")
    (unpacked,) = (root / "unpacked").iterdir()
    wheel = build(unpacked, "-t", "wheel")
    assert all(first[each] == content for each, content in wheel.items()), "the source makes another wheel"
    for each, content in first.items():
        print(each, len(content), "bytes, sha256", hashlib.sha256(content).hexdigest())
    return first


def contents(root: Path) -> None:
    tracked = run("git", "ls-tree", "-r", "--name-only", "HEAD", cwd=ROOT).splitlines()
    (wheel,) = (root / "a" / "dist").glob("*.whl")
    (source,) = (root / "a" / "dist").glob("*.tar.gz")
    packed = zipfile.ZipFile(wheel).namelist()
    ours = {name.removeprefix("src/") for name in tracked if name.startswith("src/")}
    assert {name for name in packed if ".dist-info/" not in name} == ours
    assert any(name.endswith("licenses/LICENSE") for name in packed)
    with tarfile.open(source) as tar:
        members = {name.partition("/")[2] for name in tar.getnames()}
    assert members - {"PKG-INFO"} == set(tracked), members ^ set(tracked)
    print(len(packed), "files in the wheel,", len(members), "in the source: all that is tracked, and nothing else")


def installed(root: Path) -> None:
    place = root / "empty"
    run(sys.executable, "-m", "venv", place, cwd=root)
    python = place / "bin" / "python"
    (wheel,) = (root / "a" / "dist").glob("*.whl")
    core = re.findall(r"^(\S+==\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    (root / "core.txt").write_text("\n".join(core) + "\n")
    run(python, "-m", "pip", "install", "--quiet", "-c", root / "core.txt", wheel, cwd=root, PYTHONPATH="")
    print(len(run(python, "-m", "pip", "freeze", cwd=root).splitlines()), "packages in the environment")
    print(run(python, "-c", EVERY_MODULE, cwd=root, PYTHONPATH=""), end="")
    began = time.monotonic()
    run(place / "bin" / "harkback", "demo", cwd=root, PYTHONPATH="")
    assert (root / "harkback-runs" / "demo" / "bench.json").exists()
    print(f"harkback demo: {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        same_bytes(Path(folder))
        contents(Path(folder))
        if "--install" in sys.argv:
            installed(Path(folder))
