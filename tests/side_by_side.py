"""What processes that learn as one do in tests: in threads, by `torchrun`, which starts this script, or one alone.

torchrun --nproc-per-node 2 tests/side_by_side.py WHAT FOLDER
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from fakes import features_of, random_features, small, without
from harkback import parallel
from harkback.clips import Clip
from harkback.contestants import Contestant, entered
from harkback.course import Course
from harkback.errors import HarkbackError
from harkback.extract import Extraction
from harkback.features import join
from harkback.learners.base import Learner
from harkback.log import Run
from harkback.material import Labelled, Material
from harkback.network import Answers, Network, NetworkSettings
from harkback.registry import LEARNERS
from harkback.stream import Session
from harkback.training import TrainSettings, fit

T = TypeVar("T")

#: 33 clips: two batches of 16 and one of a single clip, fewer than there are processes; then 21, two of them old.
SESSIONS = ("babaabbacbacbabcbabcabcabcacbacba", "dcedeedcedadcedbcedec")
ASKED = 23
TRAINED = [name for name in LEARNERS.names() if hasattr(LEARNERS.load(name).Settings(), "train")]
#: Settings and sessions of their own: what is trained, and by what ways.
BODIES = {"body l3": NetworkSettings(), "body avcil": NetworkSettings(body="avcil", dropout=0.0)}


def session(t: int, *, cumulative: bool, validation: bool) -> Session:
    """Some clips are silent, some blind."""
    upto = range(t + 1) if cumulative else (t,)
    features = join([without(features_of(SESSIONS[i], seed=i), sound=[3, 8], picture=[1, 8, 9]) for i in upto])
    labels = "".join(SESSIONS[i] for i in upto)
    judged = Session.of(features_of(labels[:11], seed=7), labels[:11]) if validation else None
    return Session.of(features, labels, judged)


def learners() -> dict[str, Learner[Any]]:
    """Every learner, small."""
    kinds = {name: LEARNERS.load(name) for name in LEARNERS.names()}
    return {name: kind(small(kind.Settings()), memory=7) for name, kind in kinds.items()}


def teach(*names: str) -> dict[str, Learner[Any]]:
    """These learners, or all, session by session; of one, validation clips choose the epoch."""
    found = {name: learner for name, learner in learners().items() if not names or name in names}
    for name, learner in found.items():
        for t in range(len(SESSIONS)):
            learner.learn(session(t, cumulative=learner.cumulative, validation=name == "finetune"))
    return found


def answers(learner: Learner[Any]) -> Tensor:
    return learner.scores(without(random_features(ASKED, seed=5), sound=[2], picture=[4]))


def said_of(learner: Learner[Any]) -> dict[str, Tensor]:
    """All that can be compared."""
    return {**learner.state(), "answers": answers(learner), "losses": torch.tensor(learner.losses)}


@contextmanager
def in_double() -> Iterator[None]:
    """All that is float32 is float64."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(torch.float32)


# ---- one step, and what a loss may be made of -----------------------------------------------------------------------


def losses(network: Network) -> dict[str, Callable[[Answers, Tensor], Tensor]]:
    """By name: means over clips, what no mean over clips can give, weights that a loss asks for by itself."""

    def weights(said: Answers, batch: Tensor) -> Tensor:  # As elastic weight consolidation does.
        return said.logits.square().mean() + sum(weight.square().sum() for weight in network.parameters())

    def looked(said: Answers, batch: Tensor) -> Tensor:
        assert said.looked is not None
        return said.looked.vectors.square().mean() + said.looked.vectors[batch.argmax()].sum()

    def pairs(said: Answers, batch: Tensor) -> Tensor:
        return (said.audio @ said.visual.T).softmax(1).diagonal().log().neg().mean() + said.fused.var(
            0, correction=0
        ).sum()

    def rows(said: Answers, batch: Tensor) -> Tensor:
        return (said.logits.sum(1) * (batch + 1)).mean()

    return {"weights": weights, "looked": looked, "pairs": pairs, "rows": rows}


class Stopped(Exception):
    pass


def slopes(body: str, what: str, clips: int) -> dict[str, Tensor]:
    """The gradient of each weight in the first step of a training, whose batch has so many clips."""
    features = without(random_features(clips, dtype=torch.float32), sound=[0], picture=[clips - 1])
    network = Network(small(BODIES[body]))
    generator = torch.Generator().manual_seed(0)
    network.ready(random_features(9, seed=3), 3, generator)
    found: dict[str, Tensor] = {}

    def judge() -> float:  # After the only step, whose gradients are still there.
        found.update({n: w.grad.clone() for n, w in network.named_parameters() if w.grad is not None})
        return 0.0

    settings = TrainSettings(epochs=1, batch=clips)
    fit(network, features, losses(network)[what], settings, generator, judge=judge)
    found["generator"] = torch.rand(3, generator=generator)  # All have drawn alike.
    return found


STEPS = [(body, what, clips) for body in BODIES for what in ("weights", "looked", "pairs", "rows") for clips in (1, 7)]


# ---- a bench --------------------------------------------------------------------------------------------------------


def course(folder: Path, *names: str) -> tuple[Course, Material]:
    """Contestants that share a training, on six classes in three sessions."""
    classes = "abcdef"
    labels, asked = tuple(classes * 5), classes * 2
    test = tuple(Clip(f"asked-{i}", Path("nowhere"), label) for i, label in enumerate(asked))
    nothing = Labelled(random_features(0), ())
    material = Material(
        "listed",
        features_of(labels, seed=1),
        labels,
        features_of(asked, seed=2),
        test,
        nothing,
        (),
        "same",
        Extraction((), (), random_features(0), (), 0, 0.0),
    )
    settings = {name: small(LEARNERS.load(name).Settings()) for name in LEARNERS.names()}
    contestants: tuple[Contestant, ...] = entered(names, ("both",), settings)
    runs = tuple(Run(folder / each.name, each.name, 0, 0) for each in contestants)
    made = Course(contestants, runs, tuple(classes), (2, 2, 2), 7, 0, "none", True, torch.device("cpu"))
    return made, material


# ---- in threads -----------------------------------------------------------------------------------------------------


class Talk:
    """What `torch.distributed` does between processes, between threads."""

    def __init__(self, count: int) -> None:
        self.all_here = threading.Barrier(count)
        self.said: list[Tensor] = [torch.empty(0)] * count

    def exchange(self, number: int, told: Tensor) -> list[Tensor]:
        self.said[number] = told.clone()
        self.all_here.wait(60)
        heard = list(self.said)
        self.all_here.wait(60)
        return heard


class Voice:
    """One thread's part in it."""

    def __init__(self, talk: Talk, number: int) -> None:
        self.talk, self.number = talk, number

    def all_reduce(self, array: Tensor, group: object = None) -> None:
        array.copy_(sum(self.talk.exchange(self.number, array)))  # type: ignore[arg-type]

    def all_gather(self, parts: list[Tensor], own: Tensor) -> None:
        for part, said in zip(parts, self.talk.exchange(self.number, own), strict=True):
            part.copy_(said)

    def broadcast(self, array: Tensor, source: int) -> None:
        array.copy_(self.talk.exchange(self.number, array)[source])


def in_threads(count: int, work: Callable[[], T]) -> list[T]:
    """The same work in so many threads that take themselves for processes: what each comes to.

    Raises what ended the first of them: another may only have found that one gone.
    """
    talk, here = Talk(count), threading.local()
    ended: list[BaseException] = []

    def run(number: int) -> T:
        here.number = number
        try:
            return work()
        except BaseException as error:
            ended.append(error)
            talk.all_here.abort()
            raise

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(count) as pool:
        patch.setattr(parallel, "processes", lambda: count)
        patch.setattr(parallel, "number", lambda: here.number)
        patch.setattr(parallel, "_met", lambda: (Voice(talk, here.number), None))
        working = [pool.submit(run, number) for number in range(count)]
        wait(working)
        if ended:
            raise ended[0]
        return [each.result() for each in working]


# ---- started by torchrun --------------------------------------------------------------------------------------------


def run_learners(folder: Path) -> None:
    """Of each process: every learner's state, answers and losses, in double precision too; the slopes of steps."""
    mine = parallel.number()
    for name, learner in teach().items():
        save_file(said_of(learner), folder / f"{name}-{mine}.safetensors")
    with in_double():
        for name, learner in teach(*TRAINED).items():
            save_file(said_of(learner), folder / f"{name}-double-{mine}.safetensors")
    for step in STEPS:
        save_file(slopes(*step), folder / f"{'-'.join(map(str, step))}-{mine}.safetensors")


def run_course(folder: Path) -> None:
    """A bench of two that share a training, and one in closed form; stopped once, and gone on with."""
    for names in (("icarl", "icarl-fc"), ("hark",)):
        made, material = course(folder, *names)
        seen: list[int] = []

        def stop(more: int, seen: list[int] = seen) -> None:
            seen.append(more)
            if len(seen) == 2:  # After the first session.
                raise Stopped

        with suppress(Stopped):
            made.take(material, stop)
        made.take(material, seen.append)
        (folder / f"told-{names[0]}-{parallel.number()}.json").write_text(json.dumps(seen))


def run_dying(folder: Path) -> None:
    """One has no more to say; the others wait for it, and tell why they do not wait for ever."""
    parallel.wait()
    if parallel.number() == int(os.environ["DIES"]):
        os._exit(7)
    try:
        parallel.wait()
    except HarkbackError as error:
        print(error, flush=True)
        os._exit(2)


def run_apart(folder: Path) -> None:
    """One of them has another number."""
    state = {"same": torch.arange(3), "weight": torch.tensor([1.0, 2.0])}
    parallel.check_same(state)
    state["weight"][1] += 1e-6 * parallel.number()
    try:
        parallel.check_same(state)
    except HarkbackError as error:
        (folder / f"told-{parallel.number()}.txt").write_text(str(error))


def started(what: str, folder: Path, processes: int) -> subprocess.CompletedProcess[str]:
    """This script in so many processes, which talk on this machine alone."""
    folder.mkdir(parents=True, exist_ok=True)
    where = ["--nproc-per-node", str(processes), "--master-addr", "127.0.0.1", "--master-port", str(free_port())]
    argv = [sys.executable, "-m", "torch.distributed.run", *where, __file__, what, str(folder)]
    return subprocess.run(argv, env=environment(), capture_output=True, text=True, timeout=300)


def without_torchrun(what: str, folder: Path, processes: int, **more: str) -> list[subprocess.Popen[str]]:
    """The same with nobody who ends the others when one ends."""
    found = []
    names = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), **more}
    for number in range(processes):
        argv, env = [sys.executable, __file__, what, str(folder)], environment(RANK=str(number), **names)
        found.append(subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    return found


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", **more}


def free_port() -> int:
    """Below those that systems give to whoever asks for any: else another could have it before it is listened at."""
    for port in random.SystemRandom().sample(range(20_000, 32_000), 100):
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


if __name__ == "__main__":
    torch.set_num_threads(1)
    globals()[f"run_{sys.argv[1]}"](Path(sys.argv[2]))
