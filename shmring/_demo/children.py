"""The four processes of `shmring demo`: each ends with an Account of what it saw itself."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import signal
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from shmring import (
    Consumer,
    Frame,
    Producer,
    ProducerDied,
    Ring,
    RingClosed,
    RingFull,
    ShmringError,
    Slot,
)
from shmring._demo.sources import BadSource, Source

META = np.dtype([("crc32", "<u4")])
CONSUMERS = ("recorder", "viewer", "latest")
VIEWER_HOLDS = 0.04  # seconds: about 25 frames a second
LATEST_SLEEPS = 0.1


@dataclass(frozen=True)
class Limits:
    """When the producer stops, and how fast it goes. None: no limit."""

    frames: int | None = None
    seconds: float | None = None
    rate: float | None = None


@dataclass
class Account:
    """What one process did or saw, counted by itself and not by the ring."""

    frames: int = 0
    seconds: float = 0.0
    lost: int = 0
    skipped: int = 0
    wrong: int = 0  # frames whose bytes do not have the crc32 that came with them
    copied: int = 0  # frames that did not lie in the ring's own memory
    digest: str = ""  # sha256 over the crc32 of every frame, in order
    failure: str = ""


class Tally:
    """A running digest of checksums: two are equal only if frames, order and number are."""

    def __init__(self) -> None:
        self.frames = 0
        self._sha = hashlib.sha256()

    def add(self, crc: int) -> None:
        self.frames += 1
        self._sha.update(crc.to_bytes(4, "little"))

    @property
    def digest(self) -> str:
        return self._sha.hexdigest()


class Pace:
    """Says when the next frame is due, and when the stream is over."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self.begin = time.monotonic()
        self._stopped = False
        parent = multiprocessing.parent_process()
        self._parent = os.getppid() if parent is None else parent.pid
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, *_: object) -> None:
        self._stopped = True

    @property
    def stopped(self) -> bool:
        """Whether the demo said so, or is gone."""
        return self._stopped or os.getppid() != self._parent

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begin

    def over(self, frames: int) -> bool:
        """Wait until frame number `frames` is due; True if it is not to come."""
        limits = self.limits
        if limits.rate is not None:
            time.sleep(max(0.0, frames / limits.rate - self.seconds))
        return (
            self.stopped
            or (limits.frames is not None and frames >= limits.frames)
            or (limits.seconds is not None and self.seconds >= limits.seconds)
        )


def produce(ring: Ring, source: Source, limits: Limits) -> Account:
    """Write frames in place and publish them with their checksums."""
    tally = Tally()
    with ring.producer() as out:
        out.wait_for_consumers(len(CONSUMERS), timeout=60)
        pace = Pace(limits)
        for draw in source.frames():
            slot = None if pace.over(tally.frames) else _claim(out, pace)
            if slot is None:
                break
            with slot:
                draw(slot.array)
                crc = zlib.crc32(slot.array.data)
                slot.meta = (crc,)
            tally.add(crc)
        seconds = pace.seconds
    return Account(frames=tally.frames, seconds=seconds, digest=tally.digest)


def _claim(out: Producer, pace: Pace) -> Slot | None:
    # In slices: a stop must end the wait for a consumer that hangs.
    while not pace.stopped:
        try:
            return out.claim(timeout=0.5)
        except RingFull:
            continue
    return None


def record(ring: Ring) -> Account:
    """Take every frame: lossless."""
    with ring.consumer(label="recorder") as frames:
        return _watch(ring, frames, frames.get)


def view(ring: Ring) -> Account:
    """Keep each frame while it is "drawn", and check it only then: lossy and slow."""
    with ring.consumer(lossless=False, label="viewer") as frames:
        return _watch(ring, frames, frames.get, holds=VIEWER_HOLDS)


def glance(ring: Ring) -> Account:
    """Take the newest frame, ten times a second."""
    with ring.consumer(lossless=False, label="latest") as frames:
        return _watch(ring, frames, frames.latest, sleeps=LATEST_SLEEPS)


def _watch(
    ring: Ring, frames: Consumer, take: Callable[[], Frame], *, holds: float = 0, sleeps: float = 0
) -> Account:
    account, tally = Account(), Tally()
    memory: list[range] = []
    begin = time.monotonic()
    while True:
        try:
            frame = take()
        except (RingClosed, ProducerDied):  # of its death the demo learns from the producer's process
            break
        if not memory:
            memory, begin = _mappings(ring.name), time.monotonic()
        time.sleep(holds)
        with frame:
            crc = zlib.crc32(frame.array.data)
            tally.add(crc)
            account.wrong += crc != int(frame.meta["crc32"])
            account.copied += not any(frame.array.ctypes.data in addresses for addresses in memory)
        time.sleep(sleeps)
    account.frames, account.digest = tally.frames, tally.digest
    account.lost, account.skipped = frames.lost, frames.skipped
    account.seconds = time.monotonic() - begin
    return account


def _mappings(name: str) -> list[range]:
    """Find the addresses at which this process has mapped the ring's block."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    spans = [line.split()[0].split("-") for line in lines if line.endswith(f"/dev/shm/{name}")]
    return [range(int(start, 16), int(end, 16)) for start, end in spans]


def run(role: str, ring: Ring, pipe: Connection, source: Source, limits: Limits) -> None:
    """Be one of the four processes; its Account goes into the pipe."""
    consumers = {"recorder": record, "viewer": view, "latest": glance}
    try:
        with ring:
            account = consumers[role](ring) if role in consumers else produce(ring, source, limits)
    except BadSource as error:
        account = Account(failure=str(error))
    except (ShmringError, OSError) as error:
        account = Account(failure=f"{type(error).__name__}: {error}")
    try:
        pipe.send(account)
    except BrokenPipeError:  # the demo was killed, so that its processes must remove the ring's name
        with contextlib.suppress(FileNotFoundError):  # another process of the demo was faster
            ring.unlink()
    pipe.close()
