"""Frames per second from one process to another, one lossless consumer, nothing lost, payload checked.

Each case streams for a while in two pinned processes. The time runs from the first frame offered to the
last one read. Every seq is checked (of a batch: the first), and the payload of every 512th frame (of one
batch in 16).
"""

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

import shmring

HD = (1080, 1920, 3)


@dataclass(frozen=True)
class Case:
    """What is measured; `mode` is "put", "put_many" or "claim" (in place: one byte is written)."""

    label: str
    shape: tuple[int, ...]
    slots: int
    frames: int
    mode: str
    batch: int = 1
    target: float | None = None


CASES = [
    Case("64 B, one frame per call", (64,), 1024, 600_000, "put", target=3e6),
    Case("64 B, batches of 64", (64,), 4096, 6_400_000, "put_many", 64, target=20e6),
    Case("64 B in place", (4, 16, 1), 64, 300_000, "claim"),
    Case("1080p RGB in place", HD, 64, 300_000, "claim"),
    Case("1080p RGB by copy", HD, 8, 2_000, "put"),
]


def consume_frames(consumer: shmring.Consumer, frame_ndim: int, in_place: bool) -> int:
    """Read to the end one by one."""
    expected = 0
    first = (0,) * frame_ndim
    for frame in consumer:
        assert frame.seq == expected
        if expected % 512 == 0:
            assert frame.array[first] == (expected & 0xFF if in_place else 7)
        expected += 1
    return expected


def consume_batches(consumer: shmring.Consumer, batch: int) -> int:
    """Read to the end in batches."""
    expected = batches = 0
    while True:
        try:
            got = consumer.batch(batch)
        except shmring.RingClosed:
            return expected
        assert got.seqs[0] == expected
        if batches % 16 == 0:
            assert (got.array == 7).all()
        batches += 1
        expected += len(got)


def consume(ring: shmring.Ring, case: Case, pipe: Connection) -> None:
    """The consumer's process."""
    os.sched_setaffinity(0, {1})
    with ring, ring.consumer(spin=float("inf")) as consumer:
        pipe.send("ready")
        if case.batch == 1:
            count = consume_frames(consumer, len(case.shape), case.mode == "claim")
        else:
            count = consume_batches(consumer, case.batch)
        pipe.send((time.monotonic_ns(), count, consumer.lost))


def produce(out: shmring.Producer, case: Case) -> None:
    """Offer all frames."""
    if case.mode == "claim":
        first = (0,) * len(case.shape)
        for seq in range(case.frames):
            with out.claim() as slot:
                slot.array[first] = seq & 0xFF
        return
    data = np.full((case.batch, *case.shape), 7, np.uint8)
    if case.mode == "put_many":
        for _ in range(case.frames // case.batch):
            out.put_many(data)
        return
    data = data[0]
    put: Callable[..., bool] = out.put
    for _ in range(case.frames):
        put(data)


def measure(case: Case) -> float:
    """Frames per second of one round."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with shmring.Ring.create(shape=case.shape, dtype="u1", slots=case.slots) as ring:
        process = context.Process(target=consume, args=(ring, case, theirs))
        process.start()
        assert ours.recv() == "ready"
        os.sched_setaffinity(0, {0})
        with ring.producer(spin=float("inf")) as out:
            begin = time.monotonic_ns()
            produce(out, case)
        end, count, lost = ours.recv()
        process.join()
    assert (count, lost) == (case.frames, 0), (count, lost)
    return case.frames / (end - begin) * 1e9


def run(rounds: int) -> list[dict[str, Any]]:
    """All cases, interleaved: a round of each, then the next round."""
    rates: dict[str, list[float]] = {case.label: [] for case in CASES}
    for _ in range(rounds):
        for case in CASES:
            rates[case.label].append(measure(case))
    return [
        {
            "case": case.label,
            "median": statistics.median(rates[case.label]),
            "min": min(rates[case.label]),
            "max": max(rates[case.label]),
            "target": case.target,
        }
        for case in CASES
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """For people."""
    lines = [f"{'frames per second, 1 -> 1, lossless':38}{'median':>14}{'min':>14}{'max':>14}  target"]
    for row in rows:
        target = row["target"]
        verdict = "" if target is None else f"{target:,.0f} {'met' if row['median'] >= target else 'NOT met'}"
        lines.append(
            f"{row['case']:38}{row['median']:14,.0f}{row['min']:14,.0f}{row['max']:14,.0f}  {verdict}"
        )
    by_case = {row["case"]: row["median"] for row in rows}
    ratio = by_case["64 B in place"] / by_case["1080p RGB in place"]
    lines.append(f"cost of a 1080p frame in place, in frames of 64 bytes in place: {ratio:.2f} (target 1.0)")
    return "\n".join(lines)
