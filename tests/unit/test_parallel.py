"""Processes that learn as one: what each sees to, that together they come to what one alone does, how they end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import sleep
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import side_by_side
from fakes import Mapped, features_of, random_features, same_state, small
from harkback import parallel
from harkback.device import beside
from harkback.errors import HarkbackError
from harkback.learners.base import Learner
from harkback.learners.ridge import Ridge
from harkback.ledger import Ledger
from harkback.log import Run
from harkback.parallel import Share
from harkback.registry import LEARNERS
from harkback.standard import Standard, measure
from harkback.stream import Session
from side_by_side import STEPS, TRAINED, answers, in_double, in_threads, said_of, slopes, teach

#: AFC's distance from its teacher has a kink where a session begins: rounding says which way it goes. In double
#: precision it is as near as all others.
LOOSE = {"afc": {"within": 0.1, "of_weights": 0.5}}
#: A weight of which only differences matter, as of what a softmax is taken of: its gradient is rounding and nothing
#: else, and Adam makes steps of whole length of it, in one process as in many.
SAYS_NOTHING = "network/body.attend.bias"
#: How far what several processes come to may be from what one does, as a share of the largest number: numbers are added
#: in another order.
WITHIN = 1e-5
OF_WEIGHTS = 1e-4  #: the same of a network's weights: Adam divides a gradient by its own size, and so its rounding


@pytest.fixture(scope="module")
def taught() -> dict[str, Learner[Any]]:
    """Every learner, taught by one process."""
    return teach()


def near(found: Tensor, expected: Tensor, what: str, within: float = WITHIN) -> None:
    assert found.shape == expected.shape, what
    assert found.dtype == expected.dtype, what
    if found.numel():
        far = (found.double() - expected.double()).abs().max() / expected.double().abs().max().clamp_min(1e-2)
        assert float(far) <= within, f"{what}: {float(far):.1e}"


# ---- what each sees to ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 5, 6, 7])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_every_row_is_seen_to_and_all_have_equally_many(count: int, processes: int) -> None:
    shares = [Share(count, number, processes) for number in range(processes)]
    assert sorted(row for share in shares for row in share.once.tolist()) == list(range(count))
    assert {row for share in shares for row in share.rows.tolist()} == set(range(count))
    assert {len(share.rows) for share in shares} == {-(-count // processes)}
    rows = torch.arange(count)
    for share in shares:
        mine, places = share.places(rows)
        assert rows[mine].tolist() == share.once.tolist() == share.rows[places].tolist()


def test_what_comes_last_is_spread_over_all() -> None:
    """In a batch exemplars come last, and some losses ask more of them."""
    shares = [Share(12, number, 3) for number in range(3)]
    assert [int((share.rows >= 6).sum()) for share in shares] == [2, 2, 2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bool, torch.long])
@pytest.mark.parametrize("count", [0, 1, 4, 7])
def test_what_all_found_is_put_in_order(count: int, dtype: torch.dtype) -> None:
    whole = torch.randint(5, (count, 2, 3), generator=torch.Generator().manual_seed(0)).to(dtype)

    def work() -> Tensor:
        share = parallel.shared(count)
        return share.whole(share.own(whole))

    for found in in_threads(3, work):
        assert found.dtype == dtype
        assert torch.equal(found, whole)


def test_random_numbers_are_those_of_one_process() -> None:
    def work() -> tuple[Tensor, Tensor]:
        generator, share = torch.Generator().manual_seed(3), parallel.shared(5)
        drawn = share.uniform(generator)(2, 4)
        assert drawn.shape == (2, 2, 4)
        return share.whole(drawn), torch.rand(3, generator=generator)

    generator = torch.Generator().manual_seed(3)
    expected = torch.rand(5, 2, 4, generator=generator), torch.rand(3, generator=generator)
    for found in in_threads(3, work):
        assert all(map(torch.equal, found, expected))


def test_sums_and_what_the_first_one_says() -> None:
    def work() -> tuple[list[float], float, bool, list[str]]:
        mine = parallel.number()
        sums = torch.tensor([mine, 10.0 * mine, 1.0])
        parallel.add_up(sums)
        rows = parallel.shared(7).once_each(random_features(7))
        return sums.tolist(), parallel.first_says(mine + 5), parallel.first(), [name[-1] for name in rows.ids]

    found = in_threads(3, work)
    assert [each[:3] for each in found] == [([3, 30, 3], 5, number == 0) for number in range(3)]
    assert [each[3] for each in found] == [["0", "3", "6"], ["1", "4"], ["2", "5"]]


def test_the_first_one_is_done_before_the_others_begin() -> None:
    told: list[tuple[str, int]] = []

    def work() -> None:
        with parallel.first_before_others():
            told.append(("begins", parallel.number()))
            sleep(0.05 * (2 - parallel.number()))
            told.append(("ends", parallel.number()))

    in_threads(3, work)
    assert told[:2] == [("begins", 0), ("ends", 0)]
    assert len(told) == 6


# ---- gradients ------------------------------------------------------------------------------------------------------


def test_a_gradient_by_hand() -> None:
    """w x + (1 + sum w)^2 at a batch of four, of which each of three sees to its part."""
    x = torch.tensor([1.0, 2.0, 3.0, 4.0])

    def work() -> tuple[Tensor, Tensor, Tensor | None]:
        body, head, idle = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(3.0)), nn.Parameter(torch.ones(2))
        share = parallel.shared(4)
        said = head * share.whole(body * share.own(x))  # head body x
        (said.square().sum() + 5 * body + head).backward()
        share.learn([body, head, idle])
        assert body.grad is not None and head.grad is not None
        return body.grad, head.grad, idle.grad

    squares = float(x.square().sum())
    for body, head, idle in in_threads(3, work):
        assert float(body) == pytest.approx(2 * 2 * 9 * squares + 5)
        assert float(head) == pytest.approx(2 * 3 * 4 * squares + 1)
        assert idle is None  # As in one process: what is not used is left alone, by weight decay too.


@pytest.mark.parametrize("processes", [2, 9])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: "-".join(map(str, step)))
def test_the_gradient_of_a_loss_is_that_of_the_whole_batch(step: tuple[str, str, int], processes: int) -> None:
    """Also of a batch that has fewer clips than there are processes."""
    expected, found = slopes(*step), in_threads(processes, lambda: slopes(*step))
    assert len(expected) >= 5
    for each in found:
        assert each.keys() == expected.keys()
        assert same_state(each, found[0])
        for name, slope in expected.items():
            largest = float(torch.cat([array.flatten() for array in expected.values()]).abs().max())
            torch.testing.assert_close(each[name], slope, rtol=1e-4, atol=2e-6 * max(1.0, largest))


# ---- learners -------------------------------------------------------------------------------------------------------


def compare(
    name: str,
    expected: dict[str, Tensor],
    states: list[dict[str, Tensor]],
    within: float = WITHIN,
    of_weights: float = OF_WEIGHTS,
) -> None:
    """states: what each process came to."""
    for state in states:
        assert same_state(state, states[0]), name  # To the bit, whoever is asked.
    assert states[0].keys() == expected.keys()
    for key, array in expected.items():
        if key != SAYS_NOTHING:
            near(states[0][key], array, f"{name}, {key}", of_weights if key.startswith("network/") else within)


@pytest.mark.parametrize("name", LEARNERS.names())
def test_two_learn_what_one_does(name: str, taught: dict[str, Learner[Any]]) -> None:
    compare(name, said_of(taught[name]), in_threads(2, lambda: said_of(teach(name)[name])), **LOOSE.get(name, {}))


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_but_for_rounding_they_stay_together_however_long_they_learn(name: str) -> None:
    """In single precision 40 epochs make 1e-3 of a rounding, in one process as in many."""

    def work() -> dict[str, Tensor]:
        settings = small(LEARNERS.load(name).Settings())
        learner = LEARNERS.load(name)(replace(settings, train=replace(settings.train, epochs=40)), memory=7)
        for t in range(len(side_by_side.SESSIONS)):
            learner.learn(side_by_side.session(t, cumulative=learner.cumulative, validation=False))
        return said_of(learner)

    with in_double():
        expected, found = work(), in_threads(2, work)
    assert expected["losses"][-1] < 0.8 * expected["losses"][0]
    compare(name, expected, found, 1e-8, 1e-8)


@pytest.mark.parametrize("name", sorted(set(LEARNERS.names()) - set(TRAINED)))
def test_a_session_of_fewer_clips_than_processes(name: str) -> None:
    def work() -> dict[str, Tensor]:
        learner = LEARNERS.load(name)(small(LEARNERS.load(name).Settings()))
        for t, labels in enumerate(("aabb", "c", "ad")):
            learner.learn(Session.of(features_of(labels, seed=t), labels))
        return {**learner.state(), "answers": answers(learner)}

    expected = work()
    for found in in_threads(3, work):
        for key, array in expected.items():
            near(found[key], array, key)


class Counted(Mapped):
    """Rows that say which were read."""

    def __init__(self, labels: str) -> None:
        super().__init__(features_of(labels))
        self.numbers: list[int] = []

    def fill(self, rows: Tensor, *rest: Any) -> None:
        self.numbers += rows.tolist()
        super().fill(rows, *rest)


@pytest.mark.parametrize("name", ["ncm", "ridge", "slda", "balanced-ridge", "ranpac", "klda", "fecam", "mmal"])
def test_a_clip_is_read_by_one_process_alone(name: str) -> None:
    labels = "abcabcabcabc"
    kind = LEARNERS.load(name)

    def work() -> list[int]:
        rows = Counted(labels)
        kind(small(kind.Settings())).learn(Session.of(rows, labels))  # type: ignore[arg-type]
        return rows.numbers

    first, second = in_threads(2, work)
    assert set(first) == {0, 2, 4, 6, 8, 10}
    assert set(second) == {1, 3, 5, 7, 9, 11}


def test_vectors_that_are_written_down_are_all_clips() -> None:
    """Forgetting needs them, in every process."""
    labels = "abcabca"

    def work(name: str = "ridge") -> dict[int, Tensor]:
        learner = LEARNERS.load(name)()
        learner.ledger = Ledger()
        learner.learn(Session.of(features_of(labels), labels))
        return {target: entry["x"] for target, entry in learner.ledger.entries.items()}

    expected = work()
    assert [len(x) for x in expected.values()] == [3, 2, 2]
    for found in in_threads(2, work):
        assert all(torch.equal(found[target], x) for target, x in expected.items())


def test_the_standard_is_that_of_all_clips() -> None:
    rows = random_features(9)

    def work() -> list[Tensor]:
        audio, visual = Standard(rows.shape.audio_dim), Standard(rows.shape.visual_dim)
        measure(rows, audio, visual)
        return [audio.mean, audio.scale, visual.mean, visual.scale]

    data = rows.audio.double().flatten(0, 1)
    for mean, scale, *_ in in_threads(2, work):
        torch.testing.assert_close(mean.double(), data.mean(0), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(scale.double(), data.std(0, correction=0), rtol=1e-6, atol=1e-6)


def test_the_same_state_is_the_same_in_all() -> None:
    def work(change: float) -> str:
        state = {"weight": torch.tensor([1.0, 2.0]), "count": torch.tensor(3), "none": torch.zeros(0, 4)}
        state["weight"][1] += change * parallel.number()
        try:
            parallel.check_same(state)
        except HarkbackError as error:
            return str(error)
        return ""

    assert in_threads(3, lambda: work(0.0)) == [""] * 3
    assert all("no longer hold the same numbers" in told for told in in_threads(3, lambda: work(1e-6)))


# ---- a bench --------------------------------------------------------------------------------------------------------


def test_all_go_by_what_the_first_finds_in_the_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The others' view of a shared folder may lag behind."""
    done = Run.done
    monkeypatch.setattr(Run, "done", lambda run: done(run) if parallel.first() else 0)
    written = note_writers(monkeypatch)

    def work() -> list[int]:
        told: list[int] = []
        for stop_at in (2, 9):
            made, material = side_by_side.course(tmp_path, "icarl", "icarl-fc")

            def stop(more: int, stop_at: int = stop_at) -> None:
                told.append(more)
                if len(told) == stop_at:
                    raise side_by_side.Stopped

            with suppress(side_by_side.Stopped):
                made.take(material, stop)
        return told

    assert in_threads(2, work) == [[0, 1, 1, 1, 1]] * 2
    assert written == [0] * 6  # Three sessions of two contestants, all by the first.


def note_writers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Which process wrote, each time."""
    write, found = Run.write, []

    def noted(run: Run, *arguments: Any) -> None:
        found.append(parallel.number())
        write(run, *arguments)

    monkeypatch.setattr(Run, "write", noted)
    return found


def test_a_bench_whose_processes_went_apart_writes_no_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As with a learner that draws random numbers of its own."""
    learn, written = Ridge._learn, note_writers(monkeypatch)

    def drawing(learner: Ridge, *arguments: Any) -> None:
        learn(learner, *arguments)
        if learner.sessions:
            learner.bias += 1e-12 * parallel.number()

    monkeypatch.setattr(Ridge, "_learn", drawing)

    def work() -> None:
        made, material = side_by_side.course(tmp_path, "ridge")
        made.take(material, lambda more: None)

    with pytest.raises(HarkbackError, match="the 2 processes no longer hold the same numbers"):
        in_threads(2, work)
    assert written == [0]


# ---- one process ----------------------------------------------------------------------------------------------------


def test_one_process_talks_to_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(parallel, "_met", lambda: pytest.fail("it wants to talk"))
    teach("l3", "ridge", "hark", "fecam")
    made, material = side_by_side.course(tmp_path, "avcil")
    made.take(material, lambda more: None)
    assert made.done() == 3
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize("lacking", parallel.NAMED)
def test_an_environment_that_is_not_torchruns(lacking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster may set some of these names for reasons of its own."""
    for name in parallel.NAMED:
        monkeypatch.setenv(name, "3")
    assert (parallel.processes(), parallel.number(), parallel.first()) == (3, 3, False)
    monkeypatch.delenv(lacking)
    assert (parallel.processes(), parallel.number(), parallel.first()) == (1, 0, True)


def test_each_process_of_a_machine_takes_another_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    any_gpu, this_gpu, cpu = map(torch.device, ("cuda", "cuda:1", "cpu"))
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert beside(any_gpu) == any_gpu  # Alone it is torch's choice.
    for name in parallel.NAMED:
        monkeypatch.setenv(name, "4")
    assert beside(any_gpu) == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert beside(any_gpu) == torch.device("cuda", 0)
    assert (beside(this_gpu), beside(cpu)) == (this_gpu, cpu)


# ---- torchrun -------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in (*parallel.NAMED, "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    yield


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
def test_torchrun_comes_to_what_one_process_does(
    processes: int, taught: dict[str, Learner[Any]], tmp_path: Path
) -> None:
    done = side_by_side.started("learners", tmp_path, processes)
    assert done.returncode == 0, done.stderr[-2000:]

    def of(name: str) -> list[dict[str, Tensor]]:
        return [load_file(tmp_path / f"{name}-{number}.safetensors") for number in range(processes)]

    for name, learner in taught.items():
        compare(name, said_of(learner), of(name), **LOOSE.get(name, {}))
    with in_double():
        expected_in_double = {name: said_of(learner) for name, learner in teach(*TRAINED).items()}
    for name, expected in expected_in_double.items():
        compare(name, expected, of(f"{name}-double"), 1e-8, 1e-8)
    for step in STEPS:
        expected, found = slopes(*step), of("-".join(map(str, step)))
        for each in found:
            assert same_state(each, found[0])
        largest = float(torch.cat([array.flatten() for array in expected.values()]).abs().max())
        for name, slope in expected.items():
            torch.testing.assert_close(found[0][name], slope, rtol=1e-4, atol=2e-6 * max(1.0, largest))


@pytest.mark.slow
def test_a_bench_of_two_processes_is_one_log(tmp_path: Path) -> None:
    """Stopped after a session and gone on with; one process alone, that never stopped, finds the same."""
    done = side_by_side.started("course", tmp_path / "two", 2)
    assert done.returncode == 0, done.stderr[-2000:]
    for names in (("icarl", "icarl-fc"), ("hark",)):
        made, material = side_by_side.course(tmp_path / "one", *names)
        made.take(material, lambda more: None)
        for run in made.runs:
            other = Run(tmp_path / "two" / run.folder.name, run.learner, run.seed, run.order)
            written = sorted(path.name for path in other.folder.iterdir())
            assert written == sorted(path.name for path in run.folder.iterdir())
            assert other.done() == run.done() == 3
            for t in range(3):
                near(other.scores(t), run.scores(t), f"{run.learner}, session {t}")
                facts, expected = other.facts(t), run.facts(t)
                near(torch.tensor(facts.pop("losses")), torch.tensor(expected.pop("losses")), "losses")
                assert facts.pop("seconds") > 0 < expected.pop("seconds")
                assert facts == expected
        for number in range(2):
            told = json.loads((tmp_path / "two" / f"told-{names[0]}-{number}.json").read_text())
            assert told == [0, 1, 1, 1, 1]  # Nothing yet, a session; gone on with: that one, and two more.


@pytest.mark.slow
@pytest.mark.parametrize("dies", [0, 2])
def test_a_process_that_dies_ends_the_others_with_one_line(dies: int, tmp_path: Path) -> None:
    """Whether it is the one at which they met or another, and with no torchrun that ends them."""
    all_of_them = side_by_side.without_torchrun("dying", tmp_path, 3, DIES=str(dies))
    for number, process in enumerate(all_of_them):
        told, _ = process.communicate(timeout=60)
        assert process.returncode == (7 if number == dies else 2)
        if number != dies:
            assert told == (
                "torchrun: another of the 3 processes has ended or cannot be reached; "
                "see what it said, then start all of them again: what was finished is kept\n"
            )


@pytest.mark.slow
def test_processes_that_went_apart_are_told(tmp_path: Path) -> None:
    done = side_by_side.started("apart", tmp_path, 2)
    assert done.returncode == 0, done.stderr[-2000:]
    for number in range(2):
        assert "no longer hold the same numbers" in (tmp_path / f"told-{number}.txt").read_text()
