"""Frames over TCP, from the slots of the source into the slots of the other node's ring, without a buffer.

A session is one connection. Both ends prove that they know the mirror's secret, which Ray gives to them.

source to sink:  HEAD columns frames, or HEAD end
sink to source:  an acknowledgement after each message, and now and then
"""

from __future__ import annotations

import contextlib
import hmac
import itertools
import json
import logging
import os
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from shmring.ray._frames import SMALL, Bytes, unpack, unpack_columns
from shmring.ray._target import Count, End, Lost, Stopped, Target

__all__ = ["Acknowledgement", "Connection", "Endpoint", "Receiver"]

LOG = logging.getLogger("shmring.ray")
Endpoint: TypeAlias = tuple[str, int]
BEAT = 0.25  # seconds between two signs of life
SILENCE = 5.0  # seconds without any, after which the other end counts as gone; mostly the kernel is faster
GREETING = 2.0  # seconds to prove that one knows the secret, all in all
CONNECT = 10.0  # seconds for a connection, longer than a stranger can keep the sink busy
POLL_MS = 100
FRAMES, END = b"F", b"E"
HEAD = struct.Struct("<cQQ")  # kind, bytes of the columns, bytes of the frames
ACKNOWLEDGEMENT = struct.Struct("<QQQQ?")
CHALLENGE = 32  # bytes
PIECES = os.sysconf("SC_IOV_MAX")


class Acknowledgement(NamedTuple):
    """What the sink has done so far in this session."""

    messages: int
    done: Count
    ended: bool


class Receiver:
    """The sink's end: publishes what the source of the newest session sends."""

    def __init__(
        self, target: Target, node: str, address: str, secret: bytes, heard: Callable[[], None]
    ) -> None:
        self._target, self._secret, self._heard = target, secret, heard
        self._where = f"ring {target.name!r} on node {node}"
        self._session: Session | None = None
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._server = socket.create_server((address, 0), family=family)
        self.endpoint: Endpoint = self._server.getsockname()[:2]
        self._thread = threading.Thread(target=self._accept, name="shmring mirror", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop receiving."""
        self._server.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._thread.join()
        self._server.close()
        if self._session is not None:
            self._session.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _peer = self._server.accept()
            except OSError:  # closed
                return
            try:
                welcome(connection, self._secret)
            except (OSError, Lost) as error:
                LOG.warning("%s: a stranger was turned away: %s", self._where, error)
                connection.close()
                continue
            if self._session is not None:
                self._session.close()
            self._session = Session(connection, self._target, self._where, self._heard)


class Session:
    """The sink's end of one session, in a thread."""

    def __init__(
        self, connection: socket.socket, target: Target, where: str, heard: Callable[[], None]
    ) -> None:
        self._connection, self._target, self._where, self._heard = connection, target, where, heard
        self._messages, self._beat_at = 0, 0.0
        self._closing = threading.Event()
        seconds, fraction = divmod(BEAT, 1)
        connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(seconds), int(fraction * 1e6))
        )
        self._thread = threading.Thread(target=self._run, name="shmring session", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the session; a frame that has come in part is not published."""
        self._closing.set()
        hang_up(self._connection)
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        try:
            self._acknowledge()
            while True:
                self._take()
        except (OSError, Lost, Stopped):
            pass
        except Exception as error:
            LOG.exception("%s: it cannot take frames any more", self._where)
            self._target.end("failed", f"{type(error).__name__}: {error}")
            with contextlib.suppress(OSError):
                self._acknowledge()
        hang_up(self._connection)

    def _take(self) -> None:
        """Do what the next message asks for."""
        kind, size, payload = HEAD.unpack(self._receive(HEAD.size))
        columns = self._receive(size)
        if kind == END:
            self._target.end(*json.loads(columns))
        elif self._target.frame_format.frame_bytes < SMALL:
            self._target.publish(
                unpack(columns, [self._receive(payload)], self._target.frame_format), self._wait
            )
        else:
            self._target.receive(unpack_columns(columns, self._target.frame_format), self._fill, self._wait)
        self._messages += 1
        self._acknowledge()

    def _receive(self, size: int) -> bytearray:
        memory = bytearray(size)
        self._fill(memory)
        return memory

    def _fill(self, memory: bytearray | Bytes) -> None:
        """Receive as many bytes as fit."""
        left = memoryview(memory)
        while left:
            try:
                got = self._connection.recv_into(left, 0, socket.MSG_WAITALL)
            except BlockingIOError:  # nothing came for a while
                self._wait()
                continue
            if not got:
                raise Lost("the source closed the connection")
            left = left[got:]
            self._heard()
            self._beat()

    def _wait(self) -> None:
        """Between two tries to receive something, or to find space: still here."""
        if self._closing.is_set():
            raise Stopped
        self._target.check()
        self._beat()

    def _beat(self) -> None:
        if time.monotonic() - self._beat_at >= BEAT:
            self._acknowledge()

    def _acknowledge(self) -> None:
        self._beat_at = time.monotonic()
        ended = self._target.ended is not None
        self._connection.sendall(ACKNOWLEDGEMENT.pack(self._messages, *self._target.count(), ended))


class Connection:
    """The source's end of one session: one thread sends, another one hears.

    All of it raises Lost if the sink is gone.
    """

    def __init__(self, endpoint: Endpoint, secret: bytes) -> None:
        self._heard_at = time.monotonic()
        self._poll = select.poll()
        try:
            self._connection = socket.create_connection(endpoint, CONNECT)
        except OSError as error:
            raise Lost(str(error)) from None
        try:
            greet(self._connection, secret)
        except BaseException as error:
            self._connection.close()
            raise Lost(f"no sink answers at {endpoint}: {error}") from None
        self._poll.register(self._connection, select.POLLIN)

    def send(self, columns: bytes, payload: Sequence[Bytes]) -> None:
        """Send frames, whose memory must stay as it is until they are acknowledged."""
        size = sum(piece.nbytes for piece in payload)
        self._send([HEAD.pack(FRAMES, len(columns), size), columns, *payload])

    def end(self, how: End, failure: str, next_seq: int) -> None:
        """Send how the stream ended, and with which frame."""
        words = json.dumps([how, failure, next_seq]).encode()
        self._send([HEAD.pack(END, len(words), 0), words])

    def _send(self, pieces: list[Any]) -> None:
        left = deque(memoryview(piece) for piece in pieces if len(piece))
        try:
            while left:
                sent = self._connection.sendmsg(list(itertools.islice(left, PIECES)))
                while left and sent >= len(left[0]):
                    sent -= len(left.popleft())
                if sent:
                    left[0] = left[0][sent:]
        except OSError as error:
            raise Lost(f"the connection ended: {error}") from None

    def hear(self) -> Acknowledgement | None:
        """Return the next acknowledgement, None if there is none for a while."""
        if self._poll.poll(POLL_MS):
            self._heard_at = time.monotonic()
            try:
                words = receive(self._connection, ACKNOWLEDGEMENT.size)
            except OSError as error:
                raise Lost(f"the connection ended: {error}") from None
            messages, next_seq, published, lost, ended = ACKNOWLEDGEMENT.unpack(words)
            return Acknowledgement(messages, Count(next_seq, published, lost), ended)
        if time.monotonic() - self._heard_at > SILENCE:
            raise Lost(f"no sign of life for {SILENCE:g} s")
        return None

    def hang_up(self) -> None:
        """End the session: the threads that send and hear get Lost."""
        hang_up(self._connection)

    def close(self) -> None:
        """Give the connection back, when nobody sends or hears any more."""
        self._connection.close()


def welcome(connection: socket.socket, secret: bytes) -> None:
    """Make sure that the other end knows the secret, and prove that this one does."""
    deadline = time.monotonic() + GREETING
    connection.settimeout(GREETING)
    mine = os.urandom(CHALLENGE)
    connection.sendall(mine)
    theirs = receive(connection, CHALLENGE, deadline)
    if not hmac.compare_digest(receive(connection, CHALLENGE, deadline), proof(secret, b"source", mine)):
        raise Lost("it does not know the secret")
    connection.sendall(proof(secret, b"sink", theirs))
    ready(connection)


def greet(connection: socket.socket, secret: bytes) -> None:
    """Prove that this end knows the secret, and make sure that the other one does."""
    theirs = receive(connection, CHALLENGE)
    mine = os.urandom(CHALLENGE)
    connection.sendall(mine + proof(secret, b"source", theirs))
    if not hmac.compare_digest(receive(connection, CHALLENGE), proof(secret, b"sink", mine)):
        raise Lost("it does not know the secret")
    ready(connection)


def ready(connection: socket.socket) -> None:
    """Prepare a connection for frames and acknowledgements."""
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def proof(secret: bytes, who: bytes, challenge: bytes) -> bytes:
    """Return what only those can know who know the secret."""
    return hmac.digest(secret, who + challenge, "sha256")


def receive(connection: socket.socket, size: int, deadline: float | None = None) -> bytes:
    """Receive so many bytes; Lost if the connection ends before, or they have not come in time."""
    words = b""
    while len(words) < size:
        if deadline is not None:
            if (left := deadline - time.monotonic()) <= 0:
                raise Lost("it took too long to say who it is")
            connection.settimeout(left)
        got = connection.recv(size - len(words))
        if not got:
            raise Lost("the connection ended")
        words += got
    return words


def hang_up(connection: socket.socket) -> None:
    """End a connection, and wake all threads that wait for it."""
    with contextlib.suppress(OSError):  # the other end was first
        connection.shutdown(socket.SHUT_RDWR)
