# What every wait is made of: slices, deadlines, spins, and notices about a long one.

cdef int64_t SLICE_NS = 100_000_000  # between two checks of signals and of whether the others live
# What other threads ask of this one is done only when it runs Python code: pending calls (what a
# sub-interpreter gives back), asynchronous exceptions, debuggers; without the GIL also the death of objects
# that it made. A frame must not stay held until a wait is over.
cdef object enter_interpreter = eval("lambda: None")
if SHMRING_FREE_THREADED:
    SLICE_NS = 5_000_000
patience = 5.0  # seconds until a wait without a timeout first logs what it waits for
cdef long CORES = len(os.sched_getaffinity(0))


cdef int look_around() except -1:
    """Between two slices of a wait: signals, and what the interpreter deferred until this thread runs."""
    enter_interpreter()
    return PyErr_CheckSignals()


cdef struct Wait:
    int64_t deadline  # 0: of a wait that never waits
    int64_t started
    unsigned notices  # given so far, of what it waits for


cdef Wait wait_of(object timeout) except *:
    """A wait of at most `timeout` seconds, that has not begun yet."""
    return Wait(deadline_of(timeout), 0, 0)


cpdef bint notice_is_due(double waited, unsigned given) except -1:
    """Whether a wait without a timeout is due for a notice of what it waits for: after 5, 10, 20, ... s."""
    return waited >= <double>patience * <double>(<uint64_t>1 << min(given, 40))


cdef double waited_until_notice(Wait *wait) except? 0:
    """How many seconds a wait without an end has lasted, if a notice is due; else 0."""
    if wait.deadline != SHMRING_FOR_EVER:
        return 0
    cdef double waited = (shmring_now_ns() - wait.started) * 1e-9
    if not notice_is_due(waited, wait.notices):
        return 0
    wait.notices += 1
    return waited


cdef int64_t deadline_of(object timeout) except -1:
    """The deadline for a timeout in seconds: forever for None, 0 for one that never waits."""
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
