"""What a store costs: `python -m benchmarks.store`. Takes 1 GB of a temporary folder, and half a minute.

Rows drawn at random from a store that lies in the page cache, into one buffer, against copying as many bytes from one
place in memory to another in the same turns: in batches of 384, and in pieces that stay in the cache. Then what a
process's resident memory grows by while it reads all of a store, and all of one four times as large; and the time that
opening takes, by the number of clips.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from statistics import median

import torch

from harkback.buffer import CACHED, Buffer, reading
from harkback.encoders import EncoderSpec, open_encoder
from harkback.features import Features, TokenShape, room_for
from harkback.store import FeatureStore

BATCH = 384  #: rows
SHARD = 64  #: clips a shard, as `harkback extract` writes them
TURNS = 9
#: Frames of 16 and of 196 patches, as AV-CIL has them, and the default encoder's; and how many rows of each there are.
SHAPES = {
    "16_patches": (TokenShape(1, 768, 8, 16, 768), 2048),
    "196_patches": (TokenShape(1, 768, 8, 196, 768), 384),
    "default": (None, 2048),
}
CLIPS = (1_000, 10_000, 100_000)


def measure() -> dict[str, float]:
    """Rates and ratios (by wall clock, and by CPU seconds of all threads), MB and seconds, by name."""
    found: dict[str, float] = {}
    spec = open_encoder("signal").spec
    with tempfile.TemporaryDirectory() as name:
        for title, (shape, clips) in SHAPES.items():
            of = spec if shape is None else replace(spec, shape=shape)
            rates = _rates(_filled(Path(name) / title, of, clips), clips)
            found |= {f"{title}_{what}": value for what, value in rates.items()}
            shutil.rmtree(Path(name) / title)
        of = replace(spec, shape=SHAPES["16_patches"][0])
        for times in (1, 4):
            root = Path(name) / str(times)
            found[f"resident_growth_{times}x_mb"] = _growth(_filled(root, of, 512 * times), 512 * times)
            shutil.rmtree(root)
        for clips in CLIPS:
            root = Path(name) / f"listed-{clips}"
            _listed(root, spec, clips)
            found[f"first_open_{clips}_s"] = _opened(root, spec)
            found[f"open_{clips}_s"] = min(_opened(root, spec) for _ in range(5))
    return found


def _filled(root: Path, spec: EncoderSpec, clips: int) -> FeatureStore:
    """A store of so many clips of noise."""
    store, some = FeatureStore.open(root, spec), torch.Generator().manual_seed(0)
    room, there = room_for(spec.shape, SHARD, torch.float16), torch.ones(SHARD, dtype=torch.bool)
    for array in room[:2]:
        array.copy_(torch.randn(array.shape, generator=some))
    for start in range(0, clips, SHARD):
        store.add(Features(tuple(map(str, range(start, start + SHARD))), *room[:2], there, there.clone()), {})
    return FeatureStore.open(root, spec)


def _rates(store: FeatureStore, clips: int) -> dict[str, float]:
    """GB/s (10^9 bytes of rows) of reading and of copying, and the one over the other."""
    keys = tuple(map(str, range(clips)))
    rows = store.rows(keys, keys)
    size = sum(array.nbytes for array in room_for(rows.shape, 1, rows.dtype)[:2])
    few = max(1, CACHED // size)
    buffer, piece, some = Buffer(rows, BATCH), Buffer(rows, few), torch.Generator().manual_seed(0)
    memory, copy = torch.ones(2 * BATCH, size, dtype=torch.uint8), torch.ones(BATCH, size, dtype=torch.uint8)

    def read() -> None:
        buffer(torch.randperm(clips, generator=some)[:BATCH])

    def pieces() -> None:
        for batch in torch.randperm(clips, generator=some)[:BATCH].split(few):
            piece(batch)

    def copied() -> None:
        first = int(torch.randint(BATCH, (), generator=some))
        copy.copy_(memory[first : first + BATCH])

    spent: dict[str, list[tuple[float, float]]] = {"read": [], "pieces": [], "copy": []}
    for turn in range(TURNS + 1):
        for name, work in (("read", read), ("pieces", pieces), ("copy", copied)):
            wall, cpu = time.perf_counter(), time.process_time()
            work()
            if turn:  # In the first, the files are opened.
                spent[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    wall, cpu = ({name: BATCH * size / median(each[i] for each in of) for name, of in spent.items()} for i in range(2))
    return {
        **{f"{name}_gb_s": rate / 1e9 for name, rate in wall.items()},
        **{f"{name}_over_copy": wall[name] / wall["copy"] for name in ("read", "pieces")},
        **{f"{name}_over_copy_cpu": cpu[name] / cpu["copy"] for name in ("read", "pieces")},
    }


def _growth(store: FeatureStore, clips: int) -> float:
    """MB of resident memory more after all rows were read than after the first."""
    keys = tuple(map(str, range(clips)))
    rows, before, total = store.rows(keys, keys), 0.0, 0.0
    for _, part in reading(rows):
        total += float(part.visual[:, 0, 0, 0].sum())
        before = before or _resident()
    return _resident() - before


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _listed(root: Path, spec: EncoderSpec, clips: int) -> None:
    """What a store of so many clips says of them, without their tokens."""
    FeatureStore.open(root, spec)
    for start in range(0, clips, SHARD):
        paths = [f"/clips/some class/clip-{i:06d}.mp4" for i in range(start, min(start + SHARD, clips))]
        keys = [sha256(path.encode()).hexdigest() for path in paths]
        sources = {path: [10**6, 10**18, key] for path, key in zip(paths, keys, strict=True)}
        facts = {"keys": keys, "failures": {}, "sources": sources}
        (root / f"{start // SHARD:06d}-{keys[0][:16]}.json").write_text(json.dumps(facts, indent=1))
        (root / f"{start // SHARD:06d}-{keys[0][:16]}.safetensors").touch()


def _opened(root: Path, spec: EncoderSpec) -> float:
    began = time.perf_counter()
    FeatureStore.open(root, spec)
    return time.perf_counter() - began


def main() -> None:
    print("| measure | value |\n|---|---:|")
    for name, value in measure().items():
        print(f"| {name} | {value:.3g} |")


if __name__ == "__main__":
    main()
