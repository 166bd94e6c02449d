"""Waiting for what happens elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 120.0  #: seconds that anything may take, on a machine that is busy


def until(what: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """What it says, as soon as that is true; or what it says in the end."""
    end = time.monotonic() + patience
    while not (found := what()) and time.monotonic() < end:
        time.sleep(0.02)
    return found
