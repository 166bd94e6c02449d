"""What every learner is: two hooks, and everything around them settled once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from copy import deepcopy
from operator import attrgetter
from types import SimpleNamespace
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar, final, runtime_checkable

import torch
from torch import Tensor, nn

from harkback.buffer import reading
from harkback.errors import HarkbackError
from harkback.features import FeatureRows, Features
from harkback.ledger import Additive, Ledger, Mergeable
from harkback.limits import check_all
from harkback.moments import without_row
from harkback.soundness import check_scores, solvable, sound
from harkback.state import State, pack_text, restore_into, state_of, unpack_text
from harkback.stream import Session

SettingsT = TypeVar("SettingsT")


class Learner(ABC, Generic[SettingsT]):
    """A classifier that is taught session after session and never told how many will come.

    A subclass writes `_learn` and `_scores`. Whatever it must remember it keeps as attributes that are tensors,
    `torch.Generator`s or `Stateful` (a network, a memory): those are saved and restored for it. All randomness comes
    from ``self.generator``. A field ``answer`` of its settings may change `_scores` alone: learners that differ in it
    share one training in a bench.
    """

    Settings: ClassVar[type[Any]]  #: frozen dataclass; its fields are the learner's flags
    cumulative: ClassVar[bool] = False  #: is handed every clip so far, not the session's alone: a ceiling, not a method
    #: Attributes whose numbers are fitted to the clips, beside the parameters of networks, which are found.
    FITTED: ClassVar[tuple[str, ...]] = ()
    #: Attributes by which clips are measured, once and for all: alike in learners that can be merged.
    COMMON: ClassVar[tuple[str, ...]] = ()
    #: Named settings, by dotted name: ``{"fc": {"answer": "fc"}}`` makes a learner ``icarl`` also ``icarl-fc``.
    VARIANTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    #: The same for what the learner is without one of its parts: the suite ``l3-ablation``.
    ABLATIONS: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __init__(self, settings: SettingsT | None = None, *, memory: int = 0, seed: int = 0) -> None:
        """memory: exemplars it may keep in all; seed: of everything it draws."""
        self.settings: SettingsT = self.Settings() if settings is None else settings
        check_all(_name_of(type(self)), self.settings)
        self.budget = memory
        self.classes: tuple[str, ...] = ()
        self.generator = torch.Generator().manual_seed(seed)
        self.born = torch.zeros(0, dtype=torch.long)  #: (classes,) the session in which each class came
        self.sessions = torch.zeros((), dtype=torch.long)  #: how many sessions were learnt
        self.losses: list[float] = []  #: mean loss of each epoch of the last session, for those to see who train
        self.ledger: Ledger | None = None  #: where what is added to sums is written down, by class; none: nowhere
        self._held_out: tuple[FeatureRows, Tensor] | None = None

    @final
    def learn(self, session: Session) -> Self:
        """Learn one session. Classes not met before are added at the end, in the order of the session's labels.

        If that fails, the classes are those from before; weights may have moved, so restore a `state` to go on.
        """
        if not len(session.labels):
            return self
        before = self.classes, self.born
        new = [name for name in dict.fromkeys(session.labels) if name not in self.classes]
        self.classes += tuple(new)
        self.born = torch.cat([self.born, self.sessions.expand(len(new))])
        number = {name: i for i, name in enumerate(self.classes)}
        self.losses = []
        if session.validation is not None and len(session.validation.labels):
            asked = torch.tensor([number.get(name, -1) for name in session.validation.labels])
            self._held_out = session.validation.features, asked
        try:
            with sound(self, f"{_name_of(type(self))}, session {int(self.sessions) + 1}", session.features):
                self._learn(session.features, torch.tensor([number[name] for name in session.labels]))
        except BaseException:
            self.classes, self.born = before
            raise
        finally:
            self._held_out = None
        self.sessions = self.sessions + 1
        return self

    @final
    @torch.no_grad()
    def scores(self, features: FeatureRows) -> Tensor:
        """(clips, classes) float32, higher is likelier; columns are ``self.classes``. Read a batch at a time."""
        if not self.classes:
            return torch.zeros(len(features), 0)
        with solvable(_name_of(type(self))):
            parts = [self._scores(clips).float() for _, clips in reading(features)]
        scores = torch.cat(parts) if parts else torch.zeros(0, len(self.classes))
        check_scores(scores, features)
        return scores

    @final
    def forget(self, name: str, entry: State) -> Self:
        """Take a class out of the sums of a learner that is `Additive`: what is left is what the others added.

        entry: what the ledgers of all sessions have on it. The last class that is left cannot be forgotten.
        """
        if not isinstance(self, Additive) or len(self.classes) < 2:
            raise ValueError(f"{type(self).__name__} cannot forget one of its {len(self.classes)} classes exactly")
        target = self.classes.index(name)
        self.classes = tuple(known for known in self.classes if known != name)
        self.born = without_row(self.born, target)
        with sound(self, f"{_name_of(type(self))}, without {name}"):
            self.subtract(target, entry)
        return self

    @final
    def begin(self) -> Self:
        """One that has learnt nothing yet and measures clips as this one does, so that it can be merged with it.

        `HarkbackError` for a learner that is not `Mergeable`.
        """
        if not isinstance(self, Mergeable):
            raise self._unmergeable()
        made = type(self)(self.settings, memory=self.budget)
        for name in self.COMMON:
            setattr(made, name, deepcopy(getattr(self, name)))
        return made

    @final
    def merge(self, other: Self) -> Self:
        """Know what another knows as well, as if its sessions had come after this one's; it must be `Mergeable`.

        Classes go by their names. No clip may have been learnt by both: it would count twice.
        """
        if not isinstance(self, Mergeable):
            raise self._unmergeable()
        name = _name_of(type(self))
        if type(other) is not type(self) or other.settings != self.settings:
            raise HarkbackError("only learners of one kind and with the same settings can be merged", where=name)
        if not _same(_common(self), _common(other)):
            what = "the two measure clips by different first sessions"
            raise HarkbackError(what, where=name, mend="begin() the one from the other, once that has learnt a session")
        before = self.classes, self.born
        fresh = torch.tensor([known not in self.classes for known in other.classes], dtype=torch.bool)
        self.classes += tuple(known for known in other.classes if known not in self.classes)
        self.born = torch.cat([self.born, self.sessions + other.born[fresh]])
        try:
            if other.classes:
                with sound(self, f"{name}, merged"):
                    self.absorb(other, torch.tensor([self.classes.index(known) for known in other.classes]))
        except BaseException:
            self.classes, self.born = before
            raise
        self.sessions = self.sessions + other.sessions
        return self

    def _unmergeable(self) -> HarkbackError:
        what = f"what two learners of the kind {_name_of(type(self))} know cannot be added up"
        return HarkbackError(what, mend="use ridge")

    @final
    def trained_parameters(self) -> int:
        """How many numbers were fitted to clips: weights, not memory or counters."""
        found = sum(p.numel() for part in vars(self).values() if isinstance(part, nn.Module) for p in part.parameters())
        return found + sum(int(attrgetter(name)(self).numel()) for name in self.FITTED)

    @final
    def judge(self, answer: Callable[[Features], Tensor]) -> Callable[[], float] | None:
        """What tells the better epoch, while a session is learnt: accuracy on its validation clips; None: it has none.

        answer: clips -> their scores (clips, classes), as the learner is now.
        """
        if self._held_out is None:
            return None
        rows, targets = self._held_out

        @torch.no_grad()
        def accuracy() -> float:
            right = [answer(clips).argmax(1) == targets[batch] for batch, clips in reading(rows)]
            return float(torch.cat(right).float().mean())

        return accuracy

    @final
    def state(self) -> State:
        """All that the learner is, as arrays: restoring it and going on equals never having stopped, bit for bit."""
        return {**state_of(self), "classes": pack_text(self.classes)}

    @final
    def restore(self, state: State) -> Self:
        """Become what ``state`` says; the learner must have been made with the same settings and memory."""
        restore_into(self, state)
        self.classes = unpack_text(state["classes"])
        return self

    @abstractmethod
    def _learn(self, features: FeatureRows, targets: Tensor) -> None:
        """Learn the session's clips; targets: (clips,) long, into ``self.classes``, which has the new ones already."""

    @abstractmethod
    def _scores(self, features: Features) -> Tensor:
        """(clips, classes) for clips in memory."""


@runtime_checkable
class Looks(Protocol):
    """A learner that can say where it looked."""

    def heat(self, features: Features) -> Tensor:
        """(clips, frames, patches) share of the look that fell on each patch; sums to one over a clip."""
        ...


def _name_of(kind: type[Learner[Any]]) -> str:
    """What the registry calls a learner of ours, after its file; a stranger's goes by its own file."""
    return kind.__module__.rpartition(".")[2].replace("_", "-")


def _common(learner: Learner[Any]) -> State:
    return state_of(SimpleNamespace(**{name: getattr(learner, name) for name in learner.COMMON}))


def _same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
