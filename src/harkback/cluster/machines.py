"""A Ray cluster that is joined, and what every machine of it must see."""

from __future__ import annotations

import gc
import logging
import os
import socket
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import sleep
from typing import Any

# Before Ray is imported: it would tell its makers how it is used; and whoever of its threads comes late would join some
# cluster or other by itself.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import harkback
from harkback.catalogue import Source
from harkback.clips import Clip
from harkback.course import Course
from harkback.encoders import Bare, Encoder, Opening
from harkback.errors import HarkbackError, one_line
from harkback.files import explained
from harkback.material import Material
from harkback.places import Place
from harkback.store import FeatureStore
from harkback.workers import cores

KNOCK = 10  #: seconds in which the head of a cluster must answer
ANSWER = 120  #: seconds within which a machine must say what it sees; the first word of a new process takes some


@contextmanager
def on_ray(address: str) -> Iterator[Machines]:
    """address: HOST:PORT of the head; "auto": of the cluster that this machine belongs to; "local": a new one of it."""
    logging.getLogger("ray").setLevel(logging.CRITICAL)  # What matters comes as an exception, and is told in our words.
    ours = not ray.is_initialized()
    if ours:
        _join(address)
    try:
        yield Machines()
    except BaseException as error:
        _let_go(error)
        raise
    finally:
        if ours:
            ray.shutdown()


def _let_go(error: BaseException) -> None:
    """End what the broken-off work holds while Ray can be asked: an iterator that ended later would complain of it."""
    each: BaseException | None = error
    while each is not None:
        traceback.clear_frames(each.__traceback__)
        each = each.__context__
    gc.collect()


def _join(address: str) -> None:
    how: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    told = os.environ.get("RAY_ADDRESS", "") if address == "auto" else address
    mend = "give the address that ray start told on its head, from a machine that belongs to it"
    if address == "local":
        how |= {"num_cpus": cores(), "include_dashboard": False}
        mend = "see what ray start --head says on this machine"
    elif told not in ("", "auto"):
        how["address"] = told
    try:
        if "address" in how:
            _knock(told)
        ray.init(**{"address": address, **how})
    except (OSError, RuntimeError, ValueError, RayError) as error:
        what = f"cannot be {'started' if address == 'local' else 'joined'} ({reason(error)})"
        raise HarkbackError(what, where=f"ray://{told}" if "address" in how else "--on ray", mend=mend) from None


def _knock(address: str) -> None:
    """Ray itself waits for minutes where nobody answers. Raises `OSError`."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError("it is not like HOST:PORT")
    socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK).close()


class Machines:
    """The `harkback.engine.Engine` on the cluster that this process has joined."""

    def opened(self, opening: Opening) -> Encoder:
        if opening.model is None:
            return opening.open()
        if (folder := Path(opening.model)).exists():  # Else it is a hub id.
            opening = replace(opening, model=folder.absolute())
        with plainly():
            made: Encoder = ray.get(ray.remote(**resources(opening))(_described).remote(opening))
        return made

    def sources(self, paths: Sequence[Path | Place]) -> Iterator[tuple[Path | Place, Source | None]]:
        from harkback.cluster.blocks import sources

        with plainly():
            yield from sources(paths)

    def fill(
        self, store: FeatureStore, todo: Mapping[str, Clip], encoder: Encoder, kept: Callable[[str], None]
    ) -> dict[str, str]:
        from harkback.cluster.blocks import fill

        if not todo:
            return {}
        with plainly():
            all_see(store.root, "--store")
            return fill(store, todo, encoder, kept)

    def take(self, courses: Sequence[Course], material: Material, tell: Callable[[], object]) -> dict[int, str]:
        from harkback.cluster.courses import take

        with plainly():
            all_see(courses[0].runs[0].folder.parent, "--out")
            return take(courses, material, tell)


def absolute(path: Path | Place) -> Path | Place:
    """Elsewhere another folder is the current one."""
    return path.absolute() if isinstance(path, Path) else path


def wants_gpu(opening: Opening) -> bool:
    """Told "cuda", it waits for a machine that has one, which a cluster may yet have to start."""
    if opening.device is None:
        return bool(ray.cluster_resources().get("GPU"))
    return opening.device.startswith("cuda")


def resources(opening: Opening) -> dict[str, Any]:
    """What Ray sets apart for an encoder that needs a model."""
    return {"num_cpus": 0, "num_gpus": 1} if wants_gpu(opening) else {"num_cpus": 1}


def _described(opening: Opening) -> Encoder:
    encoder = opening.open()
    return encoder if encoder.in_workers else Bare(encoder.spec, encoder.picture, opening=opening)


@contextmanager
def plainly() -> Iterator[None]:
    """What Ray makes of a failure elsewhere, as one line."""
    try:
        yield
    except RayTaskError as error:
        if isinstance(error.cause, HarkbackError):
            raise error.cause from None
        told = reason(error)
        mend = "install the same on all machines" if "No module named" in told else "please report it"
        raise HarkbackError(told, mend=mend) from None
    except RayError as error:
        mend = "see that its machines are up, and run the same command again: it goes on from there"
        raise HarkbackError(f"the cluster failed: {reason(error)}", mend=mend) from None


def reason(error: BaseException) -> str:
    """In one line."""
    if isinstance(error, RayTaskError) and type(error.cause).__name__ == "UserCodeException":
        # Ray Data tells what happened in the report alone: in the last line of its first part.
        return one_line(str(error).partition("The above exception was the direct cause")[0].rstrip().splitlines()[-1])
    if isinstance(error, RayTaskError) and isinstance(error.cause, BaseException):
        error = error.cause
    if isinstance(error, HarkbackError):
        return HarkbackError.__str__(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return one_line(f"{type(error).__name__}: {lines[0] if lines else 'it did not say why'}")


def all_see(folder: Path, flag: str) -> None:
    """`HarkbackError` if a machine does not see a folder of this one, or has another Harkback.

    A machine that joins later is not asked; what is written there by one that does not see the folder is refused.
    """
    probe = folder.resolve() / f".seen-{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
    except OSError as error:
        raise explained(error, folder) from error
    try:
        nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        asked = {_ask(node["NodeID"], probe): node["NodeManagerHostname"] for node in nodes}
        ready, _ = ray.wait(list(asked), num_returns=max(1, len(asked)), timeout=ANSWER) if asked else ([], [])
        for each in ready:
            sees, version = ray.get(each)
            if not sees:
                mend = f"put {flag} into a folder that all machines see at the same path"
                raise HarkbackError(f"is not seen by {asked[each]}", where=folder, mend=mend)
            if version != harkback.__version__:
                what = f"has harkback {version}, and this machine {harkback.__version__}"
                raise HarkbackError(what, where=asked[each], mend="install the same version on both")
    finally:
        probe.unlink(missing_ok=True)


def _ask(node: str, probe: Path) -> ray.ObjectRef[tuple[bool, str]]:
    there = NodeAffinitySchedulingStrategy(node, soft=True)  # One that is lost meanwhile need not answer.
    found: ray.ObjectRef[tuple[bool, str]] = (
        ray.remote(num_cpus=0)(_seen).options(scheduling_strategy=there).remote(probe)
    )
    return found


def _seen(probe: Path) -> tuple[bool, str]:
    for _ in range(5):
        if probe.exists():
            return True, harkback.__version__
        sleep(1)  # A network file system may show it late.
    return False, harkback.__version__
