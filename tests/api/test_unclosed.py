"""Handles that nobody closes: a ResourceWarning, as for files, with the ring's name."""

import gc
import subprocess
import sys
import warnings

import numpy as np
import pytest

import shmring
from support.blocks import inode, mappings
from support.frames import payload
from support.waiting import settle

OPENERS = {
    "Producer": lambda ring: ring.producer(),
    "Consumer": lambda ring: ring.consumer(),
    "Observer": lambda ring: ring.observer(),
}


@pytest.mark.parametrize("kind", OPENERS)
def test_a_handle_that_nobody_closed(ring, kind):
    handle = OPENERS[kind](ring)
    with pytest.warns(ResourceWarning, match=f"unclosed {kind} of ring '{ring.name}': close it") as caught:
        del handle
    assert [one.filename for one in caught] == [__file__]


def test_buffers_that_nobody_gave_back(ring):
    with ring.producer() as producer:
        lent = producer.buffers(2)
        arrays = lent.refill()
        words = f"unclosed Buffers of ring '{ring.name}': close them, or use them in a `with` block"
        with pytest.warns(ResourceWarning, match=words) as caught:
            del lent
        assert [one.filename for one in caught] == [__file__]
        assert not any(one.flags.writeable for one in arrays)
        producer.put(payload(0))
        with producer.buffers(2) as lent:
            lent.refill()
        del lent
        lent = producer.buffers(2)  # which the end of the producer gives back
    del lent
    settle()


@pytest.mark.parametrize("kind", OPENERS)
def test_handles_that_were_closed_are_silent(ring, kind):
    with OPENERS[kind](ring) as handle:
        pass
    again = OPENERS[kind](ring)
    again.close()
    del handle, again
    settle()


@pytest.mark.parametrize("readonly", [False, True])
def test_an_attached_ring_that_nobody_closed(ring, readonly):
    attached = shmring.Ring.attach(ring.name, readonly=readonly)
    with pytest.warns(ResourceWarning, match=f"unclosed Ring '{ring.name}': close it") as caught:
        del attached
    assert [one.filename for one in caught] == [__file__]
    assert "unlink" not in str(caught[0].message)


def test_a_ring_that_only_its_closed_handles_kept_is_silent(ring):
    with shmring.Ring.attach(ring.name).producer() as producer:
        producer.put(payload(0))
        with shmring.Ring.attach(ring.name).consumer() as consumer:
            assert consumer.get(1).seq == 0
        with shmring.Ring.attach(ring.name, readonly=True).observer() as observer:
            assert observer.get(1).seq == 0
    del producer, consumer, observer
    settle()


def test_a_creator_that_leaves_its_name(name):
    made = shmring.Ring.create(name, shape=(4,), dtype="u1", slots=2)
    made.consumer().close()
    with pytest.warns(ResourceWarning, match=r"name stays in /dev/shm: .*unlink\(\)"):
        del made
    shmring.unlink(name)


def test_a_creator_that_leaves_its_name_in_a_cycle(name):
    made = shmring.Ring.create(name, shape=(4,), dtype="u1", slots=2)
    made.itself = made
    del made
    with pytest.warns(ResourceWarning, match=r"name stays in /dev/shm: .*unlink\(\)"):
        gc.collect()
    shmring.unlink(name)


def test_closing_the_ring_is_enough_for_what_publishes_and_joins(name):
    with shmring.Ring.create(name, shape=(4,), dtype="u1", slots=2) as ring:
        handles = [ring.producer(), ring.consumer(), ring.consumer(lossless=False)]
    del ring, handles
    settle()


@pytest.mark.parametrize("kind", ["Ring", *OPENERS])
def test_forked_children_do_not_warn(ring, fork, kind):
    attached = shmring.Ring.attach(ring.name)
    with OPENERS.get(kind, lambda ring: ring)(attached) as opened:
        handles = [opened]

        def work(send):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                unraisable = []
                sys.unraisablehook = unraisable.append
                handles.clear()
                nonlocal opened, attached
                opened = attached = None
                settle()
            send([str(one.message) for one in caught] + [str(one) for one in unraisable])

        assert fork(work).receive() == []
        handles.clear()
    attached.close()


@pytest.mark.parametrize("kind", ["Ring", *OPENERS])
def test_a_constructor_that_is_called_by_hand_leaves_no_warning(kind):
    with pytest.raises(TypeError):
        getattr(shmring, kind)("camera")
    settle()


def test_what_could_not_be_opened_is_silent(ring, name):
    with ring.producer():
        with pytest.raises(shmring.ProducerExists):
            ring.producer()
        with pytest.raises(shmring.RingExists):
            shmring.Ring.create(ring.name, shape=(4,), dtype="u1", slots=2)
    with pytest.raises(ValueError, match="start"):
        ring.consumer(start="never")
    with pytest.raises(shmring.RingNotFound):
        shmring.Ring.attach(name)
    settle()


EXIT = """
import shmring
ring = shmring.Ring.create({name!r}, shape=(4,), dtype="u1", slots=2)
kept = [ring.producer(), ring.consumer(), ring.observer()]
if {cycle}:
    kept.append(kept)
"""


@pytest.mark.parametrize(
    ("options", "cycle"), [([], False), (["-W", "always"], False), (["-W", "error"], True)]
)
def test_an_exit_says_no_more_than_it_is_asked_for(name, options, cycle):
    code = EXIT.format(name=name, cycle=cycle)
    ended = subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True, timeout=60)
    shmring.unlink(name)
    assert ended.returncode == 0
    if not options:
        assert ended.stderr == ""
    elif not cycle:
        assert "unclosed" in ended.stderr
    assert "ImportError" not in ended.stderr
    assert "AttributeError" not in ended.stderr


def test_a_consumer_that_its_own_ring_refers_to_is_collected(name):
    """A subclass, say, keeps what it opened: no leak, although the consumer refers to the ring."""
    ring = shmring.Ring.create(name, shape=(2,), dtype="f4", slots=4)
    ring.kept = [ring.producer(), ring.consumer(), ring.observer()]
    ring.kept[0].put(np.ones(2, "f4"))
    node = inode(name)
    ring.unlink()
    del ring
    with pytest.warns(ResourceWarning, match="unclosed") as caught:
        gc.collect()
    assert sorted(str(one.message).split()[1] for one in caught) == ["Consumer", "Observer", "Producer"]
    assert not mappings(node)
