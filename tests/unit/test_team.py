"""Processes side by side: what they answer, and what becomes of the others when one of them ends."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
import weakref
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import misdeeds
from harkback.team import Lost, Team, team
from patience import until


@pytest.mark.parametrize("count", [1, 3])
def test_every_future_has_its_own_answer(count: int) -> None:
    with team(count, ()) as mates:
        answers = [mates.submit(divmod, number, 7) for number in range(50)]
        assert [answer.result(60) for answer in answers] == [divmod(number, 7) for number in range(50)]
        large = mates.submit(np.arange, 3_000_000).result(60)
    assert (large == np.arange(3_000_000)).all()


def test_what_is_begun_is_done_before_the_block_ends() -> None:
    with team(2, ()) as mates:
        answers = [mates.submit(time.sleep, 0.1) for _ in range(6)]
    assert all(answer.done() for answer in answers)


def test_they_work_at_the_same_time_each_in_its_own_process(tmp_path: Path) -> None:
    with team(3, ()) as mates:
        met = [mates.submit(misdeeds.meets, tmp_path, 3) for _ in range(3)]
        assert len({os.getpid()} | {each.result(60) for each in met}) == 4


def test_each_begins_with_its_threads_and_what_it_is_given() -> None:
    with team(2, (), threads=3, then=misdeeds.keep, given={"a": 1}) as mates:
        assert [mates.submit(misdeeds.kept).result(60) for _ in range(4)] == [{"a": 1}] * 4
        assert mates.submit(torch.get_num_threads).result(60) == 3


def test_what_the_work_raises_is_raised_here_and_says_where() -> None:
    with team(1, ()) as mates:
        with pytest.raises(misdeeds.Stubborn) as refusal:
            mates.submit(misdeeds.is_stubborn, None).result(60)  # type: ignore[arg-type]
        assert (refusal.value.what, refusal.value.where, refusal.value.mend) == ("will not", "there", "give up")
        with pytest.raises(ZeroDivisionError) as fault:
            mates.submit(divmod, 1, 0).result(60)
        assert "ZeroDivisionError" in fault.value.__notes__[0]
        assert mates.submit(abs, -1).result(60) == 1


def test_what_cannot_travel_is_said_and_the_next_goes_through() -> None:
    with team(1, ()) as mates:
        there = mates.submit(threading.Lock)
        here = mates.submit(lambda: 1)
        after = mates.submit(os.getpid), mates.submit(os.getpid)
        with pytest.raises(TypeError, match="pickle"):
            there.result(60)
        with pytest.raises(Exception, match="lambda"):
            here.result(60)
        assert after[0].result(60) == after[1].result(60)  # The same process still.


@pytest.mark.parametrize("count", [1, 2])
def test_one_that_is_killed_in_the_middle_of_an_answer_takes_only_its_own_work(tmp_path: Path, count: int) -> None:
    with team(count, ()) as mates:
        lost = mates.submit(misdeeds.begins_an_answer, True, tmp_path / "begun")
        rest = [mates.submit(divmod, number, 7) for number in range(10)]
        with pytest.raises(Lost):
            lost.result(60)
        assert [each.result(60) for each in rest] == [divmod(number, 7) for number in range(10)]


def test_one_that_is_killed_while_it_waits_has_nothing_to_lose() -> None:
    with team(1, ()) as mates:
        first = mates.submit(os.getpid).result(60)
        os.kill(first, signal.SIGKILL)
        assert until(lambda: not there(first))
        assert mates.submit(os.getpid).result(60) != first


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere they may be begun in another way")
def test_they_go_on_when_what_they_are_forked_from_is_killed() -> None:
    with team(1, ()) as mates:
        mate = mates.submit(os.getpid).result(60)
        os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)  # type: ignore[attr-defined]
        assert mates.submit(os.getpid).result(60) == mate
        os.kill(mate, signal.SIGKILL)
        assert until(lambda: not there(mate))
        assert mates.submit(os.getpid).result(60) not in (mate, os.getpid())


def there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_left_by_an_exception_all_is_broken_off(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with pytest.raises(ValueError, match="enough"), team(2, ()) as mates:
        at_work = [mates.submit(misdeeds.meets, tmp_path, 3) for _ in range(2)]  # Nobody else comes.
        waiting = [mates.submit(misdeeds.meets, tmp_path, 0) for _ in range(4)]
        assert until(lambda: len(list(tmp_path.iterdir())) == 2)
        raise ValueError("enough")
    assert until(lambda: not set(threading.enumerate()) - before)
    assert all(isinstance(each.exception(0), Lost) for each in at_work + waiting)
    assert len(processes := [int(each.name) for each in tmp_path.iterdir()]) == 2
    assert until(lambda: not any(there(each) for each in processes))


def test_a_process_that_cannot_be_begun_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    begin, fails = Team._start, [OSError("no handle is left")]

    def sometimes(mates: Team) -> Any:
        if fails:
            raise fails.pop()
        return begin(mates)

    monkeypatch.setattr(Team, "_start", sometimes)
    with team(1, ()) as mates:
        first, second = mates.submit(abs, -1), mates.submit(abs, -2)
        with pytest.raises(OSError, match="no handle"):
            first.result(60)
        assert second.result(60) == 2


def test_no_answer_is_kept() -> None:
    """An idle reader would hold the tokens of the last clip it read."""
    gc.collect()
    gc.disable()
    try:
        with team(1, ()) as mates:
            seen = weakref.ref(mates.submit(np.arange, 1000).result(60))
            assert until(lambda: seen() is None, 5)
    finally:
        gc.enable()
