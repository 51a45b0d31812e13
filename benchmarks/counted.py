"""Run under callgrind by parts/instructions.py: operations between marks, each done often enough."""

import ctypes
import sys
from collections.abc import Callable
from functools import partial
from itertools import repeat

import numpy as np

import shmring
from benchmarks.runner import unique_name

TIMES = 1024
BATCH = 64


def main() -> None:
    marks = ctypes.CDLL(sys.argv[1])

    def count(name: str, times: int, frames: int, call: Callable[[], object]) -> None:
        for _ in repeat(None, 8):
            call()  # warm: free lists are filled, code is specialised
        description = f"{name} {times} {frames}".encode()
        marks.mark_begin()
        for _ in repeat(None, times):
            call()
        marks.mark_end(description)

    data = np.ones(8, np.uint64)
    many = np.ones((BATCH, 8), np.uint64)
    ring = shmring.Ring.create(unique_name(), shape=(8,), dtype="u8", slots=4096)
    with ring, ring.consumer() as consumer, ring.producer() as producer:
        put = partial(producer.put, data)

        def drain() -> None:
            while consumer.try_get():
                pass

        def claim() -> None:
            with producer.claim():
                pass

        def array() -> None:
            consumer.get().array  # noqa: B018

        def batch() -> None:
            consumer.batch(BATCH).array  # noqa: B018

        count("empty", TIMES, TIMES, partial(int))
        count("put", TIMES, TIMES, put)
        count("get", TIMES - 64, TIMES - 64, consumer.get)
        drain()
        count("claim", TIMES, TIMES, claim)
        count("array", TIMES - 64, TIMES - 64, array)
        drain()
        count("put_many", 16, 16 * BATCH, partial(producer.put_many, many))
        count("batch", 8, 8 * BATCH, batch)


if __name__ == "__main__":
    main()
