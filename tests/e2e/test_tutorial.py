"""The tutorial's learner, installed by pip as a reader would: it is known by name, and is as sound as ours.

`tests/docs` runs the page block by block; here is what the page says and does not run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FILE = re.compile(r"^`([^`\n]+)`:\n\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)

PIP = ["install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation"]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the page has its reader write."""
    folder = tmp_path_factory.mktemp("tutorial")
    for name, text in FILE.findall((ROOT / "docs" / "tutorial-learner.md").read_text()):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder / "neighbours"


@pytest.fixture(scope="module")
def env(package: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which it is installed. Ours is left as it is."""
    site = tmp_path_factory.mktemp("site")
    subprocess.run([sys.executable, "-m", "pip", *PIP, "--target", site, package], check=True, timeout=120)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])}


def python(env: dict[str, str], *argv: str | Path, at: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *argv], env=env, cwd=at, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_harkbacks_own_tests_find_it_and_hold(env: dict[str, str]) -> None:
    """As the page says: in the project's folder, by its name."""
    quiet = ["-o", "addopts=--strict-markers --import-mode=importlib", "-p", "no:cacheprovider"]
    done = python(env, "-m", "pytest", *quiet, "tests/contract/test_learners.py", "-k", "neighbours")
    assert done.returncode == 0, done.stdout[-2000:]
    found = re.search(r"(\d+) passed", done.stdout)
    assert found and int(found[1]) > 30, done.stdout[-2000:]


def test_a_setting_that_cannot_be_is_one_line(env: dict[str, str], clips: Path, store: Path, tmp_path: Path) -> None:
    wrong = ["--learners", "neighbours", "--neighbours.k", "0", "--sessions", "2", "--workers", "0"]
    places = ["--store", store, "--out", tmp_path / "out"]
    done = python(env, "-c", "from harkback.cli import main; main()", "bench", clips, *wrong, *places)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(
        "harkback: neighbours needs at least one neighbour; --neighbours.k 5 is the default"
    )


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("", ""),
        ("self.count = torch.zeros(())", "self.count = 0"),
        (", self.generator)", ", torch.default_generator)"),
    ],
    ids=["as it stands", "a plain number", "randomness from elsewhere"],
)
def test_the_pages_test_finds_what_the_page_warns_of(
    package: Path, right: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (package / "harkback_neighbours.py").read_text()
    assert code.count(right) == 1 or not right
    module = ModuleType("harkback_neighbours")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(code.replace(right, wrong) if right else code, vars(module))  # noqa: S102 (the page's own)
    tests: dict[str, Any] = {}
    exec((package / "test_neighbours.py").read_text(), tests)  # noqa: S102 (the page's own)
    with pytest.raises(AssertionError) if right else nullcontext():
        tests["test_going_on_from_a_state_equals_never_having_stopped"]()
