"""Clips -> what a bench learns from and asks: encoded, checked, and honest about what was left out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from harkback.clips import Clip, Skip
from harkback.datasets import Dataset, Encoded
from harkback.encoders import Encoder, EncoderSpec
from harkback.engine import Engine
from harkback.errors import HarkbackError
from harkback.extract import Extraction, extract
from harkback.features import FeatureRows, Rows
from harkback.files import fingerprint
from harkback.modality import Modality, only

#: Which clips a learner may choose an epoch by.
Validation = Literal["none", "current", "all-seen"]


@dataclass(frozen=True, slots=True)
class Labelled:
    """Features, and the class name of each row."""

    features: FeatureRows
    labels: tuple[str, ...]

    def of(self, names: Collection[str]) -> Labelled:
        """The rows of these classes."""
        rows = [row for row, label in enumerate(self.labels) if label in names]
        return Labelled(Rows(self.features, torch.tensor(rows, dtype=torch.long)), tuple(self.labels[r] for r in rows))

    def only(self, modality: Modality) -> Labelled:
        return replace(self, features=only(self.features, modality))


@dataclass(frozen=True, slots=True)
class Material:
    """Clips that can be learnt and asked: every class has both, and no test clip stands among the training clips."""

    name: str
    train: FeatureRows
    train_labels: tuple[str, ...]
    test: FeatureRows
    test_clips: tuple[Clip, ...]
    validation: Labelled  #: empty unless the validation policy wants clips
    skips: tuple[Skip, ...]
    identity: str  #: of all contents and labels
    extraction: Extraction

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(sorted(set(self.train_labels)))

    @property
    def test_labels(self) -> list[str]:
        return [str(clip.label) for clip in self.test_clips]

    def only(self, modality: Modality) -> Material:
        """The same clips with one modality withheld."""
        train, test = only(self.train, modality), only(self.test, modality)
        return replace(self, train=train, test=test, validation=self.validation.only(modality))


def prepare(
    dataset: Dataset,
    encoder: Encoder | None,
    store: Path,
    split: Literal["test", "val"] = "test",
    validation: Validation = "none",
    on: Engine | None = None,
) -> Material:
    """Encode the dataset's clips and leave out, by name, what cannot be measured honestly.

    encoder: None for a dataset that comes as features; on: machines that encode instead of this one.
    """
    parts = _enough(dataset, split, validation)
    place = {clip.id: part for part, of_part in parts.items() for clip in of_part}
    clips = [clip for of_part in parts.values() for clip in of_part]
    extraction = extracted(dataset, clips, encoder, store, on=on)
    skips = [*dataset.skips, *extraction.skips]
    rows: dict[str, list[int]] = {part: [] for part in parts}
    first: dict[str, Clip] = {}
    for row, (clip, key) in enumerate(zip(extraction.clips, extraction.keys, strict=True)):
        same = first.setdefault(key, clip)
        if same is clip:
            rows[place[clip.id]].append(row)
            continue
        other = f', which is labelled "{same.label}"' if same.label != clip.label else ""
        skips.append(Skip(clip.id, clip.path, f"has the same content as {same.id}{other}"))
    clips = list(extraction.clips)
    learnt, asked = _by_label(clips, rows["train"]), _by_label(clips, rows["asked"])
    usable = learnt.keys() & asked.keys()
    for name in sorted((learnt.keys() | asked.keys()) - usable):
        why = "to ask" if name in learnt else "to learn from"
        some = learnt.get(name) or asked[name]
        skips += [Skip(c.id, c.path, f'class "{name}" is left out: it has no clip {why}') for c in some]
    if len(usable) < 2:
        raise _too_few(dataset, len(usable), skips)
    kept = {part: [row for row in of_part if clips[row].label in usable] for part, of_part in rows.items()}
    chosen = {
        part: Labelled(
            Rows(extraction.features, torch.tensor(of_part, dtype=torch.long)),
            tuple(str(clips[row].label) for row in of_part),
        )
        for part, of_part in kept.items()
    }
    return Material(
        dataset.name,
        chosen["train"].features,
        chosen["train"].labels,
        chosen["asked"].features,
        tuple(clips[row] for row in kept["asked"]),
        chosen["validation"],
        tuple(skips),
        fingerprint([[extraction.keys[row], clips[row].label] for of_part in kept.values() for row in of_part]),
        extraction,
    )


def spec_of(dataset: Dataset, encoder: Encoder | None) -> EncoderSpec:
    """What makes the features; encoder: None for a dataset that comes as features."""
    return _encoded(dataset).spec if encoder is None else encoder.spec


def extracted(
    dataset: Dataset,
    clips: Sequence[Clip],
    encoder: Encoder | None,
    store: Path,
    *,
    workers: int | None = None,
    on: Engine | None = None,
) -> Extraction:
    """The features of these clips, encoded, or converted (here) where the dataset comes as features."""
    if on is not None:  # Its machines are in folders of their own.
        store = store.absolute()
    if encoder is None:
        return _encoded(dataset).convert(clips, store)
    return extract(clips, encoder, store, workers=workers, on=on)


def _encoded(dataset: Dataset) -> Encoded:
    if not isinstance(dataset, Encoded):
        raise TypeError("a dataset that comes as media needs an encoder")
    return dataset


def _enough(dataset: Dataset, split: str, validation: Validation) -> dict[str, tuple[Clip, ...]]:
    """The clips of each part; an error now, not after hours of encoding, if they cannot make a bench."""
    if split == "val" and validation != "none":
        raise HarkbackError(
            f"the clips that are asked would choose the epochs ({validation})",
            where="--validation",
            mend="use --validation none with --split val",
        )
    splits = dataset.splits
    names = {"train": "train", "asked": split, "validation": "val"}
    if validation == "none":
        del names["validation"]
    for part, name in names.items():
        if not splits.get(name):
            mend = "add some, or use --validation none" if part == "validation" else "add some"
            raise HarkbackError(f'there are no clips in split "{name}"', where=dataset.name, mend=mend)
    both = {clip.label for clip in splits["train"]} & {clip.label for clip in splits[split]}
    if len(both) < 2:
        raise _too_few(dataset, len(both), dataset.skips)
    parts = {part: splits[name] for part, name in names.items()}
    _check_ids(dataset.name, [clip.id for of_part in parts.values() for clip in of_part])
    return {"train": parts["train"], "asked": parts["asked"], "validation": parts.get("validation", ())}


def _check_ids(where: str, ids: Sequence[str]) -> None:
    """By its id a clip finds the way back to its part: two of one id would make a test clip of a training clip."""
    known: set[str] = set()
    for name in ids:
        if name in known:
            what = f'two clips have the id "{name}"'
            raise HarkbackError(what, where=where, mend="a dataset must give each of its clips an id of its own")
        known.add(name)


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
