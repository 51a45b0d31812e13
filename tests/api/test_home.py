"""A pickled ring finds its way back only where the ring is; elsewhere the error says where that is."""

import pickle
import sys
import types

import pytest

import shmring
from shmring import _home


def elsewhere(monkeypatch) -> None:
    """From now on, this process is on another machine."""
    memory = _home.memory()
    monkeypatch.setattr(_home, "memory", lambda: f"other {memory}")


@pytest.mark.parametrize("readonly", [False, True])
def test_at_home_it_is_the_same_ring(ring, readonly):
    with (
        shmring.Ring.attach(ring.name, readonly=readonly) as attached,
        pickle.loads(pickle.dumps(attached)) as again,
    ):
        assert (again.name, again.readonly) == (ring.name, readonly)


def test_elsewhere_the_error_names_the_host_and_a_way(ring, monkeypatch):
    pickled = pickle.dumps(ring)
    elsewhere(monkeypatch)
    with pytest.raises(shmring.RingNotFound) as caught:
        pickle.loads(pickled)
    for part in (repr(ring.name), "host", "shmring read", "ssh"):
        assert part in str(caught.value)


def test_on_ray_it_names_the_node_and_the_mirror(ring, monkeypatch):
    context = types.SimpleNamespace(get_node_id=lambda: "abc123")
    ray = types.SimpleNamespace(is_initialized=lambda: True, get_runtime_context=lambda: context)
    monkeypatch.setitem(sys.modules, "ray", ray)
    pickled = pickle.dumps(ring)
    elsewhere(monkeypatch)
    with pytest.raises(shmring.RingNotFound, match=r"(?s)Ray node abc123 .*shmring\.ray\.mirror"):
        pickle.loads(pickled)


def test_a_ring_of_the_same_name_elsewhere_is_another_one(make, monkeypatch):
    ring = make()
    pickled = pickle.dumps(ring)
    ring.unlink()
    ring.close()
    make(ring.name)
    elsewhere(monkeypatch)
    with pytest.raises(shmring.RingNotFound, match="cannot see"):
        pickle.loads(pickled)
