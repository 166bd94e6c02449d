"""Gram matrices kept as a square root: for vectors that are longer than there are clips."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

from harkback.moments import Kept, with_room, without_row


class Root(Kept):
    """Rows S and aims T with S^T S = sum of h h^T and S^T T = sum of h y^T over all clips; the rows are orthogonal.

    For n clips of M columns that is n x M numbers instead of M x M, and never more than M x M. Nothing else is known of
    the clips: S and T follow, but for signs, from the two sums, so no row is a clip (unless it was the only one).
    Orthogonal rows make the inverse of S S^T + penalty I a division, whatever the penalty. Float64.
    """

    def __init__(self) -> None:
        self.rows = torch.zeros(0, 0, dtype=torch.float64)  #: (rows, columns)
        self.aims = torch.zeros(0, 0, dtype=torch.float64)  #: (rows, aims)
        self.count = torch.zeros((), dtype=torch.float64)  #: how many vectors h

    def absorb(self, parts: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Add vectors h and their aims y: (clips, columns) and (clips, aims) float64; new aims come at the end."""
        held, count = [(self.rows, self.aims)] if len(self.rows) else [], self.count
        for h, y in parts:
            held.append((h, y))
            count = count + len(h)
            if sum(len(rows) for rows, _ in held) >= 2 * h.shape[1]:
                held = [_turned(held)]
        self.rows, self.aims = _turned(held)
        self.count = count

    def remove(self, h: Tensor, aim: int | None = None) -> None:
        """Take vectors away that were added: (clips, columns); and with them an aim that was theirs alone, if they had.

        With unit rows U = S / |S| the sum that is left is U^T (E - B^T B) U, with E the energies and B = h U^T.
        """
        self.count = self.count - len(h)
        if not len(self.rows):  # Of vectors that were all zero.
            return
        cross = self.rows.T @ self.aims  # (columns, aims) S^T T
        length = self.energy.sqrt()[:, None]
        unit = self.rows / length
        within = h @ unit.T
        energy, turn = torch.linalg.eigh(torch.diag(self.energy) - within.T @ within)
        left = energy > 1e-12 * self.energy.max()  # What was taken away wholly leaves rounding behind.
        self.rows = energy[left].sqrt()[:, None] * (turn[:, left].T @ unit)
        if aim is not None:
            cross = without_row(cross.T, aim).T
        self.aims = (self.rows @ cross) / energy[left][:, None]

    @property
    def energy(self) -> Tensor:
        """(rows,) eigenvalues of the Gram matrix that are not 0."""
        return self.rows.square().sum(1)

    def ridge(self, penalty: float | Tensor) -> Tensor:
        """(columns, aims) (S^T S + penalty I)^-1 S^T T."""
        return self.rows.T @ (self.aims / (self.energy + penalty)[:, None])

    def whiten(self, x: Tensor, penalty: float | Tensor) -> Tensor:
        """(vectors, columns) x (S^T S + penalty I)^-1, by Woodbury; x: (vectors, columns)."""
        return (x - x @ self.rows.T / (self.energy + penalty) @ self.rows) / penalty


class Centres(Kept):
    """Count and mean of each class, moved as clips come."""

    def __init__(self) -> None:
        self.counts = torch.zeros(0, dtype=torch.float64)  #: (classes,)
        self.means = torch.zeros(0, 0, dtype=torch.float64)  #: (classes, columns)

    def add(self, x: Tensor, target: int, classes: int) -> Tensor:
        """(clips + 1, columns) rows whose Gram matrix is what the clips x of one class add to its scatter.

        The last row is for the mean that moves (Chan, Golub and LeVeque 1979): sqrt(n m / (n + m)) (x mean - mean).
        """
        self.counts = with_room(self.counts, classes)
        self.means = with_room(self.means, classes, x.shape[1])
        known, mean = self.counts[target].clone(), x.mean(0)
        moved = mean - self.means[target]
        self.counts[target] += len(x)
        share = len(x) / self.counts[target]
        self.means[target] += share * moved
        return torch.cat([x - mean, ((known * share).sqrt() * moved)[None]])

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
    said = energy > len(rows) * torch.finfo(torch.float64).eps * energy.abs().amax() if len(rows) else energy > 0
    turn = turn[:, said].T
    return turn @ rows, turn @ aims


def _turned(held: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    aims = max(y.shape[1] for _, y in held)
    return orthogonal(torch.cat([h for h, _ in held]), torch.cat([pad(y, (0, aims - y.shape[1])) for _, y in held]))
