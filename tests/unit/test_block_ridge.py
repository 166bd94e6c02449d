"""Leaving a clip out against fitting anew without it, by numpy's least squares on the clips themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from harkback.block_ridge import BlockRidge, Centred
from harkback.blocks import Block, scales
from harkback.moments import Moments

Array = NDArray[np.float64]
CLIPS, COLUMNS = 14, 6
BLOCKS = [Block(2, 0.3), Block(3, 0.5), Block(1, 0.01)]
PENALTY = 0.02


def material(classes: int) -> tuple[Tensor, Tensor]:
    some = torch.Generator().manual_seed(3)
    x = torch.randn(CLIPS, COLUMNS, dtype=torch.float64, generator=some)
    return x + 2, torch.arange(CLIPS) % classes


def fitted(x: Tensor, targets: Tensor, classes: int) -> BlockRidge:
    moments = Moments()
    moments.add(x, targets, classes)
    return BlockRidge(Centred(moments), BLOCKS, PENALTY)


def scaled(x: Tensor) -> Array:
    """By the variance of all clips, block by block."""
    return (x * scales(x.var(0, correction=0), BLOCKS)).numpy()


def least_squares(z: Array, y: Array, asked: Array) -> Array:
    """Ridge regression with an intercept that costs nothing; the penalty is that of CLIPS clips, whoever is left."""
    rows = np.vstack([np.c_[z, np.ones(len(z))], np.c_[np.sqrt(CLIPS * PENALTY) * np.eye(COLUMNS), np.zeros(COLUMNS)]])
    weight = np.linalg.lstsq(rows, np.vstack([y, np.zeros((COLUMNS, y.shape[1]))]), rcond=None)[0]
    return np.asarray(np.r_[asked, 1] @ weight)


@pytest.mark.parametrize("classes", [2, 5])
def test_the_fit_is_ridge_regression_on_scaled_vectors(classes: int) -> None:
    x, targets = material(classes)
    weight, bias = fitted(x, targets, classes).fit()
    z, y = scaled(x), np.eye(classes)[targets.numpy()]
    expected = np.stack([least_squares(z, y, row) for row in z])
    np.testing.assert_allclose((x @ weight + bias).numpy(), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("asked", [3, CLIPS])  # Fewer clips than classes, and more: solved either way.
def test_a_clip_left_out_is_told_as_by_a_fit_that_never_had_it(asked: int) -> None:
    x, targets = material(5)
    said = fitted(x, targets, 5).left_out(x[:asked], x[:asked], targets[:asked])
    z, y = scaled(x), np.eye(5)[targets.numpy()]
    for i in range(asked):
        rest = np.arange(CLIPS) != i
        np.testing.assert_allclose(said[i].numpy(), least_squares(z[rest], y[rest], z[i]), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("asked", [3, CLIPS])
def test_a_clip_whose_vector_has_moved_since_is_asked_as_it_is_now(asked: int) -> None:
    x, targets = material(5)
    now = x + 0.3 * torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    said = fitted(x, targets, 5).left_out(now[:asked], x[:asked], targets[:asked])
    z, y = scaled(x), np.eye(5)[targets.numpy()]
    here = (now * scales(x.var(0, correction=0), BLOCKS)).numpy()
    for i in range(asked):
        rest = np.arange(CLIPS) != i
        np.testing.assert_allclose(said[i].numpy(), least_squares(z[rest], y[rest], here[i]), rtol=1e-8, atol=1e-9)


def test_what_was_learnt_flatters_and_what_is_left_out_does_not() -> None:
    """Labels drawn by lot: whoever has seen them knows them, nobody else can."""
    some = torch.Generator().manual_seed(0)
    x, targets = torch.randn(40, COLUMNS, dtype=torch.float64, generator=some), torch.randint(2, (40,), generator=some)
    wide = torch.cat([x, torch.randn(40, 200, dtype=torch.float64, generator=some)], 1)
    moments = Moments()
    moments.add(wide, targets, 2)
    ridge = BlockRidge(Centred(moments), [Block(COLUMNS + 200, 1.0)], 1e-4)
    weight, bias = ridge.fit()
    assert ((wide @ weight + bias).argmax(1) == targets).all()
    assert (ridge.left_out(wide, wide, targets).argmax(1) == targets).double().mean() < 0.8


# ---- how strange a clip is ------------------------------------------------------------------------------------------


def leverage(z: Array, asked: Array) -> float:
    """x A^-1 x by inverting the normal matrix, intercept and all."""
    rows = np.c_[z, np.ones(len(z))]
    normal = rows.T @ rows + CLIPS * PENALTY * np.diag([1.0] * COLUMNS + [0.0])
    there = np.r_[asked, 1]
    return float(there @ np.linalg.inv(normal) @ there)


def test_strangeness_is_the_logarithm_of_the_leverage() -> None:
    x, targets = material(3)
    asked = 2 * x[:4] + 1
    here = (asked * scales(x.var(0, correction=0), BLOCKS)).numpy()
    expected = [np.log(leverage(scaled(x), row)) for row in here]
    np.testing.assert_allclose(fitted(x, targets, 3).strangeness(asked).numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("moved", [0.0, 0.3])
def test_strangeness_of_a_clip_left_out_is_that_to_those_who_never_had_it(moved: float) -> None:
    x, targets = material(3)
    now = x + moved * torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    found = fitted(x, targets, 3).left_out_strangeness(now, x)
    z, here = scaled(x), (now * scales(x.var(0, correction=0), BLOCKS)).numpy()
    for i in range(CLIPS):
        rest = np.arange(CLIPS) != i
        assert float(found[i]) == pytest.approx(np.log(leverage(z[rest], here[i])), rel=1e-8)
