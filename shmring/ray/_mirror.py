"""Keeping a ring of the same frames on other nodes."""

from __future__ import annotations

import copy
import hashlib
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Literal

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from shmring import Ring, RingNotFound, _core, _names
from shmring._ending import failure_of_block
from shmring._follow import Succession
from shmring._format import format_of
from shmring._schema import check_int
from shmring._words import count
from shmring.ray._errors import SourceDied
from shmring.ray._nodes import is_dead, living, this_node
from shmring.ray._report import MirrorStats
from shmring.ray._sink import Sink
from shmring.ray._source import DRAIN, READY, Source
from shmring.ray._target import End, Like
from shmring.ray._way import Destination, Limits, brief

__all__ = ["Mirror", "mirror", "mirror_each"]

GONE_OR_RESTARTED = (
    ray.exceptions.ActorUnavailableError,
    ray.exceptions.ActorDiedError,
    ray.exceptions.ActorUnschedulableError,
)
BATCH_NBYTES = {"tcp": 16 << 20, "ray": 64 << 20}  # an object costs Ray milliseconds, whatever its size
WINDOW = 4
LOOK = 0.05  # seconds between two looks at whether the stream has ended


class Mirror:
    """Rings of the same frames on other nodes: from `mirror`. A context manager that closes it at the end."""

    def __init__(self, source: Any, sinks: list[Destination]) -> None:
        self._source, self._sinks = source, sinks
        self._node = this_node()
        self._closed = False

    @property
    def names(self) -> dict[str, str]:
        """Name of the ring on each node, by the node's id."""
        return {one.node: one.ring for one in self._sinks}

    def stats(self) -> MirrorStats:
        """Return what every node has, how fast frames come there, and what was lost.

        Returns
        -------
        MirrorStats

        Raises
        ------
        SourceDied
            The actor on the ring's node is gone for good; one that Ray starts again is waited for.
        ValueError
            The mirror is closed.
        """
        if self._closed:
            raise ValueError("this mirror is closed: ask for its stats() before that")
        if not ray.is_initialized():  # a call would make Ray start again
            raise SourceDied("the source of this mirror is gone: Ray was shut down in this process")
        while True:
            try:
                found: MirrorStats = ray.get(self._source.stats.remote())
                return found
            except GONE_OR_RESTARTED as error:
                if isinstance(error, ray.exceptions.ActorDiedError) or is_dead(self._node):
                    raise SourceDied(
                        f"the source of this mirror is gone: close the mirror, and make another one of the "
                        f"next ring ({brief(error)})"
                    ) from None
                time.sleep(LOOK)  # it is being started again

    def wait(self, timeout: float | None = None) -> MirrorStats:
        """Wait until the stream has ended, and every node that can be reached has all of it.

        Parameters
        ----------
        timeout : float, optional
            Seconds; None waits forever.

        Returns
        -------
        MirrorStats

        Raises
        ------
        TimeoutError
            It has not, in time; the message has the nodes that are not done.
        SourceDied, ValueError
            As `stats`.
        """
        _core.check_timeout(timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            stats = self.stats()
            left = [one for one in stats.sinks if one.state not in ("ended", "failed", "dead")]
            if not left:
                return stats
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"the mirror has not ended within {timeout:g} s:\n{stats}")
            time.sleep(LOOK)

    def close(self) -> None:
        """End the mirror: what is published by now is sent, then the streams end and the names are removed.

        Consumers read what is left in their rings. A node that does not take the rest within 10 s, or that
        cannot be reached, is not waited for. Ctrl-C ends the wait, and the mirror: consumers that have not
        got the end of the stream by then get ProducerDied. May be called twice.
        """
        self._end("closed", "")

    def _end(self, how: End, failure: str) -> None:
        if self._closed:
            return
        self._closed = True
        if not ray.is_initialized():
            return  # the actors ended with Ray; a call would make it start again
        try:
            ray.wait([self._source.close.remote(how, failure)], timeout=DRAIN + 5)
            closing = [one.sink.close.remote(how, failure) for one in self._sinks]
            ray.wait(closing, num_returns=len(closing), timeout=5)
        finally:  # even if Ctrl-C ends the waits
            for actor in (self._source, *(one.sink for one in self._sinks)):
                ray.kill(actor)

    def __enter__(self) -> Mirror:
        """Return self."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close; if an error ends the block, consumers get ProducerFailed with its text."""
        failure = failure_of_block(error)
        self._end("closed" if failure is None else "failed", (failure or b"").decode())

    def __repr__(self) -> str:
        """Summarise the mirror for an interactive prompt."""
        names = ", ".join(sorted(set(self.names.values())))
        return (
            f"<shmring.ray.Mirror on {count(len(self._sinks), 'node')}: {names}{', closed' * self._closed}>"
        )


def mirror(
    ring: Ring,
    nodes: Iterable[str] | None = None,
    *,
    name: str | None = None,
    lossless: bool | Mapping[str, bool] = True,
    batch_nbytes: int | None = None,
    window: int = WINDOW,
    transport: Literal["tcp", "ray"] = "tcp",
) -> Mirror:
    """Keep a ring of the same frames on other nodes of the Ray cluster.

    Frames keep their seqs, timestamps, metas and rows, a new ring the attrs, slots and places of the source,
    and losses count everywhere. Consumers there attach by name, as to any ring, and need no Ray.

    Parameters
    ----------
    ring : Ring
        A ring of this node. Ray must be running (``ray.init()``).
    nodes : iterable of str, optional
        Ids of nodes, as in ``ray.nodes()``; default: all living ones but this.
    name : str, optional
        Name of the ring on every node; default: the ring's own name with the first 8 characters of the node's
        id. `Mirror.names` has them.
    lossless : bool or mapping of node to bool
        True: a node that is too slow holds the producer of `ring` up, or makes it drop frames, as its
        `on_full` says. False: it loses frames, and its consumers learn how many.
    batch_nbytes : int, optional
        The most bytes to send at a time, by default 16 MiB by TCP and 64 MiB by Ray, whose objects take
        milliseconds each; never more than fits into the ring.
    window : int
        Batches that may be on their way to a node, by default 4. By TCP, they stay in the slots of `ring`
        until they have arrived; by Ray, in its object store.
    transport : {"tcp", "ray"}
        ``"tcp"``: a connection of its own from node to node, many times faster. ``"ray"``: Ray's
        object store, where only Ray's ports are open.

    Returns
    -------
    Mirror
        Close it, or use it in a ``with`` block.

    Raises
    ------
    RuntimeError
        Ray is not running in this process.
    ValueError
        A node that is unknown, or the ring's own; or there is no other node.
    RingExists, RingIncompatible, ProducerExists, NoSpace
        The ring cannot be made on a node.
    RingNotFound
        The ring has lost its name: no actor can attach to it.
    """
    return begin(ring, nodes, 0, name, lossless, batch_nbytes, window, transport)


def begin(
    ring: Ring,
    nodes: Iterable[str] | None,
    first_seq: int,
    name: str | None = None,
    lossless: bool | Mapping[str, bool] = True,
    batch_nbytes: int | None = None,
    window: int = WINDOW,
    transport: Literal["tcp", "ray"] = "tcp",
) -> Mirror:
    """Mirror what a ring has from a seq on."""
    if not isinstance(ring, Ring):
        raise TypeError(f"ring must be a Ring, not {type(ring).__name__}: attach to it first")
    ring._check_open(writing=True)
    window = check_int("window", window, 1, 1 << 10)
    if not ray.is_initialized():
        raise RuntimeError("Ray is not running in this process: call ray.init() first")
    chosen = choose_nodes(nodes)
    policies = choose_policies(chosen, lossless)
    if transport not in ("tcp", "ray"):
        raise ValueError(f'transport must be "tcp" or "ray", not {transport!r}')
    if batch_nbytes is None:
        batch_nbytes = BATCH_NBYTES[transport]
    batch_nbytes = check_int("batch_nbytes", batch_nbytes, 1, 1 << 40)
    secret = secrets.token_hex(16).encode() if transport == "tcp" else None
    like = describe(ring)
    names = {node: _names.check_name(f"{ring.name}-{node[:8]}" if name is None else name) for node in chosen}
    limits = choose_limits(ring, batch_nbytes, window, transport)
    threads = limits.window + 1
    sinks = [
        Destination(
            node,
            names[node],
            policies[node],
            first_seq,
            start(Sink, node, threads, names[node], like, secret),
        )
        for node in chosen
    ]
    # Pickled, because Ray warns of handles among the arguments of an actor that it may start again.
    source = start(Source, this_node(), 1, ring, ray.cloudpickle.dumps(sinks), limits, secret)
    try:
        ray.get(source.ready.remote(), timeout=READY + 5)
    except BaseException as error:
        Mirror(source, sinks).close()
        if isinstance(error, ray.exceptions.RayTaskError):
            raise error.cause from None
        if isinstance(error, ray.exceptions.RayActorError) and not ring._has_name():
            raise RingNotFound(
                f"ring {ring.name!r} has lost its name: its stream ended before the mirror could begin"
            ) from None
        raise
    return Mirror(source, sinks)


def mirror_each(ring_name: str, nodes: Iterable[str] | None = None, **options: Any) -> Iterator[Mirror]:
    """Mirror a ring, then the next one of that name, and so on, as producers come and go.

    Consumers on the other nodes use `shmring.follow`, as they would on this one.

    Parameters
    ----------
    ring_name : str
        Name of the rings on this node. Waits until a producer has come.
    nodes : iterable of str, optional
        As for `mirror`, for each of the mirrors.
    **options
        As for `mirror`. With ``name="..."`` the mirrored rings have the same name each time.

    Yields
    ------
    Mirror
        The mirror of the stream that has begun. The next step of the loop waits for that stream's end,
        closes the mirror, and waits for the next producer.

    Raises
    ------
    SourceDied, RuntimeError, ValueError, ShmringError
        As `mirror` and `Mirror.wait`.
    """
    streams = Succession(ring_name)
    generation, next_seq = b"", 0
    while True:
        ring = streams.wait(None)
        try:
            first_seq = next_seq if ring._generation == generation else 0  # taken over, or a new ring
            with begin(ring, nodes, first_seq, **options) as made:
                yield made
                ended = made.wait()
            generation, next_seq = ring._generation, max(one.next_seq for one in ended.sinks)
        except RingNotFound:
            if ring._has_name():
                raise
        finally:
            streams.pass_by(ring)


def choose_nodes(nodes: Iterable[str] | None) -> list[str]:
    """Return the ids of the nodes that get the frames."""
    here = this_node()
    others = [node for node in living() if node != here]
    if isinstance(nodes, str):
        raise TypeError(f"nodes is a list of ids, not one: nodes=[{nodes!r}]")
    chosen = others if nodes is None else list(nodes)
    for node in chosen:
        if not isinstance(node, str):
            raise TypeError(
                f'nodes is a list of ids, such as ray.nodes()[0]["NodeID"], not of {type(node).__name__}'
            )
    chosen = list(dict.fromkeys(chosen))
    known = f"the other nodes are {', '.join(others) or 'none'}"
    for node in chosen:
        if node == here:
            raise ValueError(f"node {node} has the ring itself: attach to it there; {known}")
        if node not in others:
            raise ValueError(f"there is no living node {node!r} in this cluster: {known}")
    if not chosen:
        raise ValueError("there is no other node to mirror the ring to")
    return chosen


def choose_policies(nodes: list[str], lossless: bool | Mapping[str, bool]) -> dict[str, bool]:
    """Return for each node whether the source waits for it."""
    if not isinstance(lossless, Mapping):
        return dict.fromkeys(nodes, _core.check_flag("lossless", lossless))
    if set(lossless) != set(nodes):
        raise ValueError(f"lossless must have an entry for each of the nodes {nodes}, and no other")
    return {node: _core.check_flag("lossless", flag) for node, flag in lossless.items()}


def choose_limits(ring: Ring, batch_nbytes: int, window: int, transport: str) -> Limits:
    """Return how much may be on its way.

    By TCP never more than half of the slots, so that the producer has the rest: in a ring that is small for
    that, two large batches are faster than many small ones. Ray's store has a copy, and the slots are free.
    """
    most = ring.slots
    if transport == "tcp":
        half = max(1, ring.slots // 2)
        window = min(window, half, max(2, half * ring.frame_nbytes // batch_nbytes))
        most = half // window
    return Limits(max(1, min(batch_nbytes // ring.frame_nbytes, most)), window)


def describe(ring: Ring) -> Like:
    """Return what the rings on other nodes must be like."""
    stream = hashlib.sha256(ring._generation).digest()[:8]
    mode = os.fstat(ring._fd).st_mode & 0o777
    attrs = copy.deepcopy(dict(ring.attrs))
    return Like(format_of(ring), ring.slots, ring.spares, ring.consumers, attrs, mode, stream)


def start(actor: type[Any], node: str, threads: int, *arguments: Any) -> Any:
    """Start an actor on a node, where Ray starts it again if it dies; so many threads are for frames."""
    options = {
        "num_cpus": 0,
        "max_restarts": -1,
        "max_task_retries": 0,  # what a call publishes must not be published twice
        "max_concurrency": 8,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
    }
    made = ray.remote(concurrency_groups={"frames": threads})(actor)
    return made.options(**options).remote(*arguments)
