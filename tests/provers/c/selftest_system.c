/* SPDX-License-Identifier: Apache-2.0
 *
 * What shmring asks of the operating system: mappings, names, locks; and the copies.
 */
#include "selftest.h"

/* ---- mappings ---- */

static void
slots_are_mapped_twice_back_to_back(void)
{
    ring r;
    make_ring(&r, page_slots(3));
    const uint64_t bytes = 3 * r.block.geometry.slot_stride;
    uint8_t *const data = r.block.data;
    for (uint64_t i = 0; i < bytes; i += 511)
        data[i] = (uint8_t)(i / 511);
    CHECK(memcmp(data, data + bytes, bytes) == 0);
    data[bytes + 5] = 77;
    CHECK_EQUAL(data[5], 77);
    end_ring(&r);
}

static uint64_t
huge_part(const void *address)
{
    return (uintptr_t)address % shmring_huge_page_bytes();
}

/* Three huge pages and a bit, which no mapping of both halves can have aligned. */
static shmring_geometry
large_slots(void)
{
    shmring_geometry g = page_slots(3);
    g.slot_stride = shmring_huge_page_bytes() + g.page_bytes;
    return g;
}

static void
large_slots_are_where_huge_pages_can_be_mapped(void)
{
    ring r;
    make_ring(&r, large_slots());
    const shmring_geometry *const g = &r.block.geometry;
    const uint64_t bytes = 3 * g->slot_stride;
    CHECK_EQUAL(huge_part(r.block.data), g->slots_offset);
    memset(r.block.data + bytes - 100, 5, 200);
    CHECK(r.block.data[0] == 5 && r.block.data[99] == 5 && r.block.data[100] == 0);
    CHECK(r.block.data[2 * bytes - 100] == 5 && r.block.data[2 * bytes - 101] == 0);
    uint64_t begin;
    CHECK_EQUAL(shmring_huge_span(g, &begin), 2 * shmring_huge_page_bytes());
    CHECK_EQUAL(begin, shmring_huge_page_bytes());
    end_ring(&r);
}

static void
frames_outlive_a_change_to_huge_pages(void)
{
    ring r;
    make_ring(&r, large_slots());
    const shmring_geometry *const g = &r.block.geometry;
    const uint64_t bytes = 3 * g->slot_stride;
    for (uint64_t i = 0; i < bytes; i += 4096)
        r.block.data[i] = (uint8_t)(i / 4096 % 251);
    if (shmring_make_huge(r.fd, g, 0, g->block_bytes)) {
        const uint64_t huge = shmring_huge_bytes(r.fd, g);
        CHECK(huge == 2 * shmring_huge_page_bytes() || huge == 0); /* 0: an emulator that ignores advice */
    }
    for (uint64_t i = 0; i < bytes; i += 4096)
        CHECK_EQUAL(r.block.data[i], i / 4096 % 251);
    CHECK(shmring_make_huge(r.fd, g, 0, g->slots_offset)); /* nothing to do */
    end_ring(&r);
}

static void
slots_of_less_have_no_huge_page(void)
{
    ring r;
    make_ring(&r, page_slots(5));
    uint64_t begin;
    CHECK_EQUAL(shmring_huge_span(&r.block.geometry, &begin), 0);
    CHECK(shmring_make_huge(r.fd, &r.block.geometry, 0, r.block.geometry.block_bytes));
    CHECK_EQUAL(shmring_huge_bytes(r.fd, &r.block.geometry), 0);
    end_ring(&r);
}

/* Whether the kernel may write there for us; a process that tried itself would be killed. */
static int
is_writable(void *address)
{
    static int zeros = -1;
    if (zeros < 0)
        zeros = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    const ssize_t got = read(zeros, address, 1);
    CHECK(got == 1 || errno == EFAULT);
    return got == 1;
}

static void
handles_may_write_what_they_need(void)
{
    shmring_geometry g = page_slots(3);
    const int fd = make_block(&g, NULL);
    for (int access = SHMRING_OBSERVE; access <= SHMRING_PRODUCE; access++) {
        shmring_block block;
        CHECK_EQUAL(shmring_map(&block, fd, access), SHMRING_OK);
        uint8_t *const first = block.data;
        uint8_t *const again = block.data + 3 * g.slot_stride;
        CHECK_EQUAL(is_writable(block.hot), access >= SHMRING_CONSUME);
        CHECK_EQUAL(is_writable(block.entries), access >= SHMRING_CONSUME);
        CHECK_EQUAL(is_writable(first), access >= SHMRING_PRODUCE);
        CHECK_EQUAL(is_writable(again), access >= SHMRING_PRODUCE);
        shmring_unmap(&block);
    }
    close(fd);
}

static void
an_observer_needs_read_permission_only(void)
{
    ring r;
    shmring_block block;
    make_ring(&r, page_slots(3));
    const int fd = shmring_reopen(r.fd, 0);
    CHECK_EQUAL(shmring_map(&block, fd, SHMRING_CONSUME), SHMRING_SYSTEM);
    CHECK_EQUAL(errno, EACCES);
    CHECK_EQUAL(shmring_map(&block, fd, SHMRING_OBSERVE), SHMRING_OK);
    shmring_unmap(&block);
    close(fd);
    end_ring(&r);
}

static void
touching_pages_ahead_changes_nothing(void)
{
    ring r;
    make_ring(&r, page_slots(5));
    const uint64_t bytes = r.block.geometry.slot_stride;
    for (uint64_t slot = 0; slot < 5; slot++)
        fill_frame(shmring_slot_at(&r.block, slot), bytes, slot);
    CHECK(shmring_prefault(&r.block, 1, 0));
    CHECK(shmring_prefault(&r.block, 0, 0));
    if (!shmring_prefault(&r.block, 1, 1)) /* the system may refuse, and then says why */
        CHECK(errno == ENOMEM || errno == EPERM || errno == EAGAIN);
    for (uint64_t slot = 0; slot < 10; slot++)
        CHECK(frame_is(r.block.data + slot * bytes, bytes, slot % 5));
    end_ring(&r);
}

/* ---- names ---- */

static void
a_nameless_block_gets_its_name_once(void)
{
    char name[64], path[80];
    snprintf(name, sizeof name, "shmring-selftest-%d", (int)getpid());
    snprintf(path, sizeof path, "/dev/shm/%s", name);
    shmring_geometry g = page_slots(2);
    CHECK_EQUAL(shmring_compute_offsets(&g), SHMRING_OK);
    const int fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) /* a file system without O_TMPFILE: nothing to test */
        return;
    const uint8_t generation[16] = {1};
    CHECK_EQUAL(posix_fallocate(fd, 0, (off_t)g.block_bytes), 0);
    CHECK_EQUAL(shmring_format(fd, &g, generation, NULL), SHMRING_OK);
    CHECK_EQUAL(shmring_open(name, SHMRING_CONSUME), -1);
    CHECK_EQUAL(errno, ENOENT);
    const int linked = shmring_link(fd, path);
    const int again = shmring_link(fd, path);
    const int why = errno;
    const int opened = shmring_open(name, SHMRING_CONSUME);
    const int observed = shmring_open(name, SHMRING_OBSERVE);
    unlink(path); /* before a check can fail */
    CHECK_EQUAL(linked, 0);
    CHECK_EQUAL(again, -1);
    CHECK_EQUAL(why, EEXIST);
    CHECK(opened >= 0 && observed >= 0);
    CHECK_EQUAL(fcntl(opened, F_GETFL) & O_ACCMODE, O_RDWR);
    CHECK_EQUAL(fcntl(observed, F_GETFL) & O_ACCMODE, O_RDONLY);
    shmring_block block;
    CHECK_EQUAL(shmring_map(&block, observed, SHMRING_OBSERVE), SHMRING_OK);
    shmring_unmap(&block);
    close(observed);
    close(opened);
    close(fd);
}

static void
names_that_cannot_be_are_refused(void)
{
    char name[NAME_MAX + 10];
    memset(name, 'x', sizeof name);
    name[NAME_MAX + 1] = 0; /* one too long */
    CHECK_EQUAL(shmring_open(name, SHMRING_CONSUME), -1);
    CHECK(errno == EINVAL || errno == ENAMETOOLONG);
    CHECK_EQUAL(shmring_open("a/b", SHMRING_CONSUME), -1);
    CHECK_EQUAL(errno, EINVAL);
}

/* ---- locks ---- */

static void
descriptions_hold_locks_against_each_other(void)
{
    ring r;
    make_ring(&r, page_slots(2));
    const int mine = lock_file(&r), theirs = lock_file(&r);
    const int64_t byte = SHMRING_LOCK_PLACE(3);
    CHECK(shmring_set_lock(mine, byte, F_WRLCK));
    CHECK(shmring_set_lock(mine, byte, F_WRLCK)); /* against itself it holds nothing */
    CHECK(!shmring_lock_held(mine, byte));
    CHECK(shmring_lock_held(theirs, byte));
    CHECK(!shmring_set_lock(theirs, byte, F_WRLCK));
    CHECK(errno == EAGAIN || errno == EACCES);
    CHECK(shmring_set_lock(theirs, byte + 1, F_WRLCK)); /* a byte is a lock */
    CHECK(!shmring_lock_held(theirs, SHMRING_LOCK_PRODUCER));
    CHECK(shmring_set_lock(mine, byte, F_UNLCK));
    CHECK(!shmring_lock_held(theirs, byte));
    const int64_t presence = SHMRING_LOCK_PRESENCE, all = SHMRING_PRESENCE_BYTES;
    CHECK(shmring_set_lock(mine, presence + 7, F_WRLCK));
    CHECK(shmring_set_lock(theirs, presence + 8, F_WRLCK)); /* any number of them at once */
    CHECK(shmring_span_held(theirs, presence, all));
    CHECK(!shmring_set_span_lock(theirs, presence, all, F_WRLCK));
    close(mine);
    CHECK(shmring_set_span_lock(theirs, presence, all, F_WRLCK)); /* gone with the description */
    close(theirs);
    end_ring(&r);
}

/* What F_SETLK would do wrong: there, any close of the file in the process drops its locks. */
static void
closing_another_description_keeps_the_lock(void)
{
    ring r;
    make_ring(&r, page_slots(2));
    const int mine = lock_file(&r), theirs = lock_file(&r);
    CHECK(shmring_set_lock(mine, SHMRING_LOCK_PRODUCER, F_WRLCK));
    close(lock_file(&r));
    CHECK(shmring_lock_held(theirs, SHMRING_LOCK_PRODUCER));
    close(mine);
    CHECK(!shmring_lock_held(theirs, SHMRING_LOCK_PRODUCER));
    close(theirs);
    end_ring(&r);
}

static void
a_shared_lock_says_nothing_about_who_lives(void)
{
    ring r;
    make_ring(&r, page_slots(2));
    const int mine = lock_file(&r), readers = shmring_reopen(r.fd, 0);
    CHECK(!shmring_set_lock(readers, SHMRING_LOCK_PRODUCER,
                            F_WRLCK)); /* for that it would have to be able to write */
    CHECK(shmring_set_lock(readers, SHMRING_LOCK_PRODUCER, F_RDLCK));
    CHECK(!shmring_lock_held(mine, SHMRING_LOCK_PRODUCER));
    CHECK(!shmring_span_held(mine, SHMRING_LOCK_PRODUCER, 2048));
    CHECK(shmring_lock_blocked(mine, SHMRING_LOCK_PRODUCER));
    CHECK(!shmring_set_lock(mine, SHMRING_LOCK_PRODUCER, F_WRLCK));
    close(readers);
    CHECK(!shmring_lock_blocked(mine, SHMRING_LOCK_PRODUCER));
    CHECK(shmring_set_lock(mine, SHMRING_LOCK_PRODUCER, F_WRLCK));
    close(mine);
    end_ring(&r);
}

static void
doubt_about_a_lock_counts_as_held(void)
{
    CHECK(shmring_lock_held(-1, SHMRING_LOCK_PRODUCER));
    CHECK(!shmring_set_lock(-1, SHMRING_LOCK_PRODUCER, F_WRLCK));
}

/* ---- clocks and copies ---- */

static void
clocks_go_on(void)
{
    const int64_t before = shmring_now_ns();
    const int64_t coarse = shmring_coarse_now_ns();
    CHECK(before > 0 && shmring_now_ns() >= before);
    CHECK(coarse - before < SHMRING_SECOND && before - coarse < SHMRING_SECOND);
    CHECK(shmring_own_start_time() > 0);
    CHECK_EQUAL(shmring_own_start_time(), shmring_own_start_time());
}

static void
streaming_copies_are_whole(void)
{
    enum { ROOM = 1024 };
    uint8_t source[ROOM + 64], target[ROOM + 128];
    uint8_t *const aligned = target + (64 - (uintptr_t)target % 64) % 64;
    for (size_t i = 0; i < sizeof source; i++)
        source[i] = (uint8_t)(i * 7 + i / 256);
    for (size_t shift = 0; shift < 64; shift += 9) {
        for (size_t bytes = 0; bytes <= ROOM; bytes += bytes < 200 ? 1 : 37) {
            memset(target, 0xee, sizeof target);
            shmring_copy_streaming(aligned, source + shift, bytes);
            CHECK(memcmp(aligned, source + shift, bytes) == 0);
            for (size_t i = bytes; i < bytes + 64 && aligned + i < target + sizeof target; i++)
                CHECK_EQUAL(aligned[i], 0xee);
        }
    }
    CHECK(shmring_cache_bytes() >= 4096);
}

const test system_tests[] = {
    TEST(slots_are_mapped_twice_back_to_back),
    TEST(large_slots_are_where_huge_pages_can_be_mapped),
    TEST(frames_outlive_a_change_to_huge_pages),
    TEST(slots_of_less_have_no_huge_page),
    TEST(handles_may_write_what_they_need),
    TEST(an_observer_needs_read_permission_only),
    TEST(touching_pages_ahead_changes_nothing),
    TEST(a_nameless_block_gets_its_name_once),
    TEST(names_that_cannot_be_are_refused),
    TEST(descriptions_hold_locks_against_each_other),
    TEST(closing_another_description_keeps_the_lock),
    TEST(a_shared_lock_says_nothing_about_who_lives),
    TEST(doubt_about_a_lock_counts_as_held),
    TEST(clocks_go_on),
    TEST(streaming_copies_are_whole),
    LAST_TEST,
};
