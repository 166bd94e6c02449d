"""Standardisation: mean and deviation of the tokens that are there, whatever they are read in."""

from __future__ import annotations

import pytest
import torch

from fakes import SHAPE, Mapped, random_features, without
from harkback import buffer, standard
from harkback.standard import Standard, measure


@pytest.mark.parametrize("few", [False, True])
def test_mean_and_deviation_of_what_is_there(few: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if few:
        monkeypatch.setattr(standard, "CHUNK", 20)  # Numbers: less than a row has.
        monkeypatch.setattr(buffer, "CACHED", 700)  # Bytes: two rows or three.
    clips = without(random_features(9), sound=[0, 4], picture=[8])
    clips.audio[0], clips.visual[8] = 100, 100  # Masked, so whatever stands there.
    clips.visual[..., 3] = 5  # A channel that never moves.
    heard, seen = Standard(SHAPE.audio_dim), Standard(SHAPE.visual_dim)
    measure(Mapped(clips), heard, seen)
    for found, tokens, there in ((heard, clips.audio, clips.heard), (seen, clips.visual, clips.seen)):
        for channel in range(tokens.shape[-1]):
            numbers = [x for row in there.nonzero().flatten() for x in tokens[row, ..., channel].flatten().tolist()]
            mean = sum(numbers) / len(numbers)
            deviation = (sum((x - mean) ** 2 for x in numbers) / len(numbers)) ** 0.5
            assert float(found.mean[channel]) == pytest.approx(mean, abs=1e-6)
            assert float(found.scale[channel]) == pytest.approx(max(deviation, 0.01), rel=1e-5)
    assert float(seen.scale[3]) == pytest.approx(0.01)


def test_of_nothing_it_stays_as_it_is() -> None:
    heard, seen = Standard(SHAPE.audio_dim), Standard(SHAPE.visual_dim)
    measure(random_features(0), heard, seen)
    measure(without(random_features(2), sound=[0, 1], picture=[0, 1]), heard, seen)
    for found in (heard, seen):
        assert torch.equal(found.mean, torch.zeros_like(found.mean))
        assert torch.equal(found.scale, torch.ones_like(found.scale))
