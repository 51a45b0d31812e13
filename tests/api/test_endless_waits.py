"""Waits that could never end are refused, all others continue; a long one says what it waits for."""

import asyncio
import ctypes
import gc
import logging
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import shmring
from shmring import _core
from support.frames import check, feed, payload
from support.peers import hold, let_go, open_consumer, open_lossy_consumer, take
from support.threads import Running
from support.waiting import PATIENCE, wait_asleep

pytestmark = pytest.mark.slow


def hold_all(ring, producer, consumer):
    feed(producer, ring.slots)
    return [consumer.get(0) for _ in range(ring.slots)]


def when_asleep(work) -> Running:
    """Run `work` in a thread once the main thread is asleep."""
    main = threading.main_thread().native_id

    def wait_and_work():
        wait_asleep(os.getpid(), main)
        return work()

    return Running(wait_and_work)


# ---- SlotsHeld: a consumer


@pytest.mark.event("a consumer waits for a frame that cannot come because it holds the slots itself")
@pytest.mark.parametrize("timeout", [None, 20])
@pytest.mark.parametrize("wait", ["get", "latest", "batch", "iter"])
def test_alone_a_consumer_is_told_at_once(ring, wait, timeout):
    with ring.producer() as producer, ring.consumer() as consumer:
        held = hold_all(ring, producer, consumer)
        waits = {
            "get": lambda: consumer.get(timeout),
            "latest": lambda: consumer.latest(timeout),
            "batch": lambda: consumer.batch(1, 1, timeout),
            "iter": lambda: next(consumer.iter(timeout)),
        }
        with pytest.raises(shmring.SlotsHeld, match=f"holds {len(held)} frames"):
            waits[wait]()


@pytest.mark.parametrize("wait", ["get", "latest", "batch", "windows", "iteration"])
def test_another_thread_may_release(ring, wait):
    with ring.producer() as producer, ring.consumer() as consumer:
        held = hold_all(ring, producer, consumer)

        def release():
            for frame in held:
                frame.release()
            feed(producer, 2)

        thread = when_asleep(release)
        waits = {
            "get": lambda: consumer.get().seq,
            "latest": lambda: consumer.latest().seq - 1,
            "batch": lambda: consumer.batch(1).seqs[0],
            "windows": lambda: next(consumer.windows(2)).seqs[0],
            "iteration": lambda: next(iter(consumer)).seq,
        }
        assert waits[wait]() in (ring.slots - 1, ring.slots)
        assert thread.end().error is None


def test_at_the_end_of_a_timeout_the_reason_is_named(ring):
    idle = threading.Event()
    thread = Running(lambda: idle.wait(PATIENCE))
    try:
        with ring.producer() as producer, ring.consumer() as consumer:
            held = hold_all(ring, producer, consumer)
            assert consumer.try_get() is None  # a thread may release one before the next try
            for wait in (consumer.get, consumer.latest, lambda timeout: consumer.batch(1, 1, timeout)):
                with pytest.raises(shmring.SlotsHeld):
                    wait(0.01)
            assert len(held) == ring.slots
    finally:
        idle.set()
        thread.end()


def test_frames_in_a_cycle_of_garbage_are_no_reason(ring):
    gc.disable()
    try:
        with ring.producer() as producer, ring.consumer() as consumer:
            held = hold_all(ring, producer, consumer)
            held.append(held)
            del held
            thread = Running(lambda: producer.put(payload(ring.slots), timeout=PATIENCE))
            assert thread.asleep()
            assert consumer.try_get() is None
            gc.collect()
            assert check(consumer.get(PATIENCE)) == ring.slots
            thread.end()
            held = hold_all_but_one(ring, producer, consumer)
            held.append(held)
            del held
            feed(producer, 1)
            consumer.get(0).release()
            assert consumer.try_get() is None
    finally:
        gc.enable()


def hold_all_but_one(ring, producer, consumer):
    feed(producer, ring.slots - 1)
    return [consumer.get(0) for _ in range(ring.slots - 1)]


def test_another_task_may_release(ring):
    async def main(producer, consumer):
        held = hold_all(ring, producer, consumer)

        async def release():
            await asyncio.sleep(0)
            held.pop().release()
            feed(producer, 1)

        task = asyncio.create_task(release())
        frame = await consumer.get_async()
        await task
        assert check(frame) == ring.slots
        frame.release()
        held.append(None)
        return True

    with ring.producer() as producer, ring.consumer() as consumer:
        assert asyncio.run(main(producer, consumer))


def test_alone_in_its_loop_a_task_is_told_at_once(ring):
    async def main(producer, consumer):
        held = hold_all(ring, producer, consumer)
        with pytest.raises(shmring.SlotsHeld):
            await consumer.get_async()
        with pytest.raises(shmring.SlotsHeld):
            async for _ in consumer:
                pass
        assert len(held) == ring.slots

    with ring.producer() as producer, ring.consumer() as consumer:
        asyncio.run(main(producer, consumer))


# ---- SlotsHeld: a producer


def puts(producer):
    return {
        "put": lambda: producer.put(payload(0)),
        "put_many": lambda: producer.put_many(payload(0)[None]),
        "claim": producer.claim,
    }


@pytest.mark.parametrize(
    ("wait", "how"), [("put", "unread"), ("put", "held"), ("put_many", "unread"), ("claim", "held")]
)
def test_alone_a_producer_is_told_that_it_waits_for_itself(ring, wait, how):
    with ring.producer() as producer, ring.consumer(label="mine") as consumer:
        held = hold_all(ring, producer, consumer) if how == "held" else feed(producer, ring.slots)
        with pytest.raises(shmring.SlotsHeld, match=r"never end.*'mine' of this process") as caught:
            puts(producer)[wait]()
        assert ("holds 4 frames" if how == "held" else "has not read 4 frames") in str(caught.value)
        with pytest.raises(shmring.RingFull):  # such a wait does end
            producer.put(payload(0), timeout=0.01)
        assert held
        assert (producer.published, producer.dropped) == (ring.slots, 0)


@pytest.mark.parametrize("wait", ["put", "put_many", "claim"])
def test_a_thread_that_reads_ends_the_wait_of_a_producer(ring, wait):
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, ring.slots)
        thread = when_asleep(lambda: consumer.get(0).release())
        result = puts(producer)[wait]()
        if wait == "claim":
            result.abort()
        assert thread.end().error is None


def test_a_consumer_of_another_process_is_waited_for(ring, peer):
    """The own consumer holds frames, the other process holds one as well: it may release that."""
    other = peer(ring)
    other.run(open_lossy_consumer)
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, ring.slots)
        other.run(hold, 1)
        held = [consumer.get(0) for _ in range(ring.slots)]
        held[0].release()  # which the other one still holds
        thread = when_asleep(lambda: other.run(let_go))
        assert thread is not None
        assert producer.put(payload(ring.slots))
        thread.end()


def test_garbage_does_not_keep_a_producer_waiting(ring):
    gc.disable()
    try:
        with ring.producer() as producer, ring.consumer() as consumer:
            held = hold_all(ring, producer, consumer)
            held.append(held)
            del held
            assert feed(producer, 1) == 1
    finally:
        gc.enable()


# ---- a long wait says what it waits for


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(_core, "patience", 0.01)


def words_of(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "shmring"]


LONG = {
    "get": ("consumer", lambda frames: frames.get(), "no producer has come yet"),
    "latest": ("consumer", lambda frames: frames.latest(), "no producer has come yet"),
    "batch": ("consumer", lambda frames: frames.batch(3, 3), "fewer than 3 new frames"),
    "windows": ("consumer", lambda frames: next(frames.windows(2)), "fewer than 2 new frames"),
    "iteration": ("consumer", lambda frames: next(iter(frames)), "no producer has come yet"),
    "get_async": ("consumer", lambda frames: asyncio.run(frames.get_async()), "no producer has come yet"),
    "latest_async": (
        "consumer",
        lambda frames: asyncio.run(frames.latest_async()),
        "no producer has come yet",
    ),
    "observer": ("observer", lambda frames: frames.get(), "no producer has come yet"),
    "wait_for_consumers": ("producer", lambda out: out.wait_for_consumers(2), "0 of 2 consumers"),
}


class Enough(Exception):
    """Ends a wait from inside."""


def test_no_wait_without_an_end_is_silent(make, impatient, monkeypatch):
    """All of them at once, each in a thread and on a ring of its own, until it has warned twice."""
    seen: dict[int, list[logging.LogRecord]] = {}

    def end(_self, record):
        mine = seen.setdefault(threading.get_ident(), [])
        mine.append(record)
        if len(mine) == 2:
            raise Enough

    monkeypatch.setattr(logging.Logger, "handle", end)

    def wait_long(name: str):
        kind, call, _ = LONG[name]
        with make() as ring, getattr(ring, kind)() as handle:
            try:
                call(handle)
            except Enough:
                return ring.name, seen[threading.get_ident()]

    threads = {name: Running(lambda name=name: wait_long(name)) for name in LONG}
    for name, thread in threads.items():
        assert thread.end().error is None, name
        ring, records = thread.value
        assert {(record.name, record.levelno) for record in records} == {("shmring", logging.WARNING)}
        for text in (record.getMessage() for record in records):
            assert LONG[name][2] in text, name
            assert ring in text, name
            assert "still waiting" in text, name


def test_a_put_that_waits_names_who_holds_it_up(ring, impatient, monkeypatch, peer):
    other = peer(ring)
    other.run(open_consumer, "sleepy")
    seen = []

    def end(_self, record):
        seen.append(record.getMessage())
        raise Enough

    with ring.producer() as producer:
        feed(producer, ring.slots)
        monkeypatch.setattr(logging.Logger, "handle", end)
        for put in puts(producer).values():
            with pytest.raises(Enough):
                put()
        assert feed_is_possible_again(other, producer)
    assert len(seen) == 3
    assert all(f"pid {other.pid}" in text and "'sleepy', lag 4 frames" in text for text in seen)


def feed_is_possible_again(other, producer) -> bool:
    other.run(take)
    return feed(producer, 1) == 1


def test_attach_says_that_it_waits(impatient, monkeypatch, name):
    def end(_self, record):
        raise Enough(record.getMessage())

    monkeypatch.setattr(logging.Logger, "handle", end)
    with pytest.raises(Enough, match=f"attach is still waiting: there is no ring '{name}'"):
        shmring.Ring.attach(name, timeout=None)


def test_a_wait_at_a_prompt_warns(impatient, monkeypatch, name):
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    with pytest.raises(UserWarning, match=f"attach is still waiting: there is no ring '{name}'"):
        shmring.Ring.attach(name, timeout=None)  # here, warnings are errors


def test_a_wait_goes_on_where_the_log_cannot_be_imported():
    code = """if True:
        import contextlib, os, resource, sys
        from shmring import _messages
        assert "logging" not in sys.modules
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
        taken = []
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        _messages.still_waiting("get", "without a descriptor")
        os.close(taken.pop())
        _messages.still_waiting("get", "with one")
    """
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stderr == "get is still waiting: with one\n"


def test_a_wait_with_a_timeout_says_nothing_before_it_ends(ring, impatient, caplog):
    with ring.consumer() as consumer, pytest.raises(shmring.RingEmpty):
        consumer.get(0.25)
    assert words_of(caplog) == []


# ---- iteration with a timeout


def test_an_iteration_with_a_timeout(ring):
    with ring.consumer() as consumer:
        frames = consumer.iter(timeout=0.01)
        assert iter(frames) is frames
        with pytest.raises(shmring.RingEmpty, match=r"within 0.01 s"):
            next(frames)
        with ring.producer() as producer:
            feed(producer, 2)
        assert [check(frame) for frame in frames] == [0, 1]
        assert list(frames) == []


def test_an_asynchronous_iteration_with_a_timeout(ring):
    async def main(consumer):
        with pytest.raises(shmring.RingEmpty):
            async for _ in consumer.iter(timeout=0.01):
                pass
        with ring.producer() as producer:
            feed(producer, 2)
        return [check(frame) async for frame in consumer.iter(timeout=PATIENCE)]

    with ring.consumer() as consumer:
        assert asyncio.run(main(consumer)) == [0, 1]


@pytest.mark.parametrize("timeout", [-1, float("nan"), "soon", True, np.bool_(False)], ids=str)
def test_what_is_no_timeout(ring, timeout):
    with ring.producer() as producer, ring.consumer() as consumer, ring.observer() as observer:
        for call in (
            lambda: consumer.iter(timeout),
            lambda: consumer.get(timeout),
            lambda: consumer.batch(1, 1, timeout),
            lambda: observer.get(timeout),
            lambda: producer.put(payload(0), timeout=timeout),
            lambda: producer.claim(1, timeout),
            lambda: producer.wait_for_consumers(1, timeout),
            lambda: shmring.Ring.attach(ring.name, timeout=timeout),
            lambda: ring.consumer(spin=timeout),
        ):
            with pytest.raises((ValueError, TypeError), match="None or seconds >= 0"):
                call()
        with pytest.raises(shmring.RingEmpty):
            consumer.get(np.float32(0))


# ---- what the interpreter put off


@pytest.mark.parametrize("wait", ["get", "put"])
def test_a_wait_lets_pending_calls_run(ring, wait):
    """What a debugger, or a sub-interpreter that lets go of a frame, asks of the main thread."""
    seen = []
    with ring.producer() as producer, ring.consumer() as consumer:

        def pending(_argument):
            seen.append(threading.current_thread() is threading.main_thread())
            if wait == "get":
                feed(producer, 1)
            else:
                consumer.get(0).release()
            return 0

        callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(pending)
        if wait == "put":
            feed(producer, ring.slots)
        thread = when_asleep(lambda: ctypes.pythonapi.Py_AddPendingCall(callback, None))
        if wait == "get":
            assert check(consumer.get(PATIENCE)) == 0
        else:
            assert producer.put(payload(ring.slots), timeout=PATIENCE)
        assert thread.end().value == 0
    assert seen == [True]


# ---- timestamps


@pytest.mark.parametrize("words", [8, 1 << 14])
def test_the_timestamp_of_a_frame_that_had_to_wait_is_from_its_publish(make, words):
    ring = make(shape=(words,))
    with ring.producer() as producer, ring.consumer() as consumer:
        for seq in range(ring.slots):
            producer.put(payload(seq, (words,)))

        def release():
            now = time.monotonic_ns()
            consumer.get(0).release()
            return now

        thread = when_asleep(release)
        producer.put(payload(ring.slots, (words,)), timeout=PATIENCE)
        stamps = [consumer.get(0).timestamp_ns for _ in range(ring.slots)]
        assert stamps == sorted(stamps)
        assert stamps[-1] >= thread.end().value
