"""The commands that are killed, on clips so small that a run takes a fraction of a second; all libraries are loaded."""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trials.killing import Command, Found

SHARD = 8  #: clips of a shard here, so that there are several
CLIPS = 40
MARKS = ("time", "seconds")  #: what no two runs share


class Kept(ABC):
    """A command that begins with nothing, keeps what it has finished and goes on from there."""

    steps = True
    learnt = ""

    def put(self, folder: Path) -> None:
        assert not list(folder.iterdir()), "it has begun already"

    @abstractmethod
    def found(self, folder: Path) -> Found:
        """What is finished, opened and read."""

    def rest(self, folder: Path) -> Found:
        return self.found(folder)

    def names(self, folder: Path) -> set[str]:
        return names_in(folder)


@dataclass(frozen=True)
class Extract(Kept):
    """Clips into a store, by two processes that read."""

    clips: Path
    name: str = "extract"

    def run(self, folder: Path) -> None:
        from fakes import Fake
        from harkback import extract
        from harkback.datasets import open_dataset

        extract.SHARD = SHARD
        every = [clip for clips in open_dataset(str(self.clips)).splits.values() for clip in clips]
        extract.extract(every, Fake(), folder / "store", workers=2)

    def found(self, folder: Path) -> Found:
        """Each shard that has its list, as bytes, after the store was opened and every row read."""
        import torch

        from fakes import Fake
        from harkback.store import FeatureStore

        root = folder / "store"
        if not (root / "store.json").exists():
            return {}
        store = FeatureStore.open(root, Fake().spec)
        keys = list(store.places)
        rows = store.rows(keys, keys)
        rows[torch.arange(len(keys))]
        return {
            shard: (bytes_of(root / f"{shard}.safetensors"), bytes_of(root / f"{shard}.json"))
            for shard in store.places.shards
        }


@dataclass(frozen=True)
class Bench(Kept):
    """Learners with sums, with a network and with a memory, on the features of clips."""

    clips: Path
    store: Path
    workers: int = 0

    @property
    def name(self) -> str:
        return "bench" + (f" in {self.workers} processes" if self.workers else "")

    def run(self, folder: Path) -> None:
        from fakes import Fake, small
        from harkback.datasets import open_dataset
        from harkback.harness import BenchSettings, bench
        from harkback.registry import LEARNERS

        learners = ("ncm", "finetune", "icarl", "icarl-fc")
        settings = {name: small(LEARNERS.load(name).Settings()) for name in ("finetune", "icarl")}
        chosen = BenchSettings(learners, sessions=(2,), memory=8, seeds=(0, 1), settings=settings)
        bench(open_dataset(str(self.clips)), Fake(), chosen, folder / "out", self.store, workers=self.workers)

    def found(self, folder: Path) -> Found:
        """Each finished session: its facts and its scores. What there is to go on from is opened."""
        from harkback.log import Run

        found: Found = {}
        for each in sorted((folder / "out" / "runs").glob("*")):
            run = Run(each, "", 0, 0)
            done = run.done()
            for t in range(done):
                found[f"{each.name} {t}"] = plain(run.facts(t)), run.scores(t).numpy().tobytes()
            if (0 < done < 2) or (each / f"state-{done - 1:02d}.safetensors").exists():
                run.state(done - 1)
        return found


@dataclass(frozen=True)
class Change:
    """A change of a model. base: the model as it was; None: there was none."""

    name: str
    base: Path | None
    do: Callable[[Path], object]
    learnt: str
    steps: bool = False

    def put(self, folder: Path) -> None:
        if self.base is not None:
            shutil.copytree(self.base, folder / "model", symlinks=True)

    def run(self, folder: Path) -> None:
        self.do(folder / "model")

    def found(self, folder: Path) -> Found:
        return model_in(folder / "model")

    def rest(self, folder: Path) -> Found:
        return at_rest(folder / "model")

    def names(self, folder: Path) -> set[str]:
        """But for what was encoded for a lesson: it goes with the next one."""
        return {name for name in names_in(folder) if not name.startswith("model/.features")}


def model_in(folder: Path) -> Found:
    """The model as a reader finds it: its facts, which have the SHA-256 of each file. That is checked here."""
    from harkback.vault import Vault

    vault = Vault(folder)
    return {"model": vault.read(_whole)} if vault.exists else {}


def at_rest(folder: Path) -> Found:
    """Put in order, as the next change would begin; then with all versions before."""
    from harkback.vault import Vault

    vault = Vault(folder)
    with vault.changing(print):
        return {**model_in(folder), **{f"before {i}": _whole(version) for i, version in enumerate(vault.versions())}}


def _whole(version: Any) -> Any:
    from harkback.card import card
    from harkback.pupil_files import restored

    for name in version.facts["files"]:
        version.arrays(name)
    restored(version)
    facts = {name: value for name, value in version.facts.items() if name not in ("files", "checksum")}
    readme = version._find("README.md").read_text("utf-8")
    assert readme == card(facts), f"{version.folder}: the card is another version's"
    return plain(version.facts)


def plain(facts: Any) -> Any:
    """Without what no two runs share."""
    if isinstance(facts, dict):
        return {name: plain(value) for name, value in facts.items() if name not in MARKS}
    return [plain(value) for value in facts] if isinstance(facts, list) else facts


def bytes_of(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def material(root: Path) -> None:
    """Clips for all of them: tones, and a picture of every class."""
    from fakes import tone
    from films import film, gray

    for i in range(CLIPS):
        tone(root / "many" / f"class {i % 4}" / f"{i:02d}.wav", 200 + 40 * i)
    for split, count in (("train", 6), ("test", 2)):
        for number in range(4):
            for i in range(count):
                tone(root / "bench" / split / f"class {number}" / f"{i}.wav", 200 + 500 * number + 11 * i + len(split))
    for session, names in enumerate((("low", "deep"), ("high",), ("shrill",))):
        for pitch, name in enumerate(names):
            for i in range(6):
                tone(root / f"lesson-{session}" / name / f"{i}.wav", 150 + 700 * session + 300 * pitch + 5 * i)
            for i in range(2):
                film(root / f"lesson-{session}" / name / f"film-{i}.mp4", [gray(40 * session + 20 * pitch + i)] * 3)


def lesson(root: Path, session: int) -> Callable[[Path], object]:
    def do(folder: Path) -> object:
        from fakes import Fake
        from harkback.teaching import Making, teach

        encoder, made = Fake(name="signal", revision="of a trial"), Making(learner="ncm", memory=8)
        return teach(folder, root / f"lesson-{session}", making=made, encoder=encoder, force=True)

    return do


def forgotten(folder: Path) -> object:
    from harkback.model import Model

    return Model(folder).forget("deep")


def undone(folder: Path) -> object:
    from harkback.model import undo

    return undo(folder)


def victims(root: Path) -> dict[str, list[Command]]:
    """By the name of the command; ``root`` is a new folder."""
    material(root)
    bases: dict[int, Path] = {}
    for count in (1, 2, 3):
        bases[count] = root / "bases" / str(count) / "model"
        if count > 1:
            shutil.copytree(bases[count - 1], bases[count])
        lesson(root, count - 1)(bases[count])
    found = Bench(root / "bench", root / "features")
    return {
        "extract": [Extract(root / "many")],
        "bench": [found, Bench(found.clips, found.store, workers=2)],
        "teach": [Change("teach", bases[2], lesson(root, 2), "nothing new to learn")],
        "undo": [Change("undo", bases[3], undone, "")],
        "forget": [Change("forget", bases[3], forgotten, "knows no class")],
    }


def forked_from_here() -> None:
    """One server of processes for all that is forked from this process: each would start its own, for seconds."""
    import multiprocessing
    import sys
    from multiprocessing import forkserver

    from harkback.confined import PRELOAD

    here = os.getpid()
    multiprocessing.get_context("forkserver").set_forkserver_preload(
        ["trials.lenient", *PRELOAD, "harkback.harness", "torch._dynamo", "fakes"]
    )
    server = forkserver._forkserver  # type: ignore[attr-defined]
    server.ensure_running()
    ensure = server.ensure_running
    # Both names of it: the module has one besides its object.
    server.ensure_running = forkserver.ensure_running = lambda: ensure() if os.getpid() == here else None
    # Each process would begin by running this program's main file again.
    vars(sys.modules["__main__"]).update(__spec__=None)
    vars(sys.modules["__main__"]).pop("__file__", None)
