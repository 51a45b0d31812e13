"""stats(): the participants, how far and how well they are; exact, and the same from every process."""

import dataclasses
import json
import os
import time

import numpy as np
import pytest

import shmring
from support.blocks import block_file
from support.frames import check, drain, feed
from support.peers import (
    close_producer,
    hold_the_newest,
    open_consumer,
    open_lossy_consumer,
    open_producer,
    put,
)


def test_a_new_ring(ring):
    stats = ring.stats()
    assert isinstance(stats, shmring.RingStats)
    assert (stats.name, stats.shape, stats.dtype) == (ring.name, ring.shape, ring.dtype)
    assert (stats.slots, stats.nbytes) == (ring.slots, ring.nbytes)
    assert (stats.published, stats.next_seq, stats.dropped, stats.swaps) == (0, 0, 0, 0)
    assert stats.consumers == ()
    assert stats.producer.state == "none"
    assert isinstance(stats.producer, shmring.ProducerStats)


def test_stats_are_frozen(ring):
    with ring.consumer():
        stats = ring.stats()
        for part in (stats, stats.producer, stats.consumers[0]):
            field = dataclasses.fields(part)[0].name
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(part, field, None)
            assert dataclasses.asdict(part)


def test_a_table_of_who_is_there(ring):
    assert str(ring.stats()).splitlines()[2:] == ["producer none", "no consumers"]
    with ring.producer() as producer, ring.consumer(label="disk"), ring.consumer(lossless=False):
        feed(producer, 2)
        first, second, third, head, disk, other = str(ring.stats()).splitlines()
        assert first.startswith(f"ring '{ring.name}': shape {ring.shape}, dtype uint64, 4 slots")
        assert second == "2 frames published, 0 dropped, next seq 2, 0 swaps"
        assert third.startswith(f"producer live, pid {os.getpid()}, epoch 1  ")
        assert head.split()[:5] == ["place", "label", "policy", "lag", "held"]
        assert disk.split()[:5] == ["0", "disk", "lossless", "2", "0"]
        assert other.split()[:4] == ["1", "lossy", "2", "0"]
        assert head.index("policy") == disk.index("lossless") == other.index("lossy")


def test_a_repr_of_one_line(ring):
    with ring.consumer():
        said = repr(ring.stats())
    assert said == (
        f"<shmring.RingStats of '{ring.name}', 0 frames published, 0 dropped, producer none, consumers: 1>"
    )


@pytest.mark.parametrize("dtype", ["u1", ">f4", "c8", "M8[ns]", "S5", [("x", "<f4", (3,)), ("name", "U4")]])
def test_as_json(make, dtype):
    ring = make(dtype=dtype, shape=(2, 3))
    with ring.producer() as producer, ring.consumer(label="disk"):
        producer.drop(3)
        stats = ring.stats()
    read = json.loads(json.dumps(stats.as_dict()))
    assert (read["name"], read["shape"], read["dropped"]) == (ring.name, [2, 3], 3)
    assert (read["producer"]["state"], read["consumers"][0]["label"]) == ("live", "disk")
    descr = stats.as_dict()["dtype"]
    assert np.lib.format.descr_to_dtype(descr) == ring.dtype
    assert set(read) == {field.name for field in dataclasses.fields(stats)}


def test_the_producer(ring, peer):
    other = peer(ring)
    other.run(open_producer)
    other.run(put, 2)
    first = ring.stats().producer
    assert (first.pid, first.state) == (other.pid, "live")
    assert "support.children" in first.command
    other.run(close_producer)
    closed = ring.stats().producer
    assert (closed.state, closed.epoch) == ("closed", first.epoch)
    with ring.producer():
        again = ring.stats().producer
        assert (again.pid, again.state, again.epoch) == (os.getpid(), "live", first.epoch + 1)


@pytest.mark.parametrize("readonly", [True, False])
def test_a_dead_producer(ring, peer, readonly):
    other = peer(ring)
    other.run(open_producer)
    other.kill()
    with shmring.Ring.attach(ring.name, readonly=readonly) as watched:
        producer = watched.stats().producer
        assert (producer.state, producer.pid) == ("died", other.pid)


def test_the_consumers(ring, peer):
    other = peer(ring)
    before = time.monotonic_ns(), time.time_ns()
    other.run(open_lossy_consumer, "them")
    with ring.consumer(label="us") as consumer, ring.producer() as producer:
        feed(producer, 3)
        consumer.get(0).release()
        held = consumer.get(0)
        other.run(hold_the_newest)
        them, us = ring.stats().consumers
        assert isinstance(them, shmring.ConsumerStats)
        assert (them.place, them.pid, them.label, them.policy, them.alive) == (
            0,
            other.pid,
            "them",
            "lossy",
            True,
        )
        assert (us.place, us.pid, us.label, us.policy, us.alive) == (1, os.getpid(), "us", "lossless", True)
        assert "support.children" in them.command
        assert us.command
        assert (them.delivered, them.skipped, them.lost, them.held, them.lag) == (1, 2, 0, 1, 0)
        assert (us.delivered, us.skipped, us.lost, us.held) == (2, 0, 0, 1)
        after = time.monotonic_ns(), time.time_ns()
        assert any(begin <= us.joined_ns <= end for begin, end in zip(before, after, strict=True))
        held.release()
        assert ring.stats().consumers[1].lag == 1
        assert drain(consumer) == [2]
        assert ring.stats().consumers[1].lag == 0


def test_a_dead_consumer_is_not_alive(ring, peer):
    other = peer(ring)
    other.run(open_consumer, "dead")
    assert [row.alive for row in ring.stats().consumers] == [True]
    other.kill()
    assert [row.label for row in ring.stats().consumers if row.alive] == []


def test_a_consumer_that_left_but_holds(ring):
    with ring.producer() as producer:
        consumer = ring.consumer(label="left")
        feed(producer, 2)
        held = consumer.get(0)
        consumer.close()
        (row,) = ring.stats().consumers
        assert (row.label, row.policy, row.held, row.alive) == ("left", "left", 1, True)
        held.release()
        assert ring.stats().consumers == ()


def test_counts(ring):
    with (
        ring.producer(on_full="drop") as producer,
        ring.consumer() as gate,
        ring.consumer(lossless=False) as lossy,
    ):
        feed(producer, ring.slots + 2)
        stats = ring.stats()
        assert (stats.published, stats.dropped, stats.next_seq) == (ring.slots, 2, ring.slots + 2)
        assert [row.lag for row in stats.consumers] == [ring.slots, ring.slots]
        for _ in range(3):
            drain(gate)
            feed(producer, ring.slots)
        drain(gate)
        drain(lossy)
        rows = ring.stats().consumers
        assert (rows[0].lost, rows[1].lost) == (gate.lost, lossy.lost)
        assert (rows[0].delivered, rows[1].delivered) == (gate.delivered, lossy.delivered)
        assert gate.lost == 2
        assert lossy.lost + lossy.delivered == producer.next_seq


def test_swaps_are_counted(ring):
    with ring.producer() as producer, ring.consumer() as reader, ring.consumer(lossless=False) as holder:
        for _ in range(3):
            feed(producer, ring.slots)
            drain(reader)
        assert ring.stats().swaps == 0
        held = holder.latest(0)
        for _ in range(3):
            feed(producer, ring.slots - 1)
            drain(reader)
        assert ring.stats().swaps > 0
        assert check(held) >= 0


def test_the_numbers_go_on_after_a_takeover(ring):
    for turn in range(1, 4):
        with ring.producer(on_full="drop") as producer:
            feed(producer, 5)
            assert ring.stats().published == 5 * turn
            assert ring.stats().next_seq == 5 * turn


def test_stats_change_nothing(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 2)
        before = block_file(ring.name).read_bytes()
        for _ in range(3):
            ring.stats()
        assert block_file(ring.name).read_bytes() == before
        assert drain(consumer) == [0, 1]


def join(here):
    here.consumer = here.ring.consumer()


def take_all(here):
    return sum(1 for frame in here.consumer)


def test_stats_while_everyone_is_busy(ring, peer):
    other = peer(ring)
    other.run(join)
    other.begin(take_all)
    with ring.producer() as producer:
        last = 0
        for _ in range(300):
            feed(producer, 5)
            stats = ring.stats()
            assert last <= stats.published == producer.published
            last = stats.published
            for row in stats.consumers:
                assert 0 <= row.lag <= stats.slots
                assert row.delivered + row.lost + row.skipped <= stats.next_seq
    assert other.answer() == 1500


# ---- spare slots, and what lossy consumers may hold


def test_spare_slots_in_use(make, lossless):
    """As many as there are held slots that no entry names any more."""
    ring = make(slots=4, spares=2)
    keeps = {"lossless": lossless, "max_held": None if lossless else 3}
    with ring.producer() as producer, ring.consumer() as reader, ring.consumer(**keeps) as keeper:
        held = []

        def lap() -> shmring.RingStats:
            for _ in range(ring.slots):
                feed(producer, 1)
                reader.get(0).release()
                keeper.latest(0).release()
            return ring.stats()

        assert lap().spares_in_use == 0
        for number in (1, 2):
            feed(producer, 1)
            reader.get(0).release()
            held.append(keeper.latest(0))
            assert ring.stats().spares_in_use == number - 1  # its own entry names it
            assert lap().spares_in_use == number
        stats = ring.stats()
        assert (stats.spares, stats.swaps) == (2, 0)
        assert "4 slots and 2 spare ones (2 in use)" in str(stats)
        assert json.loads(json.dumps(stats.as_dict()))["spares_in_use"] == 2
        held.clear()
        assert ring.stats().spares_in_use == 0


def test_spare_slots_in_use_by_a_group(make):
    ring = make(slots=4, spares=2)
    with (
        ring.producer() as producer,
        ring.consumer(group="workers") as one,
        ring.consumer(group="workers") as two,
    ):
        feed(producer, 1)
        held = one.get(0)
        for _ in range(2 * ring.slots):
            feed(producer, 1)
            two.get(0).release()
        assert ring.stats().spares_in_use == 1
        held.release()
        assert ring.stats().spares_in_use == 0


def test_spare_slots_of_frames_with_metas(make):
    """Lines are longer than those without, and not all of them are read at once."""
    ring = make(shape=(8,), slots=600, spares=64, meta="V300")
    with ring.producer() as producer, ring.consumer(lossless=False, max_held=40) as viewer:
        for _ in range(ring.slots):
            producer.put(np.zeros(8, "u8"), meta=bytes(300))
        held = [viewer.get(0) for _ in range(40)]
        for _ in range(ring.slots):
            producer.put(np.zeros(8, "u8"), meta=bytes(300))
        stats = ring.stats()
        assert (stats.spares_in_use, stats.consumers[0].held) == (40, 40)
        del held


def test_a_ring_without_spare_slots(ring):
    stats = ring.stats()
    assert (stats.spares, stats.spares_in_use) == (0, 0)
    assert "spare" not in str(stats)


def test_max_held_of_each_consumer(make):
    ring = make(slots=8)
    with ring.consumer(), ring.consumer(lossless=False, max_held=3), ring.consumer(group="workers"):
        stats = ring.stats()
        assert [one.max_held for one in stats.consumers] == [None, 3, None]
        head, *rows = (line.split() for line in str(stats).splitlines()[-4:])
        at = head.index("max_held") - 1  # nobody has a label
        assert [row[at] for row in rows] == ["-", "3", "-"]
