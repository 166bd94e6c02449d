"""Gram matrices of vectors that may be longer than there are clips: as rows with the same products, or as they are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from harkback.moments import Kept, factorised, solved, with_room, without_row
from harkback.state import State
from harkback.triangle import add_products

BLOCK = 256  #: rows that are multiplied with as many others at a time
TURNED = 64  #: rows that are turned once more, with those that are new
CLEAR = 1e-8  #: smallest pivot, as a share of the largest, of a matrix that is certainly not singular


class Root(Kept):
    """Sums of h h^T and of h y^T over vectors h of M columns with aims y, in whichever form is smaller. Float64.

    Of up to M vectors: rows S and aims T with S^T S = sum of h h^T and S^T T = sum of h y^T, n x M numbers instead of
    M x M. New vectors are turned, together with the last rows before them, by an orthogonal matrix: that leaves the
    sums as they are, and no row is a clip (unless it was the only one). Beyond that: the sums themselves.

    While there are rows, (S^T S + penalty I)^-1 is had from S S^T (Woodbury), computed for the new rows alone.
    """

    def __init__(self) -> None:
        nothing = torch.zeros(0, 0, dtype=torch.float64)
        self.rows, self.aims = nothing, nothing  #: (rows, columns) S, (rows, aims) T, while there are no sums
        self.gram, self.cross = nothing, nothing  #: the sums: (columns, columns), its lower triangle; (columns, aims)
        self.count = torch.zeros((), dtype=torch.float64)  #: how many vectors h
        self._known: tuple[Tensor, ...] = ()  #: S S^T of the first rows, its lower triangle: no part of the state

    def restore(self, state: State) -> None:
        """A model of harkback 0.1.0 has rows alone."""
        nothing = torch.zeros(0, 0, dtype=torch.float64)
        super().restore({"gram": nothing, "cross": nothing, **state})
        self._known = ()

    def absorb(self, parts: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Add vectors h and their aims y: (clips, columns) and (clips, aims) float64; new aims come at the end."""
        pile = [(self.rows, self.aims)] if len(self.rows) else []
        standing = max(0, len(self.rows) - TURNED) // BLOCK * BLOCK
        self._known = tuple(matrix[:standing, :standing] for matrix in self._known)
        for h, y in parts:
            self.count = self.count + len(h)
            told = h.any(1)  # A vector of zeros adds nothing.
            h, y = (h, y) if told.all() else (h[told], y[told])
            if not len(self.gram) and sum(len(rows) for rows, _ in pile) + len(h) <= h.shape[1]:
                _turn_in(pile, h, y)
                continue
            self._let_go()
            while pile:
                self._sum_up(*pile.pop())
            self._sum_up(h, y)
        if pile:
            self._let_go()
            self.rows, self.aims = _joined(pile)

    def _let_go(self) -> None:
        """Of the rows, so that their memory is free as soon as they are copied, or added up."""
        self.rows = self.aims = self.rows.new_zeros(0, 0)

    def _sum_up(self, h: Tensor, y: Tensor) -> None:
        if not len(self.gram):
            self.gram, self.cross, self._known = h.new_zeros(h.shape[1], h.shape[1]), h.new_zeros(h.shape[1], 0), ()
        add_products(self.gram, h)
        aims = max(self.cross.shape[1], y.shape[1])
        self.cross = _wider(self.cross, aims).addmm(h.T, _wider(y, aims))

    def merge(self, other: Root, columns: Tensor) -> None:
        """Add the sums of another. columns: (its aims,) long, what they are here."""
        count, aims = self.count + other.count, other.cross if len(other.gram) else other.aims
        placed = aims.new_zeros(len(aims), max(columns.tolist(), default=-1) + 1)
        placed[:, columns] = aims
        if len(other.rows):
            self.absorb([(other.rows, placed)])
        elif len(other.gram):
            rows, own = self.rows.reshape(-1, len(other.gram)), self.aims
            self._let_go()
            self._sum_up(rows, own)
            self.gram += other.gram
            self.cross = _wider(self.cross, max(self.cross.shape[1], placed.shape[1]))
            self.cross[:, : placed.shape[1]] += placed
        self.count = count

    def remove(self, h: Tensor, aim: int | None = None) -> None:
        """Take vectors away that were added: (clips, columns); and with them an aim that was theirs alone, if they had.

        Of orthogonal rows with the unit rows U = S / |S| and the energies E, U^T (E - B^T B) U is left, B = h U^T.
        """
        self.count, self._known = self.count - len(h), ()
        if len(self.gram):
            add_products(self.gram, h, -1)
            self.cross = self.cross if aim is None else without_row(self.cross.T, aim).T
            return
        if aim is not None:
            self.aims = without_row(self.aims.T, aim).T
        rows, aims = orthogonal(self.rows, self.aims)
        if not len(rows):  # Of vectors that were all zero.
            return
        cross, energies = rows.T @ aims, rows.square().sum(1)  # (columns, aims) S^T T
        unit = rows / energies.sqrt()[:, None]
        within = h @ unit.T
        energy, turn = torch.linalg.eigh(torch.diag(energies) - within.T @ within)
        left = energy > 1e-12 * energies.max()  # What was taken away wholly leaves rounding behind.
        self.rows = energy[left].sqrt()[:, None] * (turn[:, left].T @ unit)
        self.aims = (self.rows @ cross) / energy[left][:, None]

    @property
    def energy(self) -> Tensor:
        """() sum of |h|^2."""
        return self.gram.diagonal().sum() if len(self.gram) else self.rows.flatten().dot(self.rows.flatten())

    def ridge(self, penalty: float | Tensor) -> Tensor:
        """(columns, aims) (S^T S + penalty I)^-1 S^T T."""
        if len(self.gram):
            return self._solve(self.cross, penalty)
        return self.rows.T @ self._solve(self.aims, penalty)

    def whiten(self, x: Tensor, penalty: float | Tensor) -> Tensor:
        """(vectors, columns) x (S^T S + penalty I)^-1; x: (vectors, columns)."""
        if len(self.gram):
            return self._solve(x.T, penalty, 1 / penalty).T
        return (x - self._solve(self.rows @ x.T, penalty).T @ self.rows) / penalty

    def _solve(self, right: Tensor, penalty: float | Tensor, beyond: float | Tensor = 0.0) -> Tensor:
        """(A + penalty I)^-1 right, with A the sum, or S S^T if rows are kept; right: (rows or columns, any).

        beyond: what the inverse is in directions in which A is nothing but rounding, where that matters.
        """
        matrix = self._matrix()
        if not len(matrix):
            return right
        matrix.diagonal().add_(penalty)
        largest = matrix.diagonal().max()
        try:
            factor = factorised(matrix)
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            factor = matrix.zero_()
        if factor.diagonal().min().square() > CLEAR * largest:
            return solved(factor, right)
        energy, turn = torch.linalg.eigh(self._matrix())
        inverse = torch.where(energy > rounding(energy), 1 / (energy + penalty), beyond)
        found: Tensor = turn @ (inverse[:, None] * (turn.T @ right))
        return found

    def _matrix(self) -> Tensor:
        """To work in: the lower triangle of the sum, or of S S^T if rows are kept."""
        if len(self.gram):
            return self.gram.clone()
        found = products(self.rows.split(BLOCK), *self._known)
        self._known = (found,) if 2 * len(found) <= self.rows.shape[1] else ()  # To keep a large one takes much memory.
        return found.clone() if self._known else found


class Centres(Kept):
    """Count and mean of each class, moved as clips come."""

    def __init__(self) -> None:
        self.counts = torch.zeros(0, dtype=torch.float64)  #: (classes,)
        self.means = torch.zeros(0, 0, dtype=torch.float64)  #: (classes, columns)

    def add(self, x: Tensor, target: int, classes: int) -> Tensor:
        """(clips, columns) rows whose Gram matrix is what the clips x of one class add to its scatter.

        The last row is for the mean that moves (Chan, Golub and LeVeque 1979): sqrt(n m / (n + m)) (x mean - mean).
        The others are the clips less their mean, reflected so that the first would be zero, and left out.
        """
        self.counts = with_room(self.counts, classes)
        self.means = with_room(self.means, classes, x.shape[1])
        known, mean = self.counts[target].clone(), x.mean(0)
        moved = mean - self.means[target]
        self.counts[target] += len(x)
        share = len(x) / self.counts[target]
        self.means[target] += share * moved
        return torch.cat([_centred(x - mean), ((known * share).sqrt() * moved)[None]])

    def merge(self, other: Centres, columns: Tensor, classes: int) -> Tensor:
        """(its classes, columns) the row for each mean that moves, as above. columns: what its classes are here."""
        self.counts = with_room(self.counts, classes)
        self.means = with_room(self.means, classes, other.means.shape[1])
        known, moved = self.counts[columns], other.means - self.means[columns]
        share = other.counts / (known + other.counts)
        self.counts[columns] += other.counts
        self.means[columns] += share[:, None] * moved
        return (known * share).sqrt()[:, None] * moved

    def remove(self, target: int) -> None:
        self.counts, self.means = without_row(self.counts, target), without_row(self.means, target)


def by_class(targets: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Each class among the targets (clips,) with the numbers of its rows."""
    for target in targets.unique().tolist():
        yield target, (targets == target).nonzero().flatten()


def orthogonal(rows: Tensor, aims: Tensor) -> tuple[Tensor, Tensor]:
    """Orthogonal rows with the same Gram matrix, at most as many as columns, and the aims turned alike.

    rows: (rows, columns), aims: (rows, aims). Rows of nothing but rounding are left out.
    """
    if len(rows) > rows.shape[1]:
        turn, rows = torch.linalg.qr(rows)
        aims = turn.T @ aims
    energy, turn = torch.linalg.eigh(rows @ rows.T)
    turn = turn[:, energy > rounding(energy)].T
    return turn @ rows, turn @ aims


def rounding(energy: Tensor) -> float:
    """What eigenvalues (n,) of a Gram matrix must exceed to be more than rounding."""
    return len(energy) * torch.finfo(energy.dtype).eps * max(energy.abs().tolist(), default=0.0)


def products(blocks: Sequence[Tensor], *known: Tensor) -> Tensor:
    """(rows, rows) lower triangle of S S^T, for rows S that come in blocks.

    known: what it is for some whole blocks from the first on. Any block is multiplied the same way whatever is known,
    so all comes out the same to the bit.
    """
    edges = [0, *itertools.accumulate(map(len, blocks))]
    found = blocks[0].new_empty(edges[-1], edges[-1])
    ready = 0
    for matrix in known:
        ready = len(matrix)
        found[:ready, :ready] = matrix
    for i, block in enumerate(blocks):
        for j in range(i + 1 if edges[i] >= ready else 0):
            torch.mm(block, blocks[j].T, out=found[edges[i] : edges[i + 1], edges[j] : edges[j + 1]])
    return found


def _turn_in(pile: list[tuple[Tensor, Tensor]], h: Tensor, y: Tensor) -> None:
    """Put vectors and their aims on a pile of such, turned together with the last that lie there."""
    last, its = pile.pop() if pile else (h[:0], y[:0])
    if len(last) > TURNED:
        pile.append((last[:-TURNED], its[:-TURNED]))
    rows, aims = _joined([(last[-TURNED:], its[-TURNED:]), (h, y)])
    energy, turn = torch.linalg.eigh(rows @ rows.T)
    turn = turn[:, energy > rounding(energy)].T  # Now what is kept is known from the sums, but for signs.
    turn = _cosines(len(turn)) @ turn  # And a vector at right angles to all others is in all rows.
    pile.append((turn @ rows, turn @ aims))


def _cosines(count: int) -> Tensor:
    """(count, count) orthogonal matrix with no number above sqrt(2 / count): the cosine transform."""
    place = torch.arange(count, dtype=torch.float64)
    found = torch.cos(math.pi / max(1, count) * place[:, None] * (place + 0.5)).mul_(math.sqrt(2 / max(1, count)))
    found[:1] *= math.sqrt(0.5)
    return found


def _joined(pile: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """All rows and aims of a pile, which is taken down: what is copied need not be held any longer."""
    aims = torch.cat([_wider(y, max(each.shape[1] for _, each in pile)) for _, y in pile])
    rows, start = aims.new_empty(len(aims), pile[0][0].shape[1]), 0
    while pile:
        part = pile.pop(0)[0]
        rows[start : start + len(part)] = part
        start += len(part)
    return rows, aims


def _wider(aims: Tensor, count: int) -> Tensor:
    """With columns of zeros for aims that are new: (rows, count)."""
    return pad(aims, (0, count - aims.shape[1]))


def _centred(away: Tensor) -> Tensor:
    """(clips - 1, columns) rows with the same Gram matrix as (clips, columns) ``away``, which add up to zero.

    The reflection that takes the vector of ones to the first axis takes their sum to the first row, so that is zero.
    """
    if len(away) == 1:
        return away[1:]
    normal = torch.full((len(away),), len(away) ** -0.5, dtype=away.dtype)
    normal[0] -= 1
    return away.addr(normal, normal @ away, alpha=-2 / float(normal @ normal))[1:]
