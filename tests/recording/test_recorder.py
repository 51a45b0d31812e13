"""Recordings: what is in the file is what was published, whatever ends the recorder."""

from __future__ import annotations

import errno
import json
import math
import os
import resource
import subprocess
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest

import shmring
from shmring import recording
from support import peers, recordings
from support.blocks import fresh_name
from support.frames import feed, payload
from support.recordings import copied_before_each, feed_seqs
from support.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.slow

META = np.dtype([("exposure", ">f4"), ("at", "M8[us]")])
FORMATS = [".npy", ".zarr", ".h5"]
KINDS = {
    "bytes": ("u1", (5,)),
    "big-endian": (">u2", (3, 4)),
    "scalars": ("<f4", ()),
    "structured": ([("a", ">i4"), ("b", "f4", (2,))], (4,)),
    "dates": ("M8[ns]", (7,)),
    "text": ("U3", (2,)),
    "booleans": ("?", (65,)),
    "large and not adjacent in the ring": ("u1", (100, 100)),
    "large and adjacent": ("f2", (64, 64)),
}


@pytest.fixture
def suffix(request) -> str:
    return recordings.need(request.param)


every_format = pytest.mark.parametrize("suffix", FORMATS, indirect=True)


def random_frames(ring: shmring.Ring, count: int) -> np.ndarray:
    """Frames of any dtype, each with its own content."""
    words = np.arange(count * ring.frame_nbytes, dtype="u8")
    octets = ((words * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(56)).astype("u1")
    if ring.dtype.kind == "U":  # not every number is a character
        return (
            (octets[:: ring.dtype.itemsize] % 90 + 33)
            .view("S1")
            .astype(ring.dtype)
            .reshape(count, *ring.shape)
        )
    if ring.dtype.kind == "b":
        octets &= 1
    return octets.view(ring.dtype).reshape(count, *ring.shape)


def start(recorder) -> threading.Thread:
    thread = threading.Thread(target=recorder.run)
    thread.start()
    return thread


def check_seqs(found: recording.Recording, seqs) -> None:
    assert found.seqs.tolist() == list(seqs)
    frames = np.asarray(found.array).reshape(len(found), math.prod(found.shape))
    assert (frames == (found.seqs & np.uint64(0xFF)).astype(found.dtype)[:, np.newaxis]).all()


# ---- what was published is what is read


WHOLE = [(kind, False) for kind in KINDS]
ROWS = [(kind, True) for kind, (_, shape) in KINDS.items() if shape]
ROWS_IN_CHUNKS = [("structured", True), ("large and adjacent", True)]  # .npy has its own ways for each
COUNT = 50


def rows_of(ring: shmring.Ring, number: int) -> int | None:
    """How many rows of a frame are put: a few, or all."""
    return 1 + number % ring.shape[0] if ring.variable_rows else None


def record_while_published(ring: shmring.Ring, path: Path, frames: np.ndarray, metas) -> recording.Summary:
    out, recorder = ring.producer(), recording.Recorder(ring, path)
    thread = start(recorder)
    for number, frame in enumerate(frames):
        rows = rows_of(ring, number)
        shown = frame[:rows] if rows else frame
        out.put(shown, timestamp_ns=number * 10 - 5, meta=metas[number], timeout=PATIENCE)
    out.close()
    thread.join()
    return recorder.summary


@pytest.mark.parametrize(
    ("suffix", "kind", "variable_rows"),
    [
        pytest.param(suffix, *case, id=f"{suffix}, {case[0]}{', rows' * case[1]}")
        for suffix in FORMATS
        for case in WHOLE + (ROWS if suffix == ".npy" else ROWS_IN_CHUNKS)
    ],
    indirect=["suffix"],
)
def test_every_kind_of_frame_comes_back(make, tmp_path, suffix, kind, variable_rows) -> None:
    dtype, shape = KINDS[kind]
    ring = make(shape=shape, dtype=dtype, meta=META, variable_rows=variable_rows, slots=8)
    frames, path = random_frames(ring, COUNT), tmp_path / f"take{suffix}"
    record_while_published(ring, path, frames, np.zeros(COUNT, META))
    with recording.open_recording(path) as found:
        array = np.asarray(found.array)
        assert (array.dtype, array.shape) == (ring.dtype, (COUNT, *ring.shape))
        for number, frame in enumerate(found):
            rows = rows_of(ring, number)
            assert frame.array.dtype == ring.dtype
            assert frame.rows == rows
            assert frame.array.tobytes() == (frames[number][:rows] if rows else frames[number]).tobytes()
            behind = array[number].tobytes()[frame.array.nbytes :]
            assert not any(behind), "behind the rows something is left of another frame"
        assert len(found.array[-3:]) == 3
        with pytest.raises(IndexError):
            found[COUNT]


@pytest.mark.parametrize("variable_rows", [False, True])
@every_format
def test_what_belongs_to_frames_comes_back(make, tmp_path, suffix, variable_rows) -> None:
    """Seqs, timestamps, metas, attrs, and what the recording is of."""
    attrs = {"unit": "µm", "gain": [1, 2]}
    ring = make(shape=(3, 4), dtype=">u2", meta=META, attrs=attrs, variable_rows=variable_rows, slots=8)
    path, metas = tmp_path / f"take{suffix}", np.zeros(COUNT, META)
    metas["exposure"], metas["at"] = np.arange(COUNT), np.arange(COUNT).astype("M8[us]")
    summary = record_while_published(ring, path, random_frames(ring, COUNT), metas)
    nbytes = COUNT * ring.frame_nbytes
    assert summary == recording.Summary((path,), COUNT, nbytes, 0, summary.seconds, "producer closed")
    with recording.open_recording(path) as found:
        assert (found.ring, found.shape, found.dtype) == (ring.name, ring.shape, ring.dtype)
        assert (found.meta_dtype, found.attrs, found.ended) == (META, attrs, "producer closed")
        assert found.seqs.tolist() == list(range(COUNT))
        assert found.timestamps_ns.tolist() == [number * 10 - 5 for number in range(COUNT)]
        assert (found.metas == metas).all()
        assert (found.lost, found.lost_before.any()) == (0, False)
        assert [(frame.seq, frame.meta) for frame in found] == list(enumerate(metas))


def produce(here, count) -> int:
    """The checksum of random frames that were put as fast as possible."""
    crc = 0
    with here.ring.producer() as out:
        for number in range(count):
            frame = np.random.default_rng(number).integers(0, 2**32, here.ring.shape, "u4")
            crc = zlib.crc32(frame, crc)
            out.put(frame, timeout=PATIENCE)
    return crc


@pytest.mark.parametrize(("shape", "count"), [((8,), 1000), ((1024, 1024), 20)], ids=str)
def test_nothing_is_lost(make, peer, tmp_path, shape, count) -> None:
    """The checksum of what another process produced, full speed into few slots, is that of the file."""
    ring = make(shape=shape, dtype="u4", slots=4)
    path, producer = tmp_path / "take.npy", peer(ring)
    recorder = recording.Recorder(ring, path)
    producer.begin(produce, count)
    summary = recorder.run()
    assert (summary.frames, summary.lost, summary.ended) == (count, 0, "producer closed")
    assert zlib.crc32(np.load(path, mmap_mode="r")) == producer.answer()


def test_numpy_reads_the_files_alone(make, tmp_path) -> None:
    """np.load maps the frames, page-aligned, and the index; JSON has the rest."""
    ring = make(shape=(300,), dtype="i2", meta="f8")
    with ring.producer() as out:
        out.put_many(np.arange(900, dtype="i2").reshape(3, 300), metas=[0.5, 1.5, 2.5])
    recording.record(ring, tmp_path / "take.npy")
    frames = np.load(tmp_path / "take.npy", mmap_mode="r")
    index = np.load(tmp_path / "take.index.npy")
    assert frames.offset % 4096 == 0
    assert frames.tolist() == np.arange(900).reshape(3, 300).tolist()
    assert index["seq"].tolist() == [0, 1, 2]
    assert index["meta"].tolist() == [0.5, 1.5, 2.5]
    said = json.loads((tmp_path / "take.json").read_text())
    assert (said["shape"], said["frames"], said["lost"]) == ([300], 3, 0)


@every_format
def test_losses_are_kept(make, tmp_path, suffix) -> None:
    """Frames dropped at the source: before which frame, and how many in all, the last ones included."""
    ring = make(slots=4)
    with ring.producer(on_full="drop") as out:
        recorder = recording.Recorder(ring, tmp_path / f"take{suffix}", lossless=True)
        feed(out, 7)  # 0 to 3; 4 to 6 are dropped
        thread = start(recorder)
        wait_until(lambda: recorder.frames == 4)
        feed(out, 1)
        wait_until(lambda: recorder.frames == 5)
        recorder.stop()
        thread.join()
        late = recording.Recorder(ring, tmp_path / f"late{suffix}", start="next")
        feed(out, 6)  # 8 to 11; 12 and 13 are dropped
    late.run()
    with recording.open_recording(tmp_path / f"take{suffix}") as found:
        assert found.seqs.tolist() == [0, 1, 2, 3, 7]
        assert found.lost_before.tolist() == [0, 0, 0, 0, 3]
        assert (found.lost, found.ended) == (3, "stopped")
        assert np.array_equal(found.array[4], payload(7))
    with recording.open_recording(tmp_path / f"late{suffix}") as found:
        assert found.seqs.tolist() == [8, 9, 10, 11]
        assert found.lost == late.summary.lost == 2


def test_a_lossy_recorder_never_holds_the_producer_back(make, tmp_path) -> None:
    ring = make(slots=4)
    with ring.producer(on_full="raise") as out:
        recorder = recording.Recorder(ring, tmp_path / "take.npy", lossless=False)
        feed(out, 100)
    summary = recorder.run()
    found = recording.open_recording(tmp_path / "take.npy")
    assert found.seqs[-1] == 99
    assert len(found) + summary.lost == len(found) + found.lost == 100
    for seq, frame in zip(found.seqs.tolist(), found.array, strict=True):
        assert np.array_equal(frame, payload(seq))


# ---- limits, files


@every_format
def test_frames_and_bytes_limit(make, tmp_path, suffix) -> None:
    ring = make(slots=16)
    with ring.producer() as out:
        feed(out, 14)
        by_frames = recording.record(ring, tmp_path / f"a{suffix}", frames=5)
        by_bytes = recording.record(ring, tmp_path / f"b{suffix}", nbytes=3 * ring.frame_nbytes + 1)
        both = recording.record(ring, tmp_path / f"c{suffix}", frames=9, nbytes=1)
    assert [(one.frames, one.ended) for one in (by_frames, by_bytes, both)] == [
        (5, "limit"), (3, "limit"), (1, "limit"),
    ]  # fmt: skip
    with recording.open_recording(tmp_path / f"a{suffix}") as found:
        assert found.seqs.tolist() == [0, 1, 2, 3, 4]


def test_seconds_limit_holds_without_frames(make, tmp_path) -> None:
    ring = make()
    summary = recording.record(ring, tmp_path / "take.npy", seconds=0.01)
    assert (summary.frames, summary.ended) == (0, "limit")
    assert np.load(tmp_path / "take.npy").shape == (0, *ring.shape)
    assert len(recording.open_recording(tmp_path / "take.npy")) == 0


@every_format
def test_rolling_files(make, tmp_path, suffix) -> None:
    """A new file after so many frames; the last ones are kept with all that is theirs; numbers continue."""
    ring = make(slots=32)
    path = tmp_path / f"take{suffix}"
    roll = recording.Roll(frames=4, keep=3)
    with ring.producer() as out:
        feed(out, 18)
        summary = recording.record(ring, path, roll=roll, frames=18)
        with pytest.raises(FileExistsError, match="exists"):
            recording.record(ring, path, roll=roll)
    assert [file.stem for file in summary.paths] == ["take-0003", "take-0004", "take-0005"]
    assert recording.pieces(path) == list(summary.paths)
    assert {file.name.split(".")[0] for file in tmp_path.iterdir()} == {file.stem for file in summary.paths}
    assert summary.frames == 18
    seqs = []
    for file in summary.paths:
        with recording.open_recording(file) as found:
            seqs += found.seqs.tolist()
            for seq, frame in zip(found.seqs.tolist(), np.asarray(found.array), strict=True):
                assert np.array_equal(frame, payload(seq))
    assert seqs == list(range(8, 18))
    more = recording.record(ring, path, roll=recording.Roll(nbytes=1 << 30), mode="a")
    assert [file.stem for file in more.paths] == ["take-0003", "take-0004", "take-0005", "take-0006"]
    second = recording.record(ring, path, roll=recording.Roll(seconds=1e-9), mode="w")
    assert recording.pieces(path) == list(second.paths)


@every_format
def test_append_and_overwrite(make, tmp_path, suffix) -> None:
    path = tmp_path / f"take{suffix}"
    ring = make(slots=16)
    with ring.producer() as out:
        feed(out, 12)
        recording.record(ring, path, frames=5)
        with pytest.raises(FileExistsError, match="exists"):
            recording.record(ring, path, frames=5)
        assert recording.record(ring, path, frames=7, mode="a").frames == 7
    with recording.open_recording(path) as found:
        assert found.seqs.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 6]
        for seq, frame in zip(found.seqs.tolist(), np.asarray(found.array), strict=True):
            assert np.array_equal(frame, payload(seq))
    other = make(shape=(3,), dtype="u1")
    with pytest.raises(shmring.RingIncompatible, match="Record into another file"):
        recording.record(other, path, seconds=0.01, mode="a")
    recording.record(other, path, seconds=0.01, mode="w")
    with recording.open_recording(path) as found:
        assert (len(found), found.shape) == (0, (3,))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"frames": 0}, "frames must be a number above 0"),
        ({"seconds": -1}, "seconds must be a number above 0"),
        ({"mode": "r"}, 'mode must be "x"'),
    ],
)
def test_wrong_arguments(ring, tmp_path, options, told) -> None:
    with pytest.raises(ValueError, match=told):
        recording.record(ring, tmp_path / "take.npy", **options)
    assert not list(tmp_path.iterdir())
    assert ring.stats().consumers == ()


def test_wrong_names(ring, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"must end in one of \.npy"):
        recording.record(ring, tmp_path / "take.dat")
    with pytest.raises(FileNotFoundError):
        recording.record(ring, tmp_path / "missing" / "take.npy")
    with pytest.raises(shmring.RingNotFound):
        recording.record(fresh_name(), tmp_path / "take.npy")
    with pytest.raises(ValueError, match="needs frames, seconds or nbytes"):
        recording.Roll()
    assert not list(tmp_path.iterdir())
    assert ring.stats().consumers == ()


def test_a_dtype_too_long_for_npy(make, tmp_path) -> None:
    """numpy reads no header above 10,000 bytes: refused at once, not when somebody wants to read it."""
    ring = make(shape=(), dtype=[(f"a_field_with_a_rather_long_name_{i:04}", "u1") for i in range(230)])
    with pytest.raises(ValueError, match=r"Record to \.zarr or \.h5"):
        recording.record(ring, tmp_path / "take.npy")
    assert not list(tmp_path.iterdir())


# ---- whatever ends it


def test_stop_from_another_thread(ring, tmp_path) -> None:
    recorder = recording.Recorder(ring, tmp_path / "take.npy")
    thread = start(recorder)
    with ring.producer() as out:
        feed_seqs(out, ring, 3)
        wait_until(lambda: recorder.frames == 3)
        recorder.stop()
        thread.join()
    assert recorder.summary.ended == "stopped"
    check_seqs(recording.open_recording(tmp_path / "take.npy"), range(3))
    with pytest.raises(ValueError, match="has ended"):
        recorder.run()


@every_format
def test_keyboard_interrupt(make, tmp_path, suffix) -> None:
    """Ctrl-C: the file is finished, then the exception continues."""

    def interrupt(recorder: recording.Recorder) -> None:
        if recorder.frames == 3:
            raise KeyboardInterrupt

    ring = make()
    recorder = recording.Recorder(ring, tmp_path / f"take{suffix}", progress=interrupt)
    with ring.producer() as out:
        feed_seqs(out, ring, 3)
        with pytest.raises(KeyboardInterrupt):
            recorder.run()
    assert (recorder.summary.frames, recorder.summary.ended) == (3, "interrupted")
    with recording.open_recording(tmp_path / f"take{suffix}") as found:
        assert found.ended == "interrupted"
        check_seqs(found, range(3))
    assert ring.stats().consumers == ()


def test_producer_dies(make, peer, tmp_path) -> None:
    ring = make(slots=8)
    producer = peer(ring)
    producer.run(peers.open_producer, 5)
    producer.kill()
    summary = recording.record(ring, tmp_path / "take.npy")
    assert (summary.frames, summary.ended) == (5, "producer died")
    assert recording.open_recording(tmp_path / "take.npy").ended == "producer died"


def test_takeover(make, peer, tmp_path) -> None:
    """Told to wait, it continues with the next producer."""
    ring = make(slots=8)
    producer = peer(ring)
    recorder = recording.Recorder(ring, tmp_path / "take.npy", wait_for_takeover=True)
    thread = start(recorder)
    producer.run(peers.open_producer, 5)
    producer.kill()
    with ring.producer() as out:
        feed(out, 4)
    thread.join()
    assert (recorder.summary.frames, recorder.summary.ended) == (9, "producer closed")
    assert recording.open_recording(tmp_path / "take.npy").seqs.tolist() == list(range(9))


def test_ring_replaced(make, peer, monkeypatch, tmp_path) -> None:
    """Its producer died and another ring took its name: no wait forever, and no mix of two rings."""
    from shmring.recording import _recorder

    monkeypatch.setattr(_recorder, "IDENTITY_EVERY", 0)
    ring = make()
    producer = peer(ring)
    producer.run(peers.open_producer, 3)
    recorder = recording.Recorder(ring, tmp_path / "take.npy", wait_for_takeover=True)
    producer.kill()
    ring.unlink()
    make(ring.name)
    with pytest.raises(shmring.RingNotFound, match="another ring took its name; 3 frames recorded into"):
        recorder.run()
    assert recorder.summary.ended == "ring replaced"
    assert len(recording.open_recording(tmp_path / "take.npy")) == 3


# ---- killed

STEPS = ("pwrite", "pwritev", "ftruncate")


@pytest.mark.parametrize("shape", [(16,), (5000,)], ids=["small", "large"])
@pytest.mark.parametrize("variable_rows", [False, True], ids=["whole", "rows"])
def test_killed_at_every_step(make, monkeypatch, tmp_path, shape, variable_rows) -> None:
    """kill -9 before each call that changes a file: np.load reads it, and what it reads was published."""
    from shmring.recording.formats import _npy

    monkeypatch.setattr(_npy, "HEADER_EVERY", 0)
    ring = make(shape=shape, dtype="u1", slots=64, variable_rows=variable_rows)
    with ring.producer() as out:
        feed_seqs(out, ring, 12)
    (take := tmp_path / "take").mkdir()
    recorder = recording.Recorder(ring, take / "take.npy")
    recorder._batch = 3
    with copied_before_each([(os, name) for name in STEPS], take, tmp_path / "copies") as copies:
        recorder.run()
    assert len(copies) > 14
    most = 0
    for path in (copy / "take.npy" for copy in copies):
        frames, index = np.load(path, mmap_mode="r"), np.load(path.with_suffix(".index.npy"))
        assert len(frames) <= 12
        assert (frames == np.arange(len(frames), dtype="u1")[:, np.newaxis]).all()
        assert index["seq"].tolist() == list(range(len(index)))
        found = recording.open_recording(path)
        assert len(found) >= min(len(frames), len(index)), "np.load shows more than there is"
        assert len(found) >= most - 3, "more is gone than what was being written"
        check_seqs(found, range(len(found)))
        assert found.ended is None or len(found) == 12
        most = max(most, len(found))
        gained = recording.repair(path)
        assert gained == len(found) - min(len(frames), len(index))
        assert len(np.load(path)) == len(np.load(path.with_suffix(".index.npy"))) == len(found)
    assert most == 12


def test_killed_while_recording(make, peer, tmp_path) -> None:
    """A process killed in the middle of a stream: the frames before are there, the producer continues."""
    ring = make(slots=8)
    path, other = tmp_path / "take.npy", peer()
    with ring.producer() as out:
        other.begin(recordings.record, ring.name, path)
        out.wait_for_consumers(1, timeout=PATIENCE)
        feed(out, 300)
        other.kill()
        feed(out, 20)
    assert 300 - ring.slots <= len(np.load(path.with_suffix(".index.npy"))) + 300
    found = recording.open_recording(path)
    assert found.ended is None
    assert 300 - ring.slots <= len(found) <= 300
    for seq, frame in enumerate(found.array):
        assert np.array_equal(frame, payload(seq))


@pytest.mark.parametrize("suffix", [".zarr", ".h5"], indirect=True)
def test_libraries_formats_after_a_kill(make, peer, tmp_path, suffix) -> None:
    """Zarr and HDF5: what was flushed before the kill is readable."""
    ring = make(slots=8)
    path, other = tmp_path / f"take{suffix}", peer()
    other.run(recordings.flush_each_frame)
    with ring.producer() as out:
        other.begin(recordings.record, ring.name, path)
        out.wait_for_consumers(1, timeout=PATIENCE)
        feed(out, 60)
        wait_until(lambda: all(one.lag == 0 for one in ring.stats().consumers))
        other.kill()
    with recording.open_recording(path) as found:
        assert found.ended is None
        assert 60 - ring.slots <= len(found) <= 60
        for seq, frame in enumerate(np.asarray(found.array)):
            assert np.array_equal(frame, payload(seq))


@pytest.mark.parametrize("suffix", [".zarr", ".h5"], indirect=True)
def test_room_that_was_made_but_not_filled(make, tmp_path, suffix) -> None:
    """A recorder killed between making room for rows and writing them: those rows do not count."""
    ring, path = make(), tmp_path / f"take{suffix}"
    with ring.producer() as out:
        feed_seqs(out, ring, 3)
    recording.record(ring, path)
    if suffix == ".zarr":
        group = pytest.importorskip("zarr").open_group(path, mode="r+")
    else:
        group = pytest.importorskip("h5py").File(path, "r+")
    for name in ("frames", "seq", "timestamp_ns", "lost_before"):
        group[name].resize((5, *group[name].shape[1:]))
    if suffix == ".h5":
        group.close()
    with recording.open_recording(path) as found:
        check_seqs(found, range(3))
    more = make()
    with more.producer() as out:
        feed_seqs(out, more, 2)
    recording.record(more, path, mode="a")
    with recording.open_recording(path) as found:
        check_seqs(found, [0, 1, 2, 0, 1])


# ---- a full disk


@pytest.mark.parametrize("shape", [(16,), (100, 100), (64, 64)], ids=["small", "apart", "adjacent"])
@pytest.mark.parametrize("variable_rows", [False, True], ids=["whole", "rows"])
@pytest.mark.parametrize("room", [0, "three frames without index", 25_000, 61_000])
def test_disk_full(make, monkeypatch, tmp_path, shape, variable_rows, room) -> None:
    """ENOSPC after so many bytes, in the middle of a frame too: whole frames before, a clear error."""
    ring = make(shape=shape, dtype="u1", slots=64, variable_rows=variable_rows)
    with ring.producer() as out:
        feed_seqs(out, ring, 20)
    recorder = recording.Recorder(ring, tmp_path / "take.npy")
    recorder._batch = 3
    room = room if isinstance(room, int) else 3 * ring.frame_nbytes + 8
    limit_growth(monkeypatch, room)
    row = ring.frame_nbytes + recorder._index._dtype.itemsize
    if room >= 20 * row:
        assert recorder.run().frames == 20
    else:
        with pytest.raises(recording.RecordingFailed, match=r"the disk is full: .* readable in") as caught:
            recorder.run()
        assert isinstance(caught.value, OSError)
        assert caught.value.summary == recorder.summary
        assert recorder.summary.ended == "write failed"
    monkeypatch.undo()
    found = recording.open_recording(tmp_path / "take.npy")
    assert len(found) == len(np.load(tmp_path / "take.npy")) == recorder.summary.frames
    assert (tmp_path / "take.npy").stat().st_size == 4096 + len(found) * ring.frame_nbytes
    assert len(found) >= min(20, room // row) - (3 if room == 3 * ring.frame_nbytes + 8 else 1)
    assert found.ended == recorder.summary.ended
    check_seqs(found, range(len(found)))


def limit_growth(monkeypatch, room: int) -> None:
    """Let files grow by `room` bytes in all, then say that the disk is full."""
    left = room
    write = os.pwrite

    def grow(fd, data, offset):
        nonlocal left
        data = memoryview(data).cast("B")
        growth = max(0, offset + len(data) - os.fstat(fd).st_size)
        if growth and left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        short = max(0, growth - left)
        left -= growth - short
        return write(fd, data[: len(data) - short], offset)

    def shrink(fd, size):
        nonlocal left
        left += max(0, os.fstat(fd).st_size - size)
        truncate(fd, size)

    truncate = os.ftruncate
    monkeypatch.setattr(os, "ftruncate", shrink)
    monkeypatch.setattr(os, "pwrite", grow)
    monkeypatch.setattr(os, "pwritev", lambda fd, parts, offset: grow(fd, b"".join(parts), offset))


def test_file_size_limit(make, fork, tmp_path) -> None:
    """The kernel's own refusal (here the limit of a process) is reported as it is."""
    ring = make(slots=64)
    with ring.producer() as out:
        feed(out, 40)

    def work(send) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            recording.record(ring, tmp_path / "take.npy")
        except recording.RecordingFailed as error:
            send([str(error), error.summary.frames])

    message, frames = fork(work).receive()
    assert message.startswith("File too large: ")
    assert frames == (100_000 - 4096) // ring.frame_nbytes == len(np.load(tmp_path / "take.npy"))


@every_format
def test_a_really_full_disk(make, tmp_path, suffix) -> None:
    """A small file system of its own, where that is allowed."""
    where = tmp_path / "small"
    where.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", where], capture_output=True
    ).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        ring = make(shape=(1 << 18,), dtype="u1", slots=8)
        path = where / f"take{suffix}"
        recorder = recording.Recorder(ring, path)
        failures: list[BaseException] = []

        def fail() -> None:
            try:
                recorder.run()
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=fail)
        with ring.producer(on_full="drop") as out:
            thread.start()
            while thread.is_alive():
                out.put(np.full(ring.shape, out.next_seq & 0xFF, "u1"))
        thread.join()
        assert isinstance(failures[0], recording.RecordingFailed)
        assert "the disk is full" in str(failures[0])
        with recording.open_recording(path) as found:
            assert len(found) == recorder.summary.frames >= 32
            assert (np.asarray(found.array)[:, 0] == found.seqs & np.uint64(0xFF)).all()
            assert found.ended == "write failed"
    finally:
        subprocess.run(["umount", "-l", where], check=True)


# ---- power failures, reading


def test_sync_comes_before_the_header(make, monkeypatch, tmp_path) -> None:
    """With `sync`, a header never counts a frame that the disk had not confirmed before."""
    ring = make(slots=16)
    events: list[tuple[str, int]] = []
    from shmring.recording.formats import _growing

    sync, write_header = _growing.GrowingNpy.sync, _growing.GrowingNpy.write_header

    def noted_sync(file) -> None:
        rows = file.rows
        sync(file)
        events.append((f"sync {file.path.name}", rows))

    def noted_header(file, rows: int) -> None:
        events.append((f"header {file.path.name}", rows))
        write_header(file, rows)

    monkeypatch.setattr(_growing.GrowingNpy, "sync", noted_sync)
    monkeypatch.setattr(_growing.GrowingNpy, "write_header", noted_header)
    recorder = recording.Recorder(ring, tmp_path / "take.npy", sync=1e-9)
    thread = start(recorder)
    with ring.producer() as out:
        for count in (5, 10, 15):
            feed(out, 5)
            wait_until(lambda count=count: ("header take.npy", count) in events)
    thread.join()
    synced = {"take.npy": 0, "take.index.npy": 0}
    for what, rows in events:
        kind, name = what.split()
        if kind == "sync":
            synced[name] = max(synced[name], rows)
        else:
            assert rows <= min(synced.values())
    assert len(np.load(tmp_path / "take.npy")) == 15
    assert events[-1][0].startswith("sync"), "the last header is on the disk, too"


@every_format
def test_reading_while_it_is_written(make, tmp_path, suffix) -> None:
    ring = make(slots=8)
    recorder = recording.Recorder(ring, tmp_path / f"take{suffix}")
    thread = start(recorder)
    with ring.producer() as out:
        feed_seqs(out, ring, 5)

        def five() -> bool:
            with recording.open_recording(tmp_path / f"take{suffix}") as found:
                check_seqs(found, range(len(found)))
                assert found.ended is None
                return len(found) == 5

        wait_until(five)  # the recorder waits, so what it has is in the file
        wait_until(lambda: recorder.written == 5)
        feed_seqs(out, ring, 3)
    thread.join()
    assert (recorder.written, recorder.frames) == (8, 8)


@every_format
def test_no_recording(tmp_path, suffix) -> None:
    path = tmp_path / f"take{suffix}"
    with pytest.raises(FileNotFoundError):
        recording.open_recording(path)
    if suffix == ".zarr":
        path.mkdir()
    else:
        path.write_bytes(b"nothing of the kind" * 10)
    with pytest.raises(recording.RecordingCorrupt):
        recording.open_recording(path)


@every_format
def test_damaged_recordings(make, tmp_path, suffix) -> None:
    """Each file cut in several places, or without its text: read as far as it goes, or RecordingCorrupt."""
    ring = make(shape=(50,), dtype="u2", slots=64)
    with ring.producer() as out:
        feed_seqs(out, ring, 40)
    whole = tmp_path / "whole"
    whole.mkdir()
    recording.record(ring, whole / f"take{suffix}")
    corrupt = 0
    for file in sorted(path for path in whole.rglob("*") if path.is_file()):
        original = file.read_bytes()
        cuts = [original[: len(original) * share // 4] for share in range(4)]
        for data in (*cuts, b"{" + original[1:], original.replace(b'"', b"'")):
            file.write_bytes(data)
            try:
                with recording.open_recording(whole / f"take{suffix}") as found:
                    assert len(np.asarray(found.array[:])) == len(found.seqs)
            except recording.RecordingCorrupt:
                corrupt += 1
        file.write_bytes(original)
    assert corrupt > 5 if suffix != ".h5" else corrupt >= 4


def test_a_closed_recording(make, tmp_path) -> None:
    suffix = recordings.need(".h5")
    ring = make(shape=(3,), dtype="u1")
    with ring.producer() as out:
        feed_seqs(out, ring, 2)
    recording.record(ring, tmp_path / f"take{suffix}")
    found = recording.open_recording(tmp_path / f"take{suffix}")
    found.close()
    with pytest.raises(ValueError, match="was closed"):
        found.array[0]


def test_parts_of_different_recordings(make, tmp_path) -> None:
    for name, shape in (("a", (3,)), ("b", (4,))):
        ring = make(shape=shape, dtype="u1")
        with ring.producer() as out:
            feed_seqs(out, ring, 2)
        recording.record(ring, tmp_path / f"{name}.npy")
    Path(tmp_path / "b.json").rename(tmp_path / "a.json")
    with pytest.raises(recording.RecordingCorrupt, match="do not belong together"):
        recording.open_recording(tmp_path / "a.npy")
    (tmp_path / "a.json").write_text('{"format": "something else"}')
    with pytest.raises(recording.RecordingCorrupt, match="does not describe a recording"):
        recording.open_recording(tmp_path / "a.npy")
    (tmp_path / "a.json").unlink()
    with pytest.raises(recording.RecordingCorrupt, match=r"there is no a\.json beside it"):
        recording.open_recording(tmp_path / "a.npy")
