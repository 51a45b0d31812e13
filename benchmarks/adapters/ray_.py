"""Ray: an actor that takes arrays, through the object store and through a compiled graph's channels.

Ray starts its own processes, so this adapter runs a whole measurement itself: the driver is the producer,
an actor the consumer. Nobody is pinned.
"""

import os
import time
from collections import deque
from typing import Any

from benchmarks.harness.frames import Frames, consume
from benchmarks.harness.machine import TREE
from benchmarks.harness.transport import Job, Receiver, Transport

LARGE_STORE = 2 << 30


class Once(Receiver):
    """Hands one array that an actor was called with to the checks."""

    def __init__(self, array: Any):
        self.recv = lambda: array

    def view(self, message: Any) -> Any:
        return message


class Ray(Transport):
    package = "ray"
    modules = ("ray",)
    deferred = True
    spins = False
    slow = True
    whole = True
    leftovers = ("/dev/shm/plasma*", "/dev/shm/ray*", "/dev/shm/sem.hdr*", "/dev/shm/sem.obj*")

    def __init__(self, channels: bool):
        self.channels = channels
        self.name = f"ray, {'compiled graph' if channels else 'object store'}"
        self.settings = "an actor consumes; window of 8; nobody pinned"

    def begin(self, job: Job) -> Any:
        import ray

        os.environ["RAY_DEDUP_LOGS"] = "0"
        ray.init(
            num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
            object_store_memory=LARGE_STORE, runtime_env={"env_vars": {"PYTHONPATH": str(TREE)}},
        )  # fmt: skip
        transport = self

        class Consumer:
            def __init__(self) -> None:
                self.frames = Frames(transport, job.nbytes)
                self.number = 0

            def take(self, array: Any, reads: str = "touch") -> int:
                consume(Once(array), self.frames, self.number, 1, reads)
                self.number += 1
                return self.number

            def take_all(self, array: Any) -> int:
                return self.take(array, "all")

        return ray.remote(num_cpus=1)(Consumer).remote()

    def sending(self, job: Job, actor: Any, reads: str) -> Any:
        """A function that sends one array and returns what to wait for."""
        import ray

        method = "take_all" if reads == "all" else "take"
        if not self.channels:
            put, call = ray.put, getattr(actor, method).remote
            return lambda array: call(put(array))
        from ray.dag import InputNode

        with InputNode() as node:
            graph = getattr(actor, method).bind(node).experimental_compile(
                _buffer_size_bytes=job.nbytes + 65536, _max_inflight_executions=8
            )  # fmt: skip
        return graph.execute

    def whole_stream(self, job: Job, reads: str, seconds: float) -> dict[str, float]:
        import ray

        send = self.sending(job, self.begin(job), reads)
        frames = Frames(self, job.nbytes)
        waiting: deque[Any] = deque()
        first = 1
        ray.get(send(next(frames.stream(0, 1))))  # the actor starts with its first call

        def phase(lasts: float) -> float:
            nonlocal first
            began, count = time.monotonic(), 0
            for payload in frames.stream(first, 1 << 30):
                waiting.append(send(payload))
                count += 1
                if len(waiting) >= 8:
                    ray.get(waiting.popleft())
                if time.monotonic() - began > lasts:
                    break
            while waiting:
                last = ray.get(waiting.popleft())
            first += count
            if last != first:
                raise RuntimeError(f"{last} of {first} frames came")
            return count / (time.monotonic() - began)

        phase(max(0.2, seconds / 5))
        rate = phase(seconds)
        return {"frames": rate, "delivered": rate, "producer_ns": 0.0}

    def whole_ping_pong(self, job: Job, seconds: float) -> dict[str, float]:
        """Half of a call and its answer."""
        import ray

        send = self.sending(job, self.begin(job), "touch")
        frames = Frames(self, job.nbytes)
        times = []
        ray.get(send(next(frames.stream(0, 1))))  # the actor starts with its first call
        warm_up = time.monotonic() + seconds
        end = warm_up + seconds
        for payload in frames.stream(1, 1 << 30):
            began = time.monotonic_ns()
            ray.get(send(payload))
            times.append(time.monotonic_ns() - began)
            if time.monotonic() < warm_up:
                times.clear()
            elif time.monotonic() > end and times:
                break
        times.sort()
        parts = (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))
        return {name: times[int(len(times) * part)] / 2 for name, part in parts}


TRANSPORTS = [Ray(channels=False), Ray(channels=True)]
