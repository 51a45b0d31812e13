# The producer's handle.

cdef int64_t REAP_EVERY_NS = 10_000_000
cdef size_t BIG_COPY = 1 << 16  # bytes from which a copy is worth giving the GIL away
cdef str NO_CASTING = "no"


cdef enum OnFull:
    WAIT, DROP, RAISE

cdef enum Room:
    FULL, AT_ONCE, AFTER_A_WAIT

cdef enum End:
    NO_END, CLOSE, ABANDON

cdef dict ON_FULL = {"wait": WAIT, "drop": DROP, "raise": RAISE}


@cython.final
@cython.no_gc_clear  # a Ring may refer to its producer; the producer itself stays whole until it closes
cdef class Producer:
    """Publishes frames: from ``Ring.producer()``. A ring has one producer at a time.

    A context manager; leaving it closes the stream, and the consumers' iterations end once they have
    read everything. If an exception leaves it, they get ProducerFailed instead. KeyboardInterrupt,
    ``sys.exit()``, a cancelled task and a closed generator count as regular ends.
    """

    cdef readonly object ring
    """The Ring that this producer was opened from; it stays open for as long as the producer exists."""
    cdef Block block
    cdef Schema schema
    cdef shmring_producer core
    cdef object __weakref__
    cdef Guard guard  # of what is below, down to claims; the thread that set busy owns the rest
    cdef bint busy
    cdef End end_asked  # by another thread, while this one waits in here
    cdef bytes failure_asked  # what that end is to say
    cdef bint is_open
    cdef Claim open_claim
    cdef cnp.ndarray open_view  # its array, once it was asked for
    cdef list lent_buffers  # the arrays of a claim of Buffers
    cdef uint64_t claims
    cdef bint warned_of_untouched
    cdef LockFile lock
    cdef unsigned long fork_mark
    cdef OnFull full_policy
    cdef int64_t spin_ns
    cdef bint spin_adapts
    cdef int64_t full_since
    cdef int64_t reaped_at
    cdef uint64_t first_head

    def __init__(self, *_args, **_options):
        raise TypeError("a Producer comes from Ring.producer()")

    def _open(self, LockFile lock):
        """Become the producer, for as long as `lock` is open."""
        cdef int result = shmring_producer_open(&self.core, &self.block.view, lock.own.fd)
        cdef int number = errno  # an import may set it
        if result != SHMRING_OK:
            try:
                raise _messages.cannot_produce(result, self.block, lock.own.fd, number)
            finally:
                lock.close()  # the error's traceback keeps it
        self.lock, self.fork_mark, self.is_open = lock, fork_count, True
        self.first_head = self.core.head
        self.block.check()
        handles.add(self)
        return self

    def _enter_child(self):
        """The parent's claim cannot be written here: an error, rather than a frame without it."""
        handles.discard(self)
        if self.open_view is not None:
            freeze(self.open_view)
        self.take_buffers_back()

    def __del__(self):
        if self.is_open and self.fork_mark == fork_count:
            warn_unclosed("Producer", self.block.name)

    def __dealloc__(self):
        if self.is_open and self.fork_mark == fork_count:
            if program_failed:
                shmring_producer_fail(&self.core, program_failure)
            else:
                shmring_producer_close(&self.core)
            shmring_own_close(&self.lock.own)

    # ---- guards ----

    cdef inline int occupy(self, uint64_t number) except -1:
        """Takes the handle for this thread, until `vacate`.

        `number` is that of the claim to end, or NO_CLAIM for what can only be done while none is open.
        """
        guard_lock(&self.guard)
        if (self.busy or not self.is_open or self.fork_mark != fork_count or not self.has_open(number)
                or (number == NO_CLAIM and shmring_lost_pages(&self.block.view))):
            return self.refuse(number)
        self.busy = True
        guard_unlock(&self.guard)
        return 0

    cdef int refuse(self, uint64_t number) except -1:
        """Says why the handle was not free, and unlocks the guard."""
        cdef Refusal why = self.unusable(number)
        guard_unlock(&self.guard)
        raise unusable_handle(why, "Producer", self.block)

    cdef Refusal unusable(self, uint64_t number) noexcept:
        """Why the handle was not free. The guard is locked: a moment later the answer may differ."""
        if number != NO_CLAIM and not self.has_open(number):
            return FINISHED
        if self.fork_mark != fork_count:
            return FORKED
        if not self.is_open:
            return CLOSED
        if self.busy:
            return BUSY
        if shmring_lost_pages(&self.block.view):
            return CUT
        return CLAIMED if self.lent_buffers is None else LENT

    cdef inline int vacate(self) except -1:
        """Lets others use the handle; ends the stream if one of them asked for that."""
        cdef End end_asked
        guard_lock(&self.guard)
        self.busy = False
        end_asked = self.end_asked
        guard_unlock(&self.guard)
        return 0 if end_asked == NO_END else self.end_as_asked()

    cdef int end_as_asked(self) except -1:
        self._end(self.failure_asked, self.end_asked)
        return 0

    # ---- the open claim ----

    cdef inline bint has_open(self, uint64_t number) noexcept:
        """Whether the claim of this number is open; for NO_CLAIM, whether none is."""
        return self.open_claim.number == number

    cdef bint lend(self, Slot slot, cnp.ndarray view) noexcept:
        """Makes `view` the array of a claim, unless it has one; False if the claim has ended."""
        cdef bint is_open
        guard_lock(&self.guard)
        is_open = self.has_open(slot.claim.number)
        if is_open and slot.view is None:
            slot.view = self.open_view = view
            slot.take_samples()
        guard_unlock(&self.guard)
        return is_open

    cdef inline void end_claim(self) noexcept:
        """The slots of the open claim are no longer the user's: their array turns read-only."""
        cdef cnp.ndarray view
        guard_lock(&self.guard)
        self.open_claim.number = NO_CLAIM
        view, self.open_view = self.open_view, None
        if view is not None:
            freeze(view)
        guard_unlock(&self.guard)

    cdef int publish_claim(self, Slot slot, uint64_t count) except -1:
        self.occupy(slot.claim.number)
        self.end_claim()
        if slot.claim.scratch:
            shmring_drop(&self.core, count)
        else:
            slot.describe(count)
            shmring_publish(&self.core, count)
        self.vacate()
        return self.block.check()

    cdef int abort_claim(self, uint64_t number) except -1:
        self.occupy(number)
        self.abort_open()
        return self.vacate()

    cdef void forget_claim(self, uint64_t number) noexcept:
        """The Slot of this claim is gone: nobody will publish it."""
        cdef bint mine
        guard_lock(&self.guard)
        mine = (self.has_open(number) and self.is_open and not self.busy
                and self.fork_mark == fork_count)
        if mine:
            self.busy = True
        guard_unlock(&self.guard)
        if mine:
            self.abort_open()
            self.vacate()

    cdef void abort_open(self) noexcept:
        """Aborts the open claim. The handle is occupied."""
        self.end_claim()
        self.take_buffers_back()
        if not self.open_claim.scratch:
            shmring_abort(&self.core)

    cdef void take_buffers_back(self) noexcept:
        """The arrays of the open claim of Buffers turn read-only."""
        cdef list lent = self.lent_buffers
        cdef cnp.ndarray view
        self.lent_buffers = None
        if lent is not None:
            for view in lent:
                freeze(view)
            lent.clear()

    # ---- claiming ----

    cdef inline Room claim_frames(self, uint64_t want, int64_t deadline) except? FULL:
        """FULL: the frames are to be dropped. On an error the handle is vacated."""
        if shmring_claim(&self.core, want) == SHMRING_OK:
            self.full_since = 0
            return AT_ONCE
        if (self.full_policy == WAIT and deadline != 0 and self.spin_ns > 0
                and not shmring_is_crowded(&self.block.view, CORES)
                and shmring_claim_briefly(&self.core, want) == SHMRING_OK):
            self.full_since = 0
            return AFTER_A_WAIT
        return self.claim_slowly(want, deadline, self.full_policy)

    cdef Room claim_slowly(self, uint64_t want, int64_t deadline, OnFull policy) except? FULL:
        cdef Wait wait = Wait(deadline if policy == WAIT else 0, shmring_now_ns(), 0)
        cdef uint64_t number = self.open_claim.number  # that of buffers, all of which are published
        cdef int64_t now = wait.started
        cdef int64_t until, spin
        cdef bint collected = False
        cdef int result
        if self.full_since == 0:
            self.full_since = now
        if policy == DROP and now - self.reaped_at < REAP_EVERY_NS:
            return FULL
        self.reaped_at = now
        while True:
            until = shmring_slice_end(now, wait.deadline, SLICE_NS)
            spin = shmring_spin_left(now, wait.started, self.spin_ns, SLICE_NS)
            with nogil:
                result = shmring_claim_slice(&self.core, want, until, spin, CORES)
            if self.end_asked != NO_END and now < wait.deadline:
                if result == SHMRING_OK:
                    shmring_abort(&self.core)
                self.vacate()
                raise errors.RingClosed(
                    f"this Producer of ring {self.block.name!r} was closed by another thread")
            if result == SHMRING_OK:
                self.full_since = 0
                if self.spin_adapts:
                    self.spin_ns = shmring_adapt_spin(self.spin_ns, shmring_now_ns() - wait.started)
                return AFTER_A_WAIT
            if policy == DROP:
                return FULL
            self.vacate()
            if now >= wait.deadline:
                how = "raise" if policy == RAISE else "look" if wait.deadline == 0 else "wait"
                raise self.held_up(how)
            look_around()  # a handler may use this handle, or close it
            if wait.deadline == SHMRING_FOR_EVER:
                collected = self.check_progress(&wait, collected)
            self.occupy(number)
            if self.core.count != 0:
                return AFTER_A_WAIT  # a handler has refilled these buffers
            now = shmring_now_ns()

    cdef bint check_progress(self, Wait *wait, bint collected) except? True:
        """In a wait without a timeout: refuses one that cannot end, and logs what it waits for."""
        if not others_run(False):
            endless = _messages.waits_for_itself(
                self.block, self.lock.own.fd, self.gate_seen(), self.block.view.geometry.slots)
            if endless is not None:
                if collected:
                    raise endless
                gc.collect()  # frames in a cycle of garbage go back with it
                collected = True
        if waited_until_notice(wait) != 0:
            _messages.still_waiting("put", self.held_up("forever"))
        return collected

    cdef object gate_seen(self):
        """The position of the oldest frame that had to be read, at the last look; None if there was none."""
        return None if self.core.gate == <uint64_t>-1 else self.core.gate

    cdef object held_up(self, str how):
        """What keeps the producer waiting, as an error."""
        since = 0 if self.full_since == 0 else shmring_now_ns() - self.full_since
        return _messages.held_up(
            self.block, self.lock.own.fd, self.gate_seen(), since, self.block.view.geometry.slots, how)

    def claim(self, n=1, timeout=None):
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
        cdef uint64_t want = count_of(n, "n", SHMRING_MAX_BATCH)
        cdef int64_t deadline = deadline_of(timeout)
        cdef Slot slot = Slot.__new__(Slot)
        cdef uint64_t count
        cdef bint scratch
        self.occupy(NO_CLAIM)
        scratch = self.claim_frames(want, deadline) == FULL
        count = min(want, self.block.view.geometry.slots) if scratch else self.core.count
        self.claims += 1
        # One by one: a copy of the whole structure waits for the stores of its members.
        slot.claim.number = self.open_claim.number = self.claims
        slot.claim.count = self.open_claim.count = count
        slot.claim.first_seq = self.open_claim.first_seq = self.core.next_seq
        slot.claim.scratch = self.open_claim.scratch = scratch
        slot.producer, slot.single = self, want == 1
        slot.valid_rows = self.schema.dims[0] if self.schema.variable_rows else 0
        self.vacate()
        return slot

    # ---- buffers for a driver ----

    def buffers(self, n):
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
        cdef uint64_t slots = self.block.view.geometry.slots
        cdef uint64_t most = count_of(n, "n", SHMRING_MAX_SLOTS)
        cdef Buffers buffers = Buffers.__new__(Buffers)
        if most >= slots:
            raise ValueError(f"n must be less than the {slots} slots of the ring, not {n}: the last frame "
                             f"that was published needs one, too; create the ring with slots={n + 1} or more")
        self.occupy(NO_CLAIM)
        self.claims += 1
        self.open_claim = Claim(self.claims, most, self.core.next_seq, False)
        buffers.producer, buffers.number, buffers.most = self, self.claims, most
        buffers.lent = self.lent_buffers = []
        self.vacate()
        return buffers

    cdef bint claim_more(self) noexcept:
        """Claims a further buffer, if there is space for it without a wait."""
        cdef int64_t now
        if shmring_claim_more(&self.core) == SHMRING_OK:
            return True
        now = shmring_now_ns()
        if now - self.reaped_at < REAP_EVERY_NS:
            return False
        self.reaped_at = now
        return (shmring_reap_all(&self.block.view, self.lock.own.fd) > 0
                and shmring_claim_more(&self.core) == SHMRING_OK)

    cdef cnp.ndarray buffer_array(self, uint64_t i):
        """The array of frame `i` of the open claim."""
        cdef SlotMemory memory = SlotMemory.__new__(SlotMemory)
        memory.take(self.block, shmring_claimed_slot_of(&self.core, i), 1)
        return self.schema.frame_array(memory.data, self.schema.dims[0], memory, True)

    # ---- copying ----

    def put(self, array, *, timestamp_ns=None, meta=None, timeout=None, casting="no"):
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
        cdef cnp.ndarray source
        cdef Schema schema = self.schema
        cdef bint exact
        cdef uint64_t rows = 0
        cdef size_t nbytes = schema.frame_bytes
        cdef bytes meta_given = None
        cdef const void *meta_data = NULL
        cdef int64_t deadline = deadline_of(timeout)
        cdef Room claimed
        source = plain_array(array)
        exact = schema.fits(source, 0)
        if not exact or casting is not NO_CASTING:
            check_castable(schema, source, casting, 0)
        if schema.variable_rows:
            rows = cnp.PyArray_DIM(source, 0)
            nbytes = rows * schema.row_bytes
        if meta is not None:
            meta_given = meta_bytes_of(schema, meta, 1, True)
            meta_data = <const char *>meta_given
        cdef int64_t when = shmring_now_ns() if timestamp_ns is None else timestamp_of(timestamp_ns)
        self.occupy(NO_CLAIM)  # last: what came before may have run anybody's code
        claimed = self.claim_frames(1, deadline)
        if claimed == FULL:
            shmring_drop(&self.core, 1)
            self.vacate()
            self.block.check()
            return False
        if exact and cnp.PyArray_IS_C_CONTIGUOUS(source):
            self.copy_frame(0, cnp.PyArray_DATA(source), nbytes)
        else:
            self.copy_array(source, casting, rows)
        if timestamp_ns is None and (claimed == AFTER_A_WAIT or nbytes >= BIG_COPY):
            when = shmring_now_ns()  # at publish: a wait and a big copy take their time
        shmring_describe(&self.core, 0, when, rows, meta_data)
        shmring_publish(&self.core, 1)
        self.vacate()
        self.block.check()
        return True

    cdef inline void copy_frame(self, uint64_t i, const void *source, size_t nbytes) noexcept:
        if nbytes < BIG_COPY:
            shmring_copy_in(&self.core, i, source, nbytes)
            return
        with nogil:
            shmring_copy_in(&self.core, i, source, nbytes)

    cdef int copy_array(self, cnp.ndarray source, object casting, uint64_t rows) except -1:
        """Copy an array of the right shape that is not one piece of memory, or of another dtype."""
        cdef cnp.ndarray target
        try:
            target = self.schema.frame_array(shmring_claimed_slot(&self.core), rows, None, True)
            np.copyto(target, source, casting=casting)
        except BaseException as error:
            shmring_abort(&self.core)
            self.vacate()
            if isinstance(error, TypeError):
                raise ValueError(str(error)) from None
            raise
        return 0

    def put_many(self, array, *, timestamps_ns=None, metas=None, timeout=None, casting="no"):
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
        cdef Schema schema = self.schema
        cdef cnp.ndarray source
        cdef uint64_t done = 0, published = 0, total, count, i
        cdef int64_t deadline = deadline_of(timeout)
        cdef bytes meta_given = None
        cdef const char *meta_data = NULL
        cdef const void *meta = NULL
        cdef const int64_t *times = NULL
        cdef int64_t when
        source = plain_array(array)
        if not schema.fits(source, 1) or casting is not NO_CASTING:
            check_castable(schema, source, casting, 1)
        if not schema.fits(source, 1) or not cnp.PyArray_IS_C_CONTIGUOUS(source):
            source = np.ascontiguousarray(source, schema.dtype)
        total = cnp.PyArray_DIM(source, 0)
        if total == 0:
            return 0
        cdef uint64_t rows = cnp.PyArray_DIM(source, 1) if schema.variable_rows else 0
        cdef size_t nbytes = rows * schema.row_bytes if schema.variable_rows else schema.frame_bytes
        cdef const char *data = <const char *>cnp.PyArray_DATA(source)
        if timestamps_ns is not None:
            timestamps_ns = _arrays.timestamps_of(timestamps_ns, total)
            times = <const int64_t *>cnp.PyArray_DATA(timestamps_ns)
        if metas is not None:
            meta_given = meta_bytes_of(schema, metas, total, False)
            meta_data = meta_given
        while done < total:
            self.occupy(NO_CLAIM)
            try:
                if self.claim_frames(min(total - done, SHMRING_MAX_BATCH), deadline) == FULL:
                    shmring_drop(&self.core, 1)
                    self.vacate()
                    self.block.check()
                    done += 1
                    continue
            except errors.RingFull:
                if published:
                    break
                raise
            count = self.core.count
            if nbytes == self.block.view.geometry.slot_stride:  # frames without gaps: one copy
                self.copy_frame(0, data + done * nbytes, count * nbytes)
            else:
                for i in range(count):
                    self.copy_frame(i, data + (done + i) * nbytes, nbytes)
            when = shmring_now_ns()
            for i in range(count):
                if meta_data != NULL:
                    meta = meta_data + (done + i) * schema.meta_bytes
                shmring_describe(&self.core, i, when if times == NULL else times[done + i], rows, meta)
            shmring_publish(&self.core, count)
            self.vacate()
            self.block.check()
            published += count
            done += count
        return published

    def drop(self, n=1):
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
        cdef uint64_t most = <uint64_t>1 << 62
        cdef uint64_t count = count_of(n, "n", most)
        if n > most:
            raise ValueError(f"n must be at most 2**62, not {n}")
        self.occupy(NO_CLAIM)
        shmring_drop(&self.core, count)
        self.vacate()
        self.block.check()

    # ---- the others ----

    def wait_for_consumers(self, n=1, timeout=None):
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
        cdef unsigned least = <unsigned>count_of(n, "n", SHMRING_MAX_BATCH), found
        cdef Wait wait = wait_of(timeout)
        cdef int64_t now, until
        cdef double waited
        if least > self.block.view.geometry.consumers:
            raise ValueError(
                f"n={n}, but this ring has "
                f"{_words.count(self.block.view.geometry.consumers, 'place')} for consumers: wait for "
                f"fewer, or create it with more (consumers=...)")
        wait.started = shmring_now_ns()
        while True:
            self.occupy(NO_CLAIM)
            shmring_reap_all(&self.block.view, self.lock.own.fd)
            found = shmring_active_consumers(&self.block.view)
            now = shmring_now_ns()
            if found < least and now < wait.deadline:
                until = shmring_slice_end(now, wait.deadline, SLICE_NS)
                with nogil:
                    shmring_wait_consumers(&self.block.view, least, until)
            self.vacate()
            if found >= least:
                return found
            if now >= wait.deadline:
                raise _messages.too_few_consumers(self.block, least, self.lock.own.fd, timeout)
            waited = waited_until_notice(&wait)
            if waited != 0:
                _messages.still_waiting("wait_for_consumers", _messages.too_few_consumers(
                    self.block, least, self.lock.own.fd, waited))
            look_around()

    def close(self, error=None):
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
        if error is None:
            self._end(None)
        else:
            from shmring import _ending
            self._end(_ending.failure_of(error))

    def abandon(self):
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
        self._end(None, ABANDON)

    def _end(self, bytes failure, End how=CLOSE):
        """End the stream, with `failure` as one that failed; or ask the thread that waits here to do so."""
        cdef bint usable, mine
        guard_lock(&self.guard)
        usable = self.is_open and self.fork_mark == fork_count
        mine = usable and not self.busy
        if mine:
            self.busy = True
        elif usable:
            self.end_asked, self.failure_asked = how, failure
        guard_unlock(&self.guard)
        if mine:
            if not self.has_open(NO_CLAIM):
                self.abort_open()
            self.is_open = False
            handles.discard(self)
            if how == ABANDON:
                shmring_producer_abandon(&self.core)
            elif failure is None:
                shmring_producer_close(&self.core)
            else:
                shmring_producer_fail(&self.core, failure)
            shmring_own_close(&self.lock.own)
        elif usable:
            shmring_event_announce(&self.block.view.hot.space_event)

    def __reduce__(self):
        raise _messages.not_pickled("Producer")

    @cython.binding(True)  # cheaper to bind, which a `with` does
    def __enter__(self):
        return self

    @cython.binding(True)
    def __exit__(self, kind, value, traceback):
        if value is None:
            self._end(None)
        else:
            from shmring import _ending
            self._end(_ending.failure_of_block(value))

    @property
    def name(self):
        """Name of the ring."""
        return self.block.name

    @property
    def shape(self):
        """Shape of one frame."""
        return self.schema.shape

    @property
    def dtype(self):
        """Dtype of one frame."""
        return self.schema.dtype

    @property
    def dropped(self):
        """Frames that the ring's producers offered but had to drop."""
        return self.core.dropped

    @property
    def published(self):
        """Frames that this producer published."""
        return self.core.head - self.first_head

    @property
    def next_seq(self):
        """Seq of the next frame."""
        return self.core.next_seq

    @property
    def epoch(self):
        """Which producer of the ring this is, from 1."""
        return self.core.epoch

    @property
    def on_full(self):
        """What to do with a full ring: "wait", "drop" or "raise"."""
        return {WAIT: "wait", DROP: "drop", RAISE: "raise"}[self.full_policy]

    @property
    def closed(self):
        """Whether this handle is closed, or belongs to the parent of a fork."""
        return not self.is_open or self.fork_mark != fork_count

    def __repr__(self):
        return _repr.producer(self, state_of(self.is_open, self.fork_mark))


def open_producer(ring, Block block, Schema schema, on_full, spin):
    """Return a Producer that is not open yet."""
    cdef Producer producer = Producer.__new__(Producer)
    producer.full_policy = ON_FULL[check_word("on_full", on_full, ON_FULL)]
    producer.spin_ns, producer.spin_adapts = spin_of(spin), spin is None and CORES > 1
    producer.ring, producer.block, producer.schema = ring, block, schema
    return producer
