"""The bench: every contestant on the same streams -> the prediction log, resumable after any kill."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import sleep
from typing import Any, Literal

from tqdm import tqdm

import harkback
from harkback.contestants import Contestant, code_of, entered, suite
from harkback.course import Course
from harkback.datasets import Benchmark, BenchProtocol, Dataset
from harkback.device import named
from harkback.encoders import Encoder, EncoderSpec
from harkback.engine import Engine
from harkback.errors import HarkbackError
from harkback.files import fingerprint, sweep, write_json
from harkback.formats import count
from harkback.log import Run
from harkback.material import Material, Validation, prepare, spec_of
from harkback.modality import Modality
from harkback.parallel import first, first_before_others, processes, wait
from harkback.store import usual_store
from harkback.stream import cut, shuffled
from harkback.team import Lost, team
from harkback.workers import cores

Order = int | str  #: a number: the classes shuffled so; a name: the protocol's own order


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """What is measured. Where a benchmark has a protocol of its own, that decides what is left open here."""

    learners: tuple[str, ...] = ("hark", "l3", "finetune", "joint", "ncm", "ridge")  #: see `contestants.entered`
    suite: str | None = None  #: a list of learners by name, instead: all, avcil, hark-ablation, l3-ablation
    modalities: tuple[Modality, ...] = ("both",)  #: each learner is run on each
    sessions: tuple[int, ...] = ()  #: one number: that many equal sessions; several: their sizes; none: 5 equal ones
    memory: int | None = None  #: exemplars in all; none: 100
    seeds: tuple[int, ...] = (0, 1, 2)
    orders: tuple[Order, ...] = ()  #: class orders, each run with every seed; none: seed s runs on class order s
    split: Literal["test", "val"] = "test"  #: the split that is asked; choose settings on val, never on test
    validation: Validation = "none"  #: clips that choose the epoch: none, of the session's classes, of all classes seen
    reference: str | None = None  #: whom all others are compared with; none: the best, which is chosen afterwards
    settings: dict[str, Any] = field(default_factory=dict)  #: learner -> its settings, where not the defaults
    train_on: str | None = None  #: where networks are trained, like cuda; none: the CPU

    def contestants(self) -> tuple[Contestant, ...]:
        """Who is measured: each learner with each modality. Raises `HarkbackError` for a name that is none."""
        names = self.learners if self.suite is None else suite(self.suite)
        found = entered(names, self.modalities, self.settings)
        if self.reference is not None and self.reference not in {each.name for each in found}:
            known = ", ".join(each.name for each in found)
            raise HarkbackError(f'"{self.reference}" takes no part', where="--reference", mend=f"choose from {known}")
        for each in found:
            each.kind(each.settings)  # Settings that cannot be are told now, not after hours of encoding.
        return found


@dataclass(frozen=True, slots=True)
class Plan:
    """What the settings come to for this dataset."""

    protocol: BenchProtocol | None
    sizes: tuple[int, ...]  #: of the sessions, in classes
    memory: int
    pairs: tuple[tuple[int, Order], ...]  #: (seed, class order) of each run
    changed: tuple[str, ...]  #: where this is not the protocol

    def order(self, material: Material, order: Order) -> tuple[str, ...]:
        """Class names in the order they come."""
        if isinstance(order, int):
            return shuffled(material.classes, order)
        assert self.protocol is not None
        return tuple(name for name in self.protocol.order if name in material.classes)


@dataclass(frozen=True, slots=True)
class Bench:
    """A finished bench: its log and what it was made from."""

    out: Path
    settings: BenchSettings
    material: Material
    encoder: str
    sizes: tuple[int, ...]
    runs: tuple[Run, ...]
    failed: dict[str, str] = field(default_factory=dict)  #: folder of a run -> why it has not come to its end


def protocol_of(dataset: Dataset, settings: BenchSettings) -> BenchProtocol | None:
    """The dataset's protocol, if it has one; `HarkbackError` if a class order is asked for that nobody knows."""
    protocol = dataset.protocol if isinstance(dataset, Benchmark) else None
    for order in settings.orders:
        if isinstance(order, str) and (protocol is None or order != protocol.name):
            mend = "give a number of orders" if protocol is None else f"use {protocol.name}, or numbers"
            raise HarkbackError(f'there is no class order "{order}"', where="--orders", mend=mend)
    return protocol


def planned(protocol: BenchProtocol | None, material: Material, settings: BenchSettings) -> Plan:
    """Fill in what the settings leave open, from the protocol if there is one."""
    if protocol is None:
        orders, memory, sizes = settings.orders, 100, cut(len(material.classes), settings.sessions or (5,))
    else:
        orders, memory = settings.orders or (protocol.name,), protocol.memory
        sizes = cut(len(material.classes), settings.sessions) if settings.sessions else _present(protocol, material)
    memory = memory if settings.memory is None else settings.memory
    changes = () if protocol is None else _changes(protocol, material, sizes, memory, orders)
    return Plan(protocol, sizes, memory, pairs(settings.seeds, orders), changes)


def pairs(seeds: Sequence[int], orders: Sequence[Order]) -> tuple[tuple[int, Order], ...]:
    """(seed, class order) of each run; each once, as two of one name would write one log side by side."""
    return tuple(dict.fromkeys((s, o) for o in orders for s in seeds)) or tuple(dict.fromkeys((s, s) for s in seeds))


def _present(protocol: BenchProtocol, material: Material) -> tuple[int, ...]:
    """The protocol's sessions, less the classes of which no clip is there."""
    sizes, start = [], 0
    for size in protocol.sessions:
        sizes.append(sum(name in material.classes for name in protocol.order[start : start + size]))
        start += size
    return tuple(size for size in sizes if size)


def _changes(
    protocol: BenchProtocol, material: Material, sizes: tuple[int, ...], memory: int, orders: Sequence[Order]
) -> tuple[str, ...]:
    found = []
    if len(material.classes) != len(protocol.order):
        found.append(f"{len(material.classes)} classes of {len(protocol.order)}")
    if sizes != protocol.sessions:
        found.append(f"sessions of {', '.join(map(str, sizes))} classes")
    if memory != protocol.memory:
        found.append(f"a memory of {memory} instead of {protocol.memory}")
    if tuple(orders) != (protocol.name,):
        found.append(f"class orders {', '.join(map(str, orders))}")
    if material.skips:
        found.append(f"{count(len(material.skips), 'clip')} left out")
    return tuple(found)


def bench(
    dataset: Dataset,
    encoder: Encoder | None,
    settings: BenchSettings,
    out: Path,
    store: Path | None = None,
    *,
    workers: int | None = 0,
    on: Engine | None = None,
) -> Bench:
    """Run every contestant on every seed and class order. What ``out`` already holds of this very bench is not redone.

    encoder: None for a dataset that comes as features; workers: processes that learn side by side; None: one a core;
    0: this process. on: machines that do the work instead; a run that fails there is told in `Bench.failed`. Processes
    that `torchrun` started share out each training (`harkback.parallel`).
    """
    if processes() > 1 and (workers or on is not None):
        what = "processes that torchrun starts share each training out"
        raise HarkbackError(what, where="--on" if on else "--workers", mend="leave it out")
    # What cannot be is told before hours of encoding.
    contestants, protocol = settings.contestants(), protocol_of(dataset, settings)
    spec, device = spec_of(dataset, encoder), named(settings.train_on, "--train-on", elsewhere=on is not None)
    with first_before_others():
        material = prepare(dataset, encoder, store or usual_store(out, spec), settings.split, settings.validation, on)
    plan = planned(protocol, material, settings)
    by_training: dict[str, list[Contestant]] = {}
    for contestant in contestants:
        by_training.setdefault(contestant.training, []).append(contestant)
    codes = {contestant.method: code_of(contestant.kind) for contestant in contestants}
    frame: list[Any] = [material.identity, spec.key, plan.sizes, plan.memory, settings.validation]
    if device.type != "cpu":  # A GPU adds numbers in another order.
        frame.append(device.type)
    if processes() > 1:  # So do several processes.
        frame.append(processes())
    if first():
        sweep(out)
    courses = []
    for seed, order in plan.pairs:
        names = plan.order(material, order)
        for alike in by_training.values():
            runs = tuple(_run(out, each, seed, order, [*frame, names, codes[each.method]]) for each in alike)
            if first():
                for run in runs:
                    run.tidy(len(plan.sizes))
            pictured = (seed, order) == plan.pairs[0]
            courses.append(
                Course(tuple(alike), runs, names, plan.sizes, plan.memory, seed, settings.validation, pictured, device)
            )
    workers = 0 if processes() > 1 else cores() if workers is None else workers
    failed = _take(courses, material, workers, on)
    by_name = {(run.learner, run.seed, run.order): run for course in courses for run in course.runs}
    runs = tuple(by_name[each.name, seed, order] for seed, order in plan.pairs for each in contestants)
    finished = Bench(out, settings, material, spec.name, plan.sizes, runs, failed)
    if first():
        write_json(out / "bench.json", _facts(finished, spec, plan, contestants))
    wait()
    return finished


def _run(out: Path, contestant: Contestant, seed: int, order: Order, frame: Sequence[Any]) -> Run:
    """The contestant's place in the log: named by everything that decides the result."""
    own = [contestant.method, asdict(contestant.settings), contestant.modality]
    folder = f"{contestant.name}-{seed}-{order}-{fingerprint(*frame, *own, seed)}"
    return Run(out / "runs" / folder, contestant.name, seed, order)


def _take(courses: Sequence[Course], material: Material, workers: int, on: Engine | None) -> dict[str, str]:
    """Take all courses, in this process, in others side by side, or on other machines. Returns `Bench.failed`."""
    # By all courses, not by those that are left: a run that goes on must have as many threads as one that never
    # stopped, since threads decide the order in which numbers are added.
    workers = min(workers, len(courses))
    todo = [course for course in courses if course.done() < len(course.sizes)]
    total, quiet = sum(len(course.sizes) for course in courses), not first()
    with tqdm(total=total, desc="learning", unit="session", leave=False, disable=quiet) as bar:
        if on is None and workers < 2:
            for course in courses:
                bar.set_postfix_str(f"{course.contestants[0].name}, seed {course.seed}")
                course.take(material, bar.update)
        elif todo:

            def look() -> None:
                """What is finished lies in the log, so that is where to look."""
                bar.update(sum(course.done() for course in courses) - bar.n)

            if on is None:
                _side_by_side(todo, material, max(1, cores() // workers), min(workers, len(todo)), look)
                return {}
            failed = on.take(todo, material, look)
            return {run.folder.name: why for number, why in failed.items() for run in todo[number].runs}
    return {}


def _side_by_side(
    todo: Sequence[Course], material: Material, threads: int, workers: int, look: Callable[[], None]
) -> None:
    with team(workers, ["harkback.harness"], threads=threads, then=_bring, given=material) as pool:
        waiting = {pool.submit(_take_one, course) for course in todo}
        while waiting:
            # Not `concurrent.futures.wait`: a Ctrl-C while it takes the futures' locks would leave them taken.
            sleep(0.2)
            finished = {future for future in waiting if future.done()}
            try:
                for future in finished:
                    future.result()
            except Lost:
                raise HarkbackError(
                    "a process that learnt was ended from outside, perhaps for want of memory",
                    mend="run the same command with --workers 1: it goes on from there",
                ) from None
            waiting -= finished
            look()


_material: Material | None = None  #: in a worker: what it learns from


def _bring(material: Material) -> None:
    global _material
    _material = material


def _take_one(course: Course) -> None:
    assert _material is not None
    course.take(_material, lambda finished: finished)  # The parent reads the log.


def _facts(bench: Bench, spec: EncoderSpec, plan: Plan, contestants: Sequence[Contestant]) -> dict[str, Any]:
    material, settings = bench.material, bench.settings
    by_name = {contestant.name: contestant for contestant in contestants}
    return {
        "harkback": harkback.__version__,
        "dataset": material.name,
        "encoder": spec.facts(),
        "protocol": plan.protocol and {"name": plan.protocol.name, "changed": list(plan.changed)},
        "sessions": list(bench.sizes),
        "memory": plan.memory,
        "asked": settings.split,
        "validation": settings.validation,
        "reference": settings.reference,
        "training_clips": len(material.train),
        "validation_clips": len(material.validation.labels),
        "test_clips": [{"id": clip.id, "label": clip.label} for clip in material.test_clips],
        "skips": [{"id": skip.id, "reason": skip.reason} for skip in material.skips],
        "settings": {contestant.name: asdict(contestant.settings) for contestant in contestants},
        "runs": [
            {
                "folder": run.folder.name,
                "learner": run.learner,
                "method": by_name[run.learner].method,
                "modality": by_name[run.learner].modality,
                "seed": run.seed,
                "order": run.order,
                "cumulative": by_name[run.learner].kind.cumulative,
                **({"failed": bench.failed[run.folder.name]} if run.folder.name in bench.failed else {}),
            }
            for run in bench.runs
        ],
    }
