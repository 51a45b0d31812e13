"""The actor on the ring's node: sends its frames to every sink."""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence

import ray

from shmring import Ring, ShmringError
from shmring.ray._fanout import Fanout
from shmring.ray._link import Link
from shmring.ray._nodes import this_node
from shmring.ray._report import MirrorStats
from shmring.ray._sink import Origin
from shmring.ray._target import End
from shmring.ray._way import Destination, Ended, Limits, Way

__all__ = ["Source"]

READY = 60.0  # seconds for all sinks to be there
DRAIN = 10.0  # seconds for what is published to arrive when the mirror is closed


class Source:
    """Consumes the ring, and sends its frames to every sink. Ray starts it again if it dies."""

    def __init__(self, ring: Ring, pickled: bytes, limits: Limits, secret: bytes | None) -> None:
        sinks: list[Destination] = pickle.loads(pickled)
        self._ring = ring
        self._node = this_node()
        me = Origin(ray.get_runtime_context().current_actor, self._node)
        self._ways: Sequence[Way]
        self._threads: Sequence[Link | Fanout]
        if secret is None:
            fanout = Fanout(ring, sinks, limits, me)
            self._ways, self._threads = fanout.branches, [fanout]
        else:
            links = [Link(ring, to, limits, secret, me) for to in sinks]
            self._ways, self._threads = links, links

    def ping(self) -> None:
        """Show that the actor is there."""

    def ready(self) -> None:
        """Wait until every sink takes part; raise what keeps one from it."""
        deadline = time.monotonic() + READY
        for way in self._ways:
            if not way.begun.wait(deadline - time.monotonic()):
                raise TimeoutError(f"no connection within {READY:g} s: {way.stats()}")
            if isinstance(way.error, ShmringError):
                raise type(way.error)(f"on node {way.to.node}: {way.error}")
            if way.error is not None:
                raise way.error

    def stats(self) -> MirrorStats:
        """Return how far every sink is."""
        sinks = tuple(way.stats() for way in self._ways)
        going = any(one.state in ("starting", "running", "out of contact") for one in sinks)
        ends: list[End] = [way.ended for way in self._ways if way.ended is not None]  # set before the state
        return MirrorStats(self._ring.name, self._node, None if going or not ends else ends[0], sinks)

    def close(self, how: End, failure: str) -> None:
        """Send what is published by now, within some time, and end."""
        for thread in self._threads:
            thread.close(Ended(how, failure))
        deadline = time.monotonic() + DRAIN
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
