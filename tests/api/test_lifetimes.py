"""Handles that outlive each other, exits at bad moments, no descriptors left, large and odd uses."""

import contextlib
import os
import resource
import subprocess
import sys

import numpy as np
import pytest

import shmring
from support.blocks import block_file, fresh_name
from support.frames import WORDS, check, check_batch, drain, feed, fill, payload
from support.peers import open_producer, put
from support.waiting import PATIENCE, settle


def test_handles_live_on_without_their_ring(ring):
    """`Ring.attach(name).consumer()`: nobody has to keep the Ring."""
    producer = shmring.Ring.attach(ring.name).producer()
    consumer = shmring.Ring.attach(ring.name).consumer()
    observer = shmring.Ring.attach(ring.name).observer()
    settle()
    for _ in range(3):
        feed(producer, 2)
        assert len(drain(consumer)) == 2
        assert check(observer.latest(0)) == producer.next_seq - 1
    assert ring.stats().producer.state == "live"
    producer.close()
    with pytest.raises(shmring.RingClosed):
        consumer.get(1)
    with pytest.raises(shmring.RingClosed):
        observer.get(1)
    consumer.close()
    observer.close()


def test_handles_know_their_ring(make):
    ring = make(shape=(3, 5), dtype="f4", meta="u2", attrs={"unit": "V"})
    with ring.producer() as producer, ring.consumer() as consumer, ring.observer() as observer:
        for handle in (producer, consumer, observer):
            assert handle.ring is ring
            assert (handle.name, handle.shape, handle.dtype) == (ring.name, (3, 5), np.dtype("f4"))
            with pytest.raises(AttributeError):
                handle.ring = None
    ring.close()
    for handle in (producer, consumer, observer):
        assert (handle.closed, handle.ring, handle.name) == (True, ring, ring.name)


def test_handles_keep_their_ring_open(ring):
    with shmring.Ring.attach(ring.name).consumer() as consumer:
        settle()
        assert not consumer.ring.closed
        assert len(consumer.ring.stats().consumers) == 1
        with consumer.ring.producer() as producer:
            feed(producer, 1)
            assert drain(consumer) == [0]


@pytest.mark.parametrize("readonly", [True, False])
@pytest.mark.parametrize("how", ["dropped", "closed"])
def test_an_observer_without_its_ring_still_knows_who_lives(ring, peer, how, readonly):
    other = peer(ring)
    other.run(open_producer)
    other.run(put, 1)
    attached = shmring.Ring.attach(ring.name, readonly=readonly)
    observer = attached.observer()
    if how == "closed":
        attached.close()
    del attached
    settle()
    spare = [os.open("/dev/null", os.O_RDONLY) for _ in range(5)]  # takes the number of a closed descriptor
    try:
        with contextlib.suppress(shmring.RingClosed, ValueError):  # it may be closed with its ring
            assert check(observer.get(1)) == 0
        other.kill()
        with pytest.raises((shmring.ProducerDied, shmring.RingClosed, ValueError)):
            observer.get(1)
    finally:
        observer.close()
        for fd in spare:
            os.close(fd)


def test_closing_a_ring_closes_its_handles(ring):
    attached = shmring.Ring.attach(ring.name)
    producer, consumer, observer = attached.producer(), attached.consumer(), attached.observer()
    feed(producer, 2)
    frame = consumer.get(0)
    attached.close()
    assert producer.closed
    assert consumer.closed
    assert observer.closed
    stats = ring.stats()
    assert stats.producer.state == "closed"
    assert [row.policy for row in stats.consumers] == ["left"]
    assert check(frame) == 0
    frame.release()
    assert ring.stats().consumers == ()


def test_unlinking_by_a_closed_handle_takes_no_newer_ring(make, name):
    old = make(name)
    old.close()
    block_file(name).unlink()
    new = make(name, shape=(7,))
    with contextlib.suppress(shmring.RingNotFound):
        old.unlink()
    assert block_file(name).exists()
    assert new.shape == (7,)


@pytest.mark.parametrize("what", ["consumer", "producer", "attach", "create"])
def test_no_descriptor_left_is_an_error_and_nothing_else(ring, fork, what):
    """Whatever could not be opened has taken no place, no lock and no name."""
    name = fresh_name()

    def work(send):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        top = max(int(fd) for fd in os.listdir("/proc/self/fd")) + 5
        while os.open("/dev/null", os.O_RDONLY) < top:
            pass  # no number below is free now
        used = len(os.listdir("/proc/self/fd"))
        uses = {
            "consumer": ring.consumer,
            "producer": ring.producer,
            "attach": lambda: shmring.Ring.attach(ring.name),
            "create": lambda: shmring.Ring.create(name, shape=(WORDS,), dtype="u8", slots=4),
        }
        failed = 0
        for spare in range(8):  # the first, the second, ... descriptor it needs is not there
            resource.setrlimit(resource.RLIMIT_NOFILE, (top + 1 + spare, hard))
            try:
                made = uses[what]()
            except OSError:
                failed += 1
            else:
                made.close()
                if what == "create":
                    made.unlink()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert len(os.listdir("/proc/self/fd")) == used
        made = uses[what]()
        stats = ring.stats()
        send([failed, len(stats.consumers), stats.producer.state])
        if what == "create":
            made.unlink()

    child = fork(work)
    failed, consumers, state = child.receive()
    assert failed > 0
    assert consumers == (what == "consumer")
    assert (state == "live") == (what == "producer")
    assert child.wait() == 0
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 1)
        assert drain(consumer) == [0]


@pytest.mark.parametrize("wait", ["consumer.get", "full.put(frame)", "asyncio"])
@pytest.mark.slow
def test_an_exit_while_a_thread_waits_is_quiet(wait):
    code = f"""
import asyncio, threading, time, os
import numpy as np, shmring
ring = shmring.Ring.create(shape=(512,), dtype="u8", slots=2)
other = shmring.Ring.create(shape=(512,), dtype="u8", slots=2)
ring.unlink(); other.unlink()
frame = np.zeros(512, "u8")
consumer, full, gate = ring.consumer(), other.producer(), other.consumer()
full.put(frame); full.put(frame)
async def wait():
    await consumer.get_async()
work = {{"consumer.get": consumer.get, "full.put(frame)": lambda: full.put(frame),
         "asyncio": lambda: asyncio.run(wait())}}[{wait!r}]
thread = threading.Thread(target=work, daemon=True)
thread.start()
def state():
    return open(f"/proc/self/task/{{thread.native_id}}/stat").read().rpartition(")")[2].split()[0]
quiet = 0
while quiet < 20:
    quiet = quiet + 1 if state() == "S" else 0
    time.sleep(0.001)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def begin_a_frame(here):
    here.slot = here.producer.claim()
    here.slot.array[:9] = 1


def test_an_exit_with_a_claimed_slot_publishes_nothing(ring, peer):
    other = peer(ring)
    with ring.consumer() as consumer:
        other.run(open_producer)
        other.run(put, 1)
        other.run(begin_a_frame)
        assert other.leave() == ""
        assert check(consumer.get(5)) == 0
        with pytest.raises((shmring.RingClosed, shmring.ProducerDied)):
            consumer.get(5)


def test_a_block_that_carries_a_live_ring_is_not_formatted_again():
    from multiprocessing.shared_memory import SharedMemory

    layout = {"shape": (WORDS,), "dtype": "u8", "slots": 4}
    block = SharedMemory(create=True, size=shmring.Ring.required_size(**layout))
    try:
        with shmring.Ring.create(block=block, **layout) as ring, ring.producer() as producer:
            feed(producer, 1)
            with pytest.raises(shmring.RingExists, match=block.name):
                shmring.Ring.create(block=block, **layout)
            with ring.consumer() as consumer:
                assert drain(consumer) == [0]
        with shmring.Ring.create(block=block, **layout) as ring, ring.producer() as producer:
            assert producer.next_seq == 0  # nobody used it any more
            with ring.consumer() as consumer:
                feed(producer, 1)
                assert drain(consumer) == [0]
        with pytest.raises((ValueError, TypeError)):
            shmring.Ring.create("a name", block=block, **layout)
    finally:
        block.close()
        block.unlink()


def test_a_frame_copy_is_an_array_for_others_as_a_frame_is(make):
    ring = make(shape=(10, 3), dtype="u2", variable_rows=True)
    with ring.producer() as producer, ring.observer() as observer:
        producer.put(np.arange(6, dtype="u2").reshape(2, 3))
        copy = observer.latest(5)
        assert (copy.shape, copy.dtype) == ((2, 3), np.dtype("u2"))
        assert np.shares_memory(np.asarray(copy), copy.array)
        assert not np.shares_memory(np.array(copy), copy.array)
        assert np.asarray(copy, "f8").tolist() == copy.array.tolist()
        assert np.add(copy, 1)[1, 2] == 6
        assert copy[1].tolist() == [3, 4, 5]
        with pytest.raises(ValueError, match="copy"):
            np.asarray(copy, "f8", copy=False)


def test_an_observer_never_sees_a_torn_frame(ring, peer):
    """Copies without a pin, of a producer at full speed in another program."""
    other = peer(ring)
    other.run(open_producer)
    with ring.observer() as observer, shmring.Ring.attach(ring.name, readonly=True) as watched:
        seen = published = 0
        expected = None
        with watched.observer() as second:
            while seen <= 10:  # until the copies were quick enough to be made while frames came
                other.begin(put, 30000)
                published += 30000
                while expected is None or expected < published - 1000:
                    copy = observer.get(PATIENCE) if seen % 2 else observer.latest(PATIENCE)
                    number = check(copy)
                    assert expected is None or number == expected + copy.lost
                    expected = copy.seq + 1
                    with contextlib.suppress(shmring.RingEmpty):  # it may have the last one already
                        check(second.latest(0))
                    seen += 1
                assert other.answer() == 30000


@pytest.mark.parametrize("take", [lambda one: one.get(0), lambda one: one.batch(2)], ids=["get", "batch"])
@pytest.mark.parametrize("look", [lambda taken: None, lambda taken: taken.array], ids=["unseen", "array"])
def test_frames_that_die_of_an_exception_leave_it_alone(ring, take, look):
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 4)

        def fail():
            taken = take(consumer)
            look(taken)
            try:
                raise KeyError("the first")
            finally:
                del taken

        with pytest.raises(KeyError, match="the first") as caught:
            fail()
        del caught
        assert consumer.held == 0
        with pytest.raises(ValueError, match="of the argument"):
            raise ValueError(f"of the argument {take(consumer)!r:.0}")
        assert consumer.held == 0


def test_large_claims_and_batches(make):
    """More frames than any internal limit on one claim."""
    count = 5000
    ring = make(shape=(8,), slots=8192)
    frames = [payload(seq, (8,)) for seq in range(count)]
    with ring.producer(on_full="raise") as producer, ring.consumer() as consumer:
        assert producer.put_many(frames) == count
        seqs = []
        while consumer.lag:
            seqs += check_batch(consumer.batch(count))
        assert seqs == list(range(count))
        with producer.claim(count) as slot:
            assert 1000 < slot.count <= count
            fill(slot)
            claimed = slot.count
        assert check_batch(consumer.batch(claimed, claimed)) == list(range(count, count + claimed))
        assert consumer.lost == 0


def test_a_batch_that_can_never_be_complete_is_refused(make, lossless):
    """It waits for as many frames as it may hold, or as there are slots, while it holds two itself."""
    ring = make(slots=10)
    with ring.producer(on_full="raise") as producer, ring.consumer(lossless=lossless) as consumer:
        feed(producer, ring.slots)
        held = [consumer.get(0), consumer.get(0)]
        with pytest.raises(shmring.SlotsHeld):
            consumer.batch(ring.slots, consumer.max_held or ring.slots)
        assert check_batch(consumer.batch(2, 2)) == [2, 3]
        assert [check(frame) for frame in held] == [0, 1]


def test_windows_that_are_all_kept_end_in_an_error(make):
    ring = make(slots=8)
    with ring.producer(on_full="raise") as producer, ring.consumer() as consumer:
        windows, kept = consumer.windows(2, 1), []
        feed(producer, ring.slots)
        kept = [next(windows) for _ in range(ring.slots - 1)]
        with pytest.raises(shmring.RingFull):
            producer.put(payload(0))
        with pytest.raises(shmring.SlotsHeld):
            next(windows)
        assert [check_batch(window) for window in kept] == [[i, i + 1] for i in range(ring.slots - 1)]


@pytest.mark.parametrize("label", ["a\0b", "\udc80", "x" * 63, "é" * 31])
def test_odd_labels_come_back_or_are_refused(ring, label):
    try:
        consumer = ring.consumer(label=label)
    except ValueError:
        assert label[1:2] == "\0" or label == "\udc80"
    else:
        with consumer:
            assert consumer.label == label == ring.stats().consumers[0].label


def test_a_slot_cannot_be_published_by_the_child_of_a_fork(ring, fork):
    with ring.producer() as producer, ring.consumer() as consumer:
        slot = producer.claim()

        def work(send):
            for use in (slot.publish, slot.abort):
                with pytest.raises(shmring.ForkedHandle):
                    use()
            with pytest.raises(shmring.ForkedHandle), slot:
                pass
            send("done")

        child = fork(work)
        assert child.receive() == "done"
        assert child.wait() == 0
        assert drain(consumer) == []
        fill(slot)
        slot.publish()
        assert drain(consumer) == [0]


def test_an_inherited_observer_works_or_says_so(ring, peer, fork):
    other = peer(ring)
    other.run(open_producer)
    other.run(put, 1)
    observer = ring.observer()

    def work(send):
        try:
            send(check(observer.get(1)))
            other_is_dead = observer.get
            send("waits")
            with pytest.raises(shmring.ProducerDied):
                other_is_dead(PATIENCE)
        except shmring.ForkedHandle:
            send("refused")
        send("done")

    child = fork(work)
    first = child.receive()
    assert first in (0, "refused")
    if first == 0:
        assert child.receive() == "waits"
        other.kill()
    assert child.receive() == "done"
    assert child.wait() == 0
    observer.close()


# ---- the end of the interpreter


EXIT = """
import atexit, numpy as np
rings = []
def late():
    for ring, out, frames, watch in rings:
        out.put(np.ones(4, "u1"))
        assert frames.get(0).array[0] == 1
        assert watch.latest(0).array[0] == 1
        assert ring.stats().producer.state == "live", ring.stats()
        ring.consumer().close()
        ring.close()
        ring.unlink()
        print("tidy", ring.closed)
atexit.register(late)
import shmring
ring = shmring.Ring.create({name!r}, shape=(4,), dtype="u1", slots=4)
rings.append((ring, ring.producer(), ring.consumer(), ring.observer()))
"""


def test_a_handler_of_atexit_that_was_there_before_the_first_ring(name):
    ended = subprocess.run(
        [sys.executable, "-c", EXIT.format(name=name)], capture_output=True, text=True, timeout=60
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("tidy True\n", "", 0)
    assert not block_file(name).exists()
