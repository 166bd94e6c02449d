"""What a model keeps to be examined by: clips, and what it would say of each had it not learnt that one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from harkback.features import FeatureRows, Rows
from harkback.gram import by_class
from harkback.learners.base import Learner
from harkback.ledger import LeavesOut, Ledger
from harkback.memory import Memory, quotas
from harkback.moments import Kept, without_row
from harkback.soundness import solvable
from harkback.stream import Session

APART = 5  #: one clip in so many of a class is kept from the twin


class Examiner(Kept):
    """Retains clips, chosen at random, and asks them after each session.

    A clip that was learnt flatters. A learner that can leave single clips out is asked so; of any other there is a
    twin, taught the same but for a fifth of each class, and it is the twin that is asked those. What is found is
    what a slightly less experienced model would say: a little too modest rather than too proud.
    """

    def __init__(self, learner: Learner[Any], seed: int) -> None:
        self.memory = Memory(learner.budget)
        self.generator = torch.Generator().manual_seed(seed)
        nothing = torch.zeros(0, 0)
        self.vectors = nothing.double()  #: (retained, columns) of the clips as they were learnt, or (retained, 0)
        self.scores = nothing  #: (retained, classes) the last exam
        self.strange = torch.zeros(0, dtype=torch.float64)  #: (retained,) or (0,): how far from what was learnt
        #: (retained,) whoever is asked has not learnt it, or leaves it out
        self.apart = torch.zeros(0, dtype=torch.bool)
        self.fair = self.apart  #: (retained,) apart, and not the only clip of its class, which would be gone with it
        self.twin = None if isinstance(learner, LeavesOut) else _another(learner, seed)

    def __len__(self) -> int:
        return len(self.memory)

    @property
    def ids(self) -> tuple[str, ...]:
        return () if self.memory.features is None else self.memory.features.ids

    @property
    def exam(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Scores (clips, classes), truth (clips,) and strangeness (clips,) of the clips that could be asked fairly.

        Strangeness is None for a learner that cannot tell it.
        """
        strange = None if self.twin is not None else self.strange[self.fair]
        return self.scores[self.fair], self.memory.targets[self.fair], strange

    def right(self) -> dict[str, bool]:
        """By id, whether the clip was told rightly."""
        told = self.scores.argmax(1) == self.memory.targets if self.scores.numel() else self.fair
        return {name: bool(told[row]) for row, name in enumerate(self.ids) if self.fair[row]}

    def learn(self, rows: FeatureRows, labels: Sequence[str], learner: Learner[Any], counts: Tensor) -> None:
        """After ``learner`` has learnt these clips: retain some, and examine anew. counts: see `examine`."""
        number = {name: i for i, name in enumerate(learner.classes)}
        targets = torch.tensor([number[label] for label in labels])
        if self.twin is None:
            assert learner.ledger is not None
            learnt, apart = _in_rows(learner.ledger, targets), torch.ones(len(targets), dtype=torch.bool)
        else:
            apart = _apart(targets, self.generator)
            near = (~apart).nonzero().flatten()
            self.twin.ledger = Ledger()
            with Session.of(Rows(rows, near), [labels[row] for row in near.tolist()]) as session:
                self.twin.learn(session)
            learnt = torch.zeros(len(targets), 0, dtype=torch.float64)
        self._retain(rows, targets, learnt, apart, len(learner.classes))
        self.examine(learner, counts)

    def _retain(self, rows: FeatureRows, targets: Tensor, learnt: Tensor, apart: Tensor, classes: int) -> None:
        """Choose anew, at random, clips that can be asked before others. A class without new clips keeps its first."""
        fresh = len(rows)
        rows, targets = self.memory.beside(rows, targets)
        if len(rows) > fresh:
            learnt, apart = torch.cat([learnt, self.vectors]), torch.cat([apart, self.apart])
        kept = [torch.zeros(0, dtype=torch.long)]
        for target, quota in enumerate(quotas(self.memory.budget, classes)):
            mine = (targets == target).nonzero().flatten()
            if (mine < fresh).any():
                mine = mine[torch.randperm(len(mine), generator=self.generator)]
                mine = mine[apart[mine].logical_not().sort(stable=True).indices]
            kept.append(mine[:quota])
        chosen = torch.cat(kept)
        self.memory.features, self.memory.targets = rows[chosen], targets[chosen]
        self.vectors, self.apart = learnt[chosen], apart[chosen]

    def examine(self, learner: Learner[Any], counts: Tensor) -> None:
        """Ask all that is retained. counts: (classes,) clips learnt of each."""
        features, targets = self.memory.features, self.memory.targets
        if features is None or not len(features):
            self.scores, self.fair = torch.zeros(0, len(learner.classes)), torch.zeros(0, dtype=torch.bool)
            self.strange = self.strange[:0]
        elif isinstance(learner, LeavesOut):
            with solvable("the model's exam"):
                self.scores, self.strange = learner.left_out(features, self.vectors, targets)
            self.fair = counts[targets] > 1
        else:
            assert self.twin is not None
            column = {name: i for i, name in enumerate(self.twin.classes)}
            self.scores = self.twin.scores(features)[:, [column[name] for name in learner.classes]]
            self.fair = self.apart

    def forget(self, target: int) -> None:
        """Let go of a class's clips, and of the column of its answers."""
        kept = (self.memory.targets != target).nonzero().flatten()
        if self.memory.features is not None:
            self.memory.features = self.memory.features[kept]
        moved = self.memory.targets[kept]
        self.memory.targets = moved - (moved > target).long()
        self.vectors, self.apart, self.fair = self.vectors[kept], self.apart[kept], self.fair[kept]
        self.scores = without_row(self.scores[kept].T, target).T.contiguous()


def _another(learner: Learner[Any], seed: int) -> Learner[Any]:
    return type(learner)(learner.settings, memory=learner.budget, seed=seed)


def _apart(targets: Tensor, generator: torch.Generator) -> Tensor:
    """(clips,) bool: a fifth of each class, rounded down. At random: the clips' order may have a rhythm."""
    chosen = torch.zeros(len(targets), dtype=torch.bool)
    for _, mine in by_class(targets):
        chosen[mine[torch.randperm(len(mine), generator=generator)[: len(mine) // APART]]] = True
    return chosen


def _in_rows(ledger: Ledger, targets: Tensor) -> Tensor:
    """(clips, columns): the ledger's vectors in the order of the session's clips."""
    found = {target: entry["x"] for target, entry in ledger.entries.items()}
    out = next(iter(found.values())).new_empty(len(targets), next(iter(found.values())).shape[1])
    for target, x in found.items():
        out[targets == target] = x
    return out
