"""Blocks as files of the shared-memory file system: create whole, replace stale ones, find, remove.

A block has the name that ``multiprocessing.shared_memory.SharedMemory`` gives it, and can be opened with
it. It is made without that class, because the resource tracker would destroy it when any process that
used it ends, and because a block made here is complete before it gets its name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time

from shmring import _core, _diagnose, errors

__all__ = [
    "DIRECTORY",
    "check_name",
    "create",
    "enter",
    "generated_name",
    "has_generation",
    "open_attached",
    "same_file",
    "unlink",
]

DIRECTORY = "/dev/shm"
RETRY = 0.005  # seconds between two looks for a block that is not there yet


def generated_name() -> str:
    """Return a name that nobody has."""
    return f"shmring-{os.urandom(6).hex()}"


def check_name(name: str) -> str:
    """Return the name without SharedMemory's slash, or say why it cannot be one."""
    if not isinstance(name, str):
        raise TypeError(f"a ring's name is a str, not {type(name).__name__}")
    bare = name.removeprefix("/")
    if not bare or "/" in bare or "\0" in bare or bare in (".", "..") or len(os.fsencode(bare)) > 255:
        raise ValueError(f"a ring's name has 1 to 255 bytes and no slash or NUL, not {name!r}")
    return bare


def path_of(name: str) -> str:
    """Return the block's path."""
    return os.path.join(DIRECTORY, name)


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
        fd = _core.open_block(name, _core.OBSERVE)
    except OSError:
        return False
    try:
        return _core.read_identity(fd) == (0, generation)
    finally:
        os.close(fd)


def unlink(name: str) -> None:
    """Remove a name; whoever has the block mapped keeps it."""
    os.unlink(path_of(name))


def allocate(name: str, size: int, mode: int) -> int:
    """Return a descriptor of a nameless block whose pages are all there, so that no touch is a SIGBUS."""
    fd = os.open(DIRECTORY, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(fd, mode)
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        os.close(fd)
        if error.errno in (errno.ENOSPC, errno.EFBIG, errno.ENOMEM, errno.EDQUOT):
            raise _diagnose.no_space(name, size, DIRECTORY) from None
        raise
    except BaseException:
        os.close(fd)
        raise
    return fd


def create(
    name: str,
    size: int,
    mode: int,
    geometry: tuple[int, int, int, int, int],
    generation: bytes,
    schema: bytes,
) -> tuple[int, _core.LockFile]:
    """Make a ring's block under a name that is free or stale.

    Returns
    -------
    fd : int
        Its descriptor, never mapped and never locked.
    presence : LockFile
        Holds the presence lock.

    Raises
    ------
    RingExists
        The name belongs to a live ring or to a foreign block.
    NoSpace
        It does not fit.
    """
    with contextlib.ExitStack() as undo:
        fd = allocate(name, size, mode)
        undo.callback(os.close, fd)
        mapped = _core.reopen(fd, True)
        try:
            _core.format_block(mapped, *geometry, generation, schema)
        finally:
            os.close(mapped)
        presence = undo.enter_context(contextlib.closing(_core.LockFile(fd)))
        _core.lock(presence.fd, _core.LOCK_PRESENCE, _core.SHARED)
        while True:
            try:
                _core.link(fd, path_of(name))
            except FileExistsError:
                replace_stale(name)
            else:
                undo.pop_all()
                return fd, presence


def replace_stale(name: str) -> None:
    """Remove the ring of that name if nobody uses it; RingExists if somebody does, or it is no ring."""
    try:
        fd = _core.open_block(name, _core.CONSUME)
    except FileNotFoundError:
        return
    except PermissionError:
        raise errors.RingExists(
            f"the name {name!r} is taken by a block that this user may not open; choose another name"
        ) from None
    try:
        result, _ = _core.read_identity(fd)
        if result in (_core.FOREIGN, _core.NOT_READY):
            raise errors.RingExists(
                f"the name {name!r} is taken by a block of another program "
                f"({os.fstat(fd).st_size} bytes); choose another name"
            )
        # Held exclusively, the presence lock keeps everyone from attaching while the name goes.
        with contextlib.closing(_core.LockFile(fd)) as presence:
            if not _core.lock(presence.fd, _core.LOCK_PRESENCE, _core.EXCLUSIVE) or in_use(fd):
                raise _diagnose.in_use(name, fd)
            if same_file(fd, name):
                unlink(name)
    finally:
        os.close(fd)


def in_use(fd: int) -> bool:
    """Return whether a producer or consumer of the ring lives, whatever became of its Ring."""
    places = range(_core.MAX_CONSUMERS)
    return _core.lock_held(fd, _core.LOCK_PRODUCER) or any(
        _core.lock_held(fd, _core.lock_place(place)) for place in places
    )


def enter(fd: int) -> _core.LockFile | None:
    """Say that this descriptor's ring is in use, until the result is closed; None while it is replaced."""
    presence = _core.LockFile(fd)
    return presence if _core.lock(presence.fd, _core.LOCK_PRESENCE, _core.SHARED) else None


def open_attached(name: str, timeout: float | None, readonly: bool) -> tuple[int, _core.LockFile | None]:
    """Open the ring of that name, waiting for it up to `timeout` seconds.

    Returns
    -------
    fd : int
        Its descriptor, never mapped and never locked.
    presence : LockFile or None
        Holds the presence lock; None if `readonly`.

    Raises
    ------
    RingNotFound, RingNotReady, RingAccessDenied, RingIncompatible, RingCorrupt
        What was found instead.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        trouble: Exception
        try:
            fd = _core.open_block(name, _core.OBSERVE if readonly else _core.CONSUME)
        except FileNotFoundError:
            trouble = errors.RingNotFound(
                f"there is no ring {name!r} (no block of that name in {DIRECTORY}); create it first, check "
                f"the name, or wait for it with attach(..., timeout=seconds)"
            )
        except PermissionError:
            raise _diagnose.denied(name, path_of(name), readonly) from None
        else:
            with contextlib.ExitStack() as undo:
                undo.callback(os.close, fd)
                result, _ = _core.read_identity(fd)
                if result == 0:
                    presence = None if readonly else enter(fd)
                    if readonly or (presence is not None and same_file(fd, name)):
                        undo.pop_all()
                        return fd, presence
                    if presence is not None:
                        presence.close()
                    trouble = errors.RingNotFound(f"ring {name!r} is being replaced; try again")
                else:
                    trouble = _diagnose.cannot_map(result, name, fd, 0)
                    if result != _core.NOT_READY:
                        raise trouble
        if deadline is not None and time.monotonic() >= deadline:
            raise trouble
        time.sleep(RETRY)
