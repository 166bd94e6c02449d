"""The features that AV-CIL's authors released: which files they are, what is in them, and what made them.

From their loaders and extraction scripts (repository weiguoPian/AV-CIL_ICCV2023): each benchmark has a file
``audio_pretrained_feature/audio_pretrained_feature_dict.npy``, a pickled dict of vectors by id. AVE has
``visual_pretrained_feature/visual_pretrained_feature_dict.npy``, the same of the pictures' tokens; the others have
``visual_pretrained_feature/visual_features.h5`` with one HDF5 dataset an id. A vector is (768,), the tokens of the
pictures are (1568, 768): 8 instants, each of two pictures, of 14 x 14 patches. All are float32.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harkback.datasets._hdf5_arrays import Hdf5Arrays
from harkback.datasets._pickled_arrays import PickledArrays, Read
from harkback.datasets._walk import files_in
from harkback.encoders import EncoderSpec
from harkback.errors import HarkbackError
from harkback.features import TokenShape

WORDS = {"audio": ("audio",), "visual": ("visual", "video")}  #: what a path says of a file
ENDINGS = ("npy", "h5", "hdf5")
INSTANTS = 8  #: of VideoMAE, which takes 16 pictures two by two
PROBES = 16  #: clips whose pictures' tokens are part of the revision
LAYOUT = "give the folder of one benchmark's features: a .npy of audio and a .npy or .h5 of pictures, named so"

#: What the extraction scripts do. The release itself is not to be had from them to the last digit: with features of
#: their own making, others came to 66 % in AVE's first session where the release gives 79 % (issue 7 there).
PREPROCESSING = {
    "audio": "11,430 Hz, mean taken off, 128 log-mel bands every 10 ms, 1024 frames; AudioMAE ViT-B, mean of tokens",
    "visual": "16 pictures over the whole clip; VideoMAE ViT-B, pretrained on Kinetics-400 without labels; all tokens",
}


class Unfit(Exception):
    """An array that cannot stand for a clip, and why."""


class Arrays(Protocol):
    """A file of arrays by id."""

    @property
    def path(self) -> Path: ...
    @property
    def ids(self) -> frozenset[str]: ...
    def opened(self) -> AbstractContextManager[Read]:
        """A function from an id to its array; OSError where that cannot be read."""
        ...


def find(root: Path) -> dict[str, Path]:
    """The file of each kind, "audio" and "visual", by the word that its name or the nearest folder has."""
    if not root.is_dir():
        raise HarkbackError("is not a folder" if root.exists() else "no such folder", where=root, mend=LAYOUT)
    paths = sorted(path for path in files_in(root) if path.rpartition(".")[2].lower() in ENDINGS)
    found = {kind: [path for path in paths if _kind(path) == kind] for kind in WORDS}
    for kind, mine in found.items():
        if len(mine) != 1:
            shown = ", ".join((mine or paths)[:4]) or "no .npy or .h5 file at all"
            what = f"holds {len(mine)} files of {kind} features" + (":" if mine else "; found")
            raise HarkbackError(f"{what} {shown}", where=root, mend=LAYOUT)
    return {kind: root / mine[0] for kind, mine in found.items()}


def _kind(path: str) -> str | None:
    for part in reversed(path.lower().split("/")):
        says = [kind for kind, words in WORDS.items() if any(word in part for word in words)]
        if len(says) == 1:
            return says[0]
    return None


def open_arrays(path: Path, read_pickle: bool) -> Arrays:
    """The arrays of a file. A pickled one is read only if the user has said that he trusts it."""
    if path.suffix.lower() != ".npy":
        return Hdf5Arrays(path)
    arrays = PickledArrays(path)
    if not read_pickle:
        raise HarkbackError(
            "is a pickle, a kind of file that can be made to run any program where it is read; our reader runs "
            "nothing, but it should not have to",
            where=path,
            mend="if you trust where it comes from, add --read-pickle",
        )
    return arrays


def sound_tokens(array: NDArray[Any]) -> Tensor:
    """(768,), or (tokens, dim) -> (tokens, dim), half precision. Raises `Unfit`."""
    return _half(array, array.shape if array.ndim == 2 else (1, array.size) if array.ndim == 1 else None)


def picture_tokens(array: NDArray[Any]) -> Tensor:
    """(8, 196, dim), (8, 14, 14, dim) or (1568, dim) -> (frames, patches, dim), half precision. Raises `Unfit`."""
    shape: tuple[int, ...] | None = None
    if array.ndim == 4:
        shape = (array.shape[0], array.shape[1] * array.shape[2], array.shape[3])
    elif array.ndim == 3:
        shape = array.shape
    elif array.ndim == 2 and array.shape[0] % INSTANTS == 0:
        shape = (INSTANTS, array.shape[0] // INSTANTS, array.shape[1])
    return _half(array, shape)


def _half(array: NDArray[Any], shape: tuple[int, ...] | None) -> Tensor:
    if shape is None or 0 in shape or array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise Unfit(f"has features of a shape or kind that is not known: {array.dtype} {array.shape}")
    # A copy in the machine's own byte order: what torch can take.
    numbers = torch.from_numpy(np.array(array, array.dtype.newbyteorder("="), order="C"))
    half = numbers.half().reshape(shape)
    if not half.isfinite().all():
        beyond = bool(numbers.isfinite().all())
        raise Unfit("has features beyond half precision (65504)" if beyond else "has features that are not numbers")
    return half


def shape_of(ids: Sequence[str], sound: Arrays, picture: Arrays) -> TokenShape:
    """That of the first clip whose arrays can be read and make sense."""
    why = "there are none"
    with sound.opened() as hear, picture.opened() as look:
        for name in ids:
            try:
                return TokenShape(*sound_tokens(hear(name)).shape, *picture_tokens(look(name)).shape)
            except (OSError, Unfit) as error:
                why = f"{name} {error}"
    raise HarkbackError(f"holds no features that can be used: {why}", where=picture.path.parent, mend=LAYOUT)


def revision_of(ids: Sequence[str], sound: Arrays, picture: Arrays) -> str:
    """A short name for the content, wherever the files lie and whichever format they have.

    It covers the ids, every audio vector (188 MB for VGGSound100), and the pictures' tokens of 16 clips evenly spread
    over the sorted ids: all of those would be 300 GB to read at each start. A release of which only the tokens of other
    clips were changed keeps its name.
    """
    ids = sorted(ids)
    seen = hashlib.sha256(json.dumps(ids).encode())
    probes = {ids[round(i * (len(ids) - 1) / max(1, PROBES - 1))] for i in range(PROBES)}
    with sound.opened() as hear, picture.opened() as look:
        for name in ids:
            _see(seen, hear, name)
        for name in sorted(probes):
            _see(seen, look, name)
    return seen.hexdigest()[:16]


def _see(seen: Any, read: Read, name: str) -> None:
    try:
        array = read(name)
        numbers = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        seen.update(f"{numbers.dtype.str} {numbers.shape}".encode() + numbers.tobytes())
    except OSError as error:
        seen.update(str(error).encode())


def spec_of(benchmark: str, ids: Sequence[str], sound: Arrays, picture: Arrays) -> EncoderSpec:
    """The release as an encoder.

    Licence: that of the weights of both models (AudioMAE's LICENSE file, though its README says CC-BY; VideoMAE's model
    card). None is known of the release itself.
    """
    shape = shape_of(ids, sound, picture)
    return EncoderSpec(
        name="avcil-released",
        revision=revision_of(ids, sound, picture),
        licence="CC-BY-NC-4.0",
        shape=shape,
        frames=2 * shape.frames,
        sample_rate=11_430,
        preprocessing={"benchmark": benchmark, **PREPROCESSING},
        computed_with={"precision": "as released, kept in half"},
    )
