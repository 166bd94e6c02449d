"""One version of a model as files: what is written, how it is checked, how an older format is brought up to date."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harkback.errors import HarkbackError
from harkback.files import digest, explained, fingerprint, read_arrays, read_json, whole, write_arrays, write_json
from harkback.shapes import check
from harkback.state import State

FORMAT = 1
#: From an older format to the next: takes the facts and returns them as the next format has them.
MIGRATIONS: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
FACTS, CARD = "model.json", "README.md"
MODEL, MEMORY = "model.safetensors", "memory.safetensors"
LEDGER = "ledger"
FILE = re.compile(r"(?:ledger/)?[A-Za-z0-9][\w-]*\.safetensors", re.ASCII)
MEND = "undo the last session, or take the folder from a backup"


class Moved(HarkbackError):
    """A file was moved in while it was read."""


@dataclass(frozen=True, slots=True)
class Version:
    """One state of a model, as it lies in a folder; arrays are read, and checked, when asked for."""

    folder: Path
    facts: dict[str, Any]
    _find: Callable[[str], Path]
    _mend: str

    def arrays(self, name: str) -> State:
        path = self._find(name)
        before = stamp(path)
        self.check(name)
        try:
            arrays = read_arrays(path, self._mend)
        except RuntimeError as error:  # PyTorch opens the file once more; it may have been moved away.
            raise Moved(f"cannot be read: {error}", where=path, mend=MEND) from error
        if stamp(path) != before:  # Then what was checked may not be what was read.
            raise Moved("changed while it was read", where=path, mend="try again")
        return arrays

    def check(self, name: str) -> None:
        """Raise `HarkbackError` unless the file is as it was written."""
        path = self._find(name)
        _check(path, self.facts["files"][name], self._mend if path.is_relative_to(self.folder) else MEND)

    @property
    def ledgers(self) -> list[str]:
        return [name for name in self.facts["files"] if name.startswith(f"{LEDGER}/")]


@dataclass(frozen=True, slots=True)
class Contents:
    """What a version is to hold."""

    facts: dict[str, Any]  #: without "files" and "checksum", which are made when it is written
    model: State
    memory: State
    ledger: dict[str, State]  #: by file name, those that are new or changed
    card: str

    def write(self, folder: Path, known: Mapping[str, str]) -> None:
        """known: SHA-256 of files that are there already, of which the ledger's parts are named too."""
        files = {}
        for name, arrays in ((MODEL, self.model), (MEMORY, self.memory), *self.ledger.items()):
            write_arrays(folder / name, arrays)
            files[name] = digest(folder / name)
        old = {name: sha for name, sha in known.items() if name.startswith(LEDGER) and name in self.facts["ledger"]}
        with whole(folder / CARD) as temporary:
            temporary.write_text(self.card, encoding="utf-8")
        facts = {**self.facts, "files": dict(sorted({**old, **files}.items()))}
        write_json(folder / FACTS, {**facts, "checksum": fingerprint(facts)})


def read_facts(path: Path, mend: str = MEND) -> dict[str, Any]:
    """model.json, checked against itself and brought to this version's format. mend: what to do if it is damaged."""
    if not path.exists():
        raise HarkbackError("is missing", where=path, mend=mend)
    facts: Any = read_json(path, mend)
    if not isinstance(facts, dict) or not isinstance(facts.get("format"), int):
        raise HarkbackError("is no model's model.json", where=path, mend=mend)
    if facts["format"] > FORMAT:
        raise HarkbackError(
            f"is a model of format {facts['format']}, and this version reads up to {FORMAT}",
            where=path.parent,
            mend="update harkback: pip install --upgrade harkback",
        )
    if facts.pop("checksum", None) != fingerprint(facts):
        raise HarkbackError("is damaged: its checksum does not fit", where=path, mend=mend)
    while facts["format"] < FORMAT:
        if facts["format"] not in MIGRATIONS:
            what = f"is a model of format {facts['format']}, which this version no longer reads"
            raise HarkbackError(what, where=path.parent, mend="open it with the version that wrote it")
        facts = MIGRATIONS[facts["format"]](facts)
    found: dict[str, Any] = facts
    check(found, {"files": {...: str}}, path, mend)
    if not all(FILE.fullmatch(name) for name in found["files"]):  # A stranger's may name any file of ours.
        raise HarkbackError("names files that are not a model's", where=path, mend="do not trust this folder")
    return found


def _check(path: Path, sha: str, mend: str) -> None:
    try:
        found = digest(path)
    except FileNotFoundError:
        raise HarkbackError("is missing", where=path, mend=mend) from None
    except OSError as error:
        raise explained(error, path) from error
    if found != sha:
        raise HarkbackError("is damaged: these are not the bytes that were written", where=path, mend=mend)


def stamp(path: Path) -> tuple[int, ...] | None:
    """What tells a file from another that was moved to its place; None: there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
