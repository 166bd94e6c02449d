"""A Ray cluster on this machine's loopback, and what a store holds."""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any
from unittest.mock import patch

import harkback
from fakes import small
from harkback.harness import Bench
from harkback.registry import LEARNERS

DIGITS = Path(__file__).parents[2] / "shared" / "data" / "spoken-digits"

LOOPBACK = "127.0.0.1"
INDEX = "index.safetensors"


class Two:
    """``with Two() as cluster:`` a head without work, and two machines with a core each, all bound to loopback."""

    def __init__(self, **resources: Any) -> None:
        """resources: of each of the two, besides."""
        self.resources = resources

    def __enter__(self) -> Two:
        # Its machines import what the tests do.
        os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        self.patch = on_loopback()
        self.patch.start()
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(initialize_head=True, head_node_args=self._node(num_cpus=0))
        self.nodes = [self.add(), self.add()]
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        import ray

        ray.shutdown()
        self.cluster.shutdown()
        self.patch.stop()

    @property
    def address(self) -> str:
        return f"ray://{self.cluster.address}"

    def add(self) -> Any:
        return self.cluster.add_node(**self._node(num_cpus=1, **self.resources))

    def kill(self, node: Any) -> None:
        """As if its plug were pulled."""
        self.cluster.remove_node(node, allow_graceful=False)

    def _node(self, **more: Any) -> dict[str, Any]:
        return {"node_ip_address": LOOPBACK, "include_dashboard": False, "object_store_memory": 150 << 20, **more}


def on_loopback() -> Any:
    """Ray takes the machine's outer address for loopback, whatever it is told: to be started where it shall not."""
    importlib.import_module("harkback.cluster.machines")  # It says how Ray is to behave before that is imported.
    return patch("ray._private.services.get_node_ip_address", lambda *_, **__: LOOPBACK)


def store_of(root: Path) -> dict[str, bytes]:
    """Every file of a store by name, but for the index, which is a cache with times in it."""
    return {path.name: path.read_bytes() for path in sorted(root.iterdir()) if path.is_file() and path.name != INDEX}


def blind(probe: Path) -> tuple[bool, str]:
    """What a machine answers that does not see a folder."""
    return False, harkback.__version__


def of_another_version(probe: Path) -> tuple[bool, str]:
    return True, "0.0.1"


def lists(root: Path) -> int:
    return len([*root.glob("0*.json")])


def once(met: Callable[[], bool], then: Callable[[], object]) -> threading.Thread:
    """Does something as soon as something is so, and after a minute if it never is: a test that waits says nothing."""

    def wait() -> None:
        for _ in range(6000):
            if met():
                break
            time.sleep(0.01)
        then()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def measured(source: Path, out: Path, on: str | None, *learners: str, **more: Any) -> Bench:
    settings = {name: small(LEARNERS.load(name).Settings()) for name in LEARNERS.names()} | more.pop("settings", {})
    return harkback.bench(
        str(source), out, on=on, learners=learners, sessions=(2, 1), memory=6, settings=settings, **more
    )
