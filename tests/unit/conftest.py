"""Storages to break things with, empty at each test's beginning."""

from __future__ import annotations

from collections.abc import Iterator

import fsspec
import pytest

from stored import Broken, Ranged


@pytest.fixture
def broken() -> Iterator[type[Broken]]:
    fsspec.register_implementation("broken", Broken, clobber=True)
    Broken.error, Broken.listed = None, 0
    Broken.asked.clear()
    Broken.known.clear()
    Broken.store.clear()
    yield Broken
    Broken.store.clear()


@pytest.fixture
def ranged() -> Iterator[type[Ranged]]:
    fsspec.register_implementation("ranged", Ranged, clobber=True)
    Ranged.asked.clear()
    Ranged.files.clear()
    yield Ranged
    Ranged.files.clear()
