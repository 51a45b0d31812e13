/* SPDX-License-Identifier: Apache-2.0
 *
 * Where everything is in the block: offsets from sizes.
 */
#ifndef SHMRING_INTERNAL_GEOMETRY_H
#define SHMRING_INTERNAL_GEOMETRY_H

#include "../layout.h"

static inline uint64_t
shmring_round_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

/* Fills in every offset from slots, spares, slot_stride, frame_bytes, meta_bytes, row_bytes, consumers,
 * page_bytes and schema_bytes. SHMRING_TOO_LARGE if they make no valid block. */
static inline int
shmring_compute_offsets(shmring_geometry *g)
{
    if (g->slots < 2 || g->slots > SHMRING_MAX_SLOTS || g->spares > SHMRING_MAX_SLOTS - g->slots ||
        g->consumers < 1 || g->consumers > SHMRING_MAX_CONSUMERS || g->frame_bytes < 1 ||
        g->frame_bytes > SHMRING_MAX_BLOCK || g->slot_stride < g->frame_bytes ||
        g->slot_stride > SHMRING_MAX_BLOCK || g->slot_stride % SHMRING_ALIGN != 0 ||
        g->meta_bytes > SHMRING_MAX_SCHEMA || g->schema_bytes > SHMRING_MAX_SCHEMA ||
        g->row_bytes > g->frame_bytes || g->page_bytes < 4096 || g->page_bytes > SHMRING_MAX_SCHEMA ||
        g->slots > SHMRING_MAX_BLOCK / g->slot_stride || g->slots * g->slot_stride % g->page_bytes != 0)
        return SHMRING_TOO_LARGE;
    g->entry_stride = sizeof(shmring_entry) + shmring_round_up(g->meta_bytes, SHMRING_ALIGN);
    const uint64_t all = g->slots + g->spares;
    if (all > SHMRING_MAX_BLOCK / g->entry_stride || all > SHMRING_MAX_BLOCK / g->slot_stride)
        return SHMRING_TOO_LARGE;
    g->hot_offset = sizeof(shmring_identity);
    g->table_offset = g->hot_offset + sizeof(shmring_hot);
    g->groups_offset = g->table_offset + g->consumers * sizeof(shmring_place);
    g->schema_offset = g->groups_offset + SHMRING_MAX_GROUPS * sizeof(shmring_group);
    g->entries_offset = shmring_round_up(g->schema_offset + g->schema_bytes, SHMRING_HOT_ALIGN);
    g->owners_offset = shmring_round_up(g->entries_offset + all * g->entry_stride, SHMRING_HOT_ALIGN);
    g->slots_offset =
        shmring_round_up(g->owners_offset + all * SHMRING_MAX_GROUPS * sizeof(uint64_t), g->page_bytes);
    g->block_bytes = shmring_round_up(g->slots_offset + all * g->slot_stride, g->page_bytes);
    return g->block_bytes > SHMRING_MAX_BLOCK ? SHMRING_TOO_LARGE : SHMRING_OK;
}

/* Slots and spare slots. */
static inline uint64_t
shmring_all_slots(const shmring_geometry *g)
{
    return g->slots + g->spares;
}

/* The slots are mapped twice, back to back, the spare slots once, behind them: bytes of all that. */
static inline uint64_t
shmring_mapped_bytes(const shmring_geometry *g)
{
    return shmring_round_up((2 * g->slots + g->spares) * g->slot_stride, g->page_bytes);
}

/* Where in that mapping a slot begins, in strides. */
static inline uint64_t
shmring_mapped_index(const shmring_geometry *g, uint64_t slot)
{
    return slot < g->slots ? slot : slot + g->slots;
}

/* The same in bytes. */
static inline uint64_t
shmring_mapped_offset(const shmring_geometry *g, uint64_t slot)
{
    return shmring_mapped_index(g, slot) * g->slot_stride;
}

#endif /* SHMRING_INTERNAL_GEOMETRY_H */
