"""Media to features, clip by clip: what cannot be encoded is told apart from what can, wherever clips are encoded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from fakes import Fake, random_features, tone
from harkback.answers import ask
from harkback.app.reading import read
from harkback.confined import Say
from harkback.encoders._batching import gathered
from harkback.encoding import encoded_each
from harkback.features import Features
from harkback.learners.ncm import NCM
from harkback.media import Media, MediaError
from harkback.parcels import Parcel
from harkback.stream import Session
from harkback.unknown import Calibration
from harkback.windows import decoded, encoded

SILENCE = Media(torch.zeros(1, 800), 8000, None, torch.zeros(2), 0.1)


@dataclass(frozen=True)
class Nothing(Fake):
    """Makes NaN of what is loud."""

    def encode(self, media: Sequence[Media]) -> Features:
        made = super().encode(media)
        for i, clip in enumerate(media):
            if clip.waveform is not None and clip.waveform.abs().max() > 0.5:
                made.audio[i] = math.nan
        return made


def test_no_media_are_no_features() -> None:
    assert encoded_each(Nothing(), []) == []


def test_single_tokens_become_halves() -> None:
    (found,) = encoded_each(Fake(), [SILENCE])
    assert isinstance(found, Features)
    assert found.audio.dtype == found.visual.dtype == torch.float16


def test_infinity_is_not_taken_for_a_large_number() -> None:
    """A tower that computes in half precision overflows to it; a large number of float32 is cut to the largest half."""
    shape = Fake().spec.shape
    tokens = torch.full(shape[:2], 1e6)
    assert gathered(shape, 1, {0: tokens}, {}).audio.eq(65504).all()
    tokens[1, 2] = -math.inf
    assert gathered(shape, 2, {1: tokens}, {}).unfit().tolist() == [False, True]


@pytest.mark.parametrize("array", ["audio", "visual"])
def test_one_number_among_many_makes_a_clip_unfit(array: str) -> None:
    clips = random_features(5)
    assert not clips.unfit().any()
    tokens = getattr(clips, array).clone()
    tokens[3].view(-1)[-1] = math.nan
    tokens[1].view(-1)[0] = math.inf
    assert replace(clips, **{array: tokens}).unfit().tolist() == [False, True, False, True, False]


@pytest.mark.parametrize("in_workers", [True, False])
def test_a_window_that_cannot_be_encoded_is_lost_alone(tmp_path: Path, in_workers: bool) -> None:
    loud, low = tone(tmp_path / "loud.wav", 400, 0.9), tone(tmp_path / "low.wav", 400, 0.2)
    encoder, span = Nothing(in_workers), (0.0, 0.1)
    media = [next(decoded(path, [span], encoder)) for path in (low, loud, low)]
    found = [each for _, each in encoded([(span, each) for each in media], encoder)]
    assert [isinstance(each, MediaError) for each in found] == [False, True, False]
    assert "not finite" in str(found[1])


def test_a_file_that_cannot_be_encoded_is_told_in_a_line(tmp_path: Path) -> None:
    path, shape = tone(tmp_path / "loud.wav", 400, 0.9), Fake().spec.shape
    learner = NCM().learn(Session.of(random_features(4, shape=shape), "abab"))
    with pytest.raises(MediaError, match=r"loud.wav: .* not finite"):
        ask(path, Nothing(), learner, Calibration(), window=None, false_alarm=0.05)


def test_the_page_is_told_of_a_window_that_cannot_be_encoded(tmp_path: Path) -> None:
    said: list[Parcel] = []
    say: Say = said.append
    read(say, tone(tmp_path / "loud.wav", 400, 0.9), None, Nothing(), pictures=False, longest=None)
    (_, (facts, arrays)) = said
    assert "not finite" in facts["failed"]
    assert arrays == {}
