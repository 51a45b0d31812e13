"""Recordings in HDF5: what readers, kills and full disks do to them, and who can read them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from shmring import recording
from shmring._format import FrameFormat
from support import peers, recordings
from support.frames import WORDS, feed, payload
from support.processes import PeerError
from support.waiting import wait_until

h5py = pytest.importorskip("h5py")

from shmring.recording.formats import _columns, _hdf5, _superblock  # noqa: E402
from shmring.recording.formats._description import Description  # noqa: E402
from shmring.recording.formats._frames import as_items  # noqa: E402

pytestmark = pytest.mark.slow


def open_with_swmr(path):
    return h5py.File(path, "r", swmr=True, locking=False)


READERS = {"h5py with swmr": open_with_swmr, "open_recording": recording.open_recording}
DTYPE = np.dtype("u8")
SHAPE = (WORDS,)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "take.h5"


@pytest.fixture
def each_frame_at_once(monkeypatch) -> None:
    """What a recorder has is in the file."""
    monkeypatch.setattr(_columns, "FLUSH_EVERY", 0)


def check(path: Path, count: int, ended: str | None) -> None:
    """All frames, as they were published, and the totals."""
    with recording.open_recording(path) as found:
        assert found.seqs.tolist() == list(range(count))
        for seq, frame in enumerate(np.asarray(found.array)):
            assert np.array_equal(frame, payload(seq))
        assert found.ended == ended


def check_readable_by_all(path: Path, count: int) -> None:
    """Plain h5py, and whatever HDF5 the tools are of, where they are installed."""
    check_readable_by_h5py(path, count)
    if shutil.which("h5dump"):
        shown = subprocess.run(["h5dump", "-d", "/seq", path], capture_output=True, text=True)
        assert shown.returncode == 0, shown.stderr
        assert f"SIMPLE {{ ( {count} )" in shown.stdout


def datasets(file) -> list[h5py.Dataset]:
    """All of a recording's own; beside them is what NeXus wants."""
    return [dataset for name, dataset in file.items() if name != "entry"]


def check_readable_by_h5py(path: Path, count: int) -> None:
    with h5py.File(path, "r") as file:
        assert {len(dataset) for dataset in datasets(file) if dataset.shape} == {count}
        if count:
            assert np.array_equal(file["frames"][-1], payload(int(file["seq"][-1])))


def description(dtype=DTYPE, shape=SHAPE, **attrs) -> Description:
    return Description("ring", FrameFormat(shape, np.dtype(dtype)), attrs)


def write(writer: _hdf5.Hdf5Writer, count: int) -> None:
    """More frames, all of them in the file."""
    first = writer.frames
    index = np.zeros(count, writer.description.index_dtype)
    index["seq"] = np.arange(first, first + count)
    writer.write(np.array([payload(seq) for seq in range(first, first + count)]), index)
    writer.flush()


def start(recorder: recording.Recorder) -> threading.Thread:
    thread = threading.Thread(target=recorder.run)
    thread.start()
    return thread


def wait_for_frames(path: Path, count: int) -> None:
    def are_there() -> bool:
        with recording.open_recording(path) as found:
            return len(found) == count

    wait_until(lambda: path.exists() and are_there())


# ---- readers


def open_reader(here, how, path):
    here.readers = {**getattr(here, "readers", {}), how: {"h5py": h5py.File, **READERS}[how](path)}


def frames_with_swmr(here) -> int:
    """How many are there now."""
    here.frames = here.readers["h5py with swmr"]["frames"]
    here.frames.refresh()
    return len(here.frames)


def frames_of_the_recording(here) -> int:
    return len(here.readers["open_recording"])


def keep_writing(here, path):
    here.writer = h5py.File(path, "r+")


def open_for_writing(here, path):
    _hdf5._open_for_writing(Path(path))


@pytest.mark.usefixtures("each_frame_at_once")
@pytest.mark.parametrize(
    ("rolls", "locking"),
    [
        (False, ""),
        (True, "TRUE"),
        *(
            pytest.param(*more, marks=pytest.mark.stress)
            for more in [(False, "TRUE"), (True, ""), (True, "FALSE")]
        ),
    ],
)
def test_readers_that_stay(make, peer, tmp_path, rolls, locking) -> None:
    """Opened while it is recorded, open when the recorder closes: it ends as if nobody had looked."""
    ring, recorder, other = make(slots=8), peer(), peer()
    path = tmp_path / ("take-0001.h5" if rolls else "take.h5")
    if locking:
        recorder.run(peers.set_environment, HDF5_USE_FILE_LOCKING=locking)
    recorder.run(recordings.flush_each_frame)
    with ring.producer() as out:
        recorder.begin(recordings.record, ring.name, tmp_path / "take.h5", roll_at=6 if rolls else None)
        feed(out, 5)
        wait_for_frames(path, 5)
        for reader in READERS:
            other.run(open_reader, reader, path)
        with pytest.raises(OSError, match="already open for write"):
            h5py.File(path, "r")
        feed(out, 2)
        wait_for_frames(path, 6 if rolls else 7)
        assert other.run(frames_with_swmr) == (6 if rolls else 7)
    assert recorder.answer() == 7
    recorder.leave()
    check(path, *((6, "rolled") if rolls else (7, "producer closed")))
    assert other.run(frames_of_the_recording) == 5
    other.leave()
    check_readable_by_all(path, 6 if rolls else 7)


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_in_the_same_process(path, reader) -> None:
    writer = _hdf5.Hdf5Writer(path, description(), append=False)
    write(writer, 5)
    with READERS[reader](path):
        write(writer, 2)
        writer.close("limit", 0)
        check(path, 7, "limit")
    check_readable_by_all(path, 7)


@pytest.mark.parametrize("reader", ["h5py", *READERS])
def test_append_while_somebody_reads(peer, path, reader) -> None:
    """Also in this process; and the earlier parts stay."""
    writer = _hdf5.Hdf5Writer(path, description(), append=False)
    write(writer, 5)
    writer.close("limit", 0)
    other = peer()
    other.run(open_reader, reader, path)
    with recording.open_recording(path) as found:
        for total in (7, 9):
            writer = _hdf5.Hdf5Writer(path, description(), append=True)
            write(writer, 2)
            writer.close("stopped", 0)
            check(path, total, "stopped")
        assert len(found.array[:]) == 5
    other.leave()
    check_readable_by_all(path, 9)


def test_append_to_what_others_keep(peer, path) -> None:
    """A program that writes it, a lock that one must not ignore, a handle in this process."""
    _hdf5.Hdf5Writer(path, description(), append=False).close("limit", 0)
    other = peer()
    other.run(keep_writing, path)
    before = path.read_bytes()
    with pytest.raises(BlockingIOError, match="open for writing: end that first"):
        _hdf5.Hdf5Writer(path, description(), append=True)
    assert path.read_bytes() == before
    other.leave()
    with h5py.File(path), pytest.raises(OSError, match="close it first"):
        _hdf5.Hdf5Writer(path, description(), append=True)
    strict = peer()
    strict.run(peers.set_environment, HDF5_USE_FILE_LOCKING="TRUE")
    reader = peer()
    reader.run(open_reader, "h5py", path)
    with pytest.raises(PeerError, match="HDF5_USE_FILE_LOCKING demands a lock"):
        strict.run(open_for_writing, path)
    check(path, 0, "limit")


def test_a_recording_open_at_exit(path) -> None:
    """HDF5 calls Python to read: it must be done with that before the interpreter ends."""
    writer = _hdf5.Hdf5Writer(path, description(), append=False)
    write(writer, 5)
    writer.close("limit", 0)
    code = (
        f"from shmring import recording\nfound = recording.open_recording({str(path)!r})\n"
        "array = recording.open_recording(found_path := found.array._path).array\nprint(len(array[:]))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "5\n", "")


# ---- kills

STEPS = {
    os: ["link", "pwrite", "ftruncate", "posix_fallocate"],
    h5py.File: ["__init__", "close"],
    h5py.Dataset: ["flush"],
}


def die_at(step: int) -> None:
    """Let this process be killed at the n-th call that does something to a file."""
    count = 0

    def dying(call):
        def counted(*arguments, **options):
            nonlocal count
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return counted

    for owner, names in STEPS.items():
        for name in names:
            setattr(owner, name, dying(getattr(owner, name)))


@pytest.mark.parametrize("stride", [11, pytest.param(1, marks=pytest.mark.stress)])
@pytest.mark.parametrize("begun", ["new", "finished", "killed"])
def test_killed_at_each_step(fork, tmp_path, begun, stride, monkeypatch) -> None:
    """Whenever its recorder dies: what was recorded is read, can be continued, and can be repaired."""
    base = tmp_path / "base.h5"
    monkeypatch.setattr(_columns, "CHUNK", 4 * 8 * WORDS)

    def begin(path: Path, die: bool) -> None:
        writer = _hdf5.Hdf5Writer(path, description(), append=path.exists())
        write(writer, 6)
        if die:
            os.kill(os.getpid(), signal.SIGKILL)
        writer.close("limit", 0)

    before = 0
    if begun != "new":
        fork(lambda send: begin(base, begun == "killed")).wait()
        before = 6
    most = before
    for step in range(1, 200, stride):
        path = tmp_path / f"{step}.h5"
        if begun != "new":
            shutil.copy(base, path)

        def work(send, path=path, step=step) -> None:
            die_at(step)
            begin(path, die=False)

        if fork(work).wait() == 0:
            break
        if not path.exists():
            assert begun == "new"
            continue
        with recording.open_recording(path) as found:
            count = len(found)
            assert found.seqs.tolist() == list(range(count))
            assert count >= most, "what was recorded once is gone"
            assert count in (before, before + 4 - before % 4, before + 6)
        most = count
        again = tmp_path / "again.h5"
        shutil.copy(path, again)
        begin(again, die=False)
        check(again, count + 6, "limit")
        again.unlink()
        assert _hdf5.repair(path) in (0, count)
        with recording.open_recording(path) as found:
            assert (len(found), found.ended) in ((count, "killed"), (count, "limit"))
        check_readable_by_h5py(path, count)
    assert stride > 1 or most == before + 6
    assert step > 15
    check_readable_by_all(path, before + 6)


def test_repair_of_what_needs_none(path) -> None:
    _hdf5.Hdf5Writer(path, description(), append=False).close("limit", 3)
    before = path.read_bytes()
    assert _hdf5.repair(path) == 0
    assert path.read_bytes() == before


# ---- writes that fail

NO_FALLOCATE = """
def no_fallocate(*arguments):
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
os.posix_fallocate = no_fallocate
"""
LIMITED = """
import errno, os, resource, sys
import numpy as np, shmring
from shmring import recording
from shmring.recording.formats import _columns
_columns.CHUNK = 1 << 16
ring = shmring.Ring.create(shape=(1 << 13,), dtype="u8", slots=64)
out = ring.producer()
for number in range(60):
    out.put(np.full(ring.shape, number, "u8"))
out.close()
{first}
recorder = recording.Recorder(ring, sys.argv[1])
recorder._batch = 1
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    recorder.run()
except recording.RecordingFailed as error:
    print(error)
else:
    print("all of it")
ring.unlink()
"""


@pytest.mark.parametrize(
    ("first", "limit"),
    [
        pytest.param("", 1_400_000, id="reserved"),
        pytest.param(NO_FALLOCATE, 3_000_100, id="HDF5 is refused"),
        pytest.param("", 3_000_100, id="reserved, later", marks=pytest.mark.stress),
        pytest.param(NO_FALLOCATE, 1_400_000, id="HDF5 is refused, earlier", marks=pytest.mark.stress),
    ],
)
def test_file_size_limit(path, first, limit) -> None:
    """Reported as RecordingFailed, also where only HDF5's own write shows it; and nothing else is said."""
    code = LIMITED.format(first=first, limit=limit)
    ended = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    with recording.open_recording(path) as found:
        assert (
            f"File too large: recording ring '{found.ring}' ended after {len(found)} frames" in ended.stdout
        )
        assert found.ended == "write failed"
        assert found.seqs.tolist() == list(range(len(found)))
        assert len(found) < 60
        assert (np.asarray(found.array) == found.seqs[:, np.newaxis]).all()
        count = len(found)
    _hdf5.repair(path)
    with h5py.File(path) as file:
        assert file["frames"].shape == (count, 1 << 13)


def test_a_disk_that_others_fill(tmp_path, monkeypatch) -> None:
    """What was recorded before is there, and continued when there is space again."""
    monkeypatch.setattr(_columns, "CHUNK", 1 << 16)
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", tmp_path], capture_output=True
    ).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        path = tmp_path / "take.h5"
        writer = _hdf5.Hdf5Writer(path, description(), append=False)
        write(writer, 5)
        with open(tmp_path / "other", "wb") as other:
            os.posix_fallocate(other.fileno(), 0, shutil.disk_usage(tmp_path).free)
        with pytest.raises(OSError, match="No space"):
            write(writer, 5)
        writer.close("write failed", 0)
        with pytest.raises(OSError, match="No space"):
            _hdf5.Hdf5Writer(tmp_path / "more.h5", description(), append=False)
        assert not (tmp_path / "more.h5").exists()
        check(path, 5, "write failed")
        check_readable_by_all(path, 5)
        (tmp_path / "other").unlink()
        writer = _hdf5.Hdf5Writer(path, description(), append=True)
        write(writer, 5)
        writer.close("limit", 0)
        check(path, 10, "limit")
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


# ---- formats

DTYPES = {
    **{name: name for name in ["f2", ">f4", "f8", "g", "<i2", ">i8", "u1", "?", "c8", ">c16", "G"]},
    **{name: name for name in ["M8[ns]", ">m8[s]", "S5", "U3", ">U2", "V7"]},
    "nested": [("a", [("b", "?"), ("c", ">c8")]), ("d", "f2", (2, 3)), ("e", [("f", "u1", (2,))], (3,))],
    "padded": np.dtype([("a", "u1"), ("b", "f8"), ("c", "u2")], align=True),
    "what HDF5 does not know": [("at", "M8[ns]"), ("by", "U2"), ("why", "S4")],
    "too many fields": [(f"a field with a long name, number {number}", "u1") for number in range(1500)],
}


@pytest.mark.parametrize(
    "shape", [pytest.param((), marks=pytest.mark.stress), (3,)], ids=["scalars", "arrays"]
)
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_every_dtype_in_the_format_of_1_10(path, dtype, shape) -> None:
    """Each comes back byte by byte, what lies between fields included, and is written as 1.10 knows it."""
    dtype = np.dtype(dtype)
    made = Description("ring", FrameFormat(shape, dtype, dtype), {})
    numbers = np.arange(5 * dtype.itemsize * (shape[0] if shape else 1), dtype="u1") & 1
    frames = numbers.view(dtype).reshape(5, *shape)
    index = np.zeros(5, made.index_dtype)
    metas = frames.reshape(-1)[:5]
    index["seq"] = np.arange(5)
    as_items(index["meta"])[...] = as_items(metas)
    writer = _hdf5.Hdf5Writer(path, made, append=False)
    writer.write(frames, index)
    writer.close("limit", 0)
    with recording.open_recording(path) as found:
        whole = np.asarray(found.array)
        assert (found.dtype, whole.dtype, found.meta_dtype) == (dtype, dtype, dtype)
        assert whole.shape == frames.shape
        assert whole.tobytes() == frames.tobytes()
        assert as_items(found.metas).tobytes() == as_items(metas).tobytes()
    with h5py.File(path) as file:
        for dataset in datasets(file):
            version = dataset.id.get_type().encode()[2] >> 4
            assert version <= 3, "version 4 came with HDF5 1.12, 5 with 2.0"
    if shutil.which("h5dump") and shape:
        assert subprocess.run(["h5dump", "-H", path], stdout=subprocess.DEVNULL).returncode == 0


def test_attrs_of_any_size(path) -> None:
    """The description has a place of its own, which is found again where it has grown."""
    _hdf5.Hdf5Writer(path, description(), append=False).close("limit", 0)
    for size in (10, 3700, 5000, 100_000, 5):
        made = description(text="x" * size)
        writer = _hdf5.Hdf5Writer(path, made, append=True)
        write(writer, 1)
        writer.close("producer closed", 2**63)
        with recording.open_recording(path) as found:
            assert (found.attrs, found.lost, found.ended) == (made.attrs, 2**63, "producer closed")
            assert found.seqs.tolist() == list(range(len(found)))


@pytest.mark.parametrize("flags", [0, 1, 5], ids=["finished", "killed as it closed", "killed"])
def test_files_of_the_first_version(path, flags) -> None:
    """The description is an attribute: read, repaired, continued."""
    writer = _hdf5.Hdf5Writer(path, description(), append=False)
    write(writer, 5)
    writer.close("limit", 0)
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        del file["shmring"]
        ended = description().finished("stopped", 5, 0) if flags == 0 else description()
        file.attrs["shmring"] = ended.to_json()
    start = bytearray(path.read_bytes()[: _superblock.SIZE])
    start[_superblock.FLAGS_AT] = flags
    start[_superblock.CHECKSUM_AT :] = _superblock._checksum(
        bytes(start[: _superblock.CHECKSUM_AT])
    ).to_bytes(4, "little")
    with open(path, "r+b") as raw:
        raw.write(start)
    check(path, 5, None if flags else "stopped")
    again = path.with_name("again.h5")
    shutil.copy(path, again)
    assert _hdf5.repair(path) == (5 if flags else 0)
    check(path, 5, "killed" if flags else "stopped")
    check_readable_by_h5py(path, 5)
    writer = _hdf5.Hdf5Writer(again, description(), append=True)
    write(writer, 3)
    writer.close("limit", 0)
    check(again, 8, "limit")
    check_readable_by_h5py(again, 8)


def test_xarray_can_open_it(path) -> None:
    """Dimension scales on every axis or on none: with some of them, xarray opens nothing of the file."""
    _hdf5.Hdf5Writer(path, description(), append=False).close("limit", 0)
    with h5py.File(path) as file:
        assert not any("DIMENSION_LIST" in dataset.attrs or dataset.is_scale for dataset in datasets(file))
