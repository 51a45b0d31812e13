"""mmbus: publish and subscribe over memory-mapped files, wakes over sockets (Rust)."""

import os
import shutil
from typing import Any

from benchmarks.adapters.multiprocessing_ import Bound
from benchmarks.harness.transport import Job, Receiver, Sender, Transport, giving_way


class Mmbus(Transport):
    name = "mmbus"
    package = "mmbus"
    modules = ("mmbus",)
    settings = "files on /dev/shm, no log (wal_enabled=False), retries when full; spinning: try_recv"
    payload = "bytes"
    fan_out = True

    def setup(self, job: Job) -> Any:
        folder = f"/dev/shm/{job.name}"
        os.mkdir(folder)
        return folder

    def _bus(self, job: Job, link: Any) -> Any:
        import mmbus

        return mmbus.Bus(
            "b", base_dir=link, capacity=job.slots, slot_size=job.nbytes,
            max_subscribers=max(2, job.consumers), wal_enabled=False,
        )  # fmt: skip

    def sender(self, job: Job, link: Any) -> Sender:
        import mmbus

        bus = self._bus(job, link)
        topic = bus.topic("t")
        publish, full, give_way = topic.publish, mmbus.BusFullError, giving_way(job)

        def send(payload: Any) -> None:
            while True:
                try:
                    return publish(payload)
                except full:
                    give_way()

        return Bound(send)

    def receiver(self, job: Job, link: Any, index: int) -> Receiver:
        bus = self._bus(job, link)
        subscription = bus.subscribe("t")
        if job.sleeping:
            return Bound(subscription.recv)
        attempt, give_way = subscription.try_recv, giving_way(job)

        def recv() -> bytes:
            while (message := attempt()) is None:
                give_way()
            return message

        return Bound(recv)

    def cleanup(self, job: Job, link: Any) -> None:
        shutil.rmtree(link, ignore_errors=True)


TRANSPORTS = [Mmbus()]
