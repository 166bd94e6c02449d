"""The flags by which a command is told what turns clips into features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harkback.errors import HarkbackError

if TYPE_CHECKING:
    from harkback.datasets import Dataset
    from harkback.encoders import Encoder
    from harkback.engine import Engine


@dataclass(frozen=True, slots=True)
class Encoding:
    """What turns clips into features."""

    encoder: str | None = None  #: turns clips into features: signal (none), sam-audio, pe-av, or another installed one
    model: str | None = None  #: of sam-audio or pe-av: a folder, or an id of the Hugging Face hub
    device: str | None = None  #: where the model runs, like cuda or cpu; none: a GPU if there is one
    dtype: str | None = None  #: precision of the model, float32 or bfloat16; none: bfloat16 on a GPU, else float32

    def opened(self, settings: Mapping[str, Any], on: Engine | None = None) -> Encoder:
        """settings: of each encoder that has some, by name; on: machines that will encode instead of this one."""
        from harkback.encoders import Opening

        name = self.encoder or "signal"
        return Opening(name, self.model, self.device, self.dtype, settings.get(name)).open(on)

    def opened_for(self, dataset: Dataset, settings: Mapping[str, Any], on: Engine | None = None) -> Encoder | None:
        """None for a dataset that comes as features."""
        from harkback.datasets import Encoded

        if not isinstance(dataset, Encoded):
            return self.opened(settings, on)
        for flag in ("encoder", "model", "device", "dtype"):
            if getattr(self, flag) is not None:
                raise HarkbackError(f"{dataset.name} comes as features", where=f"--{flag}", mend="leave it out")
        return None
