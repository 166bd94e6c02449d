"""`harkback.answers`: a file is asked window by window, and what is said of each is what its clip alone would get."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fakes import RATE, Fake, random_features
from films import film, gray
from harkback import decoding
from harkback.answers import Answer, ask, merged
from harkback.encoders.signal import Signal
from harkback.errors import HarkbackError
from harkback.features import Features, join
from harkback.learners.base import Learner
from harkback.learners.ncm import NCM
from harkback.media import Media, NotMedia, Truncated, read
from harkback.stream import Session
from harkback.unknown import Calibration

SIGNAL = Signal()
OPEN = Calibration(0.1, ())  # Has seen too few clips to call anything unknown.
SCENES = ("brook", "siren", "wood")
SIZE = (48, 64)


def scene(name: str, seconds: float, seed: int = 0) -> tuple[list[NDArray[np.uint8]], NDArray[np.float64]]:
    """Pictures, 25 a second, and sound (1, samples) at 44.1 kHz, that nobody could confuse."""
    some = np.random.default_rng(seed)
    image = np.full((*SIZE, 3), 40, np.uint8)
    time = np.arange(round(44_100 * seconds)) / 44_100
    if name == "brook":
        image[::6, :, 2] = 230
        sound = some.uniform(-0.5, 0.5, len(time))
    elif name == "siren":
        image[12:36, 16:48, 0] = 250
        sound = 0.5 * np.sin(2 * np.pi * 900 * time + 8 * np.sin(2 * np.pi * 4 * time))
    else:
        image[:, ::9, 1] = 180
        sound = 0.5 * np.sin(2 * np.pi * 120 * time) * (np.sin(2 * np.pi * 6 * time) > 0)
    shifts = some.integers(-3, 4, round(25 * seconds))
    return [np.roll(image, shift, 1) for shift in shifts], sound[None]


def story(path: Path, scenes: Sequence[tuple[str, float]], silent: bool = False, seed: int = 5) -> Path:
    """One scene after another."""
    parts = [scene(name, seconds, seed + i) for i, (name, seconds) in enumerate(scenes)]
    images = [image for part in parts for image in part[0]]
    sound = None if silent else np.concatenate([part[1] for part in parts], 1)
    return film(path, images, sound=sound, sound_codec="pcm_s16le")


@pytest.fixture(scope="module")
def learner(tmp_path_factory: pytest.TempPathFactory) -> NCM:
    """Knows the three scenes."""
    folder = tmp_path_factory.mktemp("taught")
    labels, parts = [], []
    for seed in range(2):
        for name in SCENES:
            path = story(folder / f"{name}-{seed}.mov", [(name, 2.0)], seed=20 * seed)
            parts.append(SIGNAL.encode([read(path, frames=8, sample_rate=16_000)]))
            labels.append(name)
    return NCM().learn(Session.of(join(parts), labels))


def said(path: Path, learner: Learner[Any], window: float | None = None, **rest: Any) -> list[Answer]:
    return ask(path, SIGNAL, learner, rest.pop("calibration", OPEN), window=window, false_alarm=0.05, **rest)


# ---- what is said ---------------------------------------------------------------------------------------------------


def test_a_film_of_three_stretches(tmp_path: Path, learner: NCM) -> None:
    path = story(tmp_path / "a.mov", [("siren", 4), ("brook", 6), ("wood", 2)])
    answers = said(path, learner, window=2.0)
    assert [(answer.start, answer.end) for answer in answers] == [(2.0 * k, 2.0 * k + 2) for k in range(6)]
    assert [answer.label for answer in answers] == ["siren"] * 2 + ["brook"] * 3 + ["wood"]
    for answer in answers:
        media = read(path, frames=8, sample_rate=16_000, start=answer.start, end=answer.end)
        shares = (learner.scores(SIGNAL.encode([media]))[0].double() / 0.1).softmax(0)
        expected = sorted(zip(shares.tolist(), learner.classes, strict=True), reverse=True)
        assert [name for name, _ in answer.ranking] == [name for _, name in expected]
        assert [share for _, share in answer.ranking] == pytest.approx([share for share, _ in expected])
        assert (answer.likeliest, answer.confidence) == answer.ranking[0]
        assert answer.file == str(path)
        assert (answer.heard, answer.seen, answer.missing, answer.surest) == (True, True, "", None)
    assert [(a.label, a.start, a.end) for a in merged(answers)] == [("siren", 0, 4), ("brook", 4, 10), ("wood", 10, 12)]


def test_the_whole_file_is_one_clip(tmp_path: Path, learner: NCM) -> None:
    path = story(tmp_path / "a.mov", [("wood", 3.4)])
    (answer,) = said(path, learner)
    assert (answer.start, answer.end) == (0, pytest.approx(3.4, abs=0.001))
    media = read(path, frames=8, sample_rate=16_000)
    shares = (learner.scores(SIGNAL.encode([media]))[0].double() / 0.1).softmax(0)
    assert answer.label == "wood"
    assert answer.confidence == pytest.approx(float(shares.max()))


def test_silent_films_sounds_and_stills_are_asked_and_what_is_missing_is_said(tmp_path: Path, learner: NCM) -> None:
    (silent,) = said(story(tmp_path / "a.mov", [("siren", 2)], silent=True), learner)
    assert (silent.label, silent.heard, silent.seen, silent.missing) == ("siren", False, True, "no sound")
    images, sound = scene("brook", 2.0)
    (wav,) = said(film(tmp_path / "a.wav", [], sound=sound, sound_codec="pcm_s16le"), learner)
    assert (wav.label, wav.heard, wav.seen, wav.missing) == ("brook", True, False, "no picture")
    still = film(tmp_path / "a.png", images[:1], codec="png")
    for window in (None, 2.0):
        (answer,) = said(still, learner, window)
        assert (answer.label, answer.missing) == ("brook", "no sound")
        assert answer.end == pytest.approx(0.04, abs=0.001)


def test_where_the_sound_ends_before_the_picture(tmp_path: Path, learner: NCM) -> None:
    images, sound = scene("brook", 6.0)
    path = film(tmp_path / "a.mov", images, sound=sound[:, : 4 * 44_100], sound_codec="pcm_s16le")
    answers = said(path, learner, window=2.0)
    assert [answer.missing for answer in answers] == ["", "", "no sound"]
    assert [(a.start, a.end, a.missing) for a in merged(answers)] == [(0, 4, ""), (4, 6, "no sound")]


def test_what_has_too_little_evidence_is_unknown(tmp_path: Path, learner: NCM) -> None:
    path = story(tmp_path / "a.mov", [("siren", 2), ("wood", 2), ("brook", 2)])
    evidence = []
    for start in (0.0, 2.0, 4.0):
        shares = [s for _, s in said(path, learner, window=2.0)[int(start // 2)].ranking]
        evidence.append(1 + sum(share * np.log(share) for share in shares) / np.log(3))  # 1 - entropy
    order = sorted(evidence)
    middle = (order[0] + order[1]) / 2
    picky = Calibration(0.1, (middle,) * 19)
    answers = ask(path, SIGNAL, learner, picky, window=2.0, false_alarm=0.05)
    assert [answer.label is None for answer in answers] == [found < middle for found in evidence]
    assert [answer.name for answer in answers if answer.label is None] == ["unknown"]
    assert [answer.likeliest for answer in answers] == ["siren", "wood", "brook"]
    none = ask(path, SIGNAL, learner, picky, window=2.0, false_alarm=0.01)  # 19 clips cannot promise so little
    assert all(answer.label is not None for answer in none)
    with pytest.raises(HarkbackError, match="false-alarm rate of 3"):
        ask(path, SIGNAL, learner, picky, window=2.0, false_alarm=3.0)


def test_who_knows_nothing_cannot_answer_and_who_knows_one_class_says_it(tmp_path: Path) -> None:
    path = story(tmp_path / "a.mov", [("siren", 1)])
    with pytest.raises(HarkbackError, match="knows no class yet; teach it"):
        said(path, NCM())
    clip = SIGNAL.encode([read(path, frames=8, sample_rate=16_000)])
    (answer,) = said(path, NCM().learn(Session.of(clip, ["siren"])))
    assert answer.ranking == (("siren", 1.0),)


def test_four_classes_are_ranked_and_three_are_told(tmp_path: Path, learner: NCM) -> None:
    more = NCM().restore(learner.state())
    odd = Features(("x",), torch.randn(1, 32, 64), torch.randn(1, 8, 64, 231), *torch.ones(2, 1, dtype=torch.bool))
    more.learn(Session.of(odd, ["noise"]))
    (answer,) = said(story(tmp_path / "a.mov", [("siren", 1)]), more)
    assert len(answer.ranking) == 3
    assert sum(share for _, share in answer.ranking) < 1


# ---- what goes wrong ------------------------------------------------------------------------------------------------


def zeroed(path: Path, start: float, end: float) -> Path:
    """The packets between two times overwritten."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.pts is not None and packet.pos is not None and start <= packet.pts * packet.time_base < end:
                data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    path.write_bytes(data)
    return path


def test_a_stretch_that_does_not_decode_does_not_cost_the_others(tmp_path: Path, learner: NCM) -> None:
    path = tmp_path / "a.mov"
    images = [image for name in SCENES for image in scene(name, 2.4)[0]]  # 180, five a second
    film(path, images, [200 * k for k in range(180)], codec="mjpeg")
    answers = said(zeroed(path, 12.0, 24.0), learner, window=12.0)
    assert [answer.label for answer in answers] == ["brook", None, "wood"]
    lost = answers[1]
    assert lost == Answer(str(path), answers[0].end, answers[2].start, None, "", 0.0, (), False, False)
    assert (lost.name, lost.missing) == ("unknown", "nothing could be decoded")


def test_files_of_which_nothing_can_be_had(tmp_path: Path, learner: NCM) -> None:
    path = film(tmp_path / "a.mov", [gray(k) for k in range(100)], codec="mjpeg")
    zeroed(path, 0.0, 4.0)
    with pytest.raises(Truncated, match=r"a\.mov: "):
        said(path, learner, window=1.0)
    cut = story(tmp_path / "b.mov", [("siren", 2)])
    cut.write_bytes(cut.read_bytes()[:5000])
    with pytest.raises(Truncated):
        said(cut, learner)
    with pytest.raises(NotMedia):
        said(tmp_path / "none.mov", learner)


# ---- how it is asked ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counting(Fake):
    """Remembers how many clips it was given at a time."""

    given: list[int] = field(default_factory=list)

    def encode(self, media: Sequence[Media]) -> Features:
        self.given.append(len(media))
        return super().encode(media)


@pytest.mark.parametrize(("in_workers", "given"), [(True, [1] * 19), (False, [8, 8, 3])])
def test_a_device_is_given_several_windows_at_once(tmp_path: Path, in_workers: bool, given: list[int]) -> None:
    assert decoding.BATCH == 8
    encoder = Counting(in_workers=in_workers)
    shape = encoder.spec.shape
    knows = NCM().learn(Session.of(random_features(4, shape=shape), ["a", "b", "a", "b"]))
    path = film(tmp_path / "a.mov", [gray(k % 200) for k in range(475)], codec="mjpeg")  # 19 s
    answers = ask(path, encoder, knows, OPEN, window=1.0, false_alarm=0.05)
    assert encoder.given == given
    assert len(answers) == 19
    for answer in answers:  # and none gets another's
        media = read(path, frames=2, sample_rate=RATE, start=answer.start, end=answer.end)
        shares = (knows.scores(encoder.encode([media]))[0].double() / 0.1).softmax(0)
        assert answer.confidence == pytest.approx(float(shares.max()), abs=1e-5)


def test_a_batch_with_a_lost_window_keeps_its_order(tmp_path: Path) -> None:
    encoder = Counting(in_workers=False)
    knows = NCM().learn(Session.of(random_features(4, shape=encoder.spec.shape), ["a", "b", "a", "b"]))
    images = [gray(5 * (k % 40), (16, 16)) for k in range(180)]
    path = film(tmp_path / "a.mov", images, [200 * k for k in range(180)], codec="mjpeg")
    answers = ask(zeroed(path, 12.0, 24.0), encoder, knows, OPEN, window=12.0, false_alarm=0.05)
    assert encoder.given == [2]
    assert [answer.seen for answer in answers] == [True, False, True]
    assert [answer.start for answer in answers] == pytest.approx([0, 12, 24], abs=0.2)


# ---- neighbours -----------------------------------------------------------------------------------------------------


def answer(start: float, end: float, label: str | None = "a", **rest: Any) -> Answer:
    ranking = rest.pop("ranking", (("a", 0.8), ("b", 0.2)))
    likeliest, confidence = ranking[0] if ranking else ("", 0.0)
    return replace(Answer("f", start, end, label, likeliest, confidence, ranking, True, True), **rest)


def test_confidences_are_weighed_by_seconds() -> None:
    one = answer(0, 1, ranking=(("a", 0.9), ("b", 0.1)))
    other = answer(1, 4, ranking=(("a", 0.5), ("c", 0.3), ("b", 0.2)))
    (both,) = merged([one, other])
    assert (both.start, both.end, both.label, both.likeliest) == (0, 4, "a", "a")
    assert both.confidence == pytest.approx(0.6)
    assert [name for name, _ in both.ranking] == ["a", "c", "b"]
    assert [share for _, share in both.ranking] == pytest.approx([0.6, 0.225, 0.175])
    assert both.surest == (0, 1)
    (three,) = merged([both, answer(4, 5)])
    assert three.surest == (4, 5)
    (three,) = merged([both, answer(4, 5, ranking=(("a", 0.55),))])
    assert three.surest == (0, 1)


def test_an_unknown_stretch_has_the_likeliest_class_of_all_of_it() -> None:
    one = answer(0, 1, None, ranking=(("a", 0.4), ("b", 0.35), ("c", 0.2)))
    other = answer(1, 2, None, ranking=(("b", 0.5), ("d", 0.2), ("e", 0.2)))
    (both,) = merged([one, other])
    assert (both.label, both.likeliest, both.confidence) == (None, "b", pytest.approx(0.425))
    assert [name for name, _ in both.ranking] == ["b", "a", "c"]


def test_what_is_kept_apart() -> None:
    kept = [
        answer(0, 1),
        answer(1, 2, None),
        answer(2, 3, "b", ranking=(("b", 1.0),)),
        answer(3, 4, "b", ranking=(("b", 1.0),), heard=False),
        answer(4, 5, "b", ranking=(("b", 1.0),), seen=False),
        answer(6, 7, "b", ranking=(("b", 1.0),), seen=False),  # not a neighbour
        answer(7, 8, "b", ranking=(("b", 1.0),), seen=False, file="g"),
    ]
    assert merged(kept) == kept
    assert merged([]) == []


def test_stretches_of_which_nothing_could_be_decoded_are_merged() -> None:
    lost = [answer(k, k + 1, None, ranking=(), heard=False, seen=False) for k in range(3)]
    assert merged(lost) == [replace(lost[0], end=3, surest=(0, 1))]


@given(st.lists(st.tuples(st.sampled_from([None, "a", "b"]), st.floats(0.1, 0.9), st.booleans()), max_size=12))
def test_merging_loses_no_second_and_no_change(given: list[tuple[str | None, float, bool]]) -> None:
    windows = []
    for k, (label, share, heard) in enumerate(given):
        first = label or "a"
        ranking = ((first, (1 + share) / 2), ("c", (1 - share) / 2))
        windows.append(answer(k, k + 1, label, ranking=ranking, heard=heard))
    found = merged(windows)
    assert sum(a.end - a.start for a in found) == len(windows)
    assert merged(found) == found
    for a in found:
        inside = [w for w in windows if a.start <= w.start < a.end]
        assert {(w.label, w.heard) for w in inside} == {(a.label, a.heard)}
        assert a.confidence == pytest.approx(sum(w.confidence for w in inside) / len(inside))
        assert (a.likeliest, a.confidence) == a.ranking[0]
    for before, after in pairwise(found):
        assert (before.label, before.heard) != (after.label, after.heard)
