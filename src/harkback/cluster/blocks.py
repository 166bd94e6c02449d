"""Extraction on Ray: blocks of clips -> parts of the store, which are taken in by whoever asked for them.

A block is what one process makes a shard of, so that the store is the same, name by name and byte by byte. Ray Data
moves the blocks: it does again what a lost machine had, and holds decoders back where encoders cannot follow.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import ray.data

from harkback import extract
from harkback.catalogue import Source
from harkback.clips import Clip
from harkback.cluster.machines import absolute, wants_gpu
from harkback.decoding import Failed, Outcome, decoded, featured
from harkback.encoders import Bare, Encoder, Opening
from harkback.errors import HarkbackError, one_line
from harkback.extract import Gathered
from harkback.features import Features
from harkback.files import fingerprint
from harkback.parts import Parts
from harkback.places import Place
from harkback.store import FeatureStore, source_of

AGAIN = 3  #: times that a block is begun anew whose process, or machine, was lost; Ray itself would go on for ever


@dataclass(frozen=True, slots=True)
class Block:
    clips: dict[str, Clip]  #: by key

    @property
    def name(self) -> str:
        return fingerprint(list(self.clips))


def fill(
    store: FeatureStore, todo: Mapping[str, Clip], encoder: Encoder, kept: Callable[[str], None]
) -> dict[str, str]:
    """See `harkback.engine.Engine.fill`."""
    parts, passing = Parts(store.root.resolve()), {}
    items = [(key, replace(clip, path=absolute(clip.path))) for key, clip in todo.items()]
    blocks = [Block(dict(items[i : i + extract.SHARD])) for i in range(0, len(items), extract.SHARD)]
    parts.begin()
    there = parts.there([block.name for block in blocks])  # Of a run that was killed.
    with closing(_made([block for block in blocks if block.name not in there], encoder, parts)) as finished:
        for block in blocks:
            while block.name not in there:
                there.add(next(finished))
            passing.update(parts.take_in(block.name, store))
            for key in block.clips:
                kept(key)
    parts.clear()
    return passing


def sources(paths: Sequence[Path | Place]) -> Iterator[tuple[Path | Place, Source | None]]:
    """See `harkback.engine.Engine.sources`."""
    pieces = [paths[i : i + extract.SHARD] for i in range(0, len(paths), extract.SHARD)]
    if not pieces:
        return
    asked = _items("paths", [(n, [*map(absolute, piece)]) for n, piece in enumerate(pieces)])
    with closing(_rows(asked.map(_look))) as rows:
        for row in rows:
            yield from zip(pieces[row["number"]], row["found"], strict=True)


def _made(blocks: Sequence[Block], encoder: Encoder, parts: Parts) -> Generator[str]:
    """Names of the blocks as their parts are finished."""
    if not blocks:
        return
    rows, opening = _items("block", blocks), encoder.opening if isinstance(encoder, Bare) else None
    if not encoder.in_workers and opening is None:
        mend = "give its name and its model instead"
        raise HarkbackError("an encoder that was opened here cannot be sent", where=encoder.spec.name, mend=mend)
    if opening is not None and wants_gpu(opening):
        rows = rows.map(_decode, fn_kwargs={"encoder": encoder, "parts": parts}, num_cpus=1)
        pool = ray.data.ActorPoolStrategy(min_size=1)
        rows = rows.map(
            _Encoding,
            fn_constructor_args=(opening, parts),
            compute=pool,
            num_gpus=1,
            num_cpus=0,
        )
    else:
        rows = rows.map(_make, fn_kwargs={"encoder": encoder, "parts": parts}, num_cpus=1)
    with closing(_rows(rows)) as finished:
        for row in finished:
            if row["failed"]:
                raise HarkbackError(row["failed"])
            yield row["name"]


def _items(name: str, items: Sequence[Any]) -> ray.data.Dataset:
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # Here, as it is set anew by what comes before.
    return ray.data.from_items([{name: item} for item in items], override_num_blocks=len(items))


def _rows(of: ray.data.Dataset) -> Generator[dict[str, Any]]:
    """As they are finished. Closed before that, the work ends; else it would go on as long as an exception is kept."""
    with closing(iter(of.iter_rows())) as rows:
        yield from rows


# ---- on the machines ------------------------------------------------------------------------------------------------


def _look(row: dict[str, Any]) -> dict[str, Any]:
    def source(path: Path | Place) -> Source | None:
        try:
            return source_of(path)
        except OSError:
            return None

    number, paths = row["paths"]
    return {"number": number, "found": [source(path) for path in paths]}


def _make(row: dict[str, Any], encoder: Encoder, parts: Parts) -> dict[str, Any]:
    """Decode and encode a block, and write its part."""
    block: Block = row["block"]
    if why := _lost(block.name, parts):
        return {"name": block.name, "failed": why}
    here = _here(encoder.opening) if isinstance(encoder, Bare) and encoder.opening is not None else encoder
    return _write(block, featured(_decoded(block, here), here), here, parts)


def _decode(row: dict[str, Any], encoder: Encoder, parts: Parts) -> dict[str, Any]:
    block: Block = row["block"]
    why = _lost(f"{block.name}-decoded", parts)
    return {"block": block, "outcomes": [] if why else list(_decoded(block, encoder)), "failed": why}


class _Encoding:
    """Encodes blocks that were decoded elsewhere, with an encoder that it opens once."""

    def __init__(self, opening: Opening, parts: Parts) -> None:
        self.encoder, self.parts = _here(opening), parts

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        block: Block = row["block"]
        if why := row["failed"] or _lost(block.name, self.parts):
            return {"name": block.name, "failed": why}
        return _write(block, featured(iter(row["outcomes"]), self.encoder), self.encoder, self.parts)


def _lost(name: str, parts: Parts) -> str:
    """Why this is not begun once more; "": it is."""
    if (times := parts.begun(name)) <= 1 + AGAIN:
        return ""
    what = f"the process that made its part {name} was lost {times - 1} times, perhaps for want of memory"
    return str(HarkbackError(what, where=parts.root, mend="run the same command again: what was finished is kept"))


def _decoded(block: Block, encoder: Encoder) -> Iterator[tuple[str, Outcome]]:
    """In a process of its own, as everywhere: a clip that crashes its decoder is that clip's failure alone."""
    # Such a process begins by running the main file of its parent again, which here is Ray's: a second for nothing.
    vars(sys.modules["__main__"]).pop("__file__", None)
    return decoded(block.clips, encoder, workers=1)


def _write(
    block: Block, outcomes: Iterator[tuple[str, Features | Failed]], encoder: Encoder, parts: Parts
) -> dict[str, Any]:
    """failed: why there is no part, in one line."""
    gathered = Gathered()
    try:
        for key, outcome in outcomes:
            gathered.add(key, outcome)
        parts.write(block.name, gathered.features(encoder.spec.shape), gathered.failures, gathered.passing)
    except HarkbackError as error:
        return {"name": block.name, "failed": str(error)}
    except Exception as error:  # Of Ray's report nobody could read in one line what it was.
        told = f"{encoder.spec.name} failed with {type(error).__name__}: {one_line(error)}; please report it"
        return {"name": block.name, "failed": told}
    return {"name": block.name, "failed": ""}


@lru_cache(1)
def _here(opening: Opening) -> Encoder:
    return opening.open()
