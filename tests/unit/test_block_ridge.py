"""Leaving a clip out against fitting anew without it, by numpy's least squares on the clips themselves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from harkback.block_ridge import BlockRidge, Normal
from harkback.blocks import Block, scales
from harkback.moments import Moments

Array = NDArray[np.float64]
CLIPS, COLUMNS = 14, 6
STAND = [Block(2, 0.3), Block(3, 0.5), Block(1, 0.01)]
MOVE = [Block(2, 0.3), Block(3, 0.5, moves=True), Block(1, 0.01)]
BLOCKS = [(STAND, 1.0), (MOVE, 1.0), (MOVE, 0.1), ([*MOVE[:2], Block(1, 0.01, moves=True)], 7.0)]
PENALTY = 0.02


def material(classes: int) -> tuple[Tensor, Tensor]:
    some = torch.Generator().manual_seed(3)
    x = torch.randn(CLIPS, COLUMNS, dtype=torch.float64, generator=some)
    return x + 2, torch.arange(CLIPS) % classes


def normal(x: Tensor, targets: Tensor, classes: int, blocks: Sequence[Block] = STAND) -> Normal:
    moments = Moments()
    moments.add(x, targets, classes)
    return Normal(moments, blocks, PENALTY)


def left_out(x: Tensor, learnt: Tensor, targets: Tensor, ridge: BlockRidge, of: Normal) -> Tensor:
    then = of.ask(learnt)
    return ridge.left_out(then if x is learnt else of.ask(x), then, targets)


def sizes(x: Tensor, blocks: Sequence[Block], share: float) -> Tensor:
    """By the variance of all clips, block by block: those that move weigh a share of what they say."""
    weights = [block.weight * (share if block.moves else 1) for block in blocks]
    alike = [Block(block.columns, weight) for block, weight in zip(blocks, weights, strict=True)]
    return scales(x.var(0, correction=0), alike)


def scaled(x: Tensor, blocks: Sequence[Block] = STAND, share: float = 1.0) -> Array:
    return (x * sizes(x, blocks, share)).numpy()


def least_squares(z: Array, y: Array, asked: Array) -> Array:
    """Ridge regression with an intercept that costs nothing; the penalty is that of CLIPS clips, whoever is left."""
    rows = np.vstack([np.c_[z, np.ones(len(z))], np.c_[np.sqrt(CLIPS * PENALTY) * np.eye(COLUMNS), np.zeros(COLUMNS)]])
    weight = np.linalg.lstsq(rows, np.vstack([y, np.zeros((COLUMNS, y.shape[1]))]), rcond=None)[0]
    return np.asarray(np.r_[asked, 1] @ weight)


@pytest.mark.parametrize(("blocks", "share"), BLOCKS)
@pytest.mark.parametrize("classes", [2, 5])
def test_the_fit_is_ridge_regression_on_scaled_vectors(classes: int, blocks: list[Block], share: float) -> None:
    x, targets = material(classes)
    weight, bias = BlockRidge(normal(x, targets, classes, blocks), share).fit()
    z, y = scaled(x, blocks, share), np.eye(classes)[targets.numpy()]
    expected = np.stack([least_squares(z, y, row) for row in z])
    np.testing.assert_allclose((x @ weight + bias).numpy(), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("blocks", "share"), BLOCKS)
@pytest.mark.parametrize("asked", [3, CLIPS])  # Fewer clips than classes, and more: solved either way.
def test_a_clip_left_out_is_told_as_by_a_fit_that_never_had_it(asked: int, blocks: list[Block], share: float) -> None:
    x, targets = material(5)
    of, some = normal(x, targets, 5, blocks), x[:asked]
    said = left_out(some, some, targets[:asked], BlockRidge(of, share), of)
    z, y = scaled(x, blocks, share), np.eye(5)[targets.numpy()]
    for i in range(asked):
        rest = np.arange(CLIPS) != i
        np.testing.assert_allclose(said[i].numpy(), least_squares(z[rest], y[rest], z[i]), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(("blocks", "share"), BLOCKS)
@pytest.mark.parametrize("asked", [3, CLIPS])
def test_a_clip_whose_vector_has_moved_since_is_asked_as_it_is_now(
    asked: int, blocks: list[Block], share: float
) -> None:
    x, targets = material(5)
    now = x + 0.3 * torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    of = normal(x, targets, 5, blocks)
    said = left_out(now[:asked], x[:asked], targets[:asked], BlockRidge(of, share), of)
    z, y = scaled(x, blocks, share), np.eye(5)[targets.numpy()]
    here = (now * sizes(x, blocks, share)).numpy()
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
    of = Normal(moments, [Block(COLUMNS + 200, 1.0)], 1e-4)
    ridge = BlockRidge(of, 1.0)
    weight, bias = ridge.fit()
    assert ((wide @ weight + bias).argmax(1) == targets).all()
    assert (left_out(wide, wide, targets, ridge, of).argmax(1) == targets).double().mean() < 0.8


# ---- how strange a clip is ------------------------------------------------------------------------------------------


def leverage(z: Array, asked: Array) -> float:
    """x A^-1 x by inverting the normal matrix, intercept and all."""
    rows = np.c_[z, np.ones(len(z))]
    normal = rows.T @ rows + CLIPS * PENALTY * np.diag([1.0] * COLUMNS + [0.0])
    there = np.r_[asked, 1]
    return float(there @ np.linalg.inv(normal) @ there)


@pytest.mark.parametrize(("blocks", "share"), BLOCKS)
def test_strangeness_is_the_logarithm_of_the_leverage(blocks: list[Block], share: float) -> None:
    x, targets = material(3)
    asked, of = 2 * x[:4] + 1, normal(x, targets, 3, blocks)
    here = (asked * sizes(x, blocks, share)).numpy()
    expected = [np.log(leverage(scaled(x, blocks, share), row)) for row in here]
    np.testing.assert_allclose(BlockRidge(of, share).strangeness(of.ask(asked)).numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize(("blocks", "share"), BLOCKS)
@pytest.mark.parametrize("moved", [0.0, 0.3])
def test_strangeness_of_a_clip_left_out_is_that_to_those_who_never_had_it(
    moved: float, blocks: list[Block], share: float
) -> None:
    x, targets = material(3)
    now = x + moved * torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    of = normal(x, targets, 3, blocks)
    found = BlockRidge(of, share).left_out_strangeness(of.ask(now), of.ask(x))
    z, here = scaled(x, blocks, share), (now * sizes(x, blocks, share)).numpy()
    for i in range(CLIPS):
        rest = np.arange(CLIPS) != i
        assert float(found[i]) == pytest.approx(np.log(leverage(z[rest], here[i])), rel=1e-8)
