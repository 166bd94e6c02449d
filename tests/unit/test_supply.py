"""What is installed is what was locked, and everybody who wrote it is named."""

from __future__ import annotations

import io
import json
import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import harkback

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from supply import faults  # noqa: E402
from supply.bill import bill  # noqa: E402
from supply.licences import locks, table  # noqa: E402
from supply.locked import LOCKS, Locked, installed, read  # noqa: E402

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAIN = {each.name: each for each in read(LOCKS["requirements.lock"])}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_a_version_and_hashes(lock: str) -> None:
    found = read(LOCKS[lock])
    assert found and len({each.name for each in found}) == len(found)
    for each in found:
        assert [pin.operator for pin in each.requirement.specifier] == ["=="], each.name
        assert each.hashes and all(re.fullmatch("[0-9a-f]{64}", one) for one in each.hashes), each.name
    assert len(re.findall(r"^\S+==", LOCKS[lock].read_text(), re.MULTILINE)) == len(found)  # None was read over.


def test_a_lock_never_contradicts_another() -> None:
    for lock, path in LOCKS.items():
        for each in read(path):
            if each.name in MAIN:
                assert each.version.partition("+")[0] == MAIN[each.name].version, f"{lock}: {each.name}"


def test_what_we_ask_for_is_locked() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    groups = PROJECT["dependency-groups"]
    asked = {
        "requirements.lock": [
            *PROJECT["project"]["dependencies"],
            *groups["dev"],
            *(line for name, lines in extras.items() if name not in ("ray", "parquet") for line in lines),
        ],
        "requirements-app-test.lock": groups["app-test"],
        "requirements-ray-test.lock": [*groups["ray-test"], *extras["ray"], *extras["parquet"]],
        "requirements-tools.lock": groups["tools"],
    }
    for lock, lines in asked.items():
        held = {each.name: each.version for each in read(LOCKS[lock])}
        for line in lines:
            wanted = Requirement(line)
            assert wanted.specifier.contains(held[canonicalize_name(wanted.name)]), f"{lock}: {line}"


def test_make_installs_nothing_without_a_hash_but_ourselves() -> None:
    text = (ROOT / "Makefile").read_text()
    assert "--require-hashes --no-deps --only-binary :all:" in text
    install = re.findall(r"^\t.*\$\((?:PIP)\)(.*)$", text.partition("OLDEST :=")[0], re.MULTILINE)
    assert install == [" --no-deps --no-build-isolation --editable ."]


def test_every_locked_package_has_its_licence_on_the_page() -> None:
    rows = table()
    assert {name: where for name, (_, where) in rows.items()} == {n: ", ".join(w) for n, w in locks().items()}
    assert [name for name, (told, _) in rows.items() if told.strip() in ("", "?")] == []


def test_who_asks_for_more_than_to_be_named_is_named_above_the_table() -> None:
    prose = (ROOT / "docs" / "licences.md").read_text().partition("| package |")[0]
    for name, (told, _) in table().items():
        if re.search(r"GPL|MPL|Mozilla|EPL|CDDL|EUPL|SSPL|proprietary", told, re.IGNORECASE):
            assert f"**{name}**" in prose or "GCC-exception" in told, f"{name} is {told}"


def test_the_bill_names_what_is_locked_and_what_needs_it() -> None:
    written = bill()
    parts = {each["name"]: each for each in written["components"]}
    assert written["bomFormat"] == "CycloneDX" and written["specVersion"] == "1.6"
    assert {name: each["version"] for name, each in parts.items()} == {n: each.version for n, each in MAIN.items()}
    assert written["metadata"]["component"]["version"] == harkback.__version__
    assert {parts[name]["scope"] for name in ("torch", "numpy", "sympy")} == {"required"}
    assert {parts[name]["scope"] for name in ("fastapi", "starlette", "h5py", "transformers")} == {"optional"}
    assert {parts[name]["scope"] for name in ("pytest", "ruff", "hypothesis")} == {"excluded"}
    needs = {each["ref"]: each["dependsOn"] for each in written["dependencies"]}
    assert {"torch", "av", "scipy"} <= set(needs["harkback"]) and "pytest" not in needs["harkback"]
    assert "starlette" in needs["fastapi"]
    assert needs.keys() <= {"harkback", *parts} and {each for own in needs.values() for each in own} <= needs.keys()
    assert all(each["licenses"] for name, each in parts.items() if name in installed())


def test_the_version_stands_in_one_place() -> None:
    assert "version" in PROJECT["project"]["dynamic"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "src/harkback/__init__.py"
    found = [path for path in (ROOT / "src").rglob("*.py") if f'"{harkback.__version__}"' in path.read_text()]
    assert found == [ROOT / "src/harkback/__init__.py"]


def test_the_changelog_begins_with_this_version() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    heads = [line for line in lines if line.startswith("#")]
    assert heads[0] == "# Changelog" and heads[1].split()[1] == harkback.__version__
    assert all(re.fullmatch(r"## \d+\.\d+\.\d+ \((not released|\d{4}-\d\d-\d\d)\)", head) for head in heads[1:])


def test_faults_are_those_of_the_version_that_is_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = {
        "sound": ("1.0", []),
        "broken": ("2.0", [{"id": "CVE-1"}, {"id": "CVE-2"}]),
        "older": ("3.1", [{"id": "CVE-3"}]),  # It speaks of a version that is not locked.
    }
    locked = [Locked(Requirement(line), ()) for line in ("sound==1.0", "broken==2.0", "older==3.0", "sound==1.0")]

    def page(address: str, timeout: float) -> io.BytesIO:
        version, known = pages[address.removeprefix("https://pypi.org/pypi/").removesuffix("/json")]
        return io.BytesIO(json.dumps({"info": {"version": version}, "vulnerabilities": known}).encode())

    monkeypatch.setattr(faults, "urlopen", page)
    monkeypatch.setattr(faults, "read", lambda _: locked)
    assert faults.faults() == ({"broken 2.0": ["CVE-1", "CVE-2"]}, ["sound 1.0"], ["older 3.0"])
