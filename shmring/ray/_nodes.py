"""The nodes of the cluster."""

from __future__ import annotations

import ray

__all__ = ["is_dead", "living", "this_node"]


def this_node() -> str:
    """Return the id of the node that this process runs on."""
    return str(ray.get_runtime_context().get_node_id())


def living() -> list[str]:
    """Return the ids of all nodes that are alive."""
    return [str(one["NodeID"]) for one in ray.nodes() if one["Alive"]]


def is_dead(node: str) -> bool:
    """Whether a node is gone: Ray waits forever to start an actor again that belongs there."""
    return node not in living()
