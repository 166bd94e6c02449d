"""The plain step that ours is measured against does what ours does: nothing is timed here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # The benchmarks are no part of the package.

from benchmarks import avcil


def test_both_lower_the_same_losses_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the same weights, on the same clips: six steps, so gradients and the optimiser are the same too."""
    monkeypatch.setattr(avcil, "DIM", 24)
    monkeypatch.setattr(avcil, "FRAMES", 2)
    assert avcil.measure(patches=3, new=24, held=16)["losses_apart"] < 1e-5
