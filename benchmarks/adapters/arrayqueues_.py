"""arrayqueues: arrays through a shared block, their descriptions through a multiprocessing.Queue."""

from typing import Any

from benchmarks.adapters.multiprocessing_ import Bound
from benchmarks.harness.transport import Job, Receiver, Sender, Transport


class ArrayQueues(Transport):
    name = "arrayqueues"
    package = "arrayqueues"
    modules = ("arrayqueues",)
    settings = "ArrayQueue; overwrites what was not read: credit window"
    credit = True
    spins = False

    def setup(self, job: Job) -> Any:
        from arrayqueues.shared_arrays import ArrayQueue

        return ArrayQueue(max(1, -(-job.slots * job.nbytes // 1_000_000) + 1))

    def sender(self, job: Job, link: Any) -> Sender:
        return Bound(link.put)

    def receiver(self, job: Job, link: Any, index: int) -> Receiver:
        get = link.get
        return Bound(lambda: get(timeout=10.0))


TRANSPORTS = [ArrayQueues()]
