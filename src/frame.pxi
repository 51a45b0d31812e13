# What a consumer holds: frames and batches, and the lease that their arrays keep.

@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class Lease:
    """Base of every array on held slots: the hold ends when the last of them is gone."""

    cdef Consumer consumer
    cdef shmring_hold *hold
    cdef void *data
    cdef Py_ssize_t nbytes

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.data, self.nbytes, True, flags)

    def __dealloc__(self):
        if self.hold != NULL:
            self.consumer.give_back(self.hold)


cdef enum:
    LEAST_MAPPED = 1 << 20  # bytes; a copy of fewer takes less time than a mapping


@cython.final
@cython.no_gc
cdef class PrivateMemory:
    """Base of a private array: pages of held slots, each of them copied when it is first written to."""

    cdef Lease lease  # what was not written to still shows the slots
    cdef shmring_own_memory own
    cdef Py_ssize_t nbytes

    cdef bint map_held(self, Lease lease, Py_ssize_t nbytes) noexcept:
        """Maps that much of what is held; False if the kernel refuses."""
        cdef Consumer consumer = lease.consumer
        self.lease, self.nbytes = lease, nbytes
        return shmring_own_memory_map(
            &self.own, &consumer.block.view, &consumer.lock.own, lease.hold.slot, nbytes)

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.own.memory.data, self.nbytes, False, flags)

    def __dealloc__(self):
        if self.own.memory.data != NULL:
            shmring_own_memory_unmap(&self.own)


@cython.no_gc
@cython.freelist(64)
cdef class Held:
    """Common part of Frame and Batch: a hold on slots, an array made when first asked for.

    What only a Frame has is in here too: the free list serves objects of exactly this size.
    """

    cdef Consumer consumer
    cdef shmring_hold *hold  # moves to the lease as soon as an array is made
    cdef Lease lease
    cdef cnp.ndarray view
    cdef bytes own_meta
    cdef uint64_t own_seq
    cdef int64_t own_timestamp
    cdef uint64_t valid_rows
    cdef uint64_t lost_before
    cdef uint64_t last_epoch
    cdef readonly bint redelivered
    """Whether another member of the group had it before, and died before it released it."""
    cdef bint let_go
    cdef bint is_base  # numpy may keep this object itself as the base of an array
    cdef Guard guard   # of hold, lease, view and let_go

    def __init__(self, *_args, **_options):
        raise TypeError(f"a {type(self).__name__} comes from a Consumer")

    cdef cnp.ndarray array_on(self, void *data, object base, bint writable):
        """An array of this frame, or batch, on memory that `base` keeps."""
        raise NotImplementedError

    cdef Py_ssize_t span(self) except -1:
        """Bytes from the first element to the last."""
        raise NotImplementedError

    cdef cnp.ndarray get_array(self):
        cdef cnp.ndarray view
        guard_lock(&self.guard)
        view = self.view
        guard_unlock(&self.guard)
        return self.make_view() if view is None else view

    cdef Lease get_lease(self):
        """What keeps the slots; another thread may make it at the same time, and there is only one."""
        cdef Lease lease = Lease.__new__(Lease)
        lease.consumer = self.consumer
        guard_lock(&self.guard)
        if self.hold != NULL:
            self.move_hold(lease)
        elif not self.let_go:
            lease = self.lease
        guard_unlock(&self.guard)
        if lease.data == NULL:
            raise ValueError(
                f"this {type(self).__name__} was released; copy what you need before, or release it later")
        return lease

    cdef cnp.ndarray make_view(self):
        """The array; another thread may make it at the same time, and the first one counts."""
        cdef Lease lease = self.get_lease()
        cdef cnp.ndarray view = self.array_on(lease.data, lease, False)
        guard_lock(&self.guard)
        if self.view is None and not self.let_go:
            self.view = view
        elif self.view is not None:
            view = self.view
        guard_unlock(&self.guard)
        return view

    cdef cnp.ndarray make_private(self):
        """A private array of slots that are mapped once more; None if they are not worth it, or cannot be."""
        cdef Py_ssize_t nbytes = self.span()
        cdef PrivateMemory memory
        if nbytes < LEAST_MAPPED or self.consumer.fork_mark != fork_count:
            return None
        memory = PrivateMemory.__new__(PrivateMemory)
        if not memory.map_held(self.get_lease(), nbytes):
            return None
        return self.array_on(memory.own.memory.data, memory, True)

    @cython.binding(True)  # as `release`
    def private(self):
        """Return a new array of the same content that you may write to; nobody else sees what you write.

        Of 1 MiB and more it is not copied: it shares its pages with the slots until you write to them (copy
        on write). It holds the slots, as any view does, until the last view of it is gone. Smaller ones,
        those of a forked child, and those that the kernel cannot map, are copies and hold nothing.

        Returns
        -------
        ndarray
            Writable, of the shape and dtype of `array`. Each call makes another one.

        Raises
        ------
        ValueError
            It was released before.
        MemoryError
            The kernel has no memory, or no address space, for it.
        RingCorrupt
            After `survive_truncation`: the ring's file was cut.

        Examples
        --------
        >>> import numpy as np, shmring
        >>> with shmring.Ring.create(shape=(2,), dtype="f4", slots=4) as ring:
        ...     with ring.producer() as out, ring.consumer() as frames:
        ...         _ = out.put(np.ones(2, "f4"))
        ...         frame = frames.get(timeout=1)
        ...         mine = frame.private()
        ...         mine += 1
        ...         mine, frame.array
        (array([2., 2.], dtype=float32), array([1., 1.], dtype=float32))
        """
        cdef cnp.ndarray mine = self.make_private()
        if mine is None:
            mine = self.get_array().copy()
        self.consumer.block.check()
        return mine

    @cython.final
    cdef inline void move_hold(self, Lease lease) noexcept:
        """To a lease. The guard is locked."""
        cdef shmring_geometry *g = &self.consumer.block.view.geometry
        lease.data = self.consumer.slots + shmring_mapped_offset(g, self.hold.slot)
        lease.nbytes = <Py_ssize_t>(self.hold.count * g.slot_stride)
        lease.hold, self.hold = self.hold, NULL
        self.lease = lease

    @cython.binding(True)  # cheaper to inherit: the interpreter looks for a builtin method in the very class
    def release(self):
        """Give up this object's own hold.

        The slots go back to the producer when the last array, view or memoryview on them is gone as
        well; if there is none, at once. May be called twice. Never waits.
        """
        self.end()

    cdef void end(self) noexcept:
        cdef Lease lease = None
        cdef cnp.ndarray view
        cdef shmring_hold *hold
        guard_lock(&self.guard)
        self.let_go = True
        hold, self.hold = self.hold, NULL
        view, self.view = self.view, None
        if not self.is_base:
            lease, self.lease = self.lease, None
        guard_unlock(&self.guard)
        if hold != NULL:
            self.consumer.give_back(hold)
        elif view is not None and lease is not None:
            self.recycle(<PyObject *>view, <PyObject *>lease)

    @cython.final
    cdef void recycle(self, PyObject *view, PyObject *lease) noexcept:
        """Leaves an array that nobody else has to the consumer, for a later frame, and ends the hold.

        The caller has one reference to each. Without the GIL counts do not say who has an object.
        """
        if (not SHMRING_FREE_THREADED and Py_REFCNT(view) == 1 and Py_REFCNT(lease) == 2
                and cnp.PyArray_BASE(<cnp.ndarray>view) == <void *>lease
                and self.consumer.schema.is_as_made(<cnp.ndarray>view)):
            self.consumer.give_back(self.consumer.keep_spare(view, lease))

    @property
    def released(self):
        """Whether `release` was called."""
        return self.let_go

    @property
    def block_offset(self):
        """Where `array` begins in the ring's file, in bytes: for programs that take (name, offset, size).

        The bytes there are this frame's as long as the frame is held.
        """
        cdef shmring_hold *hold = NULL
        cdef uint64_t slot = 0
        if self.consumer.fork_mark != fork_count:
            raise _messages.forked(type(self).__name__)
        guard_lock(&self.guard)
        if not self.let_go:
            hold = self.hold if self.lease is None else self.lease.hold
        if hold != NULL:
            slot = hold.slot
        guard_unlock(&self.guard)
        if hold == NULL:
            raise self.nowhere()
        return self.consumer.block.offset_of(slot)

    cdef object nowhere(self):
        """The error for memory that is not in the block, or not ours any more."""
        return ValueError(
            f"this {type(self).__name__} was released: its bytes may be those of another frame by now")

    @property
    def lost(self):
        """Frames lost just before (for a batch, also between) the ones here."""
        return self.lost_before

    @property
    def epoch(self):
        """Which producer of the ring published it, from 1 (for a batch: its last frame)."""
        return self.last_epoch

    @property
    def dtype(self):
        """Dtype of `array`."""
        return self.consumer.schema.dtype

    @property
    def ndim(self):
        """Number of axes of `array`."""
        return len(self.shape)

    @property
    def size(self):
        """Number of elements of `array`."""
        return math.prod(self.shape)

    @property
    def nbytes(self):
        """Bytes of the elements of `array`."""
        return self.size * self.dtype.itemsize

    def __reduce__(self):
        raise _messages.not_pickled(type(self).__name__)

    @cython.binding(True)  # cheaper to bind, which a `with` does
    def __enter__(self):
        return self

    @cython.binding(True)
    def __exit__(self, kind, value, traceback):
        self.end()

    def __getitem__(self, key):
        return self.get_array()[key]

    def __array__(self, dtype=None, *, copy=None):
        return _arrays.as_array(self.get_array(), dtype, copy)

    def __dlpack__(self, *, max_version=None, copy=None, **options):
        return _arrays.as_dlpack(self.get_array(), type(self).__name__, max_version, copy, options)

    def __dlpack_device__(self):
        return self.get_array().__dlpack_device__()

    def __getbuffer__(self, Py_buffer *view, int flags):
        if PyErr_Occurred() != NULL:  # torch.asarray, after a refusal: it would read any dtype as float32
            PyErr_Clear()
            raise BufferError("asked for bytes after writable memory was refused; use .array")
        if not self.consumer.schema.exports_buffers():  # numpy.asarray then takes __array__
            raise BufferError(
                f"the buffer protocol cannot describe dtype {self.consumer.schema.dtype}; use .array")
        if not flags & PyBUF_FORMAT:  # np.frombuffer and np.ndarray(buffer=) keep the object, not the buffer
            self.is_base = True
        PyObject_GetBuffer(self.get_array(), view, flags)

    @cython.final
    cdef void last_act(self) noexcept:
        if self.hold != NULL:
            self.consumer.give_back(self.hold)
        elif self.view is not None and self.lease is not None:
            self.recycle(<PyObject *>self.view, <PyObject *>self.lease)


@cython.final
@cython.no_gc
cdef class Frame(Held):
    """A frame in place: from a Consumer. Its memory is yours while it, or any array of it, lives.

    A context manager (releases at the end). Supports the buffer protocol, ``numpy.asarray``, DLPack and
    ``frame[...]``, all of them read-only and without a copy.
    """

    cdef cnp.ndarray array_on(self, void *data, object base, bint writable):
        return self.consumer.schema.frame_array(data, self.valid_rows, base, writable)

    cdef Py_ssize_t span(self) except -1:
        cdef Schema schema = self.consumer.schema
        return self.valid_rows * schema.row_bytes if schema.variable_rows else schema.frame_bytes

    cdef cnp.ndarray make_view(self):
        if self.hold != NULL and self.consumer.has_spare(self.valid_rows):
            return self.use_spare()
        return Held.make_view(self)

    cdef cnp.ndarray use_spare(self):
        """The array that an earlier frame had, and nobody kept. Only with the GIL."""
        cdef cnp.ndarray view = self.consumer.take_spare()
        cdef Lease lease = <Lease>cnp.PyArray_BASE(view)
        lease.consumer = self.consumer
        self.move_hold(lease)
        cnp.set_data(view, lease.data)
        self.view = view
        return view

    @property
    def array(self):
        """Read-only ndarray on the slot, of the ring's shape and dtype (first axis: `rows`)."""
        return self.get_array()

    @property
    def shape(self):
        """Shape of `array`: the ring's, with `rows` as its first axis."""
        cdef Schema schema = self.consumer.schema
        return (self.valid_rows, *schema.shape[1:]) if schema.variable_rows else schema.shape

    @property
    def seq(self):
        """Counts the frames that the producer offered, from 0."""
        return self.own_seq

    @property
    def timestamp_ns(self):
        """Nanoseconds, CLOCK_MONOTONIC at publish unless the producer gave its own."""
        return self.own_timestamp

    @property
    def rows(self):
        """Valid length of the first axis; None in a ring without variable_rows."""
        return self.valid_rows if self.consumer.schema.variable_rows else None

    @property
    def meta(self):
        """Meta of the frame (a numpy scalar), None in a ring without meta."""
        if self.own_meta is None:
            return None
        return np.frombuffer(self.own_meta, self.consumer.schema.meta_dtype)[0]

    def __repr__(self):
        return _repr.frame(self, self.consumer.block.name)

    def _repr_html_(self):
        from shmring import _html

        return _html.frame(self, self.consumer.ring)


@cython.final
@cython.no_gc
cdef class Batch(Held):
    """Consecutive frames as one ndarray: from ``Consumer.batch()`` and ``Consumer.windows()``.

    Its memory is yours while it, or any array of it, lives. A context manager (releases at the end).
    """

    cdef Py_ssize_t count
    cdef bytes all_seqs  # these have room for what was asked for
    cdef bytes all_timestamps
    cdef object all_rows
    cdef object all_metas
    cdef readonly bint copied
    """True if the frames were not adjacent in memory and this window is a private copy."""
    cdef readonly bint interrupted
    """True if more frames were ready, but a swap put them elsewhere: the next batch has them."""

    cdef cnp.ndarray array_on(self, void *data, object base, bint writable):
        return self.consumer.schema.batch_array(
            data, self.count, self.consumer.block.view.geometry.slot_stride, base, writable)

    cdef Py_ssize_t span(self) except -1:
        if self.copied:
            return 0  # of slots
        return ((self.count - 1) * self.consumer.block.view.geometry.slot_stride
                + self.consumer.schema.frame_bytes)

    cdef object nowhere(self):
        if self.copied:
            return ValueError("this window is a private copy (`copied` is True), not in the ring's file")
        return Held.nowhere(self)

    cdef cnp.ndarray column(self, bytes values, int type_number):
        cdef cnp.npy_intp length = self.count
        cdef cnp.dtype dtype = cnp.PyArray_DescrFromType(type_number)
        Py_INCREF(dtype)
        array = cnp.PyArray_NewFromDescr(
            cnp.ndarray, dtype, 1, &length, NULL, PyBytes_AS_STRING(values), cnp.NPY_ARRAY_CARRAY_RO, None)
        Py_INCREF(values)
        cnp.PyArray_SetBaseObject(array, values)
        return array

    @property
    def seqs(self):
        """Seqs, uint64 of shape (len,), read-only. A gap: frames lost in between."""
        return self.column(self.all_seqs, cnp.NPY_UINT64)

    @property
    def timestamps_ns(self):
        """Timestamps in nanoseconds, int64 of shape (len,), read-only."""
        return self.column(self.all_timestamps, cnp.NPY_INT64)

    @property
    def metas(self):
        """Metas of shape (len,), None in a ring without meta."""
        return None if self.all_metas is None else self.all_metas[:self.count]

    @property
    def rows(self):
        """Valid lengths of the first axis, uint64 of shape (len,), None without variable_rows."""
        return None if self.all_rows is None else self.all_rows[:self.count]

    @property
    def array(self):
        """Read-only ndarray of `shape`, in place unless `copied`."""
        return self.get_array()

    @property
    def shape(self):
        """Shape of `array`: the number of frames, then the ring's shape."""
        return (self.count, *self.consumer.schema.shape)

    def __len__(self):
        return self.count

    def __repr__(self):
        return _repr.batch(self, self.consumer.block.name)

    def _repr_html_(self):
        from shmring import _html

        return _html.batch(self, self.consumer.ring)


cdef void last_act_of(PyObject *held) noexcept:
    (<Held>held).last_act()


before_death(<PyTypeObject *>Frame, <PyTypeObject *>Batch, last_act_of)
