"""iceoryx2: publish and subscribe with loaned samples (Rust)."""

import ctypes
from typing import Any

import numpy as np

from benchmarks.harness.transport import Job, Receiver, Sender, Transport, Words, giving_way


def service(job: Job) -> Any:
    """A node and the service, as both sides open it: safe overflow off, so that the publisher blocks."""
    import iceoryx2 as iox2

    iox2.set_log_level(iox2.LogLevel.Error)
    node = iox2.NodeBuilder.new().create(iox2.ServiceType.Ipc)
    builder = node.service_builder(iox2.ServiceName.new(job.name)).publish_subscribe(
        iox2.Slice[ctypes.c_uint64]
    )
    opened = (
        builder.enable_safe_overflow(False)
        .subscriber_max_buffer_size(job.slots)
        .subscriber_max_borrowed_samples(4)
        .max_subscribers(max(2, job.consumers))
        .max_publishers(1)
        .history_size(0)
        .open_or_create()
    )
    return node, opened


class IceoryxSender(Sender):
    def __init__(self, job: Job, in_place: bool):
        import iceoryx2 as iox2

        self._node, self._service = service(job)
        words = job.nbytes // 8
        self._publisher = (
            self._service.publisher_builder()
            .initial_max_slice_len(words)
            .backpressure_strategy(iox2.BackpressureStrategy.RetryUntilDelivered)
            .create()
        )
        loan, nbytes = self._publisher.loan_slice_uninit, job.nbytes
        copy, word = ctypes.memmove, ctypes.c_uint64

        def send(payload: Any) -> None:
            sample = loan(words)
            copy(sample.payload_ptr, payload.ctypes.data, nbytes)
            sample.assume_init().send()

        def place(number: int) -> None:
            sample = loan(words)
            word.from_address(sample.payload_ptr).value = number
            sample.assume_init().send()

        self.send = place if in_place else send

    def close(self) -> None:
        self._publisher.delete()


class IceoryxReceiver(Receiver):
    def __init__(self, job: Job):
        self._node, self._service = service(job)
        self._subscriber = self._service.subscriber_builder().buffer_size(job.slots).create()
        receive, give_way = self._subscriber.receive, giving_way(job)
        self._array = ctypes.c_uint64 * (job.nbytes // 8)

        def recv() -> Any:
            while (sample := receive()) is None:
                give_way()
            return sample

        self.recv = recv

    def view(self, message: Any) -> Words:
        self._kept = message  # the array does not keep the sample, and what is dropped is reused
        return np.frombuffer(self._array.from_address(message.payload_ptr), np.uint64)

    def close(self) -> None:
        self._subscriber.delete()


class Iceoryx2(Transport):
    package = "iceoryx2"
    modules = ("iceoryx2",)
    fan_out = True
    sleeps = False  # publish-subscribe is polled
    contender = True
    leftovers = ("/dev/shm/iox2_*", "/tmp/iceoryx2/*/*")

    def __init__(self, in_place: bool = False):
        self.in_place = in_place
        self.name = f"iceoryx2{', in place' if in_place else ''}"
        self.settings = "loaned slices, no overflow, publisher retries until delivered, polled"
        self.payload = "number" if in_place else "array"

    def sender(self, job: Job, link: Any) -> Sender:
        return IceoryxSender(job, self.in_place)

    def receiver(self, job: Job, link: Any, index: int) -> Receiver:
        return IceoryxReceiver(job)


TRANSPORTS = [Iceoryx2(), Iceoryx2(in_place=True)]
