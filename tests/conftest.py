"""What all tests share: one thread, reproducible hypotheses, slow tests only on request (``--slow``, ``-m slow``)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

# `fakes` is shared between the folders, and with worker processes, which are told of this path.
sys.path.insert(0, str(Path(__file__).parent))

torch.set_num_threads(1)

# Derandomised: a test that fails here fails everywhere. HYPOTHESIS_PROFILE=search looks for new examples.
settings.register_profile(
    "same", derandomize=True, deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the slow tests too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    leave_out = [] if config.getoption("--slow") or config.option.markexpr else ["slow"]
    if not torch.cuda.is_available():
        leave_out.append("gpu")
    if not os.environ.get("HARKBACK_NETWORK_TESTS"):
        leave_out.append("network")
    for item in items:
        for name in leave_out:
            if item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=f"{name} tests were not asked for, or cannot run here"))
