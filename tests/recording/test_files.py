"""The files of recordings: one writer each, nothing foreign touched, nothing whole given up."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import json
import os
import shutil
import signal
import threading
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import shmring
from shmring import recording
from shmring.recording import _lock, _recorder, _replacing, _roll, _series, formats
from shmring.recording.formats import _description, _growing, _npy
from support import recordings
from support.frames import payload
from support.recordings import copied_before_each, feed_seqs
from support.waiting import wait_until

pytestmark = pytest.mark.slow

FORMATS = [".npy", ".zarr", ".h5"]


@pytest.fixture
def make(make):
    """Rings with room for all that a test publishes."""

    def make_large(*arguments, slots: int = 64, **options) -> shmring.Ring:
        return make(*arguments, slots=slots, **options)

    return make_large


@pytest.fixture
def suffix(request) -> str:
    return recordings.need(request.param)


every_format = pytest.mark.parametrize("suffix", FORMATS, indirect=True)


def record(ring: shmring.Ring, path: Path, count: int = 5, **options) -> recording.Summary:
    with ring.producer() as out:
        feed_seqs(out, ring, count)
    return recording.record(ring, path, start="oldest", frames=count, **options)


def content(path: Path) -> dict[str, bytes]:
    """Every file below a path, or with its stem."""
    files = [path] if path.is_file() else []
    files += [file for file in path.parent.rglob("*") if file.is_file()]
    return {str(file.relative_to(path.parent)): file.read_bytes() for file in files}


def seqs(path: Path) -> list[int]:
    with recording.open_recording(path) as found:
        return found.seqs.tolist()


@contextlib.contextmanager
def running(ring: shmring.Ring, path: Path, **options):
    """A recorder at work, with 3 frames."""
    recorder = recording.Recorder(ring, path, **options)
    thread = threading.Thread(target=recorder.run)
    with ring.producer() as out:
        thread.start()
        feed_seqs(out, ring, 3)
        wait_until(lambda: recorder.frames == 3)
        try:
            yield recorder
        finally:
            recorder.stop()
            thread.join()


# ---- one writer


@every_format
@pytest.mark.parametrize(
    "roll",
    [None, pytest.param(recording.Roll(frames=100), marks=pytest.mark.stress)],
    ids=["one file", "rolling"],
)
def test_a_second_writer_is_refused(make, fork, tmp_path, suffix, roll) -> None:
    """In this process and in another, whatever the mode; the first one is not disturbed."""
    first, second, path = make(), make(), tmp_path / f"take{suffix}"
    with running(first, path, roll=roll) as recorder:
        written = Path(recorder.path)

        def refused() -> list[str]:
            told = []
            for mode in ("x", "w", "a"):
                with pytest.raises(recording.RecordingBusy, match="another recorder writes") as caught:
                    recording.record(second, path, mode=mode, roll=roll, seconds=0.01)
                told.append(str(caught.value))
            with pytest.raises(recording.RecordingBusy):
                recording.repair(written)
            return told

        assert all(str(written) in message for message in refused())
        assert fork(lambda send: send(refused())).receive() == refused()
        assert second.stats().consumers == ()
        with recording.open_recording(written) as found:
            assert found.ended is None
    assert (recorder.summary.frames, recorder.summary.ended) == (3, "stopped")
    assert seqs(written) == [0, 1, 2]
    assert record(second, path, mode="a", roll=roll).frames == 5


@every_format
def test_between_two_pieces_nobody_goes_on(make, tmp_path, suffix) -> None:
    """A piece is full and the next one not begun: the series is being written all the same."""
    ring, path = make(), tmp_path / f"take{suffix}"
    with running(ring, path, roll=recording.Roll(frames=3)), pytest.raises(recording.RecordingBusy):
        recording.record(make(), path, mode="a", roll=recording.Roll(frames=3), seconds=0.01)


def fork_while_recording(here, name, path) -> int:
    """The number of a child that lives on."""
    here.recorder = recording.Recorder(name, path)
    return os.fork() or signal.pause()


@every_format
def test_a_killed_writer_keeps_nobody_out(make, peer, tmp_path, suffix) -> None:
    """Not even if it has a child that lives on."""
    ring, path, other = make(), tmp_path / f"take{suffix}", peer()
    child = other.run(fork_while_recording, ring.name, path)
    with pytest.raises(recording.RecordingBusy):
        recording.repair(path)
    other.kill()
    try:
        wait_until(lambda: not _lock.is_being_written(path))  # the child may only just begin
        assert record(make(), path, mode="a").frames == 5
    finally:
        os.kill(child, signal.SIGKILL)


def test_whoever_only_asks_is_in_no_recorders_way(tmp_path, monkeypatch) -> None:
    """To ask for the lock of a folder is to take it: for a moment, in which a piece may begin."""
    asking = os.open(tmp_path, os.O_RDONLY)
    assert _lock._take(asking, fcntl.LOCK_SH)
    assert not _lock.is_being_written(tmp_path), "two who ask"
    monkeypatch.setattr(_lock.time, "sleep", lambda _: fcntl.flock(asking, fcntl.LOCK_UN))
    with _lock.WriterLock(tmp_path):
        assert _lock.is_being_written(tmp_path)
    os.close(asking)


def test_a_forked_child_does_not_keep_the_lock(fork, tmp_path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    lock = _lock.WriterLock(path)
    child = fork(lambda send: (send("ready"), signal.pause()))
    assert child.receive() == "ready"
    assert _lock.is_being_written(path)
    lock.close()
    assert not _lock.is_being_written(path)
    with _lock.WriterLock(path):

        def leave(send) -> None:
            gc.collect()
            send("left")

        assert fork(leave).receive() == "left"
        assert _lock.is_being_written(path), "the child gave back the lock of its parent"


@every_format
def test_a_forked_child_leaves_the_files_of_a_recording_alone(make, fork, tmp_path, suffix) -> None:
    """Also where it leaves the parent's call of `run`, by an exception of a callback for example."""
    ring, path = make(), tmp_path / f"take{suffix}"
    recorder = recording.Recorder(ring, path, frames=20)

    def end(send) -> None:
        recorder.stop()
        recorder.run()
        send("ended")

    with ring.producer() as out:
        feed_seqs(out, ring, 10)
        inside = []
        made = recorder._files.write

        def write(array, index) -> None:
            made(array, index)
            if not inside:
                inside.append(fork(end))  # before the rest is written, and has to stay
                assert inside[0].receive() == "ended"
                feed_seqs(out, ring, 10)

        recorder._files.write = write
        assert recorder.run().frames == 20
    assert seqs(path) == [*range(20)]
    with recording.open_recording(path) as take:
        assert (take.ended, take.known.all()) == ("limit", True)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(make, monkeypatch, tmp_path, number) -> None:
    """Recording matters more than the protection."""

    def refuse(*_) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(_lock.fcntl, "fcntl", refuse)
    monkeypatch.setattr(_lock.fcntl, "flock", refuse)
    assert record(make(), tmp_path / "take.npy").frames == 5
    assert seqs(tmp_path / "take.npy") == list(range(5))


@every_format
def test_no_lock_is_left_behind(make, tmp_path, suffix) -> None:
    path = tmp_path / f"take{suffix}"
    record(make(), path)
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in formats.files(path)}
    assert not _lock.is_being_written(path)


# ---- overwrite


@every_format
def test_a_beginning_that_fails_leaves_the_old_recording(make, monkeypatch, tmp_path, suffix) -> None:
    path = tmp_path / f"take{suffix}"
    record(make(), path)
    before = content(path)
    reasons = [
        (OSError, OSError(errno.ENOSPC, "No space left on device")),
        (ModuleNotFoundError, ModuleNotFoundError("No module")),
        (KeyboardInterrupt, KeyboardInterrupt()),
        (RuntimeError, RuntimeError("whatever a library says")),
    ]
    for kind, reason in reasons:

        def fail(*_, reason=reason, **__) -> None:
            raise reason

        with monkeypatch.context() as patch:
            patch.setattr(formats, "_make_writer", fail)
            with pytest.raises(kind):
                recording.record(make(), path, mode="w", seconds=0.01)
        assert content(path) == before
    if suffix != ".npy":
        with pytest.raises(ValueError, match="sync"):
            recording.record(make(), path, mode="w", seconds=0.01, sync=1)
    else:
        many = make(shape=(), dtype=[(f"a_field_with_a_rather_long_name_{i:04}", "u1") for i in range(230)])
        with pytest.raises(ValueError, match=r"Record to \.zarr"):
            recording.record(many, path, mode="w", seconds=0.01)
    assert content(path) == before
    assert seqs(path) == list(range(5))


@pytest.mark.parametrize("failing", ["index", "json"])
def test_a_full_disk_at_the_beginning(make, monkeypatch, tmp_path, failing) -> None:
    """The second and the third file do not fit: nothing of the new recording is left, the old one is."""
    path = tmp_path / "take.npy"
    write_file = _npy._write_file

    def grow(file, *args, **options):
        if failing == "index" and "index" in file.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return _growing.GrowingNpy(file, *args, **options)

    def write(new, *args, **options):
        if failing == "json":
            raise OSError(errno.ENOSPC, "No space left on device")
        write_file(new, *args, **options)

    for exists in (False, True):
        if exists:
            record(make(), path)
        before = content(path)
        with monkeypatch.context() as patch:
            patch.setattr(_npy, "GrowingNpy", grow)
            patch.setattr(_npy, "_write_file", write)
            with pytest.raises(OSError, match="No space left") as caught:
                recording.record(make(), path, mode="w", seconds=0.01)
        assert caught.value.errno == errno.ENOSPC
        assert content(path) == before


CHANGES = [(os, name) for name in ("mkdir", "rename", "replace", "unlink", "rmdir", "pwrite", "ftruncate")]
OS = types.SimpleNamespace(**vars(os))  # what _replacing alone sees
CHANGES_OF_ALL = [  # without those of the libraries, which are many
    (formats, "_make_writer"), (formats, "WriterLock"), (_series, "put_aside"), (_series, "discard"),
    (_replacing, "remove"), (OS, "rename"),
]  # fmt: skip


@every_format
@pytest.mark.parametrize("stride", [2, pytest.param(1, marks=pytest.mark.stress)])
def test_killed_at_every_step_of_a_replacement(make, tmp_path, suffix, stride) -> None:
    """Either the old recording is there, if need be after `repair`, or the new one is."""
    ring = make(shape=(3,), dtype="u1")
    (take := tmp_path / "take").mkdir()
    record(make(shape=(2,), dtype="u2"), take / f"take{suffix}")
    calls = CHANGES if suffix == ".npy" else CHANGES_OF_ALL
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_replacing, "os", OS)
        with copied_before_each(calls, take, tmp_path / "copies") as copies:
            recorder = recording.Recorder(ring, take / f"take{suffix}", mode="w")
    recorder.stop()
    recorder.run()
    assert len(copies) > 5
    for step, path in enumerate(copy / f"take{suffix}" for copy in copies[::stride]):
        if not path.exists() or _replacing.folder_of(path).exists():
            recording.repair(path)
        try:
            with recording.open_recording(path) as found:
                if found.dtype == "u2":
                    assert found.seqs.tolist() == list(range(5))
                else:
                    assert len(found) == 0
        except recording.RecordingCorrupt:
            pytest.fail(f"step {step}: {sorted(content(path))}")
        assert not _replacing.folder_of(path).exists()
        assert record(make(), path, mode="w").frames == 5


@every_format
def test_killed_at_every_step_of_a_deletion(make, tmp_path, suffix) -> None:
    """Of an old piece: no part of it is left in the series, or in the way of the next recorder."""
    (take := tmp_path / "take").mkdir()
    record(make(), take / f"take{suffix}", roll=recording.Roll(frames=5))
    (old,) = recording.pieces(take / f"take{suffix}")
    calls = [(os, name) for name in ("mkdir", "rename", "unlink", "rmdir")]
    with copied_before_each(calls, take, tmp_path / "copies") as copies:
        formats.delete(old)
    assert len(copies) > 4
    for folder in copies:
        path = folder / f"take{suffix}"
        for piece in recording.pieces(path):
            assert seqs(piece) == [*range(5)]
        for piece in _roll.unfinished(path):
            _replacing.recover(formats.files(piece))
        if recording.pieces(path):
            formats.delete(*recording.pieces(path))
        assert not list(folder.iterdir())


@every_format
@pytest.mark.parametrize("mode", ["w", "x", "a"])
def test_foreign_files_are_never_touched(make, tmp_path, suffix, mode) -> None:
    path = tmp_path / f"take{suffix}"
    foreign = [path]
    if suffix == ".npy":
        foreign = [path, tmp_path / "take.json", tmp_path / "take.index.npy"]
    for file in foreign:
        if suffix == ".zarr":
            file.mkdir()
            (file / "notes.txt").write_text("mine")
        elif file.suffix == ".npy":
            np.save(file, np.arange(7))
        else:
            file.write_text('{"mine": 1}')
        before = content(path)
        kind = (FileExistsError, recording.RecordingCorrupt) if mode == "a" else FileExistsError
        with pytest.raises(kind, match=file.name):
            recording.record(make(), path, mode=mode, seconds=0.01)
        assert content(path) == before
        if suffix != ".zarr":
            file.unlink()


@pytest.mark.parametrize("mode", ["w", "a"])
@pytest.mark.parametrize("gone", ["take.json", "take.index.npy", "both"])
def test_foreign_frames_beside_what_is_left(make, tmp_path, mode, gone) -> None:
    """np.save wrote over the frames of a recording: not its frames any more, though all else fits."""
    ring, path = make(shape=(4,), dtype="u2"), tmp_path / "take.npy"
    record(ring, path)
    np.save(path, np.zeros((9, 4), "u2"))
    for name in ("take.json", "take.index.npy"):
        if gone in (name, "both"):
            (tmp_path / name).unlink()
    before = content(path)
    with pytest.raises((FileExistsError, recording.RecordingCorrupt)):
        recording.record(ring, path, mode=mode, seconds=0.01)
    assert content(path) == before


@pytest.mark.parametrize("mode", ["x", "w", "a"])
@pytest.mark.parametrize("left", [{"json"}, {"index"}, {"json", "index"}])
def test_what_is_left_of_a_deleted_recording(make, tmp_path, mode, left) -> None:
    """The user deleted take.npy and forgot the others: no reason to refuse a new one."""
    path = tmp_path / "take.npy"
    record(make(shape=(2,), dtype="u2"), path)
    for name in {"npy", "index.npy", "json"} - {"index.npy" if one == "index" else one for one in left}:
        (tmp_path / f"take.{name}").unlink()
    assert record(make(), path, 3, mode=mode).frames == 3
    assert seqs(path) == [0, 1, 2]


@pytest.mark.parametrize("gone", ["json", "index.npy"])
def test_frames_without_the_rest_can_be_overwritten(make, tmp_path, gone) -> None:
    path = tmp_path / "take.npy"
    record(make(), path)
    (tmp_path / f"take.{gone}").unlink()
    with pytest.raises(FileExistsError):
        recording.record(make(), path, seconds=0.01)
    assert record(make(), path, 3, mode="w").frames == 3
    assert seqs(path) == [0, 1, 2]


# ---- rolling


@every_format
def test_what_a_rolling_recording_has_instead_of_the_file(make, tmp_path, suffix) -> None:
    path = tmp_path / f"take{suffix}"
    record(make(), path, 10, roll=recording.Roll(frames=2, keep=2))
    said = f"there is no file .*, but of a rolling recording there are take-0004{suffix} to take-0005{suffix}"
    for absent in (path, tmp_path / f"take-0001{suffix}"):
        for read in (recording.open_recording, lambda name: recording.export(name, tmp_path / "take.mcap")):
            with pytest.raises(FileNotFoundError, match=said):
                read(absent)
    with pytest.raises(FileNotFoundError, match=rf"other{suffix}$"):
        recording.open_recording(tmp_path / f"other{suffix}")


@every_format
def test_a_piece_that_is_deleted_while_it_is_read(make, tmp_path, suffix) -> None:
    """What was opened stays as it was, or says that it is gone: never zeros."""
    path = tmp_path / f"take{suffix}"
    record(make(), path, 6, roll=recording.Roll(frames=3))
    first, second = recording.pieces(path)
    with recording.open_recording(first) as take:
        right = [frame.array.copy() for frame in recording.open_recording(first)]
        formats.delete(first)
        shutil.copytree(second, first) if second.is_dir() else shutil.copy(second, first)
        if suffix == ".zarr":
            with pytest.raises(recording.RecordingCorrupt, match="was deleted, moved or replaced while"):
                take[0]
        else:
            assert all((frame.array == array).all() for frame, array in zip(take, right, strict=True))


@every_format
def test_only_pieces_are_pieces(make, tmp_path, suffix) -> None:
    """Files with such a name that are none are not listed, counted, deleted or written over."""
    roll, path = recording.Roll(frames=2, keep=2), tmp_path / f"take{suffix}"
    record(make(), tmp_path / f"take-2024{suffix}", 1)  # a recording, but no piece of one
    record(make(), tmp_path / f"take-0002{suffix}", 1)
    if suffix == ".npy":
        np.save(tmp_path / "take-20240131.npy", np.arange(3))
        (tmp_path / "take-20240131.json").write_text("my calibration")
        (tmp_path / "take-0003.json").write_text("my notes")
    foreign = content(path)
    record(make(), path, 3, roll=roll)
    names = [1, 4] if suffix == ".npy" else [1, 3]
    assert [file.stem for file in recording.pieces(path)] == [f"take-{number:04}" for number in names]
    record(make(), path, 6, roll=roll, mode="a")
    names = [names[-1] + 2, names[-1] + 3]
    assert [file.stem for file in recording.pieces(path)] == [f"take-{number:04}" for number in names]
    record(make(), path, 3, roll=roll, mode="w")
    names = [1, 4] if suffix == ".npy" else [1, 3]
    assert [file.stem for file in recording.pieces(path)] == [f"take-{number:04}" for number in names]
    again = make()
    assert recording.replay(path, again, pace=None) == 3
    assert foreign.items() <= content(path).items()


def test_pieces_of_another_recording_stay(make, tmp_path) -> None:
    """A copy under another name is no piece of what has that name."""
    record(make(), tmp_path / "take.npy", 2, roll=recording.Roll(frames=2))
    for file in list(tmp_path.iterdir()):
        file.rename(tmp_path / file.name.replace("take", "best"))
    assert recording.pieces(tmp_path / "best.npy") == []
    record(make(), tmp_path / "best.npy", 3, roll=recording.Roll(frames=1, keep=1))
    assert seqs(tmp_path / "best-0001.npy") == [0, 1]


def test_pieces_from_before_they_were_marked(make, tmp_path) -> None:
    """They are listed and played; only those that were rolled are deleted."""
    path = tmp_path / "take.npy"
    record(make(), path, 5, roll=recording.Roll(frames=2))
    for file in tmp_path.glob("*.json"):
        said = json.loads(file.read_text())
        for name in ("piece_of", "earlier", "unknown"):
            del said[name]
        file.write_text(json.dumps(said))
    assert [len(seqs(file)) for file in recording.pieces(path)] == [2, 2, 1]
    record(make(), path, 2, roll=recording.Roll(frames=2), mode="w")
    assert [file.stem for file in recording.pieces(path)] == ["take-0001", "take-0003"]


def test_the_first_piece_fails_and_the_old_ones_stay(make, monkeypatch, tmp_path) -> None:
    path, roll = tmp_path / "take.npy", recording.Roll(frames=2)
    record(make(), path, roll=roll)
    before = content(path)

    def fail(*_, **__) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(formats, "_make_writer", fail)
        with pytest.raises(OSError, match="No space"):
            recording.record(make(), path, mode="w", roll=roll, seconds=0.01)
    assert content(path) == before


def test_captures_step_over_foreign_files(make, tmp_path) -> None:
    ring = make(slots=32)
    np.save(tmp_path / "event-0002.npy", np.arange(3))
    with ring.producer() as out:
        capture = recording.Capture(ring, tmp_path / "event.npy", before=1, captures=2)
        thread = threading.Thread(target=capture.run)
        thread.start()
        for number in range(2):
            feed_seqs(out, ring, 1)
            capture.trigger()
            wait_until(lambda number=number: len(recording.pieces(tmp_path / "event.npy")) > number)
            wait_until(lambda: capture._trigger_at is None)
        thread.join()
    assert [file.stem for file in recording.pieces(tmp_path / "event.npy")] == ["event-0001", "event-0003"]


# ---- repair, append


@pytest.mark.parametrize("variable_rows", [False, True], ids=["whole", "rows"])
@pytest.mark.parametrize("rows", [0, 3, 59])
@pytest.mark.parametrize("after", ["read", "repair", "append"])
def test_a_short_index_costs_no_frame(make, tmp_path, rows, after, variable_rows) -> None:
    path = tmp_path / "take.npy"
    ring = make(shape=(10,), dtype="u1", slots=64, meta="f8", variable_rows=variable_rows)
    record(ring, path, 60)
    row = recording.open_recording(path)._description.index_dtype.itemsize
    os.truncate(path.with_suffix(".index.npy"), 4096 + row * rows + 5)
    known = [True] * rows + [False] * (60 - rows)
    if after == "repair":
        assert recording.repair(path) == 60 - rows
        assert len(np.load(path)) == len(np.load(path.with_suffix(".index.npy"))) == 60
        assert recording.repair(path) == 0
    if after == "append":
        assert (
            record(
                make(shape=(10,), dtype="u1", slots=64, meta="f8", variable_rows=variable_rows),
                path,
                2,
                mode="a",
            ).frames
            == 2
        )
        known += [True, True]
    with recording.open_recording(path) as found:
        assert found.known.tolist() == known
        assert found.seqs[:60].tolist() == list(range(60))
        assert (np.diff(found.timestamps_ns[:60]) >= 0).all()
        assert (found.lost, found.lost_before.any()) == (0, False)
        for number, frame in enumerate(found.array[:60]):
            assert (frame == number).all()
        if variable_rows:
            assert found.rows.tolist() == [10] * len(found)


def test_frames_without_an_index_row_are_not_shown_while_it_is_coming(make, tmp_path) -> None:
    ring, path = make(), tmp_path / "take.npy"
    record(ring, path)
    with _lock.WriterLock(path):
        os.truncate(path.with_suffix(".index.npy"), 4096 + 24 * 3)
        assert len(recording.open_recording(path)) == 3
    assert len(recording.open_recording(path)) == 5


@pytest.mark.parametrize("after", ["read", "repair", "append"])
def test_frames_that_were_cut(make, tmp_path, after) -> None:
    """Half a frame is none; the others stay, with their rows."""
    ring, path = make(), tmp_path / "take.npy"
    record(ring, path)
    os.truncate(path, 4096 + 3 * ring.frame_nbytes + 7)
    expected = [0, 1, 2]
    if after == "repair":
        assert recording.repair(path) == 0
        assert len(np.load(path)) == 3
    if after == "append":
        record(make(), path, 2, mode="a")
        expected += [0, 1]
        assert len(np.load(path)) == 5
    assert seqs(path) == expected


def test_a_header_that_was_cut(make, tmp_path) -> None:
    ring, path = make(), tmp_path / "take.npy"
    record(ring, path)
    os.truncate(path, 2000)
    record(make(), path, 2, mode="a")
    assert (len(np.load(path)), seqs(path)) == (2, [0, 1])


@pytest.mark.parametrize("name", ["take.json", "take.index.npy"])
def test_a_part_that_is_missing_is_told_and_nothing_is_changed(make, tmp_path, name) -> None:
    ring, path = make(), tmp_path / "take.npy"
    record(ring, path)
    (tmp_path / name).unlink()
    before = content(path)
    for call in (
        lambda: recording.repair(path),
        lambda: recording.record(make(), path, mode="a", seconds=0.01),
        lambda: recording.open_recording(path),
    ):
        with pytest.raises(recording.RecordingCorrupt, match=name):
            call()
    assert content(path) == before


def test_repair_of_what_is_not_there(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no"):
        recording.repair(tmp_path / "take.npy")
    with pytest.raises(ValueError, match="must end in"):
        recording.repair(tmp_path / "take.dat")


@every_format
def test_each_part_keeps_what_was_said_about_it(make, monkeypatch, tmp_path, suffix) -> None:
    """Appended to on another day, after a reboot, with other attrs: what was there stays as it was."""
    path = tmp_path / f"take{suffix}"
    clocks = [(1_000, 10), (5_000, 3_000), (9_000, 20)]  # realtime, monotonic: the last one after a reboot
    for number, (realtime, monotonic) in enumerate(clocks):

        def describe(ring, *, codec, realtime=realtime, monotonic=monotonic):
            assert codec is None
            return replace(_description.describe(ring), realtime_ns=realtime, monotonic_ns=monotonic)

        monkeypatch.setattr(_recorder, "describe", describe)
        ring = make(slots=4, attrs={"gain": number})
        with ring.producer(on_full="drop") as out:
            recorder = recording.Recorder(ring, path, mode="a")
            for step in range(4 + number):  # the last ones are dropped
                out.put(payload(step), timestamp_ns=monotonic + step)
        recorder.run()
        assert (recorder.summary.frames, recorder.summary.lost) == (4, number)
    with recording.open_recording(path) as found:
        assert [(part.first, part.frames) for part in found.parts] == [(0, 4), (4, 4), (8, 4)]
        assert [part.attrs for part in found.parts] == [{"gain": number} for number in range(3)]
        assert [part.lost for part in found.parts] == [0, 1, 2]
        assert {part.ended for part in found.parts} == {"producer closed"}
        assert found.attrs == {"gain": 2}
        assert found.lost == 3
        expected = [realtime + step for realtime, _ in clocks for step in range(4)]
        assert found.realtimes_ns.tolist() == expected
        assert found.timestamps_ns.tolist() == [
            monotonic + step for _, monotonic in clocks for step in range(4)
        ]


# ---- bytes between the fields


@pytest.mark.parametrize("variable_rows", [False, True], ids=["whole", "rows"])
@pytest.mark.parametrize("filling", [0, 0xAB])
@pytest.mark.parametrize("shape", [(), (3,), (1000,)], ids=str)
def test_bytes_between_the_fields_are_those_of_the_ring(
    make, tmp_path, shape, filling, variable_rows
) -> None:
    if variable_rows and not shape:
        pytest.skip("scalars have no rows")
    dtype = np.dtype({"names": ["a", "b"], "formats": ["<u4", "u1"], "offsets": [0, 5], "itemsize": 8})
    ring = make(shape=shape, dtype=dtype, meta=dtype, slots=16, variable_rows=variable_rows)
    with ring.producer() as out:
        for _ in range(5):
            slot = out.claim()
            slot.array.view(f"V{dtype.itemsize}")[...] = bytes([filling]) * dtype.itemsize
            slot.publish()
    noise = [np.frombuffer(os.urandom(64) * 8, "u1").copy() for _ in range(500)]
    del noise
    recording.record(ring, tmp_path / "take.npy")
    assert set((tmp_path / "take.npy").read_bytes()[4096:]) == {filling}
    index = np.load(tmp_path / "take.index.npy")
    assert set(index["meta"].view("V8").tobytes()) == {0}


# ---- writers that fail


ERRORS = [
    (OSError, (errno.EIO, "Input/output error")),
    (OSError, ("a message of a library, without a number",)),
    (RuntimeError, ("a library failed\non two lines",)),
    (ValueError, ("not open",)),
    (KeyError, ("seq",)),
    (MemoryError, ()),
]


@pytest.mark.parametrize(
    ("suffix", "kind", "said"),
    [(".npy", *error) for error in ERRORS] + [(suffix, *ERRORS[2]) for suffix in (".zarr", ".h5")],
    indirect=["suffix"],
)
@pytest.mark.parametrize("where", ["write", "close"])
def test_every_error_of_a_writer(make, monkeypatch, tmp_path, suffix, kind, said, where) -> None:
    ring, path = make(), tmp_path / f"take{suffix}"
    recorder = recording.Recorder(ring, path)
    writer = recorder._files._writer

    original = getattr(writer, where)

    def fail(*arguments) -> None:
        original(*arguments)
        raise kind(*said)

    with ring.producer() as out:
        feed_seqs(out, ring, 3)
    monkeypatch.setattr(writer, where, fail)
    with pytest.raises(recording.RecordingFailed, match="readable in") as caught:
        recorder.run()
    assert recorder.summary == caught.value.summary
    assert recorder.summary.ended == "write failed"
    assert "\n" not in str(caught.value)
    assert not _lock.is_being_written(path)


def test_an_error_of_the_callback_is_not_one_of_the_file(make, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(_recorder, "SLICE", 0.001)

    def fail(_) -> None:
        raise BrokenPipeError

    ring = make()
    recorder = recording.Recorder(ring, tmp_path / "take.npy", progress=fail)
    with ring.producer() as out:
        feed_seqs(out, ring, 2)
        with pytest.raises(BrokenPipeError):
            recorder.run()
    assert (recorder.summary.frames, recorder.summary.ended) == (2, "interrupted")
    assert seqs(tmp_path / "take.npy") == [0, 1]


@every_format
def test_a_recording_that_is_deleted_under_way(make, tmp_path, suffix) -> None:
    ring, path = make(), tmp_path / f"take{suffix}"
    recorder = recording.Recorder(ring, path)
    with ring.producer() as out:
        feed_seqs(out, ring, 3)
    formats.delete(path)
    with pytest.raises(recording.RecordingFailed, match=r"was deleted .* cannot be read"):
        recorder.run()


@every_format
def test_a_recording_that_is_moved_under_way(make, tmp_path, suffix) -> None:
    """It is not where the summary says."""
    ring, path = make(), tmp_path / f"take{suffix}"
    recorder = recording.Recorder(ring, path)
    with ring.producer() as out:
        feed_seqs(out, ring, 3)
    path.rename(tmp_path / f"moved{suffix}")
    with pytest.raises(recording.RecordingFailed, match="was moved"):
        recorder.run()


def test_an_index_that_is_deleted_under_way(make, tmp_path) -> None:
    ring, path = make(), tmp_path / "take.npy"
    recorder = recording.Recorder(ring, path)
    with ring.producer() as out:
        feed_seqs(out, ring, 3)
    path.with_suffix(".index.npy").unlink()
    with pytest.raises(recording.RecordingFailed, match=r"take\.index\.npy was deleted .* cannot be read"):
        recorder.run()


@every_format
def test_a_foreign_folder_where_the_old_recording_would_go(make, tmp_path, suffix) -> None:
    path = tmp_path / f"take{suffix}"
    record(make(), path)
    folder = _replacing.folder_of(path)
    folder.mkdir()
    (folder / "mine").write_text("mine")
    with pytest.raises(FileExistsError, match=r"\.replaced is in the way"):
        recording.record(make(), path, mode="w", seconds=0.01)
    assert (folder / "mine").read_text() == "mine"
    assert seqs(path) == list(range(5))


@every_format
def test_the_truth_about_what_is_readable(make, monkeypatch, tmp_path, suffix) -> None:
    """The library said that it wrote, and the file is no recording any more."""
    ring, path = make(), tmp_path / f"take{suffix}"
    recorder = recording.Recorder(ring, path)

    close = recorder._files._writer.close

    def fail(*totals) -> None:
        close(*totals)
        for file in [path] if path.is_file() else path.rglob("zarr.json"):
            file.write_bytes(b"")
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(recorder._files._writer, "close", fail)
    with ring.producer() as out:
        feed_seqs(out, ring, 3)
    with pytest.raises(recording.RecordingFailed, match="cannot be read"):
        recorder.run()


def test_a_full_disk_at_the_end_leaves_the_totals(make, monkeypatch, tmp_path) -> None:
    """No room for a new description: the totals go into the one that is there."""
    replace = os.replace
    ring, path = make(attrs={"long": "x" * 4_000}), tmp_path / "take.npy"
    recorder = recording.Recorder(ring, path)
    with ring.producer() as out:
        feed_seqs(out, ring, 3)

    def fail(*_) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    recorder.run()
    assert replace is not os.replace
    assert recording.open_recording(path).ended == "producer closed"
    assert len(list(tmp_path.iterdir())) == 3


odd_files = pytest.mark.parametrize(
    ("suffix", "name"),
    [(".npy", "take.npy"), (".npy", "take.index.npy"), (".npy", "take.json"), (".h5", "take.h5")],
    indirect=["suffix"],
)
ODD = {"FIFO": os.mkfifo, "folder": lambda path: (path / "with").mkdir(parents=True)}


@odd_files
@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("alone", [False, True])
def test_no_regular_file_is_no_recording_and_nobody_waits_for_it(
    make, tmp_path, suffix, name, kind, alone
) -> None:
    ring, path = make(shape=(4,), dtype="u1"), tmp_path / f"take{suffix}"
    record(ring, path)
    if alone:
        for file in tmp_path.iterdir():
            file.unlink()
    (tmp_path / name).unlink(missing_ok=True)
    ODD[kind](tmp_path / name)
    before = sorted(tmp_path.iterdir())
    if not alone or name == path.name:
        for use in (recording.open_recording, recording.repair):
            with pytest.raises(recording.RecordingCorrupt, match=r"regular file|there is no"):
                use(path)
    assert recording.pieces(path) == []
    for mode in ("x", "w", "a"):
        with pytest.raises((FileExistsError, recording.RecordingCorrupt)):
            recording.record(ring, path, mode=mode, frames=1)
    assert sorted(tmp_path.iterdir()) == before


def test_a_description_is_not_written_through_what_has_its_temporary_name(make, tmp_path) -> None:
    other, path = tmp_path / "other", tmp_path / "take.npy"
    other.write_text("mine")
    (tmp_path / ".take.json.shmring").symlink_to(other)
    record(make(shape=(4,), dtype="u1"), path)
    assert other.read_text() == "mine"
    assert not os.path.lexists(tmp_path / ".take.json.shmring")


def test_an_interrupted_description_leaves_no_temporary_file(make, tmp_path, monkeypatch) -> None:
    path = tmp_path / "take.npy"
    record(make(shape=(4,), dtype="u1"), path)
    before = content(path)

    def interrupt(fd: int, data: bytes, offset: int) -> None:
        os.pwrite(fd, data[:7], offset)
        raise KeyboardInterrupt

    monkeypatch.setattr(_npy, "write_all", interrupt)
    with pytest.raises(KeyboardInterrupt):
        _npy.write_json(tmp_path / "take.json", formats.read_description(path), sync=False)
    assert content(path) == before
