"""Rings that nobody uses any more: a wait for a ring does not take them, an attach without a wait does."""

from __future__ import annotations

import os
import struct

import numpy as np
import pytest

import shmring
from shmring import _core, _names, _presence
from support.blocks import SHM
from support.waiting import PATIENCE, settle, wait_until

pytestmark = pytest.mark.slow

OLD, NEW = 1000, 0


@pytest.fixture
def leave(name, nothing_left_behind):
    """Leave a ring of five old frames behind, as a program does that ends in some way."""

    def leave(how: str) -> None:
        ring = shmring.Ring.create(name, shape=(4,), dtype="i4", slots=8)
        if how == "never came":
            ring.close()
            return
        pid = os.fork()
        if pid == 0:
            out = ring.producer()
            out.put_many(np.arange(OLD, OLD + 5, dtype="i4").repeat(4).reshape(5, 4))
            if how == "closed":
                out.close()
            os._exit(0)
        os.waitpid(pid, 0)
        ring.close()

    yield leave
    (SHM / name).unlink(missing_ok=True)


def camera(name: str) -> None:
    """The next run of that program: it replaces what is left."""
    with shmring.Ring.create(name, shape=(4,), dtype="i4", slots=8) as ring, ring.producer() as out:
        out.wait_for_consumers(1, timeout=PATIENCE)
        for number in range(NEW, NEW + 5):
            out.put(np.full(4, number, "i4"), timeout=PATIENCE)


def items_of_the_next_ring(here, name: str, **options) -> list[int]:
    """The first item of each frame."""
    ring = shmring.Ring.attach(name, timeout=PATIENCE)
    return [int(frame.array[0]) for frame in ring.consumer(**options)]


def published_in_the_next_ring(here, name: str) -> int:
    return shmring.Ring.attach(name, timeout=PATIENCE, readonly=True).stats().published


ENDS = ["died", "closed", "never came"]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("options", [{}, {"wait_for_takeover": True}, {"lossless": False}], ids=str)
def test_whoever_waits_gets_the_next_ring(leave, name, peer, end, options):
    leave(end)
    other = peer()
    other.begin(items_of_the_next_ring, name, **options)
    camera(name)
    assert other.answer() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("end", ENDS)
def test_whoever_looks_waits_too(leave, name, peer, end):
    leave(end)
    other = peer()
    other.begin(published_in_the_next_ring, name).asleep()
    with shmring.Ring.create(name, shape=(4,), dtype="i4", slots=8):
        assert other.answer() == 0


@pytest.mark.parametrize("readonly", [False, True])
@pytest.mark.parametrize("end", ENDS)
def test_the_error_says_what_was_found(leave, name, end, readonly):
    leave(end)
    with pytest.raises(shmring.RingNotFound) as caught:
        shmring.Ring.attach(name, timeout=0.01, readonly=readonly)
    said = str(caught.value)
    assert "no new one came within 0.01 s" in said
    assert "left-over that nobody uses any more (created " in said
    assert {"died": ") died", "closed": ") closed it", "never came": "its producer never came"}[end] in said
    assert "timeout=0" in said


def test_what_never_was_there_says_that_it_was_waited_for(name):
    with pytest.raises(shmring.RingNotFound, match=r"no block of that name.* none came within 0\.01 s"):
        shmring.Ring.attach(name, timeout=0.01)
    with pytest.raises(shmring.RingNotFound, match="wait for it"):
        shmring.Ring.attach(name)


@pytest.mark.parametrize("end", ["died", "closed"])
def test_whoever_does_not_wait_reads_what_is_left(leave, name, end):
    leave(end)
    with shmring.Ring.attach(name) as ring, ring.consumer() as frames:
        assert [int(frames.get(0).array[0]) for _ in range(5)] == [*range(OLD, OLD + 5)]
        with pytest.raises(shmring.ProducerDied if end == "died" else shmring.RingClosed):
            frames.get(0)


def test_a_ring_that_somebody_is_attached_to_is_there(leave, name):
    """A supervisor keeps it, say: its next producer comes, and attaches with a timeout, too."""
    leave("died")
    with (
        shmring.Ring.attach(name),
        shmring.Ring.attach(name, timeout=PATIENCE) as ring,
        ring.producer() as out,
    ):
        assert out.epoch == 2


def test_a_ring_whose_producer_comes_later_is_there(make):
    ring = make()
    with shmring.Ring.attach(ring.name, timeout=PATIENCE) as other:
        assert other.stats().producer.state == "none"


def test_a_left_over_that_cannot_be_read_is_waited_past(leave, name, peer):
    """Of another layout version, as after an upgrade."""
    leave("died")
    path = SHM / name
    with path.open("r+b") as file:
        file.seek(8)
        file.write(struct.pack("<I", _core.ABI + 1))
    with pytest.raises(shmring.RingIncompatible, match="layout version"):
        shmring.Ring.attach(name)
    other = peer()
    other.begin(items_of_the_next_ring, name)
    camera(name)
    assert other.answer() == [0, 1, 2, 3, 4]


def test_a_left_over_that_cannot_be_read_is_waited_past_while_it_is_replaced(leave, name, make, monkeypatch):
    leave("died")
    path = SHM / name
    with path.open("r+b") as file:
        file.seek(8)
        file.write(struct.pack("<I", _core.ABI + 1))
    fd = _names.open_block(name, _core.CONSUME)
    assert _presence.keep_out(fd)

    def replace(_watch, _seconds):
        os.close(fd)
        path.unlink()
        make(name)

    monkeypatch.setattr(_names._NewNames, "wait", replace)
    with shmring.Ring.attach(name, timeout=PATIENCE) as ring:
        assert ring.name == name


# ---- frames of a consumer that has left


def test_kept_frames_of_a_closed_consumer_do_not_keep_the_name(leave, name):
    leave("died")
    ring = shmring.Ring.attach(name)
    frames = ring.consumer()
    kept = frames.get(0)
    fd = os.open(SHM / name, os.O_RDWR)
    try:
        assert _presence.in_use(fd)
        ring.close()
        assert not _presence.in_use(fd)
    finally:
        os.close(fd)
    with shmring.Ring.create(name, shape=(4,), dtype="i4", slots=8) as new, new.producer() as out:
        out.put(np.full(4, 5, "i4"))
        assert kept.array.tolist() == [OLD] * 4


def test_an_open_consumer_without_its_ring_keeps_the_name(leave, name):
    leave("died")
    frames = shmring.Ring.attach(name).consumer()
    settle()
    with pytest.raises(shmring.RingExists):
        shmring.Ring.create(name, shape=(4,), dtype="i4", slots=8)
    frames.close()


# ---- on the command line


@pytest.mark.parametrize(("verb", "end"), [("read", "died"), ("record", "closed")])
def test_commands_wait_past_it(leave, name, command, tmp_path, verb, end):
    leave(end)
    take = tmp_path / "take.npy"
    words = ["read", name] if verb == "read" else ["record", name, str(take), "--quiet"]
    process = command(*words)
    camera(name)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    got = np.frombuffer(out, "i4").reshape(-1, 4) if verb == "read" else np.load(take)
    assert got[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_capture_waits_past_it(leave, name, command, tmp_path):
    leave("died")
    take = tmp_path / "take.npy"
    process = command("capture", name, str(take), "--before", "1", "--when", "array[0] == 2")
    camera_with_condition(name)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert np.load(take)[:, 0].tolist() == [2]


def camera_with_condition(name: str) -> None:
    with shmring.Ring.create(name, shape=(4,), dtype="i4", slots=8) as ring, ring.producer() as out:
        out.wait_for_consumers(2, timeout=PATIENCE)
        out.put(np.full(4, 2, "i4"))
        wait_until(lambda: not ring.stats().consumers, "the end of the capture")


def test_without_waiting_commands_read_what_is_left(leave, name, command):
    leave("died")
    process = command("read", name, "--timeout", "0", "--frames", "5")
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert np.frombuffer(out, "i4")[::4].tolist() == [*range(OLD, OLD + 5)]


def test_a_ring_that_is_there_for_a_moment_is_not_missed(make, name, monkeypatch):
    """The kernel says when a name comes: nobody has to look at the right moment."""
    looks, naps = [], []
    really_try = _names._try_open

    def look(*given):
        looks.append(given)
        return really_try(*given)

    def wait(self, seconds):
        naps.append(seconds)
        if len(naps) == 1:
            make(name)
        really_wait(self, PATIENCE)

    really_wait = _names._NewNames.wait
    monkeypatch.setattr(_names, "LOOK_ANYWAY", PATIENCE)
    monkeypatch.setattr(_names, "_try_open", look)
    monkeypatch.setattr(_names._NewNames, "wait", wait)
    with shmring.Ring.attach(name, timeout=PATIENCE) as ring:
        assert ring.name == name
    assert (len(looks), len(naps)) == (3, 1)  # at first, once the watch stands, when the name has come


def test_without_a_watch_waiting_looks_again_and_again(make, name, monkeypatch):
    monkeypatch.setattr(_core, "watch_names", lambda folder: -1)  # as at the limit of watches
    naps = []

    def nap(seconds):
        naps.append(seconds)
        if len(naps) == 2:
            make(name)

    monkeypatch.setattr(_names.time, "sleep", nap)
    with shmring.Ring.attach(name, timeout=PATIENCE):
        assert naps == [_names.RETRY] * 2
