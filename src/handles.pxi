# What all handles have in common: forks, the end of the program, and why one cannot be used.

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
    what = f"Ring {name!r}" if kind == "Ring" else f"{kind} of ring {name!r}"
    it = "them" if kind == "Buffers" else "it"
    warnings.warn(f"unclosed {what}: close {it}, or use {it} in a `with` block{left}",
                  ResourceWarning, 2 if kind in ("Ring", "Observer") else 1)


# ---- handles that cannot be used ----


cdef str state_of(bint is_open, unsigned long fork_mark):
    """Of a handle, in words."""
    if fork_mark != fork_count:
        return "of the parent process"
    return "open" if is_open else "closed"


cdef enum Refusal:
    NONE, FORKED, CLOSED, BUSY, CUT, CLAIMED, LENT, FINISHED


cdef object unusable_handle(Refusal why, str kind, Block block):
    """The error for a handle that cannot be used, by what was found under its guard."""
    if why == FORKED:
        return _messages.forked(kind)
    if why == CLOSED:
        return errors.RingClosed(
            f"this {kind} of ring {block.name!r} is closed: open another one (ring.{kind.lower()}())")
    if why == CUT:
        return was_cut(block)
    if why == CLAIMED:
        return ValueError("a claimed slot is open: publish or abort it before the next frame")
    if why == LENT:
        return ValueError("a driver has buffers of this Producer: close() them, or leave their `with` block, "
                          "before anything else is published")
    if why == FINISHED:
        return ValueError("this slot was published or aborted before")
    return errors.HandleBusy(
        f"another thread is inside a call on this {kind} of ring {block.name!r}: use it from one thread at a "
        f"time{', or join once for each thread' if kind == 'Consumer' else ''}")
