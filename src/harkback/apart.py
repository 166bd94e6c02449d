"""What a file holds, found out here or, where bytes are not trusted, in a process of its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harkback.confined import Broken, Confined, Limits, Say, facts_of, rebuilt
from harkback.features import Features
from harkback.media import Media, MediaError
from harkback.parcels import Parcel, packed, unpacked

#: Its values are media, features, tensors, `MediaError`, or what JSON can hold.
Finding = Callable[..., Iterator[Any]]


def apart(find: Finding, *args: Any, limits: Limits | None, about: Path | None = None) -> Generator[Any, None, None]:
    """The values of ``find(*args)``, each as soon as it is there.

    limits: of the process that is started for it; None: it runs in this one, which a crash of a decoder takes along. A
    process that another of ours has started is apart already. about: the file that is to blame when the process is
    ended by a limit, or crashes: that is a `MediaError`. What ``find`` raises is raised here.
    """
    if limits is None or multiprocessing.parent_process() is not None:
        yield from find(*args)
        return
    try:
        with Confined(_said, find, args, limits=limits) as running:
            for parcel in running:
                yield _value(parcel)
    except Broken as error:
        raise MediaError(error.what, where=about, mend=error.mend) from None


def _said(say: Say, find: Finding, args: tuple[Any, ...]) -> None:
    for value in find(*args):
        say(_parcel(value))


def _parcel(value: Any) -> Parcel:
    if isinstance(value, Media | Features):
        return packed(value)
    if isinstance(value, Tensor):
        return {"tensor": True}, {"it": value.contiguous().numpy()}
    return ({"failed": facts_of(value)} if isinstance(value, MediaError) else {"value": value}), {}


def _value(parcel: Parcel) -> Any:
    facts, arrays = parcel
    if "value" in facts:
        return facts["value"]
    if "failed" in facts:
        return rebuilt(**facts["failed"])
    return torch.from_numpy(arrays["it"]) if "tensor" in facts else unpacked(parcel)
