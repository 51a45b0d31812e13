"""Races between threads, with and without a GIL, each bounded by a count."""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import sys
import threading

import numpy as np
import pytest

import shmring
from support.frames import check, check_batch, drain, feed, fill, payload
from support.threads import GIL, Running, patiently
from support.waiting import PATIENCE, wait_until

ROUNDS = 50 if GIL else 200  # with the GIL, threads meet in few places only
THREADS = 4
pytestmark = [
    pytest.mark.slow,
    pytest.mark.event("fork, spawn, forkserver, subprocess, threads, free-threaded Python"),
]


@pytest.fixture(autouse=True)
def often():
    """Where there is a GIL, it changes hands as often as it can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def at_once(*works) -> list[Running]:
    """Start a thread for each, let them begin together, wait for all."""
    barrier = threading.Barrier(len(works))

    def begin(work):
        barrier.wait(PATIENCE)
        return work()

    threads = [Running(lambda work=work: begin(work)) for work in works]
    return [thread.end() for thread in threads]


def values(threads: list[Running]) -> list:
    """What the threads returned; fails if one raised."""
    for thread in threads:
        if thread.error is not None:
            raise thread.error
    return [thread.value for thread in threads]


# ---- one frame, many threads


@pytest.mark.parametrize("take", ["get", "batch"])
def test_the_array_is_made_by_many_threads_at_once(ring, lossless, take):
    with ring.producer() as producer, ring.consumer(lossless=lossless) as consumer:
        for seq in range(ROUNDS):
            feed(producer, 1)
            frame = consumer.get(0) if take == "get" else consumer.batch(1, timeout=0)
            arrays = values(at_once(*[lambda frame=frame: frame.array] * THREADS))
            assert all(array is frame.array for array in arrays)
            assert np.array_equal(arrays[0].reshape(-1), payload(seq))
            assert consumer.held == 1
            del frame, arrays
        wait_until(lambda: consumer.held == 0, "every hold has ended")


def test_a_frame_is_released_by_many_threads_at_once(ring, lossless):
    """Each hold ends once, however many threads end it, with an array made or not."""
    with ring.producer(on_full="raise") as producer, ring.consumer(lossless=lossless) as consumer:
        for turn in range(ROUNDS):
            feed(producer, 1)
            frame = consumer.get(0)
            array = frame.array if turn % 2 else None
            values(at_once(*[frame.release] * THREADS))
            assert consumer.held == turn % 2
            assert array is None or np.array_equal(array, payload(turn))
            del array, frame
        wait_until(lambda: consumer.held == 0, "every hold has ended")


@pytest.mark.parametrize("export", ["array", "memoryview", "asarray", "dlpack"])
def test_a_frame_is_exported_while_another_thread_releases_it(ring, lossless, export):
    """Either the export came first, and is whole and stays so; or it is refused."""
    exports = {
        "array": lambda frame: frame.array,
        "memoryview": lambda frame: np.asarray(memoryview(frame)),
        "asarray": np.asarray,
        "dlpack": np.from_dlpack,
    }
    with ring.producer(on_full="raise") as producer, ring.consumer(lossless=lossless) as consumer:

        def attempt(frame):
            try:
                return exports[export](frame)
            except (ValueError, BufferError):
                return None

        for seq in range(ROUNDS):
            feed(producer, 1)
            frame = consumer.get(0)
            got = at_once(
                lambda frame=frame: attempt(frame), frame.release, lambda frame=frame: attempt(frame)
            )
            arrays = [array for array in values(got) if array is not None]
            del frame, got
            for _ in range(ring.slots):  # would overwrite a slot that nobody holds
                feed(producer, 1)
                drain(consumer)
            assert all(np.array_equal(array, payload(seq * (ring.slots + 1))) for array in arrays)
            del arrays
        wait_until(lambda: consumer.held == 0, "every hold has ended")


def test_many_threads_read_one_frame(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 1)
        frame = consumer.get(0)
        assert (
            values(at_once(*[lambda: [check(frame) for _ in range(ROUNDS)]] * THREADS))
            == [[0] * ROUNDS] * THREADS
        )


# ---- one handle, many threads


@pytest.mark.parametrize("how", ["release", "last reference", "last array"])
def test_frames_end_in_many_threads_while_their_consumer_goes_on(make, lossless, how):
    """A storm of ends beside takes and other ends of the same handle: none is lost, none counts twice."""
    ring = make(slots=64)
    count = 1000
    work: queue.SimpleQueue = queue.SimpleQueue()

    def next_frame():
        """Wakes up now and then: without a GIL, what a thread made and others dropped goes when it runs."""
        while True:
            with contextlib.suppress(queue.Empty):
                return work.get(timeout=0.01)

    def end():
        checked = 0
        while (frame := next_frame()) is not None:
            thing = frame.array if how == "last array" else frame
            seq = frame.seq
            if how == "last array":
                del frame
                assert np.array_equal(thing, payload(seq))
            else:
                check(frame)
                if how == "release":
                    frame.release()
                del frame
            del thing
            checked += 1
        return checked

    with ring.producer(on_full="raise") as producer, ring.consumer(lossless=lossless) as consumer:
        threads = [Running(end) for _ in range(THREADS)]
        for seq in range(count):
            wait_until(lambda: consumer.held < 24, "others end their frames")
            producer.put(payload(seq))
            work.put(consumer.get(0))
        for _ in threads:
            work.put(None)
        assert sum(values([thread.end() for thread in threads])) == count
        wait_until(lambda: consumer.held == 0, "every hold has ended")
        assert (consumer.delivered, consumer.lost) == (count, 0)
        assert feed(producer, ring.slots) == ring.slots  # no slot is lost
        assert drain(consumer) == list(range(count, count + ring.slots))


def test_many_threads_iterate_over_one_consumer(make, lossless):
    """Each frame goes to one of them; all of them end with the stream."""
    ring = make(slots=8)
    count = 1500
    with ring.producer() as producer, ring.consumer(lossless=lossless) as consumer:

        def take():
            seqs = []
            while True:
                try:
                    for frame in consumer:
                        seqs.append(check(frame))
                        frame.release()
                except shmring.HandleBusy:
                    continue
                return seqs

        threads = [Running(take) for _ in range(THREADS)]
        feed(producer, count)
        producer.close()
        taken = values([thread.end() for thread in threads])
        assert all(seqs == sorted(seqs) for seqs in taken)
        seqs = sorted(itertools.chain(*taken))
        assert seqs == sorted(set(seqs))
        assert len(seqs) + consumer.lost == count
        assert consumer.held == 0
        assert not lossless or consumer.lost == 0


def test_many_threads_claim_from_one_producer(make):
    """One claim is open at a time; its thread alone publishes or aborts it, and no frame is mixed."""
    ring = make(slots=8)
    rounds = 100
    with ring.producer() as producer, ring.consumer() as consumer:

        def claim(who):
            published = claims = 0
            while published < rounds:
                try:
                    slot = producer.claim()
                except (shmring.HandleBusy, ValueError):
                    os.sched_yield()
                    continue
                claims += 1
                fill(slot)
                if (claims + who) % 3 == 0:
                    slot.abort()
                else:
                    slot.publish()
                    published += 1
            return published

        threads = [Running(lambda who=who: claim(who)) for who in range(THREADS)]
        seqs = [check(consumer.get(PATIENCE)) for _ in range(rounds * THREADS)]
        assert values([thread.end() for thread in threads]) == [rounds] * THREADS
        assert seqs == list(range(rounds * THREADS))
        assert consumer.try_get() is None


def test_a_slot_is_ended_by_many_threads_at_once(ring):
    """Of several publish and abort calls on one slot one counts, the others are refused."""
    with ring.producer() as producer, ring.consumer() as consumer:
        expected = 0
        for _ in range(ROUNDS):
            slot = producer.claim()
            fill(slot)
            ends = at_once(slot.publish, slot.abort, slot.publish, slot.abort)
            assert all(
                isinstance(end.error, ValueError | shmring.HandleBusy)
                for end in ends
                if end.error is not None
            )
            published = sum(end.error is None for end in ends[::2])
            assert published <= 1
            with contextlib.suppress(ValueError):
                slot.abort()  # if everyone was refused as busy
            assert drain(consumer) == [expected] * published
            expected += published


def test_the_slots_array_is_made_by_many_threads_at_once(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        for seq in range(ROUNDS):
            slot = producer.claim()
            arrays = values(at_once(*[lambda slot=slot: slot.array] * THREADS))
            arrays[seq % THREADS][...] = payload(seq)
            slot.publish()
            assert check(consumer.get(0)) == seq
            assert all(array is arrays[0] for array in arrays)
            assert not arrays[0].flags.writeable


@pytest.mark.parametrize("held", [False, True], ids=["nothing-held", "frames-held"])
def test_close_in_the_middle_of_everything(make, held):
    """close() beside get, batch, array, release, close: errors are fine; the place is free afterwards."""
    ring = make(slots=8, consumers=2)
    fine = (shmring.RingClosed, shmring.HandleBusy, shmring.RingEmpty, shmring.SlotsHeld)
    with ring.producer(on_full="drop") as producer:
        for _ in range(ROUNDS):
            consumer = ring.consumer(start="next", lossless=False)
            feed(producer, 4)
            frames = [consumer.get(0)] if held else []

            def use(call):
                with contextlib.suppress(fine):
                    for _ in range(4):
                        call()

            values(
                at_once(
                    lambda use=use, consumer=consumer: use(lambda: check(consumer.get(0))),
                    lambda use=use, consumer=consumer: use(lambda: check_batch(consumer.batch(2, timeout=0))),
                    lambda consumer=consumer: patiently(consumer.close),
                    lambda consumer=consumer: patiently(consumer.close),
                    lambda frames=frames: [(check(frame), frame.release()) for frame in frames],
                )
            )
            assert consumer.closed
            frames.clear()
            wait_until(lambda: ring.stats().consumers == (), "the place is free")


def test_the_producer_closes_in_the_middle_of_puts(make):
    """Every put that returned True can be had; nothing else can."""
    for _ in range(40):
        ring = make(slots=64)
        producer = ring.producer(on_full="drop")
        with ring.consumer() as consumer:

            def put(producer=producer):
                done = 0
                with contextlib.suppress(shmring.RingClosed):
                    for _ in range(10):
                        done += patiently(lambda: producer.put(payload(0)))
                return done

            *puts, _ = values(at_once(*[put] * THREADS, lambda producer=producer: patiently(producer.close)))
            got = [frame.array.copy() for frame in consumer]
            assert len(got) == sum(puts) == producer.published
            assert all(np.array_equal(array, payload(0)) for array in got)
            assert [producer.closed, ring.stats().producer.state] == [True, "closed"]


# ---- many handles


def test_many_rings_with_many_consumers_in_threads(make):
    """Producers and consumers of several rings in a thread each share nothing but the process."""
    rings = [make(slots=4) for _ in range(3)]
    count = 600

    def produce(ring):
        with ring.producer() as producer:
            producer.wait_for_consumers(3, PATIENCE)
            return feed(producer, count)

    def consume(ring, lossless):
        with ring.consumer(lossless=lossless) as consumer:
            seqs = [check(frame) for frame in consumer]
            return len(seqs) + consumer.lost

    works = [lambda ring=ring: produce(ring) for ring in rings]
    works += [
        lambda ring=ring, kind=kind: consume(ring, kind) for ring in rings for kind in (True, True, False)
    ]
    assert values(at_once(*works)) == [count] * len(works)


def test_frames_of_many_rings_end_in_one_thread(make):
    """The thread that drops the last reference owns none of the handles."""
    rings = [make(slots=32) for _ in range(3)]
    dropped: queue.Queue = queue.Queue(8)

    def work(ring):
        with ring.producer() as producer, ring.consumer(lossless=False) as consumer:
            for seq in range(2 * ROUNDS):
                producer.put(payload(seq), timeout=PATIENCE)
                dropped.put(consumer.get(0))
            wait_until(lambda: consumer.held == 0, "every hold has ended")
            return consumer.delivered

    def drop():
        for _ in range(2 * ROUNDS * len(rings)):
            check(dropped.get(timeout=PATIENCE))

    assert values(at_once(drop, *[lambda ring=ring: work(ring) for ring in rings]))[1:] == [2 * ROUNDS] * len(
        rings
    )


def test_everyone_looks_while_handles_come_and_go(make):
    """Statistics, repr and observers of one Ring in threads, beside joins, leaves and takeovers."""
    ring = make(slots=4, consumers=8)
    done = threading.Event()

    def come_and_go():
        for _ in range(40):
            with ring.consumer(lossless=False) as consumer:
                repr(consumer)

    def take_over():
        for _ in range(40):
            with ring.producer(on_full="drop") as producer:
                feed(producer, 3)

    def look():
        published = 0
        with ring.observer() as observer:
            while not done.is_set():
                before, published = published, ring.stats().published
                assert before <= published
                assert "shmring" in repr(ring)
                with contextlib.suppress(shmring.RingEmpty, shmring.RingClosed):
                    check(observer.latest(0))
        return published

    watchers = [Running(look) for _ in range(2)]
    try:
        values(at_once(come_and_go, come_and_go, take_over))
    finally:
        done.set()
    values([watcher.end() for watcher in watchers])
    assert ring.stats().published == 120
    assert ring.stats().consumers == ()
