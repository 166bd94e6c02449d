"""A model's folder: files that change all together or not at all, and the versions before, to step back to.

    model.json          facts, and the SHA-256 of every file below; whoever has read it knows what the rest must be
    model.safetensors   what answers
    memory.safetensors  what is retained of clips
    ledger/0001.safetensors ...  what each session added to sums (learners that can forget exactly)
    README.md           the model card
    history/0001/ ...   the same files of versions before (their ledger is the part of this one that they name)
    .lock .next .now .features   who is at work; what is being written; what is being moved in; what is being encoded

A change is written to ``.next`` in whole, then renamed to ``.now``: from that moment it has happened, and whoever comes
after a kill moves the rest in. Before, it never was.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import sleep
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from harkback.errors import HarkbackError
from harkback.files import explained, sweep
from harkback.versions import CARD, FACTS, LEDGER, MEND, Contents, Moved, Version, read_facts, stamp

T = TypeVar("T")

HISTORY = "history"
PATIENCE = 600.0  #: seconds that a change waits for another one
TRIES, PAUSE = 40, 0.05  #: how often, and after how many seconds, a reader looks again at what is being moved in


class Vault:
    """The folder of one model."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def exists(self) -> bool:
        """Even if nothing but versions before is left. Asked in this order, what is being moved in is not missed."""
        return any((folder / FACTS).exists() for folder in (self.path / ".now", self.path, *self._kept()))

    @property
    def keeps(self) -> bool:
        """A version before this one, to step back to."""
        return bool(self._kept())

    def check_place(self) -> None:
        """Raise `HarkbackError` if something else than a model is there."""
        if self.path.exists() and not self.exists and (not self.path.is_dir() or any(self.path.glob("[!.]*"))):
            raise HarkbackError("is no model", where=self.path, mend="give the folder of a model, or one that is new")

    @contextmanager
    def changing(self, tell: Callable[[str], None], patience: float = PATIENCE) -> Iterator[None]:
        """The right to change the model, for one process at a time; what a killed one left is put in order first."""
        self.check_place()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / ".lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                tell(f"{self.path}: another process changes this model; waiting for it")
                lock.acquire(timeout=patience)
        except Timeout:
            raise HarkbackError(
                f"another process has been changing this model for {patience:g} s",
                where=self.path,
                mend="try again when it has finished; nothing was changed",
            ) from None
        except OSError as error:
            raise explained(error, self.path) from error
        try:
            self._settle()
            yield
        except OSError as error:
            raise explained(error, self.path) from error
        finally:
            shutil.rmtree(self.path / ".next", ignore_errors=True)
            lock.release()

    # ---- reading ----

    def read(self, load: Callable[[Version], T]) -> T:
        """What ``load`` makes of the model as it is: all of a change or nothing of it, without waiting for the lock."""
        if not self.exists:
            what = "is no model" if self.path.exists() else "no such model"
            raise HarkbackError(what, where=self.path, mend="check the path, or make it: harkback teach MODEL CLIPS")
        for _ in range(TRIES):
            before = self.state()
            try:
                return load(self._version(self.path, self._newest))
            except HarkbackError as error:
                if not isinstance(error, Moved) and before is not None and before == self.state():
                    raise
                sleep(PAUSE)  # It was being moved in while we read.
        return load(self._version(self.path, self._newest))

    def state(self) -> tuple[int, ...] | None:
        """What tells one version from the next; (): there is none; None: one is just being moved in."""
        return None if (self.path / ".now").exists() else stamp(self.path / FACTS) or ()

    def _newest(self, name: str) -> Path:
        """Where a file is while it may be on its way in."""
        coming = self.path / ".now" / name
        return coming if coming.exists() else self.path / name

    def _version(self, folder: Path, find: Callable[[str], Path], mend: str = "") -> Version:
        return Version(folder, read_facts(find(FACTS), mend or MEND), find, mend or MEND)

    def versions(self) -> list[Version]:
        """The versions before, the oldest first; those who may change the model call it."""
        return [self._former(folder) for folder in self._kept()]

    def _former(self, folder: Path) -> Version:
        return self._version(folder, self._within(folder), f"delete {folder}, to do without that version before")

    def _within(self, folder: Path) -> Callable[[str], Path]:
        """Where a former version's file is: its ledger is part of the model's."""
        return lambda name: (self.path if name.startswith(LEDGER) else folder) / name

    def _kept(self) -> list[Path]:
        folders = (self.path / HISTORY).glob("[0-9]*")
        numbered = (folder for folder in folders if folder.name.isdecimal() and folder.is_dir())
        return sorted(numbered, key=lambda folder: int(folder.name))

    # ---- changing, inside `changing` ----

    def commit(self, contents: Contents, former: list[Contents] | None = None) -> None:
        """Make these the model's contents. former: what its versions before shall be; None: as they are, and this one.

        ``ledger`` of the contents: the files that change; the others stay.
        """
        stage = self.path / ".next"
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir()
        known = self._known()
        contents.write(stage, known)
        if former is not None:
            (stage / HISTORY).mkdir()
            ledger = {name: sha for name, sha in read_facts(stage / FACTS)["files"].items() if name.startswith(LEDGER)}
            for kept in former:
                kept.write(stage / HISTORY / f"{kept.facts['version']:04d}", {**known, **ledger})
        elif (self.path / FACTS).exists():
            self._set_aside(stage)
        for folder in (*(path for path in stage.rglob("*") if path.is_dir()), stage):
            _sync(folder)
        stage.rename(self.path / ".now")
        self._settle()

    def undo(self, first: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
        """Step back to the version before; `HarkbackError` if none is kept.

        first: is given the facts of that version just before it happens.
        """
        kept = self._kept()
        if not kept:
            raise HarkbackError(
                "keeps no version before this one", where=self.path, mend="delete the folder to give the model up"
            )
        version = self._former(kept[-1])
        for name in version.facts["files"]:  # Not from bad to worse.
            version.check(name)
        first(version.facts)
        kept[-1].rename(self.path / ".now")
        self._settle()

    def drop(self, name: str) -> None:
        """Remove what lies in the folder besides; after a kill it is there as it was, or gone with the next change."""
        shutil.rmtree(self.path / ".next", ignore_errors=True)
        with suppress(FileNotFoundError):
            (self.path / name).rename(self.path / ".next")
        shutil.rmtree(self.path / ".next", ignore_errors=True)

    def _known(self) -> dict[str, str]:
        return dict(read_facts(self.path / FACTS)["files"]) if (self.path / FACTS).exists() else {}

    def _set_aside(self, stage: Path) -> None:
        """Put the present version into the stage, to become history with it."""
        facts = read_facts(self.path / FACTS)
        aside = stage / f"was-{facts['version']:04d}"
        aside.mkdir()
        for name in (FACTS, CARD, *facts["files"]):
            if not name.startswith(LEDGER) and (self.path / name).exists():
                _link(self.path / name, aside / name)

    def _settle(self) -> None:
        """Move in what has happened, drop what never did, and what is no longer needed. May be cut off anywhere."""
        shutil.rmtree(self.path / ".next", ignore_errors=True)
        for folder in (self.path, *self.path.glob(".*")):  # Pictures of what is to be forgotten, half written, too.
            sweep(folder)
        now = self.path / ".now"
        if now.exists():
            self._move_in(now)
            now.rmdir()
            _sync(self.path)
        if not (self.path / FACTS).exists():
            return
        try:
            facts = read_facts(self.path / FACTS)
        except HarkbackError:  # Damaged; what is done next says so, or mends it.
            return
        for folder in self._kept()[: -facts["history"] or None]:
            shutil.rmtree(folder)
        for path in (self.path / LEDGER).glob("*"):
            if f"{LEDGER}/{path.name}" not in facts["files"]:
                path.unlink()

    def _move_in(self, now: Path) -> None:
        if (now / HISTORY).exists():
            shutil.rmtree(self.path / HISTORY, ignore_errors=True)
            (now / HISTORY).rename(self.path / HISTORY)
        for aside in now.glob("was-*"):
            (self.path / HISTORY).mkdir(exist_ok=True)
            aside.rename(self.path / HISTORY / aside.name.removeprefix("was-"))
        if (now / LEDGER).exists():
            (self.path / LEDGER).mkdir(exist_ok=True)
            for path in (now / LEDGER).iterdir():
                path.replace(self.path / LEDGER / path.name)
            (now / LEDGER).rmdir()
        for path in sorted(now.iterdir(), key=lambda path: path.name == FACTS):  # The facts last: they name the others.
            path.replace(self.path / path.name)


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # A file system without such links.
        shutil.copy2(source, target)


def _sync(folder: Path) -> None:
    """The names in a folder reach the disk."""
    with suppress(OSError):  # Where folders cannot be opened.
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
