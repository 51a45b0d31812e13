"""membridge: a single-producer, single-consumer ring of bytes in shared memory (Rust)."""

from typing import Any

from benchmarks.adapters.multiprocessing_ import Bound
from benchmarks.harness.transport import Job, Receiver, Sender, Transport, giving_way

HEADER = 24
EXTRA = 4  # the length in front of each message


class Membridge(Transport):
    name = "membridge"
    package = "membridge"
    modules = ("membridge",)
    settings = "SpscRingBuffer, polled"
    payload = "bytearray"
    sleeps = False
    contender = True

    def setup(self, job: Job) -> Any:
        import membridge

        wanted = job.slots * (job.nbytes + EXTRA)
        size = (1 << (wanted - 1).bit_length()) + HEADER
        return membridge.SharedMemory.create(f"/{job.name}", size), size

    def sender(self, job: Job, link: Any) -> Sender:
        push = link[0].spsc().push
        give_way = giving_way(job)

        def send(payload: Any) -> None:
            while not push(payload):
                give_way()

        return Bound(send)

    def receiver(self, job: Job, link: Any, index: int) -> Receiver:
        pop = link[0].spsc().pop
        give_way = giving_way(job)

        def recv() -> bytes:
            while (message := pop()) is None:
                give_way()
            return message

        return Bound(recv)

    def cleanup(self, job: Job, link: Any) -> None:
        import membridge

        membridge.SharedMemory.remove(f"/{job.name}")


TRANSPORTS = [Membridge()]
