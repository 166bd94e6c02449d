"""The model as the app holds it: as it lies in its folder now, whoever changed it last."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harkback import __version__, examples
from harkback.app.words import Bounds, KnownClass, ModelFacts, Problem
from harkback.confined import Confined, Limits, Say
from harkback.encoders import Encoder, EncoderSpec, open_encoder
from harkback.errors import HarkbackError
from harkback.features import Features
from harkback.learners.base import Looks
from harkback.media import Media, Picture
from harkback.model import Model
from harkback.teaching import MAX_DROP
from harkback.told import did
from harkback.vault import Vault
from harkback.workers import cores


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a client may send."""

    bytes: int = 512 << 20  #: of a file
    seconds: float = 3600.0  #: that a clip may last
    files: int = 200  #: of a lesson

    @property
    def lesson_bytes(self) -> int:
        """Of all files of a lesson."""
        return 4 * self.bytes


@dataclass(frozen=True, slots=True)
class InTurn:
    """An encoder on a device, asked by one thread at a time."""

    encoder: Encoder
    lock: Any = field(default_factory=threading.Lock)
    in_workers: bool = False

    @property
    def spec(self) -> EncoderSpec:
        return self.encoder.spec

    @property
    def picture(self) -> Callable[[Picture], Picture] | None:
        return self.encoder.picture

    def encode(self, media: Sequence[Media]) -> Features:
        with self.lock:
            return self.encoder.encode(media)


class Held:
    """One model's folder. Its methods may be called from any thread."""

    def __init__(
        self, path: Path, *, weights: str | None = None, device: str | None = None, dtype: str | None = None
    ) -> None:
        """weights: where the model of its encoder lies, if not where it lay when it was taught."""
        self.path, self._vault = path, Vault(path)
        self._vault.check_place()
        self._how = {"device": device, "dtype": dtype}
        self._weights = weights
        self._model: Model | None = None
        self._encoder: tuple[str, Encoder] | None = None
        self._knows: tuple[int, str] | None = None
        self._lock, self._drawing = threading.RLock(), threading.Lock()
        self.scoring = threading.Lock()  #: held by whoever asks the learner

    @property
    def name(self) -> str:
        return self._vault.name

    @property
    def version(self) -> int:
        """How often it was changed; 0: nothing was taught yet."""
        model = self.model()
        return 0 if model is None else int(model.facts["version"])

    def model(self) -> Model | None:
        """None: there is nothing in the folder yet."""
        with self._lock:
            if not self._vault.exists:
                self._model = None
            elif self._model is None:
                self._model = Model(self.path)
            else:
                try:
                    self._model.refresh()
                except HarkbackError:  # It is damaged, and what it was before must not go on answering.
                    self._model = None
                    raise
            return self._model

    def taught(self) -> Model:
        """The model, or a refusal that it knows nothing yet."""
        model = self.model()
        if model is None:
            raise Problem(409, "the model knows no class yet; teach it some clips first")
        return model

    def encoder(self) -> Encoder:
        """The model's, or that of a model to come."""
        with self._lock:
            model = self.model()
            key = "" if model is None else str(model.facts["encoder_key"])
            if self._encoder is None or self._encoder[0] != key:
                found = open_encoder("signal") if model is None else model.encoder(self._weights, **self._how)
                self._encoder = key, found if found.in_workers else InTurn(found)
            return self._encoder[1]

    def facts(self, allowed: Allowed) -> ModelFacts:
        bounds = Bounds(
            bytes=allowed.bytes,
            lesson_bytes=allowed.lesson_bytes,
            seconds=allowed.seconds,
            files=allowed.files,
            max_drop=MAX_DROP,
        )
        model = self.model()
        if model is None:
            return ModelFacts(
                name=self.name,
                version=0,
                harkback=__version__,
                learner=None,
                encoder=None,
                false_alarm=0.05,
                says_unknown=False,
                looks=False,
                undoable=False,
                last=None,
                sessions=0,
                classes=[],
                limits=bounds,
            )
        pupil, facts = model.pupil, model.facts
        marks: dict[str, Sequence[int]] = {}
        for record in facts["sessions"]:
            marks = record.get("exam", marks)
        clips = examples.learnt(facts)
        pictures = examples.found(self.path, clips)
        known = [
            KnownClass(
                name=name,
                clips=len(keys),
                right=marks.get(name, (0, 0))[0],
                asked=marks.get(name, (0, 0))[1],
                examples=[f"/examples/{key}" for key in pictures[name]],
            )
            for name, keys in clips.items()
        ]
        return ModelFacts(
            name=self.name,
            version=facts["version"],
            harkback=__version__,
            learner=facts["learner"]["name"],
            encoder=facts["encoder"]["name"],
            false_alarm=facts["false_alarm"],
            says_unknown=pupil.calibration.threshold(pupil.false_alarm) is not None,
            looks=isinstance(pupil.learner, Looks),
            undoable=self._vault.keeps,
            last=did(facts["sessions"][-1]),
            sessions=len(facts["sessions"]),
            classes=known,
            limits=bounds,
        )

    def example(self, key: str) -> bytes | None:
        """A JPEG; None: the model has no such clip, or no picture of it."""
        model = self.model()
        clips = {} if model is None else examples.learnt(model.facts)
        return examples.picture(self.path, key) if any(key in keys for keys in clips.values()) else None

    def forget(self, name: str) -> None:
        """Take a class out, in a process of its own: the server stays awake, and what that takes is given back."""
        self.taught()
        with Confined(_forget, self.path, name, limits=Limits(), threads=cores()) as running:
            list(running)

    def knows(self) -> str:
        """What it knows, as the sections of a page; "" if nothing."""
        with self._drawing:
            version = self.version
            if not version:
                return ""
            if self._knows is None or self._knows[0] != version:
                with Confined(_portrait, self.path, limits=Limits()) as running:
                    ((facts, _),) = running
                self._knows = version, facts["html"]
            return self._knows[1]


def _forget(say: Say, path: Path, name: str) -> None:
    del say
    Model(path).forget(name)


def _portrait(say: Say, path: Path) -> None:
    """In a process of its own: the drawing library would stay in the server's memory."""
    say(({"html": Model(path).sections()}, {}))
