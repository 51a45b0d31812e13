"""Numbered payloads, and how a consumer checks them.

Small frames come from a pool of ready-made payloads, so that making them is not what is measured; large
ones from one buffer (as a camera driver would use), whose first word is rewritten for each frame.
"""

import itertools
import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import limits
from benchmarks.harness.transport import Receiver, Transport, Words

PERIOD = 1024  # payloads in the pool of small frames
LARGE = 1 << 16
SAMPLE = 64  # "sample": every 64th message is checked
FILLER = 0x0101010101010101


class WrongFrame(Exception):
    """A frame was lost, came twice, out of order, or damaged."""


class Frames:
    """The payloads of one stream. Message `n` holds frames n * batch and on."""

    def __init__(self, transport: Transport, nbytes: int):
        self.words = nbytes // 8
        self.batch = transport.batch
        rewritable = transport.payload in ("array", "bytearray") and not transport.deferred
        self.live = rewritable and nbytes >= LARGE
        self.period = 1 << 62 if self.live or transport.payload == "number" else PERIOD
        if nbytes >= LARGE and not self.live and transport.payload != "number":
            self.period = 2
        self.in_place = transport.payload == "number"
        self.kind = transport.payload
        self._sum = limits.frame_sum()
        self.sum_of_rest = (self.words - 1) * FILLER & (1 << 64) - 1

    def _array(self, number: int) -> Words:
        data = page_aligned(self.batch * self.words).reshape(self.batch, self.words)
        data[...] = FILLER
        data[:, 0] = np.arange(number * self.batch, (number + 1) * self.batch) % self.period
        return data if self.batch > 1 else data[0]

    def _payload(self, number: int) -> Any:
        array = self._array(number)
        if self.kind == "array":
            return array
        return array.tobytes() if self.kind == "bytes" else bytearray(array.tobytes())

    def stream(self, first: int, count: int) -> Iterator[Any]:
        """The payloads of messages first to first + count - 1."""
        if self.in_place:
            return iter(range(first, first + count))
        if self.live:
            return self._rewritten(first, count)
        size = min(self.period, PERIOD) // self.batch
        pool = [self._payload((first + i) % size) for i in range(size)]
        return itertools.islice(itertools.cycle(pool), count)

    def _rewritten(self, first: int, count: int) -> Iterator[Any]:
        payload = self._payload(0)
        words = payload.reshape(-1) if self.kind == "array" else np.frombuffer(payload, np.uint64)
        for number in range(first, first + count):
            for i in range(self.batch):
                words[i * self.words] = number * self.batch + i
            yield payload

    def check(self, words: Words, number: int, whole: bool) -> None:
        """The first and last word of message `number`; `whole`: the sum of all of them."""
        if self.batch == 1:
            self._check_frame(words, number, whole)
            return
        rows = words.reshape(self.batch, -1)
        for i in (0, self.batch - 1):
            self._check_frame(rows[i], number * self.batch + i, whole)

    def _check_frame(self, words: Words, number: int, whole: bool) -> None:
        expected = number % self.period
        if words.item(0) != expected:
            raise WrongFrame(f"frame {number}: expected {expected}, got {words[0]}")
        if self.in_place:
            if whole:
                self._sum(words)
            return
        if self.words > 1 and words.item(-1) != FILLER:
            raise WrongFrame(f"frame {number}: damaged at its end: {words[-1]:#x}")
        if whole and self._sum(words) != (expected + self.sum_of_rest) % (1 << 64):
            raise WrongFrame(f"frame {number}: wrong checksum")


def page_aligned(words: int) -> Words:
    """Make an array that lies in memory as a driver's buffer does, and those of the limits."""
    memory = np.empty(words * 8 + mmap.PAGESIZE, np.uint8)
    return memory[-memory.ctypes.data % mmap.PAGESIZE :][: words * 8].view(np.uint64)


def consume(receiver: Receiver, frames: Frames, first: int, count: int, reads: str) -> int:
    """Receive messages first to first + count - 1 and check them; returns how many came.

    `reads`: "sample" checks every 64th; "touch" looks at both ends of each; "all" reads every byte.
    """
    if receiver.lossy:
        return _consume_lossy(receiver, frames, first + count - 1, reads)
    recv, view, check = receiver.recv, receiver.view, frames.check
    if reads != "sample":
        whole = reads == "all"
        for number in range(first, first + count):
            message = recv()
            check(view(message), number, whole)
            del message  # held while it is looked at, as in a `with` or a `for`
        return count
    last = first + count
    for number in range(first, last, SAMPLE):
        for _ in itertools.repeat(None, min(SAMPLE, last - number) - 1):
            recv()
        check(view(recv()), min(number + SAMPLE, last) - 1, frames.words < 64)
    return count


def _consume_lossy(receiver: Receiver, frames: Frames, last: int, reads: str) -> int:
    count = 0
    before = -1
    while before < last:
        message = receiver.recv()
        seq = receiver.seq_of(message)
        if seq <= before:
            raise WrongFrame(f"frame {seq} after {before}")
        frames.check(receiver.view(message), seq, reads == "all")
        before = seq
        count += 1
    return count
