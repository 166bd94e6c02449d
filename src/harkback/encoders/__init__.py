"""Frozen encoders: sound and pictures of a clip -> dense tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from harkback.features import Features, TokenShape
from harkback.files import fingerprint
from harkback.media import Media


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """What made some features. It is part of their identity: equal specs mean features that may stand together."""

    name: str
    revision: str  #: changes whenever the same clip would give other tokens
    licence: str  #: of the weights, as an SPDX name or the licence's own
    shape: TokenShape
    frames: int  #: pictures a clip is asked for
    sample_rate: int  #: Hz the sound is resampled to
    preprocessing: Mapping[str, Any]  #: everything else that changes the tokens, as plain facts
    libraries: Mapping[str, str]  #: versions of the libraries that compute the tokens

    def facts(self) -> dict[str, Any]:
        return {**asdict(self), "shape": self.shape._asdict()}

    @property
    def key(self) -> str:
        """A short name for the spec, libraries left out: an update of a library does not orphan a store."""
        return fingerprint({name: fact for name, fact in self.facts().items() if name != "libraries"})


class Encoder(Protocol):
    """Frozen: the same media give the same tokens, whatever else is in the batch."""

    @property
    def spec(self) -> EncoderSpec: ...
    @property
    def in_workers(self) -> bool:
        """Needs no device: made anew in each worker process and run there, beside the decoding."""
        ...

    def encode(self, media: Sequence[Media]) -> Features:
        """Row ``i`` is ``media[i]``, and its id is ``str(i)``: media have no names, the caller gives them."""
        ...
