"""Run under callgrind by instructions.py: calls between marks, each made often enough.

NAME of COUNTED says which calls; another build may not have all of them.
"""

import ctypes
import sys
from collections.abc import Callable
from itertools import repeat

import numpy as np

import shmring
from benchmarks.harness.isolation import unique_name

TIMES = 1024
BATCH = 64
WARM_UP = 16  # free lists are filled, code is specialised


class Counter:
    """Marks where the counting of a loop begins and ends."""

    def __init__(self, library: str):
        self._marks = ctypes.CDLL(library)

    def count(self, name: str, loop: Callable[[int], None], times: int = TIMES, frames_each: int = 1) -> None:
        """Run `loop(times)`; each turn moves `frames_each` frames."""
        loop(WARM_UP if frames_each == 1 else 2)
        description = f"{name} {times} {times * frames_each}".encode()
        self._marks.mark_begin()
        loop(times)
        self._marks.mark_end(description)


def nothing(times: int) -> None:
    for _ in repeat(None, times):
        pass


def count_single_frames(counter: Counter, producer: shmring.Producer, consumer: shmring.Consumer) -> None:
    """What is published is read: puts by gets, claims by gets with their array."""
    put, claim, get = producer.put, producer.claim, consumer.get
    data = np.ones(8, np.uint64)

    def puts(times: int) -> None:
        for _ in repeat(None, times):
            put(data)

    def gets(times: int) -> None:
        for _ in repeat(None, times):
            get()

    def claims(times: int) -> None:
        for _ in repeat(None, times):
            with claim():
                pass

    def arrays(times: int) -> None:
        for _ in repeat(None, times):
            frame = get()
            frame.array  # noqa: B018 - making the array is what is counted

    counter.count("put", puts)
    counter.count("get", gets)
    counter.count("claim", claims)
    counter.count("array", arrays)


def count_batches(counter: Counter, producer: shmring.Producer, consumer: shmring.Consumer) -> None:
    put_many, batch = producer.put_many, consumer.batch
    many = np.ones((BATCH, 8), np.uint64)

    def puts_of_many(times: int) -> None:
        for _ in repeat(None, times):
            put_many(many)

    def batches(times: int) -> None:
        for _ in repeat(None, times):
            batch(BATCH, BATCH).array  # noqa: B018

    counter.count("put_many", puts_of_many, 16, BATCH)
    counter.count("batch", batches, 16, BATCH)


def count_calls(counter: Counter) -> None:
    ring = shmring.Ring.create(unique_name(), shape=(8,), dtype="u8", slots=4096)
    with ring, ring.consumer() as consumer, ring.producer() as producer:
        count_single_frames(counter, producer, consumer)
        count_batches(counter, producer, consumer)


def count_gets_of_a_member(counter: Counter) -> None:
    ring = shmring.Ring.create(unique_name(), shape=(8,), dtype="u8", slots=2 * TIMES)
    with ring, ring.consumer(group="workers") as member, ring.producer() as producer:
        data, get = np.ones(8, np.uint64), member.get

        def gets(times: int) -> None:
            for _ in repeat(None, times):
                get()

        for _ in repeat(None, WARM_UP + TIMES):
            producer.put(data)
        counter.count("member", gets)


def count_puts_beside_held_frames(counter: Counter) -> None:
    """When the producer has come to their slots: without spare slots, and with as many as one page has."""
    for name, held, options in (
        ("put", 0, {}),
        ("put_held", 1, {}),
        ("put_spares", 1, {"spares": 1}),
        ("put_all_spares", 64, {"spares": 64}),
    ):
        ring = shmring.Ring.create(unique_name(), shape=(8,), dtype="u8", slots=2 * TIMES, **options)
        with ring, ring.consumer() as consumer, ring.producer() as producer:
            data, put = np.ones(8, np.uint64), producer.put
            frames = []
            for _ in range(ring.slots + held):
                put(data)
                frames.append(consumer.get())
                del frames[held:]

            def puts(times: int) -> None:
                for _ in repeat(None, times):
                    put(data)  # noqa: B023 - counted before the next ring is made

            assert consumer.try_get() is None
            counter.count(name, puts)


COUNTED = {
    "calls": count_calls,
    "member": count_gets_of_a_member,
    "held": count_puts_beside_held_frames,
}


def main() -> None:
    counter = Counter(sys.argv[1])
    counter.count("empty", nothing)
    COUNTED[sys.argv[2]](counter)


if __name__ == "__main__":
    main()
