"""One modality withheld: what a learner is then shown, and that it is as if the other had never been there."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from fakes import SHAPE, Mapped, features_of, random_features, small, without
from harkback.modality import only
from harkback.registry import LEARNERS
from harkback.stream import Session


def test_both_is_the_rows_themselves() -> None:
    rows = random_features(3)
    assert only(rows, "both") is rows


@pytest.mark.parametrize("modality", ["audio", "visual"])
def test_the_other_is_masked_and_as_small_as_can_be(modality: Literal["audio", "visual"]) -> None:
    rows = without(random_features(5), sound=[1], picture=[3])
    alone = only(Mapped(rows), modality)  # type: ignore[arg-type]
    assert alone.ids == rows.ids
    assert len(alone) == 5
    part = alone[torch.tensor([3, 1, 0])]
    assert part.shape == alone.shape
    if modality == "audio":
        assert torch.equal(part.audio, rows.audio[[3, 1, 0]])
        assert part.heard.tolist() == [True, False, True]
        assert not part.seen.any()
        assert alone.shape == (*SHAPE[:2], 1, 1, 1)
    else:
        assert torch.equal(part.visual, rows.visual[[3, 1, 0]])
        assert part.seen.tolist() == [False, True, True]
        assert not part.heard.any()
        assert alone.shape == (1, 1, *SHAPE[2:])
    assert rows.seen.tolist() == [True, True, True, False, True]  # What it was made from is as it was.


@pytest.mark.parametrize("name", LEARNERS.names())
@pytest.mark.parametrize("modality", ["audio", "visual"])
def test_every_learner_learns_from_one_modality_and_never_sees_the_other(
    name: str, modality: Literal["audio", "visual"]
) -> None:
    labels = ("a", "b") * 8
    clips, others = features_of(labels, noise=0.3), features_of(labels, seed=7, noise=3.0)
    mixed = type(clips)(
        clips.ids,
        clips.audio if modality == "audio" else others.audio,
        clips.visual if modality == "visual" else others.visual,
        clips.heard,
        clips.seen,
    )
    kind = LEARNERS.load(name)
    one, other = (
        kind(small(kind.Settings()), memory=4).learn(Session.of(only(rows, modality), labels))
        for rows in (clips, mixed)
    )
    asked = only(features_of(labels, seed=1, noise=0.3), modality)
    scores = one.scores(asked)
    assert torch.equal(scores, other.scores(asked))
    said = [one.classes[column] for column in scores.argmax(1).tolist()]
    assert sum(a == b for a, b in zip(said, labels, strict=True)) >= 13  # Of 16; chance is 8.
