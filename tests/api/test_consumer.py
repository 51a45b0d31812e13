"""Consumer: order, policies, what is lost and skipped, where a newcomer starts, latest, batches, windows."""

import contextlib
import itertools
import re
import signal
import time

import numpy as np
import pytest

import shmring
from support.blocks import address
from support.frames import WORDS, check, check_batch, drain, feed, fill, payload
from support.peers import open_consumer, open_producer, take_all
from support.processes import PeerError
from support.waiting import settle, unclosed, wait_until


def test_frames_come_in_order_and_once(ring, lossless):
    with ring.producer() as producer, ring.consumer(lossless=lossless) as consumer:
        for seq in range(5 * ring.slots):
            feed(producer, 1)
            frame = consumer.get()
            assert (check(frame), frame.lost, frame.epoch) == (seq, 0, producer.epoch)
            del frame
            assert consumer.try_get() is None
        assert consumer.delivered == 5 * ring.slots
        assert (consumer.lost, consumer.skipped, consumer.lag) == (0, 0, 0)


def test_what_a_consumer_says_of_itself(ring, lossless):
    with ring.consumer(lossless=lossless, label="détecteur") as consumer:
        assert consumer.lossless is lossless
        assert consumer.label == "détecteur"
        assert consumer.place == 0
        assert not consumer.closed
        assert (consumer.lag, consumer.lost, consumer.skipped, consumer.delivered, consumer.held) == (
            0,
            0,
            0,
            0,
            0,
        )
    assert consumer.closed


def test_a_consumer_is_lossless_from_the_oldest_on_by_default(ring):
    with ring.producer() as producer:
        feed(producer, 2)
        with ring.consumer() as consumer:
            assert consumer.lossless
            assert consumer.label == ""
            assert drain(consumer) == [0, 1]


def test_each_consumer_gets_every_frame(make):
    ring = make(slots=8)
    with ring.producer() as producer:
        everyone = [ring.consumer(lossless=i % 2 == 0) for i in range(16)]
        seqs = [[] for _ in everyone]
        for _ in range(10):
            feed(producer, 5)
            for one, got in zip(everyone, seqs, strict=True):
                got += drain(one)
        assert seqs == [list(range(50))] * 16
        for one in everyone:
            one.close()


def test_iteration_keeps_up_with_a_ring_of_two(make):
    ring = make(slots=2)
    with ring.producer(on_full="raise") as producer, ring.consumer() as consumer:
        feed(producer, 1)
        got = []
        for frame in consumer:
            got.append(check(frame))
            if len(got) == 50:
                producer.close()
            else:
                feed(producer, 1)
        assert got == list(range(50))


def test_lag_counts_what_is_published_and_not_delivered(ring, lossless):
    with ring.producer() as producer, ring.consumer(lossless=lossless) as consumer:
        for published in range(1, ring.slots + 1):
            feed(producer, 1)
            assert consumer.lag == published
        for left in reversed(range(ring.slots)):
            consumer.get(0).release()
            assert consumer.lag == left


def test_held_counts_the_frames_held(ring, lossless):
    with ring.producer() as producer, ring.consumer(lossless=lossless) as consumer:
        feed(producer, 3)
        one, two = consumer.get(0), consumer.get(0)
        assert consumer.held == 2
        one.release()
        assert consumer.held == 1
        view = two.array[3:5]
        two.release()
        del two
        assert consumer.held == 1
        del view
        settle()
        assert consumer.held == 0


# ---- lossless


def test_a_lossless_consumer_misses_nothing_and_gates(ring):
    with ring.producer(on_full="raise") as producer, ring.consumer() as consumer:
        expected = itertools.count()
        for _ in range(10):
            feed(producer, ring.slots)
            with pytest.raises(shmring.RingFull):
                producer.put(payload(0))
            seqs = drain(consumer)
            assert seqs == [next(expected) for _ in seqs]
            assert len(seqs) == ring.slots
        assert consumer.lost == 0


def refusal(producer):
    with pytest.raises(shmring.RingFull) as caught:
        producer.put(payload(0))
    return str(caught.value)


@pytest.mark.event("a lossless consumer stalls")
def test_a_stalled_consumer_is_named_in_the_message(ring, peer):
    with ring.producer(on_full="raise") as producer:
        other = peer(ring)
        other.run(open_consumer, "slow disk")
        with ring.consumer(label="quick") as quick:
            feed(producer, ring.slots)
            assert len(drain(quick)) == ring.slots
            message = refusal(producer)
        for part in (str(other.pid), "support.children", "slow disk", f"lag {ring.slots}"):
            assert part in message
        wait_until(lambda: re.search(r" for [\d.]+ s now", refusal(producer)), "how long it is in the way")
        assert "quick" not in message  # only who is in the way
        other.run(take_all)
        feed(producer, 1)


@pytest.mark.event("a lossless consumer stalls")
def test_a_stalled_consumer_makes_the_producer_follow_on_full(ring):
    with ring.consumer() as stalled, ring.consumer(lossless=False) as other:
        with ring.producer(on_full="drop") as producer:
            feed(producer, ring.slots + 2)
            assert (producer.published, producer.dropped) == (ring.slots, 2)
        with ring.producer(on_full="wait") as producer, pytest.raises(shmring.RingFull):
            producer.put(payload(0), timeout=0.02)
        with ring.producer(on_full="raise") as producer:
            with pytest.raises(shmring.RingFull):
                producer.put(payload(0))
            assert drain(stalled) == drain(other) == list(range(ring.slots))
            feed(producer, 1)
            assert drain(stalled) == drain(other) == [ring.slots + 2]
            assert stalled.lost == other.lost == 2


def test_a_consumer_that_leaves_frees_the_gate(ring):
    with ring.producer(on_full="raise") as producer:
        consumer = ring.consumer()
        feed(producer, ring.slots)
        with pytest.raises(shmring.RingFull):
            producer.put(payload(0))
        consumer.close()
        feed(producer, 3 * ring.slots)


def test_a_dropped_consumer_frees_the_gate(ring):
    with ring.producer(on_full="raise") as producer:
        consumer = ring.consumer()
        feed(producer, ring.slots)
        with unclosed("Consumer"):
            del consumer
        feed(producer, 3 * ring.slots)
        assert ring.stats().consumers == ()


def test_the_slowest_lossless_consumer_is_the_gate(ring):
    with ring.producer(on_full="raise") as producer, ring.consumer() as slow, ring.consumer() as fast:
        feed(producer, ring.slots)
        assert len(drain(fast)) == ring.slots
        for _ in range(3 * ring.slots):
            with pytest.raises(shmring.RingFull):
                producer.put(payload(0))
            slow.get(0).release()
            feed(producer, 1)
            assert len(drain(fast)) == 1


# ---- lossy


@pytest.mark.event("a lossy consumer is lapped")
@pytest.mark.parametrize("laps", [1, 2, 7])
def test_a_lapped_consumer_goes_on_with_the_oldest_frame_left(ring, laps):
    with ring.producer(on_full="raise") as producer, ring.consumer(lossless=False) as consumer:
        feed(producer, 1)
        assert check(consumer.get(0)) == 0
        feed(producer, laps * ring.slots + 1)
        total = laps * ring.slots + 2
        frame = consumer.get(0)
        # the oldest left; the producer may have begun to overwrite one more
        assert total - ring.slots <= check(frame) <= total - ring.slots + 1
        assert frame.lost == frame.seq - 1 == consumer.lost
        rest = drain(consumer)
        assert rest == list(range(frame.seq + 1, total))
        assert consumer.delivered + consumer.lost == total
        assert consumer.skipped == 0


@pytest.mark.event("a lossy consumer is lapped")
def test_losses_are_exact_whatever_the_rhythm(ring):
    random = np.random.default_rng(4)
    with ring.producer(on_full="drop") as producer, ring.consumer(lossless=False) as consumer:
        with ring.consumer() as gate:  # now and then it makes the producer drop
            expected = 0
            for _ in range(300):
                feed(producer, int(random.integers(0, 3 * ring.slots)))
                if random.random() < 0.7:
                    drain(gate)
                for _ in range(int(random.integers(0, 2 * ring.slots))):
                    if (frame := consumer.try_get()) is None:
                        break
                    assert check(frame) == expected + frame.lost
                    expected = frame.seq + 1
            drain(gate)
            feed(producer, 1)
            drain(consumer)
        assert consumer.delivered + consumer.lost == producer.next_seq
        assert producer.published + producer.dropped == producer.next_seq


def test_a_lossy_consumer_never_holds_the_producer_back(ring):
    with ring.producer(on_full="raise") as producer, ring.consumer(lossless=False):
        feed(producer, 10 * ring.slots)


def test_policies_live_side_by_side(ring):
    with (
        ring.producer(on_full="raise") as producer,
        ring.consumer() as all_of_them,
        ring.consumer(lossless=False) as some,
    ):
        seqs = []
        for _ in range(5 * ring.slots):
            feed(producer, ring.slots)
            seqs += drain(all_of_them)
        assert seqs == list(range(5 * ring.slots**2))
        assert all_of_them.lost == 0
        drain(some)
        assert some.lost + some.delivered == len(seqs)
        assert some.lost > 0


def produce(here, count):
    with here.ring.producer() as producer:
        producer.wait_for_consumers(1, 20)
        return feed(producer, count)


def test_a_lapped_consumer_is_never_given_a_torn_frame(ring, peer):
    """Two programs at full speed, the payload checks itself, the books balance."""
    other = peer(ring).begin(produce, 20000)
    seen, expected = 0, 0
    with ring.consumer(lossless=False, start="next") as consumer:
        for frame in consumer:
            assert check(frame) == expected + frame.lost
            expected, seen = frame.seq + 1, seen + 1
        assert other.answer() == 20000 == expected
        assert seen == consumer.delivered == 20000 - consumer.lost


# ---- where a newcomer starts


def test_start_oldest(ring, lossless):
    with ring.producer() as producer:
        feed(producer, 3)
        with ring.consumer(start="oldest", lossless=lossless) as consumer:
            assert consumer.lag == 3
            assert drain(consumer) == [0, 1, 2]
        feed(producer, 5 * ring.slots)
        total = producer.published
        with ring.consumer(start="oldest", lossless=lossless) as consumer:
            seqs = drain(consumer)
            assert seqs == list(range(seqs[0], total))
            assert total - ring.slots <= seqs[0] <= total - ring.slots + 1
            assert consumer.lost == 0  # what went before was never meant for it


def test_start_newest(ring, lossless):
    with ring.producer() as producer, ring.consumer(start="newest", lossless=lossless) as early:
        feed(producer, 3)
        with ring.consumer(start="newest", lossless=lossless) as consumer:
            assert drain(consumer) == [2]
            feed(producer, 1)
            assert drain(consumer) == [3]
            assert (consumer.lost, consumer.skipped) == (0, 0)
        assert drain(early) == [0, 1, 2, 3]


def test_start_next(ring, lossless):
    with ring.producer() as producer:
        feed(producer, 3)
        with ring.consumer(start="next", lossless=lossless) as consumer:
            assert consumer.try_get() is None
            assert consumer.lag == 0
            feed(producer, 2)
            assert drain(consumer) == [3, 4]
            assert consumer.lost == 0


def test_what_the_producer_drops_after_the_start_is_lost(ring):
    with ring.producer(on_full="drop") as producer, ring.consumer() as gate:
        feed(producer, ring.slots)
        with ring.consumer(start="next") as consumer:
            feed(producer, 2)
            drain(gate)
            feed(producer, 1)
            frame = consumer.get(0)
            assert (check(frame), frame.lost, consumer.lost) == (ring.slots + 2, 2, 2)


def test_a_consumer_may_come_before_any_producer(ring, lossless):
    with ring.consumer(lossless=lossless) as consumer:
        assert consumer.try_get() is None
        with pytest.raises(shmring.RingEmpty):
            consumer.get(0)
        with ring.producer() as producer:
            feed(producer, 2)
            assert drain(consumer) == [0, 1]


def test_a_consumer_may_come_after_the_last_producer(ring, lossless):
    with ring.producer() as producer:
        feed(producer, 2)
    with ring.consumer(lossless=lossless) as consumer:
        assert [check(frame) for frame in consumer] == [0, 1]


@pytest.mark.parametrize(
    "wrong", [{"start": "first"}, {"start": None}, {"label": 7}, {"label": None}], ids=str
)
def test_wrong_arguments_are_refused_and_take_no_place(make, wrong):
    ring = make(consumers=1)
    with pytest.raises((ValueError, TypeError)):
        ring.consumer(**wrong)
    with ring.consumer() as consumer:
        assert consumer.place == 0


def test_a_long_label_is_cut_or_refused_never_garbled(ring):
    label = "xé" * 1000
    with contextlib.suppress(ValueError), ring.consumer(label=label):
        shown = ring.stats().consumers[0].label
        assert len(shown) > 10
        assert label.startswith(shown)


# ---- latest


def test_latest_passes_over_and_counts_it_as_skipped(ring, lossless):
    with ring.producer() as producer, ring.consumer(lossless=lossless) as consumer:
        feed(producer, 3)
        frame = consumer.latest(0)
        assert (check(frame), frame.lost) == (2, 0)
        assert (consumer.skipped, consumer.lost, consumer.delivered, consumer.lag) == (2, 0, 1, 0)
        with pytest.raises(shmring.RingEmpty):
            consumer.latest(0)
        assert consumer.try_get() is None
        feed(producer, 1)
        assert check(consumer.latest(0)) == 3
        feed(producer, 2)
        assert check(consumer.get(0)) == 4
        assert check(consumer.latest(0)) == 5
        assert (consumer.skipped, consumer.lost, consumer.delivered) == (2, 0, 4)


def test_latest_frees_what_it_passes_over(ring):
    with ring.producer(on_full="raise") as producer, ring.consumer() as consumer:
        for _ in range(5):
            feed(producer, ring.slots)
            consumer.latest(0).release()
        assert consumer.skipped == 5 * (ring.slots - 1)


def test_latest_that_is_refused_reports_where_the_consumer_is(make):
    """It has passed over the older frames, though it got none."""
    ring = make(slots=5)
    with ring.producer() as out, ring.consumer(lossless=False, max_held=2) as consumer:
        feed(out, 2)
        held = [consumer.get(0), consumer.get(0)]
        feed(out, 4)
        with pytest.raises(shmring.SlotsHeld):
            consumer.latest(0)
        assert consumer.lag == ring.stats().consumers[0].lag == 1
        held.clear()
        assert consumer.latest(0).seq == 5


@pytest.mark.parametrize("how", ["latest", "windows"])
def test_a_jump_gives_back_what_it_passes_over(make, how):
    """Only what is held costs depth, not what lies between two held frames."""
    ring = make(slots=8)
    with ring.producer(on_full="raise") as producer, ring.consumer() as consumer:
        if how == "latest":
            feed(producer, 1)
            held = [consumer.get(0)]
            feed(producer, 7)
            held.append(consumer.latest(0))
        else:
            windows = consumer.windows(1, 7)
            feed(producer, 8)
            held = [next(windows), next(windows)]
        assert consumer.held == 2
        with pytest.raises(shmring.RingEmpty):
            consumer.get(0)
        assert feed(producer, ring.slots - 2) == ring.slots - 2
        if how == "latest":
            with pytest.raises(shmring.RingFull):
                producer.put(payload(0))
            assert drain(consumer) == list(range(8, 14))
        else:  # what comes before the next window is passed over already
            assert feed(producer, ring.slots - 2) == ring.slots - 2
            assert check_batch(next(windows)) == [14]
        for frame, seq in zip(held, (0, 7), strict=True):
            assert np.array_equal(frame.array.reshape(-1), payload(seq))


def test_what_is_skipped_and_what_is_lost_are_kept_apart(ring):
    with ring.producer(on_full="drop") as producer, ring.consumer() as gate, ring.consumer() as consumer:
        feed(producer, ring.slots + 3)  # three are dropped
        drain(gate)
        assert check(consumer.latest(0)) == ring.slots - 1
        feed(producer, 2)
        frame = consumer.latest(0)
        assert check(frame) == ring.slots + 4
        assert consumer.skipped == ring.slots - 1 + 1
        assert consumer.lost == 3
        assert consumer.delivered + consumer.lost + consumer.skipped == producer.next_seq


def test_latest_of_a_lapped_consumer_balances(ring):
    with ring.producer() as producer, ring.consumer(lossless=False) as consumer:
        for _ in range(20):
            feed(producer, 3 * ring.slots + 1)
            assert check(consumer.latest(0)) == producer.next_seq - 1
            assert consumer.delivered + consumer.lost + consumer.skipped == producer.next_seq
        assert consumer.delivered == 20


# ---- batches


def test_a_batch_is_one_array(make, lossless):
    ring = make(slots=8)
    with ring.producer() as producer, ring.consumer(lossless=lossless) as consumer:
        feed(producer, 3)
        batch = consumer.batch(10, timeout=0)
        assert check_batch(batch) == [0, 1, 2]
        assert batch.array.shape == (3, WORDS)
        assert batch.array.flags.c_contiguous
        assert not batch.array.flags.writeable
        assert (batch.lost, batch.copied, batch.interrupted, batch.rows) == (0, False, False, None)
        assert consumer.held > 0
        batch.release()
        del batch
        assert consumer.held == 0
        assert (consumer.delivered, consumer.lag) == (3, 0)


def test_a_batch_has_at_most_max_frames(ring, lossless):
    with ring.producer() as producer, ring.consumer(lossless=lossless) as consumer:
        feed(producer, 4)
        assert check_batch(consumer.batch(1)) == [0]
        assert check_batch(consumer.batch(2)) == [1, 2]
        assert check_batch(consumer.batch(2)) == [3]


def test_a_batch_crosses_the_wrap_in_one_piece(make, lossless):
    ring = make(slots=8)
    with ring.producer(on_full="raise") as producer, ring.consumer(lossless=lossless) as consumer:
        expected, crossed = 0, 0
        for _ in range(5 * ring.slots):
            feed(producer, 3)
            batch = consumer.batch(3, 3, 0)
            assert check_batch(batch) == [expected, expected + 1, expected + 2]
            assert batch.array.flags.c_contiguous
            assert not batch.copied
            assert not batch.interrupted
            crossed += expected // ring.slots != (expected + 2) // ring.slots
            expected += 3
            del batch
        assert crossed > 5


def distance_of_a_batch(here):
    """How many bytes after the frame before it it begins."""
    one, two = here.consumer.get(), here.consumer.batch(2, 2, 5)
    return address(two.array) - address(one.array)


def test_a_batch_does_not_copy(make, peer):
    ring = make(slots=4)
    other = peer(ring)
    with ring.producer() as producer:
        other.run(open_consumer)
        feed(producer, 3)
        assert other.run(distance_of_a_batch) == WORDS * 8


@pytest.mark.parametrize("nbytes", [1, 100, 4097, 5000])
def test_frames_with_gaps_between_them_make_a_batch_too(make, nbytes):
    """Slots begin at multiples of 64 bytes: the batch is not contiguous then, and says so."""
    ring = make(shape=(nbytes,), dtype="u1", slots=3)
    with ring.producer() as producer, ring.consumer() as consumer:
        producer.put_many(np.stack([np.full(nbytes, value, "u1") for value in (1, 2, 3)]))
        array = consumer.batch(3, 3, 0).array
        assert array.shape == (3, nbytes)
        assert array.flags.c_contiguous == (array.strides == (nbytes, 1))
        assert np.ascontiguousarray(array).tolist() == [[value] * nbytes for value in (1, 2, 3)]
        assert array.sum() == 6 * nbytes


def test_a_batch_waits_for_min_frames(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 2)
        with pytest.raises(shmring.RingEmpty):
            consumer.batch(4, 3, 0.01)
        assert (consumer.delivered, consumer.lag) == (0, 2)
        feed(producer, 1)
        assert check_batch(consumer.batch(4, 3, 0)) == [0, 1, 2]


def test_the_last_batch_may_be_short(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 2)
        producer.close()
        assert check_batch(consumer.batch(4, 3, 1)) == [0, 1]
        with pytest.raises(shmring.RingClosed):
            consumer.batch(4, 3, 1)


@pytest.mark.parametrize(
    ("failure", "error"), [(None, shmring.RingClosed), ("no light", shmring.ProducerFailed)]
)
def test_the_end_of_a_stream_says_whether_frames_are_left(make, failure, error):
    """A window takes no fewer frames than its length."""
    ring = make(slots=8)
    with ring.consumer() as consumer:
        with ring.producer() as producer:
            feed(producer, 3)
            windows = consumer.windows(2)
            next(windows)
            producer.close(error=failure)
        if failure is not None:
            with pytest.raises(
                error,
                match=r"3 frames published; 1 frame left to read with get\(\), fewer than you asked for",
            ):
                next(windows)
        assert check(consumer.get(0)) == 2
        with pytest.raises(error, match="3 frames published, none left to read"):
            consumer.get(0)


def take_a_batch_while_a_signal_comes(here):
    """Its handler takes more than the rest of the time."""
    over = time.monotonic() + 0.5

    def handler(number, frame):
        feed(here.producer, 1)
        here.producer.close()
        while time.monotonic() < over + 0.05:
            pass

    signal.signal(signal.SIGUSR1, handler)
    here.consumer.batch(4, 3, max(0, over - time.monotonic()))


def take_a_batch(here):
    return check_batch(here.consumer.batch(4, 3, 0))


def test_a_batch_out_of_time_is_not_the_end_while_frames_are_left(ring, peer):
    """The producer publishes one more frame and closes just then: that frame can still be read."""
    other = peer(ring)
    other.run(open_consumer)
    other.run(open_producer)
    other.begin(take_a_batch_while_a_signal_comes).asleep()
    other.signal(signal.SIGUSR1)
    with pytest.raises(PeerError, match="RingEmpty: fewer than 3 new frames"):
        other.answer()
    assert other.run(take_a_batch) == [0]


def test_a_last_batch_of_which_all_is_gone_is_the_end_of_the_stream(make):
    """And not a frame that may still come, which RingEmpty would say."""
    ring = make(slots=4)
    lossy = ring.consumer(lossless=False)
    with ring.producer() as producer:
        feed(producer, 2)
        producer.claim(4).abort()  # took the slots of both
    with pytest.raises(shmring.RingClosed):
        lossy.batch(2, 2, timeout=0)
    assert lossy.lost == 2
    lossy.close()


def test_a_batch_takes_all_that_is_there_not_what_was_seen_before(make, lossless):
    ring = make(slots=12)
    with ring.producer() as producer:
        feed(producer, 2)
        with ring.consumer(lossless=lossless) as consumer:  # which sees two
            feed(producer, 3)
            batch = consumer.batch(8)
            assert (check_batch(batch), batch.interrupted) == ([0, 1, 2, 3, 4], False)


def test_the_short_last_batch_is_delivered_not_lost(make, lossless):
    ring = make(slots=10)  # of which a lossy consumer may hold four
    with ring.consumer(lossless=lossless) as consumer:
        with ring.producer() as producer:
            feed(producer, 2)
            producer.drop(3)
        assert check_batch(consumer.batch(8, 4)) == [0, 1]
        assert (consumer.delivered, consumer.lost) == (2, 0)
        with pytest.raises(shmring.RingClosed):
            consumer.batch(8, 4)
        assert (consumer.delivered, consumer.lost) == (2, 3)


def test_what_windows_leave_at_the_end_is_not_lost(make):
    ring = make(slots=8)
    with ring.consumer() as consumer:
        with ring.producer() as producer:
            feed(producer, 5)
        assert [check_batch(window) for window in consumer.windows(3)] == [[0, 1, 2]]
        assert (consumer.delivered, consumer.lost) == (3, 0)
        assert [check(frame) for frame in consumer] == [3, 4]
        assert (consumer.delivered, consumer.lost) == (5, 0)


def test_after_overlapping_windows_what_was_dropped_is_lost_not_skipped(make):
    ring = make(slots=8)
    with ring.consumer() as consumer:
        with ring.producer() as producer:
            feed(producer, 3)
            producer.drop()
        assert [check_batch(window) for window in consumer.windows(3, 1)] == [[0, 1, 2]]
        assert (consumer.delivered, consumer.lost) == (3, 1)
        with ring.producer() as producer:
            producer.drop(4)
            feed(producer, 1)
            assert check(consumer.latest()) == 8
        assert (consumer.delivered, consumer.lost, consumer.skipped) == (4, 5, 0)


def test_windows_that_jump_past_the_end_of_a_stream_skip_of_the_next_one_too(make):
    ring = make(slots=8)
    with ring.consumer() as consumer:
        for count, found in ((1, [0]), (2, []), (2, [4])):
            with ring.producer() as producer:
                feed(producer, count)
            assert [check_batch(window)[0] for window in consumer.windows(1, 4)] == found
        assert (consumer.delivered, consumer.lost, consumer.skipped) == (2, 0, 3)


def test_stats_follow_a_lossy_consumer_past_what_is_gone(make):
    ring = make(slots=2)
    with ring.producer() as producer, ring.consumer(lossless=False) as consumer:
        feed(producer, 1)
        with producer.claim(2) as slot:
            slot.array[:] = 0
            slot.abort()
        assert consumer.try_get() is None
        assert (consumer.lag, ring.stats().consumers[0].lag) == (0, 0)


def test_a_batch_that_can_never_come_is_refused_although_what_is_next_is_gone(make):
    ring = make(slots=4)
    with ring.producer() as producer, ring.consumer(lossless=False, max_held=2) as consumer:
        feed(producer, 4)
        held = consumer.get(0)
        with producer.claim() as slot:  # in the slot of an unread frame, since the first one is held
            with pytest.raises(shmring.SlotsHeld):
                consumer.batch(2, 2, 0)
            slot.abort()
        held.release()


@pytest.mark.parametrize("sizes", [(0, 1), (-1, 1), (2, 3), (2, 0), (2, -1), (5, 5), ("2", 1)], ids=str)
def test_impossible_batches_are_refused(ring, sizes):
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 3)
        with pytest.raises((ValueError, TypeError)):
            consumer.batch(*sizes, timeout=0)
        assert drain(consumer) == [0, 1, 2]


def test_a_batch_counts_what_was_lost_before_it(ring):
    with ring.producer(on_full="drop") as producer, ring.consumer() as consumer:
        feed(producer, ring.slots + 2)
        assert check_batch(consumer.batch(ring.slots)) == list(range(ring.slots))
        feed(producer, 2)
        batch = consumer.batch(2)
        assert check_batch(batch) == [ring.slots + 2, ring.slots + 3]
        assert batch.lost == consumer.lost == 2


def test_the_seqs_of_a_batch_tell_of_a_gap_inside(make):
    ring = make(slots=4)
    with ring.producer(on_full="drop") as producer, ring.consumer() as consumer, ring.consumer() as gate:
        feed(producer, 3)
        assert drain(consumer) == [0, 1, 2]
        feed(producer, 3)  # one fits, two are dropped
        drain(gate)
        feed(producer, 1)
        batches = [consumer.batch(4), consumer.try_get()]
        if batches[1] is None:
            assert check_batch(batches[0]) == [3, 6]
        else:
            assert check_batch(batches[0]) == [3]
            assert check(batches[1]) == 6
        assert consumer.lost == 2


def test_a_lapped_batch_balances(make):
    ring = make(slots=10)
    with ring.producer() as producer, ring.consumer(lossless=False) as consumer:
        expected = 0
        for _ in range(20):
            feed(producer, 2 * ring.slots + 1)
            while consumer.lag:
                batch = consumer.batch(2)
                seqs = check_batch(batch)
                assert seqs[0] == expected + batch.lost
                expected = seqs[-1] + 1
        assert consumer.delivered + consumer.lost == producer.next_seq == expected


def test_metadata_of_a_batch(make):
    ring = make(meta=[("gain", "f8"), ("n", "i4")], variable_rows=True)
    with ring.producer() as producer, ring.consumer() as consumer:
        for i in range(3):
            with producer.claim() as slot:
                fill(slot)
                slot.timestamp_ns, slot.meta, slot.rows = 100 + i, (i / 2, i), 10 + i
        batch = consumer.batch(3)
        assert batch.timestamps_ns.tolist() == [100, 101, 102]
        assert batch.metas["gain"].tolist() == [0, 0.5, 1]
        assert batch.metas["n"].tolist() == [0, 1, 2]
        assert batch.rows.tolist() == [10, 11, 12]


def test_a_swap_cuts_a_batch_short_and_says_so(ring):
    with ring.producer() as producer, ring.consumer() as consumer, ring.consumer(lossless=False) as holder:
        feed(producer, 3)
        drain(consumer)
        holder.get(0).release()
        held = holder.get(0)  # seq 1: the producer must swap when it comes back to that entry
        interrupted = 0
        for _ in range(20):
            published = producer.published
            feed(producer, 3)
            seqs = []
            while consumer.lag:
                batch = consumer.batch(3)
                interrupted += batch.interrupted
                assert batch.interrupted or consumer.lag == 0
                assert batch.array.flags.c_contiguous
                assert not batch.copied
                seqs += check_batch(batch)
                batch.release()
                del batch
            assert seqs == list(range(published, published + 3))
            assert check(held) == 1
        assert interrupted > 0


# ---- windows


@pytest.mark.parametrize(("length", "step"), [(1, 1), (3, 1), (2, 2), (2, 1), (1, 3), (4, 3), (4, 4), (7, 1)])
def test_windows_overlap_and_cross_the_wrap_without_a_copy(make, length, step):
    ring = make(slots=8)
    with ring.producer(on_full="raise") as producer, ring.consumer() as consumer:
        windows = consumer.windows(length, step)
        for index in range(50):
            while producer.published < index * step + length:
                feed(producer, 1)
            window = next(windows)
            assert check_batch(window) == list(range(index * step, index * step + length))
            assert window.array.shape == (length, WORDS)
            assert window.array.flags.c_contiguous
            assert not window.copied
            assert not window.interrupted
            assert window.lost == 0
            assert not window.array.flags.writeable


def test_windows_do_not_overlap_unless_told_to(make):
    ring = make(slots=8)
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 8)
        windows = consumer.windows(4)
        assert check_batch(next(windows)) == [0, 1, 2, 3]
        assert check_batch(next(windows)) == [4, 5, 6, 7]


def test_windows_end_with_the_stream(make):
    ring = make(slots=8)
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 7)
        producer.close()
        assert [check_batch(window) for window in consumer.windows(3, 2)] == [[0, 1, 2], [2, 3, 4], [4, 5, 6]]


def open_windows(here):
    here.windows = here.ring.consumer().windows(3, 1)


def take_a_window(here):
    return check_batch(next(here.windows))


def test_windows_wait(make, peer):
    ring = make(slots=8)
    other = peer(ring)
    with ring.producer() as producer:
        other.run(open_windows)
        feed(producer, 2)
        other.begin(take_a_window).asleep()
        feed(producer, 1)
        assert other.answer() == [0, 1, 2]


@pytest.mark.parametrize(
    ("length", "step"), [(0, 1), (2, 0), (-1, 1), (3, 2), (4, 1), (2, -1), (9, 1), ("2", 1)]
)
def test_impossible_windows_are_refused(ring, length, step):
    with ring.consumer() as consumer, pytest.raises((ValueError, TypeError)):
        next(consumer.windows(length, step))


def test_a_swap_makes_windows_copy_and_say_so(make):
    ring = make(slots=8)
    with ring.producer() as producer, ring.consumer() as consumer, ring.consumer(lossless=False) as holder:
        windows = consumer.windows(3, 1)
        held, copies = None, 0
        for index in range(60):
            while producer.published < index + 3:
                feed(producer, 1)
            if index == 2:
                held = holder.get(0)
            window = next(windows)
            assert check_batch(window) == [index, index + 1, index + 2]
            assert window.array.flags.c_contiguous
            assert not window.array.flags.writeable
            copies += window.copied
        assert copies > 0
        assert check(held) == 0
        copied_before = copies
        held.release()
        del held
        for index in range(60, 120):
            feed(producer, 1)
            window = next(windows)
            assert check_batch(window) == [index, index + 1, index + 2]
            copies += window.copied
        assert copies - copied_before < 20  # the entries go home again


def test_a_window_kept_is_a_window_held(make):
    ring = make(slots=8)
    with ring.producer(on_full="raise") as producer, ring.consumer() as consumer:
        windows = consumer.windows(2, 1)
        feed(producer, 2)
        kept = next(windows)
        for index in range(1, 40):
            feed(producer, 1)
            assert check_batch(next(windows)) == [index, index + 1]
        assert check_batch(kept) == [0, 1]


# ---- the end of a consumer


def test_close_twice_and_use_after_close(ring):
    consumer = ring.consumer()
    consumer.close()
    consumer.close()
    for use in (
        consumer.get,
        consumer.try_get,
        consumer.latest,
        lambda: consumer.batch(1),
    ):
        with pytest.raises((ValueError, shmring.ShmringError), match="closed"):
            use()
    assert list(consumer) == []


def test_places_are_used_again(make):
    ring = make(consumers=2)
    for _ in range(20):
        with ring.consumer() as one, ring.consumer() as two:
            assert {one.place, two.place} == {0, 1}


def test_a_new_consumer_in_an_old_place_starts_afresh(make):
    ring = make(consumers=1)
    with ring.producer(on_full="drop") as producer:
        with ring.consumer(label="old", lossless=False) as consumer:
            feed(producer, 3 * ring.slots)
            consumer.latest(0)
        with ring.consumer(start="next") as consumer:
            (row,) = ring.stats().consumers
            assert (consumer.delivered, consumer.lost, consumer.skipped, consumer.lag) == (0, 0, 0, 0)
            assert (row.label, row.policy, row.delivered, row.lost, row.skipped) == ("", "lossless", 0, 0, 0)


# ---- randomised


@pytest.mark.stress
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(8))
def test_anything_goes(make, seed):
    """Random consumers of both policies that hold, skip, batch, join and leave, against one model."""
    random = np.random.default_rng(seed)
    ring = make(slots=int(random.integers(2, 12)))
    with ring.producer(on_full="drop") as producer:
        everyone, held = [], []
        for _ in range(6000):
            action = random.integers(0, 9)
            if action <= 2:
                feed(producer, int(random.integers(1, 2 * ring.slots)))
            elif action == 3 and len(everyone) < 6:
                one = ring.consumer(lossless=bool(random.integers(0, 2)), start="next")
                everyone.append((one, producer.next_seq))
            elif action == 4 and everyone:
                everyone.pop(int(random.integers(0, len(everyone))))[0].close()
            elif action == 5 and held:
                held.pop(int(random.integers(0, len(held))))
            elif everyone:
                one, begin = everyone[int(random.integers(0, len(everyone)))]
                try:
                    if action == 6:
                        got = one.latest(0)
                    elif action == 7:
                        got = one.batch(int(random.integers(1, ring.slots)), timeout=0)
                    else:
                        got = one.get(0)
                except (shmring.RingEmpty, shmring.SlotsHeld):
                    continue
                last = check(got) if isinstance(got, shmring.Frame) else check_batch(got)[-1]
                assert one.delivered + one.lost + one.skipped == last + 1 - begin
                if random.random() < 0.2 and len(held) < 2 * ring.slots:
                    held.append(got)
            for got in held:
                check(got) if isinstance(got, shmring.Frame) else check_batch(got)
        held.clear()
        for one, _ in everyone:
            one.close()
