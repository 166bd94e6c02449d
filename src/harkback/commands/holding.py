"""The commands of a model: teach, predict, inspect, undo, forget, export, push, pull."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from harkback.commands.encoding import Encoding
from harkback.errors import HarkbackError
from harkback.flags import at_least_none, names
from harkback.messages import say

if TYPE_CHECKING:
    from harkback.answers import Answer
    from harkback.model import Model

MODEL = arg(metavar="MODEL")


@dataclass(frozen=True, slots=True)
class TeachCommand:
    """Teach a model the clips of a folder, a folder a class; makes the model if there is none.

    With --learner NAME, or --encoder NAME, --help tells the settings of that one too.
    """

    into: Annotated[Positional[Path], MODEL]  #: folder of the model
    clips: Annotated[Positional[str], arg(metavar="CLIPS")]  #: folder of clips: class/*, train/class/* or clips.csv
    classes: str | None = None  #: only these, in this order, with commas; none: all of the folder
    max_drop: float = 0.2  #: share of the old classes' clips that may be lost; beyond it the session is refused
    force: bool = False  #: teach however much is lost
    dry_run: bool = False  #: show what it would cost, and change nothing
    learner: str | None = None  #: of a new model; none: hark
    encoding: Annotated[Encoding, arg(name="")] = field(default_factory=Encoding)
    memory: int | None = None  #: clips of which a new model retains the features, in all; none: 200
    seed: int | None = None  #: of all that a new model draws; none: 0
    false_alarm: float | None = None  #: share of known clips that may be called unknown; none: 0.05, or as it is
    history: int | None = None  #: versions kept to step back to; none: 3, or as it is
    store: Path | None = None  #: folder where features are kept; none: they are gone when they are learnt
    pictures: bool = True  #: keep three small pictures of each class beside the model, for people to look at
    workers: int | None = None  #: processes that decode; none: one a core; 0: as 1
    json: bool = False  #: print the result as JSON

    def run(self, settings: Mapping[str, Any]) -> None:
        from dataclasses import asdict

        from harkback.teaching import Making, teach
        from harkback.told import session

        making = Making(
            self.learner,
            settings,
            self.encoding.encoder,
            self.encoding.model,
            self.encoding.device,
            self.encoding.dtype,
            None if self.memory is None else at_least_none(self.memory, "--memory"),
            None if self.seed is None else at_least_none(self.seed, "--seed"),
            self.false_alarm,
            None if self.history is None else at_least_none(self.history, "--history"),
        )
        if not self.max_drop >= 0:
            raise HarkbackError(f"{self.max_drop:g} is no share", where="--max-drop", mend="give 0 to 1")
        taught = teach(
            self.into,
            self.clips,
            making=making,
            classes=() if self.classes is None else names(self.classes, "--classes"),
            max_drop=self.max_drop,
            force=self.force,
            dry_run=self.dry_run,
            store=self.store,
            workers=None if self.workers is None else max(1, at_least_none(self.workers, "--workers")),
            pictures=self.pictures,
            tell=say,
        )
        for skip in taught.skips:
            say(f"left out: {skip.id}: {skip.reason}")
        if self.json:
            skips = [{"id": skip.id, "reason": skip.reason} for skip in taught.skips]
            _print({**asdict(taught), "skips": skips})
        else:
            print(session(self.into.resolve().name, taught))


@dataclass(frozen=True, slots=True)
class Weights:
    """Where the weights of a model's encoder lie, if it has some, and where they run."""

    model: str | None = None  #: the encoder's model, a folder or hub id; none: where it lay when it was taught
    device: str | None = None  #: where the encoder runs, like cuda or cpu; none: a GPU if there is one
    dtype: str | None = None  #: precision of the encoder, float32 or bfloat16; none: as fits the device


@dataclass(frozen=True, slots=True)
class PredictCommand:
    """Say what is in files: label, confidence and seconds, or unknown."""

    asked: Annotated[Positional[Path], MODEL]  #: folder of the model
    files: Annotated[Positional[tuple[Path, ...]], arg(metavar="FILES")]  #: videos, sound files or pictures
    window: float | None = None  #: seconds of a long file that are asked at once; none: as its clips; 0: the whole file
    merge: bool = True  #: make neighbouring windows with the same answer one
    false_alarm: float | None = None  #: share of known clips that may be called unknown; none: the model's own
    weights: Annotated[Weights, arg(name="")] = field(default_factory=Weights)
    explain: Path | None = None  #: folder for pictures of where it looked, and how much sound and picture counted
    vtt: Path | None = None  #: folder for WebVTT subtitles, a file each
    csv: bool = False  #: print the answers as CSV
    json: bool = False  #: print the answers as JSON

    def run(self) -> None:
        from harkback.workers import READERS, context

        if self.files:
            context(READERS)  # What reads the files loads while this process loads the rest.
        from harkback.confined import DECODING
        from harkback.media import MediaError
        from harkback.model import Model
        from harkback.pupil import checked_rate
        from harkback.transcript import as_csv, as_json, table

        if not self.files:
            raise HarkbackError("no file is given", mend="harkback predict MODEL FILES...")
        rate = None if self.false_alarm is None else checked_rate(self.false_alarm)
        model = Model(self.asked)
        model.encoder(self.weights.model, device=self.weights.device, dtype=self.weights.dtype)
        answers: list[Answer] = []
        failed: list[HarkbackError] = []
        titles = _apart(self.files)
        for file, title in zip(self.files, titles, strict=True):
            try:
                mine = model.predict(file, window=self.window, false_alarm=rate, merge=self.merge, limits=DECODING)
            except HarkbackError as error:  # One file must not cost the answers to the others.
                failed.append(error)
                continue
            answers += mine
            try:
                self._beside(model, file, title, mine)
            except MediaError as error:
                failed.append(error)
        if self.json:
            _print(as_json(answers))
        elif self.csv:
            print(as_csv(answers), end="")
        elif answers:
            print(table(answers))
        if model.pupil.calibration.threshold(model.pupil.false_alarm if rate is None else rate) is None:
            say("nothing is called unknown: the model retains too few clips to promise so few false alarms")
        for each in failed[:-1]:
            say(f"harkback: {each}")
        if failed:
            raise failed[-1]

    def _beside(self, model: Model, file: Path, title: str, answers: list[Answer]) -> None:
        from harkback.confined import DECODING
        from harkback.explain import explain
        from harkback.files import whole
        from harkback.transcript import as_vtt

        if self.vtt is not None:
            path = self.vtt / f"{title}.vtt"
            with whole(path) as temporary:
                temporary.write_text(as_vtt(answers), encoding="utf-8")
            say(f"wrote {path}")
        if self.explain is not None:
            for path in explain(file, answers, model.encoder(), model.learner, self.explain, DECODING):
                say(f"wrote {path}")


@dataclass(frozen=True, slots=True)
class InspectCommand:
    """What a model knows, how sure that is, and how it came to know it."""

    asked: Annotated[Positional[Path], MODEL]  #: folder of the model
    page: Path | None = None  #: also write it as a page with pictures, to this .html file
    json: bool = False  #: print it as JSON

    def run(self) -> None:
        from harkback.model import Model
        from harkback.told import portrait_of

        model = Model(self.asked)
        if self.json:
            _print(model.facts)
        else:
            print(portrait_of(model.facts, model.examined()))
        if self.page is not None:
            say(f"wrote {model.portrait(self.page)}")


@dataclass(frozen=True, slots=True)
class UndoCommand:
    """Step back to the version before the last session."""

    changed: Annotated[Positional[Path], MODEL]  #: folder of the model

    def run(self) -> None:
        from harkback.model import Model, undo

        undo(self.changed, say)
        print(f"{self.changed} is as it was before; it knows {', '.join(Model(self.changed).classes)}")


@dataclass(frozen=True, slots=True)
class ForgetCommand:
    """Take a class out of a model and of every version it keeps."""

    changed: Annotated[Positional[Path], MODEL]  #: folder of the model
    name: Annotated[Positional[str], arg(metavar="CLASS")]  #: the class

    def run(self) -> None:
        from harkback.model import Model

        model = Model(self.changed)
        how = model.forget(self.name, say)
        print(f"{self.changed} has forgotten it, {how}; it knows {', '.join(model.classes)}")


@dataclass(frozen=True, slots=True)
class ExportCommand:
    """Write a model as ONNX: tokens to scores and attention."""

    asked: Annotated[Positional[Path], MODEL]  #: folder of the model
    out: Annotated[Positional[Path], arg(metavar="OUT.onnx")]  #: the file

    def run(self) -> None:
        from harkback.model import Model

        difference = Model(self.asked).export(self.out)
        print(f"wrote {self.out}; on random clips it differs from PyTorch by {difference:.1e} at most")


@dataclass(frozen=True, slots=True)
class PushCommand:
    """Publish a model in a repository of the Hugging Face hub, private unless it exists and is not."""

    asked: Annotated[Positional[Path], MODEL]  #: folder of the model
    repository: Annotated[Positional[str], arg(metavar="OWNER/NAME")]  #: of the hub
    message: str = "Taught with Harkback"  #: of the commit
    forget_history: bool = False  #: squash the repository's history, which may hold what the model has forgotten

    def run(self) -> None:
        from harkback.model import Model

        print(Model(self.asked).push(self.repository, message=self.message, forget_history=self.forget_history))


@dataclass(frozen=True, slots=True)
class PullCommand:
    """Fetch a model from a repository of the Hugging Face hub."""

    repository: Annotated[Positional[str], arg(metavar="OWNER/NAME")]  #: of the hub
    into: Annotated[Positional[Path], MODEL]  #: a folder that is new or empty
    revision: str | None = None  #: branch, tag or commit; none: the newest

    def run(self) -> None:
        from harkback.hub import pull
        from harkback.model import Model

        pull(self.repository, self.into, revision=self.revision)
        print(f"{self.into} knows {', '.join(Model(self.into).classes)}")


def _apart(files: Sequence[Path]) -> list[str]:
    """A name for what is written about each file: its stem, with a number where two have the same."""
    names: list[str] = []
    for file in files:
        name, number = file.stem, 2
        while name in names:
            name, number = f"{file.stem}-{number}", number + 1
        names.append(name)
    return names


def _print(facts: Any) -> None:
    print(json.dumps(facts, ensure_ascii=False))
