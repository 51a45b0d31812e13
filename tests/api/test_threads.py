"""One handle, several threads: served one after the other or refused, never corrupt, never a hang."""

import contextlib
import sys
import threading

import numpy as np
import pytest

import shmring
from support.frames import WORDS, check, check_batch, drain, feed, fill, payload
from support.threads import Running, patiently
from support.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.slow


@pytest.mark.event("fork, spawn, forkserver, subprocess, threads, free-threaded Python")
def test_a_producer_and_consumers_in_threads_of_one_process(make, lossless):
    ring = make(slots=8)
    with ring.producer() as producer:
        consumers = [ring.consumer(lossless=lossless) for _ in range(3)]
        threads = [Running(lambda one=one: [check(frame) for frame in one]) for one in consumers]
        assert feed(producer, 3000) == 3000
        producer.close()
        for thread, consumer in zip(threads, consumers, strict=True):
            seqs = thread.end().value
            assert thread.error is None
            assert seqs == sorted(set(seqs))
            assert len(seqs) + consumer.lost == 3000
            assert consumer.lost == 0 or not lossless
            consumer.close()


@pytest.mark.parametrize("use", ["get", "try_get", "latest", "batch"])
def test_a_consumer_that_waits_is_busy_for_others_or_serves_them(ring, use):
    call = {
        "get": lambda: consumer.get(0),
        "try_get": lambda: consumer.try_get(),
        "latest": lambda: consumer.latest(0),
        "batch": lambda: consumer.batch(1, 1, 0),
    }[use]
    with ring.producer() as producer, ring.consumer() as consumer:
        waiting = Running(lambda: check(consumer.get(PATIENCE))).asleep()
        with contextlib.suppress(shmring.HandleBusy, shmring.RingEmpty):
            assert call() is None
        feed(producer, 1)
        assert waiting.end().value == 0
        feed(producer, 1)
        assert check(consumer.get(0)) == 1


def test_a_producer_that_waits_is_busy_for_others(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, ring.slots)
        waiting = Running(lambda: producer.put(payload(ring.slots), timeout=PATIENCE)).asleep()
        with pytest.raises((shmring.HandleBusy, shmring.RingFull)):
            producer.put(payload(99), timeout=0)
        with pytest.raises((shmring.HandleBusy, shmring.RingFull)):
            producer.claim(timeout=0)
        consumer.get(0).release()
        assert waiting.end().value is True
        assert drain(consumer) == list(range(1, ring.slots + 1))


def test_two_threads_take_from_one_consumer(make, lossless):
    """Each frame goes to exactly one of them."""
    ring = make(slots=16)
    sys_interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ring.producer() as producer, ring.consumer(lossless=lossless) as consumer:

            def take():
                seqs = []
                while True:
                    try:
                        frame = patiently(consumer.get)
                    except shmring.RingClosed:
                        return seqs
                    seqs.append(check(frame))

            threads = [Running(take) for _ in range(3)]
            feed(producer, 1000)
            producer.close()
            seqs = []
            for thread in threads:
                assert thread.end().error is None
                assert thread.value == sorted(thread.value)
                seqs += thread.value
            assert sorted(seqs) == sorted(set(seqs))
            assert len(seqs) == consumer.delivered
            assert len(seqs) + consumer.lost == 1000
            assert consumer.held == 0
    finally:
        sys.setswitchinterval(sys_interval)


def test_two_threads_put_into_one_producer(make):
    """Each frame gets a seq of its own and is whole: the payload says who wrote it."""
    ring = make(slots=8, meta="i8")
    with ring.producer() as producer, ring.consumer() as consumer:

        def put(who):
            for number in range(500):
                patiently(
                    lambda number=number: producer.put(payload(who * 1000 + number), meta=who * 1000 + number)
                )

        threads = [Running(lambda who=who: put(who)) for who in range(3)]
        got = {0: [], 1: [], 2: []}
        for seq in range(1500):
            frame = consumer.get(PATIENCE)
            assert frame.seq == seq
            tag = int(frame.meta)
            assert (frame.array == payload(tag)).all()
            got[tag // 1000].append(tag % 1000)
        for thread in threads:
            assert thread.end().error is None
        assert got == {who: list(range(500)) for who in range(3)}


@pytest.mark.parametrize("layout", ["contiguous", "strided", "cast"])
@pytest.mark.slow
def test_two_threads_put_large_frames(make, layout):
    """Large copies run without the GIL: the handle is busy meanwhile, or the other thread waits."""
    shape = (512, 512)
    ring = make(slots=4, shape=shape, dtype="i8")
    frames = {
        "contiguous": [np.full(shape, who, "i8") for who in range(2)],
        "strided": [np.full(shape, who, "i8").T[::-1] for who in range(2)],
        "cast": [np.full(shape, who, "f4") for who in range(2)],
    }[layout]
    with ring.producer() as producer, ring.consumer() as consumer:

        def put(who):
            for _ in range(50):
                patiently(lambda: producer.put(frames[who], casting="unsafe" if layout == "cast" else "no"))

        threads = [Running(lambda who=who: put(who)) for who in range(2)]
        seen = [0, 0]
        for seq in range(100):
            frame = consumer.get(PATIENCE)
            assert frame.seq == seq
            who = int(frame.array[0, 0])
            assert (frame.array == who).all(), "two threads wrote into one frame"
            seen[who] += 1
        for thread in threads:
            assert thread.end().error is None
        assert seen == [50, 50]


class Slow:
    """An array-like whose conversion lets other threads run."""

    def __init__(self, array):
        self.array = array
        self.entered, self.go_on = threading.Event(), threading.Event()

    def __array__(self, dtype=None, copy=None):
        self.entered.set()
        assert self.go_on.wait(PATIENCE)
        return self.array


@pytest.mark.parametrize("use", ["put", "put_many"])
def test_a_claim_while_another_thread_is_on_its_way_into_put(ring, use):
    """The second thread is refused; two threads never write into one slot."""
    slow = Slow(payload(1) if use == "put" else payload(1)[None])
    with ring.producer() as producer, ring.consumer() as consumer:
        other = Running(lambda: getattr(producer, use)(slow))
        assert slow.entered.wait(PATIENCE)
        try:
            slot = producer.claim()
        except shmring.HandleBusy:
            slow.go_on.set()
            assert other.end().error is None
            assert [consumer.get(0).array[0]] == [payload(1)[0]]
        else:
            slow.go_on.set()
            assert isinstance(other.end().error, ValueError | shmring.HandleBusy)
            slot.array[...] = payload(0)
            slot.publish()
            assert drain(consumer) == [0]
        published = producer.published
        feed(producer, 1)
        assert drain(consumer) == [published]


def test_an_array_like_that_uses_the_producer_itself(ring):
    class Sneaky:
        def __array__(self, dtype=None, copy=None):
            with producer.claim() as slot:
                fill(slot)
            return payload(producer.next_seq)

    with ring.producer() as producer, ring.consumer() as consumer:
        with contextlib.suppress(ValueError, shmring.HandleBusy):
            producer.put(Sneaky())
        seqs = drain(consumer)
        assert seqs == list(range(len(seqs)))
        feed(producer, 1)
        assert drain(consumer) == [len(seqs)]


def test_close_while_another_thread_copies(make):
    """close() during a put that does not wait for anything: the producer is closed all the same."""
    ring = make(slots=2, shape=(1 << 20,), dtype="u8")
    producer, frame = ring.producer(), payload(0, (1 << 20,))
    stop = threading.Event()

    def put():
        while not stop.is_set():
            producer.put(frame)

    thread = Running(put)
    try:
        wait_until(lambda: ring.stats().published > 5, "frames are put")
        patiently(producer.close)
        assert isinstance(thread.end().error, ValueError | shmring.ShmringError)
        assert producer.closed
        assert ring.stats().producer.state == "closed"
    finally:
        stop.set()
        thread.end()


def test_two_threads_use_everything_at_once(make):
    """Every method of shared handles from several threads: errors are fine, corruption is not."""
    ring = make(slots=8)
    stop = threading.Event()
    allowed = (shmring.HandleBusy, shmring.RingEmpty, shmring.RingFull, shmring.SlotsHeld)
    with ring.producer(on_full="drop") as producer, ring.consumer(lossless=False) as consumer:

        def use(*calls):
            while not stop.is_set():
                for call in calls:
                    with contextlib.suppress(allowed):
                        call()

        def claim():
            try:
                slot = producer.claim()
            except ValueError as error:
                if "claim" not in str(error):
                    raise  # only: another thread has one open
            else:
                with slot:
                    fill(slot)

        threads = [
            Running(
                lambda: use(lambda: check(consumer.get(0.001)), lambda: consumer.lag, lambda: repr(consumer))
            ),
            Running(
                lambda: use(
                    lambda: consumer.latest(0).release(),
                    lambda: check_batch(consumer.batch(3, timeout=0.001)),
                )
            ),
            Running(lambda: use(claim, lambda: producer.next_seq, ring.stats)),
            Running(lambda: use(claim, lambda: feed(producer, 0), lambda: repr(producer))),
        ]
        wait_until(lambda: ring.stats().published > 600, "600 frames have passed")
        stop.set()
        for thread in threads:
            assert thread.end().error is None
        drain(consumer)
        assert consumer.held == 0
        assert consumer.delivered + consumer.lost + consumer.skipped == producer.next_seq


def test_close_while_a_thread_waits_in_the_consumer(ring):
    """The wait ends with an error, or close() is refused; nothing hangs, nothing crashes."""
    consumer = ring.consumer()
    waiting = Running(lambda: consumer.get(PATIENCE)).asleep()
    try:
        consumer.close()
    except shmring.HandleBusy:
        with ring.producer() as producer:
            feed(producer, 1)
            assert waiting.end().error is None
        waiting.value = None
        consumer.close()
    else:
        assert isinstance(waiting.end().error, ValueError | shmring.ShmringError)
        assert not isinstance(waiting.error, shmring.RingEmpty)
    assert consumer.closed
    assert ring.stats().consumers == ()


def test_close_while_a_thread_waits_in_the_producer(ring):
    with ring.consumer() as consumer:
        producer = ring.producer()
        feed(producer, ring.slots)
        waiting = Running(lambda: producer.put(payload(ring.slots), timeout=PATIENCE)).asleep()
        try:
            producer.close()
        except shmring.HandleBusy:
            assert drain(consumer) == list(range(ring.slots))
            assert waiting.end().value is True
            producer.close()
        else:
            assert isinstance(waiting.end().error, ValueError | shmring.ShmringError)
            assert not isinstance(waiting.error, shmring.RingFull)
        assert producer.closed
    with ring.producer():
        pass


def test_closing_the_ring_while_threads_wait(make):
    ring = make()
    attached = shmring.Ring.attach(ring.name)
    consumer = attached.consumer()
    waiting = Running(lambda: check(consumer.get(PATIENCE))).asleep()
    with contextlib.suppress(shmring.HandleBusy):
        attached.close()
    with ring.producer() as producer:
        try:
            feed(producer, 1)
        finally:
            waiting.end()
    assert waiting.value == 0 or isinstance(waiting.error, ValueError | shmring.ShmringError)
    consumer.close()
    attached.close()


def test_a_slot_may_be_published_by_another_thread(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        slot = producer.claim()

        def finish():
            fill(slot)
            slot.publish()

        assert Running(finish).end().error is None
        assert drain(consumer) == [0]


def test_consumers_join_and_leave_in_many_threads(make):
    ring = make(slots=4, consumers=4)
    with ring.producer() as producer:

        def come_and_go():
            for _ in range(50):
                with ring.consumer(start="next"):
                    pass

        threads = [Running(come_and_go) for _ in range(4)]
        while any(thread.is_alive() for thread in threads):
            producer.put(payload(producer.next_seq), timeout=PATIENCE)
        for thread in threads:
            assert thread.end().error is None
        assert ring.stats().consumers == ()


def test_only_one_of_many_threads_becomes_the_producer(ring):
    barrier = threading.Barrier(8)

    def attempt():
        barrier.wait()
        return ring.producer()

    threads = [Running(attempt) for _ in range(8)]
    won = [thread.end().value for thread in threads if thread.end().error is None]
    lost = [thread.error for thread in threads if thread.error is not None]
    assert len(won) == 1
    assert all(isinstance(error, shmring.ProducerExists) for error in lost)
    won[0].close()


def test_rings_are_created_by_many_threads_once(name):
    barrier = threading.Barrier(8)

    def attempt():
        barrier.wait()
        return shmring.Ring.create(name, shape=(4,), dtype="u1", slots=2)

    threads = [Running(attempt) for _ in range(8)]
    for thread in threads:
        thread.end()
    won = [thread.value for thread in threads if thread.error is None]
    assert len(won) == 1
    assert all(isinstance(thread.error, shmring.RingExists) for thread in threads if thread.value is None)
    won[0].unlink()
    won[0].close()


def test_exist_ok_in_many_threads_is_one_ring(name):
    barrier = threading.Barrier(8)

    def attempt():
        barrier.wait()
        return shmring.Ring.create(name, shape=(WORDS,), dtype="u8", slots=4, exist_ok=True)

    threads = [Running(attempt) for _ in range(8)]
    rings = [thread.end().value for thread in threads]
    assert [thread.error for thread in threads] == [None] * 8
    with rings[0].producer() as producer:
        feed(producer, 1)
        for ring in rings:
            with ring.consumer() as consumer:
                assert drain(consumer) == [0]
    rings[0].unlink()
    for ring in rings:
        ring.close()
