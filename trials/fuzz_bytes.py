"""Ways to spoil bytes: what a bad disk, a broken line and a hostile hand do to a file; all drawn from a seed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

EXTREMES = (
    0,
    1,
    2,
    7,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    1 << 40,
    2**63,
    2**64 - 1,
)
#: What takes the place of a value in JSON.
ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1,
    2**31,
    2**64,
    10**400,
    1e308,
    -0.5,
    float("nan"),
    "",
    "x",
    "\ud800",
    "\n",
    "../x",
    [],
    {},
    [[]],
    {"": None},
)

#: Boxes of MP4, chunks of RIFF, elements of Matroska.
NAMES = (
    *(b"moov mdat trak stsz stts stco stsc mvhd mdhd tkhd elst stsd esds mp4v mp4a RIFF LIST data".split()),
    *(b"fmt ", b"\x1aE\xdf\xa3", b"\x18S\x80g", b"\x16T\xaek", b"\x1fC\xb6u", b"\xae", b"\xa3", b"\xe0", b"\xe1"),
)

Bytes = bytearray


def flips(data: Bytes, some: random.Random, _: Sequence[bytes]) -> None:
    for _ in range(some.choice((1, 1, 2, 8, 64))):
        data[some.randrange(len(data))] ^= 1 << some.randrange(8)


def overwritten(data: Bytes, some: random.Random, _: Sequence[bytes]) -> None:
    at, length = _run(data, some)
    data[at : at + length] = some.choice((some.randbytes(length), bytes(length), b"\xff" * length))


def removed(data: Bytes, some: random.Random, _: Sequence[bytes]) -> None:
    at, length = _run(data, some)
    del data[at : at + length]


def inserted(data: Bytes, some: random.Random, _: Sequence[bytes]) -> None:
    at, length = _run(data, some)
    data[at:at] = some.randbytes(length)


def duplicated(data: Bytes, some: random.Random, _: Sequence[bytes]) -> None:
    at, length = _run(data, some)
    to = some.randrange(len(data))
    data[to:to] = data[at : at + length] * some.choice((1, 1, 2, 50))


def truncated(data: Bytes, some: random.Random, _: Sequence[bytes]) -> None:
    del data[some.randrange(len(data)) :]


def extreme(data: Bytes, some: random.Random, _: Sequence[bytes]) -> None:
    """A number of some width is the least, the largest, or a little beside what it was: lengths, counts, sizes."""
    width, order = some.choice((1, 2, 4, 8)), some.choice(("big", "little"))
    at = some.randrange(max(1, len(data) - width))
    was = int.from_bytes(data[at : at + width], order)  # type: ignore[arg-type]
    number = some.choice((*EXTREMES, was + 1, was - 1, was * 2, was + len(data))) % (1 << 8 * width)
    data[at : at + width] = number.to_bytes(width, order)  # type: ignore[arg-type]


def box_size(data: Bytes, some: random.Random, _: Sequence[bytes]) -> None:
    """The size of a box of MP4, a chunk of RIFF or an element of Matroska, found by its name."""
    places = [at for name in NAMES if (at := data.find(name)) >= 0]
    if not places:
        return extreme(data, some, ())
    at = some.choice(places)
    # Before the name in MP4, behind it in the others; a field of the box stands a little farther.
    to = max(0, at + some.choice((-4, 4, 1, 2, 8, 12, 16, 20, 24)))
    width = some.choice((1, 2, 4, 8))
    data[to : to + width] = (some.choice(EXTREMES) % (1 << 8 * width)).to_bytes(width, some.choice(("big", "little")))  # type: ignore[arg-type]
    return None


def spliced(data: Bytes, some: random.Random, others: Sequence[bytes]) -> None:
    """The beginning of one file, the end of another."""
    other = some.choice(others)
    data[some.randrange(len(data)) :] = other[some.randrange(len(other)) :]


def headed(data: Bytes, some: random.Random, others: Sequence[bytes]) -> None:
    """The first bytes of another file on this one's body."""
    length = some.choice((4, 12, 64, 512))
    data[:length] = some.choice(others)[:length]


WAYS: tuple[Callable[[Bytes, random.Random, Sequence[bytes]], None], ...] = (
    flips, overwritten, removed, inserted, duplicated, truncated, extreme, extreme, box_size, box_size, spliced, headed
)  # fmt: skip


def spoiled(data: bytes, some: random.Random, others: Sequence[bytes]) -> bytes:
    """``data``, spoiled in one way, or in a few."""
    found = bytearray(data)
    for _ in range(some.choice((1, 1, 1, 2, 4))):
        if found:
            some.choice(WAYS)(found, some, others)
    return bytes(found)


def misfit(text: bytes, some: random.Random) -> bytes:
    """JSON that is JSON still, and says something else."""
    facts = json.loads(text)
    for _ in range(some.choice((1, 1, 2, 4))):
        places = list(_places(facts))
        if not places:
            break
        inside, key = some.choice(places)
        deed = some.randrange(4)
        if deed == 0:
            del inside[key]
        elif deed == 1:
            inside[key] = some.choice(ODD)
        elif deed == 2:
            inside[key] = some.choice(places)[0]  # Another part; of itself perhaps, and then it is copied below.
        elif isinstance(inside, dict):
            inside[some.choice(("", "x", "../x", key + "x"))] = inside.pop(key)
        facts = _copied(facts)
    return json.dumps(facts).encode()


def _run(data: Bytes, some: random.Random) -> tuple[int, int]:
    return some.randrange(len(data)), some.choice((1, 1, 2, 4, 16, 64, 1024))


def _places(facts: Any) -> list[tuple[Any, Any]]:
    inside = facts.items() if isinstance(facts, dict) else enumerate(facts) if isinstance(facts, list) else ()
    return [place for key, value in inside for place in ((facts, key), *_places(value))]


def _copied(facts: Any, depth: int = 0) -> Any:
    if depth > 12:
        return None
    if isinstance(facts, dict):
        return {key: _copied(value, depth + 1) for key, value in facts.items()}
    return [_copied(value, depth + 1) for value in facts] if isinstance(facts, list) else facts
