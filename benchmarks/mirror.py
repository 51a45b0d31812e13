"""Mirrors between two nodes of Ray on this machine, against Ray itself and plain TCP: all in one run.

python -m benchmarks.mirror [--seconds S] [--rounds N] [--only NAME] [--frames N]
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import ray
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import shmring
from shmring.ray import mirror
from shmring.ray._mirror import BATCH_NBYTES, WINDOW

SHAPES = {"1080p RGB": (1080, 1920, 3), "1 MiB": (1 << 20,)}
LARGE = 128 << 20
STORE = 1 << 30  # bytes of each node's object store
SLOTS = 32
CAMERA = {"1080p RGB": 60, "1 MiB": 300}  # frames per second


class Taker:
    """On the other node: takes frames from Ray, bytes from a socket, frames from the mirror."""

    def take(self, frame: Any) -> int:
        return int(frame.nbytes)

    def listen(self) -> tuple[str, int]:
        self.server = socket.create_server((ray.util.get_node_ip_address(), 0))
        address: tuple[str, int] = self.server.getsockname()
        return address

    def receive(self, nbytes: int, slots: int) -> float:
        """Bytes per second, from the first one on, into as much memory as so many slots."""
        connection, _ = self.server.accept()
        memory = memoryview(np.ones(nbytes * slots, "u1"))
        total, began = connection.recv_into(memory), time.perf_counter()
        while got := connection.recv_into(memory[total % len(memory) :]):
            total += got
        return total / (time.perf_counter() - began)

    def count(self, name: str, seconds: float, first: int = 0) -> float:
        return count(name, seconds, first)


class Sender:
    """On this node: sends frames over plain TCP."""

    def send(self, address: tuple[str, int], nbytes: int, slots: int, seconds: float) -> None:
        frames = itertools.cycle(np.ones((slots, nbytes), "u1"))
        with socket.create_connection(address) as connection:
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                connection.sendall(next(frames))


def plain_ray(taker: Any, frame: Any, seconds: float, in_flight: int) -> float:
    """One put and one actor call for each frame."""
    pending: deque[Any] = deque()
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        pending.append(taker.take.remote(ray.put(frame)))
        if len(pending) >= in_flight:
            ray.get(pending.popleft())
            done += 1
    return done * frame.nbytes / (time.perf_counter() - began)


def large_object(taker: Any, seconds: float) -> float:
    """One large put, and the call that gets it, again and again."""
    data = np.ones(LARGE, "u1")
    done, began = 0, time.perf_counter()
    while done == 0 or time.perf_counter() - began < seconds:
        ray.get(taker.take.remote(ray.put(data)))
        done += 1
    return done * LARGE / (time.perf_counter() - began)


def plain_tcp(sender: Any, taker: Any, frame: Any, slots: int, seconds: float) -> float:
    """A stream of bytes; with one slot, they stay in the processor's cache."""
    address = ray.get(taker.listen.remote())
    received = taker.receive.remote(frame.nbytes, slots)
    ray.get(sender.send.remote(address, frame.nbytes, slots, seconds))
    return float(ray.get(received))


def count(name: str, seconds: float, first: int = 0) -> float:
    """Frames per second that a consumer gets which does nothing with them, after so many first ones."""
    with shmring.Ring.attach(name) as ring, ring.consumer(start="next", label="counting") as frames:
        for _ in range(first + 1):
            frames.get(30).release()
        got, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            with frames.batch(16, timeout=30) as batch:
                got += len(batch)
        return got / (time.perf_counter() - began)


@contextlib.contextmanager
def camera(shape: tuple[int, ...], rate: float = 0) -> Iterator[shmring.Ring]:
    """A ring and a producer that writes so many frames per second, or as fast as the ring takes them.

    It writes nothing into the slots, as a camera that does so itself: what is measured is the mirror.
    """
    stop = threading.Event()

    def feed() -> None:
        due = time.monotonic()
        while not stop.is_set():
            with contextlib.suppress(shmring.RingFull), out.claim(timeout=0.1) as slot:
                slot.publish()
            if rate:
                due += 1 / rate
                time.sleep(max(0.0, due - time.monotonic()))

    with shmring.Ring.create(shape=shape, dtype="u1", slots=SLOTS) as ring, ring.producer() as out:
        thread = threading.Thread(target=feed)
        thread.start()
        try:
            yield ring
        finally:
            stop.set()
            thread.join()


def mirrored(taker: Any, node: str, frame: Any, seconds: float, transport: Any) -> float:
    """What a consumer of the mirror gets while the source's producer has nothing else to do.

    It begins when as many bytes have gone by as the store has: other ways find its memory in use, too.
    """
    first = STORE // frame.nbytes
    with camera(frame.shape) as ring, mirror(ring, [node], transport=transport) as made:
        return float(ray.get(taker.count.remote(made.names[node], seconds, first))) * frame.nbytes


def local_rate(node: str, frame: Any, seconds: float, rate: float, mirrors: bool) -> float:
    """Frames per second of a consumer in another process beside the camera, with and without a mirror."""
    with camera(frame.shape, rate) as ring, contextlib.ExitStack() as stack:
        if mirrors:
            stack.enter_context(mirror(ring, [node]))
        code = f"from benchmarks.mirror import count; print(count({ring.name!r}, {seconds}))"
        return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)


def resident(actor: Any) -> float:
    """MiB of an actor's own memory, the rings not counted."""

    def own(_self: Any) -> float:
        with open("/proc/self/status") as file:
            found = next(line for line in file if line.startswith("RssAnon"))
        return int(found.split()[1]) / 1024

    return float(ray.get(actor.__ray_call__.remote(own)))


def memory(node: str, frames: int) -> None:
    """Print what both actors take while many small frames go by."""
    shape = (1 << 16,)
    with shmring.Ring.create(shape=shape, dtype="u1", slots=64) as ring, mirror(ring, [node]) as made:
        actors = {"source": made._source, "sink": made._sinks[0].sink}
        with ring.producer() as out:
            for tenth in range(11):
                taken = "  ".join(f"{name} {resident(actor):.1f}" for name, actor in actors.items())
                print(f"  {tenth * frames // 10:7} frames: {taken} MiB", flush=True)
                for _ in range(frames // 10 if tenth < 10 else 0):
                    out.claim().publish()
        made.wait(60)


def compare(title: str, unit: str, ways: dict[str, Callable[[], float]], rounds: int) -> None:
    """Measure all ways in turn, and print the median, the least and the most of each."""
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, measure in ways.items():
            rates[way].append(measure())
    print(f"{title}: {unit}, median (least to most) of {rounds}")
    for way, found in rates.items():
        print(
            f"  {way:34}  {statistics.median(found):6.0f}  ({min(found):.0f} to {max(found):.0f})", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["speed", "store", "local", "memory"])
    parser.add_argument("--frames", type=int, default=100_000, help="for memory")
    arguments = parser.parse_args()
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_agent_register_timeout_ms="120000")
    # Actors import this module, wherever it was started.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))
    options = {"num_cpus": 1, "object_store_memory": STORE}
    cluster = Cluster(initialize_head=True, head_node_args={**options, "include_dashboard": False})
    other = cluster.add_node(**options).node_id
    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")

    def start(actor: Any, where: str) -> Any:
        place = NodeAffinitySchedulingStrategy(where, soft=False)
        return ray.remote(actor).options(num_cpus=0, scheduling_strategy=place).remote()

    taker, sender = start(Taker, other), start(Sender, ray.get_runtime_context().get_node_id())
    seconds = arguments.seconds
    for _ in range(STORE // LARGE):  # the memory of a store is not there before it was used once
        large_object(taker, 0)
    for name, shape in SHAPES.items():
        frame = np.ones(shape, "u1")
        batch = np.ones((min(SLOTS, BATCH_NBYTES["ray"] // frame.nbytes), *shape), "u1")
        store: dict[str, Callable[[], float]] = {
            "Ray, one large object": lambda: large_object(taker, seconds) / 1e6,
            "Ray, batches of a mirror's size": lambda batch=batch: (
                plain_ray(taker, batch, seconds, WINDOW) / 1e6
            ),
            "mirror, transport ray": lambda frame=frame: mirrored(taker, other, frame, seconds, "ray") / 1e6,
        }
        speed: dict[str, Callable[[], float]] = {
            "Ray, one at a time": lambda frame=frame: plain_ray(taker, frame, seconds, 1) / 1e6,
            "Ray, 16 in flight": lambda frame=frame: plain_ray(taker, frame, seconds, 16) / 1e6,
            "plain TCP, one frame's memory": lambda frame=frame: (
                plain_tcp(sender, taker, frame, 1, seconds) / 1e6
            ),
            "plain TCP, a ring's memory": lambda frame=frame: (
                plain_tcp(sender, taker, frame, SLOTS, seconds) / 1e6
            ),
            "mirror": lambda frame=frame: mirrored(taker, other, frame, seconds, "tcp") / 1e6,
            **store,
        }
        if arguments.only in (None, "speed"):
            compare(name, "MB/s", speed, arguments.rounds)
        if arguments.only == "store":
            compare(f"{name}, through Ray's store", "MB/s", store, arguments.rounds)
        local: dict[str, Callable[[], float]] = {
            f"{'with' if mirrors else 'without'} a mirror": (
                lambda frame=frame, pace=CAMERA[name], mirrors=mirrors: local_rate(
                    other, frame, seconds, pace, mirrors
                )
            )
            for mirrors in (False, True)
        }
        if arguments.only in (None, "local"):
            title = f"{name}, a consumer beside the camera, which sends {CAMERA[name]}/s"
            compare(title, "frames/s", local, arguments.rounds)
    if arguments.only in (None, "memory"):
        memory(other, arguments.frames)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
