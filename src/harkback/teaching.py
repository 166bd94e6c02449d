"""A folder of clips and a model's folder -> the model, taught: what it costs is known before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harkback import examples
from harkback.clips import Skip
from harkback.confined import DECODING, Limits
from harkback.encoders import Encoder, open_encoder
from harkback.errors import HarkbackError
from harkback.files import read_json, write_json
from harkback.lesson import Lesson, clips_of, prepared
from harkback.pupil import Pupil, checked_rate
from harkback.pupil_files import contents, ledger_file, restored, settings_from
from harkback.registry import ENCODERS
from harkback.vault import Vault

MAX_DROP = 0.2  #: of the clips retained of old classes, the share that a session may cost
FEATURES = ".features"  #: in a model's folder: what was encoded for a session, until it is learnt
#: In a model's folder: where the encoder's model lies on this machine. No part of the model, which others may be given.
WEIGHTS = ".encoder-model"

Tell = Callable[[str], None]


def silent(_: str) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True)
class Making:
    """How a model is made; None: the default, or as the model has it. What is fixed then cannot be changed later."""

    learner: str | None = None  #: by name; none: hark
    settings: Mapping[str, Any] = field(default_factory=dict)  #: of learners and encoders, by name
    encoder: str | None = None  #: by name; none: signal
    encoder_model: str | None = None  #: folder or hub id of the encoder's model
    device: str | None = None
    dtype: str | None = None
    memory: int | None = None  #: clips that are retained in all; none: 200
    seed: int | None = None  #: of everything that is drawn; none: 0
    false_alarm: float | None = None  #: share of known clips that may be called unknown; none: 0.05; may change
    history: int | None = None  #: versions kept to step back to; none: 3; may change


@dataclass(frozen=True, slots=True)
class Taught:
    """What a session did, or would do."""

    record: Mapping[str, Any]  #: as in model.json
    counts: Mapping[str, int]  #: clips learnt of each class, in all
    skips: tuple[Skip, ...]
    written: bool


def teach(
    path: str | Path,
    clips: str | Path,
    *,
    making: Making | None = None,
    classes: Sequence[str] = (),
    max_drop: float = MAX_DROP,
    force: bool = False,
    dry_run: bool = False,
    store: str | Path | None = None,
    workers: int | None = 0,
    encoder: Encoder | None = None,
    pictures: bool = True,
    tell: Tell = silent,
) -> Taught:
    """Teach a model the clips of a folder; makes the model if there is none.

    classes: only these, in this order; none: all. max_drop: by how many of the clips retained of old classes, as a
    share, right answers may become fewer; more is refused, unless ``force``. A single clip is never held against a
    session. dry_run: change nothing. store: a folder where features are kept; None: they are gone
    when the session is learnt. workers: processes that decode; None: one a core; 0: this process,
    which a file that crashes a decoder takes along. encoder: the model's,
    if it is open already. pictures: keep some small ones of each class for people (`harkback.examples`). tell: is told
    what is waited for. Raises `HarkbackError`; the model is then as it was.
    """
    vault, made = Vault(Path(path)), making or Making()
    vault.check_place()
    facts = vault.read(lambda version: version.facts) if vault.exists else None
    clips_of(str(clips), classes, facts["classes"] if facts else ())  # What cannot be is told before anything is made.
    encoder = encoder or _encoder(facts, made, vault.path)
    with _somewhere(vault, store, encoder, dry_run, tell) as features:
        pupil = _pupil(vault, made, encoder)
        found, skips = clips_of(str(clips), classes, pupil.classes)
        lesson = prepared(str(clips), found, encoder, features, pupil.learnt(), workers)
        skips += lesson.skips
        record = pupil.teach(lesson.features, lesson.labels, skipped=len(skips), window=lesson.window)
        taught = Taught(record, pupil.counts(), skips, written=not dry_run)
        if not dry_run:
            _check_drop(record, max_drop, force)
            pupil.version += 1
            entries, ledger = pupil.entries(), {}
            if entries.found:
                ledger[ledger_file(pupil.version)] = entries
                pupil.ledger = [*pupil.ledger, *ledger]
            if (weights := _local(made)) is not None:
                write_json(vault.path / WEIGHTS, str(weights.resolve()))
            vault.commit(contents(pupil, vault.name, ledger))
            if pictures:
                _keep_pictures(vault.path, facts, lesson, None if workers == 0 else DECODING, tell)
            vault.drop(FEATURES)
    return taught


def _keep_pictures(
    folder: Path, facts: Mapping[str, Any] | None, lesson: Lesson, limits: Limits | None, tell: Tell
) -> None:
    """facts: of the model before this session."""
    try:
        before = examples.learnt(facts) if facts else {}
        examples.keep(folder, zip(lesson.features.ids, lesson.clips, strict=True), before, limits)
    except HarkbackError as error:  # The model is taught; that stands.
        tell(f"pictures of the new clips could not be kept: {error}")


def too_dear(record: Mapping[str, Any], max_drop: float) -> bool:
    """Whether a session's record says that it costs more of the old classes than may be lost."""
    cost = record.get("before") or {"asked": 0, "right": 0, "right_after": 0}
    return bool(cost["right"] - cost["right_after"] > max(1, max_drop * cost["asked"]))


@contextmanager
def _somewhere(vault: Vault, store: str | Path | None, encoder: Encoder, dry_run: bool, tell: Tell) -> Iterator[Path]:
    """Where features go; with the right to change the model, unless it is not going to be."""
    if dry_run:
        with TemporaryDirectory() as scratch:
            yield Path(store if store is not None else scratch)
        return
    with vault.changing(tell):
        # Of each encoder apart: a new model may have been begun with another.
        yield Path(store) if store is not None else vault.path / FEATURES / encoder.spec.key


def _pupil(vault: Vault, making: Making, encoder: Encoder) -> Pupil:
    """The model as it is, or a new one, with those settings that may change."""
    if not vault.exists:
        kind = making.learner or "hark"
        _check_settings(making, {kind: None, encoder.spec.name: None})
        given: dict[str, Any] = {
            "memory": making.memory,
            "seed": making.seed,
            "false_alarm": making.false_alarm,
            "history": making.history,
        }
        return Pupil.new(
            kind,
            making.settings.get(kind),
            encoder.spec,
            source=None if _local(making) else making.encoder_model,
            encoder_settings=_fields(making.settings.get(encoder.spec.name)),
            **{name: value for name, value in given.items() if value is not None},
        )
    pupil = vault.read(restored)
    _check_settings(making, {pupil.kind: asdict(pupil.learner.settings), pupil.encoder["name"]: pupil.encoder_settings})
    fixed = {
        "--learner": (making.learner, pupil.kind),
        "--memory": (making.memory, pupil.learner.budget),
        "--seed": (making.seed, pupil.seed),
        "--encoder": (making.encoder, pupil.encoder["name"]),
    }
    for flag, (asked, has) in fixed.items():
        if asked is not None and asked != has:
            raise HarkbackError(
                f"this model was made with {has}, not {asked}", where=flag, mend="leave it out, or make a new model"
            )
    _same_encoder(encoder, pupil.encoder, pupil.encoder_key)
    if making.false_alarm is not None:
        pupil.false_alarm = checked_rate(making.false_alarm)
    if making.history is not None:
        pupil.history = making.history
    return pupil


def _check_settings(making: Making, fixed: Mapping[str, dict[str, Any] | None]) -> None:
    """fixed: learner and encoder of the model, and the settings that they have already; None: they are free."""
    for name, asked in making.settings.items():
        if asked == type(asked)():  # Nothing but defaults: it was only named.
            continue
        if name not in fixed:
            raise HarkbackError(f"this model has no part in {name}", where=f"--{name}", mend="leave its settings out")
        if fixed[name] is not None and asdict(asked) != fixed[name]:
            what = f"the settings of {name} were fixed when the model was made"
            raise HarkbackError(what, where=f"--{name}", mend="leave them out, or make a new model")


def _encoder(facts: Mapping[str, Any] | None, making: Making, folder: Path) -> Encoder:
    if facts is not None:
        return encoder_of(facts, making, folder)
    name = making.encoder or "signal"
    settings = making.settings.get(name)
    return open_encoder(name, making.encoder_model, device=making.device, dtype=making.dtype, settings=settings)


def _local(making: Making) -> Path | None:
    """The folder of the encoder's model, if it is one of this machine."""
    path = None if making.encoder_model is None else Path(making.encoder_model)
    return path if path is not None and path.exists() else None


def encoder_of(facts: Mapping[str, Any], making: Making, folder: Path) -> Encoder:
    """The encoder on whose features a model was taught. facts: its model.json; folder: the model's."""
    name = facts["encoder"]["name"]
    kind = ENCODERS.load(name)
    settings = settings_from(kind.Settings(), facts["encoder_settings"]) if hasattr(kind, "Settings") else None
    here = folder / WEIGHTS
    model = making.encoder_model or facts["encoder_model"] or (read_json(here) if here.exists() else None)
    encoder = open_encoder(name, model, device=making.device, dtype=making.dtype, settings=settings)
    _same_encoder(encoder, facts["encoder"], facts["encoder_key"])
    return encoder


def _same_encoder(encoder: Encoder, facts: Mapping[str, Any], key: str) -> None:
    if encoder.spec.key != key:
        spec = encoder.spec
        raise HarkbackError(
            f"the model was taught on features of {facts['name']} revision {facts['revision']}, and these would be of "
            f"{spec.name} revision {spec.revision}, or otherwise prepared",
            mend="give the encoder and --model it was made with",
        )


def _check_drop(record: Mapping[str, Any], max_drop: float, force: bool) -> None:
    if not force and too_dear(record, max_drop):
        cost = record["before"]
        raise HarkbackError(
            f"of {cost['asked']} clips of the old classes, {cost['right']} were told rightly before this session and "
            f"{cost['right_after']} would be after it; --max-drop {max_drop:g} forbids that, so nothing was changed",
            mend="teach more clips of the classes it confuses, or say --force",
        )


def _fields(settings: Any) -> dict[str, Any]:
    return {} if settings is None else asdict(settings)
