"""Where a clip's bytes are when they are no file of this machine: behind a URL, in a tar, in a row of Parquet.

A `Place` is fetched whole. To be decoded it becomes a file for a moment (`at_hand`), since a decoder jumps about in it,
and every jump would be a request. Places travel to worker processes, and hold no password: those are the storage's.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from time import time_ns
from typing import Any, Protocol

from harkback.errors import one_line

#: What must be installed for a URL to be read, by what it begins with.
PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "hf": '"harkback[hub]"', "az": "adlfs", "abfs": "adlfs", "sftp": "paramiko"}
PACKAGES |= {"http": "aiohttp", "https": "aiohttp"}
#: What storages say about a file that is another when its content is, best first; and when it was written.
TAGS = ("ETag", "etag", "md5Hash", "crc32c", "generation", "blob_id", "checksum", "content_md5")
TIMES = ("mtime", "LastModified", "last_modified", "updated", "modified", "modify", "created")


class Place(Protocol):
    """Where the bytes of a clip are. Equal places are equal values, and may be sent to another process."""

    @property
    def name(self) -> str:
        """Unique, such as ``s3://bucket/a.mp4`` or ``s3://bucket/train-000.tar!dog/01.mp4``."""
        ...

    @property
    def size(self) -> int:
        """Bytes of the clip's file; of a row of Parquet, what the rows beside it have on average."""
        ...

    @property
    def changed(self) -> int:
        """64 bits with a sign: another number when the content may be another."""
        ...

    def read(self) -> bytes:
        """All of it. Whatever fails is an `OSError` whose ``strerror`` says what."""
        ...


@contextmanager
def at_hand(where: Path | Place) -> Iterator[Path]:
    """A file to open for the length of the block. A place is fetched, into a file that is gone afterwards."""
    if isinstance(where, Path):
        yield where
        return
    content = where.read()
    # Of a stranger's name the ending alone is used, which some formats are known by.
    ending = re.search(r"\.[A-Za-z0-9]{1,10}$", where.name)
    number, name = tempfile.mkstemp(ending[0] if ending else "", "harkback-")
    path = Path(name)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
        del content
        yield path
    finally:
        path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Remote:
    """A file of any file system that fsspec knows."""

    url: str
    size: int
    changed: int

    @property
    def name(self) -> str:
        return self.url

    def read(self) -> bytes:
        return _fetched(self.url, self.url)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class _Within:
    """A part of a file."""

    url: str  #: of the file; or its path on this machine
    inside: str  #: what the part is called

    @property
    def name(self) -> str:
        return f"{self.url}!{self.inside}"

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Member(_Within):
    """A file in a tar that is not compressed: a stretch of it, had by one request."""

    offset: int  #: of its first byte
    size: int
    changed: int

    def read(self) -> bytes:
        content = _fetched(self.url, self.name, self.offset, self.offset + self.size) if self.size else b""
        if len(content) < self.size:
            raise OSError(errno.EIO, f"the tar ends inside it, after {len(content)} of {self.size} bytes", self.name)
        if len(content) > self.size:
            raise OSError(errno.EIO, "this storage hands over whole files only: keep no tars there", self.name)
        return content


@dataclass(frozen=True, slots=True)
class Row(_Within):
    """A value in a column of Parquet: bytes, or a struct with a field ``bytes``.

    Parquet is read by row groups. The last two are kept in the process, with the compression undone: the next rows are
    in them, and threads that read side by side are in two at most. It is called by its number in the file, and the
    ending of the clip's name if it has one.
    """

    group: int
    row: int  #: in the group
    column: str  #: ``video``, or ``video.bytes`` where it is a struct
    size: int
    changed: int

    def read(self) -> bytes:
        try:
            with _READING:
                values = _column(self.url, self.changed, self.group, self.column)
            value = values[self.row].as_py()
        except Exception as error:
            raise failure(error, self.name) from error
        content = value["bytes"] if isinstance(value, dict) else value
        if content is None:
            raise OSError(errno.EIO, f"the column {self.column} is empty in this row", self.name)
        return bytes(content)


def system(url: str) -> tuple[Any, str]:
    """The file system of a URL, or of this machine for a path, and what it calls the file; or fsspec's own errors."""
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

    if "://" not in url:
        return LocalFileSystem(), url
    files, path = fsspec.url_to_fs(url)
    return files, path


def version(facts: Mapping[str, Any]) -> int:
    """What `Place.changed` is to be, of what a file system's ``info`` says about a file."""
    for tag in TAGS:
        if facts.get(tag):
            told = f"{tag}={facts[tag]}".encode("utf-8", "backslashreplace")
            return int.from_bytes(blake2b(told, digest_size=8).digest(), signed=True)
    for time in TIMES:
        when = facts.get(time)
        if isinstance(when, str):
            return int.from_bytes(blake2b(when.encode(), digest_size=8).digest(), signed=True)
        if isinstance(when, datetime):
            when = when.timestamp()
        if isinstance(when, int | float) and abs(when) < 2**33:
            return int(when) * 10**9 + round(when % 1 * 1e9)
    return time_ns()  # Nothing is known, so it may be another each time that it is asked.


def failure(error: Exception, name: str) -> OSError:
    """Whatever a storage raised, as an error of the operating system that says in one line what happened."""
    for kind, number in (
        (FileNotFoundError, errno.ENOENT),
        (PermissionError, errno.EACCES),
        (IsADirectoryError, errno.EISDIR),
        (TimeoutError, errno.ETIMEDOUT),
    ):
        if isinstance(error, kind):
            return kind(number, os.strerror(number), name)
    if isinstance(error, ImportError | ValueError) and (missing := lacking(name)):
        return OSError(errno.EIO, missing, name)
    said = (isinstance(error, OSError) and error.strerror) or f"{type(error).__name__}: {error}"
    # A storage's message may quote an address that is signed: whoever has it may read what it leads to.
    return OSError(errno.EIO, re.sub(r"(\w+://[^\s?]+)\?\S+", r"\1?...", one_line(said))[:300], name)


def lacking(url: str) -> str | None:
    """What to install for a URL; None if nothing is missing."""
    import fsspec

    if "://" not in url:
        return None
    protocol = url.partition("://")[0].rpartition("::")[2]
    try:
        fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        return f"pip install {PACKAGES[protocol]}" if protocol in PACKAGES else one_line(error)
    except ValueError:
        return f"{protocol}:// is no protocol that fsspec knows"
    return None


def _fetched(url: str, name: str, start: int | None = None, end: int = 0) -> bytes:
    """All of a file, or a stretch of it."""
    from fsspec.spec import AbstractFileSystem

    try:
        files, path = system(url)
        if start is not None and type(files).cat_file is AbstractFileSystem.cat_file:  # which reads megabytes ahead
            with files.open(path, "rb", cache_type="none") as opened:
                opened.seek(start)
                return bytes(opened.read(end - start))
        return bytes(files.cat_file(path, start=start, end=None if start is None else end))
    except Exception as error:  # Every storage has its own.
        raise failure(error, name) from error


_READING = threading.Lock()  #: else every thread would read the group that all of them wait for


@lru_cache(maxsize=2)
def _column(url: str, changed: int, group: int, column: str) -> Any:
    """The values of a row group. changed: so that what is kept is not taken for what the file has become."""
    del changed
    import pyarrow.parquet as pq

    files, path = system(url)
    with files.open(path, "rb") as opened, pq.ParquetFile(opened) as file:
        return file.read_row_group(group, columns=[column]).column(0)
