"""Presence: the locks on a ring's file that show whether anybody uses it, and keep others out."""

from __future__ import annotations

import os

from shmring import _core, errors

__all__ = ["enter", "in_use", "is_kept_out", "keep_out", "let_in"]


def in_use(fd: int) -> bool:
    """Return whether a Ring that may write is attached, or a producer or consumer lives without its Ring."""
    first_place = _core.lock_place(0)
    return (
        _core.lock_held(fd, _core.LOCK_PRODUCER)
        or _core.lock_held(fd, _core.LOCK_PRESENCE, _core.PRESENCE_BYTES)
        or (_core.lock_held(fd, first_place, _core.LOCK_PRESENCE - first_place) and not _all_left(fd))
    )


def _all_left(fd: int) -> bool:
    """Whether the consumers are all closed and only keep frames, which outlive the name."""
    try:
        places = _core.Block(fd, _core.OBSERVE, "").place_statuses(fd)
    except (errors.ShmringError, OSError):
        return False
    left = {_core.lock_place(one["place"]) for one in places if one["policy"] == "left"}
    held = range(_core.lock_place(0), _core.lock_place(_core.MAX_CONSUMERS))
    return all(byte in left for byte in held if _core.lock_held(fd, byte))


def enter(fd: int) -> _core.LockFile | None:
    """Mark this descriptor's ring as in use until the result is closed; None while it is being replaced.

    A shared lock in the way may belong to a process that only reads: attaching continues without a lock then.
    """
    presence = _core.LockFile(fd)
    byte = _core.LOCK_PRESENCE + int.from_bytes(os.urandom(4), "little")
    if _core.lock(presence.fd, byte, _core.EXCLUSIVE) or not _core.lock_held(fd, byte):
        return presence
    presence.close()
    return None


def is_kept_out(fd: int) -> bool:
    """Return whether a process keeps everyone out: an attached process locks only one byte of many."""
    return _core.lock_held(fd, _core.LOCK_PRESENCE + int.from_bytes(os.urandom(4), "little"))


def keep_out(fd: int) -> bool:
    """Keep everyone from attaching while this descriptor is open; False if the ring is in use."""
    if in_use(fd):
        return False
    # This fails beside a reader's shared lock: a process that attaches now may get a ring without a name.
    _core.lock(fd, _core.LOCK_PRESENCE, _core.EXCLUSIVE, _core.PRESENCE_BYTES)
    return not in_use(fd)


def let_in(fd: int) -> None:
    """After `keep_out`: become attached, and let others attach."""
    first, last = _core.LOCK_PRESENCE, _core.LOCK_PRESENCE + _core.PRESENCE_BYTES
    mine = first + 1 + int.from_bytes(os.urandom(3), "little")
    _core.lock(fd, first, _core.UNLOCKED, mine - first)
    _core.lock(fd, mine + 1, _core.UNLOCKED, last - mine - 1)
