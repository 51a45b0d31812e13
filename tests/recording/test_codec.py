"""Compressed recordings: the same frames, whatever ends the recorder, and readable by other programs."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import pathlib
import sys
import threading
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import shmring
from shmring import recording
from support.frames import feed, payload
from support.interrupts import interrupted
from support.recordings import copied_before_each
from support.threads import Running
from support.waiting import PATIENCE, wait_until

zarr = pytest.importorskip("zarr")
h5py = pytest.importorskip("h5py")

from shmring.recording import _series  # noqa: E402
from shmring.recording.formats import _codec, _columns, _hdf5, _hdf5_codec, _shards  # noqa: E402

pytestmark = pytest.mark.slow

CODECS = ["lz4", "zstd"]
META = np.dtype([("exposure", ">f4"), ("at", "M8[us]")])
KINDS = {
    "image": ("u2", (200, 300)),
    "large image": ("u1", (300, 400, 3)),
    "big-endian": (">u2", (3, 4)),
    "scalars": ("<f4", ()),
    "complex": ("c8", (1000,)),
    "structured": ([("a", ">i4"), ("b", "f4", (2,))], (4,)),
    "dates": ("M8[ns]", (7,)),
    "booleans": ("?", (65,)),
}


@pytest.fixture(params=[".zarr", ".h5"])
def suffix(request) -> str:
    if request.param == ".h5":
        pytest.importorskip("hdf5plugin")
    return request.param


@pytest.fixture
def small_chunks(monkeypatch) -> None:
    """Four frames of `payload` in a chunk, and two chunks in a shard."""
    nbytes = payload(0).nbytes
    monkeypatch.setattr(_codec, "ALONE", nbytes + 1)
    monkeypatch.setattr(_codec, "CHUNK", 4 * nbytes)
    monkeypatch.setattr(_shards, "MOST", 2)


def some_frames(dtype, shape: tuple[int, ...], count: int) -> np.ndarray:
    """Frames that differ, and can be compressed."""
    random = np.random.default_rng(1)
    octets = random.poisson(2, (count, math.prod(shape) * np.dtype(dtype).itemsize)).astype("u1")
    octets = octets % 2 if np.dtype(dtype) == bool else octets
    return octets.view(dtype).reshape(count, *shape)


def record(ring: shmring.Ring, path: Path, frames: np.ndarray, metas=None, **options) -> recording.Summary:
    """Record frames while they are published; with variable_rows, only the first few rows of most."""
    recorder = recording.Recorder(ring, path, **options)
    thread = threading.Thread(target=recorder.run)
    thread.start()
    with ring.producer() as out:
        for number, frame in enumerate(frames):
            shown = frame[: rows_of(ring, number)] if ring.variable_rows else frame
            out.put(shown, meta=None if metas is None else metas[number], timeout=PATIENCE)
    thread.join()
    assert recorder.summary is not None
    return recorder.summary


def rows_of(ring: shmring.Ring, number: int) -> int:
    return 1 + number % ring.shape[0]


def check(path: Path, frames: np.ndarray) -> None:
    with recording.open_recording(path) as found:
        assert np.asarray(found.array).tobytes() == frames.tobytes()
        assert found.array[len(frames) - 1].tobytes() == frames[-1].tobytes()


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())


# ---- what was published is what is read


WHOLE = [(kind, False) for kind in KINDS]
ROWS = [(kind, True) for kind in ("image", "structured")]


@pytest.mark.parametrize(
    ("kind", "variable_rows"),
    [pytest.param(*case, id=f"{case[0]}{', rows' * case[1]}") for case in WHOLE + ROWS],
)
def test_round_trip(make, tmp_path, suffix, kind, variable_rows) -> None:
    dtype, shape = KINDS[kind]
    codec = "zstd" if "large" in kind else "lz4"
    ring = make(shape=shape, dtype=dtype, slots=8, meta=META, variable_rows=variable_rows)
    frames = some_frames(dtype, shape, 50)
    metas = np.zeros(50, META)
    metas["exposure"], metas["at"] = np.arange(50) / 3, np.arange(50)
    path = tmp_path / f"take{suffix}"
    assert record(ring, path, frames, metas, codec=codec).frames == 50
    if variable_rows:
        for number, frame in enumerate(frames):
            frame[rows_of(ring, number) :] = np.zeros((), dtype)
    check(path, frames)
    with recording.open_recording(path) as found:
        assert found.metas.tolist() == metas.tolist()
        assert found.seqs.tolist() == list(range(50))
        assert found.ended == "producer closed"
    if kind == "large image":
        assert size(path) < frames.nbytes / 2


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("alone", [False, True], ids=["in chunks", "alone"])
def test_other_programs_read_it(make, tmp_path, monkeypatch, suffix, codec, alone) -> None:
    """zarr-python and h5py, without shmring."""
    monkeypatch.setattr(_codec, "ALONE", 1 if alone else 1 << 20)
    ring, path = make(shape=(40, 50), dtype="i2", slots=8), tmp_path / f"take{suffix}"
    frames = some_frames("i2", (40, 50), 21)
    record(ring, path, frames, codec=codec)
    with contextlib.ExitStack() as stack:
        group = stack.enter_context(h5py.File(path)) if suffix == ".h5" else zarr.open_group(path, mode="r")
        assert np.array_equal(group["frames"][:], frames)
        assert np.array_equal(group["frames"][7], frames[7])
        assert group["seq"][:].tolist() == list(range(21))
        if suffix == ".h5":
            assert group["frames"].id.get_create_plist().get_filter(0)[0] == 32008, "bitshuffle's number"
            chunks = [group["frames"].id.get_chunk_info(n).filter_mask for n in range(21 if alone else 1)]
            assert not any(chunks), "all of them are compressed"


@pytest.mark.parametrize("codec", CODECS)
def test_chunks_are_those_of_the_library(make, tmp_path, codec) -> None:
    """HDF5's own filter makes the same ones."""
    hdf5plugin = pytest.importorskip("hdf5plugin")
    frames = some_frames("u2", (301, 303), 3)  # no multiple of a block
    ring, path = make(shape=(301, 303), dtype="u2", slots=8), tmp_path / "take.h5"
    record(ring, path, frames, codec=codec)
    settings = hdf5plugin.Bitshuffle(**({"cname": "zstd", "clevel": 1} if codec == "zstd" else {}))
    with h5py.File(path) as file, h5py.File(tmp_path / "other.h5", "w") as other:
        there = other.create_dataset("frames", data=frames, chunks=(1, 301, 303), **settings)
        for number in range(3):
            start = (number, 0, 0)
            assert file["frames"].id.read_direct_chunk(start) == there.id.read_direct_chunk(start)


def test_a_numcodecs_that_hides_its_functions(make, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(_shards, "_blosc", lambda: None)
    ring, path = make(slots=8), tmp_path / "take.zarr"
    frames = some_frames(ring.dtype, ring.shape, 6)
    record(ring, path, frames, codec="zstd")
    check(path, frames)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("codec", CODECS)
def test_append(make, tmp_path, suffix, codec) -> None:
    """In the middle of a chunk, and of a shard, again and again; the file keeps its codec."""
    path, all_frames = tmp_path / f"take{suffix}", []
    for count in (1, 2, 3, 9, 30):
        ring = make(slots=8)
        frames = some_frames(ring.dtype, ring.shape, count)
        record(ring, path, frames, mode="a", **({} if all_frames else {"codec": codec}))
        all_frames.append(frames)
        check(path, np.concatenate(all_frames))
    assert len(recording.open_recording(path).parts) == 5


def test_another_codec_than_the_files(make, tmp_path, suffix) -> None:
    ring = make()
    record(ring, tmp_path / f"plain{suffix}", some_frames(ring.dtype, ring.shape, 2))
    with pytest.raises(ValueError, match="was begun with codec=None, and codec='lz4' was asked for"):
        recording.Recorder(ring, tmp_path / f"plain{suffix}", mode="a", codec="lz4")
    other = make()
    record(other, tmp_path / f"packed{suffix}", some_frames(ring.dtype, ring.shape, 2), codec="lz4")
    with pytest.raises(ValueError, match="was begun with codec='lz4', and codec='zstd' was asked for"):
        recording.Recorder(other, tmp_path / f"packed{suffix}", mode="a", codec="zstd")


def test_rolling(make, tmp_path, suffix) -> None:
    ring, path = make(slots=8), tmp_path / f"take{suffix}"
    frames = some_frames(ring.dtype, ring.shape, 25)
    record(ring, path, frames, roll=recording.Roll(frames=7), codec="lz4")
    found = [np.asarray(recording.open_recording(piece).array) for piece in recording.pieces(path)]
    assert [len(piece) for piece in found] == [7, 7, 7, 4]
    assert np.concatenate(found).tobytes() == frames.tobytes()


def test_replay(make, tmp_path, suffix) -> None:
    ring, path = make(slots=64), tmp_path / f"take{suffix}"
    frames = some_frames(ring.dtype, ring.shape, 30)
    record(ring, path, frames, codec="zstd")
    again = make(slots=64)
    with again.consumer() as consumer:
        assert recording.replay(path, again, pace=None) == 30
        assert (
            np.concatenate([consumer.get().array[np.newaxis] for _ in range(30)]).tobytes()
            == frames.tobytes()
        )


# ---- wrong usage


def test_what_has_no_codec(make, tmp_path) -> None:
    ring = make()
    with pytest.raises(ValueError, match=r"codec is for \.zarr, \.h5 and \.hdf5 files"):
        recording.record(ring, tmp_path / "take.npy", codec="lz4")
    with pytest.raises(ValueError, match='codec must be "lz4" or "zstd", not \'gzip\''):
        recording.record(ring, tmp_path / "take.zarr", codec="gzip")
    assert not list(tmp_path.iterdir())


def test_without_hdf5plugin(make, tmp_path, monkeypatch) -> None:
    """What to install, before anything is made; and for a reader, too."""
    ring, path = make(), tmp_path / "take.h5"
    pytest.importorskip("hdf5plugin")
    record(ring, path, some_frames(ring.dtype, ring.shape, 2), codec="lz4")
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    wanted = r'compressed HDF5 files need hdf5plugin: pip install "shmring\[codecs\]"'
    with pytest.raises(ImportError, match=wanted):
        recording.open_recording(path)
    with pytest.raises(ImportError, match=wanted):
        recording.record(ring, tmp_path / "other.h5", codec="lz4")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("has_file", [False, True], ids=["no library", "no functions"])
def test_an_hdf5plugin_that_hides_its_functions(make, tmp_path, monkeypatch, has_file) -> None:
    """What to do, before anything is made; what was recorded can still be read."""
    hdf5plugin = pytest.importorskip("hdf5plugin")
    ring, path, plugins = make(), tmp_path / "take.h5", tmp_path / "plugins"
    record(ring, path, frames := some_frames(ring.dtype, ring.shape, 2), codec="lz4")
    plugins.mkdir()
    if has_file:
        (plugins / "libh5bshuf.so").symlink_to(Path(hdf5plugin.PLUGIN_PATH) / "libh5lz4.so")
    monkeypatch.setattr(hdf5plugin, "PLUGIN_PATH", str(plugins))
    _hdf5_codec.bitshuffle.cache_clear()  # an error is not cached
    with pytest.raises(ImportError, match=r"does not show bitshuffle's functions.* or record to \.zarr"):
        recording.record(ring, tmp_path / "other.h5", codec="lz4")
    assert not (tmp_path / "other.h5").exists()
    check(path, frames)


def test_frames_that_are_too_large(tmp_path, monkeypatch, make, suffix) -> None:
    from shmring.recording import _destination

    monkeypatch.setattr(_destination, "LARGEST", 100)
    with pytest.raises(ValueError, match=r"are too large for codec='zstd': record them without one"):
        recording.Recorder(make(), tmp_path / f"take{suffix}", codec="zstd")


# ---- whatever ends it


def flush_each_batch(here) -> None:
    _columns.FLUSH_EVERY = 0


def record_in_peer(here, name: str, path: str) -> None:
    recording.record(name, path, codec="lz4")


@pytest.mark.parametrize("parts", [False, True], ids=["at full speed", "each batch at once"])
def test_killed_while_recording(make, peer, tmp_path, suffix, parts) -> None:
    """kill -9: all but the last second is readable, can be continued, and repaired."""
    ring, path, other = make(slots=8), tmp_path / f"take{suffix}", peer()
    count = 60 if parts else 200
    if parts:
        other.run(flush_each_batch)
    with ring.producer() as out:
        other.begin(record_in_peer, ring.name, str(path))
        out.wait_for_consumers(1, timeout=PATIENCE)
        feed(out, count)
        wait_until(lambda: all(one.lag == 0 for one in ring.stats().consumers))
        other.kill()
    with recording.open_recording(path) as found:
        assert found.ended is None
        assert len(found) <= count
        if parts:
            assert len(found) >= count - ring.slots
        kept = len(found)
        for seq, frame in enumerate(np.asarray(found.array)):
            assert np.array_equal(frame, payload(seq))
    recording.repair(path)
    more = make(slots=8)
    record(more, path, some_frames(more.dtype, more.shape, 6), mode="a")
    with recording.open_recording(path) as found:
        assert len(found) == kept + 6


def calls_of(suffix: str) -> list[tuple[object, str]]:
    """What changes a file."""
    if suffix == ".zarr":
        return [(os, "pwrite"), (pathlib.Path, "rename"), (pathlib.Path, "replace")]
    return [(os, "pwrite"), (_hdf5_codec.ChunkWriter, "_write"), (h5py.Dataset, "flush")]


@pytest.mark.parametrize("stride", [3, pytest.param(1, marks=pytest.mark.stress)])
@pytest.mark.usefixtures("small_chunks")
def test_killed_at_every_step(make, monkeypatch, tmp_path, suffix, stride) -> None:
    """Before each call that changes a file: whole frames, never fewer than before, and appendable."""
    monkeypatch.setattr(_columns, "FLUSH_EVERY", 0)
    ring = make(slots=64)
    with ring.producer() as out:
        feed(out, 10)
    (take := tmp_path / "take").mkdir()
    recorder = recording.Recorder(ring, take / f"take{suffix}", codec="lz4")
    recorder._batch = 3
    with copied_before_each(calls_of(suffix), take, tmp_path / "copies") as copies:
        recorder.run()
    assert len(copies) > 20
    most = 0
    for number, path in enumerate(copy / f"take{suffix}" for copy in copies[::-stride][::-1]):
        with recording.open_recording(path) as found:
            frames = np.asarray(found.array)
            assert found.seqs.tolist() == list(range(len(found)))
        for seq, frame in enumerate(frames):
            assert np.array_equal(frame, payload(seq))
        assert len(frames) >= most
        most = len(frames)
        if number % 6 == 0:
            more = make(slots=8)
            added = some_frames(more.dtype, more.shape, 5)
            record(more, path, added, mode="a")
            check(path, np.concatenate([frames, added]))
        elif number % 6 == 1:
            recording.repair(path)
            check(path, frames) if len(frames) else None
    assert most == 10


@pytest.mark.usefixtures("small_chunks")
def test_read_while_it_is_recorded(make, monkeypatch, tmp_path, suffix) -> None:
    """Chunks that grow, are full, and follow each other: a reader always finds whole frames."""
    monkeypatch.setattr(_columns, "FLUSH_EVERY", 0)
    ring, path = make(slots=8), tmp_path / f"take{suffix}"
    recorder = recording.Recorder(ring, path, codec="lz4")
    thread = threading.Thread(target=recorder.run)
    thread.start()
    found = -1
    with ring.producer() as out:
        for count in range(1, 30):
            feed(out, 1)
            with recording.open_recording(path) as reader:
                assert len(reader) >= found
                found = len(reader)
                for seq, frame in enumerate(np.asarray(reader.array)):
                    assert np.array_equal(frame, payload(seq))
            assert found <= count
    thread.join()
    with recording.open_recording(path) as reader:
        assert len(reader) == 29


@pytest.mark.usefixtures("small_chunks")
def test_parts_of_chunks_cost_no_space(make, monkeypatch, tmp_path, suffix) -> None:
    """A slow stream, whose chunks are written after each frame, makes no larger file than its frames are."""
    monkeypatch.setattr(_columns, "FLUSH_EVERY", 0)
    ring = make(shape=(4096,), dtype="u1", slots=32)
    monkeypatch.setattr(_codec, "CHUNK", 8 * 4096)
    frames = some_frames("u1", (4096,), 32)
    with ring.producer() as out:
        out.put_many(frames)
    path = tmp_path / f"take{suffix}"
    recorder = recording.Recorder(ring, path, codec="zstd")
    recorder._batch = 1
    recorder.run()
    check(path, frames)
    assert size(path) < 1.1 * frames.nbytes + 200_000


def test_a_codec_that_fails(make, monkeypatch, tmp_path, suffix) -> None:
    """The frames before are readable, and the error says so."""
    ring, path = make(shape=(300, 300), dtype="u1", slots=64), tmp_path / f"take{suffix}"
    store = _shards.ShardWriter if suffix == ".zarr" else _hdf5_codec.ChunkWriter
    encode, encoded = store.encode, []

    def failing(self, chunk):
        encoded.append(1)
        if len(encoded) > 20:
            raise RuntimeError("no more")
        return encode(self, chunk)

    monkeypatch.setattr(store, "encode", failing)
    frames = some_frames("u1", (300, 300), 40)
    with ring.producer() as out:
        out.put_many(frames)
    recorder = recording.Recorder(ring, path, codec="lz4")
    recorder._batch = 4
    with pytest.raises(recording.RecordingFailed, match="no more") as caught:
        recorder.run()
    kept = caught.value.summary.frames
    assert kept <= 20
    with recording.open_recording(path) as found:
        assert len(found) == kept
        assert np.asarray(found.array).tobytes() == frames[:kept].tobytes()
        assert found.ended == "write failed"


def interrupted_while_waiting(monkeypatch, times: int, released: threading.Event) -> None:
    """Press Ctrl-C in the first few waits for the threads that compress; after one, let the next wait end."""
    wait, pressed = _codec.wait, []

    def interrupted(tasks):
        if len(pressed) < times:
            pressed.append(1)
            raise KeyboardInterrupt
        if times == 1:
            released.set()
        return wait(tasks)

    monkeypatch.setattr(_codec, "wait", interrupted)


@pytest.fixture
def slow_store(monkeypatch, suffix) -> threading.Event:
    """Chunks behind the fifth one are compressed when the event is set."""
    store = _shards.ShardWriter if suffix == ".zarr" else _hdf5_codec.ChunkWriter
    encode, released, begun = store.encode, threading.Event(), []

    def slow(self, chunk):
        begun.append(1)
        if len(begun) > 5:
            assert released.wait(PATIENCE)
        return encode(self, chunk)

    monkeypatch.setattr(store, "encode", slow)
    monkeypatch.setattr(_codec, "TASK", 1)
    monkeypatch.setattr(_codec, "threads", lambda: 1)
    return released


@pytest.mark.parametrize("times", [1, 2, 3])
def test_ctrl_c_while_chunks_are_compressed(make, monkeypatch, tmp_path, suffix, slow_store, times) -> None:
    """Again and again: what is recorded never comes from slots that were given back."""
    ring, path = make(shape=(300, 300), dtype="u1", slots=16), tmp_path / f"take{suffix}"
    frames = some_frames("u1", (300, 300), 8)
    with ring.producer() as out:
        out.put_many(frames)
        recorder = recording.Recorder(ring, path, codec="lz4")
        recorder._batch, recorder._most_held = 8, 0
        close = recorder._files.close

        def reuse_slots(*why) -> None:
            out.put_many(np.full((8, 300, 300), 255, "u1"))
            slow_store.set()
            close(*why)

        monkeypatch.setattr(recorder._files, "close", reuse_slots)
        interrupted_while_waiting(monkeypatch, times, slow_store)
        with pytest.raises(KeyboardInterrupt):
            recorder.run()
        assert len(ring.stats().consumers) == 0
        out.put_many(np.full((16, 300, 300), 255, "u1"))
    check_interrupted(path, frames, recorder.summary.frames)
    assert times == 3 or recorder.summary.frames == 8


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_while_a_capture_is_compressed(make, monkeypatch, tmp_path, suffix, slow_store, times) -> None:
    """Likewise."""
    ring, path = make(shape=(300, 300), dtype="u1", slots=16), tmp_path / f"take{suffix}"
    frames = some_frames("u1", (300, 300), 8)
    with ring.producer() as out:
        capture = recording.Capture(ring, path, before=8, codec="lz4")
        out.put_many(frames)
        capture.trigger()
        close = _series.FileSeries.close

        def reuse_slots(self, *why) -> None:
            out.put_many(np.full((16, 300, 300), 255, "u1"))
            slow_store.set()
            close(self, *why)

        with monkeypatch.context() as patch:
            patch.setattr(_series.FileSeries, "close", reuse_slots)
            interrupted_while_waiting(patch, times, slow_store)
            with pytest.raises(KeyboardInterrupt):
                capture.run()
        out.put_many(np.full((16, 300, 300), 255, "u1"))
    check_interrupted(path, frames, 8 if times == 1 else None)


def check_interrupted(path: Path, frames: np.ndarray, kept: int | None) -> None:
    with recording.open_recording(path) as found:
        assert kept in (len(found), None)
        assert np.asarray(found.array).tobytes() == frames[: len(found)].tobytes()


def test_a_full_disk(make, monkeypatch, tmp_path, suffix) -> None:
    ring, path = make(shape=(300, 300), dtype="u1", slots=64), tmp_path / f"take{suffix}"
    frames = some_frames("u1", (300, 300), 40)
    with ring.producer() as out:
        out.put_many(frames)
    recorder = recording.Recorder(ring, path, codec="lz4")
    recorder._batch = 4
    store = _shards.ShardWriter if suffix == ".zarr" else _hdf5_codec.ChunkWriter
    put = store.put

    def refuse(self, number, encoded):
        if number == 17:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        put(self, number, encoded)

    monkeypatch.setattr(store, "put", refuse)
    with pytest.raises(recording.RecordingFailed, match=r"the disk is full: .* readable in") as caught:
        recorder.run()
    kept = caught.value.summary.frames
    with recording.open_recording(path) as found:
        assert len(found) == kept <= 17
        assert np.asarray(found.array).tobytes() == frames[:kept].tobytes()


def test_no_space_for_more(make, monkeypatch, tmp_path, suffix) -> None:
    """All frames before are kept, those too whose index rows were to be written later."""
    ring, path = make(shape=(300, 300), dtype="u1", slots=64), tmp_path / f"take{suffix}"
    frames = some_frames("u1", (300, 300), 40)
    with ring.producer() as out:
        out.put_many(frames)
    recorder = recording.Recorder(ring, path, codec="lz4")
    recorder._batch, batches = 4, []

    def refuse(self, needed):
        batches.append(1)
        if len(batches) > 5:
            raise _hdf5._NoSpace(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(type(recorder._files._writer), "_check_space", refuse)
    monkeypatch.setattr(_columns, "INDEX_EVERY", math.inf)
    with pytest.raises(recording.RecordingFailed, match=r"the disk is full: .* readable in") as caught:
        recorder.run()
    assert caught.value.summary.frames == 20
    with recording.open_recording(path) as found:
        assert found.seqs.tolist() == list(range(20))
        assert np.asarray(found.array).tobytes() == frames[:20].tobytes()


# ---- threads and memory


def test_one_wait_for_each_batch(make, monkeypatch, tmp_path, suffix) -> None:
    """Each time the recorder wakes up, it interrupts a thread that compresses."""
    ring = make(shape=(300, 300), dtype="u1", slots=64)
    frames = some_frames("u1", (300, 300), 40)
    wait, awaited = _codec.wait, []

    def counted(tasks):
        tasks = list(tasks)
        awaited.append(len(tasks))
        return wait(tasks)

    monkeypatch.setattr(_codec, "wait", counted)
    monkeypatch.setattr(_codec, "TASK", 1)
    with ring.producer() as out:
        out.put_many(frames)
    recorder = recording.Recorder(ring, tmp_path / f"take{suffix}", codec="lz4")
    recorder._batch, recorder._most_held = 8, 0
    recorder.run()
    assert recorder.summary.frames == 40
    assert len(awaited) <= 40 // 8 + 3  # three at the end
    check(tmp_path / f"take{suffix}", frames)


def test_memory_is_bounded(make, tmp_path, suffix) -> None:
    """Of frames that cannot be compressed, memory has those of two batches at most, not the recording's."""
    ring, path = make(shape=(1 << 18,), dtype="u1", slots=16), tmp_path / f"take{suffix}"
    frames = np.random.default_rng(1).integers(0, 255, (16, 1 << 18), "u1")
    recorder = recording.Recorder(ring, path, codec="lz4")
    assert recorder._batch <= ring.slots // 2
    thread = threading.Thread(target=recorder.run)
    tracemalloc.start()
    try:
        thread.start()
        with ring.producer() as out:
            for _ in range(12):
                out.put_many(frames, timeout=PATIENCE)
        thread.join()
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert recorder.summary.frames == 192
    assert most < 3 * recorder._batch * ring.frame_nbytes + (4 << 20)


def test_a_thread_compresses_in_the_same_memory_again(make, tmp_path, suffix) -> None:
    """Each in its own: what is written stays as it is until this thread's next chunk."""
    ring = make(shape=(1 << 18,), dtype="u1", slots=4)
    recorder = recording.Recorder(ring, tmp_path / f"take{suffix}", codec="lz4")
    encode = recorder._files._writer._compressed._store.encode
    chunks = np.random.default_rng(1).integers(0, 255, (3, 1, 1 << 18), "u1")
    first, again = encode(chunks[0]), encode(chunks[1])
    assert np.shares_memory(first, again)
    kept, others = again.tobytes(), []
    thread = threading.Thread(target=lambda: others.append(encode(chunks[2])))
    thread.start()
    thread.join()
    assert not np.shares_memory(again, others[0])
    assert again.tobytes() == kept
    with ring.producer() as out:
        out.close()
        recorder.run()


def test_threads_end(make, tmp_path, suffix) -> None:
    before = set(threading.enumerate())
    ring = make(slots=8)
    record(ring, tmp_path / f"take{suffix}", some_frames(ring.dtype, ring.shape, 40), codec="lz4")
    left = [thread.name for thread in set(threading.enumerate()) - before]
    assert not [name for name in left if "compress" in name]


def test_captures(make, tmp_path, suffix) -> None:
    ring, path = make(shape=(300, 300), dtype="u1", slots=32), tmp_path / f"take{suffix}"
    frames = some_frames("u1", (300, 300), 20)
    with ring.producer() as out:
        capture = recording.Capture(ring, path, before=8, after=2, codec="zstd")
        out.put_many(frames[:10])
        capture.trigger()
        out.put_many(frames[10:])
        (summary,) = capture.run()
    assert summary.frames == 10
    check(path, frames[2:12])
    assert size(path) < frames[2:12].nbytes


@pytest.mark.parametrize("slots", [2, 3, 8])
def test_a_lossy_recorder(make, tmp_path, monkeypatch, suffix, slots) -> None:
    """It holds no more slots than a lossy consumer may, and what it has is whole."""
    ring, path = make(shape=(100, 100), dtype="u1", slots=slots), tmp_path / f"take{suffix}"
    others = [ring.consumer(lossless=False) for _ in range(2)]
    recorder = recording.Recorder(ring, path, codec="zstd", lossless=False)
    thread = threading.Thread(target=recorder.run)
    thread.start()
    with ring.producer() as out:
        for number in range(60):
            out.put(np.full(ring.shape, number, "u1"))
            if number % 8 == 0:
                wait_until(lambda: recorder.lag <= slots)
    thread.join()
    for other in others:
        other.close()
    with recording.open_recording(path) as found:
        assert len(found) + found.lost == 60
        for seq, frame in zip(found.seqs.tolist(), np.asarray(found.array), strict=True):
            assert (frame == seq).all()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of Ctrl-C in a generator
def test_a_shard_takes_chunks_of_other_threads_after_ctrl_c(tmp_path) -> None:
    dataset = SimpleNamespace(ndim=1, shards=(8,), chunks=(1,))
    store = _shards.ShardWriter(dataset, tmp_path, "lz4")
    store.put(0, b"first")
    for call in (
        lambda: store.put(1, b"more"),
        lambda: store.put_part(2, np.zeros(4, "u1")),
        lambda: store.flush(0),
    ):
        for _ in interrupted(call):
            assert Running(lambda: store.put(3, b"another")).end().error is None
    store.close()
