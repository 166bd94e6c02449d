"""Small pictures of a model's clips: the right moment, in the right colours, and no longer there than their clips."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from films import film, gray
from harkback import examples, stills
from harkback.clips import Clip
from harkback.stills import SIDE


def decoded(picture: bytes) -> NDArray[np.uint8]:
    with av.open(io.BytesIO(picture)) as file:
        return next(file.decode(video=0)).to_ndarray(format="rgb24")


def rising(path: Path, size: tuple[int, int] = (48, 96)) -> Path:
    """Five seconds, one picture a second, from dark to light."""
    return film(path, [gray(level, size) for level in (20, 70, 120, 170, 220)], [0, 1000, 2000, 3000, 4000])


def clips(folder: Path, label: str, number: int) -> list[tuple[str, Clip]]:
    path = rising(folder / f"{label}.mp4")
    return [(f"{label}{k}", Clip(f"{label}{k}", path, label)) for k in range(number)]


def names(model: Path) -> set[str]:
    return {path.name for path in (model / examples.FOLDER).glob("*")}


def test_the_picture_is_of_the_middle_of_the_clip(tmp_path: Path) -> None:
    path = rising(tmp_path / "film.mp4")
    whole, last = Clip("whole", path, "a"), Clip("last", path, "b", 3.98, 60.0)
    examples.keep(tmp_path, [("whole", whole), ("last", last)], {})
    found = {key: decoded(examples.picture(tmp_path, key) or b"") for key in ("whole", "last")}
    assert {key: picture.shape for key, picture in found.items()} == dict.fromkeys(found, (SIDE // 2, SIDE, 3))
    assert {key: round(float(picture.mean())) for key, picture in found.items()} == {
        "whole": pytest.approx(120, abs=6),  # on show from 2 to 3 s
        "last": pytest.approx(220, abs=6),  # the film ends at 4.04 s
    }


def test_no_class_has_more_than_a_few(tmp_path: Path) -> None:
    examples.keep(tmp_path, [*clips(tmp_path, "cat", 5), *clips(tmp_path, "dog", 1)], {})
    assert names(tmp_path) == {"cat0.jpg", "cat1.jpg", "cat2.jpg", "dog0.jpg"}
    more = [(f"{key}+", clip) for key, clip in [*clips(tmp_path, "cat", 2), *clips(tmp_path, "dog", 5)]]
    examples.keep(tmp_path, more, {"cat": [f"cat{k}" for k in range(5)], "dog": ["dog0"]})
    assert names(tmp_path) == {"cat0.jpg", "cat1.jpg", "cat2.jpg", "dog0.jpg", "dog0+.jpg", "dog1+.jpg"}
    keys = {"cat": ["cat4", "cat2", "cat1", "cat0"], "dog": ["dog9"]}
    assert examples.found(tmp_path, keys) == {"cat": ["cat2", "cat1", "cat0"], "dog": []}


def test_what_has_no_picture_has_none_here(tmp_path: Path) -> None:
    sound = film(tmp_path / "a.wav", [], sound=np.zeros((1, 8000)), sound_codec="pcm_s16le", sound_rate=8000)
    (tmp_path / "b.mp4").write_bytes(b"broken")
    silent = [("sound", Clip("a", sound, "a")), ("broken", Clip("b", tmp_path / "b.mp4", "a"))]
    examples.keep(tmp_path, [*silent, *clips(tmp_path, "a", 1)], {})
    assert names(tmp_path) == {"a0.jpg"}
    assert examples.picture(tmp_path, "sound") is None


def test_pictures_of_clips_that_are_gone_are_swept(tmp_path: Path) -> None:
    examples.keep(tmp_path, [*clips(tmp_path, "cat", 2), *clips(tmp_path, "dog", 2)], {})
    examples.sweep(tmp_path, {"cat1", "dog0", "other"})
    assert names(tmp_path) == {"cat1.jpg", "dog0.jpg"}


def test_clips_of_each_class_are_read_off_the_facts() -> None:
    sessions = [
        {"did": "teach", "clips": {"cat": ["1", "2"], "dog": ["3"]}},
        {"did": "forget", "classes": 1},
        {"did": "teach", "clips": {"cat": ["4"]}},
    ]
    assert examples.learnt({"classes": ["dog", "cat"], "sessions": sessions}) == {"dog": ["3"], "cat": ["1", "2", "4"]}


def test_a_jpeg_shows_what_it_was_made_of() -> None:
    rows, columns = torch.meshgrid(torch.linspace(0, 255, 60), torch.linspace(0, 255, 80), indexing="ij")
    frame = torch.stack([rows, columns, 255 - rows], 2).round().byte()
    shown = decoded(stills.jpeg(frame))
    assert shown.shape == frame.shape
    assert np.abs(shown.astype(int) - frame.numpy()).mean() < 4
