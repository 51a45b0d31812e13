"""OME files, as programs for microscopy read them: zarr and tifffile, without shmring or ome-writers."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

import shmring
from shmring import attrs, recording
from support.waiting import PATIENCE

pytest.importorskip("ome_writers")
tifffile = pytest.importorskip("tifffile")
zarr = pytest.importorskip("zarr")

from shmring.recording.formats import _ome_files  # noqa: E402

SUFFIXES = [".ome.zarr", ".ome.tiff"]
every_suffix = pytest.mark.parametrize("suffix", SUFFIXES)
MICRO = attrs.describe(
    axes=[
        attrs.Axis("y", unit="micrometer", scale=0.65),
        attrs.Axis("x", unit="micrometer", scale=0.325),
    ],
    frame_rate=20,
)
TURNED = {**MICRO, "axes": MICRO["axes"][::-1]}


def frames_like(ring: shmring.Ring, count: int) -> np.ndarray:
    random = np.random.default_rng(1)
    return random.integers(0, 100, (count, *ring.shape)).astype(ring.dtype)


def put(out: shmring.Producer, frames: np.ndarray, **options) -> None:
    for frame in frames:
        out.put(frame, timeout=PATIENCE, **options)


def record(ring: shmring.Ring, path: Path, count: int = 5, **options) -> np.ndarray:
    frames = frames_like(ring, count)
    with ring.producer() as out:
        put(out, frames)
    assert recording.record(ring, path, **options).frames == count
    return frames


def array_of(path: Path) -> tuple[str, np.ndarray]:
    """What a reader shows: the names of the axes, and all values."""
    if path.is_dir():
        group = zarr.open_group(path, mode="r")
        (image,) = group.attrs["ome"]["multiscales"]
        names = "".join(axis["name"] for axis in image["axes"]).upper()
        return names, group[image["datasets"][0]["path"]][:]
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        return file.series[0].get_axes(squeeze=False), file.series[0].asarray(squeeze=False)


def said_in_tiff(path: Path) -> dict:
    with tifffile.TiffFile(path) as file:
        return tifffile.xml2dict(file.ome_metadata)["OME"]


def values_of(path: Path, axes: str) -> np.ndarray:
    """The values along these axes; others have one entry."""
    names, values = array_of(path)
    for name in reversed(names):
        if name not in axes:
            values = values.take(0, names.index(name))
    names = "".join(name for name in names if name in axes)
    assert names == axes
    return values


@every_suffix
@pytest.mark.parametrize("dtype", ["u1", ">u2", "u4", "i1", "i2", "i4", "f4", "f8"])
def test_every_dtype(make, tmp_path, suffix, dtype) -> None:
    if suffix == ".ome.tiff" and "f" in dtype:
        with pytest.raises(ValueError, match="has no place for dtype float"):
            recording.Recorder(make(shape=(12, 17), dtype=dtype), tmp_path / "take.ome.tiff")
        return
    ring, path = make(shape=(12, 17), dtype=dtype, slots=8), tmp_path / f"take{suffix}"
    frames = record(ring, path)
    found = values_of(path, "TYX")
    assert found.dtype == np.dtype(dtype).newbyteorder("=")
    assert np.array_equal(found, frames)


LAYOUTS = {
    "gray": ((6, 7), None, "TYX", (0, 1, 2)),
    "rgb": ((6, 7, 3), None, "TCYX", (0, 3, 1, 2)),
    "channels first": ((2, 6, 7), ["channel", "y", "x"], "TCYX", (0, 1, 2, 3)),
    "x before y": ((7, 6), ["x", "y"], "TYX", (0, 2, 1)),
    "volume, x before y": ((7, 6, 4), ["x", "y", "z"], "TZYX", (0, 3, 2, 1)),
    "volume": ((4, 6, 7), ["z", "y", "x"], "TZYX", (0, 1, 2, 3)),
    "volume of channels": ((4, 6, 7, 2), ["z", "y", "x", "c"], "TCZYX", (0, 4, 1, 2, 3)),
}


@every_suffix
@pytest.mark.parametrize("layout", LAYOUTS)
def test_axes(make, tmp_path, suffix, layout) -> None:
    """Each axis is where OME has it."""
    shape, axes, names, order = LAYOUTS[layout]
    said = {} if axes is None else attrs.describe(axes=axes)
    ring, path = make(shape=shape, dtype="u2", slots=8, attrs=said), tmp_path / f"take{suffix}"
    frames = record(ring, path)
    assert np.array_equal(values_of(path, names), frames.transpose(order))


@every_suffix
def test_what_the_attrs_say(make, tmp_path, suffix) -> None:
    """Units and scales, the time from one frame to the next, and names of channels."""
    ring, path = make(shape=(6, 7), dtype="u2", slots=8, attrs=MICRO), tmp_path / f"take{suffix}"
    record(ring, path)
    if suffix == ".ome.zarr":
        (image,) = zarr.open_group(path, mode="r").attrs["ome"]["multiscales"]
        assert [axis.get("unit") for axis in image["axes"]] == ["second", "micrometer", "micrometer"]
        assert image["datasets"][0]["coordinateTransformations"][0]["scale"] == [0.05, 0.65, 0.325]
    else:
        pixels = said_in_tiff(path)["Image"]["Pixels"]
        assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeXUnit"]) == (0.325, "µm")
        assert (pixels["PhysicalSizeY"], pixels["SizeT"]) == (0.65, 5)
    named = attrs.describe(axes=[attrs.Axis("channel", labels=("DAPI", "GFP")), "y", "x"])
    ring, path = make(shape=(2, 6, 7), dtype="u2", slots=8, attrs=named), tmp_path / f"named{suffix}"
    record(ring, path)
    if suffix == ".ome.zarr":
        channels = zarr.open_group(path, mode="r").attrs["ome"]["omero"]["channels"]
        assert [channel["label"] for channel in channels] == ["DAPI", "GFP"]
    else:
        pixels = said_in_tiff(path)["Image"]["Pixels"]
        assert [channel["Name"] for channel in pixels["Channel"]] == ["DAPI", "GFP"]


@every_suffix
@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 3)], ids=str)
def test_lost_frames_are_empty(make, tmp_path, suffix, shape) -> None:
    """Each frame is where its seq says, and what was lost is listed; frames keep their time and meta."""
    ring = make(shape=shape, dtype="u2", slots=8, meta=[("exposure", "f4"), ("at", "M8[s]")])
    frames, path = 1 + frames_like(ring, 5), tmp_path / f"take{suffix}"
    with ring.producer() as out:
        out.drop(3)  # before the first one: the file begins with a frame
        for number, frame in enumerate(frames):
            out.put(frame, timestamp_ns=10**9 * number, meta=(number / 4, number))
            out.drop(2) if number in (1, 3) else None
    summary = recording.record(ring, path)
    assert (summary.frames, summary.lost) == (5, 4)
    axes = "TYX" if len(shape) == 2 else "TCYX"
    found = values_of(path, axes)
    wanted = np.zeros((9, *frames.shape[1:]), "u2")
    wanted[[0, 1, 4, 5, 8]] = frames
    assert np.array_equal(found, wanted if axes == "TYX" else wanted.transpose(0, 3, 1, 2))
    if suffix == ".ome.zarr":
        group = zarr.open_group(path, mode="r")
        assert group.attrs["shmring"]["lost"] == [[2, 2], [4, 2]]
        said = group.attrs["ome_writers"]["frame_metadata"]
        assert [one["seq"] for one in said[:: len(said) // 5]] == [3, 4, 7, 8, 11]
        assert said[-1]["delta_t"] == 4
        assert (said[-1]["exposure"], said[-1]["at"]) == (1.0, "1970-01-01 00:00:04")
        assert said[-1]["storage_index"][0] == 8
    else:
        planes = said_in_tiff(path)["Image"]["Pixels"]["Plane"]
        assert [plane["TheT"] for plane in planes[:: len(planes) // 5]] == [0, 1, 4, 5, 8]
        assert planes[-1]["DeltaT"] == 4


def test_a_large_gap_does_not_fill_the_disk(make, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(_ome_files, "MOST_EMPTY", 3)
    ring = make(shape=(6, 7), dtype="u2", slots=8)
    with ring.producer() as out:
        put(out, frames_like(ring, 1))
        out.drop(10**9)
        put(out, frames_like(ring, 1))
    recording.record(ring, tmp_path / "take.ome.tiff")
    assert len(values_of(tmp_path / "take.ome.tiff", "TYX")) == 5


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed(make, tmp_path, codec) -> None:
    ring, path = make(shape=(60, 70), dtype="u2", slots=8), tmp_path / "take.ome.zarr"
    frames = record(ring, path, codec=codec)
    assert np.array_equal(values_of(path, "TYX"), frames)
    assert sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) < 0.8 * frames.nbytes
    with pytest.raises(ValueError, match="codec is for"):
        recording.record(ring, tmp_path / "take.ome.tiff", codec=codec)


def test_the_thread_of_tifffile_is_waited_for(make, tmp_path, monkeypatch) -> None:
    """ome-writers itself gives up after five seconds, and leaves the rest out."""
    import time

    write = tifffile.TiffWriter.write

    def slow(*args, **options):
        time.sleep(0.05)
        return write(*args, **options)

    monkeypatch.setattr(tifffile.TiffWriter, "write", slow)
    waited = []
    keep_up = _ome_files.OmeWriter._keep_up
    monkeypatch.setattr(
        _ome_files.OmeWriter, "_keep_up", lambda self, most=0: waited.append(most) or keep_up(self, most)
    )
    ring, path = make(shape=(100, 100), dtype="u2", slots=16), tmp_path / "take.ome.tiff"
    frames = record(ring, path, 12)
    assert waited
    assert np.array_equal(values_of(path, "TYX"), frames)


def test_a_thread_that_writes_no_more(make, tmp_path, monkeypatch) -> None:
    """ome-writers warns, and takes frames forever: here it is an error."""

    def refuse(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_ome_files, "STALLED", 0.1)
    monkeypatch.setattr(_ome_files, "WAITING", 1000)
    monkeypatch.setattr(tifffile.TiffWriter, "write", refuse)
    ring = make(shape=(100, 100), dtype="u2", slots=16)
    with ring.producer() as out:
        put(out, frames_like(ring, 8))
    with pytest.warns(RuntimeWarning), pytest.raises(recording.RecordingFailed, match="the disk may be full"):
        recording.record(ring, tmp_path / "take.ome.tiff")


# ---- what is refused


@every_suffix
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shape": (100,), "dtype": "f4"}, "an OME file has images of y and x"),
        ({"shape": (3, 4, 5, 6, 7), "dtype": "f4"}, "an OME file has images of y and x"),
        ({"shape": (4, 5), "dtype": "c8"}, "no place for dtype complex64"),
        ({"shape": (4, 5), "dtype": "?"}, "no place for dtype bool"),
        ({"shape": (4, 5), "dtype": "i8"}, "no place for dtype int64"),
        ({"shape": (4,), "dtype": [("a", "u2")]}, "an OME file has images of y and x"),
        ({"shape": (40, 50), "dtype": "u2", "variable_rows": True}, "variable_rows have no place"),
    ],
)
def test_frames_that_have_no_place(make, tmp_path, suffix, options, said) -> None:
    with pytest.raises(ValueError, match=said):
        recording.Recorder(make(**options), tmp_path / f"take{suffix}")
    assert not list(tmp_path.iterdir())


@every_suffix
def test_in_one_go(make, tmp_path, suffix) -> None:
    ring, path = make(shape=(6, 7), dtype="u2", slots=8), tmp_path / f"take{suffix}"
    for options in ({"mode": "a"}, {"roll": recording.Roll(frames=3)}):
        with pytest.raises(ValueError, match="is written in one go"):
            recording.Recorder(ring, path, **options)
    record(ring, path)
    with pytest.raises(FileExistsError, match="exists: choose another name"):
        recording.Recorder(ring, path)
    for read in (recording.open_recording, recording.repair):
        with pytest.raises(ValueError, match="is for other programs: read it with zarr or tifffile"):
            read(path)


@every_suffix
def test_overwrite(make, tmp_path, suffix) -> None:
    """Recordings of shmring are replaced, others are left alone."""
    path = tmp_path / f"take{suffix}"
    for count in (4, 3):
        ring = make(shape=(6, 7), dtype="u2", slots=8)
        frames = record(ring, path, count, mode="w")
        assert np.array_equal(values_of(path, "TYX"), frames)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    foreign = tmp_path / f"foreign{suffix}"
    if suffix == ".ome.tiff":
        tifffile.imwrite(foreign, np.zeros((5, 6), "u2"))
    else:
        zarr.create_group(foreign)
    with pytest.raises(FileExistsError, match="It is not overwritten"):
        recording.Recorder(ring, foreign, mode="w")


def test_without_ome_writers(make, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ome_writers", None)
    with pytest.raises(ImportError, match=r'OME files need ome-writers: pip install "shmring\[ome\]"'):
        recording.Recorder(make(shape=(6, 7), dtype="u2"), tmp_path / "take.ome.tiff")


def test_the_description_is_in_the_file(make, tmp_path) -> None:
    ring, path = make(shape=(6, 7), dtype="u2", slots=8, attrs=MICRO), tmp_path / "take.ome.zarr"
    record(ring, path)
    said = json.loads((path / "zarr.json").read_text())["attributes"]["shmring"]["description"]
    assert (said["ring"], said["ended"], said["frames"]) == (ring.name, "producer closed", 5)
    assert said["attrs"] == MICRO


# ---- what attrs and metas may say, and OME has no place for


@every_suffix
def test_units_and_labels_that_ome_does_not_know(make, tmp_path, suffix) -> None:
    """They are left out: the frames count."""
    axes = [{"name": "y", "unit": "pixel", "scale": 2}, {"name": "x", "unit": "micrometer", "scale": 3}]
    ring, path = make(shape=(6, 7), dtype="u2", slots=8, attrs={"axes": axes}), tmp_path / f"take{suffix}"
    frames = record(ring, path)
    assert np.array_equal(values_of(path, "TYX"), frames)
    named = attrs.describe(axes=[attrs.Axis("channel", labels=("DAPI", "DAPI")), "y", "x"])
    ring, path = make(shape=(2, 6, 7), dtype="u2", slots=8, attrs=named), tmp_path / f"named{suffix}"
    frames = record(ring, path)
    assert np.array_equal(values_of(path, "TCYX"), frames)


@every_suffix
def test_metas_of_other_types_than_omes(make, tmp_path, suffix) -> None:
    """Fields with the names of OME's places that are no numbers, and numbers that JSON does not have."""
    meta = np.dtype([("exposure_time", "S3"), ("position_x", "f8"), ("position_y", "f4"), ("gain", "f8")])
    ring, path = make(shape=(6, 7), dtype="u2", slots=8, meta=meta), tmp_path / f"take{suffix}"
    frames = frames_like(ring, 3)
    with ring.producer() as out:
        put(out, frames, meta=(b"1/8", np.nan, 2.5, np.inf))
    recording.record(ring, path)
    assert np.array_equal(values_of(path, "TYX"), frames)
    if suffix == ".ome.zarr":

        def refuse(name: str) -> None:
            raise ValueError(name)

        said = json.loads((path / "zarr.json").read_text(), parse_constant=refuse)
        plane = said["attributes"]["ome_writers"]["frame_metadata"][0]
        assert (plane["meta_exposure_time"], plane["meta_position_x"], plane["gain"]) == (
            "b'1/8'",
            "nan",
            "inf",
        )
        assert plane["position_y"] == 2.5
    else:
        assert said_in_tiff(path)["Image"]["Pixels"]["Plane"][0]["PositionY"] == 2.5


def test_a_tiff_file_without_frames(make, tmp_path) -> None:
    """There is no such thing; what is left can be replaced."""
    path, ring = tmp_path / "take.ome.tiff", make(shape=(6, 7), dtype="u2")
    with ring.producer():
        pass
    with pytest.raises(recording.RecordingFailed, match="no frame came, and an OME-TIFF file needs one"):
        recording.record(ring, path)
    ring = make(shape=(6, 7), dtype="u2", slots=8)
    frames = record(ring, path, mode="w")
    assert np.array_equal(values_of(path, "TYX"), frames)


@every_suffix
def test_a_file_that_exists_says_what_can_be_done(make, tmp_path, suffix) -> None:
    ring, path = make(shape=(6, 7), dtype="u2", slots=8), tmp_path / f"take{suffix}"
    record(ring, path)
    with pytest.raises(FileExistsError, match=r'exists: choose another name, or replace it \(mode="w"\)'):
        recording.record(ring, path)


# ---- readers that have nothing to do with what wrote the files

OME = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"


def planes_by_pillow(path: Path) -> tuple[dict[str, str], list[np.ndarray]]:
    """What OME's XML says of the pixels, and the planes, which are one block in its order."""
    image = pytest.importorskip("PIL.Image")
    with image.open(path) as file:
        pixels = ET.fromstring(file.tag_v2[270]).find(f".//{OME}Pixels")
        (block,) = pixels.iter(f"{OME}TiffData")
        assert (block.get("IFD"), block.get("PlaneCount")) == ("0", str(file.n_frames))
        planes = []
        for number in range(file.n_frames):
            file.seek(number)
            planes.append(np.array(file))
        return pixels.attrib, planes


def record_turned(make, path):
    """Record three frames of x before y, with two lost behind each; return the frames."""
    ring = make(shape=(7, 6), dtype="u2", slots=8, attrs=TURNED)
    frames = 1 + frames_like(ring, 3)
    with ring.producer() as out:
        for frame in frames:
            out.put(frame)
            out.drop(2)
        recording.record(ring, path, frames=3)
    return frames


def test_pillow_reads_the_tiff(make, tmp_path) -> None:
    """Every plane is where the XML has it, the lost ones included."""
    path = tmp_path / "take.ome.tiff"
    frames = record_turned(make, path)
    said, planes = planes_by_pillow(path)
    assert [said[f"Size{axis}"] for axis in "XYCZT"] == ["7", "6", "1", "1", "7"]
    assert [said[f"PhysicalSize{axis}"] for axis in "XY"] == ["0.325", "0.65"]
    assert len(planes) == 7
    for time in range(7):
        right = np.zeros((6, 7), "u2") if time % 3 else frames[time // 3].T
        assert np.array_equal(planes[time], right)


def test_tensorstore_reads_the_zarr(make, tmp_path) -> None:
    """With the path, the axes and the scales from the JSON as it is in the file."""
    tensorstore = pytest.importorskip("tensorstore")
    path = tmp_path / "take.ome.zarr"
    frames = record_turned(make, path)
    (image,) = json.loads((path / "zarr.json").read_text())["attributes"]["ome"]["multiscales"]
    (dataset,) = image["datasets"]
    assert [axis["name"] for axis in image["axes"]] == ["t", "y", "x"]
    assert dataset["coordinateTransformations"] == [{"type": "scale", "scale": [0.05, 0.65, 0.325]}]
    store = {"driver": "file", "path": str(path / dataset["path"])}
    found = tensorstore.open({"driver": "zarr3", "kvstore": store}).result().read().result()
    assert found.shape == (7, 6, 7)
    for time in range(7):
        right = np.zeros((6, 7), "u2") if time % 3 else frames[time // 3].T
        assert np.array_equal(found[time], right)
