"""Square roots of Gram matrices against the matrices themselves."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from harkback import gram
from harkback.gram import Centres, Root, by_class, orthogonal


def vectors(count: int, columns: int, aims: int = 3, rank: int | None = None, seed: int = 0) -> tuple[Tensor, Tensor]:
    some = torch.Generator().manual_seed(seed)
    h = torch.randn(count, columns, generator=some, dtype=torch.float64)
    if rank is not None:
        h = h[:, :rank] @ torch.randn(rank, columns, generator=some, dtype=torch.float64)
    return h, torch.randn(count, aims, generator=some, dtype=torch.float64)


def root_of(h: Tensor, y: Tensor, cuts: list[int]) -> Root:
    root = Root()
    for a, b in itertools.pairwise([0, *sorted(cuts), len(h)]):
        root.absorb([(h[a:b], y[a:b])])
    return root


@given(st.integers(1, 40), st.integers(1, 12), st.lists(st.integers(1, 39), max_size=4, unique=True), st.booleans())
def test_a_root_has_the_gram_matrix_of_all_vectors(count: int, columns: int, cuts: list[int], at_once: bool) -> None:
    h, y = vectors(count, columns)
    cuts = [cut for cut in cuts if cut < count]
    root = root_of(h, y, cuts)
    if at_once:  # In parts of one session: turned once, or whenever there are twice as many rows as columns.
        root = Root()
        root.absorb((h[a:b], y[a:b]) for a, b in itertools.pairwise([0, *sorted(cuts), count]))
    assert root.rows.shape == (min(count, columns), columns)
    assert root.count == count
    np.testing.assert_allclose(root.rows.T @ root.rows, h.T @ h, rtol=0, atol=1e-11)
    np.testing.assert_allclose(root.rows.T @ root.aims, h.T @ y, rtol=0, atol=1e-11)
    np.testing.assert_allclose(root.rows @ root.rows.T, torch.diag(root.energy), rtol=0, atol=1e-11)


def test_a_session_of_many_clips_is_never_held_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    held = []

    def watched(rows: Tensor, aims: Tensor) -> tuple[Tensor, Tensor]:
        held.append(len(rows))
        return orthogonal(rows, aims)

    monkeypatch.setattr(gram, "orthogonal", watched)
    h, y = vectors(1_000, 8)
    root = Root()
    root.absorb(zip(h.split(5), y.split(5), strict=True))
    assert max(held) <= 2 * 8 + 5
    np.testing.assert_allclose(root.rows.T @ root.aims, h.T @ y, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("count", "columns"), [(30, 8), (8, 30), (1, 5), (12, 12)])
@pytest.mark.parametrize("penalty", [1e-6, 1.0, 1e6])
def test_ridge_and_whitening_are_those_of_the_dense_matrix(count: int, columns: int, penalty: float) -> None:
    h, y = vectors(count, columns)
    root, dense = root_of(h, y, [count // 2] if count > 1 else []), (h.T @ h + penalty * torch.eye(columns)).numpy()
    expected = np.linalg.solve(dense, (h.T @ y).numpy())
    np.testing.assert_allclose(root.ridge(penalty), expected, rtol=1e-6, atol=1e-8 * np.abs(expected).max())
    x = vectors(4, columns, seed=1)[0]
    expected = np.linalg.solve(dense, x.T.numpy()).T
    np.testing.assert_allclose(root.whiten(x, penalty), expected, rtol=1e-6, atol=1e-8 * np.abs(expected).max())


def test_vectors_in_few_directions_leave_few_rows() -> None:
    h, y = vectors(50, 20, rank=4)
    root = root_of(h, y, [10, 30])
    assert len(root.rows) == 4
    expected = np.linalg.pinv(h.numpy()) @ y.numpy()  # Least squares of least length: the limit of a small penalty.
    np.testing.assert_allclose(root.ridge(1e-12), expected, rtol=0, atol=1e-9)


def test_vectors_of_zeros_leave_no_rows() -> None:
    root = Root()
    root.absorb([(torch.zeros(5, 4, dtype=torch.float64), torch.ones(5, 2, dtype=torch.float64))])
    assert root.rows.shape == (0, 4)
    assert root.ridge(1.0).tolist() == [[0, 0]] * 4
    h, y = vectors(3, 4)
    root.absorb([(h, y)])
    np.testing.assert_allclose(root.rows.T @ root.aims, h.T @ y, rtol=0, atol=1e-12)


def test_aims_that_come_later_are_zero_before() -> None:
    h, y = vectors(9, 30)
    late = y.clone()
    late[:6, 2] = 0
    root = Root()
    root.absorb([(h[:6], y[:6, :2])])
    root.absorb([(h[6:], y[6:])])
    np.testing.assert_allclose(root.rows.T @ root.aims, h.T @ late, rtol=0, atol=1e-11)


def test_no_row_is_a_vector_that_was_absorbed() -> None:
    h, y = vectors(6, 20)
    rows = root_of(h, y, []).rows
    cosine = (rows @ h.T).abs() / rows.norm(dim=1, keepdim=True) / h.norm(dim=1)
    assert cosine.max() < 0.99


@given(st.permutations(range(20)), st.lists(st.integers(1, 19), max_size=5, unique=True))
def test_centres_and_their_rows_are_the_scatter_within_the_classes(order: list[int], cuts: list[int]) -> None:
    x = vectors(20, 4)[0] + 5
    y = torch.arange(20) % 3
    centres, rows = Centres(), []
    for a, b in itertools.pairwise([0, *sorted(cuts), 20]):
        part = torch.tensor(order[a:b])
        rows += [centres.add(x[part][mine], target, 3) for target, mine in by_class(y[part])]
    parts = [x[y == c].numpy() for c in range(3)]
    np.testing.assert_allclose(centres.counts, [len(part) for part in parts])
    np.testing.assert_allclose(centres.means, [part.mean(0) for part in parts], rtol=1e-12)
    within = sum(np.cov(part.T, bias=True) * len(part) for part in parts)
    found = torch.cat(rows)
    np.testing.assert_allclose(found.T @ found, within, rtol=0, atol=1e-11)


def test_rows_that_are_longer_than_wide_are_turned_with_their_aims() -> None:
    h, y = vectors(200, 7)
    rows, aims = orthogonal(h, y)
    assert rows.shape == (7, 7) and aims.shape == (7, 3)
    np.testing.assert_allclose(rows.T @ aims, h.T @ y, rtol=0, atol=1e-10)


def test_vectors_that_are_removed_were_never_there() -> None:
    some = torch.Generator().manual_seed(4)
    h, y = (
        torch.randn(9, 6, dtype=torch.float64, generator=some),
        torch.eye(3, dtype=torch.float64)[torch.arange(9) % 3],
    )
    mine = y[:, 1] > 0
    root = Root()
    root.absorb([(h, y)])
    root.remove(h[mine], 1)
    rest, aims = h[~mine], y[~mine][:, [0, 2]]
    torch.testing.assert_close(root.rows.T @ root.rows, rest.T @ rest, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(root.rows.T @ root.aims, rest.T @ aims, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(root.rows @ root.rows.T, torch.diag(root.energy), rtol=1e-9, atol=1e-9)
    assert root.count == 6


def test_removing_what_alone_went_one_way_leaves_no_rounding_behind() -> None:
    root, axis = Root(), torch.eye(4, dtype=torch.float64)
    root.absorb([(axis * 1e3, torch.zeros(4, 0, dtype=torch.float64))])
    root.remove(axis[:1] * 1e3)
    assert root.rows.shape == (3, 4) and not root.rows[:, 0].any()
    Root().remove(axis)
