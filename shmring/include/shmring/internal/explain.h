/* SPDX-License-Identifier: Apache-2.0
 *
 * The handler that says which frame a process wrote to, before it dies of that.
 */
#ifndef SHMRING_INTERNAL_EXPLAIN_H
#define SHMRING_INTERNAL_EXPLAIN_H

#include "cover.h"
#include "entries.h"

#include <ucontext.h>

SHMRING_LINKED_ONCE struct sigaction shmring_sigsegv_before;
SHMRING_LINKED_ONCE int shmring_sigsegv_installed;

/* ---- a line of text, without the C library: a handler may not call it ---- */

typedef struct shmring_line {
    char text[1024];
    size_t length;
} shmring_line;

static inline void
shmring_say(shmring_line *line, const char *text)
{
    for (; *text != 0 && line->length < sizeof line->text - 1; text++)
        line->text[line->length++] = *text;
}

static inline void
shmring_say_number(shmring_line *line, uint64_t number)
{
    char digits[21];
    char *at = digits + sizeof digits - 1;
    *at = 0;
    do
        *--at = (char)('0' + number % 10);
    while ((number /= 10) != 0);
    shmring_say(line, at);
}

static inline void
shmring_say_frame(shmring_line *line, const shmring_block *block, uintptr_t at)
{
    const shmring_geometry *const g = &block->geometry;
    const uint64_t index = (at - (uintptr_t)block->data) / g->slot_stride;
    const uint64_t slot = index < g->slots ? index : index - g->slots;
    if (slot >= shmring_all_slots(g))
        return; /* what a forked child inherited lies elsewhere */
    shmring_say(line, " (seq ");
    shmring_say_number(line, shmring_record_at(block, slot)->seq);
    shmring_say(line, ", slot ");
    shmring_say_number(line, slot);
    shmring_say(line, ")");
}

static inline void
shmring_explain(const shmring_block *block, uintptr_t at)
{
    shmring_line line;
    line.length = 0;
    shmring_say(&line, "shmring: this process wrote to a frame");
    shmring_say_frame(&line, block, at);
    if (block->name != NULL) {
        shmring_say(&line, " of ring '");
        shmring_say(&line, block->name);
        shmring_say(&line, "'");
    }
    shmring_say(&line,
                ", whose memory is read-only here, so SIGSEGV ends it: write to frame.private() or to a "
                "copy of frame.array instead\n");
    (void)!write(STDERR_FILENO, line.text, line.length);
}

/* ---- the handler ---- */

/* Where the access was that the kernel refused; 0 if it was no such access. Handlers that send the signal
 * again, as faulthandler does, leave the address in the context. */
static inline uintptr_t
shmring_refused_access(const siginfo_t *info, const void *context)
{
    if (!shmring_was_sent(info))
        return info->si_code == SEGV_ACCERR ? (uintptr_t)info->si_addr : 0;
#if defined(__x86_64__)
    return (uintptr_t)((const ucontext_t *)context)->uc_mcontext.gregs[REG_CR2];
#elif defined(__aarch64__)
    return (uintptr_t)((const ucontext_t *)context)->uc_mcontext.fault_address;
#else
    (void)context;
    return 0;
#endif
}

/* The block of the slots in which an address lies, NULL if there is none. */
static inline const shmring_block *
shmring_block_of_slots(uintptr_t at)
{
    const unsigned i = shmring_find_covered(at);
    if (i == SHMRING_MAX_COVERED)
        return NULL;
    /* [relaxed: written before the mapping could be touched, and the mapping is there] */
    const shmring_block *const block = shmring_load_relaxed(&shmring_covered_of[i]);
    return at - (uintptr_t)block->control < block->geometry.slots_offset ? NULL : block;
}

SHMRING_LINKED_ONCE void
shmring_on_sigsegv(int number, siginfo_t *info, void *context)
{
    const int saved = errno;
    const uintptr_t at = shmring_refused_access(info, context);
    const shmring_block *const block = at == 0 ? NULL : shmring_block_of_slots(at);
    if (block == NULL) {
        shmring_pass_on(&shmring_sigsegv_before, number, info, context);
    } else {
        shmring_explain(block, at);
        shmring_give_back_signal(&shmring_sigsegv_before, number, info);
    }
    errno = saved;
}

#endif /* SHMRING_INTERNAL_EXPLAIN_H */
