/* SPDX-License-Identifier: Apache-2.0
 *
 * The bytes of a block: geometry, identity, and what is refused.
 */
#include "selftest.h"

/* ---- geometry ---- */

static void
offsets_follow_each_other(void)
{
    shmring_geometry g = page_slots(4);
    g.page_bytes = g.slot_stride = 4096;
    g.consumers = 16;
    g.schema_bytes = 100;
    g.meta_bytes = 65;
    CHECK_EQUAL(shmring_compute_offsets(&g), SHMRING_OK);
    CHECK_EQUAL(g.hot_offset, 256);
    CHECK_EQUAL(g.table_offset, 256 + 768);
    CHECK_EQUAL(g.groups_offset, 1024 + 16 * 256);
    CHECK_EQUAL(g.schema_offset, 5120 + 4 * 256);
    CHECK_EQUAL(g.entries_offset, 6272); /* 6144 + 100, rounded up to 128 */
    CHECK_EQUAL(g.entry_stride, 64 + 128);
    CHECK_EQUAL(g.owners_offset, 7040); /* 6272 + 4 * 192, a multiple of 128 */
    CHECK_EQUAL(g.slots_offset, 8192);  /* 7040 + 4 * 32, rounded up to a page */
    CHECK_EQUAL(g.block_bytes, 8192 + 4 * 4096);
    g.spares = 3;
    CHECK_EQUAL(shmring_compute_offsets(&g), SHMRING_OK);
    CHECK_EQUAL(g.owners_offset, 7680); /* 6272 + 7 * 192 = 7616 */
    CHECK_EQUAL(g.slots_offset, 8192);  /* 7680 + 7 * 32 */
    CHECK_EQUAL(g.block_bytes, 8192 + 7 * 4096);
    CHECK_EQUAL(shmring_mapped_bytes(&g), (4 + 4 + 3) * 4096);
    CHECK_EQUAL(shmring_mapped_offset(&g, 3), 3 * 4096);
    CHECK_EQUAL(shmring_mapped_offset(&g, 4), 8 * 4096); /* the first spare one */
}

static void
placing_twice_changes_nothing(void)
{
    shmring_geometry g = page_slots(4);
    CHECK_EQUAL(shmring_compute_offsets(&g), SHMRING_OK);
    const shmring_geometry first = g;
    CHECK_EQUAL(shmring_compute_offsets(&g), SHMRING_OK);
    CHECK(memcmp(&first, &g, sizeof g) == 0);
}

/* One field of a geometry, as one of so many numbers. */
static uint64_t *
field(shmring_geometry *g, size_t number)
{
    return (uint64_t *)(void *)((uint8_t *)g + number * sizeof(uint64_t));
}
enum { FIELDS = sizeof(shmring_geometry) / sizeof(uint64_t) };

typedef struct bad_field {
    size_t offset;
    uint64_t value;
} bad_field;

static void
impossible_geometries_are_refused(void)
{
    static const bad_field bad[] = {
        {offsetof(shmring_geometry, slots), 0},
        {offsetof(shmring_geometry, slots), 1},
        {offsetof(shmring_geometry, slots), SHMRING_MAX_SLOTS + 1},
        {offsetof(shmring_geometry, slots), UINT64_MAX},
        {offsetof(shmring_geometry, slots), UINT64_C(1) << 52}, /* times 4096: 2^64 */
        {offsetof(shmring_geometry, frame_bytes), 0},
        {offsetof(shmring_geometry, frame_bytes), 4097}, /* more than the stride */
        {offsetof(shmring_geometry, frame_bytes), UINT64_MAX},
        {offsetof(shmring_geometry, slot_stride), 0},
        {offsetof(shmring_geometry, slot_stride), 4096 + 32}, /* not whole lines */
        {offsetof(shmring_geometry, slot_stride), 4096 + 64}, /* 4 of them are not whole pages */
        {offsetof(shmring_geometry, slot_stride), SHMRING_MAX_BLOCK},
        {offsetof(shmring_geometry, slot_stride), UINT64_MAX - 63},
        {offsetof(shmring_geometry, meta_bytes), SHMRING_MAX_SCHEMA + 1},
        {offsetof(shmring_geometry, meta_bytes), UINT64_MAX},
        {offsetof(shmring_geometry, row_bytes), 257},
        {offsetof(shmring_geometry, row_bytes), UINT64_MAX},
        {offsetof(shmring_geometry, consumers), 0},
        {offsetof(shmring_geometry, consumers), SHMRING_MAX_CONSUMERS + 1},
        {offsetof(shmring_geometry, consumers), UINT64_MAX},
        {offsetof(shmring_geometry, page_bytes), 0},
        {offsetof(shmring_geometry, page_bytes), 2048},
        {offsetof(shmring_geometry, page_bytes), UINT64_MAX},
        {offsetof(shmring_geometry, schema_bytes), SHMRING_MAX_SCHEMA + 1},
        {offsetof(shmring_geometry, schema_bytes), UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        shmring_geometry g = page_slots(4);
        g.page_bytes = g.slot_stride = 4096;
        CHECK_EQUAL(shmring_compute_offsets(&g), SHMRING_OK);
        *field(&g, bad[i].offset / sizeof(uint64_t)) = bad[i].value;
        CHECK_EQUAL(shmring_compute_offsets(&g), SHMRING_TOO_LARGE);
    }
}

static shmring_geometry
chosen(uint64_t slots, uint64_t frame_bytes)
{
    shmring_geometry g;
    memset(&g, 0, sizeof g);
    g.page_bytes = 4096;
    g.consumers = 16;
    g.slots = slots;
    g.frame_bytes = frame_bytes;
    CHECK_EQUAL(shmring_geometry_choose(&g), SHMRING_OK);
    return g;
}

static void
strides_are_chosen_well(void)
{
    shmring_geometry g = chosen(8, 64); /* gapless: 64 slots cost a page and their entries */
    CHECK_EQUAL(g.slot_stride, 64);
    CHECK_EQUAL(g.slots, 64);
    g = chosen(8, 1280 * 720 * 3); /* gapless: 675 pages */
    CHECK_EQUAL(g.slot_stride, 1280 * 720 * 3);
    CHECK_EQUAL(g.slots, 8);
    g = chosen(8, 1920 * 1080 * 3); /* 6220800 is 2^9 * 12150: gapless would need slots by eights */
    CHECK_EQUAL(g.slot_stride, 1920 * 1080 * 3);
    CHECK_EQUAL(g.slots, 8);
    g = chosen(9, 1920 * 1080 * 3); /* padding is cheaper than seven more slots */
    CHECK_EQUAL(g.slot_stride, 6221824);
    CHECK_EQUAL(g.slots, 9);
    g = chosen(2, 1000003);
    CHECK_EQUAL(g.slot_stride, 1001472);
    CHECK_EQUAL(g.slots, 2);
    g = chosen(2, UINT64_C(1) << 38);
    CHECK_EQUAL(g.slot_stride, UINT64_C(1) << 38);
}

static void
any_choice_is_a_valid_block(void)
{
    for (uint64_t frame_bytes = 1; frame_bytes < 40000; frame_bytes += 1 + frame_bytes / 7) {
        for (uint64_t slots = 2; slots < 3000; slots += 1 + slots / 3) {
            const shmring_geometry g = chosen(slots, frame_bytes);
            CHECK(g.slots >= slots && g.slot_stride >= frame_bytes && g.slot_stride % 64 == 0);
            CHECK(g.slots * g.slot_stride % 4096 == 0);
            const uint64_t pages = shmring_round_up(frame_bytes, 4096); /* what always works */
            CHECK(g.slots * (g.slot_stride + 64) <= slots * (pages + 64) ||
                  g.slots * g.slot_stride < 1 << 20);
        }
    }
}

static void
choices_that_overflow_are_refused(void)
{
    static const uint64_t sizes[] = {0, 1, 2, UINT64_C(1) << 32, SHMRING_MAX_BLOCK, UINT64_MAX};
    enum { SIZES = sizeof sizes / sizeof *sizes };
    for (unsigned i = 0; i < SIZES; i++) {
        for (unsigned j = 0; j < SIZES; j++) {
            shmring_geometry g = page_slots(sizes[i]);
            g.frame_bytes = sizes[j];
            if (sizes[i] == 2 && sizes[j] >= 1 && sizes[j] <= UINT64_C(1) << 32)
                CHECK_EQUAL(shmring_geometry_choose(&g), SHMRING_OK);
            else
                CHECK_EQUAL(shmring_geometry_choose(&g), SHMRING_TOO_LARGE);
        }
    }
    static const uint64_t pages[] = {0, 2048, SHMRING_MAX_SCHEMA * 2, UINT64_C(1) << 63, UINT64_MAX};
    shmring_geometry g;
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++) {
        g = page_slots(4);
        g.page_bytes = pages[i];
        CHECK_EQUAL(shmring_geometry_choose(&g), SHMRING_TOO_LARGE);
    }
    g = page_slots(4);
    g.consumers = 65;
    CHECK_EQUAL(shmring_geometry_choose(&g), SHMRING_TOO_LARGE);
}

static void
the_block_may_be_as_large_as_the_limit_and_no_larger(void)
{
    shmring_geometry g = page_slots(2);
    g.frame_bytes = g.slot_stride = SHMRING_MAX_BLOCK / 2;
    CHECK_EQUAL(shmring_compute_offsets(&g), SHMRING_TOO_LARGE); /* the slots alone fill it */
    g.frame_bytes = g.slot_stride -= UINT64_C(1) << 20;
    CHECK_EQUAL(shmring_compute_offsets(&g), SHMRING_OK);
    CHECK(g.block_bytes <= SHMRING_MAX_BLOCK);
}

/* ---- identity ---- */

static int
map_result(int fd)
{
    shmring_block block;
    const int result = shmring_map(&block, fd, SHMRING_CONSUME);
    if (result == SHMRING_OK)
        shmring_unmap(&block);
    CHECK(block.control == NULL && block.data == NULL);
    return result;
}

static void
write_at(int fd, uint64_t offset, const void *bytes, size_t count)
{
    CHECK_EQUAL(pwrite(fd, bytes, count, (off_t)offset), count);
}

static void
a_block_that_is_not_one_is_refused(void)
{
    const int fd = memfd_create("shmring-test", MFD_CLOEXEC);
    CHECK_EQUAL(map_result(fd), SHMRING_NOT_READY); /* just made, no size yet */
    write_at(fd, 0, "hello", 5);
    CHECK_EQUAL(map_result(fd), SHMRING_FOREIGN);
    CHECK_EQUAL(ftruncate(fd, 1 << 16), 0);
    CHECK_EQUAL(map_result(fd), SHMRING_FOREIGN);
    close(fd);
}

static void
identities_that_do_not_fit_are_refused(void)
{
    shmring_geometry g = page_slots(4);
    const int fd = make_block(&g, NULL);
    const uint64_t magic = SHMRING_MAGIC, foreign = SHMRING_MAGIC + 1;
    const uint32_t none = 0, one = 1, abi = SHMRING_ABI, other = SHMRING_ABI + 1;
    CHECK_EQUAL(map_result(fd), SHMRING_OK);
    write_at(fd, offsetof(shmring_identity, ready), &none, sizeof none);
    CHECK_EQUAL(map_result(fd), SHMRING_NOT_READY);
    write_at(fd, offsetof(shmring_identity, ready), &one, sizeof one);
    write_at(fd, offsetof(shmring_identity, abi), &other, sizeof other);
    CHECK_EQUAL(map_result(fd), SHMRING_OTHER_ABI);
    write_at(fd, offsetof(shmring_identity, abi), &abi, sizeof abi);
    write_at(fd, offsetof(shmring_identity, magic), &foreign, sizeof foreign);
    CHECK_EQUAL(map_result(fd), SHMRING_FOREIGN);
    write_at(fd, offsetof(shmring_identity, magic), &magic, sizeof magic);
    CHECK_EQUAL(map_result(fd), SHMRING_OK);
    CHECK_EQUAL(ftruncate(fd, (off_t)g.block_bytes - 1), 0);
    CHECK_EQUAL(map_result(fd), SHMRING_TRUNCATED);
    CHECK_EQUAL(ftruncate(fd, sizeof(shmring_identity)), 0);
    CHECK_EQUAL(map_result(fd), SHMRING_TRUNCATED);
    CHECK_EQUAL(ftruncate(fd, sizeof(shmring_identity) - 1), 0);
    CHECK_EQUAL(map_result(fd), SHMRING_FOREIGN);
    close(fd);
}

/* A header in which one bit of a number was changed contradicts itself; but for three sizes that no offset
 * follows from, and other values of those lie within the block as well. */
static void
contradicting_headers_are_refused(void)
{
    shmring_geometry g = page_slots(4);
    const int fd = make_block(&g, NULL);
    for (size_t i = 0; i < FIELDS; i++) {
        const uint64_t at = offsetof(shmring_identity, geometry) + i * sizeof(uint64_t);
        const uint64_t was = *field(&g, i);
        for (unsigned bit = 0; bit < 64; bit++) {
            const uint64_t changed = was ^ UINT64_C(1) << bit;
            write_at(fd, at, &changed, sizeof changed);
            const int result = map_result(fd);
            CHECK(result == SHMRING_OK || result == SHMRING_CORRUPT);
            if (result == SHMRING_OK)
                CHECK(i == offsetof(shmring_geometry, frame_bytes) / 8 ||
                      i == offsetof(shmring_geometry, row_bytes) / 8 ||
                      i == offsetof(shmring_geometry, schema_bytes) / 8);
        }
        write_at(fd, at, &was, sizeof was);
    }
    CHECK_EQUAL(map_result(fd), SHMRING_OK);
    close(fd);
}

static void
a_block_of_other_pages_is_refused(void)
{
    shmring_geometry g = page_slots(5);
    g.page_bytes += 4096; /* not a multiple of this machine's */
    if (g.page_bytes % (uint64_t)sysconf(_SC_PAGESIZE) == 0)
        g.page_bytes += 2048;
    g.slot_stride = g.page_bytes;
    const int fd = make_block(&g, NULL);
    CHECK_EQUAL(map_result(fd), SHMRING_CORRUPT);
    close(fd);
}

static void
a_fresh_block_is_empty_and_every_entry_at_home(void)
{
    static const char schema[] = "what the frames are";
    shmring_geometry g = page_slots(6);
    g.schema_bytes = sizeof schema;
    g.meta_bytes = META_BYTES;
    const int fd = make_block(&g, schema);
    shmring_block block;
    CHECK_EQUAL(shmring_map(&block, fd, SHMRING_PRODUCE), SHMRING_OK);
    CHECK(memcmp(&block.geometry, &g, sizeof g) == 0);
    CHECK(memcmp(block.control + g.schema_offset, schema, sizeof schema) == 0);
    CHECK_EQUAL(block.generation[15], 16);
    CHECK(block.created_ns > 0 && block.created_ns <= (uint64_t)shmring_clock_ns(CLOCK_REALTIME));
    CHECK_EQUAL(((shmring_identity *)(void *)block.control)->creator_pid, getpid());
    for (uint64_t i = 0; i < sizeof(shmring_hot); i++)
        CHECK_EQUAL(block.control[g.hot_offset + i], 0);
    for (uint64_t index = 0; index < g.slots; index++) {
        const shmring_entry *const entry = shmring_entry_at(&block, index);
        CHECK_EQUAL(entry->slot, index);
        CHECK_EQUAL(entry->stamp | entry->pins, 0);
    }
    shmring_unmap(&block);
    close(fd);
}

const test layout_tests[] = {
    TEST(offsets_follow_each_other),
    TEST(placing_twice_changes_nothing),
    TEST(impossible_geometries_are_refused),
    TEST(strides_are_chosen_well),
    TEST(any_choice_is_a_valid_block),
    TEST(choices_that_overflow_are_refused),
    TEST(the_block_may_be_as_large_as_the_limit_and_no_larger),
    TEST(a_block_that_is_not_one_is_refused),
    TEST(identities_that_do_not_fit_are_refused),
    TEST(contradicting_headers_are_refused),
    TEST(a_block_of_other_pages_is_refused),
    TEST(a_fresh_block_is_empty_and_every_entry_at_home),
    LAST_TEST,
};
