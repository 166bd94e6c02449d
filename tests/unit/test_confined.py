"""Work in a process of its own: what it says arrives whole, what it does wrong stays there, and nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

import misdeeds
from harkback.confined import Broken, Confined, Limits, warm
from harkback.errors import HarkbackError
from harkback.media import MediaError, NothingInside, NotMedia, Truncated, ZeroLength
from harkback.parcels import Parcel

TESTS = Path(__file__).parents[1]
MIB = 1 << 20
NONE = Limits()


def said(work: Any, *args: Any, limits: Limits = NONE) -> list[Parcel]:
    with Confined(work, *args, limits=limits) as running:
        return list(running)


def ended(process: int) -> bool:
    """Whether it ends soon."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            if psutil.Process(process).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


# ---- what it says ---------------------------------------------------------------------------------------------------


def test_words_come_in_order() -> None:
    assert [facts["k"] for facts, _ in said(misdeeds.counts, 500)] == list(range(500))
    assert said(misdeeds.counts, 0) == []


def test_arrays_arrive_bit_for_bit() -> None:
    some = np.random.default_rng(0)
    arrays: dict[str, NDArray[Any]] = {
        "float32": some.normal(size=(3, 5, 7)).astype(np.float32),
        "odd": np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324]),
        "half": some.normal(size=(2, 9)).astype(np.float16),
        "bytes": some.integers(0, 256, 100_003).astype(np.uint8),
        "flags": np.array([True, False]),
        "large": some.integers(0, 255, (20 * MIB,)).astype(np.uint8),
        "empty": np.zeros((0, 4), np.int64),
        "long": np.array([2**62, -1]),
    }
    (facts, found), nothing = said(misdeeds.echoes, arrays)
    assert facts["names"] == sorted(arrays) == sorted(found) and nothing == ({}, {})
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape, name
        assert found[name].tobytes() == array.tobytes(), name


@pytest.mark.parametrize("kind", [HarkbackError, MediaError, NotMedia, NothingInside, Truncated, ZeroLength])
@pytest.mark.parametrize(("where", "mend"), [(None, None), ("a place", "do this"), (None, "x\ny\u202e")])
def test_a_failure_keeps_its_kind_and_its_words(kind: type[HarkbackError], where: str | None, mend: str | None) -> None:
    before: list[Parcel] = []
    with (
        pytest.raises(HarkbackError) as caught,
        Confined(misdeeds.raises, kind("what\nhappened", where=where, mend=mend), limits=NONE) as running,
    ):
        for parcel in running:
            before.append(parcel)
    assert before == [({"before": True}, {})]
    assert type(caught.value) is kind
    assert (caught.value.what, caught.value.where, caught.value.mend) == ("what\nhappened", where, mend)


def test_a_failure_of_an_unknown_kind_is_the_nearest_that_is_known() -> None:
    with pytest.raises(NotMedia) as caught:
        said(misdeeds.is_stubborn)
    assert type(caught.value) is NotMedia and str(caught.value) == "there: will not; give up"


def test_any_other_failure_is_told_with_its_words() -> None:
    with pytest.raises(Broken, match="failed with RuntimeError: of all things"):
        said(misdeeds.fails)
    with pytest.raises(Broken, match="failed with FileNotFoundError"):
        said(misdeeds.raises, FileNotFoundError(2, "no"))


def test_what_cannot_travel_is_refused_here_and_leaves_nothing() -> None:
    warm()
    before = psutil.Process().num_fds()
    for _ in range(5):
        with pytest.raises((AttributeError, TypeError)):
            Confined(misdeeds.counts, threading.Lock(), limits=NONE)
    assert psutil.Process().num_fds() <= before + 2


# ---- what ends it ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deed", [misdeeds.aborts, misdeeds.killed, misdeeds.leaves])
def test_a_crash_is_told(deed: Any) -> None:
    with pytest.raises(Broken) as caught:
        said(deed)
    assert str(caught.value) == "crashed the decoder; convert the file to another format"


def test_a_crash_comes_after_what_was_said() -> None:
    found: list[Parcel] = []
    with pytest.raises(Broken, match="crashed"), Confined(misdeeds.begins_and_aborts, limits=NONE) as running:
        for parcel in running:
            found.append(parcel)
    assert found[0][0]["seconds"] == 1.0


@pytest.mark.skipif(sys.platform != "linux", reason="no other kernel keeps to it")
def test_memory_has_a_limit_beside_that_of_the_libraries() -> None:
    limits = Limits(memory=200 * MIB)
    assert said(misdeeds.allocates, 100 * MIB, limits=limits)[0][0] == {"sum": 8.0}
    for work, args in ((misdeeds.devours, ()), (misdeeds.allocates, (400 * MIB,))):
        with pytest.raises(Broken) as caught:
            said(work, *args, limits=limits)
        assert str(caught.value) == "does not fit in memory; take a shorter clip"
    assert said(misdeeds.allocates, 400 * MIB)[0][0] == {"sum": 8.0}  # The limit was that one's alone.


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no such limit")
def test_computing_has_a_limit_but_waiting_does_not_count() -> None:
    with pytest.raises(Broken) as caught:
        said(misdeeds.spins, limits=Limits(computing=1))
    assert str(caught.value) == "took more than 1 s of computing; take a shorter clip"
    assert len(said(misdeeds.pauses, 0.4, 3, limits=Limits(computing=1))) == 3


@pytest.mark.slow
def test_silence_has_a_limit_but_a_long_talk_does_not_count() -> None:
    with Confined(misdeeds.tells_of_itself, limits=Limits(silence=3.0)) as running:
        talk = iter(running)
        process = next(talk)[0]["pid"]
        with pytest.raises(Broken) as caught:
            next(talk)
    assert str(caught.value) == "took more than 3 s; take a shorter clip, or convert it"
    assert ended(process)
    assert len(said(misdeeds.pauses, 0.02, 200, limits=Limits(silence=3.0))) == 200


def test_it_can_be_stopped_from_another_thread_and_more_than_once() -> None:
    with Confined(misdeeds.tells_of_itself, limits=NONE) as running:
        talk = iter(running)
        process = next(talk)[0]["pid"]
        threading.Timer(0.1, running.stop).start()
        with pytest.raises(Broken, match="was stopped"):
            next(talk)
        running.stop()
    assert ended(process)
    running.stop()


def test_stopped_before_it_says_anything() -> None:
    with Confined(misdeeds.sleeps, limits=NONE) as running:
        running.stop()
        with pytest.raises(Broken, match="was stopped"):
            list(running)


def test_left_early_it_ends() -> None:
    with Confined(misdeeds.tells_of_itself, limits=NONE) as running:
        process = next(iter(running))[0]["pid"]
    assert ended(process)
    with pytest.raises(KeyError), Confined(misdeeds.tells_of_itself, limits=NONE) as running:
        process = next(iter(running))[0]["pid"]
        raise KeyError
    assert ended(process)


def test_one_that_talks_to_nobody_ends_too() -> None:
    with Confined(misdeeds.echoes, {"large": np.zeros(8 * MIB, np.uint8)}, limits=NONE):
        time.sleep(0.2)  # It waits for somebody to take what it says.


def test_it_has_as_many_threads_as_it_is_given_and_heeds_no_ctrl_c() -> None:
    for threads in (1, 3):
        with Confined(misdeeds.tells_of_itself, limits=NONE, threads=threads) as running:
            facts = next(iter(running))[0]
            assert facts["threads"] == threads
            os.kill(facts["pid"], signal.SIGINT)
            time.sleep(0.1)
            assert psutil.Process(facts["pid"]).is_running()


# ---- many -----------------------------------------------------------------------------------------------------------


def test_several_threads_use_it_at_once() -> None:
    def square(number: int) -> tuple[int, int]:
        ((facts, arrays),) = said(misdeeds.squares, number)
        return facts["square"], int(arrays["many"].sum())

    def crash(number: int) -> str:
        try:
            said((misdeeds.aborts, misdeeds.killed)[number % 2])
        except Broken as error:
            return error.what
        return "nothing"

    with ThreadPoolExecutor(8) as pool:
        squares, crashes = [pool.submit(square, k) for k in range(1, 25)], [pool.submit(crash, k) for k in range(8)]
        assert [each.result() for each in squares] == [(k * k, k * (k - 1) // 2) for k in range(1, 25)]
        assert [each.result() for each in crashes] == ["crashed the decoder"] * 8


@pytest.mark.slow
def test_after_hundreds_no_process_and_no_descriptor_is_left() -> None:
    this = psutil.Process()

    def some(count: int) -> None:
        for k in range(count):
            said(misdeeds.squares, k)
            if k % 5 == 0:
                with pytest.raises(Broken):
                    said(misdeeds.killed)
                with Confined(misdeeds.sleeps, limits=NONE):
                    pass

    some(10)
    before, family = this.num_fds(), len(this.children(recursive=True))
    some(150)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda k: said(misdeeds.squares, k), range(100)))
    assert this.num_fds() <= before + 3
    end = time.monotonic() + 30
    while len(this.children(recursive=True)) > family and time.monotonic() < end:
        time.sleep(0.05)
    assert len(this.children(recursive=True)) <= family


PARENT = """
import sys, threading
sys.path.insert(0, {tests!r})
import misdeeds
from harkback.confined import Confined, Limits

def main():
    with Confined(misdeeds.tells_of_itself, limits=Limits()) as one, Confined(misdeeds.spins, limits=Limits()) as other:
        facts = next(iter(one))[0]
        print(facts["pid"], facts["parent"], other._process.pid, flush=True)
        threading.Event().wait()

if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(tests=str(TESTS)))
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        family = [int(word) for word in parent.stdout.readline().split()]
        assert len(family) == 3 and all(psutil.pid_exists(each) for each in family)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert all(ended(each) for each in family)


PROGRESS = """
import sys
sys.path.insert(0, {tests!r})
import misdeeds
from harkback.confined import Confined, Limits

if __name__ == "__main__":
    with Confined(misdeeds.shows_progress, limits=Limits()) as running:
        next(iter(running))
"""


@pytest.mark.slow
def test_one_that_is_killed_leaves_no_lock_behind(tmp_path: Path) -> None:
    script = tmp_path / "progress.py"
    script.write_text(PROGRESS.format(tests=str(TESTS)))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_it_works_again_after_the_process_it_is_forked_from_was_killed() -> None:
    from multiprocessing import forkserver

    warm()
    root = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    os.kill(root, signal.SIGKILL)
    assert ended(root)
    assert said(misdeeds.squares, 7)[0][0] == {"square": 49}


@pytest.mark.slow
def test_a_temporary_folder_with_a_long_name_will_do(tmp_path: Path) -> None:
    """A fork server's socket lies in it, and the name of a socket has a hundred letters at most."""
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(TESTS)!r})\n"
        "import misdeeds\nfrom harkback.confined import Confined, Limits\n"
        "if __name__ == '__main__':\n"
        "    with Confined(misdeeds.squares, 7, limits=Limits()) as running:\n"
        "        print(next(iter(running))[0]['square'])\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], env={**os.environ, "TMPDIR": str(folder)}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "49\n"), done.stderr
