"""Blocks as files of the shared-memory file system: create whole, replace stale ones, find, remove.

A block has the name that ``multiprocessing.shared_memory.SharedMemory`` gives it, and can be opened with
it. It is made without that class, because the resource tracker would destroy it when any process that
used it ends, and because a block made here is complete before it gets its name.
"""

from __future__ import annotations

import contextlib
import os
import select
import time

from shmring import _core, _limits, _messages, errors
from shmring._wait import Wait

__all__ = [
    "DIRECTORY",
    "check_name",
    "create",
    "enter",
    "generated_name",
    "has_generation",
    "in_use",
    "is_kept_out",
    "keep_out",
    "let_in",
    "open_attached",
    "open_block",
    "same_file",
    "unlink",
]

DIRECTORY = "/dev/shm"
RETRY = 0.005  # seconds between two looks for a block that is not there yet
LOOK_ANYWAY = 0.05  # the same where the kernel says when a name comes: a left-over may be taken over
PATIENCE = 5.0  # seconds that create(exist_ok=True) waits for somebody who removes or replaces the ring
STEP = 64 << 20  # bytes; what is taken between two looks at what is left


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
        return _core.read_identity(fd) == (0, generation)
    finally:
        os.close(fd)


def unlink(name: str) -> None:
    """Remove a name; whoever has the block mapped keeps it.

    Raises
    ------
    FileNotFoundError, RingAccessDenied
        There is none; this user may not.
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
        There is none; this user may not; the name belongs to no file.
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


def allocate(name: str, size: int, mode: int) -> int:
    """Return a descriptor of a nameless block whose pages are all there, so that no touch is a SIGBUS."""
    try:
        fd = os.open(DIRECTORY, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except PermissionError:
        raise errors.RingAccessDenied(
            f"cannot create ring {name!r}: this user may not write to {DIRECTORY} (chmod 1777 {DIRECTORY})"
        ) from None
    except OSError as error:
        raise _limits.refused(error.errno or 0, f"cannot create ring {name!r}") from None
    try:
        os.fchmod(fd, mode)
        reserve(fd, name, size)
    except BaseException:
        os.close(fd)
        raise
    return fd


def reserve(fd: int, name: str, size: int) -> None:
    """Take all pages of a block that are not there yet; NoSpace if they cannot be had.

    In steps, each after a look at what is left: of two that begin at once and do not both fit, one gives up
    before the file system is full.
    """
    try:
        for done in range(0, size, STEP):
            _limits.check_room(name, size, bytes_of(os.fstat(fd)), DIRECTORY)
            os.posix_fallocate(fd, done, min(STEP, size - done))
    except errors.NoSpace:
        raise
    except OSError as error:
        raise _limits.refused(error.errno or 0, f"no space for ring {name!r} of {size} bytes") from None


def bytes_of(status: os.stat_result) -> int:
    """Return the bytes that a file takes, whatever its length."""
    return status.st_blocks * 512


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
    free_name(name, size)
    with contextlib.ExitStack() as undo:
        fd = allocate(name, size, mode)
        undo.callback(os.close, fd)
        mapped = _core.reopen(fd, True)
        try:
            _core.format_block(mapped, *geometry, generation, schema)
        finally:
            os.close(mapped)
        presence = enter(fd)
        assert presence is not None  # nobody else has this file yet
        undo.callback(presence.close)
        while True:
            try:
                _core.link(fd, path_of(name))
            except FileExistsError:
                replace_stale(name)
            else:
                undo.pop_all()
                return fd, presence


def free_name(name: str, size: int) -> None:
    """Remove a stale ring of that name if a block of `size` bytes fits once its space is free."""
    try:
        there = os.lstat(path_of(name))
    except FileNotFoundError:
        return
    _limits.check_room(name, size, bytes_of(there), DIRECTORY)
    replace_stale(name)


def replace_stale(name: str) -> None:
    """Remove the ring of that name if nobody uses it; RingExists if somebody does, or it is no ring."""
    try:
        fd = open_block(name, _core.CONSUME)
    except FileNotFoundError:
        return
    except (errors.RingAccessDenied, errors.RingIncompatible) as error:
        raise errors.RingExists(f"the name {name!r} is taken, choose another name: {error}") from None
    try:
        result, _ = _core.read_identity(fd)
        if result in (_core.FOREIGN, _core.NOT_READY):
            raise errors.RingExists(
                f"the name {name!r} is taken by a block of another program "
                f"({os.fstat(fd).st_size} bytes); choose another name"
            )
        with contextlib.closing(_core.LockFile(fd)) as presence:
            if not keep_out(presence.fd):
                raise _messages.in_use(name, fd)
            if same_file(fd, name):
                with contextlib.suppress(FileNotFoundError):  # somebody else was as quick
                    unlink(name)
    finally:
        os.close(fd)


def in_use(fd: int) -> bool:
    """Return whether a Ring that may write is attached, or a producer or consumer lives without its Ring."""
    first_place = _core.lock_place(0)
    return (
        _core.lock_held(fd, _core.LOCK_PRODUCER)
        or _core.lock_held(fd, _core.LOCK_PRESENCE, _core.PRESENCE_BYTES)
        or (_core.lock_held(fd, first_place, _core.LOCK_PRESENCE - first_place) and not _all_left(fd))
    )


def _all_left(fd: int) -> bool:
    """Whether the consumers are all closed, and only keep frames: those stay whatever becomes of the name."""
    try:
        places = _core.Block(fd, _core.OBSERVE, "").report_places(fd)
    except (errors.ShmringError, OSError):
        return False
    left = {_core.lock_place(one["place"]) for one in places if one["policy"] == "left"}
    held = range(_core.lock_place(0), _core.lock_place(_core.MAX_CONSUMERS))
    return all(byte in left for byte in held if _core.lock_held(fd, byte))


def enter(fd: int) -> _core.LockFile | None:
    """Say that this descriptor's ring is in use, until the result is closed; None while somebody replaces it.

    A shared lock in the way is of somebody who may perhaps only read: attaching goes on without a lock then.
    """
    presence = _core.LockFile(fd)
    byte = _core.LOCK_PRESENCE + int.from_bytes(os.urandom(4), "little")
    if _core.lock(presence.fd, byte, _core.EXCLUSIVE) or not _core.lock_held(fd, byte):
        return presence
    presence.close()
    return None


def is_kept_out(fd: int) -> bool:
    """Return whether somebody keeps everyone out: whoever is attached has locked one byte of many."""
    return _core.lock_held(fd, _core.LOCK_PRESENCE + int.from_bytes(os.urandom(4), "little"))


def keep_out(fd: int) -> bool:
    """Keep everyone from attaching while this descriptor is open; False if the ring is in use."""
    if in_use(fd):
        return False
    # This fails beside a reader's shared lock: whoever attaches right now may then get a ring without a name.
    _core.lock(fd, _core.LOCK_PRESENCE, _core.EXCLUSIVE, _core.PRESENCE_BYTES)
    return not in_use(fd)


def let_in(fd: int) -> None:
    """After `keep_out`: be attached, as others may be now."""
    first, last = _core.LOCK_PRESENCE, _core.LOCK_PRESENCE + _core.PRESENCE_BYTES
    mine = first + 1 + int.from_bytes(os.urandom(3), "little")
    _core.lock(fd, first, _core.UNLOCKED, mine - first)
    _core.lock(fd, mine + 1, _core.UNLOCKED, last - mine - 1)


def open_attached(name: str, timeout: float | None, readonly: bool) -> tuple[int, _core.LockFile | None]:
    """Open the ring of that name, waiting for it up to `timeout` seconds.

    While there is time to wait, a ring that nobody uses is not there: `create` would replace it.

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
    wait = Wait(timeout)
    with contextlib.ExitStack() as stack:
        names: _NewNames | None = None
        while True:
            found = _try_open(name, timeout, readonly)
            if isinstance(found, tuple):
                return found
            left = wait.left
            if left <= 0:
                raise found
            if wait.notice_is_due():
                _messages.still_waiting("attach", found)
            if names is None:  # and look again: the name may have come before the watch
                names = stack.enter_context(_NewNames())
            else:
                names.wait(left)


class _NewNames:
    """Wakes whoever waits for a ring when a file gets a name: a ring may live for less than a poll."""

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
    """Open the ring of that name, or return what time may mend."""
    waits = timeout != 0
    try:
        fd = open_block(name, _core.OBSERVE if readonly else _core.CONSUME)
    except FileNotFoundError:
        return _messages.no_ring(name, timeout)
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, fd)
        result, _ = _core.read_identity(fd)
        if result != 0:
            trouble = _messages.cannot_map(result, name, fd, 0)
            passes = result != _core.FOREIGN and (
                not in_use(fd) or is_kept_out(fd)
            )  # free, or being replaced
            if result == _core.NOT_READY or (waits and passes):
                return trouble
            raise trouble
        if waits and not in_use(fd):
            return _messages.left_over(name, fd, timeout)
        presence = None if readonly else enter(fd)
        entered = not (waits and is_kept_out(fd)) if readonly else presence is not None
        if entered and (same_file(fd, name) or (readonly and not waits)):
            undo.pop_all()
            return fd, presence
        if presence is not None:
            presence.close()
        return errors.RingNotFound(f"ring {name!r} is being replaced; try again")
