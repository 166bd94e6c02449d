"""Token sets in which the sound tells where to look: of the shape of AV-CIL's features, generated, no download."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Literal, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from harkback.clips import Clip, Skip
from harkback.datasets import BenchProtocol
from harkback.encoders import EncoderSpec
from harkback.errors import HarkbackError
from harkback.extract import SHARD, Extraction
from harkback.features import Features, TokenShape
from harkback.files import fingerprint
from harkback.store import FeatureStore
from harkback.stream import cut

EDITION = 1  #: raise it when a clip of the same settings comes to hold other tokens
LOOK = 8.0  #: length of a class's look
GAP = 0.7  #: how much of its own a look has beside what it shares with its twin's; 0: the same look
SOUND, SOUNDS = 6.0, 7  #: length of a sound, and kinds: fewer than classes, so that a sound does not tell the class
KEY, SPREAD = 6, 2.0  #: numbers in a key, and their standard deviation: 4.9 long in a token, a little less than SOUND
DECOYS = 5  #: things in view that are not heard
SCENE, NOISE = 0.5, 0.1  #: standard deviation of what all picture tokens of a clip share, and of each token's own
MEMORY, SESSIONS = 168, 4  #: exemplars in all, 6 a class at the usual 28; and sessions, of 7 classes then

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is in one clip, and where. Thing 0 is the target, the one that sounds; the others are its decoys."""

    classes: list[int]  #: (things,) whose looks they have
    keys: Array  #: (things, KEY)
    places: npt.NDArray[np.int64]  #: (things,) patches, all different, the same in all frames
    visible: npt.NDArray[np.bool_]  #: (frames, things)


@final
class Decoys:
    """A clip is one token of sound, ``(1, dim)``, and tokens of pictures, ``(frames, patches, dim)``.

    One patch shows the target; five others show decoys, the looks of other classes. Each is in view for a run of frames
    of its own. What is hard:

    * The sound alone does not tell the class: each of the seven sounds belongs to several classes of different looks.
    * The pictures alone do not: six things are in view, and nothing in the picture says which of them sounds.
    * The mean of the patches is weak: the target is one of six things in it, and all lie in the clutter of the scene.
    * Classes come in pairs that look alike and sound different, and the protocol teaches the two of a pair in different
      sessions: by the time the second comes, the first is to be had from memory alone.

    What tells the target from its decoys is a key: six random numbers, new for every thing in every clip, that a thing
    mixes into its patch, and the target into the sound too, by another fixed matrix. Who knows all looks and sounds but
    not the key can rule out the decoys that sound otherwise, and is right in 77 of 100 clips; with it, in nearly all.
    ``told_by="sound"`` is the same without keys, and with decoys that all sound otherwise than the target: to know
    which looks go with which sound is enough.

    ``root`` is not used: it need not exist, it is not read, and nothing is written there. A clip's ``path`` is this
    module, the one file that all clips come from. A clip depends on ``(seed, split, class, index)`` and on ``classes``,
    ``frames``, ``patches`` and ``dim`` alone, so a set with more clips goes on from the store of one with fewer.
    """

    name = "decoys"
    skips: tuple[Skip, ...] = ()  #: every clip is of our own making, so none is left out

    def __init__(
        self,
        root: Path,  # noqa: ARG002 (every dataset is made with a folder)
        *,
        classes: int = 28,
        train: int = 48,
        val: int = 12,
        test: int = 20,
        frames: int = 8,
        patches: int = 16,
        dim: int = 768,
        seed: int = 0,
        told_by: Literal["key", "sound"] = "key",
    ) -> None:
        """``train``, ``val`` and ``test`` are clips per class."""
        if classes < 2 or patches <= DECOYS or frames < 1 or dim < KEY or min(train, val, test) < 0:
            what = f"{classes} classes, {train}/{val}/{test} clips of {frames} x {patches} x {dim} cannot be"
            raise HarkbackError(what, where="decoys", mend=f"take 2 classes, 1 x {DECOYS + 1} x {KEY}, or more")
        self._told_by = told_by
        self._sizes, self._seed = {"train": train, "val": val, "test": test}, seed
        self._shape = TokenShape(1, dim, frames, patches, dim)
        self.classes = tuple(f"look {c // 2:02d} {'ab'[c % 2]}" for c in range(classes))
        pairs = _directions(seed, "pair", classes // 2 + 1, dim).repeat(2, axis=0)[:classes]
        own = _directions(seed, "own", classes, dim)
        self.looks: Array = LOOK * _unit(pairs + np.float32(GAP) * own)  #: (classes, dim)
        self.sounds: Array = SOUND * _directions(seed, "sound", SOUNDS, dim)  #: (SOUNDS, dim)
        self.ear = _directions(seed, "ear", KEY, dim)  #: (KEY, dim): how a key is mixed into a token of sound
        self.eye = _directions(seed, "eye", KEY, dim)  #: (KEY, dim): and into one of a picture

    @property
    def splits(self) -> dict[str, tuple[Clip, ...]]:
        """By class, then by number; a split of no clips is left out."""
        splits = {}
        for split, size in self._sizes.items():
            ids = [(f"{split}/{c[5:].replace(' ', '')}/{i:03d}", c) for c in self.classes for i in range(size)]
            if ids:
                splits[split] = tuple(Clip(name, Path(__file__), label) for name, label in ids)
        return splits

    @property
    def protocol(self) -> BenchProtocol:
        """One of each pair first, then the others: a class and its twin are never of one session."""
        sizes = cut(len(self.classes), [min(SESSIONS, len(self.classes))])
        return BenchProtocol(self.name, self.classes[::2] + self.classes[1::2], sizes, MEMORY)

    @property
    def spec(self) -> EncoderSpec:
        """The generator as an encoder; the numbers of clips, on which no clip's tokens depend, are not part of it."""
        facts = {
            "edition": EDITION, "seed": self._seed, "classes": len(self.classes), **self._shape._asdict(),
            "look": LOOK, "gap": GAP, "sound": SOUND, "sounds": SOUNDS, "key": KEY, "spread": SPREAD,
            "decoys": DECOYS, "scene": SCENE, "noise": NOISE, "told by": self._told_by,
        }  # fmt: skip
        shape, with_ = self._shape, {"numpy": np.__version__}  # No sound is read: 0 Hz.
        return EncoderSpec("decoys", fingerprint(facts), "Apache-2.0", shape, shape.frames, 0, facts, with_)

    def sound_of(self, c: int) -> int:
        """Which row of ``sounds`` class number ``c`` has: another than its twin, the same as several others."""
        return (c // 2 + 3 * (c % 2)) % SOUNDS

    def scene(self, clip: Clip) -> Scene:
        """What there is in a clip of this dataset, and where."""
        return self._scene(clip, _random(self._seed, clip.id))

    def target(self, clip: Clip) -> Tensor:
        """(frames, patches) bool: where the thing that sounds is in view."""
        scene = self.scene(clip)
        mask = torch.zeros(self._shape.frames, self._shape.patches, dtype=torch.bool)
        mask[:, scene.places[0]] = torch.from_numpy(scene.visible[:, 0].copy())
        return mask

    def tokens(self, clip: Clip) -> tuple[Tensor, Tensor]:
        """Sound (1, dim) and pictures (frames, patches, dim) of a clip, half precision."""
        rng = _random(self._seed, clip.id)
        scene, dim = self._scene(clip, rng), self._shape.audio_dim
        audio = self.sounds[self.sound_of(scene.classes[0])] + scene.keys[0] @ self.ear
        audio += NOISE * rng.standard_normal(dim, np.float32)
        visual = NOISE * rng.standard_normal(self._shape[2:], np.float32)
        visual += SCENE * rng.standard_normal(dim, np.float32)
        visual[:, scene.places] += scene.visible[..., None] * (self.looks[scene.classes] + scene.keys @ self.eye)
        return torch.from_numpy(audio[None]).half(), torch.from_numpy(visual).half()

    def convert(self, clips: Sequence[Clip], root: Path) -> Extraction:
        """Generate what the store at ``root`` lacks of these clips, shard by shard, and return their rows.

        Stopped at any moment, it keeps all full shards. A row's key is the clip's id: a store is of one generator.
        """
        began = perf_counter()
        store = FeatureStore.open(root, self.spec)
        todo = [clip for clip in {clip.id: clip for clip in clips}.values() if clip.id not in store.places]
        with tqdm(total=len(todo), desc="generating", unit="clip", leave=False, disable=not todo) as bar:
            for start in range(0, len(todo), SHARD):
                part = todo[start : start + SHARD]
                audio, visual = map(torch.stack, zip(*map(self.tokens, part), strict=True))
                there = torch.ones(len(part), dtype=torch.bool)
                store.add(Features(tuple(clip.id for clip in part), audio, visual, there, there.clone()), {})
                bar.update(len(part))
        ids = tuple(clip.id for clip in clips)
        return Extraction(tuple(clips), ids, store.rows(ids, ids), (), len(todo), perf_counter() - began)

    def _scene(self, clip: Clip, rng: np.random.Generator) -> Scene:
        """The first of what is drawn for a clip."""
        frames, patches, classes, things = self._shape.frames, self._shape.patches, len(self.classes), 1 + DECOYS
        pair = clip.id.split("/")[1]  # Not the label, which may have been changed.
        target = 2 * int(pair[:-1]) + "ab".index(pair[-1])
        others = (target + rng.integers(1, classes, DECOYS)) % classes
        spread = SPREAD
        if self._told_by == "sound":
            apart = [c for c in range(classes) if self.sound_of(c) != self.sound_of(target)]
            others, spread = rng.choice(apart, DECOYS), 0.0
        lengths = rng.integers(max(1, frames // 2), frames + 1, things)
        starts = rng.integers(0, frames - lengths + 1)
        since = np.arange(frames)[:, None] - starts
        visible = (since >= 0) & (since < lengths)
        keys, places = spread * rng.standard_normal((things, KEY), np.float32), rng.permutation(patches)[:things]
        return Scene([target, *others.tolist()], keys, places, visible)


def _random(seed: int, what: str) -> np.random.Generator:
    """The same numbers for the same words in every process."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(f"decoys/{EDITION}/{seed}/{what}".encode()).digest()))


def _directions(seed: int, what: str, count: int, dim: int) -> Array:
    """(count, dim), rows of length 1, each of a generator of its own: more of them leave the first as they are."""
    return _unit(np.stack([_random(seed, f"{what} {i}").standard_normal(dim, np.float32) for i in range(count)]))


def _unit(vectors: Array) -> Array:
    scaled: Array = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled
