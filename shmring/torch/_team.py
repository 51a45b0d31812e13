"""The trainer's side: worker processes, the tasks that they have, and what they answer."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from shmring.errors import ProducerDied
from shmring.torch._batches import unpack
from shmring.torch._channel import EXHAUSTED, FAILED, Answer, Outbox, receive_answer
from shmring.torch._slots import Intake, lend
from shmring.torch._worker import RESTART, Job, label_of, open_death, work

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Arrival", "Team", "WorkerDied"]

log = logging.getLogger("shmring")

PATIENCE = 5.0  # seconds that a worker has to finish what it is loading when it is no longer needed
ATTEMPTS = 3  # at loading a batch: a sample that kills every worker must not be tried forever


class WorkerDied(ProducerDied, RuntimeError):
    """A worker process of a RingLoader ended before it had loaded its batches."""


class Arrival(NamedTuple):
    """What came back for a task."""

    answer: Answer
    intake: Intake | None  # of the ring that the batch is in

    @property
    def number(self) -> int:
        """Of the task."""
        return self.answer.number

    @property
    def is_end(self) -> bool:
        """Whether the worker has nothing more to give in this epoch."""
        return self.answer.begin == EXHAUSTED

    @property
    def failure(self) -> bytes:
        """The pickle of the error that the worker got instead."""
        return self.answer.failure

    def open(self, max_held: int) -> Any:
        """Return the batch, as views of its slot; as a copy if the trainer has that many already."""
        assert self.intake is not None
        begin, end = self.answer.begin, self.answer.end
        copies = self.intake.held >= max_held
        with self.intake.take() as frame:
            memory = frame.array[:end].copy() if copies else lend(frame)
        return unpack(memory, begin, end)

    def discard(self) -> None:
        """Give the slot back unseen."""
        if self.intake is not None:
            self.intake.take().release()


class Worker:
    """A worker process, and what it still has to answer."""

    def __init__(self, context: Any, job: Job, worker_id: int, intakes: list[Intake]) -> None:
        self.id = worker_id
        self._intakes = intakes  # of all workers, to be closed in the end
        self.tasks: dict[int, Any] = {}  # indices by number, in order
        self.intake: Intake | None = None
        self.channel, far_end = socket.socketpair()
        with far_end:
            self.process = context.Process(target=work, args=(job, worker_id, far_end), daemon=True)
            try:
                start(self.process)
            except BaseException:
                self.channel.close()
                raise
        self.pid = self.process.pid
        self.outbox = Outbox(self.channel)
        self.death = open_death(self.pid, self.process.sentinel)
        self.listens = True

    def give(self, number: int, index: Any) -> None:
        """Hand it a task."""
        self.tasks[number] = index
        self.outbox.put((number, index))

    def answer(self) -> Arrival | None:
        """Return what it has answered, None if there is nothing."""
        try:
            answer = receive_answer(self.channel)
        except EOFError:
            self.listens = False
            return None
        if answer is None:
            return None
        del self.tasks[answer.number]
        if answer.begin in (FAILED, EXHAUSTED):
            return Arrival(answer, None)
        if answer.fd >= 0:
            if self.intake is not None:
                self.intake.retire()
            self.intake = Intake(label_of(self.id), answer.fd)
            self._intakes[:] = [one for one in self._intakes if not one.closed] + [self.intake]
        assert self.intake is not None
        self.intake.arrive()
        return Arrival(answer, self.intake)

    def end(self) -> None:
        """Let it finish: it finds its channel closed, even if other processes have a copy of it."""
        with contextlib.suppress(OSError):
            self.channel.shutdown(socket.SHUT_RDWR)

    def bury(self, deadline: float) -> None:
        """Wait until the process has ended; end it if that takes too long."""
        for end in [lambda: None, self.process.terminate, self.process.kill]:
            end()
            self.process.join(max(0.1, deadline - time.monotonic()))
            if self.process.exitcode is not None:
                self.process.close()
                break
        self.channel.close()
        os.close(self.death)

    def cause_of_death(self) -> str:
        """Return how the process ended."""
        self.process.join()
        code = self.process.exitcode
        if code is None:  # somebody else in this process has waited for it
            return "ended"
        if code >= 0:
            return f"ended with exit code {code}"
        hint = ": perhaps by the kernel, for lack of memory (see dmesg)" if code == -signal.SIGKILL else ""
        return f"was killed by {signal_name(-code)}{hint}"

    def __str__(self) -> str:
        return f"worker {self.id} (pid {self.pid})"


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def start(process: Any) -> None:
    try:
        process.start()
    except Exception as error:
        error.add_note(
            "A RingLoader hands its dataset, collate_fn and worker_init_fn to worker processes: with the "
            "start methods spawn and forkserver they must be picklable, so no lambdas or local classes"
        )
        raise


class Team:
    """All workers of one iterator."""

    def __init__(self, context: Any, job: Job, *, replaces: bool) -> None:
        self._context, self._job, self._replaces = context, job, replaces
        self._process = os.getpid()
        self._poll = select.poll()
        self._listeners: dict[int, Worker] = {}  # by the descriptors that are polled
        self._intakes: list[Intake] = []
        self._deaths: dict[int | None, int] = {}  # of workers that had a task in work, by its number
        self._workers: list[Worker] = []
        self.ruin = ""  # why no more can come
        try:
            for worker_id in range(job.num_workers):
                self._workers.append(self._hire(worker_id))
        except BaseException:
            self.close()
            raise

    def _hire(self, worker_id: int) -> Worker:
        worker = Worker(self._context, self._job, worker_id, self._intakes)
        for fd in [worker.channel.fileno(), worker.death]:
            self._listeners[fd] = worker
            self._poll.register(fd, select.POLLIN)
        return worker

    def give(self, worker_id: int, number: int, index: Any) -> None:
        """Hand a task to a worker."""
        self._workers[worker_id].give(number, index)

    def restart(self) -> None:
        """Begin another epoch; every task of the one before is answered."""
        self._deaths.clear()  # tasks are counted from 0 again
        for worker in self._workers:
            worker.outbox.put(RESTART)

    @property
    def is_busy(self) -> bool:
        """Whether a worker still has a task."""
        return any(worker.tasks for worker in self._workers)

    def at_work_on(self, number: int) -> str:
        """Say who has a task, for a message."""
        worker = next(worker for worker in self._workers if number in worker.tasks)
        samples = "its next batch" if self._job.iterates else f"samples {shortened(worker.tasks[number])}"
        return f"{worker} is loading {samples}"

    def wait(self, deadline: float | None, note: Callable[[int, Arrival], None]) -> bool:
        """Sleep until something comes back, and call `note` with the worker's id; False at the deadline.

        Raises
        ------
        WorkerDied
            A worker is dead and not replaced.
        """
        if self.ruin:
            raise WorkerDied(self.ruin)
        full = [worker for worker in self._workers if worker.listens and worker.outbox.is_full]
        for worker in full:
            self._poll.modify(worker.channel, select.POLLIN | select.POLLOUT)
        left = None if deadline is None else max(0.0, 1000 * (deadline - time.monotonic()))
        events = self._poll.poll(left)
        for worker in full:
            worker.outbox.flush()
            self._poll.modify(worker.channel, select.POLLIN)
        try:
            for fd, _event in events:
                if fd in self._listeners:
                    self._attend(self._listeners[fd], fd, note)
        except BaseException as error:  # an answer may be lost, and nobody is to wait for it
            self.ruin = self.ruin or f"an error ended the iteration: {type(error).__name__}: {error}"
            self.close()
            raise
        return bool(events)

    def _attend(self, worker: Worker, fd: int, note: Callable[[int, Arrival], None]) -> None:
        """Take one answer, or, if the worker is dead, all that it has left."""
        is_dead = fd == worker.death
        while (arrival := worker.answer()) is not None:
            note(worker.id, arrival)
            if not is_dead:
                return
        if is_dead:
            self._lose(worker)
        elif not worker.listens:
            self._forget(fd)

    def _forget(self, fd: int) -> None:
        if self._listeners.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def _lose(self, worker: Worker) -> None:
        """Let another process take over what a dead worker has left, or raise."""
        self._forget(worker.channel.fileno())
        self._forget(worker.death)
        if worker.intake is not None:
            worker.intake.retire()
        cause = worker.cause_of_death()
        number, index = next(iter(worker.tasks.items()), (None, None))
        deaths = self._deaths[number] = 0 if number is None else self._deaths.get(number, 0) + 1
        if not self._replaces or deaths == ATTEMPTS:
            self.ruin = f"{worker} {cause}{self._advice(index, deaths)}"
            raise WorkerDied(self.ruin)
        self._workers[worker.id] = successor = self._hire(worker.id)
        log.warning("%s %s; %s loads its %d batches", str(worker), cause, str(successor), len(worker.tasks))
        for number, index in worker.tasks.items():
            successor.give(number, index)
        worker.bury(0)

    def _advice(self, index: Any, deaths: int) -> str:
        """Return what else to say of a worker whose work nobody takes over."""
        if self._job.iterates:
            return ""
        task = "" if index is None else f" while it had these samples to load: {shortened(index)}"
        if self._replaces:
            return f"{task}; so did its {deaths - 1} predecessors. Load them with num_workers=0 to see why"
        return f"{task}. With replace_workers=True another process would take over its work"

    def close(self) -> None:
        """End all workers; batches that the trainer has stay valid. A forked child has no part in it."""
        if os.getpid() != self._process:
            return
        for worker in self._workers:
            worker.end()
        for intake in self._intakes:
            intake.close()
        deadline = time.monotonic() + PATIENCE
        for worker in self._workers:
            worker.bury(deadline)
        self._workers.clear()


def shortened(index: Any) -> str:
    text = repr(index)
    return text if len(text) <= 100 else f"{text[:100]}..."
