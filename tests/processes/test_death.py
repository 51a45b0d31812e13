"""kill -9, with real processes: what dies takes nothing with it."""

import os
import signal
import threading
import time

import numpy as np
import pytest

import shmring
from support import peers
from support.blocks import SHM, block_file
from support.frames import check, drain, feed, fill, payload
from support.processes import PeerError
from support.waiting import PATIENCE, task_state, wait_asleep, wait_until

pytestmark = pytest.mark.slow


def put_all(ring, producer, count: int) -> None:
    """Publish, waiting for space at most as long as a reap may take."""
    for _ in range(count):
        assert producer.put(payload(producer.next_seq), timeout=PATIENCE)


def replace_the_second_held(here):
    """Hold not only the newest frames."""
    here.held.append(here.consumer.get(PATIENCE))
    here.held.pop(1)


def join_at_every_place(here):
    here.everyone = [here.ring.consumer(lossless=i % 2 == 0) for i in range(16)]


def wait_for_space(here):
    here.producer.put(payload(99))


def claim_two(here):
    here.slot = here.producer.claim(2)


LONG = [pytest.mark.stress, pytest.mark.timeout(300)]


# ---- consumers


@pytest.mark.event("a consumer is killed at any instruction, holding frames or not")
@pytest.mark.parametrize("holding", [0, 1, 3], ids=lambda count: f"holding{count}")
def test_a_killed_consumer_frees_its_gate_and_its_pins(make, peer, lossless, holding):
    ring = make(slots=10)
    other = peer(ring)
    other.run(peers.open_consumer, lossless=lossless, label="doomed")
    with ring.producer() as producer, ring.consumer(label="survivor") as survivor:
        feed(producer, ring.slots)
        other.run(peers.hold, holding)
        if holding == 3:
            other.run(replace_the_second_held)
        assert drain(survivor) == list(range(ring.slots))
        other.kill()
        seqs = []
        for _ in range(5 * ring.slots):
            put_all(ring, producer, 1)
            seqs += drain(survivor)
        assert seqs == list(range(ring.slots, 6 * ring.slots))
        put_all(ring, producer, ring.slots)  # the full depth is back
        with pytest.raises(shmring.RingFull, match="survivor"):
            producer.put(payload(0), timeout=0)
        assert [row.label for row in ring.stats().consumers if row.alive] == ["survivor"]
        assert survivor.lost == 0
        assert producer.dropped == 0


@pytest.mark.event("a consumer is killed at any instruction, holding frames or not")
@pytest.mark.parametrize("on_full", ["wait", "drop", "raise"])
def test_a_killed_consumer_frees_a_producer_of_any_policy(ring, peer, on_full):
    other = peer(ring)
    other.run(peers.open_consumer)
    with ring.producer(on_full=on_full) as producer:
        feed(producer, ring.slots)
        other.kill()

        def goes_on():
            try:
                return producer.put(payload(producer.next_seq))
            except shmring.RingFull:
                return False

        wait_until(goes_on, "the producer continues")
        for _ in range(3 * ring.slots):
            assert producer.put(payload(producer.next_seq))


@pytest.mark.event("a consumer is killed at any instruction, holding frames or not")
def test_a_producer_that_already_waits_goes_on(ring, peer):
    other = peer(ring)
    other.run(peers.open_consumer)
    with ring.producer() as producer:
        feed(producer, ring.slots)
        other.run(peers.hold, ring.slots)
        thread = threading.Thread(target=put_all, args=(ring, producer, 3))
        thread.start()
        wait_asleep(os.getpid(), thread.native_id)
        assert producer.published == ring.slots
        other.kill()
        thread.join()
        assert producer.published == ring.slots + 3
        assert ring.stats().consumers == ()


@pytest.mark.event("a consumer is killed at any instruction, holding frames or not")
def test_a_consumer_killed_while_it_waits(ring, peer, lossless):
    other = peer(ring)
    other.run(peers.open_consumer, lossless=lossless)
    with ring.producer() as producer, ring.consumer() as survivor:
        other.begin(peers.take, None).asleep()
        other.kill()
        for _ in range(3 * ring.slots):
            put_all(ring, producer, 1)
            assert check(survivor.get(0)) == producer.next_seq - 1


@pytest.mark.event("a consumer is killed at any instruction, holding frames or not")
@pytest.mark.parametrize("kills", [6, pytest.param(400, marks=LONG)])
@pytest.mark.slow
def test_consumers_killed_at_random_moments(make, fork, lossless, kills):
    """Children that take, hold, release, join and leave at full speed, killed anywhere in between."""
    ring = make(slots=20)
    random = np.random.default_rng(7)

    def work(send):
        random = np.random.default_rng(os.getpid())
        send("ready")
        while True:
            with ring.consumer(lossless=lossless) as consumer:
                held = []
                for _ in range(int(random.integers(1, 50))):
                    frame = consumer.get()
                    check(frame)
                    held.append(frame)
                    del frame
                    held = held[-int(random.integers(1, 3)) :]

    with ring.producer() as producer, ring.consumer(label="survivor") as survivor:
        seqs = []
        for _ in range(kills):
            child = fork(work)
            assert child.receive() == "ready"
            until = time.monotonic() + float(random.uniform(0, 0.02))
            while time.monotonic() < until:
                put_all(ring, producer, 1)
                seqs += drain(survivor)
            child.kill()
            assert child.code == -signal.SIGKILL
        for _ in range(3 * ring.slots):
            put_all(ring, producer, 1)
            seqs += drain(survivor)
        assert seqs == list(range(producer.next_seq))
        put_all(ring, producer, ring.slots)  # nothing of the dead is left: the full depth is there
        assert len(drain(survivor)) == ring.slots
        assert [row.label for row in ring.stats().consumers if row.alive] == ["survivor"]


def test_the_dead_do_not_exhaust_the_table(make, peer):
    ring = make(consumers=16)
    for _ in range(2):
        other = peer(ring)
        other.run(join_at_every_place)
        with pytest.raises(shmring.TooManyConsumers):
            ring.consumer()
        other.kill()
    everyone = [ring.consumer(label="alive") for _ in range(16)]
    with ring.producer() as producer:
        feed(producer, 2)
        assert [drain(one) for one in everyone] == [[0, 1]] * 16
    for one in everyone:
        one.close()


def test_the_reaped_place_starts_afresh(make, peer):
    ring = make(consumers=1)
    other = peer(ring)
    other.run(peers.open_consumer, label="old")
    with ring.producer(on_full="raise") as producer:
        feed(producer, ring.slots)
        other.run(peers.hold, ring.slots)
        other.kill()
        with ring.consumer(label="new", start="next") as consumer:
            assert consumer.place == 0
            put_all(ring, producer, ring.slots)
            assert drain(consumer) == list(range(ring.slots, 2 * ring.slots))
            (row,) = ring.stats().consumers
            assert (row.label, row.held, row.lost) == ("new", 0, 0)


def test_a_stopped_consumer_is_not_dead(ring, peer):
    """SIGSTOP is a stall, and a live consumer is never robbed of its frames."""
    other = peer(ring)
    other.run(peers.open_consumer, label="stopped")
    with ring.producer() as producer:
        feed(producer, ring.slots)
        other.run(peers.hold, 1)
        other.signal(signal.SIGSTOP)
        wait_until(lambda: task_state(other.pid) == "T", "the peer is stopped")
        with pytest.raises(shmring.RingFull, match="stopped"):
            producer.put(payload(0), timeout=0.3)
        assert [row.alive for row in ring.stats().consumers] == [True]
        other.signal(signal.SIGCONT)
        assert other.run(peers.check_held) == [0]
        assert other.run(peers.take_all) == list(range(1, ring.slots))


# ---- producers


@pytest.mark.event("the producer is killed at any instruction")
@pytest.mark.parametrize("doing", [peers.do_nothing, peers.claim, claim_two])
def test_consumers_get_every_published_frame_and_then_ProducerDied(ring, peer, lossless, doing):  # noqa: N802
    other = peer(ring)
    other.run(peers.open_producer, 1)
    with ring.consumer(lossless=lossless) as consumer:
        other.run(peers.put, 1)
        other.run(doing)
        other.kill()
        assert [check(consumer.get()), check(consumer.get())] == [0, 1]
        for wait in (
            consumer.get,
            consumer.try_get,
            consumer.latest,
            lambda: consumer.batch(1),
            lambda: next(consumer),
        ):
            with pytest.raises(shmring.ProducerDied) as caught:
                wait()
            assert str(other.pid) in str(caught.value)
        assert isinstance(caught.value, ConnectionError)
        assert consumer.lost == 0
        assert ring.stats().producer.state == "died"


@pytest.mark.event("the producer is killed at any instruction")
def test_iteration_ends_with_ProducerDied(ring, peer):  # noqa: N802
    other = peer(ring)
    other.run(peers.open_producer, 3)
    got = []
    with ring.consumer() as consumer:
        other.kill()
        with pytest.raises(shmring.ProducerDied):
            got.extend(check(frame) for frame in consumer)
    assert got == [0, 1, 2]


@pytest.mark.event("the producer is killed at any instruction")
def test_a_consumer_that_already_waits_is_told(ring, peer, lossless):
    other = peer(ring)
    watcher = peer(ring)
    other.run(peers.open_producer)
    watcher.run(peers.open_consumer, lossless=lossless)
    watcher.begin(peers.take, None).asleep()
    other.kill()
    with pytest.raises(PeerError, match="ProducerDied"):
        watcher.answer()


@pytest.mark.event("the producer is killed at any instruction")
def test_a_producer_killed_while_it_waits_for_space(ring, peer):
    other = peer(ring)
    with ring.consumer() as consumer:
        other.run(peers.open_producer, ring.slots)
        other.begin(wait_for_space).asleep()
        other.kill()
        assert [check(consumer.get()) for _ in range(ring.slots)] == list(range(ring.slots))
        with pytest.raises(shmring.ProducerDied):
            consumer.get()


@pytest.mark.event("the producer is killed at any instruction")
def test_observers_are_told_too(ring, peer):
    other = peer(ring)
    other.run(peers.open_producer, 1)
    with shmring.Ring.attach(ring.name, readonly=True) as watched, watched.observer() as observer:
        other.kill()
        assert check(observer.get(1)) == 0
        with pytest.raises(shmring.ProducerDied):
            observer.get()
        assert watched.stats().producer.state == "died"


@pytest.mark.event("the producer is killed at any instruction")
def test_a_takeover_goes_on_where_the_dead_one_was(make, peer, lossless):
    ring = make(slots=10)
    other = peer(ring)
    other.run(peers.open_producer, 2)
    other.run(peers.claim)
    with ring.consumer(lossless=lossless) as consumer:
        epoch = ring.stats().producer.epoch
        other.kill()
        with ring.producer() as producer:
            assert (producer.next_seq, producer.epoch) == (2, epoch + 1)
            feed(producer, 2)
            frames = [consumer.get(0) for _ in range(4)]
            assert [check(frame) for frame in frames] == [0, 1, 2, 3]
            assert [frame.epoch for frame in frames] == [epoch, epoch, epoch + 1, epoch + 1]
            assert consumer.lost == 0
            frames.clear()
            put_all(ring, producer, ring.slots)
            assert len(drain(consumer)) == ring.slots


@pytest.mark.event("the producer is killed at any instruction")
def test_a_consumer_may_wait_for_the_takeover(ring, peer, lossless):
    other = peer(ring)
    other.run(peers.open_producer)
    waiter = peer(ring)
    waiter.run(peers.open_consumer, lossless=lossless, wait_for_takeover=True)
    other.run(peers.put, 1)
    assert waiter.run(peers.take, PATIENCE) == 0
    waiter.begin(peers.take, None).asleep()
    other.kill()
    with ring.producer() as producer:
        assert not waiter.answered()
        feed(producer, 1)
        assert waiter.answer() == 1
    with pytest.raises(PeerError, match="RingClosed"):
        waiter.run(peers.take, 1)  # a producer that closes is the end all the same


def test_waiting_for_the_takeover_has_a_timeout_too(ring, peer):
    other = peer(ring)
    other.run(peers.open_producer)
    with ring.consumer(wait_for_takeover=True) as consumer:
        other.kill()
        with pytest.raises(shmring.RingEmpty):
            consumer.get(0.2)
        assert consumer.try_get() is None


def test_after_ProducerDied_a_takeover_is_welcome(ring, peer):  # noqa: N802
    other = peer(ring)
    other.run(peers.open_producer)
    with ring.consumer() as consumer:
        other.kill()
        with pytest.raises(shmring.ProducerDied):
            consumer.get()
        with ring.producer() as producer:
            assert consumer.try_get() is None
            feed(producer, 1)
            assert check(consumer.get(0)) == 0


def test_frames_held_over_the_takeover_stay(ring, peer, lossless):
    other = peer(ring)
    other.run(peers.open_producer, 1)
    with ring.consumer(lossless=lossless) as consumer:
        held = consumer.get(0)
        for _ in range(3 * ring.slots):  # the entries are permuted when it dies
            other.run(peers.put, 1)
            check(consumer.get(0))
        other.run(peers.claim)
        other.kill()
        with ring.producer(on_full="raise") as producer:
            for _ in range(5 * ring.slots):
                feed(producer, 1)
                assert check(consumer.get(0)) == producer.next_seq - 1
                assert check(held) == 0


@pytest.mark.event("the producer is killed at any instruction")
@pytest.mark.parametrize("kills", [8, pytest.param(400, marks=LONG)])
@pytest.mark.slow
def test_producers_killed_at_random_moments(ring, fork, kills):
    """Half-written slots, swaps, gates: after each kill the next producer continues, and no frame is torn."""
    random = np.random.default_rng(11)

    def work(send):
        with ring.producer(on_full="drop") as producer:
            send("ready")
            while True:
                with producer.claim() as slot:
                    fill(slot)

    with (
        ring.consumer(wait_for_takeover=True, label="all") as everything,
        ring.consumer(lossless=False, wait_for_takeover=True) as some,
        ring.consumer(lossless=False, wait_for_takeover=True) as holder,
    ):
        held, expected = None, 0
        for _ in range(kills):
            child = fork(work)
            assert child.receive() == "ready"
            until = time.monotonic() + float(random.uniform(0, 0.02))
            while time.monotonic() < until:
                if (frame := everything.try_get()) is not None:
                    assert check(frame) == expected + frame.lost
                    expected = frame.seq + 1
                    frame = None
                drain(some)
                if random.random() < 0.1:
                    held = holder.try_get() or held
                if held is not None:
                    check(held)
            child.kill()
            assert child.code == -signal.SIGKILL
        seqs = drain(everything)
        assert seqs == sorted(set(seqs))
        assert not seqs or seqs[0] >= expected
        with ring.producer(on_full="raise") as producer:
            before = producer.next_seq
            feed(producer, ring.slots - (held is not None))
            # what the dead one still dropped is a gap; what this one put is all there
            assert drain(everything) == list(range(before, producer.next_seq))
            assert everything.delivered + everything.lost == producer.next_seq
            if held is not None:
                check(held)


# ---- everyone


@pytest.mark.event("everyone is killed")
def test_the_next_create_replaces_the_stale_ring(make, peer, name):
    maker, reader = peer(), peer()
    maker.run(peers.create, name)
    maker.run(peers.open_producer, 2)
    reader.run(peers.attach, name)
    reader.run(peers.open_consumer)
    reader.run(peers.hold, 1)
    with pytest.raises(shmring.RingExists, match=name):
        make(name)
    maker.kill()
    with pytest.raises(shmring.RingExists):  # the reader lives
        make(name)
    reader.kill()
    assert block_file(name).exists()
    ring = make(name, shape=(7,))
    assert ring.shape == (7,)
    assert ring.stats().consumers == ()
    assert ring.stats().producer.state == "none"
    with ring.producer() as producer, ring.consumer() as consumer:
        assert producer.next_seq == 0
        producer.put(payload(0, (7,)))
        assert drain(consumer) == [0]


@pytest.mark.event("everyone is killed")
def test_a_stale_ring_can_be_read_to_its_end(peer, name):
    """Nobody has to replace it: what was published is still there."""
    maker = peer()
    maker.run(peers.create, name)
    maker.run(peers.open_producer, 3)
    maker.kill()
    with shmring.Ring.attach(name) as ring, ring.consumer() as consumer:
        assert [check(consumer.get()) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(shmring.ProducerDied):
            consumer.get()
        ring.unlink()


def test_a_creator_without_producer_is_alive_too(make, peer, name):
    maker = peer()
    maker.run(peers.create, name)
    with pytest.raises(shmring.RingExists):
        make(name)
    maker.kill()
    make(name)


@pytest.mark.slow
def test_a_creator_killed_at_random_moments_never_blocks_the_name(make, fork, name):
    random = np.random.default_rng(3)

    def work(send):
        send("ready")
        while True:
            shmring.Ring.create(name, shape=(512,), dtype="u8", slots=4).unlink()

    before = set(os.listdir(SHM))
    for _ in range(8):
        child = fork(work)
        assert child.receive() == "ready"
        time.sleep(float(random.uniform(0, 0.01)))  # any moment will do: nothing waits for this
        child.kill()
        make(name).unlink()
    # A creator killed in the middle may leave its temporary file; its name says whose it is.
    for left in set(os.listdir(SHM)) - before:
        if name in left:
            os.unlink(SHM / left)
