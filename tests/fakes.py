"""Small stand-ins for tests: random features, features in a pretended memory map, wav files, an encoder to misuse."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor

from harkback.clips import Clip, Skip
from harkback.encoders import EncoderSpec
from harkback.features import Arrays, Features, TokenShape
from harkback.media import Media
from harkback.network import NetworkSettings
from harkback.parcels import Parcel
from harkback.state import State
from harkback.stream import Session
from harkback.training import TrainSettings

SHAPE = TokenShape(audio_tokens=6, audio_dim=5, frames=3, patches=4, visual_dim=7)


def random_features(
    clips: int, seed: int = 0, shape: TokenShape = SHAPE, dtype: torch.dtype = torch.float16
) -> Features:
    """Noise; every clip has sound and picture."""
    some = torch.Generator().manual_seed(seed)
    return Features(
        tuple(f"clip-{seed}-{i}" for i in range(clips)),
        torch.randn(clips, *shape[:2], generator=some).to(dtype),
        torch.randn(clips, *shape[2:], generator=some).to(dtype),
        torch.ones(clips, dtype=torch.bool),
        torch.ones(clips, dtype=torch.bool),
    )


def features_of(labels: Sequence[str], seed: int = 0, noise: float = 0.5) -> Features:
    """Clips of classes that can be told apart by ear and by eye: each class has its own mean, whatever the seed."""
    features = random_features(len(labels), seed, dtype=torch.float32)
    for row, label in enumerate(labels):
        number = int.from_bytes(hashlib.sha256(label.encode()).digest()[:4])
        mean = random_features(1, number, dtype=torch.float32)
        features.audio[row] = mean.audio[0].mean(0) * 3 + noise * features.audio[row]
        features.visual[row] = mean.visual[0].mean((0, 1)) * 6 + noise * features.visual[row]
    return replace(features, audio=features.audio.half(), visual=features.visual.half())


def without(features: Features, sound: Sequence[int] = (), picture: Sequence[int] = ()) -> Features:
    """The same with the sound of some rows gone and the picture of others, as an encoder would leave them."""
    audio, visual, heard, seen = (x.clone() for x in (features.audio, features.visual, features.heard, features.seen))
    audio[list(sound)], heard[list(sound)] = 0, False
    visual[list(picture)], seen[list(picture)] = 0, False
    return Features(features.ids, audio, visual, heard, seen)


class Mapped:
    """Rows that, as those of a store, can only be asked for by number; says which were read."""

    def __init__(self, features: Features) -> None:
        self.inside = features
        self.reads: list[int] = []

    @property
    def ids(self) -> tuple[str, ...]:
        return self.inside.ids

    @property
    def shape(self) -> TokenShape:
        return self.inside.shape

    @property
    def dtype(self) -> torch.dtype:
        return self.inside.dtype

    def __len__(self) -> int:
        return len(self.inside)

    def __getitem__(self, rows: Tensor) -> Features:
        self.reads.append(len(rows))
        return self.inside[rows]

    def fill(self, rows: Tensor, out: Arrays, at: Tensor) -> None:
        self.reads.append(len(rows))
        self.inside.fill(rows, out, at)


def session_of(labels: Sequence[str], seed: int = 0, noise: float = 0.5) -> Session:
    return Session.of(features_of(labels, seed, noise), labels)


def small(settings: Any) -> Any:
    """The same settings with a network and a training that take milliseconds, wherever they stand."""
    if isinstance(settings, NetworkSettings):
        return replace(settings, width=16, heads=2, key_dim=4)
    if isinstance(settings, TrainSettings):
        return replace(settings, epochs=4, batch=16, rate=1e-2)
    if not is_dataclass(settings):
        return settings
    parts = {f.name: getattr(settings, f.name) for f in fields(settings)}
    smaller = {name: small(part) for name, part in parts.items() if is_dataclass(part)}
    return replace(settings, **smaller, **({"features": 64} if "features" in parts else {}))


def same_state(one: State, other: State) -> bool:
    """Equal names, shapes, types and bits."""
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


# ---- files ----------------------------------------------------------------------------------------------------------

RATE = 8000


def tone(path: Path, pitch: float, loud: float = 0.25, seconds: float = 0.1) -> Path:
    """A sine in a 16-bit mono wav file."""
    samples = loud * np.sin(2 * np.pi * pitch * np.arange(round(seconds * RATE)) / RATE)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file, wave.open(file) as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes((samples * 32767).round().astype("<i2").tobytes())
    return path


def tones(root: Path, count: int) -> list[Clip]:
    """Clips of different pitch; clip ``i`` is ``{i:02d}.wav``."""
    paths = [tone(root / f"{i:02d}.wav", 200 + 40 * i) for i in range(count)]
    return [Clip(path.name, path, f"class {i % 2}") for i, path in enumerate(paths)]


@dataclass(frozen=True)
class Fake:
    """An encoder of six numbers. A clip whose peak is above 0.8 is poison, and what comes then can be chosen."""

    in_workers: bool = True
    name: str = "fake"
    revision: str = "1"
    poison: str = "none"  # none, exit, interrupt, once:FILE (interrupt unless FILE is there)
    pause: float = 0.0  # seconds a clip takes
    busy: float = 0.0  # seconds of a core that it takes
    tally: str = ""  # a folder that gets a file for each clip that is encoded, in whatever process
    killed_once: str = ""  # a file that is not there yet: the first process that encodes is killed, as for its memory

    @property
    def spec(self) -> EncoderSpec:
        return EncoderSpec(
            name=self.name,
            revision=self.revision,
            licence="CC0-1.0",
            shape=TokenShape(2, 3, 2, 2, 3),
            frames=2,
            sample_rate=RATE,
            preprocessing={"nothing": True},
            computed_with={"torch": torch.__version__},
        )

    @property
    def picture(self) -> None:
        return None

    def encode(self, media: Sequence[Media]) -> Features:
        audio, visual = torch.zeros(len(media), 2, 3), torch.zeros(len(media), 2, 2, 3)
        heard, seen = torch.zeros(2, len(media), dtype=torch.bool)
        if self.killed_once and not Path(self.killed_once).exists():
            Path(self.killed_once).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        for i, clip in enumerate(media):
            time.sleep(self.pause)
            until = time.thread_time() + self.busy
            while time.thread_time() < until:
                pass
            if self.tally:
                (Path(self.tally) / uuid4().hex).touch()
            if clip.waveform is not None:
                self._taste(clip.waveform)
                for j, half in enumerate(clip.waveform[0].tensor_split(2)):
                    crossings = (half[1:] * half[:-1] < 0).float().mean()
                    audio[i, j] = torch.stack([half.abs().mean(), half.square().mean().sqrt(), crossings]) * 8
                heard[i] = True
            if clip.frames is not None:
                visual[i], seen[i] = clip.frames.float().mean((1, 2))[:, None] / 255, True
        return Features(tuple(map(str, range(len(media)))), audio.half(), visual.half(), heard, seen)

    def _taste(self, waveform: Tensor) -> None:
        if self.poison == "none" or waveform.abs().max() < 0.8:
            return
        if self.poison == "exit":
            os._exit(7)
        antidote = self.poison.partition(":")[2]
        if not (antidote and Path(antidote).exists()):
            raise KeyboardInterrupt


@dataclass(frozen=True)
class Lethal(Fake):
    """Takes all processes of a cluster down that would write what it has encoded."""

    @property
    def spec(self) -> EncoderSpec:
        if "default_worker.py" in sys.argv[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().spec


@dataclass(frozen=True)
class Listed:
    """A dataset that is what it is told to be."""

    splits: Mapping[str, tuple[Clip, ...]]
    skips: tuple[Skip, ...] = ()
    name: str = "listed"


class Crashing:
    """Work for a worker process (which must be able to import it): the clip's id, or the end of the process."""

    def __call__(self, clip: Clip) -> Parcel:
        if clip.label == "poison":
            os._exit(7)
        return {"id": clip.id}, {}
