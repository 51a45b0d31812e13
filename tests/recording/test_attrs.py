"""What the attrs of a ring say becomes what other programs read in its recordings, and comes back."""

from __future__ import annotations

import json

import numpy as np
import pytest

import shmring
from shmring import attrs, recording
from support.blocks import fresh_name
from support.recordings import need

CAMERA = attrs.describe(
    axes=["y", attrs.Axis("x", unit="micrometer", scale=0.5)],
    frame_rate=20,
    color="gray",
    unit="count",
    range=(0, 4095),
    clock="realtime",
    source="camera 7",
)
SUFFIXES = [".npy", ".zarr", ".h5"]


def record(path, make, said, *, shape=(4, 6), dtype="u2", count=3):
    """Record a few frames, at the times 0, 10, 20, … ns."""
    ring = make(shape=shape, dtype=dtype, slots=8, attrs=said)
    with ring.producer() as out:
        for number in range(count):
            out.put(np.zeros(shape, dtype), timestamp_ns=10 * number)
        out.close()
        recording.record(ring, path)
    return path


@pytest.fixture(params=SUFFIXES)
def path(request, tmp_path):
    return tmp_path / f"take{need(request.param)}"


# ---- and back


def test_attrs_come_back(path, make):
    mine = {**CAMERA, "exposure": {"ms": [1, 2.5, None]}}
    with recording.open_recording(record(path, make, mine)) as take:
        assert take.attrs == mine
        assert attrs.read(take) == attrs.read(make(shape=(4, 6), dtype="u2", attrs=mine))


def test_a_replayed_ring_has_them(path, make):
    """All of them, but for the clock where the frames get new timestamps."""
    record(path, make, CAMERA)
    for timestamps, clock in (("recorded", "realtime"), ("now", "monotonic")):
        name = fresh_name()
        found = []

        def look(_published, _share, name=name, found=found):
            with shmring.Ring.attach(name, readonly=True) as ring:
                found.append(attrs.read(ring))

        recording.replay(path, name, pace=None, timestamps=timestamps, progress=look)
        assert found[0].clock == clock
        assert (found[0].axes[1].scale, found[0].source) == (0.5, "camera 7")


@pytest.mark.parametrize(
    ("said", "offset"), [({}, True), ({"clock": "realtime"}, False), ({"clock": 3}, True)]
)
def test_dates_by_the_clock(path, make, said, offset):
    with recording.open_recording(record(path, make, said)) as take:
        assert (take.realtime_offset_ns != 0) == offset
        assert (take.parts[0].realtime_offset_ns != 0) == offset
        assert take.realtimes_ns.tolist() == [take.realtime_offset_ns + time for time in (0, 10, 20)]


@pytest.mark.parametrize("said", [{"axes": [{"name": 3}, []]}, {"axes": 5, "unit": {}, "color": "rgb"}])
def test_attrs_of_another_kind_are_recorded_all_the_same(path, make, said):
    with recording.open_recording(record(path, make, said)) as take:
        assert take.attrs == said
        assert len(take) == 3


# ---- OME-NGFF


def ome(path) -> dict:
    need(".zarr")
    return json.loads((path / "zarr.json").read_text())["attributes"].get("ome", {})


def test_ome_axes_and_scales(tmp_path, make):
    path = record(tmp_path / "take.zarr", make, CAMERA) if need(".zarr") else tmp_path
    with recording.open_recording(path) as take:
        ring = take.ring
    axes = [
        {"name": "frame", "type": "time", "unit": "second"},
        {"name": "y", "type": "space"},
        {"name": "x", "type": "space", "unit": "micrometer"},
    ]
    scale = {"type": "scale", "scale": [0.05, 1.0, 0.5]}
    image = {
        "name": ring,
        "axes": axes,
        "datasets": [{"path": "frames", "coordinateTransformations": [scale]}],
    }
    assert ome(path) == {"version": "0.5", "multiscales": [image]}
    stored = json.loads((path / "frames" / "zarr.json").read_text())
    assert stored["dimension_names"] == ["frame", "y", "x"]


@pytest.mark.parametrize(
    ("shape", "axes", "types"),
    [
        ((2, 4, 6), ["c", "y", "x"], ["time", "channel", "space", "space"]),
        ((5, 4, 6), ["z", "y", "x"], ["time", "space", "space", "space"]),
        ((2, 5, 4, 6), ["phase", "z", "y", "x"], ["time", None, "space", "space", "space"]),
        ((4, 6), ["row", "column"], ["time", "space", "space"]),
    ],
)
def test_ome_takes_stacks_and_channels(tmp_path, make, shape, axes, types):
    need(".zarr")
    path = record(tmp_path / "take.zarr", make, {"axes": axes}, shape=shape)
    (image,) = ome(path)["multiscales"]
    assert [axis["name"] for axis in image["axes"]] == ["frame", *axes]
    assert [axis.get("type") for axis in image["axes"]] == types
    assert "unit" not in image["axes"][0]


@pytest.mark.parametrize(
    ("shape", "dtype", "said"),
    [
        ((4, 6), "u2", {}),  # guesses are not written
        ((4, 6, 3), "u1", {"axes": ["y", "x", "c"]}),  # OME wants the channels first
        ((6, 4), "u2", {"axes": ["time", "c"]}),
        ((4, 6), "S3", {"axes": ["y", "x"]}),
        ((4, 6), "u1,f4", {"axes": ["y", "x"]}),
        ((2, 2, 2, 4, 6), "u1", {"axes": ["a", "b", "z", "y", "x"]}),
    ],
)
def test_no_ome_where_it_has_no_place(tmp_path, make, shape, dtype, said):
    need(".zarr")
    assert ome(record(tmp_path / "take.zarr", make, said, shape=shape, dtype=dtype)) == {}


# ---- NeXus


def test_nexus_attributes(tmp_path, make):
    h5py = pytest.importorskip("h5py")
    with h5py.File(record(tmp_path / "take.h5", make, CAMERA)) as file:
        assert dict(file.attrs) == {"NX_class": "NXroot", "default": "entry"}
        assert dict(file["entry"].attrs) == {"NX_class": "NXentry", "default": "data"}
        data = file["entry/data"]
        assert (data.attrs["NX_class"], data.attrs["signal"]) == ("NXdata", "frames")
        assert list(data.attrs["axes"]) == ["timestamp_ns", "y", "x"]
        assert data["frames"] == file["frames"]
        assert data["timestamp_ns"][:].tolist() == [0, 10, 20]
        said = {"target": "/frames", "units": "count", "interpretation": "image"}
        assert dict(file["frames"].attrs) == said
        assert file["timestamp_ns"].attrs["units"] == "ns"
        assert data["x"][:].tolist() == [0, 0.5, 1, 1.5, 2, 2.5]
        assert dict(data["x"].attrs) == {"units": "micrometer"}
        assert dict(data["y"].attrs) == {}


@pytest.mark.parametrize(
    ("shape", "said", "axes", "interpretation"),
    [
        ((4, 6), {}, [".", "."], None),
        ((4, 6, 3), {"axes": ["y", "x", "c"], "color": "rgb"}, ["y", "x", "c"], "rgb-image"),
        ((4, 6, 3), {"axes": ["y", "x", "c"], "color": "bgr"}, ["y", "x", "c"], None),
        ((3, 4, 6), {"axes": ["c", "y", "x"]}, ["c", "y", "x"], "image"),
        ((2, 6), {"axes": ["c", "time"]}, ["c", "time"], "spectrum"),
        ((6, 2), {"axes": ["time", "c"]}, ["time", "c"], None),
        ((4, 6), {"axes": ["a/b", "frames"]}, [".", "."], None),
        ((1 << 17,), {"axes": ["time"]}, ["."], "spectrum"),
    ],
)
def test_nexus_names_what_the_attrs_name(tmp_path, make, shape, said, axes, interpretation):
    h5py = pytest.importorskip("h5py")
    with h5py.File(record(tmp_path / "take.h5", make, said, shape=shape, dtype="u1")) as file:
        assert list(file["entry/data"].attrs["axes"]) == ["timestamp_ns", *axes]
        assert file["frames"].attrs.get("interpretation") == interpretation


def test_nexus_says_nothing_of_what_it_cannot_plot(tmp_path, make):
    h5py = pytest.importorskip("h5py")
    with h5py.File(record(tmp_path / "take.h5", make, CAMERA, dtype="u1,f4")) as file:
        assert "entry" not in file
        assert dict(file.attrs) == {}


def test_nexus_links_grow_with_an_append(tmp_path, make):
    h5py = pytest.importorskip("h5py")
    path = record(tmp_path / "take.h5", make, CAMERA)
    ring = make(shape=(4, 6), dtype="u2", slots=8)
    with ring.producer() as out:
        out.put(np.ones((4, 6), "u2"))
        out.close()
        recording.record(ring, path, mode="a")
    assert recording.repair(path) == 0
    with h5py.File(path) as file:
        assert file["entry/data/frames"].shape == (4, 4, 6)
        assert file["entry/data/frames"][-1].all()
