"""global-buffer: a seqlock ring of arrays; reads copy, a slow reader loses frames."""

from typing import Any

import numpy as np

from benchmarks.adapters.multiprocessing_ import Bound
from benchmarks.harness.transport import Job, Receiver, Sender, Transport, giving_way


class GlobalBuffer(Transport):
    name = "global-buffer"
    package = "global-buffer"
    modules = ("global_buffer",)
    settings = "write(), next_into() one ready-made array; credit window; poll_min 0, asleep: its own polling"
    credit = True
    fan_out = True

    def setup(self, job: Job) -> Any:
        import global_buffer as gb

        return gb.create(job.name, gb.ArraySpec(dtype="uint64", shape=(job.nbytes // 8,)), capacity=job.slots)

    def sender(self, job: Job, link: Any) -> Sender:
        return Bound(link.write)

    def receiver(self, job: Job, link: Any, index: int) -> Receiver:
        import global_buffer as gb

        reader = gb.attach(
            job.name, poll_min=None if job.sleeping else 0.0, poll_max=None if job.sleeping else 0.0
        )
        target = np.zeros(job.nbytes // 8, np.uint64)
        next_into, empty, give_way = reader.next_into, gb.Empty, giving_way(job)

        def sleep() -> Any:
            next_into(target)
            return target

        def recv() -> Any:
            while True:
                try:
                    next_into(target, 0)
                    return target
                except empty:
                    give_way()

        def close() -> None:
            if reader.overruns:
                raise RuntimeError(f"{reader.overruns} frames lost")

        return Bound(sleep if job.sleeping else recv, close)

    def cleanup(self, job: Job, link: Any) -> None:
        link.unlink()


TRANSPORTS = [GlobalBuffer()]
