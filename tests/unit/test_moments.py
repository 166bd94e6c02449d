"""Sums against the means, scatters and regressions of the clips themselves."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from harkback import moments as moments_module
from harkback.moments import Moments, deviation, factorised, mirror, regression, solved
from harkback.state import state_of

CLIPS, COLUMNS, CLASSES = 40, 6, 3


def clips(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Vectors far from zero in odd units, classes, weights."""
    some = torch.Generator().manual_seed(seed)
    x = torch.randn(CLIPS, COLUMNS, generator=some, dtype=torch.float64)
    units = torch.tensor([1.0, 30.0, 1e-2, 5.0, 1.0, 2.0], dtype=torch.float64)
    y = torch.arange(CLIPS) % CLASSES
    return x * units + 3 * units + y[:, None], y, torch.rand(CLIPS, generator=some, dtype=torch.float64) + 0.1


def moments_of(x: Tensor, y: Tensor, weight: Tensor | None = None) -> Moments:
    moments = Moments()
    moments.add(x, y, CLASSES, weight)
    return moments


def test_means_and_scatters_are_those_of_the_clips() -> None:
    x, y, _ = clips()
    moments, data, labels = moments_of(x, y), x.numpy(), y.numpy()
    assert moments.total == CLIPS
    np.testing.assert_allclose(moments.mean, data.mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.scale, 1 / data.std(0), rtol=1e-10)
    np.testing.assert_allclose(moments.scatter, np.cov(data.T, bias=True) * CLIPS, rtol=1e-9, atol=1e-9)
    parts = [data[labels == c] for c in range(CLASSES)]
    np.testing.assert_allclose(moments.means, [part.mean(0) for part in parts], rtol=1e-12)
    within = sum(np.cov(part.T, bias=True) * len(part) for part in parts)
    np.testing.assert_allclose(moments.within, within, rtol=1e-9, atol=1e-9)


def test_a_clip_of_weight_two_is_two_clips() -> None:
    x, y, _ = clips()
    weight = torch.where(torch.arange(CLIPS) % 4 == 0, 2.0, 1.0).double()
    twice = torch.cat([torch.arange(CLIPS), torch.arange(0, CLIPS, 4)])
    heavy, many = moments_of(x, y, weight), moments_of(x[twice], y[twice])
    for name, array in heavy.state().items():
        np.testing.assert_allclose(array, many.state()[name], rtol=1e-13)


def test_squares_alone_are_the_diagonal_of_the_products() -> None:
    x, y, weight = clips()
    full, squares = Moments(), Moments(products=False)
    for moments in (full, squares):
        moments.add(x, y, CLASSES, weight)
    assert squares.products.shape == (COLUMNS,)
    np.testing.assert_allclose(squares.products, full.products.diagonal(), rtol=1e-13)
    np.testing.assert_allclose(squares.scale, full.scale, rtol=1e-13)


@given(st.permutations(range(CLIPS)), st.lists(st.integers(1, CLIPS - 1), max_size=5, unique=True))
def test_parts_in_any_order_are_the_whole(order: list[int], cuts: list[int]) -> None:
    x, y, weight = clips()
    moments = Moments()
    for a, b in itertools.pairwise([0, *sorted(cuts), CLIPS]):
        rows = torch.tensor(order[a:b])
        moments.add(x[rows], y[rows], CLASSES, weight[rows])
    for name, array in moments_of(x, y, weight).state().items():
        np.testing.assert_allclose(moments.state()[name], array, rtol=1e-12)


def test_regression_is_weighted_least_squares_with_the_penalty_as_extra_rows() -> None:
    x, y, weight = clips()
    found, bias = regression(moments_of(x, y, weight), 0.3)
    data, w = x.numpy(), weight.numpy()
    mean = np.average(data, 0, w)
    spread = np.sqrt(np.average((data - mean) ** 2, 0, w))
    z, aims = (data - mean) / spread, np.eye(CLASSES)[y.numpy()]
    # The intercept is a column of its own, without a penalty.
    rows = np.vstack(
        [np.sqrt(w)[:, None] * np.c_[z, np.ones(CLIPS)], np.sqrt(0.3 * w.sum()) * np.eye(COLUMNS, COLUMNS + 1)]
    )
    solved = np.linalg.lstsq(rows, np.vstack([np.sqrt(w)[:, None] * aims, np.zeros((COLUMNS, CLASSES))]), rcond=None)[0]
    np.testing.assert_allclose(data @ found.numpy() + bias.numpy(), np.c_[z, np.ones(CLIPS)] @ solved, atol=1e-10)


def test_the_scale_of_all_weights_does_not_matter() -> None:
    x, y, weight = clips()
    for one, other in zip(
        regression(moments_of(x, y, weight), 0.3), regression(moments_of(x, y, 7 * weight), 0.3), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-9)


@pytest.mark.parametrize("value", [0.0, 1.0, 57.3, 1e5])
def test_a_column_that_never_moved_has_no_scale(value: float) -> None:
    x, y, _ = clips()
    x[:, 2] = value * (1 + 1e-16)
    moments = moments_of(x, y)
    assert moments.scale[2] == 0
    assert (moments.scale[[0, 1, 3, 4, 5]] > 0).all()
    assert deviation(torch.tensor([1e-13, -1e-20, 4.0]), torch.tensor([1.0, 1.0, 9.0])).tolist() == [0, 0, 2]


def test_the_state_is_all_there_is() -> None:
    x, y, weight = clips()
    moments, again = moments_of(x, y, weight), Moments()
    again.restore(moments.state())
    for each in (moments, again):
        each.add(x, y, CLASSES)
    assert all(torch.equal(array, again.state()[name]) for name, array in moments.state().items())
    assert moments.state().keys() == state_of(moments).keys() == {"counts", "sums", "products"}


@pytest.mark.parametrize("size", [1, 2, 17])
def test_a_factor_takes_the_place_of_the_lower_triangle_and_solves(size: int) -> None:
    some = torch.Generator().manual_seed(size)
    x = torch.randn(size + 3, size, generator=some, dtype=torch.float64)
    dense, right = x.T @ x, torch.randn(size, 4, generator=some, dtype=torch.float64)
    given = dense.tril() + torch.full((size, size), 7.0, dtype=torch.float64).triu(1)  # Nobody reads what is above.
    factor = factorised(given)
    assert factor is given
    np.testing.assert_allclose(factor, np.linalg.cholesky(dense.numpy()), rtol=0, atol=1e-12)
    np.testing.assert_allclose(solved(factor, right), np.linalg.solve(dense, right), rtol=1e-9, atol=1e-9)


def test_what_has_no_factor_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="not positive-definite"):
        factorised(torch.tensor([[1.0, 0.0], [2.0, 1.0]]))


@pytest.mark.parametrize("size", [1, 4, 5, 11])
def test_the_upper_triangle_is_filled_in(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments_module, "TILE", 4)
    given = torch.randn(size, size, generator=torch.Generator().manual_seed(0))
    below = np.tril(given.numpy().copy())
    assert mirror(given) is given
    np.testing.assert_array_equal(given, below + np.tril(below, -1).T)


def test_what_is_removed_was_never_added() -> None:
    x, y, _ = clips()
    for full in (True, False):
        whole, rest = Moments(products=full), Moments(products=full)
        whole.add(x, y, CLASSES)
        whole.remove(x[y == 1], 1)
        rest.add(x[y != 1], (y[y != 1] > 1).long(), CLASSES - 1)
        for name, array in rest.state().items():
            np.testing.assert_allclose(whole.state()[name], array, rtol=1e-9, atol=1e-9)
