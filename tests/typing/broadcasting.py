"""Message queues, as mypy and pyright see them; never run."""

import pickle
import threading
from typing import Any, assert_type

from shmring.broadcast import Handle, MessageQueue


class Own(pickle.Pickler):
    """A pickler."""


def write() -> Handle:
    with MessageQueue(4, 4, [1, 2, 3, 5], 1 << 20, 16, name="queue", mode=0o660, pickler=Own) as queue:
        assert_type(queue, MessageQueue)
        queue.wait_until_ready(timeout=5)
        queue.enqueue({"any": "object"}, timeout=None)
        assert_type(queue.readers, list[int])
        assert_type(queue.broadcast_object(1), Any)
        assert_type(queue.export_handle(), Handle)
        return queue.export_handle()


def read(handle: Handle) -> None:
    queue = MessageQueue.create_from_handle(handle, rank=3)
    assert_type(queue.dequeue(1.5, threading.Event(), indefinite=True, copy=False), Any)
    assert_type(queue.name, str)
    assert_type(handle.local_reader_ranks, tuple[int, ...])
    queue.shutdown()
