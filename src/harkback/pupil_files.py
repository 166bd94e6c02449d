"""A pupil as the contents of a model's folder, and back."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from typing import Any

import harkback
from harkback.card import card
from harkback.contestants import changed
from harkback.errors import HarkbackError, starved
from harkback.examiner import Examiner
from harkback.ledger import Entries
from harkback.pupil import Pupil
from harkback.registry import LEARNERS
from harkback.shapes import check, natural, number
from harkback.state import State
from harkback.unknown import Calibration
from harkback.versions import FACTS, FORMAT, LEDGER, MEMORY, MEND, MODEL, Contents, Version

EXEMPLARS = "memory/"  #: what the names of a learner's exemplars begin with: they lie with what is retained


def _forgets(did: Any) -> bool:
    return bool(did == "forget")


def _teaches(did: Any) -> bool:
    return bool(did == "teach")


def _marks(found: Any) -> bool:
    """[right, asked]"""
    return isinstance(found, list) and len(found) == 2 and all(map(natural, found)) and 0 < found[1] >= found[0]


#: What model.json must say. What only a learner, an encoder or a calibration reads is theirs to check.
SHAPE = {
    "harkback": str,
    "name": str,
    "version": natural,
    "classes": [str],
    "learner": {"name": str, "settings": dict, "memory": natural, "seed": natural},
    "encoder": {"name": str, "revision": str, "licence": str, "shape": {...: natural}},
    "encoder_key": str,
    "encoder_model": (None, str),
    "encoder_settings": dict,
    "false_alarm": number,
    "history": natural,
    "calibration": dict,
    "sessions": [
        (
            {"did": _forgets, "time": str, "classes": natural},
            {
                "did": _teaches,
                "time": str,
                "clips": {...: [str]},
                "new": [str],
                "exam?": {...: _marks},
                "skipped?": natural,
                "window?": number,
                "seconds?": number,
                "before?": {"right": natural, "asked": natural, "right_after": natural},
                "strangers?": (None, {"told": natural, "asked": natural, "auroc": number}),
            },
        )
    ],
    "ledger": [str],
}


def contents(pupil: Pupil, name: str, ledger: dict[str, Entries]) -> Contents:
    """What the folder shall hold. name: of the model; ledger: the ledger's files that are new or changed."""
    state = pupil.learner.state()
    exemplars = {key: array for key, array in state.items() if key.startswith(EXEMPLARS)}
    facts = {
        "format": FORMAT,
        "harkback": harkback.__version__,
        "name": name,
        "version": pupil.version,
        "classes": list(pupil.classes),
        "learner": {
            "name": pupil.kind,
            "settings": asdict(pupil.learner.settings),
            "memory": pupil.learner.budget,
            "seed": pupil.seed,
        },
        "encoder": pupil.encoder,
        "encoder_key": pupil.encoder_key,
        "encoder_model": pupil.source,
        "encoder_settings": pupil.encoder_settings,
        "false_alarm": pupil.false_alarm,
        "history": pupil.history,
        "calibration": pupil.calibration.facts(),
        "sessions": pupil.records,
        "ledger": pupil.ledger,
    }
    memory = {
        **{f"learner/{key}": array for key, array in exemplars.items()},
        **{f"examiner/{key}": array for key, array in pupil.examiner.state().items()},
    }
    model = {key: array for key, array in state.items() if key not in exemplars}
    return Contents(facts, model, memory, {file: entries.pack() for file, entries in ledger.items()}, card(facts))


def restored(version: Version, *, whole: bool = True) -> Pupil:
    """The pupil of a version. whole: with what is retained; else it can only answer."""
    facts, path = version.facts, version.folder / FACTS
    check(facts, SHAPE, path, MEND)
    if not {name for record in facts["sessions"] for name in record.get("clips", ())} <= {*facts["classes"]}:
        raise HarkbackError("tells of clips of classes that it does not know", where=path, mend=MEND)
    try:
        learner_facts = facts["learner"]
        kind = LEARNERS.load(learner_facts["name"])
        learner = kind(
            settings_from(kind.Settings(), learner_facts["settings"]),
            memory=learner_facts["memory"],
            seed=learner_facts["seed"],
        )
        memory = version.arrays(MEMORY) if whole else {}
        learner.restore({**version.arrays(MODEL), **_under("learner/", memory)})
        examiner = Examiner(learner, learner_facts["seed"])
        if whole:
            examiner.restore(_under("examiner/", memory))
        return Pupil(
            learner,
            learner_facts["name"],
            examiner,
            facts["encoder"],
            facts["encoder_key"],
            facts["encoder_model"],
            facts["encoder_settings"],
            learner_facts["seed"],
            facts["false_alarm"],
            facts["history"],
            facts["sessions"],
            Calibration.from_facts(facts["calibration"]),
            facts["version"],
            facts["ledger"],
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise HarkbackError(
            f"does not fit this version of harkback ({type(error).__name__}: {error})",
            where=version.folder,
            mend=f"open it with the version that wrote it, {facts.get('harkback')}",
        ) from error
    except (MemoryError, RuntimeError) as error:
        if not starved(error):
            raise
        what, mend = (
            "does not fit in memory with the settings that it has",
            "end other programs, if you trust this folder",
        )
        raise HarkbackError(what, where=path, mend=mend) from error


def ledger_of(version: Version) -> dict[str, Entries]:
    return {name: Entries.unpack(version.arrays(name)) for name in version.ledgers}


def ledger_file(version: int) -> str:
    return f"{LEDGER}/{version:04d}.safetensors"


def _under(start: str, state: State) -> State:
    return {key.removeprefix(start): array for key, array in state.items() if key.startswith(start)}


def settings_from(default: Any, facts: dict[str, Any]) -> Any:
    """Settings of the default's kind with these fields, nested ones too."""
    for name, value in facts.items():
        nested = getattr(default, name)
        default = changed(default, {name: settings_from(nested, value) if is_dataclass(nested) else value})
    return default
