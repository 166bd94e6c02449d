"""One learner's way through one stream: learn, be asked, write it down; again and again, resumable after any kill."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch

from harkback.contestants import Contestant
from harkback.device import beside, training_on
from harkback.features import FeatureRows, Rows
from harkback.learners.base import Learner, Looks
from harkback.log import Run, truth_columns
from harkback.looks import pictures_of
from harkback.material import Material, Validation
from harkback.parallel import check_same, first, first_says, shared, wait
from harkback.stream import Session, Stream


@dataclass(frozen=True, slots=True)
class Course:
    """A training, and where what its contestants say is written. They learn alike and only answer otherwise.

    Of several processes all take it together; the first one writes.
    """

    contestants: tuple[Contestant, ...]
    runs: tuple[Run, ...]  #: of each contestant
    order: tuple[str, ...]  #: class names in the order they come
    sizes: tuple[int, ...]  #: of the sessions, in classes
    memory: int
    seed: int
    validation: Validation
    pictured: bool  #: take pictures of where it looks
    device: torch.device  #: where networks are trained

    def done(self) -> int:
        """How many sessions are finished for all contestants."""
        return min(map(_done, self.runs))

    def take(self, material: Material, tell: Callable[[int], object]) -> None:
        """Learn what is not finished yet. tell: is called with how many sessions more are finished."""
        with training_on(beside(self.device)):
            self._take(material, tell)

    def _take(self, material: Material, tell: Callable[[int], object]) -> None:
        material = material.only(self.contestants[0].modality)
        learner: Learner[Any] = self._learner(0)
        stream = Stream(material.train, material.train_labels, self.order, self.sizes)
        done = self.done()
        tell(done)
        if done == len(stream):
            return
        if done:
            # Killed between two contestants, only the one that lags behind has the state to go on from.
            learner.restore(self.runs[[_done(run) for run in self.runs].index(done)].state(done - 1))
        for t in range(done, len(stream)):
            began = perf_counter()
            with self._session(stream, t, material, learner.cumulative) as session:
                learner.learn(session)
                kept = _bytes_of(len(session.labels), material) if learner.cumulative else 0
            self._ask(learner, t, material, stream.seen(t), perf_counter() - began, kept)
            tell(1)

    def _learner(self, number: int) -> Learner[Any]:
        contestant = self.contestants[number]
        return contestant.kind(contestant.settings, memory=self.memory, seed=self.seed)

    def _session(self, stream: Stream, t: int, material: Material, cumulative: bool) -> Session:
        session = stream.upto(t) if cumulative else stream[t]
        if self.validation == "none":
            return session
        judged = material.validation.of(set(session.labels if self.validation == "current" else stream.seen(t)))
        return Session(session.features, session.labels, Session.of(judged.features, judged.labels))

    def _ask(
        self, learner: Learner[Any], t: int, material: Material, seen: Sequence[str], seconds: float, kept: int
    ) -> None:
        """Every contestant's answers after session t, and their place in the log."""
        labels, known, last = material.test_labels, set(seen), t == len(self.sizes) - 1
        rows = torch.tensor([row for row, label in enumerate(labels) if label in known], dtype=torch.long)
        asked: FeatureRows = Rows(material.test, rows)
        truth = truth_columns([labels[row] for row in rows.tolist()], learner.classes)
        state = learner.state()
        check_same(state)
        facts = {
            "seed": self.seed,
            "session": t,
            "classes": list(learner.classes),
            "sizes": list(self.sizes[: t + 1]),
            "seconds": seconds,
            "memory_bytes": kept + sum(array.nbytes for array in state.values()),
            "trained_parameters": learner.trained_parameters(),
            "losses": learner.losses,
        }
        for number, run in enumerate(self.runs):
            if _done(run) > t:  # It was ahead of the others when they were killed, or they were added later.
                continue
            answering = learner if number == 0 else self._learner(number).restore(state)
            share = shared(len(asked))
            scores = share.whole(answering.scores(share.of(asked)))
            if first():
                if last and self.pictured and isinstance(answering, Looks) and self.contestants[0].modality != "audio":
                    run.write_looks(pictures_of(answering, material.test, material.test_clips, scores, truth, rows))
                run.write(
                    t,
                    {"scores": scores, "rows": rows, "truth": truth},
                    {"learner": run.learner, "order": run.order, **facts},
                    None if last else state,
                )
            wait()


def _done(run: Run) -> int:
    """How many of a run's sessions are finished. Of several processes all go by what the first one finds."""
    return int(first_says(run.done()))


def _bytes_of(clips: int, material: Material) -> int:
    """What a learner that wants every clip again must keep of them: its tokens, in half precision."""
    shape = material.train.shape
    return clips * 2 * (shape.audio_tokens * shape.audio_dim + shape.frames * shape.patches * shape.visual_dim)
