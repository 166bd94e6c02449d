"""Several processes that learn as one: `torchrun` starts the same command in each, and rows are shared out among them.

All hold the same state and draw the same random numbers. What takes long is done row by row: of those each process sees
to its share, and what all have found is put together in every one of them. A command that runs alone talks to nobody,
and copies nothing.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor, nn

from harkback.errors import HarkbackError
from harkback.features import FeatureRows, Rows
from harkback.state import State

SILENCE = timedelta(minutes=10)  #: how long a process that works beside the others may keep them waiting
PATIENCE = timedelta(days=7)  #: how long they wait where one works alone, as when clips are encoded
NAMED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  #: what `torchrun` puts into the environment

#: size -> uniform random numbers (clips, *size), of this process's clips.
Draw = Callable[..., Tensor]


def processes() -> int:
    """How many learn as one; 1: this one, alone."""
    return int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in NAMED) else 1


def number() -> int:
    """Which of them this is, from 0."""
    return int(os.environ["RANK"]) if processes() > 1 else 0


def here() -> int:
    """Which of those on this machine it is, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def first() -> bool:
    """Is this the one that writes files and talks to people?"""
    return number() == 0


def wait() -> None:
    """Until all have come this far, however long one of them works alone."""
    if processes() > 1:
        talk, patient = _met()
        with _told():
            talk.all_reduce(torch.zeros(1), group=patient)


@contextmanager
def first_before_others() -> Iterator[None]:
    """The first process does what is in the block, however long it takes; then the others do, and find it done."""
    if not first():
        wait()
    yield
    if first():
        wait()


def first_says(told: float) -> float:
    """What the first process has for this number, so that all go the same way."""
    if processes() == 1:
        return told
    talk, _ = _met()
    said = torch.tensor(told, dtype=torch.float64)
    with _told():
        talk.broadcast(said, 0)
    return float(said)


def add_up(array: Tensor) -> None:
    """Put the sum over all processes in its place. array: contiguous; on a GPU it goes by way of the CPU."""
    if processes() > 1 and array.numel():
        talk, _ = _met()
        here = array.cpu()
        with _told():
            talk.all_reduce(here)
        if here is not array:
            array.copy_(here)


def check_same(state: State) -> None:
    """`HarkbackError` unless all processes hold the same state, to the bit."""
    if processes() == 1:
        return
    found = blake2b(digest_size=7)  # So many bits are exact in a float64.
    for name, array in sorted(state.items()):
        found.update(f"{name} {array.dtype} {tuple(array.shape)}".encode())
        found.update(array.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    mine = int.from_bytes(found.digest()) >> 3
    if sum_of(mine != int(first_says(mine))):
        raise HarkbackError(
            f"the {processes()} processes no longer hold the same numbers",
            where="torchrun",
            mend="run them on machines of one kind, with the same versions; "
            "and a learner may draw random numbers from its own generator alone",
        )


def sum_of(told: float) -> float:
    """The sum of what all processes have for this number."""
    found = torch.tensor([told], dtype=torch.float64)
    add_up(found)
    return float(found)


class Share:
    """Which of some rows this process sees to: every so many-th, so what comes last is spread evenly too.

    All have equally many: where there is no row left, the last one is seen to once more, and counts no second time.
    """

    def __init__(self, count: int, process: int = 0, processes: int = 1) -> None:
        """count: how many rows there are."""
        self.count, self.process, self.processes = count, process, processes
        self.once = torch.arange(count)[process::processes]  #: (own,) rows that nobody else has
        self.rows = torch.arange(-(-count // processes) * processes)[process::processes].clamp_max(count - 1)
        self._put: list[tuple[Tensor, Tensor]] = []  #: what was found for the own rows, and for all

    def own(self, whole: Tensor) -> Tensor:
        """(own, ...) of something about all rows (count, ...)."""
        return whole if self.processes == 1 else whole[self.rows]

    def of(self, rows: FeatureRows) -> FeatureRows:
        """The own ones of all rows."""
        return rows if self.processes == 1 else Rows(rows, self.rows)

    def once_each(self, rows: FeatureRows) -> FeatureRows:
        """The own ones of all rows, without one that another process has: for sums."""
        return rows if self.processes == 1 else Rows(rows, self.once)

    def uniform(self, generator: torch.Generator) -> Draw:
        """Draws for all rows, as a single process would, and gives the numbers of the own ones."""
        return lambda *size: self.own(torch.rand(self.count, *size, generator=generator))

    def places(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Of some row numbers (any,), those that this process has: (any,) bool, and where they stand among its own."""
        mine = rows % self.processes == self.process
        return mine, rows[mine] // self.processes

    def whole(self, own: Tensor) -> Tensor:
        """(count, ...) what all processes found for their rows, (own, ...) here; a gradient waits for `learn`."""
        if self.processes == 1 or not self.count:
            return own
        talk, _ = _met()
        sent = own.detach().cpu().contiguous()
        flat = sent.view(torch.uint8) if sent.dtype == torch.bool else sent
        parts = [torch.empty_like(flat) for _ in range(self.processes)]
        with _told():
            talk.all_gather(parts, flat)
        found = torch.stack(parts, 1).flatten(0, 1)[: self.count].view(sent.dtype).to(own.device)
        if own.requires_grad:
            found.requires_grad_()
            self._put.append((own, found))
        return found

    def learn(self, weights: Iterable[nn.Parameter]) -> None:
        """The second half of a backward pass, after a loss of all rows has been sent back to what `whole` gave.

        Until now a weight has the gradient by ways that every process went (a head, a term of the loss): each has all
        of it, and a share of it counts. What comes through the own rows is added, and what all have is added up. So
        every process ends with the same gradient to the bit: that of the loss, wherever the weight had a part in it.
        """
        if self.processes == 1:
            return
        weights = [weight for weight in weights if weight.requires_grad]
        common = [weight.grad for weight in weights]
        for weight in weights:
            weight.grad = None
        put = [(own, found.grad[self.rows]) for own, found in self._put if found.grad is not None]
        for _, slope in put:
            slope[len(self.once) :] = 0  # The row that was seen to once more.
        if put:
            torch.autograd.backward([own for own, _ in put], [slope for _, slope in put])
        self._put.clear()
        for weight, all_have in zip(weights, common, strict=True):
            if all_have is not None:
                part = all_have / self.processes
                weight.grad = part if weight.grad is None else weight.grad + part
        moved = [weight for weight in weights if weight.grad is not None]
        if moved:
            # One message: there are few weights, and a message costs more than what it says.
            flat = torch.cat([weight.grad.flatten().cpu() for weight in moved if weight.grad is not None])
            add_up(flat)
            for weight, slope in zip(moved, flat.split([weight.numel() for weight in moved]), strict=True):
                weight.grad = slope.view_as(weight).to(weight.device)


def shared(count: int) -> Share:
    """This process's share of so many rows: all of them, if it is alone."""
    return Share(count, number(), processes())


@cache
def _met() -> tuple[Any, Any]:
    """torch.distributed, once the processes have found one another, and the group that is patient.

    By gloo, on the CPU: that is where heads and losses are, and the sums of closed forms.
    """
    from torch import distributed

    with _told():
        distributed.init_process_group("gloo", timeout=SILENCE)
        patient = distributed.new_group(backend="gloo", timeout=PATIENCE)
    atexit.register(distributed.destroy_process_group)
    return distributed, patient


@contextmanager
def _told() -> Iterator[None]:
    """What fails between processes is that one of them is gone: it has said why."""
    try:
        yield
    except RuntimeError as error:
        raise HarkbackError(
            f"another of the {processes()} processes has ended or cannot be reached",
            where="torchrun",
            mend="see what it said, then start all of them again: what was finished is kept",
        ) from error
