"""Reading ahead: the same batches in the same order, one of them early, and no error lost."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor

from fakes import random_features
from harkback.prefetch import Batches, ahead

NUMBERS = [torch.tensor([3, 1]), torch.tensor([0]), torch.tensor([2, 4, 3])]


def test_batches_are_the_rows_that_were_asked_for() -> None:
    rows = random_features(5, 0)
    seen = 0
    for asked, (batch, clips) in zip(NUMBERS, Batches(rows, 3, torch.device("cpu"))(NUMBERS), strict=True):
        assert torch.equal(batch, asked)
        assert torch.equal(clips.visual, rows.visual[asked])
        assert torch.equal(clips.audio, rows.audio[asked])
        assert clips.ids == tuple(rows.ids[i] for i in asked)
        seen += len(batch)
    assert seen == 6


def test_ahead_gives_each_batch_with_its_own_in_order() -> None:
    found = list(ahead(lambda batch: batch * 10, NUMBERS))
    assert [batch.tolist() for batch, _ in found] == [each.tolist() for each in NUMBERS]
    assert all(torch.equal(made, batch * 10) for batch, made in found)
    assert list(ahead(lambda batch: batch, [])) == []


def test_the_next_is_loaded_while_one_is_used() -> None:
    begun = [threading.Event() for _ in NUMBERS]

    def load(batch: Tensor) -> int:
        number = next(i for i, each in enumerate(NUMBERS) if torch.equal(each, batch))
        begun[number].set()
        return number

    for _, number in ahead(load, NUMBERS):
        if number + 1 < len(NUMBERS):
            assert begun[number + 1].wait(10)


def test_never_more_than_one_is_ahead() -> None:
    """Two buffers are in use in turns, so the third batch must wait for the first to be done with."""
    loaded: list[int] = []

    def load(batch: Tensor) -> int:
        loaded.append(len(loaded))
        return loaded[-1]

    for _, number in ahead(load, NUMBERS * 4):
        assert len(loaded) <= number + 2


def test_an_error_comes_where_its_batch_would() -> None:
    def load(batch: Tensor) -> Tensor:
        if len(batch) == 1:
            raise OSError("the disk is gone")
        return batch

    running = ahead(load, NUMBERS)
    assert torch.equal(next(running)[1], NUMBERS[0])
    with pytest.raises(OSError, match="the disk is gone"):
        next(running)


def test_it_can_be_left_early() -> None:
    before = threading.active_count()
    for _ in ahead(lambda batch: batch, NUMBERS):
        break
    assert threading.active_count() <= before + 1
