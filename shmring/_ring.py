"""The Ring: create, attach, hand out handles, close, unlink, pickle."""

from __future__ import annotations

import contextlib
import functools
import os
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

from shmring import _core, _messages, _names, errors
from shmring._attrs import fixed
from shmring._observer import Observer
from shmring._participants import consumer_rows, producer_state
from shmring._schema import Layout, read_schema

if TYPE_CHECKING:  # most of the time that importing shmring would take
    from multiprocessing.shared_memory import SharedMemory
    from types import TracebackType

    import numpy as np
    import numpy.typing as npt

    from shmring._stats import RingStats

__all__ = ["Ring"]


_P = ParamSpec("_P")
_R = TypeVar("_R")


def keywords_after_name(create: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let a call with positional arguments say how to write it."""

    @functools.wraps(create)
    def checked(*args: _P.args, **options: _P.kwargs) -> _R:
        if len(args) > 2:
            raise TypeError(
                "Ring.create takes the name alone by position; write the rest by name: "
                'Ring.create("camera", shape=(480, 640), dtype="u1", slots=8)'
            )
        return create(*args, **options)

    return checked


class Ring:
    """A ring of frames in shared memory, attached: from `create` or `attach`.

    A context manager: at its end the creator removes the ring's name (whoever is attached keeps the
    memory), an attacher only closes. It can be pickled (by name and identity), so it goes into
    ``multiprocessing.Process(args=...)`` with any start method; after a fork it works in the child.
    """

    _block: _core.Block
    _schema: _core.Schema
    _attrs: Mapping[str, Any]
    _fd: int  # never locked: a forked child opens the block by it
    _presence: _core.LockFile | None  # None if readonly
    _process: int  # that opened it
    _creator: bool
    _inode: int
    _had_handles: bool
    _readonly: bool
    _closed: bool = True  # until it is attached
    _request: tuple[bool, bool]

    def __init__(self, *_args: Any, **_options: Any) -> None:
        raise TypeError("use Ring.create(...) or Ring.attach(name)")

    @classmethod
    @keywords_after_name
    def create(
        cls,
        name: str | None = None,
        *,
        shape: Any,
        dtype: npt.DTypeLike,
        slots: int,
        consumers: int = 16,
        meta: npt.DTypeLike | None = None,
        attrs: Mapping[str, Any] | None = None,
        variable_rows: bool = False,
        mode: int = 0o600,
        exist_ok: bool = False,
        block: SharedMemory | None = None,
        prefault: bool = True,
        huge_pages: bool = False,
        lock_memory: bool = False,
    ) -> Ring:
        """Create a ring. A stale ring of that name (nobody uses it any more) is replaced.

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
            ``ring.slots`` says what it became.
        consumers : int
            Places in the consumer table, 1 to 64.
        meta : dtype, optional
            Of a small value that goes along with each frame.
        attrs : mapping, optional
            JSON-able description for whoever attaches: units, axis names, exposure.
        variable_rows : bool
            Whether frames may be shorter along the first axis.
        mode : int
            File mode of the block: who may attach. Default 0o600: only this user.
        exist_ok : bool
            Attach instead if a live ring of that name with the same shape, dtype and meta exists: so a
            producer that is started again gets the consumers of the last one.
        block : multiprocessing.shared_memory.SharedMemory, optional
            Use this block, of at least `required_size` bytes (from a SharedMemoryManager, say), rather
            than create one. Its owner unlinks it.
        prefault : bool
            Touch the producer's pages when it opens, so that no frame pays for page faults.
        huge_pages, lock_memory : bool
            Ask the kernel for huge pages; lock the memory against swapping. OSError if refused.

        Returns
        -------
        Ring

        Raises
        ------
        RingExists
            The name belongs to a live ring, or to another program's block; with `exist_ok`: to a ring that
            another process began to remove and does not.
        RingAccessDenied
            /dev/shm is read-only, or not for this user.
        RingIncompatible
            With `exist_ok`: the live ring has another shape, dtype or meta.
        NoSpace
            /dev/shm is too small, or more memory than a limit allows; nothing is left behind.
        TypeError, ValueError
            An argument is not what it should be.

        Examples
        --------
        >>> import shmring
        >>> with shmring.Ring.create(shape=(720, 1280, 3), dtype="u1", slots=4) as ring:
        ...     ring.shape, ring.slots
        ((720, 1280, 3), 4)
        """
        exist_ok = _core.check_flag("exist_ok", exist_ok)
        prefault = _core.check_flag("prefault", prefault)
        layout = Layout(shape, dtype, slots, consumers, meta, attrs, variable_rows)
        generation = os.urandom(16)
        request = (_core.check_flag("huge_pages", huge_pages), _core.check_flag("lock_memory", lock_memory))
        if block is not None:
            if name is not None:
                raise ValueError(
                    f"name={name!r} and block={block.name!r} given: the block has its name already"
                )
            found = _format_given(block, layout, generation)
            return cls._adopt(
                _names.check_name(block.name), *found, owner=False, prefault=prefault, request=request
            )
        bare = _names.generated_name() if name is None else _names.check_name(name)
        if isinstance(mode, bool) or not isinstance(mode, int) or not 0 <= mode <= 0o777:
            raise ValueError(f"mode must be a file mode like 0o600, not {mode!r}")
        deadline = time.monotonic() + _names.PATIENCE
        while True:
            try:
                made = _names.create(bare, layout.nbytes, mode, layout.geometry, generation, layout.schema)
            except errors.RingExists:
                if not exist_ok:
                    raise
            else:
                return cls._adopt(bare, *made, owner=True, prefault=prefault, request=request)
            try:
                ring = cls.attach(bare)
            except errors.RingNotFound:  # it went away meanwhile, or is about to
                if time.monotonic() >= deadline:
                    raise _messages.being_removed(bare, _names.PATIENCE) from None
                time.sleep(_names.RETRY)
                continue
            ring._check_same(layout)
            return ring

    @staticmethod
    def required_size(
        *,
        shape: Any,
        dtype: npt.DTypeLike,
        slots: int,
        consumers: int = 16,
        meta: npt.DTypeLike | None = None,
        attrs: Mapping[str, Any] | None = None,
        variable_rows: bool = False,
    ) -> int:
        """Return the bytes that a ring with these arguments takes, for ``create(block=...)``.

        Parameters
        ----------
        shape, dtype, slots, consumers, meta, attrs, variable_rows
            As `create`.

        Returns
        -------
        int
        """
        return Layout(shape, dtype, slots, consumers, meta, attrs, variable_rows).nbytes

    @classmethod
    def attach(cls, name: str, *, timeout: float | None = 0, readonly: bool = False) -> Ring:
        """Attach to the ring of that name.

        Parameters
        ----------
        name : str
        timeout : float, optional
            Seconds to wait for a ring that is not there or not ready yet; None waits for ever. While there is
            time to wait, a left-over that nobody uses any more does not count: the next ring of that name
            does. With 0, the default, you get it, and can read what is left in it.
        readonly : bool
            Needs read permission only and leaves no trace; allows `stats` and `observer`.

        Returns
        -------
        Ring

        Raises
        ------
        RingNotFound, RingNotReady
            Not there, or nothing but a left-over, or not initialised, in time.
        RingAccessDenied
            By file mode; the message has the mode and the owner.
        RingIncompatible
            Another program's block, or another version's.
        RingCorrupt
            A truncated or overwritten block.
        """
        bare = _names.check_name(name)
        _core.check_timeout(timeout)
        readonly = _core.check_flag("readonly", readonly)
        found = _names.open_attached(bare, timeout, readonly)
        return cls._adopt(bare, *found, owner=False, readonly=readonly)

    @classmethod
    def _adopt(
        cls,
        name: str,
        fd: int,
        presence: _core.LockFile | None,
        *,
        owner: bool,
        readonly: bool = False,
        prefault: bool = True,
        request: tuple[bool, bool] = (False, False),
    ) -> Ring:
        """Make a Ring of a descriptor and its presence lock (None: readonly), and own them."""
        ring = cls.__new__(cls)
        ring._fd, ring._presence, ring._readonly, ring._closed = fd, presence, readonly, False
        ring._process, ring._creator, ring._inode = os.getpid(), owner, os.fstat(fd).st_ino
        ring._had_handles = False
        ring._prefault, ring._request = prefault, request
        ring._children = weakref.WeakSet()
        ring._finalizer = weakref.finalize(ring, os.close, fd)
        ring._finalizer.atexit = False  # else handlers of atexit that run later would find it closed
        try:
            ring._block = _core.Block(fd, _core.OBSERVE, name) if readonly else ring._map(_core.CONSUME, name)
            ring._schema, attrs = read_schema(ring._block)
            ring._attrs = fixed(attrs)
            if any(request):
                ring._block.prefault(*request)
        except BaseException:
            ring._closed = True
            ring._close_files()
            if owner:
                _names.unlink(name)
            raise
        _core.handles.add(ring)
        return ring

    _prefault: bool
    _children: weakref.WeakSet[Any]
    _finalizer: weakref.finalize[Any, Any]

    def _map(self, access: int, name: str) -> _core.Block:
        """Map the block through a description of its own: a mapping keeps its description's locks."""
        fd = _core.reopen(self._fd, True)
        try:
            return _core.Block(fd, access, name)
        finally:
            os.close(fd)

    def _lock_file(self) -> _core.LockFile:
        """Return a descriptor for the locks of a handle."""
        self._be_present()
        return _core.LockFile(self._fd)

    def _be_present(self) -> None:
        """Get a presence lock of our own if a fork closed the one that was inherited."""
        if self._presence is not None and self._presence.fd < 0:
            self._presence = _names.enter(self._fd) or self._presence

    def _enter_child(self) -> None:
        """Become a Ring of this process: in the child of a fork."""
        self._children = weakref.WeakSet()
        with contextlib.suppress(OSError):  # the calls that need it try again, and say why it fails
            self._be_present()

    def _close_files(self) -> None:
        self._finalizer()
        if self._presence is not None:
            self._presence.close()

    def _check_same(self, layout: Layout) -> None:
        """Refuse a live ring of another kind."""
        schema = self._schema
        found = (schema.shape, schema.dtype, schema.meta_dtype, schema.variable_rows)
        asked = (layout.shape, layout.dtype, layout.meta_dtype, layout.variable_rows)
        one_has_none = (schema.meta_dtype is None) != (layout.meta_dtype is None)  # numpy: f8 == None
        if one_has_none or found != asked:
            words = [
                f"{_messages.describe_array(shape, dtype)} meta {meta} variable_rows {rows}"
                for shape, dtype, meta, rows in (found, asked)
            ]
            who = _messages.users(self.name, self._fd)
            self.close()
            raise errors.RingIncompatible(
                f"ring {self.name!r} exists with {words[0]} and is in use ({who}); asked for: {words[1]}. "
                f"Choose another name, or end that first"
            )

    def _check_open(self, *, writing: bool = False) -> None:
        if self._closed:
            raise errors.RingClosed(f"this Ring handle of {self.name!r} is closed; attach again")
        if writing and self._readonly:
            raise errors.RingAccessDenied(
                f"ring {self.name!r} is attached readonly: use observer(), or attach without readonly=True"
            )

    @contextlib.contextmanager
    def _uncut(self) -> Iterator[None]:
        """Around whatever reads frames for others: RingCorrupt if it may have read zeros of a cut file."""
        self._check_length()
        try:
            yield
        finally:
            self._check_length()

    def _check_length(self) -> None:
        if not self._closed and os.fstat(self._fd).st_size < self.nbytes:
            raise _messages.cut(self.name)

    def producer(
        self, *, on_full: Literal["wait", "drop", "raise"] = "wait", spin: float | None = None
    ) -> _core.Producer:
        """Become the ring's producer: the first, or the next one after a producer closed, failed or died.

        Parameters
        ----------
        on_full : {"wait", "drop", "raise"}
            With a full ring: sleep until there is space, drop the new frame (everyone sees the gap in
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
            There is a live one; names its pid and command.
        RingCorrupt
            The ring cannot be taken over.
        """
        self._check_open(writing=True)
        block = self._map(_core.PRODUCE, self.name)
        handle = _core.open_producer(self, block, self._schema, on_full, spin)
        lock = self._lock_file()
        try:
            # The lock first: whoever is refused pays for no page. Before _open nothing else has changed.
            if _core.lock(lock.fd, _core.LOCK_PRODUCER, _core.EXCLUSIVE) and self._prefault:
                block.prefault(*self._request)
        except BaseException:
            lock.close()
            raise
        handle._open(lock)
        self._had_handles = True
        self._children.add(handle)
        return handle

    def consumer(
        self,
        *,
        lossless: bool = True,
        start: Literal["oldest", "newest", "next"] = "oldest",
        label: str = "",
        wait_for_takeover: bool = False,
        spin: float | None = None,
    ) -> _core.Consumer:
        """Join the ring.

        Parameters
        ----------
        lossless : bool
            True: the producer waits for this consumer (or drops, as told). False: it never does; this
            consumer may lose frames and learns how many.
        start : {"oldest", "newest", "next"}
            The first frame: the oldest one that is still there, the newest, or the next to come.
        label : str
            At most 63 bytes; for messages and statistics.
        wait_for_takeover : bool
            Wait for a next producer when the producer dies or fails, rather than raise ProducerDied or
            ProducerFailed.
        spin : float, optional
            Seconds to spin before each sleep; ``inf`` never sleeps. Default: adapts to the waits, 1 to 50
            microseconds.

        Returns
        -------
        Consumer

        Raises
        ------
        TooManyConsumers
            The table is full of living consumers; names them.
        """
        self._check_open(writing=True)
        lossless = _core.check_flag("lossless", lossless)
        wait_for_takeover = _core.check_flag("wait_for_takeover", wait_for_takeover)
        handle = _core.open_consumer(self, self._block, self._schema, lossless, start, label, spin)
        handle._join(self._lock_file(), start, wait_for_takeover)
        self._had_handles = True
        self._children.add(handle)
        return handle

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
        """Return everything that the ring's header knows.

        Returns
        -------
        RingStats
        """
        from shmring._stats import RingStats, read_consumers, read_producer

        self._check_open()
        producer, report = read_producer(self._block, self._fd)
        return RingStats(
            name=self.name,
            shape=self.shape,
            dtype=self.dtype,
            slots=self.slots,
            nbytes=self.nbytes,
            published=report["head"],
            next_seq=report["next_seq"],
            dropped=report["dropped"],
            swaps=report["swaps"],
            producer=producer,
            consumers=read_consumers(self._block, self._fd),
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
        """Remove the ring's name. Whoever is attached goes on; nobody can attach any more.

        Raises
        ------
        RingNotFound
            The name is gone, or belongs to another ring by now.
        RingAccessDenied
            This user may not remove it: in /dev/shm only a file's owner and root may.
        """
        ours = (
            _names.has_generation(self.name, self._block.generation)
            if self._closed
            else _names.same_file(self._fd, self.name)
        )
        if not ours:
            raise errors.RingNotFound(f"ring {self.name!r} has no name any more, or another ring took it")
        _names.unlink(self.name)

    def __enter__(self) -> Ring:
        """Return self."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close, the producer as one that failed if an error ends the block; the creator removes the name."""
        if self._creator and self._process == os.getpid():  # a child of a fork has it from its parent
            with contextlib.suppress(FileNotFoundError):  # somebody else removed it already
                self.unlink()
        if error is None:
            self.close()
        else:
            from shmring._ending import failure_of_block

            self._close(failure_of_block(error))

    def __del__(self) -> None:
        """Warn if nobody closed it; its handles, which are gone by now, have warned themselves."""
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
        """Pickle by name and generation."""
        self._check_open()
        return _attach_again, (self.name, self._block.generation, self._readonly)

    def __repr__(self) -> str:
        """Say what one wants to know at a prompt."""
        what = f"{self.name!r}, shape {self.shape}, dtype {self.dtype}, {self.slots} slots"
        if self._closed:
            return f"<shmring.Ring {what}, closed>"
        state, report = producer_state(self._block, self._fd)
        joined = len(consumer_rows(self._block, self._fd))
        return (
            f"<shmring.Ring {what}, {report['head']} frames published, producer {state}, "
            f"{joined} of {self.consumers} consumers{', readonly' if self._readonly else ''}>"
        )

    @property
    def name(self) -> str:
        """Name of the block, as SharedMemory knows it."""
        return self._block.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one frame."""
        return self._schema.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of one frame."""
        return self._schema.dtype

    @property
    def slots(self) -> int:
        """Slots in the ring."""
        return self._block.slots

    @property
    def consumers(self) -> int:
        """Places in the consumer table."""
        return self._block.consumers

    @property
    def meta_dtype(self) -> np.dtype[Any] | None:
        """Dtype of the value that goes along with each frame."""
        return self._schema.meta_dtype

    @property
    def attrs(self) -> Mapping[str, Any]:
        """What the creator said about the ring; it cannot be changed, but ``copy.deepcopy`` of it can."""
        return self._attrs

    @property
    def variable_rows(self) -> bool:
        """Whether frames may be shorter along the first axis."""
        return self._schema.variable_rows

    @property
    def nbytes(self) -> int:
        """Bytes of the whole block."""
        return self._block.block_bytes

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


def create_or_take_over(name: str, **options: Any) -> Ring:
    """Create a ring, or attach to the one of that name and kind if it has no living producer.

    Its name is then removed at the end as if this process had created it, unless the creator still lives.

    Raises
    ------
    RingExists, RingIncompatible
        The ring has a living producer; it has other frames.
    """
    unreadable = (errors.RingNotFound, errors.RingNotReady, errors.RingAccessDenied, errors.RingIncompatible,
                  errors.RingCorrupt)  # fmt: skip
    with contextlib.suppress(*unreadable), Ring.attach(name, readonly=True) as ring:
        if producer_state(ring._block, ring._fd)[0] == "live":
            raise _messages.in_use(name, ring._fd)
    ring = Ring.create(name, exist_ok=True, **options)
    if not ring._creator and not os.path.exists(f"/proc/{_core.read_creation(ring._fd)[1]}"):
        ring._creator = True
    return ring


def _format_given(block: SharedMemory, layout: Layout, generation: bytes) -> tuple[int, _core.LockFile]:
    """Format a SharedMemory block; returns its descriptor and the presence lock."""
    name = _names.check_name(block.name)
    if block.size < layout.nbytes:
        raise ValueError(
            f"block {name!r} has {block.size} bytes, the ring needs {layout.nbytes} (Ring.required_size(...))"
        )
    with contextlib.ExitStack() as undo:
        fd = _names.open_block(name, _core.CONSUME)
        undo.callback(os.close, fd)
        presence = undo.enter_context(contextlib.closing(_core.LockFile(fd)))
        if not _names.keep_out(presence.fd):
            raise errors.RingExists(f"the block {name!r} carries a ring that is in use")
        _names.reserve(fd, name, layout.nbytes)
        mapped = _core.reopen(fd, True)
        try:
            _core.format_block(mapped, *layout.geometry, generation, layout.schema)
        finally:
            os.close(mapped)
        _names.let_in(presence.fd)
        undo.pop_all()
        return fd, presence


def _attach_again(name: str, generation: bytes, readonly: bool) -> Ring:
    """Unpickle a Ring: attach, and make sure that it is the same one."""
    ring = Ring.attach(name, readonly=readonly)
    if ring._block.generation != generation:
        ring.close()
        raise errors.RingNotFound(
            f"ring {name!r} was replaced by another one of that name since it was pickled"
        )
    return ring
