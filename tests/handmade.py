"""A bench's log made by hand, for tests of the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from harkback.log import Run

EVIL = '<script>alert("x")</script> $a_b$ 🐸'


class Log:
    """Two test clips of every class. What a log of today says besides is told with ``say`` and ``facts``."""

    def __init__(self, out: Path, sizes: list[int], labels: str | list[str]) -> None:
        self.out, self.sizes, self.labels = out, sizes, list(labels)
        self.runs: list[dict[str, Any]] = []
        self.skips: list[dict[str, str]] = []
        self.made = 0
        self.facts: dict[str, Any] = {}  #: more of bench.json

    def add(
        self,
        learner: str,
        seed: int,
        sessions: list[dict[str, int]],
        *,
        order: int | str | None = None,
        seconds: float = 1.5,
        cumulative: bool = False,
        say: dict[str, Any] | None = None,
        **entry: Any,
    ) -> Run:
        """One run; a wrong clip is said to be of the next class.

        sessions: right answers of each class seen, 0..2; order: none: the seed; say: more of each session's JSON;
        entry: more of bench.json's entry.
        """
        order = seed if order is None else order
        run = Run(self.out / "runs" / f"run-{self.made}", learner, seed, order)
        for t, right in enumerate(sessions):
            classes = list(right)
            rows = [2 * i + k for i, name in enumerate(self.labels) if name in right for k in (0, 1)]
            truth = [classes.index(self.labels[row // 2]) for row in rows]
            hits = [row % 2 < right[self.labels[row // 2]] for row in rows]
            said = [c if hit else (c + 1) % len(classes) for c, hit in zip(truth, hits, strict=True)]
            scores = torch.nn.functional.one_hot(torch.tensor(said), len(classes)).float()
            arrays = {"scores": scores, "rows": torch.tensor(rows), "truth": torch.tensor(truth)}
            facts = {"classes": classes, "sizes": self.sizes[: t + 1], "seconds": seconds, "memory_bytes": 1000 * t}
            run.write(t, arrays, {**facts, **(say or {})}, None)
        self.made += 1
        about = {"folder": run.folder.name, "learner": learner, "seed": seed, "order": order, "cumulative": cumulative}
        self.runs.append({**about, **entry})
        return run

    def close(self) -> Path:
        facts = {
            "harkback": "0",
            "dataset": f"set of {EVIL}",
            "encoder": {"name": "signal", "revision": "1"},
            "sessions": self.sizes,
            "memory": 10,
            "asked": "test",
            "training_clips": 30,
            "test_clips": [{"id": f"{name}/{k}.mp4", "label": name} for name in self.labels for k in (0, 1)],
            "skips": self.skips,
            "runs": self.runs,
            **self.facts,
        }
        self.out.mkdir(exist_ok=True)
        (self.out / "bench.json").write_text(json.dumps(facts), encoding="utf-8")
        return self.out


#: Right answers of each class after each session, of two clips a class. Sessions of 2, 1 and 1 classes.
FIRST = [{"a": 2, "b": 2}, {"a": 1, "b": 1, "c": 2}, {"a": 1, "b": 0, "c": 1, "d": 2}]
SECOND = [{"c": 1, "d": 0}, {"c": 2, "d": 1, "a": 1}, {"c": 2, "d": 2, "a": 2, "b": 0}]


def classes(number: int) -> list[str]:
    return [f"class {k:02d}" for k in range(number)]


def small(out: Path) -> Path:
    """Two learners and a ceiling; "one" has two seeds."""
    log = Log(out, [2, 1, 1], "abcd")
    log.add("one", 0, FIRST)
    log.add("one", 1, SECOND, seconds=2.5)
    log.add("ceiling", 0, FIRST, cumulative=True)
    log.add("another", 0, [{"a": 0, "b": 0}, {"a": 0, "b": 0, "c": 0}, {"a": 0, "b": 0, "c": 0, "d": 0}])
    return log.close()


def evil(out: Path) -> Path:
    """One session, one seed, names that want to break out, a look, a skip."""
    log = Log(out, [2], [EVIL, "plain"])
    run = log.add(EVIL, 0, [{EVIL: 1, "plain": 2}])
    heat = torch.zeros(3, 2, 4)
    heat[:, 0, 1] = 1.0  # the upper right quarter of the first frame
    run.write_looks(
        {"rows": torch.tensor([0, 1, 2]), "heat": heat, "pictures": torch.full((3, 2, 16, 16, 3), 128).byte()}
    )
    log.skips = [{"id": EVIL, "reason": f"has the same content as {EVIL}"}]
    return log.close()


def sure(out: Path, **facts: Any) -> Path:
    """Three learners on three seeds and 80 clips: "strong" is right where "weak" is and on 20 more; "close" on one."""
    names = classes(40)
    log = Log(out, [20, 20], names)
    for seed in range(3):
        for learner, more, one in (("weak", 0, 0), ("strong", 20, 0), ("close", 0, 1)):
            right = {name: 1 + (k < more) + (k == 30) * one for k, name in enumerate(names)}
            log.add(learner, seed, [{name: right[name] for name in names[:20]}, right])
    log.facts = facts
    return log.close()
