# The consumer's handle.

cdef dict STARTS = {
    "oldest": SHMRING_START_OLDEST, "newest": SHMRING_START_NEWEST, "next": SHMRING_START_NEXT}

cdef struct Want:
    uint64_t least  # frames
    uint64_t most   # of a Batch; 0: a single Frame
    uint64_t step   # of windows, else 0
    bint latest


cdef str SKIPS = "it skips frames, which no other member gets then; join without group=, with lossless=False"

cdef Want NEXT = Want(1, 0, 0, False)
cdef Want NEWEST = Want(1, 0, 0, True)


@cython.final
@cython.no_gc_clear  # a Ring may refer to its consumer; the consumer itself stays whole until it leaves
cdef class Consumer:
    """Reads frames in place, in order: from ``Ring.consumer()``.

    A context manager, an iterator (ends when the producer has closed and everything was read) and an
    asynchronous iterator. Use it from one thread at a time; frames may be released in any thread.
    """

    cdef readonly object ring
    """The Ring that this consumer was opened from; it stays open for as long as the consumer exists."""
    cdef Block block
    cdef Schema schema
    cdef shmring_consumer core
    cdef object __weakref__
    cdef Guard guard  # of core and of what is below, down to has_place
    cdef LockFile lock
    cdef bint busy  # a thread waits in here
    cdef bint is_open
    cdef bint has_place  # until the last held frame is gone, after close() too
    cdef unsigned long fork_mark
    cdef readonly bint lossless
    """Whether this consumer holds the producer back rather than lose a frame."""
    cdef readonly str label
    """What the consumer was called when it joined."""
    cdef readonly str group
    """The group that this consumer is a member of, None if it gets every frame."""
    cdef bint at_most_once
    cdef int64_t spin_ns
    cdef bint spin_adapts
    cdef int64_t asked_at  # the kernel, whether the producer lives
    cdef uint64_t head_before  # the sleep that is on, or was last
    cdef uint32_t state_before
    cdef uint8_t *slots  # as mapped when it joined; in a forked child, what its frames were at the fork
    cdef shmring_holder holder
    cdef PyObject *spare  # an array for a later frame; nobody else has it, not even the garbage collector

    def __init__(self, *_args, **_options):
        raise TypeError("a Consumer comes from Ring.consumer()")

    def _join(self, LockFile lock, str start, bint awaits_takeover):
        """Take a place, for as long as `lock` is open."""
        self.block.check_mapped()
        cdef int result = self.occupy(lock.own.fd, STARTS[start])
        cdef int number = errno  # an import may set it
        if result != SHMRING_OK:
            try:
                raise _messages.cannot_join(result, self.block, lock.own.fd, number, self.group)
            finally:
                lock.close()  # the error's traceback keeps it
        shmring_explain_writes()
        self.core.awaits_takeover = awaits_takeover
        self.lock, self.fork_mark, self.slots = lock, fork_count, self.block.view.data
        self.is_open = self.has_place = True
        shmring_holder_add(&self.holder, &self.core)
        consumers.add(self)
        self.block.check()
        return self

    cdef int occupy(self, int lock_fd, int start) except -1:
        """Takes a place by itself, or as a member of a group."""
        cdef bytes label = self.label.encode()
        cdef bytes group = b"" if self.group is None else self.group.encode()
        cdef const char *labelled = label
        cdef const char *name = group
        cdef uint32_t flags = SHMRING_AT_MOST_ONCE if self.at_most_once else 0
        cdef int result
        if self.group is None:
            return shmring_join(&self.core, &self.block.view, lock_fd, self.lossless, start, labelled)
        with nogil:  # it may wait for another process
            result = shmring_join_group(&self.core, &self.block.view, lock_fd, name, flags, start, labelled)
        return result

    def _limit_held(self, uint64_t slots):
        """Let this lossy consumer hold that many slots."""
        cdef int result
        self.enter()
        result = shmring_limit_held(&self.core, slots)
        guard_unlock(&self.guard)
        if result != SHMRING_OK:
            raise _messages.no_share(self.block, self.lock.own.fd, self.core.place, slots)

    @property
    def max_held(self):
        """Slots that a lossy consumer may hold at the same time; None for a lossless one."""
        return None if self.lossless else self.core.max_held

    cdef object beyond_share(self, str call, uint64_t needed):
        """The error for what needs more slots at a time than a lossy consumer may ever hold."""
        return ValueError(
            f"{call} needs {needed} slots, but this lossy consumer may hold {self.core.max_held}: join "
            f"with max_held={needed} or more (the ring needs slots or spares for that), or lossless")

    cdef int refuse_member(self, str call, str why) except -1:
        """Refuses what is not for members of groups."""
        if self.group is not None:
            raise ValueError(
                f"{call} is not for members of a group (this one is in {self.group!r}): {why}")
        return 0

    def __del__(self):
        if self.is_open and self.fork_mark == fork_count:
            warn_unclosed("Consumer", self.block.name)

    def __dealloc__(self):
        if self.has_place and self.fork_mark == fork_count:
            self.leave()  # every frame held a reference to this handle, so none is left
        Py_XDECREF(self.spare)

    cdef void leave(self) noexcept:
        self.has_place = False
        shmring_holder_remove(&self.holder)
        shmring_leave(&self.core)
        shmring_own_close(&self.lock.own)

    cdef void give_back(self, shmring_hold *hold) noexcept:
        """Ends a hold: of a frame, or of the last array on it. In any thread."""
        if self.fork_mark == fork_count:
            guard_lock(&self.guard)
            shmring_release(&self.core, hold)
            if self.core.left and self.core.held == 0 and self.has_place:
                self.leave()
            guard_unlock(&self.guard)

    # ---- an array that no frame has ----

    cdef inline shmring_hold *keep_spare(self, PyObject *view, PyObject *lease) noexcept:
        """Keeps an array for a later frame; the hold that it had."""
        cdef PyObject *before = self.spare
        cdef shmring_hold *hold = (<Lease>lease).hold
        (<Lease>lease).hold, (<Lease>lease).consumer = NULL, None
        Py_INCREF(<object>view)
        self.spare = view
        Py_XDECREF(before)
        return hold

    cdef inline bint has_spare(self, uint64_t rows) noexcept:
        """Whether there is one, of so many rows."""
        return self.spare != NULL and (
            not self.schema.variable_rows
            or cnp.PyArray_DIM(<cnp.ndarray>self.spare, 0) == <cnp.npy_intp>rows)

    cdef inline cnp.ndarray take_spare(self):
        cdef cnp.ndarray view = <cnp.ndarray>self.spare
        self.spare = NULL
        Py_DECREF(view)
        return view

    # ---- guards ----

    cdef inline int enter(self) except -1:
        """Takes the handle for one step; the caller unlocks the guard after it."""
        guard_lock(&self.guard)
        if (self.busy or not self.is_open or self.fork_mark != fork_count
                or shmring_lost_pages(&self.block.view)):
            return self.refuse()
        return 0

    cdef int refuse(self) except -1:
        """Says why the handle was not free, and unlocks the guard."""
        cdef Refusal why = self.unusable()
        guard_unlock(&self.guard)
        raise unusable_handle(why, "Consumer", self.block)

    cdef Refusal unusable(self) noexcept:
        """Why the handle was not free. The guard is locked: a moment later the answer may differ."""
        if self.fork_mark != fork_count:
            return FORKED
        if not self.is_open:
            return CLOSED
        return CUT if shmring_lost_pages(&self.block.view) else BUSY

    # ---- waiting ----

    cdef int outlook(self, uint64_t least, int64_t now, bint ask_kernel) except -1:
        """What `least` frames from next on depend on, as shmring_outlook says it.

        The kernel is asked whether the producer lives every 100 ms at most, or if `ask_kernel`.
        """
        cdef bint ask = ask_kernel or now - self.asked_at >= SLICE_NS
        cdef int how
        self.enter()
        how = shmring_outlook(&self.core, least, ask)
        if ask:
            self.asked_at = 0 if how == SHMRING_DIED else now  # the next call asks again, and says the same
        guard_unlock(&self.guard)
        return how

    cdef bint frees_itself(self, uint64_t least, bint tasks_too) except -1:
        """Whether slots that this consumer holds may come free: by another thread, or with garbage."""
        if others_run(tasks_too):
            return True
        gc.collect()  # frames in a cycle of garbage go back with it
        return self.outlook(least, shmring_coarse_now_ns(), False) != SHMRING_HELD

    cdef bint comes_soon(self, uint64_t least) noexcept:
        """Whether `least` frames are there in a moment: too short to give the GIL away for it."""
        return (self.spin_ns > 0 and not shmring_is_crowded(&self.block.view, CORES)
                and shmring_wait_briefly(&self.core, least))

    cdef void adapt_spin(self, int64_t started) noexcept:
        if self.spin_adapts:
            self.spin_ns = shmring_adapt_spin(self.spin_ns, shmring_now_ns() - started)

    cdef int pause(self, uint64_t least, Wait *wait) except -1:
        """Waits at most a slice for `least` frames from next on; SHMRING_OK: look for them.

        SHMRING_EMPTY: the time is over. SHMRING_HELD: the wait could never end, or the time is over.
        """
        cdef shmring_block *view = &self.block.view
        cdef shmring_news news = shmring_note_news(&self.core, least)
        cdef int64_t now = shmring_now_ns()
        cdef bint is_over = now >= wait.deadline
        cdef int64_t until = shmring_slice_end(now, wait.deadline, SLICE_NS)
        cdef int64_t spin = shmring_spin_left(now, wait.started, self.spin_ns, SLICE_NS)
        cdef int how = self.outlook(least, now, is_over)
        if how == SHMRING_HELD and not is_over and self.frees_itself(least, False):
            how = SHMRING_EMPTY
        if how != SHMRING_EMPTY or is_over:
            return how
        self.begin_sleep()
        with nogil:
            shmring_wait_data(view, &news, until, spin, CORES)
        self.end_sleep()
        return SHMRING_OK  # and check whether another thread has closed this handle

    cdef int begin_sleep(self) except -1:
        """Takes the handle for this thread, until `end_sleep`."""
        self.enter()
        self.busy = True
        self.head_before = shmring_read_head(&self.block.view)
        self.state_before = shmring_read_producer_state(&self.block.view)
        guard_unlock(&self.guard)
        return 0

    cdef void end_sleep(self) noexcept:
        guard_lock(&self.guard)
        self.busy = False
        if (shmring_read_head(&self.block.view) == self.head_before
                and shmring_read_producer_state(&self.block.view) == self.state_before):
            self.asked_at = 0  # woken by a producer that abandoned the ring, or the slice is over
        guard_unlock(&self.guard)

    cdef bint is_ready(self, int64_t now, bint ask_kernel) except -1:
        """Whether the next `get` would not wait."""
        if shmring_lost_pages(&self.block.view):
            return True
        cdef int how = self.outlook(1, now, ask_kernel)
        return how != SHMRING_EMPTY and not (how == SHMRING_HELD and self.frees_itself(1, False))

    def _still_waiting(self, seconds, least=1):
        """Log what this consumer waits for."""
        if self.outlook(least, shmring_coarse_now_ns(), False) == SHMRING_HELD:
            word = _messages.slots_held(self.block, least, self.core.held, self.max_held)
        else:
            word = _messages.no_frame(self.block, least, seconds, self.lock.own.fd, self.group)
        _messages.still_waiting("get", word)

    cdef int raise_for(self, int how, uint64_t least, object timeout) except -1:
        """The error for a wait that brought no frame."""
        if how == SHMRING_EMPTY:
            raise _messages.no_frame(self.block, least, timeout, self.lock.own.fd, self.group)
        if how == SHMRING_HELD:
            raise _messages.slots_held(self.block, least, self.core.held, self.max_held)
        raise _messages.ENDS[PRODUCER_STATES[how]](self.block, self.lock.own.fd, self.lag)

    cdef object take(self, Want *want):
        """What is wanted, None if it is not there yet."""
        if want.most == 0:
            return self.take_frame(want.latest)
        return self.take_batch(want.least, want.most, want.step)

    cdef object wait_for(self, Want want, object timeout):
        """Takes what is wanted as soon as it is there; at the end of a stream a batch may be shorter."""
        cdef Wait wait = wait_of(timeout)
        cdef int how
        if wait.deadline != 0 and self.comes_soon(want.least):
            taken = self.take(&want)
            if taken is not None:
                return taken
        wait.started = shmring_now_ns()
        while True:
            how = self.pause(want.least, &wait)
            if want.least > 1 and want.step == 0 and self.has_rest(how):
                want.least = 1
            elif how != SHMRING_OK:
                self.raise_for(how, want.least, timeout)
            taken = self.take(&want)
            if taken is not None:
                self.adapt_spin(wait.started)
                return taken
            self.check_patience(want.least, &wait, timeout)

    cdef int check_patience(self, uint64_t least, Wait *wait, object timeout) except -1:
        """Between two looks at a ring that is empty, or laps, or lies, forever: signals, and the time.

        Not before a frame that ends the wait: its caller runs Python code at once.
        """
        cdef double waited
        look_around()
        if wait.deadline != SHMRING_FOR_EVER and shmring_now_ns() >= wait.deadline:
            self.give_up(least, timeout)
        waited = waited_until_notice(wait)
        if waited != 0:
            self._still_waiting(waited, least)
        return 0

    cdef int give_up(self, uint64_t least, object timeout) except -1:
        """The error for a wait whose time is over."""
        cdef int how = self.outlook(least, shmring_coarse_now_ns(), False)
        if how == SHMRING_OK or self.has_rest(how):
            how = SHMRING_EMPTY
        return self.raise_for(how, least, timeout)

    cdef bint has_rest(self, int how) noexcept:
        """Whether a stream that has ended left frames to take, though fewer than were wanted."""
        return (how in (SHMRING_ENDED, SHMRING_FAILED, SHMRING_DIED)
                and shmring_count_ready(&self.core) != 0)

    # ---- single frames ----

    cdef Frame take_frame(self, bint latest):
        """The next (or newest) frame, None if there is none yet."""
        cdef shmring_taken taken
        cdef Frame frame = Frame.__new__(Frame)
        cdef int result
        taken.seqs, taken.timestamps_ns = &frame.own_seq, &frame.own_timestamp
        taken.rows = &frame.valid_rows if self.schema.variable_rows else NULL
        taken.metas = NULL
        if self.schema.meta_bytes != 0:
            frame.own_meta = PyBytes_FromStringAndSize(NULL, self.schema.meta_bytes)
            taken.metas = <uint8_t *>PyBytes_AS_STRING(frame.own_meta)
        self.enter()
        if latest:
            result = shmring_take_latest(&self.core, &taken)
        else:
            result = shmring_take_one(&self.core, &taken)
        guard_unlock(&self.guard)
        if result == SHMRING_OK:
            frame.consumer, frame.hold = self, taken.hold
            frame.lost_before, frame.last_epoch = taken.lost, taken.epoch
            frame.redelivered = taken.redelivered
            self.block.check()
            return frame
        if result == SHMRING_EMPTY:
            return None
        raise MemoryError() if result == SHMRING_SYSTEM else corrupt(self.block)

    def get(self, timeout=None):
        """Take the next frame, waiting for it if need be.

        Parameters
        ----------
        timeout : float, optional
            Seconds; None waits forever, 0 never waits.

        Returns
        -------
        Frame

        Raises
        ------
        RingEmpty
            No frame in time.
        RingClosed
            The producer closed and every frame was read, or this handle is closed.
        ProducerDied
            The producer died and every published frame was read.
        SlotsHeld
            The frame cannot come, because this consumer holds the slots itself: at the end of the timeout,
            and at once if no other thread of the process can release one.
        RingCorrupt, ForkedHandle, HandleBusy
            The ring or the handle cannot be used.

        Examples
        --------
        >>> import numpy as np, shmring
        >>> with shmring.Ring.create(shape=(2,), dtype="f4", slots=4) as ring:
        ...     with ring.producer() as out, ring.consumer() as frames:
        ...         _ = out.put(np.ones(2, "f4"))
        ...         frames.get(timeout=1).array
        array([1., 1.], dtype=float32)
        """
        if timeout is not None:
            seconds_of("timeout", timeout)
        frame = self.take_frame(False)
        return frame if frame is not None else self.wait_for(NEXT, timeout)

    @cython.always_allow_keywords(False)
    def try_get(self):
        """Take the next frame if there is one; never waits.

        Returns
        -------
        Frame or None

        Raises
        ------
        RingClosed, ProducerDied, SlotsHeld, RingCorrupt, ForkedHandle, HandleBusy
            As `get`.
        """
        return self.try_take(False, False)

    def _try_in_task(self, bint latest):
        """The next or newest frame, where other tasks of a running event loop may release frames, too."""
        return self.try_take(latest, True)

    cdef Frame try_take(self, bint latest, bint tasks_too):
        cdef Frame frame = self.take_frame(latest)
        cdef int how
        if frame is not None:
            return frame
        how = self.outlook(1, shmring_coarse_now_ns(), False)
        if how == SHMRING_OK:
            return self.take_frame(latest)
        if how == SHMRING_EMPTY or (how == SHMRING_HELD and self.frees_itself(1, tasks_too)):
            return None
        self.raise_for(how, 1, 0)

    def latest(self, timeout=None):
        """Take the newest frame not yet delivered, skipping older ones.

        They count as `skipped`, never as lost.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for a new one; None waits forever, 0 never waits.

        Returns
        -------
        Frame

        Raises
        ------
        RingEmpty, RingClosed, ProducerDied, SlotsHeld, RingCorrupt, ForkedHandle, HandleBusy
            As `get`.
        """
        self.refuse_member("latest()", SKIPS)
        if timeout is not None:
            seconds_of("timeout", timeout)
        frame = self.take_frame(True)
        return frame if frame is not None else self.wait_for(NEWEST, timeout)

    # ---- many frames ----

    cdef uint64_t ready(self, uint64_t least) noexcept:
        """Frames from next on; in a member `least` at any rate: a dead one's may be among them."""
        cdef uint64_t there = shmring_count_ready(&self.core)
        return max(there, least) if self.core.member else there

    cdef Batch take_batch(self, uint64_t least, uint64_t most, uint64_t step):
        """A batch (step 0) or a window of exactly `least` frames; None if they are not there yet."""
        cdef shmring_taken taken
        cdef Schema schema = self.schema
        cdef Batch batch = Batch.__new__(Batch)
        cdef bint window = step != 0
        cdef int result
        cdef uint64_t room = min(most, self.block.view.geometry.slots)
        cdef uint64_t ready = self.ready(least)
        if ready < least:
            return None
        if not window and ready < room:
            room = ready
        cdef bytes seqs = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(8 * room))
        cdef bytes timestamps = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(8 * room))
        taken.seqs = <uint64_t *>PyBytes_AS_STRING(seqs)
        taken.timestamps_ns = <int64_t *>PyBytes_AS_STRING(timestamps)
        rows = metas = copy = None
        taken.rows, taken.metas = NULL, NULL
        if schema.variable_rows:
            rows = np.empty(room, np.uint64)
            taken.rows = <uint64_t *>cnp.PyArray_DATA(rows)
        if schema.meta_bytes != 0:
            metas = np.empty(room, schema.meta_dtype)
            taken.metas = <uint8_t *>cnp.PyArray_DATA(metas)
        self.enter()
        if window:
            result = shmring_take_window(&self.core, least, step, &taken)
        else:
            result = shmring_take_batch(&self.core, least, room, &taken)
        if result == SHMRING_OK and taken.scattered:
            copy = self.copy_scattered(&taken)
            shmring_end_scattered(&self.core, &taken)
        guard_unlock(&self.guard)
        if result == SHMRING_EMPTY:
            return None
        if result != SHMRING_OK:
            raise MemoryError() if result == SHMRING_SYSTEM else corrupt(self.block)
        batch.consumer, batch.hold, batch.count = self, taken.hold, taken.count
        batch.lost_before, batch.last_epoch = taken.lost, taken.epoch
        batch.redelivered = taken.redelivered
        batch.interrupted, batch.copied = taken.interrupted, taken.scattered
        batch.all_seqs, batch.all_timestamps = seqs, timestamps
        batch.all_rows, batch.all_metas = rows, metas
        if batch.copied:
            if copy is None:
                raise MemoryError()
            batch.view = self.schema.batch_array(
                PyBytes_AS_STRING(copy), taken.count, schema.frame_bytes, copy, False)
        self.block.check()
        return batch

    cdef object copy_scattered(self, shmring_taken *taken):
        """Bytes, which no garbage collection comes with: it could release frames of this consumer."""
        cdef uint64_t i
        cdef size_t nbytes = self.schema.frame_bytes
        cdef char *target
        try:
            copy = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(taken.count * nbytes))
        except MemoryError:
            return None
        target = PyBytes_AS_STRING(copy)
        for i in range(taken.count):
            memcpy(target + i * nbytes, shmring_slot_at(&self.block.view, self.core.slots_taken[i]), nbytes)
        return copy

    def batch(self, max_frames, min_frames=1, timeout=None):
        """Take consecutive frames as one ndarray, in place, across the ring's wrap too.

        Parameters
        ----------
        max_frames : int
            The most frames to take.
        min_frames : int
            The fewest frames to wait for, at most the ring's slots, or `max_held` of a lossy consumer. A
            batch may still be shorter where a swap interrupts the run in memory (``batch.interrupted``), and
            at the end of the stream. 1 in a member of a group.
        timeout : float, optional
            Seconds; None waits forever, 0 never waits.

        Returns
        -------
        Batch

        Raises
        ------
        RingEmpty
            Fewer than `min_frames` in time; nothing was taken.
        RingClosed, ProducerDied, SlotsHeld, RingCorrupt, ForkedHandle, HandleBusy
            As `get`.
        """
        cdef uint64_t least = count_of(min_frames, "min_frames", SHMRING_MAX_SLOTS)
        cdef uint64_t most = count_of(max_frames, "max_frames", SHMRING_MAX_SLOTS)
        cdef Batch batch
        if timeout is not None:
            seconds_of("timeout", timeout)
        if least > most:
            raise ValueError(f"min_frames={least} is more than max_frames={most}")
        if least > 1:
            self.refuse_member(
                "batch() with min_frames > 1", "other members take the frames that it waits for")
        if least > self.block.view.geometry.slots:
            raise ValueError(
                f"min_frames={least}, but the ring has {self.block.view.geometry.slots} slots: ask for "
                f"fewer, or create it with slots={least} or more")
        if least > self.core.max_held:
            raise self.beyond_share(f"min_frames={least}", least)
        self.want_runs()
        batch = self.take_batch(least, most, 0)
        return batch if batch is not None else self.wait_for(Want(least, most, 0, False), timeout)

    def windows(self, length, step=None):
        """Iterate over windows of consecutive frames, overlapping if `step` < `length`, without a copy.

        Parameters
        ----------
        length : int
            Frames in a window. ``length + step`` may not exceed the ring's slots, and two windows in a row
            may not need more than a lossy consumer's `max_held`.
        step : int, optional
            Frames from one window's first to the next one's; default `length` (no overlap).

        Yields
        ------
        Batch
            Exactly `length` frames. Where a swap interrupts the run in memory, that one window is a
            private copy (``batch.copied``). The iteration ends when fewer than `length` frames are left
            in a closed stream; those can still be read with `get`.

        Raises
        ------
        ProducerDied, SlotsHeld, RingCorrupt, ForkedHandle, HandleBusy
            As `get`, while iterating.
        """
        cdef uint64_t frames = count_of(length, "length", SHMRING_MAX_SLOTS)
        cdef uint64_t advance = frames if step is None else count_of(step, "step", SHMRING_MAX_SLOTS)
        cdef Windows windows
        self.refuse_member("windows()", "other members have the frames in between; join without group=")
        if frames + advance > self.block.view.geometry.slots:
            raise ValueError(
                f"length + step = {frames + advance} is more than the ring's "
                f"{self.block.view.geometry.slots} slots: the window before is usually still held. Create "
                f"the ring with slots={frames + advance} or more")
        if frames + min(frames, advance) > self.core.max_held:
            raise self.beyond_share("a window, with the one before,", frames + min(frames, advance))
        self.want_runs()
        windows = Windows.__new__(Windows)
        windows.consumer, windows.length, windows.step = self, frames, advance
        return windows

    cdef Batch next_window(self, uint64_t length, uint64_t step):
        """The next window; None at the end of the stream."""
        cdef Batch batch = self.take_batch(length, length, step)
        if batch is not None:
            return batch
        try:
            return self.wait_for(Want(length, length, step, False), None)
        except errors.RingClosed:
            if not self.is_open:
                raise
        return None

    cdef int want_runs(self) except -1:
        self.enter()
        shmring_want_runs(&self.core)
        guard_unlock(&self.guard)
        return 0

    # ---- iteration ----

    def __iter__(self):
        return self

    def __next__(self):
        return self.next_frame(None)

    cdef Frame next_frame(self, object timeout):
        """The next frame of an iteration."""
        cdef Frame frame
        if not self.is_open and not self.busy and self.fork_mark == fork_count:
            raise StopIteration
        frame = self.take_frame(False)
        if frame is not None:
            return frame
        try:
            return self.wait_for(NEXT, timeout)
        except errors.RingClosed:
            raise StopIteration from None

    def iter(self, timeout=None):
        """Iterate with a timeout: ``for frame in frames.iter(timeout=5)``, or the same with ``async for``.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for each frame; None waits forever, 0 never waits.

        Yields
        ------
        Frame
            Ends as iteration over the consumer itself does: when the producer has closed and everything
            was read.

        Raises
        ------
        RingEmpty
            No frame in time, while iterating. The iteration can be continued.
        ProducerDied, SlotsHeld, RingCorrupt, ForkedHandle, HandleBusy
            As `get`, while iterating.

        Examples
        --------
        >>> import numpy as np, shmring
        >>> with shmring.Ring.create(shape=(2,), dtype="f4", slots=4) as ring, ring.consumer() as frames:
        ...     with ring.producer() as out:
        ...         _ = out.put(np.ones(2, "f4"))
        ...     [frame.seq for frame in frames.iter(timeout=5)]
        [0]
        """
        cdef Frames frames = Frames.__new__(Frames)
        check_timeout(timeout)
        frames.consumer, frames.timeout = self, timeout
        return frames

    def get_async(self, timeout=None):
        """Take the next frame in asyncio: ``frame = await consumer.get_async()``.

        No busy loop and no thread for each call: one helper thread for an event loop sleeps in the
        kernel. A cancelled call has taken no frame.

        Parameters
        ----------
        timeout : float, optional
            Seconds; None waits forever, 0 never waits.

        Returns
        -------
        coroutine of Frame

        Raises
        ------
        RingEmpty, RingClosed, ProducerDied, SlotsHeld, RingCorrupt, ForkedHandle, HandleBusy
            As `get`.
        """
        from shmring import _aio
        return _aio.get(self, timeout)

    def latest_async(self, timeout=None):
        """Take the newest frame not yet delivered in asyncio: ``frame = await consumer.latest_async()``.

        What is passed over counts as `skipped`, never as lost. A cancelled call has taken no frame.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for a new one; None waits forever, 0 never waits.

        Returns
        -------
        coroutine of Frame

        Raises
        ------
        RingEmpty, RingClosed, ProducerDied, SlotsHeld, RingCorrupt, ForkedHandle, HandleBusy
            As `get`.
        """
        from shmring import _aio
        self.refuse_member("latest_async()", SKIPS)
        return _aio.get(self, timeout, latest=True)

    def __aiter__(self):
        return self

    def __anext__(self):
        from shmring import _aio
        return _aio.following(self, None)

    @property
    def _position(self):
        """The position of the frame that it takes next."""
        return self.core.next

    def _awaited(self):
        """What to sleep on until there may be a frame to take."""
        cdef Awaited awaited = Awaited.__new__(Awaited)
        awaited.block, awaited.news = self.block, shmring_note_news(&self.core, 1)
        return awaited

    def _empty(self, timeout):
        """Raise RingEmpty, or what kept the frame from coming."""
        self.give_up(1, timeout)

    # ---- the end ----

    def close(self):
        """Leave the ring. May be called twice, and while another thread waits in this handle.

        Frames that are still held, and arrays on them, stay valid and keep their slots.
        """
        cdef bint usable, waiting, holding
        guard_lock(&self.guard)
        usable = self.is_open and self.fork_mark == fork_count
        waiting, holding = self.busy, self.core.held != 0
        if usable:
            self.is_open = False
            if holding:
                shmring_leave_holding(&self.core)
            else:
                self.leave()
        guard_unlock(&self.guard)
        if usable and waiting:
            shmring_event_announce(&self.block.view.hot.data_event)

    def _abandon(self):
        """Leave as if this process had died: other members of the group get what is held.

        For a process that is about to end: nobody protects the held frames from here on.
        """
        guard_lock(&self.guard)
        if self.is_open and self.fork_mark == fork_count:
            self.is_open = self.has_place = False
            self.fork_mark -= 1  # as after a fork: no release counts any more
            shmring_holder_remove(&self.holder)
            shmring_own_close(&self.lock.own)
        guard_unlock(&self.guard)

    def __reduce__(self):
        raise _messages.not_pickled("Consumer")

    @cython.binding(True)  # cheaper to bind, which a `with` does
    def __enter__(self):
        return self

    @cython.binding(True)
    def __exit__(self, kind, value, traceback):
        self.close()

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
    def lost(self):
        """Frames that this consumer did not get since it joined: lapped, or dropped at the source.

        0 in a member of a group: other members have the frames that it did not get.
        """
        return self.core.lost

    @property
    def skipped(self):
        """Frames that `latest`, or `windows` with a step longer than the window, passed over."""
        return self.core.skipped

    @property
    def delivered(self):
        """Frames taken; a frame in several windows counts once."""
        return self.core.delivered

    @property
    def redelivered(self):
        """Frames among those that a member of the group had when it died."""
        return self.core.redelivered

    @property
    def lag(self):
        """Frames published but not yet taken: by this consumer, or by any member of its group."""
        if not self.is_open:
            return 0
        cdef uint64_t head = shmring_read_head(&self.block.view)
        cdef uint64_t next = shmring_next_position(&self.core)
        return head - next if head > next else 0

    @property
    def held(self):
        """Frames held now: by Frames, Batches and the arrays made from them."""
        return self.core.held

    @property
    def place(self):
        """Index of this consumer in the ring's consumer table."""
        return self.core.place

    @property
    def closed(self):
        """Whether this handle is closed, or belongs to the parent of a fork."""
        return not self.is_open or self.fork_mark != fork_count

    def __repr__(self):
        return _repr.consumer(self, state_of(self.is_open, self.fork_mark))


def open_consumer(
        ring, Block block, Schema schema, bint lossless, start, str label, spin, str group,
        bint at_most_once):
    """Return a Consumer that has not joined yet."""
    cdef Consumer consumer = Consumer.__new__(Consumer)
    check_word("start", start, STARTS)
    consumer.spin_ns, consumer.spin_adapts = spin_of(spin), spin is None and CORES > 1
    consumer.ring, consumer.block, consumer.schema = ring, block, schema
    consumer.lossless, consumer.label = lossless, label
    consumer.group, consumer.at_most_once = group, at_most_once
    return consumer


def own_places(Block block):
    """Return the places of the consumer table that belong to handles of this process."""
    cdef Consumer one
    found = set()
    for one in list(consumers):
        if one.fork_mark == fork_count and one.block.generation == block.generation:
            found.add(one.place)
    return found
