"""A driver with four buffers: a camera that writes its pictures into the slots of the ring.

The camera gets addresses, as drivers in C do (V4L2, Aravis, GenTL): it has four at the same time, fills them
in order, and sometimes says that a picture is incomplete. Nothing is copied.

    python driver.py
"""

import ctypes
import multiprocessing
import queue
import sys
import threading
import time
from typing import NamedTuple

import shmring

PICTURES = 500
BUFFERS = 4
SHAPE = (480, 640)
BYTES = 480 * 640
DAMAGED = 50  # each so many-th picture is incomplete


class Picture(NamedTuple):
    complete: bool
    timestamp_ns: int


class Camera:
    """A camera with a driver that fills the memory it is given, in order; here it is a thread."""

    def __init__(self) -> None:
        self.queued: queue.Queue[int | None] = queue.Queue()
        self.finished: queue.Queue[Picture] = queue.Queue()
        self.thread = threading.Thread(target=self.take_pictures)

    def __enter__(self) -> "Camera":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop: after that the camera writes nowhere."""
        self.queued.put(None)
        self.thread.join()

    def queue(self, address: int) -> None:
        self.queued.put(address)

    def wait(self) -> Picture:
        """Wait until the buffer that was queued first is full."""
        return self.finished.get(timeout=30)

    def take_pictures(self) -> None:
        number = 0
        while (address := self.queued.get()) is not None:
            damaged = number % DAMAGED == DAMAGED - 1
            ctypes.memset(address, number % 256, BYTES // 2 if damaged else BYTES)
            self.finished.put(Picture(not damaged, time.monotonic_ns()))
            number += 1


def grab(ring: shmring.Ring) -> None:
    with ring, ring.producer() as out:
        out.wait_for_consumers(1, timeout=30)
        with out.buffers(BUFFERS) as buffers, Camera() as camera:  # the camera stops first
            while out.next_seq < PICTURES:
                for buffer in buffers.refill(timeout=30):
                    camera.queue(buffer.ctypes.data)
                picture = camera.wait()
                if picture.complete:
                    buffers.publish(timestamp_ns=picture.timestamp_ns)
                else:
                    buffers.drop()


def main() -> int:
    spawn = multiprocessing.get_context("spawn")
    right = 0
    with (
        shmring.Ring.create(shape=SHAPE, dtype="u1", slots=12) as ring,
        ring.consumer() as frames,
    ):
        camera = spawn.Process(target=grab, args=(ring,), daemon=True)
        camera.start()
        for frame in frames.iter(timeout=30):
            right += bool((frame.array == frame.seq % 256).all())
        camera.join()
        lost = frames.lost
    print(f"{right} pictures right, {lost} incomplete")
    return 0 if (right, lost) == (PICTURES - PICTURES // DAMAGED, PICTURES // DAMAGED) else 1


if __name__ == "__main__":
    sys.exit(main())
