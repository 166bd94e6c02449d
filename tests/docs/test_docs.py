"""Docs are tests: every code block of the README and the docs runs, and every line of code that they quote exists.

Blocks of ``bash`` run line by line and blocks of ``python`` as scripts, page by page in one folder that has small real
clips in ``my_clips/``, a tiny model in ``sam-audio-small/`` and the project's ``examples/``. A block under a line of
nothing but a file name and a colon is that file; ``pip`` installs, without a network, for the rest of the page alone. A
block under a comment ``<!-- not run here: why -->`` is left out, with the reason in sight.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from harkback.datasets.demo import Demo
from tiny_models import sam_audio_folder

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
BLOCK = re.compile(
    r"(^<!-- not run here: [^\n]+ -->\n)?(?:^`([^`\n]+)`:\n\n)?^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE
)


class Block(NamedTuple):
    file: str  #: its name, where the block is the text of a file; "" where it is to run
    kind: str  #: language
    text: str


def blocks(page: Path) -> list[Block]:
    """Those that are to run or to be written."""
    return [Block(*rest) for skip, *rest in BLOCK.findall(page.read_text()) if not skip]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("docs") / "my_clips"
    assert Demo(root, classes=4, train=4, test=2).splits
    (root / "demo.json").unlink()
    return root


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_code_blocks_run(page: Path, clips: Path, tmp_path: Path) -> None:
    folder = tmp_path / "page"
    shutil.copytree(clips, folder / "my_clips")
    sam_audio_folder(folder / "sam-audio-small")
    (folder / "examples").symlink_to(ROOT / "examples")
    env = with_a_pip_of_its_own(tmp_path)
    for file, kind, text in blocks(page):
        if file:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(text)
            continue
        if kind == "python":
            (folder / "block.py").write_text(text)
            argv = [sys.executable, "block.py"]
        elif kind == "bash":
            argv = ["bash", "-euo", "pipefail", "-c", text]
        else:
            continue
        done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{text}\n{done.stderr[-2000:]}"


def with_a_pip_of_its_own(root: Path) -> dict[str, str]:
    """An environment whose ``pip install`` leaves ours as it is: what it installs is found in that one alone."""
    (root / "bin").mkdir()
    pip = root / "bin" / "pip"
    how = f'--quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation --target "{root / "site"}"'
    pip.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pip "$@" {how}\n')
    pip.chmod(0o755)
    scripts = [str(root / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
    modules = [str(root / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PATH": os.pathsep.join(scripts), "PYTHONPATH": os.pathsep.join(modules)}


def test_the_first_two_commands_are_targets_of_make() -> None:
    first = re.search(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert first is not None
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    commands = [line.split("#")[0].split() for line in first[1].splitlines()]
    assert commands == [["make", "demo"], ["make", "test"]] and {"demo", "test"} <= set(targets)


@pytest.mark.parametrize(("page", "least"), [("method.md", 12), ("hark.md", 8)])
def test_lines_quoted_in_a_method_stand_in_the_code(page: str, least: int) -> None:
    quoted = re.findall(r"`(\w+\.py)`: `([^`]+)`", (ROOT / "docs" / page).read_text())
    assert len(quoted) >= least
    source = ROOT / "src" / "harkback"
    for name, line in quoted:
        found = [path for path in (source / name, source / "learners" / name) if path.exists()]
        assert any(line in path.read_text() for path in found), f"{name} has no line {line}"


def test_flags_named_in_the_method_exist(capsys: pytest.CaptureFixture[str]) -> None:
    from harkback.cli import main

    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    told = capsys.readouterr().out
    flags = set(re.findall(r"`(--l3[\w.-]*\w)`", (ROOT / "docs" / "method.md").read_text()))
    assert len(flags) >= 10
    assert [flag for flag in sorted(flags) if flag not in told] == []


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
