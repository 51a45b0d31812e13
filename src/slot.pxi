# The slots that a producer claims.

cdef enum:
    SAMPLES = 4  # of a claim, to see whether anything was written
    NO_CLAIM = 0

cdef struct Claim:
    uint64_t number  # among the claims of its producer, from 1
    uint64_t count
    uint64_t first_seq
    bint scratch  # of memory that is thrown away: the ring was full


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

    cdef int take(self, Block block, uint64_t slot, uint64_t count) except -1:
        """Becomes the memory of slots that are claimed, and adjacent."""
        if not block.add_view(slot, count):
            raise MemoryError()
        self.block, self.slot, self.count, self.fork_mark = block, slot, count, fork_count
        self.data = shmring_slot_at(&block.view, slot)
        self.nbytes, self.writable = count * block.view.geometry.slot_stride, True
        return 0

    cdef int allocate(self, Py_ssize_t nbytes) except -1:
        """Becomes scratch memory."""
        self.keeper = np.empty(nbytes, np.uint8)
        self.data = cnp.PyArray_DATA(self.keeper)
        self.nbytes, self.writable = nbytes, True
        return 0

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.data, self.nbytes, not self.writable, flags)


cdef void freeze(cnp.ndarray view) noexcept:
    """Makes the array of a claim that ended read-only, and its memory."""
    (<SlotMemory><object>cnp.PyArray_BASE(view)).writable = False
    cnp.PyArray_CLEARFLAGS(view, cnp.NPY_ARRAY_WRITEABLE)


@cython.final
@cython.no_gc
@cython.freelist(8)
cdef class Slot:
    """Claimed slots to write in place: from ``Producer.claim()``.

    As a context manager it publishes at the end, also at a ``break`` or ``return``: call `abort` first if
    there is no frame. If the block ends early and nothing seems to have been written into `array`, a
    warning is logged. An exception in the block aborts, and no consumer ever sees the frame. Use it in the
    thread that claimed it.

    Examples
    --------
    >>> import shmring
    >>> with shmring.Ring.create(shape=(2,), dtype="f4", slots=4) as ring, ring.producer() as out:
    ...     with out.claim() as slot:
    ...         slot.array[:] = 1.5
    """

    cdef Producer producer
    cdef cnp.ndarray view
    cdef Claim claim  # as it was made; the producer knows whether it is open
    cdef uint64_t valid_rows
    cdef bint single
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

        Its content before you write is undefined.

        Once the slot is published or aborted, the array becomes read-only. Views made from it stay writable,
        because numpy cannot change them: do not write through them, the slot is no longer yours.
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
        if producer.fork_mark != fork_count:
            raise _messages.forked("Slot")
        if self.claim.scratch:
            memory.allocate(self.claim.count * stride)
        else:
            memory.take(producer.block, producer.core.slot, producer.core.count)
        if self.single:
            view = schema.frame_array(memory.data, schema.dims[0], memory, True)
        else:
            view = schema.batch_array(memory.data, self.claim.count, stride, memory, True)
        if not producer.lend(self, view):
            raise ValueError("this slot was published or aborted; claim the next one")
        return 0

    @property
    def count(self):
        """Frames claimed: 1 to the `n` asked for, as many as were free and adjacent."""
        return self.claim.count

    @property
    def seq(self):
        """Seq that the first frame gets when it is published."""
        return self.claim.first_seq

    @property
    def dropped(self):
        """True if the ring was full under ``on_full="drop"``: the array is scratch memory."""
        return self.claim.scratch

    @property
    def block_offset(self):
        """Where `array` begins in the ring's file, in bytes: for programs that take (name, offset, size).

        The bytes there are yours to write until the slot is published or aborted.
        """
        cdef Producer producer = self.producer
        cdef uint64_t slot = producer.core.slot
        if producer.fork_mark != fork_count:
            raise _messages.forked("Slot")
        if not self.is_open():
            raise ValueError("this slot was published or aborted before")
        if self.claim.scratch:
            raise ValueError(
                "the ring was full (`dropped` is True): this is scratch memory, not in the ring's file")
        return producer.block.offset_of(slot)

    @property
    def timestamp_ns(self):
        """Timestamp in nanoseconds, None: CLOCK_MONOTONIC at publish; a sequence for ``n > 1``."""
        return self.timestamps

    @timestamp_ns.setter
    def timestamp_ns(self, value):
        if value is None:
            self.timestamps = None
        elif self.single:
            self.timestamps = timestamp_of(value)
        else:
            self.timestamps = _arrays.timestamps_of(value, self.claim.count)

    @property
    def meta(self):
        """Meta of the frame (settable; a sequence for ``n > 1``); zeros unless set."""
        if self.metas is None:
            return None
        found = np.frombuffer(self.metas, self.producer.schema.meta_dtype)
        return found[0] if self.single else found

    @meta.setter
    def meta(self, value):
        self.metas = meta_bytes_of(self.producer.schema, value, self.claim.count, self.single)

    @property
    def rows(self):
        """Valid length of the first axis (settable, only in a ring with variable_rows)."""
        return self.valid_rows

    @rows.setter
    def rows(self, value):
        self.valid_rows = rows_of(self.producer.schema, value)

    cdef void sample(self, uint64_t *samples) noexcept:
        """Copies some bytes of the claimed slots, from their beginning to their end."""
        cdef shmring_geometry *g = &self.producer.block.view.geometry
        cdef uint64_t nbytes = (self.claim.count - 1) * g.slot_stride + g.frame_bytes
        cdef char *slots = <char *>shmring_claimed_slot(&self.producer.core)
        cdef uint64_t i, last
        if nbytes < sizeof(uint64_t):
            memcpy(samples, slots, nbytes)
            return
        last = nbytes - sizeof(uint64_t)
        for i in range(<uint64_t>SAMPLES):
            memcpy(samples + i, slots + last * i // (SAMPLES - 1), sizeof(uint64_t))

    cdef void take_samples(self) noexcept:
        self.sampled = self.in_block and not self.claim.scratch
        if self.sampled:
            self.sample(self.samples)

    cdef bint is_untouched(self) noexcept:
        """Whether the slots, which were to be written, look as they did before."""
        cdef uint64_t now[SAMPLES]
        if not self.sampled:
            return False
        memset(now, 0, sizeof(now))
        self.sample(now)
        return memcmp(now, self.samples, sizeof(now)) == 0

    def publish(self, count=None):
        """Make the frames visible to every consumer.

        Parameters
        ----------
        count : int, optional
            Publish the first `count` of them only, and give the rest back unseen. Default: all.

        Raises
        ------
        ValueError
            If `count` is out of range, or the slot was published or aborted before.
        RingCorrupt
            After `survive_truncation`: the ring's file was cut.
        """
        if count is None:
            self.producer.publish_claim(self, self.claim.count)
        else:
            self.producer.publish_claim(self, whole_of("count", count, 0, self.claim.count))

    def abort(self):
        """Give the slots back unseen; the next frame gets their seq."""
        self.producer.abort_claim(self.claim.number)

    def __reduce__(self):
        raise _messages.not_pickled("Slot")

    @cython.binding(True)  # cheaper to bind, which a `with` does
    def __enter__(self):
        self.in_block = True
        return self

    @cython.binding(True)
    def __exit__(self, kind, value, traceback):
        if not self.is_open():
            return
        if kind is None:
            if self.is_untouched() and not self.producer.warned_of_untouched:
                self.look_at_exit()
            self.producer.publish_claim(self, self.claim.count)
        else:
            self.producer.abort_claim(self.claim.number)

    cdef int look_at_exit(self) except -1:
        from shmring import _claims
        if _claims.leaves_early(_claims.current_frame()):
            self.producer.warned_of_untouched = True
            _claims.log_untouched(self.producer.block.name, self.claim.first_seq)
        return 0

    def __dealloc__(self):
        if self.claim.number != NO_CLAIM:
            self.producer.forget_claim(self.claim.number)

    cdef bint is_open(self) noexcept:
        return self.producer.has_open(self.claim.number)

    def __repr__(self):
        return _repr.slot(self, self.is_open())

    cdef int describe(self, uint64_t count) except -1:
        """Cannot fail: the setters took only what fits."""
        cdef uint64_t i
        if self.timestamps is not None or self.metas is not None:
            return self.describe_as_set(count)
        cdef int64_t now = shmring_now_ns()
        for i in range(count):
            shmring_describe(&self.producer.core, i, now, self.valid_rows, NULL)
        return 0

    cdef int describe_as_set(self, uint64_t count) except -1:
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
