"""Run under callgrind by instructions.py: operations between marks, each done often enough."""

import ctypes
import sys
from collections.abc import Callable
from itertools import repeat

import numpy as np

import shmring
from benchmarks.harness.runner import unique_name

TIMES = 1024
BATCH = 64
WARM_UP = 16  # free lists are filled, code is specialised


def main() -> None:
    marks = ctypes.CDLL(sys.argv[1])

    def count(name: str, times: int, frames: int, loop: Callable[[int], None]) -> None:
        loop(WARM_UP if frames == times else 2)
        description = f"{name} {times} {frames}".encode()
        marks.mark_begin()
        loop(times)
        marks.mark_end(description)

    data = np.ones(8, np.uint64)
    many = np.ones((BATCH, 8), np.uint64)
    ring = shmring.Ring.create(unique_name(), shape=(8,), dtype="u8", slots=4096)
    with ring, ring.consumer() as consumer, ring.producer() as producer:
        put, claim, put_many = producer.put, producer.claim, producer.put_many
        get, batch = consumer.get, consumer.batch

        def nothing(times: int) -> None:
            for _ in repeat(None, times):
                pass

        def puts(times: int) -> None:
            for _ in repeat(None, times):
                put(data)

        def gets(times: int) -> None:
            for _ in repeat(None, times):
                get()

        def arrays(times: int) -> None:
            for _ in repeat(None, times):
                get().array  # noqa: B018 - making the array is what is counted

        def claims(times: int) -> None:
            for _ in repeat(None, times):
                with claim():
                    pass

        def puts_of_many(times: int) -> None:
            for _ in repeat(None, times):
                put_many(many)

        def batches(times: int) -> None:
            for _ in repeat(None, times):
                batch(BATCH, BATCH).array  # noqa: B018

        count("empty", TIMES, TIMES, nothing)
        count("put", TIMES, TIMES, puts)
        count("get", TIMES, TIMES, gets)
        count("claim", TIMES, TIMES, claims)
        count("array", TIMES, TIMES, arrays)
        count("put_many", 16, 16 * BATCH, puts_of_many)
        count("batch", 16, 16 * BATCH, batches)


if __name__ == "__main__":
    main()
