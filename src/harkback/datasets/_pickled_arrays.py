"""``np.save`` of a dict of arrays: a ``.npy`` file with a pickle inside, read without running it.

One pass over the instructions (`harkback.datasets._pickle_machine`) notes where the numbers of each array lie and jumps
over them, so it takes seconds and little memory whatever the size of the file; then arrays are read one by one.
"""

from __future__ import annotations

import ast
import pickletools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from harkback.datasets._pickle_machine import BYTES, TEXTS, Array, LongText, Machine, Refused, Stretch
from harkback.errors import HarkbackError

SHORT = 512  #: bytes; what is longer stays in the file
KEPT = 64 * 2**20  #: bytes of short things in all
MOST = 2**28  #: bytes of one array: fifty times those of a clip of VideoMAE
MAGIC = b"\x93NUMPY"
FETCH = "fetch the released file again"

Read = Callable[[str], NDArray[Any]]


class PickledArrays:
    """The arrays of a file, by name. Raises `HarkbackError` if it is another kind of file, which its header tells."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._size = path.stat().st_size
            with path.open("rb") as file:
                self._begin = _after_header(file, path)
        except OSError as error:
            raise HarkbackError(error.strerror or str(error), where=path, mend="check the disk") from error

    @cached_property
    def ids(self) -> frozenset[str]:
        """Names of the arrays. Raises `HarkbackError` if the file is damaged or holds anything else than arrays."""
        return frozenset(self._arrays)

    @contextmanager
    def opened(self) -> Iterator[Read]:
        """A function from the name of an array to the array, copied into memory; OSError where it cannot be read."""
        with self.path.open("rb") as file:
            yield lambda name: _read(self._arrays[name], file)

    @cached_property
    def _arrays(self) -> dict[str, Array]:
        try:
            with self.path.open("rb") as file:
                file.seek(self._begin)
                result = Machine().run(_steps(_Source(file, self._size)))
            if isinstance(result, Array) and isinstance(result.data, list) and result.shape == ():
                (result,) = result.data
            if not isinstance(result, dict):
                raise Refused("holds no dict of arrays")
            for name, value in result.items():
                if not isinstance(value, Array) or value.data is None or isinstance(value.data, list):
                    raise Refused(f'holds, under "{name[:40]}", something that is no array of numbers')
                if isinstance(value.data, Stretch) and value.data.length > MOST:
                    raise Refused(f'holds, under "{name[:40]}", {value.data.length} bytes, which no clip has')
        except OSError as error:
            raise HarkbackError(error.strerror or str(error), where=self.path, mend="check the disk") from error
        except Refused as error:
            raise HarkbackError(f"{error}; nothing of it was run", where=self.path, mend=FETCH) from error
        except (ValueError, TypeError, KeyError, IndexError, AssertionError) as error:
            what = "is damaged: its instructions make no sense; nothing of it was run"
            raise HarkbackError(what, where=self.path, mend=FETCH) from error
        return result


def _after_header(file: IO[bytes], path: Path) -> int:
    """Where the pickle begins. The header: magic, version, length (2 bytes, from version 2 on 4), text of a dict."""
    start = file.read(12)
    if not start.startswith(MAGIC) or len(start) < 12:
        raise HarkbackError("is no .npy file", where=path, mend=FETCH)
    wide = start[6] > 1
    length = int.from_bytes(start[8:12] if wide else start[8:10], "little")
    file.seek(begin := 12 if wide else 10)
    try:
        header = ast.literal_eval(file.read(min(length, 10_000)).decode("latin1").strip())
        kind, shape = header["descr"], header["shape"]
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError) as error:
        raise HarkbackError("is damaged: its header is no header", where=path, mend=FETCH) from error
    if kind not in ("|O", "O", "|O8", "|O4") or shape != ():
        found = f"an array of kind {str(kind)[:40]} and shape {str(shape)[:40]}"
        raise HarkbackError(f"holds {found}, not arrays by the ids of clips", where=path, mend="give another file")
    return begin + length


class _Absent(bytes):
    """Stands for bytes that were left in the file: empty, but as long as they are."""

    length: int

    def __len__(self) -> int:
        return self.length


class _Source:
    """What `pickletools.genops` reads from: it hands out short things, and jumps over long ones."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._size, self._kept = file, size, 0
        self.left: tuple[int, int] | None = None  #: offset and length of what was jumped over last

    def read(self, count: int) -> bytes:
        if count <= SHORT:
            self._kept += count
            if self._kept > KEPT:
                raise Refused(f"holds more than {KEPT >> 20} MB of small things")
            data = self._file.read(count)
            if len(data) < count:
                raise Refused("is cut off")
            return data
        begin = self._file.tell()
        if count > self._size - begin:
            raise Refused("is cut off")
        self._file.seek(begin + count)
        self.left = begin, count
        absent = _Absent()
        absent.length = count
        return absent

    def readline(self) -> bytes:
        line = self._file.readline(SHORT)
        if not line.endswith(b"\n"):
            raise Refused("is cut off" if len(line) < SHORT else "has a name that never ends")
        return line


def _steps(source: _Source) -> Iterator[tuple[str, Any]]:
    """Name and argument of each instruction; long arguments as where they lie."""
    for code, arg, _ in pickletools.genops(cast(IO[bytes], source)):
        if source.left is not None:
            if code.name not in BYTES | TEXTS:
                raise Refused(f"gives {code.name} an argument that is too long")
            arg = (LongText if code.name in TEXTS else Stretch)(*source.left)
            source.left = None
        yield code.name, arg


def _read(array: Array, file: IO[bytes]) -> NDArray[Any]:
    raw, kind = array.data, array.kind
    assert kind is not None
    try:
        if isinstance(raw, Stretch):
            file.seek(raw.offset)
            data = file.read(raw.length)
            if raw.utf8:
                data = data.decode("utf-8", "surrogatepass").encode("latin1")
        else:
            assert isinstance(raw, bytes)
            data = raw
        order = "" if kind.order == "|" else kind.order
        return np.frombuffer(data, np.dtype(order + kind.code)).reshape(array.shape, order=array.order)
    except ValueError as error:
        raise OSError("is damaged: its numbers do not fill its shape") from error
