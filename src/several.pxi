# Waiting for several rings at once.

cdef enum:
    WATCHED = 128  # at most, by the kernel

cdef int64_t LOOK_NS = 1_000_000  # between two looks at more rings than that


def wait(consumers, timeout=None):
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
    cdef Wait waiting = wait_of(timeout)
    cdef list several = several_consumers(consumers)
    cdef list ready = ready_ones(several, False)
    cdef int64_t now
    cdef double waited
    waiting.started = shmring_now_ns()
    while not ready:
        now = shmring_now_ns()
        if now >= waiting.deadline:
            return ready_ones(several, True)
        ready = sleep_for_any(several, shmring_slice_end(now, waiting.deadline, SLICE_NS))
        if ready:
            break
        look_around()
        waited = waited_until_notice(&waiting)
        if waited != 0:
            _messages.still_waiting("wait", _messages.nothing_ready(several, waited))
    return ready


cdef list several_consumers(object consumers):
    """The list of consumers that somebody gave."""
    if isinstance(consumers, Consumer):
        raise TypeError("wait() takes a list of consumers: wait([consumer])")
    cdef list several = list(consumers)
    for one in several:
        if not isinstance(one, Consumer):
            raise TypeError(_messages.not_awaitable(one, "wait"))
    if not several:
        raise ValueError("wait() was given no consumer: there is nothing to wait for")
    if len(set(several)) < len(several):
        twice = next(one for one in several if several.count(one) > 1)
        raise ValueError(f"a consumer of ring {twice.name!r} is in the list twice")
    return several


cdef list ready_ones(list several, bint ask_kernel):
    """Those that need not wait."""
    cdef Consumer one
    cdef int64_t now = shmring_coarse_now_ns()
    return [one for one in several if one.is_ready(now, ask_kernel)]


cdef list sleep_for_any(list several, int64_t until):
    """Sleeps once; then those that need not wait."""
    cdef uint32_t *words[WATCHED]
    cdef uint32_t values[WATCHED]
    cdef unsigned i, count = <unsigned>min(len(several), WATCHED)
    cdef list ready, asleep = []
    cdef Consumer one
    if len(several) > WATCHED:
        until = min(until, shmring_now_ns() + LOOK_NS)
    for i in range(count):
        one = several[i]
        words[i] = &one.block.view.hot.data_event
        values[i] = shmring_event_prepare(words[i])
    ready = ready_ones(several, False)  # for news from before these lines nobody wakes us
    if ready:
        return ready
    try:
        for one in several:
            one.begin_sleep()
            asleep.append(one)
        with nogil:
            shmring_futex_wait_any(words, values, count, until)
    finally:
        for one in asleep:
            one.end_sleep()
    return ready_ones(several, False)
