"""The same few clips, put where clips can lie; and a storage to break things with."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from fakes import tone

#: name -> pitch in Hz, and its class is the folder
CLIPS = {
    **{f"train/{label}/{i}.wav": 300 + 150 * i + at for at, label in enumerate(("dog", "cat")) for i in range(3)},
    "test/dog/9.wav": 940,
    "test/cat/9.wav": 990,
}


def sounds(root: Path) -> dict[str, bytes]:
    """The clips as files below a root, and their bytes."""
    return {name: tone(root / name, pitch).read_bytes() for name, pitch in CLIPS.items()}


def packed(files: Iterable[tuple[str, bytes]], format: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of these files, in this order."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as tar:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def tars(clips: Mapping[str, bytes]) -> dict[str, bytes]:
    """Two shards to learn from and one to ask, each of their labels told in another way."""
    by_split = {split: [name for name in clips if name.startswith(split)] for split in ("train", "test")}
    files: dict[str, list[tuple[str, bytes]]] = {"train-0.tar": [], "train-1.tar": [], "test-0.tar": []}
    for split, names in by_split.items():
        for i, name in enumerate(names):
            shard = files[f"{split}-{i % 2 if split == 'train' else 0}.tar"]
            label, key = name.split("/")[1], f"{i:06d}"
            told = {0: (".cls", label.encode()), 1: (".json", json.dumps({"label": label}).encode())}
            if i % 3 == 2:
                shard.append((f"{label}/{key}.wav", clips[name]))
            else:
                shard += [(f"{key}.wav", clips[name]), (key + told[i % 3][0], told[i % 3][1])]
    return {name: packed(inside) for name, inside in files.items()}


def parquet(
    rows: Mapping[str, Any],
    kinds: Mapping[str, Any],
    features: Mapping[str, Any] | None = None,
    group: int = 2,
    compression: str = "snappy",
) -> bytes:
    """A file of these columns. features: what the datasets library would write beside the schema."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, kinds[name]) for name in rows])
    if features is not None:
        schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    out = io.BytesIO()
    pq.write_table(
        pa.table({name: list(values) for name, values in rows.items()}, schema),
        out,
        row_group_size=group,
        compression=compression,
    )
    return out.getvalue()


def tables(clips: Mapping[str, bytes]) -> dict[str, bytes]:
    """As the datasets library has them: a struct of bytes and path, numbers for classes."""
    import pyarrow as pa

    names = ["cat", "dog"]
    kinds = {"audio": pa.struct([("bytes", pa.binary()), ("path", pa.string())]), "label": pa.int64()}
    files = {}
    for split in ("train", "test"):
        some = [name for name in clips if name.startswith(split)]
        rows = {
            "audio": [{"bytes": clips[name], "path": name.rpartition("/")[2]} for name in some],
            "label": [names.index(name.split("/")[1]) for name in some],
        }
        told = {"audio": {"_type": "Audio"}, "label": {"names": names, "_type": "ClassLabel"}}
        files[f"data/{split}-00000-of-00001.parquet"] = parquet(rows, kinds, told)
    return files


def put(url: str, files: Mapping[str, bytes]) -> str:
    """Write files below a URL, or a folder; returns it."""
    for name, content in files.items():
        found, path = fsspec.url_to_fs(f"{url}/{name}")
        found.makedirs(path.rpartition("/")[0], exist_ok=True)
        found.pipe_file(path, content)
    return url


class Broken(MemoryFileSystem):
    """``broken://``: lists what it has, and cannot hand it over. It counts what it is asked."""

    protocol = "broken"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012
    error: Exception | None = None  #: what every reading raises
    asked: list[tuple[str, int | None, int | None]] = []  # noqa: RUF012
    listed: int = 0
    known: dict[Any, Any] = {}  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: Any) -> str:
        stripped: str = MemoryFileSystem._strip_protocol(str(path).removeprefix("broken://"))
        return stripped

    def find(self, path: Any, *args: Any, **kwargs: Any) -> Any:
        """It remembers its listings, as those behind a network do."""
        if path not in Broken.known:
            Broken.listed += 1
            Broken.known[path] = super().find(path, *args, **kwargs)
        return Broken.known[path]

    def invalidate_cache(self, path: Any = None) -> None:
        Broken.known.clear()

    def cat_file(self, path: Any, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        Broken.asked.append((path, start, end))
        if Broken.error is not None:
            raise Broken.error
        content: bytes = super().cat_file(path, start=start, end=end, **kwargs)
        return content


class Ranged(AbstractFileSystem):
    """``ranged://``: a storage that is asked for stretches of files, as those behind a network are; it counts them."""

    protocol = "ranged"
    cachable = False
    files: dict[str, bytes] = {}  # noqa: RUF012
    asked: list[tuple[int, int]] = []  # noqa: RUF012

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        return {"name": path, "size": len(self.files[path]), "type": "file", "ETag": "1"}

    def find(self, path: str, *args: Any, **kwargs: Any) -> Any:
        return {name: self.info(name) for name in self.files}

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        return _RangedFile(self, path, mode, **kwargs)


class _RangedFile(AbstractBufferedFile):
    def _fetch_range(self, start: int, end: int) -> bytes:
        Ranged.asked.append((start, end))
        return Ranged.files[self.path][start:end]
