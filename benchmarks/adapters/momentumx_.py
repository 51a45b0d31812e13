"""momentumx: streams of buffers; sync=True waits for every consumer."""

import time
from typing import Any

import numpy as np

from benchmarks.harness.transport import Job, Receiver, Sender, Transport, Words


class MomentumSender(Sender):
    def __init__(self, job: Job, in_place: bool):
        import momentumx as mx

        self._producer = mx.Producer(
            job.name, buffer_size=job.nbytes, buffer_count=job.slots, sync=True, polling_interval=0
        )
        self._wanted = job.consumers
        self._ready = False
        reserve, nbytes = self._producer.next_to_send, job.nbytes

        def send(payload: Any) -> None:
            buffer = reserve()
            np.frombuffer(buffer, np.uint64)[:] = payload
            buffer.send(nbytes)

        def place(number: int) -> None:
            buffer = reserve()
            np.frombuffer(buffer, np.uint64, 1)[0] = number
            buffer.send(nbytes)

        self._send = place if in_place else send
        self.send = self._first

    def _first(self, payload: Any) -> None:
        while self._producer.subscriber_count < self._wanted:
            time.sleep(0.001)
        self.send = self._send
        self._send(payload)

    def close(self) -> None:
        self._producer.end()


class MomentumReceiver(Receiver):
    def __init__(self, job: Job):
        import momentumx as mx

        self._consumer = mx.Consumer(job.name, polling_interval=0)
        self.recv = self._consumer.receive

    def view(self, message: Any) -> Words:
        return np.frombuffer(message, np.uint64, message.data_size // 8)


class MomentumX(Transport):
    package = "momentumx"
    modules = ("momentumx",)
    fan_out = True
    sleeps = False  # polls
    most_slots = 512  # more is refused

    def __init__(self, in_place: bool = False):
        self.in_place = in_place
        self.name = f"momentumx{', in place' if in_place else ''}"
        self.settings = "sync=True, polling_interval=0"
        self.payload = "number" if in_place else "array"

    def sender(self, job: Job, link: Any) -> Sender:
        return MomentumSender(job, self.in_place)

    def receiver(self, job: Job, link: Any, index: int) -> Receiver:
        return MomentumReceiver(job)


TRANSPORTS = [MomentumX(), MomentumX(in_place=True)]
