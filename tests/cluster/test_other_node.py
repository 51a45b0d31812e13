"""A node with a /dev/shm of its own, as on another machine."""

import re
import sys

import pytest

import shmring
from support.frames import check, feed
from support.waiting import PATIENCE, wait_until

ray = pytest.importorskip("ray", reason="needs the extra ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

from shmring.ray import mirror  # noqa: E402

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


def take(name, count):
    with shmring.Ring.attach(name, timeout=PATIENCE) as ring, ring.consumer() as frames:
        return [check(frame) for frame in frames.iter(PATIENCE)][:count]


def test_a_ring_does_not_leave_its_node_but_its_mirror_does(far_node, on, make):
    """If it fits there; the error of one that does not says where, and the ring here is as before."""
    large = make(shape=(1 << 20,), dtype="u1", slots=32)
    with large.producer() as out, large.consumer() as frames:
        with pytest.raises(shmring.NoSpace) as refused:
            mirror(large, [far_node])
        needed = shmring.Ring.required_size(shape=large.shape, dtype="u1", slots=large.slots)
        said = rf"on node {far_node}: .*needs {needed} bytes, /dev/shm has \d+ bytes free of {16 << 20}\b"
        assert re.match(said, str(refused.value))
        wait_until(lambda: not any(one.label.startswith("mirror") for one in large.stats().consumers))
        for _ in range(2 * large.slots):
            out.claim().publish()
            frames.get(0).release()
    ring = make(slots=32)
    here = ray.get_runtime_context().get_node_id()
    with pytest.raises(ray.exceptions.RayError) as caught:
        ray.get(ray.remote(lambda ring: ring.name).options(**on(far_node)).remote(ring))
    for said in (f"Ray node {here}", f"Ray node {far_node}", "shmring.ray.mirror"):
        assert said in str(caught.value)
    with mirror(ring, [far_node], name=ring.name) as made, ring.producer() as out:
        taken = ray.remote(take).options(**on(far_node)).remote(ring.name, 5)
        feed(out, 5)
        out.close()
        assert ray.get(taken) == list(range(5))
        assert made.wait(PATIENCE).ended == "closed"
