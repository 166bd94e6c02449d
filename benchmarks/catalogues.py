"""What a large store's catalogue takes: lists, index, opening, memory. Without tokens: of them nothing is opened.

The first shard's list names all files that were looked at, as after an extraction that hashed them all at its start.
Each step has a process of its own, so that its memory is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from benchmarks.machine import peak_memory
from harkback.catalogue import FILE, Contents, Source
from harkback.clips import Clip
from harkback.encoders.signal import Signal
from harkback.features import none_of
from harkback.store import FeatureStore

CLIPS = (200_000, 2_000_000)
SHARD = 64  #: clips
SYNCED = 200  #: lists that are written as a store writes them, to be timed; the rest without waiting for the disk


def measure() -> dict[str, Any]:
    found = {}
    for clips in CLIPS:
        with tempfile.TemporaryDirectory() as name:
            root = Path(name) / "store"
            steps = {step: _alone(step, root, clips) for step in STEPS}
            lists = sorted(root.glob("0*.json"))
            found[str(clips)] = {
                **steps,
                "lists": len(lists),
                "first list bytes": lists[0].stat().st_size,
                "another list bytes": lists[1].stat().st_size,
                "index bytes": (root / FILE).stat().st_size,
            }
    return found


def _alone(step: str, root: Path, clips: int) -> dict[str, float]:
    argv = [sys.executable, "-m", "benchmarks.catalogues", step, str(root), str(clips)]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    told: dict[str, float] = json.loads(done.stdout)
    return told


def _path(i: int) -> str:
    return f"/data/vggsound/videos/{i // 1000:04d}/{sha256(str(i).encode()).hexdigest()[:11]}_{i % 600:06d}.mp4"


def _key(path: str) -> str:
    return sha256(path.encode()).hexdigest()


def fill(root: Path, clips: int) -> dict[str, float]:
    """The lists as an extraction leaves them; seconds of the first, and of another."""
    store = FeatureStore.open(root, Signal().spec)
    paths = [_path(i) for i in range(clips)]
    keys = [_key(path) for path in paths]
    looked_at = {path: Source(800_000, 10**18, key) for path, key in zip(paths, keys, strict=True)}
    taken = []
    for number, start in enumerate(range(0, clips, SHARD)):
        own = keys[start : start + SHARD]
        name, contents = f"{number:06d}-{own[0][:16]}", Contents(own, {}, looked_at if number == 0 else {})
        (root / f"{name}.safetensors").touch()
        began = process_time(), perf_counter()
        if number <= SYNCED:
            store.places.add(name, contents)
        else:
            (root / f"{name}.json").write_text(json.dumps(contents._asdict(), indent=1) + "\n")
        taken.append((process_time() - began[0], perf_counter() - began[1]))
    cpu, wall = (sum(each[i] for each in taken[1 : SYNCED + 1]) / SYNCED for i in range(2))
    return {"first list cpu": taken[0][0], "a list cpu": cpu, "a list wall": wall}


def first_open(root: Path, clips: int) -> dict[str, float]:
    """All lists are read, and the index is made."""
    return _opened(root, clips)


def later_open(root: Path, clips: int) -> dict[str, float]:
    """From the index."""
    return _opened(root, clips)


def _opened(root: Path, clips: int) -> dict[str, float]:
    began = process_time(), perf_counter()
    store = FeatureStore.open(root, Signal().spec)
    taken = process_time() - began[0], perf_counter() - began[1]
    assert len(store.places) == clips
    return {"cpu": taken[0], "wall": taken[1]}


def rows(root: Path, clips: int) -> dict[str, float]:
    """What a bench or an extraction holds besides: all clips, their keys, and where their rows lie."""
    store = FeatureStore.open(root, Signal().spec)
    before = _resident()
    held = [Clip(f"{i}", Path(_path(i)), f"class {i % 309}") for i in range(clips)]
    began = process_time()
    keys = [(store.places.source(str(clip.path)) or Source(0, 0, "")).content for clip in held]
    found = store.rows(keys, [clip.id for clip in held])
    assert len(found) == clips and all(keys)
    return {"cpu": process_time() - began, "mb of clips, keys and rows": _resident() - before}


def nothing(root: Path, clips: int) -> dict[str, float]:
    """Python with torch, for comparison."""
    assert len(none_of(Signal().spec.shape)) == 0
    return {"clips": float(clips), "there": float(root.exists())}


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


STEPS: dict[str, Callable[[Path, int], dict[str, float]]] = {
    "nothing": nothing,
    "fill": fill,
    "first open": first_open,
    "later open": later_open,
    "rows": rows,
}


if __name__ == "__main__":
    take = argparse.ArgumentParser()
    take.add_argument("step", choices=STEPS)
    take.add_argument("root", type=Path)
    take.add_argument("clips", type=int)
    asked = take.parse_args()
    print(json.dumps({**STEPS[asked.step](asked.root, asked.clips), "peak resident mb": peak_memory()}))
