"""The words of the errors: what was found, what was expected, what to do."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import stat
from collections.abc import Iterable
from typing import TYPE_CHECKING

from shmring import _core, errors
from shmring._census import command_of, consumer_rows, producer_state

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "cannot_join",
    "cannot_map",
    "cannot_produce",
    "cannot_reopen",
    "denied",
    "describe_array",
    "forked",
    "held_up",
    "in_use",
    "no_frame",
    "no_space",
    "not_pickled",
    "producer_died",
    "slots_held",
    "stream_ended",
    "too_few_consumers",
    "wrong_array",
]


def seconds(nanoseconds: int) -> str:
    """Write a duration for people."""
    return f"{nanoseconds / 1e9:.3g} s"


def user_name(uid: int) -> str:
    """Return the login name of a uid, or the number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def process(pid: int, label: str = "") -> str:
    """Name a process: pid, command, label."""
    words = [f"pid {pid}"]
    command = command_of(pid)
    if command:
        words.append(f"({command[:120]})")
    if label:
        words.append(f"label {label!r}")
    return " ".join(words)


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
        return errors.RingCorrupt(
            f"ring {name!r} is truncated: the file has {size} bytes, its header says "
            f"{_core.read_block_bytes(fd)}. Create it anew"
        )
    if result == _core.CORRUPT:
        return errors.RingCorrupt(
            f"the header of ring {name!r} contradicts itself: something overwrote it. Create it anew"
        )
    return OSError(error, f"cannot map ring {name!r}: {os.strerror(error)}")


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
    return errors.RingAccessDenied(
        f"no permission to {wanted} ring {name!r}: its mode is {stat.S_IMODE(found.st_mode):#o}, its owner "
        f"{user_name(found.st_uid)} (uid {found.st_uid}), this process runs as "
        f"{user_name(os.geteuid())} (uid {os.geteuid()}); {hint}"
    )


def in_use(name: str, fd: int) -> errors.RingExists:
    """Name whoever uses a ring that was to be created."""
    who = []
    with contextlib.suppress(OSError, errors.ShmringError):
        reopened = _core.reopen(fd, False)
        try:
            block = _core.Block(reopened, _core.OBSERVE, name)
        finally:
            os.close(reopened)
        state, report = producer_state(block, fd)
        if state == "live":
            who.append(f"producer {process(report['producer_pid'])}")
        alive = [one for one in consumer_rows(block, fd) if one["alive"]]
        who += [f"consumer {process(one['pid'], one['label'])}" for one in alive]
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


def cannot_reopen(name: str, fd: int, error: OSError) -> OSError:
    """Explain why a process that is attached may not open the block once more."""
    if error.errno in (errno.EACCES, errno.EPERM):
        found = os.fstat(fd)
        return errors.RingAccessDenied(
            f"this process may not open ring {name!r} again: its mode is {stat.S_IMODE(found.st_mode):#o}, "
            f"its owner {user_name(found.st_uid)} (uid {found.st_uid}), this process runs as "
            f"{user_name(os.geteuid())} (uid {os.geteuid()}). Open handles before you give up privileges, or "
            f"create the ring with a mode that lets this user in (mode=0o660, 0o666)"
        )
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return OSError(
            error.errno,
            f"no descriptor is left to open ring {name!r} with ({os.strerror(error.errno)}): close some "
            f"files, or raise the limit (ulimit -n)",
        )
    return OSError(error.errno, f"cannot open ring {name!r} again: {error.strerror}")


def not_pickled(what: str) -> TypeError:
    """Explain what can go to another process instead."""
    if what in ("Frame", "Batch"):
        hint = f"send a copy of its array ({what.lower()}.array.copy())"
    else:
        how = "producer" if what == "Slot" else what.lower()
        hint = f"pass the Ring, and open the handle there (ring.{how}())"
    article = "an" if what == "Observer" else "a"
    return TypeError(f"{article} {what} belongs to its process and cannot be pickled or copied: {hint}")


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
    if gate is not None and gating and block.report()["head"] >= gate + slots:
        who = "; ".join(f"{process(one['pid'], one['label'])}, lag {one['lag']} frames" for one in gating)
        return errors.RingFull(
            f"ring {block.name!r} is full: all {slots} slots hold frames that a lossless consumer has not "
            f"read, for {stalled} now: {who}. Wait longer, use more slots, "
            f'on_full="drop", or make that consumer lossy'
        )
    holding = [one for one in consumers if one["held"]]
    who = "; ".join(f"{process(one['pid'], one['label'])} holds {one['held']} frames" for one in holding)
    return errors.RingFull(
        f"ring {block.name!r} is full: its {slots} slots are held or unread, for {stalled} now: "
        f"{who or 'by nobody any more; retry'}. Release frames earlier (frame.release(), del), or use more "
        f"slots"
    )


def cannot_produce(result: int, block: _core.Block, error: int) -> Exception:
    """Explain why this process cannot become the producer."""
    if result == _core.PRODUCER_EXISTS:
        pid = block.report()["producer_pid"]
        return errors.ProducerExists(
            f"ring {block.name!r} has a live producer already: {process(pid)}. A ring has one producer at a "
            f"time; close that one first, or use another ring"
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
        who = "; ".join(process(one["pid"], one["label"]) for one in consumer_rows(block, lock_fd))
        return errors.TooManyConsumers(
            f"ring {block.name!r} has {block.consumers} places for consumers and all are taken by living "
            f"ones: {who}. Close one, or create the ring with more (consumers=..., at most "
            f"{_core.MAX_CONSUMERS})"
        )
    return OSError(error, f"cannot join ring {block.name!r}: {os.strerror(error)}")


def no_frame(block: _core.Block, least: int, timeout: float, lock_fd: int) -> errors.RingEmpty:
    """Explain a timeout of a consumer."""
    state, report = producer_state(block, lock_fd)
    pid = report["producer_pid"]
    standing = {
        "none": "no producer has come yet",
        "live": f"the producer ({process(pid)}) is alive",
        "closed": "the producer has closed",
        "died": f"the producer (pid {pid}) died",
    }[state]
    wanted = "no new frame" if least == 1 else f"fewer than {least} new frames"
    return errors.RingEmpty(
        f"{wanted} in ring {block.name!r} within {timeout:g} s; {standing}, {report['head']} frames were "
        f"published so far"
    )


def stream_ended(block: _core.Block) -> errors.RingClosed:
    """Explain the end of a stream."""
    return errors.RingClosed(
        f"the producer of ring {block.name!r} closed it after {block.report()['head']} frames, and this "
        f"consumer has passed them all"
    )


def producer_died(block: _core.Block) -> errors.ProducerDied:
    """Explain a dead producer."""
    report = block.report()
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
    who = "; ".join(process(one["pid"], one["label"]) for one in found) or "nobody"
    return errors.TooFewConsumers(
        f"{len(found)} of {least} consumers joined ring {block.name!r} within {timeout:g} s: {who}"
    )
