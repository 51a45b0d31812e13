"""Where a ring is: in the shared memory of one machine or container, which its pickle may leave."""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

__all__ = ["Home", "here", "memory"]

DIRECTORY = "/dev/shm"


class Home(NamedTuple):
    """Shared memory, and who has it."""

    memory: str
    """The same for all processes that see the same rings."""
    place: str
    """The machine, or the node of Ray, for people."""
    on_ray: bool


def here() -> Home:
    """Return the home of this process's rings."""
    node = _ray_node()
    host = f"host {os.uname().nodename!r}"
    return Home(memory(), f"Ray node {node} ({host})" if node else host, bool(node))


def memory() -> str:
    """Identify the shared memory that this process sees: of this boot, and of this container."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
    except OSError:  # a sandbox without it
        boot = os.uname().nodename
    return f"{boot}:{os.stat(DIRECTORY).st_dev}"


def _ray_node() -> str:
    """Return the id of Ray's node if this process takes part in Ray."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return ""
    return str(ray.get_runtime_context().get_node_id())
