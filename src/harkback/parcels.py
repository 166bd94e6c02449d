"""What a worker process hands over: decoded or encoded clips as NumPy arrays with a few facts.

Tensors would travel as file descriptors, of which there are only so many.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harkback.features import Arrays, Features
from harkback.media import Media

Parcel = tuple[dict[str, Any], dict[str, NDArray[Any]]]  #: facts that JSON can hold, and arrays by name


def packed(of: Media | Features) -> Parcel:
    if isinstance(of, Features):
        return {"ids": list(of.ids)}, {name: _array(getattr(of, name)) for name in Arrays._fields}
    arrays = {"waveform": of.waveform, "frames": of.frames, "times": of.times}
    facts = {"sample_rate": of.sample_rate, "duration": of.duration}
    return facts, {name: _array(tensor) for name, tensor in arrays.items() if tensor is not None}


def unpacked(parcel: Parcel) -> Media | Features:
    facts, arrays = parcel
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    if "ids" in facts:
        return Features(tuple(facts["ids"]), **tensors)
    return Media(
        tensors.get("waveform"), facts["sample_rate"], tensors.get("frames"), tensors["times"], facts["duration"]
    )


def _array(tensor: Tensor) -> NDArray[Any]:
    return np.ascontiguousarray(tensor.numpy())
