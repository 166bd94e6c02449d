"""The command line. Results go to stdout, messages to stderr; a failure is one line and exit status 2."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from harkback import __version__
from harkback.errors import HarkbackError, one_line
from harkback.flags import at_least_none, class_orders, counted, names, numbers, parsed, with_settings

if TYPE_CHECKING:
    from harkback.datasets import Dataset
    from harkback.encoders import Encoder
    from harkback.harness import Bench

RUNS = Path("harkback-runs")
SHOWN = 20  #: clips that are left out for one reason, up to which each is named

#: The registries whose entries' settings are flags of a command.
SETTINGS = {"LEARNERS": ("bench",), "ENCODERS": ("bench", "extract")}


@dataclass(frozen=True, slots=True)
class Encoding:
    """What turns clips into features."""

    encoder: str | None = None  #: turns clips into features: signal (none), sam-audio, pe-av, or another installed one
    model: str | None = None  #: of sam-audio or pe-av: a folder, or an id of the Hugging Face hub
    device: str | None = None  #: where the model runs, like cuda or cpu; none: a GPU if there is one
    dtype: str | None = None  #: precision of the model, float32 or bfloat16; none: bfloat16 on a GPU, else float32

    def opened(self, settings: Mapping[str, Any]) -> Encoder:
        """settings: of each encoder that has some, by name."""
        from harkback.encoders import open_encoder

        name = self.encoder or "signal"
        return open_encoder(name, self.model, device=self.device, dtype=self.dtype, settings=settings.get(name))

    def opened_for(self, dataset: Dataset, settings: Mapping[str, Any]) -> Encoder | None:
        """None for a dataset that comes as features."""
        from harkback.datasets import Encoded

        if not isinstance(dataset, Encoded):
            return self.opened(settings)
        for flag in ("encoder", "model", "device", "dtype"):
            if getattr(self, flag) is not None:
                raise HarkbackError(f"{dataset.name} comes as features", where=f"--{flag}", mend="leave it out")
        return None


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
    workers: int | None = None  #: processes that learn side by side; none: one a core; 0: this process
    json: bool = False  #: print the result as JSON

    def run(self, settings: Mapping[str, Any]) -> None:
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
        )
        chosen.contestants()  # A name that is wrong is told before hours of encoding.
        encoder = self.encoding.opened_for(dataset, settings)
        workers = None if self.workers is None else at_least_none(self.workers, "--workers")
        out = self.out or RUNS / dataset.name
        _conclude(bench(dataset, encoder, chosen, out, self.store, workers=workers), self.json)


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
    workers: int | None = None  #: processes that decode; none: one a core; 0: this process
    json: bool = False  #: print the result as JSON

    def run(self, settings: Mapping[str, Any]) -> None:
        from harkback.material import extracted, spec_of
        from harkback.store import usual_store
        from harkback.wording import grouped

        dataset = _dataset(self.data, self.read_pickle)
        encoder = self.encoding.opened_for(dataset, settings)
        workers = None if self.workers is None else at_least_none(self.workers, "--workers")
        clips = [clip for split in dataset.splits.values() for clip in split]
        spec = spec_of(dataset, encoder)
        store = self.store or usual_store(RUNS / dataset.name, spec)
        done = extracted(dataset, clips, encoder, store, workers=workers)
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
                _say(f"left out: {len(group)} clips, such as {group[0]['id']}: {reason}")
                continue
            for skip in group:
                _say(f"left out: {skip['id']}: {skip['reason']}")
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


COMMANDS: dict[str, type[Any]] = {
    "demo": DemoCommand,
    "bench": BenchCommand,
    "extract": ExtractCommand,
    "report": ReportCommand,
    "doctor": DoctorCommand,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; exits with status 2 after one line if it cannot."""
    # Before torch is loaded: its threads must sleep, not spin, while they wait for one another. On a machine that does
    # other work besides, spinning made learning five times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help"):
        print(_overview())
        return
    if args[0] == "--version":
        print(f"harkback {__version__}")
        return
    try:
        _run(args[0], args[1:])
    except HarkbackError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        _fail("stopped; what was finished is kept: the same command goes on from there")
    except BrokenPipeError:  # The reader of our output went away, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}; check the disk and the permissions, then run the same command again")
    except Exception as error:
        if os.environ.get("HARKBACK_DEBUG"):
            raise
        _fail(
            f"this is a defect of harkback: {type(error).__name__}: {error}; "
            "please report it with what HARKBACK_DEBUG=1 in the environment prints"
        )


def _run(name: str, args: list[str]) -> None:
    if name not in COMMANDS:
        raise HarkbackError(f'there is no command "{name}"', mend=f"choose from {', '.join(COMMANDS)}")
    kinds = [registry for registry, commands in SETTINGS.items() if name in commands]
    if kinds:
        command, settings = with_settings(COMMANDS[name], name, args, kinds)
        command.run(settings)
    else:
        parsed(COMMANDS[name], name, args).run()


def _overview() -> str:
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:<{width}}  {(kind.__doc__ or '').strip()}" for name, kind in COMMANDS.items())
    return (
        "usage: harkback COMMAND [OPTIONS]\n\n"
        "An audio-visual classifier that is taught new classes and does not forget the old ones.\n\n"
        f"commands:\n{commands}\n\nharkback COMMAND --help tells a command's options, defaults and units."
    )


def _dataset(source: str, read_pickle: bool) -> Dataset:
    from harkback.datasets import open_dataset

    dataset = open_dataset(source, read_pickle=read_pickle)
    missing = getattr(dataset, "shortfall", "")  # Of a benchmark of which not all clips are there.
    if missing:
        _say(f"{dataset.name}: {missing}")
    return dataset


def _conclude(finished: Bench, as_json: bool) -> None:
    skips = finished.material.skips
    if skips:
        _say(f"{len(skips)} clips were left out, the first: {skips[0].id}: {skips[0].reason}; the report lists all")
    _report(finished.out, as_json)


def _report(out: Path, as_json: bool, reference: str | None = None) -> None:
    from harkback.report import write_report

    written = write_report(out, reference)
    if as_json:
        print(json.dumps(json.loads((out / "report.json").read_text("utf-8")), ensure_ascii=False))
    else:
        print((out / "report.md").read_text("utf-8"))
    for path in written:
        _say(f"wrote {path}")
    if not any(path.suffix == ".html" for path in written):
        _say('for the report as a page with pictures: pip install "harkback[report]"')


def _say(line: str) -> None:
    print(one_line(line), file=sys.stderr)


def _fail(line: str) -> None:
    _say(f"harkback: {line}")
    sys.exit(2)
