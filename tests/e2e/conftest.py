"""Small real clips, made once: the demo's own drawing and voices."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harkback.datasets.demo import Demo


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes of four clips to learn and two to ask."""
    root = tmp_path_factory.mktemp("drawn") / "clips"
    assert Demo(root, classes=4, train=4, test=2).splits["train"]
    return root


@pytest.fixture
def clips(drawn: Path, tmp_path: Path) -> Path:
    """A copy of them that a test may spoil."""
    root = tmp_path / "my clips"
    shutil.copytree(drawn, root)
    (root / "demo.json").unlink()
    return root


@pytest.fixture(scope="session")
def store(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The features of all drawn clips. What is copied from them has the same content, and so is found here too."""
    from harkback.datasets.folder import Folder
    from harkback.encoders.signal import Signal
    from harkback.extract import extract

    root = tmp_path_factory.mktemp("store") / "features"
    splits = Folder(drawn).splits
    extract([clip for split in splits.values() for clip in split], Signal(), root, workers=0)
    return root
