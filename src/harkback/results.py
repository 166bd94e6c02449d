"""A bench's log, read back: the finished runs of each learner and their numbers. Means are over runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harkback import metrics
from harkback.errors import HarkbackError
from harkback.files import read_json
from harkback.log import Run
from harkback.metrics import Answered, Array
from harkback.shapes import check, natural, part


def _some_sessions(sizes: Any) -> bool:
    """Classes of each session, of which there is one at least."""
    return isinstance(sizes, list) and bool(sizes) and all(natural(size) and size > 0 for size in sizes)


#: What bench.json must say, and what else it may.
SHAPE = {
    "dataset": str,
    "encoder": {"name": str},
    "sessions": _some_sessions,
    "memory": natural,
    "asked": str,
    "training_clips": natural,
    "test_clips": [{"id": str, "label": str}],
    "skips": [{"id": str, "reason": str}],
    "runs": [
        {
            "folder": part,
            "learner": str,
            "seed": natural,
            "order": (natural, str),
            "method?": (None, str),
            "modality?": (None, str),
            "cumulative?": bool,
            "failed?": (None, str),
        }
    ],
    "protocol?": (None, {"name": str, "changed": [str]}),
    "validation?": (None, str),
    "reference?": (None, str),
}


@dataclass(frozen=True, slots=True)
class Results:
    """All finished runs of one learner. Lists run over runs; what is averaged is averaged over runs."""

    learner: str
    method: str | None  #: the registry's name; logs of old do not say
    modality: str | None  #: both, audio or visual
    cumulative: bool  #: was handed every clip so far in each session: a ceiling, not a method
    runs: tuple[Run, ...]
    answers: tuple[list[Answered], ...]  #: [run][session]
    facts: tuple[list[dict[str, Any]], ...]  #: [run][session], as `Run` describes them

    @property
    def orders(self) -> list[int | str]:
        """The class order of each run: the number of a shuffled one, or the name of a protocol's own."""
        return [run.order for run in self.runs]

    def curves(self) -> Array:
        """A_t of each run. (runs, sessions)"""
        return np.array([metrics.accuracy_per_session(log) for log in self.answers])

    def matrices(self) -> list[Array]:
        """a_{t,i} of each run."""
        return [metrics.session_matrix(log) for log in self.answers]

    def over_runs(self, metric: Callable[[Sequence[Answered]], float]) -> list[float]:
        return [metric(log) for log in self.answers]

    def half_width(self, metric: Callable[[Sequence[Answered]], float]) -> float:
        """Half the 95 % interval of the metric's mean over runs; see `metrics.spread`."""
        return metrics.half_width(self.over_runs(metric), self.orders)

    def costs(self, fact: str) -> Array:
        """A number of session-XX.json; NaN where the log does not say. (runs, sessions)"""
        return np.array([[math.nan if facts.get(fact) is None else facts[fact] for facts in run] for run in self.facts])

    def losses(self) -> list[list[float]]:
        """Mean training loss of each epoch of each session of the first run that kept any. [session][epoch]"""
        for run in self.facts:
            kept = [[float(loss) for loss in facts.get("losses") or ()] for facts in run]
            if any(kept):
                return kept
        return []

    def per_class(self) -> dict[str, float]:
        """Share right of each class after the last session, mean over runs, classes by name."""
        found: dict[str, list[float]] = {}
        for log, facts in zip(self.answers, self.facts, strict=True):
            names = facts[-1]["classes"]
            shares = metrics.per_class_accuracy(log[-1], len(names))
            for name, share in zip(names, shares, strict=True):
                found.setdefault(name, []).append(float(share))
        return {name: average(found[name]) for name in sorted(found)}


class Unfinished(NamedTuple):
    """A run that has not come to its end."""

    run: Run
    sessions: int  #: it finished
    failed: str | None  #: why it could not go on; None: it was stopped


@dataclass(frozen=True, slots=True)
class Told:
    """A bench's log, read back."""

    facts: dict[str, Any]  #: bench.json
    learners: tuple[Results, ...]  #: in the order of the bench
    unfinished: tuple[Unfinished, ...]

    @property
    def incremental(self) -> list[Results]:
        """Learners that have results and were never handed former clips again, the most accurate first."""
        found = [r for r in self.learners if r.runs and not r.cumulative]
        return sorted(found, key=lambda r: -average(r.over_runs(metrics.mean_accuracy)))


def read(out: Path) -> Told:
    """The log of the bench in folder ``out``. A run that was stopped half way counts in no mean."""
    path = out / "bench.json"
    if not path.exists():
        raise HarkbackError(
            "there is no finished bench here", where=out, mend="run the bench to its end: it goes on where it stopped"
        )
    facts = read_json(path)
    check(facts, SHAPE, path, "run the bench again")
    finished: dict[str, list[Run]] = {entry["learner"]: [] for entry in facts["runs"]}
    unfinished: list[Unfinished] = []
    for entry in facts["runs"]:
        run = Run(out / "runs" / entry["folder"], entry["learner"], entry["seed"], entry["order"])
        if run.done() == len(facts["sessions"]):
            finished[run.learner].append(run)
        else:
            unfinished.append(Unfinished(run, run.done(), entry.get("failed")))
    about = {entry["learner"]: entry for entry in reversed(facts["runs"])}
    learners = tuple(
        Results(
            name,
            about[name].get("method"),
            about[name].get("modality"),
            bool(about[name].get("cumulative", False)),
            tuple(runs),
            tuple(run.answered() for run in runs),
            tuple([run.facts(t) for t in range(run.done())] for run in runs),
        )
        for name, runs in finished.items()
    )
    return Told(facts, learners, tuple(unfinished))


#: Accuracies by the name of their key in the JSON.
ACCURACIES: dict[str, Callable[[Sequence[Answered]], float]] = {
    "mean_accuracy": metrics.mean_accuracy,
    "final_accuracy": metrics.final_accuracy,
    "mean_accuracy_task_macro": metrics.mean_accuracy_task_macro,
    "final_accuracy_task_macro": metrics.final_accuracy_task_macro,
    "mean_accuracy_class_macro": metrics.mean_accuracy_class_macro,
    "final_accuracy_class_macro": metrics.final_accuracy_class_macro,
}
FORGETTINGS: dict[str, Callable[[Array], float]] = {
    "average_forgetting": metrics.average_forgetting,
    "final_forgetting": metrics.final_forgetting,
    "final_forgetting_pycil": metrics.final_forgetting_pycil,
    "backward_transfer": metrics.backward_transfer,
}


def row(results: Results) -> dict[str, Any]:
    """One learner's numbers."""
    matrices, curves, seconds = results.matrices(), results.curves(), results.costs("seconds")
    asked = [len(log[-1].rows) for log in results.answers]
    numbers = {
        **{key: average(results.over_runs(metric)) for key, metric in ACCURACIES.items()},
        "ci95": results.half_width(metrics.mean_accuracy),
        "final_ci95": results.half_width(metrics.final_accuracy),
        **{key: average([metric(matrix) for matrix in matrices]) for key, metric in FORGETTINGS.items()},
        "seconds": average([run.sum() for run in seconds]),
        "memory_bytes": average([run[-1] for run in results.costs("memory_bytes")]),
        "trained_parameters": average([run[-1] for run in results.costs("trained_parameters")]),
    }
    numbers["test_half_width"] = metrics.clips_half_width(numbers["final_accuracy"], min(asked, default=0))
    return {
        "learner": results.learner,
        "method": results.method,
        "modality": results.modality,
        "cumulative": results.cumulative,
        "runs": len(results.runs),
        **{name: _null(number) for name, number in numbers.items()},
        "accuracy_per_session": [_null(number) for number in curves.mean(0)] if len(curves) else [],
        "seconds_per_session": [_null(number) for number in seconds.mean(0)] if len(curves) else [],
        "per_class_accuracy": {name: _null(share) for name, share in results.per_class().items()},
    }


def average(values: Sequence[float]) -> float:
    """The mean; NaN of nothing."""
    return float(np.mean(values)) if len(values) else math.nan


def _null(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None
