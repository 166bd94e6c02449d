"""Which clips are pictured: spread over right and wrong answers, and none that has no picture."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from fakes import features_of, without
from harkback import looks
from harkback.clips import Clip
from harkback.features import Features
from harkback.looks import pictures_of


class Even:
    """Looks everywhere alike."""

    def heat(self, features: Features) -> Tensor:
        shape = features.shape
        return torch.full((len(features), shape.frames, shape.patches), 1 / (shape.frames * shape.patches))


@pytest.fixture(autouse=True)
def _every_file_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def frames(clip: Clip, count: int) -> Tensor | None:
        return None if clip.id == "gone" else torch.full((count, 2, 2, 3), int(clip.id), dtype=torch.uint8)

    monkeypatch.setattr(looks, "_frames", frames)


def pictured(features: Features, right: list[bool], gone: int | None = None) -> list[int]:
    clips = [Clip("gone" if row == gone else str(row), Path("clip")) for row in range(len(features))]
    asked = torch.arange(len(right)).flip(0)  # Another order than the clips', as the classes come in their own.
    truth = torch.zeros(len(right), dtype=torch.long)
    scores = torch.tensor([[1.0, 0.0] if right[row] else [0.0, 1.0] for row in asked.tolist()])
    found = pictures_of(Even(), features, clips, scores, truth, asked)
    rows: list[int] = found["rows"].tolist()
    if rows:
        assert found["pictures"][:, 0, 0, 0, 0].tolist() == rows  # Each with its own frames,
        assert found["heat"].sum((1, 2)).tolist() == pytest.approx([1.0] * len(rows))  # and its own look.
    return rows


def test_they_are_spread_over_the_right_and_over_the_wrong_answers() -> None:
    right = [row % 10 != 3 for row in range(50)]
    assert pictured(features_of("a" * 50), right) == [
        49,
        32,
        17,
        0,
        43,
        33,
        13,
        3,
    ]  # Places 0, 15, 29 and 44 of 45; 0, 1, 3 and 4 of 5.


def test_of_few_answers_all_are_shown() -> None:
    assert pictured(features_of("aaa"), [True, False, True]) == [2, 0, 1]


def test_what_has_no_picture_and_what_is_gone_since_is_not_shown() -> None:
    features = without(features_of("aaaa"), picture=[1])
    assert pictured(features, [True] * 4, gone=2) == [3, 0]
    assert pictured(without(features_of("aa"), picture=[0, 1]), [True, False]) == []
