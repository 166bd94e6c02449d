"""The demo dataset: real files, the same each time, in which what moves is what sounds."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import av
import numpy as np
import pytest

from harkback.datasets import _film, _pen, demo, open_dataset
from harkback.datasets import _voices as voice
from harkback.datasets.demo import KINDS, Demo, Scene, compose
from harkback.errors import HarkbackError

NAMES = tuple(kind.name for kind in KINDS)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Four classes with two training clips and one test clip each, on disk. Read only."""
    made = Demo(tmp_path_factory.mktemp("demo") / "clips", classes=4, train=2, test=1)
    assert set(made.splits) == {"train", "test"}
    return made


@functools.cache
def scene(name: str, index: int) -> Scene:
    """A clip with every class to choose silent things from. Read only."""
    return compose(NAMES, name, f"test/{name}/{index}")


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# The files.


def test_it_is_opened_by_name_and_leaves_nothing_out(tmp_path: Path) -> None:
    dataset = open_dataset(f"demo:{tmp_path / 'clips'}")
    assert isinstance(dataset, Demo)
    assert (dataset.name, dataset.root, dataset.skips) == ("demo", tmp_path / "clips", ())


def test_the_layout_is_that_of_a_folder_dataset(written: Demo) -> None:
    names = ("church bell", "cowbell", "siren", "whistle")
    assert written.classes == names
    expected = [f"train/{n}/{n}_{i:03d}.mp4" for n in names for i in range(2)]
    expected += [f"test/{n}/{n}_000.mp4" for n in names]
    clips = [clip for split in written.splits.values() for clip in split]
    assert [clip.id for clip in clips] == expected
    assert set(files(written.root)) == {*expected, "demo.json"}  # nothing else is left behind
    for clip in clips:
        assert clip.path == written.root / clip.id
        assert clip.label == clip.path.parent.name
        assert (clip.start, clip.end) == (0.0, None)


def test_a_validation_split_comes_when_asked_for(tmp_path: Path) -> None:
    splits = Demo(tmp_path, classes=1, train=1, test=0, val=2).splits
    assert {split: len(clips) for split, clips in splits.items()} == {"train": 1, "val": 2, "test": 0}
    assert [clip.id for clip in splits["val"]] == [f"val/church bell/church bell_{i:03d}.mp4" for i in (0, 1)]


def test_files_are_real_mp4_of_two_seconds(written: Demo) -> None:
    for clip in written.splits["train"]:
        assert clip.path.stat().st_size < 40_000
        with av.open(str(clip.path)) as file:
            assert "mp4" in file.format.name
            assert [s.type for s in file.streams] == ["video", "audio"]
            video, audio = file.streams.video[0], file.streams.audio[0]
            assert (video.codec_context.name, video.pix_fmt, video.average_rate) == ("h264", "yuv420p", 8)
            assert (audio.codec_context.name, audio.rate, audio.channels) == ("aac", 16_000, 1)
            assert file.duration / av.time_base == pytest.approx(2.0, abs=0.01)
            frames = list(file.decode(video))
            assert [frame.time for frame in frames] == [k / 8 for k in range(16)]
            assert {(frame.width, frame.height) for frame in frames} == {(112, 112)}
            file.seek(0)
            assert sum(frame.samples for frame in file.decode(audio)) == pytest.approx(32_000, abs=1024)


def test_the_file_holds_the_scene(written: Demo) -> None:
    clip = written.splits["test"][2]
    scene = written.scene(clip)
    with av.open(str(clip.path)) as file:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])
        file.seek(0)
        wave = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])[:32_000]
    assert np.abs(frames.astype(float) - scene.frames).mean() < 6  # of 255: the codec's loss
    assert np.corrcoef(wave, scene.wave[: len(wave)])[0, 1] > 0.95  # in step, to the sample


# The same each time.


def test_two_writings_give_the_same_bytes(written: Demo, tmp_path: Path) -> None:
    again = Demo(tmp_path / "again", classes=4, train=2, test=1)
    assert again.splits["train"]
    assert files(again.root) == files(written.root)


def test_x264_does_not_look_ahead(written: Demo) -> None:
    # With its look-ahead the bytes depended on what lay in memory: too seldom for the test above to see.
    for clip in written.splits["test"]:
        said = clip.path.read_bytes()  # x264 writes its settings into the stream
        for setting in (b" rc=cqp ", b" mbtree=0 ", b" weightp=0 ", b" bframes=0 ", b" scenecut=0 ", b" threads=1 "):
            assert setting in said, setting


def test_every_clip_is_another(written: Demo, tmp_path: Path) -> None:
    other = Demo(tmp_path, classes=1, train=1, test=1, seed=1)
    clips = [*written.splits["train"], *written.splits["test"], *other.splits["train"], *other.splits["test"]]
    assert len({clip.path.read_bytes() for clip in clips}) == len(clips)


def test_the_number_of_classes_changes_only_the_silent_things() -> None:
    few, many = (compose(NAMES[:n], "siren", "some key") for n in (4, 24))
    np.testing.assert_array_equal(few.wave, many.wave)
    np.testing.assert_array_equal(few.beats[0], many.beats[0])
    np.testing.assert_array_equal(few.centres[0], many.centres[0])
    assert few.things[1:] != many.things[1:]
    assert set(few.things) <= set(NAMES[:4])


def test_one_class_has_no_silent_things() -> None:
    assert compose(("siren",), "siren", "key").things == ("siren",)


# Resuming, and what is refused.


def test_resuming_writes_only_what_is_missing(tmp_path: Path) -> None:
    made = Demo(tmp_path, classes=2, train=2, test=0)
    first, lost, *rest = made.splits["train"]
    before = lost.path.read_bytes()
    lost.path.unlink()
    first.path.write_bytes(b"mine")  # whatever lies there is kept
    stamps = {clip.id: clip.path.stat().st_mtime_ns for clip in (first, *rest)}
    assert Demo(tmp_path, classes=2, train=2, test=0).splits["train"] == (first, lost, *rest)
    assert {clip.id: clip.path.stat().st_mtime_ns for clip in (first, *rest)} == stamps
    assert first.path.read_bytes() == b"mine"
    assert lost.path.read_bytes() == before


def test_a_stopped_writing_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(path: Path, *_: object) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    made = Demo(tmp_path, classes=1, train=1, test=0)
    with monkeypatch.context() as patch:
        patch.setattr(_film, "_encode", stop)
        with pytest.raises(KeyboardInterrupt):
            _ = made.splits
    assert set(files(tmp_path)) == {"demo.json"}
    assert made.splits["train"][0].path.stat().st_size > 1000


def test_a_demo_with_other_settings_is_refused(written: Demo) -> None:
    before = files(written.root)
    with pytest.raises(HarkbackError, match=r"other settings.*empty folder"):
        _ = Demo(written.root, classes=4, train=3, test=1).splits
    with pytest.raises(HarkbackError, match="other settings"):
        _ = Demo(written.root, classes=4, train=2, test=1, seed=1).splits
    assert files(written.root) == before


def test_the_settings_are_stated(written: Demo) -> None:
    facts = json.loads((written.root / "demo.json").read_text(encoding="utf-8"))
    assert facts == {"edition": demo.EDITION, "classes": 4, "train": 2, "val": 0, "test": 1, "seed": 0}


@pytest.mark.parametrize("note", ["", "[]", "{"])
def test_a_spoilt_note_is_refused(tmp_path: Path, note: str) -> None:
    (tmp_path / "demo.json").write_text(note, encoding="utf-8")
    with pytest.raises(HarkbackError, match="other settings"):
        _ = Demo(tmp_path, classes=1, train=1, test=1).splits


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.mp4").write_bytes(b"precious")
    with pytest.raises(HarkbackError, match=r"not a demo.*empty folder"):
        _ = Demo(tmp_path).splits
    assert set(files(tmp_path)) == {"holiday.mp4"}


def test_a_file_is_refused_as_a_root(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(HarkbackError, match="not a demo"):
        _ = Demo(tmp_path / "file").splits


def test_a_disk_error_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_film, "_encode", full)
    with pytest.raises(HarkbackError, match=r"No space left on device.*free some space"):
        _ = Demo(tmp_path, classes=1, train=1, test=0).splits


def test_a_missing_codec_is_said_before_anything_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", {"aac"})
    with pytest.raises(HarkbackError, match=r"H\.264"):
        _ = Demo(tmp_path, classes=1, train=1, test=0).splits


@pytest.mark.parametrize("wrong", [{"classes": 0}, {"classes": 25}, {"train": -1}, {"val": 1000}, {"seed": -1}])
def test_impossible_settings_are_refused(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(HarkbackError):
        Demo(tmp_path, **wrong)


def test_progress_goes_to_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = Demo(tmp_path, classes=1, train=1, test=0)
    assert made.splits
    out, err = capfd.readouterr()
    assert out == "" and "drawing the demo" in err
    assert made.splits  # nothing to do, nothing to say
    assert capfd.readouterr() == ("", "")


# What is in the clips.


@pytest.mark.parametrize("name", NAMES)
def test_every_class_moves_sounds_and_stays_in_range(name: str) -> None:
    for index in range(2):
        made = scene(name, index)
        count = len(made.things)
        assert made.things[0] == name and 2 <= count <= 3 and len(set(made.things)) == count
        assert made.frames.shape == (16, 112, 112, 3) and made.frames.dtype == np.uint8
        assert made.wave.shape == (32_000,) and made.wave.dtype == np.float32
        assert 0.15 < np.abs(made.wave).max() < 0.9 and abs(float(made.wave.mean())) < 0.05
        assert made.beats.shape == (count, 16) and made.beats.min() >= 0 and made.beats.max() <= 1 + 1e-6
        assert np.ptp(made.beats, axis=1).min() > 0.4  # everything has a rhythm to see
        assert made.centres.shape == (count, 16, 2) and made.centres.min() > 18 and made.centres.max() < 94
        assert np.linalg.norm(made.centres[0] - made.centres[1], axis=1).min() > 25


def loudness(scene: Scene) -> np.ndarray:
    """(16,) root mean square of the sound while each frame is shown."""
    return np.sqrt((scene.wave.reshape(16, -1) ** 2).mean(axis=1))


def brightness(scene: Scene, thing: int) -> np.ndarray:
    """(16,) how far the picture around a thing is from what is there on average."""
    frames = scene.frames.astype(float)
    reach = int(scene.radii[thing] * 1.1)
    x, y = scene.centres[thing].mean(axis=0).astype(int)
    return frames[:, max(0, y - reach) : y + reach, max(0, x - reach) : x + reach].mean(axis=(1, 2, 3))


def test_the_sounding_thing_moves_with_the_sound_and_the_others_do_not() -> None:
    told, seen = [], []  # each (clips, 2): the sounding thing, a silent one
    for name in NAMES:
        for index in range(2):
            made = scene(name, index)
            heard = loudness(made)
            told.append([np.corrcoef(heard, made.beats[k])[0, 1] for k in (0, 1)])
            seen.append([abs(np.corrcoef(heard, brightness(made, k))[0, 1]) for k in (0, 1)])
    sounding, silent = np.mean(told, axis=0)
    assert sounding > 0.7 and abs(silent) < 0.15
    assert np.mean([one > other for one, other in seen]) > 0.8


def portrait(name: str) -> np.ndarray:
    """(pixels, 3) a thing alone on grey, at rest and at work, in the same place, size, tint and rhythm for all."""
    picture = np.full((16, 112, 112, 3), 0.5, np.float32)
    beat = np.tile(np.asarray([0.0, 1.0], np.float32), 8)
    pen = _pen.pen_at(picture, np.random.default_rng(5), np.full((16, 2), 56, np.float32), 19.0, beat)
    next(kind for kind in KINDS if kind.name == name).draw(pen)
    return picture[:2].reshape(-1, 3)


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_no_part_of_a_thing_is_cut_off(kind: demo.Kind) -> None:
    beat = np.tile(np.asarray([0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.5, 0.0], np.float32), 2)
    for seed in range(4):
        picture = np.full((16, 112, 112, 3), 0.5, np.float32)
        pen = _pen.pen_at(picture, np.random.default_rng(seed), np.full((16, 2), 56, np.float32), 19.5, beat)
        kind.draw(pen)
        assert pen.canvas.shape[1] < 80
        for edge in (pen.canvas[:, 0], pen.canvas[:, -1], pen.canvas[:, :, 0], pen.canvas[:, :, -1]):
            assert (edge == 0.5).all()


def test_pairs_that_look_alike_look_alike() -> None:
    portraits = np.stack([portrait(name) for name in NAMES])
    assert (np.ptp(portraits, axis=1).max(axis=1) > 0.5).all()  # full of contrast
    size = (np.abs(portraits - 0.5).max(axis=2) > 0.05).sum(axis=1) / 2  # pixels
    assert size.min() > 500 and size.max() < 1700
    apart = {(i, j): np.abs(portraits[i] - portraits[j]).mean() for i in range(24) for j in range(i + 1, 24)}
    alike = [apart.pop((row, row + 1)) for row in (0, 4, 10, 14, 18, 22)]  # rows of the table
    assert min(alike) > 0
    assert max(alike) < 0.6 * min(apart.values())


def spectrum(wave: np.ndarray) -> np.ndarray:
    """(78,) mean and spread over time of the loudness in 39 bands."""
    windows = np.lib.stride_tricks.sliding_window_view(wave / wave.std(), 512)[::256] * np.hanning(512)
    power = np.abs(np.fft.rfft(windows)) ** 2
    edges = np.unique(np.geomspace(1, 256, 40).astype(int))
    bands = np.log(np.add.reduceat(power, edges, axis=1) + 1e-3)
    return np.concatenate([bands.mean(axis=0), bands.std(axis=0)])


def voiced(name: str, rng: np.random.Generator) -> np.ndarray:
    """The sound of a clip, without its pictures."""
    kind = next(kind for kind in KINDS if kind.name == name)
    return voice.in_a_room(kind.voice(rng).wave, rng)


def test_sound_tells_much_but_not_all() -> None:
    names = ("church bell", "cricket", "duck", "siren", "whistle")
    rngs = np.random.default_rng(3).spawn(20)
    features = np.stack([[spectrum(voiced(name, rng)) for rng in rngs] for name in names])
    train, test = features[:, :10], features[:, 10:]
    middle, scale = train.mean(axis=(0, 1)), train.std(axis=(0, 1)) + 1e-6
    means = ((train - middle) / scale).mean(axis=1)
    guess = ((((test - middle) / scale)[:, :, None] - means) ** 2).sum(axis=-1).argmin(axis=-1)  # (classes, clips)
    right = (guess == np.arange(5)[:, None]).mean(axis=1)
    assert right.mean() > 0.6  # chance is 0.2
    assert right[:3].mean() > 0.75
    assert np.mean(guess[3:] == [[4], [3]]) > 0.1  # siren and whistle are taken for each other


def test_the_table_has_enough_classes_with_names_of_people() -> None:
    assert len(NAMES) >= 24 and len(set(NAMES)) == len(NAMES)
    assert all(name == name.strip().lower() and name.replace(" ", "").isalpha() for name in NAMES)
