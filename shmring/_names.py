"""Names of blocks in the shared-memory file system: checked, opened, waited for, removed.

A block has the name that ``multiprocessing.shared_memory.SharedMemory`` gives it, and can be opened with
that class.
"""

from __future__ import annotations

import os
import select
import time

from shmring import _core, _messages, _presence, errors
from shmring._wait import Wait

__all__ = [
    "DIRECTORY",
    "check_name",
    "generated_name",
    "has_generation",
    "open_attached",
    "open_block",
    "same_file",
    "unlink",
]

DIRECTORY = "/dev/shm"
RETRY = 0.005  # seconds between two checks for a block that does not exist yet
LOOK_ANYWAY = 0.05  # the same where the kernel reports new names: a left-over may be taken over
PATIENCE = 5.0  # seconds that create(exist_ok=True) waits while another process removes or replaces the ring


def generated_name() -> str:
    """Return a name that is not taken."""
    return f"shmring-{os.urandom(6).hex()}"


def check_name(name: str) -> str:
    """Return the name without SharedMemory's slash, or raise for one that no ring can have."""
    if not isinstance(name, str):
        raise TypeError(f"a ring's name is a str, not {type(name).__name__}")
    bare = name.removeprefix("/")
    if not bare or "/" in bare or "\0" in bare or bare in (".", "..") or len(os.fsencode(bare)) > 255:
        raise ValueError(f"a ring's name has 1 to 255 bytes and no slash or NUL, not {name!r}")
    return bare


def path_of(name: str) -> str:
    """Return the block's path."""
    return f"{DIRECTORY}/{name}"


def same_file(fd: int, name: str) -> bool:
    """Return whether the name still belongs to the block behind fd."""
    try:
        found = os.stat(path_of(name))
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(fd))


def has_generation(name: str, generation: bytes) -> bool:
    """Return whether the name belongs to the ring of that generation."""
    try:
        fd = open_block(name, _core.OBSERVE)
    except (FileNotFoundError, errors.RingIncompatible):
        return False
    try:
        identity = _core.read_identity(fd)
        return identity.result == 0 and identity.generation == generation
    finally:
        os.close(fd)


def unlink(name: str) -> None:
    """Remove a name; processes that have the block mapped keep it.

    Raises
    ------
    FileNotFoundError, RingAccessDenied
        No block has that name; this user may not.
    """
    try:
        os.unlink(path_of(name))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _messages.cannot_remove(name, path_of(name), error) from None


def open_block(name: str, access: int) -> int:
    """Open the block of that name; return a descriptor that was never mapped.

    Raises
    ------
    FileNotFoundError, RingAccessDenied, RingIncompatible
        No block has that name; this user may not; the name does not belong to a file.
    """
    path = path_of(name)
    trouble = _messages.no_file(name, path)  # before it is opened, which may mean something to a device
    if trouble is not None:
        raise trouble
    try:
        return _core.open_block(name, access)
    except (FileNotFoundError, errors.RingAccessDenied):
        raise
    except OSError as error:
        raise _messages.cannot_open(name, path, error, access == _core.OBSERVE) from None


def open_attached(name: str, timeout: float | None, readonly: bool) -> tuple[int, _core.LockFile | None]:
    """Open the ring of that name, waiting for it up to `timeout` seconds.

    While there is time to wait, a ring that nobody uses does not count: `create` would replace it.

    Returns
    -------
    fd : int
        Its descriptor, never locked.
    presence : LockFile or None
        Holds the presence lock; None if `readonly`.

    Raises
    ------
    RingNotFound, RingNotReady, RingAccessDenied, RingIncompatible, RingCorrupt
        What was found instead.
    """
    wait = Wait(timeout)
    found = _try_open(name, timeout, readonly)
    if not isinstance(found, tuple) and wait.left > 0:
        with _NewNames() as names:  # and look again: the name may have come before the watch
            while not isinstance(found := _try_open(name, timeout, readonly), tuple):
                left = wait.left
                if left <= 0:
                    break
                if wait.notice_is_due():
                    _messages.still_waiting("attach", found)
                names.wait(left)
    if isinstance(found, Exception):
        raise found
    return found


class _NewNames:
    """Wakes a wait for a ring when any file gets a name: a ring may live for less than a poll."""

    def __enter__(self) -> _NewNames:
        self._fd = _core.watch_names(DIRECTORY)
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def wait(self, seconds: float) -> None:
        """Sleep until a name has come, or it is time to look anyway."""
        if self._fd < 0:
            time.sleep(min(RETRY, seconds))
            return
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        if poll.poll(1000 * min(LOOK_ANYWAY, seconds)):
            os.read(self._fd, 1 << 16)


def _try_open(
    name: str, timeout: float | None, readonly: bool
) -> tuple[int, _core.LockFile | None] | Exception:
    """Open the ring of that name, or return the error that waiting may resolve."""
    try:
        fd = open_block(name, _core.OBSERVE if readonly else _core.CONSUME)
    except FileNotFoundError:
        return _messages.no_ring(name, timeout)
    found: tuple[int, _core.LockFile | None] | Exception | None = None
    try:
        found = _enter(name, fd, timeout, readonly)
        return found
    finally:
        if not isinstance(found, tuple):
            os.close(fd)


def _enter(
    name: str, fd: int, timeout: float | None, readonly: bool
) -> tuple[int, _core.LockFile | None] | Exception:
    """Get into the ring behind fd, or return the error that waiting may resolve."""
    waits = timeout != 0
    result = _core.read_identity(fd).result
    if result != 0:
        trouble = _messages.cannot_map(result, name, fd, 0)
        passes = result != _core.FOREIGN and (
            not _presence.in_use(fd) or _presence.is_kept_out(fd)
        )  # free, or being replaced
        if result == _core.NOT_READY or (waits and passes):
            return trouble
        raise trouble
    if waits and not _presence.in_use(fd):
        return _messages.left_over(name, fd, timeout)
    presence = None if readonly else _presence.enter(fd)
    entered = not (waits and _presence.is_kept_out(fd)) if readonly else presence is not None
    if entered and (same_file(fd, name) or (readonly and not waits)):
        return fd, presence
    if presence is not None:
        presence.close()
    return errors.RingNotFound(f"ring {name!r} is being replaced; try again")
