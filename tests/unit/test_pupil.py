"""A pupil: going on after the disk against never having stopped, and what its records say against counting by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fakes import SHAPE, features_of, same_state, small
from harkback.encoders import EncoderSpec
from harkback.errors import HarkbackError
from harkback.features import Features
from harkback.learners.base import Learner
from harkback.memory import quotas
from harkback.pupil import Pupil
from harkback.pupil_files import contents, ledger_file, restored
from harkback.registry import LEARNERS
from harkback.stream import Session
from harkback.vault import Vault
from harkback.versions import Contents

SPEC = EncoderSpec("fake", "1", "CC0-1.0", SHAPE, 3, 8000, {}, {})
LESSONS = [list("abbaababab"), list("cdcddccdaa"), list("efefefbbee")]


def session(labels: Sequence[str], seed: int, noise: float = 3) -> tuple[Features, list[str]]:
    features = features_of(labels, seed, noise)
    names = tuple(f"key-{seed}-{row}" for row in range(len(labels)))
    return Features(names, features.audio, features.visual, features.heard, features.seen), list(labels)


def new(kind: str, memory: int = 8, seed: int = 0) -> Pupil:
    return Pupil.new(kind, small(LEARNERS.load(kind).Settings()), SPEC, memory=memory, seed=seed)


def arrays(kept: Contents) -> dict[str, Tensor]:
    parts = {"model": kept.model, "memory": kept.memory, **kept.ledger}
    return {f"{part}/{name}": array for part, state in parts.items() for name, array in state.items()}


@pytest.mark.parametrize("kind", [n for n in LEARNERS.names() if not LEARNERS.load(n).cumulative])
def test_teaching_after_saving_and_loading_is_teaching_without(kind: str, tmp_path: Path) -> None:
    """Bit for bit: exemplars, random states, examiner and ledger too. For every learner there is."""
    stays, vault = new(kind), Vault(tmp_path / "rover")
    comes_and_goes = new(kind)
    for seed, labels in enumerate(LESSONS):
        stays.teach(*session(labels, seed))
        if seed:
            comes_and_goes = vault.read(restored)
        comes_and_goes.teach(*session(labels, seed))
        entries = comes_and_goes.entries()
        comes_and_goes.version += 1
        ledger = {ledger_file(comes_and_goes.version): entries} if entries.found else {}
        comes_and_goes.ledger += ledger
        with vault.changing(print):
            vault.commit(contents(comes_and_goes, "rover", ledger))
        one, other = (contents(each, "rover", {"ledger": each.entries()}) for each in (stays, comes_and_goes))
        assert same_state(arrays(one), arrays(other))
        assert one.facts["calibration"] == other.facts["calibration"]
        timeless = [[{**r, "time": 0, "seconds": 0} for r in each.facts["sessions"]] for each in (one, other)]
        assert timeless[0] == timeless[1]


def test_what_can_only_answer_answers_alike(tmp_path: Path) -> None:
    pupil, vault = new("icarl"), Vault(tmp_path / "rover")
    pupil.teach(*session(LESSONS[0], 0))
    with vault.changing(print):
        vault.commit(contents(pupil, "rover", {}))
    (vault.path / "memory.safetensors").unlink()  # Not needed, so not read: half of a model's bytes.
    asked, _ = session(list("ab"), 9)
    answering = vault.read(lambda version: restored(version, whole=False))
    assert torch.equal(answering.learner.scores(asked), pupil.learner.scores(asked))
    with pytest.raises(HarkbackError, match=r"memory\.safetensors: is missing"):
        vault.read(restored)


# ---- what the record says -------------------------------------------------------------------------------------------


def plain(kind: str, lessons: Sequence[tuple[Features, list[str]]]) -> Learner[Any]:
    learner: Learner[Any] = LEARNERS.load(kind)(small(LEARNERS.load(kind).Settings()), memory=8, seed=0)
    for features, labels in lessons:
        learner.learn(Session.of(features, labels))
    return learner


@pytest.mark.parametrize("kind", ["ridge", "icarl"])
def test_the_exam_is_a_twins_that_never_learnt_the_clips(kind: str) -> None:
    """A fifth of each class of a session, rounded down, is held back from the twin, and asked."""
    lessons = [session(labels, seed) for seed, labels in enumerate(LESSONS[:2])]
    pupil = new(kind, memory=100)
    for features, labels in lessons:
        pupil.teach(features, labels)
    held = {key for key, fair in zip(pupil.examiner.ids, pupil.examiner.fair.tolist(), strict=True) if fair}
    near = []
    for features, labels in lessons:
        rows = [row for row, key in enumerate(features.ids) if key not in held]
        near.append((features[torch.tensor(rows)], [labels[row] for row in rows]))
        for name in set(labels):
            away = sum(key in held for key, label in zip(features.ids, labels, strict=True) if label == name)
            assert away == labels.count(name) // 5
    twin = plain(kind, near)
    marks: dict[str, list[int]] = {}
    for features, labels in lessons:
        for row, key in enumerate(features.ids):
            if key in held:
                said = twin.classes[int(twin.scores(features[torch.tensor([row])]).argmax())]
                mark = marks.setdefault(labels[row], [0, 0])
                mark[0] += said == labels[row]
                mark[1] += 1
    assert sum(asked for _, asked in marks.values()) == len(held) > 0
    assert pupil.records[-1]["exam"] == marks


def test_the_exam_of_hark_asks_every_retained_clip_as_if_it_had_not_been_learnt() -> None:
    features, labels = session(list("ab" * 15), 0, noise=6)
    pupil = new("hark", memory=100)
    pupil.teach(features, labels)
    assert sum(asked for _, asked in pupil.records[-1]["exam"].values()) == 30
    learnt = (pupil.learner.scores(features).argmax(1) == torch.tensor([0, 1] * 15)).sum()
    examined = sum(right for right, _ in pupil.records[-1]["exam"].values())
    assert examined < learnt  # Clips of noise are known by heart, and guessed when they are left out.


def test_cost_is_counted_on_the_same_clips_before_and_after() -> None:
    pupil = new("ridge", memory=20)
    pupil.teach(*session(LESSONS[0], 0))
    before = pupil.examiner.right()
    record = pupil.teach(*session(list("cdcdcdcdcdaa"), 1))
    after = pupil.examiner.right()
    both = before.keys() & after.keys()
    assert both and both < after.keys()
    assert record["before"] == {
        "right": sum(before[key] for key in both),
        "asked": len(both),
        "right_after": sum(after[key] for key in both),
    }


def test_strangers_are_asked_before_they_are_learnt() -> None:
    pupil = new("hark", memory=100)
    first = pupil.teach(*session(list("ab" * 20), 0, noise=1))
    assert "strangers" not in first and "before" not in first
    calibration, learner = pupil.calibration, pupil.learner
    features, labels = session(list("ccbccaccddd"), 1, noise=1)
    new_rows = [row for row, label in enumerate(labels) if label in "cd"]
    asked = features[torch.tensor(new_rows)]
    evidence = calibration.evidence_of(learner.scores(asked), learner.strangeness(asked)).tolist()
    lowest = sorted(calibration.evidence)[1]  # The second lowest of 40: floor(0.05 x 41) = 2.
    wins = [(e < k) + 0.5 * (e == k) for e in evidence for k in calibration.evidence]
    record = pupil.teach(features, labels)
    assert record["strangers"]["asked"] == 9
    assert record["strangers"]["told"] == sum(e < lowest for e in evidence)
    assert record["strangers"]["auroc"] == pytest.approx(sum(wins) / len(wins), abs=1e-4)


def test_one_clip_of_a_class_is_learnt_and_not_examined() -> None:
    pupil = new("hark", memory=10)
    record = pupil.teach(*session(list("aaab"), 0, noise=1))
    assert record["exam"].keys() == {"a"}
    assert pupil.classes == ("a", "b")
    record = pupil.teach(*session(list("b"), 1, noise=1))
    assert record["exam"].keys() == {"a", "b"}
    assert pupil.counts() == {"a": 3, "b": 2}


def test_nothing_is_retained_where_nothing_may_be() -> None:
    pupil = new("hark", memory=0)
    for seed, labels in enumerate(LESSONS):
        record = pupil.teach(*session(labels, seed))
        assert record["exam"] == {} and len(pupil.examiner) == 0
    assert record["before"] == {"right": 0, "asked": 0, "right_after": 0}
    assert pupil.calibration.threshold(0.05) is None


def test_what_is_retained_is_within_its_quota_and_of_clips_that_were_learnt() -> None:
    pupil = new("ridge", memory=9)
    learnt: dict[str, str] = {}
    for seed, labels in enumerate(LESSONS):
        features, _ = session(labels, seed)
        learnt |= dict(zip(features.ids, labels, strict=True))
        pupil.teach(features, labels)
        memory = pupil.examiner.memory
        assert memory.features is not None
        for row, key in enumerate(memory.features.ids):
            assert pupil.classes[int(memory.targets[row])] == learnt[key]
        held = memory.targets.bincount(minlength=len(pupil.classes)).tolist()
        assert all(has <= quota for has, quota in zip(held, quotas(9, len(pupil.classes)), strict=True))
        assert sum(held) == len(set(memory.features.ids))
    assert pupil.learnt() == learnt


def test_a_learner_that_wants_all_clips_again_is_no_pupil() -> None:
    with pytest.raises(HarkbackError, match="joint wants every clip it ever learnt"):
        Pupil.new("joint", None, SPEC)


@pytest.mark.parametrize("rate", [0, 1, -0.1, float("nan")])
def test_a_rate_is_between_none_and_all(rate: float) -> None:
    with pytest.raises(HarkbackError, match="--false-alarm"):
        Pupil.new("ncm", None, SPEC, false_alarm=rate)
