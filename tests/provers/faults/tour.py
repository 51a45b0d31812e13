"""Every operation of the Python API in one process, some rounds: something for valgrind to watch."""

from __future__ import annotations

import contextlib
import pickle
import sys

import numpy as np

import shmring
from frames import WORDS, Books, put, put_many

SLOTS = 8


def produce(producer: shmring.Producer) -> None:
    put(producer)
    put(producer, in_place=True)
    put_many(producer, 3)
    producer.claim(2).abort()
    with contextlib.suppress(ZeroDivisionError), producer.claim() as slot:
        slot.array[:] = 1 // 0
    with contextlib.suppress(ValueError):
        producer.put(np.zeros(3))


def consume(consumer: shmring.Consumer) -> None:
    """Hold frames, batches and arrays, and give them back in another order."""
    books = Books(consumer)
    held = []
    for take in (consumer.get, consumer.latest):
        frame = take(1)
        books.enter(frame)
        held += [frame, frame.array, memoryview(frame.array)]
    while (frame := consumer.try_get()) is not None:
        books.enter(frame)
        with frame:
            np.asarray(frame).sum()
    del frame, held[1], held[0]
    with contextlib.suppress(shmring.RingEmpty, shmring.SlotsHeld):
        consumer.get(0.001)
    consumer.close()
    assert held[-1].readonly
    held.clear()


def consume_many(producer: shmring.Producer, consumer: shmring.Consumer) -> None:
    batch = consumer.batch(4)
    array = batch.array[1:]
    del batch
    windows = consumer.windows(2, 1)
    for _ in range(2):
        for _ in range(3):
            put(producer)
        next(windows).array.sum()
    array.sum()


def tour(number: int) -> None:
    with shmring.Ring.create(
        shape=(WORDS,), dtype="u8", slots=SLOTS, spares=8, consumers=4, attrs={"tour": number}
    ) as ring:
        producer = ring.producer(on_full="raise")
        for lossless in (True, False):
            consumer = ring.consumer(lossless=lossless, label="tour")
            with contextlib.suppress(shmring.TooFewConsumers):
                producer.wait_for_consumers(2, timeout=0.001)
            produce(producer)
            consume(consumer)
        with ring.consumer(lossless=False) as consumer:
            consume_many(producer, consumer)
        with ring.consumer(start="next"), contextlib.suppress(shmring.RingFull):
            while True:
                put(producer)
        with ring.observer() as observer:
            observer.latest()
        repr(ring.stats())
        with contextlib.suppress(shmring.ProducerExists):
            ring.producer()
        producer.close()
        with (
            pickle.loads(pickle.dumps(ring)) as again,
            again.producer() as successor,
            again.consumer(start="next") as reader,  # the frames that are left would fill the ring for it
        ):
            successor.put(np.zeros(WORDS, "u8"))
            successor.close()
            assert sum(1 for _ in reader) == 1
    with contextlib.suppress(shmring.RingNotFound):
        shmring.Ring.attach(ring.name)


if __name__ == "__main__":
    for number in range(int(sys.argv[1])):
        tour(number)
