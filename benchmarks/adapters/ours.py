"""shmring itself, used in each of its ways."""

import math
from multiprocessing.connection import Connection
from typing import Any

import shmring
from benchmarks.harness.transport import Job, Receiver, Sender, Transport, Words

SPIN = math.inf


class PutSender(Sender):
    def __init__(self, job: Job, ring: shmring.Ring, method: str):
        self._producer = ring.producer(spin=0 if job.sleeping else SPIN)
        self.send = getattr(self._producer, method)

    def close(self) -> None:
        self._producer.close()


class ClaimSender(Sender):
    """Writes the frame's number into the slot, nothing else."""

    def __init__(self, job: Job, ring: shmring.Ring):
        self._producer = producer = ring.producer(spin=0 if job.sleeping else SPIN)
        claim = producer.claim

        def send(number: int) -> None:
            with claim() as slot:
                slot.array[0] = number

        self.send = send

    def close(self) -> None:
        self._producer.close()


class FrameReceiver(Receiver):
    def __init__(self, job: Job, ring: shmring.Ring, index: int):
        policies = job.options.get("policies", ("lossless",))
        self.lossy = policies[index % len(policies)] == "lossy"
        self._consumer = ring.consumer(lossless=not self.lossy, spin=0 if job.sleeping else SPIN)
        self.recv = self._consumer.get
        self._held: list[shmring.Frame] = []
        self._holds = job.options.get("hold", 0)
        if self._holds:
            self.recv = self._hold_the_first

    def _hold_the_first(self) -> shmring.Frame:
        frame = self._consumer.get()
        if len(self._held) < self._holds:
            self._held.append(frame)
        else:
            self.recv = self._consumer.get  # from the next run on: one that has begun calls this to its end
        return frame

    def view(self, message: shmring.Frame) -> Words:
        return message.array

    def seq_of(self, message: shmring.Frame) -> int:
        return message.seq

    def close(self) -> None:
        if self._consumer.lost and not self.lossy:
            raise RuntimeError(f"{self._consumer.lost} frames lost")
        self._consumer.close()


class BatchReceiver(Receiver):
    def __init__(self, job: Job, ring: shmring.Ring, batch: int):
        self._consumer = ring.consumer(spin=0 if job.sleeping else SPIN)
        take = self._consumer.batch
        self.recv = lambda: take(batch, batch)

    def view(self, message: shmring.Batch) -> Words:
        return message.array

    def close(self) -> None:
        self._consumer.close()


class WaitReceiver(Receiver):
    """Waits for several rings at once; only the first has frames."""

    def __init__(self, job: Job, ring: shmring.Ring, rings: int):
        self._silent = [
            shmring.Ring.create(job.channel(f"-silent-{number}").name, shape=(8,), dtype="u8", slots=4)
            for number in range(1, rings)
        ]
        self._consumers = consumers = [one.consumer(spin=0) for one in (ring, *self._silent)]
        self.recv = lambda: shmring.wait(consumers)[0].get()

    def view(self, message: shmring.Frame) -> Words:
        return message.array

    def close(self) -> None:
        for consumer in self._consumers:
            consumer.close()
        for ring in self._silent:
            ring.unlink()
            ring.close()


class Shmring(Transport):
    package = "shmring"
    fan_out = True

    def __init__(self, how: str = "put", batch: int = 1, waits_for: int = 0):
        self.how = how
        self.waits_for = waits_for  # rings; 0: for its own, with get
        self.batch = batch
        self.in_place = how == "claim"
        self.payload = "number" if self.in_place else "array"
        self.name = "shmring" if how == "put" and batch == 1 else f"shmring, {how}"
        if batch > 1:
            self.name = f"shmring, batches of {batch}"
        if waits_for:
            self.name = f"shmring, wait for {waits_for} ring{'s' if waits_for > 1 else ''}"
        self.settings = "spin=inf: never sleeps; asleep: spin=0" + (
            ", written in place" if self.in_place else ""
        )

    def setup(self, job: Job) -> shmring.Ring:
        return shmring.Ring.create(
            job.name,
            shape=(job.nbytes // 8,),
            dtype="u8",
            slots=job.slots,
            consumers=64,
            **{name: job.options[name] for name in ("spares",) if name in job.options},
        )

    def sender(self, job: Job, link: Any) -> Sender:
        if self.in_place:
            return ClaimSender(job, link)
        return PutSender(job, link, "put" if self.batch == 1 else "put_many")

    def receiver(self, job: Job, link: Any, index: int) -> Receiver:
        if self.batch > 1:
            return BatchReceiver(job, link, self.batch)
        if self.waits_for:
            return WaitReceiver(job, link, self.waits_for)
        return FrameReceiver(job, link, index)

    def cleanup(self, job: Job, link: Any) -> None:
        link.close()
        link.unlink()


def slow_viewer(pipe: Connection, job: Job) -> None:
    """A lossy consumer that looks at the newest frame 60 times a second."""
    with shmring.Ring.attach(job.name) as ring, ring.consumer(lossless=False, start="next") as consumer:
        pipe.send("ready")
        while not pipe.poll(1 / 60):
            frame = consumer.try_get() and consumer.latest(timeout=1)
            del frame


def stalled(pipe: Connection, job: Job) -> None:
    """Lossy consumers that have joined and do nothing."""
    with shmring.Ring.attach(job.name) as ring:
        consumers = [ring.consumer(lossless=False) for _ in range(job.options.get("stalled", 1))]
        pipe.send("ready")
        pipe.recv()
        for consumer in consumers:
            consumer.close()
