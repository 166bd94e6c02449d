"""Spoiled files of our own making, and of others', through whatever reads them: each a name, a seed and a reader."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import handmade
from fakes import Fake, random_features, tone
from harkback.answers import told
from harkback.compare import compare
from harkback.datasets import open_dataset
from harkback.datasets._hdf5_arrays import Hdf5Arrays
from harkback.datasets._pickled_arrays import PickledArrays
from harkback.datasets._table import listed
from harkback.datasets._tar import contents
from harkback.errors import HarkbackError
from harkback.features import blank
from harkback.files import fingerprint
from harkback.model import Model
from harkback.places import Place
from harkback.results import read as read_log
from harkback.results import row
from harkback.store import FeatureStore
from harkback.teaching import Making, teach

FILES = ("model.json", "model.safetensors", "memory.safetensors", "ledger/0001.safetensors")  #: of a model
Reader = Callable[[], Any]  #: says what the spoiled file now holds, as something that can be compared


@dataclass(frozen=True, slots=True)
class Target:
    """A file that is spoiled, and what reads it."""

    file: Path
    seed: bytes
    read: Reader
    kept: bool = False  #: a checksum protects it: what can be read at all is what was written
    text: bool = False  #: it is JSON, to be spoiled as such too
    put: Callable[[bytes], None] | None = None  #: how the file gets its bytes, if not simply
    truth: Any = None  #: what is read of the seed
    errors: tuple[type[Exception], ...] = ()  #: that whoever calls the reader expects, besides `HarkbackError`


def targets(root: Path, only: Collection[str] = ()) -> dict[str, Target]:
    """All of them, made in a new folder; or those of a kind of which one is named."""
    kinds = {
        _tables: {"csv", "tar", "shards", "pickle", "hdf5"},
        _store: {"store", "store-list", "shard", "index"},
        _log: {"bench.json", "session.json", "scores"},
        _model: {each for name in FILES for each in (name, f"signed-{name}")},
    }
    made = [kind for kind, names in kinds.items() if not only or names & {*only} or not {*only} - {"records"}]
    found: dict[str, Target] = {}
    for kind in made:
        found |= kind(root / kind.__name__.strip("_"))
    return found


def _target(file: Path, read: Reader, **how: Any) -> Target:
    return Target(file, file.read_bytes(), read, truth=read() if how.get("kept") else None, **how)


# ---- what others wrote ----------------------------------------------------------------------------------------------


def _tables(root: Path) -> dict[str, Target]:
    root.mkdir(parents=True)
    table = 'path,label,split,start,end\na.wav,dog,train,0,1.5\n"b, c.wav","a ""cat""",test,,\nd.wav,ça,val,1e-3,2\n'
    (root / "clips.csv").write_text(table, encoding="utf-8")
    (root / "tars").mkdir()
    packed = root / "tars" / "a.tar"
    with tarfile.open(packed, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in (("x/1.wav", b"R" * 700), ("x/1.cls", b"dog"), ("é" * 60 + ".json", b'{"label": "x"}')):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    arrays = {"one": np.arange(6, dtype=np.float32).reshape(2, 3), "two": np.ones((4, 2), np.float16)}
    np.save(root / "a.npy", np.array(arrays, dtype=object), allow_pickle=True)  # noqa: TID251 (as a stranger's file is)
    found = {
        "csv": _target(root / "clips.csv", partial(_listed, root / "clips.csv")),
        "tar": _target(packed, partial(_in_tar, packed)),
        "shards": _target(packed, partial(_shards, packed.parent)),
        "pickle": _target(root / "a.npy", partial(_arrays, PickledArrays, root / "a.npy"), errors=(OSError,)),
    }
    try:
        import h5py
    except ModuleNotFoundError:
        return found
    with h5py.File(root / "a.h5", "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, compression="gzip" if name == "two" else None)
    return {**found, "hdf5": _target(root / "a.h5", partial(_arrays, Hdf5Arrays, root / "a.h5"), errors=(OSError,))}


def _listed(path: Path) -> Any:
    def seek(name: str, _: str) -> tuple[str, Path | Place, bool]:
        return name, Path(name), name.endswith("wav")

    return list(listed("clips.csv", path.read_bytes(), seek, []))


def _in_tar(path: Path) -> Any:
    found = contents(str(path), (".cls", ".json"))
    assert found.flaw is None or "\n" not in found.flaw
    return found


def _shards(path: Path) -> Any:
    return open_dataset(f"webdataset:{path}").splits


def _arrays(kind: Any, path: Path) -> Any:
    file = kind(path)
    with file.opened() as read:
        return {name: read(name).tobytes() for name in sorted(file.ids)}


# ---- a store --------------------------------------------------------------------------------------------------------


def _store(root: Path) -> dict[str, Target]:
    from harkback.store import source_of

    spec = Fake().spec
    store = FeatureStore.open(root, spec)
    features = random_features(3, shape=spec.shape)
    clip = tone(root.parent / "a.wav", 300)
    store.learn(clip, source_of(clip))
    store.add(features, {"lost": "it is broken"})
    for number in range(18):  # Enough for an index.
        store.add(random_features(1, number + 1, shape=spec.shape), {})
    FeatureStore.open(root, spec)
    read = partial(_stored, root, list(features.ids), clip)
    names = {
        "store.json": "store",
        "000000-*.json": "store-list",
        "000000-*.safetensors": "shard",
        "index.safe*": "index",
    }
    found = {}
    for pattern, name in names.items():
        (path,) = root.glob(pattern)
        # What an index said last is not believed where the lists say something else: it is a cache.
        found[name] = _target(path, read, text=path.suffix == ".json")
    return found


def _stored(root: Path, keys: list[str], clip: Path) -> Any:
    store = FeatureStore.open(root, Fake().spec)
    there = [key for key in keys if key in store.places]
    rows = store.rows(there, there)
    features = rows[torch.arange(len(there))]
    return store.failures, len(store.places), store.known(clip), features.audio.numpy().tobytes()


# ---- the log of a bench ---------------------------------------------------------------------------------------------


def _log(root: Path) -> dict[str, Target]:
    handmade.small(root)
    session = next(root.glob("runs/*/session-01.json"))
    read = partial(_report, root)
    return {
        "bench.json": _target(root / "bench.json", read, text=True),
        "session.json": _target(session, read, text=True),
        "scores": _target(session.with_suffix(".safetensors"), read),
    }


def _report(root: Path) -> Any:
    from harkback.report import markdown, summary

    told_of = read_log(root)
    compare(told_of)
    return [row(one) for one in told_of.learners], summary(root), markdown(root)


# ---- a model --------------------------------------------------------------------------------------------------------


def _model(root: Path) -> dict[str, Target]:
    for name, pitch in {"low": 200, "high": 1500}.items():
        for i in range(4):
            tone(root / "clips" / name / f"{i}.wav", pitch + 5 * i)
    model = root / "model"
    teach(model, root / "clips", making=Making(learner="hark", memory=8), pictures=False)
    facts = json.loads((model / "model.json").read_bytes())
    read = partial(_asked, model)
    found = {"model.json": _target(model / "model.json", read, kept=True, text=True)}
    found["signed-model.json"] = _target(model / "model.json", read, text=True, put=partial(_signed, model))
    for name in facts["files"]:
        found[name] = _target(model / name, read, kept=True)
        found[f"signed-{name}"] = _target(model / name, read, put=partial(_vouched, model, name))
    return found


def _signed(model: Path, data: bytes) -> None:
    """With a checksum that fits, if it is JSON at all: then it is believed."""
    try:
        facts = json.loads(data)
        facts.pop("checksum", None)
        data = json.dumps({**facts, "checksum": fingerprint(facts)}).encode()
    except (ValueError, TypeError, AttributeError, RecursionError):
        pass
    (model / "model.json").write_bytes(data)


def _vouched(model: Path, name: str, data: bytes) -> None:
    """With its digest in model.json."""
    (model / name).write_bytes(data)
    facts = json.loads((model / "model.json").read_bytes())
    facts["files"][name] = hashlib.sha256(data).hexdigest()
    _signed(model, json.dumps(facts).encode())


def _asked(path: Path) -> Any:
    model = Model(path)
    from harkback.pupil_files import ledger_of, restored
    from harkback.told import portrait_of

    whole = model._vault.read(restored)
    ledger = model._vault.read(ledger_of)
    encoder = model.encoder()
    answer = told("", (0.0, 1.0), blank(encoder.spec.shape), model.learner, model.pupil.calibration, None)
    return answer, portrait_of(model.facts, model.examined()), sorted(ledger), whole.classes


def everything(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def tried(target: Target, data: bytes) -> str | None:
    """Give the reader this: what is wrong with what it made of it, or None."""
    if target.put is None:
        target.file.write_bytes(data)
    else:
        target.put(data)
    try:
        found = target.read()
    except HarkbackError as error:
        return None if "\n" not in str(error) else f"more than a line: {str(error)!r}"
    except Exception as error:
        if isinstance(error, target.errors):
            return None
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:200]!r} at {Path(place.filename).name}:{place.lineno}"
    if target.kept and data != target.seed and found != target.truth:
        return "another answer, and nothing was said"
    return None


def restore(root: Path, files: Mapping[Path, bytes]) -> None:
    """All files as they were, and no others."""
    for path in root.rglob("*"):
        if path.is_file() and path not in files:
            path.unlink()
    for path, data in files.items():
        if not path.exists() or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
