"""Rings across processes: every start method, pickling, unrelated programs, fork; no block is harmed."""

import contextlib
import copy
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import shared_memory

import pytest

import shmring
from support import children, peers
from support.blocks import block_file
from support.frames import check, drain, feed, payload
from support.processes import Forked, PeerError
from support.waiting import PATIENCE, settle, wait_until

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def running(process):
    """A multiprocessing process that is over at the end, whatever happens."""
    process.start()
    try:
        yield process
        process.join(PATIENCE)
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join()
        process.close()


@pytest.mark.event("fork, spawn, forkserver, subprocess, threads, free-threaded Python")
def test_consume_in_a_child(context, ring):
    mine, theirs = context.Pipe()
    with mine, theirs, running(context.Process(target=children.consume, args=(ring, 50, theirs))):
        assert mine.recv() == "joined"
        with ring.producer() as producer:
            feed(producer, 50)
            assert mine.recv() == list(range(50))
    assert block_file(ring.name).exists()


@pytest.mark.event("fork, spawn, forkserver, subprocess, threads, free-threaded Python")
def test_produce_in_a_child(context, ring):
    with ring.consumer() as consumer:
        with running(context.Process(target=children.produce, args=(ring, 50))):
            assert [check(frame) for frame in consumer] == list(range(50))
        assert consumer.lost == 0
    assert block_file(ring.name).exists()


@pytest.mark.parametrize("method", [pytest.param("spawn", marks=pytest.mark.stress), "fork"])
def test_rings_go_into_pools(ring, method):
    """One worker produces, another consumes, the ring goes there as an argument."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        seqs = pool.submit(children.seqs_of, ring)
        wait_until(lambda: ring.stats().consumers, "the worker has joined")
        assert pool.submit(children.produce, ring, 50).result(PATIENCE) == 50
        assert seqs.result(PATIENCE) == list(range(50))
    assert block_file(ring.name).exists()


@pytest.mark.event("fork, spawn, forkserver, subprocess, threads, free-threaded Python")
def test_an_unrelated_program_consumes(ring, peer):
    other = peer(ring, fresh=True)
    other.run(peers.open_consumer, label="elsewhere")
    with ring.producer() as producer:
        for _ in range(3):
            feed(producer, ring.slots)
            assert len(other.run(peers.take_all)) == ring.slots
    assert other.leave() == ""


@pytest.mark.event("fork, spawn, forkserver, subprocess, threads, free-threaded Python")
def test_an_unrelated_program_produces(ring, peer):
    other = peer(ring, fresh=True)
    with ring.consumer() as consumer:
        other.run(peers.open_producer)
        for _ in range(3):
            other.run(peers.put, ring.slots)
            assert len(drain(consumer)) == ring.slots
        other.run(peers.close_producer)
        with pytest.raises(shmring.RingClosed):
            consumer.get(1)
    assert other.leave() == ""


# ---- pickle


def test_a_pickled_ring_is_the_same_ring(make):
    ring = make(attrs={"unit": "V"}, meta="i8")
    with pickle.loads(pickle.dumps(ring)) as copy:
        assert copy is not ring
        assert (copy.name, copy.shape, copy.dtype, copy.slots) == (
            ring.name,
            ring.shape,
            ring.dtype,
            ring.slots,
        )
        assert (copy.attrs, copy.meta_dtype) == (ring.attrs, ring.meta_dtype)
        with ring.producer() as producer, copy.consumer() as consumer:
            feed(producer, 2)
            assert drain(consumer) == [0, 1]
    assert block_file(ring.name).exists()  # the copy is an attacher


def test_a_pickled_readonly_ring_stays_readonly(ring):
    with (
        shmring.Ring.attach(ring.name, readonly=True) as watched,
        pickle.loads(pickle.dumps(watched)) as copy,
    ):
        assert copy.readonly
        with pytest.raises(shmring.RingAccessDenied):
            copy.producer()


def test_a_pickle_never_opens_another_ring_of_the_same_name(make, name):
    old = make(name)
    pickled = pickle.dumps(old)
    old.unlink()
    with pytest.raises(shmring.RingNotFound):
        pickle.loads(pickled)
    make(name)
    with pytest.raises((shmring.RingNotFound, shmring.RingIncompatible), match=name):
        pickle.loads(pickled)


@pytest.mark.parametrize(
    "attempt", [pickle.dumps, copy.copy, copy.deepcopy], ids=["pickle", "copy", "deepcopy"]
)
def test_handles_are_not_pickled_or_copied(ring, attempt):
    """The message says what can be passed on instead."""
    with ring.producer() as producer, ring.consumer() as consumer, ring.observer() as observer:
        feed(producer, 3)
        slot = producer.claim()
        refused = {
            producer: r"a Producer .*pass the Ring, .*ring\.producer\(\)",
            consumer: r"a Consumer .*pass the Ring, .*ring\.consumer\(\)",
            observer: r"a\w* Observer .*pass the Ring, .*ring\.observer\(\)",
            slot: r"a Slot .*pass the Ring, .*ring\.producer\(\)",
            consumer.get(0): r"a Frame .*frame\.array\.copy\(\)",
            consumer.batch(1): r"a Batch .*batch\.array\.copy\(\)",
        }
        for one, message in refused.items():
            with pytest.raises(TypeError, match=message):
                attempt(one)
        slot.abort()


# ---- nobody else's block is harmed


SCRIPT = """
import sys, shmring, numpy as np
import multiprocessing
def work(ring):
    with ring, ring.consumer() as consumer:
        assert [int(frame.array[0]) for frame in consumer] == [0, 1, 2]
if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with shmring.Ring.create(shape=(512,), dtype="u8", slots=4) as ring:
        child = context.Process(target=work, args=(ring,))
        child.start()
        with ring.producer() as producer:
            producer.wait_for_consumers(1, 20)
            for value in range(3):
                producer.put(np.full(512, value, "u8"))
        child.join(20)
        assert child.exitcode == 0
"""


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_no_word_from_the_resource_tracker(tmp_path, method):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    ended = subprocess.run([sys.executable, script, method], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_an_attacher_that_leaves_destroys_nothing(ring, peer):
    for how in (peers.close_ring, peers.do_nothing, peers.open_consumer, peers.open_producer):
        other = peer(ring)
        other.run(how)
        assert other.leave() == ""
        assert block_file(ring.name).exists()
    with shmring.Ring.attach(ring.name) as again, again.producer() as producer, ring.consumer() as consumer:
        feed(producer, 2)
        assert drain(consumer) == [0, 1]


def start_a_tracker(here):
    """As a program does that makes shared memory of its own."""
    own = shared_memory.SharedMemory(create=True, size=100)
    own.close()
    own.unlink()


def test_an_attacher_beside_a_running_tracker_destroys_nothing(ring, peer):
    other = peer(ring, fresh=True)
    other.run(start_a_tracker)
    assert other.leave() == ""
    assert block_file(ring.name).exists()


def test_the_block_outlives_a_creator_that_does_not_unlink(peer, name):
    other = peer()
    other.run(peers.create, name)
    other.run(peers.open_producer, 2)
    other.run(peers.close_producer)
    assert other.leave() == ""
    with shmring.Ring.attach(name) as ring, ring.consumer() as consumer:
        assert [check(frame) for frame in consumer] == [0, 1]
        ring.unlink()


# ---- fork


@pytest.mark.event("fork, spawn, forkserver, subprocess, threads, free-threaded Python")
@pytest.mark.parametrize(
    "use",
    [
        lambda producer, consumer: producer.put(payload(0)),
        lambda producer, consumer: producer.claim(),
        lambda producer, consumer: producer.put_many(payload(0)[None]),
        lambda producer, consumer: producer.wait_for_consumers(),
        lambda producer, consumer: consumer.get(),
        lambda producer, consumer: consumer.try_get(),
        lambda producer, consumer: consumer.latest(),
        lambda producer, consumer: consumer.batch(2),
        lambda producer, consumer: next(consumer),
        lambda producer, consumer: next(consumer.windows(2)),
    ],
    ids=[
        "put",
        "claim",
        "put_many",
        "wait_for_consumers",
        "get",
        "try_get",
        "latest",
        "batch",
        "next",
        "windows",
    ],
)
def test_inherited_handles_raise(ring, fork, use):
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 2)
        child = fork(lambda send: use(producer, consumer))
        with pytest.raises(PeerError) as caught:
            child.receive()
        assert caught.value.kind == "ForkedHandle"
        assert "RuntimeError" in caught.value.kinds
        assert "fork" in caught.value.message
        assert drain(consumer) == [0, 1]
        feed(producer, 1)
        assert drain(consumer) == [2]


def test_an_inherited_ring_works(ring, fork):
    with ring.producer() as producer, ring.consumer() as mine:

        def work(send):
            with ring.consumer() as consumer:
                send("joined")
                send([check(consumer.get(PATIENCE)) for _ in range(6)])

        child = fork(work)
        assert child.receive() == "joined"
        for _ in range(6):
            feed(producer, 1)
            check(mine.get(0))
        assert child.receive() == list(range(6))
        assert child.wait() == 0
        assert mine.lost == 0


def test_a_child_can_be_the_producer(ring, fork):
    with ring.consumer() as consumer:

        def work(send):
            with ring.producer() as producer:
                feed(producer, 10)

        child = fork(work)
        assert [check(frame) for frame in consumer] == list(range(10))
        assert child.wait() == 0


def test_closing_inherited_handles_harms_nobody(ring, fork):
    """close(), with, garbage collection in the child: the parent's places, locks and frames stay."""
    producer, consumer = ring.producer(on_full="raise"), ring.consumer(label="mine")
    feed(producer, 1)
    frames = [consumer.get(0)]
    slot = producer.claim()

    def work(send):
        nonlocal producer, consumer, slot
        consumer.close()
        producer.close()
        del producer, consumer, slot
        frames.pop().release()
        settle()
        ring.close()
        send("done")

    child = fork(work)
    assert child.receive() == "done"
    assert child.wait() == 0
    slot.array[...] = payload(1)
    slot.publish()
    (row,) = ring.stats().consumers
    assert (row.label, row.policy, row.alive, row.held) == ("mine", "lossless", True, 1)
    with shmring.Ring.attach(ring.name) as again, pytest.raises(shmring.ProducerExists):
        again.producer()
    for _ in range(5 * ring.slots):
        assert check(consumer.get(0)) == producer.next_seq - 1
        feed(producer, 1)
        check(frames[0])
    producer.close()
    consumer.close()


@pytest.mark.parametrize("ending", ["exit", "kill", "sys.exit"])
def test_a_childs_end_releases_nothing_of_the_parents(ring, fork, ending):
    with ring.producer(on_full="raise") as producer, ring.consumer() as consumer:
        feed(producer, 1)
        frame = consumer.get(0)
        view = frame.array[10:]

        def work(send):
            assert check(frame) == 0
            if ending == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            elif ending == "sys.exit":
                raise SystemExit

        fork(work).wait()
        for _ in range(5 * ring.slots):
            feed(producer, 1)
            check(consumer.get(0))
            assert check(frame) == 0
        assert view[0] == payload(0)[10]
        (row,) = ring.stats().consumers
        assert row.alive
        assert row.pid == os.getpid()
        with pytest.raises(shmring.RingFull):
            feed(producer, 2 * ring.slots)


def test_an_inherited_frame_can_be_read(ring, fork):
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 1)
        frame = consumer.get(0)
        array = frame.array
        child = fork(lambda send: send([check(frame), int(array[3])]))
        assert child.receive() == [0, int(payload(0)[3])]


def fork_a_child(here):
    """Its number; it does nothing for a minute."""
    here.child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    here.child.start()
    return here.child.pid


def start_a_program(here):
    """The same for a program that inherits descriptors."""
    devnull = subprocess.DEVNULL
    here.child = subprocess.Popen(
        ["sleep", "60"], close_fds=False, stdin=devnull, stdout=devnull, stderr=devnull
    )
    return here.child.pid


def test_a_forked_child_does_not_keep_a_dead_consumer_alive(ring, peer):
    """The lock of a killed consumer is free although its forked child lives on with every mapping."""
    other = peer(ring)
    other.run(peers.open_consumer)
    with ring.producer() as producer:
        feed(producer, ring.slots)
        other.run(peers.hold, 2)
        child = other.run(fork_a_child)
        try:
            other.kill()
            assert os.path.exists(f"/proc/{child}")
            for _ in range(2 * ring.slots):
                assert producer.put(payload(producer.next_seq), timeout=PATIENCE)
            assert ring.stats().consumers == ()
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_subprocess_does_not_keep_a_dead_consumer_alive(ring, peer):
    """The same for a program that the consumer started without closing descriptors."""
    other = peer(ring)
    other.run(peers.open_consumer)
    with ring.producer() as producer:
        feed(producer, ring.slots)
        child = other.run(start_a_program)
        try:
            other.kill()
            for _ in range(2 * ring.slots):
                assert producer.put(payload(producer.next_seq), timeout=PATIENCE)
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_forked_child_does_not_keep_a_dead_producer_alive(ring, peer):
    other = peer(ring)
    other.run(peers.open_producer, 1)
    child = other.run(fork_a_child)
    try:
        with ring.consumer() as consumer:
            other.kill()
            assert check(consumer.get(0)) == 0
            with pytest.raises(shmring.ProducerDied):
                consumer.get()
            with ring.producer() as producer:
                feed(producer, 1)
                assert check(consumer.get(0)) == 1
    finally:
        os.kill(child, signal.SIGKILL)


def test_the_grandchildren_lose_no_descriptor(ring, fork):
    """What the child opened after the fork is not closed by the fork after that."""
    with ring.producer() as producer, ring.consumer() as consumer:

        def work(send):
            mine = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
            with ring.consumer(start="next") as own:

                def work_too(send_too):
                    assert [os.fstat(fd).st_rdev for fd in mine] == [os.stat("/dev/null").st_rdev] * 20
                    with ring.consumer(start="next") as third:
                        send_too("joined")
                        send_too(check(third.get(PATIENCE)))

                grandchild = Forked(work_too)
                assert grandchild.receive() == "joined"
                send("joined")
                send([check(own.get(PATIENCE)), grandchild.receive()])
                assert grandchild.wait() == 0

        child = fork(work)
        assert child.receive() == "joined"
        feed(producer, 1)
        assert child.receive() == [0, 0]
        assert child.wait() == 0
        assert drain(consumer) == [0]


def test_a_ring_made_after_fork_is_the_childs_own(fork, name):
    def work(send):
        with (
            shmring.Ring.create(name, shape=(512,), dtype="u8", slots=4) as ring,
            ring.producer() as producer,
        ):
            send("ready")
            producer.wait_for_consumers(1, PATIENCE)
            feed(producer, 3)

    child = fork(work)
    assert child.receive() == "ready"
    with shmring.Ring.attach(name) as ring, ring.consumer() as consumer:
        assert [check(frame) for frame in consumer] == [0, 1, 2]
    assert child.wait() == 0
