"""A producer that abandons its ring looks to everybody like one whose process died."""

import asyncio
import contextlib
import json
import os
import threading

import pytest

import shmring
from support.blocks import block_file
from support.frames import check, feed
from support.waiting import PATIENCE, wait_asleep

EVENT = "the producer abandons the ring"


@pytest.mark.event(EVENT)
def test_consumers_get_every_frame_and_then_the_death(ring, lossless):
    with ring.consumer(lossless=lossless) as consumer:
        producer = ring.producer()
        feed(producer, 2)
        producer.abandon()
        assert producer.closed
        assert [check(consumer.get(0)) for _ in range(2)] == [0, 1]
        for wait in (
            consumer.get,
            consumer.try_get,
            consumer.latest,
            lambda: consumer.batch(1),
            lambda: next(consumer),
            lambda: next(consumer.windows(1)),
            lambda: asyncio.run(consumer.get_async()),
        ):
            with pytest.raises(shmring.ProducerDied) as caught:
                wait()
            assert not isinstance(caught.value, shmring.ProducerFailed)
    assert ring.stats().producer.state == "died"


def test_observers_learn_of_it_too(ring):
    producer = ring.producer()
    feed(producer, 1)
    producer.abandon()
    with ring.observer() as observer:
        assert check(observer.get(0)) == 0
        with pytest.raises(shmring.ProducerDied):
            observer.get()


def wake_ups(ring) -> int:
    """How often a consumer that slept was woken, as the ring's `data_event` counts it; docs/layout.md."""
    return int.from_bytes(block_file(ring.name).read_bytes()[512:516], "little") >> 1


def test_a_sleeper_learns_of_it(ring):
    """It is woken, rather than look for itself when its slice is over; then it asks the kernel at once."""
    caught = []

    def read(consumer):
        try:
            consumer.get(PATIENCE)
        except shmring.ShmringError as error:
            caught.append(error)

    with ring.consumer() as consumer, ring.producer() as producer:
        reader = threading.Thread(target=read, args=(consumer,))
        reader.start()
        wait_asleep(os.getpid(), reader.native_id)
        before = wake_ups(ring)
        producer.abandon()
        assert wake_ups(ring) == before + 1
        reader.join()
    assert type(caught[0]) is shmring.ProducerDied


def test_an_open_claim_is_aborted(ring):
    with ring.consumer() as consumer, ring.producer() as producer:
        slot = producer.claim()
        array = slot.array
        producer.abandon()
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="published or aborted"):
            slot.publish()
        with pytest.raises(shmring.ProducerDied):
            consumer.get(0)


def test_the_next_producer_continues(ring):
    with ring.consumer(wait_for_takeover=True) as consumer:
        first = ring.producer()
        feed(first, 1)
        first.abandon()
        with ring.producer() as second:
            feed(second, 1)
            assert [(check(frame), frame.epoch) for frame in (consumer.get(0), consumer.get(0))] == [
                (0, 1),
                (1, 2),
            ]


def test_it_ends_once(ring):
    """After a close there is nothing to abandon, and the other way round."""
    closed = ring.producer()
    closed.close()
    closed.abandon()
    assert ring.stats().producer.state == "closed"
    with ring.producer() as abandoned:
        abandoned.abandon()
        abandoned.abandon()
        with pytest.raises(shmring.RingClosed):
            feed(abandoned, 1)
    assert ring.stats().producer.state == "died"


def test_while_another_thread_waits_in_the_producer(ring):
    """That thread leaves the ring, and gets RingClosed, as with `close`."""
    caught = []

    def write(producer):
        try:
            feed(producer, ring.slots + 1)
        except shmring.RingClosed as error:
            caught.append(error)

    with ring.consumer() as consumer, ring.producer() as producer:
        writer = threading.Thread(target=write, args=(producer,))
        writer.start()
        wait_asleep(os.getpid(), writer.native_id)
        producer.abandon()
        writer.join()
        assert caught
        assert ring.stats().producer.state == "died"
        assert sum(1 for _ in iterate_to_death(consumer)) == ring.slots


def iterate_to_death(consumer):
    with contextlib.suppress(shmring.ProducerDied):
        yield from consumer
        pytest.fail("a regular end")


def test_the_commands_say_that_it_died(ring, capsys):
    pytest.importorskip("click")
    from shmring._cli import app

    ring.producer().abandon()
    assert app.run(("info", ring.name, "--json")) == 0
    assert json.loads(capsys.readouterr().out)["producer"]["state"] == "died"
