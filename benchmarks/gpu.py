"""On a GPU, where there is one: `python -m benchmarks gpu`. Networks are trained there; all else is the CPU's."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks import protocol


def measure() -> dict[str, Any]:
    """The GPU's name, and the protocol by a learner that trains a network."""
    return {"name": torch.cuda.get_device_name(), "protocol": protocol.measure(["l3"], "cuda")}
