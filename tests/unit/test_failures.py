"""The simulation of lost nodes, against what can be said of it in closed form."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # The benchmarks are no part of the package.

from benchmarks import failures
from benchmarks.failures import Cluster, Job, expected, ideal, mean, redone, simulated

JOB = Job(clips=640, seconds=1.0)  # ten blocks of 64 s


def test_without_failures_blocks_follow_one_another() -> None:
    found = simulated(JOB, Cluster(nodes=2, slots=2), seed=0)
    assert found.seconds == 3 * 64.0  # ten blocks in four slots
    assert (found.useful, found.lost, found.nodes_lost, found.drivers_lost, found.tries) == (640.0, 0, 0, 0, 1)
    assert ideal(JOB, Cluster(2, 2)) == 160.0


def test_the_last_block_may_be_smaller_and_each_costs_something_besides() -> None:
    job = Job(clips=100, seconds=1.0, fixed=2.0)
    assert job.blocks == 2 and [job.lasts(i) for i in range(2)] == [66.0, 38.0]
    assert simulated(job, Cluster(1, 1), seed=0).seconds == 104.0


def test_a_task_that_always_begins_anew_takes_what_the_formula_says() -> None:
    assert expected(100.0, math.inf) == 100.0
    assert expected(100.0, 100.0) == pytest.approx(100 * (math.e - 1))
    assert expected(100.0, 50.0, away=10.0) == pytest.approx(60 * (math.e**2 - 1))
    assert expected(1.0, 1e9) == pytest.approx(1.0)
    # And what a draw says: how long each try would have lasted until one lasted long enough.
    some, taken = np.random.default_rng(0), []
    for _ in range(20_000):
        total = 0.0
        while (life := some.exponential(50.0)) < 100.0:
            total += life + 10.0
        taken.append(total + 100.0)
    assert np.mean(taken) == pytest.approx(expected(100.0, 50.0, away=10.0), rel=0.04)


@pytest.mark.parametrize(("life", "away"), [(60.0, 0.0), (60.0, 30.0), (200.0, 15.0)])
def test_blocks_in_one_slot_take_what_the_formula_says(life: float, away: float) -> None:
    job = Job(clips=64 * 6000, seconds=1.0)
    found = simulated(job, Cluster(nodes=1, slots=1, life=life, away=away), seed=1)
    assert found.seconds == pytest.approx(job.blocks * expected(64.0, life, away), rel=0.05)
    assert found.useful == pytest.approx(64.0 * job.blocks)
    assert found.lost / found.useful == pytest.approx(redone(64.0, life), rel=0.05)
    assert found.seconds == pytest.approx(found.useful + found.lost + away * found.nodes_lost, rel=1e-9)


def test_many_nodes_with_many_slots_redo_the_same_share() -> None:
    job = Job(clips=64 * 20_000, seconds=1.0)
    found = simulated(job, Cluster(nodes=8, slots=4, life=320.0, away=60.0), seed=2)
    assert found.useful == pytest.approx(64.0 * job.blocks)
    assert found.lost / found.useful == pytest.approx(redone(64.0, 320.0), rel=0.08)
    lost_to_absence = found.nodes_lost * 60.0 * 4
    assert found.seconds * 32 == pytest.approx(found.useful + found.lost + lost_to_absence, rel=0.01)
    assert found.tries > 2


def test_larger_blocks_lose_more() -> None:
    cluster = Cluster(nodes=4, slots=2, life=2000.0, away=60.0)
    shares = [mean(Job(25_600, 1.0, block), cluster, 5) for block in (16, 64, 256)]
    assert shares[0].lost < shares[1].lost < shares[2].lost


def test_a_lost_driver_costs_what_is_in_flight_and_keeps_what_is_done() -> None:
    job = Job(clips=64 * 2000, seconds=1.0)
    calm, cluster = Cluster(4, 4), Cluster(4, 4, driver_life=1000.0, driver_away=100.0)
    found = simulated(job, cluster, seed=3)
    assert found.drivers_lost > 3 and found.nodes_lost == 0
    assert found.useful == pytest.approx(64.0 * job.blocks)
    # All sixteen slots lose half a block on average, and stand still.
    each = found.lost / found.drivers_lost / 16
    assert 20 < each < 44
    longer = found.seconds - simulated(job, calm, 3).seconds
    assert longer == pytest.approx(found.drivers_lost * (100 + each), rel=0.1)


def test_a_node_that_is_lost_while_the_driver_is_away_comes_back_too() -> None:
    cluster = Cluster(2, 1, life=100.0, away=50.0, driver_life=150.0, driver_away=80.0)
    found = simulated(Job(64 * 50, 1.0), cluster, seed=4)
    assert found.useful == pytest.approx(64.0 * 50) and found.drivers_lost > 0 < found.nodes_lost


def test_a_slow_node_takes_longer_over_its_blocks_alone() -> None:
    found = simulated(Job(64 * 4, 1.0), Cluster(nodes=2, slots=1, slow=1, slowness=3.0), seed=0)
    assert found.seconds == 3 * 64.0  # The slow one takes one block while the other takes three.
    assert found.useful == (3 + 3) * 64.0


def test_a_seed_gives_the_same_and_another_something_else() -> None:
    cluster = Cluster(4, 2, life=500.0, away=60.0)
    assert simulated(JOB, cluster, 5) == simulated(JOB, cluster, 5)
    assert len({simulated(Job(6400, 1.0), cluster, seed).seconds for seed in range(4)}) == 4


def test_what_is_recorded_is_of_the_jobs_that_the_plan_has_now() -> None:
    from benchmarks.plan import jobs

    found = json.loads(failures.FILE.read_text())
    asked = {name: [asdict(job), failures._finite(cluster)] for name, (job, cluster) in jobs().items()}
    assert found["asked"] == asked, "run python -m benchmarks.failures again"
    for row in found["table"]:
        if "driver" not in row["what"] and "slow" not in row["what"] and row["nodes lost"] > 20:
            assert row["redone"] == pytest.approx(row["redone, closed form"], rel=0.25), row
    lives = found["lives"]
    for lines in found["curves"].values():
        for of in lines.values():
            assert len(of) == len(lives) and of[0] > of[-1] > 0
