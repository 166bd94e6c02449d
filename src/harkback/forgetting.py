"""Taking a class out of everything a model holds: its sums, its exemplars, its hashes, its name."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

import torch

from harkback.errors import HarkbackError
from harkback.examiner import Examiner
from harkback.features import Features, join
from harkback.ledger import Additive, Entries, total
from harkback.pupil import Pupil
from harkback.unknown import calibrated

How = Literal["exactly", "refitted"]


def forget(pupil: Pupil, name: str, ledger: Mapping[str, Entries]) -> How:
    """Forget a class. ledger: the files of the ledger, from which it is struck out too.

    Exactly: what the class added to the learner's sums is taken away. Refitted: the learner is made anew from the clips
    that are retained of the other classes. Raises `HarkbackError` if that cannot be done; the pupil is then of no use.
    """
    if name not in pupil.classes:
        raise HarkbackError(f'it knows no class "{name}"', mend=f"choose from {', '.join(pupil.classes)}")
    if len(pupil.classes) == 1:
        raise HarkbackError(f'"{name}" is all it knows', mend="delete the model's folder instead")
    _strike_out(pupil, name)
    how: How = "exactly" if isinstance(pupil.learner, Additive) else "refitted"
    if how == "exactly":
        _subtract(pupil, name, ledger)
    else:
        _refit(pupil, name)
    for entries in ledger.values():
        entries.drop(name)
    pupil.records.append({"did": "forget", "time": datetime.now(UTC).isoformat(timespec="seconds"), "classes": 1})
    return how


def _strike_out(pupil: Pupil, name: str) -> None:
    """The records keep that something was learnt, not what."""
    for record in pupil.records:
        for by_class in ("clips", "exam"):
            record.get(by_class, {}).pop(name, None)
        if "new" in record:
            record["new"] = [each for each in record["new"] if each != name]


def _subtract(pupil: Pupil, name: str, ledger: Mapping[str, Entries]) -> None:
    target, twin = pupil.classes.index(name), pupil.examiner.twin
    pupil.learner.forget(name, total(ledger.values(), "learner", name))
    if twin is not None:
        twin.forget(name, total(ledger.values(), "twin", name))
    pupil.examiner.forget(target)
    pupil.examiner.examine(pupil.learner, pupil.count_column())
    pupil.calibration = calibrated(*pupil.examiner.exam)


def _refit(pupil: Pupil, name: str) -> None:
    """Make learner and examiner anew, and teach them what is retained, in the order in which it came."""
    old = pupil.learner
    retained: dict[str, tuple[int, str, Features]] = {}  # session, class and tokens of a clip
    for memory in (getattr(old, "memory", None), pupil.examiner.memory):
        if memory is None or memory.features is None:
            continue
        for row, key in enumerate(memory.features.ids):
            target = int(memory.targets[row])
            if old.classes[target] != name:
                clip = memory.features[torch.tensor([row])]
                retained[key] = int(old.born[target]), old.classes[target], clip
    there = {label for _, label, _ in retained.values()}
    lost = [each for each in old.classes if each != name and each not in there]
    if lost:
        raise HarkbackError(
            f'to forget, {pupil.kind} would have to be made anew, and no clip of "{lost[0]}" is retained',
            mend="make the model anew without the class, with a larger --memory",
        )
    pupil.learner = type(old)(old.settings, memory=old.budget, seed=pupil.seed)
    pupil.examiner = Examiner(pupil.learner, pupil.seed)
    for born in sorted({session for session, _, _ in retained.values()}):
        mine = [clip for clip in retained.values() if clip[0] == born]
        pupil.learn(join([features for _, _, features in mine]), [label for _, label, _ in mine])
