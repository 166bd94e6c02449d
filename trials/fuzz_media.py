"""Spoiled videos and sound files through the way that `harkback predict` reads them, each in a process of its own."""

from __future__ import annotations

import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fakes import tone
from films import film, gray
from harkback.apart import apart
from harkback.confined import DECODING
from harkback.encoders import Encoder, open_encoder
from harkback.errors import HarkbackError
from harkback.features import Features
from harkback.windows import cut
from trials.fuzz_bytes import spoiled

#: Less than the command's, so that a trial ends; memory as there.
LIMITS = replace(DECODING, computing=20, silence=60.0)


def seeds(folder: Path) -> dict[str, bytes]:
    """A fifth of a second each, 32 x 32 pixels, in the containers and codecs that people have."""
    folder.mkdir(parents=True, exist_ok=True)
    sound = 0.3 * np.sin(2 * np.pi * 440 * np.arange(8820) / 44_100)[None]
    images = [gray(level) for level in (20, 80, 140, 200, 250)]
    made = [
        film(folder / "a.mp4", images, sound=sound),
        film(folder / "silent.mp4", images, codec="libx264"),
        film(folder / "a.mkv", images, sound=sound, sound_codec="flac"),
        film(folder / "b.mkv", images, codec="mjpeg", sound=sound, sound_codec="pcm_s16le"),
        film(folder / "turned.mp4", images, sound=sound, turn=(90, True)),
        tone(folder / "a.wav", 440, seconds=0.2),
        film(folder / "stereo.wav", [], sound=np.repeat(sound, 2, 0), sound_codec="pcm_s24le"),
    ]
    return {path.name: path.read_bytes() for path in made}


def reads(path: Path, encoder: Encoder) -> Iterator[Any]:
    """All that the command would have of a file, in short: for `apart.apart`."""
    words = 0
    try:
        for word in cut(path, None, encoder):
            words += 1
            if isinstance(word, Features):
                assert word.audio.isfinite().all() and word.visual.isfinite().all(), "not finite"
            elif isinstance(word, HarkbackError):
                yield _line(word)
    except HarkbackError as error:
        yield _line(error)
    yield {"words": words, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10}


def _line(error: HarkbackError) -> str:
    assert "\n" not in str(error) and error.where is not None, repr(str(error))
    return type(error).__name__


def campaign(files: int, seed: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """What came of so many files, and the names of those that broke something: they stay in ``folder``."""
    some, encoder, found = random.Random(seed), open_encoder("signal"), seeds(folder / "seeds")
    tally: Counter[str] = Counter()
    broke, slowest, most = [], 0.0, 0
    for number in range(files):
        name = some.choice(list(found))
        path = folder / f"{seed}-{number:05d}-{name}"
        path.write_bytes(spoiled(found[name], some, list(found.values())))
        began, words = time.monotonic(), []
        try:
            words = list(apart(reads, path, encoder, limits=LIMITS, about=path))
            outcome = next((word for word in words if isinstance(word, str)), "read")
        except HarkbackError as error:
            outcome = error.what.partition(":")[0]
            broke.append(f"{path.name}: {error}")
        slowest = max(slowest, time.monotonic() - began)
        most = max([most, *(word["mib"] for word in words if isinstance(word, dict))])
        tally[outcome] += 1
        if not broke or not broke[-1].startswith(path.name):
            path.unlink()
        if number % 500 == 499:
            print(f"  media: {number + 1} files, {len(broke)} broke something", flush=True)
    print(f"  media: the slowest took {slowest:.1f} s, the largest process had {most} MiB, "
          f"this one {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB")  # fmt: skip
    return tally, broke
