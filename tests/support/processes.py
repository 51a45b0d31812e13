"""What the tests share: frames that check themselves, waiting with a deadline, other processes."""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import math
import mmap
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

SHM = Path("/dev/shm")
CHILDREN = Path(__file__).with_name("children.py")
WORDS = mmap.PAGESIZE // 8  # u8 words in a frame of one page: then `slots` needs no rounding up
PATIENCE = 20.0  # seconds until a test gives up on something that must happen
MASK = (1 << 64) - 1
GIL = getattr(sys, "_is_gil_enabled", lambda: True)()

# The lines of the table "What happens when". Each is claimed by a test with @pytest.mark.event(line).
CONSUMER_KILLED = "a consumer is killed at any instruction, holding frames or not"
PRODUCER_KILLED = "the producer is killed at any instruction"
EVERYONE_KILLED = "everyone is killed"
PRODUCER_RAISES = "the producer raises inside claim()"
PRODUCER_CLOSES = "the producer closes"
PRODUCER_FAILS = "the producer ends by an exception"
HELD_FOR_AN_HOUR = "a consumer holds a frame for an hour"
ALL_SLOTS_HELD = "all slots are held"
HELD_BY_ITSELF = "a consumer waits for a frame that cannot come because it holds the slots itself"
ARRAY_KEPT = "the producer keeps slot.array after publishing"
LOSSLESS_STALLS = "a lossless consumer stalls"
LOSSY_LAPPED = "a lossy consumer is lapped"
TWO_PRODUCERS = "two producers"
WRONG_SHAPE = "the wrong shape or dtype is put"
BAD_NAME = "the name is taken, missing, another program's block, truncated, of another version, half created"
NO_SPACE = "/dev/shm is too small"
CTRL_C = "Ctrl-C in any wait"
CLOSE_WITH_VIEWS = "close() while views live"
START_METHODS = "fork, spawn, forkserver, subprocess, threads, free-threaded Python"
OTHER_ACCOUNT = "a user attaches from another account"

EVENTS = (
    CONSUMER_KILLED,
    PRODUCER_KILLED,
    EVERYONE_KILLED,
    PRODUCER_RAISES,
    PRODUCER_CLOSES,
    PRODUCER_FAILS,
    HELD_FOR_AN_HOUR,
    ALL_SLOTS_HELD,
    HELD_BY_ITSELF,
    ARRAY_KEPT,
    LOSSLESS_STALLS,
    LOSSY_LAPPED,
    TWO_PRODUCERS,
    WRONG_SHAPE,
    BAD_NAME,
    NO_SPACE,
    CTRL_C,
    CLOSE_WITH_VIEWS,
    START_METHODS,
    OTHER_ACCOUNT,
)


# ---- frames that check themselves

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


# ---- names and blocks

_numbers = itertools.count()


def fresh_name() -> str:
    """A ring name that no other test, and no other run, uses."""
    return f"shmring-test-{os.getpid()}-{next(_numbers)}"


def block(name: str) -> Path:
    """The file of a ring's block."""
    return SHM / name


def inode(name: str) -> int:
    """What tells a block from every other one, after it was unlinked too."""
    return block(name).stat().st_ino


def mappings(node: int) -> list[tuple[int, int, str]]:
    """(start, end, permissions) of this process's mappings of the block with that inode."""
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, permissions, _, _, number, *path = line.split(maxsplit=5)
        if int(number) == node and path and path[0].startswith(str(SHM)):
            start, end = (int(part, 16) for part in span.split("-"))
            found.append((start, end, permissions))
    return found


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


# ---- waiting


def wait_until(condition, what: str = "a condition", timeout: float = PATIENCE):
    """Poll until `condition()` is true; its value. Fails the test after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"still not so after {timeout} s: {what}")
        time.sleep(0.002)


def task_state(pid: int, tid: int | None = None) -> str:
    """The kernel's one-letter state of a process or of one of its threads."""
    path = Path(f"/proc/{pid}/stat" if tid is None else f"/proc/{pid}/task/{tid}/stat")
    return path.read_text().rpartition(")")[2].split()[0]


def wait_asleep(pid: int, tid: int | None = None) -> None:
    """Return once the process (or thread) was seen asleep several times running."""
    run = 0

    def asleep() -> bool:
        nonlocal run
        run = run + 1 if task_state(pid, tid) == "S" else 0
        return run >= 5

    wait_until(asleep, f"process {pid} thread {tid} is asleep")


def settle() -> None:
    """Let dropped objects go."""
    for _ in range(2):
        gc.collect()


@contextlib.contextmanager
def unclosed(kind: str):
    """The last reference to a handle that nobody closed goes in here, and that is a warning."""
    with pytest.warns(ResourceWarning, match=f"unclosed {kind} of ring"):  # noqa: PT031
        yield
        settle()


# ---- other processes


class PeerError(Exception):
    """An exception that the other process raised."""

    def __init__(self, kinds: list[str], message: str):
        super().__init__(f"{kinds[0]}: {message}")
        self.kinds = kinds
        self.kind = kinds[0]
        self.message = message


class Programs:
    """Starts programs that obey a test: forks of one that has imported everything, which is quick.

    They have nothing to do with the test's own process: that one is not their parent.
    """

    def __init__(self):
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, str(CHILDREN), "programs", str(theirs.fileno())]
        env = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # no thread may be there when it forks
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=env)
        theirs.close()
        self.ended: dict[int, int] = {}

    def _message(self) -> list:
        ready, _, _ = select.select([self.channel], [], [], PATIENCE)
        assert ready, "no word from the process that starts programs"
        message = self.channel.recv(1000)
        assert message, "the process that starts programs has died"
        return json.loads(message)

    def start(self, stdin: int, stdout: int, stderr: int) -> int:
        socket.send_fds(self.channel, [b"start"], [stdin, stdout, stderr])
        while True:
            kind, pid, code = self._message()
            if kind == "started":
                return pid
            self.ended[pid] = code

    def wait(self, pid: int) -> int:
        """How it ended: its exit code, or minus the signal."""
        while pid not in self.ended:
            _, ended, code = self._message()
            self.ended[ended] = code
        return self.ended[pid]

    def close(self) -> None:
        self.channel.close()
        self.process.wait(PATIENCE)


class FreshPrograms:
    """The same from scratch: interpreter, imports and all."""

    def __init__(self):
        self.processes: dict[int, subprocess.Popen] = {}

    def start(self, stdin: int, stdout: int, stderr: int) -> int:
        command = [sys.executable, str(CHILDREN), "serve"]
        process = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr)
        self.processes[process.pid] = process
        return process.pid

    def wait(self, pid: int) -> int:
        return self.processes[pid].wait(PATIENCE)


class Peer:
    """Another program that runs what it is told, line by line, in one name space."""

    def __init__(self, programs: Programs | FreshPrograms):
        self.programs = programs
        self.errors = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115 - closed by clean_up
        (theirs_in, self.requests), (self.answers, theirs_out) = os.pipe(), os.pipe()
        self.pid = programs.start(theirs_in, theirs_out, self.errors.fileno())
        os.close(theirs_in)
        os.close(theirs_out)
        self.code: int | None = None
        self._received = b""

    def _send(self, kind: str, source: str) -> None:
        os.write(self.requests, json.dumps([kind, source]).encode() + b"\n")

    def _line(self, timeout: float) -> list:
        deadline = time.monotonic() + timeout
        while b"\n" not in self._received:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self.answers], [], [], max(left, 0))
            if not ready:
                raise AssertionError(
                    f"no answer from the other process in {timeout} s; stderr: {self.stderr()}"
                )
            data = os.read(self.answers, 65536)
            if not data:
                raise AssertionError(f"the other process ended ({self.wait()}); stderr: {self.stderr()}")
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return json.loads(line)

    def start(self, source: str) -> Peer:
        """Begin to evaluate an expression; returns when the other process has begun with it."""
        self._send("start", source)
        assert self._line(PATIENCE) == ["begun"]
        return self

    def answer(self, timeout: float = PATIENCE):
        """The value of the expression that was begun, or PeerError."""
        kind, *rest = self._line(timeout)
        if kind == "error":
            raise PeerError(*rest)
        return rest[0]

    def ask(self, source: str, timeout: float = PATIENCE):
        """The value of an expression, or PeerError."""
        self._send("ask", source)
        return self.answer(timeout)

    def do(self, source: str, timeout: float = PATIENCE) -> None:
        """Run statements, or PeerError."""
        self._send("do", source)
        self.answer(timeout)

    def asleep(self) -> Peer:
        wait_asleep(self.pid)
        return self

    def answered(self) -> bool:
        """Whether an answer is there already."""
        return b"\n" in self._received or bool(select.select([self.answers], [], [], 0)[0])

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        """How it ended: its exit code, or minus the signal."""
        if self.code is None:
            self.code = self.programs.wait(self.pid)
        return self.code

    def kill(self) -> None:
        """kill -9, and wait until the kernel has taken everything back."""
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.wait()

    def stderr(self) -> str:
        self.errors.seek(0)
        return self.errors.read()

    def leave(self) -> str:
        """Let the process end by itself; what it wrote to stderr. Fails unless it ended well."""
        os.close(self.requests)
        self.requests = -1
        code, noise = self.wait(), self.stderr()
        assert code == 0, f"the other process ended with {code}: {noise}"
        return noise

    def clean_up(self) -> None:
        self.kill()
        self.errors.close()
        for fd in (self.requests, self.answers):
            if fd >= 0:
                os.close(fd)


class Forked:
    """A forked child that runs `work(send)` and ends without ever coming back into the test.

    `send(value)` gives the parent a JSON value; an exception is sent too, as ["error", kinds, message].
    """

    def __init__(self, work):
        self.reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.close(self.reader)
                signal.signal(signal.SIGINT, signal.SIG_DFL)

                def send(value) -> None:
                    os.write(writer, json.dumps(["value", value]).encode() + b"\n")

                try:
                    work(send)
                    code = 0
                except BaseException as error:
                    kinds = [kind.__name__ for kind in type(error).__mro__]
                    os.write(writer, json.dumps(["error", kinds, str(error)]).encode() + b"\n")
            finally:
                os._exit(code)
        os.close(writer)
        self.code: int | None = None
        self._received = b""

    def receive(self, timeout: float = PATIENCE):
        """The next value that the child sent, or PeerError."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._received:
            ready, _, _ = select.select([self.reader], [], [], max(deadline - time.monotonic(), 0))
            assert ready, f"nothing from the forked child in {timeout} s"
            data = os.read(self.reader, 65536)
            assert data, f"the forked child ended with {self.wait()}"
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        kind, *rest = json.loads(line)
        if kind == "error":
            raise PeerError(*rest)
        return rest[0]

    def wait(self) -> int:
        """How the child ended: its exit code, or minus the signal."""
        if self.code is None:
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.code

    def kill(self) -> None:
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.wait()

    def clean_up(self) -> None:
        self.kill()
        os.close(self.reader)
