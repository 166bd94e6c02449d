"""Work on many machines, by Ray (extra ``ray``). Nothing of it is imported where one machine does it."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harkback.engine import Engine
from harkback.errors import HarkbackError


@contextmanager
def joined(on: str | None) -> Iterator[Engine | None]:
    """The machines that ``on`` names, for the length of a ``with`` block; None: this process does its work itself.

    on: "ray": the Ray cluster that this machine belongs to, since ``RAY_ADDRESS`` says so or ``ray start`` was run,
    else one of this machine alone; "ray://HOST:PORT": the cluster with that head, as ``ray start`` told its address.
    This machine must belong to it, for here the store is put together.
    """
    if on is None:
        yield None
        return
    engine, _, address = on.partition("://")
    if engine != "ray" or ("://" in on and not address):
        raise HarkbackError(f'there is no engine "{on}"', where="--on", mend="use ray, or ray://HOST:PORT")
    alone = not address and not _belongs()
    if alone and "ray" not in sys.modules:  # It reads this when it is imported, and never again.
        # It listens on all addresses, and does what it is told by whoever comes: so it shall ask for a word.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        from harkback.cluster.machines import on_ray
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("ray", "pyarrow", "pandas"):
            raise
        mend = 'pip install "harkback[ray]"'
        raise HarkbackError(f"Ray is not installed: no {error.name}", where="--on", mend=mend) from error
    with on_ray("local" if alone else address or "auto") as machines:
        yield machines


def _belongs() -> bool:
    """To a cluster that Ray would find by itself."""
    return bool(os.environ.get("RAY_ADDRESS")) or (_folder() / "ray_current_cluster").exists()


def _folder() -> Path:
    """Where Ray writes down what cluster was started."""
    return Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray"
