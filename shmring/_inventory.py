"""What is in the shared-memory file system: rings, live and stale, and other blocks. Leaves no trace."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from shmring import _core, _messages, _names, _presence, errors
from shmring._ring import Ring
from shmring._stats import RingStats
from shmring._words import count, quoted

__all__ = ["Found", "RingFacts", "State", "look", "look_at_all", "remove", "unlink", "users"]

State = Literal["live", "stale", "other version", "damaged", "unfinished", "denied", "foreign"]
STATES: dict[int, State] = {
    _core.NOT_READY: "unfinished",
    _core.FOREIGN: "foreign",
    _core.OTHER_ABI: "other version",
    _core.TRUNCATED: "damaged",
    _core.CORRUPT: "damaged",
}


@dataclass(frozen=True, slots=True)
class RingFacts:
    """A ring that can be read, at one moment (`time_ns` on CLOCK_MONOTONIC)."""

    stats: RingStats
    time_ns: int
    created_ns: int
    creator_pid: int
    frame_nbytes: int
    places: int
    meta_dtype: np.dtype[Any] | None
    variable_rows: bool
    attrs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """One block of the shared-memory file system; `ring` where it is a readable ring, else `problem`."""

    name: str
    state: State
    nbytes: int
    uid: int
    mode: int
    inode: int
    modified: float
    ring: RingFacts | None = None
    problem: str = ""

    @property
    def is_ring(self) -> bool:
        """Whether it is known to be a ring, readable or not; what this user cannot read is unknown."""
        return self.state not in ("foreign", "denied") and self.nbytes > 0

    @property
    def owner(self) -> str:
        """Login name of the block's owner."""
        return _messages.user_name(self.uid)


def look(name: str) -> Found:
    """Look at one block.

    Raises
    ------
    RingNotFound
        No block has that name.
    """
    try:
        status = os.lstat(_names.path_of(name))
    except FileNotFoundError:
        raise _missing(name) from None
    state: State
    ring, problem = None, ""
    if stat.S_ISREG(status.st_mode):
        state, ring, problem = _read(name)
    else:
        trouble = _messages.no_file(name, _names.path_of(name))
        state, problem = "foreign", str(trouble or f"{name!r} changed while it was looked at")
    return Found(
        name=name,
        state=state,
        nbytes=status.st_size,
        uid=status.st_uid,
        mode=stat.S_IMODE(status.st_mode),
        inode=status.st_ino,
        modified=status.st_mtime,
        ring=ring,
        problem=problem,
    )


def look_at_all() -> list[Found]:
    """Look at every block, by name; a block that vanishes in between is left out."""
    found = []
    for entry in sorted(os.scandir(_names.DIRECTORY), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            continue
        try:
            found.append(look(entry.name))
        except errors.RingNotFound:
            continue
    return found


def _read(name: str) -> tuple[State, RingFacts | None, str]:
    try:
        trouble = _trouble(name)
        if trouble is not None:
            return trouble[0], None, trouble[1]
        with Ring.attach(name, readonly=True) as ring:
            return ("live" if _presence.in_use(ring._fd) else "stale"), _facts(ring), ""
    except (FileNotFoundError, errors.RingNotFound):
        raise _missing(name) from None
    except errors.RingAccessDenied as error:
        return "denied", None, str(error)
    except errors.ShmringError as error:  # what the schema says, or what happened between two looks
        return "damaged", None, str(error)
    except OSError as error:  # no descriptors left, say: one block must not hide the rest
        return "denied", None, f"{name!r} cannot be read now: {error}"


def _trouble(name: str) -> tuple[State, str] | None:
    """Return why a block cannot be read as a ring, as far as its header says."""
    fd = _names.open_block(name, _core.OBSERVE)
    try:
        result = _core.read_identity(fd).result
        if result == 0:
            return None
        state = STATES.get(result, "denied")
        if state == "other version" and not _presence.in_use(fd):  # every layout has the same locks
            state = "stale"
        return state, str(_messages.cannot_map(result, name, fd, 0))
    finally:
        os.close(fd)


def _facts(ring: Ring) -> RingFacts:
    identity = _core.read_identity(ring._fd)
    return RingFacts(
        stats=ring.stats(),
        time_ns=time.monotonic_ns(),
        created_ns=identity.created_ns,
        creator_pid=identity.creator_pid,
        frame_nbytes=ring.frame_nbytes,
        places=ring.consumers,
        meta_dtype=ring.meta_dtype,
        variable_rows=ring.variable_rows,
        attrs=ring.attrs,
    )


def remove(name: str, *, despite: str = "use --force") -> None:
    """Remove the name of a ring that nobody uses; `despite` says how to remove one in use.

    Raises
    ------
    RingNotFound, RingAccessDenied
        No ring has that name; this user may not remove it.
    RingExists
        It is in use, or the block is another program's.
    """
    fd = _open_ring(name, _core.CONSUME)
    try:
        with contextlib.closing(_core.LockFile(fd)) as presence:
            if not _presence.keep_out(presence.fd):
                raise errors.RingExists(
                    f"ring {name!r} is in use ({_messages.users(name, fd)}): end its users first, or "
                    f"{despite}"
                )
            if _names.same_file(fd, name):
                _names.unlink(name)
    finally:
        os.close(fd)


def unlink(name: str) -> None:
    """Remove the name of a ring, in use or not.

    Raises
    ------
    RingNotFound, RingAccessDenied, RingExists
        No ring has that name; this user may not remove it; the block is another program's.
    """
    os.close(_open_ring(name, _core.OBSERVE))
    try:
        _names.unlink(name)
    except FileNotFoundError:
        raise _missing(name) from None


def _open_ring(name: str, access: int) -> int:
    try:
        fd = _names.open_block(name, access)
    except FileNotFoundError:
        raise _missing(name) from None
    except errors.RingIncompatible as error:
        raise errors.RingExists(str(error)) from None
    if _core.read_identity(fd).result not in (_core.FOREIGN, _core.NOT_READY):
        return fd
    nbytes = os.fstat(fd).st_size
    os.close(fd)
    raise errors.RingExists(
        f"the block {name!r} ({count(nbytes, 'byte')}) is not a ring: it belongs to another program. If "
        f"nothing uses it: rm {quoted(_names.path_of(name))}"
    )


def _missing(name: str) -> errors.RingNotFound:
    return errors.RingNotFound(f"there is no ring {name!r} in {_names.DIRECTORY}: see shmring ls")


def users(name: str) -> str:
    """Name the users of a ring."""
    fd = _open_ring(name, _core.OBSERVE)
    try:
        return _messages.users(name, fd)
    finally:
        os.close(fd)
