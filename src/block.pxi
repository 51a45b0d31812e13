# A ring's block: its geometry, its mapping, and what is wrong with it.

def choose_geometry(uint64_t slots, uint64_t frame_bytes, uint64_t meta_bytes, uint64_t row_bytes,
                    uint64_t consumers, uint64_t schema_bytes):
    """Return (slots, block bytes), with the slots rounded up; None if they make no valid block."""
    cdef shmring_geometry g
    if fill_geometry(&g, slots, frame_bytes, meta_bytes, row_bytes, consumers, schema_bytes) != SHMRING_OK:
        return None
    return g.slots, g.block_bytes


cdef int fill_geometry(shmring_geometry *g, uint64_t slots, uint64_t frame_bytes, uint64_t meta_bytes,
                       uint64_t row_bytes, uint64_t consumers, uint64_t schema_bytes) noexcept:
    memset(g, 0, sizeof(shmring_geometry))
    g.slots, g.frame_bytes, g.meta_bytes, g.row_bytes = slots, frame_bytes, meta_bytes, row_bytes
    g.consumers, g.schema_bytes, g.page_bytes = consumers, schema_bytes, os.sysconf("SC_PAGE_SIZE")
    return shmring_geometry_choose(g)


def format_block(int fd, uint64_t slots, uint64_t frame_bytes, uint64_t meta_bytes, uint64_t row_bytes,
                 uint64_t consumers, bytes generation, bytes schema):
    """Write a fresh ring into the block behind fd, which nobody else uses yet."""
    cdef shmring_geometry g
    if len(generation) != 16:
        raise ValueError("a generation has 16 bytes")
    if fill_geometry(&g, slots, frame_bytes, meta_bytes, row_bytes, consumers, len(schema)) != SHMRING_OK:
        raise ValueError("these sizes make no valid block")
    if shmring_format(fd, &g, <const uint8_t *><const char *>generation, <const char *>schema) != SHMRING_OK:
        raise refused(errno, "cannot map a new ring")


@cython.final
@cython.no_gc
cdef class Block:
    """A block. Mapped, unless it is only looked at, until the last handle, frame and view on it is gone."""

    cdef shmring_block view
    cdef shmring_mapped mapped
    cdef Guard guard  # of the views counted there
    cdef object __weakref__
    cdef readonly str name
    cdef readonly int access
    cdef readonly bytes schema

    def __cinit__(self, int fd, int access, str name):
        cdef shmring_identity identity
        cdef int result, number
        if access == SHMRING_OBSERVE:
            result = shmring_look_at_identity(fd, &identity)
            self.view.geometry = identity.geometry
            memcpy(self.view.generation, identity.generation, sizeof(identity.generation))
        else:
            result = shmring_map(&self.view, fd, access)
        number = errno  # an import may set it
        self.name, self.access = name, access
        if result != SHMRING_OK:
            from shmring import _messages
            raise _messages.cannot_map(result, name, fd, number)
        if self.view.control != NULL:
            shmring_cover(&self.view)
            shmring_mapped_add(&self.mapped, &self.view)
        self.schema = self.read_schema(fd)

    def __dealloc__(self):
        if self.view.control != NULL:
            shmring_mapped_remove(&self.mapped)
            shmring_uncover(&self.view)
            shmring_unmap(&self.view)

    cdef bytes read_schema(self, int fd):
        cdef shmring_geometry *g = &self.view.geometry
        found = PyBytes_FromStringAndSize(NULL, g.schema_bytes)
        if not shmring_read_file(fd, PyBytes_AS_STRING(found), g.schema_bytes, g.schema_offset):
            raise cannot_read(self, errno)
        return found

    cdef int check(self) except -1:
        """Refuses a block of which pages were lost; after a step: what that read may have been zeros."""
        if shmring_lost_pages(&self.view):
            raise was_cut(self)
        return 0

    cdef bint add_view(self, uint64_t slot, uint64_t count) noexcept:
        """Notes an array of a claim, for forks; False without memory for that."""
        cdef bint done
        guard_lock(&self.guard)
        done = shmring_add_view(&self.mapped, slot, count)
        guard_unlock(&self.guard)
        return done

    cdef void drop_view(self, uint64_t slot, uint64_t count) noexcept:
        guard_lock(&self.guard)
        shmring_drop_view(&self.mapped, slot, count)
        guard_unlock(&self.guard)

    cdef int check_mapped(self) except -1:
        """Refuses a block whose slots a forked child could not map again."""
        if self.view.data == NULL:
            raise OSError(ENOMEM, f"the slots of ring {self.name!r} could not be mapped in this forked "
                                  f"process: attach to it here with Ring.attach({self.name!r})")
        return 0

    @property
    def slots(self):
        return self.view.geometry.slots

    @property
    def frame_bytes(self):
        return self.view.geometry.frame_bytes

    @property
    def meta_bytes(self):
        return self.view.geometry.meta_bytes

    @property
    def row_bytes(self):
        return self.view.geometry.row_bytes

    @property
    def consumers(self):
        return self.view.geometry.consumers

    @property
    def block_bytes(self):
        return self.view.geometry.block_bytes

    @property
    def generation(self):
        return bytes(self.view.generation[:16])

    def prefault(self, bint huge_pages, bint lock_memory):
        """Touch every page of the slots, so that no frame pays for a page fault."""
        cdef bint done
        cdef int number
        cdef bint writable = self.access == SHMRING_PRODUCE
        with nogil:
            done = shmring_prefault(&self.view, writable, huge_pages, lock_memory)
            number = errno
        if not done:
            from shmring import _limits
            twice = self.view.geometry.slots * self.view.geometry.slot_stride
            raise _limits.cannot_prefault(number, self.name, self.block_bytes + twice, huge_pages)

    def report(self, int fd):
        """Return the ring's counters as a dict, read from its file."""
        cdef shmring_ring_status report
        self.check()
        if not shmring_look_at_ring(fd, &self.view.geometry, &report):
            raise cannot_read(self, errno)
        return counters_of(&report)

    def report_places(self, int fd):
        """Return the taken places of the consumer table as dicts, read from the ring's file."""
        cdef shmring_place_status reports[64]
        cdef bint there
        self.check()
        with nogil:
            there = shmring_look_at_places(fd, &self.view.geometry, reports)
        if not there:
            raise cannot_read(self, errno)
        return [
            {
                "place": place, "policy": POLICIES[reports[place].state & 0xff],
                "cursor": reports[place].cursor, "delivered": reports[place].delivered,
                "lost": reports[place].lost, "skipped": reports[place].skipped, "next": reports[place].next,
                "held": reports[place].held, "pins": reports[place].pins,
                "joined_ns": reports[place].joined_ns, "pid": reports[place].pid,
                "start_time": reports[place].start_time,
                "label": (<bytes>reports[place].label).decode(errors="replace"),
                "alive": bool(reports[place].alive),
            }
            for place in range(self.view.geometry.consumers)
            if reports[place].state & 0xff in POLICIES
        ]

    def copy_frame(self, int fd, uint64_t position, cnp.ndarray target, cnp.ndarray meta):
        """Copy the frame of a position out of the ring's file; (seq, timestamp_ns, rows, epoch), or None."""
        cdef uint64_t seq = 0, rows = 0
        cdef int64_t timestamp_ns = 0
        cdef shmring_taken taken
        cdef int result
        cdef void *data = cnp.PyArray_DATA(target)
        memset(&taken, 0, sizeof(taken))
        taken.seqs, taken.timestamps_ns, taken.rows = &seq, &timestamp_ns, &rows
        if meta is not None:
            taken.metas = <uint8_t *>cnp.PyArray_DATA(meta)
        self.check()
        with nogil:
            result = shmring_look_at_frame(fd, &self.view.geometry, position, data, &taken)
        if result == SHMRING_TRUNCATED:
            raise cannot_read(self, errno)
        if result == SHMRING_CORRUPT:
            raise corrupt(self)
        return (seq, timestamp_ns, rows, taken.epoch) if result == SHMRING_OK else None


cdef dict counters_of(shmring_ring_status *report):
    return {
        "head": report.head, "next_seq": report.next_seq, "epoch": report.epoch,
        "start_time": report.start_time, "dropped": report.dropped, "swaps": report.swaps,
        "active": report.active, "producer_state": report.producer_state,
        "producer_pid": report.producer_pid,
        "failure": (<bytes>report.failure).decode(errors="replace"),
    }


PRODUCER_STATES = {
    SHMRING_EMPTY: "none", SHMRING_OK: "live", SHMRING_ENDED: "closed", SHMRING_FAILED: "failed",
    SHMRING_DIED: "died"
}


def producer_state(Block block, int fd):
    """Return how the producer is, in a word, and the ring's counters, read from its file."""
    cdef shmring_ring_status report
    cdef int outlook
    block.check()
    outlook = shmring_look_at_producer(fd, &block.view.geometry, &report)
    if outlook == SHMRING_TRUNCATED:
        raise cannot_read(block, errno)
    return PRODUCER_STATES[outlook], counters_of(&report)


cdef object cannot_read(Block block, int number):
    """The error for a read of the ring's file that came back without all of it."""
    if number == EBADF:
        return errors.RingClosed(f"a handle of ring {block.name!r} was closed by another thread")
    return was_cut(block) if number == 0 else refused(number, f"cannot read ring {block.name!r}")


cdef object was_cut(Block block):
    from shmring import _messages
    return _messages.cut(block.name)


cdef object corrupt(Block block):
    return errors.RingCorrupt(
        f"an entry or a counter of ring {block.name!r} cannot be right: something overwrote it. Recreate "
        f"the ring")
