"""Where the look goes: regressions against refitting them, sums against all patches at once, shares against loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import MultivariateNormal

from harkback import gaze
from harkback.blocks import Block
from harkback.gaze import HINT, RIDGE, SHARP, Foretelling, Patches, Tally, attended, shares
from harkback.moments import Moments

Array = NDArray[np.float64]
HEARD, LOOKED, REST = 9, 4, 3
BLOCKS = [Block(5, 0.3), Block(3, 0.5), Block(1, 0.01)]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def material(clips: int, seed: int) -> tuple[Tensor, Tensor]:
    """What is heard, far from centred and of all sizes, its last column whether there was anything; what is looked at.

    The second follows from the first, but for noise.
    """
    heard = noise(clips, HEARD, seed=seed) * torch.logspace(-2, 1, HEARD) + 3
    heard[:, -1] = 1
    heard[::4] = 0
    looked = heard @ noise(HEARD, LOOKED, seed=99) + noise(clips, LOOKED, seed=seed + 50) + 2
    return heard, looked


def former(sessions: int) -> tuple[Moments, Array, Array]:
    """Sums over former sessions' vectors, [heard; looked; rest], and the first two of these."""
    moments, parts = Moments(), []
    for t in range(sessions):
        heard, looked = material(7 + t, 10 + t)
        targets = torch.arange(len(heard)) % 2 + 2 * t
        moments.add(torch.cat([heard, looked, noise(len(heard), REST, seed=t) + 5], 1), targets, 2 * t + 2)
        parts.append((heard.numpy(), looked.numpy()))
    nothing = np.zeros((0, HEARD)), np.zeros((0, LOOKED))
    before = [np.concatenate(part) for part in zip(nothing, *parts, strict=True)]
    return moments, before[0], before[1]


def scaled(heard: Array) -> Array:
    """Centred, and each block's columns divided by one number, so that their variances add up to its weight."""
    z, start = heard - heard.mean(0), 0
    for columns, weight, _ in BLOCKS:
        block = z[:, start : start + columns]
        block *= math.sqrt(weight / block.var(0).sum())
        start += columns
    return z


def least_squares(z: Array, y: Array, penalty: float) -> Array:
    """|z w - y|^2 + penalty |w|^2, the penalty as extra rows."""
    rows = np.vstack([z, math.sqrt(penalty) * np.eye(z.shape[1])])
    return np.asarray(np.linalg.lstsq(rows, np.vstack([y, np.zeros((z.shape[1], y.shape[1]))]), rcond=None)[0])


# ---- what the sound foretells ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sessions", [0, 1, 3])
def test_what_sounds_foretell_is_a_ridge_regression_on_the_clips_of_all_sessions(sessions: int) -> None:
    moments, heard_before, looked_before = former(sessions)
    heard, looked = material(12, 0)
    slope, bias = Foretelling(moments, heard, LOOKED, BLOCKS).fit(looked)

    all_heard, all_looked = np.vstack([heard_before, heard]), np.vstack([looked_before, looked])
    z, mean = scaled(all_heard), all_looked.mean(0)
    # Summed over clips, not their mean: the penalty HINT energy / count is count times as large.
    weight = least_squares(z, all_looked - mean, HINT * z.var(0).sum())
    np.testing.assert_allclose(heard @ slope + bias, (z @ weight + mean)[len(heard_before) :], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("clips", [5, 12])  # Fewer than columns, and more.
@pytest.mark.parametrize("sessions", [0, 2])
def test_what_is_foretold_of_a_clip_left_out_is_refitting_without_it(sessions: int, clips: int) -> None:
    """Its row is deleted from the centred, scaled sounds and from the centred looks; mean, scale and penalty stay."""
    moments, heard_before, looked_before = former(sessions)
    heard, looked = material(clips, 0)
    mine = Foretelling(moments, heard, LOOKED, BLOCKS).left_out(looked)

    all_heard, all_looked = np.vstack([heard_before, heard]), np.vstack([looked_before, looked])
    z, mean = scaled(all_heard), all_looked.mean(0)
    penalty = HINT * z.var(0).sum()
    for i in range(len(heard)):
        row = len(heard_before) + i
        weight = least_squares(np.delete(z, row, 0), np.delete(all_looked, row, 0) - mean, penalty)
        np.testing.assert_allclose(mine[i], z[row] @ weight + mean, rtol=1e-8, atol=1e-10)


def test_a_clip_left_out_has_no_say_in_what_is_foretold_of_it_but_for_the_mean() -> None:
    heard, looked = material(12, 0)
    foretelling = Foretelling(Moments(), heard, LOOKED, BLOCKS)
    other = looked.clone()
    other[3] += 1000
    moved = foretelling.left_out(other) - foretelling.left_out(looked)
    # Its 1000 moves the mean by 1000 / 12, and thereby the aims of all others: no more than that comes back to it.
    z = scaled(heard.numpy())
    weight = least_squares(np.delete(z, 3, 0), np.full((11, 1), -1000 / 12), HINT * z.var(0).sum())
    np.testing.assert_allclose(moved[3], (z[3] @ weight + 1000 / 12).repeat(LOOKED), rtol=1e-7)
    told = [heard[3] @ slope + bias for slope, bias in map(foretelling.fit, (looked, other))]
    assert ((told[1] - told[0]) - moved[3]).min() > 10  # It has a say where it is not left out.


def test_sounds_that_never_differ_foretell_the_mean() -> None:
    looked = material(12, 0)[1]
    foretelling = Foretelling(Moments(), torch.full((12, HEARD), 2.5, dtype=torch.float64), LOOKED, BLOCKS)
    slope, bias = foretelling.fit(looked)
    assert not slope.any()
    torch.testing.assert_close(bias, looked.mean(0))
    torch.testing.assert_close(foretelling.left_out(looked), looked.mean(0).expand(12, LOOKED))


# ---- how patches vary -----------------------------------------------------------------------------------------------


def patches_of(clips: int, seed: int = 1) -> Tensor:
    """(clips, 5, LOOKED) float32, correlated and not centred."""
    return (noise(clips, 5, LOOKED, seed=seed) @ noise(LOOKED, LOOKED, seed=7) + 1).float()


def added(patches: Tensor, cuts: list[int]) -> Patches:
    sums = Patches()
    for part in patches.split(cuts):
        met = Tally(LOOKED)
        for few in part.split(3):
            met.add(few)
        sums.add(met.patches())
    return sums


@pytest.mark.parametrize("at_once", [1, 20, 1000])
@pytest.mark.parametrize("cuts", [[12], [1] * 12, [5, 0, 7], [0, 12]])
def test_sums_over_patches_are_those_of_all_at_once_however_they_are_cut(
    cuts: list[int], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gaze, "AT_ONCE", at_once)
    patches = patches_of(12)
    sums, flat = added(patches, cuts), patches.double().flatten(0, 1).numpy()
    assert float(sums.count) == 60
    np.testing.assert_allclose(sums.mean, flat.mean(0), rtol=1e-6)
    assert torch.equal(sums.products, sums.products.T)
    covariance = sums.products / sums.count - torch.outer(sums.mean, sums.mean)
    # The sums over few clips are float32.
    np.testing.assert_allclose(covariance, np.cov(flat.T, bias=True), rtol=1e-5, atol=1e-5)


def widened(patches: Tensor) -> Tensor:
    """Covariance of all patches, and a share of its mean variance more in each direction."""
    covariance = np.cov(patches.double().flatten(0, 1).numpy().T, bias=True)
    return torch.from_numpy(covariance + RIDGE * np.trace(covariance) / LOOKED * np.eye(LOOKED))


def test_a_tally_can_be_asked_while_it_goes_on() -> None:
    patches = patches_of(12)
    met = Tally(LOOKED)
    met.add(patches[:5])
    first = met.patches()
    met.add(patches[5:])
    for sums, count in ((first, 5), (met.patches(), 12)):
        flat = patches[:count].double().flatten(0, 1)
        assert float(sums.count) == 5 * count
        np.testing.assert_allclose(sums.sum, flat.sum(0), rtol=1e-6)
        np.testing.assert_allclose(sums.products, flat.T @ flat, rtol=1e-6)


def test_a_direction_is_the_expected_patch_by_the_inverse_of_the_covariance() -> None:
    patches, expected = patches_of(12), noise(6, LOOKED, seed=3)
    direction = added(patches, [4, 8]).against(expected)
    np.testing.assert_allclose(direction, expected @ torch.linalg.inv(widened(patches)), rtol=1e-5, atol=1e-6)


def test_likeness_is_how_much_likelier_a_patch_is_the_expected_one_than_any_other() -> None:
    """log N(v; mean + expected, S) - log N(v; mean, S), up to what is the same for all v."""
    patches, expected = patches_of(12), noise(6, LOOKED, seed=3)
    sums = added(patches, [4, 8])
    v = noise(9, LOOKED, seed=4) * 3
    mine = v @ sums.against(expected).T  # (9, 6)
    mean, spread = patches.double().flatten(0, 1).mean(0), widened(patches)
    meant = [MultivariateNormal(mean + each, spread).log_prob(v) for each in expected]
    truth = torch.stack(meant, 1) - MultivariateNormal(mean, spread).log_prob(v)[:, None]
    np.testing.assert_allclose(mine - mine[0], truth - truth[0], rtol=1e-5, atol=1e-4)


def test_before_any_patch_was_met_a_direction_is_what_is_expected() -> None:
    expected = noise(6, LOOKED)
    torch.testing.assert_close(added(patches_of(0), [0]).against(expected), expected)


# ---- the look -------------------------------------------------------------------------------------------------------


def softmax_by_loops(direction: Tensor, patches: Tensor) -> Array:
    found = []
    for d, clip in zip(direction.tolist(), patches.tolist(), strict=True):
        likeness = [sum(a * b for a, b in zip(d, patch, strict=True)) for patch in clip]
        mean = sum(likeness) / len(likeness)
        deviation = math.sqrt(sum((x - mean) ** 2 for x in likeness) / len(likeness))
        weight = [math.exp(3 * (x - mean) / deviation) for x in likeness]
        found.append([w / sum(weight) for w in weight])
    return np.array(found)


def test_shares_are_a_softmax_of_thrice_the_standardised_likeness() -> None:
    direction, patches = noise(8, LOOKED, seed=2), patches_of(8)
    mine = shares(direction, patches)
    np.testing.assert_allclose(mine.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(mine, softmax_by_loops(direction, patches), rtol=1e-4, atol=1e-7)
    assert mine.amax() > 0.5 and SHARP == 3


@pytest.mark.parametrize("factor", [2.0**-20, 2.0**20, 0.3])
def test_shares_depend_on_the_size_of_neither_direction_nor_tokens(factor: float) -> None:
    direction, patches = noise(8, LOOKED, seed=2), patches_of(8)
    mine = shares(direction, patches)
    torch.testing.assert_close(shares(direction * factor, patches), mine, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(shares(direction, patches * factor), mine, rtol=1e-4, atol=1e-7)


def test_shares_are_even_where_there_is_no_direction() -> None:
    direction = noise(8, LOOKED, seed=2)
    direction[3] = 0
    mine = shares(direction, patches_of(8))
    assert mine[3].tolist() == pytest.approx([0.2] * 5)
    assert (mine[2] - 0.2).abs().max() > 0.1


@pytest.mark.parametrize("size", [1e-6, 1 / 3, 12345.678])
@pytest.mark.parametrize("dim", [4, 768])
def test_rounding_is_no_look(size: float, dim: int) -> None:
    """Patches that are one vector, but for the last bits: each was multiplied and divided by a number of its own."""
    factors = torch.tensor([1.0, 3.0, 7.0, 0.1, 1 / 3, 1e5, 1.7e-4])
    clip = (noise(20, 1, dim).float() * size + size) * factors[:, None] / factors[:, None]
    assert any(len(patches.unique(dim=0)) > 1 for patches in clip)
    mine = shares(noise(20, dim, seed=2), clip)
    assert (mine * 7 - 1).abs().max() < 0.15
    same = clip[:, :1].expand(20, 7, dim)
    assert (shares(noise(20, dim, seed=2), same) * 7 - 1).abs().max() < 0.15
    clip[:, 2] *= 1.01  # And a difference of a hundredth is one.
    assert (shares(noise(20, dim, seed=2), clip) * 7 - 1).abs().amax(1).min() > 0.5


def test_what_is_looked_at_is_the_mean_of_the_patches_by_their_shares() -> None:
    weight, patches = noise(8, 5).softmax(1).float(), patches_of(8)
    mine = attended(weight, patches)
    expected = [
        [sum(float(w) * float(p) for w, p in zip(row, clip[:, i], strict=True)) for i in range(LOOKED)]
        for row, clip in zip(weight, patches, strict=True)
    ]
    assert mine.dtype == torch.float64
    np.testing.assert_allclose(mine, expected, rtol=1e-5, atol=1e-6)
