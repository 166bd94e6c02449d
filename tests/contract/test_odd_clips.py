"""What lies in people's folders: every encoder gives tokens and masks for it, or it is skipped with a clear reason."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from films import film
from harkback.clips import Clip
from harkback.encoders import Encoder
from harkback.extract import Extraction, extract

HEARD, SEEN = "heard", "seen"


def wav(path: Path, samples: NDArray[np.float64], rate: int) -> Path:
    """samples: (channels, samples) in [-1, 1]."""
    with path.open("wb") as file, wave.open(file) as out:
        out.setnchannels(len(samples))
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes((samples.T * 32767).round().astype("<i2").tobytes())
    return path


def noise(seconds: float, rate: int, channels: int = 1) -> NDArray[np.float64]:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (channels, max(1, round(seconds * rate))))


def pictures(count: int, height: int, width: int) -> list[NDArray[np.uint8]]:
    shade = np.linspace(0, 255, height * width * 3, dtype=np.uint8).reshape(height, width, 3)
    return [np.roll(shade, 40 * k, 0) for k in range(count)]


def encoded(encoder: Encoder, path: Path, store: Path) -> Extraction:
    return extract([Clip(path.name, path, "odd")], encoder, store / "features", workers=0)


def check(found: Extraction, *there: str) -> None:
    assert not found.skips
    rows = found.features[torch.tensor([0])]
    assert rows.heard.tolist() == [HEARD in there]
    assert rows.seen.tolist() == [SEEN in there]
    for tokens, name in ((rows.audio, HEARD), (rows.visual, SEEN)):
        assert tokens.isfinite().all()
        assert bool(tokens.any()) == (name in there)


@pytest.mark.parametrize(
    ("seconds", "rate", "channels"),
    [(0.5, 48_000, 1), (0.5, 44_100, 2), (0.5, 8_000, 1), (0.01, 48_000, 1), (0.01, 8_000, 2), (0.5, 192_000, 1)],
)
def test_sounds(encoder: Encoder, tmp_path: Path, seconds: float, rate: int, channels: int) -> None:
    check(encoded(encoder, wav(tmp_path / "a.wav", noise(seconds, rate, channels), rate), tmp_path), HEARD)


def test_silence_is_heard(encoder: Encoder, tmp_path: Path) -> None:
    found = encoded(encoder, wav(tmp_path / "a.wav", np.zeros((1, 24_000)), 48_000), tmp_path)
    assert not found.skips
    assert found.features[torch.tensor([0])].heard.all()


def test_a_film_without_sound(encoder: Encoder, tmp_path: Path) -> None:
    check(encoded(encoder, film(tmp_path / "a.mp4", pictures(12, 48, 64)), tmp_path), SEEN)


def test_one_picture(encoder: Encoder, tmp_path: Path) -> None:
    check(
        encoded(encoder, film(tmp_path / "a.mp4", pictures(1, 48, 64), sound=noise(0.04, 44_100)), tmp_path),
        HEARD,
        SEEN,
    )


def test_a_portrait_film_in_4k(encoder: Encoder, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", pictures(3, 2160, 3840), turn=(90, False), sound=noise(0.12, 44_100, 2))
    check(encoded(encoder, path, tmp_path), HEARD, SEEN)


@pytest.mark.slow
def test_half_an_hour(encoder: Encoder, tmp_path: Path) -> None:
    check(encoded(encoder, wav(tmp_path / "a.wav", noise(1800, 8_000), 8_000), tmp_path), HEARD)


def test_what_is_no_clip_is_skipped_by_name(encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("these are words")
    found = encoded(encoder, tmp_path / "a.mp4", tmp_path)
    assert len(found.clips) == 0
    assert [skip.id for skip in found.skips] == ["a.mp4"]
    assert found.skips[0].reason
