/* SPDX-License-Identifier: Apache-2.0
 *
 * Private memory of slots, mappings that are covered, and the word about a write to memory that is read-only.
 */
#include "children.h"
#include "selftest.h"

#include <shmring/private.h>
#include <shmring/truncation.h>
#include <shmring/writes.h>

/* ---- private memory ---- */

static void
map_private(shmring_private *memory, ring *r, uint64_t slot, uint64_t bytes)
{
    const int fd = shmring_reopen(r->fd, 0);
    CHECK_EQUAL(shmring_map_private(memory, &r->block, fd, slot, bytes), SHMRING_OK);
    close(fd);
}

static void
fill_slots(ring *r)
{
    const shmring_geometry *const g = &r->block.geometry;
    for (uint64_t slot = 0; slot < shmring_all_slots(g); slot++)
        fill_frame(shmring_slot_at(&r->block, slot), g->slot_stride, slot);
}

static void
private_memory_shows_the_slots_until_it_is_written_to(void)
{
    ring r;
    shmring_private memory;
    make_ring(&r, page_slots(5));
    fill_slots(&r);
    const uint64_t page = r.block.geometry.slot_stride;
    map_private(&memory, &r, 1, 3 * page);
    for (uint64_t i = 0; i < 3; i++)
        CHECK(frame_is(memory.data + i * page, page, 1 + i));
    memory.data[page + 8] ^= 1;
    CHECK(frame_is(shmring_slot_at(&r.block, 2), page, 2));
    fill_frame(shmring_slot_at(&r.block, 1), page, 77);
    fill_frame(shmring_slot_at(&r.block, 2), page, 77);
    CHECK(frame_is(memory.data, page, 77));
    memory.data[page + 8] ^= 1;
    CHECK(frame_is(memory.data + page, page, 2));
    shmring_unmap_private(&memory);
    end_ring(&r);
}

/* From every slot, as many as lie side by side from there; the slots share pages. */
static void
private_memory_goes_across_the_wrap_and_into_spare_slots(void)
{
    ring r;
    shmring_geometry g = with_spares(16, 16);
    g.slot_stride = g.page_bytes / 4;
    make_ring(&r, g);
    fill_slots(&r);
    const uint64_t stride = r.block.geometry.slot_stride;
    for (uint64_t slot = 0; slot < shmring_all_slots(&r.block.geometry); slot++)
        for (uint64_t count = 1; count <= (slot < 16 ? 16 : 1); count++) {
            shmring_private memory;
            map_private(&memory, &r, slot, count * stride);
            for (uint64_t i = 0; i < count; i++)
                CHECK(frame_is(memory.data + i * stride, stride, slot < 16 ? (slot + i) % 16 : slot));
            memset(memory.data, 0, count * stride);
            shmring_unmap_private(&memory);
        }
    for (uint64_t slot = 0; slot < shmring_all_slots(&r.block.geometry); slot++)
        CHECK(frame_is(shmring_slot_at(&r.block, slot), stride, slot));
    end_ring(&r);
}

static void
copied_private_memory_has_nothing_to_do_with_the_slots(void)
{
    ring r;
    shmring_private memory;
    make_ring(&r, page_slots(3));
    fill_slots(&r);
    const uint64_t page = r.block.geometry.slot_stride;
    map_private(&memory, &r, 2, 2 * page);
    memory.data[0] ^= 1;
    shmring_copy_private(&memory);
    memset(r.block.data, 0, 3 * page);
    memory.data[0] ^= 1;
    CHECK(frame_is(memory.data, page, 2) && frame_is(memory.data + page, page, 0));
    shmring_unmap_private(&memory);
    end_ring(&r);
}

static void
private_memory_that_cannot_be_mapped_is_an_error(void)
{
    ring r;
    shmring_private memory = {NULL, NULL, 0};
    make_ring(&r, page_slots(3));
    const int closed = shmring_reopen(r.fd, 0);
    close(closed);
    CHECK_EQUAL(shmring_map_private(&memory, &r.block, closed, 0, 256), SHMRING_SYSTEM);
    CHECK_EQUAL(errno, EBADF);
    CHECK(memory.data == NULL);
    end_ring(&r);
}

/* ---- covered mappings ---- */

static unsigned
count_covered(void)
{
    unsigned found = 0;
    for (unsigned i = 0; i < SHMRING_MAX_COVERED; i++)
        found += shmring_covered[i] != 0;
    return found;
}

static void
every_mapping_is_covered_until_it_is_gone(void)
{
    ring r;
    shmring_private inside, across;
    make_ring(&r, with_spares(4, 2));
    const uint64_t page = r.block.geometry.slot_stride;
    const unsigned before = count_covered();
    CHECK(shmring_cover(&r.block));
    map_private(&inside, &r, 4, page);
    map_private(&across, &r, 3, 2 * page);
    CHECK_EQUAL(count_covered(), before + 3 + 1 + 2);
    CHECK(shmring_find_covered((uintptr_t)across.data + page) != SHMRING_MAX_COVERED);
    shmring_unmap_private(&across);
    CHECK_EQUAL(count_covered(), before + 3 + 1);
    CHECK(shmring_find_covered((uintptr_t)across.place) == SHMRING_MAX_COVERED);
    shmring_unmap_private(&inside);
    shmring_uncover(&r.block);
    CHECK_EQUAL(count_covered(), before);
    end_ring(&r);
}

static void
a_mapping_that_moved_is_covered_where_it_is(void)
{
    ring r;
    make_ring(&r, with_spares(4, 2));
    const uint64_t bytes = shmring_mapped_bytes(&r.block.geometry);
    uint8_t *const data = r.block.data;
    CHECK(shmring_cover(&r.block));
    shmring_cover_moved(data, bytes, data + 100 * bytes);
    for (uint64_t at = 0; at < bytes; at += 4096) {
        CHECK(shmring_find_covered((uintptr_t)data + at) == SHMRING_MAX_COVERED);
        CHECK(shmring_find_covered((uintptr_t)data + 100 * bytes + at) != SHMRING_MAX_COVERED);
    }
    shmring_cover_moved(data + 100 * bytes, bytes, data);
    CHECK(shmring_find_covered((uintptr_t)data + bytes - 1) != SHMRING_MAX_COVERED);
    shmring_uncover(&r.block);
    end_ring(&r);
}

static void
lose_private_pages(int who, uint64_t random)
{
    ring r;
    shmring_private memory;
    (void)who;
    (void)random;
    CHECK(shmring_survive_truncation());
    make_ring(&r, page_slots(3));
    const uint64_t page = r.block.geometry.slot_stride;
    memset(r.block.data, 5, 3 * page);
    CHECK(shmring_cover(&r.block));
    map_private(&memory, &r, 1, 2 * page);
    memory.data[page] = 6;
    CHECK_EQUAL(ftruncate(r.fd, (off_t)(r.block.geometry.slots_offset + page)), 0);
    CHECK(!shmring_lost_pages(&r.block));
    CHECK_EQUAL(memory.data[page], 0);
    CHECK(shmring_lost_pages(&r.block));
    memory.data[page] = 7;
    CHECK_EQUAL(memory.data[page], 7);
    CHECK_EQUAL(r.block.data[0], 5);
}

static void
private_pages_that_are_lost_read_as_zeros_and_are_noted(void)
{
    int status;
    const pid_t child = start_child(lose_private_pages, 0, 0);
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
}

/* ---- writes ---- */

static void
write_to_a_frame(int who, uint64_t random)
{
    ring r;
    shmring_block block;
    (void)random;
    make_ring(&r, with_spares(4, 2));
    CHECK_EQUAL(shmring_map(&block, r.fd, SHMRING_CONSUME), SHMRING_OK);
    shmring_record_at(&block, (uint64_t)who)->seq = UINT64_C(18446744073709551615);
    block.name = "a ring";
    signal(SIGSEGV, SIG_DFL); /* a sanitizer has it */
    CHECK(shmring_cover(&block) && shmring_explain_writes() && shmring_explain_writes());
    *(volatile uint8_t *)(shmring_slot_at(&block, (uint64_t)who) + 5) = 1;
}

/* In a child, whose stderr is a pipe. */
static void
say_what_is_written(int slot, char *said, size_t room)
{
    int ends[2], status;
    CHECK_EQUAL(pipe(ends), 0);
    const int before = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    const pid_t child = start_child(write_to_a_frame, slot, 0);
    dup2(before, STDERR_FILENO);
    close(before);
    close(ends[1]);
    const ssize_t got = read(ends[0], said, room - 1);
    close(ends[0]);
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    said[got > 0 ? got : 0] = 0;
}

static void
a_write_to_a_frame_is_explained_and_ends_the_process(void)
{
    char said[600], wanted[100];
    for (int slot = 0; slot < 6; slot++) {
        say_what_is_written(slot, said, sizeof said);
        snprintf(wanted, sizeof wanted, "a frame (seq 18446744073709551615, slot %d) of ring 'a ring', ",
                 slot);
        CHECK(strstr(said, wanted) != NULL);
        CHECK(strchr(said, '\n') == said + strlen(said) - 1);
    }
}

static uint8_t *const nowhere = (uint8_t *)64;

static void
end_well_if_blocked(int number, siginfo_t *info, void *context)
{
    sigset_t blocked;
    (void)number;
    (void)context;
    sigprocmask(SIG_BLOCK, NULL, &blocked);
    _exit(info->si_addr == nowhere && sigismember(&blocked, SIGUSR1) ? 0 : 1);
}

static void
touch_nothing(int who, uint64_t random)
{
    struct sigaction action;
    (void)who;
    (void)random;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = end_well_if_blocked;
    action.sa_flags = SA_SIGINFO;
    sigaddset(&action.sa_mask, SIGUSR1);
    sigaction(SIGSEGV, &action, NULL);
    CHECK(shmring_explain_writes());
    *(volatile uint8_t *)nowhere = 1;
    _exit(2);
}

static void
another_handler_gets_what_is_its_own_as_it_asked_for_it(void)
{
    int status;
    const pid_t child = start_child(touch_nothing, 0, 0);
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
}

const test private_tests[] = {
    TEST(private_memory_shows_the_slots_until_it_is_written_to),
    TEST(private_memory_goes_across_the_wrap_and_into_spare_slots),
    TEST(copied_private_memory_has_nothing_to_do_with_the_slots),
    TEST(private_memory_that_cannot_be_mapped_is_an_error),
    TEST(every_mapping_is_covered_until_it_is_gone),
    TEST(a_mapping_that_moved_is_covered_where_it_is),
    TEST(private_pages_that_are_lost_read_as_zeros_and_are_noted),
    TEST(a_write_to_a_frame_is_explained_and_ends_the_process),
    TEST(another_handler_gets_what_is_its_own_as_it_asked_for_it),
    LAST_TEST,
};
