"""Files of clients on the way through: in a folder of this server's own, under names of ours, gone when it ends."""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from harkback.app.words import Problem
from harkback.errors import one_line
from harkback.formats import size

PREFIX = "harkback-app-"
LOCK = ".lock"  #: held while the server lives: what a killed one left is told by it
PIECE = 1 << 20  #: bytes that are copied at once
SPARE = 256 << 20  #: bytes that the disk must have left
SHOWN = 200  #: characters of a file's name


class Scratch:
    """A folder that only this user can read."""

    def __init__(self) -> None:
        _sweep(Path(tempfile.gettempdir()))
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock = FileLock(self.folder / LOCK)
        self._lock.acquire()

    def new(self) -> Path:
        """An empty folder in it."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def close(self) -> None:
        self._lock.release()
        shutil.rmtree(self.folder, ignore_errors=True)


def keep(file: BinaryIO, name: str, place: Path, most: int) -> Path:
    """Copy an upload to ``place``, with the suffix of the client's name for it; most: bytes.

    Raises `Problem` for one that is too large or empty, or if the disk is full.
    """
    path = place.with_name(place.name + _suffix(name))
    shown, length = title(name), 0
    try:
        if shutil.disk_usage(place.parent).free < SPARE:
            raise Problem(507, "the disk is full; free some space")
        with path.open("wb") as out:
            while piece := file.read(PIECE):
                length += len(piece)
                if length > most:
                    raise Problem(413, f"{shown}: is larger than {size(most)}; send a part of it")
                out.write(piece)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise Problem(507, f"{shown}: could not be kept ({error.strerror}); free some space") from error
    except Problem:
        path.unlink(missing_ok=True)
        raise
    if not length:
        path.unlink()
        raise Problem(422, f"{shown}: is empty; send a media file")
    return path


def title(name: str | None) -> str:
    """A client's file name as it is shown: without folders, of printable characters."""
    last = (name or "").replace("\\", "/").rpartition("/")[2]
    return one_line(last)[:SHOWN] or "clip"


def _suffix(name: str) -> str:
    """A hint for FFmpeg at what is in it; nothing else of a client's name becomes a path."""
    found = re.search(r"\.[A-Za-z0-9]{1,5}$", name)
    return found[0].lower() if found else ""


def _sweep(root: Path) -> None:
    """Remove the folders of servers that were killed."""
    for folder in root.glob(f"{PREFIX}*"):
        with suppress(OSError, Timeout):
            # Everybody may put something there: what is another's, or leads elsewhere, is let alone.
            if _ours(folder) and _ours(folder / LOCK):
                with FileLock(folder / LOCK, timeout=0):
                    shutil.rmtree(folder, ignore_errors=True)


def _ours(path: Path) -> bool:
    about = path.lstat()
    return not stat.S_ISLNK(about.st_mode) and about.st_uid == getattr(os, "getuid", lambda: about.st_uid)()
