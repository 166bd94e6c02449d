"""Clips a few at a time: all of them, once each, in order."""

from __future__ import annotations

import pytest
import torch

from fakes import random_features, without
from harkback import pieces as module
from harkback.pieces import pieces


@pytest.mark.parametrize(("clips", "numbers", "sizes"), [(7, 40, [2, 2, 2, 1]), (7, 1000, [1] * 7), (3, 1, [3])])
def test_they_are_all_clips_in_order_as_many_as_fit(
    clips: int, numbers: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CACHED", 100)
    whole = without(random_features(clips), sound=[0], picture=[1])
    found = list(pieces(whole, numbers))
    assert [len(few) for _, few in found] == sizes
    assert [row for some, _ in found for row in torch.arange(clips)[some].tolist()] == list(range(clips))
    assert sum((few.ids for _, few in found), ()) == whole.ids
    for part in ("audio", "visual", "heard", "seen"):
        assert torch.equal(torch.cat([getattr(few, part) for _, few in found]), getattr(whole, part))
        assert getattr(found[0][1], part).data_ptr() == getattr(whole, part).data_ptr()  # Nothing is copied.


def test_of_no_clips_there_is_one_piece_without_any() -> None:
    ((_, few),) = pieces(random_features(3)[torch.arange(0)], 10)
    assert len(few) == 0 and few.visual.shape[1:] == random_features(3).visual.shape[1:]
