# A ring's block: its geometry, its mapping, and what is wrong with it.

@cython.final
@cython.no_gc
cdef class Geometry:
    """The slots and places of a new ring, and where everything lies in its block: chosen once."""

    cdef shmring_geometry chosen
    cdef readonly bytes schema

    def __cinit__(
            self, frame_format, uint64_t slots, uint64_t spares, uint64_t consumers, bytes schema):
        """ValueError if no block can hold that."""
        cdef shmring_geometry *g = &self.chosen
        memset(g, 0, sizeof(shmring_geometry))
        g.slots, g.spares, g.consumers = slots, spares, consumers
        g.page_bytes = os.sysconf("SC_PAGE_SIZE")
        g.frame_bytes = min(frame_format.frame_bytes, SHMRING_MAX_BLOCK)  # as much is too much already
        g.meta_bytes, g.row_bytes = frame_format.meta_bytes, min(frame_format.row_bytes, SHMRING_MAX_BLOCK)
        self.schema, g.schema_bytes = schema, len(schema)
        if shmring_geometry_choose(g) != SHMRING_OK:
            raise ValueError(
                f"a ring of {slots} slots and {spares} spare ones of {frame_format.frame_bytes} bytes does "
                f"not fit the limits: 1 TiB per ring, 1 MiB of meta per frame")

    @property
    def slots(self):
        """What was asked for, rounded up so that the slots are whole pages."""
        return self.chosen.slots

    @property
    def spares(self):
        """What was asked for, and as many more as fit into the last page."""
        return self.chosen.spares

    @property
    def block_bytes(self):
        return self.chosen.block_bytes

    @property
    def most_huge_bytes(self):
        """Bytes of the slots that huge pages can hold."""
        cdef uint64_t begin
        return shmring_huge_span(&self.chosen, &begin)

    def make_huge(self, int fd, uint64_t begin, uint64_t end):
        """Put huge pages under the slots in these bytes of the file; 0, or the errno if not all are huge."""
        cdef bint done
        cdef int number
        with nogil:
            done = shmring_make_huge(fd, &self.chosen, begin, end)
            number = errno
        return 0 if done else number

    def huge_bytes(self, int fd):
        """Return how many bytes of the slots lie on huge pages."""
        return count_huge(fd, &self.chosen)


def format_block(int fd, Geometry geometry not None, bytes generation not None):
    """Write a fresh ring into the block behind fd, which nobody else uses yet."""
    if len(generation) != 16:
        raise ValueError("a generation has 16 bytes")
    if shmring_format(fd, &geometry.chosen, <const uint8_t *><const char *>generation,
                      <const char *>geometry.schema) != SHMRING_OK:
        raise refused(errno, "cannot map a new ring")


@cython.final
@cython.no_gc
cdef class Identity:
    """What the header of a block says, as far as it can be read; `result` says whether it is a ring."""

    cdef readonly int result
    cdef readonly uint32_t abi
    cdef readonly uint32_t creator_pid
    cdef readonly uint64_t created_ns
    cdef readonly uint64_t block_bytes
    cdef readonly bytes generation


def read_identity(int fd):
    """Read the header of the block behind fd, out of its file."""
    cdef shmring_identity found
    cdef Identity identity = Identity.__new__(Identity)
    memset(&found, 0, sizeof(found))
    identity.result = shmring_look_at_identity(fd, &found)
    identity.abi, identity.block_bytes = found.abi, found.geometry.block_bytes
    identity.created_ns, identity.creator_pid = found.created_ns, found.creator_pid
    identity.generation = bytes(found.generation[:16])
    return identity


PRODUCER_STATES = {
    SHMRING_EMPTY: "none", SHMRING_OK: "live", SHMRING_ENDED: "closed", SHMRING_FAILED: "failed",
    SHMRING_DIED: "died"
}


@cython.final
@cython.no_gc
cdef class Block:
    """A block. Mapped, unless it is only looked at, until the last handle, frame and view on it is gone."""

    cdef shmring_block view
    cdef shmring_mapped mapped
    cdef Guard guard  # of the views counted there
    cdef object __weakref__
    cdef readonly str name
    cdef bytes encoded_name
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
        number = errno
        self.name, self.access = name, access
        if result != SHMRING_OK:
            raise _messages.cannot_map(result, name, fd, number)
        if self.view.control != NULL:
            self.encoded_name = os.fsencode(name)
            self.view.name = self.encoded_name
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

    cdef inline int check(self) except -1:
        """Refuses a block of which pages were lost; after a step: what that read may have been zeros."""
        return self.refuse() if shmring_lost_pages(&self.view) else 0

    cdef int refuse(self) except -1:
        raise was_cut(self)

    cdef bint add_view(self, uint64_t slot, uint64_t count) noexcept:
        """Notes an array of a claim, for forks; False without memory for that."""
        cdef bint done
        guard_lock(&self.guard)
        done = shmring_add_view(&self.mapped, slot, count)
        guard_unlock(&self.guard)
        return done

    cdef uint64_t offset_of(self, uint64_t slot) noexcept:
        """Where a slot begins in the block's file."""
        return self.view.geometry.slots_offset + slot * self.view.geometry.slot_stride

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
    def spares(self):
        return self.view.geometry.spares

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

    def huge_bytes(self, int fd):
        """Return how many bytes of the slots lie on huge pages, by its file."""
        return count_huge(fd, &self.view.geometry)

    def prefault(self, bint lock_memory):
        """Touch every page of the slots, so that no frame pays for a page fault."""
        cdef bint done
        cdef int number
        cdef bint writable = self.access == SHMRING_PRODUCE
        with nogil:
            done = shmring_prefault(&self.view, writable, lock_memory)
            number = errno
        if not done:
            mapped = shmring_mapped_bytes(&self.view.geometry)
            raise _limits.cannot_lock(number, self.name, self.block_bytes + mapped)

    def status(self, int fd):
        """Return the ring's counters as a dict, read from its file."""
        cdef shmring_ring_status status
        self.check()
        if not shmring_look_at_ring(fd, &self.view.geometry, &status):
            raise cannot_read(self, errno)
        return counters_of(&status)

    def producer_state(self, int fd):
        """Return how the producer is, in a word, and the ring's counters, read from its file."""
        cdef shmring_ring_status status
        cdef int outlook
        self.check()
        outlook = shmring_look_at_producer(fd, &self.view.geometry, &status)
        if outlook == SHMRING_TRUNCATED:
            raise cannot_read(self, errno)
        return PRODUCER_STATES[outlook], counters_of(&status)

    cdef int look_at_places(self, int fd, shmring_place_status *statuses, shmring_group *groups) except -1:
        cdef bint there
        self.check()
        with nogil:
            there = (shmring_look_at_groups(fd, &self.view.geometry, groups)
                     and shmring_look_at_places(fd, &self.view.geometry, statuses))
        if not there:
            raise cannot_read(self, errno)
        return 0

    def place_statuses(self, int fd):
        """Return the taken places of the consumer table as dicts, read from the ring's file."""
        cdef shmring_place_status statuses[64]
        cdef shmring_group groups[4]
        self.look_at_places(fd, statuses, groups)
        return self.place_rows(statuses, groups)

    def group_statuses(self, int fd):
        """Return the groups that have members as dicts, read from the ring's file."""
        cdef shmring_place_status statuses[64]
        cdef shmring_group groups[4]
        self.look_at_places(fd, statuses, groups)
        return self.group_rows(statuses, groups)

    def participants(self, int fd):
        """Return both at one look, and how many slots are held that no entry names any more."""
        cdef shmring_place_status statuses[64]
        cdef shmring_group groups[4]
        self.look_at_places(fd, statuses, groups)
        return (self.place_rows(statuses, groups), self.group_rows(statuses, groups),
                self.spares_in_use(fd, statuses))

    cdef list place_rows(self, const shmring_place_status *statuses, const shmring_group *groups):
        return [
            {
                "place": place, "policy": POLICIES[statuses[place].state & 0xff],
                "cursor": statuses[place].cursor, "delivered": statuses[place].delivered,
                "lost": statuses[place].lost, "skipped": statuses[place].skipped,
                "max_held": statuses[place].max_held, "next": statuses[place].next,
                "held": statuses[place].held, "pins": statuses[place].pins,
                "joined_ns": statuses[place].joined_ns, "pid": statuses[place].pid,
                "start_time": statuses[place].start_time,
                "label": (<bytes>statuses[place].label).decode(errors="replace"),
                "alive": bool(statuses[place].alive), "redelivered": statuses[place].redelivered,
                "group": group_name(&statuses[place], groups),
            }
            for place in range(self.view.geometry.consumers)
            if statuses[place].state & 0xff in POLICIES
        ]

    cdef uint64_t spares_in_use(self, int fd, const shmring_place_status *statuses) except? 0:
        cdef uint64_t in_use, pins = 0
        cdef uint32_t those = 0
        cdef unsigned place
        cdef bint there
        for place in range(self.view.geometry.consumers):
            pins += statuses[place].pins
            if statuses[place].state & 0xff == SHMRING_PLACE_MEMBER:
                those |= 1u << statuses[place].group % SHMRING_MAX_GROUPS
        if pins == 0 and those == 0:
            return 0
        with nogil:
            there = shmring_look_at_spares(fd, &self.view.geometry, those, &in_use)
        if not there:
            raise cannot_read(self, errno)
        return in_use

    cdef list group_rows(self, const shmring_place_status *statuses, const shmring_group *groups):
        cdef dict members = {}
        for place in range(self.view.geometry.consumers):
            if statuses[place].state & 0xff == SHMRING_PLACE_MEMBER:
                members.setdefault(statuses[place].group % SHMRING_MAX_GROUPS, []).append(place)
        return [
            {
                "name": (<bytes>groups[group].name).decode(errors="replace"), "next": groups[group].next,
                "lost": groups[group].lost, "members": members[group],
                "at_most_once": bool(groups[group].flags & SHMRING_AT_MOST_ONCE),
            }
            for group in sorted(members)
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


cdef uint64_t count_huge(int fd, const shmring_geometry *g):
    cdef uint64_t found
    with nogil:
        found = shmring_huge_bytes(fd, g)
    return found


cdef str group_name(const shmring_place_status *status, const shmring_group *groups):
    """Of a member's group, else None."""
    if status.state & 0xff != SHMRING_PLACE_MEMBER:
        return None
    return (<bytes>groups[status.group % SHMRING_MAX_GROUPS].name).decode(errors="replace")


cdef dict counters_of(shmring_ring_status *status):
    return {
        "head": status.head, "next_seq": status.next_seq, "epoch": status.epoch,
        "start_time": status.start_time, "dropped": status.dropped, "swaps": status.swaps,
        "active": status.active, "producer_state": status.producer_state,
        "producer_pid": status.producer_pid,
        "failure": (<bytes>status.failure).decode(errors="replace"),
    }


cdef object cannot_read(Block block, int number):
    """The error for a read of the ring's file that came back without all of it."""
    if number == EBADF:
        return errors.RingClosed(f"a handle of ring {block.name!r} was closed by another thread")
    return was_cut(block) if number == 0 else refused(number, f"cannot read ring {block.name!r}")


cdef object was_cut(Block block):
    return _messages.cut(block.name)


cdef object corrupt(Block block):
    return errors.RingCorrupt(
        f"ring {block.name!r} is corrupt: an entry or a counter holds an impossible value, so something "
        f"overwrote it. Recreate the ring")
