"""Waits: timeouts, Ctrl-C, sleep instead of spinning, wake-ups from other processes."""

import os
import signal
import threading
import time

import pytest

import shmring
from support import frames
from support.frames import check, feed, payload
from support.processes import PeerError
from support.waiting import PATIENCE, wait_asleep

# name: (what has to be there, the wait itself, how it fails after a timeout)
WAITS = {
    "get": ("x = ring.consumer()", "x.get({})", "RingEmpty"),
    "get lossy": ("x = ring.consumer(lossless=False)", "x.get({})", "RingEmpty"),
    "latest": ("x = ring.consumer()", "x.latest({})", "RingEmpty"),
    "batch": ("x = ring.consumer()", "x.batch(3, 2, {})", "RingEmpty"),
    "observer.get": ("x = ring.observer()", "x.get({})", "RingEmpty"),
    "observer.latest": ("x = ring.observer()", "x.latest({})", "RingEmpty"),
    "put": ("x = full(ring)", "x.put(payload(99), timeout={})", "RingFull"),
    "put_many": ("x = full(ring)", "x.put_many(payload(99)[None], timeout={})", "RingFull"),
    "claim": ("x = full(ring)", "x.claim(timeout={})", "RingFull"),
    "wait_for_consumers": ("x = ring.producer()", "x.wait_for_consumers(9, {})", "TooFewConsumers"),
    "attach": (
        "x = None",
        "shmring.Ring.attach('shmring-test-nobody-makes-this', timeout={})",
        "RingNotFound",
    ),
}
FULL = """
import threading
threading.Thread(target=threading.Event().wait, daemon=True).start()  # which could read: put may wait for it
def full(ring):
    global gate
    gate = ring.consumer()
    producer = ring.producer()
    feed(producer, ring.slots)
    return producer
"""


@pytest.fixture(params=WAITS, ids=lambda key: key.replace(" ", "-"))
def wait(request):
    return WAITS[request.param]


def set_up(ring, before: str) -> dict:
    space = {"ring": ring, "shmring": shmring, **vars(frames), "PATIENCE": PATIENCE}
    exec(FULL, space)
    exec(before, space)
    ring.space = space  # its handles live until the ring is closed
    return space


# ---- timeouts


@pytest.mark.parametrize("timeout", [0, 0.0, 0.01, 0.15], ids=str)
def test_a_timeout_ends_every_wait(ring, wait, timeout):
    before, expression, error = wait
    space = set_up(ring, before)
    begin = time.monotonic()
    with pytest.raises(TimeoutError if error != "RingNotFound" else FileNotFoundError) as caught:
        eval(expression.format(timeout), space)
    assert type(caught.value).__name__ == error
    assert time.monotonic() - begin >= timeout
    with pytest.raises(TimeoutError if error != "RingNotFound" else FileNotFoundError):
        eval(expression.format(timeout), space)  # and again


@pytest.mark.parametrize("timeout", [-1, float("nan"), "'soon'", "[]", "object()"], ids=str)
def test_an_impossible_timeout_is_refused(ring, wait, timeout):
    before, expression, _ = wait
    space = set_up(ring, before)
    with pytest.raises((ValueError, TypeError), match="timeout must be None or seconds >= 0, not "):
        eval(expression.format("float('nan')" if timeout != timeout else timeout), space)


@pytest.mark.parametrize("name", [name for name, (_, _, error) in WAITS.items() if error == "RingEmpty"])
def test_an_impossible_timeout_is_refused_although_there_is_no_need_to_wait(ring, name):
    before, expression, _ = WAITS[name]
    space = set_up(ring, before)
    with ring.producer() as producer:
        feed(producer, 3)
        with pytest.raises(ValueError, match="timeout must be None or seconds >= 0, not -1"):
            eval(expression.format(-1), space)
        assert eval(expression.format(0), space) is not None  # nothing was taken


@pytest.mark.parametrize("timeout", ["1e9", "1e300", "float('inf')", "10**30"])
def test_a_huge_timeout_is_a_long_wait(ring, peer, timeout):
    other = peer(ring)
    other.do("consumer = ring.consumer()")
    other.start(f"check(consumer.get({timeout}))")
    with ring.producer() as producer:
        other.asleep()
        feed(producer, 1)
        assert other.answer() == 0


def test_what_is_there_is_taken_without_a_wait(ring, lossless):
    with ring.producer() as producer, ring.consumer(lossless=lossless) as consumer:
        for take in (lambda: consumer.get(0), lambda: consumer.latest(0), lambda: consumer.batch(1, 1, 0)):
            feed(producer, 1)
            assert take() is not None
            assert consumer.lag == 0


def test_attach_waits_for_a_ring_that_comes(peer, make, name):
    other = peer()
    other.start(f"shmring.Ring.attach({name!r}, timeout={PATIENCE}).shape").asleep()
    make(name, shape=(3, 4))
    assert other.answer() == [3, 4]


# ---- Ctrl-C


@pytest.mark.event("Ctrl-C in any wait")
def test_ctrl_c_ends_every_wait_and_the_ring_stays_consistent(ring, peer, wait):
    before, expression, _ = wait
    other = peer(ring)
    other.do(FULL)
    other.do(before)
    for _ in range(2):
        other.start(expression.format(None)).asleep()
        other.signal(signal.SIGINT)
        with pytest.raises(PeerError) as caught:
            other.answer()
        assert caught.value.kind == "KeyboardInterrupt"
    if "full" in before:
        assert other.ask("x.published, x.next_seq") == [ring.slots, ring.slots]
        assert other.ask("drain(gate)") == list(range(ring.slots))
        assert other.ask("feed(x, 2)") == 2
        assert other.ask("drain(gate)") == [ring.slots, ring.slots + 1]
    elif "wait_for_consumers" in expression:
        assert other.ask("feed(x, 2)") == 2
    elif "attach" not in expression:
        with ring.producer() as producer:
            feed(producer, 2)
            assert other.ask("x.batch(2, 2, 5).seqs" if "batch" in expression else "x.latest(5).seq") in (
                [0, 1],
                1,
            )
            assert ring.stats().published == 2


@pytest.mark.event("Ctrl-C in any wait")
@pytest.mark.parametrize(
    "how", ["for frame in ring.consumer(): pass", "for w in ring.consumer().windows(2): pass"]
)
def test_ctrl_c_ends_a_loop(ring, peer, how):
    other = peer(ring)
    other.do(f"def run():\n    {how}")
    other.start("run()").asleep()
    other.signal(signal.SIGINT)
    with pytest.raises(PeerError, match="KeyboardInterrupt"):
        other.answer()
    assert other.ask("settle() or ring.stats().consumers") == []


@pytest.mark.event("Ctrl-C in any wait")
def test_ctrl_c_ends_an_asyncio_wait(ring, peer):
    other = peer(ring)
    other.do("consumer = ring.consumer()\nasync def run():\n    await consumer.get_async()")
    other.start("asyncio.run(run())").asleep()
    other.signal(signal.SIGINT)
    with pytest.raises(PeerError, match="KeyboardInterrupt"):
        other.answer()
    with ring.producer() as producer:
        feed(producer, 1)
        assert other.ask("check(consumer.get(5))") == 0


def test_a_handler_that_returns_does_not_end_a_wait(ring, peer):
    """Another signal is handled while the wait continues, as everywhere in Python."""
    other = peer(ring)
    other.do("seen = []; signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))")
    other.do("consumer = ring.consumer()")
    other.start("check(consumer.get())").asleep()
    for _ in range(3):
        other.signal(signal.SIGUSR1)
        other.asleep()
    assert not other.answered()
    with ring.producer() as producer:
        feed(producer, 1)
        assert other.answer() == 0
    assert other.ask("len(seen) > 0")


def test_an_exception_of_a_handler_comes_out_of_the_wait(ring, peer):
    other = peer(ring)
    other.do("def handler(number, frame): raise LookupError('from the handler')")
    other.do("signal.signal(signal.SIGUSR1, handler); consumer = ring.consumer()")
    other.start("consumer.get()").asleep()
    other.signal(signal.SIGUSR1)
    with pytest.raises(PeerError, match="LookupError: from the handler"):
        other.answer()
    with ring.producer() as producer:
        feed(producer, 1)
        assert other.ask("check(consumer.get(5))") == 0


def test_a_handler_may_use_the_ring(ring, peer):
    """A handler that runs inside a wait and takes stock, or leaves, meets a consistent ring."""
    other = peer(ring)
    other.do(
        "consumer = ring.consumer()\ndef handler(number, frame): seen.append(len(ring.stats().consumers))"
    )
    other.do("seen = []; signal.signal(signal.SIGUSR1, handler)")
    other.start("check(consumer.get())").asleep()
    other.signal(signal.SIGUSR1)
    with ring.producer() as producer:
        other.asleep()
        feed(producer, 1)
        assert other.answer() == 0
    assert other.ask("seen") == [1]


# ---- asleep means asleep


def test_blocked_means_asleep(make):
    """A second of every wait at once costs this process next to no CPU time."""
    threads, done = [], []

    def run(expression, space, error):
        with pytest.raises((TimeoutError, FileNotFoundError)) as caught:
            eval(expression.format(1.0), space)
        done.append(type(caught.value).__name__ == error)

    sleeping = {key: value for key, value in WAITS.items() if "observer" not in key and "attach" not in key}
    for before, expression, error in sleeping.values():
        threads.append(threading.Thread(target=run, args=(expression, set_up(make(), before), error)))
    used = time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    used = time.process_time() - used
    assert done == [True] * len(sleeping)
    assert used < 0.25 * len(sleeping), f"{used} s of CPU time for {len(sleeping)} waits of 1 s"


@pytest.mark.parametrize("wait", ["observer.get", "attach"], indirect=True)
def test_polling_waits_are_cheap_too(ring, wait):
    before, expression, _ = wait
    space = set_up(ring, before)
    used = time.process_time()
    with pytest.raises((TimeoutError, FileNotFoundError)):
        eval(expression.format(1.0), space)
    assert time.process_time() - used < 0.5


def wait_in_vain(consumer, seconds):
    with pytest.raises(shmring.RingEmpty):
        consumer.get(seconds)


def test_other_threads_run_meanwhile(ring):
    """The GIL is free during a wait."""
    with ring.consumer() as consumer:
        thread = threading.Thread(target=wait_in_vain, args=(consumer, 0.5))
        thread.start()
        turns = 0
        while thread.is_alive():
            turns += 1
        thread.join()
        assert turns > 1000


# ---- wake-ups


@pytest.mark.parametrize("spin", [0, None, 0.001], ids=str)
def test_two_processes_wake_each_other(make, peer, spin):
    """Were the wake-ups lost, each of the 400 handovers would take a wait slice of 100 ms."""
    there, back = make(), make()
    other = peer()
    other.do(
        f"there, back = shmring.Ring.attach({there.name!r}), shmring.Ring.attach({back.name!r})\n"
        f"producer, consumer = back.producer(spin={spin}), there.consumer(spin={spin})\n"
        "def run():\n"
        "    for frame in consumer:\n"
        "        check(frame)\n"
        "        producer.put(payload(frame.seq))\n"
        "    return consumer.delivered"
    )
    other.start("run()")
    with there.producer(spin=spin) as producer, back.consumer(spin=spin) as consumer:
        deadline = time.monotonic() + 15
        for seq in range(200):
            feed(producer, 1)
            assert check(consumer.get(max(deadline - time.monotonic(), 0))) == seq
    assert other.answer() == 200


def test_a_release_wakes_the_producer(make, peer):
    """The same from the consumer's side: a ring of two, always full."""
    ring = make(slots=2)
    other = peer(ring)
    other.do("consumer = ring.consumer(spin=0)\ndef run(): return [check(frame) for frame in consumer][-1]")
    other.start("run()")
    with ring.producer(spin=0) as producer:
        deadline = time.monotonic() + 15
        for _ in range(400):
            assert producer.put(payload(producer.next_seq), timeout=max(deadline - time.monotonic(), 0))
    assert other.answer() == 399


def test_a_lossy_release_wakes_the_producer(make, peer):
    ring = make(slots=2)
    other = peer(ring)
    other.do("consumer = ring.consumer(lossless=False)")
    with ring.producer(spin=0) as producer:
        for _ in range(20):
            other.do("held = []")
            for _ in range(2):  # one after the other, until it holds both slots
                feed(producer, 1)
                other.do("held.append(consumer.latest(5))")
            published = producer.published
            thread = threading.Thread(target=feed, args=(producer, 1))
            thread.start()
            wait_asleep(os.getpid(), thread.native_id)
            assert producer.published == published
            other.do("held.pop()")
            thread.join()
            assert producer.published == published + 1


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
    others = [peer(ring) for _ in range(3)]
    for other in others:
        other.do(
            "consumer = ring.consumer(spin=0)\n"
            "def run():\n"
            "    return sum(1 for frame in consumer if check(frame) >= 0)"
        )
        other.start("run()")
    with ring.producer(spin=0) as producer:
        producer.wait_for_consumers(3)
        feed(producer, 50_000)
    assert [other.answer(60) for other in others] == [50_000] * 3
    with ring.consumer() as consumer:
        assert [check(frame) for frame in consumer] == list(range(50_000 - slots, 50_000))
