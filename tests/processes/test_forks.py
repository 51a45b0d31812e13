"""Forks: a child's views show what they showed at the fork, and it keeps nothing of its parent's alive."""

import contextlib
import ctypes
import errno
import faulthandler
import multiprocessing
import os
import resource
import signal
import threading

import numpy as np
import pytest

import shmring
from shmring import _core, _presence
from support.blocks import block_file
from support.events import START_METHODS
from support.frames import WORDS, check, drain, feed, fill, payload
from support.processes import Forked, PeerError
from support.waiting import PATIENCE, settle

pytestmark = [pytest.mark.slow, pytest.mark.event(START_METHODS)]


class Gate:
    """Lets a forked child wait until its parent says so."""

    def __init__(self):
        self.reader, self.writer = os.pipe()

    def wait(self):
        assert os.read(self.reader, 1) == b"x"

    def open(self):
        os.write(self.writer, b"x")

    def close(self):
        os.close(self.reader)
        os.close(self.writer)


@pytest.fixture
def gate(nothing_left_behind):
    one = Gate()
    yield one
    one.close()


def overwrite(ring, producer, consumer):
    """Publish until every slot that nobody holds has another frame, and more."""
    for _ in range(3 * ring.slots):
        feed(producer, 1)
        consumer.get(0).release()


def words(views):
    """All words of each view, as lists."""
    return [np.asarray(view).reshape(-1).tolist() for view in views]


def expected(*seqs, shape=(WORDS,)):
    return [word for seq in seqs for word in payload(seq, shape).reshape(-1).tolist()]


VIEWS = {
    "array": lambda frame: frame.array,
    "part of the array": lambda frame: frame.array[10:20],
    "memoryview": memoryview,
    "frombuffer": lambda frame: np.frombuffer(frame, "u8"),
    "frame": lambda frame: frame,
    "frame with an array": lambda frame: (frame.array, frame)[1],
    "reversed": lambda frame: frame.array[::-1],
}


@pytest.mark.parametrize("kind", VIEWS)
def test_a_view_of_a_frame_stays_that_frame(make, fork, gate, lossless, kind):
    ring = make(slots=4)
    with ring.producer() as producer, ring.consumer(lossless=lossless) as consumer:
        feed(producer, 3)
        consumer.get(0).release()
        given = [VIEWS[kind](consumer.get(0))]
        before = words(given)

        def work(send):
            gate.wait()
            send(words(given) == before)

        child = fork(work)
        given.clear()
        assert consumer.held == 0
        consumer.get(0).release()
        overwrite(ring, producer, consumer)
        gate.open()
        assert child.receive() is True
        assert child.wait() == 0
        assert len(ring.stats().consumers) == 1
        overwrite(ring, producer, consumer)


def test_views_of_many_frames_stay_those_frames(make, fork, gate, lossless):
    """Batches and windows, across the wrap too, with frames smaller than a page."""
    shape = (3,)
    ring = make(slots=512, spares=514, shape=shape)  # so many that a lossy consumer may hold all frames

    def publish(producer, count):
        producer.put_many(np.stack([payload(producer.next_seq + i, shape) for i in range(count)]))

    with ring.producer() as producer, ring.consumer(lossless=lossless) as consumer:
        publish(producer, ring.slots - 5)
        consumer.batch(ring.slots - 8).release()
        publish(producer, 100)
        single = consumer.get(0)
        batch = consumer.batch(20)
        windows = consumer.windows(8, 2)
        held = [single, batch.array[:, :], next(windows), next(windows).array]
        first = ring.slots - 8
        right = [
            expected(first, shape=shape),
            expected(*range(first + 1, first + 21), shape=shape),
            expected(*range(first + 21, first + 29), shape=shape),
            expected(*range(first + 23, first + 31), shape=shape),
        ]
        assert words(held) == right

        def work(send):
            gate.wait()
            send(words(held) == right)

        child = fork(work)
        held.clear()
        del single, batch
        while consumer.lag:
            consumer.batch(ring.slots).release()
        for _ in range(3):
            publish(producer, ring.slots)
            while consumer.lag:
                consumer.batch(ring.slots).release()
        gate.open()
        assert child.receive() is True
        assert child.wait() == 0


def report(array, seq, pipe, gate):
    gate.wait()
    pipe.send((seq, array.tolist()))


def test_arrays_as_arguments_of_processes(make, gate):
    """Each child has the frame that it was given, though the parent let go of it long ago."""
    ring = make(slots=4, shape=(5,))
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe()
    children = []
    with mine, theirs, ring.producer() as producer, ring.consumer() as consumer:
        try:
            for seq in range(8):
                producer.put(payload(seq, (5,)), timeout=PATIENCE)
                child = context.Process(target=report, args=(consumer.get(0).array, seq, theirs, gate))
                child.start()
                children.append(child)
            assert consumer.held == 0
            for _ in children:
                gate.open()
            got = dict(mine.recv() for _ in children)
            assert got == {seq: payload(seq, (5,)).tolist() for seq in range(8)}
        finally:
            for child in children:
                child.kill()
                child.join()
                child.close()


GIVEN = []


def sum_of_given(_turn):
    return int(GIVEN[0].sum())


def test_a_pool_that_was_forked_while_a_frame_was_held(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 1)
        GIVEN[:] = [consumer.get(0).array]
        right = int(GIVEN[0].sum())
        try:
            with multiprocessing.get_context("fork").Pool(1) as pool:
                assert pool.map(sum_of_given, range(2)) == [right, right]
                GIVEN.clear()
                overwrite(ring, producer, consumer)
                assert pool.map(sum_of_given, range(2)) == [right, right]
                pool.close()
                pool.join()
        finally:
            GIVEN.clear()


def test_frames_in_a_grandchild(ring, fork, gate):
    """What was inherited twice, and what the child took itself."""
    with contextlib.closing(Gate()) as inner, ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 2)
        inherited = [consumer.get(0)]

        def work(send):
            with ring.consumer(start="oldest") as mine:
                own = [mine.get(0), mine.get(0).array]
                assert words(own) == [expected(0), expected(1)]

                def work_too(send_too):
                    inner.wait()
                    send_too(words([inherited[0], *own]))

                grandchild = Forked(work_too)
                own.clear()
                send("forked")
                gate.wait()
                while mine.lag:
                    mine.get(0).release()
                inner.open()
                answer = grandchild.receive()
                assert grandchild.wait() == 0
                send(answer == [expected(0), expected(0), expected(1)])

        child = fork(work)
        inherited.clear()
        assert child.receive() == "forked"
        consumer.get(0).release()
        feed(producer, 2)
        drain(consumer)
        gate.open()
        assert child.receive() is True
        assert child.wait() == 0


def test_the_ring_works_in_the_child_while_frames_are_held(ring, fork, gate):
    """The slots are mapped again: new handles, and an inherited observer, see what the ring has now."""
    with ring.producer() as producer, ring.consumer() as consumer, ring.observer() as observer:
        feed(producer, 1)
        frame = consumer.get(0)

        def work(send):
            with ring.consumer(start="next") as mine:
                send("joined")
                send([check(mine.get(PATIENCE)) for _ in range(2 * ring.slots)])
                send(check(observer.latest(PATIENCE)))
            send(check(frame))
            del mine
            ring.close()
            send(check(frame))

        child = fork(work)
        assert child.receive() == "joined"
        for _ in range(2 * ring.slots):
            producer.put(payload(producer.next_seq), timeout=PATIENCE)
            consumer.get(0).release()
        assert child.receive() == list(range(1, 2 * ring.slots + 1))
        assert child.receive() == 2 * ring.slots
        assert child.receive() == 0
        assert child.receive() == 0
        assert child.wait() == 0


def test_frames_whose_consumer_and_ring_are_closed(make, fork, gate, lossless):
    ring = make()
    attached = shmring.Ring.attach(ring.name)
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 2)
        reader = attached.consumer(lossless=lossless)
        held = [reader.get(0), reader.get(0).array]
        reader.close()
        attached.close()
        del reader, attached

        def work(send):
            gate.wait()
            send(words(held) == [expected(0), expected(1)])

        child = fork(work)
        held.clear()
        drain(consumer)
        overwrite(ring, producer, consumer)
        gate.open()
        assert child.receive() is True
        assert child.wait() == 0


def mappings():
    with open("/proc/self/maps") as file:
        return len(file.readlines())


@pytest.mark.slow
def test_a_fork_leaves_no_mapping_in_the_parent(ring, fork):
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 2)
        held = [consumer.get(0), consumer.get(0).array]
        fork(lambda send: None).wait()
        before = mappings()
        for _ in range(20):
            fork(lambda send: None).wait()
        assert mappings() < before + 10
        assert words(held) == [expected(0), expected(1)]


def test_the_copies_go_with_the_last_view(make, fork):
    ring = make(slots=4, shape=(1 << 18,), dtype="u1")

    with ring.producer() as producer:
        consumer = ring.consumer()
        producer.put(np.full(1 << 18, 7, "u1"))
        held = [consumer.get(0).array]

        def work(send):
            nonlocal consumer
            assert held[0].min() == held[0].max() == 7
            before = mappings()
            held.clear()
            consumer = None
            ring.close()
            ring._block = None
            settle()
            send(before - mappings() >= 3)

        child = fork(work)
        assert child.receive() is True
        assert child.wait() == 0
        held.clear()
        consumer.close()


# ---- slots of a claim


@pytest.mark.parametrize("ending", ["publish", "abort"])
def test_a_claimed_array_in_the_child_is_read_only_and_private(ring, fork, gate, ending):
    with ring.producer() as producer, ring.consumer() as consumer:
        slot = producer.claim()
        slot.array[...] = payload(0)

        def work(send):
            gate.wait()
            assert slot.array.tolist() == expected(0)
            with pytest.raises(ValueError, match="read-only"):
                slot.array[:] = 1
            send("refused")

        child = fork(work)
        getattr(slot, ending)()
        drain(consumer)
        overwrite(ring, producer, consumer)
        gate.open()
        assert child.receive() == "refused"
        assert child.wait() == 0
        feed(producer, 1)
        drain(consumer)


@pytest.mark.parametrize("many", [1, 3])
def test_a_write_through_an_inherited_view_of_a_slot_reaches_nobody(ring, fork, gate, many):
    """It ends the child, and no frame of the parent changes: not the one that is open, none that follows."""
    with ring.producer() as producer, ring.consumer() as consumer:
        slot = producer.claim(many)
        part = slot.array[..., 5:10]

        def work(send):
            faulthandler.disable()  # what comes is expected
            send("ready")
            gate.wait()
            part[...] = 1

        child = fork(work)
        assert child.receive() == "ready"
        fill(slot)
        slot.publish()
        feed(producer, ring.slots - slot.count)
        gate.open()
        assert child.wait() == -signal.SIGSEGV
        assert drain(consumer) == list(range(ring.slots))


def test_an_array_that_was_not_asked_for_before_the_fork(ring, fork):
    with ring.producer() as producer:
        slot = producer.claim()
        child = fork(lambda send: slot.array)
        with pytest.raises(PeerError, match="Slot was opened before a fork") as caught:
            child.receive()
        assert caught.value.kind == "ForkedHandle"
        slot.abort()


def test_the_array_of_a_published_slot_can_be_read_in_the_child(ring, fork, gate):
    with ring.producer() as producer, ring.consumer() as consumer:
        with producer.claim() as slot:
            fill(slot)
        kept = slot.array

        def work(send):
            gate.wait()
            send(kept.tolist() == expected(0))

        child = fork(work)
        drain(consumer)
        overwrite(ring, producer, consumer)
        gate.open()
        assert child.receive() is True
        assert child.wait() == 0


# ---- locks


@contextlib.contextmanager
def orphan(fork, work):
    """Run `work(forked)` in a process that is then killed; it calls `forked()` to fork a child that stays."""

    def stay(send):
        send("forked")
        signal.pause()

    def holder(send):
        children = []

        def forked():
            children.append(Forked(stay))
            assert children[0].receive() == "forked"

        work(forked)
        send(children[0].pid)
        signal.pause()

    process = fork(holder)
    child = process.receive()
    try:
        process.kill()
        assert os.path.exists(f"/proc/{child}")
        yield
    finally:
        os.kill(child, signal.SIGKILL)


def exhaust_descriptors(limit=100):
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    opened = []
    with contextlib.suppress(OSError):
        while True:
            opened.append(os.open("/dev/null", os.O_RDONLY))
    return opened


def become_nobody():
    os.setgid(65534)
    os.setuid(65534)


AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give up its privileges")


@pytest.mark.parametrize("trouble", [exhaust_descriptors, pytest.param(become_nobody, marks=AS_ROOT)])
def test_no_lock_is_inherited_whatever_the_child_may_open(ring, fork, trouble):
    def work(forked):
        producer, consumers = ring.producer(), [ring.consumer() for _ in range(6)]
        others = [shmring.Ring.attach(ring.name) for _ in range(6)]
        feed(producer, 1)
        held = [consumer.get(0) for consumer in consumers]
        for fd in (trouble() or [])[-2:]:
            os.close(fd)  # which the pipe of the child takes
        forked()
        assert held
        assert others

    with orphan(fork, work), ring.producer() as producer:
        for _ in range(2 * ring.slots):
            assert producer.put(payload(producer.next_seq), timeout=PATIENCE)
        assert ring.stats().consumers == ()


def test_a_child_without_a_descriptor_says_so_and_recovers(ring, fork):
    def work(send):
        handles = ring.producer(), ring.consumer()
        exhaust_descriptors()
        pid = os.fork()
        if pid == 0:
            opened = exhaust_descriptors()  # the locks of the parent are closed: fill their places, too
            for use in (ring.consumer, ring.producer, ring.observer):
                with pytest.raises(OSError, match=r"reached its limit of \d+ open files.*ulimit") as caught:
                    use()
                assert caught.value.errno == errno.EMFILE
            for fd in opened:
                os.close(fd)
            with ring.consumer(), ring.observer():
                os._exit(7)
        send([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), len(handles)])

    child = fork(work)
    assert child.receive() == [7, 2]
    assert child.wait() == 0


@AS_ROOT
def test_a_process_without_its_privileges_is_told(ring, fork):
    def work(send):
        become_nobody()
        for use in (ring.consumer, ring.producer, ring.observer):
            with pytest.raises(shmring.RingAccessDenied, match=r"0o600.*uid 0.*uid 65534.*before you drop"):
                use()
        send(ring.stats().slots)

    child = fork(work)
    assert child.receive() == ring.slots
    assert child.wait() == 0


def forking_after(monkey, place, name, forked):
    """Let a function fork, as another thread may do at that moment."""
    real = getattr(place, name)

    def and_fork(*arguments, **options):
        result = real(*arguments, **options)
        monkey.undo()
        forked()
        return result

    monkey.setattr(place, name, and_fork)


def create(name):
    return shmring.Ring.create(name, shape=(4,), dtype="u8", slots=4)


MOMENTS = {
    "create, allocated": (os, "posix_fallocate", create),
    "create, formatted": (_core, "format_block", create),
    "create, locked": (_core, "lock", create),
    "create, linked": (_core, "link", create),
    "attach, opened": (_core, "open_block", shmring.Ring.attach),
    "attach, entered": (_presence, "enter", shmring.Ring.attach),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_fork_while_a_ring_is_opened_keeps_no_lock(fork, name, moment):
    place, function, use = MOMENTS[moment]
    opened = []

    def work(forked):
        if use is not create:
            create(name).close()
        forking_after(pytest.MonkeyPatch(), place, function, forked)
        opened.append(use(name))

    with contextlib.ExitStack() as stack:
        stack.callback(block_file(name).unlink, missing_ok=True)
        stack.enter_context(orphan(fork, work))
        with create(name) as ring:  # nobody has the name any more
            ring.producer().close()


@pytest.mark.parametrize("kind", ["producer", "consumer"])
def test_a_fork_while_a_handle_is_opened_keeps_no_lock(ring, fork, kind):
    opened = []

    def work(forked):
        attached = shmring.Ring.attach(ring.name)
        forking_after(pytest.MonkeyPatch(), shmring.Ring, "_lock_file", forked)
        opened.append(getattr(attached, kind)())

    with orphan(fork, work), ring.producer() as producer:
        feed(producer, ring.slots)
        assert producer.put(payload(producer.next_seq), timeout=PATIENCE)
        assert ring.stats().consumers == ()


def test_a_number_that_became_another_file_is_not_closed(ring, fork):
    """A daemon closes every descriptor; the numbers are soon those of other files."""
    with ring.producer(), ring.consumer():

        def work(send):
            others = shmring.Ring.attach(ring.name)
            handles = others.producer, others.consumer()
            for number in os.listdir("/proc/self/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(f"/proc/self/fd/{number}").startswith("/dev/shm/"):
                        null = os.open("/dev/null", os.O_RDONLY)
                        os.dup2(null, int(number))
                        os.close(null)
            nulls = [int(n) for n in os.listdir("/proc/self/fd") if _target(n) == "/dev/null"]
            assert len(nulls) >= 3
            grandchild = Forked(lambda send_too: send_too([_target(n) for n in nulls]))
            send(set(grandchild.receive()) == {"/dev/null"})
            grandchild.wait()
            assert handles

        child = fork(work)
        assert child.receive() is True
        assert child.wait() == 0


def _target(number):
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except OSError:
        return None


def test_a_fork_in_c(ring, fork, gate):
    """Python's hooks do not run: locks are closed and views are private all the same."""
    reader, writer = os.pipe()
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 1)
        given = [consumer.get(0).array]
        pid = ctypes.CDLL(None).fork()
        if pid == 0:
            try:
                gate.wait()
                right = given[0].tolist() == expected(0)
                with ring.consumer(start="newest") as mine:
                    right = right and check(mine.get(0)) > 0
                os.write(writer, b"right" if right else b"wrong")
            except BaseException as error:
                os.write(writer, repr(error).encode())
            finally:
                os._exit(0)
        try:
            given.clear()
            overwrite(ring, producer, consumer)
            gate.open()
            assert os.read(reader, 1000) == b"right"
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(reader)
            os.close(writer)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.slow
def test_forks_beside_a_thread_that_reads(make, fork):
    """Each child finds the frames that were held at the fork, whatever the other thread did meanwhile."""
    ring = make(slots=8)
    with ring.producer(on_full="raise") as producer, ring.consumer() as consumer:
        feed(producer, 2)
        kept = consumer.get(0)
        newest = [consumer.get(0)]
        stop = threading.Event()

        def read():
            while not stop.is_set():
                feed(producer, 1)
                newest[0] = consumer.get(0)

        thread = threading.Thread(target=read)
        thread.start()
        try:
            for _ in range(8):
                child = fork(lambda send: send([check(kept), check(newest[0]) > 0]))
                assert child.receive() == [0, True]
                assert child.wait() == 0
        finally:
            stop.set()
            thread.join()
