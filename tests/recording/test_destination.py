"""Where a recording goes is checked before anybody waits: for the ring, or for the trigger of a capture."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

import shmring
from shmring import recording
from support.blocks import fresh_name
from support.recordings import LIBRARIES, need


def record(ring, path, **options) -> object:
    return recording.record(ring, path, timeout=0, **options)


def recorder(ring, path, **options) -> object:
    return recording.Recorder(ring, path, timeout=0, **options)


def capture(ring, path, **options) -> object:
    return recording.capture(ring, path, before=1, when=bool, timeout=0, **options)


def capture_object(ring, path, **options) -> object:
    return recording.Capture(ring, path, before=1, timeout=0, **options)


@pytest.fixture(params=[record, recorder, capture, capture_object])
def begin(request):
    """Begin to record, or to capture, from a ring that is not there: RingNotFound would be too late."""
    return request.param


def test_suffix_and_folder(begin, tmp_path) -> None:
    name = fresh_name()
    with pytest.raises(ValueError, match="must end in one of"):
        begin(name, tmp_path / "take.dat")
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere: make it first") as raised:
        begin(name, tmp_path / "nowhere" / "take.npy")
    assert raised.value.errno
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        begin(name, tmp_path / "file" / "take.npy")
    with pytest.raises(OSError, match="no file can be made in the folder /proc"):
        begin(name, "/proc/take.npy")
    with pytest.raises(ValueError, match='mode must be "x", "w" or "a"'):
        begin(name, tmp_path / "take.npy", mode="r")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        ("take.npy", "take.npy"),
        ("take.json", "take.npy"),
        ("take.index.npy", "take.npy"),
        ("take.zarr", "take.zarr"),
        ("take.h5", "take.h5"),
    ],
)
def test_taken_names(begin, tmp_path, there, wanted) -> None:
    """Files beside it that no recorder has made, too; and a link to nothing takes a name as well."""
    need(os.path.splitext(wanted)[1])
    (tmp_path / there).write_text("{}")
    with pytest.raises(FileExistsError, match=there):
        begin(fresh_name(), tmp_path / wanted)
    assert (tmp_path / there).read_text() == "{}"
    (tmp_path / wanted).unlink(missing_ok=True)
    (tmp_path / wanted).symlink_to("nothing")
    with pytest.raises(FileExistsError, match=wanted):
        begin(fresh_name(), tmp_path / wanted)


def test_what_cannot_be_appended_to(tmp_path) -> None:
    path = tmp_path / "take.npy"
    np.save(path, np.zeros(3))
    with pytest.raises(recording.RecordingCorrupt, match="is not a recording of shmring"):
        record(fresh_name(), path, mode="a")


def test_options_that_do_not_fit(tmp_path) -> None:
    name = fresh_name()
    need(".h5")
    with pytest.raises(ValueError, match=r"sync is for \.npy files"):
        record(name, tmp_path / "take.h5", sync=1)
    with pytest.raises(ValueError, match='start must be "oldest", "newest" or "next"'):
        record(name, tmp_path / "take.npy", start="last")
    for nonsense in (float("nan"), -1, 0):
        with pytest.raises(ValueError, match="seconds must be a number above 0"):
            record(name, tmp_path / "take.npy", seconds=nonsense)
    with pytest.raises(ValueError, match="before must be at least 1, not 0"):
        recording.Capture(name, tmp_path / "take.npy", before=0, timeout=None)


@pytest.mark.parametrize("suffix", LIBRARIES)
def test_a_missing_library(begin, monkeypatch, tmp_path, suffix) -> None:
    monkeypatch.setitem(sys.modules, LIBRARIES[suffix], None)
    with pytest.raises(ImportError, match=r'files need (zarr|h5py): pip install "shmring\[(zarr|hdf5)\]"'):
        begin(fresh_name(), tmp_path / f"take{suffix}")


@pytest.mark.parametrize("suffix", LIBRARIES)
def test_libraries_are_there_before_the_ring_is_joined(make, monkeypatch, tmp_path, suffix) -> None:
    """Importing them takes longer than a quick producer's ring lasts."""
    from shmring.recording import formats

    need(suffix)
    ring = make(slots=8)
    order = []
    load, join = formats.importlib.import_module, shmring.Ring.consumer
    monkeypatch.setattr(
        formats.importlib, "import_module", lambda name: (order.append("load"), load(name))[1]
    )
    monkeypatch.setattr(
        shmring.Ring, "consumer", lambda *args, **options: (order.append("join"), join(*args, **options))[1]
    )
    with ring.producer():
        pass
    recording.record(ring, tmp_path / f"take{suffix}")
    assert order[:2] == ["load", "join"]


@pytest.mark.parametrize("kind", [recording.Recorder, recording.Capture])
def test_frames_that_npy_cannot_hold(make, tmp_path, kind) -> None:
    """The ring is not even joined. Metas are checked as well."""
    wide = [(f"channel_{i:04d}", "f4") for i in range(600)]
    for ring in (make(shape=(3,), dtype=wide, slots=4), make(shape=(3,), dtype="u1", meta=wide, slots=4)):
        options = {"before": 1} if kind is recording.Capture else {}
        with pytest.raises(ValueError, match=r"Record to \.zarr or \.h5"):
            kind(ring, tmp_path / "take.npy", **options)
        assert not ring.stats().consumers
    assert not os.listdir(tmp_path)


def test_nothing_is_left_where_nothing_triggers(make, tmp_path) -> None:
    ring = make(slots=8)
    with ring.producer():
        one = recording.Capture(ring, tmp_path / "take.npy", before=1)
        assert not os.listdir(tmp_path)
        one.stop()
        assert one.run() == []
    assert not os.listdir(tmp_path)
