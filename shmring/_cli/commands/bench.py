"""`shmring bench`: what to expect of this machine, in some seconds."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import click
import numpy as np

from shmring import Consumer, Producer, Ring, RingClosed
from shmring._cli.support import output, streams
from shmring._cli.support.refusal import Refusal
from shmring._cli.support.signals import ended_by_signals, kept_from_children

SECONDS = 1.0  # of each measurement
PATIENCE = 30.0  # seconds to wait for an answer of the other process
SMALL = (64,)
VIDEO = (1080, 1920, 3)
BATCH = 64
PAUSE = 0.002  # seconds between two frames that must find their consumer asleep
Row = tuple[str, str, float]  # what, unit, value


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def bench(as_json: bool) -> None:
    """Measure for about ten seconds what rings can do on this machine.

    A producer and a lossless consumer run in two processes, on whatever cores the kernel gives them. Every
    seq is checked: a measurement that loses a frame fails. Other load on the machine shows in the results.

    Frames that are copied are written by the producer, and the consumer reads a few bytes of each; frames in
    place are only handed over. Latency is the time from put() in one process until the other has the frame.
    """
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    if not as_json:
        streams.say(
            "shmring bench: six measurements of a second each, with two processes for each; about ten seconds"
        )
    if load > max(0.5, cores - 2):
        streams.say(
            f"shmring bench: the load is {load:.1f} on {output.count(cores, 'core')}: other programs distort "
            f"the results; end them for numbers that count"
        )
    with ended_by_signals():
        rows = [
            *_throughput("64 B, one frame per call", SMALL, 4096, _put_each, _take_each),
            *_throughput(f"64 B, batches of {BATCH}", SMALL, 4096, _put_batches, _take_batches),
            *_throughput("1080p RGB by copy", VIDEO, 8, _put_each, _take_each),
            *_throughput("1080p RGB in place", VIDEO, 8, _claim_each, _take_each),
            *_latency("consumer asleep", None, PAUSE),
            *_latency("consumer spinning", math.inf, 0.0),
        ]
    machine = f"{_cpu()}, {output.count(cores, 'core')}, Linux {os.uname().release}"
    if as_json:
        results = [{"what": what, "unit": unit, "value": round(value, 3)} for what, unit, value in rows]
        output.show_json({"machine": machine, "load": round(load, 2), "results": results})
        return
    click.echo(machine)
    output.show_table(
        ("WHAT", ">RESULT"), [(what, f"{_rounded(value)} {unit}") for what, unit, value in rows]
    )


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.partition(": ")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return os.uname().machine


# ---- throughput

Produce = Callable[[Producer, Ring, float], None]
Consume = Callable[[Consumer], int]


def _put_each(out: Producer, ring: Ring, seconds: float) -> None:
    image = np.zeros(ring.shape, ring.dtype)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(8):
            out.put(image, timeout=PATIENCE)


def _put_batches(out: Producer, ring: Ring, seconds: float) -> None:
    images = np.zeros((BATCH, *ring.shape), ring.dtype)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        out.put_many(images, timeout=PATIENCE)


def _claim_each(out: Producer, ring: Ring, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(64):
            with out.claim(timeout=PATIENCE):
                pass


def _take_each(consumer: Consumer) -> int:
    expected = 0
    for frame in consumer:
        if frame.seq != expected:
            raise RuntimeError(f"frame {frame.seq} came where {expected} should")
        frame.array.flat[0]
        expected += 1
    return expected


def _take_batches(consumer: Consumer) -> int:
    expected = 0
    try:
        while True:
            with consumer.batch(BATCH, timeout=PATIENCE) as batch:
                if batch.seqs[0] != expected:
                    raise RuntimeError(f"frame {batch.seqs[0]} came where {expected} should")
                expected += len(batch)
    except RingClosed:
        return expected


def _throughput(
    what: str, shape: tuple[int, ...], slots: int, produce: Produce, consume: Consume
) -> list[Row]:
    with Ring.create(shape=shape, dtype="u1", slots=slots) as ring, _Child(_consume, ring, consume) as child:
        with ring.producer() as out:
            out.wait_for_consumers(1, PATIENCE)
            began = time.monotonic()
            produce(out, ring, SECONDS)
            published = out.published
        received = child.answer()
        seconds = time.monotonic() - began
    if received != published:
        raise Refusal(f"{what}: {received} of {output.count(published, 'frame')} arrived")
    rows = [(what, "frames/s", published / seconds)]
    if produce is _put_each and shape == VIDEO:
        rows.append((what, "GB/s", published / seconds * math.prod(shape) / 1e9))
    return rows


def _consume(ring: Ring, channel: Connection, consume: Consume) -> None:
    with ring, ring.consumer() as consumer:
        channel.send(consume(consumer))


# ---- latency


def _latency(what: str, spin: float | None, pause: float) -> list[Row]:
    """Measure each frame's way by the clock that both processes share."""
    with Ring.create(shape=SMALL, dtype="u1", slots=64) as ring, _Child(_stamp, ring, spin) as child:
        with ring.producer() as out:
            out.wait_for_consumers(1, PATIENCE)
            image = np.zeros(SMALL, "u1")
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                if pause:
                    time.sleep(pause)
                else:
                    _spin_until(time.monotonic_ns() + 20_000)
                out.put(image, timeout=PATIENCE)
        delays = child.answer()
    percent = statistics.quantiles(delays, n=100)
    return [
        (f"latency, {what}, median", "µs", statistics.median(delays) / 1e3),
        (f"latency, {what}, 99 %", "µs", percent[98] / 1e3),
    ]


def _spin_until(time_ns: int) -> None:
    while time.monotonic_ns() < time_ns:
        pass


def _stamp(ring: Ring, channel: Connection, spin: float | None) -> None:
    with ring, ring.consumer(spin=spin) as consumer:
        delays = [time.monotonic_ns() - frame.timestamp_ns for frame in consumer]
    channel.send(delays)


class _Child:
    """A process that consumes, and its answer."""

    def __init__(self, target: Callable[..., None], ring: Ring, argument: Any) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._ours, theirs = spawn.Pipe(duplex=False)
        self._process = spawn.Process(target=target, args=(ring, theirs, argument), daemon=True)
        with kept_from_children(signal.SIGINT):
            self._process.start()
        theirs.close()  # the child's is then the only one: its death ends the pipe

    def answer(self) -> Any:
        """Return what the process sends."""
        try:
            if self._ours.poll(PATIENCE):
                return self._ours.recv()
        except EOFError:
            pass
        raise Refusal("the consumer process gave no answer; try again with less load on the machine")

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()
        self._process.close()
        self._ours.close()
