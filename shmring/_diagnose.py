"""The words of the errors: what was found, what was expected, what to do."""

from __future__ import annotations

import contextlib
import logging
import os
import pwd
import stat
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from shmring import _core, _limits, errors
from shmring._census import ConsumerRow, command_of, consumer_rows, producer_state

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "being_removed",
    "cannot_join",
    "cannot_map",
    "cannot_produce",
    "cut",
    "denied",
    "describe_array",
    "forked",
    "held_up",
    "in_use",
    "no_frame",
    "producer_died",
    "slots_held",
    "still_waiting",
    "stream_ended",
    "too_few_consumers",
    "waits_for_itself",
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
    return _limits.refused(error, f"cannot map ring {name!r}")


def cut(name: str) -> errors.RingCorrupt:
    """Explain a block that lost pages while it was mapped."""
    return errors.RingCorrupt(
        f"the file of ring {name!r} was cut while it was in use: what was read of it since then may be "
        f"zeros, what was written is lost. Create the ring anew"
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


def being_removed(name: str, waited: float) -> errors.RingExists:
    """Explain a name that somebody removes or replaces, and does not finish."""
    return errors.RingExists(
        f"the name {name!r} is taken: another process has been removing or replacing that ring for "
        f"{waited:g} s (a stopped shmring rm, say). End that process, or choose another name"
    )


def describe_array(shape: Iterable[object], dtype: object) -> str:
    """Write a shape and a dtype the same way everywhere."""
    return f"shape {tuple(shape)} dtype {dtype}"


def wrong_array(
    found: np.ndarray, shape: tuple[int, ...], dtype: np.dtype, variable_rows: bool, many: bool
) -> ValueError:
    """Explain that an array does not fit a frame, or several."""
    expected = ("n", *shape) if many else shape
    rows = " (the first axis of a frame may be shorter)" if variable_rows else ""
    return ValueError(
        f"the array has {describe_array(found.shape, found.dtype)}, "
        f"{'n frames' if many else 'a frame'} of this ring {'have' if many else 'has'} "
        f"{describe_array(expected, dtype)}{rows}; {how_to_fit(found, shape, dtype, variable_rows, many)}"
    )


def how_to_fit(
    found: np.ndarray, shape: tuple[int, ...], dtype: np.dtype, variable_rows: bool, many: bool
) -> str:
    """Advise what makes an array fit: advice that works when it is followed."""
    given, other = (found.shape[1:], found.shape) if many else (found.shape, found.shape[1:])
    if found.ndim < many or not same_shape(given, shape, variable_rows):
        if found.ndim >= 1 - many and same_shape(other, shape, variable_rows):
            return "put() takes one frame" if many else "put_many() takes many frames"
        return "nothing is broadcast or reshaped"
    if found.dtype.names is not None and dtype.names is not None and found.dtype.names != dtype.names:
        return f"its fields are {found.dtype.names}, not {dtype.names}"
    for casting in ("equiv", "safe", "same_kind"):
        if can_cast(found.dtype, dtype, casting):
            return f'nothing is cast unless you ask for it (casting="{casting}")'
    return (
        f'nothing is cast unless you ask for it (casting="unsafe", or array.astype({str(dtype)!r})), which '
        f"changes values that do not fit"
    )


def same_shape(found: tuple[int, ...], shape: tuple[int, ...], variable_rows: bool) -> bool:
    """Whether a shape is the frames' own."""
    if variable_rows and len(found) == len(shape):
        return found[0] <= shape[0] and found[1:] == shape[1:]
    return found == shape


def can_cast(found: np.dtype, dtype: np.dtype, casting: Literal["equiv", "safe", "same_kind"]) -> bool:
    """Whether numpy casts so (numpy itself is imported when it is needed)."""
    import numpy as np

    return np.can_cast(found, dtype, casting)


def forked(what: str) -> errors.ForkedHandle:
    """Explain a handle that came along in a fork."""
    return errors.ForkedHandle(
        f"this {what} was opened before a fork and belongs to the parent process: open one here, from the "
        f"same Ring (it works in the child)"
    )


def gating(
    block: _core.Block, consumers: list[ConsumerRow], gate: int | None, slots: int
) -> list[ConsumerRow]:
    """Return the lossless consumers whose unread frames keep the producer from going on."""
    if gate is None or block.report()["head"] < gate + slots:
        return []
    return [one for one in consumers if one["policy"] == "lossless" and one["cursor"] == gate]


def held_up(block: _core.Block, lock_fd: int, gate: int | None, since_ns: int, slots: int) -> errors.RingFull:
    """Name whoever holds the producer up."""
    stalled = seconds(since_ns)
    consumers = consumer_rows(block, lock_fd)
    behind = gating(block, consumers, gate, slots)
    if behind:
        who = "; ".join(f"{process(one['pid'], one['label'])}, lag {one['lag']} frames" for one in behind)
        return errors.RingFull(
            f"ring {block.name!r} is full: all {slots} slots hold frames that a lossless consumer has not "
            f"read, for {stalled} now: {who}. Wait longer, use more slots, "
            f'on_full="drop", or make that consumer lossy'
        )
    holding = [one for one in consumers if one["held"]]
    who = "; ".join(f"{process(one['pid'], one['label'])} holds {one['held']} frames" for one in holding)
    return errors.RingFull(
        f"ring {block.name!r} is full: its {slots} slots are held or unread, for {stalled} now: "
        f"{who or 'by nobody any more; retry'}. Release frames earlier (frame.release(), del), copy what "
        f"must be kept (frame.array.copy()), or use more slots"
    )


def waits_for_itself(
    block: _core.Block, lock_fd: int, gate: int | None, _since_ns: int, slots: int
) -> errors.SlotsHeld | None:
    """Explain a producer's wait that only its own thread could end; None if another process can."""
    own = _core.own_places(block)
    if not own:
        return None
    consumers = consumer_rows(block, lock_fd)
    behind = [one for one in gating(block, consumers, gate, slots) if one["place"] in own]
    if behind:
        one = behind[0]
        what = f"has not read {one['lag']} frames"
    else:
        holding = [one for one in consumers if one["held"]]
        if not holding or any(one["place"] not in own for one in holding):
            return None
        one = holding[0]
        what = f"holds {one['held']} frames"
    label = f" {one['label']!r}" if one["label"] else ""
    return errors.SlotsHeld(
        f"waiting for space in ring {block.name!r} would never end: a consumer{label} of this very process "
        f"(pid {one['pid']}) {what}, all {slots} slots are taken, and no other thread runs that could read "
        f"or release them. Read or release frames before you put more, or give each side a thread or a "
        f'process of its own, put a timeout, or use more slots or on_full="drop"'
    )


def still_waiting(what: str, why: Exception) -> None:
    """Log what a wait without an end waits for."""
    logging.getLogger("shmring").warning("%s is still waiting: %s", what, why)


def cannot_produce(result: int, block: _core.Block, error: int) -> Exception:
    """Explain why this process cannot become the producer."""
    if result == _core.PRODUCER_EXISTS:
        report = block.report()
        opening = report["producer_state"] in (_core.PRODUCER_NONE, _core.PRODUCER_CLOSED)
        who = "a process that is just opening it" if opening else process(report["producer_pid"])
        return errors.ProducerExists(
            f"ring {block.name!r} has a live producer already: {who}. A ring has one producer at a time; "
            f"close that one first, or use another ring"
        )
    if result == _core.CORRUPT:
        return errors.RingCorrupt(
            f"ring {block.name!r} cannot be taken over: two published frames claim the same slot, so "
            f"something overwrote its entries. Create it anew"
        )
    return _limits.refused(error, f"cannot become the producer of ring {block.name!r}")


def cannot_join(result: int, block: _core.Block, lock_fd: int, error: int) -> Exception:
    """Explain why this process cannot join."""
    if result == _core.NO_PLACE:
        who = "; ".join(process(one["pid"], one["label"]) for one in consumer_rows(block, lock_fd))
        return errors.TooManyConsumers(
            f"ring {block.name!r} has {block.consumers} places for consumers and all are taken by living "
            f"ones: {who}. Close one, or create the ring with more (consumers=..., at most "
            f"{_core.MAX_CONSUMERS})"
        )
    return _limits.refused(error, f"cannot join ring {block.name!r}")


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
        f"waiting for {least} more frame(s) of ring {block.name!r} is in vain: this consumer itself holds "
        f"{held} frames of {slots} slots. Release some (frame.release(), del), copy what must be kept, "
        f"or use more slots"
    )


def too_few_consumers(block: _core.Block, least: int, lock_fd: int, timeout: float) -> errors.TooFewConsumers:
    """Explain a timeout of wait_for_consumers."""
    found = [one for one in consumer_rows(block, lock_fd) if one["policy"] != "left"]
    who = "; ".join(process(one["pid"], one["label"]) for one in found) or "nobody"
    return errors.TooFewConsumers(
        f"{len(found)} of {least} consumers joined ring {block.name!r} within {timeout:g} s: {who}"
    )
