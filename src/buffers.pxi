# Several buffers at once, for a driver that fills them in order.

@cython.final
@cython.no_gc
cdef class Buffers:
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

    cdef Producer producer
    cdef uint64_t number  # of the claim
    cdef uint64_t most
    cdef list lent  # the arrays that the driver has, those of the first frames of the claim

    def __init__(self, *_args, **_options):
        raise TypeError("Buffers come from Producer.buffers()")

    cdef int occupy(self) except -1:
        cdef Producer producer = self.producer
        if producer.fork_mark != fork_count:
            raise _messages.forked("Producer")
        if producer.is_open and not producer.has_open(self.number):
            raise ValueError("these buffers were given back; call buffers() of the producer again")
        if not producer.is_open:
            raise unusable_handle(CLOSED, "Producer", producer.block)
        return producer.occupy(self.number)

    def refill(self, timeout=None):
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
        cdef Producer producer = self.producer
        cdef int64_t deadline = deadline_of(timeout)
        cdef list lent = self.lent
        cdef list added = []
        cdef OnFull policy = producer.full_policy
        cdef uint64_t i
        self.occupy()
        if producer.core.count == 0:
            producer.claim_slowly(1, deadline, RAISE if policy == RAISE else WAIT)
        while producer.core.count < self.most and producer.claim_more():
            pass
        try:
            for i in range(<uint64_t>len(lent), producer.core.count):
                added.append(producer.buffer_array(i))
            lent += added
        finally:
            producer.vacate()
        producer.block.check()
        return added

    def publish(self, *, timestamp_ns=None, meta=None, rows=None):
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
        cdef Producer producer = self.producer
        cdef Schema schema = producer.schema
        cdef uint64_t valid_rows = schema.dims[0] if schema.variable_rows else 0
        cdef bytes meta_given = None
        cdef const void *meta_data = NULL
        cdef int64_t when = 0
        cdef bint published
        if rows is not None:
            valid_rows = rows_of(schema, rows)
        if meta is not None:
            meta_given = meta_bytes_of(schema, meta, 1, True)
            meta_data = <const char *>meta_given
        if timestamp_ns is not None:
            when = timestamp_of(timestamp_ns)
        self.occupy_with_buffer()
        published = producer.full_policy != DROP or producer.claim_more()
        if published:
            shmring_describe(
                &producer.core, 0, shmring_now_ns() if timestamp_ns is None else when, valid_rows, meta_data)
            shmring_publish_oldest(&producer.core)
        else:
            self.requeue()
        self.end_oldest()
        return published

    def drop(self):
        """Do not publish the oldest buffer, because it is damaged: consumers count a lost frame.

        The next `refill` returns its memory, so that the driver can fill it again.

        Raises
        ------
        RingClosed, ForkedHandle, HandleBusy, ValueError
            As for `publish`.
        """
        self.occupy_with_buffer()
        self.requeue()
        self.end_oldest()

    cdef int occupy_with_buffer(self) except -1:
        self.occupy()
        if not self.lent:
            self.producer.vacate()
            raise ValueError("the driver has no buffer; call refill() and give it what that returns")
        return 0

    cdef void requeue(self) noexcept:
        shmring_requeue_oldest(&self.producer.core)
        shmring_drop(&self.producer.core, 1)

    cdef int end_oldest(self) except -1:
        """The driver no longer has the oldest buffer. Ends what `occupy` began."""
        cdef Producer producer = self.producer
        freeze(self.lent.pop(0))
        producer.vacate()
        return producer.block.check()

    @property
    def oldest(self):
        """The array of the buffer that the driver fills first; None if it has none."""
        cdef list lent = self.lent
        return lent[0] if lent else None

    def __len__(self):
        """How many buffers the driver has."""
        return len(self.lent)

    def close(self):
        """Give the buffers back unseen; the next frame gets their seq. May be called twice."""
        cdef Producer producer = self.producer
        if producer.fork_mark == fork_count and producer.has_open(self.number):
            producer.abort_claim(self.number)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        self.close()

    def __del__(self):
        if (self.number != NO_CLAIM and self.producer.fork_mark == fork_count
                and self.producer.has_open(self.number)):
            warn_unclosed("Buffers", self.producer.name)

    def __dealloc__(self):
        if self.number != NO_CLAIM:
            self.producer.forget_claim(self.number)

    def __reduce__(self):
        raise _messages.not_pickled("Buffers object")

    def __repr__(self):
        return _repr.buffers(self, self.producer.name, self.most, self.producer.has_open(self.number))
