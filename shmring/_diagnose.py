"""The words of the errors: what was found, what was expected, what to do."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import shlex
import stat
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from shmring import _core, errors
from shmring._census import ConsumerRow, command_of, consumer_rows, is_here, producer_state

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "cannot_join",
    "cannot_map",
    "cannot_open",
    "cannot_produce",
    "cannot_remove",
    "cannot_reopen",
    "denied",
    "describe_array",
    "forked",
    "held_up",
    "in_use",
    "no_file",
    "no_frame",
    "no_space",
    "producer_died",
    "slots_held",
    "stream_ended",
    "too_few_consumers",
    "wrong_array",
]


NO_FILES = {
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symbolic link",
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
}


def seconds(nanoseconds: int) -> str:
    """Write a duration for people."""
    return f"{nanoseconds / 1e9:.3g} s"


def user_name(uid: int) -> str:
    """Return the login name of a uid, or the number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def process(pid: int, start_time: int, label: str = "") -> str:
    """Name a participant: pid, command, label."""
    command = command_of(pid, start_time)
    words = [f"pid {pid}"]
    if not is_here(pid, start_time):
        words.append("(of another pid namespace, or gone)")
    elif pid == os.getpid():
        words = [f"pid {pid}, this process"]
    if command:
        words.append(f"({command[:120]})")
    if label:
        words.append(f"label {label!r}")
    return " ".join(words)


def producer_of(report: dict[str, int]) -> str:
    """Name the producer of a ring's report."""
    return process(report["producer_pid"], report["start_time"])


def consumer_of(row: ConsumerRow) -> str:
    """Name a consumer."""
    return process(row["pid"], row["start_time"], row["label"])


def reader_in_the_way(fd: int, byte: int) -> str:
    """Name whoever holds a shared lock on a byte of a ring's file, and say what to do."""
    pids = sorted(_shared_lock_holders(os.fstat(fd), byte))
    path = os.readlink(f"/proc/self/fd/{fd}")
    who = ", ".join(f"pid {pid}" for pid in pids) or f"root finds it with: lsof {shlex.quote(path)}"
    return (
        f"a process that may read the ring's file keeps a shared lock on it ({who}). End that process, and "
        f"let only those read the ring whom you trust (mode=0o600, 0o660)"
    )


def _shared_lock_holders(status: os.stat_result, byte: int) -> Iterator[int]:
    """Yield the pids that have the file open with a shared lock on a byte, as far as this user may look."""
    inode = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # hidden from this user, or gone
            for fd in os.listdir(f"/proc/{pid}/fdinfo"):
                if _has_shared_lock(f"/proc/{pid}/fdinfo/{fd}", inode, byte):
                    yield int(pid)
                    break


def _has_shared_lock(path: str, inode: str, byte: int) -> bool:
    with open(path) as file:
        locks = [line.split() for line in file if line.startswith("lock:")]
    for *_, kind, _, where, first, last in locks:
        if (kind, where) == ("READ", inode) and int(first) <= byte and (last == "EOF" or byte <= int(last)):
            return True
    return False


def cannot_map(result: int, name: str, fd: int, error: int) -> Exception:
    """Explain why a block cannot be used as a ring."""
    size = os.fstat(fd).st_size
    if result == _core.NOT_READY:
        return errors.RingNotReady(
            f"ring {name!r} is not initialised (block of {size} bytes); it is being created, or its "
            f"creator died on the way: retry with a timeout, or remove the block"
            if size
            else f"ring {name!r} is an empty block of 0 bytes: it is being created by something that does "
            f"not prepare it first; retry with a timeout"
        )
    if result == _core.FOREIGN:
        return errors.RingIncompatible(
            f"the block {name!r} ({size} bytes) is not a ring of shmring: its first bytes are not the "
            f"magic {_core.MAGIC!r}. It belongs to another program; choose another name"
        )
    if result == _core.OTHER_ABI:
        found = _core.read_abi(fd)
        return errors.RingIncompatible(
            f"ring {name!r} has layout version {found}, this shmring reads version {_core.ABI}: use the "
            f"same version of shmring in every process, or create the ring anew"
        )
    if result == _core.TRUNCATED:
        return _lacks_pages(name, fd)
    if result == _core.CORRUPT:
        return errors.RingCorrupt(
            f"the header of ring {name!r} contradicts itself: something overwrote it. Create it anew"
        )
    return OSError(error, f"cannot map ring {name!r}: {os.strerror(error)}")


def _lacks_pages(name: str, fd: int) -> errors.RingCorrupt:
    status, wanted = os.fstat(fd), _core.read_block_bytes(fd)
    if status.st_size < wanted:
        found = f"is truncated: the file has {status.st_size} bytes, its header says {wanted}"
    else:
        found = (
            f"lacks pages: the file is {status.st_size} bytes long and has memory for "
            f"{status.st_blocks * 512} of the {wanted} that its header says"
        )
    return errors.RingCorrupt(f"ring {name!r} {found}. Create it anew")


def cannot_open(name: str, path: str, error: OSError, readonly: bool) -> Exception:
    """Explain why the block of a name cannot be opened."""
    if isinstance(error, PermissionError):
        return denied(name, path, readonly)
    if error.errno == errno.EROFS:
        return _read_only(
            name, path, "mount it for writing; attach(..., readonly=True) needs no more than this"
        )
    return no_file(name, path) or error


def no_file(name: str, path: str) -> errors.RingIncompatible | None:
    """Explain a name that belongs to no file; None if it does."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return None
    if stat.S_ISREG(mode):
        return None
    kind = NO_FILES.get(stat.S_IFMT(mode), "device")
    remove = "rmdir" if stat.S_ISDIR(mode) else "rm"
    return errors.RingIncompatible(
        f"the name {name!r} belongs to a {kind}, not to a block of shared memory: choose another name. If "
        f"nothing uses it: {remove} {shlex.quote(path)}"
    )


def denied(name: str, path: str, readonly: bool) -> errors.RingAccessDenied:
    """Explain a refusal by file mode."""
    wanted = "read" if readonly else "read and write"
    hint = (
        "create it with a mode that lets this user in"
        if readonly
        else "create it with a mode that lets this user in (mode=0o660, 0o666), or attach with readonly=True"
    )
    try:
        found = os.stat(path)
    except OSError:
        return errors.RingAccessDenied(f"no permission to {wanted} ring {name!r}; {hint}")
    if found.st_uid == os.geteuid():
        hint += f", or type: chmod u+rw {shlex.quote(path)}"
    return errors.RingAccessDenied(
        f"no permission to {wanted} ring {name!r}: its mode is {stat.S_IMODE(found.st_mode):#o}, "
        f"{_owner(found.st_uid)}; {hint}"
    )


def cannot_reopen(fd: int) -> errors.RingAccessDenied:
    """Explain that a process may not open the file of its own ring once more, as every handle does."""
    found = os.fstat(fd)
    return errors.RingAccessDenied(
        f"no permission to open the ring's file once more, for a handle: its mode is "
        f"{stat.S_IMODE(found.st_mode):#o}, {_owner(found.st_uid)}. Create rings with a mode that lets their "
        f"owner read and write (mode=0o600, say), and open handles before you give up privileges"
    )


def cannot_remove(name: str, path: str, error: OSError) -> Exception:
    """Explain why a name cannot be removed."""
    if error.errno == errno.EROFS:
        return _read_only(name, path, "mount it for writing to remove a name there")
    if not isinstance(error, PermissionError):
        return error
    try:
        uid = os.lstat(path).st_uid
    except OSError:
        return errors.RingAccessDenied(f"no permission to remove the name {name!r}: choose another name")
    owner = user_name(uid)
    return errors.RingAccessDenied(
        f"no permission to remove ring {name!r}: {_owner(uid)}. Choose another name, or let {owner} or root "
        f"remove it: sudo -u {shlex.quote(owner)} shmring rm {shlex.quote(name)}"
    )


def _owner(uid: int) -> str:
    mine = os.geteuid()
    return f"its owner {user_name(uid)} (uid {uid}), this process runs as {user_name(mine)} (uid {mine})"


def _read_only(name: str, path: str, hint: str) -> errors.RingAccessDenied:
    return errors.RingAccessDenied(
        f"no permission to write to {name!r}: {os.path.dirname(path)} is mounted read-only; {hint}"
    )


def in_use(name: str, fd: int) -> errors.RingExists:
    """Name whoever uses a ring that was to be created."""
    who = []
    with contextlib.suppress(OSError, errors.ShmringError):
        block = _core.Block(fd, _core.OBSERVE, name)
        state, report = producer_state(block, fd)
        if state == "live":
            who.append(f"producer {producer_of(report)}")
        who += [f"consumer {consumer_of(one)}" for one in consumer_rows(block, fd) if one["alive"]]
    return errors.RingExists(
        f"ring {name!r} exists and is in use ({'; '.join(who) or 'somebody is attached to it'}): attach to "
        f"it, pass exist_ok=True, or choose another name"
    )


def no_space(name: str, needed: int, directory: str) -> errors.NoSpace:
    """Explain that /dev/shm cannot hold a block."""
    try:
        found = os.statvfs(directory)
        room = (
            f"{directory} has {found.f_bavail * found.f_frsize} bytes free of "
            f"{found.f_blocks * found.f_frsize}"
        )
    except OSError:
        room = f"{directory} is too small"
    return errors.NoSpace(
        f"no space for ring {name!r}: it needs {needed} bytes, {room}. Use fewer slots, remove stale rings "
        f"from {directory}, or enlarge it (docker run --shm-size=...; mount -o remount,size=... {directory})"
    )


def describe_array(shape: Iterable[int], dtype: object) -> str:
    """Write a shape and a dtype the same way everywhere."""
    return f"shape {tuple(shape)} dtype {dtype}"


def wrong_array(
    found: np.ndarray, shape: tuple[int, ...], dtype: np.dtype, variable_rows: bool, casting: str
) -> ValueError:
    """Explain that an array does not fit a frame."""
    rows = " (the first axis may be shorter)" if variable_rows else ""
    hint = "" if casting != "no" else '; nothing is cast or broadcast unless asked for (casting="same_kind")'
    return ValueError(
        f"the array has {describe_array(found.shape, found.dtype)}, a frame of this ring has "
        f"{describe_array(shape, dtype)}{rows}{hint}"
    )


def forked(what: str) -> errors.ForkedHandle:
    """Explain a handle that came along in a fork."""
    return errors.ForkedHandle(
        f"this {what} was opened before a fork and belongs to the parent process: open one here, from the "
        f"same Ring (it works in the child)"
    )


def held_up(block: _core.Block, lock_fd: int, gate: int | None, since_ns: int, slots: int) -> errors.RingFull:
    """Name whoever holds the producer up."""
    stalled = seconds(since_ns)
    consumers = consumer_rows(block, lock_fd)
    gating = [one for one in consumers if one["policy"] == "lossless" and one["cursor"] == gate]
    if gate is not None and gating and block.report(lock_fd)["head"] >= gate + slots:
        who = "; ".join(
            f"{consumer_of(one)}, lag {one['lag']} frames{_not_reaped(one, lock_fd)}" for one in gating
        )
        return errors.RingFull(
            f"ring {block.name!r} is full: all {slots} slots hold frames that a lossless consumer has not "
            f"read, for {stalled} now: {who}. Wait longer, use more slots, "
            f'on_full="drop", or make that consumer lossy'
        )
    holding = [one for one in consumers if one["held"]]
    who = "; ".join(
        f"{consumer_of(one)} holds {one['held']} frames{_not_reaped(one, lock_fd)}" for one in holding
    )
    return errors.RingFull(
        f"ring {block.name!r} is full: its {slots} slots are held or unread, for {stalled} now: "
        f"{who or 'by nobody any more; retry'}. Release frames earlier (frame.release(), del), or use more "
        f"slots"
    )


def _not_reaped(one: ConsumerRow, lock_fd: int) -> str:
    """Say why the place of a dead consumer is not free."""
    byte = _core.lock_place(one["place"])
    if one["alive"] or not _core.lock_blocked(lock_fd, byte):
        return ""
    return f"; it is dead, and its place cannot be freed: {reader_in_the_way(lock_fd, byte)}"


def cannot_produce(result: int, block: _core.Block, lock_fd: int, error: int) -> Exception:
    """Explain why this process cannot become the producer."""
    if result == _core.PRODUCER_EXISTS and _core.lock_blocked(lock_fd, _core.LOCK_PRODUCER):
        return errors.ProducerExists(
            f"ring {block.name!r} has no live producer, and yet none can open it: "
            f"{reader_in_the_way(lock_fd, _core.LOCK_PRODUCER)}"
        )
    if result == _core.PRODUCER_EXISTS:
        return errors.ProducerExists(
            f"ring {block.name!r} has a live producer already: {producer_of(block.report(lock_fd))}. A ring "
            f"has one producer at a time; close that one first, or use another ring"
        )
    if result == _core.CORRUPT:
        return errors.RingCorrupt(
            f"ring {block.name!r} cannot be taken over: two published frames claim the same slot, so "
            f"something overwrote its entries. Create it anew"
        )
    return OSError(error, f"cannot become the producer of ring {block.name!r}: {os.strerror(error)}")


def cannot_join(result: int, block: _core.Block, lock_fd: int, error: int) -> Exception:
    """Explain why this process cannot join."""
    if result == _core.NO_PLACE:
        blocked = [byte for byte in map(_core.lock_place, range(block.consumers))
                   if _core.lock_blocked(lock_fd, byte)]  # fmt: skip
        living = [one for one in consumer_rows(block, lock_fd) if one["alive"]]
        who = "; ".join(map(consumer_of, living))
        if blocked:
            return errors.TooManyConsumers(
                f"ring {block.name!r} has {block.consumers} places for consumers; {len(living)} are taken by "
                f"living ones{who and ': '}{who}, and {len(blocked)} cannot be taken: "
                f"{reader_in_the_way(lock_fd, blocked[0])}"
            )
        return errors.TooManyConsumers(
            f"ring {block.name!r} has {block.consumers} places for consumers and all are taken by living "
            f"ones: {who}. Close one, or create the ring with more (consumers=..., at most "
            f"{_core.MAX_CONSUMERS})"
        )
    return OSError(error, f"cannot join ring {block.name!r}: {os.strerror(error)}")


def no_frame(block: _core.Block, least: int, timeout: float, lock_fd: int) -> errors.RingEmpty:
    """Explain a timeout of a consumer."""
    state, report = producer_state(block, lock_fd)
    standing = {
        "none": "no producer has come yet",
        "live": f"the producer ({producer_of(report)}) is alive",
        "closed": "the producer has closed",
        "died": f"the producer (pid {report['producer_pid']}) died",
    }[state]
    wanted = "no new frame" if least == 1 else f"fewer than {least} new frames"
    return errors.RingEmpty(
        f"{wanted} in ring {block.name!r} within {timeout:g} s; {standing}, {report['head']} frames were "
        f"published so far"
    )


def stream_ended(block: _core.Block, lock_fd: int) -> errors.RingClosed:
    """Explain the end of a stream."""
    return errors.RingClosed(
        f"the producer of ring {block.name!r} closed it after {block.report(lock_fd)['head']} frames, and "
        f"this consumer has passed them all"
    )


def producer_died(block: _core.Block, lock_fd: int) -> errors.ProducerDied:
    """Explain a dead producer."""
    report = block.report(lock_fd)
    return errors.ProducerDied(
        f"the producer of ring {block.name!r} (pid {report['producer_pid']}) ended without closing it; every "
        f"published frame ({report['head']}) was passed. To go on with a next producer, join with "
        f"wait_for_takeover=True"
    )


def slots_held(block: _core.Block, least: int, held: int, slots: int) -> errors.SlotsHeld:
    """Explain a wait that could never end."""
    return errors.SlotsHeld(
        f"waiting for {least} more frame(s) of ring {block.name!r} would never end: this consumer itself "
        f"holds {held} frames of {slots} slots. Release some (frame.release(), del), copy what must be kept, "
        f"or use more slots"
    )


def too_few_consumers(block: _core.Block, least: int, lock_fd: int, timeout: float) -> errors.TooFewConsumers:
    """Explain a timeout of wait_for_consumers."""
    found = [one for one in consumer_rows(block, lock_fd) if one["policy"] != "left"]
    who = "; ".join(map(consumer_of, found)) or "nobody"
    return errors.TooFewConsumers(
        f"{len(found)} of {least} consumers joined ring {block.name!r} within {timeout:g} s: {who}"
    )
