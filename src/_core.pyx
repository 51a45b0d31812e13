"""The core of shmring: handles and frames on the protocol of ``shmring/include/shmring``.

No protocol and no atomic operation stands here: only lifetimes, arrays, waits and messages.
"""

cimport cython
cimport numpy as cnp
from cpython.buffer cimport PyBUF_FORMAT, PyBuffer_FillInfo, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from cpython.ref cimport Py_INCREF
from libc.errno cimport EBUSY, ENOMEM, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from c_shmring cimport *

import os
import weakref
from operator import index

import numpy as np

from shmring import errors

cnp.import_array()

cdef extern from "numpy/arrayobject.h":
    object PyArray_NewFromDescr(
        type subtype, cnp.dtype descr, int nd, cnp.npy_intp *dims, cnp.npy_intp *strides, void *data,
        int flags, object obj)
    int PyArray_SetBaseObject(cnp.ndarray array, object base) except -1

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
MAX_SCHEMA = SHMRING_MAX_SCHEMA
LABEL_BYTES = SHMRING_LABEL_BYTES - 1
LOCK_PRODUCER = SHMRING_LOCK_PRODUCER
LOCK_PRESENCE = SHMRING_LOCK_PRESENCE
SHARED, EXCLUSIVE, UNLOCKED = F_RDLCK, F_WRLCK, F_UNLCK
OBSERVE, CONSUME, PRODUCE = SHMRING_OBSERVE, SHMRING_CONSUME, SHMRING_PRODUCE
NOT_READY, FOREIGN, OTHER_ABI = SHMRING_NOT_READY, SHMRING_FOREIGN, SHMRING_OTHER_ABI
TRUNCATED, CORRUPT = SHMRING_TRUNCATED, SHMRING_CORRUPT
PRODUCER_EXISTS, NO_PLACE = SHMRING_PRODUCER_EXISTS, SHMRING_NO_PLACE
PRODUCER_NONE, PRODUCER_CLOSED = SHMRING_PRODUCER_NONE, SHMRING_PRODUCER_CLOSED

cdef int64_t SLICE_NS = 100_000_000  # between two looks at signals and at whether the others live
# Without the GIL, an object whose last reference another thread drops dies only when the thread that made
# it runs Python code again: a frame that a waiting producer made must not stay held so long.
cdef object enter_interpreter = eval("lambda: None")
if SHMRING_FREE_THREADED:
    SLICE_NS = 5_000_000
cdef int64_t REAP_EVERY_NS = 10_000_000
cdef size_t BIG_COPY = 1 << 16  # bytes from which a copy is worth giving the GIL away
cdef long CORES = len(os.sched_getaffinity(0))

# ---- forks: a handle belongs to the process that opened it ----

cdef int watching = shmring_watch_forks()
if watching != 0:
    raise OSError(watching, f"cannot watch for forks: {os.strerror(watching)}")
handles = weakref.WeakSet()  # those that have something to do in a child, beyond what src/forks.h does


def _after_fork():
    for handle in list(handles):
        handle._enter_child()


os.register_at_fork(after_in_child=_after_fork)

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
    if SHMRING_FREE_THREADED:
        enter_interpreter()
    return PyErr_CheckSignals()


cdef double seconds_of(str what, object value) except -1:
    cdef double seconds
    try:
        seconds = value
    except TypeError:
        raise TypeError(f"{what} must be None or seconds >= 0, not {value!r}") from None
    if not seconds >= 0:
        raise ValueError(f"{what} must be None or seconds >= 0, not {value!r}")
    return seconds


def check_timeout(timeout):
    """Refuse what is no timeout."""
    deadline_of(timeout)


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
        raise OSError(errno, os.strerror(errno))


def open_block(str name, int access):
    """Return a descriptor of the block of that name; OSError if there is none."""
    cdef int fd = shmring_open(os.fsencode(name), access)
    if fd < 0:
        raise OSError(errno, os.strerror(errno), name)
    return fd


def reopen(int fd, bint writable):
    """Return a new open file description of the file behind fd, with no locks and no mapping."""
    cdef int copy = shmring_reopen(fd, writable)
    if copy < 0:
        raise OSError(errno, os.strerror(errno))
    return copy


def link(int fd, str path):
    """Give the nameless file behind fd a name; FileExistsError if somebody has it."""
    if shmring_link(fd, os.fsencode(path)) != 0:
        raise OSError(errno, os.strerror(errno), path)


def lock(int fd, int64_t byte, int type):
    """Take or drop this description's lock on a byte; False if somebody else holds it."""
    return bool(shmring_lock(fd, byte, type))


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
            raise OSError(errno, os.strerror(errno))

    def __dealloc__(self):
        shmring_own_close(&self.own)

    def close(self):
        """Close it, which drops its locks. May be called twice."""
        shmring_own_close(&self.own)

    @property
    def fd(self):
        """The descriptor, -1 once it is closed."""
        return self.own.fd


def lock_held(int fd, int64_t byte):
    """Return whether another description holds a lock on a byte."""
    return bool(shmring_lock_held(fd, byte))


def lock_place(unsigned place):
    """Return the byte whose lock means owning a place of the consumer table."""
    return SHMRING_LOCK_PLACE(place)


def read_identity(int fd):
    """Return (result, generation) of the block behind fd without mapping all of it."""
    cdef shmring_identity identity
    cdef int result = shmring_read_identity(fd, &identity)
    return result, bytes(identity.generation[:16]) if result == SHMRING_OK else b""


def read_abi(int fd):
    """Return the layout version of the block behind fd, whatever else it says."""
    cdef shmring_identity identity
    memset(&identity, 0, sizeof(identity))
    shmring_read_identity(fd, &identity)
    return identity.abi


def read_block_bytes(int fd):
    """Return how long the block behind fd says it is."""
    cdef shmring_identity identity
    memset(&identity, 0, sizeof(identity))
    shmring_read_identity(fd, &identity)
    return identity.geometry.block_bytes


@cython.final
@cython.no_gc
cdef class Block:
    """A mapped block. It stays mapped until the last handle, frame and view on it is gone."""

    cdef shmring_block view
    cdef shmring_mapped mapped
    cdef Guard guard  # of the views counted there
    cdef object __weakref__
    cdef readonly str name
    cdef readonly int access

    def __cinit__(self, int fd, int access, str name):
        cdef int result = shmring_map(&self.view, fd, access)
        self.name, self.access = name, access
        if result != SHMRING_OK:
            from shmring import _diagnose
            raise _diagnose.cannot_map(result, name, fd, errno)
        shmring_cover(&self.view)
        shmring_mapped_add(&self.mapped, &self.view)

    def __dealloc__(self):
        shmring_mapped_remove(&self.mapped)
        shmring_uncover(&self.view)
        shmring_unmap(&self.view)

    cdef int check(self) except -1:
        """Refuses a block of which pages were lost; after a step: what that read may have been zeros."""
        if shmring_lost(&self.view):
            raise errors.RingCorrupt(
                f"the file of ring {self.name!r} was cut while it was in use: what was read of it since then "
                f"may be zeros, what was written is lost. Create the ring anew")
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

    @property
    def schema(self):
        cdef shmring_geometry *g = &self.view.geometry
        return bytes(self.view.control[g.schema_offset:g.schema_offset + g.schema_bytes])

    def prefault(self, bint huge_pages, bint lock_memory):
        """Touch every page of the slots, so that no frame pays for a page fault."""
        cdef bint done
        cdef bint writable = self.access == SHMRING_PRODUCE
        with nogil:
            done = shmring_prefault(&self.view, writable, huge_pages, lock_memory)
        if not done:
            raise OSError(errno, f"the kernel refused huge pages or locked memory: {os.strerror(errno)} "
                                 f"(see ulimit -l and /sys/kernel/mm/transparent_hugepage/shmem_enabled)")

    def report(self):
        """Return the ring's counters as a dict."""
        cdef shmring_ring_report report
        shmring_report(&self.view, &report)
        self.check()
        return report

    def report_place(self, unsigned place):
        """Return a place of the consumer table as a dict, None if it is free."""
        cdef shmring_place_report report
        shmring_report_place(&self.view, place, &report)
        self.check()
        cdef int kind = <int>(report.state & 0xff)
        if kind == SHMRING_PLACE_LOSSLESS:
            policy = "lossless"
        elif kind == SHMRING_PLACE_LOSSY:
            policy = "lossy"
        elif kind == SHMRING_PLACE_LEFT:
            policy = "left"
        else:
            return None
        return {
            "policy": policy, "cursor": report.cursor, "delivered": report.delivered, "lost": report.lost,
            "skipped": report.skipped, "next": report.next, "held": report.held, "pins": report.pins,
            "joined_ns": report.joined_ns, "pid": report.pid,
            "label": (<bytes>report.label).decode(errors="replace"),
        }

    def copy_frame(self, uint64_t position, cnp.ndarray target, cnp.ndarray meta):
        """Copy the frame of a position; (seq, timestamp_ns, rows, epoch), or None if it is not there."""
        cdef uint64_t seq = 0, rows = 0
        cdef int64_t timestamp_ns = 0
        cdef shmring_taken taken
        cdef int result
        cdef void *data = cnp.PyArray_DATA(target)
        self.check_mapped()
        memset(&taken, 0, sizeof(taken))
        taken.seqs, taken.timestamps_ns, taken.rows = &seq, &timestamp_ns, &rows
        if meta is not None:
            taken.metas = <uint8_t *>cnp.PyArray_DATA(meta)
        with nogil:
            result = shmring_copy_out(&self.view, position, data, &taken)
        self.check()
        if result == SHMRING_CORRUPT:
            raise corrupt(self)
        return (seq, timestamp_ns, rows, taken.epoch) if result == SHMRING_OK else None


cdef object corrupt(Block block):
    return errors.RingCorrupt(
        f"an entry or a counter of ring {block.name!r} cannot be right: something overwrote it. Create the "
        f"ring anew")


def survive_truncation():
    """Get RingCorrupt, not the end of the process, when the file of a ring is cut while in use.

    Whoever may write to a ring's file may also make it shorter. The kernel answers the next touch of a page
    that is gone with the signal SIGBUS, which ends the process. This installs a handler for that signal, in
    the whole process and for all of its rings, attached before or later. It puts a page of zeros in the
    place of each lost page that is touched, and the calls of shmring raise RingCorrupt from then on.

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


def survives_buffers(dtype):
    """Whether a dtype comes back out of the buffer protocol (PEP 3118) as it went in."""
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
    cdef bint exports_buffers
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
        self.exports_buffers = survives_buffers(dtype)
        self.ndim = len(shape)
        self.frame_bytes = dtype.itemsize
        for i, length in enumerate(shape):
            self.dims[i] = length
            self.frame_bytes *= length
        self.row_bytes = self.frame_bytes // shape[0] if variable_rows else 0
        self.meta_bytes = 0 if meta_dtype is None else meta_dtype.itemsize

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
        cdef int i
        if array.ndim != self.ndim + lead:
            return False
        if array.descr is not self.dtype and not cnp.PyArray_EquivTypes(array.descr, self.dtype):
            return False
        for i in range(self.ndim):
            if array.shape[i + lead] != self.dims[i]:
                if i != 0 or not self.variable_rows or array.shape[lead] > self.dims[0]:
                    return False
        return True


cdef object meta_bytes_of(Schema schema, object meta, uint64_t count):
    """Bytes of `count` metas out of whatever the user gave."""
    if schema.meta_dtype is None:
        raise ValueError("this ring carries no meta; create it with meta=<dtype>")
    names = (<object>schema.meta_dtype).names

    def one(value):
        if names is not None and isinstance(value, dict):
            unknown = set(value) - set(names)
            if unknown or len(value) != len(names):
                raise ValueError(f"meta has the fields {names}, not {tuple(value)}")
            return tuple(value[name] for name in names)
        return value

    cell = np.zeros(count, schema.meta_dtype)
    if count == 1 and not (isinstance(meta, (list, np.ndarray)) and np.shape(meta) == (1,)):
        cell[0] = one(meta)
    else:
        if <uint64_t>len(meta) != count:
            raise ValueError(f"{len(meta)} metas given for {count} frames")
        for i, value in enumerate(meta):
            cell[i] = one(value)
    return cell.tobytes()


include "_producer.pxi"
include "_frame.pxi"
include "_consumer.pxi"
