import sys
import weakref
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Final, Literal, TypeAlias, TypedDict, final, type_check_only

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

from shmring._format import FrameFormat
from shmring._ring import Ring

MAGIC: Final[bytes]
ABI: Final[int]
MAX_CONSUMERS: Final[int]
MAX_GROUPS: Final[int]
MAX_SLOTS: Final[int]
HUGE_PAGE_BYTES: Final[int]
MAX_SCHEMA: Final[int]
MAX_META: Final[int]
LABEL_BYTES: Final[int]
LOCK_PRODUCER: Final[int]
LOCK_PRESENCE: Final[int]
PRESENCE_BYTES: Final[int]
EXCLUSIVE: Final[int]
UNLOCKED: Final[int]
OBSERVE: Final[int]
CONSUME: Final[int]
PRODUCE: Final[int]
NOT_READY: Final[int]
FOREIGN: Final[int]
OTHER_ABI: Final[int]
TRUNCATED: Final[int]
CORRUPT: Final[int]
PRODUCER_EXISTS: Final[int]
NO_PLACE: Final[int]
NO_GROUP: Final[int]
OTHER_GROUP: Final[int]
TIMEOUT: Final[int]
PRODUCER_NONE: Final[int]
PRODUCER_CLOSED: Final[int]
PRODUCER_FAILED: Final[int]
POLICIES: Final[dict[int, str]]
PRODUCER_STATES: Final[dict[int, str]]

_Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
_Casting: TypeAlias = Literal["no", "equiv", "safe", "same_kind", "unsafe"]

@type_check_only
class RingStatus(TypedDict):
    head: int
    next_seq: int
    epoch: int
    start_time: int
    dropped: int
    swaps: int
    active: int
    producer_state: int
    producer_pid: int
    failure: str

handles: weakref.WeakSet[Any]
patience: float

def warn_unclosed(kind: str, name: str, left: str = "") -> None:
    """Warn, as for files, that a handle is collected that nobody closed."""

def notice_is_due(waited: float, given: int) -> bool:
    """Whether a wait without a timeout is due for a notice of what it waits for: after 5, 10, 20, ... s."""

def check_timeout(timeout: float | None) -> None:
    """Raise unless `timeout` is valid."""

def check_flag(what: str, value: object) -> bool:
    """Return a flag as bool; TypeError for anything but a bool."""

def check_word(what: str, value: object, words: Iterable[str]) -> str:
    """Return a value that is one of the words; TypeError or ValueError, with all of them, if it is not."""

def format_block(fd: int, geometry: Geometry, generation: bytes) -> None:
    """Write a fresh ring into the block behind fd, which nobody else uses yet."""

def open_block(name: str, access: int) -> int:
    """Return a descriptor of the block of that name; OSError if there is none."""

def watch_names(folder: str) -> int:
    """Return a descriptor that is readable once a file in the folder gets a name; -1 if there can be none."""

def reopen(fd: int, writable: bool) -> int:
    """Return a new open file description of the file behind fd, with no locks and no mapping."""

def link(fd: int, path: str) -> None:
    """Give the nameless file behind fd a name; FileExistsError if it is taken."""

def lock(fd: int, byte: int, type: int, length: int = 1) -> bool:
    """Take or drop this description's lock on bytes; False if another one is there."""

def lock_held(fd: int, byte: int, length: int = 1) -> bool:
    """Return whether another description, open for writing, holds a lock on one of the bytes."""

def lock_blocked(fd: int, byte: int) -> bool:
    """Return whether a shared lock, for which read permission is enough, keeps us from a byte."""

def lock_place(place: int) -> int:
    """Return the byte whose lock means owning a place of the consumer table."""

def read_identity(fd: int) -> Identity:
    """Read the header of the block behind fd, out of its file."""

def survive_truncation() -> None:
    """Get RingCorrupt instead of a killed process when the file of a ring is cut while in use.

    A process that may write to a ring's file may also make it shorter. The kernel answers the next touch
    of a lost page with the signal SIGBUS, which ends the process. This installs a handler for that signal, in
    the whole process and for all of its rings, attached before or later. When a lost page is touched, it
    puts zeros in the place of that page and of all that follow it in the file, and the calls of shmring
    raise RingCorrupt from then on.

    Frames that are held read as zeros where their pages are gone, *without* an exception: check that a
    call on the ring still works before you trust what you read. Closing and releasing still work. System
    calls on a lost page (``os.write(fd, frame)``) fail with EFAULT.

    Every other SIGBUS does what it did before: it goes to the handler installed earlier, or ends the process.
    Install other handlers of this signal first, such as ``faulthandler.enable()``. Calling it again does
    nothing. Forked children have the handler too; programs started by exec do not.

    Raises
    ------
    RuntimeError
        Another handler was installed after the first call: the two would pass signals on to each other.
    OSError
        The kernel refused.

    Examples
    --------
    >>> import shmring
    >>> shmring.survive_truncation()
    """

@final
class LockFile:
    """A descriptor for locks: of a description of its own, never mapped, and closed in forked children.

    It is closed with its last reference. For locks that a child must not keep alive, whenever it is forked.
    """

    def __new__(cls, fd: int) -> LockFile: ...
    def close(self) -> None:
        """Close it, which drops its locks. May be called twice."""
    @property
    def fd(self) -> int:
        """The descriptor, -1 once it is closed."""

@final
class Geometry:
    """The slots and places of a new ring, and where everything lies in its block: chosen once."""

    def __new__(
        cls, frame_format: FrameFormat, slots: int, spares: int, consumers: int, schema: bytes
    ) -> Geometry: ...
    @property
    def schema(self) -> bytes: ...
    @property
    def slots(self) -> int:
        """What was asked for, rounded up so that the slots are whole pages."""
    @property
    def spares(self) -> int:
        """What was asked for, and as many more as fit into the last page."""
    @property
    def block_bytes(self) -> int: ...
    @property
    def most_huge_bytes(self) -> int:
        """Bytes of the slots that huge pages can hold."""
    def make_huge(self, fd: int, begin: int, end: int) -> int:
        """Put huge pages under the slots in these bytes of the file; 0, or the errno if not all are huge."""
    def huge_bytes(self, fd: int) -> int:
        """Return how many bytes of the slots lie on huge pages."""

@final
class Identity:
    """What the header of a block says, as far as it can be read; `result` says whether it is a ring."""

    @property
    def result(self) -> int: ...
    @property
    def abi(self) -> int: ...
    @property
    def generation(self) -> bytes: ...
    @property
    def block_bytes(self) -> int: ...
    @property
    def created_ns(self) -> int: ...
    @property
    def creator_pid(self) -> int: ...

@final
class Block:
    """A block. Mapped, unless it is only looked at, until the last handle, frame and view on it is gone."""

    def __new__(cls, fd: int, access: int, name: str) -> Block: ...
    @property
    def name(self) -> str: ...
    @property
    def access(self) -> int: ...
    @property
    def slots(self) -> int: ...
    @property
    def spares(self) -> int: ...
    @property
    def frame_bytes(self) -> int: ...
    @property
    def meta_bytes(self) -> int: ...
    @property
    def row_bytes(self) -> int: ...
    @property
    def consumers(self) -> int: ...
    @property
    def block_bytes(self) -> int: ...
    @property
    def generation(self) -> bytes: ...
    @property
    def schema(self) -> bytes: ...
    @property
    def most_huge_bytes(self) -> int:
        """Bytes of the slots that huge pages can hold."""
    def huge_bytes(self, fd: int) -> int:
        """Return how many bytes of the slots lie on huge pages, by its file."""
    def prefault(self, lock_memory: bool) -> None:
        """Touch every page of the slots, so that no frame pays for a page fault."""
    def status(self, fd: int) -> RingStatus:
        """Return the ring's counters as a dict, read from its file."""
    def producer_state(
        self, fd: int
    ) -> tuple[Literal["none", "live", "closed", "failed", "died"], RingStatus]:
        """Return how the producer is, in a word, and the ring's counters, read from its file."""
    def place_statuses(self, fd: int) -> list[dict[str, Any]]:
        """Return the taken places of the consumer table as dicts, read from the ring's file."""
    def group_statuses(self, fd: int) -> list[dict[str, Any]]:
        """Return the groups that have members as dicts, read from the ring's file."""
    def participants(self, fd: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]], int]:
        """Return both at one look, and how many slots are held that no entry names any more."""
    def copy_frame(
        self, fd: int, position: int, target: _Array, meta: _Array | None
    ) -> tuple[int, int, int, int] | None:
        """Copy the frame of a position out of the ring's file; (seq, timestamp_ns, rows, epoch), or None."""

@final
class Schema:
    """The format of a ring's frames, ready for numpy's C-API."""

    def __new__(cls, frame_format: FrameFormat) -> Schema: ...
    @property
    def frame_format(self) -> FrameFormat: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def meta_dtype(self) -> np.dtype[Any] | None: ...
    @property
    def variable_rows(self) -> bool: ...

@final
class SlotMemory:
    """Memory of claimed slots, or scratch memory; writable until the claim ends."""

    if sys.version_info >= (3, 12):
        def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class Slot:
    """Claimed slots to write in place: from ``Producer.claim()``.

    As a context manager it publishes at the end, also at a ``break`` or ``return``: call `abort` first if
    there is no frame. If the block ends early and nothing seems to have been written into `array`, a
    warning is logged. An exception in the block aborts, and no consumer ever sees the frame. Use it in the
    thread that claimed it.

    Examples
    --------
    >>> import shmring
    >>> with shmring.Ring.create(shape=(2,), dtype="f4", slots=4) as ring, ring.producer() as out:
    ...     with out.claim() as slot:
    ...         slot.array[:] = 1.5
    """

    def __init__(self, /, *args: Any, **kwargs: Any) -> None: ...
    @property
    def array(self) -> _Array:
        """Writable ndarray on the slot: the ring's shape, or ``(count, *shape)`` for ``claim(n > 1)``.

        Its content before you write is undefined.

        Once the slot is published or aborted, the array becomes read-only. Views made from it stay writable,
        because numpy cannot change them: do not write through them, the slot is no longer yours.
        """
    @property
    def count(self) -> int:
        """Frames claimed: 1 to the `n` asked for, as many as were free and adjacent."""
    @property
    def seq(self) -> int:
        """Seq that the first frame gets when it is published."""
    @property
    def dropped(self) -> bool:
        """True if the ring was full under ``on_full="drop"``: the array is scratch memory."""
    @property
    def block_offset(self) -> int:
        """Where `array` begins in the ring's file, in bytes: for programs that take (name, offset, size).

        The bytes there are yours to write until the slot is published or aborted.
        """
    @property
    def timestamp_ns(self) -> int | npt.ArrayLike | None:
        """Timestamp in nanoseconds, None: CLOCK_MONOTONIC at publish; a sequence for ``n > 1``."""
    @timestamp_ns.setter
    def timestamp_ns(self, value: int | npt.ArrayLike | None) -> None: ...
    @property
    def meta(self) -> Any:
        """Meta of the frame (settable; a sequence for ``n > 1``); zeros unless set."""
    @meta.setter
    def meta(self, value: Any) -> None: ...
    @property
    def rows(self) -> int:
        """Valid length of the first axis (settable, only in a ring with variable_rows)."""
    @rows.setter
    def rows(self, value: int) -> None: ...
    def publish(self, count: int | None = None) -> None:
        """Make the frames visible to every consumer.

        Parameters
        ----------
        count : int, optional
            Publish the first `count` of them only, and give the rest back unseen. Default: all.

        Raises
        ------
        ValueError
            If `count` is out of range, or the slot was published or aborted before.
        RingCorrupt
            After `survive_truncation`: the ring's file was cut.
        """
    def abort(self) -> None:
        """Give the slots back unseen; the next frame gets their seq."""
    def __enter__(self) -> Slot: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

@final
class Buffers:
    """Slots that a driver fills, several at once and in order: from ``Producer.buffers()``.

    `refill` claims buffers up to the number asked for and returns those that the driver does not have yet;
    when the driver says that the oldest is full, `publish` it, or `drop` it if it is damaged. A buffer keeps
    its address, and nobody else writes there, until it is published.

    A context manager: at its end, and at an exception, the buffers that are not published go back unseen. Let
    the driver stop before that. Use it in one thread at a time.

    Examples
    --------
    >>> import shmring
    >>> with shmring.Ring.create(shape=(2,), dtype="f4", slots=8) as ring, ring.producer() as out:
    ...     with out.buffers(3) as queue:
    ...         waiting = queue.refill()  # for the driver
    ...         waiting.pop(0)[:] = 1.5  # it fills the first one
    ...         _ = queue.publish()
    ...         waiting += queue.refill()
    ...     len(waiting), out.published
    (3, 1)
    """

    def __init__(self, /, *args: Any, **kwargs: Any) -> None: ...
    def refill(self, timeout: float | None = None) -> list[_Array]:
        """Claim buffers until there are as many as asked for, as far as there is space.

        It waits for space only if no buffer is left, because a driver that has one has work to do. Call it
        after each frame, and from time to time while none comes.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for the first buffer; None waits forever, 0 never waits. With ``on_full="raise"``
            it never waits.

        Returns
        -------
        list of ndarray
            The buffers that the driver does not have yet, in the order in which it is to fill them: writable
            arrays of the ring's shape. Their content before you write is undefined.

        Raises
        ------
        RingFull
            No buffer is left, and there was no space in time; the message names the process that holds it up.
        SlotsHeld
            Without a timeout: only this thread could make space, by reading or releasing frames.
        RingClosed, ForkedHandle, HandleBusy, ValueError
            The producer cannot be used: closed, of another process, in use; or the buffers were given back.
        """
    def publish(self, *, timestamp_ns: int | None = None, meta: Any = None, rows: int | None = None) -> bool:
        """Publish the oldest buffer; its array becomes read-only, but not the views that you took of it.

        Parameters
        ----------
        timestamp_ns : int, optional
            Nanoseconds; default: CLOCK_MONOTONIC now.
        meta : optional
            Value for the ring's meta dtype, as in `Producer.put`.
        rows : int, optional
            Valid length of the first axis; only in a ring with ``variable_rows``, whose default is all.

        Returns
        -------
        bool
            True if published. False if it was dropped: with ``on_full="drop"``, if there is no space for one
            more buffer, so that the driver never has fewer. The next `refill` returns its memory.

        Raises
        ------
        ValueError
            The driver has no buffer, or the buffers were given back, or a meta that would change.
        RingClosed, ForkedHandle, HandleBusy
            The producer cannot be used.
        """
    def drop(self) -> None:
        """Do not publish the oldest buffer, because it is damaged: consumers count a lost frame.

        The next `refill` returns its memory, so that the driver can fill it again.

        Raises
        ------
        RingClosed, ForkedHandle, HandleBusy, ValueError
            As for `publish`.
        """
    @property
    def oldest(self) -> _Array | None:
        """The array of the buffer that the driver fills first; None if it has none."""
    def __len__(self) -> int: ...
    def close(self) -> None:
        """Give the buffers back unseen; the next frame gets their seq. May be called twice."""
    def __enter__(self) -> Buffers: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

@final
class Producer:
    """Publishes frames: from ``Ring.producer()``. A ring has one producer at a time.

    A context manager; leaving it closes the stream, and the consumers' iterations end once they have
    read everything. If an exception leaves it, they get ProducerFailed instead. KeyboardInterrupt,
    ``sys.exit()``, a cancelled task and a closed generator count as regular ends.
    """

    def __init__(self, /, *args: Any, **kwargs: Any) -> None: ...
    def _open(self, lock: LockFile) -> Producer: ...
    def _enter_child(self) -> None: ...
    def claim(self, n: int = 1, timeout: float | None = None) -> Slot:
        """Claim free slots to write in place.

        Parameters
        ----------
        n : int
            Frames wanted. ``slot.count`` says how many were free and adjacent in memory: 1 to `n`.
        timeout : float, optional
            Seconds to wait for space under ``on_full="wait"``; None waits forever, 0 never waits.

        Returns
        -------
        Slot
            ``slot.array`` has the ring's shape, or ``(count, *shape)`` if `n` > 1. With
            ``on_full="drop"`` and a full ring it is scratch memory and ``slot.dropped`` is True.

        Raises
        ------
        RingFull
            No space in time; the message names the process that holds it up.
        SlotsHeld
            Without a timeout: only this thread could make space, by reading or releasing frames.
        RingClosed, ForkedHandle, HandleBusy, ValueError
            The handle cannot be used: closed, of another process, in use, or with a claim open.
        """
    def buffers(self, n: int) -> Buffers:
        """Let a driver fill several slots in order, whose addresses it knows in advance.

        Parameters
        ----------
        n : int
            Buffers that the driver has at the same time: fewer than the ring has slots. Consumers have the
            other slots; where one of them holds the producer back, the driver has fewer buffers.

        Returns
        -------
        Buffers
            Use it in a `with` block. Until its end `claim`, `put` and `drop` of the producer are refused.

        Raises
        ------
        ValueError
            `n` is not 1 to ``ring.slots - 1``; or a claim is open.
        RingClosed, ForkedHandle, HandleBusy
            The handle cannot be used: closed, of another process, in use.
        """
    def put(
        self,
        array: npt.ArrayLike,
        *,
        timestamp_ns: int | None = None,
        meta: Any = None,
        timeout: float | None = None,
        casting: _Casting = "no",
    ) -> bool:
        """Copy one frame into the ring and publish it.

        Parameters
        ----------
        array : array_like
            Exactly the ring's shape and dtype; with ``variable_rows`` the first axis may be shorter.
        timestamp_ns : int, optional
            Nanoseconds; default: CLOCK_MONOTONIC at publish.
        meta : optional
            Value for the ring's meta dtype: a tuple or a dict of every field, or a number; one that would
            change is refused. Default: zeros.
        timeout : float, optional
            Seconds to wait for space under ``on_full="wait"``; None waits forever, 0 never waits.
        casting : {"no", "equiv", "safe", "same_kind", "unsafe"}
            Which other dtypes are cast to the ring's, by numpy's rules. The shape must always match:
            nothing is broadcast.

        Returns
        -------
        bool
            True if published, False if dropped (``on_full="drop"``; its seq is skipped).

        Raises
        ------
        ValueError
            Another shape or dtype, a masked array, or a meta that would change; nothing is published.
        RingFull
            No space in time; the message names the process that holds it up.
        SlotsHeld
            Without a timeout: only this thread could make space, by reading or releasing frames.
        RingClosed, ForkedHandle, HandleBusy
            The handle cannot be used.

        Examples
        --------
        >>> import numpy as np, shmring
        >>> with shmring.Ring.create(shape=(2,), dtype="f4", slots=4) as ring, ring.producer() as out:
        ...     out.put(np.ones(2, "f4"))
        True
        """
    def drop(self, n: int = 1) -> None:
        """Skip the seqs of `n` frames that do not exist, as a replay does where frames were lost.

        They count as dropped, and every consumer sees the gap.

        Parameters
        ----------
        n : int

        Raises
        ------
        RingClosed, ForkedHandle, HandleBusy, ValueError
            The handle cannot be used: closed, of another process, in use, or with a claim open.

        Examples
        --------
        >>> import numpy as np, shmring
        >>> with shmring.Ring.create(shape=(2,), dtype="f4", slots=4) as ring:
        ...     with ring.producer() as out, ring.consumer() as frames:
        ...         out.drop(2)
        ...         _ = out.put(np.ones(2, "f4"))
        ...         frames.get(timeout=1).lost
        2
        """
    def put_many(
        self,
        array: npt.ArrayLike,
        *,
        timestamps_ns: npt.ArrayLike | None = None,
        metas: Sequence[Any] | _Array | None = None,
        timeout: float | None = None,
        casting: _Casting = "no",
    ) -> int:
        """Copy many frames into the ring and publish them, in batches as large as there is space.

        Parameters
        ----------
        array : array_like
            Shape ``(n, *shape)`` and the ring's dtype.
        timestamps_ns : array_like of int, optional
            One for each frame; default: CLOCK_MONOTONIC at publish.
        metas : sequence, optional
            One for each frame, also for a single one.
        timeout : float, optional
            Seconds to wait for space in all; None waits forever, 0 never waits.
        casting : str
            As in `put`.

        Returns
        -------
        int
            Frames published. Fewer than n if the time ran out after some, or some were dropped.

        Raises
        ------
        ValueError
            Another shape or dtype; the message has both, and nothing is published.
        RingFull
            No space in time for the first frame.
        SlotsHeld
            Without a timeout: only this thread could make space, by reading or releasing frames.
        """
    def wait_for_consumers(self, n: int = 1, timeout: float | None = None) -> int:
        """Sleep until at least `n` consumers (of either policy) have joined.

        Parameters
        ----------
        n : int
        timeout : float, optional
            Seconds; None waits forever, 0 never waits.

        Returns
        -------
        int
            Consumers joined.

        Raises
        ------
        TooFewConsumers
            Fewer in time; the message names those that have joined.
        """
    def close(self, error: str | BaseException | None = None) -> None:
        """End the stream: consumers read what is left, then their iterations end. May be called twice.

        A claim that is still open is aborted. While another thread waits in this handle, that thread
        closes it and gets RingClosed.

        Parameters
        ----------
        error : str or BaseException, optional
            Why the stream ends too early: consumers read what is left, and then get ProducerFailed with this
            text, of which the ring keeps 79 bytes. Leaving the ``with`` block by an exception does the same.

        Examples
        --------
        >>> import shmring
        >>> with shmring.Ring.create(shape=(2,), dtype="f4", slots=4) as ring, ring.consumer() as frames:
        ...     ring.producer().close(error="camera unplugged")
        ...     try:
        ...         frames.get(timeout=1)
        ...     except shmring.ProducerFailed as failed:
        ...         print(failed.failure)
        camera unplugged
        """
    def abandon(self) -> None:
        """Leave the ring as if this process had died, without an end of the stream. May be called twice.

        For a program that forwards a stream and finds that its source died: its own consumers get what is
        left and then ProducerDied, or wait for the next producer. A claim that is still open is aborted.

        Examples
        --------
        >>> import shmring
        >>> with shmring.Ring.create(shape=(2,), dtype="f4", slots=4) as ring, ring.consumer() as frames:
        ...     ring.producer().abandon()
        ...     try:
        ...         frames.get(timeout=1)
        ...     except shmring.ProducerDied:
        ...         print("died", ring.stats().producer.state)
        died died
        """
    def _end(self, failure: bytes | None, how: int = ...) -> None: ...
    def __enter__(self) -> Producer: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
    @property
    def ring(self) -> Ring:
        """The Ring that this producer was opened from; it stays open for as long as the producer exists."""
    @property
    def name(self) -> str:
        """Name of the ring."""
    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one frame."""
    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of one frame."""
    @property
    def dropped(self) -> int:
        """Frames that the ring's producers offered but had to drop."""
    @property
    def published(self) -> int:
        """Frames that this producer published."""
    @property
    def next_seq(self) -> int:
        """Seq of the next frame."""
    @property
    def epoch(self) -> int:
        """Which producer of the ring this is, from 1."""
    @property
    def on_full(self) -> Literal["wait", "drop", "raise"]:
        """What to do with a full ring: "wait", "drop" or "raise"."""
    @property
    def closed(self) -> bool:
        """Whether this handle is closed, or belongs to the parent of a fork."""

@final
class Lease:
    """Base of every array on held slots: the hold ends when the last of them is gone."""

    if sys.version_info >= (3, 12):
        def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class PrivateMemory:
    """Base of a private array: pages of held slots, each of them copied when it is first written to."""

    if sys.version_info >= (3, 12):
        def __buffer__(self, flags: int, /) -> memoryview: ...

@disjoint_base
class Held:
    """Common part of Frame and Batch: a hold on slots, an array made when first asked for.

    What only a Frame has is in here too: the free list serves objects of exactly this size.
    """

    def __init__(self, /, *args: Any, **kwargs: Any) -> None: ...
    def private(self) -> _Array:
        """Return a new array of the same content that you may write to; nobody else sees what you write.

        Of 1 MiB and more it is not copied: it shares its pages with the slots until you write to them (copy
        on write). It holds the slots, as any view does, until the last view of it is gone. Smaller ones,
        those of a forked child, and those that the kernel cannot map, are copies and hold nothing.

        Returns
        -------
        ndarray
            Writable, of the shape and dtype of `array`. Each call makes another one.

        Raises
        ------
        ValueError
            It was released before.
        MemoryError
            The kernel has no memory, or no address space, for it.
        RingCorrupt
            After `survive_truncation`: the ring's file was cut.

        Examples
        --------
        >>> import numpy as np, shmring
        >>> with shmring.Ring.create(shape=(2,), dtype="f4", slots=4) as ring:
        ...     with ring.producer() as out, ring.consumer() as frames:
        ...         _ = out.put(np.ones(2, "f4"))
        ...         frame = frames.get(timeout=1)
        ...         mine = frame.private()
        ...         mine += 1
        ...         mine, frame.array
        (array([2., 2.], dtype=float32), array([1., 1.], dtype=float32))
        """
    def release(self) -> None:
        """Give up this object's own hold.

        The slots go back to the producer when the last array, view or memoryview on them is gone as
        well; if there is none, at once. May be called twice. Never waits.
        """
    @property
    def released(self) -> bool:
        """Whether `release` was called."""
    @property
    def block_offset(self) -> int:
        """Where `array` begins in the ring's file, in bytes: for programs that take (name, offset, size).

        The bytes there are this frame's as long as the frame is held.
        """
    @property
    def lost(self) -> int:
        """Frames lost just before (for a batch, also between) the ones here."""
    @property
    def redelivered(self) -> bool:
        """Whether another member of the group had it before, and died before it released it."""
    @property
    def epoch(self) -> int:
        """Which producer of the ring published it, from 1 (for a batch: its last frame)."""
    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of `array`."""
    @property
    def ndim(self) -> int:
        """Number of axes of `array`."""
    @property
    def size(self) -> int:
        """Number of elements of `array`."""
    @property
    def nbytes(self) -> int:
        """Bytes of the elements of `array`."""
    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
    def __enter__(self) -> Any: ...
    def __getitem__(self, key: Any, /) -> Any: ...
    def __array__(self, dtype: npt.DTypeLike | None = None, *, copy: bool | None = None) -> _Array: ...
    def __dlpack__(
        self, *, max_version: tuple[int, int] | None = None, copy: bool | None = None, **options: Any
    ) -> Any: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...
    if sys.version_info >= (3, 12):
        def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class Frame(Held):
    """A frame in place: from a Consumer. Its memory is yours while it, or any array of it, lives.

    A context manager (releases at the end). Supports the buffer protocol, ``numpy.asarray``, DLPack and
    ``frame[...]``, all of them read-only and without a copy.
    """

    def __enter__(self) -> Frame: ...
    def _repr_html_(self) -> str | None: ...
    @property
    def array(self) -> _Array:
        """Read-only ndarray on the slot, of the ring's shape and dtype (first axis: `rows`)."""
    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `array`: the ring's, with `rows` as its first axis."""
    @property
    def seq(self) -> int:
        """Counts the frames that the producer offered, from 0."""
    @property
    def timestamp_ns(self) -> int:
        """Nanoseconds, CLOCK_MONOTONIC at publish unless the producer gave its own."""
    @property
    def rows(self) -> int | None:
        """Valid length of the first axis; None in a ring without variable_rows."""
    @property
    def meta(self) -> Any:
        """Meta of the frame (a numpy scalar), None in a ring without meta."""

@final
class Batch(Held):
    """Consecutive frames as one ndarray: from ``Consumer.batch()`` and ``Consumer.windows()``.

    Its memory is yours while it, or any array of it, lives. A context manager (releases at the end).
    """

    def __enter__(self) -> Batch: ...
    def _repr_html_(self) -> str | None: ...
    @property
    def array(self) -> _Array:
        """Read-only ndarray of `shape`, in place unless `copied`."""
    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `array`: the number of frames, then the ring's shape."""
    @property
    def seqs(self) -> npt.NDArray[np.uint64]:
        """Seqs, uint64 of shape (len,), read-only. A gap: frames lost in between."""
    @property
    def timestamps_ns(self) -> npt.NDArray[np.int64]:
        """Timestamps in nanoseconds, int64 of shape (len,), read-only."""
    @property
    def metas(self) -> _Array | None:
        """Metas of shape (len,), None in a ring without meta."""
    @property
    def rows(self) -> npt.NDArray[np.uint64] | None:
        """Valid lengths of the first axis, uint64 of shape (len,), None without variable_rows."""
    @property
    def copied(self) -> bool:
        """True if the frames were not adjacent in memory and this window is a private copy."""
    @property
    def interrupted(self) -> bool:
        """True if more frames were ready, but a swap put them elsewhere: the next batch has them."""
    def __len__(self) -> int: ...

@final
class Consumer:
    """Reads frames in place, in order: from ``Ring.consumer()``.

    A context manager, an iterator (ends when the producer has closed and everything was read) and an
    asynchronous iterator. Use it from one thread at a time; frames may be released in any thread.
    """

    def __init__(self, /, *args: Any, **kwargs: Any) -> None: ...
    def _join(self, lock: LockFile, start: str, awaits_takeover: bool) -> Consumer: ...
    def _limit_held(self, slots: int) -> None: ...
    @property
    def max_held(self) -> int | None:
        """Slots that a lossy consumer may hold at the same time; None for a lossless one."""
    @property
    def _position(self) -> int:
        """The position of the frame that it takes next."""
    def _awaited(self) -> Awaited: ...
    def _empty(self, timeout: float | None) -> None: ...
    def _abandon(self) -> None: ...
    def _still_waiting(self, seconds: float, least: int = 1) -> None: ...
    def _try_in_task(self, latest: bool) -> Frame | None: ...
    def get(self, timeout: float | None = None) -> Frame:
        """Take the next frame, waiting for it if need be.

        Parameters
        ----------
        timeout : float, optional
            Seconds; None waits forever, 0 never waits.

        Returns
        -------
        Frame

        Raises
        ------
        RingEmpty
            No frame in time.
        RingClosed
            The producer closed and every frame was read, or this handle is closed.
        ProducerDied
            The producer died and every published frame was read.
        SlotsHeld
            The frame cannot come, because this consumer holds the slots itself: at the end of the timeout,
            and at once if no other thread of the process can release one.
        RingCorrupt, ForkedHandle, HandleBusy
            The ring or the handle cannot be used.

        Examples
        --------
        >>> import numpy as np, shmring
        >>> with shmring.Ring.create(shape=(2,), dtype="f4", slots=4) as ring:
        ...     with ring.producer() as out, ring.consumer() as frames:
        ...         _ = out.put(np.ones(2, "f4"))
        ...         frames.get(timeout=1).array
        array([1., 1.], dtype=float32)
        """
    def try_get(self) -> Frame | None:
        """Take the next frame if there is one; never waits.

        Returns
        -------
        Frame or None

        Raises
        ------
        RingClosed, ProducerDied, SlotsHeld, RingCorrupt, ForkedHandle, HandleBusy
            As `get`.
        """
    def latest(self, timeout: float | None = None) -> Frame:
        """Take the newest frame not yet delivered, skipping older ones.

        They count as `skipped`, never as lost.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for a new one; None waits forever, 0 never waits.

        Returns
        -------
        Frame

        Raises
        ------
        RingEmpty, RingClosed, ProducerDied, SlotsHeld, RingCorrupt, ForkedHandle, HandleBusy
            As `get`.
        """
    def batch(self, max_frames: int, min_frames: int = 1, timeout: float | None = None) -> Batch:
        """Take consecutive frames as one ndarray, in place, across the ring's wrap too.

        Parameters
        ----------
        max_frames : int
            The most frames to take.
        min_frames : int
            The fewest frames to wait for, at most the ring's slots, or `max_held` of a lossy consumer. A
            batch may still be shorter where a swap interrupts the run in memory (``batch.interrupted``), and
            at the end of the stream. 1 in a member of a group.
        timeout : float, optional
            Seconds; None waits forever, 0 never waits.

        Returns
        -------
        Batch

        Raises
        ------
        RingEmpty
            Fewer than `min_frames` in time; nothing was taken.
        RingClosed, ProducerDied, SlotsHeld, RingCorrupt, ForkedHandle, HandleBusy
            As `get`.
        """
    def windows(self, length: int, step: int | None = None) -> Iterator[Batch]:
        """Iterate over windows of consecutive frames, overlapping if `step` < `length`, without a copy.

        Parameters
        ----------
        length : int
            Frames in a window. ``length + step`` may not exceed the ring's slots, and two windows in a row
            may not need more than a lossy consumer's `max_held`.
        step : int, optional
            Frames from one window's first to the next one's; default `length` (no overlap).

        Yields
        ------
        Batch
            Exactly `length` frames. Where a swap interrupts the run in memory, that one window is a
            private copy (``batch.copied``). The iteration ends when fewer than `length` frames are left
            in a closed stream; those can still be read with `get`.

        Raises
        ------
        ProducerDied, SlotsHeld, RingCorrupt, ForkedHandle, HandleBusy
            As `get`, while iterating.
        """
    def iter(self, timeout: float | None = None) -> Frames:
        """Iterate with a timeout: ``for frame in frames.iter(timeout=5)``, or the same with ``async for``.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for each frame; None waits forever, 0 never waits.

        Yields
        ------
        Frame
            Ends as iteration over the consumer itself does: when the producer has closed and everything
            was read.

        Raises
        ------
        RingEmpty
            No frame in time, while iterating. The iteration can be continued.
        ProducerDied, SlotsHeld, RingCorrupt, ForkedHandle, HandleBusy
            As `get`, while iterating.

        Examples
        --------
        >>> import numpy as np, shmring
        >>> with shmring.Ring.create(shape=(2,), dtype="f4", slots=4) as ring, ring.consumer() as frames:
        ...     with ring.producer() as out:
        ...         _ = out.put(np.ones(2, "f4"))
        ...     [frame.seq for frame in frames.iter(timeout=5)]
        [0]
        """
    def get_async(self, timeout: float | None = None) -> Coroutine[Any, Any, Frame]:
        """Take the next frame in asyncio: ``frame = await consumer.get_async()``.

        No busy loop and no thread for each call: one helper thread for an event loop sleeps in the
        kernel. A cancelled call has taken no frame.

        Parameters
        ----------
        timeout : float, optional
            Seconds; None waits forever, 0 never waits.

        Returns
        -------
        coroutine of Frame

        Raises
        ------
        RingEmpty, RingClosed, ProducerDied, SlotsHeld, RingCorrupt, ForkedHandle, HandleBusy
            As `get`.
        """
    def latest_async(self, timeout: float | None = None) -> Coroutine[Any, Any, Frame]:
        """Take the newest frame not yet delivered in asyncio: ``frame = await consumer.latest_async()``.

        What is passed over counts as `skipped`, never as lost. A cancelled call has taken no frame.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for a new one; None waits forever, 0 never waits.

        Returns
        -------
        coroutine of Frame

        Raises
        ------
        RingEmpty, RingClosed, ProducerDied, SlotsHeld, RingCorrupt, ForkedHandle, HandleBusy
            As `get`.
        """
    def __iter__(self) -> Consumer: ...
    def __next__(self) -> Frame: ...
    def __aiter__(self) -> Consumer: ...
    def __anext__(self) -> Coroutine[Any, Any, Frame]: ...
    def close(self) -> None:
        """Leave the ring. May be called twice, and while another thread waits in this handle.

        Frames that are still held, and arrays on them, stay valid and keep their slots.
        """
    def __enter__(self) -> Consumer: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
    @property
    def ring(self) -> Ring:
        """The Ring that this consumer was opened from; it stays open for as long as the consumer exists."""
    @property
    def name(self) -> str:
        """Name of the ring."""
    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one frame."""
    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of one frame."""
    @property
    def lossless(self) -> bool:
        """Whether this consumer holds the producer back rather than lose a frame."""
    @property
    def label(self) -> str:
        """What the consumer was called when it joined."""
    @property
    def group(self) -> str | None:
        """The group that this consumer is a member of, None if it gets every frame."""
    @property
    def lost(self) -> int:
        """Frames that this consumer did not get since it joined: lapped, or dropped at the source.

        0 in a member of a group: other members have the frames that it did not get.
        """
    @property
    def redelivered(self) -> int:
        """Frames among those that a member of the group had when it died."""
    @property
    def skipped(self) -> int:
        """Frames that `latest`, or `windows` with a step longer than the window, passed over."""
    @property
    def delivered(self) -> int:
        """Frames taken; a frame in several windows counts once."""
    @property
    def lag(self) -> int:
        """Frames published but not yet taken: by this consumer, or by any member of its group."""
    @property
    def held(self) -> int:
        """Frames held now: by Frames, Batches and the arrays made from them."""
    @property
    def place(self) -> int:
        """Index of this consumer in the ring's consumer table."""
    @property
    def closed(self) -> bool:
        """Whether this handle is closed, or belongs to the parent of a fork."""

@final
class Frames:
    """Iterates over frames with a timeout: from ``Consumer.iter()``."""

    def __init__(self, /, *args: Any, **kwargs: Any) -> None: ...
    def __iter__(self) -> Frames: ...
    def __next__(self) -> Frame: ...
    def __aiter__(self) -> Frames: ...
    def __anext__(self) -> Coroutine[Any, Any, Frame]: ...

@final
class Windows:
    """Iterates over windows of frames: from ``Consumer.windows()``."""

    def __init__(self, /, *args: Any, **kwargs: Any) -> None: ...
    def __iter__(self) -> Windows: ...
    def __next__(self) -> Batch: ...

def wait(consumers: Iterable[Consumer], timeout: float | None = None) -> list[Consumer]:
    """Sleep until at least one of several consumers has something to take, and return those.

    Parameters
    ----------
    consumers : iterable of Consumer
        Of different rings, or of the same one. The kernel watches up to 128 of them (Linux 5.16); with more,
        and on older kernels, the call looks at them every millisecond.
    timeout : float, optional
        Seconds; None waits forever, 0 never waits.

    Returns
    -------
    list of Consumer
        Those whose next `get` does not wait, in the order given: it returns a frame, or raises what it has
        to say of the end of the stream, such as RingClosed or ProducerDied. Leave those out of the next
        call. Empty if the time is over.

    Raises
    ------
    TypeError, ValueError
        Something that is not a Consumer, no consumer at all, or one that is given twice.
    RingClosed, ForkedHandle, HandleBusy
        One of the handles cannot be used: closed, of another process, or in use.

    Notes
    -----
    It does not spin first, whatever the consumers' ``spin=``. A frame that is there for a lossy consumer may
    be overwritten before you take it: use `try_get`, or a timeout.

    Examples
    --------
    >>> import numpy as np, shmring
    >>> with shmring.Ring.create(shape=(2,), dtype="f4", slots=4) as left, left.consumer() as a:
    ...     with shmring.Ring.create(shape=(2,), dtype="f4", slots=4) as right, right.consumer() as b:
    ...         with right.producer() as out:
    ...             _ = out.put(np.ones(2, "f4"))
    ...             shmring.wait([a, b], timeout=1) == [b]
    True
    """

def open_producer(ring: Ring, block: Block, schema: Schema, on_full: str, spin: float | None) -> Producer:
    """Return a Producer that is not open yet."""

def open_consumer(
    ring: Ring,
    block: Block,
    schema: Schema,
    lossless: bool,
    start: str,
    label: str,
    spin: float | None,
    group: str | None,
    at_most_once: bool,
) -> Consumer:
    """Return a Consumer that has not joined yet."""

def own_places(block: Block) -> set[int]:
    """Return the places of the consumer table that belong to handles of this process."""

@final
class Doorbell:
    """Wakes a thread out of `wait_any`."""

    def prepare(self) -> int:
        """Return a token for `wait_any`: a ring after this call ends that wait."""
    def ring(self) -> None: ...

@final
class Awaited:
    """What a consumer sleeps on: from ``Consumer._awaited()``."""

    def came_true(self) -> bool:
        """Whether it is worth a look now: a frame is there, or the producer's state changed."""

def wait_any(bell: Doorbell, token: int, awaited: list[Awaited], seconds: float) -> None:
    """Sleep until one of those awaited comes true, the bell or the time.

    May wake for no reason. At most 127 are watched; the caller looks at all of them afterwards.
    """
