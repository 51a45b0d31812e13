# The protocol of shmring/include/shmring, declared. Everything atomic happens over there.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t


cdef extern from "shmring/shmring.h" nogil:
    const uint64_t SHMRING_MAGIC
    const uint32_t SHMRING_ABI
    const uint32_t SHMRING_MAX_CONSUMERS, SHMRING_MAX_BATCH, SHMRING_MAX_WATCHED, SHMRING_LABEL_BYTES
    const uint32_t SHMRING_MAX_GROUPS, SHMRING_AT_MOST_ONCE
    const uint64_t SHMRING_MAX_SLOTS, SHMRING_MAX_SCHEMA, SHMRING_MAX_BLOCK
    const int64_t SHMRING_FOR_EVER, SHMRING_SECOND
    const int64_t SHMRING_LOCK_PRODUCER, SHMRING_LOCK_PRESENCE, SHMRING_PRESENCE_BYTES
    int64_t SHMRING_LOCK_PLACE(unsigned place)
    const int F_WRLCK, F_UNLCK
    const int SHMRING_OBSERVE, SHMRING_CONSUME, SHMRING_PRODUCE
    const int SHMRING_OK, SHMRING_FULL, SHMRING_EMPTY, SHMRING_PRODUCER_EXISTS, SHMRING_NO_PLACE
    const int SHMRING_NOT_READY, SHMRING_FOREIGN, SHMRING_OTHER_ABI, SHMRING_TRUNCATED, SHMRING_CORRUPT
    const int SHMRING_TOO_LARGE, SHMRING_SYSTEM
    const int SHMRING_ENDED, SHMRING_FAILED, SHMRING_DIED, SHMRING_HELD, SHMRING_NO_SHARE, SHMRING_NO_GROUP
    const int SHMRING_OTHER_GROUP, SHMRING_TIMEOUT
    const uint32_t SHMRING_PRODUCER_NONE, SHMRING_PRODUCER_LIVE, SHMRING_PRODUCER_CLOSED
    const uint32_t SHMRING_PRODUCER_FAILED
    const int SHMRING_PLACE_FREE, SHMRING_PLACE_LOSSLESS, SHMRING_PLACE_LOSSY, SHMRING_PLACE_LEFT
    const int SHMRING_PLACE_MEMBER
    const int SHMRING_START_OLDEST, SHMRING_START_NEWEST, SHMRING_START_NEXT

    ctypedef struct shmring_geometry:
        uint64_t block_bytes, slots, spares, frame_bytes, slot_stride, entry_stride, meta_bytes, row_bytes
        uint64_t consumers, page_bytes, hot_offset, table_offset, schema_offset, schema_bytes
        uint64_t groups_offset, entries_offset, owners_offset, slots_offset

    ctypedef struct shmring_identity:
        uint32_t abi
        uint8_t generation[16]
        uint64_t created_ns
        uint32_t creator_pid
        shmring_geometry geometry

    ctypedef struct shmring_hot:
        uint32_t data_event, space_event

    ctypedef struct shmring_block:
        shmring_geometry geometry
        uint8_t generation[16]
        uint64_t created_ns
        const char *name
        uint8_t *control
        uint8_t *data
        shmring_hot *hot

    ctypedef struct shmring_producer:
        uint64_t head, gate, next_seq, epoch, dropped, count, slot

    ctypedef struct shmring_hold:
        uint64_t position, count, slot

    ctypedef struct shmring_consumer:
        shmring_block *block
        unsigned place
        int left
        uint64_t next, cursor, head, delivered, lost, skipped, held, pinned_slots, max_held
        uint32_t *slots_taken
        bint member
        unsigned group
        uint64_t redelivered
        bint awaits_takeover

    ctypedef struct shmring_news:
        uint64_t needed

    ctypedef struct shmring_group:
        uint64_t next, events, lost
        uint32_t flags
        char name[64]

    ctypedef struct shmring_taken:
        uint64_t *seqs
        int64_t *timestamps_ns
        uint64_t *rows
        uint8_t *metas
        uint64_t count, lost, epoch
        int interrupted, scattered, redelivered
        shmring_hold *hold

    ctypedef struct shmring_ring_status:
        uint64_t head, next_seq, epoch, start_time, dropped, swaps, active
        uint32_t producer_state, producer_pid
        char failure[80]

    ctypedef struct shmring_place_status:
        uint64_t state, cursor, delivered, lost, skipped, held, next, joined_ns, start_time, pins
        uint64_t max_held, redelivered
        uint32_t pid, flags, group
        bint alive
        char label[64]

    int64_t shmring_now_ns()
    int64_t shmring_coarse_now_ns()

    int shmring_geometry_choose(shmring_geometry *g)
    uint64_t shmring_mapped_offset(const shmring_geometry *g, uint64_t slot)
    uint64_t shmring_mapped_bytes(const shmring_geometry *g)
    int shmring_open(const char *name, int access)
    int shmring_reopen(int fd, int writable)
    int shmring_link(int fd, const char *path)
    int shmring_set_span_lock(int fd, int64_t byte, int64_t length, int type)
    int shmring_span_held(int fd, int64_t byte, int64_t length)
    int shmring_lock_blocked(int fd, int64_t byte)
    int shmring_map(shmring_block *block, int fd, int access)
    void shmring_unmap(shmring_block *block)
    int shmring_prefault(const shmring_block *block, int writable, int lock)
    size_t shmring_huge_page_bytes()
    uint64_t shmring_huge_span(const shmring_geometry *g, uint64_t *begin)
    int shmring_make_huge(int fd, const shmring_geometry *g, uint64_t begin, uint64_t end)
    uint64_t shmring_huge_bytes(int fd, const shmring_geometry *g)
    int shmring_format(int fd, const shmring_geometry *g, const uint8_t *generation, const void *schema)
    uint8_t *shmring_slot_at(const shmring_block *block, uint64_t slot)

    uint32_t shmring_event_prepare(uint32_t *event)
    void shmring_event_announce(uint32_t *event)
    void shmring_futex_wait_any(uint32_t **words, const uint32_t *values, unsigned count, int64_t deadline_ns)

    int shmring_producer_open(shmring_producer *p, shmring_block *block, int lock_fd)
    void shmring_producer_close(shmring_producer *p)
    void shmring_producer_fail(shmring_producer *p, const char *message)
    void shmring_producer_abandon(shmring_producer *p)
    int shmring_claim(shmring_producer *p, uint64_t want)
    const int64_t SHMRING_SPIN_FIRST_NS
    int64_t shmring_adapt_spin(int64_t spin_ns, int64_t waited_ns)
    bint shmring_is_crowded(const shmring_block *block, long cores)
    int shmring_claim_briefly(shmring_producer *p, uint64_t want)
    int64_t shmring_slice_end(int64_t now, int64_t deadline_ns, int64_t slice_ns)
    int64_t shmring_spin_left(int64_t now, int64_t started_ns, int64_t spin_ns, int64_t slice_ns)
    int shmring_claim_slice(
        shmring_producer *p, uint64_t want, int64_t until_ns, int64_t spin_ns, long cores)
    void *shmring_claimed_slot(const shmring_producer *p)
    int shmring_claim_more(shmring_producer *p)
    uint64_t shmring_claimed_slot_of(const shmring_producer *p, uint64_t i)
    void shmring_publish_oldest(shmring_producer *p)
    void shmring_requeue_oldest(shmring_producer *p)
    void shmring_describe(
        shmring_producer *p, uint64_t i, int64_t timestamp_ns, uint64_t rows, const void *meta)
    void shmring_copy_in(shmring_producer *p, uint64_t i, const void *source, size_t size)
    void shmring_publish(shmring_producer *p, uint64_t count)
    void shmring_abort(shmring_producer *p)
    void shmring_drop(shmring_producer *p, uint64_t count)

    int shmring_join(
        shmring_consumer *c, shmring_block *block, int lock_fd, int lossless, int start, const char *label)
    int shmring_join_group(
        shmring_consumer *c, shmring_block *block, int lock_fd, const char *name, uint32_t flags, int start,
        const char *label)
    int shmring_limit_held(shmring_consumer *c, uint64_t slots)
    bint shmring_look_at_spares(int fd, const shmring_geometry *g, uint32_t groups, uint64_t *in_use)
    int shmring_look_at_groups(int fd, const shmring_geometry *g, shmring_group *groups)
    void shmring_leave(shmring_consumer *c)
    void shmring_leave_holding(shmring_consumer *c)
    unsigned shmring_reap_all(shmring_block *block, int lock_fd)
    int shmring_take_one(shmring_consumer *c, shmring_taken *taken)
    int shmring_take_batch(shmring_consumer *c, uint64_t least, uint64_t most, shmring_taken *taken)
    int shmring_take_window(shmring_consumer *c, uint64_t length, uint64_t step, shmring_taken *taken)
    int shmring_take_latest(shmring_consumer *c, shmring_taken *taken)
    void shmring_end_scattered(shmring_consumer *c, const shmring_taken *taken)
    void shmring_release(shmring_consumer *c, shmring_hold *hold)
    uint64_t shmring_next_position(const shmring_consumer *c)
    int shmring_outlook(shmring_consumer *c, uint64_t least, bint ask_kernel)
    void shmring_want_runs(shmring_consumer *c)
    uint32_t shmring_read_producer_state(const shmring_block *block)
    uint64_t shmring_read_head(const shmring_block *block)
    bint shmring_wait_briefly(const shmring_consumer *c, uint64_t least)
    uint64_t shmring_count_ready(const shmring_consumer *c)
    shmring_news shmring_note_news(const shmring_consumer *c, uint64_t least)
    bint shmring_is_news(const shmring_block *block, const shmring_news *news)
    void shmring_wait_data(
        const shmring_block *block, const shmring_news *news, int64_t deadline_ns, int64_t spin_ns,
        long cores)
    unsigned shmring_active_consumers(const shmring_block *block)
    void shmring_wait_consumers(const shmring_block *block, unsigned least, int64_t deadline_ns)

    bint shmring_read_file(int fd, void *target, uint64_t bytes, uint64_t offset)
    int shmring_look_at_identity(int fd, shmring_identity *identity)
    bint shmring_look_at_ring(int fd, const shmring_geometry *g, shmring_ring_status *status)
    int shmring_look_at_producer(int fd, const shmring_geometry *g, shmring_ring_status *status)
    bint shmring_look_at_places(int fd, const shmring_geometry *g, shmring_place_status *statuses)
    int shmring_look_at_frame(
        int fd, const shmring_geometry *g, uint64_t position, void *target, shmring_taken *taken)


cdef extern from "shmring/truncation.h" nogil:
    int shmring_cover(shmring_block *block)
    void shmring_uncover(const shmring_block *block)
    bint shmring_lost_pages(const shmring_block *block)
    bint shmring_survive_truncation()


cdef extern from "shmring/writes.h" nogil:
    bint shmring_explain_writes()


cdef extern from "shmring/private.h" nogil:
    ctypedef struct shmring_private:
        uint8_t *data


cdef extern from "forks.h" nogil:
    ctypedef struct shmring_own_fd:
        int fd

    ctypedef struct shmring_holder:
        pass

    ctypedef struct shmring_mapped:
        pass

    ctypedef struct shmring_own_memory:
        shmring_private memory

    const unsigned long fork_count "shmring_fork_count"
    int shmring_watch_forks()
    int shmring_own_open(shmring_own_fd *own, int fd)
    void shmring_own_close(shmring_own_fd *own)
    void shmring_holder_add(shmring_holder *holder, const shmring_consumer *consumer)
    void shmring_holder_remove(shmring_holder *holder)
    bint shmring_add_view(shmring_mapped *mapped, uint64_t slot, uint64_t count)
    void shmring_drop_view(shmring_mapped *mapped, uint64_t slot, uint64_t count)
    bint shmring_own_memory_map(
        shmring_own_memory *mine, shmring_block *block, const shmring_own_fd *own, uint64_t slot,
        size_t bytes)
    void shmring_own_memory_unmap(shmring_own_memory *mine)
    void shmring_mapped_add(shmring_mapped *mapped, shmring_block *block)
    void shmring_mapped_remove(shmring_mapped *mapped)
