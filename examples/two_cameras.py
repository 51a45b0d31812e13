"""Two cameras in sync: frames of two rings that were taken at the same time, in pairs.

Each camera has a process and a ring, and a clock that is a little off. The left one takes no frame now and
then, and the right one starts later: the frames that have no partner are counted exactly.

    python two_cameras.py
"""

import multiprocessing
import sys

import numpy as np

import shmring

FRAMES = 60
PERIOD = 10_000_000  # ns between two frames
JITTER = 1_000_000  # at most, either way
SHAPE = (120, 160)


def camera(ring: shmring.Ring, first: int, missing: int) -> None:
    """Take frames from number `first` on, and each `missing`-th one not at all."""
    random = np.random.default_rng(first)
    with ring, ring.producer() as out:
        out.wait_for_consumers(1, timeout=30)
        for number in range(first, FRAMES):
            if number % missing == 0:
                continue
            with out.claim() as slot:
                slot.array[:] = number
                slot.timestamp_ns = number * PERIOD + int(random.integers(-JITTER, JITTER))


def main() -> int:
    spawn = multiprocessing.get_context("spawn")
    with (
        shmring.Ring.create(shape=SHAPE, dtype="u2", slots=8) as left,
        shmring.Ring.create(shape=SHAPE, dtype="u2", slots=8) as right,
        left.consumer() as left_frames,
        right.consumer() as right_frames,
    ):
        cameras = [
            spawn.Process(target=camera, args=(left, 1, 7), daemon=True),
            spawn.Process(target=camera, args=(right, 5, 1000), daemon=True),
        ]
        for one in cameras:
            one.start()
        pairs = shmring.align(
            {"left": left_frames, "right": right_frames}, tolerance_ns=3 * JITTER, timeout=30
        )
        numbers = []
        for pair in pairs:
            left_number, right_number = (int(frame.array[0, 0]) for frame in pair.values())
            if left_number != right_number:
                print(f"left {left_number} was paired with right {right_number}")
                return 1
            numbers.append(left_number)
        for one in cameras:
            one.join()
    print(f"{len(numbers)} pairs; without a partner: {pairs.unmatched}")
    return 0 if numbers == [number for number in range(5, FRAMES) if number % 7] else 1


if __name__ == "__main__":
    sys.exit(main())
