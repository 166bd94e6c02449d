"""A model that a person can hold: a folder that is taught, asked, stepped back and made to forget."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from harkback import examples
from harkback.answers import Answer, ask, merged
from harkback.confined import Limits
from harkback.encoders import Encoder
from harkback.errors import HarkbackError
from harkback.features import TokenShape, blank
from harkback.forgetting import How, forget
from harkback.learners.base import Learner
from harkback.ledger import Entries, strangeness
from harkback.pupil_files import contents, ledger_of, restored
from harkback.teaching import FEATURES, Making, Taught, Tell, encoder_of, silent, teach
from harkback.unknown import Examined, examined
from harkback.vault import Vault
from harkback.versions import CARD, FACTS
from harkback.windows import SHORTEST


class Model:
    """A model's folder. Every change is on the disk when the call returns, whole, or was never made."""

    def __init__(self, path: str | Path) -> None:
        """Open it to ask; `HarkbackError` if it is none, or damaged."""
        self.path = Path(path)
        self._vault = Vault(self.path)
        self._encoder: Encoder | None = None
        self._refresh()

    def refresh(self) -> bool:
        """Look whether another process has changed the folder since; if so, be what it holds now, and return True."""
        state = self._vault.state()
        if state == self._seen and state is not None:
            return False
        before = self.facts["encoder_key"]
        self._refresh()
        if self.facts["encoder_key"] != before:  # Another model has come in its place.
            self._encoder = None
        return True

    def _refresh(self) -> None:
        self._seen = self._vault.state()
        self.facts, self.pupil = self._vault.read(
            lambda version: (version.facts, restored(version, whole=False))
        )  #: model.json, and the model in memory, without the clips that are retained

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order in which they were learnt: column ``i`` of scores is ``classes[i]``."""
        return self.pupil.classes

    @property
    def learner(self) -> Learner[Any]:
        """What answers, with all that it knows."""
        return self.pupil.learner

    # ---- asking ----

    def encoder(self, model: str | None = None, *, device: str | None = None, dtype: str | None = None) -> Encoder:
        """The encoder whose features it was taught on. model: where its weights lie, if not where they lay then."""
        if self._encoder is None or (model, device, dtype) != (None, None, None):
            self._encoder = encoder_of(self.facts, Making(encoder_model=model, device=device, dtype=dtype), self.path)
            # What a learner makes when it is first asked is made now: the first answer is as quick as those to come.
            silence = blank(self._encoder.spec.shape)
            self.learner.scores(silence)
            strangeness(self.learner, silence)
        return self._encoder

    def predict(
        self,
        file: str | Path,
        *,
        window: float | None = None,
        false_alarm: float | None = None,
        merge: bool = True,
        limits: Limits | None = None,
    ) -> list[Answer]:
        """What is in a file, in time order. window: seconds; None: as long as the clips it was taught; 0: all at once.

        false_alarm: the share of clips of known classes that may be called unknown; None: the model's own. merge:
        make neighbouring windows with the same answer one. limits: those of a process of its own in which the file is
        decoded, such as `harkback.confined.DECODING`; None: it is decoded in this one, which a file that crashes a
        decoder takes along. Raises `harkback.media.MediaError` for a file that cannot be read.
        """
        length = self.window if window is None else window
        rate = self.pupil.false_alarm if false_alarm is None else false_alarm
        answers = ask(
            Path(file),
            self.encoder(),
            self.learner,
            self.pupil.calibration,
            window=length or None,
            false_alarm=rate,
            limits=limits,
        )
        return merged(answers) if merge else answers

    @property
    def window(self) -> float:
        """Seconds that the clips of its last session lasted, typically; 0: they were pictures, or nobody knows."""
        found = (record.get("window", 0.0) for record in reversed(self.pupil.records))
        return next((float(seconds) for seconds in found if seconds >= SHORTEST), 0.0)

    def examined(self) -> Examined:
        """The last exam: accuracy, calibration error and false alarms of retained clips, each as if not learnt."""
        facts, (scores, truth, strange) = self._exam()
        return examined(scores, truth, facts["false_alarm"], strange=strange)

    def _exam(self) -> tuple[dict[str, Any], tuple[Tensor, Tensor, Tensor | None]]:
        """model.json and the last exam, of one version."""
        return self._vault.read(lambda version: (version.facts, restored(version).examiner.exam))

    # ---- changing ----

    def teach(self, clips: str | Path, **options: Any) -> Taught:
        """Teach it a folder of clips; options: of `teach`."""
        taught = teach(self.path, clips, **options)
        self._refresh()
        return taught

    def forget(self, name: str, tell: Tell = silent) -> How:
        """Take a class out of the model and of every version that is kept; see `harkback.forgetting`."""
        with self._vault.changing(tell):
            version = self._vault.read(lambda version: version)
            pupil, ledger = restored(version), ledger_of(version)
            former = [restored(each) for each in self._vault.versions()]
            before = {file: Entries.unpack(entries.pack()) for file, entries in ledger.items()}
            touched = [file for file, entries in ledger.items() if entries.has(name)]
            how = forget(pupil, name, ledger)
            pupil.version += 1
            examples.sweep(self.path, pupil.learnt())  # First: a picture less does no harm, one that stays does.
            kept = []
            for each in former:
                if name in each.classes:
                    if len(each.classes) == 1:
                        continue  # There would be nothing left of it.
                    forget(each, name, {file: Entries.unpack(before[file].pack()) for file in each.ledger})
                kept.append(contents(each, self._vault.name, {}))
            changed = {file: ledger[file] for file in touched}
            self._vault.commit(contents(pupil, self._vault.name, changed), kept)
            self._vault.drop(FEATURES)
        self._refresh()
        return how

    def undo(self, tell: Tell = silent) -> None:
        """See `undo`."""
        undo(self.path, tell)
        self._refresh()

    # ---- passing on ----

    def export(self, out: str | Path) -> float:
        """Write it as ONNX, tokens to scores and attention; see `harkback.export.export`."""
        from harkback.export import export

        shape = TokenShape(**self.facts["encoder"]["shape"])
        retained = self._vault.read(restored).examiner.memory.features  # What its tokens are like, for the check.
        about = {name: json.dumps(self.facts[name]) for name in ("name", "encoder", "encoder_key", "calibration")}
        return export(self.learner, shape, Path(out), metadata=about, like=retained)

    def push(self, repository: str, *, message: str = "Taught with Harkback", forget_history: bool = False) -> str:
        """Publish it on the hub; see `harkback.hub.push`. Returns the address."""
        from harkback.hub import push

        with self._vault.changing(silent):  # What goes must stay one version until it has gone.
            files = [FACTS, CARD, *self._vault.read(lambda version: version.facts["files"])]
            return push(self.path, repository, files=files, message=message, forget_history=forget_history)

    def portrait(self, out: str | Path) -> Path:
        """Write what it knows, and how sure that is, as a page with pictures."""
        from harkback.portrait import portrait

        facts, (scores, truth, strange) = self._exam()
        return portrait(facts, scores, truth, Path(out), strange=strange)

    def sections(self) -> str:
        """The same as the sections of another page, which has the style sheets of ours (extra "report")."""
        from harkback.portrait import sitter
        from harkback.portrait_page import render

        facts, (scores, truth, strange) = self._exam()
        return render(sitter(facts, scores, truth, strange), alone=False)


def undo(path: str | Path, tell: Tell = silent) -> None:
    """Step a model back to the version before, byte for byte, even if its present one is damaged.

    What is undone is gone. `HarkbackError` if no version is kept.
    """
    vault = Vault(Path(path))
    if not vault.exists:
        raise HarkbackError("is no model", where=path, mend="check the path")
    with vault.changing(tell):

        def sweep(facts: dict[str, Any]) -> None:  # First, as in `Model.forget`.
            examples.sweep(vault.path, {key for keys in examples.learnt(facts).values() for key in keys})

        vault.undo(sweep)
