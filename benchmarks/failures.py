"""What lost nodes cost an extraction, simulated: `python -m benchmarks.failures` writes `failures.json` and a picture.

Clips are worked on in blocks. A node that is lost takes the blocks in its hands with it: they are done again, first of
all, from their beginning. After a while another node stands in its place, and a model must be loaded there before it
works. If the driver is lost, all blocks in flight are; what was finished is kept, and it goes on once it was started
again. Nodes and driver last for times that are exponentially distributed; no block is cut short because it is slow.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harkback.files import write_json
from harkback.formats import duration

HERE = Path(__file__).parent
FILE = HERE / "failures.json"
PICTURE = HERE.parent / "docs" / "images" / "failures.svg"
HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Job:
    clips: int
    seconds: float  #: a clip, in one slot
    block: int = 64  #: clips
    fixed: float = 0.0  #: seconds that a block takes besides its clips: started, its part written

    @property
    def blocks(self) -> int:
        return -(-self.clips // self.block)

    def lasts(self, number: int) -> float:
        """Seconds of a block; the last may be smaller."""
        return self.fixed + self.seconds * min(self.block, self.clips - number * self.block)


@dataclass(frozen=True, slots=True)
class Cluster:
    """All times are in seconds."""

    nodes: int
    slots: int  #: blocks that a node works on at a time: its cores, or its GPUs
    life: float = math.inf  #: of a node, mean, from when it works
    away: float = 0.0  #: from a node's loss until another works in its place, its model loaded
    driver_life: float = math.inf  #: mean
    driver_away: float = 0.0  #: from the driver's loss until blocks are worked on again
    slow: int = 0  #: nodes that are slow
    slowness: float = 1.0  #: times as long as the others they take


class Outcome(NamedTuple):
    seconds: float  #: until the last block is finished
    useful: float  #: seconds of slots that went into blocks that were finished
    lost: float  #: and into those that were lost
    nodes_lost: int
    drivers_lost: int
    tries: int  #: of the block that was tried most often


def expected(seconds: float, life: float, away: float = 0.0) -> float:
    """Mean seconds until a task of so many is through, if each failure makes it begin again: (1/λ + away)(e^(λt) - 1).

    life: 1/λ, mean seconds between failures; away: from a failure until it begins again.
    """
    return seconds if math.isinf(life) else (life + away) * math.expm1(seconds / life)


def redone(seconds: float, life: float) -> float:
    """Work that is lost, as a share of the work that is not."""
    return expected(seconds, life) / seconds - 1


def simulated(job: Job, cluster: Cluster, seed: int) -> Outcome:
    some = np.random.default_rng(seed)

    def lasting(mean: float) -> float:
        return math.inf if math.isinf(mean) else float(some.exponential(mean))

    waiting = list(range(job.blocks))[::-1]  # The end of the list is next.
    tries: Counter[int] = Counter()
    flying: list[dict[int, float]] = [{} for _ in range(cluster.nodes)]  #: of each node: block -> when it began
    times = [0] * cluster.nodes  #: how often each was emptied: what was to happen before that does not happen
    works = [True] * cluster.nodes
    events: list[tuple[float, int, str, int, int, int]] = []  #: when, which, what, node, its times, block
    count = left = 0
    left, now, useful, lost, nodes_lost, drivers_lost = job.blocks, 0.0, 0.0, 0.0, 0, 0

    def later(when: float, what: str, node: int = 0, block: int = -1) -> None:
        nonlocal count
        if when < math.inf:
            heapq.heappush(events, (when, count, what, node, times[node], block))
            count += 1

    def give(node: int) -> None:
        while works[node] and waiting and len(flying[node]) < cluster.slots:
            block = waiting.pop()
            tries[block] += 1
            flying[node][block] = now
            slowness = cluster.slowness if node < cluster.slow else 1.0
            later(now + slowness * job.lasts(block), "done", node, block)

    def empty(node: int) -> None:
        nonlocal lost
        lost += sum(now - began for began in flying[node].values())
        waiting.extend(sorted(flying[node], reverse=True))
        flying[node].clear()
        times[node] += 1
        works[node] = False

    for node in range(cluster.nodes):
        later(lasting(cluster.life), "node lost", node)
    later(lasting(cluster.driver_life), "driver lost")
    for node in range(cluster.nodes):
        give(node)
    while left:
        now, _, what, node, of, block = heapq.heappop(events)
        if what == "driver lost":  # Nodes are as they were, but nobody gives them blocks.
            drivers_lost += 1
            for each in range(cluster.nodes):
                empty(each)
                later(now + cluster.driver_away, "back", each)
            later(now + cluster.driver_away + lasting(cluster.driver_life), "driver lost")
        elif of != times[node]:
            continue
        elif what == "done":
            useful += now - flying[node].pop(block)
            left -= 1
            give(node)
            if not waiting or flying[node]:
                continue
        elif what == "node lost":
            nodes_lost += 1
            empty(node)
            later(now + cluster.away, "back", node)
            for each in range(cluster.nodes):  # One that has nothing to do takes over.
                give(each)
        else:
            works[node] = True
            later(now + lasting(cluster.life), "node lost", node)
            give(node)
    return Outcome(now, useful, lost, nodes_lost, drivers_lost, max(tries.values()))


def mean(job: Job, cluster: Cluster, seeds: int) -> Outcome:
    """Of so many seeds; of the tries, the most."""
    found = [simulated(job, cluster, seed) for seed in range(seeds)]
    averages = [float(np.mean([each[i] for each in found])) for i in range(5)]
    return Outcome(*averages, max(each.tries for each in found))  # type: ignore[arg-type]


def ideal(job: Job, cluster: Cluster) -> float:
    """Seconds, if nothing failed, blocks cost nothing besides their clips, and all slots had work to the end."""
    return job.clips * job.seconds / (cluster.nodes * cluster.slots)


# ---- what is recorded ------------------------------------------------------------------------------------------------

LIVES = (1, 2, 5, 10, 20, 50, 100)  #: hours
BLOCKS = {  #: clips, of the curves
    "AudioSet, signal": (16, 64, 256, 1024),
    "VGGSound, sam-audio without a GPU": (4, 16, 64, 256),
}
TABLE = (2.0, 10.0, 50.0)  #: hours
SEEDS = 10


def recorded(jobs: dict[str, tuple[Job, Cluster]]) -> dict[str, Any]:
    """jobs: by name, on a cluster where nothing fails yet; what is asked of the plan, and what came of it."""
    rows, curves = [], {}
    for name, (job, cluster) in jobs.items():
        calm = mean(job, replace(cluster, life=math.inf), 1)
        for life in TABLE:
            rows.append(_row(name, f"a node lasts {life:g} h", job, replace(cluster, life=life * HOUR), calm))
        usual = replace(cluster, life=10 * HOUR)
        driver = replace(usual, driver_life=4 * HOUR, driver_away=300.0)
        rows.append(_row(name, "10 h, and the driver 4 h", job, driver, calm))
        rows.append(_row(name, "10 h, and one node 3 times as slow", job, replace(usual, slow=1, slowness=3.0), calm))
        for block in BLOCKS.get(name, ()):
            of = replace(job, block=block)
            times = [mean(of, replace(cluster, life=life * HOUR), SEEDS).seconds for life in LIVES]
            curves.setdefault(name, {})[str(block)] = [seconds / ideal(job, cluster) - 1 for seconds in times]
    asked = {name: [asdict(job), _finite(cluster)] for name, (job, cluster) in jobs.items()}
    return {"asked": asked, "seeds": SEEDS, "lives": LIVES, "table": rows, "curves": curves}


def _row(name: str, what: str, job: Job, cluster: Cluster, calm: Outcome) -> dict[str, Any]:
    found = mean(job, cluster, SEEDS)
    return {
        "job": name,
        "what": what,
        "hours without failures": calm.seconds / HOUR,
        "longer": found.seconds / calm.seconds - 1,
        "redone": found.lost / found.useful,
        "redone, closed form": redone(job.lasts(0), cluster.life),
        "nodes lost": found.nodes_lost,
        "most tries": found.tries,
    }


def _finite(cluster: Cluster) -> dict[str, Any]:
    """As JSON can hold it."""
    return {name: None if value == math.inf else value for name, value in asdict(cluster).items()}


def picture(found: dict[str, Any], path: Path) -> None:
    """Time over the ideal against the life of a node: a panel for each job, a line for each size of block."""
    from matplotlib import style
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    from benchmarks.picture import LOOK
    from harkback.figures import COLOURS, MARKERS

    sizes = sorted({int(size) for lines in found["curves"].values() for size in lines})
    looks = dict(zip(sizes, zip(COLOURS, MARKERS, strict=False), strict=False))
    with style.context(["default", LOOK]):
        figure = Figure(figsize=(9.6, 4.2), layout="constrained")
        panels = figure.subplots(1, len(found["curves"]), sharey=True)
        for axes, (name, lines) in zip(panels, found["curves"].items(), strict=True):
            job, cluster = found["asked"][name]
            for size, shares in lines.items():
                colour, marker = looks[int(size)]
                label = f"{size} clips: {duration(job['fixed'] + int(size) * job['seconds'])}"
                wide = 2.4 if int(size) == job["block"] else 1.2
                percent = [100 * share for share in shares]
                axes.plot(found["lives"], percent, color=colour, marker=marker, markersize=4.5, lw=wide, label=label)
            slots = cluster["nodes"] * cluster["slots"]
            axes.set_title(f"{name}: {job['clips']:,} clips, {slots} cores", loc="left", fontsize=10)
            axes.set_xscale("log")
            axes.set_xticks(found["lives"], [str(life) for life in found["lives"]])
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xlabel("mean hours that a node lasts")
            axes.set_yscale("log")
            axes.set_ylim(0.5, 200)
            axes.set_yticks([1, 3, 10, 30, 100], ["1", "3", "10", "30", "100"])
            axes.yaxis.set_minor_locator(NullLocator())
            axes.legend(frameon=False, title="a block", alignment="left")
        panels[0].set_ylabel("time over the ideal, %")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    from benchmarks.plan import jobs

    found = recorded(jobs())
    write_json(FILE, found)
    picture(found, PICTURE)
