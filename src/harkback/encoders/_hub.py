"""What a user typed after ``--model``: a folder, or the id of a model whose files come from the hub, once."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path, PurePosixPath
from types import ModuleType

from harkback import __version__
from harkback.encoders._hub_errors import Files, Wish, explained, token_place
from harkback.errors import HarkbackError
from harkback.files import read_json

ID = re.compile(r"(?P<id>[A-Za-z0-9][\w.-]*/[\w.-]+)(?:@(?P<revision>[\w./-]+))?", re.ASCII)
#: In place of the library's own words, which would tell the hub the versions of Python and torch.
HEADERS = {"user-agent": f"harkback/{__version__}"}
INSTALL = 'pip install "harkback[hub]"'


def model_folder(
    folder_or_id: str | Path, files: Files, *, kind: str, example: str, open_sibling: str | None = None
) -> Path:
    """The folder with these files of a model: the user's own, or the hub's cache, asking the hub only for what lacks.

    An id may name a revision: ``owner/name@revision``. kind: the model's name in messages; example: an id that works;
    open_sibling: what to type instead where people may not get access. `HarkbackError` where there is no such folder,
    or the hub does not give the files.
    """
    text = str(folder_or_id)
    folder = Path(text)
    try:
        with suppress(RuntimeError):  # "~name" of nobody: then it is no folder either.
            folder = folder.expanduser()
        if text and folder.is_dir():
            return folder
        if text and folder.exists():
            raise HarkbackError("is a file", where=folder, mend=f"give the folder that it is in: {folder.parent}")
    except OSError as error:
        raise HarkbackError(error.strerror or str(error), where=folder, mend="check the path") from error
    found = ID.fullmatch(text)
    if found is None:
        mend = f"give the folder of a {kind} model, or a hub id such as {example}"
        raise HarkbackError("there is no such folder", where=text or '""', mend=mend)
    wish = Wish(found["id"], found["revision"] or "main", files, kind, example, open_sibling)
    if library() is None:
        raise wish.error("no such folder here, and the hub's library is missing", f"{INSTALL}, or give a folder")
    return cached(wish.id, files, wish.revision) or _fetched(wish)


def cached(model: str, files: Files, revision: str = "main") -> Path | None:
    """The folder in the hub's cache, if all the files are there. Asks nobody."""
    hub = library()
    if hub is None:
        return None

    def here(name: str) -> Path | None:
        found = hub.try_to_load_from_cache(model, name, revision=revision)
        return Path(found) if isinstance(found, str) else None

    folder = None
    for entry in files:
        name, path = next(((name, path) for name in _names(entry) if (path := here(name))), ("", None))
        if path is None or not all(here(shard) for shard in _shards(name, path)):
            return None
        folder = _above(path, name)
    return folder


def hub_facts() -> dict[str, str]:
    """What there is here to reach the hub with, for people. Asks nobody."""
    if library() is None:
        return {"library": f"missing, so models come only from folders; {INSTALL}"}
    from huggingface_hub import __version__ as number
    from huggingface_hub import constants

    cache, token = Path(constants.HF_HUB_CACHE), token_place()
    return {
        "library": f"huggingface_hub {number}{', offline: HF_HUB_OFFLINE is set' if constants.HF_HUB_OFFLINE else ''}",
        "token": f"there, in {token}" if token else "none; gated models need one: `hf auth login`",
        "cache": f"{cache}, {_free(cache) / 1e9:.1f} GB free",
    }


def _fetched(wish: Wish) -> Path:
    """All files from one commit, and nothing besides."""
    import huggingface_hub as hub
    from huggingface_hub import constants
    from huggingface_hub.errors import EntryNotFoundError

    if constants.HF_HUB_OFFLINE:
        what = "no such folder here, not complete in the hub's cache, and HF_HUB_OFFLINE is set"
        raise wish.error(what, f"unset it, or {wish.elsewhere}")
    lacking: dict[str, int] = {}  # name -> bytes still to come
    commit = wish.revision

    def ask(*names: str) -> str:
        """The first of the names that the hub has."""
        nonlocal commit
        for name in names:
            with suppress(EntryNotFoundError):
                facts = hub.get_hf_file_metadata(hub.hf_hub_url(wish.id, name, revision=commit), headers=HEADERS)
                if facts.commit_hash is None or facts.etag is None:
                    what = f"what answers at {constants.ENDPOINT} is not the hub"
                    raise wish.error(what, "look whether your network wants a login or a proxy, and at HF_ENDPOINT")
                commit = facts.commit_hash  # All further files are of this one, whatever is pushed meanwhile.
                lacking[name] = _lacking(wish.id, facts.etag, facts.size or 0)
                return name
        what = f"is no {wish.kind} model: it has no {' or '.join(names)}"
        raise wish.error(what, f"give the id of one, such as {wish.example}")

    def get(name: str, revision: str) -> Path:
        return _above(Path(hub.hf_hub_download(wish.id, name, revision=revision, headers=HEADERS)), name)

    with explained(wish):
        for name in [ask(*_names(entry)) for entry in wish.files]:
            if name.endswith(".index.json"):
                for shard in _shards(name, get(name, commit) / name):
                    ask(shard)
        _check_disk(wish, sum(lacking.values()))
        for name in lacking:
            folder = get(name, commit)
        # What is fetched by commit leaves the branch's name unknown, and by that name the cache is asked next time.
        get(next(iter(lacking)), wish.revision)
    return folder


def _check_disk(wish: Wish, need: int) -> None:
    from huggingface_hub.constants import HF_HUB_CACHE

    free = _free(Path(HF_HUB_CACHE))
    if need > free:
        what = f"needs {need / 1e9:.1f} GB on the disk of {HF_HUB_CACHE}, {free / 1e9:.1f} GB are free"
        raise wish.error(what, "free some, or set HF_HUB_CACHE to a folder on a larger disk")


def _lacking(model: str, etag: str, size: int) -> int:
    """Bytes of a file that the cache does not hold; some versions of the library go on where they were cut off."""
    from huggingface_hub.constants import HF_HUB_CACHE

    blobs = Path(HF_HUB_CACHE, f"models--{model.replace('/', '--')}", "blobs")
    held = (blobs / etag, blobs / f"{etag}.incomplete")
    return max(0, size - sum(path.stat().st_size for path in held if path.is_file()))


def _free(folder: Path) -> int:
    """Bytes free on the disk where the folder is, or would be."""
    for path in (folder.absolute(), *folder.absolute().parents):
        with suppress(OSError):
            return shutil.disk_usage(path).free
    return 0


def library() -> ModuleType | None:
    """The hub's own library; None: it is not installed."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # Read when the library is first imported.
    try:
        import huggingface_hub
    except ImportError:
        return None
    return huggingface_hub


def _names(entry: str | tuple[str, ...]) -> tuple[str, ...]:
    return (entry,) if isinstance(entry, str) else entry


def _shards(name: str, path: Path) -> list[str]:
    """The files that an index, which lies at ``path``, names; none if it is no index."""
    if not name.endswith(".index.json"):
        return []
    try:
        # The file itself: were only the cache's link to it deleted, the library would link it again.
        found = set(read_json(path.resolve(), "delete it; it is fetched again")["weight_map"].values())
        return sorted(str(PurePosixPath(name).with_name(shard)) for shard in found)  # A name that is a path raises.
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise HarkbackError("names no files of tensors", where=path, mend="check that it is the model") from error


def _above(path: Path, name: str) -> Path:
    """The snapshot in which ``name`` lies at ``path``."""
    return path.parents[len(PurePosixPath(name).parts) - 1]
