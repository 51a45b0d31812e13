"""kickmsg: publish and subscribe, loses frames when a subscriber lags."""

from typing import Any

import numpy as np

from benchmarks.harness.transport import Job, Receiver, Sender, Transport, Words, giving_way


class KickmsgSender(Sender):
    def __init__(self, job: Job, region: Any, in_place: bool):
        import kickmsg

        self._publisher = publisher = kickmsg.Publisher(region)
        allocate, give_way, from_buffer = publisher.allocate, giving_way(job), np.frombuffer

        def reserve() -> Any:
            while (slot := allocate()) is None:
                give_way()
            return slot

        def send(payload: Any) -> None:
            slot = reserve()
            from_buffer(slot, np.uint64)[:] = payload
            slot.publish(payload.nbytes)

        def place(number: int) -> None:
            slot = reserve()
            from_buffer(slot, np.uint64, 1)[0] = number
            slot.publish(len(slot))

        self.send = place if in_place else send


class SmallSender(Sender):
    """Small frames go quicker as bytes."""

    def __init__(self, region: Any):
        import kickmsg

        self._publisher = kickmsg.Publisher(region)
        self.send = self._publisher.send


class KickmsgReceiver(Receiver):
    def __init__(self, job: Job, region: Any, views: bool):
        import kickmsg

        self._subscriber = subscriber = kickmsg.Subscriber(region)
        attempt = subscriber.try_receive_view if views else subscriber.try_receive
        blocking = subscriber.receive_view if views else subscriber.receive
        give_way = giving_way(job)

        def recv() -> Any:
            while (message := attempt()) is None:
                give_way()
            return message

        def sleep() -> Any:
            while (message := blocking(1.0)) is None:
                pass
            return message

        self.recv = sleep if job.sleeping else recv

    def view(self, message: Any) -> Words:
        return np.frombuffer(message, np.uint64)

    def close(self) -> None:
        if self._subscriber.lost:
            raise RuntimeError(f"{self._subscriber.lost} frames lost")


class Kickmsg(Transport):
    package = "kickmsg"
    modules = ("kickmsg",)
    credit = True
    fan_out = True
    contender = True

    def __init__(self, how: str):
        self.how = how
        self.in_place = how == "in place"
        self.payload = {"bytes": "bytes", "loans": "array", "in place": "number"}[how]
        self.name = f"kickmsg, {how}"
        self.settings = "credit window; polled, asleep: receive()"
        if how == "bytes":
            self.most_nbytes = 1 << 16

    def setup(self, job: Job) -> Any:
        import kickmsg

        config = kickmsg.Config()
        config.max_subscribers = max(1, job.consumers)
        config.sub_ring_capacity = 1 << (max(2, job.slots) - 1).bit_length()
        config.pool_size = job.slots + 2
        config.max_payload_size = job.nbytes
        return kickmsg.SharedRegion.create(f"/{job.name}", kickmsg.ChannelType.PubSub, config)

    def sender(self, job: Job, link: Any) -> Sender:
        return SmallSender(link) if self.how == "bytes" else KickmsgSender(job, link, self.in_place)

    def receiver(self, job: Job, link: Any, index: int) -> Receiver:
        return KickmsgReceiver(job, link, self.how != "bytes")

    def cleanup(self, job: Job, link: Any) -> None:
        link.unlink()


TRANSPORTS = [Kickmsg("bytes"), Kickmsg("loans"), Kickmsg("in place")]
