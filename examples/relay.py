"""Source -> relay -> consumer: a relay passes on not only the frames, but also how the stream ended.

The source closes the first stream, fails in the second and is killed in the third; the consumer behind the
relay sees the same each time.

    python relay.py
"""

import multiprocessing
import os
import signal
import sys

import numpy as np

import shmring

FRAMES = 5
ENDS = ("closed", "failed: lens cap on", "died")


def camera(ring: shmring.Ring, end: str) -> None:
    with ring, ring.producer() as out:
        out.wait_for_consumers(1, timeout=30)
        for number in range(FRAMES):
            out.put(np.full(16, number, "u4"))
        if end == "died":
            os.kill(os.getpid(), signal.SIGKILL)
        if end.startswith("failed"):
            out.close(error="lens cap on")


def relay(source: shmring.Ring, target: shmring.Ring) -> None:
    with source, target, source.consumer() as frames, target.producer() as out:
        out.wait_for_consumers(1, timeout=30)
        try:
            for frame in frames:
                if frame.lost:
                    out.drop(frame.lost)
                out.put(frame.array, timestamp_ns=frame.timestamp_ns)
        except shmring.ProducerFailed as failed:
            out.close(error=failed.failure)
        except shmring.ProducerDied:
            out.abandon()


def count(frames: shmring.Consumer) -> tuple[int, str]:
    """How many frames came, and how the stream ended."""
    got = 0
    try:
        for _ in frames:
            got += 1
    except shmring.ProducerFailed as failed:
        return got, f"failed: {failed.failure}"
    except shmring.ProducerDied:
        return got, "died"
    return got, "closed"


def main() -> int:
    spawn = multiprocessing.get_context("spawn")
    right = True
    for end in ENDS:
        with (
            shmring.Ring.create(shape=(16,), dtype="u4", slots=8) as source,
            shmring.Ring.create(shape=(16,), dtype="u4", slots=8) as target,
            target.consumer() as frames,
        ):
            processes = [
                spawn.Process(target=relay, args=(source, target), daemon=True),
                spawn.Process(target=camera, args=(source, end), daemon=True),
            ]
            for process in processes:
                process.start()
            got, seen = count(frames)
            for process in processes:
                process.join()
        print(f"the camera {end}; behind the relay: {got} frames, {seen}")
        right = right and (got, seen) == (FRAMES, end)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
