"""A worker process of a RingLoader: loads batches, and puts them into its ring."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import select
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import default_collate

from shmring.torch import _internals
from shmring.torch._batches import Assembly, NoRoom, pack, size_of
from shmring.torch._channel import EXHAUSTED, FAILED, Answer, Inbox, send_answer
from shmring.torch._slots import make_ring

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from shmring._core import Producer, Slot
    from shmring._ring import Ring

__all__ = ["RESTART", "Job", "open_death", "work"]

RESTART = "restart"  # in place of a task: begin with the dataset again


@dataclass
class Job:
    """What is the same for all tasks of the workers."""

    kind: int
    dataset: Any
    auto_collation: bool
    collate_fn: Callable[[Any], Any]
    drop_last: bool
    base_seed: int
    worker_init_fn: Callable[[int], None] | None
    num_workers: int
    slots: int
    spares: int

    @property
    def iterates(self) -> bool:
        """Whether the dataset has no indices."""
        return bool(self.kind != _internals.MAP)


def work(job: Job, worker_id: int, channel: socket.socket) -> None:
    """Answer tasks until the trainer closes the channel or dies: the main function of the process."""
    with contextlib.suppress(KeyboardInterrupt, EOFError, BrokenPipeError, ConnectionResetError):
        end_with_trainer()
        _internals.become_worker(worker_id, job.num_workers, job.base_seed, job.dataset)
        with contextlib.closing(Output(label_of(worker_id), job)) as output:
            answer_tasks(job, worker_id, channel, output)


def label_of(worker_id: int) -> str:
    """Return what messages call the ring of a worker."""
    return f"worker {worker_id} of a RingLoader"


def end_with_trainer() -> None:
    """End this process with the trainer, even in the middle of loading."""
    trainer = multiprocessing.parent_process()
    assert trainer is not None
    assert trainer.pid is not None
    death = open_death(trainer.pid, trainer.sentinel)

    def watch() -> None:
        poll = select.poll()
        poll.register(death, select.POLLIN)
        poll.poll()
        os._exit(1)

    threading.Thread(target=watch, name="shmring-trainer", daemon=True).start()


def open_death(pid: int, sentinel: int) -> int:
    """Return a descriptor that is readable once the process is dead.

    multiprocessing's sentinel is the end of a pipe, which children of that process may keep open.
    """
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # before Linux 5.3, or it is dead
        return os.dup(sentinel)


def answer_tasks(job: Job, worker_id: int, channel: socket.socket, output: Output) -> None:
    inbox = Inbox(channel)
    fetch = Fetch(job, worker_id, output)
    while True:
        task = inbox.get()
        if task == RESTART:
            fetch = Fetch(job, worker_id, output, first=False)
            continue
        number, index = task
        send_answer(channel, fetch.answer(number, index))


class Fetch:
    """Loads batches of one epoch."""

    def __init__(self, job: Job, worker_id: int, output: Output, *, first: bool = True) -> None:
        self._output = output
        self._where = f"in RingLoader worker process {worker_id}"
        self._failure = b""
        self._iterates = job.iterates
        self._ended = False
        try:
            if first and job.worker_init_fn is not None:
                job.worker_init_fn(worker_id)
            self._fetcher = _internals.make_fetcher(
                job.kind, job.dataset, job.auto_collation, output.collating(job.collate_fn), job.drop_last
            )
        except Exception:
            self._failure = pickled_failure(self._where)

    def answer(self, number: int, index: Any) -> Answer:
        """Load one batch into the ring, or say why there is none."""
        if self._failure:
            return Answer(number, FAILED, failure=self._failure)
        if self._ended:
            return Answer(number, EXHAUSTED)
        try:
            return Answer(number, *self._output.put(self._fetcher.fetch(index)))
        except Exception as error:
            self._output.cancel()
            self._ended = self._iterates and isinstance(error, StopIteration)
            if self._ended:
                return Answer(number, EXHAUSTED)
            return Answer(number, FAILED, failure=pickled_failure(self._where))


def pickled_failure(where: str) -> bytes:
    """Return the exception that is being handled, with its traceback, for the trainer."""
    failure = _internals.ExceptionWrapper(where=where)
    try:
        return pickle.dumps(failure, 5)
    except Exception:  # a class that cannot be imported; the text has it all
        failure.exc_type = RuntimeError
        return pickle.dumps(failure, 5)


class Output:
    """The ring of this process, made to measure for its batches."""

    def __init__(self, label: str, job: Job) -> None:
        self._label = label
        self._slots, self._spares = job.slots, job.spares
        self._ring: Ring | None = None
        self._producer: Producer | None = None
        self._slot: Slot | None = None
        self._assembly: Assembly | None = None  # of the claimed slot
        self._collates = False
        self._fd = -1  # of a ring that the trainer does not know yet
        _internals.replace_stack(self.stack)

    def collating(self, collate_fn: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Return the function that makes a batch: `default_collate` makes it in the slot.

        Another one may keep what it returns, so its tensors are copied.
        """
        return self._collate_in_place if collate_fn is default_collate else collate_fn

    def _collate_in_place(self, samples: list[Any]) -> Any:
        if self._producer is not None:
            self._claim(self._producer)
        self._collates = True
        try:
            return default_collate(samples)
        finally:
            self._collates = False

    def stack(self, tensors: Any, *, collate_fn_map: Any = None) -> torch.Tensor:
        """Stack tensors as `default_collate` does, in the slot if there is one."""
        first = tensors[0]
        if (
            type(first) is not torch.Tensor
            or first.is_nested
            or not (first.is_cpu and first.layout is torch.strided)
        ):
            return _internals.collate_tensors(tensors, collate_fn_map=collate_fn_map)
        shape = (len(tensors), *first.shape)
        out = None
        if self._collates and self._assembly is not None:
            out = self._assembly.tensor(shape, first.dtype)
        return torch.stack(tensors, 0, out=first.new_empty(shape) if out is None else out)

    def put(self, batch: Any) -> tuple[int, int, int]:
        """Publish a batch; return where it begins and ends, and the ring's descriptor if it is new."""
        if self._assembly is None and self._producer is not None:
            self._claim(self._producer)
        try:
            if self._assembly is None:
                raise NoRoom
            place = pack(batch, self._assembly)
        except NoRoom:
            place = pack(batch, self._replace(size_of(batch)))
        assert self._slot is not None
        self._slot.publish()
        self._slot = self._assembly = None
        fd, self._fd = self._fd, -1
        return *place, fd

    def cancel(self) -> None:
        """Give back the slot of a batch that failed."""
        if self._slot is not None:
            self._slot.abort()
        self._slot = self._assembly = None

    def _claim(self, producer: Producer) -> None:
        self._slot = producer.claim()
        self._assembly = Assembly(self._slot.array)

    def _replace(self, nbytes: int) -> Assembly:
        """Get a ring with slots of that many bytes, and some more: batches differ a little.

        Where they differ much, each new ring is larger by a quarter at least.
        """
        more = nbytes // 64 if self._ring is None else nbytes // 4
        ring, fd = make_ring(self._label, nbytes + more + 1024, self._slots, self._spares)
        producer = ring.producer()
        slot = producer.claim()
        self.close()  # the batch may be in the slot of the old ring, whose memory stays as long as needed
        self._ring, self._producer, self._fd = ring, producer, fd
        self._slot, self._assembly = slot, Assembly(slot.array)
        return self._assembly

    def close(self) -> None:
        """Leave the ring."""
        self.cancel()
        if self._producer is not None:
            self._producer.close()
        if self._ring is not None:
            self._ring.close()
