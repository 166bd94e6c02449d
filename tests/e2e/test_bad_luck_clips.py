"""Bad luck with single clips and with clocks: what says nothing about a clip is not held against it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import FileIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import pytest

from fakes import Fake, tone, tones
from harkback import _container, examples, forgetting, pupil
from harkback.app.benches import benches
from harkback.encoders import Encoder
from harkback.extract import Extraction, extract
from harkback.files import HERE
from harkback.media import MediaError, TooLarge, Unreachable, read
from harkback.model import Model, undo
from harkback.teaching import Making, teach
from harkback.vault import Vault

AGES = 10**10  #: seconds: the year 2286, of which 64 bits do not hold the nanoseconds


def taken(root: Path, encoder: Encoder | None = None, workers: int = 0) -> Extraction:
    return extract(tones(root / "clips", 6), encoder or Fake(), root / "store", workers=workers)


# ---- clips ----------------------------------------------------------------------------------------------------------


class Failing(FileIO):
    """A file on a disk that fails after some bytes; ``number``: with what."""

    good, number = 900, errno.EIO

    def readinto(self, room: Any) -> int:
        if self.tell() >= self.good:
            raise OSError(self.number, os.strerror(self.number))
        view = memoryview(room)[: self.good - self.tell()]
        return super().readinto(view)


def denying(*_: object, **__: object) -> FileIO:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@pytest.mark.parametrize(
    ("opened", "says"),
    [
        (Failing, "cannot be read (Input/output error); check the disk"),
        (denying, "cannot be opened (Too many open files); allow more open files"),
    ],
)
def test_a_clip_that_cannot_be_read_now_is_tried_again(
    opened: Callable[..., FileIO], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(_container, "FileIO", opened)
        bad = taken(tmp_path)
        assert not bad.clips and all(skip.reason.startswith(says) for skip in bad.skips), bad.skips
        with pytest.raises(Unreachable):  # Not cut short in silence.
            read(tmp_path / "clips" / "00.wav", frames=2, sample_rate=8000)
    good = taken(tmp_path)
    assert (good.encoded, len(good.clips), good.skips) == (6, 6, ())


def test_nor_one_for_which_ffmpeg_may_open_no_more_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It opens another besides the clip's own; a .wav would be said to have lost its table of contents."""
    with monkeypatch.context() as patch:
        patch.setattr(av, "open", denying)
        bad = taken(tmp_path)
        assert all(skip.reason.startswith("cannot be opened (Too many open files); allow") for skip in bad.skips)
    assert (bad.clips, taken(tmp_path).encoded) == ((), 6)


@pytest.mark.parametrize("failure", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_a_clip_for_which_there_was_no_memory_is_tried_again(
    failure: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starving(*_: object) -> None:
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(Fake, "encode", starving)
        assert {skip.reason.partition(";")[0] for skip in taken(tmp_path).skips} == {"does not fit in memory"}
    with monkeypatch.context() as patch:
        patch.setattr(_container, "FileIO", lambda *_: starving())
        if isinstance(failure, MemoryError):
            with pytest.raises(TooLarge):
                read(tmp_path / "clips" / "00.wav", frames=2, sample_rate=8000)
    good = taken(tmp_path)
    assert (good.encoded, len(good.clips), good.skips) == (6, 6, ())


def test_what_lies_in_a_clip_stays_held_against_it(tmp_path: Path) -> None:
    tone(tmp_path / "clips" / "00.wav", 300)
    (tmp_path / "clips" / "bad.wav").write_bytes(b"no sound")
    with pytest.raises(MediaError) as caught:
        read(tmp_path / "clips" / "bad.wav", frames=2, sample_rate=8000)
    assert caught.value.lasting


@pytest.mark.slow
def test_a_reader_that_is_killed_for_want_of_memory_costs_nothing(tmp_path: Path) -> None:
    """Once; the clips that were with it are read by another."""
    straight = taken(tmp_path / "straight")
    clips = tones(tmp_path / "clips", 6)
    tone(clips[2].path, 280, loud=0.25)
    shutil.rmtree(tmp_path / "clips")
    shutil.copytree(tmp_path / "straight" / "clips", tmp_path / "clips")
    found = extract(clips, Fake(killed_once=str(tmp_path / "killed")), tmp_path / "store", workers=2)
    assert (tmp_path / "killed").exists()
    assert found.skips == () and found.keys == straight.keys


# ---- clocks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", [AGES, 2**31 + 5, -86400])
def test_clips_from_another_age_are_clips(when: int, tmp_path: Path) -> None:
    for clip in tones(tmp_path / "clips", 6):
        os.utime(clip.path, (when, when))
        if clip.path.stat().st_mtime != when:
            pytest.skip("this disk knows no such time")
    first = extract(tones(tmp_path / "other", 1), Fake(), tmp_path / "store", workers=0)
    assert first.encoded == 1
    paths = sorted((tmp_path / "clips").glob("*.wav"))
    clips = [clip.__class__(path.name, path, "x") for clip, path in zip(first.clips * 6, paths, strict=False)]
    assert extract(clips, Fake(), tmp_path / "store", workers=0).encoded == 5  # One is the other folder's too.
    again = extract(clips, Fake(), tmp_path / "store", workers=0)  # The store opens, and knows them.
    assert (again.encoded, len(again.clips), again.skips) == (0, 6, ())


def test_a_clip_that_became_older_is_another(tmp_path: Path) -> None:
    """A clock that was set back, or a file from a backup."""
    clips = tones(tmp_path / "clips", 1)
    one = extract(clips, Fake(), tmp_path / "store", workers=0)
    tone(clips[0].path, 900)
    os.utime(clips[0].path, (10**9, 10**9))
    two = extract(clips, Fake(), tmp_path / "store", workers=0)
    assert two.encoded == 1 and two.keys != one.keys


def test_a_clock_that_goes_back_changes_the_order_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each lesson is a year before the last one, and what lies in the model's folder is from the future."""
    now = datetime(2030, 1, 1, tzinfo=UTC)

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            nonlocal now
            now -= timedelta(days=365)
            return now

    monkeypatch.setattr(pupil, "datetime", Clock)
    monkeypatch.setattr(forgetting, "datetime", Clock)
    model = tmp_path / "model"
    for number, name in enumerate(("low", "high", "shrill", "whirr")):
        for i in range(3):
            tone(tmp_path / name / name / f"{i}.wav", 200 + 600 * number + 9 * i)
        teach(model, tmp_path / name, making=Making(learner="ncm", memory=8), force=True)
        for path in [*model.rglob("*"), model]:
            os.utime(path, (2**31, 2**31 - 86400 * number))
    times = [record["time"] for record in Model(model).facts["sessions"]]
    assert times == sorted(times, reverse=True)
    assert [version.facts["version"] for version in Vault(model).versions()] == [1, 2, 3]
    undo(model)
    assert Model(model).classes == ("low", "high", "shrill")
    Model(model).forget("low")
    undo(model)
    assert Model(model).classes == ("high",)


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no disk here that knows such times")
def test_a_report_from_another_age_is_listed() -> None:
    with TemporaryDirectory(dir="/dev/shm") as root:
        for name, when in (("now", 10**9), ("far", 3 * 10**11)):
            page = Path(root) / name / "report.html"
            page.parent.mkdir()
            page.write_text("a report")
            os.utime(page, (when, when))
        assert [(each.name, each.when == "?") for each in benches(Path(root))] == [("far", True), ("now", False)]


# ---- what a kill leaves ---------------------------------------------------------------------------------------------


@pytest.fixture
def pictured(tmp_path: Path) -> Path:
    """A model of two lessons, with a picture of a clip of each (so it pretends: tones have none)."""
    model = tmp_path / "model"
    for number, name in enumerate(("low", "high")):
        for i in range(3):
            tone(tmp_path / name / name / f"{i}.wav", 200 + 600 * number + 9 * i)
        teach(model, tmp_path / name, making=Making(learner="ncm", memory=8), force=True)
    (model / examples.FOLDER).mkdir()
    for keys in examples.learnt(Model(model).facts).values():
        (model / examples.FOLDER / f"{keys[0]}.jpg").write_bytes(b"a picture")
    return model


def pictures(model: Path) -> list[str]:
    return sorted(path.name for path in (model / examples.FOLDER).iterdir())


def test_what_is_undone_leaves_no_picture_whenever_it_is_killed(
    pictured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = examples.learnt(Model(pictured).facts)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Vault, "_move_in", killed)  # At the first step after it has happened.
    with pytest.raises(KeyboardInterrupt):
        undo(pictured)
    assert Model(pictured).classes == ("low",)
    assert pictures(pictured) == [f"{clips['low'][0]}.jpg"]


def test_an_undo_that_is_refused_keeps_the_pictures(tmp_path: Path, pictured: Path) -> None:
    undo(pictured)
    before = pictures(pictured)
    with pytest.raises(Exception, match="keeps no version before"):
        undo(pictured)
    assert pictures(pictured) == before != []


def test_a_picture_that_was_half_written_goes_with_the_next_change(pictured: Path) -> None:
    half = pictured / examples.FOLDER / f".{'0' * 64}.jpg.{HERE}-{2**22 + 1}.part"  # No process has such a number.
    half.write_bytes(b"half a picture")
    Model(pictured).forget("low")
    assert not half.exists()
