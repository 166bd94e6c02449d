"""`harkback.media`: the right picture at the right time, the right sample at the right place, and typed failures.

Files are written here, with PyAV. A picture is of one gray level that tells its number, so that the one chosen at a
time is known; a click or a tone at a known time tells where the sound landed.
"""

from __future__ import annotations

import math
import os
import random
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from films import film, gray
from harkback import _container, media
from harkback.media import Media, MediaError, NothingInside, NotMedia, Truncated, ZeroLength, read

RATE = 16_000


# ---- files ----------------------------------------------------------------------------------------------------------


def click(seconds: float, at: float, rate: int = 44_100) -> NDArray[np.float64]:
    """(1, samples): a short smooth pulse whose top is at ``at`` seconds."""
    time = np.arange(round(seconds * rate)) / rate - at
    return 0.8 * np.exp(-((time / 0.0005) ** 2))[None]


def tone(seconds: float, hertz: float = 440.0, rate: int = 44_100, loud: float = 0.5) -> NDArray[np.float64]:
    return loud * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)[None]


def levels(clip: Media) -> list[int]:
    """The gray level of each picture, at its middle."""
    assert clip.frames is not None
    return [int(image[image.shape[0] // 2, image.shape[1] // 2, 1]) for image in clip.frames]


def shown(clip: Media, step: int = 20, first: int = 0) -> list[int]:
    """The number of each picture, where level = first + step * number."""
    return [round((level - first) / step) for level in levels(clip)]


def samples(clip: Media) -> NDArray[np.float32]:
    assert clip.waveform is not None
    assert clip.waveform.shape == (1, round(clip.duration * clip.sample_rate))
    assert clip.waveform.dtype == torch.float32
    assert clip.waveform.abs().max() <= 1
    return np.asarray(clip.waveform[0].numpy(), np.float32)


# ---- pictures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "ffv1"), ("mp4", "mpeg4"), ("mp4", "libx264"), ("mov", "mjpeg")])
@pytest.mark.parametrize("origin", [0, 3000])
def test_picture_is_the_one_on_show_at_its_time(tmp_path: Path, suffix: str, codec: str, origin: int) -> None:
    stamps = [0, 40, 50, 400, 410, 700, 900, 1000]  # irregular: picking by number would be wrong
    images = [gray(20 * k) for k in range(len(stamps))]
    path = film(tmp_path / f"film.{suffix}", images, [origin + stamp for stamp in stamps], codec=codec)
    clip = read(path, frames=16, sample_rate=RATE)
    assert clip.waveform is None
    assert clip.frames is not None
    assert clip.frames.shape == (16, 32, 32, 3)
    assert clip.frames.dtype == torch.uint8
    assert 1.0 <= clip.duration <= 1.2  # how long the last is shown is up to the format
    assert clip.times.tolist() == pytest.approx([(k + 0.5) * clip.duration / 16 for k in range(16)])
    assert shown(clip) == [sum(stamp <= 1000 * time for stamp in stamps) - 1 for time in clip.times.tolist()]


def test_frames_repeat_where_a_clip_has_fewer(tmp_path: Path) -> None:
    path = film(tmp_path / "film.mp4", [gray(20 * k) for k in range(3)])
    assert shown(read(path, frames=6, sample_rate=RATE)) == [0, 0, 1, 1, 2, 2]
    assert shown(read(path, frames=1, sample_rate=RATE)) == [1]


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "libx264"), ("mkv", "ffv1"), ("png", "png")])
def test_one_frame_is_a_clip(tmp_path: Path, suffix: str, codec: str) -> None:
    path = tmp_path / f"film.{suffix}"
    film(path, [gray(100)], codec=codec)
    clip = read(path, frames=4, sample_rate=RATE)
    assert clip.duration == pytest.approx(0.04, abs=0.002)
    assert levels(clip) == pytest.approx([100] * 4, abs=2)
    assert clip.waveform is None


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mkv", "ffv1"), ("avi", "rawvideo"), ("avi", "mpeg4"), ("mp4", "mpeg4")]
)
def test_odd_sizes(tmp_path: Path, suffix: str, codec: str) -> None:
    image = gray(0, (57, 113))
    image[:20, :40] = 200
    clip = read(film(tmp_path / f"film.{suffix}", [image] * 3, codec=codec), frames=2, sample_rate=RATE)
    assert clip.frames is not None
    assert clip.frames.shape == (2, 57, 113, 3)
    assert clip.frames[1].float().sub(torch.from_numpy(image).float()).abs().mean() < 3


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_picture_comes_upright(tmp_path: Path, degrees: int, mirrored: bool) -> None:
    image = gray(30, (32, 64))
    image[:8, :16] = 220  # one corner: any wrong turn or mirror moves it
    path = film(tmp_path / "film.mp4", [image] * 2, turn=(degrees, mirrored))
    clip = read(path, frames=1, sample_rate=RATE)
    expected = np.rot90(image, degrees // 90)  # counter-clockwise
    expected = expected[:, ::-1] if mirrored else expected
    assert clip.frames is not None
    assert clip.frames[0].shape == expected.shape
    assert np.abs(clip.frames[0].numpy().astype(int) - expected).mean() < 8


def test_size_that_changes_is_scaled_to_the_first(tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for k, (height, width) in enumerate([(48, 64), (48, 64), (20, 100), (96, 128)]):
            encoder = av.CodecContext.create("mjpeg", "w")
            encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
            encoder.time_base = Fraction(1, 10)
            picture = av.VideoFrame.from_ndarray(gray(50 * k, (height, width)), format="rgb24")
            packet = encoder.encode(picture.reformat(format="yuvj420p"))[0]
            packet.stream, packet.time_base, packet.pts, packet.dts = stream, Fraction(1, 10), k, k
            out.mux(packet)
    clip = read(path, frames=4, sample_rate=RATE)
    assert clip.frames is not None
    assert clip.frames.shape == (4, 48, 64, 3)
    assert shown(clip, step=50) == [0, 1, 2, 3]


def test_frames_without_timestamps_follow_the_nominal_rate(tmp_path: Path) -> None:
    path = film(tmp_path / "film.h264", [gray(20 * k) for k in range(10)], codec="libx264")
    with av.open(str(path)) as container:
        assert all(frame.pts is None for frame in container.decode(video=0))
    clip = read(path, frames=5, sample_rate=RATE)
    assert clip.duration == pytest.approx(0.4, abs=0.001)
    assert shown(clip) == [1, 3, 5, 7, 9]
    assert shown(read(path, frames=2, sample_rate=RATE, start=0.12, end=0.2)) == [3, 4]


# ---- long films -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One minute at 4 pictures a second, a key frame every 2.5 s, level = number mod 12; and a click at 50.25 s."""
    folder = tmp_path_factory.mktemp("long")
    images = [gray(20 * (k % 12), (16, 16)) for k in range(240)]
    stamps = [250 * k for k in range(240)]
    sound = click(60, 50.25, 8000)
    made = {
        name: film(
            folder / f"film.{name}", images, stamps, codec=codec, sound=sound, sound_codec=track, sound_rate=8000
        )
        for name, codec, track in [("mp4", "mpeg4", "aac"), ("mkv", "mpeg4", "pcm_s16le"), ("mov", "libx264", "aac")]
    }
    made["ts"] = folder / "film.ts"
    with av.open(str(made["mov"])) as source, av.open(str(made["ts"]), "w") as out:
        streams = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream_index]
                out.mux(packet)
    return made


@pytest.fixture
def packets(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The stream of every packet that is decoded, as it happens."""
    seen: list[int] = []
    decoded = _container.Track._decoded

    def counted(track: _container.Track, *rest: object) -> object:
        seen.append(track.index)
        return decoded(track, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(_container.Track, "_decoded", counted)
    return seen


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "ts"])
def test_far_pictures_are_jumped_to(long_films: dict[str, Path], suffix: str, packets: list[int]) -> None:
    with av.open(str(long_films[suffix])) as container:  # in .ts the lead-in of the sound comes before the picture
        picture = container.streams.video[0]
        late = picture.start_time * picture.time_base - container.start_time / av.time_base
        index = picture.index
    for start, end, frames in [(0.0, 60.0, 5), (40.0, 56.0, 4), (49.0, 52.0, 3)]:
        clip = read(long_films[suffix], frames=frames, sample_rate=8000, start=start, end=end)
        assert shown(clip) == [int((start + time - late) * 4 + 0.01) % 12 for time in clip.times.tolist()]
        if end < 60:
            assert np.argmax(samples(clip)) == pytest.approx((50.25 + late - start) * 8000, abs=8)
    packets.clear()
    read(long_films[suffix], frames=4, sample_rate=8000)  # at 7.5, 22.5, 37.5 and 52.5 s
    assert packets.count(index) < (160 if suffix == "ts" else 80)  # of 240


def test_jumping_that_does_not_pay_is_given_up(tmp_path: Path, packets: list[int]) -> None:
    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=1)
        stream.width = stream.height = 16
        stream.pix_fmt, stream.codec_context.gop_size = "yuv420p", 600  # one key frame, at the start
        stream.options = {"sc_threshold": "1000000000"}  # not even where the picture changes
        for k in range(100):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(gray(20 * (k % 12), (16, 16)), format="rgb24")))
        out.mux(stream.encode())
    clip = read(path, frames=8, sample_rate=RATE)
    assert shown(clip) == [int(time) % 12 for time in clip.times.tolist()]
    assert len(packets) < 150  # of 100


# ---- sound ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8000, 11_025, 44_100, 48_000])
def test_click_lands_on_its_sample(tmp_path: Path, rate: int) -> None:
    path = film(tmp_path / "a.wav", [], sound=click(1.0, 0.5, rate), sound_codec="pcm_s16le", sound_rate=rate)
    clip = read(path, frames=2, sample_rate=RATE)
    assert clip.frames is None
    assert len(samples(clip)) == RATE
    assert np.argmax(samples(clip)) == pytest.approx(8000, abs=1)
    assert samples(clip).max() == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize(
    ("name", "codec", "rate", "slack"),
    [
        ("a.flac", "flac", 44_100, 1),
        ("a.mp3", "libmp3lame", 44_100, 3),
        ("a.ogg", "libopus", 48_000, 3),
        ("a.m4a", "aac", 44_100, 3),
        ("a.mkv", "aac", 44_100, 12),  # Matroska's clock ticks in milliseconds
        ("a.aac", "aac", 44_100, 1100),  # the encoder's lead-in of 1024 samples is not marked in bare ADTS
    ],
)
def test_lead_in_of_a_codec_is_not_heard(tmp_path: Path, name: str, codec: str, rate: int, slack: int) -> None:
    path = film(tmp_path / name, [], sound=click(1.0, 0.5, rate), sound_codec=codec, sound_rate=rate)
    clip = read(path, frames=2, sample_rate=RATE)
    assert clip.frames is None
    assert np.argmax(samples(clip)) == pytest.approx(8000, abs=slack)
    assert clip.duration == pytest.approx(1.0, abs=0.075)


def test_stereo_becomes_its_mean_at_the_asked_rate(tmp_path: Path) -> None:
    left, right = tone(1.0, 1000, loud=0.6), tone(1.0, 3000, loud=0.2)
    path = film(tmp_path / "a.wav", [], sound=np.concatenate([left, right]), sound_codec="pcm_s16le")
    heard = samples(read(path, frames=1, sample_rate=RATE))
    spectrum = np.abs(np.fft.rfft(heard)) / (len(heard) / 2)  # one bin is 1 Hz
    assert spectrum[1000] == pytest.approx(0.3, abs=0.003)
    assert spectrum[3000] == pytest.approx(0.1, abs=0.003)
    assert np.delete(spectrum, [1000, 3000]).max() < 0.01


def test_every_channel_counts_the_same(tmp_path: Path) -> None:
    sound = np.zeros((6, RATE))  # front left, front right, centre, bass, back left, back right
    sound[2] = tone(1.0, 500, RATE, loud=0.6)
    path = film(tmp_path / "a.wav", [], sound=sound, sound_codec="pcm_s16le", sound_rate=RATE)
    assert np.abs(samples(read(path, frames=1, sample_rate=RATE)) - sound[2] / 6).max() < 1e-4


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s16be", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le"])
def test_every_sample_format_has_the_same_scale(tmp_path: Path, codec: str) -> None:
    path = film(tmp_path / "a.mov", [], sound=tone(0.5, 500, RATE), sound_codec=codec, sound_rate=RATE)
    heard = samples(read(path, frames=1, sample_rate=RATE))
    assert np.abs(heard - tone(0.5, 500, RATE)[0]).max() < (0.01 if codec == "pcm_u8" else 1e-4)


def test_floats_out_of_range_are_clipped_and_not_numbers_are_silent(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_f32le", rate=RATE, layout="mono")
        values = np.array([[0.5, 7.0, -np.inf, np.nan] * 100], np.float32)
        frame = av.AudioFrame.from_ndarray(values, format="flt", layout="mono")
        frame.sample_rate = RATE
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    assert samples(read(path, frames=1, sample_rate=RATE))[:4].tolist() == [0.5, 1.0, -1.0, 0.0]


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "pcm_s16le"), ("mov", "pcm_s16le"), ("mp4", "aac")])
def test_sound_that_begins_late_is_preceded_by_zeros(tmp_path: Path, suffix: str, codec: str) -> None:
    images = [gray(8 * k) for k in range(25)]
    path = film(tmp_path / f"a.{suffix}", images, sound=click(0.5, 0.1), sound_codec=codec, sound_from=500)
    heard = samples(read(path, frames=2, sample_rate=RATE))
    assert np.abs(heard[:7600]).max() == 0
    assert np.argmax(heard) == pytest.approx(0.6 * RATE, abs=16)


def test_a_gap_in_the_sound_is_silence(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for begin in (0.0, 1.0):  # half a second each
            values = np.round(tone(0.5, 500, RATE) * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(values, format="s16", layout="mono")
            frame.sample_rate, frame.pts = RATE, round(begin * RATE)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    heard = samples(read(path, frames=1, sample_rate=RATE))
    expected = np.concatenate([tone(0.5, 500, RATE)[0], np.zeros(RATE // 2), tone(0.5, 500, RATE)[0]])
    assert np.abs(heard - expected).max() < 1e-4


# ---- windows --------------------------------------------------------------------------------------------------------


def test_a_window_is_a_part_of_the_whole(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.9, 0.9, (1, 3 * 44_100))
    path = film(tmp_path / "a.mov", [gray(3 * k) for k in range(75)], sound=noise, sound_codec="pcm_s16le")
    whole = samples(read(path, frames=1, sample_rate=RATE))
    for start, end in [(0.0, 1.0), (1.0, 2.0), (1.25, None), (2.0, 99.0), (0.3, 0.3333)]:
        clip = read(path, frames=3, sample_rate=RATE, start=start, end=end)
        assert clip.duration == pytest.approx(min(end or 3.0, 3.0) - start, abs=0.002)
        part = whole[round(start * RATE) :][: len(samples(clip))]
        assert np.abs(samples(clip)[: len(part)] - part).max() < 1e-5
        assert shown(clip, step=3) == pytest.approx(
            [(start + time) * 25 - 0.5 for time in clip.times.tolist()], abs=0.9
        )


def test_a_window_without_sound_has_no_waveform(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mkv", [gray(k) for k in range(75)], sound=tone(1.0), sound_codec="pcm_s16le")
    assert read(path, frames=1, sample_rate=RATE, start=2.0).waveform is None
    assert samples(read(path, frames=1, sample_rate=RATE, start=0.5))[8100:].max() == 0


@pytest.mark.parametrize(
    ("start", "end"),
    [(5.0, None), (0.4, None), (0.3, 0.2), (0.2, 0.2), (-1.0, None), (math.nan, None), (0.0, math.nan)],
)
def test_a_window_of_no_time(tmp_path: Path, start: float, end: float | None) -> None:
    path = film(tmp_path / "a.mp4", [gray(20 * k) for k in range(10)])
    with pytest.raises(ZeroLength, match=r"a\.mp4: nothing lies between .*; choose a window inside 0 s to 0\.400 s"):
        read(path, frames=2, sample_rate=RATE, start=start, end=end)


def test_counts_must_be_positive(tmp_path: Path) -> None:
    for frames, rate in [(0, RATE), (1, 0)]:
        with pytest.raises(ValueError, match="positive"):
            read(tmp_path / "a.mp4", frames=frames, sample_rate=rate)


# ---- what is inside -------------------------------------------------------------------------------------------------


def test_cover_art_is_no_picture(tmp_path: Path) -> None:
    cover = film(tmp_path / "cover.png", [gray(90)], codec="png").read_bytes()
    body = b"\x00image/png\x00\x03\x00" + cover
    frame = b"APIC" + len(body).to_bytes(4, "big") + b"\x00\x00" + body
    length = bytes(len(frame) >> shift & 127 for shift in (21, 14, 7, 0))
    sound = film(tmp_path / "a.mp3", [], sound=tone(1.0), sound_codec="libmp3lame")
    path = tmp_path / "covered.mp3"
    path.write_bytes(b"ID3\x03\x00\x00" + length + frame + sound.read_bytes())
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1
    clip = read(path, frames=2, sample_rate=RATE)
    assert clip.frames is None
    assert len(samples(clip)) == pytest.approx(RATE, abs=RATE * 0.05)


def test_a_file_of_subtitles_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    path.write_text("1\n00:00:01,000 --> 00:00:02,000\nhello\n\n")
    with pytest.raises(NothingInside, match="no picture and no sound"):
        read(path, frames=2, sample_rate=RATE)


def test_a_streamed_wav_lasts_as_long_as_its_samples(tmp_path: Path) -> None:
    path = film(tmp_path / "a.wav", [], sound=tone(1.0), sound_codec="pcm_s16le")
    data = bytearray(path.read_bytes())
    at = data.index(b"data")
    data[4:8] = data[at + 4 : at + 8] = b"\xff" * 4  # as a program writes that cannot go back
    path.write_bytes(data)
    assert read(path, frames=1, sample_rate=RATE).duration == pytest.approx(1.0, abs=0.001)


def test_a_matroska_without_a_duration_is_measured(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mkv", [gray(8 * k) for k in range(25)], sound=tone(1.0), sound_codec="pcm_s16le")
    data = path.read_bytes()
    at = data.index(b"\x44\x89\x88")  # the element Duration, 8 bytes
    path.write_bytes(data[:at] + b"\xec\x89" + bytes(9) + data[at + 11 :])
    assert read(path, frames=1, sample_rate=RATE).duration == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize(
    "name",
    ["a b.mp4", 'it\'s "so".mp4', "näïve ☕.mp4", "two\nlines.mp4", "%03d.mp4", "http:x.mp4", "-i.mp4", "*.mp4", "a"],
)
def test_any_name_will_do(tmp_path: Path, name: str) -> None:
    made = film(tmp_path / "film.mp4", [gray(100)] * 5)
    path = made.rename(tmp_path / name)
    assert levels(read(path, frames=1, sample_rate=RATE)) == pytest.approx([100], abs=2)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(MediaError) as caught:
        read(path, frames=1, sample_rate=RATE)
    assert len(str(caught.value).splitlines()) == 1


def test_a_name_in_no_encoding(tmp_path: Path) -> None:
    made = film(tmp_path / "film.mp4", [gray(100)] * 5)
    raw = os.fsencode(tmp_path) + b"/\xff\xfe.mp4"
    try:
        path = made.rename(os.fsdecode(raw))
    except OSError:
        pytest.skip("this file system has no such names")
    assert levels(read(path, frames=1, sample_rate=RATE)) == pytest.approx([100], abs=2)


# ---- failures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["missing.mp4", "folder.mp4", "pipe.mp4", "text.mp4", "text.txt", "zero.mp4", "random.wav"]
)
def test_what_is_not_media(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / name
    match path.stem:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "text":
            path.write_text("A text file, by another name.\n" * 20)
        case "zero":
            path.touch()
        case "random":
            path.write_bytes(random.Random(0).randbytes(5000))
    with pytest.raises(NotMedia) as caught:
        read(path, frames=2, sample_rate=RATE)
    assert str(caught.value).startswith(f"{path}: ")
    assert caught.value.mend
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", [gray(100)] * 5)
    path.chmod(0)
    with pytest.raises(NotMedia, match=r"[Pp]ermission"):
        read(path, frames=2, sample_rate=RATE)


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    film(tmp_path / "a.ts", [gray(100)] * 25, codec="mpeg2video")
    for name in ("list.m3u8", "list.mp4"):
        (tmp_path / name).write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n")
        with pytest.raises(MediaError):
            read(tmp_path / name, frames=1, sample_rate=RATE)
    (tmp_path / "concat.mp4").write_text("ffconcat version 1.0\nfile a.ts\n")
    with pytest.raises(MediaError):
        read(tmp_path / "concat.mp4", frames=1, sample_rate=RATE)


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two seconds each, of noise, so that no stretch of the file is cheap."""
    folder = tmp_path_factory.mktemp("whole")
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (32, 32, 3), np.uint8) for _ in range(50)]
    noise = rng.uniform(-0.5, 0.5, (1, 2 * 44_100))
    first = {"movflags": "faststart"}
    files = {
        "last.mp4": film(folder / "last.mp4", images, sound=noise),
        "first.mp4": film(folder / "first.mp4", images, sound=noise, options=first),
        "a.mkv": film(folder / "a.mkv", images, sound=noise),
        "a.avi": film(folder / "a.avi", images, sound=noise, sound_codec="pcm_s16le"),
        "a.wav": film(folder / "a.wav", [], sound=noise, sound_codec="pcm_s16le"),
        "a.flac": film(folder / "a.flac", [], sound=noise, sound_codec="flac"),
    }
    for path in files.values():
        read(path, frames=2, sample_rate=RATE)  # nothing is wrong with them yet
    return files


@pytest.mark.parametrize("kept", [0.001, 0.02, 0.3, 0.5, 0.85])
@pytest.mark.parametrize("name", ["last.mp4", "first.mp4", "a.mkv", "a.avi", "a.wav", "a.flac"])
def test_a_file_cut_short(
    whole_files: dict[str, Path], tmp_path: Path, name: str, kept: float, capfd: pytest.CaptureFixture[str]
) -> None:
    data = whole_files[name].read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: max(24, int(kept * len(data)))])
    for window in ({}, {"start": 0.0, "end": 0.1}):
        with pytest.raises(Truncated, match="fetch or export the file again"):
            read(path, frames=2, sample_rate=RATE, **window)
    assert capfd.readouterr() == ("", "")


def test_a_file_whose_rest_was_never_written(whole_files: dict[str, Path], tmp_path: Path) -> None:
    data = whole_files["first.mp4"].read_bytes()
    for kept in (0.4, 0.75):
        path = tmp_path / "a.mp4"
        path.write_bytes(data[: int(kept * len(data))] + bytes(len(data) - int(kept * len(data))))
        with pytest.raises(Truncated):
            read(path, frames=2, sample_rate=RATE)


def test_a_damaged_stretch_is_tolerated(whole_files: dict[str, Path], tmp_path: Path) -> None:
    data = bytearray(whole_files["first.mp4"].read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    clip = read(path, frames=4, sample_rate=RATE)
    assert clip.frames is not None
    assert clip.duration == pytest.approx(2.0, abs=0.03)
    assert len(samples(clip)) == round(clip.duration * RATE)


@pytest.mark.parametrize(("share", "readable"), [(1 / 3, True), (2 / 3, False)])
def test_most_packets_must_decode(tmp_path: Path, share: float, readable: bool) -> None:
    path = film(tmp_path / "a.mov", [gray(8 * k) for k in range(30)], codec="mjpeg")
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux() if packet.size]
    for k, (at, size) in enumerate(places):
        if k % 3 in ((1,) if share < 0.5 else (1, 2)) and k < 29:  # the last one is whole
            data[at : at + size] = bytes(size)
    path.write_bytes(data)
    if readable:
        assert read(path, frames=4, sample_rate=RATE).frames is not None
    else:
        with pytest.raises(Truncated, match="18 of 28 packets do not decode"):
            read(path, frames=4, sample_rate=RATE)


@pytest.mark.parametrize("kind", ["a.mp4", "a.wav"])
def test_any_bytes_give_a_clip_or_a_typed_failure(tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    images = [gray(20 * k, (16, 16)) for k in range(5)] if kind == "a.mp4" else []
    codec = "aac" if images else "pcm_s16le"
    path = film(tmp_path / kind, images, sound=tone(0.2, rate=8000), sound_codec=codec, sound_rate=8000)
    data = path.read_bytes()
    outcomes = set()
    for seed in range(100):
        rng = random.Random(seed)
        changed = bytearray(data)
        headers = [*range(64), *range(data.index(b"moov" if images else b"RIFF"), len(data))][
            : 64 if not images else None
        ]
        for _ in range(rng.choice([1, 3, 20])):
            at = rng.choice(headers) if rng.random() < 0.7 else rng.randrange(len(data))
            changed[at] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        try:
            clip = read(path, frames=2, sample_rate=8000)
        except MediaError as error:
            outcomes.add(type(error).__name__)
            assert len(str(error).splitlines()) == 1
        else:
            outcomes.add("Media")
            assert clip.duration > 0
            assert clip.frames is None or clip.frames.shape[0] == 2
            assert clip.waveform is None or clip.waveform.isfinite().all()
    assert {"Media", "Truncated"} <= outcomes
    assert capfd.readouterr() == ("", "")


def test_lack_of_memory_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = film(tmp_path / "a.mp4", [gray(100)] * 5)

    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(media.np, "empty", full)
    with pytest.raises(MediaError, match="does not fit in memory; take a shorter window"):
        read(path, frames=2, sample_rate=RATE)


def test_reading_twice_gives_the_same(whole_files: dict[str, Path]) -> None:
    one, two = (read(whole_files["first.mp4"], frames=5, sample_rate=RATE) for _ in range(2))
    assert one.frames is not None
    assert two.frames is not None
    assert torch.equal(one.frames, two.frames)
    assert np.array_equal(samples(one), samples(two))
