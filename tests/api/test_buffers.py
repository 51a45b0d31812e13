"""Buffers: several slots at once that a driver fills in order, while their addresses stay."""

import os
import pickle
import threading
from collections import deque

import numpy as np
import pytest

import shmring
from support.frames import WORDS, check, drain, feed, payload
from support.peers import hold, open_consumer, open_lossy_consumer, take, take_all
from support.processes import PeerError
from support.waiting import PATIENCE, unclosed, wait_asleep

BUFFERS = 3


class Driver:
    """Knows the buffers that it was given, and fills the oldest."""

    def __init__(self, producer, queue):
        self.producer, self.queue, self.queued = producer, queue, deque()

    def refill(self, timeout=PATIENCE):
        self.queued.extend(self.queue.refill(timeout))
        assert len(self.queued) == len(self.queue)
        return len(self.queue)

    def fill(self):
        """Fill the oldest buffer with what its seq demands, and write into the others, too."""
        addresses = [buffer.ctypes.data for buffer in self.queued]
        assert len(set(addresses)) == len(addresses)
        for i, buffer in enumerate(self.queued):
            buffer[...] = payload(self.producer.next_seq + i, buffer.shape)
        return self.queued.popleft()

    def put(self, **described):
        """Fill one and publish it, for the driver to get another one."""
        self.refill()
        assert self.fill() is self.queue.oldest
        return self.queue.publish(**described)

    def put_many(self, count):
        return sum(self.put() for _ in range(count))


@pytest.fixture
def ring(make):
    return make(slots=8)


# ---- in order, in place


def test_a_driver_fills_buffers_in_order(ring):
    with ring.producer() as producer, ring.consumer() as consumer, producer.buffers(BUFFERS) as queue:
        driver = Driver(producer, queue)
        assert (len(queue), queue.oldest) == (0, None)
        for seq in range(5 * ring.slots):
            assert driver.refill() == BUFFERS
            assert driver.put() is True
            assert check(consumer.get(0)) == seq
            assert len(queue) == BUFFERS - 1
        assert (producer.published, producer.dropped) == (5 * ring.slots, 0)


def test_a_buffer_keeps_its_address_and_content(ring):
    with ring.producer() as producer, ring.consumer() as consumer, producer.buffers(BUFFERS) as queue:
        first, second, third = queue.refill()
        addresses = [buffer.ctypes.data for buffer in (first, second, third)]
        assert len(set(addresses)) == BUFFERS
        assert all(buffer.flags.writeable and buffer.shape == (WORDS,) for buffer in (first, second, third))
        second[...] = payload(1)  # before its turn
        first[...] = payload(0)
        assert queue.oldest is first
        queue.publish()
        assert queue.oldest is second
        (fourth,) = queue.refill()
        assert [buffer.ctypes.data for buffer in (first, second, third)] == addresses
        assert fourth.ctypes.data not in addresses
        queue.publish()
        assert [check(consumer.get(0)) for _ in range(2)] == [0, 1]


def test_a_published_buffer_is_read_only(ring):
    with ring.producer() as producer, producer.buffers(BUFFERS) as queue:
        first, second, _ = queue.refill()
        first[...] = payload(0)
        queue.publish()
        assert not first.flags.writeable
        with pytest.raises(ValueError, match="cannot set WRITEABLE"):
            first.flags.writeable = True
        second[...] = 1


def test_buffers_are_adjacent_again_after_a_held_frame(ring):
    """So that batches are one piece of memory."""
    with ring.producer() as producer, ring.consumer() as consumer, producer.buffers(BUFFERS) as queue:
        driver = Driver(producer, queue)
        driver.put_many(1)
        held = consumer.get(0)
        for _ in range(2 * ring.slots):
            driver.put_many(1)
            check(consumer.get(0))
        assert check(held) == 0
        held.release()
        for _ in range(2 * ring.slots):
            driver.put_many(1)
            check(consumer.get(0))
        driver.put_many(4)
        assert len(consumer.batch(4)) == 4


def test_what_describes_a_frame(make):
    ring = make(slots=4, shape=(4, 512), meta=[("gain", "u4")], variable_rows=True)
    with ring.producer() as producer, ring.consumer() as consumer, producer.buffers(2) as queue:
        queue.refill()
        queue.oldest[...] = 7
        queue.publish(timestamp_ns=5, meta=(3,), rows=2)
        frame = consumer.get(0)
        assert (frame.timestamp_ns, frame.meta["gain"], frame.array.shape) == (5, 3, (2, 512))
        queue.publish()
        frame = consumer.get(0)
        assert frame.timestamp_ns > 5
        assert (frame.meta["gain"], frame.array.shape) == (0, (4, 512))


@pytest.mark.parametrize(
    ("described", "error", "words"),
    [
        ({"rows": 1}, ValueError, "variable_rows"),
        ({"meta": 1}, ValueError, "carries no meta"),
        ({"timestamp_ns": "now"}, TypeError, "whole number of nanoseconds"),
        ({"timestamp_ns": 1 << 70}, OverflowError, "64 bits"),
    ],
)
def test_a_wrong_description_publishes_nothing(ring, described, error, words):
    with ring.producer() as producer, ring.consumer() as consumer, producer.buffers(BUFFERS) as queue:
        driver = Driver(producer, queue)
        driver.refill()
        with pytest.raises(error, match=words):
            queue.publish(**described)
        assert consumer.try_get() is None
        assert driver.put_many(1) == 1
        assert check(consumer.get(0)) == 0


def test_the_slots_of_the_ring_and_its_spares_are_all_the_addresses_there_are(make):
    """A driver that has to announce a buffer does so at its first turn."""
    ring = make(slots=4, spares=2)
    announced = set()
    with ring.producer() as producer, ring.consumer() as consumer, producer.buffers(2) as queue:
        driver = Driver(producer, queue)
        held = deque()
        for _ in range(100):
            driver.put_many(1)
            driver.refill()
            announced.update(buffer.ctypes.data for buffer in driver.queued)
            held.append(consumer.get(0))
            if len(held) == 2:
                check(held.popleft())
        assert len(announced) <= ring.slots + ring.spares


# ---- a damaged buffer


def test_a_damaged_buffer_is_a_lost_frame_and_used_again(ring):
    with ring.producer() as producer, ring.consumer() as consumer, producer.buffers(BUFFERS) as queue:
        driver = Driver(producer, queue)
        driver.put_many(1)
        driver.refill()
        damaged = driver.fill()
        address = damaged.ctypes.data
        queue.drop()
        assert not damaged.flags.writeable
        assert len(queue) == BUFFERS - 1
        assert driver.refill() == BUFFERS
        assert driver.queued[-1].ctypes.data == address
        assert (producer.dropped, producer.next_seq) == (1, 2)
        driver.put_many(3)
        assert drain(consumer) == [0, 2, 3, 4]
        assert consumer.lost == 1


def test_all_buffers_are_damaged_in_turn(ring):
    with ring.producer() as producer, ring.consumer() as consumer, producer.buffers(BUFFERS) as queue:
        driver = Driver(producer, queue)
        driver.refill()
        addresses = [buffer.ctypes.data for buffer in driver.queued]
        for _ in range(BUFFERS):
            driver.fill()
            queue.drop()
        driver.refill()
        assert [buffer.ctypes.data for buffer in driver.queued] == addresses
        driver.put_many(1)
        assert check(consumer.get(0)) == BUFFERS


@pytest.mark.parametrize("end", ["publish", "drop"])
def test_nothing_ends_that_the_driver_does_not_have(ring, end):
    with ring.producer() as producer, ring.consumer() as consumer, producer.buffers(BUFFERS) as queue:
        with pytest.raises(ValueError, match="the driver has no buffer; call refill"):
            getattr(queue, end)()
        driver = Driver(producer, queue)
        driver.put_many(1)
        assert check(consumer.get(0)) == 0


# ---- the end


@pytest.mark.event("the producer raises inside buffers()")
@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_an_exception_in_the_block_aborts_what_is_not_published(ring, kind):
    buffers = []

    def grab():
        with producer.buffers(BUFFERS) as queue:
            driver = Driver(producer, queue)
            driver.put_many(2)
            driver.refill()
            buffers.append(driver.fill())
            raise kind

    with ring.producer() as producer, ring.consumer() as consumer:
        with pytest.raises(kind):
            grab()
        assert not buffers[0].flags.writeable
        assert drain(consumer) == [0, 1]
        assert producer.next_seq == 2
        feed(producer, ring.slots)  # every slot is there
        assert drain(consumer) == list(range(2, 2 + ring.slots))


def test_at_the_end_of_the_block_the_others_go_back(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        for _ in range(3):
            with producer.buffers(BUFFERS) as queue:
                Driver(producer, queue).put_many(1)
                buffers = queue.refill()
            assert all(not buffer.flags.writeable for buffer in buffers)
            assert (len(queue), queue.oldest) == (0, None)
            feed(producer, 1)
        assert drain(consumer) == list(range(6))


def test_what_was_given_back_cannot_be_used(ring):
    with ring.producer() as producer:
        queue = producer.buffers(BUFFERS)
        queue.refill()
        queue.close()
        queue.close()
        for call in (queue.refill, queue.publish, queue.drop):
            with pytest.raises(ValueError, match="given back; call buffers"):
                call()
        with producer.buffers(BUFFERS) as other:
            buffers = other.refill()
            with pytest.raises(ValueError, match="given back"):
                queue.publish()
            queue.close()  # not the other's
            assert len(other) == BUFFERS
            assert all(buffer.flags.writeable for buffer in buffers)


def test_buffers_that_are_dropped_go_back(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        with unclosed("Buffers"):
            buffers = producer.buffers(BUFFERS).refill()
        assert all(not buffer.flags.writeable for buffer in buffers)
        feed(producer, 1)
        assert check(consumer.get(0)) == 0


def test_closing_the_producer_gives_them_back(ring):
    with ring.consumer() as consumer:
        producer = ring.producer()
        queue = producer.buffers(BUFFERS)
        Driver(producer, queue).put_many(1)
        buffers = queue.refill()
        producer.close()
        assert all(not buffer.flags.writeable for buffer in buffers)
        for call in (queue.refill, queue.publish, queue.drop):
            with pytest.raises(shmring.RingClosed):
                call()
        queue.close()
        assert [check(frame) for frame in consumer] == [0]
    with ring.producer() as producer, producer.buffers(BUFFERS) as queue:
        assert Driver(producer, queue).put_many(1) == 1


def test_abandoning_the_producer_gives_them_back(ring):
    with ring.consumer() as consumer:
        producer = ring.producer()
        queue = producer.buffers(BUFFERS)
        queue.refill()
        producer.abandon()
        with pytest.raises(shmring.RingClosed):
            queue.publish()
        with pytest.raises(shmring.ProducerDied):
            consumer.get(0)


def test_the_arrays_outlive_the_ring(make):
    ring = make(slots=8)
    with ring.producer() as producer, producer.buffers(BUFFERS) as queue:
        buffers = queue.refill()
        buffers[2][...] = payload(2)
    ring.unlink()
    ring.close()
    assert np.array_equal(buffers[2], payload(2))


# ---- one thing at a time


def test_nothing_else_is_published_meanwhile(ring):
    with ring.producer() as producer, producer.buffers(BUFFERS):
        for call in (
            producer.claim,
            producer.drop,
            lambda: producer.put(payload(0)),
            lambda: producer.put_many([payload(0)]),
            lambda: producer.buffers(2),
        ):
            with pytest.raises(ValueError, match="a driver has buffers of this Producer"):
                call()


def test_no_buffers_while_a_claim_is_open(ring):
    with ring.producer() as producer, producer.claim() as slot:
        with pytest.raises(ValueError, match="a claimed slot is open"):
            producer.buffers(BUFFERS)
        slot.abort()


@pytest.mark.parametrize("n", [0, -1])
def test_at_least_one(ring, n):
    with ring.producer() as producer, pytest.raises(ValueError, match="at least 1"):
        producer.buffers(n)


@pytest.mark.parametrize("n", [1.5, True, None, "4"])
def test_a_number(ring, n):
    with ring.producer() as producer, pytest.raises(TypeError, match="n must be an int"):
        producer.buffers(n)


@pytest.mark.parametrize("n", [8, 9, 1 << 70])
def test_fewer_than_the_ring_has_slots(ring, n):
    with ring.producer() as producer:
        with pytest.raises(ValueError, match=rf"less than the 8 slots.*slots={n + 1}"):
            producer.buffers(n)
        with producer.buffers(7) as queue:
            assert len(queue.refill()) == 7


def test_repr_and_pickle(ring):
    with ring.producer() as producer:
        with producer.buffers(BUFFERS) as queue:
            queue.refill()
            queue.publish()
            assert f"{ring.name!r}, the driver has 2 of 3" in repr(queue)
            with pytest.raises(TypeError, match=r"ring.producer\(\)"):
                pickle.dumps(queue)
        assert "given back" in repr(queue)


# ---- a full ring


def test_a_full_ring_leaves_the_driver_fewer_buffers(ring):
    with ring.producer() as producer, ring.consumer() as consumer, producer.buffers(BUFFERS) as queue:
        driver = Driver(producer, queue)
        left = []
        for _ in range(ring.slots):
            driver.put()
            left.append(len(queue))
        assert left == [2, 2, 2, 2, 2, 2, 1, 0]
        with pytest.raises(shmring.RingFull, match="consumer"):
            queue.refill(0)
        check(consumer.get(0))
        assert driver.refill() == 1
        assert [check(consumer.get(0)) for _ in range(4)] == [1, 2, 3, 4]
        assert driver.refill() == BUFFERS
        assert driver.put_many(1) == 1
        assert drain(consumer) == [5, 6, 7, 8]


def test_a_driver_without_buffers_sleeps_until_there_is_space(ring, peer):
    other = peer(ring)
    other.run(open_consumer)
    with ring.producer() as producer, producer.buffers(BUFFERS) as queue:
        driver = Driver(producer, queue)
        driver.put_many(ring.slots)
        found = []
        thread = threading.Thread(target=lambda: found.append(driver.refill(None)))
        thread.start()
        wait_asleep(os.getpid(), thread.native_id)
        assert other.run(take) == 0
        thread.join()
        assert found == [1]
        driver.put_many(1)
        other.run(take_all)


def test_a_wait_that_only_this_thread_could_end(ring):
    with ring.producer() as producer, ring.consumer() as consumer, producer.buffers(BUFFERS) as queue:
        driver = Driver(producer, queue)
        driver.put_many(ring.slots)
        with pytest.raises(shmring.SlotsHeld):
            queue.refill()
        check(consumer.get(0))
        assert driver.refill() == 1


def test_closed_by_another_thread_while_it_waits(ring):
    with ring.consumer() as consumer:
        producer = ring.producer()
        queue = producer.buffers(BUFFERS)
        Driver(producer, queue).put_many(ring.slots)
        caught = []

        def wait():
            with pytest.raises(shmring.RingClosed) as error:
                queue.refill(PATIENCE)
            caught.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        wait_asleep(os.getpid(), thread.native_id)
        with pytest.raises(shmring.HandleBusy):
            queue.publish()
        producer.close()
        thread.join()
        assert len(caught) == 1
        assert [check(frame) for frame in consumer] == list(range(ring.slots))


def test_on_full_raise_never_waits(ring):
    with (
        ring.producer(on_full="raise") as producer,
        ring.consumer() as consumer,
        producer.buffers(BUFFERS) as queue,
    ):
        driver = Driver(producer, queue)
        driver.put_many(ring.slots)
        with pytest.raises(shmring.RingFull):
            queue.refill()
        check(consumer.get(0))
        assert driver.refill() == 1


def test_on_full_drop_never_takes_a_buffer_away(ring):
    with (
        ring.producer(on_full="drop") as producer,
        ring.consumer() as consumer,
        producer.buffers(BUFFERS) as queue,
    ):
        driver = Driver(producer, queue)
        kept = []
        for _ in range(2 * ring.slots):
            kept.append(driver.put())
            assert driver.refill() == BUFFERS
        published = ring.slots - BUFFERS
        assert kept == [True] * published + [False] * (len(kept) - published)
        assert producer.dropped == len(kept) - published
        assert drain(consumer) == list(range(published))
        assert driver.put() is True
        assert drain(consumer) == [2 * ring.slots]
        assert consumer.lost == len(kept) - published


def test_on_full_drop_without_a_refill_between(ring):
    """Published and dropped buffers come back in the right order."""
    with (
        ring.producer(on_full="drop") as producer,
        ring.consumer() as consumer,
        producer.buffers(7) as queue,
    ):
        driver = Driver(producer, queue)
        driver.refill()
        results = []
        for _ in range(4):
            driver.fill()
            results.append(queue.publish())
        assert results == [True, False, False, False]
        assert driver.refill() == 7
        drain(consumer)
        for seq in range(4, 20):
            assert driver.put() is True
            assert check(consumer.get(0)) == seq


def test_on_full_drop_waits_for_a_first_buffer(ring):
    with ring.consumer() as consumer:
        with ring.producer() as producer:
            feed(producer, ring.slots)
        with ring.producer(on_full="drop") as producer, producer.buffers(BUFFERS) as queue:
            with pytest.raises(shmring.RingFull):
                queue.refill(0)
            check(consumer.get(0))
            driver = Driver(producer, queue)
            assert driver.refill() == 1
            assert driver.put() is False
            assert drain(consumer) == list(range(1, ring.slots))
            assert driver.put() is True


@pytest.mark.parametrize("on_full", ["wait", "drop", "raise"])
def test_a_dead_consumer_gives_its_slots_to_the_driver(ring, peer, on_full):
    other = peer(ring)
    other.run(open_consumer)
    with ring.producer(on_full=on_full) as producer, producer.buffers(BUFFERS) as queue:
        driver = Driver(producer, queue)
        driver.put_many(ring.slots - BUFFERS)
        other.run(hold, 2)
        driver.refill()
        other.kill()
        # At the latest once it looks again: every 10 ms, or when no buffer is left.
        while not producer.published > 3 * ring.slots:
            driver.put()
        assert driver.refill() == BUFFERS


# ---- others beside it


def test_a_viewer_that_holds_frames_costs_no_buffer(make):
    ring = make(slots=8, spares=2)
    with (
        ring.producer() as producer,
        ring.consumer(lossless=False) as viewer,
        producer.buffers(BUFFERS) as queue,
    ):
        driver = Driver(producer, queue)
        driver.put_many(1)
        held = [viewer.latest()]
        driver.put_many(3)
        held.append(viewer.latest())
        for _ in range(4 * ring.slots):
            assert driver.refill() == BUFFERS
            driver.put()
        assert [check(frame) for frame in held] == [0, 3]
        assert ring.stats().swaps == 0
        held.clear()
        driver.put_many(1)
        assert check(viewer.latest()) == producer.next_seq - 1


def test_held_frames_are_passed_round(ring, peer):
    """Without spare slots: by swaps, none of which moves a buffer that the driver has."""
    other = peer(ring)
    other.run(open_lossy_consumer)
    with ring.producer() as producer, ring.consumer() as consumer, producer.buffers(BUFFERS) as queue:
        driver = Driver(producer, queue)
        driver.put_many(2)
        other.run(hold, 2)
        held = [consumer.get(0)]
        check(consumer.get(0))
        for seq in range(2, 4 * ring.slots):
            driver.refill()
            addresses = [buffer.ctypes.data for buffer in list(driver.queued)[1:]]
            driver.put()
            assert [buffer.ctypes.data for buffer in driver.queued] == addresses
            assert check(consumer.get(0)) == seq
        assert check(held[0]) == 0
        assert ring.stats().swaps > 0


def test_a_newcomer_starts_behind_the_buffers(ring):
    with ring.producer() as producer, producer.buffers(BUFFERS) as queue:
        driver = Driver(producer, queue)
        driver.put_many(2 * ring.slots)
        driver.refill()
        with ring.consumer(start="oldest") as consumer:
            driver.put_many(BUFFERS)
            assert drain(consumer) == list(range(ring.slots + BUFFERS, 2 * ring.slots + BUFFERS))
            assert consumer.lost == 0


def test_members_share_what_a_driver_fills(ring):
    with (
        ring.producer() as producer,
        ring.consumer(group="workers") as one,
        ring.consumer(group="workers") as two,
        producer.buffers(BUFFERS) as queue,
    ):
        driver = Driver(producer, queue)
        seqs = []
        for _ in range(2 * ring.slots):
            driver.put_many(2)
            seqs += [check(one.get(0)), check(two.get(0))]
        assert seqs == list(range(4 * ring.slots))


def test_a_killed_producer_leaves_what_it_published(ring, fork):
    with ring.consumer() as consumer:

        def work(send):
            producer = ring.producer()
            queue = producer.buffers(BUFFERS)
            driver = Driver(producer, queue)
            driver.put_many(2)
            driver.refill()
            queue.drop()
            send("ready")
            threading.Event().wait()

        child = fork(work)
        assert child.receive() == "ready"
        child.kill()
        with ring.producer() as producer, producer.buffers(BUFFERS) as queue:
            Driver(producer, queue).put_many(2)
            assert drain(consumer) == [0, 1, 3, 4]


# ---- forks


def test_a_child_cannot_use_its_parents_buffers(ring, fork):
    with ring.producer() as producer, ring.consumer() as consumer, producer.buffers(BUFFERS) as queue:
        buffers = queue.refill()
        buffers[0][...] = payload(0)

        def work(send):
            assert np.array_equal(buffers[0], payload(0))
            with pytest.raises(ValueError, match="read-only"):
                buffers[1][...] = 1
            queue.close()
            send("read-only")
            queue.publish()

        child = fork(work)
        assert child.receive() == "read-only"
        with pytest.raises(PeerError, match="opened before a fork") as caught:
            child.receive()
        assert caught.value.kind == "ForkedHandle"
        queue.publish()
        assert check(consumer.get(0)) == 0
