"""The messages of errors that look at a ring or its file: what was found, what was expected, what to do."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import pwd
import stat
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

from shmring import _core, _limits, errors
from shmring._format import FrameFormat, describe_array
from shmring._home import Home, here
from shmring._participants import command_line, consumer_rows, is_here
from shmring._words import clean, count, quoted

if TYPE_CHECKING:
    import numpy as np

    from shmring._core import RingStatus
    from shmring._participants import ConsumerRow, ProducerState

__all__ = [
    "ENDS",
    "being_removed",
    "cannot_join",
    "cannot_map",
    "cannot_open",
    "cannot_produce",
    "cannot_remove",
    "cannot_reopen",
    "cut",
    "denied",
    "elsewhere",
    "forked",
    "held_up",
    "in_use",
    "left_over",
    "most_held",
    "never_held",
    "no_file",
    "no_frame",
    "no_ring",
    "no_set",
    "no_share",
    "no_stream",
    "not_awaitable",
    "not_pickled",
    "nothing_ready",
    "producer_died",
    "producer_failed",
    "slots_held",
    "still_waiting",
    "stream_ended",
    "too_few_consumers",
    "users",
    "waits_for_itself",
    "wrong_array",
]


NO_FILES = {
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symbolic link",
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
}


NOTICEABLE_NS = 1_000_000  # a shorter wait is not worth a word
PATIENCE = {
    "raise": ["try again later", 'let the producer wait (on_full="wait")'],
    "look": ["wait for space (timeout=seconds)"],
    "wait": ["wait longer"],
    "forever": [],
}  # what a producer may do about a full ring, by how it waits
KEEPS_LATEST = (
    "What a lossless consumer took in its last two calls keeps its place in the ring, even with spare slots, "
    "until the consumer releases it or asks for the next frame. "
)


class Later:
    """A message that is put together when somebody reads it: a program that polls reads none of them."""

    def __init__(self, message: Callable[[], str]):
        self._message = message

    @functools.cached_property
    def _text(self) -> str:
        return self._message()

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return repr(self._text)

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (self._text,)


def seconds(nanoseconds: int) -> str:
    """Write a duration for people."""
    return f"{nanoseconds / 1e9:.3g} s"


def within(seconds: float) -> str:
    """Say how long it was waited for; nothing where nobody waited."""
    return "" if seconds == 0 else f" within {seconds:g} s"


def user_name(uid: int) -> str:
    """Return the login name of a uid, or the number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def process(pid: int, start_time: int, label: str = "") -> str:
    """Name a participant: pid, command, label."""
    here = is_here(pid, start_time)
    command = command_line(pid) if here else ""
    words = [f"pid {pid}"]
    if not here:
        words.append("(of another pid namespace, or gone)")
    elif pid == os.getpid():
        words = [f"pid {pid}, this process"]
    if command:
        words.append(f"({command[:120]})")
    if label:
        words.append(f"label {label!r}")
    return " ".join(words)


def producer_of(status: RingStatus) -> str:
    """Name the producer of a ring's status."""
    return process(status["producer_pid"], status["start_time"])


def consumer_of(row: ConsumerRow) -> str:
    """Name a consumer, and its group."""
    group = f", member of group {row['group']!r}" if row["group"] is not None else ""
    return process(row["pid"], row["start_time"], row["label"]) + group


def reader_in_the_way(fd: int, byte: int) -> str:
    """Name the holders of a shared lock on a byte of a ring's file, and say what to do."""
    pids = sorted(_shared_lock_holders(os.fstat(fd), byte))
    path = os.readlink(f"/proc/self/fd/{fd}")
    who = ", ".join(f"pid {pid}" for pid in pids) or f"root finds it with: lsof {quoted(path)}"
    return (
        f"a process that may read the ring's file keeps a shared lock on it ({who}). End that process, and "
        f"create rings with a mode that only lets users you trust read them (mode=0o600, 0o660)"
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
            f"ring {name!r} is not initialised (block of {count(size, 'byte')}): it is being created, or its "
            f"creator died before it was done. Retry with a timeout, or remove the block"
            if size
            else f"ring {name!r} is a 0-byte file: another program is still creating it. Retry with a timeout"
        )
    if result == _core.FOREIGN:
        return errors.RingIncompatible(
            f"the block {name!r} ({count(size, 'byte')}) is not a ring of shmring: its first bytes are not "
            f"the magic {_core.MAGIC!r}. It belongs to another program; choose another name"
        )
    if result == _core.OTHER_ABI:
        found = _core.read_identity(fd).abi
        return errors.RingIncompatible(
            f"ring {name!r} has layout version {found}, this shmring reads version {_core.ABI}: use the "
            f"same version of shmring in every process. If no process uses the ring any more, the next "
            f"create replaces it, and this removes it: shmring rm {quoted(name)}"
        )
    if result == _core.TRUNCATED:
        return _lacks_pages(name, fd)
    if result == _core.CORRUPT:
        return errors.RingCorrupt(
            f"the header of ring {name!r} contradicts itself: something overwrote it. Recreate the ring"
        )
    return _limits.refused(error, f"cannot map ring {name!r}")


def cut(name: str) -> errors.RingCorrupt:
    """Explain a block that lost pages while it was mapped."""
    return errors.RingCorrupt(
        f"the file of ring {name!r} was cut while it was in use: anything read from it since then may "
        f"be zeros, and anything written is lost. Recreate the ring"
    )


def _lacks_pages(name: str, fd: int) -> errors.RingCorrupt:
    status, wanted = os.fstat(fd), _core.read_identity(fd).block_bytes
    if status.st_size < wanted:
        found = f"is truncated: the file has {count(status.st_size, 'byte')}, its header says {wanted}"
    else:
        found = (
            f"lacks pages: the file is {count(status.st_size, 'byte')} long, but has memory for "
            f"only {status.st_blocks * 512} of the {wanted} bytes in its header"
        )
    return errors.RingCorrupt(f"ring {name!r} {found}. Recreate the ring")


def cannot_open(name: str, path: str, error: OSError, readonly: bool) -> Exception:
    """Explain why the block of a name cannot be opened."""
    if isinstance(error, PermissionError):
        return denied(name, path, readonly)
    return no_file(name, path) or error


def no_file(name: str, path: str) -> errors.RingIncompatible | None:
    """Explain a name that does not belong to a file; None if it does."""
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
        f"nothing uses it: {remove} {quoted(path)}"
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
        hint += f", or run: chmod u+rw {quoted(path)}"
    return errors.RingAccessDenied(
        f"no permission to {wanted} ring {name!r}: its mode is {stat.S_IMODE(found.st_mode):#o}, "
        f"{_owner(found.st_uid)}; {hint}"
    )


def cannot_reopen(fd: int) -> errors.RingAccessDenied:
    """Explain that a process may not reopen the file of its own ring, as every handle does."""
    found = os.fstat(fd)
    return errors.RingAccessDenied(
        f"no permission to reopen the ring's file for a handle: its mode is "
        f"{stat.S_IMODE(found.st_mode):#o}, {_owner(found.st_uid)}. Create rings with a mode that lets their "
        f"owner read and write (mode=0o600, say), and open handles before you drop privileges"
    )


def cannot_remove(name: str, path: str, error: OSError) -> Exception:
    """Explain why a name cannot be removed."""
    if error.errno == errno.EROFS:
        return _limits.refused(errno.EROFS, f"cannot remove the name {name!r}")
    if not isinstance(error, PermissionError):
        return error
    try:
        uid = os.lstat(path).st_uid
    except OSError:
        return errors.RingAccessDenied(f"no permission to remove the name {name!r}: choose another name")
    owner = user_name(uid)
    return errors.RingAccessDenied(
        f"no permission to remove ring {name!r}: {_owner(uid)}. Choose another name, or let {owner} or root "
        f"remove it: sudo -u {quoted(owner)} shmring rm {quoted(name)}"
    )


def _owner(uid: int) -> str:
    mine = os.geteuid()
    return f"its owner is {user_name(uid)} (uid {uid}), this process runs as {user_name(mine)} (uid {mine})"


def attached_to(generation: bytes) -> str:
    """Name those attached to a ring without being its producer or a consumer, as far as can be known."""
    from shmring._ring import Ring

    mine = any(
        isinstance(one, Ring) and not one.readonly and one._generation == generation
        for one in list(_core.handles)
    )
    return (
        f"pid {os.getpid()}, this process, is attached to it" if mine else "another process is attached to it"
    )


def in_use(name: str, fd: int) -> errors.RingExists:
    """Name the users of a ring that was to be created."""
    identity = _core.read_identity(fd)
    if identity.result == _core.OTHER_ABI:
        return errors.RingExists(
            f"ring {name!r} exists and is in use by processes with another version of shmring (layout "
            f"version {identity.abi}, not {_core.ABI}): end them first, or choose another name"
        )
    return errors.RingExists(
        f"ring {name!r} exists and is in use ({users(name, fd)}): attach to it, pass exist_ok=True, or "
        f"choose another name"
    )


def users(name: str, fd: int) -> str:
    """Name the users of a ring."""
    who = []
    attached = "another process is attached to it"
    with contextlib.suppress(OSError, errors.ShmringError):
        block = _core.Block(fd, _core.OBSERVE, name)
        attached = attached_to(block.generation)
        state, status = block.producer_state(fd)
        if state == "live":
            who.append(f"producer {producer_of(status)}")
        who += [f"consumer {consumer_of(one)}" for one in consumer_rows(block, fd) if one["alive"]]
    return "; ".join(who) or attached


def no_ring(name: str, timeout: float | None) -> errors.RingNotFound:
    """Explain a name without a ring."""
    if timeout == 0:
        return errors.RingNotFound(
            f"there is no ring {name!r} (no block of that name in /dev/shm); create it first, check the name "
            f"(shmring ls), or wait for it (timeout=seconds)"
        )
    return errors.RingNotFound(
        f"there is no ring {name!r} (no block of that name in /dev/shm){_waited(timeout)}: start its "
        f"producer, or check the name (shmring ls)"
    )


def left_over(name: str, fd: int, timeout: float | None) -> errors.RingNotFound:
    """Explain a ring that nobody uses any more, which ends no wait."""
    created_ns = _core.read_identity(fd).created_ns
    found = f"created {age((time.time_ns() - created_ns) / 1e9)} ago"
    with contextlib.suppress(OSError, errors.ShmringError):
        state, status = _core.Block(fd, _core.OBSERVE, name).producer_state(fd)
        what = {"closed": "closed it", "none": "never came"}.get(state, "died")
        who = "its producer" if state == "none" else f"its producer (pid {status['producer_pid']})"
        found += f"; {who} {what}"
    return errors.RingNotFound(
        f"ring {name!r} is a left-over that nobody uses any more ({found}){_waited(timeout, 'no new one')}. "
        f"Start the producer, which replaces it, or read the frames left in it without waiting "
        f"(timeout=0)"
    )


def no_stream(name: str, timeout: float | None) -> errors.RingNotFound:
    """Explain that nothing came to follow."""
    if timeout == 0:
        return errors.RingNotFound(
            f"there is no ring {name!r} with a producer: start it, check the name (shmring ls), or wait for "
            f"it (timeout=seconds, None waits forever)"
        )
    within = "" if timeout is None else f" within {timeout:g} s"
    return errors.RingNotFound(
        f"no ring {name!r} with a producer came{within}: start its producer, or check the name (shmring ls)"
    )


def _waited(timeout: float | None, what: str = "none") -> str:
    return "" if timeout is None else f", and {what} came within {timeout:g} s"


def age(seconds: float) -> str:
    """Write for people how long ago something was."""
    if seconds < 120:
        return f"{max(seconds, 0):.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} d"


def elsewhere(name: str, home: Home) -> errors.RingNotFound:
    """Explain a pickled ring that has left the machine that it lies on."""
    if home.on_ray:
        do = (
            "Run this task there (NodeAffinitySchedulingStrategy), or mirror the ring to this node "
            "(shmring.ray.mirror) and attach to the mirror by its name"
        )
    else:
        do = (
            "Read it there, or send its frames here (shmring read ... | ssh ... shmring write ...) and "
            "attach by name"
        )
    return errors.RingNotFound(
        f"ring {name!r} is in the shared memory of {home.place}, which this process, on {here().place}, "
        f"cannot see: a Ring finds its ring only where that lies. {do}"
    )


def being_removed(name: str, waited: float) -> errors.RingExists:
    """Explain a name that another process began to remove or replace, and still holds."""
    return errors.RingExists(
        f"the name {name!r} is taken: another process has been removing or replacing that ring for "
        f"{waited:g} s (a stopped shmring rm, say). End that process, or choose another name"
    )


def wrong_array(found: np.ndarray, wanted: FrameFormat, many: bool) -> ValueError:
    """Explain that an array does not fit a frame, or several."""
    shape = ("n", *wanted.shape) if many else wanted.shape
    rows = " (the first axis of a frame may be shorter)" if wanted.variable_rows else ""
    return ValueError(
        f"the array has {describe_array(found.shape, found.dtype)}, "
        f"{'n frames' if many else 'a frame'} of this ring {'have' if many else 'has'} "
        f"{describe_array(shape, wanted.dtype)}{rows}; {how_to_fit(found, wanted, many)}"
    )


def how_to_fit(found: np.ndarray, wanted: FrameFormat, many: bool) -> str:
    """Advise what makes an array fit: advice that works when it is followed."""
    given, other = (found.shape[1:], found.shape) if many else (found.shape, found.shape[1:])
    if found.ndim < many or not same_shape(given, wanted):
        if found.ndim >= 1 - many and same_shape(other, wanted):
            return "put() takes one frame" if many else "put_many() takes many frames"
        if found.dtype.kind == "S" and not found.ndim:
            return "make an array of bytes: numpy.frombuffer(data, ring.dtype).reshape(ring.shape)"
        return "nothing is broadcast or reshaped"
    dtype = wanted.dtype
    if found.dtype.names is not None and dtype.names is not None and found.dtype.names != dtype.names:
        return f"its fields are {found.dtype.names}, not {dtype.names}"
    for casting in ("equiv", "safe", "same_kind"):
        if can_cast(found.dtype, dtype, casting):
            return f'nothing is cast unless you ask for it (casting="{casting}")'
    target = repr(str(dtype)) if dtype.names is None else "ring.dtype"
    return (
        f'nothing is cast unless you ask for it (casting="unsafe", or array.astype({target})), which '
        f"changes values that do not fit"
    )


def same_shape(found: tuple[int, ...], wanted: FrameFormat) -> bool:
    """Whether a shape is the frames' own."""
    shape = wanted.shape
    if wanted.variable_rows and len(found) == len(shape):
        return found[0] <= shape[0] and found[1:] == shape[1:]
    return found == shape


def can_cast(found: np.dtype, dtype: np.dtype, casting: Literal["equiv", "safe", "same_kind"]) -> bool:
    """Whether numpy casts so (numpy itself is imported when it is needed)."""
    import numpy as np

    return np.can_cast(found, dtype, casting)


def not_pickled(what: str) -> TypeError:
    """Explain what can go to another process instead."""
    if what in ("Frame", "Batch"):
        hint = f"send a copy of its array ({what.lower()}.array.copy())"
    else:
        how = "producer" if what in ("Slot", "Buffers object") else what.lower()
        hint = f"pass the Ring, and open the handle there (ring.{how}())"
    article = "an" if what == "Observer" else "a"
    return TypeError(f"{article} {what} belongs to its process and cannot be pickled or copied: {hint}")


def forked(what: str) -> errors.ForkedHandle:
    """Explain a handle that came along in a fork."""
    if what in ("Frame", "Batch"):
        do = (
            "what you see of it here is a copy, which is not in the ring's file. Ask the parent, or read the "
            "ring here, with a consumer of its own from the same Ring (it works in the child)"
        )
    elif what in ("Producer", "Slot"):
        do = (
            "a ring has one producer at a time, so open it after the fork, in the process that publishes, or "
            "close it in the parent and open one here, from the same Ring (it works in the child)"
        )
    else:
        do = "open one here, from the same Ring (it works in the child)"
    return errors.ForkedHandle(
        f"this {what} was opened before a fork and belongs to the parent process: {do}"
    )


def gating(
    block: _core.Block, consumers: list[ConsumerRow], gate: int | None, slots: int, lock_fd: int
) -> list[ConsumerRow]:
    """Return the lossless consumers, and the members of groups, whose unread frames hold the producer up."""
    if gate is None or block.status(lock_fd)["head"] < gate + slots:
        return []
    return [one for one in consumers if one["policy"] in ("lossless", "member") and one["cursor"] == gate]


def held_up(
    block: _core.Block, lock_fd: int, gate: int | None, since_ns: int, slots: int, how: str = "forever"
) -> errors.RingFull:
    """Name the consumers that hold the producer up; `how` it waits is a key of PATIENCE."""
    stalled = f", for {seconds(since_ns)} now" if since_ns >= NOTICEABLE_NS else ""
    consumers = consumer_rows(block, lock_fd)
    behind = gating(block, consumers, gate, slots, lock_fd)
    if behind:
        who = "; ".join(
            f"{consumer_of(one)}, lag {count(one['lag'], 'frame')}"
            f"{_holds_latest(one, slots)}{_not_reaped(one, lock_fd)}"
            for one in behind
        )
        groups = any(one["group"] is not None for one in behind)
        latest = any(_holds_latest(one, slots) for one in behind)
        last = "add members to the group" if groups else "make that consumer lossy"
        release = ["release frames earlier"] if latest else []
        advice = ", ".join([*PATIENCE[how], *release, "use more slots", 'drop frames (on_full="drop")'])
        return errors.RingFull(
            f"ring {block.name!r} is full: all {slots} slots hold frames that "
            f"{'a group' if groups else 'a lossless consumer'} has not read"
            f"{', or took last and holds' if latest else ''}{stalled}: {who}. "
            f"{KEEPS_LATEST if latest else ''}{advice[0].upper()}{advice[1:]}, or {last}"
        )
    holding = [one for one in consumers if one["held"]]
    if not holding:
        return errors.RingFull(
            f"ring {block.name!r} was full for {seconds(since_ns)}, but has space again now: retry"
        )
    unread = [one for one in consumers if one["policy"] in ("lossless", "member") and one["lag"]]
    there = [one for one in consumers if one in holding or one in unread]
    who = "; ".join(
        f"{consumer_of(one)}{_holds(one)}{_lags(one, unread)}{_not_reaped(one, lock_fd)}" for one in there
    )
    return errors.RingFull(
        f"ring {block.name!r} is full: its {slots} slots are held or unread{stalled}: {who}. "
        f"Release frames earlier (frame.release(), del), copy what must be kept (frame.array.copy()), or use "
        f"more slots"
    )


def _holds_latest(one: ConsumerRow, slots: int) -> str:
    """Say how many frames it holds if some of them, not unread ones alone, gate the producer."""
    return f",{_holds(one)}" if one["policy"] == "lossless" and one["lag"] < slots and one["held"] else ""


def _holds(one: ConsumerRow) -> str:
    return f" holds {count(one['held'], 'frame')}" if one["held"] else ""


def _lags(one: ConsumerRow, unread: list[ConsumerRow]) -> str:
    return f", lag {count(one['lag'], 'frame')}" if one in unread else ""


def waits_for_itself(
    block: _core.Block, lock_fd: int, gate: int | None, slots: int
) -> errors.SlotsHeld | None:
    """Explain a producer's wait that only its own thread could end; None if another process can."""
    own = _core.own_places(block)
    if not own:
        return None
    consumers = consumer_rows(block, lock_fd)
    behind = gating(block, consumers, gate, slots, lock_fd)
    shared = {one["group"] for one in behind if one["place"] not in own}  # another process may take those
    behind = [one for one in behind if one["place"] in own and one["group"] not in shared - {None}]
    if behind:
        one = behind[0]
        what = f"has not read {count(one['lag'], 'frame')}{_holds_latest(one, slots)}"
    else:
        holding = [one for one in consumers if one["held"]]
        if not holding or any(one["place"] not in own for one in holding):
            return None
        one = holding[0]
        what = f"holds {count(one['held'], 'frame')}"
    label = f" {one['label']!r}" if one["label"] else ""
    return errors.SlotsHeld(
        f"waiting for space in ring {block.name!r} would never end: a consumer{label} of this process "
        f"(pid {one['pid']}) {what}, all {slots} slots are taken, and no other thread is running that "
        f"could read or release them. Read or release frames before you put more, give each side its own "
        f'thread or process, pass a timeout, or use more slots or on_full="drop"'
    )


def still_waiting(what: str, why: Exception) -> None:
    """Report what a wait without a timeout is waiting for: in the log and, at a prompt, by a warning."""
    at_prompt = hasattr(sys, "ps1")
    if at_prompt:
        warnings.warn(f"{what} is still waiting: {why}", UserWarning, stacklevel=2)
    try:
        import logging  # here: importing shmring would take half as long again
    except OSError:  # without a descriptor for its file; no reason to end the wait
        return
    logger = logging.getLogger("shmring")
    if logger.hasHandlers() or not at_prompt:  # else logging would print it twice
        logger.warning("%s is still waiting: %s", what, why)


def not_awaitable(one: object, call: str) -> str:
    """Say what a call takes that waits for several rings."""
    advice = {
        "Observer": "; an Observer takes no part in the ring: join it with ring.consumer(lossless=False)",
        "Ring": "; join the ring with ring.consumer()",
        "Follower": "; wait for the consumer of the ring that it reads",
    }.get(type(one).__name__, "")
    return f"{call}() takes Consumers, not {type(one).__name__}{advice}"


def nothing_ready(consumers: list[_core.Consumer], seconds: float) -> errors.RingEmpty:
    """Explain a timeout of a wait for several rings."""
    names = ", ".join(dict.fromkeys(repr(one.name) for one in consumers))
    return errors.RingEmpty(f"no new frame in any of the rings {names}{within(seconds)}")


def no_set(awaited: list[_core.Consumer], seconds: float) -> errors.RingEmpty:
    """Explain a timeout of an alignment."""
    names = ", ".join(repr(one.name) for one in awaited)
    return errors.RingEmpty(
        f"no set of matching frames{within(seconds)}; what decides is the next frame of {names}"
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
            f"ring {block.name!r} has no live producer, but none can open it either: "
            f"{reader_in_the_way(lock_fd, _core.LOCK_PRODUCER)}"
        )
    if result == _core.PRODUCER_EXISTS:
        status = block.status(lock_fd)
        ended = (_core.PRODUCER_NONE, _core.PRODUCER_CLOSED, _core.PRODUCER_FAILED)
        opening = status["producer_state"] in ended
        who = "a process that is opening it right now" if opening else producer_of(status)
        return errors.ProducerExists(
            f"ring {block.name!r} already has a live producer: {who}. A ring has one producer at a time: "
            f"close that one first, or use another ring"
        )
    if result == _core.CORRUPT:
        return errors.RingCorrupt(
            f"ring {block.name!r} cannot be taken over: two published frames claim the same slot, so "
            f"something overwrote its entries. Recreate the ring"
        )
    return _limits.refused(error, f"cannot become the producer of ring {block.name!r}")


def cannot_join(
    result: int, block: _core.Block, lock_fd: int, error: int, group: str | None = None
) -> Exception:
    """Explain why this process cannot join."""
    if result == _core.OTHER_GROUP:
        return _other_group(group, block, lock_fd)
    if result == _core.NO_GROUP:
        return errors.TooManyConsumers(
            f"ring {block.name!r} has room for {_core.MAX_GROUPS} groups, and all have members: "
            f"{_groups(block, lock_fd)}. Join one of them, or end the members of one"
        )
    if result == _core.TIMEOUT:
        return errors.RingNotReady(
            f"cannot join group {group!r} of ring {block.name!r}: another process is joining a group, and is "
            f"not done after a second. Retry; if that process is stopped, continue it (kill -CONT) or end it"
        )
    if result == _core.NO_PLACE:
        blocked = [byte for byte in map(_core.lock_place, range(block.consumers))
                   if _core.lock_blocked(lock_fd, byte)]  # fmt: skip
        living = [one for one in consumer_rows(block, lock_fd) if one["alive"]]
        who = "; ".join(map(consumer_of, living))
        if blocked:
            return errors.TooManyConsumers(
                f"ring {block.name!r} has {count(block.consumers, 'place')} for consumers: living ones have "
                f"{len(living)}{who and ': '}{who}, and {len(blocked)} cannot be taken: "
                f"{reader_in_the_way(lock_fd, blocked[0])}"
            )
        return errors.TooManyConsumers(
            f"ring {block.name!r} has {count(block.consumers, 'place')} for consumers, and living ones have "
            f"{'it' if block.consumers == 1 else 'all'}: {who}. Close one, or create the ring with more "
            f"(consumers=..., at most {_core.MAX_CONSUMERS})"
        )
    return _limits.refused(error, f"cannot join ring {block.name!r}")


def _other_group(group: str | None, block: _core.Block, lock_fd: int) -> ValueError:
    found = {one["name"]: one["at_most_once"] for one in block.group_statuses(lock_fd)}.get(group)
    return ValueError(
        f"group {group!r} of ring {block.name!r} exists with at_most_once={found}, and all of its members "
        f"need the same: pass at_most_once={found}, or choose another name for the group"
    )


def _groups(block: _core.Block, lock_fd: int) -> str:
    """Name the groups, and their members."""
    members: dict[str, list[str]] = {}
    for one in consumer_rows(block, lock_fd):
        if one["group"] is not None:
            who = process(one["pid"], one["start_time"], one["label"])
            members.setdefault(one["group"], []).append(who)
    return "; ".join(f"group {name!r}: {', '.join(those)}" for name, those in members.items())


def no_frame(
    block: _core.Block, least: int, timeout: float, lock_fd: int, group: str | None = None
) -> errors.RingEmpty:
    """Explain a timeout of a consumer."""
    state, status = block.producer_state(lock_fd)
    others = _may_come_back(block, lock_fd, group) if state in ENDS else ""
    name = block.name

    def message() -> str:
        wanted = "no new frame" if least == 1 else f"fewer than {count(least, 'new frame')}"
        return (
            f"{wanted} in ring {name!r}{within(timeout)}; {_state_of(state, status)}, "
            f"{count(status['head'], 'frame')} published so far{others}"
        )

    return errors.RingEmpty(Later(message))


def _state_of(state: ProducerState, status: RingStatus) -> str:
    """Say how the producer is."""
    if state == "live":
        return f"the producer ({producer_of(status)}) is alive"
    if state == "failed":
        return f"the producer (pid {status['producer_pid']}) failed: {clean(status['failure'])}"
    if state == "died":
        return f"the producer (pid {status['producer_pid']}) died"
    return "the producer has closed" if state == "closed" else "no producer has come yet"


def _may_come_back(block: _core.Block, lock_fd: int, group: str | None) -> str:
    """Name the members of a group whose frames another one gets if they die."""
    if group is None:
        return ""
    own = _core.own_places(block)
    rows = [one for one in consumer_rows(block, lock_fd) if one["group"] == group]
    holding = [one for one in rows if one["held"] and one["place"] not in own]
    if not holding:
        return ""
    who = "; ".join(
        f"{process(one['pid'], one['start_time'], one['label'])} holds {one['held']}" for one in holding
    )
    return f". Group {group!r} is not done: if a member dies, another one gets its frames ({who})"


def _what_is_left(status: RingStatus, left: int) -> str:
    published = f"{count(status['head'], 'frame')} published"
    if left == 0:
        return f"{published}, none left to read"
    return f"{published}; {count(left, 'frame')} left to read with get(), fewer than you asked for"


def stream_ended(block: _core.Block, lock_fd: int, left: int = 0) -> errors.RingClosed:
    """Explain the end of a stream, of which frames may be left if a window was asked for."""
    return errors.RingClosed(
        f"the producer of ring {block.name!r} closed it; {_what_is_left(block.status(lock_fd), left)}"
    )


def producer_died(block: _core.Block, lock_fd: int, left: int = 0) -> errors.ProducerDied:
    """Explain a dead producer."""
    status = block.status(lock_fd)
    return errors.ProducerDied(
        f"the producer of ring {block.name!r} (pid {status['producer_pid']}) ended without closing it; "
        f"{_what_is_left(status, left)}. To continue with the next producer, join with wait_for_takeover=True"
    )


def producer_failed(block: _core.Block, lock_fd: int, left: int = 0) -> errors.ProducerFailed:
    """Explain a stream that ended by an error of the producer."""
    status = block.status(lock_fd)
    error = errors.ProducerFailed(
        f"the producer of ring {block.name!r} ({producer_of(status)}) failed: {clean(status['failure'])}; "
        f"{_what_is_left(status, left)}. To continue with the next producer, join with wait_for_takeover=True"
    )
    error.failure = status["failure"]
    return error


ENDS = {"closed": stream_ended, "failed": producer_failed, "died": producer_died}
"""What a reader raises once it has passed every frame, by the producer's state."""


def slots_held(block: _core.Block, least: int, held: int, max_held: int | None) -> errors.SlotsHeld:
    """Explain a wait that could never end."""
    wanted, holds, every = count(least, "more frame"), count(held, "frame"), block.slots + block.spares
    if max_held is not None:
        return errors.SlotsHeld(
            f"ring {block.name!r} cannot give you {wanted}: this lossy consumer holds {holds}, and may hold "
            f"{count(max_held, 'slot')} of {every}, so that it never stops the producer. Release some "
            f"(frame.release(), del), copy what must be kept, or let it hold more (max_held=..., in a ring "
            f"with more slots or spares)"
        )
    return errors.SlotsHeld(
        f"waiting for {wanted} of ring {block.name!r} would never end: this consumer itself holds {holds} of "
        f"{every} slots. Release some (frame.release(), del), copy what must be kept, or use more slots"
    )


def no_share(block: _core.Block, lock_fd: int, place: int, slots: int) -> errors.TooManyConsumers:
    """Explain why a lossy consumer may not hold so many slots."""
    others = [
        one
        for one in consumer_rows(block, lock_fd)
        if one["place"] != place and one["policy"] in ("lossy", "left")
    ]
    who = "; ".join(f"{consumer_of(one)} may hold {one['max_held'] or one['held']}" for one in others)
    return errors.TooManyConsumers(
        f"max_held={slots} is more than others leave of the {most_held(block)} slots that lossy consumers of "
        f"ring {block.name!r} may hold: {who}. Ask for less, close one of those, or create the ring with "
        f"spares={block.spares + slots} or more"
    )


def most_held(block: _core.Block) -> int:
    """How many slots all lossy consumers of a ring may hold: what the producer can do without."""
    every = block.slots + block.spares
    return every - 2 if every > 3 else every - 1


def never_held(block: _core.Block, slots: int) -> ValueError:
    """Explain why a lossy consumer may not hold so many slots, even if it is the only one."""
    most, every = most_held(block), block.slots + block.spares
    return ValueError(
        f"max_held={slots}, but a lossy consumer of ring {block.name!r} may hold {most} at most: of its "
        f"{every} slots, the producer keeps {every - most}. Ask for less, or create the ring with "
        f"spares={block.spares + slots - most} or more"
    )


def too_few_consumers(block: _core.Block, least: int, lock_fd: int, timeout: float) -> errors.TooFewConsumers:
    """Explain a timeout of wait_for_consumers."""
    found = [one for one in consumer_rows(block, lock_fd) if one["policy"] != "left"]
    who = "; ".join(map(consumer_of, found)) or "nobody"
    return errors.TooFewConsumers(
        f"{len(found)} of {count(least, 'consumer')} joined ring {block.name!r}{within(timeout)}: {who}"
    )
