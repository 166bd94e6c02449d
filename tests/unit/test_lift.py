"""The fixed standardisation of pooled vectors, and random projections that are made anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fakes import Mapped, random_features, without
from harkback import lift
from harkback.features import Features, join
from harkback.lift import FirstStandard, Projections, projection
from harkback.pooling import summaries


def test_a_projection_is_standard_normal_and_a_function_of_its_seed() -> None:
    drawn = projection(7, 300, 200)
    assert drawn.dtype == torch.float64
    assert abs(drawn.mean()) < 5 / np.sqrt(60_000)
    assert abs(drawn.std() - 1) < 5 / np.sqrt(2 * 60_000)
    assert torch.equal(drawn, Projections()(7, 300, 200))
    assert not torch.equal(drawn, projection(8, 300, 200))


def test_projections_are_kept_while_they_are_few_the_last_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lift, "DRAWN", 2 * 8 * 30)
    drawn = Projections()
    first, second = drawn(1, 5, 6), drawn(2, 5, 6)
    assert drawn(1, 5, 6) is first and drawn(2, 5, 6) is second
    drawn(1, 5, 6)
    drawn(3, 5, 6)
    assert drawn(1, 5, 6) is first  # The second was asked for longest ago.
    again = drawn(2, 5, 6)
    assert again is not second and torch.equal(again, second)
    large = drawn(4, 50, 60)
    assert drawn(4, 50, 60) is large and drawn(1, 5, 6) is not first


def test_what_is_there_has_mean_zero_and_deviation_one_and_what_is_not_is_zero() -> None:
    clips = without(random_features(40), sound=[3, 7], picture=[7, 9, 11])
    standard, mapped = FirstStandard(), Mapped(clips)
    learnt = standard.learn(mapped)
    assert sum(mapped.reads) == 40  # Each clip once.
    assert all(torch.equal(one, other) for one, other in zip(learnt, standard(clips), strict=True))
    for z, raw, there in zip(standard(clips), summaries(clips), (clips.heard, clips.seen), strict=True):
        kept = raw[there].numpy()
        np.testing.assert_allclose(z[there], (kept - kept.mean(0)) / kept.std(0), rtol=1e-9, atol=1e-9)
        assert (z[~there] == 0).all()


def test_the_first_session_fixes_it() -> None:
    first, later = random_features(20), random_features(20, 1)
    standard, untouched = FirstStandard(), FirstStandard()
    standard.learn(first)
    untouched.learn(first)
    standard.learn(later)
    for one, other in zip(standard(later), untouched(later), strict=True):
        assert torch.equal(one, other)


def test_a_modality_is_fixed_by_the_first_session_that_has_it() -> None:
    silent, heard, loud = without(random_features(9), sound=range(9)), random_features(9, 1), random_features(9, 2)
    standard = FirstStandard()
    standard.learn(silent)
    assert (standard(heard)[0] == 0).all()  # Never met: nothing can be said.
    before = standard(silent)
    standard.learn(heard)
    standard.learn(loud)
    assert all(torch.equal(one, other) for one, other in zip(before, standard(silent), strict=True))
    raw = summaries(heard)[0].numpy()
    np.testing.assert_allclose(standard(heard)[0], (raw - raw.mean(0)) / raw.std(0), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("clips", [1, 2, 30])
@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_nothing_explodes_when_what_stood_still_moves(clips: int, unit: float) -> None:
    def still(features: Features) -> Features:
        audio = features.audio.double() * unit
        audio[:, :, 0] = unit
        return replace(features, audio=audio)

    standard = FirstStandard()
    standard.learn(still(random_features(clips)))
    moved = replace(random_features(50, 1), audio=random_features(50, 1).audio.double() * unit)
    assert standard(moved)[0].abs().max() < 1e3
    assert standard(moved)[0].std() > 0.01


def test_the_state_is_all_there_is() -> None:
    clips = without(random_features(12), picture=range(12))
    standard, again = FirstStandard(), FirstStandard()
    standard.learn(clips)
    again.restore(standard.state())
    for each in (standard, again):
        each.learn(random_features(12, 1))
    both = join([clips, random_features(3, 2)])
    assert all(torch.equal(one, other) for one, other in zip(standard(both), again(both), strict=True))
