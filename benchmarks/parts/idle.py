"""Processor time of a process that waits."""

import contextlib
import os
import time
from collections.abc import Callable

import numpy as np

import shmring
from benchmarks.cells import OURS, Cell
from benchmarks.parts import Effort
from benchmarks.runner import isolated, unique_name

PART = "idle"
UNITS = {"used": "% of a core", "wake_ups": "1/s"}


def cells(effort: Effort) -> list[Cell]:
    seconds = 0.5 if effort.quick else 2.0
    cases = {"a blocked consumer": blocked_consumer, "a blocked producer": blocked_producer}
    return [
        Cell(
            PART,
            case,
            "shmring",
            OURS,
            lambda wait=wait: isolated(lambda: wait(seconds)),
            UNITS,
            "default spin",
            slow=True,
        )
        for case, wait in cases.items()
    ]


def used(wait: Callable[[], object], error: type[Exception]) -> dict[str, float]:
    """Of one core, while waiting; user and system time, all threads."""
    switches = voluntary_switches()
    began, before = time.monotonic(), time.process_time()
    with contextlib.suppress(error):
        wait()
    elapsed = time.monotonic() - began
    return {
        "used": 100 * (time.process_time() - before) / elapsed,
        "wake_ups": (voluntary_switches() - switches) / elapsed,
    }


def voluntary_switches() -> int:
    lines = open(f"/proc/{os.getpid()}/status").read().splitlines()  # noqa: SIM115
    return int(next(line.split()[1] for line in lines if line.startswith("voluntary")))


def blocked_consumer(seconds: float) -> dict[str, float]:
    ring = shmring.Ring.create(unique_name(), shape=(8,), dtype="u8", slots=64)
    with ring, ring.producer(), ring.consumer() as consumer:
        return used(lambda: consumer.get(seconds), shmring.RingEmpty)


def blocked_producer(seconds: float) -> dict[str, float]:
    data = np.zeros(8, np.uint64)
    ring = shmring.Ring.create(unique_name(), shape=(8,), dtype="u8", slots=64)
    with ring, ring.consumer(), ring.producer() as producer:
        for _ in range(ring.slots):
            producer.put(data)
        return used(lambda: producer.put(data, timeout=seconds), shmring.RingFull)
