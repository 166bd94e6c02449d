"""Pooled vectors against their definition in float64, and how tokens are read for them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from fakes import SHAPE, Mapped, random_features, without
from harkback import pooling
from harkback.features import Features
from harkback.pooling import pooled, pooled_batches, pooled_dim, summaries

Array = NDArray[np.float64]


def clips(tokens: Tensor) -> Features:
    """Clips with these tokens (clips, tokens, dim) as their sound, and a picture of one number."""
    there = torch.ones(len(tokens), dtype=torch.bool)
    return Features(tuple(map(str, range(len(tokens)))), tokens, torch.zeros(len(tokens), 1, 1, 1), there, ~there)


def by_definition(tokens: Tensor) -> tuple[Array, Array, Array]:
    x = tokens.double().numpy()
    return x.mean(1), x.std(1), x.max(1)


def sound_of(features: Features) -> tuple[Array, Array, Array]:
    mean, spread, peak = summaries(features)[0].unflatten(1, (3, -1)).unbind(1)
    return mean.numpy(), spread.numpy(), peak.numpy()


@pytest.mark.parametrize(("count", "dim"), [(1, 768), (128, 96), (200, 64), (5, 3), (1568, 7)])
@pytest.mark.parametrize("middle", [0.0, 57.0, -900.0])
def test_rounding_is_thousands_of_times_less_than_that_of_half_precision(count: int, dim: int, middle: float) -> None:
    some = torch.Generator().manual_seed(0)
    exact = torch.randn(9, count, dim, generator=some, dtype=torch.float64) * 3 + middle
    tokens = exact.half()
    (mean, spread, peak), expected = sound_of(clips(tokens)), by_definition(tokens)
    lost = np.abs(tokens.double().numpy() - exact.numpy()).max()  # By half precision, of a token.
    assert np.abs(mean - expected[0]).max() < 2e-7 * (3 + abs(middle)) < lost / 1000
    np.testing.assert_allclose(spread, expected[1], rtol=5e-7, atol=0)
    np.testing.assert_array_equal(peak, expected[2])


def test_tokens_of_float64_are_pooled_in_float64() -> None:
    tokens = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1e3
    for found, expected in zip(sound_of(clips(tokens)), by_definition(tokens), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("value", [0.1, 57.3, 1234.5, -1e-4])
@pytest.mark.parametrize("count", [1, 7, 128, 200])
def test_tokens_that_are_all_alike_have_no_deviation(value: float, count: int) -> None:
    tokens = torch.full((3, count, 4), value).half()
    mean, spread, _ = sound_of(clips(tokens))
    assert (spread == 0).all()
    assert (mean == float(tokens[0, 0, 0])).all()


def test_a_clip_has_the_same_vector_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    features = without(random_features(11), sound=[2, 5], picture=[5, 6])
    whole = pooled(features)
    assert whole.shape == (11, pooled_dim(SHAPE)) and whole.dtype == torch.float64
    one_by_one = torch.cat([pooled(features[torch.tensor([row])]) for row in range(11)])
    assert torch.equal(whole, one_by_one)
    for numbers in (1, 3 * SHAPE.frames * SHAPE.patches * SHAPE.visual_dim):
        monkeypatch.setattr(pooling, "CACHED", numbers)
        assert torch.equal(pooled(features), whole)


def test_what_is_missing_is_zero_whatever_lies_there() -> None:
    features = without(random_features(4), sound=[1], picture=[2])
    features.audio[1], features.visual[2] = float("nan"), 3.0
    found = pooled(features)
    sound = 3 * SHAPE.audio_dim
    assert not found[1, :sound].any() and found[1, sound:-2].all() and found[1, -2:].tolist() == [0, 1]
    assert not found[2, sound:-2].any() and found[2, :sound].all() and found[2, -2:].tolist() == [1, 0]
    assert torch.equal(found[[0, 3]], pooled(features[torch.tensor([0, 3])]))
    assert pooled(features[torch.zeros(0, dtype=torch.long)]).shape == (0, pooled_dim(SHAPE))


def test_batches_are_all_clips_once_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooling, "VECTORS", 200)
    features = random_features(600)
    mapped = Mapped(features)
    parts = [(rows, x) for rows, x in pooled_batches(mapped)]
    assert [len(x) for _, x in parts] == [256, 256, 88]  # As soon as there are 200, of 128 read at a time.
    assert torch.equal(torch.cat([rows for rows, _ in parts]), torch.arange(600))
    assert torch.equal(torch.cat([x for _, x in parts]), pooled(features))
    assert sum(mapped.reads) == 600
    assert list(pooled_batches(features[torch.zeros(0, dtype=torch.long)])) == []


def test_pooling_leaves_the_threads_as_they_were() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        pooled(random_features(2))
        assert torch.get_num_threads() == 3
        with pytest.raises(IndexError):  # Also when it fails: there is no peak of no tokens.
            summaries(clips(torch.zeros(2, 0, 3)))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
