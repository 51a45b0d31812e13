"""Exported recordings, as other programs read them: mcap's reader, sigmf's."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

import shmring
from shmring import attrs, recording
from support.waiting import PATIENCE

START = 1_700_000_000 * 10**9


def recorded(ring: shmring.Ring, path: Path, frames: np.ndarray, lost_before=(), metas=None) -> Path:
    with ring.producer() as out:
        for number, frame in enumerate(frames):
            if number in lost_before:
                out.drop(2)
            meta = None if metas is None else metas[number]
            out.put(frame, timestamp_ns=START + number * 10**8, meta=meta, timeout=PATIENCE)
    recording.record(ring, path)
    return path


# ---- MCAP

IMAGES = {
    "gray": ((6, 7), "u1", {}, "mono8", (0, 1)),
    "16 bits": ((6, 7), "u2", {}, "mono16", (0, 1)),
    "big-endian": ((6, 7), ">u2", {}, "mono16", (0, 1)),
    "float": ((6, 7), "f4", {}, "32FC1", (0, 1)),
    "rgb": ((6, 7, 3), "u1", {}, "rgb8", (0, 1, 2)),
    "bgr": ((6, 7, 3), "u1", {"color": "bgr"}, "bgr8", (0, 1, 2)),
    "rgba": ((6, 7, 4), "u1", {}, "rgba8", (0, 1, 2)),
    "bayer": ((6, 8), "u1", {"color": "bayer_grbg"}, "bayer_grbg8", (0, 1)),
    "channels first": ((3, 6, 7), "u1", {"axes": ["c", "y", "x"], "color": "rgb"}, "rgb8", (1, 2, 0)),
    "x before y": ((7, 6), "u2", {"axes": ["x", "y"]}, "mono16", (1, 0)),
    "x before y, colors": ((7, 6, 3), "u1", {"axes": ["x", "y", "c"]}, "rgb8", (1, 0, 2)),
}


@pytest.mark.parametrize("suffix", [".npy", ".zarr"])
@pytest.mark.parametrize("kind", IMAGES)
def test_mcap(make, tmp_path, kind, suffix) -> None:
    """Every image, with its time and seq; metas and losses on a topic of their own."""
    reader = pytest.importorskip("mcap.reader")
    decoder = pytest.importorskip("mcap_protobuf.decoder")
    pytest.importorskip("foxglove_schemas_protobuf")
    if suffix == ".zarr":
        pytest.importorskip("zarr")
    shape, dtype, said, encoding, order = IMAGES[kind]
    ring = make(
        shape=shape, dtype=dtype, slots=8, attrs={**attrs.describe(**said), "clock": "realtime"},
        meta=[("exposure", "f4"), ("at", "M8[s]")],
    )  # fmt: skip
    frames = np.random.default_rng(1).integers(0, 200, (5, *shape)).astype(dtype)
    metas = [(number / 4, number) for number in range(5)]
    path = recorded(ring, tmp_path / f"take{suffix}", frames, lost_before=[3], metas=metas)
    recording.export(path, tmp_path / "take.mcap")
    with open(tmp_path / "take.mcap", "rb") as file:
        opened = reader.make_reader(file, decoder_factories=[decoder.DecoderFactory()])
        found = list(opened.iter_decoded_messages(topics=["/" + ring.name]))
        assert len(found) == 5
        for number, (schema, _, message, image) in enumerate(found):
            assert schema.name == "foxglove.RawImage"
            assert (message.log_time, message.sequence) == (
                START + number * 10**8,
                number + 2 * (number >= 3),
            )
            assert image.timestamp.ToNanoseconds() == message.log_time
            shown = frames[number].transpose(order)
            assert (image.encoding, image.height, image.width) == (encoding, *shown.shape[:2])
            pixels = np.frombuffer(image.data, np.dtype(dtype).newbyteorder("<")).reshape(shown.shape)
            assert np.array_equal(pixels, shown)
            assert image.step * image.height == len(image.data)
        others = list(opened.iter_messages(topics=[f"/{ring.name}/frame"]))
        said = [json.loads(message.data) for _, _, message in others]
        assert [one["lost"] for one in said] == [0, 0, 0, 2, 0]
        assert said[4] == {"seq": 6, "lost": 0, "meta": {"exposure": 1.0, "at": "1970-01-01 00:00:04"}}
        (known,) = opened.iter_metadata()
        assert (known.name, known.metadata["lost"]) == ("shmring", "2")


def test_mcap_has_no_place(make, tmp_path) -> None:
    pytest.importorskip("mcap.writer")
    pytest.importorskip("mcap_protobuf")
    pytest.importorskip("foxglove_schemas_protobuf")
    for number, (shape, dtype) in enumerate(
        [((6, 7), "f8"), ((6, 7), "c8"), ((6,), "u1"), ((6, 7, 3), "u2")]
    ):
        ring = make(shape=shape, dtype=dtype, slots=8)
        path = recorded(ring, tmp_path / f"take{number}.npy", np.zeros((1, *shape), dtype))
        with pytest.raises(ValueError, match=r"foxglove.RawImage has .*: not frames of shape"):
            recording.export(path, tmp_path / "take.mcap")
    assert not list(tmp_path.glob("*.mcap*"))


def test_mcap_has_no_time_before_1970(make, tmp_path) -> None:
    for library in ("mcap", "mcap_protobuf", "foxglove_schemas_protobuf"):
        pytest.importorskip(library)
    ring = make(shape=(4, 5), dtype="u1", attrs={"clock": "realtime"})
    with ring.producer() as out:
        out.put(np.zeros((4, 5), "u1"), timestamp_ns=1)
        out.put(np.zeros((4, 5), "u1"), timestamp_ns=-7)
    recording.record(ring, tmp_path / "take.npy")
    with pytest.raises(
        ValueError, match="no times before 1970: frame 1 has the timestamp -7, which is -7 ns"
    ):
        recording.export(tmp_path / "take.npy", tmp_path / "take.mcap")
    assert not list(tmp_path.glob("take.mcap*"))


def test_without_mcap(make, tmp_path, monkeypatch) -> None:
    path = recorded(make(shape=(6, 7), dtype="u1"), tmp_path / "take.npy", np.zeros((1, 6, 7), "u1"))
    monkeypatch.setitem(sys.modules, "mcap", None)
    monkeypatch.setitem(sys.modules, "mcap.writer", None)
    with pytest.raises(ImportError, match=r'pip install "shmring\[mcap\]"'):
        recording.export(path, tmp_path / "take.mcap")
    assert not list(tmp_path.glob("*.mcap*"))


# ---- SigMF

SAMPLES = {
    "complex64": ((100,), "c8", "cf32_le"),
    "complex128": ((100,), "c16", "cf64_le"),
    "big-endian": ((100,), ">c8", "cf32_be"),
    "integers": ((100,), [("i", "<i2"), ("q", "<i2")], "ci16_le"),
    "bytes": ((100,), [("i", "i1"), ("q", "i1")], "ci8"),
    "real": ((100,), "<i2", "ri16_le"),
    "scalars": ((), "c8", "cf32_le"),
}


def samples_of(dtype, shape, count: int) -> np.ndarray:
    random = np.random.default_rng(1)
    numbers = random.integers(-100, 100, (count, *shape, 2))
    made = np.zeros((count, *shape), dtype)
    if made.dtype.names:
        made["i"], made["q"] = numbers[..., 0], numbers[..., 1]
    elif made.dtype.kind == "c":
        made[...] = numbers[..., 0] + 1j * numbers[..., 1]
    else:
        made[...] = numbers[..., 0]
    return made


@pytest.mark.parametrize("kind", SAMPLES)
def test_sigmf(make, tmp_path, kind) -> None:
    """The samples are read from the .npy file itself."""
    sigmf = pytest.importorskip("sigmf")
    shape, dtype, name = SAMPLES[kind]
    ring = make(
        shape=shape,
        dtype=dtype,
        slots=16,
        attrs={"frame_rate": 10, "clock": "realtime", "center_frequency": 1e8},
    )
    frames = samples_of(dtype, shape, 6)
    path = recorded(ring, tmp_path / "take.npy", frames, lost_before=[4])
    recording.export(path, tmp_path / "take.sigmf-meta")
    opened = sigmf.fromfile(str(tmp_path / "take.sigmf-meta"), autoscale=False)
    opened.validate()
    assert opened.get_global_field("core:datatype") == name
    count = 100 if shape else 1
    assert opened.get_global_field("core:sample_rate") == 10 * count
    found = opened.read_samples()
    wanted = frames.reshape(-1)
    if frames.dtype.names:
        wanted = wanted["i"].astype("f4") + 1j * wanted["q"].astype("f4")
    assert np.array_equal(found, wanted)
    captures = opened.get_captures()
    assert [capture["core:sample_start"] for capture in captures] == [0, 4 * count]
    assert [capture["core:global_index"] for capture in captures] == [0, 6 * count]
    assert captures[1]["core:datetime"] == "2023-11-14T22:13:20.400000000Z"
    assert captures[0]["core:frequency"] == 1e8


def test_sigmf_channels(make, tmp_path) -> None:
    sigmf = pytest.importorskip("sigmf")
    said = attrs.describe(axes=[attrs.Axis("time", unit="microsecond", scale=0.5), "channel"])
    ring = make(shape=(50, 2), dtype="c8", slots=16, attrs=said)
    frames = samples_of("c8", (50, 2), 4)
    path = recorded(ring, tmp_path / "take.npy", frames)
    recording.export(path, tmp_path / "take.sigmf-meta")
    opened = sigmf.fromfile(str(tmp_path / "take.sigmf-meta"), autoscale=False)
    opened.validate()
    assert opened.get_global_field("core:sample_rate") == 2e6
    assert opened.num_channels == 2
    assert np.array_equal(opened.read_samples(), frames.reshape(-1, 2))


def test_sigmf_has_no_place(make, tmp_path) -> None:
    cases = [
        ((4, 5, 6), "c8", None), ((5,), "u8", None), ((5,), "f2", None),
        ((5,), [("a", "i2"), ("b", "f4")], None),
        ((2, 50), "c8", ["channel", "time"]),
    ]  # fmt: skip
    for number, (shape, dtype, axes) in enumerate(cases):
        ring = make(shape=shape, dtype=dtype, slots=4, attrs={"axes": axes} if axes else {})
        path = recorded(ring, tmp_path / f"take{number}.npy", np.zeros((1, *shape), dtype))
        with pytest.raises(ValueError, match="SigMF has"):
            recording.export(path, tmp_path / "take.sigmf-meta")
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(ValueError, match="in the folder of its samples"):
        recording.export(tmp_path / "take0.npy", tmp_path / "elsewhere" / "take.sigmf-meta")
    assert not list(tmp_path.rglob("*.sigmf-meta*"))


@pytest.mark.parametrize("said", ["100 MHz", True, [1], None])
def test_sigmf_leaves_out_what_is_no_number(make, tmp_path, said) -> None:
    """Attrs may say anything; a SigMF reader refuses the whole file for it."""
    attrs_of_ring = {"center_frequency": said, "frame_rate": 1e308}
    ring = make(shape=(9,), dtype="c8", attrs=attrs_of_ring)
    path = recorded(ring, tmp_path / "take.npy", np.zeros((1, 9), "c8"))
    recording.export(path, tmp_path / "take.sigmf-meta")
    described = json.loads((tmp_path / "take.sigmf-meta").read_text())
    assert "core:frequency" not in described["captures"][0]
    assert "core:sample_rate" not in described["global"]


# ---- both


def test_nothing_is_overwritten(make, tmp_path) -> None:
    path = recorded(make(shape=(9,), dtype="c8"), tmp_path / "take.npy", np.zeros((1, 9), "c8"))
    out = tmp_path / "take.sigmf-meta"
    out.write_text("mine")
    with pytest.raises(FileExistsError, match="exists: choose another name"):
        recording.export(path, out)
    assert out.read_text() == "mine"
    with pytest.raises(ValueError, match=r"must end in \.mcap or \.sigmf-meta"):
        recording.export(path, tmp_path / "take.wav")
    with pytest.raises(FileNotFoundError):
        recording.export(tmp_path / "none.npy", tmp_path / "none.sigmf-meta")


def test_an_empty_recording(make, tmp_path) -> None:
    pytest.importorskip("sigmf")
    path = recorded(make(shape=(9,), dtype="c8"), tmp_path / "take.npy", np.zeros((0, 9), "c8"))
    recording.export(path, tmp_path / "take.sigmf-meta")
    described = json.loads((tmp_path / "take.sigmf-meta").read_text())
    assert described["captures"] == [{"core:sample_start": 0, "core:header_bytes": 4096}]


def test_files_of_exports_that_were_killed_or_still_run(make, tmp_path) -> None:
    """They are in nobody's way, and stay as they are."""
    path = recorded(make(shape=(9,), dtype="c8"), tmp_path / "take.npy", np.zeros((1, 9), "c8"))
    for name in ("take.sigmf-meta.partial", "take.mcap.partial"):
        (tmp_path / name).write_text("half")
    recording.export(path, tmp_path / "take.sigmf-meta")
    assert sorted(one.name for one in tmp_path.glob("*.partial")) == [
        "take.mcap.partial",
        "take.sigmf-meta.partial",
    ]


def test_a_file_system_without_links(make, tmp_path, monkeypatch) -> None:
    """FAT, on most memory cards."""

    def refuse(*args, **options):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    path = recorded(make(shape=(9,), dtype="c8"), tmp_path / "take.npy", np.zeros((1, 9), "c8"))
    before = set(tmp_path.iterdir())
    monkeypatch.setattr(os, "link", refuse)
    recording.export(path, tmp_path / "take.sigmf-meta")
    assert {*tmp_path.iterdir()} - before == {tmp_path / "take.sigmf-meta"}
