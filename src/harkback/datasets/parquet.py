"""Clips in a column of Parquet, as the Hugging Face datasets library writes them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from harkback.clips import Clip, Skip
from harkback.datasets._found import Found, Placed, class_name, plain, window
from harkback.datasets._shards import WORDS, chosen, each, split_of
from harkback.datasets._tree import Tree, tree_of
from harkback.errors import HarkbackError, one_line
from harkback.places import Row, failure, system

BLOCK = 1 << 16  #: bytes that are read at once: columns of labels lie between columns of clips
LABELS = ("label", "class")  #: what the column of the class may be called
CLIPS = ("video", "clip", "audio", "media")  #: which of several columns of bytes holds the clip


class Parquet(Found):
    """Of the columns ``label``, ``id``, ``split``, ``start``, ``end`` the first alone must be there, beside the clips.

    They are read when the list is made, and the bytes of a clip when it is its turn.
    """

    LAYOUT = "put .parquet files into root/, with the columns video (bytes) and label"

    def __init__(self, root: Path | str, tree: Tree | None = None) -> None:
        super().__init__(root, tree)
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise HarkbackError(
                "reading Parquet needs pyarrow", where=root, mend='pip install "harkback[parquet]"'
            ) from error

    def _look(self, skips: list[Skip]) -> Iterator[Placed]:
        tree = self._listing or tree_of(self.root)
        for shard, found in each(partial(_rows, tree), chosen(tree, (".parquet",), skips)):
            if isinstance(found, str):
                skips.append(Skip(plain(shard), tree.place(shard), found))
                continue
            for place, facts in found:
                clip = _clip(shard, place, facts)
                if isinstance(clip, Skip):
                    skips.append(clip)
                else:
                    yield clip


def _clip(shard: str, place: Row, facts: Mapping[str, Any]) -> Placed | Skip:
    start, end = _seconds(facts["start"]) or 0.0, _seconds(facts["end"])
    name = f"{shard}!{place.inside}" if facts["id"] is None else str(facts["id"]) + window(start, end)
    name, split = plain(name), str(facts["split"] or "").strip().lower()
    if not facts["label"]:
        return Skip(name, place, "has no label")
    if split and split not in WORDS:
        return Skip(name, place, f'there is no split "{split}"')
    if not 0 <= start < math.inf or (end is not None and not start < end < math.inf):
        return Skip(name, place, f"its window makes no sense: {facts['start']} to {facts['end']} s")
    return WORDS[split] if split else split_of(shard), Clip(name, place, facts["label"], start, end)


def _seconds(value: Any) -> float | None:
    """NaN: it is no number."""
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return math.nan


def _rows(tree: Tree, shard: str) -> list[tuple[Row, dict[str, Any]]] | str:
    """Every row with what stands beside the clip; or why there are none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    url, changed = tree.url(shard), tree.files[shard][1]
    rows: list[tuple[Row, dict[str, Any]]] = []
    try:
        files, path = system(url)
        with (
            files.open(path, "rb", block_size=BLOCK, cache_type="readahead") as opened,
            pq.ParquetFile(opened) as file,
        ):
            columns = _Columns.of(file.schema_arrow)
            if isinstance(columns, str):
                return columns
            facts = columns.facts(file)
            for group in range(file.num_row_groups):
                count, size = _group(file.metadata.row_group(group), columns.clip)
                for row in range(count):
                    told, number = next(facts), len(rows)
                    rows.append((Row(url, f"{number}{told['ending']}", group, row, columns.clip, size, changed), told))
    except (pa.ArrowException, ValueError) as error:
        return f"is no Parquet file, or damaged: {one_line(error)}"
    except Exception as error:  # Every storage has its own.
        return str(failure(error, url).strerror)
    return rows


def _group(facts: Any, column: str) -> tuple[int, int]:
    """Rows of a row group, and bytes that a clip in it has on average."""
    columns = map(facts.column, range(facts.num_columns))
    total = next(each.total_uncompressed_size for each in columns if each.path_in_schema == column)
    return facts.num_rows, total // max(1, facts.num_rows)


@dataclass(frozen=True, slots=True)
class _Columns:
    """Which columns say what."""

    clip: str  #: ``video``, or ``video.bytes``
    path: str | None  #: ``video.path``: what the clip's file was called
    label: str
    names: tuple[str, ...] | None  #: of the classes, where the label is a number
    others: tuple[str, ...]  #: of id, split, start, end

    @classmethod
    def of(cls, schema: Any) -> _Columns | str:
        """Or what is wrong with them."""
        import pyarrow.types as kinds

        def holds_bytes(kind: Any) -> bool:
            return bool(kinds.is_binary(kind) or kinds.is_large_binary(kind))

        def struct(kind: Any) -> bool:
            return bool(kinds.is_struct(kind)) and any(f.name == "bytes" and holds_bytes(f.type) for f in kind)

        found = [field for field in schema if holds_bytes(field.type) or struct(field.type)]
        if len(found) > 1:
            found = [field for name in CLIPS for field in found if field.name == name][:1]
        if not found:
            return f"has no column of bytes that is called {' or '.join(CLIPS)}"
        labels = [name for name in LABELS if name in schema.names]
        if not labels:
            return f"has no column that is called {' or '.join(LABELS)}"
        clip = found[0].name
        inner = [f.name for f in found[0].type] if struct(found[0].type) else []
        return cls(
            f"{clip}.bytes" if inner else clip,
            f"{clip}.path" if "path" in inner else None,
            labels[0],
            _class_names(schema.metadata or {}, labels[0]),
            tuple(name for name in ("id", "split", "start", "end") if name in schema.names),
        )

    def facts(self, file: Any) -> Iterator[dict[str, Any]]:
        """Of every row: label, ending, id, split, start, end; None where nothing is said."""
        table = file.read(columns=[self.label, *self.others, *([self.path] if self.path else [])])
        told = {name: table.column(name).to_pylist() for name in (self.label, *self.others)}
        paths = table.column(self.path.partition(".")[0]).to_pylist() if self.path else [None] * table.num_rows
        for row in range(table.num_rows):
            facts = {name: told[name][row] if name in told else None for name in ("id", "split", "start", "end")}
            path = (paths[row] or {}).get("path") or ""
            yield {**facts, "label": self._name(told[self.label][row]), "ending": PurePosixPath(path).suffix}

    def _name(self, label: Any) -> str | None:
        if isinstance(label, int) and self.names is not None:
            return class_name(self.names[label]) if 0 <= label < len(self.names) else None
        return None if label is None else class_name(str(label))


def _class_names(metadata: Mapping[bytes, bytes], label: str) -> tuple[str, ...] | None:
    """The names of a ``ClassLabel``, as the datasets library leaves them in the schema."""
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return tuple(map(str, names)) if isinstance(names, list) else None
