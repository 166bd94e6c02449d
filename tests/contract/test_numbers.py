"""Numbers of every kind, for every learner: its answers are finite, or one line says which clip is to blame."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fakes import features_of, session_of, small
from harkback.errors import HarkbackError
from harkback.features import Features, TokenShape
from harkback.learners.base import Learner
from harkback.ledger import Additive, Entries, LeavesOut, Ledger, Mergeable, total
from harkback.registry import LEARNERS
from harkback.stream import Session
from harkback.training import TrainSettings
from harkback.unknown import calibrated

LABELS = ("a", "b", "a", "b", "c", "c")
SPOILT = 2  #: the clip that is spoilt


@pytest.fixture(params=LEARNERS.names())
def kind(request: pytest.FixtureRequest) -> type[Learner[Any]]:
    found: type[Learner[Any]] = LEARNERS.load(request.param)
    return found


def made(kind: type[Learner[Any]]) -> Learner[Any]:
    settings = small(kind.Settings())
    if hasattr(settings, "train"):
        settings = replace(settings, train=replace(settings.train, epochs=1))
    learner: Learner[Any] = kind(settings, memory=5, seed=0)
    learner.ledger = Ledger()
    return learner


def clips(seed: int = 0) -> Features:
    f = features_of(LABELS, seed)
    return replace(f, audio=f.audio.float(), visual=f.visual.float())


def by(audio: Tensor | float, visual: Tensor | float) -> Features:
    f = clips()
    return replace(f, audio=f.audio * audio, visual=f.visual * visual)


def spoilt(value: float, array: str, whole: bool = False) -> Features:
    """One number of one clip is this value, or all its numbers are."""
    f = clips()
    tokens: Tensor = getattr(f, array).clone()
    tokens[SPOILT].view(-1)[slice(None) if whole else slice(3, 4)] = value
    return replace(f, **{array: tokens})


def duplicate_columns() -> Features:
    f = clips()
    return replace(f, audio=f.audio[..., :1].expand_as(f.audio), visual=f.visual[..., :1].expand_as(f.visual))


def nearly_duplicate_columns() -> Features:
    """Two columns that differ in the last digit, beside one of a hundred-millionth: a condition beyond 1e16."""
    f = clips()
    audio = f.audio.clone()
    audio[..., 1], audio[..., 2] = audio[..., 0] * (1 + 1e-7), audio[..., 2] * 1e-8
    return replace(f, audio=audio)


def constant(value: float) -> Features:
    f = clips()
    return replace(f, audio=torch.full_like(f.audio, value), visual=torch.full_like(f.visual, value))


def half(f: Features) -> Features:
    return replace(f, audio=f.audio.half(), visual=f.visual.half())


ODD: dict[str, Callable[[], Features]] = {
    "zeros": lambda: constant(0.0),
    "constant": lambda: constant(7.0),
    "constant and large": lambda: constant(1e4),
    "the largest halves": lambda: half(replace(clips(), audio=clips().audio.sign() * 65504)),
    "the smallest halves": lambda: half(by(6e-8, 6e-8)),
    "small": lambda: by(1e-30, 1e-30),
    "large": lambda: by(1e5, 1e5),
    "columns of all sizes": lambda: by(torch.logspace(-30, 12, 5), 1.0),
    "clips of all sizes": lambda: by(torch.logspace(-30, 12, 6)[:, None, None], 1.0),
    "one modality large, one small": lambda: by(1e8, 1e-8),
    "columns that are one": duplicate_columns,
    "columns that are nearly one": nearly_duplicate_columns,
    "clips that are one": lambda: clips()[torch.zeros(6, dtype=torch.long)],
    "clips of a class that are one": lambda: clips()[torch.tensor([0, 1, 0, 1, 4, 4])],
}


#: In the first session, which fixes what tokens are measured by, or in a later one.
LATER = pytest.mark.parametrize("later", [False, pytest.param(True, marks=pytest.mark.slow)])


#: The hardest; the others are for the slow run.
HARD = ("zeros", "the largest halves", "clips of all sizes", "columns that are nearly one", "clips that are one")


@LATER
@pytest.mark.parametrize("odd", [odd if odd in HARD else pytest.param(odd, marks=pytest.mark.slow) for odd in ODD])
def test_odd_numbers_are_learnt_and_asked(kind: type[Learner[Any]], odd: str, later: bool) -> None:
    learner = made(kind)
    if later:
        learner.learn(Session.of(clips(3), LABELS))
    learner.learn(Session.of(ODD[odd](), LABELS))
    for asked in (ODD[odd](), *([clips(5)] if later else [])):
        assert learner.scores(asked).isfinite().all()
    assert all(array.isfinite().all() for array in learner.state().values())


@pytest.mark.parametrize("scale", [pytest.param(1e18, marks=pytest.mark.slow), 1e30])
def test_what_is_too_large_to_be_learnt_is_told_in_a_line(kind: type[Learner[Any]], scale: float) -> None:
    """Finite, or a `HarkbackError`; never numbers that are none, and never a failed factorisation."""
    learner = made(kind).learn(Session.of(clips(3), LABELS))
    try:
        learner.learn(Session.of(by(scale, scale), LABELS))
        assert learner.scores(by(scale, scale)).isfinite().all()
    except HarkbackError as error:
        assert "not finite" in str(error)
        assert "\n" not in str(error)
    else:
        assert all(array.isfinite().all() for array in learner.state().values())


@LATER
@pytest.mark.parametrize("array", ["audio", "visual"])
@pytest.mark.parametrize("value", [math.nan, -math.inf, pytest.param(math.inf, marks=pytest.mark.slow)])
def test_a_clip_whose_tokens_are_no_numbers_is_named(
    kind: type[Learner[Any]], array: str, value: float, later: bool
) -> None:
    said = rf"clip-0-{SPOILT}: has tokens that are not finite"
    learner = made(kind)
    if later:
        learner.learn(Session.of(clips(3), LABELS))
    before = learner.classes
    with pytest.raises(HarkbackError, match=said):
        learner.learn(Session.of(spoilt(value, array), [*LABELS[:5], "new"]))
    assert learner.classes == before
    if later:
        learner = made(kind).learn(Session.of(clips(3), LABELS))
        with pytest.raises(HarkbackError, match=said):
            learner.scores(spoilt(value, array))


def test_no_sound_in_any_clip_then_no_picture_in_any(kind: type[Learner[Any]]) -> None:
    learner, nothing = made(kind), torch.zeros(6, dtype=torch.bool)
    for f in (
        replace(by(0.0, 1.0), heard=nothing),
        replace(by(1.0, 0.0), seen=nothing),
        replace(by(0.0, 0.0), heard=nothing, seen=nothing),
    ):
        assert learner.learn(Session.of(f, LABELS)).scores(f).isfinite().all()
    assert learner.scores(clips(5)).isfinite().all()


@pytest.mark.parametrize(
    "shape", [TokenShape(1, 1, 1, 1, 1), pytest.param(TokenShape(3, 5, 1, 1, 7), marks=pytest.mark.slow)]
)
def test_one_token_and_one_number(kind: type[Learner[Any]], shape: TokenShape) -> None:
    some = torch.Generator().manual_seed(0)
    here = torch.ones(6, dtype=torch.bool)
    audio, visual = (torch.randn(6, *size, generator=some).half() for size in (shape[:2], shape[2:]))
    f = Features(tuple("uvwxyz"), audio, visual, here, here.clone())
    learner = made(kind).learn(Session.of(f, LABELS)).learn(Session.of(f[torch.arange(1)], ["d"]))
    assert learner.scores(f).shape == (6, 4)
    assert learner.scores(f).isfinite().all()


def test_a_clip_for_each_of_many_classes(kind: type[Learner[Any]]) -> None:
    classes = 40
    if issubclass(kind, Mergeable | Additive):  # What is trained by gradients would take too long.
        classes = 100
    names = [f"class {i}" for i in range(classes)]
    learner = made(kind).learn(session_of(names[:-1])).learn(session_of(names[-1:], seed=1))
    scores = learner.scores(features_of(names, seed=2))
    assert scores.shape == (classes, classes)
    assert scores.isfinite().all()


@pytest.mark.parametrize("name", [name for name in LEARNERS.names() if issubclass(LEARNERS.load(name), Additive)])
def test_a_class_of_large_numbers_is_forgotten_or_a_line_says_why_not(name: str) -> None:
    """What is left of sums once the large numbers are taken away may be rounding alone."""
    learner = made(LEARNERS.load(name)).learn(Session.of(clips(3), LABELS))
    learner.ledger = Ledger()
    learner.learn(Session.of(by(1e12, 1e12)[torch.tensor([0, 1, 2])], ["large"] * 3))
    entries = Entries()
    entries.add("learner", learner.classes, learner.ledger)
    try:
        learner.forget("large", total([entries], "learner", "large"))
        assert learner.scores(clips(5)).isfinite().all()
    except HarkbackError as error:
        assert "not finite" in str(error)


@pytest.mark.parametrize("odd", [*ODD, "one clip"])
@pytest.mark.parametrize("name", [name for name in LEARNERS.names() if issubclass(LEARNERS.load(name), LeavesOut)])
def test_strangeness_and_what_is_left_out_are_finite(name: str, odd: str) -> None:
    f = ODD[odd]() if odd in ODD else clips()[torch.arange(1)]
    labels = LABELS[: len(f)]
    learner = made(LEARNERS.load(name))
    learner.learn(Session.of(f, labels))
    assert isinstance(learner, LeavesOut)
    assert learner.ledger is not None
    targets = torch.tensor([learner.classes.index(label) for label in labels])
    learnt = torch.empty(len(f), learner.ledger.entries[0]["x"].shape[1], dtype=torch.float64)
    for target, entry in learner.ledger.entries.items():
        learnt[targets == target] = entry["x"]
    scores, strange = learner.left_out(f, learnt, targets)
    assert scores.isfinite().all() and strange.isfinite().all() and learner.strangeness(clips(5)).isfinite().all()
    found = calibrated(scores, targets, strange)
    assert all(map(math.isfinite, (found.temperature, *found.evidence, *(found.usual or ()))))


def test_training_that_diverges_says_which_learner_session_and_epoch() -> None:
    for name in LEARNERS.names():
        settings = small(LEARNERS.load(name).Settings())
        if not isinstance(getattr(settings, "train", None), TrainSettings):
            continue
        wild = replace(settings, train=replace(settings.train, rate=1e30, schedule="constant"))
        learner = LEARNERS.load(name)(wild, memory=5, seed=0)
        short = type(learner).__name__.lower()
        with pytest.raises(HarkbackError, match=rf"^{short}, session 1: .*(epoch \d of 4|has learnt).* is not finite"):
            learner.learn(session_of(LABELS * 8))
        assert learner.classes == ()
