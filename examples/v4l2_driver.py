"""Buffers of a V4L2 device that come back in another order than they were queued in.

The device is simulated, with the calls of V4L2: VIDIOC_QBUF takes an index and an address
(V4L2_MEMORY_USERPTR), VIDIOC_DQBUF returns whatever is full. Two engines work at the same time, so a later
picture may be full before an earlier one. A ring publishes in order: the program keeps what is full until the
oldest buffer is. Nothing is copied.

    python v4l2_driver.py
"""

import collections
import ctypes
import multiprocessing
import queue
import random
import sys
import threading
import time
from dataclasses import dataclass

import numpy as np

import shmring

PICTURES = 500
BUFFERS = 4
SHAPE = (480, 640)
META = np.dtype([("sequence", "u4")])
DAMAGED = 50  # each so many-th picture
FLAG_ERROR = 0x40  # V4L2_BUF_FLAG_ERROR


@dataclass(frozen=True)
class Buffer:
    """What is used of struct v4l2_buffer."""

    index: int
    bytesused: int
    flags: int
    timestamp_ns: int
    sequence: int


class Device:
    """Two engines, which are threads here; each takes the buffer that was queued first."""

    def __init__(self) -> None:
        self.queued: queue.Queue[tuple[int, int, int] | None] = queue.Queue()
        self.full: queue.Queue[Buffer] = queue.Queue()
        self.next_sequence = 0
        self.at_start = threading.Lock()
        self.engines = [threading.Thread(target=self.work, args=(seed,)) for seed in range(2)]

    def __enter__(self) -> "Device":
        """VIDIOC_STREAMON."""
        for engine in self.engines:
            engine.start()
        return self

    def __exit__(self, *_: object) -> None:
        """VIDIOC_STREAMOFF: after that the device writes nowhere."""
        for _engine in self.engines:
            self.queued.put(None)
        for engine in self.engines:
            engine.join()

    def qbuf(self, index: int, userptr: int, length: int) -> None:
        self.queued.put((index, userptr, length))

    def dqbuf(self) -> Buffer:
        """Wait until any buffer is full."""
        return self.full.get(timeout=30)

    def work(self, seed: int) -> None:
        takes = random.Random(seed)
        while True:
            with self.at_start:
                job = self.queued.get()
                sequence, began = self.next_sequence, time.monotonic_ns()
                self.next_sequence += 1
            if job is None:
                return
            index, userptr, length = job
            damaged = sequence % DAMAGED == DAMAGED - 1
            nbytes = length // 2 if damaged else length
            ctypes.memset(userptr, sequence % 256, nbytes)
            time.sleep(takes.uniform(0, 0.002))
            self.full.put(Buffer(index, nbytes, FLAG_ERROR if damaged else 0, began, sequence))


def grab(ring: shmring.Ring, overtaken: "multiprocessing.SimpleQueue[int]") -> None:
    with ring, ring.producer() as out:
        out.wait_for_consumers(1, timeout=30)
        with out.buffers(BUFFERS) as buffers, Device() as device:  # the device stops first
            index_of: dict[int, int] = {}  # by address: one slot is one buffer of the device
            waiting: collections.deque[int] = collections.deque()  # as the ring has them
            full: dict[int, Buffer] = {}
            early = 0
            while out.next_seq < PICTURES:
                for array in buffers.refill(timeout=30):
                    index = index_of.setdefault(array.ctypes.data, len(index_of))
                    device.qbuf(index, array.ctypes.data, array.nbytes)
                    waiting.append(index)
                came = device.dqbuf()
                full[came.index] = came
                early += came.index != waiting[0]
                while waiting and waiting[0] in full and out.next_seq < PICTURES:
                    oldest = full.pop(waiting.popleft())
                    if oldest.flags & FLAG_ERROR:
                        buffers.drop()
                    else:
                        buffers.publish(timestamp_ns=oldest.timestamp_ns, meta=(oldest.sequence,))
            overtaken.put(early)


def main() -> int:
    spawn = multiprocessing.get_context("spawn")
    right = last = 0
    with (
        shmring.Ring.create(shape=SHAPE, dtype="u1", slots=12, meta=META) as ring,
        ring.consumer() as frames,
    ):
        overtaken = spawn.SimpleQueue()
        driver = spawn.Process(target=grab, args=(ring, overtaken), daemon=True)
        driver.start()
        for frame in frames.iter(timeout=30):
            in_time = frame.timestamp_ns > last
            last = frame.timestamp_ns
            right += bool(in_time and frame.seq == frame.meta["sequence"])
            right -= not (frame.array == frame.seq % 256).all()
        driver.join()
        lost, early = frames.lost, overtaken.get()
    print(
        f"{right} pictures right and in order, {lost} damaged; {'some' if early else 'none'} were full early"
    )
    return 0 if (right, lost) == (PICTURES - PICTURES // DAMAGED, PICTURES // DAMAGED) and early else 1


if __name__ == "__main__":
    sys.exit(main())
