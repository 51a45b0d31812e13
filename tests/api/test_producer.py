"""Producer and Slot: put, claim, publish, abort, what happens when the ring is full, one producer only."""

import contextlib
import os
import re
import threading
import time

import numpy as np
import pytest

import shmring
from shmring import _claims
from support.frames import WORDS, check, drain, feed, fill, payload
from support.peers import open_consumer, open_producer, take, take_to_the_end
from support.processes import PeerError
from support.waiting import PATIENCE, settle, unclosed, wait_asleep, wait_until


def test_put_publishes_a_copy(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        source = payload(0).copy()
        assert producer.put(source) is True
        source[...] = 0
        frame = consumer.get(0)
        assert check(frame) == 0
        assert (producer.published, producer.next_seq, producer.dropped) == (1, 1, 0)


def test_seq_counts_from_0_in_order(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        for seq in range(5 * ring.slots):
            assert producer.next_seq == seq
            feed(producer, 1)
            assert check(consumer.get(0)) == seq


def test_claim_writes_in_place_and_publishes_at_the_end(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        with producer.claim() as slot:
            assert (slot.count, slot.seq, slot.dropped) == (1, 0, False)
            assert slot.array.shape == (WORDS,)
            assert slot.array.dtype == np.dtype("u8")
            assert slot.array.flags.writeable
            assert slot.array.flags.c_contiguous
            slot.array[...] = payload(0)
            assert consumer.try_get() is None
            assert producer.published == 0
        assert check(consumer.get(0)) == 0
        assert producer.published == 1


def test_claim_without_with(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        slot = producer.claim()
        slot.array[...] = payload(slot.seq)
        slot.publish()
        assert check(consumer.get(0)) == 0
        slot = producer.claim()
        slot.array[...] = 7
        slot.abort()
        assert consumer.try_get() is None
        feed(producer, 1)
        assert check(consumer.get(0)) == 1


@pytest.mark.event("the producer raises inside claim()")
@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_exception_inside_claim_aborts_the_frame(ring, kind):
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 1)

        def half_write():
            with producer.claim() as slot:
                kept.append(slot.array)
                slot.array[:100] = 1
                raise kind

        kept = []
        with pytest.raises(kind):
            half_write()
        assert not kept[0].flags.writeable
        assert (producer.published, producer.next_seq, producer.dropped) == (1, 1, 0)
        feed(producer, 2)
        assert drain(consumer) == [0, 1, 2]
        assert consumer.lost == 0


def test_aborted_claims_cost_no_depth(ring):
    with ring.producer(on_full="raise") as producer, ring.consumer() as consumer:
        for _ in range(3 * ring.slots):
            with pytest.raises(ZeroDivisionError), producer.claim():
                1 / 0  # noqa: B018
        feed(producer, ring.slots)
        assert drain(consumer) == list(range(ring.slots))


def test_a_slot_that_is_dropped_unpublished_is_aborted(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        slot = producer.claim()
        slot.array[...] = 1
        del slot
        settle()
        feed(producer, 1)
        assert drain(consumer) == [0]


def test_closing_the_producer_aborts_what_is_claimed(ring):
    with ring.consumer() as consumer:
        producer = ring.producer()
        feed(producer, 1)
        slot = producer.claim()
        slot.array[...] = 1
        producer.close()
        with pytest.raises((ValueError, shmring.ShmringError)):
            slot.publish()
        assert [check(frame) for frame in consumer] == [0]


@pytest.mark.event("the producer keeps slot.array after publishing")
@pytest.mark.parametrize("how", ["publish", "abort", "with"])
def test_the_array_of_a_slot_turns_read_only(ring, how):
    with ring.producer() as producer, ring.consumer() as consumer:
        if how == "with":
            with producer.claim() as slot:
                kept = slot.array
                kept[...] = payload(slot.seq)
        else:
            slot = producer.claim()
            kept = slot.array
            kept[...] = payload(slot.seq)
            getattr(slot, how)()
        assert not kept.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            kept[0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            kept.setflags(write=True)
        assert not slot.array.flags.writeable
        if how != "abort":
            assert check(consumer.get(0)) == 0


def test_the_array_is_one_object_while_claimed(ring):
    with ring.producer() as producer, producer.claim() as slot:
        assert slot.array is slot.array
        slot.array[...] = payload(0)


def test_a_slot_ends_once(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        slot = producer.claim()
        slot.array[...] = payload(0)
        slot.publish()
        with pytest.raises((ValueError, RuntimeError)):
            slot.publish()
        with contextlib.suppress(ValueError, RuntimeError):
            slot.abort()
        assert drain(consumer) == [0]
        assert producer.published == 1


def test_publish_inside_the_with_is_enough(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        with producer.claim() as slot:
            fill(slot)
            slot.publish()
        with producer.claim() as slot:
            slot.abort()
        assert drain(consumer) == [0]
        assert producer.published == 1


def test_one_claim_at_a_time(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        with producer.claim() as slot:
            fill(slot)
            with pytest.raises((ValueError, RuntimeError)):
                producer.claim(timeout=0)
            with pytest.raises((ValueError, RuntimeError)):
                producer.put(payload(1), timeout=0)
        feed(producer, 1)
        assert drain(consumer) == [0, 1]


# ---- several frames at once


def test_a_claim_of_several_is_one_array(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        with producer.claim(3) as slot:
            assert slot.count == 3
            assert slot.array.shape == (3, WORDS)
            assert slot.array.flags.c_contiguous
            assert slot.seq == 0
            fill(slot)
        assert (producer.published, producer.next_seq) == (3, 3)
        assert drain(consumer) == [0, 1, 2]


def test_a_claim_of_several_crosses_the_wrap_in_one_piece(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        for _ in range(4 * ring.slots):
            with producer.claim(3) as slot:
                assert slot.count == 3
                assert slot.array.flags.c_contiguous
                fill(slot)
            assert len(drain(consumer)) == 3
        assert consumer.delivered == 12 * ring.slots
        assert consumer.lost == 0


def test_a_claim_of_several_gives_what_there_is(ring):
    with ring.producer(on_full="raise") as producer, ring.consumer() as consumer:
        feed(producer, ring.slots - 1)
        with producer.claim(3) as slot:
            assert slot.count == 1
            assert slot.array.shape == (1, WORDS)
            slot.array[0] = payload(slot.seq)
        with pytest.raises(shmring.RingFull):
            producer.claim(3)
        assert drain(consumer) == list(range(ring.slots))


def test_part_of_a_claim_can_be_published(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        slot = producer.claim(3)
        slot.array[:2] = [payload(0), payload(1)]
        slot.publish(2)
        assert (producer.published, producer.next_seq) == (2, 2)
        feed(producer, 1)
        assert drain(consumer) == [0, 1, 2]
        assert consumer.lost == 0


@pytest.mark.parametrize("count", [-1, 4, "2"])
def test_publishing_more_than_was_claimed_is_refused(ring, count):
    with ring.producer() as producer, ring.consumer() as consumer:
        slot = producer.claim(3)
        with pytest.raises((ValueError, TypeError)):
            slot.publish(count)
        slot.abort()
        assert drain(consumer) == []


@pytest.mark.parametrize("n", [0, -1, "2", 1.5])
def test_a_claim_is_of_one_or_more(ring, n):
    with ring.producer() as producer, pytest.raises((ValueError, TypeError)):
        producer.claim(n)


def test_put_many(ring):
    frames = np.stack([payload(seq) for seq in range(ring.slots)])
    with ring.producer() as producer, ring.consumer() as consumer:
        assert producer.put_many(frames) == ring.slots
        assert drain(consumer) == list(range(ring.slots))
        assert producer.put_many(frames[:0]) == 0
        assert producer.published == ring.slots


def test_put_many_of_more_than_the_ring_holds_waits_for_space(ring):
    count = 5 * ring.slots
    frames = np.stack([payload(seq) for seq in range(count)])
    with ring.producer() as producer, ring.consumer() as consumer:
        result = []
        thread = threading.Thread(target=lambda: result.append(producer.put_many(frames)))
        thread.start()
        seqs = [check(consumer.get(10)) for _ in range(count)]
        thread.join()
        assert result == [count]
        assert seqs == list(range(count))


def test_put_many_drops_what_does_not_fit(ring):
    frames = np.stack([payload(seq) for seq in range(ring.slots + 3)])
    with ring.producer(on_full="drop") as producer, ring.consumer() as consumer:
        assert producer.put_many(frames) == ring.slots
        assert (producer.dropped, producer.next_seq) == (3, ring.slots + 3)
        assert drain(consumer) == list(range(ring.slots))
        assert feed(producer, 1) == 1
        frame = consumer.get(0)
        assert check(frame) == ring.slots + 3
        assert frame.lost == 3


def test_put_many_with_timestamps_and_metas(make):
    ring = make(meta="i8")
    frames = np.stack([payload(seq) for seq in range(3)])
    with ring.producer() as producer, ring.consumer() as consumer:
        assert producer.put_many(frames, timestamps_ns=[10, 20, 30], metas=[-1, -2, -3]) == 3
        got = [consumer.get(0) for _ in range(3)]
        assert [frame.timestamp_ns for frame in got] == [10, 20, 30]
        assert [int(frame.meta) for frame in got] == [-1, -2, -3]
        for wrong in ({"timestamps_ns": [1, 2]}, {"metas": [1, 2, 3, 4]}):
            with pytest.raises(ValueError, match="3"):
                producer.put_many(frames, **wrong)
        assert producer.published == 3


# ---- the wrong thing


@pytest.mark.event("the wrong shape or dtype is put")
@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (np.zeros((4, 5), "f4"), ["(4, 5)", "(4, 6)"]),
        (np.zeros((4, 6, 1), "f4"), ["(4, 6, 1)", "(4, 6)"]),
        (np.zeros((1, 6), "f4"), ["(1, 6)", "(4, 6)"]),  # would broadcast
        (np.zeros((6,), "f4"), ["(6,)", "(4, 6)"]),  # would broadcast
        (np.float32(1), ["()", "(4, 6)"]),  # would broadcast
        (np.zeros((4, 6), "f8"), ["float64", "float32"]),
        (np.zeros((4, 6), "i4"), ["int32", "float32"]),
        (np.zeros((4, 6), "f2"), ["float16", "float32"]),
        (np.zeros((4, 6), ">f4"), [">f4", "float32"]),
        (np.zeros((4, 6), "u1"), ["uint8", "float32"]),
    ],
    ids=lambda value: f"{value.dtype.str}{value.shape}" if isinstance(value, np.generic | np.ndarray) else "",
)
def test_the_wrong_shape_or_dtype_is_refused_by_name(make, wrong, named):
    ring = make(shape=(4, 6), dtype="f4")
    with ring.producer() as producer, ring.consumer() as consumer:
        with pytest.raises(ValueError, match=re.escape(named[0])) as caught:
            producer.put(wrong)
        assert named[1] in str(caught.value)
        with pytest.raises(ValueError, match=re.escape(named[1].strip("()"))):
            producer.put_many(np.broadcast_to(wrong, (2, *wrong.shape)))
        assert (producer.published, producer.next_seq, producer.dropped) == (0, 0, 0)
        assert consumer.try_get() is None
        right = np.arange(24, dtype="f4").reshape(4, 6)
        assert producer.put(right)
        assert np.array_equal(consumer.get(0).array, right)


def test_casting_is_done_when_asked_for(make):
    ring = make(shape=(4,), dtype="f4")
    with ring.producer() as producer, ring.consumer() as consumer:
        values = np.array([1, 2, 3, 4], "f8")
        with pytest.raises(ValueError, match="float64"):
            producer.put(values, casting="safe")
        producer.put(values, casting="same_kind")
        producer.put(values.astype("i8"), casting="unsafe")
        producer.put(values.astype(">f4"), casting="equiv")
        for _ in range(3):
            frame = consumer.get(0)
            assert frame.array.dtype == np.dtype("f4")
            assert frame.array.tolist() == [1, 2, 3, 4]
        with pytest.raises(ValueError, match="shape"):
            producer.put(np.zeros(5), casting="unsafe")  # no broadcast, whatever the casting
        with pytest.raises(ValueError, match="casting"):
            producer.put(values, casting="bogus")
        assert producer.put_many(np.stack([values, values]), casting="unsafe") == 2


def test_any_strides_can_be_put(make):
    ring = make(shape=(6, 4), dtype="i4")
    big = np.arange(240, dtype="i4").reshape(10, 24)
    views = [
        big.reshape(24, 10)[::4, :8:2],
        big[:4, :6].T,
        big[9:3:-1, 3:-1:5],
        np.asfortranarray(big[:6, :4]),
    ]
    with ring.producer() as producer, ring.consumer() as consumer:
        for view in views:
            assert view.shape == (6, 4)
            producer.put(view)
            assert np.array_equal(consumer.get(0).array, view)


def test_put_takes_anything_that_is_an_array(make):
    ring = make(shape=(3,), dtype="f8")
    with ring.producer() as producer, ring.consumer() as consumer:
        producer.put(memoryview(np.array([1.0, 2.0, 3.0])))
        assert consumer.get(0).array.tolist() == [1, 2, 3]
        producer.put([4.0, 5.0, 6.0])
        frame = consumer.get(0)
        assert frame.array.tolist() == [4, 5, 6]
        producer.put(frame)  # from one ring to the next, or back
        assert consumer.get(0).array.tolist() == [4, 5, 6]


@pytest.mark.parametrize("words", [1, 7, 8, 9, 63, 64, 511, 512, 4096, 65537, 3_000_001])
def test_every_size_is_copied_exactly(make, words):
    ring = make(shape=(words,), slots=2)
    with ring.producer() as producer, ring.consumer() as consumer:
        for seq in range(5):
            producer.put(payload(seq, (words,)))
            frame = consumer.get(0)
            assert check(frame) == seq
            frame.release()


@pytest.mark.parametrize("nbytes", [1, 2, 3, 15, 17, 31, 33, 63, 65, 127, 129, 4095, 4097, 70001])
def test_odd_sizes_touch_no_neighbour(make, nbytes):
    ring = make(shape=(nbytes,), dtype="u1", slots=3)
    with ring.producer() as producer, ring.consumer() as consumer:
        for seq in range(3):
            producer.put(np.full(nbytes, seq + 1, "u1"))
        frames = [consumer.get(0) for _ in range(3)]
        assert [set(frame.array.tolist()) for frame in frames] == [{1}, {2}, {3}]


@pytest.mark.parametrize("offset", [0, 1, 3, 8])
def test_an_unaligned_source_is_copied(make, offset):
    ring = make(shape=(1000,), dtype="u1")
    source = np.frombuffer(os.urandom(1100), "u1")[offset : offset + 1000]
    with ring.producer() as producer, ring.consumer() as consumer:
        producer.put(source)
        assert np.array_equal(consumer.get(0).array, source)


# ---- full


def test_on_full_raise(ring):
    with ring.producer(on_full="raise") as producer, ring.consumer() as consumer:
        assert producer.on_full == "raise"
        feed(producer, ring.slots)
        for _ in range(3):
            with pytest.raises(shmring.RingFull):
                producer.put(payload(99))
            with pytest.raises(shmring.RingFull):
                producer.claim()
        assert (producer.published, producer.next_seq, producer.dropped) == (ring.slots, ring.slots, 0)
        consumer.get(0).release()
        feed(producer, 1)
        assert drain(consumer) == list(range(1, ring.slots + 1))
        assert consumer.lost == 0


def test_on_full_drop_is_a_visible_gap(ring):
    with ring.producer(on_full="drop") as producer, ring.consumer() as consumer:
        assert feed(producer, ring.slots) == ring.slots
        for dropped in range(1, 4):
            assert producer.put(payload(0)) is False
            assert (producer.published, producer.dropped) == (ring.slots, dropped)
            assert producer.next_seq == ring.slots + dropped
        assert drain(consumer) == list(range(ring.slots))
        assert consumer.lost == 0  # nobody knows yet
        feed(producer, 2)
        first, second = consumer.get(0), consumer.get(0)
        assert (check(first), first.lost) == (ring.slots + 3, 3)
        assert (check(second), second.lost) == (ring.slots + 4, 0)
        assert consumer.lost == 3


def test_a_dropped_claim_is_scratch_memory(ring):
    with ring.producer(on_full="drop") as producer, ring.consumer() as consumer:
        feed(producer, ring.slots)
        with producer.claim() as slot:
            assert slot.dropped
            assert slot.seq == ring.slots
            assert slot.count == 1
            assert slot.array.shape == (WORDS,)
            assert slot.array.dtype == np.dtype("u8")
            slot.array[...] = 1  # must harm nobody
            slot.timestamp_ns = 5
        assert (producer.dropped, producer.published) == (1, ring.slots)
        assert drain(consumer) == list(range(ring.slots))
        with producer.claim() as slot:
            assert not slot.dropped
            assert slot.seq == ring.slots + 1
            fill(slot)
        assert drain(consumer) == [ring.slots + 1]
        assert consumer.lost == 1


def test_on_full_wait_gives_up_after_the_timeout(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        assert producer.on_full == "wait"
        feed(producer, ring.slots)
        for timeout in (0, 0.01):
            with pytest.raises(shmring.RingFull):
                producer.put(payload(99), timeout=timeout)
            with pytest.raises(TimeoutError):
                producer.claim(timeout=timeout)
        assert (producer.published, producer.next_seq, producer.dropped) == (ring.slots, ring.slots, 0)
        assert drain(consumer) == list(range(ring.slots))


def test_on_full_wait_goes_on_when_there_is_space(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, ring.slots)
        thread = threading.Thread(target=feed, args=(producer, 2))
        thread.start()
        wait_asleep(os.getpid(), thread.native_id)
        assert producer.published == ring.slots
        consumer.get(0).release()
        wait_until(lambda: ring.stats().published == ring.slots + 1)
        consumer.get(0).release()
        thread.join()
        assert drain(consumer) == list(range(2, ring.slots + 2))


def test_nobody_there_holds_nobody_back(ring):
    with ring.producer(on_full="raise") as producer:
        assert feed(producer, 10 * ring.slots) == 10 * ring.slots


@pytest.mark.parametrize("on_full", ["block", "", None, 1])
def test_an_unknown_on_full_is_refused(ring, on_full):
    with pytest.raises((ValueError, TypeError), match="on_full"):
        ring.producer(on_full=on_full)
    with ring.producer():
        pass


# ---- timestamps


def test_a_timestamp_is_taken_at_publish(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        slack = 20_000_000  # a coarse clock will do
        before = time.monotonic_ns()
        feed(producer, 1)
        with producer.claim() as slot:
            fill(slot)
        after = time.monotonic_ns()
        first, second = consumer.get(0), consumer.get(0)
        assert before - slack <= first.timestamp_ns <= second.timestamp_ns <= after


@pytest.mark.parametrize("timestamp", [0, 1, 1_700_000_000_000_000_000, 2**63 - 1])
def test_a_given_timestamp_is_kept(ring, timestamp):
    with ring.producer() as producer, ring.consumer() as consumer:
        producer.put(payload(0), timestamp_ns=timestamp)
        with producer.claim() as slot:
            fill(slot)
            slot.timestamp_ns = timestamp
            assert slot.timestamp_ns == timestamp
        assert [consumer.get(0).timestamp_ns for _ in range(2)] == [timestamp] * 2


def test_a_claim_of_several_takes_a_timestamp_each(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        with producer.claim(3) as slot:
            fill(slot)
            slot.timestamp_ns = [7, 8, 9]
            with pytest.raises(ValueError, match="3"):
                slot.timestamp_ns = [1, 2]
        assert [consumer.get(0).timestamp_ns for _ in range(3)] == [7, 8, 9]


@pytest.mark.parametrize("timestamp", ["now", 1.5, 2**64, -(2**64)])
def test_a_timestamp_is_a_64_bit_integer(ring, timestamp):
    with ring.producer() as producer, ring.consumer() as consumer:
        with pytest.raises((TypeError, ValueError, OverflowError)):
            producer.put(payload(0), timestamp_ns=timestamp)
        assert drain(consumer) == []
        feed(producer, 1)
        assert drain(consumer) == [0]


@pytest.mark.parametrize("timestamp", ["now", 1.5, 2**64, -(2**64), None, [1]])
def test_a_bad_timestamp_of_a_slot_does_not_jam_the_producer(ring, timestamp):
    with ring.producer() as producer, ring.consumer() as consumer:
        slot = producer.claim()
        slot.array[...] = payload(0)
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            slot.timestamp_ns = timestamp
            slot.publish()
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            slot.abort()
        published = producer.published
        assert published == 0 or timestamp is None  # None may mean: take it at publish
        feed(producer, 2)
        assert drain(consumer) == list(range(published + 2))


# ---- one producer, its end, the next one


@pytest.mark.event("two producers")
def test_a_second_producer_is_told_who_the_first_is(ring, peer):
    with ring.producer() as producer:
        with pytest.raises(shmring.ProducerExists) as caught:
            ring.producer()  # by the same handle
        assert str(os.getpid()) in str(caught.value)
        with shmring.Ring.attach(ring.name) as again, pytest.raises(shmring.ProducerExists):
            again.producer()  # by another handle of the same process
        other = peer(ring)
        with pytest.raises(PeerError) as caught:
            other.run(open_producer)
        assert caught.value.kind == "ProducerExists"
        assert "RuntimeError" in caught.value.kinds
        assert str(os.getpid()) in caught.value.message
        assert "pytest" in caught.value.message or "python" in caught.value.message
        feed(producer, 1)
    other.run(open_producer)
    with pytest.raises(shmring.ProducerExists) as caught:
        ring.producer()
    assert str(other.pid) in str(caught.value)
    assert "support.children" in str(caught.value)


@pytest.mark.event("the producer closes")
def test_consumers_drain_and_then_end(ring):
    with ring.consumer() as one, ring.consumer(lossless=False) as two, ring.producer() as producer:
        feed(producer, 3)
        producer.close()
        assert [check(frame) for frame in one] == [0, 1, 2]
        assert [two.get().seq for _ in range(3)] == [0, 1, 2]
        for end in (two.get, two.try_get, two.latest, lambda: two.batch(2)):
            with pytest.raises(shmring.RingClosed):
                end()
        assert list(one) == []


@pytest.mark.event("the producer closes")
def test_a_waiting_consumer_of_another_program_ends(ring, peer):
    other = peer(ring)
    with ring.producer() as producer:
        other.begin(take_to_the_end)
        producer.wait_for_consumers(1, PATIENCE)
        feed(producer, 2)
        other.asleep()
    assert other.answer() == [0, 1]


def test_close_twice_and_use_after_close(ring):
    producer = ring.producer()
    assert not producer.closed
    producer.close()
    producer.close()
    assert producer.closed
    for use in (
        lambda: producer.put(payload(0)),
        producer.claim,
        lambda: producer.put_many(payload(0)[None]),
        lambda: producer.wait_for_consumers(1, 0),
    ):
        with pytest.raises((ValueError, shmring.ShmringError), match="closed"):
            use()


def test_a_dropped_producer_lets_go(ring):
    producer = ring.producer()
    feed(producer, 1)
    with unclosed("Producer"):
        del producer
    with ring.producer() as producer:
        assert producer.next_seq == 1


def test_the_next_producer_goes_on(ring):
    before = ring.stats().producer.epoch
    with ring.consumer() as consumer:
        for epoch in range(1, 4):
            with ring.producer() as producer:
                assert producer.next_seq == 2 * (epoch - 1)
                assert producer.epoch == before + epoch
                feed(producer, 2)
                frames = [consumer.get(0), consumer.get(0)]
                assert [check(frame) for frame in frames] == [2 * epoch - 2, 2 * epoch - 1]
                assert [frame.epoch for frame in frames] == [producer.epoch] * 2
            with pytest.raises(shmring.RingClosed):
                consumer.get(0)
        assert consumer.lost == 0


def test_dropped_frames_are_counted_on_by_the_next_producer(ring):
    with ring.consumer() as consumer:
        with ring.producer(on_full="drop") as producer:
            feed(producer, ring.slots + 2)
        assert drain_until_closed(consumer) == list(range(ring.slots))
        with ring.producer() as producer:
            assert producer.next_seq == ring.slots + 2
            feed(producer, 1)
            assert check(consumer.get(0)) == ring.slots + 2
            assert consumer.lost == 2


def drain_until_closed(consumer):
    return [check(frame) for frame in consumer]


# ---- waiting for consumers


def test_wait_for_consumers(ring):
    with ring.producer() as producer:
        with pytest.raises(shmring.TooFewConsumers) as caught:
            producer.wait_for_consumers(1, 0)
        assert isinstance(caught.value, TimeoutError)
        with ring.consumer(), ring.consumer(lossless=False):
            assert producer.wait_for_consumers(timeout=0) == 2
            assert producer.wait_for_consumers(2, 0) == 2
            with pytest.raises(shmring.TooFewConsumers, match="3"):
                producer.wait_for_consumers(3, 0.01)
        with pytest.raises(shmring.TooFewConsumers):
            producer.wait_for_consumers(1, 0)


def test_more_consumers_than_the_table_has_never_come(make):
    ring = make(consumers=2)
    with ring.producer() as producer, pytest.raises(ValueError, match="3"):
        producer.wait_for_consumers(3)


def test_a_producer_that_waits_is_woken_by_the_consumer(ring, peer):
    other = peer(ring)
    with ring.producer() as producer:
        thread = threading.Thread(target=producer.wait_for_consumers, args=(1, PATIENCE))
        thread.start()
        wait_asleep(os.getpid(), thread.native_id)
        other.run(open_consumer)
        thread.join()
        feed(producer, 1)
        assert other.run(take) == 0


# ---- a block that ends without a frame


def leave(way: str, out: shmring.Producer, *, write: bool = False, ask: bool = True) -> None:
    """Ways out of a claim's block."""
    for _ in range(1):
        with out.claim() as slot:
            if ask:
                assert slot.array.size
            if write:
                slot.array[WORDS // 3 :] = 77
            if way == "break":
                break
            if way == "continue":
                continue
            if way == "return":
                return
            if way in ("publish", "abort"):
                getattr(slot, way)()
                break


@pytest.mark.parametrize("way", ["break", "continue", "return"])
def test_a_block_left_before_anything_was_written_is_not_silent(ring, caplog, way):
    with ring.producer() as out:
        feed(out, ring.slots)
        leave(way, out)
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert f"frame {ring.slots} of ring {ring.name!r}" in caplog.text
        assert "slot.abort()" in caplog.text
        leave(way, out)
        assert len(caplog.records) == 1  # once is enough
        assert out.published == ring.slots + 2


@pytest.mark.parametrize(
    ("way", "options"),
    [
        ("end", {}),  # the same picture as before is no mistake
        ("publish", {}),
        ("abort", {}),
        ("break", {"write": True}),
        ("return", {"write": True}),
        ("break", {"ask": False}),
    ],
)
def test_a_block_that_says_what_it_means_is_silent(ring, caplog, way, options):
    with ring.producer() as out:
        leave(way, out, **options)
    assert not caplog.records


def test_a_still_picture_is_looked_into_once(ring, caplog, monkeypatch):
    """To look how a block ends takes as long as a hundred frames."""
    looks = []
    really = _claims.dis.get_instructions
    monkeypatch.setattr(_claims.dis, "get_instructions", lambda code: looks.append(code) or really(code))
    _claims.is_one_of_many.cache_clear()
    with ring.producer() as out:
        for _ in range(2 * ring.slots):
            leave("end", out)
        assert len(looks) == 1
        assert not caplog.records
        leave("break", out)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("shape", [(), (3,), (9,), (40,)])
def test_frames_of_any_size_can_be_looked_at(make, caplog, shape):
    ring = make(shape=shape, dtype="u1", slots=64)
    with ring.producer() as out:
        for _ in range(2):
            with out.claim(3) as slot:
                slot.array[2] = 9
                assert slot.array.shape == (slot.count, *shape)
        assert not caplog.records
        leave("break", out)
    assert len(caplog.records) == 1
