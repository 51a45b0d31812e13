"""New rings: in a block that is complete before it gets its name, or in one that others made.

Blocks are made without ``multiprocessing.shared_memory.SharedMemory``, because its resource tracker would
destroy them when any process that used them ends.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from shmring import _core, _huge, _limits, _messages, _names, _presence, errors
from shmring._words import count

if TYPE_CHECKING:
    from multiprocessing.shared_memory import SharedMemory

__all__ = ["create_nameless", "format_given", "free_name", "give_name"]

STEP = max(64 << 20, _core.HUGE_PAGE_BYTES)  # bytes taken between two checks of what is left


def give_name(fd: int, name: str) -> None:
    """Give a nameless block its name, which is free or stale; RingExists if it is neither."""
    while True:
        try:
            _core.link(fd, _names.path_of(name))
        except FileExistsError:
            replace_stale(name)
        else:
            return


def create_nameless(
    name: str,
    mode: int,
    geometry: _core.Geometry,
    huge_pages: bool | None,
    generation: bytes | None = None,
) -> tuple[int, _core.LockFile]:
    """Make a ring's block that is gone with its last descriptor and mapping.

    Parameters
    ----------
    name : str
        For messages.
    mode, geometry
        Of the block.
    huge_pages : bool, optional
        Whether its slots lie on huge pages; None: as far as there are some.
    generation : bytes, optional
        16 bytes that no other ring has.

    Returns
    -------
    fd : int
        Its descriptor, never locked.
    presence : LockFile
        Holds the presence lock.

    Raises
    ------
    NoSpace
        It does not fit.
    OSError
        The huge pages that were asked for are not to be had.
    """
    with contextlib.ExitStack() as undo:
        fd = allocate(name, geometry, mode, huge_pages)
        undo.callback(os.close, fd)
        _core.format_block(fd, geometry, generation or os.urandom(16))
        presence = _presence.enter(fd)
        assert presence is not None  # nobody else has this file yet
        undo.pop_all()
        return fd, presence


def format_given(
    block: SharedMemory, geometry: _core.Geometry, huge_pages: bool | None
) -> tuple[int, _core.LockFile]:
    """Make a ring in a block that others created and unlink; returns as `create_nameless`.

    Raises
    ------
    RingExists
        It holds a ring that is in use.
    ValueError
        It is too small.
    """
    name = _names.check_name(block.name)
    if block.size < geometry.block_bytes:
        raise ValueError(
            f"block {name!r} has {count(block.size, 'byte')}, the ring needs {geometry.block_bytes} "
            f"(Ring.required_size(...))"
        )
    with contextlib.ExitStack() as undo:
        fd = _names.open_block(name, _core.CONSUME)
        undo.callback(os.close, fd)
        presence = undo.enter_context(contextlib.closing(_core.LockFile(fd)))
        if not _presence.keep_out(presence.fd):
            raise errors.RingExists(f"the block {name!r} holds a ring that is in use")
        reserve(fd, name, geometry, huge_pages)
        _core.format_block(fd, geometry, os.urandom(16))
        _presence.let_in(presence.fd)
        undo.pop_all()
        return fd, presence


def free_name(name: str, size: int) -> None:
    """Remove a stale ring of that name if a block of `size` bytes fits once its space is free."""
    try:
        there = os.lstat(_names.path_of(name))
    except FileNotFoundError:
        return
    _limits.check_room(name, size, bytes_of(there), _names.DIRECTORY)
    replace_stale(name)


def replace_stale(name: str) -> None:
    """Remove the ring of that name if nobody uses it; RingExists if it is in use, or is not a ring."""
    try:
        fd = _names.open_block(name, _core.CONSUME)
    except FileNotFoundError:
        return
    except (errors.RingAccessDenied, errors.RingIncompatible) as error:
        raise errors.RingExists(f"the name {name!r} is taken, choose another name: {error}") from None
    try:
        if _core.read_identity(fd).result in (_core.FOREIGN, _core.NOT_READY):
            raise errors.RingExists(
                f"the name {name!r} is taken by a block of another program "
                f"({count(os.fstat(fd).st_size, 'byte')}); choose another name"
            )
        with contextlib.closing(_core.LockFile(fd)) as presence:
            if not _presence.keep_out(presence.fd):
                raise _messages.in_use(name, fd)
            if _names.same_file(fd, name):
                with contextlib.suppress(FileNotFoundError):  # another process was faster
                    _names.unlink(name)
    finally:
        os.close(fd)


def allocate(name: str, geometry: _core.Geometry, mode: int, huge_pages: bool | None) -> int:
    """Return a descriptor of a nameless block whose pages are all there, so that no touch is a SIGBUS."""
    try:
        fd = os.open(_names.DIRECTORY, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except PermissionError:
        raise errors.RingAccessDenied(
            f"cannot create ring {name!r}: this user may not write to {_names.DIRECTORY} "
            f"(chmod 1777 {_names.DIRECTORY})"
        ) from None
    except OSError as error:
        raise _limits.refused(error.errno or 0, f"cannot create ring {name!r}") from None
    try:
        os.fchmod(fd, mode)
        reserve(fd, name, geometry, huge_pages)
    except BaseException:
        os.close(fd)
        raise
    return fd


def reserve(fd: int, name: str, geometry: _core.Geometry, huge_pages: bool | None) -> None:
    """Take all pages of a block that are not there yet, huge ones first; NoSpace if that fails.

    In steps, each after a check of what is left: of two that start together and do not both fit, one gives
    up before the file system is full.
    """
    size, refusal = geometry.block_bytes, 0
    try:
        for done in range(0, size, STEP):
            end = min(done + STEP, size)
            _limits.check_room(name, size, bytes_of(os.fstat(fd)), _names.DIRECTORY)
            if huge_pages is not False:
                refusal = geometry.make_huge(fd, done, end) or refusal
            os.posix_fallocate(fd, done, end - done)
    except errors.NoSpace:
        raise
    except OSError as error:
        raise _limits.refused(error.errno or 0, f"no space for ring {name!r} of {size} bytes") from None
    if huge_pages:
        _huge.check(fd, name, geometry, refusal)


def bytes_of(status: os.stat_result) -> int:
    """Return the bytes that a file takes, whatever its length."""
    return status.st_blocks * 512
