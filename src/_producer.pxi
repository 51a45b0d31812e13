# The producer's handle and the slots it claims.

cdef enum OnFull:
    WAIT, DROP, RAISE

cdef enum:
    SAMPLES = 4  # of a claim, to see whether anything was written

cdef enum Claim:
    NO_SLOT, AT_ONCE, AFTER_A_WAIT

cdef str NO_CASTING = "no"

cdef cnp.ndarray timestamps_of(object value, uint64_t count):
    """One timestamp for each of `count` frames, as int64 in one piece."""
    given = np.asarray(value)
    if given.dtype.kind not in "iu":
        raise TypeError(f"timestamps are integers of nanoseconds, not {given.dtype}")
    if given.shape != (count,):
        raise ValueError(f"timestamps have shape {given.shape}, expected ({count},): one for each frame")
    if given.dtype.kind == "u" and given.size and given.max() > np.iinfo(np.int64).max:
        raise OverflowError("a timestamp does not fit in 64 bits")
    return np.ascontiguousarray(given, np.int64)


cdef cnp.ndarray plain_array(object given):
    """What was given as an array, without a copy where that can be."""
    if cnp.PyArray_CheckExact(given):
        return given
    from shmring import _meta
    _meta.refuse_masked(given)
    return given if isinstance(given, cnp.ndarray) else np.asarray(given)


cdef int check_castable(Schema schema, cnp.ndarray source, object casting, int lead) except -1:
    """Refuses another shape, whatever the casting, and another dtype unless that may be cast."""
    if not np.can_cast(source.dtype, schema.dtype, casting) or not schema.has_shape(source, lead):
        from shmring import _diagnose
        raise _diagnose.wrong_array(source, schema.shape, schema.dtype, schema.variable_rows, lead == 1)
    return 0


cdef dict ON_FULL = {"wait": WAIT, "drop": DROP, "raise": RAISE}


@cython.final
@cython.no_gc
@cython.freelist(8)
cdef class SlotMemory:
    """Memory of claimed slots, or scratch memory; writable until the claim ends."""

    cdef object keeper  # of scratch memory
    cdef Block block    # of claimed slots
    cdef void *data
    cdef Py_ssize_t nbytes
    cdef bint writable
    cdef uint64_t slot
    cdef uint64_t count
    cdef unsigned long fork_mark

    def __dealloc__(self):
        if self.block is not None and self.fork_mark == fork_count:
            self.block.drop_view(self.slot, self.count)

    cdef int take(self, Block block, shmring_producer *core) except -1:
        """Becomes the memory of the slots that are claimed."""
        if not block.add_view(core.slot, core.count):
            raise MemoryError()
        self.block, self.slot, self.count, self.fork_mark = block, core.slot, core.count, fork_count
        self.data = shmring_claimed_slot(core)
        return 0

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.data, self.nbytes, not self.writable, flags)


@cython.final
@cython.no_gc
@cython.freelist(8)
cdef class Slot:
    """Claimed slots to write in place: from ``Producer.claim()``.

    As a context manager it publishes at the end, also at a ``break`` or ``return``: call `abort` first if
    there is no frame. If such a block leaves early and nothing seems to have been written into `array`, the
    log says so. An exception in the block aborts, and nobody ever sees the frame. Use it in the thread that
    claimed it.

    Examples
    --------
    >>> import shmring
    >>> with shmring.Ring.create(shape=(2,), dtype="f4", slots=4) as ring, ring.producer() as out:
    ...     with out.claim() as slot:
    ...         slot.array[:] = 1.5
    """

    cdef Producer producer
    cdef cnp.ndarray view
    cdef uint64_t number  # of the claim; it is open while the producer's open_claim is the same
    cdef uint64_t claimed
    cdef uint64_t first_seq
    cdef uint64_t valid_rows
    cdef bint single
    cdef bint scratch
    cdef object timestamps
    cdef bytes metas
    cdef bint in_block  # of a `with`
    cdef bint sampled
    cdef uint64_t samples[SAMPLES]  # of what the slots held when the array was asked for

    def __init__(self, *_args, **_options):
        raise TypeError("a Slot comes from Producer.claim()")

    @property
    def array(self):
        """Writable ndarray on the slot: the ring's shape, or ``(count, *shape)`` for ``claim(n > 1)``.

        What it holds before you write is undefined.

        Once published or aborted, this very array turns read-only. Views that were made of it stay
        writable as numpy has it: do not write through them, the slot is no longer yours.
        """
        if self.view is None:
            self.make_view()
        return self.view

    cdef int make_view(self) except -1:
        cdef Producer producer = self.producer
        cdef Schema schema = producer.schema
        cdef uint64_t stride = producer.block.view.geometry.slot_stride
        cdef SlotMemory memory = SlotMemory.__new__(SlotMemory)
        cdef cnp.ndarray view
        cdef bint is_open
        if producer.fork_mark != fork_count:
            from shmring import _diagnose
            raise _diagnose.forked("Slot")
        memory.nbytes, memory.writable = self.claimed * stride, True
        if self.scratch:
            memory.keeper = np.empty(memory.nbytes, np.uint8)
            memory.data = cnp.PyArray_DATA(memory.keeper)
        else:
            memory.take(producer.block, &producer.core)
        if self.single:
            view = schema.frame_array(memory.data, schema.dims[0], memory, True)
        else:
            view = schema.batch_array(memory.data, self.claimed, stride, memory, True)
        guard_lock(&producer.guard)
        is_open = producer.open_claim == self.number
        if is_open and self.view is None:
            self.view = producer.open_view = view
            producer.open_memory = memory
            self.take_samples()
        guard_unlock(&producer.guard)
        if not is_open:
            raise ValueError("this slot was published or aborted; claim the next one")
        return 0

    @property
    def count(self):
        """Frames claimed: 1 to the `n` asked for, as many as were free and adjacent."""
        return self.claimed

    @property
    def seq(self):
        """Seq that the first frame gets when it is published."""
        return self.first_seq

    @property
    def dropped(self):
        """True if the ring was full under ``on_full="drop"``: the array is scratch memory."""
        return self.scratch

    @property
    def timestamp_ns(self):
        """Timestamp in nanoseconds, None: CLOCK_MONOTONIC at publish; a sequence for ``n > 1``."""
        return self.timestamps

    @timestamp_ns.setter
    def timestamp_ns(self, value):
        cdef int64_t checked
        if value is None:
            self.timestamps = None
        elif self.single:
            checked = index(value)
            self.timestamps = checked
        else:
            self.timestamps = timestamps_of(value, self.claimed)

    @property
    def meta(self):
        """Meta of the frame (settable; a sequence for ``n > 1``); zeros unless set."""
        if self.metas is None:
            return None
        found = np.frombuffer(self.metas, self.producer.schema.meta_dtype)
        return found[0] if self.single else found

    @meta.setter
    def meta(self, value):
        self.metas = meta_bytes_of(self.producer.schema, value, self.claimed, self.single)

    @property
    def rows(self):
        """Valid length of the first axis (settable, only in a ring with variable_rows)."""
        return self.valid_rows

    @rows.setter
    def rows(self, value):
        cdef Schema schema = self.producer.schema
        if not schema.variable_rows:
            raise ValueError("this ring has frames of fixed length; create it with variable_rows=True")
        if not 0 <= index(value) <= schema.dims[0]:
            raise ValueError(f"rows must be 0 to {schema.dims[0]}, not {value}")
        self.valid_rows = index(value)

    cdef uint64_t sample(self, int i) noexcept:
        """Some bytes of the claimed slots, from their beginning (0) to their end."""
        cdef Block block = self.producer.block
        cdef shmring_geometry *g = &block.view.geometry
        cdef uint64_t nbytes = (self.claimed - 1) * g.slot_stride + g.frame_bytes
        cdef uint64_t found = 0
        cdef uint64_t size = min(nbytes, <uint64_t>sizeof(found))
        cdef char *slots = <char *>shmring_claimed_slot(&self.producer.core)
        memcpy(&found, slots + (nbytes - size) * i // (SAMPLES - 1), size)
        return found

    cdef void take_samples(self) noexcept:
        cdef int i
        self.sampled = self.in_block and not self.scratch
        if self.sampled:
            for i in range(SAMPLES):
                self.samples[i] = self.sample(i)

    cdef bint is_untouched(self) noexcept:
        """Whether the slots, which somebody meant to write, look as they did before."""
        cdef int i
        if not self.sampled:
            return False
        for i in range(SAMPLES):
            if self.sample(i) != self.samples[i]:
                return False
        return True

    def publish(self, count=None):
        """Make the frames visible to every consumer.

        Parameters
        ----------
        count : int, optional
            Only the first `count` of them; the rest is given back unseen. Default: all.

        Raises
        ------
        ValueError
            If `count` is out of range, or the slot was published or aborted before.
        RingCorrupt
            After `survive_truncation`: the ring's file was cut.
        """
        if count is None:
            self.publish_first(self.claimed)
        elif 0 <= count <= self.claimed:
            self.publish_first(count)
        else:
            raise ValueError(f"count must be 0 to {self.claimed}, not {count}")

    cdef int publish_first(self, uint64_t count) except -1:
        cdef Producer producer = self.producer
        self.finish()
        if self.scratch:
            shmring_drop(&producer.core, count)
        else:
            self.describe(count)
            shmring_publish(&producer.core, count)
        producer.vacate()
        producer.block.check()
        return 0

    def abort(self):
        """Give the slots back; nobody sees anything, and the next frame gets their seq."""
        self.finish()
        if not self.scratch:
            shmring_abort(&self.producer.core)
        self.producer.vacate()

    def __reduce__(self):
        from shmring import _diagnose
        raise _diagnose.not_pickled("Slot")

    def __enter__(self):
        self.in_block = True
        return self

    def __exit__(self, kind, value, traceback):
        if self.producer.open_claim != self.number:
            return
        if kind is None:
            if self.is_untouched() and not self.producer.told_of_untouched:
                self.look_at_exit()
            self.publish_first(self.claimed)
        else:
            self.abort()

    cdef int look_at_exit(self) except -1:
        from shmring import _claims
        if _claims.leaves_early(_claims.current_frame()):
            self.producer.told_of_untouched = True
            _claims.log_untouched(self.producer.block.name, self.first_seq)
        return 0

    def __dealloc__(self):
        if self.number != 0:
            self.producer.forget_claim(self.number)

    def __repr__(self):
        if self.producer.open_claim != self.number:
            state = "finished"
        else:
            state = "dropped, scratch memory" if self.scratch else "open"
        return f"<shmring.Slot seq {self.first_seq}, {self.claimed} frame(s), {state}>"

    cdef int finish(self) except -1:
        """Ends the claim, so that nobody writes any more; the producer is occupied from then on."""
        cdef Producer producer = self.producer
        cdef bint was_open = producer.open_claim == self.number
        if was_open:
            producer.occupy(False)
            was_open = producer.open_claim == self.number  # another thread may have been faster
            if was_open:
                producer.end_claim()
            else:
                producer.vacate()
        if not was_open:
            raise ValueError("this slot was published or aborted before")
        return 0

    cdef int describe(self, uint64_t count) except -1:
        """Cannot fail: the setters took only what fits."""
        cdef Producer producer = self.producer
        cdef uint64_t i
        cdef object timestamps = self.timestamps  # held here: another thread may set others
        cdef bytes metas_given = self.metas
        cdef int64_t now = shmring_now_ns() if timestamps is None else 0
        cdef const int64_t *times = NULL
        cdef const char *metas = NULL
        cdef const void *meta = NULL
        if timestamps is not None:
            if self.single:
                now = timestamps
            else:
                times = <const int64_t *>cnp.PyArray_DATA(timestamps)
        if metas_given is not None:
            metas = metas_given
        for i in range(count):
            if metas != NULL:
                meta = metas + i * producer.schema.meta_bytes
            shmring_describe(
                &producer.core, i, now if times == NULL else times[i], self.valid_rows, meta)
        return 0


@cython.final
@cython.no_gc_clear  # a Ring may refer to its producer; the producer itself stays whole until it closes
cdef class Producer:
    """The one that publishes frames: from ``Ring.producer()``. One at a time for a ring.

    A context manager; leaving it closes the stream, and the consumers' iterations end once they have
    read everything. Leaving it by an exception says so: they get ProducerFailed instead. KeyboardInterrupt,
    ``sys.exit()``, a cancelled task and a closed generator are regular ends.
    """

    cdef readonly object ring
    """The Ring that this producer was opened from; it stays open for as long as the producer exists."""
    cdef Block block
    cdef Schema schema
    cdef shmring_producer core
    cdef object __weakref__
    cdef Guard guard  # of the eight below; whoever set busy has the rest to himself
    cdef bint busy
    cdef bint close_asked
    cdef bytes failure_asked  # what that close is to say
    cdef bint is_open
    cdef bint open_scratch
    cdef uint64_t open_claim  # its number, 0: none
    cdef SlotMemory open_memory  # of its array, if somebody asked for that
    cdef cnp.ndarray open_view
    cdef uint64_t claims
    cdef bint told_of_untouched
    cdef LockFile lock
    cdef unsigned long fork_mark
    cdef OnFull full_policy
    cdef int64_t spin_ns
    cdef bint spin_adapts
    cdef int64_t full_since
    cdef unsigned words  # said by the wait that goes on
    cdef int64_t reaped_at
    cdef uint64_t first_head

    def __init__(self, *_args, **_options):
        raise TypeError("a Producer comes from Ring.producer()")

    def _open(self, LockFile lock):
        """Become the producer, for as long as `lock` is open."""
        cdef int result = shmring_producer_open(&self.core, &self.block.view, lock.own.fd)
        cdef int number = errno  # an import may set it
        if result != SHMRING_OK:
            from shmring import _diagnose
            try:
                raise _diagnose.cannot_produce(result, self.block, lock.own.fd, number)
            finally:
                lock.close()  # the error's traceback keeps it
        self.lock, self.fork_mark, self.is_open = lock, fork_count, True
        self.first_head = self.core.head
        self.block.check()
        handles.add(self)
        return self

    def _enter_child(self):
        """Nothing of the parent's claim can be written here: an error, rather than a frame without it."""
        handles.discard(self)
        if self.open_memory is not None:
            self.open_memory.writable = False
            cnp.PyArray_CLEARFLAGS(self.open_view, cnp.NPY_ARRAY_WRITEABLE)

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

    cdef int occupy(self, bint claiming) except -1:
        """Takes the handle for this thread, until `vacate`; refuses what cannot be done with it now."""
        cdef Refusal why = NONE
        guard_lock(&self.guard)
        if (self.busy or not self.is_open or self.fork_mark != fork_count
                or (claiming and (self.open_claim != 0 or shmring_lost(&self.block.view)))):
            why = self.unusable()
        else:
            self.busy = True
        guard_unlock(&self.guard)
        if why != NONE:
            raise unusable_handle(why, "Producer", self.block)
        return 0

    cdef Refusal unusable(self) noexcept:
        """Why the handle was not free. The guard is locked: a moment later this may be otherwise."""
        if self.fork_mark != fork_count:
            return FORKED
        if not self.is_open:
            return CLOSED
        if self.busy:
            return BUSY
        return CUT if shmring_lost(&self.block.view) else CLAIMED

    cdef int vacate(self) except -1:
        """Lets others use the handle; closes it if one of them asked for that."""
        cdef bint close_asked
        guard_lock(&self.guard)
        self.busy = False
        close_asked = self.close_asked
        guard_unlock(&self.guard)
        if close_asked:
            self._end(self.failure_asked)
        return 0

    cdef void end_claim(self) noexcept:
        """The slots of the open claim are not the user's any more: his array turns read-only."""
        cdef SlotMemory memory = None
        cdef cnp.ndarray view = None
        guard_lock(&self.guard)
        self.open_claim = 0
        if self.open_memory is not None:
            memory, view = self.open_memory, self.open_view
            self.open_memory = self.open_view = None
            memory.writable = False
            cnp.PyArray_CLEARFLAGS(view, cnp.NPY_ARRAY_WRITEABLE)
        guard_unlock(&self.guard)

    cdef void abandon(self) noexcept:
        """Aborts the open claim. The handle is occupied."""
        cdef bint scratch = self.open_scratch
        self.end_claim()
        if not scratch:
            shmring_abort(&self.core)

    cdef void forget_claim(self, uint64_t number) noexcept:
        """The Slot of this claim is gone: nobody will publish it."""
        cdef bint mine
        guard_lock(&self.guard)
        mine = (self.open_claim == number and self.is_open and not self.busy
                and self.fork_mark == fork_count)
        if mine:
            self.busy = True
        guard_unlock(&self.guard)
        if mine:
            self.abandon()
            self.vacate()

    # ---- claiming ----

    cdef Claim claim_frames(self, uint64_t want, int64_t deadline) except? NO_SLOT:
        """NO_SLOT: the frames are to be dropped. On an error the handle is vacated."""
        if shmring_claim(&self.core, want) == SHMRING_OK:
            self.full_since = 0
            return AT_ONCE
        if (self.full_policy == WAIT and deadline != 0 and self.spin_ns > 0
                and not shmring_crowded(&self.block.view, CORES)
                and shmring_claim_briefly(&self.core, want) == SHMRING_OK):
            self.full_since = 0
            return AFTER_A_WAIT
        return self.claim_slowly(want, deadline)

    cdef Claim claim_slowly(self, uint64_t want, int64_t deadline) except? NO_SLOT:
        cdef int64_t started = shmring_now_ns()
        cdef int64_t now = started
        cdef int64_t until, spin
        cdef int result
        if self.full_since == 0:
            self.full_since = started
        if self.full_policy != DROP or now - self.reaped_at >= REAP_EVERY_NS:
            self.reaped_at = now
            shmring_reap_all(&self.block.view, self.lock.own.fd)
            if shmring_claim(&self.core, want) == SHMRING_OK:
                self.full_since = 0
                return AFTER_A_WAIT
        if self.full_policy == DROP:
            return NO_SLOT
        if self.full_policy == RAISE:
            deadline = 0
        cdef bint collected = False
        self.words = 0
        while True:
            if now >= deadline:
                self.vacate()
                raise self.diagnosis("held_up")
            until, spin = slice_end(now, deadline), spin_left(now, started, self.spin_ns)
            with nogil:
                result = shmring_claim_wait(&self.core, want, until, spin, CORES)
            if self.close_asked:
                if result == SHMRING_OK:
                    shmring_abort(&self.core)
                self.vacate()
                raise errors.RingClosed(
                    f"this Producer of ring {self.block.name!r} was closed by another thread")
            if result == SHMRING_OK:
                self.full_since = 0
                if self.spin_adapts:
                    self.spin_ns = shmring_adapt_spin(self.spin_ns, shmring_now_ns() - started)
                return AFTER_A_WAIT
            self.vacate()
            look_around()  # a handler may use this handle, or close it
            if deadline == SHMRING_FOR_EVER:
                collected = self.check_progress(started, collected)
            self.occupy(True)
            shmring_reap_all(&self.block.view, self.lock.own.fd)
            now = shmring_now_ns()

    cdef bint check_progress(self, int64_t started, bint collected) except? True:
        """In a wait without an end: refuses one that nobody can end, and says what a long one waits for."""
        if not others_run(False):
            endless = self.diagnosis("waits_for_itself")
            if endless is not None:
                if collected:
                    raise endless
                gc.collect()  # frames in a cycle of garbage go back with it
                collected = True
        if word_is_due(shmring_now_ns() - started, self.words):
            self.words += 1
            from shmring import _diagnose
            _diagnose.still_waiting("put", self.diagnosis("held_up"))
        return collected

    cdef object diagnosis(self, str which):
        """What keeps the producer waiting, as an error."""
        from shmring import _diagnose
        gate = None if self.core.gate == <uint64_t>-1 else self.core.gate
        since = 0 if self.full_since == 0 else shmring_now_ns() - self.full_since
        return getattr(_diagnose, which)(
            self.block, self.lock.own.fd, gate, since, self.block.view.geometry.slots)

    def claim(self, n=1, timeout=None):
        """Claim free slots to write in place.

        Parameters
        ----------
        n : int
            Frames wanted. ``slot.count`` says how many were free and adjacent in memory: 1 to `n`.
        timeout : float, optional
            Seconds to wait for space under ``on_full="wait"``; None waits for ever, 0 never waits.

        Returns
        -------
        Slot
            ``slot.array`` has the ring's shape, or ``(count, *shape)`` if `n` > 1. With
            ``on_full="drop"`` and a full ring it is scratch memory and ``slot.dropped`` is True.

        Raises
        ------
        RingFull
            No space in time; names the process that holds it up.
        SlotsHeld
            Without a timeout: only this thread could make space, by reading or releasing frames.
        RingClosed, ForkedHandle, HandleBusy, ValueError
            The handle cannot be used: closed, of another process, in use, or with a claim open.
        """
        cdef uint64_t want = count_of(n, "n", SHMRING_MAX_BATCH)
        cdef int64_t deadline = deadline_of(timeout)
        cdef Slot slot = Slot.__new__(Slot)
        self.occupy(True)
        slot.scratch = self.claim_frames(want, deadline) == NO_SLOT
        if not slot.scratch:
            slot.claimed = self.core.count
        else:
            slot.claimed = min(want, self.block.view.geometry.slots)
        slot.producer, slot.single = self, want == 1
        slot.first_seq = self.core.next_seq
        slot.valid_rows = self.schema.dims[0] if self.schema.variable_rows else 0
        self.claims += 1
        slot.number = self.open_claim = self.claims
        self.open_scratch = slot.scratch
        self.vacate()
        return slot

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
            Seconds to wait for space under ``on_full="wait"``; None waits for ever, 0 never waits.
        casting : {"no", "equiv", "safe", "same_kind", "unsafe"}
            Which other dtypes are cast to the ring's, by numpy's rules. The shape always has to be right:
            nothing is broadcast.

        Returns
        -------
        bool
            True if published, False if dropped (``on_full="drop"``; its seq is skipped).

        Raises
        ------
        ValueError
            Another shape or dtype, a masked array, or a meta that would change; publishes nothing.
        RingFull
            No space in time; names the process that holds it up.
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
        cdef Claim claimed
        source = plain_array(array)
        exact = schema.fits(source, 0)
        if not exact or casting is not NO_CASTING:
            check_castable(schema, source, casting, 0)
        if schema.variable_rows:
            rows = source.shape[0]
            nbytes = rows * schema.row_bytes
        if meta is not None:
            meta_given = meta_bytes_of(schema, meta, 1, True)
            meta_data = <const char *>meta_given
        cdef int64_t when
        if timestamp_ns is None:
            when = shmring_now_ns()
        else:
            when = index(timestamp_ns)
        self.occupy(True)  # last: what came before may have run anybody's code
        claimed = self.claim_frames(1, deadline)
        if claimed == NO_SLOT:
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

    cdef void copy_frame(self, uint64_t i, const void *source, size_t nbytes) noexcept:
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
            Seconds to wait for space in all; None waits for ever, 0 never waits.
        casting : str
            As in `put`.

        Returns
        -------
        int
            Frames published. Fewer than n if the time ran out after some, or if some were dropped.

        Raises
        ------
        ValueError
            Another shape or dtype; names both, publishes nothing.
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
        total = source.shape[0]
        if total == 0:
            return 0
        cdef uint64_t rows = source.shape[1] if schema.variable_rows else 0
        cdef size_t nbytes = rows * schema.row_bytes if schema.variable_rows else schema.frame_bytes
        cdef const char *data = <const char *>cnp.PyArray_DATA(source)
        if timestamps_ns is not None:
            timestamps_ns = timestamps_of(timestamps_ns, total)
            times = <const int64_t *>cnp.PyArray_DATA(timestamps_ns)
        if metas is not None:
            meta_given = meta_bytes_of(schema, metas, total, False)
            meta_data = meta_given
        while done < total:
            self.occupy(True)
            try:
                if self.claim_frames(min(total - done, SHMRING_MAX_BATCH), deadline) == NO_SLOT:
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
        """Use up the seqs of `n` frames that do not exist, as a replay does where frames were lost.

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
        self.occupy(True)
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
            Seconds; None waits for ever, 0 never waits.

        Returns
        -------
        int
            Consumers joined.

        Raises
        ------
        TooFewConsumers
            Fewer within the time; names those that are there.
        """
        cdef unsigned least = <unsigned>count_of(n, "n", SHMRING_MAX_BATCH), found
        cdef int64_t deadline = deadline_of(timeout)
        cdef int64_t now, until
        cdef int64_t started = shmring_now_ns()
        cdef unsigned words = 0
        if least > self.block.view.geometry.consumers:
            raise ValueError(
                f"n={n}, but this ring has {self.block.view.geometry.consumers} places for consumers")
        while True:
            self.occupy(True)
            shmring_reap_all(&self.block.view, self.lock.own.fd)
            found = shmring_active_consumers(&self.block.view)
            now = shmring_now_ns()
            if found < least and now < deadline:
                until = slice_end(now, deadline)
                with nogil:
                    shmring_wait_consumers(&self.block.view, least, until)
            self.vacate()
            if found >= least:
                return found
            if now >= deadline:
                from shmring import _diagnose
                raise _diagnose.too_few_consumers(self.block, least, self.lock.own.fd, timeout)
            if deadline == SHMRING_FOR_EVER and word_is_due(now - started, words):
                words += 1
                from shmring import _diagnose
                _diagnose.still_waiting("wait_for_consumers", _diagnose.too_few_consumers(
                    self.block, least, self.lock.own.fd, (now - started) / 1e9))
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

    def _end(self, bytes failure):
        """End the stream; with `failure`, as one that failed."""
        cdef bint usable, mine
        guard_lock(&self.guard)
        usable = self.is_open and self.fork_mark == fork_count
        mine = usable and not self.busy
        if mine:
            self.busy = True
        elif usable:
            self.close_asked, self.failure_asked = True, failure
        guard_unlock(&self.guard)
        if mine:
            if self.open_claim != 0:
                self.abandon()
            self.is_open = False
            handles.discard(self)
            if failure is None:
                shmring_producer_close(&self.core)
            else:
                shmring_producer_fail(&self.core, failure)
            shmring_own_close(&self.lock.own)
        elif usable:
            shmring_event_announce(&self.block.view.hot.space_event)

    def __reduce__(self):
        from shmring import _diagnose
        raise _diagnose.not_pickled("Producer")

    def __enter__(self):
        return self

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
        """Frames that the ring's producers offered and had to drop."""
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
        if self.fork_mark != fork_count:
            state = "of the parent process"
        else:
            state = "open" if self.is_open else "closed"
        return (f"<shmring.Producer of {self.block.name!r}, {state}, next seq {self.core.next_seq}, "
                f"{self.core.dropped} dropped, on_full={self.on_full!r}>")


def open_producer(ring, Block block, Schema schema, str on_full, spin):
    """Return a Producer that is not open yet."""
    cdef Producer producer = Producer.__new__(Producer)
    if on_full not in ON_FULL:
        raise ValueError(f'on_full must be "wait", "drop" or "raise", not {on_full!r}')
    producer.full_policy = ON_FULL[on_full]
    producer.spin_ns, producer.spin_adapts = spin_of(spin), spin is None and CORES > 1
    producer.ring, producer.block, producer.schema = ring, block, schema
    return producer
