"""What this machine does at best: the rates that a roofline is made of, and the clock that all parts use.

CPU seconds are of one thread: other work on the machine hardly changes them. Wall seconds are of all threads.
"""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import torch

from harkback.workers import cores

SIDE = 2048  #: of the square matrices that are multiplied
SIZE = 2**28  #: bytes that are read or copied: more than the caches of one core
ROW = 2**12  #: bytes of a row, where they are read as a matrix
FRESH = 160_000_000  #: bytes of a fresh tensor
REPEATS = 7


@dataclass(frozen=True, slots=True)
class Seconds:
    """Medians over repetitions."""

    cpu: float  #: of all threads together
    wall: float


@dataclass(frozen=True, slots=True)
class Rate:
    """So many a second."""

    cpu: float  #: per CPU second, on one thread
    wall: float  #: per wall second, on all threads


@dataclass(frozen=True, slots=True)
class Rates:
    float32: Rate  #: multiplications and additions in products of large matrices
    float64: Rate  #: the same
    copy: Rate  #: bytes copied from one place in memory to another, read and written counted
    read: Rate  #: bytes read from memory, by the faster of two ways
    fault: float  #: CPU seconds per MB (10^6 bytes) of fresh memory, the writing into it not counted


@dataclass(frozen=True, slots=True)
class Work:
    """What a computation cannot do without."""

    bytes: float  #: that must be read or written
    operations: float  #: multiplications and additions in float32
    doubles: float = 0.0  #: the same in float64

    def roofline(self, rates: Rates) -> float:
        """CPU seconds that it takes at least: what moves and what is computed go on at the same time."""
        computed = self.operations / rates.float32.cpu + self.doubles / rates.float64.cpu
        return max(self.bytes / rates.read.cpu, computed)


def cpu_seconds(work: Callable[[], Any], repeats: int = REPEATS) -> Seconds:
    """Median seconds of the work, after a first time that does not count."""
    work()
    cpu, wall = [], []
    for _ in range(repeats):
        began = process_time(), perf_counter()
        work()
        cpu.append(process_time() - began[0])
        wall.append(perf_counter() - began[1])
    return Seconds(median(cpu), median(wall))


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def rates() -> Rates:
    """Measured now; takes some seconds and 0.8 GB."""
    one, other = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    numbers, room = torch.ones(SIZE // 4), torch.ones(SIZE // 4)
    matrix, column = numbers.view(-1, ROW // 4), torch.ones(ROW // 4)
    products = 2.0 * SIDE**3
    singles = _rate(products, lambda: one @ other)
    one, other = one.double(), other.double()
    doubles = _rate(products, lambda: one @ other)
    copied = _rate(2.0 * SIZE, lambda: room.copy_(numbers))
    ways = [_rate(float(SIZE), way) for way in (lambda: matrix.mv(column), numbers.sum)]
    read = Rate(max(way.cpu for way in ways), max(way.wall for way in ways))
    return Rates(singles, doubles, copied, read, _fault())


def _rate(amount: float, work: Callable[[], Any]) -> Rate:
    with threads(1):
        cpu = cpu_seconds(work).cpu
    with threads(cores()):
        return Rate(amount / cpu, amount / cpu_seconds(work).wall)


def _fault() -> float:
    with threads(1):
        room = torch.empty(FRESH // 4)
        known = cpu_seconds(lambda: room.fill_(0)).cpu
        return max(0.0, cpu_seconds(lambda: torch.empty(FRESH // 4).fill_(0)).cpu - known) / (FRESH / 1e6)


def peak_memory() -> float:
    """The most resident memory that this process ever had, in MB (10^6 bytes)."""
    status = Path("/proc/self/status")
    if status.exists():  # What `getrusage` says on Linux begins with the memory of the process that started this one.
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def described() -> dict[str, str | int | float]:
    """The machine, without its name."""
    found: dict[str, str | int | float] = {
        "processor": _processor(),
        "cores": cores(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def _processor() -> str:
    listed = Path("/proc/cpuinfo")
    if listed.exists():
        for line in listed.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def measure() -> dict[str, Any]:
    """The rates, as the report has them."""
    found = rates()
    named = {
        "operations_float32": found.float32,
        "operations_float64": found.float64,
        "copied_bytes": found.copy,
        "read_bytes": found.read,
    }
    return {
        **{name: {"per_cpu_second": rate.cpu, "per_wall_second": rate.wall} for name, rate in named.items()},
        "fault_cpu_seconds_per_mb": found.fault,
    }
