"""faster-fifo: a queue of bytes in shared memory behind a mutex."""

from typing import Any

from benchmarks.adapters.multiprocessing_ import Bound
from benchmarks.harness.transport import Job, Receiver, Sender, Transport

FOR_EVER = 1e6
EXTRA = 8


class FasterFifo(Transport):
    package = "faster-fifo"
    modules = ("faster_fifo",)
    payload = "bytes"
    spins = False

    name = "faster-fifo"
    settings = "put, get; bytes, no pickle (its own loads and dumps)"

    def setup(self, job: Job) -> Any:
        from faster_fifo import Queue

        return Queue(job.slots * (job.nbytes + EXTRA), loads=bytes, dumps=bytes)

    def sender(self, job: Job, link: Any) -> Sender:
        put = link.put
        return Bound(lambda payload: put(payload, True, FOR_EVER))

    def receiver(self, job: Job, link: Any, index: int) -> Receiver:
        get = link.get
        return Bound(lambda: get(True, FOR_EVER))


TRANSPORTS = [FasterFifo()]
