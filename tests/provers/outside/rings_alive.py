"""Rings in use while a foreign program runs in the same process, and a check that they still work."""

from __future__ import annotations

import contextlib

import shmring
from support.blocks import fresh_name
from support.frames import WORDS, check, drain, feed, fill, payload
from support.peers import put, take_all
from support.processes import FreshPrograms, Peer
from support.waiting import PATIENCE


def open_rings(here, theirs, ours):
    """What the other process has: a ring that it created, and one that it reads."""
    here.ring = shmring.Ring.create(theirs, shape=(WORDS,), dtype="u8", slots=8)
    here.producer = here.ring.producer(on_full="raise")
    here.read = shmring.Ring.attach(ours)
    here.consumer = here.read.consumer(label="in another process")


def close_rings(here):
    here.producer.close()
    here.ring.unlink()
    here.ring.close()
    here.read.close()


class RingsAlive:
    """A ring created here, one attached to, every kind of handle open, frames and arrays held.

    `exchange` uses all of it and fails if anything is lost, changed or refused.
    """

    def __init__(self) -> None:
        self.stack = contextlib.ExitStack()
        self.exchanged = 0
        enter = self.stack.enter_context
        self.own = enter(shmring.Ring.create(fresh_name(), shape=(WORDS,), dtype="u8", slots=8))
        self.producer = enter(self.own.producer(on_full="raise"))
        self.lossless = enter(self.own.consumer(label="lossless"))
        self.lossy = enter(self.own.consumer(lossless=False, label="lossy"))

        self.peer = Peer(FreshPrograms())
        self.stack.callback(self.peer.clean_up)
        theirs = fresh_name()
        self.peer.run(open_rings, theirs, self.own.name)
        self.stack.callback(self.peer.run, close_rings)
        self.attached = enter(shmring.Ring.attach(theirs))
        self.observer = enter(shmring.Ring.attach(theirs, readonly=True))
        self.consumer = enter(self.attached.consumer())

        feed(self.producer, 2)
        self.peer.run(put, 2)
        self.held = [self.lossless.get(), self.lossy.get(), self.consumer.get(5)]
        self.arrays = [self.lossless.get().array[7:], self.lossy.get().array, self.consumer.get(5).array]
        self.slot = self.producer.claim()
        assert self.peer.run(take_all) == [0, 1]

    def exchange(self) -> None:
        """One frame through every handle, in both directions; what is held is what it was."""
        fill(self.slot)
        self.slot.publish()
        self.peer.run(put, 1)
        expected = [self.exchanged + 2]
        assert drain(self.lossless) == drain(self.lossy) == expected
        assert check(self.consumer.get(PATIENCE)) == expected[0]
        assert self.peer.run(take_all) == expected
        assert [check(frame) for frame in self.held] == [0, 0, 0]
        for array in self.arrays:
            assert (array == payload(1)[-len(array) :]).all()
        places = {place.label: place for place in self.own.stats().consumers}
        assert set(places) == {"lossless", "lossy", "in another process"}
        assert self.observer.stats().published == self.own.stats().published == expected[0] + 1
        assert self.lossless.lost == self.lossy.lost == self.consumer.lost == 0
        self.slot = self.producer.claim()
        self.exchanged += 1

    def close(self) -> None:
        self.slot.abort()
        self.held.clear()
        self.arrays.clear()
        self.stack.close()
