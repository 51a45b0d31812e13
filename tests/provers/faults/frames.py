"""Frames that check themselves, and the books that a consumer of them keeps.

A frame is WORDS words: seq, epoch, number of the frame among those of its producer, frames dropped so far;
a pattern that depends on the seq in every word; the CRC of all that.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

import shmring

WORDS = 512  # one page: then `slots` needs no rounding up
LABEL = 4
MASK = (1 << 64) - 1
RAMP = np.arange(WORDS - LABEL - 1, dtype="u8") * np.uint64(0x9E3779B97F4A7C15)


class ViolationError(Exception):
    """A promise of the ring was broken."""


class Label(NamedTuple):
    seq: int
    epoch: int
    number: int
    dropped: int


def expect(condition: bool, what: str, *details: object) -> None:
    if not condition:
        raise ViolationError(f"{what}: {', '.join(map(str, details))}")


def pattern(seq: int) -> np.ndarray:
    return RAMP + np.uint64(seq * 0xBF58476D1CE4E5B9 & MASK)


def write(array: np.ndarray, label: Label) -> None:
    """Fill a frame in place, in several goes: a reader that sees it half done finds that out."""
    array[:LABEL] = label
    array[LABEL:-1] = pattern(label.seq)
    array[-1] = zlib.crc32(array[:-1])


def check(array: np.ndarray, seq: int) -> Label:
    """The label of a frame that is whole and has this seq."""
    label = Label(*(int(word) for word in array[:LABEL]))
    expect(label.seq == seq, "a frame has another seq than its entry says", label, seq)
    expect(bool(np.array_equal(array[LABEL:-1], pattern(seq))), "a frame is torn", label)
    expect(int(array[-1]) == zlib.crc32(array[:-1]), "a frame's CRC is wrong", label)
    return label


def put(producer: shmring.Producer, *, timeout: float | None = None, in_place: bool = False) -> bool:
    """Publish one frame; False if it was dropped."""
    if not in_place:
        frame = np.empty(WORDS, "u8")
        write(frame, next_label(producer))
        return producer.put(frame, timeout=timeout)
    with producer.claim(timeout=timeout) as slot:
        write(slot.array, next_label(producer))
    return not slot.dropped


def put_many(producer: shmring.Producer, count: int, *, timeout: float | None = None) -> int:
    """Publish up to `count` frames in one claim."""
    with producer.claim(count, timeout=timeout) as slot:
        first = next_label(producer)
        for i, array in enumerate(slot.array if count > 1 else [slot.array]):
            write(array, first._replace(seq=first.seq + i, number=first.number + i))
    return 0 if slot.dropped else slot.count


def drive(producer: shmring.Producer, frames: int, *, timeout: float | None = None) -> None:
    """Publish so many frames as a driver with two buffers does."""
    with producer.buffers(2) as queue:
        for _ in range(frames):
            for buffer in queue.refill(timeout):
                buffer[:] = 0  # a device is ahead
            write(queue.oldest, next_label(producer))
            queue.publish()


def next_label(producer: shmring.Producer) -> Label:
    return Label(producer.next_seq, producer.epoch, producer.published, producer.dropped)


class Books:
    """One stay of a consumer, from join to leave: every frame offered meanwhile is accounted for."""

    def __init__(self, consumer: shmring.Consumer):
        self.consumer = consumer
        self.first_seq: int | None = None  # counted from here on
        self.last: Label | None = None
        self.skipped = 0
        self.lost = 0

    def enter(self, frame: shmring.Frame | shmring.Batch, *, again: bool = False) -> list[Label]:
        """Check what was taken, and the consumer's counts against it. The labels of all its frames.

        again: frames may have been seen before, because windows overlap.
        """
        several = isinstance(frame, shmring.Batch)
        arrays: Iterable[np.ndarray] = frame.array if several else [frame.array]
        seqs = [int(seq) for seq in frame.seqs] if several else [frame.seq]
        labels = [check(array, seq) for array, seq in zip(arrays, seqs, strict=True)]
        for label in labels:
            if self.last is None or label.seq > self.last.seq:
                self._follow(label)
            else:
                expect(again, "a frame came again", label, self.last)
        self._compare(frame.lost)
        return labels

    def end(self) -> None:
        """The stream ended, or seems to: what was dropped after the last frame is counted now."""
        self.lost = self.consumer.lost

    def _follow(self, label: Label) -> None:
        last, consumer = self.last, self.consumer
        self.last = label
        skipped = consumer.skipped - self.skipped
        self.skipped = consumer.skipped
        if last is None:
            return
        expect(label.epoch >= last.epoch, "an old producer's frame came late", last, label)
        if label.epoch != last.epoch:
            at_start = label.number == 0 or skipped > 0 or not consumer.lossless
            expect(at_start, "a lossless consumer missed the first frames of a producer", last, label)
            return
        passed = label.number - last.number - 1
        expect(
            label.seq - last.seq - 1 == passed + label.dropped - last.dropped, "seq and dropped", last, label
        )
        if consumer.lossless:
            expect(passed == skipped, "a lossless consumer missed frames", last, label, skipped)

    def _compare(self, lost: int) -> None:
        consumer = self.consumer
        assert self.last is not None
        self.lost += lost
        counted = consumer.delivered + consumer.lost + consumer.skipped
        if self.first_seq is None:
            self.first_seq = self.last.seq + 1 - counted
        expect(
            counted == self.last.seq + 1 - self.first_seq,
            "delivered + lost + skipped is not what was offered",
            consumer,
            self.first_seq,
            self.last,
        )
        expect(consumer.lost == self.lost, "lost is not the sum of every frame's", consumer, self.lost)


class Keeps:
    """Arrays that a consumer keeps beyond the next take; each must stay what it was."""

    def __init__(self) -> None:
        self.kept: list[tuple[np.ndarray, list[int]]] = []

    def add(self, frame: shmring.Frame | shmring.Batch, labels: list[Label]) -> None:
        array = frame.array if isinstance(frame, shmring.Batch) else frame.array[np.newaxis]
        self.kept.append((array, [label.seq for label in labels]))

    def end(self, which: int = 0) -> None:
        array, seqs = self.kept.pop(which)
        for one, seq in zip(array, seqs, strict=True):
            check(one, seq)

    def end_all(self) -> None:
        while self.kept:
            self.end()

    def __len__(self) -> int:
        return len(self.kept)
