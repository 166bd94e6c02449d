"""A dataset that needs no download: it draws and voices its own clips, and writes them as ordinary .mp4 files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from harkback.clips import Clip, Skip
from harkback.datasets import _drawing as look
from harkback.datasets import _film
from harkback.datasets import _voices as voice
from harkback.datasets._pen import FPS, FRAMES, SIDE, Pen, pen_at, wallpaper
from harkback.errors import HarkbackError
from harkback.files import write_json

EDITION = 1  #: raise it when a clip of the same settings comes to hold other pictures or sounds
RADIUS = (14.5, 19.5)  #: pixels, of a thing at rest
APART = 38.0  #: pixels between the middles of two things


@dataclass(frozen=True, slots=True)
class Kind:
    """One class: a row of the table below."""

    name: str
    draw: Callable[[Pen], None]
    voice: Callable[[np.random.Generator], voice.Sound]


_CLANG = ((0.5, 0.5), (1.0, 1.0), (1.19, 0.7), (1.5, 0.4), (2.0, 0.7), (2.74, 0.5), (4.1, 0.2))
_CLONK = ((1.0, 1.0), (1.48, 0.9), (2.9, 0.4), (5.3, 0.25))
_KNOCK = ((1.0, 1.0), (1.73, 0.6))
_PLUCK = ((1.0, 1.0), (2.0, 0.7), (3.0, 0.5), (4.0, 0.3), (5.0, 0.25), (6.0, 0.15))

# One row is one class, and two rows are a pair. "Look": the pictures are nearly the same and the ear must tell.
# "Sound": the ranges of the voices overlap and the eye must tell.
# fmt: off
KINDS: tuple[Kind, ...] = (
    # look
    Kind("church bell", partial(look.bell, mouth=0.72),
         partial(voice.strike, pitch=(280, 480), rate=(1.2, 2.2), ring=(0.35, 0.6), partials=_CLANG)),
    Kind("cowbell", partial(look.bell, mouth=0.64),
         partial(voice.strike, pitch=(480, 760), rate=(2.0, 3.4), ring=(0.05, 0.09), partials=_CLONK)),
    # sound
    Kind("siren", look.beacon,
         partial(voice.sweep, pitch=(700, 1250), depth=(0.6, 1.2), rate=(0.8, 1.7), bright=(0.1, 0.5))),
    Kind("whistle", look.whistle,
         partial(voice.sweep, pitch=(850, 1500), depth=(0.5, 1.1), rate=(0.9, 1.9), bright=(0.0, 0.4))),
    # look
    Kind("bird", partial(look.bird, bill=0.42, flat=1.0),
         partial(voice.call, pitch=(2300, 4200), formant=(2500, 5000), rate=(2.0, 3.4), share=(0.3, 0.5),
                 glide=(-0.8, 0.8), rasp=(0.0, 0.1))),
    Kind("duck", partial(look.bird, bill=0.54, flat=1.4),
         partial(voice.call, pitch=(170, 260), formant=(1000, 1600), rate=(1.6, 2.8), share=(0.4, 0.6),
                 glide=(-0.4, 0.0), rasp=(0.2, 0.6))),
    # sound
    Kind("motor", look.motor,
         partial(voice.buzz, pitch=(85, 150), rate=(0.9, 1.8), rough=(0.1, 0.5), formant=(300, 800))),
    Kind("bee", look.bee,
         partial(voice.buzz, pitch=(105, 185), rate=(1.0, 2.0), rough=(0.0, 0.4), formant=(400, 1000))),
    # sound
    Kind("drum", look.drum,
         partial(voice.thud, pitch=(75, 150), rate=(1.6, 3.2), ring=(0.07, 0.16), snap=(0.1, 0.6))),
    Kind("ball", look.ball,
         partial(voice.thud, pitch=(95, 180), rate=(1.5, 2.8), ring=(0.05, 0.13), snap=(0.05, 0.4))),
    # look
    Kind("frog", partial(look.frog, warts=0.06),
         partial(voice.call, pitch=(60, 95), formant=(450, 850), rate=(1.5, 2.8), share=(0.4, 0.65),
                 glide=(-0.2, 0.3), rasp=(0.2, 0.6))),
    Kind("toad", partial(look.frog, warts=0.11),
         partial(voice.trill, pitch=(1250, 1800), flutter=(20, 32), rate=(0.9, 1.4), share=(0.6, 0.74),
                 bright=(0.0, 0.1))),
    # sound
    Kind("clock", look.clock,
         partial(voice.strike, pitch=(1900, 3000), rate=(2.0, 3.4), ring=(0.006, 0.014), partials=_KNOCK)),
    Kind("metronome", look.metronome,
         partial(voice.strike, pitch=(1600, 2600), rate=(1.6, 3.0), ring=(0.008, 0.018), partials=_KNOCK)),
    # look
    Kind("cricket", partial(look.cricket, body=0.3),
         partial(voice.trill, pitch=(4000, 5400), flutter=(26, 42), rate=(1.8, 3.0), share=(0.4, 0.55),
                 bright=(0.0, 0.05))),
    Kind("grasshopper", partial(look.cricket, body=0.24),
         partial(voice.hiss, band=(4500, 7000), rate=(1.5, 2.6), share=(0.5, 0.7), crackle=(0.3, 1.0))),
    # sound
    Kind("telephone", look.telephone,
         partial(voice.trill, pitch=(950, 1500), flutter=(15, 23), rate=(1.0, 1.6), share=(0.5, 0.65),
                 bright=(0.4, 0.8))),
    Kind("fire alarm", look.gong,
         partial(voice.trill, pitch=(1100, 1750), flutter=(14, 21), rate=(1.1, 1.8), share=(0.5, 0.65),
                 bright=(0.5, 0.9))),
    # look
    Kind("guitar", partial(look.strings, waist=0.74),
         partial(voice.strike, pitch=(150, 340), rate=(1.8, 3.2), ring=(0.2, 0.4), partials=_PLUCK)),
    Kind("violin", partial(look.strings, waist=0.66),
         partial(voice.call, pitch=(420, 800), formant=(900, 2200), rate=(1.0, 1.8), share=(0.6, 0.74),
                 glide=(-0.1, 0.1), rasp=(0.0, 0.1))),
    # sound
    Kind("rain", look.cloud,
         partial(voice.hiss, band=(700, 4500), rate=(0.9, 1.6), share=(0.6, 0.74), crackle=(0.2, 0.8))),
    Kind("frying pan", look.pan,
         partial(voice.hiss, band=(900, 5500), rate=(0.9, 1.8), share=(0.55, 0.72), crackle=(0.4, 1.0))),
    # look
    Kind("dog", partial(look.dog, ears=0.85),
         partial(voice.call, pitch=(280, 440), formant=(600, 1100), rate=(1.8, 3.0), share=(0.3, 0.45),
                 glide=(-0.9, -0.4), rasp=(0.2, 0.6))),
    Kind("wolf", partial(look.dog, ears=1.0),
         partial(voice.call, pitch=(330, 560), formant=(450, 900), rate=(0.8, 1.2), share=(0.6, 0.74),
                 glide=(-0.2, 0.5), rasp=(0.0, 0.1))),
)
# fmt: on


@dataclass(frozen=True, slots=True)
class Scene:
    """What one clip shows and plays, and the truth about it. Thing 0 is the one that sounds."""

    frames: npt.NDArray[np.uint8]  #: (16, 112, 112, 3) RGB at 8 frames a second
    wave: npt.NDArray[np.float32]  #: (32000,) in [-1, 1] at 16 kHz
    things: tuple[str, ...]  #: class names: the sounding thing, then one or two silent ones
    beats: npt.NDArray[np.float32]  #: (things, 16) in [0, 1]: how hard each is at work in each frame
    centres: npt.NDArray[np.float32]  #: (things, 16, 2) pixels, x and y
    radii: npt.NDArray[np.float32]  #: (things,) pixels


class Demo:
    """Small clips of things that move as they sound, drawn and voiced here: nothing is downloaded.

    A clip lasts 2 s: 16 frames of 112 x 112 pixels (8 a second, H.264) and 16 kHz mono sound (AAC), about 25 kB. By
    default there are 8 classes (up to 24) with 24 training and 12 test clips each. The files lie in
    ``root/<split>/<class name>/``, so ``root`` is an ordinary folder dataset too.

    In every clip one thing sounds and moves in time with its sound; one or two silent things of other classes move to
    a rhythm of their own. What is hard about it:

    * The picture alone is ambiguous: two or three classes are in view, and nothing but the rhythm tells which one is
      meant. Sound tells where to look.
    * Half of the classes come in pairs that look alike and sound different (church bell and cowbell, bird and duck):
      the ear must tell.
    * The other half come in pairs that sound alike and look different (siren and whistle, motor and bee): the eye
      must tell, so the sound alone is not sufficient either. Pairs stand side by side in the order of the classes.
    * Place, drift, size, colour, texture, outline and ground vary, as do pitch, tempo, timbre, loudness and the noise
      of the room (2 to 22 dB below the voice).

    A clip depends on ``(seed, class name, split, index)`` alone, except that its silent things are drawn from the
    classes in use. On one machine the same settings give the same bytes.
    """

    name = "demo"
    skips: tuple[Skip, ...] = ()  #: every clip is of our own making, so none is left out

    def __init__(
        self, root: Path, *, classes: int = 8, train: int = 24, test: int = 12, val: int = 0, seed: int = 0
    ) -> None:
        """``classes`` is how many classes, from 1 to 24; ``train``, ``test`` and ``val`` are clips per class."""
        if not 1 <= classes <= len(KINDS):
            raise HarkbackError(f"the demo has no {classes} classes", mend=f"ask for 1 to {len(KINDS)}")
        if min(train, test, val) < 0 or max(train, test, val) > 999:
            raise HarkbackError("a class of the demo has 0 to 999 clips in a split", mend="ask for that many")
        if seed < 0:
            raise HarkbackError(f"seed {seed} is negative", mend="take one that is 0 or more")
        self.root = Path(root)
        self.classes = tuple(kind.name for kind in KINDS[:classes])
        self._sizes = {"train": train, "val": val, "test": test}
        self._settings = {"edition": EDITION, "classes": classes, **self._sizes, "seed": seed}

    @property
    def splits(self) -> dict[str, tuple[Clip, ...]]:
        """The clips of "train" and "test" (and "val", when asked for); those that are not on disk yet are written."""
        splits = {split: self._clips(split) for split, size in self._sizes.items() if size or split != "val"}
        _claim(self.root, self._settings)
        self._draw([clip for clips in splits.values() for clip in clips if not (self.root / clip.id).exists()])
        return splits

    def scene(self, clip: Clip) -> Scene:
        """What a clip of this dataset was made from: its pictures before the codec, and where the sounding thing is."""
        split, label, file = PurePosixPath(clip.id).parts
        index = int(Path(file).stem.rpartition("_")[2])
        return compose(self.classes, label, f"{self._settings['seed']}/{split}/{label}/{index}")

    def _draw(self, missing: list[Clip]) -> None:
        """Write these clips, with a progress bar on stderr."""
        if missing:
            _film.check_codecs()
        for clip in tqdm(missing, desc="drawing the demo", unit="clip", leave=False, disable=not missing):
            scene = self.scene(clip)
            _film.write(self.root / clip.id, scene.frames, scene.wave)

    def _clips(self, split: str) -> tuple[Clip, ...]:
        names = [f"{split}/{c}/{c}_{index:03d}.mp4" for c in self.classes for index in range(self._sizes[split])]
        return tuple(Clip(id=name, path=self.root / name, label=name.split("/")[1]) for name in names)


def compose(classes: tuple[str, ...], label: str, key: str) -> Scene:
    """Draw and voice one clip of ``label``. ``key`` seeds it; ``classes`` are those a silent thing may be of."""
    # A generator for each part: another choice of silent things must not change the sound or the ground.
    sound_rng, look_rng, place_rng, other_rng = (np.random.default_rng(s) for s in _seed(key).spawn(4))
    kinds = {kind.name: kind for kind in KINDS}
    sound = kinds[label].voice(sound_rng)
    beats = [_per_frame(sound.beat)]
    others = [name for name in classes if name != label]
    names = [str(name) for name in other_rng.permutation(others)[: other_rng.integers(1, 3)]]
    beats += [_unrelated(_per_frame(kinds[name].voice(other_rng).beat), beats[0], other_rng) for name in names]

    centres = _places(place_rng)[: 1 + len(names)]
    radii = place_rng.uniform(*RADIUS, 3)[: len(centres)]
    picture = np.repeat(wallpaper(look_rng)[None], FRAMES, axis=0)
    things = (label, *names)
    rngs = (look_rng, other_rng, other_rng)
    pens = [pen_at(picture, *each) for each in zip(rngs, centres, map(float, radii), beats, strict=False)]
    for thing in other_rng.permutation(len(things)):  # what lies in front must not tell which one sounds
        kinds[things[thing]].draw(pens[thing])
    picture *= 255.0
    return Scene(
        frames=np.clip(picture, 0.0, 255.0, out=picture).round(out=picture).astype(np.uint8),
        wave=voice.in_a_room(sound.wave, sound_rng),
        things=things,
        beats=np.stack(beats),
        centres=centres,
        radii=radii.astype(np.float32),
    )


def _seed(key: str) -> np.random.SeedSequence:
    """The same seed for the same words in every process: Python's own ``hash`` is salted."""
    return np.random.SeedSequence(int.from_bytes(hashlib.sha256(key.encode()).digest()))


def _per_frame(beat: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """(samples,) to (frames,): the hardest work while a frame is shown, so that no stroke falls between two frames."""
    return np.asarray(beat.reshape(FRAMES, -1).max(axis=1), np.float32)


def _unrelated(
    beat: npt.NDArray[np.float32], sounding: npt.NDArray[np.float32], rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """``beat`` (frames,), shifted in time so that it does not by chance go with the ``sounding`` thing's.

    Its rhythm is left as it is: what gives a silent thing away must be its timing and nothing else.
    """
    steps = np.arange(FRAMES)
    shifts = beat[(steps + rng.permutation(FRAMES)[:, None]) % FRAMES]
    one, two = shifts - shifts.mean(axis=1, keepdims=True), sounding - sounding.mean()
    likeness = np.abs(one @ two) / (np.linalg.norm(one, axis=1) * np.linalg.norm(two) + 1e-9)
    good = np.flatnonzero(likeness < 0.25)
    chosen: npt.NDArray[np.float32] = shifts[good[0] if good.size else likeness.argmin()]
    return chosen


def _places(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """(3, frames, 2) pixels: where three things are, apart from each other, and how they drift (6 pixels at most)."""
    low, high = 25.0, SIDE - 25.0
    draws = rng.uniform(low, high, (200, 3, 2))
    gaps = np.linalg.norm(draws - np.roll(draws, 1, axis=1), axis=2).min(axis=1)
    good = np.flatnonzero(gaps > APART)
    middle = draws[good[0] if good.size else gaps.argmax()]
    angle, speed = rng.uniform(0, 2 * np.pi, 3), rng.uniform(0.0, 3.0, 3)
    drift = (speed * np.stack([np.cos(angle), np.sin(angle)])).T  # pixels in a second
    time = (np.arange(FRAMES) / FPS - 1.0)[None, :, None]
    return np.asarray(middle[:, None] + time * drift[:, None], np.float32)


def _claim(root: Path, settings: dict[str, int]) -> None:
    """Make ``root`` the place of this demo, or raise if it is the place of something else."""
    note = root / "demo.json"
    if note.is_file():
        if _read(note) != settings:
            raise HarkbackError(
                "here lies a demo made with other settings", where=root, mend="take an empty folder, or delete this one"
            )
        return
    if root.exists() and (not root.is_dir() or any(not p.name.startswith(".") for p in root.iterdir())):
        raise HarkbackError(
            "this is not a demo, and nothing is written among other files", where=root, mend="take an empty folder"
        )
    write_json(note, settings)


def _read(note: Path) -> object:
    try:
        return json.loads(note.read_text(encoding="utf-8"))
    except ValueError:
        return None  # not our writing: we never leave half a file
