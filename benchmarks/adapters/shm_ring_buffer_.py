"""shm-ring-buffer: a ring of slots in SharedMemory, indexes packed by struct, in Python."""

from typing import Any

from benchmarks.adapters.multiprocessing_ import Bound
from benchmarks.harness.transport import Job, Receiver, Sender, Transport, giving_way


class ShmRingBuffer(Transport):
    name = "shm-ring-buffer"
    package = "shm-ring-buffer"
    modules = ("ring_buffer",)
    settings = "NumpyShmRingBuffer, polled"
    sleeps = False

    def setup(self, job: Job) -> Any:
        return self._ring(job, create=True)

    @staticmethod
    def _ring(job: Job, create: bool) -> Any:
        from ring_buffer.numpy import NumpyShmRingBuffer

        names = (f"{job.name}-{part}" for part in ("data", "read", "write"))
        return NumpyShmRingBuffer(job.slots, *names, create, "uint64", (job.nbytes // 8,))

    def sender(self, job: Job, link: Any) -> Sender:
        write, give_way = link.write, giving_way(job)

        def send(payload: Any) -> None:
            while not write(payload):
                give_way()

        return Bound(send)

    def receiver(self, job: Job, link: Any, index: int) -> Receiver:
        read, release, give_way = link.read, link.release, giving_way(job)
        holding = False

        def recv() -> Any:
            nonlocal holding
            if holding:
                release()
            while (frame := read()) is None:
                give_way()
            holding = True
            return frame

        return Bound(recv)

    def cleanup(self, job: Job, link: Any) -> None:
        link.close()


TRANSPORTS = [ShmRingBuffer()]
