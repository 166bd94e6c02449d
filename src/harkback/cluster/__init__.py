"""Work on many machines, by Ray (extra ``ray``). Nothing of it is imported where one machine does it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from harkback.engine import Engine
from harkback.errors import HarkbackError


@contextmanager
def joined(on: str | None) -> Iterator[Engine | None]:
    """The machines that ``on`` names, for the length of a ``with`` block; None: this process does its work itself.

    on: "ray": the Ray cluster that this machine belongs to (or ``RAY_ADDRESS`` names), else one of this machine alone;
    "ray://HOST:PORT": the cluster with that head, as ``ray start`` told its address. This machine must belong to it,
    for here the store is put together.
    """
    if on is None:
        yield None
        return
    engine, _, address = on.partition("://")
    if engine != "ray" or ("://" in on and not address):
        raise HarkbackError(f'there is no engine "{on}"', where="--on", mend="use ray, or ray://HOST:PORT")
    try:
        from harkback.cluster.machines import on_ray
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("ray", "pyarrow", "pandas"):
            raise
        mend = 'pip install "harkback[ray]"'
        raise HarkbackError(f"Ray is not installed: no {error.name}", where="--on", mend=mend) from error
    with on_ray(address or None) as machines:
        yield machines
