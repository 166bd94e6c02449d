"""What would run the bytes that it reads, or a shell, does not pass `make lint`: each such line is tried."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUFF = shutil.which("ruff", path=str(Path(sys.executable).parent)) or shutil.which("ruff") or "ruff"

#: The lines that may stay, with what they are excused from.
EXCUSED = {
    ("src/harkback/encoders/_checkpoint.py", "import pickle"): {"TID251"},
    (
        "src/harkback/encoders/_checkpoint.py",
        'held = torch.load(path, map_location="cpu", mmap=True, weights_only=True)',
    ): {"TID251"},
}

FORBIDDEN = """
eval("1")
exec("1")
import pickle
import marshal
import shelve
import dill
import cloudpickle
import joblib
from pickle import loads
import pickle as p
import numpy as np; np.load("a", allow_pickle=True)
from numpy import load
import torch; torch.load("a")
from torch import load
import torch; torch.save([], "a")
import yaml; yaml.load("a", Loader=yaml.Loader)
import os; os.system("a")
from os import popen
import subprocess; subprocess.run("a", shell=True)
import subprocess; subprocess.getoutput("a")
import xml.dom.minidom; xml.dom.minidom.parseString("a")
""".strip().splitlines()
ALLOWED = """
import ast; ast.literal_eval("1")
import json; json.loads("1")
import torch; torch.zeros(3)
import subprocess; subprocess.run(["ls"])
import yaml; yaml.safe_load("a")
""".strip().splitlines()
SHIELDS = r"S\d+|TID251"


def found(line: str) -> set[str]:
    """The rules that a line of a module of ours breaks, those of its look aside."""
    text = f'"""A module."""\n\n{line}\n'
    argv = [
        RUFF,
        "check",
        "--no-cache",
        "--output-format",
        "concise",
        "--stdin-filename",
        "src/harkback/example.py",
        "-",
    ]
    said = subprocess.run(argv, input=text, cwd=ROOT, capture_output=True, text=True, check=False)
    assert said.returncode in (0, 1), said.stderr
    return set(re.findall(rf":\d+: ({SHIELDS}) ", said.stdout))


@pytest.mark.parametrize("line", FORBIDDEN)
def test_what_runs_what_it_reads_breaks_a_rule(line: str) -> None:
    assert found(line)


@pytest.mark.parametrize("line", ALLOWED)
def test_what_only_reads_breaks_none(line: str) -> None:
    assert not found(line)


def test_no_line_is_excused_but_those_named_here() -> None:
    excused = {}
    for path in sorted((ROOT / "src").rglob("*.py")):
        for line in path.read_text().splitlines():
            rules = set(re.findall(SHIELDS, line.partition("# noqa")[2]))
            assert not re.search(r"#\s*(ruff|flake8):\s*noqa", line), f"{path} excuses itself"
            assert not re.search(r"# noqa(?!:)", line), f"{path} excuses a line from all rules"
            if rules - {"SIM115", "SIM118"}:
                excused[path.relative_to(ROOT).as_posix(), line.partition("#")[0].strip()] = rules
    assert excused == EXCUSED


def test_the_reader_of_pickles_brings_no_pickle() -> None:
    for path in (ROOT / "src/harkback/datasets").glob("_pickle*.py"):
        assert not re.search(r"^\s*(import|from) (pickle|marshal|importlib)\b", path.read_text(), re.MULTILINE)
