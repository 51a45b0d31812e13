"""A pool of workers shares the frames of one ring; one is killed, and no frame is lost.

python workers.py
"""

import multiprocessing
import signal
import sys
import time

import numpy as np

import shmring

FRAMES = 400
WORKERS = 3


def work(ring: shmring.Ring, done: "multiprocessing.SimpleQueue[tuple[int, bool]]") -> None:
    with ring, ring.consumer(group="workers") as frames:
        for frame in frames:
            with frame:  # released at the end: only then the frame is done
                assert (frame.array == frame.seq).all(), "a torn frame"
                done.put((frame.seq, frame.redelivered))


def keep_two(ring: shmring.Ring) -> None:
    """A worker that is going to be killed with two frames in its hands."""
    with ring, ring.consumer(group="workers") as frames:
        held = [frames.get(), frames.get()]
        signal.pause()
        del held


def main() -> int:
    context = multiprocessing.get_context("spawn")
    done = context.SimpleQueue()
    with shmring.Ring.create(shape=(64, 64), dtype="u4", slots=8) as ring, ring.producer() as out:
        unlucky = context.Process(target=keep_two, args=(ring,), daemon=True)
        unlucky.start()
        out.wait_for_consumers(1, timeout=60)
        for number in range(2):
            out.put(np.full(ring.shape, number, "u4"))
        while ring.stats().groups[0].lag:  # until it has both
            time.sleep(0.01)
        pool = [context.Process(target=work, args=(ring, done), daemon=True) for _ in range(WORKERS)]
        for process in pool:
            process.start()
        out.wait_for_consumers(1 + WORKERS, timeout=60)
        unlucky.kill()
        for number in range(2, FRAMES):
            out.put(np.full(ring.shape, number, "u4"))
        out.close()
        results = [done.get() for _ in range(FRAMES)]
        for process in pool:
            process.join()
    again = sum(redelivered for _, redelivered in results)
    complete = sorted(seq for seq, _ in results) == list(range(FRAMES))
    once = "each once" if complete else "WRONG"
    print(f"{len(results)} frames by {WORKERS} workers, {once}; {again} redelivered")
    return 0 if complete and again == 2 else 1


if __name__ == "__main__":
    sys.exit(main())
