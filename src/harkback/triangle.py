"""Sums of products of vectors with themselves: one triangle of them, as the other says the same.

PyTorch multiplies general matrices alone, which is twice the work. Done in strips that end at the diagonal, little more
than half is left. Factorising a matrix reads its lower triangle, so the upper one need not even be filled in.
"""

from __future__ import annotations

from torch import Tensor

STRIP = 128  #: columns


def add_products(lower: Tensor, x: Tensor, sign: int = 1) -> Tensor:
    """Add x' x to the lower triangle of ``lower`` (columns, columns), and return it; x: (vectors, columns).

    What is above the diagonal means nothing afterwards.
    """
    for first in range(0, x.shape[1], STRIP):
        last = first + STRIP
        lower[first:last, :last].addmm_(x[:, first:last].T, x[:, :last], alpha=sign)
    return lower
