"""Clips in tars, as WebDataset writes them: the files of one name, up to its first dot, are a sample."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath

from harkback.clips import Clip, Skip
from harkback.datasets._found import Found, Placed, class_name, plain
from harkback.datasets._shards import chosen, each, split_of
from harkback.datasets._tar import Contents, Inside, contents
from harkback.datasets._tree import TARS, Tree, tree_of
from harkback.errors import HarkbackError
from harkback.places import Member

LABELS = ("cls", "label", "json", "txt")  #: files that may name the class, the best first
FIELDS = ("label", "class")  #: of the JSON
#: What else stands beside a clip and is none.
NOTES = (
    "jsonl",
    "csv",
    "tsv",
    "xml",
    "yaml",
    "yml",
    "md",
    "srt",
    "vtt",
    "npy",
    "npz",
    "pt",
    "pth",
    "pyd",
    "pkl",
    "pickle",
)
STILLS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")  #: the clip, if there is nothing better


class WebDataset(Found):
    """Shards in the root or in folders, their splits in their names. A class is named by the sample's ``.cls`` or
    ``.label``, the field ``label`` or ``class`` of its ``.json``, its ``.txt``, or else the folder that it lies in.
    """

    LAYOUT = "put .tar files into root/ or into root/train/ and root/test/"

    def _look(self, skips: list[Skip]) -> Iterator[Placed]:
        tree = self._listing or tree_of(self.root)
        look = partial(_contents, tree)
        for shard, found in each(look, chosen(tree, TARS, skips)):
            if found.compressed is not None:
                raise HarkbackError(
                    f"is compressed with {found.compressed}, and such a tar can only be read from its beginning",
                    where=tree.url(shard),
                    mend="undo the compression; clips are compressed already",
                )
            if found.flaw is not None:
                skips.append(Skip(plain(shard), tree.place(shard), found.flaw))
            samples: dict[str, list[Inside]] = {}
            for file in found.files:
                if not _hidden(file.name):
                    samples.setdefault(_key(file.name), []).append(file)
            for sample in samples.values():
                if (clip := _clip(tree, shard, sample, skips)) is not None:
                    yield split_of(shard), clip


def _contents(tree: Tree, shard: str) -> Contents:
    return contents(tree.url(shard), tuple(f".{ending}" for ending in LABELS))


def _clip(tree: Tree, shard: str, sample: list[Inside], skips: list[Skip]) -> Clip | None:
    def skip(file: Inside, reason: str) -> None:
        skips.append(Skip(plain(f"{shard}!{file.name}"), _place(tree, shard, file), reason))

    media = [file for file in sample if _ending(file.name) not in (*LABELS, *NOTES)]
    media.sort(key=lambda file: _ending(file.name) in STILLS)
    if not media:
        skip(sample[0], "its sample has no clip")
        return None
    for other in media[1:]:
        again = "is in the tar twice" if other.name == media[0].name else f"the clip of its sample is {media[0].name}"
        skip(other, again)
    label = _label(sample)
    if media[0].flaw is not None:
        skip(media[0], media[0].flaw)
    elif not label:
        skip(media[0], "has no label: no .cls, no .json with label or class, no .txt, no folder")
    else:
        place = _place(tree, shard, media[0])
        return Clip(plain(f"{shard}!{media[0].name}"), place, label)
    return None


def _place(tree: Tree, shard: str, file: Inside) -> Member:
    return Member(tree.url(shard), plain(file.name), file.offset, file.size, tree.files[shard][1])


def _label(sample: list[Inside]) -> str:
    """Empty: there is none."""
    texts = {_ending(file.name): file.text for file in sample if file.text is not None}
    for ending in LABELS:
        if ending in texts and (label := class_name(_told(texts[ending], ending == "json"))):
            return label
    folder = PurePosixPath(sample[0].name).parent.name
    return class_name("" if folder == ".." else folder)


def _told(text: bytes, is_json: bool) -> str:
    try:
        if not is_json:
            return text.decode("utf-8-sig")
        facts = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    told = [facts[field] for field in FIELDS if field in facts] if isinstance(facts, dict) else []
    return next((str(value) for value in told if isinstance(value, str | int)), "")


def _key(name: str) -> str:
    """What the files of a sample share."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _ending(name: str) -> str:
    """``dog/01.left.mp4`` -> ``mp4``"""
    return PurePosixPath(name).suffix[1:].lower()


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/") if part not in (".", ".."))
