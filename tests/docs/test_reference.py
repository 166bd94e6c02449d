"""Whatever is public says what it is."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from supply.reference import PUBLIC


def silent(name: str, value: Any) -> Iterator[str]:
    """Names below a public one, itself among them, that say nothing."""
    if not inspect.getdoc(value):
        yield name
    if not inspect.isclass(value):
        return
    for each, member in vars(value).items():
        if each.startswith("_") or not (inspect.isroutine(member) or isinstance(member, property | staticmethod)):
            continue
        # What a class overrides may leave its words to the class above, where a person looks them up.
        if not inspect.getdoc(getattr(value, each)):
            yield f"{name}.{each}"


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_says_what_it_is(module: str) -> None:
    held = importlib.import_module(module)
    names = getattr(held, "__all__", None) or [name for name in vars(held) if not name.startswith("_")]
    found = [*silent(module, held)]
    for name in names:
        value = getattr(held, name)
        ours = module == "harkback" or getattr(value, "__module__", None) == module
        if ours and (inspect.isclass(value) or inspect.isroutine(value)):
            found += silent(f"{module}.{name}", value)
    assert found == []


def test_a_silent_name_is_noticed() -> None:
    class Loud:
        """It says something."""

        def said(self) -> None:
            """So does this."""

        def unsaid(self) -> None: ...

    assert list(silent("Loud", Loud)) == ["Loud.unsaid"]
