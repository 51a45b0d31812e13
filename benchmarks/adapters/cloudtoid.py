"""cloudtoid-interprocess: a queue of bytes in a memory-mapped file (Rust)."""

import os
from typing import Any

from benchmarks.adapters.multiprocessing_ import Bound
from benchmarks.harness.transport import Job, Receiver, Sender, Transport, giving_way

EXTRA = 16  # header and padding of a message


class Cloudtoid(Transport):
    name = "cloudtoid-interprocess"
    package = "cloudtoid-interprocess"
    modules = ("cloudtoid_interprocess",)
    settings = "queue file on /dev/shm; try_send, try_receive polled; asleep: receive()"
    payload = "bytearray"
    contender = True

    def setup(self, job: Job) -> Any:
        folder = f"/dev/shm/{job.name}"
        os.mkdir(folder)
        capacity = job.slots * (job.nbytes + EXTRA)
        return folder, (capacity + 4095) // 4096 * 4096

    def sender(self, job: Job, link: Any) -> Sender:
        from cloudtoid_interprocess import Publisher

        publisher = Publisher("q", link[1], link[0])
        try_send, give_way = publisher.try_send, giving_way(job)

        def send(payload: Any) -> None:
            while not try_send(payload):
                give_way()

        return Bound(send, publisher.close)

    def receiver(self, job: Job, link: Any, index: int) -> Receiver:
        from cloudtoid_interprocess import Subscriber

        subscriber = Subscriber("q", link[1], link[0])
        if job.sleeping:
            return Bound(subscriber.receive, subscriber.close)
        attempt, give_way = subscriber.try_receive, giving_way(job)

        def recv() -> bytes:
            while (message := attempt()) is None:
                give_way()
            return message

        return Bound(recv, subscriber.close)

    def cleanup(self, job: Job, link: Any) -> None:
        import shutil

        shutil.rmtree(link[0], ignore_errors=True)


TRANSPORTS = [Cloudtoid()]
