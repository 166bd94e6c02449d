"""What went wrong, where, and how to mend it: one line, never a traceback."""

from __future__ import annotations

import errno
from pathlib import Path

JOINERS = "\u200c\u200d"  #: without which words of some scripts, and emoji made of several, fall apart


#: By the number of the operating system's error.
MENDS = {
    errno.ENOSPC: "free some space and start again: what was finished is kept",
    errno.EFBIG: "allow larger files and start again: what was finished is kept",
    errno.EDQUOT: "free some space and start again: what was finished is kept",
    errno.EMFILE: "allow more open files (ulimit -n) and start again: what was finished is kept",
    errno.ENFILE: "end programs that hold files open and start again: what was finished is kept",
    errno.ENOMEM: "free some memory and start again: what was finished is kept",
    errno.EACCES: "choose another folder or change its permissions",
    errno.EPERM: "choose another folder or change its permissions",
    errno.EROFS: "choose a folder that can be written to",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "choose a folder: a file stands in the way",
    errno.EEXIST: "choose a folder: a file stands in the way",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def mend_of(error: OSError, otherwise: str) -> str:
    """How to mend what the operating system refuses."""
    return MENDS.get(error.errno or 0, otherwise)


def starved(error: BaseException) -> bool:
    """Whether there was too little memory; PyTorch, and Python of a thread's stack, say so in words alone."""
    words = ("alloc", "start new thread")
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(w in str(error) for w in words))


def one_line(text: object) -> str:
    """``text`` without line breaks or control characters: file names may hold anything."""
    return "".join(c if c.isprintable() or c in JOINERS else c.encode("unicode_escape").decode() for c in str(text))


class HarkbackError(Exception):
    """A failure that the reader of the message can mend.

    ``str(error)`` is one line: ``where: what; mend``. The command line prints it and exits with status 2.
    """

    def __init__(self, what: str, *, where: str | Path | None = None, mend: str | None = None) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.mend = mend
        super().__init__(what)

    def __str__(self) -> str:
        line = self.what if self.where is None else f"{self.where}: {self.what}"
        return one_line(line if self.mend is None else f"{line}; {self.mend}")

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders (decoding runs in workers); the default would drop the keywords.
        return (_rebuild, (type(self), self.what, self.where, self.mend))


def _rebuild(kind: type[HarkbackError], what: str, where: str | None, mend: str | None) -> HarkbackError:
    return kind(what, where=where, mend=mend)
