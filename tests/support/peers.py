"""What a test has other processes do, with Peer.run and Peer.begin: `here` is the name space of one."""

from __future__ import annotations

import os

import shmring
from support.frames import WORDS, check, drain, feed
from support.waiting import PATIENCE


def do_nothing(here):
    pass


def become_nobody(here):
    """First comes what is imported at its first use: nobody may not be able to read this Python."""
    assert shmring.RingStats
    os.setgroups([])
    os.setegid(65534)
    os.seteuid(65534)


def set_environment(here, **variables):
    os.environ.update(variables)


# ---- a ring


def create(here, name, shape=(WORDS,)):
    """A ring of four slots, of one page each unless a shape is given."""
    here.ring = shmring.Ring.create(name, shape=tuple(shape), dtype="u8", slots=4)


def attach(here, name, readonly=False):
    here.ring = shmring.Ring.attach(name, readonly=readonly)


def observe(here, name, readonly=True):
    """Open an observer, with no right to write unless that is asked for."""
    attach(here, name, readonly)
    here.observer = here.ring.observer()


def look(here):
    """Check the next frame that the observer sees; its seq."""
    return check(here.observer.get(PATIENCE))


def published(here):
    return here.ring.stats().published


def close_ring(here):
    here.ring.close()


# ---- its producer


def open_producer(here, count=0):
    """Open a producer that publishes so many frames and stays."""
    here.producer = here.ring.producer()
    put(here, count)


def put(here, count):
    """Publish so many frames; how many were published."""
    return feed(here.producer, count)


def claim(here):
    """Leave a slot half-written."""
    here.slot = here.producer.claim()
    here.slot.array[:200] = 1


def close_producer(here):
    here.producer.close()


# ---- a consumer


def open_consumer(here, label="", **options):
    here.consumer = here.ring.consumer(label=label, **options)


def open_lossy_consumer(here, label=""):
    here.consumer = here.ring.consumer(lossless=False, label=label)


def take(here, timeout=PATIENCE):
    """Take, check and release the next frame; its seq."""
    return check(here.consumer.get(timeout))


def take_all(here):
    """Take, check and release all there is; the seqs."""
    return drain(here.consumer)


def hold(here, count):
    """Take so many frames and keep them."""
    here.held = [here.consumer.get(PATIENCE) for _ in range(count)]


def check_held(here):
    """Check the frames that are kept; their seqs."""
    return [check(frame) for frame in here.held]


def hold_the_newest(here):
    here.held = [here.consumer.latest(PATIENCE)]


def let_go(here):
    here.held.clear()


def close_consumer(here):
    here.consumer.close()


def take_to_the_end(here):
    """Take, check and release every frame until the stream ends; the seqs."""
    return [check(frame) for frame in here.ring.consumer()]
