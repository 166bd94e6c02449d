"""From nothing to the tables of AV-CIL's protocol: one command that can be stopped and goes on where it was.

Put what you have under one folder. What is missing is told, and its cells stay empty.

    data/AVE_Dataset/        videos of AVE
    data/kinetics-sounds/    videos of Kinetics-Sounds
    data/vggsound/           videos of VGGSound
    data/avcil-features/     AVE/, kinetics-sounds/ and VGGSound_100/: the features that AV-CIL's authors released

python examples/reproduce_avcil.py --data data --out results --plan

What to download, from whom, and what will differ from the published code: docs/reproduce.md.
"""
# ruff: noqa: T201 (it is a script: what it prints is for people)

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tyro

import harkback
from harkback.contestants import changed, suite
from harkback.datasets import open_dataset
from harkback.errors import HarkbackError
from harkback.features import TokenShape
from harkback.files import whole
from harkback.network import AVCIL_NETWORK
from harkback.registry import LEARNERS
from harkback.report import write_report
from harkback.tables import Column, latex_table, markdown_table, plain, shares
from harkback.training import AVCIL_TRAIN

#: A variant's training is fixed, and the paper's epochs differ from set to set. So `finetune` and `joint` stand for
#: `finetune-avcil` and `joint-avcil`: with AV-CIL's network and training, and the epochs below.
RIVALS = tuple(name.removesuffix("-avcil") for name in suite("avcil"))
CLOSED = ("ncm", "ridge", "balanced-ridge", "slda", "fecam", "ranpac", "klda", "mmal")
L3 = suite("l3-ablation")
ROWS = (*RIVALS, *CLOSED, *L3)
TRAINED = ("finetune", "lwf", "icarl", "ssil", "afc", "avcil", "joint")


@dataclass(frozen=True)
class Benchmark:
    """One of the three, with what AV-CIL's scripts set for it."""

    name: str  #: of the data set of videos
    title: str
    videos: str  #: folder of them under --data
    released: str  #: folder under --data of the released features
    clips: int  #: listed, in all three splits
    learnt: int  #: listed, to learn from
    sessions: int
    instance_weight: float  #: AV-CIL's lambda_I
    epochs: tuple[int, ...]  #: of each of `TRAINED`

    def folder(self, options: Options) -> Path:
        return options.data / (self.released if options.features == "released" else self.videos)

    def source(self, options: Options) -> str:
        return f"{'avcil-features' if options.features == 'released' else self.name}:{self.folder(options)}"


BENCHMARKS = (
    Benchmark("ave", "AVE", "AVE_Dataset", "avcil-features/AVE",
              4_079, 3_294, 4, 0.5, (150, 200, 150, 200, 150, 200, 150)),
    Benchmark("kinetics-sounds", "Kinetics-Sounds", "kinetics-sounds", "avcil-features/kinetics-sounds",
              23_125, 19_220, 5, 0.1, (150, 100, 100, 100, 100, 200, 100)),
    Benchmark("vggsound100", "VGGSound100", "vggsound", "avcil-features/VGGSound_100",
              61_195, 51_195, 10, 0.1, (200, 200, 200, 200, 200, 200, 200)),
)  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """What a clip costs on two hardware threads of a shared server without a GPU. On a GPU nothing was measured."""

    shape: TokenShape
    #: Seconds to encode a clip of 10 s, least and most; none: not measured. From benchmarks/README.md: a picture 1.7 to
    #: 3.1 s, a second of sound 0.5 s; `signal` took 42 s for 780 clips of 2 s.
    encoding: tuple[float, float] | None
    #: Seconds of one thread for a clip and epoch, exemplars included: of AV-CIL's network, of avcil, of l3. From
    #: docs/reproduce.md, which tells how they were measured.
    learning: tuple[float, float, float]


COSTS = {
    "released": Cost(TokenShape(1, 768, 8, 196, 768), None, (0.054, 0.12, 0.017)),
    "sam-audio": Cost(TokenShape(50, 128, 8, 64, 1024), (8 * 1.7 + 5, 8 * 3.1 + 5), (0.030, 0.064, 0.0098)),
    "pe-av": Cost(TokenShape(50, 1792, 16, 64, 1024), (16 * 1.7 + 5, 16 * 3.1 + 5), (0.059, 0.10, 0.016)),
    "signal": Cost(TokenShape(32, 64, 8, 64, 231), (42 / 780, 5 * 42 / 780), (0.0028, 0.0052, 0.0017)),
}


@dataclass(frozen=True)
class Options:
    data: Path = Path("data")  #: folder of what was downloaded
    out: Path = Path("results")  #: folder of features, logs, reports and tables
    only: tuple[Literal["ave", "kinetics-sounds", "vggsound100"], ...] = ("ave", "kinetics-sounds", "vggsound100")
    features: Literal["released", "sam-audio", "pe-av", "signal"] = "released"  #: AV-CIL's, or those of an encoder
    model: str | None = None  #: of sam-audio or pe-av: a folder, or an id of the Hugging Face hub
    seeds: int = 3  #: how many, all on the protocol's own class order
    validation: Literal["none", "current", "all-seen"] = "none"  #: clips that choose the epoch; AV-CIL's: all-seen
    read_pickle: bool = False  #: you trust where the released features come from: they are pickled
    workers: int | None = None  #: processes that learn side by side; none: one a core; 0: this process
    plan: bool = False  #: say what is there and what it will take, and stop
    quick: bool = False  #: one seed and two epochs, to try this script out: the numbers mean nothing

    @property
    def root(self) -> Path:
        return self.out / (f"{self.features}-quick" if self.quick else self.features)

    @property
    def runs(self) -> int:
        return 1 if self.quick else self.seeds


def settings_of(benchmark: Benchmark, quick: bool) -> dict[str, Any]:
    """Learner -> its settings: the defaults, which are the papers', and what AV-CIL sets for this benchmark."""
    own = {name: LEARNERS.load(name).Settings() for name in (*TRAINED, "l3")}
    for name in ("finetune", "joint"):
        own[name] = changed(own[name], {"network": AVCIL_NETWORK, "train": AVCIL_TRAIN})
    own["avcil"] = changed(own["avcil"], {"instance_weight": benchmark.instance_weight})
    epochs = dict.fromkeys(own, 2) if quick else dict(zip(TRAINED, benchmark.epochs, strict=True))
    return own | {name: changed(own[name], {"train.epochs": count}) for name, count in epochs.items()}


def plan(benchmark: Benchmark, options: Options) -> str:
    """What is there of a benchmark, and what that will take; of one that is missing, what all of it would."""
    here = None
    if benchmark.folder(options).is_dir():
        dataset = open_dataset(benchmark.source(options), read_pickle=options.read_pickle)
        here = sum(len(clips) for clips in dataset.splits.values())
    clips = here or benchmark.clips
    cost = COSTS[options.features]
    shape, (network, avcil, l3) = cost.shape, cost.learning
    disk = 2 * clips * (shape.audio_tokens * shape.audio_dim + shape.frames * shape.patches * shape.visual_dim)
    hours = [_about(seconds * clips / 3600) for seconds in cost.encoding or ()]
    encoding = f"{' to '.join(hours)} h to encode" if hours else "hours to convert not measured"
    # Joint training learns former sessions' clips again; all ways of l3 are trained.
    each = {"avcil": avcil, "ssil": avcil, "joint": network * (benchmark.sessions + 1) / 2, "l3": l3 * len(L3)}
    passes = sum(each.get(name, network) * s.train.epochs for name, s in settings_of(benchmark, options.quick).items())
    learning = passes * benchmark.learnt * clips / benchmark.clips * options.runs / 3600
    found = f"{here:,} of {benchmark.clips:,} clips in" if here else f"{benchmark.clips:,} clips: MISSING, there is no"
    return (
        f"{benchmark.title}, {found} {benchmark.folder(options)}\n"
        f"    features {disk / 1e9:,.1f} GB; {encoding}; about {_about(learning)} h of one thread to learn"
    )


def _about(hours: float) -> str:
    return f"{float(f'{hours:.2g}'):,g}"


def measure(benchmark: Benchmark, options: Options) -> None:
    """Encode, learn, report; what is done already is not redone."""
    harkback.bench(
        benchmark.source(options),
        options.root / benchmark.name,
        encoder=None if options.features == "released" else options.features,
        model=options.model,
        store=options.out / options.features / benchmark.name / "features",  # Also of --quick: encoding takes longest.
        read_pickle=options.read_pickle,
        workers=options.workers,
        learners=ROWS,
        seeds=tuple(range(options.runs)),
        validation=options.validation,
        reference="l3",
        settings=settings_of(benchmark, options.quick),
    )
    write_report(options.root / benchmark.name)


def write_tables(root: Path) -> str:
    """One table over all benches that have a report, as tables.md and tables.tex; returns the first."""
    paths = {benchmark.name: root / benchmark.name / "report.json" for benchmark in BENCHMARKS}
    reports = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items() if path.exists()}
    rows = [defaultdict(lambda: None, learner=name, cumulative=name == "joint") for name in ROWS]
    for name, report in reports.items():
        found = {row["learner"]: row for row in report["rows"]}
        for line in rows:
            line |= {f"{name} {key}": number for key, number in found.get(line["learner"], {}).items()}
    columns = [column for benchmark in BENCHMARKS for column in _columns(benchmark, benchmark.name in reports)]
    notes = [_note(benchmark.title, reports[benchmark.name]) for benchmark in BENCHMARKS if benchmark.name in reports]
    text = "\n".join([*markdown_table(rows, columns), "", *(f"* {plain(note)}" for note in notes), ""])
    paper = latex_table(rows, columns, " ".join(notes))
    for name, whole_text in (("tables.md", text), ("tables.tex", paper)):
        with whole(root / name) as temporary:
            temporary.write_text(whole_text, encoding="utf-8")
    return text


def _columns(benchmark: Benchmark, ran: bool) -> list[Column]:
    name, title = benchmark.name, benchmark.title
    columns = [
        shares(f"{title} mean", "%", f"{name} mean_accuracy", f"{name} ci95"),
        shares(f"{title} final", "%", f"{name} final_accuracy", f"{name} final_ci95"),
        shares(f"{title} forgetting", "points", f"{name} average_forgetting", better=min),
    ]
    return columns if ran else [replace(column, text=lambda _: "", better=None) for column in columns]


def _note(title: str, report: dict[str, Any]) -> str:
    changes = ", ".join(report["protocol"]["changed"]) or "nothing"
    return (
        f"{title}: features of {report['encoder']}, {report['training_clips']} clips learnt, {report['test_clips']} "
        f"asked, {report['memory']} exemplars, runs: {report['rows'][0]['runs']}, validation: {report['validation']}, "
        f"other than in the protocol: {changes}."
    )


def run(options: Options) -> None:
    if options.features == "released" and options.model is not None:
        raise HarkbackError("released features need no model", where="--model", mend="leave it out")
    if options.seeds < 1:
        raise HarkbackError(f"{options.seeds} asks for none", where="--seeds", mend="give a number of at least 1")
    chosen = [benchmark for benchmark in BENCHMARKS if benchmark.name in options.only]
    for benchmark in chosen:
        print(plan(benchmark, options), flush=True)
    print("Figures are those of two hardware threads without a GPU (docs/reproduce.md); on a GPU none was measured.")
    there = [benchmark for benchmark in chosen if benchmark.folder(options).is_dir()]
    if options.plan:
        return
    if not there:
        raise HarkbackError("nothing to do", where=options.data, mend="see docs/reproduce.md for what to download")
    for benchmark in there:
        measure(benchmark, options)
        text = write_tables(options.root)
    print(f"\n{text}\nwrote tables.md and tables.tex in {options.root}, and a report in each folder there")


def main(argv: Sequence[str] | None = None) -> None:
    try:
        run(tyro.cli(Options, args=argv, description=__doc__))
    except (HarkbackError, KeyboardInterrupt) as error:
        stopped = "stopped; what was finished is kept: the same command goes on from there"
        print(f"reproduce_avcil: {str(error) or stopped}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
