"""The Python API killed at every point: before each access to the block, and before each Python line.

python tests/provers/faults/api.py --seconds 30 [--seed 1]      prints a report as JSON

Runs on a core that was built with crash_atomic.h (see faults.py). A victim is a fork of this process; it does
one operation of the public API and is killed in it. This process holds the survivors: a lossless and a lossy
consumer, and the producer where it is not the producer who dies. All points of all operations are known
after a first run in which nobody is killed; they come in random order, again and again, until the time is
over.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import random
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # no thread may be there when this process forks

import shmring
from children import wait_for_end
from frames import WORDS, Books, ViolationError, drive, expect, put, put_many
from shmring import _core

SLOTS = 8
BOUND = 5.0  # seconds for a survivor to continue; a wait slice is 0.1 s, the rest is for a loaded machine
SHM = Path("/dev/shm")
NEVER = (1 << 64) - 1
PACKAGE = str(Path(shmring.__file__).parent)

# ---- where victims die


def word(name: str) -> ctypes.c_uint64:
    """A variable of crash_atomic.h in the core."""
    try:
        return ctypes.c_uint64.in_dll(ctypes.CDLL(_core.__file__), name)
    except ValueError:
        raise SystemExit(f"{_core.__file__} was not built with crash_atomic.h: run faults.py") from None


class Accesses:
    """Counts accesses to the block, and dies before one of them."""

    def __init__(self) -> None:
        self.at, self.steps = word("shmring_crash_at"), word("shmring_crash_steps")

    def arm(self, at: int) -> None:
        self.steps.value, self.at.value = 0, at

    def disarm(self) -> int:
        self.at.value = NEVER
        return self.steps.value


class Lines:
    """Counts the lines of the package's Python code that run, and dies before one of them."""

    def arm(self, at: int) -> None:
        self.at, self.passed = at, 0
        sys.settrace(self._trace)

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            if self.passed == self.at:
                os.kill(os.getpid(), signal.SIGKILL)
            self.passed += 1
        return self._trace

    def disarm(self) -> int:
        sys.settrace(None)
        return self.passed


KINDS: dict[str, Accesses | Lines] = {"access": Accesses(), "line": Lines()}

# ---- operations


class Operation(NamedTuple):
    role: str
    name: str
    prepare: Callable[[Any], Any]  # of the ring, or of a name
    run: Callable[[Any], object]  # of what was prepared


def take_over(ring: shmring.Ring) -> shmring.Producer:
    producer = ring.producer(on_full="drop")
    for _ in range(2):
        put(producer)
    return producer


def overfill(producer: shmring.Producer) -> None:
    for _ in range(SLOTS + 1):
        put(producer)


def join(ring: shmring.Ring) -> shmring.Consumer:
    return ring.consumer(label="victim")


def join_lossy(ring: shmring.Ring) -> shmring.Consumer:
    return ring.consumer(label="victim", lossless=False, max_held=3)


def get(consumer: shmring.Consumer) -> shmring.Frame:
    return consumer.get(timeout=BOUND)


def hold(consumer: shmring.Consumer) -> tuple[shmring.Consumer, list[Any]]:
    return consumer, [get(consumer).array for _ in range(3)]


def release(held: tuple[shmring.Consumer, list[Any]]) -> None:
    for which in (1, 0, 0):
        del held[1][which]


def close_holding(held: tuple[shmring.Consumer, list[Any]]) -> None:
    held[0].close()
    release(held)


def wait_in_vain(consumer: shmring.Consumer) -> None:
    with contextlib.suppress(shmring.RingEmpty):
        for _ in range(2 * SLOTS):
            consumer.get(timeout=0.001)


def read_windows(consumer: shmring.Consumer) -> None:
    windows = consumer.windows(2, 1)
    for _ in range(3):
        next(windows)


def create(name: str, **options: Any) -> shmring.Ring:
    return shmring.Ring.create(name, shape=(WORDS,), dtype="u8", slots=SLOTS, **options)


def leave_stale(name: str) -> str:
    """A ring whose creator is dead."""
    pid = os.fork()
    if pid == 0:
        ring = create(name)
        os.kill(os.getpid(), signal.SIGKILL)
        ring.close()
    wait_for_end(pid, "a creator that kills itself")
    return name


def itself(thing: Any) -> Any:
    return thing


OPERATIONS = [
    Operation("producer", "Ring.producer", itself, lambda ring: ring.producer()),
    Operation("producer", "put", take_over, put),
    Operation("producer", "claim, publish", take_over, lambda producer: put(producer, in_place=True)),
    Operation("producer", "claim, publish several", take_over, lambda producer: put_many(producer, 3)),
    Operation("producer", "claim, abort", take_over, lambda producer: producer.claim(2).abort()),
    Operation(
        "producer", "buffers of a driver", take_over, lambda producer: drive(producer, 3, timeout=BOUND)
    ),
    Operation("producer", "put until frames are dropped", take_over, overfill),
    Operation("producer", "Producer.close", take_over, lambda producer: producer.close()),
    Operation("consumer", "Ring.consumer", itself, join),
    Operation("consumer", "Ring.consumer, lossy", itself, join_lossy),
    Operation("consumer", "get", join, get),
    Operation("consumer", "get, lossy", join_lossy, get),
    Operation("consumer", "get three and hold them", join, hold),
    Operation("consumer", "get until a timeout", join, wait_in_vain),
    Operation("consumer", "try_get", join, lambda consumer: consumer.try_get()),
    Operation("consumer", "latest", join, lambda consumer: consumer.latest(timeout=BOUND)),
    Operation("consumer", "latest, lossy", join_lossy, lambda consumer: consumer.latest(timeout=BOUND)),
    Operation("consumer", "batch", join, lambda consumer: consumer.batch(4, timeout=BOUND)),
    Operation("consumer", "batch, lossy", join_lossy, lambda consumer: consumer.batch(4, timeout=BOUND)),
    Operation("consumer", "windows", join, read_windows),
    Operation("consumer", "release", lambda ring: hold(join(ring)), release),
    Operation("consumer", "release, lossy", lambda ring: hold(join_lossy(ring)), release),
    Operation("consumer", "Consumer.close", join, lambda consumer: consumer.close()),
    Operation("consumer", "Consumer.close, holding", lambda ring: hold(join(ring)), close_holding),
    Operation("consumer", "Ring.stats", itself, lambda ring: ring.stats()),
    Operation("consumer", "observer", itself, lambda ring: ring.observer().latest()),
    Operation("consumer", "Ring.attach", itself, lambda ring: shmring.Ring.attach(ring.name)),
    Operation("consumer", "Ring.close", lambda ring: (ring, join(ring))[0], lambda ring: ring.close()),
    Operation("creator", "Ring.create", itself, create),
    Operation("creator", "Ring.create over a stale ring", leave_stale, create),
    Operation("creator", "Ring.create, exist_ok", itself, lambda name: create(name, exist_ok=True)),
    Operation("creator", "Ring.unlink", create, lambda ring: ring.unlink()),
]


# ---- letting one die


def let_die(operation: Operation, argument: Any, kind: str, at: int) -> int | None:
    """Fork a victim that dies in the operation. None if it did, else how many points it passed."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        play_victim(operation, argument, KINDS[kind], at, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:  # what a victim says fits into it
        code = wait_for_end(pid, f"a victim of {operation.name!r}, {kind} {at},")
        said = pipe.read().decode()
    if code == -signal.SIGKILL:
        return None
    expect(code == 0, "a victim failed by itself", code, said)
    return int(said)


def play_victim(operation: Operation, argument: Any, where: Accesses | Lines, at: int, writer: int) -> None:
    code = 3
    try:
        prepared = operation.prepare(argument)
        where.arm(at)
        result = operation.run(prepared)
        os.write(writer, str(where.disarm()).encode())
        del result
        code = 0
    except BaseException as error:
        where.disarm()
        os.write(writer, f"{type(error).__name__}: {error}".encode()[:4000])
    finally:
        os._exit(code)


# ---- the survivors


class Survivors:
    """Two consumers, and a producer where that one is not to die."""

    def __init__(self, ring: shmring.Ring, chance: random.Random, *, producing: bool):
        self.ring, self.chance = ring, chance
        self.consumers = [ring.consumer(lossless=lossless) for lossless in (True, False)]
        self.books = [Books(consumer) for consumer in self.consumers]
        self.producer = ring.producer() if producing else None
        self.recoveries: list[float] = []
        if self.producer is not None:
            self.fill()

    def fill(self) -> None:
        """A full ring of history, read by all."""
        assert self.producer is not None
        for _ in range(SLOTS):
            expect(put(self.producer, timeout=BOUND), "the producer cannot continue", self.ring.stats())
        self.read(SLOTS)

    def read(self, count: int) -> None:
        for consumer, books in zip(self.consumers, self.books, strict=True):
            for _ in range(count):
                books.enter(consumer.get(timeout=BOUND))

    def check_consumer_death(self, died: float) -> None:
        """The producer and the other consumers continue, and the ring has its full depth again."""
        assert self.producer is not None
        for i in range(3 * SLOTS):
            expect(put(self.producer, timeout=BOUND), "the producer cannot continue", self.ring.stats())
            self.read(1)
            if i == SLOTS - 1:  # a whole lap: the dead one's gate was met
                self.recoveries.append(time.monotonic() - died)
        self.fill()
        alive = [row.label for row in self.ring.stats().consumers if row.alive]
        expect(alive == ["", ""], "somebody else seems to be alive", alive)

    def check_producer_death(self, died: float) -> None:
        """The others get every published frame, then learn of the death, or the next producer continues."""
        if self.chance.random() < 0.3:
            for consumer, books in zip(self.consumers, self.books, strict=True):
                with contextlib.suppress(shmring.ProducerDied, shmring.RingClosed):
                    while True:
                        books.enter(consumer.get(timeout=BOUND))
                books.end()
                self.recoveries.append(time.monotonic() - died)
        self.take_over()

    def take_over(self) -> None:
        """Be the next producer for a lap."""
        epoch = self.ring.stats().producer.epoch
        with self.ring.producer() as producer:
            expect(producer.epoch == epoch + 1, "the takeover counts", producer.epoch, epoch)
            for consumer, books in zip(self.consumers, self.books, strict=True):
                for _ in range(consumer.lag):
                    books.enter(consumer.get(timeout=BOUND))
            self.producer = producer
            self.fill()
            self.producer = None

    def close(self) -> None:
        expect(len(self.ring.stats().consumers) <= 3, "the dead keep places", self.ring.stats())
        for consumer in self.consumers:
            consumer.close()
        if self.producer is not None:
            self.producer.close()


def check_creator_death(name: str, died: float, recoveries: list[float]) -> None:
    """The name can be used again at once, and nothing else is left."""
    with create(name) as ring, ring.producer() as producer, ring.consumer() as consumer:
        put(producer)
        Books(consumer).enter(consumer.get(timeout=BOUND))
    recoveries.append(time.monotonic() - died)
    left = [path.name for path in SHM.iterdir() if path.name.startswith(name)]
    expect(not left, "left in /dev/shm", left)


# ---- the whole


@contextlib.contextmanager
def scenes(chance: random.Random) -> Iterator[dict[str, Survivors | str]]:
    base = f"shmring-faults-{os.getpid()}"
    with create(f"{base}-p", consumers=3) as first, create(f"{base}-c", consumers=3) as second:
        found = {
            "producer": Survivors(first, chance, producing=False),
            "consumer": Survivors(second, chance, producing=True),
            "creator": f"{base}-n",
        }
        found["producer"].take_over()
        yield found
        found["producer"].close()
        found["consumer"].close()


def again_and_again(points: list[Any], chance: random.Random) -> Iterator[Any]:
    """All of them in random order, then all of them in another one, without end."""
    while True:
        chance.shuffle(points)
        yield from points


def one_death(
    where: Survivors | str, operation: Operation, kind: str, at: int, recoveries: list[float]
) -> int | None:
    argument = where if isinstance(where, str) else where.ring
    passed = let_die(operation, argument, kind, at)
    died = time.monotonic()
    if isinstance(where, str):
        check_creator_death(where, died, recoveries)
        return passed
    (where.check_producer_death if operation.role == "producer" else where.check_consumer_death)(died)
    recoveries += where.recoveries
    where.recoveries.clear()
    return passed


def run(seconds: float, seed: int) -> dict[str, Any]:
    began = time.monotonic()
    chance = random.Random(seed)
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    violation = None
    total = 0
    with scenes(chance) as found:
        where = f"seed {seed}"
        try:
            points = []
            for operation in OPERATIONS:
                row = {"points": 0, "kills": 0, "lived through": 0, "recoveries": []}
                rows[operation.role, operation.name] = row
                for kind in KINDS:
                    where = f"seed {seed}, {operation.name}"
                    passed = one_death(found[operation.role], operation, kind, NEVER, [])
                    assert passed is not None
                    row["points"] += passed
                    points += [(operation, kind, at) for at in range(passed)]
            total = len(points)
            began = time.monotonic()  # on a busy machine it takes long to count them
            for operation, kind, at in again_and_again(points, chance):
                if time.monotonic() - began > seconds:
                    break
                where = f"seed {seed}, {operation.name}, killed before {kind} {at}"
                row = rows[operation.role, operation.name]
                passed = one_death(found[operation.role], operation, kind, at, row["recoveries"])
                row["kills" if passed is None else "lived through"] += 1
        except (ViolationError, TimeoutError, shmring.ShmringError, AssertionError) as error:
            violation = f"{where}: {type(error).__name__}: {error}"
    return report(rows, seed, time.monotonic() - began, total, violation)


def report(
    rows: dict[tuple[str, str], dict[str, Any]], seed: int, took: float, total: int, violation: str | None
) -> dict[str, Any]:
    operations = []
    for (role, name), row in rows.items():
        times = row.pop("recoveries") or [0.0]
        recovery = {"median": statistics.median(times) * 1e3, "worst": max(times) * 1e3}
        rounded = {what: round(value, 1) for what, value in recovery.items()}
        operations.append({"role": role, "operation": name, **row, "recovery ms": rounded})
    return {
        "mode": "Python API: before each access to the block and before each Python line",
        "seed": seed,
        "seconds": round(took, 1),
        "points": total,
        "kills": sum(row["kills"] for row in operations),
        "operations": operations,
        "violation": violation,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    found = run(given.seconds, given.seed)
    print(json.dumps(found, indent=1))
    return 1 if found["violation"] else 0


if __name__ == "__main__":
    sys.exit(main())
