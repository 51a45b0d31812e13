"""Other processes: programs that obey a test, and forked children."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from support.waiting import PATIENCE, wait_asleep

TESTS = Path(__file__).parents[1]
CHILDREN = [sys.executable, "-P", "-m", "support.children"]


def environment() -> dict[str, str]:
    """In which another process finds the modules that tests share."""
    earlier = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{earlier}" if earlier else str(TESTS)}


class PeerError(Exception):
    """An exception that the other process raised."""

    def __init__(self, kinds: list[str], message: str):
        super().__init__(f"{kinds[0]}: {message}")
        self.kinds = kinds
        self.kind = kinds[0]
        self.message = message


class Programs:
    """Starts programs: forks of one that has imported everything, which is quick.

    They obey a test (see Peer) or run a command (see Command). They have nothing to do with the test's own
    process: that one is not their parent.
    """

    def __init__(self):
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [*CHILDREN, "programs", str(theirs.fileno())]
        env = {**environment(), "OPENBLAS_NUM_THREADS": "1"}  # no thread may be there when it forks
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=env)
        theirs.close()
        self.ended: dict[int, int] = {}

    def _message(self) -> list:
        ready, _, _ = select.select([self.channel], [], [], PATIENCE)
        assert ready, "no word from the process that starts programs"
        message = self.channel.recv(1000)
        assert message, "the process that starts programs has died"
        return json.loads(message)

    def load(self, *modules: str) -> None:
        """From now on, programs have imported these modules, where they are installed."""
        self.channel.send(json.dumps({"imports": modules}).encode())

    def start(self, stdin: int, stdout: int, stderr: int, **command) -> int:
        """The number of a new process, which obeys a test or runs the command, if one is given."""
        socket.send_fds(self.channel, [json.dumps(command).encode()], [stdin, stdout, stderr])
        while True:
            kind, pid, code = self._message()
            if kind == "started":
                return pid
            self.ended[pid] = code

    def poll(self, pid: int) -> int | None:
        """How it ended, if it has: its exit code, or minus the signal."""
        while pid not in self.ended and select.select([self.channel], [], [], 0)[0]:
            _, ended, code = self._message()
            self.ended[ended] = code
        return self.ended.get(pid)

    def wait(self, pid: int, timeout: float = PATIENCE) -> int | None:
        """How it ended; None if it has not after so many seconds."""
        deadline = time.monotonic() + timeout
        while (code := self.poll(pid)) is None and (left := deadline - time.monotonic()) > 0:
            select.select([self.channel], [], [], left)
        return code

    def close(self) -> None:
        self.channel.close()
        self.process.wait(PATIENCE)


class Command(subprocess.Popen):
    """`shmring WORDS...` as one of the programs: to its test it is a child like any other."""

    def __init__(self, programs: Programs, *words: str, **options):
        self._programs = programs
        super().__init__(words, **options)

    def _execute_child(self, words, executable, preexec_fn, close_fds, pass_fds, cwd, env, *others):
        pipes, session = others[3:9], others[-2]
        read, _, _, write, _, write_errors = pipes
        standard = [fd if fd >= 0 else number for number, fd in enumerate((read, write, write_errors))]
        self.pid = self._programs.start(
            *standard,
            words=[os.fspath(word) for word in words],
            session=session,
            cwd=os.fspath(cwd or os.getcwd()),
            env={**(os.environ if env is None else env)},
        )
        self._close_pipe_fds(*pipes)
        self._child_created = True

    def _internal_poll(self, **_):
        if self.returncode is None:
            self.returncode = self._programs.poll(self.pid)
        return self.returncode

    def _wait(self, timeout):
        self.returncode = self._programs.wait(self.pid, PATIENCE if timeout is None else timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or PATIENCE)
        return self.returncode


class FreshPrograms:
    """The same from scratch: interpreter, imports and all."""

    def __init__(self):
        self.processes: dict[int, subprocess.Popen] = {}

    def start(self, stdin: int, stdout: int, stderr: int) -> int:
        command = [*CHILDREN, "serve"]
        process = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr, env=environment())
        self.processes[process.pid] = process
        return process.pid

    def wait(self, pid: int) -> int:
        return self.processes[pid].wait(PATIENCE)


def place(function) -> tuple[str, str, str]:
    """Where another process finds a function of a module."""
    return function.__code__.co_filename, function.__module__, function.__name__


class Peer:
    """Another program that calls the functions it is given, one after the other.

    `run` and `begin` take a function of a module, a test's or a shared one (see support.peers), which is
    called with a name space, `here`, that lasts from one call to the next.
    """

    def __init__(self, programs: Programs | FreshPrograms):
        self.programs = programs
        self.errors = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115 - closed by clean_up
        (theirs_in, self.requests), (self.answers, theirs_out) = os.pipe(), os.pipe()
        self.pid = programs.start(theirs_in, theirs_out, self.errors.fileno())
        os.close(theirs_in)
        os.close(theirs_out)
        self.code: int | None = None
        self._received = b""

    def _send(self, *request, waits: bool = False) -> None:
        os.write(self.requests, json.dumps([waits, *request], default=str).encode() + b"\n")

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

    def begin(self, function, *arguments, **options) -> Peer:
        """Begin to call `function(here, ...)`; returns when the other process has begun with it."""
        self._send(place(function), arguments, options, waits=True)
        assert self._line(PATIENCE) == ["begun"]
        return self

    def answer(self, timeout: float = PATIENCE):
        """The value of the call that was begun, or PeerError."""
        kind, *rest = self._line(timeout)
        if kind == "error":
            raise PeerError(*rest)
        return rest[0]

    def run(self, function, *arguments, **options):
        """The value of `function(here, ...)`, or PeerError."""
        self._send(place(function), arguments, options)
        return self.answer()

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
