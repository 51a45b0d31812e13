"""Waits: timeouts, Ctrl-C, sleep instead of spinning, wake-ups from other processes."""

import asyncio
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

import shmring
from support.frames import check, drain, feed, payload
from support.processes import PeerError
from support.threads import Running
from support.waiting import PATIENCE, settle

# ---- what waits: in this process, or in another one, whose name space is `here`


def with_consumer(here):
    here.waiter = here.ring.consumer()


def with_lossy_consumer(here):
    here.waiter = here.ring.consumer(lossless=False)


def with_observer(here):
    here.waiter = here.ring.observer()


def with_producer(here):
    here.waiter = here.ring.producer()


def with_full_ring(here):
    """Where put may wait: another thread could read."""
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    here.gate = here.ring.consumer()
    with_producer(here)
    feed(here.waiter, here.ring.slots)


def with_nothing(here):
    pass


def get(here, timeout=None):
    return here.waiter.get(timeout)


def latest(here, timeout=None):
    return here.waiter.latest(timeout)


def batch(here, timeout=None):
    return here.waiter.batch(3, 2, timeout)


def put(here, timeout=None):
    return here.waiter.put(payload(99), timeout=timeout)


def put_many(here, timeout=None):
    return here.waiter.put_many(payload(99)[None], timeout=timeout)


def claim(here, timeout=None):
    return here.waiter.claim(timeout=timeout)


def refill(here, timeout=None):
    with here.waiter.buffers(2) as queue:
        return queue.refill(timeout)


def wait_for_consumers(here, timeout=None):
    return here.waiter.wait_for_consumers(9, timeout)


def attach(here, timeout=None):
    return shmring.Ring.attach("shmring-test-nobody-makes-this", timeout=timeout)


# ---- what an interrupted wait leaves


def seq_of_the_newest(here):
    return here.waiter.latest(5).seq


def the_newest_is_taken(other, ring):
    with ring.producer() as producer:
        feed(producer, 2)
        assert other.run(seq_of_the_newest) == 1
        assert ring.stats().published == 2


def seqs_of_a_batch(here):
    return here.waiter.batch(2, 2, 5).seqs


def a_batch_is_taken(other, ring):
    with ring.producer() as producer:
        feed(producer, 2)
        assert other.run(seqs_of_a_batch) == [0, 1]


def published_and_next(here):
    return here.waiter.published, here.waiter.next_seq


def drain_the_gate(here):
    return drain(here.gate)


def feed_two(here):
    return feed(here.waiter, 2)


def frames_are_put(other, ring):
    assert other.run(published_and_next) == [ring.slots, ring.slots]
    assert other.run(drain_the_gate) == list(range(ring.slots))
    assert other.run(feed_two) == 2
    assert other.run(drain_the_gate) == [ring.slots, ring.slots + 1]


def nothing_changed(other, ring):
    assert ring.stats().published == 0


@dataclass(frozen=True)
class Wait:
    prepare: Callable
    call: Callable
    error: type[Exception]  # after a timeout
    still_works: Callable

    def fails(self, here, timeout):
        with pytest.raises(self.error):
            self.call(here, timeout)


WAITS = {
    "get": Wait(with_consumer, get, shmring.RingEmpty, the_newest_is_taken),
    "get lossy": Wait(with_lossy_consumer, get, shmring.RingEmpty, the_newest_is_taken),
    "latest": Wait(with_consumer, latest, shmring.RingEmpty, the_newest_is_taken),
    "batch": Wait(with_consumer, batch, shmring.RingEmpty, a_batch_is_taken),
    "observer.get": Wait(with_observer, get, shmring.RingEmpty, the_newest_is_taken),
    "observer.latest": Wait(with_observer, latest, shmring.RingEmpty, the_newest_is_taken),
    "put": Wait(with_full_ring, put, shmring.RingFull, frames_are_put),
    "put_many": Wait(with_full_ring, put_many, shmring.RingFull, frames_are_put),
    "claim": Wait(with_full_ring, claim, shmring.RingFull, frames_are_put),
    "refill": Wait(with_full_ring, refill, shmring.RingFull, frames_are_put),
    "wait_for_consumers": Wait(with_producer, wait_for_consumers, shmring.TooFewConsumers, nothing_changed),
    "attach": Wait(with_nothing, attach, shmring.RingNotFound, nothing_changed),
}
TAKES = [name for name, wait in WAITS.items() if wait.error is shmring.RingEmpty]


@pytest.fixture(params=WAITS, ids=lambda key: key.replace(" ", "-"))
def wait(request):
    return WAITS[request.param]


@pytest.fixture
def prepare(make):
    """Rings on which a wait of this process is prepared: `here`."""
    prepared = []  # handles live until the rings are closed

    def prepare(wait):
        here = SimpleNamespace(ring=make())
        prepared.append(here)
        wait.prepare(here)
        return here

    return prepare


# ---- timeouts


@pytest.mark.parametrize("timeout", [0, 0.01], ids=str)
def test_a_timeout_ends_every_wait(prepare, wait, timeout):
    here = prepare(wait)
    begin = time.monotonic()
    wait.fails(here, timeout)
    assert time.monotonic() - begin >= timeout
    wait.fails(here, timeout)  # and again


def refuses(wait, here, timeout):
    with pytest.raises((ValueError, TypeError), match="timeout must be None or seconds >= 0, not "):
        wait.call(here, timeout)


def test_every_wait_refuses_an_impossible_timeout(prepare, wait):
    refuses(wait, prepare(wait), -1)


@pytest.mark.parametrize(
    "timeout", [-0.5, float("nan"), "soon", [], object()], ids=lambda value: type(value).__name__
)
def test_every_impossible_timeout_is_refused(prepare, timeout):
    refuses(WAITS["get"], prepare(WAITS["get"]), timeout)


@pytest.mark.parametrize("name", TAKES)
def test_an_impossible_timeout_is_refused_although_there_is_no_need_to_wait(prepare, name):
    here = prepare(WAITS[name])
    with here.ring.producer() as producer:
        feed(producer, 3)
        refuses(WAITS[name], here, -1)
        assert WAITS[name].call(here, 0) is not None  # nothing was taken


@pytest.mark.parametrize("timeout", [1e9, 1e300, float("inf"), 10**30])
def test_a_huge_timeout_is_a_long_wait(ring, peer, timeout):
    other = peer(ring)
    other.run(with_consumer)
    other.begin(get, timeout)
    with ring.producer() as producer:
        other.asleep()
        feed(producer, 1)
        assert other.answer()


def test_what_is_there_is_taken_without_a_wait(ring, lossless):
    with ring.producer() as producer, ring.consumer(lossless=lossless) as consumer:
        for take in (lambda: consumer.get(0), lambda: consumer.latest(0), lambda: consumer.batch(1, 1, 0)):
            feed(producer, 1)
            assert take() is not None
            assert consumer.lag == 0


def shape_of_what_comes(here, name):
    return shmring.Ring.attach(name, timeout=PATIENCE).shape


def test_attach_waits_for_a_ring_that_comes(peer, make, name):
    other = peer()
    other.begin(shape_of_what_comes, name).asleep()
    make(name, shape=(3, 4))
    assert other.answer() == [3, 4]


# ---- Ctrl-C


@pytest.mark.event("Ctrl-C in any wait")
def test_ctrl_c_ends_every_wait_and_the_ring_stays_consistent(ring, peer, wait):
    other = peer(ring)
    other.run(wait.prepare)
    for _ in range(2):
        interrupt(other.begin(wait.call))
    wait.still_works(other, ring)


def interrupt(other):
    """Ctrl-C, once it sleeps."""
    other.asleep().signal(signal.SIGINT)
    with pytest.raises(PeerError, match="KeyboardInterrupt"):
        other.answer()


def take(here, timeout=None):
    return check(here.waiter.get(timeout))


def take_for_ever(here):
    for _ in here.ring.consumer():
        pass


def consumers_left(here):
    settle()
    return here.ring.stats().consumers


def take_windows_for_ever(here):
    for _ in here.ring.consumer().windows(2):
        pass


@pytest.mark.event("Ctrl-C in any wait")
@pytest.mark.parametrize("loop", [take_for_ever, take_windows_for_ever])
def test_ctrl_c_ends_a_loop(ring, peer, loop):
    other = peer(ring)
    interrupt(other.begin(loop))
    assert other.run(consumers_left) == []


def get_in_a_loop_of_asyncio(here):
    asyncio.run(here.waiter.get_async())


@pytest.mark.event("Ctrl-C in any wait")
def test_ctrl_c_ends_an_asyncio_wait(ring, peer):
    other = peer(ring)
    other.run(with_consumer)
    interrupt(other.begin(get_in_a_loop_of_asyncio))
    with ring.producer() as producer:
        feed(producer, 1)
        assert other.run(take, PATIENCE) == 0


# ---- other signals


def remember_signals(here):
    here.seen = []
    signal.signal(signal.SIGUSR1, lambda number, frame: here.seen.append(len(here.ring.stats().consumers)))


def what_was_seen(here):
    return here.seen


def raise_at_a_signal(here):
    def handler(number, frame):
        raise LookupError("from the handler")

    signal.signal(signal.SIGUSR1, handler)


@pytest.fixture
def signalled(ring, peer):
    """A process that waits for a frame, with some handler of a signal."""

    def start(arrange):
        other = peer(ring)
        other.run(arrange)
        other.run(with_consumer)
        return other.begin(take).asleep()

    return start


def test_a_handler_that_returns_does_not_end_a_wait(ring, signalled):
    """The wait continues, as everywhere in Python; the handler meets a consistent ring."""
    other = signalled(remember_signals)
    for _ in range(3):
        other.signal(signal.SIGUSR1)
        other.asleep()
    assert not other.answered()
    with ring.producer() as producer:
        feed(producer, 1)
        assert other.answer() == 0
    assert set(other.run(what_was_seen)) == {1}


def test_an_exception_of_a_handler_comes_out_of_the_wait(ring, signalled):
    other = signalled(raise_at_a_signal)
    other.signal(signal.SIGUSR1)
    with pytest.raises(PeerError, match="LookupError: from the handler"):
        other.answer()
    with ring.producer() as producer:
        feed(producer, 1)
        assert other.run(take, PATIENCE) == 0


# ---- asleep means asleep

SECONDS = 0.5  # of a wait whose CPU time is measured


@pytest.mark.slow
def test_blocked_means_asleep(prepare):
    """A while of every wait at once, those that poll included, costs this process next to no CPU time."""
    places = [(wait, prepare(wait)) for wait in WAITS.values()]
    used = time.process_time()
    threads = [Running(lambda wait=wait, here=here: wait.fails(here, SECONDS)) for wait, here in places]
    assert [thread.end().error for thread in threads] == [None] * len(WAITS)
    used = time.process_time() - used
    assert used < SECONDS / 2, f"{used} s of CPU time for {len(WAITS)} waits of {SECONDS} s"


def wait_in_vain(consumer, seconds):
    with pytest.raises(shmring.RingEmpty):
        consumer.get(seconds)


def test_other_threads_run_meanwhile(ring):
    """The GIL is free during a wait."""
    with ring.consumer() as consumer:
        thread = threading.Thread(target=wait_in_vain, args=(consumer, 0.2))
        thread.start()
        turns = 0
        while thread.is_alive():
            turns += 1
        thread.join()
        assert turns > 1000


# ---- wake-ups


def echo(here, name, spin):
    """Answer each frame of `ring` with the same frame of another one."""
    with shmring.Ring.attach(name) as back, back.producer(spin=spin) as producer:
        for frame in here.ring.consumer(spin=spin):
            check(frame)
            producer.put(payload(frame.seq))
            count = frame.seq + 1
    return count


@pytest.mark.parametrize("spin", [0, None, 0.001], ids=str)
def test_two_processes_wake_each_other(make, peer, spin):
    """Were the wake-ups lost, each of the 400 handovers would take a wait slice of 100 ms."""
    there, back = make(), make()
    other = peer(there).begin(echo, back.name, spin)
    with there.producer(spin=spin) as producer, back.consumer(spin=spin) as consumer:
        producer.wait_for_consumers(1, PATIENCE)
        deadline = time.monotonic() + 15
        for seq in range(200):
            feed(producer, 1)
            assert check(consumer.get(max(deadline - time.monotonic(), 0))) == seq
    assert other.answer() == 200


def take_all(here):
    """How many right frames came until the stream ended."""
    return sum(check(frame) >= 0 for frame in here.ring.consumer(spin=0))


def test_a_release_wakes_the_producer(make, peer):
    """The same from the consumer's side: a ring of two, always full."""
    ring = make(slots=2)
    other = peer(ring).begin(take_all)
    with ring.producer(spin=0) as producer:
        producer.wait_for_consumers(1, PATIENCE)
        deadline = time.monotonic() + 15
        for _ in range(400):
            assert producer.put(payload(producer.next_seq), timeout=max(deadline - time.monotonic(), 0))
    assert other.answer() == 400


def with_two_lossy_consumers(here):
    here.waiters = [here.ring.consumer(lossless=False) for _ in range(2)]
    here.held = []


def hold_the_newest(here):
    here.held.append(here.waiters[len(here.held)].latest(5))


def release_all(here):
    here.held.clear()


def test_a_lossy_release_wakes_the_producer(make, peer):
    ring = make(slots=2)
    other = peer(ring)
    other.run(with_two_lossy_consumers)  # more than two slots are shares for
    with ring.producer(spin=0) as producer:
        for _ in range(20):
            for _ in range(2):  # one after the other, until they hold both slots
                feed(producer, 1)
                other.run(hold_the_newest)
            published = producer.published
            thread = Running(lambda: feed(producer, 1)).asleep()
            assert producer.published == published
            other.run(release_all)
            assert thread.end().value == 1


@pytest.mark.parametrize("seconds", [-1, float("nan"), "fast"])
def test_an_impossible_spin_is_refused(ring, seconds):
    with pytest.raises((ValueError, TypeError)):
        ring.consumer(spin=seconds)
    with pytest.raises((ValueError, TypeError)):
        ring.producer(spin=seconds)
    assert ring.stats().consumers == ()


@pytest.mark.stress
@pytest.mark.timeout(300)
@pytest.mark.parametrize("slots", [2, 3, 8])
def test_never_a_lost_wake_up(make, peer, slots):
    """Many short sleeps on both sides; a lost wake-up costs 100 ms and would add up."""
    ring = make(slots=slots)
    others = [peer(ring).begin(take_all) for _ in range(3)]
    with ring.producer(spin=0) as producer:
        producer.wait_for_consumers(3)
        feed(producer, 50_000)
    assert [other.answer(60) for other in others] == [50_000] * 3
    with ring.consumer() as consumer:
        left = [check(frame) for frame in consumer]
        assert left == list(range(50_000 - len(left), 50_000))
        assert len(left) in (slots - 1, slots)  # by a claim that was refused, or marked ahead
