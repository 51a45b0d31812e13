"""`shmring.wait`: asleep until one of several rings has something to say."""

import ctypes
import errno
import gc
import logging
import os
import signal
import struct
import time

import pytest

import shmring
from shmring import _core
from support.frames import check, feed
from support.processes import PeerError
from support.threads import Running
from support.waiting import PATIENCE

pytestmark = pytest.mark.slow


@pytest.fixture
def rings(make):
    return [make() for _ in range(8)]


@pytest.fixture
def consumers(rings, lossless):
    return [ring.consumer(lossless=lossless) for ring in rings]


# ---- what it returns


def test_those_with_a_frame_in_the_order_given(rings, consumers):
    assert shmring.wait(consumers, 0) == []
    for i in (6, 1, 3):
        with rings[i].producer() as producer:
            feed(producer, 2)
    assert shmring.wait(consumers) == [consumers[1], consumers[3], consumers[6]]
    assert shmring.wait(reversed(consumers)) == [consumers[6], consumers[3], consumers[1]]
    assert shmring.wait(consumers[3:2:-1] + consumers[1:2], 0) == [consumers[3], consumers[1]]


def test_each_end_of_a_stream_is_something_to_say(rings, consumers):
    closed, failed, died, alive = consumers[:4]
    producers = [ring.producer() for ring in rings[:4]]
    assert shmring.wait(consumers, 0) == []
    producers[2].abandon()
    assert shmring.wait(consumers) == [died]
    producers[0].close()
    producers[1].close(error="lens cap on")
    assert shmring.wait(consumers) == [closed, failed, died]
    for consumer, error in ((closed, "RingClosed"), (failed, "ProducerFailed"), (died, "ProducerDied")):
        with pytest.raises(getattr(shmring, error)):
            consumer.get()
    feed(producers[3], 1)
    assert shmring.wait([alive]) == [alive]
    producers[3].close()


def test_who_awaits_a_takeover_has_nothing_to_say(ring):
    with ring.consumer(wait_for_takeover=True) as patient, ring.consumer() as other:
        ring.producer().abandon()
        assert shmring.wait([patient, other]) == [other]
        assert shmring.wait([patient], 0) == []
        with ring.producer() as producer:
            feed(producer, 1)
            assert shmring.wait([patient], 0) == [patient]


def test_who_holds_every_slot_is_told_by_its_get(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, ring.slots)
        held = [consumer.get(0) for _ in range(ring.slots)]
        assert shmring.wait([consumer]) == [consumer]
        with pytest.raises(shmring.SlotsHeld):
            consumer.get()
        del held
        gc.collect()
        assert shmring.wait([consumer], 0) == []


def test_consumers_of_the_same_ring(ring):
    with ring.producer() as producer, ring.consumer() as first, ring.consumer(lossless=False) as second:
        feed(producer, 1)
        assert shmring.wait([second, first]) == [second, first]
        assert check(first.get(0)) == 0
        assert shmring.wait([second, first]) == [second]


def test_more_than_the_kernel_watches(make):
    rings = [make(consumers=64) for _ in range(3)]
    consumers = [ring.consumer() for ring in rings for _ in range(50)]
    assert shmring.wait(consumers, 0) == []
    waiting = Running(lambda: shmring.wait(consumers, PATIENCE)).asleep()
    with rings[2].producer() as producer:
        feed(producer, 1)
        assert waiting.end().value == consumers[100:]
    for consumer in consumers:
        consumer.close()


# ---- how it waits


@pytest.mark.parametrize("which", [0, 3, 7])
def test_any_of_them_wakes_it(rings, consumers, which):
    with rings[which].producer() as producer:
        waiting = Running(lambda: shmring.wait(consumers)).asleep()
        feed(producer, 1)
        assert waiting.end().value == [consumers[which]]


@pytest.mark.parametrize("end", ["close", "abandon"])
def test_the_end_of_a_stream_wakes_it(rings, consumers, end):
    with rings[5].producer() as producer:
        waiting = Running(lambda: shmring.wait(consumers)).asleep()
        getattr(producer, end)()
        assert waiting.end().value == [consumers[5]]


def publish(here):
    here.producer = here.ring.producer()
    feed(here.producer, 1)


def test_a_killed_producer_is_noticed(rings, consumers, peer):
    other = peer(rings[2])
    other.run(publish)
    assert shmring.wait(consumers) == [consumers[2]]
    assert check(consumers[2].get()) == 0
    waiting = Running(lambda: shmring.wait(consumers)).asleep()
    other.kill()
    assert waiting.end().value == [consumers[2]]


def join_twice(here):
    here.consumers = [here.ring.consumer(), here.ring.consumer()]


def wait_for_both(here):
    return [check(one.get(5)) for one in shmring.wait(here.consumers)]


@pytest.mark.event("Ctrl-C in any wait")
def test_ctrl_c_ends_it(ring, peer):
    other = peer(ring)
    other.run(join_twice)
    other.begin(wait_for_both).asleep().signal(signal.SIGINT)
    with pytest.raises(PeerError, match="KeyboardInterrupt"):
        other.answer()
    with ring.producer() as producer:
        feed(producer, 1)
        assert other.run(wait_for_both) == [0, 0]


def test_it_sleeps(rings, consumers):
    began, used = time.monotonic(), time.thread_time()
    assert shmring.wait(consumers, 0.3) == []
    assert time.monotonic() - began >= 0.3
    assert time.thread_time() - used < 0.1


def test_a_long_wait_says_what_for(rings, consumers, monkeypatch, caplog):
    monkeypatch.setattr(_core, "patience", 0.01)
    with rings[0].producer() as producer, caplog.at_level(logging.WARNING, "shmring"):
        waiting = Running(lambda: shmring.wait(consumers[:2])).asleep()
        while not caplog.messages and waiting.is_alive():
            os.sched_yield()
        feed(producer, 1)
        assert waiting.end().value == consumers[:1]
    assert caplog.messages[0].startswith("wait is still waiting: no new frame in any of the rings")
    assert rings[1].name in caplog.messages[0]


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM])
def test_without_the_system_call(rings, fork, error):
    """As on Linux before 5.16, and in containers that refuse calls which they do not know."""

    def work(send) -> None:
        refuse_futex_waitv(error)
        own = [ring.consumer() for ring in rings[:3]]
        used = time.thread_time()
        send(shmring.wait(own, 0.3) == [])
        send(time.thread_time() - used < 0.15)
        with rings[2].producer() as producer:
            waiting = Running(lambda: shmring.wait(own)).asleep()
            feed(producer, 1)
            send(waiting.end().value == own[2:])

    child = fork(work)
    assert [child.receive() for _ in range(3)] == [True] * 3
    child.wait()


def refuse_futex_waitv(error: int) -> None:
    """Install a filter that answers system call 449 with an error."""
    program = b"".join(
        struct.pack("=HBBI", *step)
        for step in (
            (0x20, 0, 0, 0),  # the number of the call
            (0x15, 0, 1, 449),
            (0x06, 0, 0, 0x00050000 | error),
            (0x06, 0, 0, 0x7FFF0000),
        )
    )
    steps = ctypes.create_string_buffer(program)
    filter = struct.pack("HP", 4, ctypes.addressof(steps))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, ctypes.create_string_buffer(filter), 0, 0) == 0


# ---- handles that cannot be waited for


@pytest.mark.parametrize("timeout", [-1, float("nan"), "1"])
def test_timeouts_that_are_none(ring, timeout):
    with ring.consumer() as consumer, pytest.raises((ValueError, TypeError), match="timeout"):
        shmring.wait([consumer], timeout)


def test_what_is_no_list_of_consumers(ring):
    with ring.consumer() as consumer, ring.observer() as observer, ring.producer() as producer:
        with pytest.raises(TypeError, match=r"wait\(\[consumer\]\)"):
            shmring.wait(consumer)
        for wrong, advice in (
            (observer, r"not Observer; .*consumer\(lossless=False\)"),
            (ring, r"not Ring; .*ring\.consumer\(\)"),
            (producer, "not Producer"),
            (None, "not NoneType"),
        ):
            with pytest.raises(TypeError, match=advice):
                shmring.wait([consumer, wrong])
        with pytest.raises(TypeError):
            shmring.wait(None)
        with pytest.raises(ValueError, match="no consumer"):
            shmring.wait([])
        with pytest.raises(ValueError, match=f"{ring.name}.* twice"):
            shmring.wait([consumer, consumer])


def test_a_closed_handle(ring):
    with ring.consumer() as consumer:
        closed = ring.consumer()
        closed.close()
        with pytest.raises(shmring.RingClosed, match="this Consumer"):
            shmring.wait([consumer, closed])


def test_a_handle_that_is_closed_meanwhile(rings, consumers):
    waiting = Running(lambda: shmring.wait(consumers)).asleep()
    consumers[4].close()
    assert isinstance(waiting.end().error, shmring.RingClosed)


def test_a_handle_in_use(rings, consumers):
    """And those before it in the list can be used afterwards."""
    waiting = Running(consumers[1].get).asleep()
    with pytest.raises(shmring.HandleBusy):
        shmring.wait(consumers)
    assert consumers[0].try_get() is None
    with rings[1].producer() as producer:
        feed(producer, 1)
        assert check(waiting.end().value) == 0
    waiting = Running(lambda: shmring.wait(consumers[2:])).asleep()
    with pytest.raises(shmring.HandleBusy):
        consumers[7].try_get()
    consumers[7].close()
    waiting.end()


def test_a_handle_of_the_parent(ring, fork):
    with ring.consumer() as consumer:

        def work(send) -> None:
            with pytest.raises(shmring.ForkedHandle):
                shmring.wait([consumer])
            send("refused")

        child = fork(work)
        assert child.receive() == "refused"
        child.wait()
