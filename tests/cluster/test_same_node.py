"""Rings as arguments of Ray's tasks and actors on their node."""

import os
import pickle
import re
import sys

import numpy as np
import pytest

import shmring
from support.frames import check, feed
from support.waiting import PATIENCE, wait_until

ray = pytest.importorskip("ray", reason="needs the extra ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def by_value() -> None:
    """Workers cannot import this module."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


by_value()


class Reader:
    """Joins a ring and reads it."""

    def __init__(self, ring):
        self.ring = ring
        self.frames = ring.consumer(label="actor")

    def pid(self):
        return os.getpid()

    def take(self, count):
        """The seqs of checked frames, and whether their arrays are the ring's own memory."""
        seqs, owned = [], []
        for _ in range(count):
            with self.frames.get(PATIENCE) as frame:
                seqs.append(check(frame))
                owned.append(frame.array.flags.owndata or frame.array.flags.writeable)
        return seqs, any(owned)

    def maps(self):
        with open("/proc/self/maps") as file:
            return sum(self.ring.name in line for line in file)

    def trackers(self):
        """Whether multiprocessing's resource tracker was started here."""
        from multiprocessing import resource_tracker

        return resource_tracker._resource_tracker._pid is not None

    def track(self):
        """Start the resource tracker, as other code in a worker may; its pid."""
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()
        print("began to track", file=sys.stderr, flush=True)
        return resource_tracker._resource_tracker._pid

    def close(self):
        self.frames.close()
        self.ring.close()


@pytest.fixture
def reader(cluster):
    started = []

    def start(ring, **options):
        started.append(ray.remote(Reader).options(**options).remote(ring))
        return started[-1]

    yield start
    for actor in started:
        ray.kill(actor)


def here(on) -> dict:
    return on(ray.get_runtime_context().get_node_id())


def test_an_actor_reads_in_place(reader, on, ring):
    actor = reader(ring, **here(on))
    with ring.producer() as out:
        out.wait_for_consumers(1, timeout=60)
        feed(out, 3)
        assert ray.get(actor.take.remote(3)) == ([0, 1, 2], False)
    assert ray.get(actor.maps.remote()) > 0
    assert not ray.get(actor.trackers.remote())


def test_a_task_gets_it_and_leaves_it(cluster, on, ring):
    def total(ring):
        with ring, ring.consumer() as frames:
            return int(frames.get(PATIENCE).array[0])

    with ring.producer() as out:
        out.put(np.full(ring.shape, 7, "u8"))
        assert ray.get(ray.remote(total).options(**here(on)).remote(ring)) == 7
    with shmring.Ring.attach(ring.name) as again:
        assert again.stats().published == 1


@pytest.mark.parametrize("how", ["killed by Ray", "killed by the kernel", "closed"])
def test_a_worker_that_goes_takes_nothing_along(reader, on, ring, how, words_of):
    """And the resource tracker says nothing."""
    actor = reader(ring, **here(on))
    pid, tracker = ray.get(actor.pid.remote()), ray.get(actor.track.remote())
    with ring.producer() as out:
        out.wait_for_consumers(1, timeout=60)
        feed(out, 1)
        if how == "killed by Ray":
            ray.kill(actor)
        elif how == "killed by the kernel":
            os.kill(pid, 9)
        else:
            ray.get(actor.close.remote())
            actor.__ray_terminate__.remote()
        wait_until(lambda: not any(one.alive for one in ring.stats().consumers))
        feed(out, 2 * ring.slots)  # nobody holds it up any more
    wait_until(lambda: not any(os.path.exists(f"/proc/{one}") for one in (pid, tracker)), "they have ended")
    with shmring.Ring.attach(ring.name) as again, again.consumer() as frames:
        check(frames.get(0))
    words = words_of(pid)
    assert "began to track" in words
    assert not re.search("resource_tracker|leaked|KeyError", words)


def test_an_actor_may_be_the_producer(cluster, on, ring):
    def produce(ring):
        with ring, ring.producer() as out:
            out.wait_for_consumers(1, timeout=60)
            return feed(out, 3)

    with ring.consumer() as frames:
        done = ray.remote(produce).options(**here(on)).remote(ring)
        assert [check(frame) for frame in frames.iter(PATIENCE)] == [0, 1, 2]
        assert ray.get(done) == 3


def test_the_pickle_names_the_node(cluster, ring):
    assert ray.get_runtime_context().get_node_id().encode() in pickle.dumps(ring)
