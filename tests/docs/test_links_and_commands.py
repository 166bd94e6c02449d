"""Blocks that are not run are read at least: every command line by our own parser; and links lead to headings."""

from __future__ import annotations

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest

from harkback.cli import main
from harkback.commands import COMMANDS

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NOT_RUN = re.compile(r"^<!-- not run here: [^\n]+ -->\n```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PYTHONS = (".venv/bin/python", "python", "torchrun")


def lines(page: Path, blocks: re.Pattern[str] = FENCED) -> list[list[str]]:
    """Each command of its shell blocks, as words; a pipe or a redirection ends one."""
    found = []
    for kind, text in blocks.findall(page.read_text()):
        if kind == "bash":
            for line in text.replace("\\\n", " ").splitlines():
                if words := shlex.split(re.split(r" [|>] ?| && ", line)[0], comments=True):
                    found.append(words)
    return found


COMMAND_LINES = sorted({shlex.join(words) for page in PAGES for words in lines(page)})
UNTRIED = sorted({shlex.join(words) for page in PAGES for words in lines(page, NOT_RUN)})


def test_there_are_command_lines() -> None:
    assert sum("harkback" in line for line in COMMAND_LINES) > 40 and sum("harkback" in line for line in UNTRIED) > 15


@pytest.mark.parametrize("line", [each for each in UNTRIED if re.search(r"(^|-m )harkback ", each)])
def test_our_commands_are_understood(
    line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = line.split("harkback ", 1)[1]
    ran: list[str] = []
    for name, kind in COMMANDS.items():
        monkeypatch.setattr(kind, "run", lambda self, *settings, name=name: ran.append(name))
    monkeypatch.chdir(tmp_path)
    if not re.search(r"--(help|version)", words):
        main(shlex.split(words))
        assert ran == [words.split()[0]]


@pytest.mark.parametrize("line", ["bench clips --no-such-flag 1", "predict", "teach rover clips --memory many"])
def test_a_line_that_is_wrong_is_noticed(line: str, monkeypatch: pytest.MonkeyPatch, capsys: object) -> None:
    for kind in COMMANDS.values():
        monkeypatch.setattr(kind, "run", lambda self, *settings: None)
    with pytest.raises(SystemExit):
        main(line.split())


def test_modules_scripts_and_targets_exist() -> None:
    targets = set(re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in map(shlex.split, COMMAND_LINES):
        if words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= targets, words
        if words[0] in PYTHONS and "-m" in words:
            module = words[words.index("-m") + 1]
            ours = ROOT / module.replace(".", "/")
            assert ours.exists() or ours.with_suffix(".py").exists() or find_spec(module), words
        for word in words:
            if word.startswith(("examples/", "tests/")):
                assert (ROOT / word).exists(), words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_of_python_are_python(page: Path) -> None:
    for kind, text in FENCED.findall(page.read_text()):
        if kind == "python":
            compile(text, page.name, "exec")


def anchors(page: Path) -> set[str]:
    """As the forge makes them of headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        slug = re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")
        count = 0
        while slug + (f"-{count}" if count else "") in found:
            count += 1
        found.add(slug + (f"-{count}" if count else ""))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = FENCED.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        led = page.parent / file if file else page
        assert led.exists(), f"{page.name} links to {target}"
        if anchor and led.suffix == ".md":
            assert anchor in anchors(led), f"{page.name} links to {target}"
