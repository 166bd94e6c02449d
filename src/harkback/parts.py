"""Parts of a store: what other machines have made of its clips, until it is taken in."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any

import harkback
from harkback.errors import HarkbackError
from harkback.features import Arrays, Features
from harkback.files import read_json, write_arrays, write_json
from harkback.store import FeatureStore

FOLDER = ".parts"
PATIENCE = 60  #: seconds until what one machine wrote is seen by another; network file systems are in no hurry


@dataclass(frozen=True, slots=True)
class Parts:
    """A folder beside the shards: ``NAME.safetensors``, as a shard has it, and ``NAME.json``, written last.

    The JSON says ``keys`` (whose rows they are), ``failures`` and ``passing`` (key -> why a clip has none, lastingly or
    not). Many machines may write here at once. A part is named by the clips it was to be made of, so that it is found
    again by whoever has the same work to do.
    """

    root: Path  #: of the store
    version: str = harkback.__version__  #: of whoever takes parts in

    @property
    def folder(self) -> Path:
        return self.root / FOLDER

    def begin(self) -> None:
        """Nothing was begun yet by whoever works for this command."""
        for path in self.folder.glob("*.begun"):
            path.unlink(missing_ok=True)

    def begun(self, name: str) -> int:
        """How often this was begun, this time too; what is lost with its process is begun again."""
        if not (self.root / "store.json").exists():  # `write` tells it.
            return 0
        try:
            self.folder.mkdir(exist_ok=True)
            with (self.folder / f"{name}.begun").open("ab") as file:
                file.write(b".")
                return file.tell()
        except OSError:  # `write` tells that too.
            return 0

    def write(self, name: str, features: Features, failures: dict[str, str], passing: dict[str, str]) -> None:
        """On return the part is on the disk. Ids of the features are keys."""
        if not (self.root / "store.json").exists():  # Else a folder of that name would be begun on this machine alone.
            raise HarkbackError("is not seen by this machine", where=self.root, mend="put --store where all see it")
        if harkback.__version__ != self.version:
            what = f"this machine has harkback {harkback.__version__}, and the command {self.version}"
            raise HarkbackError(what, where=self.root, mend="install the same version everywhere")
        if len(features):
            write_arrays(self._path(name), {each: getattr(features, each).contiguous() for each in Arrays._fields})
        facts = {"keys": list(features.ids), "failures": failures, "passing": passing}
        write_json(self.folder / f"{name}.json", facts)

    def there(self, names: Sequence[str]) -> set[str]:
        """Those that are whole."""
        found = {path.name for path in self.folder.glob("*.json")} if self.folder.exists() else set()
        return {name for name in names if f"{name}.json" in found and self._whole(name)}

    def take_in(self, name: str, store: FeatureStore) -> dict[str, str]:
        """Make it a shard of the store; killed at any moment, the part or the shard is whole. Returns ``passing``."""
        for _ in range(PATIENCE):
            if self._whole(name):
                break
            sleep(1)
        facts = self._facts(name)
        store.adopt(facts["keys"], facts["failures"], self._path(name))
        (self.folder / f"{name}.json").unlink()
        passing: dict[str, str] = facts["passing"]
        return passing

    def clear(self) -> None:
        """Nothing is left to be taken in."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _whole(self, name: str) -> bool:
        """Killed between the shard's arrays and its list, a store has moved the arrays away already."""
        told = (self.folder / f"{name}.json").exists()
        return told and (not self._facts(name)["keys"] or self._path(name).exists())

    def _facts(self, name: str) -> dict[str, Any]:
        facts: dict[str, Any] = read_json(self.folder / f"{name}.json")
        return facts

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"
