"""`harkback.explain`: shares that add up for any learner, and pictures of where it looked in the right file."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import harkback
from fakes import Fake, features_of, random_features, small, tone, without
from films import film, gray
from harkback.answers import Answer, merged
from harkback.encoders import EncoderSpec
from harkback.errors import HarkbackError
from harkback.explain import Shares, explain, shares
from harkback.features import FeatureRows, Features, TokenShape
from harkback.learners.base import Learner
from harkback.learners.hark import Hark
from harkback.learners.l3 import L3
from harkback.learners.ncm import NCM
from harkback.media import Media, MediaError
from harkback.stills import SIDE
from harkback.stream import Session

LABELS = ["a", "b", "c", "d"] * 6


# ---- shares ---------------------------------------------------------------------------------------------------------


class Sums(Learner[None]):
    """Scores that are known: ``sound`` where heard, plus ``picture`` where seen, plus ``both`` where both are."""

    Settings = type(None)

    def __init__(self, sound: Sequence[float], picture: Sequence[float], both: Sequence[float] = (0,)) -> None:
        super().__init__(None)
        self.parts = [torch.tensor(part, dtype=torch.float32) for part in (sound, picture, both)]
        self.classes = tuple("abcdefgh"[: len(sound)])

    def _learn(self, features: FeatureRows, targets: Tensor) -> None:
        raise NotImplementedError

    def _scores(self, features: Features) -> Tensor:
        assert not features.audio[~features.heard].any() and not features.visual[~features.seen].any()
        there = [features.heard, features.seen, features.heard & features.seen]
        sound, picture, both = (flag[:, None] * part for flag, part in zip(there, self.parts, strict=True))
        return sound + picture + both


def of(sound: float, picture: float) -> list[Any]:
    return [pytest.approx(sound), pytest.approx(picture)]


def told(found: Shares) -> list[float]:
    return [found.sound, found.picture]


def test_parts_that_add_up_are_found_again() -> None:
    clip = random_features(1)
    # Of a: sound 4 - 1 = 3 above the mean of 1, picture 1 - 0 = 1 above.
    (found,) = shares(Sums((4, -1, 0), (1, 0, -1)), clip)
    assert told(found) == of(3 / 4, 1 / 4)
    (found,) = shares(Sums((4, -1, 0), (-1, 0, 1)), clip)
    assert told(found) == of(3 / 4, -1 / 4)
    (found,) = shares(Sums((4, -1, 0), (1, 0, -1)), clip, ["c"])  # -1 and -1 from the mean
    assert told(found) == of(-1 / 2, -1 / 2)


def test_what_only_both_can_tell_is_shared_alike() -> None:
    (found,) = shares(Sums((0, 0, 0), (0, 0, 0), (6, 0, 0)), random_features(1))
    assert told(found) == of(1 / 2, 1 / 2)
    (found,) = shares(Sums((3, 0, 0), (0, 0, 0), (3, 0, 0)), random_features(1))  # 2 + 1 and 1
    assert told(found) == of(3 / 4, 1 / 4)


def test_what_is_missing_has_no_part() -> None:
    clips = without(random_features(4), sound=[1, 3], picture=[2, 3])
    found = shares(Sums((4, -1, 0), (1, 0, -1)), clips)
    assert told(found[0]) == of(3 / 4, 1 / 4)
    assert [told(part) for part in found[1:]] == [[0, 1], [1, 0], [0, 0]]


def test_one_class_has_no_parts_and_no_clips_no_shares() -> None:
    assert shares(Sums((3,), (1,), (2,)), random_features(2)) == [Shares(0, 0)] * 2
    assert shares(Sums((3, 1), (1, 0), (2, 0)), random_features(1)[torch.zeros(0, dtype=torch.long)]) == []


@pytest.mark.parametrize("kind", [NCM, Hark, L3])
def test_shares_of_real_learners_are_shapley_values(kind: type[Learner[Any]]) -> None:
    """Computed clip by clip, over both orders in which sound and picture can join."""
    learner = kind(small(kind.Settings()), memory=8).learn(Session.of(features_of(LABELS), LABELS))
    clips = without(features_of(LABELS[:6], seed=1), sound=[1], picture=[2])
    before = clips.audio.clone(), clips.visual.clone()
    found = shares(learner, clips)
    assert torch.equal(clips.audio, before[0]) and torch.equal(clips.visual, before[1])
    for row in range(6):
        clip = clips[torch.tensor([row])]
        answer = int(learner.scores(clip)[0].argmax())

        def value(players: str, clip: Features = clip, answer: int = answer) -> float:
            left = without(clip, sound=[] if "a" in players else [0], picture=[] if "v" in players else [0])
            scores = learner.scores(left)[0].tolist()
            return scores[answer] - sum(scores) / len(scores)

        part = {"a": 0.0, "v": 0.0}
        for order in ("av", "va"):
            part[order[0]] += (value(order[0]) - value("")) / 2
            part[order[1]] += (value("av") - value(order[0])) / 2
        total = abs(part["a"]) + abs(part["v"])
        assert told(found[row]) == pytest.approx([part["a"] / total, part["v"] / total], abs=1e-3)
    assert found[1].sound == 0 and found[2].picture == 0


# ---- pictures -------------------------------------------------------------------------------------------------------


class Eyes(Sums):
    """Looks at one patch of one frame."""

    def __init__(self, frame: int, patch: int, even: bool = False) -> None:
        super().__init__((3, 0), (1, 0))
        self.at, self.even = (frame, patch), even

    def heat(self, features: Features) -> Tensor:
        heat = torch.zeros(len(features), *features.visual.shape[1:3])
        heat[:, *self.at] = 1
        return torch.full_like(heat, 1 / heat[0].numel()) if self.even else heat


@dataclass(frozen=True)
class Grid(Fake):
    """Tokens of ones, in so many frames of so many patches."""

    counts: tuple[int, int] = (4, 4)

    @property
    def spec(self) -> EncoderSpec:
        shape = TokenShape(1, 1, *self.counts, 1)
        return replace(super().spec, shape=shape, frames=shape.frames)

    def encode(self, media: Sequence[Media]) -> Features:
        heard = torch.tensor([clip.waveform is not None for clip in media])
        seen = torch.tensor([clip.frames is not None for clip in media])
        visual = seen[:, None, None, None].float().expand(-1, *self.counts, 1)
        return Features(tuple(map(str, range(len(media)))), heard[:, None, None].float(), visual, heard, seen)


def answer(path: Path, start: float = 0.0, end: float = 4.0, label: str | None = "a", **rest: Any) -> Answer:
    ranking = rest.pop("ranking", (("a", 0.9), ("b", 0.1)))
    return replace(Answer(str(path), start, end, label, "a", 0.9, ranking, True, True), **rest)


def shown(path: Path) -> np.ndarray[Any, Any]:
    """(height, width, 3) as numbers that may be subtracted."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def facts(record: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(record.read_text("ascii"))["answers"]
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Four seconds, one gray level each, twice as wide as high, with sound."""
    images = [gray(40 + 50 * (k // 25), (32, 64)) for k in range(100)]
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 4 * 44_100))
    return film(tmp_path / "a film.mov", images, sound=sound, sound_codec="pcm_s16le")


def test_frames_above_and_the_look_over_them_below(path: Path, tmp_path: Path) -> None:
    picture, record = explain(path, [answer(path)], Grid(), Eyes(2, 1), tmp_path / "out")
    assert (picture.name, record.name) == ("a film.mov 001 0-00.0 a.png", "a film.mov.json")
    sheet = shown(picture)
    height, width = SIDE // 2, SIDE  # as the film is
    assert sheet.shape == (2 * height + 2, 4 * (width + 2) - 2, 3)
    for k in range(4):
        frame = sheet[:height, k * (width + 2) : k * (width + 2) + width]
        assert np.abs(frame - (40 + 50 * k)).max() < 8
    below = sheet[height + 2 :]
    warm = below[:, :, 0] - below[:, :, 2]  # redder than blue
    left = 2 * (width + 2)
    assert warm[height // 4, left + 3 * width // 4] > 60  # frame 2, upper right
    assert warm[3 * height // 4, left + width // 4] < 20
    assert np.abs(np.delete(warm, np.s_[left : left + width], 1)).max() < 20
    (said,) = facts(record)
    assert (said["label"], said["start"], said["end"], said["shown"]) == ("a", 0, 4, [0, 4])
    assert (said["sound_share"], said["picture_share"]) == (0.75, 0.25)
    assert (said["focus"], said["note"], said["picture"]) == (1.0, "", picture.name)
    assert said["caption"] == "0:00.0–0:04.0 a 90.0 %; sound 75.0 %, picture 25.0 %"


def test_of_merged_neighbours_the_surest_window_is_shown(path: Path, tmp_path: Path) -> None:
    windows = [answer(path, k, k + 1.0, confidence=0.5 + 0.1 * (k == 2)) for k in range(4)]
    picture, record = explain(path, merged(windows), Grid(), Eyes(0, 0), tmp_path / "out")
    (said,) = facts(record)
    assert (said["start"], said["end"], said["shown"]) == (0, 4, [2, 3])
    assert picture.name == "a film.mov 001 0-02.0 a.png"
    frames = shown(picture)[: SIDE // 2]
    assert np.abs(frames[:, :SIDE] - 140).max() < 8
    assert np.abs(frames[:, -SIDE:] - 140).max() < 8


@pytest.mark.parametrize(
    ("learner", "encoder", "note"),
    [
        (Sums((3, 0), (1, 0)), Grid(), "this learner does not say where it looks"),
        (Eyes(0, 0, even=True), Grid(), "it looked everywhere alike"),
        (Eyes(0, 0), Grid(counts=(4, 6)), "its 6 patches a frame form no square, so they cannot be laid"),
    ],
)
def test_a_look_that_cannot_be_drawn_is_said(
    path: Path, tmp_path: Path, learner: Sums, encoder: Grid, note: str
) -> None:
    picture, record = explain(path, [answer(path)], encoder, learner, tmp_path / "out")
    assert shown(picture).shape[0] == SIDE // 2  # the frames alone
    (said,) = facts(record)
    assert (said["note"], said["focus"]) == (note, None)
    assert said["caption"].endswith(f"; {note}")


def test_what_is_missing_is_said(path: Path, tmp_path: Path) -> None:
    wav = tone(tmp_path / "a.wav", 300, seconds=2.0)
    (record,) = explain(wav, [answer(wav, 0, 2, None, seen=False)], Grid(), Eyes(0, 0), tmp_path / "out")
    (said,) = facts(record)
    assert (said["picture"], said["sound_share"], said["picture_share"]) == (None, 1.0, 0.0)
    assert said["caption"] == "0:00.0–0:02.0 unknown; likeliest a 90.0 %, no picture; sound 100.0 %, picture 0.0 %"
    silent = film(tmp_path / "b.mp4", [gray(90)] * 25)
    picture, record = explain(silent, [answer(silent, 0, 1, heard=False)], Grid(), Eyes(0, 0), tmp_path / "out")
    (said,) = facts(record)
    assert picture.exists()
    assert said["caption"] == "0:00.0–0:01.0 a 90.0 %; no sound; sound 0.0 %, picture 100.0 %"
    nothing = answer(path, 0, 4, None, likeliest="", confidence=0.0, ranking=(), heard=False, seen=False)
    (record,) = explain(path, [nothing], Grid(), Eyes(0, 0), tmp_path / "out")
    (said,) = facts(record)
    assert (said["sound_share"], said["picture_share"], said["picture"]) == (None, None, None)
    assert said["caption"] == "0:00.0–0:04.0 unknown; nothing could be decoded"


def test_a_part_against_the_answer_is_said(path: Path, tmp_path: Path) -> None:
    *_, record = explain(path, [answer(path)], Grid(), Sums((3, 0), (0, 1)), tmp_path / "out")
    assert facts(record)[0]["caption"].startswith("0:00.0–0:04.0 a 90.0 %; sound 75.0 %, picture 25.0 % against it; ")
    *_, record = explain(path, [answer(path)], Grid(), Sums((0, 0), (0, 0)), tmp_path / "out")
    assert facts(record)[0]["caption"] == "0:00.0–0:04.0 a 90.0 %; this learner does not say where it looks"


@pytest.mark.parametrize(
    "name", ["a/b\\c", "🔔 bell", "..", "", " ", "x" * 300, "鐘" * 200, 'CON: <"*?|>', "line\nbreak", "a\0b", "é"]
)
def test_any_class_name_makes_a_file_name(path: Path, tmp_path: Path, name: str) -> None:
    learner = Eyes(0, 0)
    learner.classes = (name, "other")
    asked = answer(path, label=name, likeliest=name, ranking=((name, 0.9), ("other", 0.1)))
    picture, record = explain(path, [asked], Grid(), learner, tmp_path / "out")
    assert picture.parent == tmp_path / "out"
    assert sorted((tmp_path / "out").iterdir()) == [picture, record]
    assert len(picture.name.encode()) <= 255
    assert picture.name.isprintable()
    assert not set(picture.name) & set('\\/:*?"<>|')
    (said,) = facts(record)
    assert (said["label"], said["picture"]) == (name, picture.name)
    assert said["caption"].isprintable()


@pytest.mark.parametrize("name", ["two\nlines.mov", "\udcff.mov", "x" * 200 + ".mov", "...mov"])
def test_any_file_name_will_do(path: Path, tmp_path: Path, name: str) -> None:
    odd = path.rename(tmp_path / name)
    picture, record = explain(odd, [answer(odd)], Grid(), Eyes(0, 0), tmp_path / "out")
    assert picture.exists()
    picture.name.encode("utf-8")
    assert json.loads(record.read_text("ascii"))["file"] == str(odd)


def test_explaining_again_replaces_and_files_of_one_name_do_not(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = explain(path, [answer(path, 0, 2), answer(path, 2, 4)], Grid(), Eyes(0, 0), out)
    (out / "a film.mov 007 of mine.png").write_text("kept")
    again = explain(path, [answer(path, label=None)], Grid(), Eyes(0, 0), out)
    assert again[-1] == first[-1]
    assert {file.name for file in out.iterdir()} == {
        "a film.mov 001 0-00.0 unknown.png",
        "a film.mov 007 of mine.png",
        "a film.mov.json",
    }
    twin = tmp_path / "elsewhere" / path.name
    twin.parent.mkdir()
    twin.write_bytes(path.read_bytes())
    for _ in range(2):
        picture, record = explain(twin, [answer(twin)], Grid(), Eyes(0, 0), out)
        assert record.name == "a film.mov (2).json"
        assert picture.name == "a film.mov (2) 001 0-00.0 a.png"
    assert again[0].exists()
    assert facts(again[-1])[0]["label"] is None


def test_a_record_cannot_name_files_elsewhere(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    *_, record = explain(path, [answer(path)], Grid(), Eyes(0, 0), out)
    victim = tmp_path / "victim.png"
    victim.write_text("kept")
    record.write_text(json.dumps({"file": str(path), "answers": [{"picture": "../victim.png"}, {"picture": None}]}))
    explain(path, [answer(path)], Grid(), Eyes(0, 0), out)
    assert victim.exists()


def test_many_frames_are_shown_as_a_few(path: Path, tmp_path: Path) -> None:
    picture, _ = explain(path, [answer(path)], Grid(counts=(40, 4)), Eyes(39, 0), tmp_path / "out")
    sheet = shown(picture)
    assert sheet.shape[1] == 8 * (SIDE + 2) - 2
    levels = [int(sheet[SIDE // 4, k * (SIDE + 2) + SIDE // 2, 0]) for k in range(8)]
    assert levels == pytest.approx([40, 40, 90, 90, 140, 140, 190, 190], abs=8)
    below = sheet[SIDE // 2 + 2 :, :, 0] - sheet[SIDE // 2 + 2 :, :, 2]
    assert below[SIDE // 8, 7 * (SIDE + 2) + SIDE // 4] > 60


def test_a_file_that_is_gone(path: Path, tmp_path: Path) -> None:
    path.unlink()
    with pytest.raises(MediaError, match="cannot be opened"):
        explain(path, [answer(path)], Grid(), Eyes(0, 0), tmp_path / "out")


@pytest.mark.parametrize("package", ["matplotlib", "PIL"])
def test_without_the_extra(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    for name in ("figures", "heat"):
        monkeypatch.delitem(sys.modules, f"harkback.{name}", raising=False)
        monkeypatch.delattr(harkback, name, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    message = rf'pictures cannot be drawn without {package}; pip install "harkback\[report\]"'
    with pytest.raises(HarkbackError, match=message):
        explain(path, [answer(path)], Grid(), Eyes(0, 0), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    wav = tone(tmp_path / "a.wav", 300, seconds=2.0)  # Nothing is drawn of a sound.
    assert explain(wav, [answer(wav, 0, 2, seen=False)], Grid(), Eyes(0, 0), tmp_path / "out")
