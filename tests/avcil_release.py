"""Files as AV-CIL's authors released them, small: real ids, made-up features that tell the classes apart."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from harkback.datasets._avcil import bench

AUDIO = Path("audio_pretrained_feature") / "audio_pretrained_feature_dict.npy"
VISUAL = {
    "npy": Path("visual_pretrained_feature") / "visual_pretrained_feature_dict.npy",
    "h5": Path("visual_pretrained_feature") / "visual_features.h5",
}


def some_of(name: str, per_class: int, classes: int | None = None) -> dict[str, str]:
    """id -> class name: the first few clips of each split and class of a benchmark; classes: the first few alone."""
    whole = bench(name)
    chosen: dict[str, str] = {}
    for listed in whole.splits.values():
        for label in whole.protocol.order[:classes]:
            chosen |= dict.fromkeys([clip for clip, of in listed.items() if of == label][:per_class], label)
    return chosen


def features_of(
    clip: str, label: str, shape: tuple[int, ...] = (2, 8, 10), audio_dim: int = 12, seed: int = 0, noise: float = 0.5
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(audio_dim,) and ``shape``: noise of the clip about the mean of its class. They depend on the arguments alone."""

    def some(what: str, *size: int) -> NDArray[np.float32]:
        number = int.from_bytes(hashlib.sha256(f"{seed} {what}".encode()).digest()[:8])
        return np.random.default_rng(number).standard_normal(size).astype(np.float32)

    sound = some(f"sound of {label}", audio_dim) + noise * some(f"sound of {clip}", audio_dim)
    picture = some(f"look of {label}", shape[-1]) + noise * some(f"look of {clip}", *shape)
    return sound.astype(np.float32), picture.astype(np.float32)


def write_release(
    folder: Path,
    name: str,
    per_class: int,
    kind: Literal["npy", "h5"] = "npy",
    shape: tuple[int, ...] = (2, 8, 10),
    audio_dim: int = 12,
    seed: int = 0,
    classes: int | None = None,
    noise: float = 0.5,
) -> list[str]:
    """Write a release of a few clips of every split and class of a benchmark; returns their ids.

    kind: of the file of the pictures' tokens (AVE's is "npy", the others' "h5"). shape: of one clip's pictures' tokens,
    (frames, patches, dim), or as released (frames * patches, dim) with 8 frames. classes: only the first few.
    """
    chosen = some_of(name, per_class, classes)
    both = {clip: features_of(clip, label, shape, audio_dim, seed, noise) for clip, label in chosen.items()}
    write_arrays(folder / AUDIO, {clip: sound for clip, (sound, _) in both.items()})
    write_arrays(folder / VISUAL[kind], {clip: picture for clip, (_, picture) in both.items()})
    return list(chosen)


def write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """A pickled dict in a ``.npy`` file, or an HDF5 file with a dataset a clip."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, arrays, allow_pickle=True)  # type: ignore[arg-type]
        return
    with h5py.File(path, "w") as file:
        for clip, array in arrays.items():
            file.create_dataset(clip, data=array)
