"""Files that are whole or not there: written beside their place, then moved in."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from harkback.errors import HarkbackError, mend_of
from harkback.state import State

#: This machine, in the names of half-written files: where several write to one folder, two may have equal process ids.
HERE = hashlib.sha256(platform.node().encode()).hexdigest()[:8]


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path to write to; moved to ``path`` at the end of the block, removed if the block fails."""
    temporary = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        # What a crash of the machine leaves must be whole too: the bytes reach the disk before the name does.
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise explained(error, path) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _beside(path: Path) -> Path:
    """Whose it is stands in its name, so that `sweep` can tell when that is dead."""
    return path.with_name(f".{path.name}.{HERE}-{os.getpid()}.part")


def sweep(folder: Path) -> None:
    """Remove what killed processes of this machine left half written in a folder; of others nobody here can tell."""
    for path in folder.glob(".*.part"):
        machine, _, process = path.suffixes[-2].lstrip(".").partition("-") if len(path.suffixes) > 1 else ("", "", "")
        if machine == HERE and process.isdecimal() and not _alive(int(process)):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    if os.name == "nt":  # There, signal 0 is no question but Ctrl-C.
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def write_json(path: Path, facts: Any) -> None:
    """Pure ASCII: a file name may hold bytes that are no text, which UTF-8 could not carry."""
    with whole(path) as temporary:
        temporary.write_text(json.dumps(facts, indent=1, allow_nan=False) + "\n", encoding="ascii")


def read_json(path: Path, mend: str = "delete it; what it described is made again") -> Any:
    """mend: what to do if the file is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise explained(error, path) from error
    except ValueError as error:
        raise HarkbackError(f"is damaged: {error}", where=path, mend=mend) from error


def write_arrays(path: Path, arrays: State) -> None:
    with whole(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        # It begins a file of its own beside the one that it is told: of a killed process nobody would know whose it is.
        room = _beside(path.with_suffix(".room"))
        try:
            room.mkdir(exist_ok=True)
            save_file(arrays, room / path.name)
            (room / path.name).chmod(mode)  # It makes files that nobody else may read, whatever the user's umask says.
            (room / path.name).replace(temporary)
        except SafetensorError as error:  # It wraps the operating system's errors and loses their number.
            raise explained(_system_error(error), path) from error
        finally:
            shutil.rmtree(room, ignore_errors=True)


def read_arrays(path: Path, mend: str = "delete it; what it held is made again") -> State:
    """Arrays that lie in the file's memory map until they are touched. mend: what to do if the file is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    except FileNotFoundError as error:  # It comes without its number.
        raise explained(FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)), path) from error
    except OSError as error:
        raise explained(error, path) from error
    except SafetensorError as error:
        raise HarkbackError(f"is damaged: {error}", where=path, mend=mend) from error
    except RuntimeError as error:  # PyTorch's, which opens the file once more.
        found = re.search(r"\((\d+)\)$", str(error).partition("\n")[0])
        if found is None or int(found[1]) == errno.ENOENT:  # It was moved away meanwhile.
            raise
        raise explained(OSError(int(found[1]), os.strerror(int(found[1]))), path) from error


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(*facts: Any) -> str:
    """A short name for facts (anything JSON can hold): equal facts, equal name."""
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _system_error(error: SafetensorError) -> OSError:
    found = re.search(r"(?:os error|code:) (\d+)", str(error))
    return OSError(int(found[1]), os.strerror(int(found[1]))) if found else OSError(str(error))


def explained(error: OSError, path: Path) -> HarkbackError:
    return HarkbackError(error.strerror or str(error), where=path, mend=mend_of(error, "check the disk"))
