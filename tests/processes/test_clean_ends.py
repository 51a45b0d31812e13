"""Nobody is said to have died who closed in good order, however short the looks at it are apart."""

import threading

import pytest

import shmring
from shmring import _messages
from support.frames import feed, payload

LOOKS = 5000


def open_and_close(here, handle):
    """Open such handles, one after another, in a thread."""
    here.stop = threading.Event()

    def run():
        while not here.stop.is_set():
            getattr(here.ring, handle)().close()

    here.thread = threading.Thread(target=run)
    here.thread.start()


def end_thread(here):
    here.stop.set()
    here.thread.join()


@pytest.fixture
def short_producers(ring, peer):
    """Another process that opens and closes producers, one after another."""
    other = peer(ring)
    other.run(open_and_close, "producer")
    yield
    other.run(end_thread)


@pytest.mark.usefixtures("short_producers")
def test_stats_never_report_the_death_of_a_producer_that_closed(ring):
    states = {ring.stats().producer.state for _ in range(LOOKS)}
    assert states <= {"none", "live", "closed"}


@pytest.mark.usefixtures("short_producers")
@pytest.mark.parametrize("how", ["observer", "consumer"])
def test_nobody_gets_the_death_of_a_producer_that_closed(ring, how):
    with getattr(ring, how)() as reader:
        for _ in range(LOOKS):
            with pytest.raises((shmring.RingClosed, shmring.RingEmpty)):
                reader.get(0)


def test_stats_never_report_the_death_of_a_consumer_that_left(ring, peer):
    other = peer(ring)
    other.run(open_and_close, "consumer")
    assert all(one.alive for _ in range(LOOKS) for one in ring.stats().consumers)
    other.run(end_thread)


def test_a_full_ring_that_nobody_holds_up_any_more_says_only_that(ring):
    error = _messages.held_up(ring._block, ring._fd, None, 100_000_000, ring.slots)
    assert str(error) == (f"ring {ring.name!r} was full for 0.1 s, but has space again now: retry")


def test_a_full_ring_names_whoever_holds_its_slots(ring):
    with ring.consumer(label="viewer") as viewer, ring.producer() as producer:
        held = []
        for _ in range(ring.slots):
            feed(producer, 1)
            held.append(viewer.get(0))
        with pytest.raises(shmring.RingFull, match=r"label 'viewer' holds 4 frames. Release frames earlier"):
            producer.put(payload(ring.slots), timeout=0)
