"""The files of a folder and its sub-folders, found in one go."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from harkback.errors import HarkbackError


def files_in(root: Path) -> Iterator[str]:
    """Every file that is not hidden, relative to the root and with ``/``; in no order.

    Links are followed, as large data is often kept elsewhere, and each folder is entered once, however many links lead
    to it. Raises `HarkbackError` where a folder cannot be listed.
    """
    folders, seen = [""], set()
    try:
        while folders:
            inner = folders.pop()
            real = os.path.realpath(root / inner)
            if real in seen:
                continue
            seen.add(real)
            with os.scandir(real) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        folders.append(f"{inner}{entry.name}/")
                    elif entry.is_file():
                        yield inner + entry.name
    except OSError as error:
        where = error.filename or root
        raise HarkbackError(error.strerror or str(error), where=where, mend="check its permissions") from error
