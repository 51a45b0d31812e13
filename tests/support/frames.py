"""Frames that check themselves."""

from __future__ import annotations

import math
import mmap

import numpy as np

WORDS = mmap.PAGESIZE // 8  # u8 words in a frame of one page: then `slots` needs no rounding up
MASK = (1 << 64) - 1

_RAMPS: dict[int, np.ndarray] = {}


def payload(seq: int, shape=(WORDS,)) -> np.ndarray:
    """The only content that frame `seq` may have; every word differs from every other frame's."""
    count = math.prod(shape)
    ramp = _RAMPS.get(count)
    if ramp is None:
        ramp = np.arange(count, dtype="u8") * np.uint64(0x9E3779B97F4A7C15)
        _RAMPS[count] = ramp
    return (ramp + np.uint64(seq * 0xBF58476D1CE4E5B9 & MASK)).reshape(shape)


def fill(slot) -> None:
    """Write a claimed slot in place with what its seq (or seqs) demand."""
    if slot.count == 1 and slot.array.ndim == 1:
        slot.array[...] = payload(slot.seq, slot.array.shape)
        return
    for i in range(slot.count):
        slot.array[i] = payload(slot.seq + i, slot.array.shape[1:])


def feed(producer, count: int) -> int:
    """Put `count` frames; how many were published."""
    return sum(producer.put(payload(producer.next_seq)) for _ in range(count))


def check(frame) -> int:
    """Fail unless the frame holds exactly what its seq demands; its seq."""
    array = frame.array
    assert np.array_equal(array, payload(frame.seq, array.shape)), f"frame {frame.seq} is torn or wrong"
    return frame.seq


def check_batch(batch) -> list[int]:
    """The same for a batch; its seqs."""
    array, seqs = batch.array, [int(seq) for seq in batch.seqs]
    assert len(batch) == len(array) == len(seqs)
    for one, seq in zip(array, seqs, strict=True):
        assert np.array_equal(one, payload(seq, one.shape)), f"frame {seq} of {seqs} is torn or wrong"
    return seqs


def drain(consumer) -> list[int]:
    """Take and check every frame that is there now; their seqs."""
    seqs = []
    while (frame := consumer.try_get()) is not None:
        seqs.append(check(frame))
        frame.release()
    return seqs
