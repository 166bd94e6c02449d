"""Extraction: every clip has its row or its reason, whatever dies in between, and however many do the work."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from fakes import Crashing, Fake, tone, tones
from harkback import decoding
from harkback import extract as module
from harkback.clips import Clip
from harkback.confined import DECODING
from harkback.decoding import Failed, in_order
from harkback.errors import HarkbackError
from harkback.extract import Extraction, extract
from harkback.features import Features
from harkback.media import Media, read

LOUD = 0.95  # The fake encoder's poison.


def rows(found: Extraction) -> Features:
    return found.features[torch.arange(len(found.clips))]


def same(one: Extraction, other: Extraction) -> bool:
    a, b = rows(one), rows(other)
    names = ("audio", "visual", "heard", "seen")
    return a.ids == b.ids and all(torch.equal(getattr(a, name), getattr(b, name)) for name in names)


def directly(clips: Sequence[Clip]) -> list[Features]:
    """Each clip decoded and encoded here and now."""
    spec = Fake().spec
    media = [read(c.path, frames=spec.frames, sample_rate=spec.sample_rate, start=c.start, end=c.end) for c in clips]
    return [Fake().encode([each]) for each in media]


@pytest.mark.parametrize("in_workers", [True, False])
def test_each_clip_has_its_own_row_in_the_order_asked(tmp_path: Path, in_workers: bool) -> None:
    clips = tones(tmp_path / "clips", 11)  # More than are given to an encoder at once.
    clips = [clips[i] for i in (3, 9, 0, 10, 1, 2, 8, 4, 7, 5, 6)]
    found = extract(clips, Fake(in_workers), tmp_path / "store", workers=0)
    assert found.clips == tuple(clips)
    assert found.encoded == 11
    assert found.skips == ()
    assert len(set(found.keys)) == 11
    features = rows(found)
    assert features.ids == tuple(clip.id for clip in clips)
    assert features.heard.all()
    assert not features.seen.any()
    for row, expected in enumerate(directly(clips)):
        assert torch.equal(features.audio[row], expected.audio[0])
    assert len(features.audio.flatten(1).unique(dim=0)) == 11


def test_what_is_in_the_store_is_not_encoded_again(tmp_path: Path) -> None:
    clips = tones(tmp_path / "clips", 5)
    first = extract(clips[:3], Fake(), tmp_path / "store", workers=0)
    more = extract(clips, Fake(), tmp_path / "store", workers=0)
    again = extract(clips[::-1], Fake(), tmp_path / "store", workers=0)
    assert (first.encoded, more.encoded, again.encoded) == (3, 2, 0)
    assert again.clips == tuple(clips[::-1])
    assert torch.equal(rows(again).audio, rows(more).audio.flip(0))


def test_the_same_content_is_encoded_once(tmp_path: Path) -> None:
    one, other = tone(tmp_path / "a" / "x.wav", 440), tone(tmp_path / "b" / "y.wav", 440)
    clips = [Clip("x", one, "a"), Clip("y", other, "b"), Clip("x again", one, "a")]
    found = extract(clips, Fake(), tmp_path / "store", workers=0)
    assert found.encoded == 1
    assert rows(found).ids == ("x", "y", "x again")
    assert len(set(found.keys)) == 1
    moved = tmp_path / "c" / "z.wav"
    moved.parent.mkdir()
    one.replace(moved)
    assert extract([Clip("z", moved, "c")], Fake(), tmp_path / "store", workers=0).encoded == 0


def test_windows_of_one_file_are_clips_of_their_own(tmp_path: Path) -> None:
    path = tone(tmp_path / "x.wav", 440, seconds=0.5)
    clips = [Clip("whole", path), Clip("begin", path, None, 0.0, 0.1), Clip("end", path, None, 0.4)]
    found = extract(clips, Fake(), tmp_path / "store", workers=0)
    assert found.encoded == 3
    for row, expected in enumerate(directly(clips)):
        assert torch.equal(rows(found).audio[row], expected.audio[0])


def test_a_changed_file_is_another_clip(tmp_path: Path) -> None:
    path = tone(tmp_path / "x.wav", 440)
    first = extract([Clip("x", path)], Fake(), tmp_path / "store", workers=0)
    tone(path, 880)
    os.utime(path, ns=(10**18, 10**18))
    second = extract([Clip("x", path)], Fake(), tmp_path / "store", workers=0)
    assert second.encoded == 1
    assert not torch.equal(rows(first).audio, rows(second).audio)


# ---- failures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_workers", [True, False])
def test_what_cannot_be_read_is_listed_with_its_reason_and_not_tried_again(
    tmp_path: Path, in_workers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = tones(tmp_path / "clips", 3)
    for name, content in (("no.wav", b"this is no sound"), ("empty.wav", b"")):
        (tmp_path / "clips" / name).write_bytes(content)
    bad = [Clip(name, tmp_path / "clips" / name, "x") for name in ("no.wav", "empty.wav")]
    gone = Clip("gone.wav", tmp_path / "clips" / "gone.wav", "x")
    asked = [clips[0], bad[0], clips[1], gone, bad[1], clips[2]]
    found = extract(asked, Fake(in_workers), tmp_path / "store", workers=0)
    assert found.clips == tuple(clips)
    for row, expected in enumerate(directly(clips)):
        assert torch.equal(rows(found).audio[row], expected.audio[0])
    assert {skip.id for skip in found.skips} == {"no.wav", "empty.wav", "gone.wav"}
    assert all(skip.reason and "\n" not in skip.reason for skip in found.skips)
    assert "No such file" in {skip.id: skip.reason for skip in found.skips}["gone.wav"]

    def never(*_: object, **__: object) -> None:
        raise AssertionError("it is read again")

    monkeypatch.setattr(decoding, "read", never)
    again = extract(asked, Fake(in_workers), tmp_path / "store", workers=0)
    assert again.encoded == 0
    assert again.skips == found.skips
    assert same(again, found)


def test_nothing_but_failures(tmp_path: Path) -> None:
    (tmp_path / "no.wav").write_bytes(b"this is no sound")
    found = extract([Clip("no", tmp_path / "no.wav")], Fake(), tmp_path / "store", workers=0)
    assert found.clips == ()
    assert len(found.features) == 0
    assert len(found.skips) == 1


def test_no_clips(tmp_path: Path) -> None:
    found = extract([], Fake(), tmp_path / "store", workers=0)
    assert len(found.features) == found.encoded == 0


def test_a_store_of_another_encoder(tmp_path: Path) -> None:
    clips = tones(tmp_path / "clips", 1)
    extract(clips, Fake(), tmp_path / "store", workers=0)
    with pytest.raises(HarkbackError, match=r"fake revision 1.*other"):
        extract(clips, Fake(name="other"), tmp_path / "store", workers=0)


def test_a_file_whose_name_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    tone(tmp_path / "a.wav", 440).rename(path)
    for _ in range(2):
        found = extract([Clip("caf", path)], Fake(), tmp_path / "store", workers=0)
        assert len(found.features) == 1
    assert found.encoded == 0


# ---- stopped and gone on with ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_workers", [True, False])
def test_ctrl_c_keeps_what_was_finished(tmp_path: Path, in_workers: bool) -> None:
    clips = tones(tmp_path / "clips", 20)
    tone(clips[17].path, 500, LOUD)
    antidote = tmp_path / "antidote"
    encoder = Fake(in_workers, poison=f"once:{antidote}")
    with pytest.raises(KeyboardInterrupt):
        extract(clips, encoder, tmp_path / "store", workers=0)
    antidote.write_text("")
    found = extract(clips, encoder, tmp_path / "store", workers=0)
    assert found.encoded == (3 if in_workers else 4)  # An encoder with a device is given 8 at once: 16 are finished.
    assert same(found, extract(clips, Fake(in_workers), tmp_path / "uninterrupted", workers=0))


def test_full_shards_are_on_the_disk_while_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill leaves no chance to write: what is kept then is what was written before."""
    monkeypatch.setattr(module, "SHARD", 4)
    clips = tones(tmp_path / "clips", 10)
    tone(clips[9].path, 500, LOUD)

    class Killed(BaseException):
        pass

    def nothing_more(*_: object) -> None:
        raise Killed

    def taste(self: Fake, waveform: torch.Tensor) -> None:
        if waveform.abs().max() > 0.8:
            while len(module.FeatureStore.open(tmp_path / "store", self.spec).places) < 8:
                time.sleep(0.01)  # The second shard is still being written, beside the work on the third.
            monkeypatch.setattr(module.FeatureStore, "add", nothing_more)
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Fake, "_taste", taste)
        with pytest.raises(Killed):
            extract(clips, Fake(), tmp_path / "store", workers=0)
    monkeypatch.undo()
    assert extract(clips, Fake(), tmp_path / "store", workers=0).encoded == 2


# ---- processes ------------------------------------------------------------------------------------------------------


def test_workers_change_nothing(tmp_path: Path) -> None:
    clips = tones(tmp_path / "clips", 10)
    (tmp_path / "clips" / "no.wav").write_bytes(b"this is no sound")
    clips.insert(4, Clip("no.wav", tmp_path / "clips" / "no.wav", "x"))
    alone = extract(clips, Fake(), tmp_path / "alone", workers=0)
    for in_workers in (True, False):
        found = extract(clips, Fake(in_workers), tmp_path / f"together {in_workers}", workers=2)
        assert same(found, alone)
        assert found.skips == alone.skips
    shards = [sorted(p.name for p in (tmp_path / name).glob("0*")) for name in ("alone", "together True")]
    assert shards[0] == shards[1]


def test_a_clip_that_takes_its_worker_down_fails_alone(tmp_path: Path) -> None:
    clips = tones(tmp_path / "clips", 6)
    tone(clips[2].path, 500, LOUD)
    found = extract(clips, Fake(poison="exit"), tmp_path / "store", workers=2)
    assert [clip.id for clip in found.clips] == ["00.wav", "01.wav", "03.wav", "04.wav", "05.wav"]
    assert [skip.id for skip in found.skips] == ["02.wav"]
    assert "crashed" in found.skips[0].reason
    whole = extract(found.clips, Fake(), tmp_path / "whole", workers=0)
    assert same(found, whole)


def test_a_worker_that_dies_while_its_result_is_not_yet_waited_for(tmp_path: Path) -> None:
    """The consumer was writing a shard, say; the next clip is then handed to a pool that is already broken."""
    clips = [Clip(str(i), tmp_path, "poison" if i == 1 else None) for i in range(10)]
    outcomes = in_order(Crashing(), clips, 1)
    found = [next(outcomes)]
    time.sleep(2.0)
    found += outcomes
    assert [isinstance(each, tuple) for each in found] == [i != 1 for i in range(10)]
    assert [each[0]["id"] for each in found if isinstance(each, tuple)] == [str(i) for i in range(10) if i != 1]


@pytest.mark.slow
def test_many_poisoned_clips_among_many(tmp_path: Path) -> None:
    clips = tones(tmp_path / "clips", 30)
    for i in (0, 1, 13, 29):
        tone(clips[i].path, 500 + i, LOUD)
    found = extract(clips, Fake(poison="exit"), tmp_path / "store", workers=2)
    assert [skip.id for skip in found.skips] == ["00.wav", "01.wav", "13.wav", "29.wav"]
    assert same(found, extract(found.clips, replace(Fake()), tmp_path / "whole", workers=0))


# ---- within limits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_workers", [True, False])
def test_clips_read_within_limits_are_the_same(tmp_path: Path, in_workers: bool) -> None:
    clips = tones(tmp_path / "clips", 9)
    (tmp_path / "clips" / "broken.wav").write_bytes(b"broken")
    clips.insert(4, Clip("broken", tmp_path / "clips" / "broken.wav", "a"))
    told: list[str] = []
    within = extract(
        clips, Fake(in_workers), tmp_path / "a", workers=2, limits=DECODING, tell=lambda clip: told.append(clip.id)
    )
    free = extract(clips, Fake(in_workers), tmp_path / "b", workers=0)
    assert same(within, free)
    assert within.skips == free.skips and [skip.id for skip in within.skips] == ["broken"]
    assert told == [clip.id for clip in clips]


def test_what_a_limit_or_a_crash_ends_is_tried_again(tmp_path: Path) -> None:
    clips = [Clip(str(i), tmp_path, "poison" if i == 1 else None) for i in range(4)]
    outcomes = list(in_order(Crashing(), clips, 2, DECODING))
    assert [isinstance(outcome, Failed) for outcome in outcomes] == [False, True, False, False]
    assert outcomes[1] == Failed("crashed the decoder; convert the file to another format", lasting=False)


def test_a_clip_that_lasts_too_long_is_left_out(tmp_path: Path) -> None:
    paths = {
        name: tone(tmp_path / f"{name}.wav", 440, seconds=seconds) for name, seconds in (("long", 2), ("short", 0.5))
    }
    clips = [Clip(name, path, "a") for name, path in paths.items()]
    found = extract(clips, Fake(), tmp_path / "store", workers=1, limits=replace(DECODING, length=1.0))
    assert [clip.id for clip in found.clips] == ["short"]
    assert [skip.reason for skip in found.skips] == ["lasts 2 s, and 1 s are the most; take a part of it"]


# ---- what an encoder cannot do --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fragile(Fake):
    """Of the loud clip it makes NaN, or infinity, or more than a half can hold; or fails, with an error of its own."""

    makes: str = "nan"

    def encode(self, media: Sequence[Media]) -> Features:
        if self.makes == "too few":
            return super().encode(media[:-1])
        made = super().encode(media)
        features = replace(made, audio=made.audio.float(), visual=made.visual.float())
        for i, clip in enumerate(media):
            if clip.waveform is not None and clip.waveform.abs().max() > 0.8:
                if self.makes == "a defect":
                    raise IndexError("list index\nout of range")
                if self.makes == "no memory":
                    raise HarkbackError("the memory does not suffice", mend="close other programs")
                features.audio[i, 1, 2] = float(self.makes)
        return features


@pytest.mark.parametrize("in_workers", [True, False])
@pytest.mark.parametrize("makes", ["nan", "-inf", "65520", "a defect"])
def test_what_an_encoder_cannot_do_with_a_clip_is_that_clips_failure(
    tmp_path: Path, in_workers: bool, makes: str
) -> None:
    clips = tones(tmp_path / "clips", 11)
    tone(clips[4].path, 440, LOUD)
    found = extract(clips, Fragile(in_workers, makes=makes), tmp_path / "store", workers=0)
    others = [clip for clip in clips if clip is not clips[4]]
    assert found.clips == tuple(others)
    for row, expected in enumerate(directly(others)):
        assert torch.equal(rows(found).audio[row], expected.audio[0])
    (skip,) = found.skips
    assert skip.id == "04.wav"
    assert "\n" not in skip.reason
    said = (
        r"failed with IndexError: list index\\nout" if makes == "a defect" else r"not finite .*\(NaN, or beyond 65504\)"
    )
    assert re.search(said, skip.reason)
    # It does not lie in the clip, so it is tried again, and alone.
    again = extract(clips, Fake(in_workers), tmp_path / "store", workers=0)
    assert again.encoded == 1
    assert again.clips == tuple(clips)


def test_the_largest_half_is_a_number(tmp_path: Path) -> None:
    clips = tones(tmp_path / "clips", 1)
    tone(clips[0].path, 440, LOUD)
    found = extract(clips, Fragile(makes="65504"), tmp_path / "store", workers=0)
    assert rows(found).audio.max() == 65504
    assert rows(found).audio.dtype == torch.float16


def test_an_encoder_that_cannot_go_on_ends_the_work_and_keeps_what_is_done(tmp_path: Path) -> None:
    clips = tones(tmp_path / "clips", 20)
    tone(clips[18].path, 440, LOUD)
    with pytest.raises(HarkbackError, match="the memory does not suffice"):
        extract(clips, Fragile(in_workers=False, makes="no memory"), tmp_path / "store", workers=0)
    assert extract(clips, Fake(False), tmp_path / "store", workers=0).encoded == 4  # 8 at once: 16 are finished.


def test_an_encoder_that_makes_too_few_rows_gives_no_clip_another_ones(tmp_path: Path) -> None:
    found = extract(tones(tmp_path / "clips", 3), Fragile(False, makes="too few"), tmp_path / "store", workers=0)
    assert found.clips == ()
    assert len(found.skips) == 3
