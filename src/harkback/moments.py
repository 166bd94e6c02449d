"""Sums over clips, from which a linear learner gets means, scatters and regressions of standardised vectors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from harkback.errors import HarkbackError
from harkback.parallel import add_up
from harkback.state import State, restore_into, state_of
from harkback.triangle import add_products

TILE = 512  #: rows and columns that are turned over at a time: they stay in the cache


class Kept:
    """A part of a learner whose state is its attributes, as a learner's is."""

    def state(self) -> State:
        return state_of(self)

    def restore(self, state: State) -> None:
        restore_into(self, state)


class Moments(Kept):
    """Weighted sums over clips: how many of each class, their vectors by class, and the vectors' products.

    A sum depends neither on the order of the clips nor on how they are cut into sessions, so whatever is computed from
    sums alone is the same learnt class by class as learnt all at once. Standardising and centring are done to the
    sums, by algebra; done to the clips they would depend on which came first. Float64 throughout.
    """

    def __init__(self, *, products: bool = True) -> None:
        """products: keep all of them; else the squares alone."""
        self.full = products
        self.counts = torch.zeros(0, dtype=torch.float64)  #: (classes,) the clips' weights; each 1 if none are given
        self.sums = torch.zeros(0, 0, dtype=torch.float64)  #: (classes, columns)
        self.products = torch.zeros(0, dtype=torch.float64)  #: (columns, columns), or (columns,) squares

    def add(self, x: Tensor, targets: Tensor, classes: int, weight: Tensor | None = None) -> None:
        """x: (clips, columns) float64; targets: (clips,) long; classes: known in all; weight: (clips,), or 1 each."""
        self.make_room(x.shape[1], classes)
        y = one_hot(targets, classes).double()
        if weight is not None:
            y *= weight[:, None]
        self.counts += y.sum(0)
        self.sums += y.T @ x
        self._add_products(x if weight is None else weight.sqrt()[:, None] * x)

    def make_room(self, columns: int, classes: int) -> None:
        """For vectors of so many columns, and for classes that are new."""
        if not len(self.counts):
            self.products = torch.zeros(*(columns,) * (1 + self.full), dtype=torch.float64)
        self.counts = with_room(self.counts, classes)
        self.sums = with_room(self.sums, classes, columns)

    def merge(self, other: Moments, columns: Tensor, classes: int) -> None:
        """Add what another has summed up. columns: (its classes,) long, what those are here; classes: known in all."""
        if not len(other.counts):
            return
        if len(self.counts) and self.sums.shape[1] != other.sums.shape[1]:
            what = f"vectors of {self.sums.shape[1]} and of {other.sums.shape[1]} numbers cannot be added up"
            raise HarkbackError(what, mend="merge what has learnt from one encoder's tokens")
        self.make_room(other.sums.shape[1], classes)
        self.counts.index_add_(0, columns, other.counts)
        self.sums.index_add_(0, columns, other.sums)
        self.products += other.products

    def add_up(self) -> None:
        """Put the sums of all processes in their place."""
        for array in (self.counts, self.sums, self.products):
            add_up(array)

    def remove(self, x: Tensor, target: int) -> None:
        """Take a class out whose clips, each of weight 1, had the vectors x (clips, columns)."""
        self._add_products(x, -1)
        self.counts, self.sums = without_row(self.counts, target), without_row(self.sums, target)

    def _add_products(self, x: Tensor, sign: int = 1) -> None:
        if self.full:
            mirror(add_products(self.products, x, sign))
        else:
            self.products.add_(x.square().sum(0), alpha=sign)

    @property
    def total(self) -> Tensor:
        """() the weight of all clips."""
        return self.counts.sum()

    @property
    def mean(self) -> Tensor:
        """(columns,)"""
        return self.sums.sum(0) / self.total

    @property
    def means(self) -> Tensor:
        """(classes, columns)"""
        return self.sums / self.counts[:, None]

    @property
    def scale(self) -> Tensor:
        """(columns,) 1 / standard deviation; 0 for a column that never moved: it says nothing."""
        squares = (self.products.diagonal() if self.full else self.products) / self.total
        moved = deviation(squares - self.mean.square(), squares)
        return torch.where(moved > 0, 1 / moved, 0.0)

    @property
    def scatter(self) -> Tensor:
        """(columns, columns) sum of (x - mean)(x - mean)^T."""
        mean = self.mean
        return self.products.addr(mean, mean, alpha=-float(self.total))

    @property
    def within(self) -> Tensor:
        """(columns, columns) sum of (x - mu)(x - mu)^T, with mu the mean of the clip's class."""
        return self.products.addmm(self.sums.T, self.means, alpha=-1)


def regression(moments: Moments, penalty: float) -> tuple[Tensor, Tensor]:
    """Ridge regression of one-hot classes on standardised vectors, both centred: weight (columns, classes), bias.

    W = (Z^T Z + n penalty I)^-1 Z^T Y, given for vectors that are not standardised; n is the clips' total weight.
    """
    total, mean, scale = moments.total, moments.mean, moments.scale
    share = moments.counts / total
    cross = moments.sums.T - total * torch.outer(mean, share)
    gram = moments.scatter.mul_(scale).mul_(scale[:, None])
    gram.diagonal().add_(total * penalty)
    weight = scale[:, None] * solved(factorised(gram), scale[:, None] * cross)
    return weight, share - mean @ weight


def factorised(gram: Tensor) -> Tensor:
    """The lower triangle L of gram = L L^T, in the same memory: (n, n), of which the lower triangle is read."""
    upper = gram.mT  # Laid out as the factorisation wants it: else it would work on a copy.
    torch.linalg.cholesky(upper, upper=True, out=upper)
    return gram


def solved(factor: Tensor, right: Tensor) -> Tensor:
    """(L L^T)^-1 right; factor: (n, n) L; right: (n, columns). Unlike `torch.cholesky_solve` it copies no factor."""
    half = torch.linalg.solve_triangular(factor, right, upper=False)
    whole: Tensor = torch.linalg.solve_triangular(factor.mT, half, upper=True)
    return whole


def mirror(lower: Tensor) -> Tensor:
    """Fill in the upper triangle of a symmetric matrix (n, n) of which there is the lower one."""
    for first in range(0, len(lower), TILE):
        rows = slice(first, first + TILE)
        lower[rows, rows] = torch.tril(lower[rows, rows]) + torch.tril(lower[rows, rows], -1).T
        for left in range(0, first, TILE):
            columns = slice(left, left + TILE)
            lower[columns, rows] = lower[rows, columns].T
    return lower


def deviation(variance: Tensor, mean_square: Tensor) -> Tensor:
    """Standard deviation of each column; exactly 0 for a column that never moved.

    variance: (columns,), a difference of sums, so only as exact as ``mean_square`` (columns,) times float64's rounding.
    """
    return torch.where(variance > 1e-12 * mean_square.clamp_min(1), variance.clamp_min(0).sqrt(), 0.0)


def with_room(sums: Tensor, classes: int, *columns: int) -> Tensor:
    """Sums by class (known classes, *columns), float64, with rows of zeros for the classes that are new."""
    grown = torch.zeros(classes, *columns, dtype=torch.float64)
    if len(sums):
        grown[: len(sums)] = sums
    return grown


def without_row(rows: Tensor, row: int) -> Tensor:
    """All rows but one."""
    return torch.cat([rows[:row], rows[row + 1 :]])
