"""The bench: every learner on the same streams -> the prediction log, resumable after any kill."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import torch
from tqdm import tqdm

import harkback
from harkback.clips import Clip, Skip
from harkback.datasets import Dataset
from harkback.encoders import Encoder
from harkback.errors import HarkbackError
from harkback.extract import Extraction, extract
from harkback.features import Rows
from harkback.files import fingerprint, write_json
from harkback.learners.base import Learner, Looks
from harkback.log import Run, truth_columns
from harkback.looks import pictures_of
from harkback.registry import LEARNERS
from harkback.store import usual_store
from harkback.stream import Stream, cut, shuffled

#: The rooms whose code decides results; with the learner's own module they are part of a run's identity.
DECIDING = ("attention", "distill", "features", "memory", "network", "pooling", "state", "stream", "training")


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """What is measured."""

    learners: tuple[str, ...] = ("l3", "finetune", "joint", "ncm", "ridge")
    sessions: tuple[int, ...] = (5,)  #: one number: that many equal sessions; several: their sizes in classes
    memory: int = 100  #: exemplars in all
    seeds: tuple[int, ...] = (0, 1, 2)
    orders: tuple[int, ...] = ()  #: class orders, each run with every seed; none: seed s runs on class order s
    split: Literal["test", "val"] = "test"  #: the split that is asked; choose settings on val, never on test
    settings: dict[str, Any] = field(default_factory=dict)  #: learner -> its settings, where not the defaults

    def pairs(self) -> list[tuple[int, int]]:
        """(seed, order) of each run."""
        return [(s, o) for o in self.orders for s in self.seeds] if self.orders else [(s, s) for s in self.seeds]


@dataclass(frozen=True, slots=True)
class Material:
    """Clips that can be learnt and asked: every class has both, and no test clip stands among the training clips."""

    name: str
    train: Rows
    train_labels: tuple[str, ...]
    test: Rows
    test_clips: tuple[Clip, ...]
    skips: tuple[Skip, ...]
    identity: str  #: of all contents and labels
    extraction: Extraction

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(sorted(set(self.train_labels)))

    @property
    def test_labels(self) -> list[str]:
        return [str(clip.label) for clip in self.test_clips]


@dataclass(frozen=True, slots=True)
class Bench:
    """A finished bench: its log and what it was made from."""

    out: Path
    settings: BenchSettings
    material: Material
    encoder: str
    sizes: tuple[int, ...]
    runs: tuple[Run, ...]


def prepare(dataset: Dataset, encoder: Encoder, store: Path, split: Literal["test", "val"] = "test") -> Material:
    """Encode the dataset's clips and leave out, by name, what cannot be measured honestly."""
    train, asked = _enough(dataset, split)
    extraction = extract([*train, *asked], encoder, store)
    skips = [*dataset.skips, *extraction.skips]
    training = {clip.id for clip in train}
    rows: dict[bool, list[int]] = {True: [], False: []}
    first: dict[str, Clip] = {}
    for row, (clip, key) in enumerate(zip(extraction.clips, extraction.keys, strict=True)):
        same = first.setdefault(key, clip)
        if same is clip:
            rows[clip.id in training].append(row)
            continue
        other = f', which is labelled "{same.label}"' if same.label != clip.label else ""
        skips.append(Skip(clip.id, clip.path, f"has the same content as {same.id}{other}"))
    counts = {is_train: _by_label(extraction.clips, rows[is_train]) for is_train in rows}
    usable = counts[True].keys() & counts[False].keys()
    for name in sorted((counts[True].keys() | counts[False].keys()) - usable):
        some = counts[True].get(name) or counts[False][name]
        why = "to ask" if name in counts[True] else "to learn from"
        skips += [Skip(c.id, c.path, f'class "{name}" is left out: it has no clip {why}') for c in some]
    if len(usable) < 2:
        raise _too_few(dataset, len(usable), skips)
    clips = extraction.clips
    kept = {is_train: [row for row in rows[is_train] if clips[row].label in usable] for is_train in rows}
    return Material(
        dataset.name,
        Rows(extraction.features, torch.tensor(kept[True])),
        tuple(str(clips[row].label) for row in kept[True]),
        Rows(extraction.features, torch.tensor(kept[False])),
        tuple(clips[row] for row in kept[False]),
        tuple(skips),
        fingerprint([[extraction.keys[row], clips[row].label] for is_train in (True, False) for row in kept[is_train]]),
        extraction,
    )


def _enough(dataset: Dataset, split: str) -> tuple[tuple[Clip, ...], tuple[Clip, ...]]:
    """The clips to learn from and to ask; an error now, not after hours of encoding, if they cannot make a bench."""
    splits = dataset.splits
    train, asked = splits.get("train", ()), splits.get(split, ())
    for name, found in (("train", train), (split, asked)):
        if not found:
            raise HarkbackError(f'there are no clips in split "{name}"', where=dataset.name, mend="add some")
    both = {clip.label for clip in train} & {clip.label for clip in asked}
    if len(both) < 2:
        raise _too_few(dataset, len(both), dataset.skips)
    return train, asked


def _too_few(dataset: Dataset, count: int, skips: Sequence[Skip]) -> HarkbackError:
    left_out = f"; {len(skips)} clips were left out, the first, {skips[0].id}: {skips[0].reason}" if skips else ""
    return HarkbackError(
        f"a bench needs two classes with clips to learn from and to ask, and there are {count}{left_out}",
        where=dataset.name,
        mend="add a folder of clips for another class, with at least two clips in each",
    )


def _by_label(clips: Sequence[Clip], rows: Sequence[int]) -> dict[str, list[Clip]]:
    found: dict[str, list[Clip]] = {}
    for row in rows:
        found.setdefault(str(clips[row].label), []).append(clips[row])
    return found


def bench(dataset: Dataset, encoder: Encoder, settings: BenchSettings, out: Path, store: Path | None = None) -> Bench:
    """Run every learner on every seed and class order. What ``out`` already holds of this very bench is not redone."""
    kinds = {name: LEARNERS.load(name) for name in settings.learners}
    material = prepare(dataset, encoder, store or usual_store(out, encoder.spec), settings.split)
    sizes = cut(len(material.classes), settings.sessions)
    runs: list[Run] = []
    pairs = settings.pairs()
    with tqdm(total=len(pairs) * len(kinds) * len(sizes), desc="learning", unit="session", leave=False) as bar:
        for seed, order in pairs:
            for name, kind in kinds.items():
                bar.set_postfix_str(f"{name}, seed {seed}")
                chosen = settings.settings.get(name) or kind.Settings()
                learner = kind(chosen, memory=settings.memory, seed=seed)
                identity = [material.identity, encoder.spec.key, sizes, settings.memory, name, asdict(chosen)]
                key = fingerprint(*identity, seed, order, _code(kind))
                run = Run(out / "runs" / f"{name}-{seed}-{order}-{key}", name, seed, order)
                with_pictures = (seed, order) == pairs[0]
                _run(learner, material, shuffled(material.classes, order), sizes, run, with_pictures, bar)
                runs.append(run)
    finished = Bench(out, settings, material, encoder.spec.name, sizes, tuple(runs))
    write_json(out / "bench.json", _facts(finished, encoder))
    return finished


def _run(
    learner: Learner[Any],
    material: Material,
    order: tuple[str, ...],
    sizes: tuple[int, ...],
    run: Run,
    with_pictures: bool,
    bar: tqdm[Any],
) -> None:
    stream = Stream(material.train, material.train_labels, order, sizes)
    done = run.done()
    bar.update(done)
    if done == len(stream):
        return
    if done:
        learner.restore(run.state(done - 1))
    labels = material.test_labels
    for t in range(done, len(stream)):
        began = perf_counter()
        with stream.upto(t) if learner.cumulative else stream[t] as session:
            learner.learn(session)
            kept = _bytes_of(len(session.features), material) if learner.cumulative else 0
        seconds = perf_counter() - began
        rows = torch.tensor([row for row, label in enumerate(labels) if label in set(stream.seen(t))])
        asked = Rows(material.test, rows)
        scores = learner.scores(asked)
        truth = truth_columns([labels[row] for row in rows.tolist()], learner.classes)
        state = learner.state()
        last = t == len(stream) - 1
        if last and with_pictures and isinstance(learner, Looks):
            run.write_looks(pictures_of(learner, material.test, material.test_clips, scores, truth, rows))
        run.write(
            t,
            {"scores": scores, "rows": rows, "truth": truth},
            {
                "learner": run.learner,
                "seed": run.seed,
                "order": run.order,
                "session": t,
                "classes": list(learner.classes),
                "sizes": list(sizes[: t + 1]),
                "seconds": seconds,
                "memory_bytes": kept + sum(array.nbytes for array in state.values()),
            },
            None if last else state,
        )
        bar.update()


def _bytes_of(clips: int, material: Material) -> int:
    """What a learner that wants every clip again must keep of them: its tokens, in half precision."""
    shape = material.train.shape
    return clips * 2 * (shape.audio_tokens * shape.audio_dim + shape.frames * shape.patches * shape.visual_dim)


def _code(kind: type[Any]) -> str:
    """The code that decides a learner's results: a run made by other code is another run."""
    root = Path(harkback.__file__).parent
    files = [root / f"{room}.py" for room in DECIDING] + [root / "learners" / "base.py", Path(inspect.getfile(kind))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def _facts(bench: Bench, encoder: Encoder) -> dict[str, Any]:
    material = bench.material
    return {
        "harkback": harkback.__version__,
        "dataset": material.name,
        "encoder": encoder.spec.facts(),
        "sessions": list(bench.sizes),
        "memory": bench.settings.memory,
        "asked": bench.settings.split,
        "training_clips": len(material.train),
        "test_clips": [{"id": clip.id, "label": clip.label} for clip in material.test_clips],
        "skips": [{"id": skip.id, "reason": skip.reason} for skip in material.skips],
        "settings": {
            name: asdict(bench.settings.settings.get(name) or LEARNERS.load(name).Settings())
            for name in bench.settings.learners
        },
        "runs": [
            {
                "folder": run.folder.name,
                "learner": run.learner,
                "seed": run.seed,
                "order": run.order,
                "cumulative": LEARNERS.load(run.learner).cumulative,
            }
            for run in bench.runs
        ],
    }
