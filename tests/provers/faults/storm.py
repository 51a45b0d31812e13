"""Storms: processes that fork while they hold handles, are stopped, and are killed at random moments.

python tests/provers/faults/storm.py --seconds 20 [--seed 1]      prints a report as JSON

A producer and two consumers, one of each policy, run in processes of their own, each of which keeps forking
children that inherit its handles. The children try to use them, fork again, open handles of their own from
the inherited Ring, and are killed or end in any way. This process stops, continues and kills all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import select
import signal
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # no thread may be there when this process forks

import shmring
from children import PATIENCE, wait_for_end, wait_for_stop
from frames import WORDS, Books, ViolationError, check, expect, put

SLOTS = 16
PLACES = 32
BOUND = 10.0  # seconds for a survivor to continue; a wait slice is 0.1 s, the rest is for a loaded machine
STOPPED = 0.25  # seconds: more than two wait slices


class Child:
    """A fork that runs `work(said)`; what goes wrong in it or in its own forks is said to the parent."""

    def __init__(self, work: Callable[[], None], writer: int):
        self.pid = os.fork()
        if self.pid == 0:
            run_and_exit(work, writer)
        self.code: int | None = None

    def end(self, number: int | None = None) -> int:
        if self.code is None:
            if number is not None:
                os.kill(self.pid, number)
            sent = "" if number is None else f" by {signal.Signals(number).name}"
            self.code = wait_for_end(self.pid, f"a child that is ended{sent}")
        return self.code

    def stop(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        self.code = wait_for_stop(self.pid, "a child that is sent SIGSTOP")
        expect(self.code is None, "a child ended by itself", self.code)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


def run_and_exit(work: Callable[[], None], writer: int) -> NoReturn:
    code = 3
    try:
        work()
        code = 0
    except BaseException as error:
        words = " ".join(f"{type(error).__name__}: {error}".split())
        os.write(writer, f"{words[:4000]}\n".encode())
    finally:
        os._exit(code)


# ---- what forks do with what they inherit


class Forks:
    """Children of one process, all of which inherit its handles."""

    def __init__(self, ring: shmring.Ring, handles: list[Any], chance: random.Random, writer: int):
        self.ring, self.handles, self.chance, self.writer = ring, handles, chance, writer
        self.children: list[Child] = []

    def one_more(self, depth: int = 2) -> None:
        chance = random.Random(self.chance.getrandbits(63))
        self.children.append(Child(lambda: self._inherit(chance, depth), self.writer))
        if len(self.children) > 4:
            self.children.pop(0).end(self.chance.choice([signal.SIGKILL, signal.SIGTERM]))

    def end(self) -> None:
        for child in self.children:
            child.end(signal.SIGKILL)

    def _inherit(self, chance: random.Random, depth: int) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for handle in self.handles:
            refused(handle)
        with self.ring.consumer(lossless=False, label="fork", start="newest") as own:
            if depth and chance.random() < 0.3:
                below = Forks(self.ring, [*self.handles, own], chance, self.writer)
                below.one_more(depth - 1)
                if chance.random() < 0.5:
                    below.end()  # else they are orphans soon
            with contextlib.suppress(shmring.RingEmpty, shmring.ProducerDied, shmring.RingClosed):
                for _ in range(chance.randrange(20)):
                    frame = own.get(timeout=0.01)
                    check(frame.array, frame.seq)
                    frame = None  # a fork that sleeps later must not hold it
            if chance.random() < 0.2:
                os.kill(os.getpid(), signal.SIGKILL)
        if chance.random() < 0.5:
            time.sleep(30)  # it outlives its parent, with everything that it inherited; until it is killed


def refused(handle: Any) -> None:
    calls: list[Callable[[], object]] = (
        [lambda: put(handle), handle.claim]
        if isinstance(handle, shmring.Producer)
        else [handle.get, handle.try_get, handle.latest]
    )
    for call in calls:
        try:
            call()
        except shmring.ForkedHandle:
            continue
        raise ViolationError(f"a fork could use {handle}")
    expect(handle.closed, "an inherited handle says that it is open", handle)


# ---- the processes in the storm


def produce(ring: shmring.Ring, chance: random.Random, writer: int) -> None:
    with ring.producer() as producer:
        forks = Forks(ring, [producer], chance, writer)
        while True:
            for _ in range(200):
                with contextlib.suppress(shmring.RingFull):
                    put(producer, timeout=0.2, in_place=chance.random() < 0.5)
            forks.one_more()


def consume(ring: shmring.Ring, chance: random.Random, writer: int, lossless: bool) -> None:
    with ring.consumer(lossless=lossless, wait_for_takeover=True, label="storm") as consumer:
        forks = Forks(ring, [consumer], chance, writer)
        books, held = Books(consumer), []
        kept = (
            1 if lossless else 0
        )  # beside the frame that came last: a lossy consumer has a share of 2 at least
        while True:
            for _ in range(200):
                with contextlib.suppress(shmring.RingEmpty):
                    frame = consumer.get(timeout=0.2)
                    books.enter(frame)
                    held = [*held[len(held) - kept :], (frame.array, frame.seq)]
                    del frame
            forks.one_more()  # with frames held in this process
            while held:  # a loop variable would hold the last frame for longer
                check(*held.pop())


# ---- the director


class Storm:
    def __init__(self, ring: shmring.Ring, seed: int):
        self.ring, self.chance = ring, random.Random(seed)
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.recoveries: list[float] = []
        self.counts = {"producers killed": 0, "consumers killed": 0, "stopped": 0}
        self.consumer = ring.consumer(wait_for_takeover=True, label="director")
        self.books = Books(self.consumer)
        self.players: dict[str, Child] = {}
        self.groups: list[int] = []
        for who in ("lossless", "lossy", "producer"):
            self.start(who)

    def start(self, who: str) -> None:
        ring, writer = self.ring, self.writer
        chance = random.Random(self.chance.getrandbits(63))

        def play() -> None:
            os.setpgid(0, 0)  # its forks are killed with it, in the end
            if who == "producer":
                produce(ring, chance, writer)
            else:
                consume(ring, chance, writer, who == "lossless")

        self.players[who] = Child(play, writer)
        self.groups.append(self.players[who].pid)

    def said(self) -> list[str]:
        with contextlib.suppress(BlockingIOError):
            return os.read(self.reader, 65536).decode().splitlines()
        return []

    def read_some(self, count: int) -> None:
        """This process is a lossless consumer itself: all frames come."""
        for _ in range(count):
            try:
                self.books.enter(self.consumer.get(timeout=BOUND))
            except shmring.RingEmpty:
                raise ViolationError(f"nothing moves any more: {self.ring.stats()}") from None

    def read_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(shmring.RingEmpty):
                self.books.enter(self.consumer.get(timeout=0.05))

    def kill_one(self) -> None:
        who = self.chance.choice(list(self.players))
        expect(
            self.players[who].end(signal.SIGKILL) == -signal.SIGKILL, f"{who} failed by itself", self.said()
        )
        died = time.monotonic()
        self.counts["producers killed" if who == "producer" else "consumers killed"] += 1
        if who == "producer":
            # Forks of it live on; they inherited its mappings, and its locks for an instant. It is dead.
            while self.ring.stats().producer.state == "live":
                expect(
                    time.monotonic() - died < BOUND, "forks keep their dead parent alive", self.ring.stats()
                )
                time.sleep(0.0005)
            self.start(who)
        self.read_some(2 * SLOTS)  # whole laps: the dead one's gate, pins and open claim were met
        self.recoveries.append(time.monotonic() - died)
        if who != "producer":
            self.start(who)

    def stop_one(self) -> None:
        """A stopped process is not dead: its role is not taken, its place is kept, its frames are safe."""
        who = self.chance.choice(list(self.players))
        player = self.players[who]
        player.stop()
        self.counts["stopped"] += 1
        self.read_for(STOPPED)
        stats = self.ring.stats()
        if who == "producer" and stats.producer.pid == player.pid:
            expect(stats.producer.state == "live", "a stopped producer was taken for dead", stats)
            with contextlib.suppress(shmring.ProducerExists):
                self.ring.producer()
                raise ViolationError(f"the role of a stopped producer could be taken: {stats}")
        rows = [row for row in stats.consumers if row.pid == player.pid]
        expect(all(row.alive for row in rows), "a stopped consumer was taken for dead", stats)
        player.go_on()
        self.read_some(2 * SLOTS)

    def close(self) -> list[str]:
        """End all of them; which of them do not end."""
        problems = []
        for player in self.players.values():
            try:
                player.end(signal.SIGKILL)
            except TimeoutError as error:
                problems.append(str(error))
        for group in self.groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        os.close(self.writer)
        deadline = time.monotonic() + PATIENCE
        while True:  # until the last fork is gone
            ready, _, _ = select.select([self.reader], [], [], max(deadline - time.monotonic(), 0))
            if not ready:
                problems.append(f"forks of the process groups {self.groups} live on for {PATIENCE:g} s")
                break
            if not os.read(self.reader, 65536):
                break
        os.close(self.reader)
        self.consumer.close()
        return problems


def at_rest(ring: shmring.Ring) -> None:
    """Nothing is left of all of them: every place can be taken, the full depth is there."""
    with ring.producer(on_full="raise") as producer:
        everyone = [ring.consumer(start="next") for _ in range(PLACES)]
        books = [Books(consumer) for consumer in everyone]
        for _ in range(3):
            for _ in range(ring.slots):
                put(producer)
            for consumer, book in zip(everyone, books, strict=True):
                for _ in range(ring.slots):
                    book.enter(consumer.get(timeout=0))
        for consumer in everyone:
            consumer.close()


def run(seconds: float, seed: int) -> dict[str, Any]:
    began = time.monotonic()
    violations: list[str] = []
    name = f"shmring-storm-{os.getpid()}"
    with shmring.Ring.create(name, shape=(WORDS,), dtype="u8", slots=SLOTS, consumers=PLACES) as ring:
        storm = Storm(ring, seed)
        try:
            while time.monotonic() - began < seconds and not violations:
                storm.read_for(storm.chance.uniform(0, 0.05))
                (storm.kill_one if storm.chance.random() < 0.8 else storm.stop_one)()
                violations += storm.said()
        except (ViolationError, TimeoutError, shmring.ShmringError) as error:
            violations.append(f"{type(error).__name__}: {error}")
            violations += storm.said()
        finally:
            delivered = storm.consumer.delivered
            violations += storm.close()
        if not violations:
            try:
                at_rest(ring)
            except (ViolationError, shmring.ShmringError) as error:
                violations.append(f"{type(error).__name__}: {error}")
    times = [1e3 * took for took in storm.recoveries] or [0.0]
    return {
        "mode": "storm of forks, stops and kills",
        "seed": seed,
        "seconds": round(time.monotonic() - began, 1),
        **storm.counts,
        "kills": storm.counts["producers killed"] + storm.counts["consumers killed"],
        "frames to the director": delivered,
        "recovery ms": {"median": round(statistics.median(times), 1), "worst": round(max(times), 1)},
        "violation": "; ".join(violations) or None,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    found = run(given.seconds, given.seed)
    print(json.dumps(found, indent=1))
    return 1 if found["violation"] else 0


if __name__ == "__main__":
    sys.exit(main())
