"""Gram matrices, as they are and as rows, against products of the vectors themselves."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import pad

from harkback import gram
from harkback.gram import Centres, Root, by_class, orthogonal, products


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


def sums_of(root: Root) -> tuple[Tensor, Tensor]:
    """Of h h^T and of h y^T, from whichever form."""
    if len(root.gram):
        assert not len(root.rows) and not len(root.aims)
        return root.gram.tril() + root.gram.tril(-1).T, root.cross
    return root.rows.T @ root.rows, root.rows.T @ root.aims


@given(st.integers(1, 40), st.integers(1, 12), st.lists(st.integers(1, 39), max_size=4, unique=True), st.booleans())
def test_a_root_has_the_gram_matrix_of_all_vectors(count: int, columns: int, cuts: list[int], at_once: bool) -> None:
    h, y = vectors(count, columns)
    cuts = [cut for cut in cuts if cut < count]
    root = root_of(h, y, cuts)
    if at_once:  # In parts of one session.
        root = Root()
        root.absorb((h[a:b], y[a:b]) for a, b in itertools.pairwise([0, *sorted(cuts), count]))
    if count <= columns:
        assert root.rows.shape == (count, columns) and not len(root.gram)
    else:
        assert root.gram.shape == (columns, columns) and not len(root.rows)
    assert root.count == count
    for found, expected in zip(sums_of(root), (h.T @ h, h.T @ y), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11)
    np.testing.assert_allclose(root.energy, (h**2).sum(), rtol=1e-13)


def test_a_session_of_many_clips_is_never_held_whole() -> None:
    h, y = vectors(1_000, 8)
    alive: list[weakref.ref[Tensor]] = []
    most = 0

    def parts() -> Iterator[tuple[Tensor, Tensor]]:
        nonlocal most
        for rows in torch.arange(1_000).split(5):
            part = h[rows].clone(), y[rows]
            alive.append(weakref.ref(part[0]))
            most = max(most, sum(each() is not None for each in alive))
            yield part

    root = Root()
    root.absorb(parts())
    assert most <= 3  # Of five: the one that is made, and those that are just let go of.
    np.testing.assert_allclose(sums_of(root)[1], h.T @ y, rtol=0, atol=1e-10)


def test_rows_are_multiplied_once_and_it_comes_out_as_if_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gram, "BLOCK", 4)
    monkeypatch.setattr(gram, "TURNED", 3)
    ready = []

    def watched(blocks: Sequence[Tensor], *known: Tensor) -> Tensor:
        ready.append(sum(map(len, known)))
        return products(blocks, *known)

    monkeypatch.setattr(gram, "products", watched)
    h, y = vectors(30, 80)
    root, anew = Root(), Root()
    for rows in torch.arange(30).split(6):
        root.absorb([(h[rows], y[rows])])
        anew.restore(root.state())
        first = root.ridge(0.3)
        assert torch.equal(first, anew.ridge(0.3))
        assert torch.equal(first, root.ridge(0.3))  # What is worked in is a copy.
    # Of 6, 12, 18 and 24 rows less the last three, whole blocks of four; of `anew` none; when asked again all.
    assert ready == [0, 0, 6, 0, 0, 12, 8, 0, 18, 12, 0, 24, 20, 0, 30]


def test_products_between_many_rows_are_not_kept() -> None:
    h, y = vectors(30, 50)
    root = root_of(h, y, [20])
    root.ridge(1.0)
    assert not root._known and len(root_of(h, y, [20]).rows) == 30
    few = root_of(h[:25], y[:25], [])
    few.ridge(1.0)
    assert [len(each) for each in few._known] == [25]


def test_products_are_the_lower_triangle() -> None:
    h, _ = vectors(23, 6)
    found = products(h.split(5))
    np.testing.assert_allclose(found.tril(), (h @ h.T).tril(), rtol=0, atol=1e-13)
    known = torch.full((10, 10), 7.0, dtype=torch.float64)
    assert torch.equal(products(h.split(5), known)[10:].tril(10), found[10:].tril(10))
    assert torch.equal(products(h.split(5), known)[:10, :10], known)


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


@pytest.mark.parametrize("count", [15, 50])  # Rows, and sums.
def test_vectors_in_few_directions(count: int) -> None:
    """Both matrices have no inverse: the penalty is as small as rounding."""
    h, y = vectors(count, 20, rank=4)
    root = root_of(h, y, [10])
    expected = np.linalg.pinv(h.numpy()) @ y.numpy()  # Least squares of least length: the limit of a small penalty.
    np.testing.assert_allclose(root.ridge(1e-12), expected, rtol=0, atol=1e-9)
    x = vectors(4, 20, seed=1)[0]
    energy, axes = np.linalg.eigh((h.T @ h).numpy())
    energy[:-4] = 0  # Four directions are known to be there.
    expected = x.numpy() @ (axes / (energy + 1e-9)) @ axes.T
    np.testing.assert_allclose(root.whiten(x, 1e-9), expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("count", [3, 9])
def test_a_clip_that_comes_twice_has_both_its_aims(count: int) -> None:
    h, y = vectors(count, 6)
    twice, aims = torch.cat([h, h]), torch.cat([y, y + 1])
    found = root_of(twice, aims, []).ridge(1e-10)
    np.testing.assert_allclose(found, np.linalg.pinv(twice.numpy()) @ aims.numpy(), rtol=0, atol=1e-7)


def test_vectors_of_zeros_leave_no_rows() -> None:
    root = Root()
    root.absorb([(torch.zeros(5, 4, dtype=torch.float64), torch.ones(5, 2, dtype=torch.float64))])
    assert root.rows.shape == (0, 4) and root.count == 5
    assert root.ridge(1.0).tolist() == [[0, 0]] * 4
    h, y = vectors(3, 4)
    root.absorb([(h, y), (torch.zeros(9, 4, dtype=torch.float64), torch.ones(9, 5, dtype=torch.float64))])
    assert root.rows.shape == (3, 4) and root.aims.shape == (3, 5)
    np.testing.assert_allclose(root.rows.T @ root.aims, pad(h.T @ y, (0, 2)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("columns", [30, 5])
def test_aims_that_come_later_are_zero_before(columns: int) -> None:
    h, y = vectors(9, columns)
    late = y.clone()
    late[:6, 2] = 0
    root = Root()
    root.absorb([(h[:6], y[:6, :2])])
    root.absorb([(h[6:], y[6:])])
    np.testing.assert_allclose(sums_of(root)[1], h.T @ late, rtol=0, atol=1e-11)


@pytest.mark.parametrize("cuts", [[], [50], list(range(2, 100))])
def test_no_row_is_a_vector_that_was_absorbed(cuts: list[int]) -> None:
    """However the clips come; but for the very first, if it comes alone."""
    h, y = vectors(100, 200)
    rows = root_of(h, y, cuts).rows
    cosine = (rows @ h.T).abs() / rows.norm(dim=1, keepdim=True) / h.norm(dim=1)
    assert cosine.max() < 0.9


@pytest.mark.parametrize("columns", [40, 12, 9, 5])
def test_a_root_of_the_first_release_goes_on(columns: int) -> None:
    """It had orthogonal rows alone, however many clips there were."""
    h, y = vectors(25, columns)
    rows, aims = orthogonal(h[:12], y[:12])
    root = Root()
    root.restore({"rows": rows, "aims": aims, "count": torch.tensor(12.0, dtype=torch.float64)})
    for count in (12, 25):
        root.absorb([(h[12:count], y[12:count])])
        dense = h[:count].T @ h[:count] + 0.5 * torch.eye(columns)
        np.testing.assert_allclose(root.ridge(0.5), torch.linalg.solve(dense, h[:count].T @ y[:count]), atol=1e-11)
        assert root.count == count
    assert root.state().keys() == {"rows", "aims", "gram", "cross", "count"}


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
    assert sum(map(len, rows)) == 20
    found = torch.cat(rows)
    np.testing.assert_allclose(found.T @ found, within, rtol=0, atol=1e-11)


def test_rows_that_are_longer_than_wide_are_turned_with_their_aims() -> None:
    h, y = vectors(200, 7)
    rows, aims = orthogonal(h, y)
    assert rows.shape == (7, 7) and aims.shape == (7, 3)
    np.testing.assert_allclose(rows.T @ aims, h.T @ y, rtol=0, atol=1e-10)


@pytest.mark.parametrize("columns", [6, 30])  # Sums, and rows.
def test_vectors_that_are_removed_were_never_there(columns: int) -> None:
    h = vectors(9, columns, seed=4)[0]
    y = torch.eye(3, dtype=torch.float64)[torch.arange(9) % 3]
    mine = y[:, 1] > 0
    root = Root()
    root.absorb([(h, y)])
    root.remove(h[mine], 1)
    rest, aims = h[~mine], y[~mine][:, [0, 2]]
    gram, cross = sums_of(root)
    torch.testing.assert_close(gram, rest.T @ rest, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(cross, rest.T @ aims, rtol=1e-9, atol=1e-10)
    assert root.count == 6
    dense = rest.T @ rest + 1e-3 * torch.eye(columns, dtype=torch.float64)
    torch.testing.assert_close(root.ridge(1e-3), torch.linalg.solve(dense, rest.T @ aims), rtol=1e-9, atol=1e-9)


def test_removing_what_alone_went_one_way_leaves_no_rounding_behind() -> None:
    root, axis = Root(), torch.eye(4, dtype=torch.float64)
    root.absorb([(axis * 1e3, torch.zeros(4, 0, dtype=torch.float64))])
    root.remove(axis[:1] * 1e3)
    assert root.rows.shape == (3, 4) and root.rows[:, 0].abs().max() < 1e-12 * root.rows.abs().max()
    Root().remove(axis)
