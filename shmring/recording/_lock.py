"""One writer for a recording: a lock that ends with its process, whatever ends it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
import threading
import time
import weakref
from pathlib import Path
from types import TracebackType

from shmring.recording._errors import RecordingBusy

# Far behind the end of every file, where nothing is read or written; HDF5 locks its files by flock instead.
_BYTE = 1 << 62
_EXCLUSIVE, _UNLOCKED = (
    struct.pack("hhqqi4x", kind, os.SEEK_SET, _BYTE, 1, 0) for kind in (fcntl.F_WRLCK, fcntl.F_UNLCK)
)
# What a file system without locks says, or NFS of a folder. A recording matters more than its protection.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF)
TRIES = 50  # to lock a folder
PAUSE = 0.002  # seconds between two of them
_TAKEN = (errno.EAGAIN, errno.EACCES)

_held: weakref.WeakSet[WriterLock] = weakref.WeakSet()
_no_fork = threading.RLock()  # between opening a file and its entry in _held


class WriterLock:
    """Held by the process that writes a recording; a file system without locks gives it to everybody.

    Raises
    ------
    RecordingBusy
        Somebody else holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        while True:
            self._open()
            try:
                if not _take_in_the_end(self._fd):
                    raise busy(path)
                if self._is_in_place():
                    return
            except BaseException:
                self.close()
                raise
            self.close()  # another file took the name in the meantime

    def _open(self) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY if self.path.is_dir() else os.O_RDWR
        with _no_fork:
            self._fd = os.open(self.path, flags | os.O_CLOEXEC)
            _held.add(self)
        self._close = weakref.finalize(self, _give_back, self._fd)
        self._close.atexit = False  # a recorder that records until the very end keeps it

    def _is_in_place(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(self._fd), os.stat(self.path))
        return False

    def check_exists(self) -> None:
        """Refuse to write into files that were deleted in the meantime."""
        if os.fstat(self._fd).st_nlink == 0:
            raise OSError(errno.ENOENT, f"{self.path} was deleted while it was recorded")

    def check_in_place(self) -> None:
        """Refuse to say that a recording is where it is not."""
        self.check_exists()
        if not self._is_in_place():
            raise OSError(errno.ENOENT, f"{self.path} was moved or replaced while it was recorded")

    def close(self) -> None:
        """Let others write."""
        self._close()

    @property
    def is_forgotten(self) -> bool:
        """Whether this is the copy of a forked child."""
        return not self._close.alive

    def forget(self) -> None:
        """Close the copy that a forked child has got; the lock is the parent's."""
        if self._close.detach() is not None:
            os.close(self._fd)

    def __enter__(self) -> WriterLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def busy(path: Path) -> RecordingBusy:
    """Make the error for a recording that another recorder writes."""
    return RecordingBusy(
        f"another recorder writes {path} now: wait until it ends, stop it, or take another name"
    )


def is_being_written(path: Path) -> bool:
    """Whether a process holds the lock, this one included."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            return not _take(fd, fcntl.LOCK_SH)  # many may ask at once
        found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _EXCLUSIVE)
        return bool(struct.unpack_from("h", found)[0] != fcntl.F_UNLCK)
    except OSError:
        return False
    finally:
        os.close(fd)


def _take_in_the_end(fd: int) -> bool:
    """Take the lock; that of a folder, even where another process has it for a moment, just to look."""
    for _ in range(TRIES):
        if _take(fd):
            return True
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            break
        time.sleep(PAUSE)
    return False


def _take(fd: int, folder_lock: int = fcntl.LOCK_EX) -> bool:
    """Take the lock; False if another process has it."""
    try:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            # The other kind of lock needs a descriptor that can be written to, which no folder has.
            fcntl.flock(fd, folder_lock | fcntl.LOCK_NB)
        else:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _EXCLUSIVE)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _give_back(fd: int) -> None:
    """Unlock, then close: another thread may be starting a program that has a copy for a moment."""
    with contextlib.suppress(OSError):
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            fcntl.flock(fd, fcntl.LOCK_UN)
        else:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _UNLOCKED)
    os.close(fd)


def _forget() -> None:
    """In a forked child: the copies would keep the locks beyond the parent's death."""
    _no_fork.release()
    for lock in tuple(_held):
        lock.forget()


os.register_at_fork(before=_no_fork.acquire, after_in_parent=_no_fork.release, after_in_child=_forget)
