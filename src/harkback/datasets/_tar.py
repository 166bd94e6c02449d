"""What is in a tar, from its headers alone.

Between two headers lies a clip, which is jumped over. A block of a few kilobytes is read at each: it holds the header,
the small files that stand beside it (the label, mostly), and the header behind those. So a sample costs one request.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from harkback.errors import one_line
from harkback.places import failure, system

BLOCK = 1 << 14  #: bytes that are read at once
TEXT = 1 << 20  #: bytes that a label's file may have, and a header with all that stands before it
MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


@dataclass(frozen=True, slots=True)
class Inside:
    """A file in a tar."""

    name: str
    offset: int  #: of its first byte
    size: int
    flaw: str | None = None  #: why it cannot be read
    text: bytes | None = None  #: what is in it, where it was asked for


@dataclass(frozen=True, slots=True)
class Contents:
    files: tuple[Inside, ...]
    flaw: str | None = None  #: why there may be more that was not found
    compressed: str | None = None  #: by what


def contents(url: str, texts: tuple[str, ...]) -> Contents:
    """texts: endings of the files that are read on the way."""
    files: list[Inside] = []
    try:
        found, path = system(url)
        with found.open(path, "rb", block_size=BLOCK, cache_type="readahead") as opened:
            start = opened.read(8)
            for magic, kind in MAGIC.items():
                if start.startswith(magic):
                    return Contents((), compressed=kind)
            opened.seek(0)
            files.extend(_files(opened, texts))
    except (tarfile.TarError, ValueError, ArithmeticError, RecursionError, EOFError) as error:
        told = one_line(error) if isinstance(error, tarfile.TarError) else "a header makes no sense"
        return Contents(tuple(files), f"is no tar, or damaged: {told}")
    except Exception as error:  # Every storage has its own.
        return Contents(tuple(files), failure(error, url).strerror)
    return Contents(tuple(files))


def _files(opened: Any, texts: tuple[str, ...]) -> Iterator[Inside]:
    end = opened.seek(0, io.SEEK_END)
    opened.seek(0)
    cautious: Any = _Cautious(opened)
    tar: Any = tarfile.open(fileobj=cautious, mode="r:", errors="surrogateescape")  # noqa: SIM115
    with closing(tar):
        while (member := tar.next()) is not None:
            tar.members.clear()  # It would keep them all.
            if member.size < 0:  # It would lead back to what was read.
                raise tarfile.ReadError("a header makes no sense")
            if member.isdir():
                continue
            flaw = None
            if not member.isreg():
                flaw = "is a link, or no plain file"
            elif member.issparse():
                flaw = "is stored with holes, so that its bytes do not lie together"
            elif member.offset_data + member.size > end:
                flaw = f"the tar ends inside it: {max(0, end - member.offset_data)} of {member.size} bytes are there"
            text = None
            if flaw is None and member.name.lower().endswith(texts):
                opened.seek(member.offset_data)
                text = opened.read(min(member.size, TEXT))
            yield Inside(member.name, member.offset_data, member.size, flaw, text)
        opened.seek(tar.offset)  # A header that is none is an end to tarfile, which says nothing.
        if opened.read(tarfile.BLOCKSIZE).strip(b"\0") or tar.offset >= end:
            raise tarfile.ReadError("it does not end as a tar does")


class _Cautious:
    """A file of which a header that lies cannot have all read, nor be led back to what was read before."""

    def __init__(self, opened: Any) -> None:
        self._opened = opened

    def read(self, count: int = -1) -> bytes:
        if not 0 <= count <= TEXT:
            raise tarfile.ReadError("a header is too large")
        return bytes(self._opened.read(count))

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        return int(self._opened.seek(place, whence))

    def tell(self) -> int:
        return int(self._opened.tell())
