"""What the tests' other processes run: a program that obeys a test, and functions for multiprocessing.

python -m support.children serve     one JSON request per line on stdin, one JSON answer per line on stdout
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import json
import os
import select
import signal
import socket
import sys
import types
from collections.abc import Iterable

import numpy as np

import shmring
from shmring._cli import COMMANDS
from shmring.queue import RingQueue
from support.frames import check, feed
from support.waiting import PATIENCE

# What programs need and only forks of this one have already.
IMPORTED = (
    "support.peers",
    "support.processes",
    "support.recordings",
    "support.threads",
    "shmring.recording",
    "shmring.__main__",
    "shmring._cli.app",
    *(f"shmring._cli.commands.{name}" for name in COMMANDS),
)


def plain(value):
    """What JSON does not know."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return list(value) if isinstance(value, tuple | set) else repr(value)


def find(path: str, module: str, name: str):
    """The function of a test's module, which is imported by its file as pytest does."""
    if module not in sys.modules:
        spec = importlib.util.spec_from_file_location(module, path)
        sys.modules[module] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[module])
    return getattr(sys.modules[module], name)


def serve() -> None:
    """Call the functions that a test asks for (see Peer), until stdin ends."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever prints must not spoil the answers
    here = types.SimpleNamespace()
    for line in sys.stdin:
        waits, function, arguments, options = json.loads(line)
        try:
            if waits:
                print(json.dumps(["begun"]), file=answers, flush=True)
            answer = ["value", find(*function)(here, *arguments, **options)]
        except BaseException as error:
            answer = ["error", [kind.__name__ for kind in type(error).__mro__], str(error)]
        print(json.dumps(answer, default=plain), file=answers, flush=True)
        del answer


def load(modules: Iterable[str]) -> None:
    for module in modules:
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(module)
    gc.collect()
    gc.freeze()  # or each fork would look through, and so copy, what was imported


def programs(fd: str) -> None:
    """Start programs for Programs and say how they end, until the other side closes."""
    load(IMPORTED)
    channel = socket.socket(fileno=int(fd))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the test run
    awake, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wake)
    running = set()
    while True:
        ready, _, _ = select.select([channel, awake], [], [])
        if awake in ready:
            os.read(awake, 1000)
            for pid in list(running):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    running.remove(pid)
                    channel.send(json.dumps(["ended", pid, os.waitstatus_to_exitcode(status)]).encode())
        if channel in ready:
            message, descriptors, _, _ = socket.recv_fds(channel, 1 << 17, 3)
            if not message:
                return
            request = json.loads(message)
            if "imports" in request:
                load(request["imports"])
                continue
            pid = os.fork()
            if pid == 0:
                break
            for descriptor in descriptors:
                os.close(descriptor)
            running.add(pid)
            channel.send(json.dumps(["started", pid, 0]).encode())
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    channel.close()
    for target, descriptor in enumerate(descriptors):
        os.dup2(descriptor, target)
    for descriptor in (awake, wake, *descriptors):
        os.close(descriptor)
    if request:
        run_command(**request)
    serve()


def run_command(words: list[str], session: bool, cwd: str, env: dict[str, str]) -> None:
    """`python -m shmring WORDS...`, as far as that can be seen from outside; does not return."""
    if session:
        os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdin = sys.__stdin__ = os.fdopen(0, closefd=False)
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", 1, errors="backslashreplace", closefd=False)
    program = importlib.import_module("shmring.__main__")
    sys.modules["__main__"] = program  # from which spawned processes start
    sys.argv = [program.__file__, *words]
    program.main()


# ---- for multiprocessing and concurrent.futures


def consume(ring: shmring.Ring, count: int, connection) -> None:
    """Join, say so, take `count` frames, send their seqs."""
    with ring, ring.consumer() as consumer:
        connection.send("joined")
        connection.send([check(consumer.get(PATIENCE)) for _ in range(count)])
        connection.close()


def produce(ring: shmring.Ring, count: int) -> int:
    """Publish `count` frames and end the stream."""
    with ring, ring.producer() as producer:
        return feed(producer, count)


def seqs_of(ring: shmring.Ring) -> list[int]:
    """Every frame of a stream, to its end."""
    with ring, ring.consumer() as consumer:
        return [check(frame) for frame in consumer]


def geometry(ring: shmring.Ring) -> tuple:
    with ring:
        return ring.name, ring.shape, str(ring.dtype), ring.slots, dict(ring.attrs)


def put_numbers(items: RingQueue, count: int) -> None:
    """Put the numbers up to `count`, and end the stream."""
    with items:
        for number in range(count):
            items.put(np.array([number]))


def put_number(items: RingQueue) -> None:
    """Put one, and close nothing."""
    items.put(np.array([1]))


def put_number_and_fail(items: RingQueue) -> None:
    put_number(items)
    raise OSError("no more")


def put_number_in_a_block_and_fail(items: RingQueue) -> None:
    with items:
        put_number_and_fail(items)


def send_numbers(items: RingQueue, connection) -> None:
    """Get items until the stream ends, and send what they held."""
    connection.send([int(item[0]) for item in items])


def main() -> None:
    globals()[sys.argv[1]](*sys.argv[2:])


if __name__ == "__main__":
    main()
