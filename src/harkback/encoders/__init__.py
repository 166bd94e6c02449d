"""Frozen encoders: sound and pictures of a clip -> dense tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harkback.errors import HarkbackError
from harkback.features import Features, TokenShape
from harkback.files import fingerprint
from harkback.media import Media, Picture

if TYPE_CHECKING:
    from harkback.engine import Engine


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """What made some features. It is part of their identity: equal specs mean features that may stand together."""

    name: str
    revision: str  #: changes whenever the same clip would give other tokens
    licence: str  #: of the weights, as an SPDX name or the licence's own
    shape: TokenShape
    frames: int  #: pictures a clip is asked for, at least
    sample_rate: int  #: Hz the sound is resampled to
    preprocessing: Mapping[str, Any]  #: everything else that changes the tokens, as plain facts
    computed_with: Mapping[str, str]  #: versions of the libraries that compute the tokens, and the precision
    per_second: float = 0.0  #: pictures a second that a clip is asked for where that is more; a multiple of ``frames``

    def facts(self) -> dict[str, Any]:
        """What JSON can hold of it."""
        return {**asdict(self), "shape": self.shape._asdict()}

    @property
    def key(self) -> str:
        """A short name for the spec, without what it is computed with.

        An update of a library does not orphan a store, and what was taught on a GPU can be asked on a laptop.
        """
        return fingerprint({name: fact for name, fact in self.facts().items() if name != "computed_with"})


class Encoder(Protocol):
    """Frozen: the same media give the same tokens, whatever else is in the batch.

    An encoder that needs no model is made with no arguments. One that needs a model has, besides,
    ``from_pretrained(folder_or_id, *, device=None, dtype=None, settings=None)``, a dataclass ``Settings`` whose fields
    become flags of the command line, and ``MODELS``, the hub ids it is known to read.
    """

    @property
    def spec(self) -> EncoderSpec:
        """What it makes, and from what."""
        ...

    @property
    def in_workers(self) -> bool:
        """Needs no device: made anew in each worker process and run there, beside the decoding."""
        ...

    @property
    def picture(self) -> Callable[[Picture], Picture] | None:
        """What a worker does to each picture as soon as it is decoded, so that no clip is held at full size.

        (height, width, 3) -> the same for any picture; it must be able to travel to a process, and not change what
        `encode` makes of the picture. None: nothing.
        """
        ...

    def encode(self, media: Sequence[Media]) -> Features:
        """Row ``i`` is ``media[i]``, and its id is ``str(i)``: media have no names, the caller gives them."""
        ...


BATCH = 8  #: clips that an encoder with a device is given at once


@dataclass(frozen=True, slots=True)
class Opening:
    """How an encoder is opened. Travels to the machine that has its device."""

    name: str
    model: str | Path | None = None  #: a folder or a hub id, for encoders that need one
    device: str | None = None  #: None: a GPU if there is one
    dtype: str | None = None  #: None: bfloat16 on a GPU, else float32
    settings: Any = None  #: the encoder's `Settings`; None: the defaults

    def open(self, on: Engine | None = None) -> Encoder:
        """on: machines that will encode instead of this one."""
        if on is not None:
            return on.opened(self)
        return open_encoder(self.name, self.model, device=self.device, dtype=self.dtype, settings=self.settings)


@dataclass(frozen=True, slots=True)
class Bare:
    """An encoder by its description: it says how clips are to be decoded, and travels light. It encodes nothing."""

    spec: EncoderSpec
    picture: Callable[[Picture], Picture] | None
    in_workers: bool = False
    opening: Opening | None = None  #: of the encoder itself, if whoever holds the description may open it elsewhere

    def encode(self, media: Sequence[Media]) -> Features:
        """It cannot: raises `TypeError`."""
        raise TypeError(f"{self.spec.name} is somewhere else: {len(media)} clips cannot be encoded here")


def bare(encoder: Encoder) -> Encoder:
    """What of an encoder goes to a process that decodes: all of it, or its description if it needs a device."""
    return encoder if encoder.in_workers else Bare(encoder.spec, encoder.picture)


def open_encoder(
    name: str,
    model: str | Path | None = None,
    *,
    device: str | None = None,
    dtype: str | None = None,
    settings: Any = None,
) -> Encoder:
    """The encoder of that name. model: a folder or a hub id, for encoders that need one; settings: their `Settings`.

    Raises `HarkbackError`; nothing is fetched from anywhere unless ``model`` is a hub id.
    """
    from harkback.registry import ENCODERS

    kind = ENCODERS.load(name)
    if not hasattr(kind, "from_pretrained"):
        for flag, given in (("--model", model), ("--device", device), ("--dtype", dtype)):
            if given is not None:
                raise HarkbackError(f'encoder "{name}" computes without a model', where=flag, mend="leave it out")
        plain: Encoder = kind()
        return plain
    if model is None:
        known = f", or one of {', '.join(kind.MODELS)}" if getattr(kind, "MODELS", ()) else ""
        raise HarkbackError(f'encoder "{name}" needs a model', where="--model", mend=f"give a folder{known}")
    loaded: Encoder = kind.from_pretrained(model, device=device, dtype=dtype, settings=settings)
    return loaded
