"""shmring.rings() and shmring.unlink(): what `shmring ls` and `shmring rm` do, from Python."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import shmring
from support.blocks import block_file
from support.frames import drain, feed


@pytest.fixture
def foreign(name):
    """A block that is no ring."""
    block_file(name).write_bytes(b"something else" * 100)
    yield name
    block_file(name).unlink()


def find(name):
    (found,) = [one for one in shmring.rings() if one.name == name]
    return found


def test_a_live_ring(make):
    ring = make(shape=(3,), dtype="f4", meta="u2", attrs={"unit": "V"}, variable_rows=True, mode=0o640)
    with ring.producer() as producer, ring.consumer(label="disk"):
        producer.put(np.ones(2, "f4"))
        found = find(ring.name)
    assert isinstance(found, shmring.RingInfo)
    assert (found.state, found.shape, found.dtype, found.slots) == ("live", (3,), np.dtype("f4"), ring.slots)
    assert (found.nbytes, found.meta_dtype, found.variable_rows) == (ring.nbytes, np.dtype("u2"), True)
    assert (found.attrs, found.mode) == ({"unit": "V"}, 0o640)
    assert found.stats.published == 1
    assert found.stats.producer.pid == os.getpid()
    assert [one.label for one in found.stats.consumers] == ["disk"]
    assert found.created_ns > 1_500_000_000 * 10**9


def test_a_stale_ring_and_its_end(make):
    ring = make()
    ring.close()
    assert find(ring.name).state == "stale"
    shmring.unlink(ring.name)
    assert ring.name not in [one.name for one in shmring.rings()]
    with pytest.raises(shmring.RingNotFound):
        shmring.unlink(ring.name)


def test_by_name_and_without_what_is_no_ring(make, foreign):
    names = [make().name for _ in range(3)]
    found = [one.name for one in shmring.rings()]
    assert found == sorted(found)
    assert set(names) <= set(found)
    assert foreign not in found


def test_a_ring_in_use_is_refused_unless_forced(make):
    ring = make()
    with ring.consumer(label="disk") as consumer:
        with pytest.raises(shmring.RingExists, match=r"in use .*this process.*disk.*pass force=True"):
            shmring.unlink(ring.name)
        assert block_file(ring.name).exists()
        shmring.unlink(ring.name, force=True)
        assert not block_file(ring.name).exists()
        with ring.producer() as producer:
            feed(producer, 1)
            assert drain(consumer) == [0]


@pytest.mark.parametrize("force", [True, False])
def test_another_program_s_block_is_never_removed(foreign, force):
    with pytest.raises(shmring.RingExists, match="another program"):
        shmring.unlink(foreign, force=force)
    assert block_file(foreign).exists()


@pytest.mark.parametrize(
    ("name", "options", "error"),
    [("", {}, ValueError), ("a/b", {}, ValueError), (5, {}, TypeError), ("x", {"force": 1}, TypeError)],
)
def test_bad_arguments(name, options, error):
    with pytest.raises(error):
        shmring.unlink(name, **options)


def test_nothing_but_numpy_is_needed(make):
    ring = make()
    code = f"""if True:
        import sys
        import shmring
        before = set(sys.modules)
        print([one.state for one in shmring.rings() if one.name == {ring.name!r}])
        loaded = {{name.partition(".")[0] for name in set(sys.modules) - before}}
        print(sorted(loaded & {{"click", "rich", "psutil", "textual", "prometheus_client"}}))
    """
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "['live']\n[]\n"


# ---- attrs


CHANGES = {
    "set": lambda attrs: attrs.__setitem__("fps", 60),
    "delete": lambda attrs: attrs.__delitem__("unit"),
    "update": lambda attrs: attrs.update(fps=60),
    "pop": lambda attrs: attrs.pop("unit"),
    "clear": lambda attrs: attrs.clear(),
    "nested": lambda attrs: attrs["lens"].__setitem__("f", 2),
    "list": lambda attrs: attrs["gains"].append(3),
    "item of a list": lambda attrs: attrs["gains"].__setitem__(0, 3),
    "in a list": lambda attrs: attrs["gains"][1].__setitem__("a", 3),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("of", ["ring", "recording"])
def test_attrs_refuse_to_change(make, tmp_path, change, of):
    given = {"unit": "V", "lens": {"f": 1}, "gains": [1, {"a": 2}]}
    ring = make(attrs=given)
    attrs = ring.attrs
    if of == "recording":
        with ring.producer() as producer:
            feed(producer, 1)
            shmring.recording.record(ring, tmp_path / "x.npy", frames=1)
        attrs = shmring.recording.open_recording(tmp_path / "x.npy").attrs
    with pytest.raises(TypeError, match="fixed when their ring is created"):
        CHANGES[change](attrs)
    assert attrs == ring.attrs == given


def test_attrs_are_dicts_and_lists_for_everyone_else(make):
    import copy
    import pickle

    given = {"unit": "V", "lens": {"f": 1}, "gains": [1, {"a": 2}]}
    attrs = make(attrs=given).attrs
    assert json.loads(json.dumps(attrs)) == given
    for made in (copy.deepcopy(attrs), pickle.loads(pickle.dumps(attrs))):
        made["lens"]["f"] = made["gains"][1]["a"] = 5
        made["gains"].append(3)
        assert made == {"unit": "V", "lens": {"f": 5}, "gains": [1, {"a": 5}, 3]}
    assert attrs == given
    assert make(attrs=attrs).attrs == given
