"""Messages between the trainer and a worker, on a pair of connected sockets.

To the worker: the length (8 bytes) and a pickle. To the trainer: an `Answer`, with the descriptor of a new
ring, or with the pickle of an error.
"""

from __future__ import annotations

import pickle
import socket
import struct
from typing import Any, NamedTuple

__all__ = ["EXHAUSTED", "FAILED", "Answer", "Inbox", "Outbox", "receive_answer", "send_answer"]

CHUNK = 1 << 16
LENGTH = struct.Struct("=Q")
ANSWER = struct.Struct("=QqQ?")
FAILED, EXHAUSTED = -1, -2  # in place of where a batch begins


class Answer(NamedTuple):
    """What a worker says about a task."""

    number: int  # of the task
    begin: int  # of the batch's table in the slot; FAILED, or EXHAUSTED: an IterableDataset has ended
    end: int = 0  # of the batch's pickle in the slot
    fd: int = -1  # of a new ring, whose first frame this is
    failure: bytes = b""  # the pickle of an error


class Outbox:
    """Sends to a socket without ever waiting for the reader: what does not fit is kept for later."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._left = bytearray()

    def put(self, message: object) -> None:
        """Send a message, or as much of it as fits."""
        pickled = pickle.dumps(message, 5)
        self._left += LENGTH.pack(len(pickled)) + pickled
        self.flush()

    def flush(self) -> None:
        """Send more of what is left. A reader that is gone gets nothing any more."""
        try:
            while self._left:
                sent = self._channel.send(self._left, socket.MSG_DONTWAIT)
                del self._left[:sent]
        except BlockingIOError:
            pass
        except OSError:  # the wait for an answer finds out why
            self._left.clear()

    @property
    def is_full(self) -> bool:
        """Whether something is left to be sent."""
        return bool(self._left)


class Inbox:
    """Receives what an `Outbox` sends."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._read = bytearray()

    def get(self) -> Any:
        """Wait for a message; EOFError once the trainer has closed the channel."""
        (length,) = LENGTH.unpack(self._take(LENGTH.size))
        return pickle.loads(self._take(length))

    def _take(self, nbytes: int) -> bytearray:
        while len(self._read) < nbytes:
            more = self._channel.recv(CHUNK)
            if not more:
                raise EOFError
            self._read += more
        taken = self._read[:nbytes]
        del self._read[:nbytes]
        return taken


def send_answer(channel: socket.socket, answer: Answer) -> None:
    """Send an answer to the trainer, with what belongs to it."""
    number, begin, end, fd, failure = answer
    header = ANSWER.pack(number, begin, len(failure) if failure else end, fd >= 0)
    channel.sendall(header + failure)
    if fd >= 0:
        socket.send_fds(channel, [b"!"], [fd])


def receive_answer(channel: socket.socket) -> Answer | None:
    """Return the next answer if there is one; EOFError if none can come any more."""
    try:
        header = channel.recv(ANSWER.size, socket.MSG_DONTWAIT)
        if len(header) < ANSWER.size:
            raise EOFError
        number, begin, end, has_ring = ANSWER.unpack(header)
        if begin == FAILED:
            return Answer(number, begin, failure=bytes(receive_exactly(channel, end)))
        return Answer(number, begin, end, receive_fd(channel) if has_ring else -1)
    except BlockingIOError:
        return None
    except ConnectionResetError:
        raise EOFError from None


def receive_fd(channel: socket.socket) -> int:
    byte, fds, _flags, _address = socket.recv_fds(channel, 1, 1)
    if not byte:
        raise EOFError
    return fds[0]


def receive_exactly(channel: socket.socket, nbytes: int) -> bytearray:
    data = bytearray(nbytes)
    left = memoryview(data)
    while left:
        count = channel.recv_into(left)
        if count == 0:
            raise EOFError
        left = left[count:]
    return data
