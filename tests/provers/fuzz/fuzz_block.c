/* SPDX-License-Identifier: Apache-2.0
 *
 * Coverage-guided fuzzer of the headers: producers, consumers and observers work on a block that an
 * attacker changes between any two calls, and between any two atomic accesses of one call.
 *
 * The input is a program: what to damage, what to do. Whatever it says, every call must end after a
 * bounded number of accesses (a sleep excepted, which ends with its deadline) and touch no memory outside
 * the block: each mapping lies between two pages that may not be touched, and the sanitizers watch the heap.
 * What a call finds may be wrong, never what it says about itself (counts, rows, slots).
 *
 * With libFuzzer: see Makefile. With -DREPLAY a plain program that runs the inputs named on its command line.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <sys/mman.h>
#include <unistd.h>

static void *guarded_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset);
static int guarded_munmap(void *at, size_t bytes);
#define mmap guarded_mmap
#define munmap guarded_munmap
#define SHMRING_ATOMIC_SPELLING "fuzz_atomic.h"
#include <shmring/shmring.h>
#undef mmap
#undef munmap

#include <inttypes.h>
#include <signal.h>

enum { GUARD = 4096, CONSUMERS = 3, OBSERVERS = 1, HOLDS = 6, LIARS = 4, MOST_ASKED = 96, META_BYTES = 24 };
/* More than the slowest honest call of the largest ring here: 4096 rounds of a lossy read. */
#define MOST_ACCESSES UINT64_C(4000000)

#define CHECK(condition) ((condition) ? (void)0 : failed(#condition, __LINE__))

static void
failed(const char *what, int line)
{
    fprintf(stderr, "fuzz_block.c:%d: %s\n", line, what);
    abort();
}

/* ---- mappings between guard pages ---- */

static size_t
whole_pages(size_t bytes)
{
    return (bytes + GUARD - 1) / GUARD * GUARD;
}

static void *
guarded_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    if (at != NULL) /* into a place that was reserved, guards and all */
        return mmap(at, bytes, protection, flags, fd, offset);
    const size_t all = whole_pages(bytes) + 2 * GUARD;
    uint8_t *const place =
        (uint8_t *)mmap(NULL, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (place == MAP_FAILED)
        return MAP_FAILED;
    void *const found = mmap(place + GUARD, bytes, protection, flags | MAP_FIXED, fd, offset);
    if (found == MAP_FAILED)
        munmap(place, all);
    return found;
}

static int
guarded_munmap(void *at, size_t bytes)
{
    return munmap((uint8_t *)at - GUARD, whole_pages(bytes) + 2 * GUARD);
}

/* ---- the input ---- */

static const uint8_t *input, *input_end;

static uint64_t
take_bytes(unsigned count)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < count; i++)
        value |= (uint64_t)(input < input_end ? *input++ : 0) << 8 * i;
    return value;
}

static unsigned
take_below(unsigned limit)
{
    return (unsigned)take_bytes(1) % limit;
}

/* ---- the block and its attacker ---- */

typedef struct liar {
    uint64_t at, every, offset, value, other;
} liar;

static int block_fd;
static uint8_t *attacked; /* the whole file, writable */
static uint64_t file_bytes;
static shmring_geometry geometry;
static liar liars[LIARS];
static uint64_t accesses, call_began;

static void
damage(uint64_t offset, uint64_t value)
{
    memcpy(attacked + offset % (file_bytes - sizeof value + 1), &value, sizeof value);
}

void
fuzz_moment(void)
{
    accesses++;
    CHECK(accesses - call_began < MOST_ACCESSES); /* the call does not end */
    for (unsigned i = 0; i < LIARS; i++) {
        liar *const l = &liars[i];
        if (l->at != accesses)
            continue;
        damage(l->offset, l->value);
        const uint64_t next = l->other;
        l->other = l->value;
        l->value = next;
        l->at = l->every == 0 ? 0 : l->at + l->every;
    }
}

static void
a_call_begins(void)
{
    call_began = accesses;
}

/* Where it hurts: a word of the block by what it means, or any byte. */
static uint64_t
some_offset(void)
{
    const uint64_t kind = take_below(10);
    if (kind == 0)
        return take_bytes(3);
    if (kind == 1)
        return 8 * take_below(32); /* identity and geometry */
    if (kind <= 3) {
        static const uint16_t words[] = {0, 8, 128, 256, 384, 512, 520, 640, 644, 648, 664, 672};
        return geometry.hot_offset + words[take_below(sizeof words / sizeof *words)];
    }
    if (kind == 4) {
        static const uint16_t words[] = {0, 8, 16, 24, 32, 40, 48, 128, 128, 136, 152, 156, 160, 224, 232};
        return geometry.table_offset + take_below((unsigned)geometry.consumers) * sizeof(shmring_place) +
               words[take_below(sizeof words / sizeof *words)];
    }
    if (kind == 5) {
        static const uint16_t words[] = {0, 0, 128, 136, 144, 152};
        return geometry.groups_offset + take_below(SHMRING_MAX_GROUPS) * sizeof(shmring_group) +
               words[take_below(sizeof words / sizeof *words)];
    }
    if (kind == 6) /* the owner words of a slot */
        return geometry.owners_offset +
               sizeof(uint64_t) * (take_below((unsigned)shmring_all_slots(&geometry)) * SHMRING_MAX_GROUPS +
                                   take_below(SHMRING_MAX_GROUPS));
    static const uint16_t words[] = {0, 0, 8, 8, 16, 24, 32, 40, 48, 48, 56, 64};
    return geometry.entries_offset +
           take_below((unsigned)shmring_all_slots(&geometry)) * geometry.entry_stride +
           words[take_below(sizeof words / sizeof *words)];
}

/* What a word may say: something close to the truth or to a limit, or any number. */
static uint64_t
some_value(void)
{
    const shmring_hot *const hot = (const shmring_hot *)(const void *)(attacked + geometry.hot_offset);
    const uint64_t near = (uint64_t)(int64_t)(int8_t)take_bytes(1);
    switch (take_below(10)) {
    case 0:
        return take_bytes(8);
    case 1:
        return hot->head + near;
    case 2:
        return hot->claimed + near;
    case 3:
        return shmring_published_stamp(hot->head + near);
    case 4:
        return shmring_writing_stamp(hot->head + near);
    case 5:
        return (UINT64_C(1) << take_below(64)) + near;
    case 6:
        return geometry.slots + near;
    case 7:
        return shmring_all_slots(&geometry) + near;
    case 8:
        return shmring_owner_word(hot->head + near, take_bytes(1));
    default:
        return near;
    }
}

static void
some_damage(void)
{
    const uint64_t offset = some_offset();
    damage(offset, some_value());
}

static void
some_liar(void)
{
    liar *const l = &liars[take_below(LIARS)];
    l->at = accesses + 1 + take_bytes(1);
    l->every = take_below(16);
    l->offset = some_offset();
    l->value = some_value();
    l->other = some_value();
}

/* ---- participants ---- */

static struct {
    shmring_block block;
    shmring_producer core;
    int mapped, open;
} producer;

static struct {
    shmring_block block;
    shmring_consumer core;
    shmring_hold *holds[HOLDS];
    int mapped, joined;
} consumers[CONSUMERS];

static struct {
    shmring_block block;
    int mapped;
} observers[OBSERVERS];

static volatile uint8_t sink;

static void
read_all(const uint8_t *bytes, uint64_t count)
{
    for (uint64_t i = 0; i < count; i += 64)
        sink = (uint8_t)(sink + bytes[i]);
    sink = (uint8_t)(sink + bytes[count - 1]);
}

static int
mapped(shmring_block *block, int *already, int access)
{
    if (*already)
        return 1;
    const int fd = shmring_reopen(block_fd, access != SHMRING_OBSERVE);
    CHECK(fd >= 0);
    *already = shmring_map(block, fd, access) == SHMRING_OK;
    close(fd);
    if (*already) /* every byte of it can be read */
        read_all(block->data, shmring_mapped_bytes(&block->geometry));
    return *already;
}

static void
end_producer(int orderly)
{
    const int fd = producer.core.lock_fd;
    if (!producer.open)
        return;
    if (orderly)
        shmring_producer_close(&producer.core);
    else
        shmring_producer_free(&producer.core);
    close(fd);
    producer.open = 0;
}

static const shmring_patience impatience = {1, 0, 2};

static void
produce(void)
{
    shmring_producer *const p = &producer.core;
    const unsigned what = take_below(10);
    if (!producer.open) {
        if (!mapped(&producer.block, &producer.mapped, SHMRING_PRODUCE))
            return;
        const int fd = shmring_reopen(block_fd, 1);
        producer.open = shmring_producer_open(p, &producer.block, fd) == SHMRING_OK;
        if (!producer.open)
            close(fd);
        else if (what % 2) { /* as with a ring that exceeds the cache */
            p->exceeds_cache = 1;
            p->copies = 16;
        }
        return;
    }
    if (what == 0) {
        end_producer(1);
    } else if (what == 1) {
        end_producer(0);
    } else if (what == 2) {
        shmring_drop(p, take_below(4));
    } else if (what == 3) {
        shmring_reap_all(&producer.block, p->lock_fd);
    } else if (what == 4) {
        const int result = shmring_await_consumers(p, take_below(5), 0, &impatience);
        CHECK(result == SHMRING_OK || result == SHMRING_TIMEOUT);
    } else if (p->count != 0) {
        const uint64_t stride = p->block->geometry.slot_stride;
        memset(shmring_claimed_slot(p), (int)p->next_seq, p->count * stride);
        shmring_copy_in(p, p->count - 1, attacked, p->block->geometry.frame_bytes);
        for (uint64_t i = 0; i < p->count; i++)
            shmring_describe(p, i, 1, i, NULL);
        shmring_publish(p, what == 5 ? take_bytes(1) % (p->count + 1) : what == 6 ? 0 : p->count);
    } else {
        const uint64_t want = 1 + take_below(MOST_ASKED);
        const int result = what == 9 ? shmring_claim_until(p, want, 0, &impatience) : shmring_claim(p, want);
        CHECK(result == SHMRING_FULL || result == SHMRING_TIMEOUT ||
              (result == SHMRING_OK && p->count >= 1 && p->count <= want &&
               p->count <= p->block->geometry.slots));
    }
}

static void
end_consumer(unsigned who, int orderly)
{
    shmring_consumer *const c = &consumers[who].core;
    if (!consumers[who].joined)
        return;
    const int fd = c->lock_fd;
    if (!orderly) { /* what a kill leaves: the block as it is */
        consumers[who].joined = 0;
        for (unsigned i = 0; i < HOLDS; i++) {
            free(consumers[who].holds[i]);
            consumers[who].holds[i] = NULL;
        }
        while (c->spare != NULL) {
            shmring_hold *const hold = c->spare;
            c->spare = hold->next_spare;
            free(hold);
        }
        free(c->pin_counts);
        free(c->slots_taken);
        close(fd);
        return;
    }
    if (c->held != 0 && !c->left)
        shmring_leave_holding(c);
    for (unsigned i = 0; i < HOLDS; i++) {
        if (consumers[who].holds[i] != NULL)
            shmring_release(c, consumers[who].holds[i]);
        consumers[who].holds[i] = NULL;
    }
    CHECK(c->held == 0 && c->pinned_slots == 0);
    shmring_leave(c);
    close(fd);
    consumers[who].joined = 0;
}

/* One of the takes, of `least` to `most` frames. */
static int
take_somehow(shmring_consumer *c, unsigned how, uint64_t least, uint64_t most, uint64_t step,
             shmring_taken *taken)
{
    if (how == 1)
        return shmring_take_batch(c, least, most, taken);
    if (how == 2)
        return shmring_take_window(c, least, step, taken);
    return how == 3 ? shmring_take_latest(c, taken) : shmring_take_one(c, taken);
}

static void
take_frames(unsigned who, unsigned how)
{
    static uint64_t seqs[MOST_ASKED], rows[MOST_ASKED];
    static int64_t timestamps[MOST_ASKED];
    static uint8_t metas[MOST_ASKED * META_BYTES];
    shmring_consumer *const c = &consumers[who].core;
    const shmring_geometry *const g = &c->block->geometry;
    shmring_taken taken;
    memset(&taken, 0, sizeof taken);
    taken.seqs = seqs;
    taken.timestamps_ns = timestamps;
    taken.rows = rows;
    taken.metas = g->meta_bytes <= META_BYTES ? metas : NULL;
    uint64_t least = 1, most = 1, step = 0;
    if (c->member && how > 1)
        return;
    if (how == 1) { /* a batch */
        least = 1 + take_below(4);
        most = least + take_below(MOST_ASKED - 4);
    } else if (how == 2) { /* a window, as Consumer.windows checks it */
        least = most = 1 + take_below((unsigned)g->slots - 1);
        step = 1 + take_bytes(1) % (g->slots - least);
        if (least > MOST_ASKED)
            return;
    }
    unsigned place = 0;
    while (place < HOLDS && consumers[who].holds[place] != NULL)
        place++;
    if (place == HOLDS)
        return;
    const int result = take_somehow(c, how, least, most, step, &taken);
    if (result != SHMRING_OK)
        return;
    CHECK(taken.count >= 1 && taken.count <= most && taken.count <= g->slots);
    CHECK(taken.count == least || how != 2);
    CHECK((taken.hold == NULL) == (taken.scattered != 0));
    for (uint64_t i = 0; i < taken.count; i++)
        CHECK(g->row_bytes == 0 || rows[i] * g->row_bytes <= g->frame_bytes);
    if (taken.scattered) {
        for (uint64_t i = 0; i < taken.count; i++)
            read_all(shmring_slot_at(c->block, c->slots_taken[i]), g->frame_bytes);
        shmring_end_scattered(c, &taken);
        return;
    }
    CHECK(taken.hold->slot < shmring_all_slots(g) && taken.hold->count == taken.count);
    CHECK(taken.hold->slot < g->slots || taken.count == 1);
    CHECK(c->lossless || c->pinned_slots <= c->max_held);
    read_all(shmring_slot_at(c->block, taken.hold->slot), taken.count * g->slot_stride);
    consumers[who].holds[place] = taken.hold;
}

static int
join(shmring_consumer *c, shmring_block *block, int fd, unsigned how)
{
    const int start = (int)take_below(3);
    if (how < 9)
        return shmring_join(c, block, fd, (int)how % 2, start, "fuzz");
    return shmring_join_group(c, block, fd, how % 2 ? "odd" : "even", how == 9 ? SHMRING_AT_MOST_ONCE : 0,
                              start, "fuzz");
}

static void
consume(void)
{
    const unsigned who = take_below(CONSUMERS);
    shmring_consumer *const c = &consumers[who].core;
    const unsigned what = take_below(13);
    if (!consumers[who].joined) {
        if (!mapped(&consumers[who].block, &consumers[who].mapped, SHMRING_CONSUME))
            return;
        const int fd = shmring_reopen(block_fd, 1);
        consumers[who].joined = join(c, &consumers[who].block, fd, what) == SHMRING_OK;
        if (!consumers[who].joined)
            close(fd);
    } else if (what == 0) {
        end_consumer(who, 1);
    } else if (what == 1) {
        end_consumer(who, 0);
    } else if (what <= 4) {
        const unsigned which = take_below(HOLDS);
        if (consumers[who].holds[which] != NULL)
            shmring_release(c, consumers[who].holds[which]);
        consumers[who].holds[which] = NULL;
    } else if (what == 5) {
        shmring_want_runs(c);
    } else if (what == 6) {
        const shmring_news news = shmring_note_news(c, 1);
        shmring_wait_data(c->block, &news, shmring_now_ns(), 0, 2);
        const int result = shmring_await(c, 1 + take_bytes(1) % c->block->geometry.slots, 0, &impatience);
        CHECK(result == SHMRING_OK || result == SHMRING_TIMEOUT || result >= SHMRING_ENDED);
    } else if (what == 7) {
        const int result = shmring_limit_held(c, 1 + take_bytes(1));
        CHECK(result == SHMRING_OK || (result == SHMRING_NO_SHARE && !c->lossless));
    } else if (what == 8) {
        shmring_count_lost_at_end(c, shmring_read_epoch(c->block));
    } else if (!c->left) {
        take_frames(who, what - 9);
    }
}

static void
observe(void)
{
    static uint8_t copy[8192];
    uint64_t seq, rows;
    int64_t timestamp;
    uint8_t meta[META_BYTES];
    shmring_ring_status report;
    shmring_place_status place;
    const unsigned who = take_below(OBSERVERS);
    shmring_block *const block = &observers[who].block;
    if (!mapped(block, &observers[who].mapped, SHMRING_OBSERVE))
        return;
    shmring_read_ring_status(block, &report);
    for (unsigned i = 0; i < block->geometry.consumers; i++) {
        shmring_read_place_status(block, i, &place);
        CHECK(memchr(place.label, 0, sizeof place.label) != NULL);
    }
    if (block->geometry.frame_bytes > sizeof copy || block->geometry.meta_bytes > sizeof meta)
        return;
    shmring_taken taken;
    memset(&taken, 0, sizeof taken);
    taken.seqs = &seq;
    taken.rows = &rows;
    taken.timestamps_ns = &timestamp;
    taken.metas = meta;
    const uint64_t position = report.head - 1 - take_below(8);
    (void)shmring_copy_out(block, position, copy, &taken);
    shmring_place_status places[SHMRING_MAX_CONSUMERS];
    CHECK(shmring_look_at_ring(block_fd, &block->geometry, &report));
    CHECK(shmring_look_at_producer(block_fd, &block->geometry, &report) != SHMRING_TRUNCATED);
    CHECK(shmring_look_at_places(block_fd, &block->geometry, places));
    (void)shmring_look_at_frame(block_fd, &block->geometry, position, copy, &taken);
}

static void
unmap_idle(void)
{
    if (producer.mapped && !producer.open) {
        shmring_unmap(&producer.block);
        producer.mapped = 0;
    }
    for (unsigned i = 0; i < CONSUMERS; i++)
        if (consumers[i].mapped && !consumers[i].joined) {
            shmring_unmap(&consumers[i].block);
            consumers[i].mapped = 0;
        }
    for (unsigned i = 0; i < OBSERVERS; i++)
        if (observers[i].mapped) {
            shmring_unmap(&observers[i].block);
            observers[i].mapped = 0;
        }
}

/* ---- one input ---- */

static void
make_block(void)
{
    static const struct {
        uint16_t slots, spares, frame_bytes, stride, meta_bytes, row_bytes, consumers;
    } kinds[] = {{4, 0, 256, 4096, 0, 0, 4},   {2, 0, 4096, 4096, 0, 0, 2}, {64, 0, 40, 64, 24, 8, 3},
                 {8, 0, 2048, 2048, 8, 0, 64}, {4, 2, 256, 4096, 0, 0, 4},  {2, 1, 4096, 4096, 0, 0, 2},
                 {64, 3, 40, 64, 24, 8, 3},    {8, 4, 2048, 2048, 8, 0, 64}};
    static const uint8_t generation[16] = {1, 2, 3};
    static const uint8_t schema[64] = "{}";
    const unsigned kind = take_below(sizeof kinds / sizeof *kinds);
    memset(&geometry, 0, sizeof geometry);
    geometry.page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    geometry.slots = kinds[kind].slots;
    geometry.spares = kinds[kind].spares;
    geometry.frame_bytes = kinds[kind].frame_bytes;
    geometry.slot_stride = kinds[kind].stride;
    geometry.meta_bytes = kinds[kind].meta_bytes;
    geometry.row_bytes = kinds[kind].row_bytes;
    geometry.consumers = kinds[kind].consumers;
    geometry.schema_bytes = sizeof schema;
    CHECK(shmring_compute_offsets(&geometry) == SHMRING_OK);
    file_bytes = geometry.block_bytes;
    block_fd = memfd_create("shmring-fuzz", MFD_CLOEXEC);
    CHECK(block_fd >= 0 && posix_fallocate(block_fd, 0, (off_t)file_bytes) == 0);
    CHECK(shmring_format(block_fd, &geometry, generation, schema) == SHMRING_OK);
    attacked = (uint8_t *)mmap(NULL, file_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, block_fd, 0);
    CHECK(attacked != MAP_FAILED);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input = data;
    input_end = data + size;
    accesses = call_began = 0;
    memset(liars, 0, sizeof liars);
    make_block();
    while (input < input_end) {
        const unsigned what = take_below(8);
        a_call_begins();
        if (what <= 1)
            some_damage();
        else if (what == 2)
            some_liar();
        else if (what == 3)
            produce();
        else if (what <= 5)
            consume();
        else if (what == 6)
            observe();
        else if (take_below(4) == 0)
            unmap_idle();
        else
            produce();
    }
    a_call_begins();
    end_producer(1);
    for (unsigned i = 0; i < CONSUMERS; i++) {
        a_call_begins();
        end_consumer(i, 1);
    }
    unmap_idle();
    munmap(attacked, file_bytes);
    close(block_fd);
    return 0;
}

#ifdef REPLAY
int
main(int count, char **names)
{
    static uint8_t data[1 << 16];
    for (int i = 1; i < count; i++) {
        FILE *const file = fopen(names[i], "rb");
        CHECK(file != NULL);
        const size_t size = fread(data, 1, sizeof data, file);
        fclose(file);
        alarm(60); /* ends a call that sleeps forever */
        LLVMFuzzerTestOneInput(data, size);
    }
    printf("%d inputs replayed\n", count - 1);
    return 0;
}
#endif
