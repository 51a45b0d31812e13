"""Queues of arrays, from one process to one or several: ``python -m benchmarks.queues``.

One process puts, others get: each item goes to one of them, and each reads the first and the last word of
what it gets. Before each put the array is filled with the number of the item. Rounds are interleaved: every
queue once for each case, then again. Time runs from the first put to the last get.

faster-fifo takes part where it is installed.
"""

import contextlib
import importlib.util
import multiprocessing
import queue
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from benchmarks.harness import alone
from benchmarks.harness.isolation import isolated
from benchmarks.harness.roles import Role, now
from benchmarks.reporting.tables import markdown, spread
from shmring.queue import RingQueue

context = multiprocessing.get_context("fork")

KIB, MIB = 1 << 10, 1 << 20
DEPTH = 8
SIZES = {"64 KiB": 64 * KIB, "1 MiB": MIB, "8 MiB": 8 * MIB}
GETTERS = (1, 4)
BYTES = 256 * MIB  # that one round moves
PATIENCE = 1e6  # seconds, for what takes no None
BASE = "multiprocessing.Queue"


@dataclass(frozen=True)
class Subject:
    """A queue: made for items of so many bytes; what a getter does to get them all; how the putter ends."""

    name: str
    make: Callable[[int], Any]
    items: Callable[[Any], Iterator[np.ndarray]]
    end: Callable[[Any, int], None]


def until_none(link: Any) -> Iterator[np.ndarray]:
    while (item := link.get()) is not None:
        yield item
        del item


def put_nones(link: Any, getters: int) -> None:
    for _ in range(getters):
        link.put(None)


def views(link: RingQueue) -> Iterator[np.ndarray]:
    """The items, each let go before the next one is taken."""
    while True:
        try:
            item = link.get(copy=False)
        except EOFError:
            return
        yield item
        del item


class Fifo:
    """faster-fifo. A getter that wakes up too late for an item hears at once that the queue is empty."""

    def __init__(self, nbytes: int):
        from faster_fifo import Queue

        self._queue = Queue(DEPTH * (nbytes + KIB))

    def put(self, item: Any) -> None:
        self._queue.put(item, True, PATIENCE)

    def get(self) -> Any:
        while True:
            with contextlib.suppress(queue.Empty):
                return self._queue.get(True, PATIENCE)


def make_ring_queue(nbytes: int) -> RingQueue:
    return RingQueue(DEPTH, (nbytes // 8,), "u8")


def close(link: RingQueue, getters: int) -> None:
    link.close()


def subjects() -> list[Subject]:
    found = [
        Subject(BASE, lambda nbytes: context.Queue(DEPTH), until_none, put_nones),
        Subject("RingQueue", make_ring_queue, iter, close),
        Subject("RingQueue, copy=False", make_ring_queue, views, close),
    ]
    if importlib.util.find_spec("faster_fifo"):
        found.append(Subject("faster-fifo", Fifo, until_none, put_nones))
    return found


def get_all(pipe: Connection, subject: Subject, link: Any) -> None:
    """A getter's process: answers when it got its last item, and how many came."""
    pipe.send("ready")
    ended, count = 0, 0
    for item in subject.items(link):
        assert item[0] == item[-1]
        ended, count = now(), count + 1
        del item
    pipe.send((ended, count))
    pipe.recv()


def rate(subject: Subject, nbytes: int, getters: int, count: int) -> float:
    """Items per second."""
    link = subject.make(nbytes)
    roles = [Role(get_all, subject, link, core=None) for _ in range(getters)]
    Role.answers(roles)
    # One more than the queue holds: a queue may pickle an item after put() has returned.
    arrays = [np.zeros(nbytes // 8, "u8") for _ in range(DEPTH + 1)]
    began = now()
    for number in range(count):
        array = arrays[number % len(arrays)]
        array[:] = number
        link.put(array)
    subject.end(link, getters)
    results = Role.answers(roles)
    for role in roles:
        role.end()
    came = sum(count for _, count in results)
    if came != count:
        raise RuntimeError(f"{came} of {count} items came")
    return count / (max(ended for ended, _ in results) - began) * 1e9


def run(rounds: int, scale: float) -> list[dict[str, Any]]:
    """All cases, interleaved."""
    rates: dict[tuple[str, int, str], list[float]] = {}
    for _ in range(rounds):
        for size, nbytes in SIZES.items():
            for getters in GETTERS:
                count = max(2 * DEPTH, round(scale * BYTES / nbytes))
                for subject in subjects():
                    found = isolated(lambda of=(subject, nbytes, getters, count): rate(*of), patience=4)
                    rates.setdefault((size, getters, subject.name), []).append(found)
    return [as_row(*key, values, rates[*key[:2], BASE]) for key, values in rates.items()]


def as_row(size: str, getters: int, name: str, values: list[float], base: list[float]) -> dict[str, Any]:
    ratios = [value / other for value, other in zip(values, base, strict=True)]
    row: dict[str, Any] = {"size": size, "getters": getters, "queue": name}
    for key, column in {"items": values, "ratio": ratios}.items():
        row[key] = {"median": statistics.median(column), "min": min(column), "max": max(column)}
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Items per second, and how many times those of multiprocessing.Queue: a line for each case."""
    names = list(dict.fromkeys(row["queue"] for row in rows))
    cells: dict[tuple[str, int], list[str]] = {}
    for row in rows:
        cells.setdefault((row["size"], row["getters"]), []).append(cell_of(row))
    head = ["item", "getters", *(f"{name}, items/s" for name in names)]
    return markdown(head, [[size, str(getters), *found] for (size, getters), found in cells.items()])


def cell_of(row: dict[str, Any]) -> str:
    (rate, least, most), (times, lowest, highest) = spread(row["items"]), spread(row["ratio"])
    ratio = "" if row["queue"] == BASE else f"; {times} times ({lowest} to {highest})"
    return f"{rate} ({least} to {most}){ratio}"


def main() -> None:
    alone.main(
        "queues",
        __doc__,
        lambda rounds, quick: run(rounds, 0.01 if quick else 1.0),
        table,
        rounds=9,
        packages=("faster-fifo",),
    )


if __name__ == "__main__":
    main()
