"""Ctrl-C at any moment of a call: what it interrupts can be used again, and loses at most its own frame."""

from __future__ import annotations

import asyncio
import queue
import threading

import numpy as np
import pytest

import shmring
from shmring import _aio
from shmring._alone import alone
from shmring.broadcast import MessageQueue
from shmring.queue import RingQueue
from support.blocks import block_file
from support.interrupts import interrupted
from support.threads import Running


def test_create_leaves_no_name_behind(fork, name):
    """Unless it has made the ring. In a child: a descriptor is lost if Ctrl-C comes before it is known."""

    def work(send):
        made = []
        for _ in interrupted(lambda: made.append(shmring.Ring.create(name, shape=(2,), dtype="u1", slots=2))):
            unlink_and_close(made)
            assert not block_file(name).exists()
        send(len(made))
        unlink_and_close(made)

    child = fork(work)
    assert child.receive() == 1
    assert child.wait() == 0


def unlink_and_close(made):
    while made:
        with made.pop() as ring:
            ring.unlink()


@pytest.mark.parametrize("kind", [threading.RLock, threading.Condition])
def test_a_lock_is_free_again(kind):
    lock = kind()

    def take_and_release():
        taken = lock.acquire(timeout=20)
        lock.release()
        return taken

    for _ in interrupted(lambda: alone(lock, lambda: None)):
        assert Running(take_and_release).end().value


def test_asyncio_can_wait_again(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        producer.put(np.zeros(ring.shape, ring.dtype))  # so that no wait takes long
        loop = asyncio.new_event_loop()
        helper = _aio.Helper(loop)
        waiters = []

        def enter():
            waiters.append(loop.create_future())
            helper.add(waiters[-1], consumer._awaited())

        for call in (enter, lambda: helper.remove(waiters[-1])):
            for _ in interrupted(call):
                enter()
                loop.run_until_complete(asyncio.wait_for(waiters[-1], 20))
        loop.close()


def test_an_observer_is_not_busy_for_ever(ring):
    with ring.producer() as producer, ring.observer() as observer:
        for _ in interrupted(lambda: observer.latest(0)):
            producer.put(np.zeros(ring.shape, ring.dtype))
        producer.put(np.ones(ring.shape, ring.dtype))
        assert observer.latest(0).array.all()


def test_a_message_queue_is_not_busy_for_ever(name):
    writer = MessageQueue(1, name=name)
    reader = MessageQueue.create_from_handle(writer.export_handle(), 0)
    with writer, reader:
        for call in (
            lambda: writer.wait_until_ready(0),
            lambda: writer.enqueue(1, 0),
            lambda: reader.dequeue(0),
        ):
            writer.enqueue(1, 0)
            for _ in interrupted(call):
                writer.wait_until_ready(0)
                writer.enqueue(2, 0)
                while reader.dequeue(0) != 2:
                    pass
                writer.enqueue(1, 0)
            while reader._consumer.lag:
                assert reader.dequeue(0) == 1


def drained(items):
    """Return what waits in a queue."""
    found = []
    while not items.empty():
        found.append(int(items.get(timeout=0)))
    return found


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of lost getters
def test_a_ring_queue_loses_at_most_the_item_of_the_call():
    with RingQueue(4, (), "i8") as items:
        for call, costs in ((lambda: items.get(timeout=0), 1), (items.qsize, 0)):
            items.put(np.int64(1))
            items.put(np.int64(2))
            for _ in interrupted(call):
                left = drained(items)
                assert left in ([1, 2], [2])[: 1 + costs]
                items.put(np.int64(1))
                items.put(np.int64(2))
            drained(items)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_ring_queue_can_be_put_into_again():
    with RingQueue(4, (), "i8") as items:
        for _ in interrupted(lambda: items.put(np.int64(1), timeout=0)):
            items.put(np.int64(2), timeout=0)
            assert drained(items) in ([2], [1, 2])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_ring_queue_can_be_put_into_again():
    with RingQueue(2, (), "i8") as items:
        items.put(np.int64(1))
        items.put(np.int64(2))

        def put_in_vain():
            with pytest.raises(queue.Full):
                items.put(np.int64(3), timeout=0.001)

        for _ in interrupted(put_in_vain):
            assert drained(items)[:2] == [1, 2]
            items.put(np.int64(1), timeout=0)
            items.put(np.int64(2), timeout=0)
