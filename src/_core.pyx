"""The core of shmring: handles and frames on the protocol of ``shmring/include/shmring``.

No protocol and no atomic operation is in here: only lifetimes, arrays, waits and messages. Each included file
is one concept; they share one module, so that its classes call each other directly.
"""

cimport cython
from cpython.buffer cimport PyBUF_FORMAT, PyBuffer_FillInfo, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals, PyErr_Clear, PyErr_Occurred
from cpython.float cimport PyFloat_CheckExact
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF, PyObject, PyTypeObject
from libc.errno cimport EACCES, EBADF, EBUSY, ENOMEM, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset
from posix.unistd cimport close as close_fd

cimport c_numpy as cnp
from c_shmring cimport *

import atexit
import gc
import math
import os
import warnings
import weakref
from operator import index

import numpy as np

# Here, not where they are used: an import inside of a wait may swallow Ctrl-C.
from shmring import _arrays, _limits, _messages, _repr, _words, errors
from shmring._others import others_run

cnp.import_numpy()

cdef extern from "sys/inotify.h" nogil:
    int inotify_init1(int flags)
    int inotify_add_watch(int fd, const char *path, uint32_t mask)
    enum:
        IN_CLOEXEC
        IN_NONBLOCK
        IN_CREATE
        IN_MOVED_TO

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(PyObject *)

cdef extern from "guard.h":
    ctypedef struct Guard "shmring_guard":
        pass
    void guard_lock "shmring_guard_lock"(Guard *guard) noexcept nogil
    void guard_unlock "shmring_guard_unlock"(Guard *guard) noexcept nogil
    const bint SHMRING_FREE_THREADED

cdef extern from "clear.h":
    pass  # what it does to memset is enough

cdef extern from "dealloc.h":
    void before_death "shmring_before_death"(
        PyTypeObject *frame, PyTypeObject *batch, void (*act)(PyObject *) noexcept)

MAGIC = (<object>SHMRING_MAGIC).to_bytes(8, "little")
ABI = SHMRING_ABI
MAX_CONSUMERS = SHMRING_MAX_CONSUMERS
MAX_GROUPS = SHMRING_MAX_GROUPS
MAX_SLOTS = SHMRING_MAX_SLOTS
HUGE_PAGE_BYTES = shmring_huge_page_bytes()
MAX_SCHEMA = MAX_META = SHMRING_MAX_SCHEMA
LABEL_BYTES = SHMRING_LABEL_BYTES - 1
LOCK_PRODUCER = SHMRING_LOCK_PRODUCER
LOCK_PRESENCE = SHMRING_LOCK_PRESENCE
PRESENCE_BYTES = SHMRING_PRESENCE_BYTES
EXCLUSIVE, UNLOCKED = F_WRLCK, F_UNLCK
OBSERVE, CONSUME, PRODUCE = SHMRING_OBSERVE, SHMRING_CONSUME, SHMRING_PRODUCE
NOT_READY, FOREIGN, OTHER_ABI = SHMRING_NOT_READY, SHMRING_FOREIGN, SHMRING_OTHER_ABI
TRUNCATED, CORRUPT = SHMRING_TRUNCATED, SHMRING_CORRUPT
PRODUCER_EXISTS, NO_PLACE = SHMRING_PRODUCER_EXISTS, SHMRING_NO_PLACE
NO_GROUP, OTHER_GROUP, TIMEOUT = SHMRING_NO_GROUP, SHMRING_OTHER_GROUP, SHMRING_TIMEOUT
PRODUCER_NONE, PRODUCER_CLOSED = SHMRING_PRODUCER_NONE, SHMRING_PRODUCER_CLOSED
PRODUCER_FAILED = SHMRING_PRODUCER_FAILED
POLICIES = {
    SHMRING_PLACE_LOSSLESS: "lossless", SHMRING_PLACE_LOSSY: "lossy", SHMRING_PLACE_LEFT: "left",
    SHMRING_PLACE_MEMBER: "member"
}  # of the places that a consumer has

include "arguments.pxi"
include "waiting.pxi"
include "handles.pxi"
include "file.pxi"
include "block.pxi"
include "truncation.pxi"
include "schema.pxi"
include "slot.pxi"
include "producer.pxi"
include "buffers.pxi"
include "frame.pxi"
include "consumer.pxi"
include "iteration.pxi"
include "several.pxi"
include "asyncio.pxi"
