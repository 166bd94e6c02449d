"""An HDF5 file with one dataset a clip, named by its id.

An HDF5 file may send its reader to other files: by links, as a virtual dataset, or as external storage. A downloaded
file has no business with the files of the one who reads it, so all three are errors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harkback.datasets._pickled_arrays import MOST, Read
from harkback.errors import HarkbackError

#: How h5py says that a file makes no sense.
DAMAGE = (KeyError, TypeError, ValueError, RuntimeError, AttributeError, OverflowError, MemoryError)


class Hdf5Arrays:
    """The arrays of a file, by name. `HarkbackError` without h5py, or if it is another kind of file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._h5py = _library(path)

    @cached_property
    def ids(self) -> frozenset[str]:
        """Names of what the file holds at its top; what they are is looked at when they are read."""
        with self._file() as file:
            try:
                return frozenset(file)
            except DAMAGE as error:
                raise HarkbackError(f"is damaged: {error}", where=self.path, mend="fetch it again") from error

    @contextmanager
    def opened(self) -> Iterator[Read]:
        """A function from the name of an array to the array, copied into memory; OSError where it cannot be read."""
        with self._file() as file:
            yield lambda name: self._read(file, name)

    def _file(self) -> Any:
        try:
            return self._h5py.File(self.path, "r")
        except OSError as error:
            what = error.strerror or str(error).strip()
            raise HarkbackError(f"cannot be opened as HDF5: {what}", where=self.path, mend="fetch it again") from error

    def _read(self, file: Any, name: str) -> NDArray[Any]:
        where, mend = f"{self.path}, {name}", "fetch the file again"
        try:
            link = file.get(name, getlink=True)
            if not isinstance(link, self._h5py.HardLink):
                raise HarkbackError("is a link, which may lead out of the file", where=where, mend=mend)
            data = file[name]
            if not isinstance(data, self._h5py.Dataset) or data.dtype.kind not in "fiub":
                raise HarkbackError("is no array of numbers", where=where, mend=mend)
            if data.is_virtual or data.external:
                raise HarkbackError("keeps its numbers in another file", where=where, mend=mend)
            # A chunk is read whole, however little of it belongs to the array.
            size = max(math.prod(shape) for shape in (data.shape, data.chunks or ())) * data.dtype.itemsize
            if size > MOST:
                raise HarkbackError(f"holds {size} bytes, which no clip has", where=where, mend=mend)
            if data.nbytes and not data.id.get_storage_size():  # HDF5 would give zeros, which look like data.
                raise OSError("was never written")
            return np.asarray(data[()])
        except DAMAGE as error:
            raise OSError(f"is damaged: {error}") from error


def _library(path: Path) -> ModuleType:
    try:
        import h5py
    except ImportError as error:
        raise HarkbackError("needs h5py to be read", where=path, mend='pip install "harkback[avcil]"') from error
    module: ModuleType = h5py
    return module
