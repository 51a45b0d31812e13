/* SPDX-License-Identifier: Apache-2.0
 *
 * What the C tests share: rings without a name, frames that check themselves, and what must hold of a
 * ring whenever nobody is in the middle of a step.
 */
#ifndef SHMRING_TESTS_COMMON_H
#define SHMRING_TESTS_COMMON_H

#include <shmring/shmring.h>

#include <inttypes.h>

/* Not inlined at each of a thousand uses: that takes the compiler a quarter of a minute. */
#define SHARED __attribute__((noinline, unused)) static

/* ---- checks ---- */

/* Each program says in its own way what failed, and where it was; it does not come back. */
__attribute__((noreturn)) void check_failed(const char *file, int line, const char *what);

#define CHECK(condition) ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, #condition))
#define CHECK_EQUAL(found, wanted) \
    check_equal((uint64_t)(found), (uint64_t)(wanted), #found " == " #wanted, __FILE__, __LINE__)

SHARED void
check_equal(uint64_t found, uint64_t wanted, const char *what, const char *file, int line)
{
    char text[400];
    if (found == wanted)
        return;
    snprintf(text, sizeof text, "%s: it is %" PRIu64 " (0x%" PRIx64 "), not %" PRIu64 " (0x%" PRIx64 ")",
             what, found, found, wanted, wanted);
    check_failed(file, line, text);
}

/* ---- frames ---- */

static inline uint64_t
mix(uint64_t value)
{
    value = (value ^ value >> 31) * UINT64_C(0x9e3779b97f4a7c15);
    return value ^ value >> 29;
}

/* Word i of the frame that `key` names. */
static inline uint64_t
frame_word(uint64_t key, uint64_t i)
{
    return mix(key * 4096 + i + 1);
}

SHARED void
fill_frame(void *frame, uint64_t bytes, uint64_t key)
{
    uint64_t *const words = (uint64_t *)frame;
    for (uint64_t i = 0; i < bytes / sizeof *words; i++)
        words[i] = frame_word(key, i);
}

/* Whether a frame is whole and the one that `key` names. */
SHARED int
frame_is(const void *frame, uint64_t bytes, uint64_t key)
{
    const uint64_t *const words = (const uint64_t *)frame;
    for (uint64_t i = 0; i < bytes / sizeof *words; i++)
        if (words[i] != frame_word(key, i))
            return 0;
    return 1;
}

/* ---- rings ---- */

typedef struct ring {
    int fd;
    shmring_block block; /* mapped with SHMRING_PRODUCE; producer and consumers of a test share it */
} ring;

/* Slots of a page each, so that any number of them is whole pages; frames of 32 words. */
static inline shmring_geometry
page_slots(uint64_t slots)
{
    shmring_geometry g;
    memset(&g, 0, sizeof g);
    g.page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    g.slots = slots;
    g.frame_bytes = 256;
    g.slot_stride = g.page_bytes;
    g.consumers = 4;
    return g;
}

static inline shmring_geometry
with_spares(uint64_t slots, uint64_t spares)
{
    shmring_geometry g = page_slots(slots);
    g.spares = spares;
    return g;
}

/* A block of the geometry (its offsets are filled in), formatted, without a name. */
SHARED int
make_block(shmring_geometry *g, const void *schema)
{
    uint8_t generation[16];
    for (unsigned i = 0; i < sizeof generation; i++)
        generation[i] = (uint8_t)(i + 1);
    CHECK_EQUAL(shmring_compute_offsets(g), SHMRING_OK);
    const int fd = memfd_create("shmring-test", MFD_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_EQUAL(posix_fallocate(fd, 0, (off_t)g->block_bytes), 0);
    CHECK_EQUAL(shmring_format(fd, g, generation, schema), SHMRING_OK);
    return fd;
}

SHARED void
make_ring(ring *r, shmring_geometry g)
{
    r->fd = make_block(&g, NULL);
    CHECK_EQUAL(shmring_map(&r->block, r->fd, SHMRING_PRODUCE), SHMRING_OK);
}

static inline void
end_ring(ring *r)
{
    shmring_unmap(&r->block);
    close(r->fd);
}

/* A description of the ring's file of its own, as every participant needs one. */
static inline int
lock_file(const ring *r)
{
    const int fd = shmring_reopen(r->fd, 1);
    CHECK(fd >= 0);
    return fd;
}

/* ---- a producer ---- */

SHARED void
open_producer(ring *r, shmring_producer *p)
{
    CHECK_EQUAL(shmring_producer_open(p, &r->block, lock_file(r)), SHMRING_OK);
}

SHARED void
close_producer(shmring_producer *p)
{
    const int fd = p->lock_fd;
    shmring_producer_close(p);
    close(fd);
}

/* What a kill does: the locks go, the memory of the process goes, the block stays as it is. */
static inline void
kill_producer(shmring_producer *p)
{
    close(p->lock_fd);
    shmring_producer_free(p);
}

/* Writes what belongs into frame i of the open claim: the frame of its seq. */
static inline void
write_frame(shmring_producer *p, uint64_t i)
{
    const uint64_t stride = p->block->geometry.slot_stride;
    fill_frame((uint8_t *)shmring_claimed_slot(p) + i * stride, p->block->geometry.frame_bytes,
               p->next_seq + i);
    shmring_describe(p, i, (int64_t)(p->next_seq + i), 0, NULL);
}

/* Where frame i of the open claim is to be written. */
static inline void *
buffer_at(const shmring_producer *p, uint64_t i)
{
    return shmring_slot_at(p->block, shmring_claimed_slot_of(p, i));
}

/* As write_frame, if the slots of the claim are not adjacent. */
static inline void
write_buffer(shmring_producer *p, uint64_t i)
{
    fill_frame(buffer_at(p, i), p->block->geometry.frame_bytes, p->next_seq + i);
    shmring_describe(p, i, (int64_t)(p->next_seq + i), 0, NULL);
}

/* Claims, writes and publishes one frame, or says why not. */
SHARED int
put(shmring_producer *p)
{
    const int result = shmring_claim(p, 1);
    if (result != SHMRING_OK)
        return result;
    write_frame(p, 0);
    shmring_publish(p, 1);
    return SHMRING_OK;
}

static inline void
put_all(shmring_producer *p, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        CHECK_EQUAL(put(p), SHMRING_OK);
}

/* ---- a consumer ---- */

SHARED void
join(ring *r, shmring_consumer *c, int lossless, int start)
{
    CHECK_EQUAL(shmring_join(c, &r->block, lock_file(r), lossless, start, "test"), SHMRING_OK);
    c->max_held = UINT64_MAX; /* the protocol holds without a share, too; selftest_share.c tests shares */
}

SHARED void
leave(shmring_consumer *c)
{
    const int fd = c->lock_fd;
    shmring_leave(c);
    close(fd);
}

/* What a kill does to a consumer: as to a producer. */
static inline void
kill_consumer(shmring_consumer *c)
{
    close(c->lock_fd);
    while (c->spare != NULL) {
        shmring_hold *const hold = c->spare;
        c->spare = hold->next_spare;
        free(hold);
    }
    free(c->pin_counts);
    free(c->slots_taken);
}

/* One take and everything that it says. */
enum { MOST_TAKEN = 64, META_BYTES = 16 };
typedef struct take {
    shmring_taken taken;
    uint64_t seqs[MOST_TAKEN];
    int64_t timestamps[MOST_TAKEN];
    uint64_t rows[MOST_TAKEN];
    uint8_t metas[MOST_TAKEN * META_BYTES];
} take;

static inline shmring_taken *
ask(take *t)
{
    memset(t, 0, sizeof *t);
    t->taken.seqs = t->seqs;
    t->taken.timestamps_ns = t->timestamps;
    t->taken.rows = t->rows;
    t->taken.metas = t->metas;
    return &t->taken;
}

/* Where frame i of a hold lies; in the first of the two mappings. */
static inline const uint8_t *
held_frame(const shmring_consumer *c, const shmring_hold *hold, uint64_t i)
{
    return shmring_slot_at(c->block, shmring_held_slot(c, hold, i));
}

static inline int
holds(const shmring_consumer *c, const shmring_hold *hold, uint64_t i, uint64_t seq)
{
    return frame_is(held_frame(c, hold, i), c->block->geometry.frame_bytes, seq);
}

/* Takes the next frame, which must be there and be this one, whole. */
SHARED shmring_hold *
take_seq(shmring_consumer *c, uint64_t seq)
{
    take t;
    CHECK_EQUAL(shmring_take_one(c, ask(&t)), SHMRING_OK);
    CHECK_EQUAL(t.seqs[0], seq);
    CHECK_EQUAL(t.timestamps[0], seq);
    CHECK(holds(c, t.taken.hold, 0, seq));
    return t.taken.hold;
}

static inline void
read_seq(shmring_consumer *c, uint64_t seq)
{
    shmring_release(c, take_seq(c, seq));
}

SHARED int
is_empty(shmring_consumer *c)
{
    take t;
    return shmring_take_one(c, ask(&t)) == SHMRING_EMPTY;
}

/* ---- what always holds ---- */

static inline shmring_entry *
entry_of(const shmring_block *block, uint64_t position)
{
    return shmring_entry_at(block, position % block->geometry.slots);
}

/* The entry of the position says that it is published, and its frame is whole. */
SHARED int
is_intact(const shmring_block *block, uint64_t position)
{
    const shmring_entry *const entry = entry_of(block, position);
    if (entry->stamp != shmring_published_stamp(position))
        return 0;
    CHECK(entry->slot < shmring_all_slots(&block->geometry));
    const shmring_entry *const record = shmring_record_at(block, entry->slot);
    CHECK_EQUAL(record->position, position);
    CHECK(frame_is(shmring_slot_at(block, entry->slot), block->geometry.frame_bytes, record->seq));
    return 1;
}

/* Every entry that says that it is published is so and names a whole frame. Returns their number. */
SHARED uint64_t
check_history(const shmring_block *block)
{
    const uint64_t slots = block->geometry.slots;
    const uint64_t head = block->hot->head;
    uint64_t intact = 0;
    for (uint64_t index = 0; index < slots; index++) {
        const uint64_t stamp = shmring_entry_at(block, index)->stamp;
        if (stamp == 0 || stamp % 2 != 0)
            continue;
        const uint64_t position = (stamp - 2) / 2;
        CHECK(position < head && position + slots >= head && position % slots == index);
        CHECK(is_intact(block, position));
        intact++;
    }
    CHECK(block->hot->claimed >= head);
    return intact;
}

/* Entries and slots are one to one, in the producer's memory and in the block; what is left over are the
 * spares. */
SHARED void
check_permutation(const shmring_producer *p)
{
    const uint64_t all = shmring_all_slots(&p->block->geometry);
    for (uint64_t index = 0; index < all; index++) {
        const uint32_t slot = p->slot_of[index];
        CHECK(slot < all);
        CHECK_EQUAL(p->entry_of[slot], index);
        if (index < p->block->geometry.slots)
            CHECK_EQUAL(shmring_entry_at(p->block, index)->slot, slot);
    }
}

#endif /* SHMRING_TESTS_COMMON_H */
