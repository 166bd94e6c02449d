"""Forgetting against never having learnt, against sums over the clips that are left, and a scan of the bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import save

from fakes import SHAPE, features_of, random_features, small
from harkback.encoders import EncoderSpec
from harkback.errors import HarkbackError
from harkback.features import Features
from harkback.forgetting import forget
from harkback.learners.base import Learner
from harkback.learners.hark import Hark, HarkSettings
from harkback.ledger import Additive, Entries, Ledger, total
from harkback.moments import Moments
from harkback.pupil import Pupil
from harkback.pupil_files import contents
from harkback.registry import LEARNERS
from harkback.stream import Session

FIRST, SECOND, THIRD = list("abbaabab"), list("cdcddccd"), list("acea" * 2)
ADDITIVE = [name for name in LEARNERS.names() if isinstance(LEARNERS.load(name)(), Additive)]
SPEC = EncoderSpec("fake", "1", "CC0-1.0", SHAPE, 3, 8000, {}, {})


def session(labels: Sequence[str], seed: int, without: str = "") -> tuple[Features, list[str]]:
    """Clips named by their class, so that a name left behind is seen; but for a class."""
    features = features_of(labels, seed, noise=3)
    rows = [row for row, label in enumerate(labels) if label != without]
    named = Features(
        tuple(f"hash-of-{label}-{seed}-{row}" for row, label in enumerate(labels)),
        *(getattr(features, part) for part in ("audio", "visual", "heard", "seen")),
    )
    return named[torch.tensor(rows)], [labels[row] for row in rows]


def taught(learner: Learner[Any], without: str = "") -> list[Entries]:
    """Teach three sessions; what their ledgers say."""
    parts = []
    for seed, labels in enumerate((FIRST, SECOND, THIRD)):
        learner.ledger = Ledger()
        with Session.of(*session(labels, seed, without)) as lesson:
            learner.learn(lesson)
        entries = Entries()
        entries.add("learner", learner.classes, learner.ledger)
        parts.append(Entries.unpack(entries.pack()))
    return parts


def made(kind: str) -> Learner[Any]:
    found = LEARNERS.load(kind)
    settings = small(found.Settings())
    if kind == "ranpac":  # Else each session's clips choose it, the forgotten ones too.
        settings = replace(settings, penalty=3.0)
    learner: Learner[Any] = found(settings)
    return learner


def test_the_learners_that_forget_exactly() -> None:
    assert set(ADDITIVE) >= {"hark", "ncm", "ridge", "slda", "fecam", "ranpac", "klda"}
    assert not set(ADDITIVE) & {"l3", "icarl", "finetune", "joint"}


@pytest.mark.parametrize("kind", [name for name in ADDITIVE if name != "hark"])
def test_forgetting_a_class_is_never_having_met_it(kind: str) -> None:
    """Of a class that comes in two sessions; the first, which fixes what vectors are measured against, has others."""
    learner, never = made(kind), made(kind)
    entries = taught(learner)
    learner.forget("c", total(entries, "learner", "c"))
    taught(never, without="c")
    assert learner.classes == never.classes == ("a", "b", "d", "e")
    assert torch.equal(learner.born, never.born)
    asked = random_features(9, seed=8)
    torch.testing.assert_close(learner.scores(asked), never.scores(asked), rtol=1e-6, atol=1e-7)


def test_hark_without_a_look_forgets_as_if_it_had_never_met_the_class() -> None:
    settings = HarkSettings(features=8, guide="none", weigh=False)
    learner, never = Hark(settings), Hark(settings)
    entries = taught(learner)
    learner.forget("c", total(entries, "learner", "c"))
    taught(never, without="c")
    asked = random_features(9, seed=8)
    torch.testing.assert_close(learner.scores(asked), never.scores(asked), rtol=1e-6, atol=1e-7)


def test_hark_forgets_all_that_the_class_added() -> None:
    """The sums that are left, and all that is made of them, against the sums of the other classes' clips alone."""
    learner = Hark(HarkSettings(features=8))
    entries = taught(learner)
    learner.forget("c", total(entries, "learner", "c"))
    others = {name: total(entries, "learner", name) for name in learner.classes}
    moments = Moments()
    x = torch.cat([entry["x"] for entry in others.values()])
    moments.add(x, torch.arange(4).repeat_interleave(torch.tensor([len(e["x"]) for e in others.values()])), 4)
    for name in ("counts", "sums", "products"):
        torch.testing.assert_close(getattr(learner.moments, name), getattr(moments, name), rtol=1e-9, atol=1e-9)
    for name, mine in (("patches", "count"), ("patch_sum", "sum"), ("patch_products", "products")):
        expected = torch.stack([entry[name] for entry in others.values()]).sum(0)
        torch.testing.assert_close(getattr(learner.patches, mine), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(learner.tried, torch.stack([entry["tried"] for entry in others.values()]).sum(0))


def test_what_hark_makes_of_its_sums_is_what_it_made_of_them_before() -> None:
    """Solving again after nothing was taken away changes nothing: an entry of zeros."""
    learner = Hark(HarkSettings(features=8))
    taught(learner)
    before = {name: getattr(learner, name).clone() for name in ("gaze", "gaze_bias", "weight", "bias")}
    learner.moments.counts = torch.cat([learner.moments.counts, torch.zeros(1, dtype=torch.float64)])
    learner.moments.sums = torch.cat([learner.moments.sums, torch.zeros_like(learner.moments.sums[:1])])
    columns, dim = learner.moments.sums.shape[1], SHAPE.visual_dim
    nothing = {
        "x": torch.zeros(0, columns, dtype=torch.float64),
        "patches": torch.zeros((), dtype=torch.float64),
        "patch_sum": torch.zeros(dim, dtype=torch.float64),
        "patch_products": torch.zeros(dim, dim, dtype=torch.float64),
        "tried": torch.zeros_like(learner.tried),
    }
    learner.subtract(5, nothing)
    for name, array in before.items():
        torch.testing.assert_close(getattr(learner, name), array, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("kind", ADDITIVE)
def test_it_goes_on_learning_after_it_forgot(kind: str) -> None:
    learner = made(kind)
    entries = taught(learner)
    learner.forget("a", total(entries, "learner", "a"))
    learner.learn(Session.of(*session(list("aff"), 7)))
    assert learner.classes == ("b", "c", "d", "e", "a", "f")
    assert learner.scores(random_features(3, seed=8)).isfinite().all()


def test_the_last_class_and_one_it_does_not_know_cannot_be_forgotten() -> None:
    learner = made("ridge").learn(Session.of(*session(list("aa"), 0)))
    with pytest.raises(ValueError, match="1 classes"):
        learner.forget("a", {})
    with pytest.raises(ValueError, match="exactly"):
        made("l3").learn(Session.of(*session(FIRST, 0))).forget("a", {})


# ---- of a pupil -----------------------------------------------------------------------------------------------------


def pupil(kind: str, memory: int = 12) -> tuple[Pupil, dict[str, Entries]]:
    learner = LEARNERS.load(kind)
    found = Pupil.new(kind, small(learner.Settings()), SPEC, memory=memory)
    ledger = {}
    for seed, labels in enumerate((FIRST, SECOND, THIRD)):
        found.teach(*session([{"a": "Ära a"}.get(label, label) for label in labels], seed))
        ledger[f"ledger/{seed}"] = Entries.unpack(found.entries().pack())
    return found, ledger


def all_bytes(pupil: Pupil, ledger: dict[str, Entries]) -> bytes:
    kept = contents(pupil, "rover", ledger)
    return b"".join(
        [repr(kept.facts).encode(), kept.card.encode(), *(save(part) for part in (kept.model, kept.memory))]
        + [save(part) for part in kept.ledger.values()]
    )


@pytest.mark.parametrize("kind", ["hark", "ridge", "fecam", "l3", "icarl", "finetune"])
def test_nothing_in_the_bytes_names_a_forgotten_class_or_its_clips(kind: str) -> None:
    found, ledger = pupil(kind, memory=40)
    tell_tales = [b"hash-of-\xc3\x84ra a", b"hash-of-\\u00c4ra a", "Ära a".encode(), b"\\u00c4ra a"]
    before = all_bytes(found, ledger)
    assert before.count(tell_tales[2]) and before.count(tell_tales[3])
    exemplars = len(found.examiner)
    how = forget(found, "Ära a", ledger)
    assert how == ("exactly" if kind in ADDITIVE else "refitted")
    after = all_bytes(found, ledger)
    assert not any(tale in after for tale in tell_tales)
    assert found.classes == ("b", "c", "d", "e")
    assert len(found.examiner) < exemplars
    assert found.records[-1]["did"] == "forget"
    assert found.learner.scores(random_features(3, seed=8)).shape == (3, 4)
    assert found.examiner.scores.shape == (len(found.examiner), 4)


@pytest.mark.parametrize("kind", ["ridge", "slda", "hark"])
def test_the_exam_after_forgetting_is_that_of_the_clips_that_are_left(kind: str) -> None:
    found, ledger = pupil(kind, memory=40)
    kept = [name for name in found.examiner.ids if "hash-of-c" not in name]
    forget(found, "c", ledger)
    assert list(found.examiner.ids) == kept
    named = [found.classes[target] for target in found.examiner.memory.targets.tolist()]
    assert named == [name.split("-")[2] for name in kept]
    assert len(found.calibration.evidence) == int(found.examiner.fair.sum())


def test_a_learner_that_must_be_made_anew_and_cannot_says_what_is_missing() -> None:
    found, ledger = pupil("finetune", memory=0)
    with pytest.raises(HarkbackError, match=r"no clip of .* is retained; make the model anew"):
        forget(found, "c", ledger)


def test_the_only_class_is_not_forgotten() -> None:
    found = Pupil.new("ncm", None, SPEC)
    found.teach(*session(list("aaa"), 0))
    with pytest.raises(HarkbackError, match='"a" is all it knows; delete'):
        forget(found, "a", {})
