/* SPDX-License-Identifier: Apache-2.0
 *
 * What the header knows, copied out for people: statistics and messages. Nothing decides by it.
 */
#ifndef SHMRING_REPORT_H
#define SHMRING_REPORT_H

#include "os.h"

typedef struct shmring_ring_report {
    uint64_t head;
    uint64_t next_seq;
    uint64_t epoch;
    uint64_t start_time;
    uint64_t dropped;
    uint64_t swaps;
    uint64_t active;
    uint32_t producer_state;
    uint32_t producer_pid;
    char failure[SHMRING_FAILURE_BYTES]; /* empty unless producer_state is FAILED */
} shmring_ring_report;

typedef struct shmring_place_report {
    uint64_t state;
    uint64_t cursor;
    uint64_t delivered;
    uint64_t lost;
    uint64_t skipped;
    uint64_t held;
    uint64_t next;
    uint64_t joined_ns;
    uint64_t start_time;
    uint64_t pins; /* slots with this consumer's bit */
    uint32_t pid;
    uint32_t flags;
    char label[SHMRING_LABEL_BYTES];
} shmring_place_report;

static inline void
shmring_report(const shmring_block *block, shmring_ring_report *report)
{
    const shmring_hot *const hot = block->hot;
    report->head = shmring_load_acquire(&hot->head);                     /* [A1 <- R1] */
    report->next_seq = shmring_load_relaxed(&hot->next_seq);             /* [relaxed: a statistic] */
    report->producer_state = shmring_load_acquire(&hot->producer_state); /* [A8 <- R8] */
    report->epoch = shmring_load_relaxed(&hot->epoch);                   /* [relaxed: a statistic] */
    report->start_time = shmring_load_relaxed(&hot->start_time);         /* [relaxed: A8 made it visible] */
    report->producer_pid = shmring_load_relaxed(&hot->producer_pid);     /* [relaxed: A8 made it visible] */
    report->dropped = shmring_load_relaxed(&hot->dropped);               /* [relaxed: a statistic] */
    report->swaps = shmring_load_relaxed(&hot->swaps);                   /* [relaxed: a statistic] */
    report->active = shmring_load_acquire(&hot->active);                 /* [A10 <- R10] */
    memset(report->failure, 0, sizeof report->failure);
    if (report->producer_state == SHMRING_PRODUCER_FAILED)
        memcpy(report->failure, hot->failure, sizeof report->failure - 1);
}

/* A row of the consumer table; the pins, which lie elsewhere, are 0. */
static inline void
shmring_report_row(const shmring_place *row, shmring_place_report *report)
{
    report->state = shmring_load_acquire(&row->state);         /* [A5 <- R5] */
    report->cursor = shmring_load_relaxed(&row->cursor);       /* [relaxed: a statistic] */
    report->delivered = shmring_load_relaxed(&row->delivered); /* [relaxed: a statistic] */
    report->lost = shmring_load_relaxed(&row->lost);           /* [relaxed: a statistic] */
    report->skipped = shmring_load_relaxed(&row->skipped);     /* [relaxed: a statistic] */
    report->held = shmring_load_relaxed(&row->held);           /* [relaxed: a statistic] */
    report->next = shmring_load_relaxed(&row->next);           /* [relaxed: a statistic] */
    report->flags = shmring_load_relaxed(&row->flags);         /* [relaxed: a statistic] */
    report->joined_ns = row->joined_ns;
    report->start_time = row->start_time;
    report->pid = row->pid;
    memcpy(report->label, row->label, sizeof report->label);
    report->label[sizeof report->label - 1] = 0;
    report->pins = 0;
}

static inline void
shmring_report_place(const shmring_block *block, unsigned place, shmring_place_report *report)
{
    const uint64_t bit = UINT64_C(1) << place;
    shmring_report_row(&block->table[place], report);
    if ((report->state & 0xff) == SHMRING_PLACE_FREE)
        return;
    for (uint64_t slot = 0; slot < block->geometry.slots; slot++) {
        const uint64_t pins =
            shmring_load_relaxed(&shmring_entry_at(block, slot)->pins); /* [relaxed: a statistic] */
        report->pins += (pins & bit) != 0;
    }
}

#endif /* SHMRING_REPORT_H */
