"""Work for a process of its own, which must be able to import it: what hostile bytes could make a decoder do."""

from __future__ import annotations

import gc
import os
import signal
import struct
import time
from collections.abc import Iterator
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from harkback.confined import Say
from harkback.decoding import _said
from harkback.encoders import Encoder
from harkback.features import blank
from harkback.media import NotMedia, Truncated
from harkback.parcels import packed
from harkback.windows import cut


def aborts(say: Say, *_: Any) -> None:
    os.abort()


def killed(say: Say, *_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def begins_an_answer(killed: bool, begun: Path) -> None:
    """Of a megabyte, to the team whose process this is; then it is killed, or waits."""
    (pipe,) = (each for each in gc.get_objects() if type(each) is Connection)
    os.write(pipe.fileno(), struct.pack("!i", 1 << 20) + b"half")
    begun.touch()
    if killed:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)


def teaches_and_is_killed(say: Say, *given: Any) -> None:
    """As `harkback.app.learning.learn`, whose last word is lost."""
    from harkback.app.learning import learn

    learn(lambda _: None, *given)
    os.kill(os.getpid(), signal.SIGKILL)


def leaves(say: Say, *_: Any) -> None:
    os._exit(0)


def spins(say: Say, *_: Any) -> None:
    while True:
        pass


def sleeps(say: Say, *_: Any) -> None:
    time.sleep(3600)


def devours(say: Say, *_: Any) -> None:
    held = []
    while True:
        held.append(bytearray(1 << 26))


def fails(say: Say, *_: Any) -> None:
    raise RuntimeError("of all things")


def begins_and_aborts(say: Say, *_: Any) -> None:
    say(({"seconds": 1.0, "spans": [(0.0, 1.0)]}, {}))
    os.abort()


def reads_no_window(say: Say, *_: Any) -> None:
    say(({"seconds": 1.0, "spans": [(0.0, 1.0)]}, {}))
    say(({"failed": "is damaged", "mend": "convert it"}, {}))


def dawdles(say: Say, work: Any, clip: Any) -> None:
    """As `harkback.decoding._said`, but it takes its time."""
    time.sleep(0.4)
    _said(say, work, clip)


def floods(say: Say, path: Path, window: float | None, encoder: Encoder, *_: Any) -> None:
    """More than any line holds while nobody reads: answers with pictures of a megabyte."""
    spans = [(k / 10, (k + 1) / 10) for k in range(300)]
    say(({"seconds": 30.0, "spans": spans}, {}))
    facts, arrays = packed(blank(encoder.spec.shape))
    for _ in spans:
        say((facts, {**arrays, "still0000": np.zeros(1 << 20, np.uint8)}))


class Poisoned:
    """As `harkback.decoding._said`, but clips of a certain size make the decoder do a deed."""

    def __init__(self, size: int, deed: str) -> None:
        self.size, self.deed = size, deed

    def __call__(self, say: Say, work: Any, clip: Any) -> None:
        if Path(clip.path).stat().st_size == self.size:
            globals()[self.deed](say)
        _said(say, work, clip)


# ---- what a process says, does and leaves ---------------------------------------------------------------------------


def counts(say: Say, number: int) -> None:
    for k in range(number):
        say(({"k": k}, {}))


def echoes(say: Say, arrays: dict[str, Any]) -> None:
    say(({"names": sorted(arrays)}, arrays))
    say(({}, {}))


def raises(say: Say, error: Exception) -> None:
    say(({"before": True}, {}))
    raise error


def squares(say: Say, number: int) -> None:
    say(({"square": number**2}, {"many": np.arange(number)}))


def pauses(say: Say, each: float, number: int) -> None:
    for k in range(number):
        time.sleep(each)
        say(({"k": k}, {}))


def allocates(say: Say, size: int) -> None:
    import torch

    room = torch.ones(size // 4)
    say(({"sum": float(room[:8].sum())}, {}))


def tells_of_itself(say: Say) -> None:
    import torch

    say(({"pid": os.getpid(), "threads": torch.get_num_threads(), "parent": os.getppid()}, {}))
    time.sleep(3600)


def shows_progress(say: Say) -> None:
    """With a bar; then it is killed, or ends."""
    from tqdm import tqdm

    for _ in tqdm(range(3), disable=True):
        pass
    say(({}, {}))
    time.sleep(3600)


def meets(folder: Path, number: int) -> int:
    """Waits until so many are there; whoever says so is its process."""
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < number:
        time.sleep(0.01)
    return os.getpid()


_kept: Any = None


def keep(given: Any) -> None:
    global _kept
    _kept = given


def kept() -> Any:
    return _kept


class Stubborn(NotMedia):
    """A kind that the parent does not know."""


def is_stubborn(say: Say) -> None:
    raise Stubborn("will not", where="there", mend="give up")


class Hostile:
    """As `harkback.windows.cut`, but files of a certain name make the decoder do a deed first, or after some words."""

    def __init__(self, name: str, deed: str, after: int = 0) -> None:
        self.name, self.deed, self.after = name, deed, after

    def __call__(self, path: Path, *rest: Any) -> Iterator[Any]:
        for number in count():
            if path.name == self.name and number == self.after:
                globals()[self.deed](None)
            if number == 0:
                words = cut(path, *rest)
            try:
                yield next(words)
            except StopIteration:
                break


def finds(media: list[Any]) -> Iterator[Any]:
    """A work for `harkback.apart`: values of each kind."""
    yield from (None, 1.5, ["a", 2], *media)


def loses(name: str) -> Iterator[int]:
    yield 1
    raise Truncated("stops", where=name, mend="fetch it again")


def who() -> Iterator[int]:
    yield os.getpid()


class Deeds:
    """Work for a worker process: a clip's label is the deed; what is none is the clip's id."""

    def __call__(self, clip: Any) -> Any:
        if clip.label in globals():
            globals()[clip.label](None)
        return {"id": clip.id}, {}
