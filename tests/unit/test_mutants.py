"""The trial of the tests: it makes the mistakes it says it makes, and says rightly which of them a test notices."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # The trials are no part of the package.

from trials.mutants import attempt, table
from trials.mutations import mutants

ROOT = Path(__file__).parents[2]


def made(source: str) -> set[str]:
    return {mutant.after for mutant in mutants(source)}


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("a < b", {"pass", "a <= b", "a >= b"}),
        ("a = b + 1", {"a = None", "pass", "a = b - 1", "a = b", "a = 1", "a = b + 2", "a = b + 0"}),
        ("a = b and not c", {"a = None", "pass", "a = b or not c", "a = not c", "a = b", "a = b and c"}),
        (
            "a(b, key=c)",
            {"pass", "b", "a(key=c)", "a(None, key=c)", "a(b)", "a(b, key=None)"},
        ),
        ("x[a:b]", {"pass", "x[a + 1:b]", "x[a - 1:b]", "x[a:b + 1]", "x[a:b - 1]", "x[:b]", "x[a:]"}),
        ("a.min()", {"pass", "a", "a.max()"}),
        ("if a:\n    raise b", {"if True:", "if False:", "pass"}),
        ("import a\n'What it is for.'\nA = Literal['x']", set()),
        ("def f(a: int=1) -> int: ...", {"def f(a: int=2) -> int:", "def f(a: int=0) -> int:"}),
    ],
)
def test_every_mistake_is_made_once(source: str, wrong: set[str]) -> None:
    assert made(source) == wrong
    assert len(mutants(source)) == len({mutant.source for mutant in mutants(source)})


def test_what_is_noticed_and_what_is_not(tmp_path: Path) -> None:
    """In a fork, so that the module that is right stays as it is here."""
    test = tmp_path / "test_names.py"
    test.write_text("from harkback.names import *\ndef test_that_it_is_wrong():\n    assert wrong\n")
    noticed, survived, unimportable, late = (
        attempt("harkback.names", source, [test], {"a": 0.0}, limit, tmp_path).fate
        for source, limit in (("wrong = False", 60), ("wrong = True", 60), ("wrong", 60), ("while True: pass", 3))
    )
    assert (noticed, survived, unimportable, late) == ("noticed", "survived", "unimportable", "late")


def test_the_table_counts_them() -> None:
    fates = ["noticed"] * 5 + ["unimportable"] * 2 + ["late", "crashed", "survived"]
    last = table({"names": [{"fate": fate} for fate in fates]}).splitlines()[-1]
    assert last == "| names | 10 | 5 | 2 | 1 | 1 | 1 | 90.0 % |"
