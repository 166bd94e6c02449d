"""The benchmarks of audio-visual class-incremental learning: which clips, in which split, in which order of classes.

They are those of AV-CIL (Pian et al., ICCV 2023, arXiv 2308.11073), whose authors published the ids, labels, splits
and class order; sessions and memory are those of their scripts. An id is that of a YouTube video, 11 characters of
base64 that spell 8 bytes; VGGSound's go on with ``_`` and the second where the clip starts, in six digits.

The lists lie in ``_lists/<name>.xz``, as `pack` writes them. Inside the xz are a line of JSON and then bytes in columns
(first all first bytes, then all second bytes), which is what packs well. Class after class, its videos in rising order:

    8 columns   each video's number, less that of the video before it in its class
    1 column    how many clips are cut from the video
    2 columns   clip by clip, the second where it starts
    1 column    clip by clip, its split as an index into `SPLITS`
"""

from __future__ import annotations

import base64
import json
import lzma
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from itertools import islice
from typing import NamedTuple, Protocol

from harkback.clips import Clip
from harkback.datasets import BenchProtocol

SPLITS = ("train", "val", "test")
PROTOCOL = "avcil-2023"
DISJOINT = "vggsound100-disjoint"
BENCHES = ("ave", "kinetics-sounds", "vggsound100")
VIDEO = 11  #: characters of a YouTube id


@dataclass(frozen=True, slots=True)
class Bench:
    """A benchmark as published, whether or not anybody has its clips."""

    name: str
    protocol: BenchProtocol
    splits: Mapping[str, Mapping[str, str]]  #: split -> clip id -> class name; by class in order, then by id


class Row(NamedTuple):
    """A line of a published list."""

    id: str
    label: str
    split: str


@cache
def bench(name: str) -> Bench:
    """The benchmark of that name, from the list that comes with the package."""
    if name == DISJOINT:
        return disjoint(bench("vggsound100"), name)
    return unpack(name, (files("harkback.datasets") / "_lists" / f"{name}.xz").read_bytes())


def disjoint(whole: Bench, name: str) -> Bench:
    """The same without the test clips that are cut from a video of which another piece is a training clip."""
    trained = {clip[:VIDEO] for clip in whole.splits["train"]}
    test = {clip: label for clip, label in whole.splits["test"].items() if clip[:VIDEO] not in trained}
    return replace(whole, name=name, splits={**whole.splits, "test": test})


def pack(rows: Iterable[Row], order: Sequence[str], sessions: Sequence[int], memory: int) -> bytes:
    """A list and its protocol, small: how ``_lists/*.xz`` were made.

    ValueError if an id is not of the form above, so that `unpack` could not give it back.
    """
    found: dict[str, dict[int, list[tuple[int, int]]]] = {label: defaultdict(list) for label in order}
    rows = list(rows)
    timed = any(len(row.id) > VIDEO for row in rows)
    for row in rows:
        video, start = row.id[:VIDEO], row.id[VIDEO + 1 :]
        number = int.from_bytes(base64.urlsafe_b64decode(video + "="))
        if _id(number, int(start) if timed else None) != row.id:
            raise ValueError(f"{row.id} is no id of a video, or of a video and a second")
        found[row.label][number].append((int(start or 0), SPLITS.index(row.split)))
    steps, counts, clips = [], [], []
    for videos in found.values():
        last = 0
        for number in sorted(videos):
            steps.append((number - last).to_bytes(8))
            counts.append(len(videos[number]))
            clips += sorted(videos[number])
            last = number
    starts = [start.to_bytes(2) for start, _ in clips]
    facts = {
        "classes": {label: len(videos) for label, videos in found.items()},  # how many videos each has
        "sessions": list(sessions),
        "memory": memory,
        "timed": timed,
    }
    columns = [bytes(step[i] for step in steps) for i in range(8)] + [bytes(counts)]
    columns += [bytes(start[i] for start in starts) for i in range(2)] + [bytes(split for _, split in clips)]
    text = json.dumps(facts, ensure_ascii=False).encode() + b"\n"
    return lzma.compress(text + b"".join(columns), preset=9 | lzma.PRESET_EXTREME)


def unpack(name: str, data: bytes) -> Bench:
    """What `pack` packed."""
    text, _, columns = lzma.decompress(data).partition(b"\n")
    facts = json.loads(text)
    splits: dict[str, dict[str, str]] = {split: {} for split in SPLITS}
    for label, clips in _clips(columns, facts["classes"], facts["timed"]):
        for clip, split in sorted(clips):
            splits[split][clip] = label
    protocol = BenchProtocol(PROTOCOL, tuple(facts["classes"]), tuple(facts["sessions"]), facts["memory"])
    return Bench(name, protocol, splits)


def _clips(columns: bytes, classes: Mapping[str, int], timed: bool) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """(label, its (id, split)s), class by class."""
    count = sum(classes.values())
    steps = zip(*(columns[i * count : (i + 1) * count] for i in range(8)), strict=True)
    videos = zip(steps, columns[8 * count : 9 * count], strict=True)
    rest = columns[9 * count :]
    cuts = zip(*(rest[i * len(rest) // 3 : (i + 1) * len(rest) // 3] for i in range(3)), strict=True)
    for label, mine in classes.items():
        number, found = 0, []
        for step, pieces in islice(videos, mine):
            number += int.from_bytes(bytes(step))
            for high, low, split in islice(cuts, pieces):
                found.append((_id(number, high << 8 | low if timed else None), SPLITS[split]))
        yield label, found


def _id(number: int, start: int | None) -> str:
    video = base64.urlsafe_b64encode(number.to_bytes(8)).decode()[:VIDEO]
    return video if start is None else f"{video}_{start:06d}"


class Share(NamedTuple):
    """How much of a part of a benchmark is at hand."""

    listed: int  #: clips of the published list
    found: int  #: those that are here


class Partial(Protocol):
    """A dataset of which clips may be missing."""

    @property
    def bench(self) -> Bench: ...
    @property
    def splits(self) -> Mapping[str, tuple[Clip, ...]]: ...


def missing(dataset: Partial) -> dict[str, dict[str, Share]]:
    """What is listed and what is there: split -> class -> numbers of clips."""
    return _shares(dataset.bench, {clip.id for clips in dataset.splits.values() for clip in clips})


def shortfall(dataset: Partial) -> str:
    """What `told` says of a dataset; nothing if no listed clip is missing."""
    if all(share.found == share.listed for of in missing(dataset).values() for share in of.values()):
        return ""
    return told(dataset.bench, (clip.id for clips in dataset.splits.values() for clip in clips))


def told(whole: Bench, found: Iterable[str] = ()) -> str:
    """The same as half a sentence: how many clips of each split are there, and which classes have none at all."""
    shares = _shares(whole, set(found))
    by_split = {split: [sum(numbers) for numbers in zip(*of.values(), strict=True)] for split, of in shares.items()}
    counts = ", ".join(f"{there} of {listed} clips of {split}" for split, (listed, there) in by_split.items())
    bare = [name for name in whole.protocol.order if not any(of[name].found for of in shares.values() if name in of)]
    if not bare or len(bare) == len(whole.protocol.order):
        return counts
    some = ", ".join(bare[:3]) + (f" and {len(bare) - 3} more" if len(bare) > 3 else "")
    return f"{counts}; nothing of the {'class' if len(bare) == 1 else 'classes'} {some}"


def _shares(whole: Bench, found: set[str]) -> dict[str, dict[str, Share]]:
    table: dict[str, dict[str, Share]] = {}
    for split, clips in whole.splits.items():
        listed: dict[str, list[bool]] = defaultdict(list)
        for clip, label in clips.items():
            listed[label].append(clip in found)
        table[split] = {label: Share(len(there), sum(there)) for label, there in listed.items()}
    return table
