"""Recordings in HDF5: the dataset `frames`, one for each column of the index, and the description."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import re
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shmring.recording._errors import RecordingCorrupt, as_corrupt
from shmring.recording.formats import _hdf5_codec, _superblock
from shmring.recording.formats._codec import CompressedFrames
from shmring.recording.formats._columns import (
    SPARE,
    ColumnWriter,
    create_datasets,
    read_columns,
    written_rows,
)
from shmring.recording.formats._description import Description, parse
from shmring.recording.formats._growing import open_file, write_all
from shmring.recording.formats._interface import Stored
from shmring.recording.formats._nexus import ENTRY, add_nexus

DESCRIPTION = "shmring"  # a dataset; in the first recordings it was an attribute
ROOM = 4096  # bytes: the description is written in place
TOTALS = 256  # bytes of them that are added to it in the end, at most
LIBVER = ("v110", "v110")  # the first with the single-writer mode: whatever has it reads these files
FAR = 1 << 62  # an end of file behind everything that a writer may still add
TRIES = 50  # to read what a recorder is writing at this moment
PAUSE = 0.002  # seconds between two of them


class _NoSpace(OSError):
    """The space for what is to be written is not there."""


class Hdf5Writer(ColumnWriter):
    """Writes whole chunks in HDF5's single-writer mode: a file that stays readable if this is killed.

    Nothing that a reader does can stop it: it takes no lock, and opens the file once.
    """

    def __init__(self, path: Path, description: Description, *, append: bool) -> None:
        if not append:
            _create(path, _image(description))
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            _close_for_dead_writer(self._fd, path)
            self._file = _open_for_writing(path)
            try:
                self._begin(path, description)
            except BaseException:
                self._file.close()
                raise
        except BaseException:
            if append:
                _superblock.cut_spare(self._fd)
            else:
                path.unlink()
            os.close(self._fd)
            raise

    def _begin(self, path: Path, description: Description) -> None:
        text = _make_room(self._file, _padded(description))
        self._text_at, self._text_room = text.id.get_offset(), text.dtype.itemsize
        self._file.swmr_mode = True
        datasets = {name: dataset for name, dataset in self._file.items() if name not in (DESCRIPTION, ENTRY)}
        super().__init__(path, description, datasets, self._flush_dataset_of, _hdf5_codec.ChunkWriter)
        self._check_space(0)
        self._describe(description)

    def _flush_dataset_of(self, name: str) -> None:
        self._datasets[name].flush()

    def _describe(self, description: Description) -> None:
        """Write the description past the library: this works even where nothing else does."""
        write_all(self._fd, _padded(description, self._text_room), self._text_at)

    def _store(self, array: npt.NDArray[Any], index: npt.NDArray[Any]) -> None:
        with self._abandoned_after_errors():
            super()._store(array, index)

    def _write_compressed(
        self, frames: CompressedFrames, array: npt.NDArray[Any], index: npt.NDArray[Any]
    ) -> None:
        with self._abandoned_after_errors():
            super()._write_compressed(frames, array, index)

    def _store_compressed(
        self, frames: CompressedFrames, *, at_once: bool = False, part: bool = False, last: bool = False
    ) -> None:
        with self._abandoned_after_errors():
            super()._store_compressed(frames, at_once=at_once, part=part, last=last)

    @contextlib.contextmanager
    def _abandoned_after_errors(self) -> Iterator[None]:
        try:
            yield
        except _NoSpace:
            raise  # nothing has begun: HDF5 can close the file
        except Exception as error:
            self._abandon()
            raise _as_oserror(error) from error

    def _check_space(self, needed: int) -> None:
        """Take the space, since HDF5 can neither undo half a write nor close the file after one."""
        try:
            os.posix_fallocate(self._fd, self._file.id.get_filesize(), needed + SPARE)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise _NoSpace(error.errno, error.strerror, str(self.path)) from None
            super()._check_space(needed)

    def close(self, ended: str, lost: int) -> None:
        """Write what is left, and the totals."""
        try:
            if ended != "write failed":
                self.flush(last=True)
        except OSError:
            ended = "write failed"
            raise
        finally:
            try:
                if ended == "write failed" and self._file:
                    with contextlib.suppress(Exception), self._abandoned_after_errors():
                        self.keep_written()
                self.end_threads()
                self._finish(ended, lost)
            finally:
                os.close(self._fd)

    def _finish(self, ended: str, lost: int) -> None:
        try:
            if self._file:
                self._file.close()
        except Exception as error:
            _superblock.close(self._fd)
            raise _as_oserror(error) from error
        finally:
            self._describe(self.description.finished(ended, self.frames, lost))
            _superblock.cut_spare(self._fd)

    def _abandon(self) -> None:
        """Leave the file as a kill would, and close it in the library's place.

        The library would try again what has failed. It gets another file for that, which takes everything.
        """
        if not self._file:
            return  # it has happened already
        if self._compressed is not None:
            self._compressed.finish()  # its threads use the file
        with contextlib.suppress(Exception):
            nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            os.dup2(nowhere, self._file.id.get_vfd_handle(), inheritable=False)
            os.close(nowhere)
        with contextlib.suppress(Exception):
            self._file.close()
        _superblock.close(self._fd)
        with (
            contextlib.suppress(Exception),
            contextlib.closing(_read(Path(f"/proc/self/fd/{self._fd}"))) as stored,
        ):
            self._stored = len(stored.index)


def _image(description: Description) -> bytes:
    """Return the whole file, without frames."""
    import h5py

    image = io.BytesIO()
    with h5py.File(image, "w", libver=LIBVER) as file:

        def create(
            name: str, shape: tuple[int, ...], chunk: tuple[int, ...], dtype: np.dtype[Any], fill: int
        ) -> Any:
            made = file.create_dataset(
                name, shape=(0, *shape), maxshape=(None, *shape), chunks=chunk, dtype=dtype,
                fillvalue=np.uint64(fill) if fill else None,
                **(_hdf5_codec.filter_of(description.codec) if name == "frames" else {}),
            )  # fmt: skip
            if made.dtype != dtype:
                del file[name]
                raise TypeError(f"{dtype} would become {made.dtype}")
            return made

        create_datasets(description, create)
        add_nexus(file, description)
        _make_room(file, _padded(description))
    return image.getvalue()


def _create(path: Path, image: bytes) -> None:
    """Make the file, whole or not at all where the file system can do that."""
    try:
        fd = os.open(path.parent, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666)
        try:
            write_all(fd, image, 0)
        except BaseException:
            path.unlink()
            raise
        finally:
            os.close(fd)
    else:
        try:
            write_all(fd, image, 0)
            # With a src_dir_fd, link follows the symlink.
            os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd)
        finally:
            os.close(fd)


def _make_room(file: Any, text: bytes) -> Any:
    """Return the dataset of the description, with room for this one."""
    if DESCRIPTION in file and file[DESCRIPTION].dtype.itemsize >= len(text):
        return file[DESCRIPTION]
    made = file.create_dataset(None, data=np.bytes_(text))
    file.flush()  # what the name will lead to is there before
    if DESCRIPTION in file:
        del file[DESCRIPTION]
    file[DESCRIPTION] = made
    file.attrs.pop(DESCRIPTION, None)
    file.flush()
    return made


def _padded(description: Description, room: int | None = None) -> bytes:
    """Return the description as text, with room for the totals."""
    text = description.to_json().encode()
    if room is None:
        room = ((2 * len(text) + TOTALS) // ROOM + 1) * ROOM  # each append adds to it
    return text.ljust(room - 1) + b"\n"


def _open_for_writing(path: Path) -> Any:
    import h5py

    try:
        return h5py.File(path, "r+", libver=LIBVER, locking=False)
    except BlockingIOError:
        raise BlockingIOError(
            errno.EAGAIN,
            "another program has this file open, and HDF5_USE_FILE_LOCKING demands a lock on it: end that "
            "program, or unset the variable",
            str(path),
        ) from None
    except OSError as error:
        if "already open" in str(error):
            raise OSError(
                errno.EBUSY, "this process reads the file with h5py: close it first", str(path)
            ) from None
        raise


def _close_for_dead_writer(fd: int, path: Path) -> None:
    """Make a file writable again whose recorder was killed."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # what HDF5 takes as well, all but our recorders
        fcntl.flock(fd, fcntl.LOCK_UN)
    except BlockingIOError:
        raise BlockingIOError(
            errno.EAGAIN, "another program has this file open for writing: end that first", str(path)
        ) from None
    except OSError:
        pass  # a file system without locks
    _superblock.close(fd)


def _as_oserror(error: Exception) -> OSError:
    """Return what HDF5 said, with the number of the system's error if it has one."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    said = str(error)
    if found := re.search(r"errno = (\d+)", said):
        return OSError(int(found[1]), os.strerror(int(found[1])))
    return OSError(errno.EIO, f"HDF5 says: {said}")


class _Bytes(io.FileIO):
    """A file for reading, as it would be if its writer had closed it.

    HDF5 itself refuses files that it believes to be written, takes locks that other programs trip over, and
    shares what a process opens twice, so that the recorder could not close it. None of that here.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "rb", opener=open_file)
        self._at = 0
        self._start = b""
        self._end = os.fstat(self.fileno()).st_size
        start = os.pread(self.fileno(), _superblock.SIZE, 0)
        self.is_flagged = _superblock.is_flagged(start)
        if self.is_flagged:
            self._start, self._end = _superblock.closed(start, FAR), FAR

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        into = memoryview(buffer).cast("B")
        done = 0
        while done < len(into) and (got := os.preadv(self.fileno(), [into[done:]], self._at + done)):
            done += got
        if done == 0:
            raise OSError(errno.EIO, "the file ends before this", self.name)
        into[done:] = bytes(len(into) - done)  # of the last chunk only a part may have been written
        start = self._start[self._at : self._at + len(into)]
        into[: len(start)] = start
        self._at += len(into)
        return len(into)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import h5py

    with _Bytes(path) as file, h5py.File(file, "r") as opened:
        yield opened


def read(path: Path) -> Stored:
    """Open a recording for reading, as far as it got."""
    for _ in range(TRIES):
        try:
            return _read(path)
        except RecordingCorrupt:
            with _Bytes(path) as file:
                if not file.is_flagged:
                    break
            time.sleep(PAUSE)
    return _read(path)


def _read(path: Path) -> Stored:
    with as_corrupt(path), contextlib.ExitStack() as stack:
        file = stack.enter_context(_opened(path))
        description = _description(file, path)
        if description.codec is not None:
            _hdf5_codec.load()
        stored = read_columns(path, description, file, lambda: None)
        # The interpreter must not end before HDF5 has closed a file that it reads through Python.
        close = weakref.finalize(stored.frames, stack.pop_all().close)

        def close_all() -> None:
            stored.close()
            close()

        return replace(stored, close=close_all)


def _description(file: Any, path: Path) -> Description:
    if DESCRIPTION in file:
        return parse(file[DESCRIPTION][()], str(path))
    return parse(str(file.attrs[DESCRIPTION]), str(path))


def read_description(path: Path) -> Description:
    """Read what the file says about its frames."""
    stored = read(path)
    stored.close()
    return stored.description


def repair(path: Path) -> int:
    """Make a file whose recorder was killed readable for every program; frames that were not before."""
    description = read_description(path)
    with _Bytes(path) as file:
        was_readable = not file.is_flagged
    if was_readable and description.ended is not None and _is_even(path):
        return 0
    writer = Hdf5Writer(path, description, append=True)  # cuts off what is not whole
    writer.close(description.ended or "killed", description.lost or 0)
    return 0 if was_readable else writer.frames


def _is_even(path: Path) -> bool:
    """Whether all columns have as many rows as there are frames."""
    with _opened(path) as file:
        columns = [dataset for name, dataset in file.items() if name not in (DESCRIPTION, ENTRY)]
        return {dataset.shape[0] for dataset in columns} == {written_rows(file["seq"])}
