"""`harkback.windows`: how long a file lasts, how it is cut, and that each window is what it would be alone."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fakes import RATE, Fake
from films import film, gray
from harkback import windows as module
from harkback.encoders import EncoderSpec
from harkback.errors import HarkbackError
from harkback.media import Media, MediaError, NotMedia, Truncated, read
from harkback.windows import decoded, length_of, windows


def noise(seconds: float, rate: int = RATE, seed: int = 0) -> NDArray[np.float64]:
    """(1, samples)"""
    return np.random.default_rng(seed).uniform(-0.9, 0.9, (1, round(seconds * rate)))


def wav(path: Path, sound: NDArray[np.float64]) -> Path:
    return film(path, [], sound=sound, sound_codec="pcm_s16le", sound_rate=RATE)


def stripped(path: Path, start: float, end: float) -> Path:
    """The same film, its packets between two times overwritten with zeros."""
    with av.open(str(path)) as container:
        at = [
            (packet.pos, packet.size)
            for packet in container.demux()
            if packet.pos is not None and packet.pts is not None and start <= packet.pts * packet.time_base < end
        ]
    data = bytearray(path.read_bytes())
    for position, size in at:
        data[position : position + size] = bytes(size)
    assert at
    path.write_bytes(data)
    return path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """The window of every read, as it happens."""
    seen: list[tuple[float, float]] = []

    def counted(path: Path, **rest: object) -> Media:
        seen.append((rest["start"], rest["end"]))  # type: ignore[arg-type]
        return read(path, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "read", counted)
    return seen


# ---- how long -------------------------------------------------------------------------------------------------------


def test_a_file_lasts_as_long_as_its_longer_half(tmp_path: Path) -> None:
    images = [gray(100)] * 50  # 2 s
    for seconds, name in [(1.0, "short.mkv"), (3.0, "long.mkv")]:
        path = film(tmp_path / name, images, sound=noise(seconds, 44_100), sound_codec="pcm_s16le")
        assert length_of(path) == pytest.approx(max(2.0, seconds), abs=0.03)
    assert length_of(film(tmp_path / "silent.mp4", images)) == pytest.approx(2.0, abs=0.001)
    assert length_of(wav(tmp_path / "a.wav", noise(1.25))) == pytest.approx(1.25, abs=0.001)
    assert length_of(film(tmp_path / "still.png", images[:1], codec="png")) == pytest.approx(0.04, abs=0.001)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(NotMedia, match=r"none\.mp4: cannot be opened"):
        length_of(tmp_path / "none.mp4")
    (tmp_path / "notes.mp4").write_text("not a film\n" * 50)
    with pytest.raises(MediaError):
        length_of(tmp_path / "notes.mp4")
    with pytest.raises(NotMedia):
        length_of(Path("a\0b.mp4"))
    path = film(tmp_path / "cut.mkv", [gray(9 * k) for k in range(25)], sound=noise(1.0, 44_100))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(Truncated):
        length_of(path)


# ---- the cut --------------------------------------------------------------------------------------------------------


@given(st.floats(0.001, 100_000), st.floats(0.1, 10_000).filter(lambda length: length > 0))
def test_windows_cover_the_file_and_are_equal(duration: float, length: float) -> None:
    duration = min(duration, 2000 * length)
    cut = windows(duration, length)
    assert cut[0][0] == 0
    assert cut[-1][1] == duration
    assert all(before[1] == after[0] for before, after in pairwise(cut))
    lasting = [end - start for start, end in cut]
    assert min(lasting) == pytest.approx(max(lasting), rel=1e-6)
    assert lasting[0] < 1.5 * length * (1 + 1e-6)
    assert len(cut) == 1 or lasting[0] > length / 1.5 * (1 - 1e-6)


@pytest.mark.parametrize(
    ("duration", "length", "count"),
    [
        (0.04, 2, 1),
        (2.99, 2, 1),
        (3.0, 2, 2),
        (4.9, 2, 2),
        (6, 2, 3),
        (7200, 2, 3600),
        (5, math.inf, 1),
        (0, 2, 1),
        (0.04, 0.04, 1),
    ],
)
def test_how_many_windows(duration: float, length: float, count: int) -> None:
    assert len(windows(duration, length)) == count


@pytest.mark.parametrize("length", [0.0, -1.0, 0.05, 1e-320, math.nan])
def test_windows_in_which_nothing_can_be_heard(length: float) -> None:
    with pytest.raises(HarkbackError, match=r"windows cannot last .* s; take 0\.1 s or more"):
        windows(10.0, length)


# ---- what is in them ------------------------------------------------------------------------------------------------


def test_windows_of_a_film_are_those_of_read(tmp_path: Path, reads: list[tuple[float, float]]) -> None:
    images = [gray(5 * (k // 5)) for k in range(100)]  # 4 s
    path = film(tmp_path / "a.mkv", images, sound=noise(2.5, 44_100), sound_codec="pcm_s16le")
    spans = windows(length_of(path), 1.0)
    found = list(decoded(path, spans, Fake()))
    assert reads == spans
    for (start, end), media in zip(spans, found, strict=True):
        alone = read(path, frames=2, sample_rate=RATE, start=start, end=end)
        assert isinstance(media, Media)
        assert torch.equal(media.frames, alone.frames)
        assert (media.waveform is None) == (start >= 2.6)  # its sound ends before
        assert media.waveform is None or torch.equal(media.waveform, alone.waveform)


@pytest.mark.parametrize(("name", "codec"), [("a.wav", "pcm_s16le"), ("a.mp3", "libmp3lame"), ("a.ogg", "libopus")])
def test_windows_of_a_sound_are_those_of_read(
    tmp_path: Path, reads: list[tuple[float, float]], name: str, codec: str
) -> None:
    time = np.arange(9 * 48_000) / 48_000
    sound = 0.5 * np.sin(2 * np.pi * (40 * time + 10 * time**2))[None]  # 40 Hz to 220 Hz
    path = film(tmp_path / name, [], sound=sound, sound_codec=codec, sound_rate=48_000)
    spans = windows(length_of(path), 0.75)
    found = list(decoded(path, spans, Fake()))
    assert reads == [spans[0], (spans[1][0], spans[-1][1])]  # each on its own, an hour of mp3 would take an hour
    for (start, end), media in zip(spans, found, strict=True):
        alone = read(path, frames=2, sample_rate=RATE, start=start, end=end)
        assert isinstance(media, Media)
        assert media.frames is None
        assert alone.waveform is not None and media.waveform is not None
        assert media.waveform.shape == alone.waveform.shape
        # Where a window begins between two samples, one is half a sample from the other: 0.5 sin(pi 220 / 8000).
        assert (media.waveform - alone.waveform).abs().max() < (1e-4 if name == "a.wav" else 0.045)
        assert media.duration == pytest.approx(alone.duration)
        assert media.times.tolist() == pytest.approx(alone.times.tolist())


def test_a_long_sound_is_held_a_stretch_at_a_time(
    tmp_path: Path, reads: list[tuple[float, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STRETCH", 2.5)
    path = wav(tmp_path / "a.wav", noise(9.0))
    spans = windows(9.0, 1.0)
    found = decoded(path, spans, Fake())
    next(found)
    assert reads == [(0, 1)]
    next(found)
    assert reads == [(0, 1), (1, 3)]
    rest = list(found)
    assert len(rest) == 7
    assert reads[2:] == [(3, 5), (5, 7), (7, 9)]


def test_windows_longer_than_a_stretch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STRETCH", 0.5)
    path = wav(tmp_path / "a.wav", noise(3.0))
    found = list(decoded(path, windows(3.0, 1.0), Fake()))
    assert [media.duration for media in found if isinstance(media, Media)] == pytest.approx([1.0] * 3)


def test_silence_is_a_sound_and_a_gap_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    loud = noise(1.0)[0]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=RATE, layout="mono")
        # Noise, two seconds of silence, nothing for two seconds, noise.
        for begin, samples in ((0.0, np.concatenate([loud, np.zeros(2 * RATE)])), (5.0, loud)):
            frame = av.AudioFrame.from_ndarray(np.round(samples * 32767).astype(np.int16)[None], "s16", "mono")
            frame.sample_rate, frame.pts = RATE, round(begin * RATE)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    found = list(decoded(path, windows(6.0, 1.0), Fake()))
    kinds = [type(media).__name__ for media in found]
    assert kinds == ["Media"] * 3 + ["NothingInside"] * 2 + ["Media"]
    silent = found[2]
    assert isinstance(silent, Media)
    assert silent.waveform is not None
    assert silent.waveform.abs().max() == 0


def test_a_window_that_does_not_decode_is_lost_alone(tmp_path: Path) -> None:
    images = [gray(5 * (k % 40), (16, 16)) for k in range(180)]
    path = film(tmp_path / "a.mov", images, [200 * k for k in range(180)], codec="mjpeg")  # 36 s
    stripped(path, 12.0, 24.0)
    first, second, third = decoded(path, windows(36.0, 12.0), Fake())
    assert isinstance(first, Media)
    assert isinstance(second, Truncated)
    assert isinstance(third, Media)


@pytest.mark.parametrize(("start", "end", "lost"), [(0.0, 1.05, [0]), (2.9, 5.1, [3, 4])])
def test_sound_that_does_not_decode_is_lost_alone(tmp_path: Path, start: float, end: float, lost: list[int]) -> None:
    path = film(tmp_path / "a.m4a", [], sound=noise(8.0, 44_100), sound_codec="aac")
    found = list(decoded(stripped(path, start, end), windows(8.0, 1.0), Fake()))
    assert [k for k, media in enumerate(found) if isinstance(media, MediaError)] == lost


class Greedy(Fake):
    """Asks for more pictures than can be held."""

    @property
    def spec(self) -> EncoderSpec:
        return replace(super().spec, per_second=5000.0)


def test_what_is_wrong_with_every_window_is_raised(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", [gray(0)] * 50)
    with pytest.raises(MediaError, match="pictures at 5000 a second; take shorter windows"):
        list(decoded(path, [(0.0, 1.0), (1.0, 2.0)], Greedy()))
