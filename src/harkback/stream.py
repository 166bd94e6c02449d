"""A dataset, a class order and session sizes -> sealed sessions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from harkback.errors import HarkbackError
from harkback.features import Arrays, FeatureRows, Features, Rows, TokenShape


class SealedError(HarkbackError):
    """Someone asked a closed session for its clips."""


class Sealed:
    """Feature rows that can be read until the session is closed, and not afterwards."""

    def __init__(self, rows: FeatureRows) -> None:
        self._rows: FeatureRows | None = rows

    def _open(self) -> FeatureRows:
        if self._rows is None:
            raise SealedError("this session is closed", mend="a learner may keep only what its memory holds")
        return self._rows

    @property
    def ids(self) -> tuple[str, ...]:
        return self._open().ids

    @property
    def shape(self) -> TokenShape:
        return self._open().shape

    @property
    def dtype(self) -> torch.dtype:
        return self._open().dtype

    def __len__(self) -> int:
        return len(self._open())

    def __getitem__(self, rows: Tensor) -> Features:
        return self._open()[rows]

    def fill(self, rows: Tensor, out: Arrays, at: Tensor) -> None:
        self._open().fill(rows, out, at)

    def close(self) -> None:
        self._rows = None


@dataclass(frozen=True, slots=True)
class Session:
    """Clips to learn from now: no number, no total, no way back to the stream. Open only inside its ``with`` block."""

    features: Sealed
    labels: tuple[str, ...]  #: class name of each row
    validation: Session | None  #: clips to choose an epoch by; None: the policy allows none

    @classmethod
    def of(cls, features: FeatureRows, labels: Sequence[str], validation: Session | None = None) -> Session:
        if len(features) != len(labels):
            raise ValueError(f"{len(features)} clips but {len(labels)} labels")
        return cls(Sealed(features), tuple(labels), validation)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.features.close()
        if self.validation is not None:
            self.validation.__exit__()


def cut(classes: int, sessions: Sequence[int]) -> tuple[int, ...]:
    """Session sizes: ``[5]`` means five sessions as equal as can be, the larger first; ``[3, 1, 2]`` these."""
    if not sessions:
        raise HarkbackError("no sessions are asked for", mend="give a number of sessions, or their sizes in classes")
    if len(sessions) == 1:
        (count,) = sessions
        if not 1 <= count <= classes:
            raise HarkbackError(
                f"{classes} classes cannot be cut into {count} sessions", mend=f"ask for 1 to {classes} sessions"
            )
        return tuple(classes // count + (i < classes % count) for i in range(count))
    if min(sessions) < 1 or sum(sessions) != classes:
        raise HarkbackError(
            f"sessions of {','.join(map(str, sessions))} classes are {sum(sessions)} in all, but there are {classes}",
            mend="give sizes of at least 1 that add up to the number of classes, or one number of equal sessions",
        )
    return tuple(sessions)


def shuffled(classes: Sequence[str], seed: int) -> tuple[str, ...]:
    """The class order of a seed: the same names in an order that depends on the seed alone."""
    ordered = sorted(classes)
    order = torch.randperm(len(ordered), generator=torch.Generator().manual_seed(seed))
    return tuple(ordered[i] for i in order.tolist())


class Stream:
    """Training clips dealt out in sessions of new classes.

    Iterating gives sessions; ``stream[t]`` is one of them, ``stream.upto(t)`` all clips of the sessions up to it, and
    ``stream.classes(t)`` the names that session ``t`` brings.
    """

    def __init__(
        self, features: FeatureRows, labels: Sequence[str], order: Sequence[str], sizes: Sequence[int]
    ) -> None:
        if sum(sizes) != len(order) or len(set(order)) != len(order) or set(order) != set(labels):
            raise ValueError("the order must name each label once and the sizes must add up to it")
        self._features, self._labels = features, tuple(labels)
        borders = [sum(sizes[:t]) for t in range(len(sizes) + 1)]
        self._classes = [tuple(order[start:end]) for start, end in pairwise(borders)]
        self._rows: dict[str, list[int]] = {name: [] for name in order}
        for row, label in enumerate(self._labels):
            self._rows[label].append(row)

    def __len__(self) -> int:
        return len(self._classes)

    def __iter__(self) -> Iterator[Session]:
        return (self[t] for t in range(len(self)))

    def classes(self, t: int) -> tuple[str, ...]:
        return self._classes[t]

    def seen(self, t: int) -> tuple[str, ...]:
        """Every class of the sessions up to and including ``t``."""
        return tuple(name for names in self._classes[: t + 1] for name in names)

    def __getitem__(self, t: int) -> Session:
        return self._session(self._classes[t])

    def upto(self, t: int) -> Session:
        return self._session(self.seen(t))

    def _session(self, names: Sequence[str]) -> Session:
        rows = [row for name in names for row in self._rows[name]]
        chosen = Rows(self._features, torch.tensor(rows))
        return Session.of(chosen, [self._labels[row] for row in rows])
