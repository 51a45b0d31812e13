"""The processes of a run, and what each of them does: produce, receive, play ping-pong."""

import os
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any

from benchmarks.harness.credit import Credit
from benchmarks.harness.frames import Frames, consume
from benchmarks.harness.transport import Job, Receiver, Sender, Transport

now = time.monotonic_ns


class RoleFailed(Exception):
    """A process of the run raised, or died."""


class Role:
    """A forked process that answers over a pipe."""

    def __init__(self, work: Callable[..., None], *arguments: Any, core: int | None):
        self.pipe, theirs = Pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self.pipe.close()
                if core is not None:
                    os.sched_setaffinity(0, {core})
                work(theirs, *arguments)
            except BaseException as error:
                traceback.print_exc()
                theirs.send(RoleFailed(f"{type(error).__name__}: {error}"))
            finally:
                os._exit(0)
        theirs.close()

    def ask(self, *message: Any) -> None:
        self.pipe.send(message)

    def answer(self) -> Any:
        try:
            answer = self.pipe.recv()
        except EOFError:
            raise RoleFailed(f"a process died: {os.waitpid(self.pid, 0)[1]:#x}") from None
        if isinstance(answer, RoleFailed):
            raise answer
        return answer

    @staticmethod
    def answers(roles: "list[Role]") -> list[Any]:
        """One answer of each. Raises the first failure, even if the others would wait for that process."""
        by_pipe = {role.pipe: role for role in roles}
        found: dict[Role, Any] = {}
        while len(found) < len(roles):
            for pipe in wait([pipe for pipe, role in by_pipe.items() if role not in found]):
                role = by_pipe[pipe]
                found[role] = role.answer()
        return [found[role] for role in roles]

    def end(self) -> None:
        """Ask it to end. Closing the pipe is not enough: processes forked later hold copies of it."""
        self.pipe.send(None)
        os.waitpid(self.pid, 0)


def open_sender(transport: Transport, job: Job, link: Any, credit: Credit | None) -> Sender:
    sender = transport.sender(job, link)
    if credit is not None:
        sender.send = credit.sending(sender.send)
    return sender


def produce(pipe: Connection, transport: Transport, job: Job, link: Any, credit: Credit | None) -> None:
    """Send as many messages as each request asks for; answer when it began."""
    sender = open_sender(transport, job, link, credit)
    frames = Frames(transport, job.nbytes)
    pipe.send("ready")
    while (request := pipe.recv()) is not None:
        first, count = request
        payloads = frames.stream(first, count)
        send = sender.send
        began, used = now(), time.process_time_ns()
        for payload in payloads:
            send(payload)
        pipe.send((began, now(), time.process_time_ns() - used))
        del payloads
    sender.close()


def receive(
    pipe: Connection, transport: Transport, job: Job, link: Any, credit: Credit | None, index: int
) -> None:
    """Receive as many messages as each request asks for; answer when it ended, and how many came."""
    receiver = transport.receiver(job, link, index)
    if credit is not None:
        receiver.recv = credit.receiving(receiver.recv, index)
    frames = Frames(transport, job.nbytes)
    pipe.send("ready")
    while (request := pipe.recv()) is not None:
        first, count, reads = request
        came = consume(receiver, frames, first, count, reads)
        pipe.send((now(), came))
    receiver.close()


def play(
    pipe: Connection, transport: Transport, jobs: tuple[Job, Job], links: tuple[Any, Any], serves: bool
) -> None:
    """Ping-pong: send on one channel, receive on the other. The server answers with its round trips."""
    sender = transport.sender(jobs[0], links[0])
    pipe.send("sending")
    pipe.recv()
    receiver = transport.receiver(jobs[1], links[1], 0)
    pipe.send("ready")
    frames = Frames(transport, jobs[0].nbytes)
    while (request := pipe.recv()) is not None:
        first, count = request
        volley = serve if serves else return_
        pipe.send(volley(sender, receiver, frames, first, count))
    receiver.close()
    pipe.close()
    sender.close()


def serve(sender: Sender, receiver: Receiver, frames: Frames, first: int, count: int) -> list[int]:
    send, recv = sender.send, receiver.recv
    times: list[int] = []
    note = times.append
    check_at = first + count - 1
    number = first
    message = None
    for payload in frames.stream(first, count):
        before = now()
        send(payload)
        message = recv()
        note(now() - before)
        if number % 64 == 0 or number == check_at:
            frames.check(receiver.view(message), number, frames.words < 64)
        number += 1
    return times


def return_(sender: Sender, receiver: Receiver, frames: Frames, first: int, count: int) -> None:
    send, recv = sender.send, receiver.recv
    message = None
    number = first
    for payload in frames.stream(first, count):
        message = recv()
        send(payload)
        number += 1
    frames.check(receiver.view(message), number - 1, True)
