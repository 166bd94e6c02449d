"""Where a model runs, in which precision, and how much of its input at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from harkback.errors import HarkbackError

WORKING = 0.3e9  #: bytes that encoding takes besides the weights, at least
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def chosen_device(device: str | torch.device | None) -> torch.device:
    """None: the GPU where torch finds one, else the CPU. `HarkbackError` for a device that is not here."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise HarkbackError(f'there is no device "{device}" here', mend="leave --device out, or give cpu") from error
    return found


def chosen_dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """None: bfloat16 on a GPU, float32 elsewhere."""
    if dtype is None:
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    found = PRECISIONS.get(str(dtype).removeprefix("torch."))
    if found is None:
        raise HarkbackError(f'there is no precision "{dtype}"', mend=f"choose from {', '.join(PRECISIONS)}")
    return found


def available(device: torch.device) -> int | None:
    """Bytes that can still be had there; None where nobody can say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    limits = []
    with suppress(OSError):
        found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text("ascii"), re.MULTILINE)
        limits += [int(found[1]) * 1024] if found else []
    with suppress(OSError, ValueError):  # A container may have less than its machine; "max" is no number.
        group = Path("/sys/fs/cgroup")
        taken = int((group / "memory.current").read_text())
        cache = re.findall(r"^(?:in)?active_file (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
        limits.append(int((group / "memory.max").read_text()) - taken + sum(map(int, cache)))
    return min(limits, default=None)


def check_room(weights: int, device: torch.device, where: str | Path) -> None:
    """weights: bytes. `HarkbackError` now, rather than a process killed in the middle of a night."""
    free, place = available(device), "the GPU's memory" if device.type == "cuda" else "memory"
    if free is not None and weights + WORKING > free:
        raise HarkbackError(
            f"needs {(weights + WORKING) / 1e9:.1f} GB of {place}, and {free / 1e9:.1f} GB are free",
            where=where,
            mend="close other programs, choose a smaller model, or give --dtype bfloat16",
        )


def in_batches(run: Callable[[Tensor], Tensor], rows: Tensor, at_once: int) -> Tensor:
    """``run`` of all rows, some at a time, fewer where the device's memory does not suffice."""
    out: list[Tensor] = []
    begin = 0
    while begin < len(rows) or not out:
        try:
            out.append(run(rows[begin : begin + at_once]))
            begin += at_once
        except torch.OutOfMemoryError as error:
            if at_once == 1:
                what = "the GPU's memory does not suffice, not even for one picture or sound at a time"
                raise HarkbackError(what, mend="close other programs, or give --device cpu") from error
            at_once //= 2
    return torch.cat(out)
