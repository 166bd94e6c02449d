"""What lies in a folder or behind a URL, found by one request: names, sizes, and when they changed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harkback.datasets._walk import files_in
from harkback.errors import HarkbackError
from harkback.places import PACKAGES, Remote, failure, lacking, system, version

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
#: Endings of what often lies beside shards, and is no clip there.
ASIDE = frozenset(
    ("", ".txt", ".md", ".rst", ".html", ".json", ".jsonl", ".csv", ".tsv", ".yaml", ".yml", ".toml", ".idx", ".index",
     ".sh", ".py", ".ipynb", ".jpg", ".jpeg", ".png", ".gif", ".svg", ".pdf", ".bib", ".sha256", ".md5")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tree:
    """The files below a root, but hidden ones."""

    root: str  #: a URL, or the path of a folder of this machine
    files: Mapping[str, tuple[int, int]]  #: name relative to the root, with ``/`` -> bytes, and `Place.changed`
    folders: tuple[str, ...] = ()  #: those that a storage has as such

    def url(self, name: str) -> str:
        return f"{self.root}{'' if self.root.endswith('/') else '/'}{name}"

    def place(self, name: str) -> Remote:
        return Remote(self.url(name), *self.files.get(name, (0, 0)))


def tree_of(root: Path | str) -> Tree:
    """Raises `HarkbackError` where it cannot be had, or holds nothing."""
    tree = _here(root) if isinstance(root, Path) else _there(root)
    if not tree.files:
        raise HarkbackError("there are no clips in it: it is empty", where=root, mend="check the address")
    return tree


def shards_in(names: Iterable[str]) -> str | None:
    """The dataset that reads these files, where they are shards: "webdataset" or "parquet".

    Shards they are if nothing else could be a clip: a tar among class folders is a stray file.
    """
    found: set[str] = set()
    for name in names:
        if name == "clips.csv":
            return None
        ending = PurePosixPath(name).suffix.lower()
        if name.lower().endswith(TARS):
            found.add("webdataset")
        elif ending == ".parquet":
            found.add("parquet")
        elif ending not in ASIDE:
            return None
    return max(found, default=None)


def _here(root: Path) -> Tree:
    base = root.resolve()
    files = {}
    for name in files_in(base):
        stat = (base / name).stat()
        files[name] = stat.st_size, stat.st_mtime_ns
    return Tree(base.as_posix(), files)


def _there(url: str) -> Tree:
    _check(url)
    try:
        files, base = system(url)
        files.invalidate_cache()  # What was listed a while ago may be other by now.
        listed = files.find(base, detail=True)
    except Exception as error:  # Every storage has its own.
        raise _unreachable(error, url) from error
    found, folders, outside = {}, [], base.rstrip("/")
    for path, facts in listed.items():
        if not path.startswith(outside):
            raise HarkbackError(f"lists {path}, which does not lie in it", where=url, mend="check the address")
        name = path.removeprefix(outside).lstrip("/")
        if not name:
            raise HarkbackError("is not a folder", where=url, mend="give the address of the folder that it lies in")
        if any(part.startswith(".") for part in name.split("/")):
            continue
        if facts.get("type") == "directory" or name.endswith("/"):
            folders.append(f"{name.rstrip('/')}/")
        else:
            found[name] = int(facts.get("size") or 0), version(facts)
    return Tree(url, found, tuple(folders))


def _check(url: str) -> None:
    """An address goes into stores, reports and messages, so that it may hold no secret."""
    protocol, _, rest = url.partition("://")
    if re.match(r"[^/@]*:[^/@]*@", rest) or (protocol in ("http", "https") and "?" in rest):
        raise HarkbackError(
            "the address holds a password or a signature, which would be written into stores and reports",
            where=re.sub(r"^[^/@]*@", "...@", rest).partition("?")[0],
            mend="leave it out, and let the storage's own settings say it",
        )


def _unreachable(error: Exception, url: str) -> HarkbackError:
    protocol = url.partition("://")[0].rpartition("::")[2]
    if missing := lacking(url):
        if protocol in PACKAGES:
            return HarkbackError(f"{protocol}:// needs a package that is not here", where=url, mend=missing)
        return HarkbackError(missing, where=url, mend="check the address")
    told = failure(error, url).strerror
    return HarkbackError(f"cannot be listed: {told}", where=url, mend="check the address, and your right to read it")
