"""Producers and slots, as mypy and pyright see them; never run."""

from typing import Any, assert_type

import numpy as np
import numpy.typing as npt

import shmring


def fill(ring: shmring.Ring, image: npt.NDArray[np.uint8]) -> None:
    with ring.producer(on_full="drop", spin=0.0) as out:
        assert_type(out, shmring.Producer)
        assert_type(out.wait_for_consumers(2, timeout=1.0), int)
        assert_type(out.put(image, timestamp_ns=1, timeout=None), bool)
        assert_type(out.put_many(np.stack([image, image])), int)
        with out.claim(timeout=0) as slot:
            assert_type(slot, shmring.Slot)
            pixels: npt.NDArray[Any] = slot.array
            pixels[:] = image
            slot.timestamp_ns = 5
            slot.rows = 3
        batch = out.claim(4)
        batch.timestamp_ns = [1, 2, 3, 4]
        assert_type(batch.count, int)
        batch.publish(2)
        with out.buffers(4) as queue:
            assert_type(queue, shmring.Buffers)
            waiting: list[npt.NDArray[Any]] = queue.refill(timeout=0)
            waiting[0][:] = image
            assert_type(queue.publish(timestamp_ns=1, rows=2), bool)
            queue.drop()
            assert_type(len(queue), int)
        assert_type(out.ring.name, str)
        assert_type(out.dropped, int)
        out.dropped = 0  # type: ignore[misc]
    ring.producer(on_full="overwrite")  # type: ignore[arg-type]


def failures(error: Exception) -> str:
    if isinstance(error, shmring.RingFull):
        timed_out: TimeoutError = error
        return str(timed_out)
    if isinstance(error, shmring.RingNotFound):
        missing: FileNotFoundError = error
        return str(missing)
    return str(isinstance(error, shmring.ShmringError))
