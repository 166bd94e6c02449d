"""Recorded losses: what every learner that trains a network lowers, epoch by epoch, so that no refactoring changes it.

`tests/golden/loss_curves.json` holds, for every learner, its variants and its ablations, the settings it has in a real
run, and the mean loss of each epoch of two sessions of a tiny problem. Where a method is meant to change, or is new,
record them again:

    python tests/unit/test_loss_curves.py
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import fields
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))  # For the script that records, as `conftest.py` does for the tests.

from fakes import features_of, small, without
from harkback import distill
from harkback.contestants import Contestant, changed, entered
from harkback.features import join
from harkback.learners.base import Learner
from harkback.registry import LEARNERS
from harkback.stream import Session

GOLDEN = Path(__file__).parents[1] / "golden" / "loss_curves.json"
RECORD = "python tests/unit/test_loss_curves.py"
#: How far a loss may be from what was recorded, as a share of it. Told to use SSE4 or AVX2, a processor that has AVX512
#: came to 4e-6 of what "avcil, its attention" had there, and to 6e-7 of all others.
WITHIN = 4e-5

Curves = list[list[float]]  #: the mean loss of each epoch, by session

LABELS = ("babaabbcacbacabcbabc", "dcedeedced" * 2)
#: Learners once more with other settings, where a part is so small beside the rest that it could change unnoticed.
MORE: dict[str, tuple[str, dict[str, Any]]] = {
    "avcil, its attention": (
        "avcil",
        {
            "instance_weight": 0.1,
            "class_weight": 0.1,
            "contrast_temperature": 1.0,
            "temporal_weight": 5.0,
            "train.rate": 0.1,  # So that there is something to hold back.
        },
    ),
}


@cache
def ours() -> list[str]:
    """Every learner of the project's own."""
    return [name for name in LEARNERS.names() if LEARNERS.load(name).__module__.startswith("harkback.")]


@cache
def trained() -> list[str]:
    """Those that train a network."""
    return [name for name in ours() if hasattr(LEARNERS.load(name).Settings(), "train")]


@cache
def entries() -> dict[str, tuple[Contestant, dict[str, Any]]]:
    """What is recorded: by name, a contestant, and what is changed of its small settings."""
    names = []
    for name in trained():
        kind = LEARNERS.load(name)
        names += [name, *(f"{name}-{part}" for part in {**kind.VARIANTS, **kind.ABLATIONS})]
    plain: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in names}
    return {entry: (entered([name])[0], changes) for entry, (name, changes) in {**plain, **MORE}.items()}


def sessions() -> list[Session]:
    """Two, of 20 clips each: a class of the first comes again, and some clips have no sound or no picture."""
    clips = [without(features_of(labels, seed=t), sound=[1, 7], picture=[4, 8]) for t, labels in enumerate(LABELS)]
    return [Session.of(part, labels) for part, labels in zip(clips, LABELS, strict=True)]


def curves(entry: str, path: str = "", factor: float = 1.0) -> Curves:
    """The losses of an entry here and now; with one of its settings, by dotted name, times the factor."""
    contestant, changes = entries()[entry]
    settings = changed(small(contestant.settings), changes)
    if path:
        settings = changed(settings, {path: attrgetter(path)(settings) * factor})
    learner: Learner[Any] = contestant.kind(settings, memory=4, seed=0)
    first, second = sessions()
    if learner.cumulative:
        rows = torch.arange(len(LABELS[0]))
        second = Session.of(join([first.features[rows], second.features[rows]]), "".join(LABELS))
    return [learner.learn(session).losses for session in (first, second)]


def recorded(entry: str) -> dict[str, Any]:
    known: dict[str, Any] = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {}
    assert entry in known, f"nothing is recorded of {entry}; to record: {RECORD}"
    return known[entry]  # type: ignore[no-any-return]


def apart(now: Curves, then: Curves) -> float:
    """The largest difference of two losses, as a share of the latter."""
    if [len(part) for part in now] != [len(part) for part in then]:
        return math.inf
    gaps = [abs(x / y - 1) for one, other in zip(now, then, strict=True) for x, y in zip(one, other, strict=True)]
    return max(gaps) if all(map(math.isfinite, gaps)) else math.inf


# ---- what was recorded ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", entries())
def test_losses_are_those_that_were_recorded(entry: str) -> None:
    now, then = curves(entry), recorded(entry)["losses"]
    assert apart(now, then) <= WITHIN, f"{now}, but {then} was recorded; if that is meant: {RECORD}"


@pytest.mark.parametrize("entry", entries())
def test_settings_are_those_that_were_recorded(entry: str) -> None:
    """Those of a real run, which the tiny problem does not have: epochs, batches, widths."""
    assert repr(entries()[entry][0].settings) == recorded(entry)["settings"], f"if that is meant: {RECORD}"


def test_nothing_is_recorded_of_what_there_is_no_more() -> None:
    assert list(json.loads(GOLDEN.read_text(encoding="utf-8"))) == list(entries()), f"to record: {RECORD}"


def test_what_is_not_recorded_fails_with_the_line_to_run() -> None:
    with pytest.raises(AssertionError, match="nothing is recorded of magic; to record: python tests/unit/test_loss_c"):
        recorded("magic")


@pytest.mark.parametrize("name", [name for name in ours() if name not in trained()])
def test_a_learner_that_is_not_recorded_trains_no_network(name: str) -> None:
    learner = LEARNERS.load(name)(small(LEARNERS.load(name).Settings()), memory=4, seed=0)
    assert learner.learn(sessions()[0]).losses == []


# ---- that a change is seen ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        (name, path)
        for name in trained()
        for path in (*(f.name for f in fields(LEARNERS.load(name).Settings) if f.type == "float"), "train.rate")
    ],
)
def test_a_tenth_more_of_a_weight_is_seen(method: str, path: str) -> None:
    """The first test would have failed of one of the learner's entries."""
    mine = [method, *(entry for entry, (name, _) in MORE.items() if name == method)]
    assert any(apart(curves(entry, path, 1.1), recorded(entry)["losses"]) > 1.5 * WITHIN for entry in mine)


def times(factor: float) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    return lambda loss: lambda *given, **named: loss(*given, **named) * factor


@pytest.mark.parametrize(
    ("entry", "loss", "other"),
    [
        ("afc", "nca", lambda loss: lambda said, true, scale: loss(said, true, scale, margin=0.61)),
        ("afc", "importance_distillation", lambda loss: lambda s, t, i: loss(s, t, i.mean().expand_as(i))),
        ("avcil", "class_contrast", times(1.01)),
        ("avcil", "instance_contrast", times(1.01)),
        ("avcil, its attention", "spatial_distillation", times(1.1)),
        ("avcil, its attention", "kl_div", times(1.1)),
        ("finetune", "class_loss", lambda _: lambda true: lambda s, b: distill.nca(s.logits, true[b], torch.ones(()))),
        (
            "icarl",
            "sigmoid_distillation",
            lambda loss: lambda said, true, t: loss(said, true, None if t is None else t.sigmoid()),
        ),
        ("l3", "balanced_cross_entropy", lambda loss: lambda said, true, n: loss(said, true, n.sqrt())),
        ("l3", "feature_distillation", times(1.1)),
        ("lwf", "logit_distillation", times(1.01)),
        ("ssil", "separated_cross_entropy", lambda loss: lambda said, true, new: loss(said, true, new | True)),
    ],
)
def test_a_changed_loss_is_seen(
    entry: str, loss: str, other: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules[entries()[entry][0].kind.__module__]
    monkeypatch.setattr(module, loss, other(getattr(module, loss)))
    assert apart(curves(entry), recorded(entry)["losses"]) > 1.5 * WITHIN


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = {}
    for entry, (contestant, _) in entries().items():
        losses = [[float(f"{loss:.8g}") for loss in part] for part in curves(entry)]
        found[entry] = {"settings": repr(contestant.settings), "losses": losses}
    GOLDEN.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{len(found)} learners and variants: {GOLDEN}")
