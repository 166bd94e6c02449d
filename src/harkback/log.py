"""The prediction log: what every learner said of every test clip after every session. Every number comes from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harkback.errors import HarkbackError
from harkback.files import read_arrays, read_json, sweep, write_arrays, write_json
from harkback.metrics import Answered
from harkback.shapes import check, natural, number
from harkback.state import State

#: What a session's JSON must say, and what else it may.
SHAPE = {
    "classes": [str],
    "sizes": [natural],
    "seconds?": (None, number),
    "memory_bytes?": (None, natural),
    "trained_parameters?": (None, natural),
    "losses?": (None, [(number, float)]),  # Not every training goes well.
}


@dataclass(frozen=True, slots=True)
class Run:
    """One learner on one seed and class order: a folder with a file pair per session.

    ``session-00.safetensors``: ``scores`` (clips, classes) float32, ``rows`` (clips,) which test clips, ``truth``
    (clips,) their columns. ``session-00.json``, written last: ``classes`` (the columns), ``sizes`` (classes of each
    session so far), ``seconds``, ``memory_bytes``, ``trained_parameters``, ``losses`` (of each epoch). A session
    without its JSON was never finished.
    """

    folder: Path
    learner: str
    seed: int
    order: int | str  #: a number: the classes shuffled so; a name: a protocol's own order

    def done(self) -> int:
        """How many sessions are finished."""
        count = 0
        while self._path(count, "json").exists():
            count += 1
        return count

    def write(self, t: int, arrays: State, facts: dict[str, Any], state: State | None) -> None:
        """Commit session t, with the learner's state to go on from; None: nothing is left to go on to."""
        write_arrays(self._path(t, "safetensors"), arrays)
        if state is not None:
            write_arrays(self._state(t), state)
        write_json(self._path(t, "json"), facts)
        for old in self.folder.glob("state-*.safetensors"):
            if state is None or old != self._state(t):
                old.unlink(missing_ok=True)

    def tidy(self, sessions: int) -> None:
        """Remove what a kill left that nobody needs; sessions: of the whole run."""
        sweep(self.folder)
        done = self.done()
        for old in self.folder.glob("state-*.safetensors"):
            if done == sessions or old != self._state(done - 1):
                old.unlink(missing_ok=True)

    def state(self, t: int) -> State:
        """The learner's state after session t."""
        path = self._state(t)
        if not path.exists():
            raise HarkbackError("the state to go on from is missing", where=path, mend=self._mend)
        return read_arrays(path, self._mend)

    def facts(self, t: int) -> dict[str, Any]:
        path = self._path(t, "json")
        facts: dict[str, Any] = read_json(path, self._mend)
        check(facts, SHAPE, path, self._mend)
        if sum(facts["sizes"]) != len(facts["classes"]):
            raise HarkbackError("its sizes are not those of its classes", where=path, mend=self._mend)
        return facts

    def scores(self, t: int) -> Tensor:
        """(clips, classes) after session t."""
        return self._arrays(t)["scores"]

    def answered(self) -> list[Answered]:
        """Every finished session, as the metrics want it."""
        return [self._answered(t) for t in range(self.done())]

    def _answered(self, t: int) -> Answered:
        arrays, sizes = self._arrays(t), self.facts(t)["sizes"]
        came = np.repeat(np.arange(len(sizes)), sizes)
        rows, truth, scores = (arrays.get(name) for name in ("rows", "truth", "scores"))
        if not _fit(rows, truth, scores, len(came)):
            path = self._path(t, "safetensors")
            raise HarkbackError("is damaged: its answers are not of its clips", where=path, mend=self._mend)
        assert rows is not None and truth is not None and scores is not None
        return Answered(rows.numpy(), truth.numpy(), scores.argmax(1).numpy(), came[truth.numpy()])

    def looks(self) -> Iterator[State]:
        """Pictures of where it looked, if the run kept any."""
        path = self.folder / "looks.safetensors"
        if path.exists():
            yield read_arrays(path, self._mend)

    def write_looks(self, arrays: State) -> None:
        """rows (n,), heat (n, frames, patches), pictures (n, frames, height, width, 3) uint8."""
        write_arrays(self.folder / "looks.safetensors", {name: array.contiguous() for name, array in arrays.items()})

    @property
    def _mend(self) -> str:
        return f"delete {self.folder} and run the bench again: only this run is redone"

    def _arrays(self, t: int) -> State:
        path = self._path(t, "safetensors")
        arrays = read_arrays(path, self._mend)
        if "scores" not in arrays:
            raise HarkbackError("is damaged: it has no scores", where=path, mend=self._mend)
        if not arrays["scores"].isfinite().all():  # No learner says such: the highest of them would be anything.
            raise HarkbackError("is damaged: scores that are not finite", where=path, mend=self._mend)
        return arrays

    def _path(self, t: int, kind: str) -> Path:
        return self.folder / f"session-{t:02d}.{kind}"

    def _state(self, t: int) -> Path:
        return self.folder / f"state-{t:02d}.safetensors"


def _fit(rows: Tensor | None, truth: Tensor | None, scores: Tensor | None, classes: int) -> bool:
    """Whether they are what a session writes."""
    if rows is None or truth is None or scores is None or scores.dtype != torch.float32:
        return False
    if not rows.dtype == truth.dtype == torch.int64 or scores.shape != (len(rows), classes) or not classes:
        return False
    if rows.shape != truth.shape or rows.dim() != 1:
        return False
    return not len(rows) or bool(rows.min() >= 0 and truth.min() >= 0 and truth.max() < classes)


def truth_columns(labels: list[str], classes: tuple[str, ...]) -> Tensor:
    """The column of each label."""
    number = {name: i for i, name in enumerate(classes)}
    return torch.tensor([number[label] for label in labels], dtype=torch.long)
