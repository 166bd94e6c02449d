"""Exemplars: a fixed total number of old clips' features, re-cut as classes come."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from harkback.features import FeatureRows, Features, Joined
from harkback.state import State, pack_text, unpack_text

Choice = Literal["herding", "random"]


def quotas(budget: int, classes: int) -> list[int]:
    """How many exemplars each class may keep: equal shares, rounded down; one each for the first while fewer fit."""
    if classes == 0:
        return []
    share = budget // classes
    return [share] * classes if share else [1] * budget + [0] * (classes - budget)


def herd(vectors: Tensor, count: int) -> Tensor:
    """Rows whose running mean stays nearest to the mean of all (iCaRL, arXiv 1611.07725, algorithm 4), best first.

    vectors: (clips, width), compared by direction; returns (min(count, clips),) long.
    """
    unit = normalize(vectors.double(), dim=1)
    mean, chosen, total = unit.mean(0), [], torch.zeros_like(unit[0])
    free = torch.ones(len(unit), dtype=torch.bool)
    for k in range(1, min(count, len(unit)) + 1):
        distance = (mean - (total + unit) / k).square().sum(1).masked_fill(~free, torch.inf)
        best = int(distance.argmin())
        free[best] = False
        total = total + unit[best]
        chosen.append(best)
    return torch.tensor(chosen, dtype=torch.long)


class Memory:
    """At most ``budget`` exemplars in all. Within a class the rows stand in order of worth, so a cut keeps the best."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.features: Features | None = None
        self.targets = torch.zeros(0, dtype=torch.long)

    def __len__(self) -> int:
        return len(self.targets)

    def beside(self, features: FeatureRows, targets: Tensor) -> tuple[FeatureRows, Tensor]:
        """The clips of a session and, behind them, the exemplars: what is learnt from, and what `keep` chooses from.

        targets: (clips,) long class numbers of ``features``; those that are returned have the length of the rows.
        """
        if self.features is None:
            return features, targets
        return Joined(features, self.features), torch.cat([targets, self.targets])

    def keep(
        self, rows: FeatureRows, targets: Tensor, vectors: Tensor, classes: int, how: Choice, generator: torch.Generator
    ) -> None:
        """Choose anew. rows, targets: those of `beside`.

        vectors: (rows, width) what herding compares; classes: how many in all.
        A class with new clips is chosen from both; a class without keeps the best of its own.
        """
        fresh = len(rows) - len(self)
        kept = []
        for target, quota in enumerate(quotas(self.budget, classes)):
            mine = (targets == target).nonzero().flatten()
            if (mine < fresh).any():
                if how == "herding":
                    mine = mine[herd(vectors[mine], quota)]
                else:
                    mine = mine[torch.randperm(len(mine), generator=generator)]
            kept.append(mine[:quota])
        chosen = torch.cat(kept) if kept else torch.zeros(0, dtype=torch.long)
        self.features = rows[chosen]
        self.targets = targets[chosen]

    def state(self) -> State:
        if self.features is None:
            return {}
        f = self.features
        arrays = {"audio": f.audio, "visual": f.visual, "heard": f.heard, "seen": f.seen}
        return {**arrays, "targets": self.targets, "ids": pack_text(f.ids)}

    def restore(self, state: State) -> None:
        self.__init__(self.budget)  # type: ignore[misc]
        if state:
            arrays = (state[name] for name in ("audio", "visual", "heard", "seen"))
            self.features = Features(unpack_text(state["ids"]), *arrays)
            self.targets = state["targets"]
