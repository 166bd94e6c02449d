"""What each class added to a learner's sums, written down: taking it away again is forgetting exactly."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from harkback.features import FeatureRows
from harkback.gram import by_class
from harkback.soundness import solvable
from harkback.state import State, pack_text, unpack_text


class Ledger:
    """What the classes of one session added, by class number.

    An entry has "x", the vectors of the class's clips as they were learnt, (clips, columns) float64 in the order in
    which they came; and the learner's other sums, if it has any.
    """

    def __init__(self) -> None:
        self.entries: dict[int, State] = {}

    def clips(self, targets: Tensor, x: Tensor) -> None:
        """targets: (clips,) long; x: (clips, columns)."""
        for target, rows in by_class(targets):
            entry = self.entries.setdefault(target, {})
            entry["x"] = torch.cat([entry["x"], x[rows]]) if "x" in entry else x[rows]

    def sums(self, target: int, **added: Tensor) -> None:
        entry = self.entries.setdefault(target, {})
        for name, array in added.items():
            entry[name] = entry[name] + array if name in entry else array.clone()


class Entries:
    """Ledger entries by class name, as a file holds them: of the learner, and of the twin that is examined for it."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], State] = {}  #: (who, class name) -> entry

    def add(self, who: str, classes: Sequence[str], ledger: Ledger) -> None:
        for target, entry in ledger.entries.items():
            self.found[who, classes[target]] = entry

    def has(self, name: str) -> bool:
        return any(each == name for _, each in self.found)

    def drop(self, name: str) -> None:
        self.found = {(who, each): entry for (who, each), entry in self.found.items() if each != name}

    def pack(self) -> State:
        """Arrays for safetensors."""
        packed = {f"{i}/{name}": array for i, entry in enumerate(self.found.values()) for name, array in entry.items()}
        return {"whose": pack_text([part for pair in self.found for part in pair]), **packed}

    @classmethod
    def unpack(cls, packed: State) -> Entries:
        made, whose = cls(), unpack_text(packed["whose"])
        for i, pair in enumerate(zip(whose[::2], whose[1::2], strict=True)):
            start = f"{i}/"
            made.found[pair] = {n.removeprefix(start): array for n, array in packed.items() if n.startswith(start)}
        return made


def total(parts: Iterable[Entries], who: str, name: str) -> State:
    """What a class added over several sessions: its clips' vectors one after another, sums added."""
    whole: State = {}
    for part in parts:
        for key, array in part.found.get((who, name), {}).items():
            if key not in whole:
                whole[key] = array
            else:
                whole[key] = torch.cat([whole[key], array]) if key == "x" else whole[key] + array
    return whole


@runtime_checkable
class Additive(Protocol):
    """A learner whose statistics are sums over clips, so that a class can be taken out of them exactly."""

    def subtract(self, target: int, entry: State) -> None:
        """Take a class out, and answer as without it. entry: what the `Ledger` has on it, over all sessions.

        ``classes`` no longer names it; whatever else is kept by class still has its row ``target``.
        """
        ...


@runtime_checkable
class Mergeable(Protocol):
    """A learner whose statistics are sums over clips, so that what two have learnt can be added up exactly."""

    def absorb(self, other: Any, columns: Tensor) -> None:
        """Add the sums of a learner of the same kind and settings, which measures clips by what this one does.

        columns: (its classes,) long, what they are in ``classes``, which has the new ones already.
        """
        ...


@runtime_checkable
class LeavesOut(Protocol):
    """A learner that can say how strange a clip is, and of a learnt clip what it would say had it not learnt it."""

    def strangeness(self, features: FeatureRows) -> Tensor:
        """(clips,) float64, how far each clip is from all that was learnt; any scale."""
        ...

    def left_out(self, features: FeatureRows, learnt: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (clips, classes) float32 and strangeness (clips,) of learnt clips, each as if it had not been.

        learnt: (clips, columns) "x" of the ledger; targets: (clips,) long.
        """
        ...


def strangeness(learner: object, features: FeatureRows) -> Tensor | None:
    """(clips,) how far clips are from all that a learner has learnt; None: it does not tell."""
    if not isinstance(learner, LeavesOut):
        return None
    with solvable("how strange clips are"):
        return learner.strangeness(features)
