"""A Ray cluster on this machine's loopback, and what a store holds."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any
from unittest.mock import patch

LOOPBACK = "127.0.0.1"


class Two:
    """``with Two() as cluster:`` a head without work, and two machines with a core each, all bound to loopback."""

    def __init__(self, **resources: Any) -> None:
        """resources: of each of the two, besides."""
        self.resources = resources

    def __enter__(self) -> Two:
        # Its machines import what the tests do.
        os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        import harkback.cluster.machines  # It quietens Ray before that is imported.
        from ray.cluster_utils import Cluster

        del harkback
        # It would bind to the machine's outer address, whatever it is told.
        self.patch = patch("ray._private.services.get_node_ip_address", lambda *_, **__: LOOPBACK)
        self.patch.start()
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


def store_of(root: Path) -> dict[str, bytes]:
    """Every file of a store by name, but for the index, which is a cache with times in it."""
    return {path.name: path.read_bytes() for path in sorted(root.iterdir()) if path.name != "index.safetensors"}
