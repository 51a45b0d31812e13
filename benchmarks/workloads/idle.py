"""Processor time of a process that waits, all the time or from frame to frame."""

import contextlib
import os
import statistics
import time
from collections.abc import Callable

import numpy as np

import shmring
from benchmarks.harness.cells import OURS, Cell
from benchmarks.harness.isolation import isolated, unique_name
from benchmarks.workloads import Effort

PART = "idle"
UNITS = {"used": "% of a core", "wake_ups": "1/s"}
PACED_UNITS = {"used": "% of a core", "late": "ns"}
PACES = (100, 1_000, 10_000, 50_000)  # frames/s
SPINS = {"shmring": (None, "default spin"), "shmring, sleeps at once": (0, "spin=0")}


def cells(effort: Effort) -> list[Cell]:
    seconds = 0.5 if effort.quick else 2.0
    cases = {"a blocked consumer": blocked_consumer, "a blocked producer": blocked_producer}
    blocked = [
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
    paced = [
        Cell(
            PART,
            f"a consumer of {pace:,} frames/s",
            subject,
            OURS,
            lambda pace=pace, spin=spin: isolated(lambda: paced_consumer(pace, spin, effort.seconds * 2)),
            PACED_UNITS,
            settings,
            slow=True,
        )
        for pace in PACES
        for subject, (spin, settings) in SPINS.items()
    ]
    return blocked + paced


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


def paced_consumer(pace: int, spin: float | None, seconds: float) -> dict[str, float]:
    """What waiting for paced frames costs a consumer, and how late each frame reaches it."""
    frames = max(8, int(pace * seconds))
    late = []
    ring = shmring.Ring.create(unique_name(), shape=(8,), dtype="u8", slots=64)
    with ring, ring.consumer(spin=spin) as consumer:
        pid = os.fork()
        if pid == 0:
            os.sched_setaffinity(0, {0})
            produce_paced(ring, pace, frames)
            os._exit(0)
        os.sched_setaffinity(0, {os.cpu_count() - 1})
        consumer.get(timeout=10)
        began, before = time.monotonic(), time.process_time()
        for _ in range(frames - 1):
            timestamp_ns = consumer.get(timeout=10).timestamp_ns
            late.append(time.monotonic_ns() - timestamp_ns)
        elapsed = time.monotonic() - began
        os.waitpid(pid, 0)
    return {"used": 100 * (time.process_time() - before) / elapsed, "late": statistics.median(late)}


def produce_paced(ring: shmring.Ring, pace: int, frames: int) -> None:
    data = np.zeros(8, np.uint64)
    step = 1_000_000_000 // pace
    with ring.producer() as producer:
        due = time.monotonic_ns() + step
        for _ in range(frames):
            while time.monotonic_ns() < due:
                pass
            producer.put(data)
            due += step
