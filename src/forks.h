/* SPDX-License-Identifier: Apache-2.0
 *
 * What a fork must not hand on. A child has a copy of its parent's memory and descriptors, but not its part
 * in the ring: it must neither keep the parent's locks alive nor see slots that the parent gives back. So in
 * the child
 *
 * - every descriptor that may have locks is closed,
 * - private copies of the slots that views may be on, made just before the fork, lie where those slots were;
 *   what else was mapped there cannot be touched any more, and the block is mapped again elsewhere,
 * - private mappings of slots have nothing to do with them any more.
 *
 * The handlers are those of pthread_atfork, so that no other thread runs Python code between the copy and
 * the fork, and a fork in C code is noticed too. Neither vfork nor posix_spawn calls them. Include it once.
 */
#ifndef SHMRING_FORKS_H
#define SHMRING_FORKS_H

#include "shmring/private.h"
#include "shmring/shmring.h"
#include "shmring/truncation.h"

#include <pthread.h>

typedef struct shmring_node {
    struct shmring_node *next;
    struct shmring_node **at; /* what points to this one; NULL: in no list */
} shmring_node;

/* A descriptor for locks. */
typedef struct shmring_own_fd {
    shmring_node node;
    int fd; /* -1: closed, by a fork too */
    dev_t device;
    ino_t file;
} shmring_own_fd;

/* A consumer that may hold frames. */
typedef struct shmring_holder {
    shmring_node node;
    const shmring_consumer *consumer;
} shmring_holder;

/* A private mapping of slots that a consumer holds. */
typedef struct shmring_own_memory {
    shmring_node node;
    shmring_private memory;
} shmring_own_memory;

typedef struct shmring_range {
    size_t offset, bytes;
} shmring_range;

/* What a child finds where its parent's slots were mapped. */
typedef struct shmring_keepsake {
    struct shmring_keepsake *older;
    uint8_t *at;
    size_t bytes;
    uint8_t *copies; /* of the ranges, one after the other */
    size_t copied;
    shmring_range *ranges;
    size_t count;
} shmring_keepsake;

/* A mapped block. */
typedef struct shmring_mapped {
    shmring_node node;
    shmring_block *block;
    uint32_t *claim_views; /* for each slot, how many arrays of claims are on it; NULL until there is one */
    uint64_t claims_viewed;
    int lent;                    /* during a fork: views may be on it */
    shmring_keepsake *keepsake;  /* during a fork; NULL: no memory for it */
    shmring_keepsake *inherited; /* in a child */
} shmring_mapped;

static unsigned long shmring_fork_count; /* a handle belongs to the process that opened it */
static pthread_mutex_t shmring_forks_mutex = PTHREAD_MUTEX_INITIALIZER;
static shmring_node *shmring_all_own_fds, *shmring_all_holders, *shmring_all_mapped, *shmring_all_own_memory;

/* ---- lists ---- */

static inline void
shmring_enlist(shmring_node **list, shmring_node *node)
{
    node->next = *list;
    node->at = list;
    if (node->next != NULL)
        node->next->at = &node->next;
    *list = node;
}

static inline void
shmring_delist(shmring_node *node)
{
    if (node->at == NULL)
        return;
    *node->at = node->next;
    if (node->next != NULL)
        node->next->at = node->at;
    node->at = NULL;
}

static inline void
shmring_register(shmring_node **list, shmring_node *node)
{
    pthread_mutex_lock(&shmring_forks_mutex);
    shmring_enlist(list, node);
    pthread_mutex_unlock(&shmring_forks_mutex);
}

static inline void
shmring_unregister(shmring_node *node)
{
    pthread_mutex_lock(&shmring_forks_mutex);
    shmring_delist(node);
    pthread_mutex_unlock(&shmring_forks_mutex);
}

/* ---- descriptors ---- */

/* Other code may have closed the number (daemons do), and it may be anybody's by now. */
static inline int
shmring_is_of_file(int fd, const shmring_own_fd *own)
{
    struct stat found;
    return fd >= 0 && fstat(fd, &found) == 0 && found.st_dev == own->device && found.st_ino == own->file;
}

static inline void
shmring_close_if_ours(shmring_own_fd *own)
{
    if (shmring_is_of_file(own->fd, own))
        close(own->fd);
    own->fd = -1;
}

/* Opens the file behind fd once more. A fork sees it not at all, or registered. -1 and errno. */
static inline int
shmring_own_open(shmring_own_fd *own, int fd)
{
    struct stat found;
    pthread_mutex_lock(&shmring_forks_mutex);
    own->fd = fstat(fd, &found) == 0 ? shmring_reopen(fd, 1) : -1;
    if (own->fd >= 0) {
        own->device = found.st_dev;
        own->file = found.st_ino;
        shmring_enlist(&shmring_all_own_fds, &own->node);
    }
    pthread_mutex_unlock(&shmring_forks_mutex);
    return own->fd;
}

static inline void
shmring_own_close(shmring_own_fd *own)
{
    pthread_mutex_lock(&shmring_forks_mutex);
    shmring_delist(&own->node);
    shmring_close_if_ours(own);
    pthread_mutex_unlock(&shmring_forks_mutex);
}

/* ---- views ---- */

static inline void
shmring_holder_add(shmring_holder *holder, const shmring_consumer *consumer)
{
    holder->consumer = consumer;
    shmring_register(&shmring_all_holders, &holder->node);
}

/* Before shmring_leave. */
static inline void
shmring_holder_remove(shmring_holder *holder)
{
    shmring_unregister(&holder->node);
}

/* Maps held slots of the file behind `own` once more, privately. A fork sees the mapping not at all, or
 * registered. 0 if the file cannot be opened any more, or the kernel refuses. */
static inline int
shmring_own_memory_map(shmring_own_memory *mine, shmring_block *block, const shmring_own_fd *own,
                       uint64_t slot, size_t bytes)
{
    pthread_mutex_lock(&shmring_forks_mutex);
    const int fd = own->fd < 0 ? -1 : shmring_reopen(own->fd, 0);
    const int done = shmring_is_of_file(fd, own) &&
                     shmring_map_private(&mine->memory, block, fd, slot, bytes) == SHMRING_OK;
    if (fd >= 0)
        close(fd);
    if (done)
        shmring_enlist(&shmring_all_own_memory, &mine->node);
    pthread_mutex_unlock(&shmring_forks_mutex);
    return done;
}

static inline void
shmring_own_memory_unmap(shmring_own_memory *mine)
{
    shmring_unregister(&mine->node);
    shmring_unmap_private(&mine->memory);
}

static inline void
shmring_count_views(shmring_mapped *mapped, uint64_t slot, uint64_t count, uint32_t change)
{
    for (uint64_t i = 0, at = slot; i < count; i++, at = shmring_slot_after(mapped->block, at))
        mapped->claim_views[at] += change;
}

/* Notes an array of a claim. 0 and errno without memory for that. */
static inline int
shmring_add_view(shmring_mapped *mapped, uint64_t slot, uint64_t count)
{
    if (mapped->claim_views == NULL) {
        mapped->claim_views =
            (uint32_t *)calloc(shmring_all_slots(&mapped->block->geometry), sizeof(uint32_t));
        if (mapped->claim_views == NULL)
            return 0;
    }
    mapped->claims_viewed++;
    shmring_count_views(mapped, slot, count, 1u);
    return 1;
}

static inline void
shmring_drop_view(shmring_mapped *mapped, uint64_t slot, uint64_t count)
{
    mapped->claims_viewed--;
    shmring_count_views(mapped, slot, count, UINT32_MAX);
}

/* ---- which slots views may be on ---- */

static inline void
shmring_mark_counted(uint8_t *marks, const shmring_geometry *g, const uint32_t *counts)
{
    for (uint64_t slot = 0; slot < shmring_all_slots(g); slot++)
        if (counts[slot] != 0)
            marks[shmring_mapped_index(g, slot)] = 1;
}

static inline void
shmring_mark_hold(uint8_t *marks, const shmring_consumer *c, const shmring_hold *hold)
{
    for (uint64_t i = 0; hold != NULL && i < hold->count; i++)
        marks[shmring_mapped_index(&c->block->geometry, shmring_held_slot(c, hold, i))] = 1;
}

static inline void
shmring_mark_held(uint8_t *marks, const shmring_consumer *c)
{
    if (c->pinned_slots != 0)
        shmring_mark_counted(marks, &c->block->geometry, c->pin_counts);
    shmring_mark_hold(marks, c, c->older);
    shmring_mark_hold(marks, c, c->newer);
}

static inline int
shmring_holds_of(const shmring_consumer *c, const shmring_block *block)
{
    return c->block == block && c->held != 0;
}

static inline int
shmring_is_lent(const shmring_mapped *mapped)
{
    for (const shmring_node *node = shmring_all_holders; node != NULL; node = node->next)
        if (shmring_holds_of(((const shmring_holder *)node)->consumer, mapped->block))
            return 1;
    return mapped->claims_viewed != 0;
}

static inline void
shmring_mark_lent(uint8_t *marks, const shmring_mapped *mapped)
{
    for (const shmring_node *node = shmring_all_holders; node != NULL; node = node->next)
        if (shmring_holds_of(((const shmring_holder *)node)->consumer, mapped->block))
            shmring_mark_held(marks, ((const shmring_holder *)node)->consumer);
    if (mapped->claims_viewed != 0)
        shmring_mark_counted(marks, &mapped->block->geometry, mapped->claim_views);
}

/* ---- copies ---- */

static inline int
shmring_add_range(shmring_keepsake *keepsake, size_t begin, size_t end)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    begin -= begin % page;
    end += (page - end % page) % page;
    if (keepsake->count != 0) {
        shmring_range *const last = &keepsake->ranges[keepsake->count - 1];
        if (begin <= last->offset + last->bytes) {
            keepsake->copied += end - (last->offset + last->bytes);
            last->bytes = end - last->offset;
            return 1;
        }
    }
    if ((keepsake->count & (keepsake->count - 1)) == 0) { /* 0 or a power of 2: full */
        const size_t room = keepsake->count == 0 ? 1 : 2 * keepsake->count;
        void *const more = realloc(keepsake->ranges, room * sizeof *keepsake->ranges);
        if (more == NULL)
            return 0;
        keepsake->ranges = (shmring_range *)more;
    }
    keepsake->ranges[keepsake->count].offset = begin;
    keepsake->ranges[keepsake->count].bytes = end - begin;
    keepsake->count++;
    keepsake->copied += end - begin;
    return 1;
}

/* The pages of marked slots. The slots are mapped twice, so a run across the wrap continues in the second
 * mapping; the spare slots lie behind that. */
static inline int
shmring_choose_ranges(shmring_keepsake *keepsake, uint8_t *marks, const shmring_geometry *g)
{
    const uint64_t end = 2 * g->slots + g->spares;
    if (marks[g->slots - 1])
        for (uint64_t i = 0; i < g->slots && marks[i]; i++)
            marks[g->slots + i] = 1;
    for (uint64_t first = 0, last; first < end; first = last + 1) {
        const void *const found = memchr(marks + first, 1, end - first);
        if (found == NULL)
            break;
        first = (uint64_t)((const uint8_t *)found - marks);
        for (last = first; last < end && marks[last]; last++)
            ;
        if (!shmring_add_range(keepsake, first * g->slot_stride, last * g->slot_stride))
            return 0;
    }
    return 1;
}

static inline int
shmring_copy_ranges(shmring_keepsake *keepsake)
{
    void *const copies =
        mmap(NULL, keepsake->copied, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copies == MAP_FAILED)
        return 0;
    keepsake->copies = (uint8_t *)copies;
    uint8_t *to = keepsake->copies;
    for (size_t i = 0; i < keepsake->count; i++) {
        memcpy(to, keepsake->at + keepsake->ranges[i].offset, keepsake->ranges[i].bytes);
        to += keepsake->ranges[i].bytes;
    }
    return mprotect(copies, keepsake->copied, PROT_READ) == 0;
}

static inline void
shmring_keepsake_free(shmring_keepsake *keepsake)
{
    if (keepsake == NULL)
        return;
    if (keepsake->copies != NULL)
        munmap(keepsake->copies, keepsake->copied);
    free(keepsake->ranges);
    free(keepsake);
}

/* NULL without memory for it: then the child cannot touch the slots at all. */
static inline shmring_keepsake *
shmring_keepsake_make(const shmring_mapped *mapped)
{
    const shmring_geometry *const g = &mapped->block->geometry;
    shmring_keepsake *const keepsake = (shmring_keepsake *)calloc(1, sizeof *keepsake);
    uint8_t *const marks = (uint8_t *)calloc(2 * g->slots + g->spares, 1);
    int done = keepsake != NULL && marks != NULL;
    if (done) {
        shmring_mark_lent(marks, mapped);
        keepsake->at = mapped->block->data;
        keepsake->bytes = shmring_mapped_bytes(g);
        done = shmring_choose_ranges(keepsake, marks, g) && shmring_copy_ranges(keepsake);
    }
    free(marks);
    if (done)
        return keepsake;
    shmring_keepsake_free(keepsake);
    return NULL;
}

/* ---- mapped blocks ---- */

static inline void
shmring_mapped_add(shmring_mapped *mapped, shmring_block *block)
{
    mapped->block = block;
    shmring_register(&shmring_all_mapped, &mapped->node);
}

/* Before shmring_unmap: nobody has a view any more. */
static inline void
shmring_mapped_remove(shmring_mapped *mapped)
{
    shmring_unregister(&mapped->node);
    free(mapped->claim_views);
    while (mapped->inherited != NULL) {
        shmring_keepsake *const last = mapped->inherited;
        mapped->inherited = last->older;
        shmring_cover_moved(last->at, last->bytes, NULL);
        munmap(last->at, last->bytes);
        free(last);
    }
}

/* Maps the slots a second time, which needs no descriptor. NULL and errno. */
static inline uint8_t *
shmring_map_again(uint8_t *data, const shmring_geometry *g)
{
    const size_t bytes = shmring_mapped_bytes(g);
    const size_t half = g->slots * g->slot_stride;
    void *const place = shmring_reserve_addresses(g->slots_offset, bytes);
    if (place == MAP_FAILED)
        return NULL;
    uint8_t *const first = (uint8_t *)place;
    const int how = MREMAP_MAYMOVE | MREMAP_FIXED;
    if (mremap(data, 0, half, how, first) == MAP_FAILED ||
        mremap(data + half, 0, bytes - half, how, first + half) == MAP_FAILED) {
        munmap(first, bytes);
        return NULL;
    }
    return first;
}

/* In the child: its views get the copies, the block a new mapping. */
static inline void
shmring_part(shmring_mapped *mapped)
{
    shmring_block *const block = mapped->block;
    shmring_keepsake *const keepsake = mapped->keepsake;
    const size_t bytes = shmring_mapped_bytes(&block->geometry);
    uint8_t *const old = block->data;
    block->data = shmring_map_again(old, &block->geometry);
    shmring_cover_moved(old, bytes, block->data);
    if (mmap(old, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) ==
        MAP_FAILED)
        abort(); /* views would show the parent's next frames */
    if (keepsake == NULL)
        return;
    uint8_t *from = keepsake->copies;
    for (size_t i = 0; i < keepsake->count; i++) {
        const shmring_range *const range = &keepsake->ranges[i];
        (void)mremap(from, range->bytes, range->bytes, MREMAP_MAYMOVE | MREMAP_FIXED, old + range->offset);
        from += range->bytes;
    }
    free(keepsake->ranges);
    keepsake->ranges = NULL;
    keepsake->older = mapped->inherited;
    mapped->inherited = keepsake;
    mapped->keepsake = NULL;
    (void)shmring_cover_range(block, old, bytes); /* a write there is explained as one to a frame */
}

/* ---- the handlers ---- */

static void
shmring_before_fork(void)
{
    pthread_mutex_lock(&shmring_forks_mutex);
    for (shmring_node *at = shmring_all_mapped; at != NULL; at = at->next) {
        shmring_mapped *const mapped = (shmring_mapped *)at;
        mapped->lent = shmring_is_lent(mapped);
        if (mapped->lent)
            mapped->keepsake = shmring_keepsake_make(mapped);
    }
    for (shmring_node *at = shmring_all_own_memory; at != NULL; at = at->next)
        shmring_copy_private(&((shmring_own_memory *)at)->memory);
}

static void
shmring_after_fork_in_parent(void)
{
    for (shmring_node *at = shmring_all_mapped; at != NULL; at = at->next) {
        shmring_mapped *const mapped = (shmring_mapped *)at;
        shmring_keepsake_free(mapped->keepsake);
        mapped->keepsake = NULL;
    }
    pthread_mutex_unlock(&shmring_forks_mutex);
}

static void
shmring_after_fork_in_child(void)
{
    shmring_fork_count++;
    while (shmring_all_own_fds != NULL) {
        shmring_own_fd *const own = (shmring_own_fd *)shmring_all_own_fds;
        shmring_delist(&own->node);
        shmring_close_if_ours(own);
    }
    while (shmring_all_holders != NULL)
        shmring_delist(shmring_all_holders);
    for (shmring_node *at = shmring_all_mapped; at != NULL; at = at->next) {
        shmring_mapped *const mapped = (shmring_mapped *)at;
        if (mapped->lent)
            shmring_part(mapped);
        mapped->claims_viewed = 0;
    }
    pthread_mutex_unlock(&shmring_forks_mutex);
}

/* Once for a process. An error number, or 0. */
static inline int
shmring_watch_forks(void)
{
    return pthread_atfork(shmring_before_fork, shmring_after_fork_in_parent, shmring_after_fork_in_child);
}

#endif /* SHMRING_FORKS_H */
