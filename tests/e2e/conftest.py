"""Small real clips, made once: the demo's own drawing and voices."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from clusters import DIGITS, store_of
from fakes import tone
from harkback.datasets import open_dataset
from harkback.datasets.demo import Demo
from harkback.encoders import Opening
from harkback.extract import extract


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
    root = tmp_path_factory.mktemp("store") / "features"
    splits = open_dataset(str(drawn)).splits
    extract([clip for split in splits.values() for clip in split], Opening("signal").open(), root, workers=0)
    return root


# ---- for the tests of clusters ----


@pytest.fixture(scope="session", params=["tones", "spoken-digits"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of clips, more than a few shards of them."""
    if request.param == "spoken-digits":
        if not DIGITS.exists():
            pytest.skip("THE SPOKEN DIGITS ARE NOT HERE: what is promised of them is tried on tones alone")
        return DIGITS
    root = tmp_path_factory.mktemp("tones")
    for i in range(300):
        tone(root / f"class {i % 3}" / f"{i:03d}.wav", 200 + 10 * i, seconds=1.0)
    (root / "class 1" / "no sound.wav").write_bytes(b"this is no sound")
    (root / "class 2" / "twice.wav").write_bytes((root / "class 0" / "000.wav").read_bytes())
    return root


@pytest.fixture(scope="session")
def alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The store that one process makes of the clips."""
    root = tmp_path_factory.mktemp("alone") / "store"
    dataset = open_dataset(str(folder))
    extract([clip for part in dataset.splits.values() for clip in part], Opening("signal").open(), root)
    found = store_of(root)
    assert len(found) > 8  # Several shards, each with its list.
    return found


@pytest.fixture(scope="session")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("classes")
    for i in range(36):
        tone(root / f"class {i % 3}" / f"{i:03d}.wav", 300 * (1 + i % 3) + 3 * i, seconds=0.3)
    return root
