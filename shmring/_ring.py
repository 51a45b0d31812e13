"""The Ring: create, attach, hand out handles, close, unlink, pickle."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

from shmring import _blocks, _core, _home, _huge, _messages, _names, _presence, errors
from shmring._attrs import fixed, other_pixels
from shmring._format import FrameFormat, check_format
from shmring._observer import Observer
from shmring._participants import ProducerState, consumer_rows
from shmring._schema import check_int, choose_geometry, read_schema
from shmring._words import count

if TYPE_CHECKING:  # most of the time that importing shmring would take
    from multiprocessing.shared_memory import SharedMemory
    from types import TracebackType

    import numpy as np
    import numpy.typing as npt

    from shmring._stats import RingStats

__all__ = ["Ring"]


_P = ParamSpec("_P")
_R = TypeVar("_R")


def options_by_name(example: str, most: int) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Show, for a call with more than `most` positional arguments, how to write it."""

    def decorate(call: Callable[_P, _R]) -> Callable[_P, _R]:
        @functools.wraps(call)
        def checked(*args: _P.args, **options: _P.kwargs) -> _R:
            if len(args) > most:
                raise TypeError(f"write the options of {call.__name__}() by name: {example}")
            return call(*args, **options)

        return checked

    return decorate


class Ring:
    """A ring of frames in shared memory, attached: from `create` or `attach`.

    A context manager: at its end the creator removes the ring's name (attached processes keep the
    memory), an attacher only closes. It can be pickled (by name and identity), so you can pass it in
    ``multiprocessing.Process(args=...)`` with any start method; after a fork it works in the child.
    """

    _block: _core.Block
    _frame_format: FrameFormat
    _schema: _core.Schema  # the same for the core
    _attrs: Mapping[str, Any]
    _fd: (
        int  # never locked: a mapping keeps its description's locks, and a forked child opens the block by it
    )
    _presence: _core.LockFile | None  # None if readonly
    _process: int  # that opened it
    _creator: bool
    _inode: int  # 0 if another process created it
    _readonly: bool
    _prefault: bool
    _lock_memory: bool
    _children: weakref.WeakSet[Any]  # the handles opened from it
    _had_handles: bool
    _finalizer: weakref.finalize[Any, Any]
    _closed: bool = True  # until it is attached

    def __init__(self, *_args: Any, **_options: Any) -> None:
        raise TypeError("use Ring.create(...) or Ring.attach(name)")

    @classmethod
    @options_by_name('Ring.create("camera", shape=(480, 640), dtype="u1", slots=8)', 2)
    def create(
        cls,
        name: str | None = None,
        *,
        shape: Any,
        dtype: npt.DTypeLike,
        slots: int,
        spares: int = 0,
        consumers: int = 16,
        meta: npt.DTypeLike | None = None,
        attrs: Mapping[str, Any] | None = None,
        variable_rows: bool = False,
        mode: int = 0o600,
        exist_ok: bool = False,
        block: SharedMemory | None = None,
        prefault: bool = True,
        huge_pages: bool | None = None,
        lock_memory: bool = False,
    ) -> Ring:
        """Create a ring. A stale ring of that name (nobody uses it any more) is replaced.

        At a prompt and in a notebook, so is one that you created there before, and its handles are closed:
        you can run a cell again.

        Parameters
        ----------
        name : str, optional
            1 to 255 bytes, no slash; default: generated.
        shape : tuple of int
            Of one frame; ``()`` for scalars. No axis may be 0.
        dtype : dtype
            Of one frame: anything but Python objects; structured and big-endian ones too.
        slots : int
            Depth of the ring, at least 2. Rounded up so that the slots are whole pages of memory;
            ``ring.slots`` has the result.
        spares : int
            Slots beyond those, which take the place of slots that consumers hold: with as many, held frames
            cost nothing. Rounded up to what fits into the last page of memory (``ring.spares``).
        consumers : int
            Places in the consumer table, 1 to 64.
        meta : dtype, optional
            Of a small value that comes with each frame.
        attrs : mapping, optional
            JSON-able description for attaching processes: units, axis names, exposure.
        variable_rows : bool
            Whether frames may be shorter along the first axis.
        mode : int
            File mode of the block, which decides which users may attach. Default 0o600: only this user.
        exist_ok : bool
            Attach instead if a live ring of that name with the same shape, dtype, meta and variable_rows
            exists: so a restarted producer gets the consumers of the previous one. The slots, spares, places
            for consumers, attrs and mode are then those of that ring. At a prompt, your own earlier Ring of
            that name is closed first if it has a producer. What you ask of its memory counts:
            ``huge_pages=True`` and ``lock_memory=True`` raise OSError if that ring cannot have them.
        block : multiprocessing.shared_memory.SharedMemory, optional
            Use this block, of at least `required_size` bytes (from a SharedMemoryManager, say), rather
            than create one. Its owner unlinks it.
        prefault : bool
            Touch the producer's pages when it opens, so that no frame pays for page faults.
        huge_pages : bool, optional
            Whether the slots lie on huge pages (of 2 MiB, mostly), which makes large frames and `create`
            itself faster. Default: as far as they fit and the kernel has some, and ``ring.huge_nbytes`` says
            how many bytes that is. True: OSError if it is less than there could be.
        lock_memory : bool
            Lock the memory against swapping. OSError if refused.

        Returns
        -------
        Ring

        Raises
        ------
        RingExists
            The name belongs to a live ring, or to another program's block; with `exist_ok`: to a ring that
            another process began to remove and never did.
        RingAccessDenied
            /dev/shm is read-only, or not for this user.
        RingIncompatible
            With `exist_ok`: the live ring has another shape, dtype or meta.
        NoSpace
            /dev/shm is too small, or more memory than a limit allows; nothing is left behind.
        TypeError, ValueError
            An argument is invalid.

        Examples
        --------
        >>> import shmring
        >>> with shmring.Ring.create(shape=(720, 1280, 3), dtype="u1", slots=4) as ring:
        ...     ring.shape, ring.slots
        ((720, 1280, 3), 4)
        """
        exist_ok = _core.check_flag("exist_ok", exist_ok)
        prefault = _core.check_flag("prefault", prefault)
        lock_memory = _core.check_flag("lock_memory", lock_memory)
        if huge_pages is not None:
            huge_pages = _core.check_flag("huge_pages", huge_pages)
        frame_format = check_format(shape, dtype, meta, variable_rows)
        geometry = choose_geometry(frame_format, slots, spares, consumers, attrs)
        adopt = functools.partial(cls._adopt, prefault=prefault, lock_memory=lock_memory)
        if block is not None:
            if name is not None:
                raise ValueError(
                    f"name={name!r} and block={block.name!r} given: the block has its name already"
                )
            given = _blocks.format_given(block, geometry, huge_pages)
            return adopt(_names.check_name(block.name), *given)._register()
        bare = _names.generated_name() if name is None else _names.check_name(name)
        if isinstance(mode, bool) or not isinstance(mode, int) or not 0 <= mode <= 0o777:
            raise ValueError(f"mode must be a file mode like 0o600, not {mode!r}")

        def create() -> Ring:
            _blocks.free_name(bare, geometry.block_bytes)
            ring = adopt(bare, *_blocks.create_nameless(bare, mode, geometry, huge_pages))
            try:
                ring._creator, ring._inode = True, os.fstat(ring._fd).st_ino
                _blocks.give_name(ring._fd, bare)
                return ring._register()
            except BaseException:
                if _names.same_file(ring._fd, bare):  # Ctrl-C came just after that
                    _names.unlink(bare)
                ring.close()
                raise

        was_mine = hasattr(sys, "ps1") and _close_own(bare, exist_ok)
        if not exist_ok:
            return create()
        ring = cls._create_or_attach(bare, create)
        if not ring._creator:
            if was_mine:  # it stays the one that removes the name
                ring._creator, ring._inode = True, os.fstat(ring._fd).st_ino
            ring._check_frames(frame_format)
            ring._ask_for(prefault=prefault, huge_pages=huge_pages, lock_memory=lock_memory)
        return ring

    @classmethod
    def _create_or_attach(cls, name: str, create: Callable[[], Ring]) -> Ring:
        """Create a ring, or attach to the live one of that name."""
        deadline = time.monotonic() + _names.PATIENCE
        while True:
            with contextlib.suppress(errors.RingExists):
                return create()
            try:
                return cls.attach(name)
            except errors.RingNotFound:  # it has just gone, or is about to go
                if time.monotonic() >= deadline:
                    raise _messages.being_removed(name, _names.PATIENCE) from None
                time.sleep(_names.RETRY)

    @staticmethod
    def required_size(
        *,
        shape: Any,
        dtype: npt.DTypeLike,
        slots: int,
        spares: int = 0,
        consumers: int = 16,
        meta: npt.DTypeLike | None = None,
        attrs: Mapping[str, Any] | None = None,
        variable_rows: bool = False,
    ) -> int:
        """Return the bytes that a ring with these arguments takes, for ``create(block=...)``.

        Parameters
        ----------
        shape, dtype, slots, spares, consumers, meta, attrs, variable_rows
            As `create`.

        Returns
        -------
        int
        """
        frame_format = check_format(shape, dtype, meta, variable_rows)
        return choose_geometry(frame_format, slots, spares, consumers, attrs).block_bytes

    @classmethod
    @options_by_name('Ring.attach("camera", timeout=5)', 2)
    def attach(cls, name: str, *, timeout: float | None = 0, readonly: bool = False) -> Ring:
        """Attach to the ring of that name.

        Parameters
        ----------
        name : str
        timeout : float, optional
            Seconds to wait for a ring that does not exist or is not ready yet; None waits forever. While
            there is time to wait, a left-over that nobody uses any more does not count: you get the next ring
            of that name. With 0, the default, you get the left-over, and can read the frames in it.
        readonly : bool
            Needs read permission only and leaves no trace; allows `stats` and `observer`.

        Returns
        -------
        Ring

        Raises
        ------
        RingNotFound, RingNotReady
            No ring of that name, only a left-over, or one that is not initialised, in time.
        RingAccessDenied
            The file mode forbids it; the message has the mode and the owner.
        RingIncompatible
            Another program's block, or another version's.
        RingCorrupt
            A truncated or overwritten block.
        """
        bare = _names.check_name(name)
        _core.check_timeout(timeout)
        readonly = _core.check_flag("readonly", readonly)
        found = _names.open_attached(bare, timeout, readonly)
        return cls._adopt(bare, *found, readonly=readonly)._register()

    @classmethod
    def _adopt(
        cls,
        name: str,
        fd: int,
        presence: _core.LockFile | None,
        *,
        readonly: bool = False,
        prefault: bool = True,
        lock_memory: bool = False,
    ) -> Ring:
        """Make a Ring of a descriptor and its presence lock (None: readonly), and own them."""
        ring = cls.__new__(cls)
        ring._fd, ring._presence, ring._readonly = fd, presence, readonly
        ring._process, ring._creator, ring._inode = os.getpid(), False, 0
        ring._had_handles = False
        ring._prefault, ring._lock_memory = prefault, lock_memory
        ring._children = weakref.WeakSet()
        ring._finalizer = weakref.finalize(ring, os.close, fd)
        ring._finalizer.atexit = False  # else handlers of atexit that run later would find it closed
        try:
            ring._block = _core.Block(fd, _core.OBSERVE if readonly else _core.CONSUME, name)
            ring._frame_format, attrs = read_schema(ring._block)
            ring._schema, ring._attrs = _core.Schema(ring._frame_format), fixed(attrs)
            if lock_memory:
                ring._block.prefault(lock_memory)
        except BaseException:
            ring._close_files()
            raise
        ring._closed = False
        return ring

    def _register(self) -> Ring:
        """Have a child that is forked from now on share the ring; until then, it would only be in the way."""
        _core.handles.add(self)
        return self

    def _lock_file(self) -> _core.LockFile:
        """Return a descriptor for the locks of a handle."""
        self._be_present()
        return _core.LockFile(self._fd)

    def _be_present(self) -> None:
        """Get a presence lock of our own if a fork closed the one that was inherited."""
        if self._presence is not None and self._presence.fd < 0:
            self._presence = _presence.enter(self._fd) or self._presence

    def _enter_child(self) -> None:
        """Become a Ring of this process: in the child of a fork."""
        self._children = weakref.WeakSet()
        with contextlib.suppress(OSError):  # the calls that need it try again, and report why it fails
            self._be_present()

    def _close_files(self) -> None:
        self._finalizer()
        if self._presence is not None:
            self._presence.close()

    @property
    def _generation(self) -> bytes:
        """Identifies this ring among all that ever have its name."""
        return self._block.generation

    @property
    def _published(self) -> int:
        """How many frames were published so far: the position of the next one."""
        return self._block.status(self._fd)["head"]

    def _producer_state(self) -> tuple[ProducerState, _core.RingStatus]:
        """How the producer is, and the ring's counters."""
        return self._block.producer_state(self._fd)

    def _has_name(self) -> bool:
        """Whether the name still belongs to this ring."""
        if self._closed:
            return _names.has_generation(self.name, self._generation)
        return _names.same_file(self._fd, self.name)

    def _check_frames(self, wanted: FrameFormat) -> None:
        """Refuse a live ring with other frames, and close it."""
        difference = self._frame_format.difference(wanted)
        if difference is not None:
            users = _messages.users(self.name, self._fd)
            self.close()
            raise errors.RingIncompatible(
                f"ring {self.name!r} exists with other frames ({difference}) and is in use ({users}): "
                f"choose another name, or end its users first"
            )

    def _ask_for(self, *, prefault: bool, huge_pages: bool | None, lock_memory: bool) -> None:
        """Have the memory of a live ring as if it had just been created so, or refuse it and close it."""
        self._prefault, self._lock_memory = prefault, lock_memory
        try:
            if huge_pages:
                _huge.check_existing(self.name, self.huge_nbytes, self._block.most_huge_bytes)
            if lock_memory:
                self._block.prefault(lock_memory)
        except BaseException:
            self.close()
            raise

    def _check_open(self, *, writing: bool = False) -> None:
        if self._closed:
            raise errors.RingClosed(f"this Ring handle of {self.name!r} is closed; attach again")
        if writing and self._readonly:
            raise errors.RingAccessDenied(
                f"ring {self.name!r} is attached readonly: use observer(), or attach without readonly=True"
            )

    @contextlib.contextmanager
    def _uncut(self) -> Iterator[None]:
        """Around code that stores frames: RingCorrupt if it may have read zeros of a cut file."""
        self._check_length()
        try:
            yield
        finally:
            self._check_length()

    def _check_length(self) -> None:
        if not self._closed and os.fstat(self._fd).st_size < self.nbytes:
            raise _messages.cut(self.name)

    @options_by_name('ring.producer(on_full="drop")', 1)
    def producer(
        self, *, on_full: Literal["wait", "drop", "raise"] = "wait", spin: float | None = None
    ) -> _core.Producer:
        """Become the ring's producer: the first, or the next one after a producer closed, failed or died.

        Parameters
        ----------
        on_full : {"wait", "drop", "raise"}
            With a full ring: sleep until there is space, drop the new frame (every consumer sees the gap in
            seq), or raise RingFull at once.
        spin : float, optional
            Seconds to spin before each sleep; ``inf`` never sleeps. Default: adapts to the waits, 1 to 50
            microseconds.

        Returns
        -------
        Producer

        Raises
        ------
        ProducerExists
            The ring has a live producer; the message has its pid and command.
        RingCorrupt
            The ring cannot be taken over.
        """
        self._check_open(writing=True)
        block = _core.Block(self._fd, _core.PRODUCE, self.name)
        handle = _core.open_producer(self, block, self._schema, on_full, spin)
        lock = self._lock_file()
        try:
            # The lock first: a refused producer pays for no page. Before _open nothing else has changed.
            if _core.lock(lock.fd, _core.LOCK_PRODUCER, _core.EXCLUSIVE) and self._prefault:
                block.prefault(self._lock_memory)
        except BaseException:
            lock.close()
            raise
        handle._open(lock)
        self._had_handles = True
        self._children.add(handle)
        return handle

    @options_by_name('ring.consumer(label="viewer")', 1)
    def consumer(
        self,
        *,
        lossless: bool = True,
        start: Literal["oldest", "newest", "next"] = "oldest",
        label: str = "",
        wait_for_takeover: bool = False,
        spin: float | None = None,
        group: str | None = None,
        at_most_once: bool = False,
        max_held: int | None = None,
    ) -> _core.Consumer:
        """Join the ring.

        Parameters
        ----------
        lossless : bool
            True: the producer waits for this consumer, or drops frames, by its `on_full`. False: it never
            waits; this consumer may lose frames and learns how many.
        start : {"oldest", "newest", "next"}
            The first frame: the oldest one still in the ring, the newest, or the next to come.
        label : str
            At most 63 bytes; for messages and statistics.
        wait_for_takeover : bool
            Wait for a next producer when the producer dies or fails, rather than raise ProducerDied or
            ProducerFailed.
        spin : float, optional
            Seconds to spin before each sleep; ``inf`` never sleeps. Default: adapts to the waits, 1 to 50
            microseconds.
        group : str, optional
            Share the frames with the other members of the group of this name (at most 63 bytes): each frame
            goes to one of them, the next one that asks. The first member makes the group, which begins at
            `start`; with its last member the group is gone. If a member dies, another one gets the frames
            that it had not released, marked as ``frame.redelivered``.
        at_most_once : bool
            Of a group, for all members the same: what a member had when it died is lost (and counted in
            ``stats().groups``) rather than given to another one.
        max_held : int, optional
            Of a lossy consumer: slots that it may hold at the same time; a further frame raises SlotsHeld.
            Default: half of what the other lossy consumers leave of all slots but two, at least 2 (with one,
            a loop that keeps its last frame could not take the next; in a ring of two slots it is one). So
            frames that lossy consumers keep do not stop the producer, unless there are many of them on few
            slots. There are more slots to hold with ``Ring.create(spares=...)``.

        Returns
        -------
        Consumer

        Raises
        ------
        TooManyConsumers
            The table is full of living consumers, or there are 4 other groups, or the other lossy consumers
            may hold so many slots that fewer than `max_held` are left; the message names them.
        RingNotReady
            Another process keeps the lock that a member needs to join.
        ValueError
            The group exists with another `at_most_once`; or `group` with ``lossless=False``; or `max_held` is
            more than a lossy consumer of this ring may ever hold.
        """
        self._check_open(writing=True)
        lossless = _core.check_flag("lossless", lossless)
        wait_for_takeover = _core.check_flag("wait_for_takeover", wait_for_takeover)
        check_label(label)
        at_most_once = check_group(group, lossless, at_most_once)
        if max_held is not None:
            max_held = self._check_max_held(max_held, lossless)
        handle = _core.open_consumer(
            self, self._block, self._schema, lossless, start, label, spin, group, at_most_once
        )
        handle._join(self._lock_file(), start, wait_for_takeover)
        if max_held is not None:
            try:
                handle._limit_held(max_held)
            except BaseException:
                handle.close()
                raise
        self._had_handles = True
        self._children.add(handle)
        return handle

    def _check_max_held(self, max_held: int, lossless: bool) -> int:
        if lossless:
            raise ValueError(
                "max_held is for lossy consumers (lossless=False): a lossless one holds what it likes, and "
                "the producer waits for it"
            )
        max_held = check_int("max_held", max_held, 1)
        if max_held > _messages.most_held(self._block):
            raise _messages.never_held(self._block, max_held)
        return max_held

    def observer(self) -> Observer:
        """Return a reader of private copies: it takes no place and holds nobody up.

        Returns
        -------
        Observer
        """
        self._check_open()
        handle = Observer._open(self, _core.reopen(self._fd, False))
        self._had_handles = True
        self._children.add(handle)
        return handle

    def stats(self) -> RingStats:
        """Return the ring's counters and participants.

        Returns
        -------
        RingStats
        """
        from shmring._stats import RingStats, read_participants

        self._check_open()
        status, producer, consumers, groups, spares_in_use = read_participants(self._block, self._fd)
        return RingStats(
            name=self.name,
            shape=self.shape,
            dtype=self.dtype,
            slots=self.slots,
            spares=self.spares,
            spares_in_use=spares_in_use,
            nbytes=self.nbytes,
            published=status["head"],
            next_seq=status["next_seq"],
            dropped=status["dropped"],
            swaps=status["swaps"],
            producer=producer,
            consumers=consumers,
            groups=groups,
        )

    def close(self) -> None:
        """Close this handle and the producer, consumers and observers opened from it. May be called twice.

        Frames that are still held, and arrays on them, stay valid.
        """
        self._close(None)

    def _close(self, failure: bytes | None) -> None:
        """Close; with `failure`, the producer as one that failed."""
        if self._closed:
            return
        for handle in list(self._children):
            if isinstance(handle, _core.Producer):
                handle._end(failure)
            else:
                handle.close()
        self._closed = True
        _core.handles.discard(self)
        self._close_files()

    def unlink(self) -> None:
        """Remove the ring's name. Attached processes continue; no process can attach any more.

        Raises
        ------
        RingNotFound
            The name is gone, or belongs to another ring now.
        RingAccessDenied
            This user may not remove it: in /dev/shm only a file's owner and root may.
        """
        if not self._has_name():
            raise errors.RingNotFound(f"ring {self.name!r} has lost its name, or another ring has it now")
        _names.unlink(self.name)

    def __enter__(self) -> Ring:
        """Return self."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close, the producer as one that failed if an error ends the block; the creator removes the name."""
        if self._creator and self._process == os.getpid():  # a child of a fork has it from its parent
            with contextlib.suppress(FileNotFoundError):  # it was removed already
                self.unlink()
        if error is None:
            self.close()
        else:
            from shmring._ending import failure_of_block

            self._close(failure_of_block(error))

    def __del__(self) -> None:
        """Warn if nobody closed it; its handles are gone already, and gave their own warnings."""
        if self._closed or self._process != os.getpid():
            return
        if self._leaves_name():
            _core.warn_unclosed("Ring", self.name, "; its name stays in /dev/shm: remove it with unlink()")
        elif not self._had_handles:
            _core.warn_unclosed("Ring", self.name)

    def _leaves_name(self) -> bool:
        """Whether this is the creator, and the name still belongs to the ring."""
        if not self._creator:
            return False
        try:  # the descriptor may be closed already
            return os.stat(_names.path_of(self.name)).st_ino == self._inode
        except OSError:
            return False

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by name and generation, and say where the ring is."""
        self._check_open()
        return Ring._attach_again, (self.name, self._generation, self._readonly, _home.here())

    @classmethod
    def _attach_again(
        cls, name: str, generation: bytes, readonly: bool, home: _home.Home | None = None
    ) -> Ring:
        """Unpickle: attach, and make sure that it is the same ring."""
        if home is not None and home.memory != _home.memory():
            raise _messages.elsewhere(name, home)
        ring = cls.attach(name, readonly=readonly)
        if ring._generation != generation:
            ring.close()
            raise errors.RingNotFound(
                f"ring {name!r} was replaced by another one of that name since it was pickled"
            )
        return ring

    def __repr__(self) -> str:
        """Summarise the ring for an interactive prompt."""
        what = f"{self.name!r}, shape {self.shape}, dtype {self.dtype}, {self.slots} slots"
        if self._closed:
            return f"<shmring.Ring {what}, closed>"
        state, status = self._producer_state()
        joined = len(consumer_rows(self._block, self._fd))
        return (
            f"<shmring.Ring {what}, {count(status['head'], 'frame')} published, producer {state}, "
            f"{joined} of {count(self.consumers, 'consumer')}{', readonly' if self._readonly else ''}>"
        )

    def _repr_html_(self) -> str | None:
        """Show the ring in a notebook, with its newest frame."""
        from shmring import _html

        return _html.ring(self)

    @property
    def name(self) -> str:
        """Name of the block, as SharedMemory knows it."""
        return self._block.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one frame."""
        return self._frame_format.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of one frame."""
        return self._frame_format.dtype

    @property
    def slots(self) -> int:
        """Slots in the ring."""
        return self._block.slots

    @property
    def spares(self) -> int:
        """Spare slots beyond those, for frames that consumers hold."""
        return self._block.spares

    @property
    def consumers(self) -> int:
        """Places in the consumer table."""
        return self._block.consumers

    @property
    def meta_dtype(self) -> np.dtype[Any] | None:
        """Dtype of the value that comes with each frame."""
        return self._frame_format.meta_dtype

    @property
    def attrs(self) -> Mapping[str, Any]:
        """The creator's description of the ring; it cannot be changed, but a ``copy.deepcopy`` of it can."""
        return self._attrs

    @property
    def variable_rows(self) -> bool:
        """Whether frames may be shorter along the first axis."""
        return self._frame_format.variable_rows

    @property
    def nbytes(self) -> int:
        """Bytes of the whole block."""
        return self._block.block_bytes

    @property
    def huge_nbytes(self) -> int:
        """Bytes of the slots that lie on huge pages now. Found out by mapping them, so not for a hot loop."""
        self._check_open()
        fd = _core.reopen(self._fd, False)
        try:
            return self._block.huge_bytes(fd)
        finally:
            os.close(fd)

    @property
    def frame_nbytes(self) -> int:
        """Bytes of one frame."""
        return self._block.frame_bytes

    @property
    def readonly(self) -> bool:
        """Whether it was attached readonly."""
        return self._readonly

    @property
    def closed(self) -> bool:
        """Whether this handle is closed."""
        return self._closed


def _close_own(name: str, exist_ok: bool) -> bool:
    """Close the Ring that this process created under a name; whether there was one.

    With `exist_ok` it keeps its name, and stays open if it has no producer that would be in the way.
    """
    process = os.getpid()
    mine = [
        ring
        for ring in list(_core.handles)
        if isinstance(ring, Ring) and ring._creator and ring._process == process and ring.name == name
        if not exist_ok or any(isinstance(one, _core.Producer) and not one.closed for one in ring._children)
    ]
    for ring in mine:
        if not exist_ok and ring._has_name():
            ring.unlink()
        ring.close()
    return bool(mine)


def create_or_take_over(name: str, **options: Any) -> Ring:
    """Create a ring, or attach to the one of that name and kind if it has no living producer.

    Its name is then removed at the end as if this process had created it, unless the creator is still alive.

    Raises
    ------
    RingExists, RingIncompatible
        The ring has a living producer; it has other frames.
    """
    unreadable = (errors.RingNotFound, errors.RingNotReady, errors.RingAccessDenied, errors.RingIncompatible,
                  errors.RingCorrupt)  # fmt: skip
    with contextlib.suppress(*unreadable), Ring.attach(name, readonly=True) as ring:
        if ring._producer_state()[0] == "live":
            raise _messages.in_use(name, ring._fd)
    ring = Ring.create(name, exist_ok=True, **options)
    differs = other_pixels(ring.attrs, options.get("attrs") or {})
    if differs:
        ring.close()
        raise errors.RingIncompatible(
            f"ring {name!r}, which others still use, has other pixels: {differs}; end those first, or choose "
            f"another name"
        )
    if not ring._creator and not os.path.exists(f"/proc/{_core.read_identity(ring._fd).creator_pid}"):
        ring._creator = True
    return ring


def ring_or_name(given: Any) -> Ring | str:
    """Return a Ring, or a name that one can have; else raise."""
    if isinstance(given, (Ring, str)):
        return given if isinstance(given, Ring) else _names.check_name(given)
    raise TypeError(f"ring must be a Ring or its name, not {type(given).__name__}")


def check_label(label: str, what: str = "label") -> None:
    """Raise unless the ring's block can keep the label, or another name for people."""
    if not isinstance(label, str):
        raise TypeError(f"{what} must be a str, not {label!r}")
    if "\0" in label:
        raise ValueError(f"a {what} has no NUL: {label!r}")
    if len(label.encode()) > _core.LABEL_BYTES:
        raise ValueError(
            f"a {what} has at most {_core.LABEL_BYTES} bytes, not {len(label.encode())}: {label!r}"
        )


def check_group(group: str | None, lossless: bool, at_most_once: bool) -> bool:
    """Raise unless a consumer can join this group so; `at_most_once`, checked."""
    at_most_once = _core.check_flag("at_most_once", at_most_once)
    if group is None:
        if at_most_once:
            raise ValueError("at_most_once is for members of a group: give group=, too")
        return False
    check_label(group, "group")
    if not group:
        raise ValueError("a group needs a name of at least one byte")
    if not lossless:
        raise ValueError(
            f"lossless=False with group={group!r}: a group holds the producer back rather than lose a frame. "
            f"Leave one of them out"
        )
    return at_most_once
