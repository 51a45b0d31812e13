"""The standard library: Queue, SimpleQueue, Pipe; rings on SharedMemory and on np.memmap."""

import contextlib
import itertools
import multiprocessing
import os
from multiprocessing import shared_memory
from typing import Any

import numpy as np

from benchmarks.harness.transport import Job, Receiver, Sender, Transport, Words, giving_way

context = multiprocessing.get_context("fork")


class Bound(Sender, Receiver):
    """Two bound methods are all it takes."""

    def __init__(self, call: Any, close: Any = None):
        self.send = self.recv = call
        self.close = close or (lambda: None)  # type: ignore[method-assign]

    def view(self, message: Any) -> Words:
        return message if isinstance(message, np.ndarray) else np.frombuffer(message, np.uint64)


class Queue(Transport):
    name = "multiprocessing.Queue"
    settings = "ndarray, pickled by protocol 5"
    deferred = True
    spins = False

    def setup(self, job: Job) -> Any:
        return context.Queue(job.slots)

    def sender(self, job: Job, link: Any) -> Sender:
        def close() -> None:
            link.close()
            link.join_thread()

        return Bound(link.put, close)

    def receiver(self, job: Job, link: Any, index: int) -> Receiver:
        return Bound(link.get)


class SimpleQueue(Transport):
    name = "multiprocessing.SimpleQueue"
    settings = "ndarray, pickled by protocol 5"
    spins = False

    def setup(self, job: Job) -> Any:
        return context.SimpleQueue()

    def sender(self, job: Job, link: Any) -> Sender:
        return Bound(link.put)

    def receiver(self, job: Job, link: Any, index: int) -> Receiver:
        return Bound(link.get)


class Pipe(Transport):
    name = "multiprocessing.Pipe"
    settings = "send_bytes, recv_bytes: no pickle"
    payload = "bytearray"
    spins = False

    def setup(self, job: Job) -> Any:
        return context.Pipe(duplex=False)

    def sender(self, job: Job, link: Any) -> Sender:
        return Bound(link[1].send_bytes)

    def receiver(self, job: Job, link: Any, index: int) -> Receiver:
        return Bound(link[0].recv_bytes)


class Slots:
    """A ring of ready-made arrays on a SharedMemory block."""

    def __init__(self, job: Job):
        self.block = shared_memory.SharedMemory(job.name, create=True, size=job.slots * job.nbytes)
        data = np.frombuffer(self.block.buf, np.uint64)
        data[:] = 1
        self.slots = list(data.reshape(job.slots, -1))
        del data

    def remove(self) -> None:
        self.slots.clear()
        with contextlib.suppress(BufferError):  # views in the frames that failed
            self.block.close()
        self.block.unlink()


class Semaphores(Transport):
    """The textbook bounded buffer: one semaphore counts frames, the other one space."""

    contender = True
    spins = True

    def __init__(self, in_place: bool = False):
        self.in_place = in_place
        self.name = f"SharedMemory ring, semaphores{', in place' if in_place else ''}"
        self.settings = "two semaphores, ready-made slot views; spinning: acquire(False) in a loop first"
        self.payload = "number" if in_place else "array"

    def setup(self, job: Job) -> Any:
        return Slots(job), context.Semaphore(0), context.Semaphore(job.slots)

    def sender(self, job: Job, link: Any) -> Sender:
        ring, full, free = link
        turns = endless(ring.slots)
        acquire, release = acquirer(free, job), full.release
        in_place = self.in_place

        def send(payload: Any) -> None:
            acquire()
            if in_place:
                next(turns)[0] = payload
            else:
                next(turns)[:] = payload
            release()

        return Bound(send)

    def receiver(self, job: Job, link: Any, index: int) -> Receiver:
        ring, full, free = link
        turns = endless(ring.slots)
        acquire, release = acquirer(full, job), free.release
        holding = False

        def recv() -> Words:
            nonlocal holding
            if holding:
                release()
            acquire()
            holding = True
            return next(turns)

        return Bound(recv)

    def cleanup(self, job: Job, link: Any) -> None:
        link[0].remove()


def endless(slots: list[Any]) -> Any:
    return itertools.cycle(slots)


def acquirer(semaphore: Any, job: Job) -> Any:
    """Blocking, or trying again and again."""
    if job.sleeping:
        return semaphore.acquire
    attempt = semaphore._semlock.acquire  # what the wrapper calls

    def acquire() -> None:
        while not attempt(False):
            pass

    return acquire


class WithCondition(Transport):
    name = "SharedMemory ring, Condition"
    settings = "one lock and condition, counts in shared memory; always sleeps"
    spins = False

    def setup(self, job: Job) -> Any:
        return Slots(job), context.Condition(), context.RawArray("Q", 2)

    def sender(self, job: Job, link: Any) -> Sender:
        ring, condition, counts = link
        turns = endless(ring.slots)
        slots = job.slots

        def send(payload: Any) -> None:
            with condition:
                while counts[0] - counts[1] >= slots:
                    condition.wait()
            next(turns)[:] = payload
            with condition:
                counts[0] += 1
                condition.notify()

        return Bound(send)

    def receiver(self, job: Job, link: Any, index: int) -> Receiver:
        ring, condition, counts = link
        turns = endless(ring.slots)
        got = 0

        def recv() -> Words:
            nonlocal got
            with condition:
                if counts[1] < got:
                    counts[1] = got  # the frame before this one is done with
                    condition.notify()
                while counts[0] <= got:
                    condition.wait()
            got += 1
            return next(turns)

        return Bound(recv)

    def cleanup(self, job: Job, link: Any) -> None:
        link[0].remove()


class Memmap(Transport):
    """Frames and counters in one file on tmpfs; nothing but the processor keeps the order of the stores."""

    name = "np.memmap ring"
    settings = "on /dev/shm, polled counters, polled"
    sleeps = False

    def setup(self, job: Job) -> Any:
        path = f"/dev/shm/{job.name}"
        words = job.nbytes // 8
        memory = np.memmap(path, np.uint64, "w+", shape=(32 + job.slots * words,))
        memory[:] = 0
        return (
            path,
            memory[:32].view(np.ndarray),
            list(memory[32:].view(np.ndarray).reshape(job.slots, words)),
        )

    def sender(self, job: Job, link: Any) -> Sender:
        _, counters, slots = link
        turns = endless(slots)
        item, depth = memoryview(counters), job.slots
        sent = gate = 0
        give_way = giving_way(job)

        def send(payload: Any) -> None:
            nonlocal sent, gate
            while sent - gate >= depth:
                gate = item[16]
                if sent - gate >= depth:
                    give_way()
            next(turns)[:] = payload
            sent += 1
            item[0] = sent

        return Bound(send)

    def receiver(self, job: Job, link: Any, index: int) -> Receiver:
        _, counters, slots = link
        turns = endless(slots)
        item = memoryview(counters)
        got = head = 0
        give_way = giving_way(job)

        def recv() -> Words:
            nonlocal got, head
            item[16] = got
            while head <= got:
                head = item[0]
                if head <= got:
                    give_way()
            got += 1
            return next(turns)

        return Bound(recv)

    def cleanup(self, job: Job, link: Any) -> None:
        os.unlink(link[0])


TRANSPORTS = [
    Queue(), SimpleQueue(), Pipe(), Semaphores(), Semaphores(in_place=True), WithCondition(), Memmap(),
]  # fmt: skip
