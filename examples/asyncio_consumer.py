"""Frames in an asyncio program: waiting for one costs no thread and blocks nothing else.

Two consumers and a heartbeat share one event loop; each consumer has its own policy.

    python asyncio_consumer.py
"""

import asyncio
import multiprocessing
import sys
import time

import numpy as np

import shmring

FRAMES = 300


def producer(ring: shmring.Ring) -> None:
    with ring, ring.producer() as out:
        out.wait_for_consumers(2, timeout=30)
        for number in range(FRAMES):
            out.put(np.full(ring.shape, number, "u4"))
            time.sleep(0.002)


async def every(ring: shmring.Ring) -> list[int]:
    """All frames: the loop ends when the producer closes the ring."""
    numbers = []
    with ring.consumer(label="every") as frames:
        async for frame in frames:
            assert (frame.array == frame.array.flat[0]).all(), "a torn frame"
            numbers.append(int(frame.array.flat[0]))
    return numbers


async def some(ring: shmring.Ring) -> tuple[int, int]:
    """Lossy, with a deadline for each frame, and other things to wait for between."""
    got = 0
    with ring.consumer(lossless=False, label="some") as frames:
        while True:
            try:
                frame = await frames.get_async(timeout=10)
            except shmring.RingClosed:
                return got, frames.lost
            got += 1
            frame.release()
            await asyncio.sleep(0.05)  # say, an answer to a client


async def heartbeat(beats: list[float]) -> None:
    """Anything else that the program does at the same time."""
    while True:
        beats.append(time.monotonic())
        await asyncio.sleep(0.01)


async def consume(ring: shmring.Ring) -> int:
    beats: list[float] = []
    clock = asyncio.create_task(heartbeat(beats))
    numbers, (got, lost) = await asyncio.gather(every(ring), some(ring))
    clock.cancel()
    complete = numbers == list(range(FRAMES))
    print(f"every: {len(numbers)} frames, {'in order and complete' if complete else 'WRONG'}")
    print(f"some: {got} frames + {lost} lost = {got + lost}, during {len(beats)} heartbeats")
    return 0 if complete and got + lost == FRAMES and len(beats) > 1 else 1


def main() -> int:
    with shmring.Ring.create(shape=(64, 64), dtype="u4", slots=8) as ring:
        process = multiprocessing.get_context("spawn").Process(target=producer, args=(ring,), daemon=True)
        process.start()
        code = asyncio.run(consume(ring))
        process.join()
    return code


if __name__ == "__main__":
    sys.exit(main())
