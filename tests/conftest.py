"""What all tests share: one thread, reproducible hypotheses, slow tests only on request (``--slow``, ``-m slow``)."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

# `fakes` is shared between the folders, and with worker processes, which are told of this path.
sys.path.insert(0, str(Path(__file__).parent))

torch.set_num_threads(1)

BROWSERS = ("chromium", "chromium-browser", "google-chrome")  #: the app's tests drive the first of them that is there

# Derandomised: a test that fails here fails everywhere. HYPOTHESIS_PROFILE=search looks for new examples.
settings.register_profile(
    "same", derandomize=True, deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the slow tests too")


def lacking() -> list[str]:
    """What the app's tests need and is not here."""
    tools = [name for name in ("playwright", "schemathesis") if find_spec(name) is None]
    return tools if any(map(shutil.which, BROWSERS)) else [*tools, "chromium"]


@pytest.fixture(scope="session")
def chromium() -> str:
    """Where the browser lies that the app's tests drive."""
    return next(path for path in map(shutil.which, BROWSERS) if path)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    not_asked = "{} tests were not asked for, or cannot run here"
    leave_out = {} if config.getoption("--slow") or config.option.markexpr else {"slow": not_asked}
    if find_spec("ray") is None:
        leave_out["ray"] = "NOTHING IS TRIED ON A CLUSTER: no Ray here; `make test-ray` installs it"
    elif "ray" not in (config.option.markexpr or ""):
        leave_out["ray"] = not_asked
    if not torch.cuda.is_available():
        leave_out["gpu"] = not_asked
    if not os.environ.get("HARKBACK_NETWORK_TESTS"):
        leave_out["network"] = not_asked
    if missing := lacking():
        leave_out["app"] = f"THE APP'S PAGE IS NOT TESTED: no {', '.join(missing)} here; `make test-app` installs it"
    for item in items:
        for name, reason in leave_out.items():
            if item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=reason.format(name)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A plain run shows no reasons; that the app, clusters or bad luck were not tested is said all the same."""
    skipped = terminalreporter.getreports("skipped")
    reasons = {str(report.longrepr[2]) for report in skipped if isinstance(report.longrepr, tuple | list)}
    for reason in sorted(reasons):
        if reason.removeprefix("Skipped: ")[:8].isupper():  # Those that are to be loud are written so.
            terminalreporter.write_line(reason)
