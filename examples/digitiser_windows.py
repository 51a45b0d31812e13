"""Overlapping FFT windows over the blocks of a digitiser, read in place.

The ring's slots lie one after the other in memory, and wrap round without a gap, so that any run of
blocks is one array: each window of 8 blocks, 4 further on than the last, costs no copy.

    python digitiser_windows.py
"""

import multiprocessing
import sys

import numpy as np

import shmring
from shmring import attrs

RATE = 1_000_000  # samples a second
BLOCK = 2048  # samples that the digitiser delivers at once
BLOCKS = 600
LENGTH, STEP = 8, 4  # blocks of a window, and from one window to the next


def samples(first: int, count: int) -> np.ndarray:
    """What the digitiser measures: a tone that rises, as 16-bit numbers."""
    t = np.arange(first, first + count) / RATE
    return np.round(12_000 * np.sin(2 * np.pi * (20_000 + 40_000 * t) * t)).astype("i2")


def tone(t: float) -> float:
    """Its frequency at time t."""
    return 20_000 + 80_000 * t


def digitiser(ring: shmring.Ring) -> None:
    with ring, ring.producer() as out:
        out.wait_for_consumers(1, timeout=30)
        for block in range(BLOCKS):
            with out.claim() as slot:
                slot.array[:] = samples(block * BLOCK, BLOCK)


def main() -> int:
    count = wrong = copied = 0
    worst = 0.0
    shape = np.hanning(LENGTH * BLOCK)
    time = attrs.Axis("time", unit="second", scale=1 / RATE)
    said = attrs.describe(axes=[time], unit="ADC counts")
    with shmring.Ring.create(shape=(BLOCK,), dtype="i2", slots=32, attrs=said) as ring:
        process = multiprocessing.get_context("spawn").Process(target=digitiser, args=(ring,), daemon=True)
        process.start()
        with ring.consumer(label="spectrum") as blocks:
            for window in blocks.windows(LENGTH, STEP):
                signal = window.array.reshape(-1)  # still a view on the ring
                power = np.abs(np.fft.rfft(signal * shape))
                measured = float(np.argmax(power)) * RATE / signal.size
                first = int(window.seqs[0]) * BLOCK
                worst = max(worst, abs(measured - tone((first + signal.size / 2) / RATE)))
                wrong += not np.array_equal(signal, samples(first, signal.size))
                copied += window.copied
                count += 1
        process.join()

    expected = (BLOCKS - LENGTH) // STEP + 1
    resolution = RATE / (LENGTH * BLOCK)
    print(f"{count} windows of {LENGTH * BLOCK} samples, overlapping by half ({expected} expected)")
    print(f"{wrong} with wrong samples, {copied} copied")
    print(f"tone found within {worst:.0f} Hz; the resolution is {resolution:.0f} Hz")
    return 0 if count == expected and wrong == 0 and worst < 2 * resolution else 1


if __name__ == "__main__":
    sys.exit(main())
