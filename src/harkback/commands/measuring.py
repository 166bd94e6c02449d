"""The commands of the bench: demo, bench, extract, report, doctor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from harkback.commands.encoding import Encoding
from harkback.errors import HarkbackError
from harkback.flags import at_least_none, class_orders, counted, names, numbers
from harkback.formats import count
from harkback.messages import say

if TYPE_CHECKING:
    from harkback.datasets import Dataset
    from harkback.harness import Bench

RUNS = Path("harkback-runs")
SHOWN = 20  #: clips that are left out for one reason, up to which each is named


@dataclass(frozen=True, slots=True)
class BenchCommand:
    """Teach learners class by class and measure what they know and forget."""

    data: Positional[
        str
    ]  #: folder of clips (class/*, {train,val,test}/class/* or clips.csv), or NAME:FOLDER of a dataset
    learners: str = "hark,l3,finetune,joint,ncm,ridge"  #: by name, with commas; NAME@audio, NAME@visual: one modality
    suite: str | None = None  #: a list of learners instead: all, avcil (its paper's table), hark-ablation, l3-ablation
    modality: str = "both"  #: both, audio, visual, or several with commas: every learner on each
    sessions: str | None = None  #: 5: five equal sessions; 3,1,2: these numbers of classes; none: 5, or the benchmark's
    memory: int | None = None  #: exemplars a learner may keep, in all; none: 100, or the benchmark's own
    seeds: str = "3"  #: 3: seeds 0, 1, 2; 4,7: these
    orders: str | None = None  #: class orders, like seeds, each run with every seed; avcil-2023: the benchmark's own
    split: Literal["test", "val"] = "test"  #: clips that are asked; choose settings on val, never on test
    validation: Literal["none", "current", "all-seen"] = "none"  #: clips that choose the epoch: of which classes
    reference: str | None = None  #: learner all others are compared with; none: the best, found afterwards
    encoding: Annotated[Encoding, arg(name="")] = field(default_factory=Encoding)
    read_pickle: Annotated[bool, arg(name="read-pickle")] = False  #: released features may be read from pickled files
    store: Path | None = None  #: folder of features; none: one in OUT/features for each encoder
    out: Path | None = None  #: folder of the log and the report; none: harkback-runs/NAME
    train_on: str | None = None  #: where networks are trained, like cuda; none: the CPU
    workers: int | None = None  #: processes that learn side by side; none: one a core; 0: this process
    on: str | None = None  #: ray, or ray://HOST:PORT: the machines of a Ray cluster do the work (docs/cluster.md)
    json: bool = False  #: print the result as JSON

    def run(self, settings: Mapping[str, Any]) -> None:
        from harkback.cluster import joined
        from harkback.harness import BenchSettings, bench
        from harkback.modality import MODALITIES

        modalities = names(self.modality, "--modality")
        for wrong in set(modalities) - set(MODALITIES):
            raise HarkbackError(
                f'there is no modality "{wrong}"', where="--modality", mend=f"use {', '.join(MODALITIES)}"
            )
        dataset = _dataset(self.data, self.read_pickle)
        chosen = BenchSettings(
            learners=names(self.learners, "--learners"),
            suite=self.suite,
            modalities=modalities,  # type: ignore[arg-type]
            sessions=() if self.sessions is None else numbers(self.sessions, "--sessions"),
            memory=None if self.memory is None else at_least_none(self.memory, "--memory"),
            seeds=counted(self.seeds, "--seeds"),
            orders=() if self.orders is None else class_orders(self.orders),
            split=self.split,
            validation=self.validation,
            reference=self.reference,
            settings=dict(settings),
            train_on=self.train_on,
        )
        chosen.contestants()  # A name that is wrong is told before hours of encoding.
        workers = _workers(self.workers, self.on)
        out = self.out or RUNS / dataset.name
        with joined(self.on) as machines:
            encoder = self.encoding.opened_for(dataset, settings, machines)
            finished = bench(dataset, encoder, chosen, out, self.store, workers=workers, on=machines)
        _conclude(finished, self.json)


@dataclass(frozen=True, slots=True)
class DemoCommand:
    """The whole story on clips that it draws and voices itself: extract, learn class by class, measure, report."""

    classes: int = 8  #: kinds of clips, 2..24
    sessions: str = "4"  #: 4: four equal sessions; 3,1,2: sessions of these numbers of classes
    memory: int = 40  #: exemplars a learner may keep, in all
    seeds: str = "2"  #: 2: seeds 0, 1; 4,7: these
    out: Path = RUNS / "demo"  #: folder of the clips, the log and the report
    json: bool = False  #: print the result as JSON

    def run(self) -> None:
        from harkback.harness import BenchSettings, bench
        from harkback.registry import DATASETS

        if self.classes < 2:
            raise HarkbackError("a demo needs two classes", where="--classes", mend="ask for 2 to 24")
        dataset = DATASETS.load("demo")(self.out / f"clips-{self.classes}", classes=self.classes)
        chosen = BenchSettings(
            sessions=numbers(self.sessions, "--sessions"),
            memory=at_least_none(self.memory, "--memory"),
            seeds=counted(self.seeds, "--seeds"),
        )
        _conclude(bench(dataset, Encoding().opened({}), chosen, self.out, workers=None), self.json)


@dataclass(frozen=True, slots=True)
class ExtractCommand:
    """Encode clips into a store, once: everything after that asks the store."""

    data: Positional[str]  #: folder of clips, or NAME:FOLDER of a dataset
    encoding: Annotated[Encoding, arg(name="")] = field(default_factory=Encoding)
    read_pickle: Annotated[bool, arg(name="read-pickle")] = False  #: released features may be read from pickled files
    store: Path | None = None  #: folder of features; none: in harkback-runs/NAME/features, where bench looks
    workers: int | None = None  #: processes that decode; none: one a core; 0: as 1
    on: str | None = None  #: ray, or ray://HOST:PORT: the machines of a Ray cluster do the work (docs/cluster.md)
    json: bool = False  #: print the result as JSON

    def run(self, settings: Mapping[str, Any]) -> None:
        from harkback.cluster import joined
        from harkback.material import extracted, spec_of
        from harkback.store import usual_store
        from harkback.wording import grouped

        dataset = _dataset(self.data, self.read_pickle)
        workers = _workers(self.workers, self.on)
        workers = None if workers is None else max(1, workers)  # A crash of a decoder must not take the command along.
        clips = [clip for split in dataset.splits.values() for clip in split]
        with joined(self.on) as machines:
            encoder = self.encoding.opened_for(dataset, settings, machines)
            spec = spec_of(dataset, encoder)
            store = self.store or usual_store(RUNS / dataset.name, spec)
            done = extracted(dataset, clips, encoder, store, workers=workers, on=machines)
        skips = [*dataset.skips, *done.skips]
        result = {
            "dataset": dataset.name,
            "encoder": spec.name,
            "store": str(store),
            "clips": len(done.clips),
            "encoded": done.encoded,
            "skipped": [{"id": skip.id, "reason": skip.reason} for skip in skips],
            "seconds": done.seconds,
        }
        if self.json:
            print(json.dumps(result, ensure_ascii=False))
        else:
            print(f"{len(done.clips)} clips in {store}, {done.encoded} of them tried now, in {done.seconds:.1f} s")
        for reason, group in grouped([{"id": skip.id, "reason": skip.reason} for skip in skips]):
            if len(group) > SHOWN:  # Of a benchmark tens of thousands may be missing.
                say(f"left out: {len(group)} clips, such as {group[0]['id']}: {reason}")
                continue
            for skip in group:
                say(f"left out: {skip['id']}: {skip['reason']}")
        if not done.clips:
            raise HarkbackError("none of the clips could be read", where=dataset.name, mend="see the reasons above")


@dataclass(frozen=True, slots=True)
class ReportCommand:
    """Make a bench's report again from its log."""

    out: Positional[Path]  #: folder that a bench wrote
    reference: str | None = None  #: learner all others are compared with; none: the bench's, or the best
    json: bool = False  #: print the numbers as JSON

    def run(self) -> None:
        _report(self.out, self.json, self.reference)


@dataclass(frozen=True, slots=True)
class DoctorCommand:
    """What is installed, which encoders can run here, and why others cannot."""

    json: bool = False  #: print it as JSON

    def run(self) -> None:
        from harkback.doctor import examine, told

        found = examine()
        print(json.dumps(found, indent=1) if self.json else told(found))


def _workers(count: int | None, on: str | None) -> int | None:
    if count is not None and on is not None:
        raise HarkbackError("with --on its machines decide how many work", where="--workers", mend="leave one out")
    return None if count is None else at_least_none(count, "--workers")


def _dataset(source: str, read_pickle: bool) -> Dataset:
    from harkback.datasets import open_dataset

    dataset = open_dataset(source, read_pickle=read_pickle)
    missing = getattr(dataset, "shortfall", "")  # Of a benchmark of which not all clips are there.
    if missing:
        say(f"{dataset.name}: {missing}")
    return dataset


def _conclude(finished: Bench, as_json: bool) -> None:
    from harkback.parallel import first

    if not first():
        return
    skips = finished.material.skips
    if skips:
        say(f"{len(skips)} clips were left out, the first: {skips[0].id}: {skips[0].reason}; the report lists all")
    _report(finished.out, as_json)
    if finished.failed:
        folder, why = next(iter(finished.failed.items()))
        raise HarkbackError(
            f"{len(finished.failed)} of {count(len(finished.runs), 'run')} failed, the first, {folder}: {why}",
            where=finished.out,
            mend="run the same command again: what is finished is kept",
        )


def _report(out: Path, as_json: bool, reference: str | None = None) -> None:
    from harkback.report import write_report

    written = write_report(out, reference)
    if as_json:
        print(json.dumps(json.loads((out / "report.json").read_text("utf-8")), ensure_ascii=False))
    else:
        print((out / "report.md").read_text("utf-8"))
    for path in written:
        say(f"wrote {path}")
    if not any(path.suffix == ".html" for path in written):
        say('for the report as a page with pictures: pip install "harkback[report]"')
