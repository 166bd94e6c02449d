"""Names to classes, from the package itself and from other people's."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any

import pytest

from harkback import registry
from harkback.encoders.signal import Signal
from harkback.errors import HarkbackError
from harkback.learners.l3 import L3
from harkback.learners.ridge import Ridge
from harkback.registry import DATASETS, ENCODERS, LEARNERS, Registry


def test_every_module_is_an_entry() -> None:
    assert {"l3", "finetune", "joint", "ncm", "ridge"} <= set(LEARNERS.names())
    assert "signal" in ENCODERS.names()
    assert {"folder", "demo"} <= set(DATASETS.names())
    for names in (LEARNERS.names(), ENCODERS.names(), DATASETS.names()):
        assert names == sorted(set(names))
        assert not any(name.startswith("_") or name == "base" or "_" in name for name in names)


@pytest.mark.parametrize("which", [LEARNERS, ENCODERS, DATASETS])
def test_every_name_loads_a_class_with_its_role(which: Registry) -> None:
    for name in which.names():
        found = which.load(name)
        assert isinstance(found, type)
        assert all(hasattr(found, attribute) for attribute in which.role)


def test_a_name_is_its_class() -> None:
    assert LEARNERS.load("l3") is L3
    assert LEARNERS.load("ridge") is Ridge
    assert ENCODERS.load("signal") is Signal


@pytest.mark.parametrize("name", ["nonsense", "", "L3", "base", "_drawing", "../l3", "l3.L3"])
def test_an_unknown_name_is_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(HarkbackError) as caught:
        LEARNERS.load(name)
    assert f'there is no learner "{name}"' in str(caught.value)
    for known in LEARNERS.names():
        assert known in str(caught.value)


def test_listing_imports_nothing() -> None:
    before = set(sys.modules)
    for which in (LEARNERS, ENCODERS, DATASETS):
        which.names()
    assert set(sys.modules) == before


class Outsider:
    Settings = object

    def learn(self) -> None: ...
    def scores(self) -> None: ...


NOT_A_CLASS = 5


class NotALearner:
    pass


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another package that brings a learner, and some that go wrong."""
    module = ModuleType("an_outside_package")
    module.Outsider, module.NOT_A_CLASS, module.NotALearner = Outsider, NOT_A_CLASS, NotALearner  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "an_outside_package", module)
    values = {
        "outsider": "an_outside_package:Outsider",
        "number": "an_outside_package:NOT_A_CLASS",
        "other": "an_outside_package:NotALearner",
        "gone": "a_package_that_is_not_there:Thing",
        "absent": "an_outside_package:Absent",
        "l3": "an_outside_package:Outsider",
    }

    def entries(*, group: str) -> list[EntryPoint]:
        if group != "harkback.learners":
            return []
        return [EntryPoint(name, value, group) for name, value in values.items()]

    monkeypatch.setattr(registry, "entry_points", entries)


def test_an_entry_point_is_an_entry(outside: None) -> None:
    assert "outsider" in LEARNERS.names()
    assert "outsider" not in ENCODERS.names()
    assert LEARNERS.load("outsider") is Outsider
    with pytest.raises(HarkbackError, match="outsider"):
        LEARNERS.load("nonsense")


def test_nobody_replaces_one_of_ours(outside: None) -> None:
    assert LEARNERS.load("l3") is L3
    assert LEARNERS.names().count("l3") == 1


@pytest.mark.parametrize("name", ["number", "other"])
def test_an_entry_point_that_is_something_else(outside: None, name: str) -> None:
    with pytest.raises(HarkbackError, match=r"an_outside_package.*is not a class with Settings, learn, scores"):
        LEARNERS.load(name)


@pytest.mark.parametrize("name", ["gone", "absent"])
def test_an_entry_point_that_does_not_load(outside: None, name: str) -> None:
    with pytest.raises(HarkbackError, match=r"the installed learner does not load.*uninstall the package") as caught:
        LEARNERS.load(name)
    assert caught.value.where is not None


def test_a_module_with_two_entries_is_a_mistake_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    from harkback.learners import ridge

    second: Any = type("Second", (Ridge,), {"__module__": ridge.__name__})
    monkeypatch.setattr(ridge, "Second", second, raising=False)
    with pytest.raises(TypeError, match="must define one class"):
        LEARNERS.load("ridge")
