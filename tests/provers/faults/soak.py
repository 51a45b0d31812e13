"""Soak: one producer, eight consumers, none of whom can be relied on.

python tests/provers/faults/soak.py --seconds 60 [--seed 1] [--json FILE]

Consumers join, leave, hold, stand still and are killed at random; the producer closes or is killed now and
then and the next one takes over. Every frame checks itself, every consumer keeps exact books, and memory,
descriptors, threads, mappings and /dev/shm must be in the last quarter what they were in the first. Two
consumers are never killed: what a stay leaves behind would pile up in them. The seed fixes what is done, not
when the system does it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import signal
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # no thread may be there when this process forks

import numpy as np
import psutil

import shmring
from frames import WORDS, Books, Keeps, ViolationError, put, put_many

CONSUMERS = 8
MORTAL = range(2, CONSUMERS)  # the first two live on; one of them is always lossless, the other lossy
SLOTS = 24
HELD = 2  # by a consumer at most: 8 of them, and the frames being read, leave slots for the producer
PATIENCE = 30.0  # seconds without any progress until it counts as a hang
PAUSE = 0.12  # seconds between two disturbances, on average
SAMPLES = 600  # of a whole run, so that they take no memory to speak of
SHM = Path("/dev/shm")

# Words of the shared board; one writer each.
STOP, CLOSE_PRODUCER = 0, 1
PUBLISHED, DROPPED, EPOCHS = 2, 3, 4
FRAMES = 8  # + consumer: frames delivered to it so far
LOST, SKIPPED, STAYS, DIED = FRAMES + 8, FRAMES + 16, FRAMES + 24, FRAMES + 32
BOARD = FRAMES + 40


class Board:
    """Counters that all processes see."""

    def __init__(self) -> None:
        import mmap

        self.words = np.frombuffer(mmap.mmap(-1, BOARD * 8), "u8")

    def sum(self, first: int) -> int:
        return int(self.words[first : first + CONSUMERS].sum())


# ---- what the processes do


def produce(ring: shmring.Ring, board: Board, chance: random.Random) -> None:
    """Publish in all ways until told to close."""
    words = board.words
    with ring.producer(on_full=chance.choice(["wait", "drop"])) as producer:
        words[EPOCHS] += 1
        before = int(words[PUBLISHED]), int(words[DROPPED])
        dropped = producer.dropped
        while not words[CLOSE_PRODUCER]:
            with contextlib.suppress(shmring.RingFull):
                publish_something(producer, chance)
            full = int(words[DROPPED]) != before[1] + producer.dropped - dropped
            words[PUBLISHED] = before[0] + producer.published
            words[DROPPED] = before[1] + producer.dropped - dropped
            if full or chance.random() < 0.02:
                time.sleep(chance.uniform(0, 0.004))  # consumers catch up, or fall asleep
    words[CLOSE_PRODUCER] = 0


def publish_something(producer: shmring.Producer, chance: random.Random) -> None:
    what = chance.random()
    if what < 0.5:
        put(producer, timeout=0.2)
    elif what < 0.8:
        put(producer, timeout=0.2, in_place=True)
    elif what < 0.98:
        put_many(producer, chance.randint(1, SLOTS), timeout=0.2)
    else:
        slot = producer.claim(chance.randint(1, 4), timeout=0.2)
        slot.array[...] = 1  # rubbish that nobody may ever see
        slot.abort()


def consume(ring: shmring.Ring, board: Board, chance: random.Random, me: int) -> None:
    """Stay after stay until told to stop."""
    while not board.words[STOP]:
        if chance.random() < 0.5:
            stay(ring, board, chance, me)
        else:
            with shmring.Ring.attach(ring.name) as own:
                stay(own, board, chance, me)


def stay(ring: shmring.Ring, board: Board, chance: random.Random, me: int) -> None:
    """Join, take frames in one way or another, hold some, leave."""
    words = board.words
    lossless = chance.random() < 0.6 if me in MORTAL else me == 0
    consumer = ring.consumer(
        lossless=lossless,
        start=chance.choice(["oldest", "newest", "next"]),
        label=f"soak {me}",
        wait_for_takeover=chance.random() < 0.5,
    )
    books, keeps = Books(consumer), Keeps()
    way = chance.choice([take_one, take_one, take_tried, take_latest, take_batch, take_windows])
    counted = [0, 0, 0]
    heard = time.monotonic()
    for _ in range(chance.choice([3, 30, 300, 1000])):
        if words[STOP]:
            break
        try:
            frame = way(consumer, chance)
        except (shmring.RingEmpty, shmring.SlotsHeld):
            frame = None
        except (shmring.ProducerDied, shmring.RingClosed) as error:
            words[DIED + me] += isinstance(error, shmring.ProducerDied)
            break
        if frame is None:
            if time.monotonic() - heard > PATIENCE:
                raise ViolationError(f"no frame in {PATIENCE} s: {consumer}, {ring.stats()}")
            keeps.end_all()  # gives back while waiting, so nobody waits forever
            continue
        heard = time.monotonic()
        labels = books.enter(frame, again=way is take_windows)
        if chance.random() < 0.2:
            keeps.add(frame, labels)
        del frame
        if len(keeps) > HELD or (keeps and chance.random() < 0.1):
            keeps.end(chance.randrange(len(keeps)))
        now = [consumer.delivered, consumer.lost, consumer.skipped]
        for word, new, old in zip((FRAMES, LOST, SKIPPED), now, counted, strict=True):
            words[word + me] += new - old
        counted = now
    words[STAYS + me] += 1
    if chance.random() < 0.5:
        keeps.end_all()
    consumer.close()  # with what is still held, or without
    keeps.end_all()


def take_one(consumer: shmring.Consumer, chance: random.Random) -> shmring.Frame:
    return consumer.get(timeout=0.3)


def take_tried(consumer: shmring.Consumer, chance: random.Random) -> shmring.Frame | None:
    frame = consumer.try_get()
    if frame is None:
        time.sleep(0.0005)
    return frame


def take_latest(consumer: shmring.Consumer, chance: random.Random) -> shmring.Frame:
    time.sleep(chance.uniform(0, 0.001))  # a viewer
    return consumer.latest(timeout=0.3)


def take_batch(consumer: shmring.Consumer, chance: random.Random) -> shmring.Batch:
    return consumer.batch(chance.randint(1, 6), timeout=0.3)


def take_windows(consumer: shmring.Consumer, chance: random.Random) -> shmring.Batch | None:
    """The first of some windows: an iteration of its own each time, as windows cannot time out."""
    length = min(4, (consumer.max_held or SLOTS) // 2)
    if consumer.lag < length:
        time.sleep(0.0005)
        return consumer.try_get()
    return next(consumer.windows(length, chance.randint(1, 6)))


# ---- starting, disturbing, sampling


class Crew:
    """The processes, and how they end."""

    def __init__(self, ring: shmring.Ring, board: Board, seed: int):
        self.ring, self.board = ring, board
        self.chance = random.Random(seed)
        self.pids: dict[int | str, int] = {}
        self.violations: list[str] = []
        self.counts = dict.fromkeys(
            ["consumers killed", "producers killed", "producers closed", "stopped and continued"], 0
        )
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)

    def start(self, who: int | str) -> None:
        seed = self.chance.getrandbits(63)
        pid = os.fork()
        if pid == 0:
            self._play(who, random.Random(seed))
        self.pids[who] = pid

    def _play(self, who: int | str, chance: random.Random) -> None:
        code = 3
        try:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            if who == "producer":
                produce(self.ring, self.board, chance)
            else:
                assert isinstance(who, int)
                consume(self.ring, self.board, chance, who)
            code = 0
        except BaseException as error:
            words = f"{who}: {type(error).__name__}: {error}"
            os.write(self.writer, (" ".join(words.split())[:4000] + "\n").encode())
        finally:
            os._exit(code)

    def end(self, who: int | str, number: int | None = None) -> None:
        """Wait for the end of one, after a signal if there is one. Anything but the expected end counts."""
        pid = self.pids.pop(who)
        if number is not None:
            os.kill(pid, number)
        deadline = time.monotonic() + PATIENCE
        while True:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                break
            if time.monotonic() > deadline:
                self.violations.append(f"{who} does not end: {self.ring.stats()}")
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.001)
        code = os.waitstatus_to_exitcode(status)
        if code not in (0, -(number or 0)):
            self.violations.append(f"{who} ended with {code}")

    def said(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self.violations += os.read(self.reader, 65536).decode().splitlines()

    def kill_some(self) -> None:
        victims = self.chance.sample(MORTAL, self.chance.choice([1, 1, 1, 2, 4]))
        for who in victims:
            self.end(who, signal.SIGKILL)
            self.counts["consumers killed"] += 1
        for who in victims:
            self.start(who)

    def stop_some(self) -> None:
        stopped = self.chance.sample([*range(CONSUMERS), "producer"], self.chance.choice([1, 2]))
        for who in stopped:
            os.kill(self.pids[who], signal.SIGSTOP)
        time.sleep(self.chance.uniform(0, 0.15))
        for who in stopped:
            os.kill(self.pids[who], signal.SIGCONT)
            self.counts["stopped and continued"] += 1

    def replace_producer(self) -> None:
        if self.chance.random() < 0.7:
            self.end("producer", signal.SIGKILL)
            self.counts["producers killed"] += 1
        else:
            self.board.words[CLOSE_PRODUCER] = 1
            self.end("producer")
            self.counts["producers closed"] += 1
        time.sleep(self.chance.choice([0, 0, 0.15]))  # now and then the others find out
        self.board.words[CLOSE_PRODUCER] = 0
        self.start("producer")

    def clear(self) -> None:
        for pid in self.pids.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(self.reader)
        os.close(self.writer)


def sample(crew: Crew, name: str) -> dict[str, float]:
    """What must not grow: of this process, of the two consumers that live on, and of the machine."""
    found: dict[str, float] = {}
    for who, pid in (("director", os.getpid()), ("consumer 0", crew.pids[0]), ("consumer 1", crew.pids[1])):
        process = psutil.Process(pid)
        memory = process.memory_info()
        found[f"{who}: KiB of its own"] = (memory.rss - memory.shared) / 1024
        found[f"{who}: descriptors"] = process.num_fds()
        found[f"{who}: threads"] = process.num_threads()
        found[f"{who}: mappings"] = len(process.memory_maps(grouped=False))
    files = [path.stat() for path in SHM.iterdir() if path.name.startswith(name)]
    found["/dev/shm: files of the ring"] = len(files)
    found["/dev/shm: KiB of the ring"] = sum(one.st_blocks for one in files) / 2
    return found


def grown(samples: list[dict[str, float]]) -> tuple[dict[str, list[float]], list[str]]:
    """Medians of the first and the last quarter, and what grew between them. The first tenth is warm-up."""
    if not samples:
        return {}, []
    samples = samples[len(samples) // 10 :]
    quarter = max(len(samples) // 4, 1)
    table, violations = {}, []
    for what in samples[0]:
        first, last = (
            statistics.median(one[what] for one in part) for part in (samples[:quarter], samples[-quarter:])
        )
        table[what] = [first, last]
        # A stay more or less is open at the moment of a sample; the allocator keeps some memory.
        room = (
            2048 + first * 0.05
            if "KiB of its own" in what
            else 0
            if "/dev/shm" in what or "thr" in what
            else 4
        )
        if last > first + room:
            violations.append(f"{what} grew from {first} to {last}")
    return table, violations


def at_rest(ring: shmring.Ring) -> list[str]:
    """Everybody left: every place is free, and the ring has its full depth again."""
    violations = []
    with ring.producer(on_full="raise") as producer, ring.consumer(start="next") as consumer:
        if len(ring.stats().consumers) != 1:
            violations.append(f"places are still taken: {ring.stats().consumers}")
        books = Books(consumer)
        for _ in range(3):
            for _ in range(ring.slots):
                put(producer)
            for _ in range(ring.slots):
                books.enter(consumer.get(timeout=0))
    return violations


# ---- the whole


def soak(seconds: float, seed: int, note: Callable[[str], None] = print) -> dict[str, object]:
    """Run and return the report."""
    name = f"soak-{os.getpid()}"
    board = Board()
    words = board.words
    began = time.monotonic()
    samples: list[dict[str, float]] = []
    longest_gap = 0.0
    with shmring.Ring.create(name, shape=(WORDS,), dtype="u8", slots=SLOTS, consumers=CONSUMERS + 2) as ring:
        crew = Crew(ring, board, seed)
        try:
            for who in ("producer", *range(CONSUMERS)):
                crew.start(who)
            seen, seen_at, sampled_at = 0, began, began
            while (now := time.monotonic()) < began + seconds and not crew.violations:
                time.sleep(crew.chance.expovariate(1 / PAUSE))
                disturb = crew.chance.random()
                if disturb < 0.5:
                    crew.kill_some()
                elif disturb < 0.75:
                    crew.stop_some()
                elif disturb < 0.9:
                    crew.replace_producer()
                crew.said()
                delivered = board.sum(FRAMES)
                if delivered != seen:
                    longest_gap = max(longest_gap, now - seen_at)
                    seen, seen_at = delivered, now
                elif now - seen_at > PATIENCE:
                    crew.violations.append(f"nothing moves any more: {ring.stats()}")
                if now - sampled_at >= max(1.0, seconds / SAMPLES):
                    samples.append(sample(crew, name))
                    sampled_at = now
                    if len(samples) % 60 == 0:
                        note(f"soak: {now - began:.0f} s, {seen} frames delivered, {crew.counts}")
            words[STOP] = 1
            for who in range(CONSUMERS):
                crew.end(who)
            words[CLOSE_PRODUCER] = 1
            crew.end("producer")
            crew.said()
            if not crew.violations:
                crew.violations += at_rest(ring)
        finally:
            crew.clear()
    table, leaks = grown(samples)
    left = [path.name for path in SHM.iterdir() if path.name.startswith(name)]
    return {
        "seconds": round(time.monotonic() - began, 1),
        "seed": seed,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}",
        "versions": f"CPython {platform.python_version()}, numpy {np.__version__}",
        "frames published": int(words[PUBLISHED]),
        "frames dropped by producers": int(words[DROPPED]),
        "frames delivered": board.sum(FRAMES),
        "frames lost, all counted": board.sum(LOST),
        "frames skipped": board.sum(SKIPPED),
        "stays of consumers": board.sum(STAYS),
        "stays ended by ProducerDied": board.sum(DIED),
        "producers": int(words[EPOCHS]),
        **crew.counts,
        "longest time without a frame, s": round(longest_gap, 3),
        "violations": crew.violations + leaks + [f"left in /dev/shm: {one}" for one in left],
        "first and last quarter": table,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the report there")
    given = parser.parse_args()
    report = soak(given.seconds, given.seed)
    text = json.dumps(report, indent=1)
    print(text)
    if given.json:
        given.json.write_text(text + "\n")
    return 1 if report["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
