"""Numbers that are none: a learner that has got any says so, and which clip they came from.

What a learner has learnt is looked at, not every token that it reads: tokens are read again and again, and by any
number that is none the sums and weights it goes into become none too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from harkback.buffer import reading
from harkback.errors import HarkbackError
from harkback.features import FeatureRows
from harkback.state import Stateful

SUMS = "its sums are not finite, or too unlike in size"
MEND = "leave the clip out, or delete the store that has it and encode it again"


class Astray(ArithmeticError):
    """What a learner computes has stopped being numbers."""


@contextmanager
def sound(learner: object, name: str, rows: FeatureRows | None = None) -> Iterator[None]:
    """`HarkbackError` if what is done to the learner in the block leaves it with numbers that are not finite.

    name: of what is done; rows: what it was given, among which the clip is sought that has no numbers either.
    """
    try:
        yield
        for part, array in _numbers(learner):
            if not _finite(array):
                raise Astray(f"what it has learnt ({part}) is not finite")
    except (Astray, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
        # A factorisation says that it was given a matrix with numbers that are none, or one that is all rounding.
        raise _blamed(str(error) if isinstance(error, Astray) else SUMS, name, rows) from error


@contextmanager
def solvable(name: str) -> Iterator[None]:
    """`HarkbackError` if what was learnt has no solution, as in a model that was tampered with. name: what is done."""
    try:
        yield
    except (torch.linalg.LinAlgError, OverflowError) as error:  # type: ignore[attr-defined]
        raise HarkbackError(SUMS, where=name, mend="undo its last session, or teach it anew") from error


def check_scores(scores: Tensor, rows: FeatureRows) -> None:
    """`HarkbackError` that names the first clip whose scores are not finite. scores: (clips, classes)"""
    if not _finite(scores):
        row = (~scores.isfinite()).any(1).nonzero()[:1, 0]
        bad = rows[row]
        if bad.unfit().any():
            raise _unfit(bad.ids[0])
        what = "the learner's scores are not finite"
        raise HarkbackError(what, where=bad.ids[0], mend="check the features, or lower its rate")


def _blamed(what: str, name: str, rows: FeatureRows | None) -> HarkbackError:
    """The clip to blame, or else the learner."""
    largest = 0.0
    for _, clips in reading(rows) if rows is not None and len(rows) else ():
        for row in clips.unfit().nonzero().flatten().tolist():
            return _unfit(clips.ids[row])
        largest = max(largest, *(float(tokens.abs().max()) for tokens in (clips.audio, clips.visual) if tokens.numel()))
    mend = "lower its rate" if rows is None else f"lower its rate, or scale the tokens: the largest is {largest:.3g}"
    return HarkbackError(what, where=name, mend=mend)


def _unfit(clip: str) -> HarkbackError:
    return HarkbackError("has tokens that are not finite (NaN or infinity)", where=clip, mend=MEND)


def _numbers(owner: object) -> Iterator[tuple[str, Tensor]]:
    """The arrays of `state_of`, without a copy of any."""
    parts: dict[str, Any] = owner.state_dict() if isinstance(owner, nn.Module) else vars(owner)
    for name, value in parts.items():
        if isinstance(value, Tensor):
            yield name, value
        elif isinstance(value, Stateful):
            yield from ((f"{name}.{inside}", array) for inside, array in _numbers(value))


def _finite(array: Tensor) -> bool:
    """A sum reads each number once; only where it is none is it found out whether that is by its size alone."""
    return not array.is_floating_point() or bool(array.sum().isfinite()) or bool(array.isfinite().all())
