/* SPDX-License-Identifier: Apache-2.0 */
#include "ring.h"

world_t world;
void *const litmus_world = &world;
const size_t litmus_world_bytes = sizeof world;
const litmus_test *const litmus_tests[] = {frame_tests, group_tests, pin_tests,
                                           place_tests, sleep_tests, block_tests};
const size_t litmus_files = sizeof litmus_tests / sizeof litmus_tests[0];

/* ---- doubles ---- */

#undef memcpy

/* Frames and meta are copied word by word: whole words, as the tests' sizes are. */
void *
litmus_copy(void *to, const void *from, size_t bytes)
{
    if (from == (void *)litmus_memory)
        litmus_read_plain();
    if (!litmus_is_data(to) && !litmus_is_data(from))
        return memcpy(to, from, bytes);
    for (size_t at = 0; at < bytes; at += 8) {
        uint64_t value;
        if (litmus_is_data(from))
            value = litmus_peek((const uint8_t *)from + at);
        else
            memcpy(&value, (const uint8_t *)from + at, 8);
        if (litmus_is_data(to))
            litmus_write((uint8_t *)to + at, value);
        else
            memcpy((uint8_t *)to + at, &value, 8);
    }
    return to;
}

void *
litmus_zeros(size_t bytes)
{
    void *const at = world.arena + world.arena_used;
    world.arena_used += (bytes + 15) / 16 * 16;
    CHECK(world.arena_used <= sizeof world.arena);
    return memset(at, 0, bytes);
}

int
litmus_unmap(void)
{
    return 0;
}

/* The kernel's locks: who holds each byte, one word each at the end of the memory. To take or to give
 * back a lock of the kernel is an acquire and a release. */
static uint64_t *
lock_word(int64_t byte)
{
    const int64_t at = byte == SHMRING_LOCK_GROUPS ? MOST_CONSUMERS + 1 : byte - SHMRING_LOCK_PRODUCER;
    return (uint64_t *)(void *)(litmus_memory + LITMUS_MEMORY - 64) + at;
}

int
litmus_lock(int fd, int64_t byte, int type)
{
    uint64_t holder = type == F_UNLCK ? (uint64_t)fd : 0;
    const uint64_t next = type == F_UNLCK ? 0 : (uint64_t)fd;
    if (litmus_cas(lock_word(byte), &holder, next, LITMUS_ACQ_REL, LITMUS_HERE))
        return 1;
    errno = EAGAIN;
    return 0;
}

int
litmus_lock_held(int fd, int64_t byte)
{
    const uint64_t holder = litmus_load(lock_word(byte), LITMUS_ACQUIRE, LITMUS_HERE);
    return holder != 0 && holder != (uint64_t)fd;
}

void
die(int fd)
{
    for (int64_t byte = SHMRING_LOCK_PRODUCER; byte <= SHMRING_LOCK_PLACE(MOST_CONSUMERS - 1); byte++)
        litmus_lock(fd, byte, F_UNLCK);
}

/* ---- the ring ---- */

static void
share_words(void)
{
    const shmring_geometry *const g = &world.block.geometry;
    shmring_hot *const hot = world.block.hot;
    litmus_word(&hot->head, 8, LITMUS_ATOMIC);
    litmus_word(&hot->next_seq, 8, LITMUS_ATOMIC);
    litmus_word(&hot->claimed, 8, LITMUS_ATOMIC);
    litmus_word(&hot->data_event, 4, LITMUS_ATOMIC);
    litmus_word(&hot->space_event, 4, LITMUS_ATOMIC);
    litmus_word(&hot->active, 8, LITMUS_ATOMIC);
    litmus_word(&hot->join_count, 8, LITMUS_ATOMIC);
    litmus_word(&hot->producer_state, 4, LITMUS_ATOMIC);
    litmus_word(&hot->epoch, 8, LITMUS_ATOMIC);
    litmus_word(&hot->producer_pid, 4, LITMUS_ATOMIC);
    litmus_word(&hot->start_time, 8, LITMUS_QUIET);
    litmus_word(&hot->dropped, 8, LITMUS_QUIET);
    litmus_word(&hot->swaps, 8, LITMUS_QUIET);
    for (uint64_t i = 0; i < g->consumers; i++) {
        shmring_place *const row = &world.block.table[i];
        litmus_word(&row->cursor, 8, LITMUS_ATOMIC);
        litmus_word(&row->state, 8, LITMUS_ATOMIC);
        litmus_word(&row->flags, 4, LITMUS_ATOMIC);
        litmus_word(&row->delivered, 8, LITMUS_QUIET);
        litmus_word(&row->lost, 8, LITMUS_QUIET);
        litmus_word(&row->skipped, 8, LITMUS_QUIET);
        litmus_word(&row->held, 8, LITMUS_QUIET);
        litmus_word(&row->next, 8, LITMUS_QUIET);
        litmus_word(&row->redelivered, 8, LITMUS_QUIET);
        litmus_word(&row->max_held, 8, LITMUS_ATOMIC);
        litmus_word(&row->group, 4, LITMUS_ATOMIC);
    }
    for (unsigned i = 0; i < SHMRING_MAX_GROUPS; i++) {
        shmring_group *const group = &world.block.groups[i];
        litmus_word(&group->next, 8, LITMUS_ATOMIC);
        litmus_word(&group->events, 8, LITMUS_ATOMIC);
        litmus_word(&group->lost, 8, LITMUS_QUIET);
        litmus_word(&group->flags, 4, LITMUS_ATOMIC);
    }
    for (uint64_t i = 0; i < shmring_all_slots(g); i++) {
        shmring_entry *const entry = shmring_entry_at(&world.block, i);
        litmus_word(&entry->stamp, 8, LITMUS_ATOMIC);
        litmus_word(&entry->pins, 8, LITMUS_ATOMIC);
        litmus_word(&entry->position, 8, LITMUS_QUIET); /* as seq, for members of groups */
        litmus_word(&entry->seq, 8, LITMUS_ATOMIC);
        litmus_word(&entry->slot, 4, LITMUS_ATOMIC);
        litmus_word(&entry->timestamp_ns, 8, LITMUS_QUIET); /* as seq, but for the number of steps */
        litmus_word(&entry->rows, 8, LITMUS_QUIET);
        litmus_word(&entry->epoch, 8, LITMUS_QUIET);
        for (unsigned group = 0; group < SHMRING_MAX_GROUPS; group++)
            litmus_word(shmring_owner_at(&world.block, i, group), 8, LITMUS_ATOMIC);
        entry->slot = (uint32_t)i;
        for (uint64_t at = 0; at < FRAME_BYTES; at += 8)
            litmus_word(shmring_slot_at(&world.block, i) + at, 8, LITMUS_DATA);
        if (g->meta_bytes != 0)
            litmus_word(shmring_meta_at(entry), 8, LITMUS_DATA);
    }
    for (unsigned i = 0; i <= MOST_CONSUMERS; i++)
        litmus_word(lock_word(SHMRING_LOCK_PRODUCER + i), 8, LITMUS_ATOMIC);
    litmus_word(lock_word(SHMRING_LOCK_GROUPS), 8, LITMUS_ATOMIC);
}

void
make_ring(uint64_t slots, uint64_t meta_bytes)
{
    make_ring_with_spares(slots, 0, meta_bytes);
}

void
make_ring_with_spares(uint64_t slots, uint64_t spares, uint64_t meta_bytes)
{
    shmring_geometry *const g = &world.block.geometry;
    g->slots = slots;
    g->spares = spares;
    g->page_bytes = 64;
    g->frame_bytes = FRAME_BYTES;
    g->slot_stride = 64;
    g->meta_bytes = meta_bytes;
    g->entry_stride = sizeof(shmring_entry) + (meta_bytes != 0 ? 64 : 0);
    g->consumers = MOST_CONSUMERS;
    g->hot_offset = sizeof(shmring_identity);
    g->table_offset = g->hot_offset + sizeof(shmring_hot);
    g->groups_offset = g->table_offset + g->consumers * sizeof(shmring_place);
    g->entries_offset = g->groups_offset + SHMRING_MAX_GROUPS * sizeof(shmring_group);
    g->owners_offset = g->entries_offset + (slots + spares) * g->entry_stride;
    g->slots_offset = g->owners_offset + (slots + spares) * SHMRING_MAX_GROUPS * sizeof(uint64_t);
    world.block.control = litmus_memory;
    world.block.hot = (shmring_hot *)(void *)(litmus_memory + g->hot_offset);
    world.block.table = (shmring_place *)(void *)(litmus_memory + g->table_offset);
    world.block.groups = (shmring_group *)(void *)(litmus_memory + g->groups_offset);
    world.block.entries = litmus_memory + g->entries_offset;
    world.block.owners = (uint64_t *)(void *)(litmus_memory + g->owners_offset);
    world.block.data = litmus_memory + g->slots_offset;
    share_words();
}

void
open_producer(void)
{
    CHECK(shmring_producer_open(&world.p, &world.block, PRODUCER_FD) == SHMRING_OK);
}

void
join_group(unsigned i)
{
    CHECK(shmring_join_group(&world.c[i], &world.block, CONSUMER_FD + (int)i, "group", 0,
                             SHMRING_START_OLDEST, "") == SHMRING_OK);
}

void
join(unsigned i, int lossless, int start)
{
    CHECK(shmring_join(&world.c[i], &world.block, CONSUMER_FD + (int)i, lossless, start, "") == SHMRING_OK);
    world.c[i].max_held = UINT64_MAX; /* the protocol holds without a share, too; `share` tests shares */
}

static uint64_t
payload_of(uint64_t seq)
{
    return 100 + seq;
}

int
put(void)
{
    if (shmring_claim(&world.p, 1) != SHMRING_OK)
        return 0;
    const uint64_t seq = world.p.next_seq;
    uint8_t *const slot = (uint8_t *)shmring_claimed_slot(&world.p);
    for (uint64_t at = 0; at < FRAME_BYTES; at += 8)
        litmus_write(slot + at, payload_of(seq));
    if (world.block.geometry.meta_bytes != 0) {
        const uint64_t meta = payload_of(seq);
        shmring_describe(&world.p, 0, 0, 0, &meta);
    }
    shmring_publish(&world.p, 1);
    return 1;
}

void
put_one(void)
{
    put();
}

void
put_two(void)
{
    put();
    put();
}

void
put_frames(unsigned count)
{
    while (count-- != 0)
        CHECK(put());
}

void
put_waiting(void)
{
    while (shmring_claim_wait(&world.p, 1, SHMRING_FOR_EVER, 0, 2) != SHMRING_OK)
        continue;
    shmring_publish(&world.p, 1);
}

/* ---- consumers ---- */

static void
ask(taken_frames *t)
{
    memset(t, 0, sizeof *t);
    t->taken.seqs = t->seqs;
    t->taken.metas = t->metas;
}

static void
check_frame(const uint8_t *slot, uint64_t seq)
{
    for (uint64_t at = 0; at < FRAME_BYTES; at += 8)
        CHECK(litmus_read(slot + at) == payload_of(seq));
}

static void
check_meta(const taken_frames *t)
{
    uint64_t meta;
    memcpy(&meta, t->metas, sizeof meta);
    CHECK(world.block.geometry.meta_bytes == 0 || meta == payload_of(t->seqs[0]));
}

void
check_hold(unsigned i, unsigned which)
{
    const shmring_hold *const hold = world.hold[i][which];
    check_frame(shmring_slot_at(&world.block, hold->slot), hold->position);
}

int
take(unsigned i, unsigned which)
{
    shmring_consumer *const c = &world.c[i];
    taken_frames t;
    ask(&t);
    const int result = shmring_take_one(c, &t.taken);
    if (result == SHMRING_EMPTY)
        return 0;
    CHECK(result == SHMRING_OK);
    CHECK(t.taken.count == 1);
    world.hold[i][which] = t.taken.hold;
    CHECK(t.seqs[0] == t.taken.hold->position);
    CHECK(!c->lossless || c->lost == 0);
    check_meta(&t);
    check_hold(i, which);
    return 1;
}

void
give_back(unsigned i, unsigned which)
{
    check_hold(i, which);
    shmring_release(&world.c[i], world.hold[i][which]);
}

void
take_one(void)
{
    if (take(0, 0))
        give_back(0, 0);
}

void
first_waits(void)
{
    for (;;) {
        const shmring_news news = shmring_note_news(&world.c[0], 1);
        if (take(0, 0))
            return;
        shmring_wait_data(&world.block, &news, SHMRING_FOR_EVER, 0, 2);
    }
}

void
take_and_release(unsigned i, unsigned count)
{
    while (count-- != 0) {
        CHECK(take(i, 0));
        give_back(i, 0);
    }
}

int
copy_out(uint64_t position)
{
    taken_frames t;
    uint64_t frame[FRAME_BYTES / 8];
    ask(&t);
    const int result = shmring_copy_out(&world.block, position, frame, &t.taken);
    if (result != SHMRING_OK)
        return result;
    CHECK(t.seqs[0] == position);
    for (unsigned at = 0; at < FRAME_BYTES / 8; at++)
        CHECK(frame[at] == payload_of(position));
    check_meta(&t);
    return result;
}
