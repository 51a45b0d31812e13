"""The core of shmring: handles and frames on the protocol of ``shmring/include/shmring``.

No protocol and no atomic operation stands here: only lifetimes, arrays, waits and messages.
"""

cimport cython
cimport numpy as cnp
from cpython.buffer cimport PyBUF_FORMAT, PyBuffer_FillInfo, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals, PyErr_Clear, PyErr_Occurred
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from cpython.ref cimport Py_INCREF
from libc.errno cimport EACCES, EBADF, EBUSY, ENOMEM, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from posix.unistd cimport close as close_fd

from c_shmring cimport *

import atexit
import gc
import math
import os
import warnings
import weakref
from operator import index

import numpy as np

from shmring import errors
from shmring._others import others_run  # here: an import inside of a wait may swallow Ctrl-C

cnp.import_array()

cdef extern from "numpy/arrayobject.h":
    object PyArray_NewFromDescr(
        type subtype, cnp.dtype descr, int nd, cnp.npy_intp *dims, cnp.npy_intp *strides, void *data,
        int flags, object obj)
    int PyArray_SetBaseObject(cnp.ndarray array, object base) except -1

cdef extern from "sys/inotify.h" nogil:
    int inotify_init1(int flags)
    int inotify_add_watch(int fd, const char *path, uint32_t mask)
    enum:
        IN_CLOEXEC
        IN_NONBLOCK
        IN_CREATE
        IN_MOVED_TO

cdef extern from "guard.h":
    ctypedef struct Guard "shmring_guard":
        pass
    void guard_lock "shmring_guard_lock"(Guard *guard) noexcept nogil
    void guard_unlock "shmring_guard_unlock"(Guard *guard) noexcept nogil
    const bint SHMRING_FREE_THREADED

MAGIC = b"SHMRING\0"
ABI = SHMRING_ABI
MAX_CONSUMERS = SHMRING_MAX_CONSUMERS
MAX_SLOTS = SHMRING_MAX_SLOTS
MAX_SCHEMA = MAX_META = SHMRING_MAX_SCHEMA
MAX_BLOCK = SHMRING_MAX_BLOCK
LABEL_BYTES = SHMRING_LABEL_BYTES - 1
LOCK_PRODUCER = SHMRING_LOCK_PRODUCER
LOCK_PRESENCE = SHMRING_LOCK_PRESENCE
PRESENCE_BYTES = SHMRING_PRESENCE_BYTES
EXCLUSIVE, UNLOCKED = F_WRLCK, F_UNLCK
OBSERVE, CONSUME, PRODUCE = SHMRING_OBSERVE, SHMRING_CONSUME, SHMRING_PRODUCE
NOT_READY, FOREIGN, OTHER_ABI = SHMRING_NOT_READY, SHMRING_FOREIGN, SHMRING_OTHER_ABI
TRUNCATED, CORRUPT = SHMRING_TRUNCATED, SHMRING_CORRUPT
PRODUCER_EXISTS, NO_PLACE = SHMRING_PRODUCER_EXISTS, SHMRING_NO_PLACE
PRODUCER_NONE, PRODUCER_CLOSED = SHMRING_PRODUCER_NONE, SHMRING_PRODUCER_CLOSED
PRODUCER_FAILED = SHMRING_PRODUCER_FAILED
POLICIES = {
    SHMRING_PLACE_LOSSLESS: "lossless", SHMRING_PLACE_LOSSY: "lossy", SHMRING_PLACE_LEFT: "left"
}  # of the places that a consumer has

cdef int64_t SLICE_NS = 100_000_000  # between two looks at signals and at whether the others live
# What other threads ask of this one is done only when it runs Python code: pending calls (what a
# sub-interpreter gives back), asynchronous exceptions, debuggers; without the GIL also the death of objects
# that it made. A frame must not stay held until a wait is over.
cdef object enter_interpreter = eval("lambda: None")
if SHMRING_FREE_THREADED:
    SLICE_NS = 5_000_000
cdef int64_t REAP_EVERY_NS = 10_000_000
cdef Py_ssize_t MOST_BUFFER_FIELDS = 1000  # numpy reads the description of n fields in n * n steps
cdef size_t BIG_COPY = 1 << 16  # bytes from which a copy is worth giving the GIL away
patience = 5.0  # seconds until a wait without an end says for the first time what it waits for
cdef long CORES = len(os.sched_getaffinity(0))

# ---- forks: a handle belongs to the process that opened it ----

cdef int watching = shmring_watch_forks()
if watching != 0:
    raise OSError(watching, f"cannot watch for forks: {os.strerror(watching)}")
handles = weakref.WeakSet()  # those that have something to do in a child, beyond what src/forks.h does
consumers = weakref.WeakSet()  # of this process and, after a fork, of its parent


def _after_fork():
    for handle in list(handles):
        handle._enter_child()


os.register_at_fork(after_in_child=_after_fork)

# ---- programs that an exception ends: their open producers did not end regularly ----

cdef bint program_failed = False
cdef char program_failure[80]  # in C: it is there until the last handle is gone


def _note_failure():
    """At exit: keep what the uncaught exception says for producers that nobody closes."""
    global program_failed
    if not len(handles):
        return
    from shmring import _ending
    failure = _ending.failure_of_program()
    if failure is not None:
        failure = failure[:sizeof(program_failure)]
        memset(program_failure, 0, sizeof(program_failure))
        memcpy(program_failure, <const char *>failure, <size_t>len(failure))
        program_failed = True


atexit.register(_note_failure)

# ---- handles that nobody closed ----


def warn_unclosed(str kind, str name, str left=""):
    """Warn, as for files, that a handle is collected that nobody closed."""
    warnings.warn(f"unclosed {kind} of ring {name!r}: close it, or use it in a `with` block{left}",
                  ResourceWarning, 2 if kind in ("Ring", "Observer") else 1)


# ---- arguments ----


cdef uint64_t count_of(object n, str what, uint64_t most) except 0:
    """A number of frames, at least 1, cut to `most`."""
    cdef int overflow
    cdef long long value
    if PyLong_CheckExact(n):  # nearly always; objects compare slowly
        value = PyLong_AsLongLongAndOverflow(n, &overflow)
        if value >= 1 and overflow == 0:
            return most if <uint64_t>value > most else <uint64_t>value
    elif isinstance(n, bool) or not isinstance(n, (int, np.integer)):
        raise TypeError(f"{what} must be an int, not {type(n).__name__}")
    if n < 1:
        raise ValueError(f"{what} must be at least 1, not {n}")
    return most if n > most else n


# ---- times ----


cdef int look_around() except -1:
    """Between two slices of a wait: signals, and what the interpreter put off until this thread runs."""
    enter_interpreter()
    return PyErr_CheckSignals()


cdef bint word_is_due(int64_t waited_ns, unsigned said) except -1:
    """Whether a wait without an end has lasted so long that it says so: after 5 s, 10 s, 20 s, ..."""
    return waited_ns * 1e-9 >= <double>patience * <double>(<uint64_t>1 << min(said, 40))


cdef double seconds_of(str what, object value) except -1:
    cdef double seconds
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        seconds = value
    except TypeError:
        raise TypeError(f"{what} must be None or seconds >= 0, not {value!r}") from None
    if not seconds >= 0:
        raise ValueError(f"{what} must be None or seconds >= 0, not {value!r}")
    return seconds


def check_timeout(timeout):
    """Raise unless `timeout` is valid."""
    deadline_of(timeout)


def check_flag(str what, value):
    """Return a flag as bool; TypeError for anything but a bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{what} must be True or False, not {value!r}")
    return bool(value)


cdef int64_t deadline_of(object timeout) except -1:
    """The deadline for a timeout in seconds: for ever for None, 0 for one that never waits."""
    if timeout is None:
        return SHMRING_FOR_EVER
    cdef double seconds = seconds_of("timeout", timeout)
    if seconds == 0:
        return 0
    if seconds > 1e9:
        return SHMRING_FOR_EVER
    return shmring_now_ns() + <int64_t>(seconds * 1e9)


cdef int64_t spin_of(object spin) except -1:
    """Nanoseconds to spin before a sleep, for seconds; None: the default."""
    if spin is None:
        return SHMRING_SPIN_FIRST_NS if CORES > 1 else 0
    cdef double seconds = seconds_of("spin", spin)
    return SHMRING_FOR_EVER if seconds > 1e9 else <int64_t>(seconds * 1e9)


cdef int64_t slice_end(int64_t now, int64_t deadline) noexcept:
    return deadline if deadline - now < SLICE_NS else now + SLICE_NS


cdef int64_t spin_left(int64_t now, int64_t started, int64_t spin) noexcept:
    """What is left of a spin budget, at most one slice."""
    cdef int64_t left = SLICE_NS if spin == SHMRING_FOR_EVER else spin - (now - started)
    return 0 if left < 0 else left if left < SLICE_NS else SLICE_NS


# ---- the block: file, locks, mapping ----


def choose_geometry(uint64_t slots, uint64_t frame_bytes, uint64_t meta_bytes, uint64_t row_bytes,
                    uint64_t consumers, uint64_t schema_bytes):
    """Return (slots, block bytes), with the slots rounded up; None if they make no valid block."""
    cdef shmring_geometry g
    if fill_geometry(&g, slots, frame_bytes, meta_bytes, row_bytes, consumers, schema_bytes) != SHMRING_OK:
        return None
    return g.slots, g.block_bytes


cdef int fill_geometry(shmring_geometry *g, uint64_t slots, uint64_t frame_bytes, uint64_t meta_bytes,
                       uint64_t row_bytes, uint64_t consumers, uint64_t schema_bytes) noexcept:
    memset(g, 0, sizeof(shmring_geometry))
    g.slots, g.frame_bytes, g.meta_bytes, g.row_bytes = slots, frame_bytes, meta_bytes, row_bytes
    g.consumers, g.schema_bytes, g.page_bytes = consumers, schema_bytes, os.sysconf("SC_PAGE_SIZE")
    return shmring_geometry_choose(g)


def format_block(int fd, uint64_t slots, uint64_t frame_bytes, uint64_t meta_bytes, uint64_t row_bytes,
                 uint64_t consumers, bytes generation, bytes schema):
    """Write a fresh ring into the block behind fd, which nobody else uses yet."""
    cdef shmring_geometry g
    if len(generation) != 16:
        raise ValueError("a generation has 16 bytes")
    if fill_geometry(&g, slots, frame_bytes, meta_bytes, row_bytes, consumers, len(schema)) != SHMRING_OK:
        raise ValueError("these sizes make no valid block")
    if shmring_format(fd, &g, <const uint8_t *><const char *>generation, <const char *>schema) != SHMRING_OK:
        raise refused(errno, "cannot map a new ring")


cdef object refused(int number, str what):
    """The error for something that the kernel refused."""
    from shmring import _limits
    return _limits.refused(number, what)


def open_block(str name, int access):
    """Return a descriptor of the block of that name; OSError if there is none."""
    cdef int fd = shmring_open(os.fsencode(name), access)
    if fd < 0:
        raise refused(errno, f"cannot open ring {name!r}")
    return fd


def watch_names(str folder):
    """Return a descriptor that is readable once something in the folder got a name; -1 if none can be had."""
    cdef bytes path = os.fsencode(folder)
    cdef int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK)
    if fd >= 0 and inotify_add_watch(fd, path, IN_CREATE | IN_MOVED_TO) < 0:
        close_fd(fd)
        fd = -1
    return fd


def reopen(int fd, bint writable):
    """Return a new open file description of the file behind fd, with no locks and no mapping."""
    cdef int copy = shmring_reopen(fd, writable)
    if copy < 0:
        raise cannot_reopen(fd, errno)
    return copy


cdef object cannot_reopen(int fd, int number):
    if number == EACCES:
        from shmring import _diagnose
        return _diagnose.cannot_reopen(fd)
    return refused(number, "cannot open a ring once more")


def link(int fd, str path):
    """Give the nameless file behind fd a name; FileExistsError if somebody has it."""
    if shmring_link(fd, os.fsencode(path)) != 0:
        raise refused(errno, f"cannot give a ring the name {path!r}")


def lock(int fd, int64_t byte, int type, int64_t length=1):
    """Take or drop this description's lock on bytes; False if somebody else has one there."""
    return bool(shmring_lock_span(fd, byte, length, type))


@cython.final
@cython.no_gc
cdef class LockFile:
    """A descriptor for locks: of a description of its own, never mapped, and closed in forked children.

    It is closed with its last reference. For locks that a child must not keep alive, whenever it is forked.
    """

    cdef shmring_own_fd own

    def __cinit__(self, int fd):
        """Open the file behind fd once more; OSError if that is not possible."""
        if shmring_own_open(&self.own, fd) < 0:
            raise cannot_reopen(fd, errno)

    def __dealloc__(self):
        shmring_own_close(&self.own)

    def close(self):
        """Close it, which drops its locks. May be called twice."""
        shmring_own_close(&self.own)

    @property
    def fd(self):
        """The descriptor, -1 once it is closed."""
        return self.own.fd


def lock_held(int fd, int64_t byte, int64_t length=1):
    """Return whether another description, open for writing, holds a lock on one of the bytes."""
    return bool(shmring_span_held(fd, byte, length))


def lock_blocked(int fd, int64_t byte):
    """Return whether a shared lock, which whoever may read the file can take, keeps us from a byte."""
    return bool(shmring_lock_blocked(fd, byte))


def lock_place(unsigned place):
    """Return the byte whose lock means owning a place of the consumer table."""
    return SHMRING_LOCK_PLACE(place)


def read_identity(int fd):
    """Return (result, generation) of the block behind fd."""
    cdef shmring_identity identity
    cdef int result = shmring_look(fd, &identity)
    return result, bytes(identity.generation[:16]) if result == SHMRING_OK else b""


def read_abi(int fd):
    """Return the layout version of the block behind fd, whatever else it says."""
    cdef shmring_identity identity
    memset(&identity, 0, sizeof(identity))
    shmring_look(fd, &identity)
    return identity.abi


def read_block_bytes(int fd):
    """Return how long the block behind fd says it is."""
    cdef shmring_identity identity
    memset(&identity, 0, sizeof(identity))
    shmring_look(fd, &identity)
    return identity.geometry.block_bytes


def read_creation(int fd):
    """Return when the ring behind fd was created, in nanoseconds since the epoch, and by which pid."""
    cdef shmring_identity identity
    memset(&identity, 0, sizeof(identity))
    shmring_look(fd, &identity)
    return identity.created_ns, identity.creator_pid


@cython.final
@cython.no_gc
cdef class Block:
    """A block. Mapped, unless it is only looked at, until the last handle, frame and view on it is gone."""

    cdef shmring_block view
    cdef shmring_mapped mapped
    cdef Guard guard  # of the views counted there
    cdef object __weakref__
    cdef readonly str name
    cdef readonly int access
    cdef readonly bytes schema

    def __cinit__(self, int fd, int access, str name):
        cdef shmring_identity identity
        cdef int result, number
        if access == SHMRING_OBSERVE:
            result = shmring_look(fd, &identity)
            self.view.geometry = identity.geometry
            memcpy(self.view.generation, identity.generation, sizeof(identity.generation))
        else:
            result = shmring_map(&self.view, fd, access)
        number = errno  # an import may set it
        self.name, self.access = name, access
        if result != SHMRING_OK:
            from shmring import _diagnose
            raise _diagnose.cannot_map(result, name, fd, number)
        if self.view.control != NULL:
            shmring_cover(&self.view)
            shmring_mapped_add(&self.mapped, &self.view)
        self.schema = self.read_schema(fd)

    def __dealloc__(self):
        if self.view.control != NULL:
            shmring_mapped_remove(&self.mapped)
            shmring_uncover(&self.view)
            shmring_unmap(&self.view)

    cdef bytes read_schema(self, int fd):
        cdef shmring_geometry *g = &self.view.geometry
        found = PyBytes_FromStringAndSize(NULL, g.schema_bytes)
        if not shmring_read_at(fd, PyBytes_AS_STRING(found), g.schema_bytes, g.schema_offset):
            raise cannot_read(self, errno)
        return found

    cdef int check(self) except -1:
        """Refuses a block of which pages were lost; after a step: what that read may have been zeros."""
        if shmring_lost(&self.view):
            raise was_cut(self)
        return 0

    cdef bint add_view(self, uint64_t slot, uint64_t count) noexcept:
        """Notes an array of a claim, for forks; False without memory for that."""
        cdef bint done
        guard_lock(&self.guard)
        done = shmring_add_view(&self.mapped, slot, count)
        guard_unlock(&self.guard)
        return done

    cdef void drop_view(self, uint64_t slot, uint64_t count) noexcept:
        guard_lock(&self.guard)
        shmring_drop_view(&self.mapped, slot, count)
        guard_unlock(&self.guard)

    cdef int check_mapped(self) except -1:
        """Refuses a block whose slots a forked child could not map again."""
        if self.view.data == NULL:
            raise OSError(ENOMEM, f"the slots of ring {self.name!r} could not be mapped in this forked "
                                  f"process: attach to it here with Ring.attach({self.name!r})")
        return 0

    @property
    def slots(self):
        return self.view.geometry.slots

    @property
    def frame_bytes(self):
        return self.view.geometry.frame_bytes

    @property
    def meta_bytes(self):
        return self.view.geometry.meta_bytes

    @property
    def row_bytes(self):
        return self.view.geometry.row_bytes

    @property
    def consumers(self):
        return self.view.geometry.consumers

    @property
    def block_bytes(self):
        return self.view.geometry.block_bytes

    @property
    def generation(self):
        return bytes(self.view.generation[:16])

    def prefault(self, bint huge_pages, bint lock_memory):
        """Touch every page of the slots, so that no frame pays for a page fault."""
        cdef bint done
        cdef int number
        cdef bint writable = self.access == SHMRING_PRODUCE
        with nogil:
            done = shmring_prefault(&self.view, writable, huge_pages, lock_memory)
            number = errno
        if not done:
            from shmring import _limits
            twice = self.view.geometry.slots * self.view.geometry.slot_stride
            raise _limits.cannot_prefault(number, self.name, self.block_bytes + twice, huge_pages)

    def report(self, int fd):
        """Return the ring's counters as a dict, read from its file."""
        cdef shmring_ring_report report
        self.check()
        if not shmring_look_at_ring(fd, &self.view.geometry, &report):
            raise cannot_read(self, errno)
        return {
            "head": report.head, "next_seq": report.next_seq, "epoch": report.epoch,
            "start_time": report.start_time, "dropped": report.dropped, "swaps": report.swaps,
            "active": report.active, "producer_state": report.producer_state,
            "producer_pid": report.producer_pid,
            "failure": (<bytes>report.failure).decode(errors="replace"),
        }

    def report_places(self, int fd):
        """Return the taken places of the consumer table as dicts, read from the ring's file."""
        cdef shmring_place_report reports[64]
        cdef bint there
        self.check()
        with nogil:
            there = shmring_look_at_places(fd, &self.view.geometry, reports)
        if not there:
            raise cannot_read(self, errno)
        return [
            {
                "place": place, "policy": POLICIES[reports[place].state & 0xff],
                "cursor": reports[place].cursor, "delivered": reports[place].delivered,
                "lost": reports[place].lost, "skipped": reports[place].skipped, "next": reports[place].next,
                "held": reports[place].held, "pins": reports[place].pins,
                "joined_ns": reports[place].joined_ns, "pid": reports[place].pid,
                "start_time": reports[place].start_time,
                "label": (<bytes>reports[place].label).decode(errors="replace"),
            }
            for place in range(self.view.geometry.consumers)
            if reports[place].state & 0xff in POLICIES
        ]

    def copy_frame(self, int fd, uint64_t position, cnp.ndarray target, cnp.ndarray meta):
        """Copy the frame of a position out of the ring's file; (seq, timestamp_ns, rows, epoch), or None."""
        cdef uint64_t seq = 0, rows = 0
        cdef int64_t timestamp_ns = 0
        cdef shmring_taken taken
        cdef int result
        cdef void *data = cnp.PyArray_DATA(target)
        memset(&taken, 0, sizeof(taken))
        taken.seqs, taken.timestamps_ns, taken.rows = &seq, &timestamp_ns, &rows
        if meta is not None:
            taken.metas = <uint8_t *>cnp.PyArray_DATA(meta)
        self.check()
        with nogil:
            result = shmring_look_at_frame(fd, &self.view.geometry, position, data, &taken)
        if result == SHMRING_TRUNCATED:
            raise cannot_read(self, errno)
        if result == SHMRING_CORRUPT:
            raise corrupt(self)
        return (seq, timestamp_ns, rows, taken.epoch) if result == SHMRING_OK else None


cdef enum Refusal:
    NONE, FORKED, CLOSED, BUSY, CUT, CLAIMED


cdef object unusable_handle(Refusal why, str kind, Block block):
    """The error for a handle that cannot be used, by what was found under its guard."""
    if why == FORKED:
        from shmring import _diagnose
        return _diagnose.forked(kind)
    if why == CLOSED:
        return errors.RingClosed(f"this {kind} of ring {block.name!r} is closed")
    if why == CUT:
        return was_cut(block)
    if why == CLAIMED:
        return ValueError("a claimed slot is open: publish or abort it before the next frame")
    return errors.HandleBusy(
        f"another thread is inside a call on this {kind} of ring {block.name!r}: use it from one thread at a "
        f"time{', or join once for each thread' if kind == 'Consumer' else ''}")


cdef object cannot_read(Block block, int number):
    """The error for a read of the ring's file that came back without all of it."""
    if number == EBADF:
        return errors.RingClosed(f"a handle of ring {block.name!r} was closed by another thread")
    return was_cut(block) if number == 0 else refused(number, f"cannot read ring {block.name!r}")


cdef object was_cut(Block block):
    from shmring import _diagnose
    return _diagnose.cut(block.name)


cdef object corrupt(Block block):
    return errors.RingCorrupt(
        f"an entry or a counter of ring {block.name!r} cannot be right: something overwrote it. Recreate "
        f"the ring")


def survive_truncation():
    """Get RingCorrupt, not the end of the process, when the file of a ring is cut while in use.

    Whoever may write to a ring's file may also make it shorter. The kernel answers the next touch of a page
    that is gone with the signal SIGBUS, which ends the process. This installs a handler for that signal, in
    the whole process and for all of its rings, attached before or later. When a lost page is touched, it
    puts zeros in the place of that page and of all that follow it in the file, and the calls of shmring
    raise RingCorrupt from then on.

    Frames that are held read as zeros where their pages are gone, *without* an exception: look whether a
    call on the ring still works before you trust what was read. Closing and releasing work as ever. System
    calls that are given a lost page (``os.write(fd, frame)``) fail with EFAULT.

    Every other SIGBUS goes where it went before: to the handler installed earlier, or it ends the process.
    Call this after whatever else takes the signal, such as ``faulthandler.enable()``. Calling it again does
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
    if not shmring_survive_truncation():
        if errno == EBUSY:
            raise RuntimeError(
                "a handler of SIGBUS was installed over the one of survive_truncation(): install the other "
                "one first (faulthandler.enable(), say), then call survive_truncation()")
        raise OSError(errno, os.strerror(errno))


# ---- what a frame looks like ----


cdef Py_ssize_t count_fields(object dtype) except -1:
    """How many fields a dtype has, those of its fields included; 1 if it is none itself."""
    names = dtype.base.names
    if names is None:
        return 1
    cdef Py_ssize_t count = 0
    for name in names:
        count += count_fields(dtype.base.fields[name][0])
    return count


def survives_buffers(dtype):
    """Whether a dtype comes back out of the buffer protocol (PEP 3118) as it went in, and soon."""
    if count_fields(dtype) > MOST_BUFFER_FIELDS:
        return False
    try:
        return np.asarray(memoryview(np.empty(1, dtype))).dtype == dtype
    except (ValueError, RuntimeError, NotImplementedError, BufferError):
        return False


@cython.final
@cython.no_gc
cdef class Schema:
    """Shape and dtype of a ring's frames, ready for numpy's C-API."""

    cdef readonly cnp.dtype dtype
    cdef readonly tuple shape
    cdef readonly cnp.dtype meta_dtype
    cdef readonly bint variable_rows
    cdef object survives_buffers  # None: not asked yet
    cdef int ndim
    cdef cnp.npy_intp dims[64]
    cdef size_t frame_bytes
    cdef size_t row_bytes
    cdef size_t meta_bytes

    def __cinit__(self, cnp.dtype dtype, tuple shape, cnp.dtype meta_dtype, bint variable_rows):
        if len(shape) > 31:
            raise ValueError(f"a frame has at most 31 dimensions, not {len(shape)}")
        self.dtype, self.shape, self.meta_dtype = dtype, shape, meta_dtype
        self.variable_rows = variable_rows
        self.ndim = len(shape)
        self.frame_bytes = dtype.itemsize
        for i, length in enumerate(shape):
            self.dims[i] = length
            self.frame_bytes *= length
        self.row_bytes = self.frame_bytes // shape[0] if variable_rows else 0
        self.meta_bytes = 0 if meta_dtype is None else meta_dtype.itemsize

    cdef bint exports_buffers(self) except -1:
        if self.survives_buffers is None:
            self.survives_buffers = survives_buffers(self.dtype)
        return self.survives_buffers

    cdef cnp.ndarray frame_array(self, void *data, uint64_t rows, object base, bint writable):
        """One frame as an ndarray on memory that `base` keeps."""
        cdef cnp.npy_intp dims[64]
        cdef int flags = cnp.NPY_ARRAY_CARRAY if writable else cnp.NPY_ARRAY_CARRAY_RO
        cdef cnp.npy_intp *shape = self.dims
        if self.variable_rows:
            memcpy(dims, self.dims, sizeof(cnp.npy_intp) * self.ndim)
            dims[0] = <cnp.npy_intp>rows
            shape = dims
        Py_INCREF(self.dtype)
        array = PyArray_NewFromDescr(cnp.ndarray, self.dtype, self.ndim, shape, NULL, data, flags, None)
        if base is not None:
            Py_INCREF(base)
            PyArray_SetBaseObject(array, base)
        return array

    cdef cnp.ndarray batch_array(self, void *data, uint64_t count, uint64_t stride, object base,
                                 bint writable):
        """Adjacent frames as one ndarray."""
        cdef cnp.npy_intp dims[64]
        cdef cnp.npy_intp strides[64]
        cdef int i
        cdef int flags = cnp.NPY_ARRAY_CARRAY if writable else cnp.NPY_ARRAY_CARRAY_RO
        cdef cnp.npy_intp step = self.dtype.itemsize
        dims[0], strides[0] = <cnp.npy_intp>count, <cnp.npy_intp>stride
        for i in range(self.ndim, 0, -1):
            dims[i], strides[i] = self.dims[i - 1], step
            step *= self.dims[i - 1]
        Py_INCREF(self.dtype)
        array = PyArray_NewFromDescr(
            cnp.ndarray, self.dtype, self.ndim + 1, dims, strides, data, flags, None)
        Py_INCREF(base)
        PyArray_SetBaseObject(array, base)
        return array

    cdef bint fits(self, cnp.ndarray array, int lead) noexcept:
        """Whether an array has exactly the frames' dtype and shape, after `lead` leading axes."""
        if array.descr is not self.dtype and not cnp.PyArray_EquivTypes(array.descr, self.dtype):
            return False
        return self.has_shape(array, lead)

    cdef bint has_shape(self, cnp.ndarray array, int lead) noexcept:
        """Whether an array has the frames' shape, after `lead` leading axes."""
        cdef int i
        if array.ndim != self.ndim + lead:
            return False
        for i in range(self.ndim):
            if array.shape[i + lead] != self.dims[i]:
                if i != 0 or not self.variable_rows or array.shape[lead] > self.dims[0]:
                    return False
        return True


cdef bytes meta_bytes_of(Schema schema, object meta, uint64_t count, bint single):
    """Bytes of the meta of one frame, or of the metas of `count` frames."""
    if schema.meta_dtype is None:
        raise ValueError("this ring carries no meta; create it with meta=<dtype>")
    from shmring import _meta
    return _meta.pack_one(meta, schema.meta_dtype) if single else _meta.pack_many(
        meta, schema.meta_dtype, count)


include "_producer.pxi"
include "_frame.pxi"
include "_consumer.pxi"
